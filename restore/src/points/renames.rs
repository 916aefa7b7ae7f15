//! Old paths of renames.
//!
//! A capture says what was renamed and what it is called now; rows of points hold no more, since they are made where only
//! the capture is known. What it was called before stands in the tables once it is applied: the names that the capture
//! touched, each with what stood there before. The name that lost what now stands at the new path is the old one. In the
//! same directory that is all; else the directory's path is looked up just before the capture, so that directories that
//! were themselves renamed since are called what they were called then.
//!
//! Nothing is guessed: what is not applied yet, a new hard link, and a point behind which the window ends have no old path.

use crate::before::name_before;
use crate::error::RestoreError;
use crate::rewind::ReplicaControl;
use journal::state::PointKind;
use journal::state::rows::{Change, PointRow, change_key, read};
use journal::view::{Places, join};
use journal::{Edge, JournalError, Lsn, Space, Tables};
use std::collections::BTreeMap;

/// Most names of one capture that are looked at; more are no rename by hand.
const NAMES_MAX: usize = 1024;

/// The path below its root that the point's object had before, if the point renamed it.
///
/// # Errors
/// As the tables.
pub fn old_path<R: ReplicaControl>(
    replica: &R,
    lsn: Lsn,
    row: &PointRow,
) -> Result<Option<Vec<u8>>, RestoreError> {
    if row.kind != PointKind::Renamed || row.from.is_some() {
        return Ok(row.from.clone());
    }
    let failed = RestoreError::journal("look for the old name of a point");
    let views = replica.view(before(lsn)).and_then(|then| Ok((then, replica.view(lsn)?)));
    let (then, now) = match views {
        Ok(views) => views,
        // What was thinned out there cannot be told where the file that says it is damaged: no reason to list no points.
        Err(
            JournalError::OutsideWindow { .. }
            | JournalError::Thinned { .. }
            | JournalError::Damaged { .. }
            | JournalError::Poisoned { .. },
        ) => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let moved = renamed(&**now.tables(), lsn, split(&row.path).1).map_err(&failed)?;
    let places = Places::new(&now);
    for (from, to) in moved {
        let found = places.path(&to).map_err(&failed)?;
        if found.is_none_or(|(root, path)| root != row.root || path != row.path) {
            continue;
        }
        if from.parent == to.parent {
            return Ok(Some(join(split(&row.path).0, from.name.as_bytes())));
        }
        let found = Places::new(&then).path(&from).map_err(&failed)?;
        return Ok(found.filter(|(root, _)| *root == row.root).map(|(_, path)| path));
    }
    Ok(None)
}

/// The point before this one.
fn before(lsn: Lsn) -> Lsn {
    match lsn.local.checked_sub(1) {
        Some(local) => Lsn::local(lsn.captured, local),
        None => Lsn::captured(lsn.captured.saturating_sub(1)),
    }
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (path.get(..slash).unwrap_or_default(), path.get(slash + 1..).unwrap_or_default()),
        None => (&[], path),
    }
}

/// Old and new names of what the capture gave this name.
fn renamed(tables: &dyn Tables, lsn: Lsn, name: &[u8]) -> Result<Vec<(Edge, Edge)>, JournalError> {
    let (first, end) = (change_key(lsn, 0), change_key(lsn.successor(), 0));
    let mut edges = Vec::new();
    for row in tables.range(Space::Changes, &first, &end) {
        match read(Space::Changes, &row?.1)? {
            Change::Name(edge) if !edge.parent.is_kept_area() => edges.push(edge),
            _ => {}
        }
        if edges.len() > NAMES_MAX {
            return Ok(Vec::new());
        }
    }
    let (mut gone, mut come) = (BTreeMap::new(), Vec::new());
    for edge in edges {
        let (then, now) = (name_before(tables, &edge, lsn)?, name_before(tables, &edge, lsn.successor())?);
        if then != now {
            come.extend(now.filter(|_| edge.name.as_bytes() == name).map(|node| (node, edge.clone())));
            gone.extend(then.map(|node| (node, edge)));
        }
    }
    Ok(come.into_iter().filter_map(|(node, to)| Some((gone.get(&node)?.clone(), to))).collect())
}
