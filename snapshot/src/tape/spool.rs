//! The spool: a queue of bytes between who makes an archive and the drive that must not wait for it.
//!
//! One writes, one reads; it has a stated limit and the writer waits at it. On disk it is a ring in a file; in memory the pieces
//! are handed over as they came, not copied. The file has no name, so a killed
//! process leaves nothing, and its room is taken from the file system when it is made: a disk that is full says so then,
//! not in the middle of a session. Where the file system cannot set room aside, a write may fail later; then the session
//! fails, with the same error.
//!
//! Bytes of the ring are moved outside of the lock: the stretch the writer fills and the one the reader empties never overlap.

use super::error::TapeError;
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

/// Bytes that are taken from the ring at once.
const PIECE_BYTES: usize = 1 << 20;

/// Emptied pieces that are kept.
const EMPTIED_MAX: usize = 8;

/// Where the bytes lie.
enum Room {
    Disk(File),
    Memory,
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
    /// What is in memory, in order.
    pieces: VecDeque<Vec<u8>>,
    /// Pieces that were emptied, to be filled again.
    emptied: Vec<Vec<u8>>,
    /// The writer waits for room: more than there is will not come before bytes go.
    is_full: bool,
    /// What the writer has to say beside the bytes: objects that the archive lacks.
    missed: u64,
}

/// A queue of bytes. Shared by its two sides.
pub(super) struct Spool {
    room: Room,
    limit: u64,
    state: Mutex<State>,
    changed: Condvar,
}

/// What a reader gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// Bytes, now in the room.
    Bytes,
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

    /// A queue of `limit` bytes in memory.
    pub fn in_memory(limit: usize) -> Arc<Self> {
        Self::of(Room::Memory, limit as u64)
    }

    fn of(room: Room, limit: u64) -> Arc<Self> {
        Arc::new(Self { room, limit, state: Mutex::default(), changed: Condvar::new() })
    }

    /// Where a byte lies in the ring, and how many behind it lie in a row.
    fn place(&self, at: u64) -> (u64, u64) {
        let from = at.checked_rem(self.limit).unwrap_or(0);
        (from, self.limit - from)
    }

    /// Puts bytes in and waits for room for them; then they are empty, with room for as many. Whether somebody still
    /// needs them.
    pub fn put(&self, bytes: &mut Vec<u8>) -> Result<bool, TapeError> {
        let is_needed = match &self.room {
            Room::Disk(file) => self.put_into(file, bytes)?,
            Room::Memory => self.hand_over(bytes),
        };
        bytes.clear();
        Ok(is_needed)
    }

    /// Waits for room: for `wanted` bytes, or for all there is. How much there is; `None` if nobody needs more.
    fn wait_for_room(&self, state: &mut MutexGuard<'_, State>, wanted: u64) -> Option<u64> {
        let wanted = wanted.min(self.limit);
        loop {
            if state.is_abandoned || state.is_cancelled {
                return None;
            }
            let room = self.limit - (state.came - state.went).min(self.limit);
            state.is_full = room < wanted;
            if !state.is_full {
                return Some(room);
            }
            self.changed.notify_all();
            self.changed.wait(state);
        }
    }

    fn came(&self, state: &mut State, count: usize) {
        state.came += count as u64;
        state.most = state.most.max(state.came - state.went);
        self.changed.notify_all();
    }

    fn put_into(&self, file: &File, bytes: &[u8]) -> Result<bool, TapeError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (at, room) = {
                let mut state = self.state.lock();
                match self.wait_for_room(&mut state, 1) {
                    Some(room) => (state.came, room),
                    None => return Ok(false),
                }
            };
            let (from, row) = self.place(at);
            let count = rest.len().min(usize::try_from(room.min(row)).unwrap_or(usize::MAX));
            let (piece, behind) = rest.split_at(count);
            file.write_all_at(piece, from).map_err(|source| full_or("write", self.limit, source))?;
            self.came(&mut self.state.lock(), count);
            rest = behind;
        }
        Ok(true)
    }

    fn hand_over(&self, bytes: &mut Vec<u8>) -> bool {
        let mut state = self.state.lock();
        if self.wait_for_room(&mut state, bytes.len() as u64).is_none() {
            return false;
        }
        let emptied = state.emptied.pop().unwrap_or_else(|| Vec::with_capacity(bytes.len()));
        let piece = std::mem::replace(bytes, emptied);
        let count = piece.len();
        state.pieces.push_back(piece);
        self.came(&mut state, count);
        true
    }

    /// Waits until `mark` bytes lie in the ring, or all there will be; whether it was not cancelled.
    pub fn wait_for(&self, mark: u64) -> bool {
        let mut state = self.state.lock();
        let mark = mark.min(self.limit);
        while state.came - state.went < mark && !state.is_full && !state.is_complete && !state.is_cancelled {
            self.changed.wait(&mut state);
        }
        !state.is_cancelled
    }

    /// Takes bytes out; what was in `piece` is gone. If there are none and more are to come, that is a stall: it is counted,
    /// and `mark` is waited for.
    pub fn take(&self, piece: &mut Vec<u8>, mark: u64) -> Result<Taken, TapeError> {
        let (at, there) = loop {
            let mut state = self.state.lock();
            if state.is_cancelled {
                return Ok(Taken::Cancelled);
            }
            if let Some(next) = state.pieces.pop_front() {
                state.went += next.len() as u64;
                let emptied = std::mem::replace(piece, next);
                if emptied.capacity() > 0 && state.emptied.len() < EMPTIED_MAX {
                    state.emptied.push(emptied);
                }
                state.is_full = false;
                self.changed.notify_all();
                return Ok(Taken::Bytes);
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
        let Room::Disk(file) = &self.room else { return Ok(Taken::End) };
        let (from, row) = self.place(at);
        let count = PIECE_BYTES.min(usize::try_from(there.min(row)).unwrap_or(PIECE_BYTES));
        piece.resize(count, 0);
        file.read_exact_at(piece, from).map_err(|source| TapeError::Spool { operation: "read", source })?;
        let mut state = self.state.lock();
        state.went += count as u64;
        state.is_full = false;
        self.changed.notify_all();
        Ok(Taken::Bytes)
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
