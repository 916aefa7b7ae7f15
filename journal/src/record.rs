//! Bodies of the records in the two streams, frozen by version.
//!
//! `FORMAT.md` describes them byte by byte; the types named `...V1` never change, a change makes a `V2`. Bytes of
//! writes are not part of a body: they are the payloads of the record, in the order of the events that own them.
//! Decoding is total: a limit bounds every allocation, trailing bytes and missing payloads are errors.

mod redo;
mod undo;

pub use redo::{Control, RedoRecord};
pub(crate) use undo::KIND_UNDO;
pub use undo::{Applied, DataUndo, NameUndo, NodeUndo, UndoPart, UndoRecord, UndoSource};

/// A record body that does not decode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("record body: {0}")]
pub struct BodyError(pub &'static str);

/// Longest body; a limit of the decoder, in bytes.
pub const BODY_BYTES_MAX: usize = 16 << 20;

/// Version of the bodies written by this program, but for undo of captures.
pub const BODY_VERSION: u8 = 1;

/// Version of bodies with parts of captures of which a write puts back what undo holds; other parts are written in
/// version 1.
pub const UNDONE_VERSION: u8 = 2;

/// Version of bodies with undo of captures. Version 1 is read too.
pub const UNDO_VERSION: u8 = 2;

pub(crate) fn encode<T: bincode::Encode>(body: &T) -> Vec<u8> {
    // Encoding into memory fails only where a type refuses to encode; none of ours does.
    bincode::encode_to_vec(body, bincode::config::standard()).unwrap_or_default()
}

pub(crate) fn decode<T: bincode::Decode<()>>(bytes: &[u8]) -> Result<T, BodyError> {
    let config = bincode::config::standard().with_limit::<BODY_BYTES_MAX>();
    let (body, used) =
        bincode::decode_from_slice::<T, _>(bytes, config).map_err(|_| BodyError("does not decode"))?;
    if used == bytes.len() { Ok(body) } else { Err(BodyError("bytes follow it")) }
}
