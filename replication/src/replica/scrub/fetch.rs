//! The bytes of files that are missing in the replica tree, had from the master.
//!
//! They are written beside the tree, in the kept area; apply renames the whole into its place (`apply::again`). A file is
//! had only if the master's index says of every stretch that what the master has there now is what was captured: not that it
//! does not know, and not while a gap is open. The bytes are asked for some blocks at a time and have to be those that the
//! index was asked about: their hashes say so.
//!
//! *Captured when?* The index may be ahead of the replica. So a barrier comes behind the last byte, and from the barrier before
//! the first byte up to the very moment in which the file gets its name no capture may be about the node ([`Watch`]). Then
//! what was captured is the same at all these moments, and is what the tables of the replica speak of.

use super::look::{Differs, read_for};
use super::{BLOCK, Scrub, ScrubError, ScrubHost, Side, Suspect};
use crate::apply::{again_name, clear, is_again};
use crate::capture::block_hash;
use crate::chain::chain;
use journal::journal::Journal;
use journal::log::RecordAt;
use journal::state::{NodeRow, State};
use journal::view::Locator;
use journal::{Edge, Event, JournalError, Lsn, Name, NodeId, RootNo, TreeFile, TreeIo};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use wire::stream::{CapturedAs, ExamineItem, Found, SCRUB_READ_BLOCKS_MAX, There};

/// Bytes of a hash.
const HASH_BYTES: usize = 16;

/// What captures were about since a moment, of some nodes.
#[derive(Clone, Debug, Default)]
pub(super) struct Watch {
    from: RecordAt,
    upto: Lsn,
    nodes: HashSet<NodeId>,
    touched: HashSet<NodeId>,
}

impl Watch {
    /// From an LSN on, which is read from this place in the redo stream.
    pub fn new((from, upto): (RecordAt, Lsn)) -> Self {
        Watch { from, upto, ..Watch::default() }
    }

    /// Looks at what was applied meanwhile.
    ///
    /// # Errors
    /// As the journal.
    pub fn advance(&mut self, journal: &Journal) -> Result<(), JournalError> {
        // In this order: the cursor is never in front of what is applied.
        let next = journal.cursor_redo();
        let upto = Lsn::captured(journal.applied().captured);
        for placed in journal.captured(self.from, self.upto, upto) {
            let placed = placed?;
            let nodes = placed.capture.events.iter().filter_map(node_of);
            self.touched.extend(nodes.filter(|node| self.nodes.contains(node)));
        }
        (self.from, self.upto) = (next, upto);
        Ok(())
    }

    pub fn is_touched(&self, node: NodeId) -> bool {
        self.touched.contains(&node)
    }
}

fn node_of(event: &Event) -> Option<NodeId> {
    match event {
        Event::Create { node, .. }
        | Event::Link { node, .. }
        | Event::Remove { node, .. }
        | Event::Rename { node, .. }
        | Event::Write { node, .. }
        | Event::Punch { node, .. }
        | Event::Resize { node, .. }
        | Event::SetAttributes { node, .. }
        | Event::SetXattrs { node, .. } => Some(*node),
        Event::Mark(_) => None,
    }
}

/// A file beside the tree. It goes if it was not given a name by then.
struct Beside<T: TreeIo> {
    tree: Arc<T>,
    kept: T::Dir,
    name: Name,
}

impl<T: TreeIo> Drop for Beside<T> {
    fn drop(&mut self) {
        if let Err(error) = clear(&*self.tree, &self.kept, &self.name) {
            tracing::warn!(%error, "a file that was not needed stays in the kept area until the next repair");
        }
    }
}

/// Files that were had.
pub(super) struct Fetched<T: TreeIo> {
    files: HashMap<NodeId, Beside<T>>,
    watch: Watch,
}

impl<T: TreeIo> Fetched<T> {
    pub fn none() -> Self {
        Fetched { files: HashMap::new(), watch: Watch::default() }
    }

    /// What to look at before the bytes of a node are used; `None`: they are not here.
    pub fn watch(&self, node: NodeId) -> Option<Watch> {
        self.files.contains_key(&node).then(|| self.watch.clone())
    }
}

impl<T: TreeIo, H: ScrubHost> Scrub<'_, T, H> {
    /// Has the bytes of those that are missing and can be had.
    pub(super) fn fetch_all(&mut self, wrong: &[(Suspect, Differs)]) -> Result<Fetched<T>, ScrubError> {
        let mut fetched = Fetched { files: HashMap::new(), watch: Watch::new(self.since) };
        for (suspect, differs) in wrong {
            let missing = matches!(differs.what, "missing" | "kind") && differs.side == Side::Replica;
            let Some(node) = suspect.node.filter(|_| missing && suspect.first == 0) else { continue };
            if fetched.files.contains_key(&node) || !self.no_gap() || !self.can_be_moved(&suspect.edge)? {
                continue;
            }
            fetched.watch.nodes.insert(node);
            if let Some(file) = self.fetch(suspect, node, &mut fetched.watch)? {
                fetched.files.insert(node, file);
            }
        }
        if !fetched.files.is_empty() {
            let behind = self.host.barrier()?;
            self.wait_applied(behind)?;
            fetched.watch.advance(&self.replica.journal)?;
        }
        Ok(fetched)
    }

    /// Nothing may have been missed by capture.
    pub(super) fn no_gap(&self) -> bool {
        self.replica.journal.with_controls(|controls| controls.gaps.is_empty())
    }

    /// Takes away what daemons that ended have left.
    pub(super) fn clear_kept(&self) -> Result<(), ScrubError> {
        let tree = &self.replica.tree;
        for root in (0..self.options.roots).map(RootNo) {
            let cleared = tree.kept(root).and_then(|kept| {
                let names = tree.list(&kept)?;
                names.iter().filter(|name| is_again(name)).try_for_each(|name| clear(&**tree, &kept, name))
            });
            cleared.map_err(|source| JournalError::Tree {
                operation: "clear",
                object: format!("the kept area of root {}", root.0),
                source,
            })?;
        }
        Ok(())
    }

    fn fetch(
        &mut self,
        suspect: &Suspect,
        node: NodeId,
        watch: &mut Watch,
    ) -> Result<Option<Beside<T>>, ScrubError> {
        let Some(row) = State::node(&**self.replica.journal.tables(), node)? else { return Ok(None) };
        if !row.meta.kind.is_file()
            || row.meta.size == 0
            || self.stands_elsewhere(&suspect.edge, node, &row)?
        {
            return Ok(None);
        }
        let tree = Arc::clone(&self.replica.tree);
        let Some(name) = again_name(node) else { return Ok(None) };
        let made = tree.kept(suspect.root).and_then(|kept| {
            clear(&*tree, &kept, &name)?;
            Ok((tree.create_file(&kept, &name)?, kept))
        });
        let (file, kept) = match made {
            Ok(made) => made,
            Err(error) => return self.not_had(suspect, &chain(&error)),
        };
        let beside = Beside { tree, kept, name };
        match self.fill(suspect, node, &row, &file, watch)? {
            None => Ok(Some(beside)),
            Some(why) => self.not_had(suspect, &why),
        }
    }

    fn not_had(&self, suspect: &Suspect, why: &str) -> Result<Option<Beside<T>>, ScrubError> {
        let path = String::from_utf8_lossy(&suspect.path).into_owned();
        tracing::warn!(path, why, "a file that is missing on the replica was not had from the master");
        Ok(None)
    }

    /// Whether a further name of the file is all that it needs.
    fn stands_elsewhere(&self, edge: &Edge, node: NodeId, row: &NodeRow) -> Result<bool, ScrubError> {
        let (tables, tree) = (Arc::clone(self.replica.journal.tables()), Arc::clone(&self.replica.tree));
        let links = State::links(&*tables, node)?;
        let locator = Locator::new(tables, tree).settling(Duration::ZERO);
        for link in links.iter().filter(|link| *link != edge) {
            if locator.open_at(link, row.inode)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Writes all bytes of a file; why not.
    fn fill(
        &mut self,
        suspect: &Suspect,
        node: NodeId,
        row: &NodeRow,
        file: &T::File,
        watch: &mut Watch,
    ) -> Result<Option<String>, ScrubError> {
        let (size, mut first) = (row.meta.size, 0);
        let all = size.div_ceil(BLOCK);
        while first < all {
            let blocks = (all - first).min(u64::from(self.blocks_at_once())) as u32;
            let path = suspect.path.clone();
            let item = ExamineItem { path, node, first, blocks, captured: true, bytes: false };
            let examined = self.examine_one(suspect.root, item)?;
            self.rest(read_for(&examined))?;
            let Found::There(there) = examined.found else {
                return Ok(Some("the master cannot read it now".to_owned()));
            };
            let same = there.meta.kind.is_file()
                && there.meta.size == size
                && there.hashes.len() as u64 == u64::from(blocks) * HASH_BYTES as u64;
            if examined.captured != CapturedAs::Same || !same {
                return Ok(Some("the master does not say that it has what was captured".to_owned()));
            }
            if let Some(why) = self.copy(suspect, node, (first, size), &there, file)? {
                return Ok(Some(why));
            }
            // Redo that was looked at may go.
            watch.advance(&self.replica.journal)?;
            if watch.is_touched(node) {
                return Ok(Some("it is being changed".to_owned()));
            }
            first += u64::from(blocks);
        }
        Ok(file.set_len(size).err().map(|error| chain(&error)))
    }

    /// Writes the blocks of a stretch that are no holes.
    fn copy(
        &mut self,
        suspect: &Suspect,
        node: NodeId,
        (first, size): (u64, u64),
        there: &There,
        file: &T::File,
    ) -> Result<Option<String>, ScrubError> {
        let hashes: Vec<&[u8]> = there.hashes.chunks(HASH_BYTES).collect();
        let is_hole = |hash: &[u8]| hash.iter().all(|byte| *byte == 0);
        let mut at = 0;
        while let Some(rest) = hashes.get(at..).filter(|rest| !rest.is_empty()) {
            let run =
                rest.iter().take(SCRUB_READ_BLOCKS_MAX as usize).take_while(|hash| !is_hole(hash)).count();
            if run == 0 {
                at += 1;
                continue;
            }
            let free = self.replica.tree.free_bytes(suspect.root).unwrap_or(0);
            if free < self.replica.options.free_bytes_min.saturating_add(run as u64 * BLOCK) {
                return Ok(Some("there is too little room".to_owned()));
            }
            let (begin, path) = (first + at as u64, suspect.path.clone());
            let (blocks, captured) = (run as u32, false);
            let item = ExamineItem { path, node, first: begin, blocks, captured, bytes: true };
            let examined = self.examine_one(suspect.root, item)?;
            self.rest(2 * read_for(&examined))?;
            let Found::There(got) = examined.found else {
                return Ok(Some("the master cannot read it now".to_owned()));
            };
            let offset = begin * BLOCK;
            let length = (run as u64 * BLOCK).min(size.saturating_sub(offset));
            let right = got.bytes.chunks(BLOCK as usize).map(block_hash);
            if got.bytes.len() as u64 != length || !right.eq(rest.iter().take(run).map(|hash| to_hash(hash)))
            {
                return Ok(Some("the master gave other bytes, or none: it may be older".to_owned()));
            }
            if let Err(error) = file.write_at(&got.bytes, offset) {
                return Ok(Some(chain(&error)));
            }
            at += run;
        }
        Ok(None)
    }
}

/// Sixteen bytes; zeros if it has another length, which no hash of bytes that were asked for is.
fn to_hash(bytes: &[u8]) -> [u8; HASH_BYTES] {
    bytes.try_into().unwrap_or_default()
}
