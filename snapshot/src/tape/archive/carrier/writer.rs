//! Writing the archive of a session as it is wanted: as it comes, or as a carrier.
//!
//! Bytes of the archive come in; what goes out is complete when [`Encoder::finish`] has returned. After an error nothing more
//! can be written: the caller gives the session up.

use super::super::label::SessionLabel;
use super::super::member::{Before, Head, Role, Short};
use super::super::writer::{member, own};
use super::super::{ArchiveError, BLOCK_BYTES, Result, ZEROS, padding};
use super::frames::Framer;
use super::pieces::End;
use super::{CarrierLabel, Encoding, PIECE_BYTES};
use crate::repository::{Id, Timestamp};
use age::stream::StreamWriter;
use sha2::{Digest, Sha256};
use std::io::{self, Write};

/// Takes the bytes of one archive.
pub struct Encoder<W: Write>(Out<W>);

enum Out<W: Write> {
    Plain(W),
    Clear { framer: Framer, pieces: Box<Pieces<W>>, at: u64 },
    Sealed { framer: Option<Framer>, age: Box<StreamWriter<Pieces<W>>> },
}

fn failed(source: io::Error) -> ArchiveError {
    ArchiveError::Write { offset: 0, source }
}

impl<W: Write> Encoder<W> {
    /// Begins what an archive with this label goes through; of a carrier that writes its label.
    ///
    /// # Errors
    /// `Write`; `Json`, `Label` of the carrier's label.
    pub fn begin(out: W, label: &SessionLabel, encoding: &Encoding) -> Result<Self> {
        if encoding.is_plain() {
            return Ok(Self(Out::Plain(out)));
        }
        let carrier = CarrierLabel::new(label, encoding)?;
        let pieces = Pieces::begin(out, &carrier).map_err(failed)?;
        let framer = match encoding.compression {
            super::Compression::None => None,
            super::Compression::Zstd => Some(Framer::new().map_err(failed)?),
        };
        Ok(Self(match (&encoding.key, framer) {
            (Some(key), framer) => Out::Sealed { framer, age: Box::new(key.seal(pieces).map_err(failed)?) },
            (None, Some(framer)) => Out::Clear { framer, pieces: Box::new(pieces), at: 0 },
            (None, None) => Out::Plain(pieces.out),
        }))
    }

    /// The archive has ended: writes what is left, and the end of a carrier.
    ///
    /// # Errors
    /// `Write`.
    pub fn finish(self) -> Result<W> {
        let finish = || match self.0 {
            Out::Plain(out) => Ok(out),
            Out::Clear { mut framer, mut pieces, mut at } => {
                frame(&mut framer, &mut at, &mut pieces)?;
                pieces.finish()
            }
            Out::Sealed { framer, mut age } => {
                if let Some((frame, _)) = framer.map(|mut framer| framer.frame()).transpose()?.flatten() {
                    age.write_all(&frame)?;
                }
                age.finish()?.finish()
            }
        };
        finish().map_err(failed)
    }
}

/// Writes a frame that is a piece.
fn frame<W: Write>(framer: &mut Framer, at: &mut u64, pieces: &mut Pieces<W>) -> io::Result<()> {
    if let Some((frame, length)) = framer.frame()? {
        pieces.piece(&frame, (*at, length as u64))?;
        *at += length as u64;
    }
    Ok(())
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Out::Plain(out) => out.write(bytes),
            Out::Clear { framer, pieces, at } => {
                let count = framer.take(bytes);
                if framer.is_full() {
                    frame(framer, at, pieces)?;
                }
                Ok(count)
            }
            Out::Sealed { framer: None, age } => age.write(bytes),
            Out::Sealed { framer: Some(framer), age } => {
                let count = framer.take(bytes);
                if framer.is_full()
                    && let Some((frame, _)) = framer.frame()?
                {
                    age.write_all(&frame)?;
                }
                Ok(count)
            }
        }
    }

    /// Of a carrier nothing: pieces are as long as they are, whoever waits.
    fn flush(&mut self) -> io::Result<()> {
        match &mut self.0 {
            Out::Plain(out) => out.flush(),
            Out::Clear { .. } | Out::Sealed { .. } => Ok(()),
        }
    }
}

/// Writes the members of a carrier.
struct Pieces<W> {
    out: W,
    at: u64,
    session: Short,
    time: Timestamp,
    before: Before,
    number: u64,
    /// Encrypted bytes that are no piece yet.
    gathered: Vec<u8>,
    all: Sha256,
    bytes: u64,
}

impl<W: Write> Pieces<W> {
    fn begin(out: W, label: &CarrierLabel) -> io::Result<Self> {
        let (session, time) = (label.short(), label.fields().written);
        let (before, all) = (Before::Nothing, Sha256::new());
        let (at, number, bytes, gathered) = (0, 0, 0, Vec::new());
        let mut pieces = Self { out, at, session, time, before, number, gathered, all, bytes };
        pieces.member(Role::Label, "label.json", label.json(), (0, 0))?;
        Ok(pieces)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    fn member(&mut self, role: Role, name: &str, content: &[u8], plain: (u64, u64)) -> io::Result<()> {
        let path = format!(".rewind/{}/{name}", String::from_utf8_lossy(&self.session));
        let (path, mut node) = own(path, content.len() as u64, self.time);
        (node.device_id, node.inode) = plain;
        let mut member = member(&path, &node);
        member.offset = self.at;
        let head = Head { session: self.session, role, before: self.before, member };
        self.put(&head.encode().map_err(io::Error::other)?)?;
        self.put(content)?;
        self.put(ZEROS.get(..padding(content.len() as u64)).unwrap_or_default())?;
        self.before = Before::Content(Id::of(content));
        Ok(())
    }

    /// A piece, and where its bytes belong in the archive.
    fn piece(&mut self, content: &[u8], plain: (u64, u64)) -> io::Result<()> {
        self.number += 1;
        self.all.update(content);
        self.bytes += content.len() as u64;
        self.member(Role::Data, &format!("data-{:08}", self.number), content, plain)
    }

    fn finish(mut self) -> io::Result<W> {
        let gathered = std::mem::take(&mut self.gathered);
        if !gathered.is_empty() {
            self.piece(&gathered, (0, 0))?;
        }
        let sha256 = Id(std::mem::take(&mut self.all).finalize().into());
        let end =
            serde_json::to_vec(&End::new((self.number, self.bytes), sha256)).map_err(io::Error::other)?;
        self.member(Role::End, "end.json", &end, (0, 0))?;
        self.put(&[0; 2 * BLOCK_BYTES])?;
        self.out.flush()?;
        Ok(self.out)
    }
}

impl<W: Write> Write for Pieces<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = PIECE_BYTES.saturating_sub(self.gathered.len()).min(bytes.len());
        self.gathered.extend_from_slice(bytes.get(..room).unwrap_or_default());
        if self.gathered.len() >= PIECE_BYTES {
            let piece = std::mem::take(&mut self.gathered);
            self.piece(&piece, (0, 0))?;
            self.gathered = piece;
            self.gathered.clear();
        }
        Ok(room)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
