//! The drive at an address: a device, or a directory that is used as a drive with a changer.
//!
//! `tape:///dev/nst0` or `tape:///DIRECTORY`. The path is taken as it stands, without escapes: `..` and what else leads
//! elsewhere than it says is refused.

use super::drive::{Drive, DriveError, DriveErrorKind, Wanted};
use super::file_drive::FileDrive;
use super::real_drive::RealDrive;
use journal::disk::OsDisk;
use std::os::unix::fs::FileTypeExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// What was typed is no address of a drive.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{typed:?} is no tape drive")]
pub struct BadTapeUrl {
    /// What was typed.
    pub typed: String,
}

/// The path in an address `tape:///PATH`.
///
/// # Errors
/// `BadTapeUrl`.
pub fn drive_path(url: &str) -> Result<PathBuf, BadTapeUrl> {
    let bad = || BadTapeUrl { typed: url.to_owned() };
    let path = Path::new(url.strip_prefix("tape://").ok_or_else(bad)?);
    let is_plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if path.is_absolute() && path.parent().is_some() && is_plain { Ok(path.to_owned()) } else { Err(bad()) }
}

/// Whether it is a device, or should be one.
fn is_device(path: &Path) -> bool {
    path.starts_with("/dev") || std::fs::metadata(path).is_ok_and(|meta| meta.file_type().is_char_device())
}

/// A drive of either sort.
pub enum AnyDrive {
    /// A directory.
    Files(Box<FileDrive>),
    /// A device.
    Device(RealDrive),
}

impl AnyDrive {
    /// Opens what is at a path: a device if it is one or lies in `/dev`, else a directory.
    ///
    /// # Errors
    /// As [`FileDrive::open`] and [`RealDrive::open`].
    pub fn open(path: &Path) -> Result<AnyDrive, DriveError> {
        if is_device(path) {
            RealDrive::open(path).map(AnyDrive::Device)
        } else {
            FileDrive::open(Arc::new(OsDisk), path).map(|drive| AnyDrive::Files(Box::new(drive)))
        }
    }

    /// Whether [`AnyDrive::open`] would find a drive there, or something in the place of a device, and make none.
    #[must_use]
    pub fn is_at(path: &Path) -> bool {
        is_device(path) || FileDrive::is_at(path)
    }

    /// The drive.
    pub fn drive(&mut self) -> &mut dyn Drive {
        match self {
            AnyDrive::Files(drive) => drive.as_mut(),
            AnyDrive::Device(drive) => drive,
        }
    }

    /// The drive, for a thread of its own.
    #[must_use]
    pub fn into_drive(self) -> Box<dyn Drive> {
        match self {
            AnyDrive::Files(drive) => drive,
            AnyDrive::Device(drive) => Box::new(drive),
        }
    }

    /// What is in the drive, by the changer's name; of a device, which has none, the empty one.
    ///
    /// # Errors
    /// As [`Drive::medium`], but for `NoMedium`.
    pub fn loaded(&mut self) -> Result<Option<String>, DriveError> {
        match self.drive().medium() {
            Ok(medium) => Ok(Some(medium.name.unwrap_or_default())),
            Err(error) if error.kind == DriveErrorKind::NoMedium => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Puts back what was in the drive before; in a device it has stayed.
    ///
    /// # Errors
    /// As [`Drive::load`] and [`Drive::eject`].
    pub fn put_back(&mut self, loaded: Option<&str>) -> Result<(), DriveError> {
        match (self, loaded) {
            (AnyDrive::Files(drive), Some(name)) => drive.load(Wanted::Named(name)),
            (AnyDrive::Files(drive), None) => drive.eject(),
            (AnyDrive::Device(_), _) => Ok(()),
        }
    }
}
