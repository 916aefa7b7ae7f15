//! The threads that finish, store and index packs.
//!
//! Each pack goes through header, hash, put, index, in that order; then its blobs are no longer claimed. A pack counts as
//! under way from when it is submitted until all that has happened or failed, also if the thread dies with it, or if it
//! waits in the queue while the last thread dies: its [`Turn`] goes with it and ends when it is dropped, wherever that
//! is. So [`Uploads::wait`] cannot return too early, nor wait for ever.

use super::{Shared, Stage, Written};
use crate::repository::error::RepositoryError;
use crate::repository::id::ObjectKind;
use crate::repository::index::{INDEX_FILE_AFTER, IndexedPack};
use crate::repository::pack::PackBuilder;
use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::thread::JoinHandle;

const PURPOSE: &str = "uploading packs";
/// Packs that wait for a thread. Any would be memory, not speed: uploads are slower than what fills packs, or they are
/// not.
const WAITING_MAX: usize = 0;

#[derive(Debug, Default)]
struct Progress {
    under_way: Mutex<(u64, Written)>,
    done: Condvar,
    /// Memory of a pack that is stored, for the next one: fresh memory costs a fault a page.
    spare: Mutex<Option<Vec<u8>>>,
}

#[derive(Debug)]
pub struct Uploads {
    shared: Arc<Shared>,
    queue: Option<Sender<Job>>,
    progress: Arc<Progress>,
    threads: Vec<JoinHandle<()>>,
}

impl Uploads {
    pub fn start(shared: &Arc<Shared>, count: usize) -> Result<Self, RepositoryError> {
        let (queue, packs) = bounded(WAITING_MAX);
        let progress = Arc::new(Progress::default());
        let shared = Arc::clone(shared);
        let mut uploads = Self { shared, queue: Some(queue), progress, threads: Vec::new() };
        for number in 0..count {
            let packs = packs.clone();
            let thread = std::thread::Builder::new()
                .name(format!("upload-{number}"))
                .spawn(move || run(&packs))
                .map_err(|source| RepositoryError::Thread { purpose: PURPOSE, source })?;
            uploads.threads.push(thread);
        }
        Ok(uploads)
    }

    /// Hands over a pack; blocks until a thread takes it.
    pub fn submit(&self, pack: PackBuilder) -> Result<(), RepositoryError> {
        let turn = Turn::begin(&self.shared, &self.progress);
        let sent = self.queue.as_ref().is_some_and(|queue| queue.send(Job { pack, turn }).is_ok());
        if sent { Ok(()) } else { Err(RepositoryError::ThreadEnded { purpose: PURPOSE }) }
    }

    /// Memory for a pack, empty if none is left over.
    pub fn buffer(&self) -> Vec<u8> {
        self.progress.spare.lock().take().unwrap_or_default()
    }

    #[cfg(test)]
    pub fn threads(&self) -> usize {
        self.threads.len()
    }

    /// Returns when nothing is under way.
    pub fn wait(&self) {
        let mut under_way = self.progress.under_way.lock();
        while under_way.0 > 0 {
            self.progress.done.wait(&mut under_way);
        }
    }

    pub fn written(&self) -> Written {
        self.progress.under_way.lock().1
    }

    pub fn count_index_files(&self, count: u64) {
        self.progress.under_way.lock().1.index_files += count;
    }
}

impl Drop for Uploads {
    fn drop(&mut self) {
        self.queue = None;
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread for {PURPOSE} panicked");
            }
        }
    }
}

#[derive(Debug)]
struct Job {
    pack: PackBuilder,
    turn: Turn,
}

fn run(jobs: &Receiver<Job>) {
    for Job { pack, mut turn } in jobs {
        // After a failure the rest is dropped: it must not seem saved.
        let shared = Arc::clone(&turn.shared);
        let store = || upload(&shared, &turn.progress, pack);
        turn.outcome = Some(shared.check().and_then(|()| shared.stages.time(Stage::Store, store)));
    }
}

/// One pack under way. Without an outcome, as after a panic, it counts as failed when it is dropped.
#[derive(Debug)]
struct Turn {
    shared: Arc<Shared>,
    progress: Arc<Progress>,
    outcome: Option<Result<Written, RepositoryError>>,
}

impl Turn {
    fn begin(shared: &Arc<Shared>, progress: &Arc<Progress>) -> Self {
        progress.under_way.lock().0 += 1;
        Self { shared: Arc::clone(shared), progress: Arc::clone(progress), outcome: None }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let ended = || Err(RepositoryError::ThreadEnded { purpose: PURPOSE });
        let outcome = self.outcome.take().unwrap_or_else(ended);
        let added = outcome.unwrap_or_else(|error| {
            // A refusal after another's failure is not a failure of its own.
            self.shared.poison(error);
            Written::default()
        });
        let mut under_way = self.progress.under_way.lock();
        under_way.0 -= 1;
        under_way.1.packs += added.packs;
        under_way.1.pack_bytes += added.pack_bytes;
        under_way.1.index_files += added.index_files;
        self.progress.done.notify_all();
    }
}

fn upload(shared: &Shared, progress: &Progress, pack: PackBuilder) -> Result<Written, RepositoryError> {
    let repository = &shared.repository;
    let pack = pack.finish(repository.seal_key())?;
    let pack_bytes = pack.bytes.len() as u64;
    repository.store().put(&ObjectKind::Pack.name(&pack.id), pack.bytes.clone())?;
    if pack.bytes.is_unique() {
        // Nobody else holds it, so this is the memory itself.
        *progress.spare.lock() = Some(pack.bytes.into());
    }
    let index = repository.index()?;
    let blobs: Vec<_> = pack.entries.iter().map(|entry| (entry.kind, entry.id)).collect();
    // First known, then no longer claimed: in between a blob is both, never neither.
    index.add(IndexedPack { id: pack.id, blobs: pack.entries })?;
    let mut claimed = shared.claimed.lock();
    for blob in &blobs {
        claimed.remove(blob);
    }
    drop(claimed);
    // Otherwise a crash in a long run would lose sight of all that is stored.
    let due = index.is_due(INDEX_FILE_AFTER);
    let index_files = if due { repository.save_index(Some(INDEX_FILE_AFTER))? } else { 0 };
    Ok(Written { packs: 1, pack_bytes, index_files })
}
