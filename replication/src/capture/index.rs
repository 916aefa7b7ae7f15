//! The master's index: what the stream says of the master so far.
//!
//! A fjall database of six tables: `nodes` (id to [`Row`]), `origins` ((root, origin) to id), `names` ((parent, name)
//! to id), `links` ((id, parent, name) to nothing), `hashes` ((id, group of 256 blocks) to 16 bytes a block),
//! `skips` ((parent, name) to what of it is missing in the stream), and `heads`.
//!
//! It is a projection with one rule: it is either known to be what the stream says, or it is rebuilt. A clean stop
//! writes the last LSN into it ([`Index::close`]); opening takes that mark away, so after a crash there is none and
//! the index is rebuilt from the replica's namespace. Hence nothing in it needs an fsync while it is used.
//!
//! Memory is bounded by the cache and memtables configured here, whatever the size of the tree.

mod rebuild;
mod rows;
pub(super) mod sums;

pub use rebuild::NamespaceEntry;
pub(super) use rows::{Row, SkipRow};

use super::CaptureError;
use super::look::Sort;
use fjall::{Database, Keyspace, PersistMode};
use journal::tables::{Memtables, ROW_BYTES, remove_tables};
use journal::{Edge, Lsn, Name, NodeId, Origin, RootNo, Timestamp};
use parking_lot::Mutex;
use std::path::{Path, PathBuf};
use sums::{Sums, Touched};

/// Blocks whose hashes share a row.
pub(super) const GROUP_BLOCKS: usize = 256;
/// Bytes of a block hash.
pub(super) const HASH_BYTES: usize = 16;

const FORMAT: &[u8] = b"rewind-index-3";
const CACHE_BYTES: u64 = 8 << 20;
const JOURNAL_BYTES: u64 = 64 << 20;

/// What an index was found to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IndexState {
    /// Nothing is in it: synchronize for the first time, or rebuild it.
    Empty,
    /// It was closed in good order after the capture of this LSN. If the spool knows a later one, rebuild.
    Clean {
        /// The last capture it knows.
        lsn: Lsn,
        /// The time of that capture.
        time: Timestamp,
    },
    /// It was not closed: [`Index::rebuild`] it.
    Dirty,
}

/// The index of one scenario's master.
pub struct Index {
    path: PathBuf,
    database: Database,
    nodes: Keyspace,
    origins: Keyspace,
    names: Keyspace,
    links: Keyspace,
    hashes: Keyspace,
    skips: Keyspace,
    heads: Keyspace,
    memtables: Memtables,
    sums: Mutex<Sums>,
    next_node: u64,
}

/// Changes that appear at once.
pub(super) struct Batch {
    write: fjall::OwnedWriteBatch,
    bytes: usize,
    touched: Touched,
}

impl Batch {
    fn insert(&mut self, space: &Keyspace, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        self.bytes += key.as_ref().len() + value.as_ref().len() + ROW_BYTES;
        self.write.insert(space, key.as_ref(), value.as_ref());
    }

    fn remove(&mut self, space: &Keyspace, key: impl AsRef<[u8]>) {
        self.bytes += key.as_ref().len() + ROW_BYTES;
        self.write.remove(space, key.as_ref());
    }
}

fn failed(operation: &'static str) -> impl Fn(fjall::Error) -> CaptureError {
    move |source| CaptureError::Index { operation, source }
}

fn edge_key(parent: NodeId, name: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(8 + name.len());
    key.extend_from_slice(&parent.to_key());
    key.extend_from_slice(name);
    key
}

fn edge_of_key(key: &[u8]) -> Option<Edge> {
    let (parent, name) = key.split_at_checked(8)?;
    Some(Edge::new(NodeId::from_key(parent)?, Name::new(name)?))
}

fn link_key(node: NodeId, edge: &Edge) -> Vec<u8> {
    let mut key = Vec::with_capacity(16 + edge.name.as_bytes().len());
    key.extend_from_slice(&node.to_key());
    key.extend_from_slice(&edge.parent.to_key());
    key.extend_from_slice(edge.name.as_bytes());
    key
}

fn origin_key(root: RootNo, origin: &Origin) -> [u8; 34] {
    let mut key = [0; 34];
    let parts = [
        &root.0.to_be_bytes()[..],
        &origin.device.to_be_bytes(),
        &origin.inode.to_be_bytes(),
        &origin.generation.to_be_bytes(),
        &origin.birth.to_be_bytes(),
    ];
    for (to, from) in key.iter_mut().zip(parts.concat()) {
        *to = from;
    }
    key
}

fn hashes_key(node: NodeId, group: u64) -> [u8; 16] {
    Lsn::local(node.0, group).to_key()
}

fn node_of(bytes: &[u8], space: &'static str) -> Result<NodeId, CaptureError> {
    NodeId::from_key(bytes).ok_or(CaptureError::BadRow { space })
}

impl Index {
    /// Opens the index in a directory of its own, creating it if need be, and takes its mark of a clean stop away.
    /// What cannot be opened is deleted: it can be rebuilt.
    ///
    /// # Errors
    /// `Index` or `File` if the directory cannot be used.
    pub fn open(directory: &Path) -> Result<(Self, IndexState), CaptureError> {
        let first = Self::open_once(directory);
        let index = match first {
            Ok(index) => index,
            Err(error) => {
                tracing::warn!(path = %directory.display(), %error, "the index does not open; it will be rebuilt");
                Self::remove(directory)?;
                Self::open_once(directory)?
            }
        };
        index.begin_use()
    }

    fn remove(directory: &Path) -> Result<(), CaptureError> {
        remove_tables(directory).map_err(|source| CaptureError::File {
            operation: "remove the index",
            path: directory.to_owned(),
            source,
        })
    }

    fn open_once(directory: &Path) -> Result<Self, CaptureError> {
        let database = Database::builder(directory)
            .cache_size(CACHE_BYTES)
            .max_journaling_size(JOURNAL_BYTES)
            .worker_threads(1)
            .open()
            .map_err(failed("open"))?;
        let space = |name: &str| database.keyspace(name, Memtables::options).map_err(failed("open a table"));
        let [nodes, origins, names, links, hashes, skips, heads] = [
            space("nodes")?,
            space("origins")?,
            space("names")?,
            space("links")?,
            space("hashes")?,
            space("skips")?,
            space("heads")?,
        ];
        let all = [&nodes, &origins, &names, &links, &hashes, &skips, &heads];
        Ok(Index {
            memtables: Memtables::new(&database, all.into_iter().cloned().collect())
                .map_err(failed("write tables out"))?,
            nodes,
            origins,
            names,
            links,
            hashes,
            skips,
            heads,
            path: directory.to_owned(),
            database,
            sums: Mutex::default(),
            next_node: NodeId::FIRST_FREE.0,
        })
    }

    fn begin_use(mut self) -> Result<(Self, IndexState), CaptureError> {
        let read = failed("read a head");
        let known = self.heads.get("format").map_err(&read)?;
        let clean = self.heads.get("clean").map_err(&read)?;
        let mut state = match (known.as_deref(), clean.as_deref()) {
            (None, _) => IndexState::Empty,
            (Some(format), _) if format != FORMAT => IndexState::Dirty,
            (Some(_), None) => IndexState::Dirty,
            (Some(_), Some(mark)) => self.clean_state(mark).unwrap_or(IndexState::Dirty),
        };
        if state != IndexState::Dirty
            && let Some(next) =
                self.heads.get("next").map_err(&read)?.and_then(|next| NodeId::from_key(&next))
        {
            self.next_node = next.0;
        }
        if let IndexState::Clean { .. } = state {
            match self.saved_sums()? {
                Some(sums) => self.sums = Mutex::new(sums),
                None => state = IndexState::Dirty,
            }
        }
        let write = failed("write a head");
        self.heads.remove("clean").map_err(&write)?;
        // The mark must be gone on disk before anything else is written: a crash must find the index dirty.
        self.database.persist(PersistMode::SyncAll).map_err(&write)?;
        Ok((self, state))
    }

    fn clean_state(&self, mark: &[u8]) -> Option<IndexState> {
        let (lsn, time) = mark.split_at_checked(16)?;
        let time = Timestamp(i64::from_be_bytes(time.try_into().ok()?));
        Some(IndexState::Clean { lsn: Lsn::from_key(lsn)?, time })
    }

    /// Declares an empty index to be in use: from now on it is dirty until closed.
    pub(super) fn begin(&self) -> Result<(), CaptureError> {
        self.heads.insert("format", FORMAT).map_err(failed("write a head"))
    }

    /// What was committed is there, whether or not it can be written out; if fjall can write no more, the next commit says so.
    fn wrote(&self, bytes: usize) {
        if let Err(error) = self.memtables.wrote(bytes) {
            tracing::error!(%error, "the index cannot be written out");
        }
    }

    /// Gives back the memory that much work took: tables in memory are written out, in the background, and let go of
    /// when it is called again. Whether there was anything to be done. Nothing fails for it.
    pub(super) fn settle(&self) -> bool {
        self.memtables.settle().unwrap_or_else(|error| {
            tracing::warn!(%error, "the index keeps its memory");
            false
        })
    }

    /// Whether it is worth while to settle again soon.
    pub(super) fn holds(&self) -> bool {
        self.memtables.holds()
    }

    /// Closes the index in good order: it is what the stream says up to `lsn`.
    ///
    /// # Errors
    /// `Index` if it cannot be made durable; it is dirty then.
    pub fn close(self, lsn: Lsn, time: Timestamp) -> Result<(), CaptureError> {
        let write = failed("close");
        self.begin()?;
        self.heads.insert("next", NodeId(self.next_node).to_key()).map_err(&write)?;
        self.save_sums()?;
        self.database.persist(PersistMode::SyncAll).map_err(&write)?;
        let mut mark = lsn.to_key().to_vec();
        mark.extend_from_slice(&time.0.to_be_bytes());
        self.heads.insert("clean", mark).map_err(&write)?;
        self.database.persist(PersistMode::SyncAll).map_err(&write)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A new identity.
    pub(super) fn mint(&mut self) -> NodeId {
        let node = NodeId(self.next_node);
        self.next_node += 1;
        node
    }

    /// Who stands at a name.
    pub(super) fn child(&self, edge: &Edge) -> Result<Option<NodeId>, CaptureError> {
        let key = edge_key(edge.parent, edge.name.as_bytes());
        self.names.get(key).map_err(failed("read a name"))?.map(|node| node_of(&node, "names")).transpose()
    }

    /// Entries of a directory in the order of their names, lazily.
    pub(super) fn children(
        &self,
        parent: NodeId,
    ) -> impl Iterator<Item = Result<(Edge, NodeId), CaptureError>> + use<> {
        self.names.prefix(parent.to_key()).map(|row| {
            let (key, node) = row.into_inner().map_err(failed("read names"))?;
            let edge = edge_of_key(&key).ok_or(CaptureError::BadRow { space: "names" })?;
            Ok((edge, node_of(&node, "names")?))
        })
    }

    /// All names of a node, that in the kept area included.
    pub(super) fn names_of(&self, node: NodeId) -> Result<Vec<Edge>, CaptureError> {
        let rows = self.links.prefix(node.to_key()).map(|row| {
            let key = row.key().map_err(failed("read links"))?;
            key.get(8..).and_then(edge_of_key).ok_or(CaptureError::BadRow { space: "links" })
        });
        rows.collect()
    }

    /// What is known of a node.
    pub(super) fn row(&self, node: NodeId) -> Result<Option<Row>, CaptureError> {
        self.nodes
            .get(node.to_key())
            .map_err(failed("read a node"))?
            .map(|bytes| Row::decode(&bytes))
            .transpose()
    }

    /// The node of an inode.
    pub(super) fn by_origin(&self, root: RootNo, origin: &Origin) -> Result<Option<NodeId>, CaptureError> {
        let found = self.origins.get(origin_key(root, origin)).map_err(failed("read an origin"))?;
        found.map(|node| node_of(&node, "origins")).transpose()
    }

    /// Hashes of group number `group` of a file's blocks.
    pub(super) fn hashes(&self, node: NodeId, group: u64) -> Result<Option<Vec<u8>>, CaptureError> {
        let row = self.hashes.get(hashes_key(node, group)).map_err(failed("read hashes"))?;
        Ok(row.map(|row| row.to_vec()))
    }

    /// Replaces the hashes of a group.
    pub(super) fn put_hashes(&self, node: NodeId, group: u64, hashes: &[u8]) -> Result<(), CaptureError> {
        self.hashes.insert(hashes_key(node, group), hashes).map_err(failed("write hashes"))?;
        self.wrote(hashes.len() + ROW_BYTES);
        Ok(())
    }

    /// Forgets the hashes of all groups from `group` on.
    pub(super) fn cut_hashes(&self, node: NodeId, group: u64) -> Result<(), CaptureError> {
        let range = hashes_key(node, group)..=hashes_key(node, u64::MAX);
        for row in self.hashes.range(range) {
            let key = row.key().map_err(failed("read hashes"))?;
            self.hashes.remove(key).map_err(failed("remove hashes"))?;
            self.wrote(ROW_BYTES);
        }
        Ok(())
    }

    /// What is missing in the stream of a name.
    pub(super) fn skip(&self, edge: &Edge) -> Result<Option<SkipRow>, CaptureError> {
        let key = edge_key(edge.parent, edge.name.as_bytes());
        self.skips.get(key).map_err(failed("read a skip"))?.map(|bytes| SkipRow::decode(&bytes)).transpose()
    }

    /// What is missing in the stream of names in this directory.
    pub(super) fn skips_in(&self, dir: NodeId) -> Result<Vec<Edge>, CaptureError> {
        let rows = self.skips.prefix(dir.to_key()).map(|row| {
            let key = row.key().map_err(failed("read skips"))?;
            edge_of_key(&key).ok_or(CaptureError::BadRow { space: "skips" })
        });
        rows.collect()
    }

    /// What the stream says is missing at names that are not there any more.
    pub(super) fn stale_skips(&self, root: RootNo) -> Result<Vec<Edge>, CaptureError> {
        self.skips_in(NodeId::kept(root))
    }

    /// Everything that is missing in the stream.
    pub(super) fn skips(&self) -> impl Iterator<Item = Result<(Edge, SkipRow), CaptureError>> + use<> {
        self.skips.iter().map(|row| {
            let (key, value) = row.into_inner().map_err(failed("read skips"))?;
            let edge = edge_of_key(&key).ok_or(CaptureError::BadRow { space: "skips" })?;
            Ok((edge, SkipRow::decode(&value)?))
        })
    }

    /// Files (all that is no directory), directories (roots among them) and bytes of files, by counting.
    pub(super) fn totals(&self) -> Result<(u64, u64, u64), CaptureError> {
        let (mut files, mut directories, mut bytes) = (0, 0, 0u64);
        for row in self.nodes.iter() {
            let row = Row::decode(&row.value().map_err(failed("read nodes"))?)?;
            if row.sort() == Sort::Directory {
                directories += 1;
            } else {
                files += 1;
                bytes = bytes.saturating_add(row.size);
            }
        }
        Ok((files, directories, bytes))
    }

    /// Begins a batch.
    pub(super) fn batch(&self) -> Batch {
        Batch { write: self.database.batch(), bytes: 0, touched: Touched::default() }
    }

    /// Makes a batch visible.
    pub(super) fn commit(&self, batch: Batch) -> Result<(), CaptureError> {
        let sums = self.sums_after(&batch)?;
        batch.write.commit().map_err(failed("commit"))?;
        *self.sums.lock() = sums;
        self.wrote(batch.bytes);
        Ok(())
    }

    pub(super) fn put_row(&self, batch: &mut Batch, node: NodeId, row: &Row) -> Result<(), CaptureError> {
        batch.insert(&self.nodes, node.to_key(), row.encode()?);
        batch.touched.rows.insert(node, Some(row.clone()));
        Ok(())
    }

    pub(super) fn put_origin(&self, batch: &mut Batch, root: RootNo, origin: &Origin, node: NodeId) {
        batch.insert(&self.origins, origin_key(root, origin), node.to_key());
    }

    /// Another inode takes the place of a node's: what the stream has of the node stays as it is.
    pub(super) fn move_origin(&self, node: NodeId, origin: Origin) -> Result<(), CaptureError> {
        let Some(mut row) = self.row(node)? else { return Ok(()) };
        let mut batch = self.batch();
        if self.by_origin(row.root, &row.origin)? == Some(node) {
            batch.remove(&self.origins, origin_key(row.root, &row.origin));
        }
        row.origin = origin;
        self.put_row(&mut batch, node, &row)?;
        self.put_origin(&mut batch, row.root, &origin, node);
        self.commit(batch)
    }

    pub(super) fn put_edge(&self, batch: &mut Batch, edge: &Edge, node: NodeId) {
        batch.insert(&self.names, edge_key(edge.parent, edge.name.as_bytes()), node.to_key());
        batch.insert(&self.links, link_key(node, edge), []);
        batch.touched.names.insert(edge.clone(), Some(node));
    }

    pub(super) fn remove_edge(&self, batch: &mut Batch, edge: &Edge, node: NodeId) {
        batch.remove(&self.names, edge_key(edge.parent, edge.name.as_bytes()));
        batch.remove(&self.links, link_key(node, edge));
        batch.touched.names.insert(edge.clone(), None);
    }

    pub(super) fn put_skip(
        &self,
        batch: &mut Batch,
        edge: &Edge,
        skip: Option<&SkipRow>,
    ) -> Result<(), CaptureError> {
        let key = edge_key(edge.parent, edge.name.as_bytes());
        match skip {
            Some(skip) => batch.insert(&self.skips, key, skip.encode()?),
            None => batch.remove(&self.skips, key),
        }
        Ok(())
    }

    /// Forgets a node; its names must be gone.
    pub(super) fn remove_node(&self, batch: &mut Batch, node: NodeId) -> Result<(), CaptureError> {
        if let Some(row) = self.row(node)? {
            // A node of another root, or one that took over an inode number, may own the origin by now.
            if self.by_origin(row.root, &row.origin)? == Some(node) {
                batch.remove(&self.origins, origin_key(row.root, &row.origin));
            }
            batch.remove(&self.nodes, node.to_key());
            batch.touched.rows.insert(node, None);
            if row.block_bits > 0 {
                self.cut_hashes(node, 0)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
