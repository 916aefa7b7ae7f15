//! From decisions about objects to changes of a tree.
//!
//! The same code plans and does: without a sink, changes are told and counted; with one they are carried out. Ids of new
//! nodes are local ones, as a rewind mints them. A directory gets its metadata when all in it was told.

mod objects;

use super::Onto;
use super::filler::{Change, FETCH_BYTES_MAX, Filler, Lost, Piece, Sink};
use super::standing::name;
use crate::session::decide::{Action, HALF_MADE_MODE, HALF_MADE_TIME};
use crate::session::error::journal;
use crate::session::links::Links;
use crate::session::meta::Meta as Wanted;
use crate::session::plan::{EachPlanned, Planned, Totals, in_the_way};
use crate::session::receipt::{LISTED_MAX, Listed, Receipt};
use crate::session::walk::{Result, Step};
use crate::session::{Monitor, Owner, Progress};
use journal::state::{PointKind, State};
use journal::view::{Difference, Places, View};
use journal::{Attributes, Edge, Event, Kind, Meta, NodeId, Timestamp, TreeIo, Xattrs};
use snapshot::repository::{BlobKind, Id, Node, NodeKind};
use snapshot::session::node::kind;
use std::collections::HashSet;

const CAPABILITY: &[u8] = b"security.capability";
/// A file of more comes in several captures, or may.
const WHOLE_BYTES_MAX: u64 = 1 << 20;
const WHOLE_PIECES_MAX: usize = 1000;
const CONFLICTS_MAX: usize = 20;
const REMOVALS_MAX: usize = 20;

/// Which files the journal knows to be as they were when the session was made.
pub(super) struct Known<'v, T: TreeIo> {
    /// Of nodes whose inode is an id of this journal.
    pub device: u64,
    /// Between the tree and the point of the session.
    pub difference: Difference<'v, T>,
}

impl<T: TreeIo> Known<'_, T> {
    /// Whether a node of the session is this one, and its bytes were not touched since.
    pub fn is_untouched(&self, there: NodeId, node: &Node) -> bool {
        node.device_id == self.device && node.inode == there.0 && !self.difference.may_differ(there)
    }
}

/// Decides on events for every object of a walk.
pub(super) struct Changer<'c, 'e, T: TreeIo> {
    onto: &'c Onto<'c>,
    view: &'c View<T>,
    known: Option<&'c Known<'c, T>>,
    places: Places<'c, T>,
    monitor: &'c dyn Monitor,
    each: &'c mut EachPlanned<'e>,
    /// `None` while planning.
    doing: Option<(&'c mut dyn Sink, Filler<'c>)>,
    links: Links<NodeId>,
    /// Nodes of several names that stand for a file of the session already.
    used: HashSet<NodeId>,
    /// New nodes that could not be made.
    lost: HashSet<NodeId>,
    objects: u64,
    /// Of the object under way.
    path: Vec<u8>,
    /// Paths whose bytes were written, as hashes.
    written: HashSet<u64>,
    totals: Totals,
    /// Whether the object under way comes out under another name.
    renamed: bool,
    /// Files that were read to their end and are as the session has them.
    pub alike: u64,
    pub receipt: Receipt,
    /// Whether anything differed.
    pub changed: bool,
}

impl<'c, 'e, T: TreeIo> Changer<'c, 'e, T> {
    /// One that only tells.
    pub fn planning(
        onto: &'c Onto<'c>,
        (view, known): (&'c View<T>, Option<&'c Known<'c, T>>),
        monitor: &'c dyn Monitor,
        each: &'c mut EachPlanned<'e>,
    ) -> Self {
        Self {
            onto,
            view,
            known,
            places: Places::new(view),
            monitor,
            each,
            doing: None,
            links: Links::new(),
            used: HashSet::new(),
            lost: HashSet::new(),
            objects: 0,
            path: Vec::new(),
            written: HashSet::new(),
            totals: Totals::default(),
            renamed: false,
            alike: 0,
            receipt: Receipt::default(),
            changed: false,
        }
    }

    /// One that has a sink make the changes.
    pub fn doing(
        onto: &'c Onto<'c>,
        tree: (&'c View<T>, Option<&'c Known<'c, T>>),
        monitor: &'c dyn Monitor,
        each: &'c mut EachPlanned<'e>,
        sink: &'c mut dyn Sink,
    ) -> Self {
        let how = (onto.options.threads, onto.options.sparse);
        let filler = Filler::new(onto.repository, monitor, how, onto.entity.len());
        Self { doing: Some((sink, filler)), ..Self::planning(onto, tree, monitor, each) }
    }

    /// Paths whose bytes were written, as [`path_key`] has them.
    pub fn take_written(&mut self) -> HashSet<u64> {
        std::mem::take(&mut self.written)
    }

    pub fn into_totals(self) -> Totals {
        self.totals
    }

    /// Writes what waits and makes it come true.
    pub fn finish(&mut self) -> Result<()> {
        self.write()?;
        match &mut self.doing {
            Some((sink, filler)) => {
                self.receipt.bytes_written = filler.written;
                sink.flush()
            }
            None => Ok(()),
        }
    }

    fn write(&mut self) -> Result<()> {
        let Some((sink, filler)) = &mut self.doing else { return Ok(()) };
        for Lost { node, path, reason } in filler.write(&mut **sink)? {
            self.lost.insert(node);
            self.receipt.files = self.receipt.files.saturating_sub(1);
            self.receipt.fail(Listed { path, what: "content", reason, errno: None });
        }
        Ok(())
    }

    fn push(&mut self, change: Change) -> Result<()> {
        self.changed = true;
        let full = match &mut self.doing {
            Some((_, filler)) => filler.push(change),
            None => false,
        };
        if full { self.write() } else { Ok(()) }
    }

    fn tell(&mut self, kind: PointKind, path: &[u8], bytes: u64) {
        (self.each)(Planned { kind, path: path.to_vec(), bytes });
    }

    fn progress(&self) {
        let (files, bytes) = (self.receipt.files + self.receipt.others, self.receipt.bytes);
        self.monitor.progress(Progress { files, bytes, ..Progress::default() });
    }

    /// An id that nothing uses, as a replica mints them.
    fn mint(&self) -> Result<NodeId> {
        use std::hash::{BuildHasher, RandomState};
        loop {
            // Every state of the standard hasher is keyed at random.
            let id = NodeId(RandomState::new().hash_one(self.objects) | 1 << 63);
            let used = State::node(&**self.view.tables(), id).map_err(journal("look for an unused id"))?;
            if used.is_none() {
                return Ok(id);
            }
        }
    }

    /// Counts what is decided; whether anything is to be made.
    fn admit(&mut self, step: &Step<'_, NodeId>) -> bool {
        self.renamed = step.action == Action::Rename || !step.path.ends_with(&step.name);
        match step.action {
            Action::Make | Action::Merge { .. } | Action::Whole => {}
            Action::Replace | Action::ReplaceDirectory => self.totals.replaced += 1,
            Action::Rename => {
                self.totals.renamed += 1;
                self.receipt.renamed += 1;
            }
            Action::Skip => {
                self.totals.skipped += 1;
                self.receipt.skipped += 1;
            }
            Action::Conflict => {
                self.totals.conflicts += 1;
                if self.totals.first_conflicts.len() < CONFLICTS_MAX {
                    self.totals.first_conflicts.push(step.path.to_vec());
                }
            }
            Action::InTheWay => self.fail(in_the_way(step.path)),
        }
        !matches!(step.action, Action::Skip | Action::Conflict | Action::InTheWay)
    }

    fn fail(&mut self, listed: Listed) {
        self.totals.failed += 1;
        if self.totals.failures.len() < LISTED_MAX {
            self.totals.failures.push(listed.clone());
        }
        self.receipt.fail(listed);
    }

    /// The edge of a step, and what stands there.
    fn place(&self, step: &Step<'_, NodeId>) -> Result<Option<(Edge, Option<NodeId>)>> {
        let (Some(dir), Ok(name)) = (step.dir, name(&step.name)) else { return Ok(None) };
        let edge = Edge::new(*dir, name);
        let there = self.view.lookup(&edge).map_err(journal("look up a name"))?;
        Ok(Some((edge, there)))
    }

    /// Owner, permissions and times as they are wanted.
    fn attributes(&self, wanted: &Wanted, now: Option<&Attributes>) -> Attributes {
        let mtime = nanoseconds(wanted.modified);
        let mut attributes = Attributes {
            mode: wanted.mode & 0o7777,
            uid: wanted.uid,
            gid: wanted.gid,
            mtime,
            ctime: now.map_or(mtime, |now| now.ctime),
        };
        if self.onto.options.owner == Owner::Ignore {
            let ours = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
            let (uid, gid) = now.map_or(ours, |now| (now.uid, now.gid));
            // No program shall run as somebody it was not given to.
            let withheld = if wanted.kind == NodeKind::File { 0o6000 } else { 0 };
            attributes = Attributes { uid, gid, mode: attributes.mode & !withheld, ..attributes };
        }
        attributes
    }

    /// Events that give a node its metadata, if it differs or its bytes were written.
    fn metadata(&self, node: NodeId, wanted: &Wanted, now: &Meta, written: bool) -> Vec<Event> {
        let attributes = self.attributes(wanted, Some(&now.attributes));
        let xattrs = xattrs(wanted);
        let differ = xattrs != now.xattrs;
        let set = differ || attributes != now.attributes || written;
        let mut events = Vec::new();
        // Writing to a file takes its capabilities away.
        if differ || written && xattrs.iter().any(|(name, _)| name == CAPABILITY) {
            events.push(Event::SetXattrs { node, xattrs });
        }
        if set {
            events.push(Event::SetAttributes { node, attributes });
        }
        events
    }

    /// A node made anew, in the place of what stands there.
    fn make(&mut self, place: (Edge, Option<NodeId>), wanted: &Wanted, node: &Node) -> Result<NodeId> {
        let (at, there) = place;
        let new = self.mint()?;
        // What nobody knows was refused as unfit.
        let kind = kind(node).unwrap_or(Kind::File);
        let (attributes, xattrs) = (self.attributes(wanted, None), xattrs(wanted));
        let capable = xattrs.iter().any(|(name, _)| name == CAPABILITY);
        let pieces = self.pieces(node);
        let names_first = self.doing.as_ref().is_none_or(|(sink, _)| sink.names_first());
        // One that does not fit into a capture says so until its last byte is there.
        let in_parts = names_first && (node.size > WHOLE_BYTES_MAX || pieces.len() > WHOLE_PIECES_MAX);
        let first = if in_parts { half_made(&attributes) } else { attributes };
        let meta = Meta { kind, size: 0, attributes: first, xattrs: xattrs.clone() };
        let mut names = Vec::new();
        names.extend(there.map(|node| Event::Remove { node, at: at.clone(), parent_mtime: None }));
        names.push(Event::Create { node: new, at, meta, origin: None, parent_mtime: None });
        let (mut before, mut after) = (Vec::new(), Vec::new());
        let resize = (node.size > 0 && node.kind == NodeKind::File)
            .then_some(Event::Resize { node: new, size: node.size });
        if names_first {
            before.extend(names.into_iter().chain(resize));
            if capable && !pieces.is_empty() {
                after.push(Event::SetXattrs { node: new, xattrs });
            }
            after.extend(in_parts.then_some(Event::SetAttributes { node: new, attributes }));
        } else {
            before.extend(resize);
            after.extend(names);
        }
        self.file(new, (pieces, true), before, after)?;
        Ok(new)
    }

    /// The blobs of a file, where they belong. Those the index does not have were found missing before.
    fn pieces(&self, node: &Node) -> Vec<Piece> {
        let Ok(index) = self.onto.repository.index() else { return Vec::new() };
        let mut offset = 0;
        let mut pieces = Vec::with_capacity(node.content.len());
        for blob in &node.content {
            let bytes = index.lookup(BlobKind::Data, blob).map_or(0, |place| place.plain_bytes());
            pieces.push(Piece { blob: *blob, offset, bytes });
            offset += bytes;
        }
        pieces
    }

    /// A change of one file, in as many parts as its bytes need.
    fn file(
        &mut self,
        node: NodeId,
        (pieces, new): (Vec<Piece>, bool),
        mut before: Vec<Event>,
        after: Vec<Event>,
    ) -> Result<()> {
        let (object, path) = (self.objects, self.path.clone());
        // What lies under another name is not compared, and not said to be.
        if !pieces.is_empty() && self.onto.options.verify && !self.renamed {
            self.written.insert(path_key(&path));
        }
        let mut rest = pieces.as_slice();
        loop {
            let mut bytes = 0;
            let count = rest
                .iter()
                .take_while(|piece| {
                    let fits = bytes == 0 || bytes + piece.bytes <= FETCH_BYTES_MAX;
                    bytes += piece.bytes;
                    fits
                })
                .count();
            let (part, left) = rest.split_at_checked(count).unwrap_or((rest, &[]));
            rest = left;
            let (before, pieces) = (std::mem::take(&mut before), part.to_vec());
            let last = rest.is_empty();
            let after = if last { after.clone() } else { Vec::new() };
            let path = path.clone();
            self.push(Change { object, path, before, pieces, node, new, after })?;
            if last {
                return Ok(());
            }
        }
    }
}

fn half_made(wanted: &Attributes) -> Attributes {
    let (mode, mtime) = (HALF_MADE_MODE, Timestamp(HALF_MADE_TIME));
    Attributes { mode, mtime, ..*wanted }
}

/// What a path is remembered by.
pub(super) fn path_key(path: &[u8]) -> u64 {
    let Id([a, b, c, d, e, f, g, h, ..]) = Id::of(path);
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

fn nanoseconds(time: snapshot::repository::Timestamp) -> Timestamp {
    let all = i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanoseconds);
    Timestamp(i64::try_from(all).unwrap_or(if all < 0 { i64::MIN } else { i64::MAX }))
}

/// As the journal has them: sorted by name.
fn xattrs(wanted: &Wanted) -> Xattrs {
    let mut list: Xattrs =
        wanted.xattrs.iter().map(|xattr| (xattr.name.clone(), xattr.value.clone())).collect();
    list.sort();
    list
}
