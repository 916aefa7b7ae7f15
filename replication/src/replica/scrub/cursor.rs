//! How far a scrub is, so that it goes on there after a restart of the daemon.
//!
//! A scrub at a gentle rate takes days, and one that begins anew whenever the daemon is started again may never come to
//! its end. So its host is told now and then how far it is, and gives that back to whoever goes on.
//!
//! **Where it is** is what the walk itself holds ([`Position`]): the directories that are still to come, by their numbers and
//! not by their names, and how far the present one is. So whoever goes on is where it would have been without the
//! end: what is moved meanwhile is found where it is now, what is gone is left out, and what moves from what is to come
//! to what was walked is the business of the next scrub, as ever.
//!
//! **What is known by then** goes along: sums, differences, and what looked different and was not looked at again, which
//! whoever goes on does between barriers of its own. All of it is of one moment between two questions, so nothing is counted twice and
//! nothing is left out.
//!
//! **A cursor that cannot be read is none**, nor is one of another job, journal or version, or with anything in it that no scrub
//! writes: the scrub begins at the beginning, which is always right.

use super::look::Differs;
use super::{
    DIFFERENCES_MAX, Difference, LATER_MAX, LEFT_OUT, MOVING, NOT_KEPT, PASSED_MAX, SUSPECTS_MAX,
    ScrubOptions, ScrubReport, Side, Suspect, Tried, UNLISTED, UNREADABLE,
};
use bincode::{Decode, Encode};
use journal::proofs::Scrubbed;
use journal::{Edge, Name, NodeId, RootNo};
use wire::stream::SCRUB_ITEMS_MAX;

/// Of which version bytes are; others are not read. It is another one if anything here changes, or what [`Scrubbed`] holds.
const VERSION: u16 = 1;
/// Longest cursor that is written and read, in bytes.
pub const SCRUB_CURSOR_MAX: usize = 16 << 20;
/// Most directories that are to come; more are not written in the first place.
const STACK_MAX: usize = SCRUB_CURSOR_MAX / 3;
/// More suspicions are never waiting: those of one question, and those that were too few to be looked at.
const MANY: usize = SUSPECTS_MAX + SCRUB_ITEMS_MAX;
/// Most memory that one may ask for: a number of a directory is 1 to 9 bytes there and 8 here.
const DECODED_MAX: usize = 8 * SCRUB_CURSOR_MAX;

/// What differs, and why something was not compared, in the words that are told.
const WORDS: [&str; 15] = [
    "bytes", "size", "mode", "owner", "mtime", "xattrs", "kind", "target", "missing", "extra", LEFT_OUT,
    UNREADABLE, MOVING, NOT_KEPT, UNLISTED,
];

/// A word of [`WORDS`]; another version may have had others.
fn word(text: &str) -> Option<&'static str> {
    WORDS.into_iter().find(|word| *word == text)
}

/// What was done of a directory.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) enum Step {
    /// Of one name in it, the one that was asked for, so many blocks are compared.
    Only(u64),
    /// Its names are compared: those up to one are, and of some behind it a part.
    Names(Option<Name>, Vec<Part>),
    /// What is strange on the replica: up to this name.
    Ours(Option<Name>),
    /// What is strange on the master: up to this name.
    Theirs(Option<Name>),
}

/// A name of which, if it is that node, so many blocks are compared.
pub(super) type Part = (Name, NodeId, u64);

/// Where the walk is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub(super) struct Position {
    /// The directory that is being walked, and how far.
    pub at: Option<(NodeId, Step)>,
    /// Those that are still to come, the next one last.
    pub stack: Vec<NodeId>,
}

#[derive(Encode, Decode)]
struct KeptDifference {
    root: RootNo,
    path: Vec<u8>,
    what: String,
    side: u8,
    offset: Option<u64>,
    repaired: bool,
    aside: Option<String>,
}

#[derive(Encode, Decode)]
struct KeptSuspect {
    root: RootNo,
    path: Vec<u8>,
    edge: Edge,
    node: Option<NodeId>,
    first: u64,
    tried: Option<KeptTried>,
}

#[derive(Encode, Decode)]
struct KeptTried {
    what: String,
    side: u8,
    offset: Option<u64>,
    aside: Option<String>,
}

/// What the scrub is of.
#[derive(Debug, PartialEq, Eq, Encode, Decode)]
pub(super) struct Of {
    /// Nodes have other numbers in another one.
    pub journal: [u8; 16],
    /// Who asked for it; what another one left is no use.
    pub asker: u64,
    pub below: Option<(RootNo, Vec<u8>)>,
    /// Where that path led when it began: the directory, and what is in it.
    pub top: Option<(NodeId, NodeId)>,
    pub repair: bool,
    pub roots: u16,
}

impl Of {
    pub(super) fn these(journal: [u8; 16], top: Option<(NodeId, NodeId)>, options: &ScrubOptions) -> Self {
        let (asker, below) = (options.asker, options.below.clone());
        Of { journal, asker, below, top, repair: options.repair, roots: options.roots }
    }
}

#[derive(Decode)]
struct Kept {
    version: u16,
    of: Of,
    position: Position,
    sums: Scrubbed,
    found: u64,
    repaired: u64,
    differences: Vec<KeptDifference>,
    passed: Vec<(RootNo, Vec<u8>, String)>,
    suspects: Vec<KeptSuspect>,
    later: Vec<KeptSuspect>,
}

impl Kept {
    /// Whether a scrub of these may have written it.
    fn is_likely(&self) -> bool {
        let roots = self.differences.iter().map(|one| one.root);
        let roots = roots.chain(self.passed.iter().map(|one| one.0));
        let mut roots = roots.chain(self.suspects.iter().chain(&self.later).map(|one| one.root));
        let sums = &self.sums;
        let counts = [
            (sums.entries, u64::MAX),
            (sums.files, u64::MAX),
            (sums.bytes, u64::MAX),
            (sums.passed, u64::MAX),
            (self.found, u64::MAX),
            (self.repaired, self.found),
            (sums.replica_differs, self.found),
            (sums.master_differs, self.found),
        ];
        self.differences.len() <= DIFFERENCES_MAX
            && self.passed.len() <= PASSED_MAX
            && self.suspects.len() <= MANY
            && self.later.len() <= LATER_MAX
            && self.differences.len() as u64 <= self.found
            && roots.all(|root| root.0 < self.of.roots)
            && counts.into_iter().all(|(count, most)| count <= most.min(1 << 62))
    }
}

/// A scrub that did not come to its end.
#[derive(Debug)]
pub(super) struct Begun {
    pub position: Position,
    pub report: ScrubReport,
    /// To be looked at again.
    pub suspects: Vec<Suspect>,
    /// To be looked at again at the end.
    pub later: Vec<Suspect>,
}

const SIDES: [Side; 4] = [Side::Replica, Side::Master, Side::Unknown, Side::Rot];

fn side(side: Side) -> u8 {
    SIDES.iter().position(|one| *one == side).unwrap_or_default() as u8
}

impl From<&Suspect> for KeptSuspect {
    fn from(one: &Suspect) -> Self {
        let (path, edge) = (one.path.clone(), one.edge.clone());
        let tried = one.tried.as_ref().map(|tried| KeptTried {
            what: tried.differs.what.to_owned(),
            side: side(tried.differs.side),
            offset: tried.differs.offset,
            aside: tried.aside.clone(),
        });
        KeptSuspect { root: one.root, path, edge, node: one.node, first: one.first, tried }
    }
}

impl KeptSuspect {
    fn suspect(self) -> Option<Suspect> {
        let tried = match self.tried {
            Some(KeptTried { what, side, offset, aside }) => {
                let differs = Differs { what: word(&what)?, side: *SIDES.get(usize::from(side))?, offset };
                Some(Tried { differs, aside })
            }
            None => None,
        };
        let (path, edge) = (self.path, self.edge);
        Some(Suspect { root: self.root, path, edge, node: self.node, first: self.first, tried })
    }
}

/// The bytes of a cursor, as [`Kept`] is read; `None` if they are more than are read.
pub(super) fn write<'s>(
    of: &Of,
    position: &Position,
    report: &ScrubReport,
    suspects: &[Suspect],
    later: impl Iterator<Item = &'s Suspect>,
) -> Option<Vec<u8>> {
    if position.stack.len() > STACK_MAX {
        return None;
    }
    let differences = report.differences.iter().map(|one| KeptDifference {
        root: one.root,
        path: one.path.clone(),
        what: one.what.to_owned(),
        side: side(one.side),
        offset: one.offset,
        repaired: one.repaired,
        aside: one.aside.clone(),
    });
    let kept = (
        VERSION,
        of,
        position,
        &report.sums,
        report.found,
        report.repaired,
        differences.collect::<Vec<_>>(),
        &report.passed,
        suspects.iter().map(KeptSuspect::from).collect::<Vec<_>>(),
        later.map(KeptSuspect::from).collect::<Vec<_>>(),
    );
    let mut bytes = bincode::encode_to_vec(kept, bincode::config::standard()).ok()?;
    let sum = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&sum.to_le_bytes());
    (bytes.len() <= SCRUB_CURSOR_MAX).then_some(bytes)
}

/// What a cursor says, if it is one of a scrub of these.
pub(super) fn read(of: &Of, bytes: &[u8]) -> Option<Begun> {
    let (body, sum) = bytes.split_last_chunk::<4>()?;
    if bytes.len() > SCRUB_CURSOR_MAX || u32::from_le_bytes(*sum) != crc32c::crc32c(body) {
        return None;
    }
    let limited = bincode::config::standard().with_limit::<DECODED_MAX>();
    let (kept, used): (Kept, usize) = bincode::decode_from_slice(body, limited).ok()?;
    if used != body.len() || kept.version != VERSION || kept.of != *of || !kept.is_likely() {
        return None;
    }
    let differences = kept.differences.into_iter().map(|one| {
        Some(Difference {
            root: one.root,
            path: one.path,
            what: word(&one.what)?,
            side: *SIDES.get(usize::from(one.side))?,
            offset: one.offset,
            repaired: one.repaired,
            aside: one.aside,
        })
    });
    let passed = kept.passed.into_iter().map(|(root, path, why)| Some((root, path, word(&why)?)));
    let report = ScrubReport {
        sums: kept.sums,
        differences: differences.collect::<Option<_>>()?,
        found: kept.found,
        repaired: kept.repaired,
        passed: passed.collect::<Option<_>>()?,
    };
    let suspects = |list: Vec<KeptSuspect>| list.into_iter().map(KeptSuspect::suspect).collect::<Option<_>>();
    let (suspects, later) = (suspects(kept.suspects)?, suspects(kept.later)?);
    Some(Begun { position: kept.position, report, suspects, later })
}

#[cfg(test)]
mod tests;
