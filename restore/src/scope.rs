//! What a rewind or a comparison is limited to: whole roots or subtrees given by path.
//!
//! A path means what stands there: at each of two points this may be another node, or none. An [`Area`] is a scope
//! seen at one point. It says of a directory whether it is inside, outside, or nowhere (removed, or not yet there).

use journal::view::{Places, join};
use journal::{Edge, JournalError, Name, NodeId, RootNo, TreeIo};
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

/// A path below a root, with all that is below it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PathFilter {
    /// The root.
    pub root: RootNo,
    names: Vec<Name>,
}

impl PathFilter {
    /// The path `path` below root number `root`; an empty path is all of the root. `None` if a component cannot be
    /// the name of anything.
    #[must_use]
    pub fn new(root: RootNo, path: &[u8]) -> Option<Self> {
        let parts = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty());
        let names = parts.map(Name::new).collect::<Option<Vec<_>>>()?;
        Some(PathFilter { root, names })
    }

    /// The components.
    #[must_use]
    pub fn names(&self) -> &[Name] {
        &self.names
    }

    /// The path, components separated by slashes.
    #[must_use]
    pub fn path(&self) -> Vec<u8> {
        self.names.iter().fold(Vec::new(), |path, name| join(&path, name.as_bytes()))
    }

    /// Whether a path is this one or lies below it.
    #[must_use]
    pub fn holds(&self, other: &PathFilter) -> bool {
        self.root == other.root && other.names.starts_with(&self.names)
    }
}

/// Paths of which none lies below another; no paths stand for everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    filters: Vec<PathFilter>,
}

impl Scope {
    /// Everything.
    #[must_use]
    pub const fn all() -> Self {
        Scope { filters: Vec::new() }
    }

    /// These paths; everything if there are none.
    #[must_use]
    pub fn new(paths: &[PathFilter]) -> Self {
        let mut sorted = paths.to_vec();
        // A path sorts before what is below it, so each is compared with the last one kept.
        sorted.sort();
        sorted.dedup_by(|below, above| above.holds(below));
        Scope { filters: sorted }
    }

    /// Whether it is everything.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.filters.is_empty()
    }

    /// The paths.
    #[must_use]
    pub fn filters(&self) -> &[PathFilter] {
        &self.filters
    }
}

/// Where something is with respect to a scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Where {
    /// At or below one of its paths.
    Inside,
    /// Elsewhere below a root.
    Outside,
    /// Removed, or not there yet.
    Nowhere,
}

/// What stands at the path of a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Top {
    /// The name; `None` if its directory does not exist, or for a whole root.
    pub edge: Option<Edge>,
    /// The node.
    pub node: Option<NodeId>,
}

/// A scope at a point.
pub struct Area<'p, 'v, T: TreeIo> {
    places: &'p Places<'v, T>,
    all: bool,
    tops: Vec<Top>,
    /// The names among the tops: a scope may be a hundred thousand files.
    edges: HashSet<Edge>,
    known: RefCell<HashMap<NodeId, Where>>,
}

impl<'p, 'v, T: TreeIo> Area<'p, 'v, T> {
    /// Resolves the paths of `scope` in the view of `places`.
    ///
    /// # Errors
    /// As the tables.
    pub fn new(places: &'p Places<'v, T>, scope: &Scope) -> Result<Self, JournalError> {
        let mut known = HashMap::new();
        let mut tops = Vec::new();
        for filter in scope.filters() {
            let top = find(places, filter)?;
            if let Some(node) = top.node
                && is_directory(places, node)?
            {
                known.insert(node, Where::Inside);
            }
            tops.push(top);
        }
        let edges = tops.iter().filter_map(|top| top.edge.clone()).collect();
        Ok(Area { places, all: scope.is_all(), tops, edges, known: RefCell::new(known) })
    }

    /// What stands at the paths, in the order of the scope's filters.
    #[must_use]
    pub fn tops(&self) -> &[Top] {
        &self.tops
    }

    /// Where a directory is.
    ///
    /// # Errors
    /// As the tables.
    pub fn directory(&self, node: NodeId) -> Result<Where, JournalError> {
        let mut trail = Vec::new();
        let mut at = node;
        let found = loop {
            if let Some(known) = self.known.borrow().get(&at) {
                break *known;
            }
            trail.push(at);
            if at.as_root_or_kept().is_some() {
                break match at.is_kept_area() {
                    true => Where::Nowhere,
                    false if self.all => Where::Inside,
                    false => Where::Outside,
                };
            }
            match self.places.directory(at)? {
                Some(edge) if trail.len() < 1 << 20 => at = edge.parent,
                _ => break Where::Nowhere,
            }
        };
        let mut known = self.known.borrow_mut();
        known.extend(trail.into_iter().map(|node| (node, found)));
        Ok(found)
    }

    /// Where a name is.
    ///
    /// # Errors
    /// As the tables.
    pub fn name(&self, edge: &Edge) -> Result<Where, JournalError> {
        if self.is_top(edge) { Ok(Where::Inside) } else { self.directory(edge.parent) }
    }

    /// Whether it is the name of one of the paths.
    #[must_use]
    pub fn is_top(&self, edge: &Edge) -> bool {
        self.edges.contains(edge)
    }

    /// The names of a node that are at this place.
    ///
    /// # Errors
    /// As the tables.
    pub fn names(&self, node: NodeId, place: Where) -> Result<Vec<Edge>, JournalError> {
        let mut names = Vec::new();
        for edge in self.places.names(node)? {
            if self.name(&edge)? == place {
                names.push(edge);
            }
        }
        Ok(names)
    }
}

fn find<T: TreeIo>(places: &Places<'_, T>, filter: &PathFilter) -> Result<Top, JournalError> {
    let mut at = NodeId::root(filter.root);
    let Some((last, above)) = filter.names.split_last() else {
        return Ok(Top { edge: None, node: Some(at) });
    };
    for name in above {
        match places.view().lookup(&Edge::new(at, name.clone()))? {
            Some(node) => at = node,
            None => return Ok(Top { edge: None, node: None }),
        }
    }
    let edge = Edge::new(at, last.clone());
    let node = places.view().lookup(&edge)?;
    Ok(Top { edge: Some(edge), node })
}

/// Whether a node is a directory. What a node is never changes.
pub(crate) fn is_directory<T: TreeIo>(places: &Places<'_, T>, node: NodeId) -> Result<bool, JournalError> {
    if node.as_root_or_kept().is_some() {
        return Ok(true);
    }
    Ok(places.view().meta(node)?.is_some_and(|meta| meta.kind.is_directory()))
}
