//! Errors no file system here makes on demand, for tests: of one inode, for as long as the guard lives.

use super::Call;
use journal::Name;
use parking_lot::Mutex;
use rustix::fs::{AtFlags, StatxFlags};
use rustix::io::Errno;
use std::collections::HashMap;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

type Key = (Call, u32, u32, u64);

/// An error, and how often it is met yet.
static FAULTS: Mutex<Option<HashMap<Key, (Errno, u32)>>> = Mutex::new(None);

/// Takes the fault back when it is dropped.
pub(in crate::capture) struct Fault(Key);

impl Fault {
    pub(in crate::capture) fn at(call: Call, path: &Path, errno: Errno) -> Self {
        Self::times(call, path, errno, u32::MAX)
    }

    pub(in crate::capture) fn times(call: Call, path: &Path, errno: Errno, times: u32) -> Self {
        let meta = std::fs::symlink_metadata(path).unwrap();
        let key = (call, rustix::fs::major(meta.dev()), rustix::fs::minor(meta.dev()), meta.ino());
        FAULTS.lock().get_or_insert_default().insert(key, (errno, times));
        Fault(key)
    }
}

impl Drop for Fault {
    fn drop(&mut self) {
        FAULTS.lock().get_or_insert_default().remove(&self.0);
    }
}

pub(in crate::capture) fn fail(
    call: Call,
    directory: BorrowedFd<'_>,
    name: Option<&Name>,
) -> Result<(), Errno> {
    if FAULTS.lock().as_ref().is_none_or(HashMap::is_empty) {
        return Ok(());
    }
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::EMPTY_PATH;
    let name = name.map_or(&b""[..], Name::as_bytes);
    let Ok(stat) = rustix::fs::statx(directory, name, flags, StatxFlags::INO) else { return Ok(()) };
    let key = (call, stat.stx_dev_major, stat.stx_dev_minor, stat.stx_ino);
    match FAULTS.lock().as_mut().and_then(|faults| faults.get_mut(&key)) {
        Some((errno, left)) if *left > 0 => {
            *left -= 1;
            Err(*errno)
        }
        _ => Ok(()),
    }
}
