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

static FAULTS: Mutex<Option<HashMap<Key, Errno>>> = Mutex::new(None);

/// Takes the fault back when it is dropped.
pub(in crate::capture) struct Fault(Key);

impl Fault {
    pub(in crate::capture) fn at(call: Call, path: &Path, errno: Errno) -> Self {
        let meta = std::fs::symlink_metadata(path).unwrap();
        let key = (call, rustix::fs::major(meta.dev()), rustix::fs::minor(meta.dev()), meta.ino());
        FAULTS.lock().get_or_insert_default().insert(key, errno);
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
    FAULTS.lock().as_ref().and_then(|faults| faults.get(&key).copied()).map_or(Ok(()), Err)
}
