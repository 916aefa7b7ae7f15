//! Writing what is left of a segment: which stretches are kept, and the file that holds them.
//!
//! The file counts for nothing until a manifest names it; it is durable, with its name, when this returns.

use super::super::shared::Inner;
use super::STRETCHES_MAX;
use crate::disk::DiskFile;
use crate::error::JournalError;
use std::io;
use std::ops::Range;
use std::path::Path;

/// A hole that is shorter costs about as much as it gives.
const HOLE_BYTES_MIN: u64 = 32;
/// Bytes copied at a time.
const COPY_BYTES: usize = 1 << 20;

/// What is left of a segment of `bytes` bytes without these holes, which are disjoint and rising.
pub(super) fn without(holes: &[Range<u64>], bytes: u64) -> Vec<(u64, u64)> {
    let mut least = HOLE_BYTES_MIN;
    loop {
        let (mut kept, mut at) = (Vec::new(), 0);
        for hole in holes.iter().filter(|hole| hole.end - hole.start >= least) {
            if hole.start > at {
                kept.push((at, hole.start - at));
            }
            at = hole.end;
        }
        if bytes > at {
            kept.push((at, bytes - at));
        }
        if kept.len() <= STRETCHES_MAX {
            return kept;
        }
        least *= 2;
    }
}

/// Writes `head` and the kept stretches of `source`, each offset and length; the length of the file.
pub(super) fn write_file(
    inner: &Inner,
    path: &Path,
    head: &[u8],
    kept: &[(u64, u64)],
    source: &dyn DiskFile,
) -> Result<u64, JournalError> {
    let failed = |operation| {
        let path = path.to_owned();
        move |source| JournalError::File { operation, path, source }
    };
    let disk = inner.store.disk();
    // What an attempt that failed has left.
    match disk.remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("remove")(error)),
        _ => {}
    }
    let file = disk.create(path).map_err(failed("create"))?;
    file.write_at(head, 0).map_err(failed("write"))?;
    let (mut at, mut buffer) = (head.len() as u64, Vec::with_capacity(COPY_BYTES));
    for (offset, bytes) in kept {
        let mut done = 0;
        while done < *bytes {
            let room = COPY_BYTES - buffer.len();
            let part = usize::try_from(*bytes - done).unwrap_or(usize::MAX).min(room);
            let from = buffer.len();
            buffer.resize(from + part, 0);
            let Some(target) = buffer.get_mut(from..) else { break };
            if source.read_at(target, offset + done).map_err(failed("read for"))? != part {
                return Err(failed("read for")(io::ErrorKind::UnexpectedEof.into()));
            }
            done += part as u64;
            if buffer.len() == COPY_BYTES {
                file.write_at(&buffer, at).map_err(failed("write"))?;
                at += buffer.len() as u64;
                buffer.clear();
            }
        }
    }
    if !buffer.is_empty() {
        file.write_at(&buffer, at).map_err(failed("write"))?;
        at += buffer.len() as u64;
    }
    file.sync_data().map_err(failed("sync"))?;
    disk.sync_dir(inner.store.directory()).map_err(failed("sync the directory of"))?;
    Ok(at)
}
