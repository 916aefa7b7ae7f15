//! Kernel calls that no safe crate offers. The only place with `unsafe`; every block says why it is sound.
//!
//! What rustix has (statx, inotify, xattrs, openat, SEEK_DATA) is taken from there. It knows neither
//! `name_to_handle_at`, which shows the generation of an inode, nor `FS_IOC_GETFSUUID`, which names a file system
//! apart from its device number, nor leases, which tell whether a file is open elsewhere, nor `sync_file_range`. Nor can
//! it tell the allocator of the C library what to keep.

mod counted;
mod handle;
mod heap;
mod lease;
mod uuid;
mod write_back;

pub use counted::{Counted, most_held};
pub use handle::{FileHandle, file_handle};
pub use heap::{give_back_heap, limit_heap};
pub use lease::is_open_elsewhere;
pub use uuid::file_system_uuid;
pub use write_back::begin_write_back;
