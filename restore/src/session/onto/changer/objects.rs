//! What is done about each object of the walk.

use super::{Changer, REMOVALS_MAX};
use crate::session::decide::Action;
use crate::session::error::journal;
use crate::session::links::LinkKey;
use crate::session::meta::Meta as Wanted;
use crate::session::onto::filler::{Change, Piece};
use crate::session::onto::standing::{kind, name, unfit};
use crate::session::plan::content_bytes;
use crate::session::receipt::{Listed, chain};
use crate::session::walk::{Entered, Result, Step, Visitor};
use journal::state::PointKind;
use journal::{Edge, Event, Kind, NodeId, TreeIo};
use snapshot::repository::{Id, Node, NodeKind};

impl<T: TreeIo> Changer<'_, '_, T> {
    /// Which pieces are not what the tree has there. Reads all of the file, unless it is asked only whether any differs.
    fn differing(&self, node: NodeId, size: u64, pieces: &[Piece], any: bool) -> Result<Vec<Piece>> {
        let failed = journal("read a file of the tree");
        let mut file = self.view.open(node).map_err(&failed)?;
        let (mut differing, mut buffer) = (Vec::new(), Vec::new());
        for piece in pieces {
            let mut same = piece.offset + piece.bytes <= size;
            if same {
                buffer.resize(usize::try_from(piece.bytes).unwrap_or(0), 0);
                let read = file.read_at(&mut buffer, piece.offset).map_err(&failed)?;
                same = read == buffer.len() && Id::of(&buffer) == piece.blob;
            }
            if !same {
                differing.push(*piece);
                if any {
                    break;
                }
            }
            if self.monitor.cancelled() {
                break;
            }
        }
        Ok(differing)
    }

    /// Makes what stands there like the session's object, if it may be changed. `false` if it may not.
    fn in_place(&mut self, there: NodeId, node: &Node, wanted: &Wanted) -> Result<bool> {
        let Some(now) = self.view.meta(there).map_err(journal("read metadata"))? else { return Ok(false) };
        let like = match &now.kind {
            Kind::Symlink(target) => *target == node.link_target,
            Kind::CharDevice(device) | Kind::BlockDevice(device) => *device == node.device,
            _ => true,
        };
        if kind(&now.kind) != node.kind || !like {
            return Ok(false);
        }
        let several = self.places.names(there).map_err(journal("count names"))?.len() > 1;
        if several && self.used.contains(&there) {
            return Ok(false);
        }
        let file = node.kind == NodeKind::File;
        let pieces = match file {
            true if self.known.is_some_and(|known| known.is_untouched(there, node)) => Vec::new(),
            true => {
                let differing = self.differing(there, now.size, &self.pieces(node), several)?;
                self.alike += u64::from(differing.is_empty() && now.size == node.size);
                differing
            }
            false => Vec::new(),
        };
        let resized = file && now.size != node.size;
        let written = resized || !pieces.is_empty();
        let after = self.metadata(there, wanted, &now, written);
        if several {
            let same = after.is_empty();
            if same {
                self.used.insert(there);
            }
            return Ok(same);
        }
        if after.is_empty() {
            return Ok(true);
        }
        let bytes = pieces.iter().map(|piece| piece.bytes).sum();
        let what = if written { PointKind::Modified } else { PointKind::Attributes };
        self.totals.files += u64::from(written);
        self.totals.bytes += bytes;
        self.tell(what, &self.path.clone(), bytes);
        let before = resized.then_some(Event::Resize { node: there, size: node.size });
        self.file(there, (pieces, false), before.into_iter().collect(), after)?;
        Ok(true)
    }

    /// One more name of a file.
    fn link(&mut self, (at, there): (Edge, Option<NodeId>), first: NodeId) -> Result<()> {
        self.receipt.links += 1;
        if there == Some(first) {
            return Ok(());
        }
        self.totals.links += 1;
        self.tell(PointKind::Created, &self.path.clone(), 0);
        if self.lost.contains(&first) {
            let reason = "the first name of the file could not be restored".to_owned();
            self.fail(Listed { path: self.path.clone(), what: "hard link", reason, errno: None });
            return Ok(());
        }
        let mut before = Vec::new();
        before.extend(there.map(|node| Event::Remove { node, at: at.clone(), parent_mtime: None }));
        before.push(Event::Link { node: first, at, parent_mtime: None });
        let (object, path, pieces, after) = (self.objects, self.path.clone(), Vec::new(), Vec::new());
        self.push(Change { object, path, before, pieces, node: first, new: true, after })
    }

    fn begin(&mut self, step: &Step<'_, NodeId>) -> bool {
        self.objects += 1;
        self.path.clear();
        self.path.extend_from_slice(step.path);
        self.admit(step)
    }
}

impl<T: TreeIo> Visitor<NodeId> for Changer<'_, '_, T> {
    fn enter(&mut self, step: Step<'_, NodeId>) -> Result<Entered<NodeId>> {
        if step.name.is_empty() {
            return Ok(Entered::Here(None, false));
        }
        if !self.begin(&step) {
            return Ok(Entered::Out);
        }
        let node = Node { kind: NodeKind::Directory, ..Node::default() };
        if let Some(reason) = unfit(&node, step.meta) {
            let reason = reason.to_owned();
            self.fail(Listed { path: self.path.clone(), what: "directory", reason, errno: None });
            return Ok(Entered::Out);
        }
        let Some(place) = self.place(&step)? else { return Ok(Entered::Out) };
        self.receipt.directories += 1;
        if let (Action::Merge { metadata }, Some(there)) = (step.action, place.1) {
            return Ok(Entered::Here(Some(there), metadata));
        }
        self.totals.directories += 1;
        self.tell(PointKind::Created, step.path, 0);
        let new = self.make(place, step.meta, &node)?;
        Ok(Entered::Here(Some(new), false))
    }

    fn leave(&mut self, dir: NodeId, wanted: Wanted, path: &[u8]) -> Result<()> {
        let Some(now) = self.view.meta(dir).map_err(journal("read metadata"))? else { return Ok(()) };
        let events = self.metadata(dir, &wanted, &now, false);
        if events.is_empty() {
            return Ok(());
        }
        self.objects += 1;
        self.tell(PointKind::Attributes, path, 0);
        let (object, path, pieces, after) = (self.objects, path.to_vec(), Vec::new(), Vec::new());
        self.push(Change { object, path, before: events, pieces, node: dir, new: false, after })
    }

    fn object(&mut self, step: Step<'_, NodeId>, node: Node, wanted: Wanted) -> Result<()> {
        if !self.begin(&step) {
            return Ok(());
        }
        let Some(place) = self.place(&step)? else { return Ok(()) };
        if let Some(reason) = unfit(&node, &wanted) {
            let reason = reason.to_owned();
            self.fail(Listed { path: self.path.clone(), what: "node", reason, errno: None });
            return Ok(());
        }
        if node.kind == NodeKind::File
            && let Err(error) = content_bytes(self.onto.repository, &node)
        {
            let reason = chain(&error);
            self.fail(Listed { path: self.path.clone(), what: "content", reason, errno: None });
            return Ok(());
        }
        let key = LinkKey::of(&node);
        if let Some(first) = key.and_then(|key| self.links.further(&key)) {
            return self.link(place, first);
        }
        if node.kind == NodeKind::File {
            self.receipt.files += 1;
            self.receipt.bytes += node.size;
        } else {
            self.receipt.others += 1;
        }
        self.progress();
        let (links, there) = (node.links, place.1);
        let stays = match there.filter(|_| step.action == Action::Replace) {
            Some(there) => self.in_place(there, &node, &wanted)?,
            None => false,
        };
        let target = match (there, stays || step.action == Action::Whole) {
            (Some(there), true) => there,
            _ => {
                let what = if there.is_some() { PointKind::Modified } else { PointKind::Created };
                self.totals.files += u64::from(node.kind == NodeKind::File);
                self.totals.others += u64::from(node.kind != NodeKind::File);
                self.totals.bytes += node.size;
                self.tell(what, step.path, node.size);
                self.make(place, &wanted, &node)?
            }
        };
        if let Some(key) = key {
            self.links.remember(key, links, target);
        }
        Ok(())
    }

    fn extra(&mut self, dir: &NodeId, extra: &[u8], above: &[u8]) -> Result<()> {
        let Ok(name) = name(extra) else { return Ok(()) };
        let at = Edge::new(*dir, name);
        let Some(node) = self.view.lookup(&at).map_err(journal("look up a name"))? else { return Ok(()) };
        self.objects += 1;
        let path = [above, b"/", extra].concat();
        self.totals.removed += 1;
        self.receipt.removed += 1;
        if self.totals.removals.len() < REMOVALS_MAX {
            self.totals.removals.push(path.clone());
        }
        self.tell(PointKind::Removed, &path, 0);
        let before = vec![Event::Remove { node, at, parent_mtime: None }];
        let (object, pieces, after) = (self.objects, Vec::new(), Vec::new());
        self.push(Change { object, path, before, pieces, node, new: false, after })
    }

    fn failed(&mut self, listed: Listed) -> Result<()> {
        self.fail(listed);
        Ok(())
    }

    fn cancelled(&self) -> bool {
        self.monitor.cancelled()
    }
}
