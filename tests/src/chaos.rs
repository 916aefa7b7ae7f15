//! Random changes of a real directory, as people and programs make them.
//!
//! The choice is a function of the seed and of the tree alone, so a run can be repeated. Operations that cannot be done
//! (a directory moved below itself, a name that is gone) are left out in silence.
//!
//! One thing is left out on purpose: inotify names the entry through which a file was changed, so a file that gets a
//! name, is written through it and loses it again between two looks cannot be found before the next comparison (the
//! README says so). A name of a file that was linked a short while ago is not taken away.

use crate::rng::Rng;
use rustix::fs::{CWD, FallocateFlags, Mode, RenameFlags, XattrFlags};
use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

/// Entries of the largest directory that is removed or copied as a whole.
const REMOVED_ENTRIES_MAX: usize = 200;

/// Changes one directory.
#[derive(Debug)]
pub struct Chaos {
    root: PathBuf,
    rng: Rng,
    serial: u64,
    files: Vec<PathBuf>,
    directories: Vec<PathBuf>,
    /// Inodes that got a further name, the last ones.
    linked: VecDeque<u64>,
}

/// Inodes remembered as linked a short while ago: some seconds of a writer that does nothing else.
const LINKED_MAX: usize = 500;

impl Chaos {
    /// For this directory, with this seed.
    #[must_use]
    pub fn new(root: &Path, seed: u64) -> Chaos {
        let mut chaos = Chaos {
            root: root.to_owned(),
            rng: Rng::new(seed),
            serial: 0,
            files: Vec::new(),
            directories: Vec::new(),
            linked: VecDeque::new(),
        };
        chaos.look();
        chaos
    }

    /// Makes so many changes.
    pub fn change(&mut self, count: u64) {
        self.look();
        for _ in 0..count {
            let _ = self.step();
        }
    }

    /// The generator, for choices that belong to the same run.
    pub fn rng(&mut self) -> &mut Rng {
        &mut self.rng
    }

    /// Lists the tree anew, in an order that depends on names only.
    fn look(&mut self) {
        self.files.clear();
        self.directories = vec![self.root.clone()];
        let mut at = 0;
        while let Some(directory) = self.directories.get(at).cloned() {
            at += 1;
            for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
                let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
                if is_directory { &mut self.directories } else { &mut self.files }.push(entry.path());
            }
            self.directories[at..].sort();
        }
        self.files.sort();
    }

    fn file(&mut self) -> io::Result<PathBuf> {
        self.rng.pick(&self.files).cloned().ok_or(io::ErrorKind::NotFound.into())
    }

    fn directory(&mut self) -> PathBuf {
        self.rng.pick(&self.directories).cloned().unwrap_or_else(|| self.root.clone())
    }

    /// A name nobody has, somewhere.
    fn new_name(&mut self) -> PathBuf {
        loop {
            self.serial += 1;
            let name = match self.rng.below(12) {
                0 => format!("{}-{}", "n".repeat(200), self.serial),
                1 => format!("with space \u{e9} {}", self.serial),
                _ => format!("new-{}", self.serial),
            };
            let path = self.directory().join(name);
            // Somebody else may have been here, and writing into a pipe would wait for a reader.
            if fs::symlink_metadata(&path).is_err() {
                return path;
            }
        }
    }

    fn bytes(&mut self) -> Vec<u8> {
        let most = if self.rng.chance(1, 12) { 300_000 } else { 6_000 };
        let length = self.rng.below(most) as usize;
        self.rng.bytes(length)
    }

    fn step(&mut self) -> io::Result<()> {
        match self.rng.below(100) {
            0..=44 => self.content(),
            45..=69 => self.names(),
            70..=84 => self.attributes(),
            _ => self.trees(),
        }
    }

    fn content(&mut self) -> io::Result<()> {
        match self.rng.below(9) {
            0 | 1 => {
                let (path, bytes) = (self.new_name(), self.bytes());
                fs::write(&path, bytes)?;
                self.files.push(path);
                Ok(())
            }
            2 | 3 => {
                let (file, bytes) = (self.open()?, self.bytes());
                let at = self.rng.below(file.metadata()?.len() + 1);
                file.write_all_at(&bytes, at)
            }
            4 => {
                let (path, bytes) = (self.file()?, self.bytes());
                plain(&path)?;
                OpenOptions::new().append(true).open(path)?.write_all(&bytes)
            }
            5 => {
                let file = self.open()?;
                let length = self.rng.below(file.metadata()?.len() + 20_000);
                file.set_len(length)
            }
            6 => {
                let (path, temporary, bytes) = (self.file()?, self.new_name(), self.bytes());
                self.keep(&path)?;
                fs::write(&temporary, bytes)?;
                fs::rename(temporary, path)
            }
            7 => {
                let file = self.open()?;
                let (at, length) = (self.rng.below(file.metadata()?.len() + 1), 1 + self.rng.below(9_000));
                Ok(rustix::fs::fallocate(
                    file,
                    FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
                    at,
                    length,
                )?)
            }
            _ => {
                // Removed and made again under the same name.
                let (path, bytes) = (self.file()?, self.bytes());
                self.keep(&path)?;
                fs::remove_file(&path)?;
                fs::write(path, bytes)
            }
        }
    }

    fn open(&mut self) -> io::Result<File> {
        let path = self.file()?;
        plain(&path)?;
        OpenOptions::new().write(true).open(path)
    }

    fn names(&mut self) -> io::Result<()> {
        match self.rng.below(8) {
            0 | 1 => {
                let path = self.file()?;
                self.keep(&path)?;
                fs::remove_file(path)
            }
            2 | 3 => {
                let (from, to) = (self.file()?, self.new_name());
                fs::rename(from, &to)?;
                self.files.push(to);
                Ok(())
            }
            4 => {
                let (from, to) = (self.file()?, self.file()?);
                self.keep(&to)?;
                fs::rename(from, to)
            }
            5 => {
                let (a, b) = (self.file()?, self.file()?);
                Ok(rustix::fs::renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE)?)
            }
            6 => {
                let (from, to) = (self.file()?, self.new_name());
                fs::hard_link(from, &to)?;
                self.linked.push_back(fs::symlink_metadata(&to)?.ino());
                if self.linked.len() > LINKED_MAX {
                    self.linked.pop_front();
                }
                self.files.push(to);
                Ok(())
            }
            _ => {
                let (path, target) = (self.new_name(), self.new_name());
                symlink(target, &path)?;
                self.files.push(path);
                Ok(())
            }
        }
    }

    /// Refuses to take away a name of a file that was linked a short while ago.
    fn keep(&self, path: &Path) -> io::Result<()> {
        let meta = fs::symlink_metadata(path)?;
        let linked = !meta.is_dir() && meta.nlink() > 1 && self.linked.contains(&meta.ino());
        if linked { Err(io::ErrorKind::InvalidInput.into()) } else { Ok(()) }
    }

    fn keep_below(&self, path: &Path) -> io::Result<()> {
        for entry in fs::read_dir(path)?.flatten() {
            if entry.file_type()?.is_dir() {
                self.keep_below(&entry.path())?;
            } else {
                self.keep(&entry.path())?;
            }
        }
        Ok(())
    }

    fn attributes(&mut self) -> io::Result<()> {
        let path = if self.rng.chance(1, 4) { self.directory() } else { self.file()? };
        if path.is_symlink() {
            return Ok(());
        }
        match self.rng.below(4) {
            0 => {
                let mode = [0o600, 0o640, 0o755, 0o1777, 0o2755][self.rng.below(5) as usize];
                // Without root, its owner could not enter a directory of such a mode.
                let mode = if path.is_dir() { mode | 0o700 } else { mode };
                fs::set_permissions(path, fs::Permissions::from_mode(mode))
            }
            1 => {
                let time = UNIX_EPOCH + Duration::from_nanos(1 + self.rng.below(2_000_000_000_000_000_000));
                plain(&path).or_else(|e| if path.is_dir() { Ok(()) } else { Err(e) })?;
                File::open(path)?.set_times(fs::FileTimes::new().set_modified(time))
            }
            2 => {
                let value = self.bytes();
                let value = &value[..value.len().min(200)];
                Ok(rustix::fs::lsetxattr(path, "user.chaos", value, XattrFlags::empty())?)
            }
            _ => Ok(rustix::fs::lremovexattr(path, "user.chaos")?),
        }
    }

    fn trees(&mut self) -> io::Result<()> {
        match self.rng.below(7) {
            0 | 1 => {
                let path = self.new_name();
                fs::create_dir(&path)?;
                self.directories.push(path);
                Ok(())
            }
            2 | 3 => {
                let (from, to) = (self.directory(), self.new_name());
                if from == self.root {
                    return Ok(());
                }
                fs::rename(from, &to)?;
                self.directories.push(to);
                Ok(())
            }
            4 => {
                let path = self.directory();
                if path == self.root || entries_below(&path) > REMOVED_ENTRIES_MAX {
                    return Ok(());
                }
                self.keep_below(&path)?;
                fs::remove_dir_all(path)
            }
            5 => {
                let (a, b) = (self.directory(), self.directory());
                Ok(rustix::fs::renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE)?)
            }
            _ => {
                let path = self.new_name();
                Ok(rustix::fs::mknodat(
                    CWD,
                    &path,
                    rustix::fs::FileType::Fifo,
                    Mode::from_raw_mode(0o600),
                    0,
                )?)
            }
        }
    }
}

/// Opening a pipe would wait for its other end, and a link leads elsewhere.
fn plain(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_file() { Ok(()) } else { Err(io::ErrorKind::InvalidInput.into()) }
}

fn entries_below(path: &Path) -> usize {
    let mut count = 0;
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        count += 1;
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            count += entries_below(&entry.path());
        }
    }
    count
}
