//! Thinning: points inside the window that are given up as they grow older, and the bytes of undo that only they needed.
//!
//! Done one sealed undo segment at a time, oldest first, by the rule of [`crate::thin`]: of the points of the segment the
//! first and the last stay, those that the tiers keep by their age, those that anything names or holds (bookmarks, pins,
//! leases, the horizon), and those of a quiesced application. Payloads that no point which stays may ask for are left out of
//! a new file, which takes the place of the segment in one step; with it goes the list of what stays. That step is taken
//! under the lock of the window, after looking once more for what was named meanwhile. From then on a point that was given
//! up is refused, by naming the points next to it ([`JournalError::Thinned`]); before it nothing has happened.
//!
//! Only payloads go. Records, the redo stream, rows of points and rows of the tables stay as they are until the horizon
//! passes them: so nothing that refers to a place has to be changed, redo stays what undo refers to, tables are rebuilt
//! from segments as before, and a segment is refused as a whole by the same checksums. The rows of undo that is gone are
//! never the earliest behind a point that stays, so no view that is let in follows them.
//!
//! A segment is thinned twice at most: when all of it is behind the first bound, and again when it is behind the second.
//! What would give little is left as it is, and its points stay.

use crate::error::JournalError;
use crate::event::Class;
use crate::journal::{Journal, WindowLock, undo_record};
use crate::log::{Gone, RecordAt, SegmentInfo, StoredRecord};
use crate::lsn::Lsn;
use crate::meta::Timestamp;
use crate::record::{KIND_UNDO, UndoPart, UndoRecord, UndoSource};
use crate::state::PointRow;
use crate::state::rows;
use crate::tables::{Row, Space};
use crate::thin::{Needed, Tiers};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::Range;
use std::time::Duration;

/// What a run of thinning came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Thinned {
    /// Segments that were replaced.
    pub segments: u64,
    /// Points given up with them, all in all.
    pub points: u64,
    /// Bytes given back.
    pub freed: u64,
    /// Whether there is more to be done at once.
    pub more: bool,
}

/// What thinning has given up so far, of what is still in the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ThinnedSoFar {
    /// Segments with less than they had.
    pub segments: u64,
    /// Points that are refused.
    pub points: u64,
    /// Bytes of undo that are gone.
    pub bytes: u64,
}

/// Segments that were looked at and left as they are, and whether for good. Forgotten with the process.
pub(crate) type Left = BTreeMap<u64, bool>;

/// A segment is left as it is if less than one part of so many would be given back.
const GAIN_MIN: u64 = 16;

/// LSNs of the first and the last capture with undo in a segment.
struct Span {
    first: Lsn,
    last: Lsn,
}

impl Journal {
    /// Gives up points by these tiers, and the undo that only they need, in segments of about `bytes_max` bytes together
    /// and at least one. May be called at any time, by one thread after the other.
    ///
    /// # Errors
    /// As log, manifest and tables; whatever was done before stays valid.
    pub fn thin(&self, tiers: Tiers, now: Timestamp, bytes_max: u64) -> Result<Thinned, JournalError> {
        let mut left = self.thinning.lock();
        let mut report = Thinned::default();
        let mut read = 0;
        let segments = self.undo().segments();
        let settled = self.settled();
        let mut greatest = Lsn::ZERO;
        left.retain(|number, _| segments.first().is_some_and(|first| first.number <= *number));
        for info in segments.iter().filter(|info| info.sealed) {
            let before = greatest;
            greatest = greatest.max(info.lsn_last.unwrap_or_default());
            let is_settled = info.lsn_last.is_some_and(|last| last <= settled);
            let Some(is_final) = due(info, tiers, now).filter(|_| is_settled) else { continue };
            let so_far = match self.undo().gone(info.number)? {
                Some(thin) => Some(thin.gone.is_final),
                None => left.get(&info.number).copied(),
            };
            if so_far.is_some_and(|was_final| was_final || !is_final) {
                continue;
            }
            if read > 0 && read + info.bytes > bytes_max {
                report.more = true;
                break;
            }
            read += info.bytes;
            let thinned = match self.thin_segment(info, before, (tiers, now, is_final)) {
                // Retention was faster.
                Err(_) if info.number < self.undo().first().segment => continue,
                other => other?,
            };
            match thinned {
                Some((points, freed)) => {
                    report.segments += 1;
                    report.points += points;
                    report.freed += freed;
                }
                None => drop(left.insert(info.number, is_final)),
            }
        }
        Ok(report)
    }

    /// What was given up so far.
    ///
    /// # Errors
    /// As the log.
    pub fn thinned_so_far(&self) -> Result<ThinnedSoFar, JournalError> {
        let mut sum = ThinnedSoFar::default();
        for info in self.undo().segments().iter().filter(|info| info.is_thinned) {
            if let Some(thin) = self.undo().gone(info.number)? {
                sum.segments += 1;
                sum.bytes += info.thinned;
                sum.points += thin.gone.points;
            }
        }
        Ok(sum)
    }

    /// The points next to a point that was thinned out; `None` if it was not.
    ///
    /// # Errors
    /// `Damaged`, `File`; `Poisoned` if that is not known after a disk failed.
    pub fn thinned_out(&self, lsn: Lsn) -> Result<Option<(Lsn, Lsn)>, JournalError> {
        self.undo().check_known(lsn)?;
        for number in self.undo().thinned_around(lsn) {
            if let Some(thin) = self.undo().gone(number)?.filter(|thin| thin.gone.has(lsn)) {
                return Ok(Some(thin.gone.around(lsn)));
            }
        }
        Ok(None)
    }

    /// Points and bytes given up with a segment; none if it is left as it is.
    fn thin_segment(
        &self,
        info: &SegmentInfo,
        before: Lsn,
        (tiers, now, is_final): (Tiers, Timestamp, bool),
    ) -> Result<Option<(u64, u64)>, JournalError> {
        // Undo that was written again, because it could not be published, lies in two segments.
        let Some(span) = self.span(info.number)?.filter(|span| before <= span.first) else { return Ok(None) };
        let named = self.named(&self.window_lock());
        let Some(mut gone) = self.choose(info.number, &span, &named, (tiers, now))? else { return Ok(None) };
        gone.is_final = is_final;
        let Some(holes) = self.holes(info.number, &gone)? else { return Ok(None) };
        let bytes: u64 = holes.iter().map(|hole| hole.end - hole.start).sum();
        if bytes.saturating_sub(info.thinned) < info.bytes / GAIN_MIN + 1 {
            return Ok(None);
        }
        let prepared = self.undo().prepare(info.number, &holes, &gone)?;
        let window = self.window_lock();
        if self.named(&window).iter().any(|lsn| gone.has(*lsn)) {
            drop(window);
            // Somebody was faster; the next run knows.
            self.undo().discard(&prepared);
            return Ok(Some((0, 0)));
        }
        let freed = self.undo().replace(&prepared)?;
        drop(window);
        Ok(Some((gone.points, freed)))
    }

    /// All points that something names or holds.
    fn named(&self, window: &WindowLock<'_>) -> BTreeSet<Lsn> {
        let mut named: BTreeSet<Lsn> = window.leases().collect();
        self.with_controls(|controls| {
            named.extend(controls.bookmarks.values().map(crate::controls::Bookmark::lsn));
            named.extend(controls.pins.values().map(crate::controls::Pin::lsn));
            named.insert(controls.horizon());
        });
        named
    }

    /// Which points of a segment go; none if no point does.
    fn choose(
        &self,
        number: u64,
        span: &Span,
        named: &BTreeSet<Lsn>,
        (tiers, now): (Tiers, Timestamp),
    ) -> Result<Option<Gone>, JournalError> {
        let so_far = self.undo().gone(number)?;
        let mut gone = Gone { from: span.first, to: span.last, ..Gone::default() };
        let mut stays: BTreeSet<Lsn> = named.range(span.first..span.last).copied().collect();
        stays.insert(span.first);
        let (from, to) = (span.first.to_key(), span.last.successor().to_key());
        let mut pending: Option<(Lsn, PointRow)> = None;
        for row in self.tables().range(Space::Points, &from, &to) {
            let (lsn, row) = point(row?)?;
            if let Some((before, point)) = pending.take() {
                let keeps = tiers.keeps(point.time, Some(row.time), now) || point.class == Class::Application;
                // What is gone does not come back.
                let was_gone = so_far.as_ref().is_some_and(|thin| thin.gone.has(before));
                if keeps && !was_gone {
                    stays.insert(before);
                }
                gone.points += u64::from(!stays.contains(&before));
            }
            pending = Some((lsn, row));
        }
        gone.retained = stays.into_iter().collect();
        Ok((gone.points > 0).then_some(gone))
    }

    /// Records of a sealed undo segment.
    fn undo_in(&self, number: u64) -> impl Iterator<Item = Result<StoredRecord, JournalError>> + use<> {
        let from = RecordAt { segment: number, ..self.undo().first() };
        self.undo()
            .read(from)
            .take_while(move |record| record.as_ref().map_or(true, |record| record.at.segment == number))
    }

    /// The captures of a segment; none if it has no undo, or if its order shows that some was written twice.
    fn span(&self, number: u64) -> Result<Option<Span>, JournalError> {
        let mut span: Option<Span> = None;
        for record in self.undo_in(number) {
            let record = record?;
            let Some(lsn) = record.lsn.filter(|_| record.kind == KIND_UNDO) else { continue };
            match &mut span {
                Some(span) if lsn < span.last => return Ok(None),
                Some(span) => span.last = lsn,
                None => span = Some(Span { first: lsn, last: lsn }),
            }
        }
        Ok(span.filter(|span| span.first < span.last))
    }

    /// Bytes of payloads of a segment that no point which stays may ask for, rising. `None` if some that are needed are
    /// not there any more, which must not be.
    fn holes(&self, number: u64, gone: &Gone) -> Result<Option<Vec<Range<u64>>>, JournalError> {
        let (mut holes, mut needed) = (Vec::<Range<u64>>::new(), Needed::new(&gone.retained));
        for record in self.undo_in(number) {
            let record = record?;
            let UndoRecord::Undo(part) = undo_record(self.directory(), &record)? else { continue };
            let wanted = wanted(&part, &mut needed);
            for payload in &record.payloads {
                let place = payload.offset..payload.offset + u64::from(payload.stored_bytes());
                if wanted.contains(&payload.offset) {
                    if !self.undo().holds(payload)? {
                        return Ok(None);
                    }
                    continue;
                }
                match holes.last_mut() {
                    Some(last) if last.end == place.start => last.end = place.end,
                    _ => holes.push(place),
                }
            }
        }
        Ok(Some(holes))
    }

    /// Whether all that the points of a thinned segment need is there that stay; true of a segment that is whole.
    ///
    /// # Errors
    /// As the log.
    pub(crate) fn is_enough_left(&self, number: u64) -> Result<bool, JournalError> {
        let Some(thin) = self.undo().gone(number)? else { return Ok(true) };
        Ok(self.holes(number, &thin.gone)?.is_some())
    }
}

/// Offsets of the payloads of a part that somebody may ask for.
fn wanted(part: &UndoPart, needed: &mut Needed<'_>) -> HashSet<u64> {
    let needs = needed.take(part);
    let offset = |source: &UndoSource| match source {
        UndoSource::Undo { at, .. } | UndoSource::Delta { at, .. } => Some(at.offset),
        UndoSource::Zero | UndoSource::Redo { .. } => None,
    };
    let wanted = part.data.iter().zip(needs).filter(|(_, needed)| *needed);
    wanted.filter_map(|(one, _)| offset(&one.source)).collect()
}

/// Whether a segment is behind one of the bounds; and whether it is the last.
fn due(info: &SegmentInfo, tiers: Tiers, now: Timestamp) -> Option<bool> {
    let last = info.time_last?;
    let age = Duration::from_nanos(u64::try_from(now.0.saturating_sub(last.0)).unwrap_or(0));
    (age >= tiers.every).then(|| age >= tiers.minutes.max(tiers.every))
}

fn point((key, value): Row) -> Result<(Lsn, PointRow), JournalError> {
    let lsn = Lsn::from_key(&key).ok_or(JournalError::BadRow { space: Space::Points.name() })?;
    Ok((lsn, rows::read(Space::Points, &value)?))
}

#[cfg(test)]
mod tests;
