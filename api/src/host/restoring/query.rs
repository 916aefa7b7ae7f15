//! From a query to what is restored: paths by session.
//!
//! Each path comes from the newest session that holds it, or from the one that is asked for. A directory that matches
//! brings all that is below it, so what lies below it in the same session is not named again; but where the query asks
//! about files (`--size`, `--since`, `--until`) a directory has passed by its own time, which says nothing about what is
//! in it, and is left out.
//!
//! Bounded: [`ROWS_MAX`] matches are looked at, [`PATHS_MAX`] paths of [`PATH_BYTES_MAX`] bytes are kept. Beyond that the
//! restore is refused: a part of what was asked for would look like all of it.

use super::super::Host;
use super::path_of;
use crate::engine::{
    CatalogEntry, CatalogQuery, EngineError, EngineResult, Finder, LeftOut, Onto, Part, Progress, QueryFound,
    RestoreSet, SessionName,
};
use crate::vault::Found;
use restore::session::Listed;
use snapshot::catalog::EntryKind;
use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;

use wire::codes;

/// Matches that are looked at.
const ROWS_MAX: usize = 300_000;
/// Paths that are restored.
const PATHS_MAX: usize = 10_000;
/// Their bytes: a job has to remember them.
const PATH_BYTES_MAX: usize = 750 << 10;
/// Paths without a session that are named.
const LEFT_OUT_MAX: usize = 50;

/// Where a path comes from.
struct Source {
    /// Number of the session.
    session: usize,
    master: String,
    directory: bool,
}

/// Sessions of an answer, by number, opened when they are needed.
#[derive(Default)]
struct Sessions {
    numbers: HashMap<String, usize>,
    ids: Vec<String>,
    opened: HashMap<usize, Found>,
}

impl Sessions {
    fn number(&mut self, id: String) -> usize {
        let Sessions { numbers, ids, .. } = self;
        *numbers.entry(id).or_insert_with_key(|id| {
            ids.push(id.clone());
            ids.len() - 1
        })
    }

    fn open(&mut self, host: &Host, number: usize) -> EngineResult<&Found> {
        match self.opened.entry(number) {
            std::collections::hash_map::Entry::Occupied(found) => Ok(found.into_mut()),
            std::collections::hash_map::Entry::Vacant(empty) => {
                let id = self.ids.get(number).cloned().unwrap_or_default();
                Ok(empty.insert(host.context.vault.find(&SessionName { id, repository: None })?))
            }
        }
    }

    /// When the state was current that a session holds.
    fn time(&mut self, host: &Host, number: usize) -> EngineResult<(i64, u32)> {
        let time = self.open(host, number)?.record.time;
        Ok((time.seconds, time.nanoseconds))
    }
}

/// An answer as it comes in.
struct Gathering<'h> {
    host: &'h Host,
    onto: &'h Onto,
    /// Whether the query asks about files.
    of_files: bool,
    sessions: Sessions,
    paths: BTreeMap<Vec<u8>, Source>,
    matches: u64,
    left_out: LeftOut,
}

fn too_large(what: String) -> EngineError {
    EngineError::new(&codes::QUERY_TOO_LARGE, what)
}

/// A word of a command line.
fn quoted(word: &[u8]) -> String {
    format!("'{}'", String::from_utf8_lossy(word).replace('\'', "'\\''"))
}

impl Gathering<'_> {
    fn entry(&mut self, entry: CatalogEntry) -> EngineResult<()> {
        self.matches += 1;
        let directory = entry.row.is_none_or(|row| row.kind == EntryKind::Directory);
        if directory && self.of_files {
            return Ok(());
        }
        let Some(id) = entry.last_session else {
            self.without_session(&entry.path, &entry.scenario, entry.last_lsn);
            return Ok(());
        };
        let new = Source { session: self.sessions.number(id), master: entry.master, directory };
        let Some(old) = self.paths.get(&entry.path) else {
            if self.paths.len() >= ROWS_MAX {
                return Err(too_large(format!("more than {ROWS_MAX} paths match")));
            }
            self.paths.insert(entry.path, new);
            return Ok(());
        };
        if old.master != new.master {
            let path = String::from_utf8_lossy(&entry.path).into_owned();
            let message =
                format!("both masters \"{}\" and \"{}\" have stored {path}", old.master, new.master);
            return Err(EngineError::new(&codes::BAD_PARAMETERS, message)
                .because("The files of one would be restored over those of the other.")
                .advise("Say whose files are wanted with --master."));
        }
        let (one, two) = (old.session, new.session);
        if self.sessions.time(self.host, two)? > self.sessions.time(self.host, one)? {
            self.paths.insert(entry.path, new);
        }
        Ok(())
    }

    fn without_session(&mut self, path: &[u8], scenario: &str, lsn: Option<journal::Lsn>) {
        self.left_out.count += 1;
        if self.left_out.first.len() >= LEFT_OUT_MAX {
            return;
        }
        let lsn = lsn.map_or_else(String::new, |lsn| lsn.to_string());
        // In place a rewind does it, beside it a restore of the point.
        let how = match self.onto {
            Onto::Directory(_) => format!(
                "restorectl restore tree {} --scenario {scenario} --at lsn:{lsn} --onto DIR, DIR being another directory",
                quoted(path)
            ),
            Onto::Replica => {
                format!("restorectl rewind {scenario} --to lsn:{lsn} --path {}", quoted(path))
            }
            Onto::Master => {
                format!("restorectl rewind {scenario} --to lsn:{lsn} --path {} --onto master", quoted(path))
            }
        };
        let reason = format!("no session holds it; the journal saw it last at LSN {lsn}: {how}");
        self.left_out.first.push(Listed { path: path.to_vec(), what: "no session", reason, errno: None });
    }

    /// Whether a directory above is restored from the same session, with all below it.
    fn is_below(&self, path: &[u8], session: usize) -> bool {
        let mut at = path;
        while let Some(slash) = at.iter().rposition(|byte| *byte == b'/') {
            at = at.get(..slash).unwrap_or_default();
            let above = if at.is_empty() { b"/".as_slice() } else { at };
            if above != path
                && self.paths.get(above).is_some_and(|above| above.directory && above.session == session)
            {
                return true;
            }
        }
        false
    }

    /// The sets, the oldest session first, each with its paths in order.
    fn sets(&mut self) -> EngineResult<Vec<RestoreSet>> {
        let mut by_session: BTreeMap<usize, Vec<Vec<u8>>> = BTreeMap::new();
        let (mut count, mut bytes) = (0, 0);
        for (path, source) in &self.paths {
            if self.is_below(path, source.session) {
                continue;
            }
            (count, bytes) = (count + 1, bytes + path.len());
            if count > PATHS_MAX || bytes > PATH_BYTES_MAX {
                let message = format!("{} paths match, each to be restored by itself", self.paths.len());
                return Err(too_large(message));
            }
            by_session.entry(source.session).or_default().push(path.clone());
        }
        let mut sets = Vec::new();
        for (number, paths) in by_session {
            let time = self.sessions.time(self.host, number)?;
            let found = self.sessions.open(self.host, number)?;
            let session = SessionName { id: found.id.to_string(), repository: Some(found.name.clone()) };
            let paths = paths.into_iter().map(path_of).collect();
            sets.push((time, RestoreSet { session, paths }));
        }
        sets.sort_by(|(one, a), (two, b)| (one, &a.session.id).cmp(&(two, &b.session.id)));
        Ok(sets.into_iter().map(|(_, set)| set).collect())
    }
}

impl Host {
    /// See [`crate::engine::QueryRestores::find_sets`].
    pub(super) fn gather(
        &self,
        query: &CatalogQuery,
        onto: &Onto,
        progress: &dyn Progress,
    ) -> EngineResult<QueryFound> {
        if let Onto::Directory(directory) = onto {
            self.check_target(directory)?;
        }
        let of_files = query.size_min.is_some()
            || query.size_max.is_some()
            || query.since.is_some()
            || query.until.is_some();
        let mut gathering = Gathering {
            host: self,
            onto,
            of_files,
            sessions: Sessions::default(),
            paths: BTreeMap::new(),
            matches: 0,
            left_out: LeftOut::default(),
        };
        let mut present = super::super::finding::Present::new(self);
        let mut failed = None;
        self.query(query, progress, &mut |part| {
            let Part::Found(entry) = part else { return ControlFlow::Continue(()) };
            let taken = match entry.last_session {
                // Where it would be restored to it is already.
                None if !matches!(onto, Onto::Directory(_)) => {
                    match present.holds(&entry.scenario, &entry.path) {
                        Ok(Some(true)) => Ok(()),
                        Ok(_) => gathering.entry(entry),
                        Err(error) => Err(error),
                    }
                }
                _ => gathering.entry(entry),
            };
            match taken {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    failed = Some(error);
                    ControlFlow::Break(())
                }
            }
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
        let sets = gathering.sets()?;
        if sets.is_empty() && gathering.left_out.count == 0 {
            let nothing = EngineError::new(&codes::NOTHING_MATCHES, "the query finds nothing to restore");
            return Err(match gathering.matches {
                0 => nothing,
                _ => nothing.because(
                    "What matches is there already and in no session, or only directories pass the filters for files.",
                ),
            });
        }
        let scenario = self.scenario_of_sets(&gathering.sessions, &sets, onto)?;
        Ok(QueryFound { sets, left_out: gathering.left_out, scenario })
    }

    /// The scenario of all that is restored. A replica or a master is one scenario's: one job changes one.
    fn scenario_of_sets(
        &self,
        sessions: &Sessions,
        sets: &[RestoreSet],
        onto: &Onto,
    ) -> EngineResult<String> {
        let mut names: Vec<String> = Vec::new();
        let wanted = |found: &&Found| sets.iter().any(|set| set.session.id == found.id.to_string());
        for found in sessions.opened.values().filter(wanted) {
            let name = match onto {
                Onto::Directory(_) => self.scenario_of(found),
                Onto::Replica | Onto::Master => self.scene_of_session(found)?.0.name().to_owned(),
            };
            if !names.contains(&name) {
                names.push(name);
            }
        }
        match (names.len(), onto) {
            (0, _) => Ok(String::new()),
            (1, _) => Ok(names.swap_remove(0)),
            (_, Onto::Directory(_)) => Ok(String::new()),
            _ => {
                names.sort();
                let message = format!("the query finds files of several scenarios: {}", names.join(", "));
                Err(EngineError::new(&codes::BAD_PARAMETERS, message)
                    .because("A restore in place is of one scenario.")
                    .advise("Name one with --scenario, or restore into a directory."))
            }
        }
    }
}
