//! Trees: one directory a blob, as JSON with a node for each name in it.
//!
//! The bytes are exactly those that restic would write for the same nodes, so that equal directories are equal blobs
//! whoever wrote them, and programs that write a tree again get the same id: fields in the format's order, empty ones
//! left out where it leaves them out, `<`, `>`, `&` and line separators escaped, a line feed at the end.
//! [`TreeBuilder`] writes node after node in ascending order of names; [`read_tree`] hands them out one by one, so that a
//! directory of a million entries takes its bytes and nothing more. Who edits or compares trees goes through the texts of
//! their nodes ([`RawTree`], [`FoundTree`]) and reads only those that differ.
//!
//! Refused when reading and writing: names that are empty, `.`, `..`, or hold `/` or NUL; two nodes of one name, which
//! could make a restore follow what it just made; trees beyond [`TREE_BYTES_MAX`].

mod go_text;
mod node_json;
mod raw;
mod read;

pub use raw::{FoundTree, RawNode, RawTree, compare_trees};
pub use read::read_tree;

use super::error::RepositoryError;
use super::id::Id;
use super::time::Timestamp;

/// Largest tree that is read or written, in bytes of JSON. A million files of one chunk are some 400 MB.
pub const TREE_BYTES_MAX: u64 = 1 << 30;
/// Longest name of a node, in bytes.
pub const NAME_BYTES_MAX: usize = 4096;

/// What a node is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum NodeKind {
    /// Regular file.
    #[default]
    File,
    /// Directory.
    Directory,
    /// Symbolic link.
    Symlink,
    /// Block device.
    BlockDevice,
    /// Character device.
    CharacterDevice,
    /// Named pipe.
    Fifo,
    /// Socket.
    Socket,
    /// Something else that another program stored; cannot be written.
    Other,
}

/// An extended attribute. ACLs are the attributes `system.posix_acl_*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Xattr {
    /// Name. The format holds text: what is not UTF-8 becomes U+FFFD.
    pub name: Vec<u8>,
    /// Value.
    pub value: Vec<u8>,
}

/// A name in a directory and what stands there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Name, any bytes but `/` and NUL.
    pub name: Vec<u8>,
    /// What it is.
    pub kind: NodeKind,
    /// Permissions with set-user-id, set-group-id and sticky bit: `0o7777`.
    pub permissions: u32,
    /// Modification time.
    pub modified: Timestamp,
    /// Access time.
    pub accessed: Timestamp,
    /// Change time of the inode.
    pub changed: Timestamp,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Owner's name; empty: unknown.
    pub user: String,
    /// Group's name; empty: unknown.
    pub group: String,
    /// Inode number. With `device_id` it joins names of one file.
    pub inode: u64,
    /// The file system's device number.
    pub device_id: u64,
    /// Bytes of a file.
    pub size: u64,
    /// Names of the inode; 0 where it says nothing.
    pub links: u64,
    /// Where a symbolic link points, any bytes.
    pub link_target: Vec<u8>,
    /// Extended attributes, in the order of the system.
    pub xattrs: Vec<Xattr>,
    /// Device number of a device.
    pub device: u64,
    /// Blobs of a file, in order.
    pub content: Vec<Id>,
    /// Tree of a directory.
    pub subtree: Option<Id>,
}

/// Why a name or node is not acceptable; `None` if it is.
fn refusal(node: &Node) -> Option<&'static str> {
    name_refusal(&node.name).or(match (node.kind, node.subtree) {
        (NodeKind::Directory, None) => Some("a directory without a tree"),
        (NodeKind::Directory, Some(_)) | (_, None) => None,
        (_, Some(_)) => Some("a tree in something that is no directory"),
    })
}

fn name_refusal(name: &[u8]) -> Option<&'static str> {
    match name {
        b"" => Some("the name is empty"),
        b"." | b".." => Some("the name is a dot name"),
        name if name.contains(&b'/') => Some("the name has a slash"),
        name if name.contains(&0) => Some("the name has a NUL byte"),
        name if name.len() > NAME_BYTES_MAX => Some("the name is too long"),
        _ => None,
    }
}

/// Writes a tree node after node. Can be used again after [`TreeBuilder::finish`], keeping its memory.
#[derive(Debug, Default)]
pub struct TreeBuilder {
    json: Vec<u8>,
    last: Option<Vec<u8>>,
}

const HEAD: &[u8] = b"{\"nodes\":[";
const OUT_OF_ORDER: &str = "its name is not greater than the one before";
const TAIL: &[u8] = b"]}\n";

impl TreeBuilder {
    /// A tree without nodes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A tree without nodes, and room for so many bytes.
    #[must_use]
    pub fn with_room(bytes: usize) -> Self {
        TreeBuilder { json: Vec::with_capacity(bytes), last: None }
    }

    /// Adds a node, whose name must be greater (as bytes) than those before.
    ///
    /// # Errors
    /// `NodeRefused`; `TooLarge` beyond [`TREE_BYTES_MAX`]. The tree is as before then.
    pub fn add(&mut self, node: &Node) -> Result<(), RepositoryError> {
        let what = refusal(node)
            .or(self.is_out_of_order(&node.name).then_some(OUT_OF_ORDER))
            .or((node.kind == NodeKind::Other).then_some("it is of no kind that the format has"));
        if let Some(what) = what {
            let name = String::from_utf8_lossy(&node.name).into_owned();
            return Err(RepositoryError::NodeRefused { name, what });
        }
        self.push(&node.name, |json| node_json::write(node, json))
    }

    /// Adds a node of another tree as it stands there; its name must be greater than those before.
    ///
    /// # Errors
    /// As [`TreeBuilder::add`].
    pub fn add_raw(&mut self, node: &RawNode<'_>) -> Result<(), RepositoryError> {
        if self.is_out_of_order(node.name()) {
            let name = String::from_utf8_lossy(node.name()).into_owned();
            return Err(RepositoryError::NodeRefused { name, what: OUT_OF_ORDER });
        }
        self.push(node.name(), |json| json.extend_from_slice(node.text().as_bytes()))
    }

    fn is_out_of_order(&self, name: &[u8]) -> bool {
        self.last.as_ref().is_some_and(|last| last.as_slice() >= name)
    }

    fn push(&mut self, name: &[u8], write: impl FnOnce(&mut Vec<u8>)) -> Result<(), RepositoryError> {
        let before = self.json.len();
        self.json.extend_from_slice(if self.last.is_none() { HEAD } else { b"," });
        write(&mut self.json);
        let size = (self.json.len() + TAIL.len()) as u64;
        if size > TREE_BYTES_MAX {
            self.json.truncate(before);
            return Err(RepositoryError::TooLarge {
                what: "a directory's tree",
                size,
                limit: TREE_BYTES_MAX,
            });
        }
        let last = self.last.get_or_insert_default();
        last.clear();
        last.extend_from_slice(name);
        Ok(())
    }

    /// Bytes so far.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.json.len()
    }

    /// The tree's bytes, to be saved as a blob of kind `Tree`.
    pub fn finish(&mut self) -> &[u8] {
        if self.last.take().is_none() {
            self.json.clear();
            self.json.extend_from_slice(HEAD);
        }
        self.json.extend_from_slice(TAIL);
        &self.json
    }

    /// Begins the next tree.
    pub fn clear(&mut self) {
        self.json.clear();
        self.last = None;
    }
}

#[cfg(test)]
mod tests;
