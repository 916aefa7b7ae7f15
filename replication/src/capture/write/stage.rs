//! The stage: a directory of our own in a root, for what is not yet, or no longer, at its name.
//!
//! It lies in the root because only there a rename is sure to be possible, has mode 0700, and a name that nobody else
//! uses. Capture passes over it as long as it is ours. Names in it are numbers, used once, so nothing in it is ever
//! replaced.

use super::{Session, Trouble, Try};
use crate::capture::CaptureError;
use crate::capture::core::Core;
use crate::ingest::random;
use crate::os_tree::{OsDir, OsTree};
use journal::{Attributes, Edge, Kind, Name, NodeId, RootNo, TreeIo};
use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;

/// Every name of a stage begins like this.
pub(crate) const STAGE_PREFIX: &str = ".rewind-stage-";
/// Entries deleted between two looks at the notifications.
const DELETED_A_STEP: usize = 512;

/// The stage of one root.
pub(super) struct Stage {
    /// Where and how it is reached.
    pub edge: Edge,
    pub tree: OsTree,
    pub top: OsDir,
    pub dir: OsDir,
    /// Distinguishes its names from those of other stages.
    tag: u64,
    next: u64,
    /// What the request under way has removed: it may take something out of it yet.
    pub removed: Vec<Name>,
    /// What was removed before, to be deleted.
    pub trash: VecDeque<Name>,
    /// It holds what must not be deleted.
    pub keep: bool,
}

/// Runs `change` and puts the modification time of a directory back.
fn keeping_time<T>(tree: &OsTree, dir: &OsDir, change: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let mtime = tree.stat_dir(dir)?.attributes.mtime;
    let done = change();
    let now = tree.stat_dir(dir)?.attributes;
    tree.set_dir_attributes(dir, &Attributes { mtime, ..now })?;
    done
}

impl Stage {
    fn open(core: &mut Core, root: RootNo) -> io::Result<Stage> {
        let Some(found) = core.root(root) else { return Err(io::ErrorKind::NotFound.into()) };
        let tree = OsTree::open_target(&found.path)?;
        let top = tree.root(RootNo(0))?;
        let (a, b) = (rustix::fs::fstat(&top)?, rustix::fs::fstat(found.fd.as_fd())?);
        if (a.st_dev, a.st_ino) != (b.st_dev, b.st_ino) {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the root is not the directory it was"));
        }
        let tag = random();
        let name = format!("{STAGE_PREFIX}{tag:016x}");
        let name = Name::new(name.as_bytes()).ok_or(io::ErrorKind::InvalidInput)?;
        let edge = Edge::new(NodeId::root(root), name.clone());
        core.hidden.insert(edge.clone());
        let made = keeping_time(&tree, &top, || {
            tree.create(&top, &name, &Kind::Directory)?;
            tree.open_dir(&top, &name)
        });
        match made {
            Ok(dir) => {
                let (removed, trash) = (Vec::new(), VecDeque::new());
                Ok(Stage { edge, tree, top, dir, tag, next: 0, removed, trash, keep: false })
            }
            Err(error) => {
                core.hidden.remove(&edge);
                Err(error)
            }
        }
    }

    /// A name that was never used.
    pub(super) fn fresh(&mut self) -> Name {
        self.next += 1;
        let name = format!("{:x}-{:x}", self.tag, self.next);
        // Digits and a dash: always a name.
        Name::new(name.as_bytes()).unwrap_or_else(|| self.edge.name.clone())
    }

    /// Whether a name was made by this stage.
    pub(super) fn owns(&self, name: &Name) -> bool {
        name.as_bytes().starts_with(format!("{:x}-", self.tag).as_bytes())
    }

    /// Deletes one thing. Directories below it are moved up first, so depth does not matter.
    pub(super) fn sweep(&mut self, core: &mut Core) -> Result<(), CaptureError> {
        let Some(name) = self.trash.pop_front() else { return Ok(()) };
        if let Err(error) = self.delete(core, &name)? {
            // Something else may be mounted there, or it was made immutable.
            tracing::warn!(%error, "cannot delete what was removed; it stays in {:?}", self.edge.name);
            self.keep = true;
        }
        Ok(())
    }

    fn delete(&mut self, core: &mut Core, name: &Name) -> Result<io::Result<()>, CaptureError> {
        let stat = match self.tree.stat(&self.dir, name) {
            Ok(Some(stat)) => stat,
            Ok(None) => return Ok(Ok(())),
            Err(error) => return Ok(Err(error)),
        };
        if !stat.kind.is_directory() {
            return Ok(self.tree.unlink(&self.dir, name));
        }
        let dir = match self.tree.open_dir(&self.dir, name) {
            Ok(dir) => dir,
            Err(error) => return Ok(Err(error)),
        };
        let names = match self.tree.list(&dir) {
            Ok(names) => names,
            Err(error) => return Ok(Err(error)),
        };
        for (number, child) in names.iter().enumerate() {
            if number % DELETED_A_STEP == DELETED_A_STEP - 1 {
                core.drain()?;
            }
            if let Err(error) = self.delete_child(&dir, child) {
                return Ok(Err(error));
            }
        }
        Ok(self.tree.remove_dir(&self.dir, name))
    }

    fn delete_child(&mut self, dir: &OsDir, child: &Name) -> io::Result<()> {
        let is_directory = self.tree.stat(dir, child)?.is_some_and(|stat| stat.kind.is_directory());
        if !is_directory {
            return self.tree.unlink(dir, child);
        }
        let up = self.fresh();
        self.tree.rename((dir, child), (&self.dir, &up))?;
        self.trash.push_back(up);
        Ok(())
    }

    /// Removes it, unless it holds something.
    pub(super) fn close(self, core: &mut Core) {
        let Stage { edge, tree, top, keep, .. } = self;
        if !keep {
            let removed = keeping_time(&tree, &top, || tree.remove_dir(&top, &edge.name));
            if let Err(error) = removed {
                tracing::warn!(%error, "cannot remove {:?}", edge.name);
            }
        }
        core.hidden.remove(&edge);
        // If it is still there it is captured like everything else.
        super::look_at(core, &edge);
    }
}

impl Session {
    /// Sees to it that a root has a stage.
    pub(super) fn open_stage(&mut self, core: &mut Core, root: RootNo) -> Try<()> {
        if self.stages.contains_key(&root) {
            return Ok(());
        }
        let path = core.root(root).map(|root| root.path.clone()).unwrap_or_default();
        let stage = Stage::open(core, root)
            .map_err(|source| Trouble::Refused(CaptureError::File { operation: "write to", path, source }))?;
        self.stages.insert(root, stage);
        Ok(())
    }
}
