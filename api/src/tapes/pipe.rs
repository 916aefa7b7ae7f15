//! Bytes from one thread to another, at most [`PIECES`] pieces of [`PIECE_BYTES`] at a time.
//!
//! Who writes waits while the reader is behind, and fails when the reader is gone. The end comes when the writer is dropped;
//! that it came too early the reader has to see in the bytes.

use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Bytes of a piece.
const PIECE_BYTES: usize = 256 << 10;
/// Pieces on the way.
const PIECES: usize = 8;

/// The end that is written to.
pub(super) struct Writer {
    to: SyncSender<Vec<u8>>,
    piece: Vec<u8>,
}

/// The end that is read from.
pub(super) struct Reader {
    from: Receiver<Vec<u8>>,
    piece: Vec<u8>,
    given: usize,
}

/// A pipe.
pub(super) fn pipe() -> (Writer, Reader) {
    let (to, from) = sync_channel(PIECES);
    (Writer { to, piece: Vec::new() }, Reader { from, piece: Vec::new(), given: 0 })
}

impl Writer {
    fn send(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE_BYTES));
        self.to.send(piece).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = PIECE_BYTES.saturating_sub(self.piece.len()).min(bytes.len());
        self.piece.extend_from_slice(bytes.get(..room).unwrap_or_default());
        if self.piece.len() >= PIECE_BYTES {
            self.send()?;
        }
        Ok(room)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // A reader that is gone misses nothing.
        drop(self.send());
    }
}

impl Read for Reader {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        while self.given == self.piece.len() {
            match self.from.recv() {
                Ok(piece) => (self.piece, self.given) = (piece, 0),
                Err(_) => return Ok(0),
            }
        }
        let ready = self.piece.get(self.given..).unwrap_or_default();
        let count = ready.len().min(room.len());
        if let (Some(to), Some(from)) = (room.get_mut(..count), ready.get(..count)) {
            to.copy_from_slice(from);
        }
        self.given += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_comes_through_in_order() {
        let sent: Vec<u8> = (0..3_000_007_u32).map(|n| (n % 251) as u8).collect();
        let (mut writer, mut reader) = pipe();
        let mut got = Vec::new();
        std::thread::scope(|scope| {
            let reading = scope.spawn(move || {
                let mut got = Vec::new();
                reader.read_to_end(&mut got).unwrap();
                got
            });
            for piece in sent.chunks(70_001) {
                writer.write_all(piece).unwrap();
            }
            drop(writer);
            got = reading.join().unwrap();
        });
        assert!(got == sent);
    }

    #[test]
    fn a_reader_that_is_gone_is_an_error() {
        let (mut writer, reader) = pipe();
        drop(reader);
        assert!(writer.write_all(&vec![0; 2 * PIECE_BYTES]).is_err());
    }
}
