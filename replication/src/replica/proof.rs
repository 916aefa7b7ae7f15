//! Counting the digests of a replica anew.
//!
//! They are sums that follow the rows. Once they differ from the master's it must be known whether the rows differ:
//! sums of wrong rows stay wrong even when the rows have been put right. So before a synchronization repairs a replica
//! the sums are held against the rows.

use super::Replica;
use journal::state::{counted, digests, digests_put};
use journal::{JournalError, RootNo, TreeIo};
use std::collections::BTreeSet;

impl<T: TreeIo> Replica<T> {
    /// Counts the digests of all rows, while nothing is applied, and puts them in the place of those that were kept.
    /// The roots of which the kept ones were not right; `None` if apply does not come to rest.
    ///
    /// # Errors
    /// As the tables.
    pub fn recount(&self) -> Result<Option<Vec<RootNo>>, JournalError> {
        let tables = self.journal.tables();
        let recounted = self.while_still(|_| {
            let (kept, right) = (digests(&**tables)?, counted(&**tables)?);
            let roots: BTreeSet<RootNo> = kept.keys().chain(right.keys()).copied().collect();
            let of = |digests: &journal::state::Digests, root: &RootNo| {
                digests.get(root).copied().unwrap_or_default()
            };
            let wrong: Vec<RootNo> =
                roots.into_iter().filter(|root| of(&kept, root) != of(&right, root)).collect();
            if !wrong.is_empty() {
                tables.commit(vec![digests_put(&right)])?;
            }
            Ok(wrong)
        });
        recounted.transpose()
    }
}
