//! The looking part of a round: from hints to a closed picture of the names they concern.
//!
//! A picture is closed when, for every node found under a new name, its other names were looked at; when, for every
//! name that changed hands, so were the other names of who stood there; and when no notification arrived meanwhile
//! that concerns a name in the picture. A directory found twice is looked at again: it has one name. Under a writer
//! that never pauses the number of attempts is bounded; what is told then may show a move as a removal and a creation,
//! never a wrong tree, and the notifications that are still waiting lead to the next look.

use super::CaptureError;
use super::core::Core;
use super::hints::{Hint, ListHint};
use super::index::Row;
use super::look::{Look, Sort};
use super::node::{Found, Place};
use super::watch::Why;
use journal::{Edge, NodeId, Origin, RootNo, SkippedWhat};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

/// What a look at a name found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// Nothing, or something that is left out.
    Absent,
    There(NodeId),
    /// It could not be looked at: what the index says stands.
    Unknown,
}

/// A node found in this round.
#[derive(Debug)]
pub(super) struct NodeFact {
    pub root: RootNo,
    pub origin: Origin,
    pub look: Look,
    /// As in the index; `None`: new.
    pub row: Option<Row>,
    /// Where it was seen, oldest look first.
    pub at: Vec<Edge>,
    /// Bytes were written, say notifications.
    pub content: bool,
    /// Attributes or extended attributes were set, say notifications.
    pub attributes: bool,
    /// No notification vouches for it: compare as a rescan does.
    pub compare: bool,
    /// What a new link points to.
    pub target: Vec<u8>,
    /// Epoch of the hint that led to it.
    pub epoch: u64,
}

/// The picture of one round.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub seen: HashMap<Edge, Seen>,
    pub nodes: HashMap<NodeId, NodeFact>,
    /// New nodes by inode.
    pub origins: HashMap<(RootNo, Origin), NodeId>,
    /// Hints taken for this round, to be put back if it comes to nothing.
    pub hints: HashMap<Edge, Hint>,
    /// Directories whose own attributes may have changed.
    pub directories: BTreeSet<NodeId>,
    /// Hints at directories themselves, with their epochs.
    pub touched: HashMap<NodeId, u64>,
    /// Names to look at.
    pub queue: VecDeque<(Edge, Why)>,
    /// Names whose directory was not found where it should be.
    pub waiting: BTreeMap<Edge, Why>,
    /// Directories to be listed that were not found, and the name that led nowhere.
    pub unlisted: Vec<(NodeId, ListHint, Edge)>,
    /// Names that could not be looked at, which is said: hints below them are given up, see `obstacles`.
    pub blocked: HashSet<Edge>,
    /// Something was changed through a name under which it is not to be found any more.
    pub unattributed: bool,
    pub epoch: u64,
    pub compare: bool,
}

impl Facts {
    /// How much memory it takes, in names.
    pub(super) fn len(&self) -> usize {
        self.seen.len() + self.queue.len() + self.waiting.len()
    }

    pub(super) fn wait(&mut self, edge: Edge, why: Why) {
        self.waiting.entry(edge).or_default().merge(why);
    }

    /// Where a node was seen last.
    pub(super) fn place(&self, node: NodeId) -> Option<&Edge> {
        self.nodes.get(&node)?.at.last()
    }

    pub(super) fn forget_look(&mut self, edge: &Edge) {
        if let Some(Seen::There(node)) = self.seen.remove(edge)
            && let Some(fact) = self.nodes.get_mut(&node)
        {
            fact.at.retain(|at| at != edge);
        }
    }

    pub(super) fn see(&mut self, edge: &Edge, seen: Seen) {
        self.forget_look(edge);
        self.seen.insert(edge.clone(), seen);
    }

    /// Directories that were lost: their name is gone and they were not found elsewhere.
    pub(super) fn is_gone(&self, core: &Core, node: NodeId) -> Result<bool, CaptureError> {
        if node.as_root_or_kept().is_some() {
            return Ok(node.is_kept_area());
        }
        if let Some(fact) = self.nodes.get(&node) {
            return Ok(fact.at.is_empty());
        }
        let names = core.index.names_of(node)?;
        Ok(!names.iter().any(|edge| {
            !edge.parent.is_kept_area()
                && self.seen.get(edge).is_none_or(|seen| matches!(seen, Seen::Unknown))
        }))
    }
}

/// Looks again this often when notifications keep arriving.
const TRIES_MAX: usize = 12;

impl Core {
    /// Looks at everything in the queue, and at what that leads to, until the picture is closed.
    pub(super) fn gather(&mut self, facts: &mut Facts) -> Result<(), CaptureError> {
        for attempt in 0..TRIES_MAX {
            self.look_all(facts)?;
            self.drain()?;
            if self.overflowed {
                return Ok(());
            }
            let mut again = self.hints.take_related(|edge| facts.seen.contains_key(edge));
            if attempt + 1 < TRIES_MAX {
                self.look_at_doubles(facts);
            }
            if again.is_empty() && facts.queue.is_empty() {
                break;
            }
            if attempt + 1 == TRIES_MAX {
                for (edge, hint) in again.drain(..) {
                    self.hints.put_back(edge, hint);
                }
            }
            for (edge, hint) in again {
                facts.forget_look(&edge);
                self.take_hint(facts, edge, hint);
            }
        }
        self.settle(facts)
    }

    /// Enters a hint into the picture.
    pub(super) fn take_hint(&mut self, facts: &mut Facts, edge: Edge, hint: Hint) {
        if hint.why.name {
            facts.directories.insert(edge.parent);
        }
        facts.epoch = facts.epoch.min(hint.epoch);
        facts.queue.push_back((edge.clone(), hint.why));
        let known = facts.hints.entry(edge).or_insert(hint);
        known.why.merge(hint.why);
        known.tries = known.tries.max(hint.tries);
    }

    /// Looks at the queue. Names whose directory cannot be found wait until the names above were looked at.
    fn look_all(&mut self, facts: &mut Facts) -> Result<(), CaptureError> {
        loop {
            facts.queue.extend(std::mem::take(&mut facts.waiting));
            let mut progress = false;
            // Many may wait for one directory: it is looked for once a pass.
            let mut sought: HashSet<Edge> = HashSet::new();
            while let Some((edge, why)) = facts.queue.pop_front() {
                if let Some(seen) = facts.seen.get(&edge).copied() {
                    self.merge(facts, &edge, seen, why)?;
                    continue;
                }
                match self.look(facts, &edge, why)? {
                    None => progress = true,
                    // Covered by a mount, or not to be searched: compared when that ends.
                    Some(doubt) if facts.blocked.contains(&doubt) => {}
                    Some(doubt) => {
                        if !facts.seen.contains_key(&doubt) && doubt != edge && sought.insert(doubt.clone()) {
                            facts.queue.push_back((doubt, Why::default()));
                        }
                        facts.wait(edge, why);
                    }
                }
            }
            if !progress || facts.waiting.is_empty() {
                return Ok(());
            }
        }
    }

    /// A further hint at a name that was looked at in this round.
    fn merge(&mut self, facts: &mut Facts, edge: &Edge, seen: Seen, why: Why) -> Result<(), CaptureError> {
        match seen {
            Seen::There(node) => {
                if let Some(fact) = facts.nodes.get_mut(&node) {
                    fact.content |= why.content;
                    fact.attributes |= why.attributes;
                    if why.content && fact.row.is_some() {
                        self.owed.insert(node);
                    }
                }
            }
            Seen::Absent => {
                facts.unattributed |= why.content || why.attributes;
                if why.content {
                    self.owed.extend(self.index.child(edge)?);
                }
            }
            // Said, and looked at again when that may help.
            Seen::Unknown => {}
        }
        Ok(())
    }

    fn drop_name(&mut self, edge: &Edge, epoch: u64) {
        self.drop_hint(edge.parent, ListHint { epoch, recursive: false, compare: true, tries: 0 });
    }

    /// After the telling: what still waits stands in directories that are gone, or that moved while they were looked
    /// for, or whose removal could not be told yet.
    pub(super) fn put_back_waiting(&mut self, facts: &mut Facts) -> Result<(), CaptureError> {
        for (edge, why) in std::mem::take(&mut facts.waiting) {
            if self.is_attached(edge.parent)? {
                self.again(facts, edge, why, facts.epoch)?;
            } else {
                self.owe_elsewhere(&edge, why, facts.epoch)?;
                self.drop_name(&edge, facts.epoch);
            }
        }
        for (directory, hint, doubt) in std::mem::take(&mut facts.unlisted) {
            if !self.is_attached(directory)? {
                self.drop_hint(directory, hint);
            } else if !facts.blocked.contains(&doubt) {
                self.list_again(facts, directory, hint, &doubt)?;
            }
        }
        self.take_dropped()
    }

    /// A hint goes with the directory of its name. If bytes of the file are owed, it is looked for under another name that it
    /// has, which nothing else points at; looked at in vain, that one leads to all the others.
    fn owe_elsewhere(&mut self, edge: &Edge, why: Why, epoch: u64) -> Result<(), CaptureError> {
        let Some(node) = self.index.child(edge)? else { return Ok(()) };
        if !why.content && !self.owed.contains(&node) {
            return Ok(());
        }
        for name in self.index.names_of(node)? {
            // Only what is not dropped itself: two names in directories that are gone would point at each other.
            if name != *edge && self.is_attached(name.parent)? {
                self.hints.name(name, Why { content: true, attributes: true, ..Why::default() }, epoch);
                return Ok(());
            }
        }
        Ok(())
    }

    /// Whether a directory hangs under a root as far as the stream goes.
    pub(super) fn is_attached(&self, directory: NodeId) -> Result<bool, CaptureError> {
        let mut at = directory;
        for _ in 0..1 << 16 {
            if at.as_root_or_kept().is_some() {
                return Ok(!at.is_kept_area());
            }
            match self.index.names_of(at)?.into_iter().next() {
                Some(edge) => at = edge.parent,
                None => return Ok(false),
            }
        }
        Ok(false)
    }

    /// Looks at one name. Returns the name that stands in the way if its directory cannot be found.
    pub(super) fn look(
        &mut self,
        facts: &mut Facts,
        edge: &Edge,
        why: Why,
    ) -> Result<Option<Edge>, CaptureError> {
        let directory = match self.directory(facts, edge.parent)? {
            Place::Open(directory) => directory,
            Place::Gone(Some(doubt)) => return Ok(Some(doubt)),
            Place::Gone(None) if self.is_lost(facts, edge.parent)? => return Ok(None),
            // In a directory that was removed a moment ago.
            Place::Gone(None) => return Ok(Some(edge.clone())),
            Place::Denied(at, errno) => {
                self.obstruct(facts, &at, errno)?;
                facts.see(edge, Seen::Unknown);
                facts.blocked.insert(edge.clone());
                return Ok(None);
            }
        };
        let Some(root) = self.root_of(facts, edge.parent)? else { return Ok(None) };
        if self.is_excluded(facts, root, edge)? {
            facts.see(edge, Seen::Absent);
            self.close_edge(facts, edge, None, why)?;
            return Ok(None);
        }
        // Who stood at a name that could not be looked at may be found elsewhere now.
        facts.compare |= self.is_skipped_whole(edge)?;
        let (look, origin) = match self.identify_anew(facts, root, edge, &directory)? {
            Ok(Found::Node(look, origin)) => (look, origin),
            Ok(Found::Restless) => return Ok(Some(edge.clone())),
            Ok(Found::Nothing) => {
                facts.see(edge, Seen::Absent);
                self.unskip(edge)?;
                self.close_edge(facts, edge, None, why)?;
                return Ok(None);
            }
            Err(errno) => {
                self.see_obstacle(facts, edge, errno)?;
                return Ok(None);
            }
        };
        if self.is_mount(root, &look) {
            self.skip(edge, SkippedWhat::MountPoint, rustix::io::Errno::XDEV, facts)?;
            facts.see(edge, Seen::Unknown);
            facts.blocked.insert(edge.clone());
            return Ok(None);
        }
        if self.lacks(edge, SkippedWhat::MountPoint)? {
            self.uncover(facts, edge)?;
        }
        let node = self.node_of(facts, root, edge, &look, &origin)?;
        if !self.enter(facts, root, node, edge, look, origin, why)? {
            return Ok(Some(edge.clone()));
        }
        if look.sort != Sort::Directory && !facts.blocked.contains(edge) {
            self.unskip_what(edge, SkippedWhat::Node)?;
        }
        Ok(None)
    }

    /// Whether the root of a directory is not where it was: it is compared as a whole when it is back.
    pub(super) fn is_lost(&self, facts: &Facts, directory: NodeId) -> Result<bool, CaptureError> {
        let root = self.root_of(facts, directory)?;
        Ok(root.and_then(|root| self.root(root)).is_none_or(|root| root.lost))
    }

    /// Enters a found node: closure over its other names, watch and list of a new directory. `false`: it is not what
    /// it was any more.
    #[allow(clippy::too_many_arguments)]
    fn enter(
        &mut self,
        facts: &mut Facts,
        root: RootNo,
        node: NodeId,
        edge: &Edge,
        look: Look,
        origin: Origin,
        why: Why,
    ) -> Result<bool, CaptureError> {
        facts.see(edge, Seen::There(node));
        let first = !facts.nodes.contains_key(&node);
        if first {
            let row = self.index.row(node)?;
            let link = row.is_none() && look.sort == Sort::Symlink;
            let target = match if link { self.target(facts, edge)? } else { Ok(Some(Vec::new())) } {
                Ok(Some(target)) => target,
                Ok(None) => {
                    // It was replaced after the look: it waits, and what is below it waits with it.
                    facts.forget_look(edge);
                    return Ok(false);
                }
                Err(errno) => {
                    self.see_obstacle(facts, edge, errno)?;
                    return Ok(true);
                }
            };
            let (compare, epoch) = (facts.compare, facts.epoch);
            let (at, content, attributes) = (Vec::new(), false, false);
            facts.nodes.insert(
                node,
                NodeFact { root, origin, look, row, at, content, attributes, compare, target, epoch },
            );
        }
        let Some(fact) = facts.nodes.get_mut(&node) else { return Ok(true) };
        fact.look = look;
        fact.content |= why.content;
        fact.attributes |= why.attributes;
        // Until it has been read it is owed, whatever becomes of this look.
        if why.content && fact.row.is_some() && look.sort == Sort::File {
            self.owed.insert(node);
        }
        fact.compare |= facts.compare;
        fact.at.push(edge.clone());
        let fresh = fact.row.is_none();
        if fresh {
            facts.origins.insert((root, origin), node);
        } else if first {
            self.close_names(facts, node, edge)?;
        }
        self.close_edge(facts, edge, Some(node), why)?;
        if look.sort == Sort::Directory && first {
            facts.directories.insert(node);
            // Back from outside, or found elsewhere by a rescan: nobody vouches for what it holds.
            let doubted = facts.nodes.get(&node).is_some_and(|fact| fact.compare);
            let moved = self.index.child(edge)? != Some(node);
            let again = (doubted && moved) || !self.watch.has(node) || self.has_skip(edge)?;
            if fresh || again {
                self.adopt_directory(facts, node, edge, fresh)?;
            }
        }
        Ok(true)
    }

    /// The other names of a node that was found: it may have left them.
    fn close_names(&mut self, facts: &mut Facts, node: NodeId, found_at: &Edge) -> Result<(), CaptureError> {
        let moved = self.index.child(found_at)? != Some(node);
        for name in self.index.names_of(node)? {
            if name == *found_at {
                continue;
            }
            if !self.is_attached(name.parent)? || (moved && self.is_below_skip(&name)?) {
                // Back from outside, or out of a directory that was removed or could not be looked into: nobody
                // watched it there, or hints at what it holds were given up.
                if let Some(fact) = facts.nodes.get_mut(&node) {
                    fact.content |= fact.look.sort == Sort::File;
                    fact.attributes = true;
                    fact.compare = true;
                }
            }
            if !name.parent.is_kept_area() && !facts.seen.contains_key(&name) {
                facts.queue.push_back((name, Why::default()));
            }
        }
        Ok(())
    }

    /// A name changed hands: who stood there may have other names, whose link count and ctime have changed.
    fn close_edge(
        &mut self,
        facts: &mut Facts,
        edge: &Edge,
        now: Option<NodeId>,
        why: Why,
    ) -> Result<(), CaptureError> {
        let before = self.index.child(edge)?;
        if before == now && before.is_some() {
            return Ok(());
        }
        facts.unattributed |= why.content || why.attributes;
        let before = match before {
            Some(before) => before,
            None => match self.former.get(edge).copied().filter(|_| why.content || why.attributes) {
                Some(former) => former,
                None => return Ok(()),
            },
        };
        if why.content {
            self.owed.insert(before);
        }
        for name in self.index.names_of(before)? {
            if name != *edge && !name.parent.is_kept_area() && !facts.seen.contains_key(&name) {
                facts.queue.push_back((name, Why { attributes: true, ..Why::default() }));
            }
        }
        Ok(())
    }
}
