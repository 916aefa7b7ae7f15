//! Whether two trees are equal: names, kinds, bytes, links, owners, modes, times, extended attributes.
//!
//! Written for the tour alone and on plain system calls, so that it shares no mistake with the product. Change times
//! and inode numbers cannot be equal; which names are links to one file can, and is compared.

use rustix::fs::{AtFlags, StatxFlags};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// Differences that are listed.
const LISTED_MAX: usize = 20;
const BUFFER_BYTES: usize = 1 << 18;

/// What comparing found.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    /// Names compared, the root among them.
    pub(super) objects: u64,
    /// Bytes of files compared.
    pub(super) bytes: u64,
    /// The first differences.
    pub(super) differences: Vec<String>,
    /// Inode on one side to inode on the other, for files with several names; and back.
    forth: HashMap<(u64, u64), (u64, u64)>,
    back: HashMap<(u64, u64), (u64, u64)>,
}

/// Compares two trees.
pub(super) fn compare(a: &Path, b: &Path) -> io::Result<Comparison> {
    let mut comparison = Comparison::default();
    comparison.objects(a, b)?;
    Ok(comparison)
}

fn with_path(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

impl Comparison {
    fn differ(&mut self, path: &Path, what: &str) {
        if self.differences.len() < LISTED_MAX {
            self.differences.push(format!("{}: {what}", path.display()));
        }
    }

    fn objects(&mut self, a: &Path, b: &Path) -> io::Result<()> {
        self.objects += 1;
        let left = a.symlink_metadata().map_err(|error| with_path(a, &error))?;
        let right = match b.symlink_metadata() {
            Ok(right) => right,
            Err(error) => {
                self.differ(b, &error.to_string());
                return Ok(());
            }
        };
        if left.file_type() != right.file_type() {
            self.differ(b, "another kind of object");
            return Ok(());
        }
        self.metadata(b, &left, &right);
        self.links(b, &left, &right);
        if xattrs(a)? != xattrs(b)? {
            self.differ(b, "other extended attributes");
        }
        if left.is_dir() {
            self.directories(a, b)
        } else if left.is_symlink() {
            if a.read_link()? != b.read_link()? {
                self.differ(b, "another target");
            }
            Ok(())
        } else if left.is_file() {
            self.files(a, b)
        } else {
            Ok(())
        }
    }

    fn metadata(&mut self, b: &Path, left: &Metadata, right: &Metadata) {
        let device = |side: &Metadata| {
            let kind = side.file_type();
            if kind.is_block_device() || kind.is_char_device() { side.rdev() } else { 0 }
        };
        // A directory's size is the file system's business.
        let size = |side: &Metadata| if side.is_dir() { 0 } else { side.size() };
        let checks = [
            ("size", size(left), size(right)),
            ("mode", left.mode().into(), right.mode().into()),
            ("owner", left.uid().into(), right.uid().into()),
            ("group", left.gid().into(), right.gid().into()),
            ("device number", device(left), device(right)),
        ];
        for (what, expected, found) in checks {
            if expected != found {
                self.differ(b, &format!("{what} is {found:o} and not {expected:o} (octal)"));
            }
        }
        let (expected, found) = ((left.mtime(), left.mtime_nsec()), (right.mtime(), right.mtime_nsec()));
        if expected != found {
            self.differ(
                b,
                &format!("modified at {}.{:09} and not {}.{:09}", found.0, found.1, expected.0, expected.1),
            );
        }
    }

    /// Names that are one file on one side must be one file on the other, and only those.
    fn links(&mut self, b: &Path, left: &Metadata, right: &Metadata) {
        if left.is_dir() || (left.nlink() == 1 && right.nlink() == 1) {
            return;
        }
        let (one, other) = ((left.dev(), left.ino()), (right.dev(), right.ino()));
        let forth = *self.forth.entry(one).or_insert(other);
        let back = *self.back.entry(other).or_insert(one);
        if forth != other || back != one {
            self.differ(b, "other hard links");
        }
    }

    fn directories(&mut self, a: &Path, b: &Path) -> io::Result<()> {
        let (left, right) = (names(a)?, names(b)?);
        for name in right.difference(&left) {
            self.differ(&b.join(name), "should not be there");
        }
        for name in &left {
            self.objects(&a.join(name), &b.join(name))?;
        }
        Ok(())
    }

    fn files(&mut self, a: &Path, b: &Path) -> io::Result<()> {
        let (mut left, mut right) = (File::open(a)?, File::open(b)?);
        let (mut one, mut other) = (vec![0; BUFFER_BYTES], vec![0; BUFFER_BYTES]);
        let mut offset = 0_u64;
        loop {
            let (expected, found) = (fill(&mut left, &mut one)?, fill(&mut right, &mut other)?);
            if one.get(..expected) != other.get(..found) {
                self.differ(b, &format!("other bytes at or behind offset {offset}"));
                return Ok(());
            }
            if expected == 0 {
                return Ok(());
            }
            offset += expected as u64;
            self.bytes += expected as u64;
        }
    }
}

fn names(directory: &Path) -> io::Result<BTreeSet<OsString>> {
    directory
        .read_dir()
        .map_err(|error| with_path(directory, &error))?
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect()
}

/// Reads until the buffer is full or the file ends.
fn fill(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read(rest)? {
            0 => break,
            bytes => filled += bytes,
        }
    }
    Ok(filled)
}

/// All extended attributes but the label SELinux gives by place.
pub(super) fn xattrs(path: &Path) -> io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut list = vec![0; 64 << 10];
    let bytes = match rustix::fs::llistxattr(path, &mut list[..]) {
        Ok(bytes) => bytes,
        Err(rustix::io::Errno::NOTSUP) => return Ok(BTreeMap::new()),
        Err(error) => return Err(with_path(path, &error.into())),
    };
    let mut map = BTreeMap::new();
    for name in list.get(..bytes).unwrap_or_default().split(|byte| *byte == 0) {
        if name.is_empty() || name == b"security.selinux" {
            continue;
        }
        let mut value = vec![0; 64 << 10];
        let bytes = rustix::fs::lgetxattr(path, std::ffi::OsStr::from_bytes(name), &mut value[..])?;
        value.truncate(bytes);
        map.insert(name.to_vec(), value);
    }
    Ok(map)
}

/// Bytes below a path that are on the disk.
pub(super) fn allocated(path: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statx(rustix::fs::CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS)?;
    let mut total = stat.stx_blocks * 512;
    if path.symlink_metadata()?.is_dir() {
        for name in names(path)? {
            total += allocated(&path.join(name))?;
        }
    }
    Ok(total)
}
