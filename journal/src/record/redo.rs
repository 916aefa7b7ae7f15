//! Records of the redo stream: captures in parts, and control records.

use super::{BODY_VERSION, BodyError, UNDONE_VERSION, decode, encode};
use crate::event::{
    BlockHash, Capture, Class, Event, Marker, Payload, PayloadAt, Provenance, WRITE_BYTES_MAX,
};
use crate::id::{Edge, NodeId, Origin, RootNo};
use crate::log::{Part, RecordDraft, StoredRecord};
use crate::lsn::Lsn;
use crate::meta::{Attributes, Meta, Timestamp, Xattrs};
use crate::proofs::Scrubbed;
use bincode::{Decode, Encode};

const KIND_PART: u8 = 1;
const KIND_CONTROL: u8 = 2;

/// What a record of the redo stream says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedoRecord {
    /// A capture or a part of one.
    Part(Part),
    /// Something about the journal itself.
    Control(Control),
}

/// A statement about the journal that is no change of a tree and has no LSN of its own.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Control {
    /// A name for a point. A bookmark of the same name is replaced.
    BookmarkSet { name: String, captured: u64, local: u64, class: Class, automatic: bool, time: Timestamp },
    /// The name is gone.
    BookmarkDeleted { name: String },
    /// Keep this point readable until the pin of this id is released.
    Pinned { pin: u64, captured: u64, local: u64, why: String },
    /// The pin is released.
    Unpinned { pin: u64 },
    /// The replica tree no longer follows the capture, and why.
    Detached { why: String },
    /// The replica tree follows the capture again.
    Attached,
    /// Something other than apply changed the replica tree.
    Drift { object: String, what: String, time: Timestamp },
    /// Drift up to here was seen to by a person or by a synchronization.
    DriftCleared,
    /// Opaque event of a server journal: its kind and its body.
    Server { kind: u16, body: Vec<u8> },
    /// Points before this one are no longer promised; undo before it may be dropped.
    Horizon { captured: u64, local: u64 },
    /// The local captures `captured.(after + 1)` to `captured.upto`, journaled before this record, were never applied
    /// and never will be: they do not count.
    LocalsDropped { captured: u64, after: u64, upto: u64 },
    /// Bytes that were never journaled of the captures `first` to `last` did not get into the tree: they went with the
    /// process that held them.
    BytesLost { first: u64, last: u64 },
    /// A master was met: the id of the meeting, and that of the last one the master was at before.
    Met { meeting: [u8; 16], before: [u8; 16] },
    /// The digests of the master and of the tables were compared at a barrier, at this time of the replica's clock;
    /// the roots that differ.
    Compared { captured: u64, time: Timestamp, differs: Vec<RootNo> },
    /// A scrub has read both sides.
    Scrubbed(Scrubbed),
}

#[derive(Encode, Decode)]
struct PartV1 {
    captured: u64,
    local: u64,
    time: Timestamp,
    provenance: Provenance,
    root: RootNo,
    path: Vec<u8>,
    number: u32,
    last: bool,
    events: Vec<EventV2>,
}

/// In a body of version 1 there is none of the last kind.
#[derive(Encode, Decode)]
enum EventV2 {
    Create { node: NodeId, at: Edge, meta: Meta, origin: Option<Origin>, parent_mtime: Option<Timestamp> },
    Link { node: NodeId, at: Edge, parent_mtime: Option<Timestamp> },
    Remove { node: NodeId, at: Edge, parent_mtime: Option<Timestamp> },
    Rename { node: NodeId, from: Edge, to: Edge, from_mtime: Option<Timestamp>, to_mtime: Option<Timestamp> },
    Write { node: NodeId, offset: u64, bytes: u32, external: Option<BlockHash>, before: Option<BlockHash> },
    Punch { node: NodeId, offset: u64, bytes: u64 },
    Resize { node: NodeId, size: u64 },
    SetAttributes { node: NodeId, attributes: Attributes },
    SetXattrs { node: NodeId, xattrs: Xattrs },
    Mark(Marker),
    Undone { node: NodeId, offset: u64, bytes: u32, at: PayloadAt, skip: u32 },
}

impl RedoRecord {
    /// The record as it is appended. Payloads that are `Stored` elsewhere cannot be appended again: the caller loads
    /// them first. Times in frames are the master's for captures, the given one for control records.
    ///
    /// # Errors
    /// `BodyError` for a stored payload or one that is longer than its length field.
    pub fn to_draft(&self, now: Timestamp) -> Result<RecordDraft, BodyError> {
        match self {
            RedoRecord::Control(control) => Ok(RecordDraft {
                kind: KIND_CONTROL,
                version: BODY_VERSION,
                lsn: None,
                time: now,
                head: encode(control),
                payloads: Vec::new(),
            }),
            RedoRecord::Part(part) => part_to_draft(part),
        }
    }

    /// The last version of bodies of a kind that this program knows.
    pub(crate) fn newest_version(kind: u8) -> u8 {
        if kind == KIND_PART { UNDONE_VERSION } else { BODY_VERSION }
    }

    /// Reads a record back; payloads come as [`Payload::Stored`], or as [`Payload::Undone`] without their bytes.
    ///
    /// # Errors
    /// `BodyError` if the body does not decode or does not match its payloads.
    pub fn from_stored(record: &StoredRecord) -> Result<Self, BodyError> {
        match (record.kind, record.version) {
            (KIND_CONTROL, BODY_VERSION) => Ok(RedoRecord::Control(decode(&record.head)?)),
            (KIND_PART, BODY_VERSION | UNDONE_VERSION) => {
                let body = decode::<PartV1>(&record.head)?;
                let undone = body.events.iter().any(|event| matches!(event, EventV2::Undone { .. }));
                if undone != (record.version == UNDONE_VERSION) {
                    return Err(BodyError("events of another version"));
                }
                check_undone(undone, body.local)?;
                Ok(RedoRecord::Part(part_from_stored(body, &record.payloads)?))
            }
            (KIND_CONTROL | KIND_PART, _) => Err(BodyError("unknown version")),
            _ => Err(BodyError("unknown kind")),
        }
    }
}

fn part_to_draft(part: &Part) -> Result<RecordDraft, BodyError> {
    let capture = &part.capture;
    let mut payloads = Vec::new();
    let mut events = Vec::with_capacity(capture.events.len());
    let mut version = BODY_VERSION;
    for event in &capture.events {
        events.push(match event.clone() {
            Event::Create { node, at, meta, origin, parent_mtime } => {
                EventV2::Create { node, at, meta, origin, parent_mtime }
            }
            Event::Link { node, at, parent_mtime } => EventV2::Link { node, at, parent_mtime },
            Event::Remove { node, at, parent_mtime } => EventV2::Remove { node, at, parent_mtime },
            Event::Rename { node, from, to, from_parent_mtime, to_parent_mtime } => {
                EventV2::Rename { node, from, to, from_mtime: from_parent_mtime, to_mtime: to_parent_mtime }
            }
            Event::Write { node, offset, data: Payload::Undone { at, skip, bytes, .. }, before: None } => {
                version = UNDONE_VERSION;
                EventV2::Undone { node, offset, bytes, at, skip }
            }
            Event::Write { node, offset, data, before } => {
                let (bytes, external) = match data {
                    Payload::Inline(data) => {
                        let bytes = u32::try_from(data.len()).map_err(|_| BodyError("payload too long"))?;
                        payloads.push(data);
                        (bytes, None)
                    }
                    Payload::External { hash, bytes } => (bytes, Some(hash)),
                    Payload::Stored(_) => return Err(BodyError("payload is stored elsewhere")),
                    Payload::Undone { .. } => return Err(BodyError("undo put back over a known hash")),
                };
                EventV2::Write { node, offset, bytes, external, before }
            }
            Event::Punch { node, offset, bytes } => EventV2::Punch { node, offset, bytes },
            Event::Resize { node, size } => EventV2::Resize { node, size },
            Event::SetAttributes { node, attributes } => EventV2::SetAttributes { node, attributes },
            Event::SetXattrs { node, xattrs } => EventV2::SetXattrs { node, xattrs },
            Event::Mark(marker) => EventV2::Mark(marker),
        });
    }
    let body = PartV1 {
        captured: capture.lsn.captured,
        local: capture.lsn.local,
        time: capture.time,
        provenance: capture.provenance,
        root: capture.root,
        path: capture.path.clone(),
        number: part.number,
        last: part.last,
        events,
    };
    check_undone(version == UNDONE_VERSION, body.local)?;
    Ok(RecordDraft {
        kind: KIND_PART,
        version,
        lsn: Some(capture.lsn),
        time: capture.time,
        head: encode(&body),
        payloads,
    })
}

/// Redo of what was captured stands by itself: it is what a rescue has.
fn check_undone(undone: bool, local: u64) -> Result<(), BodyError> {
    if undone && local == 0 { Err(BodyError("a captured change puts back undo")) } else { Ok(()) }
}

fn check_end(offset: u64, bytes: u32) -> Result<(), BodyError> {
    match offset.checked_add(u64::from(bytes)) {
        Some(end) if end <= i64::MAX as u64 => Ok(()),
        _ => Err(BodyError("write beyond the greatest file size")),
    }
}

fn part_from_stored(body: PartV1, payloads: &[PayloadAt]) -> Result<Part, BodyError> {
    let mut payloads = payloads.iter();
    let mut events = Vec::with_capacity(body.events.len());
    for event in body.events {
        events.push(match event {
            EventV2::Create { node, at, meta, origin, parent_mtime } => {
                Event::Create { node, at, meta, origin, parent_mtime }
            }
            EventV2::Link { node, at, parent_mtime } => Event::Link { node, at, parent_mtime },
            EventV2::Remove { node, at, parent_mtime } => Event::Remove { node, at, parent_mtime },
            EventV2::Rename { node, from, to, from_mtime, to_mtime } => {
                Event::Rename { node, from, to, from_parent_mtime: from_mtime, to_parent_mtime: to_mtime }
            }
            EventV2::Write { node, offset, bytes, external, before } => {
                let data = match external {
                    Some(hash) => Payload::External { hash, bytes },
                    None => {
                        let at = payloads.next().ok_or(BodyError("payload missing"))?;
                        if at.bytes != bytes {
                            return Err(BodyError("payload of another length"));
                        }
                        Payload::Stored(*at)
                    }
                };
                check_end(offset, bytes)?;
                Event::Write { node, offset, data, before }
            }
            EventV2::Undone { node, offset, bytes, at, skip } => {
                check_end(offset, bytes)?;
                let too_long = bytes as usize > WRITE_BYTES_MAX;
                if too_long || skip.checked_add(bytes).is_none_or(|end| end > at.bytes) {
                    return Err(BodyError("range outside its payload"));
                }
                let data = Payload::Undone { at, skip, bytes, known: None };
                Event::Write { node, offset, data, before: None }
            }
            EventV2::Punch { node, offset, bytes } => Event::Punch { node, offset, bytes },
            EventV2::Resize { node, size } => Event::Resize { node, size },
            EventV2::SetAttributes { node, attributes } => Event::SetAttributes { node, attributes },
            EventV2::SetXattrs { node, xattrs } => Event::SetXattrs { node, xattrs },
            EventV2::Mark(marker) => Event::Mark(marker),
        });
    }
    if payloads.next().is_some() {
        return Err(BodyError("payload that no event owns"));
    }
    let capture = Capture {
        lsn: Lsn { captured: body.captured, local: body.local },
        time: body.time,
        provenance: body.provenance,
        root: body.root,
        path: body.path,
        events,
    };
    Ok(Part { number: body.number, last: body.last, capture })
}

#[cfg(test)]
mod tests;
