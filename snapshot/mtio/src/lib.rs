//! The kernel's calls for tape drives, `<sys/mtio.h>`, which no safe crate offers. Every `unsafe` block of the tape
//! stands here and says why it is sound.
//!
//! It owns the layout of three structures and the numbers of three requests, and refuses to know what they are used
//! for: `snapshot::tape` decides what is called when. Numbers are those of the Linux ports whose requests are encoded
//! the common way (x86, Arm, RISC-V, s390); the tests compile a C program against the header of the system and compare.
//!
//! **What could not be tried.** No SCSI tape drive, and no emulator of one, was at hand when this was written. Tried are
//! the encoding of the requests and of their arguments, and that a file which is no tape is refused with `ENOTTY`.
//! Whether a drive does what is asked for was not.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// What `MTIOCTOP` can be asked for; the values are those of the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i16)]
pub enum Operation {
    /// Forward over so many filemarks, to behind the last.
    ForwardFiles = 1,
    /// Back over so many filemarks, to before the last.
    BackFiles = 2,
    /// Forward over so many blocks.
    ForwardBlocks = 3,
    /// Back over so many blocks.
    BackBlocks = 4,
    /// Write so many filemarks and wait until all before them is on the medium; zero of them only waits.
    WriteFilemarks = 5,
    /// To the beginning of the medium.
    Rewind = 6,
    /// Rewind and put out.
    Offline = 7,
    /// Nothing; the status is read anew.
    Nothing = 8,
    /// To the end of what is recorded.
    EndOfData = 12,
    /// Bytes of a block; zero for blocks as long as each write.
    SetBlock = 20,
    /// Take in the medium that lies in the drive.
    Load = 30,
}

/// What `MTIOCGET` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Filemarks between the beginning and here; -1 if the drive does not know.
    pub file: i32,
    /// Blocks since the last filemark; -1 if the drive does not know.
    pub block: i32,
    flags: u64,
    density: u64,
}

impl Status {
    /// Behind a filemark.
    #[must_use]
    pub fn is_at_filemark(&self) -> bool {
        self.flags & 0x8000_0000 != 0
    }

    /// At the end of what is recorded.
    #[must_use]
    pub fn is_at_end_of_data(&self) -> bool {
        self.flags & 0x0800_0000 != 0
    }

    /// Near the physical end, or at it.
    #[must_use]
    pub fn is_at_end_of_medium(&self) -> bool {
        self.flags & 0x2000_0000 != 0
    }

    /// The medium must not be written.
    #[must_use]
    pub fn is_write_protected(&self) -> bool {
        self.flags & 0x0400_0000 != 0
    }

    /// There is a medium and the drive is ready.
    #[must_use]
    pub fn is_online(&self) -> bool {
        self.flags & 0x0100_0000 != 0
    }

    /// No medium lies in the drive.
    #[must_use]
    pub fn is_door_open(&self) -> bool {
        self.flags & 0x0004_0000 != 0
    }

    /// Bytes of a block; zero for blocks as long as each write.
    #[must_use]
    pub fn block_bytes(&self) -> u64 {
        self.density & 0x00ff_ffff
    }
}

/// `struct mtop`.
#[repr(C)]
struct Order {
    operation: libc::c_short,
    count: libc::c_int,
}

/// `struct mtget`.
#[repr(C)]
#[derive(Default)]
struct Answer {
    kind: libc::c_long,
    residue: libc::c_long,
    device: libc::c_long,
    general: libc::c_long,
    error: libc::c_long,
    file: libc::c_int,
    block: libc::c_int,
}

/// `struct mtpos`.
#[repr(C)]
#[derive(Default)]
struct Place {
    block: libc::c_long,
}

const WRITE: u32 = 1;
const READ: u32 = 2;

const fn request(direction: u32, number: u32, bytes: usize) -> u32 {
    (direction << 30) | ((bytes as u32) << 16) | ((b'm' as u32) << 8) | number
}

/// `MTIOCTOP`.
pub const MTIOCTOP: u32 = request(WRITE, 1, size_of::<Order>());
/// `MTIOCGET`.
pub const MTIOCGET: u32 = request(READ, 2, size_of::<Answer>());
/// `MTIOCPOS`.
pub const MTIOCPOS: u32 = request(READ, 3, size_of::<Place>());

fn done(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Has a drive carry out an operation, and waits for it.
///
/// # Errors
/// `ENOTTY` if it is no tape drive; else what the drive says: `EIO`, `ENOSPC`, `EBUSY`, `ENOMEDIUM`, `EACCES` ...
pub fn operate(drive: BorrowedFd<'_>, operation: Operation, count: i32) -> io::Result<()> {
    let order = Order { operation: operation as libc::c_short, count };
    // SAFETY: `drive` is open for the length of the call. The request number carries the size of `Order`, which has the
    // layout of `struct mtop`; the kernel only reads it, and keeps nothing.
    #[allow(unsafe_code)]
    let result = unsafe { libc::ioctl(drive.as_raw_fd(), MTIOCTOP as _, &raw const order) };
    done(result)
}

/// Where a drive stands and how it is.
///
/// # Errors
/// As [`operate`].
pub fn status(drive: BorrowedFd<'_>) -> io::Result<Status> {
    let mut answer = Answer::default();
    // SAFETY: `drive` is open for the length of the call. The request number carries the size of `Answer`, which has the
    // layout of `struct mtget`; the kernel writes that much to the place given, which is valid and exclusively borrowed.
    #[allow(unsafe_code)]
    let result = unsafe { libc::ioctl(drive.as_raw_fd(), MTIOCGET as _, &raw mut answer) };
    done(result)?;
    let (flags, density) = (answer.general as u64, answer.device as u64);
    Ok(Status { file: answer.file, block: answer.block, flags, density })
}

/// Number of the block the drive stands before, counted by the drive from the beginning of the medium, filemarks
/// included.
///
/// # Errors
/// As [`operate`]; `EIO` from drives that cannot say.
pub fn position(drive: BorrowedFd<'_>) -> io::Result<u64> {
    let mut place = Place::default();
    // SAFETY: as in `status`, with `Place` for `struct mtpos`.
    #[allow(unsafe_code)]
    let result = unsafe { libc::ioctl(drive.as_raw_fd(), MTIOCPOS as _, &raw mut place) };
    done(result)?;
    u64::try_from(place.block).map_err(|_| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests;
