//! What a job does with sessions that lie on tape: reading media, recalling for a restore, proving.
//!
//! The listing of a tape repository answers what is asked of a session; contents come from the volumes alone. A restore
//! first recalls what it wants, in one pass forward, into a private repository in the daemon's scratch, and goes on from there
//! as any other; until the verdict on the whole session is there nothing is written to the target. So it takes room for what
//! is wanted twice, and a volume that is not at hand or is damaged fails it before it has changed anything.
//!
//! Refused on tape, because a volume is written from front to back and given back as a whole: forgetting and pruning. There
//! is nothing to unlock: a drive has a lock of its own.

use super::Host;
use super::backing::tape::{OnDrive, take_drive};
use super::restoring::bytes_of;
use crate::engine::{
    EngineError, EngineResult, Level, Onto, Progress, RepositoryStats, RestoreRequest, SessionVerifyReport,
};
use crate::points::wall_clock;
use crate::records::{RepositoryChecked, SessionOnTape};
use crate::tapes::{self, Chosen, Recalled};
use crate::vault::{Found, MediaReport, TapeRepository, Which};
use restore::session::{Listed, Verified};
use snapshot::repository::upkeep::check::{CheckReport, Damage, ReadData};
use snapshot::repository::upkeep::stats::Stats;
use snapshot::repository::{Id, SessionRecord};
use snapshot::tape::{AnyDrive, VolumeInventory};
use std::time::{Duration, Instant};
use wire::codes::{self, Code};
use wire::failure::chain;

/// Damaged objects and sessions that are named.
const NAMED_MAX: usize = 1000;

/// Failures that are of one session.
const UNPROVED: [&Code; 3] =
    [&codes::TAPE_DAMAGED, &codes::TAPE_PASSWORD_WANTED, &codes::TAPE_PASSWORD_WRONG];

/// A session that was recalled, as a restore reads it.
pub(super) struct FromTape {
    pub found: Found,
    /// Holds it; gone when this is.
    pub recalled: Recalled,
}

impl Host {
    /// Reads what the volumes at hand hold and the listing lacks.
    pub(super) fn read_media(
        &self,
        tape: &TapeRepository,
        progress: &dyn Progress,
    ) -> EngineResult<MediaReport> {
        let vault = &self.context.vault;
        let _hold = take_drive(vault, tape, "what is on the volumes is read", progress)?;
        let report = vault
            .read_media(tape, Which::All, &OnDrive(progress, "read media"))
            .map_err(|error| error.or_interrupted(progress.interrupted()))?;
        vault.was_read(tape.number);
        for (session, why) in &report.failed {
            progress.note(Level::Warning, &format!("{session} cannot be read from tape: {why}"));
        }
        Ok(report)
    }

    fn tape_of(&self, found: &Found) -> Option<(TapeRepository, Chosen)> {
        let place = found.tape.as_ref()?;
        let tape = self.context.vault.tape_repository(&found.name)?;
        Some((tape, Chosen { id: found.id.to_string(), parts: place.places() }))
    }

    /// What a restore reads: for a session on tape the wanted paths, recalled.
    pub(super) fn recalled(
        &self,
        found: &Found,
        paths: &[Vec<u8>],
        progress: &dyn Progress,
    ) -> EngineResult<Option<FromTape>> {
        let Some((tape, chosen)) = self.tape_of(found) else { return Ok(None) };
        let vault = &self.context.vault;
        let what = format!("session {} is restored", found.id.short());
        let _hold = take_drive(vault, &tape, &what, progress)?;
        let media = found.tape.as_ref().map(|place| place.media().join(", ")).unwrap_or_default();
        progress.note(Level::Info, &format!("session {} is read from {media}", found.id.short()));
        let scratch = self.layout.scratch()?;
        let directory = tapes::private_directory(&scratch)
            .map_err(|error| EngineError::io("make a directory in", &scratch, error))?;
        let key = vault.key_for_reading(tape.number);
        let mut recalled = with_drive(&tape, |any| {
            let chosen = (std::slice::from_ref(&chosen), key.as_ref());
            tapes::recall(any, chosen, paths, directory, &OnDrive(progress, "recall"))
        })
        .map_err(|error| error.or_interrupted(progress.interrupted()))?;
        let none = || EngineError::new(&codes::TAPE_DAMAGED, "the tape gave no session");
        let (_, record) = recalled.sessions.pop().ok_or_else(none)?;
        // What it lacks as a whole is what the listing says, whatever part of it was wanted.
        // The listing does not know what a copy on tape was copied from; the label does.
        let record = SessionRecord { tree: record.tree, original: record.original, ..found.record.clone() };
        let found = Found {
            repository: std::sync::Arc::clone(&recalled.repository),
            name: found.name.clone(),
            id: found.id,
            record,
            made: found.made.clone(),
            tape: found.tape.clone(),
        };
        Ok(Some(FromTape { found, recalled }))
    }

    /// As [`Host::recalled`], for a plan: into a directory it is made from the listing; onto a tree contents are compared.
    pub(super) fn recalled_to_plan(
        &self,
        found: &Found,
        request: &RestoreRequest,
        progress: &dyn Progress,
    ) -> EngineResult<Option<FromTape>> {
        match request.onto {
            Onto::Directory(_) => Ok(None),
            Onto::Replica | Onto::Master => self.recalled(found, &bytes_of(&request.paths), progress),
        }
    }

    /// Reads a session from tape and proves it by the archive's own hashes; `None` if it does not lie there.
    pub(super) fn verify_on_tape(
        &self,
        found: &Found,
        progress: &dyn Progress,
    ) -> EngineResult<Option<SessionVerifyReport>> {
        let Some((tape, chosen)) = self.tape_of(found) else { return Ok(None) };
        let (began, at) = (Instant::now(), wall_clock());
        let what = format!("session {} is verified", found.id.short());
        let _hold = take_drive(&self.context.vault, &tape, &what, progress)?;
        let scratch = self.layout.scratch()?;
        let key = self.context.vault.key_for_reading(tape.number);
        let what = (&chosen, key.as_ref());
        let (verdict, proved) =
            with_drive(&tape, |any| tapes::prove(any, what, &scratch, &OnDrive(progress, "verify")))
                .map_err(|error| error.or_interrupted(progress.interrupted()))?;
        let failures: Vec<Listed> = verdict.damaged.iter().take(NAMED_MAX).map(listed).collect();
        // A stretch that is damaged without a member of its own is damage too.
        let damaged = verdict.damaged_count.max(u64::from(!verdict.is_whole()));
        if damaged > failures.len() as u64 && failures.is_empty() {
            tapes::check_whole(&chosen, &verdict)?;
        }
        if damaged == 0 {
            self.context.vault.verified(tape.number, at, &[found.id])?;
        }
        let totals = verdict.totals.unwrap_or_default();
        let found = Verified {
            files: totals.files,
            directories: totals.directories,
            bytes: proved.bytes,
            blobs: 0,
            damaged,
            failures,
        };
        let (session, repository) = (chosen.id, tape.name);
        Ok(Some(SessionVerifyReport { session, repository, found, elapsed: began.elapsed() }))
    }

    /// Compares what is known with what is on the volumes at hand; with data, reads sessions too.
    pub(super) fn check_tape(
        &self,
        tape: &TapeRepository,
        read: ReadData,
        progress: &dyn Progress,
    ) -> EngineResult<(CheckReport, Duration)> {
        let (began, at) = (Instant::now(), wall_clock());
        let vault = &self.context.vault;
        let _hold = take_drive(vault, tape, "a check of the repository", progress)?;
        let mut known = vault.all_on_tape(tape.number);
        known.sort_by_key(|place| vault.verified_on(tape.number, &place.session));
        let percent = match read {
            ReadData::None => 0,
            ReadData::Percent(percent) => usize::from(percent),
        };
        let to_read = (known.len() * percent).div_ceil(100);
        let scratch = self.layout.scratch()?;
        let mut report = CheckReport { sessions: known.len() as u64, ..CheckReport::default() };
        let mut passed = Vec::new();
        let key = vault.key_for_reading(tape.number);
        with_drive(tape, |any| {
            let stock = stock(any, tape, &mut report)?;
            let mut left = to_read;
            for place in &known {
                let id = Id(place.session);
                let chosen = Chosen { id: id.to_string(), parts: place.places() };
                report.packs += chosen.parts.len() as u64;
                report.pack_bytes = report.pack_bytes.saturating_add(place.bytes);
                // What is not at hand takes nothing away from what can be read.
                if !lies_there(place, &stock, &mut report, progress) || left == 0 {
                    continue;
                }
                left -= 1;
                match tapes::prove(any, (&chosen, key.as_ref()), &scratch, &OnDrive(progress, "check")) {
                    Ok((verdict, _)) => match verdict.fault() {
                        None => passed.push(id),
                        Some(fault) => damaged(&mut report, format!("session {}", id.short()), fault),
                    },
                    // What the password does not open cannot be restored either.
                    Err(error) if UNPROVED.contains(&error.code()) => {
                        damaged(&mut report, format!("session {}", id.short()), error.to_string());
                    }
                    Err(error) => return Err(error),
                }
                report.packs_read += chosen.parts.len() as u64;
                report.bytes_read = report.bytes_read.saturating_add(place.bytes);
            }
            Ok(())
        })
        .map_err(|error| error.or_interrupted(progress.interrupted()))?;
        vault.verified(tape.number, at, &passed)?;
        vault.checked(RepositoryChecked {
            time: wall_clock(),
            repository: tape.number,
            packs_read: report.packs_read,
            bytes_read: report.bytes_read,
            damage_count: report.damage_count,
        })?;
        for damage in report.damage.iter().take(20) {
            progress.note(Level::Error, &format!("{} is damaged: {}", damage.object, damage.what));
        }
        Ok((report, began.elapsed()))
    }

    /// What is known of a repository on tape; the drive is not asked.
    pub(super) fn stats_of_tape(&self, tape: &TapeRepository) -> EngineResult<RepositoryStats> {
        let vault = &self.context.vault;
        let known = vault.all_on_tape(tape.number);
        let bytes = known.iter().map(|place| place.bytes).sum();
        let stats = Stats {
            sessions: known.len() as u64,
            packs: known.iter().map(|place| place.parts.len() as u64).sum(),
            pack_bytes: bytes,
            raw_bytes: bytes,
            ..Stats::default()
        };
        let checked = vault.last_check(tape.number);
        Ok(RepositoryStats {
            repository: vault.describe(tape.number)?,
            version: 1,
            stats,
            last_check: checked
                .map(|checked| (checked.time.0.div_euclid(1_000_000_000), checked.damage_count)),
        })
    }

    /// Refuses what makes no sense on tape.
    pub(super) fn refuse_on_tape(&self, repository: &str, what: &str) -> EngineResult<()> {
        if self.context.vault.tape_repository(repository).is_none() {
            return Ok(());
        }
        let message = format!("{what} is not possible on tape");
        Err(EngineError::new(&codes::NOT_AVAILABLE, message)
            .because("A volume is written from front to back and given back as a whole.")
            .advise(
                "Give a volume back, with all that is on it:  restorectl tape label URL --media NAME --force",
            ))
    }
}

fn listed(one: &snapshot::tape::archive::Damaged) -> Listed {
    let path = [b"/", one.path.as_slice()].concat();
    Listed { path, what: "content", reason: one.reason.clone(), errno: None }
}

fn damaged(report: &mut CheckReport, object: String, what: String) {
    report.damage_count += 1;
    if report.damage.len() < NAMED_MAX {
        report.damage.push(Damage { object, what });
    }
}

/// Whether all parts of a session are at hand and where they should be. A volume that is elsewhere is said, and no damage;
/// one that was labelled anew took the session along.
fn lies_there(
    place: &SessionOnTape,
    stock: &[VolumeInventory],
    report: &mut CheckReport,
    progress: &dyn Progress,
) -> bool {
    let id = Id(place.session);
    let session = format!("session {}", id.short());
    for part in &place.parts {
        if stock.iter().any(|volume| volume.label.id == part.volume) {
            continue;
        }
        if stock.iter().any(|volume| volume.label.media == part.media) {
            damaged(report, session, format!("volume {} was labelled anew", part.media));
        } else {
            let text = format!("{session} was not looked at: volume {} is not at hand", part.media);
            progress.note(Level::Warning, &text);
        }
        return false;
    }
    match snapshot::tape::parts_of(stock, &id.to_string()) {
        Ok(_) => true,
        Err(error) => {
            damaged(report, session, chain(&error));
            false
        }
    }
}

/// What is on the volumes at hand; one that cannot be read is damage, one that is elsewhere is not.
fn stock(
    any: &mut AnyDrive,
    tape: &TapeRepository,
    report: &mut CheckReport,
) -> EngineResult<Vec<VolumeInventory>> {
    let mut stock = Vec::new();
    tapes::volumes_in(any, &tape.url, &mut |volume| {
        match volume.content {
            Ok(content) => stock.push(content),
            Err(why) if why == tapes::NOT_THERE => {}
            Err(why) => damaged(report, format!("volume {}", volume.name), why),
        }
        std::ops::ControlFlow::Continue(())
    })?;
    Ok(stock)
}

/// Does something with a drive; what was in it is in it again then.
fn with_drive<T>(
    tape: &TapeRepository,
    act: impl FnOnce(&mut AnyDrive) -> EngineResult<T>,
) -> EngineResult<T> {
    let mut any = tapes::open_existing(&tape.url)?;
    let loaded = any.loaded().map_err(|error| tapes::tape_failure(&tape.url, error.into()))?;
    let outcome = act(&mut any);
    if let Err(error) = any.put_back(loaded.as_deref()) {
        tracing::warn!("the volume that was in the drive is not in it again: {}", chain(&error));
    }
    outcome
}
