//! Scrubs: both sides are read again and compared, and what comes of it is told.
//!
//! It runs on the thread of its job. The master is asked over the stream that it opened; a cut connection is waited
//! out. Each difference is a line in the log; the end of a scrub of everything is a record of the journal, so that its
//! date outlives the projections, and a difference that is left is the cause in `scenario status` until a later scrub
//! finds none.

mod keeper;

use super::Host;
use super::answers::kept_beside;
use super::scene::Scene;
use crate::definition::Setting;
use crate::engine::{
    EngineError, EngineResult, Interrupt, Level, Progress, ScrubDifference, ScrubReport, ScrubRequest, State,
};
use journal::proofs::Scrubbed;
use journal::{ErrorKind, Lsn, RootNo};
use keeper::Keeper;
use replication::replica::{Difference, ScrubError, ScrubHost, ScrubOptions, ScrubReport as Found, Side};
use replication::stream::LinkError;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use wire::codes;
use wire::stream::{Command, FEATURE_SCRUB, Outcome, ScrubAnswer, ScrubAsk};

/// How often it is looked whether an answer is there, or whether to give up.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long one question may stay without an answer; a cut connection is waited out as long.
const ANSWER_WAIT: Duration = Duration::from_secs(600);
/// How long a master that is about to call is waited for.
const MASTER_WAIT: Duration = Duration::from_secs(60);
/// How often it is kept how far a scrub is, at most.
const KEEP_EVERY: Duration = Duration::from_secs(1);
/// Differences that get a line in the log each, and names that were not compared.
const LINES_MAX: u64 = 100;

/// What is wrong, if the last scrub left a difference.
pub(super) fn cause(scrubbed: &Scrubbed) -> Option<String> {
    let count = scrubbed.replica_differs;
    (count > 0).then(|| {
        format!(
            "the last scrub left {count} differences; `restorectl log` names them, \
             `restorectl scenario scrub NAME --repair` puts right what the replica has wrong"
        )
    })
}

/// Names that scrubs left different; `None` after a start of the daemon, of which nobody knows the names.
pub(super) type Left = Option<BTreeSet<(RootNo, Vec<u8>)>>;

/// How many names that differed were not compared this time, and so are left as they were: nothing has said that they are
/// equal. Takes note of what is left now.
fn still_left(left: &mut Left, before: u64, found: &Found) -> u64 {
    let passed = found.passed.iter().map(|(root, path, _)| (*root, path.clone()));
    let again: BTreeSet<_> =
        passed.filter(|name| left.as_ref().is_none_or(|left| left.contains(name))).collect();
    // Names are told of some only.
    let untold = found.sums.passed.saturating_sub(found.passed.len() as u64);
    let count = before.min(again.len() as u64 + untold);
    let differs = found.differences.iter().filter(|difference| !difference.repaired);
    let differs = differs.map(|difference| (difference.root, difference.path.clone()));
    *left = Some(if count == 0 { differs.collect() } else { again.into_iter().chain(differs).collect() });
    count
}

/// The way to the master for one scrub.
struct Asking<'a> {
    scene: &'a Scene,
    progress: &'a dyn Progress,
    cursor: &'a Keeper,
}

impl Asking<'_> {
    /// Does something with the master until it answers; once more after a cut.
    fn insist<R>(&self, mut attempt: impl FnMut() -> Result<R, (bool, String)>) -> Result<R, ScrubError> {
        let give_up = Instant::now() + ANSWER_WAIT;
        loop {
            match attempt() {
                Ok(answer) => return Ok(answer),
                Err(_) if self.interrupted() => return Err(ScrubError::Interrupted),
                Err((true, _)) if Instant::now() < give_up => std::thread::sleep(LOOK_EVERY),
                Err((_, text)) => return Err(ScrubError::Master(text)),
            }
        }
    }

    fn send(&self, ask: &ScrubAsk) -> Result<ScrubAnswer, (bool, String)> {
        let told = |error: LinkError| {
            let again = matches!(error, LinkError::Disconnected | LinkError::Busy);
            (again, chained(&error))
        };
        let master = self.scene.master(false).map_err(|error| (true, error.to_string()))?;
        if self.scene.features.load(Ordering::SeqCst) & FEATURE_SCRUB == 0 {
            return Err((false, NOT_SUPPORTED.to_owned()));
        }
        let ticket = master.send(Command::Scrub(ask.clone())).map_err(told)?;
        let give_up = Instant::now() + ANSWER_WAIT;
        loop {
            match ticket.wait(LOOK_EVERY) {
                Ok(Outcome::Scrub(answer)) => return Ok(answer),
                Ok(_) => return Err((false, "it answered another question".to_owned())),
                Err(LinkError::TimedOut) if !self.interrupted() && Instant::now() < give_up => {}
                Err(error) => return Err(told(error)),
            }
        }
    }
}

/// An error and what caused it.
fn chained(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

const NOT_SUPPORTED: &str = "the daemon of the master is older and answers no scrub";

impl ScrubHost for Asking<'_> {
    fn ask(&self, ask: ScrubAsk) -> Result<ScrubAnswer, ScrubError> {
        self.insist(|| self.send(&ask))
    }

    fn barrier(&self) -> Result<Lsn, ScrubError> {
        self.insist(|| {
            let flushed = self.scene.barrier(ANSWER_WAIT);
            flushed
                .map(|flushed| flushed.lsn)
                .map_err(|error| (self.scene.was_cut(&error), error.to_string()))
        })
    }

    fn interrupted(&self) -> bool {
        self.progress.interrupted().is_some()
    }

    fn progress(&self, entries: u64, _files: u64, bytes: u64) {
        self.progress.report("scrub", bytes, None, "bytes");
        tracing::trace!(entries, bytes, "scrub");
    }

    fn found(&self, difference: &Difference, number: u64) {
        if number <= LINES_MAX {
            self.scene.tell_found(difference, self.progress);
        }
    }

    fn passed(&self, root: RootNo, path: &[u8], why: &'static str, number: u64) {
        if number <= LINES_MAX {
            let path = self.scene.path_of(root, path);
            self.progress.note(Level::Warning, &format!("{} was not compared: {why}", path.display()));
        }
    }

    fn reached(&self, cursor: &[u8]) {
        self.cursor.keep(cursor);
    }

    fn goes_on(&self, entries: u64, bytes: u64) {
        let text =
            format!("the scrub goes on behind {entries} names and {bytes} bytes that were compared before");
        self.progress.note(Level::Info, &text);
    }
}

impl Host {
    /// Takes what these settings say of the schedule of scrubs; the rest of them, which must make sense.
    pub(super) fn set_scrubs(&self, scenario: &str, settings: Vec<Setting>) -> EngineResult<Vec<Setting>> {
        let ours = |setting: &Setting| setting.key.starts_with("scrub");
        if !settings.iter().any(ours) {
            return Ok(settings);
        }
        let entry = self.context.registry.get(scenario)?;
        let others: Vec<Setting> = settings.iter().filter(|setting| !ours(setting)).cloned().collect();
        entry.definition.with_settings(&others)?;
        if !others.is_empty() {
            self.stopped_scene(scenario)?;
        }
        self.context.schedules.take(entry.id, settings)
    }
}

impl Scene {
    /// See [`crate::engine::Engine::scrub`].
    pub(super) fn scrub(&self, request: &ScrubRequest, progress: &dyn Progress) -> EngineResult<ScrubReport> {
        let began = Instant::now();
        let Some(mut left) = self.scrubbing.try_lock() else {
            let message = format!("scenario \"{}\" is being scrubbed already", self.name());
            return Err(EngineError::new(&codes::BUSY, message));
        };
        let cursor = Keeper::new(&self.layout.scrub(self.name()), progress.job());
        let outcome = self.scrub_from(&cursor, &mut left, request, progress);
        // Only who is ended by the end of the daemon comes again.
        if outcome.is_ok() || progress.interrupted() != Some(Interrupt::Shutdown) {
            cursor.remove();
        }
        let found = outcome?;
        let difference = |difference: Difference| ScrubDifference {
            path: self.path_of(difference.root, &difference.path),
            what: difference.what,
            side: difference.side,
            offset: difference.offset,
            repaired: difference.repaired,
        };
        Ok(ScrubReport {
            sums: found.sums,
            differences: found.differences.into_iter().map(difference).collect(),
            found: found.found,
            repaired: found.repaired,
            elapsed: began.elapsed(),
        })
    }

    fn scrub_from(
        &self,
        cursor: &Keeper,
        left: &mut Left,
        request: &ScrubRequest,
        progress: &dyn Progress,
    ) -> EngineResult<Found> {
        self.wait_for_master(progress)?;
        let options = ScrubOptions {
            from: cursor.read(),
            asker: progress.job().unwrap_or(0),
            tell_every: KEEP_EVERY,
            below: request.path.as_deref().map(|path| self.below(path)).transpose()?,
            repair: request.repair,
            bytes_per_second: request.rate,
            roots: self.definition().roots.len() as u16,
        };
        let (whole, replica) = (options.below.is_none(), self.replica()?);
        let mut found = Found::default();
        let outcome = replica.scrub(options, &Asking { scene: self, progress, cursor }, &mut found);
        self.tell_more(&found, progress);
        if outcome.is_ok() && whole {
            let before = replica.journal().proofs().scrubbed.map_or(0, |scrubbed| scrubbed.replica_differs);
            let mut sums = found.sums.clone();
            sums.replica_differs += still_left(left, before, &found);
            replica.journal().scrubbed(sums)?;
        }
        outcome.map_err(|error| self.scrub_failed(error, progress))?;
        Ok(found)
    }

    /// Waits while the scenario is on its way to replicate: after a restart of the daemon the job is there before the
    /// master has called.
    fn wait_for_master(&self, progress: &dyn Progress) -> EngineResult<()> {
        let calls_until = Instant::now() + MASTER_WAIT;
        loop {
            let (state, awaited) = self.state_awaiting();
            let passes = match state {
                State::Replicating => return Ok(()),
                State::Synchronizing => true,
                _ => awaited && Instant::now() < calls_until,
            };
            if let Some(interrupt) = progress.interrupted() {
                return Err(EngineError::interrupted(interrupt));
            }
            if !passes {
                return Err(EngineError::not_replicating(self.name(), state));
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// A line for a difference.
    fn tell_found(&self, difference: &Difference, progress: &dyn Progress) {
        let path = self.path_of(difference.root, &difference.path);
        let what = difference.what;
        let whose = match difference.side {
            Side::Replica => "the replica has not what was captured",
            Side::Master => "capture had missed it",
            Side::Rot => {
                "the master has what nothing says was written, rot or a memory map; the replica is left as it is"
            }
            Side::Unknown => "it cannot be told which side is right",
        };
        let end = if difference.repaired { "; repaired" } else { "" };
        let aside = difference.aside.as_ref().map(|place| self.aside(difference.root, place));
        let aside =
            aside.map_or(String::new(), |place| format!("; what stood there is now {}", place.display()));
        let level = if difference.repaired { Level::Warning } else { Level::Error };
        progress.note(level, &format!("{} differs: {what}: {whose}{end}{aside}", path.display()));
    }

    /// Of how many nothing more was told than their number.
    fn tell_more(&self, found: &Found, progress: &dyn Progress) {
        let more = found.found.saturating_sub(LINES_MAX);
        if more > 0 {
            progress.note(
                Level::Error,
                &format!("{more} more differences; the log of the daemon names them all"),
            );
        }
        let more = found.sums.passed.saturating_sub(LINES_MAX);
        if more > 0 {
            progress.note(Level::Warning, &format!("{more} more names were not compared"));
        }
    }

    /// Root and path below it of a path on the master.
    fn below(&self, path: &Path) -> EngineResult<(RootNo, Vec<u8>)> {
        let definition = self.definition();
        let mut roots = definition.roots.iter().enumerate();
        let found = roots.find_map(|(number, root)| Some((number, path.strip_prefix(&root.master).ok()?)));
        let Some((number, below)) = found else {
            let message = format!("{} is in no root of scenario \"{}\"", path.display(), self.name());
            return Err(EngineError::new(&codes::NO_SUCH_PATH, message));
        };
        Ok((RootNo(number as u16), below.as_os_str().as_bytes().to_vec()))
    }

    fn path_of(&self, root: RootNo, path: &[u8]) -> PathBuf {
        let definition = self.definition();
        let base = definition.roots.get(usize::from(root.0)).map(|root| root.master.clone());
        base.unwrap_or_default().join(OsStr::from_bytes(path))
    }

    /// Where something lies that was moved into the kept area of a root.
    fn aside(&self, root: RootNo, place: &str) -> PathBuf {
        let replica = self.definition().roots.get(usize::from(root.0)).and_then(|root| root.replica.clone());
        let kept = replica.and_then(|replica| kept_beside(&replica));
        kept.unwrap_or_default().join("kept").join(place)
    }

    fn scrub_failed(&self, error: ScrubError, progress: &dyn Progress) -> EngineError {
        match error {
            ScrubError::Interrupted => match progress.interrupted() {
                Some(interrupt) => EngineError::interrupted(interrupt),
                None => EngineError::new(&codes::BUSY, "the scenario is being closed"),
            },
            ScrubError::NotFollowing(why) => {
                EngineError::not_replicating(self.name(), self.state()).because(why)
            }
            ScrubError::Journal(error) if error.kind() == ErrorKind::NotFound => {
                EngineError::new(&codes::NO_SUCH_PATH, error.to_string())
            }
            ScrubError::Journal(error) => error.into(),
            ScrubError::Master(text) if text == NOT_SUPPORTED => {
                EngineError::new(&codes::SCRUB_NOT_SUPPORTED, text)
            }
            error => EngineError::new(&codes::SCRUB_FAILED, chained(&error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(passed: &[&str], differs: &[(&str, bool)]) -> Found {
        let difference = |(path, repaired): &(&str, bool)| Difference {
            root: RootNo(0),
            path: path.as_bytes().to_vec(),
            what: "bytes",
            side: Side::Replica,
            offset: None,
            repaired: *repaired,
            aside: None,
        };
        let passed: Vec<_> = passed.iter().map(|path| (RootNo(0), path.as_bytes().to_vec(), "why")).collect();
        let sums = Scrubbed { passed: passed.len() as u64, ..Scrubbed::default() };
        let differences = differs.iter().map(difference).collect();
        Found { sums, passed, differences, ..Found::default() }
    }

    #[test]
    fn what_was_not_compared_again_is_left() {
        let mut left = Left::default();
        assert_eq!(still_left(&mut left, 0, &found(&["moving"], &[("a", false), ("b", true)])), 0);
        // `a` cannot be read this time: nothing says that it is equal.
        assert_eq!(still_left(&mut left, 1, &found(&["a", "moving"], &[])), 1);
        assert_eq!(still_left(&mut left, 1, &found(&["a"], &[])), 1);
        assert_eq!(still_left(&mut left, 1, &found(&["moving"], &[])), 0);
        assert_eq!(still_left(&mut left, 0, &found(&["a"], &[])), 0);
        // After a start nobody knows the names, and it may be any.
        let mut left = Left::default();
        assert_eq!(still_left(&mut left, 3, &found(&["x"], &[])), 1);
        assert_eq!(still_left(&mut left, 1, &found(&["y"], &[])), 0);
        // More than are named.
        let mut many = found(&[], &[]);
        many.sums.passed = 7;
        assert_eq!(still_left(&mut left, 3, &many), 3);
    }
}
