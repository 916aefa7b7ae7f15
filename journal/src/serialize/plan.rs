//! From changed names to operations of nodes: what is created, linked, renamed, removed, and what must have left a
//! directory before it is removed.

use super::order::{DEPTH_MAX, Goal, Op, Outcome, Scheduler, State};
use super::{Before, Change, SerializeError};
use crate::id::{Edge, NodeId};
use std::collections::{HashMap, HashSet};

impl<B: Before> Scheduler<'_, B>
where
    B::Error: std::error::Error + 'static,
{
    /// Turns changed names into operations of nodes.
    pub(super) fn plan(&mut self, changes: &[Change]) -> Outcome<(), B> {
        let mut gone: HashMap<NodeId, Vec<Edge>> = HashMap::new();
        let mut come: HashMap<NodeId, Vec<Edge>> = HashMap::new();
        for change in changes.iter().filter(|c| c.old != c.new && !c.edge.parent.is_kept_area()) {
            if let Some(node) = change.old {
                gone.entry(node).or_default().push(change.edge.clone());
                self.occupant.insert(change.edge.clone(), node);
            }
            if let Some(node) = change.new {
                come.entry(node).or_default().push(change.edge.clone());
            }
        }
        let mut nodes: Vec<NodeId> = gone.keys().chain(come.keys()).copied().collect();
        nodes.sort_unstable();
        nodes.dedup();
        for node in nodes {
            let mut gone = gone.remove(&node).unwrap_or_default();
            let mut come = come.remove(&node).unwrap_or_default();
            gone.sort_unstable();
            come.sort_unstable();
            self.plan_node(node, gone, come)?;
        }
        self.plan_leavers()
    }

    fn plan_node(&mut self, node: NodeId, gone: Vec<Edge>, come: Vec<Edge>) -> Outcome<(), B> {
        let directory = self.before.is_directory(node).map_err(SerializeError::Before)?;
        if directory && (gone.len() > 1 || come.len() > 1) {
            return Err(SerializeError::NotATree { node, what: "a directory with two names" });
        }
        let names = self.before.names(node).map_err(SerializeError::Before)?;
        let kept = names.iter().any(|edge| edge.parent.is_kept_area());
        let mut gone = gone.into_iter();
        let mut come = come.into_iter();
        if names.is_empty() {
            if let Some(to) = come.next() {
                self.add(node, Goal::Create, None, Some(to));
            }
        } else if kept && let Some(to) = come.next() {
            let from = Edge::new(NodeId::kept(self.root), node.kept_name());
            self.add(node, Goal::Place, Some(from), Some(to));
        }
        loop {
            match (gone.next(), come.next()) {
                (None, None) => return Ok(()),
                (Some(from), None) => self.add(node, Goal::Remove, Some(from), None),
                (None, Some(to)) if directory && !names.is_empty() => {
                    self.add(node, Goal::Link, None, Some(to));
                    return Err(SerializeError::NotATree { node, what: "a directory with two names" });
                }
                (None, Some(to)) => self.add(node, Goal::Link, None, Some(to)),
                (from, to) => self.add(node, Goal::Place, from, to),
            }
        }
    }

    fn add(&mut self, node: NodeId, goal: Goal, from: Option<Edge>, to: Option<Edge>) {
        let number = self.ops.len();
        let kept = from.as_ref().is_some_and(|edge| edge.parent.is_kept_area());
        if let Some(edge) = from.as_ref().filter(|_| !kept) {
            self.freer.insert(edge.clone(), number);
        }
        if let Some(edge) = &to {
            self.taker.insert(edge.clone(), number);
        }
        self.of_node.entry(node).or_default().push(number);
        self.ops.push(Op { node, goal, from, to, state: State::Todo, kept, leavers_done: 0 });
    }

    /// Whether the node will hang under the root, not in the kept area.
    fn ends_visible(&self, node: NodeId) -> Outcome<bool, B> {
        let mut at = node;
        for _ in 0..DEPTH_MAX {
            if at.as_root_or_kept().is_some() {
                return Ok(!at.is_kept_area());
            }
            let first = self.of_node.get(&at).and_then(|ops| ops.first());
            let place = match first.and_then(|number| self.ops.get(*number)) {
                Some(op) => op.to.clone(),
                None => self.old_place(at)?,
            };
            match place {
                Some(edge) => at = edge.parent,
                None => return Ok(false),
            }
        }
        Ok(false)
    }

    /// For every directory that is going to vanish (be removed, or moved to where nobody sees it): what leaves it, or
    /// is linked out of it, before.
    fn plan_leavers(&mut self) -> Outcome<(), B> {
        let mut removed = HashSet::new();
        for op in self.ops.iter().filter(|op| op.from.is_some() && !op.kept) {
            if self.before.is_directory(op.node).map_err(SerializeError::Before)?
                && !self.ends_visible(op.node)?
            {
                removed.insert(op.node);
            }
        }
        if removed.is_empty() {
            return Ok(());
        }
        self.leavers = removed.iter().map(|directory| (*directory, Vec::new())).collect();
        let mut nearest: HashMap<NodeId, Option<NodeId>> = HashMap::new();
        for number in 0..self.ops.len() {
            let Some(op) = self.ops.get(number) else { break };
            let sources = match (&op.from, op.goal) {
                (Some(from), _) => vec![from.parent],
                (None, Goal::Link) => {
                    let names = self.before.names(op.node).map_err(SerializeError::Before)?;
                    names.into_iter().map(|edge| edge.parent).collect()
                }
                _ => Vec::new(),
            };
            let node = op.node;
            for source in sources {
                let above = self.nearest_removed(source, &removed, &mut nearest)?;
                if let Some(directory) = above.filter(|directory| *directory != node) {
                    self.leavers.entry(directory).or_default().push(number);
                }
            }
        }
        Ok(())
    }

    /// The lowest directory at or above `start` in the old state that is going to vanish.
    fn nearest_removed(
        &self,
        start: NodeId,
        removed: &HashSet<NodeId>,
        known: &mut HashMap<NodeId, Option<NodeId>>,
    ) -> Outcome<Option<NodeId>, B> {
        let mut trail = Vec::new();
        let mut at = start;
        let found = loop {
            if removed.contains(&at) {
                break Some(at);
            }
            if let Some(answer) = known.get(&at) {
                break *answer;
            }
            trail.push(at);
            let up = if at.as_root_or_kept().is_some() { None } else { self.old_place(at)? };
            match up {
                // A damaged old state could hold a cycle; a trail longer than any tree ends the walk.
                Some(edge) if trail.len() < DEPTH_MAX => at = edge.parent,
                _ => break None,
            }
        };
        for directory in trail {
            known.insert(directory, found);
        }
        Ok(found)
    }
}
