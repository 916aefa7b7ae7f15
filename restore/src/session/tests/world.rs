//! A model of a session, a repository in memory that holds it, and what stands in a directory. Comparing walks
//! directories by descriptors, so that paths may be of any length.

use crate::session::{Monitor, Options, Plan, Progress, Receipt, SessionRestoreError, execute, plan};
use rustix::fs::{AtFlags, Mode, OFlags};
use secrecy::SecretString;
use snapshot::repository::{
    BlobKind, BlobWriter, Id, KeyCost, Node, NodeKind, Repository, RepositoryOptions, Timestamp, TreeBuilder,
    WriterOptions, Xattr,
};
use snapshot::store::{BlobStore, DirectoryStore, MemoryStore};
use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// An object of the model.
#[derive(Clone, Debug, Default)]
pub struct Object {
    pub node: Node,
    pub data: Vec<u8>,
    pub below: BTreeMap<Vec<u8>, Object>,
}

pub fn directory() -> Object {
    let mut object = object(NodeKind::Directory, 0o755);
    object.node.modified = Timestamp { seconds: 1_000_000_007, nanoseconds: 7 };
    object
}

pub fn object(kind: NodeKind, permissions: u32) -> Object {
    let modified = Timestamp { seconds: 1_234_567_890, nanoseconds: 123_456_789 };
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let node = Node { kind, permissions, modified, accessed: modified, uid, gid, ..Node::default() };
    Object { node, ..Object::default() }
}

pub fn file(data: &[u8]) -> Object {
    Object { data: data.to_vec(), ..object(NodeKind::File, 0o644) }
}

impl Object {
    /// Puts an object at a path, making directories.
    pub fn put(&mut self, path: &str, new: Object) -> &mut Self {
        let mut at = &mut *self;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            at = at.below.entry(name.into()).or_insert_with(directory);
        }
        *at = new;
        self
    }
}

/// One node as it stands, or as it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub kind: NodeKind,
    pub mode: u32,
    pub owner: (u32, u32),
    pub modified: Timestamp,
    pub data: Vec<u8>,
    pub link_target: Vec<u8>,
    pub device: u64,
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// The first path of the same inode.
    pub first: Vec<u8>,
}

pub type Tree = BTreeMap<Vec<u8>, Seen>;

/// What the model should come out as.
pub fn expected(top: &Object) -> Tree {
    let (mut tree, mut first) = (Tree::new(), HashMap::new());
    expect(top, Vec::new(), &mut tree, &mut first);
    tree
}

fn expect(object: &Object, path: Vec<u8>, tree: &mut Tree, first: &mut HashMap<u64, Vec<u8>>) {
    for (name, below) in &object.below {
        let path = [path.as_slice(), b"/", name].concat();
        let node = &below.node;
        let own = || path.clone();
        let first_path =
            if node.links > 1 { first.entry(node.inode).or_insert_with(own).clone() } else { own() };
        let mut xattrs: Vec<_> = node.xattrs.iter().map(|x| (x.name.clone(), x.value.clone())).collect();
        xattrs.sort();
        let seen = Seen {
            kind: node.kind,
            mode: if node.kind == NodeKind::Symlink { 0 } else { node.permissions },
            owner: (node.uid, node.gid),
            modified: node.modified,
            data: below.data.clone(),
            link_target: node.link_target.clone(),
            device: node.device,
            xattrs,
            first: first_path,
        };
        tree.insert(path.clone(), seen);
        expect(below, path, tree, first);
    }
}

/// What stands in a directory.
pub fn look(top: &Path) -> Tree {
    let (mut tree, mut first) = (Tree::new(), HashMap::new());
    let fd = rustix::fs::open(top, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
    look_in(&fd, Vec::new(), &mut tree, &mut first);
    tree
}

fn look_in(dir: &OwnedFd, path: Vec<u8>, tree: &mut Tree, first: &mut HashMap<u64, Vec<u8>>) {
    let mut names: Vec<Vec<u8>> = rustix::fs::Dir::read_from(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_bytes().to_vec())
        .filter(|name| name != b"." && name != b"..")
        .collect();
    names.sort();
    for name in names {
        let path = [path.as_slice(), b"/", &name].concat();
        let found = crate::session::target::stat_at(std::os::fd::AsFd::as_fd(dir), &name).unwrap().unwrap();
        let flags = OFlags::NOFOLLOW | OFlags::PATH;
        let pinned = rustix::fs::openat(dir, name.as_slice(), flags, Mode::empty()).unwrap();
        let magic = format!("/proc/self/fd/{}", pinned.as_raw_fd());
        let is_file = found.kind == NodeKind::File;
        let link = found.kind == NodeKind::Symlink;
        let seen = Seen {
            kind: found.kind,
            mode: if link { 0 } else { found.mode },
            owner: (found.uid, found.gid),
            modified: found.modified,
            data: if is_file { std::fs::read(&magic).unwrap() } else { Vec::new() },
            link_target: match link {
                true => rustix::fs::readlinkat(&pinned, "", Vec::new()).unwrap().into_bytes(),
                false => Vec::new(),
            },
            device: found.device,
            xattrs: xattrs(&magic),
            first: first.entry(found.identity.1).or_insert_with(|| path.clone()).clone(),
        };
        tree.insert(path.clone(), seen);
        if found.kind == NodeKind::Directory {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
            let below = rustix::fs::openat(dir, name.as_slice(), flags, Mode::empty()).unwrap();
            look_in(&below, path, tree, first);
        }
    }
}

fn xattrs(path: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut list = vec![0; 65536];
    let Ok(bytes) = rustix::fs::listxattr(path, &mut list[..]) else { return Vec::new() };
    let names = list[..bytes].split(|b| *b == 0).filter(|n| !n.is_empty() && !n.starts_with(b"security."));
    let mut all: Vec<_> = names
        .map(|name| {
            let mut value = vec![0; 65536];
            let bytes = rustix::fs::getxattr(path, name, &mut value[..]).unwrap();
            (name.to_vec(), value[..bytes].to_vec())
        })
        .collect();
    all.sort();
    all
}

/// Fails with the first difference, not with both trees.
pub fn assert_same(found: &Tree, wanted: &Tree) {
    let short = |path: &[u8]| String::from_utf8_lossy(&path[..path.len().min(80)]).into_owned();
    for (path, seen) in wanted {
        let Some(here) = found.get(path) else { panic!("{} is missing", short(path)) };
        let strip = |seen: &Seen| Seen { data: Vec::new(), ..seen.clone() };
        assert_eq!(strip(here), strip(seen), "{}", short(path));
        assert!(here.data == seen.data, "bytes of {}", short(path));
    }
    let more: Vec<_> =
        found.keys().filter(|path| !wanted.contains_key(*path)).map(|path| short(path)).collect();
    assert!(more.is_empty(), "not wanted: {more:?}");
}

pub struct World {
    pub store: Arc<MemoryStore>,
    pub repository: Arc<Repository>,
    /// Packs are small, so that there are many.
    pub pack_bytes: usize,
}

fn quick() -> RepositoryOptions {
    RepositoryOptions { key_cost: KeyCost { log_n: 4, r: 8, p: 1 }, ..RepositoryOptions::default() }
}

fn password() -> SecretString {
    SecretString::from("secret".to_owned())
}

impl World {
    pub fn new() -> Self {
        let store = Arc::new(MemoryStore::new());
        let repository = Repository::init(Arc::clone(&store) as _, &password(), quick()).unwrap();
        World { store, repository: Arc::new(repository), pack_bytes: 200_000 }
    }

    /// A repository in a directory, for another process to open.
    pub fn in_directory(path: &Path) -> Self {
        let store = Arc::new(DirectoryStore::create(path).unwrap());
        let repository = Repository::init(store, &password(), quick()).unwrap();
        World { store: Arc::default(), repository: Arc::new(repository), pack_bytes: 200_000 }
    }

    /// The same objects, read anew.
    pub fn reopen(&self) -> Repository {
        open_store(self.store.clone())
    }

    /// Stores the model; its nodes then are as stored.
    pub fn save(&self, top: &mut Object, cut: &mut dyn FnMut() -> usize) -> Id {
        let options = WriterOptions { pack_bytes: self.pack_bytes, uploads: 1 };
        let writer = BlobWriter::new(Arc::clone(&self.repository), options).unwrap();
        let tree = save_tree(&writer, top, cut);
        writer.flush().unwrap();
        tree
    }
}

/// Opens what [`World::in_directory`] made.
pub fn open_directory(path: &Path) -> Repository {
    open_store(Arc::new(DirectoryStore::open(path).unwrap()))
}

/// Opens a repository of these tests.
pub fn open_store(store: Arc<dyn BlobStore>) -> Repository {
    Repository::open_with(store, &password(), quick()).unwrap()
}

fn save_tree(writer: &BlobWriter, dir: &mut Object, cut: &mut dyn FnMut() -> usize) -> Id {
    let mut tree = TreeBuilder::new();
    for (name, object) in &mut dir.below {
        object.node.name = name.clone();
        if object.node.kind == NodeKind::Directory {
            object.node.subtree = Some(save_tree(writer, object, cut));
        } else if object.node.kind == NodeKind::File {
            object.node.size = object.data.len() as u64;
            object.node.content.clear();
            let mut rest = object.data.as_slice();
            while !rest.is_empty() {
                // Names of one file are cut in the same way.
                let length = if object.node.links > 1 { 5000 } else { cut() };
                let (chunk, after) = rest.split_at(length.clamp(1, rest.len()));
                object.node.content.push(writer.save_blob(BlobKind::Data, chunk).unwrap().id);
                rest = after;
            }
        }
        tree.add(&object.node).unwrap();
    }
    writer.save_blob(BlobKind::Tree, tree.finish()).unwrap().id
}

/// Plans and executes.
pub fn restore(
    repository: &Repository,
    tree: Id,
    paths: &[&str],
    target: &Path,
    options: Options,
) -> Result<Receipt, SessionRestoreError> {
    let nobody = crate::NoMonitor;
    execute(&planned(repository, tree, paths, target, options)?, &nobody)
}

pub fn planned<'r>(
    repository: &'r Repository,
    tree: Id,
    paths: &[&str],
    target: &Path,
    options: Options,
) -> Result<Plan<'r>, SessionRestoreError> {
    let paths: Vec<Vec<u8>> = paths.iter().map(|path| path.as_bytes().to_vec()).collect();
    plan(repository, tree, &paths, target, options, &crate::NoMonitor)
}

/// Cancels when it was asked so many times.
pub struct After(pub AtomicU64);

impl Monitor for After {
    fn progress(&self, _: Progress) {}

    fn cancelled(&self) -> bool {
        let left = self.0.load(Ordering::SeqCst);
        self.0.store(left.saturating_sub(1), Ordering::SeqCst);
        left == 0
    }
}

/// A small generator (xorshift64*).
pub struct Random(pub u64);

impl Random {
    pub fn from_clock(test: &str) -> Self {
        let seed = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64 | 1;
        let seed = std::env::var("SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(seed);
        println!("{test}: seed {seed} (set SEED to repeat)");
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..length.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).collect();
        bytes.truncate(length);
        bytes
    }

    /// A name of any bytes, mostly short, sometimes as long as can be.
    fn name(&mut self) -> Vec<u8> {
        let length = if self.below(12) == 0 { 255 } else { 1 + self.below(12) as usize };
        let mut name = self.bytes(length);
        name.iter_mut().filter(|byte| matches!(**byte, 0 | b'/' | b'.')).for_each(|byte| *byte = b'x');
        name
    }

    fn data(&mut self) -> Vec<u8> {
        let mut data = Vec::new();
        for _ in 0..self.below(5) {
            let magnitude = 6 + self.below(12);
            let length = self.below(1 << magnitude) as usize;
            match self.below(3) {
                0 => data.resize(data.len() + length, 0),
                _ => data.extend(self.bytes(length)),
            }
        }
        data
    }

    /// A random directory. `files` collects those that may get further names.
    pub fn tree(&mut self, depth: u64, files: &mut Vec<Object>, special: &Special) -> Object {
        let mut dir = directory();
        self.attributes(&mut dir, special);
        for _ in 0..self.below(9) {
            let mut below = match self.below(10) {
                0..4 if depth > 0 => self.tree(depth - 1, files, special),
                0..6 => Object { data: self.data(), ..object(NodeKind::File, 0o644) },
                6 => {
                    let mut link = object(NodeKind::Symlink, 0o777);
                    link.node.link_target = self.name();
                    link
                }
                7 => object(NodeKind::Fifo, 0o600),
                8 => object(NodeKind::Socket, 0o700),
                _ if special.devices => {
                    let kind = [NodeKind::CharacterDevice, NodeKind::BlockDevice][self.below(2) as usize];
                    let mut device = object(kind, 0o600);
                    device.node.device =
                        rustix::fs::makedev(1 + self.below(200) as u32, self.below(200) as u32);
                    device
                }
                _ => file(b"instead of a device"),
            };
            if below.node.kind != NodeKind::Directory {
                self.attributes(&mut below, special);
                if self.below(6) == 0 && !files.is_empty() {
                    below = files[self.below(files.len() as u64) as usize].clone();
                } else if self.below(4) == 0 {
                    (below.node.inode, below.node.device_id, below.node.links) = (self.next(), 77, 1000);
                    files.push(below.clone());
                }
            }
            dir.below.insert(self.name(), below);
        }
        dir
    }

    fn attributes(&mut self, object: &mut Object, special: &Special) {
        let node = &mut object.node;
        node.modified = Timestamp {
            seconds: self.below(4_000_000_000) as i64,
            nanoseconds: self.below(1_000_000_000) as u32,
        };
        node.accessed = node.modified;
        let link = node.kind == NodeKind::Symlink;
        if special.root {
            (node.uid, node.gid) = (self.below(3) as u32 * 1000, self.below(3) as u32 * 1000);
            node.permissions = if link { 0o777 } else { self.below(0o10000) as u32 };
        } else if !link {
            node.permissions |= self.below(0o100) as u32;
        }
        let plain = matches!(node.kind, NodeKind::File | NodeKind::Directory);
        if plain && special.xattrs && self.below(3) == 0 {
            let value = self.bytes(20);
            node.xattrs.push(Xattr { name: b"user.something".to_vec(), value });
        }
    }
}

/// What the machine lets us make.
pub struct Special {
    pub root: bool,
    pub devices: bool,
    pub xattrs: bool,
}

impl Special {
    pub fn of(directory: &Path) -> Self {
        let root = rustix::process::geteuid().is_root();
        let probe = directory.join("probe");
        let (kind, mode) = (rustix::fs::FileType::CharacterDevice, Mode::RUSR);
        let devices =
            rustix::fs::mknodat(rustix::fs::CWD, &probe, kind, mode, rustix::fs::makedev(200, 3)).is_ok();
        let _ = std::fs::remove_file(&probe);
        std::fs::write(&probe, b"").unwrap();
        let flags = rustix::fs::XattrFlags::empty();
        let xattrs = rustix::fs::setxattr(&probe, "user.x", b"1", flags).is_ok();
        std::fs::remove_file(&probe).unwrap();
        println!("root: {root}, devices: {devices}, extended attributes: {xattrs}");
        Special { root, devices, xattrs }
    }
}

/// Sets the modification time of what stands at a path.
pub fn touch(path: &Path, time: rustix::fs::Timespec) {
    let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(rustix::fs::CWD, path.as_os_str().as_bytes(), &times, AtFlags::SYMLINK_NOFOLLOW)
        .unwrap();
}
