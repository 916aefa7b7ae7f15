//! Splitting bytes where their content says so, so that an insertion changes only the chunks around it.
//!
//! FastCDC (2020) with at least 512 KiB, about 1 MiB and at most 8 MiB a chunk. The boundaries are part of what makes
//! two backups share data: a golden test holds them fixed. They depend on the bytes alone, not on how they were read.

use super::error::RepositoryError;
use fastcdc::v2020::FastCDC;
use std::io::Read;

/// Least bytes of a chunk but the last.
pub const CHUNK_BYTES_MIN: usize = 512 << 10;
/// What the average tends to.
pub const CHUNK_BYTES_AVERAGE: usize = 1 << 20;
/// Most bytes of a chunk.
pub const CHUNK_BYTES_MAX: usize = 8 << 20;

/// Room for a whole chunk and what is read ahead.
const BUFFER_BYTES: usize = 2 * CHUNK_BYTES_MAX;

/// Length of the first chunk of `bytes`, which must be all that is left or at least [`CHUNK_BYTES_MAX`] of it.
fn first_chunk(bytes: &[u8]) -> usize {
    if bytes.len() <= CHUNK_BYTES_MIN {
        return bytes.len();
    }
    let splitter = FastCDC::new(bytes, CHUNK_BYTES_MIN, CHUNK_BYTES_AVERAGE, CHUNK_BYTES_MAX);
    let (_, end) = splitter.cut(0, bytes.len());
    end.clamp(1, bytes.len())
}

/// The chunks of a slice, in order.
pub fn chunks(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let window = rest.get(..CHUNK_BYTES_MAX).unwrap_or(rest);
        let (chunk, after) = rest.split_at_checked(first_chunk(window))?;
        rest = after;
        Some(chunk)
    })
}

/// Splits what readers give. Holds one buffer of 16 MiB, which serves one file after the other.
#[derive(Debug)]
pub struct Chunker {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    finished: bool,
}

impl Default for Chunker {
    fn default() -> Self {
        Self::new()
    }
}

impl Chunker {
    /// A chunker at the beginning of a file. Memory is touched as far as it is used.
    #[must_use]
    pub fn new() -> Self {
        Self { buffer: vec![0; BUFFER_BYTES], start: 0, end: 0, finished: false }
    }

    /// Begins another file; what was read ahead is dropped.
    pub fn restart(&mut self) {
        (self.start, self.end, self.finished) = (0, 0, false);
    }

    /// The next chunk of `reader`, which must be the same until the end; `None` at the end.
    ///
    /// # Errors
    /// `Source`.
    pub fn next(&mut self, reader: &mut dyn Read) -> Result<Option<&[u8]>, RepositoryError> {
        self.fill(reader).map_err(|source| RepositoryError::Source { source })?;
        let ready = self.buffer.get(self.start..self.end).unwrap_or_default();
        if ready.is_empty() {
            return Ok(None);
        }
        let window = ready.get(..CHUNK_BYTES_MAX).unwrap_or(ready);
        let length = first_chunk(window);
        self.start += length;
        Ok(window.get(..length))
    }

    fn fill(&mut self, reader: &mut dyn Read) -> std::io::Result<()> {
        if self.finished || self.end - self.start >= CHUNK_BYTES_MAX {
            return Ok(());
        }
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        while let Some(free) = self.buffer.get_mut(self.end..).filter(|free| !free.is_empty()) {
            match reader.read(free) {
                Ok(0) => {
                    self.finished = true;
                    break;
                }
                Ok(read) => self.end += read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
