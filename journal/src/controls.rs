//! What the journal says about itself: bookmarks, pins, gaps, synchronization, detachment.
//!
//! A [`Controls`] is folded from control records and markers in the order of the redo stream. Folding is idempotent
//! from any earlier place on: the last record about a thing decides, so a snapshot of it may be brought up to date by
//! reading again what it already holds.

use crate::event::{Capture, Class, Event, GapCause, Marker, Provenance, SkippedWhat};
use crate::id::{NodeId, RootNo};
use crate::log::RecordAt;
use crate::lsn::Lsn;
use crate::meta::Timestamp;
use crate::record::Control;
use bincode::{Decode, Encode};
use std::collections::BTreeMap;

/// A rewind point with a name.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Bookmark {
    captured: u64,
    local: u64,
    /// How consistent it is.
    pub class: Class,
    /// Set by the system before something destructive.
    pub automatic: bool,
    /// The master's clock at the point.
    pub time: Timestamp,
}

impl Bookmark {
    /// The point it names.
    #[must_use]
    pub const fn lsn(&self) -> Lsn {
        Lsn { captured: self.captured, local: self.local }
    }
}

/// A point that must stay readable.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Pin {
    captured: u64,
    local: u64,
    /// Who needs it.
    pub why: String,
}

impl Pin {
    /// The point it keeps.
    #[must_use]
    pub const fn lsn(&self) -> Lsn {
        Lsn { captured: self.captured, local: self.local }
    }
}

/// An interval in which capture may have missed something.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Gap {
    /// The LSN that opened it.
    pub opened: u64,
    /// Root and path of the subtree.
    pub root: RootNo,
    /// Path below the root; empty for all of it.
    pub path: Vec<u8>,
    /// Why.
    pub cause: GapCause,
}

/// How far the first synchronization has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub enum Synchronized {
    /// It has not begun.
    #[default]
    Never,
    /// The first one runs, or was interrupted: there is no rewind point yet.
    First,
    /// A later one runs; earlier points hold.
    Again,
    /// "All modifications during synchronization are replicated."
    Completed,
}

/// Local captures that do not count: captured half, and the local halves after which and up to which.
pub(crate) type Dropped = (u64, u64, u64);

pub(crate) fn is_dropped(dropped: &[Dropped], lsn: Lsn) -> bool {
    let within = |(captured, after, upto): &Dropped| {
        *captured == lsn.captured && *after < lsn.local && lsn.local <= *upto
    };
    lsn.is_local() && dropped.iter().any(within)
}

/// The last meeting with a master.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
struct Met {
    meeting: [u8; 16],
    /// The last one the master had been at before.
    before: [u8; 16],
    /// Something captured was journaled since.
    heard: bool,
}

/// Paths remembered of what was skipped; more are counted.
const SKIPPED_MAX: usize = 1000;

/// What the journal says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Controls {
    /// By name.
    pub bookmarks: BTreeMap<String, Bookmark>,
    /// By id.
    pub pins: BTreeMap<u64, Pin>,
    /// Open gaps by id.
    pub gaps: BTreeMap<u64, Gap>,
    /// Why the replica tree does not follow the capture.
    pub detached: Option<String>,
    /// Synchronization.
    pub synchronized: Synchronized,
    /// LSN of the first completed synchronization, 0 for none: the oldest rewind point there can be.
    pub first_point: u64,
    /// What could not be kept: root and path to what and why, at most [`SKIPPED_MAX`].
    pub skipped: BTreeMap<(RootNo, Vec<u8>), (SkippedWhat, i32)>,
    /// Changes of the replica tree that were not ours, since they were last seen to.
    pub drift: Vec<(String, String, Timestamp)>,
    /// Files, directories and bytes of the last synchronization that completed.
    pub synchronized_counts: (u64, u64, u64),
    horizon: (u64, u64),
    /// The greatest local LSN ever journaled.
    minted: (u64, u64),
    /// Local captures that do not count.
    dropped: Vec<Dropped>,
    /// Captures, from and to, whose bytes were never journaled and did not get into the tree.
    lost: Vec<(u64, u64)>,
    /// The last meeting with a master.
    met: Option<Met>,
    next_pin: u64,
    next_node: u64,
    upto: RecordAt,
}

impl Controls {
    /// The oldest point that is promised.
    #[must_use]
    pub fn horizon(&self) -> Lsn {
        let horizon = Lsn { captured: self.horizon.0, local: self.horizon.1 };
        horizon.max(Lsn::captured(self.first_point))
    }

    /// The id the next pin gets.
    #[must_use]
    pub fn next_pin(&self) -> u64 {
        self.next_pin
    }

    /// The greatest local LSN ever journaled, applied or not; none of them is given twice.
    #[must_use]
    pub fn minted(&self) -> Lsn {
        Lsn { captured: self.minted.0, local: self.minted.1 }
    }

    /// Whether this is a local capture that was journaled and given up.
    #[must_use]
    pub fn is_dropped(&self, lsn: Lsn) -> bool {
        is_dropped(&self.dropped, lsn)
    }

    /// Forgets local captures that were given up, up to `upto`: for a journal of which nothing up to there is ever read
    /// again. A horizon alone is no reason: the segments behind it may stay, and who rebuilds tables reads them.
    pub(crate) fn forget_dropped(&mut self, upto: Lsn) {
        self.dropped.retain(|(captured, _, last)| (*captured, *last) > (upto.captured, upto.local));
    }

    pub(crate) fn dropped(&self) -> &[Dropped] {
        &self.dropped
    }

    /// Whether bytes of a first synchronization were lost, be it that they were sent again.
    #[must_use]
    pub fn has_lost_bytes(&self) -> bool {
        !self.lost.is_empty()
    }

    /// Whether the bytes of a capture that were never journaled are lost.
    #[must_use]
    pub fn is_lost(&self, lsn: Lsn) -> bool {
        self.lost.iter().any(|(first, last)| (*first..=*last).contains(&lsn.captured))
    }

    /// The last record folded in; folding it again, and all after it, brings these controls up to date.
    #[must_use]
    pub fn upto(&self) -> RecordAt {
        self.upto
    }

    /// The least node id that no capture has created.
    #[must_use]
    pub fn next_node(&self) -> NodeId {
        NodeId(self.next_node.max(NodeId::FIRST_FREE.0))
    }

    /// Whether a master whose last meeting was this one has seen all that is journaled. It was at the last meeting; or
    /// at the one before, does not know of the last because the answer got lost, and nothing was journaled since.
    #[must_use]
    pub fn has_seen_all(&self, meeting: Option<[u8; 16]>) -> bool {
        match (&self.met, meeting) {
            (None, _) => true,
            (Some(met), Some(meeting)) => met.meeting == meeting || (met.before == meeting && !met.heard),
            (Some(_), None) => false,
        }
    }

    /// The record of a meeting with a master that was at `known` before and may, or may not, go on with a history of its
    /// own. `None`: it goes on and has not seen all that is journaled.
    ///
    /// Who has seen all may come once more from where it was, if the answer gets lost and nothing is journaled; also who
    /// goes on with nothing yet, for by then it may have made something.
    #[must_use]
    pub fn meet(&self, known: Option<[u8; 16]>, goes_on: bool, meeting: [u8; 16]) -> Option<Control> {
        let has_seen_all = self.has_seen_all(known);
        let before = known.filter(|_| has_seen_all).unwrap_or(meeting);
        (has_seen_all || !goes_on).then_some(Control::Met { meeting, before })
    }

    /// Takes a control record from its place.
    pub fn control(&mut self, control: &Control, at: RecordAt) {
        self.upto = at;
        match control.clone() {
            Control::BookmarkSet { name, captured, local, class, automatic, time } => {
                self.bookmarks.insert(name, Bookmark { captured, local, class, automatic, time });
            }
            Control::BookmarkDeleted { name } => {
                self.bookmarks.remove(&name);
            }
            Control::Pinned { pin, captured, local, why } => {
                self.next_pin = self.next_pin.max(pin + 1);
                self.pins.insert(pin, Pin { captured, local, why });
            }
            Control::Unpinned { pin } => {
                self.pins.remove(&pin);
            }
            Control::Detached { why } => self.detached = Some(why),
            Control::Attached => self.detached = None,
            Control::Drift { object, what, time } => {
                let drift = (object, what, time);
                let known =
                    |other: &(String, String, Timestamp)| (&other.0, &other.1) == (&drift.0, &drift.1);
                if self.drift.len() < SKIPPED_MAX && !self.drift.iter().any(known) {
                    self.drift.push(drift);
                }
            }
            Control::DriftCleared => self.drift.clear(),
            Control::Horizon { captured, local } => {
                self.horizon = self.horizon.max((captured, local));
            }
            Control::LocalsDropped { captured, after, upto } => {
                if !self.dropped.contains(&(captured, after, upto)) {
                    self.dropped.push((captured, after, upto));
                }
            }
            Control::BytesLost { first, last } => {
                if !self.lost.contains(&(first, last)) {
                    self.lost.push((first, last));
                }
            }
            Control::Met { meeting, before } => self.met = Some(Met { meeting, before, heard: false }),
            Control::Server { .. } | Control::Compared { .. } | Control::Scrubbed(_) => {}
        }
    }

    /// Takes the markers of a capture that is complete with the record at this place.
    pub fn capture(&mut self, capture: &Capture, at: RecordAt) {
        self.upto = at;
        if capture.lsn.is_local() {
            self.minted = self.minted.max((capture.lsn.captured, capture.lsn.local));
        }
        self.part(capture);
    }

    /// Takes the events of a part that is not the last of its capture: folded again with the whole after a restart.
    pub(crate) fn part(&mut self, capture: &Capture) {
        if capture.provenance != Provenance::Local {
            self.heard();
        }
        for event in &capture.events {
            if let Event::Create { node, .. } = event
                && capture.provenance != Provenance::Local
            {
                self.next_node = self.next_node.max(node.0.saturating_add(1));
            }
            let Event::Mark(marker) = event else { continue };
            match marker.clone() {
                Marker::Barrier { .. } | Marker::Digest { .. } => {}
                Marker::SynchronizationStarted { first } => {
                    self.synchronized = if first { Synchronized::First } else { Synchronized::Again };
                }
                Marker::SynchronizationCompleted { files, directories, bytes } => {
                    self.synchronized_counts = (files, directories, bytes);
                    if self.first_point == 0 {
                        self.first_point = capture.lsn.captured;
                    }
                    self.synchronized = Synchronized::Completed;
                }
                Marker::GapOpened { gap, root, path, cause } => {
                    self.gaps.insert(gap, Gap { opened: capture.lsn.captured, root, path, cause });
                }
                Marker::GapClosed { gap } => self.close_gap(gap),
                Marker::Skipped { root, path, what, errno } => {
                    if self.skipped.len() < SKIPPED_MAX {
                        self.skipped.insert((root, path), (what, errno));
                    }
                }
                Marker::Unskipped { root, path } => {
                    self.skipped.remove(&(root, path));
                }
            }
        }
    }

    /// Something captured was journaled.
    pub(crate) fn heard(&mut self) {
        if let Some(met) = &mut self.met {
            met.heard = true;
        }
    }

    /// Everything of a root was compared after this gap was opened, so what older gaps of the root may have missed was
    /// found too. Agents that died cannot close theirs: no other agent knows their ids.
    ///
    /// Only directories without a watch outlive a comparison, as long as the agent lives that lacks the watches; a gap
    /// that is opened when an agent starts says that the one before is dead.
    fn close_gap(&mut self, gap: u64) {
        let Some(closed) = self.gaps.remove(&gap) else { return };
        let starts = matches!(closed.cause, GapCause::AgentDown | GapCause::Stopped | GapCause::SpoolFull);
        self.gaps.retain(|_, older| {
            let is_covered =
                older.opened < closed.opened && older.root == closed.root && closed.path.is_empty();
            !is_covered || (older.cause == GapCause::WatchLimit && !starts)
        });
    }
}

#[cfg(test)]
mod tests;
