//! The namespace as of the last capture, for a master that rebuilds its index.
//!
//! A walk from the first root to the last, each directory before what it holds, through a view, so that it is one
//! moment's tree whatever is applied meanwhile. The walk is kept between pages: a page asks for where the page before
//! ended, and for nothing else.

use super::{LeasedView, Replica};
use bytes::Bytes;
use journal::controls::Synchronized;
use journal::{Edge, JournalError, Lsn, Name, NodeId, RootNo, TreeIo};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use wire::stream::{Failed, NamespaceEntry, NamespacePage};

/// Entries of one page, and about how many bytes.
const PAGE_ENTRIES: usize = 2000;
const PAGE_BYTES: usize = 768 << 10;
/// A file that a first synchronization sent in more than one capture may be there in part.
const WHOLE_BYTES_MAX: u64 = 64 << 10;
/// How long a page may wait for apply.
const APPLY_WAIT: Duration = Duration::from_secs(590);

/// A directory, what is left of its page, the last name of it.
type Open = (NodeId, std::vec::IntoIter<(Name, NodeId)>, Option<Name>);

struct Walk<T: TreeIo> {
    view: LeasedView<T>,
    at: Lsn,
    /// Whether a first synchronization was interrupted.
    partial: bool,
    roots: Vec<RootNo>,
    /// Directories under way.
    stack: Vec<Open>,
    page: u64,
}

/// Gives the namespace of a replica in pages.
pub struct Namespace<T: TreeIo> {
    replica: Arc<Replica<T>>,
    roots: u16,
    walk: Mutex<Option<Walk<T>>>,
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
    /// If the replica is detached, does not apply in time, or is asked for a page that is not the next.
    pub fn page(&self, after: &[u8]) -> Result<NamespacePage, Failed> {
        let mut walk = self.walk.lock();
        if after.is_empty() {
            *walk = Some(self.begin()?);
        }
        let Some(under_way) = walk.as_mut() else { return Err(failed("RW0468", "no walk is under way")) };
        if !after.is_empty() && after != under_way.page.to_be_bytes() {
            return Err(failed("RW0468", "that is not the next page"));
        }
        let entries = under_way.entries().map_err(|error| failed("RW0472", error.to_string()))?;
        under_way.page += 1;
        let at = under_way.at;
        let next = (!under_way.is_over()).then(|| Bytes::copy_from_slice(&under_way.page.to_be_bytes()));
        if next.is_none() {
            *walk = None;
        }
        Ok(NamespacePage { entries, next, at })
    }

    fn begin(&self) -> Result<Walk<T>, Failed> {
        let journal = self.replica.journal();
        let at = journal.journaled();
        if self.replica.status().detached.is_some() {
            return Err(failed("RW0465", "the replica is detached; resume the scenario first"));
        }
        if !journal.wait_applied(at, APPLY_WAIT) {
            return Err(failed("RW0469", "the replica has not applied what it journaled in time"));
        }
        let partial = journal.synchronized() == Synchronized::First;
        let view = self.replica.view_unchecked(at);
        let mut roots: Vec<RootNo> = (0..self.roots).map(RootNo).collect();
        roots.reverse();
        Ok(Walk { view, at, partial, roots, stack: Vec::new(), page: 0 })
    }
}

impl<T: TreeIo> Walk<T> {
    fn is_over(&self) -> bool {
        self.stack.is_empty() && self.roots.is_empty()
    }

    fn entries(&mut self) -> Result<Vec<NamespaceEntry>, JournalError> {
        let mut entries = Vec::new();
        let mut bytes = 0;
        while entries.len() < PAGE_ENTRIES && bytes < PAGE_BYTES {
            let Some((dir, page, last)) = self.stack.last_mut() else {
                let Some(root) = self.roots.pop() else { break };
                let node = NodeId::root(root);
                entries.extend(self.entry(node, None)?);
                self.open(node, None)?;
                continue;
            };
            let dir = *dir;
            let Some((name, node)) = page.next() else {
                let last = last.take();
                self.stack.pop();
                if last.is_some() {
                    self.open(dir, last.as_ref())?;
                }
                continue;
            };
            let Some(entry) = self.entry(node, Some(Edge::new(dir, name)))? else { continue };
            let xattrs: usize = entry.meta.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
            bytes += 200 + xattrs;
            let directory = entry.meta.kind.is_directory();
            entries.push(entry);
            if directory {
                self.open(node, None)?;
            }
        }
        Ok(entries)
    }

    /// Puts a directory, or the rest of it, on the stack.
    fn open(&mut self, dir: NodeId, after: Option<&Name>) -> Result<(), JournalError> {
        let page = self.view.list_page(dir, after)?;
        if let Some((last, _)) = page.last() {
            let last = Some(last.clone());
            self.stack.push((dir, page.into_iter(), last));
        }
        Ok(())
    }

    fn entry(&self, node: NodeId, at: Option<Edge>) -> Result<Option<NamespaceEntry>, JournalError> {
        let Some(meta) = self.view.meta(node)? else { return Ok(None) };
        let row = self.view.row(node)?;
        let whole = !self.partial || meta.size <= WHOLE_BYTES_MAX;
        let content_known = row.as_ref().is_none_or(|row| row.content_known) && whole;
        let origin = row.and_then(|row| row.origin);
        let at = at.map(|edge| (edge.parent, edge.name));
        Ok(Some(NamespaceEntry { node, at, meta, origin, content_known }))
    }
}
