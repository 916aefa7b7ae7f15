//! What a scrub needs of the agent: the hashes the index has, and files told anew whatever the index says.
//!
//! The agent's thread reads no file for a scrub. It gives away some hashes, and it takes hints: what a scrub found to
//! differ goes the way of any change, compared block by block with what the *replica* shows, so that only what differs
//! there is sent and what stood there before is kept as undo.

use super::{Agent, Command, Runner};
use crate::capture::CaptureError;
use crate::capture::actual::KnownBlocks;
use crate::capture::index::{GROUP_BLOCKS, HASH_BYTES};
use crate::capture::watch::Why;
use crossbeam_channel::{Receiver, Sender, bounded};
use journal::{Edge, NodeId};
use std::ops::Range;

/// Most groups of hashes given at once: 64 MiB of blocks of 4 KiB.
const GROUPS_MAX: u64 = 65;

/// Nodes that are waiting to be told anew; more are left for a later scrub.
const ANEW_MAX: usize = 1 << 16;

/// A question of a scrub to the agent.
pub(super) enum ScrubCommand {
    Known { node: NodeId, range: Range<u64>, reply: Sender<Option<KnownBlocks>> },
    Anew { names: Vec<(Edge, Option<NodeId>)>, reply: Sender<()> },
}

impl Agent {
    /// Asks for the hashes the index has of a range of a file. The answer comes through the channel, which closes if the
    /// agent ends.
    ///
    /// # Errors
    /// `Stopped` if the agent has ended.
    pub fn begin_known(
        &self,
        node: NodeId,
        range: Range<u64>,
    ) -> Result<Receiver<Option<KnownBlocks>>, CaptureError> {
        let (reply, answer) = bounded(1);
        self.send(Command::Scrub(ScrubCommand::Known { node, range, reply }))?;
        Ok(answer)
    }

    /// Has names looked at as if nothing were known of what stands there. A node that is given is told anew as a whole,
    /// its bytes as far as they differ from what the replica shows. The answer says that a barrier from now on stands
    /// behind it.
    ///
    /// # Errors
    /// `Stopped` if the agent has ended.
    pub fn begin_anew(&self, names: Vec<(Edge, Option<NodeId>)>) -> Result<Receiver<()>, CaptureError> {
        let (reply, answer) = bounded(1);
        self.send(Command::Scrub(ScrubCommand::Anew { names, reply }))?;
        Ok(answer)
    }
}

impl Runner {
    pub(super) fn scrub(&mut self, command: ScrubCommand) -> Result<(), CaptureError> {
        match command {
            ScrubCommand::Known { node, range, reply } => {
                let known = self.known(node, &range)?;
                // Whoever asked may have gone.
                let _ = reply.send(known);
            }
            ScrubCommand::Anew { names, reply } => {
                for (at, node) in names {
                    self.anew(at, node)?;
                }
                let _ = reply.send(());
            }
        }
        Ok(())
    }

    fn known(&self, node: NodeId, range: &Range<u64>) -> Result<Option<KnownBlocks>, CaptureError> {
        let Some(row) = self.core.index.row(node)? else { return Ok(None) };
        if row.content_unknown() || (row.block_bits == 0 && row.size > 0) {
            return Ok(None);
        }
        let (size, block_bits) = (row.size, row.block_bits);
        let ctime = row.is_dated().then_some(row.attributes.ctime);
        let end = range.end.min(size);
        if range.start >= end {
            return Ok(Some(KnownBlocks { block_bits, first: 0, size, hashes: Vec::new(), ctime }));
        }
        let group_of = |offset: u64| (offset >> block_bits) / GROUP_BLOCKS as u64;
        let (from, to) = (group_of(range.start), group_of(end - 1));
        let mut hashes = Vec::new();
        for group in from..=to.min(from + GROUPS_MAX - 1) {
            let Some(row) = self.core.index.hashes(node, group)? else { return Ok(None) };
            let blocks =
                (size.div_ceil(1 << block_bits) - group * GROUP_BLOCKS as u64).min(GROUP_BLOCKS as u64);
            if row.len() < blocks as usize * HASH_BYTES {
                return Ok(None);
            }
            hashes.extend(row.into_iter().take(blocks as usize * HASH_BYTES));
        }
        Ok(Some(KnownBlocks { block_bits, first: from * GROUP_BLOCKS as u64, size, hashes, ctime }))
    }

    fn anew(&mut self, at: Edge, node: Option<NodeId>) -> Result<(), CaptureError> {
        let epoch = self.core.hints.epoch();
        // Not its content: that was not written, as far as anybody knows, and what is told anew is not told if it rotted.
        let why = Why { name: true, attributes: true, ..Why::default() };
        if let Some(node) = node {
            if self.core.index.row(node)?.is_none() {
                return Ok(());
            }
            if self.core.anew_meta.len() >= ANEW_MAX {
                self.core.forget_anew()?;
            }
            if self.core.anew_meta.len() >= ANEW_MAX {
                return Ok(());
            }
            self.core.anew.insert(node);
            self.core.anew_meta.insert(node);
            if self.core.index.names_of(node)?.is_empty() {
                // A root.
                self.core.hints.directory(node, epoch);
                return Ok(());
            }
        }
        self.core.hints.name(at, why, epoch);
        Ok(())
    }
}
