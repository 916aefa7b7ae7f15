//! Identities: what an object is, apart from what it is called.
//!
//! A [`NodeId`] stands for one inode of the master for ever; paths are attributes. Ids below
//! [`NodeId::FIRST_FREE`] are fixed: two for each root, the root directory itself and its kept area, where removed
//! nodes live until retention drops the last point that shows them.

use bincode::{Decode, Encode};
use std::fmt;

/// Identity of a node of a scenario, minted by the master, never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct NodeId(pub u64);

impl NodeId {
    /// The least id a master mints for what it finds below its roots.
    pub const FIRST_FREE: NodeId = NodeId(4096);

    /// The directory that is root number `root`.
    #[must_use]
    pub const fn root(root: RootNo) -> Self {
        NodeId(2 * root.0 as u64 + 2)
    }

    /// The pseudo directory that holds what was removed from root number `root`.
    #[must_use]
    pub const fn kept(root: RootNo) -> Self {
        NodeId(2 * root.0 as u64 + 3)
    }

    /// Whether it is the kept area of some root.
    #[must_use]
    pub const fn is_kept_area(self) -> bool {
        self.0 < Self::FIRST_FREE.0 && self.0 % 2 == 1
    }

    /// The root it stands for, if it is a root or a kept area.
    #[must_use]
    pub const fn as_root_or_kept(self) -> Option<RootNo> {
        if self.0 >= 2 && self.0 < Self::FIRST_FREE.0 { Some(RootNo((self.0 / 2 - 1) as u16)) } else { None }
    }

    /// The name under which the node stands in a kept area: its number in hexadecimal.
    #[must_use]
    pub fn kept_name(self) -> Name {
        Name(format!("{:x}", self.0).into_bytes().into_boxed_slice())
    }

    /// Eight bytes, big-endian, so that byte order is id order.
    #[must_use]
    pub const fn to_key(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }

    /// Inverse of [`NodeId::to_key`].
    #[must_use]
    pub fn from_key(key: &[u8]) -> Option<Self> {
        Some(NodeId(u64::from_be_bytes(key.try_into().ok()?)))
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// Number of a root within its scenario, from 0; at most [`RootNo::COUNT_MAX`] roots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct RootNo(pub u16);

impl RootNo {
    /// More roots than this are refused.
    pub const COUNT_MAX: u16 = 2000;
}

/// One component of a path: 1 to 255 bytes, no `/`, no NUL, neither `.` nor `..`. Not necessarily UTF-8.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<[u8]>);

impl Name {
    /// Checks and takes a name; `None` if a file system would not hold it or it would leave its directory.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let fits = !bytes.is_empty() && bytes.len() <= 255;
        let safe = bytes != b"." && bytes != b".." && !bytes.contains(&b'/') && !bytes.contains(&0);
        (fits && safe).then(|| Name(bytes.into()))
    }

    /// The bytes of the name.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

impl Encode for Name {
    fn encode<E: bincode::enc::Encoder>(&self, encoder: &mut E) -> Result<(), bincode::error::EncodeError> {
        self.0.encode(encoder)
    }
}

impl<C> Decode<C> for Name {
    fn decode<D: bincode::de::Decoder<Context = C>>(
        decoder: &mut D,
    ) -> Result<Self, bincode::error::DecodeError> {
        let bytes = Vec::<u8>::decode(decoder)?;
        Name::new(&bytes).ok_or(bincode::error::DecodeError::Other("not a file name"))
    }
}
bincode::impl_borrow_decode!(Name);

/// A directory entry: the place `name` in directory `parent`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Edge {
    /// The directory.
    pub parent: NodeId,
    /// The entry in it.
    pub name: Name,
}

impl Edge {
    /// The entry `name` of `parent`.
    #[must_use]
    pub const fn new(parent: NodeId, name: Name) -> Self {
        Edge { parent, name }
    }
}

/// Identity of an inode as the kernel of the master knows it (architecture.md, section 5). The device is the hashed
/// UUID or device number of the file system; `generation` is 0 where the kernel shows none, and then `birth` (birth
/// time in nanoseconds, 0 where unknown) stands for it, which is weaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Origin {
    /// File system.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
    /// Inode generation, 0 if not shown.
    pub generation: u64,
    /// Birth time in nanoseconds since the epoch, 0 if unknown.
    pub birth: i64,
}
