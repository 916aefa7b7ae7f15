//! Thinning: which points stay, and what undo they need. Decisions only; nothing here touches a journal.
//!
//! A view at X reads the earliest undo after X of each name, node and byte, else the present. Let A and B be two
//! retained points with none between them. A view at A, or at any retained point before it, asks for the earliest undo
//! after A; a view at B, or after it, never looks at undo up to B. So of all undo of one name, node or byte in (A, B] only
//! the first can ever be asked for, and it keeps its LSN. Nothing moves: what is left is a subset of what was there, cut
//! to the bytes that no earlier undo of the same interval covers.
//!
//! Forgetting where an interval began is always safe: it keeps more than needed, never less. So [`Merge`] may be told
//! at any time to begin anew, to bound its memory or because work ends for now, and undo that was thinned may be thinned
//! again with fewer points.
//!
//! A node that was created after A and is in the kept area since B or before is shown by no retained point. If nothing
//! lies in it and it has no other name ([`is_gone`]), its bytes can go from the tree, and all undo of it in (A, B] with
//! them. A directory that holds something cannot: what lies in it may be older than A.

use crate::event::Event;
use crate::extents::ExtentMap;
use crate::id::{Edge, NodeId};
use crate::lsn::Lsn;
use crate::meta::Timestamp;
use crate::record::{DataUndo, UndoPart};
use crate::state::NodeRow;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

/// Nanoseconds of a minute.
const MINUTE: i64 = 60_000_000_000;

/// How points thin out with age.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tiers {
    /// Up to this age every point stays.
    pub every: Duration,
    /// Up to this age the last point of each minute stays; then only those that somebody named or pinned.
    pub minutes: Duration,
}

impl Tiers {
    /// Whether a point stays by its age. `next` is the time of the point after it; without one it is the newest, and
    /// stays. A clock that jumped back keeps more points, never fewer: a minute ends wherever the next point is not in
    /// it.
    #[must_use]
    pub fn keeps(&self, time: Timestamp, next: Option<Timestamp>, now: Timestamp) -> bool {
        let Some(next) = next else { return true };
        let age = Duration::from_nanos(u64::try_from(now.0.saturating_sub(time.0)).unwrap_or(0));
        if age < self.every {
            return true;
        }
        age < self.minutes && time.0.div_euclid(MINUTE) != next.0.div_euclid(MINUTE)
    }
}

/// Keeps of the undo of captures, given in the order of LSNs, what retained points need.
#[derive(Default)]
pub struct Merge {
    names: HashSet<Edge>,
    nodes: HashSet<NodeId>,
    bytes: HashMap<NodeId, ExtentMap<()>>,
    keys: usize,
}

impl Merge {
    /// A retained point lies between what was taken and what comes: a new interval begins.
    pub fn begin(&mut self) {
        *self = Merge::default();
    }

    /// Names, nodes and extents remembered; begin anew when they are too many.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.keys
    }

    /// What of the undo of a capture, or of a part of it, is needed. `gone` are the nodes that no retained point shows.
    pub fn take(&mut self, undo: UndoPart, gone: &HashSet<NodeId>) -> UndoPart {
        let UndoPart { lsn, last, names, nodes, data } = undo;
        let mut kept = UndoPart { lsn, last, ..UndoPart::default() };
        for name in names {
            if self.names.insert(name.edge.clone()) {
                kept.names.push(name);
            }
        }
        for node in nodes {
            if !gone.contains(&node.node) && self.nodes.insert(node.node) {
                kept.nodes.push(node);
            }
        }
        for one in data {
            if !gone.contains(&one.node) {
                self.bytes_of(one, &mut kept.data);
            }
        }
        self.keys += kept.names.len() + kept.nodes.len() + kept.data.len();
        kept
    }

    fn bytes_of(&mut self, undo: DataUndo, kept: &mut Vec<DataUndo>) {
        let covered = self.bytes.entry(undo.node).or_default();
        let range = undo.offset..undo.offset.saturating_add(u64::from(undo.bytes));
        for gap in covered.gaps(range.clone()) {
            // Within the extent, whose length is 32 bits.
            let (moved, bytes) = ((gap.start - range.start) as u32, (gap.end - gap.start) as u32);
            let source = undo.source.further(moved);
            kept.push(DataUndo { node: undo.node, offset: gap.start, bytes, source });
        }
        covered.insert(range, ());
    }
}

/// Which undo of bytes is needed as a whole: for those who keep or give up payloads and cut none. Takes the undo of captures
/// in the order in which it stands in a segment.
pub struct Needed<'r> {
    /// Points that stay and were not passed yet, rising.
    retained: &'r [Lsn],
    covered: HashMap<NodeId, ExtentMap<()>>,
    keys: usize,
    lsn: Lsn,
    /// Bytes of the capture that is being taken, and whether it is complete.
    current: (Vec<(NodeId, std::ops::Range<u64>)>, bool),
}

/// Extents remembered before it begins anew.
const KEYS_MAX: usize = 1 << 18;

impl<'r> Needed<'r> {
    /// Where these points stay, rising.
    #[must_use]
    pub fn new(retained: &'r [Lsn]) -> Self {
        let (covered, current) = (HashMap::new(), (Vec::new(), false));
        Needed { retained, covered, keys: 0, lsn: Lsn::ZERO, current }
    }

    /// For each piece of data of the part whether a point that stays may ask for any of it.
    pub fn take(&mut self, undo: &UndoPart) -> Vec<bool> {
        if undo.lsn != self.lsn {
            self.next(undo.lsn);
        }
        let needed = undo.data.iter().map(|one| {
            let range = one.offset..one.offset.saturating_add(u64::from(one.bytes));
            let covered = self.covered.get(&one.node);
            covered.is_none_or(|covered| !covered.gaps(range).is_empty())
        });
        let needed = needed.collect();
        // What is written again, or in parts, must not cover itself.
        self.current.0.extend(
            undo.data
                .iter()
                .map(|one| (one.node, one.offset..one.offset.saturating_add(u64::from(one.bytes)))),
        );
        self.current.1 |= undo.last;
        needed
    }

    fn next(&mut self, lsn: Lsn) {
        let (current, complete) = std::mem::take(&mut self.current);
        // Undo of a capture that was never finished was never published: nobody finds it.
        for (node, range) in current.into_iter().filter(|_| complete) {
            self.covered.entry(node).or_default().insert(range, ());
            self.keys += 1;
        }
        let passed = self.retained.iter().take_while(|retained| **retained < lsn).count();
        let again = lsn < self.lsn;
        if passed > 0 || again || self.keys > KEYS_MAX {
            self.covered.clear();
            self.keys = 0;
        }
        self.retained = self.retained.get(passed..).unwrap_or_default();
        self.lsn = lsn;
    }
}

/// Nodes that these events create: they were not there at any point before.
pub fn born(events: &[Event]) -> impl Iterator<Item = NodeId> + '_ {
    events.iter().filter_map(|event| match event {
        Event::Create { node, .. } => Some(*node),
        _ => None,
    })
}

/// Whether no retained point shows a node that was created after the retained point A, the next one being `next`:
/// `row` is its present row, `links` are its present names, `holds` whether it is a directory with entries.
#[must_use]
pub fn is_gone(row: &NodeRow, links: &[Edge], holds: bool, next: Lsn) -> bool {
    let only_kept = matches!(links, [link] if link.parent.is_kept_area());
    let since = row.kept_since.map(|(captured, local)| Lsn { captured, local });
    only_kept && !holds && since.is_some_and(|since| since <= next)
}

#[cfg(test)]
mod tests;
