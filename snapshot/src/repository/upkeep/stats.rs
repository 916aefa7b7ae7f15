//! Figures of a repository.

use super::Watch;
use super::prune::survey;
use super::verified::Verified;
use crate::repository::error::RepositoryError;
use crate::repository::id::{BlobKind, ObjectKind};
use crate::repository::lock;
use crate::repository::{Lock, Repository};

/// What a repository holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Session records.
    pub sessions: u64,
    /// Packs that the index names.
    pub packs: u64,
    /// Their bytes as stored.
    pub pack_bytes: u64,
    /// Places of blobs in them.
    pub blobs: u64,
    /// Bytes of those blobs before compression.
    pub raw_bytes: u64,
    /// Sealed bytes that no session needs, in packs that the index names.
    pub unused_bytes: u64,
    /// Packs that are marked for removal, or that nothing names.
    pub waiting_packs: u64,
    /// Their bytes.
    pub waiting_bytes: u64,
    /// Index files.
    pub index_files: u64,
    /// Keys.
    pub keys: u64,
    /// Locks of others, each as people read it.
    pub locks: Vec<String>,
    /// Packs that some check read whole.
    pub packs_verified: u64,
    /// When the pack was read that was read longest ago, in seconds since 1970; `None` if one never was.
    pub oldest_verification: Option<i64>,
    /// When a pack was last read whole.
    pub newest_verification: Option<i64>,
}

/// Counts. Reads all index files and trees. `own` is the caller's lock, which is not told.
///
/// # Errors
/// As [`plan_prune`](super::prune::plan_prune).
pub fn stats(
    repository: &Repository,
    own: &Lock,
    verified: &Verified,
    watch: &dyn Watch,
) -> Result<Stats, RepositoryError> {
    let survey = survey(repository, watch)?;
    let ledger = &survey.ledger;
    let mut stats = Stats {
        sessions: survey.sessions.len() as u64,
        index_files: ledger.files.len() as u64,
        keys: repository.list_ids(ObjectKind::Key)?.len() as u64,
        locks: lock::list(repository)?
            .into_iter()
            .filter(|(_, record)| record.word != own.word())
            .map(|(_, record)| record.to_string())
            .collect(),
        ..Stats::default()
    };
    let mut dates = Vec::new();
    for pack in &ledger.packs {
        let Some(size) = pack.size else { continue };
        if pack.indexed {
            stats.packs += 1;
            stats.pack_bytes += size;
            stats.blobs += u64::from(pack.blobs);
            stats.unused_bytes += pack.blob_bytes.saturating_sub(pack.used_bytes);
            dates.push(verified.date(&pack.id));
        } else {
            stats.waiting_packs += 1;
            stats.waiting_bytes += size;
        }
    }
    ledger.for_each(&mut |kind: BlobKind, entry, _| {
        if ledger.packs.get(entry.pack as usize).is_some_and(|pack| pack.indexed && pack.size.is_some()) {
            stats.raw_bytes += ledger.plain_bytes(kind, entry);
        }
    });
    stats.packs_verified = dates.iter().flatten().count() as u64;
    stats.oldest_verification = dates.iter().copied().min().flatten();
    stats.newest_verification = dates.iter().copied().max().flatten();
    Ok(stats)
}
