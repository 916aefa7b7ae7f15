//! Reads a session from the volumes it was written to, in one pass forward.
//!
//! What comes out is byte for byte what went in: beginnings of parts and the end of the session are taken out again.
//! Each volume is asked for by name and verified by label and id; each part says which it is, at which byte it goes on,
//! and what the part before it was: so many blocks with that checksum. The end of the session says that of the last.
//!
//! **What is wrong is said with the name of the part.** What cannot be read fails at once. What was read but is not what
//! was written is noticed at the end of its part, when its bytes have gone out: who reads must not believe anything
//! before the reader has come to its end without an error.

use super::changer::Changer;
use super::drive::{Drive, DriveError, DriveErrorKind, Met, Position, Wanted};
use super::error::TapeError;
use super::header::{self, UNIT, Unit};
use super::part::{Beginning, EndRecord, PROLOGUE_BYTES_MAX, PartLabel, parse_beginning, short};
use super::span_writer::PartPlace;
use super::volume;
use std::io::{self, Read};

/// Most zeros that the end of a session may ask for behind what is on the tape, in bytes.
const ZEROS_MAX: u64 = 64 << 20;
const OTHER_BYTES: &str = "its bytes are not those that were written";

/// What was read of the part before.
struct Before {
    blocks: u64,
    crc32c: u32,
}

/// Reads one session.
pub struct SpanReader<'d> {
    drive: &'d mut dyn Drive,
    changer: &'d mut dyn Changer,
    session: String,
    parts: Vec<PartPlace>,
    /// Index of the part that is open, or of the one to be opened.
    index: usize,
    is_open: bool,
    /// The block before the one that is read next: whether it is the last is known when that one is met.
    held: Option<Vec<u8>>,
    /// Blocks of the part that were taken, and their checksum.
    blocks: u64,
    crc32c: u32,
    before: Option<Before>,
    /// Bytes of the archive that are proved by the checksums of their parts.
    checked: u64,
    /// Bytes of the archive up to the end of `ready`.
    offset: u64,
    /// The beginning of a part, as far as it was read.
    beginning: Option<Vec<u8>>,
    ready: Vec<u8>,
    given: usize,
    zeros: u64,
    is_done: bool,
    has_failed: bool,
}

impl<'d> SpanReader<'d> {
    /// A reader of a session whose parts lie at these places, in their order.
    ///
    /// # Errors
    /// `NotWhole` if there are none.
    pub fn new(
        drive: &'d mut dyn Drive,
        changer: &'d mut dyn Changer,
        session: &str,
        parts: Vec<PartPlace>,
    ) -> Result<Self, TapeError> {
        if parts.is_empty() {
            return Err(TapeError::NotWhole { session: session.to_owned() });
        }
        Ok(Self {
            drive,
            changer,
            session: session.to_owned(),
            parts,
            index: 0,
            is_open: false,
            held: None,
            blocks: 0,
            crc32c: 0,
            before: None,
            checked: 0,
            offset: 0,
            beginning: None,
            ready: Vec::new(),
            given: 0,
            zeros: 0,
            is_done: false,
            has_failed: false,
        })
    }

    fn part(&self) -> u32 {
        u32::try_from(self.index).unwrap_or(u32::MAX).saturating_add(1)
    }

    fn is_last(&self) -> bool {
        self.index + 1 == self.parts.len()
    }

    fn damaged(&self, what: &'static str, source: Option<DriveError>) -> TapeError {
        let at = source.as_ref().map_or_else(|| self.drive.position(), |source| source.at);
        self.damage(self.index, at, self.offset, what, source)
    }

    fn damage(
        &self,
        index: usize,
        at: Position,
        offset: u64,
        what: &'static str,
        source: Option<DriveError>,
    ) -> TapeError {
        let media = self.parts.get(index).map(|part| part.media.clone()).unwrap_or_default();
        let part = u32::try_from(index).unwrap_or(u32::MAX).saturating_add(1);
        let source = source.map(Box::new);
        TapeError::Damaged { session: self.session.clone(), part, media, at, offset, what, source }
    }

    /// Puts the volume of the next part in and goes to it.
    fn open(&mut self) -> Result<(), TapeError> {
        let Some(place) = self.parts.get(self.index).cloned() else {
            return Err(TapeError::NotWhole { session: self.session.clone() });
        };
        let is_in = |drive: &mut dyn Drive| {
            volume::verify(drive, Some(&place.media), None).is_ok_and(|label| label.id == place.volume)
        };
        if !is_in(self.drive) {
            self.drive.eject()?;
            let (session, part, media) = (self.session.clone(), self.part(), place.media.clone());
            self.changer.load(self.drive, Wanted::Named(&place.media)).map_err(|error| match error {
                TapeError::Drive { source } if volume::wants_a_person(source.kind) => {
                    TapeError::MissingVolume { session, part, media, source: Some(Box::new(source)) }
                }
                other => other,
            })?;
            let label = volume::verify(self.drive, Some(&place.media), None)?;
            if label.id != place.volume {
                let PartPlace { media, volume, .. } = place;
                return Err(TapeError::Relabelled { media, wanted: volume, found: label.id });
            }
        }
        self.drive.locate(place.file).map_err(|source| match source.kind {
            DriveErrorKind::NoPlace => self.damaged("the tape file is not there", Some(source)),
            _ => source.into(),
        })?;
        (self.blocks, self.crc32c, self.held) = (0, 0, None);
        self.beginning = (self.index > 0).then(Vec::new);
        self.is_open = true;
        Ok(())
    }

    /// Reads on, until there are bytes to give or nothing is left.
    fn advance(&mut self) -> Result<(), TapeError> {
        self.ready.clear();
        self.given = 0;
        while self.ready.is_empty() && self.zeros == 0 && !self.is_done {
            if !self.is_open {
                self.open()?;
            }
            let mut block = vec![0; self.drive.block_bytes()];
            let met = self.drive.read(&mut block).map_err(|source| match source.kind {
                DriveErrorKind::Media => self.damaged("it cannot be read", Some(source)),
                _ => source.into(),
            })?;
            match met {
                Met::Block(bytes) => {
                    block.truncate(bytes);
                    if let Some(block) = self.held.replace(block) {
                        self.accept(block)?;
                    }
                }
                Met::Filemark => self.close()?,
                Met::EndOfData => return Err(self.damaged("it was cut off", None)),
            }
        }
        Ok(())
    }

    /// Takes a block that is the archive's, but for the beginning of a part.
    fn accept(&mut self, block: Vec<u8>) -> Result<(), TapeError> {
        self.crc32c = crc32c::crc32c_append(self.crc32c, &block);
        if self.blocks == 0 && self.index == 0 {
            self.check_first(&block)?;
        }
        self.blocks += 1;
        self.archive(block)
    }

    /// Whether the first member is of the session.
    fn check_first(&self, block: &[u8]) -> Result<(), TapeError> {
        let name = format!(".rewind/{}/", short(&self.session));
        let is_named = |unit: &Unit| {
            header::parse(unit).is_some_and(|first| {
                // The name of an extended header is not that of its member. A global one begins a part that goes on.
                first.kind == b'x' || (first.kind == b'0' && first.name.starts_with(name.as_bytes()))
            })
        };
        match block.first_chunk::<UNIT>() {
            Some(unit) if is_named(unit) => Ok(()),
            _ => Err(self.damaged("it is not the beginning of the session", None)),
        }
    }

    /// Gives bytes out, after the beginning of a part is taken off.
    fn archive(&mut self, bytes: Vec<u8>) -> Result<(), TapeError> {
        let bytes = match self.beginning.take() {
            None => bytes,
            Some(mut beginning) => {
                beginning.extend_from_slice(&bytes);
                match parse_beginning(&beginning) {
                    Beginning::Part(label, length) => {
                        self.check_part(&label)?;
                        beginning.split_off(length)
                    }
                    Beginning::TooShort if beginning.len() <= 2 * PROLOGUE_BYTES_MAX => {
                        self.beginning = Some(beginning);
                        Vec::new()
                    }
                    _ => return Err(self.damaged("it does not say which part it is", None)),
                }
            }
        };
        self.offset += bytes.len() as u64;
        self.ready = bytes;
        Ok(())
    }

    fn check_part(&mut self, label: &PartLabel) -> Result<(), TapeError> {
        if label.session != self.session || label.part != self.part() {
            return Err(self.damaged("it is another part", None));
        }
        let Some((before, prior)) = self.before.as_ref().zip(self.parts.get(self.index.wrapping_sub(1)))
        else {
            return Err(self.damaged("it has no part before it", None));
        };
        let is_prior = label.prior.volume == prior.volume && label.prior.file == prior.file;
        if !is_prior || label.offset != self.offset || label.prior.blocks != before.blocks {
            return Err(self.damaged("it does not go on where the part before it ends", None));
        }
        if label.prior.crc32c != before.crc32c {
            // The part before is gone through, and this one tells.
            let at = Position { file: prior.file, block: 0 };
            return Err(self.damage(self.index - 1, at, self.checked, OTHER_BYTES, None));
        }
        self.checked = self.offset;
        Ok(())
    }

    /// A filemark was met: the block that is held is the last of its part.
    fn close(&mut self) -> Result<(), TapeError> {
        let Some(mut block) = self.held.take() else {
            return Err(self.damaged("it is empty", None));
        };
        self.is_open = false;
        if !self.is_last() {
            self.accept(block)?;
            if self.beginning.is_some() {
                return Err(self.damaged("it does not say which part it is", None));
            }
            self.before = Some(Before { blocks: self.blocks, crc32c: self.crc32c });
            self.index += 1;
            return Ok(());
        }
        let Some(end) = EndRecord::parse(&block).filter(|end| end.session == self.session) else {
            return Err(self.damaged("it does not hold the end of the session", None));
        };
        block.truncate(block.len().saturating_sub(UNIT));
        self.accept(block)?;
        if end.part != self.part() || end.blocks != self.blocks {
            return Err(self.damaged("it is not as long as it was", None));
        }
        if end.crc32c != self.crc32c {
            let at = Position { file: self.drive.position().file.saturating_sub(1), block: 0 };
            return Err(self.damage(self.index, at, self.checked, OTHER_BYTES, None));
        }
        // Zeros fill the block; how many of them are the archive's, and how many are not on the tape, is known now.
        let surplus = usize::try_from(self.offset.saturating_sub(end.length)).unwrap_or(usize::MAX);
        self.zeros = end.length.saturating_sub(self.offset);
        let kept = self.ready.len().checked_sub(surplus);
        let (Some(kept), true) = (kept, self.zeros <= ZEROS_MAX && self.beginning.is_none()) else {
            return Err(self.damaged("it is not as long as it was", None));
        };
        self.ready.truncate(kept);
        self.is_done = true;
        Ok(())
    }
}

impl Read for SpanReader<'_> {
    /// Gives the archive's bytes. An error holds a [`TapeError`]; after one there is nothing more to be read.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.has_failed {
            return Err(TapeError::FailedBefore.into());
        }
        let is_empty = self.given == self.ready.len() && self.zeros == 0 && !self.is_done;
        if is_empty && let Err(error) = self.advance() {
            self.has_failed = true;
            return Err(error.into());
        }
        let rest = self.ready.get(self.given..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        if count > 0 {
            buffer.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
            self.given += count;
            return Ok(count);
        }
        let zeros = buffer.len().min(usize::try_from(self.zeros).unwrap_or(usize::MAX));
        buffer.iter_mut().take(zeros).for_each(|byte| *byte = 0);
        self.zeros -= zeros as u64;
        Ok(zeros)
    }
}
