//! Sums that follow batches against sums over all rows.

use super::{Digests, counted, digests};
use crate::digest::Digest;
use crate::event::{Capture, Event, Provenance};
use crate::id::{Edge, Name, NodeId, RootNo};
use crate::lsn::Lsn;
use crate::meta::{Attributes, Kind, Meta, Timestamp};
use crate::random::Random;
use crate::state::rows::{self, NodeRow};
use crate::state::{State, Transition};
use crate::tables::{MemoryTables, Space, Tables};

fn meta(kind: Kind, mtime: i64) -> Meta {
    let attributes =
        Attributes { mode: 0o644, uid: 1, gid: 2, mtime: Timestamp(mtime), ctime: Timestamp(mtime) };
    Meta { kind, size: 0, attributes, xattrs: Vec::new() }
}

/// Draws events that fit the state they meet, kept areas included.
struct History {
    random: Random,
    next: u64,
    lsn: u64,
    edges: Vec<(Edge, NodeId)>,
}

impl History {
    fn place(&mut self, state: &impl State) -> Option<Edge> {
        let directories: Vec<NodeId> = (self.edges.iter().map(|(_, node)| *node))
            .filter(|node| state.node(*node).unwrap().is_some_and(|row| row.meta.kind.is_directory()))
            .chain([NodeId::root(RootNo(0)), NodeId::root(RootNo(1))])
            .collect();
        let parent = directories[self.random.below(directories.len())];
        let edge = Edge::new(parent, Name::new(&[b'a' + self.random.below(6) as u8]).unwrap());
        state.name(&edge).unwrap().is_none().then_some(edge)
    }

    fn is_below(state: &impl State, node: NodeId, above: NodeId) -> bool {
        let mut at = node;
        while at.as_root_or_kept().is_none() {
            if at == above {
                return true;
            }
            at = state.own_link(at).unwrap().unwrap().0.parent;
        }
        false
    }

    fn home(state: &impl State, node: NodeId) -> RootNo {
        let mut at = node;
        while at.as_root_or_kept().is_none() {
            at = state.own_link(at).unwrap().unwrap().0.parent;
        }
        at.as_root_or_kept().unwrap()
    }

    fn draw(&mut self, state: &impl State) -> Option<Event> {
        let taken = |history: &mut Self| {
            let number = history.random.below(history.edges.len());
            history.edges.get(number).cloned()
        };
        let parent_mtime = (self.random.below(2) == 0).then_some(Timestamp(self.lsn as i64));
        Some(match self.random.below(10) {
            0..=3 => {
                let at = self.place(state)?;
                self.next += 1;
                let kind = if self.random.below(3) == 0 { Kind::Directory } else { Kind::File };
                let meta = meta(kind, self.lsn as i64);
                Event::Create { node: NodeId(self.next), at, meta, origin: None, parent_mtime }
            }
            4 => {
                let (_, node) = taken(self)?;
                let at = self.place(state)?;
                let row = state.node(node).unwrap().unwrap();
                if row.meta.kind.is_directory() || Self::home(state, at.parent) != Self::home(state, node) {
                    return None;
                }
                Event::Link { node, at, parent_mtime }
            }
            5 | 6 => {
                let (at, node) = taken(self)?;
                if at.parent.is_kept_area() {
                    return None;
                }
                Event::Remove { node, at, parent_mtime }
            }
            7 | 8 => {
                let (from, node) = taken(self)?;
                let to = self.place(state)?;
                if Self::is_below(state, to.parent, node)
                    || Self::home(state, to.parent) != Self::home(state, node)
                {
                    return None;
                }
                Event::Rename { node, from, to, from_parent_mtime: None, to_parent_mtime: parent_mtime }
            }
            _ => {
                let (_, node) = taken(self)?;
                Event::SetAttributes { node, attributes: meta(Kind::File, self.lsn as i64).attributes }
            }
        })
    }
}

fn live(tables: &dyn Tables) -> Vec<(Edge, NodeId)> {
    tables
        .range(Space::Names, &[], &[0xff; 300])
        .map(|row| row.unwrap())
        .map(|(key, value)| (rows::edge_of_name_key(&key).unwrap(), NodeId::from_key(&value).unwrap()))
        .collect()
}

fn history(seed: u64) {
    let tables = MemoryTables::default();
    let mut history = History { random: Random(seed), next: 5000, lsn: 0, edges: Vec::new() };
    for _ in 0..60 {
        let mut transition = Transition::new(&tables);
        for _ in 0..1 + history.random.below(12) {
            history.lsn += 1;
            let Some(event) = history.draw(transition.state()) else { continue };
            let capture = Capture {
                lsn: Lsn::captured(history.lsn),
                time: Timestamp(0),
                provenance: Provenance::Derived,
                root: RootNo(0),
                path: Vec::new(),
                events: vec![event],
            };
            transition.capture(&capture, &Vec::new(), None).unwrap();
            // Names come from the state under way, so that one batch often touches a thing twice.
            let puts = transition.state().keys_put(Space::Names).map(<[u8]>::to_vec).collect::<Vec<_>>();
            history.edges = live(&tables);
            history.edges.extend(puts.iter().filter_map(|key| {
                let edge = rows::edge_of_name_key(key).unwrap();
                transition.state().name(&edge).unwrap().map(|node| (edge, node))
            }));
            let state = transition.state();
            history.edges.retain(|(edge, node)| state.name(edge).unwrap() == Some(*node));
        }
        tables.commit(transition.finish().unwrap().puts).unwrap();
        history.edges = live(&tables);
        let mut kept: Digests = digests(&tables).unwrap();
        kept.retain(|_, digest| *digest != Digest::default());
        assert_eq!(kept, counted(&tables).unwrap(), "seed {seed}, LSN {}", history.lsn);
    }
    assert!(live(&tables).len() > 10, "seed {seed}: nothing happened");
}

#[test]
fn sums_follow_random_batches() {
    for seed in (0..80).chain([247]) {
        history(seed);
    }
}

#[test]
fn a_wrong_row_shows() {
    let tables = MemoryTables::default();
    let at = Edge::new(NodeId::root(RootNo(0)), Name::new(b"a").unwrap());
    let create =
        Event::Create { node: NodeId(5000), at, meta: meta(Kind::File, 1), origin: None, parent_mtime: None };
    let capture = Capture {
        lsn: Lsn::captured(1),
        time: Timestamp(0),
        provenance: Provenance::Derived,
        root: RootNo(0),
        path: Vec::new(),
        events: vec![create],
    };
    let mut transition = Transition::new(&tables);
    transition.capture(&capture, &Vec::new(), None).unwrap();
    tables.commit(transition.finish().unwrap().puts).unwrap();
    assert_eq!(digests(&tables).unwrap(), counted(&tables).unwrap());
    let dynamic: &dyn Tables = &tables;
    let mut row: NodeRow = State::node(dynamic, NodeId(5000)).unwrap().unwrap();
    row.meta.attributes.mode = 0o600;
    tables.commit(vec![(Space::Nodes, NodeId(5000).to_key().to_vec(), Some(rows::write(&row)))]).unwrap();
    assert_ne!(digests(&tables).unwrap(), counted(&tables).unwrap());
}
