//! What a prune does to each pack: decided from sums alone, without asking anybody, so that it can be shown first.

use crate::repository::error::RepositoryError;
use crate::repository::id::{Id, ObjectKind};
use crate::repository::time::Timestamp;
use std::time::Duration;

/// How long packs that nothing needs stay recoverable, unless somebody says otherwise.
pub const GRACE_DEFAULT: Duration = Duration::from_secs(7 * 24 * 3600);
/// So much of what is stored may stay unused, in percent, before packs are packed anew.
pub const UNUSED_PERCENT_DEFAULT: u8 = 5;

/// How a prune works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PruneOptions {
    /// How long after it was marked a pack is removed at the earliest.
    pub grace: Duration,
    /// Partly used packs are packed anew until at most so many percent of the bytes in use are unused. 100 or more: no
    /// pack is packed anew.
    pub unused_percent: u8,
    /// Bytes packed anew at most; the rest is left to the next prune.
    pub repack_bytes_max: u64,
    /// Whether packs are spared that backups may just have stored that are at work. They would have to store them again.
    pub spare_running: bool,
}

impl Default for PruneOptions {
    fn default() -> Self {
        Self {
            grace: GRACE_DEFAULT,
            unused_percent: UNUSED_PERCENT_DEFAULT,
            repack_bytes_max: u64::MAX,
            spare_running: true,
        }
    }
}

/// What is known of a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackFigures {
    /// The pack.
    pub id: Id,
    /// Bytes in the store; `None`: it is not there.
    pub size: Option<u64>,
    /// Whether an index file names it.
    pub indexed: bool,
    /// Whether a backup that is at work may have stored it.
    pub fresh: bool,
    /// When it was marked for removal.
    pub marked: Option<Timestamp>,
    /// Sealed bytes of blobs that are needed from here.
    pub used_bytes: u64,
    /// Sealed bytes of all its blobs.
    pub blob_bytes: u64,
    /// Bytes that it has according to its blobs.
    pub expected_bytes: u64,
}

/// What becomes of a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It stays as it is.
    Keep,
    /// What is used of it goes into a new pack, and it is marked.
    Repack,
    /// Nothing needs it: it leaves the index and is marked.
    Mark,
    /// It is marked and waits.
    Wait,
    /// A session needs what is in a marked pack: it comes back into the index.
    PutBack,
    /// It was marked long enough ago.
    Remove,
    /// It is named, and is neither there nor needed: its name goes.
    Drop,
}

/// Packs and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// Number of packs.
    pub packs: u64,
    /// Their bytes in the store.
    pub bytes: u64,
}

impl Sum {
    fn add(&mut self, bytes: u64) {
        self.packs += 1;
        self.bytes += bytes;
    }
}

/// What a prune does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PrunePlan {
    /// Of each pack, in the order in which they came.
    pub fates: Vec<(Id, Fate)>,
    /// Packs that stay.
    pub keep: Sum,
    /// Packs that are packed anew.
    pub repack: Sum,
    /// Bytes of blobs that are copied for that.
    pub repack_used_bytes: u64,
    /// Packs that are marked; those that are packed anew come on top.
    pub mark: Sum,
    /// Packs that were marked and wait.
    pub wait: Sum,
    /// Packs that are put back.
    pub put_back: Sum,
    /// Packs whose time is over.
    pub remove: Sum,
    /// Names of packs that are gone.
    pub drop: Sum,
    /// Sealed bytes that sessions need.
    pub used_bytes: u64,
    /// Sealed bytes that they do not need and that stay in packs that stay.
    pub unused_bytes: u64,
    /// When the next of the waiting packs may go.
    pub next_removal: Option<Timestamp>,
}

impl PrunePlan {
    /// Whether the prune would change nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fates.iter().all(|(_, fate)| matches!(fate, Fate::Keep | Fate::Wait))
    }

    /// What becomes of a pack, by its number.
    #[must_use]
    pub fn fate(&self, number: u32) -> Fate {
        self.fates.get(number as usize).map_or(Fate::Keep, |(_, fate)| *fate)
    }
}

fn after(time: Timestamp, grace: Duration) -> Timestamp {
    let seconds = i64::try_from(grace.as_secs()).unwrap_or(i64::MAX);
    Timestamp { seconds: time.seconds.saturating_add(seconds), ..time }
}

/// Decides.
///
/// # Errors
/// `PackMissing` if a session needs a pack that is not there: then nothing may be removed before somebody has looked.
pub fn plan(
    packs: &[PackFigures],
    options: &PruneOptions,
    now: Timestamp,
) -> Result<PrunePlan, RepositoryError> {
    let mut plan = PrunePlan::default();
    for pack in packs {
        let fate = first_fate(pack, options, now)?;
        plan.fates.push((pack.id, fate));
        plan.used_bytes += pack.used_bytes;
    }
    choose_repacks(packs, options, &mut plan);
    for (pack, (_, fate)) in packs.iter().zip(&plan.fates) {
        let bytes = pack.size.unwrap_or(0);
        match fate {
            Fate::Keep => {
                plan.keep.add(bytes);
                plan.unused_bytes += pack.blob_bytes.saturating_sub(pack.used_bytes);
            }
            Fate::Repack => {
                plan.repack.add(bytes);
                plan.repack_used_bytes += pack.used_bytes;
            }
            Fate::Mark => plan.mark.add(bytes),
            Fate::Wait => {
                plan.wait.add(bytes);
                let end = pack.marked.map(|time| after(time, options.grace));
                plan.next_removal = plan.next_removal.into_iter().chain(end).min();
            }
            Fate::PutBack => plan.put_back.add(bytes),
            Fate::Remove => plan.remove.add(bytes),
            Fate::Drop => plan.drop.add(bytes),
        }
    }
    Ok(plan)
}

fn first_fate(pack: &PackFigures, options: &PruneOptions, now: Timestamp) -> Result<Fate, RepositoryError> {
    let used = pack.used_bytes > 0;
    Ok(match (pack.size, pack.indexed, pack.marked) {
        (None, _, _) if used => {
            return Err(RepositoryError::PackMissing { object: ObjectKind::Pack.name(&pack.id) });
        }
        (None, _, _) => Fate::Drop,
        (Some(_), true, _) if used => Fate::Keep,
        (Some(_), _, None) if pack.fresh => Fate::Keep,
        // Named, marked or in no file at all: what nobody needs is marked first.
        (Some(_), true, _) | (Some(_), false, None) => Fate::Mark,
        (Some(_), false, Some(_)) if used => Fate::PutBack,
        (Some(_), false, Some(time)) if after(time, options.grace) <= now => Fate::Remove,
        (Some(_), false, Some(_)) => Fate::Wait,
    })
}

/// Packs with the greatest part unused are packed anew, until little enough is unused.
fn choose_repacks(packs: &[PackFigures], options: &PruneOptions, plan: &mut PrunePlan) {
    if options.unused_percent >= 100 {
        return;
    }
    let limit = u128::from(plan.used_bytes) * u128::from(options.unused_percent) / 100;
    let unused = |pack: &PackFigures| pack.blob_bytes.saturating_sub(pack.used_bytes);
    let mut candidates: Vec<(usize, &PackFigures)> = packs
        .iter()
        .enumerate()
        .filter(|(at, pack)| {
            // A pack of another size than its blobs say is damaged: it is left for somebody to look at.
            plan.fates.get(*at).is_some_and(|(_, fate)| *fate == Fate::Keep)
                && unused(pack) > 0
                && !pack.fresh
                && pack.size == Some(pack.expected_bytes)
        })
        .collect();
    let mut left: u128 = candidates.iter().map(|(_, pack)| u128::from(unused(pack))).sum();
    candidates.sort_by(|(_, a), (_, b)| {
        let parts =
            |pack: &PackFigures, other: &PackFigures| u128::from(unused(pack)) * u128::from(other.blob_bytes);
        parts(b, a).cmp(&parts(a, b)).then(a.id.cmp(&b.id))
    });
    let mut copied = 0_u64;
    for (at, pack) in candidates {
        copied = copied.saturating_add(pack.used_bytes);
        if left <= limit || copied > options.repack_bytes_max {
            break;
        }
        left -= u128::from(unused(pack));
        if let Some((_, fate)) = plan.fates.get_mut(at) {
            *fate = Fate::Repack;
        }
    }
}

#[cfg(test)]
mod tests;
