//! The order of paths, and intervals in it.
//!
//! A path is a directory and a name. Paths are ordered by directory first, then by name; directories are compared
//! byte by byte with `/` below every other byte, names plainly. So the entries of one directory lie side by side (a
//! listing reads them and nothing else), a whole subtree is one interval, and a walk that lists a directory and then
//! descends into its subdirectories in the order of their names yields paths in order.
//!
//! Paths have no NUL byte, which gives every key a successor: `name NUL` lies between a name and the next one.

use super::error::CatalogError;
use std::cmp::Ordering;

/// Longest path, in bytes.
pub const PATH_BYTES_MAX: usize = 65_535;

/// A path taken apart: `dir`, `/`, `name`. The root is the empty name in the empty directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key<'a> {
    pub dir: &'a [u8],
    pub name: &'a [u8],
}

/// A [`Key`] that owns its bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct KeyBuf {
    pub dir: Vec<u8>,
    pub name: Vec<u8>,
}

impl KeyBuf {
    pub(super) fn as_key(&self) -> Key<'_> {
        Key { dir: &self.dir, name: &self.name }
    }
}

impl Key<'_> {
    pub(super) fn to_buf(self) -> KeyBuf {
        KeyBuf { dir: self.dir.to_vec(), name: self.name.to_vec() }
    }

    /// Writes the whole path over `out`.
    pub(super) fn write_to(self, out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(self.dir);
        out.push(b'/');
        out.extend_from_slice(self.name);
    }
}

impl Ord for Key<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        compare_dirs(self.dir, other.dir).then_with(|| self.name.cmp(other.name))
    }
}

impl PartialOrd for Key<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Takes a path apart at its last slash. A path without one is a name in the root.
pub(super) fn split(path: &[u8]) -> Key<'_> {
    let at = memchr::memrchr(b'/', path);
    let dir = at.and_then(|at| path.get(..at)).unwrap_or_default();
    let name = path.get(at.map_or(0, |at| at + 1)..).unwrap_or_default();
    Key { dir, name }
}

/// Takes apart a path that is to be an entry.
pub(super) fn check(path: &[u8]) -> Result<Key<'_>, CatalogError> {
    let bad = |what| {
        let head = path.get(..path.len().min(256)).unwrap_or_default();
        CatalogError::BadPath { path: head.to_vec(), what }
    };
    if path.len() > PATH_BYTES_MAX {
        return Err(bad("is longer than 65,535 bytes"));
    }
    if path.first() != Some(&b'/') {
        return Err(bad("does not begin with a slash"));
    }
    if path.len() > 1 && path.last() == Some(&b'/') {
        return Err(bad("ends in a slash"));
    }
    let mut slashes = memchr::memchr_iter(b'/', path);
    let mut last = slashes.next();
    if slashes.any(|at| last.replace(at).is_some_and(|last| last + 1 == at)) {
        return Err(bad("has an empty component"));
    }
    if memchr::memchr(0, path).is_some() {
        return Err(bad("has a NUL byte"));
    }
    Ok(split(path))
}

/// Where `/` is the least byte there is.
fn rank(byte: u8) -> u8 {
    if byte == b'/' { 0 } else { byte }
}

pub(super) fn compare_dirs(a: &[u8], b: &[u8]) -> Ordering {
    // Most comparisons are of neighbours in one directory.
    if a == b {
        return Ordering::Equal;
    }
    let same = common(a, b);
    match (a.get(same), b.get(same)) {
        (Some(x), Some(y)) => rank(*x).cmp(&rank(*y)),
        _ => a.len().cmp(&b.len()),
    }
}

/// How many bytes both begin with. Directories of one tree share dozens, so eight at a time.
fn common(a: &[u8], b: &[u8]) -> usize {
    let mut same = 0;
    for (x, y) in a.as_chunks::<8>().0.iter().zip(b.as_chunks::<8>().0) {
        let differ = u64::from_le_bytes(*x) ^ u64::from_le_bytes(*y);
        if differ != 0 {
            return same + (differ.trailing_zeros() / 8) as usize;
        }
        same += 8;
    }
    let rest = a.iter().zip(b).skip(same);
    same + rest.take_while(|(x, y)| x == y).count()
}

/// The order in which a sorted load must come, and in which results come: by directory, then by name. A directory's
/// entries are followed by those of its subdirectories, one after the other.
#[must_use]
pub fn path_order(a: &[u8], b: &[u8]) -> Ordering {
    split(a).cmp(&split(b))
}

/// An interval of paths: from `low` on, up to but without `high`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    pub low: KeyBuf,
    /// `None`: to the end.
    pub high: Option<KeyBuf>,
}

impl Span {
    pub(super) fn new(low: (&[u8], &[u8]), high: Option<(Vec<u8>, Vec<u8>)>) -> Self {
        let low = KeyBuf { dir: low.0.to_vec(), name: low.1.to_vec() };
        Span { low, high: high.map(|(dir, name)| KeyBuf { dir, name }) }
    }

    /// One path.
    pub(super) fn exact(path: &[u8]) -> Self {
        let key = split(path);
        Span::new((key.dir, key.name), Some((key.dir.to_vec(), with(key.name, 0))))
    }

    /// The entries of a directory.
    pub(super) fn children(dir: &[u8]) -> Self {
        Span::new((dir, b""), Some((with(dir, b'/'), Vec::new())))
    }

    /// All paths that begin with `prefix`, in order: names in its directory, then directories that begin with it.
    pub(super) fn prefix(prefix: &[u8]) -> Vec<Self> {
        let key = split(prefix);
        if prefix.is_empty() {
            return vec![Span::default()];
        }
        let names_end = match successor(key.name, |byte| byte) {
            Some(name) => (key.dir.to_vec(), name),
            None => (with(key.dir, b'/'), Vec::new()),
        };
        let names = Span::new((key.dir, key.name), Some(names_end));
        if key.name.is_empty() {
            // "/srv/": the entries of /srv, and all directories below it.
            let below = with(key.dir, b'/');
            let end = successor(&below, rank).map(|dir| (dir, Vec::new()));
            return vec![names, Span::new((&below, b""), end)];
        }
        let end = successor(prefix, rank).map(|dir| (dir, Vec::new()));
        vec![names, Span::new((prefix, b""), end)]
    }

    pub(super) fn is_empty(&self) -> bool {
        self.high.as_ref().is_some_and(|high| high.as_key() <= self.low.as_key())
    }

    /// What both have.
    pub(super) fn and(&self, other: &Span) -> Span {
        let low = if self.low.as_key() >= other.low.as_key() { &self.low } else { &other.low };
        let high = match (&self.high, &other.high) {
            (Some(a), Some(b)) => Some(if a.as_key() <= b.as_key() { a } else { b }),
            (a, b) => a.as_ref().or(b.as_ref()),
        };
        Span { low: low.clone(), high: high.cloned() }
    }

    /// The least interval that has both.
    pub(super) fn hull(&self, other: &Span) -> Span {
        let low = if self.low.as_key() <= other.low.as_key() { &self.low } else { &other.low };
        let high = self.high.as_ref().zip(other.high.as_ref());
        let high = high.map(|(a, b)| if a.as_key() >= b.as_key() { a } else { b });
        Span { low: low.clone(), high: high.cloned() }
    }

    /// Whether `key` lies before the end.
    pub(super) fn is_before_end(&self, key: Key<'_>) -> bool {
        self.high.as_ref().is_none_or(|high| key < high.as_key())
    }
}

fn with(bytes: &[u8], last: u8) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + 1);
    out.extend_from_slice(bytes);
    out.push(last);
    out
}

/// The least string above all that begin with `prefix`, in the order that `rank` gives; `None` if there is none.
fn successor(prefix: &[u8], rank: fn(u8) -> u8) -> Option<Vec<u8>> {
    let mut out = prefix.to_vec();
    while let Some(last) = out.pop() {
        let next = (1..=u8::MAX).filter(|byte| rank(*byte) > rank(last)).min_by_key(|byte| rank(*byte));
        if let Some(next) = next {
            out.push(next);
            return Some(out);
        }
    }
    None
}

#[cfg(test)]
mod tests;
