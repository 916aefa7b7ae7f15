//! What a moment is made of: which journal, which sessions, which pieces. Reads manifests and nothing else.
//!
//! A moment behind the end of an archive is its end, and the caller is told where that is: nothing is known of what came
//! after. If a session is newer than that end there is nothing to replay over it, and it is left to the caller.

use super::{Moment, RebuildError};
use journal::Lsn;
use snapshot::archive::{Archive, Gap, Manifest, Piece, Upto, journals, parse_hex};
use snapshot::repository::session::path_of_text;
use snapshot::repository::{Id, Repository, RepositoryErrorKind, SessionRecord};
use std::collections::{BTreeMap, BTreeSet};

/// A session as its record shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its id.
    pub id: Id,
    /// Its record.
    pub record: SessionRecord,
}

/// A session that redo can be replayed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// Its id.
    pub(super) session: Id,
    /// Its tree.
    pub(super) tree: Id,
    /// Absolute path of its root.
    pub(super) path: Vec<u8>,
    /// The captured LSN it shows.
    pub(super) lsn: u64,
    /// The master's clock then, in nanoseconds since 1970.
    pub(super) time: i64,
}

/// A host and a root.
pub type Entity = (String, Vec<String>);

/// What a moment of one journal is made of.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// The journal.
    pub journal: [u8; 16],
    /// The moment.
    pub moment: Moment,
    /// The manifest that is believed.
    pub manifest: Manifest,
    /// Things to be said.
    pub warnings: Vec<String>,
    /// The roots it answers for, under all names their host ever had.
    pub entities: BTreeSet<Entity>,
    /// Paths of archived roots of which no session is as old as the moment: they are not in it.
    pub missing: Vec<Vec<u8>>,
    /// For each root its sessions, the nearest first.
    roots: Vec<Vec<Base>>,
    /// The greatest LSN that may be in it.
    limit: u64,
}

/// What all journals together give.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// Of each journal that answers.
    pub chosen: Vec<Chosen>,
    /// Things to be said of journals that do not.
    pub warnings: Vec<String>,
}

/// Journal and LSN of a session that this project made.
pub(in crate::archive) fn tags(record: &SessionRecord) -> Option<([u8; 16], Lsn)> {
    let tag = |key: &str| record.tags.iter().find_map(|tag| tag.strip_prefix(key));
    Some((parse_hex(tag("journal:")?)?, tag("lsn:")?.parse().ok()?))
}

fn nanoseconds(record: &SessionRecord) -> i64 {
    let time = record.time;
    time.seconds.saturating_mul(1_000_000_000).saturating_add(i64::from(time.nanoseconds))
}

impl Candidate {
    fn entity(&self) -> Entity {
        (self.record.hostname.clone(), self.record.paths.clone())
    }

    fn base(&self, journal: &[u8; 16]) -> Option<Base> {
        let (of, lsn) = tags(&self.record)?;
        let ([path], true) = (self.record.paths.as_slice(), of == *journal) else { return None };
        let good = !lsn.is_local() && self.record.missed() == 0;
        let path = path_of_text(path);
        good.then_some(Base {
            session: self.id,
            tree: self.record.tree,
            path,
            lsn: lsn.captured,
            time: nanoseconds(&self.record),
        })
    }

    fn is_in(&self, moment: Moment) -> bool {
        match moment {
            Moment::Time(time) => nanoseconds(&self.record) <= time,
            Moment::Lsn(lsn) => tags(&self.record).is_some_and(|(_, at)| at.captured <= lsn),
        }
    }
}

/// Chooses for each archived journal, from all sessions there are. What is in no answer has no archive, or a session that
/// is newer than the archive's end.
///
/// # Errors
/// `Gap`, `NoBase`, and those of the repository; a newest manifest that is damaged, unless the one before it reaches as
/// far as the moment.
pub fn choose(
    repository: &Repository,
    sessions: &[Candidate],
    moment: Moment,
) -> Result<Choice, RebuildError> {
    let archived = journals(repository)?;
    let mut newest: BTreeMap<Entity, &Candidate> = BTreeMap::new();
    for candidate in sessions.iter().filter(|candidate| candidate.is_in(moment)) {
        let other = newest.entry(candidate.entity()).or_insert(candidate);
        if nanoseconds(&other.record) < nanoseconds(&candidate.record) {
            *other = candidate;
        }
    }
    let mut by_journal: BTreeMap<[u8; 16], Roots<'_>> = BTreeMap::new();
    for candidate in newest.into_values() {
        if let Some((journal, _)) = tags(&candidate.record).filter(|(journal, _)| archived.contains(journal))
        {
            // The host may have got another name: a root of a journal is the same root all the same.
            let roots = by_journal.entry(journal).or_default();
            let other = roots.entry(candidate.record.paths.clone()).or_insert(candidate);
            if nanoseconds(&other.record) < nanoseconds(&candidate.record) {
                *other = candidate;
            }
        }
    }
    let mut choice = Choice::default();
    for (journal, roots) in by_journal {
        let Some((manifest, mut warnings)) = manifest(&Archive::new(repository, journal), moment)? else {
            continue;
        };
        let is_newer = |candidate: &Candidate| {
            tags(&candidate.record).is_some_and(|(_, lsn)| lsn.captured >= manifest.upto.lsn)
        };
        let is_behind = match moment {
            Moment::Time(time) => time >= manifest.upto.time,
            Moment::Lsn(lsn) => lsn > manifest.upto.lsn,
        };
        if is_behind {
            let end = super::end(&Some(manifest.upto));
            warnings.push(format!(
                "the archive of \"{}\" ends at {end}: what came after is not known",
                manifest.scenario
            ));
            if roots.values().all(|candidate| is_newer(candidate)) {
                choice.warnings.append(&mut warnings);
                continue;
            }
        }
        choice.chosen.push(of_journal(journal, (manifest, warnings), &roots, sessions, moment)?);
    }
    Ok(choice)
}

/// The newest session of each root of a journal.
type Roots<'c> = BTreeMap<Vec<String>, &'c Candidate>;

fn of_journal(
    journal: [u8; 16],
    (manifest, warnings): (Manifest, Vec<String>),
    roots: &Roots<'_>,
    sessions: &[Candidate],
    moment: Moment,
) -> Result<Chosen, RebuildError> {
    let limit = limit(&manifest, moment);
    let (mut bases, mut entities) = (Vec::new(), BTreeSet::new());
    for paths in roots.keys() {
        let mine = sessions.iter().filter(|candidate| {
            candidate.record.paths == *paths && tags(&candidate.record).is_some_and(|(of, _)| of == journal)
        });
        entities.extend(mine.clone().map(Candidate::entity));
        let mut mine: Vec<Base> = mine
            .filter(|candidate| candidate.is_in(moment))
            .filter_map(|candidate| candidate.base(&journal))
            .filter(|base| base.lsn <= limit)
            .collect();
        mine.sort_by_key(|base| std::cmp::Reverse(base.lsn));
        mine.dedup_by_key(|base| base.lsn);
        if mine.is_empty() {
            return Err(RebuildError::NoBase { path: paths.join(", ") });
        }
        bases.push(mine);
    }
    let is_there = |root: &&String| roots.keys().any(|paths| paths.contains(*root));
    let missing = manifest.roots.iter().filter(|root| !is_there(root)).map(|root| path_of_text(root));
    let missing = missing.collect();
    Ok(Chosen { journal, moment, manifest, warnings, entities, missing, roots: bases, limit })
}

/// The newest manifest; or the one before it, if that one reaches as far and the newest is damaged.
fn manifest(archive: &Archive<'_>, moment: Moment) -> Result<Option<(Manifest, Vec<String>)>, RebuildError> {
    let generations = archive.generations()?;
    let Some((newest, older)) = generations.split_last() else { return Ok(None) };
    let damage = match archive.load_manifest(*newest) {
        Ok(manifest) => return Ok(Some((manifest, Vec::new()))),
        Err(error) if error.kind() == RepositoryErrorKind::Damaged => error,
        Err(error) => return Err(error.into()),
    };
    let reaches = |upto: &Upto| match moment {
        Moment::Time(time) => time <= upto.time,
        Moment::Lsn(lsn) => lsn <= upto.lsn,
    };
    let before = older.last().and_then(|generation| archive.load_manifest(*generation).ok());
    match before.filter(|manifest| reaches(&manifest.upto)) {
        Some(manifest) => {
            let text = format!("the newest manifest is passed over, the one before it does: {damage}");
            Ok(Some((manifest, vec![text])))
        }
        None => Err(damage.into()),
    }
}

/// An LSN that the moment is not behind, whose piece shows where it ends.
fn limit(manifest: &Manifest, moment: Moment) -> u64 {
    match moment {
        Moment::Lsn(lsn) => lsn.min(manifest.upto.lsn),
        Moment::Time(time) => {
            let behind = |piece: &&Piece| piece.place.last.is_some() && piece.place.last_time > time;
            let piece = manifest.pieces.iter().find(behind);
            piece.and_then(|piece| piece.place.last).unwrap_or(manifest.upto.lsn)
        }
    }
}

impl Chosen {
    /// How many sets of sessions can be tried.
    pub(super) fn attempts(&self) -> usize {
        self.roots.iter().map(Vec::len).max().unwrap_or(0)
    }

    /// A set of sessions; older ones with each attempt.
    pub(super) fn bases(&self, attempt: usize) -> Vec<&Base> {
        self.roots.iter().filter_map(|bases| bases.get(attempt).or(bases.last())).collect()
    }

    /// The sessions that are tried first.
    #[must_use]
    pub fn sessions(&self) -> Vec<Id> {
        self.bases(0).into_iter().map(|base| base.session).collect()
    }

    /// The pieces behind the oldest of some sessions, and where that one is.
    pub(super) fn pieces(&self, bases: &[&Base]) -> Result<(&[Piece], Upto), RebuildError> {
        let oldest = bases.iter().min_by_key(|base| base.lsn);
        let start = oldest.map_or(Upto::default(), |base| Upto { lsn: base.lsn, time: base.time });
        let after = start.lsn;
        match self.manifest.covering(after, self.limit) {
            Ok(pieces) => Ok((pieces, start)),
            Err(gap) => self.in_front_of(gap, start).ok_or(RebuildError::Gap(gap)),
        }
    }

    /// The pieces in front of a gap, if the moment is the very last one in front of it.
    fn in_front_of(&self, gap: Gap, start: Upto) -> Option<(&[Piece], Upto)> {
        let last = gap.after.filter(|last| self.moment == Moment::Time(last.time))?;
        self.manifest.covering(start.lsn, last.lsn).ok().map(|pieces| (pieces, start))
    }

    /// Bytes of redo that have to be fetched.
    ///
    /// # Errors
    /// The gap in them.
    pub fn redo_bytes(&self) -> Result<u64, RebuildError> {
        Ok(self.pieces(&self.bases(0))?.0.iter().map(Piece::bytes).sum())
    }
}
