//! Full comparison of two directory trees on disk.
//!
//! It compares what a user could miss: names, kinds, bytes, sizes, modes, owners, groups, modification times to the
//! nanosecond (of directories too), extended attributes with ACLs and capabilities, targets of links, device numbers,
//! and which names share a file. Holes are compared too but reported apart, because a file system may fill them.
//! Change and access times, inode numbers and link counts are not compared: names outside the trees count in the last.
//!
//! It shares no code with the product, so that a mistake in one cannot hide behind the same mistake in the other.
//! Nothing is resolved by path (trees may be deeper than a path can be long) and no link is followed.

mod entry;
mod links;
#[cfg(test)]
mod tests;
mod walk;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::Path;

/// What to do without.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Differences described; more are only counted.
    pub limit: usize,
    /// Whether owners and groups count; false where the copy was made without root.
    pub owners: bool,
    /// Whether attributes of the two top directories count.
    pub top: bool,
    /// Number of threads.
    pub threads: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options { limit: 40, owners: true, top: true, threads: 2 }
    }
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Differences in words, by path, at most [`Options::limit`].
    pub differences: Vec<String>,
    /// How many there are.
    pub difference_count: u64,
    /// Files whose holes differ, at most [`Options::limit`].
    pub holes: Vec<String>,
    /// How many there are.
    pub hole_count: u64,
    /// Nodes compared, by kind: directories, files, others.
    pub directories: u64,
    /// See `directories`.
    pub files: u64,
    /// See `directories`.
    pub others: u64,
    /// Bytes compared, holes of both sides left out.
    pub bytes: u64,
}

impl Report {
    /// Whether nothing differs, holes aside.
    #[must_use]
    pub fn is_equal(&self) -> bool {
        self.difference_count == 0
    }

    fn differ(&mut self, limit: usize, path: &[u8], what: impl fmt::Display) {
        self.difference_count += 1;
        if self.differences.len() < limit {
            self.differences.push(format!("{}: {what}", show(path)));
        }
    }

    fn differ_in_holes(&mut self, limit: usize, path: &[u8], what: impl fmt::Display) {
        self.hole_count += 1;
        if self.holes.len() < limit {
            self.holes.push(format!("{}: {what}", show(path)));
        }
    }

    fn add(&mut self, other: Report, limit: usize) {
        self.differences.extend(other.differences);
        self.difference_count += other.difference_count;
        self.holes.extend(other.holes);
        self.hole_count += other.hole_count;
        self.directories += other.directories;
        self.files += other.files;
        self.others += other.others;
        self.bytes += other.bytes;
        for list in [&mut self.differences, &mut self.holes] {
            list.sort();
            list.truncate(limit);
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.differences {
            writeln!(f, "{line}")?;
        }
        for line in &self.holes {
            writeln!(f, "holes: {line}")?;
        }
        write!(f, "{} directories, {} files, {} others, ", self.directories, self.files, self.others)?;
        write!(f, "{} bytes compared: {} differences", self.bytes, self.difference_count)?;
        if self.hole_count > 0 { write!(f, ", {} files with other holes", self.hole_count) } else { Ok(()) }
    }
}

fn show(path: &[u8]) -> String {
    if path.is_empty() { ".".to_owned() } else { path.escape_ascii().to_string() }
}

/// Names of one side that share a file with another name, by what the kernel calls the file.
type Groups = BTreeMap<(u64, u64), Vec<Vec<u8>>>;

/// Compares two trees, `a` with `b`.
///
/// # Errors
/// If one of the two directories cannot be opened. What cannot be read below them is a difference.
pub fn compare(a: &Path, b: &Path, options: &Options) -> io::Result<Report> {
    let (mut report, groups) = walk::walk(a, b, options)?;
    links::compare(&groups, options.limit, &mut report);
    Ok(report)
}

/// Panics with the differences unless the trees are equal, holes aside.
///
/// # Panics
/// If they differ, or cannot be opened.
pub fn assert_same(a: &Path, b: &Path, context: &str) {
    let report = compare(a, b, &Options::default());
    let report = report.unwrap_or_else(|e| panic!("{context}: {} and {}: {e}", a.display(), b.display()));
    assert!(report.is_equal(), "{context}: {} and {} differ\n{report}", a.display(), b.display());
}
