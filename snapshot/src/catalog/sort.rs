//! Sorting what comes in no order, in bounded memory.
//!
//! Records are collected up to a limit, sorted, and written to a run; runs are merged at the end, and on the way
//! whenever there are too many to merge at once. A record that comes later replaces an earlier one of the same path.
//! Runs are scratch: not synced, gone when the sorter is dropped or the catalog opened next, but checked when they are
//! read all the same, because a disk that loses them would otherwise lose entries silently.

use super::codec::{Take, TakeVariable, put_string, put_u32, put_varint, unzigzag, zigzag};
use super::error::{CatalogError, failed};
use super::path::{Key, split};
use super::types::{EntryKind, Modified, Row};
use journal::{Disk, DiskFile};
use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What every name of a run ends in.
pub(super) const RUN_SUFFIX: &str = ".run";
/// Runs that are merged at once; each takes a frame of memory.
const RUNS_MAX: usize = 64;
const FRAME_BYTES: usize = 128 << 10;
/// A frame is closed by the record that fills it, which is not longer than this.
const RECORD_BYTES_MAX: usize = 66 << 10;

/// One change of a path: what it is now, or that it is gone.
pub(super) type Change = (Vec<u8>, Option<Row>);

/// A path among those held in memory, taken apart once for all comparisons.
#[derive(Clone, Copy)]
pub(super) struct Record {
    at: u32,
    bytes: u16,
    dir_bytes: u16,
    row: Option<Row>,
}

impl Record {
    fn path<'a>(&self, paths: &'a [u8]) -> &'a [u8] {
        let at = self.at as usize;
        paths.get(at..at + usize::from(self.bytes)).unwrap_or_default()
    }

    fn key<'a>(&self, paths: &'a [u8]) -> Key<'a> {
        let (dir, rest) = self.path(paths).split_at_checked(usize::from(self.dir_bytes)).unwrap_or_default();
        Key { dir, name: rest.get(1..).unwrap_or_default() }
    }
}

/// Collects changes and gives them back sorted by path.
pub(super) struct Sorter {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    name: u32,
    runs_made: u64,
    memory_bytes: usize,
    paths: Vec<u8>,
    records: Vec<Record>,
    runs: Vec<Run>,
}

impl Sorter {
    /// `name` is one that no other sorter has at this time; `memory_bytes` are held before a run is written.
    pub(super) fn new(disk: &Arc<dyn Disk>, directory: &Path, name: u32, memory_bytes: usize) -> Self {
        Sorter {
            disk: Arc::clone(disk),
            directory: directory.to_owned(),
            name,
            runs_made: 0,
            memory_bytes,
            paths: Vec::new(),
            records: Vec::new(),
            runs: Vec::new(),
        }
    }

    /// Takes a path that has been checked.
    pub(super) fn push(&mut self, path: &[u8], row: Option<Row>) -> Result<(), CatalogError> {
        let (bytes, dir_bytes) = (path.len() as u16, split(path).dir.len() as u16);
        self.records.push(Record { at: self.paths.len() as u32, bytes, dir_bytes, row });
        self.paths.extend_from_slice(path);
        let held = self.paths.len() + self.records.len() * size_of::<Record>();
        if held < self.memory_bytes {
            return Ok(());
        }
        self.spill()?;
        if self.runs.len() < RUNS_MAX {
            return Ok(());
        }
        let mut merged = RunMerge::new(std::mem::take(&mut self.runs))?;
        let mut writer = self.run()?;
        while let Some((path, row)) = merged.next()? {
            writer.push(&path, row)?;
        }
        self.runs.push(writer.finish()?);
        Ok(())
    }

    fn run(&mut self) -> Result<RunWriter, CatalogError> {
        let name = format!("{:08x}-{}{RUN_SUFFIX}", self.name, self.runs_made);
        self.runs_made += 1;
        RunWriter::create(&self.disk, self.directory.join(name))
    }

    fn sort(&mut self) {
        let paths = &self.paths;
        // Stable: of several records of a path the last one stays last.
        self.records.sort_by(|a, b| a.key(paths).cmp(&b.key(paths)));
        // Where they lie: a second list would be as large as the first.
        self.records.dedup_by(|record, last| {
            let same = last.path(paths) == record.path(paths);
            if same {
                *last = *record;
            }
            same
        });
    }

    fn spill(&mut self) -> Result<(), CatalogError> {
        self.sort();
        let mut writer = self.run()?;
        for record in std::mem::take(&mut self.records) {
            writer.push(record.path(&self.paths), record.row)?;
        }
        self.paths.clear();
        self.runs.push(writer.finish()?);
        Ok(())
    }

    /// All of it, sorted, each path once.
    pub(super) fn finish(mut self) -> Result<Sorted, CatalogError> {
        if !self.runs.is_empty() && !self.records.is_empty() {
            self.spill()?;
        }
        if !self.runs.is_empty() {
            return Ok(Sorted::Runs(RunMerge::new(self.runs)?));
        }
        self.sort();
        Ok(Sorted::Memory { paths: self.paths, records: self.records.into_iter() })
    }
}

/// Sorted changes.
pub(super) enum Sorted {
    Memory { paths: Vec<u8>, records: std::vec::IntoIter<Record> },
    Runs(RunMerge),
}

impl Sorted {
    pub(super) fn next(&mut self) -> Result<Option<Change>, CatalogError> {
        match self {
            Sorted::Memory { paths, records } => {
                Ok(records.next().map(|record| (record.path(paths).to_vec(), record.row)))
            }
            Sorted::Runs(merge) => merge.next(),
        }
    }
}

struct RunWriter {
    run: Run,
    frame: Vec<u8>,
}

impl RunWriter {
    fn create(disk: &Arc<dyn Disk>, path: PathBuf) -> Result<Self, CatalogError> {
        let file = disk.create(&path).map_err(failed("create", &path))?;
        let run = Run { disk: Arc::clone(disk), path, file, bytes: 0 };
        Ok(RunWriter { run, frame: Vec::new() })
    }

    fn push(&mut self, path: &[u8], row: Option<Row>) -> Result<(), CatalogError> {
        put_string(&mut self.frame, path);
        self.frame.push(row.map_or(0, |row| row.kind as u8));
        if let Some(row) = row {
            put_varint(&mut self.frame, row.size);
            put_varint(&mut self.frame, zigzag(row.modified.seconds));
            put_u32(&mut self.frame, row.modified.nanoseconds);
            self.frame.extend_from_slice(&row.content.to_le_bytes());
        }
        if self.frame.len() < FRAME_BYTES { Ok(()) } else { self.flush() }
    }

    fn flush(&mut self) -> Result<(), CatalogError> {
        let mut head = Vec::with_capacity(8);
        put_u32(&mut head, self.frame.len() as u32);
        put_u32(&mut head, crc32c::crc32c(&self.frame));
        let pieces = [std::io::IoSlice::new(&head), std::io::IoSlice::new(&self.frame)];
        let run = &mut self.run;
        run.file.write_vectored_at(&pieces, run.bytes).map_err(failed("write", &run.path))?;
        run.bytes += (head.len() + self.frame.len()) as u64;
        self.frame.clear();
        Ok(())
    }

    fn finish(mut self) -> Result<Run, CatalogError> {
        if !self.frame.is_empty() {
            self.flush()?;
        }
        Ok(self.run)
    }
}

struct Run {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    bytes: u64,
}

impl Drop for Run {
    fn drop(&mut self) {
        // What cannot be removed now is removed when the catalog is opened next.
        let _ = self.disk.remove(&self.path);
    }
}

struct RunReader {
    run: Run,
    at: u64,
    frame: Vec<u8>,
    taken: usize,
}

impl RunReader {
    fn damaged(&self) -> CatalogError {
        let what = "a run does not match its checksum";
        CatalogError::Damaged { path: self.run.path.clone(), offset: self.at, what }
    }

    fn read(&self, offset: u64, bytes: usize) -> Result<Vec<u8>, CatalogError> {
        let mut out = vec![0; bytes];
        let count = self.run.file.read_at(&mut out, offset).map_err(failed("read", &self.run.path))?;
        if count == bytes { Ok(out) } else { Err(self.damaged()) }
    }

    fn next(&mut self) -> Result<Option<Change>, CatalogError> {
        if self.taken == self.frame.len() {
            if self.at == self.run.bytes {
                return Ok(None);
            }
            let head = self.read(self.at, 8)?;
            let mut take = Take(&head);
            let (length, crc) = (take.u32().unwrap_or_default() as usize, take.u32());
            if length > FRAME_BYTES + RECORD_BYTES_MAX {
                return Err(self.damaged());
            }
            self.frame = self.read(self.at + 8, length)?;
            if crc != Some(crc32c::crc32c(&self.frame)) {
                return Err(self.damaged());
            }
            self.at += 8 + length as u64;
            self.taken = 0;
        }
        let mut take = Take(self.frame.get(self.taken..).unwrap_or_default());
        let change = take_change(&mut take).ok_or_else(|| self.damaged())?;
        self.taken = self.frame.len() - take.0.len();
        Ok(Some(change))
    }
}

fn take_change(take: &mut Take<'_>) -> Option<Change> {
    let path = take.string()?.to_vec();
    let kind = take.u8()?;
    if kind == 0 {
        return Some((path, None));
    }
    let (kind, size) = (EntryKind::from_byte(kind)?, take.varint()?);
    let modified = Modified { seconds: unzigzag(take.varint()?), nanoseconds: take.u32()? };
    Some((path, Some(Row { kind, size, modified, content: take.u64()? })))
}

/// The next change of a run. The greatest is the one to be taken first: the least path, of the earliest run.
struct Head {
    change: Change,
    dir_bytes: usize,
    run: usize,
}

impl Head {
    fn key(&self) -> Key<'_> {
        let (dir, rest) = self.change.0.split_at_checked(self.dir_bytes).unwrap_or_default();
        Key { dir, name: rest.get(1..).unwrap_or_default() }
    }
}

impl Ord for Head {
    fn cmp(&self, other: &Self) -> Ordering {
        other.key().cmp(&self.key()).then(other.run.cmp(&self.run))
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Head {}

/// Runs as one; of a path in several the last run's.
pub(super) struct RunMerge {
    readers: Vec<RunReader>,
    heads: BinaryHeap<Head>,
}

impl RunMerge {
    fn new(runs: Vec<Run>) -> Result<Self, CatalogError> {
        let readers: Vec<RunReader> =
            runs.into_iter().map(|run| RunReader { run, at: 0, frame: Vec::new(), taken: 0 }).collect();
        let mut merge = RunMerge { heads: BinaryHeap::with_capacity(readers.len()), readers };
        (0..merge.readers.len()).try_for_each(|run| merge.fetch(run))?;
        Ok(merge)
    }

    fn fetch(&mut self, run: usize) -> Result<(), CatalogError> {
        let next = self.readers.get_mut(run).map(RunReader::next).transpose()?.flatten();
        self.heads.extend(next.map(|change| {
            let dir_bytes = split(&change.0).dir.len();
            Head { change, dir_bytes, run }
        }));
        Ok(())
    }

    fn next(&mut self) -> Result<Option<Change>, CatalogError> {
        let Some(Head { change: mut found, run, .. }) = self.heads.pop() else { return Ok(None) };
        self.fetch(run)?;
        while let Some(same) = self.heads.peek().filter(|head| head.change.0 == found.0) {
            let run = same.run;
            if let Some(head) = self.heads.pop() {
                found = head.change;
            }
            self.fetch(run)?;
        }
        Ok(Some(found))
    }
}

#[cfg(test)]
mod tests;
