//! What master and replica say to each other, typed and checked.
//!
//! The messages of `proto/stream.proto` are generated into [`proto`]; the types here are what the rest of the program
//! works with. Every conversion is total and checks the same rules in both directions: what a peer would refuse is
//! refused before it is sent (a part that poisons the stream would be sent again for ever), and what a hostile peer
//! sends ends as a [`ConvertError`], never as a panic or an allocation on its say-so. Repeated fields that decode
//! into much more than they take on the wire travel as bytes and are counted before they are decoded.

mod ask;
mod command;
mod control;
mod convert;
mod event;
mod part;
mod scrub;
#[cfg(test)]
mod tests;

pub use ask::{Answer, BLOCK_HASH_BYTES, BLOCKS_BYTES_MAX, BLOCKS_MAX, BlockHashes, BlocksWanted, Request};
pub use control::{
    AgentState, Assignment, Batch, Command, Consistent, Definition, Dial, Failed, Finding, Hello,
    MasterStatus, NamespaceEntry, NamespacePage, Outcome, Progress, Reason, Refused, RootDefinition,
    SkippedName, SpoolState, Synchronization, Welcome,
};
pub use control::{AutoResync, FromMaster, FromReplica, SyncMode};
pub use part::{check_part, decode_part, encode_part};
pub use scrub::{
    CaptureItem, CapturedAs, ExamineItem, Examined, FEATURE_SCRUB, Found, SCRUB_BLOCK_BITS, SCRUB_BLOCKS_MAX,
    SCRUB_ITEMS_MAX, SCRUB_NAMES_MAX, SCRUB_PATHS_BYTES_MAX, SCRUB_READ_BLOCKS_MAX, ScrubAnswer, ScrubAsk,
    There,
};

/// Messages and the service as generated from `proto/stream.proto`.
pub mod proto {
    #![allow(missing_docs, clippy::all, clippy::unwrap_used, clippy::indexing_slicing, rust_2018_idioms)]
    tonic::include_proto!("rewind.stream.v1");
}

/// Version of the protocol that this program speaks; a peer with another one is refused.
pub const PROTOCOL_VERSION: u32 = 2;

/// Longest message, set on both sides of both directions.
pub const MESSAGE_BYTES_MAX: usize = 4 << 20;
/// Longest encoded part: a batch of one such part is still a message.
pub const PART_BYTES_MAX: usize = MESSAGE_BYTES_MAX - 4096;
/// More events in one part are refused.
pub const PART_EVENTS_MAX: usize = 16_384;
/// Longest path in a capture or marker.
pub const PATH_BYTES_MAX: usize = 1 << 20;
/// Longest target of a symbolic link (the kernel's own limit).
pub const TARGET_BYTES_MAX: usize = 4096;
/// More extended attributes of one node are refused (the kernel lists at most 64 KiB of names).
pub const XATTRS_MAX: usize = 16_384;
/// Longest name of an extended attribute.
pub const XATTR_NAME_BYTES_MAX: usize = 255;
/// Longest value of an extended attribute.
pub const XATTR_VALUE_BYTES_MAX: usize = 65_536;
/// Longest text meant for people.
pub const TEXT_BYTES_MAX: usize = 4096;
/// More entries in one page of the namespace are refused.
pub const NAMESPACE_ENTRIES_MAX: usize = 8192;
/// More roots, excludes, settings or findings in one message are refused.
pub const LIST_MAX: usize = 4096;

/// More objects in one list of what could not be written are refused.
pub const NOT_WRITTEN_MAX: usize = 256;

/// Identity of a replica's journal, minted when it is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct JournalId(pub [u8; 16]);

impl std::fmt::Display for JournalId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Identity of a meeting of master and replica, minted by the replica and journaled there: who was at the last one has
/// seen everything the journal holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct MeetingId(pub [u8; 16]);

/// A message that breaks the rules of the protocol.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConvertError {
    /// Not the bytes of a message.
    #[error("the message does not decode")]
    Undecodable(#[from] prost::DecodeError),
    /// A field that must be there is not.
    #[error("field {field} is missing")]
    Missing { field: &'static str },
    /// A number that stands for nothing known here.
    #[error("field {field} has the unknown value {value}")]
    Unknown { field: &'static str, value: i64 },
    /// A field is longer, or a list has more members, than allowed.
    #[error("field {field} has length {length}, allowed are {max}")]
    TooLong { field: &'static str, length: usize, max: usize },
    /// A value that cannot be.
    #[error("field {field} is invalid: {what}")]
    Invalid { field: &'static str, what: &'static str },
}

fn at_most(field: &'static str, length: usize, max: usize) -> Result<(), ConvertError> {
    if length > max { Err(ConvertError::TooLong { field, length, max }) } else { Ok(()) }
}

fn required<T>(field: &'static str, value: Option<T>) -> Result<T, ConvertError> {
    value.ok_or(ConvertError::Missing { field })
}

fn text(field: &'static str, value: String) -> Result<String, ConvertError> {
    at_most(field, value.len(), TEXT_BYTES_MAX)?;
    Ok(value)
}

/// Counts the top-level occurrences of field `tag` in an encoded message without decoding it.
fn count_field(mut bytes: &[u8], tag: u32) -> Result<usize, prost::DecodeError> {
    let mut count = 0;
    while !bytes.is_empty() {
        let (found, wire_type) = prost::encoding::decode_key(&mut bytes)?;
        prost::encoding::skip_field(wire_type, found, &mut bytes, prost::encoding::DecodeContext::default())?;
        count += usize::from(found == tag);
    }
    Ok(count)
}

/// Cuts a text meant for people so that it can be sent.
#[must_use]
pub fn clip(text: &str) -> String {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_owned()
}
