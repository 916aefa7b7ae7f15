//! A difference as people read it: one line an object, in the order of paths.
//!
//! What appears or vanishes with its directory was not touched by itself: a removed directory is one change, whatever
//! it holds. The list names such objects all the same; they are found by walking the directory in the view that shows
//! it, while the list is being read. A name that the list has anyway is left out of such a walk, so nothing comes
//! twice.

use crate::content::bytes_differing;
use crate::error::RestoreError;
use crate::monitor::{Monitor, Phase};
use crate::scope::{Area, Scope, Where, is_directory};
use journal::state::PointKind;
use journal::view::difference::meta_differs;
use journal::view::{Difference, Places, View, join};
use journal::{Edge, JournalError, Name, NodeId, RootNo, TreeIo};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

/// One object that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Created, modified, renamed, removed, or attributes.
    pub kind: PointKind,
    /// Root it lies in.
    pub root: RootNo,
    /// Path below the root at the point that is gone to; of a removed object, at the point that is left.
    pub path: Vec<u8>,
    /// The other path of an object that is called differently at the point that is left.
    pub from: Option<Vec<u8>>,
    /// Bytes that differ; of objects that come or go, all their bytes.
    pub bytes: u64,
    /// Whether it is a directory.
    pub directory: bool,
    /// The object.
    pub node: NodeId,
}

/// Sums over a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Objects that come to be.
    pub created: u64,
    /// Files whose bytes differ.
    pub modified: u64,
    /// Objects that differ in their name only.
    pub renamed: u64,
    /// Objects that go.
    pub removed: u64,
    /// Objects that differ in owner, mode, times or extended attributes only.
    pub attributes: u64,
    /// Objects of these that are no directories.
    pub files: u64,
    /// Bytes that differ.
    pub bytes: u64,
}

impl Totals {
    /// Counts one object.
    pub fn add(&mut self, entry: &Entry) {
        let count = match entry.kind {
            PointKind::Created => &mut self.created,
            PointKind::Modified => &mut self.modified,
            PointKind::Renamed => &mut self.renamed,
            PointKind::Removed => &mut self.removed,
            PointKind::Attributes | PointKind::Marker => &mut self.attributes,
        };
        *count += 1;
        self.files += u64::from(!entry.directory);
        self.bytes = self.bytes.saturating_add(entry.bytes);
    }
}

/// Entries listed between two looks at the monitor.
const ENTRIES_A_STEP: u64 = 256;

/// Lists what differs within `scope`, in the order of roots and paths, until `each` breaks. What moves across the
/// border of the scope is created or removed. Sums over what was listed.
///
/// # Errors
/// As the tables and the replica tree; `Cancelled`.
pub fn list<T: TreeIo>(
    difference: &Difference<'_, T>,
    scope: &Scope,
    monitor: &dyn Monitor,
    each: &mut dyn FnMut(Entry) -> ControlFlow<()>,
) -> Result<Totals, RestoreError> {
    let failed = RestoreError::journal("list what differs");
    let mut totals = Totals::default();
    let mut merge = Lister::new(difference, scope).map_err(&failed)?.into_merge().map_err(&failed)?;
    let mut listed = 0;
    while let Some(entry) = merge.next().map_err(&failed)? {
        totals.add(&entry);
        if each(entry).is_break() {
            break;
        }
        listed += 1;
        if listed % ENTRIES_A_STEP == 0 {
            monitor.progress(Phase::Compare, listed, None);
            if monitor.cancelled() {
                return Err(RestoreError::Cancelled);
            }
        }
    }
    Ok(totals)
}

/// Objects below a directory that are no directories and come or go with it; none if it hangs under a root at both
/// points.
pub(crate) fn files_with<T: TreeIo>(
    difference: &Difference<'_, T>,
    directory: NodeId,
) -> Result<u64, JournalError> {
    let (from, to) = (difference.from().path_of(directory)?, difference.to().path_of(directory)?);
    let (kind, root) = match (from, to) {
        (Some((root, _)), None) => (PointKind::Removed, root),
        (None, Some((root, _))) => (PointKind::Created, root),
        _ => return Ok(0),
    };
    let top = Entry { kind, root, path: Vec::new(), from: None, bytes: 0, directory: true, node: directory };
    let mut walk = Walk::new(difference, &top);
    let mut files = 0;
    while let Some(entry) = walk.next()? {
        files += u64::from(!entry.directory);
    }
    Ok(files)
}

/// Names of a node that are there at one point only.
#[derive(Default)]
struct Moved {
    gone: Vec<Edge>,
    come: Vec<Edge>,
}

struct Lister<'d, 'v, T: TreeIo> {
    difference: &'d Difference<'v, T>,
    from: Area<'d, 'v, T>,
    to: Area<'d, 'v, T>,
    moved: BTreeMap<NodeId, Moved>,
    /// Nodes that the list has under a new path.
    renamed: BTreeSet<NodeId>,
    /// Nodes whose name changed and whose path did not.
    same_path: BTreeMap<NodeId, (RootNo, Vec<u8>)>,
    entries: Vec<Entry>,
}

impl<'d, 'v, T: TreeIo> Lister<'d, 'v, T> {
    fn new(difference: &'d Difference<'v, T>, scope: &Scope) -> Result<Self, JournalError> {
        let from = Area::new(difference.from(), scope)?;
        let to = Area::new(difference.to(), scope)?;
        let mut lister = Lister {
            difference,
            from,
            to,
            moved: BTreeMap::new(),
            renamed: BTreeSet::new(),
            same_path: BTreeMap::new(),
            entries: Vec::new(),
        };
        lister.find_names()?;
        lister.list_names()?;
        lister.list_nodes()?;
        Ok(lister)
    }

    fn find_names(&mut self) -> Result<(), JournalError> {
        for (before, after) in self.from.tops().iter().zip(self.to.tops()) {
            if before.node == after.node {
                continue;
            }
            if let (Some(edge), Some(node)) = (&before.edge, before.node) {
                self.moved.entry(node).or_default().gone.push(edge.clone());
            }
            if let (Some(edge), Some(node)) = (&after.edge, after.node) {
                self.moved.entry(node).or_default().come.push(edge.clone());
            }
        }
        for change in self.difference.names() {
            // The names of the paths themselves are compared above: their directories may be others.
            if let Some(node) = change.from
                && !self.from.is_top(&change.edge)
                && self.from.directory(change.edge.parent)? == Where::Inside
            {
                self.moved.entry(node).or_default().gone.push(change.edge.clone());
            }
            if let Some(node) = change.to
                && !self.to.is_top(&change.edge)
                && self.to.directory(change.edge.parent)? == Where::Inside
            {
                self.moved.entry(node).or_default().come.push(change.edge.clone());
            }
        }
        Ok(())
    }

    fn list_names(&mut self) -> Result<(), JournalError> {
        for (node, moved) in std::mem::take(&mut self.moved) {
            let (mut gone, mut come) = (moved.gone.into_iter(), moved.come.into_iter());
            loop {
                let entry = match (gone.next(), come.next()) {
                    (None, None) => break,
                    (Some(edge), None) => self.one_sided(node, &edge, PointKind::Removed)?,
                    (None, Some(edge)) => self.one_sided(node, &edge, PointKind::Created)?,
                    (Some(from), Some(to)) => self.renamed(node, &from, &to)?,
                };
                self.entries.extend(entry);
            }
        }
        Ok(())
    }

    fn one_sided(&self, node: NodeId, edge: &Edge, kind: PointKind) -> Result<Option<Entry>, JournalError> {
        let side = if kind == PointKind::Created { self.difference.to() } else { self.difference.from() };
        let Some((root, path)) = side.path(edge)? else { return Ok(None) };
        entry(side.view(), node, kind, root, path)
    }

    fn renamed(&mut self, node: NodeId, from: &Edge, to: &Edge) -> Result<Option<Entry>, JournalError> {
        let (Some((_, old)), Some((root, path))) =
            (self.difference.from().path(from)?, self.difference.to().path(to)?)
        else {
            return Ok(None);
        };
        if old == path {
            // The same place in other directories of the same names.
            self.same_path.insert(node, (root, path));
            return Ok(None);
        }
        self.renamed.insert(node);
        let directory = is_directory(self.difference.to(), node)?;
        let bytes = self.bytes(node)?;
        let kind = if bytes.is_some() { PointKind::Modified } else { PointKind::Renamed };
        Ok(Some(Entry { kind, root, path, from: Some(old), bytes: bytes.unwrap_or(0), directory, node }))
    }

    /// Bytes in which a file differs; `None` if it does not.
    fn bytes(&self, node: NodeId) -> Result<Option<u64>, JournalError> {
        if !self.difference.may_differ(node) {
            return Ok(None);
        }
        bytes_differing(self.difference.from().view(), self.difference.to().view(), node)
    }

    /// Nodes that both points have under the same name, with other bytes or metadata.
    fn list_nodes(&mut self) -> Result<(), JournalError> {
        let touched: BTreeSet<NodeId> =
            self.difference.nodes().iter().chain(self.difference.files()).copied().collect();
        for node in touched {
            let Some((root, path)) = self.steady_path(node)? else { continue };
            let bytes = self.bytes(node)?;
            let kind = match bytes {
                Some(_) => PointKind::Modified,
                None if meta_differs(self.difference.from().view(), self.difference.to().view(), node)? => {
                    PointKind::Attributes
                }
                None => continue,
            };
            let directory = is_directory(self.difference.to(), node)?;
            let bytes = bytes.unwrap_or(0);
            self.entries.push(Entry { kind, root, path, from: None, bytes, directory, node });
        }
        Ok(())
    }

    /// The least path of a node that it has within the scope at the point gone to, if it is there at both points and
    /// the list does not have it as renamed. Names that are not there at the point that is left do not count: the list
    /// has them as created.
    fn steady_path(&self, node: NodeId) -> Result<Option<(RootNo, Vec<u8>)>, JournalError> {
        if node.as_root_or_kept().is_some() {
            let inside = self.to.directory(node)? == Where::Inside;
            return if inside { self.difference.to().path_of(node) } else { Ok(None) };
        }
        if self.renamed.contains(&node) || self.from.names(node, Where::Inside)?.is_empty() {
            return Ok(None);
        }
        let mut least = self.same_path.get(&node).cloned();
        for edge in self.to.names(node, Where::Inside)? {
            let steady = self.difference.name(&edge).is_none() && self.from.name(&edge)? == Where::Inside;
            let mut tops = self.from.tops().iter().zip(self.to.tops());
            // A path that leads to the same node at both points, by whatever directory.
            let top = tops.any(|(from, to)| from.node == Some(node) && to.edge.as_ref() == Some(&edge));
            if (steady || top)
                && let Some(found) = self.difference.to().path(&edge)?
                && least.as_ref().is_none_or(|least| found < *least)
            {
                least = Some(found);
            }
        }
        Ok(least)
    }

    fn into_merge(mut self) -> Result<Merge<'d, 'v, T>, JournalError> {
        self.entries.sort_by(order);
        let shallow = self.entries.into_iter().peekable();
        Ok(Merge { difference: self.difference, shallow, walks: Vec::new() })
    }
}

/// An object that is there at one point only, as `view` shows it.
fn entry<T: TreeIo>(
    view: &View<T>,
    node: NodeId,
    kind: PointKind,
    root: RootNo,
    path: Vec<u8>,
) -> Result<Option<Entry>, JournalError> {
    let Some(meta) = view.meta(node)? else { return Ok(None) };
    let directory = meta.kind.is_directory();
    let bytes = if meta.kind.is_file() { meta.size } else { 0 };
    Ok(Some(Entry { kind, root, path, from: None, bytes, directory, node }))
}

/// By root, then component by component, so that what is in a directory follows it; what goes before what comes.
fn order(a: &Entry, b: &Entry) -> Ordering {
    fn parts(path: &[u8]) -> impl Iterator<Item = &[u8]> {
        path.split(|byte| *byte == b'/')
    }
    let rank = |entry: &Entry| u8::from(entry.kind != PointKind::Removed);
    a.root.cmp(&b.root).then_with(|| parts(&a.path).cmp(parts(&b.path))).then_with(|| rank(a).cmp(&rank(b)))
}

/// The list and the walks below directories that come or go, merged into one order.
struct Merge<'d, 'v, T: TreeIo> {
    difference: &'d Difference<'v, T>,
    shallow: std::iter::Peekable<std::vec::IntoIter<Entry>>,
    walks: Vec<(Walk<'d, 'v, T>, Entry)>,
}

impl<T: TreeIo> Merge<'_, '_, T> {
    fn next(&mut self) -> Result<Option<Entry>, JournalError> {
        let least = self.walks.iter().enumerate().min_by(|(_, (_, a)), (_, (_, b))| order(a, b));
        let least = least.map(|(number, (_, entry))| (number, entry));
        let from_walk = match (least, self.shallow.peek()) {
            (Some((number, walked)), Some(listed)) if order(walked, listed) == Ordering::Less => Some(number),
            (Some((number, _)), None) => Some(number),
            _ => None,
        };
        if let Some(number) = from_walk {
            let (mut walk, entry) = self.walks.swap_remove(number);
            if let Some(next) = walk.next()? {
                self.walks.push((walk, next));
            }
            return Ok(Some(entry));
        }
        let Some(entry) = self.shallow.next() else { return Ok(None) };
        if entry.directory && matches!(entry.kind, PointKind::Created | PointKind::Removed) {
            let mut walk = Walk::new(self.difference, &entry);
            if let Some(next) = walk.next()? {
                self.walks.push((walk, next));
            }
        }
        Ok(Some(entry))
    }
}

type Names<'d> = Box<dyn Iterator<Item = Result<(Name, NodeId), JournalError>> + 'd>;

/// Objects below a directory that come or go with it, in the order of paths.
struct Walk<'d, 'v, T: TreeIo> {
    difference: &'d Difference<'v, T>,
    side: &'d Places<'v, T>,
    kind: PointKind,
    root: RootNo,
    stack: Vec<(NodeId, Vec<u8>, Names<'d>)>,
}

impl<'d, 'v, T: TreeIo> Walk<'d, 'v, T> {
    fn new(difference: &'d Difference<'v, T>, top: &Entry) -> Self {
        let side = if top.kind == PointKind::Created { difference.to() } else { difference.from() };
        let mut walk = Walk { difference, side, kind: top.kind, root: top.root, stack: Vec::new() };
        walk.enter(top.node, top.path.clone());
        walk
    }

    fn enter(&mut self, directory: NodeId, path: Vec<u8>) {
        self.stack.push((directory, path, Box::new(self.side.view().list(directory))));
    }

    fn next(&mut self) -> Result<Option<Entry>, JournalError> {
        while let Some((directory, path, names)) = self.stack.last_mut() {
            let Some(found) = names.next() else {
                self.stack.pop();
                continue;
            };
            let (name, node) = found?;
            let edge = Edge::new(*directory, name);
            if self.difference.name(&edge).is_some() {
                continue;
            }
            let path = join(path, edge.name.as_bytes());
            let Some(entry) = entry(self.side.view(), node, self.kind, self.root, path)? else { continue };
            if entry.directory {
                self.enter(node, entry.path.clone());
            }
            return Ok(Some(entry));
        }
        Ok(None)
    }
}
