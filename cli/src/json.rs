//! Messages as JSON: the keys of the contract.

mod archive;
mod base64;
pub mod bursts;
pub mod catalog;
pub mod dump;
pub mod restores;
mod scrub;
pub mod tape;
pub mod tape_sessions;
pub mod upkeep;

pub use base64::base64;

use crate::output::{lsn_text, utc_time};
use serde_json::{Map, Value, json};
use wire::convert::duration_from_wire;
use wire::v1;

/// Adds `name`, and `name_base64` where the bytes are not UTF-8. Nothing for an empty path: then it is null.
pub fn put_path(map: &mut Map<String, Value>, name: &str, path: &[u8]) {
    let value = if path.is_empty() { Value::Null } else { String::from_utf8_lossy(path).into_owned().into() };
    map.insert(name.to_owned(), value);
    if std::str::from_utf8(path).is_err() {
        map.insert(format!("{name}_base64"), base64(path).into());
    }
}

fn lsn(lsn: Option<&v1::Lsn>) -> Value {
    lsn.map_or(Value::Null, |lsn| lsn_text(Some(lsn)).into())
}

fn seconds(duration: Option<&prost_types::Duration>) -> Value {
    duration.and_then(duration_from_wire).map_or(Value::Null, |duration| duration.as_secs_f64().into())
}

/// Null for an empty text.
fn text(text: &str) -> Value {
    if text.is_empty() { Value::Null } else { text.into() }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// A scenario.
#[must_use]
pub fn scenario(scenario: &v1::Scenario) -> Value {
    let definition = scenario.definition.clone().unwrap_or_default();
    let hooks = definition.hooks.clone().unwrap_or_default();
    let roots: Vec<Value> = definition
        .roots
        .iter()
        .map(|root| {
            let mut map = Map::new();
            put_path(&mut map, "path", &root.master_path);
            put_path(&mut map, "replica_path", &root.replica_path);
            map.into()
        })
        .collect();
    json!({
        "name": definition.name,
        "id": scenario.id,
        "state": scenario.state().word(),
        "type": definition.r#type().word(),
        "master": text(&definition.master),
        "roots": roots,
        "exclude": definition.excludes,
        "capture": definition.capture().word(),
        "rewind": definition.rewind(),
        "retention_seconds": seconds(definition.retention.as_ref()),
        "journal_max": definition.journal_max_bytes(),
        "keep_snapshots": definition.keep_snapshots(),
        "thin_after_seconds": seconds(definition.thin_after.as_ref()),
        "thin_minutes_seconds": seconds(definition.thin_minutes.as_ref()),
        "spool_max": definition.spool_max_bytes(),
        "auto_resync": definition.auto_resync().word(),
        "adopt": definition.adopt,
        "hooks": {
            "quiesce": text(&hooks.quiesce),
            "thaw": text(&hooks.thaw),
            "stop": text(&hooks.stop),
            "start": text(&hooks.start),
        },
        "hook_timeout_seconds": seconds(hooks.timeout.as_ref()),
        "created": utc_time(scenario.created.as_ref()),
    })
}

/// The state of a scenario.
#[must_use]
pub fn status(status: &v1::Status) -> Value {
    let proof = status.last_proof.as_ref().map(|proof| {
        json!({ "lsn": lsn(proof.lsn.as_ref()), "equal": proof.equal, "at": utc_time(proof.at.as_ref()) })
    });
    json!({
        "name": status.name,
        "id": status.id,
        "state": status.state().word(),
        "cause": text(&status.cause),
        "captured_lsn": lsn(status.captured.as_ref()),
        "journaled_lsn": lsn(status.journaled.as_ref()),
        "applied_lsn": lsn(status.applied.as_ref()),
        "lag_seconds": seconds(status.lag.as_ref()),
        "spool_bytes": status.spool_bytes,
        "gaps_open": status.gaps_open,
        "skipped": status.skipped,
        "last_proof": proof,
        "last_scrub": status.last_scrub.as_ref().map(scrub::last),
        "scrub_every_seconds": seconds(status.scrub_every.as_ref()),
        "window": dump::window(status.window.as_ref()),
        "archive": archive::status(status.archive.as_ref()),
    })
}

/// A preflight.
#[must_use]
pub fn preflight(name: &str, preflight: &v1::Preflight) -> Value {
    let findings: Vec<Value> = preflight
        .findings
        .iter()
        .map(|finding| {
            let mut map = object(json!({
                "level": finding.level().word(),
                "side": finding.side,
                "check": finding.check,
                "text": finding.text,
            }));
            put_path(&mut map, "path", &finding.path);
            map.into()
        })
        .collect();
    json!({ "name": name, "passed": preflight.passed, "findings": findings })
}

/// Adds `held_seconds` if an application was held.
fn put_held(value: Value, held: Option<&prost_types::Duration>) -> Value {
    let mut map = object(value);
    if held.is_some() {
        map.insert("held_seconds".into(), seconds(held));
    }
    map.into()
}

/// A barrier.
#[must_use]
pub fn flushed(flushed: &v1::FlushResponse) -> Value {
    let value = json!({
        "lsn": lsn(flushed.lsn.as_ref()),
        "time": utc_time(flushed.time.as_ref()),
        "class": flushed.class().word(),
    });
    put_held(value, flushed.held.as_ref())
}

/// A repository.
#[must_use]
pub fn repository(repository: &v1::Repository) -> Value {
    json!({
        "name": repository.name,
        "url": repository.url,
        "id": repository.id,
        "added": utc_time(repository.added.as_ref()),
        "created": repository.created,
        "conditional_put": text(&repository.conditional_put),
        "compression": text(&repository.compression),
        "encryption": text(&repository.encryption),
    })
}

/// A session.
#[must_use]
pub fn session(session: &v1::Session) -> Value {
    let mut map = object(json!({
        "id": session.id,
        "scenario": session.scenario,
        "master": session.master,
        "time": utc_time(session.time.as_ref()),
        "lsn": lsn(session.lsn.as_ref()),
        "class": session.class().word(),
        "files": session.files,
        "directories": session.directories,
        "bytes": session.bytes,
        "bytes_read": session.bytes_read,
        "bytes_stored": session.bytes_stored,
        "missed": session.missed,
        "incremental": session.incremental,
        "repository": session.repository,
        "tree": session.tree,
        "verified": utc_time(session.verified.as_ref()),
    }));
    put_path(&mut map, "entity", &session.entity);
    tape_sessions::put(&mut map, session);
    map.into()
}

/// A bookmark.
#[must_use]
pub fn bookmark(bookmark: &v1::Bookmark) -> Value {
    let value = json!({
        "name": bookmark.name,
        "lsn": lsn(bookmark.lsn.as_ref()),
        "time": utc_time(bookmark.time.as_ref()),
        "class": bookmark.class().word(),
        "automatic": bookmark.automatic,
    });
    put_held(value, bookmark.held.as_ref())
}

/// A snapshot.
#[must_use]
pub fn snapshot(snapshot: &v1::Snapshot) -> Value {
    let value = json!({
        "id": snapshot.id,
        "scenario": snapshot.scenario,
        "lsn": lsn(snapshot.lsn.as_ref()),
        "time": utc_time(snapshot.time.as_ref()),
        "class": snapshot.class().word(),
        "pinned_by": snapshot.pinned_by().word(),
    });
    put_held(value, snapshot.held.as_ref())
}

/// A point that is mounted.
#[must_use]
pub fn mounted(mounted: &v1::Mounted) -> Value {
    let mut map = object(json!({
        "lsn": lsn(mounted.lsn.as_ref()),
        "time": utc_time(mounted.time.as_ref()),
        "class": mounted.class().word(),
    }));
    put_path(&mut map, "directory", &mounted.directory);
    map.into()
}

/// A point.
#[must_use]
pub fn point(point: &v1::Point) -> Value {
    let mut map = object(json!({
        "lsn": lsn(point.lsn.as_ref()),
        "time": utc_time(point.time.as_ref()),
        "kind": point.kind().word(),
    }));
    put_path(&mut map, "path", &point.path);
    put_path(&mut map, "from", &point.from);
    map.insert("bytes".into(), point.bytes.into());
    map.insert("provenance".into(), point.provenance().word().into());
    map.insert("note".into(), text(&point.note));
    if point.class() != v1::Class::Unspecified {
        map.insert("class".into(), point.class().word().into());
    }
    map.insert("retained".into(), (!point.thinned_out).into());
    map.into()
}

/// A difference.
#[must_use]
pub fn change(change: &v1::Change) -> Value {
    let mut map = object(json!({ "kind": change.kind().word() }));
    put_path(&mut map, "path", &change.path);
    put_path(&mut map, "from", &change.from);
    map.insert("bytes".into(), change.bytes.into());
    map.into()
}

/// Sums of differences.
#[must_use]
pub fn counts(counts: Option<&v1::Counts>) -> Map<String, Value> {
    let counts = counts.cloned().unwrap_or_default();
    object(json!({
        "created": counts.created,
        "modified": counts.modified,
        "renamed": counts.renamed,
        "removed": counts.removed,
        "attributes": counts.attributes,
        "bytes": counts.bytes,
    }))
}

/// What a rewind would do, without its changes.
#[must_use]
pub fn plan(plan: &v1::RewindPlan) -> Map<String, Value> {
    let mut map = object(json!({
        "to_lsn": lsn(plan.to.as_ref()),
        "to_time": utc_time(plan.to_time.as_ref()),
        "to_class": plan.to_class().word(),
        "from_lsn": lsn(plan.from.as_ref()),
    }));
    map.extend(counts(plan.counts.as_ref()));
    map.insert("point".into(), text(&plan.point));
    map.insert("warnings".into(), plan.warnings.clone().into());
    map
}

/// Figures of a journal.
#[must_use]
pub fn stats(stats: &v1::JournalStats) -> Value {
    let mut map = object(json!({
        "scenario": stats.scenario,
        "oldest_lsn": lsn(stats.oldest.as_ref()),
        "oldest_time": utc_time(stats.oldest_time.as_ref()),
        "newest_lsn": lsn(stats.newest.as_ref()),
        "newest_time": utc_time(stats.newest_time.as_ref()),
        "redo_segments": stats.redo_segments,
        "redo_bytes": stats.redo_bytes,
        "undo_segments": stats.undo_segments,
        "undo_bytes": stats.undo_bytes,
        "kept_bytes": stats.kept_bytes,
        "tables_bytes": stats.tables_bytes,
        "bookmarks": stats.bookmarks,
        "pins": stats.pins,
        "free_bytes": stats.free_bytes,
        "max_bytes": stats.max_bytes,
        "retention_seconds": seconds(stats.retention.as_ref()),
    }));
    dump::figures(stats, &mut map);
    Value::Object(map)
}

/// A line of the log.
#[must_use]
pub fn log_line(line: &v1::LogLine) -> Value {
    json!({
        "time": utc_time(line.time.as_ref()),
        "scenario": text(&line.scenario),
        "job": text(&line.job),
        "level": line.level().word(),
        "text": line.text,
    })
}

/// Progress of a job.
#[must_use]
pub fn progress(job: &v1::Job) -> Value {
    let progress = job.progress.clone().unwrap_or_default();
    json!({
        "job": job.id,
        "kind": job.kind().word(),
        "scenario": job.scenario,
        "state": job.state().word(),
        "phase": text(&progress.phase),
        "done": progress.done,
        "total": progress.total,
        "unit": text(&progress.unit),
    })
}

fn skipped(list: &[v1::Skipped]) -> Vec<Value> {
    list.iter()
        .map(|skipped| {
            let mut map = Map::new();
            put_path(&mut map, "path", &skipped.path);
            map.insert("what".into(), skipped.what.clone().into());
            map.insert("error".into(), skipped.error.clone().into());
            map.into()
        })
        .collect()
}

/// What a job came to.
#[must_use]
pub fn result(result: &v1::Result) -> Map<String, Value> {
    use v1::result::Report;
    object(match &result.report {
        None => Value::Null,
        Some(Report::Run(report)) => json!({
            "ran_already": report.ran_already,
            "synchronized": report.synchronized,
            "files": report.files,
            "directories": report.directories,
            "bytes": report.bytes,
            "bytes_sent": report.bytes_sent,
            "removed": report.removed,
            "lsn": lsn(report.lsn.as_ref()),
            "elapsed_seconds": seconds(report.elapsed.as_ref()),
            "skipped": skipped(&report.skipped),
            "skipped_count": report.skipped_count,
        }),
        Some(Report::Resume(report)) => json!({
            "files_returned": report.files_returned,
            "captures_applied": report.captures_applied,
            "lsn": lsn(report.lsn.as_ref()),
            "elapsed_seconds": seconds(report.elapsed.as_ref()),
        }),
        Some(Report::Rewind(report)) => json!({
            "to_lsn": lsn(report.to.as_ref()),
            "to_time": utc_time(report.to_time.as_ref()),
            "before": text(&report.before),
            "files_changed": report.files_changed,
            "bytes_written": report.bytes_written,
            "elapsed_seconds": seconds(report.elapsed.as_ref()),
            "skipped": skipped(&report.skipped),
            "skipped_count": report.skipped_count,
        }),
        Some(Report::Verify(report)) => verified(report),
        Some(Report::Restore(report)) => Value::Object(restores::report(report)),
        Some(Report::SessionVerify(report)) => Value::Object(restores::verified(report)),
        Some(Report::SessionCopy(report)) => tape::copied(report),
        Some(Report::Backup(report)) => json!({
            "snapshot": text(&report.snapshot),
            "lsn": lsn(report.lsn.as_ref()),
            "time": utc_time(report.time.as_ref()),
            "elapsed_seconds": seconds(report.elapsed.as_ref()),
            "throughput_bytes_per_second": throughput(report),
            "sessions": report.sessions.iter().map(session).collect::<Vec<_>>(),
            "skipped": skipped(&report.missed),
            "skipped_count": report.sessions.iter().map(|session| session.missed).sum::<u64>(),
            "notes": report.notes,
        }),
        Some(Report::Check(report)) => upkeep::check(report),
        Some(Report::Prune(report)) => upkeep::prune(report),
        Some(Report::Forget(report)) => upkeep::forget(report),
        Some(Report::Scrub(report)) => scrub::report(report),
        Some(Report::CatalogRebuild(report)) => catalog::rebuilt(report),
        Some(Report::Rebuild(report)) => json!({
            "captures": report.captures,
            "rows": report.rows,
            "elapsed_seconds": seconds(report.elapsed.as_ref()),
        }),
    })
}

fn verified(report: &v1::VerifyReport) -> Value {
    let damage = |damage: &v1::Damage| {
        let mut map = Map::new();
        put_path(&mut map, "file", &damage.file);
        map.insert("offset".into(), damage.offset.into());
        map.insert("what".into(), damage.what.clone().into());
        Value::from(map)
    };
    json!({
        "segments": report.segments,
        "records": report.records,
        "bytes": report.bytes,
        "damage": report.damage.iter().map(damage).collect::<Vec<_>>(),
        "tables": report.tables.as_ref().map(dump::tables),
        "elapsed_seconds": seconds(report.elapsed.as_ref()),
    })
}

/// Bytes read from the replica, by the time it took.
fn throughput(report: &v1::BackupReport) -> Value {
    let bytes: u64 = report.sessions.iter().map(|session| session.bytes_read).sum();
    let elapsed = report.elapsed.as_ref().and_then(duration_from_wire).unwrap_or_default().as_secs_f64();
    if elapsed > 0.0 { ((bytes as f64 / elapsed) as u64).into() } else { Value::Null }
}

fn job_error(error: &v1::Error) -> Value {
    json!({
        "code": error.code,
        "message": error.message,
        "reason": error.reason,
        "action": error.action,
        "module": error.module,
    })
}

/// A job with all there is to it.
#[must_use]
pub fn job(job: &v1::Job) -> Value {
    json!({
        "id": job.id,
        "kind": job.kind().word(),
        "scenario": job.scenario,
        "state": job.state().word(),
        "outcome": text(job.outcome().word()),
        "cancelling": job.cancelling,
        "created": utc_time(job.created.as_ref()),
        "started": utc_time(job.started.as_ref()),
        "finished": utc_time(job.finished.as_ref()),
        "progress": job.progress.as_ref().map(|_| progress(job)),
        "result": job.result.as_ref().map(result),
        "error": job.error.as_ref().map(job_error),
        "idempotency_key": text(&job.idempotency_key),
    })
}

/// What an action says that was a job: the job's number, its result, and its error if the result is one.
#[must_use]
pub fn finished_job(job: &v1::Job) -> Value {
    let mut map = object(json!({
        "job": job.id,
        "scenario": job.scenario,
        "state": if job.outcome() == v1::Outcome::Succeeded { "done" } else { job.outcome().word() },
    }));
    map.extend(job.result.as_ref().map(result).unwrap_or_default());
    if let Some(error) = &job.error {
        map.insert("error".into(), job_error(error));
    }
    map.into()
}

#[cfg(test)]
mod tests;
