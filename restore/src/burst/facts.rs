//! What each capture did to files, from the journal's list of changes.
//!
//! One pass over the rows of a range, in order. A capture is told as facts about files: bytes replaced, names changed,
//! come and gone. Growing is no replacing: what is appended or created overwrites nothing. Directories are left out,
//! and so is what the replica did to itself. Memory: the rows of one capture.

use crate::before::{meta_before, name_before};
use crate::error::RestoreError;
use crate::monitor::{Monitor, Phase};
use crate::rewind::ReplicaControl;
use journal::state::State;
use journal::state::rows::{Change, PointRow, change_key, read};
use journal::tables::Space;
use journal::{Edge, Lsn, NodeId, Provenance, RootNo, Tables, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

/// Bytes replaced from which a file counts as rewritten, if it is not half of it anyway: encryption that leaves most of
/// a file alone to be quick begins with its first page.
const REWRITTEN_BYTES: u64 = 4096;
/// Rows read between two looks at the monitor.
const ROWS_A_STEP: u64 = 4096;

/// Something a capture did to a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Half of its bytes or some pages were replaced or cut off.
    Rewritten,
    /// Less than that, or metadata.
    Edited,
    /// It goes by another name.
    Renamed { from: Edge, to: Edge },
    /// Another file took its name.
    Replaced { at: Edge, by: NodeId },
    /// Its name is gone.
    Gone { at: Edge },
    /// It is new, or has one more name.
    Came { at: Edge },
}

/// A fact about a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// The capture.
    pub lsn: u64,
    /// The master's clock.
    pub time: Timestamp,
    /// Its root.
    pub root: RootNo,
    /// It was found by a rescan: when it happened is not known.
    pub rescan: bool,
    /// The file.
    pub node: NodeId,
    /// What was done to it.
    pub what: What,
}

/// Hands over the facts of captures after `after`, up to `upto`, in order, until `each` breaks.
pub fn read_facts<R: ReplicaControl>(
    replica: &R,
    after: Lsn,
    upto: Lsn,
    monitor: &dyn Monitor,
    each: &mut dyn FnMut(Fact) -> Result<ControlFlow<()>, RestoreError>,
) -> Result<(), RestoreError> {
    let failed = RestoreError::journal("read the list of changes");
    let view = replica.view(upto).map_err(RestoreError::journal("open a view"))?;
    let tables = &**view.tables();
    let (from, to) = (change_key(after.successor(), 0), change_key(upto.successor(), 0));
    let mut changes: Vec<Change> = Vec::new();
    let mut under_way = None;
    for (number, row) in tables.range(Space::Changes, &from, &to).enumerate() {
        if (number as u64).is_multiple_of(ROWS_A_STEP) {
            monitor.progress(Phase::Compare, number as u64, None);
            if monitor.cancelled() {
                return Err(RestoreError::Cancelled);
            }
        }
        let (key, value) = row.map_err(&failed)?;
        let Some(lsn) = key.get(..16).and_then(Lsn::from_key) else { continue };
        if under_way.is_some_and(|before| before != lsn)
            && hand_over(replica, tables, under_way, &changes, each)?.is_break()
        {
            return Ok(());
        }
        if under_way != Some(lsn) {
            changes.clear();
            under_way = Some(lsn);
        }
        changes.push(read(Space::Changes, &value).map_err(&failed)?);
    }
    hand_over(replica, tables, under_way, &changes, each).map(drop)
}

fn hand_over<R: ReplicaControl>(
    replica: &R,
    tables: &dyn Tables,
    lsn: Option<Lsn>,
    changes: &[Change],
    each: &mut dyn FnMut(Fact) -> Result<ControlFlow<()>, RestoreError>,
) -> Result<ControlFlow<()>, RestoreError> {
    let failed = RestoreError::journal("read the list of changes");
    let Some(lsn) = lsn.filter(|lsn| !lsn.is_local()) else { return Ok(ControlFlow::Continue(())) };
    let Some(point) = tables.get(Space::Points, &lsn.to_key()).map_err(&failed)? else {
        return Ok(ControlFlow::Continue(()));
    };
    let point: PointRow = read(Space::Points, &point).map_err(&failed)?;
    if matches!(point.provenance, Provenance::Local | Provenance::Synchronization) {
        return Ok(ControlFlow::Continue(()));
    }
    let found = facts_of(replica, tables, lsn, changes)?;
    for (node, what) in found {
        let rescan = point.provenance == Provenance::Rescan;
        let fact = Fact { lsn: lsn.captured, time: point.time, root: point.root, rescan, node, what };
        if each(fact)?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

fn facts_of<R: ReplicaControl>(
    replica: &R,
    tables: &dyn Tables,
    lsn: Lsn,
    changes: &[Change],
) -> Result<Vec<(NodeId, What)>, RestoreError> {
    let failed = RestoreError::journal("read the list of changes");
    let mut facts = Vec::new();
    let mut written = BTreeSet::new();
    let (mut gone, mut come): (BTreeMap<NodeId, Edge>, BTreeMap<NodeId, Edge>) = Default::default();
    for change in changes {
        match change {
            Change::Name(edge) if !edge.parent.is_kept_area() => {
                let before = name_before(tables, edge, lsn).map_err(&failed)?;
                let after = name_before(tables, edge, lsn.successor()).map_err(&failed)?;
                if before != after {
                    gone.extend(before.map(|node| (node, edge.clone())));
                    come.extend(after.map(|node| (node, edge.clone())));
                }
            }
            Change::Name(_) => {}
            Change::Node(node) => drop(written.insert(*node)),
            Change::Data(node) => {
                written.remove(node);
                if is_rewritten(replica, tables, *node, lsn)? {
                    facts.push((*node, What::Rewritten));
                } else {
                    written.insert(*node);
                }
            }
        }
    }
    let arrivals: BTreeMap<Edge, NodeId> = come.iter().map(|(node, edge)| (edge.clone(), *node)).collect();
    for (node, from) in gone {
        let what = match (come.remove(&node), arrivals.get(&from)) {
            (Some(to), _) => What::Renamed { from, to },
            (None, Some(by)) => What::Replaced { at: from, by: *by },
            (None, None) => What::Gone { at: from },
        };
        facts.push((node, what));
    }
    facts.extend(come.into_iter().map(|(node, at)| (node, What::Came { at })));
    let rewritten: BTreeSet<NodeId> =
        facts.iter().filter(|(_, what)| *what == What::Rewritten).map(|(node, _)| *node).collect();
    facts.extend(written.difference(&rewritten).map(|node| (*node, What::Edited)));
    let mut files = Vec::new();
    for (node, what) in facts {
        let row = State::node(tables, node).map_err(&failed)?;
        if row.is_some_and(|row| row.meta.kind.is_file()) {
            files.push((node, what));
        }
    }
    Ok(files)
}

/// Whether much of what the file held before the capture is gone after it.
fn is_rewritten<R: ReplicaControl>(
    replica: &R,
    tables: &dyn Tables,
    node: NodeId,
    lsn: Lsn,
) -> Result<bool, RestoreError> {
    let failed = RestoreError::journal("read the list of changes");
    let before = meta_before(tables, node, lsn).map_err(&failed)?.map_or(0, |meta| meta.size);
    let enough = before.div_ceil(2).clamp(1, REWRITTEN_BYTES);
    if before == 0 {
        return Ok(false);
    }
    let after = meta_before(tables, node, lsn.successor()).map_err(&failed)?.map_or(0, |meta| meta.size);
    if before.saturating_sub(after) >= enough {
        return Ok(true);
    }
    let view = replica.view(Lsn::captured(lsn.captured.saturating_sub(1)));
    let view = view.map_err(RestoreError::journal("open a view"))?;
    let mut replaced = 0;
    for extent in view.changed_extents(node, lsn, 0) {
        let extent = extent.map_err(&failed)?;
        replaced += extent.end.min(before).saturating_sub(extent.start);
        if replaced >= enough {
            return match after > before {
                true => differs(replica, node, lsn, extent.start, enough),
                false => Ok(true),
            };
        }
    }
    Ok(false)
}

/// Whether bytes of a file that grew are others than before: its last page is captured anew when something is appended.
fn differs<R: ReplicaControl>(
    replica: &R,
    node: NodeId,
    lsn: Lsn,
    offset: u64,
    bytes: u64,
) -> Result<bool, RestoreError> {
    let failed = RestoreError::journal("compare bytes of a file");
    let read = |lsn: u64| -> Result<Vec<u8>, RestoreError> {
        let view = replica.view(Lsn::captured(lsn)).map_err(&failed)?;
        let mut file = view.open(node).map_err(&failed)?;
        let mut buffer = vec![0; bytes as usize];
        let read = file.read_at(&mut buffer, offset).map_err(&failed)?;
        buffer.truncate(read);
        Ok(buffer)
    };
    let (old, new) = (read(lsn.captured.saturating_sub(1))?, read(lsn.captured)?);
    let others = old.iter().zip(&new).filter(|(old, new)| old != new).count();
    Ok(others * 2 >= old.len().max(1))
}
