//! Looking after repositories: the keys of the contract.

use super::{seconds, text};
use crate::output::utc_time;
use serde_json::{Value, json};
use wire::v1;

fn sum(sum: Option<&v1::PackSum>) -> Value {
    let sum = sum.copied().unwrap_or_default();
    json!({ "packs": sum.packs, "bytes": sum.bytes })
}

/// Figures of a repository.
#[must_use]
pub fn stats(stats: &v1::RepositoryStats) -> Value {
    json!({
        "name": stats.name,
        "url": stats.url,
        "id": stats.id,
        "version": stats.version,
        "sessions": stats.sessions,
        "packs": stats.packs,
        "bytes_stored": stats.bytes_stored,
        "blobs": stats.blobs,
        "bytes_raw": stats.bytes_raw,
        "bytes_unused": stats.bytes_unused,
        "packs_waiting": stats.packs_waiting,
        "bytes_waiting": stats.bytes_waiting,
        "index_files": stats.index_files,
        "keys": stats.keys,
        "locks": stats.locks,
        "packs_verified": stats.packs_verified,
        "oldest_verification": utc_time(stats.oldest_verification.as_ref()),
        "last_verification": utc_time(stats.last_verification.as_ref()),
        "last_check": utc_time(stats.last_check.as_ref()),
        "last_check_damage": stats.last_check_damage,
    })
}

/// The report of a check.
#[must_use]
pub fn check(report: &v1::CheckReport) -> Value {
    let damage = |one: &v1::RepositoryDamage| json!({ "object": one.object, "what": one.what });
    json!({
        "sessions": report.sessions,
        "index_files": report.index_files,
        "packs": report.packs,
        "bytes_stored": report.bytes_stored,
        "blobs": report.blobs,
        "packs_marked": report.packs_marked,
        "packs_unnamed": report.packs_unnamed,
        "packs_read": report.packs_read,
        "bytes_read": report.bytes_read,
        "packs_verified": report.packs_verified,
        "oldest_verification": utc_time(report.oldest_verification.as_ref()),
        "damage_count": report.damage_count,
        "damage": report.damage.iter().map(damage).collect::<Vec<_>>(),
        "elapsed_seconds": seconds(report.elapsed.as_ref()),
    })
}

/// The plan of a prune.
#[must_use]
pub fn prune_plan(plan: &v1::PrunePlan) -> Value {
    json!({
        "keep": sum(plan.keep.as_ref()),
        "repack": sum(plan.repack.as_ref()),
        "bytes_copied": plan.bytes_copied,
        "mark": sum(plan.mark.as_ref()),
        "wait": sum(plan.wait.as_ref()),
        "put_back": sum(plan.put_back.as_ref()),
        "remove": sum(plan.remove.as_ref()),
        "drop": sum(plan.drop.as_ref()),
        "bytes_used": plan.bytes_used,
        "bytes_unused": plan.bytes_unused,
        "next_removal": utc_time(plan.next_removal.as_ref()),
    })
}

/// The report of a prune.
#[must_use]
pub fn prune(report: &v1::PruneReport) -> Value {
    json!({
        "plan": report.plan.as_ref().map_or(Value::Null, prune_plan),
        "removed": sum(report.removed.as_ref()),
        "put_back": sum(report.put_back.as_ref()),
        "held": sum(report.held.as_ref()),
        "written": sum(report.written.as_ref()),
        "damaged": report.damaged,
        "clocks_differ": report.clocks_differ,
        "elapsed_seconds": seconds(report.elapsed.as_ref()),
    })
}

/// The report of a forget.
#[must_use]
pub fn forget(report: &v1::ForgetReport) -> Value {
    json!({
        "kept": report.kept,
        "forgotten": report.forgotten,
        "elapsed_seconds": seconds(report.elapsed.as_ref()),
    })
}

/// A session of a plan.
#[must_use]
pub fn forget_item(item: &v1::ForgetItem) -> Value {
    json!({
        "id": item.id,
        "time": utc_time(item.time.as_ref()),
        "host": text(&item.host),
        "paths": item.paths,
        "keep": !item.reasons.is_empty(),
        "reasons": item.reasons,
    })
}
