//! A barrier while the application is held still, carried out as a unit.
//!
//! The order is: the rules of this master, a durable note of how to thaw, the quiesce hook, the barrier over every
//! root, the thaw hook, the note goes. Nothing between quiesce and thaw waits for the replica, so a cut line costs the
//! answer and nothing else. Thaw begins when the barrier stands in the spool (stage `captured`), or when the time of
//! the hold is over, or when this daemon stops, whichever is first; it is in a guard, so that no way out of here leads
//! around it. After a crash the note makes the next daemon thaw ([`crate::hooks::thaw_left_over`]).
//!
//! Class application is claimed only if quiesce succeeded and the barrier stood before the hold was ended
//! ([`Hold`]). A thaw hook that fails afterwards takes nothing from the point, but is an error all the same: somebody
//! has to look whether the application goes on.

use super::{Master, failed, now, spawn};
use crate::capture::{CaptureError, Hold};
use crate::chain::chain;
use crate::hooks::{Hook, HookError, Note, Setting};
use crate::stream::Replier;
use crossbeam_channel::{Receiver, RecvTimeoutError};
use journal::Lsn;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use wire::stream::{Consistent, Outcome};

/// No application is held longer, whatever is asked for; nor may a thaw hook take longer.
const LIMIT_MAX: Duration = Duration::from_secs(3600);
/// How often a wait looks whether the daemon stops.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// A barrier that stood just before the time was over: its LSN may take so long to get here.
const LATE_WAIT: Duration = Duration::from_secs(15);
/// How long the end of this daemon waits for an application to be thawed; the note sees to the rest.
const SHUT_WAIT: Duration = Duration::from_secs(8);

type Answer = Receiver<Result<Lsn, CaptureError>>;

/// Why there is no consistent point.
#[derive(Debug, thiserror::Error)]
enum ConsistentError {
    #[error("this master does not allow the command of the {hook} hook: {command}")]
    NotAllowed { hook: &'static str, command: String },
    #[error("capture is not running")]
    NotRunning,
    #[error("the application is being held for another point")]
    Busy,
    #[error("note in {path} how to thaw")]
    Note { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Hook(#[from] HookError),
    #[error("the barrier did not come through within {:.1}s", .limit.as_secs_f64())]
    Late { limit: Duration },
    #[error("capture has missed something that it cannot compare now: see the gaps of the scenario")]
    Gap,
    #[error("the daemon stops")]
    Stopping,
    #[error("the barrier failed")]
    Barrier(#[source] CaptureError),
    #[error("no consistent point: {cause}; {thawed}")]
    Undone { cause: String, thawed: String },
    #[error("the barrier stands at LSN {lsn}, but the application may still be held: {thaw}")]
    Thaw { lsn: Lsn, thaw: String },
}

impl ConsistentError {
    fn code(&self) -> &'static str {
        match self {
            ConsistentError::NotAllowed { .. } => "RW1037",
            ConsistentError::NotRunning => "RW0465",
            ConsistentError::Busy => "RW0470",
            ConsistentError::Note { .. } => "RW1024",
            ConsistentError::Thaw { .. } => "RW1038",
            _ => "RW0457",
        }
    }
}

/// Thaws when it is told to, or else when it is dropped.
struct Thaw<'m> {
    command: String,
    limit: Duration,
    setting: Setting,
    note: &'m Path,
    /// It waits at its gate since before the application was held: no want of processes or memory comes between.
    ready: Option<Hook>,
    done: bool,
}

impl Thaw<'_> {
    /// Runs the hook, if there is one, and removes the note if it has succeeded.
    fn run(&mut self) -> Result<(), HookError> {
        self.done = true;
        if !self.command.is_empty() {
            let mut hook = match self.ready.take().filter(Hook::waits) {
                Some(ready) => ready,
                None => Hook::prepare("thaw", &self.command, &self.setting)?,
            };
            let ended = hook.run(Instant::now() + self.limit, None);
            report(&self.setting.scenario, "thaw", &hook, &ended);
            ended?;
            if let Err(error) = Note::remove(self.note) {
                tracing::warn!(path = %self.note.display(), %error, "the next start will thaw once more");
            }
        }
        Ok(())
    }

    /// What became of it, for people.
    fn words(&self, thawed: &Result<(), HookError>) -> String {
        match thawed {
            Ok(()) if self.command.is_empty() => "there is no thaw hook".to_owned(),
            Ok(()) => "the thaw hook has run".to_owned(),
            Err(error) => format!("the application may still be held: {}", chain(error)),
        }
    }
}

impl Drop for Thaw<'_> {
    fn drop(&mut self) {
        if !self.done
            && let Err(error) = self.run()
        {
            tracing::error!(error = chain(&error), "an application may still be held");
        }
    }
}

/// The hook's output goes into the log, whatever came of it.
fn report(scenario: &str, name: &str, hook: &Hook, ended: &Result<(), HookError>) {
    let output = hook.written();
    match ended {
        Ok(()) if output.is_empty() => tracing::info!(scenario, hook = name, "a hook has run"),
        Ok(()) => tracing::info!(scenario, hook = name, output, "a hook has run"),
        Err(error) => tracing::warn!(scenario, hook = name, output, error = chain(error), "a hook failed"),
    }
}

/// Says what came of it, once, in the log and to whoever asked.
fn conclude(
    thaw: &Thaw<'_>,
    lsn: Result<Lsn, ConsistentError>,
    thawed: Result<(), HookError>,
    held: Duration,
) -> Result<(Lsn, Duration), ConsistentError> {
    let scenario = &thaw.setting.scenario;
    let held_seconds = held.as_secs_f64();
    let words = thaw.words(&thawed);
    if let Err(error) = &thawed {
        tracing::error!(scenario, error = chain(error), "the application may still be held");
    }
    match (lsn, thawed) {
        (Ok(lsn), Ok(())) => {
            tracing::info!(scenario, %lsn, held_seconds, "a consistent point");
            Ok((lsn, held))
        }
        (Ok(lsn), Err(error)) => Err(ConsistentError::Thaw { lsn, thaw: chain(&error) }),
        (Err(error), _) => {
            let cause = chain(&error);
            tracing::warn!(scenario, cause, thaw = words, held_seconds, "no consistent point");
            Err(ConsistentError::Undone { cause, thawed: words })
        }
    }
}

/// What a barrier has come to while the application was held.
enum Image {
    Stands(Lsn),
    /// It stood in time; the LSN is on its way.
    Coming(Answer),
}

impl Master {
    pub(super) fn consistent(self: &Arc<Self>, mut asked: Consistent, reply: Replier) {
        asked.hold = asked.hold.min(LIMIT_MAX);
        asked.thaw_limit = asked.thaw_limit.min(LIMIT_MAX);
        let master = Arc::clone(self);
        spawn("consistent", move || {
            let reached = match master.holding.try_lock() {
                Some(_alone) => master.hold_still(&asked),
                None => Err(ConsistentError::Busy),
            };
            reply.reply(match reached {
                Ok((lsn, held)) => Outcome::Consistent { lsn, time: now(), held },
                Err(error) => failed(error.code(), &error),
            });
        });
    }

    /// Waits until no application is held any more, which is soon once this daemon is said to stop.
    pub(super) fn wait_thawed(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        if self.holding.try_lock_for(SHUT_WAIT).is_none() {
            tracing::warn!("a thaw hook still runs; the next start runs it again");
        }
    }

    /// What the hooks are told, if the rules of this master and its state permit them.
    fn permitted(&self, asked: &Consistent) -> Result<Setting, ConsistentError> {
        for (hook, command) in [("quiesce", &asked.quiesce), ("thaw", &asked.thaw)] {
            if !command.is_empty() && !self.paths.hooks.allows(command) {
                return Err(ConsistentError::NotAllowed { hook, command: command.clone() });
            }
        }
        if self.stopping.load(Ordering::SeqCst) {
            return Err(ConsistentError::Stopping);
        }
        let inner = self.inner.lock();
        let definition = inner.welcome.as_ref().map(|welcome| &welcome.definition);
        let (Some(definition), true) = (definition, inner.agent.is_some()) else {
            return Err(ConsistentError::NotRunning);
        };
        let roots = definition.roots.iter().map(|root| root.path.clone()).collect();
        Ok(Setting { scenario: definition.name.clone(), id: format!("{:016x}", asked.cookie), roots })
    }

    /// Makes all ready that thawing takes, durably: from here on an application may be held. If this fails, the
    /// quiesce hook has not begun and does not.
    fn ready_to_thaw(
        &self,
        asked: &Consistent,
        setting: Setting,
        quiesce: &Hook,
    ) -> Result<Thaw<'_>, ConsistentError> {
        let (command, limit) = (asked.thaw.clone(), asked.thaw_limit);
        let mut ready = None;
        if !command.is_empty() {
            ready = Some(Hook::prepare("thaw", &command, &setting)?);
            let note = Note {
                scenario: setting.scenario.clone(),
                id: setting.id.clone(),
                roots: setting.roots.clone(),
                thaw: command.clone(),
                limit,
                quiesce: quiesce.process(),
            };
            let unwritten = |source| ConsistentError::Note { path: self.paths.hold.clone(), source };
            note.write(&self.paths.hold).map_err(unwritten)?;
        }
        Ok(Thaw { command, limit, setting, note: &self.paths.hold, ready, done: false })
    }

    /// The LSN of the barrier, and how long the application was held.
    fn hold_still(&self, asked: &Consistent) -> Result<(Lsn, Duration), ConsistentError> {
        let setting = self.permitted(asked)?;
        let mut quiesce = Hook::prepare("quiesce", &asked.quiesce, &setting)?;
        let mut thaw = self.ready_to_thaw(asked, setting, &quiesce)?;
        let began = Instant::now();
        let until = began + asked.hold;
        let quiesced = quiesce.run(until, Some(&self.stopping));
        report(&thaw.setting.scenario, "quiesce", &quiesce, &quiesced);
        let image = quiesced.map_err(ConsistentError::from).and_then(|()| self.image(asked, until));
        let thawed = thaw.run();
        let held = began.elapsed();
        let lsn = match image {
            Ok(Image::Stands(lsn)) => Ok(lsn),
            Ok(Image::Coming(answer)) => match answer.recv_timeout(LATE_WAIT) {
                Ok(lsn) => lsn.map_err(ConsistentError::Barrier),
                Err(_) => Err(ConsistentError::Late { limit: asked.hold }),
            },
            Err(error) => Err(error),
        };
        conclude(&thaw, lsn, thawed, held)
    }

    /// The barrier. When this returns, no barrier of class application comes out of it any more.
    fn image(&self, asked: &Consistent, until: Instant) -> Result<Image, ConsistentError> {
        let hold = Hold::default();
        let agent = self.inner.lock().agent.clone().ok_or(ConsistentError::NotRunning)?;
        let answer = agent.begin_held_barrier(asked.cookie, &hold).map_err(ConsistentError::Barrier)?;
        // Whoever stops the agent waits until nobody holds it.
        drop(agent);
        let mut failed = ConsistentError::Late { limit: asked.hold };
        while Instant::now() < until {
            match answer.recv_timeout(LOOK_EVERY.min(until.saturating_duration_since(Instant::now()))) {
                Ok(Ok(lsn)) if hold.end() => return Ok(Image::Stands(lsn)),
                Ok(Ok(_)) => return Err(ConsistentError::Gap),
                Ok(Err(error)) => {
                    failed = ConsistentError::Barrier(error);
                    break;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    failed = ConsistentError::Barrier(CaptureError::Stopped);
                    break;
                }
            }
            if self.stopping.load(Ordering::SeqCst) {
                failed = ConsistentError::Stopping;
                break;
            }
        }
        if hold.end() {
            return Ok(Image::Coming(answer));
        }
        Err(if hold.is_doubtful() { ConsistentError::Gap } else { failed })
    }
}
