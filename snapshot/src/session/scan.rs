//! Walking the whole of a view, or all below one directory.
//!
//! One thread walks, depth first, in the order of names; as many as there are cores cut, hash, compress and seal files
//! ([`crew`](super::crew)). A file of several names is stored by the walk itself
//! when its first name comes, and its blobs are remembered until the last: two threads never store one file.

use super::content::{Cutter, Failure};
use super::directory::{Directory, News, Waiting, deliver};
use super::node::{Held, node};
use super::{SessionError, Work, crew};
use crate::repository::Id;
use crate::repository::writer::Stage;
use crossbeam_channel::Sender;
use journal::view::{Places, Seen, join};
use journal::{Edge, JournalError, Name, NodeId, TreeIo};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// Files of several names whose blobs are remembered; of more, each name is read.
const LINKED_MAX: usize = 100_000;

/// A file to be stored.
struct Job {
    directory: Arc<Directory>,
    number: u64,
    name: Name,
    id: NodeId,
    seen: Seen,
}

/// What the walk and the threads share.
struct Shared<'w, 'a, T: TreeIo> {
    work: &'w Work<'a, T>,
    waiting: Waiting,
    /// The first failure, or the tree of the top.
    outcome: Mutex<Option<Result<Id, SessionError>>>,
}

impl<T: TreeIo> Shared<'_, '_, T> {
    fn deliver(&self, directory: &Arc<Directory>, news: News) {
        let outcome = deliver(self.work, &self.waiting, directory, news);
        match outcome.transpose() {
            None => {}
            Some(Ok(tree)) => drop(self.outcome.lock().get_or_insert(Ok(tree))),
            Some(Err(error)) => self.fail(error),
        }
    }

    fn fail(&self, error: SessionError) {
        let mut outcome = self.outcome.lock();
        if !matches!(*outcome, Some(Err(_))) {
            *outcome = Some(Err(error));
        }
    }

    fn is_over(&self) -> bool {
        matches!(*self.outcome.lock(), Some(Err(_))) || self.work.monitor.cancelled()
    }

    /// Stores a file and delivers its entry.
    fn file(&self, cutter: &mut Cutter<'_, '_, T>, job: &Job, links: u64) -> Option<Vec<Id>> {
        let path = join(&job.directory.path, job.name.as_bytes());
        let place = Edge::new(job.directory.id, job.name.clone());
        let opened = self.work.view.open_seen(job.id, &job.seen, place).map_err(Failure::from);
        let blobs = match opened.and_then(|file| cutter.blobs(job.id, file, None)) {
            Ok(blobs) => blobs,
            Err(Failure::Session(error)) => {
                self.fail(error);
                return None;
            }
            Err(Failure::Read(error)) => {
                self.work.missed(&path, &error);
                self.deliver(&job.directory, News::Entry(job.number, None));
                return None;
            }
        };
        let held = Held::Content(blobs.clone());
        let own = node(self.work.entity, job.name.as_bytes(), job.id, &job.seen.meta, links, held);
        self.work.object(&path, &own);
        self.deliver(&job.directory, News::Entry(job.number, Some(Box::new(own))));
        Some(blobs)
    }
}

/// The tree of the whole root.
pub(super) fn build<T: TreeIo + Sync>(work: &Work<'_, T>) -> Result<Id, SessionError>
where
    T::File: Send,
    T::Dir: Send + Sync,
{
    let places = Places::new(work.view);
    let root = NodeId::root(work.entity.root);
    below(work, &places, root, work.entity.path.clone(), Vec::new())
}

/// The tree of a directory of the view with all below it.
pub(super) fn below<T: TreeIo + Sync>(
    work: &Work<'_, T>,
    places: &Places<'_, T>,
    id: NodeId,
    path: Vec<u8>,
    name: Vec<u8>,
) -> Result<Id, SessionError>
where
    T::File: Send,
    T::Dir: Send + Sync,
{
    let no_root = || SessionError::NoRoot { root: work.entity.root.0 };
    let meta = work.view.meta(id).map_err(SessionError::journal("read metadata"))?.ok_or_else(no_root)?;
    let top = Directory::new(path, name, (id, meta), None);
    let shared = Shared { work, waiting: Waiting::default(), outcome: Mutex::new(None) };
    let walk = |jobs| {
        let cutter = Cutter::new(work);
        Walk { shared: &shared, jobs, places, linked: HashMap::new(), cutter }.run(top)
    };
    crew::run(|| storer(&shared), &|error| shared.fail(error), walk)?;
    work.check()?;
    match shared.outcome.into_inner() {
        Some(outcome) => outcome,
        // Every directory gets all its news or there was a failure; a thread that died would have panicked here.
        None => Err(SessionError::Cancelled),
    }
}

/// Stores files, one after the other.
fn storer<'s, T: TreeIo>(shared: &'s Shared<'_, '_, T>) -> impl FnMut(Job) + 's {
    let mut cutter = Cutter::new(shared.work);
    move |job| {
        if !shared.is_over() {
            shared.file(&mut cutter, &job, 1);
        }
    }
}

/// A file of several names.
struct Linked {
    blobs: Vec<Id>,
    left: usize,
    links: u64,
}

struct Walk<'s, 'w, 'a, 'p, 'v, T: TreeIo> {
    shared: &'s Shared<'w, 'a, T>,
    jobs: Sender<Job>,
    places: &'p Places<'v, T>,
    linked: HashMap<NodeId, Linked>,
    cutter: Cutter<'w, 'a, T>,
}

type Entries<'a> = Box<dyn Iterator<Item = Result<(Name, NodeId), JournalError>> + 'a>;

impl<'s, 'w, 'a, T: TreeIo> Walk<'s, 'w, 'a, '_, '_, T> {
    fn run(&mut self, top: Arc<Directory>) -> Result<(), SessionError> {
        let (view, stages) = (self.shared.work.view, self.shared.work.writer.stages());
        let entries = |directory: &Directory| -> Entries<'a> { Box::new(view.list(directory.id)) };
        let mut stack = vec![(entries(&top), top, 0_u64)];
        while let Some((listed, directory, count)) = stack.last_mut() {
            let Some(entry) = stages.time(Stage::Walk, || listed.next()) else {
                let (directory, count) = (Arc::clone(directory), *count);
                stack.pop();
                self.shared.deliver(&directory, News::Listed(count));
                continue;
            };
            let (name, id) = entry.map_err(SessionError::journal("list a directory"))?;
            let (directory, number) = (Arc::clone(directory), *count);
            *count += 1;
            if let Some(below) = self.entry(&directory, number, name, id)? {
                stack.push((entries(&below), below, 0));
            }
            if self.shared.is_over() {
                return Ok(());
            }
            self.shared.waiting.pause(|| self.shared.is_over());
        }
        Ok(())
    }

    /// Takes an entry; a directory comes back to be walked.
    fn entry(
        &mut self,
        directory: &Arc<Directory>,
        number: u64,
        name: Name,
        id: NodeId,
    ) -> Result<Option<Arc<Directory>>, SessionError> {
        let work = self.shared.work;
        let failed = SessionError::journal("read metadata");
        let stages = work.writer.stages();
        let Some(seen) = stages.time(Stage::Walk, || work.view.look(id)).map_err(&failed)? else {
            let path = join(&directory.path, name.as_bytes());
            work.missed(&path, &JournalError::NotFound { what: "node", name: id.to_string() });
            self.shared.deliver(directory, News::Entry(number, None));
            return Ok(None);
        };
        if seen.meta.kind.is_directory() {
            let path = join(&directory.path, name.as_bytes());
            let above = Some((Arc::clone(directory), number));
            return Ok(Some(Directory::new(path, name.as_bytes().to_vec(), (id, seen.meta), above)));
        }
        let names = stages.time(Stage::Walk, || self.places.names(id)).map_err(&failed)?;
        let links = names.len().max(1);
        let job = Job { directory: Arc::clone(directory), number, name, id, seen };
        if !job.seen.meta.kind.is_file() {
            let own = node(work.entity, job.name.as_bytes(), id, &job.seen.meta, links as u64, Held::Nothing);
            work.object(&join(&directory.path, job.name.as_bytes()), &own);
            self.shared.deliver(directory, News::Entry(number, Some(Box::new(own))));
        } else if links > 1 {
            self.linked(&job, links);
        } else {
            self.jobs.send(job).map_err(|_| SessionError::ThreadEnded)?;
        }
        Ok(None)
    }

    /// One name of a file that has several.
    fn linked(&mut self, job: &Job, links: usize) {
        if let Some(linked) = self.linked.get_mut(&job.id) {
            linked.left = linked.left.saturating_sub(1);
            let held = Held::Content(linked.blobs.clone());
            let entity = self.shared.work.entity;
            let own = node(entity, job.name.as_bytes(), job.id, &job.seen.meta, linked.links, held);
            if linked.left == 0 {
                self.linked.remove(&job.id);
            }
            self.shared.work.object(&join(&job.directory.path, job.name.as_bytes()), &own);
            self.shared.deliver(&job.directory, News::Entry(job.number, Some(Box::new(own))));
            return;
        }
        if let Some(blobs) = self.shared.file(&mut self.cutter, job, links as u64)
            && self.linked.len() < LINKED_MAX
        {
            self.linked.insert(job.id, Linked { blobs, left: links - 1, links: links as u64 });
        }
    }
}
