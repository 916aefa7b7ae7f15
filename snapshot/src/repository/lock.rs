//! Locks, in restic's protocol: objects that say who uses the repository, and whether alone.
//!
//! To lock: look at all locks, write one's own, wait a moment, look again; on a conflict take one's own back. Of two that
//! lock at the same time at least one sees the other, because listings show every object whose write ended before.
//! A lock is written anew every five minutes by a thread, under another name, before the old one is removed. One that is
//! older than half an hour, or whose process on this host is gone, is stale: it is passed over and removed.
//!
//! **Our own programs know each other.** Our lock records say in a field of their own (`rewind`) what they are for;
//! restic passes over unknown fields and sees ordinary locks. A prune takes the exclusive lock, so foreign programs stay
//! out; but our backups and readers may overlap our prune, because prune keeps unused data for a grace period and our
//! backups look at the index again before they write the session record ([`Purpose::overlaps`]). Nobody else overlaps
//! an exclusive lock, but a backup a forget: it notices when what it builds upon goes.
//!
//! **restic sends SIGHUP** to the process in a lock of its own host to learn whether it lives (when it unlocks or looks
//! for stale locks). A process that does not handle SIGHUP would die of that, so such a process writes its host name with
//! a suffix ([`HANGUP_SUFFIX`]): restic then goes by age alone. A daemon that handles SIGHUP writes the plain name, and
//! restic can tell at once that it is gone.
//!
//! Clocks and stale locks are not what data depends on here: a holder that could not refresh learns it from
//! [`Lock::check`] before others may take the lock as stale, and must stop before it writes its session record.

mod held;

pub use held::{Lock, LockOptions, acquire, remove_all, remove_stale};

use super::Repository;
use super::error::RepositoryError;
use super::id::{Id, ObjectKind};
use super::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// Largest lock that is read, in bytes of JSON.
pub const LOCK_BYTES_MAX: usize = 64 << 10;
/// Most locks that are looked at.
pub const LOCKS_MAX: usize = 10_000;
/// Age from which a lock is stale.
pub const STALE_AFTER: Duration = Duration::from_secs(30 * 60);

/// Follows the host name in locks of processes that a SIGHUP would end.
pub const HANGUP_SUFFIX: &str = " (rewind)";

/// What a lock of ours is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Purpose {
    /// Reads sessions: restore, catalogue, list. Shared.
    Read,
    /// Adds a session. Shared.
    Backup,
    /// Verifies. Shared.
    Check,
    /// Removes session records, keys. Exclusive.
    Forget,
    /// Removes data no session needs. Exclusive.
    Prune,
    /// A purpose of a later version of this program: overlaps nothing it could conflict with.
    #[serde(other)]
    Unknown,
}

impl Purpose {
    /// Whether the lock has to be exclusive towards foreign programs.
    #[must_use]
    pub fn is_exclusive(self) -> bool {
        matches!(self, Self::Forget | Self::Prune | Self::Unknown)
    }

    /// Whether two purposes may hold at the same time although one of them is exclusive.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        // A backup notices when what it builds upon goes; a reader of a session that is forgotten would not.
        let beside = |one, other| {
            matches!((one, other), (Self::Prune, Self::Read | Self::Backup) | (Self::Forget, Self::Backup))
        };
        beside(self, other) || beside(other, self)
    }
}

/// Who we are, as locks, keys and session records say it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Name of this host.
    pub hostname: String,
    /// Name of the user; empty if unknown.
    pub username: String,
    /// Numeric.
    pub uid: u32,
    /// Numeric.
    pub gid: u32,
}

impl Identity {
    /// This process.
    #[must_use]
    pub fn of_process() -> Self {
        let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let username = std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_default();
        Self {
            hostname: hostname.trim().to_owned(),
            username,
            uid: rustix::process::getuid().as_raw(),
            gid: rustix::process::getgid().as_raw(),
        }
    }
}

/// What a lock says. The order of fields is that of the format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockRecord {
    /// When it was written or refreshed.
    pub time: Timestamp,
    /// Whether nobody else may hold a lock.
    pub exclusive: bool,
    /// Host of the holder.
    #[serde(default)]
    pub hostname: String,
    /// User of the holder.
    #[serde(default)]
    pub username: String,
    /// Process of the holder.
    #[serde(default)]
    pub pid: i64,
    /// Numeric.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub uid: u32,
    /// Numeric.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub gid: u32,
    /// In locks of this program only: what it is for.
    #[serde(default, rename = "rewind", skip_serializing_if = "Option::is_none")]
    pub purpose: Option<Purpose>,
    /// In locks of this program only: a random word that stays the same when the lock is written anew.
    #[serde(default, rename = "rewind_word", skip_serializing_if = "Option::is_none")]
    pub word: Option<String>,
    /// In locks of this program only: when it was first written.
    #[serde(default, rename = "rewind_since", skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
}

fn is_zero(value: &u32) -> bool {
    *value == 0
}

impl fmt::Display for LockRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.exclusive { "exclusively " } else { "" };
        write!(f, "process {} of {}@{}, {kind}since {}", self.pid, self.username, self.hostname, self.time)
    }
}

impl LockRecord {
    /// Whether the holder is taken for gone. `now` and `here` are parameters so that tests need no clock.
    #[must_use]
    pub fn is_stale(&self, now: Timestamp, here: &Identity) -> bool {
        let limit = i64::try_from(STALE_AFTER.as_secs()).unwrap_or(i64::MAX);
        if now.seconds.saturating_sub(self.time.seconds) > limit {
            return true;
        }
        let host = match self.purpose {
            Some(_) => self.hostname.strip_suffix(HANGUP_SUFFIX).unwrap_or(&self.hostname),
            None => &self.hostname,
        };
        host == here.hostname && !process_lives(self.pid)
    }

    /// Whether both cannot be held at once.
    #[must_use]
    pub fn conflicts(&self, other: &Self) -> bool {
        let overlap = self.purpose.zip(other.purpose).is_some_and(|(a, b)| a.overlaps(b));
        (self.exclusive || other.exclusive) && !overlap
    }
}

/// Whether a SIGHUP does not end this process: it is caught, ignored or blocked.
fn survives_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    survives_hangup_by(&status)
}

/// The same from the text that the kernel shows: masks in hexadecimal digits, whose lowest bit is SIGHUP.
fn survives_hangup_by(status: &str) -> bool {
    let is_mask = |name: &str| matches!(name, "SigBlk" | "SigIgn" | "SigCgt");
    status
        .lines()
        .filter_map(|line| line.split_once(':'))
        .filter(|(name, _)| is_mask(name))
        .any(|(_, mask)| u64::from_str_radix(mask.trim(), 16).is_ok_and(|mask| mask & 1 == 1))
}

/// A process that may not be signalled lives too. Numbers that no process has are dead.
fn process_lives(pid: i64) -> bool {
    let Some(pid) = i32::try_from(pid).ok().filter(|pid| *pid > 0).and_then(rustix::process::Pid::from_raw)
    else {
        return false;
    };
    rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH)
}

/// All locks there are. One that vanishes while it is read was given back, or refreshed under another name; so then all
/// are listed again. An object without bytes is no lock: it is what a foreign program leaves that dies while it writes
/// one where writing is not atomic.
///
/// # Errors
/// `Damaged`, `Json`, `Store`, `TooLarge`.
pub fn list(repository: &Repository) -> Result<Vec<(Id, LockRecord)>, RepositoryError> {
    const ATTEMPTS: usize = 5;
    let mut attempt = 1;
    loop {
        match try_list(repository) {
            Ok((_, true)) if attempt < ATTEMPTS => attempt += 1,
            outcome => return outcome.map(|(locks, _)| locks),
        }
    }
}

/// The locks, and whether one vanished.
fn try_list(repository: &Repository) -> Result<(Vec<(Id, LockRecord)>, bool), RepositoryError> {
    let mut ids = Vec::new();
    repository.store().list(ObjectKind::Lock.directory(), &mut |entry| {
        ids.extend(ObjectKind::Lock.id_in(&entry.name).filter(|_| entry.size > 0));
        ids.len() <= LOCKS_MAX
    })?;
    if ids.len() > LOCKS_MAX {
        let (size, limit) = (ids.len() as u64, LOCKS_MAX as u64);
        return Err(RepositoryError::TooLarge { what: "the number of locks", size, limit });
    }
    ids.sort_unstable();
    let mut vanished = false;
    let mut locks = Vec::with_capacity(ids.len());
    for id in ids {
        match repository.load_unpacked(ObjectKind::Lock, &id, LOCK_BYTES_MAX) {
            Ok(json) => {
                let object = ObjectKind::Lock.name(&id);
                let record = serde_json::from_slice(&json)
                    .map_err(|source| RepositoryError::Json { object, source })?;
                locks.push((id, record));
            }
            Err(error) if error.kind() == super::error::RepositoryErrorKind::NotFound => vanished = true,
            Err(error) => return Err(error),
        }
    }
    Ok((locks, vanished))
}

#[cfg(test)]
mod tests;
