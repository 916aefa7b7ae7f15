//! Points and the present: the redo stream, replayed into scratch tables from the newest checkpoint.

use super::{Check, key_text};
use crate::checkpoint;
use crate::error::JournalError;
use crate::id::NodeId;
use crate::journal::Ordered;
use crate::log::FileEntry;
use crate::lsn::Lsn;
use crate::state::rows::{self, NodeRow};
use crate::state::summary::{PathFilter, PointBlock, is_block_key};
use crate::state::{Transition, point_put};
use crate::tables::{Row, Space, Tables};
use std::cmp::Ordering;

/// Events taken between two commits to the scratch tables.
const BATCH_EVENTS: usize = 20_000;
/// Parents from a node upwards end at a root or a kept area; deeper than this is a cycle.
const DEPTH_MAX: usize = 1 << 20;

/// Whether a point comes before this LSN; what cannot be read is given to whoever asked.
fn is_before(row: &Result<Row, JournalError>, end: Lsn) -> bool {
    row.as_ref().map_or(true, |(key, _)| **key < end.to_key()[..])
}

/// Where a row is looked up: in the tables, or in what the segments made of them.
type Get<'g> = &'g dyn Fn(Space, &[u8]) -> Result<Option<Vec<u8>>, JournalError>;

impl Check<'_> {
    /// Compares points, and brings the scratch tables to the LSN of the tables.
    pub(super) fn captures(
        &mut self,
        scratch: &dyn Tables,
        newest: Option<&FileEntry>,
    ) -> Result<(), JournalError> {
        let journal = self.journal;
        let had = match newest {
            Some(entry) => {
                let loaded = checkpoint::load(&**journal.set().disk(), journal.directory(), entry, scratch)?;
                Lsn { captured: loaded.head.published.0, local: loaded.head.published.1 }
            }
            None => Lsn::ZERO,
        };
        let controls = journal.controls();
        let published = self.published;
        let begin = || Transition::new(scratch).with_external_known(published, &controls);
        let mut transition = begin();
        let (mut events, mut points) = (0, 0);
        let (first, after) = (journal.redo().first(), had.min(self.horizon));
        for placed in Ordered::new(journal.redo(), first, after, published, controls.dropped()) {
            let placed = placed?;
            let capture = &placed.capture;
            if let Some((space, key, value)) = point_put(capture).filter(|_| capture.lsn > self.horizon) {
                points += u64::from(self.expect(space, &key, value.as_deref().unwrap_or_default())?);
            }
            if !self.step() {
                return Ok(());
            }
            if capture.lsn <= had {
                continue;
            }
            transition.capture(capture, &placed.places, None)?;
            events += 1 + capture.events.len();
            if events > BATCH_EVENTS {
                scratch.commit(std::mem::replace(&mut transition, begin()).finish()?.puts)?;
                events = 0;
            }
        }
        scratch.commit(transition.finish()?.puts)?;
        self.count(Space::Points, points)
    }

    /// Compares blocks of points with the points: what is there must not be denied. That a block says too much, or is
    /// missing, does no harm.
    pub(super) fn blocks(&mut self) -> Result<(), JournalError> {
        let frozen = self.frozen;
        let mut points = frozen.all(Space::Points).peekable();
        let mut end = Lsn::ZERO;
        for row in frozen.all(Space::PointBlocks) {
            let row = row?;
            if !self.step() || !is_block_key(&row.0) {
                break;
            }
            let block = PointBlock::read(&row).ok().filter(|block| block.first >= end);
            let Some(block) = block else {
                let text = key_text(Space::PointBlocks, &row.0);
                self.report.differs(Space::PointBlocks, text, "it is none, or overlaps another");
                continue;
            };
            end = block.last.successor();
            let paths = frozen.get(Space::PointBlocks, &block.paths_key())?.map(PathFilter);
            let mut denied = false;
            while let Some((key, value)) = points.next_if(|row| is_before(row, end)).transpose()? {
                let is_inside = *key >= block.first.to_key()[..];
                if is_inside && let Ok(point) = rows::read(Space::Points, &value) {
                    denied |= !block.knows(&point, paths.as_ref());
                }
                if !self.step() {
                    return Ok(());
                }
            }
            if denied {
                let text = key_text(Space::PointBlocks, &row.0);
                self.report.differs(Space::PointBlocks, text, "it denies a point that is there");
            }
        }
        Ok(())
    }

    /// Compares names and nodes of the present with those of the scratch tables.
    pub(super) fn present(&mut self, scratch: &dyn Tables) -> Result<(), JournalError> {
        self.merge(Space::Names, scratch, |a, b| a == b)?;
        self.merge(Space::Nodes, scratch, same_node)
    }

    /// Walks both sides of a table together.
    fn merge(
        &mut self,
        space: Space,
        scratch: &dyn Tables,
        same: fn(&[u8], &[u8]) -> bool,
    ) -> Result<(), JournalError> {
        let frozen = self.frozen;
        let mut here = frozen.all(space);
        let mut there = scratch.range(space, &[], &[0xff; 300]);
        let (mut have, mut want) = (here.next().transpose()?, there.next().transpose()?);
        while let Some(side) = first_of(have.as_ref(), want.as_ref()) {
            if !self.step() {
                return Ok(());
            }
            if let (Ordering::Equal, Some((key, found)), Some((_, wanted))) = (side, &have, &want)
                && !same(found, wanted)
            {
                self.report.differs(space, key_text(space, key), "it is not what the segments say");
            }
            if side == Ordering::Less
                && let Some(row) = &have
                && !self.is_free_to_go(space, row, &|space, key| frozen.get(space, key))?
            {
                self.report.differs(space, key_text(space, &row.0), "no segment asks for it");
            }
            if side == Ordering::Greater
                && let Some(row) = &want
                && !self.is_free_to_go(space, row, &|space, key| scratch.get(space, key))?
            {
                self.report.differs(space, key_text(space, &row.0), "it is missing");
            }
            if side != Ordering::Greater {
                have = here.next().transpose()?;
            }
            if side != Ordering::Less {
                want = there.next().transpose()?;
            }
        }
        Ok(())
    }

    /// As [`Check::may_go`]; a row that does not decode may not.
    fn is_free_to_go(&self, space: Space, row: &Row, get: Get<'_>) -> Result<bool, JournalError> {
        match self.may_go(space, row, get) {
            Err(JournalError::BadRow { .. }) => Ok(false),
            other => other,
        }
    }

    /// Whether retention may take this row at any moment, or has: of a kept node that no promised point shows, and of
    /// what lies in one.
    fn may_go(&self, space: Space, row: &Row, get: Get<'_>) -> Result<bool, JournalError> {
        let node = match space {
            Space::Names => NodeId::from_key(&row.1),
            _ => NodeId::from_key(&row.0),
        };
        let mut at = node.ok_or(JournalError::BadRow { space: space.name() })?;
        if space == Space::Names {
            let parent = rows::edge_of_name_key(&row.0)?.parent;
            at = if parent.is_kept_area() { at } else { parent };
        }
        for _ in 0..DEPTH_MAX {
            let kept = get(Space::Nodes, &at.to_key())?;
            let kept = kept.map(|row| rows::read::<NodeRow>(Space::Nodes, &row)).transpose()?;
            let since = kept.and_then(|row| row.kept_since);
            if since.is_some_and(|(captured, local)| Lsn { captured, local } <= self.horizon) {
                return Ok(true);
            }
            let Some(link) = get(Space::Links, &at.to_key())? else { return Ok(false) };
            at = rows::parse_link_row(&link)?.0.parent;
            if at.as_root_or_kept().is_some() {
                return Ok(false);
            }
        }
        Ok(false)
    }

    /// Compares the names of nodes with the nodes at names: each name stands in exactly one row of links.
    pub(super) fn links(&mut self) -> Result<(), JournalError> {
        let frozen = self.frozen;
        let (mut names, mut links) = (0_u64, 0_u64);
        for row in frozen.all(Space::Names) {
            let (key, value) = row?;
            if !self.step() {
                return Ok(());
            }
            names += 1;
            let has_link = match self.link_of(&key, &value) {
                Err(JournalError::BadRow { .. }) => false,
                other => other?,
            };
            if !has_link {
                self.report.differs(Space::Links, key_text(Space::Names, &key), "the node does not name it");
            }
        }
        for row in frozen.all(Space::Links) {
            row?;
            if !self.step() {
                return Ok(());
            }
            links += 1;
        }
        if links > names {
            self.report.differs(Space::Links, format!("{} rows", links - names), "no name goes with them");
        }
        Ok(())
    }
}

impl Check<'_> {
    /// Whether the node at a name has that name.
    fn link_of(&self, name: &[u8], node: &[u8]) -> Result<bool, JournalError> {
        let edge = rows::edge_of_name_key(name)?;
        let node = NodeId::from_key(node).ok_or(JournalError::BadRow { space: Space::Names.name() })?;
        let own = self.frozen.get(Space::Links, &node.to_key())?;
        let own = own.map(|row| rows::parse_link_row(&row)).transpose()?;
        Ok(own.is_some_and(|own| own.0 == edge)
            || self.frozen.get(Space::Links, &rows::link_key(node, &edge))?.is_some())
    }
}

/// Which of two rows comes first by its key; `None` if there is neither.
fn first_of(have: Option<&Row>, want: Option<&Row>) -> Option<Ordering> {
    match (have, want) {
        (Some(have), Some(want)) => Some(have.0.cmp(&want.0)),
        (Some(_), None) => Some(Ordering::Less),
        (None, Some(_)) => Some(Ordering::Greater),
        (None, None) => None,
    }
}

/// Whether two rows of a node say the same, but for what only the tree and the durable cursor know.
fn same_node(found: &[u8], wanted: &[u8]) -> bool {
    let read = |row: &[u8]| {
        let row = rows::read::<NodeRow>(Space::Nodes, row).ok()?;
        Some(NodeRow { inode: 0, content_known: true, known_bytes: 0, ..row })
    };
    match (read(found), read(wanted)) {
        (Some(found), Some(wanted)) => found == wanted,
        _ => false,
    }
}
