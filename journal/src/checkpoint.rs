//! Checkpoints: the namespace in a file, so that older segments can go.
//!
//! A checkpoint holds what the tables held between two batches: every name (kept areas included) and the row of every
//! node, the controls, and the head row that says which LSN that was and from where the streams must be read to go
//! on. With it and the retained segments everything else can be rebuilt. It is written beside apply, from a frozen
//! view of the tables, and read back before the manifest names it with its length and hash: what it replaces is given up
//! for good. `FORMAT.md` has the bytes.

use crate::controls::Controls;
use crate::disk::Disk;
use crate::error::JournalError;
use crate::id::{Edge, NodeId};
use crate::journal::{CONTROLS_KEY, HEAD_KEY, PROOFS_KEY, TablesHead};
use crate::log::FileEntry;
use crate::proofs::Proofs;
use crate::record::{decode, encode};
use crate::state::rows::{self, NodeRow};
use crate::state::{Overlay, counted, digests_put};
use crate::tables::{Frozen, Space, Tables};
use bincode::{Decode, Encode};
use std::io;
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"RWNDCKPT";
const VERSION: u32 = 2;
const HEADER_BYTES: u64 = 32;
/// Rows of one block, and bytes of rows after which it is closed: a node may have long extended attributes, and what
/// is written must decode within the limit of a record.
const BLOCK_ROWS: usize = 4096;
const BLOCK_BYTES: usize = 1 << 20;
/// A block longer than this is not one.
const BLOCK_BYTES_MAX: u32 = 64 << 20;

#[derive(Encode, Decode)]
enum BlockV1 {
    Head(Box<HeadV1>),
    Names(Vec<(Edge, NodeId)>),
    Nodes(Vec<(NodeId, NodeRow)>),
    End {
        names: u64,
        nodes: u64,
    },
    /// Since version 2, behind the head.
    Proofs(Proofs),
}

#[derive(Encode, Decode)]
pub(crate) struct HeadV1 {
    pub(crate) head: TablesHead,
    pub(crate) controls: Controls,
}

struct Out<'d> {
    file: std::sync::Arc<dyn crate::disk::DiskFile>,
    path: &'d Path,
    at: u64,
    hash: blake3::Hasher,
}

impl Out<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), JournalError> {
        self.file.write_at(bytes, self.at).map_err(|source| file_error("write", self.path, source))?;
        self.hash.update(bytes);
        self.at += bytes.len() as u64;
        Ok(())
    }

    fn block(&mut self, block: &BlockV1) -> Result<(), JournalError> {
        let body = encode(block);
        let mut bytes = Vec::with_capacity(body.len() + 8);
        bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&crc32c::crc32c(&body).to_le_bytes());
        bytes.extend_from_slice(&body);
        self.write(&bytes)
    }
}

fn file_error(operation: &'static str, path: &Path, source: io::Error) -> JournalError {
    JournalError::File { operation, path: path.to_owned(), source }
}

/// Writes a checkpoint of frozen tables and makes it durable; the manifest must name it next.
///
/// # Errors
/// `NotFound` if the tables have no head yet; as disk and tables. The file is then removed at the next opening.
pub(crate) fn write(
    disk: &dyn Disk,
    directory: &Path,
    name: &str,
    frozen: &dyn Frozen,
    controls: Controls,
    proofs: Proofs,
) -> Result<FileEntry, JournalError> {
    let path = directory.join(name);
    let head = frozen.get(Space::Heads, HEAD_KEY)?;
    let head = head.ok_or_else(|| JournalError::NotFound { what: "head row", name: name.to_owned() })?;
    let head: TablesHead = rows::read(Space::Heads, &head)?;
    // One that a failed attempt left: no manifest names it, so it does not count.
    match disk.remove(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(file_error("remove", &path, error));
        }
        _ => {}
    }
    let file = disk.create(&path).map_err(|source| file_error("create", &path, source))?;
    let mut out = Out { file, path: &path, at: 0, hash: blake3::Hasher::new() };
    let mut header = [0; HEADER_BYTES as usize];
    let (magic, rest) = header.split_at_mut(8);
    magic.copy_from_slice(MAGIC);
    let (version, rest) = rest.split_at_mut(8);
    version.copy_from_slice(&u64::from(VERSION).to_le_bytes());
    rest.copy_from_slice(&head.journal);
    out.write(&header)?;
    out.block(&BlockV1::Head(Box::new(HeadV1 { head, controls })))?;
    out.block(&BlockV1::Proofs(proofs))?;
    let names = blocks(
        frozen,
        Space::Names,
        &mut out,
        |key, value| {
            let node = NodeId::from_key(value).ok_or(JournalError::BadRow { space: "names" })?;
            Ok((rows::edge_of_name_key(key)?, node))
        },
        BlockV1::Names,
    )?;
    let nodes = blocks(
        frozen,
        Space::Nodes,
        &mut out,
        |key, value| {
            let node = NodeId::from_key(key).ok_or(JournalError::BadRow { space: "nodes" })?;
            Ok((node, rows::read(Space::Nodes, value)?))
        },
        BlockV1::Nodes,
    )?;
    out.block(&BlockV1::End { names, nodes })?;
    out.file.sync_data().map_err(|source| file_error("sync", &path, source))?;
    disk.sync_dir(directory).map_err(|source| file_error("sync", directory, source))?;
    let mut hash = [0; 16];
    if let Some(start) = out.hash.finalize().as_bytes().get(..16) {
        hash.copy_from_slice(start);
    }
    let entry = FileEntry { name: name.to_owned(), bytes: out.at, hash };
    scan(disk, directory, &entry, |_| Ok(()))?;
    Ok(entry)
}

fn blocks<R>(
    frozen: &dyn Frozen,
    space: Space,
    out: &mut Out<'_>,
    parse: impl Fn(&[u8], &[u8]) -> Result<R, JournalError>,
    block: impl Fn(Vec<R>) -> BlockV1,
) -> Result<u64, JournalError> {
    let mut count = 0;
    let mut bytes = 0;
    let mut rows = Vec::new();
    for row in frozen.all(space) {
        let (key, value) = row?;
        rows.push(parse(&key, &value)?);
        count += 1;
        bytes += key.len() + value.len();
        if rows.len() == BLOCK_ROWS || bytes >= BLOCK_BYTES {
            out.block(&block(std::mem::take(&mut rows)))?;
            bytes = 0;
        }
    }
    if !rows.is_empty() {
        out.block(&block(rows))?;
    }
    Ok(count)
}

/// What a checkpoint says beside its rows.
pub(crate) struct Loaded {
    pub(crate) head: TablesHead,
    pub(crate) controls: Controls,
    pub(crate) proofs: Proofs,
}

/// Reads a checkpoint into empty tables; length, checksums, counts and hash of the whole file have been found right when
/// it returns. The head row is not put: without it the rows count for nothing, and they must not before history has been
/// read too. A process that ends in between begins anew.
///
/// # Errors
/// `Damaged` with the place; as disk and tables.
pub(crate) fn load(
    disk: &dyn Disk,
    directory: &Path,
    entry: &FileEntry,
    tables: &dyn Tables,
) -> Result<Loaded, JournalError> {
    let mut loaded = None;
    let mut proofs = Proofs::default();
    scan(disk, directory, entry, |block| match block {
        BlockV1::Head(head) => {
            loaded = Some(*head);
            Ok(())
        }
        BlockV1::Names(names) => {
            let mut overlay = Overlay::new(tables);
            for (edge, node) in names {
                overlay.bind(&edge, node)?;
            }
            tables.commit(overlay.into_puts())
        }
        BlockV1::Nodes(nodes) => {
            let put = |(node, row): (NodeId, NodeRow)| {
                (Space::Nodes, node.to_key().to_vec(), Some(rows::write(&row)))
            };
            tables.commit(nodes.into_iter().map(put).collect())
        }
        BlockV1::End { .. } => Ok(()),
        BlockV1::Proofs(found) => {
            proofs = found;
            Ok(())
        }
    })?;
    let missing = || JournalError::Damaged {
        path: directory.join(&entry.name),
        offset: HEADER_BYTES,
        what: "the head is missing",
    };
    let HeadV1 { head, controls } = loaded.ok_or_else(missing)?;
    // The rows were written just now, whatever version of the program wrote the checkpoint.
    let head = TablesHead { version: rows::TABLES_VERSION, ..head };
    let loaded = Loaded { head, controls, proofs };
    let digests = digests_put(&counted(tables)?);
    tables.commit(vec![
        digests,
        (Space::Heads, CONTROLS_KEY.to_vec(), Some(rows::write(&loaded.controls))),
        (Space::Heads, PROOFS_KEY.to_vec(), Some(rows::write(&loaded.proofs))),
    ])?;
    Ok(loaded)
}

/// Gives every block to `take`; then checks counts, length and hash of the whole file.
fn scan(
    disk: &dyn Disk,
    directory: &Path,
    entry: &FileEntry,
    mut take: impl FnMut(BlockV1) -> Result<(), JournalError>,
) -> Result<(), JournalError> {
    let mut reader = In::open(disk, directory.join(&entry.name))?;
    let header = reader.bytes(HEADER_BYTES as u32)?;
    if header.get(..8) != Some(MAGIC.as_slice()) {
        return Err(reader.damaged("no checkpoint"));
    }
    let version = header.get(8..12).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_le_bytes);
    if version > VERSION {
        return Err(JournalError::NewerVersion { path: reader.path, version });
    }
    let (mut names_seen, mut nodes_seen) = (0, 0);
    loop {
        let block = reader.block()?;
        match &block {
            BlockV1::Head(_) | BlockV1::Proofs(_) => {}
            BlockV1::Names(names) => names_seen += names.len() as u64,
            BlockV1::Nodes(nodes) => nodes_seen += nodes.len() as u64,
            BlockV1::End { names, nodes } if (*names, *nodes) == (names_seen, nodes_seen) => break,
            BlockV1::End { .. } => return Err(reader.damaged("rows are missing")),
        }
        take(block)?;
    }
    let hash = reader.hash.finalize();
    if reader.at != entry.bytes || hash.as_bytes().get(..16) != Some(entry.hash.as_slice()) {
        return Err(reader.damaged("its hash is not the one in the manifest"));
    }
    Ok(())
}

struct In {
    file: std::sync::Arc<dyn crate::disk::DiskFile>,
    path: PathBuf,
    at: u64,
    hash: blake3::Hasher,
}

impl In {
    fn open(disk: &dyn Disk, path: PathBuf) -> Result<Self, JournalError> {
        let file = disk.open(&path).map_err(|source| file_error("open", &path, source))?;
        Ok(In { file, path, at: 0, hash: blake3::Hasher::new() })
    }

    fn damaged(&self, what: &'static str) -> JournalError {
        JournalError::Damaged { path: self.path.clone(), offset: self.at, what }
    }

    fn bytes(&mut self, count: u32) -> Result<Vec<u8>, JournalError> {
        let length = self.file.len().map_err(|source| file_error("stat", &self.path, source))?;
        if self.at.saturating_add(u64::from(count)) > length {
            return Err(self.damaged("it ends too early"));
        }
        let mut buffer = vec![0; count as usize];
        let read = self
            .file
            .read_at(&mut buffer, self.at)
            .map_err(|source| file_error("read", &self.path, source))?;
        if read != buffer.len() {
            return Err(self.damaged("it ends too early"));
        }
        self.hash.update(&buffer);
        self.at += u64::from(count);
        Ok(buffer)
    }

    fn block(&mut self) -> Result<BlockV1, JournalError> {
        let head = self.bytes(8)?;
        let word = |range: std::ops::Range<usize>| {
            head.get(range).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_le_bytes)
        };
        let (length, crc) = (word(0..4), word(4..8));
        if length > BLOCK_BYTES_MAX {
            return Err(self.damaged("a block is too long"));
        }
        let body = self.bytes(length)?;
        if crc32c::crc32c(&body) != crc {
            return Err(self.damaged("a block does not match its checksum"));
        }
        decode(&body).map_err(|_| self.damaged("a block does not decode"))
    }
}
