//! Is what stands at a name what the stream says?

use super::{Made, Session, Trouble, Try, is_new, look_at, refused};
use crate::capture::core::Core;
use crate::capture::facts::Facts;
use crate::capture::look::{Look, Sort};
use crate::capture::node::{Found, Place};
use crate::os_tree::OsDir;
use journal::{Edge, Name, NodeId, RootNo, TreeIo};
use rustix::io::Errno;
use std::os::fd::AsFd;

/// Entries compared between two looks at the notifications.
const COMPARED_A_STEP: usize = 256;
/// Deeper directories of a removed tree are opened from its top again, lest there be too many descriptors.
const DEPTH_OPEN_MAX: usize = 100;

fn moved<T>(core: &mut Core, edge: &Edge) -> Try<T> {
    look_at(core, edge);
    Err(Trouble::Moved)
}

/// Where the index has a directory.
fn indexed(core: &Core, node: NodeId) -> Try<Option<(Edge, u64)>> {
    if node.as_root_or_kept().is_some() {
        return Ok(None);
    }
    let names = core.index.names_of(node)?;
    let edge = names.into_iter().find(|edge| !edge.parent.is_kept_area());
    Ok(edge.zip(core.index.row(node)?.map(|row| row.origin.inode)))
}

impl Session {
    /// Opens a directory of the tree, wherever this request has put it.
    pub(super) fn directory(&mut self, core: &mut Core, root: RootNo, node: NodeId) -> Try<OsDir> {
        let mut chain: Vec<(NodeId, Edge, u64)> = Vec::new();
        let mut at = node;
        let mut dir = loop {
            if let Some(dir) = self.directories.get(&at) {
                break dir.clone();
            }
            if let Some(name) = self.lifted.get(&at).or_else(|| self.parked.get(&at)) {
                let stage = self.stage(root)?;
                let opened = stage.tree.open_dir(&stage.dir, name);
                break opened.map_err(|_| Trouble::Moved)?;
            }
            if is_new(at) && !self.made.contains_key(&at) {
                // It could not be made, so nothing can be in it.
                return Err(Trouble::Unkept(Errno::NOENT));
            }
            let above = match self.made.get(&at) {
                Some(Made { edge, inode, .. }) => Some((edge.clone(), *inode)),
                // It may lie in one that lies in the stage.
                None if !self.lifted.is_empty() || !self.parked.is_empty() => indexed(core, at)?,
                None => None,
            };
            let Some((edge, inode)) = above else { break self.known_directory(core, at)? };
            let parent = edge.parent;
            chain.push((at, edge, inode));
            at = parent;
        };
        if self.directories.len() >= super::OPEN_MAX {
            self.directories.clear();
        }
        self.directories.insert(at, dir.clone());
        while let Some((node, edge, inode)) = chain.pop() {
            let tree = &self.stage(root)?.tree;
            dir = tree.open_dir(&dir, &edge.name).map_err(|_| Trouble::Moved)?;
            let stat = tree.stat_dir(&dir).map_err(|error| refused(core, "look at", &edge, error))?;
            if stat.inode != inode {
                return Err(Trouble::Moved);
            }
            self.directories.insert(node, dir.clone());
        }
        Ok(dir)
    }

    fn known_directory(&mut self, core: &mut Core, node: NodeId) -> Try<OsDir> {
        match core.directory(&Facts::default(), node)? {
            Place::Open(fd) => {
                let fd = fd
                    .try_clone()
                    .map_err(|source| refused(core, "open the directory", &super::own(node), source))?;
                Ok(OsDir::new(fd))
            }
            Place::Gone(Some(edge)) => moved(core, &edge),
            Place::Gone(None) => Err(Trouble::Moved),
            Place::Denied(edge, errno) => Err(refused(core, "open", &edge, errno.into())),
        }
    }

    /// What stands at a name, if it is this node.
    pub(super) fn standing(&mut self, core: &mut Core, edge: &Edge, node: NodeId, dir: &OsDir) -> Try<Look> {
        let row = match core.index.row(node)? {
            Some(row) if core.index.child(edge)? == Some(node) => row,
            _ => return moved(core, edge),
        };
        match core.identify(dir.fd(), row.root, &edge.name) {
            Ok(Found::Node(look, origin)) if origin == row.origin => Ok(look),
            Ok(_) => moved(core, edge),
            Err(errno) => Err(refused(core, "look at", edge, errno.into())),
        }
    }

    /// Whether the stream has what a look shows, bytes and all. Directories are asked for their entries elsewhere.
    pub(super) fn known(&mut self, core: &mut Core, edge: &Edge, node: NodeId, look: &Look) -> Try<()> {
        let Some(row) = core.index.row(node)? else { return moved(core, edge) };
        if core.is_mount(row.root, look) {
            return Err(Trouble::Unkept(Errno::BUSY));
        }
        if row.content_unknown() || core.has_skip(edge)? {
            return Err(Trouble::Unkept(Errno::ACCESS));
        }
        if look.sort != Sort::Directory && (!row.same_as(look) || core.hints.is_written(edge)) {
            return moved(core, edge);
        }
        Ok(())
    }

    /// One name of a node that stands there, its directory, and what it looks like.
    pub(super) fn find(&mut self, core: &mut Core, root: RootNo, node: NodeId) -> Try<(Edge, OsDir, Look)> {
        let names = core.index.names_of(node)?;
        let mut trouble = Trouble::Moved;
        for edge in names.into_iter().filter(|edge| !edge.parent.is_kept_area()) {
            let found = self
                .directory(core, root, edge.parent)
                .and_then(|dir| self.standing(core, &edge, node, &dir).map(|look| (dir, look)));
            match found {
                Ok((dir, look)) => return Ok((edge, dir, look)),
                Err(other) => trouble = other,
            }
        }
        Err(trouble)
    }

    /// After something was moved into the stage: what was done to it until then shows now. `before` is what it looked
    /// like when it was compared with the stream.
    pub(super) fn still_known(
        &mut self,
        core: &mut Core,
        root: RootNo,
        edge: &Edge,
        node: NodeId,
        before: &Look,
        staged: &Name,
    ) -> Try<()> {
        self.drain(core)?;
        let stage = self.stage(root)?;
        let dir = stage.dir.clone();
        let look = match crate::capture::look::look_at(dir.as_fd(), staged) {
            Ok(Some(look)) => look,
            Ok(None) => return moved(core, edge),
            Err(errno) => return Err(refused(core, "look at", edge, errno.into())),
        };
        // Moving it changed its change time, nothing else.
        let (mut a, mut b) = (before.attributes, look.attributes);
        (a.ctime, b.ctime) = Default::default();
        if look.inode != before.inode || look.sort != before.sort {
            return moved(core, edge);
        }
        if look.sort == Sort::Directory {
            return self.tree_known(core, root, node, staged);
        }
        if look.size != before.size || a != b || core.hints.is_written(edge) {
            return moved(core, edge);
        }
        Ok(())
    }

    /// Whether the stream has everything below a directory that was moved into the stage.
    fn tree_known(&mut self, core: &mut Core, root: RootNo, top: NodeId, staged: &Name) -> Try<()> {
        let mut rest: Vec<(NodeId, Vec<Name>, Option<OsDir>)> = vec![(top, vec![staged.clone()], None)];
        let mut count = 0;
        while let Some((node, path, above)) = rest.pop() {
            let dir = self.open_staged(root, &path, above)?;
            let names = self.stage(root)?.tree.list(&dir);
            let names = names.map_err(|error| refused(core, "list", &super::own(node), error))?;
            for name in names {
                count += 1;
                if count % COMPARED_A_STEP == 0 {
                    self.drain(core)?;
                }
                let edge = Edge::new(node, name);
                let Some(child) = core.index.child(&edge)? else {
                    let excluded = core.is_excluded(&Facts::default(), root, &edge)?;
                    return if excluded { Err(Trouble::Unkept(Errno::NOTEMPTY)) } else { moved(core, &edge) };
                };
                let look = self.standing(core, &edge, child, &dir)?;
                self.known(core, &edge, child, &look)?;
                if look.sort == Sort::Directory {
                    let mut path = path.clone();
                    let above = (path.len() < DEPTH_OPEN_MAX).then(|| dir.clone());
                    path.push(edge.name);
                    rest.push((child, path, above));
                }
            }
        }
        Ok(())
    }

    fn open_staged(&self, root: RootNo, path: &[Name], above: Option<OsDir>) -> Try<OsDir> {
        let stage = self.stage(root)?;
        if let (Some(above), Some(last)) = (&above, path.last()) {
            return stage.tree.open_dir(above, last).map_err(|_| Trouble::Moved);
        }
        let mut dir = stage.dir.clone();
        for name in path {
            dir = stage.tree.open_dir(&dir, name).map_err(|_| Trouble::Moved)?;
        }
        Ok(dir)
    }
}
