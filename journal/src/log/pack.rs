//! Payloads made shorter where that pays, and expanded again.
//!
//! A payload is stored as zstd makes it if that takes off at least an eighth, else as it is. Most bytes that do not
//! compress are found out from a sample of them: bytes of random, compressed or encrypted data are all about equally
//! frequent, those of nearly everything else are not. Data that only repeats itself, with a flat histogram, is taken for
//! random; that costs room, never truth.
//!
//! Expanding trusts nobody. Lengths come from a payload table under its checksum and are within the limits of a record
//! before anything is allocated; stored bytes must match their checksum before they reach zstd; what comes out must have
//! just the length and the checksum that the table says. So damage shows as damage, and never as other content.
//!
//! Contexts of zstd are large and are kept, a few of each kind.

use super::frame::PAYLOAD_BYTES_MAX;
use super::types::RecordDraft;
use crate::event::{PackedAt, PayloadAt};
use bytes::Bytes;
use parking_lot::Mutex;
use zstd::bulk::{Compressor, Decompressor};

/// Level of zstd: fast. Undo is mostly zeros, and redo is written while somebody waits for the acknowledgement.
const LEVEL: i32 = 1;
/// Shorter payloads are stored as they are.
const BYTES_MIN: usize = 64;
/// What packing must take off, as a share: one part of so many.
const GAIN: usize = 8;
/// Bytes of a payload that are counted, in stretches spread over it.
const SAMPLE_BYTES: usize = 512;
/// Bytes of a stretch.
const STRETCH_BYTES: usize = 64;
/// Contexts kept of each kind.
const IDLE_MAX: usize = 4;

/// How a payload is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Packed {
    /// CRC of the payload.
    pub(super) crc: u32,
    /// What is stored instead of it, with its CRC.
    pub(super) stored: Option<(Bytes, u32)>,
}

impl Packed {
    /// What it takes in memory beside the payload.
    pub(super) fn bytes(&self) -> usize {
        self.stored.as_ref().map_or(0, |(bytes, _)| bytes.len())
    }
}

/// Packs and expands payloads; shared by all threads.
#[derive(Default)]
pub(super) struct Packer {
    compressors: Mutex<Vec<Compressor<'static>>>,
    decompressors: Mutex<Vec<Decompressor<'static>>>,
}

impl Packer {
    /// How each payload of a draft is best stored.
    pub(super) fn pack_all(&self, draft: &RecordDraft) -> Vec<Packed> {
        draft.payloads.iter().map(|payload| self.pack(payload)).collect()
    }

    pub(super) fn pack(&self, payload: &Bytes) -> Packed {
        let crc = crc32c::crc32c(payload);
        let stored = if payload.len() >= BYTES_MIN && !looks_random(payload) {
            // Without a context, or where it fails, the payload is stored as it is.
            self.compress(payload).map(|bytes| {
                let crc = crc32c::crc32c(&bytes);
                (bytes, crc)
            })
        } else {
            None
        };
        Packed { crc, stored }
    }

    /// The compressed bytes, if they are enough fewer.
    fn compress(&self, payload: &[u8]) -> Option<Bytes> {
        let idle = self.compressors.lock().pop();
        let mut compressor = match idle {
            Some(idle) => idle,
            None => Compressor::new(LEVEL).ok()?,
        };
        let mut buffer: Vec<u8> = Vec::with_capacity(payload.len() - payload.len() / GAIN);
        // A buffer that does not take it all says that it is not worth it.
        let done = compressor.compress_to_buffer(payload, &mut buffer);
        keep(&self.compressors, compressor);
        done.ok()?;
        // What lies in a queue is counted by its length.
        buffer.shrink_to_fit();
        Some(buffer.into())
    }

    /// The payload at `at`, of which `stored` are the bytes in the segment.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(super) fn unpack(&self, at: &PayloadAt, stored: Bytes) -> Result<Bytes, &'static str> {
        let Some(PackedAt { bytes, crc }) = at.packed else {
            let whole = stored.len() == at.bytes as usize && crc32c::crc32c(&stored) == at.crc;
            return if whole { Ok(stored) } else { Err(MISMATCH) };
        };
        if stored.len() != bytes as usize || crc32c::crc32c(&stored) != crc {
            return Err(MISMATCH);
        }
        if at.bytes as usize > PAYLOAD_BYTES_MAX {
            return Err("a packed payload is longer than the limit");
        }
        let failed = "a packed payload does not expand";
        if !is_one_frame(&stored) {
            return Err(failed);
        }
        let idle = self.decompressors.lock().pop();
        let mut decompressor = match idle {
            Some(idle) => idle,
            None => Decompressor::new().map_err(|_| failed)?,
        };
        let mut buffer: Vec<u8> = Vec::with_capacity(at.bytes as usize);
        let done = decompressor.decompress_to_buffer(&stored, &mut buffer);
        keep(&self.decompressors, decompressor);
        done.map_err(|_| failed)?;
        if buffer.len() != at.bytes as usize || crc32c::crc32c(&buffer) != at.crc {
            return Err("a packed payload expands to other bytes");
        }
        Ok(buffer.into())
    }
}

/// Whether these bytes are one frame of the format of today: the decoder also takes several, frames to be skipped, and
/// formats of before there was one.
fn is_one_frame(stored: &[u8]) -> bool {
    let length = zstd::zstd_safe::find_frame_compressed_size(stored);
    stored.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) && length.is_ok_and(|length| length == stored.len())
}

const MISMATCH: &str = "a payload does not match its checksum";

fn keep<T>(idle: &Mutex<Vec<T>>, context: T) {
    let mut idle = idle.lock();
    if idle.len() < IDLE_MAX {
        idle.push(context);
    }
}

/// Whether the bytes of a sample are about equally frequent.
fn looks_random(payload: &[u8]) -> bool {
    let mut counts = [0_u32; 256];
    let mut counted = 0_u64;
    let stretches = SAMPLE_BYTES / STRETCH_BYTES;
    // Without rounding up, the last stretch still ends within the payload.
    let spacing = (payload.len() / stretches).max(1);
    for stretch in payload.chunks(spacing).take(stretches) {
        for byte in stretch.iter().take(STRETCH_BYTES) {
            if let Some(count) = counts.get_mut(usize::from(*byte)) {
                *count += 1;
            }
            counted += 1;
        }
    }
    let pairs: u64 = counts.iter().map(|count| u64::from(*count) * u64::from(count.saturating_sub(1))).sum();
    // Of two bytes of random data one in 256 pairs is equal; half as many again still counts as random.
    pairs * 256 * 2 < counted * counted.saturating_sub(1) * 3
}

#[cfg(test)]
mod tests;
