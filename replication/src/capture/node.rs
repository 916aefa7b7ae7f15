//! Finding nodes and directories: from an id to an open directory, from an inode to an id, from a name to a path.
//!
//! A directory is opened from its root down, one component at a time, never following a link, and what was opened is
//! checked by its inode: a path that is outdated leads to "not there", never to another directory. Descriptors are
//! cached by id; a cached one is the same inode wherever it moved to.

use super::CaptureError;
use super::core::Core;
use super::facts::{Facts, Seen};
use super::look::{Call, DIRECTORY, Look, Sort, fail, link_target, look_at, look_open, origin_of};
use super::roots::Root;
use journal::{Edge, Name, NodeId, Origin, RootNo};
use rustix::fs::Mode;
use rustix::io::Errno;
use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

/// Where a directory is.
pub(super) enum Place {
    Open(Rc<OwnedFd>),
    /// Not where it was; the name that leads nowhere, if there is one that could be looked at.
    Gone(Option<Edge>),
    /// A directory on the way may not be searched.
    Denied(Edge, Errno),
}

/// What stands at a name.
pub(super) enum Found {
    Node(Look, Origin),
    Nothing,
    /// It changes hands all the time: which inode it is could not be made out.
    Restless,
}

/// Open directories by id, a few.
#[derive(Default)]
pub(super) struct Directories {
    open: HashMap<NodeId, Rc<OwnedFd>>,
}

const OPEN_MAX: usize = 128;

impl Directories {
    fn get(&self, node: NodeId) -> Option<Rc<OwnedFd>> {
        self.open.get(&node).cloned()
    }

    fn insert(&mut self, node: NodeId, fd: Rc<OwnedFd>) {
        if self.open.len() >= OPEN_MAX {
            self.open.clear();
        }
        self.open.insert(node, fd);
    }

    /// Closes all: something was removed, or nothing happens and nobody's directory should be kept in use.
    pub(super) fn clear(&mut self) {
        self.open.clear();
    }
}

impl Core {
    pub(super) fn root(&self, number: RootNo) -> Option<&Root> {
        self.roots.iter().find(|root| root.number == number)
    }

    /// The root a node belongs to.
    pub(super) fn root_of(&self, facts: &Facts, node: NodeId) -> Result<Option<RootNo>, CaptureError> {
        if let Some(root) = node.as_root_or_kept() {
            return Ok(Some(root));
        }
        if let Some(fact) = facts.nodes.get(&node) {
            return Ok(Some(fact.root));
        }
        Ok(self.index.row(node)?.map(|row| row.root))
    }

    /// Opens a directory where the picture, else the index, says it is.
    pub(super) fn directory(&mut self, facts: &Facts, node: NodeId) -> Result<Place, CaptureError> {
        let mut chain: Vec<(NodeId, Edge)> = Vec::new();
        let mut at = node;
        let mut fd = loop {
            if let Some(fd) = self.directories.get(at) {
                break fd;
            }
            if let Some(number) = at.as_root_or_kept() {
                match self.root(number) {
                    Some(root) if !root.lost && !at.is_kept_area() => break Rc::clone(&root.fd),
                    _ => return Ok(Place::Gone(None)),
                }
            }
            let edge = match facts.place(at) {
                Some(edge) => edge.clone(),
                None => match self.index.names_of(at)?.into_iter().next() {
                    Some(edge) if !edge.parent.is_kept_area() => edge,
                    _ => return Ok(Place::Gone(None)),
                },
            };
            match facts.seen.get(&edge) {
                Some(Seen::Absent) => return Ok(Place::Gone(Some(edge))),
                Some(Seen::There(other)) if *other != at => return Ok(Place::Gone(Some(edge))),
                _ => {}
            }
            let parent = edge.parent;
            chain.push((at, edge));
            at = parent;
        };
        while let Some((node, edge)) = chain.pop() {
            let opened = rustix::fs::openat(&fd, edge.name.as_bytes(), DIRECTORY, Mode::empty());
            fd = match opened {
                Ok(opened) if self.is_node(facts, node, &opened)? => Rc::new(opened),
                Ok(_) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::STALE) => {
                    return Ok(Place::Gone(Some(edge)));
                }
                Err(errno) => return Ok(Place::Denied(edge, errno)),
            };
            self.directories.insert(node, Rc::clone(&fd));
        }
        Ok(Place::Open(fd))
    }

    /// Whether an open directory is this node.
    fn is_node(&self, facts: &Facts, node: NodeId, fd: &OwnedFd) -> Result<bool, CaptureError> {
        let (root, expected) = match facts.nodes.get(&node) {
            Some(fact) => (fact.root, fact.origin),
            None => match self.index.row(node)? {
                Some(row) => (row.root, row.origin),
                None => return Ok(false),
            },
        };
        let (Some(root), Ok(look)) = (self.root(root), look_open(fd.as_fd())) else { return Ok(false) };
        Ok(origin_of(fd.as_fd(), b"", &look, root.device_of(&look)) == expected)
    }

    /// What stands at a name, and which inode it is.
    pub(super) fn identify(&self, directory: &OwnedFd, root: RootNo, name: &Name) -> Result<Found, Errno> {
        let Some(root) = self.root(root) else { return Ok(Found::Nothing) };
        if fail(Call::Rest, directory.as_fd(), Some(name)).is_err() {
            return Ok(Found::Restless);
        }
        // Stat and handle are two calls: a name that changes hands between them must not mix two inodes.
        for _ in 0..16 {
            let Some(first) = look_at(directory.as_fd(), name)? else { return Ok(Found::Nothing) };
            let origin = origin_of(directory.as_fd(), name.as_bytes(), &first, root.device_of(&first));
            match look_at(directory.as_fd(), name)? {
                Some(look) if look.inode == first.inode && look.birth == first.birth => {
                    return Ok(Found::Node(look, origin));
                }
                _ => {}
            }
        }
        Ok(Found::Restless)
    }

    /// The same, over a way that is opened anew if the file system no longer honours the old one.
    pub(super) fn identify_anew(
        &mut self,
        facts: &Facts,
        root: RootNo,
        edge: &Edge,
        directory: &OwnedFd,
    ) -> Result<Result<Found, Errno>, CaptureError> {
        let found = self.identify(directory, root, &edge.name);
        if !matches!(found, Err(Errno::STALE)) {
            return Ok(found);
        }
        self.reopen_ways(facts, edge.parent, Errno::STALE)?;
        match self.directory(facts, edge.parent)? {
            Place::Open(directory) => Ok(self.identify(&directory, root, &edge.name)),
            _ => Ok(found),
        }
    }

    /// After an error in a directory: ways that the file system no longer honours are opened anew, and its root is
    /// asked whether it is there.
    pub(super) fn reopen_ways(
        &mut self,
        facts: &Facts,
        node: NodeId,
        errno: Errno,
    ) -> Result<(), CaptureError> {
        if errno == Errno::STALE {
            self.directories.clear();
            self.doubted.extend(self.root_of(facts, node)?);
        }
        Ok(())
    }

    /// Whether something else is mounted there.
    pub(super) fn is_mount(&self, root: RootNo, look: &Look) -> bool {
        self.root(root).is_some_and(|root| {
            if root.mount != 0 && look.mount != 0 {
                look.mount != root.mount
            } else {
                look.device != root.raw_device
            }
        })
    }

    /// The node behind an inode; a new one if it was never met.
    pub(super) fn node_of(
        &mut self,
        facts: &Facts,
        root: RootNo,
        edge: &Edge,
        look: &Look,
        origin: &Origin,
    ) -> Result<NodeId, CaptureError> {
        if let Some(node) = facts.origins.get(&(root, *origin)) {
            return Ok(*node);
        }
        if let Some(node) = self.index.by_origin(root, origin)? {
            if self.index.row(node)?.is_some_and(|row| row.sort() == look.sort) {
                return Ok(node);
            }
        } else if let Some(node) = self.adopt(edge, look, origin)? {
            return Ok(node);
        }
        Ok(self.index.mint())
    }

    /// A node whose inode is not known (the replica had it before, or the master was restored to another file system)
    /// is recognised by its path and kind. Links and devices are not: what they point to or stand for never changes in
    /// a node, and the index does not know it.
    pub(super) fn adopt(
        &self,
        edge: &Edge,
        look: &Look,
        origin: &Origin,
    ) -> Result<Option<NodeId>, CaptureError> {
        let Some(node) = self.index.child(edge)? else { return Ok(None) };
        let Some(mut row) = self.index.row(node)? else { return Ok(None) };
        let unknown = row.origin.inode == 0 || row.origin.device != origin.device;
        let told_apart = matches!(look.sort, Sort::Symlink | Sort::CharDevice | Sort::BlockDevice);
        if !unknown || told_apart || row.sort() != look.sort {
            return Ok(None);
        }
        row.origin = *origin;
        let mut batch = self.index.batch();
        self.index.put_row(&mut batch, node, &row)?;
        self.index.put_origin(&mut batch, row.root, origin, node);
        self.index.commit(batch)?;
        Ok(Some(node))
    }

    /// What a link points to; `None` if it is no link any more.
    pub(super) fn target(
        &mut self,
        facts: &Facts,
        edge: &Edge,
    ) -> Result<Result<Option<Vec<u8>>, Errno>, CaptureError> {
        Ok(match self.directory(facts, edge.parent)? {
            Place::Open(directory) => link_target(directory.as_fd(), &edge.name),
            Place::Gone(_) => Ok(None),
            Place::Denied(_, errno) => Err(errno),
        })
    }

    /// Path of a directory relative to its root, as the picture, else the index, has it.
    pub(super) fn path_of(&self, facts: &Facts, node: NodeId) -> Result<Vec<u8>, CaptureError> {
        let mut names: Vec<Name> = Vec::new();
        let mut at = node;
        while at.as_root_or_kept().is_none() {
            let edge = match facts.place(at) {
                Some(edge) => Some(edge.clone()),
                None => self.index.names_of(at)?.into_iter().next(),
            };
            // Nothing bounds a cycle in a damaged index but this.
            let Some(edge) = edge.filter(|_| names.len() < 1 << 16) else { break };
            names.push(edge.name);
            at = edge.parent;
        }
        let mut path = Vec::new();
        for name in names.iter().rev() {
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(name.as_bytes());
        }
        Ok(path)
    }

    /// Path of a name relative to its root.
    pub(super) fn path_of_edge(&self, facts: &Facts, edge: &Edge) -> Result<Vec<u8>, CaptureError> {
        let mut path = self.path_of(facts, edge.parent)?;
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(edge.name.as_bytes());
        Ok(path)
    }

    /// Whether a name is left out, by an operator's glob or because it is our own for a while.
    pub(super) fn is_excluded(&self, facts: &Facts, root: RootNo, edge: &Edge) -> Result<bool, CaptureError> {
        if self.hidden.contains(edge) {
            return Ok(true);
        }
        match self.root(root) {
            Some(root) if root.has_excludes() => Ok(root.excludes(&self.path_of_edge(facts, edge)?)),
            _ => Ok(false),
        }
    }
}
