//! The one way to tape: a point of a journal, or a session of a repository.
//!
//! The archive is made once, on this thread, and compressed and encrypted there if the repository has it so. Every byte that
//! the drive's feeder takes goes to a second reader too, on a thread of its own: the same that reads media
//! ([`super::recall`]), which decrypts and decompresses, and saves trees and a record in the repository's listing; of a copy
//! to volumes that are no repository's it proves the bytes and keeps nothing. So what is known of the session is what was
//! proved of the very bytes that went to tape. If that reader does not find them whole, the session is given up before it is
//! complete on the tape, and nothing counts.
//!
//! The record of the listing is written when the drive has said that the session is durable. A crash between leaves a
//! session on tape that the listing lacks; reading the media finds it.

use super::copy::{pool_of, spool};
use super::pipe::{Reader, Writer, pipe};
use super::recall::proved;
use super::{POOL, tape_failure};
use crate::engine::{EngineError, EngineResult};
use crate::points::wall_clock;
use crate::vault::repository_error;
use journal::TreeIo;
use journal::view::View;
use snapshot::repository::{Id, Lock, Repository};
use snapshot::session::{Entity, Monitor, NoMonitor};
use snapshot::tape::archive::{
    ArchiveError, ArchiveErrorKind, Encoder, Encoding, Held, IntoOptions, Keep, SessionLabel, Taken, Totals,
    Wrote, from_repository, from_view, take,
};
use snapshot::tape::{
    AnyDrive, Automatic, Drive, DriveError, Fed, Feeder, Finished, SpanOptions, TapeError, TapeErrorKind,
    VolumeLabel, Wanted, Written, volume,
};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use wire::codes::{self, Code};
use wire::failure::chain;

/// A drive that sessions are written to, one after the other.
pub(crate) struct Run {
    /// Its address.
    pub url: String,
    /// `None` after it failed.
    pub drive: Option<Box<dyn Drive>>,
    /// It is a device, which must not wait.
    is_device: bool,
    /// Pool of its volumes.
    pub pool: String,
    /// What is done to sessions on the way.
    pub encoding: Encoding,
    /// Labels of the volumes that were at hand in the beginning, as far as they could be read.
    pub labels: Vec<VolumeLabel>,
}

/// A session that is durable on tape, and in the listing if it has one.
pub(crate) struct Archived<T> {
    /// As the second reader took it.
    pub taken: T,
    /// Where it lies.
    pub written: Written,
    /// Times the drive had to wait.
    pub stalls: u64,
    /// Of the archive.
    pub totals: Totals,
    /// The first objects that are missed or damaged, and why.
    pub listed: Vec<(Vec<u8>, String)>,
}

/// Labels of the volumes at hand; what was in the drive is in it again.
fn labels(any: &mut AnyDrive) -> Result<Vec<VolumeLabel>, DriveError> {
    let loaded = any.loaded()?;
    let names = match &*any {
        AnyDrive::Files(drive) => drive.volumes().to_vec(),
        AnyDrive::Device(_) => Vec::new(),
    };
    let mut labels = Vec::new();
    if names.is_empty() && loaded.is_some() {
        labels.extend(volume::read_label(any.drive()));
    }
    for name in names {
        if any.drive().load(Wanted::Named(&name)).is_ok() {
            labels.extend(volume::read_label(any.drive()));
        }
    }
    any.put_back(loaded.as_deref())?;
    Ok(labels)
}

/// What the making of an archive came to.
type Made = Result<(Totals, Vec<(Vec<u8>, String)>), ArchiveError>;
/// Where an archive goes.
type Out<'f> = Encoder<Tee<'f>>;

/// What is written, and what to call a failure to read it.
struct Making<'m> {
    label: &'m SessionLabel,
    scratch: &'m Path,
    code: &'static Code,
}

impl Run {
    /// Opens the drive; the pool is that of the volume in it.
    ///
    /// # Errors
    /// As [`super::open_existing`].
    pub fn open(url: &str, encoding: Encoding) -> EngineResult<Run> {
        let mut any = super::open_existing(url)?;
        let labels = labels(&mut any).map_err(|error| tape_failure(url, error.into()))?;
        let pool = pool_of(&mut any);
        let is_device = matches!(any, AnyDrive::Device(_));
        Ok(Run { url: url.to_owned(), drive: Some(any.into_drive()), is_device, pool, encoding, labels })
    }

    fn begin(&mut self, session: &SessionLabel, scratch: &Path) -> EngineResult<Feeder> {
        let gone = || EngineError::new(&codes::TAPE_DRIVE_FAILED, format!("{}: the drive is lost", self.url));
        let drive = self.drive.take().ok_or_else(gone)?;
        let options = SpanOptions {
            session: session.id().to_string(),
            pool: if self.pool.is_empty() { POOL.to_owned() } else { self.pool.clone() },
            media: None,
            seconds: u64::try_from(wall_clock().0 / 1_000_000_000).unwrap_or_default(),
        };
        let spool = spool(self.is_device, scratch);
        Feeder::start(drive, Box::new(Automatic), options, &spool)
            .map_err(|error| tape_failure(&self.url, error))
    }

    /// Writes what a view shows of an entity, and lists it.
    ///
    /// # Errors
    /// `TAPE_VOLUME_WANTED` if there is no volume with room at hand, `TAPE_WOULD_OVERWRITE`, `TAPE_DRIVE_FAILED`;
    /// `CANCELLED`, `BACKUP_FAILED`, those of the listing. Nothing counts on the tape then, but if the listing's record fails.
    pub fn archive<T: TreeIo>(
        &mut self,
        view: &View<T>,
        (label, entity): (&SessionLabel, &Entity),
        stage: (&Arc<Repository>, &Lock),
        scratch: &Path,
        monitor: &dyn Monitor,
    ) -> EngineResult<Archived<Taken>> {
        let making = Making { label, scratch, code: &codes::BACKUP_FAILED };
        self.listed(&making, stage, |out| from_view(view, (label, entity), out, scratch, monitor))
    }

    /// Writes a session of a repository, and lists it.
    ///
    /// # Errors
    /// As [`Run::archive`].
    pub fn copy(
        &mut self,
        (repository, tree): (&Repository, &Id),
        label: &SessionLabel,
        stage: (&Arc<Repository>, &Lock),
        scratch: &Path,
        monitor: &dyn Monitor,
    ) -> EngineResult<Archived<Taken>> {
        let making = Making { label, scratch, code: &codes::REPOSITORY_DAMAGED };
        self.listed(&making, stage, |out| from_repository(repository, (label, tree), out, scratch, monitor))
    }

    /// Writes a session of a repository to volumes that are no repository's.
    ///
    /// # Errors
    /// As [`Run::archive`], but for those of the listing.
    pub fn copy_unlisted(
        &mut self,
        (repository, tree): (&Repository, &Id),
        label: &SessionLabel,
        scratch: &Path,
        monitor: &dyn Monitor,
    ) -> EngineResult<Archived<()>> {
        let making = Making { label, scratch, code: &codes::REPOSITORY_DAMAGED };
        let key = self.encoding.key.clone();
        self.write(
            &making,
            |from| proved(from, key.as_ref(), scratch),
            |out| from_repository(repository, (label, tree), out, scratch, monitor),
        )
    }

    fn listed(
        &mut self,
        making: &Making<'_>,
        (stage, lock): (&Arc<Repository>, &Lock),
        make: impl for<'f> FnOnce(Out<'f>) -> Result<Wrote<Out<'f>>, ArchiveError>,
    ) -> EngineResult<Archived<Taken>> {
        let key = self.encoding.key.clone();
        let options = IntoOptions { keep: Keep::Trees, key, ..IntoOptions::default() };
        let listen = |from: &mut Reader| take(from, &options, stage, making.scratch, &NoMonitor);
        let Archived { taken, written, stalls, totals, listed } = self.write::<Held>(making, listen, make)?;
        let taken = taken.record(lock).map_err(|error| listing_failure(&self.url, error))?;
        Ok(Archived { taken, written, stalls, totals, listed })
    }

    fn write<T: Send>(
        &mut self,
        making: &Making<'_>,
        listen: impl FnOnce(&mut Reader) -> Result<T, ArchiveError> + Send,
        make: impl for<'f> FnOnce(Out<'f>) -> Result<Wrote<Out<'f>>, ArchiveError>,
    ) -> EngineResult<Archived<T>> {
        let mut feeder = self.begin(making.label, making.scratch)?;
        let (made, held) = both(&mut feeder, (making.label, &self.encoding), listen, make);
        let ((totals, listed), taken) = match (made, held) {
            (Ok(made), Ok(held)) => (made, held),
            (made, held) => {
                feeder.canceller().cancel();
                let Finished { drive, result } = feeder.finish();
                self.drive = drive;
                return Err(self.failure(making.code, (made.err(), held.err(), result.err())));
            }
        };
        feeder.note_missed(totals.missed + totals.damaged);
        let Finished { drive, result } = feeder.finish();
        self.drive = drive;
        let Fed { written, stalls, .. } = result.map_err(|error| tape_failure(&self.url, error))?;
        let stalls = if self.is_device { stalls } else { 0 };
        Ok(Archived { taken, written, stalls, totals, listed })
    }

    /// Which of three failures is the cause of the others.
    fn failure(
        &self,
        source: &'static Code,
        failures: (Option<ArchiveError>, Option<ArchiveError>, Option<TapeError>),
    ) -> EngineError {
        match failures {
            (_, _, Some(tape)) if tape.kind() != TapeErrorKind::Cancelled => tape_failure(&self.url, tape),
            (Some(made), ..) if made.kind() != ArchiveErrorKind::Medium => {
                let code = match made.kind() {
                    ArchiveErrorKind::Cancelled => &codes::CANCELLED,
                    ArchiveErrorKind::Source => source,
                    _ => &codes::BACKUP_FAILED,
                };
                EngineError::new(code, format!("write a session to {}", self.url)).caused_by(made)
            }
            (_, Some(listed), _) => listing_failure(&self.url, listed),
            (Some(made), ..) => {
                EngineError::new(&codes::BACKUP_FAILED, format!("write a session to {}", self.url))
                    .caused_by(made)
            }
            (None, None, _) => EngineError::new(&codes::TAPE_DRIVE_FAILED, self.url.clone()),
        }
    }
}

fn listing_failure(url: &str, error: ArchiveError) -> EngineError {
    match error {
        ArchiveError::Repository { source } => repository_error("list the session that goes to tape", source),
        other => {
            let text = format!("what was made for {url} is no session that can be read: {}", chain(&other));
            EngineError::new(&codes::BACKUP_FAILED, text)
        }
    }
}

/// Makes an archive, and reads it while it is made.
fn both<T: Send>(
    feeder: &mut Feeder,
    (label, encoding): (&SessionLabel, &Encoding),
    listen: impl FnOnce(&mut Reader) -> Result<T, ArchiveError> + Send,
    make: impl for<'f> FnOnce(Out<'f>) -> Result<Wrote<Out<'f>>, ArchiveError>,
) -> (Made, Result<T, ArchiveError>) {
    let (to, mut from) = pipe();
    std::thread::scope(|scope| {
        let taking = scope.spawn(move || {
            let held = listen(&mut from)?;
            // What is behind the end of the archive is for the tape alone.
            io::copy(&mut from, &mut io::sink()).map_err(|_| ArchiveError::Cancelled)?;
            Ok(held)
        });
        let made = encode(Tee { feeder, to }, (label, encoding), make);
        let held = taking.join();
        (made, held.unwrap_or(Err(ArchiveError::Cancelled)))
    })
}

fn encode<'f>(
    tee: Tee<'f>,
    (label, encoding): (&SessionLabel, &Encoding),
    make: impl FnOnce(Out<'f>) -> Result<Wrote<Out<'f>>, ArchiveError>,
) -> Made {
    let Wrote { out, totals, listed, .. } = make(Encoder::begin(tee, label, encoding)?)?;
    out.finish()?.flush().map_err(|source| ArchiveError::Write { offset: 0, source })?;
    Ok((totals, listed))
}

/// What the feeder takes, the second reader gets.
struct Tee<'f> {
    feeder: &'f mut Feeder,
    to: Writer,
}

impl Write for Tee<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.feeder.write(bytes)?;
        self.to.write_all(bytes.get(..count).unwrap_or_default())?;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.feeder.flush()?;
        self.to.flush()
    }
}
