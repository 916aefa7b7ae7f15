//! What a restore came to, for people.

use super::{LISTED_MAX, elapsed};
use crate::output::{Output, count, path_text};
use wire::units::format_size;
use wire::v1;

/// What a restore did, and how to go back.
pub fn restore(out: &Output, name: &str, report: &v1::RestoreReport) {
    let (files, directories) = (count(report.files, "file"), count(report.directories, "directory"));
    out.data(&format!(
        "restored {files} in {directories}, {} ({} written) in {}",
        format_size(report.bytes),
        format_size(report.bytes_written),
        elapsed(report.elapsed.as_ref())
    ));
    for session in &report.sessions {
        out.data(&format!(
            "  {} from session {}: {}, {}",
            count(session.paths, "path"),
            session.session.get(..8).unwrap_or(&session.session),
            count(session.files, "file"),
            format_size(session.bytes)
        ));
    }
    let more = [
        (report.resumed, "object", "there from an earlier run"),
        (report.skipped, "object", "left as they were"),
        (report.renamed, "object", "restored under another name"),
        (report.removed, "name", "removed"),
        (report.verified_files, "file", "read again and compared"),
    ];
    for (number, what, happened) in more {
        if number > 0 {
            out.data(&format!("  {} {happened}", count(number, what)));
        }
    }
    if !report.before.is_empty() {
        let onto = if report.onto_master { " --onto master" } else { "" };
        out.talk(&format!("to go back:  restorectl rewind {name} --to bookmark:{}{onto}", report.before));
    }
    if report.detached {
        out.talk(&format!(
            "the scenario is detached; to follow the master again:  restorectl scenario resume {name}"
        ));
    }
    listed(out, report.failed, &report.failures, "not restored");
    listed(out, report.warned, &report.warnings, "not kept");
    left_out(out, report.left_out, &report.left_out_first);
}

/// What a query found that no session holds.
pub fn left_out(out: &Output, total: u64, first: &[v1::RestoreListed]) {
    listed(out, total, first, "left out");
}

/// What a verification found.
pub fn verified(out: &Output, report: &v1::SessionVerifyReport) {
    let (files, blobs) = (count(report.files, "object"), count(report.blobs, "blob"));
    let verdict =
        if report.damaged == 0 { "no damage".to_owned() } else { format!("{} damaged", report.damaged) };
    let (bytes, elapsed) = (format_size(report.bytes), elapsed(report.elapsed.as_ref()));
    let short = report.session.get(..8).unwrap_or(&report.session);
    out.data(&format!("session {short}: {files}, {bytes}, {blobs} read in {elapsed}: {verdict}"));
    listed(out, report.damaged, &report.failures, "damaged");
}

/// Where a session was copied to.
pub fn copied(out: &Output, report: &v1::SessionCopyReport) {
    let short = report.session.get(..8).unwrap_or(&report.session);
    if report.tape_session.is_empty() {
        return stored(out, report, short);
    }
    let media: Vec<&str> = report.parts.iter().map(|part| part.media.as_str()).collect();
    let (media, bytes) = (media.join(", "), format_size(report.bytes));
    if report.was_there {
        out.data(&format!("session {short} is on {media} already, {bytes}: nothing was written"));
        if report.missed > 0 && !out.json {
            let missed = count(report.missed, "object");
            out.warn(&format!("{missed} could not be read when that copy was made, and are not whole in it"));
        }
        return;
    }
    let elapsed = elapsed(report.elapsed.as_ref());
    let stalls = count(report.stalls, "stall");
    out.data(&format!("session {short} was copied to {media}: {bytes} in {elapsed}, {stalls} of the drive"));
    let missed = report.missed_first.iter().map(|missed| v1::RestoreListed {
        path: missed.path.clone(),
        what: "copy".to_owned(),
        reason: missed.reason.clone(),
        ..v1::RestoreListed::default()
    });
    listed(out, report.missed, &missed.collect::<Vec<_>>(), "not copied as it was");
}

/// Which session it is in the other repository.
fn stored(out: &Output, report: &v1::SessionCopyReport, short: &str) {
    let (to, copy) = (&report.to, report.copied_session.get(..8).unwrap_or(&report.copied_session));
    if report.was_there {
        out.data(&format!("session {short} is in {to} already, as session {copy}: nothing was written"));
    } else {
        let (bytes, read) = (format_size(report.bytes), format_size(report.bytes_read));
        let (stored, elapsed) = (format_size(report.bytes_stored), elapsed(report.elapsed.as_ref()));
        out.data(&format!(
            "session {short} was copied to {to} as session {copy}: {bytes}, {read} read, {stored} stored in {elapsed}"
        ));
    }
    if report.missed > 0 && !out.json {
        let missed = count(report.missed, "object");
        out.warn(&format!(
            "{missed} could not be read when the session was made, and are not whole in the copy"
        ));
    }
}

/// What was left out is never left unsaid, not even with `-q`.
fn listed(out: &Output, total: u64, list: &[v1::RestoreListed], what: &str) {
    if total == 0 || out.json {
        return;
    }
    out.warn(&format!("{} {what}:", count(total, "object")));
    for listed in list.iter().take(LISTED_MAX) {
        eprintln!("  {} ({}): {}", path_text(&listed.path), listed.what, listed.reason);
    }
    let more = total.saturating_sub(LISTED_MAX.min(list.len()) as u64);
    if more > 0 {
        eprintln!("  and {more} more");
    }
}
