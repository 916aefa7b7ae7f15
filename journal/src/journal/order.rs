//! Captures in the order of LSNs, read from the redo stream.
//!
//! Captured and local LSNs each ascend in the stream, but a replica that is detached mints `N.1` after `N+1` has been
//! journaled. Two readers, one that sees captured and one that sees local LSNs, are merged; each holds one capture.
//!
//! Local captures that were given up ([`crate::record::Control::LocalsDropped`]) do not count, and are left out here so
//! that no reader can take them: neither tables that catch up, nor recovery, nor a rebuild. What is left rises
//! strictly. An LSN that does not is damage: two changes under one name could not be told apart, and taking both, or
//! the wrong one, would change bytes whose undo belongs to the other.

use super::{Placed, redo_record};
use crate::controls::{Dropped, is_dropped};
use crate::error::JournalError;
use crate::log::{Log, LogReader, Part, RecordAt, Stream};
use crate::lsn::Lsn;
use crate::record::RedoRecord;
use std::path::{Path, PathBuf};
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
    wanted: Wanted,
    /// The LSN given last.
    last: Lsn,
}

/// Which captures are wanted.
struct Wanted {
    after: Lsn,
    upto: Lsn,
    dropped: Vec<Dropped>,
}

impl Wanted {
    fn includes(&self, lsn: Lsn) -> bool {
        lsn > self.after && lsn <= self.upto && !is_dropped(&self.dropped, lsn)
    }
}

impl Ordered {
    /// `dropped`: the local captures that do not count, as the whole stream says.
    pub(crate) fn new(redo: &Arc<Log>, from: RecordAt, after: Lsn, upto: Lsn, dropped: &[Dropped]) -> Self {
        let from = from.max(redo.first());
        let side = |local| Side {
            reader: redo.read(from),
            local,
            assembler: Assembler::default(),
            waiting: None,
            over: false,
        };
        Ordered {
            directory: redo.directory().to_path_buf(),
            sides: [side(false), side(true)],
            wanted: Wanted { after, upto, dropped: dropped.to_vec() },
            last: after,
        }
    }

    pub(crate) fn captured(redo: &Arc<Log>, from: RecordAt, after: Lsn, upto: Lsn) -> Self {
        let mut ordered = Self::new(redo, from, after, upto, &[]);
        let [_, local] = &mut ordered.sides;
        local.over = true;
        ordered
    }

    fn fill(side: &mut Side, directory: &Path, wanted: &Wanted) -> Result<(), JournalError> {
        while side.waiting.is_none() && !side.over {
            let Some(record) = side.reader.next() else {
                side.over = true;
                break;
            };
            let record = record?;
            if !record.lsn.is_some_and(|lsn| lsn.is_local() == side.local && wanted.includes(lsn)) {
                continue;
            }
            if let RedoRecord::Part(part) = redo_record(directory, &record)? {
                side.waiting = side.assembler.part(part, record.at, Vec::new());
            }
        }
        Ok(())
    }

    /// Lets a capture out if its LSN rises.
    fn rising(&mut self, placed: Placed) -> Result<Placed, JournalError> {
        let lsn = placed.capture.lsn;
        if lsn <= self.last {
            for side in &mut self.sides {
                side.over = true;
                side.waiting = None;
            }
            return Err(JournalError::Damaged {
                path: self.directory.join(Stream::Redo.file_name(placed.at.segment)),
                offset: placed.at.offset,
                what: "an LSN that was there before comes again",
            });
        }
        self.last = lsn;
        Ok(placed)
    }
}

impl Iterator for Ordered {
    type Item = Result<Placed, JournalError>;

    fn next(&mut self) -> Option<Self::Item> {
        for side in &mut self.sides {
            if let Err(error) = Self::fill(side, &self.directory, &self.wanted) {
                side.over = true;
                return Some(Err(error));
            }
        }
        let [captured, local] = &mut self.sides;
        let lsn = |side: &Side| side.waiting.as_ref().map(|placed| placed.capture.lsn);
        let next = match (lsn(captured), lsn(local)) {
            (Some(a), Some(b)) if b < a => local.waiting.take(),
            (Some(_), _) => captured.waiting.take(),
            (None, _) => local.waiting.take(),
        };
        next.map(|placed| self.rising(placed))
    }
}
