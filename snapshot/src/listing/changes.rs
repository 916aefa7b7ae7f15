//! Loading a session as what differs from another one.
//!
//! Both trees are gone through together. Equal trees have equal listings, so they are passed over; of a directory that
//! differs both trees are in memory, and only the nodes that are not the same text in both are read. No recursion:
//! directories that wait lie on a list.

use super::{ListingError, Loaded, Top, child, row, walk};
use crate::catalog::{Catalog, DeltaLoader, PATH_BYTES_MAX, Row, SessionId, SessionInfo};
use crate::repository::tree::{RawTree, compare_trees};
use crate::repository::{BlobKind, Id, Node, Repository, Step};

/// A directory to be compared.
struct Pair {
    path: Vec<u8>,
    old: Option<Id>,
    new: Option<Id>,
}

/// An old entry, as far as it matters.
struct Old {
    row: Row,
    tree: Option<Id>,
}

/// Loads a session as its changes against `previous`, which begins at `old`. Both are of one entity.
///
/// # Errors
/// As [`load_whole`](super::load_whole); `Catalog` with `NoSuchSession` if the previous one is not catalogued.
pub fn load_changes(
    catalog: &Catalog,
    repository: &Repository,
    (previous, old): (SessionId, &Top),
    top: &Top,
    info: &SessionInfo,
    go_on: &mut dyn FnMut(u64) -> bool,
) -> Result<Loaded, ListingError> {
    let loader = catalog.begin_from(previous, info.clone())?;
    let mut changes = Changes { repository, loader, loaded: Loaded::default(), todo: Vec::new(), go_on };
    let before = old.node.as_ref().map(|node| Old { row: row(node), tree: old.tree });
    match &top.node {
        Some(node) => changes.entry(&top.root, node, before)?,
        None => changes.todo.push(Pair { path: top.root.clone(), old: old.tree, new: top.tree }),
    }
    while let Some(pair) = changes.todo.pop() {
        changes.directory(&pair)?;
    }
    let Changes { loader, loaded, .. } = changes;
    loader.finish()?;
    Ok(loaded)
}

/// A path and what the session has there, if anything: as [`load_told`] takes it.
pub type Told = (Vec<u8>, Option<Row>);

/// As [`load_changes`], where all differences but that of the root's own entry are known already: no tree is read. Paths
/// that the catalog does not take are not among them.
///
/// # Errors
/// As there.
pub fn load_told(
    catalog: &Catalog,
    (previous, old): (SessionId, &Top),
    top: &Top,
    info: &SessionInfo,
    told: impl IntoIterator<Item = Told>,
) -> Result<Loaded, ListingError> {
    let mut loader = catalog.begin_from(previous, info.clone())?;
    let mut loaded = Loaded::default();
    let own = top.node.as_ref().map(row);
    let root = own.filter(|_| old.node.as_ref().map(row) != own);
    let root = root.filter(|_| top.root.len() <= PATH_BYTES_MAX).map(|row| (top.root.clone(), Some(row)));
    for (path, row) in root.into_iter().chain(told) {
        loaded.entries += 1;
        match row {
            Some(row) => loader.put(&path, row)?,
            None => loader.remove(&path)?,
        }
    }
    loader.finish()?;
    Ok(loaded)
}

struct Changes<'c> {
    repository: &'c Repository,
    loader: DeltaLoader,
    loaded: Loaded,
    todo: Vec<Pair>,
    go_on: &'c mut dyn FnMut(u64) -> bool,
}

impl Changes<'_> {
    fn directory(&mut self, pair: &Pair) -> Result<(), ListingError> {
        if pair.old == pair.new {
            return Ok(());
        }
        let repository = self.repository;
        let load = |tree: &Id| repository.load_blob(BlobKind::Tree, tree);
        let (old, new) = (pair.old.as_ref().map(load).transpose()?, pair.new.as_ref().map(load).transpose()?);
        let raw = |id: &Option<Id>, json| id.as_ref().zip(json).map(|(id, json)| RawTree::new(id, json));
        let old = raw(&pair.old, old.as_deref()).transpose()?;
        let new = raw(&pair.new, new.as_deref()).transpose()?;
        let mut failed = None;
        compare_trees(old.as_ref(), new.as_ref(), &mut |before, after| {
            let before = before.map(|node| (Old { row: row(&node), tree: node.subtree }, node.name));
            let done = match (before, after) {
                (before, Some(after)) => {
                    self.entry(&child(&pair.path, &after.name), &after, before.map(|(old, _)| old))
                }
                (Some((old, name)), None) => self.gone(&child(&pair.path, &name), old.tree),
                (None, None) => Ok(()),
            };
            failed = done.err();
            failed.is_none()
        })?;
        failed.map_or(Ok(()), Err)
    }

    /// An entry of the new session; `old` is what the old one has at the path.
    fn entry(&mut self, path: &[u8], node: &Node, old: Option<Old>) -> Result<(), ListingError> {
        self.loaded.look(self.go_on)?;
        if path.len() > PATH_BYTES_MAX {
            self.loaded.left_out += 1;
            return Ok(());
        }
        let (own, before) = (row(node), old.as_ref().map(|old| old.row));
        if before != Some(own) {
            self.loader.put(path, own)?;
        }
        let old = old.and_then(|old| old.tree);
        if old != node.subtree {
            self.todo.push(Pair { path: path.to_vec(), old, new: node.subtree });
        }
        Ok(())
    }

    /// An entry that only the old session has, with all below it.
    fn gone(&mut self, path: &[u8], tree: Option<Id>) -> Result<(), ListingError> {
        if path.len() > PATH_BYTES_MAX {
            return Ok(());
        }
        self.loader.remove(path)?;
        let Some(tree) = tree else { return Ok(()) };
        let below = Top { root: path.to_vec(), node: None, tree: Some(tree) };
        let mut failed = None;
        walk(self.repository, &below, &mut |path, _| {
            if path.len() > PATH_BYTES_MAX {
                return Step::Over;
            }
            match self.loaded.look(self.go_on).and_then(|()| Ok(self.loader.remove(path)?)) {
                Ok(()) => Step::Into,
                Err(error) => {
                    failed = Some(error);
                    Step::Stop
                }
            }
        })?;
        failed.map_or(Ok(()), Err)
    }
}
