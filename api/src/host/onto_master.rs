//! Rewind onto the master.

use super::control::Control;
use super::error;
use super::past::{Watch, failed};
use super::running::{master_path, random_cookie};
use super::scene::Scene;
use crate::engine::{
    Change, Counts, Each, EngineError, EngineResult, FlushRequest, Interrupt, Level, Progress, ResolvedPoint,
    RewindPlan, RewindReport, Skipped, Stage, State,
};
use crate::points::PointSpec;
use crate::records::Wanted;
use crate::vault::restore_error;
use bytes::Bytes;
use journal::journal::{Clock, SystemClock};
use journal::master::{MasterChanges, MasterLink, MasterLinkError, Unwritten, Written};
use journal::{Capture, Lsn, Part, Provenance};
use replication::os_tree::OsTree;
use replication::replica::{LeasedView, Replica};
use replication::stream::LinkError;
use restore::session::{Onto, OntoReport, restore_master};
use restore::{MasterReport, PathFilter, RewindOptions, rewind_master};
use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};
use wire::stream::{Command, Outcome, encode_part};

/// Longest wait for the master to carry out a few MiB of changes: it may have to delete a large tree, or to wait for
/// captures to get here over a slow line.
const WRITE_WAIT: Duration = Duration::from_secs(900);
/// Longest wait for a barrier.
const FLUSH_WAIT: Duration = Duration::from_secs(300);
/// What it waits for: that the replica shows all of it.
const FLUSH: FlushRequest = FlushRequest { stage: Stage::Applied, consistent: false, timeout: FLUSH_WAIT };
/// How long a rewind that is begun again after a restart waits for the scenario to replicate.
const AGAIN_WAIT: Duration = Duration::from_secs(120);
/// How often it is looked whether the call is still wanted.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The master of a scenario, written through its stream.
struct Link<'s> {
    scene: &'s Scene,
    progress: &'s dyn Progress,
    /// The session under way, and how many commands it has had.
    session: Cell<(u64, u32)>,
}

/// Events travel as a part of a capture, with the rules of one; its number and time mean nothing here.
fn encoded(changes: MasterChanges) -> Result<Bytes, MasterLinkError> {
    if changes.events.is_empty() {
        return Ok(Bytes::new());
    }
    let capture = Capture {
        lsn: Lsn::captured(1),
        time: SystemClock.now(),
        provenance: Provenance::Derived,
        root: changes.root,
        path: Vec::new(),
        events: changes.events,
    };
    encode_part(&Part { number: 0, last: true, capture })
        .map_err(|error| refused(&EngineError::new(&wire::codes::INTERNAL, error.to_string())))
}

fn refused(error: &EngineError) -> MasterLinkError {
    let text = error.to_failure().message.to_string();
    MasterLinkError::Refused { code: error.code().id.to_owned(), text }
}

impl Link<'_> {
    fn send(&self, command: &Command) -> Result<Outcome, LinkError> {
        let give_up = Instant::now() + WRITE_WAIT;
        let ticket = loop {
            let master = self.scene.master(false).map_err(|_| LinkError::Disconnected)?;
            match master.send(command.clone()) {
                // What is on its way there comes first.
                Err(LinkError::Busy) if Instant::now() < give_up => std::thread::sleep(LOOK_EVERY / 10),
                result => break result?,
            }
        };
        loop {
            match ticket.wait(LOOK_EVERY) {
                Err(LinkError::TimedOut) if Instant::now() < give_up => {}
                result => return result,
            }
            if self.progress.interrupted() == Some(Interrupt::Shutdown) {
                return Err(LinkError::Disconnected);
            }
        }
    }
}

impl MasterLink for Link<'_> {
    fn write(&self, changes: MasterChanges) -> Result<Written, MasterLinkError> {
        let last = changes.last;
        let part = encoded(changes)?;
        let (session, number) = self.session.get();
        self.session.set(if last { (random_cookie(), 0) } else { (session, number + 1) });
        match self.send(&Command::Write { session, number, part, last }) {
            Ok(Outcome::Written(written)) => Ok(written),
            Ok(_) => Err(refused(&EngineError::new(
                &wire::codes::INTERNAL,
                "the master answered something else to changes of its tree",
            ))),
            Err(LinkError::Failed(failed)) => {
                Err(MasterLinkError::Refused { code: failed.code, text: failed.text })
            }
            Err(LinkError::TimedOut) => Err(MasterLinkError::TimedOut),
            Err(_) => Err(MasterLinkError::Disconnected),
        }
    }

    fn flush(&self) -> Result<Lsn, MasterLinkError> {
        self.scene.flush(&FLUSH).map(|flushed| flushed.lsn).map_err(|error| refused(&error))
    }
}

impl Scene {
    /// Whether the master can be written now; else why not. Changes nothing.
    pub(super) fn check_writable(&self) -> EngineResult<State> {
        let state = self.state();
        let wanted = match self.wanted() {
            Wanted::Running => None,
            Wanted::Suspended => Some(State::Suspended),
            Wanted::Stopped => Some(State::Stopped),
        };
        if let Some(wanted) = wanted {
            return Err(EngineError::not_replicating(self.name(), wanted));
        }
        if !matches!(state, State::Replicating | State::Detached) {
            return Err(EngineError::not_replicating(self.name(), state));
        }
        if self.master(false).is_err() {
            return Err(EngineError::not_replicating(self.name(), State::Problem)
                .because("the master is not connected"));
        }
        Ok(state)
    }

    /// What [`Scene::rewind_onto_master`] would do now. What was done on the master until now is waited for, so that
    /// the plan is about what is there.
    pub(super) fn plan_onto_master(
        &self,
        to: ResolvedPoint,
        filters: &[PathFilter],
        progress: &dyn Progress,
        each: Each<'_, Change>,
    ) -> EngineResult<RewindPlan> {
        let state = self.check_writable()?;
        let replica = self.replica()?;
        let watch = Watch(progress);
        if state == State::Replicating {
            self.flush(&FLUSH)?;
        }
        // A detached tree is not the master's.
        let from = Lsn::captured(replica.journal().applied().captured);
        let (now, then) = (replica.view(from)?, replica.view(to.lsn)?);
        let plan = restore::RewindPlan::onto_master(&now, &then, filters, &watch)
            .map_err(|cause| failed(progress, cause))?;
        let mut counts = Counts::default();
        plan.list_master(&watch, &mut |entry| {
            let change = self.change(entry);
            counts.add(&change);
            each(change)
        })
        .map_err(|cause| failed(progress, cause))?;
        let mut warnings: Vec<String> = plan
            .notes()
            .iter()
            .map(|note| format!("{:?}: {}", note.kind, String::from_utf8_lossy(&note.path)))
            .collect();
        warnings.push("the master's own files are changed; replication goes on".to_owned());
        if state == State::Detached {
            warnings.push(
                "the replica first returns to the capture and applies what the master did meanwhile; the plan above does \
                 not know that yet"
                    .to_owned(),
            );
        }
        Ok(RewindPlan { to, from, counts, warnings, point: PointSpec::Lsn(to.lsn) })
    }

    /// Makes the master's tree, or some paths of it, equal to a point. The scenario replicates before and afterwards.
    pub(super) fn rewind_onto_master(
        &self,
        to: ResolvedPoint,
        (paths, again): (Vec<PathFilter>, bool),
        progress: &dyn Progress,
        began: Instant,
    ) -> EngineResult<RewindReport> {
        self.wait_writable(again, progress, began);
        let _turning = self.turning.lock();
        let state = self.check_writable()?;
        let replica = self.replica()?;
        // Taken before the replica moves: the point may be one of its own.
        let then = replica.view(to.lsn)?;
        if state == State::Detached {
            self.resume_turning(progress)?;
        }
        let options = RewindOptions { paths, now: SystemClock.now(), before: None };
        let link = Link { scene: self, progress, session: Cell::new((random_cookie(), 0)) };
        let control = Control(Arc::clone(&replica));
        let report = rewind_master(&control, &link, &then, &options, &Watch(progress))
            .map_err(|cause| failed(progress, cause))?;
        Ok(self.master_report(to, report, progress, began))
    }

    /// Waits until all that was done on the master until now is in the replica's tree.
    pub(super) fn flush_applied(&self) -> EngineResult<()> {
        self.flush(&FLUSH).map(drop)
    }

    /// Gives the files of the master that a burst touched their last good versions.
    pub(super) fn last_good_onto_master(
        &self,
        (range, again): (Option<(u64, u64)>, bool),
        filters: &[PathFilter],
        progress: &dyn Progress,
        began: Instant,
    ) -> EngineResult<RewindReport> {
        self.wait_writable(again, progress, began);
        let _turning = self.turning.lock();
        if self.check_writable()? == State::Detached {
            self.resume_turning(progress)?;
        }
        self.flush_applied()?;
        let replica = self.replica()?;
        let now = Lsn::captured(replica.journal().applied().captured);
        let way = self.way_back(range, now, filters, progress)?;
        let options = RewindOptions { now: SystemClock.now(), ..RewindOptions::default() };
        let link = Link { scene: self, progress, session: Cell::new((random_cookie(), 0)) };
        let groups = &way.last_good.groups;
        let report =
            restore::burst::master_to_groups(&Control(replica), &link, groups, &options, &Watch(progress))
                .map_err(|cause| failed(progress, cause))?
                .ok_or_else(|| EngineError::new(&wire::codes::NO_BURST, "no burst touched anything"))?;
        Ok(self.master_report(way.before, report, progress, began))
    }

    /// After a restart the master may take a while to be there again.
    fn wait_writable(&self, again: bool, progress: &dyn Progress, began: Instant) {
        while again
            && self.check_writable().is_err()
            && began.elapsed() < AGAIN_WAIT
            && progress.interrupted().is_none()
        {
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// The master's tree as the replica shows it, with what was done there until now.
    pub(super) fn view_of_master(&self, replica: &Arc<Replica<OsTree>>) -> EngineResult<LeasedView<OsTree>> {
        if self.check_writable()? == State::Replicating {
            self.flush(&FLUSH)?;
        }
        // A detached tree is not the master's.
        Ok(replica.view(Lsn::captured(replica.journal().applied().captured))?)
    }

    /// Restores a session onto the master. The scenario replicates before and afterwards.
    pub(super) fn restore_onto_master(
        &self,
        onto: &Onto<'_>,
        again: bool,
        progress: &dyn Progress,
    ) -> EngineResult<OntoReport> {
        let began = Instant::now();
        self.wait_writable(again, progress, began);
        let _turning = self.turning.lock();
        if self.check_writable()? == State::Detached {
            self.resume_turning(progress)?;
        }
        let link = Link { scene: self, progress, session: Cell::new((random_cookie(), 0)) };
        let control = Control(self.replica()?);
        restore_master(&control, &link, onto, SystemClock.now(), &super::restoring::Watch(progress))
            .map_err(|error| restore_error(progress.interrupted(), error))
    }

    fn master_report(
        &self,
        to: ResolvedPoint,
        report: MasterReport,
        progress: &dyn Progress,
        began: Instant,
    ) -> RewindReport {
        let definition = self.definition();
        let mut skipped: Vec<Skipped> = Vec::new();
        let mut skipped_count = report.skipped_count;
        if !report.equal && skipped_count == 0 {
            let text = format!(
                "the master was changed meanwhile: at LSN {} it differs from the point; repeat the rewind",
                report.compared
            );
            progress.note(Level::Warning, &text);
            let path = definition.roots.first().map(|root| root.master.clone()).unwrap_or_default();
            skipped.push(Skipped { path, what: "later changes", error: text });
            skipped_count = 1;
        }
        skipped.extend(report.skipped.iter().map(|skipped| Skipped {
            path: master_path(&definition, skipped.root, &skipped.path),
            what: match skipped.what {
                Unwritten::Node => "node",
                Unwritten::Attributes => "owner, mode or times",
                Unwritten::Xattrs => "extended attributes",
                Unwritten::Removal => "removal",
            },
            error: std::io::Error::from_raw_os_error(skipped.errno).to_string(),
        }));
        RewindReport {
            to,
            before: Some(report.before),
            onto_master: true,
            files_changed: report.files_changed,
            bytes_written: report.bytes_written,
            elapsed: began.elapsed(),
            skipped,
            skipped_count,
        }
    }
}

/// What a master could not do, as an error of the engine.
pub(crate) fn master_error(operation: &str, source: &MasterLinkError) -> EngineError {
    let doing = format!("{operation} of the master");
    match source {
        MasterLinkError::Refused { code, text } => {
            let link = LinkError::Failed(wire::stream::Failed { code: code.clone(), text: text.clone() });
            error::link(&doing, &wire::codes::INTERNAL, &link)
        }
        MasterLinkError::TimedOut => error::link(&doing, &wire::codes::TIMED_OUT, &LinkError::TimedOut),
        _ => error::link(&doing, &wire::codes::CANNOT_ATTACH, &LinkError::Disconnected)
            .advise("Repeat the rewind when the master is connected: it goes on from what is there then."),
    }
}
