//! Having the kernel begin to write what lies in its cache.
//!
//! Only `SYNC_FILE_RANGE_WRITE` is asked for. That starts writing and looks at no errors: those that come up are told by
//! the next fsync of the file, as without the call. The flags that wait would be another matter.

use std::os::fd::{AsFd, AsRawFd};

/// Pages that are being written and are written to again may have to wait for the disk: the last one, which is not
/// full yet, is left alone.
const PAGE_BYTES: u64 = 4096;

/// Begins to write the whole pages of a range. Nothing is said about what is durable; where the file system does not do
/// it, nothing happens.
pub fn begin_write_back(file: impl AsFd, offset: u64, bytes: u64) {
    let end = offset.saturating_add(bytes) / PAGE_BYTES * PAGE_BYTES;
    let (Ok(from), Ok(count)) = (i64::try_from(offset), i64::try_from(end.saturating_sub(offset))) else {
        return;
    };
    // Zero would mean: to the end of the file.
    if count == 0 {
        return;
    }
    let fd = file.as_fd().as_raw_fd();
    // SAFETY: takes numbers and no memory; the descriptor is borrowed, so it is open until the call returns.
    #[allow(unsafe_code)]
    let _wish = unsafe { libc::sync_file_range(fd, from, count, libc::SYNC_FILE_RANGE_WRITE) };
}

#[cfg(test)]
mod tests;
