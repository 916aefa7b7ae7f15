//! Which part may come next: pure, so that every rule can be tried by itself.

use journal::{Lsn, Part, Provenance, RootNo, Timestamp};

/// What to do with a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is the next one.
    Take,
    /// It is known already.
    Duplicate,
}

/// A part that may not come now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OrderError {
    /// A capture is missing.
    #[error("capture {found} came where {expected} was due")]
    Gap { expected: Lsn, found: Lsn },
    /// A part of a capture is missing or comes twice.
    #[error("part {found} of capture {lsn} came where part {expected} was due")]
    Part { lsn: Lsn, expected: u32, found: u32 },
    /// The parts of a capture differ in what they have in common.
    #[error("part {number} of capture {lsn} differs from its first part in time, provenance or root")]
    Header { lsn: Lsn, number: u32 },
    /// Time runs backwards.
    #[error("capture {lsn} is older than the one before it")]
    Time { lsn: Lsn },
}

/// What the parts of a capture have in common.
type Header = (Timestamp, Provenance, RootNo);

/// The order of parts, as far as it has come.
#[derive(Clone, Debug)]
pub struct Order {
    /// The last whole capture.
    complete: Lsn,
    /// Its time.
    time: Timestamp,
    /// Parts taken of the capture after it.
    parts: u32,
    /// Their header; `None` if they came over an earlier connection.
    header: Option<Header>,
}

impl Order {
    /// Begins after the capture `complete` of this time and `parts` parts of the next.
    #[must_use]
    pub const fn new(complete: Lsn, time: Timestamp, parts: u32) -> Self {
        Order { complete, time, parts, header: None }
    }

    /// Decides on a part, and counts it if it is taken.
    ///
    /// # Errors
    /// If it is neither the next part nor known.
    pub fn admit(&mut self, part: &Part) -> Result<Admission, OrderError> {
        let (lsn, capture) = (part.capture.lsn, &part.capture);
        if lsn <= self.complete {
            return Ok(Admission::Duplicate);
        }
        let expected = Lsn::captured(self.complete.captured.saturating_add(1));
        if lsn != expected {
            return Err(OrderError::Gap { expected, found: lsn });
        }
        if part.number != 0 && part.number != self.parts {
            return Err(OrderError::Part { lsn, expected: self.parts, found: part.number });
        }
        let header = (capture.time, capture.provenance, capture.root);
        if part.number != 0 && self.header.is_some_and(|first| first != header) {
            return Err(OrderError::Header { lsn, number: part.number });
        }
        if capture.time < self.time {
            return Err(OrderError::Time { lsn });
        }
        if part.last {
            (self.complete, self.time, self.parts, self.header) = (lsn, capture.time, 0, None);
        } else {
            (self.parts, self.header) = (part.number.saturating_add(1), Some(header));
        }
        Ok(Admission::Take)
    }
}
