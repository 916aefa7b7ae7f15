//! Hashes of a file as captured, for a master that has none.
//!
//! A master without hashes of a file (its index was rebuilt) has sent no bytes of that file since the index was made
//! from the namespace: whoever sends bytes has their hashes. So nothing that is on its way, journaled and not applied,
//! or still in the spool, concerns the bytes of the file, and they are the same at every captured LSN from the one of
//! the namespace on. That LSN comes with the question; once apply has passed it, any later state gives the right
//! answer, and the newest is taken. It is read through a view of the last captured LSN: a replica that was rewound
//! meanwhile still answers with what was captured, and apply may go on while it is read. Before the first
//! synchronization has completed there is no undo; then nothing but captures changes the tree, and the argument holds
//! for the tree as it is.
//!
//! What is asked is bounded on the wire: so many blocks, so many bytes. A block that lies in a hole as a whole has the
//! hash zero, as in the master's index. Where a hole is seen differently here and there, zeros or a hole are sent once
//! more, never anything wrong.

use super::Replica;
use bytes::Bytes;
use journal::view::ViewFile;
use journal::{JournalError, Lsn, TreeIo};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};
use wire::stream::{BLOCK_HASH_BYTES, BlockHashes, BlocksWanted, Failed};

/// How long apply may take to show what the master knows.
const APPLY_WAIT: Duration = Duration::from_secs(50);
/// How often it is looked whether it still may.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Bytes read at a time; whole blocks of every size that can be asked for.
const READ_BYTES: usize = 16 << 20;

fn failed(code: &str, text: impl Into<String>) -> Failed {
    Failed { code: code.to_owned(), text: text.into() }
}

/// Hashes of blocks of a file as of the last captured LSN applied.
///
/// # Errors
/// What to tell the master: it is not a file here, the tree is behind for too long, or cannot be read.
pub fn block_hashes<T: TreeIo>(
    replica: &Arc<Replica<T>>,
    wanted: &BlocksWanted,
) -> Result<BlockHashes, Failed> {
    let journal = replica.journal();
    let give_up = Instant::now() + APPLY_WAIT;
    while journal.applied() < wanted.at {
        // Nothing captured is applied for now: sending the bytes is faster than waiting.
        let status = replica.status();
        let stands_still = status.detached.is_some() || status.halt.is_some() || replica.is_stopping();
        if stands_still || Instant::now() > give_up {
            return Err(failed("RW0469", format!("the replica has not applied LSN {} in time", wanted.at)));
        }
        journal.wait_applied(wanted.at, LOOK_EVERY);
    }
    let lsn = Lsn::captured(journal.applied().captured);
    let no_point_yet = journal.with_controls(|controls| controls.first_point) == 0;
    let unreadable = |error: JournalError| failed("RW0472", error.to_string());
    let view =
        if no_point_yet { replica.view_unchecked(lsn) } else { replica.view(lsn).map_err(unreadable)? };
    let mut file = view.open(wanted.node).map_err(unreadable)?;
    hash(&mut file, wanted).map_err(unreadable)
}

fn hash<T: TreeIo>(file: &mut ViewFile<'_, T>, wanted: &BlocksWanted) -> Result<BlockHashes, JournalError> {
    let (block, size) = (1u64 << wanted.block_bits, file.size());
    let start = wanted.first.saturating_mul(block).min(size);
    let end = start.saturating_add(u64::from(wanted.count).saturating_mul(block)).min(size);
    let mut hashes = Vec::new();
    let mut data = Data::default();
    let mut buffer = Vec::new();
    let mut at = start;
    while at < end {
        let chunk = at..end.min(at.saturating_add(READ_BYTES as u64));
        let read = if data.after(file, at)?.is_some_and(|data| data < chunk.end) {
            buffer.resize((chunk.end - at) as usize, 0);
            file.read_at(&mut buffer, at)?;
            true
        } else {
            false
        };
        while at < chunk.end {
            let to = at.saturating_add(block).min(chunk.end);
            let in_data = read && data.after(file, at)?.is_some_and(|data| data < to);
            let bytes = buffer.get((at - chunk.start) as usize..(to - chunk.start) as usize);
            match bytes.filter(|_| in_data) {
                Some(bytes) => hashes.extend(blake3::hash(bytes).as_bytes().iter().take(BLOCK_HASH_BYTES)),
                None => hashes.resize(hashes.len() + BLOCK_HASH_BYTES, 0),
            }
            at = to;
        }
    }
    Ok(BlockHashes { size, hashes: Bytes::from(hashes) })
}

/// The stretch of data found last.
#[derive(Default)]
struct Data(Option<Range<u64>>, bool);

impl Data {
    /// Where data begins at or behind an offset; `None`: nowhere. Offsets ascend.
    fn after<T: TreeIo>(
        &mut self,
        file: &mut ViewFile<'_, T>,
        offset: u64,
    ) -> Result<Option<u64>, JournalError> {
        let known = self.0.as_ref().is_some_and(|data| offset < data.end);
        if !known && !self.1 {
            self.0 = file.next_data(offset)?;
            self.1 = self.0.is_none();
        }
        Ok(self.0.as_ref().filter(|data| offset < data.end).map(|data| data.start.max(offset)))
    }
}

#[cfg(test)]
mod tests;
