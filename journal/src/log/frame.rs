//! One frame: a fixed header, then what the header checks: payload table and head; then payload bytes and padding.
//!
//! The header has a checksum of its own, so that a scan that lands on it can trust its lengths and its durable
//! position before anything else is read. That checksum is seeded with the identity of the journal, the stream, the
//! segment and the offset: bytes of a frame that a user put into a payload, or that another journal left on the
//! disk, are no frames here. The hash chain binds order and content: payload bytes through their checksums in the
//! table.

use super::codec::{Fill, Put, Take};
use super::manifest::Identity;
use super::types::{RecordAt, Stream};
use crate::lsn::Lsn;
use crate::meta::Timestamp;

/// First bytes of each frame.
pub(super) const FRAME_MAGIC: [u8; 4] = *b"RWF1";
/// Length of a frame header.
pub(super) const FRAME_HEADER_BYTES: usize = 88;
/// Frames start at multiples of this many bytes.
pub(super) const FRAME_ALIGN: u64 = 8;
/// Part of the header that goes into the hash chain: all in front of the chain value itself.
const CHAINED_BYTES: usize = 64;
/// Part of the header under its checksum: all in front of it.
const CHECKED_BYTES: usize = 84;
/// Length of an entry of the payload table.
pub(super) const TABLE_ENTRY_BYTES: usize = 8;
/// Length of an entry of the payload table of a frame with packed payloads.
pub(super) const PACKED_ENTRY_BYTES: usize = 16;

/// Longest head of a record, in bytes.
pub const HEAD_BYTES_MAX: usize = 16 << 20;
/// Most payload bytes of a record, all payloads together.
pub const PAYLOAD_BYTES_MAX: usize = 16 << 20;
/// Most payloads of a record.
pub const PAYLOAD_COUNT_MAX: usize = 1 << 20;

const FLAG_LSN: u8 = 1;
const FLAG_PACKED: u8 = 2;

/// Value of the hash chain behind a frame: first 16 bytes of a BLAKE3 hash.
pub(super) type Chain = [u8; 16];

/// What a frame is to the log layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FrameType {
    /// Carries a record of the owner.
    Record,
    /// Closes a batch: with it, all records since the last one count.
    Commit,
    /// Ends a sealed segment.
    Footer,
}

impl FrameType {
    const fn code(self) -> u8 {
        match self {
            FrameType::Record => 1,
            FrameType::Commit => 2,
            FrameType::Footer => 3,
        }
    }

    const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(FrameType::Record),
            2 => Some(FrameType::Commit),
            3 => Some(FrameType::Footer),
            _ => None,
        }
    }
}

/// What the frames of one segment have in common: the seed of their checksums, and whether payloads may be packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameKey {
    seed: u32,
    pub(super) packs: bool,
}

impl FrameKey {
    pub(super) fn new(identity: &Identity, stream: Stream, segment: u64, packs: bool) -> Self {
        let mut bytes = identity.0.to_vec();
        bytes.put_u8(super::segment::stream_code(stream));
        bytes.put_u64(segment);
        FrameKey { seed: crc32c::crc32c(&bytes), packs }
    }

    fn header_crc(self, offset: u64, checked: &[u8]) -> u32 {
        crc32c::crc32c_append(crc32c::crc32c_append(self.seed, &offset.to_le_bytes()), checked)
    }
}

/// Header of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FrameHeader {
    pub(super) frame: FrameType,
    pub(super) kind: u8,
    pub(super) version: u8,
    pub(super) lsn: Option<Lsn>,
    pub(super) time: Timestamp,
    pub(super) head_bytes: u32,
    pub(super) payload_count: u32,
    /// Of all payloads as they are stored.
    pub(super) payload_bytes: u32,
    /// Whether any payload is packed; the entries of the table are then longer.
    pub(super) packed: bool,
    /// CRC-32C of payload table and head.
    pub(super) body_crc: u32,
    /// All bytes of the stream in front of this position were durable when the frame was written.
    pub(super) durable: RecordAt,
    /// Hash chain up to and with this frame.
    pub(super) chain: Chain,
}

impl FrameHeader {
    /// The bytes that go into the chain; the rest of the header is still zero.
    fn chained(&self) -> [u8; FRAME_HEADER_BYTES] {
        let mut out = [0; FRAME_HEADER_BYTES];
        let mut fill = Fill(&mut out);
        fill.put(&FRAME_MAGIC);
        let flags = (u8::from(self.lsn.is_some()) * FLAG_LSN) | (u8::from(self.packed) * FLAG_PACKED);
        fill.put(&[self.frame.code(), self.kind, self.version, flags]);
        fill.put_u32(self.head_bytes);
        fill.put_u32(self.payload_count);
        fill.put_u32(self.payload_bytes);
        fill.put_u32(self.body_crc);
        fill.put_i64(self.time.0);
        fill.put_lsn(self.lsn.unwrap_or(Lsn::ZERO));
        fill.put_u64(self.durable.segment);
        fill.put_u64(self.durable.offset);
        out
    }

    /// Sets `body_crc` and `chain` from what they cover, and gives the bytes of the header.
    pub(super) fn finish(
        &mut self,
        key: FrameKey,
        offset: u64,
        previous: &Chain,
        body: &[u8],
    ) -> [u8; FRAME_HEADER_BYTES] {
        self.body_crc = crc32c::crc32c(body);
        let mut out = self.chained();
        self.chain = chain_behind(previous, &out, body);
        if let Some((_, rest)) = out.split_at_mut_checked(CHAINED_BYTES) {
            Fill(rest).put(&self.chain);
        }
        let (checked, crc) = out.split_at_mut(CHECKED_BYTES);
        crc.copy_from_slice(&key.header_crc(offset, checked).to_le_bytes());
        out
    }

    /// Checks and takes a header that stands at `offset`. What it says is then what was written there; whether the
    /// rest of the frame is, [`FrameHeader::check_body`] tells.
    pub(super) fn decode(
        bytes: &[u8; FRAME_HEADER_BYTES],
        key: FrameKey,
        at: RecordAt,
    ) -> Result<Self, &'static str> {
        if !bytes.starts_with(&FRAME_MAGIC) {
            return Err("no frame starts here");
        }
        let (checked, crc) = bytes.split_at(CHECKED_BYTES);
        if Take(crc).u32() != Some(key.header_crc(at.offset, checked)) {
            return Err("the header of the frame does not match its checksum");
        }
        let header = Self::fields(bytes).ok_or("the header of the frame is of an unknown kind")?;
        if header.durable > at {
            return Err("the frame calls durable what comes after it");
        }
        if header.head_bytes as usize > HEAD_BYTES_MAX
            || header.payload_bytes as usize > PAYLOAD_BYTES_MAX
            || header.payload_count as usize > PAYLOAD_COUNT_MAX
        {
            return Err("the frame exceeds the limits");
        }
        if header.packed && (!key.packs || header.payload_count == 0) {
            return Err("the frame has packed payloads where there are none");
        }
        Ok(header)
    }

    fn fields(bytes: &[u8]) -> Option<Self> {
        let mut take = Take(bytes);
        take.bytes(FRAME_MAGIC.len())?;
        let frame = FrameType::from_code(take.u8()?)?;
        let (kind, version, flags) = (take.u8()?, take.u8()?, take.u8()?);
        let (head_bytes, payload_count, payload_bytes) = (take.u32()?, take.u32()?, take.u32()?);
        let (body_crc, time, lsn) = (take.u32()?, Timestamp(take.i64()?), take.lsn()?);
        let durable = RecordAt { segment: take.u64()?, offset: take.u64()? };
        let chain = take.array()?;
        let lsn = match flags & !FLAG_PACKED {
            0 if lsn == Lsn::ZERO => None,
            FLAG_LSN => Some(lsn),
            _ => return None,
        };
        let packed = flags & FLAG_PACKED != 0;
        (take.u32()? == 0).then_some(FrameHeader {
            frame,
            kind,
            version,
            lsn,
            time,
            head_bytes,
            payload_count,
            payload_bytes,
            packed,
            body_crc,
            durable,
            chain,
        })
    }

    /// Length of the payload table.
    pub(super) fn table_bytes(&self) -> usize {
        self.payload_count as usize * if self.packed { PACKED_ENTRY_BYTES } else { TABLE_ENTRY_BYTES }
    }

    /// Length of payload table and head.
    pub(super) fn body_bytes(&self) -> usize {
        self.table_bytes() + self.head_bytes as usize
    }

    /// Length of the frame with payload bytes, without padding.
    pub(super) fn bare_bytes(&self) -> u64 {
        (FRAME_HEADER_BYTES + self.body_bytes()) as u64 + u64::from(self.payload_bytes)
    }

    /// Length of the whole frame.
    pub(super) fn frame_bytes(&self) -> u64 {
        self.bare_bytes().next_multiple_of(FRAME_ALIGN)
    }

    /// Whether payload table and head are what was written, and follow `previous` in the chain where that is known.
    pub(super) fn check_body(&self, previous: Option<&Chain>, body: &[u8]) -> Result<(), &'static str> {
        if crc32c::crc32c(body) != self.body_crc {
            return Err("the head of the frame does not match its checksum");
        }
        match previous {
            Some(previous) if chain_behind(previous, &self.chained(), body) != self.chain => {
                Err("the hash chain is broken")
            }
            _ => Ok(()),
        }
    }
}

/// Longest input that BLAKE3 hashes in one go, without a tree.
const SHORT_BYTES: usize = 1024;

fn chain_behind(previous: &Chain, header: &[u8; FRAME_HEADER_BYTES], body: &[u8]) -> Chain {
    let chained = header.get(..CHAINED_BYTES).unwrap_or_default();
    let length = previous.len() + chained.len() + body.len();
    let mut short = [0; SHORT_BYTES];
    if let Some(input) = short.get_mut(..length) {
        // Most frames: one call over one buffer takes half the time of a hasher.
        let mut fill = Fill(input);
        fill.put(previous);
        fill.put(chained);
        fill.put(body);
        return shorten(&blake3::hash(input));
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update(previous).update(chained).update(body);
    shorten(&hasher.finalize())
}

/// First 16 bytes of the hash.
pub(super) fn shorten(hash: &blake3::Hash) -> Chain {
    hash.as_bytes().first_chunk().copied().unwrap_or_default()
}
