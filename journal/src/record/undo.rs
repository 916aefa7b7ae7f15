//! Records of the undo stream: what captures replaced, and the durable cursor.

use super::{BODY_VERSION, BodyError, decode, encode};
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
struct UndoV1 {
    captured: u64,
    local: u64,
    last: bool,
    names: Vec<NameUndo>,
    nodes: Vec<NodeUndo>,
    data: Vec<DataV1>,
}

#[derive(Encode, Decode)]
struct DataV1 {
    node: NodeId,
    offset: u64,
    bytes: u32,
    source: SourceV1,
}

#[derive(Encode, Decode)]
enum SourceV1 {
    Zero,
    Payload { number: u32, skip: u32 },
    Redo { at: PayloadAt, skip: u32 },
}

impl UndoPart {
    /// The record as it is appended. Sources that lie in the record itself are given as [`UndoSource::Undo`] with the
    /// number of the payload in `at.offset` (segment 0): the place is known only once it is appended.
    #[must_use]
    pub fn to_draft(&self, time: Timestamp, payloads: Vec<Bytes>) -> RecordDraft {
        let data = self
            .data
            .iter()
            .map(|data| DataV1 {
                node: data.node,
                offset: data.offset,
                bytes: data.bytes,
                source: match &data.source {
                    UndoSource::Zero => SourceV1::Zero,
                    UndoSource::Undo { at, skip } => {
                        SourceV1::Payload { number: at.offset as u32, skip: *skip }
                    }
                    UndoSource::Redo { at, skip } => SourceV1::Redo { at: *at, skip: *skip },
                },
            })
            .collect();
        let body = UndoV1 {
            captured: self.lsn.captured,
            local: self.lsn.local,
            last: self.last,
            names: self.names.clone(),
            nodes: self.nodes.clone(),
            data,
        };
        RecordDraft {
            kind: KIND_UNDO,
            version: BODY_VERSION,
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
            if let UndoSource::Undo { at, .. } = &mut data.source {
                *at = *payloads.get(at.offset as usize).ok_or(BodyError("payload missing"))?;
            }
        }
        Ok(())
    }
}

impl UndoRecord {
    /// Reads a record back.
    ///
    /// # Errors
    /// `BodyError` if the body does not decode or does not match its payloads.
    pub fn from_stored(record: &StoredRecord) -> Result<Self, BodyError> {
        if record.version != BODY_VERSION {
            return Err(BodyError("unknown version"));
        }
        match record.kind {
            KIND_APPLIED => Ok(UndoRecord::Applied(decode(&record.head)?)),
            KIND_UNDO => {
                let body: UndoV1 = decode(&record.head)?;
                let data = body.data.into_iter().map(|data| data_from(data, &record.payloads));
                Ok(UndoRecord::Undo(UndoPart {
                    lsn: Lsn { captured: body.captured, local: body.local },
                    last: body.last,
                    names: body.names,
                    nodes: body.nodes,
                    data: data.collect::<Result<_, _>>()?,
                }))
            }
            _ => Err(BodyError("unknown kind")),
        }
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

fn data_from(data: DataV1, payloads: &[PayloadAt]) -> Result<DataUndo, BodyError> {
    let source = match data.source {
        SourceV1::Zero => UndoSource::Zero,
        SourceV1::Redo { at, skip } => UndoSource::Redo { at, skip },
        SourceV1::Payload { number, skip } => {
            let at = *payloads.get(number as usize).ok_or(BodyError("payload missing"))?;
            UndoSource::Undo { at, skip }
        }
    };
    let inside = match &source {
        UndoSource::Zero => true,
        UndoSource::Undo { at, skip } | UndoSource::Redo { at, skip } => {
            skip.checked_add(data.bytes).is_some_and(|end| end <= at.bytes)
        }
    };
    if !inside || data.offset.checked_add(u64::from(data.bytes)).is_none() {
        return Err(BodyError("range outside its payload"));
    }
    Ok(DataUndo { node: data.node, offset: data.offset, bytes: data.bytes, source })
}
