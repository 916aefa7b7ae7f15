//! Kept copies of a directory that stands still, many of them, without the space of as many trees.
//!
//! A copy shares with the copy before it every file whose inode and change time have not moved since: nobody can set
//! a change time back. All else is copied by `cp -a`, so neither the product nor this crate's comparison has a hand in
//! what they are judged by. Copies are only ever read.

use rustix::fs::XattrFlags;
use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Of an inode: number, and change time in seconds and nanoseconds.
type Stamp = (u64, i64, i64);

/// Makes copies of one directory.
#[derive(Debug)]
pub struct Keeper {
    from: PathBuf,
    /// Where the last copy has each file.
    kept: HashMap<Stamp, PathBuf>,
}

fn cp(from: &Path, to: &Path) {
    let status = Command::new("cp").args(["-a", "--reflink=auto", "-T"]).arg(from).arg(to).status();
    assert!(status.as_ref().is_ok_and(|status| status.success()), "cp {}: {status:?}", from.display());
}

impl Keeper {
    /// For copies of this directory.
    #[must_use]
    pub fn new(from: &Path) -> Keeper {
        Keeper { from: from.to_owned(), kept: HashMap::new() }
    }

    /// Makes a copy. Nothing may change the directory meanwhile.
    ///
    /// # Panics
    /// If a copy cannot be made.
    pub fn keep(&mut self, to: &Path) {
        // A change made within a tick of the clock before this one could have the same change time.
        std::thread::sleep(Duration::from_millis(12));
        let before = std::mem::take(&mut self.kept);
        if before.is_empty() {
            cp(&self.from, to);
            note(&self.from, to, &mut self.kept);
        } else {
            copy(&self.from, to, &before, &mut self.kept);
        }
        std::thread::sleep(Duration::from_millis(12));
    }
}

fn entries(directory: &Path) -> Vec<fs::DirEntry> {
    fs::read_dir(directory).unwrap().map(|entry| entry.unwrap()).collect()
}

fn stamp(meta: &fs::Metadata) -> Stamp {
    (meta.ino(), meta.ctime(), meta.ctime_nsec())
}

/// Remembers where a copy made as a whole has each file.
fn note(from: &Path, to: &Path, kept: &mut HashMap<Stamp, PathBuf>) {
    for entry in entries(from) {
        let meta = entry.metadata().unwrap();
        if meta.is_dir() {
            note(&entry.path(), &to.join(entry.file_name()), kept);
        } else {
            kept.insert(stamp(&meta), to.join(entry.file_name()));
        }
    }
}

fn copy(from: &Path, to: &Path, before: &HashMap<Stamp, PathBuf>, kept: &mut HashMap<Stamp, PathBuf>) {
    fs::create_dir(to).unwrap();
    for entry in entries(from) {
        let (meta, to) = (entry.metadata().unwrap(), to.join(entry.file_name()));
        if meta.is_dir() {
            copy(&entry.path(), &to, before, kept);
            continue;
        }
        // First the other names within this copy: a file copied anew keeps its names together.
        match kept.get(&stamp(&meta)).or_else(|| before.get(&stamp(&meta))) {
            Some(twin) => fs::hard_link(twin, &to).unwrap(),
            None => cp(&entry.path(), &to),
        }
        kept.insert(stamp(&meta), to);
    }
    directory_metadata(from, to);
}

/// `cp` of a directory copies what is below it too, hence by hand.
fn directory_metadata(from: &Path, to: &Path) {
    let meta = fs::metadata(from).unwrap();
    let mut names = vec![0; 64 << 10];
    let length = rustix::fs::llistxattr(from, names.as_mut_slice()).unwrap();
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; 64 << 10];
        let length = rustix::fs::lgetxattr(from, name, value.as_mut_slice()).unwrap();
        rustix::fs::lsetxattr(to, name, &value[..length], XattrFlags::empty()).unwrap();
    }
    std::os::unix::fs::chown(to, Some(meta.uid()), Some(meta.gid())).unwrap();
    fs::set_permissions(to, meta.permissions()).unwrap();
    let times = fs::FileTimes::new().set_modified(meta.modified().unwrap());
    fs::File::open(to).unwrap().set_times(times).unwrap();
}
