//! A scenario's side of a restore: whether its replica may be restored onto, and doing it, one change of it at a time.

use super::Watch;
use crate::engine::{EngineError, EngineResult, Onto, Progress, RestoreReport, RestoreRequest, State};
use crate::host::control::Control;
use crate::host::scene::Scene;
use crate::vault::{Found, lsn_of, restore_error};
use journal::controls::Synchronized;
use journal::journal::{Clock, SystemClock};
use replication::os_tree::OsTree;
use replication::replica::Replica;
use restore::session;
use std::sync::Arc;
use wire::codes;

/// With what is known of the session, if it was made from this journal.
pub(super) fn with_origin<'r>(
    onto: session::Onto<'r>,
    found: &Found,
    replica: &Replica<OsTree>,
) -> session::Onto<'r> {
    let id = replica.journal().id();
    let device = id.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    match &found.made {
        Some(made) if made.journal == id => onto.made_from(device, lsn_of(made)),
        _ => onto,
    }
}

/// A replica stops following by itself, whatever has become of its master; only a synchronization is not broken off,
/// since a tree between two states is nothing to restore onto.
fn may_stop(state: State, anyway: bool) -> bool {
    anyway || state != State::Synchronizing
}

impl Scene {
    /// Whether the replica can be made to stop following its master; that is what a restore onto it needs.
    pub(super) fn check_stoppable(&self, replica: &Replica<OsTree>, anyway: bool) -> EngineResult<()> {
        if replica.journal().synchronized() != Synchronized::Completed {
            let message = format!("scenario \"{}\" has not been synchronized", self.name());
            return Err(EngineError::new(&codes::SYNCHRONIZING, message));
        }
        let state = self.state();
        if may_stop(state, anyway) {
            return Ok(());
        }
        let message = format!(
            "scenario \"{}\" cannot be brought to stop following its master (state: {})",
            self.name(),
            state.word()
        );
        Err(EngineError::new(&codes::CANNOT_STOP, message)
            .because("A restore onto the replica needs a tree that stands still.")
            .advise("Wait until it replicates, or stop it; `--continue-if-not-stopped` tries all the same."))
    }

    pub(super) fn restore_onto(
        &self,
        onto: &session::Onto<'_>,
        request: &RestoreRequest,
        progress: &dyn Progress,
    ) -> EngineResult<RestoreReport> {
        if request.onto == Onto::Master {
            let done = self.restore_onto_master(onto, request.again, progress)?;
            let (receipt, before) = (done.receipt, done.before);
            return Ok(RestoreReport { receipt, before, onto_master: true, ..RestoreReport::default() });
        }
        let _turning = self.turn(request.again, progress)?;
        let replica = self.replica()?;
        self.check_stoppable(&replica, request.continue_if_not_stopped)?;
        let control = Control(Arc::clone(&replica));
        let done = session::restore_replica(&control, onto, SystemClock.now(), &Watch(progress))
            .map_err(|error| restore_error(progress.interrupted(), error))?;
        let (receipt, before, detached) = (done.receipt, done.before, done.detached);
        Ok(RestoreReport { receipt, before, detached, ..RestoreReport::default() })
    }
}

#[cfg(test)]
mod tests;
