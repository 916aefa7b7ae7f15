//! Walking the frames of a segment file, one after the other or across damage.
//!
//! Lengths come from headers that match their checksum, are within the limits and within the file before anything is
//! allocated for them. Payload bytes are stepped over; whoever wants them checked asks.

use super::codec::Take;
use super::frame::{
    Chain, FRAME_ALIGN, FRAME_HEADER_BYTES, FRAME_MAGIC, FrameHeader, FrameKey, PAYLOAD_BYTES_MAX,
};
use super::pack::Packer;
use super::shared::FORGET_BYTES_MIN;
use super::types::RecordAt;
use crate::disk::DiskFile;
use crate::event::{PackedAt, PayloadAt};
use bytes::Bytes;
use std::io;
use std::sync::Arc;

/// Bytes read at once by who steps over payloads.
const WINDOW_BYTES: usize = 64 << 10;
/// The same for who reads everything.
const WINDOW_BYTES_ALL: usize = 256 << 10;
/// Payloads that take no more are expanded where the window has them: one call for each would take longer.
const TOGETHER_BYTES_MAX: usize = 64 << 10;

/// A frame that matches all its checksums, but for those of its payload bytes.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    pub(super) at: RecordAt,
    /// Offset of what follows it.
    pub(super) next: u64,
    pub(super) header: FrameHeader,
    pub(super) head: Bytes,
    pub(super) payloads: Vec<PayloadAt>,
}

/// Result of one step.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Frame(Frame),
    /// The limit is reached.
    End,
    /// What stands at the scanner's offset is not a whole frame.
    Bad(&'static str),
}

/// A cursor over the frames of a segment.
pub(super) struct Scanner {
    file: Arc<dyn DiskFile>,
    key: FrameKey,
    segment: u64,
    /// Offset of the next frame.
    pub(super) offset: u64,
    /// No byte at or behind it is looked at.
    pub(super) limit: u64,
    /// Chain value in front of the next frame; `None` if not known.
    pub(super) chain: Option<Chain>,
    window: Vec<u8>,
    window_start: u64,
    window_bytes: usize,
    /// Of who reads everything: in front of it nothing need stay in the system's memory.
    forgotten: Option<u64>,
}

impl Scanner {
    pub(super) fn new(file: Arc<dyn DiskFile>, key: FrameKey, at: RecordAt, limit: u64) -> Self {
        let (window, window_start) = (Vec::new(), 0);
        Scanner {
            file,
            key,
            segment: at.segment,
            offset: at.offset,
            limit,
            chain: None,
            window,
            window_start,
            window_bytes: WINDOW_BYTES,
            forgotten: None,
        }
    }

    /// The same for who reads everything, once: the system's memory is for others.
    pub(super) fn reading_all(mut self) -> Self {
        self.window_bytes = WINDOW_BYTES_ALL;
        self.forgotten = Some(self.offset);
        self
    }

    /// Lets go of the frames in front of the next one, if they are long enough together.
    fn forget(&mut self) {
        if let Some(from) = self.forgotten
            && let Some(bytes) = self.offset.checked_sub(from)
            && bytes >= FORGET_BYTES_MIN
        {
            self.file.forget(from, bytes);
            self.forgotten = Some(self.offset);
        }
    }

    /// `count` bytes at `offset`, or `None` if they do not lie below the limit or the file is shorter.
    fn bytes(&mut self, offset: u64, count: usize) -> io::Result<Option<&[u8]>> {
        match offset.checked_add(count as u64) {
            Some(end) if end <= self.limit => {}
            _ => return Ok(None),
        }
        let inside = |start: u64, length: usize| {
            offset >= start && offset.saturating_add(count as u64) <= start.saturating_add(length as u64)
        };
        if !inside(self.window_start, self.window.len()) {
            let room = usize::try_from(self.limit - offset).unwrap_or(usize::MAX);
            self.window.resize(count.max(self.window_bytes).min(room), 0);
            self.window_start = offset;
            let read = self.file.read_at(&mut self.window, offset).inspect_err(|_| self.window.clear())?;
            self.window.truncate(read);
        }
        let from = usize::try_from(offset - self.window_start).unwrap_or(usize::MAX);
        Ok(self.window.get(from..).and_then(|rest| rest.get(..count)))
    }

    /// The header at `offset`, checked.
    fn header(&mut self, offset: u64) -> io::Result<Result<FrameHeader, &'static str>> {
        let (key, at) = (self.key, RecordAt { segment: self.segment, offset });
        let Some(bytes) = self.bytes(offset, FRAME_HEADER_BYTES)? else {
            return Ok(Err("the file ends within the header of a frame"));
        };
        Ok(match bytes.first_chunk::<FRAME_HEADER_BYTES>() {
            Some(bytes) => FrameHeader::decode(bytes, key, at),
            None => Err("the file ends within the header of a frame"),
        })
    }

    /// Takes the next frame and moves behind it; stays where it is unless there is one.
    pub(super) fn step(&mut self) -> io::Result<Step> {
        self.forget();
        if self.offset >= self.limit {
            return Ok(Step::End);
        }
        let offset = self.offset;
        let header = match self.header(offset)? {
            Ok(header) => header,
            Err(what) => return Ok(Step::Bad(what)),
        };
        let end = match offset.checked_add(header.frame_bytes()) {
            Some(end) if end <= self.limit => end,
            _ => return Ok(Step::Bad("the file ends within a frame")),
        };
        let (chain, at) = (self.chain, RecordAt { segment: self.segment, offset });
        let body_at = offset + FRAME_HEADER_BYTES as u64;
        let Some(body) = self.bytes(body_at, header.body_bytes())? else {
            return Ok(Step::Bad("the file ends within a frame"));
        };
        if let Err(what) = header.check_body(chain.as_ref(), body) {
            return Ok(Step::Bad(what));
        }
        let (table, head) = body.split_at(header.table_bytes());
        let head = Bytes::copy_from_slice(head);
        let Some(payloads) = payload_places(table, at.segment, body_at + header.body_bytes() as u64, &header)
        else {
            return Ok(Step::Bad("the payload table does not add up"));
        };
        self.offset = end;
        self.chain = Some(header.chain);
        Ok(Step::Frame(Frame { at, next: end, header, head, payloads }))
    }

    /// Whether the payload bytes and the padding of a frame are what was written; else the offset where they are not.
    pub(super) fn check_payloads(&mut self, frame: &Frame) -> io::Result<Result<(), (u64, &'static str)>> {
        for payload in &frame.payloads {
            if !self.holds(payload) {
                continue;
            }
            if !self.matches(payload)? {
                return Ok(Err((payload.offset, "a payload does not match its checksum")));
            }
        }
        let padding_at = frame.at.offset + frame.header.bare_bytes();
        let padding = usize::try_from(frame.next - padding_at).unwrap_or(0);
        match self.bytes(padding_at, padding)? {
            Some(bytes) if bytes.iter().all(|byte| *byte == 0) => Ok(Ok(())),
            _ => Ok(Err((padding_at, "the padding of a frame is not zero"))),
        }
    }

    /// Whether the bytes that are stored of a payload match their checksum. The place must have come from a checked table.
    fn matches(&mut self, payload: &PayloadAt) -> io::Result<bool> {
        let (mut at, mut left, mut crc) = (payload.offset, payload.stored_bytes() as usize, 0);
        while left > 0 {
            // First what the window has already.
            let skip = at.checked_sub(self.window_start).and_then(|skip| usize::try_from(skip).ok());
            let known = skip.and_then(|skip| self.window.len().checked_sub(skip)).filter(|known| *known > 0);
            let want = left.min(known.unwrap_or(self.window_bytes));
            let Some(part) = self.bytes(at, want)? else { return Ok(false) };
            crc = crc32c::crc32c_append(crc, part);
            (at, left) = (at + want as u64, left - want);
        }
        Ok(crc == payload.stored_crc())
    }

    /// Whether the bytes of a payload were not given up.
    pub(super) fn holds(&self, payload: &PayloadAt) -> bool {
        self.file.holds(payload.offset..payload.offset.saturating_add(u64::from(payload.stored_bytes())))
    }

    /// Payloads of a frame whose bytes were.
    pub(super) fn thinned(&self, frame: &Frame) -> u64 {
        frame.payloads.iter().filter(|payload| !self.holds(payload)).count() as u64
    }

    /// Whether a packed payload of a checked table expands to what it was; else what is wrong.
    pub(super) fn expand(
        &mut self,
        packer: &Packer,
        payload: &PayloadAt,
    ) -> io::Result<Result<(), &'static str>> {
        let length = payload.stored_bytes() as usize;
        let stored = if length <= TOGETHER_BYTES_MAX {
            Bytes::copy_from_slice(self.bytes(payload.offset, length)?.unwrap_or_default())
        } else {
            let mut stored = vec![0; length];
            let read = self.file.read_at(&mut stored, payload.offset)?;
            stored.truncate(read);
            stored.into()
        };
        Ok(packer.unpack(payload, stored).map(drop))
    }

    /// Moves to the next place where a whole header stands, searching from `from` on; `None` if there is none below
    /// the limit. The chain in front of it is then unknown.
    pub(super) fn search(&mut self, from: u64) -> io::Result<Option<FrameHeader>> {
        let mut offset = from.next_multiple_of(FRAME_ALIGN);
        while offset.saturating_add(FRAME_HEADER_BYTES as u64) <= self.limit {
            let stretch = usize::try_from(self.limit - offset).unwrap_or(usize::MAX).min(WINDOW_BYTES);
            let Some(bytes) = self.bytes(offset, stretch)? else { return Ok(None) };
            let candidate =
                bytes.chunks(FRAME_ALIGN as usize).position(|chunk| chunk.starts_with(&FRAME_MAGIC));
            let Some(candidate) = candidate else {
                offset += stretch as u64;
                offset -= offset % FRAME_ALIGN;
                continue;
            };
            offset += candidate as u64 * FRAME_ALIGN;
            if let Ok(header) = self.header(offset)? {
                self.offset = offset;
                self.chain = None;
                return Ok(Some(header));
            }
            offset += FRAME_ALIGN;
        }
        Ok(None)
    }
}

/// Places of the payloads a table lists; `None` if their lengths are not those the header says in sum, or if they would
/// exceed the limits when expanded.
pub(super) fn payload_places(
    table: &[u8],
    segment: u64,
    from: u64,
    header: &FrameHeader,
) -> Option<Vec<PayloadAt>> {
    let mut take = Take(table);
    let mut places = Vec::with_capacity(header.payload_count as usize);
    let (mut done, mut given) = (0_u64, 0_u64);
    for _ in 0..header.payload_count {
        let (stored, stored_crc) = (take.u32()?, take.u32()?);
        let (bytes, crc) = if header.packed { (take.u32()?, take.u32()?) } else { (0, 0) };
        let offset = from + done;
        let place = if (bytes, crc) == (0, 0) {
            PayloadAt { segment, offset, bytes: stored, crc: stored_crc, packed: None }
        } else if stored < bytes {
            let packed = Some(PackedAt { bytes: stored, crc: stored_crc });
            PayloadAt { segment, offset, bytes, crc, packed }
        } else {
            return None;
        };
        done += u64::from(stored);
        given += u64::from(place.bytes);
        places.push(place);
    }
    let adds_up = done == u64::from(header.payload_bytes) && given <= PAYLOAD_BYTES_MAX as u64;
    adds_up.then_some(places)
}
