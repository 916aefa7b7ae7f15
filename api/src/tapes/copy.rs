//! Writing a session of a repository to tape.
//!
//! The archive is made on this thread and fed to the drive's own ([`Feeder`]): through a spool, so that the drive streams.
//! It counts when the feeder says that it is durable, and not before; whatever failed until then has left nothing that
//! counts. A session that is whole on the volumes at hand is not written again.

use super::{AnyDrive, POOL, open_existing, tape_failure, volumes};
use crate::engine::{EngineError, EngineResult};
use crate::points::wall_clock;
use snapshot::repository::{Id, Repository, SessionRecord};
use snapshot::session::Monitor;
use snapshot::tape::archive::{
    ArchiveError, ArchiveErrorKind, LabelFields, SessionLabel, Wrote, from_repository,
};
use snapshot::tape::{
    Automatic, Fed, Feeder, FeederOptions, Finished, PartPlace, SpanOptions, TapeError, VolumeInventory,
    WhenFull, sessions, volume,
};
use std::ops::ControlFlow;
use std::path::Path;
use wire::codes;

/// Bytes of the spool.
pub const SPOOL_BYTES: u64 = 1 << 30;
/// Bytes in it before the drive starts.
pub const MARK_BYTES: u64 = 256 << 20;
/// The same of a directory, which can wait at no cost.
pub const FILES_MARK_BYTES: u64 = 4 << 20;

/// A session on tape.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Its id there.
    pub session: String,
    /// Where its parts lie.
    pub parts: Vec<PartPlace>,
    /// Bytes of its archive.
    pub bytes: u64,
    /// Names of what is no directory.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Objects that are not there, or not as they should be.
    pub missed: u64,
    /// The first of them, and why.
    pub listed: Vec<(Vec<u8>, String)>,
    /// Times the drive had to wait; of a directory, which may, none.
    pub stalls: u64,
    /// It was there before.
    pub was_there: bool,
}

impl Copied {
    /// Names of the volumes, in their order.
    #[must_use]
    pub fn media(&self) -> Vec<&str> {
        self.parts.iter().map(|part| part.media.as_str()).collect()
    }
}

/// The spool in front of a drive.
pub(super) fn spool(is_device: bool, scratch: &Path) -> FeederOptions {
    FeederOptions {
        directory: scratch.to_owned(),
        limit: SPOOL_BYTES,
        mark: if is_device { MARK_BYTES } else { FILES_MARK_BYTES },
        when_full: WhenFull::Stream,
    }
}

/// Copies a session; `scratch` is a directory for the spool.
///
/// # Errors
/// `BAD_URL`, `TAPE_DRIVE_FAILED`, `TAPE_VOLUME_WANTED` if there is no volume with room at hand, `TAPE_WOULD_OVERWRITE` if
/// it is write protected; `CANCELLED`; those of the repository. Nothing counts on the tape then.
pub fn copy(
    (repository, id, record): (&Repository, &Id, &SessionRecord),
    (url, pool): (&str, Option<&str>),
    scratch: &Path,
    monitor: &dyn Monitor,
) -> EngineResult<Copied> {
    if let Some(found) = find(url, id)? {
        return Ok(found);
    }
    let failed = |error: TapeError| tape_failure(url, error);
    let mut any = open_existing(url)?;
    let is_device = matches!(any, AnyDrive::Device(_));
    let session =
        SessionLabel::new(LabelFields::of_record(id, record)).map_err(|error| archive_failure(url, error))?;
    let options = SpanOptions {
        session: session.id().to_string(),
        pool: pool.map_or_else(|| pool_of(&mut any), str::to_owned),
        media: None,
        seconds: u64::try_from(wall_clock().0 / 1_000_000_000).unwrap_or_default(),
    };
    let spool = spool(is_device, scratch);
    let mut feeder = Feeder::start(any.into_drive(), Box::new(Automatic), options, &spool).map_err(failed)?;
    let made = from_repository(repository, (&session, &record.tree), &mut feeder, scratch, monitor);
    let made = match made {
        Ok(Wrote { totals, listed, out, .. }) => {
            out.note_missed(totals.missed + totals.damaged);
            Ok((totals, listed))
        }
        Err(error) => {
            feeder.canceller().cancel();
            Err(error)
        }
    };
    let Finished { result, .. } = feeder.finish();
    match (made, result) {
        (Ok((totals, listed)), Ok(Fed { written, stalls, .. })) => Ok(Copied {
            session: session.id().to_string(),
            parts: written.parts,
            bytes: written.bytes,
            files: totals.files,
            directories: totals.directories,
            missed: totals.missed + totals.damaged,
            listed,
            stalls: if is_device { stalls } else { 0 },
            was_there: false,
        }),
        // The drive's failure is why no more of the archive could be made.
        (Err(error), Err(tape)) if error.kind() == ArchiveErrorKind::Medium => Err(failed(tape)),
        (Err(error), _) => Err(archive_failure(url, error)),
        (Ok(_), Err(tape)) => Err(failed(tape)),
    }
}

/// The pool of the volume in the drive.
pub(super) fn pool_of(any: &mut AnyDrive) -> String {
    let label = volume::read_label(any.drive());
    label.map_or_else(|_| POOL.to_owned(), |label| label.pool)
}

/// A copy of the session that is whole on the volumes at hand.
fn find(url: &str, id: &Id) -> EngineResult<Option<Copied>> {
    Ok(find_all(url, id)?.into_iter().next())
}

/// All copies of the session that are whole on the volumes at hand, as far as their ends say.
pub(crate) fn find_all(url: &str, id: &Id) -> EngineResult<Vec<Copied>> {
    let mut stock: Vec<VolumeInventory> = Vec::new();
    volumes(url, &mut |volume| {
        stock.extend(volume.content);
        ControlFlow::Continue(())
    })?;
    let id = id.to_string();
    let found = sessions(&stock).into_iter().filter_map(|session| {
        let label = session.label?;
        let is_it = label.get("original").and_then(|original| original.as_str()) == Some(id.as_str());
        let parts = session.parts.filter(|_| is_it)?;
        let (bytes, missed) = (session.bytes.unwrap_or_default(), session.missed);
        let session = session.session;
        Some(Copied { session, parts, bytes, missed, was_there: true, ..Copied::default() })
    });
    Ok(found.collect())
}

fn archive_failure(url: &str, error: ArchiveError) -> EngineError {
    let code = match error.kind() {
        ArchiveErrorKind::Cancelled => &codes::CANCELLED,
        ArchiveErrorKind::Source => &codes::REPOSITORY_DAMAGED,
        _ => &codes::BACKUP_FAILED,
    };
    EngineError::new(code, format!("copy the session to {url}")).caused_by(error)
}
