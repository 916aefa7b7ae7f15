//! The batch under way in the live segment.
//!
//! Frames are laid out in memory and written with one call per buffer. Long payloads are not copied: the buffer
//! refers to the caller's bytes. Nothing of a batch counts before its commit frame, so whatever a failed write left
//! behind `committed` is never read; it is overwritten by the next attempt or cut off by `reset`.

use super::codec::Put;
use super::frame::{Chain, FRAME_ALIGN, FRAME_HEADER_BYTES, FrameHeader, FrameKey, FrameType};
use super::pack::Packed;
use super::segment::{Commit, Footer, Summary};
use super::types::{Appended, RecordAt, RecordDraft};
use crate::disk::DiskFile;
use crate::event::{PackedAt, PayloadAt};
use crate::lsn::Lsn;
use crate::meta::Timestamp;
use bytes::Bytes;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::sync::Arc;

/// Payloads shorter than this are copied into the buffer: a piece of their own would cost more.
const SHARED_BYTES_MIN: usize = 4 << 10;

/// Consecutive bytes of the buffer.
#[derive(Debug)]
enum Piece {
    Scratch(Range<usize>),
    Shared(Bytes),
}

/// Where the buffer and the chain stood; see [`Writer::mark`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    scratch: usize,
    pieces: usize,
    piece_from: usize,
    next: u64,
    chain: Chain,
    vouched: RecordAt,
}

/// Records since the last commit.
#[derive(Debug, Default)]
pub(super) struct Batch {
    start: u64,
    /// Offset and LSN of each record.
    pub(super) records: Vec<(u64, Option<Lsn>)>,
    pub(super) summary: Summary,
}

/// Writes frames to the end of one segment file.
pub(super) struct Writer {
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) number: u64,
    key: FrameKey,
    /// Offset of the next frame.
    pub(super) next: u64,
    pub(super) chain: Chain,
    /// All in front of it is in the file.
    pub(super) written: u64,
    /// End of the last commit frame, and the chain there.
    pub(super) committed: u64,
    committed_chain: Chain,
    /// All in front of it is durable.
    pub(super) durable: RecordAt,
    /// Greatest durable position that a frame carries.
    pub(super) vouched: RecordAt,
    pub(super) batch: Batch,
    scratch: Vec<u8>,
    pieces: Vec<Piece>,
    piece_from: usize,
}

impl Writer {
    /// Goes on at `committed`, the end of the file, all of which is durable.
    pub(super) fn new(
        file: Arc<dyn DiskFile>,
        key: FrameKey,
        committed: RecordAt,
        chain: Chain,
        vouched: RecordAt,
    ) -> Self {
        let offset = committed.offset;
        Writer {
            file,
            number: committed.segment,
            key,
            next: offset,
            chain,
            written: offset,
            committed: offset,
            committed_chain: chain,
            durable: committed,
            vouched,
            batch: Batch { start: offset, ..Batch::default() },
            scratch: Vec::new(),
            pieces: Vec::new(),
            piece_from: 0,
        }
    }

    /// Bytes laid out and not written.
    pub(super) fn buffered(&self) -> u64 {
        self.next - self.written
    }

    /// Lays out a record. The caller has checked the limits, and brings each payload packed, with its CRC: that is most
    /// of the work, and needs no lock. A segment of a version that knows no packing gets them as they are.
    pub(super) fn add(&mut self, draft: &RecordDraft, packed: &[Packed]) -> Appended {
        debug_assert_eq!(draft.payloads.len(), packed.len());
        let at = RecordAt { segment: self.number, offset: self.next };
        let stored = |one: &Packed| one.stored.clone().filter(|_| self.key.packs);
        let mut header = FrameHeader {
            frame: FrameType::Record,
            kind: draft.kind,
            version: draft.version,
            lsn: draft.lsn,
            time: draft.time,
            head_bytes: draft.head.len() as u32,
            payload_count: draft.payloads.len() as u32,
            payload_bytes: 0,
            packed: packed.iter().any(|one| stored(one).is_some()),
            body_crc: 0,
            durable: self.durable,
            chain: self.chain,
        };
        let from = self.next + (FRAME_HEADER_BYTES + header.body_bytes()) as u64;
        let (mut offset, mut given) = (from, 0_u64);
        let (mut payloads, mut pieces) = (Vec::with_capacity(packed.len()), Vec::with_capacity(packed.len()));
        for (payload, one) in draft.payloads.iter().zip(packed) {
            let (piece, packed) = match stored(one) {
                Some((piece, crc)) => {
                    let bytes = piece.len() as u32;
                    (piece, Some(PackedAt { bytes, crc }))
                }
                None => (payload.clone(), None),
            };
            let (bytes, crc) = (payload.len() as u32, one.crc);
            payloads.push(PayloadAt { segment: self.number, offset, bytes, crc, packed });
            given += u64::from(bytes);
            offset += piece.len() as u64;
            pieces.push(piece);
        }
        header.payload_bytes = (offset - from) as u32;
        let body_at = self.scratch.len() + FRAME_HEADER_BYTES;
        self.scratch.resize(body_at, 0);
        payloads.iter().for_each(|payload| put_entry(&mut self.scratch, payload, header.packed));
        self.scratch.put(&draft.head);
        self.finish(header, body_at);
        pieces.iter().for_each(|piece| self.add_payload(piece));
        self.pad(offset);
        self.batch.records.push((at.offset, draft.lsn));
        self.batch.summary.note(draft.lsn, draft.time, given);
        Appended { at, payloads }
    }

    /// Lays out the commit frame of the batch.
    pub(super) fn add_commit(&mut self) {
        let commit = Commit { start: self.batch.start, records: self.batch.records.len() as u64 };
        let time = self.batch.summary.times.map_or(Timestamp::default(), |(_, last)| last);
        self.add_own(FrameType::Commit, time, &commit.encode());
    }

    /// Lays out the footer frame.
    pub(super) fn add_footer(&mut self, footer: &Footer) {
        let time = footer.summary.times.map_or(Timestamp::default(), |(_, last)| last);
        self.add_own(FrameType::Footer, time, &footer.encode());
    }

    fn add_own(&mut self, frame: FrameType, time: Timestamp, head: &[u8]) {
        let body_at = self.scratch.len() + FRAME_HEADER_BYTES;
        self.scratch.resize(body_at, 0);
        self.scratch.put(head);
        let (head_bytes, durable, chain) = (head.len() as u32, self.durable, self.chain);
        let header = FrameHeader {
            frame,
            kind: 0,
            version: 0,
            lsn: None,
            time,
            head_bytes,
            payload_count: 0,
            payload_bytes: 0,
            packed: false,
            body_crc: 0,
            durable,
            chain,
        };
        self.finish(header, body_at);
        self.pad(self.next + (FRAME_HEADER_BYTES + head.len()) as u64);
    }

    /// Puts the header in front of the body that ends the scratch.
    fn finish(&mut self, mut header: FrameHeader, body_at: usize) {
        let previous = self.chain;
        let (front, body) = self.scratch.split_at_mut(body_at);
        let bytes = header.finish(self.key, self.next, &previous, body);
        if let Some(place) = front.last_chunk_mut::<FRAME_HEADER_BYTES>() {
            *place = bytes;
        }
        self.chain = header.chain;
        self.vouched = header.durable;
    }

    fn add_payload(&mut self, payload: &Bytes) {
        if payload.len() < SHARED_BYTES_MIN {
            self.scratch.put(payload);
            return;
        }
        self.end_piece();
        self.pieces.push(Piece::Shared(payload.clone()));
    }

    fn end_piece(&mut self) {
        let end = self.scratch.len();
        if self.piece_from < end {
            self.pieces.push(Piece::Scratch(self.piece_from..end));
            self.piece_from = end;
        }
    }

    /// Ends a frame whose last byte stands in front of `bare_end`.
    fn pad(&mut self, bare_end: u64) {
        self.next = bare_end.next_multiple_of(FRAME_ALIGN);
        let padding = (self.next - bare_end) as usize;
        self.scratch.resize(self.scratch.len() + padding, 0);
    }

    /// Writes what is laid out. After an error it is still laid out, and can be written again.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        if self.buffered() == 0 {
            return Ok(());
        }
        self.end_piece();
        let slices: Vec<IoSlice<'_>> = self
            .pieces
            .iter()
            .map(|piece| match piece {
                Piece::Scratch(range) => IoSlice::new(self.scratch.get(range.clone()).unwrap_or_default()),
                Piece::Shared(bytes) => IoSlice::new(bytes),
            })
            .collect();
        self.file.write_vectored_at(&slices, self.written)?;
        self.written = self.next;
        self.clear();
        Ok(())
    }

    fn clear(&mut self) {
        self.scratch.clear();
        self.pieces.clear();
        self.piece_from = 0;
    }

    /// Where buffer and chain stand now, to come back to before anything more is written.
    pub(super) fn mark(&mut self) -> Mark {
        // A piece that ends here stays whole when the pieces behind it are taken back.
        self.end_piece();
        Mark {
            scratch: self.scratch.len(),
            pieces: self.pieces.len(),
            piece_from: self.piece_from,
            next: self.next,
            chain: self.chain,
            vouched: self.vouched,
        }
    }

    /// Takes back what was laid out since `mark`, none of which has been written successfully.
    pub(super) fn back_to(&mut self, mark: &Mark) {
        self.scratch.truncate(mark.scratch);
        self.pieces.truncate(mark.pieces);
        self.piece_from = mark.piece_from;
        (self.next, self.chain, self.vouched) = (mark.next, mark.chain, mark.vouched);
    }

    /// All that is laid out has been written and ends with a commit frame.
    pub(super) fn set_committed(&mut self) -> Batch {
        (self.committed, self.committed_chain) = (self.next, self.chain);
        std::mem::replace(&mut self.batch, Batch { start: self.next, ..Batch::default() })
    }

    /// All that is committed has been synced.
    pub(super) fn set_durable(&mut self) {
        self.durable = RecordAt { segment: self.number, offset: self.committed };
    }

    /// Forgets what is not committed. The file may be longer than `committed` afterwards.
    pub(super) fn reset(&mut self) {
        self.clear();
        (self.next, self.chain, self.written) = (self.committed, self.committed_chain, self.committed);
        self.batch = Batch { start: self.committed, ..Batch::default() };
    }
}

/// An entry of the payload table.
fn put_entry(out: &mut Vec<u8>, payload: &PayloadAt, packed: bool) {
    out.put_u32(payload.stored_bytes());
    out.put_u32(payload.stored_crc());
    if packed {
        // Of a payload that is not packed itself nothing more is said.
        let (bytes, crc) = payload.packed.map_or((0, 0), |_| (payload.bytes, payload.crc));
        out.put_u32(bytes);
        out.put_u32(crc);
    }
}
