//! A tree in memory made by drafts alone, and its comparison with a real directory.

use crate::capture::{CaptureSink, Draft, PART_BYTES_MAX, SinkError};
use journal::digest::{Digest, NodeFacts, kind_hash, xattrs_hash};
use journal::{
    Attributes, Edge, Event, Kind, Lsn, Marker, NodeId, Payload, RootNo, Timestamp, WRITE_BYTES_MAX, Xattrs,
};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub(super) type SharedModel = Arc<Mutex<Model>>;

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub kind: Kind,
    pub bytes: Vec<u8>,
    pub attributes: Option<Attributes>,
    pub xattrs: Xattrs,
    pub origin: Option<journal::Origin>,
}

#[derive(Default)]
pub(super) struct Model {
    pub names: BTreeMap<Edge, NodeId>,
    pub links: HashMap<NodeId, BTreeSet<Edge>>,
    pub nodes: BTreeMap<NodeId, Node>,
    pub faults: Vec<String>,
    pub markers: Vec<(Lsn, Marker)>,
    /// Event names of each capture, markers left out.
    pub told: Vec<Vec<String>>,
    pub bytes_told: u64,
    /// Digests that came, and were right.
    pub digests: u64,
    telling: Vec<String>,
    lsn: u64,
    time: Timestamp,
    /// Parts seen of the capture under way.
    parts: u32,
    /// Whether each capture is checked to be a tree: costs a walk.
    pub unchecked: bool,
    /// Done once, by the agent's own thread, when it tells of a removal: after its looks, and before it reads files that
    /// kept their names.
    pub at_removal: Option<Box<dyn FnOnce() + Send>>,
}

pub(super) struct ModelSink {
    model: SharedModel,
    pub gate: Option<Arc<Mutex<()>>>,
    pub safe: Option<Arc<AtomicBool>>,
}

impl ModelSink {
    pub(super) fn new(model: SharedModel) -> Self {
        ModelSink { model, gate: None, safe: None }
    }
}

impl CaptureSink for ModelSink {
    fn emit(&mut self, draft: Draft) -> Result<Lsn, SinkError> {
        let _open = self.gate.as_ref().map(|gate| gate.lock());
        if draft.events.iter().any(|event| matches!(event, Event::Remove { .. }))
            && let Some(work) = { self.model.lock().at_removal.take() }
        {
            work();
        }
        Ok(self.model.lock().take(draft))
    }

    fn is_safe(&self, _lsn: Lsn) -> bool {
        self.safe.as_ref().is_none_or(|safe| safe.load(Ordering::SeqCst))
    }
}

impl Model {
    fn take(&mut self, draft: Draft) -> Lsn {
        if draft.part == 0 {
            self.lsn += 1;
            self.parts = 0;
        }
        if draft.part != self.parts {
            self.fault(format!("part {} came where {} was due", draft.part, self.parts));
        }
        self.parts += 1;
        if draft.time < self.time {
            self.fault("time went back".to_owned());
        }
        self.time = draft.time;
        let bytes: usize = draft.events.iter().map(payload).sum();
        self.bytes_told += bytes as u64;
        if bytes > PART_BYTES_MAX || (draft.events.is_empty() && draft.part == 0) {
            self.fault(format!("a part of {} events and {bytes} bytes", draft.events.len()));
        }
        for event in draft.events {
            let text = format!("{event:?}");
            let text: String = text.chars().take(300).collect();
            if std::env::var_os("REWIND_VERBOSE").is_some() {
                eprintln!("  {}: {text}", self.lsn);
            }
            if let Err(fault) = self.apply(event) {
                self.fault(format!("{fault}: {text}"));
            }
        }
        if draft.last {
            let telling = std::mem::take(&mut self.telling);
            self.told.push(telling);
            if !self.unchecked {
                self.check_tree();
            }
        }
        Lsn::captured(self.lsn)
    }

    fn fault(&mut self, what: String) {
        let lsn = self.lsn;
        self.faults.push(format!("capture {lsn}: {what}"));
    }

    fn directory(&self, node: NodeId) -> Result<(), String> {
        match self.nodes.get(&node) {
            _ if node.as_root_or_kept().is_some() => Ok(()),
            Some(node) if node.kind.is_directory() => Ok(()),
            _ => Err(format!("{node} is no directory")),
        }
    }

    fn put(&mut self, at: Edge, node: NodeId) -> Result<(), String> {
        self.directory(at.parent)?;
        if let Some(other) = self.names.insert(at.clone(), node) {
            return Err(format!("{at:?} is {other}"));
        }
        self.links.entry(node).or_default().insert(at);
        Ok(())
    }

    fn drop_name(&mut self, at: &Edge, node: NodeId) -> Result<(), String> {
        match self.names.remove(at) {
            Some(found) if found == node => {}
            found => return Err(format!("{at:?} is {found:?}")),
        }
        self.links.entry(node).or_default().remove(at);
        Ok(())
    }

    fn mtime(&mut self, directory: NodeId, mtime: Option<Timestamp>) {
        if let Some(mtime) = mtime
            && let Some(attributes) = self.node(directory).ok().and_then(|node| node.attributes.as_mut())
        {
            attributes.mtime = mtime;
        }
    }

    fn node(&mut self, node: NodeId) -> Result<&mut Node, String> {
        if node.as_root_or_kept().is_some() {
            let empty = Node {
                kind: Kind::Directory,
                bytes: Vec::new(),
                attributes: None,
                xattrs: Vec::new(),
                origin: None,
            };
            return Ok(self.nodes.entry(node).or_insert(empty));
        }
        self.nodes.get_mut(&node).ok_or_else(|| format!("{node} does not exist"))
    }

    fn is_below(&self, node: NodeId, above: NodeId) -> bool {
        let mut at = node;
        for _ in 0..10_000 {
            if at == above {
                return true;
            }
            match self.links.get(&at).and_then(|names| names.first()) {
                Some(edge) => at = edge.parent,
                None => return false,
            }
        }
        true
    }

    fn apply(&mut self, event: Event) -> Result<(), String> {
        if !matches!(event, Event::Mark(_)) {
            let text = format!("{event:?}");
            self.telling.push(text.split([' ', '(']).next().unwrap_or_default().to_owned());
        }
        match event {
            Event::Create { node, at, meta, origin, parent_mtime } => {
                if meta.size != 0 || self.nodes.contains_key(&node) {
                    return Err("created twice or with a size".to_owned());
                }
                let parent = at.parent;
                let attributes = Some(meta.attributes);
                let made =
                    Node { kind: meta.kind, bytes: Vec::new(), attributes, xattrs: meta.xattrs, origin };
                self.nodes.insert(node, made);
                self.put(at, node)?;
                self.mtime(parent, parent_mtime);
            }
            Event::Link { node, at, parent_mtime } => {
                if self.node(node)?.kind.is_directory() {
                    return Err("link of a directory".to_owned());
                }
                let parent = at.parent;
                self.put(at, node)?;
                self.mtime(parent, parent_mtime);
            }
            Event::Remove { node, at, parent_mtime } => {
                self.drop_name(&at, node)?;
                let last = self.links.get(&node).is_none_or(BTreeSet::is_empty);
                let root = self.root_of(at.parent);
                if last {
                    self.put(Edge::new(NodeId::kept(root), node.kept_name()), node)?;
                }
                self.mtime(at.parent, parent_mtime);
            }
            Event::Rename { node, from, to, from_parent_mtime, to_parent_mtime } => {
                if self.node(node)?.kind.is_directory() && self.is_below(to.parent, node) {
                    return Err("moved below itself".to_owned());
                }
                let parents = (from.parent, to.parent);
                self.drop_name(&from, node)?;
                self.put(to, node)?;
                self.mtime(parents.0, from_parent_mtime);
                self.mtime(parents.1, to_parent_mtime);
            }
            Event::Write { node, offset, data, before } => self.write(node, offset, data, before)?,
            Event::Punch { node, offset, bytes } => {
                let file = self.file(node)?;
                let end = (offset + bytes) as usize;
                if end > file.len() {
                    return Err("punched behind the end".to_owned());
                }
                file[offset as usize..end].fill(0);
            }
            Event::Resize { node, size } => self.file(node)?.resize(size as usize, 0),
            Event::SetAttributes { node, attributes } => self.node(node)?.attributes = Some(attributes),
            Event::SetXattrs { node, xattrs } => self.node(node)?.xattrs = xattrs,
            Event::Mark(Marker::Digest { root, digest }) => {
                self.digests += 1;
                if self.digest(root) != Digest::from_bytes(&digest) {
                    return Err(format!("the digest of root {} is not that of what was told", root.0));
                }
            }
            Event::Mark(marker) => self.markers.push((Lsn::captured(self.lsn), marker)),
        }
        Ok(())
    }

    fn file(&mut self, node: NodeId) -> Result<&mut Vec<u8>, String> {
        let node = self.node(node)?;
        if node.kind.is_file() { Ok(&mut node.bytes) } else { Err("no regular file".to_owned()) }
    }

    fn write(
        &mut self,
        node: NodeId,
        offset: u64,
        data: Payload,
        before: Option<[u8; 16]>,
    ) -> Result<(), String> {
        let Payload::Inline(data) = data else { return Err("payload not in memory".to_owned()) };
        if data.is_empty() || data.len() > WRITE_BYTES_MAX {
            return Err(format!("{} bytes in one write", data.len()));
        }
        let file = self.file(node)?;
        let (start, end) = (offset as usize, offset as usize + data.len());
        if let Some(before) = before {
            let old = &file[start.min(file.len())..end.min(file.len())];
            if blake3::hash(old).as_bytes()[..16] != before {
                return Err("the hash of what was there before is wrong".to_owned());
            }
        }
        if file.len() < end {
            file.resize(end, 0);
        }
        file[start..end].copy_from_slice(&data);
        Ok(())
    }

    /// The digest of what hangs below a root, by counting.
    fn digest(&self, root: RootNo) -> Digest {
        let live = |parent: NodeId| {
            let mut at = parent;
            while at.as_root_or_kept().is_none() {
                match self.links.get(&at).and_then(|names| names.first()) {
                    Some(edge) => at = edge.parent,
                    None => return false,
                }
            }
            at == NodeId::root(root)
        };
        let mut sum = Digest::default();
        for (edge, node) in self.names.iter().filter(|(edge, _)| live(edge.parent)) {
            sum = sum.plus(Digest::of_name(edge, *node));
        }
        for (id, node) in &self.nodes {
            let named = self.links.get(id).is_some_and(|names| names.iter().any(|edge| live(edge.parent)));
            let Some(attributes) = node.attributes.filter(|_| named || *id == NodeId::root(root)) else {
                continue;
            };
            let facts = NodeFacts {
                kind: kind_hash(&node.kind),
                size: node.bytes.len() as u64,
                mode: attributes.mode,
                uid: attributes.uid,
                gid: attributes.gid,
                mtime: attributes.mtime,
                xattrs: xattrs_hash(&node.xattrs),
            };
            sum = sum.plus(Digest::of_node(*id, &facts));
        }
        sum
    }

    fn root_of(&self, node: NodeId) -> RootNo {
        let mut at = node;
        for _ in 0..10_000 {
            if let Some(root) = at.as_root_or_kept() {
                return root;
            }
            match self.links.get(&at).and_then(|names| names.first()) {
                Some(edge) => at = edge.parent,
                None => break,
            }
        }
        RootNo(0)
    }

    /// Every directory has one name and hangs, like everything else, under a root or a kept area.
    fn check_tree(&mut self) {
        let mut faults = Vec::new();
        for (id, node) in &self.nodes {
            if id.as_root_or_kept().is_some() {
                continue;
            }
            let names = self.links.get(id).map_or(0, BTreeSet::len);
            if names == 0 || (node.kind.is_directory() && names > 1) {
                faults.push(format!("{id} has {names} names"));
            }
            let mut at = *id;
            let mut steps = 0;
            while at.as_root_or_kept().is_none() && steps < 10_000 {
                match self.links.get(&at).and_then(|names| names.first()) {
                    Some(edge) => at = edge.parent,
                    None => break,
                }
                steps += 1;
            }
            if at.as_root_or_kept().is_none() {
                faults.push(format!("{id} hangs nowhere"));
            }
        }
        for fault in faults {
            self.fault(fault);
        }
    }

    /// Differences between the model and what is really there.
    pub(super) fn compare(&self, root: RootNo, path: &Path) -> Vec<String> {
        let mut differences = Vec::new();
        let mut inodes = HashMap::new();
        let node = NodeId::root(root);
        if let Some(made) = self.nodes.get(&node) {
            self.compare_meta(made, path, &mut differences);
        } else {
            differences.push("nothing was said of the root".to_owned());
        }
        self.compare_directory(node, path, &mut inodes, &mut differences);
        differences
    }

    fn compare_directory(
        &self,
        directory: NodeId,
        path: &Path,
        inodes: &mut HashMap<u64, NodeId>,
        differences: &mut Vec<String>,
    ) {
        let mut real = BTreeSet::new();
        for entry in std::fs::read_dir(path).unwrap() {
            real.insert(entry.unwrap().file_name().as_bytes().to_vec());
        }
        let made: BTreeMap<Vec<u8>, NodeId> = self
            .names
            .range(Edge::new(directory, journal::Name::new(b"\x01").unwrap())..)
            .take_while(|(edge, _)| edge.parent == directory)
            .map(|(edge, node)| (edge.name.as_bytes().to_vec(), *node))
            .collect();
        for name in real.iter().filter(|name| !made.contains_key(*name)) {
            differences.push(format!("{path:?}: {:?} is missing", String::from_utf8_lossy(name)));
        }
        for (name, id) in &made {
            let path = path.join(std::ffi::OsStr::from_bytes(name));
            if !real.contains(name) {
                differences.push(format!("{path:?} should not be there ({id})"));
                continue;
            }
            let node = &self.nodes[id];
            let real = std::fs::symlink_metadata(&path).unwrap();
            if let Some(other) = inodes.insert(real.ino(), *id).filter(|other| other != id) {
                differences.push(format!("{path:?}: {id} and {other} are one inode"));
            }
            let one = inodes.iter().find(|(inode, other)| *other == id && **inode != real.ino());
            if let Some((inode, _)) = one {
                differences.push(format!("{path:?}: {id} is inode {} and {inode}", real.ino()));
            }
            self.compare_meta(node, &path, differences);
            if node.kind.is_directory() && real.is_dir() {
                self.compare_directory(*id, &path, inodes, differences);
            }
        }
    }

    fn compare_meta(&self, node: &Node, path: &Path, differences: &mut Vec<String>) {
        let real = std::fs::symlink_metadata(path).unwrap();
        let kind = match &real.file_type() {
            kind if kind.is_file() => Kind::File,
            kind if kind.is_dir() => Kind::Directory,
            kind if kind.is_symlink() => {
                Kind::Symlink(std::fs::read_link(path).unwrap().as_os_str().as_bytes().to_vec())
            }
            kind if kind.is_fifo() => Kind::Fifo,
            kind if kind.is_char_device() => Kind::CharDevice(real.rdev()),
            kind if kind.is_block_device() => Kind::BlockDevice(real.rdev()),
            _ => Kind::Socket,
        };
        if kind != node.kind {
            differences.push(format!("{path:?} is {kind:?}, not {:?}", node.kind));
            return;
        }
        if real.is_file() {
            let bytes = std::fs::read(path).unwrap();
            if bytes != node.bytes {
                let at = bytes.iter().zip(&node.bytes).position(|(a, b)| a != b);
                differences.push(format!(
                    "{path:?}: {} bytes, not {}; first difference at {at:?}",
                    bytes.len(),
                    node.bytes.len()
                ));
            }
        }
        let mtime = real.mtime() * 1_000_000_000 + real.mtime_nsec();
        let is = (real.mode() & 0o7777, real.uid(), real.gid(), mtime);
        let made = node.attributes.map(|a| (a.mode, a.uid, a.gid, a.mtime.0));
        if made != Some(is) {
            differences.push(format!("{path:?}: {is:?}, not {made:?}"));
        }
        let xattrs = xattrs_of(path);
        if xattrs != node.xattrs {
            differences.push(format!("{path:?}: xattrs {xattrs:?}, not {:?}", node.xattrs));
        }
    }
}

fn payload(event: &Event) -> usize {
    match event {
        Event::Write { data: Payload::Inline(data), .. } => data.len(),
        _ => 0,
    }
}

fn xattrs_of(path: &Path) -> Xattrs {
    let mut list = vec![0u8; 4096];
    let length = rustix::fs::llistxattr(path, &mut list).unwrap_or(0);
    let mut set: Xattrs = list[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| {
            let mut value = vec![0u8; 65536];
            let length = rustix::fs::lgetxattr(path, name, &mut value).unwrap();
            (name.to_vec(), value[..length].to_vec())
        })
        .collect();
    set.sort();
    set
}
