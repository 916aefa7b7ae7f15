//! [`Log`]: one stream of records over all its segments.
//!
//! Here is what callers may do and what they are told; the steps themselves are in `shared`.

use super::frame::{HEAD_BYTES_MAX, PAYLOAD_BYTES_MAX, PAYLOAD_COUNT_MAX};
use super::manifest::{self, ManifestStore, SegmentEntry};
use super::pack::{Packed, Packer};
use super::reader::LogReader;
use super::recover::{Expected, Recovered, open_named, recover, write_again};
use super::segment::FIRST_FRAME;
use super::shared::{FORGET_BYTES_MIN, Inner, Live};
use super::thinned::segment_path;
use super::types::{Appended, LogOptions, RecordAt, RecordDraft, SegmentInfo, Stream};
use super::writer::Writer;
use crate::disk::DiskFile;
use crate::error::{ErrorKind, JournalError};
use crate::event::PayloadAt;
use crate::lsn::Lsn;
use crate::spare::Spares;
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Bytes of buffers kept for the next payloads read.
const SPARE_BYTES_MAX: usize = 32 << 20;

/// One stream of a journal. Records are appended in batches; a batch counts, as a whole, once it is committed.
///
/// A batch never spans segments: a segment is sealed by the first commit that leaves it long enough.
pub struct Log {
    inner: Arc<Inner>,
}

impl Log {
    /// Opens one stream of a journal whose manifest is loaded: cuts a torn tail, ends a sealing that was cut short.
    pub(super) fn open(
        store: &Arc<ManifestStore>,
        stream: Stream,
        options: LogOptions,
    ) -> Result<Self, JournalError> {
        let known = store.with(|manifest| manifest::durable(manifest, stream));
        let hint = match stream {
            Stream::Redo => options.durable_hint,
            Stream::Undo => options.undo_durable_hint,
        };
        let path = store.directory().join(stream.file_name(known.segment));
        let expected = store.with(|manifest| {
            let before = known.segment.checked_sub(1).and_then(|number| manifest.segment(stream, number));
            let (identity, previous) = (manifest.identity, before.map(|before| before.chain));
            Expected { path, identity, stream, number: known.segment, previous }
        });
        let file = open_named(&**store.disk(), &expected.path)?;
        let recovered = recover(&file, &expected, known.max(hint.unwrap_or_default()))?;
        let failed = |operation| {
            let path = expected.path.clone();
            move |source| JournalError::File { operation, path, source }
        };
        if recovered.tail_bytes > 0 {
            tracing::info!(
                segment = %expected.path.display(),
                bytes = recovered.tail_bytes,
                "cut a tail that was never committed"
            );
            file.set_len(recovered.end).map_err(failed("cut"))?;
        }
        // What is kept may have been written but not synced before; from here on it counts as durable.
        write_again(&file, &expected, known.max(hint.unwrap_or_default()), &recovered)?;
        file.sync_data().map_err(failed("sync"))?;
        Self::resume(store, stream, options, file, recovered)
    }

    fn resume(
        store: &Arc<ManifestStore>,
        stream: Stream,
        options: LogOptions,
        file: Arc<dyn DiskFile>,
        recovered: Recovered,
    ) -> Result<Self, JournalError> {
        let Recovered { header, end, chain, footer, footer_at, vouched, .. } = recovered;
        let at = RecordAt { segment: header.number, offset: end };
        let writer = Writer::new(file.clone(), header.key(), at, chain, vouched);
        let live = Live { number: header.number, file, end, written: end, footer };
        let inner = Inner {
            stream,
            store: store.clone(),
            options,
            writer: Mutex::new(writer),
            live: RwLock::new(live),
            files: Mutex::default(),
            thin: Mutex::default(),
            poisoned: AtomicBool::new(false),
            unknown: Mutex::default(),
            packer: Arc::default(),
            spares: Spares::new(SPARE_BYTES_MAX),
        };
        if let Some(footer_at) = footer_at {
            // The crash came between the footer and the manifest that calls the segment sealed.
            inner.roll(&mut inner.writer.lock(), footer_at)?;
        }
        Ok(Log { inner: Arc::new(inner) })
    }

    pub(super) fn inner(&self) -> &Inner {
        &self.inner
    }

    /// What packs its payloads.
    pub(super) fn packer(&self) -> &Arc<Packer> {
        &self.inner.packer
    }

    /// Which stream it is.
    #[must_use]
    pub fn stream(&self) -> Stream {
        self.inner.stream
    }

    /// Lays out a record behind all others. It does not count before [`Log::commit`].
    ///
    /// # Errors
    /// `TooLong` if the draft exceeds a limit. `Full` (by kind) if there was no room for what was appended earlier:
    /// then this record was not taken, the earlier ones still are, and the call may be repeated. `Poisoned`, or the
    /// error that poisons.
    pub fn append(&self, draft: &RecordDraft) -> Result<Appended, JournalError> {
        check_limits(draft)?;
        self.append_packed(draft, &self.inner.packer.pack_all(draft))
    }

    /// The same for a draft within the limits, whose payloads are packed.
    pub(super) fn append_packed(
        &self,
        draft: &RecordDraft,
        packed: &[Packed],
    ) -> Result<Appended, JournalError> {
        let mut writer = self.inner.writer.lock();
        self.inner.check_poison()?;
        if writer.buffered() >= self.inner.options.buffer_bytes as u64 {
            let from = writer.written;
            self.inner.flush(&mut writer)?;
            // The disk is at work while the rest of the batch is laid out.
            writer.file.begin_write_back(from, writer.written - from);
        }
        Ok(writer.add(draft, packed))
    }

    /// Closes the batch and makes it durable; gives the position up to which the stream is durable now. Without
    /// anything appended it only gives the position.
    ///
    /// # Errors
    /// `Full` (by kind) if there is no room: the batch is still there, and the call may be repeated, or the batch
    /// dropped with [`Log::rollback`]. Whatever else fails poisons; a batch whose fsync failed is there after
    /// reopening, or it is not.
    pub fn commit(&self) -> Result<RecordAt, JournalError> {
        let mut writer = self.inner.writer.lock();
        self.inner.check_poison()?;
        let durable = self.inner.commit(&mut writer)?;
        self.inner.seal_if_long(&mut writer);
        Ok(durable)
    }

    /// Drops everything appended since the last commit.
    ///
    /// # Errors
    /// If the segment cannot be cut; poisons.
    pub fn rollback(&self) -> Result<(), JournalError> {
        let mut writer = self.inner.writer.lock();
        self.inner.check_poison()?;
        self.inner.cut(&mut writer)
    }

    /// Writes into the segment, without a sync, how far it is known to be durable, unless a frame says so already.
    /// Called when the writer idles: it makes rot in the last batch tell from a torn tail.
    ///
    /// # Errors
    /// As [`Log::append`]; lack of room is none.
    pub fn note_durable(&self) -> Result<(), JournalError> {
        let mut writer = self.inner.writer.lock();
        self.inner.check_poison()?;
        if !writer.batch.records.is_empty() || writer.vouched >= writer.durable {
            return Ok(());
        }
        let mark = writer.mark();
        writer.add_commit();
        match self.inner.flush(&mut writer) {
            Ok(()) => {
                writer.set_committed();
                Ok(())
            }
            Err(error) => {
                writer.back_to(&mark);
                if error.kind() == ErrorKind::Full { Ok(()) } else { Err(error) }
            }
        }
    }

    /// Records from `from` on, which is the place of a record, [`Log::first`], [`Log::end`] or
    /// [`crate::log::StoredRecord::next`].
    #[must_use]
    pub fn read(&self, from: RecordAt) -> LogReader {
        LogReader::new(self.inner.clone(), from)
    }

    /// The bytes of a payload, expanded if they are packed; also of one not committed yet.
    ///
    /// # Errors
    /// `Damaged` if they do not match their checksums; `NotFound` if the segment does not count any more.
    pub fn read_payload(&self, at: PayloadAt) -> Result<Bytes, JournalError> {
        let inner = &*self.inner;
        let path = inner.path(at.segment);
        let damaged = |what| JournalError::Damaged { path: path.clone(), offset: at.offset, what };
        let beyond = "the payload lies outside its segment";
        let end = at.offset.checked_add(u64::from(at.stored_bytes())).ok_or_else(|| damaged(beyond))?;
        let (mut file, mut limit) = inner.file(at.segment)?;
        if end > limit && inner.live(|live| live.number == at.segment) {
            let mut writer = inner.writer.lock();
            inner.check_poison()?;
            inner.flush(&mut writer)?;
            drop(writer);
            (file, limit) = inner.file(at.segment)?;
        }
        if end > limit || at.stored_bytes() as usize > PAYLOAD_BYTES_MAX {
            return Err(damaged(beyond));
        }
        if !file.holds(at.offset..end) {
            let name = format!("{} at {}", inner.stream.file_name(at.segment), at.offset);
            return Err(JournalError::NotFound { what: "payload (it was thinned)", name });
        }
        let mut bytes = inner.spares.take(at.stored_bytes() as usize);
        let read = file.read_at(bytes.as_mut(), at.offset).map_err(inner.failed("read", at.segment))?;
        bytes.truncate(read);
        if read as u64 >= FORGET_BYTES_MIN {
            file.forget(at.offset, read as u64);
        }
        inner.packer.unpack(&at, bytes.into()).map_err(damaged)
    }

    /// Gives back memory that is kept for the next payloads. For idle moments.
    pub fn settle(&self) {
        self.inner.spares.clear();
    }

    /// Where the oldest record stands, or would.
    #[must_use]
    pub fn first(&self) -> RecordAt {
        let oldest = self
            .inner
            .store
            .with(|manifest| manifest.segments(self.inner.stream).first().map_or(0, |oldest| oldest.number));
        RecordAt { segment: oldest, offset: FIRST_FRAME }
    }

    /// End of what is committed.
    #[must_use]
    pub fn end(&self) -> RecordAt {
        self.inner.live(|live| RecordAt { segment: live.number, offset: live.end })
    }

    /// Position known durable that a manifest may name.
    pub(super) fn durable(&self) -> RecordAt {
        self.inner.writer.lock().durable
    }

    /// The segments that count, oldest first; the last one is live, unless it is being sealed right now.
    #[must_use]
    pub fn segments(&self) -> Vec<SegmentInfo> {
        let inner = &*self.inner;
        together(&mut || inner.store.with(|manifest| manifest.segments(inner.stream).to_vec()), &mut || {
            inner.live(|live| SegmentEntry {
                summary: live.footer.summary,
                ..SegmentEntry::live(live.number, live.end)
            })
        })
    }

    /// A place from which to read so that no record with `lsn` or a greater one is missed, near the first of them;
    /// [`Log::end`] if there is none.
    ///
    /// # Errors
    /// `Damaged` or `File` if the footer of the segment cannot be read.
    pub fn find(&self, lsn: Lsn) -> Result<RecordAt, JournalError> {
        let reaches = |info: &&SegmentInfo| info.lsn_last.is_some_and(|last| last >= lsn);
        let Some(info) = self.segments().iter().find(reaches).cloned() else { return Ok(self.end()) };
        let in_live = self.inner.live(|live| {
            (live.number == info.number).then(|| live.footer.index.find(lsn).unwrap_or(FIRST_FRAME))
        });
        let offset = match in_live {
            Some(offset) => offset,
            None => {
                super::reader::read_footer(&self.inner, info.number)?.index.find(lsn).unwrap_or(FIRST_FRAME)
            }
        };
        Ok(RecordAt { segment: info.number, offset })
    }

    /// Drops all sealed segments in front of `segment`: from the manifest, then from the disk. Gives the bytes freed.
    ///
    /// # Errors
    /// If the manifest cannot be replaced; then nothing has been removed.
    pub fn drop_before(&self, segment: u64) -> Result<u64, JournalError> {
        let stream = self.inner.stream;
        let keeps = |entry: &SegmentEntry| !entry.sealed || entry.number >= segment;
        if self.inner.store.with(|manifest| manifest.segments(stream).iter().all(keeps)) {
            return Ok(0);
        }
        let dropped =
            self.inner.store.update(|manifest| take_before(manifest.segments_mut(stream), segment))?;
        Ok(self.remove_dropped(&dropped))
    }

    /// Removes files of segments that do not count any more; what cannot be removed now is at the next opening.
    pub(super) fn remove_dropped(&self, dropped: &[SegmentEntry]) -> u64 {
        let mut freed = 0;
        for entry in dropped {
            self.inner.forget_files(entry.number);
            let path = segment_path(self.inner.store.directory(), self.inner.stream, entry);
            match self.inner.store.disk().remove(&path) {
                Ok(()) => freed += entry.stored_bytes(),
                Err(error) => tracing::warn!(
                    path = %path.display(),
                    error = &error as &dyn std::error::Error,
                    "a dropped segment could not be removed; opening the journal will"
                ),
            }
        }
        freed
    }

    /// Commits, ends the segment with its footer and begins the next one. Does nothing to a segment without records.
    ///
    /// # Errors
    /// As [`Log::commit`]; the batch may be committed all the same, and then stays so.
    pub fn seal(&self) -> Result<(), JournalError> {
        let mut writer = self.inner.writer.lock();
        self.inner.check_poison()?;
        self.inner.commit(&mut writer)?;
        self.inner.seal(&mut writer)
    }

    /// Whether it refuses all writes until the journal is opened again.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.inner.poisoned.load(Ordering::Acquire)
    }

    /// The directory of the journal.
    #[must_use]
    pub fn directory(&self) -> &std::path::Path {
        self.inner.store.directory()
    }
}

/// What the manifest names and the segment that is written to, without a hole. They are looked at one after the other: if
/// a segment was sealed in between, it is in neither look, and both are taken again.
fn together(
    named: &mut dyn FnMut() -> Vec<SegmentEntry>,
    live: &mut dyn FnMut() -> SegmentEntry,
) -> Vec<SegmentInfo> {
    loop {
        let (named, live) = (named(), live());
        if named.last().is_some_and(|last| last.number < live.number) {
            continue;
        }
        let sealed = named.iter().filter(|entry| entry.sealed);
        let mut infos: Vec<SegmentInfo> = sealed.map(SegmentEntry::info).collect();
        // The manifest comes first in a sealing: then the segment is sealed there already.
        if infos.last().is_none_or(|last| last.number < live.number) {
            infos.push(live.info());
        }
        return infos;
    }
}

/// Takes the sealed segments in front of `segment` out of the list.
pub(super) fn take_before(list: &mut Vec<SegmentEntry>, segment: u64) -> Vec<SegmentEntry> {
    list.extract_if(.., |entry| entry.sealed && entry.number < segment).collect()
}

/// Whether a draft is within the limits of the format.
pub(super) fn check_limits(draft: &RecordDraft) -> Result<(), JournalError> {
    let payload_bytes: u64 = draft.payloads.iter().map(|payload| payload.len() as u64).sum();
    let checks = [
        ("a head", draft.head.len() as u64, HEAD_BYTES_MAX as u64),
        ("payloads", payload_bytes, PAYLOAD_BYTES_MAX as u64),
        ("a number of payloads", draft.payloads.len() as u64, PAYLOAD_COUNT_MAX as u64),
    ];
    match checks.into_iter().find(|(_, size, limit)| size > limit) {
        Some((what, size, limit)) => Err(JournalError::TooLong { what, size, limit }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
