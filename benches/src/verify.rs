//! Verifying a journal against reading its files. By itself: of 1 GB of changed data, in payloads as long as they get.

use crate::daemon::Daemon;
use crate::fed::Numbers;
use crate::{report, rewind_large};
use journal::disk::OsDisk;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

fn files(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(directory)?.collect::<Result<Vec<_>, _>>()?;
    Ok(entries.into_iter().map(|entry| entry.path()).filter(|path| path.is_file()).collect())
}

/// The next reader finds them on the disk only.
fn forget(files: &[PathBuf]) -> anyhow::Result<()> {
    for path in files {
        let file = std::fs::File::open(path)?;
        file.sync_all()?;
        rustix::fs::fadvise(file.as_fd(), 0, None, rustix::fs::Advice::DontNeed)?;
    }
    Ok(())
}

fn read_files(files: &[PathBuf]) -> anyhow::Result<(Duration, u64)> {
    let (began, mut bytes, mut buffer) = (Instant::now(), 0, vec![0; 1 << 20]);
    for path in files {
        let mut file = std::fs::File::open(path)?;
        loop {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            bytes += read as u64;
        }
    }
    Ok((began.elapsed(), bytes))
}

/// Reads the files of a journal and verifies it, in turn, from the disk each time.
///
/// # Errors
/// If one cannot be read, or the journal is damaged.
pub fn both(journal: &Path) -> anyhow::Result<()> {
    let files = files(journal)?;
    let (mut ours, mut plain, mut size) = (Vec::new(), Vec::new(), 0);
    for _ in 0..report::ROUNDS {
        forget(&files)?;
        let (took, bytes) = read_files(&files)?;
        plain.push(took);
        size = bytes;
        forget(&files)?;
        let began = Instant::now();
        let report = journal::log::verify(&OsDisk, journal, &mut |_| ())?;
        ours.push(began.elapsed());
        anyhow::ensure!(report.is_sound(), "{:?}", report.damages);
    }
    let (ours, plain) = (report::seconds(&ours), report::seconds(&plain));
    report::line(&format!("reading the journal's {} MB", size / 1_000_000), &plain);
    report::line("verifying it", &ours);
    let speed = report::median(&plain) / report::median(&ours);
    report::ratio("speed of verify / of reading", speed, "the speed of the disk");
    Ok(())
}

/// Runs it.
///
/// # Errors
/// If something fails.
pub fn run() -> anyhow::Result<()> {
    let scratch = crate::tree::scratch()?;
    let (master, data) = (scratch.path().join("master"), scratch.path().join("data"));
    std::fs::create_dir_all(&master)?;
    let mut numbers = Numbers::new(11);
    rewind_large::fill(&master, &mut numbers)?;
    let daemon = Daemon::start(&data)?;
    daemon.protect(&master)?;
    rewind_large::fill(&master, &mut numbers)?;
    daemon.run(&["flush", "bench"])?;
    daemon.stop()?;
    both(&crate::space::journal_of(&data)?)
}
