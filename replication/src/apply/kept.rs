//! Removing for good what no promised point shows any more.
//!
//! The tree goes first and the rows after it: after a crash in between the rows are still there, the node is named
//! again by the next run, and what is gone already is gone. Names of files that have others are taken away before: if the
//! tree refuses halfway, such a file is not looked for where it may be no more. Only the applying thread does this,
//! between batches.
//!
//! Nothing is removed from a tree that has more than the durable cursor says. What such a tree shows may be gone after a loss
//! of power: a node that was just taken out of a removed directory would be in it again, where recovery looks for it, and the
//! tables would know that directory no more.
//!
//! What the tree refuses to remove stays, with its rows, and keeps nothing else: whatever else is to go goes, history
//! included, and then it is said what was refused. What journal or tables refuse ends it.

use crate::chain::chain;
use journal::journal::Journal;
use journal::{Edge, JournalError, Lsn, NodeId, TreeIo};
use std::io;
use std::sync::Arc;

fn failed(node: NodeId) -> impl Fn(io::Error) -> JournalError {
    move |source| JournalError::Tree {
        operation: "remove from the kept area",
        object: node.to_string(),
        source,
    }
}

/// Removes history behind the horizon and the kept nodes only it showed. Nodes removed. Before the first of them, unless the
/// durable cursor is where the tree is, `settle` is to move it there.
///
/// # Errors
/// As `settle`, then no node is removed. As the tables: the next run goes on where this one ended. As the tree, the first of what it refused, when all else is
/// done: the next run tries that again.
pub fn prune<T: TreeIo>(
    journal: &Arc<Journal>,
    tree: &Arc<T>,
    horizon: Lsn,
    settle: impl FnOnce() -> Result<(), JournalError>,
) -> Result<u64, JournalError> {
    let (mut removed, mut refused) = (0, None);
    let mut after = None;
    let mut settle = Some(settle).filter(|_| journal.cursor() < journal.applied());
    loop {
        let dead = journal.dead(horizon, after.as_ref())?;
        let Some((_, last)) = dead.last() else { break };
        after = Some(last.clone());
        settle.take().map_or(Ok(()), |settle| settle())?;
        let nodes: Vec<NodeId> = dead.iter().map(|(node, _)| *node).collect();
        journal.let_go(&nodes)?;
        for (node, place) in dead {
            match remove(tree, &place) {
                Ok(()) => {
                    journal.forget_kept(node)?;
                    removed += 1;
                }
                Err(error) => {
                    refused.get_or_insert_with(|| failed(node)(error));
                }
            }
        }
    }
    while journal.prune(horizon)? {}
    refused.map_or(Ok(removed), Err)
}

/// The same with the journal's horizon, at a start, when the tree was brought to where the durable cursor is and before it is
/// used: after a rebuild names in what is long gone
/// lead nowhere. Those of files that have others are out of the tables before the tree is asked, and for the rest nobody
/// looks: what the tree refuses to remove is no reason not to start.
///
/// # Errors
/// As the tables.
pub fn prune_at_start<T: TreeIo>(journal: &Arc<Journal>, tree: &Arc<T>) -> Result<(), JournalError> {
    let horizon = journal.with_controls(journal::controls::Controls::horizon);
    match prune(journal, tree, horizon, || Ok(())) {
        Err(error @ JournalError::Tree { .. }) => {
            tracing::warn!(error = %chain(&error), "not all that retention gave up is removed; the next run tries it again");
            Ok(())
        }
        pruned => pruned.map(drop),
    }
}

fn remove<T: TreeIo>(tree: &Arc<T>, place: &Edge) -> io::Result<()> {
    let Some(root) = place.parent.as_root_or_kept() else { return Ok(()) };
    remove_all(tree, &tree.kept(root)?, &place.name)
}

/// Directories held open on the way down.
const OPEN_MAX: usize = 64;

/// Removes a node and all below it; fine if it is gone. Each entry is removed after all that is below it. The way down
/// may be longer than a process may have files open, so only its end is held open; what is above is found again by its
/// names when it is its turn.
fn remove_all<T: TreeIo>(tree: &Arc<T>, top: &T::Dir, name: &journal::Name) -> io::Result<()> {
    let Some(stat) = tree.stat(top, name)? else { return Ok(()) };
    if !stat.kind.is_directory() {
        return tree.unlink(top, name);
    }
    let mut names = vec![name.clone()];
    // Of the last of the names, the last one for the last of them.
    let mut open = std::collections::VecDeque::new();
    while !names.is_empty() {
        if open.is_empty() {
            reopen(tree, top, &names, &mut open)?;
        }
        let Some(dir) = open.back().cloned() else { return Ok(()) };
        if let Some(below) = empty(tree, &dir)? {
            open.push_back(tree.open_dir(&dir, &below)?);
            names.push(below);
            if open.len() > OPEN_MAX {
                open.pop_front();
            }
            continue;
        }
        open.pop_back();
        let Some(name) = names.pop() else { break };
        if open.is_empty() && !names.is_empty() {
            reopen(tree, top, &names, &mut open)?;
        }
        tree.remove_dir(open.back().unwrap_or(top), &name)?;
    }
    Ok(())
}

/// Removes what is no directory, and directories that hold nothing, until there is one that holds something: its name.
fn empty<T: TreeIo>(tree: &Arc<T>, dir: &T::Dir) -> io::Result<Option<journal::Name>> {
    for child in tree.list(dir)? {
        match tree.stat(dir, &child)? {
            Some(stat) if stat.kind.is_directory() => {
                if !tree.list(&tree.open_dir(dir, &child)?)?.is_empty() {
                    return Ok(Some(child));
                }
                tree.remove_dir(dir, &child)?;
            }
            Some(_) => tree.unlink(dir, &child)?,
            None => {}
        }
    }
    Ok(None)
}

/// Opens the directories at the end of a way down.
fn reopen<T: TreeIo>(
    tree: &Arc<T>,
    top: &T::Dir,
    names: &[journal::Name],
    open: &mut std::collections::VecDeque<T::Dir>,
) -> io::Result<()> {
    let mut dir = top.clone();
    for name in names {
        dir = tree.open_dir(&dir, name)?;
        open.push_back(dir.clone());
        if open.len() > OPEN_MAX / 2 {
            open.pop_front();
        }
    }
    Ok(())
}
