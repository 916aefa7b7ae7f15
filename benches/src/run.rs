//! Running programs and timing them.

use anyhow::{Context, bail};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Runs a program to its end; gives stdout and the time it took.
///
/// # Errors
/// If it cannot be run, or fails.
pub fn timed(command: &mut Command) -> anyhow::Result<(String, Duration)> {
    let start = Instant::now();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("run {command:?}"))?;
    let took = start.elapsed();
    if !output.status.success() {
        bail!("{command:?} ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok((String::from_utf8_lossy(&output.stdout).into_owned(), took))
}

/// A path as rsync wants it to mean what is in the directory.
fn inside(directory: &Path) -> PathBuf {
    directory.join("")
}

/// `rsync OPTIONS FROM/ TO/`.
///
/// # Errors
/// As [`timed`].
pub fn rsync(options: &[&str], from: &Path, to: &Path) -> anyhow::Result<(String, Duration)> {
    timed(Command::new("rsync").args(options).args([inside(from), inside(to)]))
}

/// `sync -f`: the file system of `path` is on the disk.
///
/// # Errors
/// As [`timed`].
pub fn sync(path: &Path) -> anyhow::Result<Duration> {
    Ok(timed(Command::new("sync").args([OsStr::new("-f"), path.as_os_str()]))?.1)
}

/// Makes sure that two directories hold the same, as rsync sees it: by contents if asked for, else by size and time.
///
/// # Errors
/// If they do not.
pub fn must_equal(one: &Path, other: &Path, by_contents: bool) -> anyhow::Result<()> {
    let mut options = vec!["-ani", "--delete"];
    options.extend(by_contents.then_some("--checksum"));
    let (differences, _) = rsync(&options, one, other)?;
    if !differences.trim().is_empty() {
        let first: Vec<&str> = differences.lines().take(5).collect();
        bail!("{} and {} differ:\n{}", one.display(), other.display(), first.join("\n"));
    }
    Ok(())
}
