//! Spools of scenarios that the replica no longer assigns to this master.
//!
//! What is in a spool exists nowhere else until the replica has journaled it, and a list without the scenario is no
//! proof that nobody wants it: this host's name may have changed, the scenario may have been given to another master
//! by mistake, or the replica may have come back with an older list. So the replica's word alone removes only what it
//! has acknowledged to the last capture. Every other spool is *set aside*: renamed to `NAME.ID.aside-SECONDS`, mark of
//! the last acknowledgement included, and put back when the scenario is assigned again. The index goes in both cases:
//! it is a projection, and a rescan makes up for it.
//!
//! At most [`ASIDE_MAX`] spools are kept aside, each within its own limit. Beyond that the oldest goes, those first
//! that a crash has emptied; that is said as an error, for it is a loss.

use super::served::is_directory_name;
use crate::definition::Definition;
use crate::engine::{Level, Scenario, State, Status};
use crate::store::Layout;
use journal::disk::OsDisk;
use journal::tables::remove_tables;
use journal::{Lsn, Timestamp};
use replication::spool::{Spool, SpoolOpened};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Most spools kept aside.
const ASIDE_MAX: usize = 16;
/// Between the name of a spool and when it was set aside.
const MARK: &str = ".aside-";

/// A spool that waits for its scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Aside {
    /// Where it is.
    pub path: PathBuf,
    /// Name of its scenario.
    pub scenario: String,
    /// Id of its scenario.
    pub id: u64,
    /// Since when, in seconds of the system's clock.
    pub since: u64,
    /// The last capture in it; `None` if a crash has emptied it, or it cannot be read.
    pub captured: Option<Lsn>,
    /// The last capture acknowledged.
    pub acknowledged: Lsn,
}

impl Aside {
    /// The scenario it is of, as far as it is known here.
    pub fn scenario(&self) -> Scenario {
        let definition = Definition::new(&self.scenario, Vec::new());
        Scenario { id: self.id, definition, created: Timestamp(0), state: State::Problem }
    }

    /// How it stands.
    pub fn status(&self) -> Status {
        Status {
            name: self.scenario.clone(),
            id: self.id,
            state: State::Problem,
            cause: Some(self.text()),
            captured: self.captured.unwrap_or(self.acknowledged),
            journaled: self.acknowledged,
            applied: Lsn::ZERO,
            lag: Duration::ZERO,
            spool_bytes: bytes_below(&self.path),
            gaps_open: 0,
            last_proof: None,
            last_scrub: None,
            scrub_every: None,
            skipped: 0,
            window: None,
        }
    }

    /// In words.
    pub fn text(&self) -> String {
        let path = self.path.display();
        match self.captured {
            Some(captured) => format!(
                "the replica no longer assigns the scenario to this master; captures {} to {captured}, which it has \
                 not acknowledged, are kept in {path}",
                Lsn::captured(self.acknowledged.captured + 1)
            ),
            None => format!(
                "the replica no longer assigns the scenario to this master; its spool is kept in {path}, \
                 acknowledged up to {}",
                self.acknowledged
            ),
        }
    }
}

fn bytes_below(path: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(path) else { return 0 };
    entries.flatten().filter_map(|entry| entry.metadata().ok()).map(|meta| meta.len()).sum()
}

/// A line for the activity log.
pub(super) struct Line {
    pub level: Level,
    pub scenario: String,
    pub text: String,
}

fn line(level: Level, directory: &str, text: String) -> Line {
    let scenario = directory.rsplit_once('.').map_or(directory, |(name, _)| name).to_owned();
    Line { level, scenario, text }
}

/// The spools set aside below this directory, oldest first.
pub(super) fn list(spool: &Path) -> Vec<Aside> {
    let Ok(entries) = std::fs::read_dir(spool) else { return Vec::new() };
    let parse = |name: &str| {
        let (directory, since) = name.rsplit_once(MARK)?;
        let (scenario, id) = directory.rsplit_once('.')?;
        Some((scenario.to_owned(), id.parse().ok()?, since.parse().ok()?))
    };
    let mut list: Vec<Aside> = entries
        .flatten()
        .filter_map(|entry| {
            let (scenario, id, since) = parse(entry.file_name().to_str()?)?;
            let found = Spool::inspect(&OsDisk, &entry.path()).ok().flatten();
            let (captured, acknowledged) =
                found.map_or((None, Lsn::ZERO), |found| (found.captured, found.acknowledged));
            Some(Aside { path: entry.path(), scenario, id, since, captured, acknowledged })
        })
        .collect();
    list.sort_by(|a, b| (a.since, &a.path).cmp(&(b.since, &b.path)));
    list
}

/// Sees to what scenarios left that are not among `wanted`, names of directories; `now`: seconds of the system's
/// clock. Returns what people should know.
pub(super) fn forget_others(spool: &Path, layout: &Layout, wanted: &BTreeSet<String>, now: u64) -> Vec<Line> {
    let mut lines = Vec::new();
    // The index is what only this daemon makes: the spool's directory may be anybody's.
    let Ok(entries) = std::fs::read_dir(layout.data().join("projections").join("index")) else {
        return lines;
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if wanted.contains(&name) || !is_directory_name(&name) {
            continue;
        }
        let place = spool.join(&name);
        let (expendable, why) = match Spool::inspect(&OsDisk, &place) {
            Ok(None) => (true, String::new()),
            Ok(Some(found)) => (is_expendable(&found), String::new()),
            Err(error) => (false, format!("; it cannot be read: {error}")),
        };
        if !expendable {
            let aside = spool.join(format!("{name}{MARK}{now}"));
            if let Err(error) = std::fs::rename(&place, &aside) {
                // Index and all stay, so that the next look finds it.
                let text = format!("cannot set the spool {} aside: {error}", place.display());
                lines.push(line(Level::Warning, &name, text));
                continue;
            }
            let text = list(spool).iter().find(|one| one.path == aside).map(Aside::text).unwrap_or_default();
            lines.push(line(Level::Warning, &name, format!("{text}{why}")));
        }
        let cannot = |path: &Path, error: std::io::Error| {
            if error.kind() != std::io::ErrorKind::NotFound {
                tracing::warn!(path = %path.display(), %error, "cannot remove");
            }
        };
        for left in [place, layout.cookies(&name)] {
            std::fs::remove_dir_all(&left).unwrap_or_else(|error| cannot(&left, error));
        }
        let index = layout.index(&name);
        remove_tables(&index).unwrap_or_else(|error| cannot(&index, error));
    }
    lines.extend(keep_within_limit(spool));
    lines
}

/// Whether nothing is in a spool, nor ever was, that the replica has not acknowledged.
fn is_expendable(found: &SpoolOpened) -> bool {
    match found.captured {
        Some(captured) => captured <= found.acknowledged,
        // It never met a replica, so it never took a capture.
        None => found.journal.is_none(),
    }
}

fn keep_within_limit(spool: &Path) -> Vec<Line> {
    let mut list = list(spool);
    let excess = list.len().saturating_sub(ASIDE_MAX);
    list.sort_by_key(|aside| (aside.captured.is_some(), aside.since));
    let gone = list.into_iter().take(excess).map(|aside| {
        let removed = std::fs::remove_dir_all(&aside.path);
        let what = match removed {
            Ok(()) => "removed, there are too many of them".to_owned(),
            Err(error) => format!("one too many, and cannot be removed: {error}"),
        };
        let level = if aside.captured.is_some() { Level::Error } else { Level::Warning };
        let text = format!("a spool set aside was {what}: {}", aside.text());
        Line { level, scenario: aside.scenario, text }
    });
    gone.collect()
}

/// Puts the spool of a directory name back that was set aside, the newest if there are several. Returns what people
/// should know.
pub(super) fn take_back(spool: &Path, directory: &str) -> Option<Line> {
    let place = spool.join(directory);
    if place.exists() {
        return None;
    }
    let aside =
        list(spool).into_iter().rfind(|aside| format!("{}.{}", aside.scenario, aside.id) == directory)?;
    let (level, text) = match std::fs::rename(&aside.path, &place) {
        Ok(()) => (Level::Info, "the spool that was set aside is in use again".to_owned()),
        Err(error) => (Level::Error, format!("cannot put the spool {} back: {error}", aside.path.display())),
    };
    Some(line(level, directory, text))
}

#[cfg(test)]
mod tests;
