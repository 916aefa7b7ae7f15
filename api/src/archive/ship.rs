//! Copying redo into an archive: one look at the journal, and what follows from it.
//!
//! [`Shipper`] remembers the newest manifest and nothing else that could not be read again from the store. A failure
//! anywhere leaves it as it was: pieces that no manifest names do not count, are removed later, and the next look begins
//! where the last manifest ends. It holds the journal only while it reads from it, so a store that does not answer
//! keeps nobody from closing it.
//!
//! The store is not trusted to keep what it took. Before a manifest is written the one before it has to be listed, and once
//! a day, and when it begins, all pieces have to be: what is missing is copied anew, as far as the journal has it; the rest
//! is a gap, and is said. Nothing is removed while a manifest there cannot be read, or was written by somebody else, or
//! before the repository's own session records say that nobody needs it: other daemons make sessions, too.
//!
//! Before anything is copied behind what is archived, the last archived piece is compared with the journal. If the journal
//! has other bytes there, or none although it is not past it, it is not the journal that was archived but an older copy;
//! then nothing is written, for it would bury what only the archive has.

mod audit;

use crate::engine::{EngineError, EngineResult};
use crate::points::wall_clock;
use crate::vault::repository_error;
use journal::log::{Log, RecordAt};
use journal::record::RedoRecord;
use snapshot::archive::plan::{self, Local, Plan, Shipment, cut};
use snapshot::archive::{Archive, Draft, Manifest, Piece, Tidied, Upto, hex, manifest};
use snapshot::repository::{Id, Repository, RepositoryErrorKind};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use wire::codes;

/// How often it is looked whether all pieces are still stored.
const AUDIT_EVERY: Duration = Duration::from_secs(86_400);
/// Bytes of a backlog behind which a manifest is written.
const NAME_BYTES: u64 = 64 << 20;
/// Manifests that are read when it begins: two are enough, unless some are damaged or none was removed for long.
const READ_MAX: usize = 8;

/// Of whom the archive is.
#[derive(Clone, Debug)]
pub struct Owner {
    /// The journal's id.
    pub journal: [u8; 16],
    /// Name of the scenario.
    pub scenario: String,
    /// Host name of the master.
    pub host: String,
    /// Roots on the master, as session records have paths.
    pub roots: Vec<String>,
}

/// The captured LSNs of the oldest and the newest session that the archive starts from.
pub type Sessions = (u64, u64);

/// What a look came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shipped {
    /// Pieces that were copied.
    pub pieces: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The journal had lost segments that were not archived, or no session is old enough for what is.
    pub gap: bool,
    /// Objects that had vanished from the store.
    pub lost: u64,
}

/// Copies the redo of one journal into one repository.
pub struct Shipper {
    repository: Arc<Repository>,
    owner: Owner,
    /// The newest manifest, less what has vanished.
    newest: Manifest,
    before: Option<Manifest>,
    /// Greatest generation that was tried.
    generation: u64,
    /// Objects may lie there that nobody needs.
    untidy: bool,
    compared: bool,
    /// Manifests that cannot be read, while there may be pieces that only they name.
    unread: Vec<u64>,
    /// When all pieces were last looked for.
    audited: Option<Instant>,
    /// Objects that had vanished and were not told yet; the stored manifest names them still.
    lost: u64,
    /// All sessions are older than what is archived.
    unreached: bool,
    /// What was asked of the session records, and their answer.
    asked: Option<(u64, u64)>,
}

/// What of an archive can be read.
#[derive(Default)]
struct Found {
    newest: Option<Manifest>,
    generation: u64,
    unread: Vec<u64>,
}

fn find(archive: &Archive<'_>) -> EngineResult<Found> {
    let failed = |error| repository_error("read the archive", error);
    let generations = archive.generations().map_err(failed)?;
    let generation = generations.last().copied().unwrap_or(0);
    let mut found = Found { generation, ..Found::default() };
    let mut damage = None;
    for generation in generations.iter().rev().take(READ_MAX) {
        match archive.load_manifest(*generation) {
            Ok(manifest) => {
                found.newest.get_or_insert(manifest);
            }
            Err(error) if error.kind() == RepositoryErrorKind::Damaged => {
                tracing::warn!(error = &error as &dyn std::error::Error, "a manifest is passed over");
                found.unread.push(*generation);
                damage.get_or_insert(error);
            }
            Err(error) => return Err(failed(error)),
        }
    }
    match damage.filter(|_| found.newest.is_none()) {
        // To begin anew would remove all that they name.
        Some(error) => {
            Err(EngineError::new(&codes::ARCHIVE_DAMAGED, "no manifest of the archive can be read")
                .caused_by(error))
        }
        None => Ok(found),
    }
}

/// Copied pieces that no manifest names yet.
#[derive(Default)]
struct Batch {
    pieces: Vec<Piece>,
    /// Segments all of whose pieces they take the place of.
    replaced: BTreeSet<u64>,
    bytes: u64,
}

impl Shipper {
    /// Reads how far the archive is.
    ///
    /// # Errors
    /// Those of the repository; a manifest that is damaged is passed over for the one before it. `ARCHIVE_DAMAGED` if
    /// there are some and none can be read.
    pub fn open(repository: Arc<Repository>, owner: Owner) -> EngineResult<Self> {
        let Found { newest, generation, unread } = find(&Archive::new(&repository, owner.journal))?;
        let newest = newest.unwrap_or_else(|| Manifest {
            version: manifest::VERSION,
            journal: hex(&owner.journal),
            generation: 0,
            scenario: owner.scenario.clone(),
            host: owner.host.clone(),
            roots: owner.roots.clone(),
            written: 0,
            upto: Upto::default(),
            pieces: Vec::new(),
        });
        Ok(Shipper {
            repository,
            owner,
            newest,
            before: None,
            generation,
            untidy: true,
            compared: false,
            unread,
            audited: None,
            lost: 0,
            unreached: false,
            asked: None,
        })
    }

    /// How far the archive goes.
    #[must_use]
    pub fn upto(&self) -> Upto {
        self.newest.upto
    }

    /// Gaps in it; one more if no session is old enough for its beginning.
    #[must_use]
    pub fn gaps(&self) -> u64 {
        self.newest.gaps().len() as u64 + u64::from(self.unreached)
    }

    /// Where in the redo stream the first byte stands that is not archived.
    #[must_use]
    pub fn end(&self) -> Option<RecordAt> {
        let place = &self.newest.pieces.last()?.place;
        let next = RecordAt { segment: place.segment + 1, offset: FIRST_FRAME };
        Some(if place.sealed { next } else { RecordAt { segment: place.segment, offset: place.to } })
    }

    fn archive(&self) -> Archive<'_> {
        Archive::new(&self.repository, self.owner.journal)
    }

    /// Copies what is durable and not there yet. `redo` gives the journal for a moment, none when it is being closed;
    /// `stop` says whether to end: then nothing is written or removed any more.
    ///
    /// # Errors
    /// Those of the journal and the repository; `ARCHIVE_FORKED`: then it is of no use any more.
    pub fn look(
        &mut self,
        redo: &dyn Fn() -> Option<Arc<Log>>,
        sessions: Option<Sessions>,
        stop: &dyn Fn() -> bool,
    ) -> EngineResult<Shipped> {
        let mut shipped = Shipped::default();
        if !self.copy(redo, sessions, stop, &mut shipped)? {
            self.reopen()?;
            if !self.copy(redo, sessions, stop, &mut shipped)? {
                let text = "the manifests of the archive vanish as they are written";
                return Err(EngineError::new(&codes::ARCHIVE_DAMAGED, text));
            }
        }
        let first = self.newest.pieces.iter().find_map(|piece| piece.place.first);
        let before = std::mem::replace(
            &mut self.unreached,
            sessions.is_some_and(|(_, newest)| first.is_some_and(|first| newest.saturating_add(1) < first)),
        );
        shipped.gap |= self.unreached && !before;
        shipped.lost = std::mem::take(&mut self.lost);
        Ok(shipped)
    }

    /// Whether the newest manifest was still there.
    fn copy(
        &mut self,
        redo: &dyn Fn() -> Option<Arc<Log>>,
        sessions: Option<Sessions>,
        stop: &dyn Fn() -> bool,
        shipped: &mut Shipped,
    ) -> EngineResult<bool> {
        let Some(log) = redo() else { return Ok(true) };
        if !self.compared {
            self.compare(&log)?;
        }
        let held: BTreeSet<u64> = log.segments().iter().map(|info| info.number).collect();
        drop(log);
        if self.audited.is_none_or(|at| at.elapsed() >= AUDIT_EVERY) && !self.audit(&held)? {
            return Ok(false);
        }
        let Some(log) = redo() else { return Ok(true) };
        let plan = self.plan(&log, sessions.map(|(oldest, _)| oldest))?;
        drop(log);
        let keep_from = self.agreed(plan.keep_from)?;
        shipped.gap |= plan.gap;
        let mut batch = Batch::default();
        for shipment in &plan.ship {
            if !self.put(*shipment, redo, stop, &mut batch)? {
                return Ok(true);
            }
            if batch.bytes >= NAME_BYTES {
                count(shipped, &batch);
                if stop() || !self.name(std::mem::take(&mut batch), keep_from)? {
                    return Ok(stop());
                }
            }
        }
        let leaves = self.newest.pieces.first().is_some_and(|first| first.place.segment < keep_from);
        if stop() {
            return Ok(true);
        }
        if !batch.pieces.is_empty() || leaves || self.lost > 0 {
            count(shipped, &batch);
            if !self.name(batch, keep_from)? {
                return Ok(false);
            }
        }
        if !stop() {
            self.tidy()?;
        }
        Ok(true)
    }

    /// Copies one stretch. Whether it came to its end.
    fn put(
        &mut self,
        shipment: Shipment,
        redo: &dyn Fn() -> Option<Arc<Log>>,
        stop: &dyn Fn() -> bool,
        batch: &mut Batch,
    ) -> EngineResult<bool> {
        let Some(log) = redo() else { return Ok(false) };
        let drafts = drafts(&log, shipment)?;
        drop(log);
        if shipment.from == 0 {
            batch.replaced.insert(shipment.segment);
        }
        for draft in drafts {
            let Some(log) = redo().filter(|_| !stop()) else { return Ok(false) };
            let bytes = log.read_raw(draft.segment, draft.from, (draft.to - draft.from) as usize)?;
            drop(log);
            self.untidy |= shipment.from == 0;
            let stored = self.archive().put_piece(&draft, &bytes);
            let piece = stored
                .inspect_err(|_| self.untidy = true)
                .map_err(|error| repository_error("store a piece of the archive", error))?;
            batch.bytes += piece.bytes();
            batch.pieces.push(piece);
        }
        Ok(true)
    }

    fn plan(&self, log: &Log, oldest: Option<u64>) -> EngineResult<Plan> {
        let segments = log.segments();
        let local: Vec<Local> = segments
            .iter()
            .map(|info| Local {
                number: info.number,
                bytes: info.bytes,
                sealed: info.sealed,
                used: info.records > 0,
            })
            .collect();
        let live = local.last().map_or(0, |segment| segment.number);
        let begin = match oldest {
            Some(oldest) => log.find(journal::Lsn::captured(oldest.saturating_add(1)))?.segment,
            None => live,
        };
        Ok(plan::plan(&local, &self.newest.pieces, begin, oldest))
    }

    /// Whether the journal is the one that was archived.
    fn compare(&mut self, log: &Log) -> EngineResult<()> {
        let forked = |why: &str| Err(EngineError::new(&codes::ARCHIVE_FORKED, why));
        if let Some(Piece { plain, place, .. }) = self.newest.pieces.last() {
            let segments = log.segments();
            let found = segments.iter().find(|info| info.number == place.segment);
            let past = segments.first().is_some_and(|first| first.number > place.segment);
            match found {
                Some(info) if info.bytes >= place.to => {
                    let bytes = log.read_raw(place.segment, place.from, (place.to - place.from) as usize)?;
                    if Id::of(&bytes) != *plain {
                        return forked("the journal and its archive hold different bytes at one place");
                    }
                }
                None if past => {}
                _ => return forked("the archive goes further than the journal"),
            }
        }
        self.compared = true;
        Ok(())
    }

    fn is_there(&self, generations: &[u64]) -> bool {
        self.newest.generation == 0 || generations.contains(&self.newest.generation)
    }

    /// Begins anew with what the store has.
    fn reopen(&mut self) -> EngineResult<()> {
        let (lost, generation) = (self.lost + 1, self.generation);
        *self = Shipper::open(Arc::clone(&self.repository), self.owner.clone())?;
        self.lost = lost;
        // None is written twice.
        self.generation = self.generation.max(generation);
        Ok(())
    }

    /// Makes pieces count. Whether the manifest before was still there; if not, nothing was done.
    fn name(&mut self, batch: Batch, keep_from: u64) -> EngineResult<bool> {
        let failed = |error| repository_error("write the manifest of the archive", error);
        let generations = self.archive().generations().map_err(failed)?;
        let greatest = generations.last().copied().unwrap_or(0);
        if greatest > self.generation {
            return Err(forked(greatest));
        }
        if !self.is_there(&generations) {
            return Ok(false);
        }
        let stays = |piece: &&Piece| {
            !batch.replaced.contains(&piece.place.segment) && piece.place.segment >= keep_from
        };
        let mut pieces: Vec<Piece> = self.newest.pieces.iter().filter(stays).cloned().collect();
        self.untidy |= pieces.len() < self.newest.pieces.len();
        pieces.extend(batch.pieces.into_iter().filter(|piece| piece.place.segment >= keep_from));
        pieces.sort_by_key(|piece| (piece.place.segment, piece.place.from));
        self.generation += 1;
        let manifest = Manifest {
            version: manifest::VERSION,
            journal: hex(&self.owner.journal),
            generation: self.generation,
            scenario: self.owner.scenario.clone(),
            host: self.owner.host.clone(),
            roots: self.owner.roots.clone(),
            written: wall_clock().0,
            upto: upto(self.newest.upto, &pieces),
            pieces,
        };
        if let Some(what) = manifest.fault() {
            return Err(EngineError::new(&codes::INTERNAL, format!("a manifest is not written: {what}")));
        }
        let put = self.archive().put_manifest(&manifest);
        put.inspect_err(|_| self.untidy = true).map_err(failed)?;
        self.before = Some(std::mem::replace(&mut self.newest, manifest));
        Ok(true)
    }

    /// Removes what is not needed, once two manifests say so.
    fn tidy(&mut self) -> EngineResult<()> {
        let failed = |error| repository_error("remove what left the archive", error);
        let Some(before) = self.before.as_ref().filter(|_| self.untidy) else { return Ok(()) };
        if !self.unread.is_empty() && !self.has_more(&self.archive().stored().map_err(failed)?) {
            self.unread.clear();
        }
        let archive = Archive::new(&self.repository, self.owner.journal);
        let tidied = archive.tidy(&self.newest, Some(before), self.generation, &self.unread);
        if let Tidied::Newer(greatest) = tidied.map_err(failed)? {
            return Err(forked(greatest));
        }
        // What the manifest before this one names stays until the next.
        self.untidy = self.newest.pieces.len() < before.pieces.len() || !self.unread.is_empty();
        Ok(())
    }
}

fn forked(greatest: u64) -> EngineError {
    let text = format!("generation {greatest} of the archive was written by somebody else");
    EngineError::new(&codes::ARCHIVE_FORKED, text)
}

fn count(shipped: &mut Shipped, batch: &Batch) {
    shipped.pieces += batch.pieces.len() as u64;
    shipped.bytes += batch.bytes;
}

/// The last capture that some pieces end with, if it is behind another one.
fn upto(mut upto: Upto, pieces: &[Piece]) -> Upto {
    for place in pieces.iter().map(|piece| &piece.place) {
        if let Some(lsn) = place.last.filter(|last| *last > upto.lsn) {
            upto = Upto { lsn, time: place.last_time };
        }
    }
    upto
}

/// The first frame of a segment: what is in front of it is the segment's header.
const FIRST_FRAME: u64 = 128;

/// What begins and ends in each piece of a shipment.
fn drafts(log: &Log, shipment: Shipment) -> EngineResult<Vec<Draft>> {
    let last = cut(shipment).count();
    let mut drafts: Vec<Draft> = cut(shipment)
        .enumerate()
        .map(|(at, (from, to))| Draft {
            segment: shipment.segment,
            from,
            to,
            sealed: shipment.sealed && at + 1 == last,
            first: None,
            last: None,
            first_time: 0,
            last_time: 0,
        })
        .collect();
    let from = RecordAt { segment: shipment.segment, offset: shipment.from.max(FIRST_FRAME) };
    for record in log.read(from) {
        let record = record?;
        if record.at.segment != shipment.segment || record.at.offset >= shipment.to {
            break;
        }
        let Some(lsn) = record.lsn.filter(|lsn| !lsn.is_local()) else { continue };
        let Ok(RedoRecord::Part(part)) = RedoRecord::from_stored(&record) else { continue };
        let holds = |draft: &&mut Draft| (draft.from..draft.to).contains(&record.at.offset);
        let Some(draft) = drafts.iter_mut().find(holds) else { continue };
        if part.number == 0 && draft.first.is_none() {
            (draft.first, draft.first_time) = (Some(lsn.captured), record.time.0);
        }
        if part.last {
            (draft.last, draft.last_time) = (Some(lsn.captured), record.time.0);
        }
    }
    Ok(drafts)
}

#[cfg(test)]
mod tests;
