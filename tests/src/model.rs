//! A file system in a page: what captures mean.
//!
//! The model applies captures to plain maps, in the obvious way and without any of the machinery under test, and
//! remembers the whole tree at every LSN. Nodes and their contents are shared between snapshots, so one costs about
//! as much as the nodes the capture changed plus a pointer for each of the others.
//!
//! Semantics written down here and nowhere softer: a write, a punch or a resize changes bytes and size only; times
//! change when an event says so (`SetAttributes`, the parents' times in name events). A removed last name is a rename
//! into the kept area of the root, and what a removed directory holds stays in it.

mod generator;
#[cfg(test)]
mod tests;

pub use generator::{Generator, Options};

use crate::canonical::{Canonical, CanonicalNode, comparable, group, join};
use bytes::Bytes;
use journal::{
    Attributes, Capture, Edge, Event, Kind, Lsn, Meta, Name, NodeId, Payload, RootNo, Timestamp, Xattrs,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A node of the model.
#[derive(Clone, Debug)]
pub struct ModelNode {
    /// All but names and bytes; `size` is that of `content`.
    pub meta: Meta,
    /// The bytes of a regular file.
    pub content: Arc<Vec<u8>>,
    /// Names in a directory.
    pub entries: BTreeMap<Name, NodeId>,
    /// All names of the node; one for a directory.
    pub names: Vec<Edge>,
}

type Nodes = BTreeMap<NodeId, Arc<ModelNode>>;

/// The trees of one scenario, now and at every LSN so far.
#[derive(Clone, Debug)]
pub struct Model {
    nodes: Nodes,
    history: BTreeMap<Lsn, Nodes>,
    last: Lsn,
}

impl Model {
    /// Empty roots: mode 0755, owner and times 0.
    #[must_use]
    pub fn new(roots: u16) -> Model {
        let mut nodes = Nodes::new();
        for root in (0..roots).map(RootNo) {
            for (id, mode) in [(NodeId::root(root), 0o755), (NodeId::kept(root), 0o700)] {
                let attributes =
                    Attributes { mode, uid: 0, gid: 0, mtime: Timestamp(0), ctime: Timestamp(0) };
                let meta = Meta { kind: Kind::Directory, size: 0, attributes, xattrs: Xattrs::new() };
                nodes.insert(id, Arc::new(ModelNode::new(meta)));
            }
        }
        Model { history: BTreeMap::from([(Lsn::ZERO, nodes.clone())]), nodes, last: Lsn::ZERO }
    }

    /// The last LSN applied.
    #[must_use]
    pub fn last(&self) -> Lsn {
        self.last
    }

    /// All LSNs with a snapshot, [`Lsn::ZERO`] first.
    #[must_use]
    pub fn lsns(&self) -> Vec<Lsn> {
        self.history.keys().copied().collect()
    }

    /// The node as it is now.
    #[must_use]
    pub fn node(&self, id: NodeId) -> Option<&ModelNode> {
        self.nodes.get(&id).map(Arc::as_ref)
    }

    /// The node as it was after `lsn`.
    #[must_use]
    pub fn node_at(&self, lsn: Lsn, id: NodeId) -> Option<&ModelNode> {
        self.history.get(&lsn)?.get(&id).map(Arc::as_ref)
    }

    /// Applies a capture and remembers the tree after it.
    ///
    /// # Panics
    /// If the capture is not valid for the tree, or comes out of order.
    pub fn apply(&mut self, capture: &Capture) {
        assert!(capture.lsn > self.last, "{} after {}", capture.lsn, self.last);
        for event in &capture.events {
            self.apply_event(capture.root, event);
        }
        self.last = capture.lsn;
        self.history.insert(capture.lsn, self.nodes.clone());
    }

    /// The root as it is now.
    #[must_use]
    pub fn canonical(&self, root: RootNo) -> Canonical {
        canonical(&self.nodes, NodeId::root(root))
    }

    /// The root as it was after `lsn`.
    ///
    /// # Panics
    /// If nothing was applied at `lsn`.
    #[must_use]
    pub fn canonical_at(&self, lsn: Lsn, root: RootNo) -> Canonical {
        let nodes = self.history.get(&lsn).unwrap_or_else(|| panic!("no snapshot at {lsn}"));
        canonical(nodes, NodeId::root(root))
    }

    /// What is in the kept area now, without the area itself.
    #[must_use]
    pub fn canonical_kept(&self, root: RootNo) -> Canonical {
        let mut found = canonical(&self.nodes, NodeId::kept(root));
        found.remove(b"".as_slice());
        found
    }

    /// Every path below a root now, the root's own (empty) first, and what stands there.
    #[must_use]
    pub fn paths(&self, root: RootNo) -> Vec<(Vec<u8>, NodeId)> {
        paths(&self.nodes, NodeId::root(root))
    }

    fn change(&mut self, id: NodeId) -> &mut ModelNode {
        Arc::make_mut(self.nodes.get_mut(&id).unwrap_or_else(|| panic!("no node {id}")))
    }

    fn enter(&mut self, id: NodeId, at: &Edge, mtime: Option<Timestamp>) {
        let parent = self.change(at.parent);
        assert!(parent.meta.kind.is_directory(), "{at:?} lies in no directory");
        assert!(parent.entries.insert(at.name.clone(), id).is_none(), "{at:?} is taken");
        parent.set_mtime(mtime);
        let node = self.change(id);
        node.names.push(at.clone());
        assert!(
            !node.meta.kind.is_directory() || node.names.len() == 1,
            "{id} is a directory with two names"
        );
        assert!(!self.is_within(at.parent, id), "{id} would lie in itself");
    }

    fn leave(&mut self, id: NodeId, at: &Edge, mtime: Option<Timestamp>) {
        let parent = self.change(at.parent);
        assert_eq!(parent.entries.remove(&at.name), Some(id), "{at:?}");
        parent.set_mtime(mtime);
        self.change(id).names.retain(|name| name != at);
    }

    /// Whether `id` is `above` or lies below it.
    #[must_use]
    pub fn is_within(&self, mut id: NodeId, above: NodeId) -> bool {
        while id != above {
            match self.node(id).and_then(|node| node.names.first()) {
                Some(edge) => id = edge.parent,
                None => return false,
            }
        }
        true
    }

    fn apply_event(&mut self, root: RootNo, event: &Event) {
        match event {
            Event::Create { node, at, meta, parent_mtime, .. } => {
                assert!(!self.nodes.contains_key(node), "{node} exists");
                assert_eq!(meta.size, 0, "a new file is empty");
                self.nodes.insert(*node, Arc::new(ModelNode::new(meta.clone())));
                self.enter(*node, at, *parent_mtime);
            }
            Event::Link { node, at, parent_mtime } => self.enter(*node, at, *parent_mtime),
            Event::Remove { node, at, parent_mtime } => {
                self.leave(*node, at, *parent_mtime);
                if self.change(*node).names.is_empty() {
                    self.enter(*node, &Edge::new(NodeId::kept(root), node.kept_name()), None);
                }
            }
            Event::Rename { node, from, to, from_parent_mtime, to_parent_mtime } => {
                self.leave(*node, from, *from_parent_mtime);
                self.enter(*node, to, *to_parent_mtime);
            }
            Event::Write { node, offset, data, .. } => {
                let Payload::Inline(bytes) = data else { panic!("the model needs the bytes of a write") };
                self.change(*node).write(*offset, bytes);
            }
            Event::Punch { node, offset, bytes } => {
                let node = self.change(*node);
                let end = offset.saturating_add(*bytes).min(node.meta.size);
                if *offset < end {
                    Arc::make_mut(&mut node.content)[*offset as usize..end as usize].fill(0);
                }
            }
            Event::Resize { node, size } => {
                let node = self.change(*node);
                Arc::make_mut(&mut node.content).resize(*size as usize, 0);
                node.meta.size = *size;
            }
            Event::SetAttributes { node, attributes } => self.change(*node).meta.attributes = *attributes,
            Event::SetXattrs { node, xattrs } => self.change(*node).meta.xattrs.clone_from(xattrs),
            Event::Mark(_) => {}
        }
    }
}

impl ModelNode {
    fn new(meta: Meta) -> ModelNode {
        ModelNode { meta, content: Arc::default(), entries: BTreeMap::new(), names: Vec::new() }
    }

    fn set_mtime(&mut self, mtime: Option<Timestamp>) {
        if let Some(mtime) = mtime {
            self.meta.attributes.mtime = mtime;
        }
    }

    fn write(&mut self, offset: u64, bytes: &Bytes) {
        assert!(self.meta.kind.is_file(), "a write to no file");
        let (start, end) = (offset as usize, offset as usize + bytes.len());
        let content = Arc::make_mut(&mut self.content);
        if content.len() < end {
            content.resize(end, 0);
        }
        content[start..end].copy_from_slice(bytes);
        self.meta.size = content.len() as u64;
    }
}

fn paths(nodes: &Nodes, top: NodeId) -> Vec<(Vec<u8>, NodeId)> {
    let mut found = vec![(Vec::new(), top)];
    let mut next = 0;
    while let Some((path, id)) = found.get(next).cloned() {
        next += 1;
        if let Some(node) = nodes.get(&id) {
            found.extend(node.entries.iter().map(|(name, id)| (join(&path, name.as_bytes()), *id)));
        }
    }
    found
}

fn canonical(nodes: &Nodes, top: NodeId) -> Canonical {
    let objects: BTreeMap<Vec<u8>, NodeId> = paths(nodes, top).into_iter().collect();
    let mut tree = Canonical::new();
    for (path, id) in &objects {
        if let Some(node) = nodes.get(id) {
            let canonical = CanonicalNode {
                kind: node.meta.kind.clone(),
                size: if node.meta.kind.is_file() { node.meta.size } else { 0 },
                content: Arc::clone(&node.content),
                attributes: comparable(node.meta.attributes, &node.meta.kind),
                xattrs: node.meta.xattrs.clone(),
                first_name: path.clone(),
            };
            tree.insert(path.clone(), canonical);
        }
    }
    group(&mut tree, |path| objects.get(path).copied());
    tree
}
