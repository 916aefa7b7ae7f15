//! A session of one repository as a session of another one.
//!
//! Trees and blobs keep their ids, so the copy is the same to the byte and shares with what the other repository holds; what
//! that one lacks is stored by its own writer, under its key. Every blob is proved by its hash as it is read, and nothing
//! is stored that was not. All trees of the session are looked at, also those that the other repository has: that a tree is
//! there does not say that all below it is.
//!
//! **Complete or absent.** Packs, index, record, and the writer's two looks, as with a backup ([`BlobWriter::commit`]); what
//! was removed meanwhile is copied again. Something that cannot be had whole from where the session lies ends the copy without a
//! record, with the objects named that need it. What the other repository has already is not read, so a copy also succeeds from
//! a repository whose damage the other one does not share.
//!
//! **Once.** The record's `original` is the session that it was first copied from, as restic's `copy` has it. A session of the
//! same original, tree, time, host and paths is the copy; if it lacks something, that is stored and no second record made.
//! Who lets two copies of one session run at a time gets two records.
//!
//! An attempt that is cut off leaves blobs, and those in an index file are not read again by the next one. Memory: 32 bytes for each
//! tree of the session, a path for each directory that waits, the ids and places of [`WANTED_MAX`] blobs (and those of one
//! more file), and a piece of a pack for each of the readers.

mod gather;
#[cfg(test)]
mod tests;

use super::{Missed, SessionError};
use crate::repository::upkeep::Watch;
use crate::repository::{
    BlobWriter, Commit, Id, Lock, Repository, RepositoryErrorKind, SessionRecord, WriterOptions,
};
use gather::Gatherer;
use std::sync::Arc;

/// How often what was removed meanwhile is copied again.
const ATTEMPTS_MAX: u32 = 3;
/// Blobs that are looked for at a time; few in tests, whose sessions are small.
pub const WANTED_MAX: usize = if cfg!(test) { 7 } else { 20_000 };

/// What is copied, and from where.
#[derive(Clone, Copy, Debug)]
pub struct Source<'s> {
    /// Its repository, whose index is as new as the session.
    pub repository: &'s Arc<Repository>,
    /// Its id there.
    pub id: &'s Id,
    /// Its record.
    pub record: &'s SessionRecord,
}

impl Source<'_> {
    /// The session that this one was first copied from, or itself.
    #[must_use]
    pub fn original(&self) -> Id {
        self.record.original.unwrap_or(*self.id)
    }
}

/// What copying did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Trees that were looked at.
    pub trees: u64,
    /// Blobs of data that were copied.
    pub blobs: u64,
    /// Their bytes, and those of the trees that were new.
    pub bytes: u64,
    /// Bytes that what is new takes.
    pub bytes_stored: u64,
}

/// A session that is whole in the other repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Its id there.
    pub id: Id,
    /// It was there before, and nothing was written.
    pub was_there: bool,
    /// What was done.
    pub counts: Counts,
}

/// What came of a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is durable, and so is all that it needs.
    Copied(Copied),
    /// Nothing was recorded: these objects, the first that were met, need what cannot be had whole.
    Damaged(Vec<Missed>),
}

/// The copy of a session in a repository, if there is one; whether it is whole is another question.
///
/// # Errors
/// Those of listing the sessions. A record that cannot be read is none.
pub fn find(there: &Repository, source: &Source<'_>) -> Result<Option<Id>, SessionError> {
    let (original, wanted) = (source.original(), source.record);
    for id in there.list_sessions()? {
        let record = match there.load_session(&id) {
            Ok(record) => record,
            Err(error)
                if matches!(error.kind(), RepositoryErrorKind::Damaged | RepositoryErrorKind::NotFound) =>
            {
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let is_same = record.tree == wanted.tree
            && record.time == wanted.time
            && record.hostname == wanted.hostname
            && record.paths == wanted.paths;
        if is_same && record.original.unwrap_or(id) == original {
            return Ok(Some(id));
        }
    }
    Ok(None)
}

/// Copies a session, and waits until it is durable. `lock` is the caller's on the other repository, and the session is locked
/// against those who forget it.
///
/// # Errors
/// `Cancelled`; `Removed`; those of both repositories. Nothing is recorded then; what was stored by a copy that was
/// cancelled is found by the next one.
pub fn copy(
    source: &Source<'_>,
    (there, lock): (&Arc<Repository>, &Lock),
    watch: &dyn Watch,
) -> Result<Outcome, SessionError> {
    copy_in(source, (there, lock), WriterOptions::default(), watch)
}

fn copy_in(
    source: &Source<'_>,
    (there, lock): (&Arc<Repository>, &Lock),
    options: WriterOptions,
    watch: &dyn Watch,
) -> Result<Outcome, SessionError> {
    // Before anything is looked for: what leaves the index from now on is noticed when the record is written.
    let writer = BlobWriter::new(Arc::clone(there), options)?;
    let found = find(there, source)?;
    let tree = &source.record.tree;
    if let Some(id) = found
        && there.has_all_of(tree)?
    {
        return Ok(Outcome::Copied(Copied { id, was_there: true, counts: Counts::default() }));
    }
    let gatherer = Gatherer::new(source.repository, &writer, watch);
    let record = SessionRecord { parent: None, original: Some(source.original()), ..source.record.clone() };
    for _ in 0..ATTEMPTS_MAX {
        let gathered = gatherer.gather(tree);
        let damaged = gatherer.damaged();
        if gathered.is_err() || !damaged.is_empty() {
            // What was read is worth keeping; that it cannot be kept is not what matters now.
            let _ = writer.flush();
            gathered?;
            return Ok(Outcome::Damaged(damaged));
        }
        let id = match found {
            Some(id) => {
                writer.flush()?;
                there.has_all_of(tree)?.then_some(id)
            }
            None => match writer.commit(lock, &record)? {
                Commit::Recorded(id) => Some(id),
                Commit::Missing(_) => None,
            },
        };
        if let Some(id) = id {
            return Ok(Outcome::Copied(Copied { id, was_there: false, counts: gatherer.counts() }));
        }
    }
    Err(SessionError::Removed { attempts: ATTEMPTS_MAX })
}
