//! The tree of a bench: a real one, with calls that fail when a test says so.

use crate::os_tree::{OsDir, OsFile, OsTree};
use journal::{Attributes, Kind, Name, RootNo, TreeIo, TreeStat, Xattrs};
use parking_lot::Mutex;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

/// What may fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// Giving something another name.
    Rename,
    /// Setting the attributes of an open directory.
    DirAttributes,
    /// Making everything durable.
    Sync,
}

/// Whether a call fails.
type Fails = Box<dyn FnMut(Call) -> bool + Send>;

pub(super) struct Faulty {
    tree: OsTree,
    fails: Mutex<Option<Fails>>,
    syncs: AtomicU64,
}

impl Faulty {
    pub(super) fn new(tree: OsTree) -> Self {
        Faulty { tree, fails: Mutex::default(), syncs: AtomicU64::new(0) }
    }

    /// From now on calls fail of which this says so, with an I/O error and without an effect.
    pub(super) fn fail(&self, fails: impl FnMut(Call) -> bool + Send + 'static) {
        *self.fails.lock() = Some(Box::new(fails));
    }

    /// How often it was to be made durable.
    pub(super) fn syncs(&self) -> u64 {
        self.syncs.load(Ordering::SeqCst)
    }

    fn admit(&self, call: Call) -> io::Result<()> {
        const IO: i32 = 5;
        let fails = self.fails.lock().as_mut().is_some_and(|fails| fails(call));
        if fails { Err(io::Error::from_raw_os_error(IO)) } else { Ok(()) }
    }
}

impl TreeIo for Faulty {
    type Dir = OsDir;
    type File = OsFile;

    fn root(&self, root: RootNo) -> io::Result<OsDir> {
        self.tree.root(root)
    }

    fn kept(&self, root: RootNo) -> io::Result<OsDir> {
        self.tree.kept(root)
    }

    fn open_dir(&self, dir: &OsDir, name: &Name) -> io::Result<OsDir> {
        self.tree.open_dir(dir, name)
    }

    fn list(&self, dir: &OsDir) -> io::Result<Vec<Name>> {
        self.tree.list(dir)
    }

    fn stat(&self, dir: &OsDir, name: &Name) -> io::Result<Option<TreeStat>> {
        self.tree.stat(dir, name)
    }

    fn stat_dir(&self, dir: &OsDir) -> io::Result<TreeStat> {
        self.tree.stat_dir(dir)
    }

    fn open_file(&self, dir: &OsDir, name: &Name, write: bool) -> io::Result<OsFile> {
        self.tree.open_file(dir, name, write)
    }

    fn create(&self, dir: &OsDir, name: &Name, kind: &Kind) -> io::Result<TreeStat> {
        self.tree.create(dir, name, kind)
    }

    fn create_file(&self, dir: &OsDir, name: &Name) -> io::Result<OsFile> {
        self.tree.create_file(dir, name)
    }

    fn link(&self, from: (&OsDir, &Name), to: (&OsDir, &Name)) -> io::Result<()> {
        self.tree.link(from, to)
    }

    fn rename(&self, from: (&OsDir, &Name), to: (&OsDir, &Name)) -> io::Result<()> {
        self.admit(Call::Rename)?;
        self.tree.rename(from, to)
    }

    fn unlink(&self, dir: &OsDir, name: &Name) -> io::Result<()> {
        self.tree.unlink(dir, name)
    }

    fn remove_dir(&self, dir: &OsDir, name: &Name) -> io::Result<()> {
        self.tree.remove_dir(dir, name)
    }

    fn set_attributes(&self, dir: &OsDir, name: &Name, to: &Attributes, kind: &Kind) -> io::Result<()> {
        self.tree.set_attributes(dir, name, to, kind)
    }

    fn set_dir_attributes(&self, dir: &OsDir, attributes: &Attributes) -> io::Result<()> {
        self.admit(Call::DirAttributes)?;
        self.tree.set_dir_attributes(dir, attributes)
    }

    fn set_xattrs(&self, dir: &OsDir, name: &Name, kind: &Kind, xattrs: &Xattrs) -> io::Result<()> {
        self.tree.set_xattrs(dir, name, kind, xattrs)
    }

    fn set_dir_xattrs(&self, dir: &OsDir, xattrs: &Xattrs) -> io::Result<()> {
        self.tree.set_dir_xattrs(dir, xattrs)
    }

    fn xattrs(&self, dir: &OsDir, name: &Name, kind: &Kind) -> io::Result<Xattrs> {
        self.tree.xattrs(dir, name, kind)
    }

    fn dir_xattrs(&self, dir: &OsDir) -> io::Result<Xattrs> {
        self.tree.dir_xattrs(dir)
    }

    fn sync(&self) -> io::Result<()> {
        self.syncs.fetch_add(1, Ordering::SeqCst);
        self.admit(Call::Sync)?;
        self.tree.sync()
    }

    fn free_bytes(&self, root: RootNo) -> io::Result<u64> {
        self.tree.free_bytes(root)
    }
}
