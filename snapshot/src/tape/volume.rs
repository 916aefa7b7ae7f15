//! Volumes: labelling them, telling which one is in a drive, and finding where writing goes on.
//!
//! **What is written is not written over.** A volume is labelled if it was never written, or holds a label and nothing
//! else; anything else takes force, foreign data too. Sessions are only appended, behind the last filemark: a tape file
//! without one never was acknowledged, and the next one takes its place. A tape file that has a filemark stays, also
//! if it is not whole (a drive may write the mark when it is closed): it costs room, and may be all that somebody has.

use super::drive::{BLOCK_BYTES_MAX, BLOCK_BYTES_MIN, Drive, DriveErrorKind, Wrote};
use super::error::TapeError;
use super::label::{self, LABEL_BYTES_MAX, LabelFault, LabelRequest, VolumeLabel, is_name};

/// What is in a drive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Nothing that was ever acknowledged.
    Blank,
    /// A volume.
    Volume(Box<VolumeLabel>),
    /// Something else; why it is no volume.
    Foreign(LabelFault),
}

/// Whether what is there may be written over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overwrite {
    /// Only what holds no data.
    Refuse,
    /// All of it is lost, and that is wanted.
    Force,
}

/// What is in the drive. A volume's block size is set in the drive.
///
/// # Errors
/// `Drive`.
pub fn identify(drive: &mut dyn Drive) -> Result<Content, TapeError> {
    if drive.end_of_data()?.file == 0 {
        return Ok(Content::Blank);
    }
    let start = drive.read_start(LABEL_BYTES_MAX)?;
    match label::parse(&start) {
        Ok(label) => {
            drive.set_block_bytes(label.block_bytes)?;
            Ok(Content::Volume(Box::new(label)))
        }
        Err(fault) => Ok(Content::Foreign(fault)),
    }
}

/// The label of the volume in the drive, whose block size is set.
///
/// # Errors
/// `Drive`, `Blank`, `NotLabelled`.
pub fn read_label(drive: &mut dyn Drive) -> Result<VolumeLabel, TapeError> {
    match identify(drive)? {
        Content::Volume(label) => Ok(*label),
        Content::Blank => Err(TapeError::Blank),
        Content::Foreign(source) => Err(TapeError::NotLabelled { source }),
    }
}

/// The label, if the volume in the drive is of the name and the pool that are wanted.
///
/// # Errors
/// As [`read_label`]; `WrongVolume`, `OtherPool`.
pub fn verify(
    drive: &mut dyn Drive,
    media: Option<&str>,
    pool: Option<&str>,
) -> Result<VolumeLabel, TapeError> {
    let label = read_label(drive)?;
    if let Some(wanted) = media.filter(|wanted| *wanted != label.media) {
        return Err(TapeError::WrongVolume { wanted: wanted.to_owned(), found: label.media });
    }
    if let Some(wanted) = pool.filter(|wanted| *wanted != label.pool) {
        return Err(TapeError::OtherPool {
            media: label.media,
            wanted: wanted.to_owned(),
            found: label.pool,
        });
    }
    Ok(label)
}

fn check(request: &LabelRequest) -> Result<(), TapeError> {
    let refuse = |what, given: &str| Err(TapeError::BadRequest { what, given: given.to_owned() });
    if !is_name(&request.media) {
        return refuse("media name", &request.media);
    }
    if !is_name(&request.pool) {
        return refuse("pool name", &request.pool);
    }
    let is_allowed = (BLOCK_BYTES_MIN..=BLOCK_BYTES_MAX).contains(&request.block_bytes)
        && request.block_bytes.is_multiple_of(BLOCK_BYTES_MIN);
    if is_allowed { Ok(()) } else { refuse("block size", &request.block_bytes.to_string()) }
}

/// Labels the medium in the drive. What it held is gone when this returns, and may be when it fails.
///
/// # Errors
/// `BadRequest`; `HasSessions`, `Foreign` without force, nothing was touched then; `Drive`; `NoRoom` if it takes not even
/// the label.
pub fn label(
    drive: &mut dyn Drive,
    request: LabelRequest,
    overwrite: Overwrite,
) -> Result<VolumeLabel, TapeError> {
    check(&request)?;
    if overwrite == Overwrite::Refuse {
        match identify(drive)? {
            Content::Blank => {}
            Content::Foreign(_) => return Err(TapeError::Foreign),
            Content::Volume(label) => {
                let end = drive.end_of_data()?;
                let files = end.file.saturating_sub(1) + u32::from(end.block > 0);
                if files > 0 {
                    return Err(TapeError::HasSessions { media: label.media, files });
                }
            }
        }
    }
    let pool = request.pool.clone();
    let serial = drive.medium()?.serial;
    let label = VolumeLabel::new(request, serial).map_err(|source| TapeError::Label { source })?;
    let archive = label.encode().map_err(|source| TapeError::Label { source })?;
    drive.set_block_bytes(label.block_bytes)?;
    drive.rewind()?;
    for block in archive.chunks(label.block_bytes) {
        if drive.write(block)? == Wrote::EndOfMedium {
            return Err(TapeError::NoRoom { pool, tried: 1 });
        }
    }
    drive.filemark()?;
    Ok(label)
}

/// Goes to where the next tape file is written: behind the last filemark. Its number.
///
/// # Errors
/// `Drive`; `Blank` if there is no label to write behind.
pub fn append(drive: &mut dyn Drive) -> Result<u32, TapeError> {
    let end = drive.end_of_data()?;
    if end.file == 0 {
        return Err(TapeError::Blank);
    }
    if end.block > 0 {
        drive.locate(end.file)?;
    }
    Ok(end.file)
}

/// Whether a failed call means that a person must put a medium in.
pub(super) fn wants_a_person(kind: DriveErrorKind) -> bool {
    matches!(kind, DriveErrorKind::NoMedium | DriveErrorKind::NoVolume)
}
