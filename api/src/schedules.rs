//! Scrubs that are due: how often each scenario is scrubbed, and the thread that submits the jobs.
//!
//! [`Schedules`] is a projection of the server journal, like the registry, and not a part of the definition: a schedule is
//! changed while everything runs. When the last scrub ended the journal of the scenario says, so a restart forgets
//! nothing. A scrub that is due while the scenario does not replicate waits until it does; one that did not come to its
//! end is tried again after a while, not at once and not for ever in a row.

use crate::definition::Setting;
use crate::engine::{Engine, EngineError, EngineResult, State};
use crate::jobs::{JobFilter, Jobs, Submission};
use crate::points::wall_clock;
use crate::records::{Record, ScrubSet, replay};
use crate::server_journal::{Durability, ServerJournal};
use journal::Timestamp;
use parking_lot::RwLock;
use prost::Message;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use wire::codes;
use wire::units::{parse_duration, parse_size};
use wire::v1::{self, JobKind, JobState};

/// `scrub-rate` unless it is set: bytes a second.
const RATE_DEFAULT: u64 = 50_000_000;
/// Longest pause between two scrubs.
const EVERY_MAX: Duration = Duration::from_secs(10 * 365 * 86_400);
/// How often it is looked what is due.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Least pause before a scrub that did not come to its end is tried again, if the schedule is not closer.
const AGAIN: Duration = Duration::from_secs(3600);

/// How often a scenario is scrubbed, and how fast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Longest time from the end of one to the beginning of the next.
    pub every: Duration,
    /// Bytes of files a second, each side; 0: as fast as it goes.
    pub rate: u64,
    /// When it was set: nothing is due before `every` has passed.
    pub since: Timestamp,
}

/// The schedules of all scenarios, by id.
pub struct Schedules {
    journal: Arc<dyn ServerJournal>,
    known: RwLock<BTreeMap<u64, Schedule>>,
}

fn apply(known: &mut BTreeMap<u64, Schedule>, record: &Record) {
    match record {
        Record::ScrubSet(ScrubSet { id, every_seconds: 0, .. }) => drop(known.remove(id)),
        Record::ScrubSet(ScrubSet { id, every_seconds, rate, time }) => {
            let every = Duration::from_secs(*every_seconds);
            known.insert(*id, Schedule { every, rate: *rate, since: *time });
        }
        Record::ScenarioDeleted(deleted) => drop(known.remove(&deleted.id)),
        _ => {}
    }
}

impl Schedules {
    /// Reads the schedules from the server journal.
    ///
    /// # Errors
    /// Those of the journal.
    pub fn open(journal: Arc<dyn ServerJournal>) -> EngineResult<Self> {
        let mut known = BTreeMap::new();
        replay(journal.as_ref(), &mut |record| apply(&mut known, &record))?;
        Ok(Schedules { journal, known: RwLock::new(known) })
    }

    /// The schedule of a scenario; none: nobody scrubs it by itself.
    #[must_use]
    pub fn get(&self, scenario: u64) -> Option<Schedule> {
        self.known.read().get(&scenario).copied()
    }

    /// Takes what these settings say of the schedule, durably; the rest of them.
    ///
    /// # Errors
    /// `BAD_SETTING`; those of the journal.
    pub fn take(&self, scenario: u64, settings: Vec<Setting>) -> EngineResult<Vec<Setting>> {
        let before = self.get(scenario);
        let (mut every, mut rate) =
            before.map_or((Duration::ZERO, RATE_DEFAULT), |schedule| (schedule.every, schedule.rate));
        let (mut rest, mut any) = (Vec::new(), false);
        for setting in settings {
            let Setting { key, value } = &setting;
            let bad = |expected: &str| {
                EngineError::new(&codes::BAD_SETTING, format!("{key}={value}: expected {expected}"))
            };
            match key.replace('_', "-").as_str() {
                "scrub-every" if value.is_empty() || value == "off" => (every, any) = (Duration::ZERO, true),
                "scrub-every" => {
                    let parsed = parse_duration(value).map_err(|_| bad("a duration such as 7d, or off"))?;
                    if parsed < Duration::from_secs(1) || parsed > EVERY_MAX {
                        return Err(bad("1s to 3650d, or off"));
                    }
                    (every, any) = (parsed, true);
                }
                "scrub-rate" => {
                    let size = value.strip_suffix("/s").unwrap_or(value);
                    rate = parse_size(size).map_err(|_| bad("bytes a second such as 50MB/s"))?;
                    any = true;
                }
                _ => rest.push(setting),
            }
        }
        if any {
            if every.is_zero() && before.is_none() {
                let text = "scrub-rate has no meaning without scrub-every=DURATION";
                return Err(EngineError::new(&codes::BAD_SETTING, text));
            }
            let time = wall_clock();
            let record =
                Record::ScrubSet(ScrubSet { id: scenario, time, every_seconds: every.as_secs(), rate });
            let mut known = self.known.write();
            self.journal.append(record.kind(), &record.encode()?, Durability::Synced)?;
            apply(&mut known, &record);
        }
        Ok(rest)
    }
}

/// Whether a scrub is due that ended last at `ended`.
fn is_due(schedule: &Schedule, ended: Option<Timestamp>, now: Timestamp) -> bool {
    let base = ended.map_or(schedule.since, |ended| ended.max(schedule.since));
    let every = u64::try_from(schedule.every.as_nanos()).unwrap_or(u64::MAX);
    // One that is said to have ended far in the future was dated by a clock that was wrong.
    now.0.saturating_sub(base.0).unsigned_abs() >= every
}

/// Submits what is due until `stop` turns true.
pub fn start(
    schedules: Arc<Schedules>,
    engine: Arc<dyn Engine>,
    jobs: Arc<Jobs>,
    stop: watch::Receiver<bool>,
) {
    let run = move || {
        let mut tried: HashMap<u64, Instant> = HashMap::new();
        while !*stop.borrow() && stop.has_changed().is_ok() {
            std::thread::sleep(LOOK_EVERY);
            if schedules.known.read().is_empty() {
                continue;
            }
            if let Err(error) = look(&schedules, &*engine, &jobs, &mut tried) {
                tracing::warn!(%error, "scrubs that are due cannot be begun");
            }
        }
    };
    if let Err(error) = std::thread::Builder::new().name("schedule".to_owned()).spawn(run) {
        tracing::error!(%error, "cannot start a thread");
    }
}

fn look(
    schedules: &Schedules,
    engine: &dyn Engine,
    jobs: &Jobs,
    tried: &mut HashMap<u64, Instant>,
) -> EngineResult<()> {
    let now = Instant::now();
    for scenario in engine.list()? {
        let name = &scenario.definition.name;
        let Some(schedule) = schedules.get(scenario.id).filter(|_| scenario.state == State::Replicating)
        else {
            continue;
        };
        let rests = |at: &Instant| now.duration_since(*at) < schedule.every.min(AGAIN);
        if tried.get(&scenario.id).is_some_and(rests) {
            continue;
        }
        let ended = engine.status(name)?.last_scrub.map(|scrubbed| scrubbed.ended);
        if !is_due(&schedule, ended, wall_clock()) {
            continue;
        }
        let busy = JobFilter { scenario: Some(name.clone()), ..JobFilter::default() };
        let under_way = |job: &v1::Job| job.kind() == JobKind::Scrub && job.state() != JobState::Done;
        if jobs.list(&busy)?.iter().any(under_way) {
            continue;
        }
        tried.insert(scenario.id, now);
        let request = v1::ScrubRequest { name: name.clone(), rate: schedule.rate, ..Default::default() };
        jobs.submit(Submission {
            kind: JobKind::Scrub,
            scenario: name.clone(),
            exclusive: false,
            request: request.encode_to_vec(),
            idempotency_key: String::new(),
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_counts_from_the_last_end_or_the_setting() {
        let hour = 3_600_000_000_000;
        let schedule = Schedule { every: Duration::from_secs(3600), rate: 0, since: Timestamp(10 * hour) };
        for (ended, now, due) in [
            (None, 10 * hour, false),
            (None, 11 * hour, true),
            (Some(hour), 11 * hour - 1, false),
            (Some(hour), 11 * hour, true),
            (Some(12 * hour), 12 * hour + 1, false),
            (Some(12 * hour), 13 * hour, true),
            // A clock that was set back, by little and by much: it must not keep scrubs away until that time comes.
            (Some(12 * hour), 12 * hour - 1, false),
            (Some(1000 * hour), 13 * hour, true),
        ] {
            assert_eq!(is_due(&schedule, ended.map(Timestamp), Timestamp(now)), due, "{ended:?} {now}");
        }
    }
}
