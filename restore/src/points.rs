//! From what a person names to a place in history.
//!
//! Times of captured LSNs never decrease, so a time is found by bisection over the rows of points; a few rows are
//! read, however long the journal is. Local LSNs carry the time of what was journaled when they were minted and are
//! not in this order: a time always means a captured LSN. Those that fit a filter are found by [`Points::search`].

mod renames;
mod search;

pub use renames::old_path;
pub use search::{Search, Wanted};

use crate::error::RestoreError;
use journal::controls::Controls;
use journal::journal::Journal;
use journal::state::PointRow;
use journal::state::rows::read;
use journal::{Class, Lsn, Space, Tables, Timestamp};

/// A point, found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// Its place in history.
    pub lsn: Lsn,
    /// The master's clock there.
    pub time: Timestamp,
    /// How consistent it is.
    pub class: Class,
}

/// The points of a replica that can be gone to: applied and not dropped.
pub struct Points<'t> {
    tables: &'t dyn Tables,
    oldest: Lsn,
    newest: Lsn,
}

impl<'t> Points<'t> {
    /// Points from `oldest` to `newest`, both included.
    #[must_use]
    pub fn new(tables: &'t dyn Tables, oldest: Lsn, newest: Lsn) -> Self {
        Points { tables, oldest, newest }
    }

    /// The points of a journal whose tree stands at `journal.applied()`.
    #[must_use]
    pub fn of(journal: &'t Journal) -> Self {
        Points::new(&**journal.tables(), journal.window().0, journal.applied())
    }

    /// The point at an LSN.
    ///
    /// # Errors
    /// `NoSuchPoint` outside the window and for an LSN that nobody minted; as the tables.
    pub fn at(&self, lsn: Lsn) -> Result<Resolved, RestoreError> {
        let missing = || RestoreError::NoSuchPoint { point: lsn.to_string() };
        if lsn < self.oldest || lsn > self.newest {
            return Err(missing());
        }
        let row = self.row(lsn)?.ok_or_else(missing)?;
        Ok(resolved(lsn, &row))
    }

    /// What a bookmark names. It may lie outside the window; then its point is refused when it is opened.
    ///
    /// # Errors
    /// `NoSuchPoint`.
    pub fn bookmark(controls: &Controls, name: &str) -> Result<Resolved, RestoreError> {
        let bookmark = controls.bookmarks.get(name);
        let bookmark =
            bookmark.ok_or_else(|| RestoreError::NoSuchPoint { point: format!("bookmark:{name}") })?;
        Ok(Resolved { lsn: bookmark.lsn(), time: bookmark.time, class: bookmark.class })
    }

    /// The newest captured LSN at or before a time.
    ///
    /// # Errors
    /// `NoSuchPoint` if all points are younger; as the tables.
    pub fn at_time(&self, time: Timestamp) -> Result<Resolved, RestoreError> {
        // The oldest point may be a local one; the first captured one is not before it.
        let first = self.oldest.captured + u64::from(self.oldest.is_local());
        let (mut low, mut high) = (first, self.newest.captured.saturating_add(1));
        let mut found = None;
        // Everything before `low` is at or before `time`, everything from `high` on is younger.
        while low < high {
            let middle = low + (high - low) / 2;
            match self.captured_from(middle, high)? {
                Some((lsn, row)) if row.time <= time => {
                    low = lsn.captured + 1;
                    found = Some(resolved(lsn, &row));
                }
                _ => high = middle,
            }
        }
        found.ok_or_else(|| RestoreError::NoSuchPoint {
            point: format!("at {} ns since 1970 or before", time.0),
        })
    }

    /// The first captured LSN with a row in `from..to`.
    fn captured_from(&self, from: u64, to: u64) -> Result<Option<(Lsn, PointRow)>, RestoreError> {
        let failed = RestoreError::journal("read points");
        let mut from = Lsn::captured(from);
        let to = Lsn::captured(to);
        while from < to {
            let Some(row) = self.tables.range(Space::Points, &from.to_key(), &to.to_key()).next() else {
                break;
            };
            let (key, value) = row.map_err(&failed)?;
            let Some(lsn) = Lsn::from_key(&key) else { break };
            if !lsn.is_local() {
                return Ok(Some((lsn, read(Space::Points, &value).map_err(&failed)?)));
            }
            // A local branch may be long: go on behind it.
            from = Lsn::captured(lsn.captured.saturating_add(1));
        }
        Ok(None)
    }

    fn row(&self, lsn: Lsn) -> Result<Option<PointRow>, RestoreError> {
        let failed = RestoreError::journal("read points");
        let value = self.tables.get(Space::Points, &lsn.to_key()).map_err(&failed)?;
        value.map(|value| read(Space::Points, &value)).transpose().map_err(&failed)
    }
}

fn resolved(lsn: Lsn, row: &PointRow) -> Resolved {
    Resolved { lsn, time: row.time, class: row.class }
}

#[cfg(test)]
mod tests;
