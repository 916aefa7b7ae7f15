//! What a session holds, in numbers.
//!
//! A look at everything counts as it goes. A session made from the one before takes that one's totals and adds what its
//! edits changed: entries that came count for, entries that went count against. A directory that is taken over or edited
//! counts for with its old tree, one that went counts against with it; what only moved cancels out. Old trees that do
//! not cancel are counted by walking them, so the cost is that of what was really removed.

use super::delta::Was;
use super::{Counts, SessionError};
use crate::repository::tree::read_tree;
use crate::repository::{BlobKind, Id, Node, Repository, SessionRecord};
use parking_lot::Mutex;
use std::collections::HashMap;

/// Keys of a record's summary.
const FILES: &str = "total_files_processed";
const DIRECTORIES: &str = "total_directories";
const BYTES: &str = "total_bytes_processed";

/// What a session holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Names of objects that are no directories.
    pub files: u64,
    /// Directories, the root among them.
    pub directories: u64,
    /// Bytes of the files, each name counted.
    pub bytes: u64,
}

impl Totals {
    /// Of a look at everything.
    pub(super) fn counted(counts: &Counts) -> Self {
        Totals { files: counts.files, directories: counts.directories, bytes: counts.bytes }
    }

    /// As a record says, if it does.
    #[must_use]
    pub fn of_record(record: &SessionRecord) -> Option<Self> {
        let summary = record.summary.as_ref()?;
        let number = |key| summary.get(key).and_then(serde_json::Value::as_u64);
        Some(Totals { files: number(FILES)?, directories: number(DIRECTORIES)?, bytes: number(BYTES)? })
    }

    /// Puts them into a record's summary.
    pub(crate) fn write(self, summary: &mut serde_json::Value) {
        for (key, value) in [(FILES, self.files), (DIRECTORIES, self.directories), (BYTES, self.bytes)] {
            if let Some(summary) = summary.as_object_mut() {
                summary.insert(key.to_owned(), value.into());
            }
        }
    }

    /// By walking a tree; the directory itself is not counted. `check` is called for every tree.
    fn of_tree(
        repository: &Repository,
        tree: Id,
        check: &dyn Fn() -> Result<(), SessionError>,
    ) -> Result<Change, SessionError> {
        let mut totals = Change::default();
        let mut todo = vec![tree];
        while let Some(tree) = todo.pop() {
            check()?;
            let json = repository.load_blob(BlobKind::Tree, &tree)?;
            read_tree(&tree, &json, &mut |node| {
                totals.entry(node.subtree.is_some(), node.size, 1);
                todo.extend(node.subtree);
                true
            })?;
        }
        Ok(totals)
    }
}

/// A difference of totals.
#[derive(Clone, Copy, Debug, Default)]
struct Change {
    files: i64,
    directories: i64,
    bytes: i64,
}

impl Change {
    fn entry(&mut self, directory: bool, bytes: u64, times: i64) {
        if directory {
            self.directories = self.directories.saturating_add(times);
        } else {
            self.files = self.files.saturating_add(times);
            let bytes = i64::try_from(bytes).unwrap_or(i64::MAX).saturating_mul(times);
            self.bytes = self.bytes.saturating_add(bytes);
        }
    }

    fn add(&mut self, other: Change, times: i64) {
        self.files = self.files.saturating_add(other.files.saturating_mul(times));
        self.directories = self.directories.saturating_add(other.directories.saturating_mul(times));
        self.bytes = self.bytes.saturating_add(other.bytes.saturating_mul(times));
    }
}

/// Keeps count of edits.
#[derive(Default)]
pub(super) struct Tally(Mutex<State>);

#[derive(Default)]
struct State {
    change: Change,
    /// How much more often an old tree is in the new session than in the old one.
    trees: HashMap<Id, i64>,
}

impl Tally {
    /// An entry of the new session. What is below a directory counts by [`keeps`](Self::keeps), or entry by entry.
    pub fn came(&self, node: &Node) {
        self.0.lock().change.entry(node.subtree.is_some(), node.size, 1);
    }

    /// An entry of the old session that is not in the new one at this place, with all below it.
    pub fn went(&self, was: &Was) {
        let mut state = self.0.lock();
        state.change.entry(was.subtree.is_some(), was.size, -1);
        if let Some(tree) = was.subtree {
            state.tree(tree, -1);
        }
    }

    /// A directory of the new session has an old tree, or one that is edited from it.
    pub fn keeps(&self, tree: Id) {
        self.0.lock().tree(tree, 1);
    }

    /// The totals of the new session. `before`: those of the old one; unknown, its root's tree is walked.
    pub fn settle(
        &self,
        repository: &Repository,
        (before, root): (Option<Totals>, Id),
        check: &dyn Fn() -> Result<(), SessionError>,
    ) -> Result<Totals, SessionError> {
        let state = std::mem::take(&mut *self.0.lock());
        let mut change = state.change;
        for (tree, times) in state.trees {
            change.add(Totals::of_tree(repository, tree, check)?, times);
        }
        let before = match before {
            Some(before) => before,
            None => {
                change.add(Totals::of_tree(repository, root, check)?, 1);
                // The root itself.
                Totals { directories: 1, ..Totals::default() }
            }
        };
        Ok(Totals {
            files: before.files.saturating_add_signed(change.files),
            directories: before.directories.saturating_add_signed(change.directories),
            bytes: before.bytes.saturating_add_signed(change.bytes),
        })
    }
}

impl State {
    fn tree(&mut self, tree: Id, times: i64) {
        let count = self.trees.entry(tree).or_default();
        *count += times;
        if *count == 0 {
            self.trees.remove(&tree);
        }
    }
}
