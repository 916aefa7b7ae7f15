//! Step 4 of apply: the tree.
//!
//! Events run in order. Where a node is at any moment of the batch is known without looking: `names` holds, for every
//! node whose names the batch changes, its names as they stand in the tree now (from before the batch, changed event
//! by event); for all others the tables are right. Open directories follow their own renames, so the ones remembered
//! from earlier batches stay good. Attributes and times are set last, once a node, to what they are after the batch:
//! changing an entry moves its directory's time.

use journal::journal::{Journal, Placed};
use journal::state::{NodeRow, State};
use journal::{Edge, Event, JournalError, Kind, Lsn, NodeId, Tables, TreeFile, TreeIo};
use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::sync::Arc;

/// Directories and files held open.
const DIRECTORIES_MAX: usize = 512;
const FILES_MAX: usize = 64;
const PERMISSION: i32 = 1;
const NOT_SUPPORTED: i32 = 95;

/// Something the replica could not take over, for lack of privilege or of support by its file system. The journal
/// holds it all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Degraded {
    /// The node.
    pub node: NodeId,
    /// What was not kept.
    pub what: &'static str,
    /// Why, as an error number.
    pub errno: i32,
}

/// Touches the tree.
pub struct Touch<T: TreeIo> {
    journal: Arc<Journal>,
    tables: Arc<dyn Tables>,
    tree: Arc<T>,
    directories: HashMap<NodeId, T::Dir>,
    files: HashMap<NodeId, T::File>,
    names: HashMap<NodeId, Vec<Edge>>,
    /// For each removal to come: whether the name moves to the kept area.
    removals: VecDeque<bool>,
    xattrs: HashSet<NodeId>,
    created: Vec<(NodeId, u64)>,
    degraded: Vec<Degraded>,
}

fn failed(operation: &'static str, node: NodeId) -> impl Fn(io::Error) -> JournalError {
    move |source| JournalError::Tree { operation, object: node.to_string(), source }
}

impl<T: TreeIo> Touch<T> {
    pub(crate) fn new(journal: Arc<Journal>, tree: Arc<T>) -> Self {
        Touch {
            tables: Arc::clone(journal.tables()),
            journal,
            tree,
            directories: HashMap::new(),
            files: HashMap::new(),
            names: HashMap::new(),
            removals: VecDeque::new(),
            xattrs: HashSet::new(),
            created: Vec::new(),
            degraded: Vec::new(),
        }
    }

    pub(crate) fn take_degraded(&mut self) -> Vec<Degraded> {
        std::mem::take(&mut self.degraded)
    }

    /// Names were changed by other means: what is open may be elsewhere now.
    pub(crate) fn forget(&mut self) {
        self.directories.clear();
        self.files.clear();
    }

    /// Runs all events of a batch, then sets attributes. Nodes created, with their inodes.
    pub(crate) fn batch(
        &mut self,
        batch: &[Placed],
        before: HashMap<NodeId, Vec<Edge>>,
        touched: &[(NodeId, NodeRow)],
        removals: VecDeque<bool>,
    ) -> Result<Vec<(NodeId, u64)>, JournalError> {
        self.names = before;
        self.removals = removals;
        self.xattrs.clear();
        self.created.clear();
        let run = self.events(batch).and_then(|()| self.metadata(touched));
        // A file kept open over a batch could be another one's by then.
        self.files.clear();
        self.names.clear();
        if run.is_err() {
            self.directories.clear();
        }
        run.map(|()| std::mem::take(&mut self.created))
    }

    fn events(&mut self, batch: &[Placed]) -> Result<(), JournalError> {
        for placed in batch {
            for event in &placed.capture.events {
                self.event(placed.capture.lsn, event)?;
            }
        }
        Ok(())
    }

    fn event(&mut self, lsn: Lsn, event: &Event) -> Result<(), JournalError> {
        match event {
            Event::Create { node, at, meta, .. } => {
                self.create(*node, at, &meta.kind, !meta.xattrs.is_empty())
            }
            Event::Link { node, at, .. } => {
                let from = self.place(lsn, *node)?;
                let from_dir = self.directory(lsn, from.parent)?;
                let to_dir = self.directory(lsn, at.parent)?;
                self.tree
                    .link((&from_dir, &from.name), (&to_dir, &at.name))
                    .map_err(failed("link", *node))?;
                self.names.entry(*node).or_default().push(at.clone());
                Ok(())
            }
            Event::Remove { node, at, .. } => self.remove(lsn, *node, at),
            Event::Rename { node, from, to, .. } => self.rename(lsn, *node, from, to),
            Event::Write { node, offset, data, .. } => {
                let (bytes, end) = (self.journal.written(data)?, offset.saturating_add(data.len()));
                let file = self.file(lsn, *node)?;
                match bytes {
                    Some(bytes) => file.write_at(&bytes, *offset),
                    // Lost: the length is kept, and the bytes come again.
                    None if file.stat().map_err(failed("stat", *node))?.size < end => file.set_len(end),
                    None => Ok(()),
                }
                .map_err(failed("write", *node))
            }
            Event::Punch { node, offset, bytes } => {
                self.file(lsn, *node)?.punch(*offset, *bytes).map_err(failed("punch", *node))
            }
            Event::Resize { node, size } => {
                self.file(lsn, *node)?.set_len(*size).map_err(failed("resize", *node))
            }
            Event::SetXattrs { node, .. } => {
                self.xattrs.insert(*node);
                Ok(())
            }
            Event::SetAttributes { .. } | Event::Mark(_) => Ok(()),
        }
    }

    fn create(&mut self, node: NodeId, at: &Edge, kind: &Kind, xattrs: bool) -> Result<(), JournalError> {
        let dir = self.directory(Lsn::ZERO, at.parent)?;
        if kind.is_file() {
            let file = self.tree.create_file(&dir, &at.name).map_err(failed("create", node))?;
            let inode = file.stat().map_err(failed("stat", node))?.inode;
            self.created.push((node, inode));
            self.remember_file(node, file);
        } else {
            match self.tree.create(&dir, &at.name, kind) {
                Ok(stat) => self.created.push((node, stat.inode)),
                Err(error) if error.raw_os_error() == Some(PERMISSION) => {
                    // Device nodes need privilege: an empty file stands for it; the journal knows what it is.
                    self.degrade(node, "kind", &error);
                    let file = self.tree.create_file(&dir, &at.name).map_err(failed("create", node))?;
                    let inode = file.stat().map_err(failed("stat", node))?.inode;
                    self.created.push((node, inode));
                }
                Err(error) => return Err(failed("create", node)(error)),
            }
        }
        if xattrs {
            self.xattrs.insert(node);
        }
        self.names.insert(node, vec![at.clone()]);
        Ok(())
    }

    fn remove(&mut self, lsn: Lsn, node: NodeId, at: &Edge) -> Result<(), JournalError> {
        let moves = self.removals.pop_front().unwrap_or(true);
        if moves {
            let root = self.root_of(lsn, at.parent)?;
            let kept = Edge::new(NodeId::kept(root), node.kept_name());
            return self.rename(lsn, node, at, &kept);
        }
        self.names.entry(node).or_default().retain(|name| name != at);
        let dir = self.directory(lsn, at.parent)?;
        self.tree.unlink(&dir, &at.name).map_err(failed("unlink", node))
    }

    fn rename(&mut self, lsn: Lsn, node: NodeId, from: &Edge, to: &Edge) -> Result<(), JournalError> {
        let from_dir = self.directory(lsn, from.parent)?;
        if to.parent.is_kept_area() && self.names.get(&node).is_some_and(|names| names.contains(to)) {
            self.names.entry(node).or_default().retain(|name| name != from);
            return self.tree.unlink(&from_dir, &from.name).map_err(failed("unlink", node));
        }
        let to_dir = self.directory(lsn, to.parent)?;
        self.tree.rename((&from_dir, &from.name), (&to_dir, &to.name)).map_err(failed("rename", node))?;
        let names = self.names.entry(node).or_default();
        names.retain(|name| name != from);
        names.push(to.clone());
        Ok(())
    }

    fn root_of(&self, lsn: Lsn, node: NodeId) -> Result<journal::RootNo, JournalError> {
        let mut at = node;
        for _ in 0..1 << 20 {
            match at.as_root_or_kept() {
                Some(root) => return Ok(root),
                None => at = self.place(lsn, at)?.parent,
            }
        }
        Err(JournalError::Inconsistent { lsn, what: "directories form a cycle" })
    }

    /// A name of the node as the tree stands at this moment of the batch.
    fn place(&self, lsn: Lsn, node: NodeId) -> Result<Edge, JournalError> {
        let found = match self.names.get(&node) {
            Some(names) => names.first().cloned(),
            None => State::links(&*self.tables, node)?.into_iter().next(),
        };
        found.ok_or(JournalError::Inconsistent { lsn, what: "a node has no name in the tree" })
    }

    fn directory(&mut self, lsn: Lsn, node: NodeId) -> Result<T::Dir, JournalError> {
        let mut missing = Vec::new();
        let mut at = node;
        let mut dir = loop {
            if let Some(root) = at.as_root_or_kept() {
                let opened = if at.is_kept_area() { self.tree.kept(root) } else { self.tree.root(root) };
                break opened.map_err(failed("open the root", at))?;
            }
            if let Some(dir) = self.directories.get(&at) {
                break dir.clone();
            }
            let place = self.place(lsn, at)?;
            let parent = place.parent;
            missing.push((at, place));
            at = parent;
            if missing.len() > 1 << 20 {
                return Err(JournalError::Inconsistent { lsn, what: "directories form a cycle" });
            }
        };
        // Of a way down that is longer than that the upper part is not worth remembering.
        let remembered = missing.len().min(DIRECTORIES_MAX / 2);
        if self.directories.len() + remembered > DIRECTORIES_MAX {
            self.directories.clear();
        }
        for (left, (at, place)) in missing.into_iter().enumerate().rev() {
            dir = self.tree.open_dir(&dir, &place.name).map_err(failed("open a directory", at))?;
            if left < remembered {
                self.directories.insert(at, dir.clone());
            }
        }
        Ok(dir)
    }

    fn file(&mut self, lsn: Lsn, node: NodeId) -> Result<&T::File, JournalError> {
        if !self.files.contains_key(&node) {
            let place = self.place(lsn, node)?;
            let dir = self.directory(lsn, place.parent)?;
            let file = self.tree.open_file(&dir, &place.name, true).map_err(failed("open", node))?;
            self.remember_file(node, file);
        }
        self.files.get(&node).ok_or(JournalError::Inconsistent { lsn, what: "a file is not open" })
    }

    fn remember_file(&mut self, node: NodeId, file: T::File) {
        if self.files.len() >= FILES_MAX {
            self.files.clear();
        }
        self.files.insert(node, file);
    }

    /// Sets extended attributes where they changed, and attributes of all touched nodes; directories last, so that
    /// nothing done here moves their times again.
    fn metadata(&mut self, touched: &[(NodeId, NodeRow)]) -> Result<(), JournalError> {
        for directories in [false, true] {
            for (node, row) in touched {
                if row.meta.kind.is_directory() == directories {
                    self.metadata_of(*node, row)?;
                }
            }
        }
        Ok(())
    }

    fn metadata_of(&mut self, node: NodeId, row: &NodeRow) -> Result<(), JournalError> {
        // Changing the owner, and writing, clears capabilities: extended attributes come after, whenever there are any.
        let xattrs = self.xattrs.contains(&node) || !row.meta.xattrs.is_empty();
        if node.is_kept_area() {
            return Ok(());
        }
        let mut second = Ok(());
        let first = if let Some(root) = node.as_root_or_kept() {
            let dir = self.tree.root(root).map_err(failed("open the root", node))?;
            let set = self.tree.set_dir_attributes(&dir, &row.meta.attributes);
            if xattrs {
                second = self.tree.set_dir_xattrs(&dir, &row.meta.xattrs);
            }
            set
        } else {
            let place = self.place(Lsn::ZERO, node)?;
            let dir = self.directory(Lsn::ZERO, place.parent)?;
            let kind = &row.meta.kind;
            let set = self.tree.set_attributes(&dir, &place.name, &row.meta.attributes, kind);
            if xattrs {
                second = self.tree.set_xattrs(&dir, &place.name, kind, &row.meta.xattrs);
            }
            set
        };
        for (set, what) in [(first, "owner, mode or times"), (second, "extended attributes")] {
            match set {
                Ok(()) => {}
                Err(error) if matches!(error.raw_os_error(), Some(PERMISSION | NOT_SUPPORTED)) => {
                    self.degrade(node, what, &error);
                }
                Err(error) => return Err(failed("set metadata", node)(error)),
            }
        }
        Ok(())
    }

    fn degrade(&mut self, node: NodeId, what: &'static str, error: &io::Error) {
        const DEGRADED_MAX: usize = 10_000;
        if self.degraded.len() < DEGRADED_MAX {
            self.degraded.push(Degraded { node, what, errno: error.raw_os_error().unwrap_or(0) });
        }
    }
}
