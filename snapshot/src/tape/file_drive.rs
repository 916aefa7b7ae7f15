//! A drive of files: a directory that holds a changer's volumes, for staging, and for media that are no tape.
//!
//! ```text
//! DIR/drive.json            serial, volumes in the order in which they came, the one that is loaded
//! DIR/MEDIA/medium.json     the cartridge: serial, capacity, early warning, write protection
//! DIR/MEDIA/000000.tar      a tape file that ends with a filemark; the first is the label
//! DIR/MEDIA/000003.tar.part the tape file behind the last filemark
//! ```
//!
//! It is written as a tape is: in one go, at the end, and writing a tape file removes all behind it. A filemark is the
//! name: the bytes are synced, then the file loses its `.part`, then the directory is synced. So a file of the final
//! name is whole, and one that is not stands behind all that are. A hole, which only somebody else can make, ends the
//! volume, and makes it write protected: what would be written would take the place of the tape files behind it.
//!
//! **What is seen is made durable before anything is written behind it**, or a name that was not could be gone later, and
//! what follows it with it. When a volume is loaded its directory is synced. A failed sync proves nothing, so what it left
//! is removed; and since the process before may have ended with one, the last name on the volume that is found in the
//! drive is put down anew when the drive is opened.
//!
//! The capacity is the sum of all bytes of tape files. One process has the directory at a time.

mod loaded;
mod notes;

use self::loaded::{Loaded, Open, file_name, open_for_reading, start_of};
use self::notes::{DriveNote, MediumNote};
use super::drive::{
    BLOCK_BYTES, BLOCK_BYTES_MAX, BLOCK_BYTES_MIN, Drive, DriveError, DriveErrorKind, Medium, Met, Position,
    Wanted, Wrote,
};
use super::label;
use journal::Disk;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use self::notes::MediumOptions;

/// Bytes that the disk is told to write at once.
const WRITE_BACK_BYTES: u64 = 8 << 20;

/// A directory as a drive with a changer.
pub struct FileDrive {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    _lock: Box<dyn Send + Sync>,
    note: DriveNote,
    loaded: Option<Loaded>,
    at: Position,
    block_bytes: usize,
}

impl FileDrive {
    /// Whether a directory of this system is used as a drive.
    #[must_use]
    pub fn is_at(directory: &Path) -> bool {
        directory.join(notes::DRIVE).is_file()
    }

    /// Opens a directory, making an empty drive of it if it is not one.
    ///
    /// # Errors
    /// `Busy` if another process has it; `NotADrive` if a note in it is none of ours; `Io`.
    pub fn open(disk: Arc<dyn Disk>, directory: &Path) -> Result<Self, DriveError> {
        let failed = |kind, source| DriveError {
            operation: "open",
            volume: None,
            at: Position::default(),
            kind,
            source: Some(source),
        };
        create(disk.as_ref(), directory).map_err(|source| failed(DriveErrorKind::Io, source))?;
        let lock = disk.lock(&directory.join("drive.lock")).map_err(|source| {
            let is_busy = source.kind() == io::ErrorKind::WouldBlock;
            failed(if is_busy { DriveErrorKind::Busy } else { DriveErrorKind::Io }, source)
        })?;
        let note = DriveNote::open(disk.as_ref(), directory).map_err(|source| {
            let is_foreign = source.kind() == io::ErrorKind::InvalidData;
            failed(if is_foreign { DriveErrorKind::NotADrive } else { DriveErrorKind::Io }, source)
        })?;
        let mut drive = Self {
            disk,
            directory: directory.to_owned(),
            _lock: lock,
            note,
            loaded: None,
            at: Position::default(),
            block_bytes: BLOCK_BYTES,
        };
        if let Some(name) = drive.note.loaded.clone() {
            match Loaded::scan(drive.disk.as_ref(), &drive.directory, &name) {
                Ok(loaded) => {
                    let renewed = loaded.renew(drive.disk.as_ref());
                    renewed.map_err(|error| drive.of(&name, "open", DriveErrorKind::Io, Some(error)))?;
                    drive.loaded = Some(loaded);
                }
                // Somebody took it away, or it is damaged: the drive is empty, and has its other volumes.
                Err(error) if is_of_one(&error) => {}
                Err(error) => return Err(drive.failed("open", DriveErrorKind::Io, Some(error))),
            }
        }
        Ok(drive)
    }

    /// Puts a new, empty volume into the changer, not into the drive.
    ///
    /// # Errors
    /// `NoPlace` if the name is no media name or taken; `Io`.
    pub fn insert(&mut self, name: &str, options: MediumOptions) -> Result<(), DriveError> {
        let path = self.directory.join(name);
        if !label::is_name(name) || self.note.volumes.iter().any(|known| known == name) {
            return Err(self.of(name, "insert", DriveErrorKind::NoPlace, None));
        }
        let result = MediumNote::create(self.disk.as_ref(), &path, options).and_then(|()| {
            self.disk.sync_dir(&self.directory)?;
            let mut note = self.note.clone();
            note.volumes.push(name.to_owned());
            note.write(self.disk.as_ref(), &self.directory)?;
            self.note = note;
            Ok(())
        });
        result.map_err(|source| {
            let is_taken = source.kind() == io::ErrorKind::AlreadyExists;
            let kind = if is_taken { DriveErrorKind::NoPlace } else { DriveErrorKind::Io };
            self.of(name, "insert", kind, Some(source))
        })
    }

    /// Volumes in the changer, in the order in which they came.
    #[must_use]
    pub fn volumes(&self) -> &[String] {
        &self.note.volumes
    }

    fn of(
        &self,
        volume: &str,
        operation: &'static str,
        kind: DriveErrorKind,
        source: Option<io::Error>,
    ) -> DriveError {
        DriveError { operation, volume: Some(volume.to_owned()), at: self.at, kind, source }
    }

    fn failed(&self, operation: &'static str, kind: DriveErrorKind, source: Option<io::Error>) -> DriveError {
        let volume = self.loaded.as_ref().map(|loaded| loaded.name.clone());
        DriveError { operation, volume, at: self.at, kind, source }
    }

    /// Something done with the volume in the drive; an error of the system is of `kind`.
    fn with<T>(
        &mut self,
        operation: &'static str,
        kind: DriveErrorKind,
        act: impl FnOnce(&mut Loaded, &dyn Disk, &mut Position, usize) -> Result<T, Failure>,
    ) -> Result<T, DriveError> {
        let Some(loaded) = &mut self.loaded else {
            return Err(self.failed(operation, DriveErrorKind::NoMedium, None));
        };
        act(loaded, self.disk.as_ref(), &mut self.at, self.block_bytes).map_err(|failure| match failure {
            Failure::Kind(kind) => self.failed(operation, kind, None),
            Failure::System(source) => self.failed(operation, kind, Some(source)),
        })
    }

    /// The first volume with a label of a pool and nothing behind it.
    fn find_blank(&mut self, pool: &str, except: &[String]) -> Result<Option<String>, DriveError> {
        for name in self.note.volumes.clone() {
            let loaded = match Loaded::scan(self.disk.as_ref(), &self.directory, &name) {
                Ok(loaded) => loaded,
                Err(error) if is_of_one(&error) => continue,
                Err(error) => return Err(self.of(&name, "load", DriveErrorKind::Io, Some(error))),
            };
            if loaded.marks() != 1 || loaded.is_write_protected() {
                continue;
            }
            let start = start_of(self.disk.as_ref(), &loaded, label::LABEL_BYTES_MAX);
            let start = start.map_err(|error| self.of(&name, "load", DriveErrorKind::Media, Some(error)))?;
            if label::parse(&start).is_ok_and(|label| label.pool == pool && !except.contains(&label.id)) {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }
}

/// Makes a directory that is not there, with those above it, for good: its volumes are no safer than its name.
fn create(disk: &dyn Disk, directory: &Path) -> io::Result<()> {
    let is_missing = |above: &&Path| {
        let found = disk.list(above);
        !above.as_os_str().is_empty() && found.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    };
    let missing: Vec<&Path> = directory.ancestors().take_while(is_missing).collect();
    disk.create_dir_all(directory)?;
    for made in missing {
        let above = made.parent().filter(|above| !above.as_os_str().is_empty());
        disk.sync_dir(above.unwrap_or(Path::new(".")))?;
    }
    Ok(())
}

/// Whether a volume is gone, its note is damaged, or what should be a file in it is none: others are not touched by that.
fn is_of_one(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(error.kind(), Kind::NotFound | Kind::InvalidData | Kind::IsADirectory | Kind::NotADirectory)
}

/// Why something inside a volume failed.
enum Failure {
    Kind(DriveErrorKind),
    System(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::System(error)
    }
}

/// Removes what a failed write or filemark left. A name that a failed sync left is seen now, may be gone after a power cut,
/// and with it what would be written behind it.
fn settle(loaded: &mut Loaded, disk: &dyn Disk) -> io::Result<()> {
    if let Open::Failed { file } = loaded.open {
        loaded.cut(disk, file)?;
        loaded.open = Open::Nothing;
    }
    Ok(())
}

impl Drive for FileDrive {
    fn serial(&self) -> &str {
        &self.note.serial
    }

    fn medium(&mut self) -> Result<Medium, DriveError> {
        self.with("look at", DriveErrorKind::Io, |loaded, _, _, _| {
            Ok(Medium {
                name: Some(loaded.name.clone()),
                serial: Some(loaded.note.serial.clone()),
                capacity: Some(loaded.note.capacity),
                used: Some(loaded.used()),
                is_write_protected: loaded.is_write_protected(),
            })
        })
    }

    fn block_bytes(&self) -> usize {
        self.block_bytes
    }

    fn set_block_bytes(&mut self, bytes: usize) -> Result<(), DriveError> {
        if !(BLOCK_BYTES_MIN..=BLOCK_BYTES_MAX).contains(&bytes) || !bytes.is_multiple_of(BLOCK_BYTES_MIN) {
            return Err(self.failed("set block", DriveErrorKind::NoPlace, None));
        }
        self.block_bytes = bytes;
        Ok(())
    }

    fn position(&self) -> Position {
        self.at
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<Met, DriveError> {
        self.with("read", DriveErrorKind::Media, |loaded, disk, at, block| {
            if !matches!(loaded.open, Open::Reading { .. }) {
                loaded.open = open_for_reading(loaded, disk, *at)?;
            }
            let Open::Reading { file, bytes, is_marked } = &loaded.open else { return Ok(Met::EndOfData) };
            let from = at.block.saturating_mul(block as u64);
            if from >= *bytes {
                if !is_marked {
                    return Ok(Met::EndOfData);
                }
                *at = Position { file: at.file + 1, block: 0 };
                loaded.open = Open::Nothing;
                return Ok(Met::Filemark);
            }
            let buffer = buffer.get_mut(..block).ok_or(Failure::Kind(DriveErrorKind::NoPlace))?;
            let count = file.read_at(buffer, from)?;
            if count < block {
                return Err(Failure::Kind(DriveErrorKind::Media));
            }
            at.block += 1;
            Ok(Met::Block(block))
        })
    }

    fn read_start(&mut self, limit: usize) -> Result<Vec<u8>, DriveError> {
        self.with("read", DriveErrorKind::Media, |loaded, disk, at, _| {
            loaded.open = Open::Nothing;
            *at = Position::default();
            Ok(start_of(disk, loaded, limit)?)
        })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<Wrote, DriveError> {
        self.with("write", DriveErrorKind::Io, |loaded, disk, at, block| {
            if loaded.is_write_protected() {
                return Err(Failure::Kind(DriveErrorKind::WriteProtected));
            }
            let is_going_on = matches!(loaded.open, Open::Writing { .. });
            if matches!(loaded.open, Open::Failed { .. })
                || bytes.len() != block
                || (!is_going_on && at.block > 0)
            {
                return Err(Failure::Kind(DriveErrorKind::NoPlace));
            }
            let writing = std::mem::replace(&mut loaded.open, Open::Failed { file: at.file });
            let file = match writing {
                Open::Writing { file } => file,
                _ => {
                    loaded.cut(disk, at.file)?;
                    let file = disk.create(&loaded.path.join(file_name(at.file, false)))?;
                    loaded.tail = Some(0);
                    file
                }
            };
            if loaded.used() + block as u64 > loaded.note.capacity {
                loaded.open = Open::Writing { file };
                return Ok(Wrote::EndOfMedium);
            }
            let from = at.block * block as u64;
            file.write_at(bytes, from)?;
            // The disk is at work before the filemark waits for it.
            let begun = from - from % WRITE_BACK_BYTES;
            if (from + block as u64) - begun >= WRITE_BACK_BYTES {
                file.begin_write_back(begun, WRITE_BACK_BYTES);
            }
            loaded.open = Open::Writing { file };
            loaded.tail = loaded.tail.map(|tail| tail + block as u64);
            at.block += 1;
            let left = loaded.note.capacity - loaded.used();
            Ok(if left < loaded.note.early_warning { Wrote::EarlyWarning } else { Wrote::Done })
        })
    }

    fn filemark(&mut self) -> Result<(), DriveError> {
        self.with("write filemark", DriveErrorKind::Io, |loaded, disk, at, _| {
            let failed = Open::Failed { file: at.file };
            let Open::Writing { file } = std::mem::replace(&mut loaded.open, failed) else {
                loaded.open = Open::Nothing;
                return Err(Failure::Kind(DriveErrorKind::NoPlace));
            };
            file.sync_data()?;
            let (part, whole) = (file_name(at.file, false), file_name(at.file, true));
            disk.rename(&loaded.path.join(part), &loaded.path.join(whole))?;
            disk.sync_dir(&loaded.path)?;
            loaded.files.push(loaded.tail.take().unwrap_or(0));
            *at = Position { file: at.file + 1, block: 0 };
            loaded.open = Open::Nothing;
            Ok(())
        })
    }

    fn locate(&mut self, file: u32) -> Result<(), DriveError> {
        self.with("locate", DriveErrorKind::Io, |loaded, disk, at, _| {
            settle(loaded, disk)?;
            loaded.open = Open::Nothing;
            if file > loaded.marks() {
                return Err(Failure::Kind(DriveErrorKind::NoPlace));
            }
            *at = Position { file, block: 0 };
            Ok(())
        })
    }

    fn locate_last_block(&mut self, file: u32) -> Result<Option<u64>, DriveError> {
        self.locate(file)?;
        self.with("locate", DriveErrorKind::Io, |loaded, _, at, block| {
            let bytes = loaded.files.get(file as usize).copied().unwrap_or(0);
            let blocks = bytes.div_ceil(block as u64);
            at.block = blocks.checked_sub(1).ok_or(Failure::Kind(DriveErrorKind::NoPlace))?;
            Ok(Some(blocks))
        })
    }

    fn end_of_data(&mut self) -> Result<Position, DriveError> {
        let marks = self.with("locate", DriveErrorKind::Io, |loaded, _, _, _| Ok(loaded.marks()))?;
        self.locate(marks)?;
        self.with("locate", DriveErrorKind::Io, |loaded, _, at, block| {
            let blocks = loaded.tail.unwrap_or(0).div_ceil(block as u64);
            Ok(Position { file: at.file, block: blocks })
        })
    }

    fn load(&mut self, wanted: Wanted<'_>) -> Result<(), DriveError> {
        let name = match wanted {
            Wanted::Named(name) => name.to_owned(),
            Wanted::Blank { pool, except } => match self.find_blank(pool, except)? {
                Some(name) => name,
                None => return Err(self.failed("load", DriveErrorKind::NoVolume, None)),
            },
        };
        if !label::is_name(&name) {
            return Err(self.of(&name, "load", DriveErrorKind::NoVolume, None));
        }
        if let Some(loaded) = &mut self.loaded {
            let settled = settle(loaded, self.disk.as_ref());
            settled.map_err(|source| self.failed("load", DriveErrorKind::Io, Some(source)))?;
        }
        self.at = Position::default();
        // It was in the drive when that was opened, and could not be read then.
        let is_late = self.loaded.is_none() && self.note.loaded.as_deref() == Some(name.as_str());
        let result = Loaded::scan(self.disk.as_ref(), &self.directory, &name).and_then(|loaded| {
            if is_late {
                loaded.renew(self.disk.as_ref())?;
            }
            let mut note = self.note.clone();
            if !note.volumes.contains(&name) {
                note.volumes.push(name.clone());
            }
            note.loaded = Some(name.clone());
            note.write(self.disk.as_ref(), &self.directory)?;
            self.note = note;
            self.loaded = Some(loaded);
            Ok(())
        });
        result.map_err(|source| {
            let kind = match source.kind() {
                io::ErrorKind::NotFound => DriveErrorKind::NoVolume,
                _ if is_of_one(&source) => DriveErrorKind::Media,
                _ => DriveErrorKind::Io,
            };
            self.of(&name, "load", kind, Some(source))
        })
    }

    fn eject(&mut self) -> Result<(), DriveError> {
        if let Some(loaded) = &mut self.loaded {
            let settled = settle(loaded, self.disk.as_ref());
            settled.map_err(|source| self.failed("eject", DriveErrorKind::Io, Some(source)))?;
        }
        let note = DriveNote { loaded: None, ..self.note.clone() };
        note.write(self.disk.as_ref(), &self.directory)
            .map_err(|source| self.failed("eject", DriveErrorKind::Io, Some(source)))?;
        self.note = note;
        self.loaded = None;
        self.at = Position::default();
        Ok(())
    }
}
