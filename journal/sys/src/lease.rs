//! Whether somebody has a file open.
//!
//! The kernel grants a write lease only where the descriptor it is asked for is the only one that can read or write
//! the file, mappings included. Asking for one and giving it back at once answers the question, and holds up nobody
//! who comes after.

use std::os::fd::{AsRawFd, BorrowedFd};

/// Whether a regular file is open, or mapped, elsewhere. `false` too where the file system has no leases or the
/// caller may not ask.
#[must_use]
pub fn is_open_elsewhere(file: BorrowedFd<'_>) -> bool {
    // SAFETY: `file` is open for the length of the call, and the command takes a number.
    #[allow(unsafe_code)]
    let set = |lease: i32| unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, lease) };
    if set(i32::from(libc::F_WRLCK as i16)) == 0 {
        let _given_back = set(i32::from(libc::F_UNLCK as i16));
        return false;
    }
    std::io::Error::last_os_error().raw_os_error() == Some(libc::EAGAIN)
}

#[cfg(test)]
mod tests;
