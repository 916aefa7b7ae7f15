//! The walk over the tables, and the names that only one side has.
//!
//! Directories are taken from the present rows, a page of names at a time, each before what it holds. A tree that moves
//! meanwhile is no harm: what is not found where it was is a suspicion like others, and what moved behind the walk's back
//! is the business of the next scrub. Files longer than one question are compared piece by piece, each for itself.

use super::look::{Ours, child, read_for};
use super::{BLOCK, LEFT_OUT, Scrub, ScrubError, ScrubHost, Suspect, UNREADABLE, mixed_up};
use journal::state::State;
use journal::view::Locator;
use journal::{Edge, Name, NodeId, RootNo, TreeIo};
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use wire::stream::{
    ExamineItem, Found, SCRUB_BLOCKS_MAX, SCRUB_ITEMS_MAX, SCRUB_PATHS_BYTES_MAX, ScrubAnswer, ScrubAsk,
};

/// A name to be compared, and from which block on.
struct Piece {
    edge: Edge,
    node: NodeId,
    path: Vec<u8>,
    first: u64,
    /// Blocks of it, none for what is no file.
    blocks: u32,
    /// Blocks of the whole file.
    all: u64,
}

/// A directory to be walked.
struct Frame {
    node: NodeId,
    path: Vec<u8>,
}

impl<T: TreeIo, H: ScrubHost> Scrub<'_, T, H> {
    pub(super) fn walk(&mut self) -> Result<(), ScrubError> {
        if let Some((root, path)) = self.options.below.clone().filter(|(_, path)| !path.is_empty()) {
            return self.walk_below(root, &path);
        }
        let only = self.options.below.as_ref().map(|(root, _)| *root);
        for root in (0..self.options.roots).map(RootNo).filter(|root| only.is_none_or(|only| only == *root)) {
            self.walk_tree(root, Frame { node: NodeId::root(root), path: Vec::new() })?;
        }
        Ok(())
    }

    /// One name, and what it holds.
    fn walk_below(&mut self, root: RootNo, path: &[u8]) -> Result<(), ScrubError> {
        let view = self.view(self.replica.journal.applied())?;
        let (parent, name) = match path.iter().rposition(|byte| *byte == b'/') {
            Some(at) => (path.get(..at).unwrap_or_default(), path.get(at + 1..).unwrap_or_default()),
            None => (&[][..], path),
        };
        let missing = || journal::JournalError::NotFound {
            what: "path",
            name: String::from_utf8_lossy(path).into_owned(),
        };
        let name = Name::new(name).ok_or_else(missing)?;
        let parent = view.resolve(root, parent)?.ok_or_else(missing)?;
        let edge = Edge::new(parent, name);
        let node = view.lookup(&edge)?.ok_or_else(missing)?;
        drop(view);
        let names = vec![(edge.name.clone(), node)];
        let above = path.get(..path.len() - edge.name.as_bytes().len()).unwrap_or_default();
        let above = above.strip_suffix(b"/").unwrap_or(above).to_vec();
        self.compare_names(root, &Frame { node: parent, path: above }, names)?;
        let directory = State::node(&**self.replica.journal.tables(), node)?;
        if directory.is_some_and(|row| row.meta.kind.is_directory()) {
            self.walk_tree(root, Frame { node, path: path.to_vec() })?;
        }
        Ok(())
    }

    fn walk_tree(&mut self, root: RootNo, top: Frame) -> Result<(), ScrubError> {
        let mut stack = vec![top];
        while let Some(frame) = stack.pop() {
            let mut after: Option<Name> = None;
            loop {
                // Newly each time: the present moves on.
                let page =
                    self.view(self.replica.journal.applied())?.list_page(frame.node, after.as_ref())?;
                let Some((last, _)) = page.last() else { break };
                after = Some(last.clone());
                for (name, node) in &page {
                    let row = State::node(&**self.replica.journal.tables(), *node)?;
                    if row.is_some_and(|row| row.meta.kind.is_directory()) {
                        stack.push(Frame { node: *node, path: child(&frame.path, name) });
                    }
                }
                self.compare_names(root, &frame, page)?;
            }
            self.strangers(root, &frame)?;
        }
        Ok(())
    }

    /// Compares names of a directory, some at a time.
    fn compare_names(
        &mut self,
        root: RootNo,
        frame: &Frame,
        names: Vec<(Name, NodeId)>,
    ) -> Result<(), ScrubError> {
        let most = self.blocks_at_once();
        let mut waiting = VecDeque::with_capacity(names.len());
        for (name, node) in names {
            self.report.sums.entries += 1;
            let meta = State::node(&**self.replica.journal.tables(), node)?.map(|row| row.meta);
            let size = meta.filter(|meta| meta.kind.is_file()).map_or(0, |meta| meta.size);
            let all = size.div_ceil(BLOCK);
            let blocks = all.min(u64::from(most)) as u32;
            let path = child(&frame.path, &name);
            waiting.push_back(Piece { edge: Edge::new(frame.node, name), node, path, first: 0, blocks, all });
        }
        while !waiting.is_empty() {
            let answered = self.compare_pieces(root, &waiting)?;
            for _ in 0..answered {
                let Some(mut piece) = waiting.pop_front() else { break };
                piece.first += u64::from(piece.blocks);
                piece.blocks = piece.all.saturating_sub(piece.first).min(u64::from(most)) as u32;
                if piece.blocks > 0 {
                    waiting.push_front(piece);
                    // The rest of it comes first, so that a file is read at one go; the others were answered too.
                    if answered > 1 {
                        waiting.rotate_left(1);
                    }
                }
            }
        }
        self.make_way()
    }

    /// Compares the first of these, as many as one question allows; how many were answered.
    fn compare_pieces(&mut self, root: RootNo, pieces: &VecDeque<Piece>) -> Result<usize, ScrubError> {
        let (mut items, mut blocks, mut paths) = (Vec::new(), 0, 0);
        for piece in pieces.iter().take(SCRUB_ITEMS_MAX) {
            blocks += u64::from(piece.blocks);
            paths += piece.path.len();
            let full = blocks > SCRUB_BLOCKS_MAX || paths > SCRUB_PATHS_BYTES_MAX;
            if full && !items.is_empty() {
                break;
            }
            let (path, node, first) = (piece.path.clone(), piece.node, piece.first);
            items.push(ExamineItem {
                path,
                node,
                first,
                blocks: piece.blocks,
                captured: false,
                bytes: false,
            });
        }
        let examined = self.examine(root, items)?;
        let view = self.view(self.replica.journal.applied())?;
        let mut read = 0;
        for (piece, theirs) in pieces.iter().zip(&examined) {
            if let Found::LeftOut | Found::Unreadable(_) = theirs.found {
                let why = if theirs.found == Found::LeftOut { LEFT_OUT } else { UNREADABLE };
                if piece.first == 0 {
                    self.pass(root, piece.path.clone(), why);
                }
                continue;
            }
            let ours = self.ours(&view, &piece.edge, piece.node, (piece.first, piece.blocks))?;
            let span = u64::from(piece.blocks) * BLOCK;
            let size = ours.as_ref().map_or(0, |ours: &Ours| ours.meta.size);
            let bytes = span.min(size.saturating_sub(piece.first * BLOCK));
            read += read_for(theirs);
            // Told with its first piece.
            let all = ours.as_ref().is_some_and(|ours| matches!(ours.wrong, Some("missing" | "kind")));
            if all && piece.first > 0 {
                continue;
            }
            let differs = match (&theirs.found, &ours) {
                (Found::Moving, _) | (_, None) => true,
                (_, Some(ours)) => ours.unsure || self.compare(ours, theirs, piece.first, None).is_some(),
            };
            if differs {
                self.suspect(Suspect {
                    root,
                    path: piece.path.clone(),
                    edge: piece.edge.clone(),
                    node: Some(piece.node),
                    first: piece.first,
                })?;
            } else if piece.blocks > 0 {
                self.report.sums.bytes += bytes;
                self.report.sums.files += u64::from(piece.first == 0);
            }
        }
        drop(view);
        self.rest(read)?;
        Ok(examined.len())
    }

    /// Names that the tables do not have, on either side.
    fn strangers(&mut self, root: RootNo, frame: &Frame) -> Result<(), ScrubError> {
        let tables = Arc::clone(self.replica.journal.tables());
        let mut ours: HashSet<Name> = HashSet::new();
        let locator = Locator::new(Arc::clone(&tables), Arc::clone(&self.replica.tree));
        if let Some(directory) = locator.settling(Duration::ZERO).directory(frame.node)?
            && let Ok(names) = self.replica.tree.list(&directory)
        {
            for name in names {
                if State::name(&*tables, &Edge::new(frame.node, name.clone()))?.is_none() {
                    ours.insert(name);
                }
            }
        }
        for name in &ours {
            self.suspect(stranger(root, frame, name.clone()))?;
        }
        let mut after: Option<Name> = None;
        loop {
            let ask = ScrubAsk::List { root, path: frame.path.clone(), after: after.clone() };
            let ScrubAnswer::Listed { names, more } = self.host.ask(ask)? else { return Err(mixed_up()) };
            let Some(names) = names else { return self.unlisted(root, frame) };
            let empty = names.is_empty();
            for name in names {
                // In order, or a master could go round in circles for ever.
                if after.as_ref().is_some_and(|after| name <= *after) {
                    return Err(mixed_up());
                }
                let known = State::name(&*tables, &Edge::new(frame.node, name.clone()))?.is_some();
                if !known && !ours.contains(&name) {
                    self.suspect(stranger(root, frame, name.clone()))?;
                }
                after = Some(name);
            }
            if !more {
                return Ok(());
            }
            if empty {
                return Err(mixed_up());
            }
            self.go_on()?;
        }
    }

    /// The master does not list a directory: it may be gone, which its name tells, or not be readable.
    fn unlisted(&mut self, root: RootNo, frame: &Frame) -> Result<(), ScrubError> {
        let (path, node) = (frame.path.clone(), frame.node);
        let item = ExamineItem { path, node, first: 0, blocks: 0, captured: false, bytes: false };
        if let Found::There(_) | Found::Unreadable(_) = self.examine_one(root, item)?.found {
            self.pass(root, frame.path.clone(), "its names cannot be listed");
        }
        Ok(())
    }
}

/// A name that the tables do not have.
fn stranger(root: RootNo, frame: &Frame, name: Name) -> Suspect {
    let (path, edge) = (child(&frame.path, &name), Edge::new(frame.node, name));
    Suspect { root, path, edge, node: None, first: 0 }
}
