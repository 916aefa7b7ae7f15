//! Which node shall stand at which name, so that everything within a scope is as it was at a point.
//!
//! For a whole tree this is what the view of the point says. Names in directories that the point does not show do not
//! matter: such a directory is removed with all it holds, but for what belongs elsewhere.
//!
//! For single paths nothing outside them may change. A node that belongs inside and stands outside now cannot be
//! taken from there; a copy takes its place: a new node with the content of the point, all the way down. So do
//! directories above a path that are missing now. A file with names on both sides of the border is left as it is
//! where it did not change; else a copy takes its names inside.
//!
//! Why a few rules suffice: a name can only need a change if it changed since the point, if it is the name of one of
//! the paths, if it lies in a directory that is copied, or if its node must be a copy. All four are enumerated. Then
//! whatever comes to a new place gives up the names it has in directories that do not belong inside.
//!
//! A master has no kept area: for it, what is not there now is made anew, or something of the same kind at the same
//! name takes its place (`stand_ins`).

mod stand_ins;

use crate::content::same_bytes;
use crate::error::RestoreError;
use crate::scope::{Area, PathFilter, Scope, Where, is_directory};
use journal::serialize::Change;
use journal::state::State;
use journal::view::Difference;
use journal::view::difference::meta_differs;
use journal::view::join;
use journal::{Edge, JournalError, NodeId, RootNo, TreeIo};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Why something was not put back in the way one would expect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoteKind {
    /// It stands outside the paths now and stays there; a copy takes its place.
    MovedOut,
    /// It has names outside the paths; the names inside get a copy, and the link between them is cut.
    LinkCut,
    /// A directory above a path was missing; one like that of the point is made.
    ParentMade,
}

/// Something to know about a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// What.
    pub kind: NoteKind,
    /// The root.
    pub root: RootNo,
    /// The path at the point, below the root.
    pub path: Vec<u8>,
}

/// Notes kept; a plan may have more.
const NOTES_MAX: usize = 1000;

/// What the names shall be.
pub(crate) struct Wanted {
    /// By root: the names that must change.
    pub changes: BTreeMap<RootNo, Vec<Change>>,
    /// New nodes and the nodes of the point that they are made after.
    pub copies: BTreeMap<NodeId, NodeId>,
    /// Nodes that stand in for others of the point, where they are.
    pub stand_ins: BTreeMap<NodeId, NodeId>,
    /// What one would not expect.
    pub notes: Vec<Note>,
}

/// Finds the wanted names. The areas are those of the scope now and at the point.
pub(crate) struct Decider<'d, 'v, T: TreeIo> {
    difference: &'d Difference<'v, T>,
    scope: &'d Scope,
    now: Area<'d, 'v, T>,
    then: Area<'d, 'v, T>,
    /// Which node takes the place of a node of the point, where that was decided.
    stands_for: HashMap<NodeId, NodeId>,
    copies: BTreeMap<NodeId, NodeId>,
    /// Whether the names are those of a master.
    for_master: bool,
    stand_ins: BTreeMap<NodeId, NodeId>,
    /// Copied directories that are not filled yet.
    unfilled: Vec<NodeId>,
    wanted: BTreeMap<Edge, (RootNo, Option<NodeId>)>,
    notes: Vec<Note>,
}

impl<'d, 'v, T: TreeIo> Decider<'d, 'v, T> {
    pub fn new(
        difference: &'d Difference<'v, T>,
        scope: &'d Scope,
        for_master: bool,
    ) -> Result<Self, JournalError> {
        Ok(Decider {
            difference,
            scope,
            now: Area::new(difference.from(), scope)?,
            then: Area::new(difference.to(), scope)?,
            stands_for: HashMap::new(),
            copies: BTreeMap::new(),
            for_master,
            stand_ins: BTreeMap::new(),
            unfilled: Vec::new(),
            wanted: BTreeMap::new(),
            notes: Vec::new(),
        })
    }

    /// The scope at the point.
    pub fn then(&self) -> &Area<'d, 'v, T> {
        &self.then
    }

    /// Decides about all names.
    pub fn decide(&mut self) -> Result<Wanted, RestoreError> {
        let failed = RestoreError::journal("plan names");
        for (number, filter) in self.scope.filters().iter().enumerate() {
            self.want_top(number, filter)?;
        }
        let difference = self.difference;
        for change in difference.names() {
            if self.then.directory(change.edge.parent).map_err(&failed)? == Where::Inside
                && self.is_itself(change.edge.parent)?
            {
                let root = self.root_then(change.edge.parent).map_err(&failed)?;
                let node = change.to.map(|node| self.node_at(node, &change.edge)).transpose()?;
                self.wanted.insert(change.edge.clone(), (root, node));
            }
        }
        if !self.scope.is_all() {
            self.want_cut_links()?;
        }
        while let Some(original) = self.unfilled.pop() {
            self.fill(original)?;
        }
        self.changes()
    }

    /// Which node shall take the place of a node of the point inside the scope.
    pub fn node_for(&mut self, node: NodeId) -> Result<NodeId, RestoreError> {
        self.choose(node, None)
    }

    /// The same, where it is known at which name: another node may stand there now.
    fn node_at(&mut self, node: NodeId, at: &Edge) -> Result<NodeId, RestoreError> {
        self.choose(node, Some(at))
    }

    fn choose(&mut self, node: NodeId, at: Option<&Edge>) -> Result<NodeId, RestoreError> {
        if self.scope.is_all() && !self.for_master || node.as_root_or_kept().is_some() {
            return Ok(node);
        }
        if let Some(known) = self.stands_for.get(&node) {
            return Ok(*known);
        }
        let failed = RestoreError::journal("plan names");
        let directory = is_directory(self.difference.to(), node).map_err(&failed)?;
        let kind = if self.scope.is_all() {
            None
        } else if directory {
            let outside = self.now.directory(node).map_err(&failed)? == Where::Outside;
            outside.then_some(NoteKind::MovedOut)
        } else {
            self.file_copy(node).map_err(&failed)?
        };
        let Some(kind) = kind else {
            if self.for_master && !self.is_there(node, directory).map_err(&failed)? {
                return self.make(node, directory, at);
            }
            self.stands_for.insert(node, node);
            return Ok(node);
        };
        let copy = self.copy(node)?;
        self.stands_for.insert(node, copy);
        if directory {
            self.unfilled.push(node);
        }
        self.note(kind, node)?;
        Ok(copy)
    }

    /// Which node was chosen to take the place of a node of the point.
    pub fn decided(&self, node: NodeId) -> NodeId {
        self.stands_for.get(&node).copied().unwrap_or(node)
    }

    /// Whether a node that is no directory must be a copy inside, and why.
    fn file_copy(&self, node: NodeId) -> Result<Option<NoteKind>, JournalError> {
        if self.now.names(node, Where::Outside)?.is_empty() {
            return Ok(None);
        }
        let inside_now = !self.now.names(node, Where::Inside)?.is_empty();
        let outside_then = !self.then.names(node, Where::Outside)?.is_empty();
        if !inside_now && !outside_then {
            return Ok(Some(NoteKind::MovedOut));
        }
        let (now, then) = (self.difference.from().view(), self.difference.to().view());
        let same = !meta_differs(now, then, node)?
            && (!self.difference.may_differ(node) || same_bytes(now, then, node)?);
        Ok((!same).then_some(NoteKind::LinkCut))
    }

    /// Mints a local id: the top bit set, the rest random, unused.
    fn copy(&mut self, original: NodeId) -> Result<NodeId, RestoreError> {
        use std::hash::{BuildHasher, RandomState};
        const ATTEMPTS: usize = 64;
        let tables = &**self.difference.to().view().tables();
        for _ in 0..ATTEMPTS {
            // Every state of the standard hasher is keyed at random.
            let id = NodeId(RandomState::new().hash_one(original.0) | 1 << 63);
            let used = State::node(tables, id).map_err(RestoreError::journal("look for an unused id"))?;
            if used.is_none() && !self.copies.contains_key(&id) {
                self.copies.insert(id, original);
                return Ok(id);
            }
        }
        Err(RestoreError::NoFreeId)
    }

    fn note(&mut self, kind: NoteKind, node: NodeId) -> Result<(), RestoreError> {
        if self.notes.len() >= NOTES_MAX {
            return Ok(());
        }
        let failed = RestoreError::journal("plan names");
        let then = self.difference.to();
        let Some(edge) = then.place(node).map_err(&failed)? else { return Ok(()) };
        if let Some((root, path)) = then.path(&edge).map_err(&failed)? {
            self.notes.push(Note { kind, root, path });
        }
        Ok(())
    }

    fn root_then(&self, directory: NodeId) -> Result<RootNo, JournalError> {
        let root = match self.copies.get(&directory) {
            Some(original) => self.difference.to().root_of(*original)?,
            None => self.difference.to().root_of(directory)?,
        };
        root.ok_or_else(|| JournalError::NotFound { what: "directory", name: directory.to_string() })
    }

    /// The name of a path itself: the directory above it may be another one now than at the point, or missing.
    fn want_top(&mut self, number: usize, filter: &PathFilter) -> Result<(), RestoreError> {
        let failed = RestoreError::journal("plan names");
        let Some((last, above)) = filter.names().split_last() else { return Ok(()) };
        let then_node = self.then.tops().get(number).and_then(|top| top.node);
        let now_node = self.now.tops().get(number).and_then(|top| top.node);
        if then_node.is_none() && now_node.is_none() {
            return Err(RestoreError::NoSuchPath { path: filter.path() });
        }
        let (now, then) = (self.difference.from().view(), self.difference.to().view());
        let mut at = NodeId::root(filter.root);
        let mut at_then = at;
        let mut path = Vec::new();
        for name in above {
            path = join(&path, name.as_bytes());
            let edge = Edge::new(at, name.clone());
            let next_then = then.lookup(&Edge::new(at_then, name.clone())).map_err(&failed)?;
            let next = match self.wanted.get(&edge) {
                Some((_, made)) => *made,
                None => now.lookup(&edge).map_err(&failed)?,
            };
            match (next, next_then) {
                (Some(node), _) => {
                    if !self.copies.contains_key(&node)
                        && !is_directory(self.difference.from(), node).map_err(&failed)?
                    {
                        return Err(RestoreError::PathBlocked { path: filter.path(), blocked: path });
                    }
                    at = node;
                }
                (None, Some(original)) => {
                    at = self.copy(original)?;
                    self.wanted.insert(edge, (filter.root, Some(at)));
                    self.note(NoteKind::ParentMade, original)?;
                }
                (None, None) => return Ok(()),
            }
            at_then = next_then.unwrap_or(at_then);
        }
        let edge = Edge::new(at, last.clone());
        let node = then_node.map(|node| self.node_at(node, &edge)).transpose()?;
        self.wanted.insert(edge, (filter.root, node));
        Ok(())
    }

    /// Names inside, unchanged themselves, of files that must be copies.
    fn want_cut_links(&mut self) -> Result<(), RestoreError> {
        let failed = RestoreError::journal("plan names");
        let difference = self.difference;
        let touched: BTreeSet<NodeId> =
            difference.nodes().iter().chain(difference.files()).copied().collect();
        for node in touched {
            if node.as_root_or_kept().is_some() || is_directory(difference.to(), node).map_err(&failed)? {
                continue;
            }
            let names = self.then.names(node, Where::Inside).map_err(&failed)?;
            if names.is_empty() || self.for_master && !self.is_there(node, false).map_err(&failed)? {
                continue;
            }
            let copy = self.node_for(node)?;
            for edge in names.into_iter().filter(|_| copy != node) {
                if !self.then.is_top(&edge) && self.is_itself(edge.parent)? {
                    let root = self.root_then(edge.parent).map_err(&failed)?;
                    self.wanted.insert(edge, (root, Some(copy)));
                }
            }
        }
        Ok(())
    }

    /// What a copied directory holds.
    fn fill(&mut self, original: NodeId) -> Result<(), RestoreError> {
        let failed = RestoreError::journal("plan names");
        let directory = self.node_for(original)?;
        let root = self.root_then(original).map_err(&failed)?;
        let then = self.difference.to().view();
        for entry in then.list(original) {
            let (name, node) = entry.map_err(&failed)?;
            let edge = Edge::new(directory, name);
            let node = self.node_at(node, &edge)?;
            self.wanted.insert(edge, (root, Some(node)));
        }
        if self.stand_ins.contains_key(&directory) {
            self.empty_rest(directory, root).map_err(&failed)?;
        }
        Ok(())
    }

    /// The names that must change, those included that moved nodes give up.
    fn changes(&mut self) -> Result<Wanted, RestoreError> {
        let failed = RestoreError::journal("plan names");
        let now = self.difference.from().view();
        let mut changes: BTreeMap<RootNo, Vec<Change>> = BTreeMap::new();
        let mut coming: BTreeMap<NodeId, RootNo> = BTreeMap::new();
        for (edge, (root, new)) in &self.wanted {
            let made = self.copies.contains_key(&edge.parent);
            let old = if made { None } else { now.lookup(edge).map_err(&failed)? };
            if old == *new {
                continue;
            }
            coming.extend(new.map(|node| (node, *root)));
            changes.entry(*root).or_default().push(Change { edge: edge.clone(), old, new: *new });
        }
        for (node, root) in coming {
            if self.copies.contains_key(&node) {
                continue;
            }
            let names = self.difference.from().names(node).map_err(&failed)?;
            if names.is_empty() && !self.for_master {
                self.check_kept(node)?;
            }
            for edge in names {
                let place = self.now.name(&edge).map_err(&failed)?;
                let stays = self.wanted.contains_key(&edge)
                    || place == Where::Outside
                    || place == Where::Nowhere && self.for_master
                    || self.then.name(&edge).map_err(&failed)? == Where::Inside && !self.then.is_top(&edge);
                if !stays {
                    changes.entry(root).or_default().push(Change { edge, old: Some(node), new: None });
                }
            }
        }
        let copies = std::mem::take(&mut self.copies);
        let stand_ins = std::mem::take(&mut self.stand_ins);
        Ok(Wanted { changes, copies, stand_ins, notes: std::mem::take(&mut self.notes) })
    }

    /// A node without names is in the kept area, unless retention has let it go.
    fn check_kept(&self, node: NodeId) -> Result<(), RestoreError> {
        let tables = &**self.difference.from().view().tables();
        match State::node(tables, node).map_err(RestoreError::journal("look for a removed node"))? {
            Some(_) => Ok(()),
            None => Err(RestoreError::Gone { node }),
        }
    }
}
