//! What a scrub asks of a master: what really stands at names, and to capture some of them anew.
//!
//! The replica leads a scrub; a master answers one bounded question at a time: so many names, so many blocks, so many
//! bytes read. It says in its hello whether it understands these ([`FEATURE_SCRUB`]): one that does not is not asked.

use super::event::{edge_from, edge_into, meta_from, meta_into, meta_ok, name_from, node_ok, path_ok, root};
use super::{ConvertError, at_most, count_field, proto, required};
use bytes::Bytes;
use journal::{Edge, Meta, Name, NodeId, RootNo};
use prost::Message;

/// Bit of `Hello.features`: this master answers questions of a scrub.
pub const FEATURE_SCRUB: u64 = 1;
/// Size of a block of a scrub, as a power of two.
pub const SCRUB_BLOCK_BITS: u8 = 16;
/// Most names of one question.
pub const SCRUB_ITEMS_MAX: usize = 256;
/// Most blocks of all names of one question together.
pub const SCRUB_BLOCKS_MAX: u64 = 16_384;
/// Most blocks whose bytes one question may ask for.
pub const SCRUB_READ_BLOCKS_MAX: u32 = 16;
/// Most bytes of all paths of one question together.
pub const SCRUB_PATHS_BYTES_MAX: usize = 1 << 20;
/// Most names of one answer about a directory.
pub const SCRUB_NAMES_MAX: usize = 4096;

/// Number of the repeated field of the lists.
const LIST_TAG: u32 = 1;
/// Bytes of the hash of a block, and of extended attributes.
const HASH_BYTES: usize = 16;

/// A question of a scrub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScrubAsk {
    /// What stands at these names. The answer may be about the first of them only: `bytes_max` was read.
    Examine { root: RootNo, items: Vec<ExamineItem>, bytes_max: u64 },
    /// The names in a directory, in byte order, behind `after`.
    List { root: RootNo, path: Vec<u8>, after: Option<Name> },
    /// Look at these names as if nothing were known of them, and capture what is there.
    Capture { items: Vec<CaptureItem> },
}

/// A name, and which blocks of the file at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExamineItem {
    /// Path below the root; empty: the root itself.
    pub path: Vec<u8>,
    /// The node that the stream has there.
    pub node: NodeId,
    /// Number of the first block.
    pub first: u64,
    /// How many; 0: no bytes are read.
    pub blocks: u32,
    /// Also say whether these bytes are what was captured.
    pub captured: bool,
    /// Also give the bytes. A master that does not know this gives none.
    pub bytes: bool,
}

/// A name that is to be captured anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaptureItem {
    /// The name.
    pub at: Edge,
    /// The node that the stream has there, of which everything is to be told again; `None`: only what stands at the name.
    pub node: Option<NodeId>,
}

/// An answer to a scrub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScrubAnswer {
    /// In the order of the question; at least one unless nothing was asked.
    Examined(Vec<Examined>),
    /// Names; `None`: there is no such directory, or it may not be read.
    Listed { names: Option<Vec<Name>>, more: bool },
    /// It will be: before the next barrier stands.
    Capturing,
}

/// What stands at a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Examined {
    /// What was found.
    pub found: Found,
    /// Whether the bytes asked for are what was captured.
    pub captured: CapturedAs,
}

/// What was found at a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// This, unchanged while it was looked at.
    There(There),
    /// Nothing.
    Gone,
    /// It changed while it was looked at.
    Moving,
    /// It is not protected: excluded, or another file system.
    LeftOut,
    /// It may not be read, or cannot; the error number.
    Unreadable(i32),
}

/// Something at a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct There {
    /// What it is, without its extended attributes.
    pub meta: Meta,
    /// Stands for its extended attributes; `None`: they could not be read.
    pub xattrs: Option<[u8; HASH_BYTES]>,
    /// 16 bytes a block: the start of its BLAKE3 hash, zeros for one that reads as zeros. Fewer at the end of the file.
    pub hashes: Bytes,
    /// The bytes of the blocks, if they were asked for.
    pub bytes: Bytes,
}

/// Whether bytes are what was captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CapturedAs {
    /// Nobody asked, or nobody knows.
    Unknown,
    /// They are.
    Same,
    /// They are not: capture has missed a change.
    Other,
    /// They are not, and the file has the change time that was captured: nothing says that it was written since.
    Untouched,
}

impl From<ScrubAsk> for proto::ScrubCommand {
    fn from(ask: ScrubAsk) -> Self {
        use proto::scrub_command::Ask as A;
        let ask = match ask {
            ScrubAsk::Examine { root, items, bytes_max } => {
                let item = |item: ExamineItem| proto::ExamineItem {
                    path: item.path.into(),
                    node: item.node.0,
                    first: item.first,
                    blocks: item.blocks,
                    captured: item.captured,
                    bytes: item.bytes,
                };
                let list = proto::ExamineItems { list: items.into_iter().map(item).collect() };
                let items = list.encode_to_vec().into();
                A::Examine(proto::ExamineAsk { root: root.0.into(), items, bytes_max })
            }
            ScrubAsk::List { root, path, after } => A::List(proto::ListAsk {
                root: root.0.into(),
                path: path.into(),
                after: after.map_or_else(Bytes::new, |name| Bytes::copy_from_slice(name.as_bytes())),
            }),
            ScrubAsk::Capture { items } => {
                let item = |item: CaptureItem| proto::CaptureItem {
                    at: edge_into(&item.at),
                    node: item.node.map_or(0, |node| node.0),
                };
                let list = proto::CaptureItems { list: items.into_iter().map(item).collect() };
                A::Capture(proto::CaptureAsk { items: list.encode_to_vec().into() })
            }
        };
        proto::ScrubCommand { ask: Some(ask) }
    }
}

impl TryFrom<proto::ScrubCommand> for ScrubAsk {
    type Error = ConvertError;

    fn try_from(command: proto::ScrubCommand) -> Result<Self, ConvertError> {
        use proto::scrub_command::Ask as A;
        Ok(match required("ask", command.ask)? {
            A::Examine(ask) => ScrubAsk::Examine {
                root: root(ask.root)?,
                items: examine_items(ask.items)?,
                bytes_max: ask.bytes_max,
            },
            A::List(ask) => {
                path_ok("path", &ask.path)?;
                let after = if ask.after.is_empty() { None } else { Some(name_from(&ask.after)?) };
                ScrubAsk::List { root: root(ask.root)?, path: ask.path.to_vec(), after }
            }
            A::Capture(ask) => {
                at_most("items", count_field(&ask.items, LIST_TAG)?, SCRUB_ITEMS_MAX)?;
                let item = |item: proto::CaptureItem| {
                    let node = Some(NodeId(item.node)).filter(|node| node.0 != 0);
                    node.map_or(Ok(()), node_ok)?;
                    Ok(CaptureItem { at: edge_from("at", item.at)?, node })
                };
                let list = proto::CaptureItems::decode(ask.items)?.list;
                ScrubAsk::Capture { items: list.into_iter().map(item).collect::<Result<_, ConvertError>>()? }
            }
        })
    }
}

fn examine_items(items: Bytes) -> Result<Vec<ExamineItem>, ConvertError> {
    at_most("items", count_field(&items, LIST_TAG)?, SCRUB_ITEMS_MAX)?;
    let list = proto::ExamineItems::decode(items)?.list;
    let (mut blocks, mut paths, mut read) = (0u64, 0, 0u64);
    let mut checked = Vec::with_capacity(list.len());
    for item in list {
        path_ok("path", &item.path)?;
        node_ok(NodeId(item.node))?;
        blocks += u64::from(item.blocks);
        paths += item.path.len();
        read += if item.bytes { u64::from(item.blocks) } else { 0 };
        let end = item.first.checked_add(u64::from(item.blocks));
        if end.is_none_or(|end| end.leading_zeros() <= u32::from(SCRUB_BLOCK_BITS)) {
            return Err(ConvertError::Invalid { field: "first", what: "behind the end of any file" });
        }
        checked.push(ExamineItem {
            path: item.path.to_vec(),
            node: NodeId(item.node),
            first: item.first,
            blocks: item.blocks,
            captured: item.captured,
            bytes: item.bytes,
        });
    }
    at_most(
        "blocks to be read",
        usize::try_from(read).unwrap_or(usize::MAX),
        SCRUB_READ_BLOCKS_MAX as usize,
    )?;
    at_most("blocks", usize::try_from(blocks).unwrap_or(usize::MAX), SCRUB_BLOCKS_MAX as usize)?;
    at_most("paths", paths, SCRUB_PATHS_BYTES_MAX)?;
    Ok(checked)
}

impl From<ScrubAnswer> for proto::ScrubReply {
    fn from(answer: ScrubAnswer) -> Self {
        use proto::scrub_reply::Answer as A;
        let answer = match answer {
            ScrubAnswer::Examined(list) => {
                let list = list.into_iter().map(examined_into).collect();
                A::Examined(proto::ExaminedList { list }.encode_to_vec().into())
            }
            ScrubAnswer::Listed { names, more } => {
                let there = names.is_some();
                let name = |name: Name| Bytes::copy_from_slice(name.as_bytes());
                let list = names.unwrap_or_default().into_iter().map(name).collect();
                let names = proto::NameList { list }.encode_to_vec().into();
                A::Listed(proto::ListAnswer { there, names, more })
            }
            ScrubAnswer::Capturing => A::Capturing(proto::Nothing {}),
        };
        proto::ScrubReply { answer: Some(answer) }
    }
}

impl TryFrom<proto::ScrubReply> for ScrubAnswer {
    type Error = ConvertError;

    fn try_from(reply: proto::ScrubReply) -> Result<Self, ConvertError> {
        use proto::scrub_reply::Answer as A;
        Ok(match required("answer", reply.answer)? {
            A::Examined(list) => {
                at_most("examined", count_field(&list, LIST_TAG)?, SCRUB_ITEMS_MAX)?;
                let list = proto::ExaminedList::decode(list)?.list;
                ScrubAnswer::Examined(list.into_iter().map(examined_from).collect::<Result<_, _>>()?)
            }
            A::Listed(listed) => {
                at_most("names", count_field(&listed.names, LIST_TAG)?, SCRUB_NAMES_MAX)?;
                let list = proto::NameList::decode(listed.names)?.list;
                let names = list.iter().map(|name| name_from(name)).collect::<Result<_, _>>()?;
                ScrubAnswer::Listed { names: listed.there.then_some(names), more: listed.more }
            }
            A::Capturing(_) => ScrubAnswer::Capturing,
        })
    }
}

fn examined_into(examined: Examined) -> proto::Examined {
    let captured = match examined.captured {
        CapturedAs::Unknown => proto::CapturedAs::Unspecified,
        CapturedAs::Same => proto::CapturedAs::Same,
        CapturedAs::Other => proto::CapturedAs::Other,
        CapturedAs::Untouched => proto::CapturedAs::Untouched,
    };
    let state = match &examined.found {
        Found::There(_) => proto::FoundState::There,
        Found::Gone => proto::FoundState::Gone,
        Found::Moving => proto::FoundState::Moving,
        Found::LeftOut => proto::FoundState::LeftOut,
        Found::Unreadable(_) => proto::FoundState::Unreadable,
    };
    let mut message =
        proto::Examined { state: state as i32, captured: captured as i32, ..Default::default() };
    match examined.found {
        Found::There(there) => {
            message.meta = Some(meta_into(&there.meta));
            message.xattrs = there.xattrs.map_or_else(Bytes::new, |hash| Bytes::copy_from_slice(&hash));
            message.hashes = there.hashes;
            message.bytes = there.bytes;
        }
        Found::Unreadable(errno) => message.errno = errno,
        Found::Gone | Found::Moving | Found::LeftOut => {}
    }
    message
}

fn examined_from(message: proto::Examined) -> Result<Examined, ConvertError> {
    let found = match proto::FoundState::try_from(message.state) {
        Ok(proto::FoundState::There) => {
            let xattrs = match message.xattrs.len() {
                0 => None,
                _ => Some(<[u8; HASH_BYTES]>::try_from(&message.xattrs[..]).map_err(|_| {
                    ConvertError::Invalid { field: "xattrs", what: "not the length of a hash" }
                })?),
            };
            if !message.hashes.len().is_multiple_of(HASH_BYTES) {
                return Err(ConvertError::Invalid { field: "hashes", what: "a hash is cut off" });
            }
            at_most("hashes", message.hashes.len() / HASH_BYTES, SCRUB_BLOCKS_MAX as usize)?;
            at_most("bytes", message.bytes.len(), (SCRUB_READ_BLOCKS_MAX as usize) << SCRUB_BLOCK_BITS)?;
            let meta = meta_from(message.meta)?;
            meta_ok(&meta)?;
            Found::There(There { meta, xattrs, hashes: message.hashes, bytes: message.bytes })
        }
        Ok(proto::FoundState::Gone) => Found::Gone,
        Ok(proto::FoundState::Moving) => Found::Moving,
        Ok(proto::FoundState::LeftOut) => Found::LeftOut,
        Ok(proto::FoundState::Unreadable) => Found::Unreadable(message.errno),
        Ok(proto::FoundState::Unspecified) | Err(_) => {
            return Err(super::convert::unknown("state", message.state));
        }
    };
    let captured = match proto::CapturedAs::try_from(message.captured) {
        Ok(proto::CapturedAs::Same) => CapturedAs::Same,
        Ok(proto::CapturedAs::Other) => CapturedAs::Other,
        Ok(proto::CapturedAs::Untouched) => CapturedAs::Untouched,
        Ok(proto::CapturedAs::Unspecified) | Err(_) => CapturedAs::Unknown,
    };
    Ok(Examined { found, captured })
}

#[cfg(test)]
mod tests;
