//! What the replica has of a file, for an agent without hashes of it.
//!
//! The agent's thread waits for the answer; meanwhile hints pile up, within their bound, and what is spooled goes on
//! being delivered. A cut connection is waited out for a while: the file that would be sent whole instead is what the
//! link is slow for. A stop is not kept waiting.

use super::start::Starting;
use super::{LOOK_EVERY, Master};
use crate::capture::{BlockSource, Comparing, HeldBlocks};
use crate::stream::LinkError;
use journal::{Lsn, NodeId};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use wire::stream::BlocksWanted;

/// Longest wait for one answer: the replica may have to apply a backlog first.
const ANSWER_WAIT: Duration = Duration::from_secs(60);
/// Longest wait for a connection.
const LINK_WAIT: Duration = Duration::from_secs(120);

/// The replica as a source of hashes.
struct Source {
    master: Weak<Master>,
    /// The stream when the agent was started: the replica must show it.
    at: Lsn,
    stops: u64,
}

impl Master {
    /// How an agent that starts when the stream stands at `at` compares files of which it has no hashes.
    pub(super) fn comparing(&self, at: Lsn, options: &Starting) -> Comparing {
        let source = Source { master: Weak::clone(&self.me), at, stops: options.stops };
        Comparing { source: Arc::new(source), whole_files: options.whole_files }
    }
}

impl BlockSource for Source {
    fn blocks(&self, node: NodeId, since: Lsn, block_bits: u8, first: u64, count: u32) -> Option<HeldBlocks> {
        let give_up = Instant::now() + LINK_WAIT;
        let wanted = BlocksWanted { node, at: self.at.max(since), block_bits, first, count };
        loop {
            let master = self.master.upgrade()?;
            let replica = {
                let inner = master.inner.lock();
                if inner.shut || inner.stops != self.stops {
                    return None;
                }
                inner.replica.clone()
            };
            drop(master);
            let answer = match replica {
                Some(replica) => replica.blocks(&wanted, ANSWER_WAIT),
                None => Err(LinkError::Disconnected),
            };
            match answer {
                Ok(held) => return Some(HeldBlocks { size: held.size, hashes: held.hashes }),
                Err(LinkError::Failed(failed)) => {
                    tracing::debug!(%node, %failed, "a file without hashes is sent whole");
                    return None;
                }
                Err(_) if Instant::now() < give_up => std::thread::sleep(LOOK_EVERY),
                Err(error) => {
                    tracing::warn!(%node, %error, "the replica does not answer: a file is sent whole");
                    return None;
                }
            }
        }
    }
}
