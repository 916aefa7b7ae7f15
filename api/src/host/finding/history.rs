//! Every version of a path: those of the window from the journal, older ones from sessions.
//!
//! In the window a path is followed through undo of names: its directories, too, may have been other ones. That gives the
//! intervals in which the path stood for one node; undo of the node's metadata divides them, for nothing changes in a
//! file without its times. The cost follows what happened to the path. Which of these versions a session holds follows
//! from the session's LSN. Versions that only sessions know come from the catalog, and of sessions that it lacks from
//! their repositories: a path is found there by reading the directories above it.

use super::super::Host;
use super::super::scene::Scene;
use super::present::below_root;
use super::window::{master_of, row_of};
use super::{not_catalogued, repository_error_of};
use crate::engine::{CatalogEnd, Each, EngineError, EngineResult, FileVersion, Part, VersionChange};
use crate::vault::repository_error;
use journal::state::rows::{self, PointKind, PointRow};
use journal::state::{NodeRow, root_row};
use journal::{Edge, Lsn, Meta, Name, NodeId, Provenance, Space, Tables, Timestamp};
use snapshot::catalog::{Filter, Row};
use snapshot::listing;
use snapshot::repository::Id;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use wire::codes;

/// Versions of a path that are given; older ones are left out, and that is said.
const VERSIONS_MAX: usize = 100_000;
/// Sessions without a place in the catalog that are looked into.
const SESSIONS_MAX: usize = 10_000;

/// When a path stood for a node: from the change that made it so up to the change that ended it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stay {
    range: Range<Lsn>,
    node: NodeId,
}

/// A session that holds the path.
struct Holder {
    id: Id,
    time: Timestamp,
    lsn: Option<Lsn>,
    row: Row,
    /// Whether the LSN is one of the journal's window.
    in_window: bool,
    scenario: String,
    master: String,
}

impl Host {
    pub(super) fn history(
        &self,
        path: &[u8],
        scenario: Option<&str>,
        each: Each<'_, Part<FileVersion>>,
    ) -> EngineResult<CatalogEnd> {
        let path = check_path(path)?;
        if let Some(scenario) = scenario {
            self.known_scenario(scenario)?;
        }
        let mut end = CatalogEnd::default();
        let mut holders = self.in_sessions_of_catalog(path, scenario)?;
        let mut missing = self.catalog.missing();
        missing.retain(|session| scenario.is_none_or(|wanted| wanted == session.scenario));
        for session in missing.iter().rev().take(SESSIONS_MAX) {
            if each(Part::NotCatalogued(not_catalogued(session))).is_break() {
                return Ok(end);
            }
            let (_, repository) = self.context.vault.get(&session.repository)?;
            repository.reload_index().map_err(|error| repository_error("read the index", error))?;
            let Ok(record) = repository.load_session(&session.id) else { continue };
            let found = listing::at(&repository, &record.tree, path).map_err(repository_error_of)?;
            if let Some(node) = found.and_then(|top| top.node) {
                holders.push(Holder {
                    id: session.id,
                    time: session.time,
                    lsn: session.lsn,
                    row: listing::row(&node),
                    in_window: false,
                    scenario: session.scenario.clone(),
                    master: session.master.clone(),
                });
            }
        }
        let mut versions = Vec::new();
        for entry in self.context.registry.list() {
            let name = &entry.definition.name;
            if scenario.is_none_or(|wanted| wanted == name) {
                let scene = self.scene(name)?;
                versions.extend(self.of_journal(&scene, path, &mut holders)?);
            }
        }
        versions.extend(of_sessions(path, holders));
        if versions.is_empty() {
            let message = format!("no version of {} is known", String::from_utf8_lossy(path));
            return Err(EngineError::new(&codes::NO_SUCH_PATH, message));
        }
        versions.sort_by_key(|version| std::cmp::Reverse((version.time, version.lsn)));
        if versions.len() > VERSIONS_MAX {
            end.notes.push(format!("only the newest {VERSIONS_MAX} versions are listed"));
        }
        for version in versions.into_iter().take(VERSIONS_MAX) {
            if each(Part::Found(version)).is_break() {
                break;
            }
        }
        Ok(end)
    }

    /// Sessions of the catalog that hold the path.
    fn in_sessions_of_catalog(&self, path: &[u8], scenario: Option<&str>) -> EngineResult<Vec<Holder>> {
        let filter = Filter { scenario: scenario.map(str::to_owned), ..Filter::default() };
        let versions = self.catalog.ask(|catalog| catalog.versions(path, &filter))?;
        let mut holders = Vec::new();
        for version in versions {
            for session in &version.sessions {
                holders.push(Holder {
                    id: Id(session.id.0),
                    time: session.taken,
                    lsn: session.lsn,
                    row: version.row,
                    in_window: false,
                    scenario: version.entity.scenario.clone(),
                    master: version.entity.master.clone(),
                });
            }
        }
        Ok(holders)
    }

    /// Versions of the window, the oldest first. Sessions that hold one of them are marked.
    fn of_journal(
        &self,
        scene: &Scene,
        path: &[u8],
        holders: &mut [Holder],
    ) -> EngineResult<Vec<FileVersion>> {
        let roots = scene.definition().roots;
        let roots: Vec<_> = roots.iter().map(|root| root.master.as_os_str().as_bytes().to_vec()).collect();
        let Some((root, below)) = below_root(&roots, path) else { return Ok(Vec::new()) };
        // A scenario without a point has no versions.
        let Ok(newest) = scene.resolve(&crate::points::PointSpec::Now) else { return Ok(Vec::new()) };
        let replica = scene.replica()?;
        let (oldest, _) = replica.journal().window();
        let Ok(_held) = replica.view(oldest) else { return Ok(Vec::new()) };
        let tables = &**replica.journal().tables();
        let stays = stays(tables, NodeId::root(root), below, oldest)?;
        let journal = replica.journal().id();
        let mut versions = Vec::new();
        for (at, stay) in stays.iter().enumerate() {
            let follows = stays.get(at + 1).is_some_and(|next| next.range.start == stay.range.end);
            self.of_stay(tables, path, scene, stay, follows, &mut versions)?;
        }
        // Sessions of this journal say which version they hold by their LSN.
        for holder in holders.iter_mut() {
            let of_window = holder.lsn.filter(|lsn| *lsn >= oldest && *lsn <= newest.lsn);
            let Some(lsn) = of_window else { continue };
            if holder.scenario != scene.name() || !self.context.vault.is_of_journal(&holder.id.0, &journal) {
                continue;
            }
            let version = versions.iter_mut().rev().find(|version| version.lsn.is_some_and(|at| at <= lsn));
            if let Some(version) = version.filter(|version| version.change != VersionChange::Removed) {
                holder.in_window = true;
                version.session = Some(holder.id.to_string());
            }
        }
        // What was there when the window began may be known better from an older session.
        if let Some(first) = versions.first_mut().filter(|one| one.change == VersionChange::Existing) {
            let same = |holder: &&mut Holder| {
                !holder.in_window
                    && holder.scenario == scene.name()
                    && (holder.row.size, holder.row.modified) == (first.bytes, first.modified)
            };
            let mut older: Vec<_> = holders.iter_mut().filter(same).collect();
            older.iter_mut().for_each(|holder| holder.in_window = true);
            if let Some(oldest) = older.iter().min_by_key(|holder| holder.time) {
                (first.change, first.lsn, first.time) =
                    (VersionChange::Stored, oldest.lsn, Some(oldest.time));
                if first.session.is_none() {
                    first.session = older.iter().max_by_key(|h| h.time).map(|holder| holder.id.to_string());
                }
            }
        }
        Ok(versions)
    }

    /// The versions of a path while it stood for one node, and how that ended.
    fn of_stay(
        &self,
        tables: &dyn Tables,
        path: &[u8],
        scene: &Scene,
        stay: &Stay,
        follows: bool,
        versions: &mut Vec<FileVersion>,
    ) -> EngineResult<()> {
        let Range { start, end } = stay.range.clone();
        let mut at = start;
        let mut before: Option<Meta> = None;
        let mut push = |lsn: Lsn, meta: &Meta, change: VersionChange, point: Option<PointRow>| {
            let row = row_of(meta);
            versions.push(FileVersion {
                path: path.to_vec(),
                lsn: Some(lsn),
                time: point.as_ref().map(|point| point.time),
                change,
                kind: row.kind,
                bytes: if change == VersionChange::Removed { 0 } else { row.size },
                modified: row.modified,
                session: None,
                provenance: point.map(|point| point.provenance),
                scenario: scene.name().to_owned(),
                master: master_of(scene),
            });
        };
        let (from, to) =
            (rows::node_undo_key(stay.node, start.successor()), rows::node_undo_key(stay.node, Lsn::MAX));
        let mut rest = tables.range(Space::NodeUndo, &from, &to);
        loop {
            // Undo says what was before a change: the next one tells what it was until then.
            let next = rest.next().transpose()?;
            let (until, meta) = match &next {
                Some((key, value)) => {
                    let lsn = key.get(8..).and_then(Lsn::from_key).unwrap_or(Lsn::MAX);
                    (lsn, Some(rows::read::<Meta>(Space::NodeUndo, value)?))
                }
                None => (Lsn::MAX, present(tables, stay.node)?),
            };
            let Some(meta) = meta else { break };
            let point = point(tables, at)?;
            let change = match (&before, &point) {
                (None, None) => VersionChange::Existing,
                (None, Some(point)) if point.kind == PointKind::Renamed => VersionChange::Renamed,
                (None, Some(point)) if point.kind == PointKind::Marker => VersionChange::Existing,
                (None, Some(_)) => VersionChange::Created,
                (Some(before), _)
                    if (before.size, before.attributes.mtime) != (meta.size, meta.attributes.mtime) =>
                {
                    VersionChange::Modified
                }
                (Some(_), _) => VersionChange::Attributes,
            };
            let is_first = before.is_none() && self.is_oldest(scene, at);
            push(at, &meta, if is_first { VersionChange::Existing } else { change }, point);
            before = Some(meta);
            if until >= end {
                break;
            }
            at = until;
        }
        if let (Some(meta), false) = (&before, follows || end == Lsn::MAX) {
            let point = point(tables, end)?;
            push(end, meta, VersionChange::Removed, point);
        }
        Ok(())
    }

    fn is_oldest(&self, scene: &Scene, lsn: Lsn) -> bool {
        scene.replica().is_ok_and(|replica| replica.journal().window().0 >= lsn)
    }
}

/// Versions that only sessions know: one for each, with the oldest session's time and the newest session's id.
fn of_sessions(path: &[u8], holders: Vec<Holder>) -> Vec<FileVersion> {
    let mut holders: Vec<Holder> = holders.into_iter().filter(|holder| !holder.in_window).collect();
    holders.sort_by(|a, b| (&a.scenario, &a.master, a.time).cmp(&(&b.scenario, &b.master, b.time)));
    let mut versions: Vec<(Row, FileVersion)> = Vec::new();
    for holder in holders {
        if let Some((row, version)) = versions.last_mut()
            && (*row, &version.scenario, &version.master) == (holder.row, &holder.scenario, &holder.master)
        {
            version.session = Some(holder.id.to_string());
            continue;
        }
        let version = FileVersion {
            path: path.to_vec(),
            lsn: holder.lsn,
            time: Some(holder.time),
            change: VersionChange::Stored,
            kind: holder.row.kind,
            bytes: holder.row.size,
            modified: holder.row.modified,
            session: Some(holder.id.to_string()),
            provenance: None::<Provenance>,
            scenario: holder.scenario,
            master: holder.master,
        };
        versions.push((holder.row, version));
    }
    versions.into_iter().map(|(_, version)| version).collect()
}

/// `BAD_PARAMETERS` for what cannot be a path; without a slash at its end.
pub(super) fn check_path(path: &[u8]) -> EngineResult<&[u8]> {
    let path = match path.strip_suffix(b"/") {
        Some(rest) if !rest.is_empty() => rest,
        _ => path,
    };
    let parts = || path.split(|byte| *byte == b'/').skip(1);
    let is_good = path.first() == Some(&b'/')
        && !path.contains(&0)
        && path.len() <= snapshot::catalog::PATH_BYTES_MAX
        && (path == b"/" || parts().all(|part| !part.is_empty() && part != b"." && part != b".."));
    if is_good {
        return Ok(path);
    }
    let message = format!("{:?} is not an absolute path", String::from_utf8_lossy(path));
    Err(EngineError::new(&codes::BAD_PARAMETERS, message))
}

fn point(tables: &dyn Tables, lsn: Lsn) -> EngineResult<Option<PointRow>> {
    let row = tables.get(Space::Points, &lsn.to_key())?;
    Ok(row.map(|row| rows::read(Space::Points, &row)).transpose()?)
}

fn present(tables: &dyn Tables, node: NodeId) -> EngineResult<Option<Meta>> {
    let row = tables.get(Space::Nodes, &node.to_key())?;
    let row: Option<NodeRow> = row.map(|row| rows::read(Space::Nodes, &row)).transpose()?;
    Ok(match row {
        None if node.as_root_or_kept().is_some() => Some(root_row().meta),
        row => row.map(|row| row.meta),
    })
}

/// The stays of a path below a root in the window, in order.
fn stays(tables: &dyn Tables, root: NodeId, path: &[u8], oldest: Lsn) -> EngineResult<Vec<Stay>> {
    let mut stays = vec![Stay { range: oldest..Lsn::MAX, node: root }];
    for part in path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
        let Some(name) = Name::new(part) else { return Ok(Vec::new()) };
        let mut below = Vec::new();
        for stay in &stays {
            names_of(tables, &Edge::new(stay.node, name.clone()), &stay.range, &mut below)?;
            if below.len() > VERSIONS_MAX {
                break;
            }
        }
        stays = below;
    }
    Ok(stays)
}

/// What stood at a name while its directory stood where it did.
fn names_of(tables: &dyn Tables, edge: &Edge, range: &Range<Lsn>, out: &mut Vec<Stay>) -> EngineResult<()> {
    // The present is read before the undo: what changes in between is then in the undo.
    let now = tables.get(Space::Names, &rows::name_key(edge))?;
    let now = now.and_then(|value| NodeId::from_key(&value));
    let from = rows::name_undo_key(edge, range.start.successor());
    let to = rows::name_undo_key(edge, Lsn::MAX);
    let mut start = range.start;
    let mut push = |range: Range<Lsn>, node: Option<NodeId>| {
        if let Some(node) = node.filter(|_| range.start < range.end) {
            out.push(Stay { range, node });
        }
    };
    for row in tables.range(Space::NameUndo, &from, &to) {
        let (key, value) = row?;
        let (_, lsn) = rows::parse_name_undo_key(&key)?;
        let before: Option<NodeId> = rows::read(Space::NameUndo, &value)?;
        push(start..lsn.min(range.end), before);
        start = lsn.min(range.end);
        if lsn >= range.end {
            return Ok(());
        }
    }
    push(start..range.end, now);
    Ok(())
}
