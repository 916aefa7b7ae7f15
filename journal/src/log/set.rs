//! [`LogSet`]: one journal directory. Both streams, the manifest they share, the lock, retention.

use super::manifest::{self, FileEntry, Identity, MANIFEST_NAME, Manifest, ManifestStore, SegmentEntry};
use super::segment::{FIRST_FRAME, FORMAT_VERSION, SEGMENT_HEADER_BYTES, SegmentHeader};
use super::shared::{create_segment, now};
use super::stream::{Log, take_before};
use super::thinned::{parse_thin_name, segment_path};
use super::types::{LogOptions, RecordAt, Stream};
use super::verify::{VerifyProgress, VerifyReport, verify_manifest};
use crate::disk::Disk;
use crate::error::JournalError;
use crate::meta::Timestamp;
use std::io;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Name of the file that is locked while a journal is open.
const LOCK_NAME: &str = "lock";
/// Ending of the names of the owner's files.
const FILE_SUFFIX: &str = ".checkpoint";
/// Ending of the names of files that were never finished.
const UNFINISHED_SUFFIX: &str = ".new";

/// What retention takes away, and what it leaves instead, in one step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retire {
    /// Sealed redo segments in front of this number go.
    pub redo_before: u64,
    /// Sealed undo segments in front of this number go.
    pub undo_before: u64,
    /// The owner's note from now on, if it changes.
    pub note: Option<Vec<u8>>,
    /// The owner's files from now on, if they change; those not listed any more go.
    pub files: Option<Vec<FileEntry>>,
}

/// An open journal directory. While it, or one of its logs, is alive, nobody else can open the directory.
pub struct LogSet {
    store: Arc<ManifestStore>,
    redo: Arc<Log>,
    undo: Arc<Log>,
}

impl LogSet {
    /// Opens the journal in `directory`, or begins one if there is none. Cuts what a crash left half done.
    ///
    /// # Errors
    /// `InUse` if it is open elsewhere; `Damaged` if anything is not as it was known to be durable; `NewerVersion`;
    /// `File` if the disk refuses.
    pub fn open(disk: Arc<dyn Disk>, directory: &Path, options: LogOptions) -> Result<Self, JournalError> {
        Self::open_held_to(disk, directory, options, |_| options)
    }

    /// The same, with other options once the identity of the journal is known and the directory is locked: whoever
    /// remembers how far this journal was durable can say so before anything is cut.
    ///
    /// # Errors
    /// As [`LogSet::open`].
    pub fn open_held_to(
        disk: Arc<dyn Disk>,
        directory: &Path,
        options: LogOptions,
        held_to: impl FnOnce([u8; 16]) -> LogOptions,
    ) -> Result<Self, JournalError> {
        let failed = |operation| move |source| file_error(operation, directory.to_owned(), source);
        disk.create_dir_all(directory).map_err(failed("create"))?;
        let lock = disk.lock(&directory.join(LOCK_NAME)).map_err(|source| match source.kind() {
            io::ErrorKind::WouldBlock => JournalError::InUse { path: directory.to_owned() },
            _ => file_error("lock", directory.to_owned(), source),
        })?;
        let manifest = match manifest::load(&*disk, directory)? {
            Some(manifest) => {
                // Its name may be younger than the last sync that went well, and frames are about to rely on it.
                disk.sync_dir(directory).map_err(failed("sync"))?;
                manifest
            }
            None => begin(&*disk, directory, &options)?,
        };
        tidy(&*disk, directory, &manifest)?;
        check_named(&*disk, directory, &manifest)?;
        let options = held_to(manifest.identity.0);
        let store = Arc::new(ManifestStore::new(disk, directory, manifest, lock));
        let redo = Arc::new(Log::open(&store, Stream::Redo, options)?);
        let undo = Arc::new(Log::open(&store, Stream::Undo, options)?);
        Ok(LogSet { store, redo, undo })
    }

    /// One of the streams.
    #[must_use]
    pub fn log(&self, stream: Stream) -> &Arc<Log> {
        match stream {
            Stream::Redo => &self.redo,
            Stream::Undo => &self.undo,
        }
    }

    /// What tells this journal from all others.
    #[must_use]
    pub fn journal_id(&self) -> [u8; 16] {
        self.store.with(|manifest| manifest.identity.0)
    }

    /// When it was begun.
    #[must_use]
    pub fn created(&self) -> Timestamp {
        self.store.with(|manifest| manifest.created)
    }

    /// Version of the format on disk.
    #[must_use]
    pub fn format_version(&self) -> u32 {
        FORMAT_VERSION
    }

    /// The directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.store.directory()
    }

    /// The disk it lies on.
    #[must_use]
    pub fn disk(&self) -> &Arc<dyn Disk> {
        self.store.disk()
    }

    /// The owner's few bytes, as last set.
    #[must_use]
    pub fn note(&self) -> Vec<u8> {
        self.store.with(|manifest| manifest.note.clone())
    }

    /// The owner's files that count.
    #[must_use]
    pub fn files(&self) -> Vec<FileEntry> {
        self.store.with(|manifest| manifest.files.clone())
    }

    /// Where a file of the owner lies. The name must end in `.checkpoint`; the owner writes the file, syncs it and
    /// the directory, and then names it with [`LogSet::retire`]. Files not named are removed at the next opening.
    #[must_use]
    pub fn file_path(&self, name: &str) -> PathBuf {
        self.store.directory().join(name)
    }

    /// Sets note and files and takes away old segments, in one step: after a crash all of it has happened, or
    /// nothing. Gives the bytes of the segments freed.
    ///
    /// # Errors
    /// If the manifest cannot be replaced; `NotFound` if a file to be named has an unfit name.
    pub fn retire(&self, retire: Retire) -> Result<u64, JournalError> {
        let Retire { redo_before, undo_before, note, files } = retire;
        if let Some(file) = files.iter().flatten().find(|file| !is_file_name(&file.name)) {
            return Err(JournalError::NotFound { what: "file for the manifest", name: file.name.clone() });
        }
        let (redo, undo, gone) = self.store.update(|manifest| {
            if let Some(note) = note {
                manifest.note = note;
            }
            let kept = files.unwrap_or_else(|| manifest.files.clone());
            let old = std::mem::replace(&mut manifest.files, kept);
            let gone: Vec<FileEntry> = old
                .into_iter()
                .filter(|old| manifest.files.iter().all(|kept| kept.name != old.name))
                .collect();
            (take_before(&mut manifest.redo, redo_before), take_before(&mut manifest.undo, undo_before), gone)
        })?;
        for file in gone {
            let path = self.file_path(&file.name);
            if let Err(error) = self.store.disk().remove(&path) {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(path = %path.display(), error, "a file could not be removed; opening the journal will");
            }
        }
        Ok(self.redo.remove_dropped(&redo) + self.undo.remove_dropped(&undo))
    }

    /// Sets the owner's note.
    ///
    /// # Errors
    /// If the manifest cannot be replaced.
    pub fn set_note(&self, note: Vec<u8>) -> Result<(), JournalError> {
        self.retire(Retire { note: Some(note), ..Retire::default() }).map(drop)
    }

    /// Reads everything that is committed and compares it with its checksums, while the journal goes on.
    ///
    /// # Errors
    /// Only if reading was impossible; damage is in the report.
    pub fn verify(&self, progress: &mut dyn FnMut(VerifyProgress)) -> Result<VerifyReport, JournalError> {
        // In this order: a segment that is sealed in between is then sealed in the manifest.
        let ends = Some([self.redo.end(), self.undo.end()]);
        let manifest = self.store.with(Clone::clone);
        verify_manifest(&**self.store.disk(), self.store.directory(), &manifest, ends, progress)
    }

    /// Writes into the manifest how far both streams are durable, so that damage in the last batch tells from a torn
    /// tail. Everything committed is safe without it.
    ///
    /// # Errors
    /// If the manifest cannot be replaced.
    pub fn close(&self) -> Result<(), JournalError> {
        let ends = [self.redo.durable(), self.undo.durable()];
        let says = |manifest: &Manifest| Stream::ALL.map(|stream| manifest::durable(manifest, stream));
        if self.store.with(says) == ends {
            return Ok(());
        }
        self.store.update(|manifest| {
            for (stream, end) in Stream::ALL.into_iter().zip(ends) {
                if let Some(live) = manifest.segments_mut(stream).last_mut()
                    && live.number == end.segment
                {
                    live.bytes = end.offset;
                }
            }
        })
    }
}

impl Drop for LogSet {
    fn drop(&mut self) {
        if self.redo.is_poisoned() || self.undo.is_poisoned() || self.store.is_poisoned() {
            return;
        }
        if let Err(error) = self.close() {
            let error = &error as &dyn std::error::Error;
            tracing::debug!(error, "the journal was closed without a note of how far it is durable");
        }
    }
}

fn file_error(operation: &'static str, path: PathBuf, source: io::Error) -> JournalError {
    JournalError::File { operation, path, source }
}

fn is_file_name(name: &str) -> bool {
    name.len() > FILE_SUFFIX.len() && name.ends_with(FILE_SUFFIX) && !name.contains('/') && name.len() < 256
}

/// Where there is no manifest, there must be no frames: a crash while a journal is begun leaves segments without any.
pub(super) fn refuse_orphans(disk: &dyn Disk, directory: &Path) -> Result<(), JournalError> {
    for name in disk.list(directory).map_err(|e| file_error("list", directory.to_owned(), e))? {
        if Stream::parse_file_name(&name).is_some() {
            refuse_frames(disk, &directory.join(name), "the journal has frames but no manifest")?;
        }
    }
    Ok(())
}

/// Begins a journal, again if an earlier attempt was cut short.
fn begin(disk: &dyn Disk, directory: &Path, options: &LogOptions) -> Result<Manifest, JournalError> {
    refuse_orphans(disk, directory)?;
    let identity = match options.identity {
        Some(identity) => identity,
        None => random_identity()?,
    };
    if let Some(parent) = directory.parent() {
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        disk.sync_dir(parent).map_err(|e| file_error("sync", parent.to_owned(), e))?;
    }
    let created = now();
    for stream in Stream::ALL {
        let (version, previous) = (FORMAT_VERSION, [0; 16]);
        let header = SegmentHeader { version, stream, identity, number: 1, created, previous };
        create_segment(disk, directory, &header)?;
    }
    let live = || vec![SegmentEntry::live(1, FIRST_FRAME)];
    let (note, files) = (Vec::new(), Vec::new());
    let manifest = Manifest { identity, created, generation: 1, note, files, redo: live(), undo: live() };
    manifest::write(disk, directory, &manifest, &mut false)?;
    Ok(manifest)
}

fn random_identity() -> Result<Identity, JournalError> {
    let path = Path::new("/dev/urandom");
    let mut bytes = [0; 16];
    let read = std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut bytes));
    read.map_err(|source| file_error("read", path.to_owned(), source))?;
    Ok(Identity(bytes))
}

fn refuse_frames(disk: &dyn Disk, path: &Path, what: &'static str) -> Result<(), JournalError> {
    let length = disk.open(path).and_then(|file| file.len());
    let length = length.map_err(|source| file_error("open", path.to_owned(), source))?;
    if length > SEGMENT_HEADER_BYTES as u64 {
        return Err(JournalError::Damaged { path: path.to_owned(), offset: FIRST_FRAME, what });
    }
    Ok(())
}

/// Removes what a crash left: segments dropped from the manifest or not yet in it, and unfinished files.
fn tidy(disk: &dyn Disk, directory: &Path, manifest: &Manifest) -> Result<(), JournalError> {
    for name in disk.list(directory).map_err(|e| file_error("list", directory.to_owned(), e))? {
        let path = directory.join(&name);
        let thin = parse_thin_name(&name);
        let named = |stream, number| manifest.segment(stream, number).map(|entry| entry.thin.as_ref());
        let stale = match Stream::parse_file_name(&name) {
            None if let Some((stream, number, generation)) = thin => {
                named(stream, number).flatten().is_none_or(|thin| thin.generation != generation)
            }
            // A thinned one stands for it.
            Some((stream, number)) if named(stream, number).flatten().is_some() => true,
            Some((stream, number)) if manifest.segment(stream, number).is_none() => {
                let newest = manifest.segments(stream).last().map_or(0, |last| last.number);
                if number > newest {
                    // Frames are only written to a segment that a durable manifest names.
                    refuse_frames(
                        disk,
                        &path,
                        "the manifest does not name this segment, but it holds frames",
                    )?;
                }
                true
            }
            Some(_) => false,
            None if name.ends_with(FILE_SUFFIX) => manifest.files.iter().all(|file| file.name != name),
            None => name.ends_with(UNFINISHED_SUFFIX) && name != MANIFEST_NAME,
        };
        if stale {
            tracing::info!(path = %path.display(), "removed a file that does not count");
            disk.remove(&path).map_err(|source| file_error("remove", path.clone(), source))?;
        }
    }
    Ok(())
}

/// All sealed segments and files of the owner are there in full length. Their bytes are `verify`'s business.
fn check_named(disk: &dyn Disk, directory: &Path, manifest: &Manifest) -> Result<(), JournalError> {
    let sealed = Stream::ALL.into_iter().flat_map(|stream| {
        let list = manifest.segments(stream).iter().filter(|entry| entry.sealed);
        list.map(move |entry| (segment_path(directory, stream, entry), entry.stored_bytes()))
    });
    let files = manifest.files.iter().map(|file| (directory.join(&file.name), file.bytes));
    for (path, bytes) in sealed.chain(files) {
        let length = super::recover::open_named(disk, &path)?
            .len()
            .map_err(|source| file_error("read", path.clone(), source))?;
        if length != bytes {
            let what = "the file is not as long as the manifest says";
            return Err(JournalError::Damaged { path, offset: length.min(bytes), what });
        }
    }
    Ok(())
}

/// Ends of both streams, for `verify`.
pub(super) type Ends = [RecordAt; 2];
