//! Finding headers in bytes that anybody may have written.
//!
//! A header counts if it proves itself, says the session that was found first, and stands behind the one before. Where the
//! next one should be and is not, the search goes on block by block until one is. Bytes that were lost on the way move
//! nothing: each header says where it stands.

use super::member::{Head, Short};
use super::ustar::{Block, Ustar};
use super::{BLOCK_BYTES, RECORDS_BYTES_MAX, padding};
use std::io::{ErrorKind, Read};

/// Longest extended header that is looked at where no header was expected: each block there could claim to be one.
const SEARCHED_BYTES_MAX: u64 = 64 << 10;
const PIECE_BYTES: usize = 64 << 10;

/// Bytes with a place, which can be put back.
pub(super) struct Input<R> {
    pub inner: R,
    /// Bytes that were put back, the next one last.
    back: Vec<u8>,
    pub at: u64,
    /// Bytes that were there: what is missing moves `at` and not this.
    pub passed: u64,
    pub failure: Option<String>,
}

pub(super) trait Bytes {
    /// Reads some bytes; 0 at the end, and after a failure.
    fn some(&mut self, room: &mut [u8]) -> usize;
}

impl<R: Read> Bytes for Input<R> {
    fn some(&mut self, room: &mut [u8]) -> usize {
        if !self.back.is_empty() {
            let count = room.len().min(self.back.len());
            let from = self.back.split_off(self.back.len() - count);
            room.iter_mut().zip(from.iter().rev()).for_each(|(to, from)| *to = *from);
            self.forward(count);
            return count;
        }
        while self.failure.is_none() {
            match self.inner.read(room) {
                Ok(count) => {
                    let count = count.min(room.len());
                    self.forward(count);
                    return count;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => self.failure = Some(crate::repository::chain(&error)),
            }
        }
        0
    }
}

impl<R> Input<R> {
    fn forward(&mut self, count: usize) {
        self.at = self.at.saturating_add(count as u64);
        self.passed = self.passed.saturating_add(count as u64);
    }
}

impl<R: Read> Input<R> {
    fn new(inner: R) -> Self {
        Self { inner, back: Vec::new(), at: 0, passed: 0, failure: None }
    }

    /// Fills the room as far as there are bytes.
    pub fn fill(&mut self, room: &mut [u8]) -> usize {
        let mut done = 0;
        while let Some(rest) = room.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.some(rest) {
                0 => break,
                count => done += count,
            }
        }
        done
    }

    /// So many bytes, or as many as there are; memory follows what is there.
    pub fn take(&mut self, count: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < count {
            let piece = (count - bytes.len() as u64).min(PIECE_BYTES as u64) as usize;
            let start = bytes.len();
            bytes.resize(start + piece, 0);
            let read = self.fill(bytes.get_mut(start..).unwrap_or_default());
            if read < piece {
                bytes.truncate(start + read);
                break;
            }
        }
        bytes
    }

    fn put_back(&mut self, bytes: &[u8]) {
        self.back.extend(bytes.iter().rev());
        self.at = self.at.saturating_sub(bytes.len() as u64);
        self.passed = self.passed.saturating_sub(bytes.len() as u64);
    }
}

/// Finds one header after the other.
pub(super) struct Scanner<R> {
    pub input: Input<R>,
    /// Which session they are of, once one was found.
    pub session: Option<Short>,
    last: Option<u64>,
    /// Places where a header was looked for and another was found further on.
    pub gaps: u64,
}

impl<R> Scanner<R> {
    /// The same place in the same bytes, read through something else.
    pub fn map<S>(self, through: impl FnOnce(R) -> S) -> Scanner<S> {
        let Input { inner, back, at, passed, failure } = self.input;
        let input = Input { inner: through(inner), back, at, passed, failure };
        Scanner { input, session: self.session, last: self.last, gaps: self.gaps }
    }
}

impl<R: Read> Scanner<R> {
    pub fn new(inner: R) -> Self {
        Self { input: Input::new(inner), session: None, last: None, gaps: 0 }
    }

    /// The next header, and whether it stands where the one before ended.
    pub fn next(&mut self) -> Option<(Head, bool)> {
        let mut adjacent = true;
        loop {
            let at = self.input.at;
            let mut block = [0; BLOCK_BYTES];
            if self.input.fill(&mut block) < BLOCK_BYTES {
                return None;
            }
            if let Some(head) = self.head(&block, adjacent) {
                let stated = head.member.offset;
                if stated != at {
                    // Bytes are missing before it; what follows is where it says.
                    let length = self.input.at.saturating_sub(at);
                    self.input.at = stated.saturating_add(length);
                    adjacent = false;
                }
                self.session = Some(head.session);
                self.last = Some(stated);
                self.gaps += u64::from(!adjacent);
                return Some((head, adjacent));
            }
            adjacent = false;
        }
    }

    /// The header that begins with a block; if it is none, only the block was read.
    fn head(&mut self, block: &Block, expected: bool) -> Option<Head> {
        let extended = Ustar::decode(block)?;
        let limit = if expected { RECORDS_BYTES_MAX } else { SEARCHED_BYTES_MAX };
        let behind = match extended.typeflag {
            b'x' => BLOCK_BYTES as u64,
            b'g' => 0,
            _ => return None,
        };
        if extended.size > limit {
            return None;
        }
        let padded = extended.size + padding(extended.size) as u64;
        let bytes = self.input.take(padded + behind);
        let head = decode(extended.typeflag, &bytes, (extended.size, padded)).filter(|head| {
            self.session.is_none_or(|session| session == head.session)
                && self.last.is_none_or(|last| last < head.member.offset)
        });
        if head.is_none() {
            self.input.put_back(&bytes);
        }
        head
    }
}

/// Takes a header apart: its records, and the block behind them.
fn decode(typeflag: u8, bytes: &[u8], (size, padded): (u64, u64)) -> Option<Head> {
    let records = bytes.get(..usize::try_from(size).ok()?)?;
    if typeflag == b'g' {
        return Head::decode_hidden(records);
    }
    Head::decode(records, bytes.get(usize::try_from(padded).ok()?..)?.try_into().ok()?)
}
