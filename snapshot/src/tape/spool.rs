//! The spool: a ring of bytes on disk between who makes an archive and the drive that must not wait for it.
//!
//! One writes, one reads; the ring has a stated limit and the writer waits at it. Its file has no name, so a killed
//! process leaves nothing, and its room is taken from the file system when it is made: a disk that is full says so then,
//! not in the middle of a session. Where the file system cannot set room aside, a write may fail later; then the session
//! fails, with the same error.
//!
//! Bytes are moved outside of the lock: the stretch the writer fills and the one the reader empties never overlap.

use super::error::TapeError;
use parking_lot::{Condvar, Mutex};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

/// Where the bytes of a ring lie.
enum Room {
    Disk(File),
    Memory(Mutex<Vec<u8>>),
}

/// How far both sides are.
#[derive(Default)]
struct State {
    /// Bytes that came, and bytes that went.
    came: u64,
    went: u64,
    /// No more will come.
    is_complete: bool,
    /// The reader has gone; nobody needs more.
    is_abandoned: bool,
    /// The writer was told to stop, or went without an end.
    is_cancelled: bool,
    /// Times the reader found nothing though more was to come.
    stalls: u64,
    /// Most bytes that lay in the ring.
    most: u64,
    /// What the writer has to say beside the bytes: objects that the archive lacks.
    missed: u64,
}

/// A ring. Shared by its two sides.
pub(super) struct Spool {
    room: Room,
    limit: u64,
    state: Mutex<State>,
    changed: Condvar,
}

/// What a reader gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// So many bytes.
    Bytes(usize),
    /// None, and none will come.
    End,
    /// None: it was cancelled.
    Cancelled,
}

fn unnamed(directory: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    let o_tmpfile = i32::try_from(rustix::fs::OFlags::TMPFILE.bits()).unwrap_or(0);
    match options.clone().custom_flags(o_tmpfile).open(directory) {
        Ok(file) => Ok(file),
        Err(_) => {
            // A file system without unnamed files.
            let path = directory.join(format!(".rewind-spool-{}", super::label::random_id()?));
            let file = options.create_new(true).open(&path)?;
            std::fs::remove_file(&path)?;
            Ok(file)
        }
    }
}

impl Spool {
    /// A ring of `limit` bytes in a directory.
    pub fn on_disk(directory: &Path, limit: u64) -> Result<Arc<Self>, TapeError> {
        let failed = |source| TapeError::Spool { operation: "make", source };
        let file = unnamed(directory).map_err(failed)?;
        // Asked first: taking what is left of a disk only to learn that it is too little would hurt its others.
        let stat = rustix::fs::fstatvfs(&file).map_err(|error| failed(error.into()))?;
        if stat.f_bavail.saturating_mul(stat.f_frsize) < limit {
            return Err(full_or("make", limit, io::ErrorKind::StorageFull.into()));
        }
        let flags = rustix::fs::FallocateFlags::empty();
        match rustix::fs::fallocate(&file, flags, 0, limit) {
            Ok(()) => {}
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
                file.set_len(limit).map_err(failed)?;
            }
            Err(error) => return Err(full_or("make", limit, error.into())),
        }
        Ok(Self::of(Room::Disk(file), limit))
    }

    /// A ring of `limit` bytes in memory.
    pub fn in_memory(limit: usize) -> Arc<Self> {
        Self::of(Room::Memory(Mutex::new(vec![0; limit])), limit as u64)
    }

    fn of(room: Room, limit: u64) -> Arc<Self> {
        Arc::new(Self { room, limit, state: Mutex::default(), changed: Condvar::new() })
    }

    /// Where a byte lies in the ring, and how many behind it lie in a row.
    fn place(&self, at: u64) -> (u64, u64) {
        let from = at.checked_rem(self.limit).unwrap_or(0);
        (from, self.limit - from)
    }

    /// Puts bytes in, as many as fit, and waits while none do. How many; zero if nobody needs them any more.
    pub fn put(&self, bytes: &[u8]) -> Result<usize, TapeError> {
        let (at, room) = {
            let mut state = self.state.lock();
            while state.came - state.went == self.limit && !state.is_abandoned && !state.is_cancelled {
                self.changed.wait(&mut state);
            }
            if state.is_abandoned || state.is_cancelled {
                return Ok(0);
            }
            (state.came, self.limit - (state.came - state.went))
        };
        let (from, row) = self.place(at);
        let count = bytes.len().min(usize::try_from(room.min(row)).unwrap_or(usize::MAX));
        let piece = bytes.get(..count).unwrap_or_default();
        match &self.room {
            Room::Disk(file) => {
                file.write_all_at(piece, from).map_err(|source| full_or("write", self.limit, source))?;
            }
            Room::Memory(memory) => {
                let from = usize::try_from(from).unwrap_or(usize::MAX);
                if let Some(to) = memory.lock().get_mut(from..from.saturating_add(count)) {
                    to.copy_from_slice(piece);
                }
            }
        }
        let mut state = self.state.lock();
        state.came += count as u64;
        state.most = state.most.max(state.came - state.went);
        self.changed.notify_all();
        Ok(count)
    }

    /// Waits until `mark` bytes lie in the ring, or all there will be; whether it was not cancelled.
    pub fn wait_for(&self, mark: u64) -> bool {
        let mut state = self.state.lock();
        let mark = mark.min(self.limit);
        while state.came - state.went < mark && !state.is_complete && !state.is_cancelled {
            self.changed.wait(&mut state);
        }
        !state.is_cancelled
    }

    /// Takes bytes out. If there are none and more are to come, that is a stall: it is counted, and `mark` is waited for.
    pub fn take(&self, buffer: &mut [u8], mark: u64) -> Result<Taken, TapeError> {
        let (at, there) = loop {
            let mut state = self.state.lock();
            if state.is_cancelled {
                return Ok(Taken::Cancelled);
            }
            if state.came > state.went {
                break (state.went, state.came - state.went);
            }
            if state.is_complete {
                return Ok(Taken::End);
            }
            state.stalls += 1;
            drop(state);
            self.wait_for(mark.max(1));
        };
        let (from, row) = self.place(at);
        let count = buffer.len().min(usize::try_from(there.min(row)).unwrap_or(usize::MAX));
        let piece = buffer.get_mut(..count).unwrap_or_default();
        match &self.room {
            Room::Disk(file) => file
                .read_exact_at(piece, from)
                .map_err(|source| TapeError::Spool { operation: "read", source })?,
            Room::Memory(memory) => {
                let from = usize::try_from(from).unwrap_or(usize::MAX);
                if let Some(from) = memory.lock().get(from..from.saturating_add(count)) {
                    piece.copy_from_slice(from);
                }
            }
        }
        let mut state = self.state.lock();
        state.went += count as u64;
        self.changed.notify_all();
        Ok(Taken::Bytes(count))
    }

    /// Objects that the archive lacks, for who reads.
    pub fn note_missed(&self, count: u64) {
        self.state.lock().missed = count;
    }

    /// What was noted.
    pub fn missed(&self) -> u64 {
        self.state.lock().missed
    }

    /// No more will come.
    pub fn complete(&self) {
        self.state.lock().is_complete = true;
        self.changed.notify_all();
    }

    /// Nobody takes any more.
    pub fn abandon(&self) {
        self.state.lock().is_abandoned = true;
        self.changed.notify_all();
    }

    /// Stops both sides. What was completed before is not stopped.
    pub fn cancel(&self) {
        let mut state = self.state.lock();
        state.is_cancelled |= !state.is_complete;
        self.changed.notify_all();
    }

    /// Whether it was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.state.lock().is_cancelled
    }

    /// Stalls so far, and the most bytes that lay in the ring.
    pub fn counts(&self) -> (u64, u64) {
        let state = self.state.lock();
        (state.stalls, state.most)
    }
}

/// A disk that is full is told apart.
fn full_or(operation: &'static str, bytes: u64, source: io::Error) -> TapeError {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => TapeError::SpoolFull { bytes, source },
        _ => TapeError::Spool { operation, source },
    }
}
