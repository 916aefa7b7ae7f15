//! Whether limits fit what is protected.

use super::scene::Scene;
use replication::spool::SpoolOptions;
use std::path::PathBuf;
use wire::units::format_size;

/// What people should know of a spool with this limit, beside a data set of this size.
fn small_spool(spool_bytes_max: u64, data_set_bytes: u64) -> Option<String> {
    let options = SpoolOptions { disk_bytes_max: spool_bytes_max, ..SpoolOptions::new(PathBuf::new()) };
    options.is_small_for(data_set_bytes).then(|| {
        format!(
            "the spool ({}) is smaller than a tenth of the data set ({}): if the replica is away for long, what does \
             not fit becomes a gap; raise spool-max",
            format_size(spool_bytes_max),
            format_size(data_set_bytes)
        )
    })
}

impl Scene {
    /// A warning if the spool is small for what the last synchronization found; before the first nothing is known.
    pub(super) fn small_spool(&self) -> Option<String> {
        let replica = self.replica().ok()?;
        let (_, _, bytes) = replica.journal().with_controls(|controls| controls.synchronized_counts);
        small_spool(self.definition().spool_bytes_max, bytes)
    }
}

#[cfg(test)]
mod tests;
