//! Looking after volumes of tape: labels, inventory, putting out. What goes wrong with a tape gets its code here, also
//! for the rescue of sessions on it.
//!
//! A drive is opened for one call and closed behind it. Its lock, or the kernel's, says that somebody else has it; nobody
//! waits for it here. A volume that holds anything is never written over unless the caller says so, which is checked
//! where the label is written ([`snapshot::tape::volume`]) and nowhere else.

mod archive;
mod copy;
mod drives;
mod pipe;
mod recall;

pub(crate) use archive::Run;
pub(crate) use copy::find_all;
pub use copy::{Copied, copy, spool};
pub use drives::{Drives, Hold};
pub use recall::{Chosen, PREFIX, Recalled, label_inside, private_directory, recall, sweep};
pub(crate) use recall::{KEY_COST, check_whole, list, prove, random_password};

use crate::engine::{EngineError, EngineResult};
use snapshot::tape::drive::BLOCK_BYTES;
use snapshot::tape::{
    AnyDrive, Drive, DriveError, DriveErrorKind, FileDrive, LabelRequest, MediumOptions, Overwrite,
    TapeError, TapeErrorKind, VolumeInventory, VolumeLabel, Wanted, drive_path, inventory, volume,
};
use std::ops::ControlFlow;
use std::path::PathBuf;
use wire::codes::{self, Code};

/// Pool of volumes that are given none.
const POOL: &str = "default";
/// Why nothing is known of a volume that the directory should have.
pub(crate) const NOT_THERE: &str = "it is not there";
/// With fewer bytes left than this a volume of a directory says that it ends.
const EARLY_WARNING_BYTES: u64 = 4 << 20;

/// What a volume is to be called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelWanted {
    /// Name of the medium.
    pub media: String,
    /// Pool; empty: the usual one.
    pub pool: String,
    /// Which volume of its pool, from 1; 0: the next.
    pub sequence: u32,
    /// Bytes that a new volume of a directory takes; 0: no bound.
    pub capacity: u64,
    /// Bytes of a block; 0: the usual.
    pub block_bytes: usize,
    /// What the medium holds is lost.
    pub force: bool,
}

/// A volume as it was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Volume {
    /// What the changer calls it, where there is one.
    pub name: String,
    /// Whether it is in the drive.
    pub loaded: bool,
    /// What is on it, or why that is not known.
    pub content: Result<VolumeInventory, String>,
}

/// Refuses what is no address of a drive.
///
/// # Errors
/// `BAD_URL`.
pub fn check_url(url: &str) -> EngineResult<()> {
    path_of(url).map(drop)
}

/// Opens the drive at an address.
///
/// # Errors
/// `BAD_URL`, `TAPE_DRIVE_FAILED`.
pub fn open(url: &str) -> EngineResult<AnyDrive> {
    AnyDrive::open(&path_of(url)?).map_err(|error| tape_failure(url, error.into()))
}

fn path_of(url: &str) -> EngineResult<PathBuf> {
    drive_path(url).map_err(|error| {
        EngineError::new(&codes::BAD_URL, error.to_string()).advise(
            "Write tape:///dev/nst0 for a device, or tape:///DIRECTORY for a directory that is used as one.",
        )
    })
}

/// As [`open`], but nothing is made: a directory has to be a drive already.
///
/// # Errors
/// As [`open`].
pub fn open_existing(url: &str) -> EngineResult<AnyDrive> {
    match drive_path(url) {
        Ok(path) if !AnyDrive::is_at(&path) => {
            let text = format!("{url}: there is neither a tape drive nor a directory that is used as one");
            Err(EngineError::new(&codes::TAPE_DRIVE_FAILED, text))
        }
        _ => open(url),
    }
}

/// The code of a failure.
#[must_use]
pub fn code_of(error: &TapeError) -> &'static Code {
    match (error.kind(), error.drive()) {
        (TapeErrorKind::WouldOverwrite, _) | (_, Some(DriveErrorKind::WriteProtected)) => {
            &codes::TAPE_WOULD_OVERWRITE
        }
        (TapeErrorKind::WrongVolume | TapeErrorKind::MissingVolume, _)
        | (_, Some(DriveErrorKind::NoMedium | DriveErrorKind::NoVolume)) => &codes::TAPE_VOLUME_WANTED,
        (_, Some(DriveErrorKind::Busy)) => &codes::TAPE_BUSY,
        (TapeErrorKind::Damaged, _) => &codes::TAPE_DAMAGED,
        (TapeErrorKind::Other, None) if matches!(error, TapeError::BadRequest { .. }) => {
            &codes::BAD_PARAMETERS
        }
        _ => &codes::TAPE_DRIVE_FAILED,
    }
}

pub(crate) fn tape_failure(url: &str, error: TapeError) -> EngineError {
    EngineError::new(code_of(&error), format!("{url}: {error}")).caused_by(error)
}

/// What is on each volume: of a directory on all, of a device on the one in it. What was in the drive is in it again.
///
/// # Errors
/// `BAD_URL`, `TAPE_DRIVE_FAILED`; `TAPE_VOLUME_WANTED` if a device is empty. A volume that cannot be read is told of.
pub fn volumes(url: &str, each: &mut dyn FnMut(Volume) -> ControlFlow<()>) -> EngineResult<()> {
    volumes_in(&mut open_existing(url)?, url, each)
}

/// As [`volumes`], of a drive that is open. One that the directory should have and has not is told of, too.
///
/// # Errors
/// As [`volumes`].
pub fn volumes_in(
    any: &mut AnyDrive,
    url: &str,
    each: &mut dyn FnMut(Volume) -> ControlFlow<()>,
) -> EngineResult<()> {
    let failed = |error: DriveError| tape_failure(url, error.into());
    let loaded = any.loaded().map_err(failed)?;
    let names = match &*any {
        AnyDrive::Files(drive) => drive.volumes().to_vec(),
        AnyDrive::Device(_) => Vec::new(),
    };
    if let AnyDrive::Device(drive) = &mut *any {
        let content = content_of(drive).map_err(|error| tape_failure(url, error))?;
        let _ = each(Volume { name: String::new(), loaded: true, content });
        return Ok(());
    }
    let outcome = names.iter().try_for_each(|name| {
        let content = match any.drive().load(Wanted::Named(name)) {
            Ok(()) => content_of(any.drive())?,
            Err(error) if error.kind == DriveErrorKind::NoVolume => Err(NOT_THERE.to_owned()),
            Err(error) if error.kind == DriveErrorKind::Media => Err(told(&error.into())),
            Err(error) => return Err(error.into()),
        };
        let is_loaded = loaded.as_deref() == Some(name);
        match each(Volume { name: name.clone(), loaded: is_loaded, content }) {
            ControlFlow::Continue(()) => Ok(()),
            // Nobody listens any more.
            ControlFlow::Break(()) => Err(TapeError::Cancelled),
        }
    });
    let back = any.put_back(loaded.as_deref()).map_err(failed);
    match outcome {
        Ok(()) | Err(TapeError::Cancelled) => back,
        Err(error) => Err(tape_failure(url, error)),
    }
}

/// What a volume holds; one that is blank, foreign or damaged is told of, a drive that fails is not.
fn content_of(drive: &mut dyn Drive) -> Result<Result<VolumeInventory, String>, TapeError> {
    match inventory(drive) {
        Ok(found) => Ok(Ok(found)),
        Err(error) if error.kind() == TapeErrorKind::WrongVolume => Ok(Err(told(&error))),
        Err(error) if error.drive() == Some(DriveErrorKind::Media) => Ok(Err(told(&error))),
        Err(error) => Err(error),
    }
}

fn told(error: &TapeError) -> String {
    let cause = std::error::Error::source(error).map(|source| format!(": {source}"));
    format!("{error}{}", cause.unwrap_or_default())
}

/// Labels a medium: in a directory the volume of that name, which is made if there is none, in a device what is in it.
///
/// # Errors
/// `BAD_URL`, `BAD_PARAMETERS`, `TAPE_WOULD_OVERWRITE` without force, `TAPE_VOLUME_WANTED`, `TAPE_DRIVE_FAILED`.
pub fn label(url: &str, wanted: &LabelWanted) -> EngineResult<VolumeLabel> {
    let failed = |error: TapeError| tape_failure(url, error);
    let mut any = open(url)?;
    let pool = if wanted.pool.is_empty() { POOL } else { &wanted.pool };
    let sequence = match wanted.sequence {
        0 => next_of(&mut any, pool, &wanted.media).map_err(failed)?,
        given => given,
    };
    if let AnyDrive::Files(drive) = &mut any {
        if !drive.volumes().contains(&wanted.media) {
            let capacity = if wanted.capacity == 0 { u64::MAX } else { wanted.capacity };
            let early_warning = EARLY_WARNING_BYTES.min(capacity / 8);
            insert(drive, &wanted.media, MediumOptions { capacity, early_warning }).map_err(failed)?;
        }
        drive.load(Wanted::Named(&wanted.media)).map_err(|error| failed(error.into()))?;
    }
    let block_bytes = if wanted.block_bytes == 0 { BLOCK_BYTES } else { wanted.block_bytes };
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let request = LabelRequest {
        media: wanted.media.clone(),
        pool: pool.to_owned(),
        sequence,
        block_bytes,
        made_by: format!("rewind {} on {host}", env!("CARGO_PKG_VERSION")),
        made_at: u64::try_from(crate::points::wall_clock().0 / 1_000_000_000).unwrap_or_default(),
    };
    let overwrite = if wanted.force { Overwrite::Force } else { Overwrite::Refuse };
    volume::label(any.drive(), request, overwrite).map_err(failed)
}

fn insert(drive: &mut FileDrive, media: &str, options: MediumOptions) -> Result<(), TapeError> {
    // What cannot be a name is refused as one, not as a failure of the drive.
    if !snapshot::tape::label::is_name(media) {
        return Err(TapeError::BadRequest { what: "media name", given: media.to_owned() });
    }
    Ok(drive.insert(media, options)?)
}

/// The number behind the greatest of a pool, as far as the drive knows its volumes; the volume's own stays.
fn next_of(any: &mut AnyDrive, pool: &str, media: &str) -> Result<u32, TapeError> {
    let AnyDrive::Files(drive) = any else { return Ok(1) };
    let mut greatest = 0;
    for name in drive.volumes().to_vec() {
        match drive.load(Wanted::Named(&name)) {
            // One that is gone or damaged has no number.
            Err(error) if matches!(error.kind, DriveErrorKind::NoVolume | DriveErrorKind::Media) => continue,
            loaded => loaded?,
        }
        let Ok(label) = volume::verify(drive.as_mut(), None, Some(pool)) else { continue };
        if label.media == media {
            return Ok(label.sequence);
        }
        greatest = greatest.max(label.sequence);
    }
    Ok(greatest.saturating_add(1))
}

/// Puts the medium out. Its name, if it has one.
///
/// # Errors
/// `BAD_URL`, `TAPE_DRIVE_FAILED`.
pub fn eject(url: &str) -> EngineResult<Option<String>> {
    let failed = |error: DriveError| tape_failure(url, error.into());
    let mut any = open_existing(url)?;
    if any.loaded().map_err(failed)?.is_none() {
        return Ok(None);
    }
    let media = volume::read_label(any.drive()).ok().map(|label| label.media);
    any.drive().eject().map_err(failed)?;
    Ok(media)
}

#[cfg(test)]
mod tests;
