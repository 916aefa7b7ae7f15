//! Records that hold a definition of an earlier version, whichever it is: all have had the same frame.

use super::{Record, ScenarioCreated, ScenarioUpdated, decode_exactly};
use crate::definition::Definition;
use crate::engine::EngineError;
use bincode::{Decode, Encode};
use journal::Timestamp;

/// The frame, frozen.
#[derive(Encode, Decode)]
struct Changed<D> {
    id: u64,
    time: Timestamp,
    definition: D,
}

/// A scenario was defined.
pub(super) fn created<D: Decode<()> + Into<Definition>>(bytes: &[u8]) -> Result<Record, EngineError> {
    let Changed::<D> { id, time, definition } = decode_exactly(bytes)?;
    Ok(Record::ScenarioCreated(ScenarioCreated { id, time, definition: definition.into() }))
}

/// A scenario got another definition.
pub(super) fn updated<D: Decode<()> + Into<Definition>>(bytes: &[u8]) -> Result<Record, EngineError> {
    let Changed::<D> { id, time, definition } = decode_exactly(bytes)?;
    Ok(Record::ScenarioUpdated(ScenarioUpdated { id, time, definition: definition.into() }))
}
