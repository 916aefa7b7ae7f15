//! Digests of the roots as the index has them, and so the stream.
//!
//! Every batch moves the sums by what it changes, from the rows before and after it. They hold all names and rows of the
//! index but those of kept areas; what was removed a moment ago, and is not forgotten yet, is in them ([`super::super::proof`]
//! takes it out). They are in memory, written with the mark of a clean stop, and made anew by a rebuild.

use super::super::CaptureError;
use super::{Batch, Index, Row, failed};
use journal::digest::{DIGEST_BYTES, Digest};
use journal::{Edge, NodeId, RootNo};
use std::collections::{BTreeMap, HashMap};

/// Digests by root.
pub(in super::super) type Sums = BTreeMap<RootNo, Digest>;

const KEY: &str = "digests";

/// Names and rows as a batch leaves them.
#[derive(Default)]
pub(super) struct Touched {
    pub rows: HashMap<NodeId, Option<Row>>,
    pub names: HashMap<Edge, Option<NodeId>>,
}

pub(in super::super) fn add(sums: &mut Sums, root: RootNo, entry: Digest) {
    let sum = sums.entry(root).or_default();
    *sum = sum.plus(entry);
}

pub(in super::super) fn take(sums: &mut Sums, root: RootNo, entry: Digest) {
    let sum = sums.entry(root).or_default();
    *sum = sum.minus(entry);
}

/// The entry of a node.
pub(in super::super) fn entry_of(node: NodeId, row: &Row) -> Option<Digest> {
    row.facts().map(|facts| Digest::of_node(node, &facts))
}

impl Index {
    /// The sums over all rows.
    pub(in super::super) fn sums(&self) -> Sums {
        self.sums.lock().clone()
    }

    /// What the sums are once a batch is there.
    pub(super) fn sums_after(&self, batch: &Batch) -> Result<Sums, CaptureError> {
        let mut sums = self.sums();
        for (node, row) in &batch.touched.rows {
            if let Some(old) = self.row(*node)?
                && let Some(entry) = entry_of(*node, &old)
            {
                take(&mut sums, old.root, entry);
            }
            if let Some(new) = row
                && let Some(entry) = entry_of(*node, new)
            {
                add(&mut sums, new.root, entry);
            }
        }
        for (edge, node) in &batch.touched.names {
            if edge.parent.is_kept_area() {
                continue;
            }
            let old = self.child(edge)?;
            if old == *node {
                continue;
            }
            if let Some(old) = old
                && let Some(root) = self.root_in(batch, old)?
            {
                take(&mut sums, root, Digest::of_name(edge, old));
            }
            if let Some(new) = *node
                && let Some(root) = self.root_in(batch, new)?
            {
                add(&mut sums, root, Digest::of_name(edge, new));
            }
        }
        Ok(sums)
    }

    /// The root of a node that was there before a batch or is there after it.
    fn root_in(&self, batch: &Batch, node: NodeId) -> Result<Option<RootNo>, CaptureError> {
        if let Some(Some(row)) = batch.touched.rows.get(&node) {
            return Ok(Some(row.root));
        }
        Ok(self.row(node)?.map(|row| row.root))
    }

    pub(super) fn save_sums(&self) -> Result<(), CaptureError> {
        let mut bytes = Vec::new();
        for (root, digest) in self.sums() {
            bytes.extend_from_slice(&root.0.to_be_bytes());
            bytes.extend_from_slice(&digest.to_bytes());
        }
        self.heads.insert(KEY, bytes).map_err(failed("write a head"))
    }

    /// The sums that were saved; `None` if there are none.
    pub(super) fn saved_sums(&self) -> Result<Option<Sums>, CaptureError> {
        let Some(bytes) = self.heads.get(KEY).map_err(failed("read a head"))? else { return Ok(None) };
        let mut sums = Sums::new();
        for entry in bytes.chunks(2 + DIGEST_BYTES) {
            let parts = entry.split_first_chunk::<2>();
            let parts = parts.and_then(|(root, digest)| Some((root, digest.first_chunk::<DIGEST_BYTES>()?)));
            let (root, digest) = parts.ok_or(CaptureError::BadRow { space: "heads" })?;
            sums.insert(RootNo(u16::from_be_bytes(*root)), Digest::from_bytes(digest));
        }
        Ok(Some(sums))
    }
}
