//! Index files: JSON that lists packs and their blobs.
//!
//! A file is parsed straight into entries of fixed width. Refused as damaged: what is not JSON of this shape, offsets and
//! lengths beyond 32 bits or the end of a pack, blobs shorter than their seal. Fields that are not known are passed over.

use super::runs::Entry;
use super::{Index, IndexedPack, State};
use crate::repository::crypto::OVERHEAD;
use crate::repository::error::RepositoryError;
use crate::repository::id::{BlobKind, Id};
use crate::repository::pack::PACK_BYTES_MAX;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

/// Blobs in one index file that we write. A file is in memory as text, compressed and sealed, while packs are under way:
/// of 50,000 blobs that was 18 MB, more than the packs.
pub const INDEX_BLOBS_MAX: usize = 20_000;
/// Packs wait at most about so long for an index file that names them, as long as others follow.
pub const INDEX_FILE_AFTER: Duration = Duration::from_secs(5 * 60);
/// Largest index file that is read, in bytes of JSON.
pub const INDEX_FILE_BYTES_MAX: usize = 512 << 20;

/// Collects index files before they are sorted once.
#[derive(Debug, Default)]
pub struct IndexLoader {
    state: State,
    data: Vec<Entry>,
    trees: Vec<Entry>,
}

impl IndexLoader {
    /// Adds what a file holds.
    ///
    /// # Errors
    /// `Json` naming `object`. What came before the damage stays: the caller must not go on.
    pub fn add_file(&mut self, object: &str, json: &[u8]) -> Result<(), RepositoryError> {
        let failed = |source| RepositoryError::Json { object: object.into(), source };
        let mut parser = serde_json::Deserializer::from_slice(json);
        parser.deserialize_map(FileVisitor(self)).map_err(failed)?;
        parser.end().map_err(failed)
    }

    /// The table of all that was added.
    #[must_use]
    pub fn finish(mut self) -> Index {
        for entries in [&mut self.data, &mut self.trees] {
            entries.shrink_to_fit();
        }
        self.state.data.extend(self.data);
        self.state.trees.extend(self.trees);
        Index { state: self.state.into() }
    }
}

struct FileVisitor<'a>(&'a mut IndexLoader);

impl<'de> Visitor<'de> for FileVisitor<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an index")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<&str>()? {
            match key {
                "packs" => map.next_value_seed(Packs(&mut *self.0))?,
                // Among them `supersedes`: a file counts as long as it is there.
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

struct Packs<'a>(&'a mut IndexLoader);

impl<'de> DeserializeSeed<'de> for Packs<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        // `null` is an empty list in what Go writes.
        deserializer.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for Packs<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of packs")
    }

    fn visit_none<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut packs: A) -> Result<(), A::Error> {
        let mut blobs = Vec::new();
        while let Some(pack) = packs.next_element_seed(Pack(&mut blobs))? {
            let state = &mut self.0.state;
            state.add(&pack, &[]).map_err(serde::de::Error::custom)?;
            let number = state.pack_numbers.get(&pack).copied().unwrap_or_default();
            for blob in blobs.drain(..) {
                let (kind, mut entry): (BlobKind, Entry) = blob;
                entry.pack = number;
                match kind {
                    BlobKind::Data => self.0.data.push(entry),
                    BlobKind::Tree => self.0.trees.push(entry),
                }
            }
        }
        Ok(())
    }
}

struct Pack<'a>(&'a mut Vec<(BlobKind, Entry)>);

impl<'de> DeserializeSeed<'de> for Pack<'_> {
    type Value = Id;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Id, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Pack<'_> {
    type Value = Id;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a pack")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Id, A::Error> {
        let mut id = None;
        while let Some(key) = map.next_key::<&str>()? {
            match key {
                "id" => id = Some(map.next_value()?),
                "blobs" => map.next_value_seed(Blobs(&mut *self.0))?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        id.ok_or_else(|| serde::de::Error::missing_field("id"))
    }
}

struct Blobs<'a>(&'a mut Vec<(BlobKind, Entry)>);

impl<'de> DeserializeSeed<'de> for Blobs<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Blobs<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of blobs")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut blobs: A) -> Result<(), A::Error> {
        while let Some(blob) = blobs.next_element::<BlobJson>()? {
            let end = u64::from(blob.offset) + u64::from(blob.length);
            if (blob.length as usize) < OVERHEAD || end > PACK_BYTES_MAX {
                return Err(serde::de::Error::custom("a blob has an impossible place in its pack"));
            }
            self.0.push((
                blob.kind,
                Entry {
                    id: blob.id.0,
                    pack: 0,
                    offset: blob.offset,
                    length: blob.length,
                    uncompressed_length: blob.uncompressed_length,
                },
            ));
        }
        Ok(())
    }
}

#[derive(Deserialize)]
struct BlobJson {
    id: Id,
    #[serde(rename = "type")]
    kind: BlobKind,
    offset: u32,
    length: u32,
    #[serde(default)]
    uncompressed_length: u32,
}

/// The JSON of an index file for these packs.
#[must_use]
pub fn to_json(packs: &[Arc<IndexedPack>]) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend_from_slice(b"{\"packs\":[");
    for (i, pack) in packs.iter().enumerate() {
        let comma = if i == 0 { "" } else { "," };
        append(&mut out, format_args!("{comma}{{\"id\":\"{}\",\"blobs\":[", pack.id));
        for (i, blob) in pack.blobs.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            append(
                &mut out,
                format_args!(
                    "{comma}{{\"id\":\"{}\",\"type\":\"{}\",\"offset\":{},\"length\":{}",
                    blob.id, blob.kind, blob.offset, blob.length
                ),
            );
            if blob.uncompressed_length != 0 {
                append(&mut out, format_args!(",\"uncompressed_length\":{}", blob.uncompressed_length));
            }
            out.push(b'}');
        }
        out.extend_from_slice(b"]}");
    }
    out.extend_from_slice(b"]}");
    out
}

fn append(out: &mut Vec<u8>, text: fmt::Arguments<'_>) {
    // Writing to memory does not fail.
    let _ = out.write_fmt(text);
}
