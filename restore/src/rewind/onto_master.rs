//! Carrying out a plan on a master.
//!
//! The replica follows the master all the time: what is written there comes back as captures, like anybody's changes.
//! Hence the order: everything done on the master until now is brought into the replica's tree, a bookmark is set
//! there, the difference between that and the point is written to the master, and then the two are compared again. The
//! comparison is the same plan once more; it finds nothing unless people went on changing what was being put back.
//! Then what is left is written too, a few times at most, and what still differs in the end is said.
//!
//! Nothing is remembered about how far a rewind has come: after an interruption it is begun again from a fresh flush.

use super::execute::{BEFORE_REWIND, ReplicaControl, RewindOptions, set_before};
use super::names::Note;
use super::plan::RewindPlan;
use super::steps::MasterBatch;
use crate::error::RestoreError;
use crate::monitor::Monitor;
use crate::scope::{PathFilter, is_directory};
use journal::master::{MasterChanges, MasterLink, NotWritten};
use journal::view::View;
use journal::{Event, Lsn, NodeId, RootNo, TreeIo};
use std::collections::BTreeSet;

/// How often what people changed meanwhile is put back again.
const PASSES_MAX: u32 = 4;
/// Skipped objects listed; all are counted.
const SKIPPED_MAX: usize = 200;

/// How a rewind of a master went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MasterReport {
    /// The point gone to.
    pub to: Lsn,
    /// The bookmark that leads back.
    pub before: String,
    /// The LSN at which master and replica were compared with the point.
    pub compared: Lsn,
    /// Whether they were equal to it there.
    pub equal: bool,
    /// Files written, made, moved or removed.
    pub files_changed: u64,
    /// Bytes of files sent to the master.
    pub bytes_written: u64,
    /// The first of what could not be written.
    pub skipped: Vec<NotWritten>,
    /// All of it.
    pub skipped_count: u64,
    /// What one would not expect.
    pub notes: Vec<Note>,
}

/// Makes a master's tree equal to a point of its replica, which follows it and keeps following it.
///
/// # Errors
/// Those of the plan; `Master` if the master does not do its part; `Cancelled`. What was written stays; calling again
/// goes on.
pub fn rewind_master<R: ReplicaControl>(
    replica: &R,
    master: &dyn MasterLink,
    then: &View<R::Tree>,
    options: &RewindOptions,
    monitor: &dyn Monitor,
) -> Result<MasterReport, RestoreError> {
    let failed = RestoreError::journal("open a view");
    let mut head = flush(replica, master)?;
    let before = match &options.before {
        Some(name) => name.clone(),
        None => set_before(replica, head, BEFORE_REWIND, options.now)?,
    };
    let mut report = MasterReport {
        to: then.lsn(),
        before,
        compared: head,
        equal: false,
        files_changed: 0,
        bytes_written: 0,
        skipped: Vec::new(),
        skipped_count: 0,
        notes: Vec::new(),
    };
    let mut changed = BTreeSet::new();
    for pass in 0..PASSES_MAX {
        let now = replica.view(head).map_err(&failed)?;
        let paths = if pass == 0 { options.paths.clone() } else { existing(&options.paths, &now, then)? };
        if paths.is_empty() && !options.paths.is_empty() {
            report.equal = true;
            break;
        }
        let plan = RewindPlan::onto_master(&now, then, &paths, monitor)?;
        if pass == 0 {
            report.notes = plan.notes().to_vec();
        }
        let skipped_before = report.skipped_count;
        let mut writer =
            Writer { master, report: &mut report, changed: &mut changed, moved: false, held: None };
        if !writer.write(&plan, monitor)? {
            report.equal = true;
            break;
        }
        head = flush(replica, master)?;
        report.compared = head;
        // What cannot be written will not be written the next time either.
        if report.skipped_count > skipped_before {
            break;
        }
    }
    if !report.equal {
        let now = replica.view(head).map_err(&failed)?;
        let paths = existing(&options.paths, &now, then)?;
        let mut equal = true;
        if !paths.is_empty() || options.paths.is_empty() {
            let plan = RewindPlan::onto_master(&now, then, &paths, monitor)?;
            plan.master_batches(monitor, &mut |_| {
                equal = false;
                Ok(())
            })?;
        }
        report.equal = equal;
    }
    report.files_changed = changed.len() as u64;
    Ok(report)
}

/// Paths at which something stands at one of the two points: what is missing at both is equal.
fn existing<T: TreeIo>(
    paths: &[PathFilter],
    now: &View<T>,
    then: &View<T>,
) -> Result<Vec<PathFilter>, RestoreError> {
    let failed = RestoreError::journal("look for the paths");
    let mut found = Vec::new();
    for filter in paths {
        let (root, path) = (filter.root, filter.path());
        if now.resolve(root, &path).map_err(&failed)?.is_some()
            || then.resolve(root, &path).map_err(&failed)?.is_some()
        {
            found.push(filter.clone());
        }
    }
    Ok(found)
}

fn flush<R: ReplicaControl>(replica: &R, master: &dyn MasterLink) -> Result<Lsn, RestoreError> {
    let lsn = master.flush().map_err(|source| RestoreError::Master { operation: "flush", source })?;
    // What came after it may be there already.
    Ok(lsn.max(Lsn::captured(replica.applied().captured)))
}

/// Hands a plan to a master. One batch is held back, so that the last can be told to be the last.
struct Writer<'w> {
    master: &'w dyn MasterLink,
    report: &'w mut MasterReport,
    changed: &'w mut BTreeSet<NodeId>,
    moved: bool,
    held: Option<MasterBatch>,
}

impl Writer<'_> {
    /// Whether anything was written.
    fn write<T: TreeIo>(
        &mut self,
        plan: &RewindPlan<'_, T>,
        monitor: &dyn Monitor,
    ) -> Result<bool, RestoreError> {
        let failed = RestoreError::journal("count files");
        let mut any = false;
        let written = plan.master_batches(monitor, &mut |batch| {
            any = true;
            for node in batch.events.iter().filter_map(node_of) {
                let original = plan.original(node);
                let places = plan.difference.to();
                if !is_directory(places, original).map_err(&failed)? {
                    self.changed.insert(node);
                }
            }
            self.removed_files(plan, &batch)?;
            if let Some(ready) = self.held.replace(batch) {
                self.send(ready, false)?;
            }
            // The rest of this plan is about a tree that is not there any more.
            if self.moved { Err(RestoreError::Cancelled) } else { Ok(()) }
        });
        match (written, self.held.take()) {
            (Ok(()), Some(last)) => self.send(last, true)?,
            (Ok(()), None) => {}
            (Err(_), _) if self.moved => self.end()?,
            (Err(error), _) => {
                // The first error is the one that counts.
                let _ = self.end();
                return Err(error);
            }
        }
        Ok(any)
    }

    /// Lets the master clear away what it keeps for what is under way.
    fn end(&mut self) -> Result<(), RestoreError> {
        let nothing = MasterChanges { root: RootNo(0), events: Vec::new(), last: true };
        let ended = self.master.write(nothing);
        ended.map(drop).map_err(|source| RestoreError::Master { operation: "write", source })
    }

    /// Files that go with their directories.
    fn removed_files<T: TreeIo>(
        &mut self,
        plan: &RewindPlan<'_, T>,
        batch: &MasterBatch,
    ) -> Result<(), RestoreError> {
        let failed = RestoreError::journal("count files");
        let now = plan.difference.from();
        for event in &batch.events {
            let Event::Remove { node, .. } = event else { continue };
            let mut rest = vec![*node];
            while let Some(node) = rest.pop() {
                if !is_directory(now, node).map_err(&failed)? {
                    self.changed.insert(node);
                    continue;
                }
                for entry in now.view().list(node) {
                    rest.push(entry.map_err(&failed)?.1);
                }
            }
        }
        Ok(())
    }

    fn send(&mut self, batch: MasterBatch, last: bool) -> Result<(), RestoreError> {
        let MasterBatch { root, events, bytes, .. } = batch;
        let written = self.master.write(MasterChanges { root, events, last });
        let written = written.map_err(|source| RestoreError::Master { operation: "write", source })?;
        self.report.bytes_written += bytes;
        self.report.skipped_count += written.skipped_count;
        let room = SKIPPED_MAX.saturating_sub(self.report.skipped.len());
        self.report.skipped.extend(written.skipped.into_iter().take(room));
        self.moved |= written.moved;
        Ok(())
    }
}

fn node_of(event: &Event) -> Option<NodeId> {
    match event {
        Event::Create { node, .. }
        | Event::Link { node, .. }
        | Event::Rename { node, .. }
        | Event::Write { node, .. }
        | Event::Punch { node, .. }
        | Event::Resize { node, .. }
        | Event::SetAttributes { node, .. } => Some(*node),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
