//! What is remembered of jobs: a projection of the server journal in sled.
//!
//! One tree, so that rows and the position up to which the journal is in them change in one batch: `v` holds the
//! version and the position, `j` and the id a row, `k` and an idempotency key its job's id. sled has lost data in hard
//! stops, so it is trusted with nothing: it is opened on a thread of its own under `catch_unwind`; at an error, a
//! panic, another version or a position the journal does not have, the directory is removed and filled again from the
//! journal. A write that fails ends writing until then, so that no record is left out in the middle.

use super::{JobId, JobRow};
use crate::engine::EngineError;
use crate::records::Record;
use crate::server_journal::{Position, ServerJournal};
use bincode::{Decode, Encode, config};
use std::ops::ControlFlow;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use wire::codes;

/// Layout of the rows; another number means: fill again.
const VERSION: u32 = 2;
/// Most bytes sled may keep in memory.
const CACHE_BYTES: u64 = 8 << 20;
/// Ended jobs remembered; older ones are forgotten.
const ENDED_JOBS_MAX: usize = 10_000;

/// Longest row: three records, each of at most 1 MiB.
const ROW_BYTES_MAX: usize = 4 << 20;

const HEAD: &[u8] = b"v";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
struct Head {
    version: u32,
    position: u64,
    last_id: u64,
}

/// The projection.
pub struct JobStore {
    db: sled::Db,
    failed: AtomicBool,
}

impl JobStore {
    /// Opens the projection in `directory` and brings it up to the journal.
    ///
    /// # Errors
    /// Those of the journal; `IO` if the directory cannot even be made anew.
    pub fn open(directory: &Path, journal: &dyn ServerJournal) -> Result<Self, EngineError> {
        if let Some(db) = open_sled(directory) {
            let store = JobStore { db, failed: AtomicBool::new(false) };
            if store.catch_up(journal)? {
                return Ok(store);
            }
        }
        tracing::info!(directory = %directory.display(), "the list of jobs is made anew from the journal");
        match std::fs::remove_dir_all(directory) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(EngineError::io("remove", directory, error));
            }
            _ => {}
        }
        let broken =
            || EngineError::new(&codes::IO, format!("open the list of jobs in {}", directory.display()));
        let store = JobStore { db: open_sled(directory).ok_or_else(broken)?, failed: AtomicBool::new(false) };
        if store.catch_up(journal)? { Ok(store) } else { Err(broken()) }
    }

    /// Reads what the journal has beyond the projection; false if the projection cannot be trusted.
    fn catch_up(&self, journal: &dyn ServerJournal) -> Result<bool, EngineError> {
        let head = match self.db.get(HEAD) {
            Ok(Some(bytes)) => match decode::<Head>(&bytes) {
                Ok(head) if head.version == VERSION => head,
                _ => return Ok(false),
            },
            // Empty: a new one. Rows without a head: not ours.
            Ok(None) if self.db.is_empty() => Head { version: VERSION, position: 0, last_id: 0 },
            _ => return Ok(false),
        };
        // Begins one record early: if that one is missing, the journal is not the one the projection was made from.
        let mut seen = head.position == 0;
        let mut failed = None;
        journal.replay(Position(head.position.saturating_sub(1)), &mut |position, kind, bytes| {
            if position.0 <= head.position {
                seen = seen || position.0 == head.position;
                return ControlFlow::Continue(());
            }
            match Record::decode(kind, bytes) {
                Ok(record) => {
                    self.apply(position, &record);
                    ControlFlow::Continue(())
                }
                Err(error) => {
                    failed = Some(error);
                    ControlFlow::Break(())
                }
            }
        })?;
        match failed {
            Some(error) => Err(error),
            None => Ok(seen && !self.failed.load(Ordering::Relaxed)),
        }
    }

    /// Takes a record in. Records that are not about jobs change nothing, not even the position.
    pub fn apply(&self, position: Position, record: &Record) {
        if self.failed.load(Ordering::Relaxed) {
            return;
        }
        if let Err(error) = self.try_apply(position, record) {
            tracing::error!(%error, "write the list of jobs; it is made anew at the next start");
            self.failed.store(true, Ordering::Relaxed);
        }
    }

    fn try_apply(&self, position: Position, record: &Record) -> Result<(), EngineError> {
        let mut head = self.head()?;
        let mut batch = sled::Batch::default();
        let row = match record {
            Record::JobSubmitted(submitted) => {
                head.last_id = head.last_id.max(submitted.id);
                if !submitted.idempotency_key.is_empty() {
                    batch.insert(key_key(&submitted.idempotency_key), &submitted.id.to_be_bytes());
                }
                Some(JobRow::new(submitted.clone()))
            }
            Record::JobStarted(started) => self.get(JobId(started.id))?.map(|mut row| {
                row.started.get_or_insert(started.time);
                row
            }),
            Record::JobCancelRequested(request) => self.get(JobId(request.id))?.map(|mut row| {
                row.cancelling = true;
                row
            }),
            Record::JobHoldSet(set) => self.get(JobId(set.id))?.map(|mut row| {
                row.held = set.held;
                row
            }),
            Record::JobFinished(finished) => self.get(JobId(finished.id))?.map(|mut row| {
                row.finished = Some(finished.clone());
                row
            }),
            _ => return Ok(()),
        };
        if let Some(row) = row {
            batch.insert(row_key(JobId(row.submitted.id)), encode(&row)?);
        }
        if let Record::JobSubmitted(_) = record {
            self.forget_oldest(&mut batch)?;
        }
        head.position = position.0;
        batch.insert(HEAD, encode(&head)?);
        self.db.apply_batch(batch).map_err(sled_error)
    }

    /// Makes room for one more job.
    fn forget_oldest(&self, batch: &mut sled::Batch) -> Result<(), EngineError> {
        // Two keys a job at most, and the head: cheap to ask before counting.
        if self.db.len() <= ENDED_JOBS_MAX {
            return Ok(());
        }
        let mut excess = self.db.scan_prefix(b"j").keys().count().saturating_sub(ENDED_JOBS_MAX);
        for item in self.db.scan_prefix(b"j") {
            if excess == 0 {
                break;
            }
            let (key, value) = item.map_err(sled_error)?;
            let row: JobRow = decode(&value)?;
            if row.finished.is_some() {
                batch.remove(key);
                if !row.submitted.idempotency_key.is_empty() {
                    batch.remove(key_key(&row.submitted.idempotency_key));
                }
                excess -= 1;
            }
        }
        Ok(())
    }

    fn head(&self) -> Result<Head, EngineError> {
        match self.db.get(HEAD).map_err(sled_error)? {
            Some(bytes) => decode(&bytes),
            None => Ok(Head { version: VERSION, position: 0, last_id: 0 }),
        }
    }

    /// The greatest id ever given out.
    pub(super) fn last_id(&self) -> Result<u64, EngineError> {
        Ok(self.head()?.last_id)
    }

    /// A job, if it is remembered.
    pub(super) fn get(&self, id: JobId) -> Result<Option<JobRow>, EngineError> {
        self.db.get(row_key(id)).map_err(sled_error)?.map(|bytes| decode(&bytes)).transpose()
    }

    /// The job submitted with this key.
    pub(super) fn find_key(&self, key: &str) -> Result<Option<JobRow>, EngineError> {
        let Some(bytes) = self.db.get(key_key(key)).map_err(sled_error)? else { return Ok(None) };
        match <[u8; 8]>::try_from(bytes.as_ref()) {
            Ok(id) => self.get(JobId(u64::from_be_bytes(id))),
            Err(_) => Ok(None),
        }
    }

    /// Jobs that have not ended, oldest first.
    pub(super) fn unfinished(&self) -> Result<Vec<JobRow>, EngineError> {
        let mut rows = Vec::new();
        for item in self.db.scan_prefix(b"j") {
            let row: JobRow = decode(&item.map_err(sled_error)?.1)?;
            if row.finished.is_none() {
                rows.push(row);
            }
        }
        Ok(rows)
    }

    /// All jobs, newest first, until `each` returns false.
    pub(super) fn each_newest_first(&self, each: &mut dyn FnMut(JobRow) -> bool) -> Result<(), EngineError> {
        for item in self.db.scan_prefix(b"j").rev() {
            if !each(decode(&item.map_err(sled_error)?.1)?) {
                break;
            }
        }
        Ok(())
    }

    /// Spares the next start some replay.
    pub(super) fn flush(&self) {
        if let Err(error) = self.db.flush() {
            tracing::warn!(%error, "flush the list of jobs");
        }
    }
}

fn row_key(id: JobId) -> Vec<u8> {
    let mut key = vec![b'j'];
    key.extend_from_slice(&id.0.to_be_bytes());
    key
}

fn key_key(key: &str) -> Vec<u8> {
    let mut bytes = vec![b'k'];
    bytes.extend_from_slice(key.as_bytes());
    bytes
}

fn encode(value: &impl Encode) -> Result<Vec<u8>, EngineError> {
    bincode::encode_to_vec(value, config::standard()).map_err(|error| {
        EngineError::new(&codes::INTERNAL, "encode a row of the list of jobs").caused_by(error)
    })
}

fn decode<T: Decode<()>>(bytes: &[u8]) -> Result<T, EngineError> {
    let bad = || EngineError::new(&codes::IO, "a row of the list of jobs does not decode");
    let (value, used) = bincode::decode_from_slice(bytes, config::standard().with_limit::<ROW_BYTES_MAX>())
        .map_err(|error| bad().caused_by(error))?;
    if used == bytes.len() { Ok(value) } else { Err(bad()) }
}

fn sled_error(error: sled::Error) -> EngineError {
    EngineError::new(&codes::IO, "use the list of jobs").caused_by(error)
}

/// `None` for whatever goes wrong.
fn open_sled(directory: &Path) -> Option<sled::Db> {
    let directory: PathBuf = directory.to_owned();
    let opened = std::thread::Builder::new().name("open-jobs".into()).spawn(move || {
        catch_unwind(|| {
            sled::Config::new().path(&directory).cache_capacity(CACHE_BYTES).flush_every_ms(Some(1000)).open()
        })
    });
    match opened.ok()?.join() {
        Ok(Ok(Ok(db))) => Some(db),
        Ok(Ok(Err(error))) => {
            tracing::warn!(%error, "open the list of jobs");
            None
        }
        _ => None,
    }
}
