//! Bodies of version 1 of the undo of captures, frozen: no payload is packed, and none is a delta.
//!
//! Read and never written. What is read becomes the next version, which can say all of it.

use super::{DataV2, NameUndo, NodeUndo, SourceV2, UndoV2};
use crate::event::PayloadAt;
use crate::id::NodeId;
use bincode::{Decode, Encode};

/// As it stands in the frame.
pub(super) const VERSION: u8 = 1;

#[derive(Encode, Decode)]
pub(super) struct Undo {
    captured: u64,
    local: u64,
    last: bool,
    names: Vec<NameUndo>,
    nodes: Vec<NodeUndo>,
    data: Vec<Data>,
}

#[derive(Encode, Decode)]
struct Data {
    node: NodeId,
    offset: u64,
    bytes: u32,
    source: Source,
}

#[derive(Encode, Decode)]
enum Source {
    Zero,
    Payload { number: u32, skip: u32 },
    Redo { at: Place, skip: u32 },
}

#[derive(Encode, Decode)]
struct Place {
    segment: u64,
    offset: u64,
    bytes: u32,
    crc: u32,
}

impl From<Undo> for UndoV2 {
    fn from(body: Undo) -> Self {
        let Undo { captured, local, last, names, nodes, data } = body;
        UndoV2 { captured, local, last, names, nodes, data: data.into_iter().map(DataV2::from).collect() }
    }
}

impl From<Data> for DataV2 {
    fn from(data: Data) -> Self {
        let source = match data.source {
            Source::Zero => SourceV2::Zero,
            Source::Payload { number, skip } => SourceV2::Payload { number, skip },
            Source::Redo { at: Place { segment, offset, bytes, crc }, skip } => {
                SourceV2::Redo { at: PayloadAt { segment, offset, bytes, crc, packed: None }, skip }
            }
        };
        DataV2 { node: data.node, offset: data.offset, bytes: data.bytes, source }
    }
}
