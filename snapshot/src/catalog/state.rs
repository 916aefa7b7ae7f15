//! The catalog as one moment shows it, and how the next moment comes about.
//!
//! A [`Snapshot`] never changes: readers take the present one and keep it as long as they like, so no query waits for a
//! load and none sees half of one. [`Shared::commit`] is the only way to another: it makes the manifest durable first
//! and shows the new snapshot second.

use super::block::BLOCK_ROWS;
use super::error::CatalogError;
use super::lineage::Lineage;
use super::manifest::{self, EntityEntry, Manifest, SessionEntry};
use super::segment::{Segment, SegmentWriter, file_name};
use super::types::{Entity, Session, SessionId};
use journal::Disk;
use parking_lot::{Mutex, RwLock};
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

/// An entity with its sessions and segments.
pub(super) struct EntityState {
    pub number: u32,
    pub entity: Arc<Entity>,
    /// In the order of numbers, forgotten ones included.
    pub sessions: Vec<SessionEntry>,
    /// The same as others see them.
    pub shown: Vec<Arc<Session>>,
    pub lineage: Lineage,
    /// The oldest first.
    pub segments: Vec<Arc<Segment>>,
}

impl EntityState {
    /// The session of a rank in time.
    pub(super) fn session_by_time(&self, rank: u32) -> Option<&Arc<Session>> {
        self.shown.get(self.lineage.by_time(rank)?)
    }

    pub(super) fn live(&self) -> impl Iterator<Item = &SessionEntry> {
        self.sessions.iter().filter(|session| !session.forgotten)
    }
}

pub(super) type Segments = HashMap<u64, Arc<Segment>>;

/// All of the catalog at one moment.
pub(super) struct Snapshot {
    pub manifest: Manifest,
    /// In the order of numbers.
    pub entities: Vec<EntityState>,
    /// Where a search is cut into pieces; made when first needed.
    pub cuts: OnceLock<Vec<super::path::KeyBuf>>,
    pub piece_blocks: usize,
}

impl Snapshot {
    pub(super) fn new(manifest: Manifest, segments: &Segments, sizes: Sizes) -> Self {
        let mut of_entity: HashMap<u32, Vec<SessionEntry>> = HashMap::new();
        for session in &manifest.sessions {
            of_entity.entry(session.entity).or_default().push(session.clone());
        }
        let mut opened: HashMap<u32, Vec<Arc<Segment>>> = HashMap::new();
        for (entry, segment) in manifest.segments.iter().filter_map(|e| Some((e, segments.get(&e.number)?))) {
            opened.entry(entry.entity).or_default().push(Arc::clone(segment));
        }
        let entities = manifest.entities.iter().map(|entry| {
            let sessions = of_entity.remove(&entry.number).unwrap_or_default();
            let show = |session: &SessionEntry| {
                Arc::new(Session {
                    id: session.id,
                    repository: session.repository.clone(),
                    entity: Arc::clone(&entry.entity),
                    taken: session.taken,
                    lsn: session.lsn,
                })
            };
            EntityState {
                number: entry.number,
                entity: Arc::clone(&entry.entity),
                lineage: Lineage::new(&sessions),
                shown: sessions.iter().map(show).collect(),
                sessions,
                segments: opened.remove(&entry.number).unwrap_or_default(),
            }
        });
        let entities = entities.collect();
        Snapshot { entities, manifest, cuts: OnceLock::new(), piece_blocks: sizes.piece_blocks }
    }

    pub(super) fn segments(&self) -> Segments {
        let all = self.entities.iter().flat_map(|entity| &entity.segments);
        all.map(|segment| (segment.entry.number, Arc::clone(segment))).collect()
    }

    pub(super) fn entity(&self, number: u32) -> Option<&EntityState> {
        let at = self.entities.binary_search_by_key(&number, |entity| entity.number).ok()?;
        self.entities.get(at)
    }
}

/// What only writers look at.
#[derive(Default)]
pub(super) struct Writers {
    pub next_session: u32,
    pub next_segment: u64,
    /// Sessions that are being loaded.
    pub loading: HashSet<SessionId>,
    /// Sessions that loads are based on, with the number of loads. They stay in the forest, whatever happens.
    pub pins: HashMap<u32, usize>,
    /// Set by a commit that failed where a crash may leave either manifest.
    pub poisoned: bool,
}

/// Sizes that tests make small, so that little data takes every path that much data takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    /// Paths of a block.
    pub block_rows: usize,
    /// Blocks of a piece of a search.
    pub piece_blocks: usize,
    /// Bytes that a load sorts in memory.
    pub sort_bytes: usize,
}

impl Default for Sizes {
    fn default() -> Self {
        Sizes { block_rows: BLOCK_ROWS, piece_blocks: 32, sort_bytes: 32 << 20 }
    }
}

/// What all handles of an open catalog share.
pub(super) struct Shared {
    pub sizes: Sizes,
    pub disk: Arc<dyn Disk>,
    pub directory: PathBuf,
    pub current: RwLock<Arc<Snapshot>>,
    pub writers: Mutex<Writers>,
    /// One merge at a time.
    pub tidying: Mutex<()>,
    pub _lock: Box<dyn Send + Sync>,
}

impl Shared {
    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.current.read())
    }

    /// Begins a new segment. A crash may let its number be given again, after its file was removed.
    pub(super) fn new_segment(&self) -> Result<SegmentWriter, CatalogError> {
        let mut writers = self.writers.lock();
        let number = writers.next_segment;
        writers.next_segment =
            number.checked_add(1).ok_or(CatalogError::Limit { what: "segments", limit: number })?;
        drop(writers);
        SegmentWriter::create(&self.disk, &self.directory, number, self.sizes.block_rows)
    }

    /// Completes a new segment and opens it.
    pub(super) fn finish_segment(&self, writer: SegmentWriter) -> Result<Arc<Segment>, CatalogError> {
        let entry = writer.finish()?;
        let opened = Segment::open(&self.disk, &self.directory, entry);
        if opened.is_err() {
            // What cannot be removed now is removed when the catalog is opened next.
            let _ = self.disk.remove(&self.directory.join(file_name(entry.number)));
        }
        opened.map(Arc::new)
    }

    /// Replaces the manifest by what `change` makes of it, together with a segment that it names. When this returns
    /// `Ok` the new state is durable and shown; after an error the old one is, unless the catalog is poisoned.
    pub(super) fn commit(
        &self,
        fresh: Option<Arc<Segment>>,
        change: impl FnOnce(&mut Manifest, &Writers, &Segments) -> Result<(), CatalogError>,
    ) -> Result<(), CatalogError> {
        let mut writers = self.writers.lock();
        let result = self.commit_locked(&mut writers, fresh.clone(), change);
        if let Some(segment) = fresh.filter(|_| result.is_err() && !writers.poisoned) {
            segment.retire();
        }
        result
    }

    fn commit_locked(
        &self,
        writers: &mut Writers,
        fresh: Option<Arc<Segment>>,
        change: impl FnOnce(&mut Manifest, &Writers, &Segments) -> Result<(), CatalogError>,
    ) -> Result<(), CatalogError> {
        if writers.poisoned {
            return Err(CatalogError::Poisoned { path: self.directory.clone() });
        }
        let before = self.snapshot();
        let mut segments = before.segments();
        segments.extend(fresh.map(|segment| (segment.entry.number, segment)));
        let mut next = before.manifest.clone();
        change(&mut next, writers, &segments)?;
        next.generation = next.generation.wrapping_add(1);
        next.next_session = writers.next_session;
        next.next_segment = writers.next_segment;
        manifest::replace(&*self.disk, &self.directory, &next, &mut writers.poisoned)?;
        let kept: HashSet<u64> = next.segments.iter().map(|segment| segment.number).collect();
        *self.current.write() = Arc::new(Snapshot::new(next, &segments, self.sizes));
        segments.values().filter(|s| !kept.contains(&s.entry.number)).for_each(|segment| segment.retire());
        Ok(())
    }
}

/// The number of an entity, made if there is none.
pub(super) fn entity_number(manifest: &mut Manifest, entity: &Entity) -> Result<u32, CatalogError> {
    if let Some(entry) = manifest.entities.iter().find(|entry| *entry.entity == *entity) {
        return Ok(entry.number);
    }
    let number = manifest.next_entity;
    manifest.next_entity =
        number.checked_add(1).ok_or(CatalogError::Limit { what: "entities", limit: u64::from(number) })?;
    manifest.entities.push(EntityEntry { number, entity: Arc::new(entity.clone()) });
    Ok(number)
}

/// Takes out of the forest what nothing needs: forgotten sessions without events, whose descendants are based on what
/// they are based on (which says the same), and all of an entity that has no session left.
pub(super) fn sweep(manifest: &mut Manifest, pins: &HashMap<u32, usize>, segments: &Segments) {
    let in_use: HashSet<u32> = manifest
        .sessions
        .iter()
        .filter(|session| !session.forgotten || pins.contains_key(&session.number))
        .map(|session| session.entity)
        .collect();
    manifest.segments.retain(|segment| in_use.contains(&segment.entity));
    manifest.sessions.retain(|session| in_use.contains(&session.entity));
    manifest.entities.retain(|entry| in_use.contains(&entry.number));
    let with_events: HashSet<u32> = manifest
        .segments
        .iter()
        .filter_map(|segment| segments.get(&segment.number))
        .flat_map(|segment| segment.sessions.keys().copied())
        .collect();
    let is_empty = |session: &SessionEntry| {
        session.forgotten && !with_events.contains(&session.number) && !pins.contains_key(&session.number)
    };
    let gone: HashMap<u32, Option<u32>> =
        manifest.sessions.iter().filter(|s| is_empty(s)).map(|s| (s.number, s.parent)).collect();
    manifest.sessions.retain(|session| !gone.contains_key(&session.number));
    for session in &mut manifest.sessions {
        // Parents have smaller numbers, so this ends.
        while let Some(above) = session.parent.and_then(|parent| gone.get(&parent)) {
            session.parent = *above;
        }
    }
}
