//! Directories being edited: each becomes a tree when the last of its touched entries is known.

use crate::repository::tree::{FoundTree, TREE_BYTES_MAX};
use crate::repository::{BlobKind, Id, Node, RepositoryError, TreeBuilder};
use crate::session::directory::save_tree;
use crate::session::node::{Held, node};
use crate::session::totals::Tally;
use crate::session::{SessionError, Work};
use journal::view::join;
use journal::{Meta, NodeId, TreeIo};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of old trees that are kept between the first look at each and the second; others are loaded again.
const KEPT_BYTES_MAX: usize = 16 << 20;
/// Room made for a new entry of a tree in the first place; most take less.
const NODE_BYTES: usize = 512;

/// A directory under way.
pub(super) struct Edit {
    /// Absolute path on the master.
    pub path: Vec<u8>,
    pub id: NodeId,
    /// Its tree in the old session.
    pub old: Option<Id>,
    name: Vec<u8>,
    meta: Meta,
    above: Option<Arc<Edit>>,
    state: Mutex<State>,
}

struct State {
    /// What replaces the old entry of a name; `None`: nothing does.
    entries: BTreeMap<Vec<u8>, Option<Node>>,
    /// Entries to come, and one while the directory is not listed to its end.
    open: usize,
    before: Option<FoundTree>,
}

impl Edit {
    pub fn new(
        path: Vec<u8>,
        name: Vec<u8>,
        (id, meta): (NodeId, Meta),
        above: Option<Arc<Edit>>,
        old: Option<Id>,
    ) -> Arc<Self> {
        let state = Mutex::new(State { entries: BTreeMap::new(), open: 1, before: None });
        Arc::new(Edit { path, id, old, name, meta, above, state })
    }
}

/// What the walk and the threads share.
pub(super) struct Shared<'w, 'a, T: TreeIo> {
    pub work: &'w Work<'a, T>,
    pub tally: &'w Tally,
    outcome: Mutex<Option<Result<Id, SessionError>>>,
    /// Bytes of the old trees that are kept.
    kept: AtomicUsize,
}

impl<'w, 'a, T: TreeIo> Shared<'w, 'a, T> {
    pub fn new(work: &'w Work<'a, T>, tally: &'w Tally) -> Self {
        Shared { work, tally, outcome: Mutex::new(None), kept: AtomicUsize::new(0) }
    }

    /// Keeps the old tree of a directory for the second look, if there is room.
    pub fn keep(&self, edit: &Edit, tree: FoundTree) {
        let bytes = tree.memory();
        if self.kept.fetch_add(bytes, Ordering::Relaxed) + bytes <= KEPT_BYTES_MAX {
            edit.state.lock().before = Some(tree);
        } else {
            self.kept.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    /// The old tree of a directory, for the second look.
    fn again(&self, old: &Id, kept: Option<FoundTree>) -> Result<FoundTree, RepositoryError> {
        match kept {
            Some(tree) => {
                self.kept.fetch_sub(tree.memory(), Ordering::Relaxed);
                Ok(tree)
            }
            None => FoundTree::new(old, self.work.writer.repository().load_blob(BlobKind::Tree, old)?),
        }
    }

    pub fn into_outcome(self) -> Option<Result<Id, SessionError>> {
        self.outcome.into_inner()
    }

    pub fn fail(&self, error: SessionError) {
        let mut outcome = self.outcome.lock();
        if !matches!(*outcome, Some(Err(_))) {
            *outcome = Some(Err(error));
        }
    }

    pub fn is_over(&self) -> bool {
        matches!(*self.outcome.lock(), Some(Err(_))) || self.work.monitor.cancelled()
    }

    /// One entry of the directory will [arrive](Self::arrived) later.
    pub fn expect(&self, edit: &Edit) {
        edit.state.lock().open += 1;
    }

    /// An entry that is known while its directory is listed.
    pub fn known(&self, edit: &Edit, entry: Node) {
        self.work.object(&join(&edit.path, &entry.name), &entry);
        edit.state.lock().entries.insert(entry.name.clone(), Some(entry));
    }

    /// A name that is no longer there, or cannot be had.
    pub fn without(&self, edit: &Edit, name: &[u8]) {
        edit.state.lock().entries.insert(name.to_vec(), None);
    }

    /// An entry that was expected; `None` if it cannot be had.
    pub fn arrived(&self, edit: &Arc<Edit>, name: &[u8], entry: Option<Node>) {
        match entry {
            Some(entry) => self.known(edit, entry),
            None => self.without(edit, name),
        }
        self.one_less(edit);
    }

    /// All touched names of a directory have been looked at.
    pub fn listed(&self, edit: &Arc<Edit>) {
        self.one_less(edit);
    }

    /// Finishes the directory if nothing of it is open any more, then the one above, and so on.
    fn one_less(&self, edit: &Arc<Edit>) {
        let mut edit = Arc::clone(edit);
        loop {
            {
                let mut state = edit.state.lock();
                state.open -= 1;
                if state.open > 0 {
                    return;
                }
            }
            let tree = match self.finish(&edit) {
                Ok(tree) => tree,
                Err(error) => return self.fail(error),
            };
            let own = node(self.work.entity, &edit.name, edit.id, &edit.meta, 0, Held::Tree(tree));
            match edit.above.clone() {
                Some(above) => {
                    self.known(&above, own);
                    edit = above;
                }
                None => {
                    self.work.object(&edit.path, &own);
                    self.outcome.lock().get_or_insert(Ok(tree));
                    return;
                }
            }
        }
    }

    /// The old tree with the touched names replaced.
    fn finish(&self, edit: &Edit) -> Result<Id, SessionError> {
        let (entries, before) = {
            let mut state = edit.state.lock();
            (std::mem::take(&mut state.entries), state.before.take())
        };
        let refused = |source| SessionError::Directory {
            path: String::from_utf8_lossy(&edit.path).into_owned(),
            source,
        };
        let old = edit.old.map(|old| self.again(&old, before)).transpose()?;
        let room = old.as_ref().map_or(0, FoundTree::bytes) + entries.len() * NODE_BYTES;
        let mut tree = TreeBuilder::with_room(room.min(TREE_BYTES_MAX as usize));
        let mut entries = entries.into_iter().peekable();
        if let Some(old) = &old {
            for before in old.nodes() {
                let before = before?;
                while let Some((_, entry)) = entries.next_if(|(name, _)| name.as_slice() < before.name()) {
                    self.come(&mut tree, edit, None, entry).map_err(refused)?;
                }
                match entries.next_if(|(name, _)| name.as_slice() == before.name()) {
                    Some((_, entry)) => {
                        self.come(&mut tree, edit, Some(before.read()?), entry).map_err(refused)?;
                    }
                    None => tree.add_raw(&before).map_err(refused)?,
                }
            }
        }
        for (_, entry) in entries {
            self.come(&mut tree, edit, None, entry).map_err(refused)?;
        }
        save_tree(self.work, tree.finish()).map_err(refused)
    }

    /// Puts a new entry of a directory into its tree, if there is one, in the place of the old one, if there was one.
    fn come(
        &self,
        tree: &mut TreeBuilder,
        edit: &Edit,
        before: Option<Node>,
        entry: Option<Node>,
    ) -> Result<(), RepositoryError> {
        if let Some(any) = entry.as_ref().or(before.as_ref()) {
            let path = join(&edit.path, &any.name);
            self.work.monitor.changed(&path, before.as_ref(), entry.as_ref());
        }
        if let Some(before) = before {
            self.tally.went(&before.into());
        }
        entry.map_or(Ok(()), |entry| {
            self.tally.came(&entry);
            tree.add(&entry)
        })
    }
}
