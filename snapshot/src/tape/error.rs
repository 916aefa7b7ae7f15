//! What can go wrong with volumes and the sessions on them.

use super::drive::{DriveError, DriveErrorKind, Position};
use super::label::LabelFault;
use std::io;

/// What kind of failure; callers branch on this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TapeErrorKind {
    /// The drive failed, or has no medium; see [`TapeError::drive`].
    Drive,
    /// What is in the drive must not be written over unless it is forced.
    WouldOverwrite,
    /// It is not the volume, or not of the pool, that is wanted, or it has no label.
    WrongVolume,
    /// A volume that is needed is not at hand.
    MissingVolume,
    /// What was read is not what was written.
    Damaged,
    /// What is to be written is no archive of a session.
    NotAnArchive,
    /// No room: for the spool, or on a volume.
    NoRoom,
    /// Cancelled.
    Cancelled,
    /// Everything else.
    Other,
}

/// A failed operation on volumes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TapeError {
    /// A call to the drive failed.
    #[error("use the tape drive")]
    Drive {
        /// How.
        #[from]
        source: DriveError,
    },
    /// The medium holds no label, or none that can be read.
    #[error("read the label of the volume")]
    NotLabelled {
        /// Why.
        source: LabelFault,
    },
    /// The medium was never written.
    #[error("the medium is blank: it has no label")]
    Blank,
    /// The medium holds something that is not ours, or a label that cannot be read.
    #[error(
        "the medium holds data that is no volume of this program; it is not labelled unless that is forced"
    )]
    Foreign,
    /// The volume holds tape files behind its label.
    #[error("volume {media} holds {files} tape files; it is not labelled again unless that is forced")]
    HasSessions {
        /// Its name.
        media: String,
        /// Tape files behind the label, one that was cut off included.
        files: u32,
    },
    /// A name is none, or the blocks have no size that is allowed.
    #[error("{what} {given:?} is not allowed")]
    BadRequest {
        /// Of what.
        what: &'static str,
        /// What was given.
        given: String,
    },
    /// It is another volume.
    #[error("volume {wanted} is wanted, {found} is in the drive")]
    WrongVolume {
        /// Its name.
        wanted: String,
        /// What is in the drive.
        found: String,
    },
    /// It is a volume of that name, labelled anew since.
    #[error("volume {media} has been labelled anew: it was {wanted}, it is {found}")]
    Relabelled {
        /// Its name.
        media: String,
        /// The id it had.
        wanted: String,
        /// The id it has.
        found: String,
    },
    /// It is a volume of another pool.
    #[error("volume {media} is of pool {found}, one of pool {wanted} is wanted")]
    OtherPool {
        /// Its name.
        media: String,
        /// The pool that is written to.
        wanted: String,
        /// Its pool.
        found: String,
    },
    /// A volume has other blocks than those before it, and one number must do for `tar`.
    #[error("volume {media} has blocks of {found} bytes, those before it of {wanted}")]
    OtherBlocks {
        /// Its name.
        media: String,
        /// Bytes of a block before.
        wanted: usize,
        /// Bytes of its blocks.
        found: usize,
    },
    /// No volume of the pool is left that takes anything.
    #[error("volumes of pool {pool} take no block of the session: {tried} were tried")]
    NoRoom {
        /// The pool.
        pool: String,
        /// How many were tried one after the other.
        tried: u32,
    },
    /// A part of a session is on a volume that is not at hand.
    #[error("part {part} of session {session} is on volume {media}, which is not at hand")]
    MissingVolume {
        /// The session.
        session: String,
        /// Part, from 1.
        part: u32,
        /// Name of the volume, or its id where the name is not known.
        media: String,
        /// What the drive said.
        #[source]
        source: Option<Box<DriveError>>,
    },
    /// A part of a session is not what was written.
    #[error(
        "part {part} of session {session} on volume {media} is damaged at {at} (byte {offset} of the session): {what}"
    )]
    Damaged {
        /// The session.
        session: String,
        /// Part, from 1.
        part: u32,
        /// Name of the volume.
        media: String,
        /// Where on it.
        at: Position,
        /// Byte of the archive up to which what was read before is not touched by this.
        offset: u64,
        /// What is wrong.
        what: &'static str,
        /// What the drive said.
        #[source]
        source: Option<Box<DriveError>>,
    },
    /// No whole session of that id is on these volumes.
    #[error("session {session} is not whole on these volumes: its end was not found")]
    NotWhole {
        /// The session.
        session: String,
    },
    /// The bytes are not those of an archive.
    #[error("byte {offset} of the session's archive: {what}")]
    NotAnArchive {
        /// Where.
        offset: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// The disk has no room for the spool.
    #[error("make room for {bytes} bytes of spool")]
    SpoolFull {
        /// How many are wanted.
        bytes: u64,
        /// What the system said.
        source: io::Error,
    },
    /// The spool failed.
    #[error("{operation} the spool")]
    Spool {
        /// Verb.
        operation: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// It was cancelled.
    #[error("writing to tape was cancelled")]
    Cancelled,
    /// The thread of the drive ended in a way it must not.
    #[error("the thread of the tape drive ended")]
    Gone,
    /// A failure that was reported already and to which nothing was added.
    #[error("writing to tape has failed before")]
    FailedBefore,
    /// A label could not be made.
    #[error("make a label")]
    Label {
        /// Why.
        source: io::Error,
    },
}

impl TapeError {
    /// What kind of failure it is.
    #[must_use]
    pub fn kind(&self) -> TapeErrorKind {
        match self {
            TapeError::Drive { .. } => TapeErrorKind::Drive,
            TapeError::Foreign | TapeError::HasSessions { .. } => TapeErrorKind::WouldOverwrite,
            TapeError::Blank
            | TapeError::NotLabelled { .. }
            | TapeError::WrongVolume { .. }
            | TapeError::Relabelled { .. }
            | TapeError::OtherPool { .. }
            | TapeError::OtherBlocks { .. } => TapeErrorKind::WrongVolume,
            TapeError::MissingVolume { .. } => TapeErrorKind::MissingVolume,
            TapeError::Damaged { .. } | TapeError::NotWhole { .. } => TapeErrorKind::Damaged,
            TapeError::NotAnArchive { .. } => TapeErrorKind::NotAnArchive,
            TapeError::NoRoom { .. } | TapeError::SpoolFull { .. } => TapeErrorKind::NoRoom,
            TapeError::Cancelled => TapeErrorKind::Cancelled,
            _ => TapeErrorKind::Other,
        }
    }

    /// How the drive failed, where it did.
    #[must_use]
    pub fn drive(&self) -> Option<DriveErrorKind> {
        match self {
            TapeError::Drive { source } => Some(source.kind),
            TapeError::MissingVolume { source: Some(source), .. }
            | TapeError::Damaged { source: Some(source), .. } => Some(source.kind),
            _ => None,
        }
    }
}

impl From<TapeError> for io::Error {
    fn from(error: TapeError) -> Self {
        io::Error::other(error)
    }
}

/// The failure inside an error of a reader or writer of this module, if it is one.
#[must_use]
pub fn tape_error(error: &io::Error) -> Option<&TapeError> {
    error.get_ref()?.downcast_ref()
}
