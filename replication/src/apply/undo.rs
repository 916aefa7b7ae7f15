//! Step 1 and 2 of apply: old bytes from the tree, undo into the journal.

use bytes::Bytes;
use journal::log::Log;
use journal::record::{DataUndo, UndoPart, UndoSource};
use journal::state::{OldBytes, Replaced, UndoSink};
use journal::view::Locator;
use journal::{JournalError, Lsn, NodeId, PayloadAt, Timestamp, TreeFile, TreeIo};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;

/// Files held open while undo of a batch is computed.
const FILES_MAX: usize = 64;

/// The bytes the tree holds before the batch touches it.
pub struct OldFiles<'l, T: TreeIo> {
    locator: &'l Locator<T>,
    open: HashMap<NodeId, T::File>,
}

impl<'l, T: TreeIo> OldFiles<'l, T> {
    /// Reads through `locator`.
    pub fn new(locator: &'l Locator<T>) -> Self {
        OldFiles { locator, open: HashMap::new() }
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
}

fn failed(node: NodeId) -> impl Fn(io::Error) -> JournalError {
    move |source| JournalError::Tree { operation: "read", object: node.to_string(), source }
}

impl<T: TreeIo> OldBytes for OldFiles<'_, T> {
    fn read(&mut self, node: NodeId, offset: u64, buffer: &mut [u8]) -> Result<usize, JournalError> {
        self.file(node)?.read_at(buffer, offset).map_err(failed(node))
    }

    fn next_data(&mut self, node: NodeId, offset: u64) -> Result<Option<u64>, JournalError> {
        let data = self.file(node)?.next_data(offset).map_err(failed(node))?;
        Ok(data.map(|(start, _)| start))
    }
}

/// Payload bytes of one undo record.
const PART_BYTES_MAX: usize = 4 << 20;

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
