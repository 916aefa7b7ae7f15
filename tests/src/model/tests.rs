//! That the model means what it should, and that the generator stays within the rules and covers them.

use super::{Generator, Model, Options};
use crate::canonical::{assert_equal, dump, dump_kept};
use crate::rng::Rng;
use crate::sim_tree::SimTree;
use journal::{
    Capture, Edge, Event, Kind, Lsn, Name, NodeId, Payload, RootNo, TreeFile, TreeIo, WRITE_BYTES_MAX,
};
use replication::os_tree::OsTree;
use std::collections::BTreeMap;

const R: RootNo = RootNo(0);

#[test]
fn a_second_model_fed_with_the_captures_has_the_same_history() {
    for seed in 0..40 {
        let options = Options { roots: 2, ..Options::default() };
        let mut generator = Generator::new(seed, options);
        let mut model = Model::new(2);
        for n in 1..=150 {
            let capture = generator.next();
            assert_eq!(capture.lsn, Lsn::captured(n));
            assert!(!capture.events.is_empty());
            model.apply(&capture);
        }
        assert_eq!(model.lsns().len(), 151);
        for lsn in model.lsns() {
            for root in [R, RootNo(1)] {
                let context = format!("seed {seed}, {lsn}");
                assert_equal(
                    &generator.model.canonical_at(lsn, root),
                    &model.canonical_at(lsn, root),
                    &context,
                );
            }
        }
    }
}

#[test]
fn every_kind_of_event_comes_up() {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let mut generator = Generator::new(7, Options::default());
    let (mut parked, mut revived, mut longest) = (0, 0, 0);
    for _ in 0..2000 {
        for event in generator.next().events {
            let name = match &event {
                Event::Create { at, .. } => {
                    assert!(!at.parent.is_kept_area());
                    "create"
                }
                Event::Link { .. } => "link",
                Event::Remove { .. } => "remove",
                Event::Rename { from, to, .. } => {
                    parked += usize::from(to.parent.is_kept_area());
                    revived += usize::from(from.parent.is_kept_area());
                    "rename"
                }
                Event::Write { data: Payload::Inline(data), .. } => {
                    longest = longest.max(data.len());
                    "write"
                }
                Event::Write { .. } => "no inline payload",
                Event::Punch { .. } => "punch",
                Event::Resize { .. } => "resize",
                Event::SetAttributes { .. } => "attributes",
                Event::SetXattrs { .. } => "xattrs",
                Event::Mark(_) => "mark",
            };
            *seen.entry(name).or_default() += 1;
        }
    }
    assert_eq!(seen.len(), 10, "{seen:?}");
    assert!(seen.values().all(|count| *count > 20), "{seen:?}");
    assert!(parked > 20 && revived > parked, "{parked} {revived}");
    assert!(longest > 4000 && longest <= WRITE_BYTES_MAX);
}

#[test]
fn the_same_seed_makes_the_same_captures() {
    let captures = |seed| {
        let mut generator = Generator::new(seed, Options::default());
        (0..50).map(|_| generator.next()).collect::<Vec<Capture>>()
    };
    assert_eq!(captures(3), captures(3));
    assert_ne!(captures(3), captures(4));
}

/// The plainest applier there can be: each event is one call or two, then all attributes are set from the model. That
/// the simulated tree then equals the model shows that both mean the same; the product's own applier has to do better.
#[test]
fn the_simulated_tree_can_hold_every_state_of_the_model() {
    for seed in 0..30 {
        let context = format!("seed {seed}");
        let mut generator = Generator::new(seed, Options::default());
        let tree = follow(SimTree::new(1), &mut generator, 100, &context);
        tree.sync().unwrap();
        let after = tree.crash(&mut Rng::new(seed));
        assert_equal(&generator.model.canonical(R), &dump(&after, R).unwrap(), &context);
    }
}

/// The same with the kernel in the place of the simulation: what the simulation takes for granted is true. Without
/// root the nodes belong to whoever runs the test, and closed modes close them to the test too.
#[test]
fn a_real_file_system_can_hold_every_state_of_the_model() {
    let uid = rustix::process::geteuid().as_raw();
    for seed in 0..10 {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("r");
        std::fs::create_dir(&root).unwrap();
        let mut options = Options::default();
        if uid != 0 {
            options = Options { owners: vec![uid], capabilities: false, ..options };
        }
        let tree = OsTree::open(vec![root]).unwrap();
        let tree = follow(tree, &mut Generator::new(seed, options), 100, &format!("seed {seed}"));
        tree.sync().unwrap();
        // Or closed directories would be left behind.
        std::process::Command::new("chmod").arg("-R").arg("u+rwx").arg(directory.path()).status().unwrap();
    }
}

fn follow<T: TreeIo>(tree: T, generator: &mut Generator, captures: usize, context: &str) -> T {
    let mut follower = Follower { tree, model: Model::new(1) };
    for _ in 0..captures {
        for event in &generator.next().events {
            follower.replay(event);
            follower.model.apply_event(R, event);
        }
        for (_, id) in generator.model.paths(R) {
            follower.settle(id);
        }
    }
    let tree = follower.tree;
    assert_equal(&generator.model.canonical(R), &dump(&tree, R).unwrap(), context);
    let (expected, found) = (generator.model.canonical_kept(R), dump_kept(&tree, R).unwrap());
    assert_eq!(expected.keys().collect::<Vec<_>>(), found.keys().collect::<Vec<_>>(), "{context}: kept");
    tree
}

/// Applies events to a tree, finding nodes by where a model that has seen the same events has them.
struct Follower<T> {
    tree: T,
    model: Model,
}

impl<T: TreeIo> Follower<T> {
    fn dir(&self, id: NodeId) -> T::Dir {
        if id == NodeId::root(R) {
            return self.tree.root(R).unwrap();
        }
        if id == NodeId::kept(R) {
            return self.tree.kept(R).unwrap();
        }
        let edge = &self.model.node(id).unwrap().names[0];
        self.tree.open_dir(&self.dir(edge.parent), &edge.name).unwrap()
    }

    fn place(&self, id: NodeId) -> (T::Dir, Name) {
        let edge = &self.model.node(id).unwrap().names[0];
        (self.dir(edge.parent), edge.name.clone())
    }

    fn rename(&self, from: &Edge, to: &Edge) {
        let (a, b) = (self.dir(from.parent), self.dir(to.parent));
        self.tree.rename((&a, &from.name), (&b, &to.name)).unwrap();
    }

    fn replay(&self, event: &Event) {
        let file = |node: NodeId| {
            let (dir, name) = self.place(node);
            self.tree.open_file(&dir, &name, true).unwrap()
        };
        match event {
            Event::Create { at, meta, .. } => {
                self.tree.create(&self.dir(at.parent), &at.name, &meta.kind).unwrap();
            }
            Event::Link { node, at, .. } => {
                let (dir, name) = self.place(*node);
                self.tree.link((&dir, &name), (&self.dir(at.parent), &at.name)).unwrap();
            }
            Event::Remove { node, at, .. } => {
                if self.model.node(*node).unwrap().names.len() > 1 {
                    self.tree.unlink(&self.dir(at.parent), &at.name).unwrap();
                } else {
                    self.rename(at, &Edge::new(NodeId::kept(R), node.kept_name()));
                }
            }
            Event::Rename { from, to, .. } => self.rename(from, to),
            Event::Write { node, offset, data: Payload::Inline(data), .. } => {
                file(*node).write_at(data, *offset).unwrap();
            }
            Event::Punch { node, offset, bytes } => file(*node).punch(*offset, *bytes).unwrap(),
            Event::Resize { node, size } => file(*node).set_len(*size).unwrap(),
            _ => {}
        }
    }

    fn settle(&self, id: NodeId) {
        let meta = &self.model.node(id).unwrap().meta;
        if id == NodeId::root(R) {
            let dir = self.dir(id);
            self.tree.set_dir_attributes(&dir, &meta.attributes).unwrap();
            self.tree.set_dir_xattrs(&dir, &meta.xattrs).unwrap();
            return;
        }
        let (dir, name) = self.place(id);
        self.tree.set_attributes(&dir, &name, &meta.attributes, &meta.kind).unwrap();
        self.tree.set_xattrs(&dir, &name, &meta.kind, &meta.xattrs).unwrap();
    }
}

#[test]
fn a_node_with_two_names_keeps_the_other_one() {
    let mut model = Model::new(1);
    let root = NodeId::root(R);
    let at = |name: &str| Edge::new(root, Name::new(name.as_bytes()).unwrap());
    let node = NodeId::FIRST_FREE;
    let meta = journal::Meta {
        kind: Kind::File,
        size: 0,
        attributes: model.node(root).unwrap().meta.attributes,
        xattrs: vec![],
    };
    let mut lsn = 0;
    let mut apply = |model: &mut Model, events: Vec<Event>| {
        lsn += 1;
        model.apply(&Capture {
            lsn: Lsn::captured(lsn),
            time: journal::Timestamp(0),
            provenance: journal::Provenance::Derived,
            root: R,
            path: vec![],
            events,
        });
    };
    let parent_mtime = Some(journal::Timestamp(9));
    apply(
        &mut model,
        vec![
            Event::Create { node, at: at("a"), meta, origin: None, parent_mtime: None },
            Event::Link { node, at: at("b"), parent_mtime },
            Event::Write { node, offset: 2, data: Payload::Inline(b"xy"[..].into()), before: None },
        ],
    );
    let tree = model.canonical(R);
    assert_eq!(tree[b"b".as_slice()].first_name, b"a");
    assert_eq!(*tree[b"b".as_slice()].content, b"\0\0xy");
    assert_eq!(tree[b"".as_slice()].attributes.mtime, journal::Timestamp(9));
    apply(&mut model, vec![Event::Remove { node, at: at("a"), parent_mtime: None }]);
    assert_eq!(model.canonical(R)[b"b".as_slice()].first_name, b"b");
    assert!(model.canonical_kept(R).is_empty());
    apply(&mut model, vec![Event::Remove { node, at: at("b"), parent_mtime: None }]);
    assert_eq!(model.canonical_kept(R)[b"1000".as_slice()].size, 4);
    assert_eq!(model.canonical(R).len(), 1);
    assert_eq!(model.canonical_at(Lsn::captured(1), R).len(), 3);
    assert_eq!(model.canonical_at(Lsn::ZERO, R).len(), 1);
}
