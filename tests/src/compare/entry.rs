//! One node of each side: its attributes and its bytes.

use super::{Options, Report};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, SeekFrom, Statx, StatxFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

const CHUNK_BYTES: usize = 256 << 10;

/// Two things of the same sort, one of each side.
#[derive(Debug)]
pub(super) struct Both<T> {
    pub(super) a: T,
    pub(super) b: T,
}

impl<T> Both<T> {
    pub(super) fn each<U>(&self, mut get: impl FnMut(&T) -> io::Result<U>) -> io::Result<Both<U>> {
        Ok(Both { a: get(&self.a)?, b: get(&self.b)? })
    }
}

impl<T: PartialEq> Both<T> {
    fn differ(&self) -> bool {
        self.a != self.b
    }
}

/// Buffers that are used again.
pub(super) struct Buffers(Vec<u8>, Vec<u8>);

impl Buffers {
    pub(super) fn new() -> Buffers {
        Buffers(vec![0; CHUNK_BYTES], vec![0; CHUNK_BYTES])
    }
}

pub(super) fn stat(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<Statx> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::EMPTY_PATH;
    Ok(rustix::fs::statx(dir, name, flags, StatxFlags::BASIC_STATS)?)
}

pub(super) fn file_type(stat: &Statx) -> FileType {
    FileType::from_raw_mode(u32::from(stat.stx_mode))
}

pub(super) fn open(dir: BorrowedFd<'_>, name: &[u8], directory: bool) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let flags = if directory { flags | OFlags::DIRECTORY } else { flags };
    Ok(rustix::fs::openat(dir, name, flags, Mode::empty())?)
}

/// Compares all but bytes and entries. `dirs` and `name` lead to the nodes; an empty name means the directories.
pub(super) fn compare_attributes(
    path: &[u8],
    stats: &Both<Statx>,
    (dirs, name): (&Both<OwnedFd>, &[u8]),
    options: &Options,
    report: &mut Report,
) -> io::Result<()> {
    let mut differ = |what: &str, of: &dyn Fn(&Statx) -> String| {
        let (a, b) = (of(&stats.a), of(&stats.b));
        if a != b {
            report.differ(options.limit, path, format!("{what} {a} in A, {b} in B"));
        }
    };
    let kind = file_type(&stats.a);
    differ("mode", &|stat| format!("{:o}", stat.stx_mode & 0o7777));
    differ("mtime", &|stat| format!("{}.{:09}", stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec));
    if options.owners {
        differ("owner", &|stat| stat.stx_uid.to_string());
        differ("group", &|stat| stat.stx_gid.to_string());
    }
    if kind == FileType::RegularFile {
        differ("size", &|stat| stat.stx_size.to_string());
    }
    differ("device", &|stat| format!("{}:{}", stat.stx_rdev_major, stat.stx_rdev_minor));
    if kind == FileType::Symlink {
        let targets = dirs.each(|dir| Ok(rustix::fs::readlinkat(dir, name, Vec::new())?.into_bytes()))?;
        if targets.differ() {
            let (a, b) = (targets.a.escape_ascii(), targets.b.escape_ascii());
            report.differ(options.limit, path, format!("target {a} in A, {b} in B"));
        }
    }
    let sets = dirs.each(|dir| xattrs(dir.as_fd(), name))?;
    if sets.differ() {
        let of = |set: &[(Vec<u8>, Vec<u8>)], other: &[(Vec<u8>, Vec<u8>)]| {
            let only = set.iter().filter(|pair| !other.contains(pair));
            let words: Vec<String> = only
                .map(|(name, value)| format!("{}={}", name.escape_ascii(), value.escape_ascii()))
                .collect();
            if words.is_empty() { "none".to_owned() } else { words.join(" ") }
        };
        let what = format!("xattrs: only in A {}, only in B {}", of(&sets.a, &sets.b), of(&sets.b, &sets.a));
        report.differ(options.limit, path, what);
    }
    Ok(())
}

/// Sorted. Labels of security modules belong to the host and are left out, capabilities are not.
fn xattrs(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut path = format!("/proc/self/fd/{}", dir.as_raw_fd()).into_bytes();
    let follow = name.is_empty();
    if !follow {
        path.push(b'/');
        path.extend_from_slice(name);
    }
    let path = path.as_slice();
    let list = whole(|buffer| {
        if follow { rustix::fs::listxattr(path, buffer) } else { rustix::fs::llistxattr(path, buffer) }
    })?;
    let mut found = Vec::new();
    for xattr in list.split(|byte| *byte == 0).filter(|xattr| !xattr.is_empty()) {
        if xattr.starts_with(b"security.") && xattr != b"security.capability" {
            continue;
        }
        let value = whole(|buffer| {
            if follow {
                rustix::fs::getxattr(path, xattr, buffer)
            } else {
                rustix::fs::lgetxattr(path, xattr, buffer)
            }
        })?;
        found.push((xattr.to_vec(), value));
    }
    found.sort();
    Ok(found)
}

fn whole(mut read: impl FnMut(&mut [u8]) -> Result<usize, Errno>) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; 512];
    loop {
        match read(&mut buffer) {
            Ok(bytes) => {
                buffer.truncate(bytes);
                return Ok(buffer);
            }
            Err(Errno::RANGE) => buffer.resize(buffer.len() * 4, 0),
            Err(Errno::OPNOTSUPP | Errno::NODATA) => return Ok(Vec::new()),
            Err(e) => return Err(e.into()),
        }
    }
}

/// Compares the bytes of two files of equal size, and their holes.
pub(super) fn compare_bytes(
    path: &[u8],
    stats: &Both<Statx>,
    files: &Both<File>,
    buffers: &mut Buffers,
    options: &Options,
    report: &mut Report,
) -> io::Result<()> {
    let size = stats.a.stx_size;
    let is_sparse = |stat: &Statx| stat.stx_blocks * 512 < size;
    let ranges = if is_sparse(&stats.a) || is_sparse(&stats.b) {
        let ranges = files.each(|file| data_ranges(file, size))?;
        if ranges.differ() {
            let bytes = |ranges: &[(u64, u64)]| ranges.iter().map(|(start, end)| end - start).sum::<u64>();
            let (a, b) = (bytes(&ranges.a), bytes(&ranges.b));
            report.differ_in_holes(options.limit, path, format!("{a} bytes of data in A, {b} in B"));
        }
        union(ranges)
    } else {
        vec![(0, size)]
    };
    for (mut offset, end) in ranges {
        while offset < end {
            let length = (end - offset).min(CHUNK_BYTES as u64) as usize;
            let (a, b) = (&mut buffers.0[..length], &mut buffers.1[..length]);
            files.a.read_exact_at(a, offset)?;
            files.b.read_exact_at(b, offset)?;
            report.bytes += length as u64;
            if a != b {
                let at = a.iter().zip(b.iter()).position(|(a, b)| a != b).unwrap_or(0);
                let (in_a, in_b) = (a[at], b[at]);
                let at = offset + at as u64;
                report.differ(
                    options.limit,
                    path,
                    format!("byte {at} is {in_a:#04x} in A, {in_b:#04x} in B"),
                );
                return Ok(());
            }
            offset += length as u64;
        }
    }
    Ok(())
}

fn data_ranges(file: &File, size: u64) -> io::Result<Vec<(u64, u64)>> {
    let mut ranges = Vec::new();
    let mut offset = 0;
    while offset < size {
        let start = match rustix::fs::seek(file, SeekFrom::Data(offset)) {
            Ok(start) => start,
            Err(Errno::NXIO) => break,
            Err(e) => return Err(e.into()),
        };
        let end = rustix::fs::seek(file, SeekFrom::Hole(start))?.min(size);
        ranges.push((start, end));
        offset = end;
    }
    Ok(ranges)
}

/// What is data on either side.
fn union(ranges: Both<Vec<(u64, u64)>>) -> Vec<(u64, u64)> {
    let mut all = ranges.a;
    all.extend(ranges.b);
    all.sort_unstable();
    let mut joined: Vec<(u64, u64)> = Vec::new();
    for (start, end) in all {
        match joined.last_mut() {
            Some(last) if start <= last.1 => last.1 = last.1.max(end),
            _ => joined.push((start, end)),
        }
    }
    joined
}
