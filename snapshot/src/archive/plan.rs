//! What is copied into the archive next, and what leaves it: pure, so that tests can compare it.
//!
//! Only what is not there yet is copied, unless a segment lies in the archive in far more pieces than it needs: then it is
//! copied anew, from its first byte, and the small pieces are given up. That bounds the number of objects by the number
//! of segments and a constant, whatever the pace is, and doubles at most what is sent.
//!
//! A session may turn up that is older than all that is archived, and objects may vanish from a store: whatever the oldest
//! session needs and the journal still has is copied, wherever it stands. What belongs in front of the first piece goes
//! from there backwards, so that no manifest in between has a gap that the next one has not.
//!
//! Whole segments leave from the old end, when the oldest session behind which their redo could be wanted is gone. As
//! long as no session is known nothing leaves.

use super::manifest::{PIECE_BYTES_MAX, Piece};

/// More pieces than a segment needs that are allowed while it is written.
const LIVE_PIECES_MAX: u64 = 120;
/// The same once it is sealed.
const SEALED_PIECES_MAX: u64 = 4;

/// A segment of the journal, as far as it is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Local {
    /// Its number.
    pub number: u64,
    /// Durable bytes.
    pub bytes: u64,
    /// Whether it is complete.
    pub sealed: bool,
    /// Whether it holds a record.
    pub used: bool,
}

/// Bytes of one segment to be copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shipment {
    /// Number of the segment.
    pub segment: u64,
    /// From this byte on; 0 takes the place of all pieces of the segment.
    pub from: u64,
    /// To this one.
    pub to: u64,
    /// Whether the segment ends there.
    pub sealed: bool,
}

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In this order.
    pub ship: Vec<Shipment>,
    /// Segments in front of this one leave the archive.
    pub keep_from: u64,
    /// The journal has lost segments that were not archived: the archive gets a gap.
    pub gap: bool,
}

/// Decides, for the segments of a journal in their order. `begin` is the segment in which the redo behind the oldest
/// session begins, or without a session the first one to be archived when nothing is yet; `oldest` the least LSN of a session that the
/// archive starts from, none while there is no session.
#[must_use]
pub fn plan(local: &[Local], pieces: &[Piece], begin: u64, oldest: Option<u64>) -> Plan {
    let last = pieces.last().map(|piece| &piece.place);
    let next = last.map_or(begin, |last| last.segment + u64::from(last.sealed));
    let mut plan = Plan { keep_from: keep_from(pieces, oldest), ..Plan::default() };
    plan.gap = last.is_some() && local.first().is_some_and(|first| first.number > next);
    let archived = pieces.first().map(|piece| piece.place.segment);
    let low = match (archived, oldest) {
        (None, _) => begin,
        (Some(archived), None) => archived,
        (Some(archived), Some(_)) => archived.min(begin).max(plan.keep_from),
    };
    let mut front = Vec::new();
    let mut expected = local.first().map(|first| first.number);
    for segment in local {
        if expected != Some(segment.number) {
            // The list has a hole. Whatever that is, the journal has not let go of it: only of its beginning it does.
            break;
        }
        expected = segment.number.checked_add(1);
        if !segment.used || segment.number < low {
            continue;
        }
        let Some(shipment) = missing(segment, pieces) else { continue };
        let is_front = archived.is_some_and(|archived| segment.number < archived);
        if is_front { &mut front } else { &mut plan.ship }.push(shipment);
    }
    plan.ship.extend(front.into_iter().rev());
    plan
}

/// What of a segment has to be copied.
fn missing(segment: &Local, pieces: &[Piece]) -> Option<Shipment> {
    let mine = || pieces.iter().filter(|piece| piece.place.segment == segment.number);
    let covered = mine().map(|piece| piece.place.to).max().unwrap_or(0);
    if covered >= segment.bytes {
        return None;
    }
    let needs = |bytes: u64| bytes.div_ceil(PIECE_BYTES_MAX as u64);
    let allowed = if segment.sealed { SEALED_PIECES_MAX } else { LIVE_PIECES_MAX };
    let pieces = mine().count() as u64 + needs(segment.bytes - covered);
    let from = if pieces > needs(segment.bytes) + allowed { 0 } else { covered };
    Some(Shipment { segment: segment.number, from, to: segment.bytes, sealed: segment.sealed })
}

/// The segment in which the redo behind the oldest session begins; 0 if that is not archived, or there is no session.
#[must_use]
pub fn keep_from(pieces: &[Piece], oldest: Option<u64>) -> u64 {
    let Some(oldest) = oldest else { return 0 };
    // The piece in which the capture behind that session begins, or the last one that begins in front of it.
    let begins = |piece: &&Piece| piece.place.first.is_some_and(|first| first <= oldest.saturating_add(1));
    pieces.iter().rfind(begins).map_or(0, |piece| piece.place.segment)
}

/// The stretches into which bytes are cut.
pub fn cut(shipment: Shipment) -> impl Iterator<Item = (u64, u64)> {
    let step = PIECE_BYTES_MAX as u64;
    let mut from = shipment.from;
    std::iter::from_fn(move || {
        let to = from.saturating_add(step).min(shipment.to);
        let stretch = (from < to).then_some((from, to));
        from = to;
        stretch
    })
}
