//! A disk in memory that can lose power, fail a call, and be watched.
//!
//! The fault model is that of [`journal::Disk`]: nothing is durable before a sync has returned. A power cut keeps what
//! is durable and of the rest nothing, everything, or a random part, writes torn at any byte and names in any order. A
//! sync that fails leaves what it was to sync in limbo: visible, and never made durable by a later sync.

use super::Rng;
use journal::{Disk, DiskFile};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What of the unsynced survives a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    Nothing,
    Everything,
    Part,
}

impl Cut {
    pub(crate) const ALL: [Cut; 3] = [Cut::Nothing, Cut::Everything, Cut::Part];
}

/// When calls fail. Calls are counted from 1, reads included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// This call and all later ones: the machine has stopped.
    From(u64),
    /// This call alone. A write leaves half of its bytes.
    Only(u64),
}

#[derive(Clone, Debug)]
struct Write {
    offset: u64,
    bytes: Vec<u8>,
    limbo: bool,
}

#[derive(Clone, Debug, Default)]
struct Inode {
    now: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Write>,
}

#[derive(Clone, Debug)]
struct NameChange {
    /// Gone from there.
    from: Option<PathBuf>,
    /// There now.
    to: Option<(PathBuf, u64)>,
    limbo: bool,
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<PathBuf, u64>) {
        if let Some(from) = &self.from {
            names.remove(from);
        }
        if let Some((to, inode)) = &self.to {
            names.insert(to.clone(), *inode);
        }
    }

    fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        self.from.iter().chain(self.to.iter().map(|(to, _)| to))
    }
}

type Hook = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct State {
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    pending_names: Vec<NameChange>,
    inodes: BTreeMap<u64, Inode>,
    locks: BTreeSet<PathBuf>,
    calls: u64,
    fault: Option<Fault>,
    /// Called once, before a file whose name ends so is created.
    hook: Option<(&'static str, Hook)>,
}

fn put(target: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let (start, end) = (offset as usize, offset as usize + bytes.len());
    target.resize(target.len().max(end), 0);
    target[start..end].copy_from_slice(bytes);
}

fn broken() -> io::Error {
    io::Error::other("the disk was told to fail")
}

impl State {
    fn call(&mut self) -> io::Result<()> {
        self.calls += 1;
        match self.fault {
            Some(Fault::From(first)) if self.calls >= first => Err(broken()),
            Some(Fault::Only(this)) if self.calls == this => Err(broken()),
            _ => Ok(()),
        }
    }

    fn change(&mut self, from: Option<PathBuf>, to: Option<(PathBuf, u64)>) {
        let change = NameChange { from, to, limbo: false };
        change.apply(&mut self.names);
        self.pending_names.push(change);
    }

    fn inode(&self, path: &Path) -> io::Result<u64> {
        self.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

#[derive(Clone, Default)]
pub(crate) struct SimDisk(Arc<Mutex<State>>);

impl SimDisk {
    pub(crate) fn set_fault(&self, fault: Fault) {
        self.0.lock().fault = Some(fault);
    }

    pub(crate) fn calls(&self) -> u64 {
        self.0.lock().calls
    }

    pub(crate) fn on_create(&self, suffix: &'static str, hook: impl FnOnce() + Send + 'static) {
        self.0.lock().hook = Some((suffix, Box::new(hook)));
    }

    pub(crate) fn hook_is_set(&self) -> bool {
        self.0.lock().hook.is_some()
    }

    pub(crate) fn names(&self) -> Vec<String> {
        let state = self.0.lock();
        state.names.keys().map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect()
    }

    pub(crate) fn bytes(&self, path: &Path) -> Vec<u8> {
        let state = self.0.lock();
        state.inodes[&state.names[path]].now.clone()
    }

    pub(crate) fn set_bytes(&self, path: &Path, bytes: Vec<u8>) {
        let mut state = self.0.lock();
        let inode = state.names[path];
        state.inodes.insert(inode, Inode { durable: bytes.clone(), now: bytes, pending: Vec::new() });
    }

    /// What the next start finds after the power was cut now.
    pub(crate) fn cut(&self, cut: Cut, rng: &mut Rng) -> SimDisk {
        let state = self.0.lock();
        let mut names = state.durable_names.clone();
        for change in &state.pending_names {
            if cut == Cut::Everything || (cut == Cut::Part && rng.below(2) == 0) {
                change.apply(&mut names);
            }
        }
        let mut inodes = BTreeMap::new();
        for (number, inode) in &state.inodes {
            let bytes = match cut {
                Cut::Nothing => inode.durable.clone(),
                Cut::Everything => inode.now.clone(),
                Cut::Part => torn(inode, rng),
            };
            inodes.insert(*number, Inode { now: bytes.clone(), durable: bytes, pending: Vec::new() });
        }
        let (durable_names, locks) = (names.clone(), BTreeSet::new());
        SimDisk(Arc::new(Mutex::new(State { names, durable_names, inodes, locks, ..State::default() })))
    }
}

fn torn(inode: &Inode, rng: &mut Rng) -> Vec<u8> {
    let mut bytes = inode.durable.clone();
    let mut order: Vec<&Write> = inode.pending.iter().collect();
    for last in (1..order.len()).rev() {
        order.swap(last, rng.below(last + 1));
    }
    for write in order {
        let from = rng.below(write.bytes.len() + 1);
        match rng.below(4) {
            0 => {}
            1 => put(&mut bytes, write.offset, &write.bytes),
            2 => put(&mut bytes, write.offset, &write.bytes[..from]),
            _ => put(&mut bytes, write.offset + from as u64, &write.bytes[from..]),
        }
    }
    bytes
}

struct SimFile {
    disk: SimDisk,
    inode: u64,
}

impl DiskFile for SimFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.0.lock();
        state.call()?;
        let from = state.inodes[&self.inode].now.get(offset as usize..).unwrap_or_default();
        let count = from.len().min(buffer.len());
        buffer[..count].copy_from_slice(&from[..count]);
        Ok(count)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        let result = state.call();
        let bytes = if result.is_ok() { bytes } else { &bytes[..bytes.len() / 2] };
        let inode = state.inodes.get_mut(&self.inode).unwrap();
        put(&mut inode.now, offset, bytes);
        inode.pending.push(Write { offset, bytes: bytes.to_vec(), limbo: false });
        result
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        let result = state.call();
        let inode = state.inodes.get_mut(&self.inode).unwrap();
        if result.is_err() {
            inode.pending.iter_mut().for_each(|write| write.limbo = true);
        } else {
            let (limbo, synced): (Vec<_>, Vec<_>) = inode.pending.drain(..).partition(|write| write.limbo);
            inode.pending = limbo;
            synced.iter().for_each(|write| put(&mut inode.durable, write.offset, &write.bytes));
        }
        result
    }

    fn set_len(&self, _bytes: u64) -> io::Result<()> {
        unreachable!("the catalog never cuts a file");
    }

    fn len(&self) -> io::Result<u64> {
        let mut state = self.disk.0.lock();
        state.call()?;
        Ok(state.inodes[&self.inode].now.len() as u64)
    }
}

struct Lock {
    disk: SimDisk,
    path: PathBuf,
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.disk.0.lock().locks.remove(&self.path);
    }
}

impl Disk for SimDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let hook = {
            let mut state = self.0.lock();
            let wanted = |hook: &mut (&'static str, Hook)| path.to_string_lossy().ends_with(hook.0);
            state.hook.take_if(wanted)
        };
        if let Some((_, hook)) = hook {
            hook();
        }
        let mut state = self.0.lock();
        state.call()?;
        if state.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = state.inodes.len() as u64;
        state.inodes.insert(inode, Inode::default());
        state.change(None, Some((path.to_owned(), inode)));
        Ok(Arc::new(SimFile { disk: self.clone(), inode }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.0.lock();
        state.call()?;
        Ok(Arc::new(SimFile { disk: self.clone(), inode: state.inode(path)? }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.call()?;
        let inode = state.inode(from)?;
        state.change(Some(from.to_owned()), Some((to.to_owned(), inode)));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.call()?;
        state.inode(path)?;
        state.change(Some(path.to_owned()), None);
        Ok(())
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let mut state = self.0.lock();
        state.call()?;
        let inside = state.names.keys().filter(|path| path.parent() == Some(directory));
        Ok(inside.map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect())
    }

    fn create_dir_all(&self, _path: &Path) -> io::Result<()> {
        self.0.lock().call()
    }

    fn sync_dir(&self, _path: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        if let Err(error) = state.call() {
            state.pending_names.iter_mut().for_each(|change| change.limbo = true);
            return Err(error);
        }
        let (mut limbo, synced): (Vec<_>, Vec<_>) =
            state.pending_names.drain(..).partition(|change| change.limbo);
        for change in &synced {
            change.apply(&mut state.durable_names);
            // What is durable under a name is not replaced by what was there before it.
            limbo.retain(|old: &NameChange| !old.paths().any(|old| change.paths().any(|new| old == new)));
        }
        state.pending_names = limbo;
        Ok(())
    }

    fn free_bytes(&self, _path: &Path) -> io::Result<u64> {
        Ok(u64::MAX)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        let mut state = self.0.lock();
        state.call()?;
        if !state.locks.insert(path.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(Lock { disk: self.clone(), path: path.to_owned() }))
    }
}
