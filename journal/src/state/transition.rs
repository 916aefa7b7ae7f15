//! What captures do to the state, one after the other.
//!
//! [`Transition::capture`] checks that each event fits the state it finds (a name is free or holds that node, a
//! directory is a directory, nothing is moved below itself), changes rows in the overlay, and collects what is
//! replaced. An event that does not fit is an error before anything is durable: apply stops, the tree is untouched.

use super::content::{BatchContent, ContentUndo, Replacing, WrittenFrom};
use super::history::root_row;
use super::overlay::{Overlay, State};
use super::rows::NodeRow;
use crate::controls::Controls;
use crate::error::JournalError;
use crate::event::{Capture, Event, Payload, PayloadAt, Provenance};
use crate::id::{Edge, NodeId};
use crate::lsn::Lsn;
use crate::meta::{Meta, Timestamp};
use crate::record::{NameUndo, NodeUndo};
use crate::tables::{Put, Space, Tables};
use std::collections::{HashMap, HashSet, VecDeque};

/// Where the payloads of a capture's write events lie in the redo stream, in their order; empty where unknown.
pub type WritePlaces = Vec<PayloadAt>;

/// Names and metadata a capture replaced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replaced {
    /// Names, first change only.
    pub names: Vec<NameUndo>,
    /// Metadata, first change only.
    pub nodes: Vec<NodeUndo>,
}

/// A batch of captures on its way into the tables.
pub struct Transition<'t> {
    overlay: Overlay<'t>,
    content: BatchContent,
    /// Names, before the batch, of nodes whose names the batch changes.
    before: HashMap<NodeId, Vec<Edge>>,
    edges_seen: HashSet<Edge>,
    nodes_seen: HashSet<NodeId>,
    touched: HashSet<NodeId>,
    external_known: Lsn,
    lost: Option<&'t Controls>,
    removals: VecDeque<bool>,
}

/// What [`Transition::finish`] hands over.
pub struct Finished {
    /// Present rows to commit, the digests of the roots after them included.
    pub puts: Vec<Put>,
    /// Names, before the batch, of nodes whose names changed.
    pub before: HashMap<NodeId, Vec<Edge>>,
    /// Nodes whose metadata must be set in the tree, with their rows after the batch.
    pub touched: Vec<(NodeId, NodeRow)>,
    /// For each removal of the batch, in order: whether the name moves to the kept area instead of being unlinked.
    pub removals: VecDeque<bool>,
}

impl<'t> Transition<'t> {
    /// Nothing changed yet.
    #[must_use]
    pub fn new(base: &'t dyn Tables) -> Self {
        Transition {
            overlay: Overlay::new(base),
            content: BatchContent::default(),
            before: HashMap::new(),
            edges_seen: HashSet::new(),
            nodes_seen: HashSet::new(),
            touched: HashSet::new(),
            external_known: Lsn::ZERO,
            lost: None,
            removals: VecDeque::new(),
        }
    }

    /// Bytes that were never journaled are in the tree for captures up to this one, but for those the journal says
    /// were lost.
    #[must_use]
    pub fn with_external_known(mut self, upto: Lsn, lost: &'t Controls) -> Self {
        self.external_known = upto;
        self.lost = Some(lost);
        self
    }

    /// The state after the captures so far.
    #[must_use]
    pub fn state(&self) -> &Overlay<'t> {
        &self.overlay
    }

    /// Adds a row that is no part of the state (undo rows, heads).
    pub fn put(&mut self, space: Space, key: Vec<u8>, value: Option<Vec<u8>>) {
        self.overlay.put(space, key, value);
    }

    /// Takes one capture.
    ///
    /// # Errors
    /// `Inconsistent` if an event does not fit, `Drift`, and errors of tables, tree and sink.
    pub fn capture(
        &mut self,
        capture: &Capture,
        places: &WritePlaces,
        mut undo: Option<ContentUndo<'_>>,
    ) -> Result<Replaced, JournalError> {
        self.content.begin_capture();
        self.edges_seen.clear();
        self.nodes_seen.clear();
        let mut replaced = Replaced::default();
        let mut places = places.iter();
        for event in &capture.events {
            self.event(capture.lsn, event, &mut places, &mut undo, &mut replaced)?;
        }
        if capture.provenance == Provenance::Synchronization {
            replaced = Replaced::default();
        }
        Ok(replaced)
    }

    fn event(
        &mut self,
        lsn: Lsn,
        event: &Event,
        places: &mut std::slice::Iter<'_, PayloadAt>,
        undo: &mut Option<ContentUndo<'_>>,
        replaced: &mut Replaced,
    ) -> Result<(), JournalError> {
        match event {
            Event::Create { node, at, meta, origin, parent_mtime } => {
                if self.overlay.node(*node)?.is_some() {
                    return Err(JournalError::Inconsistent { lsn, what: "a node is created twice" });
                }
                self.nodes_seen.insert(*node);
                self.before.entry(*node).or_default();
                let meta = Meta { size: 0, ..meta.clone() };
                let row = NodeRow { meta, origin: *origin, ..root_row() };
                self.overlay.put_node(*node, &row);
                self.touched.insert(*node);
                self.content.created(*node);
                self.bind(lsn, at, *node, replaced)?;
                self.parent_time(lsn, at, *parent_mtime, replaced)
            }
            Event::Link { node, at, parent_mtime } => {
                let row = self.row(lsn, *node)?;
                if row.meta.kind.is_directory() {
                    return Err(JournalError::Inconsistent { lsn, what: "a directory is linked" });
                }
                self.remember_links(*node)?;
                self.bind(lsn, at, *node, replaced)?;
                self.keep_longer(lsn, at.parent)?;
                self.parent_time(lsn, at, *parent_mtime, replaced)
            }
            Event::Remove { node, at, parent_mtime } => {
                self.remove(lsn, *node, at, replaced)?;
                self.parent_time(lsn, at, *parent_mtime, replaced)
            }
            Event::Rename { node, from, to, from_parent_mtime, to_parent_mtime } => {
                self.rename(lsn, *node, from, to, replaced)?;
                self.parent_time(lsn, from, *from_parent_mtime, replaced)?;
                self.parent_time(lsn, to, *to_parent_mtime, replaced)
            }
            Event::Write { .. } | Event::Punch { .. } | Event::Resize { .. } => {
                self.bytes(lsn, event, places, undo, replaced)
            }
            Event::SetAttributes { node, attributes } => {
                self.change_node(lsn, *node, replaced, |row| row.meta.attributes = *attributes)
            }
            Event::SetXattrs { node, xattrs } => {
                self.change_node(lsn, *node, replaced, |row| row.meta.xattrs.clone_from(xattrs))
            }
            Event::Mark(_) => Ok(()),
        }
    }

    fn row(&self, lsn: Lsn, node: NodeId) -> Result<NodeRow, JournalError> {
        match self.overlay.node(node)? {
            Some(row) => Ok(row),
            None if node.as_root_or_kept().is_some() => Ok(root_row()),
            None => Err(JournalError::Inconsistent { lsn, what: "it names a node that does not exist" }),
        }
    }

    fn remember_links(&mut self, node: NodeId) -> Result<(), JournalError> {
        if !self.before.contains_key(&node) {
            let links = self.overlay.links(node)?;
            self.before.insert(node, links);
        }
        Ok(())
    }

    fn note_edge(&mut self, edge: &Edge, before: Option<NodeId>, replaced: &mut Replaced) {
        if !edge.parent.is_kept_area() && self.edges_seen.insert(edge.clone()) {
            replaced.names.push(NameUndo { edge: edge.clone(), before });
        }
    }

    fn bind(
        &mut self,
        lsn: Lsn,
        at: &Edge,
        node: NodeId,
        replaced: &mut Replaced,
    ) -> Result<(), JournalError> {
        if !self.row(lsn, at.parent)?.meta.kind.is_directory() {
            return Err(JournalError::Inconsistent { lsn, what: "a parent is no directory" });
        }
        if self.overlay.name(at)?.is_some() {
            return Err(JournalError::Inconsistent { lsn, what: "a name is taken" });
        }
        self.note_edge(at, None, replaced);
        self.overlay.bind(at, node)
    }

    fn unbind(
        &mut self,
        lsn: Lsn,
        at: &Edge,
        node: NodeId,
        replaced: &mut Replaced,
    ) -> Result<(), JournalError> {
        if self.overlay.name(at)? != Some(node) {
            return Err(JournalError::Inconsistent { lsn, what: "a name does not hold the node" });
        }
        self.note_edge(at, Some(node), replaced);
        self.overlay.unbind(at, node)
    }

    fn remove(
        &mut self,
        lsn: Lsn,
        node: NodeId,
        at: &Edge,
        replaced: &mut Replaced,
    ) -> Result<(), JournalError> {
        let mut row = self.row(lsn, node)?;
        self.remember_links(node)?;
        self.unbind(lsn, at, node, replaced)?;
        let links = self.overlay.links(node)?;
        let root = self.root_of(lsn, at.parent)?;
        let kept = Edge::new(NodeId::kept(root), node.kept_name());
        // A name inside a removed directory keeps nothing: that directory goes when its own time has come.
        let mut reachable = false;
        for link in &links {
            reachable |= self.is_reachable(lsn, link.parent)?;
        }
        let moves = !reachable && !links.contains(&kept);
        if moves {
            self.bind(lsn, &kept, node, replaced)?;
        }
        if !reachable {
            row.kept_since = Some((lsn.captured, lsn.local));
            self.overlay.put_node(node, &row);
        }
        self.removals.push_back(moves);
        Ok(())
    }

    /// What enters a removed directory was in the tree until now: the directory must stay as long as if it had been
    /// removed only now.
    fn keep_longer(&mut self, lsn: Lsn, directory: NodeId) -> Result<(), JournalError> {
        let mut at = directory;
        for _ in 0..Self::DEPTH_MAX {
            let Some(parent) = self.parent(lsn, at)? else { return Ok(()) };
            if parent.is_kept_area() {
                let mut row = self.row(lsn, at)?;
                row.kept_since = Some((lsn.captured, lsn.local));
                self.overlay.put_node(at, &row);
                return Ok(());
            }
            at = parent;
        }
        Ok(())
    }

    fn is_reachable(&self, lsn: Lsn, node: NodeId) -> Result<bool, JournalError> {
        let mut at = node;
        for _ in 0..Self::DEPTH_MAX {
            if at.as_root_or_kept().is_some() {
                return Ok(!at.is_kept_area());
            }
            at = self.parent(lsn, at)?.unwrap_or(at);
        }
        Err(JournalError::Inconsistent { lsn, what: "directories form a cycle" })
    }

    fn rename(
        &mut self,
        lsn: Lsn,
        node: NodeId,
        from: &Edge,
        to: &Edge,
        replaced: &mut Replaced,
    ) -> Result<(), JournalError> {
        let mut row = self.row(lsn, node)?;
        self.remember_links(node)?;
        if row.meta.kind.is_directory() && self.is_below(lsn, to.parent, node)? {
            return Err(JournalError::Inconsistent { lsn, what: "a directory is moved below itself" });
        }
        self.unbind(lsn, from, node, replaced)?;
        // It may be in the kept area already, under another name that lies in a removed directory.
        if !(to.parent.is_kept_area() && self.overlay.name(to)? == Some(node)) {
            self.bind(lsn, to, node, replaced)?;
        }
        self.keep_longer(lsn, to.parent)?;
        let kept_since = to.parent.is_kept_area().then_some((lsn.captured, lsn.local));
        if row.kept_since != kept_since {
            row.kept_since = kept_since;
            self.overlay.put_node(node, &row);
        }
        Ok(())
    }

    /// Parents from `node` upwards end at a root or a kept area; deeper than this is a cycle.
    const DEPTH_MAX: usize = 1 << 20;

    fn is_below(&self, lsn: Lsn, node: NodeId, ancestor: NodeId) -> Result<bool, JournalError> {
        let mut at = node;
        for _ in 0..Self::DEPTH_MAX {
            if at == ancestor {
                return Ok(true);
            }
            match self.parent(lsn, at)? {
                Some(parent) => at = parent,
                None => return Ok(false),
            }
        }
        Err(JournalError::Inconsistent { lsn, what: "directories form a cycle" })
    }

    fn parent(&self, lsn: Lsn, node: NodeId) -> Result<Option<NodeId>, JournalError> {
        if node.as_root_or_kept().is_some() {
            return Ok(None);
        }
        match self.overlay.links(node)?.first() {
            Some(edge) => Ok(Some(edge.parent)),
            None => Err(JournalError::Inconsistent { lsn, what: "a node has no name" }),
        }
    }

    fn root_of(&self, lsn: Lsn, node: NodeId) -> Result<crate::id::RootNo, JournalError> {
        let mut at = node;
        for _ in 0..Self::DEPTH_MAX {
            match at.as_root_or_kept() {
                Some(root) => return Ok(root),
                None => at = self.parent(lsn, at)?.unwrap_or(at),
            }
        }
        Err(JournalError::Inconsistent { lsn, what: "directories form a cycle" })
    }

    fn parent_time(
        &mut self,
        lsn: Lsn,
        at: &Edge,
        mtime: Option<Timestamp>,
        replaced: &mut Replaced,
    ) -> Result<(), JournalError> {
        // Changing an entry moves the directory's own time in the tree, so it is set again even if it is not new.
        if !at.parent.is_kept_area() {
            self.touched.insert(at.parent);
        }
        match mtime {
            Some(mtime) if !at.parent.is_kept_area() => {
                self.change_node(lsn, at.parent, replaced, |row| row.meta.attributes.mtime = mtime)
            }
            _ => Ok(()),
        }
    }

    fn change_node(
        &mut self,
        lsn: Lsn,
        node: NodeId,
        replaced: &mut Replaced,
        change: impl FnOnce(&mut NodeRow),
    ) -> Result<(), JournalError> {
        let mut row = self.row(lsn, node)?;
        let before = row.meta.clone();
        change(&mut row);
        self.touched.insert(node);
        if row.meta != before && self.nodes_seen.insert(node) {
            replaced.nodes.push(NodeUndo { node, before });
        }
        self.overlay.put_node(node, &row);
        Ok(())
    }

    fn bytes(
        &mut self,
        lsn: Lsn,
        event: &Event,
        places: &mut std::slice::Iter<'_, PayloadAt>,
        undo: &mut Option<ContentUndo<'_>>,
        replaced: &mut Replaced,
    ) -> Result<(), JournalError> {
        let (node, range, size_after) = match event {
            Event::Write { node, offset, data, .. } => {
                let end = offset.saturating_add(data.len());
                (*node, *offset..end, Some(end))
            }
            Event::Punch { node, offset, bytes } => (*node, *offset..offset.saturating_add(*bytes), None),
            Event::Resize { node, size } => (*node, *size..u64::MAX, None),
            _ => return Ok(()),
        };
        let row = self.row(lsn, node)?;
        if !row.meta.kind.is_file() {
            return Err(JournalError::Inconsistent { lsn, what: "bytes of something that is no file" });
        }
        self.content.note_size(node, row.meta.size, row.longest);
        let place = self.record_bytes(event, &range, row.meta.size, places, undo)?;
        match (event, place) {
            (Event::Write { .. }, Some(from)) => self.content.wrote(node, range.clone(), from),
            (Event::Write { .. }, None) => {}
            _ => self.content.wrote_zeros(node, range.clone()),
        }
        let size = match (event, size_after) {
            (Event::Resize { size, .. }, _) => *size,
            (_, Some(end)) => row.meta.size.max(end),
            _ => row.meta.size,
        };
        let external = matches!(event, Event::Write { data: Payload::External { .. }, .. });
        let lost = external && (lsn > self.external_known || self.lost.is_some_and(|lost| lost.is_lost(lsn)));
        self.change_node(lsn, node, replaced, |row| {
            match event {
                Event::Write { .. } if lost => row.lose(range.start),
                Event::Write { .. } | Event::Punch { .. } => row.learn(&range),
                _ => {}
            }
            row.resize(size);
        })
    }

    /// Records what an event replaces; where its bytes lie, if they are in the journal.
    fn record_bytes(
        &mut self,
        event: &Event,
        range: &std::ops::Range<u64>,
        size: u64,
        places: &mut std::slice::Iter<'_, PayloadAt>,
        undo: &mut Option<ContentUndo<'_>>,
    ) -> Result<Option<WrittenFrom>, JournalError> {
        let (mut from, mut loaded) = (None, None);
        let (node, before) = match event {
            Event::Write { node, data, before, .. } => {
                match data {
                    Payload::Stored(at) => from = Some(WrittenFrom::Redo(*at)),
                    Payload::Inline(bytes) => {
                        from = places.next().copied().map(WrittenFrom::Redo);
                        loaded = Some(bytes.clone());
                    }
                    Payload::Undone { at, skip, known, .. } => {
                        from = Some(WrittenFrom::Undone(*at, *skip));
                        loaded.clone_from(known);
                    }
                    Payload::External { .. } => return Ok(None),
                }
                if let (None, Some(undo), true) = (&loaded, &mut *undo, from.is_some()) {
                    loaded = Some((undo.load)(data)?);
                }
                (*node, *before)
            }
            Event::Punch { node, .. } | Event::Resize { node, .. } => (*node, None),
            _ => return Ok(None),
        };
        let Some(undo) = undo else { return Ok(from) };
        let redo = match from {
            Some(WrittenFrom::Redo(at)) => Some(at),
            Some(WrittenFrom::Undone(..)) | None => None,
        };
        let change = Replacing { node, range: range.clone(), new: loaded.as_deref(), redo, size, before };
        self.content.replace(&change, undo.old, undo.sink)?;
        Ok(from)
    }

    /// Ends the batch.
    ///
    /// # Errors
    /// As the tables.
    pub fn finish(self) -> Result<Finished, JournalError> {
        let mut touched = Vec::with_capacity(self.touched.len());
        for node in self.touched {
            let row = match self.overlay.node(node)? {
                Some(row) => row,
                None => continue,
            };
            touched.push((node, row));
        }
        let digests = super::digests::changed(&self.overlay)?;
        let mut puts = self.overlay.into_puts();
        puts.extend(digests);
        Ok(Finished { puts, before: self.before, touched, removals: self.removals })
    }
}
