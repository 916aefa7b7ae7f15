//! Putting right, for a scrub, what somebody else did to names of the tree.
//!
//! Only the applying thread does this, between two batches: then the tables say what the tree should be, and whatever
//! stands elsewhere was put there by somebody else. It is never removed: it is renamed into a directory of its own below
//! `kept/strange`, as it is and with all that is below it, and nothing here ever looks there again. A rename is done or
//! not done, so a crash leaves it in one place or the other.
//!
//! The durable cursor moves to what is applied before anything is renamed, and the tree is synced before apply goes on. So
//! recovery never looks for anything across a rename that it knows nothing of: after a loss of power what was put aside
//! would stand in its old place again, where by then a capture may have put something, and no start would go on from there.
//!
//! An open directory follows its own renames: the ones that apply remembers are forgotten, or it would go on in what was
//! put aside. Who reads is told that names move.

use super::Applier;
use journal::state::State;
use journal::view::Locator;
use journal::{Attributes, Edge, JournalError, Kind, Name, NodeId, RootNo, TreeIo};
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Directory in the kept area for what was put aside.
pub const STRANGE: &str = "strange";
/// Attempts to find a name that is free.
const TRIES: u64 = 1000;
/// The system refuses for lack of privilege, or its file system has no such thing.
const REFUSED: [i32; 2] = [1, 95];

/// Syncs the tree and moves the durable cursor to what is applied; whoever gives it sees to it that nothing goes on in a tree
/// that could not be synced.
pub type Settle<'s> = &'s dyn Fn() -> Result<(), JournalError>;

pub(super) fn failed<'n>(
    operation: &'static str,
    name: &'n Name,
) -> impl FnOnce(io::Error) -> JournalError + use<'n> {
    let object = String::from_utf8_lossy(name.as_bytes()).into_owned();
    move |source| JournalError::Tree { operation, object, source }
}

pub(super) fn unless_refused(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.raw_os_error().is_some_and(|errno| REFUSED.contains(&errno)) => Ok(()),
        done => done,
    }
}

impl<T: TreeIo> Applier<T> {
    pub(super) fn at_rest(&self) -> Locator<T> {
        let locator = Locator::new(Arc::clone(self.journal.tables()), Arc::clone(&self.tree));
        locator.settling(Duration::ZERO)
    }

    /// Moves what stands at a name that the tables do not have out of the tree. `aside` says where it is now, below the kept
    /// area, from the moment at which it is there, whatever fails after that; `None`: nothing was moved.
    ///
    /// # Errors
    /// Those of tables and tree, and of `settle`.
    pub fn put_aside(
        &mut self,
        root: RootNo,
        edge: &Edge,
        settle: Settle<'_>,
        aside: &mut Option<String>,
    ) -> Result<(), JournalError> {
        if State::name(&**self.journal.tables(), edge)?.is_some() {
            return Ok(());
        }
        let Some(dir) = self.at_rest().directory(edge.parent)? else { return Ok(()) };
        if self.tree.stat(&dir, &edge.name).map_err(failed("stat", &edge.name))?.is_none() {
            return Ok(());
        }
        settle()?;
        self.while_moving(|applier| applier.move_aside(root, &dir, edge, aside))?;
        settle()
    }

    /// Changes names, and has readers know; afterwards the tree stands still, whether all of it was done or not.
    pub(super) fn while_moving<R>(
        &mut self,
        change: impl FnOnce(&mut Self) -> Result<R, JournalError>,
    ) -> Result<R, JournalError> {
        self.touch.forget();
        self.journal.note_touching();
        let changed = change(self);
        self.journal.note_applied(self.journal.applied());
        changed
    }

    pub(super) fn move_aside(
        &mut self,
        root: RootNo,
        dir: &T::Dir,
        edge: &Edge,
        aside: &mut Option<String>,
    ) -> Result<(), JournalError> {
        let name = &edge.name;
        let before = self.tree.stat_dir(dir).map_err(failed("stat the directory of", name))?.attributes;
        let (place, to) = self.room_aside(root).map_err(failed("make room aside for", name))?;
        self.tree.rename((dir, name), (&to, name)).map_err(failed("put aside", name))?;
        let place = format!("{place}/{}", String::from_utf8_lossy(name.as_bytes()));
        tracing::warn!(name = %String::from_utf8_lossy(name.as_bytes()), place, "put aside");
        // At once: somebody's file is to be found, also if nothing more comes of it.
        *aside = Some(place);
        self.settle_times(dir, edge.parent, &before)
    }

    /// A new directory below the kept area, and its path there.
    fn room_aside(&self, root: RootNo) -> io::Result<(String, T::Dir)> {
        let kept = self.tree.kept(root)?;
        let name = |text: &str| Name::new(text.as_bytes()).ok_or(io::ErrorKind::InvalidInput);
        let all = name(STRANGE)?;
        match self.tree.create(&kept, &all, &Kind::Directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let strange = self.tree.open_dir(&kept, &all)?;
        let now = self.journal.clock().now().0;
        for number in 0..TRIES {
            let text = now.saturating_add(number as i64).to_string();
            let one = name(&text)?;
            match self.tree.create(&strange, &one, &Kind::Directory) {
                Ok(_) => return Ok((format!("{STRANGE}/{text}"), self.tree.open_dir(&strange, &one)?)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// Changing an entry has moved the time of its directory. A root keeps its mode and owner: they may be an operator's.
    pub(super) fn settle_times(
        &self,
        dir: &T::Dir,
        node: NodeId,
        before: &Attributes,
    ) -> Result<(), JournalError> {
        let row = State::node(&**self.journal.tables(), node)?;
        let mut attributes = row.map_or_else(|| *before, |row| row.meta.attributes);
        if node.as_root_or_kept().is_some() {
            attributes = Attributes { mtime: attributes.mtime, ..*before };
        }
        unless_refused(self.tree.set_dir_attributes(dir, &attributes)).map_err(|source| {
            let (operation, object) = ("set the time of a directory", node.to_string());
            JournalError::Tree { operation, object, source }
        })
    }
}
