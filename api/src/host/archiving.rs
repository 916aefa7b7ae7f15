//! The thread that archives the journal of a scenario, and what status says of it.
//!
//! It lives as long as the replica side is open. Nothing waits for it but its own end: apply, acknowledgement and
//! retention do not know it. It looks at the journal when a segment was sealed, when the pause that was set has passed,
//! and when a setting changed; what fails is told once in the log, is in the status until it passes, and is tried again.

use super::Host;
use super::scene::Scene;
use crate::archive::ship::{Owner, Shipped, Shipper};
use crate::archive::{ArchiveStatus, EVERY_DEFAULT, Setting as Archive};
use crate::definition::Setting;
use crate::engine::{EngineError, EngineResult, Level, Scenario};
use crate::points::wall_clock;
use crate::vault::no_such_repository;
use journal::Timestamp;
use journal::journal::Journal;
use journal::log::{Log, RecordAt};
use parking_lot::{Condvar, Mutex};
use snapshot::archive::Upto;
use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use wire::codes;
use wire::units::parse_duration;

/// How often it is looked whether a segment was sealed.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Longest pause after a failure.
const RETRY: Duration = Duration::from_secs(30);
/// Records read to find the oldest one that is not archived.
const READ_MAX: usize = 1000;

/// The journals that a thread of this process archives. Two would take each other for strangers, or worse.
static WRITING: Mutex<BTreeSet<[u8; 16]>> = Mutex::new(BTreeSet::new());

/// The only writer of a journal's archive in this process.
struct Turn([u8; 16]);

impl Turn {
    /// None while another one is.
    fn take(journal: [u8; 16]) -> Option<Turn> {
        WRITING.lock().insert(journal).then(|| Turn(journal))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        WRITING.lock().remove(&self.0);
    }
}

/// What the thread said last.
#[derive(Clone, Debug, Default)]
struct Said {
    upto: Upto,
    end: Option<RecordAt>,
    gaps: u64,
    problem: Option<String>,
    attempted: Option<Timestamp>,
}

#[derive(Default)]
struct State {
    stopping: bool,
    /// Something was set: look now.
    poked: bool,
    said: Said,
}

type Shared = Arc<(Mutex<State>, Condvar)>;

/// The thread of one scenario, if there is one.
#[derive(Default)]
pub(super) struct Archiving {
    thread: Mutex<Option<(Shared, JoinHandle<()>)>>,
}

impl Archiving {
    /// Ends the thread. A call to a store that is under way is not waited for: it holds nothing of the scenario, and the
    /// next thread of the same journal does not begin before this one has ended.
    pub(super) fn stop(&self, limit: Duration) {
        let Some((shared, thread)) = self.thread.lock().take() else { return };
        shared.0.lock().stopping = true;
        shared.1.notify_all();
        let give_up = Instant::now() + limit;
        while !thread.is_finished() && Instant::now() < give_up {
            std::thread::sleep(Duration::from_millis(5));
        }
        if thread.is_finished() && thread.join().is_err() {
            tracing::error!("the thread of an archive panicked");
        }
    }

    fn poke(&self) {
        if let Some((shared, _)) = &*self.thread.lock() {
            shared.0.lock().poked = true;
            shared.1.notify_all();
        }
    }

    fn said(&self) -> Said {
        self.thread.lock().as_ref().map(|(shared, _)| shared.0.lock().said.clone()).unwrap_or_default()
    }
}

/// What the thread knows.
struct Worker {
    context: crate::daemon::EngineContext,
    scenario: u64,
    owner: Owner,
    journal: Weak<Journal>,
    shared: Shared,
    /// The repository it is of, and when it was opened.
    shipper: Option<(u64, Shipper)>,
}

impl Scene {
    /// Starts the thread beside a replica side that was just opened.
    pub(super) fn start_archiving(&self, journal: &Arc<Journal>) {
        let definition = self.definition();
        let root = |root: &crate::definition::Root| {
            let path: std::path::PathBuf = root.master.components().collect();
            snapshot::repository::session::path_text(path.as_os_str().as_bytes())
        };
        let uname = || rustix::system::uname().nodename().to_string_lossy().into_owned();
        let owner = Owner {
            journal: journal.id(),
            scenario: definition.name.clone(),
            host: definition.master.clone().unwrap_or_else(uname),
            roots: definition.roots.iter().map(root).collect(),
        };
        let shared = Shared::default();
        let mut worker = Worker {
            context: self.context.clone(),
            scenario: self.id(),
            owner,
            journal: Arc::downgrade(journal),
            shared: Arc::clone(&shared),
            shipper: None,
        };
        match std::thread::Builder::new().name("archive".to_owned()).spawn(move || worker.run()) {
            Ok(thread) => *self.archiving.thread.lock() = Some((shared, thread)),
            Err(error) => self.note(Level::Error, &format!("the journal cannot be archived: {error}")),
        }
    }

    /// How the archive stands; none if the journal is not archived.
    pub(super) fn archive_status(&self) -> EngineResult<Option<ArchiveStatus>> {
        let Some(setting) = self.context.archives.get(self.id()) else { return Ok(None) };
        let said = self.archiving.said();
        let mut status = ArchiveStatus {
            repository: self.context.vault.describe(setting.repository)?.name,
            every: setting.every,
            lsn: said.upto.lsn,
            time: (said.upto.lsn > 0).then_some(Timestamp(said.upto.time)),
            gaps: said.gaps,
            problem: said.problem,
            attempted: said.attempted,
            ..ArchiveStatus::default()
        };
        let Ok(replica) = self.replica() else { return Ok(Some(status)) };
        let journal = replica.journal();
        let (journaled, newest) = (journal.journaled(), journal.journaled_time());
        if journaled.captured > said.upto.lsn {
            let oldest = oldest_waiting(journal.redo(), said.end, said.upto.lsn).unwrap_or(newest);
            status.rpo = since(oldest, wall_clock());
            status.behind = since(status.time.unwrap_or(oldest), newest);
        }
        Ok(Some(status))
    }
}

fn since(then: Timestamp, now: Timestamp) -> Duration {
    Duration::from_nanos(u64::try_from(now.0.saturating_sub(then.0)).unwrap_or(0))
}

/// When the first capture behind what is archived was made.
fn oldest_waiting(redo: &Log, end: Option<RecordAt>, archived: u64) -> Option<Timestamp> {
    let from = end.filter(|end| *end >= redo.first() && *end <= redo.end()).unwrap_or_else(|| redo.first());
    let waits = |lsn: journal::Lsn| !lsn.is_local() && lsn.captured > archived;
    let records = redo.read(from).take(READ_MAX).map_while(Result::ok);
    records.into_iter().find(|record| record.lsn.is_some_and(waits)).map(|record| record.time)
}

impl Worker {
    fn run(&mut self) {
        // One that was given up may still wait for its store.
        let Some(_turn) = self.wait_turn() else { return };
        let mut last: Option<Instant> = None;
        loop {
            let Some(setting) = self.wait(last) else { return };
            last = Some(Instant::now());
            let outcome = self.look(setting);
            self.say(outcome);
        }
    }

    /// Returns when no other thread archives this journal any more; none when it is to end.
    fn wait_turn(&self) -> Option<Turn> {
        loop {
            if let Some(turn) = Turn::take(self.owner.journal) {
                return Some(turn);
            }
            let (state, changed) = &*self.shared;
            let mut state = state.lock();
            if state.stopping {
                return None;
            }
            let text = "the archive's last writer still waits for its store";
            state.said.problem.get_or_insert_with(|| text.to_owned());
            changed.wait_for(&mut state, LOOK_EVERY);
        }
    }

    /// The live segment, while the journal is open.
    fn live(&self) -> Option<u64> {
        self.journal.upgrade().map(|journal| journal.redo().end().segment)
    }

    /// Returns when there is something to do; none when it is to end.
    fn wait(&mut self, last: Option<Instant>) -> Option<Archive> {
        let live = self.live()?;
        loop {
            let setting = self.context.archives.get(self.scenario);
            let (state, changed) = &*self.shared;
            let mut state = state.lock();
            if state.stopping {
                return None;
            }
            let failed = state.said.problem.is_some();
            let poked = std::mem::take(&mut state.poked);
            if let Some(setting) = setting {
                let every = if failed { setting.every.min(RETRY) } else { setting.every };
                let due = last.is_none_or(|last| last.elapsed() >= every);
                let sealed = !failed && live != self.live()?;
                if poked || due || sealed {
                    return Some(setting);
                }
            } else {
                state.said = Said::default();
            }
            changed.wait_for(&mut state, LOOK_EVERY);
        }
    }

    fn look(&mut self, setting: Archive) -> EngineResult<Shipped> {
        let name = self.context.vault.describe(setting.repository)?.name;
        if self.shipper.as_ref().is_none_or(|(of, _)| *of != setting.repository) {
            let (_, repository) = self.context.vault.get(&name)?;
            self.shipper = Some((setting.repository, Shipper::open(repository, self.owner.clone())?));
        }
        let Some((_, shipper)) = &mut self.shipper else { return Ok(Shipped::default()) };
        let points = self.context.vault.points_of(setting.repository, &self.owner.journal);
        let captured = || points.iter().map(|lsn| lsn.captured);
        let sessions = captured().min().zip(captured().max());
        let (journal, shared) = (&self.journal, &self.shared);
        let redo = || journal.upgrade().map(|journal| Arc::clone(journal.redo()));
        let stop = || shared.0.lock().stopping;
        let outcome = shipper.look(&redo, sessions, &stop);
        if outcome.as_ref().is_err_and(|error| error.code() == &codes::ARCHIVE_FORKED) {
            // What it remembers is not what is there. The next look begins with what is, and refuses if that is another
            // history.
            self.shipper = None;
        }
        outcome
    }

    fn say(&self, outcome: EngineResult<Shipped>) {
        let mut said = self.shared.0.lock().said.clone();
        if let Some((_, shipper)) = &self.shipper {
            (said.upto, said.end, said.gaps) = (shipper.upto(), shipper.end(), shipper.gaps());
        }
        said.attempted = Some(wall_clock());
        let before = said.problem.take();
        match outcome {
            Ok(shipped) => {
                if shipped.gap {
                    let text = "the journal gave segments back before they were archived, or no session is old \
                                enough for what is: the archive has a gap";
                    self.note(Level::Error, text);
                }
                if shipped.lost > 0 {
                    let text = format!(
                        "{}: {} objects of the archive had vanished from the store. What the journal still has of \
                         them was archived again",
                        codes::ARCHIVE_DAMAGED.id,
                        shipped.lost
                    );
                    self.note(Level::Error, &text);
                    said.problem = Some(text);
                } else if before.is_some() {
                    let text = format!("the journal is archived again, up to LSN {}", said.upto.lsn);
                    self.note(Level::Info, &text);
                }
            }
            Err(error) => {
                let failure = error.to_failure();
                let text = format!("{}: {}", failure.code, failure.message);
                if before.as_ref() != Some(&text) {
                    self.note(Level::Error, &format!("the journal is not archived: {text}"));
                }
                said.problem = Some(text);
            }
        }
        self.shared.0.lock().said = said;
    }

    fn note(&self, level: Level, text: &str) {
        self.context.activity.write(level, &self.owner.scenario, None, text);
    }
}

impl Host {
    /// Takes the settings of the archive out of a list and carries them out, all or none. Whether nothing else is left.
    pub(super) fn set_archive(&self, scenario: &str, settings: &[Setting]) -> EngineResult<Vec<Setting>> {
        let is_ours = |setting: &&Setting| {
            matches!(setting.key.replace('_', "-").as_str(), "archive" | "archive-every")
        };
        let (ours, rest): (Vec<&Setting>, Vec<&Setting>) = settings.iter().partition(is_ours);
        let rest: Vec<Setting> = rest.into_iter().cloned().collect();
        if ours.is_empty() {
            return Ok(rest);
        }
        // What else is asked for must make sense before anything is done.
        let entry = self.context.registry.get(scenario)?;
        entry.definition.with_settings(&rest)?;
        if !rest.is_empty() {
            self.stopped_scene(scenario)?;
        }
        let before = self.context.archives.get(entry.id);
        let mut repository = before.map(|setting| setting.repository);
        let mut every = before.map_or(EVERY_DEFAULT, |setting| setting.every);
        for Setting { key, value } in ours {
            if key == "archive" {
                repository = match value.as_str() {
                    "" | "off" => None,
                    name => {
                        self.refuse_on_tape(name, "archiving a journal")?;
                        Some(self.context.vault.number(name).ok_or_else(|| no_such_repository(name))?)
                    }
                };
            } else {
                let bad = |_| {
                    let text = format!("{key}={value}: expected a duration such as 60s");
                    EngineError::new(&codes::BAD_SETTING, text)
                };
                every = parse_duration(value).map_err(bad)?;
            }
        }
        let setting = repository.map(|repository| Archive { repository, every });
        if setting.is_none() && before.is_none() {
            let text = "archive-every has no meaning without archive=REPOSITORY";
            return Err(EngineError::new(&codes::BAD_SETTING, text));
        }
        self.context.archives.set(entry.id, setting)?;
        self.scene(scenario)?.archiving.poke();
        Ok(rest)
    }

    /// A scenario as it is shown, unchanged.
    pub(super) fn shown(&self, scenario: &str) -> EngineResult<Scenario> {
        crate::engine::Engine::show(self, scenario)
    }
}

#[cfg(test)]
mod tests;
