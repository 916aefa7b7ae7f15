//! Rewind of 1 GB of changed data against `cp` and `sync -f` of that data. Neither shows beforehand what it will do.

use crate::daemon::Daemon;
use crate::fed::Numbers;
use crate::{report, run};
use anyhow::Context;
use std::path::Path;
use std::process::Command;

/// Files, and bytes of each.
const FILES: u64 = 64;
const FILE_BYTES: usize = 16 << 20;

fn fill(master: &Path, numbers: &mut Numbers) -> anyhow::Result<()> {
    for number in 0..FILES {
        std::fs::write(master.join(format!("file-{number}")), numbers.bytes(FILE_BYTES))?;
    }
    Ok(())
}

/// Runs it.
///
/// # Errors
/// If a program fails, or what comes back is not what was saved.
pub fn run() -> anyhow::Result<()> {
    let scratch = crate::tree::scratch()?;
    let at = scratch.path();
    let (master, saved, copy) = (at.join("master"), at.join("saved"), at.join("copy"));
    std::fs::create_dir_all(&master)?;
    let mut numbers = Numbers::new(11);
    fill(&master, &mut numbers)?;
    let daemon = Daemon::start(&at.join("data"))?;
    daemon.protect(&master)?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    // Each round leaves 2 GB of history behind.
    for round in 0..3 {
        let point = format!("point-{round}");
        run::rsync(&["-a", "--delete"], &master, &saved)?;
        daemon.run(&["bookmark", "set", "bench", &point])?;
        fill(&master, &mut numbers)?;
        daemon.run(&["flush", "bench"])?;
        run::sync(at)?;
        ours.push(daemon.run(&["--quiet", "rewind", "bench", "--to", &point, "--yes"])? + run::sync(at)?);
        run::must_equal(&saved, &daemon.replica(), round == 0)?;
        std::fs::create_dir_all(&copy)?;
        run::sync(at)?;
        let mut cp = Command::new("cp");
        let (_, took) = run::timed(cp.arg("-a").arg(saved.join(".")).arg(&copy)).context("run cp")?;
        theirs.push(took + run::sync(at)?);
        daemon.run(&["scenario", "resume", "bench"])?;
    }
    let (ours, theirs) = (report::seconds(&ours), report::seconds(&theirs));
    report::line("cp and sync -f of 1 GB", &theirs);
    report::line("rewind of 1 GB", &ours);
    let ratio = report::median(&theirs) / report::median(&ours);
    report::ratio("speed of rewind / of cp", ratio, "at least 0.4; 0.7 with reflinks");
    Ok(())
}
