//! The namespace as of the last capture, for a master that rebuilds its index.
//!
//! A walk from the first root to the last, each directory before what it holds, through a view, so that it is one
//! moment's tree whatever is applied meanwhile. The walk is kept between pages: a page asks for where the page before
//! ended, and for nothing else.
//!
//! The last capture need not be applied: a detached replica applies none, and one that has halted may not for long.
//! The walk then goes over the last one applied, with what the rest of the redo does to it on top ([`super::ahead`]).
//! A first synchronization has no undo, so there the walk waits for apply.

use super::ahead::{AHEAD_BYTES_MAX, Ahead, TooMuch};
use super::{LeasedView, Replica};
use bytes::Bytes;
use journal::controls::Synchronized;
use journal::{Edge, JournalError, Lsn, Name, NodeId, RootNo, SkippedWhat, TreeIo};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};
use wire::stream::{Failed, NamespaceEntry, NamespacePage, SkippedName};

/// Entries of one page, and about how many bytes.
const PAGE_ENTRIES: usize = 2000;
const PAGE_BYTES: usize = 768 << 10;
/// A file that a first synchronization sent in more than one capture may be there in part.
const WHOLE_BYTES_MAX: u64 = 64 << 10;
/// Names that could not be kept on one page.
const PAGE_SKIPPED: usize = 100;
/// Directories below each other; more are a cycle.
const DEPTH_MAX: usize = 1 << 16;
/// How long a page may wait for apply.
const APPLY_WAIT: Duration = Duration::from_secs(590);
/// How often it is looked whether apply may still get there.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A directory under way.
struct Open {
    dir: NodeId,
    /// What is left of its page.
    page: std::vec::IntoIter<(Name, NodeId)>,
    /// The last name of it; `None`: there is nothing behind it.
    last: Option<Name>,
}

struct Walk<T: TreeIo> {
    view: LeasedView<T>,
    /// What is not applied.
    ahead: Ahead,
    at: Lsn,
    /// Whether a first synchronization was interrupted.
    partial: bool,
    /// Whether the first synchronization has completed.
    synchronized: bool,
    roots: Vec<RootNo>,
    /// Directories under way.
    stack: Vec<Open>,
    /// What could not be kept, to be said behind the last entries.
    skipped: Vec<SkippedName>,
    page: u64,
}

/// Gives the namespace of a replica in pages.
pub struct Namespace<T: TreeIo> {
    replica: Arc<Replica<T>>,
    roots: u16,
    walk: Mutex<Option<Walk<T>>>,
}

fn internal(error: &JournalError) -> Failed {
    failed("RW0472", error.to_string())
}

fn failed(code: &str, text: impl Into<String>) -> Failed {
    Failed { code: code.to_owned(), text: text.into() }
}

impl<T: TreeIo> Namespace<T> {
    /// For a replica with so many roots.
    #[must_use]
    pub fn new(replica: Arc<Replica<T>>, roots: u16) -> Self {
        Namespace { replica, roots, walk: Mutex::new(None) }
    }

    /// The page after the one that gave `after` as its `next`; the first one for an empty place.
    ///
    /// # Errors
    /// If the replica does not apply in time, or has too much to apply to say what it comes to, or is asked for a page
    /// that is not the next.
    pub fn page(&self, after: &[u8]) -> Result<NamespacePage, Failed> {
        let mut walk = self.walk.lock();
        if after.is_empty() {
            *walk = Some(self.begin()?);
        }
        let Some(under_way) = walk.as_mut() else { return Err(failed("RW0468", "no walk is under way")) };
        if !after.is_empty() && after != under_way.page.to_be_bytes() {
            return Err(failed("RW0468", "that is not the next page"));
        }
        let entries = under_way.entries().map_err(|error| internal(&error))?;
        let skipped = if under_way.stack.is_empty() && under_way.roots.is_empty() {
            under_way.skipped.split_off(under_way.skipped.len().saturating_sub(PAGE_SKIPPED))
        } else {
            Vec::new()
        };
        under_way.page += 1;
        let (at, synchronized) = (under_way.at, under_way.synchronized);
        let next = (!under_way.is_over()).then(|| Bytes::copy_from_slice(&under_way.page.to_be_bytes()));
        if next.is_none() {
            *walk = None;
        }
        Ok(NamespacePage { entries, next, at, skipped, synchronized })
    }

    fn begin(&self) -> Result<Walk<T>, Failed> {
        let journal = self.replica.journal();
        let at = journal.journaled();
        let (view, ahead) = if self.wait_applied(at)? {
            (self.replica.view_unchecked(at), Ahead::default())
        } else {
            let applied = Lsn::captured(journal.applied().captured);
            let view = self.replica.view(applied).map_err(|error| internal(&error))?;
            match Ahead::read(&self.replica, &view, at).map_err(|error| internal(&error))? {
                Ok(ahead) => (view, ahead),
                Err(TooMuch) => {
                    let text = format!(
                        "more has changed than fits into {} MiB while the replica applies nothing; resume the \
                         scenario first",
                        AHEAD_BYTES_MAX >> 20
                    );
                    return Err(failed("RW0465", text));
                }
            }
        };
        let partial = journal.synchronized() == Synchronized::First;
        let synchronized = journal.with_controls(|controls| controls.first_point != 0);
        let mut roots: Vec<RootNo> = (0..self.roots).map(RootNo).collect();
        roots.reverse();
        let skipped = journal.with_controls(|controls| {
            let name = |((root, path), (what, errno)): (&(RootNo, Vec<u8>), &(SkippedWhat, i32))| {
                SkippedName { root: *root, path: path.clone(), what: *what, errno: *errno }
            };
            controls.skipped.iter().map(name).collect()
        });
        Ok(Walk { view, ahead, at, partial, synchronized, roots, stack: Vec::new(), skipped, page: 0 })
    }

    /// Waits until the tree shows a capture. Whether it does; if not, nothing captured is applied for now, and what
    /// is not applied has to be put on top of what is.
    fn wait_applied(&self, at: Lsn) -> Result<bool, Failed> {
        let journal = self.replica.journal();
        let give_up = Instant::now() + APPLY_WAIT;
        loop {
            let status = self.replica.status();
            let has_undo = matches!(journal.synchronized(), Synchronized::Completed | Synchronized::Again);
            if has_undo && (status.detached.is_some() || status.halt.is_some()) {
                // Even if nothing waits to be applied, the tree may show something local.
                return Ok(false);
            }
            if journal.wait_applied(at, LOOK_EVERY) {
                return Ok(true);
            }
            if self.replica.is_stopping() || Instant::now() > give_up {
                return Err(failed("RW0469", "the replica has not applied what it journaled in time"));
            }
        }
    }
}

impl<T: TreeIo> Walk<T> {
    fn is_over(&self) -> bool {
        self.stack.is_empty() && self.roots.is_empty() && self.skipped.is_empty()
    }

    fn entries(&mut self) -> Result<Vec<NamespaceEntry>, JournalError> {
        let mut entries = Vec::new();
        let mut bytes = 0;
        while entries.len() < PAGE_ENTRIES && bytes < PAGE_BYTES {
            let Some(open) = self.stack.last_mut() else {
                let Some(root) = self.roots.pop() else { break };
                let node = NodeId::root(root);
                entries.extend(self.entry(node, None)?);
                self.open(node)?;
                continue;
            };
            let dir = open.dir;
            let Some((name, node)) = open.page.next() else {
                let last = open.last.take();
                self.stack.pop();
                if let Some(last) = last {
                    self.go_on(dir, Some(&last))?;
                }
                continue;
            };
            let Some(entry) = self.entry(node, Some(Edge::new(dir, name)))? else { continue };
            let xattrs: usize = entry.meta.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
            bytes += 200 + xattrs;
            let directory = entry.meta.kind.is_directory();
            entries.push(entry);
            if directory {
                self.open(node)?;
            }
        }
        Ok(entries)
    }

    /// Puts a directory on the stack: what is new in it, over the rest.
    fn open(&mut self, dir: NodeId) -> Result<(), JournalError> {
        if self.stack.len() >= DEPTH_MAX {
            return Err(JournalError::Inconsistent { lsn: self.at, what: "directories form a cycle" });
        }
        self.go_on(dir, None)?;
        let new = self.ahead.entries(dir);
        if !new.is_empty() {
            self.stack.push(Open { dir, page: new.into_iter(), last: None });
        }
        Ok(())
    }

    /// Puts what the view has of a directory behind a name on the stack.
    fn go_on(&mut self, dir: NodeId, after: Option<&Name>) -> Result<(), JournalError> {
        let mut page = self.view.list_page(dir, after)?;
        if let Some((last, _)) = page.last() {
            let last = Some(last.clone());
            page.retain(|(name, _)| self.ahead.name(dir, name).is_none());
            self.stack.push(Open { dir, page: page.into_iter(), last });
        }
        Ok(())
    }

    fn entry(&self, node: NodeId, at: Option<Edge>) -> Result<Option<NamespaceEntry>, JournalError> {
        let meta = match self.ahead.meta(node) {
            Some(meta) => meta.clone(),
            None => match self.view.meta(node)? {
                Some(meta) => meta,
                None => return Ok(None),
            },
        };
        let at = at.map(|edge| (edge.parent, edge.name));
        if let Some(origin) = self.ahead.origin(node) {
            return Ok(Some(NamespaceEntry { node, at, meta, origin, content_known: true }));
        }
        let row = self.view.row(node)?;
        let whole = !self.partial || meta.size <= WHOLE_BYTES_MAX;
        let content_known = row.as_ref().is_none_or(|row| row.content_known) && whole;
        let origin = row.and_then(|row| row.origin);
        Ok(Some(NamespaceEntry { node, at, meta, origin, content_known }))
    }
}
