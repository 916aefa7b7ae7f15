//! Bytes and attributes of nodes.
//!
//! A file that changes is copied into the stage, sharing its blocks where the file system can, changed there, synced,
//! and exchanged with what stands at its name. A file with several names, or one that somebody has open, is changed in
//! place: it has to stay the same file.

use super::{Batch, Session, Trouble, Try, is_lack, is_new, look_at, raw, refused};
use crate::capture::core::Core;
use crate::capture::look::Sort;
use crate::capture::node::Found;
use crate::os_tree::{OsDir, OsFile, OsTree};
use journal::{
    Attributes, Edge, Event, Kind, Name, NodeId, Payload, RootNo, TreeFile, TreeIo, Unwritten, Xattrs,
};
use rustix::io::Errno;
use std::io;
use std::os::fd::AsFd;

/// Bytes copied between two looks at the notifications.
const COPIED_A_STEP: u64 = 8 << 20;
/// Threads that sync new files: journaling file systems write what is synced at the same time in one go.
const SYNC_THREADS: usize = 8;

/// A file that is being changed.
pub(super) struct Patch {
    node: NodeId,
    /// Its copy in the stage; `None`: it is changed in place.
    staged: Option<Name>,
    attributes: Option<Attributes>,
    xattrs: Option<Xattrs>,
}

fn apply(file: &OsFile, event: &Event) -> io::Result<()> {
    match event {
        Event::Write { offset, data: Payload::Inline(bytes), .. } => file.write_at(bytes, *offset),
        Event::Punch { offset, bytes, .. } => file.punch(*offset, *bytes),
        Event::Resize { size, .. } => file.set_len(*size),
        _ => Ok(()),
    }
}

/// Shares the blocks of a file; else copies what is no hole.
fn copy(core: &mut Core, from: &OsFile, to: &OsFile) -> Result<io::Result<()>, crate::capture::CaptureError> {
    let size = match from.stat() {
        Ok(stat) => stat.size,
        Err(error) => return Ok(Err(error)),
    };
    if rustix::fs::ioctl_ficlone(to.as_fd(), from.as_fd()).is_ok() {
        return Ok(Ok(()));
    }
    if let Err(error) = to.set_len(size) {
        return Ok(Err(error));
    }
    let mut at = 0;
    loop {
        match from.next_data(at) {
            Ok(Some((start, end))) if start < size => {
                let end = end.min(size).min(start + COPIED_A_STEP);
                if let Err(error) = copy_range(from, to, start, end) {
                    return Ok(Err(error));
                }
                at = end;
                core.drain()?;
            }
            Ok(_) => return Ok(Ok(())),
            Err(error) => return Ok(Err(error)),
        }
    }
}

fn copy_range(from: &OsFile, to: &OsFile, start: u64, end: u64) -> io::Result<()> {
    let (mut source, mut target) = (start, start);
    while source < end {
        let length = usize::try_from(end - source).unwrap_or(usize::MAX);
        match rustix::fs::copy_file_range(from, Some(&mut source), to, Some(&mut target), length) {
            // It was cut meanwhile: whoever compares it afterwards sees that.
            Ok(0) => return Ok(()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                return copy_by_hand(from, to, source, end);
            }
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

fn copy_by_hand(from: &OsFile, to: &OsFile, mut at: u64, end: u64) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 18];
    while at < end {
        let length = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
        let Some(part) = buffer.get_mut(..length) else { break };
        let read = from.read_at(part, at)?;
        if read == 0 {
            break;
        }
        to.write_at(part.get(..read).unwrap_or_default(), at)?;
        at += read as u64;
    }
    Ok(())
}

impl Session {
    /// The bytes of a new file, before it has a name.
    pub(super) fn fill(&mut self, core: &mut Core, root: RootNo, event: &Event) -> Try<()> {
        let (Event::Write { node, .. } | Event::Punch { node, .. } | Event::Resize { node, .. }) = event
        else {
            return Ok(());
        };
        if !is_new(*node) {
            return Ok(());
        }
        let known = self.new_files.get(node).cloned();
        let stage = self.stage_mut(root)?;
        let (name, opened) = match known {
            Some(name) => {
                let file = stage.tree.open_file(&stage.dir, &name, true);
                (name, file)
            }
            None => {
                let name = stage.fresh();
                let file = stage.tree.create_file(&stage.dir, &name);
                (name, file)
            }
        };
        let edge = stage.edge.clone();
        self.new_files.insert(*node, name);
        let done = opened.and_then(|file| apply(&file, event));
        done.map_err(|error| refused(core, "write to", &edge, error))
    }

    /// Makes the new files that get their names now durable.
    pub(super) fn sync_new(&self, root: RootNo, events: &[Event]) -> Try<()> {
        let created = events.iter().filter_map(|event| match event {
            Event::Create { node, .. } => self.new_files.get(node),
            _ => None,
        });
        let stage = self.stage(root)?;
        sync_all(&stage.tree, &stage.dir, &created.collect::<Vec<_>>())
    }

    /// The bytes of a file that is there.
    pub(super) fn change(&mut self, core: &mut Core, root: RootNo, node: NodeId, event: &Event) -> Try<()> {
        if self.left_out == Some(node) {
            return Ok(());
        }
        if self.patch.as_ref().is_none_or(|patch| patch.node != node) {
            if let Some(left) = self.patch.take() {
                self.discard(left);
            }
            self.patch = Some(self.begin(core, root, node)?);
        }
        let staged = self.patch.as_ref().and_then(|patch| patch.staged.clone());
        let (edge, file) = match staged {
            Some(name) => {
                let stage = self.stage(root)?;
                (stage.edge.clone(), stage.tree.open_file(&stage.dir, &name, true))
            }
            None => {
                let (edge, dir, _) = self.find(core, root, node)?;
                let file = self.stage(root)?.tree.open_file(&dir, &edge.name, true);
                core.owed.insert(node);
                look_at(core, &edge);
                (edge, file)
            }
        };
        let done = file.and_then(|file| apply(&file, event));
        done.map_err(|error| refused(core, "write to", &edge, error))
    }

    fn begin(&mut self, core: &mut Core, root: RootNo, node: NodeId) -> Try<Patch> {
        let (edge, dir, look) = self.find(core, root, node)?;
        self.known(core, &edge, node, &look)?;
        let stage = self.stage_mut(root)?;
        let file = stage.tree.open_file(&dir, &edge.name, false);
        let file = file.map_err(|error| refused(core, "open", &edge, error))?;
        let patch = Patch { node, staged: None, attributes: None, xattrs: None };
        if look.links > 1 || sys::is_open_elsewhere(file.as_fd()) {
            return Ok(patch);
        }
        let stage = self.stage_mut(root)?;
        let staged = stage.fresh();
        let made = stage.tree.create_file(&stage.dir, &staged);
        let made = made.map_err(|error| refused(core, "copy", &edge, error))?;
        let patch = Patch { staged: Some(staged), ..patch };
        let copied = copy(core, &file, &made)?;
        if let Err(error) = copied {
            self.discard(patch);
            return Err(refused(core, "copy", &edge, error));
        }
        // What was copied is what the stream has only if nobody wrote meanwhile.
        let after =
            self.standing(core, &edge, node, &dir).and_then(|look| self.known(core, &edge, node, &look));
        match after {
            Ok(()) => Ok(patch),
            Err(trouble) => {
                self.discard(patch);
                Err(trouble)
            }
        }
    }

    /// Gives up a copy.
    pub(super) fn discard(&mut self, patch: Patch) {
        let Some(name) = patch.staged else { return };
        if let Some(stage) = self.stages.values_mut().find(|stage| stage.owns(&name)) {
            stage.trash.push_back(name);
        }
    }

    /// The last that is said of a node: its attributes.
    pub(super) fn finish(
        &mut self,
        core: &mut Core,
        root: RootNo,
        batch: &mut Batch,
        node: NodeId,
        attributes: &Attributes,
    ) -> Try<()> {
        let mine = self.xattrs.take_if(|(of, _)| *of == node);
        let xattrs = mine.map(|(_, xattrs)| xattrs);
        if self.left_out.take_if(|left| *left == node).is_some() {
            return Ok(());
        }
        if let Some(patch) = self.patch.take_if(|patch| patch.node == node) {
            batch.ready.push(Patch { attributes: Some(*attributes), xattrs, ..patch });
            return Ok(());
        }
        let done = self.set_attributes(core, root, batch, node, attributes, xattrs.as_ref());
        if matches!(done, Err(Trouble::Moved)) {
            self.xattrs = xattrs.map(|xattrs| (node, xattrs));
        }
        done
    }

    fn set_attributes(
        &mut self,
        core: &mut Core,
        root: RootNo,
        batch: &mut Batch,
        node: NodeId,
        attributes: &Attributes,
        xattrs: Option<&Xattrs>,
    ) -> Try<()> {
        if node.as_root_or_kept().is_some() {
            let stage = self.stage(root)?;
            let set = stage.tree.set_dir_attributes(&stage.top, attributes);
            let set_xattrs = xattrs.map_or(Ok(()), |xattrs| stage.tree.set_dir_xattrs(&stage.top, xattrs));
            let edge = super::own(node);
            self.touched.remove(&node);
            return self.kept_in_part(core, root, batch, &edge, Vec::new(), [set, set_xattrs]);
        }
        let (edge, dir, look) = self.find(core, root, node)?;
        self.known(core, &edge, node, &look)?;
        let kind = if look.sort == Sort::Directory { Kind::Directory } else { Kind::File };
        let stage = self.stage(root)?;
        let set = stage.tree.set_attributes(&dir, &edge.name, attributes, &kind);
        let set_xattrs =
            xattrs.map_or(Ok(()), |xattrs| stage.tree.set_xattrs(&dir, &edge.name, &kind, xattrs));
        // Its own times are what they should be now.
        self.touched.remove(&node);
        let path = self.path_of(core, &edge);
        self.kept_in_part(core, root, batch, &edge, path, [set, set_xattrs])
    }

    /// What cannot be set for lack of privilege or support is listed; anything else is an error.
    fn kept_in_part(
        &self,
        core: &mut Core,
        root: RootNo,
        batch: &mut Batch,
        edge: &Edge,
        path: Vec<u8>,
        [set, set_xattrs]: [io::Result<()>; 2],
    ) -> Try<()> {
        for (what, result) in [(Unwritten::Attributes, set), (Unwritten::Xattrs, set_xattrs)] {
            match result {
                Ok(()) => {}
                Err(error) if is_lack(&error) => batch.skip(root, path.clone(), what, raw(&error)),
                Err(error) => return Err(refused(core, "set the attributes of", edge, error)),
            }
        }
        if !edge.parent.is_kept_area() {
            look_at(core, edge);
        }
        Ok(())
    }

    /// Moves changed files to their names, all of them synced before.
    pub(super) fn place_ready(&mut self, core: &mut Core, root: RootNo, batch: &mut Batch) -> Try<()> {
        if batch.ready.is_empty() {
            return Ok(());
        }
        let stage = self.stage(root)?;
        for patch in &batch.ready {
            let (Some(name), Some(attributes)) = (&patch.staged, &patch.attributes) else { continue };
            // Refusals are listed when it is in place.
            let _ = stage.tree.set_attributes(&stage.dir, name, attributes, &Kind::File);
            if let Some(xattrs) = &patch.xattrs {
                let _ = stage.tree.set_xattrs(&stage.dir, name, &Kind::File, xattrs);
            }
        }
        let staged: Vec<&Name> = batch.ready.iter().filter_map(|patch| patch.staged.as_ref()).collect();
        sync_all(&stage.tree, &stage.dir, &staged)?;
        self.drain(core)?;
        while let Some(patch) = batch.ready.pop() {
            match self.place(core, root, batch, &patch) {
                Ok(()) => {}
                Err(Trouble::Unkept(errno)) => {
                    let names = core.index.names_of(patch.node)?;
                    let path = names.first().map(|edge| self.path_of(core, edge)).unwrap_or_default();
                    batch.skip(root, path, Unwritten::Removal, errno.raw_os_error());
                    self.discard(patch);
                }
                Err(trouble) => {
                    batch.ready.push(patch);
                    return Err(trouble);
                }
            }
        }
        Ok(())
    }

    fn place(&mut self, core: &mut Core, root: RootNo, batch: &mut Batch, patch: &Patch) -> Try<()> {
        let node = patch.node;
        let Some(attributes) = patch.attributes else { return Ok(()) };
        let (edge, dir, look) = self.find(core, root, node)?;
        if let Some(staged) = &patch.staged {
            self.known(core, &edge, node, &look)?;
            self.replace(core, root, (node, &edge, &dir, &look), staged)?;
            self.take_over(core, &edge, node, &dir)?;
        } else {
            let file = self.stage(root)?.tree.open_file(&dir, &edge.name, true).and_then(|file| file.sync());
            file.map_err(|error| refused(core, "sync", &edge, error))?;
        }
        core.owed.insert(node);
        // Set again: what was refused is listed, the rest is as it should be already.
        let stage = self.stage(root)?;
        let set = stage.tree.set_attributes(&dir, &edge.name, &attributes, &Kind::File);
        let set_xattrs = match &patch.xattrs {
            Some(xattrs) => stage.tree.set_xattrs(&dir, &edge.name, &Kind::File, xattrs),
            None => Ok(()),
        };
        let path = self.path_of(core, &edge);
        self.kept_in_part(core, root, batch, &edge, path, [set, set_xattrs])
    }

    /// The node has another inode from now on; what the stream has of it stays.
    fn take_over(&mut self, core: &mut Core, edge: &Edge, node: NodeId, dir: &OsDir) -> Try<()> {
        let Some(row) = core.index.row(node)? else { return Ok(()) };
        if let Ok(Found::Node(_, origin)) = core.identify(dir.fd(), row.root, &edge.name) {
            core.index.move_origin(node, origin)?;
        }
        Ok(())
    }
}

fn sync_all(tree: &OsTree, dir: &OsDir, names: &[&Name]) -> Try<()> {
    if names.is_empty() {
        return Ok(());
    }
    let share = names.len().div_ceil(SYNC_THREADS);
    let sync = |names: &[&Name]| {
        names.iter().try_for_each(|name| tree.open_file(dir, name, false).and_then(|file| file.sync()))
    };
    let failed = std::thread::scope(|scope| {
        let threads: Vec<_> = names.chunks(share).map(|part| scope.spawn(move || sync(part))).collect();
        let results = threads.into_iter().map(|thread| {
            thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread that syncs files panicked")))
        });
        results.filter_map(Result::err).next()
    });
    match failed {
        None => Ok(()),
        Some(source) => Err(Trouble::Refused(crate::capture::CaptureError::File {
            operation: "sync new files below",
            path: std::path::PathBuf::new(),
            source,
        })),
    }
}
