//! The members of a carrier, one behind the other, with what is known of each.
//!
//! A piece is handed out when the header behind it was read, which proves it. Pieces are numbered, so that one that is gone
//! is missed. What is wrong is noted by name, for the verdict, and reading goes on where that makes sense.

use super::super::member::{Before, Head, Member, Role, Short};
use super::super::scan::Scanner;
use super::super::verdict::Damaged;
use super::super::{BLOCK_BYTES, LISTED_MAX, Result, padding};
use super::{CarrierLabel, PIECE_BYTES_MAX};
use crate::repository::Id;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::io::Read;
use std::sync::Arc;

const VERSION: u32 = 1;
/// Longest end, in bytes.
const END_BYTES_MAX: u64 = 64 << 10;

/// What the end of a carrier says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct End {
    version: u32,
    /// How many pieces there are.
    pieces: u64,
    /// Bytes in them.
    bytes: u64,
    /// Hash of those.
    sha256: Id,
}

impl End {
    pub fn new((pieces, bytes): (u64, u64), sha256: Id) -> Self {
        Self { version: VERSION, pieces, bytes, sha256 }
    }
}

/// What was found to be wrong with a carrier.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Report {
    /// The first members that are damaged.
    pub damaged: Vec<Damaged>,
    /// How many are.
    pub count: u64,
    /// Whether its end was read.
    pub has_end: bool,
    /// The piece that was decrypted last, with its place; empty before the first.
    pub last: String,
}

impl Report {
    /// Whether nothing is wrong so far.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub fn note(&mut self, path: String, offset: u64, reason: &str) {
        self.count += 1;
        if self.damaged.len() < LISTED_MAX {
            let (path, reason, is_lost) = (path.into_bytes(), reason.to_owned(), false);
            self.damaged.push(Damaged { path, offset, reason, is_lost });
        }
    }
}

/// A report that two sides write.
pub(super) type Shared = Arc<Mutex<Report>>;

/// A piece.
pub(super) struct Piece {
    pub member: Member,
    pub content: Vec<u8>,
    /// Whether it is what was written, or nobody can say that it is not.
    pub is_right: bool,
    /// How many pieces before it are gone.
    pub lost: u64,
    /// Bytes of the carrier that were passed over since the piece before.
    pub passed: u64,
}

impl Piece {
    pub fn name(&self) -> String {
        String::from_utf8_lossy(&self.member.path).into_owned()
    }
}

/// Reads the members of a carrier.
pub(in super::super) struct Pieces<R> {
    scan: Scanner<R>,
    label: Option<CarrierLabel>,
    report: Shared,
    /// The header that is taken next, if it was read already.
    first: Option<(Head, bool)>,
    /// The piece that waits for its proof.
    held: Option<(Piece, Id)>,
    /// Number of the next piece.
    number: u64,
    /// Where the last one ended, in bytes that were there.
    end: u64,
    all: Sha256,
    bytes: u64,
    /// How many pieces the end says were behind the last one.
    lost_behind: u64,
    is_done: bool,
}

impl<R: Read> Pieces<R> {
    /// Goes on behind the carrier's label, whose bytes these are, or with a header that was read already.
    ///
    /// # Errors
    /// `Version`, `Encoding` of the label; damage is noted.
    pub fn begin(scan: Scanner<R>, first: Option<(Head, bool)>, label: Option<&[u8]>) -> Result<Self> {
        use super::super::ArchiveError;
        let mut report = Report::default();
        let session = scan.session.unwrap_or_default();
        let label = match label.map(CarrierLabel::parse) {
            Some(Ok(label)) if label.short() == session => Some(label),
            Some(Err(error @ (ArchiveError::Version { .. } | ArchiveError::Encoding { .. }))) => {
                return Err(error);
            }
            _ => {
                let path = format!(".rewind/{}/label.json", String::from_utf8_lossy(&session));
                report.note(path, 0, "it is damaged or missing");
                None
            }
        };
        let end = scan.input.passed;
        let report = Arc::new(Mutex::new(report));
        let (held, number, all) = (None, 1, Sha256::new());
        Ok(Self {
            scan,
            label,
            report,
            first,
            held,
            number,
            end,
            all,
            bytes: 0,
            lost_behind: 0,
            is_done: false,
        })
    }

    /// Which session it says it is of.
    pub fn session(&self) -> Option<Short> {
        self.scan.session
    }

    pub fn label(&self) -> Option<&CarrierLabel> {
        self.label.as_ref()
    }

    pub(super) fn report(&self) -> Shared {
        Arc::clone(&self.report)
    }

    /// How many pieces are gone behind the last one, as the end says.
    pub(super) fn lost_behind(&self) -> u64 {
        self.lost_behind
    }

    /// How the input failed, if it did.
    pub(super) fn failure(&self) -> Option<String> {
        self.scan.input.failure.clone()
    }

    /// The next piece; `None` behind the last.
    pub(super) fn next(&mut self) -> Option<Piece> {
        while !self.is_done {
            let next = self.first.take().or_else(|| self.scan.next());
            let held = self.settle(next.as_ref());
            match next {
                None => self.is_done = true,
                Some((head, _)) => match head.role {
                    Role::Data => self.take(head.member),
                    Role::End => self.take_end(&head.member),
                    // Not of a carrier: passed over block by block.
                    Role::Label | Role::Object | Role::Catalog => {}
                },
            }
            if held.is_some() {
                return held;
            }
        }
        None
    }

    /// What the header behind a piece says of it.
    fn settle(&mut self, next: Option<&(Head, bool)>) -> Option<Piece> {
        let (piece, hash) = self.held.take()?;
        let stated = next.filter(|(_, adjacent)| *adjacent).map(|(head, _)| head.before);
        let is_right = piece.is_right && !matches!(stated, Some(before) if before != Before::Content(hash));
        if !is_right {
            self.note(&piece.member, "it is not what was written");
        }
        Some(Piece { is_right, ..piece })
    }

    fn note(&self, member: &Member, reason: &str) {
        let path = String::from_utf8_lossy(&member.path).into_owned();
        self.report.lock().note(path, member.offset, reason);
    }

    fn take(&mut self, member: Member) {
        let number = member.path.rsplit(|byte| *byte == b'-').next();
        let number: Option<u64> = number.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
        let Some(number) = number.filter(|number| *number >= self.number) else {
            return self.note(&member, "it is not the piece that comes next");
        };
        if member.stored > PIECE_BYTES_MAX as u64 {
            return self.note(&member, "it is longer than any piece");
        }
        let lost = number - self.number;
        self.note_lost(lost);
        // What stands between the piece before and this one's header.
        let passed = self.scan.input.passed.saturating_sub(self.end);
        let content = self.scan.input.take(member.stored);
        self.scan.input.take(padding(member.stored) as u64);
        let is_right = content.len() as u64 == member.stored;
        self.end = self.scan.input.passed;
        self.number = number.saturating_add(1);
        self.bytes = self.bytes.saturating_add(content.len() as u64);
        self.all.update(&content);
        let hash = Id::of(&content);
        self.held = Some((Piece { member, content, is_right, lost, passed }, hash));
    }

    /// Notes that so many pieces are not where the next one should be.
    fn note_lost(&self, lost: u64) {
        if lost == 0 {
            return;
        }
        let session = self.scan.session.unwrap_or_default();
        let path = format!(".rewind/{}/data-{:08}", String::from_utf8_lossy(&session), self.number);
        let reason = match lost {
            1 => "it is damaged or missing".to_owned(),
            lost => format!("{lost} pieces from there are damaged or missing"),
        };
        self.report.lock().note(path, self.scan.input.at, &reason);
    }

    fn take_end(&mut self, member: &Member) {
        self.is_done = true;
        let text = self.scan.input.take(member.stored.min(END_BYTES_MAX));
        let end: Option<End> = serde_json::from_slice(&text).ok();
        let sha256 = Id(std::mem::take(&mut self.all).finalize().into());
        let own = End::new((self.number - 1, self.bytes), sha256);
        self.scan.input.take(padding(member.stored) as u64);
        let size = 2 * BLOCK_BYTES;
        let zeros = self.scan.input.take(size as u64);
        self.report.lock().has_end = true;
        self.lost_behind = end.as_ref().map_or(0, |end| end.pieces.saturating_sub(own.pieces));
        self.note_lost(self.lost_behind);
        // To the byte: what reads the same is not what was written.
        if serde_json::to_vec(&own).ok() != Some(text) {
            return self.note(member, "it does not fit the pieces before it");
        }
        if zeros.len() != size || zeros.iter().any(|byte| *byte != 0) {
            self.note(member, "behind it there is not the end of an archive");
        }
    }

    /// Notes that the end is missing, if it is.
    pub(super) fn close(report: &Shared, session: Option<Short>) -> Report {
        let mut report = report.lock();
        if !report.has_end {
            let session = session.unwrap_or_default();
            let path = format!(".rewind/{}/end.json", String::from_utf8_lossy(&session));
            report.note(path, 0, "it is damaged or missing");
            report.has_end = true;
        }
        report.clone()
    }
}
