//! What one burst touched, and the last good version of each file.
//!
//! Of every file the captures of the burst are told in order. The first that spoiled it, or gave it the name that all
//! got, ends its good life; noise that replaced noise just before belongs to the damage. Its point may lie anywhere
//! from the change before that one to the capture before the damage, so one point does for many files: the points are
//! chosen greedily by the earliest end, which gives the fewest.
//!
//! Where the burst gives no evidence of damage nobody can tell its work from a person's, and all that was rewritten or
//! renamed counts as touched.
//!
//! What the burst left goes too: the copies it made of files, whatever ends like them, and, with evidence, files of one
//! name that appeared in several directories (notes that ask for money).

use super::detect::Limits;
use super::facts::{Fact, What, read_facts};
use super::find::{count, is_evidence, judge};
use super::sample::Verdict;
use crate::error::RestoreError;
use crate::monitor::Monitor;
use crate::rewind::ReplicaControl;
use crate::scope::PathFilter;
use journal::view::Places;
use journal::{Edge, Lsn, Name, NodeId, Timestamp};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::ControlFlow;

/// Facts remembered of a burst, for each file that detection tells apart.
const FACTS_A_FILE: usize = 4;
/// Different points of one rewind; files that would need more go to the point before the burst.
const POINTS_MAX: usize = 256;
/// Directories in which a new name must appear to be the burst's.
const NOTES_MIN: usize = 3;
/// Fewer renames have no common ending.
const ENDINGS_MIN: usize = 3;
/// Paths listed of those that are said to be something.
const LISTED_MAX: usize = 20;

/// Paths that go to one point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastGoodGroup {
    /// The point.
    pub point: Lsn,
    /// What stood there then, and where that and what took its place stands now.
    pub paths: Vec<PathFilter>,
}

/// What to do so that each file that a burst touched has its last good version again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LastGood {
    /// By point; the paths of one do not occur in another.
    pub groups: Vec<LastGoodGroup>,
    /// Files touched.
    pub files: u64,
    /// Files the burst left beside them.
    pub left: u64,
    /// Files rewritten meanwhile that look sound, and stay as they are.
    pub spared: u64,
    /// Files touched that were changed after the burst, by number and the first of them.
    pub later: (u64, Vec<PathFilter>),
    /// Files whose own point was one too many, so that they go to the point before the burst.
    pub coarse: u64,
}

#[derive(Clone, Debug)]
enum Deed {
    Edited,
    Rewritten,
    Renamed {
        from: Name,
        to: Name,
    },
    /// Another file stands for it: at its name, or at one that begins with it.
    Copied {
        by: NodeId,
        from: Name,
        to: Name,
    },
}

/// A file that is to be put back, or taken away.
struct Subject {
    node: NodeId,
    by: Option<NodeId>,
    /// Its point may lie from here to there.
    from: u64,
    upto: u64,
    /// It came with the burst; or got one more name, if it was there before.
    came: bool,
}

/// All that is known of a burst.
#[derive(Default)]
struct Story {
    bounds: (u64, u64),
    end: Timestamp,
    deeds: BTreeMap<NodeId, Vec<(u64, Deed)>>,
    came: Vec<(NodeId, u64, Edge)>,
    gone: Vec<(NodeId, u64, Edge)>,
    facts: usize,
}

/// Finds what the captures `first..=last` touched, and the way back, where the tree stands at `now`. Only what lies at
/// or below `paths`, before or now, unless there are none.
///
/// # Errors
/// `TooMuch` for a burst that does not fit into memory; `Gone`, `Cancelled`; as the tables and the replica tree.
pub fn touched<R: ReplicaControl>(
    replica: &R,
    (first, last): (u64, u64),
    now: Lsn,
    paths: &[PathFilter],
    limits: &Limits,
    monitor: &dyn Monitor,
) -> Result<LastGood, RestoreError> {
    let before = Lsn::captured(first.saturating_sub(1));
    let mut story = Story { bounds: (first, last), ..Story::default() };
    // What came before the burst is no part of it, whatever it is called: a person made it.
    read_facts(replica, before, Lsn::captured(now.captured), monitor, &mut |fact| story.take(fact, limits))?;
    story.pair();
    let judge = Judge::new(replica, &story, (first, last), limits)?;
    let mut found = LastGood::default();
    let mut subjects = Vec::new();
    for (node, deeds) in &story.deeds {
        if monitor.cancelled() {
            return Err(RestoreError::Cancelled);
        }
        match judge.hit(*node, deeds)? {
            Some(subject) => subjects.push(subject),
            None => found.spared += u64::from(deeds.iter().any(|(_, deed)| deed.replaces())),
        }
    }
    subjects.extend(judge.left_behind(&story, &subjects));
    let grouped = group(subjects, first.saturating_sub(1), &mut found);
    let mut way = Way { replica, now, paths, found, known: BTreeSet::new() };
    for (point, subjects) in grouped {
        way.group(Lsn::captured(point), &subjects)?;
    }
    way.later(last, monitor)?;
    Ok(way.found)
}

impl Deed {
    fn replaces(&self) -> bool {
        matches!(self, Deed::Rewritten | Deed::Copied { .. })
    }

    /// What was added to the name.
    fn ending(&self) -> Option<&[u8]> {
        let (from, to) = match self {
            Deed::Renamed { from, to } | Deed::Copied { from, to, .. } => (from, to),
            _ => return None,
        };
        to.as_bytes().strip_prefix(from.as_bytes()).filter(|ending| !ending.is_empty())
    }
}

impl Story {
    /// Of what came shortly after the burst only new names count.
    fn take(&mut self, fact: Fact, limits: &Limits) -> Result<ControlFlow<()>, RestoreError> {
        let (first, last) = self.bounds;
        if fact.lsn > last && fact.time.0.saturating_sub(self.end.0) > limits.pause_ns {
            return Ok(ControlFlow::Break(()));
        }
        self.facts += 1;
        if self.facts > limits.files_max.saturating_mul(FACTS_A_FILE) {
            return Err(RestoreError::TooMuch { what: "changes of the burst", most: self.facts as u64 - 1 });
        }
        if !(first..=last).contains(&fact.lsn) {
            if let What::Came { at } = fact.what {
                self.came.push((fact.node, fact.lsn, at));
            }
            return Ok(ControlFlow::Continue(()));
        }
        self.end = self.end.max(fact.time);
        let deed = match fact.what {
            What::Rewritten => Deed::Rewritten,
            What::Edited => Deed::Edited,
            What::Renamed { from, to } if from.name == to.name => Deed::Edited,
            What::Renamed { from, to } => Deed::Renamed { from: from.name, to: to.name },
            What::Replaced { at, by } => Deed::Copied { by, from: at.name.clone(), to: at.name },
            What::Gone { at } => {
                self.gone.push((fact.node, fact.lsn, at));
                return Ok(ControlFlow::Continue(()));
            }
            What::Came { at } => {
                self.came.push((fact.node, fact.lsn, at));
                Deed::Edited
            }
        };
        self.deeds.entry(fact.node).or_default().push((fact.lsn, deed));
        Ok(ControlFlow::Continue(()))
    }

    /// Finds who stands for those that are gone.
    fn pair(&mut self) {
        let mut came: BTreeMap<(NodeId, Name), Vec<(NodeId, u64)>> = BTreeMap::new();
        for (node, lsn, at) in &self.came {
            came.entry((at.parent, at.name.clone())).or_default().push((*node, *lsn));
        }
        for (node, lsn, at) in &self.gone {
            let begins =
                |key: &(NodeId, Name)| key.0 == at.parent && key.1.as_bytes().starts_with(at.name.as_bytes());
            let next = came
                .range((at.parent, at.name.clone())..)
                .take_while(|(key, _)| begins(key))
                .flat_map(|(key, all)| all.iter().map(move |(by, came)| (key.1.clone(), *by, *came)))
                .filter(|(_, by, _)| by != node)
                .min_by_key(|(_, _, came)| came.abs_diff(*lsn));
            if let Some((to, by, came)) = next {
                let deed = Deed::Copied { by, from: at.name.clone(), to };
                self.deeds.entry(*node).or_default().push(((*lsn).min(came), deed));
            }
        }
        for deeds in self.deeds.values_mut() {
            deeds.sort_by_key(|(lsn, _)| *lsn);
        }
    }
}

/// Tells damage from work.
struct Judge<'r, R> {
    replica: &'r R,
    first: u64,
    last: u64,
    evidence: bool,
    /// What was added to most names that changed.
    ending: Option<Vec<u8>>,
    /// Renames count even without a common ending.
    any_name: bool,
}

impl<'r, R: ReplicaControl> Judge<'r, R> {
    fn new(
        replica: &'r R,
        story: &Story,
        (first, last): (u64, u64),
        limits: &Limits,
    ) -> Result<Self, RestoreError> {
        let mut endings: HashMap<&[u8], usize> = HashMap::new();
        let mut renames = 0;
        for (_, deed) in story.deeds.values().flatten() {
            renames += usize::from(match deed {
                Deed::Renamed { .. } => true,
                Deed::Copied { from, to, .. } => from != to,
                _ => false,
            });
            if let Some(ending) = deed.ending() {
                *endings.entry(ending).or_default() += 1;
            }
        }
        let most = endings.into_iter().max_by_key(|(ending, count)| (*count, ending.to_vec()));
        let ending = most.filter(|(_, count)| *count >= ENDINGS_MIN && count * 2 >= renames);
        let ending = ending.map(|(ending, _)| ending.to_vec());
        let any_name = ending.is_none() && renames >= limits.files;
        let mut judge = Judge { replica, first, last, evidence: true, ending, any_name };
        let replaced: Vec<_> = story
            .deeds
            .iter()
            .filter_map(|(node, deeds)| Some((*node, deeds.iter().find(|(_, deed)| deed.replaces())?)))
            .collect();
        let mut verdicts = Vec::new();
        for (node, (lsn, deed)) in
            replaced.iter().step_by(replaced.len().div_ceil(limits.sampled_max.max(1)).max(1))
        {
            verdicts.push(judge.contents(*node, *lsn, deed)?);
        }
        let (judged, spoiled) = count(&verdicts);
        judge.evidence = is_evidence(judged, spoiled);
        Ok(judge)
    }

    /// What a deed made of the bytes of a file.
    fn contents(&self, node: NodeId, lsn: u64, deed: &Deed) -> Result<Verdict, RestoreError> {
        let before = (node, Lsn::captured(lsn.saturating_sub(1)));
        match deed {
            Deed::Rewritten => judge(self.replica, before, (node, Lsn::captured(lsn))),
            // What stands for it may have been written after it came.
            Deed::Copied { by, .. } => judge(self.replica, before, (*by, Lsn::captured(self.last))),
            _ => Ok(Verdict::Sound),
        }
    }

    fn verdict(&self, node: NodeId, lsn: u64, deed: &Deed) -> Result<Verdict, RestoreError> {
        let named = match (deed, &self.ending) {
            (Deed::Renamed { .. } | Deed::Copied { .. }, Some(ending)) => deed.ending() == Some(ending),
            (Deed::Renamed { .. }, None) => self.any_name,
            _ => false,
        };
        match named {
            true => Ok(Verdict::Spoiled),
            false if self.evidence => self.contents(node, lsn, deed),
            false if deed.replaces() => Ok(Verdict::Spoiled),
            false => Ok(Verdict::Sound),
        }
    }

    /// Whether and when a file was hit.
    fn hit(&self, node: NodeId, deeds: &[(u64, Deed)]) -> Result<Option<Subject>, RestoreError> {
        let mut hit: Option<usize> = None;
        let mut by = None;
        let mut doubtful = None;
        for (number, (lsn, deed)) in deeds.iter().enumerate() {
            let verdict = match hit {
                // Once spoiled, only who stands for it matters.
                Some(_) => Verdict::Spoiled,
                None => self.verdict(node, *lsn, deed)?,
            };
            match verdict {
                Verdict::Sound => doubtful = None,
                Verdict::Unknown => doubtful = doubtful.or(Some(number)),
                Verdict::Spoiled => hit = hit.or(doubtful).or(Some(number)),
            }
            if let (Deed::Copied { by: other, .. }, Some(_)) = (deed, hit.or(doubtful)) {
                by = Some(*other);
            }
        }
        let Some(number) = hit.or(doubtful) else { return Ok(None) };
        let Some((lsn, _)) = deeds.get(number) else { return Ok(None) };
        let earlier = deeds.iter().map(|(lsn, _)| *lsn).filter(|earlier| earlier < lsn).max();
        let from = earlier.unwrap_or(0).max(self.first.saturating_sub(1));
        Ok(Some(Subject { node, by, from, upto: lsn.saturating_sub(1), came: false }))
    }

    /// New files that are the burst's own.
    fn left_behind(&self, story: &Story, subjects: &[Subject]) -> Vec<Subject> {
        let mut directories: HashMap<&Name, BTreeSet<NodeId>> = HashMap::new();
        for (_, _, at) in &story.came {
            directories.entry(&at.name).or_default().insert(at.parent);
        }
        let copies: BTreeSet<NodeId> = subjects.iter().filter_map(|subject| subject.by).collect();
        let mut left = BTreeMap::new();
        for (node, lsn, at) in &story.came {
            let ends = self.ending.as_ref().is_some_and(|ending| at.name.as_bytes().ends_with(ending));
            let is_note = self.evidence && directories.get(&at.name).is_some_and(|at| at.len() >= NOTES_MIN);
            if (ends || is_note) && !copies.contains(node) {
                // It was not there at any point before it came.
                let upto = lsn.saturating_sub(1);
                let subject = Subject { node: *node, by: None, from: 0, upto, came: true };
                left.entry(*node).or_insert(subject);
            }
        }
        // What was new and was hit itself goes back to what it was.
        let hit: BTreeSet<NodeId> = subjects.iter().map(|subject| subject.node).collect();
        left.into_values().filter(|subject| !hit.contains(&subject.node)).collect()
    }
}

/// Chooses the points.
fn group(mut subjects: Vec<Subject>, before: u64, found: &mut LastGood) -> BTreeMap<u64, Vec<Subject>> {
    subjects.sort_by_key(|subject| (subject.upto, subject.node));
    let mut groups: BTreeMap<u64, Vec<Subject>> = BTreeMap::new();
    let mut point = None;
    for subject in subjects {
        let fits = point.is_some_and(|point| subject.from <= point);
        let at = match point {
            Some(point) if fits => point,
            _ if groups.len() >= POINTS_MAX => {
                found.coarse += 1;
                groups.entry(before).or_default().push(subject);
                continue;
            }
            _ => subject.upto,
        };
        point = Some(at);
        groups.entry(at).or_default().push(subject);
    }
    groups
}

/// From files to paths.
struct Way<'r, R> {
    replica: &'r R,
    now: Lsn,
    paths: &'r [PathFilter],
    found: LastGood,
    /// The files, and those that stand for them.
    known: BTreeSet<NodeId>,
}

impl<R: ReplicaControl> Way<'_, R> {
    fn group(&mut self, point: Lsn, subjects: &[Subject]) -> Result<(), RestoreError> {
        let failed = RestoreError::journal("find the paths of a burst");
        let (then, now) = (self.replica.view(point), self.replica.view(self.now));
        let (then, now) = (then.map_err(&failed)?, now.map_err(&failed)?);
        let (then, now) = (Places::new(&*then), Places::new(&*now));
        let mut paths = Vec::new();
        for subject in subjects {
            let old = filters(&then, subject.node)?;
            if subject.came && !old.is_empty() {
                // A new name of an old file: going back would take the file's bytes back with it.
                continue;
            }
            let mut all = old.clone();
            for node in [Some(subject.node), subject.by].into_iter().flatten() {
                all.extend(filters(&now, node)?);
            }
            let wanted = |path: &PathFilter| self.paths.iter().any(|above| above.holds(path));
            if all.is_empty() || !self.paths.is_empty() && !all.iter().any(wanted) {
                continue;
            }
            match old.is_empty() {
                true => self.found.left += 1,
                false => self.found.files += 1,
            }
            if !old.is_empty() {
                self.known.insert(subject.node);
                self.known.extend(subject.by);
            }
            for path in &old {
                let stands = now.view().resolve(path.root, &path.path()).map_err(&failed)?;
                if stands.is_some_and(|node| node != subject.node && Some(node) != subject.by) {
                    self.changed_later(path.clone());
                }
            }
            paths.extend(all);
        }
        if !paths.is_empty() {
            self.found.groups.push(LastGoodGroup { point, paths });
        }
        Ok(())
    }

    fn changed_later(&mut self, path: PathFilter) {
        let (number, listed) = &mut self.found.later;
        if listed.contains(&path) {
            return;
        }
        *number += 1;
        if listed.len() < LISTED_MAX {
            listed.push(path);
        }
    }

    /// Says which files somebody changed after the burst.
    fn later(&mut self, last: u64, monitor: &dyn Monitor) -> Result<(), RestoreError> {
        let mut changed = BTreeSet::new();
        let upto = Lsn::captured(self.now.captured);
        read_facts(self.replica, Lsn::captured(last), upto, monitor, &mut |fact| {
            if self.known.contains(&fact.node) {
                changed.insert(fact.node);
            }
            Ok(ControlFlow::Continue(()))
        })?;
        let now = self.replica.view(self.now).map_err(RestoreError::journal("open a view"))?;
        let now = Places::new(&*now);
        for node in changed {
            if let Some(path) = filters(&now, node)?.into_iter().next() {
                self.changed_later(path);
            }
        }
        Ok(())
    }
}

fn filters<T: journal::TreeIo>(
    places: &Places<'_, T>,
    node: NodeId,
) -> Result<Vec<PathFilter>, RestoreError> {
    let failed = RestoreError::journal("find the paths of a burst");
    let mut found = Vec::new();
    for edge in places.names(node).map_err(&failed)? {
        let path = places.path(&edge).map_err(&failed)?;
        found.extend(path.and_then(|(root, path)| PathFilter::new(root, &path)));
    }
    Ok(found)
}
