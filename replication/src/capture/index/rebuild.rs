//! Building the index anew from the namespace of the replica.
//!
//! What the replica holds as of the last captured LSN *is* what the stream says, so an index made from it is right by
//! definition; only the block hashes are not there, so a file that changed is sent whole once. The rescan that must
//! follow finds what changed meanwhile.

use super::super::look::{Look, Sort, xattrs_hash};
use super::{Index, Row, SkipRow};
use crate::capture::CaptureError;
use journal::{Edge, Kind, Meta, Name, NodeId, Origin, RootNo};
use wire::stream::SkippedName;

/// One name in the replica's namespace. A file with several names comes once for each.
#[derive(Clone, Debug)]
pub struct NamespaceEntry {
    /// Root it belongs to.
    pub root: RootNo,
    /// The node.
    pub node: NodeId,
    /// Directory it stands in; a kept area for what was removed, which is passed over.
    pub parent: NodeId,
    /// Its name there.
    pub name: Name,
    /// What the stream said of it last.
    pub meta: Meta,
    /// The inode on the master; `None` if not known: it is found by its path.
    pub origin: Option<Origin>,
    /// Whether the replica's bytes are those of the master as of `meta` (times and size vouch for them then).
    pub content_known: bool,
}

impl Index {
    /// An index of the replica's namespace in the place of this one, which is gone when it fails: open it again.
    /// `next_node`: greater than every id ever minted.
    /// Roots themselves (ids below [`NodeId::FIRST_FREE`]) may be given for their attributes, under any name.
    ///
    /// # Errors
    /// `Index` if it cannot be written, `File` if the old one cannot be removed.
    pub fn rebuild(
        self,
        entries: impl Iterator<Item = NamespaceEntry>,
        next_node: NodeId,
    ) -> Result<Self, CaptureError> {
        let mut index = self.emptied()?;
        index.begin()?;
        index.next_node = next_node.0.max(NodeId::FIRST_FREE.0);
        let mut batch = index.batch();
        for (number, entry) in entries.enumerate() {
            index.rebuild_entry(&mut batch, &entry)?;
            if number % 1024 == 1023 {
                index.commit(std::mem::replace(&mut batch, index.batch()))?;
            }
        }
        index.commit(batch)?;
        Ok(index)
    }

    /// A new database, not the old one cleared: fjall remembers in its log that a table was cleared, and a start that
    /// reads it back clears what was written out since and reads all that came after into memory again, at each start
    /// for as long as the log is kept, which is 64 MB of it.
    fn emptied(self) -> Result<Self, CaptureError> {
        // A head that is not there says nothing of the other tables: half a database may open.
        let all =
            [&self.nodes, &self.origins, &self.names, &self.links, &self.hashes, &self.skips, &self.heads];
        if all.iter().all(|table| matches!(table.is_empty(), Ok(true))) {
            return Ok(self);
        }
        let path = self.path.clone();
        drop(self);
        Self::remove(&path)?;
        Self::open_once(&path)
    }

    /// Takes over what the stream says is missing, at the names the reported paths lead to now. What leads nowhere is
    /// remembered beside the tree, to be taken back ([`Index::stale_skips`]).
    ///
    /// # Errors
    /// `Index` if it cannot be written.
    pub fn rebuild_skips(&mut self, skipped: &[SkippedName]) -> Result<(), CaptureError> {
        let mut batch = self.batch();
        for (number, skipped) in skipped.iter().enumerate() {
            let SkippedName { root, path, what, errno } = skipped;
            let row = SkipRow { root: *root, what: *what, errno: *errno, path: path.clone() };
            let edge = match self.edge_of_path(*root, path)? {
                Some(edge) => Some(edge),
                None => {
                    Name::new(number.to_string().as_bytes()).map(|name| Edge::new(NodeId::kept(*root), name))
                }
            };
            if let Some(edge) = edge {
                self.put_skip(&mut batch, &edge, Some(&row))?;
            }
        }
        self.commit(batch)
    }

    /// The name a path below a root ends in; `None` if the directory it lies in is not there.
    fn edge_of_path(&self, root: RootNo, path: &[u8]) -> Result<Option<Edge>, CaptureError> {
        let mut parent = NodeId::root(root);
        let mut parts = path.split(|byte| *byte == b'/').peekable();
        while let Some(part) = parts.next() {
            let Some(name) = Name::new(part) else { return Ok(None) };
            let edge = Edge::new(parent, name);
            if parts.peek().is_none() {
                return Ok(Some(edge));
            }
            match self.child(&edge)? {
                Some(child) => parent = child,
                None => return Ok(None),
            }
        }
        Ok(None)
    }

    fn rebuild_entry(
        &mut self,
        batch: &mut super::Batch,
        entry: &NamespaceEntry,
    ) -> Result<(), CaptureError> {
        let fixed = entry.node.as_root_or_kept();
        if entry.parent.is_kept_area() || entry.node.is_kept_area() {
            return Ok(());
        }
        let origin = entry.origin.unwrap_or(Origin { device: 0, inode: 0, generation: 0, birth: 0 });
        let look = Look {
            sort: Sort::of(&entry.meta.kind),
            inode: origin.inode,
            device: origin.device,
            mount: 0,
            birth: origin.birth,
            links: 1,
            size: entry.meta.size,
            allocated: 0,
            rdev: match entry.meta.kind {
                Kind::CharDevice(rdev) | Kind::BlockDevice(rdev) => rdev,
                _ => 0,
            },
            attributes: entry.meta.attributes,
        };
        let root = entry.root;
        let mut row = Row::new(root, origin, &look, &entry.meta.kind);
        row.size = entry.meta.size;
        row.xattrs = xattrs_hash(&entry.meta.xattrs);
        row.set_content_unknown(!entry.content_known && entry.meta.kind.is_file());
        self.put_row(batch, entry.node, &row)?;
        if fixed.is_some() {
            return Ok(());
        }
        if entry.origin.is_some() {
            self.put_origin(batch, root, &origin, entry.node);
        }
        self.put_edge(batch, &Edge::new(entry.parent, entry.name.clone()), entry.node);
        self.next_node = self.next_node.max(entry.node.0.saturating_add(1));
        Ok(())
    }
}
