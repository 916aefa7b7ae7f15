//! Writing past the page cache.
//!
//! Direct writes want memory, offsets and lengths in whole blocks, and not every file system has them. So pieces of whole
//! blocks go through an aligned buffer as long as the system takes them; whatever is left, be it the tail or all of it,
//! is written in the usual way. What is written does not depend on how: the two never touch the same block, and the
//! caller syncs the file in either case.

use rustix::fs::OFlags;
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Write};

/// Of fewer bytes nothing is gained.
const BYTES_MIN: usize = 1 << 20;
/// Bytes of one write.
const PIECE: usize = 1 << 20;
/// No device in use has larger blocks.
const BLOCK: usize = 4096;

/// Writes all bytes to a new, empty file.
///
/// # Errors
/// Those of the system.
pub(super) fn write(file: &mut File, bytes: &[u8]) -> io::Result<()> {
    let mut rest = bytes;
    if bytes.len() >= BYTES_MIN && switch(file, true).is_ok() {
        let outcome = pieces(file, &mut rest);
        switch(file, false)?;
        outcome?;
    }
    file.write_all(rest)
}

fn switch(file: &File, direct: bool) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(file)?;
    let flags = if direct { flags | OFlags::DIRECT } else { flags - OFlags::DIRECT };
    Ok(rustix::fs::fcntl_setfl(file, flags)?)
}

/// Writes whole blocks off the front of `rest` until less than one is left or the system wants none.
fn pieces(file: &mut File, rest: &mut &[u8]) -> io::Result<()> {
    let mut room = vec![0; PIECE + BLOCK];
    let skip = room.as_ptr().align_offset(BLOCK);
    let Some(aligned) = room.get_mut(skip..).and_then(|room| room.get_mut(..PIECE)) else { return Ok(()) };
    loop {
        let length = rest.len().min(PIECE) / BLOCK * BLOCK;
        let (Some(from), Some(piece)) = (rest.get(..length), aligned.get_mut(..length)) else {
            return Ok(());
        };
        if length == 0 {
            return Ok(());
        }
        piece.copy_from_slice(from);
        let written = match file.write(piece) {
            Ok(written) => written,
            Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        *rest = rest.get(written..).unwrap_or_default();
        // A write that fell short ends wherever it likes: the rest has to go the other way.
        if written != length {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests;
