//! View(X): the protected tree as it stood at an LSN, read while apply goes on.
//!
//! One rule: the value of anything at X is the earliest undo after X, else the present value. A reader takes the
//! present value first and looks for undo second. Apply publishes undo (in the same batch, and visible before the new
//! present rows) before it touches the tree. So if the present value was already newer than X when it was read, the
//! undo that covers it was there before the reader looked for it: undo found wins, and no lock is needed.
//!
//! Files are opened by their present name and compared by inode. Apply moves names after it publishes them, so for a
//! moment a name may not lead to its node; the reader then looks again, unless it knows that nothing moves. What
//! retention may drop is held by a pin that whoever opens the view has taken.

pub mod difference;
mod extents;
mod locate;
mod places;
mod undo_rows;

pub use difference::{Difference, NameChange};
pub use extents::ChangedExtents;
pub use locate::{Located, Locator};
pub use places::{Places, join};
use undo_rows::UndoRows;

use crate::error::JournalError;
use crate::event::PayloadAt;
use crate::extents::ExtentMap;
use crate::id::{Edge, Name, NodeId, RootNo};
use crate::journal::Motion;
use crate::lsn::Lsn;
use crate::meta::Meta;
use crate::record::UndoSource;
use crate::state::rows::{self, CHUNK_BYTES};
use crate::state::{NodeRow, State, root_row};
use crate::tables::{Space, Tables, prefix_end};
use crate::tree::{TreeFile, TreeIo};
use bytes::Bytes;
use std::ops::Range;
use std::sync::Arc;

/// Reads bytes that undo refers to.
pub trait UndoBytes: Send + Sync {
    /// A payload of the undo stream.
    ///
    /// # Errors
    /// `Damaged`, `File`.
    fn undo_payload(&self, at: PayloadAt) -> Result<Bytes, JournalError>;
    /// A payload of the redo stream.
    ///
    /// # Errors
    /// `Damaged`, `File`.
    fn redo_payload(&self, at: PayloadAt) -> Result<Bytes, JournalError>;
}

/// The tree at an LSN.
pub struct View<T: TreeIo> {
    lsn: Lsn,
    tables: Arc<dyn Tables>,
    bytes: Arc<dyn UndoBytes>,
    locator: Locator<T>,
}

/// A file of a view, open for reading.
pub struct ViewFile<'v, T: TreeIo> {
    view: &'v View<T>,
    node: NodeId,
    size: u64,
    /// Where it may be now, and its inode.
    guess: Option<(Edge, u64)>,
    present: Option<T::File>,
}

/// A piece of a file as undo has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UndonePiece {
    /// Where it belongs.
    pub range: Range<u64>,
    /// Its bytes.
    pub bytes: Bytes,
    /// The payload of the undo stream that holds them as they are, and how far into it, if there is one.
    pub from: Option<(PayloadAt, u32)>,
}

/// A node as a view shows it, with what helps to open it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Metadata at the point.
    pub meta: Meta,
    /// Its inode in the replica tree; 0 if it is not known.
    pub inode: u64,
}

/// Entries of a directory read at a time.
const LIST_PAGE: usize = 1024;

impl<T: TreeIo> View<T> {
    /// The tree as of `lsn`, which must be applied and inside the window, and pinned by the caller.
    #[must_use]
    pub fn new(lsn: Lsn, tables: Arc<dyn Tables>, bytes: Arc<dyn UndoBytes>, tree: Arc<T>) -> Self {
        let locator = Locator::new(Arc::clone(&tables), tree);
        View { lsn, tables, bytes, locator }
    }

    /// The same view, for a tree of which it is known whether it is on the move.
    #[must_use]
    pub fn watching(mut self, motion: Arc<Motion>) -> Self {
        self.locator = self.locator.watching(motion);
        self
    }

    /// The point it shows.
    #[must_use]
    pub fn lsn(&self) -> Lsn {
        self.lsn
    }

    /// The tables it reads.
    #[must_use]
    pub fn tables(&self) -> &Arc<dyn Tables> {
        &self.tables
    }

    /// The node at a name.
    ///
    /// # Errors
    /// As the tables.
    pub fn lookup(&self, edge: &Edge) -> Result<Option<NodeId>, JournalError> {
        let present = State::name(&*self.tables, edge)?;
        let from = rows::name_undo_key(edge, self.lsn.successor());
        let to = rows::name_undo_key(edge, Lsn::MAX);
        match self.tables.range(Space::NameUndo, &from, &to).next() {
            Some(row) => rows::read(Space::NameUndo, &row?.1),
            None => Ok(present),
        }
    }

    /// Follows a path below a root, link targets not followed.
    ///
    /// # Errors
    /// As the tables.
    pub fn resolve(&self, root: RootNo, path: &[u8]) -> Result<Option<NodeId>, JournalError> {
        let mut at = NodeId::root(root);
        for part in path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
            let Some(name) = Name::new(part) else { return Ok(None) };
            match self.lookup(&Edge::new(at, name))? {
                Some(node) => at = node,
                None => return Ok(None),
            }
        }
        Ok(Some(at))
    }

    /// Metadata of a node that this view shows; `None` for an unknown id.
    ///
    /// # Errors
    /// As the tables.
    pub fn meta(&self, node: NodeId) -> Result<Option<Meta>, JournalError> {
        Ok(self.look(node)?.map(|seen| seen.meta))
    }

    /// Metadata of a node that this view shows, and its inode; `None` for an unknown id.
    ///
    /// # Errors
    /// As the tables.
    pub fn look(&self, node: NodeId) -> Result<Option<Seen>, JournalError> {
        let present = State::node(&*self.tables, node)?;
        let inode = present.as_ref().map_or(0, |row| row.inode);
        let from = rows::node_undo_key(node, self.lsn.successor());
        let to = rows::node_undo_key(node, Lsn::MAX);
        let meta = match self.tables.range(Space::NodeUndo, &from, &to).next() {
            Some(row) => Some(rows::read(Space::NodeUndo, &row?.1)?),
            None if node.as_root_or_kept().is_some() => Some(present.unwrap_or_else(root_row).meta),
            None => present.map(|row| row.meta),
        };
        Ok(meta.map(|meta| Seen { meta, inode }))
    }

    /// The present row of a node: inode, origin.
    ///
    /// # Errors
    /// As the tables.
    pub fn row(&self, node: NodeId) -> Result<Option<NodeRow>, JournalError> {
        State::node(&*self.tables, node)
    }

    /// Entries of a directory in byte order of names, after `after`; at most some thousand a call. An empty list
    /// means there are no more.
    ///
    /// # Errors
    /// As the tables.
    pub fn list_page(&self, dir: NodeId, after: Option<&Name>) -> Result<Vec<(Name, NodeId)>, JournalError> {
        let prefix = dir.to_key();
        let end = prefix_end(&prefix);
        let mut after = after.cloned();
        loop {
            let low = match &after {
                Some(name) => [&prefix, name.as_bytes(), &[0]].concat(),
                None => prefix.to_vec(),
            };
            let mut entries = std::collections::BTreeMap::new();
            for row in self.tables.range(Space::Names, &low, &end).take(LIST_PAGE) {
                let (key, value) = row?;
                let node = NodeId::from_key(&value).ok_or(JournalError::BadRow { space: "names" })?;
                entries.insert(rows::edge_of_name_key(&key)?.name, node);
            }
            // The page covers all names up to its last one; if it is not full, all there are.
            let last = entries.last_key_value().map(|(last, _)| last.clone());
            let last = last.filter(|_| entries.len() == LIST_PAGE);
            let behind = |name: &Name| name_undo_end(&Edge::new(dir, name.clone()));
            let from = after.as_ref().map_or_else(|| prefix.to_vec(), behind);
            let to = last.as_ref().map_or_else(|| end.clone(), behind);
            self.undo_names(from, &to, &mut entries)?;
            if !entries.is_empty() || last.is_none() {
                return Ok(entries.into_iter().collect());
            }
            after = last;
        }
    }

    /// Applies undo of names whose undo keys lie in `from..to`, which holds all or none of the undo of a name.
    fn undo_names(
        &self,
        mut from: Vec<u8>,
        to: &[u8],
        entries: &mut std::collections::BTreeMap<Name, NodeId>,
    ) -> Result<(), JournalError> {
        while let Some(row) = self.tables.range(Space::NameUndo, &from, to).next() {
            let (key, value) = row?;
            let (edge, lsn) = rows::parse_name_undo_key(&key)?;
            if lsn <= self.lsn {
                from = rows::name_undo_key(&edge, self.lsn.successor());
                continue;
            }
            match rows::read::<Option<NodeId>>(Space::NameUndo, &value)? {
                Some(node) => entries.insert(edge.name.clone(), node),
                None => entries.remove(&edge.name),
            };
            from = name_undo_end(&edge);
        }
        Ok(())
    }

    /// All entries of a directory, in byte order of names, a page at a time.
    pub fn list(&self, dir: NodeId) -> impl Iterator<Item = Result<(Name, NodeId), JournalError>> + '_ {
        let mut after: Option<Name> = None;
        let mut page = Vec::new().into_iter();
        let mut over = false;
        std::iter::from_fn(move || {
            loop {
                if let Some((name, node)) = page.next() {
                    after = Some(Name::clone(&name));
                    return Some(Ok((name, node)));
                }
                if over {
                    return None;
                }
                match self.list_page(dir, after.as_ref()) {
                    Ok(entries) => {
                        over = entries.is_empty();
                        page = entries.into_iter();
                    }
                    Err(error) => {
                        over = true;
                        return Some(Err(error));
                    }
                }
            }
        })
    }

    /// Opens a file this view shows.
    ///
    /// # Errors
    /// `NotFound` if it is no file; `Tree`, `Drift` if the replica does not hold it.
    pub fn open(&self, node: NodeId) -> Result<ViewFile<'_, T>, JournalError> {
        let missing = || JournalError::NotFound { what: "file", name: node.to_string() };
        let meta = self.meta(node)?.ok_or_else(missing)?;
        if !meta.kind.is_file() {
            return Err(missing());
        }
        Ok(ViewFile { view: self, node, size: meta.size, guess: None, present: None })
    }

    /// As [`View::open`], for whoever has just looked at the node ([`View::look`]) and knows a name of it. The name is a
    /// guess where it is now: it is believed only if the inode there is the node's.
    ///
    /// # Errors
    /// As [`View::open`].
    pub fn open_seen(&self, node: NodeId, seen: &Seen, place: Edge) -> Result<ViewFile<'_, T>, JournalError> {
        if !seen.meta.kind.is_file() {
            return Err(JournalError::NotFound { what: "file", name: node.to_string() });
        }
        Ok(ViewFile {
            view: self,
            node,
            size: seen.meta.size,
            guess: Some((place, seen.inode)),
            present: None,
        })
    }

    /// Sources of the bytes of `range` that changed after the point, earliest first wins.
    fn undo_of(&self, node: NodeId, range: Range<u64>) -> Result<ExtentMap<(u64, UndoSource)>, JournalError> {
        let mut found: ExtentMap<(u64, UndoSource)> = ExtentMap::default();
        let last = range.end.saturating_sub(1) / CHUNK_BYTES;
        let end = rows::data_undo_key(node, last, Lsn::MAX, u32::MAX);
        let first = range.start / CHUNK_BYTES;
        let mut rows = UndoRows::new(&*self.tables, node, (self.lsn, Lsn::MAX), first, end);
        while let Some(row) = rows.next().transpose()? {
            let chunk = row.chunk * CHUNK_BYTES;
            let whole = chunk.max(range.start)..(chunk + CHUNK_BYTES).min(range.end);
            let start = chunk + u64::from(row.within);
            let extent = start.max(whole.start)..(start + u64::from(row.bytes)).min(whole.end);
            if extent.start >= extent.end {
                continue;
            }
            for gap in found.gaps(extent) {
                found.insert(gap, (start, row.source.clone()));
            }
            if found.gaps(whole).is_empty() {
                rows.leave(row.chunk);
            }
        }
        Ok(found)
    }
}

/// A part of a payload, not copied.
pub(crate) fn cut(payload: &Bytes, skip: u32, length: usize) -> Result<Bytes, JournalError> {
    let from = skip as usize;
    let end = from.checked_add(length).filter(|end| *end <= payload.len());
    end.map(|end| payload.slice(from..end)).ok_or(JournalError::BadRow { space: Space::DataUndo.name() })
}

/// The bytes a source stands for.
fn bytes_from(bytes: &dyn UndoBytes, source: &UndoSource, length: usize) -> Result<Bytes, JournalError> {
    match source {
        UndoSource::Zero => Ok(vec![0; length].into()),
        UndoSource::Undo { at, skip } => cut(&bytes.undo_payload(*at)?, *skip, length),
        UndoSource::Redo { at, skip } => cut(&bytes.redo_payload(*at)?, *skip, length),
        UndoSource::Delta { at, skip, redo, from } => {
            let after = cut(&bytes.redo_payload(*redo)?, *from, length)?;
            let differs = cut(&bytes.undo_payload(*at)?, *skip, length)?;
            Ok(after.iter().zip(&differs[..]).map(|(byte, differs)| byte ^ differs).collect())
        }
    }
}

/// Fills `target` with the bytes a source stands for.
fn fill_from(bytes: &dyn UndoBytes, source: &UndoSource, target: &mut [u8]) -> Result<(), JournalError> {
    match source {
        UndoSource::Zero => target.fill(0),
        _ => target.copy_from_slice(&bytes_from(bytes, source, target.len())?),
    }
    Ok(())
}

/// The key behind all undo of a name.
fn name_undo_end(edge: &Edge) -> Vec<u8> {
    [&rows::name_undo_key(edge, Lsn::MAX)[..], &[0]].concat()
}

impl<T: TreeIo> ViewFile<'_, T> {
    /// Size at the point, in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Fills `buffer` from `offset`; fewer bytes only at the end of the file.
    ///
    /// # Errors
    /// `Tree`, `Drift`, `Damaged`.
    pub fn read_at(&mut self, buffer: &mut [u8], offset: u64) -> Result<usize, JournalError> {
        let bytes = (buffer.len() as u64).min(self.size.saturating_sub(offset)) as usize;
        let Some(buffer) = buffer.get_mut(..bytes).filter(|buffer| !buffer.is_empty()) else { return Ok(0) };
        let range = offset..offset + bytes as u64;
        // Present first, undo second: see the head of this file.
        let read = self.present()?.read_at(buffer, offset).map_err(|source| JournalError::Tree {
            operation: "read",
            object: self.node.to_string(),
            source,
        })?;
        if let Some(rest) = buffer.get_mut(read..) {
            rest.fill(0);
        }
        for (piece, found) in self.view.undo_of(self.node, range.clone())?.pieces(range) {
            let Some((start, source)) = found else { continue };
            let part = (piece.start - offset) as usize..(piece.end - offset) as usize;
            let Some(target) = buffer.get_mut(part) else { continue };
            // Within one row, whose length is 32 bits.
            fill_from(&*self.view.bytes, &source.further((piece.start - start) as u32), target)?;
        }
        Ok(bytes)
    }

    /// The bytes of `range` as undo alone has them, in pieces, without looking at the present; `None` if undo does not
    /// have them all. What is most of a payload is not copied; whoever kept a small part of one would keep all of it.
    ///
    /// # Errors
    /// As [`ViewFile::read_at`].
    pub fn undo_pieces(&self, range: Range<u64>) -> Result<Option<Vec<UndonePiece>>, JournalError> {
        if range.end > self.size {
            return Ok(None);
        }
        // The earliest undo after the point stays the earliest, so nothing has to be looked at before it.
        let undo = self.view.undo_of(self.node, range.clone())?;
        let mut runs: Vec<(Range<u64>, UndoSource)> = Vec::new();
        for (piece, found) in undo.pieces(range) {
            let Some((start, source)) = found else { return Ok(None) };
            // Within one row, whose length is 32 bits.
            let source = source.further((piece.start - start) as u32);
            match runs.last_mut() {
                Some((run, first)) if first.further((run.end - run.start) as u32) == source => {
                    run.end = piece.end;
                }
                _ => runs.push((piece, source)),
            }
        }
        let piece = |(range, source): (Range<u64>, UndoSource)| {
            let bytes = bytes_from(&*self.view.bytes, &source, (range.end - range.start) as usize)?;
            let (whole, from) = match source {
                UndoSource::Undo { at, skip } => (at.bytes as usize, Some((at, skip))),
                UndoSource::Redo { at, .. } => (at.bytes as usize, None),
                UndoSource::Zero | UndoSource::Delta { .. } => (0, None),
            };
            let bytes = if bytes.len() * 2 < whole { Bytes::copy_from_slice(&bytes) } else { bytes };
            Ok(UndonePiece { range, bytes, from })
        };
        runs.into_iter().map(piece).collect::<Result<_, _>>().map(Some)
    }

    /// All bytes; for small files and tests.
    ///
    /// # Errors
    /// As [`ViewFile::read_at`].
    pub fn read_all(&mut self) -> Result<Vec<u8>, JournalError> {
        let mut all = vec![0; usize::try_from(self.size).unwrap_or(usize::MAX)];
        self.read_at(&mut all, 0)?;
        Ok(all)
    }

    fn present(&mut self) -> Result<&T::File, JournalError> {
        if self.present.is_none() {
            let locator = &self.view.locator;
            let guessed = match self.guess.take() {
                Some((place, inode)) => locator.open_at(&place, inode)?,
                None => None,
            };
            self.present = Some(match guessed {
                Some(file) => file,
                None => locator.open_file(self.node)?,
            });
        }
        self.present
            .as_ref()
            .ok_or_else(|| JournalError::NotFound { what: "file", name: self.node.to_string() })
    }
}
