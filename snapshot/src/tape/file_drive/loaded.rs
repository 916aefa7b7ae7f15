//! The volume in a drive of files: which tape files it has, by the names in its directory.

use super::super::drive::Position;
use super::notes::MediumNote;
use journal::{Disk, DiskFile};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The tape file that is open.
pub(super) enum Open {
    Nothing,
    Reading {
        file: Arc<dyn DiskFile>,
        bytes: u64,
        is_marked: bool,
    },
    Writing {
        file: Arc<dyn DiskFile>,
    },
    /// A write to this tape file failed: nothing may stand behind it, and it goes when the drive is positioned again.
    Failed {
        file: u32,
    },
}

/// The volume in the drive.
pub(super) struct Loaded {
    pub name: String,
    pub path: PathBuf,
    pub note: MediumNote,
    /// Bytes of the tape files with filemarks.
    pub files: Vec<u64>,
    /// Bytes of the tape file without one.
    pub tail: Option<u64>,
    /// Tape files with filemarks stand behind one that is missing: whatever was written would take their place.
    pub is_torn: bool,
    /// The tape file that is open, and its number.
    pub open: Open,
}

/// Name of a tape file, with or without its filemark.
pub(super) fn file_name(file: u32, is_marked: bool) -> String {
    format!("{file:06}.tar{}", if is_marked { "" } else { ".part" })
}

/// Behind the name of a tape file while that is put down anew.
const RENEWED: &str = ".renewed";

/// Gives tape files whose names were being put down anew their names back.
fn finish_renewing(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    for name in disk.list(path)? {
        let Some(stem) = name.strip_suffix(RENEWED).filter(|stem| parse_name(stem).is_some()) else {
            continue;
        };
        disk.rename(&path.join(&name), &path.join(stem))?;
        disk.sync_dir(path)?;
    }
    Ok(())
}

/// Inverse of [`file_name`].
fn parse_name(name: &str) -> Option<(u32, bool)> {
    let (stem, is_marked) = match name.strip_suffix(".tar.part") {
        Some(stem) => (stem, false),
        None => (name.strip_suffix(".tar")?, true),
    };
    let file = stem.parse().ok()?;
    (file_name(file, is_marked) == name).then_some((file, is_marked))
}

impl Loaded {
    pub fn used(&self) -> u64 {
        self.files.iter().sum::<u64>() + self.tail.unwrap_or(0)
    }

    /// Nothing may be written to it.
    pub fn is_write_protected(&self) -> bool {
        self.note.write_protected || self.is_torn
    }

    pub fn marks(&self) -> u32 {
        u32::try_from(self.files.len()).unwrap_or(u32::MAX)
    }

    /// What a volume of a name holds.
    pub fn scan(disk: &dyn Disk, directory: &Path, name: &str) -> io::Result<Loaded> {
        let path = directory.join(name);
        let note = MediumNote::read(disk, &path)?;
        disk.sync_dir(&path)?;
        finish_renewing(disk, &path)?;
        let mut found = BTreeMap::new();
        for name in disk.list(&path)? {
            if let Some(key) = parse_name(&name) {
                found.insert(key, disk.open(&path.join(&name))?.len()?);
            }
        }
        let mut files = Vec::new();
        while let Some(bytes) =
            u32::try_from(files.len()).ok().and_then(|file| found.get(&(file, true)).copied())
        {
            files.push(bytes);
        }
        let is_torn = found.keys().filter(|(_, is_marked)| *is_marked).count() > files.len();
        let name = name.to_owned();
        let mut loaded = Loaded { name, path, note, files, tail: None, is_torn, open: Open::Nothing };
        loaded.tail = found.get(&(loaded.marks(), false)).copied();
        Ok(loaded)
    }

    /// Puts the name of the last tape file down anew. A sync that failed, in a process that is gone, may have left one that
    /// is seen, is not durable, and no later sync makes durable: what would be written behind it could be lost with it.
    pub fn renew(&self, disk: &dyn Disk) -> io::Result<()> {
        let Some(last) = self.marks().checked_sub(1) else { return Ok(()) };
        let name = file_name(last, true);
        disk.rename(&self.path.join(&name), &self.path.join(format!("{name}{RENEWED}")))?;
        disk.sync_dir(&self.path)?;
        finish_renewing(disk, &self.path)
    }

    /// Removes a tape file and all behind it, for good: or they could stand behind what is written next, after a power cut.
    /// The last one first, each for good before the next: a power cut leaves none behind a missing one.
    pub fn cut(&mut self, disk: &dyn Disk, from: u32) -> io::Result<()> {
        let names = disk.list(&self.path)?;
        let mut behind: Vec<_> =
            names.iter().filter_map(|name| parse_name(name)).filter(|(file, _)| *file >= from).collect();
        behind.sort_unstable();
        for (file, is_marked) in behind.into_iter().rev() {
            disk.remove(&self.path.join(file_name(file, is_marked)))?;
            disk.sync_dir(&self.path)?;
        }
        self.files.truncate(from as usize);
        self.tail = None;
        Ok(())
    }
}

pub(super) fn start_of(disk: &dyn Disk, loaded: &Loaded, limit: usize) -> io::Result<Vec<u8>> {
    let Some(bytes) = loaded.files.first() else { return Ok(Vec::new()) };
    let file = disk.open(&loaded.path.join(file_name(0, true)))?;
    let mut start = vec![0; limit.min(usize::try_from(*bytes).unwrap_or(limit))];
    let count = file.read_at(&mut start, 0)?;
    start.truncate(count);
    Ok(start)
}

pub(super) fn open_for_reading(loaded: &Loaded, disk: &dyn Disk, at: Position) -> io::Result<Open> {
    let is_marked = at.file < loaded.marks();
    let bytes = if is_marked { loaded.files.get(at.file as usize).copied() } else { loaded.tail };
    let Some(bytes) = bytes else { return Ok(Open::Nothing) };
    let file = disk.open(&loaded.path.join(file_name(at.file, is_marked)))?;
    Ok(Open::Reading { file, bytes, is_marked })
}
