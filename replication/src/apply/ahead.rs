//! Old bytes read ahead of who records them as undo.
//!
//! Reading what a batch replaces and writing it as undo would take turns. So a thread reads, in the order of the batch, what
//! its writes replace if they are cut into the same extents as undo is; a few extents wait at most. What is guessed wrong,
//! or could not be read, is read by whoever wants it: this can cost time, never change what is read.

use bytes::Bytes;
use journal::journal::Placed;
use journal::state::READ_BYTES;
use journal::{Event, NodeId, Provenance};
use std::collections::{HashMap, HashSet};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, Scope};

/// A batch that writes less is not worth a thread.
const BYTES_MIN: u64 = 2 << 20;
/// Shorter writes are left to whoever wants them.
const EXTENT_BYTES_MIN: u64 = 64 << 10;
/// Extents that are read and wait.
const WAITING: usize = 16;

/// Bytes of a file that are read as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Extent {
    pub(super) node: NodeId,
    pub(super) offset: u64,
    pub(super) length: usize,
}

/// Reads extents.
pub(super) trait Reads {
    /// `None` if it cannot be read.
    fn read(&mut self, extent: Extent) -> Option<Bytes>;
}

/// What the long writes of a batch replace; nothing if it is not much.
pub(super) fn wanted(batch: &[Placed]) -> Vec<Extent> {
    let (mut extents, mut created, mut bytes) = (Vec::new(), HashSet::new(), 0);
    // A first synchronization replaces nothing.
    let replacing = batch.iter().filter(|placed| placed.capture.provenance != Provenance::Synchronization);
    for event in replacing.flat_map(|placed| &placed.capture.events) {
        match event {
            Event::Create { node, .. } => drop(created.insert(*node)),
            Event::Write { node, offset, data, .. }
                if data.len() >= EXTENT_BYTES_MIN && !created.contains(node) =>
            {
                bytes += data.len();
                let mut done = 0;
                while done < data.len() {
                    let length = (data.len() - done).min(READ_BYTES);
                    let Some(offset) = offset.checked_add(done) else { break };
                    extents.push(Extent { node: *node, offset, length: length as usize });
                    done += length;
                }
            }
            _ => {}
        }
    }
    if bytes < BYTES_MIN { Vec::new() } else { extents }
}

/// What is being read ahead.
pub(super) struct Ahead {
    /// What is still to come.
    to_come: HashSet<Extent>,
    /// What came before it was wanted.
    early: HashMap<Extent, Bytes>,
    read: Receiver<(Extent, Option<Bytes>)>,
}

impl Ahead {
    /// Begins to read; `None` if there is no thread for it. It ends when the result is dropped.
    pub(super) fn start<'s, R: Reads + Send + 's>(
        mut reads: R,
        wanted: Vec<Extent>,
        scope: &'s Scope<'s, '_>,
    ) -> Option<Self> {
        let (send, read): (SyncSender<(Extent, Option<Bytes>)>, _) = sync_channel(WAITING);
        let to_come = wanted.iter().copied().collect();
        let run = move || {
            for extent in wanted {
                if send.send((extent, reads.read(extent))).is_err() {
                    return;
                }
            }
        };
        Builder::new().name("undo-read".to_owned()).spawn_scoped(scope, run).ok()?;
        Some(Ahead { to_come, early: HashMap::new(), read })
    }

    /// The bytes of an extent, once; `None` if they are not read ahead. All that waits is of the batch, and so is no more
    /// than a batch may hold.
    pub(super) fn take(&mut self, extent: Extent) -> Option<Bytes> {
        if let Some(bytes) = self.early.remove(&extent) {
            return Some(bytes);
        }
        while self.to_come.contains(&extent) {
            let Ok((came, bytes)) = self.read.recv() else {
                self.to_come.clear();
                return None;
            };
            self.to_come.remove(&came);
            if came == extent {
                return bytes;
            }
            if let Some(bytes) = bytes {
                self.early.insert(came, bytes);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;
