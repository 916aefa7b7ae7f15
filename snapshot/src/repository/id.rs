//! Names of what a repository holds: SHA-256 ids, kinds of blobs, names of objects.
//!
//! An id names content, so two writers can never mean different bytes by one name. Refused: any text but exactly 64
//! hexadecimal digits. A name in a listing that is not of the form this module prints is not an object of the repository.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::fmt;

/// SHA-256 of some bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(pub [u8; 32]);

/// Hexadecimal digits of an id.
pub const ID_DIGITS: usize = 64;

impl Id {
    /// The id of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Reads 64 hexadecimal digits; `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits: &[u8; ID_DIGITS] = text.as_bytes().try_into().ok()?;
        let mut id = [0; 32];
        for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
            let [high, low] = pair else { return None };
            *byte = nibble(*high)? << 4 | nibble(*low)?;
        }
        Some(Self(id))
    }

    /// The 64 digits, in lower case.
    #[must_use]
    pub fn hex(&self) -> [u8; ID_DIGITS] {
        let mut out = [0; ID_DIGITS];
        for (pair, byte) in out.chunks_exact_mut(2).zip(self.0) {
            if let [high, low] = pair {
                *high = digit(byte >> 4);
                *low = digit(byte & 15);
            }
        }
        out
    }

    /// Whether the printed id begins so.
    #[must_use]
    pub fn starts_with(&self, prefix: &str) -> bool {
        self.hex().starts_with(prefix.to_ascii_lowercase().as_bytes())
    }

    /// The first eight digits, for people.
    #[must_use]
    pub fn short(&self) -> String {
        self.to_string().chars().take(8).collect()
    }
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

fn digit(nibble: u8) -> u8 {
    if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = self.hex();
        f.write_str(std::str::from_utf8(&hex).unwrap_or_default())
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Borrowed where the text has no escapes: an index has millions of ids.
        #[derive(Deserialize)]
        #[serde(transparent)]
        struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
        let text = Text::deserialize(deserializer)?;
        Self::parse(&text.0).ok_or_else(|| serde::de::Error::custom("not an id of 64 hexadecimal digits"))
    }
}

/// What a blob holds. Packs hold blobs of one kind when we write them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BlobKind {
    /// A piece of a file.
    Data,
    /// A directory.
    Tree,
}

impl BlobKind {
    /// Both kinds.
    pub const ALL: [Self; 2] = [Self::Data, Self::Tree];

    /// As it is written in indexes.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Tree => "tree",
        }
    }

    /// Largest plain size in bytes that is read or written. No memory beyond it is taken for a blob.
    #[must_use]
    pub fn bytes_max(self) -> u64 {
        match self {
            Self::Data => 64 << 20,
            Self::Tree => super::tree::TREE_BYTES_MAX,
        }
    }
}

impl fmt::Display for BlobKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The kinds of objects in a repository, which are its directories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectKind {
    /// Packs of blobs.
    Pack,
    /// Index files.
    Index,
    /// Session records.
    Snapshot,
    /// Key files.
    Key,
    /// Locks.
    Lock,
}

impl ObjectKind {
    /// The directory in the store.
    #[must_use]
    pub fn directory(self) -> &'static str {
        match self {
            Self::Pack => "data",
            Self::Index => "index",
            Self::Snapshot => "snapshots",
            Self::Key => "keys",
            Self::Lock => "locks",
        }
    }

    /// Name of the object in the store. Packs are spread over 256 directories by their first two digits.
    #[must_use]
    pub fn name(self, id: &Id) -> String {
        match self {
            Self::Pack => {
                let digits = id.to_string();
                let first = digits.get(..2).unwrap_or_default();
                format!("data/{first}/{digits}")
            }
            _ => format!("{}/{id}", self.directory()),
        }
    }

    /// The id in a name that this kind's objects have; `None` for foreign objects. Only the very name that
    /// [`ObjectKind::name`] gives counts: an object that lies elsewhere would be listed and not be found.
    #[must_use]
    pub fn id_in(self, name: &str) -> Option<Id> {
        let (_, last) = name.rsplit_once('/')?;
        let id = Id::parse(last)?;
        (self.name(&id) == name).then_some(id)
    }
}

/// The object that says what the repository is.
pub const CONFIG_NAME: &str = "config";

#[cfg(test)]
mod tests;
