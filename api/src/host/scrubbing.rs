//! Scrubs: both sides are read again and compared, and what comes of it is told.
//!
//! It runs on the thread of its job. The master is asked over the stream that it opened; a cut connection is waited
//! out. Each difference is a line in the log; the end of a scrub of everything is a record of the journal, so that its
//! date outlives the projections, and a difference that is left is the cause in `scenario status` until a later scrub
//! finds none.

use super::Host;
use super::scene::Scene;
use crate::definition::Setting;
use crate::engine::{
    EngineError, EngineResult, Level, Progress, ScrubDifference, ScrubReport, ScrubRequest, State,
};
use journal::proofs::Scrubbed;
use journal::{ErrorKind, Lsn, RootNo};
use replication::replica::{Difference, ScrubError, ScrubHost, ScrubOptions, Side};
use replication::stream::LinkError;
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
/// Differences that get a line in the log each.
const LINES_MAX: usize = 100;

/// What is wrong, if the last scrub left a difference.
pub(super) fn cause(scrubbed: &Scrubbed) -> Option<String> {
    let count = scrubbed.replica_differs;
    (count > 0).then(|| {
        format!(
            "the last scrub found {count} differences on the replica that are not repaired; `restorectl log` names them, \
             `restorectl scenario scrub NAME --repair` puts them right"
        )
    })
}

/// The way to the master for one scrub.
struct Asking<'a> {
    scene: &'a Scene,
    progress: &'a dyn Progress,
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
        let Some(_one) = self.scrubbing.try_lock() else {
            let message = format!("scenario \"{}\" is being scrubbed already", self.name());
            return Err(EngineError::new(&codes::BUSY, message));
        };
        self.wait_for_master(progress)?;
        let definition = self.definition();
        let options = ScrubOptions {
            below: request.path.as_deref().map(|path| self.below(path)).transpose()?,
            repair: request.repair,
            bytes_per_second: request.rate,
            roots: definition.roots.len() as u16,
        };
        let (whole, replica) = (options.below.is_none(), self.replica()?);
        let mut found = replication::replica::ScrubReport::default();
        let outcome = replica.scrub(options, &Asking { scene: self, progress }, &mut found);
        self.tell_differences(&found.differences, progress);
        if outcome.is_ok() && whole {
            replica.journal().scrubbed(found.sums.clone())?;
        }
        outcome.map_err(|error| self.scrub_failed(error, progress))?;
        let repaired = found.differences.iter().filter(|difference| difference.repaired).count() as u64;
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
            repaired,
            elapsed: began.elapsed(),
        })
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

    fn tell_differences(&self, differences: &[Difference], progress: &dyn Progress) {
        for difference in differences.iter().take(LINES_MAX) {
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
            let level = if difference.repaired { Level::Warning } else { Level::Error };
            progress.note(level, &format!("{} differs: {what}: {whose}{end}", path.display()));
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
