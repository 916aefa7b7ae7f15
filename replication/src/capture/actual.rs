//! What really stands at names of a root, for a scrub: read on a thread of the scrub's own, beside capture.
//!
//! Nothing here touches the index or the agent. A name is resolved one component at a time and no link is followed, so
//! a question cannot lead out of the root, whoever asks. A file is looked at before and after it is read; one that
//! moved meanwhile is called moving, never compared. What one question makes this side read is bounded by the question.
//!
//! Bytes themselves are given where they are asked for, some blocks at a time: what a replica has lost comes back that way.
//!
//! A block that reads as zeros has the hash zero, hole or not: holes may be seen differently here and there, and that
//! is no difference of what the file holds.

use super::look::{DIRECTORY, Look, Sort, XattrsOf, link_target, look_at, look_open, open_file, open_list};
use super::look::{xattrs, xattrs_hash};
use super::roots::{Origins, Root};
use super::write::STAGE_PREFIX;
use super::{CaptureError, CaptureRoot};
use bytes::Bytes;
use journal::{Kind, Meta, Name, NodeId, Timestamp};
use rustix::fs::{Mode, SeekFrom};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use wire::stream::{
    CapturedAs, ExamineItem, Examined, Found, SCRUB_BLOCK_BITS, SCRUB_NAMES_MAX, SCRUB_READ_BLOCKS_MAX,
    ScrubAnswer, There,
};

/// Bytes of a block of a scrub.
const BLOCK: u64 = 1 << SCRUB_BLOCK_BITS;
/// Bytes of a hash.
const HASH_BYTES: usize = 16;
/// Most bytes compared with hashes of the index for one question.
const KNOWN_BYTES_MAX: u64 = 64 << 20;

/// Hashes of a stretch of a file as the stream has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KnownBlocks {
    /// Size of a block as a power of two.
    pub block_bits: u8,
    /// Number of the first block.
    pub first: u64,
    /// Length of the file in the stream.
    pub size: u64,
    /// Sixteen bytes a block, zeros for a hole.
    pub hashes: Vec<u8>,
    /// The change time at which these bytes were read, if a later write must have moved it.
    pub ctime: Option<Timestamp>,
}

/// Says what the stream has of a range of bytes of a file; `None`: that is not known.
pub type Known<'k> = dyn Fn(NodeId, Range<u64>) -> Option<KnownBlocks> + 'k;

/// A root, to look below it.
pub struct Actual {
    root: Root,
}

enum Parent {
    Open(OwnedFd),
    Gone,
    LeftOut,
}

impl Actual {
    /// Opens a root.
    ///
    /// # Errors
    /// `File` if it cannot be opened, `Exclude` for a malformed glob.
    pub fn open(config: &CaptureRoot) -> Result<Self, CaptureError> {
        Ok(Actual { root: Root::open(config)? })
    }

    /// The same, if the path leads to the directory that is captured: what the file says, where capture remembers it.
    /// Below an empty mount point everything would seem to be missing.
    ///
    /// # Errors
    /// `RootLost` if it is another one, and as [`Actual::open`].
    pub fn open_captured(config: &CaptureRoot, origins: &Path) -> Result<Self, CaptureError> {
        let mut actual = Actual::open(config)?;
        actual.root.expect(Origins::open(origins).get(config.number));
        if actual.root.lost { Err(CaptureError::RootLost { path: config.path.clone() }) } else { Ok(actual) }
    }

    /// Looks at names, in order, until about `bytes_max` bytes were read; at least at one.
    #[must_use]
    pub fn examine(&self, items: &[ExamineItem], bytes_max: u64, known: &Known<'_>) -> Vec<Examined> {
        let mut list = Vec::with_capacity(items.len());
        let mut read = 0u64;
        for item in items {
            if !list.is_empty() && read >= bytes_max {
                break;
            }
            list.push(self.examine_one(item, &mut read, known));
        }
        list
    }

    fn examine_one(&self, item: &ExamineItem, read: &mut u64, known: &Known<'_>) -> Examined {
        let mut captured = CapturedAs::Unknown;
        let found = self.look(item, read, known, &mut captured).unwrap_or_else(|errno| match errno {
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP => Found::Gone,
            errno => Found::Unreadable(errno.raw_os_error()),
        });
        Examined { found, captured }
    }

    fn look(
        &self,
        item: &ExamineItem,
        read: &mut u64,
        known: &Known<'_>,
        captured: &mut CapturedAs,
    ) -> Result<Found, Errno> {
        if item.path.is_empty() {
            let look = look_open(self.root.fd.as_fd())?;
            let set = xattrs(XattrsOf::Place(self.root.fd.as_fd()));
            return Ok(there(&look, Kind::Directory, set.ok().map(|set| xattrs_hash(&set)), Vec::new()));
        }
        let (parent, name) = match item.path.iter().rposition(|byte| *byte == b'/') {
            Some(at) => item.path.split_at(at),
            None => (&[][..], &item.path[..]),
        };
        let name = name.strip_prefix(b"/").unwrap_or(name);
        let Some(name) = Name::new(name) else { return Ok(Found::Gone) };
        let directory = match self.walk(parent)? {
            Parent::Open(directory) => directory,
            Parent::Gone => return Ok(Found::Gone),
            Parent::LeftOut => return Ok(Found::LeftOut),
        };
        // What an agent puts aside while it writes the tree is not the tree.
        let aside = item.path.starts_with(STAGE_PREFIX.as_bytes());
        if aside || self.root.excludes(&item.path) {
            return Ok(Found::LeftOut);
        }
        let Some(look) = look_at(directory.as_fd(), &name)? else { return Ok(Found::Gone) };
        if look.mount != self.root.mount {
            return Ok(Found::LeftOut);
        }
        if look.sort == Sort::File {
            return self.look_at_file(item, &directory, &name, read, known, captured);
        }
        let kind = match look.sort {
            Sort::Symlink => match link_target(directory.as_fd(), &name)? {
                Some(target) => Kind::Symlink(target),
                None => return Ok(Found::Moving),
            },
            Sort::Fifo => Kind::Fifo,
            Sort::Socket => Kind::Socket,
            Sort::CharDevice => Kind::CharDevice(look.rdev),
            Sort::BlockDevice => Kind::BlockDevice(look.rdev),
            Sort::Directory | Sort::File => Kind::Directory,
        };
        let set = xattrs(XattrsOf::Entry(directory.as_fd(), &name)).ok();
        match look_at(directory.as_fd(), &name)? {
            Some(after) if after.same_as(&look) => {
                Ok(there(&look, kind, set.map(|set| xattrs_hash(&set)), Vec::new()))
            }
            _ => Ok(Found::Moving),
        }
    }

    fn look_at_file(
        &self,
        item: &ExamineItem,
        directory: &OwnedFd,
        name: &Name,
        read: &mut u64,
        known: &Known<'_>,
        captured: &mut CapturedAs,
    ) -> Result<Found, Errno> {
        let file = open_file(directory.as_fd(), name)?;
        let before = look_open(file.as_fd())?;
        if before.sort != Sort::File {
            return Ok(Found::Moving);
        }
        let start = item.first.saturating_mul(BLOCK).min(before.size);
        let end = start.saturating_add(u64::from(item.blocks).saturating_mul(BLOCK)).min(before.size);
        let hashes = hash_range(&file, start..end, SCRUB_BLOCK_BITS, read)?;
        let bytes = if item.bytes { read_range(&file, start..end, read)? } else { Bytes::new() };
        if item.captured {
            *captured = compare_known(&file, item.node, start..end, &before, read, known)?;
        }
        let set = xattrs(XattrsOf::Open(file.as_fd())).ok();
        if !look_open(file.as_fd())?.same_as(&before) {
            return Ok(Found::Moving);
        }
        Ok(match there(&before, Kind::File, set.map(|set| xattrs_hash(&set)), hashes) {
            Found::There(there) => Found::There(There { bytes, ..there }),
            found => found,
        })
    }

    /// The directory at a path.
    fn walk(&self, path: &[u8]) -> Result<Parent, Errno> {
        let mut at = rustix::io::fcntl_dupfd_cloexec(self.root.fd.as_fd(), 0)?;
        let mut length = 0;
        for component in path.split(|byte| *byte == b'/') {
            length += component.len();
            let Some(name) = Name::new(component) else {
                if component.is_empty() && path.is_empty() {
                    break;
                }
                return Ok(Parent::Gone);
            };
            if self.root.excludes(path.get(..length).unwrap_or(path)) {
                return Ok(Parent::LeftOut);
            }
            length += 1;
            at = match rustix::fs::openat(&at, name.as_bytes(), DIRECTORY, Mode::empty()) {
                Ok(next) => next,
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(Parent::Gone),
                Err(errno) => return Err(errno),
            };
            if look_open(at.as_fd())?.mount != self.root.mount {
                return Ok(Parent::LeftOut);
            }
        }
        Ok(Parent::Open(at))
    }

    /// Names in a directory behind `after`, the first of them in byte order.
    #[must_use]
    pub fn list(&self, path: &[u8], after: Option<&Name>) -> ScrubAnswer {
        match self.names(path, after) {
            Ok(Some((names, more))) => ScrubAnswer::Listed { names: Some(names), more },
            Ok(None) | Err(_) => ScrubAnswer::Listed { names: None, more: false },
        }
    }

    fn names(&self, path: &[u8], after: Option<&Name>) -> Result<Option<(Vec<Name>, bool)>, Errno> {
        let Parent::Open(directory) = self.walk(path)? else { return Ok(None) };
        let (mut names, mut more) = (BTreeSet::new(), false);
        for entry in open_list(directory.as_fd())? {
            let entry = entry?;
            let Some(name) = Name::new(entry.file_name().to_bytes()) else { continue };
            if after.is_some_and(|after| name <= *after) {
                continue;
            }
            names.insert(name);
            if names.len() > SCRUB_NAMES_MAX {
                names.pop_last();
                more = true;
            }
        }
        Ok(Some((names.into_iter().collect(), more)))
    }
}

fn there(look: &Look, kind: Kind, xattrs: Option<[u8; HASH_BYTES]>, hashes: Vec<u8>) -> Found {
    let meta = Meta { kind, size: look.size, attributes: look.attributes, xattrs: Vec::new() };
    Found::There(There { meta, xattrs, hashes: Bytes::from(hashes), bytes: Bytes::new() })
}

/// Where data begins at or behind an offset; `None`: there is none.
fn data_from(file: &OwnedFd, offset: u64) -> Option<u64> {
    match rustix::fs::seek(file, SeekFrom::Data(offset)) {
        Ok(at) => Some(at),
        Err(Errno::NXIO) => None,
        // A file system that cannot tell.
        Err(_) => Some(offset),
    }
}

/// Hashes of the blocks of a range that begins with a block and ends with one, or with the file.
fn hash_range(file: &OwnedFd, range: Range<u64>, bits: u8, read: &mut u64) -> Result<Vec<u8>, Errno> {
    let block = 1u64 << bits;
    let mut hashes = Vec::new();
    let mut buffer = vec![0; block as usize];
    let mut data = data_from(file, range.start);
    let mut at = range.start;
    while at < range.end {
        let to = at.saturating_add(block).min(range.end);
        if data.is_some_and(|data| data < at) {
            data = data_from(file, at);
        }
        if data.is_none_or(|data| data >= to) {
            hashes.resize(hashes.len() + HASH_BYTES, 0);
        } else {
            let Some(bytes) = buffer.get_mut(..(to - at) as usize) else { break };
            read_full(file, bytes, at)?;
            *read = read.saturating_add(to - at);
            hashes.extend_from_slice(&block_hash(bytes));
        }
        at = to;
    }
    Ok(hashes)
}

/// The bytes of a range, of which no more are given than one question may ask for.
fn read_range(file: &OwnedFd, range: Range<u64>, read: &mut u64) -> Result<Bytes, Errno> {
    let length = range.end.saturating_sub(range.start).min(u64::from(SCRUB_READ_BLOCKS_MAX) * BLOCK);
    let mut bytes = vec![0; length as usize];
    read_full(file, &mut bytes, range.start)?;
    *read = read.saturating_add(length);
    Ok(bytes.into())
}

/// Stands for the bytes of a block; zeros for zeros.
pub(crate) fn block_hash(bytes: &[u8]) -> [u8; HASH_BYTES] {
    if bytes.iter().all(|byte| *byte == 0) {
        return [0; HASH_BYTES];
    }
    let mut short = [0; HASH_BYTES];
    blake3::hash(bytes).as_bytes().iter().zip(&mut short).for_each(|(from, to)| *to = *from);
    short
}

/// Reads; what is behind the end of the file reads as zeros, and shows as a change of its size.
fn read_full(file: &OwnedFd, buffer: &mut [u8], offset: u64) -> Result<(), Errno> {
    let mut done = 0;
    while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match rustix::io::pread(file, &mut *rest, offset + done as u64) {
            Ok(0) => {
                rest.fill(0);
                return Ok(());
            }
            Ok(read) => done += read,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Whether a range holds what the stream has of it.
fn compare_known(
    file: &OwnedFd,
    node: NodeId,
    range: Range<u64>,
    look: &Look,
    read: &mut u64,
    known: &Known<'_>,
) -> Result<CapturedAs, Errno> {
    let size = look.size;
    let range = range.start..range.end.min(range.start.saturating_add(KNOWN_BYTES_MAX));
    let Some(blocks) = known(node, range) else { return Ok(CapturedAs::Unknown) };
    if blocks.size != size {
        return Ok(CapturedAs::Other);
    }
    let block = 1u64.checked_shl(u32::from(blocks.block_bits)).unwrap_or(u64::MAX);
    let start = blocks.first.saturating_mul(block).min(size);
    let count = (blocks.hashes.len() / HASH_BYTES) as u64;
    let end = start.saturating_add(count.saturating_mul(block)).min(size);
    let actual = hash_range(file, start..end, blocks.block_bits, read)?;
    let same = actual.chunks(HASH_BYTES).zip(blocks.hashes.chunks(HASH_BYTES)).enumerate();
    let mut buffer = Vec::new();
    for (number, (actual, known)) in same {
        // Zeros that were written have a hash of their own in the index; here they look like a hole.
        let zeros = actual.iter().all(|byte| *byte == 0) && {
            let at = start + number as u64 * block;
            buffer.clear();
            buffer.resize(block.min(size - at) as usize, 0);
            blake3::hash(&buffer).as_bytes().starts_with(known)
        };
        if actual != known && !zeros {
            let untouched = blocks.ctime == Some(look.attributes.ctime);
            return Ok(if untouched { CapturedAs::Untouched } else { CapturedAs::Other });
        }
    }
    Ok(CapturedAs::Same)
}
