//! Names that are wrong in the replica tree, put right.
//!
//! **What nobody captured** is put aside, out of the tree, by apply's own thread; nothing is removed (`apply::mend`). Left
//! alone, and told, is what may be ours, and what somebody has mounted something at or below: it would move along.

use super::{Scrub, ScrubError, ScrubHost, Suspect};
use crate::capture::STAGE_PREFIX;
use crate::chain::chain;
use crate::replica::scrub::look::Differs;
use journal::view::Locator;
use journal::{JournalError, Name, TreeIo};
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Directories below each other that are looked through for what is mounted there; what is deeper stays.
const DEPTH_MAX: usize = 128;

/// What became of a name.
#[derive(Debug, Default)]
pub(super) struct Mended {
    /// Where what stood there is now, below the kept area.
    pub aside: Option<String>,
    /// The tree was changed.
    pub done: bool,
}

/// Whether a name may be one of ours: what an agent puts aside, or a kept area.
fn may_be_ours(name: &Name) -> bool {
    let bytes = name.as_bytes();
    bytes.starts_with(STAGE_PREFIX.as_bytes()) || (bytes.starts_with(b".") && bytes.ends_with(b".rewind"))
}

impl<T: TreeIo, H: ScrubHost> Scrub<'_, T, H> {
    /// Puts a name of the tree right, if the difference is one of names and that can be done.
    pub(super) fn mend(&self, suspect: &Suspect, differs: Differs) -> Result<Mended, ScrubError> {
        let mended = match differs.what {
            "extra" => self.put_aside(suspect),
            _ => return Ok(Mended::default()),
        };
        // One that cannot be put right is told, like any that is left.
        mended.or_else(|error| match error {
            ScrubError::Journal(error @ (JournalError::Tree { .. } | JournalError::Drift { .. })) => {
                let path = String::from_utf8_lossy(&suspect.path).into_owned();
                tracing::warn!(path, error = %chain(&error), "a name of the replica was not put right");
                Ok(Mended::default())
            }
            error => Err(error),
        })
    }

    fn put_aside(&self, suspect: &Suspect) -> Result<Mended, ScrubError> {
        let (root, edge) = (suspect.root, suspect.edge.clone());
        if may_be_ours(&edge.name) {
            return Ok(Mended::default());
        }
        let (tables, tree) = (Arc::clone(self.replica.journal.tables()), Arc::clone(&self.replica.tree));
        let locator = Locator::new(tables, tree).settling(Duration::ZERO);
        let Some(dir) = locator.directory(edge.parent)? else { return Ok(Mended::default()) };
        let looked = look_through(&*self.replica.tree, &dir, &edge.name, 0, &|| self.go_on().is_ok());
        looked.map_err(|source| JournalError::Tree {
            operation: "look for what is mounted in",
            object: String::from_utf8_lossy(edge.name.as_bytes()).into_owned(),
            source,
        })?;
        let aside =
            self.replica.between_batches(move |applier, settle| applier.put_aside(root, &edge, settle));
        let aside = aside.transpose()?.flatten();
        Ok(Mended { done: aside.is_some(), aside })
    }
}

/// Refuses what something is mounted at or below: opening it crosses a mount point. What is neither directory nor file is
/// not opened; that alone can be mounted over and stay unseen.
pub(super) fn look_through<T: TreeIo>(
    tree: &T,
    dir: &T::Dir,
    name: &Name,
    depth: usize,
    go_on: &dyn Fn() -> bool,
) -> io::Result<()> {
    let Some(stat) = tree.stat(dir, name)? else { return Ok(()) };
    if stat.kind.is_file() {
        return tree.open_file(dir, name, false).map(drop);
    }
    if !stat.kind.is_directory() {
        return Ok(());
    }
    if depth >= DEPTH_MAX {
        return Err(io::Error::other("it is too deep"));
    }
    if !go_on() {
        return Err(io::ErrorKind::Interrupted.into());
    }
    let below = tree.open_dir(dir, name)?;
    tree.list(&below)?.iter().try_for_each(|name| look_through(tree, &below, name, depth + 1, go_on))
}
