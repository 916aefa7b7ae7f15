//! Which points a list of them has: exactly, and as far as blocks of points can tell.
//!
//! The two stand side by side because the second must take all that the first takes: it decides which points are looked
//! at, the first which of them are given.

use crate::engine::{PointKind, PointsQuery};
use crate::globs::PathGlobs;
use journal::state::summary::Kinds;
use journal::state::{PointKind as RowKind, PointRow};
use journal::{Lsn, Timestamp};
use restore::points::Wanted;
use std::path::{Path, PathBuf};

const ROW_KINDS: [RowKind; 6] = [
    RowKind::Created,
    RowKind::Modified,
    RowKind::Renamed,
    RowKind::Removed,
    RowKind::Attributes,
    RowKind::Marker,
];

/// The kind of a point as people see it.
#[must_use]
pub fn kind_of(kind: RowKind) -> PointKind {
    match kind {
        RowKind::Created => PointKind::Created,
        RowKind::Modified => PointKind::Modified,
        RowKind::Renamed => PointKind::Renamed,
        RowKind::Removed => PointKind::Removed,
        RowKind::Attributes => PointKind::Attributes,
        RowKind::Marker => PointKind::Marker,
    }
}

/// A filter of points, its times resolved.
#[derive(Clone, Debug)]
pub struct PointFilter<'q> {
    /// Only these kinds; empty: all.
    pub kinds: &'q [PointKind],
    /// Only what touches these paths.
    pub paths: Option<&'q PathGlobs>,
    /// The master's directories, by number of the root.
    pub roots: Vec<PathBuf>,
    /// Not older.
    pub since: Option<Timestamp>,
    /// Not younger.
    pub until: Option<Timestamp>,
}

impl<'q> PointFilter<'q> {
    /// That of a query.
    #[must_use]
    pub fn new(
        query: &'q PointsQuery,
        roots: Vec<PathBuf>,
        (since, until): (Option<Timestamp>, Option<Timestamp>),
    ) -> Self {
        PointFilter { kinds: &query.kinds, paths: query.paths.as_ref(), roots, since, until }
    }

    fn has_kind(&self, kind: PointKind) -> bool {
        self.kinds.is_empty() || self.kinds.contains(&kind)
    }

    /// Whether a point of this time is given.
    #[must_use]
    pub fn takes_time(&self, time: Timestamp) -> bool {
        self.since.is_none_or(|since| time >= since) && self.until.is_none_or(|until| time <= until)
    }

    /// Whether bookmarks are given. They are at no path.
    #[must_use]
    pub fn takes_bookmarks(&self) -> bool {
        self.has_kind(PointKind::Bookmark) && self.paths.is_none()
    }

    /// Whether a point is given.
    #[must_use]
    pub fn takes(&self, row: &PointRow) -> bool {
        if !self.takes_time(row.time) || !self.has_kind(kind_of(row.kind)) {
            return false;
        }
        let Some(globs) = self.paths else { return true };
        if row.kind == RowKind::Marker {
            return false;
        }
        let root = self.roots.get(usize::from(row.root.0)).map_or(Path::new(""), PathBuf::as_path);
        globs.matches(root, &row.path) || row.from.as_ref().is_some_and(|from| globs.matches(root, from))
    }

    /// What is looked at: all that [`PointFilter::takes`] takes, and the points of these bookmarks (ascending) where
    /// bookmarks are given.
    #[must_use]
    pub fn wanted(&self, marks: Vec<Lsn>) -> Wanted {
        let has = |kind: &RowKind| {
            self.has_kind(kind_of(*kind)) && (self.paths.is_none() || *kind != RowKind::Marker)
        };
        let roots: Vec<&Path> = self.roots.iter().map(PathBuf::as_path).collect();
        Wanted {
            kinds: ROW_KINDS
                .iter()
                .filter(|kind| has(kind))
                .fold(Kinds::NONE, |kinds, kind| kinds.with(*kind)),
            paths: self.paths.map(|globs| globs.needs(&roots)),
            since: self.since,
            until: self.until,
            marks: if self.takes_bookmarks() { marks } else { Vec::new() },
        }
    }
}
