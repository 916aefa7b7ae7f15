//! One state of the simulated file system, and the operations that lead from one state to the next.
//!
//! The live state and the durable one are two of these; an operation decided on the live state is replayed on the
//! durable one, at once by a sync or in part by a power cut. Objects are named by an id that is never used twice, so
//! that a late write never reaches a later owner of the inode number, while inode numbers are reused at once, lowest
//! first, as ext4 does: code that takes a number for an identity is found out.

use journal::{Attributes, Kind, Name, Timestamp, TreeStat, Xattrs};
use std::collections::{BTreeMap, BTreeSet};

/// Identity of an object of the simulation; never used twice.
pub(super) type Id = u64;

/// Bytes in a block: small, so that little files have holes too.
pub(super) const BLOCK_BYTES: u64 = 256;

/// Contents by block; what is missing is a hole.
#[derive(Clone, Debug, Default)]
pub(super) struct Content(BTreeMap<u64, Box<[u8; BLOCK_BYTES as usize]>>);

impl Content {
    pub(super) fn read(&self, offset: u64, buffer: &mut [u8]) {
        buffer.fill(0);
        for (at, piece) in pieces(offset, buffer.len()) {
            if let Some(block) = self.0.get(&(at / BLOCK_BYTES)) {
                let within = (at % BLOCK_BYTES) as usize;
                let length = piece.len();
                buffer[piece].copy_from_slice(&block[within..within + length]);
            }
        }
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) {
        for (at, piece) in pieces(offset, bytes.len()) {
            let block = self.0.entry(at / BLOCK_BYTES).or_insert_with(|| Box::new([0; BLOCK_BYTES as usize]));
            let within = (at % BLOCK_BYTES) as usize;
            block[within..within + piece.len()].copy_from_slice(&bytes[piece]);
        }
    }

    fn punch(&mut self, offset: u64, end: u64) {
        let blocks: Vec<u64> =
            self.0.range(offset / BLOCK_BYTES..=end / BLOCK_BYTES).map(|(at, _)| *at).collect();
        for number in blocks {
            let (start, stop) = (number * BLOCK_BYTES, (number + 1) * BLOCK_BYTES);
            if offset <= start && stop <= end {
                self.0.remove(&number);
            } else if let Some(block) = self.0.get_mut(&number) {
                let (from, to) = (offset.clamp(start, stop) - start, end.clamp(start, stop) - start);
                if from < to {
                    block[from as usize..to as usize].fill(0);
                }
            }
        }
    }

    /// First run of blocks that ends after `offset`.
    pub(super) fn next_data(&self, offset: u64, size: u64) -> Option<(u64, u64)> {
        let (first, _) = self.0.range(offset / BLOCK_BYTES..).next()?;
        let mut last = *first;
        while self.0.contains_key(&(last + 1)) {
            last += 1;
        }
        let (start, end) = ((first * BLOCK_BYTES).max(offset), ((last + 1) * BLOCK_BYTES).min(size));
        (start < end).then_some((start, end))
    }
}

/// Cuts a range at block borders: (offset in the file, range in the buffer).
fn pieces(offset: u64, length: usize) -> impl Iterator<Item = (u64, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done as u64;
        let room = (BLOCK_BYTES - at % BLOCK_BYTES) as usize;
        let piece = done..(done + room).min(length);
        done = piece.end;
        (!piece.is_empty()).then_some((at, piece))
    })
}

/// An object.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) number: u64,
    pub(super) kind: Kind,
    pub(super) size: u64,
    pub(super) content: Content,
    pub(super) attributes: Attributes,
    pub(super) xattrs: Xattrs,
    pub(super) links: u64,
    pub(super) entries: BTreeMap<Name, Id>,
    /// The directory a directory lies in; 0 for the tops.
    pub(super) parent: Id,
    /// The file system it is on: tops of one root share it.
    pub(super) device: u16,
}

/// What an operation does, in full: replaying it needs nothing else.
#[derive(Clone, Debug)]
pub(super) enum Action {
    Create {
        id: Id,
        number: u64,
        dir: Id,
        name: Name,
        kind: Kind,
    },
    Link {
        id: Id,
        dir: Id,
        name: Name,
    },
    Rename {
        from: (Id, Name),
        to: (Id, Name),
    },
    /// Of a file or an empty directory.
    Unlink {
        dir: Id,
        name: Name,
    },
    SetAttributes {
        id: Id,
        attributes: Attributes,
    },
    SetXattrs {
        id: Id,
        xattrs: Xattrs,
    },
    Resize {
        id: Id,
        size: u64,
    },
    /// What a write does to metadata: the time moves, set-id bits and capabilities go.
    Touch {
        id: Id,
    },
    Write {
        id: Id,
        offset: u64,
        bytes: Vec<u8>,
    },
    Punch {
        id: Id,
        offset: u64,
        end: u64,
    },
}

impl Action {
    /// Bytes may be torn and reordered by a power cut; all else is durable as a prefix.
    pub(super) fn is_data(&self) -> bool {
        matches!(self, Action::Write { .. } | Action::Punch { .. })
    }
}

/// An operation and when it was made.
#[derive(Clone, Debug)]
pub(super) struct Operation {
    pub(super) time: Timestamp,
    pub(super) action: Action,
}

/// A whole state.
#[derive(Clone, Debug, Default)]
pub(super) struct Fs {
    pub(super) nodes: BTreeMap<Id, Node>,
    numbers: BTreeSet<u64>,
}

impl Fs {
    /// Adds a directory that stands above all others.
    pub(super) fn add_top(&mut self, id: Id, device: u16, mode: u32) {
        let number = self.free_number();
        let mut node = new_node(number, Kind::Directory, Timestamp(0));
        (node.device, node.links, node.attributes.mode) = (device, 2, mode);
        self.numbers.insert(number);
        self.nodes.insert(id, node);
    }

    /// The lowest inode number that is free.
    pub(super) fn free_number(&self) -> u64 {
        let mut expected = 11;
        for number in &self.numbers {
            if *number != expected {
                break;
            }
            expected += 1;
        }
        expected
    }

    pub(super) fn entry(&self, dir: Id, name: &Name) -> Option<(Id, &Node)> {
        let id = *self.nodes.get(&dir)?.entries.get(name)?;
        Some((id, self.nodes.get(&id)?))
    }

    pub(super) fn stat(node: &Node) -> TreeStat {
        TreeStat {
            inode: node.number,
            kind: node.kind.clone(),
            size: if node.kind.is_file() { node.size } else { 0 },
            links: node.links,
            attributes: node.attributes,
        }
    }

    /// Whether `id` is `above` or lies below it.
    pub(super) fn is_within(&self, mut id: Id, above: Id) -> bool {
        while id != above {
            match self.nodes.get(&id) {
                Some(node) if node.parent != 0 => id = node.parent,
                _ => return false,
            }
        }
        true
    }

    /// Forgets a node without names; its inode number is free from now on.
    pub(super) fn free(&mut self, id: Id) {
        if let Some(node) = self.nodes.remove(&id) {
            // In what is durable the number may have had its next owner before this one was forgotten.
            if !self.nodes.values().any(|other| other.number == node.number) {
                self.numbers.remove(&node.number);
            }
        }
    }

    /// Whether the node has lost its last name.
    pub(super) fn is_nameless(node: &Node) -> bool {
        node.links == 0
    }

    /// Makes the operation. One whose object is not there does nothing: after a power cut bytes may come for files
    /// that were never made.
    pub(super) fn apply(&mut self, operation: &Operation) {
        let time = operation.time;
        match &operation.action {
            Action::Create { id, number, dir, name, kind } => {
                self.create(*id, *number, (*dir, name), kind, time)
            }
            Action::Link { id, dir, name } => {
                self.enter(*dir, name, *id, time);
                self.with(*id, |node| {
                    node.links += 1;
                    node.attributes.ctime = time;
                });
            }
            Action::Rename { from, to } => {
                if let Some(id) = self.leave(from.0, &from.1, time) {
                    self.enter(to.0, &to.1, id, time);
                    self.with(id, |node| node.attributes.ctime = time);
                }
            }
            Action::Unlink { dir, name } => {
                if let Some(id) = self.leave(*dir, name, time) {
                    self.with(id, |node| {
                        node.links = if node.kind.is_directory() { 0 } else { node.links - 1 };
                        node.attributes.ctime = time;
                    });
                }
            }
            Action::SetAttributes { id, attributes } => self.with(*id, |node| {
                let mode = if matches!(node.kind, Kind::Symlink(_)) { 0o777 } else { attributes.mode };
                node.attributes = Attributes { mode, ctime: time, ..*attributes };
            }),
            Action::SetXattrs { id, xattrs } => self.with(*id, |node| {
                node.xattrs.clone_from(xattrs);
                node.attributes.ctime = time;
            }),
            Action::Resize { id, size } => self.with(*id, |node| {
                if *size < node.size {
                    node.content.punch(*size, node.size.next_multiple_of(BLOCK_BYTES));
                }
                node.size = *size;
                (node.attributes.mtime, node.attributes.ctime) = (time, time);
            }),
            Action::Touch { id } => self.with(*id, |node| {
                (node.attributes.mtime, node.attributes.ctime) = (time, time);
                node.attributes.mode &= 0o1777;
                node.xattrs.retain(|(name, _)| name != b"security.capability");
            }),
            Action::Write { id, offset, bytes } => self.with(*id, |node| {
                // The durable size may be less than the size the write was made at.
                let room = node.size.saturating_sub(*offset).min(bytes.len() as u64) as usize;
                node.content.write(*offset, &bytes[..room]);
            }),
            Action::Punch { id, offset, end } => self.with(*id, |node| node.content.punch(*offset, *end)),
        }
    }

    fn create(&mut self, id: Id, number: u64, at: (Id, &Name), kind: &Kind, time: Timestamp) {
        let mut node = new_node(number, kind.clone(), time);
        node.device = self.nodes.get(&at.0).map_or(0, |dir| dir.device);
        self.numbers.insert(number);
        self.nodes.insert(id, node);
        self.enter(at.0, at.1, id, time);
    }

    fn with(&mut self, id: Id, change: impl FnOnce(&mut Node)) {
        if let Some(node) = self.nodes.get_mut(&id) {
            change(node);
        }
    }

    fn enter(&mut self, dir: Id, name: &Name, id: Id, time: Timestamp) {
        let is_directory = self.nodes.get(&id).is_some_and(|node| node.kind.is_directory());
        self.with(dir, |node| {
            node.entries.insert(name.clone(), id);
            node.links += u64::from(is_directory);
            (node.attributes.mtime, node.attributes.ctime) = (time, time);
        });
        if is_directory {
            self.with(id, |node| node.parent = dir);
        }
    }

    fn leave(&mut self, dir: Id, name: &Name, time: Timestamp) -> Option<Id> {
        let (id, node) = self.entry(dir, name)?;
        let is_directory = node.kind.is_directory();
        self.with(dir, |node| {
            node.entries.remove(name);
            node.links -= u64::from(is_directory);
            (node.attributes.mtime, node.attributes.ctime) = (time, time);
        });
        Some(id)
    }
}

fn new_node(number: u64, kind: Kind, time: Timestamp) -> Node {
    let (mode, links) = match kind {
        Kind::Directory => (0o700, 2),
        Kind::Symlink(_) => (0o777, 1),
        _ => (0o600, 1),
    };
    Node {
        number,
        size: 0,
        content: Content::default(),
        attributes: Attributes { mode, uid: 0, gid: 0, mtime: time, ctime: time },
        xattrs: Xattrs::new(),
        links,
        entries: BTreeMap::new(),
        parent: 0,
        device: 0,
        kind,
    }
}
