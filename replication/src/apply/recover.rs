//! After a crash, or after the tree could not be touched: bring it to where the tables say it is.
//!
//! Given: the durable cursor C, up to which the tree was synced; W, up to which undo is durable and the tables are
//! right; the captures of the window (C, W]. The tree is somewhere between C and W: names as after some prefix of what
//! was done, bytes of the window present, absent or torn. Replaying names one after the other cannot work (which `a`
//! is meant by "rename a b" when there is a newer a?), so nothing is replayed. Instead:
//!
//! 1. *Look* at every name the window touched, as far as its directory can be found, and at the staging area of an
//!    earlier try. A node older than C has a known inode; it is recognised by it wherever it is.
//! 2. *Stage* what is found: older nodes move to the kept area under a name of their own; everything else was created
//!    in the window, its bytes and names are all in redo, and it is removed. Older nodes inside such a new directory
//!    are staged first. Before anything is moved or removed, everything older must have been found, and what is to be
//!    removed must stand where the window put something of its kind: else somebody else was there.
//! 3. *Place*: every touched name that the tables bind is made, parents before children; nodes created in the window
//!    are created anew.
//! 4. *Bytes* of the window are written again in order: writing twice what was written once changes nothing.
//! 5. *Metadata* of every touched node is set.
//!
//! An older node cannot be missing: within the window apply removes nothing for good, it renames into the kept area,
//! and only names that are not the last are unlinked. If one is missing all the same, somebody else was there: drift.
//! A crash in the middle of all this leaves staged nodes, and step 1 finds them there.

mod gone;
mod look;

use journal::journal::{Journal, Placed};
use journal::record::Control;
use journal::state::{NodeRow, State};
use journal::{Edge, Event, JournalError, Kind, Lsn, Name, NodeId, Payload, RootNo, Space, TreeFile, TreeIo};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io;
use std::sync::Arc;

fn failed(operation: &'static str, node: NodeId) -> impl Fn(io::Error) -> JournalError {
    move |source| JournalError::Tree { operation, object: node.to_string(), source }
}

/// Makes the tree equal to the tables for everything the window touched. `window` are the captures behind the
/// durable cursor up to what is published, in order. Afterwards the tree is as after the last of them (not synced).
/// Nodes created in the window, with their inodes.
///
/// # Errors
/// `Drift` if an older node is missing; errors of tree and tables.
pub fn reconcile<T: TreeIo>(
    journal: &Arc<Journal>,
    tree: &Arc<T>,
    window: &[Placed],
) -> Result<Vec<(NodeId, u64)>, JournalError> {
    if window.is_empty() {
        return Ok(Vec::new());
    }
    let mut work = Work::new(journal, tree, window)?;
    work.look()?;
    work.check()?;
    work.stage()?;
    let placed = work.place()?;
    work.bytes(window, &placed)?;
    work.metadata(&placed)?;
    Ok(work.created)
}

/// Name in the kept area of a node that recovery has staged.
fn staged_name(node: NodeId) -> Option<Name> {
    Name::new(format!("staged-{:x}", node.0).as_bytes())
}

/// The node of a staged name.
fn staged_node(name: &Name) -> Option<NodeId> {
    let text = std::str::from_utf8(name.as_bytes()).ok()?;
    u64::from_str_radix(text.strip_prefix("staged-")?, 16).ok().map(NodeId)
}

/// Directory and name of what was put in its place.
type Places<T> = HashMap<NodeId, (<T as TreeIo>::Dir, Name)>;

struct Work<'j, T: TreeIo> {
    journal: &'j Arc<Journal>,
    tree: &'j Arc<T>,
    /// Names touched in the window, kept areas included.
    edges: BTreeSet<Edge>,
    /// Nodes created in the window.
    new: HashSet<NodeId>,
    /// Names under which the window may have left them, and whether it is a directory.
    expected: HashMap<Edge, Vec<(NodeId, bool)>>,
    /// Nodes whose metadata, names or bytes the window touched.
    nodes: BTreeSet<NodeId>,
    /// Inode to node for older nodes that the window renamed, linked or removed.
    moved: HashMap<u64, NodeId>,
    /// Where an older node that the window moved was found: directory and name, every one.
    found: BTreeMap<NodeId, Vec<(T::Dir, Name)>>,
    /// Names that hold something created in the window.
    strangers: Vec<(T::Dir, Name, bool)>,
    /// A name that holds what the window did not put there.
    foreign: Option<Name>,
    directories: HashMap<NodeId, T::Dir>,
    /// Directories that are there for sure, and those that retention has removed (true).
    gone: HashMap<NodeId, bool>,
    created: Vec<(NodeId, u64)>,
}

impl<'j, T: TreeIo> Work<'j, T> {
    fn new(journal: &'j Arc<Journal>, tree: &'j Arc<T>, window: &[Placed]) -> Result<Self, JournalError> {
        let mut edges = BTreeSet::new();
        let (mut new, mut nodes, mut moved_nodes) = (HashSet::new(), BTreeSet::new(), BTreeSet::new());
        let (mut directories_made, mut expected) = (HashMap::new(), HashMap::<_, Vec<_>>::new());
        for event in window.iter().flat_map(|placed| &placed.capture.events) {
            let (node, at) = match event {
                Event::Create { node, at, meta, .. } => {
                    new.insert(*node);
                    directories_made.insert(*node, meta.kind.is_directory());
                    (*node, vec![at])
                }
                Event::Link { node, at, .. } | Event::Remove { node, at, .. } => (*node, vec![at]),
                Event::Rename { node, from, to, .. } => (*node, vec![from, to]),
                Event::Write { node, .. }
                | Event::Punch { node, .. }
                | Event::Resize { node, .. }
                | Event::SetAttributes { node, .. }
                | Event::SetXattrs { node, .. } => {
                    nodes.insert(*node);
                    continue;
                }
                Event::Mark(_) => continue,
            };
            nodes.insert(node);
            moved_nodes.insert(node);
            for edge in at {
                edges.insert(edge.clone());
                if let Some(directory) = directories_made.get(&node) {
                    expected.entry(edge.clone()).or_default().push((node, *directory));
                }
            }
        }
        let mut work = Work {
            journal,
            tree,
            edges,
            new,
            expected,
            nodes,
            moved: HashMap::new(),
            found: BTreeMap::new(),
            strangers: Vec::new(),
            foreign: None,
            directories: HashMap::new(),
            gone: HashMap::new(),
            created: Vec::new(),
        };
        for node in moved_nodes {
            // The last name of a node may have gone in between: look in the kept area too, and at all it has now.
            for root in work.roots(window) {
                let kept = Edge::new(NodeId::kept(root), node.kept_name());
                if let Some(directory) = directories_made.get(&node) {
                    work.expect_kept(node, &kept, *directory);
                }
                work.edges.insert(kept);
            }
            for edge in State::links(&**journal.tables(), node)? {
                work.edges.insert(edge);
            }
            if !work.new.contains(&node)
                && let Some(row) = State::node(&**journal.tables(), node)?
            {
                work.moved.insert(row.inode, node);
            }
        }
        work.leave_out_gone()?;
        // Putting a name in its place moves its directory's time, whoever wanted the name there.
        work.nodes.extend(work.edges.iter().map(|edge| edge.parent).filter(|parent| !parent.is_kept_area()));
        Ok(work)
    }

    /// The kept area may hold a node that the window created: where it was removed to, or, under the name of a staged one,
    /// where an earlier try put it, of a window that began later and took it for an older node.
    fn expect_kept(&mut self, node: NodeId, kept: &Edge, directory: bool) {
        let staged = staged_name(node).map(|name| Edge::new(kept.parent, name));
        for edge in [Some(kept.clone()), staged].into_iter().flatten() {
            self.expected.entry(edge).or_default().push((node, directory));
        }
    }

    fn roots(&self, window: &[Placed]) -> BTreeSet<RootNo> {
        window.iter().map(|placed| placed.capture.root).collect()
    }

    fn row(&self, node: NodeId) -> Result<NodeRow, JournalError> {
        let row = State::node(&**self.journal.tables(), node)?;
        row.ok_or_else(|| JournalError::NotFound { what: "node", name: node.to_string() })
    }

    fn fixed(&self, node: NodeId) -> Result<Option<T::Dir>, JournalError> {
        let Some(root) = node.as_root_or_kept() else { return Ok(None) };
        let opened = if node.is_kept_area() { self.tree.kept(root) } else { self.tree.root(root) };
        opened.map(Some).map_err(failed("open the root", node))
    }

    /// Step 2.
    fn stage(&mut self) -> Result<(), JournalError> {
        for (node, places) in std::mem::take(&mut self.found) {
            let root = self.root_of(node)?;
            let kept = self.tree.kept(root).map_err(failed("open the kept area", node))?;
            let Some(staged) = staged_name(node) else { continue };
            let already = self.tree.stat(&kept, &staged).map_err(failed("stat", node))?.is_some();
            let mut have = already;
            for (dir, name) in places {
                if name == staged && already {
                    continue;
                }
                if have {
                    // The same name may have been met twice, from two sides.
                    match self.tree.unlink(&dir, &name) {
                        Err(error) if error.kind() != io::ErrorKind::NotFound => {
                            return Err(failed("unlink", node)(error));
                        }
                        _ => {}
                    }
                } else {
                    self.tree.rename((&dir, &name), (&kept, &staged)).map_err(failed("stage", node))?;
                    have = true;
                }
            }
            self.found.insert(node, vec![(kept, staged)]);
        }
        // Children were met after their parents, so they go first.
        for (dir, name, directory) in std::mem::take(&mut self.strangers).into_iter().rev() {
            let gone =
                if directory { self.tree.remove_dir(&dir, &name) } else { self.tree.unlink(&dir, &name) };
            match gone {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed("remove what the window created", NodeId(0))(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn root_of(&self, node: NodeId) -> Result<RootNo, JournalError> {
        let mut at = node;
        for _ in 0..1 << 20 {
            if let Some(root) = at.as_root_or_kept() {
                return Ok(root);
            }
            let links = State::links(&**self.journal.tables(), at)?;
            match links.into_iter().next() {
                Some(edge) => at = edge.parent,
                None => break,
            }
        }
        Err(JournalError::Drift { object: node.to_string(), what: "it has no name" })
    }

    /// Step 3: names as the tables have them, parents before children. Where everything is that was put in its place:
    /// directories that nothing else was put into have to be found too, for what lies in them.
    fn place(&mut self) -> Result<Places<T>, JournalError> {
        self.directories.clear();
        let mut left = Vec::new();
        for edge in &self.edges {
            if let Some(node) = State::name(&**self.journal.tables(), edge)? {
                left.push((edge.clone(), node));
            }
        }
        let mut placed = Places::<T>::new();
        while !left.is_empty() {
            let before = left.len();
            let mut waiting = Vec::new();
            for (edge, node) in left {
                match self.final_dir(edge.parent, &placed)? {
                    Some(dir) => self.place_one(&dir, edge, node, &mut placed)?,
                    None => waiting.push((edge, node)),
                }
            }
            left = waiting;
            if left.len() == before {
                return Err(JournalError::Drift {
                    object: "directories".to_owned(),
                    what: "they form a cycle",
                });
            }
        }
        Ok(placed)
    }

    /// The directory of a node where it belongs, if it is there already.
    fn final_dir(&mut self, node: NodeId, placed: &Places<T>) -> Result<Option<T::Dir>, JournalError> {
        if let Some(dir) = self.fixed(node)? {
            return Ok(Some(dir));
        }
        if let Some(dir) = self.directories.get(&node) {
            return Ok(Some(dir.clone()));
        }
        let (dir, name) = match placed.get(&node) {
            Some((dir, name)) => (dir.clone(), name.clone()),
            None if self.new.contains(&node) || self.moved.values().any(|moved| *moved == node) => {
                return Ok(None);
            }
            None => {
                let links = State::links(&**self.journal.tables(), node)?;
                let Some(edge) = links.into_iter().next() else { return Ok(None) };
                match self.final_dir(edge.parent, placed)? {
                    Some(dir) => (dir, edge.name),
                    None => return Ok(None),
                }
            }
        };
        let opened = self.tree.open_dir(&dir, &name).map_err(failed("open a directory", node))?;
        self.directories.insert(node, opened.clone());
        Ok(Some(opened))
    }

    fn place_one(
        &mut self,
        dir: &T::Dir,
        edge: Edge,
        node: NodeId,
        placed: &mut Places<T>,
    ) -> Result<(), JournalError> {
        if let Some((from, name)) = placed.get(&node) {
            return self.tree.link((from, name), (dir, &edge.name)).map_err(failed("link", node));
        }
        match self.found.get(&node).and_then(|places| places.first()) {
            Some((from, name)) => {
                self.tree.rename((from, name), (dir, &edge.name)).map_err(failed("place", node))?;
            }
            None => {
                let kind = self.row(node)?.meta.kind;
                let created = match self.tree.create(dir, &edge.name, &kind) {
                    // As apply does: a file stands for what needs privilege.
                    Err(error) if error.raw_os_error() == Some(1) => {
                        self.tree.create(dir, &edge.name, &Kind::File)
                    }
                    created => created,
                };
                self.created.push((node, created.map_err(failed("create", node))?.inode));
            }
        }
        placed.insert(node, (dir.clone(), edge.name));
        Ok(())
    }

    /// Step 4.
    fn bytes(&mut self, window: &[Placed], placed: &Places<T>) -> Result<(), JournalError> {
        let mut lost = BTreeMap::new();
        for event in window.iter().flat_map(|one| &one.capture.events) {
            let node = match event {
                Event::Write { node, .. } | Event::Punch { node, .. } | Event::Resize { node, .. } => *node,
                _ => continue,
            };
            let Some(edge) = self.standing(node)? else { continue };
            let Some(dir) = self.final_dir(edge.parent, placed)? else { continue };
            let file = self.tree.open_file(&dir, &edge.name, true).map_err(failed("open", node))?;
            match event {
                Event::Write { offset, data, .. } => match self.journal.written(data)? {
                    Some(bytes) => file.write_at(&bytes, *offset),
                    None => {
                        let from = lost.entry(node).or_insert(*offset);
                        *from = (*from).min(*offset);
                        let end = offset.saturating_add(data.len());
                        if file.stat().map_err(failed("stat", node))?.size < end {
                            file.set_len(end)
                        } else {
                            Ok(())
                        }
                    }
                },
                Event::Punch { offset, bytes, .. } => file.punch(*offset, *bytes),
                Event::Resize { size, .. } => file.set_len(*size),
                _ => Ok(()),
            }
            .map_err(failed("write", node))?;
        }
        note_lost(self.journal, window)?;
        self.mark_lost(&lost)
    }

    /// Bytes of the first synchronization that a crash took: the master sends them again.
    fn mark_lost(&self, lost: &BTreeMap<NodeId, u64>) -> Result<(), JournalError> {
        let mut puts = Vec::new();
        for (node, from) in lost {
            let mut row = self.row(*node)?;
            row.lose(*from);
            // What was cut off since is no loss.
            row.resize(row.meta.size);
            puts.push((Space::Nodes, node.to_key().to_vec(), Some(journal::state::rows::write(&row))));
        }
        self.journal.tables().commit(puts)
    }

    /// Step 5, and the inodes of what was created anew.
    fn metadata(&mut self, placed: &Places<T>) -> Result<(), JournalError> {
        let mut puts = Vec::new();
        for (node, inode) in &self.created {
            let mut row = self.row(*node)?;
            row.inode = *inode;
            puts.push((Space::Nodes, node.to_key().to_vec(), Some(journal::state::rows::write(&row))));
        }
        self.journal.tables().commit(puts)?;
        for directories in [false, true] {
            for node in self.nodes.clone() {
                let Some(row) = State::node(&**self.journal.tables(), node)? else { continue };
                if row.meta.kind.is_directory() != directories || node.is_kept_area() {
                    continue;
                }
                let set = if let Some(root) = node.as_root_or_kept() {
                    let dir = self.tree.root(root).map_err(failed("open the root", node))?;
                    let set = self.tree.set_dir_attributes(&dir, &row.meta.attributes);
                    self.tree.set_dir_xattrs(&dir, &row.meta.xattrs).and(set)
                } else {
                    let Some(edge) = self.standing(node)? else { continue };
                    let Some(dir) = self.final_dir(edge.parent, placed)? else { continue };
                    let (kind, meta) = (&row.meta.kind, &row.meta);
                    // In this order: changing the owner clears capabilities.
                    let set = self.tree.set_attributes(&dir, &edge.name, &meta.attributes, kind);
                    self.tree.set_xattrs(&dir, &edge.name, kind, &meta.xattrs).and(set)
                };
                match set {
                    Err(error) if !matches!(error.raw_os_error(), Some(1 | 95)) => {
                        return Err(failed("set metadata", node)(error));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

/// Journals which captures have bytes that were never journaled and are not at hand any more. The durable cursor says
/// of all others before it that the tree has theirs: it must not move past these before.
///
/// # Errors
/// As the journal.
pub(crate) fn note_lost(journal: &Journal, batch: &[Placed]) -> Result<(), JournalError> {
    let is_lost = |event: &Event| matches!(event, Event::Write { data: Payload::External { .. }, .. });
    let mut lost = batch.iter().map(|placed| &placed.capture).filter(|capture| {
        capture.events.iter().any(is_lost) && journal.with_controls(|controls| !controls.is_lost(capture.lsn))
    });
    let Some(first) = lost.next().map(|capture| capture.lsn.captured) else { return Ok(()) };
    let last = lost.last().map_or(first, |capture| capture.lsn.captured);
    journal.control(Control::BytesLost { first, last })
}

/// The captures of a window, in memory: it is no longer than what was applied since the durable cursor last moved.
///
/// # Errors
/// As the journal.
pub fn window(journal: &Arc<Journal>, cursor: Lsn, published: Lsn) -> Result<Vec<Placed>, JournalError> {
    journal.captures(journal.cursor_redo(), cursor, published).collect()
}
