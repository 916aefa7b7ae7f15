//! Building drafts: events go in, parts of bounded size go to the sink.
//!
//! A capture of any size needs the memory of one part. Once part 0 is out the capture must be ended; nothing that can
//! fail for reasons of the master's tree may stand between [`Out::begin`] and [`Out::end`] without an answer.

use super::{CaptureError, CaptureSink, Draft, PART_BYTES_MAX};
use journal::{Event, Lsn, Marker, Payload, Provenance, RootNo, Timestamp};
use std::time::{SystemTime, UNIX_EPOCH};

/// Events of one part, so that parts of captures without payload are bounded too.
const PART_EVENTS_MAX: usize = 4096;
/// Captures that share a draft during the first synchronization.
const SHARED_MAX: usize = 256;

struct Building {
    root: RootNo,
    path: Vec<u8>,
    time: Timestamp,
    part: u32,
    bytes: usize,
    events: Vec<Event>,
    captures: usize,
}

/// The way out of the agent.
pub(super) struct Out {
    sink: Box<dyn CaptureSink>,
    building: Option<Building>,
    /// Between `begin` and `end`.
    inside: bool,
    /// How changes are seen at present.
    pub provenance: Provenance,
    /// Several captures may share a draft (first synchronization: no point lies between them).
    pub shared: bool,
    pub last_lsn: Lsn,
    pub last_time: Timestamp,
}

/// The clock of the master, in nanoseconds since the epoch.
pub(super) fn clock() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}

impl Out {
    pub(super) fn new(sink: Box<dyn CaptureSink>, time_floor: Timestamp) -> Self {
        Out {
            sink,
            building: None,
            inside: false,
            provenance: Provenance::Derived,
            shared: false,
            last_lsn: Lsn::ZERO,
            last_time: time_floor,
        }
    }

    /// Whether all captures handed over so far are where no crash of this host can lose them.
    pub(super) fn is_safe(&self) -> bool {
        self.sink.is_safe(self.last_lsn)
    }

    /// Begins a capture.
    pub(super) fn begin(&mut self, root: RootNo, path: Vec<u8>) -> Result<(), CaptureError> {
        let room = |b: &Building| {
            self.shared && b.root == root && b.captures < SHARED_MAX && b.bytes < PART_BYTES_MAX / 2
        };
        if !self.building.as_ref().is_some_and(room) {
            self.flush()?;
            self.last_time = self.last_time.max(clock());
            self.building = Some(Building {
                root,
                path,
                time: self.last_time,
                part: 0,
                bytes: 0,
                events: Vec::new(),
                captures: 0,
            });
        }
        self.inside = true;
        Ok(())
    }

    /// Whether a capture is under way.
    pub(super) fn is_inside(&self) -> bool {
        self.inside
    }

    /// Drops what was not handed over. A capture of which parts were is abandoned by the next one.
    pub(super) fn give_up(&mut self) {
        self.inside = false;
        self.building = None;
    }

    /// Adds an event to the capture.
    pub(super) fn push(&mut self, event: Event) -> Result<(), CaptureError> {
        let bytes = match &event {
            Event::Write { data: Payload::Inline(bytes), .. } => bytes.len(),
            _ => 0,
        };
        let full = |b: &Building| b.bytes + bytes > PART_BYTES_MAX || b.events.len() >= PART_EVENTS_MAX;
        if self.building.as_ref().is_some_and(full) {
            self.emit(false)?;
        }
        if let Some(building) = &mut self.building {
            building.bytes += bytes;
            building.events.push(event);
        }
        Ok(())
    }

    /// Ends the capture; one without events is none.
    pub(super) fn end(&mut self) -> Result<(), CaptureError> {
        self.inside = false;
        if let Some(building) = &mut self.building {
            building.captures += 1;
        }
        if self.shared { Ok(()) } else { self.flush() }
    }

    /// Hands over what is left of the draft under way.
    pub(super) fn flush(&mut self) -> Result<(), CaptureError> {
        match &self.building {
            Some(building) if building.part > 0 || !building.events.is_empty() => self.emit(true)?,
            _ => {}
        }
        self.building = None;
        Ok(())
    }

    fn emit(&mut self, last: bool) -> Result<(), CaptureError> {
        let Some(building) = &mut self.building else { return Ok(()) };
        let draft = Draft {
            time: building.time,
            provenance: self.provenance,
            root: building.root,
            path: building.path.clone(),
            part: building.part,
            last,
            events: std::mem::take(&mut building.events),
        };
        building.part += 1;
        building.bytes = 0;
        self.last_lsn = self.sink.emit(draft)?;
        Ok(())
    }

    /// Says something about the stream: within the capture under way, else in one of its own.
    pub(super) fn mark(&mut self, root: RootNo, path: Vec<u8>, marker: Marker) -> Result<(), CaptureError> {
        if self.inside {
            return self.push(Event::Mark(marker));
        }
        self.begin(root, path)?;
        self.push(Event::Mark(marker))?;
        self.end()
    }

    /// Markers of one capture: out before this returns.
    pub(super) fn mark_all_now(&mut self, root: RootNo, markers: Vec<Marker>) -> Result<Lsn, CaptureError> {
        self.flush()?;
        self.begin(root, Vec::new())?;
        for marker in markers {
            self.push(Event::Mark(marker))?;
        }
        self.end()?;
        self.flush()?;
        Ok(self.last_lsn)
    }

    /// A marker that others wait for: out before this returns.
    pub(super) fn mark_now(
        &mut self,
        root: RootNo,
        path: Vec<u8>,
        marker: Marker,
    ) -> Result<Lsn, CaptureError> {
        self.flush()?;
        self.mark(root, path, marker)?;
        self.flush()?;
        Ok(self.last_lsn)
    }
}
