//! Digests of the roots, kept beside the rows they are sums of.
//!
//! [`changed`] says what a batch does to the digests, from the rows before and after it alone: whatever wrote the rows
//! (apply, recovery, a rebuild), the sums follow. [`counted`] computes them from all rows; it is what they are after a
//! checkpoint was loaded, and what tests hold the sums against.
//!
//! Only what hangs below a root counts; the kept area does not. So a directory that leaves the tree, or comes back,
//! takes the entries of all it holds along: their rows are read, one directory at a time. That is the one change that
//! costs more here than in the tree, and no more than the names that went.

use super::overlay::{Overlay, State};
use super::rows::{self, NodeRow};
use crate::digest::{Digest, NodeFacts, kind_hash, xattrs_hash};
use crate::error::JournalError;
use crate::id::{Edge, NodeId, RootNo};
use crate::tables::{Put, Space, Tables, prefix_end};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The head row that holds the digests.
const DIGESTS_KEY: &[u8] = b"digests";

/// Digests by root; a root without any entry has none.
pub type Digests = BTreeMap<RootNo, Digest>;

type Row = Vec<(RootNo, [u8; crate::digest::DIGEST_BYTES])>;

/// Directories remembered with where they hang.
const KNOWN_MAX: usize = 100_000;
/// Parents from a node upwards end at a root or a kept area; more of them are a cycle.
const DEPTH_MAX: usize = 1 << 20;

/// What of a row is in a digest.
#[must_use]
pub fn node_facts(row: &NodeRow) -> NodeFacts {
    let attributes = &row.meta.attributes;
    NodeFacts {
        kind: kind_hash(&row.meta.kind),
        size: if row.meta.kind.is_file() { row.meta.size } else { 0 },
        mode: attributes.mode,
        uid: attributes.uid,
        gid: attributes.gid,
        mtime: attributes.mtime,
        xattrs: xattrs_hash(&row.meta.xattrs),
    }
}

/// The digests as the tables have them.
///
/// # Errors
/// As the tables.
pub fn digests(tables: &dyn Tables) -> Result<Digests, JournalError> {
    let Some(row) = tables.get(Space::Heads, DIGESTS_KEY)? else { return Ok(Digests::new()) };
    let row: Row = rows::read(Space::Heads, &row)?;
    Ok(row.into_iter().map(|(root, bytes)| (root, Digest::from_bytes(&bytes))).collect())
}

/// The head row of digests.
#[must_use]
pub fn digests_put(digests: &Digests) -> Put {
    let row: Row = digests.iter().map(|(root, digest)| (*root, digest.to_bytes())).collect();
    (Space::Heads, DIGESTS_KEY.to_vec(), Some(rows::write(&row)))
}

/// The digests of all that hangs below the roots, from the rows.
///
/// # Errors
/// As the tables.
pub fn counted(tables: &dyn Tables) -> Result<Digests, JournalError> {
    let mut digests = Digests::new();
    let mut homes = Homes::new(tables);
    for root in roots_with_names(tables)? {
        let mut sum = Digest::default();
        if let Some(row) = State::node(tables, NodeId::root(root))? {
            sum = sum.plus(Digest::of_node(NodeId::root(root), &node_facts(&row)));
        }
        let mut linked = Digest::default();
        // A file with several names counts once: under the first one that is in the tree.
        let walk = Walk { tables, passed: &|_| false, skip: &|_| false };
        let below = walk.below(NodeId::root(root), &mut |edge, node, row| {
            for link in State::links(tables, node)? {
                if link == *edge {
                    linked = linked.plus(Digest::of_node(node, &node_facts(row)));
                }
                if homes.of(link.parent)?.is_some() {
                    break;
                }
            }
            Ok(())
        })?;
        sum = sum.plus(below).plus(linked);
        if sum != Digest::default() {
            digests.insert(root, sum);
        }
    }
    Ok(digests)
}

/// Roots of which there is a row or a name.
fn roots_with_names(tables: &dyn Tables) -> Result<Vec<RootNo>, JournalError> {
    let mut roots = BTreeSet::new();
    let end = NodeId::FIRST_FREE.to_key();
    for row in tables.range(Space::Nodes, &[], &end) {
        roots.extend(NodeId::from_key(&row?.0).and_then(NodeId::as_root_or_kept));
    }
    let mut next = NodeId::root(RootNo(0));
    while let Some(row) = tables.range(Space::Names, &next.to_key(), &end).next() {
        let edge = rows::edge_of_name_key(&row?.0)?;
        roots.extend(edge.parent.as_root_or_kept());
        next = NodeId(edge.parent.0 + 1);
    }
    Ok(roots.into_iter().collect())
}

/// Told of a file with several names under one of them.
type Linked<'a> = &'a mut dyn FnMut(&Edge, NodeId, &NodeRow) -> Result<(), JournalError>;

/// Reads a subtree from the rows.
struct Walk<'a> {
    tables: &'a dyn Tables,
    /// Names that are passed over.
    passed: &'a dyn Fn(&[u8]) -> bool,
    /// Nodes whose own entry, and what is below them, is seen to elsewhere.
    skip: &'a dyn Fn(NodeId) -> bool,
}

impl Walk<'_> {
    /// The sum of all entries below a directory, its own not included, nor those of files with several names.
    fn below(&self, directory: NodeId, linked: Linked<'_>) -> Result<Digest, JournalError> {
        let mut sum = Digest::default();
        let mut stack = vec![directory];
        while let Some(directory) = stack.pop() {
            let prefix = directory.to_key();
            for row in self.tables.range(Space::Names, &prefix, &prefix_end(&prefix)) {
                let (key, value) = row?;
                if (self.passed)(&key) {
                    continue;
                }
                let node =
                    NodeId::from_key(&value).ok_or(JournalError::BadRow { space: Space::Names.name() })?;
                let edge = rows::edge_of_name_key(&key)?;
                sum = sum.plus(Digest::of_name(&edge, node));
                if (self.skip)(node) {
                    continue;
                }
                let Some(row) = State::node(self.tables, node)? else { continue };
                if row.meta.kind.is_directory() {
                    stack.push(node);
                } else if State::own_link(self.tables, node)?.is_some_and(|(_, more)| more) {
                    linked(&edge, node, &row)?;
                    continue;
                }
                sum = sum.plus(Digest::of_node(node, &node_facts(&row)));
            }
        }
        Ok(sum)
    }
}

/// Where directories hang, on one side of a batch.
struct Homes<'a, S: State + ?Sized> {
    state: &'a S,
    known: HashMap<NodeId, Option<RootNo>>,
}

impl<'a, S: State + ?Sized> Homes<'a, S> {
    fn new(state: &'a S) -> Self {
        Homes { state, known: HashMap::new() }
    }

    /// The root a directory hangs below; `None`: it is not in the tree.
    fn of(&mut self, directory: NodeId) -> Result<Option<RootNo>, JournalError> {
        let mut way = Vec::new();
        let mut at = directory;
        let home = loop {
            if let Some(root) = at.as_root_or_kept() {
                break (!at.is_kept_area()).then_some(root);
            }
            if let Some(home) = self.known.get(&at) {
                break *home;
            }
            way.push(at);
            match self.state.own_link(at)? {
                Some((edge, _)) if way.len() < DEPTH_MAX => at = edge.parent,
                _ => break None,
            }
        };
        if self.known.len() > KNOWN_MAX {
            self.known.clear();
        }
        self.known.extend(way.into_iter().map(|node| (node, home)));
        Ok(home)
    }

    /// The entry of a node, with the root it counts for, if a name of it is in the tree.
    fn entry(&mut self, node: NodeId) -> Result<Option<(RootNo, Digest)>, JournalError> {
        let mut home = node.as_root_or_kept().filter(|_| !node.is_kept_area());
        if node.as_root_or_kept().is_none() {
            for edge in self.state.links(node)? {
                home = home.or(self.of(edge.parent)?);
            }
        }
        let Some(root) = home else { return Ok(None) };
        let row = self.state.node(node)?;
        Ok(row.map(|row| (root, Digest::of_node(node, &node_facts(&row)))))
    }
}

/// The head row of the digests after a batch; `None` if they stay as they are.
///
/// # Errors
/// As the tables below.
pub(super) fn changed(overlay: &Overlay<'_>) -> Result<Option<Put>, JournalError> {
    let base = overlay.base();
    let mut sums = Sums(digests(base)?);
    let as_before = sums.0.clone();
    let (mut before, mut after) = (Homes::new(base), Homes::new(overlay));
    let mut nodes = BTreeSet::new();
    for key in overlay.keys_put(Space::Names) {
        let edge = rows::edge_of_name_key(key)?;
        let (old, new) = (State::name(base, &edge)?, overlay.name(&edge)?);
        nodes.extend(old.into_iter().chain(new));
        // A name that ends as it was counts anew all the same: its directory may have left the tree.
        if let (Some(root), Some(old)) = (before.of(edge.parent)?, old) {
            sums.take(root, Digest::of_name(&edge, old));
        }
        if let (Some(root), Some(new)) = (after.of(edge.parent)?, new) {
            sums.add(root, Digest::of_name(&edge, new));
        }
    }
    for key in overlay.keys_put(Space::Nodes) {
        nodes.insert(NodeId::from_key(key).ok_or(JournalError::BadRow { space: Space::Nodes.name() })?);
    }
    // Directories that left the tree or came back, with all below them that this batch did not touch itself.
    for node in nodes.iter().filter(|node| node.as_root_or_kept().is_none()) {
        let (old, new) = (before.of(*node)?, after.of(*node)?);
        let is_directory = |row: Option<NodeRow>| row.is_some_and(|row| row.meta.kind.is_directory());
        if old == new || !is_directory(State::node(base, *node)?) {
            continue;
        }
        let skip = |child: NodeId| nodes.contains(&child);
        let passed = |key: &[u8]| overlay.has_put(Space::Names, key);
        let walk = Walk { tables: base, passed: &passed, skip: &skip };
        let below = walk.below(*node, &mut |edge, file, _| {
            // Every name of it that changed sides is met by a walk: the first one sees to the file.
            for link in State::links(base, file)? {
                if before.of(link.parent)? != after.of(link.parent)? {
                    return if link == *edge { sums.replace(file, &mut before, &mut after) } else { Ok(()) };
                }
            }
            Ok(())
        })?;
        old.into_iter().for_each(|root| sums.take(root, below));
        new.into_iter().for_each(|root| sums.add(root, below));
    }
    for node in nodes {
        sums.replace(node, &mut before, &mut after)?;
    }
    Ok((sums.0 != as_before).then(|| digests_put(&sums.0)))
}

struct Sums(Digests);

impl Sums {
    fn add(&mut self, root: RootNo, entry: Digest) {
        let sum = self.0.entry(root).or_default();
        *sum = sum.plus(entry);
    }

    fn take(&mut self, root: RootNo, entry: Digest) {
        let sum = self.0.entry(root).or_default();
        *sum = sum.minus(entry);
    }

    /// The entry of a node as it was goes, that as it is comes.
    fn replace(
        &mut self,
        node: NodeId,
        before: &mut Homes<'_, dyn Tables + '_>,
        after: &mut Homes<'_, Overlay<'_>>,
    ) -> Result<(), JournalError> {
        if let Some((root, entry)) = before.entry(node)? {
            self.take(root, entry);
        }
        if let Some((root, entry)) = after.entry(node)? {
            self.add(root, entry);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
