//! Looking after repositories, as messages.

use crate::engine::{ForgetReport, Pruned, RepositoryStats, UnlockReport};
use snapshot::repository::Timestamp;
use snapshot::repository::upkeep::check::CheckReport;
use snapshot::repository::upkeep::plan::{PrunePlan, Sum};
use snapshot::repository::upkeep::policy::{Candidate, Group};
use std::time::Duration;
use wire::convert::duration_to_wire;
use wire::v1;

fn seconds(seconds: i64) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds, nanos: 0 }
}

fn time(time: Timestamp) -> prost_types::Timestamp {
    let nanos = i32::try_from(time.nanoseconds).unwrap_or_default();
    prost_types::Timestamp { seconds: time.seconds, nanos }
}

fn sum(sum: Sum) -> Option<v1::PackSum> {
    Some(v1::PackSum { packs: sum.packs, bytes: sum.bytes })
}

impl From<RepositoryStats> for v1::RepositoryStats {
    fn from(found: RepositoryStats) -> Self {
        let RepositoryStats { repository, version, stats, last_check } = found;
        v1::RepositoryStats {
            name: repository.name,
            url: repository.url,
            id: repository.id,
            version,
            sessions: stats.sessions,
            packs: stats.packs,
            bytes_stored: stats.pack_bytes,
            blobs: stats.blobs,
            bytes_raw: stats.raw_bytes,
            bytes_unused: stats.unused_bytes,
            packs_waiting: stats.waiting_packs,
            bytes_waiting: stats.waiting_bytes,
            index_files: stats.index_files,
            keys: stats.keys,
            locks: stats.locks,
            packs_verified: stats.packs_verified,
            oldest_verification: stats.oldest_verification.map(seconds),
            last_verification: stats.newest_verification.map(seconds),
            last_check: last_check.map(|(at, _)| seconds(at)),
            last_check_damage: last_check.map_or(0, |(_, damage)| damage),
        }
    }
}

/// The report of a check.
#[must_use]
pub fn check_to_wire(report: CheckReport, elapsed: Duration) -> v1::CheckReport {
    let damage = report.damage.into_iter();
    v1::CheckReport {
        sessions: report.sessions,
        index_files: report.index_files,
        packs: report.packs,
        bytes_stored: report.pack_bytes,
        blobs: report.blobs,
        packs_marked: report.marked_packs,
        packs_unnamed: report.unnamed_packs,
        packs_read: report.packs_read,
        bytes_read: report.bytes_read,
        packs_verified: report.packs_verified,
        oldest_verification: report.oldest_verification.map(seconds),
        damage_count: report.damage_count,
        damage: damage.map(|one| v1::RepositoryDamage { object: one.object, what: one.what }).collect(),
        elapsed: Some(duration_to_wire(elapsed)),
    }
}

/// What a prune would do.
#[must_use]
pub fn prune_plan_to_wire(plan: &PrunePlan) -> v1::PrunePlan {
    v1::PrunePlan {
        keep: sum(plan.keep),
        repack: sum(plan.repack),
        bytes_copied: plan.repack_used_bytes,
        mark: sum(plan.mark),
        wait: sum(plan.wait),
        put_back: sum(plan.put_back),
        remove: sum(plan.remove),
        drop: sum(plan.drop),
        bytes_used: plan.used_bytes,
        bytes_unused: plan.unused_bytes,
        next_removal: plan.next_removal.map(time),
    }
}

impl From<Pruned> for v1::PruneReport {
    fn from(pruned: Pruned) -> Self {
        let Pruned { report, elapsed } = pruned;
        v1::PruneReport {
            plan: Some(prune_plan_to_wire(&report.plan)),
            removed: sum(report.removed),
            put_back: sum(report.put_back),
            held: sum(report.held),
            written: sum(report.written),
            damaged: report.damaged,
            clocks_differ: report.clocks_differ,
            elapsed: Some(duration_to_wire(elapsed)),
        }
    }
}

impl From<UnlockReport> for v1::UnlockReport {
    fn from(report: UnlockReport) -> Self {
        v1::UnlockReport { removed: report.removed, left: report.left }
    }
}

/// A group, one message a session.
pub fn forget_items(group: Group) -> impl Iterator<Item = v1::ForgetItem> {
    let item = |session: Candidate, reasons: Vec<&str>| v1::ForgetItem {
        id: session.id.to_string(),
        time: Some(time(session.time)),
        host: session.host,
        paths: session.paths,
        reasons: reasons.into_iter().map(str::to_owned).collect(),
    };
    let kept = group.keep.into_iter().map(move |kept| item(kept.session, kept.reasons));
    kept.chain(group.forget.into_iter().map(move |session| item(session, Vec::new())))
}

impl From<ForgetReport> for v1::ForgetReport {
    fn from(report: ForgetReport) -> Self {
        v1::ForgetReport {
            kept: report.kept,
            forgotten: report.forgotten.iter().map(ToString::to_string).collect(),
            elapsed: Some(duration_to_wire(report.elapsed)),
        }
    }
}
