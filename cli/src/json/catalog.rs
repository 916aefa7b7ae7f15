//! Answers of the catalog as JSON.

use super::{lsn, object, put_path, seconds, skipped, text};
use crate::output::utc_time;
use serde_json::{Map, Value, json};
use wire::v1;

fn with_path(path: &[u8], rest: Value) -> Value {
    let mut map = Map::new();
    put_path(&mut map, "path", path);
    map.extend(object(rest));
    map.into()
}

/// What was found.
#[must_use]
pub fn entry(entry: &v1::CatalogEntry) -> Value {
    let rest = json!({
        "kind": text(entry.kind().word()),
        "bytes": entry.bytes,
        "modified": utc_time(entry.modified.as_ref()),
        "scenario": text(&entry.scenario),
        "master": text(&entry.master),
        "sessions": entry.sessions,
        "first_session": text(&entry.first_session),
        "last_session": text(&entry.last_session),
        "last_lsn": lsn(entry.last_lsn.as_ref()),
        "source": entry.source().word(),
    });
    with_path(&entry.path, rest)
}

/// A version of a path.
#[must_use]
pub fn version(version: &v1::FileVersion) -> Value {
    let rest = json!({
        "lsn": lsn(version.lsn.as_ref()),
        "time": utc_time(version.time.as_ref()),
        "bytes": version.bytes,
        "change": version.change,
        "session": text(&version.session),
        "provenance": text(version.provenance().word()),
        "scenario": text(&version.scenario),
        "master": text(&version.master),
        "kind": version.kind().word(),
        "modified": utc_time(version.modified.as_ref()),
    });
    with_path(&version.path, rest)
}

/// What making the catalog anew came to.
#[must_use]
pub fn rebuilt(report: &v1::CatalogRebuildReport) -> Value {
    json!({
        "sessions": report.sessions,
        "entries": report.entries,
        "forgotten": report.forgotten,
        "left_out": report.left_out,
        "failed": skipped(&report.failed),
        "elapsed_seconds": seconds(report.elapsed.as_ref()),
    })
}
