//! What the kernel does with locks.

use super::{Disk, OsDisk};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::path::Path;

/// The open file that this process has of a path, shared, as a child has it that was forked just now.
fn shared(path: &Path) -> OwnedFd {
    let us = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
    let mut all = std::fs::read_dir("/proc/self/fd").unwrap().map(Result::unwrap);
    let ours = all.find(|entry| std::fs::read_link(entry.path()).is_ok_and(|to| to == path)).unwrap();
    let number = ours.file_name().to_str().unwrap().parse().unwrap();
    pidfd_getfd(us, number, PidfdGetfdFlags::empty()).unwrap()
}

#[test]
fn a_lock_ends_when_it_is_dropped_also_if_a_child_has_its_descriptor_yet() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().canonicalize().unwrap().join("lock");
    let lock = OsDisk.lock(&path).unwrap();
    let child = shared(&path);
    assert_eq!(OsDisk.lock(&path).err().map(|error| error.kind()), Some(ErrorKind::WouldBlock));
    drop(lock);
    let next = OsDisk.lock(&path).unwrap();
    // What the child has is no lock any more, and its end gives up nobody's.
    drop(child);
    assert_eq!(OsDisk.lock(&path).err().map(|error| error.kind()), Some(ErrorKind::WouldBlock));
    drop(next);
}
