//! Packs: many sealed blobs in one object, described by a sealed header at its end.
//!
//! `blob .. blob | sealed header | length of the sealed header (4 bytes, little endian)`. The header has an entry for
//! each blob, in the order of the blobs; offsets are sums of lengths. So a pack describes itself: with the key alone the
//! index can be made again.
//!
//! Reading a header refuses anything whose lengths do not add up to exactly the size of the object, before any entry is
//! used. The name of a pack is the SHA-256 of all its bytes.

use super::crypto::{OVERHEAD, SealKey};
use super::error::RepositoryError;
use super::id::{BlobKind, Id, ObjectKind};
use crate::store::BlobStore;
use bytes::Bytes;

/// Largest sealed header, in bytes, that is written or read.
pub const HEADER_BYTES_MAX: usize = 16 << 20;
/// Largest pack, in bytes: offsets have 32 bits.
pub const PACK_BYTES_MAX: u64 = u32::MAX as u64;
const LENGTH_BYTES: usize = 4;
const ENTRY_PLAIN: usize = 37;
const ENTRY_PACKED: usize = 41;

/// Where a blob lies in a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackEntry {
    /// Data or tree.
    pub kind: BlobKind,
    /// SHA-256 of the plain bytes.
    pub id: Id,
    /// Bytes from the beginning of the pack.
    pub offset: u32,
    /// Sealed bytes.
    pub length: u32,
    /// Plain bytes of a compressed blob; 0 if it is not compressed.
    pub uncompressed_length: u32,
}

/// A pack in the making, in memory.
#[derive(Debug)]
pub struct PackBuilder {
    bytes: Vec<u8>,
    entries: Vec<PackEntry>,
}

/// A pack as it is stored.
#[derive(Debug)]
pub struct FinishedPack {
    /// SHA-256 of `bytes`.
    pub id: Id,
    /// The whole object.
    pub bytes: Bytes,
    /// What it holds.
    pub entries: Vec<PackEntry>,
}

impl PackBuilder {
    /// An empty pack, with room for `target` bytes.
    #[must_use]
    pub fn new(target: usize) -> Self {
        Self::within(Vec::new(), target)
    }

    /// An empty pack in the memory of another one.
    #[must_use]
    pub fn within(mut buffer: Vec<u8>, target: usize) -> Self {
        buffer.clear();
        buffer.reserve(target);
        Self { bytes: buffer, entries: Vec::new() }
    }

    /// Bytes of blobs so far.
    #[must_use]
    pub fn blob_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing was added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether a blob of so many sealed bytes still fits the limits of the format.
    #[must_use]
    pub fn fits(&self, sealed: usize) -> bool {
        let header = (self.entries.len() + 1) * ENTRY_PACKED + OVERHEAD;
        let all = self.bytes.len() as u64 + sealed as u64 + header as u64 + LENGTH_BYTES as u64;
        header <= HEADER_BYTES_MAX && all <= PACK_BYTES_MAX
    }

    /// Adds a sealed blob. `uncompressed_length` is 0 for one that is not compressed.
    ///
    /// # Errors
    /// `TooLarge` if it does not fit ([`PackBuilder::fits`]).
    pub fn add(
        &mut self,
        kind: BlobKind,
        id: Id,
        sealed: &[u8],
        uncompressed_length: u32,
    ) -> Result<(), RepositoryError> {
        let too_large =
            || RepositoryError::TooLarge { what: "a pack", size: sealed.len() as u64, limit: PACK_BYTES_MAX };
        if !self.fits(sealed.len()) {
            return Err(too_large());
        }
        let offset = u32::try_from(self.bytes.len()).map_err(|_| too_large())?;
        let length = u32::try_from(sealed.len()).map_err(|_| too_large())?;
        self.bytes.extend_from_slice(sealed);
        self.entries.push(PackEntry { kind, id, offset, length, uncompressed_length });
        Ok(())
    }

    /// Writes the header and names the pack.
    ///
    /// # Errors
    /// `Random`, `TooLarge`.
    pub fn finish(mut self, key: &SealKey) -> Result<FinishedPack, RepositoryError> {
        let mut header = Vec::with_capacity(self.entries.len() * ENTRY_PACKED);
        for entry in &self.entries {
            let packed = entry.uncompressed_length != 0;
            header.push(u8::from(entry.kind == BlobKind::Tree) | u8::from(packed) << 1);
            header.extend_from_slice(&entry.length.to_le_bytes());
            if packed {
                header.extend_from_slice(&entry.uncompressed_length.to_le_bytes());
            }
            header.extend_from_slice(&entry.id.0);
        }
        let length = header.len() + OVERHEAD;
        let length = u32::try_from(length).ok().filter(|_| length <= HEADER_BYTES_MAX).ok_or(
            RepositoryError::TooLarge {
                what: "the header of a pack",
                size: length as u64,
                limit: HEADER_BYTES_MAX as u64,
            },
        )?;
        self.bytes.reserve_exact(header.len() + OVERHEAD + LENGTH_BYTES);
        key.seal_into(&header, &mut self.bytes)?;
        self.bytes.extend_from_slice(&length.to_le_bytes());
        Ok(FinishedPack { id: Id::of(&self.bytes), bytes: self.bytes.into(), entries: self.entries })
    }
}

/// Reads what a pack of `size` bytes holds from its header alone.
///
/// # Errors
/// `Damaged` with the offset in the pack, `Store`.
pub fn read_header(
    store: &dyn BlobStore,
    key: &SealKey,
    pack: &Id,
    size: u64,
) -> Result<Vec<PackEntry>, RepositoryError> {
    let name = ObjectKind::Pack.name(pack);
    let damaged = |offset, what| RepositoryError::damaged(&*name, offset, what);
    if size > PACK_BYTES_MAX || size < (LENGTH_BYTES + OVERHEAD) as u64 {
        return Err(damaged(0, "no pack has this size"));
    }
    // Most headers come with the first read.
    let first = size.min(32 << 10);
    let tail = store.get_range(&name, size - first..size)?;
    let (before, length) = tail
        .split_last_chunk::<LENGTH_BYTES>()
        .ok_or_else(|| damaged(size - first, "the length of the header is missing"))?;
    let length = u32::from_le_bytes(*length) as usize;
    let end = size - LENGTH_BYTES as u64;
    if !(OVERHEAD..=HEADER_BYTES_MAX).contains(&length) || length as u64 > end {
        return Err(damaged(end, "the length of the header is impossible"));
    }
    let start = end - length as u64;
    let mut sealed = match before.len().checked_sub(length).and_then(|from| before.get(from..)) {
        Some(sealed) => sealed.to_vec(),
        None => store.get_range(&name, start..end)?.to_vec(),
    };
    let header = key
        .open_in_place(&mut sealed)
        .map_err(|_| damaged(start, "the header was not written with this repository's key"))?;
    parse_header(header, start).map_err(|what| damaged(start, what))
}

/// Entries of a decrypted header that begins at `blobs_end`.
fn parse_header(header: &[u8], blobs_end: u64) -> Result<Vec<PackEntry>, &'static str> {
    let mut entries = Vec::with_capacity(header.len() / ENTRY_PLAIN);
    let mut rest = header;
    let mut offset = 0u64;
    while let Some((kind, after)) = rest.split_first() {
        const SHORT: &str = "the header ends inside an entry";
        let packed = *kind & 2 != 0;
        let kind = match *kind {
            0 | 2 => BlobKind::Data,
            1 | 3 => BlobKind::Tree,
            _ => return Err("the header has an unknown kind of blob"),
        };
        let (length, after) = after.split_first_chunk::<4>().ok_or(SHORT)?;
        let (uncompressed, after) =
            if packed { after.split_first_chunk::<4>().ok_or(SHORT)? } else { (&[0; 4], after) };
        let (id, after) = after.split_first_chunk::<32>().ok_or(SHORT)?;
        rest = after;
        let entry = PackEntry {
            kind,
            id: Id(*id),
            offset: u32::try_from(offset).map_err(|_| "a blob lies beyond 4 GiB")?,
            length: u32::from_le_bytes(*length),
            uncompressed_length: u32::from_le_bytes(*uncompressed),
        };
        offset += u64::from(entry.length);
        if (entry.length as usize) < OVERHEAD || (packed && entry.uncompressed_length == 0) {
            return Err("a blob is shorter than its seal, or of no length");
        }
        if offset > blobs_end {
            return Err("the blobs are longer than the pack");
        }
        entries.push(entry);
    }
    if offset == blobs_end { Ok(entries) } else { Err("the blobs are shorter than the pack") }
}

#[cfg(test)]
mod tests;
