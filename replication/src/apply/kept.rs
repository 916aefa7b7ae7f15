//! Removing for good what no promised point shows any more.
//!
//! The tree goes first and the rows after it: after a crash in between the rows are still there, the node is named
//! again by the next run, and what is gone already is gone. Only the applying thread does this, between batches.

use journal::journal::Journal;
use journal::state::State;
use journal::{JournalError, Lsn, NodeId, TreeIo};
use std::io;
use std::sync::Arc;

fn failed(node: NodeId) -> impl Fn(io::Error) -> JournalError {
    move |source| JournalError::Tree {
        operation: "remove from the kept area",
        object: node.to_string(),
        source,
    }
}

/// Removes history behind the horizon and the kept nodes only it showed. Nodes removed.
///
/// # Errors
/// As tables and tree; the next run goes on where this one ended.
pub fn prune<T: TreeIo>(journal: &Arc<Journal>, tree: &Arc<T>, horizon: Lsn) -> Result<u64, JournalError> {
    let mut removed = 0;
    loop {
        let dead = journal.dead(horizon)?;
        for node in &dead {
            remove(journal, tree, *node)?;
            removed += 1;
        }
        if dead.is_empty() {
            break;
        }
    }
    while journal.prune(horizon)? {}
    Ok(removed)
}

fn remove<T: TreeIo>(journal: &Arc<Journal>, tree: &Arc<T>, node: NodeId) -> Result<(), JournalError> {
    let links = State::links(&**journal.tables(), node)?;
    for edge in links.iter().filter(|edge| edge.parent.is_kept_area()) {
        let Some(root) = edge.parent.as_root_or_kept() else { continue };
        let kept = tree.kept(root).map_err(failed(node))?;
        remove_all(tree, &kept, &edge.name).map_err(failed(node))?;
    }
    journal.forget_kept(node)
}

/// Removes a node and all below it; fine if it is gone.
fn remove_all<T: TreeIo>(tree: &Arc<T>, dir: &T::Dir, name: &journal::Name) -> io::Result<()> {
    // Each entry is removed after all that is below it; a stack of open directories would be as deep as the tree.
    let Some(stat) = tree.stat(dir, name)? else { return Ok(()) };
    if !stat.kind.is_directory() {
        return tree.unlink(dir, name);
    }
    let mut open = vec![(dir.clone(), name.clone(), tree.open_dir(dir, name)?)];
    while let Some((parent, name, dir)) = open.last().cloned() {
        let mut below = None;
        for child in tree.list(&dir)? {
            match tree.stat(&dir, &child)? {
                Some(stat) if stat.kind.is_directory() => {
                    let opened = tree.open_dir(&dir, &child)?;
                    if tree.list(&opened)?.is_empty() {
                        tree.remove_dir(&dir, &child)?;
                    } else {
                        below = Some((dir.clone(), child, opened));
                        break;
                    }
                }
                Some(_) => tree.unlink(&dir, &child)?,
                None => {}
            }
        }
        match below {
            Some(deeper) => open.push(deeper),
            None => {
                tree.remove_dir(&parent, &name)?;
                open.pop();
            }
        }
    }
    Ok(())
}
