//! Unusual bursts, and rewinds to the last good version of each file that one touched.
//!
//! `last-good` alone means the burst that is most surely damage, the newest of those; with paths, the first of that
//! order that touched something there. A rewind that begins says which one it took, so that it means the same when it
//! is begun again.
//!
//! A rewind or restore of ours changes many files too. It begins with an automatic bookmark, so no burst goes on over
//! one, unless what follows makes noise; what follows one at once and makes none is taken for ours and comes last.

use super::control::Control;
use super::past::{Watch, failed};
use super::rewinding::{lossy, onto_replica};
use super::running::master_path;
use super::scene::Scene;
use crate::engine::{
    Bookmark, Burst, BurstsQuery, Change, Counts, Each, EngineError, EngineResult, Onto, Progress,
    ResolvedPoint, RewindPlan, RewindReport, RewindRequest, State,
};
use crate::points::PointSpec;
use journal::Lsn;
use journal::journal::{Clock, Journal, Lease, SystemClock};
use restore::burst::{self, Confidence, LastGood, Limits};
use restore::{PathFilter, Points, ReplicaControl, RewindOptions};
use std::cmp::Reverse;
use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;
use wire::codes;

/// Bursts listed, the newest of them.
const LISTED_MAX: usize = 500;
/// Bursts that are tried for paths.
const TRIED_MAX: usize = 16;
/// Captures between an automatic bookmark and what follows it at once.
const FOLLOWS_WITHIN: u64 = 16;

/// A way back to the last good versions.
pub(super) struct Way {
    /// The point before the burst.
    pub before: ResolvedPoint,
    /// First and last capture of the burst.
    pub range: (u64, u64),
    /// What to do.
    pub last_good: LastGood,
    /// Keeps all its points readable until it has been gone: the rewind writes history itself, and the burst may have filled
    /// the journal's budget.
    _lease: Lease,
}

impl Scene {
    /// See [`crate::engine::Engine::bursts`].
    pub(super) fn bursts(&self, query: &BurstsQuery, progress: &dyn Progress) -> EngineResult<Vec<Burst>> {
        let now = self.replica()?.journal().journaled_time();
        let (since, until) =
            (query.since.map(|time| time.resolve(now)), query.until.map(|time| time.resolve(now)));
        let mut found = self.all_bursts(progress)?;
        found.retain(|burst| {
            since.is_none_or(|since| burst.end >= since) && until.is_none_or(|until| burst.begin <= until)
        });
        Ok(found)
    }

    /// All of the window, newest first.
    fn all_bursts(&self, progress: &dyn Progress) -> EngineResult<Vec<Burst>> {
        let replica = self.replica()?;
        self.synchronized(&replica)?;
        let journal = replica.journal();
        // Held while facts are read: a name that retention takes meanwhile would be missing without a word.
        let (oldest, _lease) = leased_oldest(journal)?;
        let newest = Lsn::captured(journal.applied().captured);
        let control = Control(Arc::clone(&replica));
        let mut found: VecDeque<Burst> = VecDeque::new();
        let controls = journal.controls();
        let mut ours: Vec<Bookmark> =
            super::past::bookmarks(&controls).filter(|mark| mark.automatic && !mark.lsn.is_local()).collect();
        ours.sort_by_key(|mark| mark.lsn);
        let cuts: Vec<u64> = ours.iter().map(|mark| mark.lsn.captured).collect();
        let limits = Limits::default();
        burst::find(&control, oldest, newest, (&cuts, &limits), &Watch(progress), &mut |burst| {
            let burst = self.burst(burst);
            match found.front_mut() {
                Some(before) if before.goes_on_in(&burst, &cuts, limits.pause_ns) => before.append(burst),
                _ => found.push_front(burst),
            }
            found.truncate(LISTED_MAX);
            ControlFlow::Continue(())
        })
        .map_err(|cause| failed(progress, cause))?;
        // We never make noise of anything: what does is no work of ours, whatever it follows.
        for burst in found.iter_mut().filter(|burst| burst.confidence != Confidence::High) {
            let follows = |mark: &&Bookmark| {
                mark.lsn <= burst.first && burst.first.captured - mark.lsn.captured <= FOLLOWS_WITHIN
            };
            if let Some(mark) = ours.iter().rev().find(follows) {
                burst.confidence = Confidence::Low;
                burst.after = Some(mark.name.clone());
            }
        }
        Ok(found.into())
    }

    fn burst(&self, found: burst::Burst) -> Burst {
        let definition = self.definition();
        let examples = found.examples.into_iter().map(|example| {
            let place = |path: &[u8]| master_path(&definition, example.root, path);
            (place(&example.path), example.to.as_deref().map(place))
        });
        Burst {
            examples: examples.collect(),
            first: Lsn::captured(found.span.first),
            last: Lsn::captured(found.span.last),
            begin: found.span.begin,
            end: found.span.end,
            kinds: found.kinds,
            confidence: found.confidence,
            files: found.span.files,
            rewritten: found.span.rewritten,
            renamed: found.span.renamed,
            judged: found.judged as u64,
            spoiled: found.spoiled as u64,
            after: None,
        }
    }

    /// The point before a burst.
    pub(super) fn before_burst(&self, range: Option<(u64, u64)>) -> EngineResult<ResolvedPoint> {
        let (first, _) = match range {
            Some(range) => range,
            None => *self.candidates(&Unheard)?.first().ok_or_else(|| self.no_burst())?,
        };
        let replica = self.replica()?;
        let before = Lsn::captured(first.saturating_sub(1));
        let found = Points::of(replica.journal()).at(before).map_err(|_| self.outside(before, &replica))?;
        Ok(ResolvedPoint { lsn: found.lsn, time: found.time, class: found.class })
    }

    /// Bounds of the bursts, the one that `last-good` means first.
    fn candidates(&self, progress: &dyn Progress) -> EngineResult<Vec<(u64, u64)>> {
        let mut found = self.all_bursts(progress)?;
        found.sort_by_key(|burst| Reverse((burst.after.is_none(), burst.confidence, burst.last)));
        Ok(found.iter().map(|burst| (burst.first.captured, burst.last.captured)).collect())
    }

    fn no_burst(&self) -> EngineError {
        let message = format!("no burst is found in the window of scenario \"{}\"", self.name());
        EngineError::new(&codes::NO_BURST, message)
    }

    /// The way back from a burst, for a tree that stands at `now`.
    pub(super) fn way_back(
        &self,
        range: Option<(u64, u64)>,
        now: Lsn,
        filters: &[PathFilter],
        progress: &dyn Progress,
    ) -> EngineResult<Way> {
        let watch = Watch(progress);
        let ranges = match range {
            Some(range) => vec![range],
            None => self.candidates(progress)?,
        };
        if ranges.is_empty() {
            return Err(self.no_burst());
        }
        let replica = self.replica()?;
        let control = Control(Arc::clone(&replica));
        for range in ranges.into_iter().take(TRIED_MAX) {
            let before = self.before_burst(Some(range))?;
            let lease = replica.journal().lease(before.lsn).map_err(|error| match error {
                journal::JournalError::OutsideWindow { .. } => self.outside(before.lsn, &replica),
                other => other.into(),
            })?;
            let last_good = burst::touched(&control, range, now, filters, &Limits::default(), &watch)
                .map_err(|cause| failed(progress, cause))?;
            if !last_good.groups.is_empty() {
                return Ok(Way { before, range, last_good, _lease: lease });
            }
        }
        let message = format!("no burst touched these files of scenario \"{}\"", self.name());
        Err(EngineError::new(&codes::NO_BURST, message))
    }

    /// See [`crate::engine::Engine::pin`].
    pub(super) fn pin(&self, request: &RewindRequest) -> EngineResult<PointSpec> {
        let PointSpec::LastGood(range) = request.to else {
            return Ok(PointSpec::Lsn(self.resolve(&request.to)?.lsn));
        };
        let range = match range {
            Some(range) => range,
            None => {
                let now = self.replica()?.journal().applied();
                self.way_back(None, now, &self.filters(&request.paths)?, &Unheard)?.range
            }
        };
        Ok(PointSpec::LastGood(Some(range)))
    }

    /// What [`Scene::rewind_last_good`] would do.
    pub(super) fn plan_last_good(
        &self,
        request: &RewindRequest,
        range: Option<(u64, u64)>,
        progress: &dyn Progress,
        each: Each<'_, Change>,
    ) -> EngineResult<RewindPlan> {
        let filters = self.filters(&request.paths)?;
        let onto_master = request.onto == Onto::Master;
        let replica = self.replica()?;
        let mut warnings = Vec::new();
        if onto_master {
            if self.check_writable()? == State::Replicating {
                self.flush_applied()?;
            }
            warnings.push("the master's own files are changed; replication goes on".to_owned());
        } else if replica.status().detached.is_none() {
            warnings.push("the replica stops following the master until `scenario resume`".to_owned());
        }
        let applied = replica.journal().applied();
        let from = if onto_master { Lsn::captured(applied.captured) } else { applied };
        let way = self.way_back(range, from, &filters, progress)?;
        let watch = Watch(progress);
        let now = replica.view(from)?;
        let mut counts = Counts::default();
        for group in &way.last_good.groups {
            let then = replica.view(group.point)?;
            let listed = &mut |entry| {
                let change = self.change(entry);
                counts.add(&change);
                each(change)
            };
            let plan = match onto_master {
                true => restore::RewindPlan::onto_master(&now, &then, &group.paths, &watch),
                false => restore::RewindPlan::new(&now, &then, &group.paths, &watch),
            };
            let plan = plan.map_err(|cause| failed(progress, cause))?;
            let done = if onto_master { plan.list_master(&watch, listed) } else { plan.list(&watch, listed) };
            done.map_err(|cause| failed(progress, cause))?;
            let notes = plan.notes().iter().map(|note| format!("{:?}: {}", note.kind, lossy(&note.path)));
            warnings.extend(notes);
        }
        warnings.extend(self.to_know(&way));
        let point = PointSpec::LastGood(Some(way.range));
        Ok(RewindPlan { to: way.before, from, counts, warnings, point })
    }

    /// What a person should know about a way back.
    fn to_know(&self, way: &Way) -> Vec<String> {
        let definition = self.definition();
        let LastGood { groups, files, left, spared, later, coarse } = &way.last_good;
        let (first, last) = way.range;
        let mut lines = vec![format!(
            "the burst from LSN {first} to {last} touched {files} files; each goes to its own last version before it"
        )];
        let mut add = |number: u64, line: String| lines.extend((number > 0).then_some(line));
        add(
            groups.len() as u64 - 1,
            "people changed some of them while it went on: those go to later points".into(),
        );
        add(
            *left,
            format!("{left} files that the burst left behind are removed; the bookmark leads back to them"),
        );
        add(
            *spared,
            format!("{spared} files were rewritten meanwhile and look sound: they stay as they are"),
        );
        add(*coarse, format!("{coarse} files go to the point before the burst, and lose what came after it"));
        let listed = later.1.iter().map(|path| master_path(&definition, path.root, &path.path()));
        for path in listed {
            add(1, format!("changed after the burst, and taken back all the same: {}", path.display()));
        }
        let more = later.0 - later.1.len() as u64;
        add(more, format!("and {more} more that were changed after the burst"));
        lines
    }

    /// See [`crate::engine::Engine::rewind`], for `last-good`.
    pub(super) fn rewind_last_good(
        &self,
        request: &RewindRequest,
        range: Option<(u64, u64)>,
        progress: &dyn Progress,
        began: Instant,
    ) -> EngineResult<RewindReport> {
        let filters = self.filters(&request.paths)?;
        if request.onto == Onto::Master {
            return self.last_good_onto_master((range, request.again), &filters, progress, began);
        }
        let _turning = self.turn(request.again, progress)?;
        let replica = self.replica()?;
        if self.state() == State::Synchronizing {
            let message = format!("scenario \"{}\" is being synchronized", self.name());
            return Err(EngineError::new(&codes::SYNCHRONIZING, message));
        }
        let control = Control(Arc::clone(&replica));
        let was_detached = control.is_detached();
        // From here on the tree stands still, so that what is found is what is there.
        control.detach("rewind to last-good")?;
        let way = self.way_back(range, replica.journal().applied(), &filters, progress);
        let way = match way {
            Ok(way) => way,
            Err(error) => {
                if !was_detached && let Err(error) = control.attach() {
                    tracing::error!(%error, "cannot attach the replica after a rewind that changed nothing");
                }
                return Err(error);
            }
        };
        let options = RewindOptions { now: SystemClock.now(), ..RewindOptions::default() };
        let report = burst::replica_to_groups(&control, &way.last_good.groups, &options, &Watch(progress))
            .map_err(|cause| failed(progress, cause))?
            .ok_or_else(|| self.no_burst())?;
        Ok(onto_replica(way.before, report, began))
    }
}

/// The oldest point, held.
fn leased_oldest(journal: &Arc<Journal>) -> EngineResult<(Lsn, Lease)> {
    loop {
        let (oldest, _) = journal.window();
        match journal.lease(oldest) {
            Ok(lease) => return Ok((oldest, lease)),
            // It left the window in between, for another one.
            Err(_) if journal.window().0 > oldest => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Nobody listens: a call that only asks.
struct Unheard;

impl Progress for Unheard {
    fn report(&self, _: &str, _: u64, _: Option<u64>, _: &str) {}

    fn note(&self, _: crate::engine::Level, _: &str) {}

    fn interrupted(&self) -> Option<crate::engine::Interrupt> {
        None
    }
}
