//! What a restore cannot be faster than on this machine: the same files made from memory, with nothing to read or decode.
//!
//! Two threads make the directories' files under their final names (no temporary name, no rename, so less than a safe restore
//! does), each with its bytes, time and mode, while a third has the disk write; `sync -f` at the end, as with the others.

use crate::{run, tree};
use anyhow::{Context, anyhow};
use std::fs::{File, FileTimes, Permissions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// Threads that make files; as many as a restore has here.
const THREADS: usize = 2;
/// Neighbours lie in one directory and are made by one thread.
const TOGETHER: usize = 64;
/// How often the disk is told to write.
const WRITE_BACK_EVERY: Duration = Duration::from_millis(100);

struct Made {
    path: PathBuf,
    bytes: Vec<u8>,
    modified: SystemTime,
    permissions: Permissions,
}

/// A tree in memory.
pub struct Floor(Vec<Made>);

impl Floor {
    /// Reads a tree.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read(from: &Path) -> anyhow::Result<Floor> {
        let made = tree::files(from)?.into_iter().map(|path| {
            let place = from.join(&path);
            let about = std::fs::metadata(&place).with_context(|| place.display().to_string())?;
            let (modified, permissions) = (about.modified()?, about.permissions());
            Ok(Made { bytes: std::fs::read(&place)?, path, modified, permissions })
        });
        Ok(Floor(made.collect::<anyhow::Result<_>>()?))
    }

    /// Makes it in a directory that is not there yet: seconds until it is on the disk.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn make(&self, into: &Path) -> anyhow::Result<Duration> {
        std::fs::create_dir_all(into)?;
        run::sync(into)?;
        let began = Instant::now();
        let mut last = PathBuf::new();
        for made in &self.0 {
            let directory = made.path.parent().unwrap_or(Path::new(""));
            if directory != last {
                std::fs::create_dir_all(into.join(directory))?;
                directory.clone_into(&mut last);
            }
        }
        let (next, over) = (AtomicUsize::new(0), AtomicBool::new(false));
        let work = || -> anyhow::Result<()> {
            loop {
                let from = next.fetch_add(TOGETHER, Ordering::Relaxed);
                let Some(some) = self.0.get(from..self.0.len().min(from.saturating_add(TOGETHER))) else {
                    return Ok(());
                };
                if some.is_empty() {
                    return Ok(());
                }
                some.iter().try_for_each(|made| one(made, into))?;
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    std::thread::sleep(WRITE_BACK_EVERY);
                    // Who syncs at the end is told of failures.
                    let _ = File::open(into).map(rustix::fs::syncfs);
                }
            });
            let workers: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
            let ended = workers
                .into_iter()
                .map(|worker| worker.join().unwrap_or_else(|_| Err(anyhow!("a thread ended"))));
            let ended = ended.fold(Ok(()), anyhow::Result::and);
            over.store(true, Ordering::Relaxed);
            ended
        })?;
        run::sync(into)?;
        Ok(began.elapsed())
    }
}

fn one(made: &Made, into: &Path) -> anyhow::Result<()> {
    let mut file = File::create_new(into.join(&made.path))?;
    file.write_all(&made.bytes)?;
    file.set_times(FileTimes::new().set_modified(made.modified))?;
    file.set_permissions(made.permissions.clone())?;
    Ok(())
}
