//! A plan as local captures: events, with the bytes they need, a few MiB at a time.
//!
//! Each group of names is a capture, and so is the work on each node; a long one is cut into several. What a capture
//! writes is read when its turn comes. Reading the view of the point stays right while the tree changes under it:
//! apply publishes undo before it touches anything.

use super::plan::{RewindPlan, Work};
use crate::content::{Piece, Pieces};
use crate::error::RestoreError;
use journal::serialize::Step;
use journal::spare::Spares;
use journal::{Event, Meta, NodeId, RootNo, TreeIo};
use std::iter::Peekable;

/// Payload bytes after which a capture is cut.
const CAPTURE_BYTES_MAX: u64 = 4 << 20;
/// Bytes of buffers kept for what is read next: about what is under way.
const SPARE_BYTES_MAX: usize = 32 << 20;
/// Events after which a capture is cut.
const CAPTURE_EVENTS_MAX: usize = 4096;
const CAPABILITY: &[u8] = b"security.capability";

/// One local change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalCapture {
    /// Root it lies in.
    pub root: RootNo,
    /// For people: path of what changes.
    pub path: Vec<u8>,
    /// Its events, in a valid serial order.
    pub events: Vec<Event>,
    /// Bytes of files written.
    pub bytes: u64,
    /// About what it takes in memory, in bytes.
    pub weight: u64,
    /// The node whose bytes or metadata it changes; `None` for names.
    pub node: Option<NodeId>,
    /// Groups of names and nodes with work that are done after it.
    pub done: u64,
}

/// The captures of a plan, in order.
pub struct Captures<'p, 'v, T: TreeIo> {
    plan: &'p RewindPlan<'v, T>,
    groups: Peekable<Groups<'p>>,
    /// What is left of the group under way.
    steps: &'p [Step],
    root: RootNo,
    works: std::slice::Iter<'p, Work>,
    file: Option<OpenFile<'v, T>>,
    spares: Spares,
    done: u64,
}

type Groups<'p> = Box<dyn Iterator<Item = (RootNo, &'p [Step])> + 'p>;

struct OpenFile<'v, T: TreeIo> {
    work: Work,
    pieces: Pieces<'v, T>,
    /// A piece that did not fit into the capture before.
    next: Option<Piece>,
    written: bool,
}

impl<'p, 'v, T: TreeIo> Captures<'p, 'v, T> {
    pub(crate) fn new(plan: &'p RewindPlan<'v, T>) -> Self {
        let groups: Groups<'p> =
            Box::new(plan.orders.iter().flat_map(|(root, order)| order.groups().map(|group| (*root, group))));
        Captures {
            plan,
            groups: groups.peekable(),
            steps: &[],
            root: RootNo(0),
            works: plan.works.iter(),
            file: None,
            spares: Spares::new(SPARE_BYTES_MAX),
            done: 0,
        }
    }

    fn capture(&self, root: RootNo, path: Vec<u8>, events: Vec<Event>) -> LocalCapture {
        let bytes = events.iter().map(Event::payload_bytes).sum();
        let weight = path.len() as u64 + events.iter().map(Event::weight).sum::<u64>();
        LocalCapture { root, path, events, bytes, weight, node: None, done: self.done }
    }

    /// The next group of names, or a part of a very long one.
    fn names(&mut self) -> Result<Option<LocalCapture>, RestoreError> {
        if self.steps.is_empty() {
            let Some((root, steps)) = self.groups.next() else { return Ok(None) };
            (self.root, self.steps) = (root, steps);
        }
        let path = self.path_of_step()?;
        let mut events = Vec::new();
        let mut weight = 0;
        while let Some((step, rest)) = self.steps.split_first() {
            let event = self.event(step)?;
            weight += event.weight();
            events.push(event);
            self.steps = rest;
            if weight >= CAPTURE_BYTES_MAX || events.len() >= CAPTURE_EVENTS_MAX {
                break;
            }
        }
        self.done += u64::from(self.steps.is_empty());
        Ok(Some(self.capture(self.root, path, events)))
    }

    fn event(&self, step: &Step) -> Result<Event, RestoreError> {
        Ok(match step.clone() {
            Step::Create { node, at } => {
                // A copy: only those have no name now.
                let original = self.plan.copies.get(&node).copied().ok_or(RestoreError::Gone { node })?;
                let meta = Meta { size: 0, ..self.meta(original)? };
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
    fn meta(&self, node: NodeId) -> Result<Meta, RestoreError> {
        let meta = self.plan.difference.to().view().meta(node);
        meta.map_err(RestoreError::journal("read metadata of the point"))?.ok_or(RestoreError::Gone { node })
    }

    /// The path that names a group to people: where its first step leads, or what it takes away.
    fn path_of_step(&self) -> Result<Vec<u8>, RestoreError> {
        let failed = RestoreError::journal("find a path");
        let Some(step) = self.steps.first() else { return Ok(Vec::new()) };
        let (now, then) = (self.plan.difference.from(), self.plan.difference.to());
        if let Some(edge) = step.takes().filter(|edge| !edge.parent.is_kept_area()) {
            let mut edge = edge.clone();
            edge.parent = self.plan.copies.get(&edge.parent).copied().unwrap_or(edge.parent);
            if let Some((_, path)) = then.path(&edge).map_err(&failed)? {
                return Ok(path);
            }
        }
        if let Some(edge) = step.frees().filter(|edge| !edge.parent.is_kept_area())
            && let Some((_, path)) = now.path(edge).map_err(&failed)?
        {
            return Ok(path);
        }
        Ok(Vec::new())
    }

    fn path_of_node(&self, work: &Work) -> Result<Vec<u8>, RestoreError> {
        let failed = RestoreError::journal("find a path");
        let then = self.plan.difference.to();
        let Some(edge) = then.place(work.source).map_err(&failed)? else { return Ok(Vec::new()) };
        Ok(then.path(&edge).map_err(&failed)?.map(|(_, path)| path).unwrap_or_default())
    }

    /// The next work, or a part of a long one; `None` inside if there turns out to be nothing to do.
    fn work(&mut self) -> Result<Option<Option<LocalCapture>>, RestoreError> {
        if let Some(file) = self.file.take() {
            return self.file(file).map(Some);
        }
        let Some(work) = self.works.next() else { return Ok(None) };
        if work.bytes {
            let failed = RestoreError::journal("open a file of the point");
            let (now, then) = (self.plan.difference.from().view(), self.plan.difference.to().view());
            let pieces = if work.source == work.target {
                Pieces::between(now, then, work.source)
            } else {
                Pieces::whole(then, work.source)
            };
            let pieces = pieces.map_err(failed)?.with_spares(&self.spares);
            return self.file(OpenFile { work: *work, pieces, next: None, written: false }).map(Some);
        }
        self.done += 1;
        let mut events = Vec::new();
        self.metadata(work, false, &mut events)?;
        Ok(Some(self.node_capture(work, events)?))
    }

    fn file(&mut self, mut file: OpenFile<'v, T>) -> Result<Option<LocalCapture>, RestoreError> {
        let node = file.work.target;
        let mut events = Vec::new();
        let mut bytes = 0;
        let size = file.pieces.new_size();
        if !file.written && file.pieces.old_size() != size {
            // First of all, so that what is cut away is not written to.
            events.push(Event::Resize { node, size });
            file.written = true;
        }
        loop {
            let piece = match file.next.take() {
                Some(piece) => Some(piece),
                None => file
                    .pieces
                    .next()
                    .transpose()
                    .map_err(RestoreError::journal("compare bytes of a file"))?,
            };
            let Some(piece) = piece else { break };
            let length = piece.data.as_ref().map_or(0, |data| data.len() as u64);
            if bytes + length > CAPTURE_BYTES_MAX || events.len() >= CAPTURE_EVENTS_MAX {
                file.next = Some(piece);
                let work = file.work;
                self.file = Some(file);
                return self.node_capture(&work, events);
            }
            bytes += length;
            file.written = true;
            let (offset, bytes) = (piece.offset, piece.bytes);
            events.push(match piece.payload() {
                Some(data) => Event::Write { node, offset, data, before: None },
                None => Event::Punch { node, offset, bytes },
            });
        }
        self.done += 1;
        self.metadata(&file.work, file.written, &mut events)?;
        self.node_capture(&file.work, events)
    }

    fn metadata(&self, work: &Work, written: bool, events: &mut Vec<Event>) -> Result<(), RestoreError> {
        if !work.attributes && !work.xattrs && !written {
            return Ok(());
        }
        let node = work.target;
        let Meta { attributes, xattrs, .. } = self.meta(work.source)?;
        if work.attributes {
            events.push(Event::SetAttributes { node, attributes });
        }
        // Writing to a file takes its capabilities away.
        if work.xattrs || written && xattrs.iter().any(|(name, _)| name == CAPABILITY) {
            events.push(Event::SetXattrs { node, xattrs });
        }
        Ok(())
    }

    fn node_capture(&self, work: &Work, events: Vec<Event>) -> Result<Option<LocalCapture>, RestoreError> {
        if events.is_empty() {
            return Ok(None);
        }
        let path = self.path_of_node(work)?;
        Ok(Some(LocalCapture { node: Some(work.target), ..self.capture(work.root, path, events) }))
    }
}

impl<T: TreeIo> Iterator for Captures<'_, '_, T> {
    type Item = Result<LocalCapture, RestoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.names() {
            Ok(Some(capture)) => return Some(Ok(capture)),
            Ok(None) => {}
            Err(error) => return Some(Err(error)),
        }
        loop {
            match self.work() {
                Ok(None) => return None,
                Ok(Some(None)) => {}
                Ok(Some(Some(capture))) => return Some(Ok(capture)),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}
