//! Snapshots, as the engine is asked for them.

use super::{EngineError, EngineResult, ResolvedPoint};
use crate::points::PointSpec;
use journal::{Class, Lsn, Timestamp};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;
use wire::codes;

/// Names a snapshot in the whole daemon: `SCENARIO-PIN`, both numbers, neither ever used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotId {
    /// Id of the scenario.
    pub scenario: u64,
    /// Number of the pin in its journal.
    pub pin: u64,
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.scenario, self.pin)
    }
}

impl SnapshotId {
    /// Reads an id; `None` for what is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let number = |digits: &str| {
            // One form for each number.
            let plain = digits.bytes().all(|digit| digit.is_ascii_digit()) && !digits.starts_with('0');
            digits.parse().ok().filter(|number| plain || (digits == "0" && *number == 0))
        };
        let (scenario, pin) = text.split_once('-')?;
        Some(SnapshotId { scenario: number(scenario)?, pin: number(pin)? })
    }

    /// `NO_SUCH_SNAPSHOT`.
    #[must_use]
    pub fn missing(text: &str) -> EngineError {
        EngineError::new(&codes::NO_SUCH_SNAPSHOT, format!("there is no snapshot {text}"))
    }

    /// Reads an id that has to be one.
    ///
    /// # Errors
    /// `NO_SUCH_SNAPSHOT`.
    pub fn wanted(text: &str) -> EngineResult<Self> {
        Self::parse(text).ok_or_else(|| Self::missing(text))
    }
}

/// Who keeps a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PinnedBy {
    /// A person or script.
    Hand,
    /// A backup.
    Backup,
}

/// A point that stays readable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Its id.
    pub id: SnapshotId,
    /// Name of its scenario.
    pub scenario: String,
    /// Its point.
    pub lsn: Lsn,
    /// Of the point.
    pub time: Timestamp,
    /// How consistent the point is.
    pub class: Class,
    /// Who keeps it.
    pub pinned_by: PinnedBy,
    /// How long the application was held for it; known only to the call that made it.
    pub held: Option<Duration>,
}

/// A snapshot wanted.
#[derive(Clone, Debug)]
pub struct SnapshotRequest {
    /// A point; `None`: now.
    pub at: Option<PointSpec>,
    /// Hold the application still meanwhile.
    pub consistent: bool,
    /// Of the barrier.
    pub timeout: Duration,
}

/// What to mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountWhat {
    /// The point of a snapshot.
    Snapshot(SnapshotId),
    /// A point.
    Point(PointSpec),
}

/// A point that is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountReport {
    /// The point.
    pub point: ResolvedPoint,
    /// Where.
    pub directory: PathBuf,
}

#[cfg(test)]
mod tests {
    use super::SnapshotId;

    #[test]
    fn ids() {
        let id = SnapshotId { scenario: 12, pin: 0 };
        assert_eq!(id.to_string(), "12-0");
        assert_eq!(SnapshotId::parse("12-0"), Some(id));
        for none in
            ["", "-", "12", "12-", "-0", "012-0", "12-00", "+1-2", "1-2-3", "1- 2", "99999999999999999999-1"]
        {
            assert_eq!(SnapshotId::parse(none), None, "{none:?}");
        }
    }
}
