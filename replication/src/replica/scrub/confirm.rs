//! What looked different is looked at again between two barriers, told, and put right; see the head of the module.

use super::fetch::Fetched;
use super::look::{Differs, child, read_for};
use super::mend::Mended;
use super::{
    LEFT_OUT, NOT_KEPT, SUSPECTS_MAX, Scrub, ScrubError, ScrubHost, Side, Suspect, Tried, UNREADABLE,
};
use journal::state::{State, links_of};
use journal::{Edge, Event, Lsn, NodeId, RootNo, SkippedWhat, TreeIo};
use std::collections::HashSet;
use wire::stream::{CaptureItem, ExamineItem, Examined, Found};

/// Nodes touched between two barriers; more and everything is put off.
const TOUCHED_MAX: usize = 1 << 18;
/// Directories below each other; more are a cycle.
const DEPTH_MAX: usize = 1 << 16;

/// What captures between two barriers were about.
#[derive(Default)]
struct Touched {
    nodes: HashSet<NodeId>,
    /// Names that came or went, and what had them.
    edges: HashSet<Edge>,
    moved: HashSet<NodeId>,
    too_much: bool,
}

impl Touched {
    fn take(&mut self, event: &Event) {
        match event {
            Event::Create { node, at, .. }
            | Event::Link { node, at, .. }
            | Event::Remove { node, at, .. } => {
                self.nodes.extend([*node, at.parent]);
                self.moved.insert(*node);
                self.edges.insert(at.clone());
            }
            Event::Rename { node, from, to, .. } => {
                self.nodes.extend([*node, from.parent, to.parent]);
                self.moved.insert(*node);
                self.edges.extend([from.clone(), to.clone()]);
            }
            Event::Write { node, .. }
            | Event::Punch { node, .. }
            | Event::Resize { node, .. }
            | Event::SetAttributes { node, .. }
            | Event::SetXattrs { node, .. } => {
                self.nodes.insert(*node);
            }
            Event::Mark(_) => {}
        }
        self.too_much |= self.nodes.len() > TOUCHED_MAX || self.edges.len() > TOUCHED_MAX;
    }
}

/// What a second look came to.
enum Verdict {
    Equal,
    /// It moves: look again later.
    Moving,
    /// It is not compared at all, and why.
    Passed(&'static str),
    Differs(Differs),
}

impl<T: TreeIo, H: ScrubHost> Scrub<'_, T, H> {
    /// Looks again at everything suspected, some at a time.
    pub(super) fn confirm(&mut self) -> Result<(), ScrubError> {
        while !self.suspects.is_empty() {
            let some = self.suspects.drain(..self.suspects.len().min(SUSPECTS_MAX)).collect();
            self.confirm_these(some)?;
        }
        Ok(())
    }

    /// Whoever goes on after an end of the daemon in the middle of this looks at all of them again: the host is told
    /// of what was found before anything is done about it, and when that has been seen to its end.
    fn confirm_these(&mut self, mut suspects: Vec<Suspect>) -> Result<(), ScrubError> {
        let verdicts = match self.verdicts(&mut suspects) {
            Ok(verdicts) => verdicts,
            Err(error) => {
                self.suspects.extend(suspects);
                return Err(error);
            }
        };
        let (mut anew, mut wrong) = (Vec::new(), Vec::new());
        for (mut suspect, verdict) in suspects.into_iter().zip(verdicts) {
            match verdict {
                Verdict::Equal => self.is_equal(suspect),
                Verdict::Moving => self.put_off(suspect),
                Verdict::Passed(why) => self.give_up(suspect, why),
                Verdict::Differs(differs) => {
                    tracing::error!(
                        path = %String::from_utf8_lossy(&suspect.path),
                        what = differs.what,
                        side = ?differs.side,
                        offset = differs.offset,
                        "a scrub found a difference"
                    );
                    if self.is_to_be_captured(differs) {
                        anew.push(CaptureItem { at: suspect.edge.clone(), node: suspect.node });
                    }
                    let aside = suspect.tried.take().and_then(|before| before.aside);
                    suspect.tried = Some(Tried { differs, aside });
                    wrong.push((suspect, differs));
                }
            }
        }
        self.put_right(wrong, anew)
    }

    fn is_equal(&mut self, suspect: Suspect) {
        match suspect.tried {
            Some(Tried { differs, aside }) => {
                self.found((suspect.root, suspect.path), differs, true, aside);
            }
            None => self.report.sums.files += u64::from(suspect.first == 0 && suspect.node.is_some()),
        }
    }

    /// Puts right what can be, of what differs.
    fn put_right(
        &mut self,
        mut wrong: Vec<(Suspect, Differs)>,
        mut anew: Vec<CaptureItem>,
    ) -> Result<(), ScrubError> {
        let repairs = |(_, differs): &(Suspect, Differs)| differs.side == Side::Replica;
        let tries = !anew.is_empty() || (self.options.repair && wrong.iter().any(repairs));
        if tries {
            let others = self.suspects.len();
            self.suspects.extend(wrong.iter().map(|(suspect, _)| suspect.clone()));
            self.tell();
            self.suspects.truncate(others);
        }
        let (mended, failed) = self.mend_all(&wrong, &mut anew);
        for ((suspect, _), mended) in wrong.iter_mut().zip(&mended) {
            if let (Some(tried), Some(aside)) = (&mut suspect.tried, &mended.aside) {
                tried.aside = Some(aside.clone());
            }
        }
        let done = mended.iter().any(|one| one.done);
        let mut verdicts = match self.look_after(anew, done, failed, &wrong) {
            Ok(verdicts) => verdicts.into_iter(),
            Err(error) => {
                self.suspects.extend(wrong.into_iter().map(|(suspect, _)| suspect));
                self.tell();
                return Err(error);
            }
        };
        for (suspect, differs) in wrong {
            let repaired = matches!(verdicts.next(), Some(Verdict::Equal));
            let aside = suspect.tried.and_then(|tried| tried.aside);
            self.found((suspect.root, suspect.path), differs, repaired, aside);
        }
        if tries {
            self.tell();
        }
        Ok(())
    }

    /// Puts names right, each in its turn, up to the first of which it cannot be said what became of it, and why; and what
    /// the master has to capture for them.
    fn mend_all(
        &mut self,
        wrong: &[(Suspect, Differs)],
        anew: &mut Vec<CaptureItem>,
    ) -> (Vec<Mended>, Option<ScrubError>) {
        let fetched = if self.options.repair { self.fetch_all(wrong) } else { Ok(Fetched::none()) };
        let (fetched, mut failed) = match fetched {
            Ok(fetched) => (fetched, None),
            Err(error) => (Fetched::none(), Some(error)),
        };
        let mut mended = Vec::with_capacity(wrong.len());
        for (suspect, differs) in wrong {
            let repairs = self.options.repair && differs.side == Side::Replica && failed.is_none();
            let (one, outcome) =
                if repairs { self.mend(suspect, *differs, &fetched) } else { (Mended::default(), Ok(())) };
            failed = failed.or(outcome.err());
            if one.done && suspect.node.is_none() {
                // The master may have something of that name, which stood in the way.
                anew.push(CaptureItem { at: suspect.edge.clone(), node: None });
            }
            mended.push(one);
        }
        (mended, failed)
    }

    /// Has these captured, whatever has failed by then, and looks once more at everything if anything was done.
    fn look_after(
        &mut self,
        anew: Vec<CaptureItem>,
        done: bool,
        failed: Option<ScrubError>,
        wrong: &[(Suspect, Differs)],
    ) -> Result<Vec<Verdict>, ScrubError> {
        let tried = done || !anew.is_empty();
        let asked = if anew.is_empty() { Ok(()) } else { self.capture_anew(anew) };
        failed.map_or(asked, Err)?;
        if !tried {
            return Ok(Vec::new());
        }
        self.verdicts(&mut wrong.iter().map(|(suspect, _)| suspect.clone()).collect::<Vec<_>>())
    }

    /// A change that capture has missed is captured; what the replica has wrong is put right only if that was asked for,
    /// and if the journal has words for it.
    fn is_to_be_captured(&self, differs: Differs) -> bool {
        let name = matches!(differs.what, "missing" | "kind" | "extra");
        match differs.side {
            Side::Master => true,
            Side::Replica | Side::Unknown => self.options.repair && !name,
            Side::Rot => false,
        }
    }

    /// A second look at each. Their paths are made those of now: directories may have moved since.
    fn verdicts(&mut self, suspects: &mut [Suspect]) -> Result<Vec<Verdict>, ScrubError> {
        let from = self.replica.journal.cursor_redo();
        let before = self.host.barrier()?;
        self.wait_applied(before)?;
        let mut theirs = Vec::with_capacity(suspects.len());
        let blocks = self.blocks_at_once();
        let mut read = 0;
        for suspect in &mut *suspects {
            if let Some(path) = self.path_now(&suspect.edge)? {
                suspect.path = path;
            }
            let node = suspect.node.unwrap_or(NodeId::root(suspect.root));
            let (path, first) = (suspect.path.clone(), suspect.first);
            let blocks = if suspect.node.is_some() { blocks } else { 0 };
            let item = ExamineItem { path, node, first, blocks, captured: blocks > 0, bytes: false };
            let examined = self.examine_one(suspect.root, item)?;
            read += read_for(&examined);
            theirs.push(examined);
            self.go_on()?;
        }
        let behind = self.host.barrier()?;
        self.wait_applied(behind)?;
        self.since = (from, behind);
        let mut touched = Touched::default();
        for placed in self.replica.journal.captured(from, before, behind) {
            placed?.capture.events.iter().for_each(|event| touched.take(event));
            if touched.too_much {
                break;
            }
        }
        let gaps = self.replica.journal.with_controls(|controls| !controls.gaps.is_empty());
        let mut verdicts = Vec::with_capacity(suspects.len());
        for (suspect, theirs) in suspects.iter().zip(&theirs) {
            let moving = touched.too_much || self.is_touched(suspect, &touched)?;
            let verdict = if moving { Verdict::Moving } else { self.verdict(suspect, theirs, behind)? };
            verdicts.push(match verdict {
                // What was missed is being compared anyway; what the replica has wrong stays wrong.
                Verdict::Differs(Differs { side: Side::Master | Side::Unknown, .. }) if gaps => {
                    Verdict::Moving
                }
                verdict => verdict,
            });
        }
        self.rest(read)?;
        Ok(verdicts)
    }

    /// The path of a name below its root as the tables have it; `None`: its directory is not in the tree.
    fn path_now(&self, edge: &Edge) -> Result<Option<Vec<u8>>, ScrubError> {
        Ok(self.place_of(edge.parent)?.map(|(_, above)| child(&above, &edge.name)))
    }

    /// Where a directory is now; `None`: not in the tree.
    pub(super) fn place_of(&self, directory: NodeId) -> Result<Option<(RootNo, Vec<u8>)>, ScrubError> {
        let (mut names, mut at) = (Vec::new(), directory);
        for _ in 0..DEPTH_MAX {
            if let Some(root) = at.as_root_or_kept() {
                let parts: Vec<&[u8]> = names.iter().rev().map(journal::Name::as_bytes).collect();
                return Ok((!at.is_kept_area()).then(|| (root, parts.join(&b'/'))));
            }
            let Some(above) = links_of(&**self.replica.journal.tables(), at)?.into_iter().next() else {
                return Ok(None);
            };
            names.push(above.name);
            at = above.parent;
        }
        Ok(None)
    }

    fn is_touched(&self, suspect: &Suspect, touched: &Touched) -> Result<bool, ScrubError> {
        let node = suspect.node.is_some_and(|node| touched.nodes.contains(&node));
        if node || touched.edges.contains(&suspect.edge) {
            return Ok(true);
        }
        // A directory that moved away and back is under its old name again.
        let mut at = suspect.edge.parent;
        for _ in 0..DEPTH_MAX {
            if touched.moved.contains(&at) {
                return Ok(true);
            }
            if at.as_root_or_kept().is_some() {
                return Ok(false);
            }
            let Some(above) = links_of(&**self.replica.journal.tables(), at)?.into_iter().next() else {
                return Ok(true);
            };
            at = above.parent;
        }
        Ok(true)
    }

    fn verdict(&self, suspect: &Suspect, theirs: &Examined, at: Lsn) -> Result<Verdict, ScrubError> {
        match theirs.found {
            Found::Moving => return Ok(Verdict::Moving),
            Found::LeftOut if suspect.node.is_some() => return Ok(Verdict::Passed(LEFT_OUT)),
            Found::Unreadable(_) if suspect.node.is_some() => return Ok(Verdict::Passed(UNREADABLE)),
            _ => {}
        }
        let view = self.view(at)?;
        let now = view.lookup(&suspect.edge)?;
        if now != suspect.node && suspect.node.is_some() {
            // It has gone its way since it was suspected.
            return Ok(Verdict::Equal);
        }
        let Some(node) = suspect.node else {
            return self.stranger(suspect, theirs, now.is_some());
        };
        if self.path_now(&suspect.edge)?.is_none() {
            // It is in a directory that was removed.
            return Ok(Verdict::Equal);
        }
        let skipped = self.skipped(suspect.root, &suspect.path);
        if skipped.is_some_and(|what| what != SkippedWhat::Xattrs) {
            return Ok(Verdict::Passed(NOT_KEPT));
        }
        let blocks = (suspect.first, self.blocks_at_once());
        let Some(ours) = self.ours(&view, &suspect.edge, node, blocks)? else { return Ok(Verdict::Equal) };
        if ours.unsure {
            return Ok(Verdict::Moving);
        }
        let differs = self.compare(&ours, theirs, suspect.first, skipped);
        Ok(differs.map_or(Verdict::Equal, Verdict::Differs))
    }

    /// A name that the tables did not have when it was found. `known`: they have it by now.
    fn stranger(&self, suspect: &Suspect, theirs: &Examined, known: bool) -> Result<Verdict, ScrubError> {
        if known || self.path_now(&suspect.edge)?.is_none() {
            return Ok(Verdict::Equal);
        }
        let differs = |side| Verdict::Differs(Differs { what: "extra", side, offset: None });
        match self.stands_in_tree(&suspect.edge)? {
            Some(true) => return Ok(differs(Side::Replica)),
            Some(false) => {}
            None => return Ok(Verdict::Moving),
        }
        match theirs.found {
            Found::There(_) if self.skipped(suspect.root, &suspect.path).is_none() => {
                Ok(differs(Side::Master))
            }
            Found::Unreadable(_) => Ok(Verdict::Passed(UNREADABLE)),
            _ => Ok(Verdict::Equal),
        }
    }

    /// Whether something stands at a name of the replica tree that the tables do not have. `None`: apply did not stand
    /// still.
    pub(super) fn stands_in_tree(&self, edge: &Edge) -> Result<Option<bool>, ScrubError> {
        let tables = self.replica.journal.tables();
        let look = || -> Result<bool, ScrubError> {
            if State::name(&**tables, edge)?.is_some() {
                return Ok(false);
            }
            let locator = journal::view::Locator::new(
                std::sync::Arc::clone(tables),
                std::sync::Arc::clone(&self.replica.tree),
            );
            let locator = locator.settling(std::time::Duration::ZERO);
            let Some(directory) = locator.directory(edge.parent)? else { return Ok(false) };
            Ok(self.replica.tree.stat(&directory, &edge.name).is_ok_and(|stat| stat.is_some()))
        };
        if !look()? {
            return Ok(Some(false));
        }
        // Apply publishes rows before it moves names.
        self.replica.while_still(|_| look()).transpose()
    }

    /// What capture has said that it could not keep there.
    fn skipped(&self, root: RootNo, path: &[u8]) -> Option<SkippedWhat> {
        let key = (root, path.to_vec());
        self.replica.journal.with_controls(|controls| controls.skipped.get(&key).map(|(what, _)| *what))
    }
}
