//! The steps captures are made of: what people and programs do to a tree between two looks.

use super::Generator;
use journal::{Edge, Event, Kind, NodeId};

impl Generator {
    /// One step of the capture under way.
    pub(super) fn step(&mut self) {
        if self.options.block_bytes > 0
            && self.rng.chance(4, 5)
            && let Some(node) = self.some_file()
        {
            return self.write_block(node);
        }
        let before = self.events.len();
        if self.live().len() > self.options.names_max && self.rng.chance(1, 2) {
            self.remove_some();
        }
        match self.rng.below(64) {
            0..=6 => drop(self.create()),
            7..=18 => self.write_some(),
            19..=22 => self.resize_some(),
            23..=25 => self.punch_some(),
            26 | 27 => self.cut_and_grow(),
            28..=32 => self.move_some(),
            33..=35 => self.move_over(),
            36..=38 => self.swap(),
            39 => self.cycle(),
            40 | 41 => self.invert(),
            42..=45 => self.link_some(),
            46..=48 => self.remove_some(),
            49 | 50 => self.recreate(),
            51 | 52 => self.save_atomically(),
            53 => self.short_lived(),
            54 | 55 => self.dissolve(),
            56 | 57 => self.revive(),
            58..=60 => self.attributes_of_some(),
            _ => self.xattrs_of_some(),
        }
        if self.events.len() == before {
            self.create();
        }
    }

    fn write_block(&mut self, node: NodeId) {
        let bytes = self.options.block_bytes;
        let offset = self.rng.below(self.options.file_bytes_max / bytes) * bytes;
        let data = journal::Payload::Inline(self.rng.bytes(bytes as usize).into());
        self.emit(Event::Write { node, offset, data, before: None });
        self.set_times(node);
    }

    /// A new node of any kind, files with or without bytes.
    pub(super) fn create(&mut self) -> NodeId {
        let dir = self.some_dir();
        let at = self.free_edge(dir);
        let kind = match self.rng.below(10) {
            0..=5 => Kind::File,
            6..=7 => Kind::Directory,
            8 => {
                let length = 1 + self.rng.below(60) as usize;
                Kind::Symlink(self.rng.bytes(length).into_iter().map(|byte| byte | 1).collect())
            }
            _ => Kind::Fifo,
        };
        self.create_as(at, kind)
    }

    fn create_as(&mut self, at: Edge, kind: Kind) -> NodeId {
        let is_file = kind.is_file();
        let node = self.create_at(at, kind);
        if is_file {
            let writes = self.rng.below(4);
            for _ in 0..writes {
                self.write(node);
            }
            if writes > 0 {
                self.set_times(node);
            }
        }
        node
    }

    fn write_some(&mut self) {
        let Some(node) = self.some_file() else { return };
        for _ in 0..1 + self.rng.below(4) {
            self.write(node);
        }
        self.set_times(node);
    }

    fn resize_some(&mut self) {
        let Some(node) = self.some_file() else { return };
        self.resize(node);
        self.set_times(node);
    }

    fn resize(&mut self, node: NodeId) {
        let size = match self.rng.below(4) {
            0 => 0,
            _ => self.rng.below(self.options.file_bytes_max),
        };
        self.emit(Event::Resize { node, size });
    }

    fn punch_some(&mut self) {
        let Some(node) = self.some_file() else { return };
        self.punch(node);
        self.set_times(node);
    }

    fn punch(&mut self, node: NodeId) {
        let size = self.model.node(node).map_or(0, |node| node.meta.size);
        let offset = self.rng.below(size + 10);
        let bytes = 1 + self.rng.below(size + 100);
        self.emit(Event::Punch { node, offset, bytes });
    }

    /// Bytes that go and come again within one capture.
    fn cut_and_grow(&mut self) {
        let Some(node) = self.some_file() else { return };
        for _ in 0..2 + self.rng.below(4) {
            match self.rng.below(4) {
                0 => self.resize(node),
                1 => self.punch(node),
                _ => self.write(node),
            }
        }
        self.set_times(node);
    }

    fn move_some(&mut self) {
        let Some((from, node)) = self.some_name(|_| true) else { return };
        let dir = self.some_dir();
        if self.model.is_within(dir, node) {
            return;
        }
        let to = self.free_edge(dir);
        self.rename(node, from, to);
    }

    /// Two names of different nodes, neither of which lies in the other node or is moved by moving it.
    fn apart(&mut self) -> Option<[(Edge, NodeId); 2]> {
        let (a, b) = (self.some_name(|_| true)?, self.some_name(|_| true)?);
        // Asked of the names, not the nodes: a file with several may have one in the other node and one elsewhere.
        let within = |edge: &Edge, node| self.model.is_within(edge.parent, node);
        (a.1 != b.1 && !within(&a.0, b.1) && !within(&b.0, a.1)).then_some([a, b])
    }

    fn move_over(&mut self) {
        let Some([(from, node), (to, target)]) = self.apart() else { return };
        self.remove(target, to.clone());
        self.rename(node, from, to);
    }

    /// Two names change places, through the kept area.
    fn swap(&mut self) {
        let Some([(at_a, a), (at_b, b)]) = self.apart() else { return };
        let parked = self.parking(a);
        self.rename(a, at_a.clone(), parked.clone());
        self.rename(b, at_b.clone(), at_a);
        self.rename(a, parked, at_b);
    }

    fn parking(&self, node: NodeId) -> Edge {
        Edge::new(NodeId::kept(self.root), node.kept_name())
    }

    /// Three names of one directory move round.
    fn cycle(&mut self) {
        let dir = self.some_dir();
        let entries = self.model.node(dir).map(|node| node.entries.clone()).unwrap_or_default();
        let mut found: Vec<(Edge, NodeId)> =
            entries.into_iter().map(|(name, id)| (Edge::new(dir, name), id)).collect();
        found.dedup_by_key(|(_, id)| *id);
        let [(at_a, a), (at_b, b), (at_c, c), ..] = found.as_slice() else { return };
        if a == c {
            return;
        }
        let parked = self.parking(*a);
        self.rename(*a, at_a.clone(), parked.clone());
        self.rename(*b, at_b.clone(), at_a.clone());
        self.rename(*c, at_c.clone(), at_b.clone());
        self.rename(*a, parked, at_c.clone());
    }

    /// `a/b` becomes `b/a`, or `a/b` takes the place of `a` with `a` inside.
    fn invert(&mut self) {
        let Some((at_b, b)) = self.some_name(Kind::is_directory) else { return };
        let a = at_b.parent;
        let Some(at_a) = self.model.node(a).and_then(|node| node.names.first()).cloned() else { return };
        let out = self.free_edge(at_a.parent);
        self.rename(b, at_b, out.clone());
        let inside = self.free_edge(b);
        self.rename(a, at_a.clone(), inside);
        if self.rng.chance(1, 2) {
            self.rename(b, out, at_a);
        }
    }

    fn link_some(&mut self) {
        let Some((_, node)) = self.some_name(|kind| !kind.is_directory()) else { return };
        let dir = self.some_dir();
        let at = self.free_edge(dir);
        let parent_mtime = self.name_time();
        self.emit(Event::Link { node, at, parent_mtime });
    }

    fn remove_some(&mut self) {
        if let Some((at, node)) = self.some_name(|_| true) {
            self.remove(node, at);
        }
    }

    /// Another node under the same name.
    fn recreate(&mut self) {
        let Some((at, node)) = self.some_name(|_| true) else { return };
        let same = self.model.node(node).map_or(Kind::File, |node| node.meta.kind.clone());
        let kind = match self.rng.below(3) {
            0 => Kind::Directory,
            1 => Kind::File,
            _ => same,
        };
        self.remove(node, at.clone());
        self.create_as(at, kind);
    }

    /// What editors do: a new file beside the old one, then a rename over it.
    fn save_atomically(&mut self) {
        let Some((at, old)) = self.some_name(Kind::is_file) else { return };
        let beside = self.free_edge(at.parent);
        let new = self.create_as(beside.clone(), Kind::File);
        self.remove(old, at.clone());
        self.rename(new, beside, at);
    }

    /// Comes and goes within one capture.
    fn short_lived(&mut self) {
        let dir = self.some_dir();
        let at = self.free_edge(dir);
        let kind = if self.rng.chance(1, 3) { Kind::Directory } else { Kind::File };
        let node = self.create_as(at.clone(), kind);
        self.remove(node, at);
    }

    /// A directory's children move out, then it goes.
    fn dissolve(&mut self) {
        let Some((at, node)) = self.some_name(Kind::is_directory) else { return };
        let entries = self.model.node(node).map(|node| node.entries.clone()).unwrap_or_default();
        for (name, child) in entries {
            if self.rng.chance(3, 4) {
                let to = self.free_edge(at.parent);
                self.rename(child, Edge::new(node, name), to);
            }
        }
        self.remove(node, at);
    }

    /// Something comes back from the kept area, or from inside a directory that lies there.
    fn revive(&mut self) {
        if !self.options.revive {
            return;
        }
        let kept = self.names_below(NodeId::kept(self.root));
        let Some((from, node)) = self.rng.pick(&kept).cloned() else { return };
        let dir = self.some_dir();
        let to = self.free_edge(dir);
        self.rename(node, from, to);
    }

    fn attributes_of_some(&mut self) {
        let node = match self.some_name(|_| true) {
            Some((_, node)) if self.rng.chance(7, 8) => node,
            _ => NodeId::root(self.root),
        };
        self.set_attributes(node);
    }

    fn xattrs_of_some(&mut self) {
        let root = NodeId::root(self.root);
        let chosen = self.some_name(|kind| kind.is_file() || kind.is_directory());
        let node = chosen.map_or(root, |(_, node)| node);
        let kind = if self.is_kind(node, Kind::is_file) { Kind::File } else { Kind::Directory };
        let xattrs = self.xattrs(&kind);
        self.emit(Event::SetXattrs { node, xattrs });
        if !self.is_silent() {
            self.set_attributes(node);
        }
    }
}
