//! Consistent points: the application is held still while a barrier passes.
//!
//! This is the one way to such a point; whoever needs one calls [`Scene::consistent_point`]. All of it happens on the
//! master, as a unit: what is here only says which hooks, how long, and waits. If the connection is lost, or nobody
//! waits any more, the master thaws all the same.

use super::running::random_cookie;
use super::scene::Scene;
use crate::daemon::EngineContext;
use crate::definition::HOOK_TIMEOUT_MAX;
use crate::engine::{EngineError, EngineResult, Flushed, Level};
use crate::notify::notify;
use crate::store::Layout;
use journal::Class;
use std::time::{Duration, Instant};
use wire::codes;
use wire::stream::{Command, Consistent, Outcome};

impl Scene {
    /// Holds the application, lets a barrier over every root pass, thaws; returns when the barrier is captured. Its
    /// class is `application`. The caller has seen to it that the scenario captures.
    ///
    /// # Errors
    /// `NOT_CONFIGURED` without a quiesce hook; `CANNOT_SUSPEND` if the application could not be held or the barrier
    /// did not come through meanwhile; `HOOKS_NOT_ALLOWED`; `THAW_FAILED`; `BUSY` if it is being held already.
    pub(super) fn consistent_point(&self, timeout: Duration) -> EngineResult<Flushed> {
        let hooks = self.definition().hooks;
        let Some(quiesce) = hooks.quiesce else {
            let message = format!("scenario \"{}\" has no quiesce hook", self.name());
            return Err(EngineError::new(&codes::NOT_CONFIGURED, message)
                .because("Without one nobody holds the application, so no point of it can be called consistent.")
                .advise(format!(
                    "Stop the scenario, `restorectl scenario set {} hook=quiesce=CMD hook=thaw=CMD`, run it again.",
                    self.name()
                )));
        };
        let give_up = Instant::now() + timeout;
        let asked = Consistent {
            cookie: random_cookie(),
            quiesce,
            thaw: hooks.thaw.unwrap_or_default(),
            // The answer has to be here before the caller gives up.
            hold: hooks.timeout.min(timeout * 3 / 4),
            thaw_limit: hooks.timeout,
        };
        let reached = self.hold(asked, give_up);
        match &reached {
            Ok(Flushed { lsn, held, .. }) => {
                let held = held.unwrap_or_default().as_secs_f64();
                self.note(
                    Level::Info,
                    &format!("consistent point at LSN {lsn}, application held for {held:.3} s"),
                );
            }
            Err(error) => self.note(Level::Warning, &format!("{}: {error}", error.code().id)),
        }
        reached
    }

    fn hold(&self, asked: Consistent, give_up: Instant) -> EngineResult<Flushed> {
        let doing = "a consistent point";
        let master = self.master(true)?;
        let left = || give_up.saturating_duration_since(Instant::now());
        let outcome = master.send(Command::Consistent(asked)).and_then(|ticket| ticket.wait(left()));
        match outcome {
            Ok(Outcome::Consistent { lsn, time, held }) => {
                Ok(Flushed { lsn, time, class: Class::Application, held: Some(held) })
            }
            Ok(_) => {
                Err(EngineError::new(&codes::INTERNAL, "the master answered something else to a barrier"))
            }
            Err(error) => {
                let error = self.unanswered(doing, &error);
                let is_known = error.code() != &codes::CANNOT_ATTACH && error.code() != &codes::TIMED_OUT;
                Err(if is_known {
                    error
                } else {
                    error
                        .because("What became of it is not known. The master runs the thaw hook in any case.")
                })
            }
        }
    }
}

/// Thaws what an earlier run of this daemon left held, before anything else is done.
pub(crate) fn thaw_left_over(context: &EngineContext) {
    let held = Layout::new(context.options.data.clone()).held();
    if replication::hooks::is_any_left_over(&held) {
        let patience = HOOK_TIMEOUT_MAX.saturating_add(Duration::from_secs(60));
        notify(&format!("EXTEND_TIMEOUT_USEC={}", patience.as_micros()));
    }
    for left in replication::hooks::thaw_left_over(&held) {
        let (level, text) = match left.failure {
            None => {
                let text = "the daemon had ended while the application was held; the thaw hook has run now";
                (Level::Warning, text.to_owned())
            }
            Some(why) => (Level::Error, format!("an application may still be held: {why}")),
        };
        match level {
            Level::Error => tracing::error!(scenario = left.scenario, text),
            _ => tracing::warn!(scenario = left.scenario, text),
        }
        context.activity.write(level, &left.scenario, None, &text);
    }
}
