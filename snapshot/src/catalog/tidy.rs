//! Merging segments: deciding which ([`plan`], which touches nothing), and doing it.
//!
//! Only neighbours are merged, so what is newer stays newer. The newest segments are merged once there are four whose
//! oldest is not larger than the rest together; so their number grows with the logarithm of what was loaded, and so does
//! how often an event is written again. All segments of an entity are merged when a quarter of its events serves only
//! forgotten sessions.
//!
//! What a merge does with forgotten sessions:
//! * One that only forgotten ones are based on: its events are left out, wherever they are met. Nobody reads them.
//! * One that exactly one other is based on: its events become those of the other where that has none. This is done only
//!   if *all* its events are in the merge, because after it they would come before those of a later session that stayed
//!   outside. The other's own events outside are newer, and a newer segment wins.
//!
//! A session that a load in progress is based on is left alone.

use super::cursor::{All, Cursor, Merge};
use super::error::CatalogError;
use super::manifest::SessionEntry;
use super::path::Span;
use super::segment::{Segment, SegmentEntry};
use super::state::{EntityState, Shared, sweep};
use super::types::Event;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

/// Segments that are merged at once, at the least.
const RUN_MIN: usize = 4;
/// Forgotten sessions beyond the number of those that are not.
const FORGOTTEN_MAX: usize = 256;

/// A segment, as far as the decision goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Size {
    pub number: u64,
    pub events: u64,
    /// Events of each session.
    pub sessions: BTreeMap<u32, u64>,
}

/// What to merge, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Which of the segments of the entity.
    pub range: Range<usize>,
    /// Sessions whose events are left out.
    pub drop: HashSet<u32>,
    /// Sessions whose events become those of another one; parents first.
    pub fold: Vec<(u32, u32)>,
    /// Sessions that are based on nothing any more and have no events outside: what they do not have need not be said.
    pub roots: HashSet<u32>,
}

/// The forgotten sessions of an entity that a merge can get rid of.
#[derive(Debug, Default)]
struct Forgotten {
    drop: HashSet<u32>,
    fold: BTreeMap<u32, u32>,
}

impl Forgotten {
    fn new(sessions: &[SessionEntry], pins: &HashMap<u32, usize>) -> Self {
        let mut found = Forgotten::default();
        let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
        // Children have greater numbers, so backwards they come first.
        for session in sessions.iter().rev() {
            let own = children.remove(&session.number).unwrap_or_default();
            let free = session.forgotten && !pins.contains_key(&session.number);
            match own.as_slice() {
                [] if free => {
                    found.drop.insert(session.number);
                    continue;
                }
                [child] if free => {
                    found.fold.insert(session.number, *child);
                }
                _ => {}
            }
            if let Some(parent) = session.parent {
                children.entry(parent).or_default().push(session.number);
            }
        }
        found
    }

    /// About how many events a merge of everything would save.
    fn dead(&self, segments: &[Size]) -> u64 {
        let events = |session: &u32| segments.iter().filter_map(|s| s.sessions.get(session)).sum::<u64>();
        let dropped: u64 = self.drop.iter().map(events).sum();
        let folded: u64 = self.fold.iter().map(|(from, to)| events(from).min(events(to))).sum();
        dropped + folded
    }
}

/// Decides what to merge among the segments of an entity, the oldest first; `None` if nothing is due.
pub(super) fn plan(segments: &[Size], sessions: &[SessionEntry], pins: &HashMap<u32, usize>) -> Option<Plan> {
    let forgotten = Forgotten::new(sessions, pins);
    let total: u64 = segments.iter().map(|segment| segment.events).sum();
    let free = forgotten.drop.len() + forgotten.fold.len();
    let live = sessions.iter().filter(|session| !session.forgotten).count();
    let wasteful = forgotten.dead(segments) > total / 4 || free > live + FORGOTTEN_MAX;
    let range = if wasteful && !segments.is_empty() { 0..segments.len() } else { due(segments)? };
    let inside = segments.get(range.clone()).unwrap_or_default();
    let outside: HashSet<u32> = segments
        .iter()
        .enumerate()
        .filter(|(at, _)| !range.contains(at))
        .flat_map(|(_, segment)| segment.sessions.keys().copied())
        .collect();
    let is_inside = |session: u32| !outside.contains(&session);
    let fold: Vec<(u32, u32)> = forgotten.fold.into_iter().filter(|(from, _)| is_inside(*from)).collect();
    let folded: HashMap<u32, u32> = fold.iter().copied().collect();
    let parents: HashMap<u32, Option<u32>> = sessions.iter().map(|s| (s.number, s.parent)).collect();
    let is_root = |session: u32| {
        let mut above = parents.get(&session).copied().flatten();
        while let Some(parent) = above.filter(|parent| folded.contains_key(parent)) {
            above = parents.get(&parent).copied().flatten();
        }
        above.is_none()
    };
    let touched = inside.iter().flat_map(|segment| segment.sessions.keys().copied());
    let touched: HashSet<u32> = touched.chain(folded.values().copied()).collect();
    let roots = touched.into_iter().filter(|session| is_inside(*session) && is_root(*session)).collect();
    Some(Plan { range, drop: forgotten.drop, fold, roots })
}

/// The longest run of newest segments whose oldest is not larger than the rest of them.
fn due(segments: &[Size]) -> Option<Range<usize>> {
    let mut newer = 0;
    let mut start = None;
    for (at, segment) in segments.iter().enumerate().rev() {
        if segments.len() - at >= RUN_MIN && segment.events <= newer {
            start = Some(at);
        }
        newer += segment.events;
    }
    start.map(|start| start..segments.len())
}

impl Plan {
    /// Makes of the events of a path what they are after the merge; none if the path is not needed.
    pub(super) fn rewrite(&self, events: &mut Vec<Event>) {
        if !self.drop.is_empty() {
            events.retain(|event| !self.drop.contains(&event.session));
        }
        for (from, to) in &self.fold {
            let Some(at) = events.iter().position(|event| event.session == *from) else { continue };
            if events.iter().any(|event| event.session == *to) {
                events.remove(at);
            } else if let Some(event) = events.get_mut(at) {
                event.session = *to;
            }
        }
        if !self.roots.is_empty() {
            events.retain(|event| event.row.is_some() || !self.roots.contains(&event.session));
        }
        events.sort_unstable_by_key(|event| event.session);
    }
}

/// Merges what is due, until nothing is.
pub(super) fn tidy(shared: &Arc<Shared>) -> Result<(), CatalogError> {
    let _one_at_a_time = shared.tidying.lock();
    loop {
        // Both of one moment: a load that commits and lets go of its pin in between would be in neither.
        let (snapshot, pins) = {
            let writers = shared.writers.lock();
            (shared.snapshot(), writers.pins.clone())
        };
        let due = snapshot.entities.iter().find_map(|entity| {
            let sizes: Vec<Size> = entity.segments.iter().map(|segment| size(segment)).collect();
            Some((entity, plan(&sizes, &entity.sessions, &pins)?))
        });
        let Some((entity, plan)) = due else { return Ok(()) };
        merge(shared, entity, &plan)?;
    }
}

fn size(segment: &Segment) -> Size {
    Size { number: segment.entry.number, events: segment.events, sessions: segment.sessions.clone() }
}

/// Merges, unless what the plan was made for has changed meanwhile; then what was merged is thrown away.
fn merge(shared: &Arc<Shared>, entity: &EntityState, plan: &Plan) -> Result<(), CatalogError> {
    let old = entity.segments.get(plan.range.clone()).unwrap_or_default();
    let span = Span::default();
    let cursors = old.iter().enumerate();
    let cursors = cursors.map(|(age, segment)| Cursor::new(segment, 0, age, &span, &All)).collect();
    let mut merge = Merge::new(cursors)?;
    let mut writer = None;
    while merge.advance()? {
        plan.rewrite(&mut merge.events);
        if merge.events.is_empty() {
            continue;
        }
        let writer = match &mut writer {
            Some(writer) => writer,
            None => writer.insert(shared.new_segment()?),
        };
        writer.push(merge.key(), &merge.events)?;
    }
    let fresh = writer.map(|writer| shared.finish_segment(writer)).transpose()?;
    let numbers: HashSet<u64> = old.iter().map(|segment| segment.entry.number).collect();
    let entry = fresh.as_ref().map(|segment| SegmentEntry { entity: entity.number, ..segment.entry });
    shared.commit(fresh, |manifest, writers, segments| {
        // Loads add segments behind these, and nothing but a merge takes one away, unless the whole entity went. A
        // session that another one's events went to may have been forgotten and swept, because it had none itself;
        // its descendants are now based on that other one, and would lose them.
        let at = manifest.segments.iter().position(|segment| numbers.contains(&segment.number));
        let known: HashSet<u32> = manifest.sessions.iter().map(|session| session.number).collect();
        if let Some(at) = at.filter(|_| plan.fold.iter().all(|(_, to)| known.contains(to))) {
            manifest.segments.retain(|segment| !numbers.contains(&segment.number));
            if let Some(entry) = entry {
                manifest.segments.insert(at, entry);
            }
        }
        sweep(manifest, &writers.pins, segments);
        Ok(())
    })
}

#[cfg(test)]
mod tests;
