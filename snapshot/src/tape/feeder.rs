//! Keeps a drive streaming: one owned thread writes what a [`super::spool`] holds.
//!
//! A drive that has to wait for data stops, winds back and starts again, which costs time and tape. So it starts when the
//! spool is filled to a mark, or the archive is complete; if the spool runs empty before, that is a *stall*: counted, and
//! the mark is waited for again. At the spool's limit who makes the archive waits.
//!
//! **Errors reach both sides.** If the drive fails, the next write to the feeder fails, and [`Feeder::finish`] says how. If the
//! feeder is dropped or cancelled, the drive stops between two blocks, without a filemark: nothing counts as written.
//! **It is durable when `finish` has returned that it is**, not before.
//!
//! A drive that is a directory has nothing to stream for: its spool is memory, and the bytes are written once.
//!
//! **If the disk has no room for the spool**, the caller has said what to do: fail at once, before the drive was touched,
//! or stream from a small queue in memory, with the stalls that brings; the report says which it was.

use super::changer::Changer;
use super::drive::Drive;
use super::error::TapeError;
use super::span_writer::{SpanOptions, SpanWriter, Written};
use super::spool::{Spool, Taken};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

/// Bytes of the spool in memory.
pub const MEMORY_BYTES: usize = 16 << 20;
/// Bytes that are gathered before they go into the spool: an archive comes in headers and little files.
const GATHERED_BYTES: usize = 256 << 10;

/// What to do if the disk has no room for the spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// Fail with `SpoolFull` before the drive is touched.
    Fail,
    /// Go on with [`MEMORY_BYTES`] of memory.
    Stream,
}

/// Where the spool lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpoolPlace {
    /// In memory: [`MEMORY_BYTES`].
    Memory,
    /// In a file without a name.
    Disk {
        /// The directory.
        directory: PathBuf,
        /// Bytes.
        limit: u64,
        /// If there is no room for it.
        when_full: WhenFull,
    },
}

/// How to keep the drive fed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeederOptions {
    /// Where the spool lies.
    pub place: SpoolPlace,
    /// Bytes that must be in it before the drive starts; its limit at most.
    pub mark: u64,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fed {
    /// What was written where.
    pub written: Written,
    /// Times the spool ran empty while the archive was not complete.
    pub stalls: u64,
    /// Most bytes that lay in the spool.
    pub most_spooled: u64,
    /// Whether the spool was on disk.
    pub was_on_disk: bool,
}

/// The end of a feeder: the drive comes back, whatever happened.
pub struct Finished {
    /// The drive; `None` if its thread was lost.
    pub drive: Option<Box<dyn Drive>>,
    /// What came of the session.
    pub result: Result<Fed, TapeError>,
}

type Outcome = (Box<dyn Drive>, Result<Written, TapeError>);

/// Takes the archive of one session.
pub struct Feeder {
    spool: Arc<Spool>,
    was_on_disk: bool,
    thread: Option<JoinHandle<Outcome>>,
    /// What came and is not in the spool yet.
    gathered: Vec<u8>,
    /// So much at most: the spool's limit is a limit.
    gathered_max: usize,
    /// A failure of the spool, which is this side's.
    failure: Option<TapeError>,
}

/// Cancels a feeder from elsewhere.
#[derive(Clone)]
pub struct Canceller(Arc<Spool>);

impl Canceller {
    /// Stops the session, unless all of its archive has come already.
    pub fn cancel(&self) {
        self.0.cancel();
    }
}

impl Feeder {
    /// Makes the spool and starts the thread of the drive.
    ///
    /// # Errors
    /// `BadRequest` if the limit is zero; `SpoolFull`, `Spool`; `Gone` if no thread can be started. The drive is gone then.
    pub fn start(
        drive: Box<dyn Drive>,
        changer: Box<dyn Changer>,
        session: SpanOptions,
        options: &FeederOptions,
    ) -> Result<Feeder, TapeError> {
        let (spool, was_on_disk, limit) = match &options.place {
            SpoolPlace::Memory => (Spool::in_memory(MEMORY_BYTES), false, MEMORY_BYTES as u64),
            SpoolPlace::Disk { limit: 0, .. } => {
                return Err(TapeError::BadRequest { what: "spool limit", given: "0".to_owned() });
            }
            SpoolPlace::Disk { directory, limit, when_full } => match Spool::on_disk(directory, *limit) {
                Ok(spool) => (spool, true, *limit),
                Err(TapeError::SpoolFull { .. }) if *when_full == WhenFull::Stream => {
                    (Spool::in_memory(MEMORY_BYTES), false, MEMORY_BYTES as u64)
                }
                Err(error) => return Err(error),
            },
        };
        let (theirs, mark) = (spool.clone(), options.mark);
        let thread = std::thread::Builder::new()
            .name("tape drive".to_owned())
            .spawn(move || run(drive, changer, session, &theirs, mark))
            .map_err(|_| TapeError::Gone)?;
        let gathered_max =
            usize::try_from(limit / 4).map_or(GATHERED_BYTES, |few| few.clamp(1, GATHERED_BYTES));
        let (gathered, thread) = (Vec::with_capacity(gathered_max), Some(thread));
        Ok(Feeder { spool, was_on_disk, thread, gathered, gathered_max, failure: None })
    }

    /// What stops it from elsewhere.
    #[must_use]
    pub fn canceller(&self) -> Canceller {
        Canceller(self.spool.clone())
    }

    /// How many objects the archive lacks or holds damaged, to be said before [`Feeder::finish`]: inventories tell it.
    pub fn note_missed(&self, count: u64) {
        self.spool.note_missed(count);
    }

    /// All of the archive has come: waits until it is on tape and durable, or is known not to be.
    #[must_use]
    pub fn finish(mut self) -> Finished {
        // What cannot be put in is not complete. Who has failed or was cancelled is told by the thread.
        if self.put_gathered().is_err() || self.failure.is_some() {
            self.spool.cancel();
        }
        self.spool.complete();
        let Some(Ok((drive, result))) = self.thread.take().map(JoinHandle::join) else {
            return Finished { drive: None, result: Err(TapeError::Gone) };
        };
        let (stalls, most_spooled) = self.spool.counts();
        let was_on_disk = self.was_on_disk;
        let result = match self.failure.take() {
            Some(failure) => Err(failure),
            None => result.map(|written| Fed { written, stalls, most_spooled, was_on_disk }),
        };
        Finished { drive: Some(drive), result }
    }
}

impl Write for Feeder {
    /// Waits while the spool is full. Fails if the drive has failed or it was cancelled, as soon as that is noticed;
    /// [`Feeder::finish`] says how.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.failure.is_some() {
            return Err(TapeError::FailedBefore.into());
        }
        if self.gathered.len() >= self.gathered_max {
            self.put_gathered()?;
        }
        let count = bytes.len().min(self.gathered_max - self.gathered.len());
        self.gathered.extend_from_slice(bytes.get(..count).unwrap_or_default());
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.put_gathered()
    }
}

impl Feeder {
    fn put_gathered(&mut self) -> io::Result<()> {
        match self.spool.put(&mut self.gathered) {
            Ok(true) => Ok(()),
            Ok(false) if self.spool.is_cancelled() => Err(TapeError::Cancelled.into()),
            Ok(false) => Err(TapeError::FailedBefore.into()),
            Err(error) => {
                self.failure = Some(error);
                self.spool.cancel();
                Err(TapeError::FailedBefore.into())
            }
        }
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.spool.cancel();
            // The drive is between two blocks soon; a thread that panicked has nothing to say here.
            drop(thread.join());
        }
    }
}

/// Lets the other side go when the thread ends, in whatever way.
struct Abandon<'s>(&'s Spool);

impl Drop for Abandon<'_> {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

fn run(
    mut drive: Box<dyn Drive>,
    mut changer: Box<dyn Changer>,
    session: SpanOptions,
    spool: &Spool,
    mark: u64,
) -> Outcome {
    let abandon = Abandon(spool);
    let result = feed(drive.as_mut(), changer.as_mut(), session, spool, mark);
    drop(abandon);
    (drive, result)
}

fn feed(
    drive: &mut dyn Drive,
    changer: &mut dyn Changer,
    session: SpanOptions,
    spool: &Spool,
    mark: u64,
) -> Result<Written, TapeError> {
    // The volume is found while the spool fills: a wrong one is known before the work is done.
    let mut writer = SpanWriter::begin(drive, changer, session)?;
    if !spool.wait_for(mark) {
        return Err(TapeError::Cancelled);
    }
    let mut piece = Vec::new();
    loop {
        match spool.take(&mut piece, mark)? {
            Taken::Bytes => writer.write(&piece)?,
            Taken::End => {
                writer.note_missed(spool.missed());
                return writer.finish();
            }
            Taken::Cancelled => return Err(TapeError::Cancelled),
        }
    }
}
