//! A prune: the ledger, the plan, and carrying it out in the order that loses nothing (see the parent module).

use super::ledger::{Ledger, list_packs};
use super::plan::{PackFigures, PruneOptions, PrunePlan, Sum, plan};
use super::removal::{CLOCKS_APART_MAX, Removal};
use super::repack::{Repacked, repack};
use super::rewrite::rewrite;
use super::used::need_tree;
use super::{Watch, go_on};
use crate::repository::error::{RepositoryError, RepositoryErrorKind};
use crate::repository::id::Id;
use crate::repository::{Lock, Purpose, Repository, Timestamp, chain, lock};
use std::collections::HashSet;

/// What a prune did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PruneReport {
    /// What was decided.
    pub plan: PrunePlan,
    /// Packs that are gone.
    pub removed: Sum,
    /// Packs that came back into the index, those of sessions that appeared meanwhile among them.
    pub put_back: Sum,
    /// Packs whose time is over and that wait until backups or readers have ended that were there when they were marked.
    pub held: Sum,
    /// Packs that were written.
    pub written: Sum,
    /// Index files that were written and removed.
    pub index_files: (u64, u64),
    /// Packs that should have been packed anew and are damaged: each with its error.
    pub damaged: Vec<String>,
    /// Whether the clocks of the store and of this host are so far apart that nothing was removed.
    pub clocks_differ: bool,
}

/// What is known before anything is decided.
pub(super) struct Survey {
    pub ledger: Ledger,
    pub sessions: HashSet<Id>,
}

/// Surveys that are begun anew, because a session that lacks something vanished, before that is an error.
const SURVEYS_MAX: u32 = 5;

pub(super) fn survey(repository: &Repository, watch: &dyn Watch) -> Result<Survey, RepositoryError> {
    for _ in 1..SURVEYS_MAX {
        match try_survey(repository, watch) {
            // Its marks are in the ledger, without those below them: whoever shares a tree with it would not look there.
            Err(RepositoryError::SessionIncomplete { session, .. }) if is_gone(repository, &session) => {}
            outcome => return outcome,
        }
    }
    try_survey(repository, watch)
}

/// Whether a record was taken back or forgotten meanwhile.
fn is_gone(repository: &Repository, session: &Id) -> bool {
    repository.load_session(session).is_err_and(|error| error.kind() == RepositoryErrorKind::NotFound)
}

/// A ledger in which everything is marked that the sessions need. One session that cannot be walked to its end spoils the
/// ledger: trees that it marked count as looked into.
fn try_survey(repository: &Repository, watch: &dyn Watch) -> Result<Survey, RepositoryError> {
    watch.progress("read the index", 0, None, "files");
    // Records first: what they need was named in an index file before. Those that appear later are looked at later.
    let ids = repository.list_sessions()?;
    let listed = list_packs(repository)?;
    let mut ledger = Ledger::read(repository, &listed, &mut Err)?;
    let total = ids.len() as u64;
    let mut sessions = HashSet::new();
    for (done, session) in ids.into_iter().enumerate() {
        go_on(watch)?;
        watch.progress("read trees", done as u64, Some(total), "sessions");
        let record = match repository.load_session(&session) {
            // A backup may take its record back: it is none then.
            Err(error) if error.kind() == RepositoryErrorKind::NotFound => continue,
            outcome => outcome?,
        };
        need_tree(repository, &mut ledger, &record.tree, watch, &mut |kind, id, source| {
            let (id, source) = (*id, source.map(Box::new));
            Err(RepositoryError::SessionIncomplete { session, kind, id, source })
        })?;
        sessions.insert(session);
    }
    ledger.choose();
    Ok(Survey { ledger, sessions })
}

/// Since when backups are at work, by the clocks of their hosts; a bit earlier, as those and the store's may differ.
fn running_since(repository: &Repository) -> Result<Option<i64>, RepositoryError> {
    let locks = lock::list(repository)?;
    let backups = locks.into_iter().filter(|(_, record)| record.purpose == Some(Purpose::Backup));
    let since = backups.map(|(_, record)| record.since.unwrap_or(record.time).seconds);
    Ok(since.min().map(|since| since.saturating_sub(CLOCKS_APART_MAX.cast_signed())))
}

fn figures(
    repository: &Repository,
    ledger: &Ledger,
    options: &PruneOptions,
) -> Result<Vec<PackFigures>, RepositoryError> {
    let since = if options.spare_running { running_since(repository)? } else { None };
    let is_fresh =
        |modified: Option<i64>| modified.zip(since).is_some_and(|(modified, since)| modified >= since);
    let figures = ledger.packs.iter().map(|pack| PackFigures {
        id: pack.id,
        size: pack.size,
        indexed: pack.indexed,
        marked: pack.marked,
        fresh: is_fresh(pack.modified),
        used_bytes: pack.used_bytes,
        blob_bytes: pack.blob_bytes,
        expected_bytes: pack.expected_bytes,
    });
    Ok(figures.collect())
}

/// What a prune would do now. Changes nothing.
///
/// # Errors
/// `SessionIncomplete` or `PackMissing` if a session cannot be read as a whole: then nothing may be removed; `Damaged`,
/// `Json`, `Store`, `Cancelled`.
pub fn plan_prune(
    repository: &Repository,
    options: &PruneOptions,
    watch: &dyn Watch,
) -> Result<PrunePlan, RepositoryError> {
    let survey = survey(repository, watch)?;
    plan(&figures(repository, &survey.ledger, options)?, options, Timestamp::now())
}

/// Prunes. `lock` is the caller's, for [`Purpose::Prune`](crate::repository::Purpose::Prune). May be cut off anywhere.
///
/// # Errors
/// As [`plan_prune`]; `LockLost`, `Random`, `Zstd`. What was done before stays done, and no session has lost anything.
pub fn prune(
    repository: &Repository,
    lock: &Lock,
    options: &PruneOptions,
    watch: &dyn Watch,
) -> Result<PruneReport, RepositoryError> {
    let Survey { mut ledger, sessions } = survey(repository, watch)?;
    let mut plan = plan(&figures(repository, &ledger, options)?, options, Timestamp::now())?;
    let new: Repacked = repack(repository, &ledger, &mut plan, watch)?;
    let rewritten = rewrite(repository, lock, &ledger, &plan, &new, watch)?;
    let mut report = PruneReport {
        removed: Sum::default(),
        put_back: plan.put_back,
        held: Sum::default(),
        written: Sum { packs: new.packs.len() as u64, bytes: new.bytes },
        index_files: (rewritten.written, rewritten.removed),
        damaged: new.damaged.iter().map(|error| chain(error)).collect(),
        clocks_differ: false,
        plan,
    };
    drop(new);
    let removal = Removal {
        repository,
        lock,
        ledger: &mut ledger,
        plan: &report.plan,
        options,
        sessions,
        rescued: HashSet::new(),
    };
    let removed = removal.run(watch)?;
    report.removed = removed.packs;
    report.put_back.packs += removed.put_back.packs;
    report.put_back.bytes += removed.put_back.bytes;
    report.held = removed.held;
    report.clocks_differ = removed.clocks_differ;
    report.index_files.0 += removed.index_files;
    Ok(report)
}
