//! What a plan changes on a master, for people: the plan itself, not a comparison beside it.

use super::plan::RewindPlan;
use crate::difference::{Entry, Totals};
use crate::error::RestoreError;
use crate::monitor::{Monitor, Phase};
use journal::serialize::Step;
use journal::state::PointKind;
use journal::view::join;
use journal::{Edge, JournalError, NodeId, RootNo, TreeIo};
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// The names a node gives up and takes.
#[derive(Default)]
struct Moved {
    gone: Vec<Edge>,
    come: Vec<Edge>,
}

impl<T: TreeIo> RewindPlan<'_, T> {
    /// Lists what changes on a master, in the order of roots and paths, until `each` breaks. Sums over what was
    /// listed.
    ///
    /// # Errors
    /// As the tables and the replica tree; `Cancelled`.
    pub fn list_master(
        &self,
        monitor: &dyn Monitor,
        each: &mut dyn FnMut(Entry) -> ControlFlow<()>,
    ) -> Result<Totals, RestoreError> {
        let failed = RestoreError::journal("list what changes");
        let mut entries = Vec::new();
        for (root, order) in &self.orders {
            self.list_names(*root, order.steps(), &mut entries).map_err(&failed)?;
        }
        for work in &self.works {
            if monitor.cancelled() {
                return Err(RestoreError::Cancelled);
            }
            monitor.progress(Phase::Compare, entries.len() as u64, None);
            let mut bytes = 0;
            if work.bytes {
                let pieces = self.pieces(work)?;
                bytes = pieces.old_size().saturating_sub(pieces.new_size());
                for piece in pieces {
                    bytes += piece.map_err(&failed)?.bytes;
                }
            }
            if bytes == 0 && !work.attributes && !work.xattrs {
                continue;
            }
            let then = self.difference.to();
            let path = match then.place(work.source).map_err(&failed)? {
                Some(edge) => then.path(&edge).map_err(&failed)?.map(|(_, path)| path).unwrap_or_default(),
                None => Vec::new(),
            };
            let kind = if bytes > 0 { PointKind::Modified } else { PointKind::Attributes };
            let directory = self.meta_then(work.source)?.kind.is_directory();
            entries.push(Entry {
                kind,
                root: work.root,
                path,
                from: None,
                bytes,
                directory,
                node: work.target,
            });
        }
        entries.sort_by(|a, b| (a.root, &a.path).cmp(&(b.root, &b.path)));
        let mut totals = Totals::default();
        for entry in entries {
            totals.add(&entry);
            if each(entry).is_break() {
                break;
            }
        }
        Ok(totals)
    }

    fn list_names(&self, root: RootNo, steps: &[Step], entries: &mut Vec<Entry>) -> Result<(), JournalError> {
        let mut moved: BTreeMap<NodeId, Moved> = BTreeMap::new();
        for step in steps {
            let known = moved.entry(step.node()).or_default();
            known.gone.extend(step.frees().filter(|edge| !edge.parent.is_kept_area()).cloned());
            known.come.extend(step.takes().filter(|edge| !edge.parent.is_kept_area()).cloned());
        }
        for (node, names) in &moved {
            let (mut gone, mut come) = (names.gone.iter(), names.come.iter());
            loop {
                match (gone.next(), come.next()) {
                    (None, None) => break,
                    (Some(from), None) => self.list_removed(root, from, *node, &moved, entries)?,
                    (from, Some(to)) => entries.extend(self.arrival(root, *node, from, to)?),
                }
            }
        }
        Ok(())
    }

    /// An object that comes to be, or is called differently.
    fn arrival(
        &self,
        root: RootNo,
        node: NodeId,
        from: Option<&Edge>,
        to: &Edge,
    ) -> Result<Option<Entry>, JournalError> {
        let (now, then) = (self.difference.from(), self.difference.to());
        let Some((_, path)) = then.path(&self.edge_then(to))? else { return Ok(None) };
        let from = from.map(|edge| now.path(edge)).transpose()?.flatten().map(|(_, path)| path);
        let Some(meta) = then.view().meta(self.original(node))? else { return Ok(None) };
        let (kind, bytes) =
            if from.is_some() { (PointKind::Renamed, 0) } else { (PointKind::Created, meta.size) };
        Ok(Some(Entry { kind, root, path, from, bytes, directory: meta.kind.is_directory(), node }))
    }

    /// An object that goes, with all it holds but for what belongs elsewhere.
    fn list_removed(
        &self,
        root: RootNo,
        edge: &Edge,
        node: NodeId,
        moved: &BTreeMap<NodeId, Moved>,
        entries: &mut Vec<Entry>,
    ) -> Result<(), JournalError> {
        let now = self.difference.from();
        let Some((_, path)) = now.path(edge)? else { return Ok(()) };
        let mut rest = vec![(node, path)];
        while let Some((node, path)) = rest.pop() {
            let Some(meta) = now.view().meta(node)? else { continue };
            let directory = meta.kind.is_directory();
            if directory {
                for entry in now.view().list(node) {
                    let (name, child) = entry?;
                    if moved.get(&child).is_none_or(|names| names.come.is_empty()) {
                        rest.push((child, join(&path, name.as_bytes())));
                    }
                }
            }
            let (kind, from, bytes) = (PointKind::Removed, None, meta.size);
            entries.push(Entry { kind, root, path, from, bytes, directory, node });
        }
        Ok(())
    }
}
