//! What is mounted where: a mount on a directory below a root makes no notification in the directory.
//!
//! The kernel makes `/proc/self/mountinfo` readable with priority when the table changes.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The table of mounts as read last.
pub(super) struct Mounts {
    file: Option<File>,
    known: BTreeSet<Vec<u8>>,
}

/// Paths in the table are octal-escaped where they hold blanks or backslashes.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, tail)) = rest.split_first() {
        let octal = tail
            .get(..3)
            .filter(|digits| *first == b'\\' && digits.iter().all(|d| (b'0'..=b'7').contains(d)));
        match octal {
            Some(digits) => {
                bytes.push(digits.iter().fold(0u8, |n, d| n.wrapping_mul(8).wrapping_add(d - b'0')));
                rest = tail.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    bytes
}

fn read() -> BTreeSet<Vec<u8>> {
    let table = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
    let points =
        table.split(|byte| *byte == b'\n').filter_map(|line| line.split(|byte| *byte == b' ').nth(4));
    points.map(unescape).collect()
}

impl Mounts {
    pub(super) fn new() -> Self {
        Mounts { file: File::open("/proc/self/mountinfo").ok(), known: read() }
    }

    /// To wait for priority data on.
    pub(super) fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_ref().map(AsFd::as_fd)
    }

    /// Mount points that came or went since the last call.
    pub(super) fn changed(&mut self) -> Vec<Vec<u8>> {
        let now = read();
        let changed = self.known.symmetric_difference(&now).cloned().collect();
        self.known = now;
        changed
    }
}

/// The path of a mount point relative to a root, if it lies below it.
pub(super) fn below<'a>(root: &Path, point: &'a [u8]) -> Option<&'a [u8]> {
    let rest = point.strip_prefix(root.as_os_str().as_bytes())?;
    rest.strip_prefix(b"/").filter(|rest| !rest.is_empty())
}

#[cfg(test)]
mod tests;
