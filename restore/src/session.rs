//! Restoring a session from a repository into a directory.
//!
//! It needs the repository and its password alone: neither journal nor catalog nor daemon. An object comes out at
//! TARGET/<its absolute path on the master>.
//!
//! [`plan`] walks the session's trees and decides about every object by one pure function (`decide`), given what stands
//! in the target; nothing is changed. [`execute`] walks again, decides by the same function and does it. The plan keeps
//! counts, not objects, so neither takes memory that grows with the session.
//!
//! **An object appears under its name only whole.** Files are written under temporary names in their own directories, in
//! batches: their blobs are fetched pack by pack, each pack read once a batch, and written where they belong; then come
//! owner, mode, times, attributes; then one `syncfs`; then the renames, while the next batch is filled. Directories get
//! their metadata when all in them is there, the deepest first. The end is a last `syncfs`.
//!
//! **A restore that did not end can be run again.** While it runs, the target holds a marker that names the session and
//! the paths. The next run of the same restore finds it, removes the temporary files of the dead one, and leaves objects
//! alone that are whole by size, time and mode. Only objects that were renamed look so, but for those of somebody who sets
//! all three on purpose; `verify` reads those again, too.
//!
//! **Repositories are hostile.** Names are checked by the reader of trees and never resolved by the kernel as paths;
//! [`target`] follows no link. Depth, pending directories and hard links have limits; the size that a file announces is
//! compared with what its blobs are before anything is written. What is damaged is not created: it is listed with the
//! object of the repository that is damaged, and the rest goes on.
//!
//! Limits: batches of 200,000 blobs, 8,192 files or 4 GiB of whole files, whichever comes first. A killed run loses the
//! two batches under way, or the part of a single file that is larger.

mod batch;
mod compare;
mod decide;
pub mod error;
mod execute;
mod fill;
mod finish;
mod links;
mod marker;
mod meta;
pub mod onto;
mod paths;
mod plan;
pub mod receipt;
mod target;
#[cfg(test)]
mod tests;
mod trees;
mod verify;
mod walk;

pub use compare::stands;
pub use error::{SessionRestoreError, SessionRestoreErrorKind};
pub use execute::{Part, execute, execute_part};
pub use marker::began;
pub use onto::{Onto, OntoReport, restore_master, restore_replica};
pub use plan::{EachPlanned, Plan, Planned, Totals, plan, plan_listed};
pub use receipt::{LACKING, Listed, Outcome, Receipt, lacking};
pub use verify::{Verified, verify};

use crate::monitor::NoMonitor;

/// What to do where something stands already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IfExists {
    /// The session's object takes its place. Directories are merged and get the session's metadata. A directory that
    /// stands where something else should stays unless `delete` is set.
    Overwrite,
    /// The session's object takes its place if its modification time is later; else it stays.
    Newer,
    /// It stays, a directory's metadata too.
    Skip,
    /// It stays, and the session's object comes out as NAME.restored, NAME.restored-2 ...
    Rename,
    /// Nothing is restored at all. Directories that exist are no conflict.
    #[default]
    Fail,
}

/// Whose the restored objects are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Owner {
    /// The numeric owner and group of the session.
    #[default]
    Keep,
    /// Whoever restores. Set-id bits are withheld then.
    Ignore,
}

/// What becomes of zeros.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sparse {
    /// Runs of at least 16 KiB are holes.
    #[default]
    Auto,
    /// They are written into space that was allocated before.
    Off,
}

/// How to restore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// What to do where something stands.
    pub if_exists: IfExists,
    /// Whose it is.
    pub owner: Owner,
    /// What becomes of zeros.
    pub sparse: Sparse,
    /// What the session does not hold is removed from restored directories: at and below the paths only.
    pub delete: bool,
    /// Files are read again and compared with the ids of their blobs.
    pub verify: bool,
    /// Objects that the session lacks because they could not be read when it was made. With any, `delete` is refused, and
    /// the receipt says so.
    pub missed: u64,
    /// An earlier run of the restore of which this is a part is known to have begun: by the rule `fail` what stands
    /// there, and looks like what this part would make, was made by it. Has no meaning by other rules. See [`began`].
    pub began: bool,
    /// Threads that fetch and write, at least 1.
    pub threads: usize,
    /// Most a batch takes.
    pub batch: BatchLimits,
}

impl Options {
    /// Whether what is asked for can be done without loss.
    fn check(&self) -> Result<(), SessionRestoreError> {
        if self.delete && self.if_exists == IfExists::Rename {
            let what = "removing what the session does not hold would remove what keeps its name";
            return Err(SessionRestoreError::Options { what });
        }
        // What was merely not read may stand there as its last copy.
        if self.delete && self.missed > 0 {
            return Err(SessionRestoreError::Lacking { missed: self.missed });
        }
        Ok(())
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            if_exists: IfExists::default(),
            owner: Owner::default(),
            sparse: Sparse::default(),
            delete: false,
            verify: false,
            missed: 0,
            began: false,
            threads: 4,
            batch: BatchLimits::default(),
        }
    }
}

/// When a batch is written, synced and renamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// References to blobs.
    pub blobs: usize,
    /// Files, and directories waiting for their metadata.
    pub files: usize,
    /// Bytes of files.
    pub bytes: u64,
}

impl Default for BatchLimits {
    fn default() -> Self {
        Self { blobs: 200_000, files: 8192, bytes: 4 << 30 }
    }
}

/// How far a restore is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Files and others done with, directories left out.
    pub files: u64,
    /// Those of the plan.
    pub files_total: u64,
    /// Bytes of files fetched.
    pub bytes: u64,
    /// Those of the plan.
    pub bytes_total: u64,
}

/// Receives progress. Cheap: called often and from several threads.
pub trait Monitor: Sync {
    /// How far it is.
    fn progress(&self, progress: Progress);

    /// Whether to stop. Temporary files are removed; what is whole stays, and the same restore goes on from there.
    fn cancelled(&self) -> bool;
}

impl Monitor for NoMonitor {
    fn progress(&self, _: Progress) {}

    fn cancelled(&self) -> bool {
        false
    }
}
