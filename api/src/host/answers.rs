//! Figures, verification and rebuild of a scenario's journal.

use super::scene::Scene;
use crate::engine::{
    Damage, EngineError, EngineResult, Interrupt, JournalStats, Level, Progress, RebuildReport,
    TablesVerified, VerifyReport,
};
use crate::store::scratch_tables;
use journal::controls::Controls;
use journal::log::SegmentInfo;
use journal::tables::remove_tables;
use journal::{Lsn, Space, Timestamp};
use replication::apply::STRANGE;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use wire::codes;

/// Damaged places in a report.
const DAMAGE_MAX: usize = 200;

fn bytes_below(path: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(path) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => bytes_below(&entry.path()),
            Ok(meta) => {
                use std::os::unix::fs::MetadataExt;
                meta.blocks() * 512
            }
            Err(_) => 0,
        })
        .sum()
}

/// Pins that are shown.
const PINS_MAX: usize = 100;

/// Pins, oldest point first.
fn pinned(controls: &Controls) -> Vec<(u64, Lsn, String)> {
    let mut pins: Vec<_> = controls.pins.iter().map(|(id, pin)| (*id, pin.lsn(), pin.why.clone())).collect();
    pins.sort_by_key(|(id, lsn, _)| (*lsn, *id));
    pins.truncate(PINS_MAX);
    pins
}

/// What lies beside a replica root, the kept area among it.
pub(super) fn kept_beside(replica: &Path) -> Option<PathBuf> {
    let mut name = std::ffi::OsString::from(".");
    name.push(replica.file_name()?);
    name.push(".rewind");
    Some(replica.parent()?.join(name))
}

impl Scene {
    fn kept_directories(&self) -> Vec<PathBuf> {
        let roots = self.definition().roots;
        roots.iter().filter_map(|root| kept_beside(root.replica.as_ref()?)).collect()
    }

    /// See [`crate::engine::Engine::journal_stats`].
    pub(super) fn journal_stats(&self) -> EngineResult<JournalStats> {
        let replica = self.replica()?;
        let journal = replica.journal();
        let (redo, undo) = (journal.redo().segments(), journal.undo().segments());
        let bytes = |segments: &[SegmentInfo]| segments.iter().map(|segment| segment.bytes).sum::<u64>();
        let controls = journal.controls();
        let (oldest, _) = journal.window();
        let time = |lsn: Lsn| -> Timestamp {
            let row = journal.tables().get(Space::Points, &lsn.to_key()).ok().flatten();
            let row = row.and_then(|row| {
                journal::state::rows::read::<journal::state::PointRow>(Space::Points, &row).ok()
            });
            row.map_or(Timestamp(0), |row| row.time)
        };
        let newest = journal.journaled();
        let definition = self.definition();
        let free = journal.set().disk().free_bytes(journal.directory()).unwrap_or(0);
        Ok(JournalStats {
            oldest: (controls.first_point != 0).then(|| (oldest, time(oldest))),
            newest: (newest != Lsn::ZERO).then(|| (newest, journal.journaled_time())),
            redo_segments: redo.len() as u64,
            redo_bytes: bytes(&redo),
            undo_segments: undo.len() as u64,
            undo_bytes: bytes(&undo),
            kept_bytes: self.kept_directories().iter().map(|path| bytes_below(path)).sum(),
            tables_bytes: bytes_below(&self.layout.tables(self.name())),
            bookmarks: controls.bookmarks.len() as u64,
            pins: controls.pins.len() as u64,
            free_bytes: free,
            max_bytes: definition.journal_bytes_max,
            retention: definition.retention,
            window: self.held(journal),
            payload_bytes: redo.iter().map(|segment| segment.payload_bytes).sum(),
            undo_payload_bytes: undo.iter().map(|segment| segment.payload_bytes).sum(),
            pinned: pinned(&controls),
            thinned: journal.thinned_so_far()?,
            thinning: replica.thinning(),
        })
    }

    /// See [`crate::engine::Engine::journal_verify`].
    pub(super) fn journal_verify(&self, progress: &dyn Progress) -> EngineResult<VerifyReport> {
        let began = Instant::now();
        // A journal that does not open is exactly what somebody wants to verify.
        let report = match self.replica() {
            Ok(replica) => replica.journal().set().verify(&mut |at| {
                progress.report("verify", at.bytes_done, Some(at.bytes_total), "bytes");
            }),
            Err(_) => {
                let disk = journal::disk::OsDisk;
                journal::log::verify(&disk, &self.layout.journal(self.name()), &mut |at| {
                    progress.report("verify", at.bytes_done, Some(at.bytes_total), "bytes");
                })
            }
        }?;
        let tables = self.verify_tables(&report, progress)?;
        let damage = report.damages.iter().take(DAMAGE_MAX).map(|damage| Damage {
            file: damage.path.clone(),
            offset: damage.offset,
            what: damage.what.to_string(),
        });
        Ok(VerifyReport {
            segments: report.segments,
            records: report.records,
            bytes: report.payload_bytes,
            damage: damage.collect(),
            tables,
            elapsed: began.elapsed(),
        })
    }

    /// Compares the tables with the segments. What does not open or is damaged is said, not compared: nothing would
    /// come of it but the same damage again.
    fn verify_tables(
        &self,
        segments: &journal::log::VerifyReport,
        progress: &dyn Progress,
    ) -> EngineResult<TablesVerified> {
        if !segments.is_sound() {
            return Ok(TablesVerified::Not("the segments are damaged".to_owned()));
        }
        let replica = match self.replica() {
            Ok(replica) => replica,
            Err(error) => return Ok(TablesVerified::Not(error.to_failure().message.to_string())),
        };
        let mut interrupt = None;
        let _one_at_a_time = self.verifying.lock();
        let place = self.layout.verify_tables(self.name());
        let found = replica.journal().check_tables(&|| scratch_tables(&place), &mut |rows| {
            progress.report("compare tables", rows, None, "rows");
            interrupt = progress.interrupted();
            interrupt.is_none()
        });
        // The next verification begins with empty tables whatever is left here.
        drop(std::fs::remove_dir_all(&place));
        match found? {
            Some(report) => Ok(TablesVerified::Compared(report)),
            None => Err(EngineError::interrupted(interrupt.unwrap_or(Interrupt::Cancelled))),
        }
    }

    /// See [`crate::engine::Engine::journal_rebuild`].
    pub(super) fn journal_rebuild(self: &Arc<Self>, progress: &dyn Progress) -> EngineResult<RebuildReport> {
        let _turning = self.turning.lock();
        let began = Instant::now();
        progress.report("rebuild", 0, None, "captures");
        self.shutdown(Duration::from_secs(20));
        let tables = self.layout.tables(self.name());
        // Whole or gone: half of them may open, and would be believed.
        let removed = remove_tables(&tables);
        self.reopen();
        removed.map_err(|error| EngineError::io("remove", &tables, error))?;
        let replica = self.replica()?;
        let captures = replica.journal().journaled().captured;
        self.note(Level::Info, "the projections were rebuilt from the journal");
        Ok(RebuildReport { captures, rows: 0, elapsed: began.elapsed() })
    }

    /// Removes all of a stopped scenario but the replica tree. Bytes given back.
    pub(super) fn destroy(self: &Arc<Self>) -> EngineResult<u64> {
        let _turning = self.turning.lock();
        self.shutdown(Duration::from_secs(20));
        let removed = self.remove_all();
        if removed.is_err() {
            self.reopen();
        }
        removed
    }

    fn remove_all(&self) -> EngineResult<u64> {
        let spool = self.context.options.master.as_ref().map(|options| options.spool.join(self.name()));
        let name = self.name();
        let mut places = vec![
            self.layout.journal(name),
            self.layout.tables(name),
            self.layout.index(name),
            self.layout.scrub(name),
            self.layout.cookies(name),
        ];
        places.extend(spool);
        // Before anything is removed: what cannot be looked for cannot be left out.
        let mut beside = Vec::new();
        for place in self.kept_directories() {
            let aside = put_aside(&place).map_err(|error| {
                let message = format!("look for what a scrub put aside in {}", place.display());
                EngineError::new(&codes::IO, message).caused_by(error)
            })?;
            beside.push((place, aside));
        }
        let mut bytes = 0;
        for (place, aside) in places.into_iter().map(|place| (place, None)).chain(beside) {
            bytes += bytes_below(&place);
            let removed = match aside {
                Some(aside) => {
                    bytes = bytes.saturating_sub(bytes_below(&aside));
                    remove_but(&place, &aside)
                }
                None => std::fs::remove_dir_all(&place),
            };
            match removed {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(
                        EngineError::new(&codes::IO, format!("remove {}", place.display())).caused_by(error)
                    );
                }
                _ => {}
            }
        }
        Ok(bytes)
    }
}

/// Where things are that a scrub put aside, which are of no scenario and stay; `None`: there are none. No link is followed:
/// what lies elsewhere is not ours to count or to remove.
fn put_aside(beside: &Path) -> std::io::Result<Option<PathBuf>> {
    let kept = beside.join("kept");
    let strange = kept.join(STRANGE);
    for place in [beside, &kept, &strange] {
        match place.symlink_metadata() {
            Ok(found) if found.is_dir() => {}
            Ok(_) => {
                let text = format!("{} is not a directory", place.display());
                return Err(std::io::Error::new(std::io::ErrorKind::NotADirectory, text));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    let first = strange.read_dir()?.next().transpose()?;
    Ok(first.map(|_| strange))
}

/// Removes what lies in a directory, but for one place below it.
fn remove_but(directory: &Path, stays: &Path) -> std::io::Result<()> {
    for entry in directory.read_dir()? {
        let path = entry?.path();
        if path == stays {
            continue;
        }
        let directory = path.symlink_metadata()?.is_dir();
        if directory && stays.starts_with(&path) {
            remove_but(&path, stays)?;
        } else if directory {
            std::fs::remove_dir_all(&path)?;
        } else {
            std::fs::remove_file(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{put_aside, remove_but};
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn what_was_put_aside_is_found_and_is_all_that_stays() {
        let place = tempfile::tempdir().unwrap();
        let beside = place.path().join(".root.rewind");
        assert_eq!(put_aside(&beside).unwrap(), None);
        fs::create_dir_all(beside.join("kept/1000/d")).unwrap();
        assert_eq!(put_aside(&beside).unwrap(), None);
        fs::create_dir_all(beside.join("kept/strange")).unwrap();
        assert_eq!(put_aside(&beside).unwrap(), None);
        fs::create_dir_all(beside.join("kept/strange/1")).unwrap();
        fs::write(beside.join("kept/strange/1/f"), "f").unwrap();
        // A link beside it is removed, and not what it leads to.
        fs::create_dir(place.path().join("elsewhere")).unwrap();
        fs::write(place.path().join("elsewhere/g"), "g").unwrap();
        symlink(place.path().join("elsewhere"), beside.join("kept/link")).unwrap();
        let stays = put_aside(&beside).unwrap().unwrap();
        remove_but(&beside, &stays).unwrap();
        assert_eq!(fs::read(beside.join("kept/strange/1/f")).unwrap(), b"f");
        assert_eq!(fs::read_dir(beside.join("kept")).unwrap().count(), 1);
        assert_eq!(fs::read(place.path().join("elsewhere/g")).unwrap(), b"g");
    }

    #[test]
    fn what_cannot_be_looked_for_is_not_taken_for_nothing() {
        for link in ["", "kept", "kept/strange"] {
            let place = tempfile::tempdir().unwrap();
            let (beside, elsewhere) = (place.path().join(".root.rewind"), place.path().join("elsewhere"));
            fs::create_dir_all(elsewhere.join("kept/strange/1")).unwrap();
            let at = if link.is_empty() { beside.clone() } else { beside.join(link) };
            fs::create_dir_all(at.parent().unwrap()).unwrap();
            symlink(elsewhere.join(link), &at).unwrap();
            assert!(put_aside(&beside).is_err(), "{link}");
            fs::remove_file(&at).unwrap();
            fs::write(&at, "a file").unwrap();
            assert!(put_aside(&beside).is_err(), "{link}");
        }
    }
}
