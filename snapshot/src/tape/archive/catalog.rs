//! The catalog at the end of a session: a line of JSON for each member, in the order of the stream.
//!
//! The first line repeats the label, so that a session whose beginning is lost still says what it is; the last counts, and
//! holds the SHA-256 of all lines before it. Lines are read one by one and prove what they can: a content that has the hash of
//! its line is right, whatever happened to other lines.

use super::label::LABEL_BYTES_MAX;
use super::member::{Member, kind_word};
use super::reader::Proof;
use super::spill::Spill;
use super::writer::Totals;
use super::{ArchiveError, Result};
use crate::repository::walk::PATH_BYTES_MAX;
use crate::repository::{Id, base64};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::io::{BufRead, Read};
use std::path::Path;

const VERSION: u32 = 1;
/// Longest line, in bytes.
pub(super) const LINE_BYTES_MAX: u64 = LABEL_BYTES_MAX + 4096;

/// A line; which fields are there says what it is.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Line<'a> {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub label: Option<&'a RawValue>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub path: Option<Cow<'a, str>>,
    /// Where the path is not UTF-8.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub path_base64: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Id>,
    /// Why the content is not what it should be.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub damaged: Option<Cow<'a, str>>,
    /// Why the object is not in the archive.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub missed: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<Totals>,
}

impl<'a> Line<'a> {
    /// The path, if the line has one that is not longer than any can be.
    pub fn path(&self) -> Option<Vec<u8>> {
        let path = match (&self.path, &self.path_base64) {
            (Some(text), None) => text.as_bytes().to_vec(),
            (None, Some(text)) => base64::decode(text)?.to_vec(),
            _ => return None,
        };
        (path.len() <= PATH_BYTES_MAX).then_some(path)
    }

    fn with_path(mut self, path: &'a [u8]) -> Self {
        match std::str::from_utf8(path) {
            Ok(text) => self.path = Some(text.into()),
            Err(_) => self.path_base64 = Some(base64::encoded(path).into()),
        }
        self
    }
}

/// A catalog under way.
pub(super) struct Catalog {
    spill: Spill,
    hash: Sha256,
    /// The line at hand.
    text: Vec<u8>,
}

impl Catalog {
    /// Begins with the label.
    pub fn new(directory: &Path, label: &[u8]) -> Result<Self> {
        let mut catalog = Self { spill: Spill::new(directory)?, hash: Sha256::new(), text: Vec::new() };
        let label: &RawValue = serde_json::from_slice(label).map_err(json)?;
        catalog.add(&Line { version: Some(VERSION), label: Some(label), ..Line::default() })?;
        Ok(catalog)
    }

    /// A list without a label.
    pub fn bare(directory: &Path) -> Result<Self> {
        Ok(Self { spill: Spill::new(directory)?, hash: Sha256::new(), text: Vec::new() })
    }

    /// A member that was read, and what is known of it.
    pub fn seen(&mut self, member: &Member, sha256: Option<Id>, proof: &Proof) -> Result<()> {
        let (damaged, missed) = match proof {
            Proof::Right | Proof::Unread => (None, None),
            Proof::Wrong(reason) => (Some(reason.as_str()), None),
            Proof::Unknown => (None, Some("nothing is left that proves its content")),
        };
        let mut line = Self::line(member, sha256, damaged);
        line.missed = missed.map(Cow::Borrowed);
        self.add(&line)
    }

    /// What was added, from the beginning.
    pub fn reader(&mut self) -> Result<impl BufRead + use<>> {
        self.spill.reader()
    }

    fn line<'a>(member: &'a Member, sha256: Option<Id>, damaged: Option<&'a str>) -> Line<'a> {
        let line = Line {
            kind: kind_word(&member.node, member.kind).map(Cow::Borrowed),
            offset: Some(member.offset),
            size: Some(member.node.size),
            sha256,
            damaged: damaged.map(Cow::Borrowed),
            ..Line::default()
        };
        line.with_path(&member.path)
    }

    fn add(&mut self, line: &Line<'_>) -> Result<()> {
        self.text.clear();
        serde_json::to_writer(&mut self.text, line).map_err(json)?;
        self.text.push(b'\n');
        self.hash.update(&self.text);
        self.spill.add(&self.text)?;
        Ok(())
    }

    /// A member that was written.
    pub fn member(&mut self, member: &Member, sha256: Option<Id>, damaged: Option<&str>) -> Result<()> {
        self.add(&Self::line(member, sha256, damaged))
    }

    /// An object that is not in the archive.
    pub fn missed(&mut self, path: &[u8], reason: &str) -> Result<()> {
        let line = Line { missed: Some(reason.into()), ..Line::default() };
        self.add(&line.with_path(path))
    }

    /// The whole text: its length, and the text.
    pub fn finish(&mut self, totals: Totals) -> Result<(u64, impl Read + use<>)> {
        let hash = Id(self.hash.clone().finalize().into());
        self.add(&Line { end: Some(totals), sha256: Some(hash), ..Line::default() })?;
        Ok((self.spill.bytes(), self.spill.reader()?))
    }
}

fn json(source: serde_json::Error) -> ArchiveError {
    ArchiveError::Json { object: "a line of the catalog", source }
}

/// Reads a catalog line by line.
pub(super) struct Lines<R> {
    input: R,
    hash: Sha256,
    line: Vec<u8>,
}

/// What a catalog has next.
pub(super) enum Next<'a> {
    Line(Box<Line<'a>>),
    /// The last line, and whether the catalog has the hash that it says.
    End(Totals, bool),
    /// A line that is none.
    Broken,
    /// It breaks off.
    Cut,
}

impl<R: BufRead> Lines<R> {
    pub fn new(input: R) -> Self {
        Self { input, hash: Sha256::new(), line: Vec::new() }
    }

    /// The next line.
    pub fn next(&mut self) -> Result<Next<'_>> {
        self.line.clear();
        let mut limited = (&mut self.input).take(LINE_BYTES_MAX);
        limited.read_until(b'\n', &mut self.line).map_err(ArchiveError::scratch("read"))?;
        if self.line.is_empty() {
            return Ok(Next::Cut);
        }
        let before = self.hash.clone();
        self.hash.update(&self.line);
        let Ok(line) = serde_json::from_slice::<Line<'_>>(&self.line) else { return Ok(Next::Broken) };
        match line.end {
            Some(totals) => Ok(Next::End(totals, line.sha256 == Some(Id(before.finalize().into())))),
            None => Ok(Next::Line(Box::new(line))),
        }
    }
}
