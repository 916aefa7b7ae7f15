//! Which session holds which version of a path.
//!
//! A session is stored as its changes against the session it is based on, so the sessions of an entity form a forest.
//! What a session says of a path is the event of the nearest session on its way to the root that has one; if none
//! has, the path is not there. A walk of the forest that takes parents before children and subtrees in one piece gives
//! each session a position, and the descendants of a session an interval of positions. So the sessions that hold a
//! version are an interval with the intervals of later events cut out, and few events make few intervals, however many
//! sessions there are: sessions are counted by subtraction and not one by one.
//!
//! Forgotten sessions stay in the forest as long as others are based on them. They are never counted.

use super::manifest::SessionEntry;
use super::types::{Event, Row};
use std::collections::HashMap;

/// A row and the positions of sessions that hold it: one of the intervals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub from: u32,
    pub to: u32,
    pub row: Row,
}

/// What is left of the intervals of some version after counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Count {
    /// Sessions not forgotten.
    pub sessions: u32,
    /// Rank in time of the oldest and of the newest of them.
    pub first: u32,
    pub last: u32,
}

/// The forest of an entity.
#[derive(Debug, Default)]
pub(super) struct Lineage {
    /// Position of each session, by its number.
    positions: HashMap<u32, u32>,
    /// For each position, where its descendants end.
    ends: Vec<u32>,
    /// For each position, how many sessions before it are not forgotten; one more at the end.
    live_before: Vec<u32>,
    /// For each position, the rank in time; `None` for a forgotten session.
    ranks: Vec<Option<u32>>,
    /// Indexes into the list the lineage was made from, by rank in time.
    by_time: Vec<u32>,
    /// Whether ranks rise with positions, which they do unless sessions were loaded out of their order.
    is_ordered: bool,
    /// Position of the newest session.
    newest: Option<u32>,
}

impl Lineage {
    /// The forest of `sessions`: those of one entity, parents before children, as the manifest guarantees.
    pub(super) fn new(sessions: &[SessionEntry]) -> Self {
        let index: HashMap<u32, usize> = sessions.iter().enumerate().map(|(i, s)| (s.number, i)).collect();
        let mut children: Vec<Vec<usize>> = vec![Vec::new(); sessions.len()];
        let mut roots = Vec::new();
        for (i, session) in sessions.iter().enumerate() {
            let parent = session.parent.and_then(|parent| index.get(&parent));
            match parent.and_then(|parent| children.get_mut(*parent)) {
                Some(siblings) => siblings.push(i),
                None => roots.push(i),
            }
        }
        let mut order = Vec::with_capacity(sessions.len());
        let mut stack: Vec<usize> = roots.into_iter().rev().collect();
        while let Some(i) = stack.pop() {
            order.push(i);
            stack.extend(children.get(i).into_iter().flatten().rev());
        }
        let mut lineage = Lineage { ends: vec![0; sessions.len()], ..Lineage::default() };
        lineage.place(sessions, &order);
        lineage.rank(sessions, &order);
        lineage
    }

    fn place(&mut self, sessions: &[SessionEntry], order: &[usize]) {
        for (position, i) in order.iter().enumerate() {
            if let Some(session) = sessions.get(*i) {
                self.positions.insert(session.number, position as u32);
            }
        }
        // Children come after their parents, so backwards each end is known before it is needed.
        for (position, i) in order.iter().enumerate().rev() {
            let own = self.ends.get(position).copied().unwrap_or_default().max(position as u32 + 1);
            if let Some(end) = self.ends.get_mut(position) {
                *end = own;
            }
            let parent = sessions.get(*i).and_then(|session| session.parent);
            let above = parent.and_then(|parent| self.positions.get(&parent)).copied();
            if let Some(end) = above.and_then(|above| self.ends.get_mut(above as usize)) {
                *end = own.max(*end);
            }
        }
    }

    fn rank(&mut self, sessions: &[SessionEntry], order: &[usize]) {
        let live = |i: &usize| sessions.get(*i).is_some_and(|session| !session.forgotten);
        let mut by_time: Vec<usize> = (0..sessions.len()).filter(live).collect();
        by_time.sort_by_key(|i| sessions.get(*i).map(|session| (session.taken, session.number)));
        let ranks: HashMap<usize, u32> =
            by_time.iter().enumerate().map(|(rank, i)| (*i, rank as u32)).collect();
        self.ranks = order.iter().map(|i| ranks.get(i).copied()).collect();
        let mut before = 0;
        self.live_before.push(0);
        for rank in &self.ranks {
            before += u32::from(rank.is_some());
            self.live_before.push(before);
        }
        self.is_ordered = self.ranks.iter().flatten().is_sorted();
        self.newest =
            self.ranks.iter().enumerate().max_by_key(|(_, rank)| **rank).map(|(position, _)| position as u32);
        self.newest = self.newest.filter(|_| !by_time.is_empty());
        self.by_time = by_time.into_iter().map(|i| i as u32).collect();
    }

    pub(super) fn position(&self, session: u32) -> Option<u32> {
        self.positions.get(&session).copied()
    }

    pub(super) fn newest(&self) -> Option<u32> {
        self.newest
    }

    /// Index of the session of that rank in the list the lineage was made from.
    pub(super) fn by_time(&self, rank: u32) -> Option<usize> {
        self.by_time.get(rank as usize).map(|index| *index as usize)
    }

    fn live_before(&self, position: u32) -> u32 {
        self.live_before.get(position as usize).copied().unwrap_or_default()
    }

    /// How many sessions in the interval are not forgotten.
    pub(super) fn live_in(&self, from: u32, to: u32) -> u32 {
        self.live_before(to).saturating_sub(self.live_before(from))
    }

    /// Ranks in time of the sessions in the interval that are not forgotten.
    pub(super) fn ranks_in(&self, from: u32, to: u32) -> impl Iterator<Item = u32> {
        self.ranks.get(from as usize..to as usize).unwrap_or_default().iter().copied().flatten()
    }

    /// Counts the sessions in the interval; `None` if there are none.
    pub(super) fn count(&self, from: u32, to: u32) -> Option<Count> {
        let sessions = self.live_in(from, to);
        if sessions == 0 {
            return None;
        }
        if self.is_ordered {
            let (first, last) = (self.live_before(from), self.live_before(to) - 1);
            return Some(Count { sessions, first, last });
        }
        let first = self.ranks_in(from, to).min()?;
        let last = self.ranks_in(from, to).max()?;
        Some(Count { sessions, first, last })
    }

    /// Events with their positions, in the order of positions. Events of sessions that are no more are left out.
    fn placed<'e>(&self, events: &'e [Event], out: &mut Vec<(u32, &'e Event)>) {
        out.clear();
        out.extend(events.iter().filter_map(|event| Some((self.position(event.session)?, event))));
        if !out.is_sorted_by_key(|(position, _)| *position) {
            out.sort_unstable_by_key(|(position, _)| *position);
        }
    }

    /// Writes over `out` the intervals in which sessions hold the path of these events, in the order of positions.
    pub(super) fn resolve(&self, events: &[Event], out: &mut Vec<Held>) {
        out.clear();
        let mut placed = Vec::with_capacity(events.len());
        self.placed(events, &mut placed);
        let mut open: Vec<(u32, Option<Row>)> = Vec::new();
        let mut at = 0;
        let mut emit = |from: u32, to: u32, row: Option<Row>| {
            if let Some(row) = row.filter(|_| from < to && self.live_in(from, to) > 0) {
                out.push(Held { from, to, row });
            }
        };
        for (position, event) in placed {
            while let Some((end, row)) = open.pop_if(|(end, _)| *end <= position) {
                emit(at, end, row);
                at = at.max(end);
            }
            if let Some((_, row)) = open.last() {
                emit(at, position, *row);
            }
            at = position;
            let end = self.ends.get(position as usize).copied().unwrap_or(position);
            open.push((end, event.row));
        }
        while let Some((end, row)) = open.pop() {
            emit(at, end, row);
            at = at.max(end);
        }
    }

    /// What the session at `position` says of the path of these events.
    pub(super) fn row_at(&self, events: &[Event], position: u32) -> Option<Row> {
        let covers =
            |from: u32| from <= position && self.ends.get(from as usize).is_some_and(|end| position < *end);
        events
            .iter()
            .filter_map(|event| Some((self.position(event.session)?, event)))
            .filter(|(from, _)| covers(*from))
            .max_by_key(|(from, _)| *from)
            .and_then(|(_, event)| event.row)
    }
}

#[cfg(test)]
pub(in crate::catalog) mod tests;
