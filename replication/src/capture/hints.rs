//! Hints that wait for a look, merged: one entry a name however often it was told of.
//!
//! Each hint carries the *epoch* in which it (or the hint it stems from) was first noticed. A barrier ends an epoch
//! and waits until no hint of it or an earlier one is left. Memory is bounded by the caller, who turns too many hints
//! into an overflow.

use super::span::Span;
use super::watch::Why;
use journal::{Edge, NodeId};
use std::collections::BTreeMap;
use std::time::Instant;

/// Directories to be listed of which more are made before those under way go on.
const LISTS_MAX: usize = 1 << 14;
/// Among more than that, one in so many listings is one under way.
const CONTINUED_EVERY: u64 = 64;

/// A hint at a name.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Hint {
    pub why: Why,
    pub epoch: u64,
    /// Do not look before, unless a barrier waits.
    pub not_before: Option<Instant>,
    /// Do not look before, whoever waits.
    pub paused: Option<Instant>,
    /// How often a look at it came to nothing because things moved.
    pub tries: u32,
}

/// A directory to be listed and compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ListHint {
    pub epoch: u64,
    /// Also everything below it.
    pub recursive: bool,
    /// Compare nodes with the index as a rescan does: no notification vouches for them.
    pub compare: bool,
    /// How often it was not found because things moved.
    pub tries: u32,
}

impl ListHint {
    /// One hint that does what both ask for.
    pub(super) fn merge(&mut self, other: ListHint) {
        self.epoch = self.epoch.min(other.epoch);
        self.recursive |= other.recursive;
        self.compare |= other.compare;
        self.tries = self.tries.max(other.tries);
    }
}

/// Hints taken into a round.
pub(super) struct Due {
    pub names: Vec<(Edge, Hint)>,
    /// Directories to be looked at themselves, and since which epoch.
    pub directories: Vec<(NodeId, u64)>,
}

/// All hints that wait.
#[derive(Debug, Default)]
pub(super) struct Hints {
    names: BTreeMap<Edge, Hint>,
    directories: BTreeMap<NodeId, u64>,
    lists: BTreeMap<NodeId, ListHint>,
    /// Listings under way, and what of the directory comes next. A new hint at such a directory waits until the
    /// listing has ended: it ends, however many come.
    continued: BTreeMap<NodeId, (ListHint, Span)>,
    /// Directories that were not found: they are looked for after a pause.
    paused: BTreeMap<NodeId, (ListHint, Instant)>,
    turn: u64,
    /// When the oldest hint of the present batch came.
    since: Option<Instant>,
    epoch: u64,
}

impl Hints {
    pub(super) fn len(&self) -> usize {
        self.names.len()
            + self.directories.len()
            + self.lists.len()
            + self.continued.len()
            + self.paused.len()
    }

    /// How many stem from notifications, which anybody can make at any rate.
    pub(super) fn told(&self) -> usize {
        self.names.len() + self.directories.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Ends the present epoch and returns it: what is noticed from now on belongs to the next one.
    pub(super) fn end_epoch(&mut self) -> u64 {
        self.epoch += 1;
        self.epoch - 1
    }

    /// The oldest epoch of which something waits.
    pub(super) fn oldest_epoch(&self) -> Option<u64> {
        let names = self.names.values().map(|hint| hint.epoch);
        let lists = self.lists.values().map(|hint| hint.epoch);
        let continued = self.continued.values().map(|(hint, _)| hint.epoch);
        let paused = self.paused.values().map(|(hint, _)| hint.epoch);
        names.chain(lists).chain(continued).chain(paused).chain(self.directories.values().copied()).min()
    }

    /// Whether something of this epoch or an earlier one waits.
    pub(super) fn owes(&self, epoch: u64) -> bool {
        self.oldest_epoch().is_some_and(|oldest| oldest <= epoch)
    }

    fn touch(&mut self) {
        self.since.get_or_insert_with(Instant::now);
    }

    pub(super) fn name(&mut self, edge: Edge, why: Why, epoch: u64) {
        self.put_back(edge, Hint { why, epoch, ..Hint::default() });
    }

    /// A hint that must be looked at again.
    pub(super) fn put_back(&mut self, edge: Edge, hint: Hint) {
        self.touch();
        let known = self.names.entry(edge).or_insert(hint);
        // A file may rest between two readings of its bytes, but not what happens to its name.
        let at_once = |hint: &Hint| hint.why.name && hint.not_before.is_none();
        let rests = !at_once(known) && !at_once(&hint);
        known.why.merge(hint.why);
        known.epoch = known.epoch.min(hint.epoch);
        known.tries = known.tries.max(hint.tries);
        known.paused = known.paused.max(hint.paused);
        known.not_before = if rests { known.not_before.max(hint.not_before) } else { None };
    }

    /// Whether bytes are said to have been written through this name.
    pub(super) fn is_written(&self, edge: &Edge) -> bool {
        self.names.get(edge).is_some_and(|hint| hint.why.content)
    }

    pub(super) fn directory(&mut self, node: NodeId, epoch: u64) {
        self.touch();
        let known = self.directories.entry(node).or_insert(epoch);
        *known = (*known).min(epoch);
    }

    pub(super) fn list(&mut self, node: NodeId, hint: ListHint) {
        self.touch();
        self.lists.entry(node).or_insert(hint).merge(hint);
    }

    /// The same, not before some time.
    pub(super) fn list_later(&mut self, node: NodeId, mut hint: ListHint, until: Instant) {
        self.touch();
        if let Some((known, _)) = self.paused.remove(&node) {
            hint.merge(known);
        }
        self.paused.insert(node, (hint, until));
    }

    /// Takes hints at names and directories that are due; all of them if `hurry`. At most `limit` names.
    pub(super) fn take_due(&mut self, hurry: bool, limit: usize) -> Due {
        let now = Instant::now();
        let over = |at: Option<Instant>| at.is_none_or(|at| at <= now);
        let due = |hint: &Hint| over(hint.paused) && (hurry || over(hint.not_before));
        for (node, (hint, _)) in self.paused.extract_if(.., |_, (_, until)| *until <= now) {
            self.lists.entry(node).or_insert(hint).merge(hint);
        }
        let names: Vec<(Edge, Hint)> = if self.names.len() <= limit {
            self.names.extract_if(.., |_, hint| due(hint)).collect()
        } else {
            self.names.extract_if(.., |_, hint| due(hint)).take(limit).collect()
        };
        let directories = std::mem::take(&mut self.directories).into_iter().collect();
        self.since = (!self.is_empty()).then(Instant::now);
        Due { names, directories }
    }

    /// A listing goes on with another stretch of the directory.
    pub(super) fn list_on(&mut self, node: NodeId, hint: ListHint, span: Span) {
        self.touch();
        self.continued.insert(node, (hint, span));
    }

    /// Takes the directory to list next, and the stretch of it: of what has not begun the newest one, so that few are
    /// waiting while a tree is walked. What has begun goes first, but not so that many pile up behind it.
    pub(super) fn take_list(&mut self) -> Option<(NodeId, ListHint, Span)> {
        self.turn = self.turn.wrapping_add(1);
        let first = self.lists.len() < LISTS_MAX || self.turn.is_multiple_of(CONTINUED_EVERY);
        let fresh = self.lists.keys().rev().find(|node| !self.continued.contains_key(node)).copied();
        if let Some(node) = fresh.filter(|_| !first || self.continued.is_empty()) {
            return self.lists.remove(&node).map(|hint| (node, hint, Span::ALL));
        }
        self.continued.pop_last().map(|(node, (hint, span))| (node, hint, span))
    }

    pub(super) fn has_lists(&self) -> bool {
        self.can_list() || !self.paused.is_empty()
    }

    /// Whether one may be listed now.
    pub(super) fn can_list(&self) -> bool {
        !self.lists.is_empty() || !self.continued.is_empty()
    }

    /// Takes hints that concern what was looked at just now: names in `looked`, and everything that arrived somewhere.
    pub(super) fn take_related(&mut self, looked: impl Fn(&Edge) -> bool) -> Vec<(Edge, Hint)> {
        self.names.extract_if(.., |edge, hint| hint.why.arrived || (hint.why.name && looked(edge))).collect()
    }

    /// When the next hint is due, if none is now. `hurry`: nothing rests, but for pauses.
    pub(super) fn next_due(&self, hurry: bool) -> Option<Instant> {
        if !self.directories.is_empty() || self.can_list() {
            return self.since;
        }
        let names = self.names.values();
        let due = names.map(|hint| if hurry { hint.paused } else { hint.not_before.max(hint.paused) });
        let lists = self.paused.values().map(|(_, until)| Some(*until));
        due.chain(lists).min().map(|at| at.or(self.since).unwrap_or_else(Instant::now))
    }

    /// Forgets everything: a rescan will look everywhere.
    pub(super) fn clear(&mut self) {
        self.names.clear();
        self.directories.clear();
        self.lists.clear();
        self.continued.clear();
        self.paused.clear();
        self.since = None;
    }
}

#[cfg(test)]
mod tests;
