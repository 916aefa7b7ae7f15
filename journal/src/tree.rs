//! The replica tree as a trait, so that tests can tear it.
//!
//! Only apply, its recovery and views use it. Every operation names an open directory and one component, so no path
//! is ever resolved by the kernel and none can lead outside, whatever its length.
//!
//! Contract on power cut: operations on names, kinds, sizes and attributes are durable as a prefix of the order in
//! which they were made (what journaling file systems give); bytes written since the last [`TreeIo::sync`] may each
//! be present, absent or torn, also where the file's new size is durable. After `sync` has returned, all before it is
//! durable.

use crate::id::{Name, RootNo};
use crate::meta::{Attributes, Kind, Xattrs};
use std::io;

/// What the replica's kernel says of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeStat {
    /// Inode number on the replica.
    pub inode: u64,
    /// What it is; a link's target is read with it.
    pub kind: Kind,
    /// Length in bytes of a regular file, else 0.
    pub size: u64,
    /// Number of names.
    pub links: u64,
    /// Mode, owner, times; `ctime` is the replica's own.
    pub attributes: Attributes,
}

/// An open regular file.
pub trait TreeFile: Send + Sync {
    /// Reads up to `buffer.len()` bytes; fewer only at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of `bytes`, growing the file as needed.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes a range read as zeros, as a hole if the file system can; never changes the size.
    fn punch(&self, offset: u64, bytes: u64) -> io::Result<()>;
    /// Cuts or grows the file.
    fn set_len(&self, bytes: u64) -> io::Result<()>;
    /// Next range at or after `offset` that is not a hole: (start, end), `None` if none is left.
    fn next_data(&self, offset: u64) -> io::Result<Option<(u64, u64)>>;
    /// What the kernel says of it now.
    fn stat(&self) -> io::Result<TreeStat>;
}

/// A replica tree: its roots and their kept areas.
pub trait TreeIo: Send + Sync + 'static {
    /// An open directory; follows renames of the directory. Cheap to clone.
    type Dir: Clone + Send + Sync + 'static;
    /// An open regular file.
    type File: TreeFile + 'static;

    /// The root directory number `root`.
    fn root(&self, root: RootNo) -> io::Result<Self::Dir>;
    /// The kept area beside it (same file system, mode 0700).
    fn kept(&self, root: RootNo) -> io::Result<Self::Dir>;
    /// Opens the directory `name` in `dir`; never follows a link.
    fn open_dir(&self, dir: &Self::Dir, name: &Name) -> io::Result<Self::Dir>;
    /// Names in a directory, in no order, without `.` and `..`.
    fn list(&self, dir: &Self::Dir) -> io::Result<Vec<Name>>;
    /// Stat of an entry, not following links; `None` if there is none.
    fn stat(&self, dir: &Self::Dir, name: &Name) -> io::Result<Option<TreeStat>>;
    /// Stat of an open directory.
    fn stat_dir(&self, dir: &Self::Dir) -> io::Result<TreeStat>;
    /// Opens a regular file; `write` also for writing. Never follows a link.
    fn open_file(&self, dir: &Self::Dir, name: &Name, write: bool) -> io::Result<Self::File>;
    /// Creates an empty node of this kind, private to its owner until its attributes are set. Fails if the name is taken.
    fn create(&self, dir: &Self::Dir, name: &Name, kind: &Kind) -> io::Result<TreeStat>;
    /// Creates an empty regular file and opens it for writing. Fails if the name is taken.
    fn create_file(&self, dir: &Self::Dir, name: &Name) -> io::Result<Self::File>;
    /// A further name for a node that is no directory.
    fn link(&self, from: (&Self::Dir, &Name), to: (&Self::Dir, &Name)) -> io::Result<()>;
    /// Renames; fails if `to` exists.
    fn rename(&self, from: (&Self::Dir, &Name), to: (&Self::Dir, &Name)) -> io::Result<()>;
    /// Removes one name of a node that is no directory.
    fn unlink(&self, dir: &Self::Dir, name: &Name) -> io::Result<()>;
    /// Removes an empty directory.
    fn remove_dir(&self, dir: &Self::Dir, name: &Name) -> io::Result<()>;
    /// Sets owner, mode and modification time of an entry, in this order, not following links. Bytes come before it
    /// (writing moves the time and clears set-id bits and file capabilities), extended attributes after it (an ACL
    /// holds the mode's bits). Where one of them is refused (`EPERM`), the others are set first and the error is
    /// returned then; set-id bits are withheld from an owner or group that could not be set.
    fn set_attributes(
        &self,
        dir: &Self::Dir,
        name: &Name,
        attributes: &Attributes,
        kind: &Kind,
    ) -> io::Result<()>;
    /// The same for an open directory (roots have no name).
    fn set_dir_attributes(&self, dir: &Self::Dir, attributes: &Attributes) -> io::Result<()>;
    /// Makes the whole set of extended attributes equal to `xattrs`. Does all it can before it returns the first error
    /// (`EPERM` for lack of privilege, `EOPNOTSUPP` where the file system has none).
    fn set_xattrs(&self, dir: &Self::Dir, name: &Name, kind: &Kind, xattrs: &Xattrs) -> io::Result<()>;
    /// The same for an open directory.
    fn set_dir_xattrs(&self, dir: &Self::Dir, xattrs: &Xattrs) -> io::Result<()>;
    /// The whole set of extended attributes of an entry, sorted by name.
    fn xattrs(&self, dir: &Self::Dir, name: &Name, kind: &Kind) -> io::Result<Xattrs>;
    /// The same for an open directory.
    fn dir_xattrs(&self, dir: &Self::Dir) -> io::Result<Xattrs>;
    /// Makes everything done so far durable (one `syncfs` a file system). Once it has failed it fails until the tree is
    /// opened again: what was lost is not known.
    fn sync(&self) -> io::Result<()>;
    /// Bytes a new file could take in this root.
    fn free_bytes(&self, root: RootNo) -> io::Result<u64>;
}
