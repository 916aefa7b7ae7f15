//! From the trees of a repository to the rows of the catalog.
//!
//! A session's listing begins at the entity's root ([`Top`]); directories above it are not the entity's. Trees are
//! walked in the order of the catalog, so a load needs no sorting, but for trees of old programs that are in another
//! order. A session that resembles one that is catalogued is loaded as what differs: a directory whose tree is the same
//! is not looked at, so the cost follows what changed ([`load_changes`]).
//!
//! Repositories may be anybody's. Paths that the catalog does not take (longer than it knows) are left out and counted.
//! Trees cannot be cyclic, but a few of them can stand for more paths than can be counted: a load ends with an error
//! at [`ENTRIES_MAX`].

mod changes;

pub use changes::{Told, load_changes, load_told};

use crate::catalog::{
    Catalog, CatalogError, CatalogErrorKind, EntryKind, Loader, Modified, Order, PATH_BYTES_MAX, Row,
    SessionInfo,
};
use crate::repository::session::path_of_text;
use crate::repository::{Id, Node, NodeKind, Repository, RepositoryError, SessionRecord, Step};
use sha2::{Digest, Sha256};

/// Most entries of a session that is loaded.
pub const ENTRIES_MAX: u64 = 1 << 32;

/// Entries between two looks at whether to go on.
const STEP: u64 = 1024;

/// Why a listing could not be read or loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListingError {
    /// The session cannot be read.
    #[error("read the session's trees")]
    Repository {
        /// Why.
        #[from]
        source: RepositoryError,
    },
    /// The catalog does not take it.
    #[error("load the session into the catalog")]
    Catalog {
        /// Why.
        #[from]
        source: CatalogError,
    },
    /// More entries than a session can have.
    #[error("the session has more than {limit} entries")]
    TooMany {
        /// The limit.
        limit: u64,
    },
    /// The caller did not want it any more.
    #[error("the load was given up")]
    GivenUp,
}

/// Where the listing of a session begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Top {
    /// Absolute path of the entity's root.
    pub root: Vec<u8>,
    /// The root itself; `None` for `/`, which is in no tree.
    pub node: Option<Node>,
    /// Its tree; `None` if it is no directory.
    pub tree: Option<Id>,
}

/// What was loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Entries looked at.
    pub entries: u64,
    /// Left out because their paths are longer than the catalog takes.
    pub left_out: u64,
}

/// What the catalog keeps of a node.
#[must_use]
pub fn row(node: &Node) -> Row {
    let kind = match node.kind {
        NodeKind::File => EntryKind::File,
        NodeKind::Directory => EntryKind::Directory,
        NodeKind::Symlink => EntryKind::Symlink,
        NodeKind::BlockDevice => EntryKind::BlockDevice,
        NodeKind::CharacterDevice => EntryKind::CharDevice,
        NodeKind::Fifo => EntryKind::Fifo,
        NodeKind::Socket => EntryKind::Socket,
        NodeKind::Other => EntryKind::Other,
    };
    let content = match node.kind {
        NodeKind::File => {
            let mut hash = Sha256::new();
            node.content.iter().for_each(|blob| hash.update(blob.0));
            first_eight(&hash.finalize())
        }
        NodeKind::Symlink => first_eight(&Sha256::digest(&node.link_target)),
        _ => 0,
    };
    Row {
        kind,
        size: if node.kind == NodeKind::File { node.size } else { 0 },
        modified: Modified { seconds: node.modified.seconds, nanoseconds: node.modified.nanoseconds },
        content,
    }
}

fn first_eight(hash: &[u8]) -> u64 {
    hash.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// Where the listing of a session begins: at its only path, if it has one and the tree holds it, else at `/`.
///
/// Records hold text, trees hold bytes: other programs, and ours before it escaped them, wrote U+FFFD for bytes that are not
/// UTF-8. Such a part is found by what it looks like as text.
///
/// # Errors
/// `Repository`.
pub fn top(repository: &Repository, record: &SessionRecord) -> Result<Top, ListingError> {
    let whole = Top { root: b"/".to_vec(), node: None, tree: Some(record.tree) };
    let [path] = record.paths.as_slice() else { return Ok(whole) };
    let same = |name: &[u8], part: &[u8]| String::from_utf8_lossy(name).as_bytes() == part;
    Ok(descend(repository, &record.tree, &path_of_text(path), &|name, part| {
        name == part || same(name, part)
    })?
    .unwrap_or(whole))
}

/// What a session has at a path, given its root tree; `None` if it has nothing there.
///
/// # Errors
/// `Repository`.
pub fn at(repository: &Repository, tree: &Id, path: &[u8]) -> Result<Option<Top>, ListingError> {
    descend(repository, tree, path, &|name, part| name == part)
}

fn descend(
    repository: &Repository,
    tree: &Id,
    path: &[u8],
    same: &dyn Fn(&[u8], &[u8]) -> bool,
) -> Result<Option<Top>, ListingError> {
    let mut top = Top { root: Vec::new(), node: None, tree: Some(*tree) };
    for part in path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
        let Some(tree) = top.tree else { return Ok(None) };
        let mut found = None;
        repository.load_tree(&tree, &mut |node| {
            let here = same(&node.name, part);
            if here {
                found = Some(node);
            }
            !here
        })?;
        let Some(node) = found else { return Ok(None) };
        top.root.push(b'/');
        top.root.extend_from_slice(&node.name);
        top.tree = node.subtree;
        top.node = Some(node);
    }
    if top.root.is_empty() {
        top.root.push(b'/');
    }
    Ok(Some(top).filter(|top| top.root.len() <= PATH_BYTES_MAX))
}

/// Hands out the entries of a session with their absolute paths, in the order of the catalog unless an old program wrote
/// the trees. Whether it went to the end.
///
/// # Errors
/// `Repository`. What came before was handed out.
pub fn walk(
    repository: &Repository,
    top: &Top,
    each: &mut dyn FnMut(&[u8], &Node) -> Step,
) -> Result<bool, ListingError> {
    if let Some(node) = &top.node
        && each(&top.root, node) == Step::Stop
    {
        return Ok(false);
    }
    let Some(tree) = top.tree else { return Ok(true) };
    let base = top.root.strip_suffix(b"/").unwrap_or(&top.root);
    let mut path = Vec::new();
    Ok(repository.walk(&tree, &mut |below, node| {
        path.clear();
        path.extend_from_slice(base);
        path.push(b'/');
        path.extend_from_slice(below);
        each(&path, &node)
    })?)
}

/// Loads a session from its whole listing. `go_on` is told now and then how many entries were read.
///
/// # Errors
/// All of [`ListingError`]; nothing of the session is in the catalog then.
pub fn load_whole(
    catalog: &Catalog,
    repository: &Repository,
    top: &Top,
    info: &SessionInfo,
    go_on: &mut dyn FnMut(u64) -> bool,
) -> Result<Loaded, ListingError> {
    match load_in(Order::Sorted, catalog, repository, top, info, go_on) {
        Err(ListingError::Catalog { source: CatalogError::OutOfOrder { .. } }) => {
            load_in(Order::Any, catalog, repository, top, info, go_on)
        }
        loaded => loaded,
    }
}

fn load_in(
    order: Order,
    catalog: &Catalog,
    repository: &Repository,
    top: &Top,
    info: &SessionInfo,
    go_on: &mut dyn FnMut(u64) -> bool,
) -> Result<Loaded, ListingError> {
    let mut loader = catalog.begin(info.clone(), order)?;
    let mut loaded = Loaded::default();
    let mut failed = None;
    walk(repository, top, &mut |path, node| match put(&mut loader, &mut loaded, path, node, go_on) {
        Ok(step) => step,
        Err(error) => {
            failed = Some(error);
            Step::Stop
        }
    })?;
    if let Some(error) = failed {
        return Err(error);
    }
    loader.finish()?;
    Ok(loaded)
}

fn put(
    loader: &mut Loader,
    loaded: &mut Loaded,
    path: &[u8],
    node: &Node,
    go_on: &mut dyn FnMut(u64) -> bool,
) -> Result<Step, ListingError> {
    loaded.look(go_on)?;
    if path.len() > PATH_BYTES_MAX {
        loaded.left_out += 1;
        // What is below has longer paths still.
        return Ok(Step::Over);
    }
    loader.put(path, row(node))?;
    Ok(Step::Into)
}

impl Loaded {
    /// Counts an entry.
    fn look(&mut self, go_on: &mut dyn FnMut(u64) -> bool) -> Result<(), ListingError> {
        self.entries += 1;
        if self.entries > ENTRIES_MAX {
            return Err(ListingError::TooMany { limit: ENTRIES_MAX });
        }
        if self.entries.is_multiple_of(STEP) && !go_on(self.entries) {
            return Err(ListingError::GivenUp);
        }
        Ok(())
    }
}

impl ListingError {
    /// Whether the catalog is damaged, and to be made anew.
    #[must_use]
    pub fn is_catalog_damage(&self) -> bool {
        matches!(self, ListingError::Catalog { source } if source.kind() == CatalogErrorKind::Damaged)
    }

    /// Whether the session is no longer there.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        matches!(self, ListingError::Repository { source: RepositoryError::SessionNotFound { .. } })
    }
}

/// The path of an entry of a directory.
fn child(directory: &[u8], name: &[u8]) -> Vec<u8> {
    [directory.strip_suffix(b"/").unwrap_or(directory), b"/", name].concat()
}

#[cfg(test)]
mod tests;
