//! Worked examples and a property: random trees, random targets, every step checked on a model.

use super::*;
use crate::id::Name;
use crate::random::Random;
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;

const ROOT: RootNo = RootNo(0);

fn edge(parent: NodeId, name: &str) -> Edge {
    Edge::new(parent, Name::new(name.as_bytes()).unwrap())
}

/// A tree: who stands where, and which nodes are directories.
#[derive(Clone, Default, PartialEq, Debug)]
struct Model {
    names: BTreeMap<Edge, NodeId>,
    directories: BTreeSet<NodeId>,
}

impl Before for Model {
    type Error = Infallible;
    fn names(&self, node: NodeId) -> Result<Vec<Edge>, Infallible> {
        Ok(self.names.iter().filter(|(_, n)| **n == node).map(|(e, _)| e.clone()).collect())
    }
    fn is_directory(&self, node: NodeId) -> Result<bool, Infallible> {
        Ok(self.directories.contains(&node))
    }
}

impl Model {
    fn names_of(&self, node: NodeId) -> Vec<Edge> {
        self.names(node).unwrap()
    }

    /// Whether the node hangs under the root, not in the kept area.
    fn visible(&self, node: NodeId) -> bool {
        node == NodeId::root(ROOT) || self.names_of(node).iter().any(|e| self.visible(e.parent))
    }

    fn below(&self, node: NodeId, above: NodeId) -> bool {
        node == above || self.names_of(node).iter().any(|e| self.below(e.parent, above))
    }

    fn take(&mut self, at: &Edge, node: NodeId) {
        assert!(
            at.parent.as_root_or_kept().is_some() || self.directories.contains(&at.parent),
            "no directory"
        );
        let there = at.parent.as_root_or_kept().is_some() || !self.names_of(at.parent).is_empty();
        assert!(there, "{at:?}: its directory does not exist yet");
        assert!(self.names.insert(at.clone(), node).is_none(), "{at:?} is taken");
    }

    fn free(&mut self, at: &Edge, node: NodeId) {
        assert_eq!(self.names.remove(at), Some(node), "{at:?} is not {node}");
    }

    fn apply(&mut self, step: &Step) {
        match step {
            Step::Create { node, at } => {
                assert!(self.names_of(*node).is_empty(), "{node} exists");
                self.take(at, *node);
            }
            Step::Link { node, at } => {
                assert!(!self.directories.contains(node), "link of a directory");
                assert!(!self.names_of(*node).is_empty(), "{node} does not exist");
                self.take(at, *node);
            }
            Step::Remove { node, at } => {
                self.free(at, *node);
                if self.names_of(*node).is_empty() {
                    self.take(&Edge::new(NodeId::kept(ROOT), node.kept_name()), *node);
                }
            }
            Step::Rename { node, from, to } => {
                assert!(!self.below(to.parent, *node), "{node} moves below itself");
                self.free(from, *node);
                self.take(to, *node);
            }
        }
    }
}

fn changes(old: &Model, new: &Model) -> Vec<Change> {
    let edges: BTreeSet<&Edge> = old.names.keys().chain(new.names.keys()).collect();
    edges
        .into_iter()
        .map(|e| Change { edge: e.clone(), old: old.names.get(e).copied(), new: new.names.get(e).copied() })
        .filter(|c| c.old != c.new)
        .collect()
}

/// Runs the order on the model and checks each step and each boundary; returns the groups.
fn check(old: &Model, new: &Model) -> Vec<Vec<Step>> {
    let before = Model { names: old.names.clone(), directories: &old.directories | &new.directories };
    let order = serialize(ROOT, &changes(old, new), &before).unwrap();
    let mut now = before.clone();
    let both: Vec<(&Edge, bool)> = old
        .names
        .keys()
        .filter(|e| new.names.contains_key(*e) && !e.parent.is_kept_area())
        .map(|e| (e, old.visible(e.parent) && new.visible(e.parent)))
        .collect();
    let nodes: BTreeSet<NodeId> = old.names.values().copied().collect();
    let lasting: Vec<NodeId> = nodes.into_iter().filter(|n| old.visible(*n) && new.visible(*n)).collect();
    let mut steps = 0;
    for group in order.groups() {
        for step in group {
            now.apply(step);
        }
        steps += group.len();
        for (e, visible) in &both {
            assert!(now.names.contains_key(*e), "{e:?} is missing after {group:?}");
            assert!(!visible || now.visible(e.parent), "{e:?} is hidden after {group:?}");
        }
        for node in &lasting {
            assert!(now.visible(*node), "{node} is missing after {group:?}");
        }
    }
    assert_eq!(steps, order.steps().len());
    // What lies in the kept area at the end is nobody's business; what is visible must be as wanted.
    let shown = |model: &Model| -> BTreeMap<Edge, NodeId> {
        model.names.iter().filter(|(e, _)| model.visible(e.parent)).map(|(e, n)| (e.clone(), *n)).collect()
    };
    assert_eq!(shown(&now), shown(new));
    order.groups().map(<[Step]>::to_vec).collect()
}

const R: NodeId = NodeId::root(ROOT);
const D: NodeId = NodeId(5000);
const E: NodeId = NodeId(5001);
const F: NodeId = NodeId(5002);
const G: NodeId = NodeId(5003);
const H: NodeId = NodeId(5004);

fn model(directories: &[NodeId], names: &[(NodeId, &str, NodeId)]) -> Model {
    Model {
        names: names.iter().map(|(p, n, node)| (edge(*p, n), *node)).collect(),
        directories: directories.iter().copied().chain([R]).collect(),
    }
}

#[test]
fn back_to_where_it_was_is_nothing() {
    let tree = model(&[], &[(R, "a", F)]);
    assert!(check(&tree, &tree).is_empty());
}

#[test]
fn swap_of_directories_is_one_group_of_three_renames() {
    let old = model(&[D, E], &[(R, "a", D), (R, "b", E), (D, "x", F), (E, "y", G)]);
    let new = model(&[D, E], &[(R, "b", D), (R, "a", E), (D, "x", F), (E, "y", G)]);
    let groups = check(&old, &new);
    assert_eq!(groups.len(), 1);
    assert_eq!(groups[0].len(), 3);
}

#[test]
fn parent_and_child_swap() {
    let old = model(&[D, E], &[(R, "a", D), (D, "b", E)]);
    let new = model(&[D, E], &[(R, "b", E), (E, "a", D)]);
    let groups = check(&old, &new);
    assert_eq!(groups.len(), 2, "the child moves out, then the parent moves in: {groups:?}");
    let same_name = model(&[D, E], &[(R, "a", E), (E, "b", D)]);
    assert_eq!(check(&old, &same_name).len(), 1);
}

#[test]
fn chain_is_one_group_in_reverse() {
    let old = model(&[], &[(R, "a", F), (R, "b", G), (R, "c", H)]);
    let new = model(&[], &[(R, "b", F), (R, "c", G)]);
    let groups = check(&old, &new);
    assert_eq!(groups.len(), 1);
    assert_eq!(groups[0].first(), Some(&Step::Remove { node: H, at: edge(R, "c") }));
    assert_eq!(groups[0].len(), 3);
}

#[test]
fn cycle_of_three() {
    let old = model(&[], &[(R, "a", F), (R, "b", G), (R, "c", H)]);
    let new = model(&[], &[(R, "b", F), (R, "c", G), (R, "a", H)]);
    let groups = check(&old, &new);
    assert_eq!((groups.len(), groups[0].len()), (1, 4));
}

#[test]
fn replace_by_rename_and_by_new() {
    let old = model(&[], &[(R, "f", F), (R, "tmp", G)]);
    assert_eq!(check(&old, &model(&[], &[(R, "f", G)])).len(), 1);
    assert_eq!(check(&old, &model(&[], &[(R, "f", H), (R, "tmp", G)])).len(), 1);
}

#[test]
fn child_takes_the_name_of_its_removed_parent() {
    let old = model(&[D], &[(R, "a", D), (D, "x", F), (D, "y", G)]);
    let groups = check(&old, &model(&[D], &[(R, "a", F)]));
    assert_eq!(groups.len(), 1);
}

#[test]
fn new_directory_takes_the_name_of_its_child() {
    let old = model(&[D], &[(R, "a", D), (D, "x", F)]);
    let groups = check(&old, &model(&[D, E], &[(R, "a", E), (E, "b", D), (D, "x", F)]));
    assert_eq!(groups.len(), 1);
}

#[test]
fn link_is_made_before_the_directory_of_the_other_name_is_removed() {
    let old = model(&[D], &[(R, "d", D), (D, "f", F)]);
    check(&old, &model(&[], &[(R, "g", F)]));
    let mut target = model(&[D], &[(R, "g", F), (D, "f", F)]);
    target.names.insert(Edge::new(NodeId::kept(ROOT), D.kept_name()), D);
    let groups = check(&old, &target);
    assert!(
        matches!(groups.as_slice(), [a, b] if matches!(a[0], Step::Link { .. }) && matches!(b[0], Step::Remove { .. }))
    );
}

#[test]
fn independent_changes_are_groups_of_their_own() {
    let old = model(&[D], &[(R, "d", D), (R, "a", F), (R, "b", G)]);
    let groups = check(&old, &model(&[D], &[(R, "d", D), (D, "a", F), (R, "c", G), (R, "new", H)]));
    assert_eq!(groups.len(), 3);
}

#[test]
fn revive_is_a_rename_from_the_kept_area() {
    let mut old = model(&[D], &[(D, "x", F)]);
    old.names.insert(Edge::new(NodeId::kept(ROOT), D.kept_name()), D);
    let groups = check(&old, &model(&[D], &[(R, "d", D), (D, "x", F)]));
    assert!(matches!(&groups[0][0], Step::Rename { node: D, from, .. } if from.parent == NodeId::kept(ROOT)));
    // Into a revived directory only once it is back.
    let mut old = old.clone();
    old.names.insert(edge(R, "g"), G);
    let groups = check(&old, &model(&[D], &[(R, "d", D), (D, "x", F), (D, "a", G)]));
    assert_eq!(groups.len(), 2);
}

#[test]
fn targets_that_are_no_trees_are_refused() {
    let old = model(&[D, E], &[(R, "a", D), (R, "b", E), (R, "f", F)]);
    for new in [
        model(&[D, E], &[(D, "x", E), (E, "y", D), (R, "f", F)]),
        model(&[D, E], &[(R, "a", D), (R, "c", D), (R, "b", E), (R, "f", F)]),
        model(&[D, E, G, H], &[(R, "a", D), (R, "b", E), (G, "h", H), (H, "g", G), (R, "f", F)]),
    ] {
        let before = Model { names: old.names.clone(), directories: &old.directories | &new.directories };
        let error = serialize(ROOT, &changes(&old, &new), &before).unwrap_err();
        assert!(matches!(error, SerializeError::NotATree { .. }), "{error}");
    }
}

#[test]
fn a_long_chain_needs_no_deep_stack() {
    struct Flat;
    impl Before for Flat {
        type Error = Infallible;
        fn names(&self, node: NodeId) -> Result<Vec<Edge>, Infallible> {
            Ok(vec![edge(R, &format!("{}", node.0))])
        }
        fn is_directory(&self, _: NodeId) -> Result<bool, Infallible> {
            Ok(false)
        }
    }
    let count = 50_000u64;
    let shift = |n: u64, up: u64| Change {
        edge: edge(R, &format!("{n}")),
        old: Some(NodeId(n)),
        new: Some(NodeId(up)),
    };
    // Everyone moves one further, the last takes the place of the first.
    let changes: Vec<Change> =
        (0..count).map(|n| shift(10_000 + n, 10_000 + (n + count - 1) % count)).collect();
    let order = serialize(ROOT, &changes, &Flat).unwrap();
    assert_eq!((order.groups().count(), order.steps().len()), (1, count as usize + 1));
}

/// A few names only, so that they collide.
fn free_name(random: &mut Random, tree: &Model, parent: NodeId) -> Option<Edge> {
    let e = edge(parent, ["a", "b", "c", "d"][random.below(4)]);
    (!tree.names.contains_key(&e)).then_some(e)
}

fn visible_directories(tree: &Model) -> Vec<NodeId> {
    tree.directories.iter().copied().filter(|d| tree.visible(*d)).collect()
}

/// What a user might do between two looks.
fn mutate(random: &mut Random, tree: &mut Model, next: &mut u64) {
    let directories = visible_directories(tree);
    let parent = directories[random.below(directories.len())];
    let shown: Vec<Edge> = tree.names.keys().filter(|e| tree.visible(e.parent)).cloned().collect();
    let Some(to) = free_name(random, tree, parent) else { return };
    let some = (!shown.is_empty()).then(|| shown[random.below(shown.len())].clone());
    match (random.below(10), some) {
        (0..=2, _) | (_, None) => {
            let node = NodeId(*next);
            *next += 1;
            if random.below(2) == 0 {
                tree.directories.insert(node);
            }
            tree.names.insert(to, node);
        }
        (3..=6, Some(from)) => {
            let node = tree.names[&from];
            if !tree.below(to.parent, node) {
                tree.names.remove(&from);
                tree.names.insert(to, node);
            }
        }
        (7, Some(from)) => {
            let node = tree.names[&from];
            if !tree.directories.contains(&node) {
                tree.names.insert(to, node);
            }
        }
        (_, Some(at)) => {
            let step = Step::Remove { node: tree.names[&at], at };
            tree.apply(&step);
        }
    }
}

/// A target that no user could reach in few steps: every node anywhere.
fn scatter(random: &mut Random, old: &Model) -> Model {
    let mut new = Model { names: BTreeMap::new(), directories: old.directories.clone() };
    let mut nodes: Vec<NodeId> = old.names.values().copied().collect();
    nodes.sort_unstable();
    nodes.dedup();
    for n in (1..nodes.len()).rev() {
        nodes.swap(n, random.below(n + 1));
    }
    for node in nodes {
        let parents = visible_directories(&new);
        let parent = parents[random.below(parents.len())];
        if random.below(8) > 0
            && let Some(at) = free_name(random, &new, parent)
        {
            new.names.insert(at, node);
            continue;
        }
        // It goes, and what it held in the old state goes with it unless it stands elsewhere.
        new.names.insert(Edge::new(NodeId::kept(ROOT), node.kept_name()), node);
    }
    new
}

#[test]
fn random_targets() {
    let seeds = std::env::var("REWIND_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(3000);
    let first = std::env::var("REWIND_SEED_FIRST").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
    for seed in first..first + seeds {
        let mut random = Random(seed);
        let mut old = Model { names: BTreeMap::new(), directories: [R].into() };
        let mut next = 5000;
        for _ in 0..random.below(40) {
            mutate(&mut random, &mut old, &mut next);
        }
        let mut new = if seed % 2 == 0 { scatter(&mut random, &old) } else { old.clone() };
        for _ in 0..random.below(30) {
            mutate(&mut random, &mut new, &mut next);
        }
        // Directories that came and went in between were never seen, nor what they held.
        let known: BTreeSet<NodeId> = old.names.values().copied().collect();
        let shown = new.clone();
        new.names
            .retain(|e, _| shown.visible(e.parent) || known.contains(&e.parent) || e.parent.is_kept_area());
        let result = std::panic::catch_unwind(|| check(&old, &new));
        assert!(result.is_ok(), "seed {seed}: {:?}", changes(&old, &new));
    }
}
