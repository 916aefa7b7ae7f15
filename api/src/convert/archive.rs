//! The archive's status on the wire.

use super::time;
use crate::archive::ArchiveStatus;
use wire::convert::duration_to_wire;
use wire::v1;

impl From<ArchiveStatus> for v1::ArchiveStatus {
    fn from(status: ArchiveStatus) -> Self {
        v1::ArchiveStatus {
            repository: status.repository,
            every: Some(duration_to_wire(status.every)),
            lsn: status.lsn,
            time: status.time.and_then(time),
            rpo: Some(duration_to_wire(status.rpo)),
            behind: Some(duration_to_wire(status.behind)),
            gaps: status.gaps,
            problem: status.problem.unwrap_or_default(),
            attempted: status.attempted.and_then(time),
        }
    }
}
