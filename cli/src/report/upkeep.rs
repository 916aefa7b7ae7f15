//! What came of looking after a repository, for people.

use super::{LISTED_MAX, elapsed};
use crate::output::{Output, count, local_time};
use console::style;
use wire::units::format_size;
use wire::v1;

/// `3 packs (1.5 MiB)`.
#[must_use]
pub fn sum(sum: Option<&v1::PackSum>) -> String {
    let sum = sum.copied().unwrap_or_default();
    format!("{} ({})", count(sum.packs, "pack"), format_size(sum.bytes))
}

fn is_any(sum: Option<&v1::PackSum>) -> bool {
    sum.is_some_and(|sum| sum.packs > 0)
}

/// The plan of a prune as lines.
#[must_use]
pub fn plan_lines(plan: &v1::PrunePlan) -> Vec<String> {
    let mut lines = vec![format!(
        "keep      {}, {} of it unused",
        sum(plan.keep.as_ref()),
        format_size(plan.bytes_unused)
    )];
    let mut line = |what: Option<&v1::PackSum>, verb: &str, rest: &str| {
        if is_any(what) {
            lines.push(format!("{verb} {}{rest}", sum(what)));
        }
    };
    let copied = format!(", {} of it copied", format_size(plan.bytes_copied));
    line(plan.repack.as_ref(), "repack   ", &copied);
    line(plan.mark.as_ref(), "mark     ", ": nothing needs them");
    line(plan.put_back.as_ref(), "put back ", ": a session needs them again");
    line(plan.remove.as_ref(), "remove   ", ": marked long enough ago");
    line(plan.drop.as_ref(), "drop     ", ": named, but not there and not needed");
    let next = format!(", removed from {} on", local_time(plan.next_removal.as_ref()));
    line(plan.wait.as_ref(), "wait     ", &next);
    lines
}

pub(super) fn check(out: &Output, report: &v1::CheckReport) {
    out.data(&format!(
        "{}, {} in {} ({}), {} read, in {}",
        count(report.sessions, "session"),
        count(report.blobs, "blob"),
        count(report.packs, "pack"),
        format_size(report.bytes_stored),
        format_size(report.bytes_read),
        elapsed(report.elapsed.as_ref())
    ));
    if report.packs_read > 0 {
        let oldest = match &report.oldest_verification {
            Some(oldest) => format!("the oldest on {}", local_time(Some(oldest))),
            None => "not all of them yet".to_owned(),
        };
        out.data(&format!(
            "{} of {} were read and found whole, {oldest}",
            report.packs_verified, report.packs
        ));
    }
    if report.packs_unnamed > 0 {
        out.talk(&format!(
            "{} in no index: the next prune sees to that",
            count(report.packs_unnamed, "pack")
        ));
    }
    if report.damage_count == 0 {
        out.data("no damage");
        return;
    }
    out.data(&count(report.damage_count, "damaged object"));
    for damage in report.damage.iter().take(LISTED_MAX) {
        out.data(&format!("  {}: {}", style(&damage.object).red(), damage.what));
    }
    let more = report.damage_count.saturating_sub(LISTED_MAX.min(report.damage.len()) as u64);
    if more > 0 {
        out.data(&format!("  and {more} more"));
    }
}

pub(super) fn prune(out: &Output, report: &v1::PruneReport) {
    out.data(&format!(
        "{} removed, {} written, in {}",
        sum(report.removed.as_ref()),
        sum(report.written.as_ref()),
        elapsed(report.elapsed.as_ref())
    ));
    let plan = report.plan.unwrap_or_default();
    if is_any(plan.mark.as_ref()) || is_any(plan.repack.as_ref()) {
        out.data(
            "what was taken out of use can be put back until its time is over; a later prune removes it",
        );
    }
    if is_any(report.put_back.as_ref()) {
        out.data(&format!("{} put back", sum(report.put_back.as_ref())));
    }
    if is_any(report.held.as_ref()) {
        out.talk(&format!("{} wait for a backup or restore to end", sum(report.held.as_ref())));
    }
    if report.clocks_differ {
        out.warn("the clocks of the daemon's host and of the store differ by more than an hour: nothing was removed");
    }
    for damaged in &report.damaged {
        out.warn(damaged);
    }
}

pub(super) fn forget(out: &Output, report: &v1::ForgetReport) {
    let gone = count(report.forgotten.len() as u64, "session");
    out.data(&format!("{gone} forgotten, {} kept, in {}", report.kept, elapsed(report.elapsed.as_ref())));
    if !report.forgotten.is_empty() {
        out.talk("their data stays until `restorectl repository prune`");
    }
}
