//! The walk of an extraction: directories in the order of names, depth first, with few of them open.

use super::links::Links;
use super::write::{self, Job, Pending, Shared, path_in};
use super::{ExtractOptions, RootLayout, at};
use crate::error::RestoreError;
use crate::scope::Scope;
use journal::view::Places;
use journal::view::View;
use journal::{Edge, JournalError, Kind, Meta, Name, NodeId, RootNo, TreeIo};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

/// Directories of the path under way that are kept open.
const OPEN_MAX: usize = 64;
/// Directories complete but for files in the queue.
const UNFINISHED_MAX: usize = 64;

/// What of a directory is wanted.
enum Wanted {
    All,
    /// Only what lies on these paths.
    Paths(Vec<Vec<Name>>),
}

type Entries<'v> = Box<dyn Iterator<Item = Result<(Name, NodeId, Wanted), JournalError>> + 'v>;

struct Frame<'v, D: TreeIo> {
    /// Closed where the path under way is very deep.
    dir: Option<D::Dir>,
    /// Its name in the directory above; `None` for the target itself.
    name: Option<Name>,
    node: NodeId,
    path: Vec<u8>,
    entries: Entries<'v>,
    pending: Arc<Pending>,
}

struct Unfinished<D: TreeIo> {
    dir: D::Dir,
    meta: Meta,
    path: Vec<u8>,
    pending: Arc<Pending>,
}

pub(super) struct Walker<'v, 's, 'e, T: TreeIo, D: TreeIo> {
    view: &'v View<T>,
    shared: &'s Shared<'e, D>,
    jobs: SyncSender<Job<D>>,
    scope: &'s Scope,
    links: Links<'v, T>,
    stack: Vec<Frame<'v, D>>,
    unfinished: VecDeque<Unfinished<D>>,
}

impl<'v, 's, 'e, T: TreeIo, D: TreeIo> Walker<'v, 's, 'e, T, D> {
    pub fn new(
        view: &'v View<T>,
        shared: &'s Shared<'e, D>,
        jobs: SyncSender<Job<D>>,
        scope: &'s Scope,
    ) -> Self {
        let links = Links::new(Places::new(view));
        Walker { view, shared, jobs, scope, links, stack: Vec::new(), unfinished: VecDeque::new() }
    }

    /// Makes everything but the metadata of the target itself.
    pub fn run(mut self, options: &ExtractOptions, top: &D::Dir) -> Result<(), RestoreError> {
        let outcome = self.roots(options, top);
        // Writers end when nobody can send any more.
        drop(self.jobs);
        for one in &self.unfinished {
            one.pending.wait();
        }
        if let Some(failure) = self.shared.failed() {
            return Err(failure);
        }
        outcome?;
        if self.shared.monitor.cancelled() {
            return Err(RestoreError::Cancelled);
        }
        for one in &self.unfinished {
            write::finish_directory(self.shared, &one.dir, &one.meta, &one.path)?;
        }
        Ok(())
    }

    fn roots(&mut self, options: &ExtractOptions, top: &D::Dir) -> Result<(), RestoreError> {
        for layout in &options.roots {
            let Some(wanted) = self.wanted(layout.root) else { continue };
            let node = NodeId::root(layout.root);
            let (dir, path) = match &layout.into {
                None => (top.clone(), Vec::new()),
                Some(name) => (self.make_directory(top, name, name.as_bytes())?, name.as_bytes().to_vec()),
            };
            let entries = self.entries(node, wanted);
            let pending = Arc::default();
            self.stack.push(Frame {
                dir: Some(dir),
                name: layout.into.clone(),
                node,
                path,
                entries,
                pending,
            });
            self.descend(top)?;
        }
        Ok(())
    }

    /// What of a root is wanted; `None` for nothing.
    fn wanted(&self, root: RootNo) -> Option<Wanted> {
        if self.scope.is_all() {
            return Some(Wanted::All);
        }
        let paths: Vec<Vec<Name>> =
            self.scope.filters().iter().filter(|f| f.root == root).map(|f| f.names().to_vec()).collect();
        if paths.is_empty() {
            return None;
        }
        Some(if paths.iter().any(Vec::is_empty) { Wanted::All } else { Wanted::Paths(paths) })
    }

    fn entries(&self, directory: NodeId, wanted: Wanted) -> Entries<'v> {
        let view = self.view;
        let paths = match wanted {
            Wanted::All => {
                let all = view.list(directory);
                return Box::new(all.map(|entry| entry.map(|(name, node)| (name, node, Wanted::All))));
            }
            Wanted::Paths(paths) => paths,
        };
        let mut below: BTreeMap<Name, Vec<Vec<Name>>> = BTreeMap::new();
        for path in paths {
            let mut path = path.into_iter();
            if let Some(first) = path.next() {
                below.entry(first).or_default().push(path.collect());
            }
        }
        Box::new(below.into_iter().filter_map(move |(name, rest)| {
            let node = match view.lookup(&Edge::new(directory, name.clone())) {
                Ok(node) => node?,
                Err(error) => return Some(Err(error)),
            };
            let all = rest.iter().any(Vec::is_empty);
            Some(Ok((name, node, if all { Wanted::All } else { Wanted::Paths(rest) })))
        }))
    }

    /// Walks until the stack is empty.
    fn descend(&mut self, top: &D::Dir) -> Result<(), RestoreError> {
        let unreadable = RestoreError::journal("walk the tree of the point");
        while let Some(frame) = self.stack.last_mut() {
            if self.shared.is_over() {
                return Err(RestoreError::Cancelled);
            }
            let Some(entry) = frame.entries.next() else {
                self.leave()?;
                continue;
            };
            let (name, node, wanted) = entry.map_err(&unreadable)?;
            let directory = frame.node;
            let path = path_in(&frame.path, &name);
            let meta = self.view.meta(node).map_err(&unreadable)?;
            let meta = meta.ok_or(RestoreError::Gone { node })?;
            let dir = self.open_last()?;
            if meta.kind.is_directory() {
                let below = self.make_directory(&dir, &name, &path)?;
                self.enter(below, name, node, path, wanted);
            } else {
                self.object(top, dir, Edge::new(directory, name), node, meta, path)?;
            }
        }
        Ok(())
    }

    fn make_directory(&self, dir: &D::Dir, name: &Name, path: &[u8]) -> Result<D::Dir, RestoreError> {
        self.shared.target.create(dir, name, &Kind::Directory).map_err(at("create", path))?;
        self.shared.target.open_dir(dir, name).map_err(at("open", path))
    }

    fn enter(&mut self, dir: D::Dir, name: Name, node: NodeId, path: Vec<u8>, wanted: Wanted) {
        let entries = self.entries(node, wanted);
        // The root stays open: the others are found again from there.
        let far = self.stack.len().saturating_sub(OPEN_MAX);
        if let Some(frame) = self.stack.get_mut(far).filter(|_| far > 0) {
            frame.dir = None;
        }
        self.stack.push(Frame {
            dir: Some(dir),
            name: Some(name),
            node,
            path,
            entries,
            pending: Arc::default(),
        });
    }

    /// The directory under way, opened again from the nearest one above it that is open.
    fn open_last(&mut self) -> Result<D::Dir, RestoreError> {
        let closed = self.stack.iter().rev().take_while(|frame| frame.dir.is_none()).count();
        let first = self.stack.len() - closed;
        let mut dir = match first.checked_sub(1).and_then(|above| self.stack.get(above)) {
            Some(frame) => frame.dir.clone(),
            None => None,
        };
        let kept_from = self.stack.len().saturating_sub(OPEN_MAX / 2);
        for (depth, frame) in self.stack.iter_mut().enumerate().skip(first) {
            if let (Some(above), Some(name)) = (&dir, &frame.name) {
                let opened = self.shared.target.open_dir(above, name).map_err(at("open", &frame.path))?;
                frame.dir = (depth >= kept_from).then(|| opened.clone());
                dir = Some(opened);
            }
        }
        let lost = || RestoreError::Target {
            operation: "open",
            path: Vec::new(),
            source: io::ErrorKind::NotFound.into(),
        };
        dir.ok_or_else(lost)
    }

    /// Everything in the directory under way was made or queued.
    fn leave(&mut self) -> Result<(), RestoreError> {
        let dir = self.open_last()?;
        let Some(frame) = self.stack.pop() else { return Ok(()) };
        self.shared.count(|report| report.directories += 1);
        let meta = self.view.meta(frame.node).map_err(RestoreError::journal("read metadata of the point"))?;
        // A root directory may have none; the target itself gets its own when the marker is gone.
        if let Some(meta) = meta.filter(|_| frame.name.is_some()) {
            self.unfinished.push_back(Unfinished { dir, meta, path: frame.path, pending: frame.pending });
        }
        while let Some(oldest) = self.unfinished.front() {
            if self.unfinished.len() < UNFINISHED_MAX && !oldest.pending.is_done() {
                break;
            }
            oldest.pending.wait();
            if self.shared.is_over() {
                return Err(RestoreError::Cancelled);
            }
            write::finish_directory(self.shared, &oldest.dir, &oldest.meta, &oldest.path)?;
            self.unfinished.pop_front();
        }
        Ok(())
    }

    /// Makes an object, or lets it be made; those of several names here, one after the other.
    fn object(
        &mut self,
        top: &D::Dir,
        dir: D::Dir,
        edge: Edge,
        node: NodeId,
        meta: Meta,
        path: Vec<u8>,
    ) -> Result<(), RestoreError> {
        let failed = RestoreError::journal("find the names of a file");
        let Some(frame) = self.stack.last() else { return Ok(()) };
        let begun = frame.pending.begin();
        if let Some(first) = self.links.first(node)
            && write::link(self.shared, top, &first, (&dir, &edge.name), &path)?
        {
            return Ok(());
        }
        let others = self.links.others(node, &edge).map_err(failed)?;
        let name = edge.name;
        let job = Job { dir, name, node, meta, path, _begun: begun };
        if others == 0 {
            // The receiver lives as long as there are writers, and they as long as this sender.
            return self.jobs.send(job).map_err(|_| RestoreError::Cancelled);
        }
        if write::make(self.view, self.shared, &job)? {
            self.links.remember(node, job.path, others);
        }
        Ok(())
    }
}

/// Sets the metadata of the target itself, if a root went right into it.
pub(super) fn finish_top<T: TreeIo, D: TreeIo>(
    view: &View<T>,
    shared: &Shared<'_, D>,
    top: &D::Dir,
    roots: &[RootLayout],
) -> Result<(), RestoreError> {
    let Some(root) = roots.iter().find(|layout| layout.into.is_none()) else { return Ok(()) };
    let meta =
        view.meta(NodeId::root(root.root)).map_err(RestoreError::journal("read metadata of the point"))?;
    match meta {
        Some(meta) => write::finish_directory(shared, top, &meta, b""),
        None => Ok(()),
    }
}
