//! Copies of sessions of a repository on tape.
//!
//! They go the way of every session ([`Run`]). One that is whole on the volumes at hand is not written again: the label says
//! which session it is a copy of, but for encrypted ones, of which the listing knows it.

use super::archive::{Archived, Run};
use super::{AnyDrive, POOL, volumes};
use crate::engine::{EngineError, EngineResult};
use snapshot::repository::{Id, Repository, SessionRecord};
use snapshot::session::Monitor;
use snapshot::tape::archive::{Encoding, LabelFields, SessionLabel};
use snapshot::tape::{FeederOptions, PartPlace, SpoolPlace, VolumeInventory, WhenFull, sessions, volume};
use std::ops::ControlFlow;
use std::path::Path;
use wire::codes;

/// Bytes of the spool.
const SPOOL_BYTES: u64 = 1 << 30;
/// Bytes in it before the drive starts.
const MARK_BYTES: u64 = 256 << 20;
/// The same of a directory, which can wait at no cost.
const FILES_MARK_BYTES: u64 = 1 << 20;

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
    /// A session that was just written.
    pub(crate) fn new<T>(session: &Id, made: Archived<T>) -> Self {
        let Archived { written, stalls, totals, listed, .. } = made;
        Self {
            session: session.to_string(),
            parts: written.parts,
            bytes: written.bytes,
            files: totals.files,
            directories: totals.directories,
            missed: totals.missed + totals.damaged,
            listed,
            stalls,
            was_there: false,
        }
    }

    /// Names of the volumes, in their order.
    #[must_use]
    pub fn media(&self) -> Vec<&str> {
        self.parts.iter().map(|part| part.media.as_str()).collect()
    }
}

/// The spool in front of a drive; `scratch` is where it lies if it is on disk.
#[must_use]
pub fn spool(is_device: bool, scratch: &Path) -> FeederOptions {
    if !is_device {
        // It has nothing to stream for: nothing is written twice.
        return FeederOptions { place: SpoolPlace::Memory, mark: FILES_MARK_BYTES };
    }
    let directory = scratch.to_owned();
    let place = SpoolPlace::Disk { directory, limit: SPOOL_BYTES, when_full: WhenFull::Stream };
    FeederOptions { place, mark: MARK_BYTES }
}

/// Copies a session as it is to volumes that are no repository's; `scratch` is a directory for the spool.
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
    let label = SessionLabel::new(LabelFields::of_record(id, record))
        .map_err(|error| EngineError::new(&codes::BACKUP_FAILED, "label the session").caused_by(error))?;
    let mut run = Run::open(url, Encoding::default())?;
    if let Some(pool) = pool {
        pool.clone_into(&mut run.pool);
    }
    let made = run.copy_unlisted((repository, &record.tree), &label, scratch, monitor)?;
    Ok(Copied::new(&label.id(), made))
}

/// The pool of the volume in the drive.
pub(super) fn pool_of(any: &mut AnyDrive) -> String {
    let label = volume::read_label(any.drive());
    label.map_or_else(|_| POOL.to_owned(), |label| label.pool)
}

/// A copy of the session that is whole on the volumes at hand.
fn find(url: &str, id: &Id) -> EngineResult<Option<Copied>> {
    Ok(find_all(url, id, &[])?.into_iter().next())
}

/// All copies of the session that are whole on the volumes at hand, as far as their ends say: those whose label says so,
/// and these.
pub(crate) fn find_all(url: &str, id: &Id, copies: &[Id]) -> EngineResult<Vec<Copied>> {
    let mut stock: Vec<VolumeInventory> = Vec::new();
    volumes(url, &mut |volume| {
        stock.extend(volume.content);
        ControlFlow::Continue(())
    })?;
    let id = id.to_string();
    let found = sessions(&stock).into_iter().filter_map(|session| {
        let original = session.label.as_ref().and_then(|label| label.get("original")?.as_str());
        let is_listed = Id::parse(&session.session).is_some_and(|session| copies.contains(&session));
        let is_it = original == Some(id.as_str()) || is_listed;
        let parts = session.parts.filter(|_| is_it)?;
        let (bytes, missed) = (session.bytes.unwrap_or_default(), session.missed);
        let session = session.session;
        Some(Copied { session, parts, bytes, missed, was_there: true, ..Copied::default() })
    });
    Ok(found.collect())
}
