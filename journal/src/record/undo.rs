//! Records of the undo stream: what captures replaced, and the durable cursor.

mod v1;

use super::{BODY_VERSION, BodyError, UNDO_VERSION, decode, encode};
use crate::event::PayloadAt;
use crate::id::{Edge, NodeId};
use crate::log::{RecordAt, RecordDraft, StoredRecord};
use crate::lsn::Lsn;
use crate::meta::{Meta, Timestamp};
use bincode::{Decode, Encode};
use bytes::Bytes;

pub(crate) const KIND_UNDO: u8 = 1;
const KIND_APPLIED: u8 = 2;

/// What stood at a name before a capture.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct NameUndo {
    /// The name.
    pub edge: Edge,
    /// The node that stood there, `None` for nothing.
    pub before: Option<NodeId>,
}

/// Metadata of a node before a capture.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct NodeUndo {
    /// The node.
    pub node: NodeId,
    /// Everything but its names and bytes.
    pub before: Meta,
}

/// Where replaced bytes are.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum UndoSource {
    /// They were zeros.
    Zero,
    /// In this stream: `skip` bytes into the payload.
    Undo { at: PayloadAt, skip: u32 },
    /// In the redo stream, written by an earlier capture: `skip` bytes into the payload.
    Redo { at: PayloadAt, skip: u32 },
    /// Byte by byte the exclusive or of two payloads: what differs, in this stream, `skip` bytes into it, and what
    /// replaced them, in the redo stream, `from` bytes into it.
    Delta { at: PayloadAt, skip: u32, redo: PayloadAt, from: u32 },
}

impl UndoSource {
    /// The source of bytes that lie `by` bytes further on in the same extent.
    #[must_use]
    pub fn further(&self, by: u32) -> UndoSource {
        match self.clone() {
            UndoSource::Zero => UndoSource::Zero,
            UndoSource::Undo { at, skip } => UndoSource::Undo { at, skip: skip.saturating_add(by) },
            UndoSource::Redo { at, skip } => UndoSource::Redo { at, skip: skip.saturating_add(by) },
            UndoSource::Delta { at, skip, redo, from } => {
                UndoSource::Delta { at, skip: skip.saturating_add(by), redo, from: from.saturating_add(by) }
            }
        }
    }

    /// Whether so many bytes from here on lie within their payloads.
    fn holds(&self, bytes: u32) -> bool {
        let within = |at: &PayloadAt, skip: u32| skip.checked_add(bytes).is_some_and(|end| end <= at.bytes);
        match self {
            UndoSource::Zero => true,
            UndoSource::Undo { at, skip } | UndoSource::Redo { at, skip } => within(at, *skip),
            UndoSource::Delta { at, skip, redo, from } => within(at, *skip) && within(redo, *from),
        }
    }

    /// The payload of the undo stream, if there is one.
    fn own(&mut self) -> Option<&mut PayloadAt> {
        match self {
            UndoSource::Undo { at, .. } | UndoSource::Delta { at, .. } => Some(at),
            UndoSource::Zero | UndoSource::Redo { .. } => None,
        }
    }
}

/// Bytes of a file before a capture.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct DataUndo {
    /// The file.
    pub node: NodeId,
    /// First byte replaced.
    pub offset: u64,
    /// Number of bytes replaced.
    pub bytes: u32,
    /// Where they are now.
    pub source: UndoSource,
}

/// What a capture replaced, or a part of it. Of each name, node and byte only the first change of a capture counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UndoPart {
    /// The capture.
    pub lsn: Lsn,
    /// Whether it is the last part.
    pub last: bool,
    /// Names.
    pub names: Vec<NameUndo>,
    /// Metadata.
    pub nodes: Vec<NodeUndo>,
    /// Bytes.
    pub data: Vec<DataUndo>,
}

/// The durable cursor: the tree holds everything up to `lsn`, synced.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Applied {
    /// Last applied LSN, captured half.
    pub captured: u64,
    /// Last applied LSN, local half.
    pub local: u64,
    /// No record of the redo stream before this place is needed to go on from here.
    pub redo: RecordAt,
    /// Replica inodes of nodes created since the cursor before.
    pub inodes: Vec<(NodeId, u64)>,
    /// Whether further records with the same LSN and more inodes follow.
    pub more: bool,
}

impl Applied {
    /// The LSN of the cursor.
    #[must_use]
    pub const fn lsn(&self) -> Lsn {
        Lsn { captured: self.captured, local: self.local }
    }
}

/// What a record of the undo stream says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UndoRecord {
    /// What a capture replaced.
    Undo(UndoPart),
    /// The durable cursor moved.
    Applied(Applied),
}

#[derive(Encode, Decode)]
struct UndoV2 {
    captured: u64,
    local: u64,
    last: bool,
    names: Vec<NameUndo>,
    nodes: Vec<NodeUndo>,
    data: Vec<DataV2>,
}

#[derive(Encode, Decode)]
struct DataV2 {
    node: NodeId,
    offset: u64,
    bytes: u32,
    source: SourceV2,
}

#[derive(Encode, Decode)]
enum SourceV2 {
    Zero,
    Payload { number: u32, skip: u32 },
    Redo { at: PayloadAt, skip: u32 },
    Delta { number: u32, skip: u32, redo: PayloadAt, from: u32 },
}

impl UndoPart {
    /// The record as it is appended. Of sources that lie in the record itself ([`UndoSource::Undo`],
    /// [`UndoSource::Delta`]) `at.offset` is the number of the payload (segment 0): the place is known only once it is
    /// appended.
    #[must_use]
    pub fn to_draft(&self, time: Timestamp, payloads: Vec<Bytes>) -> RecordDraft {
        let data = self
            .data
            .iter()
            .map(|data| DataV2 {
                node: data.node,
                offset: data.offset,
                bytes: data.bytes,
                source: match &data.source {
                    UndoSource::Zero => SourceV2::Zero,
                    UndoSource::Undo { at, skip } => {
                        SourceV2::Payload { number: at.offset as u32, skip: *skip }
                    }
                    UndoSource::Redo { at, skip } => SourceV2::Redo { at: *at, skip: *skip },
                    UndoSource::Delta { at, skip, redo, from } => {
                        SourceV2::Delta { number: at.offset as u32, skip: *skip, redo: *redo, from: *from }
                    }
                },
            })
            .collect();
        let body = UndoV2 {
            captured: self.lsn.captured,
            local: self.lsn.local,
            last: self.last,
            names: self.names.clone(),
            nodes: self.nodes.clone(),
            data,
        };
        RecordDraft {
            kind: KIND_UNDO,
            version: UNDO_VERSION,
            lsn: Some(self.lsn),
            time,
            head: encode(&body),
            payloads,
        }
    }

    /// Fills in where payloads were appended: inverse of the convention of [`UndoPart::to_draft`].
    ///
    /// # Errors
    /// `BodyError` if a payload is missing.
    pub fn resolve(&mut self, payloads: &[PayloadAt]) -> Result<(), BodyError> {
        for data in &mut self.data {
            if let Some(at) = data.source.own() {
                *at = *payloads.get(at.offset as usize).ok_or(BodyError("payload missing"))?;
            }
        }
        Ok(())
    }
}

impl UndoRecord {
    /// The last version of bodies of a kind that this program knows.
    pub(crate) fn newest_version(kind: u8) -> u8 {
        if kind == KIND_UNDO { UNDO_VERSION } else { BODY_VERSION }
    }

    /// Reads a record back.
    ///
    /// # Errors
    /// `BodyError` if the body does not decode or does not match its payloads.
    pub fn from_stored(record: &StoredRecord) -> Result<Self, BodyError> {
        let body: UndoV2 = match (record.kind, record.version) {
            (KIND_APPLIED, BODY_VERSION) => return Ok(UndoRecord::Applied(decode(&record.head)?)),
            (KIND_UNDO, UNDO_VERSION) => decode(&record.head)?,
            (KIND_UNDO, v1::VERSION) => decode::<v1::Undo>(&record.head)?.into(),
            (KIND_APPLIED | KIND_UNDO, _) => return Err(BodyError("unknown version")),
            _ => return Err(BodyError("unknown kind")),
        };
        let data = body.data.into_iter().map(|data| data_from(data, &record.payloads));
        Ok(UndoRecord::Undo(UndoPart {
            lsn: Lsn { captured: body.captured, local: body.local },
            last: body.last,
            names: body.names,
            nodes: body.nodes,
            data: data.collect::<Result<_, _>>()?,
        }))
    }

    /// The cursor record as it is appended.
    #[must_use]
    pub fn applied_draft(applied: &Applied, time: Timestamp) -> RecordDraft {
        RecordDraft {
            kind: KIND_APPLIED,
            version: BODY_VERSION,
            lsn: Some(applied.lsn()),
            time,
            head: encode(applied),
            payloads: Vec::new(),
        }
    }
}

fn data_from(data: DataV2, payloads: &[PayloadAt]) -> Result<DataUndo, BodyError> {
    let payload = |number: u32| payloads.get(number as usize).copied().ok_or(BodyError("payload missing"));
    let source = match data.source {
        SourceV2::Zero => UndoSource::Zero,
        SourceV2::Redo { at, skip } => UndoSource::Redo { at, skip },
        SourceV2::Payload { number, skip } => UndoSource::Undo { at: payload(number)?, skip },
        SourceV2::Delta { number, skip, redo, from } => {
            UndoSource::Delta { at: payload(number)?, skip, redo, from }
        }
    };
    if !source.holds(data.bytes) || data.offset.checked_add(u64::from(data.bytes)).is_none() {
        return Err(BodyError("range outside its payload"));
    }
    Ok(DataUndo { node: data.node, offset: data.offset, bytes: data.bytes, source })
}
