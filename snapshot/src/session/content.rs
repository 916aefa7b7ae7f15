//! Bytes of files to blobs.
//!
//! A file is cut where its content says so, from a window that grows only until a cut is found, so that little is read
//! ahead. Two short cuts, neither of which changes where a file is cut:
//!
//! - Where the view knows that the next window reads as zeros, the cut of zeros is taken without reading: a hole costs
//!   a look-up for each 8 MiB.
//! - Of a file of which the blobs at an earlier point are known, those are kept that nothing touched since. A cut
//!   depends on the bytes from the beginning of its chunk to the first behind the cut, and near the end of the file on how much is left;
//!   so a chunk is kept if no changed extent meets it or begins where it ends and, where the sizes differ, its whole window lies before either
//!   end. Cutting begins anew at the first chunk that is not kept, and ends where a new cut falls on an old one.

use super::{SessionError, Work};
use crate::repository::chunk::{CHUNK_BYTES_MAX, chunks};
use crate::repository::writer::Stage;
use crate::repository::{BlobKind, Id};
use journal::view::{View, ViewFile};
use journal::{JournalError, NodeId, TreeIo};
use std::ops::Range;

/// Bytes looked at first for a cut. More than the average, or the cut would depend on it.
const WINDOW_BYTES: usize = 2 << 20;
/// A larger window is not kept for the next file.
const KEPT_BYTES: usize = 1 << 20;

/// The file at an earlier point.
pub struct Earlier<'v, T: TreeIo> {
    /// That point.
    pub view: &'v View<T>,
    /// The blobs it had.
    pub blobs: Vec<Id>,
}

/// Why a file is not stored.
pub enum Failure {
    /// It cannot be read: the rest of the session does without it.
    Read(JournalError),
    /// The session cannot go on.
    Session(SessionError),
}

impl From<JournalError> for Failure {
    fn from(source: JournalError) -> Self {
        match source {
            // The replica does not hold the file as it should, or the system does not let it be read; or undo of its bytes has
            // rotted, which has a checksum for each piece and says nothing of others.
            JournalError::Tree { .. }
            | JournalError::Drift { .. }
            | JournalError::NotFound { .. }
            | JournalError::Damaged { .. } => Failure::Read(source),
            // Tables: what they say of other files is not to be trusted either. A segment that cannot be read at all is
            // nobody's alone.
            source => {
                Failure::Session(SessionError::Journal { operation: "read a file of the point", source })
            }
        }
    }
}

/// Cuts one file after the other; one for each thread. Holds a window of at most 8 MiB.
pub(crate) struct Cutter<'w, 'a, T: TreeIo> {
    work: &'w Work<'a, T>,
    window: Vec<u8>,
    /// Where the window begins in the file.
    start: u64,
    /// The zeros that one cut takes, and their blob, once it was needed.
    zeros: Option<(u64, Id)>,
}

impl<'w, 'a, T: TreeIo> Cutter<'w, 'a, T> {
    pub fn new(work: &'w Work<'a, T>) -> Self {
        Cutter { work, window: Vec::new(), start: 0, zeros: None }
    }

    /// The blobs of a file, all of them saved; `file` is what the view shows of the node.
    pub fn blobs(
        &mut self,
        node: NodeId,
        mut file: ViewFile<'_, T>,
        earlier: Option<Earlier<'_, T>>,
    ) -> Result<Vec<Id>, Failure> {
        self.window.clear();
        let kept = match earlier {
            Some(earlier) => self.kept(node, file.size(), &earlier)?,
            None => Vec::new(),
        };
        let mut kept = kept.into_iter().peekable();
        let (mut blobs, mut at) = (Vec::new(), 0);
        while at < file.size() {
            while kept.peek().is_some_and(|(range, _)| range.start < at) {
                kept.next();
            }
            match kept.next_if(|(range, _)| range.start == at) {
                Some((range, blob)) => {
                    blobs.push(blob);
                    at = range.end;
                }
                None => {
                    let (length, blob) = self.next(&mut file, at)?;
                    blobs.push(blob);
                    at += length;
                }
            }
            self.work.check().map_err(Failure::Session)?;
        }
        file.check_length()?;
        if self.window.capacity() > KEPT_BYTES {
            // Most files are shorter, and there is a window for each thread.
            self.window = Vec::new();
        }
        Ok(blobs)
    }

    /// The chunk that begins at `at`: its bytes and its blob.
    fn next(&mut self, file: &mut ViewFile<'_, T>, at: u64) -> Result<(u64, Id), Failure> {
        let left = file.size() - at;
        let full = CHUNK_BYTES_MAX as u64;
        if left >= full && self.behind(at).is_empty() {
            let data = file.next_data(at)?;
            if data.is_none_or(|data| data.start - at >= full) {
                return self.zeros();
            }
        }
        let mut wanted = left.min(WINDOW_BYTES as u64);
        loop {
            self.fill(file, at, wanted)?;
            let window = self.behind(at);
            let window = window.get(..wanted as usize).unwrap_or(window);
            let first = || chunks(window).next().map_or(0, <[u8]>::len);
            let cut = self.work.writer.stages().time(Stage::Cut, first);
            let whole = wanted == left || wanted >= full;
            // A cut at the end of a window that could be larger is none.
            if cut < window.len() || whole {
                let chunk = window.get(..cut).unwrap_or_default();
                let blob = save(self.work, chunk).map_err(Failure::Session)?;
                return Ok((cut as u64, blob));
            }
            wanted = left.min(full).min(wanted * 2);
        }
    }

    /// What of the file is in the window from `at` on.
    fn behind(&self, at: u64) -> &[u8] {
        let skip = at.checked_sub(self.start).and_then(|skip| usize::try_from(skip).ok());
        skip.and_then(|skip| self.window.get(skip..)).unwrap_or_default()
    }

    /// Makes the window hold `wanted` bytes from `at` on, which the file has.
    fn fill(&mut self, file: &mut ViewFile<'_, T>, at: u64, wanted: u64) -> Result<(), Failure> {
        let here = self.behind(at).len();
        let wanted = wanted as usize;
        if here >= wanted {
            return Ok(());
        }
        let before = self.window.len() - here;
        self.window.drain(..before);
        self.start = at;
        self.window.resize(wanted, 0);
        let room = self.window.get_mut(here..).unwrap_or_default();
        let length = room.len();
        let read = self.work.writer.stages().time(Stage::Read, || file.read_at(room, at + here as u64))?;
        if read < length {
            // The view says how long the file is; less than that is not the file.
            self.window.clear();
            return Err(Failure::Read(JournalError::Drift {
                object: "a file".to_owned(),
                what: "it is shorter than its size",
            }));
        }
        self.work.count(|counts| counts.bytes_read += read as u64);
        Ok(())
    }

    /// The chunk of a hole.
    fn zeros(&mut self) -> Result<(u64, Id), Failure> {
        if let Some(zeros) = self.zeros {
            return Ok(zeros);
        }
        let bytes = vec![0; CHUNK_BYTES_MAX];
        let chunk = chunks(&bytes).next().unwrap_or_default();
        let zeros = (chunk.len() as u64, save(self.work, chunk).map_err(Failure::Session)?);
        self.zeros = Some(zeros);
        Ok(zeros)
    }

    /// The blobs of an earlier point that are the file's still, and where. None if any is not known any more.
    fn kept(
        &self,
        node: NodeId,
        size: u64,
        earlier: &Earlier<'_, T>,
    ) -> Result<Vec<(Range<u64>, Id)>, Failure> {
        let index = self.work.writer.repository().index().map_err(|error| Failure::Session(error.into()))?;
        let old_size = earlier.view.meta(node)?.map_or(0, |meta| meta.size);
        let (mut chunks, mut at) = (Vec::new(), 0_u64);
        for blob in &earlier.blobs {
            let Some(place) = index.lookup(BlobKind::Data, blob) else { return Ok(Vec::new()) };
            let end = at.saturating_add(place.plain_bytes());
            chunks.push((at..end, *blob));
            at = end;
        }
        if at != old_size {
            return Ok(Vec::new());
        }
        let common = size.min(old_size);
        let mut extents = earlier.view.changed_extents(node, self.work.view.lsn(), 0);
        let mut changed = extents.next().transpose()?;
        let mut kept = Vec::new();
        for (number, (range, blob)) in chunks.into_iter().enumerate() {
            let near_end = size != old_size && range.start.saturating_add(CHUNK_BYTES_MAX as u64) > common;
            if near_end {
                break;
            }
            while changed.as_ref().is_some_and(|extent| extent.end <= range.start) {
                changed = extents.next().transpose()?;
            }
            if changed.as_ref().is_none_or(|extent| extent.start > range.end) {
                kept.push((range, blob));
            }
            if number.is_multiple_of(1024) {
                self.work.check().map_err(Failure::Session)?;
            }
        }
        Ok(kept)
    }
}

fn save<T: TreeIo>(work: &Work<'_, T>, chunk: &[u8]) -> Result<Id, SessionError> {
    let saved = work.writer.save_blob(BlobKind::Data, chunk)?;
    if saved.is_new {
        work.count(|counts| {
            counts.data_blobs += 1;
            counts.bytes_new += chunk.len() as u64;
            counts.bytes_stored += saved.stored_bytes;
        });
    }
    Ok(saved.id)
}
