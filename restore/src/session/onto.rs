//! Restoring a session onto a tree that a journal keeps: a replica's own, or a master's.
//!
//! The walk and the decisions are those of a restore into a directory; what stands in the target is read from a view
//! (`standing`), so a hostile session can name nothing outside the root: names are edges of known directories. What
//! differs becomes events (`changer`), and their bytes come from the repository (`filler`): a file's chunks are read from
//! the tree and hashed, and only blobs that differ are fetched. A replica takes the events as local captures
//! ([`restore_replica`]), protected by undo like a rewind and rewindable like one; a master takes them as a rewind's
//! changes ([`restore_master`]), moves away what it overwrites and lets the journal have it first.
//!
//! **Files with several names.** A file that stands there is changed in place only if it has one name: changing one that
//! has more would change names that nobody asked for. Such a file stays if it is as the session has it, names outside
//! included; else the session's names get a file of their own.
//!
//! **What is damaged is left alone.** The blobs of a file are read before it is touched, as far as a batch goes; beyond
//! that (64 MiB) a file that turns out to be damaged stays half restored and is listed as failed, with the way back.

mod changer;
mod filler;
mod master;
mod replica;
mod standing;

#[cfg(test)]
mod tests;

pub use master::restore_master;
pub use replica::restore_replica;

use super::decide::Rules;
use super::error::{SessionRestoreError, journal, repository};
use super::meta::Meta;
use super::paths::Paths;
use super::plan::{EachPlanned, Totals};
use super::receipt::Receipt;
use super::walk::{OBJECTS_MAX, Result, Walk};
use super::{IfExists, Monitor, Options};
use changer::{Changer, Known};
use journal::view::{Difference, View};
use journal::{Lsn, NodeId, RootNo, TreeIo};
use snapshot::repository::{BlobKind, Id, Node, NodeKind, Repository, read_tree};
use standing::ViewTree;
use std::sync::Arc;

/// A restore of a session onto the tree of a root.
#[derive(Clone, Debug)]
pub struct Onto<'r> {
    repository: &'r Repository,
    root: RootNo,
    /// Path of the root on the master.
    entity: Vec<u8>,
    /// Tree of the root in the session.
    tree: Id,
    /// The root's own metadata, if all of it is wanted.
    top: Option<Meta>,
    paths: Arc<Paths>,
    options: Options,
    /// An attempt before may have made what is found.
    again: bool,
    /// Device number of its nodes and the point it is of, if it was made from the same journal.
    made_from: Option<(u64, Lsn)>,
}

/// How a restore onto a tree went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OntoReport {
    /// What was done and what was not.
    pub receipt: Receipt,
    /// The bookmark that leads back; `None` if nothing was changed.
    pub before: Option<String>,
    /// Whether the replica has stopped following its master.
    pub detached: bool,
}

impl<'r> Onto<'r> {
    /// The restore of `paths` (absolute, with all below them; none: everything) of the session whose tree is `tree`, onto
    /// root number `root`, whose path on the master is `entity`.
    ///
    /// # Errors
    /// `NoSuchPath` if the session does not hold the root or the paths do not meet it, `PathRefused`, `Options`,
    /// `Repository`.
    pub fn new(
        repository: &'r Repository,
        tree: Id,
        (entity, root): (&[u8], RootNo),
        paths: &[Vec<u8>],
        options: Options,
    ) -> Result<Self> {
        options.check()?;
        let mut wanted = Arc::new(Paths::new(paths)?);
        let (mut at, mut path, mut top) = (tree, Vec::new(), None);
        for name in entity.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            path.push(b'/');
            path.extend_from_slice(name);
            let missing = || SessionRestoreError::NoSuchPath { path: path.clone() };
            let mut node = find(repository, &at, name)?.ok_or_else(missing)?;
            at = node.subtree.ok_or_else(missing)?;
            wanted = wanted.below(name).ok_or_else(missing)?;
            top = Some(Meta::take(&mut node)).filter(|_| wanted.whole);
        }
        Ok(Self {
            repository,
            root,
            entity: path,
            tree: at,
            top,
            paths: wanted,
            options,
            again: false,
            made_from: None,
        })
    }

    /// The same, where it is known that the session was made from the journal of the tree that is restored onto: as of
    /// `lsn`, its nodes with the ids of the journal as inodes and `device` as device. Files whose bytes the journal knows
    /// to be untouched since are not read then.
    #[must_use]
    pub fn made_from(self, device: u64, lsn: Lsn) -> Self {
        Self { made_from: Some((device, lsn)), ..self }
    }

    /// The point the session was made from; `None` if that is not known.
    #[must_use]
    pub fn made_at(&self) -> Option<Lsn> {
        self.made_from.map(|(_, lsn)| lsn)
    }

    /// The same restore after an attempt that did not end: what that has made is no conflict.
    #[must_use]
    pub fn again(self) -> Self {
        let if_exists = match self.options.if_exists {
            IfExists::Fail => IfExists::Skip,
            rule => rule,
        };
        Self { options: Options { if_exists, ..self.options }, again: true, ..self }
    }

    /// What it would do to the tree that `view` shows: every change, and the sums. Reads the tree's bytes, but for files that
    /// were not touched since `then`, the view of [`Onto::made_at`] if it can be had.
    ///
    /// # Errors
    /// As [`super::plan`]; `Journal`.
    pub fn list<T: TreeIo>(
        &self,
        view: &View<T>,
        then: Option<&View<T>>,
        monitor: &dyn Monitor,
        each: &mut EachPlanned<'_>,
    ) -> Result<Totals> {
        Ok(self.compare(view, then, monitor, each)?.0)
    }

    /// The same, and how many files were read to their end and are as the session has them.
    fn compare<T: TreeIo>(
        &self,
        view: &View<T>,
        then: Option<&View<T>>,
        monitor: &dyn Monitor,
        each: &mut EachPlanned<'_>,
    ) -> Result<(Totals, u64)> {
        let known = self.known(view, then, monitor)?;
        let mut changer = Changer::planning(self, (view, known.as_ref()), monitor, each);
        self.walk(view, &mut changer)?;
        let alike = changer.alike;
        Ok((changer.into_totals(), alike))
    }

    /// What the journal knows of files that were touched since the session; nothing where all are to be read.
    fn known<'v, T: TreeIo>(
        &self,
        view: &'v View<T>,
        then: Option<&'v View<T>>,
        monitor: &dyn Monitor,
    ) -> Result<Option<Known<'v, T>>> {
        let (Some((device, lsn)), Some(then)) = (self.made_from, then) else { return Ok(None) };
        // The journal does not know of bytes that rotted.
        if self.options.verify {
            return Ok(None);
        }
        if then.lsn() != lsn {
            return Ok(None);
        }
        let difference = Difference::between(view, then, &mut |_| !monitor.cancelled());
        match difference.map_err(journal("find what was touched since the session"))? {
            Some(difference) => Ok(Some(Known { device, difference })),
            None => Err(SessionRestoreError::Cancelled),
        }
    }

    fn walk<T: TreeIo>(&self, view: &View<T>, changer: &mut Changer<'_, '_, T>) -> Result<()> {
        // Elsewhere bytes are compared, and nothing is taken for whole by its looks.
        let again = self.again && self.options.if_exists == IfExists::Rename;
        let (if_exists, delete) = (self.options.if_exists, self.options.delete);
        let rules = Rules { if_exists, delete, again, half_made: self.again };
        let standing = ViewTree { view };
        let walk = Walk {
            repository: self.repository,
            tree: self.tree,
            prefix: self.entity.clone(),
            top_meta: self.top.clone().filter(|_| self.options.if_exists == IfExists::Overwrite),
            paths: self.paths.clone(),
            rules,
            standing: Some((&standing, NodeId::root(self.root))),
            objects_max: OBJECTS_MAX,
            own_prefixes: Vec::new(),
        };
        walk.run(changer)
    }
}

/// The node of a name in a tree.
fn find(repository_: &Repository, tree: &Id, name: &[u8]) -> Result<Option<Node>> {
    let failed = repository("read a directory of the session");
    let json = repository_.load_blob(BlobKind::Tree, tree).map_err(&failed)?;
    let mut found = None;
    read_tree(tree, &json, &mut |node| {
        if node.name == name && node.kind == NodeKind::Directory {
            found = Some(node);
        }
        found.is_none()
    })
    .map_err(&failed)?;
    Ok(found)
}
