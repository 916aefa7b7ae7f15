//! Editing the tree of the session before.
//!
//! The journal says which names, metadata and bytes were touched between the two points ([`touched`]). Only directories
//! that hold such a name, and those above them, get new trees: each is the old one with the touched names replaced.
//! A directory or file that moved keeps its tree or blobs, found at the place where it was. A directory that the old
//! session does not hold is listed.
//!
//! One thread goes down, from the root; others store files. A directory is finished by whoever delivers the last of its
//! touched entries, and delivers itself to the one above: nobody waits, as in [`directory`](super::directory).
//!
//! Memory grows with the number of touched names, and with the largest directory touched.

mod before;
mod edit;
mod touched;

use super::content::{Cutter, Earlier, Failure};
use super::node::{Held, node};
use super::totals::{Tally, Totals};
use super::{Previous, SessionError, Work, crew};
use crate::repository::tree::{FoundTree, RawNode, RawTree};
use crate::repository::{BlobKind, Id, Node, Repository};
use before::Before;
use crossbeam_channel::Sender;
use edit::{Edit, Shared};
use journal::view::{Difference, View, join};
use journal::{JournalError, Meta, Name, NodeId, TreeIo};
use std::collections::BTreeMap;
use std::sync::Arc;
use touched::Touched;

pub(in crate::session) use before::Was;

/// Changes between two sessions beyond which everything is looked at: what they touched is held in memory.
const CHANGES_MAX: u64 = 2_000_000;

/// A file to be stored.
struct Job<'v, T: TreeIo> {
    edit: Arc<Edit>,
    name: Name,
    id: NodeId,
    meta: Meta,
    links: u64,
    earlier: Option<Earlier<'v, T>>,
}

/// The tree of the root, made from that of the session before, whose totals are `totals` if they are known; and the new
/// ones. `None` if that session does not hold the root.
pub(super) fn build<T: TreeIo + Sync>(
    work: &Work<'_, T>,
    previous: &Previous<'_, T>,
    totals: Option<Totals>,
) -> Result<Option<(Id, Totals)>, SessionError>
where
    T::File: Send,
    T::Dir: Send + Sync,
{
    let failed = SessionError::journal("find what changed since the session before");
    let mut rows = 0;
    let mut go_on = |read| {
        rows = read;
        read <= CHANGES_MAX && !work.monitor.cancelled()
    };
    let difference = Difference::between(previous.view, work.view, &mut go_on).map_err(&failed)?;
    let Some(difference) = difference else {
        work.check()?;
        return Err(SessionError::TooMuchChanged { changes: rows });
    };
    let touched = Touched::find(&difference, work.entity.root).map_err(&failed)?;
    let repository = work.writer.repository();
    let Some(old_root) = old_root(repository, previous.tree, &work.entity.path)? else { return Ok(None) };
    let root = NodeId::root(work.entity.root);
    let tally = Tally::default();
    let settle = || tally.settle(repository, (totals, old_root), &|| work.check());
    if touched.is_empty() {
        return Ok(Some((old_root, settle()?)));
    }
    let no_root = || SessionError::NoRoot { root: work.entity.root.0 };
    let meta = work.view.meta(root).map_err(SessionError::journal("read metadata"))?.ok_or_else(no_root)?;
    let top = Edit::new(work.entity.path.clone(), Vec::new(), (root, meta), None, Some(old_root));
    let shared = Shared::new(work, &tally);
    let walk = |jobs| {
        let before = Before::new(Arc::clone(repository), difference.from(), (root, old_root));
        let mut walk = Walk { shared: &shared, jobs, touched, difference: &difference, previous, before };
        walk.run(top)
    };
    crew::run(|| storer(&shared), &|error| shared.fail(error), walk)?;
    work.check()?;
    let root = shared.into_outcome().unwrap_or(Err(SessionError::Cancelled))?;
    Ok(Some((root, settle()?)))
}

/// The tree of the entity's root in a session.
fn old_root(repository: &Repository, tree: Id, path: &[u8]) -> Result<Option<Id>, SessionError> {
    let mut tree = tree;
    for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
        match entry(repository, tree, name)?.and_then(|node| node.subtree) {
            Some(below) => tree = below,
            None => return Ok(None),
        }
    }
    Ok(Some(tree))
}

/// The entry of a tree.
fn entry(repository: &Repository, tree: Id, name: &[u8]) -> Result<Option<Node>, SessionError> {
    let json = repository.load_blob(BlobKind::Tree, &tree)?;
    let raw = RawTree::new(&tree, &json)?;
    Ok(raw.nodes().find(|node| node.name() == name).map(RawNode::read).transpose()?)
}

/// Stores files, one after the other.
fn storer<'s, T: TreeIo>(shared: &'s Shared<'_, '_, T>) -> impl FnMut(Job<'_, T>) + 's {
    let mut cutter = Cutter::new(shared.work);
    move |job| {
        if shared.is_over() {
            return;
        }
        let opened = shared.work.view.open(job.id).map_err(Failure::from);
        match opened.and_then(|file| cutter.blobs(job.id, file, job.earlier)) {
            Ok(blobs) => {
                let held = Held::Content(blobs);
                let entity = shared.work.entity;
                let own = node(entity, job.name.as_bytes(), job.id, &job.meta, job.links, held);
                shared.arrived(&job.edit, job.name.as_bytes(), Some(own));
            }
            Err(Failure::Session(error)) => shared.fail(error),
            Err(Failure::Read(error)) => {
                shared.work.missed(&join(&job.edit.path, job.name.as_bytes()), &error);
                shared.arrived(&job.edit, job.name.as_bytes(), None);
            }
        }
    }
}

struct Walk<'s, 'w, 'a, 'd, 'v, T: TreeIo> {
    shared: &'s Shared<'w, 'a, T>,
    jobs: Sender<Job<'d, T>>,
    touched: Touched,
    difference: &'d Difference<'v, T>,
    previous: &'d Previous<'d, T>,
    before: Before<'d, 'v, T>,
}

impl<T: TreeIo> Walk<'_, '_, '_, '_, '_, T> {
    fn repository(&self) -> &Arc<Repository> {
        self.shared.work.writer.repository()
    }

    fn view(&self) -> &View<T> {
        self.shared.work.view
    }

    fn run(&mut self, top: Arc<Edit>) -> Result<(), SessionError> {
        let mut todo = vec![top];
        while let Some(edit) = todo.pop() {
            if self.shared.is_over() {
                return Ok(());
            }
            self.directory(&edit, &mut todo)?;
            self.shared.listed(&edit);
        }
        Ok(())
    }

    /// Delivers the entries of a directory that are known, has files stored, and leaves its directories to be done.
    fn directory(&mut self, edit: &Arc<Edit>, todo: &mut Vec<Arc<Edit>>) -> Result<(), SessionError> {
        let failed = SessionError::journal("list a directory");
        let Some(tree) = edit.old else {
            let work = self.shared.work;
            for entry in work.view.list(edit.id) {
                let (name, id) = entry.map_err(&failed)?;
                self.entry(edit, name, id, None, todo)?;
            }
            return Ok(());
        };
        let names = self.touched.names(edit.id);
        let mut old = self.old_entries(edit, tree, &names)?;
        for name in names {
            if self.shared.is_over() {
                return Ok(());
            }
            let at = journal::Edge::new(edit.id, name.clone());
            let before = old.remove(name.as_bytes());
            match self.view().lookup(&at).map_err(&failed)? {
                Some(id) => self.entry(edit, name, id, before, todo)?,
                None => {
                    self.stood(before.and_then(|was| was.subtree), None);
                    self.shared.without(edit, name.as_bytes());
                }
            }
        }
        Ok(())
    }

    /// Says that not all is told one by one, unless what stood at a path is told of from the tree that is there now.
    fn stood(&self, before: Option<Id>, edited: Option<Id>) {
        if before != edited {
            self.shared.work.monitor.untold();
        }
    }

    /// What the old tree of a directory has under the touched names.
    fn old_entries(
        &self,
        edit: &Edit,
        tree: Id,
        names: &[Name],
    ) -> Result<BTreeMap<Vec<u8>, Was>, SessionError> {
        let tree = FoundTree::new(&tree, self.repository().load_blob(BlobKind::Tree, &tree)?)?;
        let mut found = BTreeMap::new();
        for raw in tree.nodes() {
            let raw = raw?;
            if names.binary_search_by(|name| name.as_bytes().cmp(raw.name())).is_ok() {
                found.insert(raw.name().to_vec(), raw.read()?.into());
            }
        }
        self.shared.keep(edit, tree);
        Ok(found)
    }

    /// Takes one entry. `before` is what the old tree has under the name.
    fn entry(
        &mut self,
        edit: &Arc<Edit>,
        name: Name,
        id: NodeId,
        before: Option<Was>,
        todo: &mut Vec<Arc<Edit>>,
    ) -> Result<(), SessionError> {
        let work = self.shared.work;
        let failed = SessionError::journal("read metadata");
        let stood = before.as_ref().and_then(|was| was.subtree);
        let before = before.filter(|was| was.inode == id.0);
        let Some(meta) = work.view.meta(id).map_err(&failed)? else {
            let missing = JournalError::NotFound { what: "node", name: id.to_string() };
            work.missed(&join(&edit.path, name.as_bytes()), &missing);
            self.stood(stood, None);
            self.shared.without(edit, name.as_bytes());
            return Ok(());
        };
        if meta.kind.is_directory() {
            let old = self.child(edit, &name, (id, meta), before, todo)?;
            self.stood(stood, old);
            return Ok(());
        }
        self.stood(stood, None);
        let links = self.difference.to().names(id).map_err(&failed)?.len().max(1) as u64;
        if !meta.kind.is_file() {
            self.shared.known(edit, node(work.entity, name.as_bytes(), id, &meta, links, Held::Nothing));
            return Ok(());
        }
        let before = match before {
            Some(before) => Some(before),
            None => self.before.file(id)?,
        };
        if let Some(before) = before.as_ref().filter(|before| before.size == meta.size)
            && !self.difference.may_differ(id)
        {
            let held = Held::Content(before.content.clone());
            self.shared.known(edit, node(work.entity, name.as_bytes(), id, &meta, links, held));
            return Ok(());
        }
        let earlier = before.map(|before| Earlier { view: self.previous.view, blobs: before.content });
        self.shared.expect(edit);
        let job = Job { edit: Arc::clone(edit), name, id, meta, links, earlier };
        self.jobs.send(job).map_err(|_| SessionError::ThreadEnded)
    }

    /// Takes a directory: one that nothing touched keeps its tree. The tree it had, wherever it was.
    fn child(
        &mut self,
        edit: &Arc<Edit>,
        name: &Name,
        (id, meta): (NodeId, Meta),
        before: Option<Was>,
        todo: &mut Vec<Arc<Edit>>,
    ) -> Result<Option<Id>, SessionError> {
        let old = match before.and_then(|before| before.subtree) {
            Some(tree) => Some(tree),
            None => self.before.directory(id)?,
        };
        self.before.know(id, old);
        if let Some(tree) = old {
            self.shared.tally.keeps(tree);
        }
        if let Some(tree) = old.filter(|_| !self.touched.contains(id)) {
            let entity = self.shared.work.entity;
            self.shared.known(edit, node(entity, name.as_bytes(), id, &meta, 0, Held::Tree(tree)));
            return Ok(Some(tree));
        }
        self.shared.expect(edit);
        let path = join(&edit.path, name.as_bytes());
        let above = Some(Arc::clone(edit));
        todo.push(Edit::new(path, name.as_bytes().to_vec(), (id, meta), above, old));
        Ok(old)
    }
}
