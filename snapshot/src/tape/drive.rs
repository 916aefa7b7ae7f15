//! A tape drive as this crate sees it: the contract, and what may go wrong.
//!
//! A medium in a drive, a *volume*, is a sequence of tape files; each is a run of blocks of one size, and ends with a
//! filemark. A volume is written from front to back: **writing anywhere ends the volume there**, and whatever was behind is
//! gone. A drive is used by one thread.
//!
//! **Fault model.** What a caller may rely on, and what every drive, test instruments included, may do:
//! - Nothing is durable before [`Drive::filemark`] has returned. Then everything before that mark is, whatever happens
//!   afterwards: a kill, a power cut, a failed write behind it.
//! - After a kill or a power cut in the middle of a tape file the volume holds the files with acknowledged filemarks, and
//!   behind them nothing, or some of the blocks of the file that was open, the last one torn, without a filemark. A real
//!   drive may have put a filemark behind them when its device was closed: a filemark is no proof that a file is whole.
//! - A filemark that failed may have happened.
//! - The end of the medium may come without early warning. The block that met it is not on the medium.
//! - A block may be unreadable ([`DriveErrorKind::Media`]); so may all behind it. Nothing is promised about bytes that were
//!   read without an error but what checksums say.
//! - After any failed write or filemark nothing more is written until the drive was positioned again.

use std::fmt;
use std::io;

/// Smallest block, and what all blocks are multiples of: a block of tar.
pub const BLOCK_BYTES_MIN: usize = 512;
/// Largest block: what the kernel's tape driver takes at once on all machines is no more.
pub const BLOCK_BYTES_MAX: usize = 8 << 20;
/// The usual block.
pub const BLOCK_BYTES: usize = 256 << 10;

/// A place on a volume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Filemarks before it.
    pub file: u32,
    /// Blocks between the last of them and it.
    pub block: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tape file {}, block {}", self.file, self.block)
    }
}

/// What reading came upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Met {
    /// A block; so many bytes of the buffer are it.
    Block(usize),
    /// A filemark. The drive stands behind it.
    Filemark,
    /// Nothing more was written.
    EndOfData,
}

/// What became of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrote {
    /// It is written.
    Done,
    /// It is written, and the medium is about to end: there is room for little more than a filemark.
    EarlyWarning,
    /// It is not written: the medium ended.
    EndOfMedium,
}

/// Which volume is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted<'a> {
    /// The one of this media name.
    Named(&'a str),
    /// A labelled one of this pool that holds no session yet.
    Blank {
        /// Name of the pool.
        pool: &'a str,
        /// Ids of volumes that will not do.
        except: &'a [String],
    },
}

/// The medium in a drive, as far as the drive knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Medium {
    /// What the changer calls it (a bar code, a directory); a label may say otherwise.
    pub name: Option<String>,
    /// Serial number of the cartridge.
    pub serial: Option<String>,
    /// Bytes it takes.
    pub capacity: Option<u64>,
    /// Bytes written.
    pub used: Option<u64>,
    /// It must not be written.
    pub is_write_protected: bool,
}

/// What kind of failure; callers branch on this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DriveErrorKind {
    /// The medium could not be read or written there.
    Media,
    /// The medium must not be written.
    WriteProtected,
    /// No medium is loaded.
    NoMedium,
    /// The volume that is wanted is not at hand.
    NoVolume,
    /// Somebody else has the drive.
    Busy,
    /// There is no such tape file, or nothing may be written here.
    NoPlace,
    /// What is there is no drive, or cannot do what a drive must.
    NotADrive,
    /// Everything else that the system says.
    Io,
}

impl fmt::Display for DriveErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DriveErrorKind::Media => "medium is damaged",
            DriveErrorKind::WriteProtected => "medium is write protected",
            DriveErrorKind::NoMedium => "no medium is loaded",
            DriveErrorKind::NoVolume => "no such volume at hand",
            DriveErrorKind::Busy => "drive is in use",
            DriveErrorKind::NoPlace => "no such place",
            DriveErrorKind::NotADrive => "no tape drive",
            DriveErrorKind::Io => "drive failed",
        })
    }
}

/// A failed call to a drive.
#[derive(Debug, thiserror::Error)]
#[error("{operation}{}, {at}: {kind}", Of(.volume.as_deref()))]
pub struct DriveError {
    /// Verb of the call: `read`, `write`, `load` ...
    pub operation: &'static str,
    /// The volume in the drive, or the one that was asked for.
    pub volume: Option<String>,
    /// Where the drive stood.
    pub at: Position,
    /// What kind of failure.
    pub kind: DriveErrorKind,
    /// What the system said.
    #[source]
    pub source: Option<io::Error>,
}

/// A volume's name in a message.
struct Of<'a>(Option<&'a str>);

impl fmt::Display for Of<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |volume| write!(f, " {volume}"))
    }
}

/// A tape drive. Calls block.
pub trait Drive: Send {
    /// What tells this drive from others.
    fn serial(&self) -> &str;

    /// The medium in the drive.
    ///
    /// # Errors
    /// `NoMedium`, `Io`.
    fn medium(&mut self) -> Result<Medium, DriveError>;

    /// Bytes of a block, as last set.
    fn block_bytes(&self) -> usize;

    /// Sets the bytes of a block for what is read and written from here on.
    ///
    /// # Errors
    /// `NoPlace` if it is no multiple of 512 or out of bounds; `Io`.
    fn set_block_bytes(&mut self, bytes: usize) -> Result<(), DriveError>;

    /// Where the drive stands.
    fn position(&self) -> Position;

    /// Reads a block into the beginning of `buffer`, which takes one.
    ///
    /// # Errors
    /// `Media` (the position is the block's; the next read may be tried), `NoMedium`, `Io`.
    fn read(&mut self, buffer: &mut [u8]) -> Result<Met, DriveError>;

    /// The first bytes of the first tape file, whatever its blocks: all of it, or `limit`. Leaves the drive at no
    /// particular place.
    ///
    /// # Errors
    /// As [`Drive::read`].
    fn read_start(&mut self, limit: usize) -> Result<Vec<u8>, DriveError>;

    /// Writes a block; all behind it is gone.
    ///
    /// # Errors
    /// `Media`, `WriteProtected`, `NoMedium`, `Io`; `NoPlace` in the middle of a tape file that was not written in one
    /// go, after a failure, or if it is not a block.
    fn write(&mut self, block: &[u8]) -> Result<Wrote, DriveError>;

    /// Writes a filemark behind what was written since the last and waits until all of it is durable.
    ///
    /// # Errors
    /// As [`Drive::write`]. What was written since the last filemark is then to be taken as lost, though it may be there.
    fn filemark(&mut self) -> Result<(), DriveError>;

    /// Goes to the beginning of a tape file, the one behind the last filemark included.
    ///
    /// # Errors
    /// `NoPlace` if there are not so many filemarks; `NoMedium`, `Media`, `Io`.
    fn locate(&mut self, file: u32) -> Result<(), DriveError>;

    /// Goes to the last block of a tape file that ends with a filemark. Blocks of the file, where the drive knows them.
    ///
    /// # Errors
    /// As [`Drive::locate`]; `NoPlace` also if the file has no block.
    fn locate_last_block(&mut self, file: u32) -> Result<Option<u64>, DriveError>;

    /// Where the recorded data ends: so many filemarks, and so many blocks behind the last, which is more than none if a
    /// tape file was cut off. Leaves the drive behind the last filemark, at the beginning of such a file.
    ///
    /// # Errors
    /// As [`Drive::locate`].
    fn end_of_data(&mut self) -> Result<Position, DriveError>;

    /// Goes to the beginning of the volume.
    ///
    /// # Errors
    /// As [`Drive::locate`].
    fn rewind(&mut self) -> Result<(), DriveError> {
        self.locate(0)
    }

    /// Puts a volume in, and stands at its beginning. A drive that has no changer takes what lies in it, and cannot
    /// know its name: whoever asked reads the label.
    ///
    /// # Errors
    /// `NoVolume` if it is not at hand, `NoMedium` if a person must put it in; `Io`.
    fn load(&mut self, wanted: Wanted<'_>) -> Result<(), DriveError>;

    /// Puts the medium out. An empty drive stays empty.
    ///
    /// # Errors
    /// `Io`.
    fn eject(&mut self) -> Result<(), DriveError>;
}
