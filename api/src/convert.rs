//! Between the engine's types and the messages of the API.

mod archive;
mod backups;
mod bursts;
mod catalog;
mod scrubs;
mod snapshots;
mod upkeep;
mod window;

pub(crate) use scrubs::{scrub_from_wire, scrub_to_wire};
pub use window::item_to_wire;

pub use upkeep::{check_to_wire, forget_items, prune_plan_to_wire};

use crate::definition::{AutoResync, CaptureMode, Definition, Hooks, Root, ScenarioType, Setting};
use crate::engine::{
    Bookmark, Change, Counts, Damage, DiffSums, EngineError, Finding, Flushed, JournalStats, Level, Onto,
    Point, PointKind, RebuildReport, ResumeReport, RewindPlan, RewindReport, RunReport, Scenario, Skipped,
    Stage, State, Status, SyncMode, VerifyReport,
};
use bytes::Bytes;
use journal::{Lsn, Timestamp};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use wire::codes;
use wire::convert::{duration_from_wire, duration_to_wire, time_to_wire};
use wire::v1;

/// A path as bytes.
#[must_use]
pub fn path_to_wire(path: &Path) -> Bytes {
    Bytes::copy_from_slice(path.as_os_str().as_bytes())
}

/// A path from bytes.
#[must_use]
pub fn path_from_wire(bytes: &Bytes) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes.to_vec()))
}

fn optional_path(path: Option<&PathBuf>) -> Bytes {
    path.map_or_else(Bytes::new, |path| path_to_wire(path))
}

fn time(time: Timestamp) -> Option<prost_types::Timestamp> {
    Some(time_to_wire(time))
}

fn bytes_to_wire(bytes: Vec<u8>) -> Bytes {
    Bytes::from(bytes)
}

fn lsn(lsn: Lsn) -> Option<v1::Lsn> {
    Some(lsn.into())
}

fn bad(message: impl Into<String>) -> EngineError {
    EngineError::new(&codes::BAD_PARAMETERS, message)
}

/// `NOT_AVAILABLE`, for what the API can say and this version cannot do.
fn not_available(what: &str) -> EngineError {
    EngineError::new(&codes::NOT_AVAILABLE, format!("{what} is not available in this version"))
}

/// Between an enumeration of the engine and its twin in the API.
macro_rules! twins {
    ($($type:ident { $($variant:ident),* $(,)? })*) => {$(
        impl From<$type> for v1::$type {
            fn from(value: $type) -> Self {
                match value { $($type::$variant => v1::$type::$variant),* }
            }
        }
    )*};
}

twins! {
    State { Stopped, Synchronizing, Replicating, Suspended, Detached, Problem, NotAuthorized }
    Level { Info, Warning, Error }
    PointKind { Created, Modified, Renamed, Removed, Attributes, Bookmark, Marker }
    AutoResync { Ask, Always, Never }
    ScenarioType { FileServer }
    CaptureMode { Watch }
}

/// A new scenario from its message, with defaults.
///
/// # Errors
/// `NOT_AVAILABLE` for types and modes not built, `BAD_PARAMETERS`.
pub fn definition_from_wire(message: v1::Definition) -> Result<Definition, EngineError> {
    match message.r#type() {
        v1::ScenarioType::Unspecified | v1::ScenarioType::FileServer => {}
        other => return Err(not_available(&format!("scenario type {}", other.word()))),
    }
    match message.capture() {
        v1::CaptureMode::Unspecified | v1::CaptureMode::Watch => {}
        other => return Err(not_available(&format!("capture mode {}", other.word()))),
    }
    let auto_resync = match message.auto_resync() {
        v1::AutoResync::Unspecified | v1::AutoResync::Ask => AutoResync::Ask,
        v1::AutoResync::Always => AutoResync::Always,
        v1::AutoResync::Never => AutoResync::Never,
    };
    let roots = message.roots.iter().map(|root| Root {
        master: path_from_wire(&root.master_path),
        replica: (!root.replica_path.is_empty()).then(|| path_from_wire(&root.replica_path)),
    });
    let mut definition = Definition::new(message.name.clone(), roots.collect());
    definition.master = (!message.master.is_empty()).then_some(message.master);
    definition.excludes = message.excludes;
    definition.auto_resync = auto_resync;
    definition.adopt = message.adopt;
    definition.rewind = message.rewind.unwrap_or(definition.rewind);
    if let Some(retention) = &message.retention {
        definition.retention =
            duration_from_wire(retention).ok_or_else(|| bad("retention is no duration"))?;
    }
    definition.journal_bytes_max = message.journal_max_bytes.unwrap_or(definition.journal_bytes_max);
    definition.spool_bytes_max = message.spool_max_bytes.unwrap_or(definition.spool_bytes_max);
    definition.keep_snapshots = message.keep_snapshots.unwrap_or(definition.keep_snapshots);
    let thinning = |time: Option<&prost_types::Duration>| match time {
        Some(time) => duration_from_wire(time).ok_or_else(|| bad("an age of thinning is no duration")),
        None => Ok(std::time::Duration::ZERO),
    };
    definition.thin_after = thinning(message.thin_after.as_ref())?;
    definition.thin_minutes = thinning(message.thin_minutes.as_ref())?;
    definition.hooks = hooks_from_wire(message.hooks.unwrap_or_default())?;
    Ok(definition)
}

fn hooks_from_wire(message: v1::Hooks) -> Result<Hooks, EngineError> {
    let given = |command: String| (!command.is_empty()).then_some(command);
    let timeout = match &message.timeout {
        Some(timeout) => {
            duration_from_wire(timeout).ok_or_else(|| bad("the timeout of hooks is no duration"))?
        }
        None => Hooks::default().timeout,
    };
    Ok(Hooks {
        quiesce: given(message.quiesce),
        thaw: given(message.thaw),
        stop: given(message.stop),
        start: given(message.start),
        timeout,
    })
}

impl From<Hooks> for v1::Hooks {
    fn from(hooks: Hooks) -> Self {
        v1::Hooks {
            quiesce: hooks.quiesce.unwrap_or_default(),
            thaw: hooks.thaw.unwrap_or_default(),
            stop: hooks.stop.unwrap_or_default(),
            start: hooks.start.unwrap_or_default(),
            timeout: Some(duration_to_wire(hooks.timeout)),
        }
    }
}

impl From<Definition> for v1::Definition {
    fn from(definition: Definition) -> Self {
        let roots = definition.roots.iter().map(|root| v1::Root {
            master_path: path_to_wire(&root.master),
            replica_path: optional_path(root.replica.as_ref()),
        });
        v1::Definition {
            roots: roots.collect(),
            name: definition.name,
            r#type: v1::ScenarioType::from(definition.kind).into(),
            master: definition.master.unwrap_or_default(),
            excludes: definition.excludes,
            capture: v1::CaptureMode::from(definition.capture).into(),
            rewind: Some(definition.rewind),
            retention: Some(duration_to_wire(definition.retention)),
            journal_max_bytes: Some(definition.journal_bytes_max),
            spool_max_bytes: Some(definition.spool_bytes_max),
            auto_resync: v1::AutoResync::from(definition.auto_resync).into(),
            adopt: definition.adopt,
            hooks: Some(definition.hooks.into()),
            keep_snapshots: Some(definition.keep_snapshots),
            thin_after: Some(duration_to_wire(definition.thin_after)),
            thin_minutes: Some(duration_to_wire(definition.thin_minutes)),
        }
    }
}

impl From<Scenario> for v1::Scenario {
    fn from(scenario: Scenario) -> Self {
        v1::Scenario {
            id: scenario.id.to_string(),
            definition: Some(scenario.definition.into()),
            created: time(scenario.created),
            state: v1::State::from(scenario.state).into(),
        }
    }
}

/// Settings from their messages.
#[must_use]
pub fn settings_from_wire(settings: Vec<v1::Setting>) -> Vec<Setting> {
    settings.into_iter().map(|setting| Setting { key: setting.key, value: setting.value }).collect()
}

impl From<Status> for v1::Status {
    fn from(status: Status) -> Self {
        v1::Status {
            name: status.name,
            id: status.id.to_string(),
            state: v1::State::from(status.state).into(),
            cause: status.cause.unwrap_or_default(),
            captured: lsn(status.captured),
            journaled: lsn(status.journaled),
            applied: lsn(status.applied),
            lag: Some(duration_to_wire(status.lag)),
            spool_bytes: status.spool_bytes,
            gaps_open: status.gaps_open,
            last_proof: status.last_proof.map(|proof| v1::Proof {
                lsn: lsn(proof.lsn),
                equal: proof.equal,
                at: time(proof.at),
            }),
            last_scrub: status.last_scrub.as_ref().map(scrubs::last_to_wire),
            scrub_every: status.scrub_every.map(duration_to_wire),
            skipped: status.skipped,
            window: status.window.as_ref().map(window::held_to_wire),
            archive: None,
        }
    }
}

impl From<Finding> for v1::Finding {
    fn from(finding: Finding) -> Self {
        v1::Finding {
            level: v1::Level::from(finding.level).into(),
            side: finding.side.to_owned(),
            check: finding.check.to_owned(),
            text: finding.text,
            path: optional_path(finding.path.as_ref()),
        }
    }
}

/// A stage from its message.
#[must_use]
pub fn stage_from_wire(stage: v1::Stage) -> Stage {
    match stage {
        v1::Stage::Captured => Stage::Captured,
        v1::Stage::Journaled => Stage::Journaled,
        v1::Stage::Applied | v1::Stage::Unspecified => Stage::Applied,
    }
}

/// A mode from its message.
#[must_use]
pub fn sync_mode_from_wire(mode: v1::SyncMode) -> SyncMode {
    match mode {
        v1::SyncMode::Block => SyncMode::Block,
        v1::SyncMode::File | v1::SyncMode::Unspecified => SyncMode::File,
    }
}

/// A kind of point from its message.
///
/// # Errors
/// `BAD_PARAMETERS` for none.
pub fn point_kind_from_wire(kind: v1::PointKind) -> Result<PointKind, EngineError> {
    Ok(match kind {
        v1::PointKind::Created => PointKind::Created,
        v1::PointKind::Modified => PointKind::Modified,
        v1::PointKind::Renamed => PointKind::Renamed,
        v1::PointKind::Removed => PointKind::Removed,
        v1::PointKind::Attributes => PointKind::Attributes,
        v1::PointKind::Bookmark => PointKind::Bookmark,
        v1::PointKind::Marker => PointKind::Marker,
        v1::PointKind::Unspecified => return Err(bad("a kind of point is not known")),
    })
}

/// A target from its message; the replica where none is named.
///
/// # Errors
/// `BAD_PARAMETERS` for a directory that is not absolute.
pub fn onto_from_wire(onto: Option<v1::Onto>) -> Result<Onto, EngineError> {
    match onto.and_then(|onto| onto.target) {
        None | Some(v1::onto::Target::Replica(_)) => Ok(Onto::Replica),
        Some(v1::onto::Target::Master(_)) => Ok(Onto::Master),
        Some(v1::onto::Target::Directory(path)) => {
            let path = path_from_wire(&path);
            if path.is_absolute() {
                Ok(Onto::Directory(path))
            } else {
                Err(bad("the target directory is not absolute"))
            }
        }
    }
}

impl From<Flushed> for v1::FlushResponse {
    fn from(flushed: Flushed) -> Self {
        v1::FlushResponse {
            lsn: lsn(flushed.lsn),
            time: time(flushed.time),
            class: v1::Class::from(flushed.class).into(),
            held: flushed.held.map(duration_to_wire),
        }
    }
}

impl From<Bookmark> for v1::Bookmark {
    fn from(bookmark: Bookmark) -> Self {
        v1::Bookmark {
            name: bookmark.name,
            lsn: lsn(bookmark.lsn),
            time: time(bookmark.time),
            class: v1::Class::from(bookmark.class).into(),
            automatic: bookmark.automatic,
            held: bookmark.held.map(duration_to_wire),
        }
    }
}

impl From<Point> for v1::Point {
    fn from(point: Point) -> Self {
        v1::Point {
            lsn: lsn(point.lsn),
            time: time(point.time),
            kind: v1::PointKind::from(point.kind).into(),
            path: optional_path(point.path.as_ref()),
            from: optional_path(point.from.as_ref()),
            bytes: point.bytes,
            provenance: v1::Provenance::from(point.provenance).into(),
            note: point.note.unwrap_or_default(),
            class: point.class.map_or(v1::Class::Unspecified, v1::Class::from).into(),
            thinned_out: !point.retained,
        }
    }
}

impl From<Change> for v1::Change {
    fn from(change: Change) -> Self {
        v1::Change {
            kind: v1::PointKind::from(change.kind).into(),
            path: path_to_wire(&change.path),
            from: optional_path(change.from.as_ref()),
            bytes: change.bytes,
        }
    }
}

impl From<Counts> for v1::Counts {
    fn from(counts: Counts) -> Self {
        v1::Counts {
            created: counts.created,
            modified: counts.modified,
            renamed: counts.renamed,
            removed: counts.removed,
            attributes: counts.attributes,
            bytes: counts.bytes,
        }
    }
}

impl From<RewindPlan> for v1::RewindPlan {
    fn from(plan: RewindPlan) -> Self {
        v1::RewindPlan {
            to: lsn(plan.to.lsn),
            to_time: time(plan.to.time),
            to_class: v1::Class::from(plan.to.class).into(),
            from: lsn(plan.from),
            counts: Some(plan.counts.into()),
            warnings: plan.warnings,
            point: plan.point.to_string(),
        }
    }
}

impl From<DiffSums> for v1::DiffSums {
    fn from(sums: DiffSums) -> Self {
        v1::DiffSums { from: lsn(sums.from), to: lsn(sums.to), counts: Some(sums.counts.into()) }
    }
}

/// Figures of the journal of a scenario.
#[must_use]
pub fn stats_to_wire(scenario: &str, stats: &JournalStats) -> v1::JournalStats {
    v1::JournalStats {
        scenario: scenario.to_owned(),
        oldest: stats.oldest.map(|(at, _)| at.into()),
        oldest_time: stats.oldest.map(|(_, at)| time_to_wire(at)),
        newest: stats.newest.map(|(at, _)| at.into()),
        newest_time: stats.newest.map(|(_, at)| time_to_wire(at)),
        redo_segments: stats.redo_segments,
        redo_bytes: stats.redo_bytes,
        undo_segments: stats.undo_segments,
        undo_bytes: stats.undo_bytes,
        kept_bytes: stats.kept_bytes,
        tables_bytes: stats.tables_bytes,
        bookmarks: stats.bookmarks,
        pins: stats.pins,
        free_bytes: stats.free_bytes,
        max_bytes: stats.max_bytes,
        retention: Some(duration_to_wire(stats.retention)),
        window: stats.window.as_ref().map(window::held_to_wire),
        figures: Some(window::figures_to_wire(stats)),
        thinning: Some(v1::Thinning {
            segments: stats.thinned.segments,
            points: stats.thinned.points,
            undo_bytes: stats.thinned.bytes,
            failures: stats.thinning.failures,
            stopped: stats.thinning.stopped.clone().unwrap_or_default(),
        }),
    }
}

impl From<Skipped> for v1::Skipped {
    fn from(skipped: Skipped) -> Self {
        v1::Skipped { path: path_to_wire(&skipped.path), what: skipped.what.to_owned(), error: skipped.error }
    }
}

fn list<T, U: From<T>>(items: Vec<T>) -> Vec<U> {
    items.into_iter().map(U::from).collect()
}

impl From<RunReport> for v1::RunReport {
    fn from(report: RunReport) -> Self {
        v1::RunReport {
            ran_already: report.ran_already,
            synchronized: report.synchronized,
            files: report.files,
            directories: report.directories,
            bytes: report.bytes,
            bytes_sent: report.bytes_sent,
            removed: report.removed,
            lsn: lsn(report.lsn),
            elapsed: Some(duration_to_wire(report.elapsed)),
            skipped: list(report.skipped),
            skipped_count: report.skipped_count,
        }
    }
}

impl From<ResumeReport> for v1::ResumeReport {
    fn from(report: ResumeReport) -> Self {
        v1::ResumeReport {
            files_returned: report.files_returned,
            captures_applied: report.captures_applied,
            lsn: lsn(report.lsn),
            elapsed: Some(duration_to_wire(report.elapsed)),
        }
    }
}

impl From<RewindReport> for v1::RewindReport {
    fn from(report: RewindReport) -> Self {
        v1::RewindReport {
            to: lsn(report.to.lsn),
            to_time: time(report.to.time),
            before: report.before.unwrap_or_default(),
            onto_master: report.onto_master,
            files_changed: report.files_changed,
            bytes_written: report.bytes_written,
            elapsed: Some(duration_to_wire(report.elapsed)),
            skipped: list(report.skipped),
            skipped_count: report.skipped_count,
        }
    }
}

impl From<Damage> for v1::Damage {
    fn from(damage: Damage) -> Self {
        v1::Damage { file: path_to_wire(&damage.file), offset: damage.offset, what: damage.what }
    }
}

impl From<VerifyReport> for v1::VerifyReport {
    fn from(report: VerifyReport) -> Self {
        v1::VerifyReport {
            segments: report.segments,
            records: report.records,
            bytes: report.bytes,
            damage: list(report.damage),
            elapsed: Some(duration_to_wire(report.elapsed)),
            tables: Some(window::tables_to_wire(report.tables)),
        }
    }
}

impl From<RebuildReport> for v1::RebuildReport {
    fn from(report: RebuildReport) -> Self {
        v1::RebuildReport {
            captures: report.captures,
            rows: report.rows,
            elapsed: Some(duration_to_wire(report.elapsed)),
        }
    }
}
