//! Taking, keeping and giving back a lock.

use super::{HANGUP_SUFFIX, Identity, LockRecord, Purpose, STALE_AFTER, list, survives_hangup};
use crate::repository::error::RepositoryError;
use crate::repository::id::{Id, ObjectKind};
use crate::repository::time::Timestamp;
use crate::repository::{Repository, chain};
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

/// Times of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockOptions {
    /// Between writing one's own lock and looking again.
    pub settle: Duration,
    /// Between two refreshes.
    pub refresh: Duration,
    /// Without a refresh for so long the lock counts as lost. Below [`STALE_AFTER`], so that we stop before others begin.
    pub lost_after: Duration,
}

impl Default for LockOptions {
    fn default() -> Self {
        Self {
            settle: Duration::from_millis(200),
            refresh: Duration::from_secs(5 * 60),
            lost_after: STALE_AFTER - Duration::from_secs(5 * 60),
        }
    }
}

/// Stale locks are removed first; their number. Others stay.
///
/// # Errors
/// As [`list`].
pub fn remove_stale(repository: &Repository) -> Result<usize, RepositoryError> {
    let (now, here) = (Timestamp::now(), Identity::of_process());
    let mut removed = 0;
    for (id, record) in list(repository)? {
        if record.is_stale(now, &here) {
            tracing::info!(lock = %id, holder = %record, "stale lock removed");
            repository.store().delete(&ObjectKind::Lock.name(&id))?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Removes every lock, also those that cannot be read or are in use: for a person who knows.
///
/// # Errors
/// `Store`.
pub fn remove_all(repository: &Repository) -> Result<usize, RepositoryError> {
    let ids = repository.list_ids(ObjectKind::Lock)?;
    for id in &ids {
        repository.store().delete(&ObjectKind::Lock.name(id))?;
    }
    Ok(ids.len())
}

/// Locks the repository; stale locks of others are removed on the way.
///
/// # Errors
/// `Locked` with the holder; as [`list`].
pub fn acquire(
    repository: &Arc<Repository>,
    purpose: Purpose,
    options: LockOptions,
) -> Result<Lock, RepositoryError> {
    remove_stale(repository)?;
    let here = Identity::of_process();
    let now = Timestamp::now();
    let record = LockRecord {
        time: now,
        exclusive: purpose.is_exclusive(),
        hostname: here.hostname + if survives_hangup() { "" } else { HANGUP_SUFFIX },
        username: here.username,
        pid: i64::from(rustix::process::getpid().as_raw_nonzero().get()),
        uid: here.uid,
        gid: here.gid,
        purpose: Some(purpose),
        word: Some(word()?),
        since: Some(now),
    };
    look(repository, &record, None)?;
    let freshness = Freshness::now();
    let id = write(repository, &record)?;
    std::thread::sleep(options.settle);
    if let Err(error) = look(repository, &record, Some(id)) {
        repository.store().delete(&ObjectKind::Lock.name(&id))?;
        return Err(error);
    }
    let shared = Arc::new(Shared {
        state: Mutex::new(State { id, freshness, ended: false }),
        wake: Condvar::new(),
        lost_after: options.lost_after,
        word: record.word.clone().unwrap_or_default(),
    });
    let worker = Arc::clone(&shared);
    let place = Arc::clone(repository);
    let refresher = std::thread::Builder::new()
        .name("lock-refresh".into())
        .spawn(move || keep(&place, record, &worker, options.refresh));
    match refresher {
        Ok(refresher) => Ok(Lock { repository: Arc::clone(repository), shared, refresher: Some(refresher) }),
        Err(source) => {
            repository.store().delete(&ObjectKind::Lock.name(&id))?;
            Err(RepositoryError::Thread { purpose: "refreshing a lock", source })
        }
    }
}

/// 64 random bits as text.
fn word() -> Result<String, RepositoryError> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|source| RepositoryError::Random { source })?;
    Ok(format!("{:016x}", u64::from_be_bytes(bytes)))
}

/// Fails if somebody else's lock conflicts.
fn look(repository: &Repository, record: &LockRecord, own: Option<Id>) -> Result<(), RepositoryError> {
    let (now, here) = (Timestamp::now(), Identity::of_process());
    let conflict = list(repository)?
        .into_iter()
        .find(|(id, other)| Some(*id) != own && !other.is_stale(now, &here) && record.conflicts(other));
    match conflict {
        None => Ok(()),
        Some((id, holder)) => {
            Err(RepositoryError::Locked { object: ObjectKind::Lock.name(&id), holder: Box::new(holder) })
        }
    }
}

fn write(repository: &Repository, record: &LockRecord) -> Result<Id, RepositoryError> {
    let json = serde_json::to_vec(record)
        .map_err(|source| RepositoryError::Json { object: "a new lock".into(), source })?;
    repository.save_unpacked(ObjectKind::Lock, &json)
}

/// When the lock was last known to be fresh, by both clocks: one stands still while the machine sleeps, the other jumps.
#[derive(Debug)]
struct Freshness {
    steady: Instant,
    wall: SystemTime,
}

impl Freshness {
    fn now() -> Self {
        Self { steady: Instant::now(), wall: SystemTime::now() }
    }

    fn age(&self) -> Duration {
        self.steady.elapsed().max(self.wall.elapsed().unwrap_or_default())
    }
}

#[derive(Debug)]
struct State {
    id: Id,
    freshness: Freshness,
    ended: bool,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    lost_after: Duration,
    word: String,
}

/// A lock that is held; given back when dropped.
#[derive(Debug)]
pub struct Lock {
    repository: Arc<Repository>,
    shared: Arc<Shared>,
    refresher: Option<JoinHandle<()>>,
}

impl Lock {
    /// Name of the lock's object at present.
    #[must_use]
    pub fn object(&self) -> String {
        ObjectKind::Lock.name(&self.shared.state.lock().id)
    }

    /// The word that tells this lock from all others, also when it is written anew.
    #[must_use]
    pub fn word(&self) -> Option<String> {
        Some(self.shared.word.clone())
    }

    /// Fails once the lock could not be refreshed for so long that others may soon take it as stale. To be asked before
    /// anything that relies on the lock.
    ///
    /// # Errors
    /// `LockLost`.
    pub fn check(&self) -> Result<(), RepositoryError> {
        let state = self.shared.state.lock();
        let age = state.freshness.age();
        if age <= self.shared.lost_after {
            return Ok(());
        }
        Err(RepositoryError::LockLost { object: ObjectKind::Lock.name(&state.id), seconds: age.as_secs() })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.shared.state.lock().ended = true;
        self.shared.wake.notify_all();
        if self.refresher.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that refreshes a lock panicked");
        }
        let object = self.object();
        if let Err(error) = self.repository.store().delete(&object) {
            tracing::warn!(object, error = %chain(&error), "lock not removed; it will be stale in half an hour");
        }
    }
}

/// Writes the lock anew from time to time. A lost lock is not written again: somebody may hold another by then.
fn keep(repository: &Repository, mut record: LockRecord, shared: &Shared, every: Duration) {
    let mut pause = every;
    loop {
        let mut state = shared.state.lock();
        if !state.ended {
            shared.wake.wait_for(&mut state, pause);
        }
        if state.ended || state.freshness.age() > shared.lost_after {
            return;
        }
        let old = state.id;
        // The store is not called under the mutex: check() must not wait for a network.
        drop(state);
        record.time = Timestamp::now();
        let freshness = Freshness::now();
        match write(repository, &record) {
            Ok(id) => {
                let mut state = shared.state.lock();
                (state.id, state.freshness) = (id, freshness);
                drop(state);
                pause = every;
                if let Err(error) = repository.store().delete(&ObjectKind::Lock.name(&old)) {
                    tracing::warn!(error = %chain(&error), "refreshed lock not removed");
                }
            }
            Err(error) => {
                tracing::warn!(error = %chain(&error), "lock not refreshed; trying again");
                pause = every / 10;
            }
        }
    }
}
