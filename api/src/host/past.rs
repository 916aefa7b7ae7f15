//! Points, bookmarks, differences: what needs only the replica.

use super::control::Control as Controlled;
use super::error;
use super::running::master_path;
use super::scene::Scene;
use crate::engine::{
    Bookmark, BookmarkRequest, Change, Counts, DiffSums, Each, EngineError, EngineResult, Flushed, Interrupt,
    Point, PointKind, PointsQuery, Progress, ResolvedPoint, State,
};
use crate::point_filter::{PointFilter, kind_of};
use crate::points::{PointSpec, TimeSpec};
use journal::controls::{Controls, Synchronized};
use journal::journal::Journal;
use journal::record::Control;
use journal::state::PointRow;
use journal::{JournalError, Lsn, Provenance, Space, Timestamp};
use replication::os_tree::OsTree;
use replication::replica::Replica;
use restore::points::old_path;
use restore::{Entry, Monitor, Phase, Points, Scope};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};
use wire::codes;

/// Progress of a job, as restore reports it.
pub(super) struct Watch<'p>(pub &'p dyn Progress);

impl Monitor for Watch<'_> {
    fn progress(&self, phase: Phase, done: u64, total: Option<u64>) {
        let (word, unit) = match phase {
            Phase::Compare => ("compare", "rows"),
            Phase::Rewind => ("rewind", "changes"),
            Phase::Extract => ("extract", "objects"),
        };
        self.0.report(word, done, total, unit);
    }

    fn cancelled(&self) -> bool {
        self.0.interrupted().is_some()
    }
}

/// What restore says of a call that may have been interrupted.
pub(super) fn failed(progress: &dyn Progress, cause: restore::RestoreError) -> EngineError {
    match (&cause, progress.interrupted()) {
        (restore::RestoreError::Cancelled, Some(interrupt)) => EngineError::interrupted(interrupt),
        (restore::RestoreError::Cancelled, None) => EngineError::interrupted(Interrupt::Cancelled),
        _ => error::restore(cause),
    }
}

impl Scene {
    pub(super) fn synchronized(&self, replica: &Replica<OsTree>) -> EngineResult<()> {
        if replica.journal().with_controls(|controls| controls.first_point) != 0 {
            return Ok(());
        }
        let (code, words) = match replica.journal().synchronized() {
            Synchronized::Never => {
                (&codes::NOT_REPLICATING, "has not been synchronized: there is no point yet")
            }
            _ => (&codes::SYNCHRONIZING, "is being synchronized: there is no point before it has completed"),
        };
        Err(EngineError::new(code, format!("scenario \"{}\" {words}", self.name())))
    }

    /// See [`crate::engine::Engine::resolve`].
    pub(super) fn resolve(&self, point: &PointSpec) -> EngineResult<ResolvedPoint> {
        let replica = self.replica()?;
        self.synchronized(&replica)?;
        let journal = replica.journal();
        let points = Points::of(journal);
        let found = match point {
            PointSpec::Bookmark(name) => Points::bookmark(&journal.controls(), name).map_err(|_| {
                let message = format!("scenario \"{}\" has no bookmark \"{name}\"", self.name());
                EngineError::new(&codes::NO_SUCH_BOOKMARK, message)
            })?,
            PointSpec::LastGood(range) => return self.before_burst(*range),
            PointSpec::Lsn(lsn) => points.at(*lsn).map_err(|_| self.outside(*lsn, &replica))?,
            PointSpec::Time(time) => points.at_time(*time).map_err(error::restore)?,
            PointSpec::Ago(ago) => {
                points.at_time(before(journal.journaled_time(), *ago)).map_err(error::restore)?
            }
            PointSpec::Now => points.at(self.newest(&replica)).map_err(error::restore)?,
        };
        if let Some((before, after)) = journal.thinned_out(found.lsn)? {
            return Err(journal::JournalError::Thinned { lsn: found.lsn, before, after }.into());
        }
        Ok(ResolvedPoint { lsn: found.lsn, time: found.time, class: found.class })
    }

    /// The newest point of the captured stream that the tree has seen.
    fn newest(&self, replica: &Replica<OsTree>) -> Lsn {
        Lsn::captured(replica.journal().applied().captured)
    }

    pub(super) fn outside(&self, lsn: Lsn, replica: &Replica<OsTree>) -> EngineError {
        let (oldest, _) = replica.journal().window();
        let newest = replica.journal().applied();
        let message = format!("LSN {lsn} of scenario \"{}\" is no point that can be read", self.name());
        EngineError::new(&codes::OUTSIDE_WINDOW, message)
            .because(format!("The window goes from {oldest} to {newest}."))
    }

    /// Refuses where points are not kept.
    pub(super) fn keeps_points(&self) -> EngineResult<()> {
        if self.definition().rewind {
            return Ok(());
        }
        let message = format!("scenario \"{}\" keeps no rewind points (rewind=off)", self.name());
        Err(EngineError::new(&codes::NOT_CONFIGURED, message))
    }

    /// A point of now: a barrier that is journaled.
    pub(super) fn point_now(&self, consistent: bool, timeout: Duration) -> EngineResult<Flushed> {
        let state = self.state();
        match state {
            State::Replicating | State::Detached => {}
            State::Synchronizing => {
                let message = format!("scenario \"{}\" is being synchronized", self.name());
                return Err(EngineError::new(&codes::SYNCHRONIZING, message));
            }
            _ => return Err(EngineError::not_replicating(self.name(), state)),
        }
        let give_up = Instant::now() + timeout;
        let flushed = match consistent {
            true => self.consistent_point(timeout)?,
            false => self.barrier(timeout)?,
        };
        let left = give_up.saturating_duration_since(Instant::now());
        if !self.replica()?.journal().wait_journaled(flushed.lsn, left) {
            return Err(EngineError::new(
                &codes::TIMED_OUT,
                "the barrier of the point was not journaled in time",
            ));
        }
        Ok(flushed)
    }

    /// See [`crate::engine::Engine::set_bookmark`].
    pub(super) fn set_bookmark(&self, request: &BookmarkRequest) -> EngineResult<Bookmark> {
        self.keeps_points()?;
        let replica = self.replica()?;
        let mut held = None;
        let (lsn, time, class) = match &request.at {
            Some(point) => {
                let resolved = self.resolve(point)?;
                (resolved.lsn, resolved.time, resolved.class)
            }
            None => {
                let taken = replica.journal().with_controls(|now| now.bookmarks.contains_key(&request.name));
                if taken {
                    // Found out now, not after an application was held for it.
                    return Err(JournalError::Exists { what: "bookmark", name: request.name.clone() }.into());
                }
                let now = self.point_now(request.consistent, request.timeout)?;
                held = now.held;
                (now.lsn, now.time, now.class)
            }
        };
        let set = replica.journal().set_bookmark(&request.name, lsn, class, false, time)?;
        Ok(Bookmark { name: request.name.clone(), lsn: set.lsn(), time, class, automatic: false, held })
    }

    /// See [`crate::engine::Engine::list_bookmarks`].
    pub(super) fn list_bookmarks(&self) -> EngineResult<Vec<Bookmark>> {
        let controls = self.replica()?.journal().controls();
        let mut list: Vec<_> = bookmarks(&controls).collect();
        list.sort_by(|a, b| (a.lsn, &a.name).cmp(&(b.lsn, &b.name)));
        Ok(list)
    }

    /// See [`crate::engine::Engine::delete_bookmark`].
    pub(super) fn delete_bookmark(&self, name: &str) -> EngineResult<Bookmark> {
        let replica = self.replica()?;
        let found = bookmarks(&replica.journal().controls()).find(|bookmark| bookmark.name == name);
        let found = found.ok_or_else(|| {
            let message = format!("scenario \"{}\" has no bookmark \"{name}\"", self.name());
            EngineError::new(&codes::NO_SUCH_BOOKMARK, message)
        })?;
        replica.journal().control(Control::BookmarkDeleted { name: name.to_owned() })?;
        Ok(found)
    }

    /// See [`crate::engine::Engine::points`].
    pub(super) fn points(&self, query: &PointsQuery, each: Each<'_, Point>) -> EngineResult<()> {
        let replica = self.replica()?;
        self.synchronized(&replica)?;
        let journal = replica.journal();
        let now = journal.journaled_time();
        let at = |time: &TimeSpec| match time {
            TimeSpec::At(time) => *time,
            TimeSpec::Ago(ago) => before(now, *ago),
        };
        let times = (query.since.as_ref().map(at), query.until.as_ref().map(at));
        let roots = self.definition().roots.iter().map(|root| root.master.clone()).collect();
        let filter = PointFilter::new(query, roots, times);
        let controls = journal.controls();
        let mut marks: Vec<Bookmark> = bookmarks(&controls).collect();
        marks.sort_by_key(|bookmark| bookmark.lsn);
        let mut left = query.limit.unwrap_or(u64::MAX);
        if left == 0 {
            return Ok(());
        }
        // Ends with the last one, not when it meets one too many: that may be far.
        let mut is_told = false;
        let any_thinned = journal.undo().segments().iter().any(|segment| segment.is_thinned);
        let mut give = |mut point: Point, each: Each<'_, Point>| -> EngineResult<ControlFlow<()>> {
            left -= 1;
            point.retained = !any_thinned || is_retained(journal, point.lsn, &mut is_told)?;
            let flow = each(point);
            Ok(if left == 0 { ControlFlow::Break(()) } else { flow })
        };
        let takes = |mark: &Bookmark| filter.takes_bookmarks() && filter.takes_time(mark.time);
        if query.kinds == [PointKind::Bookmark] {
            let (oldest, _) = journal.window();
            for mark in marks.iter().rev().filter(|mark| mark.lsn >= oldest && takes(mark)) {
                let is_there = journal.tables().get(Space::Points, &mark.lsn.to_key())?.is_some();
                if is_there && give(bookmark_point(mark), each)?.is_break() {
                    break;
                }
            }
            return Ok(());
        }
        let controlled = Controlled(Arc::clone(&replica));
        let wanted = filter.wanted(marks.iter().map(|mark| mark.lsn).collect());
        for found in Points::of(journal).search(wanted).map_err(error::restore)? {
            let (lsn, row) = found.map_err(error::restore)?;
            while let Some(mark) = marks.pop_if(|mark| mark.lsn >= lsn) {
                if mark.lsn == lsn && takes(&mark) && give(bookmark_point(&mark), each)?.is_break() {
                    return Ok(());
                }
            }
            if filter.takes(&row) {
                let from = old_path(&controlled, lsn, &row).map_err(error::restore)?;
                if give(self.point(lsn, PointRow { from, ..row }), each)?.is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn point(&self, lsn: Lsn, row: PointRow) -> Point {
        let kind = kind_of(row.kind);
        let definition = self.definition();
        let place = |path: &[u8]| master_path(&definition, row.root, path);
        Point {
            lsn,
            time: row.time,
            kind,
            path: (kind != PointKind::Marker).then(|| place(&row.path)),
            from: row.from.as_deref().map(place),
            bytes: row.bytes,
            provenance: row.provenance,
            note: (kind == PointKind::Marker).then(|| String::from_utf8_lossy(&row.path).into_owned()),
            class: None,
            retained: true,
        }
    }

    /// See [`crate::engine::Engine::diff`].
    pub(super) fn diff(
        &self,
        from: &PointSpec,
        to: &PointSpec,
        progress: &dyn Progress,
        each: Each<'_, Change>,
    ) -> EngineResult<DiffSums> {
        let (from, to) = (self.resolve(from)?.lsn, self.resolve(to)?.lsn);
        let replica = self.replica()?;
        let (old, new) = (replica.view(from)?, replica.view(to)?);
        let watch = Watch(progress);
        let difference =
            restore::difference::between(&old, &new, &watch).map_err(|cause| failed(progress, cause))?;
        let mut counts = Counts::default();
        restore::difference::list(&difference, &Scope::all(), &watch, &mut |entry| {
            let change = self.change(entry);
            counts.add(&change);
            each(change)
        })
        .map_err(|cause| failed(progress, cause))?;
        Ok(DiffSums { from, to, counts })
    }

    /// A difference for people.
    pub(super) fn change(&self, entry: Entry) -> Change {
        let definition = self.definition();
        Change {
            kind: kind_of(entry.kind),
            path: master_path(&definition, entry.root, &entry.path),
            from: entry.from.map(|from| master_path(&definition, entry.root, &from)),
            bytes: entry.bytes,
        }
    }
}

/// Whether a point was not thinned out. Where the file that says it is damaged, none there can be gone to, and the others
/// are listed all the same.
fn is_retained(journal: &Journal, lsn: Lsn, is_told: &mut bool) -> Result<bool, JournalError> {
    match journal.thinned_out(lsn) {
        Ok(thinned) => Ok(thinned.is_none()),
        Err(error @ (JournalError::Damaged { .. } | JournalError::Poisoned { .. })) => {
            if !std::mem::replace(is_told, true) {
                tracing::warn!(%lsn, %error, "whether points were thinned out cannot be told");
            }
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

fn before(now: Timestamp, ago: Duration) -> Timestamp {
    Timestamp(now.0.saturating_sub(i64::try_from(ago.as_nanos()).unwrap_or(i64::MAX)))
}

pub(super) fn bookmarks(controls: &Controls) -> impl Iterator<Item = Bookmark> + '_ {
    controls.bookmarks.iter().map(|(name, bookmark)| Bookmark {
        name: name.clone(),
        lsn: bookmark.lsn(),
        time: bookmark.time,
        class: bookmark.class,
        automatic: bookmark.automatic,
        held: None,
    })
}

fn bookmark_point(mark: &Bookmark) -> Point {
    Point {
        lsn: mark.lsn,
        time: mark.time,
        kind: PointKind::Bookmark,
        path: None,
        from: None,
        bytes: 0,
        provenance: if mark.lsn.is_local() { Provenance::Local } else { Provenance::Derived },
        note: Some(mark.name.clone()),
        class: Some(mark.class),
        retained: true,
    }
}
