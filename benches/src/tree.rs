//! The trees: the source of Linux with its 80,000 files, a share of it with a tenth, and files picked from them.

use crate::run;
use anyhow::{Context, bail};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The top of the workspace.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// Where corpora are unpacked.
fn corpora() -> PathBuf {
    std::env::var_os("REWIND_CORPUS").map_or_else(|| std::env::temp_dir().join("corpus"), PathBuf::from)
}

/// The tree of 80,000 files, not to be changed. Unpacked if it is not there.
///
/// # Errors
/// If it cannot be unpacked.
pub fn linux() -> anyhow::Result<PathBuf> {
    let directory = corpora();
    let tree = directory.join("linux");
    // The script unpacks into place: a tree without its last file was cut short.
    if !tree.join("virt/lib/irqbypass.c").exists() {
        let script = workspace().join("../shared/corpora/linux-tree.sh");
        run::timed(Command::new("bash").arg(script).arg(&directory))?;
    }
    Ok(tree)
}

/// A directory for one benchmark, removed with all its trees when dropped. Its file system is that of `$TMPDIR`.
///
/// # Errors
/// If it cannot be made.
pub fn scratch() -> anyhow::Result<tempfile::TempDir> {
    tempfile::Builder::new().prefix("rewind-bench-").tempdir().context("make a scratch directory")
}

/// Copies a tree, exactly.
///
/// # Errors
/// If rsync fails.
pub fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    run::rsync(&["-aH"], from, to)?;
    Ok(())
}

/// Copies a tenth of a tree's files: every tenth one in the order of their paths.
///
/// # Errors
/// If rsync fails.
pub fn copy_tenth(from: &Path, to: &Path) -> anyhow::Result<()> {
    copy_some(from, to, files(from)?.iter().step_by(10))
}

/// Copies a tenth of a tree by whole directories: all files of directories, evenly spread, until they are a tenth. The
/// directories are as large as those of the whole tree, and a tenth as many.
///
/// # Errors
/// If rsync fails.
pub fn copy_tenth_of_directories(from: &Path, to: &Path) -> anyhow::Result<()> {
    let files = files(from)?;
    let mut directories = std::collections::BTreeMap::<_, Vec<_>>::new();
    for file in &files {
        directories.entry(file.parent()).or_default().push(file);
    }
    // Every tenth one, and then the next of each ten until there are enough: some are much larger than others.
    let by_turn = (0..10).flat_map(|turn| directories.values().skip(turn).step_by(10));
    let mut left = files.len() / 10;
    let some = by_turn.take_while(|files| {
        let take = left > 0;
        left = left.saturating_sub(files.len());
        take
    });
    copy_some(from, to, some.flatten().copied())
}

fn copy_some<'f>(from: &Path, to: &Path, some: impl Iterator<Item = &'f PathBuf>) -> anyhow::Result<()> {
    let list = tempfile::NamedTempFile::new()?;
    let mut writer = std::io::BufWriter::new(list.as_file());
    for file in some {
        writeln!(writer, "{}", file.display())?;
    }
    writer.flush()?;
    drop(writer);
    let from_list = format!("--files-from={}", list.path().display());
    run::rsync(&["-a", &from_list], from, to)?;
    Ok(())
}

/// All regular files below `tree`, as sorted paths within it.
///
/// # Errors
/// If a directory cannot be read.
pub fn files(tree: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut rest = vec![tree.to_owned()];
    while let Some(directory) = rest.pop() {
        for entry in std::fs::read_dir(&directory).with_context(|| directory.display().to_string())? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                rest.push(entry.path());
            } else if kind.is_file() {
                found.push(entry.path().strip_prefix(tree)?.to_owned());
            }
        }
    }
    found.sort();
    if found.is_empty() {
        bail!("{} holds no files", tree.display());
    }
    Ok(found)
}

/// `count` of all files, evenly spread, another choice for each `round`.
pub fn pick(files: &[PathBuf], count: usize, round: usize) -> Vec<&PathBuf> {
    let step = (files.len() / count).max(1);
    files.iter().skip((round * 7) % step).step_by(step).take(count).collect()
}

/// Appends to a file what no other round appends.
///
/// # Errors
/// If it cannot be written.
pub fn change(file: &Path, round: usize) -> anyhow::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.append(true).open(file).with_context(|| format!("change {}", file.display()))?;
    let block = [b'a'.wrapping_add(round as u8); 4096];
    file.write_all(&block)?;
    Ok(())
}
