//! Carrying out a way back to several points: one rewind after the other, under one bookmark.
//!
//! The paths of the points are different ones, so that no rewind undoes another; together they are one change with one
//! bookmark before the first. Interrupted, the same call with [`RewindOptions::before`] begins again at the first
//! point, where it finds nothing left to do.

use super::touched::LastGoodGroup;
use crate::error::RestoreError;
use crate::monitor::Monitor;
use crate::rewind::{
    MasterReport, ReplicaControl, RewindOptions, RewindReport, rewind_master, rewind_replica,
};
use journal::MasterLink;

/// Makes the paths of every group in the replica tree as they were at its point. `None` if there are no groups.
///
/// # Errors
/// As [`rewind_replica`].
pub fn replica_to_groups<R: ReplicaControl>(
    replica: &R,
    groups: &[LastGoodGroup],
    options: &RewindOptions,
    monitor: &dyn Monitor,
) -> Result<Option<RewindReport>, RestoreError> {
    let mut whole: Option<RewindReport> = None;
    for group in groups {
        let options = RewindOptions {
            paths: group.paths.clone(),
            now: options.now,
            before: whole.as_ref().map(|done| done.before.clone()).or_else(|| options.before.clone()),
        };
        let report = rewind_replica(replica, group.point, &options, monitor)?;
        match &mut whole {
            None => whole = Some(report),
            Some(whole) => {
                whole.applied = report.applied;
                whole.files_changed += report.files_changed;
                whole.bytes_written += report.bytes_written;
                whole.captures += report.captures;
                whole.notes.extend(report.notes);
            }
        }
    }
    Ok(whole)
}

/// The same on a master, which its replica follows.
///
/// # Errors
/// As [`rewind_master`].
pub fn master_to_groups<R: ReplicaControl>(
    replica: &R,
    master: &dyn MasterLink,
    groups: &[LastGoodGroup],
    options: &RewindOptions,
    monitor: &dyn Monitor,
) -> Result<Option<MasterReport>, RestoreError> {
    let mut whole: Option<MasterReport> = None;
    for group in groups {
        let then = replica.view(group.point).map_err(RestoreError::journal("open a view"))?;
        let options = RewindOptions {
            paths: group.paths.clone(),
            now: options.now,
            before: whole.as_ref().map(|done| done.before.clone()).or_else(|| options.before.clone()),
        };
        let report = rewind_master(replica, master, &then, &options, monitor)?;
        match &mut whole {
            None => whole = Some(report),
            Some(whole) => {
                whole.compared = report.compared;
                whole.equal &= report.equal;
                whole.files_changed += report.files_changed;
                whole.bytes_written += report.bytes_written;
                whole.skipped.extend(report.skipped);
                whole.skipped_count += report.skipped_count;
                whole.notes.extend(report.notes);
            }
        }
    }
    Ok(whole)
}
