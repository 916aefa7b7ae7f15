//! What captures that are journaled and not applied do to the namespace.
//!
//! A replica that is detached, or whose apply has halted, still has to say what the stream says as of its last capture:
//! the view of the last capture applied, with the redo behind it on top. The redo is folded into what stands at which
//! name and what each node is; bytes do not matter. Nothing is checked that apply will check: what does not fit then
//! stops apply, and here it only gives a namespace that fits as little.
//!
//! The fold is in memory, so it is bounded: beyond [`AHEAD_BYTES_MAX`] it is refused. The master then waits with its
//! index, and starts to capture when the replica follows again.

use super::Replica;
use journal::view::View;
use journal::{Edge, Event, JournalError, Lsn, Meta, Name, NodeId, Origin, TreeIo};
use std::collections::{BTreeMap, HashMap};

/// Most memory a fold takes, about.
pub(super) const AHEAD_BYTES_MAX: usize = 128 << 20;
/// What a name or a node takes besides its variable parts, about.
const ROW_BYTES: usize = 300;

/// The fold would need too much memory.
#[derive(Debug)]
pub(super) struct TooMuch;

/// Names and nodes that differ from the view below.
#[derive(Default)]
pub(super) struct Ahead {
    /// By directory and name; `None`: nothing stands there any more.
    names: BTreeMap<NodeId, BTreeMap<Name, Option<NodeId>>>,
    nodes: HashMap<NodeId, Meta>,
    /// Inodes of nodes that were created.
    origins: HashMap<NodeId, Option<Origin>>,
    /// What all that takes, about; what is replaced is not taken off.
    bytes: usize,
}

impl Ahead {
    /// Folds the captures with `view.lsn() < lsn <= upto`.
    pub(super) fn read<T: TreeIo>(
        replica: &Replica<T>,
        view: &View<T>,
        upto: Lsn,
    ) -> Result<Result<Self, TooMuch>, JournalError> {
        let mut ahead = Ahead::default();
        let journal = replica.journal();
        for placed in journal.captured(journal.cursor_redo(), view.lsn(), upto) {
            for event in placed?.capture.events {
                ahead.event(view, event)?;
            }
            if ahead.bytes > AHEAD_BYTES_MAX {
                return Ok(Err(TooMuch));
            }
        }
        Ok(Ok(ahead))
    }

    /// What stands at a name, if that differs.
    pub(super) fn name(&self, dir: NodeId, name: &Name) -> Option<Option<NodeId>> {
        self.names.get(&dir)?.get(name).copied()
    }

    /// Entries of a directory that are new, or hold another node.
    pub(super) fn entries(&self, dir: NodeId) -> Vec<(Name, NodeId)> {
        let names = self.names.get(&dir).into_iter().flatten();
        names.filter_map(|(name, node)| node.map(|node| (name.clone(), node))).collect()
    }

    /// What a node is, if that differs.
    pub(super) fn meta(&self, node: NodeId) -> Option<&Meta> {
        self.nodes.get(&node)
    }

    /// The inode of a node that was created.
    pub(super) fn origin(&self, node: NodeId) -> Option<Option<Origin>> {
        self.origins.get(&node).copied()
    }

    fn event<T: TreeIo>(&mut self, view: &View<T>, event: Event) -> Result<(), JournalError> {
        match event {
            Event::Create { node, at, mut meta, origin, parent_mtime } => {
                meta.size = 0;
                self.bytes += ROW_BYTES + weight(&meta);
                self.nodes.insert(node, meta);
                self.origins.insert(node, origin);
                self.change(view, at.parent, parent_mtime, |meta, mtime| meta.attributes.mtime = mtime)?;
                self.put(at, Some(node));
            }
            Event::Link { node, at, parent_mtime } => {
                self.change(view, at.parent, parent_mtime, |meta, mtime| meta.attributes.mtime = mtime)?;
                self.put(at, Some(node));
            }
            Event::Remove { at, parent_mtime, .. } => {
                self.change(view, at.parent, parent_mtime, |meta, mtime| meta.attributes.mtime = mtime)?;
                self.put(at, None);
            }
            Event::Rename { node, from, to, from_parent_mtime, to_parent_mtime } => {
                let set = |meta: &mut Meta, mtime| meta.attributes.mtime = mtime;
                self.change(view, from.parent, from_parent_mtime, set)?;
                self.change(view, to.parent, to_parent_mtime, set)?;
                self.put(from, None);
                self.put(to, Some(node));
            }
            Event::Write { node, offset, data, .. } => {
                let end = offset.saturating_add(data.len());
                self.change(view, node, Some(end), |meta, end| meta.size = meta.size.max(end))?;
            }
            Event::Resize { node, size } => {
                self.change(view, node, Some(size), |meta, size| meta.size = size)?;
            }
            Event::SetAttributes { node, attributes } => {
                self.change(view, node, Some(attributes), |meta, attributes| meta.attributes = attributes)?;
            }
            Event::SetXattrs { node, xattrs } => {
                self.bytes += xattrs.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
                self.change(view, node, Some(xattrs), |meta, xattrs| meta.xattrs = xattrs)?;
            }
            Event::Punch { .. } | Event::Mark(_) => {}
        }
        Ok(())
    }

    fn put(&mut self, at: Edge, node: Option<NodeId>) {
        // Nobody walks there.
        if !at.parent.is_kept_area() {
            self.bytes += ROW_BYTES + at.name.as_bytes().len();
            self.names.entry(at.parent).or_default().insert(at.name, node);
        }
    }

    fn change<T: TreeIo, V>(
        &mut self,
        view: &View<T>,
        node: NodeId,
        value: Option<V>,
        change: impl FnOnce(&mut Meta, V),
    ) -> Result<(), JournalError> {
        let Some(value) = value.filter(|_| !node.is_kept_area()) else { return Ok(()) };
        if !self.nodes.contains_key(&node) {
            let Some(meta) = view.meta(node)? else { return Ok(()) };
            self.bytes += ROW_BYTES + weight(&meta);
            self.nodes.insert(node, meta);
        }
        if let Some(meta) = self.nodes.get_mut(&node) {
            change(meta, value);
        }
        Ok(())
    }
}

fn weight(meta: &Meta) -> usize {
    let xattrs: usize = meta.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
    let target = if let journal::Kind::Symlink(target) = &meta.kind { target.len() } else { 0 };
    xattrs + target
}
