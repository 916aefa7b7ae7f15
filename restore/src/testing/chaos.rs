//! Random histories.

use super::tree::MemTree;
use super::world::World;
use crate::rewind::ReplicaControl;
use bytes::Bytes;
use journal::view::View;
use journal::{Attributes, Edge, Event, Kind, Lsn, Meta, Name, NodeId, Payload, RootNo, Timestamp, Xattrs};

const ROOT: RootNo = RootNo(0);

/// Random valid captures for a world of one root: every kind of event, swaps and hard links among them.
pub(crate) struct Chaos {
    state: u64,
    next_node: u64,
    clock: i64,
}

impl Chaos {
    pub fn new(seed: u64) -> Self {
        Chaos { state: seed, next_node: NodeId::FIRST_FREE.0, clock: 1 }
    }

    pub fn below(&mut self, n: u64) -> u64 {
        // SplitMix64.
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((u128::from(z ^ (z >> 31)) * u128::from(n)) >> 64) as u64
    }

    fn attributes(&mut self) -> Attributes {
        self.clock += 1;
        let (mode, uid) = (0o600 + self.below(8) as u32, self.below(3) as u32);
        Attributes { mode, uid, gid: 0, mtime: Timestamp(self.clock), ctime: Timestamp(self.clock) }
    }

    fn xattrs(&mut self) -> Xattrs {
        match self.below(4) {
            0 => vec![(b"user.a".to_vec(), vec![self.below(9) as u8])],
            1 => vec![(b"security.capability".to_vec(), vec![self.below(9) as u8])],
            _ => Vec::new(),
        }
    }

    fn bytes(&mut self) -> Bytes {
        let most = if self.below(4) == 0 { 90_000 } else { 6000 };
        let length = 1 + self.below(most) as usize;
        let fill = self.below(4) as u8;
        let mut bytes = vec![fill; length];
        bytes[length / 2] = self.below(256) as u8;
        Bytes::from(bytes)
    }

    /// One capture on the present tree.
    pub fn step(&mut self, world: &World) -> Lsn {
        if world.applied() == Lsn::ZERO {
            // As a synchronization would: a root has no row before its attributes are known.
            let attributes = self.attributes();
            return world.capture(ROOT, vec![Event::SetAttributes { node: NodeId::root(ROOT), attributes }]);
        }
        let view = world.view_at(world.applied());
        let nodes: Vec<(Vec<u8>, NodeId)> = world.nodes(&view, ROOT).into_iter().collect();
        loop {
            let chosen = self.choose(&view, &nodes);
            let events = match self.below(4) {
                0 => self.comes(&view, &chosen),
                1 | 2 => self.moves(&view, &chosen),
                _ => self.changes(&view, &chosen),
            };
            if let Some(events) = events {
                return world.capture(ROOT, events);
            }
        }
    }

    fn choose(&mut self, view: &View<MemTree>, nodes: &[(Vec<u8>, NodeId)]) -> Chosen {
        let (path, node) = nodes[self.below(nodes.len() as u64) as usize].clone();
        let (other_path, other) = nodes[self.below(nodes.len() as u64) as usize].clone();
        let (dir_path, dir) =
            if is_dir(view, other) { (other_path.clone(), other) } else { (Vec::new(), NodeId::root(ROOT)) };
        let free = Edge::new(dir, Name::new(format!("n{}", self.below(12)).as_bytes()).unwrap());
        let taken = view.lookup(&free).unwrap().is_some();
        let mtime = (self.below(3) > 0).then(|| self.attributes().mtime);
        Chosen { path, node, other_path, other, dir_path, free: (!taken).then_some(free), mtime }
    }

    /// Something new, or something that was removed, with all it holds.
    fn comes(&mut self, view: &View<MemTree>, chosen: &Chosen) -> Option<Vec<Event>> {
        let at = chosen.free.clone()?;
        if self.below(5) == 0 {
            let kept = NodeId::kept(ROOT);
            let removed = view.list(kept).map(|entry| entry.unwrap()).filter(|(_, node)| node.0 >> 63 == 0);
            let removed: Vec<(Name, NodeId)> = removed.collect();
            let number = self.below(removed.len().max(1) as u64) as usize;
            let (name, node) = removed.get(number)?.clone();
            let from = Edge::new(kept, name);
            let to_parent_mtime = chosen.mtime;
            return Some(vec![Event::Rename {
                node,
                from,
                to: at,
                from_parent_mtime: None,
                to_parent_mtime,
            }]);
        }
        let kind = match self.below(8) {
            0..=2 => Kind::Directory,
            3 => Kind::Symlink(b"../x".to_vec()),
            4 if self.below(3) == 0 => Kind::CharDevice(259),
            _ => Kind::File,
        };
        let node = NodeId(self.next_node);
        self.next_node += 1;
        let meta = Meta { kind, size: 0, attributes: self.attributes(), xattrs: self.xattrs() };
        let (xattrs, file) = (meta.xattrs.clone(), meta.kind.is_file());
        let mut events = vec![Event::Create { node, at, meta, origin: None, parent_mtime: chosen.mtime }];
        if file {
            let data = Payload::Inline(self.bytes());
            events.push(Event::Write { node, offset: self.below(9000), data, before: None });
            // The write took a capability away.
            events.push(Event::SetXattrs { node, xattrs });
        }
        Some(events)
    }

    /// Links, removals, renames, and swaps by way of the kept area.
    fn moves(&mut self, view: &View<MemTree>, chosen: &Chosen) -> Option<Vec<Event>> {
        let Chosen { path, node, other_path, other, .. } = chosen;
        if path.is_empty() {
            return None;
        }
        let (node, mtime, directory) = (*node, chosen.mtime, is_dir(view, *node));
        let here = edge(view, path);
        let rename = |node, from: &Edge, to: &Edge| Event::Rename {
            node,
            from: from.clone(),
            to: to.clone(),
            from_parent_mtime: mtime,
            to_parent_mtime: mtime,
        };
        match self.below(6) {
            0 => Some(vec![Event::Remove { node, at: here, parent_mtime: mtime }]),
            1 if !directory => {
                Some(vec![Event::Link { node, at: chosen.free.clone()?, parent_mtime: mtime }])
            }
            2 | 3 if !(directory && is_below(&chosen.dir_path, path)) => {
                Some(vec![rename(node, &here, chosen.free.as_ref()?)])
            }
            4 if node != *other && !is_below(path, other_path) && !is_below(other_path, path) => {
                let there = edge(view, other_path);
                let kept = Edge::new(NodeId::kept(ROOT), node.kept_name());
                Some(vec![
                    rename(node, &here, &kept),
                    rename(*other, &there, &here),
                    rename(node, &kept, &there),
                ])
            }
            _ => None,
        }
    }

    /// Bytes and metadata.
    fn changes(&mut self, view: &View<MemTree>, chosen: &Chosen) -> Option<Vec<Event>> {
        let node = chosen.node;
        let file = view.meta(node).unwrap().is_some_and(|meta| meta.kind.is_file());
        let mut events = Vec::new();
        if file {
            let offset = self.below(20_000);
            let write = Event::Write { node, offset, data: Payload::Inline(self.bytes()), before: None };
            let resize = Event::Resize { node, size: self.below(30_000) };
            match self.below(4) {
                0 => events.push(resize),
                1 => events.push(Event::Punch { node, offset, bytes: self.below(20_000) + 1 }),
                2 => events.extend([resize, write]),
                _ => events.push(write),
            }
        } else if self.below(3) > 0 {
            return None;
        }
        if !chosen.path.is_empty() {
            events.push(Event::SetXattrs { node, xattrs: self.xattrs() });
        }
        if !file || self.below(2) == 0 {
            let attributes = self.attributes();
            events.push(Event::SetAttributes { node, attributes });
        }
        Some(events)
    }
}

/// What a step may work on.
struct Chosen {
    path: Vec<u8>,
    node: NodeId,
    other_path: Vec<u8>,
    other: NodeId,
    /// The directory of `free`.
    dir_path: Vec<u8>,
    free: Option<Edge>,
    mtime: Option<Timestamp>,
}

fn is_dir(view: &View<MemTree>, node: NodeId) -> bool {
    node == NodeId::root(ROOT) || view.meta(node).unwrap().unwrap().kind.is_directory()
}

fn is_below(path: &[u8], above: &[u8]) -> bool {
    above.is_empty() || path == above || path.starts_with(&[above, b"/"].concat())
}

fn edge(view: &View<MemTree>, path: &[u8]) -> Edge {
    let (parent, name) = match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&path[..0], path),
    };
    Edge::new(view.resolve(ROOT, parent).unwrap().unwrap(), Name::new(name).unwrap())
}
