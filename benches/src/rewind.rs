//! Rewind of 100 changed files out of 80,000 against `rsync -a --delete` from a saved copy, with the same result; and
//! the same in a tree a tenth as large, to show that the cost follows what changed.

use crate::daemon::Daemon;
use crate::{report, run, tree};
use anyhow::Context;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Files changed before each rewind.
const CHANGED: usize = 100;

/// One tree with its replica and its saved copy.
struct Place {
    daemon: Daemon,
    master: PathBuf,
    /// State of the point.
    saved: PathBuf,
    /// What the reference brings back.
    copy: PathBuf,
    files: Vec<PathBuf>,
}

impl Place {
    fn make(at: &Path, fill: impl FnOnce(&Path) -> anyhow::Result<()>) -> anyhow::Result<Self> {
        let master = at.join("master");
        std::fs::create_dir_all(&master)?;
        fill(&master)?;
        let (saved, copy) = (at.join("saved"), at.join("copy"));
        tree::copy(&master, &saved)?;
        tree::copy(&master, &copy)?;
        let files = tree::files(&master)?;
        let daemon = Daemon::start(&at.join("data"))?;
        daemon.protect(&master)?;
        run::sync(at)?;
        Ok(Place { daemon, master, saved, copy, files })
    }

    /// Changes files: of each ten, eight grow, one is removed and one is new.
    fn change(&self, round: usize) -> anyhow::Result<()> {
        for (number, file) in tree::pick(&self.files, CHANGED, round).into_iter().enumerate() {
            let path = self.master.join(file);
            // Removed in an earlier round.
            if !path.exists() {
                std::fs::write(&path, "again\n")?;
            }
            match number % 10 {
                8 => std::fs::remove_file(&path).context("remove a file")?,
                9 => std::fs::write(path.with_extension(format!("new{round}")), vec![b'n'; 8192])?,
                _ => tree::change(&path, round)?,
            }
        }
        Ok(())
    }

    /// One round: how long the reference and the product took.
    fn round(&self, round: usize) -> anyhow::Result<(Duration, Duration)> {
        let point = format!("point-{round}");
        self.daemon.run(&["bookmark", "set", "bench", &point])?;
        self.change(round)?;
        self.daemon.run(&["flush", "bench"])?;
        run::rsync(&["-a", "--delete"], &self.master, &self.copy)?;
        run::sync(&self.master)?;
        let (_, reference) = run::rsync(&["-a", "--delete"], &self.saved, &self.copy)?;
        run::sync(&self.master)?;
        let product = self.daemon.run(&["rewind", "bench", "--to", &point, "--yes"])?;
        let replica = self.daemon.replica();
        run::must_equal(&self.saved, &replica, round == 0)?;
        run::must_equal(&self.saved, &self.copy, false)?;
        self.daemon.run(&["scenario", "resume", "bench"])?;
        run::must_equal(&self.master, &replica, false)?;
        run::rsync(&["-a", "--delete"], &self.master, &self.saved)?;
        run::sync(&self.master)?;
        Ok((reference, product))
    }
}

/// Runs it.
///
/// # Errors
/// If a program fails, or what comes back is not what was saved.
pub fn run() -> anyhow::Result<()> {
    let linux = tree::linux()?;
    let scratch = tree::scratch()?;
    let large = Place::make(&scratch.path().join("large"), |to| tree::copy(&linux, to))?;
    let small = Place::make(&scratch.path().join("small"), |to| tree::copy_tenth(&linux, to))?;
    let mut times = [const { Vec::new() }; 4];
    for round in 0..report::ROUNDS {
        let (large_reference, large_product) = large.round(round)?;
        let (small_reference, small_product) = small.round(round)?;
        let all = [large_reference, large_product, small_reference, small_product];
        times.iter_mut().zip(all).for_each(|(times, one)| times.push(one));
    }
    large.daemon.stop()?.print();
    small.daemon.stop()?.print();
    let [reference, product, small_reference, small_product] = times.map(|times| report::seconds(&times));
    report::line(&format!("rsync -a --delete, {} files", large.files.len()), &reference);
    report::line(&format!("rewind, {} files", large.files.len()), &product);
    report::line(&format!("rsync -a --delete, {} files", small.files.len()), &small_reference);
    report::line(&format!("rewind, {} files", small.files.len()), &small_product);
    let took = report::median(&product);
    report::ratio("time of rsync / time of rewind", report::median(&reference) / took, "at least 5");
    report::ratio("rewind, large tree / tenth of it", took / report::median(&small_product), "at most 1.2");
    Ok(())
}
