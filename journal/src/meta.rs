//! What is known of a node apart from its names and its bytes.

use bincode::{Decode, Encode};

/// Nanoseconds since 1970-01-01 UTC; good until the year 2262.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Timestamp(pub i64);

/// Kind of a node, with what defines it for ever.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Kind {
    /// Regular file.
    File,
    /// Directory.
    Directory,
    /// Symbolic link and its target, never followed, not necessarily UTF-8.
    Symlink(Vec<u8>),
    /// Named pipe.
    Fifo,
    /// Unix socket; kept as a node, useless to anyone until its owner binds again.
    Socket,
    /// Character device and its `st_rdev`.
    CharDevice(u64),
    /// Block device and its `st_rdev`.
    BlockDevice(u64),
}

impl Kind {
    /// Whether it is a directory.
    #[must_use]
    pub const fn is_directory(&self) -> bool {
        matches!(self, Kind::Directory)
    }

    /// Whether it has bytes.
    #[must_use]
    pub const fn is_file(&self) -> bool {
        matches!(self, Kind::File)
    }
}

/// Owner, permissions and times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Attributes {
    /// Permission bits, set-id and sticky bits included: `st_mode & 0o7777`.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time.
    pub mtime: Timestamp,
    /// Change time on the master. Cannot be set on a replica; kept because a user cannot forge it, so that the
    /// master's index can be rebuilt from the journal without reading every file again. Not part of equality of trees.
    pub ctime: Timestamp,
}

/// Extended attributes, ACLs among them, sorted by name: the whole set.
pub type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// Everything about a node but its names and bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Meta {
    /// What it is.
    pub kind: Kind,
    /// Length in bytes; 0 for all but regular files.
    pub size: u64,
    /// Owner, permissions, times.
    pub attributes: Attributes,
    /// Extended attributes.
    pub xattrs: Xattrs,
}
