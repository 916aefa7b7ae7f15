//! A plan as changes of a master's tree: events, with the bytes they need, a few MiB at a time.
//!
//! They follow the rules of [`journal::master`]: bytes of a new file come before its name, a group of names is not cut
//! unless it is longer than a batch may be, and what is done to a node ends with its attributes. Directories come last,
//! deepest first, so that none is closed by its own mode before what is below it is done. Times of directories whose
//! entries change need no care: the master puts them back by itself.
//!
//! A node is told of only if it turns out to differ, so a plan of what is equal already makes no batch at all.

use super::plan::{RewindPlan, Work};
use crate::content::{Piece, Pieces};
use crate::error::RestoreError;
use crate::monitor::{Monitor, Phase};
use crate::scope::is_directory;
use journal::serialize::Step;
use journal::{Edge, Event, Meta, NodeId, Payload, RootNo, TreeIo};

/// Payload bytes of one batch, and about how much names may take besides.
const BATCH_BYTES_MAX: u64 = 2 << 20;
const BATCH_WEIGHT_MAX: u64 = 1 << 20;
const BATCH_EVENTS_MAX: usize = 4096;

/// Changes of one root that travel together.
#[derive(Clone, Debug, PartialEq)]
pub struct MasterBatch {
    /// The root.
    pub root: RootNo,
    /// In a valid serial order.
    pub events: Vec<Event>,
    /// Bytes of files among them.
    pub bytes: u64,
    weight: u64,
}

impl MasterBatch {
    fn new(root: RootNo) -> Self {
        MasterBatch { root, events: Vec::new(), bytes: 0, weight: 0 }
    }
}

/// Takes batches.
pub(crate) type Take<'a> = &'a mut dyn FnMut(MasterBatch) -> Result<(), RestoreError>;

struct Builder<'a> {
    batch: MasterBatch,
    take: Take<'a>,
}

impl Builder<'_> {
    fn flush(&mut self) -> Result<(), RestoreError> {
        let next = MasterBatch::new(self.batch.root);
        let batch = std::mem::replace(&mut self.batch, next);
        if batch.events.is_empty() { Ok(()) } else { (self.take)(batch) }
    }

    /// Makes room for so much.
    fn room(&mut self, root: RootNo, events: usize, bytes: u64, weight: u64) -> Result<(), RestoreError> {
        let batch = &self.batch;
        if batch.root != root
            || batch.bytes + bytes > BATCH_BYTES_MAX
            || batch.weight + weight > BATCH_WEIGHT_MAX
            || batch.events.len() + events > BATCH_EVENTS_MAX
        {
            self.flush()?;
            self.batch.root = root;
        }
        Ok(())
    }

    fn push(&mut self, root: RootNo, event: Event) -> Result<(), RestoreError> {
        let (bytes, weight) = (event.payload_bytes(), weight_of(&event));
        self.room(root, 1, bytes, weight)?;
        self.batch.bytes += bytes;
        self.batch.weight += weight;
        self.batch.events.push(event);
        Ok(())
    }

    /// Events that should stay together.
    fn group(&mut self, root: RootNo, events: Vec<Event>) -> Result<(), RestoreError> {
        self.room(root, events.len(), 0, events.iter().map(weight_of).sum())?;
        events.into_iter().try_for_each(|event| self.push(root, event))
    }
}

/// About what an event takes on the wire, its payload aside.
fn weight_of(event: &Event) -> u64 {
    let xattrs = match event {
        Event::Create { meta, .. } => &meta.xattrs,
        Event::SetXattrs { xattrs, .. } => xattrs,
        Event::Rename { .. } => return 700,
        _ => return 400,
    };
    let xattrs: usize = xattrs.iter().map(|(name, value)| name.len() + value.len() + 16).sum();
    // Longer than any link target.
    5000 + xattrs as u64
}

impl<T: TreeIo> RewindPlan<'_, T> {
    /// The node of the point that a node of the plan becomes like.
    pub(super) fn original(&self, node: NodeId) -> NodeId {
        self.copies.get(&node).or_else(|| self.stand_ins.get(&node)).copied().unwrap_or(node)
    }

    /// Hands over the changes of a master's tree in the order in which they are to be made; reads the bytes as it
    /// goes.
    pub(crate) fn master_batches(&self, monitor: &dyn Monitor, take: Take<'_>) -> Result<(), RestoreError> {
        let mut builder = Builder { batch: MasterBatch::new(RootNo(0)), take };
        let (mut done, total) = (0, self.length());
        let mut step = |monitor: &dyn Monitor| {
            done += 1;
            monitor.progress(Phase::Rewind, done, Some(total));
            if monitor.cancelled() { Err(RestoreError::Cancelled) } else { Ok(()) }
        };
        for (root, order) in &self.orders {
            for group in order.groups() {
                let mut events = Vec::with_capacity(group.len());
                for step in group {
                    if let Step::Create { node, .. } = step {
                        self.new_bytes(*root, *node, &mut builder)?;
                    }
                    events.push(self.name_event(step)?);
                }
                builder.group(*root, events)?;
                step(monitor)?;
            }
        }
        let (directories, others) = self.sorted_works()?;
        for work in others.iter().chain(&directories) {
            self.work_events(work, &mut builder)?;
            step(monitor)?;
        }
        builder.flush()
    }

    fn name_event(&self, step: &Step) -> Result<Event, RestoreError> {
        Ok(match step.clone() {
            Step::Create { node, at } => {
                let meta = Meta { size: 0, ..self.meta_then(self.original(node))? };
                Event::Create { node, at, meta, origin: None, parent_mtime: None }
            }
            Step::Link { node, at } => Event::Link { node, at, parent_mtime: None },
            Step::Remove { node, at } => Event::Remove { node, at, parent_mtime: None },
            Step::Rename { node, from, to } => {
                Event::Rename { node, from, to, from_parent_mtime: None, to_parent_mtime: None }
            }
        })
    }

    /// Metadata of a node at the point.
    pub(super) fn meta_then(&self, node: NodeId) -> Result<Meta, RestoreError> {
        let meta = self.difference.to().view().meta(node);
        meta.map_err(RestoreError::journal("read metadata of the point"))?.ok_or(RestoreError::Gone { node })
    }

    /// The bytes of a file that is made anew.
    fn new_bytes(&self, root: RootNo, node: NodeId, builder: &mut Builder<'_>) -> Result<(), RestoreError> {
        let original = self.original(node);
        let meta = self.meta_then(original)?;
        if !meta.kind.is_file() || meta.size == 0 {
            return Ok(());
        }
        builder.push(root, Event::Resize { node, size: meta.size })?;
        let pieces = Pieces::whole(self.difference.to().view(), original)
            .map_err(RestoreError::journal("open a file of the point"))?;
        for piece in pieces {
            let piece = piece.map_err(RestoreError::journal("read a file of the point"))?;
            builder.push(root, content_event(node, piece))?;
        }
        Ok(())
    }

    /// The pieces in which the bytes of a node are to change.
    pub(super) fn pieces(&self, work: &Work) -> Result<Pieces<'_, T>, RestoreError> {
        let (now, then) = (self.difference.from().view(), self.difference.to().view());
        let pieces = if work.source == work.target {
            Pieces::between(now, then, work.source)
        } else {
            Pieces::across((now, work.target), (then, work.source))
        };
        pieces.map_err(RestoreError::journal("open a file of the point"))
    }

    fn work_events(&self, work: &Work, builder: &mut Builder<'_>) -> Result<(), RestoreError> {
        let (node, root) = (work.target, work.root);
        let mut changed = work.attributes || work.xattrs;
        if work.bytes {
            let pieces = self.pieces(work)?;
            if pieces.old_size() != pieces.new_size() {
                changed = true;
                builder.push(root, Event::Resize { node, size: pieces.new_size() })?;
            }
            for piece in pieces {
                let piece = piece.map_err(RestoreError::journal("compare bytes of a file"))?;
                changed = true;
                builder.push(root, content_event(node, piece))?;
            }
        }
        if !changed {
            return Ok(());
        }
        let Meta { attributes, xattrs, .. } = self.meta_then(work.source)?;
        builder.push(root, Event::SetXattrs { node, xattrs })?;
        builder.push(root, Event::SetAttributes { node, attributes })
    }

    /// Work on directories, deepest first, and on all else.
    fn sorted_works(&self) -> Result<(Vec<Work>, Vec<Work>), RestoreError> {
        let failed = RestoreError::journal("order the work on directories");
        let then = self.difference.to();
        let (mut directories, mut others) = (Vec::new(), Vec::new());
        for work in &self.works {
            if !is_directory(then, work.source).map_err(&failed)? {
                others.push(*work);
                continue;
            }
            let path = then.path_of(work.source).map_err(&failed)?;
            let depth = path.map_or(0, |(_, path)| {
                path.split(|byte| *byte == b'/').count() * usize::from(!path.is_empty())
            });
            directories.push((depth, *work));
        }
        directories.sort_by_key(|(depth, _)| std::cmp::Reverse(*depth));
        Ok((directories.into_iter().map(|(_, work)| work).collect(), others))
    }

    /// A name of the plan as the point has it.
    pub(super) fn edge_then(&self, edge: &Edge) -> Edge {
        Edge::new(self.original(edge.parent), edge.name.clone())
    }
}

fn content_event(node: NodeId, piece: Piece) -> Event {
    match piece.data {
        Some(data) => Event::Write { node, offset: piece.offset, data: Payload::Inline(data), before: None },
        None => Event::Punch { node, offset: piece.offset, bytes: piece.bytes },
    }
}
