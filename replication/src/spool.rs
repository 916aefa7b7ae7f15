//! What the master has captured and the replica has not yet made durable.
//!
//! The spool mints captured LSNs, contiguous from the last one journaled, and keeps every part until the replica says
//! that it is durable there. Parts are kept encoded, as they will travel: their size is exact, and spilling or sending
//! one copies nothing.
//!
//! ```text
//! oldest                                             newest
//! [ segment files ] [ memory, at most memory_bytes_max ]  <- emit
//! ```
//!
//! The disk part is always older than the memory part, so order is kept by construction. Nothing touches the disk
//! while the link keeps up. When memory is full its older half is written to a segment file; when that may not grow
//! either, the spool is *full*: no capture is taken until a quarter of the room is free again (the distance keeps a slow
//! link from producing gap after gap). As long as the replica goes on taking what is spooled, `emit` waits: a slow link
//! slows capture down. When nothing has moved for [`SpoolOptions::stalled_max`] it refuses ([`SinkError::Full`]), and
//! what the agent cannot tell becomes a gap. Only small captures of markers still pass, so that the agent can say so in
//! the stream. A capture larger than the spool passes all the same as long as parts of it are taken. Captures of a first
//! synchronization never spill, and take half of memory: `emit` waits.
//!
//! Durability: segment files are not synced while the daemon runs. After an unclean stop they are discarded, because
//! what was only in memory is gone, and captures behind a hole are worthless: the master's index is then rebuilt from
//! the replica and a rescan finds the difference. Only [`Spool::close`] syncs everything and says so in the state
//! file, and [`Spool::open`] withdraws that word durably before it returns.
//!
//! What the state file keeps across unclean stops is the highest LSN that was acknowledged: a replica that comes back
//! with less has lost acknowledged data. It is written at most once a second, so it may lag; it never leads.

mod queue;
mod reader;
mod room;
mod segment;
mod split;
mod state;
#[cfg(test)]
pub(crate) mod tests;

pub use reader::{ResumeError, SpoolReader, SpooledPart};

use journal::{Capture, Disk, Event, Lsn, Part, Provenance, RootNo, Timestamp};
use parking_lot::{Condvar, Mutex};
use queue::Queue;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use wire::stream::{ConvertError, Dial, JournalId, MeetingId, SpoolState, encode_part};

/// Captures of markers up to this size pass a full spool ...
const MARKER_BYTES_MAX: u64 = 64 << 10;
/// ... until they have exceeded its limit by this much.
const MARKER_RESERVE_BYTES: u64 = 1 << 20;

/// A part of a capture before it has an LSN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// The master's clock; the spool makes it non-decreasing. The time of part 0 counts for all parts.
    pub time: Timestamp,
    /// How it was seen.
    pub provenance: Provenance,
    /// Root it lies in.
    pub root: RootNo,
    /// Path relative to the root, for people.
    pub path: Vec<u8>,
    /// Number of this draft within the capture, from 0. Part 0 abandons an unfinished capture.
    pub part: u32,
    /// Whether the capture ends with it.
    pub last: bool,
    /// Events, in a valid serial order.
    pub events: Vec<Event>,
}

/// A part was not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SinkError {
    /// No room, and the replica takes nothing: open a gap, rescan when there is room ([`Spool::wait_for_room`]).
    #[error("the spool is full, and the replica takes nothing")]
    Full,
    /// The position after which LSNs are minted is not known yet ([`Spool::begin`]).
    #[error("the replica has not been met yet")]
    NotBegun,
    /// The spool was closed.
    #[error("the spool is closed")]
    Closed,
    /// Parts of a draft come in order, from 0.
    #[error("draft {found} of a capture came where {expected} was due")]
    OutOfOrder { expected: u32, found: u32 },
    /// The replica would refuse it.
    #[error("a capture cannot be sent")]
    Unsendable(#[source] ConvertError),
}

/// The spool's files failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpoolError {
    /// The system refused.
    #[error("{operation} {path}")]
    File { operation: &'static str, path: PathBuf, source: std::io::Error },
    /// Bytes are not what was written.
    #[error("{path} is damaged at offset {offset}: {what}")]
    Damaged { path: PathBuf, offset: u64, what: &'static str },
    /// A newer program wrote it.
    #[error("{path} was written in format version {version}, newer than this program knows")]
    NewerVersion { path: PathBuf, version: u32 },
    /// The spool was closed.
    #[error("the spool is closed")]
    Closed,
}

/// Limits of a spool.
#[derive(Clone, Debug)]
pub struct SpoolOptions {
    /// Where segment files and state lie. Not below a protected root.
    pub directory: PathBuf,
    /// Bytes held in memory.
    pub memory_bytes_max: u64,
    /// Bytes held on disk; 0: none.
    pub disk_bytes_max: u64,
    /// Bytes the spool leaves free on its file system.
    pub disk_free_bytes_min: u64,
    /// Size of a segment file.
    pub segment_bytes_max: u64,
    /// How long a full spool waits without anything being taken from it before it refuses captures.
    pub stalled_max: Duration,
}

impl SpoolOptions {
    /// The defaults in this directory: 64 MiB of memory, 5 GiB of disk, 1 GiB left free; stalled after 10 seconds.
    #[must_use]
    pub fn new(directory: PathBuf) -> Self {
        SpoolOptions {
            directory,
            memory_bytes_max: 64 << 20,
            disk_bytes_max: 5 << 30,
            disk_free_bytes_min: 1 << 30,
            segment_bytes_max: 16 << 20,
            stalled_max: Duration::from_secs(10),
        }
    }

    /// Whether the spool is smaller than a tenth of the data set: worth a warning.
    #[must_use]
    pub const fn is_small_for(&self, data_set_bytes: u64) -> bool {
        self.disk_bytes_max < data_set_bytes / 10
    }
}

/// What [`Spool::open`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpoolOpened {
    /// The journal met last; `None` for a new spool.
    pub journal: Option<JournalId>,
    /// The highest LSN acknowledged by it, as far as it was written down.
    pub acknowledged: Lsn,
    /// The highest LSN minted, if the last stop was clean and everything is still here; else [`Spool::begin`] must
    /// come before the first capture.
    pub captured: Option<Lsn>,
}

/// How a spool stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpoolStatus {
    /// The highest LSN minted; `None` before [`Spool::begin`].
    pub captured: Option<Lsn>,
    /// The highest LSN acknowledged.
    pub acknowledged: Lsn,
    /// Bytes in memory.
    pub memory_bytes: u64,
    /// Bytes on disk.
    pub disk_bytes: u64,
    /// How full it is.
    pub state: SpoolState,
    /// Whether delivery is suspended.
    pub suspended: bool,
}

/// The captures that the replica does not have yet.
pub struct Spool {
    options: SpoolOptions,
    disk: Arc<dyn Disk>,
    /// Held by `emit` from the choice of the LSN until the part is queued, so that order is the order of LSNs; the
    /// queue's own lock is never held across I/O.
    emitting: Mutex<()>,
    queue: Mutex<Queue>,
    /// Anything in the queue moved.
    moved: Condvar,
    /// Held while the state file is written.
    persisting: Mutex<Option<state::State>>,
    /// Connections that were begun with it, in this life.
    dials: Mutex<Dial>,
}

impl Spool {
    /// Opens or creates the spool in its directory. What an unclean stop left is discarded.
    ///
    /// # Errors
    /// If the directory cannot be used, or its state file is damaged or newer than this program.
    pub fn open(disk: Arc<dyn Disk>, options: SpoolOptions) -> Result<(Self, SpoolOpened), SpoolError> {
        state::open(disk, options)
    }

    /// What a spool that nobody has open holds, without changing anything; `None` if there is none in the directory.
    ///
    /// # Errors
    /// If the directory cannot be read, or its state file is damaged or newer than this program.
    pub fn inspect(disk: &dyn Disk, directory: &std::path::Path) -> Result<Option<SpoolOpened>, SpoolError> {
        state::inspect(disk, directory)
    }

    /// The replica was met: its journal has this identity, and captures up to `journaled` of this time. If the last
    /// stop was unclean this is where LSNs go on; else it must lie within what is spooled, and only frees.
    ///
    /// # Errors
    /// If the state cannot be written.
    pub fn begin(&self, journal: JournalId, journaled: Lsn, time: Timestamp) -> Result<(), SpoolError> {
        {
            // Only the first LSN must not be chosen while it changes. Later an `emit` may wait, with the lock, for the
            // very connection that begins here.
            let begun = {
                let queue = self.queue.lock();
                queue.captured.is_some() && !queue.is_unused()
            };
            let _emitting = (!begun).then(|| self.emitting.lock());
            self.queue.lock().begin(journal, journaled, time);
        }
        self.acknowledge(journaled);
        self.persist()
    }

    /// The last meeting with the journal, if there was one.
    #[must_use]
    pub fn meeting(&self) -> Option<MeetingId> {
        self.queue.lock().meeting
    }

    /// The replica was met; written down with [`Spool::begin`].
    pub(crate) fn meet(&self, meeting: MeetingId) {
        self.queue.lock().meeting = Some(meeting);
    }

    /// The next connection: which one it is.
    pub(crate) fn dial(&self) -> Dial {
        let mut dials = self.dials.lock();
        dials.number += 1;
        *dials
    }

    /// Changes whenever what was captured before is no longer to be followed up: see [`Spool::emit_in`].
    #[must_use]
    pub fn history(&self) -> u64 {
        self.queue.lock().history
    }

    /// The journal holds another history than the one spooled here: all of it is dropped, and LSNs go on where the
    /// journal stands at the next [`Spool::begin`], as after an unclean stop. Whoever captures on top of the old history
    /// hears of it with the next part.
    pub(crate) fn forget_history(&self) {
        let files = self.queue.lock().forget_history();
        self.freed(&files);
        if let Err(error) = self.persist() {
            tracing::warn!(%error, "cannot write down that the spool was emptied");
        }
    }

    /// Where it stands.
    #[must_use]
    pub fn status(&self) -> SpoolStatus {
        self.queue.lock().status(&self.options)
    }

    /// Whether nothing was ever made here: LSNs can begin after whatever a journal holds.
    #[must_use]
    pub fn is_unused(&self) -> bool {
        self.queue.lock().is_unused()
    }

    /// The journal met last.
    #[must_use]
    pub fn journal(&self) -> Option<JournalId> {
        self.queue.lock().journal
    }

    /// All captures up to this one are durable on the replica: what holds them is freed.
    pub fn acknowledge(&self, journaled: Lsn) {
        let files = self.queue.lock().acknowledge(journaled.captured);
        self.freed(&files);
    }

    /// All parts before this place are durable on the replica: what holds them is freed.
    pub(crate) fn release(&self, place: u64) {
        let files = self.queue.lock().release(place);
        self.freed(&files);
    }

    /// All parts before this place have been dealt with by the replica, durable or not yet.
    pub(crate) fn taken(&self, place: u64) {
        self.queue.lock().taken = place;
        self.moved.notify_all();
    }

    fn abandon(&self) {
        let files = self.queue.lock().abandon();
        self.freed(&files);
    }

    fn freed(&self, files: &[u64]) {
        self.moved.notify_all();
        for number in files {
            let path = segment::path(&self.options.directory, *number);
            if let Err(error) = self.disk.remove(&path) {
                tracing::warn!(path = %path.display(), %error, "cannot remove a spool file that is no longer needed");
            }
        }
    }

    /// Pauses or resumes delivery. Capture goes on.
    pub fn suspend(&self, suspended: bool) {
        self.queue.lock().suspended = suspended;
        self.moved.notify_all();
    }

    /// Waits until everything that was captured is acknowledged. Whether it is.
    #[must_use]
    pub fn wait_empty(&self, timeout: Duration) -> bool {
        let give_up = std::time::Instant::now() + timeout;
        let mut queue = self.queue.lock();
        while !queue.is_empty() {
            if self.moved.wait_until(&mut queue, give_up).timed_out() {
                return queue.is_empty();
            }
        }
        true
    }

    /// Ends all waiting: `emit` and readers return `Closed` from now on.
    pub fn shut(&self) {
        self.queue.lock().closed = true;
        self.moved.notify_all();
    }

    /// Wakes readers, so that they look whether they are still wanted.
    pub(crate) fn wake(&self) {
        self.moved.notify_all();
    }

    /// Writes down how far the replica has acknowledged, if that has changed.
    ///
    /// # Errors
    /// If the state cannot be written; the spool goes on with the older one.
    pub fn persist(&self) -> Result<(), SpoolError> {
        state::persist(self, None)
    }

    /// Puts everything on disk, durably, so that the next [`Spool::open`] can go on with it. An unfinished capture is
    /// dropped. Ends all waiting.
    ///
    /// # Errors
    /// If it cannot be written: the next start then begins as after an unclean stop.
    pub fn close(&self) -> Result<(), SpoolError> {
        self.shut();
        let _emitting = self.emitting.lock();
        self.abandon();
        while self.spill(0, u64::MAX)? {}
        let segments = self.queue.lock().segments_for_state();
        for one in &segments {
            segment::sync(&*self.disk, &self.options.directory, one.number)?;
        }
        self.disk.sync_dir(&self.options.directory).map_err(|source| SpoolError::File {
            operation: "sync",
            path: self.options.directory.clone(),
            source,
        })?;
        state::persist(self, Some(segments))
    }

    /// Writes the older part of memory to a segment file, so that at most `keep` bytes stay in memory, and no more
    /// than `room` are added on disk. Whether anything was written.
    fn spill(&self, keep: u64, room: u64) -> Result<bool, SpoolError> {
        let Some(chunk) = self.queue.lock().chunk(keep, self.options.segment_bytes_max, room) else {
            return Ok(false);
        };
        // No lock is held here: `emitting` keeps others from appending, and what is released meanwhile is dropped
        // when the segment is put in place of the chunk.
        let written = segment::write(&*self.disk, &self.options.directory, &chunk);
        let unwanted = match &written {
            Ok(segment) => !self.queue.lock().replace(segment.clone()),
            Err(_) => true,
        };
        if unwanted {
            // After a failure the file may not even exist; what matters is that no segment refers to it.
            drop(self.disk.remove(&segment::path(&self.options.directory, chunk.number)));
        }
        written.map(|_| true)
    }

    fn emit_part(
        &self,
        draft: &Draft,
        events: &[Event],
        last: bool,
        header: queue::Header,
    ) -> Result<(), SinkError> {
        let part = Part {
            number: header.parts,
            last,
            capture: Capture {
                lsn: Lsn::captured(header.lsn),
                time: header.time,
                provenance: draft.provenance,
                root: draft.root,
                path: draft.path.clone(),
                events: events.to_vec(),
            },
        };
        let bytes = encode_part(&part).map_err(SinkError::Unsendable)?;
        let weight = queue::weight(&bytes);
        let markers = draft.part == 0
            && last
            && weight <= MARKER_BYTES_MAX
            && events.iter().all(|event| matches!(event, Event::Mark(_)));
        self.make_room(weight, draft.provenance, markers)?;
        let pushed = self.queue.lock().push(bytes, last, header.time);
        self.moved.notify_all();
        pushed
    }
}

impl Spool {
    /// Takes the next part of a capture and returns the LSN of the capture. Blocks for the disk, and during a first
    /// synchronization until the replica has taken enough.
    ///
    /// # Errors
    /// If the part was not taken. The capture is then abandoned: its earlier parts will never be applied, and the
    /// next capture gets its LSN.
    pub fn emit(&self, draft: Draft) -> Result<Lsn, SinkError> {
        self.emit_in(self.history(), draft)
    }

    /// The same, for captures on top of this history only.
    ///
    /// # Errors
    /// As [`Spool::emit`]; `NotBegun` if the history is another one by now.
    pub fn emit_in(&self, history: u64, draft: Draft) -> Result<Lsn, SinkError> {
        let _emitting = self.emitting.lock();
        if self.history() != history {
            return Err(SinkError::NotBegun);
        }
        if draft.part == 0 {
            self.abandon();
        }
        let opened = self.queue.lock().open_draft(draft.part, draft.time)?;
        let mut header = opened;
        let mut rest = draft.events.as_slice();
        loop {
            let (now, later) = rest.split_at(split::part_events(rest));
            let last = draft.last && later.is_empty();
            if let Err(error) = self.emit_part(&draft, now, last, header) {
                self.abandon();
                return Err(error);
            }
            header.parts += 1;
            rest = later;
            if rest.is_empty() {
                return Ok(Lsn::captured(header.lsn));
            }
        }
    }
}
