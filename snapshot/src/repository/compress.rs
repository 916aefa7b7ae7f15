//! Compression with zstd.
//!
//! What was compressed is decompressed and compared before anybody lets go of the plain bytes: a fault of memory or
//! of the compressor must not become a backup that cannot be read. Decompression never gives more than the length that
//! was announced, nor allocates much before the bytes come.
//!
//! A [`Codec`] holds the contexts, which are costly to make; [`CodecPool`] lends one to each thread that works.

use super::error::RepositoryError;
use parking_lot::Mutex;
use std::io::{Cursor, Read};
use zstd::bulk::{Compressor, Decompressor};

/// Level of zstd. Measured by the benchmark `repository`; [`FORMAT.md`](../../FORMAT.md) has the numbers.
pub const LEVEL_DEFAULT: i32 = 1;

/// Beyond this length nothing is allocated in one piece on the word of a length field.
const WHOLE_BYTES: usize = 16 << 20;
/// Longer blobs are compared in pieces after compression, and buffers that were needed for them are not kept: most files
/// are shorter, and there is a codec for each thread.
const KEPT_BYTES: usize = 256 << 10;

/// First byte of an unpacked file that holds compressed JSON.
const UNPACKED_ZSTD: u8 = 2;

/// Contexts and buffers of one working thread.
pub struct Codec {
    level: i32,
    compressor: Compressor<'static>,
    decompressor: Decompressor<'static>,
    packed: Vec<u8>,
    check: Vec<u8>,
    room: Vec<u8>,
}

impl std::fmt::Debug for Codec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Codec").field("level", &self.level).finish_non_exhaustive()
    }
}

/// Why compressed bytes were not accepted.
#[derive(Debug)]
pub enum CompressError {
    /// zstd failed.
    Zstd(std::io::Error),
    /// They do not decompress to what was compressed.
    Mismatch,
}

impl Codec {
    /// A codec for a level of zstd.
    ///
    /// # Errors
    /// `Zstd` when there is no memory.
    pub fn new(level: i32) -> Result<Self, RepositoryError> {
        let failed = |source| RepositoryError::Zstd { operation: "begin", source };
        Ok(Self {
            level,
            compressor: Compressor::new(level).map_err(failed)?,
            decompressor: Decompressor::new().map_err(failed)?,
            packed: Vec::new(),
            check: Vec::new(),
            room: Vec::new(),
        })
    }

    /// The compressed form of `plain`, proved to decompress to it. Valid until the next call.
    ///
    /// # Errors
    /// See [`CompressError`].
    pub fn compress(&mut self, plain: &[u8]) -> Result<&[u8], CompressError> {
        self.packed.clear();
        self.packed.reserve(zstd::zstd_safe::compress_bound(plain.len()));
        self.compressor.compress_to_buffer(plain, &mut self.packed).map_err(CompressError::Zstd)?;
        let same = if plain.len() <= KEPT_BYTES {
            self.check.clear();
            self.check.reserve(plain.len());
            self.decompressor
                .decompress_to_buffer(&self.packed, &mut self.check)
                .map_err(CompressError::Zstd)?;
            self.check == plain
        } else {
            unpacks_to(&self.packed, plain).map_err(CompressError::Zstd)?
        };
        if same { Ok(&self.packed) } else { Err(CompressError::Mismatch) }
    }

    /// Decompresses to exactly `length` bytes, which replace those of `out`; false if it is anything else.
    pub fn decompress(&mut self, packed: &[u8], length: usize, out: &mut Vec<u8>) -> bool {
        out.clear();
        if length > WHOLE_BYTES {
            return unpack_stream(packed, length, out) && out.len() == length;
        }
        out.reserve(length.max(1));
        // The capacity may be larger than asked for; a longer result is found by its length.
        self.decompressor.decompress_to_buffer(packed, out).is_ok() && out.len() == length
    }

    /// A buffer for what is made of the compressed bytes, empty.
    pub fn take_room(&mut self) -> Vec<u8> {
        let mut room = std::mem::take(&mut self.room);
        room.clear();
        room
    }

    /// Keeps it for the next one.
    pub fn keep_room(&mut self, room: Vec<u8>) {
        self.room = room;
    }

    fn trim(&mut self) {
        for buffer in [&mut self.packed, &mut self.check, &mut self.room] {
            if buffer.capacity() > 2 * KEPT_BYTES {
                *buffer = Vec::new();
            }
        }
    }
}

fn unpacks_to(packed: &[u8], plain: &[u8]) -> std::io::Result<bool> {
    let mut reader = zstd::stream::read::Decoder::with_buffer(packed)?;
    let mut piece = vec![0; 256 << 10];
    let mut rest = plain;
    loop {
        let read = reader.read(&mut piece)?;
        if read == 0 {
            return Ok(rest.is_empty());
        }
        match rest.split_at_checked(read) {
            Some((head, tail)) if Some(head) == piece.get(..read) => rest = tail,
            _ => return Ok(false),
        }
    }
}

/// At most `limit` bytes; false if there are more or they are damaged.
fn unpack_stream(packed: &[u8], limit: usize, out: &mut Vec<u8>) -> bool {
    let Ok(decoder) = zstd::stream::read::Decoder::with_buffer(packed) else { return false };
    let limit = limit as u64;
    let read = decoder.take(limit + 1).read_to_end(out);
    read.is_ok() && out.len() as u64 <= limit
}

/// The form of an index, session record or lock in a repository of version 2.
///
/// # Errors
/// `Zstd`.
pub fn pack_unpacked(json: &[u8]) -> Result<Vec<u8>, RepositoryError> {
    let failed = |source| RepositoryError::Zstd { operation: "compress", source };
    // Behind its first byte at once: an index file is megabytes, and comes while packs are under way.
    let mut out = Vec::with_capacity(1 + zstd::zstd_safe::compress_bound(json.len()));
    out.push(UNPACKED_ZSTD);
    let mut behind = Cursor::new(&mut out);
    behind.set_position(1);
    Compressor::new(LEVEL_DEFAULT)
        .and_then(|mut compressor| compressor.compress_to_buffer(json, &mut behind))
        .map_err(failed)?;
    if !unpacks_to(out.get(1..).unwrap_or_default(), json).map_err(failed)? {
        let source = std::io::Error::other("decompressed bytes differ");
        return Err(RepositoryError::Zstd { operation: "compare", source });
    }
    Ok(out)
}

/// The JSON in such a file, whatever version wrote it; `None` if it is not in a known form or longer than `limit`.
#[must_use]
pub fn unpack_unpacked(bytes: &[u8], limit: usize) -> Option<Vec<u8>> {
    match bytes.split_first()? {
        (b'{' | b'[', _) => (bytes.len() <= limit).then(|| bytes.to_vec()),
        (&UNPACKED_ZSTD, packed) => {
            let mut out = Vec::new();
            unpack_stream(packed, limit, &mut out).then_some(out)
        }
        _ => None,
    }
}

/// Lends codecs to threads. There are never more than work at the same time.
#[derive(Debug)]
pub struct CodecPool {
    level: i32,
    idle: Mutex<Vec<Codec>>,
}

impl CodecPool {
    /// An empty pool.
    #[must_use]
    pub fn new(level: i32) -> Self {
        Self { level, idle: Mutex::new(Vec::new()) }
    }

    /// Frees those that nobody has: each holds contexts and buffers of some megabytes.
    pub fn give_back(&self) {
        self.idle.lock().clear();
    }

    #[cfg(test)]
    pub fn idle(&self) -> usize {
        self.idle.lock().len()
    }

    /// Runs `work` with a codec that nobody else has.
    ///
    /// # Errors
    /// `Zstd` when a codec cannot be made.
    pub fn with<T>(&self, work: impl FnOnce(&mut Codec) -> T) -> Result<T, RepositoryError> {
        let idle = self.idle.lock().pop();
        let mut codec = match idle {
            Some(codec) => codec,
            None => Codec::new(self.level)?,
        };
        let result = work(&mut codec);
        codec.trim();
        self.idle.lock().push(codec);
        Ok(result)
    }
}

#[cfg(test)]
mod tests;
