//! Memory of one daemon through everything: synchronization of 80,000 files, thousands of edits, renames and
//! removals, flush, rewind of all of them, resume, and a rewind into a directory.

use crate::daemon::{Daemon, Memory};
use crate::{report, run, tree};
use std::path::{Path, PathBuf};

/// Most bytes that may be resident.
const BOUND: u64 = 300_000_000;
const CHANGED: usize = 8_000;

fn show(what: &str, memory: Memory) {
    println!(
        "  {what:<30} resident {:>4} MB, anonymous {:>4} MB at most so far",
        memory.resident / 1_000_000,
        memory.anonymous / 1_000_000
    );
}

fn edit(master: &Path, files: &[PathBuf]) -> anyhow::Result<()> {
    for (number, file) in tree::pick(files, CHANGED, 0).into_iter().enumerate() {
        let path = master.join(file);
        match number % 4 {
            0 => std::fs::remove_file(&path)?,
            1 => std::fs::rename(&path, path.with_extension("renamed"))?,
            _ => tree::change(&path, number)?,
        }
    }
    Ok(())
}

/// Runs it.
///
/// # Errors
/// If a program fails, or the trees are not equal in the end.
pub fn run() -> anyhow::Result<()> {
    let scratch = tree::scratch()?;
    let master = scratch.path().join("master");
    tree::copy(&tree::linux()?, &master)?;
    let files = tree::files(&master)?;
    let daemon = Daemon::start(&scratch.path().join("data"))?;
    show("started", daemon.memory());
    daemon.protect(&master)?;
    show("synchronized", daemon.memory());
    daemon.run(&["bookmark", "set", "bench", "before"])?;
    edit(&master, &files)?;
    daemon.run(&["flush", "bench"])?;
    show("after 8,000 changed files", daemon.memory());
    daemon.run(&["rewind", "bench", "--to", "before", "--yes"])?;
    show("after a rewind", daemon.memory());
    daemon.run(&["scenario", "resume", "bench"])?;
    show("after resume", daemon.memory());
    let past = scratch.path().join("past");
    let onto = past.display().to_string();
    daemon.run(&["rewind", "bench", "--to", "before", "--onto", &onto, "--yes"])?;
    show("after a rewind into a directory", daemon.memory());
    run::must_equal(&master, &daemon.replica(), false)?;
    let memory = daemon.stop()?;
    show("stopped", memory);
    report::ratio("resident / 300 MB", memory.resident as f64 / BOUND as f64, "below 1");
    Ok(())
}
