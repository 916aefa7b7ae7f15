//! A directory that somebody reads: a page of it at a time.
//!
//! Entries are numbered from 0 in the order of names, behind `.` and `..`; the number of the next one is what the kernel
//! comes back with. Going on is one look at the page that is there, or one page more; going back begins anew.

use fuser::FileType;
use journal::{JournalError, Name, NodeId};

/// Where entries come from, a page at a time.
pub(super) trait Pages {
    /// Entries behind `after`; none: there are no more.
    fn page(&self, after: Option<&Name>) -> Result<Vec<(Name, NodeId)>, JournalError>;
    /// What kind an entry is.
    fn kind(&self, node: NodeId) -> Result<FileType, JournalError>;
}

/// An entry as it is told.
pub(super) struct Listed<'n> {
    pub inode: u64,
    /// The number to go on from behind it.
    pub next: u64,
    pub kind: FileType,
    pub name: &'n [u8],
}

/// How far a reader has come.
pub(super) struct Listing {
    /// Inodes of the directory and of the one above.
    own: (u64, u64),
    page: Vec<(Name, NodeId)>,
    /// Number of the first entry of the page.
    start: u64,
}

/// Numbers before the first real entry: `.` and `..`.
const DOTS: u64 = 2;

impl Listing {
    pub fn new(own: u64, above: u64) -> Self {
        Listing { own: (own, above), page: Vec::new(), start: DOTS }
    }

    /// Of the directory.
    pub fn inode(&self) -> u64 {
        self.own.0
    }

    /// Gives entries from `offset` on, until `full` says so or there are no more.
    pub fn give(
        &mut self,
        pages: &dyn Pages,
        offset: u64,
        mut full: impl FnMut(Listed<'_>) -> bool,
    ) -> Result<(), JournalError> {
        let dots = [(self.own.0, &b"."[..]), (self.own.1, b"..")];
        for (number, (inode, name)) in (0..).zip(dots).skip(usize::try_from(offset).unwrap_or(usize::MAX)) {
            if full(Listed { inode, next: number + 1, kind: FileType::Directory, name }) {
                return Ok(());
            }
        }
        let mut at = offset.max(DOTS);
        if at < self.start {
            (self.page, self.start) = (Vec::new(), DOTS);
        }
        loop {
            let skip = usize::try_from(at - self.start).unwrap_or(usize::MAX);
            for (name, node) in self.page.iter().skip(skip) {
                let kind = pages.kind(*node)?;
                at += 1;
                if full(Listed { inode: node.0, next: at, kind, name: name.as_bytes() }) {
                    return Ok(());
                }
            }
            let next = pages.page(self.page.last().map(|(name, _)| name))?;
            if next.is_empty() {
                return Ok(());
            }
            self.start += self.page.len() as u64;
            self.page = next;
            // Who jumps ahead passes over whole pages.
            at = at.max(self.start);
        }
    }
}

#[cfg(test)]
mod tests;
