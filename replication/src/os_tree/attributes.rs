//! Owner, mode and modification time of a pinned inode.
//!
//! The order is owner, mode, time: changing the owner clears set-id bits and file capabilities, so the mode comes
//! after it and capabilities are carried over; nothing that follows touches the modification time. What is right
//! already is left alone, which keeps the replica's change times quiet and costs no call.

use super::lift::change_mode;
use super::xattrs;
use journal::{Attributes, Kind};
use rustix::fs::{AtFlags, Gid, Timespec, Timestamps, UTIME_OMIT, Uid};
use rustix::io::Errno;
use std::io;
use std::os::fd::BorrowedFd;

const SET_UID: u32 = 0o4000;
const SET_GID: u32 = 0o2000;
const NO_ID: u32 = u32::MAX;

/// Sets all that can be set; the first refusal is returned afterwards.
///
/// Where the owner is refused, the set-user-id bit is withheld, and likewise for the group: a program must not run
/// as whoever happens to own the replica.
pub(super) fn set(fd: BorrowedFd<'_>, wanted: &Attributes) -> io::Result<()> {
    let now = super::stat_fd(fd)?;
    let mut outcome = Ok(());
    let mut mode = wanted.mode & 0o7777;
    let (had_uid, had_gid) = (now.attributes.uid, now.attributes.gid);
    let mut changed_owner = false;
    if (had_uid, had_gid) != (wanted.uid, wanted.gid) {
        let (owner, result) = change_owner(fd, &now.kind, (had_uid, had_gid), (wanted.uid, wanted.gid));
        changed_owner = owner != (had_uid, had_gid);
        if owner.0 != wanted.uid {
            mode &= !SET_UID;
        }
        if owner.1 != wanted.gid && !now.kind.is_directory() {
            mode &= !SET_GID;
        }
        outcome = result;
    }
    if !matches!(now.kind, Kind::Symlink(_)) && (changed_owner || now.attributes.mode != mode) {
        outcome = outcome.and(set_mode(fd, mode));
    }
    if now.attributes.mtime != wanted.mtime {
        outcome = outcome.and(set_mtime(fd, wanted));
    }
    outcome
}

/// Gives the owner and the group, or as much of it as is allowed; returns what stands afterwards.
fn change_owner(
    fd: BorrowedFd<'_>,
    kind: &Kind,
    had: (u32, u32),
    wanted: (u32, u32),
) -> ((u32, u32), io::Result<()>) {
    if wanted.0 == NO_ID || wanted.1 == NO_ID {
        // To the kernel this number means "leave it".
        return (had, Err(Errno::INVAL.into()));
    }
    let capability = if kind.is_file() { xattrs::capability(fd) } else { Ok(None) };
    let chown = |owner: Option<u32>, group: Option<u32>| {
        rustix::fs::chownat(fd, "", owner.map(Uid::from_raw), group.map(Gid::from_raw), AtFlags::EMPTY_PATH)
    };
    let mut owner = wanted;
    let mut result: io::Result<()> = Ok(());
    if let Err(e) = chown(Some(wanted.0), Some(wanted.1)) {
        result = Err(e.into());
        owner = had;
        if had.1 != wanted.1 && chown(None, Some(wanted.1)).is_ok() {
            owner.1 = wanted.1;
        }
        if had.0 != wanted.0 && chown(Some(wanted.0), None).is_ok() {
            owner.0 = wanted.0;
        }
    }
    if owner != had {
        result = result.and(capability.and_then(|value| match value {
            Some(value) => xattrs::set_capability(fd, &value),
            None => Ok(()),
        }));
    }
    (owner, result)
}

fn set_mode(fd: BorrowedFd<'_>, mode: u32) -> io::Result<()> {
    change_mode(fd, mode)?;
    // The kernel drops this bit without a word if the caller is not in the group.
    if mode & SET_GID != 0 && rustix::fs::fstat(fd)?.st_mode & SET_GID == 0 {
        return Err(Errno::PERM.into());
    }
    Ok(())
}

fn set_mtime(fd: BorrowedFd<'_>, wanted: &Attributes) -> io::Result<()> {
    let nanoseconds = wanted.mtime.0;
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec {
            tv_sec: nanoseconds.div_euclid(1_000_000_000),
            tv_nsec: nanoseconds.rem_euclid(1_000_000_000),
        },
    };
    Ok(rustix::fs::utimensat(fd, "", &times, AtFlags::EMPTY_PATH)?)
}
