//! Whole index files, marks included, as they are read and written by upkeep.
//!
//! The open index reads files into entries of fixed width and passes marks over; here a file is read as it is, one at a
//! time, so that it can be written again with some packs left out. The list of marked packs has the name and form that
//! rustic gives it, so that both programs know each other's; restic passes it over. Refused as damaged: what the open
//! index refuses too.

use crate::repository::crypto::OVERHEAD;
use crate::repository::error::RepositoryError;
use crate::repository::id::{BlobKind, Id, ObjectKind};
use crate::repository::index::{INDEX_BLOBS_MAX, INDEX_FILE_BYTES_MAX, IndexedPack};
use crate::repository::pack::PACK_BYTES_MAX;
use crate::repository::{Repository, Timestamp};
use serde::{Deserialize, Deserializer, Serialize};

/// An index file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct IndexFile {
    /// Packs whose blobs can be found.
    #[serde(default, deserialize_with = "nullable")]
    pub packs: Vec<Pack>,
    /// Packs that are marked for removal.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub packs_to_delete: Vec<Pack>,
    /// Words of the locks that were held after the marked packs had left the index; absent until that was looked at.
    #[serde(default, rename = "rewind_beside", skip_serializing_if = "Option::is_none")]
    pub beside: Option<Vec<String>>,
}

/// A pack in an index file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pack {
    pub id: Id,
    #[serde(default, deserialize_with = "nullable")]
    pub blobs: Vec<Blob>,
    /// Of a mark: when it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Timestamp>,
}

/// A blob in a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Blob {
    pub id: Id,
    #[serde(rename = "type")]
    pub kind: BlobKind,
    pub offset: u32,
    pub length: u32,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub uncompressed_length: u32,
}

fn is_zero(value: &u32) -> bool {
    *value == 0
}

fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl From<&IndexedPack> for Pack {
    fn from(pack: &IndexedPack) -> Self {
        let blobs = pack.blobs.iter().map(|blob| Blob {
            id: blob.id,
            kind: blob.kind,
            offset: blob.offset,
            length: blob.length,
            uncompressed_length: blob.uncompressed_length,
        });
        Self { id: pack.id, blobs: blobs.collect(), time: None }
    }
}

impl IndexFile {
    /// Reads a file.
    ///
    /// # Errors
    /// `Damaged`, `Json`, `Store`.
    pub fn load(repository: &Repository, id: &Id) -> Result<Self, RepositoryError> {
        let json = repository.load_unpacked(ObjectKind::Index, id, INDEX_FILE_BYTES_MAX)?;
        let object = ObjectKind::Index.name(id);
        let file: Self = serde_json::from_slice(&json)
            .map_err(|source| RepositoryError::Json { object: object.clone(), source })?;
        let possible = |blob: &Blob| {
            let end = u64::from(blob.offset) + u64::from(blob.length);
            blob.length as usize >= OVERHEAD && end <= PACK_BYTES_MAX
        };
        if file.packs.iter().chain(&file.packs_to_delete).flat_map(|pack| &pack.blobs).all(possible) {
            Ok(file)
        } else {
            Err(RepositoryError::damaged(object, 0, "a blob has an impossible place in its pack"))
        }
    }

    /// Writes a file.
    ///
    /// # Errors
    /// `Store`, `Zstd`, `Random`.
    pub fn save(&self, repository: &Repository) -> Result<Id, RepositoryError> {
        let json = serde_json::to_vec(self)
            .map_err(|source| RepositoryError::Json { object: "an index file".into(), source })?;
        repository.save_unpacked(ObjectKind::Index, &json)
    }
}

/// Collects packs or marks and writes a file whenever one is full.
#[derive(Debug)]
pub(super) struct Emitter<'r> {
    repository: &'r Repository,
    file: IndexFile,
    blobs: usize,
    marks: bool,
    /// Files written so far.
    pub written: Vec<Id>,
}

impl<'r> Emitter<'r> {
    /// Of packs.
    pub fn packs(repository: &'r Repository) -> Self {
        Self { repository, file: IndexFile::default(), blobs: 0, marks: false, written: Vec::new() }
    }

    /// Of marks that were made beside these locks.
    pub fn marks(repository: &'r Repository, beside: Option<Vec<String>>) -> Self {
        let file = IndexFile { beside, ..IndexFile::default() };
        Self { repository, file, blobs: 0, marks: true, written: Vec::new() }
    }

    /// Adds a pack.
    pub fn add(&mut self, pack: Pack) -> Result<(), RepositoryError> {
        // A pack without blobs takes some bytes too.
        let blobs = pack.blobs.len().max(1);
        if self.blobs > 0 && self.blobs + blobs > INDEX_BLOBS_MAX {
            self.flush()?;
        }
        self.blobs += blobs;
        let list = if self.marks { &mut self.file.packs_to_delete } else { &mut self.file.packs };
        list.push(pack);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), RepositoryError> {
        if self.blobs > 0 {
            self.written.push(self.file.save(self.repository)?);
            self.file.packs.clear();
            self.file.packs_to_delete.clear();
            self.blobs = 0;
        }
        Ok(())
    }

    /// Writes what is left; the files.
    pub fn finish(mut self) -> Result<Vec<Id>, RepositoryError> {
        self.flush()?;
        Ok(self.written)
    }
}
