//! Views of a replica: the past is readable as long as somebody holds a lease on it.

use super::Replica;
use crate::apply;
use journal::journal::Lease;
use journal::view::View;
use journal::{JournalError, Lsn, TreeIo};
use std::sync::Arc;

/// A view with a lease on its point.
pub struct LeasedView<T: TreeIo> {
    view: View<T>,
    _lease: Option<Lease>,
}

impl<T: TreeIo> std::ops::Deref for LeasedView<T> {
    type Target = View<T>;

    fn deref(&self) -> &View<T> {
        &self.view
    }
}

impl<T: TreeIo> Replica<T> {
    /// The tree at a point, which retention leaves alone until the lease is dropped.
    ///
    /// # Errors
    /// `OutsideWindow`, also for a point that is not applied yet.
    pub fn view(self: &Arc<Self>, lsn: Lsn) -> Result<LeasedView<T>, JournalError> {
        let lease = self.journal.lease(lsn)?;
        let newest = self.journal.applied();
        if lsn > newest {
            let oldest = self.journal.window().0;
            return Err(JournalError::OutsideWindow { lsn, oldest, newest });
        }
        Ok(self.leased(lsn, Some(lease)))
    }

    /// The same without a lease and also while there is no rewind point yet; for the newest state only.
    pub(crate) fn view_unchecked(&self, lsn: Lsn) -> LeasedView<T> {
        self.leased(lsn, None)
    }

    fn leased(&self, lsn: Lsn, lease: Option<Lease>) -> LeasedView<T> {
        let bytes = apply::payloads(&self.journal);
        let view = View::new(lsn, Arc::clone(self.journal.tables()), bytes, Arc::clone(&self.tree));
        let view = view.watching(Arc::clone(self.journal.motion()));
        LeasedView { view, _lease: lease }
    }
}
