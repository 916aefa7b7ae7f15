//! What a drive of files remembers beside the tape files: which volumes it has, and how each cartridge is.
//!
//! A note is replaced whole: written beside, synced, renamed, the directory synced. One that cannot be read is not guessed.

use super::super::label;
use journal::Disk;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::Path;

pub(super) const DRIVE: &str = "drive.json";
const MEDIUM: &str = "medium.json";
const VERSION: u32 = 1;
/// Longest note that is read, in bytes: a hundred thousand volumes.
const NOTE_BYTES_MAX: u64 = 16 << 20;

/// How a new cartridge is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MediumOptions {
    /// Bytes it takes.
    pub capacity: u64,
    /// With fewer bytes left than this, each write warns.
    pub early_warning: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct DriveNote {
    pub version: u32,
    pub serial: String,
    pub loaded: Option<String>,
    pub volumes: Vec<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct MediumNote {
    version: u32,
    pub serial: String,
    pub capacity: u64,
    pub early_warning: u64,
    #[serde(default)]
    pub write_protected: bool,
}

fn read<T: DeserializeOwned>(disk: &dyn Disk, path: &Path) -> io::Result<T> {
    let file = disk.open(path)?;
    let bytes = file.len()?;
    if bytes > NOTE_BYTES_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut text = vec![0; usize::try_from(bytes).unwrap_or(0)];
    let count = file.read_at(&mut text, 0)?;
    text.truncate(count);
    serde_json::from_slice(&text).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

fn write(disk: &dyn Disk, directory: &Path, name: &str, note: &impl Serialize) -> io::Result<()> {
    let text = serde_json::to_vec(note).map_err(io::Error::other)?;
    let beside = directory.join(format!("{name}.new"));
    match disk.remove(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = disk.create(&beside)?;
    file.write_at(&text, 0)?;
    file.sync_data()?;
    disk.rename(&beside, &directory.join(name))?;
    disk.sync_dir(directory)
}

fn checked<T>(note: T, version: u32) -> io::Result<T> {
    if version == VERSION { Ok(note) } else { Err(io::ErrorKind::InvalidData.into()) }
}

impl DriveNote {
    /// The note of a directory; a new one is written if there is none.
    pub fn open(disk: &dyn Disk, directory: &Path) -> io::Result<DriveNote> {
        match read::<DriveNote>(disk, &directory.join(DRIVE)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let serial = label::random_id()?;
                let note = DriveNote { version: VERSION, serial, loaded: None, volumes: Vec::new() };
                note.write(disk, directory)?;
                Ok(note)
            }
            Err(error) => Err(error),
            // A name is a directory's: one that is none could lead out of this one.
            Ok(note) if !note.volumes.iter().chain(&note.loaded).all(|name| label::is_name(name)) => {
                Err(io::ErrorKind::InvalidData.into())
            }
            Ok(note) => {
                let version = note.version;
                checked(note, version)
            }
        }
    }

    pub fn write(&self, disk: &dyn Disk, directory: &Path) -> io::Result<()> {
        write(disk, directory, DRIVE, self)
    }
}

impl MediumNote {
    pub fn read(disk: &dyn Disk, path: &Path) -> io::Result<MediumNote> {
        let note: MediumNote = read(disk, &path.join(MEDIUM))?;
        let version = note.version;
        checked(note, version)
    }

    /// A new cartridge; fails with `AlreadyExists` if there is one that is known or holds anything.
    pub fn create(disk: &dyn Disk, path: &Path, options: MediumOptions) -> io::Result<()> {
        disk.create_dir_all(path)?;
        let mut names = disk.list(path)?.into_iter();
        // Of an insertion that was cut off nothing but the note can be there.
        if names.any(|name| name != MEDIUM && name != format!("{MEDIUM}.new")) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let MediumOptions { capacity, early_warning } = options;
        let serial = label::random_id()?;
        let note = MediumNote { version: VERSION, serial, capacity, early_warning, write_protected: false };
        write(disk, path, MEDIUM, &note)
    }
}
