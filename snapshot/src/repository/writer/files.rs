//! Saving what the pipeline has at hand: a file that is read, a tree that was built.

use super::{BlobWriter, Saved};
use crate::repository::chunk::Chunker;
use crate::repository::error::RepositoryError;
use crate::repository::id::{BlobKind, Id};
use crate::repository::tree::TreeBuilder;
use std::io::Read;

/// What saving a file did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SavedFile {
    /// Its blobs, in order: [`Node::content`](crate::repository::Node::content).
    pub content: Vec<Id>,
    /// Bytes that were read.
    pub bytes: u64,
    /// Bytes of the blobs that were not there before, plain.
    pub new_bytes: u64,
    /// Bytes that those take in packs.
    pub stored_bytes: u64,
}

impl BlobWriter {
    /// Reads to the end, cuts into chunks and saves them. The chunker is begun anew, so one serves a thread for all its
    /// files. Memory is that of the chunker, and 32 bytes a chunk.
    ///
    /// # Errors
    /// `Source` when reading fails: the writer stays usable, what was saved is found again by the next attempt. Else as
    /// [`BlobWriter::save_blob`].
    pub fn save_file(
        &self,
        chunker: &mut Chunker,
        reader: &mut dyn Read,
    ) -> Result<SavedFile, RepositoryError> {
        chunker.restart();
        let mut file = SavedFile::default();
        while let Some(chunk) = chunker.next(reader)? {
            let saved = self.save_blob(BlobKind::Data, chunk)?;
            let size = chunk.len() as u64;
            file.content.push(saved.id);
            file.bytes += size;
            file.new_bytes += if saved.is_new { size } else { 0 };
            file.stored_bytes += saved.stored_bytes;
        }
        Ok(file)
    }

    /// Saves the tree that was built, and begins the next in the same memory.
    ///
    /// # Errors
    /// As [`BlobWriter::save_blob`].
    pub fn save_tree(&self, tree: &mut TreeBuilder) -> Result<Saved, RepositoryError> {
        let saved = self.save_blob(BlobKind::Tree, tree.finish());
        tree.clear();
        saved
    }
}
