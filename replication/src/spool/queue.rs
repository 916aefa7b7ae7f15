//! The spool's state without its I/O: what is where, and what may go.
//!
//! Every part has a *place*: a number that only grows, also when a capture is abandoned and its LSN is used again.
//! Places are contiguous over segments and memory, and LSNs never decrease over places, so both acknowledgement by
//! LSN and release by place free from the old end.

use super::segment::{Chunk, Segment};
use super::{MARKER_RESERVE_BYTES, SinkError, SpoolOptions, SpoolStatus};
use bytes::Bytes;
use journal::{Lsn, Timestamp};
use std::collections::VecDeque;
use wire::stream::{JournalId, MeetingId, SpoolState};

/// What a part in memory takes besides its bytes.
const ENTRY_BYTES: u64 = 64;

/// What a part counts for in memory and, about, on disk.
pub(super) fn weight(bytes: &Bytes) -> u64 {
    bytes.len() as u64 + ENTRY_BYTES
}

/// A part that waits.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub lsn: u64,
    pub number: u32,
    pub last: bool,
    pub bytes: Bytes,
}

/// What the parts of a capture have in common, and the number of the next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub lsn: u64,
    pub parts: u32,
    pub time: Timestamp,
}

/// A capture that has begun and not ended.
#[derive(Clone, Copy, Debug)]
struct Open {
    first_place: u64,
    drafts: u32,
    parts: u32,
    time: Timestamp,
}

/// Where a part is.
pub(super) enum Found {
    Memory(Entry),
    Segment(Segment),
    /// Not captured yet, or delivery is suspended.
    NotYet,
    /// Abandoned: look at this place instead.
    Skip(u64),
    /// Freed: whoever needed it has it. What is left begins at this place.
    Gone(u64),
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    pub journal: Option<JournalId>,
    /// The last meeting with it.
    pub meeting: Option<MeetingId>,
    /// Counts how often what was captured was forgotten.
    pub history: u64,
    /// `None` until it is known where LSNs go on.
    pub captured: Option<u64>,
    pub acknowledged: u64,
    pub time: Timestamp,
    open: Option<Open>,
    pub segments: VecDeque<Segment>,
    pub disk_bytes: u64,
    memory: VecDeque<Entry>,
    pub memory_bytes: u64,
    /// Place of the next part.
    pub next_place: u64,
    pub next_segment: u64,
    /// Ranges of places of abandoned captures, ascending.
    pub skips: VecDeque<(u64, u64)>,
    /// Parts before this place are freed.
    pub released: u64,
    /// Parts before this place have been dealt with by the replica.
    pub taken: u64,
    pub full: bool,
    pub suspended: bool,
    pub closed: bool,
}

impl Queue {
    pub fn begin(&mut self, journal: JournalId, journaled: Lsn, time: Timestamp) {
        self.journal = Some(journal);
        if self.captured.is_none() || self.is_unused() {
            self.captured = Some(journaled.captured);
        }
        self.time = self.time.max(time);
    }

    /// Whether no capture was ever made, nor begun.
    pub fn is_unused(&self) -> bool {
        self.captured.is_none_or(|captured| captured == 0) && self.next_place == 0 && self.open.is_none()
    }

    /// First place in memory.
    fn memory_place(&self) -> u64 {
        self.next_place - self.memory.len() as u64
    }

    pub fn is_empty(&self) -> bool {
        self.captured.is_none_or(|captured| captured == self.acknowledged)
    }

    pub fn status(&self, options: &SpoolOptions) -> SpoolStatus {
        let limit = options.memory_bytes_max.saturating_add(options.disk_bytes_max);
        let state = if self.full {
            SpoolState::Full
        } else if self.memory_bytes + self.disk_bytes > limit / 5 * 4 {
            SpoolState::NearFull
        } else if self.segments.is_empty() {
            SpoolState::Memory
        } else {
            SpoolState::Disk
        };
        SpoolStatus {
            captured: self.captured.map(Lsn::captured),
            acknowledged: Lsn::captured(self.acknowledged),
            memory_bytes: self.memory_bytes,
            disk_bytes: self.disk_bytes,
            state,
            suspended: self.suspended,
        }
    }

    /// Whether captures are refused. Ends the state once a quarter of the room is free, and either memory or the file
    /// system, of which `free` bytes are free, can take a good deal.
    pub fn is_full(&mut self, options: &SpoolOptions, free: u64) -> bool {
        if self.full {
            let limit = options.memory_bytes_max.saturating_add(options.disk_bytes_max);
            let quarter = self.memory_bytes + self.disk_bytes <= limit / 4 * 3;
            let disk = free.saturating_sub(options.disk_free_bytes_min) >= 2 * options.segment_bytes_max;
            self.full = !(quarter && (disk || self.memory_bytes <= options.memory_bytes_max / 2));
        }
        self.full
    }

    /// Whether so many bytes more stay within memory. One part always fits an empty memory.
    pub fn fits(&self, bytes: u64, options: &SpoolOptions) -> bool {
        self.memory.is_empty() || self.memory_bytes + bytes <= options.memory_bytes_max
    }

    /// The same for what may exceed the limit a little.
    pub fn fits_reserve(&self, bytes: u64, options: &SpoolOptions) -> bool {
        self.memory_bytes + bytes <= options.memory_bytes_max + MARKER_RESERVE_BYTES
    }

    /// Whether all that waits is an unfinished capture, of which the replica has taken everything.
    pub fn is_stuck_on_open(&self) -> bool {
        self.open.is_some() && self.is_empty() && self.taken >= self.next_place
    }

    /// The next draft of a capture comes, at this time of the clock. Before draft 0 the open capture was abandoned.
    pub fn open_draft(&mut self, draft: u32, time: Timestamp) -> Result<Header, SinkError> {
        if self.closed {
            return Err(SinkError::Closed);
        }
        let captured = self.captured.ok_or(SinkError::NotBegun)?;
        if draft == 0 {
            let time = time.max(self.time);
            self.open = Some(Open { first_place: self.next_place, drafts: 0, parts: 0, time });
        }
        match &mut self.open {
            Some(open) if open.drafts == draft => {
                open.drafts += 1;
                Ok(Header { lsn: captured + 1, parts: open.parts, time: open.time })
            }
            open => {
                let expected = open.map_or(0, |open| open.drafts);
                Err(SinkError::OutOfOrder { expected, found: draft })
            }
        }
    }

    /// Appends the next part of the open capture, unless that was forgotten meanwhile.
    pub fn push(&mut self, bytes: Bytes, last: bool, time: Timestamp) -> Result<(), SinkError> {
        if self.open.is_none() {
            return Err(SinkError::NotBegun);
        }
        let lsn = self.captured.unwrap_or(0) + 1;
        let number = self.open.map_or(0, |open| open.parts);
        self.memory_bytes += weight(&bytes);
        self.memory.push_back(Entry { lsn, number, last, bytes });
        self.next_place += 1;
        if last {
            self.captured = Some(lsn);
            self.time = time;
            self.open = None;
        } else if let Some(open) = &mut self.open {
            open.parts += 1;
        }
        Ok(())
    }

    /// Drops everything captured, and where LSNs go on; returns the segment files to remove.
    pub fn forget_history(&mut self) -> Vec<u64> {
        self.history += 1;
        (self.captured, self.open, self.full) = (None, None, false);
        self.release(self.next_place)
    }

    /// Drops the open capture: readers pass over its parts. Returns the segment files to remove.
    pub fn abandon(&mut self) -> Vec<u64> {
        let Some(open) = self.open.take() else { return Vec::new() };
        match self.skips.back_mut() {
            _ if open.parts == 0 => return Vec::new(),
            Some((_, to)) if *to == open.first_place => *to = self.next_place,
            _ => self.skips.push_back((open.first_place, self.next_place)),
        }
        self.release(self.released)
    }

    /// Frees all captures up to this one; returns the segment files to remove.
    pub fn acknowledge(&mut self, lsn: u64) -> Vec<u64> {
        let lsn = lsn.min(self.captured.unwrap_or(lsn));
        self.acknowledged = self.acknowledged.max(lsn);
        if self.is_empty() {
            // All that is left was abandoned, or belongs to the open capture.
            return self.release(self.open.map_or(self.next_place, |open| open.first_place));
        }
        let mut place = self.released;
        for segment in &self.segments {
            if segment.last_lsn > lsn {
                return self.release(place);
            }
            place = segment.last_place + 1;
        }
        let memory = self.memory_place();
        let known = self.memory.iter().take_while(|entry| entry.lsn <= lsn).count() as u64;
        self.release(place.max(memory + known))
    }

    /// Frees all parts before this place; returns the segment files to remove.
    pub fn release(&mut self, place: u64) -> Vec<u64> {
        let mut place = place.clamp(self.released, self.next_place);
        // What was abandoned is needed by nobody once nothing before it is.
        while let Some((_, to)) = self.skips.pop_front_if(|(from, _)| *from <= place) {
            place = place.max(to);
        }
        self.released = place;
        let mut files = Vec::new();
        while let Some(segment) = self.segments.pop_front_if(|segment| segment.last_place < place) {
            self.disk_bytes -= segment.bytes;
            files.push(segment.number);
        }
        while self.memory_place() < place {
            let Some(entry) = self.memory.pop_front() else { break };
            self.memory_bytes -= weight(&entry.bytes);
        }
        files
    }

    /// The oldest of what is in memory, to be written to a segment file of about `segment_bytes`, at most `room`;
    /// `None` if at most `keep` bytes are in memory or there is no room.
    pub fn chunk(&mut self, keep: u64, segment_bytes: u64, room: u64) -> Option<Chunk> {
        let excess = self.memory_bytes.saturating_sub(keep);
        let mut bytes = 0;
        let mut entries = Vec::new();
        for entry in &self.memory {
            let with = bytes + weight(&entry.bytes);
            if bytes >= excess || with > room || (with > segment_bytes && !entries.is_empty()) {
                break;
            }
            bytes = with;
            entries.push(entry.clone());
        }
        if entries.is_empty() {
            return None;
        }
        self.next_segment += 1;
        Some(Chunk { number: self.next_segment, first_place: self.memory_place(), entries })
    }

    /// Takes a segment in place of the chunk it was written from; `false` if all of that was freed meanwhile.
    pub fn replace(&mut self, segment: Segment) -> bool {
        if segment.last_place < self.released {
            return false;
        }
        while self.memory_place() <= segment.last_place {
            let Some(entry) = self.memory.pop_front() else { break };
            self.memory_bytes -= weight(&entry.bytes);
        }
        self.disk_bytes += segment.bytes;
        self.segments.push_back(segment);
        true
    }

    /// Where the part at this place is. While delivery is suspended nothing is there for who delivers.
    pub fn find(&self, place: u64, delivering: bool) -> Found {
        if place < self.released {
            return Found::Gone(self.released);
        }
        if (delivering && self.suspended) || place >= self.next_place {
            return Found::NotYet;
        }
        if let Some((_, to)) = self.skips.iter().find(|(from, to)| (*from..*to).contains(&place)) {
            return Found::Skip(*to);
        }
        if let Some(index) = place.checked_sub(self.memory_place()) {
            let entry = usize::try_from(index).ok().and_then(|index| self.memory.get(index));
            return entry.map_or(Found::NotYet, |entry| Found::Memory(entry.clone()));
        }
        let at = self.segments.partition_point(|segment| segment.last_place < place);
        self.segments.get(at).map_or(Found::NotYet, |segment| Found::Segment(segment.clone()))
    }
}
