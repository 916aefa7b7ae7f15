//! What is right of an archive: what was read, compared with what the catalog says there must be.
//!
//! Both lists are in the order of the stream and are walked together, a line of each in memory. A member whose content
//! the header behind it proved is right without a catalog. One that it could not prove is right if the catalog's line
//! proves it. A catalog that is cut or damaged proves what its lines prove, and that nothing is missing as far as they go.

use super::carrier::Report;
use super::catalog::{Catalog, Line, Lines, Next};
use super::label::SessionLabel;
use super::spill::Spill;
use super::writer::Totals;
use super::{LISTED_MAX, Result};
use crate::repository::Id;
use std::cmp::Ordering;
use std::io::BufRead;

/// Longest reason that is kept, in characters: a catalog says what it likes.
const REASON_CHARS_MAX: usize = 1000;

/// A member that is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damaged {
    /// Path on the master without the leading slash.
    pub path: Vec<u8>,
    /// Where its header is in the stream, or was.
    pub offset: u64,
    /// Why, for people.
    pub reason: String,
    /// Whether it was not there at all, as far as was read.
    pub is_lost: bool,
}

/// What became of the catalog.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CatalogState {
    /// It has its hash.
    Whole,
    /// It is there and damaged.
    Damaged,
    /// The stream ends without one.
    #[default]
    Absent,
}

/// What is right of an archive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// The label, from the beginning or out of the catalog.
    pub label: Option<SessionLabel>,
    /// What the catalog says the session holds.
    pub totals: Option<Totals>,
    /// The catalog itself.
    pub catalog: CatalogState,
    /// Members that are damaged, lost, or not proved.
    pub damaged_count: u64,
    /// Those among them that are lost.
    pub lost_count: u64,
    /// The first of the damaged ones.
    pub damaged: Vec<Damaged>,
    /// Members that were damaged when they were written, which the catalog says.
    pub unread_count: u64,
    /// The first of them.
    pub unread: Vec<Damaged>,
    /// Paths of objects that were not even archived, and why, as the catalog says; the first of them. [`Totals::missed`]
    /// counts them all.
    pub missed: Vec<(Vec<u8>, String)>,
    /// Places where a header was looked for and another was found further on.
    pub gaps: u64,
    /// Why the input ended, if it failed.
    pub failure: Option<String>,
}

impl Verdict {
    /// Whether all that was written was read, as it was written.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.catalog == CatalogState::Whole
            && self.label.is_some()
            && self.damaged_count == 0
            && self.gaps == 0
            && self.failure.is_none()
    }

    /// What is wrong, in a sentence without a full stop; `None` if all is right.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        let first = self.damaged.first();
        let text = match (first, &self.failure, self.catalog) {
            _ if self.is_whole() => return None,
            (Some(first), ..) => {
                let why = self.failure.as_ref().map(|failure| format!("; the archive ends early: {failure}"));
                let (path, why) = (String::from_utf8_lossy(&first.path), why.unwrap_or_default());
                format!("{path} (at {}): {}{why}", first.offset, first.reason)
            }
            (None, Some(failure), _) => format!("the archive ends early: {failure}"),
            (None, None, CatalogState::Absent) => "the archive ends without its catalog".to_owned(),
            (None, None, CatalogState::Damaged) => "the catalog is damaged".to_owned(),
            (None, None, CatalogState::Whole) => {
                "the label or a stretch between members is damaged".to_owned()
            }
        };
        Some(text)
    }

    /// Adds what is wrong with what carried the archive, behind what that did to it.
    pub(super) fn of_carrier(&mut self, report: Report) {
        self.damaged_count += report.count;
        let room = LISTED_MAX.saturating_sub(self.damaged.len());
        self.damaged.extend(report.damaged.into_iter().take(room));
    }

    fn wrong(&mut self, entry: Entry, is_lost: bool, reason: String) {
        self.lost_count += u64::from(is_lost);
        self.damaged_count += 1;
        if self.damaged.len() < LISTED_MAX {
            self.damaged.push(Damaged { path: entry.path, offset: entry.offset, reason, is_lost });
        }
    }

    /// One member as it was read, and its line in the catalog.
    fn compare(&mut self, line: Entry, seen: Entry) {
        let fits = line.path == seen.path
            && line.kind == seen.kind
            && line.size == seen.size
            && line.sha256 == seen.sha256;
        match (seen.fault, line.fault.clone()) {
            _ if !fits => self.wrong(line, false, "it is not what the catalog says".to_owned()),
            (Some(Fault::Wrong(reason)), _) => self.wrong(line, false, reason),
            (_, Some(Fault::Wrong(reason) | Fault::Unproved(reason))) => {
                self.unread_count += 1;
                if self.unread.len() < LISTED_MAX {
                    let (path, offset, is_lost) = (line.path, line.offset, false);
                    self.unread.push(Damaged { path, offset, reason, is_lost });
                }
            }
            // What the header behind could not prove, this line did.
            (Some(Fault::Unproved(_)) | None, None) => {}
        }
    }

    /// A member that was read and has no line.
    fn without_line(&mut self, seen: Entry, complete: bool) {
        match seen.fault.clone() {
            Some(Fault::Wrong(reason) | Fault::Unproved(reason)) => self.wrong(seen, false, reason),
            None if complete => self.wrong(seen, false, "the catalog does not name it".to_owned()),
            None => {}
        }
    }
}

/// A reason as it is kept: a thousand of them are.
fn told(reason: &str) -> String {
    reason.chars().take(REASON_CHARS_MAX).collect()
}

#[derive(Clone, Debug)]
enum Fault {
    Wrong(String),
    Unproved(String),
}

/// A line that is about a member.
struct Entry {
    path: Vec<u8>,
    kind: String,
    offset: u64,
    size: u64,
    sha256: Option<Id>,
    fault: Option<Fault>,
}

impl Entry {
    fn of(line: &Line<'_>) -> Option<Self> {
        let damaged = line.damaged.as_ref().map(|reason| Fault::Wrong(told(reason)));
        let unproved = line.missed.as_ref().map(|reason| Fault::Unproved(told(reason)));
        Some(Self {
            path: line.path()?,
            kind: line.kind.as_ref()?.to_string(),
            offset: line.offset?,
            size: line.size?,
            sha256: line.sha256,
            fault: damaged.or(unproved),
        })
    }
}

/// A list of members.
struct List<R> {
    lines: Option<Lines<R>>,
    label: Option<SessionLabel>,
    totals: Option<Totals>,
    missed: Vec<(Vec<u8>, String)>,
}

impl<R: BufRead> List<R> {
    fn new(input: Option<R>) -> Self {
        Self { lines: input.map(Lines::new), label: None, totals: None, missed: Vec::new() }
    }

    fn next(&mut self) -> Result<Option<Entry>> {
        while let Some(lines) = self.lines.as_mut() {
            match lines.next()? {
                Next::Line(line) => {
                    if let Some(label) = line.label {
                        self.label = SessionLabel::parse(label.get().as_bytes()).ok();
                    } else if let Some(entry) = Entry::of(&line) {
                        return Ok(Some(entry));
                    } else if let (None, Some(reason), Some(path)) = (&line.kind, &line.missed, line.path())
                        && self.missed.len() < LISTED_MAX
                    {
                        self.missed.push((path, told(reason)));
                    }
                }
                Next::End(totals, _) => {
                    self.totals = Some(totals);
                    self.lines = None;
                }
                Next::Broken => {}
                Next::Cut => self.lines = None,
            }
        }
        Ok(None)
    }
}

/// Compares what was seen with the catalog.
pub(super) fn judge(
    catalog: Option<Spill>,
    mut seen: Catalog,
    label: Option<SessionLabel>,
) -> Result<Verdict> {
    let mut verdict = Verdict::default();
    let mut catalog = catalog;
    verdict.catalog = state(catalog.as_mut())?;
    let is_whole = verdict.catalog == CatalogState::Whole;
    let mut lines = List::new(catalog.as_mut().map(Spill::reader).transpose()?);
    let mut read = List::new(Some(seen.reader()?));
    let (mut line, mut member) = (lines.next()?, read.next()?);
    loop {
        let order = match (&line, &member) {
            (None, None) => break,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(line), Some(member)) => line.offset.cmp(&member.offset),
        };
        let left = if order.is_le() { std::mem::replace(&mut line, lines.next()?) } else { None };
        let right = if order.is_ge() { std::mem::replace(&mut member, read.next()?) } else { None };
        match (left, right) {
            // Of a damaged catalog a line counts only where nothing else does.
            (Some(_), Some(member)) if !is_whole && member.fault.is_none() => {}
            (Some(line), Some(member)) => verdict.compare(line, member),
            (Some(line), None) => verdict.wrong(line, true, "it was not found in the archive".to_owned()),
            (None, Some(member)) => verdict.without_line(member, is_whole),
            (None, None) => {}
        }
    }
    verdict.label = label.or(lines.label);
    (verdict.totals, verdict.missed) = (lines.totals, lines.missed);
    Ok(verdict)
}

/// Whether a catalog has its hash: looked at before its lines are believed.
fn state(catalog: Option<&mut Spill>) -> Result<CatalogState> {
    let Some(catalog) = catalog else { return Ok(CatalogState::Absent) };
    let mut lines = Lines::new(catalog.reader()?);
    loop {
        match lines.next()? {
            Next::Line(_) => {}
            Next::End(_, true) => return Ok(CatalogState::Whole),
            Next::End(_, false) | Next::Broken | Next::Cut => return Ok(CatalogState::Damaged),
        }
    }
}
