//! What a search looks for, and the bytes that can be looked for instead.
//!
//! A glob or regular expression is matched only against paths that could match: those inside the intervals that its
//! fixed beginning leaves, and of them those that hold its longest fixed text. Both come from the parsed expression,
//! never from guessing at the pattern's letters, and leave out nothing that matches. What remains is matched whole.

use super::block::{Group, Names};
use super::cursor::Select;
use super::error::CatalogError;
use super::filter::Runs;
use super::path::{Span, check};
use globset::GlobBuilder;
use memchr::memmem::Finder;
use regex_syntax::hir::{Hir, HirKind, Look};
use std::ops::Range;

/// What a path has to be.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pattern {
    /// Anything.
    All,
    /// This path; refused if it cannot be one.
    Exact(Vec<u8>),
    /// A path that begins with these bytes; with a `/` at their end, what lies below a directory.
    Prefix(Vec<u8>),
    /// A path that has these bytes somewhere.
    Substring(Vec<u8>),
    /// A glob: of the whole path if it begins with `/`, else of the path relative to the entity's root. `*` and `?`
    /// match `/` too; `?` and classes are of bytes. At most [`PATTERN_BYTES_MAX`].
    Glob(String),
    /// A regular expression that matches somewhere in the path. In one of ASCII characters alone `.` and classes are of
    /// bytes, otherwise of characters. At most [`PATTERN_BYTES_MAX`].
    Regex(String),
}

/// Longest glob or regular expression, in bytes. What reads them calls itself as deep as they are nested, and a longer
/// one could nest deeper than a thread's stack.
pub const PATTERN_BYTES_MAX: usize = 4096;

impl Pattern {
    /// What a person types: a glob if it has one of `*?[{`, else a substring.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        if text.contains(['*', '?', '[', '{']) {
            Pattern::Glob(text.to_owned())
        } else {
            Pattern::Substring(text.as_bytes().to_vec())
        }
    }
}

enum Test {
    /// The literal alone decides.
    Literal,
    Glob {
        glob: regex::bytes::Regex,
        is_relative: bool,
    },
    Regex(regex::bytes::Regex),
}

/// A pattern that paths from elsewhere can be held against, one at a time: those of a repository or a journal.
pub struct Matching {
    pattern: Pattern,
    compiled: Compiled,
}

impl Matching {
    /// Makes a pattern ready.
    ///
    /// # Errors
    /// `Input`, `Limit`: as a query with it.
    pub fn new(pattern: &Pattern) -> Result<Self, CatalogError> {
        Ok(Matching { compiled: Compiled::new(pattern)?, pattern: pattern.clone() })
    }

    /// Whether a query would find the path in an entity with this root.
    #[must_use]
    pub fn is_match(&self, root: &[u8], path: &[u8]) -> bool {
        match &self.pattern {
            Pattern::All => true,
            Pattern::Exact(wanted) => wanted == path,
            Pattern::Prefix(prefix) => path.starts_with(prefix),
            Pattern::Substring(_) => {
                self.compiled.literal.as_ref().is_none_or(|literal| literal.find(path).is_some())
            }
            Pattern::Glob(_) | Pattern::Regex(_) => {
                Matcher { compiled: &self.compiled, root, spans: Vec::new() }.is_match(path)
            }
        }
    }
}

/// A pattern, made ready once for all entities.
pub(super) struct Compiled {
    /// The interval the pattern's beginning leaves, for a whole path.
    spans: Option<Vec<Span>>,
    /// The beginning, for a relative one.
    relative_prefix: Vec<u8>,
    literal: Option<Finder<'static>>,
    /// Of all fixed texts, the literal among them.
    runs: Runs,
    test: Option<Test>,
}

impl Compiled {
    pub(super) fn new(pattern: &Pattern) -> Result<Self, CatalogError> {
        if let Pattern::Glob(text) | Pattern::Regex(text) = pattern
            && text.len() > PATTERN_BYTES_MAX
        {
            let limit = PATTERN_BYTES_MAX as u64;
            return Err(CatalogError::Limit { what: "bytes of a pattern", limit });
        }
        let mut compiled = Compiled {
            spans: Some(vec![Span::default()]),
            relative_prefix: Vec::new(),
            literal: None,
            runs: Runs::default(),
            test: None,
        };
        match pattern {
            Pattern::All => {}
            Pattern::Exact(path) => {
                check(path)?;
                compiled.spans = Some(vec![Span::exact(path)]);
            }
            // No path has a NUL, and the order of paths is none for what has one.
            Pattern::Prefix(bytes) | Pattern::Substring(bytes) if bytes.contains(&0) => {
                compiled.spans = Some(Vec::new());
            }
            Pattern::Prefix(bytes) | Pattern::Substring(bytes) if bytes.is_empty() => {}
            Pattern::Prefix(prefix) if prefix.first() != Some(&b'/') => compiled.spans = Some(Vec::new()),
            Pattern::Prefix(prefix) => compiled.spans = Some(Span::prefix(prefix)),
            Pattern::Substring(bytes) => {
                compiled.runs = Runs::of(&[bytes]);
                compiled.literal = Some(Finder::new(bytes).into_owned());
                compiled.test = Some(Test::Literal);
            }
            Pattern::Glob(text) => compiled.glob(text)?,
            Pattern::Regex(text) => compiled.regex(text)?,
        }
        Ok(compiled)
    }

    fn glob(&mut self, text: &str) -> Result<(), CatalogError> {
        let bad = |source| CatalogError::BadGlob { glob: text.to_owned(), source };
        let glob = GlobBuilder::new(text).build().map_err(bad)?;
        // Its text sets its own flags.
        let fixed = Fixed::of(glob.regex(), true);
        let is_relative = !text.starts_with('/');
        if is_relative {
            (self.relative_prefix, self.spans) = (fixed.prefix, None);
        } else {
            self.spans = Some(Span::prefix(&fixed.prefix));
        }
        self.search_for(&fixed.texts);
        // Not by the glob's own matcher, which panics where the expression is nested too deep or becomes too large.
        let mut builder = regex::bytes::RegexBuilder::new(glob.regex());
        let built = builder.dot_matches_new_line(true).build();
        let complex = |source| CatalogError::ComplexGlob { glob: text.to_owned(), source: Box::new(source) };
        self.test = Some(Test::Glob { glob: built.map_err(complex)?, is_relative });
        Ok(())
    }

    fn regex(&mut self, text: &str) -> Result<(), CatalogError> {
        let build = |unicode| {
            let mut builder = regex::bytes::RegexBuilder::new(text);
            builder.unicode(unicode).dot_matches_new_line(true).build()
        };
        // `\p{..}` is of characters, however it is written.
        let bytes = Some(text).filter(|text| text.is_ascii()).and_then(|_| build(false).ok());
        let (regex, unicode) = match bytes {
            Some(regex) => (regex, false),
            None => (
                build(true).map_err(|source| CatalogError::BadRegex {
                    regex: text.to_owned(),
                    source: Box::new(source),
                })?,
                true,
            ),
        };
        let fixed = Fixed::of(text, unicode);
        self.spans = Some(Span::prefix(&fixed.prefix));
        self.search_for(&fixed.texts);
        self.test = Some(Test::Regex(regex));
        Ok(())
    }

    /// A path must have all of these texts: the longest is looked for, blocks without the others are passed over.
    fn search_for(&mut self, texts: &[Vec<u8>]) {
        let all: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
        self.runs = Runs::of(&all);
        let longest = all.iter().max_by_key(|text| text.len());
        self.literal = longest.map(|text| Finder::new(text).into_owned());
    }

    /// Ready for the entity with that root.
    pub(super) fn for_root<'c>(&'c self, root: &'c [u8]) -> Matcher<'c> {
        let spans = self.spans.clone().unwrap_or_else(|| {
            let mut prefix = root.to_vec();
            if prefix.last() != Some(&b'/') && !self.relative_prefix.is_empty() {
                prefix.push(b'/');
            }
            prefix.extend_from_slice(&self.relative_prefix);
            Span::prefix(&prefix)
        });
        Matcher { compiled: self, root, spans }
    }
}

/// A pattern and an entity.
pub(super) struct Matcher<'c> {
    compiled: &'c Compiled,
    root: &'c [u8],
    /// Where to look, in order.
    pub spans: Vec<Span>,
}

impl Matcher<'_> {
    fn is_match(&self, path: &[u8]) -> bool {
        match &self.compiled.test {
            None | Some(Test::Literal) => true,
            Some(Test::Regex(regex)) => regex.is_match(path),
            Some(Test::Glob { glob, is_relative: false }) => glob.is_match(path),
            Some(Test::Glob { glob, is_relative: true }) => {
                relative(path, self.root).is_some_and(|path| glob.is_match(path))
            }
        }
    }
}

/// The path below the root; of the root itself it is empty.
fn relative<'p>(path: &'p [u8], root: &[u8]) -> Option<&'p [u8]> {
    let rest = path.strip_prefix(root)?;
    if rest.is_empty() || root == b"/" { Some(rest) } else { rest.strip_prefix(b"/") }
}

impl Select for Matcher<'_> {
    fn runs(&self) -> Option<&Runs> {
        Some(&self.compiled.runs).filter(|runs| !runs.is_empty())
    }

    fn select(&self, names: &Names, within: Range<u32>, rows: &mut Vec<u32>) {
        rows.clear();
        match &self.compiled.literal {
            Some(literal) => with_literal(names, literal, &within, rows),
            None => rows.extend(within),
        }
        if matches!(self.compiled.test, None | Some(Test::Literal)) {
            return;
        }
        let mut path = Vec::new();
        rows.retain(|row| {
            names.key(*row).write_to(&mut path);
            self.is_match(&path)
        });
    }
}

/// Adds the paths that hold the literal: in the directory with its slash, in the name, or from one into the other.
fn with_literal(names: &Names, literal: &Finder<'_>, within: &Range<u32>, rows: &mut Vec<u32>) {
    let needle = literal.needle();
    let slash = memchr::memrchr(b'/', needle);
    let all_of = |group: &Group, rows: &mut Vec<u32>| rows.extend(group.range());
    let mut at = 0;
    while let Some(found) = names.dirs_text().get(at..).and_then(|text| literal.find(text)) {
        let group = names.group_of_dir_byte(at + found);
        names.groups().get(group).into_iter().for_each(|group| all_of(group, rows));
        at = names.dir_end(group);
    }
    match slash {
        // A name has no slash, so what is found has its last one between the directory and the name.
        Some(slash) => {
            let (head, tail) = needle.split_at_checked(slash + 1).unwrap_or_default();
            for group in names.groups().iter().filter(|group| names.dir_slash(group).ends_with(head)) {
                rows.extend(group.range().filter(|row| names.name(*row).starts_with(tail)));
            }
        }
        None => {
            let mut at = 0;
            while let Some(found) = names.names_text().get(at..).and_then(|text| literal.find(text)) {
                let row = names.row_of_name_byte(at + found);
                rows.push(row);
                at = names.name_end(row);
            }
        }
    }
    rows.retain(|row| within.contains(row));
    rows.sort_unstable();
    rows.dedup();
}

/// What every match of an expression has.
#[derive(Debug, Default, PartialEq, Eq)]
struct Fixed {
    /// It begins with this.
    prefix: Vec<u8>,
    /// It has each of these somewhere; none if the prefix is all there is.
    texts: Vec<Vec<u8>>,
}

enum Piece {
    Start,
    Text(Vec<u8>),
    Anything,
}

impl Fixed {
    /// Read in the very way it is matched: `\xff` is a byte or a character.
    fn of(expression: &str, unicode: bool) -> Fixed {
        let mut parser = regex_syntax::ParserBuilder::new();
        parser.utf8(false).unicode(unicode);
        let Ok(hir) = parser.build().parse(expression) else { return Fixed::default() };
        let mut pieces = Vec::new();
        flatten(&hir, &mut pieces);
        let mut pieces = pieces.into_iter().peekable();
        let mut fixed = Fixed::default();
        if pieces.next_if(|piece| matches!(piece, Piece::Start)).is_some()
            && let Some(Piece::Text(text)) = pieces.next_if(|piece| matches!(piece, Piece::Text(_)))
        {
            // Up to a NUL, which no path has and the order of paths does not know.
            fixed.prefix = text.split(|byte| *byte == 0).next().unwrap_or_default().to_vec();
        }
        // A NUL would be found between two paths.
        let texts = pieces.filter_map(|piece| match piece {
            Piece::Text(text) if !text.contains(&0) => Some(text),
            _ => None,
        });
        fixed.texts = texts.collect();
        fixed
    }
}

/// What must be there, one after the other. The parser bounds how deep an expression is nested.
fn flatten(hir: &Hir, out: &mut Vec<Piece>) {
    match hir.kind() {
        HirKind::Empty => {}
        HirKind::Look(Look::Start) if out.is_empty() => out.push(Piece::Start),
        // Takes no byte, so what is before and behind it still touch.
        HirKind::Look(_) => {}
        HirKind::Literal(literal) => match out.last_mut() {
            Some(Piece::Text(text)) => text.extend_from_slice(&literal.0),
            _ => out.push(Piece::Text(literal.0.to_vec())),
        },
        HirKind::Capture(capture) => flatten(&capture.sub, out),
        HirKind::Concat(parts) => parts.iter().for_each(|part| flatten(part, out)),
        HirKind::Repetition(repetition) if repetition.min > 0 => {
            out.push(Piece::Anything);
            flatten(&repetition.sub, out);
            out.push(Piece::Anything);
        }
        HirKind::Repetition(_) | HirKind::Alternation(_) | HirKind::Class(_) => out.push(Piece::Anything),
    }
}

#[cfg(test)]
mod tests;
