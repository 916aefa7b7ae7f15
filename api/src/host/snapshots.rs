//! Snapshots of a scenario: pins in its journal that say what they are, and points that are mounted.
//!
//! A snapshot is one record, the pin; nothing else has to agree with it after a crash. The pin's own words say that it is
//! one, who keeps it, and the point's time and class, which the tables do not know before the point is applied:
//! `snapshot KEEPER TIME CLASS`, the time in nanoseconds since 1970. A journal alone says which of its pins are snapshots.

use super::scene::Scene;
use crate::engine::{
    EngineError, EngineResult, Level, MountReport, MountWhat, PinnedBy, ResolvedPoint, Snapshot, SnapshotId,
    SnapshotRequest, State,
};
use crate::points::PointSpec;
use journal::controls::Pin;
use journal::record::Control;
use journal::{Class, RootNo, Timestamp};
use parking_lot::Mutex;
use snapshot::mount::{Mounted, MountedRoot, mount};
use std::path::Path;
use std::time::Duration;
use wire::codes;

/// Points of one scenario that are mounted at once.
const MOUNTS_MAX: usize = 32;
/// How long the call that makes a snapshot waits until its point can be read.
const APPLIED_WITHIN: Duration = Duration::from_secs(5);

/// What a pin says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Words {
    pinned_by: PinnedBy,
    time: Timestamp,
    class: Class,
}

impl Words {
    /// `None` for pins that are no snapshots.
    fn parse(pin: &Pin) -> Option<Self> {
        Self::parse_text(&pin.why)
    }

    fn parse_text(text: &str) -> Option<Self> {
        let words: Vec<&str> = text.split(' ').collect();
        let ["snapshot", keeper, time, class] = words.as_slice() else { return None };
        let pinned_by =
            [PinnedBy::Hand, PinnedBy::Backup].into_iter().find(|by| keeper_word(*by) == *keeper)?;
        let classes = [Class::Fuzzy, Class::Crash, Class::Application];
        let class = classes.into_iter().find(|one| class_word(*one) == *class)?;
        Some(Words { pinned_by, time: Timestamp(time.parse().ok()?), class })
    }

    fn format(self) -> String {
        format!("snapshot {} {} {}", keeper_word(self.pinned_by), self.time.0, class_word(self.class))
    }
}

fn keeper_word(keeper: PinnedBy) -> &'static str {
    match keeper {
        PinnedBy::Hand => "hand",
        PinnedBy::Backup => "backup",
    }
}

/// The word of a class in pins and in tags of sessions.
pub(super) fn class_word(class: Class) -> &'static str {
    match class {
        Class::Application => "application",
        Class::Crash => "crash",
        Class::Fuzzy => "fuzzy",
    }
}

fn is_of_backup(pin: &Pin) -> bool {
    Words::parse(pin).is_some_and(|words| words.pinned_by == PinnedBy::Backup)
}

/// The points of a scenario that are mounted.
#[derive(Default)]
pub(super) struct Mounts(Mutex<Vec<Mounted>>);

impl Mounts {
    /// Ends all of them.
    pub fn close(&self) {
        for mounted in std::mem::take(&mut *self.0.lock()) {
            mounted.close();
        }
    }
}

impl Scene {
    /// See [`crate::engine::Engine::create_snapshot`].
    pub(super) fn create_snapshot(&self, request: &SnapshotRequest) -> EngineResult<Snapshot> {
        self.keeps_points()?;
        let (point, held) = match &request.at {
            Some(point) => (self.resolve(point)?, None),
            None => {
                let now = self.point_now(request.consistent, request.timeout)?;
                (ResolvedPoint { lsn: now.lsn, time: now.time, class: now.class }, now.held)
            }
        };
        let words = Words { pinned_by: PinnedBy::Hand, time: point.time, class: point.class };
        let replica = self.replica()?;
        let pin = replica.journal().pin(point.lsn, &words.format())?;
        if self.state() == State::Replicating {
            // Who mounts it next should not be told that it is not applied yet. It is kept in any case.
            replica.journal().wait_applied(point.lsn, APPLIED_WITHIN);
        }
        Ok(Snapshot { held, ..self.snapshot(pin)? })
    }

    /// The snapshot of a backup at a point, and whether it is new: an attempt that is made `again` goes on with the one
    /// that is there. `None` where none are kept.
    pub(super) fn snapshot_of_backup(
        &self,
        point: &ResolvedPoint,
        again: bool,
    ) -> EngineResult<Option<(SnapshotId, bool)>> {
        let definition = self.definition();
        if !definition.rewind || definition.keep_snapshots == 0 {
            return Ok(None);
        }
        let replica = self.replica()?;
        let there = replica.journal().with_controls(|controls| {
            let mut pins = controls.pins.iter();
            pins.find(|(_, pin)| pin.lsn() == point.lsn && is_of_backup(pin)).map(|(pin, _)| *pin)
        });
        let id = |pin| SnapshotId { scenario: self.id(), pin };
        if let Some(pin) = there.filter(|_| again) {
            return Ok(Some((id(pin), false)));
        }
        let words = Words { pinned_by: PinnedBy::Backup, time: point.time, class: point.class };
        let new = replica.journal().pin(point.lsn, &words.format())?;
        if let Some(pin) = there {
            // One of a point is enough, and the newest backup's is the newest.
            replica.journal().control(Control::Unpinned { pin })?;
        }
        Ok(Some((id(new), true)))
    }

    /// Lets go of the snapshots of backups but for the newest, as many as the scenario keeps.
    pub(super) fn thin_snapshots(&self) -> EngineResult<()> {
        let keep = self.definition().keep_snapshots as usize;
        let replica = self.replica()?;
        let mut of_backups: Vec<_> = replica.journal().with_controls(|controls| {
            let pins = controls.pins.iter().filter(|(_, pin)| is_of_backup(pin));
            pins.map(|(number, pin)| (*number, pin.lsn())).collect()
        });
        // In the order in which they were made: a backup of an old point is the newest backup.
        of_backups.sort_unstable();
        of_backups.truncate(of_backups.len().saturating_sub(keep));
        for (pin, lsn) in of_backups {
            replica.journal().control(Control::Unpinned { pin })?;
            let id = SnapshotId { scenario: self.id(), pin };
            self.note(Level::Info, &format!("snapshot {id} (LSN {lsn}) made room for a newer one"));
        }
        Ok(())
    }

    /// All snapshots, oldest first.
    pub(super) fn snapshots(&self) -> EngineResult<Vec<Snapshot>> {
        let replica = self.replica()?;
        let pins: Vec<_> =
            replica.journal().with_controls(|controls| controls.pins.keys().copied().collect::<Vec<_>>());
        let mut list = Vec::new();
        for pin in pins {
            match self.snapshot(pin) {
                Ok(snapshot) => list.push(snapshot),
                // It is another kind of pin, or was released meanwhile.
                Err(error) if error.code().id == codes::NO_SUCH_SNAPSHOT.id => {}
                Err(error) => return Err(error),
            }
        }
        list.sort_by_key(|snapshot| (snapshot.lsn, snapshot.id));
        Ok(list)
    }

    /// One of them.
    pub(super) fn snapshot(&self, number: u64) -> EngineResult<Snapshot> {
        let id = SnapshotId { scenario: self.id(), pin: number };
        let pin = self.replica()?.journal().with_controls(|controls| controls.pins.get(&number).cloned());
        let found = pin.as_ref().and_then(|pin| Some((pin.lsn(), Words::parse(pin)?)));
        let (lsn, words) = found.ok_or_else(|| SnapshotId::missing(&id.to_string()))?;
        let Words { pinned_by, time, class } = words;
        Ok(Snapshot { id, scenario: self.name().to_owned(), lsn, time, class, pinned_by, held: None })
    }

    /// See [`crate::engine::Engine::release_snapshot`].
    pub(super) fn release_snapshot(&self, number: u64) -> EngineResult<Snapshot> {
        let snapshot = self.snapshot(number)?;
        self.replica()?.journal().control(Control::Unpinned { pin: number })?;
        Ok(snapshot)
    }

    /// See [`crate::engine::Engine::mount`].
    pub(super) fn mount(&self, what: &MountWhat, directory: &Path) -> EngineResult<MountReport> {
        let point = match what {
            MountWhat::Point(point) => self.resolve(point)?,
            MountWhat::Snapshot(id) if id.scenario != self.id() => {
                let message = format!("snapshot {id} is none of scenario \"{}\"", self.name());
                return Err(EngineError::new(&codes::NO_SUCH_SNAPSHOT, message));
            }
            MountWhat::Snapshot(id) => self.resolve(&PointSpec::Lsn(self.snapshot(id.pin)?.lsn))?,
        };
        let refused = |message: String| EngineError::new(&codes::MOUNT_FAILED, message);
        match std::fs::metadata(directory) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => return Err(refused(format!("{} is no directory", directory.display()))),
            Err(error) => {
                return Err(
                    refused(format!("{} cannot be mounted upon", directory.display())).caused_by(error)
                );
            }
        }
        let mut mounts = self.mounts.0.lock();
        // Who closes the scenario says so before he ends the mounts: one that came after would hold the journal open.
        self.not_closing()?;
        mounts.retain(|mounted| !mounted.is_over());
        if mounts.len() >= MOUNTS_MAX {
            let message = format!("{MOUNTS_MAX} points of scenario \"{}\" are mounted", self.name());
            return Err(EngineError::new(&codes::TOO_MANY, message));
        }
        let view = self.replica()?.view(point.lsn)?;
        let definition = self.definition();
        let masters: Vec<_> = definition
            .roots
            .iter()
            .enumerate()
            .map(|(number, root)| (RootNo(number as u16), root.master.as_path()))
            .collect();
        let roots = restore::layout(&masters).into_iter();
        let roots = roots.map(|root| MountedRoot { root: root.root, into: root.into }).collect();
        let label = format!("rewind:{}@{}", self.name(), point.lsn);
        let mounted = mount(view, roots, directory, &label).map_err(|error| {
            let message = format!("LSN {} cannot be mounted at {}", point.lsn, directory.display());
            EngineError::new(&codes::MOUNT_FAILED, message).caused_by(error)
        })?;
        mounts.push(mounted);
        let text = format!("LSN {} is mounted at {}", point.lsn, directory.display());
        self.note(Level::Info, &text);
        Ok(MountReport { point, directory: directory.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_pins() {
        for pinned_by in [PinnedBy::Hand, PinnedBy::Backup] {
            for class in [Class::Fuzzy, Class::Crash, Class::Application] {
                for time in [0, -5, i64::MAX] {
                    let words = Words { pinned_by, time: Timestamp(time), class };
                    assert_eq!(Words::parse_text(&words.format()), Some(words));
                }
            }
        }
        for other in
            ["", "snapshot", "rewind", "snapshot hand 5", "snapshot nobody 5 fuzzy", "snapshot hand x fuzzy"]
        {
            assert_eq!(Words::parse_text(other), None, "{other:?}");
        }
    }
}
