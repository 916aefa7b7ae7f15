//! Rows of history against the undo stream, points against the redo stream.

use super::{Check, key_text};
use crate::error::JournalError;
use crate::journal::undo_record;
use crate::log::{RecordAt, StoredRecord};
use crate::lsn::Lsn;
use crate::record::{KIND_UNDO, UndoPart, UndoRecord};
use crate::state::rows;
use crate::state::{Replaced, history_puts};
use crate::tables::Space;
use std::collections::BTreeMap;

/// Tables that the undo stream makes.
const OF_UNDO: [Space; 4] = [Space::NameUndo, Space::NodeUndo, Space::DataUndo, Space::Changes];

impl Check<'_> {
    /// Compares all that the undo stream says with the tables, both ways.
    pub(super) fn history(&mut self) -> Result<(), JournalError> {
        let again = self.written_again()?;
        let mut counts = [0_u64; OF_UNDO.len()];
        let mut open: Vec<UndoPart> = Vec::new();
        let mut begin = RecordAt::default();
        for record in self.undo_records() {
            let record = record?;
            let UndoRecord::Undo(part) = undo_record(self.journal.directory(), &record)? else { continue };
            // As catching up does: an unfinished capture was never published.
            if open.first().is_some_and(|first| first.lsn != part.lsn) {
                open.clear();
            }
            if open.is_empty() {
                begin = record.at;
            }
            let (last, lsn) = (part.last, part.lsn);
            open.push(part);
            if !last {
                continue;
            }
            let parts = std::mem::take(&mut open);
            let counts_not = again.get(&lsn).is_some_and(|latest| begin < *latest);
            if lsn > self.horizon && lsn <= self.published && !counts_not {
                self.replaced(lsn, parts, &mut counts)?;
            }
            if self.stopped {
                return Ok(());
            }
        }
        for (space, count) in OF_UNDO.into_iter().zip(counts) {
            self.count(space, count)?;
        }
        Ok(())
    }

    /// Whether thinned segments still have what the points need that stay.
    pub(super) fn thinned(&mut self) -> Result<(), JournalError> {
        for info in self.journal.undo().segments().iter().filter(|info| info.is_thinned) {
            // Of what retention drops meanwhile nothing is promised.
            let enough = self.journal.is_enough_left(info.number);
            let dropped = info.number < self.journal.undo().first().segment;
            if !dropped && !enough? {
                let key = format!("segment {}", info.number);
                self.report.differs(
                    Space::DataUndo,
                    key,
                    "a point that is kept needs bytes that were thinned out",
                );
            }
            if !self.step() {
                break;
            }
        }
        Ok(())
    }

    /// Records of the undo stream. Undo of what was not published when the tables were looked at says nothing about
    /// them; that of what was is not written again.
    fn undo_records(&self) -> impl Iterator<Item = Result<StoredRecord, JournalError>> + use<> {
        let undo = self.journal.undo();
        let end = undo.end();
        undo.read(undo.first())
            .take_while(move |record| record.as_ref().map_or(true, |record| record.at < end))
    }

    /// Captures whose undo was written again after it could not be published, with where the undo that counts begins.
    /// At most a batch for each failure.
    fn written_again(&self) -> Result<BTreeMap<Lsn, RecordAt>, JournalError> {
        let (mut again, mut before, mut greatest) = (BTreeMap::new(), Lsn::ZERO, Lsn::ZERO);
        for record in self.undo_records() {
            let record = record?;
            let Some(lsn) = record.lsn.filter(|_| record.kind == KIND_UNDO) else { continue };
            if lsn != before && lsn <= greatest {
                again.insert(lsn, record.at);
            }
            (before, greatest) = (lsn, greatest.max(lsn));
        }
        Ok(again)
    }

    fn replaced(
        &mut self,
        lsn: Lsn,
        parts: Vec<UndoPart>,
        counts: &mut [u64; OF_UNDO.len()],
    ) -> Result<(), JournalError> {
        let mut replaced = Replaced::default();
        let mut data = Vec::new();
        for part in parts {
            replaced.names.extend(part.names);
            replaced.nodes.extend(part.nodes);
            data.extend(part.data);
        }
        for (space, key, value) in history_puts(lsn, &replaced, &data) {
            if !self.step() {
                break;
            }
            let there = self.expect(space, &key, value.as_deref().unwrap_or_default())?;
            let index = OF_UNDO.iter().position(|one| *one == space);
            if let Some(count) = index.and_then(|index| counts.get_mut(index)).filter(|_| there) {
                *count += 1;
            }
        }
        Ok(())
    }

    /// Whether the tables hold no other promised rows than those that were found there.
    pub(super) fn count(&mut self, space: Space, expected: u64) -> Result<(), JournalError> {
        let mut found = 0;
        for row in self.frozen.all(space) {
            let (key, _) = row?;
            if !self.step() {
                return Ok(());
            }
            match lsn_of(space, &key) {
                None => self.report.differs(space, key_text(space, &key), "its key is none"),
                Some(lsn) if lsn > self.published => {
                    self.report.differs(space, key_text(space, &key), "its LSN is not applied");
                }
                Some(lsn) => found += u64::from(lsn > self.horizon),
            }
        }
        if found > expected {
            let text = format!("{} rows", found - expected);
            self.report.differs(space, text, "no segment asks for them");
        }
        Ok(())
    }
}

/// The LSN a row of history belongs to.
fn lsn_of(space: Space, key: &[u8]) -> Option<Lsn> {
    match space {
        Space::NameUndo => rows::parse_name_undo_key(key).ok().map(|(_, lsn)| lsn),
        Space::DataUndo => rows::parse_data_undo_key(key).ok().map(|(_, _, lsn, _)| lsn),
        Space::NodeUndo => Lsn::from_key(key.get(8..)?),
        Space::Changes | Space::Points => Lsn::from_key(key.get(..16)?),
        _ => None,
    }
}
