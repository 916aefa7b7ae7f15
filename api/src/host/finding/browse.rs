//! The entries of a directory: of the newest session of each entity, of one session, of a point; and the roots.

use super::super::Host;
use super::super::scene::Scene;
use super::history::check_path;
use super::present::below_root;
use super::window::{child, master_of, row_of};
use super::{not_catalogued, repository_error_of};
use crate::catalog::{Uncatalogued, catalog_error};
use crate::engine::{CatalogEnd, CatalogEntry, CatalogTree, Each, EngineError, EngineResult, Part, Source};
use crate::points::PointSpec;
use crate::vault::repository_error;
use journal::{Lsn, NodeId, RootNo};
use snapshot::catalog::{At, Child, Filter, SessionId};
use snapshot::listing;
use snapshot::repository::{Id, RepositoryErrorKind};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use wire::codes;

/// Entries asked of the catalog at a time.
const PAGE: usize = 1000;

/// A scenario, its root that holds a path, and the path below the root.
type Protected = (Arc<Scene>, RootNo, Vec<u8>);

/// Gives entries until there have been enough.
struct Giving<'g> {
    left: u64,
    given: bool,
    each: Each<'g, Part<CatalogEntry>>,
}

impl Giving<'_> {
    fn give(&mut self, entry: CatalogEntry) -> ControlFlow<()> {
        self.given = true;
        if self.left == 0 {
            return ControlFlow::Break(());
        }
        self.left -= 1;
        (self.each)(Part::Found(entry))
    }
}

fn entry(path: Vec<u8>, scenario: &str, master: &str, source: Source) -> CatalogEntry {
    CatalogEntry {
        path,
        row: None,
        scenario: scenario.to_owned(),
        master: master.to_owned(),
        sessions: 0,
        first_session: None,
        last_session: None,
        last_lsn: None,
        source,
    }
}

impl Host {
    pub(super) fn browse(
        &self,
        tree: &CatalogTree,
        each: Each<'_, Part<CatalogEntry>>,
    ) -> EngineResult<CatalogEnd> {
        if let Some(scenario) = &tree.scenario {
            self.known_scenario(scenario)?;
        }
        if tree.at.is_some() && tree.session.is_some() {
            let message = "a tree is as of a session or as of a point, not both";
            return Err(EngineError::new(&codes::BAD_PARAMETERS, message));
        }
        let path = tree.path.as_deref().map(check_path).transpose()?;
        let mut giving = Giving { left: tree.limit.unwrap_or(u64::MAX), given: false, each };
        if !self.browse_once(path, tree, &mut giving)? {
            // Nothing of it was given, or it would have to be given twice.
            let again = !giving.given && self.browse_once(path, tree, &mut giving)?;
            if !again {
                let message = "the catalog was damaged while it was read, and is made anew";
                return Err(EngineError::new(&codes::IO, message).advise("Try again."));
            }
        }
        let is_known =
            giving.given || path.is_none() || self.is_empty_directory(path.unwrap_or_default(), tree)?;
        if !is_known {
            let name = String::from_utf8_lossy(path.unwrap_or_default()).into_owned();
            return Err(EngineError::new(&codes::NO_SUCH_PATH, format!("no directory {name} is known")));
        }
        Ok(CatalogEnd::default())
    }

    /// False if the catalog turned out to be damaged, and is made anew.
    fn browse_once(
        &self,
        path: Option<&[u8]>,
        tree: &CatalogTree,
        giving: &mut Giving<'_>,
    ) -> EngineResult<bool> {
        match (path, &tree.at, &tree.session) {
            (None, Some(point), _) => self.roots_at(point, tree, giving).map(|()| true),
            (Some(path), Some(point), _) => self.at_point(path, point, tree, giving).map(|()| true),
            (None, None, id) => {
                let id = id.as_deref().map(|id| self.catalog.resolve(id)).transpose()?;
                self.roots(tree, id, giving).map(|()| true)
            }
            (Some(path), None, Some(id)) => {
                let id = self.catalog.resolve(id)?;
                self.in_session(path, id, tree, giving)
            }
            (Some(path), None, None) => self.newest(path, tree, giving),
        }
    }

    /// Whether the path is there as a directory, so that nothing in it is an answer.
    fn is_empty_directory(&self, path: &[u8], tree: &CatalogTree) -> EngineResult<bool> {
        if let Some(point) = &tree.at {
            for (scene, root, below) in self.scenes_with(path, tree)? {
                let view = scene.replica()?.view(scene.resolve(point)?.lsn)?;
                if view.resolve(root, &below)?.is_some() {
                    return Ok(true);
                }
            }
            return Ok(false);
        }
        let session = tree.session.as_deref().map(|id| self.catalog.resolve(id)).transpose()?;
        let missing = self.catalog.missing();
        if let Some(session) = missing.iter().find(|one| Some(one.id) == session) {
            return Ok(self.listing_at(session, path)?.is_some());
        }
        let session = session.map(|id| SessionId(id.0));
        let filter = Filter { scenario: tree.scenario.clone(), session, ..Filter::default() };
        let found = self.catalog.ask(|catalog| catalog.lookup(path, &filter))?;
        Ok(!found.is_empty())
    }

    /// The roots that sessions are of.
    fn roots(&self, tree: &CatalogTree, session: Option<Id>, giving: &mut Giving<'_>) -> EngineResult<()> {
        let mut roots: BTreeMap<(Vec<u8>, String, String), CatalogEntry> = BTreeMap::new();
        for known in self.catalog.catalog().into_iter().flat_map(|catalog| catalog.sessions()) {
            let entity = &known.entity;
            let is_wanted = tree.scenario.as_ref().is_none_or(|wanted| *wanted == entity.scenario)
                && session.is_none_or(|id| id.0 == known.id.0);
            if !is_wanted {
                continue;
            }
            let key = (entity.root.clone(), entity.scenario.clone(), entity.master.clone());
            let id = known.id.to_string();
            let root = roots.entry(key).or_insert_with(|| {
                let first_session = Some(id.clone());
                CatalogEntry {
                    first_session,
                    ..entry(entity.root.clone(), &entity.scenario, &entity.master, Source::Catalog)
                }
            });
            // Sessions of an entity come the oldest first.
            (root.sessions, root.last_session, root.last_lsn) = (root.sessions + 1, Some(id), known.lsn);
        }
        for missing in self.catalog.missing() {
            let is_wanted = tree.scenario.as_ref().is_none_or(|wanted| *wanted == missing.scenario)
                && session.is_none_or(|id| id == missing.id);
            if !is_wanted {
                continue;
            }
            if (giving.each)(Part::NotCatalogued(not_catalogued(&missing))).is_break() {
                return Ok(());
            }
            let (_, repository) = self.context.vault.get(&missing.repository)?;
            let failed = |error| repository_error("read a session record", error);
            let record = match repository.load_session(&missing.id) {
                Ok(record) => record,
                // On tape: the listing of the repository lacks it until the media are read. It was named above.
                Err(error) if error.kind() == RepositoryErrorKind::NotFound => continue,
                Err(error) => return Err(failed(error)),
            };
            let top = listing::top(&repository, &record).map_err(repository_error_of)?;
            let key = (top.root.clone(), missing.scenario.clone(), missing.master.clone());
            let id = missing.id.to_string();
            let root = roots.entry(key).or_insert_with(|| {
                let first_session = Some(id.clone());
                let found = entry(top.root, &missing.scenario, &missing.master, Source::Repository);
                CatalogEntry { first_session, ..found }
            });
            (root.sessions, root.last_session, root.last_lsn) = (root.sessions + 1, Some(id), missing.lsn);
        }
        for (_, mut root) in roots {
            root.row = self.row_of_root(&root)?;
            if giving.give(root).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn row_of_root(&self, root: &CatalogEntry) -> EngineResult<Option<snapshot::catalog::Row>> {
        let filter = Filter {
            scenario: Some(root.scenario.clone()),
            master: Some(root.master.clone()),
            ..Filter::default()
        };
        let found = self.catalog.ask(|catalog| catalog.lookup(&root.path, &filter))?;
        Ok(found.first().map(|found| found.newest))
    }

    /// Scenarios that protect a path.
    fn scenes_with(&self, path: &[u8], tree: &CatalogTree) -> EngineResult<Vec<Protected>> {
        let mut scenes = Vec::new();
        for known in self.context.registry.list() {
            let name = &known.definition.name;
            if tree.scenario.as_ref().is_some_and(|wanted| wanted != name) {
                continue;
            }
            let roots = known.definition.roots.iter();
            let roots: Vec<Vec<u8>> = roots.map(|root| root.master.as_os_str().as_bytes().to_vec()).collect();
            if let Some((root, below)) = below_root(&roots, path) {
                scenes.push((self.scene(name)?, root, below.to_vec()));
            }
        }
        Ok(scenes)
    }

    fn roots_at(&self, point: &PointSpec, tree: &CatalogTree, giving: &mut Giving<'_>) -> EngineResult<()> {
        for known in self.context.registry.list() {
            let name = &known.definition.name;
            if tree.scenario.as_ref().is_some_and(|wanted| wanted != name) {
                continue;
            }
            let scene = self.scene(name)?;
            let lsn = scene.resolve(point)?.lsn;
            let view = scene.replica()?.view(lsn)?;
            for (number, root) in known.definition.roots.iter().enumerate() {
                let node = NodeId::root(RootNo(number as u16));
                let row = view.meta(node)?.map(|meta| row_of(&meta));
                let path = root.master.as_os_str().as_bytes().to_vec();
                let found = entry(path, name, &master_of(&scene), Source::Journal);
                if giving.give(CatalogEntry { row, last_lsn: Some(lsn), ..found }).is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// The directory as a point has it.
    fn at_point(
        &self,
        path: &[u8],
        point: &PointSpec,
        tree: &CatalogTree,
        giving: &mut Giving<'_>,
    ) -> EngineResult<()> {
        for (scene, root, below) in self.scenes_with(path, tree)? {
            let lsn = scene.resolve(point)?.lsn;
            let view = scene.replica()?.view(lsn)?;
            let Some(directory) = view.resolve(root, &below)? else { continue };
            for listed in view.list(directory) {
                let (name, node) = listed?;
                let row = view.meta(node)?.map(|meta| row_of(&meta));
                let path = child(path, name.as_bytes());
                let found = entry(path, scene.name(), &master_of(&scene), Source::Journal);
                if giving.give(CatalogEntry { row, last_lsn: Some(lsn), ..found }).is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// The directory as one session has it.
    fn in_session(
        &self,
        path: &[u8],
        id: Id,
        tree: &CatalogTree,
        giving: &mut Giving<'_>,
    ) -> EngineResult<bool> {
        match self.catalog.missing().into_iter().find(|session| session.id == id) {
            Some(missing) => self.in_repository(path, &missing, giving).map(|()| true),
            None => {
                let id = SessionId(id.0);
                let known = self.catalog.catalog().and_then(|catalog| catalog.session(id));
                let lsn = known.and_then(|session| session.lsn);
                self.children(path, At::Session(id), (Some(id), lsn), tree, giving, &|_| true)
            }
        }
    }

    /// The directory as the newest session of each entity has it.
    fn newest(&self, path: &[u8], tree: &CatalogTree, giving: &mut Giving<'_>) -> EngineResult<bool> {
        let mut missing = self.catalog.missing();
        missing.retain(|session| tree.scenario.as_ref().is_none_or(|wanted| *wanted == session.scenario));
        // Of each scenario and repository path: the newest session, if the catalog lacks it.
        let newest = self.catalog.catalog().into_iter().flat_map(|catalog| catalog.sessions());
        let mut taken: BTreeMap<(String, Vec<u8>), journal::Timestamp> = BTreeMap::new();
        for session in newest {
            let entity = &session.entity;
            let at = taken.entry((entity.scenario.clone(), entity.root.clone())).or_insert(session.taken);
            *at = (*at).max(session.taken);
        }
        let mut served: Vec<(String, Vec<u8>)> = Vec::new();
        for session in missing.iter().rev() {
            let Some(found) = self.listing_at(session, path)? else { continue };
            let (root, _) = found;
            let key = (session.scenario.clone(), root);
            let is_newer = taken.get(&key).is_none_or(|taken| session.time > *taken);
            if is_newer && !served.contains(&key) {
                self.in_repository(path, session, giving)?;
                served.push(key);
            }
        }
        let wanted = |child: &Child| {
            !served
                .iter()
                .any(|(scenario, root)| *scenario == child.entity.scenario && *root == child.entity.root)
        };
        self.children(path, At::Newest, (None, None), tree, giving, &wanted)
    }

    /// What the catalog says. False if it was damaged, and is made anew.
    fn children(
        &self,
        path: &[u8],
        at: At,
        (session, lsn): (Option<SessionId>, Option<Lsn>),
        tree: &CatalogTree,
        giving: &mut Giving<'_>,
        wanted: &dyn Fn(&Child) -> bool,
    ) -> EngineResult<bool> {
        let filter = Filter { scenario: tree.scenario.clone(), ..Filter::default() };
        let mut after = None;
        let Some(catalog) = self.catalog.catalog() else { return Ok(true) };
        loop {
            let page = match catalog.children(path, at, &filter, PAGE, after.take()) {
                Err(error) if error.is_damage() => {
                    drop(catalog);
                    self.catalog.damaged(&error);
                    return Ok(false);
                }
                page => page.map_err(catalog_error)?,
            };
            for found in page.rows.into_iter().filter(|child| wanted(child)) {
                let known = entry(found.path, &found.entity.scenario, &found.entity.master, Source::Catalog);
                let id = session.map(|id| id.to_string());
                let entry = CatalogEntry {
                    row: found.row,
                    sessions: u64::from(id.is_some()),
                    first_session: id.clone(),
                    last_session: id,
                    last_lsn: lsn,
                    ..known
                };
                if giving.give(entry).is_break() {
                    return Ok(true);
                }
            }
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(true),
            }
        }
    }

    /// What an uncatalogued session has at a path: its root, and what stands there.
    fn listing_at(
        &self,
        session: &Uncatalogued,
        path: &[u8],
    ) -> EngineResult<Option<(Vec<u8>, listing::Top)>> {
        let (_, repository) = self.context.vault.get(&session.repository)?;
        repository.reload_index().map_err(|error| repository_error("read the index", error))?;
        let Ok(record) = repository.load_session(&session.id) else { return Ok(None) };
        let top = listing::top(&repository, &record).map_err(repository_error_of)?;
        let found = listing::at(&repository, &record.tree, path).map_err(repository_error_of)?;
        Ok(found.map(|found| (top.root, found)))
    }

    /// The directory as an uncatalogued session has it.
    fn in_repository(
        &self,
        path: &[u8],
        session: &Uncatalogued,
        giving: &mut Giving<'_>,
    ) -> EngineResult<()> {
        if (giving.each)(Part::NotCatalogued(not_catalogued(session))).is_break() {
            return Ok(());
        }
        let Some((_, found)) = self.listing_at(session, path)? else { return Ok(()) };
        let Some(tree) = found.tree else { return Ok(()) };
        let (_, repository) = self.context.vault.get(&session.repository)?;
        let id = session.id.to_string();
        repository
            .load_tree(&tree, &mut |node| {
                let known =
                    entry(child(path, &node.name), &session.scenario, &session.master, Source::Repository);
                let entry = CatalogEntry {
                    row: Some(listing::row(&node)),
                    sessions: 1,
                    first_session: Some(id.clone()),
                    last_session: Some(id.clone()),
                    last_lsn: session.lsn,
                    ..known
                };
                giving.give(entry).is_continue()
            })
            .map_err(|error| repository_error("read a directory", error))
    }
}
