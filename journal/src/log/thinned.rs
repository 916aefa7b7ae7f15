//! A sealed segment of which payloads were given up, and how it takes the place of the whole one.
//!
//! Nothing in it moves. The file holds the stretches of the segment that are kept, and a table that says where they
//! stood; it is read by the offsets of the segment, so all that was ever noted of places in it stays true: rows of the
//! tables, records, the index in its footer. Only bytes of payloads are ever left out, and those are in no hash chain and
//! no checksum of a frame. So what remains is checked like any other segment.
//!
//! The manifest says which file stands for a segment, in the one step in which it is replaced. The whole file is removed
//! after that, and who has it open goes on reading it. With it stands which points this gave up: a range of LSNs, and those
//! of them that stay. So deciding, refusing and giving back are the same step, and no crash comes in between.

mod write;

use super::codec::{Put, Take};
use super::manifest::{Identity, SegmentEntry, ThinEntry};
use super::recover::open_named;
use super::segment::stream_code;
use super::stream::Log;
use super::types::Stream;
use crate::disk::{Disk, DiskFile};
use crate::error::JournalError;
use crate::event::PayloadAt;
use crate::lsn::Lsn;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use write::{without, write_file};

const MAGIC: [u8; 8] = *b"REWINDTS";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 128;
/// Stretches of one file; where there would be more, small holes are left as they are.
const STRETCHES_MAX: usize = 1 << 16;
/// Points named by one file: no segment has more records.
const POINTS_MAX: u64 = 1 << 22;

/// Which points a thinned segment gave up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Gone {
    /// The first point that was looked at; it stays.
    pub(crate) from: Lsn,
    /// The point behind the last one that was looked at; it stays.
    pub(crate) to: Lsn,
    /// Those between that stay, `from` among them, rising.
    pub(crate) retained: Vec<Lsn>,
    /// How many did not.
    pub(crate) points: u64,
    /// Whether time alone will give up no more of them.
    pub(crate) is_final: bool,
}

impl Gone {
    /// Whether a point was given up.
    pub(crate) fn has(&self, lsn: Lsn) -> bool {
        self.from <= lsn && lsn < self.to && self.retained.binary_search(&lsn).is_err()
    }

    /// The points next to it that stay.
    pub(crate) fn around(&self, lsn: Lsn) -> (Lsn, Lsn) {
        let behind = self.retained.partition_point(|retained| *retained <= lsn);
        let before = behind.checked_sub(1).and_then(|index| self.retained.get(index));
        (*before.unwrap_or(&self.from), *self.retained.get(behind).unwrap_or(&self.to))
    }
}

/// A part of the segment that is kept: where it stood, its length, and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stretch {
    offset: u64,
    bytes: u64,
    at: u64,
}

/// A thinned segment, read by the offsets of the whole one.
pub(crate) struct ThinFile {
    file: Arc<dyn DiskFile>,
    bytes: u64,
    stretches: Vec<Stretch>,
    pub(crate) gone: Gone,
}

/// Name of the file that stands for a segment in this generation.
pub(super) fn thin_name(stream: Stream, number: u64, generation: u64) -> String {
    format!("{}.thin.{generation}", stream.file_name(number))
}

/// Inverse of [`thin_name`].
pub(super) fn parse_thin_name(name: &str) -> Option<(Stream, u64, u64)> {
    let (segment, generation) = name.split_once(".thin.")?;
    let (stream, number) = Stream::parse_file_name(segment)?;
    let generation = generation.parse::<u64>().ok()?;
    (thin_name(stream, number, generation) == name).then_some((stream, number, generation))
}

/// Where a segment that counts lies.
pub(super) fn segment_path(directory: &Path, stream: Stream, entry: &SegmentEntry) -> PathBuf {
    match &entry.thin {
        Some(thin) => directory.join(thin_name(stream, entry.number, thin.generation)),
        None => directory.join(stream.file_name(entry.number)),
    }
}

/// Opens a segment that the manifest names, whole or thinned.
pub(super) fn open_segment(
    disk: &dyn Disk,
    directory: &Path,
    identity: Identity,
    stream: Stream,
    entry: &SegmentEntry,
) -> Result<Arc<dyn DiskFile>, JournalError> {
    match &entry.thin {
        None => open_named(disk, &segment_path(directory, stream, entry)),
        Some(_) => Ok(Arc::new(open_thin(disk, directory, identity, stream, entry)?)),
    }
}

/// Opens one that is thinned.
pub(super) fn open_thin(
    disk: &dyn Disk,
    directory: &Path,
    identity: Identity,
    stream: Stream,
    entry: &SegmentEntry,
) -> Result<ThinFile, JournalError> {
    let path = segment_path(directory, stream, entry);
    let file = open_named(disk, &path)?;
    let read = ThinFile::read(file, identity, stream, entry);
    let read = read.map_err(|source| JournalError::File { operation: "read", path: path.clone(), source })?;
    read.map_err(|what| JournalError::Damaged { path, offset: 0, what })
}

fn header(
    (identity, stream): (Identity, Stream),
    entry: &SegmentEntry,
    generation: u64,
    stretches: usize,
    (gone, crc): (&Gone, u32),
) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_BYTES);
    out.put(&MAGIC);
    out.put_u32(VERSION);
    out.put_u8(stream_code(stream));
    out.put_u8(u8::from(gone.is_final));
    out.put(&[0; 2]);
    out.put(&identity.0);
    out.put_u64(entry.number);
    out.put_u64(generation);
    out.put_u64(entry.bytes);
    out.put_u64(stretches as u64);
    out.put_u64(gone.retained.len() as u64);
    out.put_u64(gone.points);
    out.put_lsn(gone.from);
    out.put_lsn(gone.to);
    out.put_u64(0);
    out.put_u32(crc);
    let crc = crc32c::crc32c(&out);
    out.put_u32(crc);
    out
}

impl ThinFile {
    /// Reads header and table; the inner error says what is wrong with them.
    fn read(
        file: Arc<dyn DiskFile>,
        identity: Identity,
        stream: Stream,
        entry: &SegmentEntry,
    ) -> io::Result<Result<Self, &'static str>> {
        const DAMAGED: &str = "the head of a thinned segment does not match its checksum";
        let mut head = vec![0; HEADER_BYTES];
        let length = file.len()?;
        if file.read_at(&mut head, 0)? != HEADER_BYTES {
            return Ok(Err(DAMAGED));
        }
        let Some((counts, mut gone, crc)) = parse_header(&head, identity, stream, entry) else {
            return Ok(Err(DAMAGED));
        };
        let (stretches, points) = counts;
        let table_bytes = stretches * 16 + points * 16;
        // Before room is made for it.
        if table_bytes > length || stretches > STRETCHES_MAX as u64 || points > POINTS_MAX {
            return Ok(Err("the table of a thinned segment is longer than its file"));
        }
        let mut table = vec![0; table_bytes as usize];
        let read = file.read_at(&mut table, HEADER_BYTES as u64)?;
        if read != table.len() || crc32c::crc32c(&table) != crc {
            return Ok(Err("the table of a thinned segment does not match its checksum"));
        }
        let first = HEADER_BYTES as u64 + table_bytes;
        let Some((list, end)) = parse_table(&table, (stretches, points), first, &mut gone) else {
            return Ok(Err("the table of a thinned segment is malformed"));
        };
        let reaches = list.last().map_or(0, |last| last.offset + last.bytes);
        if end != length || reaches > entry.bytes {
            return Ok(Err("a thinned segment is not as long as its table says"));
        }
        Ok(Ok(ThinFile { file, bytes: entry.bytes, stretches: list, gone }))
    }

    /// The first stretch that ends behind this offset.
    fn first_behind(&self, offset: u64) -> usize {
        self.stretches.partition_point(|stretch| stretch.offset + stretch.bytes <= offset)
    }

    /// Where the first byte that is kept from this offset on lies in the file; stretches follow one another there.
    fn place(&self, offset: u64) -> u64 {
        match (self.stretches.get(self.first_behind(offset)), self.stretches.last()) {
            (Some(stretch), _) => stretch.at + offset.saturating_sub(stretch.offset),
            (None, last) => last.map_or(0, |last| last.at + last.bytes),
        }
    }
}

type Parsed = ((u64, u64), Gone, u32);

fn parse_header(head: &[u8], identity: Identity, stream: Stream, entry: &SegmentEntry) -> Option<Parsed> {
    let thin = entry.thin.as_ref()?;
    let (checked, crc) = head.split_at_checked(HEADER_BYTES - 4)?;
    if Take(crc).u32()? != crc32c::crc32c(checked) {
        return None;
    }
    let mut take = Take(checked);
    let known = take.array::<8>()? == MAGIC && take.u32()? == VERSION && take.u8()? == stream_code(stream);
    let (is_final, zero) = (take.u8()?, take.array::<2>()?);
    let same = take.array::<16>()? == identity.0
        && take.u64()? == entry.number
        && take.u64()? == thin.generation
        && take.u64()? == entry.bytes;
    let (stretches, retained, points) = (take.u64()?, take.u64()?, take.u64()?);
    let (from, to) = (take.lsn()?, take.lsn()?);
    let (rest, crc) = (take.u64()?, take.u32()?);
    let sound = known && same && is_final < 2 && zero == [0; 2] && rest == 0 && take.0.is_empty();
    let bounded = stretches <= u64::from(u32::MAX) && retained <= u64::from(u32::MAX);
    let gone = Gone { from, to, retained: Vec::new(), points, is_final: is_final == 1 };
    (sound && bounded).then_some(((stretches, retained), gone, crc))
}

/// Stretches in order and the end of the last one in the file.
fn parse_table(
    table: &[u8],
    (stretches, points): (u64, u64),
    first: u64,
    gone: &mut Gone,
) -> Option<(Vec<Stretch>, u64)> {
    let mut take = Take(table);
    let (mut list, mut at, mut end) = (Vec::with_capacity(stretches as usize), first, 0);
    for _ in 0..stretches {
        let (offset, bytes) = (take.u64()?, take.u64()?);
        if offset < end || bytes == 0 {
            return None;
        }
        list.push(Stretch { offset, bytes, at });
        end = offset.checked_add(bytes)?;
        at = at.checked_add(bytes)?;
    }
    for _ in 0..points {
        let lsn = take.lsn()?;
        let rises = gone.retained.last().map_or(lsn == gone.from, |last| *last < lsn);
        if !rises || lsn >= gone.to {
            return None;
        }
        gone.retained.push(lsn);
    }
    (!gone.retained.is_empty()).then_some((list, at))
}

impl DiskFile for ThinFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let wanted = self.bytes.saturating_sub(offset).min(buffer.len() as u64);
        let Some(buffer) = buffer.get_mut(..wanted as usize) else { return Ok(0) };
        buffer.fill(0);
        let end = offset + wanted;
        for stretch in self.stretches.iter().skip(self.first_behind(offset)) {
            if stretch.offset >= end {
                break;
            }
            let (from, to) = (stretch.offset.max(offset), (stretch.offset + stretch.bytes).min(end));
            let Some(part) = buffer.get_mut((from - offset) as usize..(to - offset) as usize) else { break };
            if self.file.read_at(part, stretch.at + (from - stretch.offset))? != part.len() {
                return Ok((from - offset) as usize);
            }
        }
        Ok(wanted as usize)
    }

    fn forget(&self, offset: u64, bytes: u64) {
        let (from, to) = (self.place(offset), self.place(offset.saturating_add(bytes)));
        self.file.forget(from, to - from);
    }

    fn holds(&self, range: Range<u64>) -> bool {
        let mut at = range.start;
        for stretch in self.stretches.iter().skip(self.first_behind(range.start)) {
            if at >= range.end || stretch.offset > at {
                break;
            }
            at = stretch.offset + stretch.bytes;
        }
        at >= range.end
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes)
    }

    fn write_at(&self, _bytes: &[u8], _offset: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync_data(&self) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn set_len(&self, _bytes: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }
}

/// A thinned segment that is written and durable, and stands for nothing yet.
pub(crate) struct Prepared {
    number: u64,
    /// The generation it takes the place of.
    before: u64,
    thin: ThinEntry,
    path: PathBuf,
    gone: Gone,
}

impl Log {
    /// What a thinned segment gave up; none of one that is whole, or does not count any more.
    pub(crate) fn gone(&self, number: u64) -> Result<Option<Arc<ThinFile>>, JournalError> {
        let inner = self.inner();
        loop {
            let Some((_, entry)) = inner.expected(number) else { return Ok(None) };
            let Some(thin) = &entry.thin else { return Ok(None) };
            let key = (number, thin.generation);
            if let Some(known) = inner.thin.lock().iter().find(|(known, _)| *known == key) {
                return Ok(Some(Arc::clone(&known.1)));
            }
            match inner.open_thin(&entry) {
                Ok(file) => return Ok(Some(inner.remember_thin(key, file))),
                Err(error) if inner.is_current(&entry) => return Err(error),
                Err(_) => {}
            }
        }
    }

    /// Whether the bytes of a payload of this stream were not given up.
    pub(crate) fn holds(&self, at: &PayloadAt) -> Result<bool, JournalError> {
        let (file, _) = self.inner().file(at.segment)?;
        Ok(file.holds(at.offset..at.offset.saturating_add(u64::from(at.stored_bytes()))))
    }

    /// Refuses to tell of a point of which it is not known whether it was given up.
    pub(crate) fn check_known(&self, lsn: Lsn) -> Result<(), JournalError> {
        let unknown = self.inner().unknown.lock().as_ref().is_some_and(|gone| gone.has(lsn));
        let path = || self.directory().to_owned();
        if unknown { Err(JournalError::Poisoned { path: path() }) } else { Ok(()) }
    }

    /// Numbers of thinned segments in whose range an LSN lies.
    pub(crate) fn thinned_around(&self, lsn: Lsn) -> Vec<u64> {
        let (store, stream) = (&self.inner().store, self.inner().stream);
        let around = |entry: &&SegmentEntry| {
            let within = |(first, last): (Lsn, Lsn)| first <= lsn && lsn <= last;
            entry.thin.is_some() && entry.summary.lsns.is_some_and(within)
        };
        store.with(|manifest| {
            manifest.segments(stream).iter().filter(around).map(|entry| entry.number).collect()
        })
    }

    /// Writes what is left of a sealed segment without `holes`, which must be bytes of payloads. It counts once
    /// [`Log::replace`] has taken it.
    pub(crate) fn prepare(
        &self,
        number: u64,
        holes: &[Range<u64>],
        gone: &Gone,
    ) -> Result<Prepared, JournalError> {
        let inner = self.inner();
        let (expected, entry) = inner.expected(number).ok_or_else(|| inner.no_such_segment(number))?;
        let (source, _) = inner.file(number)?;
        let before = entry.thin.as_ref().map_or(0, |thin| thin.generation);
        let generation = before + 1;
        let path = inner.store.directory().join(thin_name(inner.stream, number, generation));
        let kept = without(holes, entry.bytes);
        let mut table = Vec::with_capacity((kept.len() + gone.retained.len()) * 16);
        kept.iter().for_each(|(offset, bytes)| {
            table.put_u64(*offset);
            table.put_u64(*bytes);
        });
        gone.retained.iter().for_each(|lsn| table.put_lsn(*lsn));
        let sum = (gone, crc32c::crc32c(&table));
        let mut head = header((expected.identity, inner.stream), &entry, generation, kept.len(), sum);
        head.put(&table);
        let written = write_file(inner, &path, &head, &kept, &*source);
        let stored = written.inspect_err(|_| drop(inner.store.disk().remove(&path)))?;
        Ok(Prepared { number, before, thin: ThinEntry { generation, stored }, path, gone: gone.clone() })
    }

    /// Puts it in the place of the segment: from here on its points are given up. Gives the bytes that came free; the file
    /// it replaces is removed.
    pub(crate) fn replace(&self, prepared: &Prepared) -> Result<u64, JournalError> {
        let inner = self.inner();
        let (number, stream) = (prepared.number, inner.stream);
        let old = inner.store.update(|manifest| {
            let list = manifest.segments_mut(stream);
            let entry = list.iter_mut().find(|entry| entry.number == number && entry.sealed)?;
            // Retention may have dropped it since; nobody else replaces it.
            if entry.thin.as_ref().map_or(0, |thin| thin.generation) != prepared.before {
                return None;
            }
            let old = entry.clone();
            entry.thin = Some(prepared.thin.clone());
            Some(old)
        });
        // Either may count after a crash: whoever asks for what only the old one holds must not be told that it stays.
        let unknown = old.is_err() && inner.store.is_poisoned();
        if unknown {
            *inner.unknown.lock() = Some(prepared.gone.clone());
        }
        let Some(old) = old? else {
            self.discard(prepared);
            return Ok(0);
        };
        inner.forget_files(number);
        let path = segment_path(inner.store.directory(), stream, &old);
        if let Err(error) = inner.store.disk().remove(&path) {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(path = %path.display(), error, "a segment that was thinned could not be removed; opening the journal will");
        }
        Ok(old.stored_bytes().saturating_sub(prepared.thin.stored))
    }

    /// Removes what was written for nothing.
    pub(crate) fn discard(&self, prepared: &Prepared) {
        if let Err(error) = self.inner().store.disk().remove(&prepared.path) {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(path = %prepared.path.display(), error, "a file that does not count could not be removed; opening the journal will");
        }
    }
}

#[cfg(test)]
mod tests;
