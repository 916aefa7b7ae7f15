//! What the master asks of the replica, and what it is answered.

use super::control::{Failed, NamespacePage};
use super::{ConvertError, at_most, proto, required};
use bytes::Bytes;
use journal::{Lsn, NodeId};

/// Longest place of a page.
pub(super) const CURSOR_BYTES_MAX: usize = 4096;
/// Most blocks of one request.
pub const BLOCKS_MAX: u32 = 16_384;
/// Most bytes of a file that one request covers: it bounds what the replica reads for an answer.
pub const BLOCKS_BYTES_MAX: u64 = 64 << 20;
/// Bytes of the hash of a block.
pub const BLOCK_HASH_BYTES: usize = 16;
/// Smallest and largest block, as powers of two.
const BLOCK_BITS: std::ops::RangeInclusive<u32> = 9..=24;

/// A question of the master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// A page of the namespace, after this place; empty: the first.
    Namespace(Bytes),
    /// Hashes of some blocks of a file.
    Blocks(BlocksWanted),
}

/// What the replica answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// See [`Request::Namespace`].
    Namespace(NamespacePage),
    /// See [`Request::Blocks`].
    Blocks(BlockHashes),
}

/// Blocks of a file, the hashes of which are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlocksWanted {
    /// The file.
    pub node: NodeId,
    /// The replica must show this captured LSN before it looks.
    pub at: Lsn,
    /// Size of a block as a power of two, in bytes.
    pub block_bits: u8,
    /// Number of the first block.
    pub first: u64,
    /// How many; at most [`BLOCKS_MAX`], and [`BLOCKS_BYTES_MAX`] together.
    pub count: u32,
}

/// Hashes of blocks of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockHashes {
    /// Length of the file on the replica, in bytes.
    pub size: u64,
    /// [`BLOCK_HASH_BYTES`] a block: the start of its BLAKE3 hash, zeros for a hole. Fewer than asked for at the end
    /// of the file.
    pub hashes: Bytes,
}

impl BlocksWanted {
    fn check(self) -> Result<Self, ConvertError> {
        let invalid = |field, what| Err(ConvertError::Invalid { field, what });
        if !BLOCK_BITS.contains(&u32::from(self.block_bits)) {
            return invalid("block_bits", "no size of a block");
        }
        let bytes = u64::from(self.count) << self.block_bits;
        if self.count > BLOCKS_MAX || bytes > BLOCKS_BYTES_MAX {
            return invalid("count", "too many blocks at once");
        }
        let end = self.first.checked_add(u64::from(self.count));
        if end.is_none_or(|end| end.leading_zeros() <= u32::from(self.block_bits)) {
            return invalid("first", "behind the end of any file");
        }
        super::event::node_ok(self.node)?;
        Ok(self)
    }
}

impl From<Request> for proto::request::Request {
    fn from(request: Request) -> Self {
        match request {
            Request::Namespace(after) => Self::Namespace(proto::NamespaceRequest { after }),
            Request::Blocks(wanted) => Self::Blocks(proto::BlocksRequest {
                node: wanted.node.0,
                at: wanted.at.captured,
                block_bits: u32::from(wanted.block_bits),
                first: wanted.first,
                count: wanted.count,
            }),
        }
    }
}

impl TryFrom<proto::request::Request> for Request {
    type Error = ConvertError;

    fn try_from(request: proto::request::Request) -> Result<Self, ConvertError> {
        Ok(match request {
            proto::request::Request::Namespace(namespace) => {
                at_most("after", namespace.after.len(), CURSOR_BYTES_MAX)?;
                Request::Namespace(namespace.after)
            }
            proto::request::Request::Blocks(wanted) => {
                let wanted = BlocksWanted {
                    node: NodeId(wanted.node),
                    at: Lsn::captured(wanted.at),
                    block_bits: u8::try_from(wanted.block_bits).unwrap_or(u8::MAX),
                    first: wanted.first,
                    count: wanted.count,
                };
                Request::Blocks(wanted.check()?)
            }
        })
    }
}

impl From<(u64, Result<Answer, Failed>)> for proto::Response {
    fn from((id, answer): (u64, Result<Answer, Failed>)) -> Self {
        use proto::response::Outcome as O;
        let outcome = match answer {
            Ok(Answer::Namespace(page)) => O::Namespace(page.into()),
            Ok(Answer::Blocks(BlockHashes { size, hashes })) => {
                O::Blocks(proto::BlockHashes { size, hashes })
            }
            Err(failed) => O::Failed(failed.into()),
        };
        proto::Response { id, outcome: Some(outcome) }
    }
}

/// The answer in a response.
pub(super) fn answer_from(response: proto::Response) -> Result<(u64, Result<Answer, Failed>), ConvertError> {
    use proto::response::Outcome as O;
    let answer = match required("outcome", response.outcome)? {
        O::Namespace(page) => Ok(Answer::Namespace(page.try_into()?)),
        O::Blocks(proto::BlockHashes { size, hashes }) => {
            at_most("hashes", hashes.len(), BLOCKS_MAX as usize * BLOCK_HASH_BYTES)?;
            if hashes.len() % BLOCK_HASH_BYTES != 0 {
                return Err(ConvertError::Invalid { field: "hashes", what: "not whole hashes" });
            }
            Ok(Answer::Blocks(BlockHashes { size, hashes }))
        }
        O::Failed(failed) => Err(failed.try_into()?),
    };
    Ok((response.id, answer))
}
