//! Directories under way: each becomes a tree when the last of its entries is known.
//!
//! Entries are numbered in the order of names and come in any order, from any thread. Each directory writes its tree as
//! far as the entries have come without a gap, so that what waits is small; whoever delivers the last entry saves the
//! tree and delivers the directory's own entry to the one above, and so on upwards, in a loop. Nobody waits for
//! anybody: there is nothing to lock up.

use super::node::{Held, node};
use super::{SessionError, Work};
use crate::repository::{BlobKind, Id, Node, RepositoryError, TreeBuilder};
use journal::{Meta, NodeId, TreeIo};
use parking_lot::{Condvar, Mutex};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Entries that may wait for an earlier one of their directory, in all directories together.
const WAITING_MAX: usize = 20_000;

/// A directory under way.
pub(super) struct Directory {
    /// Absolute path on the master.
    pub path: Vec<u8>,
    /// Its name in the directory above; empty for the root.
    pub name: Vec<u8>,
    pub id: NodeId,
    pub meta: Meta,
    /// The directory above and the number of its entry there.
    pub above: Option<(Arc<Directory>, u64)>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    tree: TreeBuilder,
    /// Entries written into the tree, or left out.
    done: u64,
    /// How many there are, once all were listed.
    entries: Option<u64>,
    /// What has come too early; `None` for an entry that is left out.
    waiting: BTreeMap<u64, Option<Box<Node>>>,
}

/// Counts what waits, so that the walk does not run away from a slow file.
#[derive(Default)]
pub(super) struct Waiting {
    count: Mutex<usize>,
    fewer: Condvar,
}

impl Waiting {
    /// Returns when little waits. What waits does so for files that other threads read, so it ends.
    pub fn pause(&self, over: impl Fn() -> bool) {
        let mut count = self.count.lock();
        while *count > WAITING_MAX && !over() {
            self.fewer.wait_for(&mut count, std::time::Duration::from_millis(100));
        }
    }

    fn changed(&self, before: usize, after: usize) {
        let mut count = self.count.lock();
        *count = (*count + after).saturating_sub(before);
        if after < before {
            self.fewer.notify_all();
        }
    }
}

impl Directory {
    pub fn new(
        path: Vec<u8>,
        name: Vec<u8>,
        (id, meta): (NodeId, Meta),
        above: Option<(Arc<Directory>, u64)>,
    ) -> Arc<Self> {
        Arc::new(Directory { path, name, id, meta, above, state: Mutex::default() })
    }
}

/// What a directory waits for.
pub(super) enum News {
    /// The entry of a number; `None` if it is left out.
    Entry(u64, Option<Box<Node>>),
    /// All were listed; so many there are.
    Listed(u64),
}

/// Delivers news to a directory. The id of the root's tree if that completes it.
pub(super) fn deliver<T: TreeIo>(
    work: &Work<'_, T>,
    waiting: &Waiting,
    directory: &Arc<Directory>,
    news: News,
) -> Result<Option<Id>, SessionError> {
    let (mut directory, mut news) = (Arc::clone(directory), news);
    loop {
        let Some(tree) = take(work, waiting, &directory, news)? else { return Ok(None) };
        let own = node(work.entity, &directory.name, directory.id, &directory.meta, 0, Held::Tree(tree));
        work.object(&directory.path, &own);
        let Some((above, number)) = directory.above.clone() else { return Ok(Some(tree)) };
        (directory, news) = (above, News::Entry(number, Some(Box::new(own))));
    }
}

/// The id of the directory's tree, if it is complete now.
fn take<T: TreeIo>(
    work: &Work<'_, T>,
    waiting: &Waiting,
    directory: &Directory,
    news: News,
) -> Result<Option<Id>, SessionError> {
    let mut state = directory.state.lock();
    let before = state.waiting.len();
    match news {
        News::Entry(number, entry) => drop(state.waiting.insert(number, entry)),
        News::Listed(entries) => state.entries = Some(entries),
    }
    let refused = |source| SessionError::Directory {
        path: String::from_utf8_lossy(&directory.path).into_owned(),
        source,
    };
    let done = state.done;
    while let Some((number, entry)) = state.waiting.pop_first() {
        if number != state.done {
            state.waiting.insert(number, entry);
            break;
        }
        state.done += 1;
        if let Some(entry) = entry {
            state.tree.add(&entry).map_err(refused)?;
        }
    }
    if before != state.waiting.len() || done != state.done {
        waiting.changed(before, state.waiting.len());
    }
    if state.entries != Some(state.done) {
        return Ok(None);
    }
    let mut tree = std::mem::take(&mut state.tree);
    drop(state);
    save_tree(work, tree.finish()).map(Some).map_err(refused)
}

/// Saves a tree.
pub(super) fn save_tree<T: TreeIo>(work: &Work<'_, T>, json: &[u8]) -> Result<Id, RepositoryError> {
    let saved = work.writer.save_blob(BlobKind::Tree, json)?;
    if saved.is_new {
        work.count(|counts| {
            counts.tree_blobs += 1;
            counts.bytes_new += json.len() as u64;
            counts.bytes_stored += saved.stored_bytes;
        });
    }
    Ok(saved.id)
}
