//! Step 1 and 2 of apply: old bytes from the tree, undo into the journal.

use super::ahead::{self, Ahead, Extent};
use bytes::Bytes;
use journal::journal::{Journal, Placed};
use journal::log::Log;
use journal::record::{DataUndo, UndoPart, UndoSource};
use journal::spare::Spares;
use journal::state::{OldBytes, Replaced, UndoSink};
use journal::view::Locator;
use journal::{JournalError, Lsn, NodeId, PayloadAt, Timestamp, TreeFile, TreeIo};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;

impl<T: TreeIo> ahead::Reads for OldFiles<'_, T> {
    fn read(&mut self, extent: Extent) -> Option<Bytes> {
        // Who wants it reads it again and is told what is wrong.
        self.read_now(extent.node, extent.offset, extent.length).ok()
    }
}

/// Files held open while undo of a batch is computed.
const FILES_MAX: usize = 64;

/// The bytes the tree holds before the batch touches it.
pub struct OldFiles<'l, T: TreeIo> {
    locator: &'l Locator<T>,
    journal: &'l Journal,
    spares: Spares,
    open: HashMap<NodeId, T::File>,
    ahead: Option<Ahead>,
}

impl<'l, T: TreeIo> OldFiles<'l, T> {
    /// Reads through `locator` into buffers of `spares`.
    pub fn new(locator: &'l Locator<T>, journal: &'l Journal, spares: &Spares) -> Self {
        OldFiles { locator, journal, spares: spares.clone(), open: HashMap::new(), ahead: None }
    }

    /// The same; if a batch writes much, what it replaces is read by another thread while undo of what came before is
    /// written. The tree stands still meanwhile, so it does not matter when it is read.
    pub fn reading_ahead<'s>(mut self, batch: &[Placed], scope: &'s std::thread::Scope<'s, '_>) -> Self
    where
        'l: 's,
    {
        let wanted = ahead::wanted(batch);
        if !wanted.is_empty() {
            self.ahead = Ahead::start(OldFiles::new(self.locator, self.journal, &self.spares), wanted, scope);
        }
        self
    }
}

impl<T: TreeIo> OldFiles<'_, T> {
    fn file(&mut self, node: NodeId) -> Result<&T::File, JournalError> {
        if self.open.len() >= FILES_MAX && !self.open.contains_key(&node) {
            self.open.clear();
        }
        Ok(match self.open.entry(node) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(vacant) => vacant.insert(self.locator.open_file(node)?),
        })
    }

    fn read_now(&mut self, node: NodeId, offset: u64, length: usize) -> Result<Bytes, JournalError> {
        let mut buffer = self.spares.take(length);
        let read = self.file(node)?.read_at(buffer.as_mut(), offset).map_err(failed(node))?;
        buffer.as_mut().get_mut(read..).unwrap_or_default().fill(0);
        Ok(buffer.into())
    }
}

fn failed(node: NodeId) -> impl Fn(io::Error) -> JournalError {
    move |source| JournalError::Tree { operation: "read", object: node.to_string(), source }
}

impl<T: TreeIo> OldBytes for OldFiles<'_, T> {
    fn undone(&mut self, at: PayloadAt) -> Result<Bytes, JournalError> {
        self.journal.undo().read_payload(at)
    }

    fn read(&mut self, node: NodeId, offset: u64, length: usize) -> Result<Bytes, JournalError> {
        let extent = Extent { node, offset, length };
        match self.ahead.as_mut().and_then(|ahead| ahead.take(extent)) {
            Some(bytes) => Ok(bytes),
            None => self.read_now(node, offset, length),
        }
    }

    fn next_data(&mut self, node: NodeId, offset: u64) -> Result<Option<u64>, JournalError> {
        let data = self.file(node)?.next_data(offset).map_err(failed(node))?;
        Ok(data.map(|(start, _)| start))
    }
}

/// Payload bytes of one undo record. The disk is at work on one while the next is read.
const PART_BYTES_MAX: usize = 1 << 20;

/// Collects what one capture replaces and appends it, in parts if it is much.
pub struct UndoWriter<'j> {
    log: &'j Log,
    time: Timestamp,
    part: UndoPart,
    payloads: Vec<Bytes>,
    bytes: usize,
    done: Vec<DataUndo>,
}

impl<'j> UndoWriter<'j> {
    /// Nothing replaced yet.
    pub fn new(log: &'j Log, lsn: Lsn, time: Timestamp) -> Self {
        let part = UndoPart { lsn, ..UndoPart::default() };
        UndoWriter { log, time, part, payloads: Vec::new(), bytes: 0, done: Vec::new() }
    }

    fn append(&mut self, last: bool) -> Result<(), JournalError> {
        let lsn = self.part.lsn;
        let mut part = std::mem::replace(&mut self.part, UndoPart { lsn, ..UndoPart::default() });
        part.last = last;
        let draft = part.to_draft(self.time, std::mem::take(&mut self.payloads));
        self.bytes = 0;
        let appended = self.log.append(&draft)?;
        part.resolve(&appended.payloads).map_err(|_| JournalError::Inconsistent {
            lsn,
            what: "undo refers to a payload it does not have",
        })?;
        self.done.extend(part.data);
        Ok(())
    }

    /// Appends the rest, with names and metadata. Not durable before the log is committed. All undo of bytes, with
    /// where it lies.
    ///
    /// # Errors
    /// As the log.
    pub fn finish(mut self, replaced: &Replaced) -> Result<Vec<DataUndo>, JournalError> {
        self.part.names.clone_from(&replaced.names);
        self.part.nodes.clone_from(&replaced.nodes);
        self.append(true)?;
        Ok(self.done)
    }

    fn make_room(&mut self) -> Result<(), JournalError> {
        if self.bytes >= PART_BYTES_MAX || self.part.data.len() >= 10_000 {
            self.append(false)
        } else {
            Ok(())
        }
    }
}

impl UndoWriter<'_> {
    fn keep(
        &mut self,
        node: NodeId,
        offset: u64,
        payload: Bytes,
        source: impl FnOnce(PayloadAt) -> UndoSource,
    ) -> Result<(), JournalError> {
        self.make_room()?;
        self.bytes += payload.len();
        // Until it is appended, the place of a payload is its number.
        let at = PayloadAt { offset: self.payloads.len() as u64, ..PayloadAt::default() };
        self.part.data.push(DataUndo { node, offset, bytes: payload.len() as u32, source: source(at) });
        self.payloads.push(payload);
        Ok(())
    }
}

impl UndoSink for UndoWriter<'_> {
    fn bytes(&mut self, node: NodeId, offset: u64, bytes: Bytes) -> Result<(), JournalError> {
        self.keep(node, offset, bytes, |at| UndoSource::Undo { at, skip: 0 })
    }

    fn delta(
        &mut self,
        node: NodeId,
        offset: u64,
        differs: Bytes,
        redo: PayloadAt,
        from: u32,
    ) -> Result<(), JournalError> {
        self.keep(node, offset, differs, |at| UndoSource::Delta { at, skip: 0, redo, from })
    }

    fn reference(&mut self, data: DataUndo) -> Result<(), JournalError> {
        self.make_room()?;
        self.part.data.push(data);
        Ok(())
    }
}
