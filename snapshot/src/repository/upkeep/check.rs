//! Whether a repository is as it was written: everything against everything, and on demand every byte.
//!
//! Without reading data: keys and index files have the hashes they are named by; the packs that the index names are
//! there, with exactly the size that their blobs make; the records and all trees that they lead to can be read; every
//! blob that is needed is named. With data: packs are read whole; the pack has the hash it is named by, its header says
//! what the index says, each blob opens and has its hash. A part reads the packs that were read longest ago, so that
//! repeated checks of a tenth have read everything after ten.
//!
//! Damage is a result, listed by object (at most [`DAMAGE_MAX`]) and counted; what fails for other reasons (a store that
//! does not answer) is an error. A repository that another program wrote is checked the same way.

use super::ledger::{Ledger, PackInfo, list_packs};
use super::needers::Needers;
use super::used::{is_passing, need_tree};
use super::verified::Verified;
use super::{Watch, go_on};
use crate::repository::error::{RepositoryError, RepositoryErrorKind};
use crate::repository::id::{BlobKind, Id, ObjectKind};
use crate::repository::index::Location;
use crate::repository::keys::KEY_FILE_BYTES_MAX;
use crate::repository::pack::read_header;
use crate::repository::read::PackRead;
use crate::repository::{Lock, Repository, Timestamp, chain};
use sha2::{Digest, Sha256};
use std::collections::HashMap;

/// Damaged objects that are listed; more are counted.
pub const DAMAGE_MAX: usize = 1000;
/// Bytes of a pack read at a time.
const PIECE_BYTES: u64 = 16 << 20;

/// How much is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadData {
    /// No pack but those of trees.
    #[default]
    None,
    /// So many percent of the bytes, the packs first that were verified longest ago; 1 to 100.
    Percent(u8),
}

/// A damaged object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Its name in the store, or `session ID` for one that lacks something.
    pub object: String,
    /// What is wrong.
    pub what: String,
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Session records.
    pub sessions: u64,
    /// Index files.
    pub index_files: u64,
    /// Packs that the index names.
    pub packs: u64,
    /// Their bytes in the store.
    pub pack_bytes: u64,
    /// Places of blobs in them.
    pub blobs: u64,
    /// Packs that are marked for removal.
    pub marked_packs: u64,
    /// Packs that nothing names: a cut off backup or prune left them, or a backup writes them just now. The next prune
    /// sees to them.
    pub unnamed_packs: u64,
    /// Packs that were read whole.
    pub packs_read: u64,
    /// Their bytes.
    pub bytes_read: u64,
    /// Packs that were read whole by this or an earlier check.
    pub packs_verified: u64,
    /// When the pack was read that was read longest ago, in seconds since 1970; `None` if one never was.
    pub oldest_verification: Option<i64>,
    /// Damaged objects.
    pub damage_count: u64,
    /// The first of them.
    pub damage: Vec<Damage>,
}

impl CheckReport {
    fn damaged(&mut self, object: String, what: impl Into<String>) {
        self.damage_count += 1;
        if self.damage.len() < DAMAGE_MAX {
            self.damage.push(Damage { object, what: what.into() });
        }
    }
}

/// Checks. `lock` is the caller's, for [`Purpose::Check`](crate::repository::Purpose::Check). `verified` learns which
/// packs were read, also if the check is cut off.
///
/// # Errors
/// `Store`, `Cancelled`, `LockLost`, `TooLarge`.
pub fn check(
    repository: &Repository,
    lock: &Lock,
    read: ReadData,
    verified: &mut Verified,
    watch: &dyn Watch,
) -> Result<CheckReport, RepositoryError> {
    let mut report = CheckReport::default();
    check_keys(repository, &mut report)?;
    let sessions = repository.list_sessions()?;
    let listed = list_packs(repository)?;
    watch.progress("read the index", 0, None, "files");
    let mut ledger = Ledger::read(repository, &listed, &mut |error| {
        let object = object_of(&error).unwrap_or_else(|| "index".into());
        report.damaged(object, say(&error));
        Ok(())
    })?;
    check_packs(&ledger, &mut report);
    check_sessions(repository, &mut ledger, sessions, &mut report, watch)?;
    lock.check()?;
    verified.retain(|id| listed.contains_key(id));
    if let ReadData::Percent(percent) = read {
        let wanted = longest_ago(&ledger, verified, percent);
        read_packs(repository, lock, &ledger, &wanted, verified, &mut report, watch)?;
    }
    let dates: Vec<Option<i64>> = ledger
        .packs
        .iter()
        .filter(|pack| pack.indexed && pack.size.is_some())
        .map(|pack| verified.date(&pack.id))
        .collect();
    report.packs_verified = dates.iter().flatten().count() as u64;
    report.oldest_verification = dates.iter().copied().min().flatten();
    Ok(report)
}

/// The object that an error names.
fn object_of(error: &RepositoryError) -> Option<String> {
    match error {
        RepositoryError::Damaged { object, .. } | RepositoryError::Json { object, .. } => {
            Some(object.clone())
        }
        RepositoryError::BlobDamaged { pack, .. } => Some(pack.clone()),
        RepositoryError::PackMissing { object } => Some(object.clone()),
        _ => None,
    }
}

/// What is wrong, where the object is named already.
fn say(error: &RepositoryError) -> String {
    match error {
        RepositoryError::Damaged { offset: 0, what, .. } => (*what).to_owned(),
        RepositoryError::Damaged { offset, what, .. } => format!("at offset {offset}: {what}"),
        error => chain(error),
    }
}

fn check_keys(repository: &Repository, report: &mut CheckReport) -> Result<(), RepositoryError> {
    for id in repository.list_ids(ObjectKind::Key)? {
        let name = ObjectKind::Key.name(&id);
        match repository.store().get(&name, KEY_FILE_BYTES_MAX) {
            Ok(bytes) if Id::of(&bytes) == id => {}
            Ok(_) => report.damaged(name, "its bytes do not have the hash it is named by"),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn check_packs(ledger: &Ledger, report: &mut CheckReport) {
    report.index_files = ledger.files.len() as u64;
    for pack in &ledger.packs {
        report.marked_packs += u64::from(!pack.indexed && pack.marked.is_some());
        report.unnamed_packs += u64::from(!pack.indexed && pack.marked.is_none());
        if !pack.indexed {
            continue;
        }
        report.packs += 1;
        report.blobs += u64::from(pack.blobs);
        let name = ObjectKind::Pack.name(&pack.id);
        match pack.size {
            None => report.damaged(name, "it is missing"),
            Some(size) => {
                report.pack_bytes += size;
                if size != pack.expected_bytes {
                    let what =
                        format!("it has {size} bytes; with its blobs it should have {}", pack.expected_bytes);
                    report.damaged(name, what);
                }
            }
        }
    }
}

fn check_sessions(
    repository: &Repository,
    ledger: &mut Ledger,
    sessions: Vec<Id>,
    report: &mut CheckReport,
    watch: &dyn Watch,
) -> Result<(), RepositoryError> {
    let total = sessions.len() as u64;
    let (mut needers, mut not_named, mut is_lost) = (Needers::default(), Vec::new(), false);
    for (done, session) in sessions.into_iter().enumerate() {
        go_on(watch)?;
        watch.progress("read trees", done as u64, Some(total), "sessions");
        let record = match repository.load_session(&session) {
            Ok(record) => record,
            Err(error) if error.kind() == RepositoryErrorKind::NotFound => continue,
            Err(error) if !is_passing(&error) => {
                report.damaged(ObjectKind::Snapshot.name(&session), say(&error));
                continue;
            }
            Err(error) => return Err(error),
        };
        report.sessions += 1;
        let mut is_named = false;
        need_tree(repository, ledger, &record.tree, watch, &mut |kind, id, error| {
            let lacks = match error {
                None => format!("it needs {kind} blob {id}, which no index file names"),
                Some(error) => format!("it needs {kind} blob {id}: {}", chain(&error)),
            };
            report.damaged(format!("session {session}"), lacks);
            is_named = true;
            if kind == BlobKind::Tree {
                needers.lost(*id);
            }
            Ok(())
        })?;
        is_lost |= is_named;
        if !is_named {
            not_named.push((session, record.tree));
        }
    }
    // A directory that several sessions share was looked into for the first of them.
    for (session, tree) in not_named.into_iter().filter(|_| is_lost) {
        if needers.lacks(repository, ledger, &tree, watch)? {
            let lacks = "it needs something that is lost and that is named with another session";
            report.damaged(format!("session {session}"), lacks);
        }
    }
    // What is needed and lies in marked packs only can still be had.
    ledger.choose();
    for pack in ledger.packs.iter().filter(|pack| pack.used_bytes > 0 && !pack.indexed) {
        let what = "a session needs it and it is marked for removal; a prune puts it back";
        report.damaged(ObjectKind::Pack.name(&pack.id), what);
    }
    Ok(())
}

/// Packs to be read: those verified longest ago, until they are so many percent of the bytes; at least one.
fn longest_ago(ledger: &Ledger, verified: &Verified, percent: u8) -> Vec<(u32, u64)> {
    let mut packs: Vec<(i64, Id, u32, u64)> = Vec::new();
    for (number, pack) in (0..).zip(&ledger.packs) {
        if let (true, Some(size)) = (pack.indexed, pack.size) {
            packs.push((verified.date(&pack.id).unwrap_or(i64::MIN), pack.id, number, size));
        }
    }
    packs.sort_unstable();
    let total: u128 = packs.iter().map(|(_, _, _, size)| u128::from(*size)).sum();
    let wanted = total * u128::from(percent.clamp(1, 100));
    let mut taken = 0_u128;
    packs
        .into_iter()
        .take_while(|(_, _, _, size)| {
            let go_on = taken * 100 < wanted;
            taken += u128::from(*size);
            go_on
        })
        .map(|(_, _, number, size)| (number, size))
        .collect()
}

fn read_packs(
    repository: &Repository,
    lock: &Lock,
    ledger: &Ledger,
    wanted: &[(u32, u64)],
    verified: &mut Verified,
    report: &mut CheckReport,
    watch: &dyn Watch,
) -> Result<(), RepositoryError> {
    let numbers: HashMap<u32, usize> = wanted.iter().enumerate().map(|(at, (pack, _))| (*pack, at)).collect();
    let total = wanted.iter().map(|(_, size)| size).sum();
    // Places of the blobs of a bounded number of packs at a time.
    for group in wanted.chunks(GROUP_PACKS) {
        let first = group.first().and_then(|(pack, _)| numbers.get(pack)).copied().unwrap_or(0);
        let mut blobs: Vec<Vec<Location>> = group.iter().map(|_| Vec::new()).collect();
        ledger.for_each(&mut |kind, entry, _| {
            let at = numbers.get(&entry.pack).and_then(|at| at.checked_sub(first));
            if let (Some(list), Some(pack)) =
                (at.and_then(|at| blobs.get_mut(at)), ledger.packs.get(entry.pack as usize))
            {
                list.push(Location {
                    pack: pack.id,
                    kind,
                    id: Id(entry.id),
                    offset: entry.offset,
                    length: entry.length,
                    uncompressed_length: entry.uncompressed_length,
                });
            }
        });
        for ((number, size), mut blobs) in group.iter().zip(blobs) {
            let Some(pack) = ledger.packs.get(*number as usize) else { continue };
            go_on(watch)?;
            lock.check()?;
            blobs.sort_unstable_by_key(|blob| blob.offset);
            if *size != pack.expected_bytes {
                // That was said already.
                verified.found_damaged(&pack.id);
                continue;
            }
            let before = report.damage_count;
            read_whole(repository, pack, *size, blobs, report)?;
            report.packs_read += 1;
            report.bytes_read += size;
            if report.damage_count == before {
                verified.found_whole(pack.id, Timestamp::now());
            } else {
                verified.found_damaged(&pack.id);
            }
            watch.progress("read packs", report.bytes_read, Some(total), "bytes");
        }
    }
    Ok(())
}

/// Packs whose blobs are collected at a time.
const GROUP_PACKS: usize = 1000;

/// Reads a pack twice, as bytes and as blobs: a pack may be larger than memory.
fn read_whole(
    repository: &Repository,
    pack: &PackInfo,
    size: u64,
    blobs: Vec<Location>,
    report: &mut CheckReport,
) -> Result<(), RepositoryError> {
    let name = ObjectKind::Pack.name(&pack.id);
    let mut hash = Sha256::new();
    let mut at = 0;
    while at < size {
        let end = size.min(at + PIECE_BYTES);
        match repository.store().get_range(&name, at..end) {
            Ok(bytes) => hash.update(&bytes),
            Err(error) if error.is_not_found() => {
                report.damaged(name, "it vanished while it was read");
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        }
        at = end;
    }
    if Id(hash.finalize().into()) == pack.id {
        // The bytes are those that were written, seals and all; what is left is whether the index tells the truth.
        return compare_header(repository, pack, size, &blobs, report);
    }
    let mut named = false;
    let read = PackRead { pack: pack.id, blobs };
    let mut outcome = Ok(());
    let mut rest = read.blobs.as_slice();
    while let [blob, after @ ..] = rest {
        let one = PackRead { pack: pack.id, blobs: vec![*blob] };
        rest = after;
        repository.read_sealed(&one, &mut |_, sealed| {
            match sealed {
                Ok(_) => {}
                Err(error @ RepositoryError::BlobDamaged { .. }) => {
                    named = true;
                    report.damaged(name.clone(), error.to_string());
                }
                Err(error) => outcome = Err(error),
            }
            outcome.is_ok()
        });
    }
    outcome?;
    if !named {
        report.damaged(name, "its bytes do not have the hash it is named by, though its blobs are whole");
    }
    Ok(())
}

fn compare_header(
    repository: &Repository,
    pack: &PackInfo,
    size: u64,
    blobs: &[Location],
    report: &mut CheckReport,
) -> Result<(), RepositoryError> {
    let name = ObjectKind::Pack.name(&pack.id);
    let header = match read_header(&**repository.store(), repository.seal_key(), &pack.id, size) {
        Ok(header) => header,
        Err(error) if is_passing(&error) => return Err(error),
        Err(error) => {
            report.damaged(name, say(&error));
            return Ok(());
        }
    };
    let of_header = |kind: BlobKind, id: Id, offset: u32| {
        header.iter().any(|entry| (entry.kind, entry.id, entry.offset) == (kind, id, offset))
    };
    // Usually both are equal, in order.
    let equal = header.len() == blobs.len()
        && header.iter().zip(blobs).all(|(entry, place)| {
            (entry.kind, entry.id, entry.offset, entry.length, entry.uncompressed_length)
                == (place.kind, place.id, place.offset, place.length, place.uncompressed_length)
        });
    if !equal {
        let wrong = blobs.iter().find(|place| !of_header(place.kind, place.id, place.offset));
        let what = wrong.map_or_else(
            || "its header and the index name different blobs".to_owned(),
            |place| {
                format!("its header does not name {} blob {}, which the index does", place.kind, place.id)
            },
        );
        report.damaged(name, what);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
