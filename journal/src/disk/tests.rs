//! What the kernel does with locks, and with what is said to be forgotten.

use super::{Disk, OsDisk};
use rustix::fs::Advice;
use rustix::io::{Errno, ReadWriteFlags, preadv2};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use std::io::{ErrorKind, IoSliceMut};
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

/// Of so many places of a file, evenly apart, those that can be read without the disk; `None` if its file system does not
/// say so.
pub(crate) fn in_memory(path: &Path, places: u64) -> Option<u64> {
    let file = std::fs::File::open(path).unwrap();
    rustix::fs::fadvise(&file, 0, None, Advice::Random).unwrap();
    let apart = file.metadata().unwrap().len() / places;
    let is_there = |place: u64| {
        let (mut byte, at) = ([0], place * apart);
        match preadv2(&file, &mut [IoSliceMut::new(&mut byte)], at, ReadWriteFlags::NOWAIT) {
            Ok(_) => Some(1),
            Err(Errno::AGAIN) => Some(0),
            Err(Errno::OPNOTSUPP) => None,
            Err(error) => panic!("{error}"),
        }
    };
    (0..places).map(is_there).sum()
}

/// Whether the file system of a file lets go of what is forgotten, and says so; else a test of that has nothing to try.
pub(crate) fn lets_go(path: &Path, places: u64) -> bool {
    let file = OsDisk.open(path).unwrap();
    file.sync_data().unwrap();
    file.forget(0, file.len().unwrap());
    let lets_go = in_memory(path, places).is_some_and(|left| left < places / 8);
    file.forget(0, file.len().unwrap());
    if !lets_go {
        println!("not tried: this file system keeps what is forgotten, or does not say");
    }
    lets_go
}

#[test]
fn what_is_read_in_pieces_and_forgotten_is_not_in_memory_afterwards() {
    const PLACES: u64 = 256;
    /// Not a multiple of a page: hardly a piece begins where the kernel begins one.
    const PIECE_BYTES: usize = (256 << 10) + 336;
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("file");
    let file = OsDisk.create(&path).unwrap();
    let mut buffer = vec![1; PIECE_BYTES];
    let offsets = || (0..128).map(|number| number * PIECE_BYTES as u64);
    offsets().for_each(|offset| file.write_at(&buffer, offset).unwrap());
    if !lets_go(&path, PLACES) {
        return;
    }
    for offset in offsets() {
        assert_eq!(file.read_at(&mut buffer, offset).unwrap(), PIECE_BYTES);
        file.forget(offset, PIECE_BYTES as u64);
    }
    let left = in_memory(&path, PLACES).unwrap();
    assert!(left < PLACES / 4, "{left} of {PLACES} places are in memory");
}
