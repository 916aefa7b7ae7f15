//! Sessions into a directory: one restore of several parts, each marked in the target until all are done.
//!
//! A job that a dead daemon had begun goes on where it was. As long as one part is marked, all of them began. When none is
//! marked, the job had either written nothing yet, or had written all and taken the marks away before its end was
//! recorded. By the rule `fail` its own files would now be in its way; so all that it would make is compared with what
//! stands there, byte by byte. If it is the same the job is done, and nothing is touched; else it begins as any other.

use super::{Host, Watch, bytes_of, options};
use crate::engine::{EngineResult, Progress, RestoreRequest};
use crate::vault::{Found, restore_error};
use restore::session::{self, IfExists, Options, Plan, Receipt, SessionRestoreError};
use std::path::Path;

/// What is restored, and how.
pub(super) type Part<'f> = (&'f RestoreRequest, &'f Found);

fn plan_all<'f>(
    parts: &[Part<'f>],
    directory: &Path,
    progress: &dyn Progress,
    began: bool,
) -> Result<Vec<Plan<'f>>, SessionRestoreError> {
    let watch = Watch(progress);
    let plan = |(request, found): &Part<'f>| {
        let (paths, options) = (bytes_of(&request.paths), Options { began, ..options(request, found) });
        session::plan(&found.repository, found.record.tree, &paths, directory, options, &watch)
    };
    parts.iter().map(plan).collect()
}

/// What all parts had done, if they did it all and only their end was not recorded.
fn done_before(
    parts: &[Part<'_>],
    directory: &Path,
    progress: &dyn Progress,
) -> Result<Option<Vec<Receipt>>, SessionRestoreError> {
    if !parts.iter().all(|(request, _)| request.again && request.if_exists() == IfExists::Fail) {
        return Ok(None);
    }
    let mut receipts = Vec::new();
    for plan in plan_all(parts, directory, progress, true)? {
        match session::stands(&plan, &Watch(progress))? {
            Some(receipt) => receipts.push(receipt),
            None => return Ok(None),
        }
    }
    // Directories alone are in nobody's way.
    Ok(receipts.iter().any(|receipt| receipt.resumed > 0).then_some(receipts))
}

/// Whether one of the parts is marked as begun.
pub(super) fn began(parts: &[Part<'_>], directory: &Path) -> Result<bool, SessionRestoreError> {
    let paths: Vec<_> = parts.iter().map(|(request, _)| bytes_of(&request.paths)).collect();
    let trees = parts.iter().map(|(_, found)| &found.record.tree);
    session::began(directory, trees.zip(paths.iter().map(Vec::as_slice)))
}

impl Host {
    /// Each part into the directory, none if anything stands in the way of one.
    pub(super) fn parts_into(
        &self,
        parts: &[Part<'_>],
        directory: &Path,
        progress: &dyn Progress,
    ) -> EngineResult<Vec<Receipt>> {
        self.check_target(directory)?;
        let failed = |error| restore_error(progress.interrupted(), error);
        let began = began(parts, directory).map_err(failed)?;
        if !began && let Some(receipts) = done_before(parts, directory, progress).map_err(failed)? {
            return Ok(receipts);
        }
        let plans = plan_all(parts, directory, progress, began).map_err(failed)?;
        let conflicts: u64 = plans.iter().map(|plan| plan.totals.conflicts).sum();
        if conflicts > 0 {
            let first = plans.iter().flat_map(|plan| plan.totals.first_conflicts.clone()).collect();
            return Err(failed(SessionRestoreError::Conflicts { first, count: conflicts }));
        }
        let (mut receipts, mut marked) = (Vec::new(), Vec::new());
        for plan in &plans {
            let (receipt, part) = session::execute_part(plan, &Watch(progress)).map_err(failed)?;
            receipts.push(receipt);
            marked.push(part);
        }
        marked.into_iter().try_for_each(session::Part::end).map_err(failed)?;
        Ok(receipts)
    }
}
