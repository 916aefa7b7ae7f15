//! Retention: how the journal gives space back, and what it never gives up.
//!
//! The horizon is the oldest point that is promised. It moves by whole sealed undo segments, oldest first: as far as
//! time allows, further if the journal is over its budget, and never beyond a pin, a lease of a reader, the durable
//! cursor or what a detached replica needs to return. If the budget asks for more than those allow, that is said
//! ([`Retained::over_budget`]) and nothing is dropped against them.
//!
//! Time is what the caller says it is: for a replica a clock that stands while its master is not heard, so that nothing grows
//! old meanwhile. The budget does not ask for the time.
//!
//! Bookmarks do not hold the horizon. The automatic ones go when it passes them.
//!
//! Order, so that a crash at any place only leaves more than needed: the new horizon is journaled; a checkpoint is
//! written; the manifest names it and forgets the segments in one step; then rows behind the horizon are removed from
//! the tables. A view or a pin is refused behind the journaled horizon under the same lock that moves it.
//!
//! Undo refers to redo of its own capture (a delta) or of an earlier one of the same batch of apply, so a redo segment
//! stays as long as the distance of one batch behind the horizon. Thinning ([`crate::thinning`]) gives up undo within the
//! window and leaves redo as it is.

use crate::checkpoint;
use crate::error::JournalError;
use crate::id::{Edge, NodeId};
use crate::journal::{Journal, WindowLock};
use crate::log::{Retire, SegmentInfo};
use crate::lsn::Lsn;
use crate::meta::Timestamp;
use crate::record::Control;
use crate::state::rows::{self, Change};
use crate::state::summary::{PointBlock, block_key};
use crate::state::{Overlay, State};
use crate::tables::{Put, Space};
use std::time::Duration;

/// What a scenario promises to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetentionPolicy {
    /// How long points are kept.
    pub keep: Duration,
    /// Bytes of segments before older ones go sooner.
    pub bytes_max: u64,
}

/// What a run of retention came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retained {
    /// The oldest point promised now.
    pub horizon: Lsn,
    /// Bytes given back.
    pub freed: u64,
    /// Bytes of segments left.
    pub bytes: u64,
    /// The budget asks for more than pins allow.
    pub over_budget: bool,
}

/// Captured LSNs between undo and the redo it may refer to: the greatest batch of apply, and some.
const REFERENCE_MAX: u64 = 4096;

/// Rows removed at a time.
const PRUNE_ROWS: usize = 5000;

impl Journal {
    /// Moves the horizon as far as the policy asks and pins allow, and gives back the segments behind it. History has grown
    /// old up to `age`.
    ///
    /// # Errors
    /// As log, checkpoint and manifest; whatever was done before stays valid.
    pub fn retain(&self, policy: RetentionPolicy, age: Timestamp) -> Result<Retained, JournalError> {
        let undo = self.undo().segments();
        let redo = self.redo().segments();
        let bytes = |segments: &[SegmentInfo]| segments.iter().map(|segment| segment.bytes).sum::<u64>();
        let total = bytes(&undo) + bytes(&redo);
        let (wanted, for_budget) = wanted_horizon(&undo, &redo, total, policy, age);
        let limit = self.horizon_limit(&self.window_lock());
        let target = wanted.max(for_budget).min(limit);
        let over_budget = for_budget > limit;
        let before = self.with_controls(crate::controls::Controls::horizon);
        let mut report = Retained { horizon: before, freed: 0, bytes: total, over_budget };
        if target > before && self.with_controls(|controls| controls.first_point != 0) {
            if !self.move_horizon(target)? {
                return Ok(report);
            }
            report.horizon = target;
        }
        // Not only when it moved: a crash may have come in between.
        self.expire_bookmarks(report.horizon)?;
        report.freed = self.drop_segments(report.horizon, &redo, &undo)?;
        report.bytes = total.saturating_sub(report.freed);
        Ok(report)
    }

    /// The newest LSN that apply and a detached replica do not need.
    pub(crate) fn settled(&self) -> Lsn {
        let detached = self.with_controls(|controls| controls.detached.is_some());
        let cursor = self.cursor();
        // Return from a detached state leads to the captured half.
        if detached || cursor.is_local() { Lsn::captured(cursor.captured) } else { cursor }
    }

    /// The newest LSN the horizon may have now.
    fn horizon_limit(&self, window: &WindowLock<'_>) -> Lsn {
        let pins = self.with_controls(|controls| controls.pins.values().map(crate::controls::Pin::lsn).min());
        [pins, window.least_lease()].into_iter().flatten().fold(self.settled(), Lsn::min)
    }

    /// Journals a new horizon unless somebody took an older point meanwhile.
    fn move_horizon(&self, target: Lsn) -> Result<bool, JournalError> {
        let window = self.window_lock();
        // The horizon is a point that can be read.
        if target > self.horizon_limit(&window) || self.thinned_out(target)?.is_some() {
            return Ok(false);
        }
        self.control(Control::Horizon { captured: target.captured, local: target.local })?;
        Ok(true)
    }

    /// Takes away automatic bookmarks of points that are gone. Those that people set stay to be seen: whoever set one
    /// is told that its point is no longer held, not that it never was.
    fn expire_bookmarks(&self, horizon: Lsn) -> Result<(), JournalError> {
        let expired = self.with_controls(|controls| {
            let old = controls.bookmarks.iter().filter(|(_, mark)| mark.automatic && mark.lsn() < horizon);
            old.map(|(name, _)| name.clone()).collect::<Vec<_>>()
        });
        expired.into_iter().try_for_each(|name| self.control(Control::BookmarkDeleted { name }))
    }

    fn drop_segments(
        &self,
        horizon: Lsn,
        redo: &[SegmentInfo],
        undo: &[SegmentInfo],
    ) -> Result<u64, JournalError> {
        let old_undo = first_kept(undo, |segment| segment.lsn_last.is_none_or(|last| last <= horizon));
        let reach = Lsn::captured(horizon.captured.saturating_sub(REFERENCE_MAX));
        let old_redo = first_kept(redo, |segment| segment.lsn_last.is_none_or(|last| last < reach));
        let nothing = undo.first().is_none_or(|first| old_undo <= first.number)
            && redo.first().is_none_or(|first| old_redo <= first.number);
        if nothing {
            return Ok(0);
        }
        let frozen = self.tables().frozen();
        let named = self.set().files();
        let number =
            |entry: &crate::log::FileEntry| entry.name.split('.').next().and_then(|n| n.parse::<u64>().ok());
        let last = named.iter().filter_map(number).max().unwrap_or(0);
        let name = format!("{:08}.checkpoint", last + 1);
        // Segments the checkpoint itself needs to go on stay, whatever the horizon says.
        let head = frozen.get(Space::Heads, crate::journal::HEAD_KEY)?;
        let head: crate::journal::TablesHead = match head {
            Some(head) => rows::read(Space::Heads, &head)?,
            None => return Ok(0),
        };
        let mut controls = self.controls();
        let folded = controls.upto().segment;
        // Who begins at the checkpoint replays what came after it, and shows points behind the horizon.
        let begun = Lsn { captured: head.published.0, local: head.published.1 }.min(horizon);
        controls.forget_dropped(begun);
        let entry = checkpoint::write(
            &**self.set().disk(),
            self.directory(),
            &name,
            &*frozen,
            controls,
            self.proofs(),
        )?;
        let retire = Retire {
            redo_before: old_redo.min(head.redo.segment).min(head.cursor_redo.segment).min(folded),
            undo_before: old_undo.min(head.undo.segment),
            note: None,
            files: Some(vec![entry]),
        };
        // The tables go on without the dropped segments only with controls that do not need them.
        self.save_controls()?;
        self.tables().persist()?;
        let freed = self.set().retire(retire)?;
        self.with_controls_mut(|controls| controls.forget_dropped(begun));
        Ok(freed)
    }

    /// Some of the nodes in kept areas that no promised point shows any more, with their places there: the next ones
    /// after a place, or the first. Their owner calls [`Journal::let_go`], removes them from the tree and calls
    /// [`Journal::forget_kept`]. After a rebuild nodes show up again that were removed long ago: it must be
    /// asked before the tree is used, because names inside them lead nowhere.
    ///
    /// # Errors
    /// As the tables.
    pub fn dead(&self, horizon: Lsn, after: Option<&Edge>) -> Result<Vec<(NodeId, Edge)>, JournalError> {
        let mut dead = Vec::new();
        // The least key behind that place.
        let from = after.map_or_else(Vec::new, |place| [&rows::name_key(place)[..], &[0]].concat());
        for row in self.tables().range(Space::Names, &from, &NodeId::FIRST_FREE.to_key()) {
            let (key, value) = row?;
            let place = rows::edge_of_name_key(&key)?;
            if !place.parent.is_kept_area() {
                continue;
            }
            let node = NodeId::from_key(&value).ok_or(JournalError::BadRow { space: Space::Names.name() })?;
            if self.is_dead(node, horizon)? {
                dead.push((node, place));
            }
            if dead.len() == PRUNE_ROWS {
                break;
            }
        }
        Ok(dead)
    }

    /// Removes rows of history behind the horizon, some thousand at a time. True: there are more.
    ///
    /// # Errors
    /// As the tables.
    pub fn prune(&self, horizon: Lsn) -> Result<bool, JournalError> {
        let tables = self.tables();
        let mut puts: Vec<Put> = Vec::new();
        let mut count = 0;
        for row in tables.range(Space::Changes, &[], &rows::change_key(horizon, u32::MAX)).take(PRUNE_ROWS) {
            let (key, value) = row?;
            let lsn = change_lsn(&key)?;
            match rows::read(Space::Changes, &value)? {
                Change::Name(edge) => puts.push((Space::NameUndo, rows::name_undo_key(&edge, lsn), None)),
                Change::Node(node) => puts.push((Space::NodeUndo, rows::node_undo_key(node, lsn), None)),
                Change::Data(node) => self.prune_data(node, lsn, &mut puts)?,
            }
            puts.push((Space::Changes, key, None));
            count += 1;
        }
        let mut points = 0;
        for row in tables.range(Space::Points, &[], &horizon.to_key()).take(PRUNE_ROWS) {
            puts.push((Space::Points, row?.0, None));
            points += 1;
        }
        let mut blocks = 0;
        for row in tables.range(Space::PointBlocks, &block_key(Lsn::ZERO), &block_key(horizon)) {
            let block = PointBlock::read(&row?)?;
            // The last of them may reach into the window.
            if block.last >= horizon || blocks == PRUNE_ROWS {
                break;
            }
            puts.extend(block.removal());
            blocks += 1;
        }
        tables.commit(puts)?;
        Ok([count, points, blocks].contains(&PRUNE_ROWS))
    }

    fn prune_data(&self, node: NodeId, lsn: Lsn, puts: &mut Vec<Put>) -> Result<(), JournalError> {
        let mut chunk = 0;
        loop {
            // The next chunk with undo at or after this LSN; then exactly this LSN in it.
            let from = rows::data_undo_key(node, chunk, lsn, 0);
            let end = rows::data_chunk_key(NodeId(node.0 + 1), 0);
            let Some(row) = self.tables().range(Space::DataUndo, &from, &end).next() else { return Ok(()) };
            let (_, found, _, _) = rows::parse_data_undo_key(&row?.0)?;
            let low = rows::data_undo_key(node, found, lsn, 0);
            let high = rows::data_undo_key(node, found, lsn, u32::MAX);
            for row in self.tables().range(Space::DataUndo, &low, &high) {
                puts.push((Space::DataUndo, row?.0, None));
            }
            match found.checked_add(1) {
                Some(next) => chunk = next,
                None => return Ok(()),
            }
        }
    }

    fn is_dead(&self, node: NodeId, horizon: Lsn) -> Result<bool, JournalError> {
        let row = State::node(&**self.tables(), node)?;
        let since = row.and_then(|row| row.kept_since);
        Ok(since.is_some_and(|(captured, local)| Lsn { captured, local } <= horizon))
    }

    /// Takes away the names that nodes with other names have below kept nodes, durably. Before the tree is touched: a
    /// removal that is cut short must not leave a file that is looked for at a name which is gone.
    ///
    /// # Errors
    /// As the tables.
    pub fn let_go(&self, kept: &[NodeId]) -> Result<(), JournalError> {
        let tables = self.tables();
        let (mut todo, mut any) = (kept.to_vec(), false);
        let mut batch = Overlay::new(&**tables);
        while let Some(node) = todo.pop() {
            for row in tables.range(Space::Names, &node.to_key(), &crate::tables::prefix_end(&node.to_key()))
            {
                let (key, value) = row?;
                let child = NodeId::from_key(&value).ok_or(JournalError::BadRow { space: "names" })?;
                if batch.links(child)?.len() > 1 {
                    batch.unbind(&rows::edge_of_name_key(&key)?, child)?;
                    any = true;
                } else {
                    todo.push(child);
                }
            }
            if batch.len() > PRUNE_ROWS {
                tables.commit(std::mem::replace(&mut batch, Overlay::new(&**tables)).into_puts())?;
            }
        }
        tables.commit(batch.into_puts())?;
        // The tree may keep more of what follows than the tables would.
        if any { tables.persist() } else { Ok(()) }
    }

    /// Removes the rows of a kept node that is no longer in the tree, and of all it held.
    ///
    /// # Errors
    /// As the tables.
    pub fn forget_kept(&self, node: NodeId) -> Result<(), JournalError> {
        let tables = self.tables();
        let mut todo = vec![(node, None)];
        let mut batch = Overlay::new(&**tables);
        while let Some((node, edge)) = todo.pop() {
            let links = batch.links(node)?;
            for row in tables.range(Space::Names, &node.to_key(), &crate::tables::prefix_end(&node.to_key()))
            {
                let (key, value) = row?;
                let child = NodeId::from_key(&value).ok_or(JournalError::BadRow { space: "names" })?;
                todo.push((child, Some(rows::edge_of_name_key(&key)?)));
            }
            // Of the node itself only its place in the kept area goes: a file may have come back under another name.
            let gone = |link: &Edge| match &edge {
                Some(edge) => edge == link,
                None => link.parent.is_kept_area(),
            };
            if links.iter().all(gone) {
                batch.put(Space::Nodes, node.to_key().to_vec(), None);
            }
            for link in links.iter().filter(|link| gone(link)) {
                batch.unbind(link, node)?;
            }
            if batch.len() > PRUNE_ROWS {
                tables.commit(std::mem::replace(&mut batch, Overlay::new(&**tables)).into_puts())?;
            }
        }
        tables.commit(batch.into_puts())
    }
}

fn change_lsn(key: &[u8]) -> Result<Lsn, JournalError> {
    key.get(..16).and_then(Lsn::from_key).ok_or(JournalError::BadRow { space: Space::Changes.name() })
}

/// The LSN to which time alone, and the LSN to which the budget would move the horizon. `time_last` is of the clock that is
/// ahead: the master's in captures, the replica's in records of the durable cursor.
fn wanted_horizon(
    undo: &[SegmentInfo],
    redo: &[SegmentInfo],
    total: u64,
    policy: RetentionPolicy,
    age: Timestamp,
) -> (Lsn, Lsn) {
    let keep = i64::try_from(policy.keep.as_nanos()).unwrap_or(i64::MAX);
    let cutoff = Timestamp(age.0.saturating_sub(keep));
    let sealed = || undo.iter().filter(|segment| segment.sealed);
    let by_time = sealed()
        .take_while(|segment| segment.time_last.is_none_or(|last| last < cutoff))
        .filter_map(|segment| segment.lsn_last)
        .max();
    let mut left = total;
    let mut by_budget = Lsn::ZERO;
    for segment in sealed() {
        if left <= policy.bytes_max {
            break;
        }
        by_budget = by_budget.max(segment.lsn_last.unwrap_or_default());
        let with_it =
            redo.iter().filter(|redo| redo.sealed && redo.lsn_last.is_some_and(|last| last <= by_budget));
        let kept = segment_bytes_behind(undo, by_budget) + with_it.map(|redo| redo.bytes).sum::<u64>();
        left = total.saturating_sub(kept);
    }
    (by_time.unwrap_or_default(), by_budget)
}

fn segment_bytes_behind(undo: &[SegmentInfo], horizon: Lsn) -> u64 {
    let behind =
        undo.iter().filter(|segment| segment.sealed && segment.lsn_last.is_none_or(|last| last <= horizon));
    behind.map(|segment| segment.bytes).sum()
}

/// Number of the first segment that is not sealed and old.
fn first_kept(segments: &[SegmentInfo], old: impl Fn(&SegmentInfo) -> bool) -> u64 {
    let first = segments.iter().find(|segment| !segment.sealed || !old(segment));
    first.map_or(0, |segment| segment.number)
}
