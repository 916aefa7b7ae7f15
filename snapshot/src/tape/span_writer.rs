//! Writes the archive of a session to as many volumes as it takes. `TAPE.md` (section "Parts") is normative.
//!
//! Bytes come in, are parsed ([`super::walk`]), and go out in blocks once they are settled. A block stays in memory until
//! the drive has taken it: one that met the end of the medium goes to the next volume, behind the beginning of a part
//! that fits what lies there. A part is closed by a filemark only if it holds bytes of the session; one that holds
//! nothing but its own beginning is left without, and the next session on that volume takes its place.
//!
//! A failure ends the session: nothing is written behind it, and no filemark, so what is there is not taken for one.
//! **It is durable when [`SpanWriter::finish`] has returned**, not before.

use super::changer::Changer;
use super::drive::{Drive, DriveErrorKind, Wanted, Wrote};
use super::error::TapeError;
use super::header::{UNIT, Unit, is_zero};
use super::label::VolumeLabel;
use super::part::{EndRecord, PartLabel, Prior, is_session};
use super::volume;
use super::walk::Walker;
use bytes::{Buf, BytesMut};
use serde::{Deserialize, Serialize};

/// Volumes that may take nothing, one after the other, before it is given up.
const VOLUMES_TRIED_MAX: u32 = 4;
/// Most zeros behind the end of an archive, in bytes.
const PADDING_BYTES_MAX: u64 = 64 << 20;

/// Which session is written, and where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpanOptions {
    /// Id of the session: 8 to 64 letters, digits, `-`.
    pub session: String,
    /// The pool whose volumes are written.
    pub pool: String,
    /// The volume to begin with; else the one in the drive, or the next blank one of the pool if there is none.
    pub media: Option<String>,
    /// Now, in seconds since 1970.
    pub seconds: u64,
}

/// Where a part of a session lies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartPlace {
    /// Media name of the volume.
    pub media: String,
    /// Id of the volume.
    pub volume: String,
    /// The tape file.
    pub file: u32,
    /// Blocks in it.
    pub blocks: u64,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// Parts in their order.
    pub parts: Vec<PartPlace>,
    /// Bytes of the archive.
    pub bytes: u64,
}

/// Writes one session.
pub struct SpanWriter<'d> {
    drive: &'d mut dyn Drive,
    changer: &'d mut dyn Changer,
    options: SpanOptions,
    walker: Walker,
    /// Bytes of the archive that the drive has not taken, from `start` on.
    pending: BytesMut,
    start: u64,
    /// Zeros behind the end of the archive.
    padding: u64,
    label: VolumeLabel,
    /// What is left to write of the beginning of the part.
    beginning: Vec<u8>,
    /// Blocks of the part, and the checksum of them.
    blocks: u64,
    crc32c: u32,
    /// Where in the archive the part began.
    part_start: u64,
    file: u32,
    parts: Vec<Prior>,
    /// Ids of the volumes that are full.
    full: Vec<String>,
    /// Volumes that took nothing, since one did.
    tried: u32,
    /// Objects that the archive lacks.
    missed: u64,
    has_failed: bool,
}

impl<'d> SpanWriter<'d> {
    /// Puts the first volume in where that is needed, and goes to its end.
    ///
    /// # Errors
    /// `BadRequest`; `Drive`; what verifying the volume may raise.
    pub fn begin(
        drive: &'d mut dyn Drive,
        changer: &'d mut dyn Changer,
        options: SpanOptions,
    ) -> Result<Self, TapeError> {
        if !is_session(&options.session) {
            return Err(TapeError::BadRequest { what: "session id", given: options.session });
        }
        let label = Self::first_volume(drive, changer, &options)?;
        let file = volume::append(drive)?;
        Ok(Self {
            drive,
            changer,
            options,
            walker: Walker::new(),
            pending: BytesMut::new(),
            start: 0,
            padding: 0,
            label,
            beginning: Vec::new(),
            blocks: 0,
            crc32c: 0,
            part_start: 0,
            file,
            parts: Vec::new(),
            full: Vec::new(),
            tried: 0,
            missed: 0,
            has_failed: false,
        })
    }

    fn first_volume(
        drive: &mut dyn Drive,
        changer: &mut dyn Changer,
        options: &SpanOptions,
    ) -> Result<VolumeLabel, TapeError> {
        let (media, pool) = (options.media.as_deref(), Some(options.pool.as_str()));
        match volume::verify(drive, media, pool) {
            Ok(label) => return Ok(label),
            Err(TapeError::Drive { source }) if source.kind == DriveErrorKind::NoMedium => {}
            // With no volume named, what lies in the drive is what is meant.
            Err(error @ TapeError::Drive { .. }) => return Err(error),
            Err(error) if media.is_none() => return Err(error),
            Err(_) => drive.eject()?,
        }
        let blank = Wanted::Blank { pool: &options.pool, except: &[] };
        let wanted = media.map_or(blank, Wanted::Named);
        changer.load(drive, wanted)?;
        volume::verify(drive, media, pool)
    }

    /// How many objects the archive lacks or holds damaged, which the end of the session says. None if nobody says.
    pub fn note_missed(&mut self, count: u64) {
        self.missed = count;
    }

    /// Takes the next bytes of the archive.
    ///
    /// # Errors
    /// `NotAnArchive`; `Drive`; what changing volumes may raise; `FailedBefore` after any of these.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), TapeError> {
        if self.has_failed {
            return Err(TapeError::FailedBefore);
        }
        let result = self.take(bytes);
        self.has_failed = result.is_err();
        result
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), TapeError> {
        // In pieces, so that what waits stays small.
        for piece in bytes.chunks(self.label.block_bytes.max(UNIT)) {
            self.pending.extend_from_slice(piece);
            self.parse()?;
            while self.ready() >= self.label.block_bytes {
                self.write_block(None)?;
            }
        }
        Ok(())
    }

    /// Parses the whole blocks of tar that have come and were not parsed.
    fn parse(&mut self) -> Result<(), TapeError> {
        loop {
            let parsed = self.unsettled(self.walker.offset());
            if self.walker.is_ended() {
                return self.pad(parsed);
            }
            let Some(unit) =
                self.pending.get(parsed..parsed + UNIT).and_then(|unit| <&Unit>::try_from(unit).ok())
            else {
                return Ok(());
            };
            self.walker.unit(unit)?;
        }
    }

    /// Takes zeros behind the end, which are counted and not written.
    fn pad(&mut self, from: usize) -> Result<(), TapeError> {
        let zeros = self.pending.get(from..).unwrap_or_default();
        self.padding += zeros.len() as u64;
        let offset = self.walker.offset();
        if !is_zero(zeros) {
            return Err(TapeError::NotAnArchive { offset, what: "it goes on behind its end" });
        }
        if self.padding > PADDING_BYTES_MAX {
            return Err(TapeError::NotAnArchive { offset, what: "too many zeros are behind its end" });
        }
        self.pending.truncate(from);
        Ok(())
    }

    /// Bytes pending before a byte of the archive.
    fn unsettled(&self, offset: u64) -> usize {
        usize::try_from(offset.saturating_sub(self.start)).unwrap_or(usize::MAX)
    }

    /// Bytes that may be written now.
    fn ready(&self) -> usize {
        self.beginning.len() + self.unsettled(self.walker.settled())
    }

    /// Writes a block: what is ready, and, if it is the last, zeros and the end of a session of so many bytes. Whether
    /// the drive took it; if not, the next volume is in.
    fn write_block(&mut self, end: Option<u64>) -> Result<bool, TapeError> {
        let bytes = self.label.block_bytes;
        let begun = self.beginning.len().min(bytes);
        let taken = (bytes - begun).min(self.unsettled(self.walker.settled()));
        let body = self.pending.get(..taken).unwrap_or_default();
        // Most blocks are bytes of the archive and nothing else: they are written from where they lie.
        let laid_out;
        let block = if taken == bytes && end.is_none() {
            body
        } else {
            laid_out = self.lay_out(self.beginning.get(..begun).unwrap_or_default(), body, end)?;
            &laid_out
        };
        let wrote = self.drive.write(block)?;
        if wrote == Wrote::EndOfMedium {
            self.turn_over()?;
            return Ok(false);
        }
        self.crc32c = crc32c::crc32c_append(self.crc32c, block);
        self.blocks += 1;
        self.beginning.drain(..begun);
        self.pending.advance(taken);
        self.start += taken as u64;
        self.walker.forget(self.start);
        if end.is_some() {
            self.close_part()?;
        } else if wrote == Wrote::EarlyWarning {
            self.turn_over()?;
        }
        Ok(true)
    }

    /// A block of the beginning of a part, bytes of the archive, zeros, and the end of a session of so many bytes.
    fn lay_out(&self, beginning: &[u8], body: &[u8], end: Option<u64>) -> Result<Vec<u8>, TapeError> {
        let bytes = self.label.block_bytes;
        let mut block = Vec::with_capacity(bytes);
        block.extend_from_slice(beginning);
        block.extend_from_slice(body);
        block.resize(bytes, 0);
        if let Some(length) = end {
            let before = block.get(..bytes - UNIT).unwrap_or_default();
            let crc32c = crc32c::crc32c_append(self.crc32c, before);
            let (session, part) = (&self.options.session, self.part());
            let mut record = EndRecord::new(session, part, self.blocks + 1, length, crc32c);
            record.missed = self.missed;
            let (Some(record), Some(place)) = (record.encode(), block.last_chunk_mut::<UNIT>()) else {
                return Err(TapeError::BadRequest { what: "session id", given: session.clone() });
            };
            *place = record;
        }
        Ok(block)
    }

    /// Which part is being written, from 1.
    fn part(&self) -> u32 {
        u32::try_from(self.parts.len()).unwrap_or(u32::MAX).saturating_add(1)
    }

    /// Ends the part with a filemark.
    fn close_part(&mut self) -> Result<(), TapeError> {
        self.drive.filemark()?;
        self.parts.push(Prior {
            media: self.label.media.clone(),
            volume: self.label.id.clone(),
            file: self.file,
            blocks: self.blocks,
            crc32c: self.crc32c,
        });
        self.part_start = self.start;
        self.tried = 0;
        Ok(())
    }

    /// Goes on with the next volume.
    fn turn_over(&mut self) -> Result<(), TapeError> {
        let pool = self.options.pool.clone();
        if self.start > self.part_start {
            self.close_part()?;
        } else {
            self.tried += 1;
            if self.tried > VOLUMES_TRIED_MAX {
                return Err(TapeError::NoRoom { pool, tried: self.tried });
            }
        }
        self.full.push(self.label.id.clone());
        self.drive.eject()?;
        self.changer.load(self.drive, Wanted::Blank { pool: &pool, except: &self.full })?;
        let label = volume::verify(self.drive, None, Some(&pool))?;
        if self.full.contains(&label.id) {
            return Err(TapeError::WrongVolume {
                wanted: format!("another one of pool {pool}"),
                found: label.media,
            });
        }
        if label.block_bytes != self.label.block_bytes {
            return Err(TapeError::OtherBlocks {
                media: label.media,
                wanted: self.label.block_bytes,
                found: label.block_bytes,
            });
        }
        self.label = label;
        self.file = volume::append(self.drive)?;
        (self.blocks, self.crc32c) = (0, 0);
        self.beginning = match self.parts.last() {
            None => Vec::new(),
            Some(prior) => {
                let cut = self.walker.cut(self.start);
                let part = PartLabel::new(&self.options.session, self.part(), self.start, prior.clone());
                let too_long =
                    TapeError::NotAnArchive { offset: self.start, what: "the name of a member is too long" };
                part.encode(&cut, self.options.seconds).ok_or(too_long)?
            }
        };
        Ok(())
    }

    /// Writes what is left, the end of the session and a filemark.
    ///
    /// # Errors
    /// As [`SpanWriter::write`]; `NotAnArchive` if the archive has not come to its end.
    pub fn finish(mut self) -> Result<Written, TapeError> {
        if self.has_failed {
            return Err(TapeError::FailedBefore);
        }
        let is_whole = self.walker.is_ended() && self.unsettled(self.walker.offset()) == self.pending.len();
        if !is_whole {
            let offset = self.start + self.pending.len() as u64;
            return Err(TapeError::NotAnArchive { offset, what: "it ends before its end" });
        }
        let length = self.walker.offset() + self.padding;
        // Where a block meets the end of the medium, what is left is laid out anew behind the beginning of a part.
        loop {
            if self.ready() >= self.label.block_bytes {
                self.write_block(None)?;
            } else if self.write_block(Some(length))? {
                break;
            }
        }
        let places = self.parts.into_iter().map(|part| {
            let Prior { media, volume, file, blocks, .. } = part;
            PartPlace { media, volume, file, blocks }
        });
        Ok(Written { parts: places.collect(), bytes: length })
    }
}
