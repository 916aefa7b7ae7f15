//! One name on both sides, compared.

use super::{BLOCK, Scrub, ScrubError, ScrubHost, Side, mixed_up};
use crate::capture::block_hash;
use crate::replica::{LeasedView, patrol};
use journal::digest::xattrs_hash;
use journal::state::State;
use journal::view::Locator;
use journal::{Edge, Kind, Lsn, Meta, Name, NodeId, RootNo, SkippedWhat, TreeIo};
use std::sync::Arc;
use std::time::Duration;
use wire::stream::{
    CapturedAs, ExamineItem, Examined, Found, SCRUB_BLOCKS_MAX, ScrubAnswer, ScrubAsk, There,
};

/// What differs, whose fault it is, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Differs {
    pub what: &'static str,
    pub side: Side,
    pub offset: Option<u64>,
}

fn differs(what: &'static str, side: Side) -> Option<Differs> {
    Some(Differs { what, side, offset: None })
}

/// What the replica has of a name.
#[derive(Clone, Debug)]
pub(super) struct Ours {
    pub meta: Meta,
    /// What is wrong with it in the tree, if anything.
    pub wrong: Option<&'static str>,
    /// Something looked wrong, and apply was at work all the while: it has to be looked at again.
    pub unsure: bool,
    pub hashes: Result<Vec<u8>, &'static str>,
}

/// Whether the master has what was captured, bytes aside.
pub(super) fn compare_meta(ours: &Meta, theirs: &There) -> Option<&'static str> {
    let (a, b) = (&ours.attributes, &theirs.meta.attributes);
    match (&ours.kind, &theirs.meta.kind) {
        (Kind::Symlink(a), Kind::Symlink(b)) if a != b => return Some("target"),
        (a, b) if a != b => return Some("kind"),
        _ => {}
    }
    if ours.kind.is_file() && ours.size != theirs.meta.size {
        return Some("size");
    }
    if a.mode != b.mode && !matches!(ours.kind, Kind::Symlink(_)) {
        return Some("mode");
    }
    if (a.uid, a.gid) != (b.uid, b.gid) {
        return Some("owner");
    }
    if a.mtime != b.mtime {
        return Some("mtime");
    }
    theirs.xattrs.is_some_and(|hash| hash != xattrs_hash(&ours.xattrs)).then_some("xattrs")
}

/// Bytes that the master read for an answer; holes cost nothing.
pub(super) fn read_for(examined: &Examined) -> u64 {
    let Found::There(there) = &examined.found else { return 0 };
    let blocks = there.hashes.chunks(16).filter(|hash| hash.iter().any(|byte| *byte != 0)).count();
    (blocks as u64).saturating_mul(BLOCK)
}

/// Number of the first block whose hashes differ.
fn first_differing(a: &[u8], b: &[u8]) -> Option<u64> {
    let mut pairs = a.chunks(16).zip(b.chunks(16));
    let at = pairs.position(|(a, b)| a != b);
    let longer = a.len() != b.len();
    at.or_else(|| longer.then_some(a.len().min(b.len()) / 16)).map(|block| block as u64)
}

impl<T: TreeIo, H: ScrubHost> Scrub<'_, T, H> {
    /// Blocks of a file from one on that one question may cover.
    pub(super) fn blocks_at_once(&self) -> u32 {
        let blocks = self.bytes_at_once() / BLOCK;
        blocks.clamp(1, SCRUB_BLOCKS_MAX) as u32
    }

    pub(super) fn examine(&self, root: RootNo, items: Vec<ExamineItem>) -> Result<Vec<Examined>, ScrubError> {
        let (asked, bytes_max) = (items.len(), self.bytes_at_once());
        match self.host.ask(ScrubAsk::Examine { root, items, bytes_max })? {
            ScrubAnswer::Examined(list) if !list.is_empty() && list.len() <= asked => Ok(list),
            _ => Err(mixed_up()),
        }
    }

    pub(super) fn examine_one(&self, root: RootNo, item: ExamineItem) -> Result<Examined, ScrubError> {
        self.examine(root, vec![item])?.pop().ok_or_else(mixed_up)
    }

    /// A point that is applied, held for as long as it is read.
    pub(super) fn view(&self, lsn: Lsn) -> Result<LeasedView<T>, ScrubError> {
        Ok(self.replica.view(lsn)?)
    }

    /// What the replica has at a name: as the view says, as its tree is, and the hashes of some blocks.
    pub(super) fn ours(
        &self,
        view: &LeasedView<T>,
        edge: &Edge,
        node: NodeId,
        (first, blocks): (u64, u32),
    ) -> Result<Option<Ours>, ScrubError> {
        let Some(meta) = view.meta(node)? else { return Ok(None) };
        let mut ours = Ours { meta, wrong: None, unsure: false, hashes: Ok(Vec::new()) };
        match self.wrong(edge, node)? {
            Some(wrong) => ours.wrong = wrong,
            None => ours.unsure = true,
        }
        if ours.meta.kind.is_file() && blocks > 0 && !matches!(ours.wrong, Some("missing" | "kind")) {
            ours.hashes = self.hashes(view, node, first, blocks);
        }
        Ok(Some(ours))
    }

    /// What is wrong with a name in the replica tree: it has to be what its present row says. Looked at again while
    /// apply stands still, for a moment and without reading any bytes. The outer `None`: it did not stand still.
    fn wrong(&self, edge: &Edge, node: NodeId) -> Result<Option<Option<&'static str>>, ScrubError> {
        let first = self.wrong_now(edge, node, false)?;
        if first.is_none() {
            return Ok(Some(None));
        }
        let again =
            self.replica.while_still(|still| self.wrong_now(edge, node, still.degraded.contains_key(&node)));
        again.transpose()
    }

    pub(super) fn wrong_now(
        &self,
        edge: &Edge,
        node: NodeId,
        degraded: bool,
    ) -> Result<Option<&'static str>, ScrubError> {
        let tables = self.replica.journal.tables();
        let tree = &self.replica.tree;
        let locator = Locator::new(Arc::clone(tables), Arc::clone(tree)).settling(Duration::ZERO);
        let is_root = node.as_root_or_kept().is_some();
        if !is_root && State::name(&**tables, edge)? != Some(node) {
            return Ok(None);
        }
        let Some(row) = State::node(&**tables, node)? else { return Ok(None) };
        // A root has no name, and its own attributes are not compared: they may be an operator's.
        if is_root {
            return Ok(None);
        }
        let Some(directory) = locator.directory(edge.parent)? else { return Ok(None) };
        let failed = |source| journal::JournalError::Tree {
            operation: "stat",
            object: String::from_utf8_lossy(edge.name.as_bytes()).into_owned(),
            source,
        };
        let Some(stat) = tree.stat(&directory, &edge.name).map_err(failed)? else {
            return Ok(Some("missing"));
        };
        let what = match patrol::compare(&row, &stat, self.privileged, degraded) {
            None => None,
            Some(_) if row.inode != 0 && row.inode != stat.inode => Some("kind"),
            Some(_) if row.meta.kind != stat.kind => Some("kind"),
            Some(_) if row.meta.kind.is_file() && row.meta.size != stat.size => Some("size"),
            Some(_) if row.meta.attributes.mtime != stat.attributes.mtime => Some("mtime"),
            Some(_) if row.meta.attributes.mode != stat.attributes.mode => Some("mode"),
            Some(_) => Some("owner"),
        };
        if what.is_some() || degraded {
            return Ok(what);
        }
        let set = tree.xattrs(&directory, &edge.name, &row.meta.kind).ok();
        Ok(set.is_some_and(|set| xattrs_hash(&set) != xattrs_hash(&row.meta.xattrs)).then_some("xattrs"))
    }

    /// Hashes of blocks of a file of the view.
    fn hashes(
        &self,
        view: &LeasedView<T>,
        node: NodeId,
        first: u64,
        blocks: u32,
    ) -> Result<Vec<u8>, &'static str> {
        let Ok(mut file) = view.open(node) else { return Err("missing") };
        let size = file.size();
        let start = first.saturating_mul(BLOCK).min(size);
        let end = start.saturating_add(u64::from(blocks) * BLOCK).min(size);
        let mut hashes = Vec::new();
        let mut buffer = vec![0; BLOCK as usize];
        // The stretch of data found last.
        let mut data = 0..0;
        let mut at = start;
        while at < end {
            let to = (at + BLOCK).min(end);
            if data.end <= at {
                data = match file.next_data(at) {
                    Ok(found) => found.unwrap_or(u64::MAX..u64::MAX),
                    Err(_) => return Err("bytes"),
                };
            }
            if data.start >= to {
                hashes.extend_from_slice(&[0; 16]);
            } else {
                let Some(bytes) = buffer.get_mut(..(to - at) as usize) else { break };
                if file.read_at(bytes, at).is_err() {
                    return Err("bytes");
                }
                hashes.extend_from_slice(&block_hash(bytes));
            }
            at = to;
        }
        Ok(hashes)
    }

    /// Compares what both sides have of a name: a file from this block on, and only what capture could keep.
    pub(super) fn compare(
        &self,
        ours: &Ours,
        theirs: &Examined,
        first: u64,
        skipped: Option<SkippedWhat>,
    ) -> Option<Differs> {
        let there = match &theirs.found {
            Found::There(there) => there,
            Found::Gone => return differs("missing", Side::Master),
            // Not to be compared: whoever asks looks at these first.
            Found::Moving | Found::LeftOut | Found::Unreadable(_) => return None,
        };
        let wrong = ours.wrong.and_then(|what| differs(what, Side::Replica));
        let missed = compare_meta(&ours.meta, there)
            .filter(|what| *what != "xattrs" || skipped != Some(SkippedWhat::Xattrs))
            .and_then(|what| differs(what, Side::Master));
        // What stands in the way of comparing bytes comes first, then the bytes, then the rest.
        if let Some(Differs { what: "missing" | "kind", .. }) = wrong {
            return wrong;
        }
        if let Some(Differs { what: "kind" | "target" | "size", .. }) = missed {
            return missed;
        }
        let hashes = match &ours.hashes {
            Ok(hashes) => hashes,
            Err(what) => return differs(what, Side::Replica),
        };
        let Some(block) = first_differing(hashes, &there.hashes) else { return wrong.or(missed) };
        let side = match theirs.captured {
            CapturedAs::Same => Side::Replica,
            CapturedAs::Other => Side::Master,
            CapturedAs::Untouched => Side::Rot,
            CapturedAs::Unknown => Side::Unknown,
        };
        Some(Differs { what: "bytes", side, offset: Some((first + block).saturating_mul(BLOCK)) })
    }
}

/// A path below a root, one name longer.
pub(super) fn child(path: &[u8], name: &Name) -> Vec<u8> {
    if path.is_empty() { name.as_bytes().to_vec() } else { [path, name.as_bytes()].join(&b'/') }
}
