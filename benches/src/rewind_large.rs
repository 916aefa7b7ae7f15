//! Rewind of 1 GB of changed data against `cp` and `sync -f` of that data. Neither shows beforehand what it will do.
//!
//! Twice: as memory happens to be, which holds what `cp` reads, for it was written a moment ago, and not what a rewind
//! reads, for the journal lets go of what it has written; and with nothing in memory, as on the day when somebody needs it.

use crate::daemon::Daemon;
use crate::fed::Numbers;
use crate::{report, run};
use anyhow::Context;
use std::path::Path;
use std::process::Command;

/// Files, and bytes of each.
const FILES: u64 = 64;
const FILE_BYTES: usize = 16 << 20;

/// Writes all files anew.
///
/// # Errors
/// If one cannot be written.
pub fn fill(master: &Path, numbers: &mut Numbers) -> anyhow::Result<()> {
    for number in 0..FILES {
        std::fs::write(master.join(format!("file-{number}")), numbers.bytes(FILE_BYTES))?;
    }
    Ok(())
}

/// Has the kernel forget all files that are on disk. Needs root.
fn forget() -> anyhow::Result<()> {
    std::fs::write("/proc/sys/vm/drop_caches", "3").context("have the kernel drop its caches")
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
    let (mut as_it_is, mut empty) = ((Vec::new(), Vec::new()), (Vec::new(), Vec::new()));
    // Each round leaves 2 GB of history behind.
    for round in 0..6 {
        let cold = round % 2 == 1;
        let (ours, theirs) = if cold { &mut empty } else { &mut as_it_is };
        let point = format!("point-{round}");
        run::rsync(&["-a", "--delete"], &master, &saved)?;
        daemon.run(&["bookmark", "set", "bench", &point])?;
        fill(&master, &mut numbers)?;
        daemon.run(&["flush", "bench"])?;
        run::sync(at)?;
        if cold {
            forget()?;
        }
        ours.push(daemon.run(&["--quiet", "rewind", "bench", "--to", &point, "--yes"])? + run::sync(at)?);
        run::must_equal(&saved, &daemon.replica(), round == 0)?;
        std::fs::create_dir_all(&copy)?;
        run::sync(at)?;
        if cold {
            forget()?;
        }
        let mut cp = Command::new("cp");
        let (_, took) = run::timed(cp.arg("-a").arg(saved.join(".")).arg(&copy)).context("run cp")?;
        theirs.push(took + run::sync(at)?);
        daemon.run(&["scenario", "resume", "bench"])?;
    }
    for ((ours, theirs), how) in [(as_it_is, "as memory is"), (empty, "nothing in memory")] {
        let (ours, theirs) = (report::seconds(&ours), report::seconds(&theirs));
        report::line(&format!("cp and sync -f of 1 GB, {how}"), &theirs);
        report::line(&format!("rewind of 1 GB, {how}"), &ours);
        let ratio = report::median(&theirs) / report::median(&ours);
        report::ratio(&format!("speed of rewind / of cp, {how}"), ratio, "at least 0.4; 0.7 with reflinks");
    }
    Ok(())
}
