//! What a scrub came to, for people.

use super::{LISTED_MAX, elapsed};
use crate::output::{Output, count, path_text};
use wire::units::format_size;
use wire::v1;

/// The difference report.
pub fn show(out: &Output, name: &str, report: &v1::ScrubReport) {
    let (files, bytes) = (count(report.files, "file"), format_size(report.bytes));
    let verdict = match (report.found, report.repaired) {
        (0, _) => "master and replica are equal".to_owned(),
        (found, 0) => format!("{} FOUND", count(found, "difference")),
        (found, repaired) => format!("{} FOUND, {repaired} of them repaired", count(found, "difference")),
    };
    let elapsed = elapsed(report.elapsed.as_ref());
    out.data(&format!("scrub of \"{name}\": {files} ({bytes}) read on both sides in {elapsed}: {verdict}"));
    for difference in report.differences.iter().take(LISTED_MAX) {
        let side = match difference.side() {
            v1::ScrubSide::Replica => "on the replica",
            v1::ScrubSide::Master => "missed by capture",
            v1::ScrubSide::Rot => "on the master, where nothing says it was written",
            v1::ScrubSide::Unspecified => "side unknown",
        };
        let at = difference.offset.map_or_else(String::new, |offset| format!(" at offset {offset}"));
        let end = if difference.repaired { ", repaired" } else { "" };
        let (path, what) = (path_text(&difference.path), &difference.what);
        out.data(&format!("  {path}: {what}{at} ({side}){end}"));
    }
    if report.differences.len() > LISTED_MAX {
        out.data("  ... and more: `restorectl --json job show ID` has up to 1000 of them");
    }
    if report.passed > 0 {
        let passed = count(report.passed, "name");
        out.talk(&format!("{passed} not compared: changed all the while, or cannot be read"));
    }
}
