//! A replica that makes a session's tree its own: local captures, as a rewind makes them.
//!
//! The replica is detached first, so that the present stands still. Nothing is changed before the bookmark that leads
//! back is set, and it is set only when there is something to change. After an interruption the same restore is begun
//! again: it compares with what stands there, so what was done is found done. A file that comes in several captures has a
//! mode and a time that say so until the last of them, so it is never taken for done, under no rule.

use super::changer::{Changer, path_key};
use super::filler::Sink;
use super::{Onto, OntoReport};
use crate::rewind::{LocalGroup, ReplicaControl, set_before};
use crate::session::error::{SessionRestoreError, journal};
use crate::session::receipt::Listed;
use crate::session::walk::Result;
use crate::session::{IfExists, Monitor, Options};
use journal::view::View;
use journal::{Event, Lsn, RootNo, Timestamp, TreeIo};
use std::collections::HashSet;

/// Payload bytes and events after which a capture is cut.
const GROUP_BYTES_MAX: u64 = 4 << 20;
const GROUP_EVENTS_MAX: usize = 4096;
/// What is handed to the replica at a time.
const BATCH_BYTES_MAX: u64 = 4 << 20;
const BATCH_GROUPS_MAX: usize = 512;

/// Restores onto a replica. It is detached afterwards, unless nothing had to be changed.
///
/// # Errors
/// `Conflicts` under the rule `fail`; as [`Onto::list`]; `Journal`; `Cancelled`. What was changed stays, under the
/// bookmark; the same call goes on.
pub fn restore_replica<R: ReplicaControl>(
    replica: &R,
    onto: &Onto<'_>,
    now: Timestamp,
    monitor: &dyn Monitor,
) -> Result<OntoReport> {
    let was_detached = replica.is_detached();
    replica.detach("restore of a session").map_err(|source| SessionRestoreError::NotStopped { source })?;
    let mut before = None;
    let outcome = detached(replica, onto, (now, &mut before), monitor);
    if before.is_none() && !was_detached {
        // The tree is where it was: nothing keeps it from following on.
        match (replica.attach(), &outcome) {
            (Err(source), Ok(_)) => {
                return Err(SessionRestoreError::Journal { operation: "attach the replica", source });
            }
            (Err(error), Err(_)) => {
                tracing::error!(%error, "cannot attach the replica after a restore that changed nothing");
            }
            _ => {}
        }
    }
    let mut receipt = outcome?;
    receipt.lack(onto.options.missed, &onto.entity);
    Ok(OntoReport { receipt, detached: replica.is_detached(), before })
}

fn detached<R: ReplicaControl>(
    replica: &R,
    onto: &Onto<'_>,
    (now, before): (Timestamp, &mut Option<String>),
    monitor: &dyn Monitor,
) -> Result<crate::session::Receipt> {
    let head = replica.applied();
    let view = replica.view(head).map_err(journal("open a view"))?;
    // A point that is outside the window only means that more is read.
    let then = onto.made_at().and_then(|lsn| replica.view(lsn).ok());
    let then = then.as_deref();
    refuse_conflicts(onto, (&view, then), monitor)?;
    let known = onto.known(&view, then, monitor)?;
    let mut sink = Captures { replica, root: onto.root, head, now, before, groups: Vec::new(), bytes: 0 };
    let mut nobody = |_| {};
    let mut changer = Changer::doing(onto, (&view, known.as_ref()), monitor, &mut nobody, &mut sink);
    onto.walk(&view, &mut changer)?;
    changer.finish()?;
    let written = changer.take_written();
    let mut receipt = std::mem::take(&mut changer.receipt);
    if onto.options.verify {
        let after = replica.view(replica.applied()).map_err(journal("open a view"))?;
        verify(onto, &after, &written, monitor, &mut receipt)?;
    }
    Ok(receipt)
}

/// Under the rule `fail`, nothing is changed if anything stands in the way.
pub(super) fn refuse_conflicts<T: TreeIo>(
    onto: &Onto<'_>,
    (view, then): (&View<T>, Option<&View<T>>),
    monitor: &dyn Monitor,
) -> Result<()> {
    if onto.options.if_exists != IfExists::Fail {
        return Ok(());
    }
    let totals = onto.list(view, then, monitor, &mut |_| {})?;
    match totals.conflicts {
        0 => Ok(()),
        count => Err(SessionRestoreError::Conflicts { first: totals.first_conflicts, count }),
    }
}

/// Reads again what was written and compares it with the ids of its blobs.
pub(super) fn verify<T: TreeIo>(
    onto: &Onto<'_>,
    view: &View<T>,
    written: &HashSet<u64>,
    monitor: &dyn Monitor,
    receipt: &mut crate::session::Receipt,
) -> Result<()> {
    let options = Options { if_exists: IfExists::Overwrite, delete: false, ..onto.options };
    let again = Onto { options, ..onto.clone() };
    // What failed is known not to be right.
    let failed: HashSet<u64> = receipt.failures.iter().map(|listed| path_key(&listed.path)).collect();
    let mut differ = Vec::new();
    let (_, alike) = again.compare(view, None, monitor, &mut |planned| {
        let key = path_key(&planned.path);
        if written.contains(&key) && !failed.contains(&key) {
            differ.push(planned.path);
        }
    })?;
    receipt.verified = Some(differ.is_empty());
    receipt.verified_files = alike + differ.len() as u64;
    for path in differ {
        let reason = "it is not what was written".to_owned();
        receipt.fail(Listed { path, what: "verify", reason, errno: None });
    }
    Ok(())
}

/// Events as local captures.
struct Captures<'s, R: ReplicaControl> {
    replica: &'s R,
    root: RootNo,
    head: Lsn,
    now: Timestamp,
    before: &'s mut Option<String>,
    groups: Vec<LocalGroup>,
    bytes: u64,
}

impl<R: ReplicaControl> Sink for Captures<'_, R> {
    fn names_first(&self) -> bool {
        true
    }

    fn put(&mut self, path: &[u8], events: Vec<Event>) -> Result<()> {
        let (mut group, mut bytes) = (Vec::new(), 0);
        for event in events {
            let more = event.weight();
            if !group.is_empty() && (group.len() >= GROUP_EVENTS_MAX || bytes + more > GROUP_BYTES_MAX) {
                self.groups.push((self.root, path.to_vec(), std::mem::take(&mut group)));
                self.bytes += std::mem::take(&mut bytes);
                self.flush()?;
            }
            bytes += more;
            group.push(event);
        }
        self.groups.push((self.root, path.to_vec(), group));
        self.bytes += bytes;
        if self.bytes >= BATCH_BYTES_MAX || self.groups.len() >= BATCH_GROUPS_MAX {
            self.flush()
        } else {
            Ok(())
        }
    }

    fn flush(&mut self) -> Result<()> {
        if self.groups.is_empty() {
            return Ok(());
        }
        if self.before.is_none() {
            *self.before = Some(bookmark(self.replica, self.head, self.now)?);
        }
        self.bytes = 0;
        let groups = std::mem::take(&mut self.groups);
        self.replica
            .apply_local(None, &mut groups.into_iter())
            .map_err(journal("change the replica tree"))?;
        Ok(())
    }
}

/// Sets the bookmark that leads back.
pub(super) fn bookmark<R: ReplicaControl>(replica: &R, head: Lsn, now: Timestamp) -> Result<String> {
    set_before(replica, head, "before-restore", now).map_err(|error| match error {
        crate::RestoreError::Journal { operation, source } => {
            SessionRestoreError::Journal { operation, source }
        }
        other => SessionRestoreError::Target {
            operation: "set the bookmark that leads back",
            path: Vec::new(),
            source: std::io::Error::other(other),
        },
    })
}
