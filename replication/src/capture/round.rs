//! The telling part of a round: from a closed picture to captures.
//!
//! Names first, group by group as the order has them, each group with the bytes and attributes of the nodes in it;
//! then nodes that changed where they stand; then the attributes of directories. The index follows each step.

use super::CaptureError;
use super::core::Core;
use super::facts::{Facts, Seen};
use super::hints::Due;
use super::index::Row;
use super::look::{Sort, XattrsOf, look_open, xattrs, xattrs_hash};
use super::node::Place;
use super::watch::Why;
use journal::serialize::{Before, Change, Order, SerializeError, Step, serialize};
use journal::{Edge, Event, Kind, Meta, NodeId, RootNo, SkippedWhat, Timestamp, Xattrs};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// Hints taken into one round.
const HINTS_MAX: usize = 20_000;
/// A look that came to nothing this often is told as far as it goes.
const TRIES_MAX: u32 = 5;
/// How long a write through a name that is gone may belong to whoever appears elsewhere.
const UNATTRIBUTED: Duration = Duration::from_secs(2);
/// Former names remembered.
const FORMER_MAX: usize = 1 << 12;
/// Most files opened before a group is told.
const OPEN_MAX: usize = 64;

/// The old state as the serializer asks for it.
struct Known<'a> {
    core: &'a Core,
    facts: &'a Facts,
}

impl Before for Known<'_> {
    type Error = CaptureError;

    fn names(&self, node: NodeId) -> Result<Vec<Edge>, CaptureError> {
        self.core.index.names_of(node)
    }

    fn is_directory(&self, node: NodeId) -> Result<bool, CaptureError> {
        if let Some(fact) = self.facts.nodes.get(&node) {
            return Ok(fact.look.sort == Sort::Directory);
        }
        Ok(self.core.index.row(node)?.is_some_and(|row| row.sort() == Sort::Directory))
    }
}

impl Core {
    /// One round over what is due, or over everything if a barrier waits.
    pub(super) fn round(&mut self) -> Result<(), CaptureError> {
        let mut facts = Facts { epoch: self.hints.epoch(), ..Facts::default() };
        let Due { names, directories } = self.hints.take_due(self.hurry, HINTS_MAX);
        for (edge, hint) in names {
            facts.epoch = facts.epoch.min(hint.epoch);
            self.take_hint(&mut facts, edge, hint);
        }
        for (directory, epoch) in directories {
            facts.epoch = facts.epoch.min(epoch);
            facts.directories.insert(directory);
            facts.touched.insert(directory, epoch);
        }
        while facts.len() < self.config.looks_max.div_ceil(8) {
            let Some((node, hint, span)) = self.hints.take_list() else { break };
            facts.epoch = facts.epoch.min(hint.epoch);
            facts.compare |= hint.compare;
            self.list(&mut facts, node, hint, span)?;
        }
        self.gather(&mut facts)?;
        if self.overflowed {
            // A rescan follows that looks at all of this again.
            return Ok(());
        }
        self.tell(&mut facts)
    }

    /// Whoever moved may be who was written through a name that is gone: its times need not show that, for the
    /// kernel's clock is coarse and anybody can set them.
    fn attribute_writes(&mut self, facts: &mut Facts) -> Result<(), CaptureError> {
        if facts.unattributed {
            self.unattributed = Some(Instant::now());
        }
        // Where it moved to may be told of in a later round.
        if self.unattributed.is_some_and(|at| at.elapsed() < UNATTRIBUTED) {
            for (node, fact) in &mut facts.nodes {
                for edge in &fact.at {
                    let moved = self.index.child(edge)? != Some(*node);
                    fact.content |= moved && fact.look.sort == Sort::File;
                    fact.attributes |= moved;
                }
            }
        }
        // Looked at again, it was not there any more: it is read wherever it is found.
        let lost =
            facts.nodes.iter().filter(|(_, fact)| fact.content && fact.at.is_empty() && fact.row.is_some());
        self.owed.extend(lost.map(|(node, _)| *node));
        Ok(())
    }

    fn tell(&mut self, facts: &mut Facts) -> Result<(), CaptureError> {
        self.attribute_writes(facts)?;
        let mut changes: BTreeMap<RootNo, Vec<Change>> = BTreeMap::new();
        for (edge, seen) in &facts.seen {
            let new = match seen {
                Seen::Unknown => continue,
                Seen::Absent => None,
                Seen::There(node) => Some(*node),
            };
            let old = self.index.child(edge)?;
            if old == new {
                continue;
            }
            if let Some(root) = self.root_of(facts, edge.parent)? {
                changes.entry(root).or_default().push(Change { edge: edge.clone(), old, new });
            }
        }
        for (root, changes) in changes {
            match serialize(root, &changes, &Known { core: self, facts }) {
                Ok(order) => self.tell_order(facts, root, &order)?,
                Err(SerializeError::Before(error)) => return Err(error),
                Err(error) => {
                    // Looks at different times contradict each other; the notifications of it are on their way.
                    tracing::debug!(%error, "names moved while they were looked at");
                    self.put_back(facts, changes.into_iter().map(|change| change.edge))?;
                }
            }
        }
        let nodes: BTreeSet<NodeId> = facts.nodes.keys().copied().collect();
        for node in nodes {
            let Some(fact) = facts.nodes.get(&node).filter(|fact| fact.look.sort != Sort::Directory) else {
                continue;
            };
            if let Some(edge) = fact.at.last().cloned() {
                self.examine(facts, node, &edge, None)?;
            }
        }
        for directory in std::mem::take(&mut facts.directories) {
            self.examine_directory(facts, directory)?;
        }
        self.put_back_waiting(facts)
    }

    /// Has names looked at again in the next round.
    fn put_back(&mut self, facts: &Facts, edges: impl Iterator<Item = Edge>) -> Result<(), CaptureError> {
        for edge in edges.filter(|edge| !edge.parent.is_kept_area()) {
            self.look_later(facts, &edge)?;
        }
        Ok(())
    }

    fn tell_order(&mut self, facts: &Facts, root: RootNo, order: &Order) -> Result<(), CaptureError> {
        let mut parents: HashMap<NodeId, Option<Timestamp>> = HashMap::new();
        let mut groups = order.groups();
        while let Some(group) = groups.next() {
            let files = match self.open_files(facts, group)? {
                Ok(files) => files,
                Err(edge) => {
                    // The file was replaced or removed after the look. Alone it may as well never have been there; in
                    // company the rest must wait, for a name must not be shown without its bytes.
                    self.put_back(facts, group.iter().flat_map(names))?;
                    let tried = facts.hints.get(&edge).is_some_and(|hint| hint.tries >= TRIES_MAX);
                    if group.len() == 1 {
                        continue;
                    }
                    if !tried {
                        self.put_back(facts, groups.flatten().flat_map(names))?;
                        return Ok(());
                    }
                    HashMap::new()
                }
            };
            let path = match group.iter().rev().find_map(|step| step.takes().or(step.frees())) {
                Some(edge) if !edge.parent.is_kept_area() => self.path_of_edge(facts, edge)?,
                _ => Vec::new(),
            };
            self.out.begin(root, path)?;
            let mut nodes = BTreeSet::new();
            for step in group {
                self.tell_step(facts, root, step, &files, &mut parents)?;
                nodes.insert(step.node());
            }
            for node in nodes {
                let Some(fact) = facts.nodes.get(&node).filter(|fact| fact.look.sort != Sort::Directory)
                else {
                    continue;
                };
                if let Some(edge) = fact.at.last().cloned() {
                    self.examine(facts, node, &edge, files.get(&node))?;
                }
            }
            self.out.end()?;
        }
        Ok(())
    }

    /// Opens the files of a group whose bytes are to be told, or says which is not there any more.
    #[allow(clippy::type_complexity)]
    fn open_files(
        &mut self,
        facts: &Facts,
        group: &[Step],
    ) -> Result<Result<HashMap<NodeId, OwnedFd>, Edge>, CaptureError> {
        let mut files = HashMap::new();
        for step in group.iter().filter(|step| step.takes().is_some()).take(OPEN_MAX) {
            let node = step.node();
            let Some(fact) = facts.nodes.get(&node).filter(|fact| fact.look.sort == Sort::File) else {
                continue;
            };
            let Some(edge) = fact.at.last() else { continue };
            let wanted = match &fact.row {
                None => true,
                Some(row) => self.wants_content(node, fact, row, edge)?,
            };
            if !wanted || files.contains_key(&node) {
                continue;
            }
            match self.open_node(facts, node, edge)? {
                Ok(file) => _ = files.insert(node, file),
                Err(rustix::io::Errno::NOENT) => {
                    if fact.row.is_some() {
                        self.owed.insert(node);
                    }
                    return Ok(Err(edge.clone()));
                }
                // It is there but may not be read: `examine` reports that.
                Err(_) => {}
            }
        }
        Ok(Ok(files))
    }

    /// Writes the event of a step and lets the index follow.
    fn tell_step(
        &mut self,
        facts: &Facts,
        root: RootNo,
        step: &Step,
        files: &HashMap<NodeId, OwnedFd>,
        parents: &mut HashMap<NodeId, Option<Timestamp>>,
    ) -> Result<(), CaptureError> {
        let mut batch = self.index.batch();
        match step {
            Step::Create { node, at } => self.tell_create(facts, root, *node, at, files.get(node), parents),
            Step::Link { node, at } => {
                self.index.put_edge(&mut batch, at, *node);
                self.index.commit(batch)?;
                let parent_mtime = self.parent_mtime(facts, at.parent, parents)?;
                self.out.push(Event::Link { node: *node, at: at.clone(), parent_mtime })
            }
            Step::Remove { node, at } => {
                self.index.remove_edge(&mut batch, at, *node);
                if self.index.names_of(*node)?.iter().all(|name| name == at) {
                    self.index.put_edge(&mut batch, &Edge::new(NodeId::kept(root), node.kept_name()), *node);
                    self.limbo.push(*node);
                    self.directories.clear();
                } else {
                    if self.former.len() >= FORMER_MAX {
                        self.former.clear();
                    }
                    self.former.insert(at.clone(), *node);
                }
                self.index.commit(batch)?;
                self.unskip(at)?;
                let parent_mtime = self.parent_mtime(facts, at.parent, parents)?;
                self.out.push(Event::Remove { node: *node, at: at.clone(), parent_mtime })
            }
            Step::Rename { node, from, to } => {
                self.index.remove_edge(&mut batch, from, *node);
                self.index.put_edge(&mut batch, to, *node);
                self.index.commit(batch)?;
                self.unskip(from)?;
                let from_parent_mtime = self.parent_mtime(facts, from.parent, parents)?;
                let to_parent_mtime = self.parent_mtime(facts, to.parent, parents)?;
                let (node, from, to) = (*node, from.clone(), to.clone());
                self.out.push(Event::Rename { node, from, to, from_parent_mtime, to_parent_mtime })
            }
        }
    }

    /// Something new: its row, its name, its metadata.
    fn tell_create(
        &mut self,
        facts: &Facts,
        root: RootNo,
        node: NodeId,
        at: &Edge,
        file: Option<&OwnedFd>,
        parents: &mut HashMap<NodeId, Option<Timestamp>>,
    ) -> Result<(), CaptureError> {
        let mut batch = self.index.batch();
        let Some(fact) = facts.nodes.get(&node) else { return Ok(()) };
        let kind = kind_of(facts, node);
        let mut row = Row::new(root, fact.origin, &fact.look, &kind);
        let set = match self.xattrs_of(facts, at, file)? {
            Some(set) => set,
            None => {
                self.look_later(facts, at)?;
                row.attributes.ctime = Timestamp(0);
                Vec::new()
            }
        };
        row.xattrs = xattrs_hash(&set);
        let meta = Meta { kind, size: 0, attributes: fact.look.attributes, xattrs: set };
        self.index.put_row(&mut batch, node, &row)?;
        self.index.put_origin(&mut batch, root, &fact.origin, node);
        self.index.put_edge(&mut batch, at, node);
        self.index.commit(batch)?;
        match fact.look.sort {
            Sort::Directory => self.counters.directories += 1,
            _ => self.counters.files += 1,
        }
        let parent_mtime = self.parent_mtime(facts, at.parent, parents)?;
        let origin = Some(fact.origin);
        self.out.push(Event::Create { node, at: at.clone(), meta, origin, parent_mtime })
    }

    /// The parent's modification time as it is now; the index takes it over, for the event says it.
    fn parent_mtime(
        &mut self,
        facts: &Facts,
        parent: NodeId,
        parents: &mut HashMap<NodeId, Option<Timestamp>>,
    ) -> Result<Option<Timestamp>, CaptureError> {
        if parent.is_kept_area() {
            return Ok(None);
        }
        if let Some(known) = parents.get(&parent) {
            return Ok(*known);
        }
        let mtime = match self.directory(facts, parent)? {
            Place::Open(directory) => look_open(directory.as_fd()).ok().map(|look| look.attributes.mtime),
            _ => None,
        };
        parents.insert(parent, mtime);
        if let (Some(mtime), Some(mut row)) = (mtime, self.index.row(parent)?)
            && row.attributes.mtime != mtime
        {
            row.attributes.mtime = mtime;
            let mut batch = self.index.batch();
            self.index.put_row(&mut batch, parent, &row)?;
            self.index.commit(batch)?;
        }
        Ok(mtime)
    }

    /// Has a name looked at in the next round: it moved while it was told of.
    pub(super) fn look_later(&mut self, facts: &Facts, edge: &Edge) -> Result<(), CaptureError> {
        let why = Why { name: true, attributes: true, ..Why::default() };
        self.again(facts, edge.clone(), why, facts.epoch)
    }

    /// Extended attributes of something at a name; empty, and reported, if they may not be read; `None` if it is not
    /// there.
    pub(super) fn xattrs_of(
        &mut self,
        facts: &Facts,
        edge: &Edge,
        file: Option<&OwnedFd>,
    ) -> Result<Option<Xattrs>, CaptureError> {
        let result = match file {
            Some(file) => xattrs(XattrsOf::Open(file.as_fd())),
            None => match self.directory(facts, edge.parent)? {
                Place::Open(directory) => xattrs(XattrsOf::Entry(directory.as_fd(), &edge.name)),
                _ => return Ok(None),
            },
        };
        match result {
            Ok(set) => {
                self.unskip_what(edge, SkippedWhat::Xattrs)?;
                Ok(Some(set))
            }
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => Ok(None),
            Err(errno @ rustix::io::Errno::STALE) => {
                self.reopen_ways(facts, edge.parent, errno)?;
                Ok(None)
            }
            Err(errno) => {
                self.skip(edge, SkippedWhat::Xattrs, errno, facts)?;
                Ok(Some(Vec::new()))
            }
        }
    }
}

/// The names a step is about.
fn names(step: &Step) -> impl Iterator<Item = Edge> {
    step.frees().into_iter().chain(step.takes()).cloned()
}

fn kind_of(facts: &Facts, node: NodeId) -> Kind {
    let Some(fact) = facts.nodes.get(&node) else { return Kind::File };
    match fact.look.sort {
        Sort::File => Kind::File,
        Sort::Directory => Kind::Directory,
        Sort::Symlink => Kind::Symlink(fact.target.clone()),
        Sort::Fifo => Kind::Fifo,
        Sort::Socket => Kind::Socket,
        Sort::CharDevice => Kind::CharDevice(fact.look.rdev),
        Sort::BlockDevice => Kind::BlockDevice(fact.look.rdev),
    }
}
