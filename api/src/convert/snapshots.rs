//! Snapshots and mounted points as messages.

use super::{lsn, path_to_wire, time};
use crate::engine::{MountReport, PinnedBy, Snapshot};
use wire::convert::duration_to_wire;
use wire::v1;

impl From<Snapshot> for v1::Snapshot {
    fn from(snapshot: Snapshot) -> Self {
        let pinned_by = match snapshot.pinned_by {
            PinnedBy::Hand => v1::PinnedBy::Hand,
            PinnedBy::Backup => v1::PinnedBy::Backup,
        };
        v1::Snapshot {
            id: snapshot.id.to_string(),
            scenario: snapshot.scenario,
            lsn: lsn(snapshot.lsn),
            time: time(snapshot.time),
            class: v1::Class::from(snapshot.class).into(),
            pinned_by: pinned_by.into(),
            held: snapshot.held.map(duration_to_wire),
        }
    }
}

impl From<MountReport> for v1::Mounted {
    fn from(report: MountReport) -> Self {
        v1::Mounted {
            lsn: lsn(report.point.lsn),
            time: time(report.point.time),
            class: v1::Class::from(report.point.class).into(),
            directory: path_to_wire(&report.directory),
        }
    }
}
