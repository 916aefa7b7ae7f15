//! The manifest: which segments count, in one small file that is replaced in one step.
//!
//! A segment counts from the moment a manifest that names it is durable, and no longer from the moment one that does
//! not name it is. Files are created before and removed after; so a crash leaves at most files that do not count,
//! and those are removed when the journal is opened.

use super::codec::{Put, Take};
use super::frame::Chain;
use super::segment::{SUMMARY_BYTES, Summary};
use super::types::{RecordAt, SegmentInfo, Stream};
use crate::disk::Disk;
use crate::error::JournalError;
use crate::meta::Timestamp;
use parking_lot::{Mutex, RwLock};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const MANIFEST_MAGIC: [u8; 8] = *b"REWINDMF";
/// Newest version this program knows. Older programs cannot read a thinned segment, so a manifest that names one is of
/// version 2; any other is written in version 1.
const MANIFEST_VERSION: u32 = 2;
const PLAIN_VERSION: u32 = 1;
const MANIFEST_HEADER_BYTES: usize = 24;
/// A longer manifest is refused.
const MANIFEST_BYTES_MAX: u64 = 256 << 20;
const ENTRY_BYTES: usize = 8 + 8 + 8 + 8 + 16 + SUMMARY_BYTES;
/// What an entry has in addition since version 2.
const THIN_BYTES: usize = 8 + 8;
/// Name of the manifest.
pub(super) const MANIFEST_NAME: &str = "manifest";
/// Where the next manifest is written before it takes its name.
pub(super) const MANIFEST_NEW_NAME: &str = "manifest.new";

/// What tells one journal from all others: random, given at its creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity(pub [u8; 16]);

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A file of the owner (a checkpoint) that counts because the manifest names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileEntry {
    /// Name in the directory of the journal; ends in `.checkpoint`.
    pub name: String,
    /// Length in bytes.
    pub bytes: u64,
    /// First 16 bytes of the BLAKE3 hash of the file.
    pub hash: [u8; 16],
}

/// Which file stands for a segment whose payloads were given up in part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ThinEntry {
    /// Counts from 1 how often it was thinned; in the name of the file.
    pub(super) generation: u64,
    /// Length of the file.
    pub(super) stored: u64,
}

/// A segment that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SegmentEntry {
    pub(super) number: u64,
    pub(super) sealed: bool,
    /// Length of a sealed segment; of the live one, what was durable when the manifest was written.
    pub(super) bytes: u64,
    /// Where the footer of a sealed segment starts, else 0.
    pub(super) footer: u64,
    /// Value of the hash chain at the end of a sealed segment, else zeros.
    pub(super) chain: Chain,
    /// Of all records of a sealed segment, else nothing.
    pub(super) summary: Summary,
    /// Of a sealed segment that was thinned.
    pub(super) thin: Option<ThinEntry>,
}

impl SegmentEntry {
    pub(super) fn live(number: u64, bytes: u64) -> Self {
        let (footer, chain, summary) = (0, [0; 16], Summary::default());
        SegmentEntry { number, sealed: false, bytes, footer, chain, summary, thin: None }
    }

    /// Length of the file.
    pub(super) fn stored_bytes(&self) -> u64 {
        self.thin.as_ref().map_or(self.bytes, |thin| thin.stored)
    }

    pub(super) fn info(&self) -> SegmentInfo {
        SegmentInfo {
            number: self.number,
            sealed: self.sealed,
            bytes: self.stored_bytes(),
            thinned: self.thin.as_ref().map_or(0, |thin| self.bytes.saturating_sub(thin.stored)),
            is_thinned: self.thin.is_some(),
            records: self.summary.records,
            payload_bytes: self.summary.payload_bytes,
            lsn_first: self.summary.lsns.map(|(first, _)| first),
            lsn_last: self.summary.lsns.map(|(_, last)| last),
            time_first: self.summary.times.map(|(first, _)| first),
            time_last: self.summary.times.map(|(_, last)| last),
        }
    }

    fn encode(&self, version: u32, out: &mut Vec<u8>) {
        out.put_u64(self.number);
        out.put_u64(u64::from(self.sealed));
        out.put_u64(self.bytes);
        out.put_u64(self.footer);
        out.put(&self.chain);
        self.summary.encode(out);
        if version > PLAIN_VERSION {
            let thin = self.thin.as_ref().map_or((0, 0), |thin| (thin.generation, thin.stored));
            out.put_u64(thin.0);
            out.put_u64(thin.1);
        }
    }

    fn decode(version: u32, take: &mut Take<'_>) -> Option<Self> {
        let number = take.u64()?;
        let sealed = match take.u64()? {
            0 => false,
            1 => true,
            _ => return None,
        };
        let (bytes, footer, chain) = (take.u64()?, take.u64()?, take.array()?);
        let summary = Summary::decode(take)?;
        let (generation, stored) = if version > PLAIN_VERSION { (take.u64()?, take.u64()?) } else { (0, 0) };
        let thin = (generation > 0).then_some(ThinEntry { generation, stored });
        if (thin.is_some() && !sealed) || (thin.is_none() && stored != 0) {
            return None;
        }
        Some(SegmentEntry { number, sealed, bytes, footer, chain, summary, thin })
    }
}

/// What the manifest says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Manifest {
    pub(super) identity: Identity,
    pub(super) created: Timestamp,
    /// Counts the manifests of this journal.
    pub(super) generation: u64,
    /// The owner's own few bytes.
    pub(super) note: Vec<u8>,
    /// The owner's own files.
    pub(super) files: Vec<FileEntry>,
    pub(super) redo: Vec<SegmentEntry>,
    pub(super) undo: Vec<SegmentEntry>,
}

impl Manifest {
    pub(super) fn segments(&self, stream: Stream) -> &Vec<SegmentEntry> {
        match stream {
            Stream::Redo => &self.redo,
            Stream::Undo => &self.undo,
        }
    }

    pub(super) fn segments_mut(&mut self, stream: Stream) -> &mut Vec<SegmentEntry> {
        match stream {
            Stream::Redo => &mut self.redo,
            Stream::Undo => &mut self.undo,
        }
    }

    pub(super) fn segment(&self, stream: Stream, number: u64) -> Option<&SegmentEntry> {
        let list = self.segments(stream);
        let first = list.first()?.number;
        list.get(usize::try_from(number.checked_sub(first)?).ok()?)
    }

    fn version(&self) -> u32 {
        let mut all = Stream::ALL.into_iter().flat_map(|stream| self.segments(stream));
        if all.any(|entry| entry.thin.is_some()) { MANIFEST_VERSION } else { PLAIN_VERSION }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let version = self.version();
        let mut body = Vec::new();
        body.put(&self.identity.0);
        body.put_i64(self.created.0);
        body.put_u64(self.generation);
        body.put_u32(self.note.len() as u32);
        body.put(&self.note);
        body.put_u32(self.files.len() as u32);
        for file in &self.files {
            body.put_u32(file.name.len() as u32);
            body.put(file.name.as_bytes());
            body.put_u64(file.bytes);
            body.put(&file.hash);
        }
        for stream in Stream::ALL {
            body.put_u32(self.segments(stream).len() as u32);
            self.segments(stream).iter().for_each(|entry| entry.encode(version, &mut body));
        }
        let mut out = Vec::with_capacity(MANIFEST_HEADER_BYTES + body.len());
        out.put(&MANIFEST_MAGIC);
        out.put_u32(version);
        out.put_u32(0);
        out.put_u32(body.len() as u32);
        let crc = crc32c::crc32c_append(crc32c::crc32c(&out), &body);
        out.put_u32(crc);
        out.put(&body);
        out
    }

    /// The manifest, or the version that is too new (`Ok(Err)`), or `None` if the bytes are damaged.
    pub(super) fn decode(bytes: &[u8]) -> Option<Result<Self, u32>> {
        let mut take = Take(bytes);
        let checked = bytes.get(..MANIFEST_HEADER_BYTES - 4)?;
        if take.array::<8>()? != MANIFEST_MAGIC {
            return None;
        }
        let (version, zero, length, crc) = (take.u32()?, take.u32()?, take.u32()?, take.u32()?);
        let body = take.0;
        if body.len() != length as usize || crc != crc32c::crc32c_append(crc32c::crc32c(checked), body) {
            return None;
        }
        if version > MANIFEST_VERSION {
            return Some(Err(version));
        }
        Self::body(version, body)
            .filter(|manifest| zero == 0 && version == manifest.version() && manifest.is_sound())
            .map(Ok)
    }

    fn body(version: u32, bytes: &[u8]) -> Option<Self> {
        let mut take = Take(bytes);
        let identity = Identity(take.array()?);
        let (created, generation) = (Timestamp(take.i64()?), take.u64()?);
        let note_bytes = take.u32()? as usize;
        let note = take.bytes(note_bytes)?.to_vec();
        let mut files = Vec::new();
        for _ in 0..take.u32()? {
            let name_bytes = take.u32()? as usize;
            let name = String::from_utf8(take.bytes(name_bytes)?.to_vec()).ok()?;
            files.push(FileEntry { name, bytes: take.u64()?, hash: take.array()? });
        }
        let mut segments = || {
            let count = take.u32()? as usize;
            let entry_bytes = if version > PLAIN_VERSION { ENTRY_BYTES + THIN_BYTES } else { ENTRY_BYTES };
            if take.0.len() < count.checked_mul(entry_bytes)? {
                return None;
            }
            (0..count).map(|_| SegmentEntry::decode(version, &mut take)).collect::<Option<Vec<_>>>()
        };
        let (redo, undo) = (segments()?, segments()?);
        take.0.is_empty().then_some(Manifest { identity, created, generation, note, files, redo, undo })
    }

    /// Numbers without gaps, the last segment live, all others sealed.
    fn is_sound(&self) -> bool {
        Stream::ALL.into_iter().all(|stream| {
            let list = self.segments(stream);
            let follows = |pair: (&SegmentEntry, &SegmentEntry)| {
                pair.0.sealed && pair.0.number.checked_add(1) == Some(pair.1.number)
            };
            list.last().is_some_and(|last| !last.sealed)
                && list.first().is_some_and(|first| first.number > 0)
                && list.iter().zip(list.iter().skip(1)).all(follows)
        })
    }
}

/// Reads the manifest of a journal; `None` if there is none.
pub(super) fn load(disk: &dyn Disk, directory: &Path) -> Result<Option<Manifest>, JournalError> {
    let path = directory.join(MANIFEST_NAME);
    let file = match disk.open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(JournalError::File { operation: "open", path, source }),
    };
    let damaged = |what| JournalError::Damaged { path: path.clone(), offset: 0, what };
    let failed = |source| JournalError::File { operation: "read", path: path.clone(), source };
    let length = file.len().map_err(failed)?;
    if length > MANIFEST_BYTES_MAX {
        return Err(damaged("the manifest is too long"));
    }
    let mut bytes = vec![0; length as usize];
    let read = file.read_at(&mut bytes, 0).map_err(failed)?;
    bytes.truncate(read);
    match Manifest::decode(&bytes) {
        None => Err(damaged("the manifest does not match its checksum")),
        Some(Err(version)) => Err(JournalError::NewerVersion { path, version }),
        Some(Ok(manifest)) => Ok(Some(manifest)),
    }
}

/// The manifest of an open journal. Holds the lock on the directory as long as anything uses the journal.
pub(super) struct ManifestStore {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    current: RwLock<Manifest>,
    /// Serializes replacements; `true` once it is unknown which manifest a crash would leave.
    poisoned: Mutex<bool>,
    _lock: Box<dyn Send + Sync>,
}

impl ManifestStore {
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        directory: &Path,
        manifest: Manifest,
        lock: Box<dyn Send + Sync>,
    ) -> Self {
        let (current, poisoned) = (RwLock::new(manifest), Mutex::new(false));
        ManifestStore { disk, directory: directory.to_owned(), current, poisoned, _lock: lock }
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(super) fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// Looks at the manifest. Must not call back into the store.
    pub(super) fn with<T>(&self, look: impl FnOnce(&Manifest) -> T) -> T {
        look(&self.current.read())
    }

    pub(super) fn is_poisoned(&self) -> bool {
        *self.poisoned.lock()
    }

    /// Replaces the manifest by what `change` makes of it; when this returns `Ok`, the new one is durable. After an
    /// error the old one stands, unless the store is poisoned: then either may.
    pub(super) fn update<T>(&self, change: impl FnOnce(&mut Manifest) -> T) -> Result<T, JournalError> {
        let mut poisoned = self.poisoned.lock();
        if *poisoned {
            return Err(JournalError::Poisoned { path: self.directory.clone() });
        }
        let mut next = self.current.read().clone();
        let result = change(&mut next);
        next.generation += 1;
        write(&*self.disk, &self.directory, &next, &mut poisoned)?;
        *self.current.write() = next;
        Ok(result)
    }
}

/// Writes a manifest beside the present one and lets it take its name. `unknown` is set if it fails at a point where
/// a crash may leave either.
pub(super) fn write(
    disk: &dyn Disk,
    directory: &Path,
    manifest: &Manifest,
    unknown: &mut bool,
) -> Result<(), JournalError> {
    let (fresh, path) = (directory.join(MANIFEST_NEW_NAME), directory.join(MANIFEST_NAME));
    let failed = |operation| {
        let path = fresh.clone();
        move |source| JournalError::File { operation, path, source }
    };
    match disk.remove(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("remove")(error)),
        _ => {}
    }
    // A new file each time: an fsync that failed on the last one says nothing about this one.
    let file = disk.create(&fresh).map_err(failed("create"))?;
    file.write_at(&manifest.encode(), 0).map_err(failed("write"))?;
    file.sync_data().map_err(failed("sync"))?;
    *unknown = true;
    disk.rename(&fresh, &path).map_err(failed("rename"))?;
    disk.sync_dir(directory).map_err(|source| JournalError::File {
        operation: "sync",
        path: directory.to_owned(),
        source,
    })?;
    *unknown = false;
    Ok(())
}

/// Positions known durable through the manifest: end of the live segment when it was written.
pub(super) fn durable(manifest: &Manifest, stream: Stream) -> RecordAt {
    manifest
        .segments(stream)
        .last()
        .map_or(RecordAt::default(), |last| RecordAt { segment: last.number, offset: last.bytes })
}
