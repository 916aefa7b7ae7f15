//! Sessions on tape.
//!
//! A medium is a row of *volumes*; a volume is a row of *tape files* that end with filemarks. The first is the volume's
//! label, each of the others one session, or one part of a session that spans volumes. A session is one archive in the pax
//! format of `tar`, and a session in parts is one that `tar -xM` takes: nobody needs this program to get at what is on a
//! tape. `TAPE.md` is normative.
//!
//! Three rules carry everything:
//!
//! - **A filemark is the commit.** What stands before one that was acknowledged is durable and is never written over but by
//!   a person who says so. What stands behind the last is nothing, and the next tape file takes its place.
//! - **A session is whole if its end says so.** The end is a record that no accident writes, in the last block of the tape;
//!   and each part names the one before it. Zeros, names and filemarks prove nothing.
//! - **Any block may be the last.** Where a medium ends is not ours to choose, so the archive is followed as it passes, and
//!   what begins the next part fits whatever the cut went through.
//!
//! In reading order: [`drive`] is the contract of a drive and what may go wrong with one; [`file_drive`], [`real_drive`]
//! and, for tests, [`faulty`] are drives, and [`any_drive`] is the one at an address; [`label`] and [`volume`] say which volume it is and keep it from being written
//! over; [`span_writer`] and [`span_reader`] cut and join; [`changer`] puts volumes in; [`feeder`] keeps the drive
//! streaming out of a spool; [`inventory`] says what is there. All of it is blocking code. What an archive is made of
//! is none of its business: that is [`archive`]'s, which knows nothing of volumes.

pub mod any_drive;
pub mod archive;
pub mod changer;
pub mod drive;
pub mod error;
pub mod faulty;
pub mod feeder;
pub mod file_drive;
mod header;
pub mod inventory;
pub mod label;
mod part;
pub mod real_drive;
pub mod span_reader;
pub mod span_writer;
mod spool;
pub mod volume;
mod walk;

pub use self::any_drive::{AnyDrive, BadTapeUrl, drive_path};
pub use self::changer::{Asking, Automatic, Changer};
pub use self::drive::{Drive, DriveError, DriveErrorKind, Medium, Met, Position, Wanted, Wrote};
pub use self::error::{TapeError, TapeErrorKind, tape_error};
pub use self::feeder::{Canceller, Fed, Feeder, FeederOptions, Finished, MEMORY_BYTES, SpoolPlace, WhenFull};
pub use self::file_drive::{FileDrive, MediumOptions};
pub use self::inventory::{
    FileContent, TapeFile, TapeSession, VolumeInventory, inventory, parts_of, sessions,
};
pub use self::label::{LabelRequest, VolumeLabel};
pub use self::part::Prior;
pub use self::real_drive::RealDrive;
pub use self::span_reader::SpanReader;
pub use self::span_writer::{PartPlace, SpanOptions, SpanWriter, Written};
pub use self::volume::{Content, Overwrite};

#[cfg(test)]
mod tests;
