//! Points that may fit a filter, newest first.
//!
//! Blocks of points ([`journal::state::summary`]) are passed over where they say that nothing in them fits; what no block
//! speaks of is read point by point. So this gives every point that fits and others beside: whoever asks looks at each.
//! Nothing is held but a block's row and one iterator, however long the window is.

use super::Points;
use crate::error::RestoreError;
use journal::state::PointRow;
use journal::state::rows::read;
use journal::state::summary::{Kinds, PointBlock, Token, block_key};
use journal::{JournalError, Lsn, Row, Space, Tables, Timestamp};

/// What a point must have, as far as blocks can tell.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Its kind is one of them.
    pub kinds: Kinds,
    /// Its path, or the old path of a rename, has all tokens of one of these; `None`: any path, and none at all.
    pub paths: Option<Vec<Vec<Token>>>,
    /// It is not older.
    pub since: Option<Timestamp>,
    /// It is not younger.
    pub until: Option<Timestamp>,
    /// Or it is one of these, ascending.
    pub marks: Vec<Lsn>,
}

impl Wanted {
    /// Every point.
    #[must_use]
    pub fn all() -> Wanted {
        Wanted { kinds: Kinds::ALL, paths: None, since: None, until: None, marks: Vec::new() }
    }

    /// Whether a point in `from..to`, all of which lies in this block, may fit.
    fn may_be_in(
        &self,
        block: &PointBlock,
        from: Lsn,
        to: Lsn,
        tables: &dyn Tables,
    ) -> Result<bool, JournalError> {
        let mark = self.marks.partition_point(|mark| *mark < from);
        if self.marks.get(mark).is_some_and(|mark| *mark < to) {
            return Ok(true);
        }
        let fits = block.kinds.meets(self.kinds)
            && self.since.is_none_or(|since| block.newest >= since)
            && self.until.is_none_or(|until| block.oldest <= until);
        let Some(paths) = self.paths.as_ref().filter(|_| fits) else { return Ok(fits) };
        // A path of which nothing is known may be anywhere.
        if paths.iter().any(Vec::is_empty) {
            return Ok(true);
        }
        let filter = block.paths(tables)?;
        Ok(filter.is_none_or(|filter| paths.iter().any(|tokens| filter.may_have(tokens))))
    }
}

type Rows<'t> = Box<dyn DoubleEndedIterator<Item = Result<Row, JournalError>> + 't>;

/// A search under way.
pub struct Search<'t> {
    tables: &'t dyn Tables,
    wanted: Wanted,
    /// Blocks not looked at yet, the newest last.
    blocks: Rows<'t>,
    block: Option<PointBlock>,
    /// Points to be given next, the newest last.
    rows: Option<Rows<'t>>,
    /// Everything from here on has been given or passed over; what is before `oldest` is not asked for.
    to: Lsn,
    oldest: Lsn,
}

impl<'t> Points<'t> {
    /// Points of the window that may fit, newest first; also those that are not applied yet.
    ///
    /// # Errors
    /// As the tables.
    pub fn search(&self, wanted: Wanted) -> Result<Search<'t>, RestoreError> {
        let to = match wanted.until.map(|until| self.at_time(until)) {
            // What comes behind the last captured point of that time is younger than that time, local points too.
            Some(Ok(last)) => Lsn::captured(last.lsn.captured.saturating_add(1)),
            // All captured points are younger; the window may begin with local ones that are not.
            Some(Err(RestoreError::NoSuchPoint { .. })) => {
                Lsn::captured(self.oldest.captured.saturating_add(1))
            }
            Some(Err(error)) => return Err(error),
            None => Lsn::MAX,
        };
        // A block may begin before the window.
        let blocks = self.tables.range(Space::PointBlocks, &block_key(Lsn::ZERO), &block_key(to));
        let (tables, oldest) = (self.tables, self.oldest);
        Ok(Search { tables, wanted, blocks, block: None, rows: None, to, oldest })
    }
}

impl<'t> Search<'t> {
    fn rows(&self, from: Lsn) -> Rows<'t> {
        self.tables.range(Space::Points, &from.to_key(), &self.to.to_key())
    }

    /// Passes over, or opens, what comes before `self.to`. False: nothing does.
    fn go_on(&mut self) -> Result<bool, JournalError> {
        if self.to <= self.oldest {
            return Ok(false);
        }
        let block = match self.block.take() {
            Some(block) => Some(block),
            None => self.blocks.next_back().transpose()?.map(|row| PointBlock::read(&row)).transpose()?,
        };
        let Some(block) = block.filter(|block| block.last >= self.oldest) else {
            self.rows = Some(self.rows(self.oldest));
            self.to = self.oldest;
            return Ok(true);
        };
        let behind = block.last.successor().max(self.oldest);
        if behind < self.to {
            self.rows = Some(self.rows(behind));
            (self.to, self.block) = (behind, Some(block));
            return Ok(true);
        }
        let from = block.first.max(self.oldest);
        if from < self.to && self.wanted.may_be_in(&block, from, self.to, self.tables)? {
            self.rows = Some(self.rows(from));
        }
        self.to = self.to.min(from);
        Ok(true)
    }

    fn advance(&mut self) -> Result<Option<(Lsn, PointRow)>, JournalError> {
        loop {
            if let Some((key, value)) =
                self.rows.as_mut().and_then(DoubleEndedIterator::next_back).transpose()?
            {
                let lsn = Lsn::from_key(&key).ok_or(JournalError::BadRow { space: Space::Points.name() })?;
                return Ok(Some((lsn, read(Space::Points, &value)?)));
            }
            self.rows = None;
            if !self.go_on()? {
                return Ok(None);
            }
        }
    }
}

impl Iterator for Search<'_> {
    type Item = Result<(Lsn, PointRow), RestoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.advance().map_err(RestoreError::journal("read points")).transpose()
    }
}
