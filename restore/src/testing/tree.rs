//! A tree in memory, and snapshots of it.

use journal::{Attributes, Kind, Name, NodeId, RootNo, Timestamp, TreeFile, TreeIo, TreeStat, Xattrs};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::sync::Arc;

/// What stands in the tree under one inode.
#[derive(Clone, Debug, Default)]
pub(super) struct Object {
    kind: Option<Kind>,
    data: Vec<u8>,
    pub(super) attributes: Option<Attributes>,
    pub(super) xattrs: Xattrs,
    entries: BTreeMap<Name, u64>,
}

#[derive(Debug, Default)]
pub(super) struct Objects {
    by_inode: HashMap<u64, Object>,
    next: u64,
    syncs: u64,
}

/// A tree in memory. Inode 2r+2 is root r, 2r+3 its kept area.
#[derive(Clone, Debug, Default)]
pub(crate) struct MemTree {
    pub(super) state: Arc<Mutex<Objects>>,
    /// Creating this kind fails for lack of privilege.
    pub refuse_devices: bool,
}

#[derive(Debug)]
pub(crate) struct MemFile(pub(super) Arc<Mutex<Objects>>, pub(super) u64);

/// One node of a snapshot; nodes with several names share `object`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub kind: Kind,
    pub data: Vec<u8>,
    pub attributes: (u32, u32, u32, i64),
    pub xattrs: Xattrs,
    /// The first path under which the object is found.
    pub object: Vec<u8>,
}

/// A tree by paths; the root itself under the empty path.
pub(crate) type Snapshot = BTreeMap<Vec<u8>, Seen>;

pub(super) fn error(errno: i32) -> io::Error {
    io::Error::from_raw_os_error(errno)
}

const ENOENT: i32 = 2;
const EEXIST: i32 = 17;
const EPERM: i32 = 1;
const ENOTEMPTY: i32 = 39;

impl MemTree {
    pub fn new(roots: u16) -> Self {
        let tree = MemTree::default();
        let mut state = tree.state.lock();
        for inode in 2..2 * u64::from(roots) + 2 {
            let attributes =
                Attributes { mode: 0o755, uid: 0, gid: 0, mtime: Timestamp(0), ctime: Timestamp(0) };
            let object =
                Object { kind: Some(Kind::Directory), attributes: Some(attributes), ..Object::default() };
            state.by_inode.insert(inode, object);
        }
        state.next = 100;
        drop(state);
        tree
    }

    /// What a root's kept area holds, but for nodes that the replica made for itself. Whether a file that has a name
    /// elsewhere, be it in a removed directory, has one of its own in the kept area, too, depends on what was removed
    /// first: such own names are left out.
    pub fn kept_snapshot(&self, root: RootNo) -> Snapshot {
        let local = |path: &[u8]| {
            let first = path.split(|byte| *byte == b'/').next().unwrap();
            first.len() == 16 && first[0] >= b'8'
        };
        let own = |path: &[u8]| !path.contains(&b'/');
        let kept = self.walk(NodeId::kept(root));
        let nested = kept.iter().filter(|(path, _)| !own(path) && !local(path)).map(|(_, inode)| *inode);
        let elsewhere: BTreeSet<u64> = nested.chain(self.walk(NodeId::root(root)).into_values()).collect();
        let keep =
            |path: &[u8]| !(path.is_empty() || local(path) || own(path) && elsewhere.contains(&kept[path]));
        part(&self.snapshot_of(NodeId::kept(root)), |path| keep(path).then(|| path.to_vec()))
    }

    /// Inodes by paths.
    fn walk(&self, top: NodeId) -> BTreeMap<Vec<u8>, u64> {
        let state = self.state.lock();
        let mut found = BTreeMap::new();
        let mut rest = vec![(Vec::new(), top.0)];
        while let Some((path, inode)) = rest.pop() {
            for (name, below) in &state.by_inode[&inode].entries {
                rest.push((journal::view::join(&path, name.as_bytes()), *below));
            }
            found.insert(path, inode);
        }
        found
    }

    /// Everything below a root.
    pub fn snapshot(&self, root: RootNo) -> Snapshot {
        self.snapshot_of(NodeId::root(root))
    }

    fn snapshot_of(&self, top: NodeId) -> Snapshot {
        let order = self.walk(top);
        let state = self.state.lock();
        let mut found = Snapshot::new();
        let mut first: HashMap<u64, Vec<u8>> = HashMap::new();
        for (path, inode) in order {
            let object = &state.by_inode[&inode];
            let attributes = object.attributes.unwrap();
            let mode = if matches!(object.kind, Some(Kind::Symlink(_))) { 0 } else { attributes.mode };
            let seen = Seen {
                kind: object.kind.clone().unwrap(),
                data: object.data.clone(),
                attributes: (mode, attributes.uid, attributes.gid, attributes.mtime.0),
                xattrs: object.xattrs.clone(),
                object: first.entry(inode).or_insert_with(|| path.clone()).clone(),
            };
            found.insert(path, seen);
        }
        found
    }

    pub fn syncs(&self) -> u64 {
        self.state.lock().syncs
    }

    pub(super) fn with<R>(&self, inode: u64, act: impl FnOnce(&mut Object) -> R) -> R {
        act(self.state.lock().by_inode.get_mut(&inode).unwrap())
    }

    pub(super) fn entry(&self, dir: u64, name: &Name) -> Option<u64> {
        self.state.lock().by_inode.get(&dir)?.entries.get(name).copied()
    }

    pub(super) fn add(&self, dir: u64, name: &Name, kind: &Kind) -> io::Result<u64> {
        let mut state = self.state.lock();
        if state.by_inode[&dir].entries.contains_key(name) {
            return Err(error(EEXIST));
        }
        let inode = state.next;
        state.next += 1;
        let attributes =
            Attributes { mode: 0o600, uid: 0, gid: 0, mtime: Timestamp(-1), ctime: Timestamp(0) };
        let object = Object { kind: Some(kind.clone()), attributes: Some(attributes), ..Object::default() };
        state.by_inode.insert(inode, object);
        let parent = state.by_inode.get_mut(&dir).unwrap();
        parent.entries.insert(name.clone(), inode);
        parent.attributes.as_mut().unwrap().mtime = Timestamp(-1);
        Ok(inode)
    }

    pub(super) fn bind(&self, dir: u64, name: &Name, inode: Option<u64>) -> io::Result<Option<u64>> {
        let mut state = self.state.lock();
        let parent = state.by_inode.get_mut(&dir).ok_or_else(|| error(ENOENT))?;
        if inode.is_some() && parent.entries.contains_key(name) {
            return Err(error(EEXIST));
        }
        parent.attributes.as_mut().unwrap().mtime = Timestamp(-1);
        Ok(match inode {
            Some(inode) => parent.entries.insert(name.clone(), inode),
            None => parent.entries.remove(name),
        })
    }

    fn stat_of(&self, inode: u64) -> TreeStat {
        self.with(inode, |object| TreeStat {
            inode,
            kind: object.kind.clone().unwrap(),
            size: object.data.len() as u64,
            links: 1,
            attributes: object.attributes.unwrap(),
        })
    }
}

impl TreeFile for MemFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.0.lock();
        let data = &state.by_inode[&self.1].data;
        let from = (offset as usize).min(data.len());
        let bytes = buffer.len().min(data.len() - from);
        buffer[..bytes].copy_from_slice(&data[from..from + bytes]);
        Ok(bytes)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.0.lock();
        let object = state.by_inode.get_mut(&self.1).unwrap();
        let end = offset as usize + bytes.len();
        if object.data.len() < end {
            object.data.resize(end, 0);
        }
        object.data[offset as usize..end].copy_from_slice(bytes);
        object.attributes.as_mut().unwrap().mtime = Timestamp(-1);
        object.xattrs.retain(|(name, _)| name != b"security.capability");
        Ok(())
    }

    fn punch(&self, offset: u64, bytes: u64) -> io::Result<()> {
        let mut state = self.0.lock();
        let data = &mut state.by_inode.get_mut(&self.1).unwrap().data;
        let (from, to) = ((offset as usize).min(data.len()), ((offset + bytes) as usize).min(data.len()));
        data[from..to].fill(0);
        Ok(())
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.0.lock().by_inode.get_mut(&self.1).unwrap().data.resize(bytes as usize, 0);
        Ok(())
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<(u64, u64)>> {
        let state = self.0.lock();
        let data = &state.by_inode[&self.1].data;
        // Holes as fine as can be, to be unkind.
        let from = (offset as usize..data.len()).find(|at| data[*at] != 0);
        Ok(from.map(|from| {
            let to = (from..data.len()).find(|at| data[*at] == 0).unwrap_or(data.len());
            (from as u64, to as u64)
        }))
    }

    fn stat(&self) -> io::Result<TreeStat> {
        Ok(MemTree { state: Arc::clone(&self.0), refuse_devices: false }.stat_of(self.1))
    }
}

impl TreeIo for MemTree {
    type Dir = u64;
    type File = MemFile;

    fn root(&self, root: RootNo) -> io::Result<u64> {
        Ok(NodeId::root(root).0)
    }

    fn kept(&self, root: RootNo) -> io::Result<u64> {
        Ok(NodeId::kept(root).0)
    }

    fn open_dir(&self, dir: &u64, name: &Name) -> io::Result<u64> {
        self.entry(*dir, name).ok_or_else(|| error(ENOENT))
    }

    fn list(&self, dir: &u64) -> io::Result<Vec<Name>> {
        Ok(self.with(*dir, |object| object.entries.keys().cloned().collect()))
    }

    fn stat(&self, dir: &u64, name: &Name) -> io::Result<Option<TreeStat>> {
        Ok(self.entry(*dir, name).map(|inode| self.stat_of(inode)))
    }

    fn stat_dir(&self, dir: &u64) -> io::Result<TreeStat> {
        Ok(self.stat_of(*dir))
    }

    fn open_file(&self, dir: &u64, name: &Name, _: bool) -> io::Result<MemFile> {
        Ok(MemFile(Arc::clone(&self.state), self.entry(*dir, name).ok_or_else(|| error(ENOENT))?))
    }

    fn create(&self, dir: &u64, name: &Name, kind: &Kind) -> io::Result<TreeStat> {
        if self.refuse_devices && matches!(kind, Kind::CharDevice(_) | Kind::BlockDevice(_)) {
            return Err(error(EPERM));
        }
        self.add(*dir, name, kind).map(|inode| self.stat_of(inode))
    }

    fn create_file(&self, dir: &u64, name: &Name) -> io::Result<MemFile> {
        Ok(MemFile(Arc::clone(&self.state), self.add(*dir, name, &Kind::File)?))
    }

    fn link(&self, from: (&u64, &Name), to: (&u64, &Name)) -> io::Result<()> {
        let inode = self.entry(*from.0, from.1).ok_or_else(|| error(ENOENT))?;
        self.bind(*to.0, to.1, Some(inode)).map(drop)
    }

    fn rename(&self, from: (&u64, &Name), to: (&u64, &Name)) -> io::Result<()> {
        let inode = self.entry(*from.0, from.1).ok_or_else(|| error(ENOENT))?;
        self.bind(*to.0, to.1, Some(inode))?;
        self.bind(*from.0, from.1, None).map(drop)
    }

    fn unlink(&self, dir: &u64, name: &Name) -> io::Result<()> {
        self.bind(*dir, name, None)?.map(drop).ok_or_else(|| error(ENOENT))
    }

    fn remove_dir(&self, dir: &u64, name: &Name) -> io::Result<()> {
        let inode = self.entry(*dir, name).ok_or_else(|| error(ENOENT))?;
        if self.with(inode, |object| !object.entries.is_empty()) {
            return Err(error(ENOTEMPTY));
        }
        self.unlink(dir, name)
    }

    fn set_attributes(&self, dir: &u64, name: &Name, attributes: &Attributes, _: &Kind) -> io::Result<()> {
        let inode = self.entry(*dir, name).ok_or_else(|| error(ENOENT))?;
        self.set_dir_attributes(&inode, attributes)
    }

    fn set_dir_attributes(&self, dir: &u64, attributes: &Attributes) -> io::Result<()> {
        self.with(*dir, |object| object.attributes = Some(*attributes));
        Ok(())
    }

    fn set_xattrs(&self, dir: &u64, name: &Name, _: &Kind, xattrs: &Xattrs) -> io::Result<()> {
        let inode = self.entry(*dir, name).ok_or_else(|| error(ENOENT))?;
        self.set_dir_xattrs(&inode, xattrs)
    }

    fn set_dir_xattrs(&self, dir: &u64, xattrs: &Xattrs) -> io::Result<()> {
        self.with(*dir, |object| object.xattrs.clone_from(xattrs));
        Ok(())
    }

    fn xattrs(&self, dir: &u64, name: &Name, _: &Kind) -> io::Result<Xattrs> {
        let inode = self.entry(*dir, name).ok_or_else(|| error(ENOENT))?;
        self.dir_xattrs(&inode)
    }

    fn dir_xattrs(&self, dir: &u64) -> io::Result<Xattrs> {
        Ok(self.with(*dir, |object| object.xattrs.clone()))
    }

    fn sync(&self) -> io::Result<()> {
        self.state.lock().syncs += 1;
        Ok(())
    }

    fn free_bytes(&self, _: RootNo) -> io::Result<u64> {
        Ok(1 << 40)
    }
}

/// The part of a snapshot at or below a path, with paths relative to it.
pub(crate) fn cut(snapshot: &Snapshot, path: &[u8]) -> Snapshot {
    let relative = |found: &[u8]| match found.strip_prefix(path)? {
        rest if path.is_empty() || rest.is_empty() => Some(rest.to_vec()),
        [b'/', rest @ ..] => Some(rest.to_vec()),
        _ => None,
    };
    part(snapshot, relative)
}

/// The rest of a snapshot.
pub(crate) fn without(snapshot: &Snapshot, path: &[u8]) -> Snapshot {
    let below = [path, b"/"].concat();
    part(snapshot, |found| {
        (!path.is_empty() && found != path && !found.starts_with(&below)).then(|| found.to_vec())
    })
}

/// What a path is called in a part, for those in it. Objects are named after their first path in the part.
fn part(snapshot: &Snapshot, rename: impl Fn(&[u8]) -> Option<Vec<u8>>) -> Snapshot {
    let mut objects: BTreeMap<&[u8], Vec<u8>> = BTreeMap::new();
    let mut part = Snapshot::new();
    for (found, seen) in snapshot {
        if let Some(path) = rename(found) {
            let object = objects.entry(&seen.object).or_insert_with(|| path.clone()).clone();
            part.insert(path, Seen { object, ..seen.clone() });
        }
    }
    part
}
