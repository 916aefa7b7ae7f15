//! Copies trees with everything about them: what `cp -a --sparse=always` does.

use super::compare::{allocated, xattrs};
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{File, Metadata, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};
use wire::units::format_size;

const BUFFER_BYTES: usize = 1 << 16;

/// Refuses what would fill the disk.
pub(super) fn check_room(from: &Path, to: &Path, copies: u64) -> io::Result<()> {
    let needed = allocated(from)?.saturating_mul(copies);
    let stat = rustix::fs::statvfs(to)?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    if needed > free {
        let (needed, free) = (format_size(needed), format_size(free));
        let message = format!("the tour needs {needed} in {}, where {free} are free", to.display());
        return Err(io::Error::new(io::ErrorKind::StorageFull, message));
    }
    Ok(())
}

/// Copies a tree to a place where nothing is.
pub(super) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    if let Some(parent) = to.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let from = &from.canonicalize().map_err(|error| at(from, error))?;
    Copier::default().object(from, to)
}

fn at(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[derive(Default)]
struct Copier {
    /// Files with several names: inode to the first name copied.
    links: HashMap<(u64, u64), PathBuf>,
}

impl Copier {
    fn object(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let metadata = from.symlink_metadata().map_err(|error| at(from, error))?;
        if !metadata.is_dir() && metadata.nlink() > 1 {
            if let Some(first) = self.links.get(&(metadata.dev(), metadata.ino())) {
                return std::fs::hard_link(first, to);
            }
            self.links.insert((metadata.dev(), metadata.ino()), to.to_owned());
        }
        let kind = FileType::from_raw_mode(metadata.mode());
        match kind {
            FileType::Directory => {
                std::fs::create_dir(to).map_err(|error| at(to, error))?;
                for entry in from.read_dir().map_err(|error| at(from, error))? {
                    let name = entry?.file_name();
                    self.object(&from.join(&name), &to.join(&name))?;
                }
            }
            FileType::RegularFile => file(from, to).map_err(|error| at(from, error))?,
            FileType::Symlink => symlink(from.read_link()?, to)?,
            // A socket is of no use without its owner.
            FileType::Socket => return Ok(()),
            _ => {
                let made = rustix::fs::mknodat(CWD, to, kind, Mode::RUSR | Mode::WUSR, metadata.rdev());
                match made {
                    // Devices are for root.
                    Err(rustix::io::Errno::PERM) => return Ok(()),
                    made => made?,
                }
            }
        }
        finish(from, to, &metadata).map_err(|error| at(to, error))
    }
}

/// Bytes, without writing zeros.
fn file(from: &Path, to: &Path) -> io::Result<()> {
    let (mut input, mut output) = (File::open(from)?, File::create_new(to)?);
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut size = 0_u64;
    loop {
        let bytes = input.read(&mut buffer)?;
        let chunk = buffer.get(..bytes).unwrap_or_default();
        if chunk.is_empty() {
            return output.set_len(size);
        }
        if chunk.iter().any(|byte| *byte != 0) {
            output.seek(SeekFrom::Start(size))?;
            output.write_all(chunk)?;
        }
        size += bytes as u64;
    }
}

/// Owner before mode (chown clears set-id bits), times last (everything else touches them).
fn finish(from: &Path, to: &Path, metadata: &Metadata) -> io::Result<()> {
    match lchown(to, Some(metadata.uid()), Some(metadata.gid())) {
        // Nobody but root gives files away: the copy is the user's own then.
        Err(error) if error.kind() != io::ErrorKind::PermissionDenied => return Err(error),
        _ => {}
    }
    for (name, value) in xattrs(from)? {
        // Some are for root, some for other file systems: the copy is what is protected, not the original.
        let _ = rustix::fs::lsetxattr(to, OsStr::from_bytes(&name), &value, XattrFlags::empty());
    }
    if !metadata.is_symlink() {
        std::fs::set_permissions(to, Permissions::from_mode(metadata.mode() & 0o7777))?;
    }
    let time = Timespec { tv_sec: metadata.mtime(), tv_nsec: metadata.mtime_nsec() };
    let times = Timestamps { last_access: time, last_modification: time };
    Ok(rustix::fs::utimensat(CWD, to, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}
