//! Scrubs, to and from messages.

use super::{optional_path, time};
use crate::engine::{EngineResult, ScrubReport, ScrubRequest};
use journal::proofs::Scrubbed;
use replication::replica::Side;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use wire::convert::duration_to_wire;
use wire::v1;

/// A request.
pub(crate) fn scrub_from_wire(request: v1::ScrubRequest) -> EngineResult<ScrubRequest> {
    let path = (!request.path.is_empty()).then(|| OsString::from_vec(request.path.to_vec()).into());
    Ok(ScrubRequest { scenario: request.name, path, repair: request.repair, rate: request.rate })
}

/// A report.
pub(crate) fn scrub_to_wire(report: ScrubReport) -> v1::ScrubReport {
    let differences = report.differences.into_iter().map(|difference| v1::ScrubDifference {
        path: optional_path(Some(&difference.path)),
        what: difference.what.to_owned(),
        side: match difference.side {
            Side::Replica => v1::ScrubSide::Replica,
            Side::Master => v1::ScrubSide::Master,
            Side::Rot => v1::ScrubSide::Rot,
            Side::Unknown => v1::ScrubSide::Unspecified,
        }
        .into(),
        offset: difference.offset,
        repaired: difference.repaired,
    });
    v1::ScrubReport {
        differences: differences.collect(),
        began: time(report.sums.began),
        ended: time(report.sums.ended),
        entries: report.sums.entries,
        files: report.sums.files,
        bytes: report.sums.bytes,
        passed: report.sums.passed,
        found: report.found,
        repaired: report.repaired,
        elapsed: Some(duration_to_wire(report.elapsed)),
    }
}

/// The last scrub that came to its end.
pub(super) fn last_to_wire(scrubbed: &Scrubbed) -> v1::LastScrub {
    v1::LastScrub {
        began: time(scrubbed.began),
        ended: time(scrubbed.ended),
        equal: scrubbed.replica_differs == 0,
        files: scrubbed.files,
        bytes: scrubbed.bytes,
        passed: scrubbed.passed,
        replica_differs: scrubbed.replica_differs,
        master_differs: scrubbed.master_differs,
    }
}
