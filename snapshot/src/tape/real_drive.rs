//! A tape drive of the kernel: `/dev/nst0`, the device that does not rewind when it is closed.
//!
//! Positions are counted here, and taken from the drive after each operation that tells. Blocks are as long as each
//! write (variable) where the drive can do that, else of one fixed size. The kernel says `ENOSPC` once when the end of the
//! medium comes near, for a block it did not write, and then lets a filemark pass: so there is never an early warning
//! here, only an end. A drive has no changer as far as this file goes: putting volumes in is a person's work, or `mtx`'s.
//!
//! **What could not be tried.** No SCSI tape drive and no emulator of one was at hand. Tried is what happens with files
//! and devices that are no drive. All else follows the kernel's `Documentation/scsi/st.rst` and is to be run against a
//! drive before anybody relies on it: in particular that the position after `MTEOM` tells a tape file that was cut off, and
//! that a drive closed by a killed process leaves a filemark, which the rest of this module expects of it.

use super::drive::{
    BLOCK_BYTES, BLOCK_BYTES_MAX, BLOCK_BYTES_MIN, Drive, DriveError, DriveErrorKind, Medium, Met, Position,
    Wanted, Wrote,
};
use mtio::Operation;
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// The device as it is open.
struct Device {
    file: File,
    is_write_protected: bool,
    /// Blocks are as long as each write.
    is_variable: bool,
}

/// A tape drive.
pub struct RealDrive {
    path: PathBuf,
    name: String,
    device: Option<Device>,
    at: Position,
    block_bytes: usize,
    /// A write failed: nothing more until the drive is positioned.
    has_failed: bool,
}

/// What kind of failure the kernel means.
fn kind_of(error: &io::Error) -> DriveErrorKind {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOMEDIUM) => DriveErrorKind::NoMedium,
        Some(Errno::BUSY) => DriveErrorKind::Busy,
        Some(Errno::ROFS | Errno::ACCESS | Errno::PERM) => DriveErrorKind::WriteProtected,
        Some(Errno::NOTTY | Errno::NXIO | Errno::NODEV | Errno::NOENT | Errno::ISDIR) => {
            DriveErrorKind::NotADrive
        }
        Some(Errno::IO | Errno::NOMEM | Errno::OVERFLOW) => DriveErrorKind::Media,
        _ => DriveErrorKind::Io,
    }
}

/// Whether a block was larger than the room it was read into.
fn is_too_large(error: &DriveError) -> bool {
    let code = error.source.as_ref().and_then(io::Error::raw_os_error);
    code.map(Errno::from_raw_os_error) == Some(Errno::NOMEM)
}

fn connect(path: &Path) -> io::Result<Device> {
    let open = |write: bool| OpenOptions::new().read(true).write(write).open(path);
    let (file, is_write_protected) = match open(true) {
        Err(error) if kind_of(&error) == DriveErrorKind::WriteProtected => (open(false)?, true),
        other => (other?, false),
    };
    let status = mtio::status(file.as_fd())?;
    if status.is_door_open() || !status.is_online() {
        return Err(Errno::NOMEDIUM.into());
    }
    let is_variable = mtio::operate(file.as_fd(), Operation::SetBlock, 0).is_ok();
    let is_write_protected = is_write_protected || status.is_write_protected();
    Ok(Device { file, is_write_protected, is_variable })
}

impl RealDrive {
    /// Opens a drive, with or without a medium in it.
    ///
    /// # Errors
    /// `NotADrive`, `Busy`, `WriteProtected` if the device may not be opened at all, `Io`.
    pub fn open(path: &Path) -> Result<Self, DriveError> {
        let name = path.display().to_string();
        let at = Position::default();
        let path = path.to_owned();
        let mut drive = Self { path, name, device: None, at, block_bytes: BLOCK_BYTES, has_failed: false };
        match drive.take_in("open") {
            Ok(()) => Ok(drive),
            Err(error) if error.kind == DriveErrorKind::NoMedium => Ok(drive),
            Err(error) => Err(error),
        }
    }

    fn failed(&self, operation: &'static str, source: io::Error) -> DriveError {
        self.of_kind(operation, kind_of(&source), Some(source))
    }

    fn of_kind(
        &self,
        operation: &'static str,
        kind: DriveErrorKind,
        source: Option<io::Error>,
    ) -> DriveError {
        DriveError { operation, volume: Some(self.name.clone()), at: self.at, kind, source }
    }

    /// Opens the device with the medium that lies in it, and goes to its beginning.
    fn take_in(&mut self, operation: &'static str) -> Result<(), DriveError> {
        self.device = None;
        let device = connect(&self.path).map_err(|source| self.failed(operation, source))?;
        self.device = Some(device);
        let bytes = self.block_bytes;
        self.fix_blocks(operation, bytes)?;
        self.operate(operation, Operation::Rewind, 1)?;
        self.at = Position::default();
        Ok(())
    }

    fn device(&self, operation: &'static str) -> Result<&Device, DriveError> {
        self.device.as_ref().ok_or_else(|| self.of_kind(operation, DriveErrorKind::NoMedium, None))
    }

    fn operate(&mut self, operation: &'static str, order: Operation, count: u32) -> Result<(), DriveError> {
        let count = i32::try_from(count).unwrap_or(i32::MAX);
        let result = mtio::operate(self.device(operation)?.file.as_fd(), order, count);
        result.map_err(|source| self.failed(operation, source))
    }

    fn fix_blocks(&mut self, operation: &'static str, bytes: usize) -> Result<(), DriveError> {
        if self.device(operation)?.is_variable {
            return Ok(());
        }
        self.operate(operation, Operation::SetBlock, u32::try_from(bytes).unwrap_or(0))
    }

    /// Number of the block before which the drive stands, of all on the medium.
    fn counted(&self, operation: &'static str) -> Result<u64, DriveError> {
        mtio::position(self.device(operation)?.file.as_fd()).map_err(|source| self.failed(operation, source))
    }

    /// The beginning of the medium, read in pieces of so many bytes.
    fn start_in(&mut self, bytes: usize, limit: usize) -> Result<Vec<u8>, DriveError> {
        self.rewind()?;
        let (mut start, mut block) = (Vec::new(), vec![0; bytes]);
        while start.len() < limit {
            let Met::Block(bytes) = self.read(&mut block)? else { break };
            start.extend_from_slice(block.get(..bytes).unwrap_or_default());
        }
        start.truncate(limit);
        Ok(start)
    }

    fn is_at_end_of_data(&self, operation: &'static str) -> Result<bool, DriveError> {
        let status = mtio::status(self.device(operation)?.file.as_fd());
        status.map(|status| status.is_at_end_of_data()).map_err(|source| self.failed(operation, source))
    }
}

impl Drive for RealDrive {
    fn serial(&self) -> &str {
        &self.name
    }

    fn medium(&mut self) -> Result<Medium, DriveError> {
        let is_write_protected = self.device("look at")?.is_write_protected;
        Ok(Medium { name: None, serial: None, capacity: None, used: None, is_write_protected })
    }

    fn block_bytes(&self) -> usize {
        self.block_bytes
    }

    fn set_block_bytes(&mut self, bytes: usize) -> Result<(), DriveError> {
        if !(BLOCK_BYTES_MIN..=BLOCK_BYTES_MAX).contains(&bytes) || !bytes.is_multiple_of(BLOCK_BYTES_MIN) {
            return Err(self.of_kind("set block", DriveErrorKind::NoPlace, None));
        }
        self.fix_blocks("set block", bytes)?;
        self.block_bytes = bytes;
        Ok(())
    }

    fn position(&self) -> Position {
        self.at
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<Met, DriveError> {
        let mut file = &self.device("read")?.file;
        match file.read(buffer) {
            Ok(0) if self.is_at_end_of_data("read")? => Ok(Met::EndOfData),
            Ok(0) => {
                self.at = Position { file: self.at.file + 1, block: 0 };
                Ok(Met::Filemark)
            }
            Ok(bytes) => {
                self.at.block += 1;
                Ok(Met::Block(bytes))
            }
            // A blank medium, or the end of what was written, is an error to some drives.
            Err(_) if self.is_at_end_of_data("read").unwrap_or(false) => Ok(Met::EndOfData),
            Err(source) => {
                // The drive may stand behind the block, or anywhere in it: the next call of `locate` must not believe `at`.
                self.has_failed = true;
                Err(self.failed("read", source))
            }
        }
    }

    fn read_start(&mut self, limit: usize) -> Result<Vec<u8>, DriveError> {
        if !self.device("read")?.is_variable {
            return self.start_in(self.block_bytes, limit);
        }
        // A block that is larger than what it is read into is an error (`ENOMEM`); not all adapters take the largest at once.
        for bytes in [BLOCK_BYTES, 4 * BLOCK_BYTES] {
            match self.start_in(bytes, limit) {
                Err(error) if is_too_large(&error) => {}
                other => return other,
            }
        }
        self.start_in(BLOCK_BYTES_MAX, limit)
    }

    fn write(&mut self, block: &[u8]) -> Result<Wrote, DriveError> {
        if self.has_failed || block.len() != self.block_bytes {
            return Err(self.of_kind("write", DriveErrorKind::NoPlace, None));
        }
        let device = self.device("write")?;
        if device.is_write_protected {
            return Err(self.of_kind("write", DriveErrorKind::WriteProtected, None));
        }
        let mut file = &device.file;
        match file.write(block) {
            Ok(bytes) if bytes == block.len() => {
                self.at.block += 1;
                Ok(Wrote::Done)
            }
            Ok(_) => {
                self.has_failed = true;
                Err(self.of_kind("write", DriveErrorKind::Media, None))
            }
            Err(error) if error.kind() == io::ErrorKind::StorageFull => Ok(Wrote::EndOfMedium),
            Err(source) => {
                self.has_failed = true;
                Err(self.failed("write", source))
            }
        }
    }

    fn filemark(&mut self) -> Result<(), DriveError> {
        if self.has_failed {
            return Err(self.of_kind("write filemark", DriveErrorKind::NoPlace, None));
        }
        self.has_failed = true;
        self.operate("write filemark", Operation::WriteFilemarks, 1)?;
        self.has_failed = false;
        self.at = Position { file: self.at.file + 1, block: 0 };
        Ok(())
    }

    fn locate(&mut self, file: u32) -> Result<(), DriveError> {
        if self.at == (Position { file, block: 0 }) && !self.has_failed {
            return Ok(());
        }
        if file <= self.at.file || self.has_failed {
            self.operate("locate", Operation::Rewind, 1)?;
            self.at = Position::default();
            self.has_failed = false;
        }
        let marks = file - self.at.file;
        if marks > 0
            && let Err(error) = self.operate("locate", Operation::ForwardFiles, marks)
        {
            let is_end = self.is_at_end_of_data("locate").unwrap_or(false);
            // Where it stopped is not known.
            self.has_failed = true;
            return Err(if is_end { self.of_kind("locate", DriveErrorKind::NoPlace, None) } else { error });
        }
        self.at = Position { file, block: 0 };
        Ok(())
    }

    fn locate_last_block(&mut self, file: u32) -> Result<Option<u64>, DriveError> {
        self.locate(file.saturating_add(1))?;
        // Whatever comes of it, the next call of `locate` begins at the beginning.
        self.at = Position { file, block: 1 };
        self.operate("locate", Operation::BackFiles, 1)?;
        self.operate("locate", Operation::BackBlocks, 1)?;
        Ok(None)
    }

    fn end_of_data(&mut self) -> Result<Position, DriveError> {
        self.operate("locate", Operation::EndOfData, 1)?;
        let end = self.counted("locate")?;
        let status = mtio::status(self.device("locate")?.file.as_fd());
        let marks = status.map_err(|source| self.failed("locate", source))?.file;
        let Ok(file) = u32::try_from(marks) else {
            return Err(self.of_kind("locate", DriveErrorKind::NotADrive, None));
        };
        // Unequal to any place, so that it is gone to.
        self.at = Position { file, block: 1 };
        self.locate(file)?;
        Ok(Position { file, block: end.saturating_sub(self.counted("locate")?) })
    }

    fn load(&mut self, _wanted: Wanted<'_>) -> Result<(), DriveError> {
        self.take_in("load")
    }

    fn eject(&mut self) -> Result<(), DriveError> {
        if self.device.is_some() {
            self.operate("eject", Operation::Offline, 1)?;
        }
        self.device = None;
        self.at = Position::default();
        self.has_failed = false;
        Ok(())
    }
}
