//! A session as the beginning of a tree: its nodes become events, under the ids they have in the journal.
//!
//! Sessions that this project makes carry the journal's id of each node as its inode, so what the session holds and what
//! the redo behind it speaks of meet by identity, not by path. Runs of zeros are not written; they read as zeros all the
//! same. Blobs are fetched by several threads, some ahead, and written in order.
//!
//! A session is not believed: ids that are no node's, a root that is another root, names and kinds that no tree holds,
//! files whose bytes are not as many as they say are refused, with the path.

use super::feed::Feeder;
use super::{Base, RebuildError, Watch};
use bytes::Bytes;
use journal::{Attributes, Edge, Event, Meta, Name, NodeId, Payload, RootNo, Timestamp};
use parking_lot::Mutex;
use snapshot::repository::{BlobKind, Id, Node, NodeKind, Repository, RepositoryError};
use snapshot::session::node::kind;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Blobs that are fetched at once.
const AHEAD: usize = 24;
/// Longest write.
const WRITE: usize = 256 << 10;
/// Longest target of a link and all extended attributes of a node.
const LINK_BYTES_MAX: usize = 4095;
const XATTRS_BYTES_MAX: usize = 1 << 20;

/// The number of the root that a session is of, and its node.
pub(super) fn root_of(repository: &Repository, base: &Base) -> Result<(RootNo, Node), RebuildError> {
    let mut tree = base.tree;
    let mut found = None;
    for part in base.path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
        found = None;
        repository.load_tree(&tree, &mut |node| {
            if node.name == part {
                found = Some(node);
            }
            found.is_none()
        })?;
        match found.as_ref().and_then(|node| node.subtree) {
            Some(below) => tree = below,
            None => return Err(strange(&base.path, "the session does not hold its root")),
        }
    }
    let node = found.ok_or_else(|| strange(&base.path, "the session has no root"))?;
    let id = NodeId(node.inode);
    match id.as_root_or_kept().filter(|_| !id.is_kept_area()) {
        Some(root) if root.0 < RootNo::COUNT_MAX => Ok((root, node)),
        _ => Err(strange(&base.path, "the session was not made from a journal")),
    }
}

fn strange(path: &[u8], what: &'static str) -> RebuildError {
    RebuildError::Session { path: String::from_utf8_lossy(path).into_owned(), what }
}

fn time(at: snapshot::repository::Timestamp) -> Timestamp {
    Timestamp(at.seconds.saturating_mul(1_000_000_000).saturating_add(i64::from(at.nanoseconds)))
}

fn meta(node: &Node, path: &[u8]) -> Result<Meta, RebuildError> {
    let bytes = |xattr: &snapshot::repository::Xattr| xattr.name.len() + xattr.value.len();
    let links_nowhere = node.link_target.is_empty() || node.link_target.len() > LINK_BYTES_MAX;
    let bad_xattr = |xattr: &snapshot::repository::Xattr| xattr.name.is_empty() || xattr.name.contains(&0);
    if node.kind == NodeKind::Symlink && (links_nowhere || node.link_target.contains(&0)) {
        return Err(strange(path, "no file system holds a link with this target"));
    }
    if node.xattrs.iter().any(bad_xattr) || node.xattrs.iter().map(bytes).sum::<usize>() > XATTRS_BYTES_MAX {
        return Err(strange(path, "no file system holds these extended attributes"));
    }
    let kind = kind(node).ok_or_else(|| strange(path, "an object of a kind that is not known"))?;
    let mut xattrs: Vec<_> =
        node.xattrs.iter().map(|xattr| (xattr.name.clone(), xattr.value.clone())).collect();
    xattrs.sort();
    Ok(Meta { kind, size: 0, attributes: attributes(node), xattrs })
}

fn attributes(node: &Node) -> Attributes {
    Attributes {
        mode: node.permissions & 0o7777,
        uid: node.uid,
        gid: node.gid,
        mtime: time(node.modified),
        ctime: time(node.changed),
    }
}

/// What is handed over in order; blobs are fetched in between.
enum Item {
    Event(Event),
    /// The next piece of the file.
    Blob(NodeId, Id),
    /// The file ends here, at this size.
    End(NodeId, u64, Vec<u8>),
}

struct Walk<'w> {
    repository: &'w Repository,
    feeder: &'w mut Feeder,
    watch: &'w dyn Watch,
    root: RootNo,
    items: Vec<Item>,
    blobs: usize,
    /// Bytes of the file under way that were handed over.
    offset: u64,
    /// Files of several names, and all ids of directories: a tree that names one twice is no tree.
    linked: HashSet<NodeId>,
    files: u64,
    total: u64,
}

/// Hands a session's tree over. The root's node is [`root_of`]'s.
pub(super) fn feed(
    repository: &Repository,
    base: &Base,
    (root, node): (RootNo, Node),
    feeder: &mut Feeder,
    watch: &dyn Watch,
) -> Result<(), RebuildError> {
    let mut walk = Walk {
        repository,
        feeder,
        watch,
        root,
        items: Vec::new(),
        blobs: 0,
        offset: 0,
        linked: HashSet::new(),
        files: 0,
        total: 0,
    };
    let id = NodeId::root(root);
    let own = meta(&node, &base.path)?;
    if !own.xattrs.is_empty() {
        walk.take(Item::Event(Event::SetXattrs { node: id, xattrs: own.xattrs }))?;
    }
    let mtime = own.attributes.mtime;
    let mut waiting = Vec::from([(id, mtime, node.subtree, base.path.clone())]);
    while let Some((parent, mtime, tree, path)) = waiting.pop() {
        let Some(tree) = tree else { return Err(strange(&path, "a directory without a tree")) };
        let mut outcome = Ok(());
        repository.load_tree(&tree, &mut |node| {
            let below = [&path[..], b"/", &node.name].concat();
            outcome = walk.node(node, (parent, mtime), below).map(|inside| waiting.extend(inside));
            outcome.is_ok()
        })?;
        outcome?;
    }
    walk.take(Item::Event(Event::SetAttributes { node: id, attributes: own.attributes }))?;
    walk.fetch()
}

type Inside = (NodeId, Timestamp, Option<Id>, Vec<u8>);

impl Walk<'_> {
    fn node(
        &mut self,
        node: Node,
        (parent, mtime): (NodeId, Timestamp),
        path: Vec<u8>,
    ) -> Result<Option<Inside>, RebuildError> {
        let name = Name::new(&node.name).ok_or_else(|| strange(&path, "no file system holds this name"))?;
        let id = NodeId(node.inode);
        if id < NodeId::FIRST_FREE {
            return Err(strange(&path, "its inode is not the id of a node"));
        }
        let at = Edge::new(parent, name);
        let several = node.links > 1 && node.kind != NodeKind::Directory;
        if several && !self.linked.insert(id) {
            self.take(Item::Event(Event::Link { node: id, at, parent_mtime: Some(mtime) }))?;
            return Ok(None);
        }
        let own = meta(&node, &path)?;
        let own_mtime = own.attributes.mtime;
        let created = Event::Create { node: id, at, meta: own, origin: None, parent_mtime: Some(mtime) };
        self.take(Item::Event(created))?;
        if node.kind == NodeKind::Directory {
            return Ok(Some((id, own_mtime, node.subtree, path)));
        }
        self.files += 1;
        if node.kind == NodeKind::File {
            for blob in &node.content {
                self.take(Item::Blob(id, *blob))?;
            }
            self.take(Item::End(id, node.size, path))?;
        }
        Ok(None)
    }

    fn take(&mut self, item: Item) -> Result<(), RebuildError> {
        self.blobs += usize::from(matches!(item, Item::Blob(..)));
        self.items.push(item);
        if self.blobs >= AHEAD || self.items.len() >= 4096 { self.fetch() } else { Ok(()) }
    }

    /// Fetches what waits and hands it over.
    fn fetch(&mut self) -> Result<(), RebuildError> {
        if self.watch.cancelled() {
            return Err(RebuildError::Cancelled);
        }
        let items = std::mem::take(&mut self.items);
        self.blobs = 0;
        let blobs = load(self.repository, &items)?;
        for item in items {
            match item {
                Item::Event(event) => self.feeder.push(self.root, event)?,
                Item::Blob(node, id) => self.write(node, blobs.get(&id).cloned().unwrap_or_default())?,
                Item::End(node, size, path) => {
                    if self.offset != size {
                        return Err(strange(&path, "it has not as many bytes as it says"));
                    }
                    // Also where its end is zeros.
                    self.feeder.push(self.root, Event::Resize { node, size })?;
                    self.offset = 0;
                }
            }
        }
        self.watch.progress(self.files, self.total);
        Ok(())
    }

    fn write(&mut self, node: NodeId, bytes: Bytes) -> Result<(), RebuildError> {
        self.total += bytes.len() as u64;
        for (at, piece) in bytes.chunks(WRITE).enumerate() {
            if piece.iter().any(|byte| *byte != 0) {
                let from = at * WRITE;
                let data = Payload::Inline(bytes.slice(from..from + piece.len()));
                let offset = self.offset + from as u64;
                self.feeder.push(self.root, Event::Write { node, offset, data, before: None })?;
            }
        }
        self.offset = self.offset.saturating_add(bytes.len() as u64);
        Ok(())
    }
}

/// The blobs of some items, each once, fetched by several threads.
fn load(repository: &Repository, items: &[Item]) -> Result<HashMap<Id, Bytes>, RepositoryError> {
    const THREADS: usize = 8;
    let blob = |item: &Item| if let Item::Blob(_, id) = item { Some(*id) } else { None };
    let wanted: Vec<Id> = items.iter().filter_map(blob).collect::<HashSet<_>>().into_iter().collect();
    let (next, loaded) = (AtomicUsize::new(0), Mutex::new(HashMap::new()));
    let failure: Mutex<Option<RepositoryError>> = Mutex::new(None);
    let work = || {
        while let Some(id) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
            if failure.lock().is_some() {
                return;
            }
            match repository.load_blob(BlobKind::Data, id) {
                Ok(bytes) => drop(loaded.lock().insert(*id, Bytes::from(bytes))),
                Err(error) => drop(failure.lock().get_or_insert(error)),
            }
        }
    };
    std::thread::scope(|threads| {
        for _ in 1..THREADS.min(wanted.len()) {
            threads.spawn(work);
        }
        work();
    });
    failure.into_inner().map_or(Ok(loaded.into_inner()), Err)
}
