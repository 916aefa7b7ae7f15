//! Frames of zstd: written one by one, read one by one or as a stream.
//!
//! A frame holds at most [`PLAIN_BYTES_MAX`] bytes, has a checksum, and needs no other one. A reader stops at a frame that gives
//! more, before it has given them: what a few bytes can become is bounded.

use super::PLAIN_BYTES_MAX;
use std::io::{self, ErrorKind, Read};
use zstd::bulk::Compressor;
use zstd::stream::raw::{Decoder, InBuffer, Operation, OutBuffer};
use zstd::zstd_safe::{CParameter, DParameter};

const LEVEL: i32 = 3;
/// Largest window a frame may ask for, as a power of two: that of `zstd -19`.
const WINDOW_LOG_MAX: u32 = 23;
const ROOM_BYTES: usize = 64 << 10;
/// What every frame begins with.
pub(super) const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

fn bad(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what.to_owned())
}

/// Gathers bytes and makes frames of them.
pub(super) struct Framer {
    zstd: Compressor<'static>,
    plain: Vec<u8>,
}

impl Framer {
    pub fn new() -> io::Result<Self> {
        let mut zstd = Compressor::new(LEVEL)?;
        zstd.set_parameter(CParameter::ChecksumFlag(true))?;
        Ok(Self { zstd, plain: Vec::with_capacity(PLAIN_BYTES_MAX) })
    }

    /// Takes as many bytes as there is room for.
    pub fn take(&mut self, bytes: &[u8]) -> usize {
        let room = PLAIN_BYTES_MAX.saturating_sub(self.plain.len()).min(bytes.len());
        self.plain.extend_from_slice(bytes.get(..room).unwrap_or_default());
        room
    }

    pub fn is_full(&self) -> bool {
        self.plain.len() >= PLAIN_BYTES_MAX
    }

    /// A frame of what was gathered, and how much that was; `None` of nothing.
    pub fn frame(&mut self) -> io::Result<Option<(Vec<u8>, usize)>> {
        if self.plain.is_empty() {
            return Ok(None);
        }
        let frame = self.zstd.compress(&self.plain)?;
        let plain = self.plain.len();
        self.plain.clear();
        Ok(Some((frame, plain)))
    }
}

/// What a piece that is one frame holds, if it holds that many bytes and nothing is behind it.
pub(super) fn unframed(piece: &[u8], length: usize) -> io::Result<Vec<u8>> {
    let mut plain = Vec::with_capacity(length);
    let mut frames = Unframer::new(piece)?;
    frames.read_to_end(&mut plain)?;
    if plain.len() != length || frames.count != 1 {
        return Err(bad("it is not the frame that its header says"));
    }
    Ok(plain)
}

/// Reads frames, one behind the other.
pub(super) struct Unframer<R> {
    input: R,
    zstd: Decoder<'static>,
    /// What was read, and how much of it was used.
    packed: Vec<u8>,
    used: usize,
    is_end: bool,
    /// Bytes that the frame at hand has given; `None` between frames.
    given: Option<usize>,
    /// Frames that were read to their ends.
    count: u64,
    has_failed: bool,
}

impl<R: Read> Unframer<R> {
    pub fn new(input: R) -> io::Result<Self> {
        let mut zstd = Decoder::new()?;
        zstd.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX))?;
        let (packed, used, is_end, given) = (Vec::new(), 0, false, None);
        Ok(Self { input, zstd, packed, used, is_end, given, count: 0, has_failed: false })
    }

    fn fill(&mut self) -> io::Result<()> {
        self.packed.resize(ROOM_BYTES, 0);
        let read = self.input.read(&mut self.packed)?;
        self.packed.truncate(read);
        (self.used, self.is_end) = (0, read == 0);
        Ok(())
    }

    fn some(&mut self, room: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.used >= self.packed.len() && !self.is_end {
                self.fill()?;
            }
            if self.is_end && self.given.is_none() {
                return Ok(0);
            }
            let given = self.given.unwrap_or(0);
            // One byte more than there may be shows that there are more.
            let left = (PLAIN_BYTES_MAX - given).saturating_add(1).min(room.len());
            let mut input = InBuffer::around(self.packed.get(self.used..).unwrap_or_default());
            let mut output = OutBuffer::around(room.get_mut(..left).unwrap_or_default());
            let hint = self.zstd.run(&mut input, &mut output)?;
            let (read, wrote) = (input.pos(), output.pos());
            self.used += read;
            let given = given + wrote;
            if given > PLAIN_BYTES_MAX {
                return Err(bad("a frame of zstd holds more than it may"));
            }
            self.given = (hint != 0).then_some(given);
            self.count += u64::from(hint == 0);
            if wrote > 0 {
                return Ok(wrote);
            }
            if read == 0 && self.is_end && hint != 0 {
                return Err(io::Error::new(ErrorKind::UnexpectedEof, "it ends in a frame of zstd"));
            }
        }
    }
}

impl<R: Read> Read for Unframer<R> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        if room.is_empty() {
            return Ok(0);
        }
        if self.has_failed {
            return Err(bad("reading frames of zstd has failed before"));
        }
        self.some(room).inspect_err(|_| self.has_failed = true)
    }
}
