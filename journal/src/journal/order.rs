//! Captures in the order of LSNs, read from the redo stream.
//!
//! Captured and local LSNs each ascend in the stream, but a replica that is detached mints `N.1` after `N+1` has been
//! journaled. Two readers, one that sees captured and one that sees local LSNs, are merged; each holds one capture.

use super::{Placed, redo_record};
use crate::error::JournalError;
use crate::log::{Log, LogReader, Part, RecordAt};
use crate::lsn::Lsn;
use crate::record::RedoRecord;
use std::path::PathBuf;
use std::sync::Arc;

/// Puts parts of captures together. Part 0 discards what an unfinished capture left.
#[derive(Default)]
pub(crate) struct Assembler {
    open: Option<(Placed, u32)>,
}

impl Assembler {
    /// Takes the next part; the capture if it is complete with it.
    pub(crate) fn part(
        &mut self,
        part: Part,
        at: RecordAt,
        places: Vec<crate::event::PayloadAt>,
    ) -> Option<Placed> {
        let Part { number, last, capture } = part;
        if number == 0 {
            self.open = Some((Placed { capture, at, places }, 1));
        } else {
            let (open, next) = self.open.as_mut()?;
            if open.capture.lsn != capture.lsn || *next != number {
                self.open = None;
                return None;
            }
            open.capture.events.extend(capture.events);
            open.places.extend(places);
            *next += 1;
        }
        if last { self.open.take().map(|(placed, _)| placed) } else { None }
    }
}

struct Side {
    reader: LogReader,
    local: bool,
    assembler: Assembler,
    waiting: Option<Placed>,
    over: bool,
}

/// Completed captures in the order of LSNs.
pub struct Ordered {
    directory: PathBuf,
    sides: [Side; 2],
    after: Lsn,
    upto: Lsn,
}

impl Ordered {
    pub(crate) fn new(redo: &Arc<Log>, from: RecordAt, after: Lsn, upto: Lsn) -> Self {
        let from = from.max(redo.first());
        let side = |local| Side {
            reader: redo.read(from),
            local,
            assembler: Assembler::default(),
            waiting: None,
            over: false,
        };
        Ordered { directory: redo.directory().to_path_buf(), sides: [side(false), side(true)], after, upto }
    }

    pub(crate) fn captured(redo: &Arc<Log>, from: RecordAt, after: Lsn, upto: Lsn) -> Self {
        let mut ordered = Self::new(redo, from, after, upto);
        let [_, local] = &mut ordered.sides;
        local.over = true;
        ordered
    }

    fn fill(side: &mut Side, directory: &std::path::Path, after: Lsn, upto: Lsn) -> Result<(), JournalError> {
        while side.waiting.is_none() && !side.over {
            let Some(record) = side.reader.next() else {
                side.over = true;
                break;
            };
            let record = record?;
            let wanted =
                record.lsn.is_some_and(|lsn| lsn.is_local() == side.local && lsn > after && lsn <= upto);
            if !wanted {
                continue;
            }
            if let RedoRecord::Part(part) = redo_record(directory, &record)? {
                side.waiting = side.assembler.part(part, record.at, Vec::new());
            }
        }
        Ok(())
    }
}

impl Iterator for Ordered {
    type Item = Result<Placed, JournalError>;

    fn next(&mut self) -> Option<Self::Item> {
        for side in &mut self.sides {
            if let Err(error) = Self::fill(side, &self.directory, self.after, self.upto) {
                side.over = true;
                return Some(Err(error));
            }
        }
        let [captured, local] = &mut self.sides;
        let lsn = |side: &Side| side.waiting.as_ref().map(|placed| placed.capture.lsn);
        match (lsn(captured), lsn(local)) {
            (Some(a), Some(b)) if b < a => local.waiting.take().map(Ok),
            (Some(_), _) => captured.waiting.take().map(Ok),
            (None, _) => local.waiting.take().map(Ok),
        }
    }
}
