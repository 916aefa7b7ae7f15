//! Is the replica what was captured? At barriers the master says the digest of each root; the tables have theirs.
//!
//! Digests are those of the state between two captures, so a batch ends behind a capture that carries some. What comes
//! of it is noted before anybody is told that the barrier is applied. A replica that is detached applies no barrier and
//! compares nothing; once it is back at the last applied captured LSN its tables are compared like any others, which
//! proves the way back.

use journal::digest::Digest;
use journal::journal::Journal;
use journal::proofs::Compared;
use journal::state::digests;
use journal::{Capture, Event, JournalError, Marker, RootNo};

/// Whether a batch must end behind a capture.
pub(crate) fn ends_batch(capture: &Capture) -> bool {
    // A capture with digests consists of markers.
    let first = capture.events.iter().take(2);
    !capture.lsn.is_local()
        && first.into_iter().any(|event| matches!(event, Event::Mark(Marker::Digest { .. })))
}

/// Compares the digests that the last capture of a published batch carries. A comparison that cannot be made, or noted,
/// is said and made at the next barrier: apply does not stop for it.
pub(super) fn compare(journal: &Journal, last: Option<&Capture>) {
    let Some(capture) = last.filter(|capture| ends_batch(capture)) else { return };
    match differing(journal, capture) {
        Ok(differs) => {
            let lsn = capture.lsn;
            if !differs.is_empty() {
                let roots: Vec<u16> = differs.iter().map(|root| root.0).collect();
                tracing::error!(%lsn, ?roots, "the replica is not what was captured: its digest differs");
            }
            let compared = Compared::new(lsn, journal.clock().now(), differs);
            if let Err(error) = journal.compared(&compared) {
                tracing::error!(%error, "a comparison of digests cannot be journaled");
            }
        }
        Err(error) => tracing::error!(%error, "the digests of the replica cannot be read"),
    }
}

fn differing(journal: &Journal, capture: &Capture) -> Result<Vec<RootNo>, JournalError> {
    let ours = digests(&**journal.tables())?;
    let theirs = capture.events.iter().filter_map(|event| match event {
        Event::Mark(Marker::Digest { root, digest }) => Some((*root, Digest::from_bytes(digest))),
        _ => None,
    });
    let differs = theirs.filter(|(root, digest)| ours.get(root).copied().unwrap_or_default() != *digest);
    Ok(differs.map(|(root, _)| root).collect())
}
