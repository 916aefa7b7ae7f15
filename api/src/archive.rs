//! The archive of journals: which scenario is archived where, copying redo there, and rebuilding a tree out of it.
//!
//! [`Archives`] is a projection of the server journal, like the registry. [`ship`] copies what is durable and not yet
//! archived; it reads the journal and asks the store, and nothing waits for it. [`rebuild`] needs no daemon: a repository,
//! an empty directory, and the very code that applies captures on a replica.

pub mod rebuild;
pub mod ship;

use crate::engine::{EngineError, EngineResult};
use crate::points::wall_clock;
use crate::records::{ArchiveSet, Record, replay};
use crate::server_journal::{Durability, ServerJournal};
use journal::Timestamp;
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use wire::codes;

/// `archive-every` unless it is set.
pub const EVERY_DEFAULT: Duration = Duration::from_secs(60);
/// Least and most of it: below, a store is asked more often than it answers; beyond, it is no protection.
const EVERY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(86_400));

/// Where a journal is archived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Number of the repository here.
    pub repository: u64,
    /// Longest pause between two looks.
    pub every: Duration,
}

/// How an archive stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ArchiveStatus {
    /// Name of the repository.
    pub repository: String,
    /// Longest pause between two looks.
    pub every: Duration,
    /// Captured LSN of the newest archived event; 0: none.
    pub lsn: u64,
    /// Its time; none while nothing is archived.
    pub time: Option<Timestamp>,
    /// Age of the oldest journaled event that is not archived.
    pub rpo: Duration,
    /// Time of the newest journaled event less that of the newest archived one.
    pub behind: Duration,
    /// Stretches of history that are missing.
    pub gaps: u64,
    /// Why the last attempt failed.
    pub problem: Option<String>,
    /// When it ended.
    pub attempted: Option<Timestamp>,
}

/// The settings of all scenarios, by id.
pub struct Archives {
    journal: Arc<dyn ServerJournal>,
    known: RwLock<BTreeMap<u64, Setting>>,
}

fn apply(known: &mut BTreeMap<u64, Setting>, record: &Record) {
    match record {
        Record::ArchiveSet(ArchiveSet { id, repository: 0, .. }) => drop(known.remove(id)),
        Record::ArchiveSet(ArchiveSet { id, repository, every_milliseconds, .. }) => {
            let every = Duration::from_millis(*every_milliseconds);
            known.insert(*id, Setting { repository: *repository, every });
        }
        Record::ScenarioDeleted(deleted) => drop(known.remove(&deleted.id)),
        _ => {}
    }
}

impl Archives {
    /// Reads the settings from the server journal.
    ///
    /// # Errors
    /// Those of the journal.
    pub fn open(journal: Arc<dyn ServerJournal>) -> EngineResult<Self> {
        let mut known = BTreeMap::new();
        replay(journal.as_ref(), &mut |record| apply(&mut known, &record))?;
        Ok(Archives { journal, known: RwLock::new(known) })
    }

    /// Where a scenario is archived; none: nowhere.
    #[must_use]
    pub fn get(&self, scenario: u64) -> Option<Setting> {
        self.known.read().get(&scenario).copied()
    }

    /// Sets it, durably.
    ///
    /// # Errors
    /// `BAD_SETTING` for a pause out of bounds; those of the journal.
    pub fn set(&self, scenario: u64, setting: Option<Setting>) -> EngineResult<()> {
        let every = setting.map_or(EVERY_DEFAULT, |setting| setting.every);
        if every < EVERY.0 || every > EVERY.1 {
            let text = format!("archive-every={every:?}: expected 1s to 1d");
            return Err(EngineError::new(&codes::BAD_SETTING, text));
        }
        let record = Record::ArchiveSet(ArchiveSet {
            id: scenario,
            time: wall_clock(),
            repository: setting.map_or(0, |setting| setting.repository),
            every_milliseconds: u64::try_from(every.as_millis()).unwrap_or(u64::MAX),
        });
        let mut known = self.known.write();
        self.journal.append(record.kind(), &record.encode()?, Durability::Synced)?;
        apply(&mut known, &record);
        Ok(())
    }
}
