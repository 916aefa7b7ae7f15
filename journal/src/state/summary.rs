//! Blocks of points: for some thousand consecutive points one row that says what may be among them.
//!
//! A search for few points among millions reads a row for each block and only the blocks that may hold what it looks
//! for. A block says which kinds and which times it has, and a Bloom filter says which paths: for each path (of a rename
//! the old one too) itself and every directory on the way to it, every name in it, and what follows the last dot of each.
//! So it can answer for a path, for all below a directory, for a name at any depth and for an ending.
//!
//! It errs on one side only: what is in a block is never denied. That holds because a block is made of rows that do not
//! change any more: no point is added at or before an LSN that is applied, and points that retention takes away only leave
//! a block saying too much. Points of which no block speaks are read one by one, so blocks may be missing, be made at any
//! time, of any size, and be deleted. `FORMAT.md` has the bytes.

use super::rows::{self, PointKind, PointRow};
use crate::error::JournalError;
use crate::lsn::Lsn;
use crate::meta::Timestamp;
use crate::tables::{Put, Space, Tables};
use bincode::{Decode, Encode};
use std::collections::HashSet;

/// Points of a block.
pub const BLOCK_POINTS: usize = 4096;
/// A block with more different tokens than this is closed however few points it has.
const TOKENS_MAX: usize = 32_768;
/// Of a longer path no tokens are told: each directory on the way is hashed with all above it, so the work grows with the
/// square of the length, and whoever sends changes may send paths of a megabyte.
const PATH_BYTES_MAX: usize = 4096;
/// Bits of the filter for each token, and how many of them a token sets: of absent ones 1 in 300 seems to be there.
const BITS_PER_TOKEN: usize = 12;
const BITS_SET: u64 = 8;
/// First byte of keys: what a block says of kinds and times, which is short, and what it says of paths.
const HEAD: u8 = 0;
const PATHS: u8 = 1;

/// Kinds of points.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Kinds(u8);

impl Kinds {
    /// All there are.
    pub const ALL: Kinds = Kinds(u8::MAX);
    /// None.
    pub const NONE: Kinds = Kinds(0);

    /// These and one more.
    #[must_use]
    pub const fn with(self, kind: PointKind) -> Kinds {
        Kinds(self.0 | 1 << kind as u8)
    }

    /// These without one.
    #[must_use]
    pub const fn without(self, kind: PointKind) -> Kinds {
        Kinds(self.0 & !(1 << kind as u8))
    }

    /// Whether both have one.
    #[must_use]
    pub const fn meets(self, other: Kinds) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether it is one of them.
    #[must_use]
    pub const fn has(self, kind: PointKind) -> bool {
        self.meets(Kinds(1 << kind as u8))
    }
}

/// A property of paths that blocks know. Paths are those of points: below their root, without slash at begin and end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token(u64);

impl Token {
    fn new(what: u8, text: &[u8]) -> Token {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&[what]).update(text);
        let hash = hasher.finalize();
        Token(hash.as_bytes().first_chunk().map_or(0, |first| u64::from_le_bytes(*first)))
    }

    /// It is this path, or below it.
    #[must_use]
    pub fn under(path: &[u8]) -> Token {
        Token::new(b'/', path)
    }

    /// One of its names, the last one or a directory's, is this one.
    #[must_use]
    pub fn name(name: &[u8]) -> Token {
        Token::new(b'n', name)
    }

    /// This follows the last dot of one of its names.
    #[must_use]
    pub fn extension(extension: &[u8]) -> Token {
        Token::new(b'.', extension)
    }

    /// Bits it sets in a filter of so many.
    fn bits(self, count: u64) -> impl Iterator<Item = u64> {
        let (start, step) = (self.0 & 0xffff_ffff, self.0 >> 32 | 1);
        (0..BITS_SET).map(move |turn| (start + turn * step) % count)
    }
}

/// Whether tokens are told of a path: not of one that is very long, nor of one that is written in no usual way, which may
/// match in unusual ways.
fn is_plain(path: &[u8]) -> bool {
    let is_usual = || path.is_empty() || path.split(|byte| *byte == b'/').all(|name| !name.is_empty());
    path.len() <= PATH_BYTES_MAX && is_usual()
}

/// Everything blocks know of a path, from the whole of it upwards; `found` says whether to go on to the directory above.
fn tokens(mut path: &[u8], found: &mut dyn FnMut(Token) -> bool) {
    while !path.is_empty() && found(Token::under(path)) {
        let (above, name) = match path.iter().rposition(|byte| *byte == b'/') {
            Some(at) => (path.get(..at).unwrap_or_default(), path.get(at + 1..).unwrap_or_default()),
            None => (<&[u8]>::default(), path),
        };
        found(Token::name(name));
        if let Some(at) = name.iter().rposition(|byte| *byte == b'.') {
            found(Token::extension(name.get(at + 1..).unwrap_or_default()));
        }
        path = above;
    }
}

/// All tokens of a path; `None` of one that is longer than 4096 bytes or not written as usual.
#[must_use]
pub fn tokens_of(path: &[u8]) -> Option<Vec<Token>> {
    if !is_plain(path) {
        return None;
    }
    let mut all = Vec::new();
    tokens(path, &mut |token| {
        all.push(token);
        true
    });
    Some(all)
}

/// A block, as its row says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PointBlock {
    /// Where it begins: where the block before it has ended, not later than at its first point.
    pub first: Lsn,
    /// Its last point. Of points between the two no other block speaks.
    pub last: Lsn,
    /// Kinds it has.
    pub kinds: Kinds,
    /// Least time it has; local points are not in the order of times.
    pub oldest: Timestamp,
    /// Greatest time.
    pub newest: Timestamp,
}

#[derive(Encode, Decode)]
struct HeadRow {
    last: (u64, u64),
    kinds: Kinds,
    oldest: Timestamp,
    newest: Timestamp,
}

fn key(part: u8, first: Lsn) -> Vec<u8> {
    [&[part], &first.to_key()[..]].concat()
}

/// Key of the row of kinds and times of the block that begins there; blocks are in the order of their keys.
#[must_use]
pub fn block_key(first: Lsn) -> Vec<u8> {
    key(HEAD, first)
}

/// Whether it is the key of a row of kinds and times.
#[must_use]
pub(crate) fn is_block_key(key: &[u8]) -> bool {
    key.first() == Some(&HEAD)
}

impl PointBlock {
    /// Of a row of kinds and times.
    ///
    /// # Errors
    /// `BadRow` if it is none.
    pub fn read((key, value): &(Vec<u8>, Vec<u8>)) -> Result<PointBlock, JournalError> {
        let bad = || JournalError::BadRow { space: Space::PointBlocks.name() };
        let first = key.split_first().filter(|(part, rest)| **part == HEAD && rest.len() == 16);
        let first = first.and_then(|(_, rest)| Lsn::from_key(rest)).ok_or_else(bad)?;
        let row: HeadRow = rows::read(Space::PointBlocks, value)?;
        let last = Lsn { captured: row.last.0, local: row.last.1 };
        if last < first {
            return Err(bad());
        }
        Ok(PointBlock { first, last, kinds: row.kinds, oldest: row.oldest, newest: row.newest })
    }

    /// What it says of paths. `None`: nothing, each may be there.
    ///
    /// # Errors
    /// As the tables.
    pub fn paths(&self, tables: &dyn Tables) -> Result<Option<PathFilter>, JournalError> {
        Ok(tables.get(Space::PointBlocks, &self.paths_key())?.map(PathFilter))
    }

    /// Key of the row of paths.
    pub(crate) fn paths_key(&self) -> Vec<u8> {
        key(PATHS, self.first)
    }

    /// Whether it denies nothing of a point that lies in it.
    pub(crate) fn knows(&self, row: &PointRow, paths: Option<&PathFilter>) -> bool {
        let has_path = |path: &Vec<u8>| {
            paths.is_none_or(|paths| tokens_of(path).is_some_and(|tokens| paths.may_have(&tokens)))
        };
        self.kinds.has(row.kind)
            && (self.oldest..=self.newest).contains(&row.time)
            && (row.kind == PointKind::Marker
                || [Some(&row.path), row.from.as_ref()].into_iter().flatten().all(has_path))
    }

    /// Removes it.
    #[must_use]
    pub fn removal(&self) -> [Put; 2] {
        [HEAD, PATHS].map(|part| (Space::PointBlocks, key(part, self.first), None))
    }
}

/// What a block says of the paths of its points.
#[derive(Clone, Debug)]
pub struct PathFilter(pub(crate) Vec<u8>);

impl PathFilter {
    fn new(tokens: &HashSet<u64>) -> PathFilter {
        let mut bytes = vec![0; (tokens.len() * BITS_PER_TOKEN).div_ceil(8)];
        let count = bytes.len() as u64 * 8;
        for token in tokens {
            for bit in Token(*token).bits(count.max(1)) {
                if let Some(byte) = bytes.get_mut((bit / 8) as usize) {
                    *byte |= 1 << (bit % 8);
                }
            }
        }
        PathFilter(bytes)
    }

    /// Whether one path may have all of these tokens.
    #[must_use]
    pub fn may_have(&self, tokens: &[Token]) -> bool {
        let count = self.0.len() as u64 * 8;
        let is_set = |bit: u64| self.0.get((bit / 8) as usize).is_some_and(|byte| byte & 1 << (bit % 8) != 0);
        tokens.iter().all(|token| token.bits(count.max(1)).all(is_set))
    }
}

/// A block under way.
#[derive(Debug)]
struct Open {
    block: PointBlock,
    points: usize,
    tokens: HashSet<u64>,
    plain: bool,
}

impl Open {
    fn new(first: Lsn) -> Open {
        let (oldest, newest) = (Timestamp(i64::MAX), Timestamp(i64::MIN));
        let block = PointBlock { first, last: first, kinds: Kinds::NONE, oldest, newest };
        Open { block, points: 0, tokens: HashSet::new(), plain: true }
    }

    fn add(&mut self, lsn: Lsn, row: &PointRow) {
        let block = &mut self.block;
        (block.last, block.kinds) = (lsn, block.kinds.with(row.kind));
        (block.oldest, block.newest) = (block.oldest.min(row.time), block.newest.max(row.time));
        self.points += 1;
        // The path of a marker is what it says.
        let paths = [Some(&row.path), row.from.as_ref()];
        for path in paths.into_iter().flatten().filter(|_| row.kind != PointKind::Marker) {
            if !is_plain(path) {
                // The block will have no filter.
                self.plain = false;
                continue;
            }
            // What is known of a directory that was met before is known of all above it.
            tokens(path, &mut |token| self.tokens.insert(token.0));
        }
    }

    fn puts(self) -> Vec<Put> {
        let PointBlock { first, last, kinds, oldest, newest } = self.block;
        let row = HeadRow { last: (last.captured, last.local), kinds, oldest, newest };
        let mut puts = vec![(Space::PointBlocks, key(HEAD, first), Some(rows::write(&row)))];
        if self.plain {
            let filter = PathFilter::new(&self.tokens);
            puts.push((Space::PointBlocks, key(PATHS, first), Some(filter.0)));
        }
        puts
    }
}

/// Makes blocks, oldest points first, each when it is full. It reads every point once; what it holds is bounded by
/// [`BLOCK_POINTS`] and by the tokens of a block.
#[derive(Debug, Default)]
pub struct Summarizer {
    /// Where to go on; `None`: behind the last block there is.
    next: Option<Lsn>,
    open: Option<Open>,
}

impl Summarizer {
    /// Reads on from where it was, not before `oldest` and up to `upto`, to which no point may be added later, until
    /// a block of so many points is full, and commits it. False: the points came to their end first.
    ///
    /// # Errors
    /// As the tables; it then begins again behind the last block.
    pub fn step(
        &mut self,
        tables: &dyn Tables,
        (oldest, upto): (Lsn, Lsn),
        points_max: usize,
    ) -> Result<bool, JournalError> {
        let Summarizer { next, mut open } = std::mem::take(self);
        let from = match next {
            Some(next) => next,
            None => behind_the_last(tables)?,
        };
        let mut next = from.max(oldest);
        for row in tables.range(Space::Points, &next.to_key(), &upto.successor().to_key()) {
            let (key, value) = row?;
            let lsn = Lsn::from_key(&key).ok_or(JournalError::BadRow { space: Space::Points.name() })?;
            let block = open.get_or_insert_with(|| Open::new(next));
            next = lsn.successor();
            block.add(lsn, &rows::read(Space::Points, &value)?);
            if block.points < points_max && block.tokens.len() < TOKENS_MAX {
                continue;
            }
            tables.commit(open.take().map(Open::puts).unwrap_or_default())?;
            *self = Summarizer { next: Some(next), open: None };
            return Ok(true);
        }
        *self = Summarizer { next: Some(next), open };
        Ok(false)
    }
}

fn behind_the_last(tables: &dyn Tables) -> Result<Lsn, JournalError> {
    let last = tables.range(Space::PointBlocks, &block_key(Lsn::ZERO), &block_key(Lsn::MAX)).next_back();
    let last = last.transpose()?.map(|row| PointBlock::read(&row)).transpose()?;
    Ok(last.map_or(Lsn::ZERO, |block| block.last.successor()))
}

#[cfg(test)]
mod tests;
