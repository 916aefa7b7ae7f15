//! The walk over the tables, and the names that only one side has.
//!
//! Directories are taken from the present rows, a page of names at a time, each before what it holds. They are known by their
//! numbers, so one that is moved before its turn is walked where it is then. A tree that moves meanwhile is no harm: what is not found where it
//! was is a suspicion like others, and what moved behind the walk's back is the business of the next scrub. Files
//! longer than one question are compared piece by piece, each for itself.
//!
//! **`position` is always true**: whoever goes on from it asks nothing again that is in the report, in the suspicions or
//! put off, and leaves out nothing. So names are taken in their order, the rest of a file before the next name; a directory is
//! pushed when its name is compared; and `position` moves on before a suspicion is taken note of.

use super::cursor::{Part, Position, Step};
use super::look::{Ours, child, read_for};
use super::{BLOCK, LEFT_OUT, Scrub, ScrubError, ScrubHost, Suspect, UNLISTED, UNREADABLE, mixed_up};
use journal::state::State;
use journal::view::Locator;
use journal::{Edge, Name, NodeId, RootNo, TreeIo};
use std::collections::{BTreeSet, VecDeque};
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
    directory: bool,
    first: u64,
    /// Blocks of it, none for what is no file.
    blocks: u32,
    /// Blocks of the whole file.
    all: u64,
    /// Those before it were compared by an earlier daemon.
    resumed: bool,
}

impl Piece {
    /// The next piece of the same file, of at most so many blocks.
    fn next(mut self, most: u32) -> Option<Piece> {
        (self.first, self.resumed) = (self.first + u64::from(self.blocks), false);
        self.blocks = self.all.saturating_sub(self.first).min(u64::from(most)) as u32;
        (self.blocks > 0).then_some(self)
    }

    /// Whether the file does not end with it.
    fn is_cut(&self) -> bool {
        self.first + u64::from(self.blocks) < self.all
    }
}

/// A directory that is being walked.
struct Place {
    root: RootNo,
    node: NodeId,
    path: Vec<u8>,
}

/// What the path of a scrub leads to.
pub(super) struct Top {
    pub edge: Edge,
    pub node: NodeId,
}

impl<T: TreeIo, H: ScrubHost> Scrub<'_, T, H> {
    /// What is below the path that was asked for; `None`: a whole root, or all of them.
    pub(super) fn top(&self) -> Result<Option<Top>, ScrubError> {
        let Some((root, path)) = self.options.below.as_ref().filter(|(_, path)| !path.is_empty()) else {
            return Ok(None);
        };
        let view = self.view(self.replica.journal.applied())?;
        let (parent, name) = match path.iter().rposition(|byte| *byte == b'/') {
            Some(at) => (path.get(..at).unwrap_or_default(), path.get(at + 1..).unwrap_or_default()),
            None => (&[][..], &path[..]),
        };
        let missing = || journal::JournalError::NotFound {
            what: "path",
            name: String::from_utf8_lossy(path).into_owned(),
        };
        let name = Name::new(name).ok_or_else(missing)?;
        let parent = view.resolve(*root, parent)?.ok_or_else(missing)?;
        let edge = Edge::new(parent, name);
        let node = view.lookup(&edge)?.ok_or_else(missing)?;
        Ok(Some(Top { edge, node }))
    }

    /// Where it begins: the first directory is the last of the stack.
    pub(super) fn beginning(&self) -> Position {
        if let Some(top) = &self.top {
            return Position { at: Some((top.edge.parent, Step::Only(0))), stack: Vec::new() };
        }
        let only = self.options.below.as_ref().map(|(root, _)| *root);
        let roots = (0..self.options.roots).map(RootNo).rev();
        let roots = roots.filter(|root| only.is_none_or(|only| only == *root));
        Position { at: None, stack: roots.map(NodeId::root).collect() }
    }

    pub(super) fn walk(&mut self) -> Result<(), ScrubError> {
        loop {
            let (node, step) = match self.position.at.take() {
                Some(at) => at,
                None => match self.position.stack.pop() {
                    Some(node) => (node, Step::Names(None, Vec::new())),
                    None => return Ok(()),
                },
            };
            self.position.at = Some((node, step.clone()));
            if let Some((root, path)) = self.place_of(node)? {
                self.walk_directory(&Place { root, node, path }, step)?;
            }
            self.position.at = None;
            self.reached();
        }
    }

    fn walk_directory(&mut self, place: &Place, step: Step) -> Result<(), ScrubError> {
        let row = State::node(&**self.replica.journal.tables(), place.node)?;
        if place.node.as_root_or_kept().is_none() && !row.is_some_and(|row| row.meta.kind.is_directory()) {
            return Ok(());
        }
        let step = match step {
            Step::Only(first) => {
                let Some(top) = &self.top else { return Ok(()) };
                let (name, node) = (top.edge.name.clone(), top.node);
                return self.compare_names(place, vec![(name.clone(), node)], &[(name, node, first)]);
            }
            Step::Names(mut after, parts) => {
                loop {
                    // Newly each time: the present moves on.
                    let view = self.view(self.replica.journal.applied())?;
                    let page = view.list_page(place.node, after.as_ref())?;
                    let Some((last, _)) = page.last() else { break };
                    after = Some(last.clone());
                    drop(view);
                    self.compare_names(place, page, &parts)?;
                }
                Step::Ours(None)
            }
            step => step,
        };
        self.strangers(place, step)
    }

    /// Compares names of a directory, some at a time; of some of them a part has been compared.
    fn compare_names(
        &mut self,
        place: &Place,
        names: Vec<(Name, NodeId)>,
        parts: &[Part],
    ) -> Result<(), ScrubError> {
        let most = self.blocks_at_once();
        let mut waiting = VecDeque::with_capacity(names.len());
        for (name, node) in names {
            let meta = State::node(&**self.replica.journal.tables(), node)?.map(|row| row.meta);
            let directory = meta.as_ref().is_some_and(|meta| meta.kind.is_directory());
            let size = meta.filter(|meta| meta.kind.is_file()).map_or(0, |meta| meta.size);
            let all = size.div_ceil(BLOCK);
            let part = parts.iter().find(|part| (&part.0, part.1) == (&name, node));
            let first = part.map_or(0, |part| part.2).min(all);
            let blocks = (all - first).min(u64::from(most)) as u32;
            let (path, edge) = (child(&place.path, &name), Edge::new(place.node, name));
            waiting.push_back(Piece { edge, node, path, directory, first, blocks, all, resumed: first > 0 });
        }
        while !waiting.is_empty() {
            let mut done = None;
            for _ in 0..self.compare_pieces(place.root, &waiting)? {
                let Some(piece) = waiting.pop_front() else { break };
                let (name, node, directory) = (piece.edge.name.clone(), piece.node, piece.directory);
                if let Some(rest) = piece.next(most) {
                    waiting.push_front(rest);
                    continue;
                }
                self.report.sums.entries += 1;
                self.position.stack.extend(directory.then_some(node));
                done = Some(name);
            }
            let part = waiting.front().filter(|piece| piece.first > 0 && !piece.resumed);
            self.compared(done, part.map(|piece| (piece.edge.name.clone(), piece.node, piece.first)));
            self.confirm_if_many()?;
            self.reached();
        }
        self.make_way()
    }

    /// Names of the directory that is walked are compared, the last one of them and what is of the next.
    fn compared(&mut self, done: Option<Name>, part: Option<Part>) {
        let Some((directory, step)) = self.position.at.take() else { return };
        self.position.at = match step {
            Step::Only(_) => part.map(|part| (directory, Step::Only(part.2))),
            Step::Names(before, mut parts) => {
                let done = done.or(before);
                // Those of an earlier daemon whose turn is still to come stay.
                let is_next = |other: &Part| part.as_ref().is_some_and(|part| part.0 == other.0);
                parts.retain(|other| done.as_ref().is_none_or(|done| other.0 > *done) && !is_next(other));
                parts.extend(part);
                Some((directory, Step::Names(done, parts)))
            }
            step => Some((directory, step)),
        };
    }

    /// Compares the first of these, as many as one question allows; how many were answered.
    fn compare_pieces(&mut self, root: RootNo, pieces: &VecDeque<Piece>) -> Result<usize, ScrubError> {
        self.go_on()?;
        let (mut items, mut blocks, mut paths) = (Vec::new(), 0, 0);
        for piece in pieces.iter().take(SCRUB_ITEMS_MAX) {
            blocks += u64::from(piece.blocks);
            paths += piece.path.len();
            let full = blocks > SCRUB_BLOCKS_MAX || paths > SCRUB_PATHS_BYTES_MAX;
            // What is not asked for to its end is asked for alone: names end in their order.
            if (full || piece.is_cut()) && !items.is_empty() {
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
            if piece.is_cut() {
                break;
            }
        }
        let examined = self.examine(root, items)?;
        let view = self.view(self.replica.journal.applied())?;
        let mut read = 0;
        for (piece, theirs) in pieces.iter().zip(&examined) {
            if let Found::LeftOut | Found::Unreadable(_) = theirs.found {
                let why = if theirs.found == Found::LeftOut { LEFT_OUT } else { UNREADABLE };
                self.pass(root, piece.path.clone(), why);
                continue;
            }
            let ours = self.ours(&view, &piece.edge, piece.node, (piece.first, piece.blocks))?;
            let span = u64::from(piece.blocks) * BLOCK;
            let size = ours.as_ref().map_or(0, |ours: &Ours| ours.meta.size);
            let bytes = span.min(size.saturating_sub(piece.first * BLOCK));
            read += read_for(theirs);
            // Told with its first piece.
            let all = ours.as_ref().is_some_and(|ours| matches!(ours.wrong, Some("missing" | "kind")));
            if all && piece.first > 0 && !piece.resumed {
                continue;
            }
            let differs = match (&theirs.found, &ours) {
                (Found::Moving, _) | (_, None) => true,
                (_, Some(ours)) => ours.unsure || self.compare(ours, theirs, piece.first, None).is_some(),
            };
            if differs {
                let (path, edge, node) = (piece.path.clone(), piece.edge.clone(), Some(piece.node));
                let first = if all { 0 } else { piece.first };
                self.suspects.push(Suspect { root, path, edge, node, first, tried: None });
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
    fn strangers(&mut self, place: &Place, step: Step) -> Result<(), ScrubError> {
        let tables = Arc::clone(self.replica.journal.tables());
        let mut ours: BTreeSet<Name> = BTreeSet::new();
        let locator = Locator::new(Arc::clone(&tables), Arc::clone(&self.replica.tree));
        if let Some(directory) = locator.settling(Duration::ZERO).directory(place.node)?
            && let Ok(names) = self.replica.tree.list(&directory)
        {
            for name in names {
                if State::name(&*tables, &Edge::new(place.node, name.clone()))?.is_none() {
                    ours.insert(name);
                }
            }
        }
        let mut after = match step {
            Step::Theirs(after) => after,
            Step::Names(..) | Step::Only(_) => None,
            Step::Ours(done) => {
                for name in ours.iter().filter(|name| done.as_ref().is_none_or(|done| *name > done)) {
                    self.position.at = Some((place.node, Step::Ours(Some(name.clone()))));
                    self.suspect(stranger(place, name.clone()))?;
                }
                None
            }
        };
        loop {
            self.position.at = Some((place.node, Step::Theirs(after.clone())));
            let ask = ScrubAsk::List { root: place.root, path: place.path.clone(), after: after.clone() };
            let ScrubAnswer::Listed { names, more } = self.host.ask(ask)? else { return Err(mixed_up()) };
            let Some(names) = names else { return self.unlisted(place) };
            let empty = names.is_empty();
            for name in names {
                // In order, or a master could go round in circles for ever.
                if after.as_ref().is_some_and(|after| name <= *after) {
                    return Err(mixed_up());
                }
                let known = State::name(&*tables, &Edge::new(place.node, name.clone()))?.is_some();
                if !known && !ours.contains(&name) {
                    self.position.at = Some((place.node, Step::Theirs(Some(name.clone()))));
                    self.suspect(stranger(place, name.clone()))?;
                }
                after = Some(name);
            }
            if !more {
                return Ok(());
            }
            if empty {
                return Err(mixed_up());
            }
            self.reached();
            self.go_on()?;
        }
    }

    /// The master does not list a directory: it may be gone, which its name tells, or not be readable.
    fn unlisted(&mut self, place: &Place) -> Result<(), ScrubError> {
        let (path, node) = (place.path.clone(), place.node);
        let item = ExamineItem { path, node, first: 0, blocks: 0, captured: false, bytes: false };
        if let Found::There(_) | Found::Unreadable(_) = self.examine_one(place.root, item)?.found {
            self.pass(place.root, place.path.clone(), UNLISTED);
        }
        Ok(())
    }
}

/// A name that the tables do not have.
fn stranger(place: &Place, name: Name) -> Suspect {
    let (path, edge) = (child(&place.path, &name), Edge::new(place.node, name));
    Suspect { root: place.root, path, edge, node: None, first: 0, tried: None }
}
