//! From changes with blobs to events with bytes.
//!
//! Changes are gathered until they want some MiB of blobs; then each pack is read once, by several threads, and the
//! changes go to the sink in their order. What wants a blob that cannot be had is left out, with all that belongs to the
//! same object, and listed; what was told of the object before stays.

use crate::session::error::{SessionRestoreError, is_store_down, repository};
use crate::session::receipt::chain;
use crate::session::walk::Result;
use crate::session::{Monitor, Sparse};
use bytes::Bytes;
use journal::event::WRITE_BYTES_MAX;
use journal::{Event, NodeId, Payload};
use parking_lot::Mutex;
use snapshot::repository::read;
use snapshot::repository::{BlobKind, Id, ObjectKind, Repository};
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of blobs that are fetched at a time, unless one is larger.
pub(super) const FETCH_BYTES_MAX: u64 = 32 << 20;
/// Changes that wait.
const WAITING_MAX: usize = 4096;
const PAGE_BYTES: usize = 4096;
/// Shorter runs of zeros are written.
const HOLE_BYTES_MIN: usize = 16 << 10;

/// Takes events, in order.
pub(super) trait Sink {
    /// Whether a new file gets its name before its bytes.
    fn names_first(&self) -> bool;
    /// Events that belong together, of the object at a path below the root.
    fn put(&mut self, path: &[u8], events: Vec<Event>) -> Result<()>;
    /// Makes all that was put come true.
    fn flush(&mut self) -> Result<()>;
}

/// A blob of a file, and where it goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    pub blob: Id,
    pub offset: u64,
    pub bytes: u64,
}

/// Part of a change.
#[derive(Debug)]
pub(super) struct Change {
    /// The object: parts of one have one number.
    pub object: u64,
    /// Absolute path in the session.
    pub path: Vec<u8>,
    /// Events before the bytes.
    pub before: Vec<Event>,
    /// Bytes to be written to `node`.
    pub pieces: Vec<Piece>,
    pub node: NodeId,
    /// Whether the file is new: zeros need not be written then.
    pub new: bool,
    /// Events after the bytes.
    pub after: Vec<Event>,
}

/// A change that could not be made: which object, where, and why.
pub(super) struct Lost {
    pub node: NodeId,
    pub path: Vec<u8>,
    pub reason: String,
}

/// Changes that wait for their bytes.
pub(super) struct Filler<'f> {
    repository: &'f Repository,
    monitor: &'f dyn Monitor,
    threads: usize,
    sparse: Sparse,
    /// What is cut off paths.
    prefix: usize,
    waiting: Vec<Change>,
    bytes: u64,
    /// The last object that was left out: parts of it may still come.
    left_out: Option<u64>,
    /// Bytes given to the sink.
    pub written: u64,
}

impl<'f> Filler<'f> {
    pub fn new(
        repository: &'f Repository,
        monitor: &'f dyn Monitor,
        (threads, sparse): (usize, Sparse),
        prefix: usize,
    ) -> Self {
        let waiting = Vec::new();
        let threads = threads.clamp(1, 64);
        Self { repository, monitor, threads, sparse, prefix, waiting, bytes: 0, left_out: None, written: 0 }
    }

    /// Takes a change; whether it is time to write.
    pub fn push(&mut self, change: Change) -> bool {
        self.bytes += change.pieces.iter().map(|piece| piece.bytes).sum::<u64>();
        self.waiting.push(change);
        self.bytes >= FETCH_BYTES_MAX || self.waiting.len() >= WAITING_MAX
    }

    /// Fetches the bytes and hands everything over. What was lost comes back.
    pub fn write(&mut self, sink: &mut dyn Sink) -> Result<Vec<Lost>> {
        let blobs = self.fetch()?;
        self.bytes = 0;
        let changes = std::mem::take(&mut self.waiting);
        let mut bad: HashSet<u64> = self.left_out.into_iter().collect();
        let mut lost = Vec::new();
        for change in &changes {
            let missing = change.pieces.iter().find_map(|piece| match blobs.get(&piece.blob) {
                Some(Err(reason)) => Some(reason.clone()),
                Some(Ok(bytes)) if bytes.len() as u64 == piece.bytes => None,
                _ => Some(format!("data blob {} is not of the length the index says", piece.blob)),
            });
            if let Some(reason) = missing
                && bad.insert(change.object)
            {
                lost.push(Lost { node: change.node, path: change.path.clone(), reason });
            }
        }
        // Who is to have the name of a file that is left out is left out as well.
        let without: HashSet<NodeId> =
            changes.iter().filter(|change| bad.contains(&change.object)).map(|change| change.node).collect();
        for change in &changes {
            if without.contains(&change.node) && bad.insert(change.object) {
                let reason = "another name of the file could not be restored".to_owned();
                lost.push(Lost { node: change.node, path: change.path.clone(), reason });
            }
        }
        self.left_out = changes.last().map(|change| change.object).filter(|object| bad.contains(object));
        for change in changes {
            if self.monitor.cancelled() {
                return Err(SessionRestoreError::Cancelled);
            }
            if !bad.contains(&change.object) {
                self.hand_over(change, &blobs, sink)?;
            }
        }
        Ok(lost)
    }

    fn hand_over(
        &mut self,
        change: Change,
        blobs: &HashMap<Id, std::result::Result<Bytes, String>>,
        sink: &mut dyn Sink,
    ) -> Result<()> {
        let path = change.path.get(self.prefix..).unwrap_or_default();
        let path = path.strip_prefix(b"/").unwrap_or(path);
        let mut events = change.before;
        for piece in &change.pieces {
            let Some(Ok(bytes)) = blobs.get(&piece.blob) else { continue };
            self.write_events(change.node, (bytes, piece.offset), change.new, &mut events);
        }
        events.extend(change.after);
        if events.is_empty() { Ok(()) } else { sink.put(path, events) }
    }

    /// The bytes of a blob as writes, long runs of zeros as holes.
    fn write_events(
        &mut self,
        node: NodeId,
        (bytes, offset): (&Bytes, u64),
        new: bool,
        events: &mut Vec<Event>,
    ) {
        for (range, zero) in runs(bytes, offset, self.sparse == Sparse::Auto) {
            let at = offset + range.start as u64;
            if zero {
                if !new {
                    events.push(Event::Punch { node, offset: at, bytes: range.len() as u64 });
                }
                continue;
            }
            self.written += range.len() as u64;
            let mut from = range.start;
            while from < range.end {
                let to = range.end.min(from + WRITE_BYTES_MAX);
                let data = Payload::Inline(bytes.slice(from..to));
                events.push(Event::Write { node, offset: offset + from as u64, data, before: None });
                from = to;
            }
        }
    }

    /// The blobs that are waited for, each read once.
    fn fetch(&self) -> Result<HashMap<Id, std::result::Result<Bytes, String>>> {
        let wanted: HashSet<Id> =
            self.waiting.iter().flat_map(|change| &change.pieces).map(|piece| piece.blob).collect();
        let wanted = wanted.into_iter().map(|blob| (BlobKind::Data, blob));
        let reads = read::plan(self.repository, wanted).map_err(repository("look for blobs"))?;
        let found = Mutex::new(HashMap::new());
        let fatal: Mutex<Option<SessionRestoreError>> = Mutex::default();
        let next = AtomicUsize::new(0);
        let over = || fatal.lock().is_some() || self.monitor.cancelled();
        let work = || {
            while let Some(pack) = reads.get(next.fetch_add(1, Ordering::Relaxed)).filter(|_| !over()) {
                self.repository.read_pack(pack, &mut |place, bytes| {
                    match bytes {
                        Ok(bytes) => drop(found.lock().insert(place.id, Ok(Bytes::copy_from_slice(bytes)))),
                        Err(error) if is_store_down(&error) => {
                            fatal.lock().get_or_insert(repository("read the session's content")(error));
                        }
                        Err(error) => {
                            let pack = ObjectKind::Pack.name(&place.pack);
                            let (blob, offset, cause) = (place.id, place.offset, chain(&error));
                            let reason = format!("data blob {blob} in {pack} at offset {offset}: {cause}");
                            found.lock().insert(place.id, Err(reason));
                        }
                    }
                    !over()
                });
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..self.threads.min(reads.len()) {
                // Where no thread can be had, this one does it all.
                if std::thread::Builder::new().spawn_scoped(scope, work).is_err() {
                    break;
                }
            }
            work();
        });
        match fatal.into_inner() {
            Some(error) => Err(error),
            None if self.monitor.cancelled() => Err(SessionRestoreError::Cancelled),
            None => Ok(found.into_inner()),
        }
    }
}

/// Ranges of bytes that are zero over whole pages of the file and long enough to be holes, and the others between them.
fn runs(bytes: &[u8], offset: u64, holes: bool) -> Vec<(Range<usize>, bool)> {
    let mut found: Vec<(Range<usize>, bool)> = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let in_page = ((offset + at as u64) % PAGE_BYTES as u64) as usize;
        let end = bytes.len().min(at + PAGE_BYTES - in_page);
        let zero = holes && bytes.get(at..end).is_some_and(|page| page.iter().all(|byte| *byte == 0));
        match found.last_mut() {
            Some((range, before)) if *before == zero => range.end = end,
            _ => found.push((at..end, zero)),
        }
        at = end;
    }
    let mut joined: Vec<(Range<usize>, bool)> = Vec::new();
    for (range, zero) in found {
        let zero = zero && range.len() >= HOLE_BYTES_MIN;
        match joined.last_mut() {
            Some((last, before)) if *before == zero => last.end = range.end,
            _ => joined.push((range, zero)),
        }
    }
    joined
}
