//! A replica tree in memory that can lose power, fail and fill up.
//!
//! It keeps the contract written in `journal::tree`: operations on names, kinds, sizes and attributes are durable as a
//! prefix of their order; each write since the last sync may be kept, dropped or torn by itself, also where the size
//! it needs is durable, and then zeros are read. A write of a file that is grown by it counts as two: the size, then
//! the bytes. Punches count as bytes.
//!
//! It is as unkind as kernels are where code might rely on luck: inode numbers are reused at once (`fs`), a write
//! moves the modification time and takes away set-id bits and file capabilities, a failed write has written half.
//!
//! Handles keep a removed object, and its inode number, until they are dropped.

mod crash;
mod fs;
#[cfg(test)]
mod tests;

pub use crash::{DataChoice, Fate, Pending};

use fs::{Action, Fs, Id, Operation};
use journal::{Attributes, Kind, Name, RootNo, Timestamp, TreeFile, TreeIo, TreeStat, Xattrs};
use parking_lot::Mutex;
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

/// The simulated tree. Clones are the same tree.
#[derive(Clone, Debug)]
pub struct SimTree {
    state: Arc<Mutex<State>>,
}

/// An open directory.
#[derive(Clone, Debug)]
pub struct SimDir(Arc<Handle>);

/// An open regular file.
#[derive(Debug)]
pub struct SimFile(Handle);

/// Calls to be refused: the `nth` from now (0: the next) of its sort, with this error, and `times` in a row.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// How many calls go well first.
    pub nth: u64,
    /// `errno` of the refusal, such as 5 (EIO) or 28 (ENOSPC).
    pub errno: i32,
    /// How many calls are refused; `u64::MAX` until [`SimTree::heal`].
    pub times: u64,
}

#[derive(Debug)]
struct State {
    live: Fs,
    durable: Fs,
    /// What was done since the last sync, in order.
    log: Vec<Operation>,
    tops: Vec<(Id, Id)>,
    next_id: Id,
    open: BTreeMap<Id, usize>,
    most_open: usize,
    changes: Counter,
    reads: Counter,
    syncs: u64,
    poisoned: bool,
    spares_syncs: bool,
    power: bool,
    free_bytes: u64,
    clock: i64,
}

#[derive(Debug, Default)]
struct Counter {
    calls: u64,
    /// Refusals: first call, calls, error.
    fault: Option<(u64, u64, i32)>,
    cut_at: Option<u64>,
}

impl Counter {
    fn admit(&mut self, power: &mut bool) -> io::Result<()> {
        let call = self.calls;
        self.calls += 1;
        if self.cut_at.is_some_and(|at| at <= call) {
            *power = false;
        }
        if !*power {
            return Err(Errno::IO.into());
        }
        match self.fault {
            Some((first, times, errno)) if call >= first && call - first < times => {
                Err(io::Error::from_raw_os_error(errno))
            }
            _ => Ok(()),
        }
    }
}

#[derive(Debug)]
struct Handle {
    state: Arc<Mutex<State>>,
    id: Id,
}

impl Handle {
    fn new(tree: &SimTree, state: &mut State, id: Id) -> Handle {
        *state.open.entry(id).or_default() += 1;
        state.most_open = state.most_open.max(state.open.len());
        Handle { state: Arc::clone(&tree.state), id }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let mut state = self.state.lock();
        if let Some(count) = state.open.get_mut(&self.id) {
            *count -= 1;
            if *count == 0 {
                state.open.remove(&self.id);
                state.release(self.id);
            }
        }
    }
}

impl State {
    /// Frees an object that has neither names nor handles.
    fn release(&mut self, id: Id) {
        if !self.open.contains_key(&id) && self.live.nodes.get(&id).is_some_and(Fs::is_nameless) {
            self.live.free(id);
        }
    }

    fn admit_change(&mut self) -> io::Result<()> {
        self.changes.admit(&mut self.power)
    }

    fn admit_read(&mut self) -> io::Result<()> {
        self.reads.admit(&mut self.power)
    }

    fn commit(&mut self, action: Action) {
        self.clock += 1_000;
        let operation = Operation { time: Timestamp(self.clock), action };
        self.live.apply(&operation);
        self.log.push(operation);
    }

    fn directory(&self, dir: &SimDir) -> io::Result<Id> {
        match self.live.nodes.get(&dir.0.id) {
            Some(node) if !Fs::is_nameless(node) => Ok(dir.0.id),
            _ => Err(Errno::NOENT.into()),
        }
    }

    fn entry(&self, dir: &SimDir, name: &Name) -> io::Result<(Id, &fs::Node)> {
        self.live.entry(self.directory(dir)?, name).ok_or_else(|| Errno::NOENT.into())
    }

    fn vacancy(&self, dir: &SimDir, name: &Name) -> io::Result<Id> {
        let dir = self.directory(dir)?;
        if self.live.entry(dir, name).is_some() { Err(Errno::EXIST.into()) } else { Ok(dir) }
    }

    fn make(&mut self, dir: &SimDir, name: &Name, kind: &Kind) -> io::Result<Id> {
        self.admit_change()?;
        let dir = self.vacancy(dir, name)?;
        let (id, number) = (self.next_id, self.live.free_number());
        self.next_id += 1;
        self.commit(Action::Create { id, number, dir, name: name.clone(), kind: kind.clone() });
        Ok(id)
    }
}

impl SimTree {
    /// Empty roots, as many as asked for, each a file system of its own with its kept area.
    #[must_use]
    pub fn new(roots: u16) -> SimTree {
        let mut live = Fs::default();
        let tops: Vec<(Id, Id)> = (1..=u64::from(roots)).map(|n| (2 * n, 2 * n + 1)).collect();
        for (device, (root, kept)) in (1..).zip(&tops) {
            live.add_top(*root, device, 0o755);
            live.add_top(*kept, device, 0o700);
        }
        let next_id = 2 * u64::from(roots) + 2;
        SimTree::with(live, tops, next_id, 1_000_000_000_000_000_000)
    }

    fn with(fs: Fs, tops: Vec<(Id, Id)>, next_id: Id, clock: i64) -> SimTree {
        let state = State {
            durable: fs.clone(),
            live: fs,
            log: Vec::new(),
            tops,
            next_id,
            open: BTreeMap::new(),
            most_open: 0,
            changes: Counter::default(),
            reads: Counter::default(),
            syncs: 0,
            poisoned: false,
            spares_syncs: false,
            power: true,
            free_bytes: 1 << 40,
            clock,
        };
        SimTree { state: Arc::new(Mutex::new(state)) }
    }

    fn reborn(&self, fs: Fs, old: &State) -> SimTree {
        SimTree::with(fs, old.tops.clone(), old.next_id, old.clock + 1_000_000_000)
    }

    /// Calls so far that change something or sync: where the next fault may be put.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.state.lock().changes.calls
    }

    /// Calls so far that only look.
    #[must_use]
    pub fn reads(&self) -> u64 {
        self.state.lock().reads.calls
    }

    /// Most objects that were open at once since this was asked last.
    #[must_use]
    pub fn take_most_open(&self) -> usize {
        let mut state = self.state.lock();
        let now = state.open.len();
        std::mem::replace(&mut state.most_open, now)
    }

    /// Syncs that returned.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.state.lock().syncs
    }

    /// Refuses calls that change something. A refused write has written its first half; after a refused sync the tree
    /// cannot sync, and the bytes it was for are seen until the power goes and never become durable, as by a kernel that
    /// has dropped pages.
    pub fn fail_changes(&self, fault: Fault) {
        let counter = &mut self.state.lock().changes;
        counter.fault = Some((counter.calls.saturating_add(fault.nth), fault.times, fault.errno));
    }

    /// Refuses calls that look.
    pub fn fail_reads(&self, fault: Fault) {
        let counter = &mut self.state.lock().reads;
        counter.fault = Some((counter.calls.saturating_add(fault.nth), fault.times, fault.errno));
    }

    /// Faults of changes pass syncs by from now on.
    pub fn spare_syncs(&self) {
        self.state.lock().spares_syncs = true;
    }

    /// The kernel could not write pages back: every sync from now on is refused.
    pub fn lose_pages(&self) {
        self.state.lock().poisoned = true;
    }

    /// The same tree is opened by another process: it can sync again, and what was lost stays lost.
    pub fn reopen(&self) {
        self.state.lock().poisoned = false;
    }

    /// No more refusals.
    pub fn heal(&self) {
        let mut state = self.state.lock();
        (state.changes.fault, state.reads.fault) = (None, None);
    }

    /// From the `nth` change on (0: the next) every call fails with EIO: the power is gone. Then see
    /// [`SimTree::crash_at`].
    pub fn cut_power_at(&self, nth: u64) {
        let counter = &mut self.state.lock().changes;
        counter.cut_at = Some(counter.calls.saturating_add(nth));
    }

    /// The power is gone now.
    pub fn cut_power(&self) {
        self.state.lock().power = false;
    }

    /// Whether there is power.
    #[must_use]
    pub fn has_power(&self) -> bool {
        self.state.lock().power
    }

    /// What [`TreeIo::free_bytes`] says.
    pub fn set_free_bytes(&self, bytes: u64) {
        self.state.lock().free_bytes = bytes;
    }

    fn open(&self, find: impl FnOnce(&State) -> io::Result<Id>) -> io::Result<Handle> {
        let mut state = self.state.lock();
        state.admit_read()?;
        let id = find(&state)?;
        Ok(Handle::new(self, &mut state, id))
    }

    fn look<T>(&self, look: impl FnOnce(&State) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.state.lock();
        state.admit_read()?;
        look(&state)
    }

    fn change(&self, decide: impl FnOnce(&State) -> io::Result<Action>) -> io::Result<()> {
        let mut state = self.state.lock();
        state.admit_change()?;
        let action = decide(&state)?;
        state.commit(action);
        Ok(())
    }

    /// Takes a name away and frees what has none left.
    fn take_name(
        &self,
        dir: &SimDir,
        name: &Name,
        check: impl FnOnce(&fs::Node) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut state = self.state.lock();
        state.admit_change()?;
        let (id, node) = state.entry(dir, name)?;
        check(node)?;
        let dir = state.directory(dir)?;
        state.commit(Action::Unlink { dir, name: name.clone() });
        state.release(id);
        Ok(())
    }
}

fn attributes_action(id: Id, attributes: &Attributes) -> Action {
    Action::SetAttributes { id, attributes: *attributes }
}

fn xattrs_action(id: Id, xattrs: &Xattrs) -> Action {
    let mut xattrs = xattrs.clone();
    xattrs.sort();
    Action::SetXattrs { id, xattrs }
}

impl TreeIo for SimTree {
    type Dir = SimDir;
    type File = SimFile;

    fn root(&self, root: RootNo) -> io::Result<SimDir> {
        let find = |state: &State| state.tops.get(usize::from(root.0)).map(|(id, _)| *id);
        Ok(SimDir(Arc::new(self.open(|state| find(state).ok_or_else(|| Errno::NOENT.into()))?)))
    }

    fn kept(&self, root: RootNo) -> io::Result<SimDir> {
        let find = |state: &State| state.tops.get(usize::from(root.0)).map(|(_, id)| *id);
        Ok(SimDir(Arc::new(self.open(|state| find(state).ok_or_else(|| Errno::NOENT.into()))?)))
    }

    fn open_dir(&self, dir: &SimDir, name: &Name) -> io::Result<SimDir> {
        let handle = self.open(|state| match state.entry(dir, name)? {
            (id, node) if node.kind.is_directory() => Ok(id),
            _ => Err(Errno::NOTDIR.into()),
        })?;
        Ok(SimDir(Arc::new(handle)))
    }

    fn list(&self, dir: &SimDir) -> io::Result<Vec<Name>> {
        self.look(|state| {
            let node = state.live.nodes.get(&dir.0.id).ok_or(Errno::NOENT)?;
            Ok(node.entries.keys().cloned().collect())
        })
    }

    fn stat(&self, dir: &SimDir, name: &Name) -> io::Result<Option<TreeStat>> {
        self.look(|state| match state.entry(dir, name) {
            Ok((_, node)) => Ok(Some(Fs::stat(node))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        })
    }

    fn stat_dir(&self, dir: &SimDir) -> io::Result<TreeStat> {
        self.look(|state| Ok(Fs::stat(state.live.nodes.get(&dir.0.id).ok_or(Errno::NOENT)?)))
    }

    fn open_file(&self, dir: &SimDir, name: &Name, _: bool) -> io::Result<SimFile> {
        let handle = self.open(|state| match state.entry(dir, name)? {
            (id, node) if node.kind.is_file() => Ok(id),
            (_, node) if node.kind.is_directory() => Err(Errno::ISDIR.into()),
            (_, node) if matches!(node.kind, Kind::Symlink(_)) => Err(Errno::LOOP.into()),
            _ => Err(Errno::INVAL.into()),
        })?;
        Ok(SimFile(handle))
    }

    fn create(&self, dir: &SimDir, name: &Name, kind: &Kind) -> io::Result<TreeStat> {
        let mut state = self.state.lock();
        let id = state.make(dir, name, kind)?;
        state.live.nodes.get(&id).map(Fs::stat).ok_or_else(|| Errno::NOENT.into())
    }

    fn create_file(&self, dir: &SimDir, name: &Name) -> io::Result<SimFile> {
        let mut state = self.state.lock();
        let id = state.make(dir, name, &Kind::File)?;
        Ok(SimFile(Handle::new(self, &mut state, id)))
    }

    fn link(&self, from: (&SimDir, &Name), to: (&SimDir, &Name)) -> io::Result<()> {
        self.change(|state| {
            let (id, node) = state.entry(from.0, from.1)?;
            if node.kind.is_directory() {
                return Err(Errno::PERM.into());
            }
            let dir = state.vacancy(to.0, to.1)?;
            if state.live.nodes.get(&dir).map(|dir| dir.device) != Some(node.device) {
                return Err(Errno::XDEV.into());
            }
            Ok(Action::Link { id, dir, name: to.1.clone() })
        })
    }

    fn rename(&self, from: (&SimDir, &Name), to: (&SimDir, &Name)) -> io::Result<()> {
        self.change(|state| {
            let (id, node) = state.entry(from.0, from.1)?;
            let dir = state.vacancy(to.0, to.1)?;
            if state.live.nodes.get(&dir).map(|dir| dir.device) != Some(node.device) {
                return Err(Errno::XDEV.into());
            }
            if node.kind.is_directory() && state.live.is_within(dir, id) {
                return Err(Errno::INVAL.into());
            }
            Ok(Action::Rename { from: (state.directory(from.0)?, from.1.clone()), to: (dir, to.1.clone()) })
        })
    }

    fn unlink(&self, dir: &SimDir, name: &Name) -> io::Result<()> {
        self.take_name(
            dir,
            name,
            |node| {
                if node.kind.is_directory() { Err(Errno::ISDIR.into()) } else { Ok(()) }
            },
        )
    }

    fn remove_dir(&self, dir: &SimDir, name: &Name) -> io::Result<()> {
        self.take_name(dir, name, |node| match node.kind {
            Kind::Directory if node.entries.is_empty() => Ok(()),
            Kind::Directory => Err(Errno::NOTEMPTY.into()),
            _ => Err(Errno::NOTDIR.into()),
        })
    }

    fn set_attributes(&self, dir: &SimDir, name: &Name, attributes: &Attributes, _: &Kind) -> io::Result<()> {
        self.change(|state| Ok(attributes_action(state.entry(dir, name)?.0, attributes)))
    }

    fn set_dir_attributes(&self, dir: &SimDir, attributes: &Attributes) -> io::Result<()> {
        self.change(|_| Ok(attributes_action(dir.0.id, attributes)))
    }

    fn set_xattrs(&self, dir: &SimDir, name: &Name, _: &Kind, xattrs: &Xattrs) -> io::Result<()> {
        self.change(|state| Ok(xattrs_action(state.entry(dir, name)?.0, xattrs)))
    }

    fn set_dir_xattrs(&self, dir: &SimDir, xattrs: &Xattrs) -> io::Result<()> {
        self.change(|_| Ok(xattrs_action(dir.0.id, xattrs)))
    }

    fn xattrs(&self, dir: &SimDir, name: &Name, _: &Kind) -> io::Result<Xattrs> {
        self.look(|state| Ok(state.entry(dir, name)?.1.xattrs.clone()))
    }

    fn dir_xattrs(&self, dir: &SimDir) -> io::Result<Xattrs> {
        self.look(|state| Ok(state.live.nodes.get(&dir.0.id).ok_or(Errno::NOENT)?.xattrs.clone()))
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        let spares = state.spares_syncs;
        let fault = state.changes.fault.take_if(|_| spares);
        let admitted = state.admit_change();
        state.changes.fault = state.changes.fault.take().or(fault);
        if admitted.is_err() {
            state.poisoned = true;
            // The kernel shows these bytes and will never write them.
            state.log.retain(|operation| !operation.action.is_data());
        }
        admitted?;
        if state.poisoned {
            return Err(Errno::IO.into());
        }
        let log = std::mem::take(&mut state.log);
        for operation in &log {
            state.durable.apply(operation);
        }
        crash::drop_nameless(&mut state.durable);
        state.syncs += 1;
        Ok(())
    }

    fn free_bytes(&self, _: RootNo) -> io::Result<u64> {
        self.look(|state| Ok(state.free_bytes))
    }
}

impl SimFile {
    fn look<T>(&self, look: impl FnOnce(&fs::Node) -> T) -> io::Result<T> {
        let mut state = self.0.state.lock();
        state.admit_read()?;
        Ok(look(state.live.nodes.get(&self.0.id).ok_or(Errno::NOENT)?))
    }

    fn size(state: &State, id: Id) -> u64 {
        state.live.nodes.get(&id).map_or(0, |node| node.size)
    }
}

impl TreeFile for SimFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.look(|node| {
            let bytes = node.size.saturating_sub(offset).min(buffer.len() as u64) as usize;
            node.content.read(offset, &mut buffer[..bytes]);
            bytes
        })
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.0.state.lock();
        let admitted = state.admit_change();
        let written = match &admitted {
            Ok(()) => bytes,
            Err(_) if state.power => &bytes[..bytes.len() / 2],
            Err(_) => &[],
        };
        if !written.is_empty() {
            let (id, end) = (self.0.id, offset + written.len() as u64);
            if end > SimFile::size(&state, id) {
                state.commit(Action::Resize { id, size: end });
            }
            state.commit(Action::Touch { id });
            state.commit(Action::Write { id, offset, bytes: written.to_vec() });
        }
        admitted
    }

    fn punch(&self, offset: u64, bytes: u64) -> io::Result<()> {
        let mut state = self.0.state.lock();
        state.admit_change()?;
        let (id, size) = (self.0.id, SimFile::size(&state, self.0.id));
        let end = offset.saturating_add(bytes).min(size);
        if offset < end {
            state.commit(Action::Touch { id });
            state.commit(Action::Punch { id, offset, end });
        }
        Ok(())
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.0.state.lock();
        state.admit_change()?;
        state.commit(Action::Resize { id: self.0.id, size: bytes });
        Ok(())
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<(u64, u64)>> {
        self.look(|node| node.content.next_data(offset, node.size))
    }

    fn stat(&self) -> io::Result<TreeStat> {
        self.look(Fs::stat)
    }
}
