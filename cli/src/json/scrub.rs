//! Scrubs: the keys of the contract.

use super::{put_path, seconds};
use crate::output::utc_time;
use serde_json::{Map, Value, json};
use wire::v1;

/// The last scrub of a scenario.
pub fn last(scrub: &v1::LastScrub) -> Value {
    json!({
        "began": utc_time(scrub.began.as_ref()),
        "ended": utc_time(scrub.ended.as_ref()),
        "equal": scrub.equal,
        "files": scrub.files,
        "bytes": scrub.bytes,
        "passed": scrub.passed,
        "differences": scrub.replica_differs,
        "missed_captures": scrub.master_differs,
    })
}

/// A difference.
fn difference(difference: &v1::ScrubDifference) -> Value {
    let side = match difference.side() {
        v1::ScrubSide::Unspecified => Value::Null,
        side => side.word().into(),
    };
    let mut map = Map::new();
    put_path(&mut map, "path", &difference.path);
    map.insert("what".into(), difference.what.clone().into());
    map.insert("side".into(), side);
    map.insert("offset".into(), difference.offset.into());
    map.insert("repaired".into(), difference.repaired.into());
    map.into()
}

/// What a scrub came to.
pub fn report(report: &v1::ScrubReport) -> Value {
    json!({
        "began": utc_time(report.began.as_ref()),
        "ended": utc_time(report.ended.as_ref()),
        "equal": report.found == report.repaired,
        "entries": report.entries,
        "files": report.files,
        "bytes": report.bytes,
        "passed": report.passed,
        "found": report.found,
        "repaired": report.repaired,
        "differences": report.differences.iter().map(difference).collect::<Vec<_>>(),
        "elapsed_seconds": seconds(report.elapsed.as_ref()),
    })
}
