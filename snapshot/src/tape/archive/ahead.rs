//! Finds and reads what an archive is made of, ahead of who writes it.
//!
//! One thread walks, and gives what it finds in order: objects, and behind a file the pieces of its content, each at its
//! offset. Pieces are bytes, or blobs that other threads load meanwhile. The writer takes item by item; what is left of a
//! file that it gives up is passed over. So walking, loading and checksums each have a processor.
//!
//! **The order is that of the walk**, and what fails, fails where it stands: a piece that could not be read damages its
//! file there, as if it had been read there. Whether a name is a link to one before is for the writer to know, so the
//! walk asks and waits; only files with several names cost that.
//!
//! **All goes in batches**, with one room for the bytes of many little files, and blobs are loaded in groups: threads that
//! wake each other for each file, or free what another has allocated, cost more than they do. Rooms are filled again.
//!
//! **Memory** is bounded: [`QUEUED_MAX`] batches wait, and one ends with the item that fills it, so about five times
//! [`BATCH_BYTES`] or five of the largest blobs, and what loading takes. Groups of a batch that was passed are not loaded.
//!
//! **Nobody waits for ever**: who waits for a thread that has ended learns it from the channel. What lies in a bounded
//! channel stays until both its sides have gone, so who answers the walk holds the sender, and loaders outlive panics.

use super::writer::{PIECE_BYTES, SessionWriter, Source, SourceFailure, Wrote};
use super::{ArchiveError, Result};
use crate::repository::index::Location;
use crate::repository::{Id, Node};
use crate::session::Monitor;
use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};
use std::collections::VecDeque;
use std::io::Write;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};

/// Batches that wait for the writer.
const QUEUED_MAX: usize = 3;
/// Bytes of content that end a batch.
const BATCH_BYTES: usize = 1 << 20;
/// Items that end a batch.
const BATCH_ITEMS: usize = 512;
/// Bytes of blobs that end a group.
const GROUP_BYTES: u64 = 256 << 10;
/// Groups that wait for a thread that loads.
const TASKS_MAX: usize = 64;
/// Most threads that load: from a store that is far away most of them wait.
const LOADERS_MAX: usize = 16;

type Outcome<T> = std::result::Result<T, SourceFailure>;

/// Blobs that were loaded together.
pub(super) struct Group {
    /// Their plain bytes.
    pub bytes: Vec<u8>,
    /// Where each lies, in the order in which they were asked for, or why it is not there.
    pub blobs: Vec<Outcome<Range<usize>>>,
}

/// Loads a group into a room that may have bytes in it; fails if none can be had. From several threads at once.
type Load<'l> = &'l (dyn Fn(&[Location], Vec<u8>) -> Outcome<Group> + Sync);

/// Loads blobs.
pub(super) struct Loading<'l> {
    /// Does it.
    pub load: Load<'l>,
    /// Requests that wait at once, see [`crate::store::BlobStore::connections`].
    pub connections: usize,
}

/// A group to be loaded, and where to give it.
struct Task {
    blobs: Vec<Location>,
    give: Sender<Outcome<Group>>,
    /// Gone with the batch.
    wanted: Weak<()>,
}

/// Where the bytes of a piece are.
enum Bytes {
    /// In the batch.
    Here(Range<usize>),
    /// By themselves.
    Own(Vec<u8>),
    /// In a group of the batch.
    Blob { group: usize, blob: usize },
    /// Nowhere.
    Failed(SourceFailure),
}

enum Item {
    /// A path, and why it is not there.
    Missed(Vec<u8>, String),
    /// A path, and what is there.
    Node(Vec<u8>, Node),
    /// A path, what is there and its content: is it a link? The answer is wanted.
    Linked(Vec<u8>, Node, Id),
    File(Found),
    /// Of the file before.
    Piece {
        at: u64,
        bytes: Bytes,
    },
}

/// A file that was found.
pub(super) struct Found {
    pub path: Vec<u8>,
    pub node: Node,
    /// Names its content, see [`SessionWriter::file`].
    pub content: Id,
    /// Where there may be other bytes than zeros.
    pub data: Vec<Range<u64>>,
    /// The blob that is all of its content, if one is: its id is the SHA-256 of it.
    pub only: Option<Id>,
}

impl Item {
    /// Bytes of what describes an object, as far as they may be many.
    fn weight(&self) -> u64 {
        let (path, node, data) = match self {
            Self::Missed(path, reason) => return (path.len() + reason.len()) as u64,
            Self::Node(path, node) | Self::Linked(path, node, _) => (path, node, 0),
            Self::File(found) => (&found.path, &found.node, size_of_val(found.data.as_slice())),
            Self::Piece { .. } => return 0,
        };
        let xattrs: usize = node.xattrs.iter().map(|xattr| xattr.name.len() + xattr.value.len()).sum();
        (path.len() + node.link_target.len() + data + xattrs) as u64
    }
}

#[derive(Default)]
struct Batch {
    items: VecDeque<Item>,
    /// Room for bytes of pieces, and how much of it is taken.
    room: Vec<u8>,
    taken: usize,
    groups: Vec<Receiver<Outcome<Group>>>,
    /// Bytes that lie elsewhere: of pieces, and of what describes objects.
    elsewhere: u64,
    wanted: Arc<()>,
}

impl Batch {
    fn is_full(&self) -> bool {
        let bytes = self.elsewhere.saturating_add(self.taken as u64);
        bytes >= BATCH_BYTES as u64 || self.items.len() >= BATCH_ITEMS
    }
}

/// Where a walk puts what it finds.
pub(super) struct Ahead {
    out: Sender<Batch>,
    /// Rooms that were read.
    rooms: Receiver<Vec<u8>>,
    batch: Batch,
    tasks: Sender<Task>,
    /// Whether what was asked about is a link.
    answers: Receiver<bool>,
    /// Blobs of the group that is gathered, and their bytes.
    group: (Vec<Location>, u64),
}

impl Ahead {
    fn push(&mut self, item: Item) -> Result<()> {
        self.batch.elsewhere = self.batch.elsewhere.saturating_add(item.weight());
        self.batch.items.push_back(item);
        if self.batch.is_full() { self.send() } else { Ok(()) }
    }

    /// Who writes has gone: it knows why, and what is said here is heard by nobody.
    fn send(&mut self) -> Result<()> {
        self.load()?;
        let room = self.rooms.try_recv().unwrap_or_default();
        let next = Batch { room, ..Batch::default() };
        self.out.send(std::mem::replace(&mut self.batch, next)).map_err(|_| ArchiveError::Cancelled)
    }

    /// Has the group be loaded.
    fn load(&mut self) -> Result<()> {
        let (blobs, _) = std::mem::take(&mut self.group);
        if blobs.is_empty() {
            return Ok(());
        }
        let (give, group) = bounded(1);
        self.batch.groups.push(group);
        // Nobody loads any more only if all is over.
        let wanted = Arc::downgrade(&self.batch.wanted);
        self.tasks.send(Task { blobs, give, wanted }).map_err(|_| ArchiveError::Cancelled)
    }

    /// Whether who writes has gone.
    pub fn is_over(&self) -> bool {
        self.answers.try_recv() == Err(TryRecvError::Disconnected)
    }

    /// An object that cannot be archived.
    pub fn missed(&mut self, path: &[u8], reason: String) -> Result<()> {
        self.push(Item::Missed(path.to_vec(), reason))
    }

    /// An object that is no file.
    pub fn node(&mut self, path: &[u8], node: Node) -> Result<()> {
        self.push(Item::Node(path.to_vec(), node))
    }

    /// Whether a file was written before under another name: then this name is written too.
    pub fn is_linked(&mut self, path: &[u8], node: &Node, content: &Id) -> Result<bool> {
        if node.links <= 1 {
            return Ok(false);
        }
        self.push(Item::Linked(path.to_vec(), node.clone(), *content))?;
        self.send()?;
        self.answers.recv().map_err(|_| ArchiveError::Cancelled)
    }

    /// A file; the pieces of its content follow.
    pub fn file(&mut self, found: Found) -> Result<()> {
        self.push(Item::File(found))
    }

    /// Reads bytes of the file into a room of at most `limit`; how many came. Offsets ascend.
    pub fn read(
        &mut self,
        at: u64,
        limit: u64,
        read: impl FnOnce(&mut [u8]) -> Outcome<usize>,
    ) -> Result<usize> {
        let limit = usize::try_from(limit).map_or(PIECE_BYTES, |limit| limit.min(PIECE_BYTES));
        if self.batch.taken + limit > BATCH_BYTES {
            self.send()?;
        }
        self.batch.room.resize(BATCH_BYTES, 0);
        let from = self.batch.taken;
        let room = self.batch.room.get_mut(from..from + limit).unwrap_or_default();
        let (bytes, count) = match read(room) {
            Ok(count) => (Bytes::Here(from..from + count.min(limit)), count.min(limit)),
            Err(failure) => (Bytes::Failed(failure), 0),
        };
        self.batch.taken += count;
        self.push(Item::Piece { at, bytes })?;
        Ok(count)
    }

    /// Bytes of the file, or why there are none from there on. Offsets ascend.
    pub fn piece(&mut self, at: u64, bytes: Outcome<Vec<u8>>) -> Result<()> {
        let bytes = match bytes {
            Ok(bytes) => {
                self.batch.elsewhere = self.batch.elsewhere.saturating_add(bytes.len() as u64);
                Bytes::Own(bytes)
            }
            Err(failure) => Bytes::Failed(failure),
        };
        self.push(Item::Piece { at, bytes })
    }

    /// A blob of the file, to be loaded.
    pub fn blob(&mut self, at: u64, place: Location) -> Result<()> {
        let known = self.group.0.iter().position(|blob| blob.id == place.id);
        let (group, blob) = (self.batch.groups.len(), known.unwrap_or(self.group.0.len()));
        if known.is_none() {
            self.group.1 = self.group.1.saturating_add(place.plain_bytes());
            self.batch.elsewhere = self.batch.elsewhere.saturating_add(place.plain_bytes());
            self.group.0.push(place);
            if self.group.1 >= GROUP_BYTES {
                self.load()?;
            }
        }
        self.push(Item::Piece { at, bytes: Bytes::Blob { group, blob } })
    }
}

/// A group of the batch at hand, once somebody needed it.
enum Fetched {
    Coming(Receiver<Outcome<Group>>),
    There(Group),
}

/// What the writer takes from.
struct Taken {
    batches: Receiver<Batch>,
    /// Where rooms go back to: those of batches, those of groups.
    rooms: Sender<Vec<u8>>,
    group_rooms: Sender<Vec<u8>>,
    items: VecDeque<Item>,
    room: Vec<u8>,
    groups: Vec<Fetched>,
    /// Keeps the groups of the batch at hand wanted.
    wanted: Arc<()>,
    answer: Sender<bool>,
}

/// A piece at hand.
#[derive(Default)]
struct Piece {
    at: u64,
    length: u64,
    bytes: Option<Bytes>,
}

impl Taken {
    fn next(&mut self) -> Option<Item> {
        while self.items.is_empty() {
            let batch = self.batches.recv().ok()?;
            (self.items, self.wanted) = (batch.items, batch.wanted);
            // Who would fill them again may have gone, or has enough.
            let _full = self.rooms.try_send(std::mem::replace(&mut self.room, batch.room));
            let next = batch.groups.into_iter().map(Fetched::Coming).collect();
            for group in std::mem::replace(&mut self.groups, next) {
                if let Fetched::There(group) = group {
                    let _full = self.group_rooms.try_send(group.bytes);
                }
            }
        }
        self.items.pop_front()
    }

    /// The next piece of the file at hand, if there is one more.
    fn next_piece(&mut self) -> Option<(u64, Bytes)> {
        let item = self.next()?;
        if let Item::Piece { at, bytes } = item {
            return Some((at, bytes));
        }
        self.items.push_front(item);
        None
    }

    /// A blob, waited for.
    fn blob(&mut self, group: usize, blob: usize) -> Outcome<Range<usize>> {
        let lost = || SourceFailure::All("a thread that loads blobs has ended".into());
        let fetched = self.groups.get_mut(group).ok_or_else(lost)?;
        if let Fetched::Coming(coming) = fetched {
            *fetched = Fetched::There(coming.recv().map_err(|_| lost())??);
        }
        let Fetched::There(there) = fetched else { return Err(lost()) };
        match there.blobs.get(blob).ok_or_else(lost)? {
            Ok(range) => Ok(range.clone()),
            Err(SourceFailure::File(reason)) => Err(SourceFailure::File(reason.clone())),
            Err(SourceFailure::Cancelled) => Err(SourceFailure::Cancelled),
            Err(SourceFailure::All(error)) => Err(SourceFailure::All(error.to_string().into())),
        }
    }

    /// Makes sure that the bytes of a piece are there; how many.
    fn fetch(&mut self, bytes: &mut Bytes) -> Outcome<u64> {
        let length = match bytes {
            Bytes::Here(range) => range.len(),
            Bytes::Own(bytes) => bytes.len(),
            Bytes::Blob { group, blob } => self.blob(*group, *blob)?.len(),
            Bytes::Failed(failure) => return Err(std::mem::replace(failure, SourceFailure::Cancelled)),
        };
        Ok(length as u64)
    }

    /// The bytes of a piece that was fetched.
    fn bytes<'t>(&'t self, bytes: &'t Bytes) -> &'t [u8] {
        let found = match bytes {
            Bytes::Here(range) => self.room.get(range.clone()),
            Bytes::Own(bytes) => Some(bytes.as_slice()),
            Bytes::Blob { group, blob } => match self.groups.get(*group) {
                Some(Fetched::There(there)) => {
                    let range = there.blobs.get(*blob).and_then(|range| range.as_ref().ok());
                    range.and_then(|range| there.bytes.get(range.clone()))
                }
                _ => None,
            },
            Bytes::Failed(_) => None,
        };
        found.unwrap_or_default()
    }
}

/// The content of the file at hand.
struct Content<'t> {
    taken: &'t mut Taken,
    monitor: &'t dyn Monitor,
    only: Option<Id>,
    piece: Piece,
    /// Why there are no more bytes.
    failure: Option<SourceFailure>,
}

impl Content<'_> {
    /// Takes the next piece; whether there was one.
    fn advance(&mut self) -> Outcome<bool> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        if self.monitor.cancelled() {
            return Err(SourceFailure::Cancelled);
        }
        let Some((at, mut bytes)) = self.taken.next_piece() else { return Ok(false) };
        let length = self.taken.fetch(&mut bytes)?;
        self.piece = Piece { at, length, bytes: Some(bytes) };
        Ok(true)
    }
}

impl Source for Content<'_> {
    fn bytes(&mut self, offset: u64, limit: usize) -> Outcome<&[u8]> {
        while offset >= self.piece.at.saturating_add(self.piece.length) {
            if !self.advance()? {
                return Ok(&[]);
            }
        }
        let skip = offset.checked_sub(self.piece.at).and_then(|skip| usize::try_from(skip).ok());
        let bytes = self.piece.bytes.as_ref().map(|bytes| self.taken.bytes(bytes)).unwrap_or_default();
        let rest = skip.and_then(|skip| bytes.get(skip..)).unwrap_or_default();
        Ok(rest.get(..limit).unwrap_or(rest))
    }

    fn proven(&mut self, size: u64) -> Option<Id> {
        let only = self.only.take()?;
        // What fails is told when the bytes are asked for.
        self.failure = self.advance().err();
        (self.failure.is_none() && self.piece.at == 0 && self.piece.length == size).then_some(only)
    }
}

/// Has `walk` find what is to be archived, and writes it. `loading` loads the blobs that the walk asks for.
///
/// # Errors
/// Those of the walk, and of the writer; `Thread`.
pub(super) fn write<W: Write>(
    mut writer: SessionWriter<W>,
    monitor: &dyn Monitor,
    loading: Option<Loading<'_>>,
    walk: impl FnOnce(&mut Ahead) -> Result<()> + Send,
) -> Result<Wrote<W>> {
    let (out, batches) = bounded(QUEUED_MAX);
    let (give_room, rooms) = bounded(QUEUED_MAX);
    let (give_group_room, group_rooms) = bounded(QUEUED_MAX);
    let (tasks, queue) = bounded::<Task>(TASKS_MAX);
    let (answer, answers) = bounded(1);
    let failed = |source| ArchiveError::Thread { source };
    std::thread::scope(|scope| {
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        let loaders = loading.into_iter().flat_map(|Loading { load, connections }| {
            std::iter::repeat_n(load, connections.max(cores).min(LOADERS_MAX))
        });
        for (number, load) in loaders.enumerate() {
            let (queue, rooms) = (queue.clone(), group_rooms.clone());
            let loads = move || {
                for Task { blobs, give, .. } in queue.iter().filter(|task| task.wanted.strong_count() > 0) {
                    let room = rooms.try_recv().unwrap_or_default();
                    let loaded = catch_unwind(AssertUnwindSafe(|| load(&blobs, room)));
                    let panicked = |_| Err(SourceFailure::All("a thread that loads blobs has failed".into()));
                    // Nobody may want it any more.
                    let _unwanted = give.send(loaded.unwrap_or_else(panicked));
                }
            };
            let thread = std::thread::Builder::new().name(format!("archive-{number}"));
            thread.spawn_scoped(scope, loads).map_err(failed)?;
        }
        drop(queue);
        let walks = move || {
            let (batch, group) = (Batch::default(), (Vec::new(), 0));
            let mut ahead = Ahead { out, rooms, batch, tasks, answers, group };
            walk(&mut ahead)?;
            ahead.send()
        };
        let thread = std::thread::Builder::new().name("archive".to_owned());
        let walking = thread.spawn_scoped(scope, walks).map_err(failed)?;
        let mut taken = Taken {
            batches,
            rooms: give_room,
            group_rooms: give_group_room,
            items: VecDeque::new(),
            room: Vec::new(),
            groups: Vec::new(),
            wanted: Arc::default(),
            answer,
        };
        let wrote = take(&mut writer, &mut taken, monitor);
        // The walk ends when nobody takes what it finds.
        drop(taken);
        let walked = walking.join();
        wrote?;
        let ended =
            |_| ArchiveError::Source { source: "the thread that finds what is archived has ended".into() };
        walked.map_err(ended)??;
        writer.finish()
    })
}

/// Writes all that comes.
fn take<W: Write>(writer: &mut SessionWriter<W>, taken: &mut Taken, monitor: &dyn Monitor) -> Result<()> {
    while let Some(item) = taken.next() {
        match item {
            Item::Missed(path, reason) => drop(writer.missed(&path, &reason)?),
            Item::Node(path, node) => drop(writer.node(&path, &node)?),
            Item::Linked(path, node, content) => {
                let _gone = taken.answer.send(writer.link(&path, &node, &content)?.is_some());
            }
            Item::File(Found { path, node, content, data, only }) => {
                let mut source = Content { taken, monitor, only, piece: Piece::default(), failure: None };
                writer.file((&path, &node), &content, &data, &mut source)?;
            }
            Item::Piece { .. } => continue, // Of a file that was given up.
        }
        let totals = writer.totals();
        monitor.progress(totals.members, totals.bytes);
    }
    Ok(())
}
