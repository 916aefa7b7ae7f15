//! Names that are wrong in the replica tree, put right.
//!
//! **What is missing** is made again by apply's own thread, as its row says (`apply::again`), a file from bytes that the master
//! was asked for before (`fetch`). Directories come before what is in them is walked.
//!
//! **What nobody captured** is put aside, out of the tree, by apply's own thread; nothing is removed (`apply::mend`). Left
//! alone, and told, is what may be ours, and what somebody has mounted something at or below: it would move along.

use super::fetch::Fetched;
use super::{Scrub, ScrubError, ScrubHost, Suspect};
use crate::apply::{Again, Applier, Missing, Settle};
use crate::capture::STAGE_PREFIX;
use crate::chain::chain;
use crate::replica::scrub::look::Differs;
use journal::state::State;
use journal::view::Locator;
use journal::{Edge, JournalError, Name, NodeId, TreeIo};
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Directories below each other that are looked through for what is mounted there; what is deeper stays.
const DEPTH_MAX: usize = 128;

/// What became of a name.
#[derive(Debug, Default)]
pub(super) struct Mended {
    /// Where what stood there is now, below the kept area; whatever else failed.
    pub aside: Option<String>,
    /// The tree was changed.
    pub done: bool,
}

/// What became of a name, and why no more.
type Outcome = (Mended, Result<(), ScrubError>);

/// Whether a name may be one of ours: what an agent puts aside, or a kept area.
fn may_be_ours(name: &Name) -> bool {
    let bytes = name.as_bytes();
    bytes.starts_with(STAGE_PREFIX.as_bytes()) || (bytes.starts_with(b".") && bytes.ends_with(b".rewind"))
}

impl<T: TreeIo, H: ScrubHost> Scrub<'_, T, H> {
    /// Puts a name of the tree right, if the difference is one of names and that can be done. An error: it cannot be said what
    /// became of it, but for what was put aside.
    pub(super) fn mend(&self, suspect: &Suspect, differs: Differs, fetched: &Fetched<T>) -> Outcome {
        let (mended, outcome) = match differs.what {
            "extra" => self.put_aside(suspect),
            "missing" | "kind" => self.make_again(suspect, fetched),
            _ => return (Mended::default(), Ok(())),
        };
        // One that cannot be put right is told, like any that is left.
        let outcome = outcome.or_else(|error| match error {
            ScrubError::Journal(error @ (JournalError::Tree { .. } | JournalError::Drift { .. })) => {
                let path = String::from_utf8_lossy(&suspect.path).into_owned();
                tracing::warn!(path, error = %chain(&error), "a name of the replica was not put right");
                Ok(())
            }
            error => Err(error),
        });
        (mended, outcome)
    }

    fn put_aside(&self, suspect: &Suspect) -> Outcome {
        let (root, edge) = (suspect.root, suspect.edge.clone());
        if may_be_ours(&edge.name) {
            return (Mended::default(), Ok(()));
        }
        self.moving(&suspect.edge, move |applier, settle, again| {
            applier.put_aside(root, &edge, settle, &mut again.aside)
        })
    }

    fn make_again(&self, suspect: &Suspect, fetched: &Fetched<T>) -> Outcome {
        let (root, edge) = (suspect.root, suspect.edge.clone());
        let Some(node) = suspect.node.filter(|_| suspect.first == 0) else {
            return (Mended::default(), Ok(()));
        };
        let (journal, mut watch) = (Arc::clone(&self.replica.journal), fetched.watch(node));
        self.moving(&suspect.edge, move |applier, settle, again| {
            if journal.with_controls(|controls| !controls.gaps.is_empty()) {
                return Ok(());
            }
            let bytes = match &mut watch {
                Some(watch) => {
                    watch.advance(&journal)?;
                    !watch.is_touched(node)
                }
                None => false,
            };
            applier.make_again(&Missing { root, edge: &edge, node, bytes }, settle, again)
        })
    }

    /// Has apply's thread move names, if what stands at this one may be moved.
    fn moving(
        &self,
        edge: &Edge,
        run: impl FnOnce(&mut Applier<T>, Settle<'_>, &mut Again) -> Result<(), JournalError> + Send + 'static,
    ) -> Outcome {
        match self.can_be_moved(edge) {
            Ok(true) => {}
            Ok(false) => return (Mended::default(), Ok(())),
            Err(error) => return (Mended::default(), Err(error)),
        }
        let moved = self.replica.between_batches(move |applier, settle| {
            let mut again = Again::default();
            let outcome = run(applier, settle, &mut again);
            (again, outcome)
        });
        let (Again { made, aside }, outcome) = moved.unwrap_or_else(|| (Again::default(), Ok(())));
        (Mended { done: made || aside.is_some(), aside }, outcome.map_err(ScrubError::from))
    }

    /// Whether what stands at a name, if anything does, may be moved; its directory has to be there.
    pub(super) fn can_be_moved(&self, edge: &Edge) -> Result<bool, ScrubError> {
        let (tables, tree) = (Arc::clone(self.replica.journal.tables()), Arc::clone(&self.replica.tree));
        let locator = Locator::new(tables, tree).settling(Duration::ZERO);
        let Some(dir) = locator.directory(edge.parent)? else { return Ok(false) };
        let looked = look_through(&*self.replica.tree, &dir, &edge.name, 0, &|| self.go_on().is_ok());
        if let Err(error) = looked {
            self.go_on()?;
            let name = String::from_utf8_lossy(edge.name.as_bytes()).into_owned();
            tracing::warn!(name, %error, "something may be mounted there: it is left");
            return Ok(false);
        }
        Ok(true)
    }

    /// Directories that are missing are made before what is in them is looked at.
    pub(super) fn make_way(&mut self) -> Result<(), ScrubError> {
        for suspect in self.suspects.iter().filter(|_| self.options.repair) {
            let Some(node) = suspect.node else { continue };
            let row = State::node(&**self.replica.journal.tables(), node)?;
            let directory = row.is_some_and(|row| row.meta.kind.is_directory());
            if directory && self.is_missing(&suspect.edge, node)? {
                return self.confirm();
            }
        }
        Ok(())
    }

    /// Whether a name of the tables leads to nothing, or to something else.
    fn is_missing(&self, edge: &Edge, node: NodeId) -> Result<bool, ScrubError> {
        Ok(matches!(self.wrong_now(edge, node, false)?, Some("missing" | "kind")))
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
