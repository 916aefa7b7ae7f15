//! What the tables name and the tree may have no more: what retention has removed, or was removing.
//!
//! Tables that were made anew, or that a power cut took back, name again what retention took away; no point shows it.
//! A removed directory goes entry by entry, so any part of it may be left. Whatever is not there is passed over here,
//! and what is there is used: an older node may have no other name by which it can be found. Everywhere else a name that
//! is missing is drift.
//!
//! What lies in a kept node that is dead lay there before the window began: the horizon is never in front of the durable
//! cursor, and whatever enters a removed directory makes it stay. So a missing step on the way to it was taken by
//! retention, and not moved.

use super::{Work, failed};
use journal::state::{NodeRow, State};
use journal::{Edge, JournalError, Lsn, Name, NodeId, TreeIo};
use std::collections::{BTreeSet, HashSet};
use std::io;

/// How it stands with a directory.
enum Lies<D> {
    /// Retention leaves it alone: what the tables name in it is there.
    Safe,
    /// It lies in what retention removes, and is there; what the tables name in it may not be.
    Going(D),
    /// It lies in what retention removes, and is there no more.
    Gone,
}

impl<T: TreeIo> Work<'_, T> {
    /// Forgets names in directories that retention has removed: no point shows them, and the tree may have them no more.
    /// A rewind touches such names where a file has another one in a removed directory.
    pub(super) fn leave_out_gone(&mut self) -> Result<(), JournalError> {
        let parents: BTreeSet<NodeId> = self.edges.iter().map(|edge| edge.parent).collect();
        let mut gone = HashSet::new();
        for parent in parents {
            if let Lies::Gone = self.lies(parent)? {
                gone.insert(parent);
            }
        }
        self.edges.retain(|edge| !gone.contains(&edge.parent));
        Ok(())
    }

    /// A name of a node that the tree has: of a file that also had one in what retention removes, perhaps another.
    pub(super) fn standing(&mut self, node: NodeId) -> Result<Option<Edge>, JournalError> {
        for edge in State::links(&**self.journal.tables(), node)? {
            let dir = match self.lies(edge.parent)? {
                Lies::Safe if edge.parent.is_kept_area() && self.is_going(node)? => {
                    self.fixed(edge.parent)?
                }
                Lies::Safe => return Ok(Some(edge)),
                Lies::Going(dir) => Some(dir),
                Lies::Gone => None,
            };
            if let Some(dir) = dir
                && self.tree.stat(&dir, &edge.name).map_err(failed("stat", node))?.is_some()
            {
                return Ok(Some(edge));
            }
        }
        Ok(None)
    }

    /// Whether retention removes a node, if it is kept.
    fn is_going(&self, node: NodeId) -> Result<bool, JournalError> {
        Ok(State::node(&**self.journal.tables(), node)?.is_some_and(|row| self.is_dead(&row)))
    }

    fn is_dead(&self, row: &NodeRow) -> bool {
        let horizon = self.journal.with_controls(journal::controls::Controls::horizon);
        row.kept_since.is_some_and(|(captured, local)| Lsn { captured, local } <= horizon)
    }

    fn lies(&mut self, node: NodeId) -> Result<Lies<T::Dir>, JournalError> {
        match self.gone.get(&node) {
            Some(true) => return Ok(Lies::Gone),
            Some(false) => return Ok(Lies::Safe),
            None => {}
        }
        let lies = self.look_for(node)?;
        // Those on their way out are few, and not worth being held open.
        match &lies {
            Lies::Safe => self.gone.insert(node, false),
            Lies::Gone => self.gone.insert(node, true),
            Lies::Going(_) => None,
        };
        Ok(lies)
    }

    fn look_for(&self, node: NodeId) -> Result<Lies<T::Dir>, JournalError> {
        let mut way = Vec::new();
        let mut at = node;
        for _ in 0..1 << 20 {
            if at.as_root_or_kept().is_some() || self.new.contains(&at) {
                return Ok(Lies::Safe);
            }
            let Some(row) = State::node(&**self.journal.tables(), at)? else { return Ok(Lies::Gone) };
            let links = State::links(&**self.journal.tables(), at)?;
            let Some(edge) = links.into_iter().next() else { return Ok(Lies::Safe) };
            way.push(edge.name);
            if self.is_dead(&row)
                && let Some(top) = self.fixed(edge.parent)?
            {
                return self.walk(top, &way, node);
            }
            at = edge.parent;
        }
        Ok(Lies::Safe)
    }

    /// Goes down from a kept area to a directory; the names of the way are its own first.
    fn walk(&self, top: T::Dir, way: &[Name], node: NodeId) -> Result<Lies<T::Dir>, JournalError> {
        let mut dir = top;
        for name in way.iter().rev() {
            match self.tree.open_dir(&dir, name) {
                Ok(below) => dir = below,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Lies::Gone),
                Err(error) => return Err(failed("open a directory", node)(error)),
            }
        }
        Ok(Lies::Going(dir))
    }
}
