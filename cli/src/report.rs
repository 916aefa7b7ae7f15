//! What a job came to, for people.

pub mod restores;
pub mod scrub;
pub mod upkeep;

use crate::output::{Output, count, local_time, lsn_text, path_text};
use console::style;
use wire::convert::duration_from_wire;
use wire::units::format_size;
use wire::v1;
use wire::v1::result::Report;

/// Objects listed one by one; there may be more.
const LISTED_MAX: usize = 20;

/// Shows the result of a job that has ended.
pub fn show(out: &Output, job: &v1::Job) {
    let Some(report) = job.result.as_ref().and_then(|result| result.report.as_ref()) else { return };
    let name = &job.scenario;
    match report {
        Report::Run(report) => run(out, name, report),
        Report::Resume(report) => resume(out, name, report),
        Report::Rewind(report) => rewind(out, name, report),
        Report::Verify(report) => verify(out, name, report),
        Report::Backup(report) => backup(out, name, report),
        Report::Check(report) => upkeep::check(out, report),
        Report::Prune(report) => upkeep::prune(out, report),
        Report::Forget(report) => upkeep::forget(out, report),
        Report::Restore(report) => restores::restore(out, name, report),
        Report::SessionVerify(report) => restores::verified(out, report),
        Report::SessionCopy(report) => restores::copied(out, report),
        Report::Scrub(report) => scrub::show(out, name, report),
        Report::CatalogRebuild(report) => {
            let (sessions, entries) = (count(report.sessions, "session"), count(report.entries, "entry"));
            let elapsed = elapsed(report.elapsed.as_ref());
            out.data(&format!("the catalog was made anew: {sessions}, {entries}, in {elapsed}"));
            skipped(out, &report.failed, report.failed.len() as u64);
        }
        Report::Rebuild(report) => {
            let (captures, rows) = (count(report.captures, "capture"), count(report.rows, "row"));
            let elapsed = elapsed(report.elapsed.as_ref());
            out.data(&format!("projections of \"{name}\" were made anew: {captures}, {rows}, in {elapsed}"));
        }
    };
}

/// `0.3 s`, `2 min 5 s`.
fn elapsed(duration: Option<&prost_types::Duration>) -> String {
    let seconds = duration.and_then(duration_from_wire).unwrap_or_default().as_secs_f64();
    if seconds < 60.0 {
        format!("{seconds:.1} s")
    } else {
        format!("{:.0} min {:.0} s", (seconds / 60.0).floor(), seconds % 60.0)
    }
}

fn run(out: &Output, name: &str, report: &v1::RunReport) {
    if report.ran_already {
        out.data(&format!("scenario \"{name}\" replicates already"));
        return;
    }
    if report.synchronized {
        let files = count(report.files, "file");
        let directories = count(report.directories, "directory");
        let (bytes, sent) = (format_size(report.bytes), format_size(report.bytes_sent));
        out.data(&format!(
            "synchronized {files} in {directories}, {bytes} ({sent} sent, {} removed) in {}",
            report.removed,
            elapsed(report.elapsed.as_ref())
        ));
        out.data(&format!(
            "All modifications during synchronization are replicated; rewind points begin at LSN {}",
            lsn_text(report.lsn.as_ref())
        ));
    }
    out.data(&format!("scenario \"{name}\" replicates"));
    skipped(out, &report.skipped, report.skipped_count);
}

fn resume(out: &Output, name: &str, report: &v1::ResumeReport) {
    if report.files_returned > 0 {
        out.data(&format!("{} returned to the captured state", count(report.files_returned, "file")));
    }
    let applied = count(report.captures_applied, "capture");
    let (lsn, elapsed) = (lsn_text(report.lsn.as_ref()), elapsed(report.elapsed.as_ref()));
    out.data(&format!("scenario \"{name}\" replicates: {applied} applied up to LSN {lsn} in {elapsed}"));
}

fn rewind(out: &Output, name: &str, report: &v1::RewindReport) {
    out.data(&format!(
        "Rewind process is completed successfully: \"{name}\" at LSN {} ({}), {} changed, {} written in {}",
        lsn_text(report.to.as_ref()),
        local_time(report.to_time.as_ref()),
        count(report.files_changed, "file"),
        format_size(report.bytes_written),
        elapsed(report.elapsed.as_ref())
    ));
    if !report.before.is_empty() {
        let onto = if report.onto_master { " --onto master" } else { "" };
        out.talk(&format!("to go back:  restorectl rewind {name} --to bookmark:{}{onto}", report.before));
    }
    skipped(out, &report.skipped, report.skipped_count);
}

fn verify(out: &Output, name: &str, report: &v1::VerifyReport) {
    let (segments, records) = (count(report.segments, "segment"), count(report.records, "record"));
    let (bytes, elapsed) = (format_size(report.bytes), elapsed(report.elapsed.as_ref()));
    let verdict = if report.damage.is_empty() { "no damage".to_owned() } else { places(report.damage.len()) };
    out.data(&format!("journal of \"{name}\": {segments}, {records}, {bytes} read in {elapsed}: {verdict}"));
    if let Some(tables) = &report.tables {
        let rows = count(tables.rows, "row");
        let text = match (tables.not_compared.as_str(), tables.differing) {
            ("", 0) => format!("tables: {rows} compared with the segments: no difference"),
            ("", differing) => format!("tables: {rows} compared with the segments: {differing} differ"),
            (why, _) => format!("tables: not compared: {why}"),
        };
        out.data(&text);
        for one in &tables.differences {
            out.data(&format!("  {} {}: {}", one.table, style(&one.key).red(), one.what));
        }
    }
    for damage in &report.damage {
        let place = format!("{} at offset {}", path_text(&damage.file), damage.offset);
        out.data(&format!("  {}: {}", style(place).red(), damage.what));
    }
}

fn backup(out: &Output, name: &str, report: &v1::BackupReport) {
    for session in &report.sessions {
        let (files, directories) = (count(session.files, "file"), count(session.directories, "directory"));
        let looked = if session.incremental { "changed" } else { "stored" };
        out.data(&format!(
            "session {} of {}: {files} in {directories} {looked}, {} read, {} stored",
            session.id.get(..8).unwrap_or(&session.id),
            path_text(&session.entity),
            format_size(session.bytes_read),
            format_size(session.bytes_stored)
        ));
    }
    for note in &report.notes {
        out.talk(note);
    }
    let (lsn, time) = (lsn_text(report.lsn.as_ref()), local_time(report.time.as_ref()));
    out.data(&format!(
        "\"{name}\" as of LSN {lsn} ({time}) is backed up, in {}",
        elapsed(report.elapsed.as_ref())
    ));
    skipped(out, &report.missed, report.sessions.iter().map(|session| session.missed).sum());
}

fn places(number: usize) -> String {
    count(number as u64, "damaged place")
}

/// What was left out is never left unsaid, not even with `-q`.
fn skipped(out: &Output, list: &[v1::Skipped], total: u64) {
    if total == 0 || out.json {
        return;
    }
    out.warn(&format!("{} skipped:", count(total, "object")));
    for skipped in list.iter().take(LISTED_MAX) {
        eprintln!("  {} ({}): {}", path_text(&skipped.path), skipped.what, skipped.error);
    }
    let more = total.saturating_sub(LISTED_MAX.min(list.len()) as u64);
    if more > 0 {
        eprintln!("  and {more} more");
    }
}
