//! A tree that was there becomes the journal's first point, and is not touched by it.

use super::{AdoptError, Adopted, adopt};
use crate::os_tree::OsTree;
use crate::replica::{Replica, ReplicaOptions};
use journal::controls::Synchronized;
use journal::journal::{Journal, Opened, SystemClock, TablesFactory};
use journal::log::LogOptions;
use journal::tables::MemoryTables;
use journal::{JournalError, Kind, Lsn, NodeId, OsDisk, RootNo, Tables};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

struct Memory;

impl TablesFactory for Memory {
    fn tables(&self, _fresh: bool) -> Result<Arc<dyn Tables>, JournalError> {
        Ok(Arc::new(MemoryTables::default()))
    }
}

struct Place {
    temporary: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let temporary = tempfile::tempdir().unwrap();
        fs::create_dir(temporary.path().join("root")).unwrap();
        Place { temporary }
    }

    fn root(&self) -> PathBuf {
        self.temporary.path().join("root")
    }

    fn tree(&self) -> Arc<OsTree> {
        Arc::new(OsTree::open(vec![self.root()]).unwrap())
    }

    fn journal(&self) -> Opened {
        let directory = self.temporary.path().join("journal");
        let clock = Arc::new(SystemClock);
        Journal::open(Arc::new(OsDisk), &directory, LogOptions::default(), &Memory, clock).unwrap()
    }

    fn adopt(&self) -> Result<Adopted, AdoptError> {
        adopt(&self.journal().journal, &*self.tree(), 1, &mut |_| true)
    }
}

/// Mode, size, modification time, inode, bytes or target; by path.
type Listing = BTreeMap<Vec<u8>, (u32, u64, i64, i64, u64, Vec<u8>)>;

/// Everything the kernel says of a tree.
fn listing(root: &Path) -> Listing {
    fn walk(at: &Path, root: &Path, all: &mut Listing) {
        let meta = fs::symlink_metadata(at).unwrap();
        let bytes = if meta.is_file() {
            fs::read(at).unwrap()
        } else if meta.is_symlink() {
            fs::read_link(at).unwrap().as_os_str().as_bytes().to_vec()
        } else {
            Vec::new()
        };
        let size = if meta.is_file() { meta.size() } else { 0 };
        let path = at.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec();
        all.insert(path, (meta.mode(), size, meta.mtime(), meta.mtime_nsec(), meta.ino(), bytes));
        if meta.is_dir() {
            for entry in fs::read_dir(at).unwrap() {
                walk(&entry.unwrap().path(), root, all);
            }
        }
    }
    let mut all = BTreeMap::new();
    walk(root, root, &mut all);
    all
}

fn grow(root: &Path) {
    fs::create_dir_all(root.join("a/b/c")).unwrap();
    fs::create_dir(root.join("empty")).unwrap();
    fs::write(root.join("a/one"), b"one").unwrap();
    fs::write(root.join("a/b/nothing"), b"").unwrap();
    fs::write(root.join("a/b/large"), vec![7; 3 << 20]).unwrap();
    fs::hard_link(root.join("a/one"), root.join("a/b/c/one again")).unwrap();
    fs::write(root.join(OsStr::from_bytes(&[b'n'; 255])), b"long").unwrap();
    fs::write(root.join(OsStr::from_bytes(b"\xff\xfe\n")), b"no text").unwrap();
    std::os::unix::fs::symlink("nowhere/at/all", root.join("dangling")).unwrap();
    drop(std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap());
    let sparse = fs::File::create(root.join("sparse")).unwrap();
    sparse.set_len(5 << 30).unwrap();
    drop(sparse);
    fs::remove_file(root.join("sparse")).unwrap();
}

/// Compares what a view shows with the tree as it was found.
fn compare(replica: &Arc<Replica<OsTree>>, lsn: Lsn, found: &Listing) {
    let view = replica.view(lsn).unwrap();
    let mut left = found.clone();
    let mut inodes: BTreeMap<u64, NodeId> = BTreeMap::new();
    let mut queue = vec![(Vec::new(), NodeId::root(RootNo(0)))];
    while let Some((path, node)) = queue.pop() {
        let (mode, size, seconds, nanoseconds, inode, bytes) = left.remove(&path).unwrap();
        let meta = view.meta(node).unwrap().unwrap();
        assert_eq!(meta.attributes.mode, mode & 0o7777, "{path:?}");
        assert_eq!(meta.size, size, "{path:?}");
        assert_eq!(meta.attributes.mtime.0, seconds * 1_000_000_000 + nanoseconds, "{path:?}");
        if !path.is_empty() {
            assert_eq!(
                *inodes.entry(inode).or_insert(node),
                node,
                "names of one inode are names of one node"
            );
        }
        match meta.kind {
            Kind::File => assert!(view.open(node).unwrap().read_all().unwrap() == bytes, "{path:?}"),
            Kind::Symlink(target) => assert_eq!(target, bytes),
            Kind::Directory => {
                for entry in view.list(node) {
                    let (name, child) = entry.unwrap();
                    let separator = if path.is_empty() { &b""[..] } else { b"/" };
                    queue.push(([&path[..], separator, name.as_bytes()].concat(), child));
                }
            }
            kind => assert!(matches!(kind, Kind::Socket | Kind::Fifo), "{kind:?}"),
        }
    }
    assert!(left.is_empty(), "not in the view: {:?}", left.keys());
}

#[test]
fn a_tree_becomes_the_first_point() {
    let place = Place::new();
    grow(&place.root());
    let found = listing(&place.root());
    let adopted = place.adopt().unwrap();
    assert_eq!((adopted.files, adopted.directories, adopted.skipped), (7, 5, 0));
    assert_eq!(listing(&place.root()), found, "adoption changes nothing");
    let opened = place.journal();
    assert_eq!((opened.cursor, opened.published), (adopted.lsn, adopted.lsn), "nothing is left to reconcile");
    assert_eq!(opened.journal.synchronized(), Synchronized::Completed);
    assert_eq!(opened.journal.window(), (adopted.lsn, adopted.lsn));
    let next = opened.journal.with_controls(|controls| controls.next_node());
    assert_eq!(next, NodeId(NodeId::FIRST_FREE.0 + 11));
    let replica = Replica::start(opened, place.tree(), ReplicaOptions::default()).unwrap();
    compare(&replica, adopted.lsn, &found);
    assert_eq!(listing(&place.root()), found);
    replica.stop(std::time::Duration::from_secs(1));
}

#[test]
fn deeper_than_directories_are_held_open() {
    let place = Place::new();
    let mut at = place.root();
    let mut expected = 1;
    for depth in 0..300 {
        at.push("d");
        fs::create_dir(&at).unwrap();
        expected += 1;
        if depth % 50 == 0 {
            // Found after the way down, or before it: the order of a directory is its own.
            fs::create_dir(at.join("y")).unwrap();
            fs::create_dir(at.join("a")).unwrap();
            fs::write(at.join("a/f"), b"f").unwrap();
            expected += 2;
        }
    }
    let found = listing(&place.root());
    let adopted = place.adopt().unwrap();
    assert_eq!((adopted.files, adopted.directories), (6, expected));
    let replica = Replica::start(place.journal(), place.tree(), ReplicaOptions::default()).unwrap();
    compare(&replica, adopted.lsn, &found);
    replica.stop(std::time::Duration::from_secs(1));
}

#[test]
fn many_files_take_many_captures_and_can_be_cancelled() {
    let place = Place::new();
    for number in 0..2000 {
        fs::write(place.root().join(format!("{number}")), format!("{number}")).unwrap();
    }
    let mut told = 0;
    let cancelled = adopt(&place.journal().journal, &*place.tree(), 1, &mut |objects| {
        told = objects;
        objects < 1000
    });
    assert!(matches!(cancelled, Err(AdoptError::Cancelled)), "{cancelled:?}");
    assert_eq!(told, 1024);
    // The thread that prepares segments may still be about to end.
    let journal = place.temporary.path().join("journal");
    let removed = (0..500).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        fs::remove_dir_all(&journal).is_ok()
    });
    assert!(removed);
    let adopted = place.adopt().unwrap();
    assert_eq!(adopted.files, 2000);
    assert!(adopted.lsn > Lsn::captured(8), "{}", adopted.lsn);
    let replica = Replica::start(place.journal(), place.tree(), ReplicaOptions::default()).unwrap();
    compare(&replica, adopted.lsn, &listing(&place.root()));
    replica.stop(std::time::Duration::from_secs(1));
}

#[test]
fn what_is_not_new_is_refused() {
    let place = Place::new();
    fs::write(place.root().join("f"), b"f").unwrap();
    place.adopt().unwrap();
    let again = place.adopt();
    assert!(matches!(again, Err(AdoptError::Journal(JournalError::Inconsistent { .. }))), "{again:?}");

    let place = Place::new();
    fs::create_dir_all(place.temporary.path().join(".root.rewind/kept/1000")).unwrap();
    let kept = place.adopt();
    assert!(matches!(kept, Err(AdoptError::Kept { root: 0 })), "{kept:?}");

    // What a scrub put aside outlives its scenario, and is in nobody's way.
    let place = Place::new();
    let aside = place.temporary.path().join(".root.rewind/kept/strange/1/f");
    fs::create_dir_all(aside.parent().unwrap()).unwrap();
    fs::write(&aside, b"f").unwrap();
    place.adopt().unwrap();
    assert_eq!(fs::read(&aside).unwrap(), b"f");
}
