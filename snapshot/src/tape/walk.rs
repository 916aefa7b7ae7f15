//! Follows the archive of a session as it passes, so that it can be cut anywhere.
//!
//! Where the medium ends is not ours to choose, so any block of 512 bytes may be the first of the next part. What is put
//! before it there depends on where it lies: inside the content of a member, in a header, between members, in the two
//! zero blocks at the end. So the archive is parsed before it is written: bytes are *settled* when all of the header
//! they belong to was seen, and only settled bytes go to the drive; for these [`Walker::cut`] knows the answer until
//! [`Walker::forget`] is told that they are on the medium.
//!
//! It refuses what it cannot follow: other bytes than tar, kinds of members whose length it does not know, sparse files
//! in another format than 1.0, headers without bound. Content is not looked at, but for the map that begins a sparse
//! file's: there GNU tar expects other numbers.

use super::error::TapeError;
use super::header::{self, Header, UNIT, Unit};
use std::collections::VecDeque;
use std::sync::Arc;

/// Longest extended header, in bytes: what an archive of ours may have, and a little more.
const EXTENDED_BYTES_MAX: u64 = 17 << 20;
/// Most bytes of all headers of one member.
const HEADERS_BYTES_MAX: u64 = 2 * EXTENDED_BYTES_MAX;

/// The member whose content a cut falls into, in the words of GNU tar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Open {
    /// Its name.
    pub name: Arc<[u8]>,
    /// Bytes that are left.
    pub size: u64,
    /// Bytes that were before.
    pub offset: u64,
}

/// What lies at a cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    /// Bytes up to the end of the member, padding aside; 0 between members.
    pub rest: u64,
    /// The member, if the cut falls into its content.
    pub open: Option<Open>,
}

/// A stretch of the archive.
enum Span {
    /// All headers of a member.
    Head { start: u64, end: u64, member_end: u64 },
    /// Content and padding.
    Content { start: u64, end: u64, size: u64, name: Arc<[u8]>, sparse: Option<Sparse> },
}

/// A sparse file: its size when restored, and where its map ends once that is known.
struct Sparse {
    real: u64,
    map_end: Option<u64>,
}

/// How much of a sparse map was seen.
#[derive(Default)]
struct Map {
    number: u64,
    digits: u32,
    /// Numbers still to come, once their count is known.
    left: Option<u64>,
}

impl Map {
    /// Whether the map ends in this unit; `None` if it is no map.
    fn unit(&mut self, unit: &Unit) -> Option<bool> {
        for byte in unit {
            match byte {
                b'0'..=b'9' => {
                    self.number = self.number.checked_mul(10)?.checked_add(u64::from(byte - b'0'))?;
                    self.digits += 1;
                }
                b'\n' if self.digits > 0 => {
                    let left = match self.left {
                        None => self.number.checked_mul(2)?,
                        Some(left) => left.checked_sub(1)?,
                    };
                    *self = Map { left: Some(left), ..Map::default() };
                    if left == 0 {
                        return Some(true);
                    }
                }
                _ => return None,
            }
        }
        Some(false)
    }
}

/// What extended headers say of the member behind them.
#[derive(Default)]
struct Extended {
    path: Option<Vec<u8>>,
    long_name: Option<Vec<u8>>,
    size: Option<u64>,
    sparse_name: Option<Vec<u8>>,
    sparse_real: Option<u64>,
    sparse_major: bool,
    sparse_minor: bool,
    sparse_other: bool,
}

enum State {
    /// A header comes, or the end.
    Head,
    /// Content of an extended header.
    Extended { kind: u8, size: usize, left: u64, bytes: Vec<u8> },
    /// Content of a member.
    Content { left: u64, map: Option<Map> },
    /// One zero block was seen.
    Ending,
    /// Both were.
    Ended,
}

/// Where an archive stands.
pub(super) struct Walker {
    offset: u64,
    /// Where the headers of the member began that are being read; the offset if none are.
    head: u64,
    /// An extended header was begun, and its member's own is not there yet.
    is_open: bool,
    /// One of them is of the member, not of all that follow.
    has_member_header: bool,
    state: State,
    extended: Extended,
    spans: VecDeque<Span>,
}

fn decimal(value: &[u8]) -> Option<u64> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

impl Walker {
    pub fn new() -> Self {
        let (state, extended) = (State::Head, Extended::default());
        Self {
            offset: 0,
            head: 0,
            is_open: false,
            has_member_header: false,
            state,
            extended,
            spans: VecDeque::new(),
        }
    }

    /// Bytes seen.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Bytes that may be written.
    pub fn settled(&self) -> u64 {
        self.head
    }

    /// Whether both zero blocks were seen.
    pub fn is_ended(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    fn refuse<T>(&self, what: &'static str) -> Result<T, TapeError> {
        Err(TapeError::NotAnArchive { offset: self.offset, what })
    }

    /// Takes the next block of the archive.
    pub fn unit(&mut self, unit: &Unit) -> Result<(), TapeError> {
        let next = self.offset + UNIT as u64;
        let state = std::mem::replace(&mut self.state, State::Head);
        self.state = match state {
            State::Head if header::is_zero(unit) && !self.is_open => State::Ending,
            State::Head => match header::parse(unit) {
                Some(header) => self.member(header, next)?,
                None => return self.refuse("there is no header of a member"),
            },
            State::Extended { kind, size, left, mut bytes } => {
                bytes.extend_from_slice(unit);
                match left.saturating_sub(UNIT as u64) {
                    0 => {
                        bytes.truncate(size);
                        self.extend(kind, &bytes)?;
                        self.end_global(kind, next);
                        State::Head
                    }
                    left => State::Extended { kind, size, left, bytes },
                }
            }
            State::Content { left, map } => {
                let map = self.map(map, unit, next)?;
                match left.saturating_sub(UNIT as u64) {
                    0 if map.is_some() => return self.refuse("the map of a sparse file does not end"),
                    0 => State::Head,
                    left => State::Content { left, map },
                }
            }
            State::Ending if header::is_zero(unit) => State::Ended,
            State::Ending => return self.refuse("one zero block is no end"),
            State::Ended => return self.refuse("it goes on behind its end"),
        };
        self.offset = next;
        if !self.is_open {
            self.head = next;
        } else if next - self.head > HEADERS_BYTES_MAX {
            return self.refuse("the headers of a member are too long");
        }
        Ok(())
    }

    /// Takes a header, which ended at `next`.
    fn member(&mut self, header: Header, next: u64) -> Result<State, TapeError> {
        match header.kind {
            b'x' | b'g' | b'L' | b'K' => {
                self.is_open = true;
                self.has_member_header |= header.kind != b'g';
                let size = header.size;
                if size > EXTENDED_BYTES_MAX {
                    return self.refuse("an extended header is too long");
                }
                let Some(left) = header::padded(size).filter(|left| *left > 0) else {
                    self.end_global(header.kind, next);
                    return Ok(State::Head);
                };
                Ok(State::Extended { kind: header.kind, size: size as usize, left, bytes: Vec::new() })
            }
            b'0' | 0 | b'7' => self.file(header, next),
            b'1'..=b'6' if header.size == 0 && self.extended.size.unwrap_or(0) == 0 => {
                self.extended = Extended::default();
                (self.is_open, self.has_member_header) = (false, false);
                self.spans.push_back(Span::Head { start: self.head, end: next, member_end: next });
                Ok(State::Head)
            }
            b'1'..=b'6' => self.refuse("a member that is no file has content"),
            _ => self.refuse("a member is of a kind that is not known"),
        }
    }

    /// A global header is no part of the member behind it, unless it stands among that one's own.
    fn end_global(&mut self, kind: u8, next: u64) {
        if kind == b'g' && !self.has_member_header {
            self.is_open = false;
            self.spans.push_back(Span::Head { start: self.head, end: next, member_end: next });
        }
    }

    fn file(&mut self, header: Header, next: u64) -> Result<State, TapeError> {
        let extended = std::mem::take(&mut self.extended);
        (self.is_open, self.has_member_header) = (false, false);
        let size = extended.size.unwrap_or(header.size);
        let Some((padded, end)) =
            header::padded(size).and_then(|padded| Some((padded, next.checked_add(padded)?)))
        else {
            return self.refuse("a member is longer than anything can be");
        };
        self.spans.push_back(Span::Head { start: self.head, end: next, member_end: end });
        let is_sparse = extended.sparse_major && extended.sparse_minor;
        if extended.sparse_other || extended.sparse_major != extended.sparse_minor {
            return self.refuse("a sparse file is not in the format 1.0");
        }
        if padded == 0 {
            return if is_sparse { self.refuse("a sparse file has no map") } else { Ok(State::Head) };
        }
        let name = extended.sparse_name.or(extended.path).or(extended.long_name).unwrap_or(header.name);
        let Ok(sparse) = is_sparse.then(|| extended.sparse_real.ok_or(())).transpose() else {
            return self.refuse("a sparse file does not say its size");
        };
        let sparse = sparse.map(|real| Sparse { real, map_end: None });
        let map = sparse.is_some().then(Map::default);
        self.spans.push_back(Span::Content { start: next, end, size, name: name.into(), sparse });
        Ok(State::Content { left: padded, map })
    }

    /// Takes the content of an extended header.
    fn extend(&mut self, kind: u8, bytes: &[u8]) -> Result<(), TapeError> {
        if kind == b'L' {
            self.extended.long_name = bytes.split(|byte| *byte == 0).next().map(<[u8]>::to_vec);
        }
        if kind != b'x' {
            return Ok(());
        }
        let Some(records) = header::records(bytes) else {
            return self.refuse("an extended header cannot be read");
        };
        let extended = &mut self.extended;
        let mut are_numbers = true;
        let mut number = |value: &[u8]| {
            let number = decimal(value);
            are_numbers &= number.is_some();
            number
        };
        for (key, value) in records {
            match key {
                b"path" => extended.path = Some(value.to_vec()),
                b"size" => extended.size = number(value),
                b"GNU.sparse.name" => extended.sparse_name = Some(value.to_vec()),
                b"GNU.sparse.realsize" => extended.sparse_real = number(value),
                b"GNU.sparse.major" => extended.sparse_major = value == b"1",
                b"GNU.sparse.minor" => extended.sparse_minor = value == b"0",
                b"GNU.sparse.map" | b"GNU.sparse.numblocks" | b"GNU.sparse.size" => {
                    extended.sparse_other = true;
                }
                _ => {}
            }
        }
        if are_numbers { Ok(()) } else { self.refuse("a number in an extended header cannot be read") }
    }

    /// Takes a block of the map of a sparse file, which ends at `next`, while there is one to be read.
    fn map(&mut self, map: Option<Map>, unit: &Unit, next: u64) -> Result<Option<Map>, TapeError> {
        let Some(mut map) = map else { return Ok(None) };
        match map.unit(unit) {
            None => self.refuse("the map of a sparse file cannot be read"),
            Some(false) => Ok(Some(map)),
            Some(true) => {
                if let Some(Span::Content { sparse: Some(sparse), .. }) = self.spans.back_mut() {
                    sparse.map_end = Some(next);
                }
                Ok(None)
            }
        }
    }

    /// What lies at a settled byte that was not forgotten.
    pub fn cut(&self, at: u64) -> Cut {
        let between = Cut { rest: 0, open: None };
        for span in &self.spans {
            match span {
                Span::Head { start, end, member_end } if (*start..*end).contains(&at) => {
                    return if at == *start { between } else { Cut { rest: member_end - at, open: None } };
                }
                Span::Content { start, end, size, name, sparse } if (*start..*end).contains(&at) => {
                    let rest = size.saturating_sub(at - start);
                    // GNU tar counts what is left of a sparse file from its real size, and does not count the map.
                    let (size, offset) = match sparse {
                        None => (rest, at - start),
                        Some(sparse) if sparse.map_end.is_none_or(|map_end| at <= map_end) => {
                            (sparse.real, 0)
                        }
                        Some(sparse) => (rest, sparse.real.saturating_sub(rest)),
                    };
                    return Cut { rest, open: Some(Open { name: name.clone(), size, offset }) };
                }
                _ => {}
            }
        }
        between
    }

    /// Forgets what lies before a byte: it will not be cut there.
    pub fn forget(&mut self, before: u64) {
        while let Some(Span::Head { end, .. } | Span::Content { end, .. }) = self.spans.front() {
            if *end > before {
                break;
            }
            self.spans.pop_front();
        }
    }
}
