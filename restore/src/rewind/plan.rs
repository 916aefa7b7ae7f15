//! The plan of a rewind: what to change so that the present tree becomes that of a point.
//!
//! Pure: it is made from two views and changes nothing. It holds names, and which files and nodes need work; bytes
//! are read when the plan is carried out, so its size does not depend on theirs. Carried out once, or begun and made
//! anew from where the tree stands then, the result is the same: a plan starts from what differs, not from what was
//! done before.
//!
//! Order of the work: names first, in groups between which every node that both states have is where it belongs in one
//! of them. Then, node by node, bytes and metadata, so that a file is whole before the next is begun. Times of
//! directories need no care: apply sets attributes from its tables after every batch.

use super::captures::Captures;
use super::exact;
use super::names::{Decider, Note, Wanted};
use crate::content::bytes_at_most;
use crate::difference::{self, Entry, Totals};
use crate::error::RestoreError;
use crate::monitor::Monitor;
use crate::scope::{Area, PathFilter, Scope, Where, is_directory};
use journal::serialize::{Before, Change, Order, Step, serialize};
use journal::state::State;
use journal::view::Difference;
use journal::view::Places;
use journal::view::View;
use journal::view::difference::comparable;
use journal::{Edge, JournalError, Lsn, Meta, NodeId, RootNo, TreeIo};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::ControlFlow;

/// What is to be done to one node apart from its names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Work {
    /// The node that is changed.
    pub target: NodeId,
    /// The node of the point that it becomes like: itself, or the original of a copy.
    pub source: NodeId,
    /// Its root.
    pub root: RootNo,
    /// Its bytes were touched, or it is new.
    pub bytes: bool,
    /// Owner, mode or times differ.
    pub attributes: bool,
    /// Extended attributes differ.
    pub xattrs: bool,
}

/// What a plan amounts to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Changes of names.
    pub names: u64,
    /// Nodes made because the original must stay where it is, or because a directory is missing.
    pub copies: u64,
    /// Files whose bytes were touched since the point.
    pub files: u64,
    /// Nodes whose owner, mode, times or extended attributes are put back.
    pub metadata: u64,
    /// Bytes to be read and compared; at most as many are written.
    pub bytes_at_most: u64,
}

/// How to get from the present to a point.
pub struct RewindPlan<'v, T: TreeIo> {
    pub(crate) difference: Difference<'v, T>,
    pub(crate) scope: Scope,
    pub(crate) orders: Vec<(RootNo, Order)>,
    pub(crate) copies: BTreeMap<NodeId, NodeId>,
    /// On a master: nodes that stand in for others of the point.
    pub(crate) stand_ins: BTreeMap<NodeId, NodeId>,
    pub(crate) works: Vec<Work>,
    notes: Vec<Note>,
}

impl<'v, T: TreeIo> RewindPlan<'v, T> {
    /// Plans to make everything at and below `paths` (everything at all if there are none) as it was at `then`,
    /// where the tree stands as `now` shows it.
    ///
    /// # Errors
    /// `NoSuchPath`, `PathBlocked`, `Gone` if retention has let go of what is needed, `Cancelled`, and as the tables.
    pub fn new(
        now: &'v View<T>,
        then: &'v View<T>,
        paths: &[PathFilter],
        monitor: &dyn Monitor,
    ) -> Result<Self, RestoreError> {
        Self::decide(now, then, paths, false, monitor)
    }

    /// The same for a master's tree, which has no kept area: what is not there now is made anew with its bytes, or
    /// something of the same kind at the same name becomes like it. Change times make no difference.
    ///
    /// # Errors
    /// As [`RewindPlan::new`].
    pub fn onto_master(
        now: &'v View<T>,
        then: &'v View<T>,
        paths: &[PathFilter],
        monitor: &dyn Monitor,
    ) -> Result<Self, RestoreError> {
        Self::decide(now, then, paths, true, monitor)
    }

    fn decide(
        now: &'v View<T>,
        then: &'v View<T>,
        paths: &[PathFilter],
        for_master: bool,
        monitor: &dyn Monitor,
    ) -> Result<Self, RestoreError> {
        let difference = difference::between(now, then, monitor)?;
        let scope = Scope::new(paths);
        let (wanted, works) = {
            let mut decider =
                Decider::new(&difference, &scope, for_master).map_err(RestoreError::journal("plan names"))?;
            let wanted = decider.decide()?;
            let mut works = works(&difference, scope.is_all() && !for_master, &decider)?;
            if for_master {
                works.extend(stand_ins(&difference, &wanted)?);
            } else {
                works.extend(copies(&difference, &wanted)?);
            }
            (wanted, works)
        };
        let Wanted { changes, copies, stand_ins, notes } = wanted;
        let orders = orders(&difference, changes, &copies, for_master)?;
        Ok(RewindPlan { difference, scope, orders, copies, stand_ins, works, notes })
    }

    /// The point whose undo the changes may put back as it is.
    pub(super) fn reading(&self) -> Lsn {
        self.difference.to().view().lsn()
    }

    /// Plans to take back all local changes after the captured point `then`: the tree, and what was removed from it,
    /// are then as the capture left them, and the capture can go on.
    ///
    /// # Errors
    /// `Cancelled`, and as the tables.
    pub fn to_capture(
        now: &'v View<T>,
        then: &'v View<T>,
        monitor: &dyn Monitor,
    ) -> Result<Self, RestoreError> {
        let difference = difference::between(now, then, monitor)?;
        let copies = BTreeMap::new();
        let orders = orders(&difference, exact::changes(&difference)?, &copies, false)?;
        let works = exact::works(&difference)?;
        let (scope, stand_ins, notes) = (Scope::all(), BTreeMap::new(), Vec::new());
        Ok(RewindPlan { difference, scope, orders, copies, stand_ins, works, notes })
    }

    /// Whether there is nothing to look at. A plan that is not empty may still turn out to change nothing, where bytes
    /// were touched and are the same again.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.works.is_empty() && self.orders.iter().all(|(_, order)| order.steps().is_empty())
    }

    /// What differs between the present and the point, within the paths or not.
    #[must_use]
    pub fn difference(&self) -> &Difference<'v, T> {
        &self.difference
    }

    /// What one would not expect.
    #[must_use]
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }

    /// What it amounts to. Looks up which bytes were touched, and reads none.
    ///
    /// # Errors
    /// As the tables.
    pub fn statistics(&self) -> Result<Statistics, RestoreError> {
        let mut statistics = Statistics { copies: self.copies.len() as u64, ..Statistics::default() };
        statistics.names = self.orders.iter().map(|(_, order)| order.steps().len() as u64).sum();
        let (now, then) = (self.difference.from().view(), self.difference.to().view());
        for work in &self.works {
            statistics.metadata += u64::from(work.attributes || work.xattrs);
            if work.bytes {
                let old = (work.source == work.target).then_some(now);
                statistics.files += 1;
                statistics.bytes_at_most += bytes_at_most(old, then, work.source)
                    .map_err(RestoreError::journal("find the bytes that were touched"))?;
            }
        }
        Ok(statistics)
    }

    /// Lists what changes, in the order of paths: the present is left, the point is gone to.
    ///
    /// # Errors
    /// As [`difference::list`].
    pub fn list(
        &self,
        monitor: &dyn Monitor,
        each: &mut dyn FnMut(Entry) -> ControlFlow<()>,
    ) -> Result<Totals, RestoreError> {
        difference::list(&self.difference, &self.scope, monitor, each)
    }

    /// The changes in the order in which they are to be made; reads the bytes as it goes.
    #[must_use]
    pub fn captures(&self) -> Captures<'_, 'v, T> {
        Captures::new(self)
    }

    /// Files that differ from before once the plan was carried out: those whose names change, those of `nodes` (whose
    /// bytes or metadata were changed), and those that come or go with their directories.
    pub(crate) fn files_changed(&self, nodes: &BTreeSet<NodeId>) -> Result<u64, RestoreError> {
        let failed = RestoreError::journal("count files");
        let mut files = BTreeSet::new();
        let mut below = 0;
        let moved: BTreeSet<NodeId> =
            self.orders.iter().flat_map(|(_, order)| order.steps()).map(Step::node).collect();
        for node in moved.iter().chain(nodes) {
            let original = self.copies.get(node).copied().unwrap_or(*node);
            if !is_directory(self.difference.to(), original).map_err(&failed)? {
                files.insert(*node);
            } else if moved.contains(node) && original == *node {
                below += difference::list::files_with(&self.difference, *node).map_err(&failed)?;
            }
        }
        Ok(files.len() as u64 + below)
    }

    /// Groups of names and nodes with work: what progress counts.
    #[must_use]
    pub fn length(&self) -> u64 {
        let groups: usize = self.orders.iter().map(|(_, order)| order.groups().count()).sum();
        groups as u64 + self.works.len() as u64
    }
}

/// Orders the changes of each root.
fn orders<T: TreeIo>(
    difference: &Difference<'_, T>,
    changes: BTreeMap<RootNo, Vec<Change>>,
    copies: &BTreeMap<NodeId, NodeId>,
    for_master: bool,
) -> Result<Vec<(RootNo, Order)>, RestoreError> {
    let mut orders = Vec::new();
    for (root, changes) in changes {
        let area = for_master.then(|| Area::new(difference.from(), &Scope::all())).transpose();
        let area = area.map_err(RestoreError::journal("plan names"))?;
        let present = Present { root, places: difference.from(), copies, area, names: RefCell::default() };
        let order = serialize(root, &changes, &present)
            .map_err(|source| RestoreError::Names { root, source: Box::new(source) })?;
        orders.push((root, order));
    }
    Ok(orders)
}

/// Work on nodes that both states have. `exact`: change times count too.
fn works<T: TreeIo>(
    difference: &Difference<'_, T>,
    exact: bool,
    decider: &Decider<'_, '_, T>,
) -> Result<Vec<Work>, RestoreError> {
    let failed = RestoreError::journal("plan metadata");
    let (now, then) = (difference.from().view(), difference.to().view());
    let touched: BTreeSet<NodeId> = difference.nodes().iter().chain(difference.files()).copied().collect();
    let mut works = Vec::new();
    for node in touched {
        if decider.decided(node) != node {
            continue;
        }
        let Some(root) = root_inside(difference, decider, node).map_err(&failed)? else { continue };
        let (Some(before), Some(after)) =
            (now.meta(node).map_err(&failed)?, then.meta(node).map_err(&failed)?)
        else {
            continue;
        };
        // The change time cannot be set and makes no difference to anybody but the journal; a whole tree gets it back,
        // single paths leave alone what only differs in it.
        let (before, after) = match exact {
            true => (sizeless(before), sizeless(after)),
            false => (comparable(before), comparable(after)),
        };
        works.extend(Work::between(node, root, before, after, difference.may_differ(node)));
    }
    Ok(works)
}

fn sizeless(meta: Meta) -> Meta {
    Meta { size: 0, ..meta }
}

/// The root of a node that the point shows inside the scope.
fn root_inside<T: TreeIo>(
    difference: &Difference<'_, T>,
    decider: &Decider<'_, '_, T>,
    node: NodeId,
) -> Result<Option<RootNo>, JournalError> {
    let then = decider.then();
    if node.as_root_or_kept().is_some() {
        let inside = then.directory(node)? == Where::Inside;
        return Ok(node.as_root_or_kept().filter(|_| inside));
    }
    match then.names(node, Where::Inside)?.first() {
        Some(edge) => difference.to().root_of(edge.parent),
        None => Ok(None),
    }
}

/// Work on nodes that stand in for others: whatever differs, and their bytes are compared in full.
fn stand_ins<T: TreeIo>(difference: &Difference<'_, T>, wanted: &Wanted) -> Result<Vec<Work>, RestoreError> {
    let failed = RestoreError::journal("plan stand-ins");
    let (now, then) = (difference.from(), difference.to());
    let mut works = Vec::new();
    for (target, source) in &wanted.stand_ins {
        let (before, after) = (now.view().meta(*target), then.view().meta(*source));
        let (Some(before), Some(after)) = (before.map_err(&failed)?, after.map_err(&failed)?) else {
            continue;
        };
        let Some(place) = now.place(*target).map_err(&failed)? else { continue };
        let Some(root) = now.root_of(place.parent).map_err(&failed)? else { continue };
        let (file, before, after) = (after.kind.is_file(), comparable(before), comparable(after));
        let work = Work::between(*target, root, before, after, file);
        works.extend(work.map(|work| Work { source: *source, ..work }));
    }
    Ok(works)
}

/// Work on copies: their bytes. All else they are created with.
fn copies<T: TreeIo>(difference: &Difference<'_, T>, wanted: &Wanted) -> Result<Vec<Work>, RestoreError> {
    let failed = RestoreError::journal("plan copies");
    let mut works = Vec::new();
    for changes in &wanted.changes {
        let (root, changes) = changes;
        let made: BTreeSet<NodeId> = changes.iter().filter_map(|change| change.new).collect();
        for target in made {
            let Some(source) = wanted.copies.get(&target).copied() else { continue };
            let meta = difference.to().view().meta(source).map_err(&failed)?;
            if meta.is_some_and(|meta| meta.kind.is_file()) {
                works.push(Work {
                    target,
                    source,
                    root: *root,
                    bytes: true,
                    attributes: false,
                    xattrs: false,
                });
            }
        }
    }
    Ok(works)
}

/// The names now, as ordering them asks for them.
struct Present<'p, 'v, T: TreeIo> {
    root: RootNo,
    places: &'p Places<'v, T>,
    copies: &'p BTreeMap<NodeId, NodeId>,
    /// On a master: names in removed directories, and in the kept area, are not there.
    area: Option<Area<'p, 'v, T>>,
    names: RefCell<HashMap<NodeId, Vec<Edge>>>,
}

impl<T: TreeIo> Before for Present<'_, '_, T> {
    type Error = JournalError;

    fn names(&self, node: NodeId) -> Result<Vec<Edge>, JournalError> {
        if self.copies.contains_key(&node) {
            return Ok(Vec::new());
        }
        if let Some(names) = self.names.borrow().get(&node) {
            return Ok(names.clone());
        }
        let mut names = self.places.names(node)?;
        if let Some(area) = &self.area {
            let all = std::mem::take(&mut names);
            for edge in all {
                if area.directory(edge.parent)? != Where::Nowhere {
                    names.push(edge);
                }
            }
            self.names.borrow_mut().insert(node, names.clone());
            return Ok(names);
        }
        let kept = Edge::new(NodeId::kept(self.root), node.kept_name());
        // A file may have a name there beside others in removed directories.
        let tables = &**self.places.view().tables();
        if names.is_empty() || State::name(tables, &kept)? == Some(node) {
            names.push(kept);
        }
        self.names.borrow_mut().insert(node, names.clone());
        Ok(names)
    }

    fn is_directory(&self, node: NodeId) -> Result<bool, JournalError> {
        let node = self.copies.get(&node).copied().unwrap_or(node);
        is_directory(self.places, node)
    }
}
