//! Loading blobs: one by id, or many of a pack in few reads.
//!
//! Whatever is handed out has been proved to be what was asked for: the seal is checked, then the length, then the
//! SHA-256 of the plain bytes. Damage names the pack and the offset in it. A blob that lies in several packs is taken
//! from another when one is damaged.
//!
//! [`plan`] sorts what a restore needs by pack; [`Repository::read_pack`] reads one such pack front to back, once, and hands
//! out each blob as soon as it is there. It holds at most [`READ_BYTES_MAX`] of sealed bytes and one plain blob, unless a
//! single blob is larger.

use super::Repository;
use super::crypto::OVERHEAD;
use super::error::{RepositoryError, RepositoryErrorKind};
use super::id::{BlobKind, Id, ObjectKind};
use super::index::Location;
use std::collections::HashMap;

/// Sealed bytes that one read of a pack fetches at most, unless a blob is larger.
pub const READ_BYTES_MAX: u64 = 16 << 20;
/// A gap up to this length is read along rather than skipped by another request.
const GAP_BYTES_MAX: u64 = 256 << 10;

/// Takes what [`Repository::read_pack`] hands out: a blob's place, and its plain bytes or why they cannot be had. Says
/// whether to go on.
pub type EachBlob<'a> = dyn FnMut(&Location, Result<&[u8], RepositoryError>) -> bool + 'a;

/// Takes what [`Repository::read_sealed`] hands out: a blob's place, and its sealed bytes or why they cannot be had.
pub type EachSealed<'a> = dyn FnMut(&Location, Result<&[u8], RepositoryError>) -> bool + 'a;

/// Blobs to be read from one pack, in order of their offsets, each once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackRead {
    /// The pack.
    pub pack: Id,
    /// Its blobs that are wanted.
    pub blobs: Vec<Location>,
}

/// Sorts blobs by the packs they lie in. A blob named several times is read once. Packs come in the order in which they
/// are first needed.
///
/// # Errors
/// `BlobNotFound` for the first that is in no index; what [`Repository::index`] fails with.
pub fn plan(
    repository: &Repository,
    wanted: impl IntoIterator<Item = (BlobKind, Id)>,
) -> Result<Vec<PackRead>, RepositoryError> {
    let index = repository.index()?;
    let mut reads: Vec<PackRead> = Vec::new();
    let mut numbers: HashMap<Id, usize> = HashMap::new();
    for (kind, id) in wanted {
        let place = index.lookup(kind, &id).ok_or(RepositoryError::BlobNotFound { kind, id })?;
        let number = *numbers.entry(place.pack).or_insert(reads.len());
        match reads.get_mut(number) {
            Some(read) => read.blobs.push(place),
            None => reads.push(PackRead { pack: place.pack, blobs: vec![place] }),
        }
    }
    for read in &mut reads {
        read.blobs.sort_unstable_by_key(|blob| (blob.offset, blob.id));
        read.blobs.dedup();
    }
    Ok(reads)
}

/// Blobs that are fetched by one request: how many, and the range.
fn next_piece(blobs: &[Location]) -> Option<(usize, u64, u64)> {
    let first = blobs.first()?;
    let start = u64::from(first.offset);
    let mut end = start + u64::from(first.length);
    let mut count = 1;
    for blob in blobs.iter().skip(1) {
        let offset = u64::from(blob.offset);
        let after = end.max(offset + u64::from(blob.length));
        if offset > end + GAP_BYTES_MAX || after - start > READ_BYTES_MAX {
            break;
        }
        end = after;
        count += 1;
    }
    Some((count, start, end))
}

impl Repository {
    /// The plain bytes of a blob, from any pack that has them whole. If a pack is gone the index is read again: a prune
    /// may have packed it anew since.
    ///
    /// # Errors
    /// `BlobNotFound`; `BlobDamaged` or `Store` of the first place when no place has it.
    pub fn load_blob(&self, kind: BlobKind, id: &Id) -> Result<Vec<u8>, RepositoryError> {
        match self.load_blob_once(kind, id) {
            Err(error) if error.kind() == RepositoryErrorKind::NotFound => {
                self.reload_index()?;
                self.load_blob_once(kind, id).map_err(|_| error)
            }
            outcome => outcome,
        }
    }

    fn load_blob_once(&self, kind: BlobKind, id: &Id) -> Result<Vec<u8>, RepositoryError> {
        let mut first = None;
        for place in self.index()?.lookup_all(kind, id) {
            match self.load_at(&place) {
                Ok(plain) => return Ok(plain),
                Err(error) => first = first.or(Some(error)),
            }
        }
        Err(first.unwrap_or(RepositoryError::BlobNotFound { kind, id: *id }))
    }

    /// The plain bytes of the blob at a place.
    ///
    /// # Errors
    /// `BlobDamaged`, `TooLarge`, `Store`.
    pub fn load_at(&self, place: &Location) -> Result<Vec<u8>, RepositoryError> {
        check_length(place)?;
        let start = u64::from(place.offset);
        let range = start..start + u64::from(place.length);
        let name = ObjectKind::Pack.name(&place.pack);
        let mut sealed = Vec::from(self.store().get_range(&name, range)?);
        let mut plain = Vec::new();
        if self.open_blob(place, &mut sealed, &mut plain)? {
            return Ok(plain);
        }
        // Not compressed: the plain bytes lie in the sealed ones.
        sealed.truncate(sealed.len() - OVERHEAD / 2);
        sealed.drain(..OVERHEAD / 2);
        Ok(sealed)
    }

    /// Reads blobs of one pack, each once, and calls `each` for every one in order of offsets until it returns false. A
    /// blob that cannot be read from here is tried alone and from other packs, then handed out as an error; the others
    /// follow. `each` can stop at an error that will not pass, such as an unreachable store.
    ///
    /// # Errors
    /// None of its own: what fails, fails for blobs.
    pub fn read_pack(&self, read: &PackRead, each: &mut EachBlob<'_>) {
        let name = ObjectKind::Pack.name(&read.pack);
        let mut rest = read.blobs.as_slice();
        let mut plain = Vec::new();
        while let Some((count, start, end)) = next_piece(rest) {
            let Some((piece, after)) = rest.split_at_checked(count) else { return };
            rest = after;
            let bytes = match piece.iter().try_for_each(check_length) {
                Ok(()) => self.store().get_range(&name, start..end).ok(),
                Err(_) => None,
            };
            let mut bytes = bytes.map(Vec::from);
            for blob in piece {
                let from = (u64::from(blob.offset) - start) as usize;
                let sealed = bytes.as_mut().and_then(|all| all.get_mut(from..from + blob.length as usize));
                let more = match sealed.map(|sealed| (self.open_blob(blob, sealed, &mut plain), sealed)) {
                    Some((Ok(true), _)) => each(blob, Ok(&plain)),
                    Some((Ok(false), sealed)) => each(blob, Ok(inner(sealed))),
                    // The piece could not be had, or this blob of it is damaged: alone, and from anywhere.
                    Some((Err(_), _)) | None => match self.load_blob(blob.kind, &blob.id) {
                        Ok(other) => each(blob, Ok(&other)),
                        Err(error) => each(blob, Err(error)),
                    },
                };
                if !more {
                    return;
                }
            }
        }
    }

    /// Reads blobs of one pack and hands out their sealed bytes, each opened and compared before, until `each` returns
    /// false. Only what lies in this pack counts.
    pub fn read_sealed(&self, read: &PackRead, each: &mut EachSealed<'_>) {
        let name = ObjectKind::Pack.name(&read.pack);
        let mut rest = read.blobs.as_slice();
        let mut plain = Vec::new();
        while let Some((count, start, end)) = next_piece(rest) {
            let Some((piece, after)) = rest.split_at_checked(count) else { return };
            rest = after;
            for blob in piece {
                if let Err(error) = check_length(blob) {
                    each(blob, Err(error));
                    return;
                }
            }
            let bytes = match self.store().get_range(&name, start..end) {
                Ok(bytes) => bytes,
                Err(error) => {
                    if let Some(first) = piece.first() {
                        each(first, Err(error.into()));
                    }
                    return;
                }
            };
            for blob in piece {
                let from = (u64::from(blob.offset) - start) as usize;
                let sealed = bytes.get(from..from + blob.length as usize).unwrap_or_default();
                let opened = self.open_blob(blob, &mut sealed.to_vec(), &mut plain);
                if !each(blob, opened.map(|_| sealed)) {
                    return;
                }
            }
        }
    }

    /// Opens sealed bytes where they lie and checks them. Whether the plain bytes are in `plain`; else they lie between IV
    /// and MAC of `sealed`.
    fn open_blob(
        &self,
        place: &Location,
        sealed: &mut [u8],
        plain: &mut Vec<u8>,
    ) -> Result<bool, RepositoryError> {
        let damaged = |what| RepositoryError::BlobDamaged {
            kind: place.kind,
            id: place.id,
            pack: ObjectKind::Pack.name(&place.pack),
            offset: place.offset.into(),
            what,
        };
        const SEAL: &str = "the bytes are not what was sealed there";
        const HASH: &str = "the plain bytes do not have the hash they are named by";
        let opened = self.seal_key().open_in_place(sealed).map_err(|_| damaged(SEAL))?;
        if place.uncompressed_length == 0 {
            return if Id::of(opened) == place.id { Ok(false) } else { Err(damaged(HASH)) };
        }
        let length = place.uncompressed_length as usize;
        if !self.codecs().with(|codec| codec.decompress(opened, length, plain))? {
            return Err(damaged("decompression does not give the length that was recorded"));
        }
        if Id::of(plain) == place.id { Ok(true) } else { Err(damaged(HASH)) }
    }
}

fn inner(sealed: &[u8]) -> &[u8] {
    sealed.get(OVERHEAD / 2..sealed.len().saturating_sub(OVERHEAD / 2)).unwrap_or_default()
}

/// No memory is taken for a blob beyond the limit of its kind.
fn check_length(place: &Location) -> Result<(), RepositoryError> {
    let limit = place.kind.bytes_max();
    let size = place.plain_bytes().max(u64::from(place.length).saturating_sub(OVERHEAD as u64));
    if size > limit + limit / 64 {
        return Err(RepositoryError::TooLarge { what: "a blob", size, limit });
    }
    Ok(())
}
