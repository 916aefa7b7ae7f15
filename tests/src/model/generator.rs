//! Random captures that are valid for the tree the earlier ones made.
//!
//! The generator keeps a model of its own and applies every event to it at once, so that each step of a capture of
//! several sees what the steps before it did. It prefers what is hard to take back: few names used again and again,
//! a few hot files written in overlapping pieces, removals of whole directories, names that change places.

mod steps;

use super::Model;
use bytes::Bytes;
use journal::{
    Attributes, Capture, Class, Edge, Event, Kind, Lsn, Marker, Meta, Name, NodeId, Origin, Payload,
    Provenance, RootNo, Timestamp, Xattrs,
};

use crate::rng::Rng;
use std::sync::Arc;

/// What a [`Generator`] does and how much of it.
#[derive(Clone, Debug)]
pub struct Options {
    /// Number of roots.
    pub roots: u16,
    /// About this many names are kept below each root.
    pub names_max: usize,
    /// Longest file, in bytes.
    pub file_bytes_max: u64,
    /// Longest write, in bytes.
    pub write_bytes_max: u64,
    /// Most steps in one capture; one step makes one to about eight events.
    pub steps_max: u64,
    /// One write or name event in this many says nothing of times; 0: none. Times must then stay as they were.
    pub silent_one_in: u64,
    /// Whether removed nodes come back now and then by a rename out of the kept area.
    pub revive: bool,
    /// Whether some files carry capabilities (`security.capability`, needs root on a real file system).
    pub capabilities: bool,
    /// Whether writes carry the hash of what they replace, half of the time.
    pub before_hashes: bool,
    /// Unless 0, four steps in five write one block of this many bytes of a file, as databases do.
    pub block_bytes: u64,
    /// Owners and groups to choose from.
    pub owners: Vec<u32>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            roots: 1,
            names_max: 40,
            file_bytes_max: 20_000,
            write_bytes_max: 6_000,
            steps_max: 4,
            silent_one_in: 8,
            revive: true,
            capabilities: true,
            before_hashes: true,
            block_bytes: 0,
            owners: vec![0, 1000, 65_534],
        }
    }
}

/// A source of random valid captures, LSN 1 first.
#[derive(Clone, Debug)]
pub struct Generator {
    /// The trees as the captures so far made them, at every LSN.
    pub model: Model,
    rng: Rng,
    options: Options,
    next_node: u64,
    captured: u64,
    clock: i64,
    /// The capture under way.
    root: RootNo,
    events: Vec<Event>,
    path: Vec<u8>,
}

impl Generator {
    /// The sequence of this seed.
    #[must_use]
    pub fn new(seed: u64, options: Options) -> Generator {
        Generator {
            model: Model::new(options.roots),
            rng: Rng::new(seed),
            options,
            next_node: NodeId::FIRST_FREE.0,
            captured: 0,
            clock: 1_700_000_000_000_000_000,
            root: RootNo(0),
            events: Vec::new(),
            path: Vec::new(),
        }
    }

    /// The next capture. Never empty; the model has it already.
    #[expect(clippy::should_implement_trait, reason = "it never ends, so it is no iterator")]
    pub fn next(&mut self) -> Capture {
        self.root = RootNo(self.rng.below(u64::from(self.options.roots)) as u16);
        if self.captured < u64::from(self.options.roots) {
            self.root = RootNo(self.captured as u16);
            self.begin();
        } else if self.rng.chance(1, 40) {
            let class = if self.rng.chance(1, 3) { Class::Application } else { Class::Fuzzy };
            self.emit(Event::Mark(Marker::Barrier { cookie: self.rng.clone().next_u64(), class }));
        } else {
            let steps = if self.rng.chance(2, 3) { 1 } else { 1 + self.rng.below(self.options.steps_max) };
            for _ in 0..steps {
                self.step();
            }
        }
        self.captured += 1;
        let capture = Capture {
            lsn: Lsn::captured(self.captured),
            time: self.tick(),
            provenance: Provenance::Derived,
            root: self.root,
            path: std::mem::take(&mut self.path),
            events: std::mem::take(&mut self.events),
        };
        self.model.last = capture.lsn;
        self.model.history.insert(capture.lsn, self.model.nodes.clone());
        capture
    }

    /// What a synchronization would find.
    fn begin(&mut self) {
        let root = NodeId::root(self.root);
        self.set_attributes(root);
        for _ in 0..6 {
            self.create();
        }
    }

    fn emit(&mut self, event: Event) {
        self.model.apply_event(self.root, &event);
        self.events.push(event);
    }

    fn tick(&mut self) -> Timestamp {
        self.clock += 1 + self.rng.below(2_000_000_000) as i64;
        Timestamp(self.clock)
    }

    fn is_silent(&mut self) -> bool {
        self.options.silent_one_in != 0 && self.rng.chance(1, self.options.silent_one_in)
    }

    fn name_time(&mut self) -> Option<Timestamp> {
        if self.is_silent() { None } else { Some(self.tick()) }
    }

    // What there is to choose from.

    /// All names below the root, but not the root's own.
    fn live(&self) -> Vec<(Edge, NodeId)> {
        self.names_below(NodeId::root(self.root))
    }

    fn names_below(&self, top: NodeId) -> Vec<(Edge, NodeId)> {
        let mut found = Vec::new();
        let mut rest = vec![top];
        while let Some(parent) = rest.pop() {
            let Some(node) = self.model.node(parent) else { continue };
            for (name, id) in &node.entries {
                found.push((Edge::new(parent, name.clone()), *id));
                rest.push(*id);
            }
        }
        found
    }

    fn is_kind(&self, id: NodeId, test: impl Fn(&Kind) -> bool) -> bool {
        self.model.node(id).is_some_and(|node| test(&node.meta.kind))
    }

    fn some_name(&mut self, test: impl Fn(&Kind) -> bool) -> Option<(Edge, NodeId)> {
        let mut names = self.live();
        names.retain(|(_, id)| self.is_kind(*id, &test));
        let chosen = self.rng.pick(&names).cloned()?;
        self.path = self.model.paths(self.root).into_iter().find(|(_, id)| *id == chosen.1)?.0;
        Some(chosen)
    }

    /// A file; half of the time one of the few oldest, so that these are written over and over.
    fn some_file(&mut self) -> Option<NodeId> {
        let mut files: Vec<NodeId> = self.live().into_iter().map(|(_, id)| id).collect();
        files.retain(|id| self.is_kind(*id, Kind::is_file));
        files.sort_unstable();
        files.dedup();
        if self.rng.chance(1, 2) {
            files.truncate(2);
        }
        self.rng.pick(&files).copied()
    }

    fn some_dir(&mut self) -> NodeId {
        let mut dirs: Vec<NodeId> = self.live().into_iter().map(|(_, id)| id).collect();
        dirs.retain(|id| self.is_kind(*id, Kind::is_directory));
        dirs.push(NodeId::root(self.root));
        self.rng.pick(&dirs).copied().unwrap_or(NodeId::root(self.root))
    }

    fn free_edge(&mut self, dir: NodeId) -> Edge {
        const NAMES: [&[u8]; 8] = [b"a", b"b", b"c", b"d", b"e", b"f g\n", b"\xff\xfe", &[b'n'; 255]];
        loop {
            let bytes = match self.rng.pick(&NAMES) {
                Some(bytes) if self.rng.chance(7, 8) => bytes.to_vec(),
                _ => format!("n{}", self.rng.below(1000)).into_bytes(),
            };
            let Some(name) = Name::new(&bytes) else { continue };
            if self.model.node(dir).is_some_and(|node| !node.entries.contains_key(&name)) {
                return Edge::new(dir, name);
            }
        }
    }

    // Values.

    fn attributes(&mut self, mtime: Timestamp) -> Attributes {
        const MODES: [u32; 9] = [0o644, 0o600, 0o755, 0o700, 0o4755, 0o2711, 0o1777, 0o000, 0o444];
        let mode = self.rng.pick(&MODES).copied().unwrap_or(0o644);
        let owners = self.options.owners.clone();
        let uid = self.rng.pick(&owners).copied().unwrap_or(0);
        let gid = self.rng.pick(&owners).copied().unwrap_or(0);
        Attributes { mode, uid, gid, mtime, ctime: self.tick() }
    }

    /// None for links and pipes: the kernel takes no `user.*` there.
    fn xattrs(&mut self, kind: &Kind) -> Xattrs {
        let mut set = Xattrs::new();
        if !kind.is_file() && !kind.is_directory() {
            return set;
        }
        if kind.is_file() && self.options.capabilities && self.rng.chance(1, 3) {
            // Version 2, CAP_NET_BIND_SERVICE permitted.
            let mut value = vec![0; 20];
            (value[3], value[5]) = (2, 4);
            set.push((b"security.capability".to_vec(), value));
        }
        for name in [b"user.a".as_slice(), b"user.b"] {
            if self.rng.chance(1, 2) {
                let length = self.rng.below(40) as usize;
                set.push((name.to_vec(), self.rng.bytes(length)));
            }
        }
        set
    }

    fn origin(&mut self) -> Option<Origin> {
        let known = self.rng.chance(3, 4);
        let origin = Origin {
            device: 1,
            inode: self.next_node,
            generation: self.rng.below(1 << 32),
            birth: self.clock,
        };
        known.then_some(origin)
    }

    // Single events.

    fn set_attributes(&mut self, node: NodeId) {
        let mtime = self.tick();
        let attributes = self.attributes(mtime);
        self.emit(Event::SetAttributes { node, attributes });
    }

    /// What a changed file looks like afterwards: the same, later.
    fn set_times(&mut self, node: NodeId) {
        if self.is_silent() {
            return;
        }
        let now = self.tick();
        if let Some(attributes) = self.model.node(node).map(|node| node.meta.attributes) {
            self.emit(Event::SetAttributes {
                node,
                attributes: Attributes { mtime: now, ctime: now, ..attributes },
            });
        }
    }

    fn create_at(&mut self, at: Edge, kind: Kind) -> NodeId {
        let node = NodeId(self.next_node);
        let mtime = self.tick();
        let attributes = self.attributes(mtime);
        let meta = Meta { size: 0, attributes, xattrs: self.xattrs(&kind), kind };
        let (origin, parent_mtime) = (self.origin(), self.name_time());
        self.next_node += 1;
        self.emit(Event::Create { node, at, meta, origin, parent_mtime });
        node
    }

    fn rename(&mut self, node: NodeId, from: Edge, to: Edge) {
        let (from_parent_mtime, to_parent_mtime) = (self.name_time(), self.name_time());
        let kept = |edge: &Edge| edge.parent.is_kept_area();
        let from_parent_mtime = from_parent_mtime.filter(|_| !kept(&from));
        let to_parent_mtime = to_parent_mtime.filter(|_| !kept(&to));
        self.emit(Event::Rename { node, from, to, from_parent_mtime, to_parent_mtime });
    }

    fn remove(&mut self, node: NodeId, at: Edge) {
        let parent_mtime = self.name_time();
        self.emit(Event::Remove { node, at, parent_mtime });
    }

    fn write(&mut self, node: NodeId) {
        let size = self.model.node(node).map_or(0, |node| node.meta.size);
        let most = if self.rng.chance(1, 3) { 40 } else { self.options.write_bytes_max };
        let bytes = 1 + self.rng.below(most);
        let limit = self.options.file_bytes_max.saturating_sub(bytes);
        let offset = self.rng.below(limit.min(size + 500) + 1);
        let data = if self.rng.chance(1, 10) { vec![0; bytes as usize] } else { self.random(bytes) };
        let data = Bytes::from(self.as_people_write(node, offset, data));
        let before = self.before(node, offset, bytes);
        self.emit(Event::Write { node, offset, data: Payload::Inline(data), before });
    }

    /// Never 0, so that bytes can be told from holes.
    fn random(&mut self, bytes: u64) -> Vec<u8> {
        let mut data = self.rng.bytes(bytes as usize);
        data.iter_mut().for_each(|byte| *byte |= 1);
        data
    }

    /// Some of what is written is text, and some of it is what stood there, changed in a few places: both are stored in
    /// fewer bytes than they have.
    fn as_people_write(&self, node: NodeId, offset: u64, mut data: Vec<u8>) -> Vec<u8> {
        const WORDS: &[u8] = b"customer 4711, paid; ";
        match data.last().map_or(0, |byte| byte >> 1 & 3) {
            2 => data.iter_mut().zip(WORDS.iter().cycle()).for_each(|(byte, letter)| *byte = *letter),
            3 => {
                let content = self.model.node(node).map(|node| Arc::clone(&node.content)).unwrap_or_default();
                let old = content.get((offset as usize).min(content.len())..).unwrap_or_default();
                let pairs = data.iter_mut().zip(old).enumerate().filter(|(at, _)| at % 61 != 7);
                pairs.for_each(|(_, (byte, old))| *byte = *old);
            }
            _ => {}
        }
        data
    }

    fn before(&mut self, node: NodeId, offset: u64, bytes: u64) -> Option<[u8; 16]> {
        if !self.options.before_hashes || self.rng.chance(1, 2) {
            return None;
        }
        let content = &self.model.node(node)?.content;
        let end = ((offset + bytes) as usize).min(content.len());
        let before = content.get(offset as usize..end).filter(|before| !before.is_empty())?;
        blake3::hash(before).as_bytes().get(..16)?.try_into().ok()
    }
}
