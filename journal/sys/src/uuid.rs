//! The UUID of a mounted file system.

use std::os::fd::{AsRawFd, BorrowedFd};

/// `struct fsuuid2`.
#[repr(C)]
struct FsUuid {
    length: u8,
    uuid: [u8; 16],
}

/// `_IOR(0x15, 0, struct fsuuid2)`, since Linux 6.9.
const FS_IOC_GETFSUUID: u32 = (2 << 30) | ((size_of::<FsUuid>() as u32) << 16) | (0x15 << 8);

/// The UUID of the file system that holds an open file; `None` if it has none or the kernel does not say.
#[must_use]
pub fn file_system_uuid(file: BorrowedFd<'_>) -> Option<[u8; 16]> {
    let mut answer = FsUuid { length: 0, uuid: [0; 16] };
    // SAFETY: `file` is open for the length of the call. The request number carries the size of `FsUuid`, and the
    // kernel writes at most that much to the place given, which is valid and exclusively borrowed.
    #[allow(unsafe_code)]
    let result = unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_GETFSUUID as _, &raw mut answer) };
    (result == 0 && answer.length == 16 && answer.uuid != [0; 16]).then_some(answer.uuid)
}
