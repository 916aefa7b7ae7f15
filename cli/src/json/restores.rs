//! Restores and what sessions hold, as JSON.

use super::{counts, object, put_path, seconds, text};
use crate::output::utc_time;
use serde_json::{Map, Value, json};
use wire::v1;

fn listed(list: &[v1::RestoreListed]) -> Value {
    list.iter()
        .map(|listed| {
            let errno = (listed.errno != 0).then_some(listed.errno);
            let mut map = Map::new();
            put_path(&mut map, "path", &listed.path);
            map.extend(object(json!({ "what": listed.what, "reason": listed.reason, "errno": errno })));
            Value::Object(map)
        })
        .collect()
}

/// What a restore did.
#[must_use]
pub fn report(report: &v1::RestoreReport) -> Map<String, Value> {
    let mut map = object(json!({
        "session": text(&report.session),
        "files": report.files,
        "bytes": report.bytes,
        "skipped": report.skipped + report.left_out,
        "failed": report.failed,
        "before": text(&report.before),
        "verified": report.verified,
        "elapsed_seconds": seconds(report.elapsed.as_ref()),
        "directories": report.directories,
        "others": report.others,
        "links": report.links,
        "bytes_written": report.bytes_written,
        "resumed": report.resumed,
        "renamed": report.renamed,
        "removed": report.removed,
        "verified_files": report.verified_files,
        "detached": report.detached,
        "failures": listed(&report.failures),
        "warned": report.warned,
        "warnings": listed(&report.warnings),
    }));
    if !report.sessions.is_empty() || report.left_out > 0 {
        let session = |one: &v1::RestoredSession| {
            json!({
                "session": one.session,
                "repository": one.repository,
                "paths": one.paths,
                "files": one.files,
                "bytes": one.bytes,
                "failed": one.failed,
            })
        };
        map.extend(object(json!({
            "sessions": report.sessions.iter().map(session).collect::<Vec<_>>(),
            "left_out": report.left_out,
            "left_out_first": listed(&report.left_out_first),
        })));
    }
    put_path(&mut map, "target", &report.target);
    map
}

/// What a verification found.
#[must_use]
pub fn verified(report: &v1::SessionVerifyReport) -> Map<String, Value> {
    object(json!({
        "session": report.session,
        "repository": report.repository,
        "verified": report.damaged == 0,
        "files": report.files,
        "directories": report.directories,
        "bytes": report.bytes,
        "blobs": report.blobs,
        "damaged": report.damaged,
        "failures": listed(&report.failures),
        "elapsed_seconds": seconds(report.elapsed.as_ref()),
    }))
}

/// What a restore would do, without its changes.
#[must_use]
pub fn plan(plan: &v1::RestorePlan, sets: &[v1::RestoreSetPlan]) -> Map<String, Value> {
    let conflicts = plan.first_conflicts.iter().map(|path| {
        let mut map = Map::new();
        put_path(&mut map, "path", path);
        Value::Object(map)
    });
    let conflicts: Value = conflicts.collect();
    let mut map = object(json!({ "session": text(&plan.session), "scenario": text(&plan.scenario) }));
    map.extend(counts(plan.counts.as_ref()));
    map.extend(object(json!({
        "skipped": plan.skipped,
        "resumed": plan.resumed,
        "conflicts": plan.conflicts,
        "first_conflicts": conflicts,
        "failed": plan.failed,
        "failures": listed(&plan.failures),
        "warnings": plan.warnings,
    })));
    if !plan.agreed.is_empty() {
        let set = |set: &v1::RestoreSetPlan| {
            json!({
                "session": set.session,
                "repository": set.repository,
                "time": utc_time(set.time.as_ref()),
                "paths": set.paths,
            })
        };
        map.extend(object(json!({
            "sessions": sets.iter().map(set).collect::<Vec<_>>(),
            "left_out": plan.left_out,
            "left_out_first": listed(&plan.left_out_first),
        })));
    }
    map
}

/// An object of a session.
#[must_use]
pub fn entry(entry: &v1::SessionEntry) -> Value {
    let mut map = Map::new();
    put_path(&mut map, "path", &entry.path);
    map.extend(object(json!({
        "kind": entry.kind,
        "bytes": entry.bytes,
        "mode": format!("{:04o}", entry.mode),
        "uid": entry.uid,
        "gid": entry.gid,
        "modified": utc_time(entry.modified.as_ref()),
        "links": entry.links,
    })));
    put_path(&mut map, "link_target", &entry.link_target);
    Value::Object(map)
}
