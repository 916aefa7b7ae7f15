//! Random histories.

use super::world::World;
use crate::rewind::ReplicaControl;
use bytes::Bytes;
use journal::{Attributes, Edge, Event, Kind, Lsn, Meta, Name, NodeId, Payload, RootNo, Timestamp, Xattrs};

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
        let root = RootNo(0);
        if world.applied() == Lsn::ZERO {
            // As a synchronization would: a root has no row before its attributes are known.
            let attributes = self.attributes();
            return world.capture(root, vec![Event::SetAttributes { node: NodeId::root(root), attributes }]);
        }
        let view = world.view_at(world.applied());
        let nodes: Vec<(Vec<u8>, NodeId)> = world.nodes(&view, root).into_iter().collect();
        let is_dir = |node: NodeId| {
            node == NodeId::root(root) || view.meta(node).unwrap().unwrap().kind.is_directory()
        };
        let edge = |path: &[u8]| {
            let (parent, name) = match path.iter().rposition(|byte| *byte == b'/') {
                Some(at) => (&path[..at], &path[at + 1..]),
                None => (&path[..0], path),
            };
            Edge::new(view.resolve(root, parent).unwrap().unwrap(), Name::new(name).unwrap())
        };
        loop {
            let (path, node) = nodes[self.below(nodes.len() as u64) as usize].clone();
            let (other_path, other) = nodes[self.below(nodes.len() as u64) as usize].clone();
            let dir = if is_dir(other) { other } else { NodeId::root(root) };
            let free = Edge::new(dir, Name::new(format!("n{}", self.below(12)).as_bytes()).unwrap());
            let taken = view.lookup(&free).unwrap().is_some();
            let below = |path: &[u8], above: &[u8]| {
                above.is_empty() || path == above || path.starts_with(&[above, b"/"].concat())
            };
            let dir_path = if is_dir(other) { other_path.clone() } else { Vec::new() };
            let mtime = (self.below(3) > 0).then(|| self.attributes().mtime);
            let events = match self.below(10) {
                0..=2 if !taken => {
                    let kind = match self.below(8) {
                        0..=2 => Kind::Directory,
                        3 => Kind::Symlink(b"../x".to_vec()),
                        4 if self.below(3) == 0 => Kind::CharDevice(259),
                        _ => Kind::File,
                    };
                    let node = NodeId(self.next_node);
                    self.next_node += 1;
                    let meta = Meta { kind, size: 0, attributes: self.attributes(), xattrs: self.xattrs() };
                    let file = meta.kind.is_file();
                    let mut events = vec![Event::Create {
                        node,
                        at: free,
                        meta: meta.clone(),
                        origin: None,
                        parent_mtime: mtime,
                    }];
                    if file {
                        let data = Payload::Inline(self.bytes());
                        events.push(Event::Write { node, offset: self.below(9000), data, before: None });
                        events.push(Event::SetXattrs { node, xattrs: meta.xattrs });
                    }
                    events
                }
                3 if !path.is_empty() && !is_dir(node) && !taken => {
                    vec![Event::Link { node, at: free, parent_mtime: mtime }]
                }
                4 if !path.is_empty() && self.below(2) == 0 => {
                    vec![Event::Remove { node, at: edge(&path), parent_mtime: mtime }]
                }
                5 | 6 if !(path.is_empty() || taken || is_dir(node) && below(&dir_path, &path)) => {
                    let (from, to) = (edge(&path), free);
                    vec![Event::Rename { node, from, to, from_parent_mtime: mtime, to_parent_mtime: mtime }]
                }
                7 if !path.is_empty()
                    && !other_path.is_empty()
                    && !below(&path, &other_path)
                    && !below(&other_path, &path) =>
                {
                    // A swap, by way of the kept area.
                    let (a, b) = (edge(&path), edge(&other_path));
                    if node == other {
                        continue;
                    }
                    let kept = Edge::new(NodeId::kept(root), node.kept_name());
                    let rename = |node, from: &Edge, to: &Edge| Event::Rename {
                        node,
                        from: from.clone(),
                        to: to.clone(),
                        from_parent_mtime: mtime,
                        to_parent_mtime: None,
                    };
                    vec![rename(node, &a, &kept), rename(other, &b, &a), rename(node, &kept, &b)]
                }
                8 if path.is_empty() || self.below(2) == 0 => {
                    let attributes = self.attributes();
                    let mut events = vec![Event::SetAttributes { node, attributes }];
                    if !path.is_empty() {
                        events.push(Event::SetXattrs { node, xattrs: self.xattrs() });
                    }
                    events
                }
                9 if view.meta(node).unwrap().is_some_and(|meta| meta.kind.is_file()) => {
                    let offset = self.below(20_000);
                    let data = Payload::Inline(self.bytes());
                    let mut events = match self.below(4) {
                        0 => vec![Event::Resize { node, size: self.below(30_000) }],
                        1 => vec![Event::Punch { node, offset, bytes: self.below(20_000) + 1 }],
                        2 => vec![
                            Event::Resize { node, size: self.below(30_000) },
                            Event::Write { node, offset, data, before: None },
                        ],
                        _ => vec![Event::Write { node, offset, data, before: None }],
                    };
                    events.push(Event::SetXattrs { node, xattrs: self.xattrs() });
                    if self.below(2) == 0 {
                        let attributes = self.attributes();
                        events.push(Event::SetAttributes { node, attributes });
                    }
                    events
                }
                _ => continue,
            };
            return world.capture(root, events);
        }
    }
}
