//! A disk in memory that can lose power, lose writes and run out of room: the contract of [`journal::Disk`] at its
//! worst.
//!
//! Each file has what a reader sees now, what is durable, and the writes in between; names likewise. A power cut
//! keeps what is durable and of the rest a random part: each write present, absent, torn at any byte, in any order,
//! or present only as length; each name change present or absent. A sync that is made to fail leaves its writes in
//! limbo: they stay visible, a cut may lose them, and no later sync makes them durable.

use crate::rng::Rng;
use journal::{Disk, DiskFile};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How an operation is made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It fails with EIO. A write may have left half of its bytes; a sync leaves its writes in limbo.
    Io,
    /// It fails with ENOSPC, a write after half of its bytes.
    Full,
    /// It fails with ENOSPC, a write after all of its bytes.
    FullLate,
}

/// What is asked of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Call {
    Create,
    Open,
    Read,
    Write,
    /// A change of length.
    Cut,
    Sync,
    Length,
    Rename,
    Remove,
    List,
    MakeDirectory,
    SyncDirectory,
    Free,
    Lock,
}

impl Call {
    /// All of them.
    pub const ALL: [Call; 14] = [
        Call::Create,
        Call::Open,
        Call::Read,
        Call::Write,
        Call::Cut,
        Call::Sync,
        Call::Length,
        Call::Rename,
        Call::Remove,
        Call::List,
        Call::MakeDirectory,
        Call::SyncDirectory,
        Call::Free,
        Call::Lock,
    ];

    /// Whether it changes something.
    fn changes(self) -> bool {
        use Call::{Create, Cut, Remove, Rename, Sync, SyncDirectory, Write};
        matches!(self, Create | Write | Cut | Sync | Rename | Remove | SyncDirectory)
    }
}

/// What survives a power cut of what was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Nothing.
    Nothing,
    /// Everything.
    Everything,
    /// A random part, torn and out of order.
    Part,
}

impl Cut {
    /// All three.
    pub const ALL: [Cut; 3] = [Cut::Nothing, Cut::Everything, Cut::Part];
}

#[derive(Clone, Debug)]
enum Pending {
    Write { offset: u64, bytes: Vec<u8>, limbo: bool },
    Length { bytes: u64, limbo: bool },
}

#[derive(Clone, Debug, Default)]
struct Inode {
    now: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Pending>,
}

#[derive(Clone, Debug)]
enum NameChange {
    Create { path: PathBuf, inode: u64 },
    Remove { path: PathBuf },
    Rename { from: PathBuf, to: PathBuf, inode: u64 },
}

impl NameChange {
    fn directory(&self) -> Option<&Path> {
        match self {
            NameChange::Create { path, .. } | NameChange::Remove { path } => path.parent(),
            NameChange::Rename { to, .. } => to.parent(),
        }
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, u64>) {
        match self {
            NameChange::Create { path, inode } => {
                names.insert(path.clone(), *inode);
            }
            NameChange::Remove { path } => {
                names.remove(path);
            }
            NameChange::Rename { from, to, inode } => {
                if names.get(from) == Some(inode) {
                    names.remove(from);
                }
                names.insert(to.clone(), *inode);
            }
        }
    }
}

impl Inode {
    /// What is clean may leave the cache: here that are writes in limbo, if nothing was written since.
    fn evict(&mut self, page: std::ops::Range<usize>) {
        let is_clean = |pending: &Pending| {
            matches!(pending, Pending::Write { limbo: true, .. } | Pending::Length { limbo: true, .. })
        };
        if self.pending.is_empty() || !self.pending.iter().all(is_clean) {
            return;
        }
        for at in page.start..page.end.min(self.now.len()) {
            self.now[at] = self.durable.get(at).copied().unwrap_or(0);
        }
    }
}

#[derive(Debug, Default)]
struct State {
    directories: BTreeSet<PathBuf>,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    pending_names: Vec<NameChange>,
    inodes: BTreeMap<u64, Inode>,
    inodes_made: u64,
    locks: BTreeSet<PathBuf>,
    operations: u64,
    syncs: u64,
    stop_after: Option<u64>,
    faults: BTreeMap<u64, Fault>,
    /// From this operation on all fail, until healed.
    lasting: Option<(u64, Fault)>,
    reads: u64,
    /// First read that fails, and how many do.
    failing_reads: Option<(u64, u64)>,
    /// Before which read a page leaves the cache, and the bytes of it.
    evicted: Option<(u64, std::ops::Range<usize>)>,
    room: Option<u64>,
    calls: BTreeMap<Call, u64>,
    /// From which call of a sort on all of them fail, until healed.
    failing_calls: Option<(Call, u64, Fault)>,
    /// How many did.
    failed_calls: u64,
}

fn errno(number: i32) -> io::Error {
    io::Error::from_raw_os_error(number)
}

fn put(target: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let (start, end) = (offset as usize, offset as usize + bytes.len());
    if target.len() < end {
        target.resize(end, 0);
    }
    if let Some(place) = target.get_mut(start..end) {
        place.copy_from_slice(bytes);
    }
}

impl State {
    /// Counts a call; tells how it is to fail.
    fn enter(&mut self, call: Call) -> io::Result<Option<Fault>> {
        if self.stop_after.is_some_and(|last| self.operations >= last) {
            return Err(errno(libc::EIO));
        }
        let count = self.calls.entry(call).or_default();
        *count += 1;
        let asked = self.failing_calls.filter(|(which, from, _)| *which == call && *count >= *from);
        self.failed_calls += u64::from(asked.is_some());
        let asked = asked.map(|(_, _, fault)| fault);
        if !call.changes() {
            return Ok(asked);
        }
        self.operations += 1;
        let lasting = self.lasting.filter(|(from, _)| self.operations >= *from).map(|(_, fault)| fault);
        Ok(self.faults.get(&self.operations).copied().or(lasting).or(asked))
    }

    /// The same for a call that fails as a whole.
    fn enter_or_fail(&mut self, call: Call) -> io::Result<()> {
        match self.enter(call)? {
            None => Ok(()),
            Some(Fault::Io) => Err(errno(libc::EIO)),
            Some(Fault::Full | Fault::FullLate) => Err(errno(libc::ENOSPC)),
        }
    }

    /// Counts a look into a file.
    fn read(&mut self) -> io::Result<()> {
        self.enter_or_fail(Call::Read)?;
        self.reads += 1;
        if let Some((_, page)) = self.evicted.take_if(|(read, _)| *read == self.reads) {
            self.inodes.values_mut().for_each(|inode| inode.evict(page.clone()));
        }
        match self.failing_reads {
            Some((first, count)) if self.reads >= first && self.reads - first < count => {
                Err(errno(libc::EIO))
            }
            _ => Ok(()),
        }
    }

    fn alive(&self) -> io::Result<()> {
        match self.stop_after {
            Some(last) if self.operations >= last => Err(errno(libc::EIO)),
            _ => Ok(()),
        }
    }

    fn inode(&mut self, inode: u64) -> io::Result<&mut Inode> {
        self.inodes.get_mut(&inode).ok_or_else(|| errno(libc::EBADF))
    }

    fn used(&self) -> u64 {
        self.names
            .values()
            .filter_map(|inode| self.inodes.get(inode))
            .map(|inode| inode.now.len() as u64)
            .sum()
    }

    fn write(&mut self, inode: u64, bytes: &[u8], offset: u64) -> io::Result<()> {
        let fault = self.enter(Call::Write)?;
        let old_length = self.inode(inode)?.now.len() as u64;
        let growth = (offset + bytes.len() as u64).saturating_sub(old_length);
        let room = self.room.map_or(u64::MAX, |room| room.saturating_sub(self.used()));
        let taken = match fault {
            Some(Fault::Io | Fault::Full) => bytes.len() / 2,
            None if growth > room => bytes.len() - (growth - room).min(bytes.len() as u64) as usize,
            None | Some(Fault::FullLate) => bytes.len(),
        };
        let target = self.inode(inode)?;
        let part = bytes.get(..taken).unwrap_or_default();
        put(&mut target.now, offset, part);
        target.pending.push(Pending::Write { offset, bytes: part.to_vec(), limbo: false });
        match fault {
            Some(Fault::Io) => Err(errno(libc::EIO)),
            None if taken == bytes.len() => Ok(()),
            _ => Err(errno(libc::ENOSPC)),
        }
    }

    fn sync(&mut self, inode: u64) -> io::Result<()> {
        let fault = self.enter(Call::Sync)?;
        self.syncs += 1;
        let target = self.inode(inode)?;
        if fault.is_some() {
            for pending in &mut target.pending {
                match pending {
                    Pending::Write { limbo, .. } | Pending::Length { limbo, .. } => *limbo = true,
                }
            }
            return Err(errno(if fault == Some(Fault::Io) { libc::EIO } else { libc::ENOSPC }));
        }
        for pending in std::mem::take(&mut target.pending) {
            match pending {
                Pending::Write { limbo: true, .. } | Pending::Length { limbo: true, .. } => {
                    target.pending.push(pending);
                }
                Pending::Write { offset, bytes, .. } => put(&mut target.durable, offset, &bytes),
                Pending::Length { bytes, .. } => target.durable.resize(bytes as usize, 0),
            }
        }
        Ok(())
    }
}

/// Which part of a torn write is there: its beginning, its end, or something in between.
fn torn(length: usize, rng: &mut Rng) -> (usize, usize) {
    let cut = rng.below(length as u64 + 1) as usize;
    match rng.below(4) {
        0 | 1 => (0, cut),
        2 => (cut, length),
        _ => (cut, cut + rng.below((length - cut) as u64 + 1) as usize),
    }
}

/// What of a file is there after a power cut.
fn survivor(inode: &Inode, cut: Cut, rng: &mut Rng) -> Vec<u8> {
    let mut bytes = inode.durable.clone();
    match cut {
        Cut::Nothing => return bytes,
        Cut::Everything => return inode.now.clone(),
        Cut::Part => {}
    }
    let mut order: Vec<&Pending> = inode.pending.iter().collect();
    for last in (1..order.len()).rev() {
        order.swap(last, rng.below(last as u64 + 1) as usize);
    }
    for pending in order {
        match pending {
            Pending::Length { bytes: length, .. } => {
                if rng.chance(1, 2) {
                    bytes.resize(*length as usize, 0);
                }
            }
            Pending::Write { offset, bytes: written, .. } => match rng.below(4) {
                0 => {}
                1 => put(&mut bytes, *offset, written),
                2 => {
                    let end = *offset as usize + written.len();
                    bytes.resize(bytes.len().max(end), 0);
                }
                _ => {
                    let (start, end) = torn(written.len(), rng);
                    put(&mut bytes, *offset + start as u64, written.get(start..end).unwrap_or_default());
                }
            },
        }
    }
    bytes
}

/// A disk in memory. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct SimDisk(Arc<Mutex<State>>);

impl SimDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        SimDisk::default()
    }

    /// Operations so far that change something: create, write, cut, sync, rename, remove, sync of a directory.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.0.lock().operations
    }

    /// Syncs of files so far.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.0.lock().syncs
    }

    /// The power goes after this many operations: everything fails from then on.
    pub fn stop_after(&self, operations: u64) {
        self.0.lock().stop_after = Some(operations);
    }

    /// Lets operation number `operation` (from 1) fail.
    pub fn fail_at(&self, operation: u64, fault: Fault) {
        self.0.lock().faults.insert(operation, fault);
    }

    /// Lets every operation from number `operation` (from 1) on fail, until [`SimDisk::heal`].
    pub fn fail_from(&self, operation: u64, fault: Fault) {
        self.0.lock().lasting = Some((operation, fault));
    }

    /// Reads of files so far.
    #[must_use]
    pub fn reads(&self) -> u64 {
        self.0.lock().reads
    }

    /// Lets `count` reads of files fail, the first of them number `read` (from 1).
    pub fn fail_reads(&self, read: u64, count: u64) {
        self.0.lock().failing_reads = Some((read, count));
    }

    /// Before read number `read` (from 1) these bytes of files on which a sync failed leave the cache: they show what is
    /// durable from then on.
    pub fn evict_at(&self, read: u64, page: std::ops::Range<usize>) {
        self.0.lock().evicted = Some((read, page));
    }

    /// Calls of a sort so far, those that failed included.
    #[must_use]
    pub fn calls(&self, call: Call) -> u64 {
        self.0.lock().calls.get(&call).copied().unwrap_or(0)
    }

    /// Lets every call of a sort from number `from` (from 1) on fail, until [`SimDisk::heal`].
    pub fn fail_calls(&self, call: Call, from: u64, fault: Fault) {
        let mut state = self.0.lock();
        (state.failing_calls, state.failed_calls) = (Some((call, from, fault)), 0);
    }

    /// How many calls failed for that since it was asked for.
    #[must_use]
    pub fn failed_calls(&self) -> u64 {
        self.0.lock().failed_calls
    }

    /// No more faults but those to come at single operations.
    pub fn heal(&self) {
        let mut state = self.0.lock();
        (state.lasting, state.failing_reads, state.failing_calls) = (None, None, None);
    }

    /// Bytes that all files together may have; `None` for no limit. What does not fit is not written.
    pub fn set_room(&self, bytes: Option<u64>) {
        self.0.lock().room = bytes;
    }

    /// Bytes of all files.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.0.lock().used()
    }

    /// The disk after a power cut at this moment. This one is left as it is.
    #[must_use]
    pub fn crash(&self, cut: Cut, rng: &mut Rng) -> SimDisk {
        let state = self.0.lock();
        let mut names = state.durable_names.clone();
        for change in &state.pending_names {
            if cut == Cut::Everything || (cut == Cut::Part && rng.chance(1, 2)) {
                change.apply(&mut names);
            }
        }
        let mut inodes = BTreeMap::new();
        for number in names.values() {
            if let Some(inode) = state.inodes.get(number) {
                let bytes = survivor(inode, cut, rng);
                inodes.insert(*number, Inode { now: bytes.clone(), durable: bytes, pending: Vec::new() });
            }
        }
        SimDisk(Arc::new(Mutex::new(State {
            directories: state.directories.clone(),
            durable_names: names.clone(),
            names,
            inodes,
            inodes_made: state.inodes_made,
            room: state.room,
            ..State::default()
        })))
    }

    /// Paths of all files.
    #[must_use]
    pub fn paths(&self) -> Vec<PathBuf> {
        self.0.lock().names.keys().cloned().collect()
    }

    /// Bytes of a file as a reader sees them.
    #[must_use]
    pub fn contents(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.0.lock();
        Some(state.inodes.get(state.names.get(path)?)?.now.clone())
    }

    /// Changes the bytes of a file behind everybody's back, durably: rot. Whether there is such a file.
    pub fn damage(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> bool {
        let mut state = self.0.lock();
        let Some(number) = state.names.get(path).copied() else { return false };
        let Some(inode) = state.inodes.get_mut(&number) else { return false };
        change(&mut inode.now);
        inode.durable = inode.now.clone();
        inode.pending.clear();
        true
    }

    /// Removes a file behind everybody's back, durably.
    pub fn lose(&self, path: &Path) {
        let mut state = self.0.lock();
        state.names.remove(path);
        state.durable_names.remove(path);
    }
}

struct SimFile {
    state: Arc<Mutex<State>>,
    inode: u64,
}

impl DiskFile for SimFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.state.lock();
        state.read()?;
        let bytes = &state.inode(self.inode)?.now;
        let rest = bytes.get(offset as usize..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..count), rest.get(..count)) {
            to.copy_from_slice(from);
        }
        Ok(count)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.state.lock().write(self.inode, bytes, offset)
    }

    fn write_vectored_at(&self, pieces: &[io::IoSlice<'_>], offset: u64) -> io::Result<()> {
        let all: Vec<u8> = pieces.iter().flat_map(|piece| piece.iter().copied()).collect();
        self.write_at(&all, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.state.lock().sync(self.inode)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        state.enter_or_fail(Call::Cut)?;
        let inode = state.inode(self.inode)?;
        inode.now.resize(bytes as usize, 0);
        inode.pending.push(Pending::Length { bytes, limbo: false });
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        let mut state = self.state.lock();
        state.enter_or_fail(Call::Length)?;
        Ok(state.inode(self.inode)?.now.len() as u64)
    }
}

struct SimLock(Arc<Mutex<State>>, PathBuf);

impl Drop for SimLock {
    fn drop(&mut self) {
        self.0.lock().locks.remove(&self.1);
    }
}

impl Disk for SimDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.0.lock();
        state.enter_or_fail(Call::Create)?;
        if state.names.contains_key(path) {
            return Err(errno(libc::EEXIST));
        }
        if path.parent().is_none_or(|parent| !state.directories.contains(parent)) {
            return Err(errno(libc::ENOENT));
        }
        state.inodes_made += 1;
        let inode = state.inodes_made;
        state.inodes.insert(inode, Inode::default());
        let change = NameChange::Create { path: path.to_owned(), inode };
        change.apply(&mut state.names);
        state.pending_names.push(change);
        Ok(Arc::new(SimFile { state: self.0.clone(), inode }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.0.lock();
        state.enter_or_fail(Call::Open)?;
        let inode = *state.names.get(path).ok_or_else(|| errno(libc::ENOENT))?;
        Ok(Arc::new(SimFile { state: self.0.clone(), inode }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.enter_or_fail(Call::Rename)?;
        let inode = *state.names.get(from).ok_or_else(|| errno(libc::ENOENT))?;
        let change = NameChange::Rename { from: from.to_owned(), to: to.to_owned(), inode };
        change.apply(&mut state.names);
        state.pending_names.push(change);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        if !state.names.contains_key(path) {
            state.alive()?;
            return Err(errno(libc::ENOENT));
        }
        state.enter_or_fail(Call::Remove)?;
        let change = NameChange::Remove { path: path.to_owned() };
        change.apply(&mut state.names);
        state.pending_names.push(change);
        Ok(())
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let mut state = self.0.lock();
        state.enter_or_fail(Call::List)?;
        let below = state.names.keys().filter(|path| path.parent() == Some(directory));
        Ok(below
            .filter_map(|path| path.file_name())
            .map(|name| name.to_string_lossy().into_owned())
            .collect())
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.enter_or_fail(Call::MakeDirectory)?;
        state.directories.extend(path.ancestors().map(Path::to_owned));
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.enter_or_fail(Call::SyncDirectory)?;
        let (synced, left): (Vec<_>, Vec<_>) = std::mem::take(&mut state.pending_names)
            .into_iter()
            .partition(|one| one.directory() == Some(path));
        synced.iter().for_each(|change| change.apply(&mut state.durable_names));
        state.pending_names = left;
        Ok(())
    }

    fn free_bytes(&self, _path: &Path) -> io::Result<u64> {
        let mut state = self.0.lock();
        state.enter_or_fail(Call::Free)?;
        Ok(state.room.map_or(u64::MAX, |room| room.saturating_sub(state.used())))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        let mut state = self.0.lock();
        state.enter_or_fail(Call::Lock)?;
        if !state.locks.insert(path.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(SimLock(self.0.clone(), path.to_owned())))
    }
}
