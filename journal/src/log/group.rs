//! Group commit: one thread writes, many submissions share an fsync.
//!
//! The order of submissions is the order of records in the log, also where some fail: a submission is either in the
//! log with all earlier ones that succeeded, or an error. Lack of room fails everything submitted so far, and then
//! everything else until each of those failures has been *seen* (its callback has returned, its ticket was waited
//! for or dropped). So nobody who submits ahead can find a later submission in the log and an earlier one not.

use super::pack::{Packed, Packer};
use super::stream::{Log, check_limits};
use super::types::{Appended, RecordDraft};
use crate::error::{ErrorKind, JournalError};
use crossbeam_channel::Receiver;
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

/// What a submission comes to.
pub type GroupResult = Result<Vec<Appended>, JournalError>;

/// Bounds of the queue.
#[derive(Clone, Copy, Debug)]
pub struct GroupOptions {
    /// Bytes of submissions that wait at most; more block the submitter. One submission always fits.
    pub queue_bytes_max: usize,
    /// Bytes after which a batch takes no further submission.
    pub batch_bytes_max: usize,
}

impl Default for GroupOptions {
    fn default() -> Self {
        GroupOptions { queue_bytes_max: 32 << 20, batch_bytes_max: 8 << 20 }
    }
}

/// Counts a failure that nobody has seen yet, until it is dropped.
struct Unseen(Arc<Shared>);

impl Drop for Unseen {
    fn drop(&mut self) {
        self.0.queue.lock().unseen -= 1;
    }
}

type Done = Box<dyn FnOnce(GroupResult, Option<Unseen>) + Send>;

struct Submission {
    /// The records, each with its payloads packed: the submitter's thread has done that.
    drafts: Vec<(RecordDraft, Vec<Packed>)>,
    bytes: usize,
    done: Done,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Submission>,
    bytes: usize,
    /// Failures for lack of room that their submitters do not know of yet.
    unseen: usize,
    /// The system's error number of that failure.
    full: Option<i32>,
    poisoned: bool,
    closed: bool,
}

struct Shared {
    queue: Mutex<Queue>,
    /// There is something to write, or nothing more will come.
    filled: Condvar,
    /// There is room in the queue.
    drained: Condvar,
    directory: PathBuf,
    queue_bytes_max: usize,
    packer: Arc<Packer>,
}

/// A handle on a submission under way.
#[must_use = "a submission that nobody waits for may fail unseen"]
pub struct Ticket(Receiver<(GroupResult, Option<Unseen>)>, PathBuf);

impl Ticket {
    /// Waits until the submission is durable, or has failed.
    ///
    /// # Errors
    /// As [`Log::append`] and [`Log::commit`].
    pub fn wait(self) -> GroupResult {
        match self.0.recv() {
            Ok((result, _seen_now)) => result,
            Err(_) => Err(JournalError::Poisoned { path: self.1 }),
        }
    }
}

/// The writer thread of one log. Dropping it writes what was submitted and ends the thread.
pub struct GroupCommit {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
}

impl GroupCommit {
    /// Starts the writer. From now on nobody else may append to `log`.
    ///
    /// # Errors
    /// `File` if no thread can be started.
    pub fn start(log: Arc<Log>, options: GroupOptions) -> Result<Self, JournalError> {
        let directory = log.directory().to_owned();
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue::default()),
            filled: Condvar::new(),
            drained: Condvar::new(),
            directory: directory.clone(),
            queue_bytes_max: options.queue_bytes_max,
            packer: Arc::clone(log.packer()),
        });
        let name = format!("journal-{}", log.stream().suffix());
        let its = shared.clone();
        let writer = std::thread::Builder::new()
            .name(name)
            .spawn(move || run(&its, &log, options.batch_bytes_max))
            .map_err(|source| JournalError::File {
                operation: "start a writer for",
                path: directory,
                source,
            })?;
        Ok(GroupCommit { shared, writer: Some(writer) })
    }

    /// Submits records that become durable together, or not at all. Blocks while the queue is full.
    pub fn submit(&self, drafts: Vec<RecordDraft>) -> Ticket {
        let (sender, receiver) = crossbeam_channel::bounded(1);
        self.push(
            drafts,
            Box::new(move |result, unseen| {
                // Nobody waits any more: then the failure counts as seen.
                drop(sender.send((result, unseen)));
            }),
        );
        Ticket(receiver, self.shared.directory.clone())
    }

    /// The same, with a callback instead of a ticket. It runs on the writer thread, in the order of submissions (a
    /// submission that is refused at once gets its error on the thread that submits), and must not submit.
    pub fn submit_with(&self, drafts: Vec<RecordDraft>, done: impl FnOnce(GroupResult) + Send + 'static) {
        self.push(
            drafts,
            Box::new(move |result, unseen| {
                done(result);
                drop(unseen);
            }),
        );
    }

    fn push(&self, drafts: Vec<RecordDraft>, done: Done) {
        if let Some(error) = drafts.iter().find_map(|draft| check_limits(draft).err()) {
            return done(Err(error), None);
        }
        let bytes = drafts.iter().map(RecordDraft::bytes).fold(0, usize::saturating_add);
        let shared = &self.shared;
        let packed = |draft| {
            let packed = shared.packer.pack_all(&draft);
            (draft, packed)
        };
        let drafts: Vec<(RecordDraft, Vec<Packed>)> = drafts.into_iter().map(packed).collect();
        let stored = drafts.iter().flat_map(|(_, all)| all).map(Packed::bytes);
        let bytes = stored.fold(bytes, usize::saturating_add);
        let mut queue = shared.queue.lock();
        while !queue.waiting.is_empty() && queue.bytes.saturating_add(bytes) > shared.queue_bytes_max {
            shared.drained.wait(&mut queue);
        }
        if queue.poisoned || queue.closed {
            drop(queue);
            return done(Err(JournalError::Poisoned { path: shared.directory.clone() }), None);
        }
        if queue.unseen > 0 {
            let error = full(&shared.directory, queue.full);
            queue.unseen += 1;
            drop(queue);
            return done(Err(error), Some(Unseen(shared.clone())));
        }
        queue.bytes += bytes;
        queue.waiting.push_back(Submission { drafts, bytes, done });
        drop(queue);
        shared.filled.notify_one();
    }
}

impl Drop for GroupCommit {
    fn drop(&mut self) {
        self.shared.queue.lock().closed = true;
        self.shared.filled.notify_one();
        if let Some(writer) = self.writer.take()
            // The last owner may have been a callback: the thread then ends by itself.
            && writer.thread().id() != std::thread::current().id()
            && writer.join().is_err()
        {
            tracing::error!(directory = %self.shared.directory.display(), "the writer of a journal panicked");
        }
    }
}

fn full(path: &Path, number: Option<i32>) -> JournalError {
    let source = number.map_or_else(|| io::ErrorKind::StorageFull.into(), io::Error::from_raw_os_error);
    JournalError::File { operation: "write", path: path.to_owned(), source }
}

/// However the thread ends, nobody may wait for it for ever.
struct Farewell<'a>(&'a Shared);

impl Drop for Farewell<'_> {
    fn drop(&mut self) {
        let mut queue = self.0.queue.lock();
        queue.poisoned = true;
        queue.bytes = 0;
        let left: Vec<Submission> = queue.waiting.drain(..).collect();
        drop(queue);
        self.0.drained.notify_all();
        left.into_iter()
            .for_each(|one| (one.done)(Err(JournalError::Poisoned { path: self.0.directory.clone() }), None));
    }
}

/// The writer thread.
fn run(shared: &Arc<Shared>, log: &Log, batch_bytes_max: usize) {
    let farewell = Farewell(shared);
    loop {
        let batch = match take_batch(shared, batch_bytes_max, || log.note_durable()) {
            Next::Batch(batch) => batch,
            Next::Closed => return,
            Next::Failed(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "the journal takes no more writes");
                return;
            }
        };
        match write(log, &batch) {
            Ok(results) => {
                for (one, appended) in batch.into_iter().zip(results) {
                    (one.done)(Ok(appended), None);
                }
            }
            Err(error) if error.kind() == ErrorKind::Full && log.rollback().is_ok() => {
                refuse(shared, batch, error)
            }
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "the journal takes no more writes");
                // In front of the callbacks: whoever is told must find the door shut.
                shared.queue.lock().poisoned = true;
                // Full means that a later attempt may succeed, which is not so here.
                let mut first = Some(error).filter(|error| error.kind() != ErrorKind::Full);
                for one in batch {
                    let poisoned = || JournalError::Poisoned { path: shared.directory.clone() };
                    (one.done)(Err(first.take().unwrap_or_else(poisoned)), None);
                }
                break;
            }
        }
    }
    drop(farewell);
}

enum Next {
    Batch(Vec<Submission>),
    Closed,
    Failed(JournalError),
}

/// Takes what waits, up to the size of a batch. `idle` is called once if nothing does.
fn take_batch(
    shared: &Shared,
    batch_bytes_max: usize,
    idle: impl FnOnce() -> Result<(), JournalError>,
) -> Next {
    let mut queue = shared.queue.lock();
    if queue.waiting.is_empty() {
        drop(queue);
        if let Err(error) = idle() {
            return Next::Failed(error);
        }
        queue = shared.queue.lock();
    }
    while queue.waiting.is_empty() {
        if queue.closed {
            return Next::Closed;
        }
        shared.filled.wait(&mut queue);
    }
    let (mut batch, mut bytes) = (Vec::new(), 0_usize);
    while let Some(next) = queue.waiting.front() {
        if !batch.is_empty() && bytes.saturating_add(next.bytes) > batch_bytes_max {
            break;
        }
        bytes = bytes.saturating_add(next.bytes);
        batch.extend(queue.waiting.pop_front());
    }
    queue.bytes = queue.bytes.saturating_sub(bytes);
    drop(queue);
    shared.drained.notify_all();
    Next::Batch(batch)
}

fn write(log: &Log, batch: &[Submission]) -> Result<Vec<Vec<Appended>>, JournalError> {
    let append = |one: &Submission| {
        one.drafts.iter().map(|(draft, packed)| log.append_packed(draft, packed)).collect()
    };
    let results = batch.iter().map(append).collect::<Result<Vec<_>, _>>()?;
    log.commit()?;
    Ok(results)
}

/// Fails a batch for lack of room, and all that was submitted since: it came after it.
fn refuse(shared: &Arc<Shared>, batch: Vec<Submission>, error: JournalError) {
    let number = match &error {
        JournalError::File { source, .. } => source.raw_os_error(),
        _ => None,
    };
    let mut queue = shared.queue.lock();
    let mut refused = batch;
    refused.extend(queue.waiting.drain(..));
    queue.bytes = 0;
    queue.full = number;
    queue.unseen += refused.len();
    drop(queue);
    shared.drained.notify_all();
    let mut first = Some(error);
    for one in refused {
        let error = first.take().unwrap_or_else(|| full(&shared.directory, number));
        (one.done)(Err(error), Some(Unseen(shared.clone())));
    }
}
