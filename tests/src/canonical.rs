//! One comparable form for trees, whether they stand on a disk, in memory or in a model.
//!
//! What belongs to equality is in it and nothing else: no inode numbers, no change times, no holes. Files with several
//! names carry the least of their names, so that two trees are equal when the same names share a file.

use journal::{Attributes, Kind, RootNo, Timestamp, TreeFile, TreeIo, TreeStat, Xattrs};
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;

/// A node as it is seen at one of its paths.
#[derive(Clone, PartialEq, Eq)]
pub struct CanonicalNode {
    /// What it is.
    pub kind: Kind,
    /// Length in bytes of a regular file, else 0.
    pub size: u64,
    /// The bytes of a regular file.
    pub content: Arc<Vec<u8>>,
    /// Mode, owner and modification time; the change time is always 0.
    pub attributes: Attributes,
    /// All of them, sorted.
    pub xattrs: Xattrs,
    /// The least path of this very node.
    pub first_name: Vec<u8>,
}

/// A tree by paths relative to its root, which is the empty path.
pub type Canonical = BTreeMap<Vec<u8>, CanonicalNode>;

impl std::fmt::Debug for CanonicalNode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let a = &self.attributes;
        write!(f, "{:?} {:o} {}:{} mtime {}", self.kind, a.mode, a.uid, a.gid, a.mtime.0)?;
        write!(f, " first name {:?}", String::from_utf8_lossy(&self.first_name))?;
        for (name, value) in &self.xattrs {
            write!(f, " {}={value:02x?}", String::from_utf8_lossy(name))?;
        }
        if self.kind.is_file() {
            write!(f, " {} bytes, hash {}", self.size, &blake3::hash(&self.content).to_hex()[..8])?;
        }
        Ok(())
    }
}

/// `parent/name`, or `name` at the root.
#[must_use]
pub fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    if parent.is_empty() { name.to_vec() } else { [parent, b"/", name].concat() }
}

/// Attributes as they are compared: without change time, and a link's mode is nobody's choice.
#[must_use]
pub fn comparable(attributes: Attributes, kind: &Kind) -> Attributes {
    let mode = if matches!(kind, Kind::Symlink(_)) { 0o777 } else { attributes.mode };
    Attributes { mode, ctime: Timestamp(0), ..attributes }
}

/// Reads a whole root.
///
/// # Errors
/// What the tree says.
pub fn dump<T: TreeIo>(tree: &T, root: RootNo) -> io::Result<Canonical> {
    dump_dir(tree, &tree.root(root)?)
}

/// Reads all that is in a kept area; the area itself, the empty path, has no comparable attributes.
///
/// # Errors
/// What the tree says.
pub fn dump_kept<T: TreeIo>(tree: &T, root: RootNo) -> io::Result<Canonical> {
    let mut found = dump_dir(tree, &tree.kept(root)?)?;
    found.remove(b"".as_slice());
    Ok(found)
}

fn dump_dir<T: TreeIo>(tree: &T, top: &T::Dir) -> io::Result<Canonical> {
    let mut found = Canonical::new();
    let mut numbers = HashMap::new();
    let stat = tree.stat_dir(top)?;
    let mut root = node(&stat, Vec::new(), Vec::new());
    root.xattrs = tree.dir_xattrs(top)?;
    found.insert(Vec::new(), root);
    let mut rest = vec![(Vec::new(), top.clone())];
    while let Some((path, dir)) = rest.pop() {
        for name in tree.list(&dir)? {
            let path = join(&path, name.as_bytes());
            let Some(stat) = tree.stat(&dir, &name)? else { continue };
            let content = match stat.kind {
                Kind::File => read(&tree.open_file(&dir, &name, false)?, stat.size)?,
                Kind::Directory => {
                    rest.push((path.clone(), tree.open_dir(&dir, &name)?));
                    Vec::new()
                }
                _ => Vec::new(),
            };
            numbers.insert(path.clone(), stat.inode);
            let mut node = node(&stat, content, path.clone());
            node.xattrs = tree.xattrs(&dir, &name, &stat.kind)?;
            found.insert(path, node);
        }
    }
    group(&mut found, |path| numbers.get(path).copied());
    Ok(found)
}

/// Gives all paths of one object the least of them as first name. `object` says which object stands at a path.
pub fn group<K: std::hash::Hash + Eq>(tree: &mut Canonical, object: impl Fn(&[u8]) -> Option<K>) {
    let mut first = HashMap::new();
    for (path, node) in tree {
        if let Some(key) = object(path) {
            node.first_name.clone_from(first.entry(key).or_insert_with(|| path.clone()));
        }
    }
}

fn node(stat: &TreeStat, content: Vec<u8>, path: Vec<u8>) -> CanonicalNode {
    CanonicalNode {
        kind: stat.kind.clone(),
        size: stat.size,
        content: Arc::new(content),
        attributes: comparable(stat.attributes, &stat.kind),
        xattrs: Xattrs::new(),
        first_name: path,
    }
}

fn read(file: &impl TreeFile, size: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(size).map_err(io::Error::other)?];
    let length = file.read_at(&mut bytes, 0)?;
    bytes.truncate(length);
    Ok(bytes)
}

/// What differs, in words, at most `limit` lines; empty if the trees are equal.
#[must_use]
pub fn differences(expected: &Canonical, found: &Canonical, limit: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut paths: Vec<&Vec<u8>> = expected.keys().chain(found.keys()).collect();
    paths.sort();
    paths.dedup();
    for path in paths {
        let name = String::from_utf8_lossy(path);
        match (expected.get(path), found.get(path)) {
            (Some(a), Some(b)) if a == b => {}
            (Some(a), Some(b)) => {
                lines.push(format!(
                    "{name:?}: expected {a:?}\n{}found {b:?}{}",
                    " ".repeat(8),
                    first_byte(a, b)
                ));
            }
            (Some(a), None) => lines.push(format!("{name:?}: missing, expected {a:?}")),
            (None, Some(b)) => lines.push(format!("{name:?}: not expected, found {b:?}")),
            (None, None) => {}
        }
        if lines.len() == limit {
            break;
        }
    }
    lines
}

fn first_byte(a: &CanonicalNode, b: &CanonicalNode) -> String {
    match a.content.iter().zip(b.content.iter()).position(|(x, y)| x != y) {
        Some(at) => format!("\n{}first byte that differs: {at}", " ".repeat(8)),
        None => String::new(),
    }
}

/// Panics with the differences unless the trees are equal.
///
/// # Panics
/// If they differ.
pub fn assert_equal(expected: &Canonical, found: &Canonical, context: &str) {
    let lines = differences(expected, found, 12);
    assert!(lines.is_empty(), "{context}: the trees differ\n{}", lines.join("\n"));
}
