//! Files of which the stream has bytes and the index no hashes: what the replica has is asked for.
//!
//! An index that was rebuilt knows names, sizes and times, and no hashes. Such a row (`block_bits` 0) says at the same
//! time that no bytes of the file were handed over since, because every pass over a file leaves its hashes behind, so
//! the replica's answer is about exactly what the stream has. The answer is only trusted if the file is as long there
//! as the index says; else, and whenever nothing can be had, the file is sent whole, which is always right.
//!
//! With hashes at hand a pass sends the blocks that differ. A synchronization by files uses them only to find out
//! whether a file differs at all, and then sends all of it: for many small files that is as good and simpler to follow.

use super::CaptureError;
use super::content::block_bits;
use super::core::Core;
use super::facts::Facts;
use super::index::{GROUP_BLOCKS, HASH_BYTES, Row};
use super::look::Look;
use bytes::Bytes;
use journal::{BlockHash, Lsn, NodeId};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use wire::stream::{BLOCKS_BYTES_MAX, BLOCKS_MAX};

/// Smaller files that surely changed are sent without asking.
const ASK_BYTES_MIN: u64 = 64 << 10;
/// Bytes read at a time; whole blocks.
const READ_BYTES: usize = 1 << 20;

/// Hashes of blocks as the replica has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldBlocks {
    /// Length of the file there, in bytes.
    pub size: u64,
    /// Sixteen bytes a block: the start of its BLAKE3 hash, zeros for a hole.
    pub hashes: Bytes,
}

/// Whoever knows what the replica has.
pub trait BlockSource: Send + Sync {
    /// Hashes of at most `count` blocks of a file from block `first` on; fewer only at its end. `None`: they cannot be
    /// had now. May block for an answer from elsewhere.
    /// The answer must be of the stream as it stands at `since` or later.
    fn blocks(&self, node: NodeId, since: Lsn, block_bits: u8, first: u64, count: u32) -> Option<HeldBlocks>;
}

/// How files without hashes are compared with the replica.
#[derive(Clone)]
pub struct Comparing {
    /// Where hashes come from.
    pub source: Arc<dyn BlockSource>,
    /// A file that differs is sent whole; else the blocks that differ.
    pub whole_files: bool,
}

impl std::fmt::Debug for Comparing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Comparing").field("whole_files", &self.whole_files).finish_non_exhaustive()
    }
}

impl Core {
    /// Gets the hashes of a file of which none are known, if it is worth asking. Whether the index has them now, with
    /// the block size that suits the file as it is.
    pub(super) fn ask_hashes(
        &mut self,
        node: NodeId,
        row: &Row,
        file: &OwnedFd,
        look: &Look,
    ) -> Result<bool, CaptureError> {
        let anew = self.anew.contains(&node);
        let unknown = row.block_bits == 0 || anew;
        let Some(comparing) = self.config.comparing.clone().filter(|_| unknown && row.size > 0) else {
            return Ok(false);
        };
        let same_size = row.size == look.size;
        let likely_same = same_size && row.attributes.mtime == look.attributes.mtime;
        let worth_it = row.size >= ASK_BYTES_MIN && (same_size || !comparing.whole_files);
        if !likely_same && !worth_it && !anew {
            return Ok(false);
        }
        let bits = block_bits(look.size);
        if anew {
            // They are of another block size, perhaps, and not to be trusted.
            self.index.cut_hashes(node, 0)?;
        }
        // Bytes of a file that is told anew may be on their way.
        let since = if anew { self.out.last_lsn } else { Lsn::ZERO };
        let mut known = self.take_hashes(&*comparing.source, (node, since), row.size, bits)?;
        if known && comparing.whole_files {
            known = same_size && self.holds_same(node, file, look.size, bits)? == Ok(true);
        }
        if !known {
            self.index.cut_hashes(node, 0)?;
        }
        Ok(known)
    }

    /// Whether a file that a scrub wants told anew holds other bytes than were captured, while its change time says that
    /// nobody wrote it: then they are not told, for what rots here must not take the place of what is right on the
    /// replica. Who writes through a memory map does not always leave a trace either; such a file is told when it is next
    /// written or touched.
    pub(super) fn leave_rot(
        &mut self,
        facts: &Facts,
        node: NodeId,
        row: &Row,
        file: &OwnedFd,
        look: &Look,
    ) -> Result<bool, CaptureError> {
        // Whoever is said to have written it has done so.
        let written = facts.nodes.get(&node).is_some_and(|fact| fact.content) || self.owed.contains(&node);
        let dated = row.is_dated() && row.attributes.ctime == look.attributes.ctime && row.size == look.size;
        if written || !dated || !self.anew.contains(&node) || row.content_unknown() || row.block_bits == 0 {
            return Ok(false);
        }
        let blocks = row.size.div_ceil(1 << row.block_bits);
        for group in 0..blocks.div_ceil(GROUP_BLOCKS as u64) {
            let hashes =
                (blocks - group * GROUP_BLOCKS as u64).min(GROUP_BLOCKS as u64) as usize * HASH_BYTES;
            if self.index.hashes(node, group)?.is_none_or(|known| known.len() < hashes) {
                return Ok(false);
            }
        }
        if self.holds_same(node, file, row.size, row.block_bits)? != Ok(false) {
            return Ok(false);
        }
        tracing::error!(%node, "a file is not what was captured, and nothing says that it was written");
        self.anew.remove(&node);
        Ok(true)
    }

    /// Lets go of nodes that were to be told anew and are gone.
    pub(super) fn forget_anew(&mut self) -> Result<(), CaptureError> {
        for node in self.anew_meta.clone().union(&self.anew.clone()) {
            if self.index.row(*node)?.is_none() {
                self.anew.remove(node);
                self.anew_meta.remove(node);
            }
        }
        Ok(())
    }

    /// Fills the index; `false` if the answers do not fit what the index knows.
    fn take_hashes(
        &mut self,
        source: &dyn BlockSource,
        (node, since): (NodeId, Lsn),
        size: u64,
        bits: u8,
    ) -> Result<bool, CaptureError> {
        let blocks = size.div_ceil(1 << bits);
        let page = (BLOCKS_BYTES_MAX >> bits).min(u64::from(BLOCKS_MAX));
        let mut first = 0;
        while first < blocks {
            let count = page.min(blocks - first);
            let Some(held) = source.blocks(node, since, bits, first, count as u32) else { return Ok(false) };
            if held.size != size || held.hashes.len() as u64 != count * HASH_BYTES as u64 {
                tracing::debug!(%node, size, there = held.size, "the replica knows this file otherwise");
                return Ok(false);
            }
            // A page holds whole groups, but for the last one.
            for (number, group) in held.hashes.chunks(GROUP_BLOCKS * HASH_BYTES).enumerate() {
                self.index.put_hashes(node, first / GROUP_BLOCKS as u64 + number as u64, group)?;
            }
            first += count;
        }
        Ok(true)
    }

    /// Whether a file holds the bytes of which the index has the hashes. Ends at the first block that differs.
    fn holds_same(
        &mut self,
        node: NodeId,
        file: &OwnedFd,
        size: u64,
        bits: u8,
    ) -> Result<Result<bool, Errno>, CaptureError> {
        let block = 1usize << bits;
        let (mut group, mut hashes) = (u64::MAX, Vec::new());
        let mut buffer = vec![0; READ_BYTES];
        let mut offset = 0;
        while offset < size {
            let length = (size - offset).min(READ_BYTES as u64) as usize;
            let Some(chunk) = buffer.get_mut(..length) else { break };
            match read_full(file, chunk, offset) {
                Ok(read) if read == length => {}
                Ok(_) => return Ok(Ok(false)),
                Err(errno) => return Ok(Err(errno)),
            }
            for bytes in chunk.chunks(block) {
                let number = offset >> bits;
                if number / GROUP_BLOCKS as u64 != group {
                    group = number / GROUP_BLOCKS as u64;
                    hashes = self.index.hashes(node, group)?.unwrap_or_default();
                }
                let at = (number % GROUP_BLOCKS as u64) as usize * HASH_BYTES;
                if !is_block(hashes.get(at..at + HASH_BYTES), bytes) {
                    return Ok(Ok(false));
                }
                offset += bytes.len() as u64;
            }
        }
        Ok(Ok(true))
    }
}

/// Whether a hash is that of these bytes; zeros may be a hole on the replica.
fn is_block(hash: Option<&[u8]>, bytes: &[u8]) -> bool {
    let Some(hash) = hash else { return false };
    let hole = hash == BlockHash::default() && bytes.iter().all(|byte| *byte == 0);
    hole || blake3::hash(bytes).as_bytes().starts_with(hash)
}

fn read_full(file: &OwnedFd, buffer: &mut [u8], offset: u64) -> Result<usize, Errno> {
    let mut done = 0;
    while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match rustix::io::pread(file, rest, offset + done as u64) {
            Ok(0) => break,
            Ok(read) => done += read,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(done)
}
