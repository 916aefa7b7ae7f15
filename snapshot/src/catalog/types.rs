//! The words of the catalog: sessions, entities, entries.

use journal::{Lsn, Timestamp};
use std::fmt;
use std::sync::Arc;

/// Longest name of a repository, scenario, master or entity, in bytes.
pub const TEXT_BYTES_MAX: usize = 4096;

/// Name of a session in its repository: the SHA-256 of its record.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub [u8; 32]);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What is protected as one: two sessions are of one entity if all of this is equal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entity {
    /// Name of the scenario.
    pub scenario: String,
    /// Host name of the master.
    pub master: String,
    /// Name of the entity in its scenario.
    pub name: String,
    /// Its root on the master; globs that do not begin with `/` match the path relative to it.
    pub root: Vec<u8>,
}

/// A session as its loader knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionInfo {
    /// Its id; one that is in the catalog is refused.
    pub id: SessionId,
    /// Name of the repository that holds it.
    pub repository: String,
    /// Whose state it is.
    pub entity: Entity,
    /// The time whose state it is. The greatest of an entity is its newest session.
    pub taken: Timestamp,
    /// The LSN whose state it is; `None` for a session that a foreign program wrote.
    pub lsn: Option<Lsn>,
}

/// A session that is completely catalogued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// Name of the repository that holds it.
    pub repository: String,
    /// Whose state it is.
    pub entity: Arc<Entity>,
    /// The time whose state it is.
    pub taken: Timestamp,
    /// The LSN whose state it is, if it has one.
    pub lsn: Option<Lsn>,
}

/// Kind of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum EntryKind {
    /// Regular file.
    File = 1,
    /// Directory.
    Directory = 2,
    /// Symbolic link.
    Symlink = 3,
    /// Named pipe.
    Fifo = 4,
    /// Unix socket.
    Socket = 5,
    /// Character device.
    CharDevice = 6,
    /// Block device.
    BlockDevice = 7,
    /// What a foreign repository holds besides.
    Other = 8,
}

impl EntryKind {
    pub(super) fn from_byte(byte: u8) -> Option<Self> {
        [
            EntryKind::File,
            EntryKind::Directory,
            EntryKind::Symlink,
            EntryKind::Fifo,
            EntryKind::Socket,
            EntryKind::CharDevice,
            EntryKind::BlockDevice,
            EntryKind::Other,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == byte)
    }
}

/// A time of modification. Wider than [`Timestamp`]: file systems hold years that nanoseconds in 64 bits do not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Modified {
    /// Seconds since 1970-01-01 UTC.
    pub seconds: i64,
    /// Nanoseconds of the second.
    pub nanoseconds: u32,
}

/// What a session says of a path. Two rows that are equal are the same version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Row {
    /// Kind of the entry.
    pub kind: EntryKind,
    /// Bytes of a file; 0 for all else.
    pub size: u64,
    /// When it was modified.
    pub modified: Modified,
    /// What stands for the content (of a file) or the target (of a symbolic link): the first eight bytes of a hash.
    pub content: u64,
}

/// One change of a path by a session against the one it is based on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Event {
    /// Number of the session in the catalog.
    pub session: u32,
    /// What the path is from then on; `None` if it is gone.
    pub row: Option<Row>,
}
