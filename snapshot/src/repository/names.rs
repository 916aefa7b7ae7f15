//! Sessions under the ids that they have elsewhere.
//!
//! A record is named by the hash of its sealed bytes, so a session that is recorded anew has another name. A repository
//! that is only the likeness of sessions that lie elsewhere ([`Repository::by_original`]) answers to the ids of those: the
//! `original` of its records. Everything that reads sessions works on it unchanged, and an id outlives the likeness.
//!
//! Refused: nothing of its own. A record without an `original` keeps its name; of two with the same one the greater name
//! counts, which is the same at every look, and both go when the session is removed. Memory is some 100 bytes a session.

use super::Repository;
use super::error::RepositoryError;
use super::id::{Id, ObjectKind};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// Names of records by the ids of their sessions.
#[derive(Debug, Default)]
pub(super) struct Names(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    by_session: BTreeMap<Id, BTreeSet<Id>>,
    records: HashSet<Id>,
}

impl Repository {
    /// The same repository, whose sessions have the ids of those that they were made from.
    #[must_use]
    pub fn by_original(mut self) -> Self {
        self.names = Some(Names::default());
        self
    }

    /// Whether contents of files can be had from it. The likeness of sessions that lie elsewhere has their trees only.
    #[must_use]
    pub fn holds_contents(&self) -> bool {
        self.names.is_none()
    }

    /// The sessions there are.
    pub(super) fn sessions_by_original(&self, names: &Names) -> Result<Vec<Id>, RepositoryError> {
        let mut known = names.0.lock();
        self.look(&mut known)?;
        Ok(known.by_session.keys().copied().collect())
    }

    /// The records of a session, the one that counts last; none if there is none.
    pub(super) fn records_of(&self, names: &Names, session: &Id) -> Result<Vec<Id>, RepositoryError> {
        let mut known = names.0.lock();
        self.look(&mut known)?;
        Ok(known.by_session.get(session).into_iter().flatten().copied().collect())
    }

    /// Reads what is new, and forgets what is gone.
    fn look(&self, known: &mut Known) -> Result<(), RepositoryError> {
        let there: HashSet<Id> = self.list_ids(ObjectKind::Snapshot)?.into_iter().collect();
        if !known.records.is_subset(&there) {
            *known = Known::default();
        }
        let new: Vec<Id> = there.difference(&known.records).copied().collect();
        for record in new {
            let session = self.load_record(&record)?.original.unwrap_or(record);
            known.by_session.entry(session).or_default().insert(record);
            known.records.insert(record);
        }
        Ok(())
    }
}
