//! Where the bytes of an archive come from: from the input as they are, or out of the pieces of a carrier.
//!
//! Whoever opens a carrier whose label is damaged goes by what is in the pieces: the header of one that is not encrypted
//! says how many bytes it holds, and what is encrypted and compressed begins as zstd does.

use super::super::member::Short;
use super::super::{ArchiveError, Result};
use super::frames::{MAGIC, Unframer, unframed};
use super::key::Opened;
use super::pieces::{Piece, Pieces, Report, Shared};
use super::{Compression, PIECE_COST_MIN, PLAIN_BYTES_MAX, TapeKey};
use crate::repository::Id;
use std::io::{self, Chain, Cursor, ErrorKind, Read};

/// Bytes behind an archive that are read to come to the end of its carrier, at most.
const BEHIND_BYTES_MAX: u64 = 64 << 10;

/// The bytes of an archive.
pub(in super::super) enum Source<R: Read> {
    /// As they come.
    Plain(R),
    /// Compressed.
    Clear(Box<Clear<R>>),
    /// Encrypted.
    Sealed(Box<Sealed<R>>),
}

impl<R: Read> Read for Source<R> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(input) => input.read(room),
            Self::Clear(clear) => clear.read(room),
            // What age and zstd say does not say where.
            Self::Sealed(sealed) => sealed.bytes.read(room).map_err(|error| {
                let (text, last) = (error.to_string(), &sealed.about.report.lock().last);
                // What a piece lacks says it already.
                if text.contains("data-") {
                    error
                } else {
                    io::Error::new(error.kind(), format!("{text}, up to {last}"))
                }
            }),
        }
    }
}

impl<R: Read> Source<R> {
    /// Opens a carrier.
    ///
    /// # Errors
    /// `KeyWanted`, `WrongKey`; `Carrier` if what age encrypted cannot be begun.
    pub fn open(mut pieces: Pieces<R>, key: Option<&TapeKey>) -> Result<Self> {
        let label = pieces.label();
        let stated = label.map(|label| (label.is_encrypted(), label.compression()));
        let session = label.map(|label| label.session());
        let (short, report) = (pieces.session(), pieces.report());
        let first = pieces.next();
        let is_encrypted = match (stated, &first) {
            (Some((is_encrypted, _)), _) => is_encrypted,
            (None, Some(piece)) => plain_of(piece).1 == 0,
            (None, None) => false,
        };
        let about = About { session, short, report };
        if !is_encrypted {
            let clear = Clear { pieces, about, next: first, at: 0, zeros: 0, ready: Vec::new(), given: 0 };
            return Ok(Self::Clear(Box::new(clear)));
        }
        let Some(key) = key else {
            let session = about.name();
            return Err(ArchiveError::KeyWanted { session });
        };
        let opened =
            key.open(OfPieces { pieces, next: first, content: Vec::new(), given: 0, failure: None })?;
        let bytes = Decrypted::begin(opened, stated.map(|(_, compression)| compression))?;
        Ok(Self::Sealed(Box::new(Sealed { bytes, about })))
    }

    /// What is wrong with the carrier, when the archive in it was read; that one's id is compared with what the carrier says.
    pub fn finish(&mut self, inside: Option<&Id>) -> Report {
        if let Self::Plain(_) = self {
            return Report { has_end: true, ..Report::default() };
        }
        let behind = io::copy(&mut (&mut *self).take(BEHIND_BYTES_MAX), &mut io::sink());
        let about = match self {
            Self::Plain(_) => return Report::default(),
            Self::Clear(clear) => &clear.about,
            Self::Sealed(sealed) => &sealed.about,
        };
        if about.session.as_ref().zip(inside).is_some_and(|(stated, inside)| stated != inside) {
            about.report.lock().note(
                about.path("label.json"),
                0,
                "what is in the carrier is another session",
            );
        }
        match behind {
            Ok(bytes) if bytes >= BEHIND_BYTES_MAX => {
                about.report.lock().note(about.path("end.json"), 0, "it goes on behind the archive in it");
            }
            // The archive may be whole without what is behind its catalog; what other programs read then is not.
            Err(error) if about.report.lock().is_empty() => {
                about.report.lock().note(about.path("end.json"), 0, &error.to_string());
            }
            _ => {}
        }
        Pieces::<R>::close(&about.report, about.short)
    }
}

/// What a carrier says of itself.
struct About {
    session: Option<Id>,
    short: Option<Short>,
    report: Shared,
}

impl About {
    fn path(&self, name: &str) -> String {
        let short = self.short.unwrap_or_default();
        format!(".rewind/{}/{name}", String::from_utf8_lossy(&short))
    }

    fn name(&self) -> String {
        let short = || String::from_utf8_lossy(&self.short.unwrap_or_default()).into_owned();
        self.session.map_or_else(short, |id| id.short())
    }
}

/// Where the bytes of a piece belong in the archive, and how many they are; 0 of an encrypted one.
fn plain_of(piece: &Piece) -> (u64, u64) {
    (piece.member.node.device_id, piece.member.node.inode)
}

/// Copies as many bytes as there is room for.
fn copied(from: &[u8], to: &mut [u8]) -> usize {
    let count = from.len().min(to.len());
    if let (Some(to), Some(from)) = (to.get_mut(..count), from.get(..count)) {
        to.copy_from_slice(from);
    }
    count
}

/// Pieces that are frames, with zeros for those that are lost.
pub(in super::super) struct Clear<R: Read> {
    pieces: Pieces<R>,
    about: About,
    next: Option<Piece>,
    /// Bytes of the archive up to the end of what is ready.
    at: u64,
    /// Given before what is ready.
    zeros: u64,
    ready: Vec<u8>,
    given: usize,
}

impl<R: Read> Clear<R> {
    fn note(&self, piece: &Piece, reason: &str) {
        self.about.report.lock().note(piece.name(), piece.member.offset, reason);
    }

    fn take(&mut self, piece: &Piece) {
        let (offset, length) = plain_of(piece);
        let Some(gap) =
            offset.checked_sub(self.at).filter(|_| (1..=PLAIN_BYTES_MAX as u64).contains(&length))
        else {
            return self.note(piece, "its header does not say what it holds");
        };
        // Of what is gone from the input altogether, nobody knows how much it was: then nothing stands for it, and the
        // archive's own headers say where they are.
        let bound = (piece.passed / PIECE_COST_MIN).saturating_mul(PLAIN_BYTES_MAX as u64);
        if gap <= bound {
            self.zeros = gap;
        }
        if gap > 0 && piece.lost == 0 {
            self.note(piece, "it does not go on where the piece before it ends");
        }
        self.at = offset.saturating_add(length);
        (self.ready, self.given) = (Vec::new(), 0);
        if !piece.is_right {
            self.zeros = self.zeros.saturating_add(length);
            return;
        }
        match unframed(&piece.content, length as usize) {
            Ok(plain) => self.ready = plain,
            Err(error) => {
                self.zeros = self.zeros.saturating_add(length);
                self.note(piece, &format!("it cannot be decompressed: {error}"));
            }
        }
    }
}

impl<R: Read> Read for Clear<R> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.zeros > 0 {
                let count = room.len().min(usize::try_from(self.zeros).unwrap_or(usize::MAX));
                room.get_mut(..count).unwrap_or_default().fill(0);
                self.zeros -= count as u64;
                return Ok(count);
            }
            let rest = self.ready.get(self.given..).unwrap_or_default();
            if !rest.is_empty() || room.is_empty() {
                let count = copied(rest, room);
                self.given += count;
                return Ok(count);
            }
            match self.next.take().or_else(|| self.pieces.next()) {
                Some(piece) => self.take(&piece),
                None => return self.pieces.failure().map_or(Ok(0), |why| Err(io::Error::other(why))),
            }
        }
    }
}

/// The bytes of pieces up to the first that is not what was written.
struct OfPieces<R: Read> {
    pieces: Pieces<R>,
    next: Option<Piece>,
    content: Vec<u8>,
    given: usize,
    failure: Option<String>,
}

impl<R: Read> Read for OfPieces<R> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        while self.given == self.content.len() && self.failure.is_none() {
            let Some(piece) = self.next.take().or_else(|| self.pieces.next()) else {
                match (self.pieces.failure(), self.pieces.lost_behind()) {
                    (None, 0) => return Ok(0),
                    (Some(why), _) => return Err(io::Error::other(why)),
                    (None, lost) => self.failure = Some(lost_before(lost, "end.json")),
                }
                break;
            };
            let (name, offset) = (piece.name(), piece.member.offset);
            self.pieces.report().lock().last = format!("{name} at offset {offset} of the carrier");
            let fault = match (piece.is_right, piece.lost) {
                (true, 0) => None,
                (true, lost) => Some(lost_before(lost, &name)),
                (false, _) => Some(format!("{name} at offset {offset} of the carrier is damaged")),
            };
            self.failure = fault.map(|fault| format!("{fault}, and what is behind it cannot be decrypted"));
            (self.content, self.given) = (piece.content, 0);
        }
        if let Some(failure) = &self.failure {
            return Err(io::Error::new(ErrorKind::InvalidData, failure.clone()));
        }
        let rest = self.content.get(self.given..).unwrap_or_default();
        let count = copied(rest, room);
        self.given += count;
        Ok(count)
    }
}

fn lost_before(lost: u64, name: &str) -> String {
    format!("{lost} pieces (data-) of the carrier before {name} are damaged or missing")
}

/// What is encrypted, open.
pub(in super::super) struct Sealed<R: Read> {
    bytes: Decrypted<OfPieces<R>>,
    about: About,
}

/// Bytes that were looked at, and the rest.
type Looked<R> = Chain<Cursor<Vec<u8>>, Opened<R>>;

enum Decrypted<R: Read> {
    Plain(Looked<R>),
    Frames(Box<Unframer<Looked<R>>>),
}

impl<R: Read> Decrypted<R> {
    fn begin(mut opened: Opened<R>, stated: Option<Compression>) -> Result<Self> {
        let carrier = |what: String| ArchiveError::Carrier { what };
        let mut start = Vec::new();
        let read = (&mut opened).take(MAGIC.len() as u64).read_to_end(&mut start);
        read.map_err(|error| carrier(error.to_string()))?;
        let found = if start == MAGIC { Compression::Zstd } else { Compression::None };
        if stated.is_some_and(|stated| stated != found) && !start.is_empty() {
            return Err(carrier("it is not compressed as its label says".to_owned()));
        }
        let looked = Cursor::new(start).chain(opened);
        Ok(match found {
            Compression::None => Self::Plain(looked),
            Compression::Zstd => {
                let frames = Unframer::new(looked).map_err(|error| carrier(error.to_string()))?;
                Self::Frames(Box::new(frames))
            }
        })
    }
}

impl<R: Read> Read for Decrypted<R> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(bytes) => bytes.read(room),
            Self::Frames(frames) => frames.read(room),
        }
    }
}
