//! Loading sessions.
//!
//! A session is stored as its changes against another one of its entity. Whoever knows them loads them alone
//! ([`DeltaLoader`]); whoever has only the whole listing loads that ([`Loader`]), and it is compared on the way with the
//! listing of the session nearest in time, so that fifty sessions of one tree take little more than one. Either way the
//! changes go to one segment in the order of paths, and one commit makes the session complete. Before it nothing of
//! the session is there, and dropping a loader leaves nothing.

use super::cursor::{All, Cursor, Merge};
use super::error::CatalogError;
use super::manifest::{Manifest, SESSIONS_OF_ENTITY_MAX, SessionEntry, check_entity};
use super::path::{Key, KeyBuf, Span, check, split};
use super::segment::{SegmentEntry, SegmentWriter};
use super::sort::Sorter;
use super::state::{Shared, Snapshot, entity_number};
use super::tidy;
use super::types::{Event, Row, SessionInfo};
use std::sync::Arc;

/// In which order a load comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// As [`super::path_order`] says, each path once. Anything else is refused.
    Sorted,
    /// In any; of several rows of one path the last one counts. Costs temporary files beyond some 300,000 paths.
    Any,
}

/// The right to load one session, and the pin on the one it is based on. Given back when dropped.
struct Claim {
    shared: Arc<Shared>,
    info: SessionInfo,
    number: u32,
    parent: Option<u32>,
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut writers = self.shared.writers.lock();
        writers.loading.remove(&self.info.id);
        if let Some(parent) = self.parent {
            let left = writers.pins.remove(&parent).unwrap_or_default().saturating_sub(1);
            if left > 0 {
                writers.pins.insert(parent, left);
            }
        }
    }
}

impl Claim {
    fn new(
        shared: &Arc<Shared>,
        info: SessionInfo,
        choose: impl FnOnce(&Snapshot) -> Result<Option<u32>, CatalogError>,
    ) -> Result<(Self, Arc<Snapshot>), CatalogError> {
        check_entity(&info.entity, &info.repository)?;
        let mut writers = shared.writers.lock();
        if writers.poisoned {
            return Err(CatalogError::Poisoned { path: shared.directory.clone() });
        }
        // Under the lock, so that what is chosen cannot be forgotten and swept before it is pinned.
        let snapshot = shared.snapshot();
        if snapshot.manifest.session_by_id(info.id).is_some() || writers.loading.contains(&info.id) {
            return Err(CatalogError::AlreadyLoaded { id: info.id });
        }
        let parent = choose(&snapshot)?;
        let number = writers.next_session;
        writers.next_session = number
            .checked_add(1)
            .ok_or(CatalogError::Limit { what: "sessions", limit: u64::from(number) })?;
        writers.loading.insert(info.id);
        if let Some(parent) = parent {
            *writers.pins.entry(parent).or_default() += 1;
        }
        drop(writers);
        Ok((Claim { shared: Arc::clone(shared), info, number, parent }, snapshot))
    }

    /// Gives the session its id.
    fn identify(&mut self, id: super::SessionId) -> Result<(), CatalogError> {
        let mut writers = self.shared.writers.lock();
        if self.shared.snapshot().manifest.session_by_id(id).is_some() || !writers.loading.insert(id) {
            return Err(CatalogError::AlreadyLoaded { id });
        }
        writers.loading.remove(&self.info.id);
        self.info.id = id;
        Ok(())
    }

    fn sorter(&self) -> Sorter {
        let shared = &self.shared;
        Sorter::new(&shared.disk, &shared.directory, self.number, shared.sizes.sort_bytes)
    }

    /// Adds the session to a manifest.
    fn enter(&self, manifest: &mut Manifest) -> Result<u32, CatalogError> {
        let entity = entity_number(manifest, &self.info.entity)?;
        let of_entity = manifest.sessions.iter().filter(|session| session.entity == entity).count();
        if of_entity >= SESSIONS_OF_ENTITY_MAX {
            let limit = SESSIONS_OF_ENTITY_MAX as u64;
            return Err(CatalogError::Limit { what: "sessions of an entity", limit });
        }
        let entry = SessionEntry {
            number: self.number,
            entity,
            parent: self.parent,
            forgotten: false,
            id: self.info.id,
            repository: self.info.repository.clone(),
            taken: self.info.taken,
            lsn: self.info.lsn,
        };
        // Loads end in another order than they began.
        let at = manifest.sessions.partition_point(|session| session.number < self.number);
        manifest.sessions.insert(at, entry);
        Ok(entity)
    }
}

/// The changes of one session on their way to a segment.
struct Output {
    claim: Claim,
    writer: Option<SegmentWriter>,
}

impl Output {
    fn put(&mut self, key: Key<'_>, row: Option<Row>) -> Result<(), CatalogError> {
        let writer = match &mut self.writer {
            Some(writer) => writer,
            None => self.writer.insert(self.claim.shared.new_segment()?),
        };
        writer.push(key, &[Event { session: self.claim.number, row }])
    }

    fn refuse_if(&self, has_failed: bool) -> Result<(), CatalogError> {
        if has_failed { Err(CatalogError::FailedLoad { id: self.claim.info.id }) } else { Ok(()) }
    }

    /// Makes the session complete, then merges what has become due.
    fn finish(self) -> Result<(), CatalogError> {
        let Output { claim, writer } = self;
        let shared = Arc::clone(&claim.shared);
        let segment = writer.map(|writer| shared.finish_segment(writer)).transpose()?;
        let entry = segment.as_ref().map(|segment| segment.entry);
        shared.commit(segment, |manifest, _, _| {
            let entity = claim.enter(manifest)?;
            manifest.segments.extend(entry.map(|entry| SegmentEntry { entity, ..entry }));
            Ok(())
        })?;
        drop(claim);
        // The session is complete whatever becomes of this, and the next load tries again.
        if let Err(error) = tidy::tidy(&shared) {
            let error: &dyn std::error::Error = &error;
            tracing::warn!(error, "segments of the catalog could not be merged");
        }
        Ok(())
    }
}

/// The listing of the session that a load is compared with.
struct Base {
    snapshot: Arc<Snapshot>,
    entity: u32,
    position: u32,
    merge: Merge<'static>,
    row: Option<Row>,
}

impl Base {
    fn new(snapshot: Arc<Snapshot>, session: u32) -> Result<Option<Self>, CatalogError> {
        let Some(entry) = snapshot.manifest.sessions.iter().find(|entry| entry.number == session) else {
            return Ok(None);
        };
        let number = entry.entity;
        let Some(entity) = snapshot.entity(number) else { return Ok(None) };
        let Some(position) = entity.lineage.position(session) else { return Ok(None) };
        let span = Span::default();
        let cursors = entity.segments.iter().enumerate();
        let cursors = cursors.map(|(age, segment)| Cursor::new(segment, 0, age, &span, &All)).collect();
        let merge = Merge::new(cursors)?;
        let mut base = Base { snapshot, entity: number, position, merge, row: None };
        base.advance()?;
        Ok(Some(base))
    }

    /// Goes to the next path that the session has.
    fn advance(&mut self) -> Result<(), CatalogError> {
        self.row = None;
        while self.row.is_none() && self.merge.advance()? {
            let entity = self.snapshot.entity(self.entity);
            self.row = entity.and_then(|entity| entity.lineage.row_at(&self.merge.events, self.position));
        }
        Ok(())
    }
}

/// Compares a sorted listing with that of the base and writes what differs.
struct Compare {
    base: Option<Base>,
    last: Option<KeyBuf>,
    output: Output,
}

impl Compare {
    fn put(&mut self, path: &[u8], key: Key<'_>, row: Row) -> Result<(), CatalogError> {
        match &mut self.last {
            Some(last) if last.as_key() >= key => {
                let head = path.get(..path.len().min(256)).unwrap_or_default();
                return Err(CatalogError::OutOfOrder { path: head.to_vec() });
            }
            Some(last) => {
                last.dir.clear();
                last.dir.extend_from_slice(key.dir);
                last.name.clear();
                last.name.extend_from_slice(key.name);
            }
            None => self.last = Some(key.to_buf()),
        }
        self.remove_before(Some(key))?;
        if let Some(base) = self.base.as_mut().filter(|base| base.row.is_some() && base.merge.key() == key) {
            let same = base.row == Some(row);
            base.advance()?;
            if same {
                return Ok(());
            }
        }
        self.output.put(key, Some(row))
    }

    /// What the base has before `end` and the listing had not is gone.
    fn remove_before(&mut self, end: Option<Key<'_>>) -> Result<(), CatalogError> {
        let Some(base) = &mut self.base else { return Ok(()) };
        while base.row.is_some() && end.is_none_or(|end| base.merge.key() < end) {
            self.output.put(base.merge.key(), None)?;
            base.advance()?;
        }
        Ok(())
    }
}

/// Loads a session from its whole listing. Nothing of it is in the catalog before [`Loader::finish`] has returned, and
/// nothing is left of it if the loader is dropped instead.
pub struct Loader {
    sorter: Option<Sorter>,
    compare: Compare,
    has_failed: bool,
}

impl Loader {
    pub(super) fn begin(shared: &Arc<Shared>, info: SessionInfo, order: Order) -> Result<Self, CatalogError> {
        let entity = info.entity.clone();
        let taken = info.taken;
        let (claim, snapshot) = Claim::new(shared, info, |snapshot| {
            let known = snapshot.entities.iter().find(|known| *known.entity == entity);
            let key = |session: &&SessionEntry| (session.taken, session.number);
            let before = known.and_then(|e| e.live().filter(|s| s.taken <= taken).max_by_key(key));
            let nearest = before.or_else(|| known.and_then(|entity| entity.live().min_by_key(key)));
            Ok(nearest.map(|session| session.number))
        })?;
        let base = match claim.parent {
            Some(parent) => Base::new(snapshot, parent)?,
            None => None,
        };
        let sorter = (order == Order::Any).then(|| claim.sorter());
        Ok(Loader {
            sorter,
            compare: Compare { base, last: None, output: Output { claim, writer: None } },
            has_failed: false,
        })
    }

    /// Gives the session its id, where it was begun under a makeshift one because its own is known only when it is
    /// durable in its repository.
    ///
    /// # Errors
    /// `Conflict` if a session of that id is loaded or being loaded; the loader can then only be dropped.
    pub fn identify(&mut self, id: super::SessionId) -> Result<(), CatalogError> {
        self.compare.output.claim.identify(id)
    }

    /// Adds a path of the session.
    ///
    /// # Errors
    /// `Input` for a path that cannot be an entry, or is out of order in a sorted load; `Disk`; `Damaged`. After an
    /// error the loader cannot be finished: the session would lack what was refused.
    pub fn put(&mut self, path: &[u8], row: Row) -> Result<(), CatalogError> {
        let result = check(path).and_then(|key| match &mut self.sorter {
            Some(sorter) => sorter.push(path, Some(row)),
            None => self.compare.put(path, key, row),
        });
        self.has_failed |= result.is_err();
        result
    }

    /// Makes the session complete. When this returns `Ok` it is, and durable.
    ///
    /// # Errors
    /// `Disk`, `Damaged`, `Limit`: then nothing of the session is in the catalog, unless the catalog says that it has
    /// to be opened again ([`CatalogError::Poisoned`] from then on): then either is possible.
    pub fn finish(self) -> Result<(), CatalogError> {
        let Loader { sorter, mut compare, has_failed } = self;
        compare.output.refuse_if(has_failed)?;
        if let Some(sorter) = sorter {
            let mut sorted = sorter.finish()?;
            while let Some((path, row)) = sorted.next()? {
                if let Some(row) = row {
                    compare.put(&path, split(&path), row)?;
                }
            }
        }
        compare.remove_before(None)?;
        compare.output.finish()
    }
}

/// Loads a session as its changes against another one of its entity, which costs what changed and nothing more.
pub struct DeltaLoader {
    sorter: Sorter,
    output: Output,
    has_failed: bool,
}

impl DeltaLoader {
    pub(super) fn begin(
        shared: &Arc<Shared>,
        previous: super::SessionId,
        info: SessionInfo,
    ) -> Result<Self, CatalogError> {
        let (id, entity) = (info.id, info.entity.clone());
        let (claim, _) = Claim::new(shared, info, |snapshot| {
            let base = snapshot
                .manifest
                .session_by_id(previous)
                .ok_or(CatalogError::NoSuchSession { id: previous })?;
            let same = snapshot.entity(base.entity).is_some_and(|known| *known.entity == entity);
            if same { Ok(Some(base.number)) } else { Err(CatalogError::OtherEntity { id, previous }) }
        })?;
        Ok(DeltaLoader { sorter: claim.sorter(), output: Output { claim, writer: None }, has_failed: false })
    }

    fn push(&mut self, path: &[u8], row: Option<Row>) -> Result<(), CatalogError> {
        let result = check(path).and_then(|_| self.sorter.push(path, row));
        self.has_failed |= result.is_err();
        result
    }

    /// The path is new or changed. Changes come in any order; the last one of a path counts.
    ///
    /// # Errors
    /// As [`Loader::put`].
    pub fn put(&mut self, path: &[u8], row: Row) -> Result<(), CatalogError> {
        self.push(path, Some(row))
    }

    /// The path is gone. Removing a directory does not remove what is in it: each path is named.
    ///
    /// # Errors
    /// As [`Loader::put`].
    pub fn remove(&mut self, path: &[u8]) -> Result<(), CatalogError> {
        self.push(path, None)
    }

    /// Makes the session complete. When this returns `Ok` it is, and durable.
    ///
    /// # Errors
    /// As [`Loader::finish`].
    pub fn finish(self) -> Result<(), CatalogError> {
        let DeltaLoader { sorter, mut output, has_failed } = self;
        output.refuse_if(has_failed)?;
        let mut sorted = sorter.finish()?;
        while let Some((path, row)) = sorted.next()? {
            output.put(split(&path), row)?;
        }
        output.finish()
    }
}
