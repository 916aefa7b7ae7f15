//! Names: what comes, goes and moves.
//!
//! Nothing is ever replaced by a rename: a name that is to be taken is free, or what stands there is exchanged with
//! what comes, which is one step to everybody who looks, and lies in the stage afterwards.

use super::{Batch, Made, Session, Trouble, Try, is_lack, is_new, look_at, raw, refused};
use crate::capture::core::Core;
use crate::capture::facts::Facts;
use crate::capture::look::{Look, Sort};
use crate::os_tree::OsDir;
use journal::{Edge, Event, Meta, Name, NodeId, RootNo, TreeIo, Unwritten};
use rustix::io::Errno;
use std::io;

/// Where something comes from.
enum Source {
    /// From the stage.
    Stage(Name),
    /// From another name.
    Name(NodeId, OsDir, Name),
}

fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno.raw_os_error())
}

fn cannot_exchange(error: &io::Error) -> bool {
    is(error, Errno::INVAL) || is(error, Errno::NOSYS)
}

impl Session {
    fn path(core: &Core, edge: &Edge) -> Vec<u8> {
        core.path_of_edge(&Facts::default(), edge).unwrap_or_else(|_| edge.name.as_bytes().to_vec())
    }

    /// The path of a name, also in directories that were made just now.
    pub(super) fn path_of(&self, core: &Core, edge: &Edge) -> Vec<u8> {
        let mut names = vec![edge.name.clone()];
        let mut at = edge.parent;
        while let Some(made) = self.made.get(&at) {
            names.push(made.edge.name.clone());
            at = made.edge.parent;
        }
        let Some(top) = names.pop() else { return Vec::new() };
        let mut path = Self::path(core, &Edge::new(at, top));
        for name in names.iter().rev() {
            path.push(b'/');
            path.extend_from_slice(name.as_bytes());
        }
        path
    }

    fn renamed(
        &mut self,
        core: &mut Core,
        edge: &Edge,
        result: io::Result<()>,
        operation: &'static str,
    ) -> Try<()> {
        match result {
            Ok(()) => Ok(()),
            // Something came to the name, or left it, at this moment.
            Err(error) if is(&error, Errno::EXIST) || is(&error, Errno::NOENT) => {
                look_at(core, edge);
                Err(Trouble::Moved)
            }
            // Something else is mounted there, or it lies on another file system.
            Err(error) if is(&error, Errno::BUSY) => Err(Trouble::Unkept(Errno::BUSY)),
            Err(error) if is(&error, Errno::XDEV) => Err(Trouble::Unkept(Errno::XDEV)),
            Err(error) => Err(refused(core, operation, edge, error)),
        }
    }

    fn told(&self, core: &mut Core, edge: &Edge) {
        if !is_new(edge.parent) {
            let why = crate::capture::watch::Why { name: true, ..Default::default() };
            let epoch = core.hints.epoch();
            core.hints.name(edge.clone(), why, epoch);
        }
    }

    /// Makes a new node whole, in the stage. `None`: it cannot be made here, and was skipped.
    fn prepare(
        &mut self,
        core: &mut Core,
        root: RootNo,
        batch: &mut Batch,
        node: NodeId,
        at: &Edge,
        meta: &Meta,
    ) -> Try<Option<Name>> {
        let filled = self.new_files.get(&node).cloned();
        let path = self.path_of(core, at);
        let stage = self.stage_mut(root)?;
        let name = match filled {
            Some(name) => name,
            None => {
                let name = stage.fresh();
                match stage.tree.create(&stage.dir, &name, &meta.kind) {
                    Ok(_) => {}
                    Err(error) if is_lack(&error) && !meta.kind.is_file() && !meta.kind.is_directory() => {
                        batch.skip(root, path, Unwritten::Node, raw(&error));
                        return Ok(None);
                    }
                    Err(error) => return Err(refused(core, "make", at, error)),
                }
                name
            }
        };
        let set = stage.tree.set_attributes(&stage.dir, &name, &meta.attributes, &meta.kind);
        let set_xattrs = match meta.xattrs.is_empty() {
            true => Ok(()),
            false => stage.tree.set_xattrs(&stage.dir, &name, &meta.kind, &meta.xattrs),
        };
        for (what, result) in [(Unwritten::Attributes, set), (Unwritten::Xattrs, set_xattrs)] {
            match result {
                Ok(()) => {}
                Err(error) if is_lack(&error) => batch.skip(root, path.clone(), what, raw(&error)),
                Err(error) => return Err(refused(core, "set the attributes of", at, error)),
            }
        }
        // Until it is at its name, a second attempt finds it here.
        self.new_files.insert(node, name.clone());
        Ok(Some(name))
    }

    /// It is at its name.
    fn made(&mut self, core: &mut Core, root: RootNo, node: NodeId, at: &Edge, meta: &Meta) -> Try<()> {
        self.new_files.remove(&node);
        let dir = self.directory(core, root, at.parent)?;
        let stat = self.stage(root)?.tree.stat(&dir, &at.name);
        let inode = match stat {
            Ok(Some(stat)) => stat.inode,
            // Somebody took it away again; whoever needs it finds that.
            Ok(None) => 0,
            Err(error) => return Err(refused(core, "look at", at, error)),
        };
        self.made.insert(node, Made { edge: at.clone(), inode, directory: meta.kind.is_directory() });
        self.told(core, at);
        Ok(())
    }

    pub(super) fn create(
        &mut self,
        core: &mut Core,
        root: RootNo,
        batch: &mut Batch,
        node: NodeId,
        at: &Edge,
        meta: &Meta,
    ) -> Try<()> {
        let Some(staged) = self.prepare(core, root, batch, node, at, meta)? else { return Ok(()) };
        let dir = self.directory(core, root, at.parent)?;
        self.touch(core, root, at.parent, &dir)?;
        let stage = self.stage(root)?;
        let placed = stage.tree.rename((&stage.dir, &staged), (&dir, &at.name));
        self.renamed(core, at, placed, "make")?;
        self.made(core, root, node, at, meta)
    }

    pub(super) fn link(
        &mut self,
        core: &mut Core,
        root: RootNo,
        batch: &mut Batch,
        node: NodeId,
        at: &Edge,
    ) -> Try<()> {
        let (from_dir, from) = if is_new(node) {
            let Some(Made { edge, .. }) = self.made.get(&node) else {
                // It could not be made.
                batch.skip(root, self.path_of(core, at), Unwritten::Node, 0);
                return Ok(());
            };
            let edge = edge.clone();
            (self.directory(core, root, edge.parent)?, edge.name)
        } else if let Some(parked) = self.parked.get(&node).cloned() {
            (self.stage(root)?.dir.clone(), parked)
        } else {
            let (edge, dir, _) = self.find(core, root, node)?;
            (dir, edge.name)
        };
        let dir = self.directory(core, root, at.parent)?;
        self.touch(core, root, at.parent, &dir)?;
        let linked = self.stage(root)?.tree.link((&from_dir, &from), (&dir, &at.name));
        match linked {
            Err(error) if is(&error, Errno::MLINK) || is(&error, Errno::PERM) => {
                batch.skip(root, self.path_of(core, at), Unwritten::Node, raw(&error));
                return Ok(());
            }
            result => self.renamed(core, at, result, "link")?,
        }
        self.told(core, at);
        Ok(())
    }

    /// Removes a name. If what follows takes the same name, both are done in one step; how many events were done.
    pub(super) fn remove(
        &mut self,
        core: &mut Core,
        root: RootNo,
        batch: &mut Batch,
        (node, at): (NodeId, &Edge),
        after: Option<&Event>,
    ) -> Try<usize> {
        let removed = self.remove_or_replace(core, root, batch, node, at, after);
        match removed {
            Err(Trouble::Unkept(errno)) => {
                batch.skip(root, self.path_of(core, at), Unwritten::Removal, errno.raw_os_error());
                // What was to take its name cannot.
                Ok(if after.is_some_and(|after| takes(after) == Some(at)) { 2 } else { 1 })
            }
            result => result,
        }
    }

    fn remove_or_replace(
        &mut self,
        core: &mut Core,
        root: RootNo,
        batch: &mut Batch,
        node: NodeId,
        at: &Edge,
        after: Option<&Event>,
    ) -> Try<usize> {
        let dir = self.directory(core, root, at.parent)?;
        let look = self.standing(core, at, node, &dir)?;
        self.known(core, at, node, &look)?;
        match after {
            Some(Event::Create { node: new, at: place, meta, .. }) if place == at => {
                if let Some(staged) = self.prepare(core, root, batch, *new, at, meta)?
                    && self.exchange(core, root, (node, at, &dir, &look), Source::Stage(staged))?
                {
                    self.made(core, root, *new, at, meta)?;
                    return Ok(2);
                }
            }
            Some(Event::Rename { node: new, from, to, .. }) if to == at && !from.parent.is_kept_area() => {
                let from_dir = self.directory(core, root, from.parent)?;
                self.standing(core, from, *new, &from_dir)?;
                let source = Source::Name(from.parent, from_dir, from.name.clone());
                if self.exchange(core, root, (node, at, &dir, &look), source)? {
                    self.told(core, from);
                    return Ok(2);
                }
            }
            _ => {}
        }
        let staged = self.lift(core, root, at, &dir)?;
        if let Err(trouble) = self.still_known(core, root, at, node, &look, &staged) {
            self.put_back(root, &staged, &dir, &at.name)?;
            return Err(trouble);
        }
        self.gone(core, root, node, at, &look, staged)?;
        Ok(1)
    }

    /// What was found to be known, and is in the stage, is to be deleted.
    pub(super) fn gone(
        &mut self,
        core: &mut Core,
        root: RootNo,
        node: NodeId,
        at: &Edge,
        look: &Look,
        staged: Name,
    ) -> Try<()> {
        if look.sort == Sort::Directory {
            self.lifted.insert(node, staged.clone());
        }
        self.stage_mut(root)?.removed.push(staged);
        self.told(core, at);
        Ok(())
    }

    /// Moves what stands at a name into the stage.
    pub(super) fn lift(&mut self, core: &mut Core, root: RootNo, at: &Edge, dir: &OsDir) -> Try<Name> {
        self.touch(core, root, at.parent, dir)?;
        let stage = self.stage_mut(root)?;
        let staged = stage.fresh();
        let lifted = stage.tree.rename((dir, &at.name), (&stage.dir, &staged));
        self.renamed(core, at, lifted, "move away")?;
        Ok(staged)
    }

    /// Back to its name, unless that was taken meanwhile: then it stays in the stage, and the stage in the root.
    pub(super) fn put_back(&mut self, root: RootNo, staged: &Name, dir: &OsDir, name: &Name) -> Try<()> {
        let stage = self.stage_mut(root)?;
        if let Err(error) = stage.tree.rename((&stage.dir, staged), (dir, name)) {
            tracing::warn!(%error, "cannot move {name:?} back; it stays in {:?}", stage.edge.name);
            stage.keep = true;
        }
        Ok(())
    }

    /// Puts something in the place of what stands at a name, and that into the stage. `false`: this file system cannot.
    fn exchange(
        &mut self,
        core: &mut Core,
        root: RootNo,
        (old, at, dir, look): (NodeId, &Edge, &OsDir, &Look),
        source: Source,
    ) -> Try<bool> {
        self.touch(core, root, at.parent, dir)?;
        let (from_dir, from) = match &source {
            Source::Stage(name) => (self.stage(root)?.dir.clone(), name.clone()),
            Source::Name(parent, from_dir, name) => {
                self.touch(core, root, *parent, from_dir)?;
                (from_dir.clone(), name.clone())
            }
        };
        let exchanged = self.stage(root)?.tree.exchange((&from_dir, &from), (dir, &at.name));
        match exchanged {
            Err(error) if cannot_exchange(&error) => return Ok(false),
            result => self.renamed(core, at, result, "replace")?,
        }
        let staged = match &source {
            Source::Stage(name) => Ok(name.clone()),
            Source::Name(..) => {
                let stage = self.stage_mut(root)?;
                let staged = stage.fresh();
                stage.tree.rename((&from_dir, &from), (&stage.dir, &staged)).map(|()| staged)
            }
        };
        let known = match &staged {
            Ok(staged) => self.still_known(core, root, at, old, look, staged),
            Err(_) => Err(Trouble::Moved),
        };
        let Err(trouble) = known else {
            self.gone(core, root, old, at, look, staged.unwrap_or(from))?;
            return Ok(true);
        };
        if let (Source::Name(..), Ok(staged)) = (&source, &staged) {
            self.put_back(root, staged, &from_dir, &from)?;
        }
        let back = self.stage(root)?.tree.exchange((&from_dir, &from), (dir, &at.name));
        if let Err(error) = back {
            tracing::warn!(%error, "cannot exchange {:?} back", at.name);
            self.stage_mut(root)?.keep = true;
        }
        Err(trouble)
    }

    /// A changed file takes the place of what it was made from. `false`: this file system cannot.
    pub(super) fn replace(
        &mut self,
        core: &mut Core,
        root: RootNo,
        what: (NodeId, &Edge, &OsDir, &Look),
        staged: &Name,
    ) -> Try<()> {
        if self.exchange(core, root, what, Source::Stage(staged.clone()))? {
            return Ok(());
        }
        let (node, at, dir, look) = what;
        let old = self.lift(core, root, at, dir)?;
        if let Err(trouble) = self.still_known(core, root, at, node, look, &old) {
            self.put_back(root, &old, dir, &at.name)?;
            return Err(trouble);
        }
        let stage = self.stage(root)?;
        let placed = stage.tree.rename((&stage.dir, staged), (dir, &at.name));
        if placed.is_err() {
            self.put_back(root, &old, dir, &at.name)?;
        }
        self.renamed(core, at, placed, "replace")?;
        self.gone(core, root, node, at, look, old)
    }

    pub(super) fn rename(
        &mut self,
        core: &mut Core,
        root: RootNo,
        node: NodeId,
        from: &Edge,
        to: &Edge,
    ) -> Try<()> {
        if to.parent.is_kept_area() {
            let dir = self.directory(core, root, from.parent)?;
            self.standing(core, from, node, &dir)?;
            let staged = self.lift(core, root, from, &dir)?;
            self.parked.insert(node, staged);
            self.told(core, from);
            return Ok(());
        }
        let (from_dir, name) = if from.parent.is_kept_area() {
            let Some(staged) = self.parked.get(&node).cloned() else { return Err(Trouble::Moved) };
            (self.stage(root)?.dir.clone(), staged)
        } else {
            let dir = self.directory(core, root, from.parent)?;
            self.standing(core, from, node, &dir)?;
            self.touch(core, root, from.parent, &dir)?;
            (dir, from.name.clone())
        };
        let dir = self.directory(core, root, to.parent)?;
        self.touch(core, root, to.parent, &dir)?;
        let renamed = self.stage(root)?.tree.rename((&from_dir, &name), (&dir, &to.name));
        self.renamed(core, to, renamed, "rename")?;
        self.parked.remove(&node);
        if !from.parent.is_kept_area() {
            self.told(core, from);
        }
        self.told(core, to);
        Ok(())
    }
}

fn takes(event: &Event) -> Option<&Edge> {
    match event {
        Event::Create { at, .. } | Event::Link { at, .. } => Some(at),
        Event::Rename { to, .. } => Some(to),
        _ => None,
    }
}
