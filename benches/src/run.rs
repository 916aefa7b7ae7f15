//! Running programs and timing them.

use crate::tree;
use anyhow::{Context, bail};
use std::ffi::OsStr;
use std::io::Read;
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

/// Reads all files below some directories, so that they are in the page cache.
///
/// # Errors
/// If one cannot be read.
pub fn warm(directories: &[&Path]) -> anyhow::Result<()> {
    let mut buffer = vec![0; 1 << 20];
    for directory in directories {
        for file in tree::files(directory)? {
            // What a program at work removes meanwhile is nothing that it reads later.
            let Ok(mut file) = std::fs::File::open(directory.join(file)) else { continue };
            while file.read(&mut buffer).context("read a file into memory")? > 0 {}
        }
    }
    Ok(())
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
