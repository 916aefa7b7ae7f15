//! File handles: inode and generation as the file system itself names them.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// The kernel's limit (`MAX_HANDLE_SZ`).
const HANDLE_BYTES_MAX: usize = 128;

/// What a file system calls an inode: equal for the same inode for ever, different after the number is used again.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FileHandle {
    kind: i32,
    length: usize,
    bytes: [u8; HANDLE_BYTES_MAX],
}

impl FileHandle {
    /// Format of the bytes, private to the file system.
    #[must_use]
    pub const fn kind(&self) -> i32 {
        self.kind
    }

    /// Its bytes, at most 128.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// `struct file_handle` with room for the longest handle.
#[repr(C)]
struct Buffer {
    handle_bytes: libc::c_uint,
    handle_type: libc::c_int,
    handle: [u8; HANDLE_BYTES_MAX],
}

/// The handle of the entry `name` of a directory, not following links; of the directory itself if `name` is empty.
///
/// # Errors
/// `EOPNOTSUPP` or `EOVERFLOW` where the file system has no handles (overlay, some FUSE); what a lookup may raise.
pub fn file_handle(directory: BorrowedFd<'_>, name: &CStr) -> io::Result<FileHandle> {
    let mut buffer = Buffer {
        handle_bytes: HANDLE_BYTES_MAX as libc::c_uint,
        handle_type: 0,
        handle: [0; HANDLE_BYTES_MAX],
    };
    let mut mount: libc::c_int = 0;
    let flags = if name.is_empty() { libc::AT_EMPTY_PATH } else { 0 };
    // SAFETY: `directory` is open for the length of the call and `name` ends with NUL. `Buffer` has the layout of
    // `struct file_handle` followed by the room that `handle_bytes` announces, and the kernel writes no more than
    // that. `mount` is a valid place for an int. Nothing is kept by the kernel after the call.
    #[allow(unsafe_code)]
    let result = unsafe {
        libc::name_to_handle_at(
            directory.as_raw_fd(),
            name.as_ptr(),
            (&raw mut buffer).cast::<libc::file_handle>(),
            &raw mut mount,
            flags,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    let length = (buffer.handle_bytes as usize).min(HANDLE_BYTES_MAX);
    Ok(FileHandle { kind: buffer.handle_type, length, bytes: buffer.handle })
}

#[cfg(test)]
mod tests;
