//! Version 2 of a definition, frozen, and how it is read now: it says nothing of snapshots to keep.
//!
//! Written no more.

use super::Record;
use super::changed::{created, updated};
use crate::definition::{
    AutoResync, CaptureMode, Definition, Hooks, KEEP_SNAPSHOTS_DEFAULT, Root, ScenarioType,
};
use crate::engine::EngineError;
use crate::server_journal::RecordKind;
use bincode::{Decode, Encode};
use std::time::Duration;

/// Kind of a record that says a scenario was defined.
const SCENARIO_CREATED: u16 = 0x0102;
/// Kind of a record that says a scenario has another definition.
const SCENARIO_UPDATED: u16 = 0x0202;

#[derive(Encode, Decode)]
struct DefinitionV2 {
    name: String,
    kind: ScenarioType,
    master: Option<String>,
    roots: Vec<Root>,
    excludes: Vec<String>,
    capture: CaptureMode,
    rewind: bool,
    retention: Duration,
    journal_bytes_max: u64,
    spool_bytes_max: u64,
    auto_resync: AutoResync,
    adopt: bool,
    hooks: Hooks,
}

impl From<DefinitionV2> for Definition {
    fn from(old: DefinitionV2) -> Self {
        Definition {
            name: old.name,
            kind: old.kind,
            master: old.master,
            roots: old.roots,
            excludes: old.excludes,
            capture: old.capture,
            rewind: old.rewind,
            retention: old.retention,
            journal_bytes_max: old.journal_bytes_max,
            spool_bytes_max: old.spool_bytes_max,
            auto_resync: old.auto_resync,
            adopt: old.adopt,
            hooks: old.hooks,
            keep_snapshots: KEEP_SNAPSHOTS_DEFAULT,
            thin_after: Duration::ZERO,
            thin_minutes: Duration::ZERO,
        }
    }
}

/// A record of version 2, as one of today; others are for version 1.
///
/// # Errors
/// `DAMAGED` for bytes that are none, `NEWER_FORMAT` for kinds not known here.
pub(super) fn decode(kind: RecordKind, bytes: &[u8]) -> Result<Record, EngineError> {
    match kind.0 {
        SCENARIO_CREATED => created::<DefinitionV2>(bytes),
        SCENARIO_UPDATED => updated::<DefinitionV2>(bytes),
        _ => super::v1::decode(kind, bytes),
    }
}
