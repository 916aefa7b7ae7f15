//! Looking after a repository: which sessions go, which packs go after them, and whether all is as it was written.
//!
//! - [`policy`] decides which sessions a retention keeps, and is pure; [`forget`] removes the records of the others.
//! - [`ledger`](self) is a copy of all index files made for one piece of work: every place of every blob, the packs that
//!   are marked, and which blobs the sessions need. [`plan`] decides from its sums what becomes of each pack, and is pure;
//!   [`prune`] does it.
//! - [`check`] compares everything with everything, and reads the packs that were read longest ago; [`verified`]
//!   remembers when that was; [`stats`] counts.
//!
//! **Why a prune loses nothing.** It runs beside our own backups. Safety rests on the order of what is written and looked
//! at, never on a clock:
//!
//! 1. What is needed is written first: packs that were packed anew, then index files without the packs that go. Those
//!    are *marked*: named, with all their blobs, in the list `packs_to_delete` of an index file, where readers do not look
//!    for blobs.
//! 2. Then the old index files are removed. From here on no backup that begins finds a blob in a marked pack.
//! 3. Then the locks are listed, and then the session records once more. A record that appeared and needs a marked pack
//!    gets it back. A backup whose record is not there yet sees, before or after it writes it, that blobs left the
//!    index ([`commit`](super::writer)). Only if it dies between its record and its second look may a record stay whose
//!    blobs are in marked packs; the next prune or check sees that, and puts the packs back.
//! 4. So a marked pack is removed only when no backup or reader is at work that was at work when it left the index (each
//!    lock carries a word of its own, and the mark names those that were held), and only from the records read after that.
//!    The grace period comes on top: it is for people who forgot the wrong session, and for readers that are slow.
//!
//! A kill anywhere leaves objects that are named twice, or marks of packs that are gone; the next prune tidies both up.
//!
//! **Memory.** A ledger takes 49 bytes for each place of a blob and some 150 for each pack, beside the open index (48 a
//! blob); reading an index file takes the file once. Nothing grows with the number of files or sessions but 32 bytes a
//! session.

pub mod check;
pub mod forget;
mod index_json;
mod ledger;
mod needers;
pub mod plan;
pub mod policy;
pub mod prune;
mod removal;
mod repack;
mod rewrite;
pub mod stats;
mod used;
pub mod verified;

/// Hears how far a long piece of work is, and says whether to stop.
pub trait Watch: Sync {
    /// `done` of `total` units of a phase. Cheap: called for every object.
    fn progress(&self, phase: &'static str, done: u64, total: Option<u64>, unit: &'static str);
    /// Whether to stop. Asked at least once for each object that is read or removed.
    fn cancelled(&self) -> bool;
}

/// Nobody listens and nobody cancels.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoWatch;

impl Watch for NoWatch {
    fn progress(&self, _: &'static str, _: u64, _: Option<u64>, _: &'static str) {}

    fn cancelled(&self) -> bool {
        false
    }
}

/// Fails if somebody asked to stop.
fn go_on(watch: &dyn Watch) -> Result<(), super::RepositoryError> {
    if watch.cancelled() { Err(super::RepositoryError::Cancelled) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
