//! The scenarios there are: a projection of the server journal, held in memory.
//!
//! A change is journaled durably before it is seen. The lock is held across the append: two creations of one name
//! meet here, and one of them loses.

use crate::definition::{Definition, Placement};
use crate::engine::EngineError;
use crate::points::wall_clock;
use crate::records::{
    Record, ScenarioCreated, ScenarioDeleted, ScenarioUpdated, StateWanted, Wanted, replay,
};
use crate::server_journal::{Durability, ServerJournal};
use journal::Timestamp;
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A scenario as the registry knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Never used twice.
    pub id: u64,
    /// When it was defined, by the replica's clock.
    pub created: Timestamp,
    /// Complete: every root has its replica directory.
    pub definition: Definition,
    /// What it should be doing.
    pub wanted: Wanted,
}

/// All scenarios of a daemon.
pub struct Registry {
    journal: Arc<dyn ServerJournal>,
    replica_dir: PathBuf,
    placement: Placement,
    scenarios: RwLock<Scenarios>,
}

#[derive(Default)]
struct Scenarios {
    by_id: BTreeMap<u64, Entry>,
    last_id: u64,
}

impl Scenarios {
    fn find(&self, name: &str) -> Result<&Entry, EngineError> {
        let found = self.by_id.values().find(|entry| entry.definition.name == name);
        found.ok_or_else(|| EngineError::no_such_scenario(name))
    }

    fn apply(&mut self, record: Record) {
        match record {
            Record::ScenarioCreated(ScenarioCreated { id, time, definition }) => {
                self.last_id = self.last_id.max(id);
                self.by_id.insert(id, Entry { id, created: time, definition, wanted: Wanted::Stopped });
            }
            Record::ScenarioUpdated(ScenarioUpdated { id, definition, .. }) => {
                if let Some(entry) = self.by_id.get_mut(&id) {
                    entry.definition = definition;
                }
            }
            Record::ScenarioDeleted(ScenarioDeleted { id, .. }) => {
                self.by_id.remove(&id);
            }
            Record::StateWanted(StateWanted { id, wanted, .. }) => {
                if let Some(entry) = self.by_id.get_mut(&id) {
                    entry.wanted = wanted;
                }
            }
            _ => {}
        }
    }
}

impl Registry {
    /// Reads the scenarios from the server journal. Replica directories nobody named are made below `replica_dir`.
    ///
    /// # Errors
    /// Those of the journal.
    pub fn open(
        journal: Arc<dyn ServerJournal>,
        replica_dir: PathBuf,
        placement: Placement,
    ) -> Result<Self, EngineError> {
        let mut scenarios = Scenarios::default();
        replay(journal.as_ref(), &mut |record| scenarios.apply(record))?;
        Ok(Registry { journal, replica_dir, placement, scenarios: RwLock::new(scenarios) })
    }

    /// All of them, by name.
    #[must_use]
    pub fn list(&self) -> Vec<Entry> {
        let mut list: Vec<_> = self.scenarios.read().by_id.values().cloned().collect();
        list.sort_by(|a, b| a.definition.name.cmp(&b.definition.name));
        list
    }

    /// One of them.
    ///
    /// # Errors
    /// `NO_SUCH_SCENARIO`.
    pub fn get(&self, name: &str) -> Result<Entry, EngineError> {
        self.scenarios.read().find(name).cloned()
    }

    /// The definition with a replica directory for every root, checked against itself and all others. Changes nothing.
    ///
    /// # Errors
    /// Those of [`Definition::check`] and [`Definition::check_beside`].
    pub fn complete(&self, definition: Definition) -> Result<Definition, EngineError> {
        self.complete_beside(definition, &self.scenarios.read())
    }

    fn complete_beside(
        &self,
        mut definition: Definition,
        all: &Scenarios,
    ) -> Result<Definition, EngineError> {
        definition.check(self.placement)?;
        choose_replicas(&mut definition, &self.replica_dir);
        definition.check(self.placement)?;
        definition.check_beside(all.by_id.values().map(|entry| &entry.definition), self.placement)?;
        Ok(definition)
    }

    /// Takes a new scenario in.
    ///
    /// # Errors
    /// Those of [`Registry::complete`] and of the journal.
    pub fn create(&self, definition: Definition) -> Result<Entry, EngineError> {
        let mut all = self.scenarios.write();
        let definition = self.complete_beside(definition, &all)?;
        let name = definition.name.clone();
        let id = all.last_id + 1;
        self.change(
            &mut all,
            Record::ScenarioCreated(ScenarioCreated { id, time: wall_clock(), definition }),
        )?;
        all.find(&name).cloned()
    }

    /// Gives a scenario another definition of the same name and roots.
    ///
    /// # Errors
    /// `NO_SUCH_SCENARIO`, those of [`Definition::check`] and of the journal.
    pub fn update(&self, definition: Definition) -> Result<Entry, EngineError> {
        definition.check(self.placement)?;
        let mut all = self.scenarios.write();
        let name = definition.name.clone();
        let id = all.find(&name)?.id;
        self.change(
            &mut all,
            Record::ScenarioUpdated(ScenarioUpdated { id, time: wall_clock(), definition }),
        )?;
        all.find(&name).cloned()
    }

    /// Forgets a scenario.
    ///
    /// # Errors
    /// `NO_SUCH_SCENARIO` and those of the journal.
    pub fn delete(&self, name: &str) -> Result<(), EngineError> {
        let mut all = self.scenarios.write();
        let id = all.find(name)?.id;
        self.change(&mut all, Record::ScenarioDeleted(ScenarioDeleted { id, time: wall_clock() }))
    }

    /// Remembers what a scenario should be doing; journals only a difference.
    ///
    /// # Errors
    /// `NO_SUCH_SCENARIO` and those of the journal.
    pub fn want(&self, name: &str, wanted: Wanted) -> Result<(), EngineError> {
        let mut all = self.scenarios.write();
        let entry = all.find(name)?;
        if entry.wanted == wanted {
            return Ok(());
        }
        let id = entry.id;
        self.change(&mut all, Record::StateWanted(StateWanted { id, time: wall_clock(), wanted }))
    }

    /// Journal first: what a client was told must survive a crash.
    fn change(&self, all: &mut Scenarios, record: Record) -> Result<(), EngineError> {
        self.journal.append(record.kind(), &record.encode()?, Durability::Synced)?;
        all.apply(record);
        Ok(())
    }
}

/// `DIR/NAME/<last component of the root>`, with a number where two roots have the same one.
fn choose_replicas(definition: &mut Definition, replica_dir: &Path) {
    let base = replica_dir.join(&definition.name);
    let mut taken: Vec<PathBuf> = definition.roots.iter().filter_map(|root| root.replica.clone()).collect();
    for root in &mut definition.roots {
        if root.replica.is_some() {
            continue;
        }
        let name = root.master.file_name().map_or_else(|| OsString::from("root"), OsString::from);
        let mut candidate = base.join(&name);
        let mut number = 2_u32;
        while taken.contains(&candidate) {
            let mut numbered = name.clone();
            numbered.push(format!("-{number}"));
            candidate = base.join(numbered);
            number += 1;
        }
        taken.push(candidate.clone());
        root.replica = Some(candidate);
    }
}

#[cfg(test)]
mod tests;
