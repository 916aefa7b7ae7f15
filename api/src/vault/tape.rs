//! Repositories on tape: their listings, where their sessions lie, and what is learnt from the media themselves.
//!
//! Sessions on tape are what the media hold. What they are and where they lie is remembered in the server journal
//! (`SessionMade`, `SessionOnTape`), what is in them in the listing, a repository of trees without contents under
//! `DIR/projections/tape/ID`. Sessions have the ids of their labels everywhere. Reading media ([`Vault::read_media`]) makes
//! both again: a listing that was lost from the places in the journal, and all of it from the volumes alone.
//!
//! The listing's key is random; who loses it, or the listing, loses the time to read the media.
//!
//! A session is forgotten only if a volume of it is at hand and was labelled anew since. One whose volumes are elsewhere
//! stays known.

use super::sessions::tag;
use super::{Vault, open, parse};
use crate::engine::{EngineError, EngineResult, NewRepository, Repository};
use crate::points::wall_clock;
use crate::records::{Record, RepositoryAdded, SessionMade, SessionOnTape, TapePart};
use crate::tapes::{self, Chosen, Drives};
use journal::{Lsn, Timestamp};
use snapshot::repository::session::path_of_text;
use snapshot::repository::{Id, Lock, LockOptions, Purpose, Repository as Opened, SessionRecord, lock};
use snapshot::session::{Monitor, Totals};
use snapshot::store::StoreUrl;
use snapshot::tape::archive::{COPIED_FROM, LabelFields};
use snapshot::tape::{AnyDrive, PartPlace, VolumeInventory, VolumeLabel, parts_of, sessions};
use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;
use wire::codes;
use wire::failure::chain;

/// A repository on tape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TapeRepository {
    /// Its number here.
    pub number: u64,
    /// Its name.
    pub name: String,
    /// Address of its drive.
    pub url: String,
}

/// Which sessions are read from the media.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Those that are known and that the listing lacks.
    Lost,
    /// All that the volumes at hand hold and the listing lacks, known or not.
    All,
}

/// What reading media came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MediaReport {
    /// Sessions that were read.
    pub read: u64,
    /// Sessions that are on no volume any more.
    pub forgotten: u64,
    /// Sessions that could not be read, by their ids, and why.
    pub failed: Vec<(String, String)>,
}

/// A session on media.
struct OnMedia {
    chosen: Chosen,
    place: SessionOnTape,
}

/// The session is on tape, and nobody knows what is in it.
pub(super) fn not_read(name: &str, id: &Id, on_tape: Option<&SessionOnTape>) -> EngineError {
    let media = on_tape.map(SessionOnTape::media).unwrap_or_default().join(", ");
    let text =
        format!("session {} lies on {media}, and the listing of repository \"{name}\" lacks it", id.short());
    EngineError::new(&codes::TAPE_NOT_READ, text)
        .advise(format!("Put {media} at hand and run:  restorectl catalog rebuild --repository {name}"))
}

impl Vault {
    /// The drives of this daemon that are in use.
    #[must_use]
    pub fn drives(&self) -> &Arc<Drives> {
        &self.drives
    }

    /// The tape repository of a name, if there is one.
    #[must_use]
    pub fn tape_repository(&self, name: &str) -> Option<TapeRepository> {
        let known = self.known.read();
        known.named(name).and_then(tape_repository)
    }

    /// All tape repositories.
    #[must_use]
    pub fn tape_repositories(&self) -> Vec<TapeRepository> {
        self.known.read().repositories.values().filter_map(tape_repository).collect()
    }

    /// Where a session lies on tape.
    #[must_use]
    pub fn on_tape(&self, number: u64, session: &Id) -> Option<SessionOnTape> {
        self.known.read().on_tape.get(&(number, session.0)).cloned()
    }

    /// Sessions of a tape repository and where they lie.
    #[must_use]
    pub fn all_on_tape(&self, number: u64) -> Vec<SessionOnTape> {
        let known = self.known.read();
        known.on_tape.values().filter(|on| on.repository == number).cloned().collect()
    }

    /// When the last verification began that a session passed.
    #[must_use]
    pub fn verified_on(&self, number: u64, session: &[u8; 32]) -> Option<Timestamp> {
        self.known.read().verified.get(&(number, *session)).copied()
    }

    /// Remembers where a session lies; before the session itself is remembered.
    ///
    /// # Errors
    /// Those of the journal.
    pub fn lies_on(&self, place: SessionOnTape) -> EngineResult<()> {
        self.append(&mut self.known.write(), Record::SessionOnTape(place))
    }

    /// Sessions of a tape repository that are copies of another repository's session, as the listing says: of an encrypted
    /// one the media do not.
    ///
    /// # Errors
    /// Those of the listing.
    pub fn copies_of(&self, tape: &TapeRepository, id: &Id, record: &SessionRecord) -> EngineResult<Vec<Id>> {
        let (number, stage) = self.get(&tape.name)?;
        let time = i128::from(record.time.seconds) * 1_000_000_000 + i128::from(record.time.nanoseconds);
        let of_time: Vec<Id> = {
            let known = self.known.read();
            let made = known.sessions.iter().filter(|made| made.repository == number);
            made.filter(|made| i128::from(made.point_time.0) == time).map(|made| Id(made.session)).collect()
        };
        let mut copies = Vec::new();
        let listed = list_of(&stage)?;
        for session in of_time.into_iter().filter(|session| listed.contains(session)) {
            let record = stage.load_session(&session);
            let record = record.map_err(|error| super::repository_error("read the session", error))?;
            let original = record.summary.as_ref().and_then(|summary| summary.get(COPIED_FROM)?.as_str());
            if original == Some(id.to_string().as_str()) {
                copies.push(session);
            }
        }
        Ok(copies)
    }

    /// Whether nobody has looked at the media since the repository was added.
    #[must_use]
    pub fn is_unread(&self, number: u64) -> bool {
        self.unread.lock().contains(&number)
    }

    /// The media were looked at.
    pub fn was_read(&self, number: u64) {
        self.unread.lock().remove(&number);
    }

    /// Whether the listing lacks sessions that are known.
    ///
    /// # Errors
    /// Those of the listing.
    pub fn has_lost(&self, tape: &TapeRepository) -> EngineResult<bool> {
        let (_, stage) = self.get(&tape.name)?;
        let listed = list_of(&stage)?;
        Ok(self.all_on_tape(tape.number).iter().any(|on| !listed.contains(&Id(on.session))))
    }

    /// As [`Vault::add`], on tape.
    pub(super) fn add_tape(
        &self,
        new: &NewRepository,
        url: &StoreUrl,
        found: Option<RepositoryAdded>,
    ) -> EngineResult<Repository> {
        if let Some(found) = found {
            return self.add_again(new, &found);
        }
        // Nothing is made: a mistyped directory is no drive.
        let held = self.media_in(&url.to_string())?;
        self.check_encoding(new, (&url.to_string(), &held))?;
        let mut known = self.known.write();
        let id = known.last_id + 1;
        let password = tapes::random_password()?;
        self.begin_encoding(&mut known, id, new)?;
        open::write_secret(&self.secrets, id, &password)?;
        let stage = open::open_stage(&self.layout.stage(id), &password)?;
        let added = RepositoryAdded {
            id,
            time: wall_clock(),
            name: new.name.clone(),
            url: url.to_string(),
            repository: stage.config().id.to_string(),
            created: held.iter().all(|volume| volume.files.is_empty()),
            conditional_put: 0,
        };
        self.append(&mut known, Record::RepositoryAdded(added.clone()))?;
        drop(known);
        *self.slot(id).lock() = Some(stage);
        if !added.created {
            self.unread.lock().insert(id);
        }
        Ok(self.known.read().told(&added))
    }

    /// The listing of a tape repository, made anew if it is lost.
    pub(super) fn open_stage(&self, number: u64) -> EngineResult<Arc<Opened>> {
        let password = match open::read_secret(&self.secrets, number) {
            Ok(password) => password,
            // It opens the listing only, and that can be made again.
            Err(_) => {
                let password = tapes::random_password()?;
                open::write_secret(&self.secrets, number, &password)?;
                password
            }
        };
        open::open_stage(&self.layout.stage(number), &password)
    }

    pub(super) fn media_in(&self, url: &str) -> EngineResult<Vec<VolumeInventory>> {
        let mut found = Vec::new();
        tapes::volumes(url, &mut |volume| {
            found.extend(volume.content);
            ControlFlow::Continue(())
        })?;
        Ok(found)
    }

    /// Reads from the media what the listing lacks. The caller has the drive.
    ///
    /// # Errors
    /// `TAPE_DRIVE_FAILED`, `TAPE_BUSY`, `CANCELLED`, those of the listing and the journal. A session that cannot be read is
    /// reported.
    pub fn read_media(
        &self,
        tape: &TapeRepository,
        which: Which,
        monitor: &dyn Monitor,
    ) -> EngineResult<MediaReport> {
        let (number, stage) = self.get(&tape.name)?;
        let failed = |error| super::repository_error("lock the listing", error);
        let options = LockOptions { settle: Duration::ZERO, ..LockOptions::default() };
        let lock = lock::acquire(&stage, Purpose::Backup, options).map_err(failed)?;
        let mut any = tapes::open_existing(&tape.url)?;
        let loaded = any.loaded().map_err(|error| tapes::tape_failure(&tape.url, error.into()))?;
        let mut report = MediaReport::default();
        let outcome = self.read_from(&mut any, (tape, number, which), (&stage, &lock), monitor, &mut report);
        if let Err(error) = any.put_back(loaded.as_deref()) {
            tracing::warn!("the volume that was in the drive is not in it again: {}", chain(&error));
        }
        outcome.map(|()| report)
    }

    fn read_from(
        &self,
        any: &mut AnyDrive,
        (tape, number, which): (&TapeRepository, u64, Which),
        (stage, lock): (&Arc<Opened>, &Lock),
        monitor: &dyn Monitor,
        report: &mut MediaReport,
    ) -> EngineResult<()> {
        let scratch = self.layout.scratch()?;
        let wanted = match which {
            Which::Lost => self.all_on_tape(number).into_iter().map(of_journal).collect(),
            Which::All => self.on_media(any, tape, (number, stage), report)?,
        };
        let listed = list_of(stage)?;
        let key = self.key_for_reading(number);
        for OnMedia { chosen, place } in wanted {
            let id = Id(place.session);
            if !listed.contains(&id) {
                match tapes::list(any, &chosen, key.as_ref(), (stage, lock), &scratch, monitor) {
                    Ok(_) => report.read += 1,
                    Err(error) if is_of_one(&error) => {
                        report.failed.push((chosen.id, error.to_string()));
                        continue;
                    }
                    Err(error) => return Err(error),
                }
            }
            self.adopt(place, stage, &id)?;
        }
        Ok(())
    }

    /// What the volumes at hand hold; what they have no more is forgotten.
    fn on_media(
        &self,
        any: &mut AnyDrive,
        tape: &TapeRepository,
        (number, stage): (u64, &Opened),
        report: &mut MediaReport,
    ) -> EngineResult<Vec<OnMedia>> {
        let mut stock: Vec<VolumeInventory> = Vec::new();
        tapes::volumes_in(any, &tape.url, &mut |volume| {
            match volume.content {
                Ok(content) => stock.push(content),
                Err(why) => report.failed.push((format!("volume {}", volume.name), why)),
            }
            ControlFlow::Continue(())
        })?;
        let labels: Vec<&VolumeLabel> = stock.iter().map(|volume| &volume.label).collect();
        let mut found = Vec::new();
        let mut whole = HashSet::new();
        for session in sessions(&stock) {
            let Some(id) = Id::parse(&session.session) else { continue };
            match parts_of(&stock, &session.session) {
                Ok(parts) => {
                    whole.insert(id);
                    let one = OnMedia {
                        place: place(number, id, (&parts, session.bytes.unwrap_or_default()), &labels),
                        chosen: Chosen { id: session.session, parts },
                    };
                    found.push((time_on(session.label), one));
                }
                // What has all its parts in the journal is read when they are at hand.
                Err(_) if self.on_tape(number, &id).is_some() => {}
                Err(error) => report.failed.push((session.session, chain(&error))),
            }
        }
        let gone = self.all_on_tape(number).into_iter().filter(|on| {
            !whole.contains(&Id(on.session)) && on.parts.iter().any(|part| is_relabelled(part, &labels))
        });
        let gone: Vec<Id> = gone.map(|on| Id(on.session)).collect();
        report.forgotten += gone.len() as u64;
        for id in &gone {
            let removed = stage.remove_session(id);
            removed.map_err(|error| super::repository_error("remove the session from the listing", error))?;
        }
        self.forgotten(number, gone)?;
        // Lists show what was remembered last first.
        found.sort_by_key(|(time, _)| *time);
        Ok(found.into_iter().map(|(_, one)| one).collect())
    }

    /// Remembers a session that is in the listing.
    ///
    /// # Errors
    /// Those of the journal and the listing.
    pub fn adopt(&self, place: SessionOnTape, stage: &Opened, id: &Id) -> EngineResult<()> {
        let number = place.repository;
        let is_made = {
            let known = self.known.read();
            known.sessions.iter().any(|made| made.repository == number && made.session == id.0)
        };
        let is_same = self.on_tape(number, id).is_some_and(|on| on.parts == place.parts);
        if !is_same {
            self.lies_on(place.clone())?;
        }
        if is_made {
            return Ok(());
        }
        let record = stage.load_session(id);
        let record = record.map_err(|error| super::repository_error("read the session", error))?;
        self.made(self.made_of(number, &place.session, place.bytes, &record)).map(drop)
    }

    /// What a session's record says of it, as if it had been made here.
    pub(super) fn made_of(
        &self,
        repository: u64,
        session: &[u8; 32],
        bytes_stored: u64,
        record: &SessionRecord,
    ) -> SessionMade {
        let totals = Totals::of_record(record).unwrap_or_default();
        let lsn: Lsn = tag(record, "lsn:").parse().unwrap_or(Lsn::ZERO);
        let journal = u128::from_str_radix(tag(record, "journal:"), 16).unwrap_or_default().to_be_bytes();
        let time = record.time;
        let nanoseconds = i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanoseconds);
        // The same journal is one scenario's.
        let scenario = {
            let known = self.known.read();
            let of_journal = known.sessions.iter().find(|made| journal != [0; 16] && made.journal == journal);
            of_journal.map_or(0, |made| made.scenario)
        };
        SessionMade {
            time: wall_clock(),
            repository,
            scenario,
            scenario_name: tag(record, "scenario:").to_owned(),
            journal,
            session: *session,
            tree: record.tree.0,
            entity: record.paths.first().map(|path| path_of_text(path)).unwrap_or_default(),
            master: record.hostname.clone(),
            lsn_captured: lsn.captured,
            lsn_local: lsn.local,
            point_time: Timestamp(i64::try_from(nanoseconds).unwrap_or_default()),
            class: match tag(record, "class:") {
                "application" => 2,
                "crash" => 1,
                _ => 0,
            },
            files: totals.files,
            directories: totals.directories,
            bytes: totals.bytes,
            bytes_read: totals.bytes,
            bytes_stored,
            missed: record.missed(),
            incremental: false,
        }
    }
}

fn tape_repository(added: &RepositoryAdded) -> Option<TapeRepository> {
    let is_tape = matches!(parse(&added.url), Ok(StoreUrl::Tape(_)));
    is_tape.then(|| TapeRepository { number: added.id, name: added.name.clone(), url: added.url.clone() })
}

fn list_of(stage: &Opened) -> EngineResult<HashSet<Id>> {
    let listed = stage.list_sessions();
    let listed = listed.map_err(|error| super::repository_error("read the listing", error))?;
    Ok(listed.into_iter().collect())
}

fn of_journal(place: SessionOnTape) -> OnMedia {
    OnMedia { chosen: Chosen { id: Id(place.session).to_string(), parts: place.places() }, place }
}

/// The time on the label of a session, in seconds and nanoseconds.
pub(super) fn time_on(label: Option<serde_json::Value>) -> (i64, u32) {
    let fields = label.and_then(|label| serde_json::from_value::<LabelFields>(label).ok());
    fields.map_or((0, 0), |fields| (fields.time.seconds, fields.time.nanoseconds))
}

/// Where a session lies, with what the labels of its volumes say.
pub(crate) fn place(
    number: u64,
    session: Id,
    (parts, bytes): (&[PartPlace], u64),
    labels: &[&VolumeLabel],
) -> SessionOnTape {
    let label = |part: &PartPlace| labels.iter().find(|label| label.id == part.volume);
    let pool = parts.iter().find_map(label).map(|label| label.pool.clone()).unwrap_or_default();
    let part = |part: &PartPlace| TapePart {
        media: part.media.clone(),
        volume: part.volume.clone(),
        serial: label(part).and_then(|label| label.serial.clone()).unwrap_or_default(),
        file: part.file,
        blocks: part.blocks,
    };
    let parts = parts.iter().map(part).collect();
    SessionOnTape { time: wall_clock(), repository: number, session: session.0, pool, bytes, parts }
}

/// Whether the volume of a part is at hand and is another one now.
fn is_relabelled(part: &TapePart, labels: &[&VolumeLabel]) -> bool {
    labels.iter().any(|label| label.media == part.media)
        && !labels.iter().any(|label| label.id == part.volume)
}

/// Whether another session may be readable.
fn is_of_one(error: &EngineError) -> bool {
    [
        &codes::TAPE_VOLUME_WANTED,
        &codes::TAPE_DAMAGED,
        &codes::TAPE_PASSWORD_WANTED,
        &codes::TAPE_PASSWORD_WRONG,
        &codes::NOT_AVAILABLE,
    ]
    .contains(&error.code())
}
