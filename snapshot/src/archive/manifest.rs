//! What a manifest of the archive says: pieces of redo in the order of the stream, and up to which event they go.
//!
//! Pieces of one segment follow one another without a hole, from its first byte; where a segment is missing between two
//! that are named, the archive has a gap: no moment behind it can be reached from a session before it. Gaps are what the
//! list of pieces shows, not something that is said beside it, so that the two cannot disagree.

use crate::repository::Id;
use serde::{Deserialize, Serialize};

/// Version that is written, and the only one that is read.
pub const VERSION: u32 = 1;
/// Most plain bytes of a piece.
pub const PIECE_BYTES_MAX: usize = 16 << 20;
/// Most pieces that a manifest may name.
const PIECES_MAX: usize = 1 << 20;

/// Where a piece stands in the redo stream, and what of history begins and ends in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Draft {
    /// Number of the segment.
    pub segment: u64,
    /// Offset of its first byte in the segment.
    pub from: u64,
    /// Offset behind its last byte.
    pub to: u64,
    /// Whether the segment ends with it.
    pub sealed: bool,
    /// Least captured LSN whose first part begins in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<u64>,
    /// Greatest captured LSN whose last part begins in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<u64>,
    /// The master's clock at `first`, in nanoseconds since 1970.
    #[serde(default)]
    pub first_time: i64,
    /// The master's clock at `last`.
    #[serde(default)]
    pub last_time: i64,
}

/// A piece that is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// Hash of the sealed bytes.
    pub id: Id,
    /// Hash of the plain bytes.
    pub plain: Id,
    /// Where it stands.
    #[serde(flatten)]
    pub place: Draft,
}

impl Piece {
    /// Plain bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.place.to.saturating_sub(self.place.from)
    }

    /// The last part of the object's name: place, LSNs that begin and end in it (0: none), beginning of the id.
    #[must_use]
    pub fn last_part(&self) -> String {
        let Draft { segment, from, to, first, last, .. } = &self.place;
        let (first, last) = (first.unwrap_or(0), last.unwrap_or(0));
        let id: String = self.id.to_string().chars().take(16).collect();
        format!("{segment:010}-{from:012}-{to:012}-{first}-{last}-{id}")
    }
}

/// Segment and end of a piece, out of the last part of its object's name; `None` for other names.
#[must_use]
pub fn parse_last_part(name: &str) -> Option<(u64, u64)> {
    let mut numbers = name.split('-').map(|digits| digits.parse().ok());
    let (segment, _from, to): (_, Option<u64>, _) = (numbers.next()??, numbers.next()?, numbers.next()??);
    Some((segment, to))
}

/// The last event that is archived whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upto {
    /// Its captured LSN; 0: none.
    pub lsn: u64,
    /// The master's clock then, in nanoseconds since 1970.
    pub time: i64,
}

/// A manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`VERSION`].
    pub version: u32,
    /// The journal's id, 32 hexadecimal digits.
    pub journal: String,
    /// Counts the manifests of this journal, with holes.
    pub generation: u64,
    /// Name of the scenario, for people.
    pub scenario: String,
    /// Host name of the master, for people.
    pub host: String,
    /// Roots on the master in the order of their numbers, as session records have paths.
    pub roots: Vec<String>,
    /// When it was written, by the daemon's clock, in nanoseconds since 1970.
    pub written: i64,
    /// How far the archive goes.
    pub upto: Upto,
    /// In the order of the stream.
    pub pieces: Vec<Piece>,
}

/// A stretch of history that is not in the archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The last LSN in front of it, and its time; none if nothing is.
    pub after: Option<Upto>,
    /// The first LSN behind it, and its time; none if nothing is.
    pub before: Option<Upto>,
}

fn follows(next: &Draft, previous: &Draft) -> bool {
    if next.segment == previous.segment {
        !previous.sealed && next.from == previous.to
    } else {
        previous.sealed && previous.segment.checked_add(1) == Some(next.segment) && next.from == 0
    }
}

impl Manifest {
    /// What is wrong with it, if anything is.
    #[must_use]
    pub fn fault(&self) -> Option<&'static str> {
        if self.version != VERSION {
            return Some("it is of an unknown version");
        }
        if self.pieces.len() > PIECES_MAX {
            return Some("it names too many pieces");
        }
        let mut previous: Option<&Draft> = None;
        for piece in &self.pieces {
            let place = &piece.place;
            if place.from >= place.to || piece.bytes() > PIECE_BYTES_MAX as u64 {
                return Some("a piece has no sensible length");
            }
            let begins = place.from == 0 && previous.is_none_or(|previous| place.segment > previous.segment);
            if !begins && !previous.is_some_and(|previous| follows(place, previous)) {
                return Some("its pieces do not follow one another");
            }
            previous = Some(place);
        }
        None
    }

    /// Stretches of pieces without a gap, in order.
    #[must_use]
    pub fn runs(&self) -> Vec<&[Piece]> {
        self.pieces.chunk_by(|a, b| follows(&b.place, &a.place)).collect()
    }

    /// Gaps between its first and its last piece.
    #[must_use]
    pub fn gaps(&self) -> Vec<Gap> {
        let runs = self.runs();
        let pairs = runs.iter().zip(runs.iter().skip(1));
        pairs.map(|(a, b)| Gap { after: last_of(a), before: first_of(b) }).collect()
    }

    /// The pieces that hold all of the captures `after + 1` to `upto`, whole segments from their first byte on.
    ///
    /// # Errors
    /// The gap that is in between.
    pub fn covering(&self, after: u64, upto: u64) -> Result<&[Piece], Gap> {
        if upto <= after {
            return Ok(&[]);
        }
        let holds = |run: &&&[Piece]| {
            first_of(run).is_some_and(|first| first.lsn <= after.saturating_add(1))
                && last_of(run).is_some_and(|last| last.lsn >= upto)
        };
        let runs = self.runs();
        let Some(run) = runs.iter().find(holds) else {
            let before = runs.iter().filter_map(|run| first_of(run)).find(|first| first.lsn > after + 1);
            let after = runs
                .iter()
                .filter_map(|run| last_of(run))
                .rfind(|last| before.is_none_or(|before| last.lsn < before.lsn) && last.lsn < upto);
            return Err(Gap { after, before });
        };
        let begins = |piece: &&Piece| piece.place.first.is_some_and(|first| first <= after + 1);
        let first = run.iter().rfind(begins).map_or(0, |piece| piece.place.segment);
        let from = run.iter().position(|piece| piece.place.segment == first).unwrap_or(0);
        let ends = |piece: &Piece| piece.place.last.is_some_and(|last| last >= upto);
        let to = run.iter().position(ends).map_or(run.len(), |at| at + 1);
        // The end of a piece may lie within a batch; that of all pieces of a segment does not.
        let last = run.get(to - 1).map_or(0, |piece| piece.place.segment);
        let to = run.iter().rposition(|piece| piece.place.segment == last).map_or(to, |at| at + 1);
        Ok(run.get(from..to).unwrap_or_default())
    }
}

fn first_of(run: &[Piece]) -> Option<Upto> {
    run.iter().find_map(|piece| Some(Upto { lsn: piece.place.first?, time: piece.place.first_time }))
}

fn last_of(run: &[Piece]) -> Option<Upto> {
    run.iter().rev().find_map(|piece| Some(Upto { lsn: piece.place.last?, time: piece.place.last_time }))
}
