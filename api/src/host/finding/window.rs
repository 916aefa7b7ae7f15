//! Names that lie in the journal's window and in no session.
//!
//! Candidates are all names that changed in the window, each as it stood last: now, or before it went; with all that lay
//! below it then, if it was a directory. Of a root without a session in the window everything that the newest point holds
//! is a candidate too. So what is missed are files below a directory that was replaced by another one of its name, and
//! that were not touched themselves in the window.
//!
//! Bounded: [`ROWS_MAX`] changes are read, the newest first, and [`NAMES_MAX`] names looked at; beyond that the answer
//! says that it goes no further.

use super::super::Host;
use super::super::scene::Scene;
use super::token::Token;
use super::{Asked, Stretch, modified};
use crate::catalog::Uncatalogued;
use crate::engine::{CatalogEntry, Each, EngineError, EngineResult, Part, Source};
use journal::state::links_of;
use journal::state::rows::{self, Change};
use journal::view::View;
use journal::{Edge, Kind, Lsn, Meta, NodeId, RootNo, Space};
use replication::os_tree::OsTree;
use replication::replica::{LeasedView, Replica};
use snapshot::catalog::{EntryKind, Filter, Row, path_order};
use snapshot::listing;
use snapshot::repository::{Id, Repository};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

/// Changes of a window that are read.
const ROWS_MAX: u64 = 2_000_000;
/// Names that are looked at.
const NAMES_MAX: u64 = 500_000;
/// Paths that are looked for in sessions that are not catalogued.
const LOOKUPS_MAX: usize = 5000;
/// No tree of a replica is deeper.
const DEPTH_MAX: usize = 8192;

/// A name as it stood last.
struct Name {
    row: Row,
    lsn: Lsn,
}

/// What the catalog says of metadata.
pub(super) fn row_of(meta: &Meta) -> Row {
    let kind = match &meta.kind {
        Kind::File => EntryKind::File,
        Kind::Directory => EntryKind::Directory,
        Kind::Symlink(_) => EntryKind::Symlink,
        Kind::Fifo => EntryKind::Fifo,
        Kind::Socket => EntryKind::Socket,
        Kind::CharDevice(_) => EntryKind::CharDevice,
        Kind::BlockDevice(_) => EntryKind::BlockDevice,
    };
    let size = if kind == EntryKind::File { meta.size } else { 0 };
    Row { kind, size, modified: modified(meta.attributes.mtime), content: 0 }
}

impl Host {
    /// The third stretch.
    pub(super) fn in_window(
        &self,
        asked: &mut Asked<'_>,
        missing: &[Uncatalogued],
        after: Option<&(String, Vec<u8>)>,
        each: Each<'_, Part<CatalogEntry>>,
    ) -> EngineResult<Stretch> {
        if asked.session.is_some() {
            return Ok(ControlFlow::Continue(()));
        }
        for entry in self.context.registry.list() {
            let name = &entry.definition.name;
            let is_done = after.is_some_and(|(scenario, _)| name < scenario);
            if is_done || asked.query.scenario.as_ref().is_some_and(|wanted| wanted != name) {
                continue;
            }
            let scene = self.scene(name)?;
            let master = master_of(&scene);
            if asked.query.master.as_ref().is_some_and(|wanted| *wanted != master) {
                continue;
            }
            let names = self.window_of(asked, &scene, missing)?;
            let last = after.filter(|(scenario, _)| scenario == name).map(|(_, path)| path.clone());
            // Nothing comes before an empty path.
            let mut last = last.unwrap_or_default();
            for (path, found) in names {
                if path_order(&path, &last).is_le() {
                    continue;
                }
                if asked.left == 0 {
                    return Ok(ControlFlow::Break(Some(Token::Window(Some((name.clone(), last))))));
                }
                last.clone_from(&path);
                let entry = CatalogEntry {
                    path,
                    row: Some(found.row),
                    scenario: name.clone(),
                    master: master.clone(),
                    sessions: 0,
                    first_session: None,
                    last_session: None,
                    last_lsn: Some(found.lsn),
                    source: Source::Journal,
                };
                if asked.give(entry, each).is_break() {
                    return Ok(ControlFlow::Break(None));
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// What matches in the window of a scenario and is in no session, in the order of paths.
    fn window_of(
        &self,
        asked: &mut Asked<'_>,
        scene: &Scene,
        missing: &[Uncatalogued],
    ) -> EngineResult<Vec<(Vec<u8>, Name)>> {
        let Ok(newest) = scene.resolve(&crate::points::PointSpec::Now) else { return Ok(Vec::new()) };
        let replica = scene.replica()?;
        let (oldest, _) = replica.journal().window();
        // The window does not move as long as this is held.
        let Ok(_held) = replica.view(oldest) else { return Ok(Vec::new()) };
        let now = replica.view(newest.lsn)?;
        let roots: Vec<Vec<u8>> =
            scene.definition().roots.iter().map(|root| root.master.as_os_str().as_bytes().to_vec()).collect();
        let mut window = Window {
            replica: &replica,
            now: &now,
            roots: &roots,
            edges: Vec::new(),
            places: None,
            directories: HashMap::new(),
            found: BTreeMap::new(),
            seen: HashSet::new(),
            looked_at: 0,
        };
        let mut whole = window.changes(oldest, asked)?;
        for (number, root) in roots.iter().enumerate() {
            if !self.has_session(scene, &replica, root, oldest) {
                let number = RootNo(number as u16);
                whole &= window.below(asked, &now, NodeId::root(number), root.clone(), newest.lsn)?;
            }
        }
        whole &= window.changed(asked)?;
        if !whole {
            asked.notes.push(format!(
                "of the window of \"{}\" only the newest {ROWS_MAX} changes and {NAMES_MAX} names were looked at",
                scene.name()
            ));
        }
        let mut present = super::present::Present::new(self);
        let filter = Filter { scenario: Some(scene.name().to_owned()), ..Filter::default() };
        let mut names = Vec::new();
        let mut others = Others::new(scene.name(), missing);
        for (path, name) in window.found {
            if asked.query.deleted && present.holds(scene.name(), &path)? == Some(true) {
                continue;
            }
            let is_known = !self.catalog.ask(|catalog| catalog.lookup(&path, &filter))?.is_empty();
            if !is_known && !others.hold(self, &path)? {
                names.push((path, name));
            }
        }
        asked.notes.extend(others.note());
        names.sort_by(|a, b| path_order(&a.0, &b.0));
        Ok(names)
    }

    /// Whether a session of this journal in the catalog holds what the root was at a point of the window.
    fn has_session(&self, scene: &Scene, replica: &Arc<Replica<OsTree>>, root: &[u8], oldest: Lsn) -> bool {
        let journal = replica.journal().id();
        let Some(catalog) = self.catalog.catalog() else { return false };
        catalog.sessions().iter().any(|session| {
            session.entity.scenario == scene.name()
                && session.entity.root == root
                && session.lsn.is_some_and(|lsn| lsn >= oldest)
                && self.context.vault.is_of_journal(&session.id.0, &journal)
        })
    }
}

/// The path of a name in a directory.
pub(super) fn child(directory: &[u8], name: &[u8]) -> Vec<u8> {
    [directory.strip_suffix(b"/").unwrap_or(directory), b"/", name].concat()
}

/// Sessions that are not catalogued, asked for single paths: each answer reads the directories above one.
struct Others<'m> {
    sessions: Vec<&'m Uncatalogued>,
    opened: Option<Vec<(Arc<Repository>, Id)>>,
    left: usize,
}

impl<'m> Others<'m> {
    fn new(scenario: &str, missing: &'m [Uncatalogued]) -> Self {
        let sessions = missing.iter().filter(|session| session.scenario == scenario).collect();
        Others { sessions, opened: None, left: LOOKUPS_MAX }
    }

    /// Whether one of them holds a path, as far as may be looked.
    fn hold(&mut self, host: &Host, path: &[u8]) -> EngineResult<bool> {
        if self.sessions.is_empty() {
            return Ok(false);
        }
        if self.opened.is_none() {
            let mut opened = Vec::new();
            for session in &self.sessions {
                let (_, repository) = host.context.vault.get(&session.repository)?;
                // One that is gone holds nothing; the stretch before this one has said so.
                if let Ok(record) = repository.load_session(&session.id) {
                    opened.push((repository, record.tree));
                }
            }
            self.opened = Some(opened);
        }
        for (repository, tree) in self.opened.iter().flatten() {
            if self.left == 0 {
                return Ok(false);
            }
            self.left -= 1;
            if listing::at(repository, tree, path).map_err(super::repository_error_of)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What is said if not everything was looked at.
    fn note(&self) -> Option<String> {
        let text = "some names of the window may also be in sessions that are not catalogued yet";
        (self.left == 0).then(|| text.to_owned())
    }
}

/// Host name of the master, as sessions have it.
pub(super) fn master_of(scene: &Scene) -> String {
    let definition = scene.definition();
    definition.master.unwrap_or_else(|| rustix::system::uname().nodename().to_string_lossy().into_owned())
}

/// The newest state before a change. Before a captured one the tree is as captured: local changes were taken back.
fn predecessor(lsn: Lsn) -> Lsn {
    match lsn.local {
        0 => Lsn::captured(lsn.captured.saturating_sub(1)),
        local => Lsn::local(lsn.captured, local - 1),
    }
}

struct Window<'w> {
    replica: &'w Arc<Replica<OsTree>>,
    now: &'w LeasedView<OsTree>,
    roots: &'w [Vec<u8>],
    /// Names that changed, with the newest change of each; the newest first.
    edges: Vec<(Edge, Lsn)>,
    /// Where nodes stood in the window; made when first needed.
    places: Option<HashMap<NodeId, Vec<Edge>>>,
    /// Paths of directories as they are now.
    directories: HashMap<NodeId, Option<Vec<u8>>>,
    found: BTreeMap<Vec<u8>, Name>,
    /// Directories that were gone through, as they were at their paths.
    seen: HashSet<Vec<u8>>,
    looked_at: u64,
}

impl Window<'_> {
    /// Reads what changed. Whether that was all.
    fn changes(&mut self, oldest: Lsn, asked: &Asked<'_>) -> EngineResult<bool> {
        let tables = self.replica.journal().tables();
        let (from, to) = (rows::change_key(oldest.successor(), 0), rows::change_key(Lsn::MAX, u32::MAX));
        let mut read = 0;
        let mut seen: HashSet<Edge> = HashSet::new();
        for row in tables.range(Space::Changes, &from, &to).rev() {
            let (key, value) = row?;
            read += 1;
            if read > ROWS_MAX {
                return Ok(false);
            }
            if read.is_multiple_of(4096)
                && let Some(interrupt) = asked.progress.interrupted()
            {
                return Err(EngineError::interrupted(interrupt));
            }
            let Change::Name(edge) = rows::read::<Change>(Space::Changes, &value)? else { continue };
            let Some(lsn) = key.get(..16).and_then(Lsn::from_key) else { continue };
            if edge.parent.is_kept_area() || !seen.insert(edge.clone()) {
                continue;
            }
            self.edges.push((edge, lsn));
        }
        Ok(true)
    }

    /// Where a node stood in the window, present names aside. All of them are looked up when the first is asked for:
    /// mostly none is, for most directories stand where they stood.
    fn stood(&mut self, node: NodeId) -> EngineResult<Vec<Edge>> {
        if self.places.is_none() {
            let tables = self.replica.journal().tables();
            let mut places: HashMap<NodeId, Vec<Edge>> = HashMap::new();
            for (edge, _) in &self.edges {
                let undo = (rows::name_undo_key(edge, Lsn::ZERO), rows::name_undo_key(edge, Lsn::MAX));
                for row in tables.range(Space::NameUndo, &undo.0, &undo.1) {
                    if let Some(node) = rows::read::<Option<NodeId>>(Space::NameUndo, &row?.1)? {
                        places.entry(node).or_default().push(edge.clone());
                    }
                }
            }
            self.places = Some(places);
        }
        Ok(self.places.as_ref().and_then(|places| places.get(&node)).cloned().unwrap_or_default())
    }

    /// Looks at every name that changed, as it stood last. Whether at all of them.
    fn changed(&mut self, asked: &Asked<'_>) -> EngineResult<bool> {
        for at in 0..self.edges.len() {
            let Some((edge, lsn)) = self.edges.get(at).cloned() else { break };
            let now = self.now;
            let gone;
            let (view, lsn, at_now, node) = match now.lookup(&edge)? {
                Some(node) => (&**now, now.lsn(), true, node),
                None => {
                    let Ok(view) = self.replica.view(predecessor(lsn)) else { continue };
                    let Some(node) = view.lookup(&edge)? else { continue };
                    gone = view;
                    (&*gone, predecessor(lsn), false, node)
                }
            };
            let known = self.directories.get(&edge.parent).filter(|_| at_now).cloned();
            let directory = match known {
                Some(directory) => directory,
                None => {
                    let directory = self.path_of(view, edge.parent)?;
                    if at_now {
                        self.directories.insert(edge.parent, directory.clone());
                    }
                    directory
                }
            };
            let Some(directory) = directory else { continue };
            let path = child(&directory, edge.name.as_bytes());
            if !self.below(asked, view, node, path, lsn)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Takes a name, and what lies below it. Whether all of it.
    fn below(
        &mut self,
        asked: &Asked<'_>,
        view: &View<OsTree>,
        node: NodeId,
        path: Vec<u8>,
        lsn: Lsn,
    ) -> EngineResult<bool> {
        let mut todo = vec![(node, path)];
        while let Some((node, path)) = todo.pop() {
            self.looked_at += 1;
            if self.looked_at > NAMES_MAX {
                return Ok(false);
            }
            if self.looked_at.is_multiple_of(1024)
                && let Some(interrupt) = asked.progress.interrupted()
            {
                return Err(EngineError::interrupted(interrupt));
            }
            let Some(meta) = view.meta(node)? else { continue };
            let row = row_of(&meta);
            if meta.kind.is_directory() {
                if !self.seen.insert(path.clone()) {
                    continue;
                }
                for listed in view.list(node) {
                    let (name, id) = listed?;
                    todo.push((id, child(&path, name.as_bytes())));
                }
            }
            let root = self.roots.iter().find(|root| path.starts_with(root));
            let root = root.map(Vec::as_slice).unwrap_or_default();
            if asked.matching.is_match(root, &path) && asked.filter.admits(&row) {
                self.found.entry(path).or_insert(Name { row, lsn });
            }
        }
        Ok(true)
    }

    /// Path of a directory in a view.
    fn path_of(&mut self, view: &View<OsTree>, directory: NodeId) -> EngineResult<Option<Vec<u8>>> {
        let mut names = Vec::new();
        let mut at = directory;
        while names.len() < DEPTH_MAX {
            if let Some(root) = at.as_root_or_kept() {
                if at.is_kept_area() {
                    return Ok(None);
                }
                let Some(root) = self.roots.get(usize::from(root.0)) else { return Ok(None) };
                let mut path = root.clone();
                for edge in names.iter().rev() {
                    let edge: &Edge = edge;
                    path = child(&path, edge.name.as_bytes());
                }
                return Ok(Some(path));
            }
            let stands = |edge: &Edge| -> EngineResult<bool> {
                Ok(!edge.parent.is_kept_area() && view.lookup(edge)? == Some(at))
            };
            let mut place = None;
            for edge in links_of(&**self.replica.journal().tables(), at)? {
                if stands(&edge)? {
                    place = Some(edge);
                }
            }
            if place.is_none() {
                for edge in self.stood(at)? {
                    if stands(&edge)? {
                        place = Some(edge);
                    }
                }
            }
            match place {
                Some(edge) => {
                    at = edge.parent;
                    names.push(edge);
                }
                None => return Ok(None),
            }
        }
        Ok(None)
    }
}
