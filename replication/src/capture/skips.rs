//! What could not be kept: said once in the stream, remembered, taken back when it is kept after all.

use super::CaptureError;
use super::core::Core;
use super::facts::Facts;
use super::index::SkipRow;
use journal::{Edge, Marker, RootNo, SkippedWhat};
use rustix::io::Errno;

impl Core {
    /// Says that something at this name could not be kept.
    pub(super) fn skip(
        &mut self,
        edge: &Edge,
        what: SkippedWhat,
        errno: Errno,
        facts: &Facts,
    ) -> Result<(), CaptureError> {
        let known = self.index.skip(edge)?;
        let errno = errno.raw_os_error();
        if known.as_ref().is_some_and(|known| known.what == what && known.errno == errno) {
            return Ok(());
        }
        let Some(root) = self.root_of(facts, edge.parent)? else { return Ok(()) };
        let path = self.path_of_edge(facts, edge)?;
        let row = SkipRow { root, what, errno, path: path.clone() };
        let mut batch = self.index.batch();
        self.index.put_skip(&mut batch, edge, Some(&row))?;
        self.index.commit(batch)?;
        self.skip_count += usize::from(known.is_none());
        self.out.mark(root, path.clone(), Marker::Skipped { root, path, what, errno })
    }

    /// Whether something at this name is missing in the stream.
    pub(super) fn has_skip(&self, edge: &Edge) -> Result<bool, CaptureError> {
        Ok(self.skip_count > 0 && self.index.skip(edge)?.is_some())
    }

    /// What is missing at this name, if it is this.
    pub(super) fn lacks(&self, edge: &Edge, what: SkippedWhat) -> Result<bool, CaptureError> {
        Ok(self.skip_count > 0 && self.index.skip(edge)?.is_some_and(|row| row.what == what))
    }

    /// Takes back what was said of names that are not there any more.
    pub(super) fn unskip_stale(&mut self) -> Result<(), CaptureError> {
        let roots: Vec<RootNo> = self.roots.iter().map(|root| root.number).collect();
        for root in roots {
            for edge in self.index.stale_skips(root)? {
                self.unskip(&edge)?;
            }
        }
        Ok(())
    }

    /// It is kept again, or gone.
    pub(super) fn unskip(&mut self, edge: &Edge) -> Result<(), CaptureError> {
        if self.skip_count == 0 {
            return Ok(());
        }
        let Some(row) = self.index.skip(edge)? else { return Ok(()) };
        let mut batch = self.index.batch();
        self.index.put_skip(&mut batch, edge, None)?;
        self.index.commit(batch)?;
        self.skip_count = self.skip_count.saturating_sub(1);
        let root: RootNo = row.root;
        self.out.mark(root, row.path.clone(), Marker::Unskipped { root, path: row.path })
    }

    /// The same, if that was what was missing.
    pub(super) fn unskip_what(&mut self, edge: &Edge, what: SkippedWhat) -> Result<(), CaptureError> {
        if self.lacks(edge, what)? { self.unskip(edge) } else { Ok(()) }
    }
}
