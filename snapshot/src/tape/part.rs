//! What tells the parts of a session apart: the beginning of each part but the first, the end of the last.
//! `TAPE.md` (sections "Parts" and "End of a session") is normative.
//!
//! A part that goes on begins with what GNU tar takes for the continuation of a volume: a global header, then a header
//! of a member. In the global header stand the numbers GNU tar checks, if the cut fell into a member's content, and a
//! comment, which every reader of the format passes over: ours. The member is a stand-in: its size reaches to the next
//! member, so that a reader that begins with this part, not knowing what was before, comes to that.
//!
//! The end of a session is a block of 512 bytes at the end of its last block of the tape, behind the zeros that end an
//! archive, where no reader of tar looks. **A tape file without it is not the end of a session**, however it ends:
//! zeros prove nothing, since files are full of them, and filemarks are written by drives that were only closed.

use super::header::{self, UNIT, Unit};
use super::walk::Cut;
use serde::{Deserialize, Serialize};

/// Longest beginning of a part, in bytes: the name of a file and a little more.
pub(super) const PROLOGUE_BYTES_MAX: usize = 32 << 10;
/// What the comment begins with.
const COMMENT: &[u8] = b"rewind-part ";
/// How the block at the end of a session begins.
const END_MAGIC: &[u8; 16] = b"rewind-tape-end\n";
const VERSION: u32 = 1;
/// Longest text in it: the rest, but for the length before it and the checksum behind it.
const END_TEXT_MAX: usize = UNIT - 16 - 4 - 4;

/// A part that was written, as the next one names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prior {
    /// Media name of its volume.
    pub media: String,
    /// Id of its volume.
    pub volume: String,
    /// Its tape file there.
    pub file: u32,
    /// Blocks of the tape in it.
    pub blocks: u64,
    /// CRC-32C of all its bytes.
    pub crc32c: u32,
}

/// What a part that goes on says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartLabel {
    version: u32,
    /// Id of the session.
    pub session: String,
    /// Which part, from 2.
    pub part: u32,
    /// First byte of the session's archive in it.
    pub offset: u64,
    /// The part before it.
    pub prior: Prior,
}

/// What the end of a session says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndRecord {
    version: u32,
    /// Id of the session.
    pub session: String,
    /// Which part this is: how many there are.
    pub part: u32,
    /// Blocks of the tape in it, this one included.
    pub blocks: u64,
    /// Bytes of the session's archive, zeros that its writer put behind the end included.
    pub length: u64,
    /// CRC-32C of all bytes of this part before this record.
    pub crc32c: u32,
    /// Objects that the archive lacks or holds damaged, as far as who wrote it knew.
    #[serde(default, skip_serializing_if = "is_none")]
    pub missed: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // As serde wants it.
fn is_none(count: &u64) -> bool {
    *count == 0
}

/// The beginning of a session's id, which its members are named with.
pub(super) fn short(session: &str) -> &str {
    session.get(..8).unwrap_or(session)
}

/// Whether it can be the id of a session: 8 to 64 letters, digits and `-`.
pub(super) fn is_session(id: &str) -> bool {
    (8..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

impl PartLabel {
    pub(super) fn new(session: &str, part: u32, offset: u64, prior: Prior) -> Self {
        Self { version: VERSION, session: session.to_owned(), part, offset, prior }
    }

    /// The beginning of the part, for what lies at the cut; `None` if a name is too long.
    pub(super) fn encode(&self, cut: &Cut, seconds: u64) -> Option<Vec<u8>> {
        let (short, part) = (short(&self.session), self.part);
        let mut comment = COMMENT.to_vec();
        comment.extend_from_slice(&serde_json::to_vec(self).ok()?);
        let mut records = Vec::new();
        header::push_record(&mut records, "comment", &comment);
        if let Some(open) = &cut.open {
            header::push_record(&mut records, "GNU.volume.filename", &open.name);
            header::push_record(&mut records, "GNU.volume.size", open.size.to_string().as_bytes());
            header::push_record(&mut records, "GNU.volume.offset", open.offset.to_string().as_bytes());
        }
        let mut bytes = Vec::new();
        let mut is_done = header::push_member(
            &mut bytes,
            &format!(".rewind/{short}/part-{part:04}"),
            b'g',
            &records,
            seconds,
        );
        let rest = format!(".rewind/{short}/rest-{part:04}");
        let header = header::encode(&rest, b'0', cut.rest, seconds).or_else(|| {
            let mut records = Vec::new();
            header::push_record(&mut records, "size", cut.rest.to_string().as_bytes());
            let name = format!(".rewind/{short}/size-{part:04}");
            is_done &= header::push_member(&mut bytes, &name, b'x', &records, seconds);
            header::encode(&rest, b'0', 0, seconds)
        })?;
        bytes.extend_from_slice(&header);
        (is_done && bytes.len() <= PROLOGUE_BYTES_MAX).then_some(bytes)
    }
}

/// What the first bytes of a tape file are.
pub(super) enum Beginning {
    /// The beginning of a part, and its length.
    Part(PartLabel, usize),
    /// It may be one; more bytes are needed.
    TooShort,
    /// Something else.
    Other,
}

/// Looks for the beginning of a part that goes on.
pub(super) fn parse_beginning(bytes: &[u8]) -> Beginning {
    let unit_at = |at: usize| bytes.get(at..at + UNIT).and_then(|unit| <&Unit>::try_from(unit).ok());
    let Some(global) = unit_at(0) else { return Beginning::TooShort };
    let Some(header) = header::parse(global).filter(|header| header.kind == b'g') else {
        return Beginning::Other;
    };
    let size = usize::try_from(header.size).unwrap_or(usize::MAX);
    if size > PROLOGUE_BYTES_MAX {
        return Beginning::Other;
    }
    let mut at = UNIT + size.next_multiple_of(UNIT);
    let Some(records) = bytes.get(UNIT..UNIT + size) else { return Beginning::TooShort };
    let Some(label) = header::records(records).and_then(|records| {
        let (_, comment) = records.into_iter().find(|(key, _)| *key == b"comment")?;
        serde_json::from_slice::<PartLabel>(comment.strip_prefix(COMMENT)?).ok()
    }) else {
        return Beginning::Other;
    };
    if label.version != VERSION || !is_session(&label.session) {
        return Beginning::Other;
    }
    // At most one extended header, then the stand-in.
    for _ in 0..2 {
        let Some(unit) = unit_at(at) else { return Beginning::TooShort };
        let Some(header) = header::parse(unit) else { return Beginning::Other };
        at += UNIT;
        match header.kind {
            b'0' => return Beginning::Part(label, at),
            b'x' if header.size <= UNIT as u64 => at += UNIT,
            _ => return Beginning::Other,
        }
    }
    Beginning::Other
}

impl EndRecord {
    pub(super) fn new(session: &str, part: u32, blocks: u64, length: u64, crc32c: u32) -> Self {
        Self { version: VERSION, session: session.to_owned(), part, blocks, length, crc32c, missed: 0 }
    }

    pub(super) fn encode(&self) -> Option<Unit> {
        let text = serde_json::to_vec(self).ok().filter(|text| text.len() <= END_TEXT_MAX)?;
        let mut unit = [0; UNIT];
        unit.get_mut(..16)?.copy_from_slice(END_MAGIC);
        unit.get_mut(16..20)?.copy_from_slice(&u32::try_from(text.len()).ok()?.to_le_bytes());
        unit.get_mut(20..20 + text.len())?.copy_from_slice(&text);
        let crc = crc32c::crc32c(unit.get(..UNIT - 4)?);
        unit.get_mut(UNIT - 4..)?.copy_from_slice(&crc.to_le_bytes());
        Some(unit)
    }

    /// Looks for the end of a session at the end of a block of the tape.
    pub(super) fn parse(block: &[u8]) -> Option<EndRecord> {
        let unit: &Unit = block.last_chunk()?;
        let (body, crc) = unit.split_last_chunk::<4>()?;
        if !body.starts_with(END_MAGIC) || crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
            return None;
        }
        let length = u32::from_le_bytes(*body.get(16..)?.first_chunk()?) as usize;
        let record: EndRecord = serde_json::from_slice(body.get(20..20_usize.checked_add(length)?)?).ok()?;
        (record.version == VERSION && is_session(&record.session)).then_some(record)
    }
}
