//! The two proofs, for people: that the replica is what was captured, and that what was captured is what is there.

use super::scene::Scene;
use crate::engine::{EngineResult, Level};
use journal::proofs::Compared;
use replication::os_tree::OsTree;
use replication::replica::Replica;

/// What is wrong, if the last comparison of digests found a difference.
pub(super) fn cause(compared: &Compared) -> Option<String> {
    (!compared.is_equal()).then(|| {
        let roots: Vec<String> = compared.differs.iter().map(|root| root.0.to_string()).collect();
        let (roots, lsn) = (roots.join(", "), compared.lsn());
        format!("the replica is not what was captured: the digest of root {roots} differs at LSN {lsn}")
    })
}

impl Scene {
    /// Whether the last comparison of digests found a difference: a synchronization then compares the master with what
    /// the replica has, not with what the master thinks it has. The sums of the replica are made right first.
    pub(super) fn doubts_index(&self, replica: &Replica<OsTree>) -> EngineResult<bool> {
        let compared = replica.journal().proofs().compared;
        if compared.is_none_or(|compared| compared.is_equal()) {
            return Ok(false);
        }
        if let Some(wrong) = replica.recount()?
            && !wrong.is_empty()
        {
            self.note(
                Level::Warning,
                "the digests of the replica were not those of its tables: counted anew",
            );
        }
        Ok(true)
    }
}
