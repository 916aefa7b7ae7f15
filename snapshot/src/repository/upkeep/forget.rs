//! Removing session records by a policy. What they needed stays until a prune.
//!
//! Records are removed one by one, each removal durable before the next; cut off anywhere, the rest is decided again by
//! the next run. A record that cannot be read stops the whole: what it needs and how old it is cannot be known.

use super::policy::{Candidate, Group, Policy, apply};
use super::{Watch, go_on};
use crate::repository::error::{RepositoryError, RepositoryErrorKind};
use crate::repository::id::Id;
use crate::repository::{Lock, Repository, Timestamp};

/// Which sessions are looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ForgetOptions {
    /// What is kept.
    pub policy: Policy,
    /// Only sessions of this machine.
    pub host: Option<String>,
    /// Only sessions of this path.
    pub path: Option<String>,
    /// Only sessions with this tag.
    pub tag: Option<String>,
}

/// What would be forgotten now, by group.
///
/// # Errors
/// `EmptyPolicy`, `GroupEmptied`, `Damaged`, `Json`, `Store`, `Cancelled`.
pub fn plan_forget(
    repository: &Repository,
    options: &ForgetOptions,
    watch: &dyn Watch,
) -> Result<Vec<Group>, RepositoryError> {
    if options.policy.is_empty() {
        return Err(RepositoryError::EmptyPolicy);
    }
    let ids = repository.list_sessions()?;
    let total = ids.len() as u64;
    let mut candidates = Vec::new();
    for (done, id) in ids.into_iter().enumerate() {
        go_on(watch)?;
        watch.progress("read sessions", done as u64, Some(total), "sessions");
        let record = match repository.load_session(&id) {
            Ok(record) => record,
            // Somebody forgot it, or a backup took it back.
            Err(error) if error.kind() == RepositoryErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let is = |wanted: &Option<String>, has: &dyn Fn(&String) -> bool| wanted.as_ref().is_none_or(has);
        if is(&options.host, &|host| record.hostname == *host)
            && is(&options.path, &|path| record.paths.contains(path))
            && is(&options.tag, &|tag| record.tags.contains(tag))
        {
            candidates.push(Candidate::new(id, &record));
        }
    }
    apply(&options.policy, Timestamp::now(), candidates)
}

/// Forgets what a plan says; returns what is gone. `lock` is the caller's, for [`Purpose::Forget`].
///
/// [`Purpose::Forget`]: crate::repository::Purpose::Forget
///
/// # Errors
/// `LockLost`, `Store`, `Cancelled`. What was removed before stays removed.
pub fn forget(
    repository: &Repository,
    lock: &Lock,
    groups: &[Group],
    watch: &dyn Watch,
) -> Result<Vec<Id>, RepositoryError> {
    let total = groups.iter().map(|group| group.forget.len() as u64).sum();
    let mut gone = Vec::new();
    for session in groups.iter().flat_map(|group| &group.forget) {
        go_on(watch)?;
        lock.check()?;
        repository.remove_session(&session.id)?;
        gone.push(session.id);
        watch.progress("forget", gone.len() as u64, Some(total), "sessions");
    }
    Ok(gone)
}
