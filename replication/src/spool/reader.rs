//! Reads the spool in order, for one connection.

use super::queue::{Entry, Found};
use super::segment::Cursor;
use super::{Spool, SpoolError};
use bytes::Bytes;
use journal::Lsn;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A part to deliver.
#[derive(Clone, Debug)]
pub struct SpooledPart {
    /// Its place; see [`Spool`]. Everything up to it is freed with `Spool::release(place + 1)`.
    pub(crate) place: u64,
    /// LSN of its capture.
    pub lsn: Lsn,
    /// Its number in the capture.
    pub number: u32,
    /// Whether it ends the capture.
    pub last: bool,
    /// The part, encoded.
    pub bytes: Bytes,
}

/// Delivery cannot go on where the replica is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResumeError {
    /// The replica does not hold what it acknowledged.
    #[error(
        "the replica had acknowledged part {acknowledged} of capture {lsn}, now it holds {found} parts of it"
    )]
    LostParts { lsn: Lsn, acknowledged: u32, found: u32 },
    /// The replica holds parts that this spool never had.
    #[error("the replica holds {found} parts of capture {lsn}, more than were captured")]
    UnknownParts { lsn: Lsn, found: u32 },
    /// The spool failed.
    #[error("the spool cannot be read")]
    Spool(#[from] SpoolError),
}

/// A position in the spool that moves on.
pub struct SpoolReader {
    spool: Arc<Spool>,
    place: u64,
    /// Captures up to here are known to the replica.
    journaled: u64,
    cursor: Option<Cursor>,
    /// Read already, not yet delivered.
    ahead: Option<SpooledPart>,
}

impl SpoolReader {
    /// Begins after the capture `journaled`, with `parts` parts of the next, as the replica has them durable.
    ///
    /// If the spool still has the next capture from its part 0 on, delivery begins there: the replica then discards
    /// what it has of it, which may be of an abandoned attempt. If earlier parts were released, they were durable
    /// there as parts of this very attempt, so the replica's count refers to it and delivery goes on at that count.
    ///
    /// # Errors
    /// If the replica does not have what it acknowledged, or has what was never captured.
    pub fn resume(spool: &Arc<Spool>, journaled: Lsn, parts: u32) -> Result<Self, ResumeError> {
        spool.acknowledge(journaled);
        let place = spool.queue.lock().released;
        let mut reader = SpoolReader {
            spool: Arc::clone(spool),
            place,
            journaled: journaled.captured,
            cursor: None,
            ahead: None,
        };
        let Some(first) = reader.find(false)? else { return Ok(reader) };
        if first.number == 0 {
            reader.ahead = Some(first);
            return Ok(reader);
        }
        if first.number > parts {
            return Err(ResumeError::LostParts {
                lsn: first.lsn,
                acknowledged: first.number - 1,
                found: parts,
            });
        }
        let (lsn, mut part) = (first.lsn, first);
        while part.number < parts {
            // The first part not known there may not be captured yet; it is then the next one to come.
            let (number, last) = (part.number, part.last);
            match reader.find(false)? {
                Some(next) if next.lsn == lsn && next.number == number + 1 => part = next,
                None if number + 1 == parts && !last => return Ok(reader),
                _ => return Err(ResumeError::UnknownParts { lsn, found: parts }),
            }
        }
        reader.ahead = Some(part);
        Ok(reader)
    }

    /// The next parts: at least one, more while they stay below `bytes_max` together. Waits up to `timeout` for the
    /// first and returns none if there is none.
    ///
    /// # Errors
    /// If the spool was closed or cannot be read.
    pub fn next_batch(
        &mut self,
        bytes_max: usize,
        timeout: Duration,
    ) -> Result<Vec<SpooledPart>, SpoolError> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        let give_up = Instant::now() + timeout;
        loop {
            let suspended = self.spool.queue.lock().suspended;
            let next = match self.ahead.take_if(|_| !suspended) {
                Some(part) => Some(part),
                None if self.ahead.is_some() => None,
                None => self.find(true)?,
            };
            match next {
                Some(part) if batch.is_empty() || bytes + part.bytes.len() <= bytes_max => {
                    bytes += part.bytes.len();
                    batch.push(part);
                }
                Some(part) => {
                    self.ahead = Some(part);
                    return Ok(batch);
                }
                None if batch.is_empty() && Instant::now() < give_up => self.wait(give_up)?,
                None => return Ok(batch),
            }
        }
    }

    fn wait(&self, give_up: Instant) -> Result<(), SpoolError> {
        let mut queue = self.spool.queue.lock();
        if queue.closed {
            return Err(SpoolError::Closed);
        }
        if queue.suspended || matches!(queue.find(self.place, true), Found::NotYet) {
            self.spool.moved.wait_until(&mut queue, give_up);
        }
        Ok(())
    }

    /// The part at the present place, or after it, that the replica does not know; `None` if there is none yet.
    /// Unless `delivering`, parts are found also while delivery is suspended.
    fn find(&mut self, delivering: bool) -> Result<Option<SpooledPart>, SpoolError> {
        loop {
            let found = self.spool.queue.lock().find(self.place, delivering);
            let entry = match found {
                Found::NotYet => return Ok(None),
                Found::Gone(to) | Found::Skip(to) => {
                    self.place = to;
                    continue;
                }
                Found::Memory(entry) => entry,
                Found::Segment(segment) => match self.read(segment) {
                    Ok(entry) => entry,
                    // Freed meanwhile, and the file with it.
                    Err(_) if self.place < self.spool.queue.lock().released => continue,
                    Err(error) => return Err(error),
                },
            };
            let place = self.place;
            self.place += 1;
            if entry.lsn > self.journaled {
                let Entry { lsn, number, last, bytes } = entry;
                return Ok(Some(SpooledPart { place, lsn: Lsn::captured(lsn), number, last, bytes }));
            }
        }
    }

    /// Reads the part at the present place from this segment.
    fn read(&mut self, segment: super::segment::Segment) -> Result<Entry, SpoolError> {
        let options = &self.spool.options;
        let mut cursor = match self.cursor.take() {
            Some(cursor) if cursor.segment == segment && cursor.place <= self.place => cursor,
            _ => Cursor::open(&*self.spool.disk, &options.directory, segment)?,
        };
        while cursor.place < self.place {
            cursor.next()?;
        }
        let entry = cursor.next()?;
        self.cursor = Some(cursor);
        Ok(entry)
    }
}
