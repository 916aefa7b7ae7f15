//! Which sessions need something that is lost, where the walk that found it named only the first of them: trees that
//! several share are looked into once.
//!
//! Each tree is read once more, after those below it, and it is noted whether anything below it is lost: 33 bytes a tree.
//! Only a check that found a loss pays for this.

use super::ledger::Ledger;
use super::used::{is_passing, load};
use super::{Watch, go_on};
use crate::repository::Repository;
use crate::repository::error::RepositoryError;
use crate::repository::id::{BlobKind, Id};
use crate::repository::tree::read_tree;
use std::collections::HashMap;

/// Trees, and whether something that they need is lost.
#[derive(Debug, Default)]
pub(super) struct Needers {
    lacks: HashMap<Id, bool>,
}

/// A tree on the way down.
struct Level {
    tree: Id,
    waiting: Vec<Id>,
    lacks: bool,
}

impl Needers {
    /// Says that a tree is lost.
    pub fn lost(&mut self, tree: Id) {
        self.lacks.insert(tree, true);
    }

    /// Whether anything is lost that a tree needs.
    ///
    /// # Errors
    /// `Store`, `Cancelled`.
    pub fn lacks(
        &mut self,
        repository: &Repository,
        ledger: &Ledger,
        root: &Id,
        watch: &dyn Watch,
    ) -> Result<bool, RepositoryError> {
        let mut levels = vec![Level { tree: *root, waiting: vec![*root], lacks: false }];
        // The first level stands for the root's name; what it learns is what the root lacks.
        while let Some(level) = levels.last_mut() {
            let Some(tree) = level.waiting.pop() else {
                let Level { tree, lacks, .. } = *level;
                levels.pop();
                self.lacks.insert(tree, lacks);
                if let Some(above) = levels.last_mut() {
                    above.lacks |= lacks;
                }
                continue;
            };
            match self.lacks.get(&tree) {
                Some(lacks) => level.lacks |= lacks,
                None => {
                    go_on(watch)?;
                    levels.push(open(repository, ledger, tree)?);
                }
            }
        }
        Ok(self.lacks.get(root).copied().unwrap_or(false))
    }
}

fn open(repository: &Repository, ledger: &Ledger, tree: Id) -> Result<Level, RepositoryError> {
    let mut level = Level { tree, waiting: Vec::new(), lacks: false };
    let read = load(repository, ledger, BlobKind::Tree, &tree).and_then(|plain| {
        read_tree(&tree, &plain, &mut |node| {
            level.lacks |= node.content.iter().any(|id| !ledger.names(BlobKind::Data, id));
            level.waiting.extend(node.subtree);
            true
        })
    });
    match read {
        Err(error) if is_passing(&error) => return Err(error),
        Err(_) => level.lacks = true,
        Ok(_) => {}
    }
    Ok(level)
}
