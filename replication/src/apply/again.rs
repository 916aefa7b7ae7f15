//! Making a name again, for a scrub, that the tables have and the tree has not.
//!
//! What is made is made whole beside the tree, in the kept area under a name of its own, and then renamed into its place. The
//! bytes of a file were put there before by whoever asks, who has made sure that they are those that the tables speak of. What
//! stands in the place of something else is put aside first. Where the node stands under another name it gets a further one.
//!
//! **The order** is what makes every end of the daemon harmless. The durable cursor moves to what is applied, which syncs the
//! tree, what was made included; then the name is put in its place; then the tree is synced again; then the new inode is
//! recorded with the cursor; then the row has it. Until the record is durable the name leads to an inode that is not the
//! row's, and whoever reads the node is refused, as for one that is missing; the next scrub puts it aside and begins anew. From
//! then on it is in the tree for good, and recovery, which looks for nodes by the inodes of the record, meets it whatever
//! apply does next. No reader is ever shown a part of it.

use super::Applier;
use super::mend::{Settle, failed, unless_refused};
use journal::state::{NodeRow, State, rows};
use journal::view::Locator;
use journal::{Edge, JournalError, Kind, Name, NodeId, RootNo, Space, TreeIo, TreeStat};
use std::io;
use std::sync::Arc;

const PREFIX: &str = "again-";
/// The system refuses for lack of privilege.
const PERMISSION: i32 = 1;

/// A name that may be missing.
#[derive(Clone, Copy, Debug)]
pub struct Missing<'m> {
    /// Root it lies in.
    pub root: RootNo,
    /// The name.
    pub edge: &'m Edge,
    /// What the tables have there.
    pub node: NodeId,
    /// For a file: its bytes lie in the kept area under [`again_name`].
    pub bytes: bool,
}

/// What became of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Again {
    /// It was made.
    pub made: bool,
    /// Where what stood in its place is now, below the kept area. Also if nothing was made in its stead.
    pub aside: Option<String>,
}

/// The name in the kept area under which a node is made again. `None` never happens.
#[must_use]
pub fn again_name(node: NodeId) -> Option<Name> {
    Name::new(format!("{PREFIX}{:x}", node.0).as_bytes())
}

/// Whether a name of the kept area is one of those: left by a daemon that ended.
pub(crate) fn is_again(name: &Name) -> bool {
    name.as_bytes().starts_with(PREFIX.as_bytes())
}

/// Takes away what an earlier try has left.
pub(crate) fn clear<T: TreeIo>(tree: &T, kept: &T::Dir, name: &Name) -> io::Result<()> {
    match tree.stat(kept, name)? {
        None => Ok(()),
        Some(stat) if stat.kind.is_directory() => tree.remove_dir(kept, name),
        Some(_) => tree.unlink(kept, name),
    }
}

/// Whether this is the node of a row. An empty file may stand for what needs privilege.
fn is_it(stat: &TreeStat, row: &NodeRow) -> bool {
    let plain = matches!(row.meta.kind, Kind::File | Kind::Directory | Kind::Symlink(_));
    stat.inode == row.inode && (stat.kind == row.meta.kind || (stat.kind.is_file() && !plain))
}

impl<T: TreeIo> Applier<T> {
    /// Makes a name again, if it is missing and what it needs is there. `again` says what became of it, step by step: what was
    /// put aside stays there, whatever fails after that.
    ///
    /// # Errors
    /// Those of journal, tables and tree, and of `settle`. Then it is missing, or in its place and unknown: see the head of
    /// the module.
    pub fn make_again(
        &mut self,
        missing: &Missing<'_>,
        settle: Settle<'_>,
        again: &mut Again,
    ) -> Result<(), JournalError> {
        let (tables, edge) = (Arc::clone(self.journal.tables()), missing.edge);
        let row = State::node(&*tables, missing.node)?;
        let known = State::name(&*tables, edge)? == Some(missing.node);
        let locator = self.at_rest();
        let (Some(row), true, Some(dir)) = (row, known, locator.directory(edge.parent)?) else {
            return Ok(());
        };
        let stands = self.tree.stat(&dir, &edge.name).map_err(failed("stat", &edge.name))?;
        if stands.as_ref().is_some_and(|stat| is_it(stat, &row)) {
            // It came back by itself.
            return Ok(());
        }
        let other = self.other_name(&locator, edge, missing.node, &row)?;
        let whole = if other.is_none() { self.whole(missing, &row)? } else { None };
        if other.is_none() && whole.is_none() {
            return Ok(());
        }
        settle()?;
        let inode = self.while_moving(|applier| {
            if stands.is_some() {
                applier.move_aside(missing.root, &dir, edge, &mut again.aside)?;
            }
            let before = applier.tree.stat_dir(&dir).map_err(failed("stat the directory of", &edge.name))?;
            let to = (&dir, &edge.name);
            let inode = match (&other, &whole) {
                (Some((from, name)), _) => applier.tree.link((from, name), to).map(|()| None),
                (None, Some((kept, name, inode))) => {
                    applier.tree.rename((kept, name), to).map(|()| Some(*inode))
                }
                (None, None) => Ok(None),
            };
            let inode = inode.map_err(failed("make again", &edge.name))?;
            applier.settle_times(&dir, edge.parent, &before.attributes)?;
            Ok(inode)
        })?;
        settle()?;
        if let Some(inode) = inode {
            self.note_inode(missing.node, row, inode)?;
        }
        tracing::warn!(name = %String::from_utf8_lossy(edge.name.as_bytes()), "made again");
        again.made = true;
        Ok(())
    }

    /// All of a node, beside the tree: directory, name and inode. `None`: its bytes are not there.
    fn whole(
        &self,
        missing: &Missing<'_>,
        row: &NodeRow,
    ) -> Result<Option<(T::Dir, Name, u64)>, JournalError> {
        let (kind, meta, shown) = (&row.meta.kind, &row.meta, &missing.edge.name);
        let kept = self.tree.kept(missing.root).map_err(failed("make room for", shown))?;
        let Some(name) = again_name(missing.node) else { return Ok(None) };
        if kind.is_file() && meta.size > 0 {
            let had = self.tree.stat(&kept, &name).map_err(failed("stat", shown))?;
            let same = had.is_some_and(|stat| stat.kind.is_file() && stat.size == meta.size);
            if !missing.bytes || !same {
                return Ok(None);
            }
        } else {
            clear(&*self.tree, &kept, &name).map_err(failed("make room for", shown))?;
            match self.tree.create(&kept, &name, kind) {
                // As apply does: a file stands for what needs privilege.
                Err(error) if error.raw_os_error() == Some(PERMISSION) => {
                    self.tree.create(&kept, &name, &Kind::File)
                }
                created => created,
            }
            .map_err(failed("make again", shown))?;
        }
        let set = self.tree.set_attributes(&kept, &name, &meta.attributes, kind);
        unless_refused(set).map_err(failed("set attributes of", shown))?;
        let set = self.tree.set_xattrs(&kept, &name, kind, &meta.xattrs);
        unless_refused(set).map_err(failed("set attributes of", shown))?;
        let stat = self.tree.stat(&kept, &name).map_err(failed("stat", shown))?;
        Ok(stat.map(|stat| (kept, name, stat.inode)))
    }

    /// Another name under which the node stands.
    fn other_name(
        &self,
        locator: &Locator<T>,
        edge: &Edge,
        node: NodeId,
        row: &NodeRow,
    ) -> Result<Option<(T::Dir, Name)>, JournalError> {
        if row.meta.kind.is_directory() {
            return Ok(None);
        }
        for link in State::links(&**self.journal.tables(), node)? {
            if link == *edge {
                continue;
            }
            let Some(dir) = locator.directory(link.parent)? else { continue };
            let stat = self.tree.stat(&dir, &link.name).map_err(failed("stat", &link.name))?;
            // An inode may be used again: what somebody put there is not given a further name.
            let (size, mtime) = (row.meta.size, row.meta.attributes.mtime);
            if stat
                .is_some_and(|stat| is_it(&stat, row) && stat.size == size && stat.attributes.mtime == mtime)
            {
                return Ok(Some((dir, link.name)));
            }
        }
        Ok(None)
    }

    /// The inode that a node has from now on, which is durable in the tree: first where it outlives the tables.
    fn note_inode(&self, node: NodeId, mut row: NodeRow, inode: u64) -> Result<(), JournalError> {
        let (cursor, redo) = (self.journal.cursor(), self.journal.cursor_redo());
        self.journal.advance_cursor(cursor, redo, &[(node, inode)])?;
        row.inode = inode;
        self.journal.tables().commit(vec![(Space::Nodes, node.to_key().to_vec(), Some(rows::write(&row)))])
    }
}
