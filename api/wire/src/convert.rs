//! Between the types of the journal and the messages.

use crate::v1;
use journal::{Class, Lsn, Provenance, Timestamp};
use std::time::Duration;

const NANOS: i64 = 1_000_000_000;

impl From<Lsn> for v1::Lsn {
    fn from(lsn: Lsn) -> Self {
        v1::Lsn { captured: lsn.captured, local: lsn.local }
    }
}

impl From<v1::Lsn> for Lsn {
    fn from(lsn: v1::Lsn) -> Self {
        Lsn { captured: lsn.captured, local: lsn.local }
    }
}

/// A time as a message.
#[must_use]
pub fn time_to_wire(time: Timestamp) -> prost_types::Timestamp {
    // The remainder is below a thousand million, so it fits.
    prost_types::Timestamp { seconds: time.0.div_euclid(NANOS), nanos: time.0.rem_euclid(NANOS) as i32 }
}

/// A time from a message; `None` if it does not fit 64 bits of nanoseconds.
#[must_use]
pub fn time_from_wire(time: &prost_types::Timestamp) -> Option<Timestamp> {
    let nanos = time.seconds.checked_mul(NANOS)?.checked_add(time.nanos.into())?;
    (0..1_000_000_000).contains(&time.nanos).then_some(Timestamp(nanos))
}

/// A duration as a message; the longest one there is stands for longer ones.
#[must_use]
pub fn duration_to_wire(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(0),
    }
}

/// A duration from a message; `None` if it is negative or malformed.
#[must_use]
pub fn duration_from_wire(duration: &prost_types::Duration) -> Option<Duration> {
    let seconds = u64::try_from(duration.seconds).ok()?;
    let nanos = u32::try_from(duration.nanos).ok()?;
    (nanos < 1_000_000_000).then(|| Duration::new(seconds, nanos))
}

impl From<Class> for v1::Class {
    fn from(class: Class) -> Self {
        match class {
            Class::Fuzzy => v1::Class::Fuzzy,
            Class::Crash => v1::Class::Crash,
            Class::Application => v1::Class::Application,
        }
    }
}

impl From<Provenance> for v1::Provenance {
    fn from(provenance: Provenance) -> Self {
        match provenance {
            Provenance::Exact => v1::Provenance::Exact,
            Provenance::Derived => v1::Provenance::Derived,
            Provenance::Rescan => v1::Provenance::Rescan,
            Provenance::Synchronization => v1::Provenance::Synchronization,
            Provenance::Local => v1::Provenance::Local,
        }
    }
}

/// Gives each value of an enumeration its word, for people and for JSON.
macro_rules! words {
    ($($type:ident { $($variant:ident = $word:literal),* $(,)? })*) => {$(
        impl v1::$type {
            /// The word used in JSON and on the command line; empty where nothing is specified.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { v1::$type::Unspecified => "", $(v1::$type::$variant => $word),* }
            }

            /// Inverse of [`word`](Self::word).
            #[must_use]
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some(v1::$type::$variant),)* _ => None }
            }
        }
    )*};
}

words! {
    ScenarioType { FileServer = "file-server", Postgresql = "postgresql", Sqlite = "sqlite" }
    CaptureMode { Watch = "watch", Mount = "mount" }
    AutoResync { Ask = "ask", Always = "always", Never = "never" }
    State {
        Stopped = "stopped", Synchronizing = "synchronizing", Replicating = "replicating", Suspended = "suspended",
        Detached = "detached", Problem = "problem", NotAuthorized = "not-authorized",
    }
    Level { Info = "info", Warning = "warning", Error = "error" }
    SyncMode { File = "file", Block = "block" }
    Stage { Captured = "captured", Journaled = "journaled", Applied = "applied" }
    Class { Fuzzy = "fuzzy", Crash = "crash", Application = "application" }
    PointKind {
        Created = "created", Modified = "modified", Renamed = "renamed", Removed = "removed",
        Attributes = "attributes", Bookmark = "bookmark", Marker = "marker",
    }
    Provenance {
        Exact = "exact", Derived = "derived", Rescan = "rescan", Synchronization = "synchronization", Local = "local",
    }
    JobKind {
        Run = "run", Resume = "resume", Rewind = "rewind", JournalVerify = "journal-verify",
        JournalRebuild = "journal-rebuild", Backup = "backup", RepositoryCheck = "repository-check",
        RepositoryPrune = "repository-prune", RepositoryForget = "repository-forget", Restore = "restore",
        SessionVerify = "session-verify", SessionCopy = "session-copy", CatalogRebuild = "catalog-rebuild",
        Scrub = "scrub",
    }
    PinnedBy { Hand = "hand", Backup = "backup" }
    IfExists { Overwrite = "overwrite", Newer = "newer", Skip = "skip", Rename = "rename", Fail = "fail" }
    EntryKind {
        File = "file", Directory = "directory", Symlink = "symlink", Fifo = "fifo", Socket = "socket",
        CharDevice = "char-device", BlockDevice = "block-device", Other = "other",
    }
    BurstKind {
        MassRewrite = "mass-rewrite", MassRename = "mass-rename", EntropyJump = "entropy-jump",
    }
    ScrubSide { Replica = "replica", Master = "master", Rot = "rot" }
    Confidence { Low = "low", Medium = "medium", High = "high" }
    CatalogSource { Catalog = "catalog", Repository = "repository", Journal = "journal" }
    JobState { Ready = "ready", Active = "active", Hold = "hold", Done = "done" }
    Outcome { Succeeded = "succeeded", Incomplete = "incomplete", Failed = "failed", Cancelled = "cancelled" }
}

#[cfg(test)]
mod tests;
