//! The manifest: which entities, sessions and segments there are, in one small file that is replaced in one step.
//!
//! A session is in the catalog from the moment a manifest that names it, and the segment with its changes, is durable;
//! before that nothing of it is. Files are created and synced before a manifest names them and removed after one no
//! longer does, so a crash leaves at most files that no manifest names; opening removes those.

use super::codec::{Take, TakeVariable, put_string, put_u32, put_u64, put_varint};
use super::error::{CatalogError, failed};
use super::segment::SegmentEntry;
use super::types::{Entity, SessionId, TEXT_BYTES_MAX};
use journal::{Disk, Lsn, Timestamp};
use std::collections::{HashMap, HashSet};
use std::io;
use std::path::Path;
use std::sync::Arc;

const MAGIC: [u8; 8] = *b"REWINDCM";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 24;
/// A longer manifest is refused.
const MANIFEST_BYTES_MAX: u64 = 256 << 20;
/// More sessions of one entity are refused, forgotten ones that others are based on included.
pub(super) const SESSIONS_OF_ENTITY_MAX: usize = 65_536;
pub(super) const MANIFEST_NAME: &str = "manifest";
pub(super) const MANIFEST_NEW_NAME: &str = "manifest.new";

/// An entity and its number, which is never used again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EntityEntry {
    pub number: u32,
    pub entity: Arc<Entity>,
}

/// A session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SessionEntry {
    /// Its number in the catalog, never used again.
    pub number: u32,
    pub entity: u32,
    /// Number of the session it is stored as changes against; always smaller than its own.
    pub parent: Option<u32>,
    /// Shown to nobody, kept because others are based on it.
    pub forgotten: bool,
    pub id: SessionId,
    pub repository: String,
    pub taken: Timestamp,
    pub lsn: Option<Lsn>,
}

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Manifest {
    /// Rises with every replacement.
    pub generation: u64,
    pub next_entity: u32,
    pub next_session: u32,
    pub next_segment: u64,
    /// In the order of numbers.
    pub entities: Vec<EntityEntry>,
    /// In the order of numbers.
    pub sessions: Vec<SessionEntry>,
    /// Of each entity the oldest first: an event in a later one replaces that of the same session in an earlier.
    pub segments: Vec<SegmentEntry>,
}

impl Manifest {
    pub(super) fn session_by_id(&self, id: SessionId) -> Option<&SessionEntry> {
        self.sessions.iter().find(|session| session.id == id && !session.forgotten)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        put_u64(&mut body, self.generation);
        put_u32(&mut body, self.next_entity);
        put_u32(&mut body, self.next_session);
        put_u64(&mut body, self.next_segment);
        put_varint(&mut body, self.entities.len() as u64);
        for entry in &self.entities {
            put_u32(&mut body, entry.number);
            put_string(&mut body, entry.entity.scenario.as_bytes());
            put_string(&mut body, entry.entity.master.as_bytes());
            put_string(&mut body, entry.entity.name.as_bytes());
            put_string(&mut body, &entry.entity.root);
        }
        put_varint(&mut body, self.sessions.len() as u64);
        self.sessions.iter().for_each(|session| session.encode(&mut body));
        put_varint(&mut body, self.segments.len() as u64);
        for segment in &self.segments {
            put_u32(&mut body, segment.entity);
            put_u64(&mut body, segment.number);
            put_u64(&mut body, segment.bytes);
            put_u32(&mut body, segment.footer_crc);
        }
        let mut out = MAGIC.to_vec();
        put_u32(&mut out, VERSION);
        put_u32(&mut out, 0);
        put_u32(&mut out, body.len() as u32);
        let crc = crc32c::crc32c_append(crc32c::crc32c(&out), &body);
        put_u32(&mut out, crc);
        out.extend_from_slice(&body);
        out
    }

    /// The manifest; the version that is too new (`Ok(Err)`); `None` if the bytes are damaged.
    pub(super) fn decode(bytes: &[u8]) -> Option<Result<Self, u32>> {
        let checked = bytes.get(..HEADER_BYTES - 4)?;
        let mut take = Take(bytes);
        let magic = take.array::<8>()?;
        let (version, zero, length, crc) = (take.u32()?, take.u32()?, take.u32()?, take.u32()?);
        let body = take.0;
        let whole =
            body.len() == length as usize && crc == crc32c::crc32c_append(crc32c::crc32c(checked), body);
        if magic != MAGIC || !whole {
            return None;
        }
        if version > VERSION {
            return Some(Err(version));
        }
        Self::body(body).filter(|manifest| zero == 0 && version == VERSION && manifest.is_sound()).map(Ok)
    }

    fn body(bytes: &[u8]) -> Option<Self> {
        let mut take = Take(bytes);
        let mut manifest = Manifest {
            generation: take.u64()?,
            next_entity: take.u32()?,
            next_session: take.u32()?,
            next_segment: take.u64()?,
            ..Manifest::default()
        };
        for _ in 0..take.varint()? {
            let number = take.u32()?;
            let (scenario, master, name) = (take.text()?, take.text()?, take.text()?);
            let root = take.string()?.to_vec();
            manifest
                .entities
                .push(EntityEntry { number, entity: Arc::new(Entity { scenario, master, name, root }) });
        }
        for _ in 0..take.varint()? {
            manifest.sessions.push(SessionEntry::decode(&mut take)?);
        }
        for _ in 0..take.varint()? {
            let (entity, number, bytes, footer_crc) = (take.u32()?, take.u64()?, take.u64()?, take.u32()?);
            manifest.segments.push(SegmentEntry { entity, number, bytes, footer_crc });
        }
        take.0.is_empty().then_some(manifest)
    }

    /// Numbers rise, all that is referred to is there, parents are older and of the same entity.
    fn is_sound(&self) -> bool {
        let entities: HashSet<u32> = self.entities.iter().map(|entry| entry.number).collect();
        let sessions: HashMap<u32, u32> = self.sessions.iter().map(|s| (s.number, s.entity)).collect();
        let segments: HashSet<u64> = self.segments.iter().map(|segment| segment.number).collect();
        let mut of_entity: HashMap<u32, usize> = HashMap::new();
        self.sessions.iter().for_each(|session| *of_entity.entry(session.entity).or_default() += 1);
        let parent_is_sound = |session: &SessionEntry| {
            session.parent.is_none_or(|parent| {
                parent < session.number && sessions.get(&parent) == Some(&session.entity)
            })
        };
        self.entities.is_sorted_by(|a, b| a.number < b.number)
            && self.sessions.is_sorted_by(|a, b| a.number < b.number)
            && segments.len() == self.segments.len()
            && self.entities.last().is_none_or(|last| last.number < self.next_entity)
            && self.sessions.last().is_none_or(|last| last.number < self.next_session)
            && segments.iter().all(|number| *number < self.next_segment)
            && self.entities.iter().all(|entry| check_entity(&entry.entity, "").is_ok())
            && self.sessions.iter().all(|s| entities.contains(&s.entity) && parent_is_sound(s))
            && self.sessions.iter().all(|session| session.repository.len() <= TEXT_BYTES_MAX)
            && self.segments.iter().all(|segment| entities.contains(&segment.entity))
            && of_entity.values().all(|count| *count <= SESSIONS_OF_ENTITY_MAX)
    }
}

const HAS_PARENT: u8 = 1;
const IS_FORGOTTEN: u8 = 2;
const HAS_LSN: u8 = 4;

impl SessionEntry {
    fn encode(&self, out: &mut Vec<u8>) {
        let flag = |set: bool, bit| if set { bit } else { 0 };
        put_u32(out, self.number);
        put_u32(out, self.entity);
        out.push(
            flag(self.parent.is_some(), HAS_PARENT)
                | flag(self.forgotten, IS_FORGOTTEN)
                | flag(self.lsn.is_some(), HAS_LSN),
        );
        if let Some(parent) = self.parent {
            put_u32(out, parent);
        }
        if let Some(lsn) = self.lsn {
            put_u64(out, lsn.captured);
            put_u64(out, lsn.local);
        }
        out.extend_from_slice(&self.id.0);
        out.extend_from_slice(&self.taken.0.to_le_bytes());
        put_string(out, self.repository.as_bytes());
    }

    fn decode(take: &mut Take<'_>) -> Option<Self> {
        let (number, entity, flags) = (take.u32()?, take.u32()?, take.u8()?);
        if flags & !(HAS_PARENT | IS_FORGOTTEN | HAS_LSN) != 0 {
            return None;
        }
        let parent = if flags & HAS_PARENT != 0 { Some(take.u32()?) } else { None };
        let lsn =
            if flags & HAS_LSN != 0 { Some(Lsn { captured: take.u64()?, local: take.u64()? }) } else { None };
        let id = SessionId(take.array()?);
        let taken = Timestamp(take.i64()?);
        let repository = take.text()?;
        let forgotten = flags & IS_FORGOTTEN != 0;
        Some(SessionEntry { number, entity, parent, forgotten, id, repository, taken, lsn })
    }
}

/// Refuses an entity that the manifest could not hold in reason.
pub(super) fn check_entity(entity: &Entity, repository: &str) -> Result<(), CatalogError> {
    let longest = [&entity.scenario, &entity.master, &entity.name].into_iter().map(String::len).max();
    if longest.max(Some(repository.len())).is_some_and(|bytes| bytes > TEXT_BYTES_MAX) {
        return Err(CatalogError::Limit { what: "bytes of a name", limit: TEXT_BYTES_MAX as u64 });
    }
    super::path::check(&entity.root).map(|_| ())
}

/// Reads the manifest of a directory; `None` if there is none.
pub(super) fn load(disk: &dyn Disk, directory: &Path) -> Result<Option<Manifest>, CatalogError> {
    let path = directory.join(MANIFEST_NAME);
    let file = match disk.open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(failed("open", path)(source)),
    };
    let length = file.len().map_err(failed("measure", &path))?;
    let damaged = |what| CatalogError::Damaged { path: path.clone(), offset: 0, what };
    if length > MANIFEST_BYTES_MAX {
        return Err(damaged("the manifest is too long"));
    }
    let mut bytes = vec![0; length as usize];
    let count = file.read_at(&mut bytes, 0).map_err(failed("read", &path))?;
    bytes.truncate(count);
    match Manifest::decode(&bytes) {
        None => Err(damaged("the manifest does not match its checksum")),
        Some(Err(version)) => Err(CatalogError::NewerVersion { path, version }),
        Some(Ok(manifest)) => Ok(Some(manifest)),
    }
}

/// Writes a manifest beside the present one and lets it take its name. `unknown` is set if it fails at a point where it
/// cannot be known what a crash would leave.
pub(super) fn replace(
    disk: &dyn Disk,
    directory: &Path,
    manifest: &Manifest,
    unknown: &mut bool,
) -> Result<(), CatalogError> {
    let (fresh, path) = (directory.join(MANIFEST_NEW_NAME), directory.join(MANIFEST_NAME));
    let bytes = manifest.encode();
    if bytes.len() as u64 > MANIFEST_BYTES_MAX {
        return Err(CatalogError::Limit { what: "bytes of manifest", limit: MANIFEST_BYTES_MAX });
    }
    match disk.remove(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("remove", fresh)(error)),
        _ => {}
    }
    // A new file each time: a sync that failed on the last one says nothing about this one.
    let file = disk.create(&fresh).map_err(failed("create", &fresh))?;
    file.write_at(&bytes, 0).map_err(failed("write", &fresh))?;
    file.sync_data().map_err(failed("sync", &fresh))?;
    // From here on a failure leaves it unknown which names a crash leaves, and syncing once more proves nothing.
    *unknown = true;
    // The names of the segments it refers to become durable before its own can.
    disk.sync_dir(directory).map_err(failed("sync", directory))?;
    disk.rename(&fresh, &path).map_err(failed("rename", &fresh))?;
    disk.sync_dir(directory).map_err(failed("sync", directory))?;
    *unknown = false;
    Ok(())
}

#[cfg(test)]
mod tests;
