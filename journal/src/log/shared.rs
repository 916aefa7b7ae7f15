//! What a log and its readers share: the live segment, the files of sealed ones, and the steps of the writer.
//!
//! Order of locks: writer, then manifest store, then live. The writer's lock is held over an fsync; readers need only
//! `live`, which is never held over one.

use super::manifest::{ManifestStore, SegmentEntry};
use super::pack::Packer;
use super::recover::{Expected, open_named};
use super::segment::{FIRST_FRAME, FORMAT_VERSION, Footer, SegmentHeader};
use super::thinned::{Gone, ThinFile, open_thin};
use super::types::{LogOptions, RecordAt, Stream};
use super::writer::Writer;
use crate::disk::{Disk, DiskFile};
use crate::error::{ErrorKind, JournalError};
use crate::meta::Timestamp;
use crate::spare::Spares;
use parking_lot::{Mutex, RwLock};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Sealed segments whose files are kept open.
const OPEN_FILES_MAX: usize = 32;
/// Thinned segments whose tables are kept, a mebibyte each at most.
const OPEN_THIN_MAX: usize = 16;

/// From this length on, what was read or made durable need not stay in the system's memory: a journal is written once and
/// its bytes are hardly read, least of all soon, while the memory it took would be that of the files of the tree. What
/// lies close together in one page is left there for the next one to write.
pub(super) const FORGET_BYTES_MIN: u64 = 128 << 10;

/// Which file of a segment: its number, and how often it was thinned.
pub(super) type Which = (u64, u64);

/// What readers share with the log.
pub(super) struct Inner {
    pub(super) stream: Stream,
    pub(super) store: Arc<ManifestStore>,
    pub(super) options: LogOptions,
    pub(super) writer: Mutex<Writer>,
    pub(super) live: RwLock<Live>,
    /// Sealed segments that are open.
    pub(super) files: Mutex<Vec<(Which, Arc<dyn DiskFile>)>>,
    /// Thinned segments that are open.
    pub(super) thin: Mutex<Vec<(Which, Arc<ThinFile>)>>,
    pub(super) poisoned: AtomicBool,
    /// Points that are given up if the manifest counts that could not be made durable.
    pub(super) unknown: Mutex<Option<Gone>>,
    pub(super) packer: Arc<Packer>,
    /// What payloads are read into.
    pub(super) spares: Spares,
}

/// The segment that is being written, as readers see it.
pub(super) struct Live {
    pub(super) number: u64,
    pub(super) file: Arc<dyn DiskFile>,
    /// Committed and durable up to here.
    pub(super) end: u64,
    /// In the file up to here.
    pub(super) written: u64,
    pub(super) footer: Footer,
}

impl Inner {
    pub(super) fn path(&self, number: u64) -> PathBuf {
        self.store.directory().join(self.stream.file_name(number))
    }

    /// Which file segment `number` must be; `None` if no such segment counts.
    pub(super) fn expected(&self, number: u64) -> Option<(Expected, SegmentEntry)> {
        let (path, stream) = (self.path(number), self.stream);
        self.store.with(|manifest| {
            let entry = manifest.segment(stream, number)?.clone();
            let before = manifest.segment(stream, number.checked_sub(1)?);
            let (identity, previous) = (manifest.identity, before.map(|before| before.chain));
            Some((Expected { path, identity, stream, number, previous }, entry))
        })
    }

    pub(super) fn no_such_segment(&self, number: u64) -> JournalError {
        JournalError::NotFound { what: "segment", name: self.stream.file_name(number) }
    }

    pub(super) fn live<T>(&self, look: impl FnOnce(&Live) -> T) -> T {
        look(&self.live.read())
    }

    /// The file of a segment that counts, and how many bytes of it may be read.
    pub(super) fn file(&self, number: u64) -> Result<(Arc<dyn DiskFile>, u64), JournalError> {
        if let Some(found) =
            self.live(|live| (live.number == number).then(|| (live.file.clone(), live.written)))
        {
            return Ok(found);
        }
        loop {
            let (_, entry) = self.expected(number).ok_or_else(|| self.no_such_segment(number))?;
            match self.sealed_file(&entry) {
                Ok(file) => return Ok((file, entry.bytes)),
                // Retention may have dropped or thinned it since we looked; what it removes it has taken from the manifest
                // before.
                Err(error) if self.is_current(&entry) => return Err(error),
                Err(_) => {}
            }
        }
    }

    /// Whether the manifest still names the file that this entry names.
    pub(super) fn is_current(&self, entry: &SegmentEntry) -> bool {
        self.expected(entry.number).is_some_and(|(_, now)| now.thin == entry.thin)
    }

    fn sealed_file(&self, entry: &SegmentEntry) -> Result<Arc<dyn DiskFile>, JournalError> {
        let key = (entry.number, entry.thin.as_ref().map_or(0, |thin| thin.generation));
        let mut files = self.files.lock();
        if let Some(index) = files.iter().position(|(known, _)| *known == key) {
            let found = files.remove(index);
            let file = found.1.clone();
            files.push(found);
            return Ok(file);
        }
        let file = match entry.thin {
            Some(_) => self.remember_thin(key, self.open_thin(entry)?),
            None => open_named(&**self.store.disk(), &self.path(entry.number))?,
        };
        if files.len() >= OPEN_FILES_MAX {
            files.remove(0);
        }
        files.push((key, file.clone()));
        Ok(file)
    }

    pub(super) fn open_thin(&self, entry: &SegmentEntry) -> Result<ThinFile, JournalError> {
        let identity = self.store.with(|manifest| manifest.identity);
        open_thin(&**self.store.disk(), self.store.directory(), identity, self.stream, entry)
    }

    pub(super) fn remember_thin(&self, key: (u64, u64), file: ThinFile) -> Arc<ThinFile> {
        let (file, mut thin) = (Arc::new(file), self.thin.lock());
        if thin.len() >= OPEN_THIN_MAX {
            thin.remove(0);
        }
        thin.push((key, Arc::clone(&file)));
        file
    }

    /// Closes the files of a segment that were replaced or dropped.
    pub(super) fn forget_files(&self, number: u64) {
        self.files.lock().retain(|((known, _), _)| *known != number);
        self.thin.lock().retain(|((known, _), _)| *known != number);
    }

    pub(super) fn failed(
        &self,
        operation: &'static str,
        number: u64,
    ) -> impl FnOnce(io::Error) -> JournalError {
        let path = self.path(number);
        move |source| JournalError::File { operation, path, source }
    }

    pub(super) fn check_poison(&self) -> Result<(), JournalError> {
        if self.poisoned.load(Ordering::Acquire) {
            return Err(JournalError::Poisoned { path: self.store.directory().to_owned() });
        }
        Ok(())
    }

    fn poison(&self, error: JournalError) -> JournalError {
        self.poisoned.store(true, Ordering::Release);
        error
    }

    /// Poisons unless it was only room that was missing.
    pub(super) fn poison_unless_full(&self, error: JournalError) -> JournalError {
        if error.kind() == ErrorKind::Full { error } else { self.poison(error) }
    }

    pub(super) fn flush(&self, writer: &mut Writer) -> Result<(), JournalError> {
        writer.flush().map_err(|e| self.poison_unless_full(self.failed("write", writer.number)(e)))?;
        self.live.write().written = writer.written;
        Ok(())
    }

    fn sync(&self, writer: &Writer) -> Result<(), JournalError> {
        writer.file.sync_data().map_err(|e| {
            let error = self.poison(self.failed("sync", writer.number)(e));
            if error.kind() != ErrorKind::Full {
                return error;
            }
            // A write that found no room may be repeated, an fsync may not, so it must not look alike.
            tracing::error!(error = &error as &dyn std::error::Error, "an fsync found no room");
            JournalError::Poisoned { path: self.store.directory().to_owned() }
        })
    }

    pub(super) fn commit(&self, writer: &mut Writer) -> Result<RecordAt, JournalError> {
        if writer.batch.records.is_empty() {
            return Ok(self.live(|live| RecordAt { segment: live.number, offset: live.end }));
        }
        let mark = writer.mark();
        writer.add_commit();
        self.flush(writer).inspect_err(|_| writer.back_to(&mark))?;
        self.sync(writer)?;
        let from = writer.committed;
        let batch = writer.set_committed();
        writer.set_durable();
        if writer.committed - from >= FORGET_BYTES_MIN {
            writer.file.forget(from, writer.committed - from);
        }
        let mut live = self.live.write();
        live.end = writer.committed;
        live.footer.summary.merge(&batch.summary);
        batch.records.iter().for_each(|(offset, lsn)| live.footer.index.note(*offset, *lsn));
        Ok(writer.durable)
    }

    /// Forgets what is not committed, on disk too. The cut is synced: what the caller was told is gone must not come
    /// back after a power cut.
    pub(super) fn cut(&self, writer: &mut Writer) -> Result<(), JournalError> {
        writer.reset();
        let failed = |e| self.poison(self.failed("cut", writer.number)(e));
        if writer.file.len().map_err(failed)? > writer.committed {
            writer.file.set_len(writer.committed).map_err(failed)?;
            self.sync(writer)?;
        }
        self.live.write().written = writer.committed;
        Ok(())
    }

    /// Seals the live segment, of which everything is committed, and begins the next one.
    pub(super) fn seal(&self, writer: &mut Writer) -> Result<(), JournalError> {
        let footer_at = writer.next;
        let footer = self.live(|live| live.footer.clone());
        if footer.summary.records == 0 {
            return Ok(());
        }
        writer.add_footer(&footer);
        let done = self.flush(writer).and_then(|()| {
            self.sync(writer)?;
            self.roll(writer, footer_at)
        });
        if done.is_err() && self.check_poison().is_ok() {
            // The segment stays live: without the footer, which may be on disk already.
            self.cut(writer)?;
        }
        done
    }

    /// Begins the segment behind the writer's, whose footer is durable.
    pub(super) fn roll(&self, writer: &mut Writer, footer_at: u64) -> Result<(), JournalError> {
        let (number, chain, bytes) = (writer.number, writer.chain, writer.next);
        let summary = self.live(|live| live.footer.summary);
        let (file, header) = self.create_next(number + 1, chain)?;
        let sealed =
            SegmentEntry { number, sealed: true, bytes, footer: footer_at, chain, summary, thin: None };
        let named = self.store.update(|manifest| {
            let list = manifest.segments_mut(self.stream);
            list.pop();
            list.extend([sealed, SegmentEntry::live(number + 1, FIRST_FRAME)]);
        });
        if let Err(error) = named {
            // Which of the two manifests a crash leaves is unknown: only opening again can tell.
            return Err(if self.store.is_poisoned() { self.poison(error) } else { error });
        }
        let start = RecordAt { segment: number + 1, offset: FIRST_FRAME };
        *writer = Writer::new(file.clone(), header.key(), start, header.chain(), start);
        *self.live.write() = Live {
            number: number + 1,
            file,
            end: FIRST_FRAME,
            written: FIRST_FRAME,
            footer: Footer::default(),
        };
        Ok(())
    }

    fn create_next(
        &self,
        number: u64,
        previous: [u8; 16],
    ) -> Result<(Arc<dyn DiskFile>, SegmentHeader), JournalError> {
        let identity = self.store.with(|manifest| manifest.identity);
        let (version, stream) = (FORMAT_VERSION, self.stream);
        let header = SegmentHeader { version, stream, identity, number, created: now(), previous };
        let file = create_segment(&**self.store.disk(), self.store.directory(), &header)?;
        Ok((file, header))
    }

    /// Seals if the segment is long enough. The batch is durable: no error here takes that back.
    pub(super) fn seal_if_long(&self, writer: &mut Writer) {
        if writer.committed >= self.options.segment_bytes_max
            && let Err(error) = self.seal(writer)
        {
            tracing::warn!(
                segment = %self.path(writer.number).display(),
                error = &error as &dyn std::error::Error,
                "a segment could not be sealed; the next commit tries again"
            );
        }
    }
}

/// Creates the file of a segment that does not count yet; durable when this returns.
pub(super) fn create_segment(
    disk: &dyn Disk,
    directory: &Path,
    header: &SegmentHeader,
) -> Result<Arc<dyn DiskFile>, JournalError> {
    let path = directory.join(header.stream.file_name(header.number));
    let failed = |operation| {
        let path = path.clone();
        move |source| JournalError::File { operation, path, source }
    };
    // What an attempt that failed has left.
    match disk.remove(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("remove")(error)),
        _ => {}
    }
    let file = disk.create(&path).map_err(failed("create"))?;
    file.write_at(&header.encode(), 0).map_err(failed("write"))?;
    file.sync_data().map_err(failed("sync"))?;
    disk.sync_dir(directory).map_err(failed("sync the directory of"))?;
    Ok(file)
}

/// The clock of this machine.
pub(super) fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}
