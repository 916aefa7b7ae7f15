//! What else a life is asked to do where each call is made to fail in its turn: everything may be refused here, and says
//! whether it was done.

use super::{ROOT, World};
use journal::Lsn;
use std::collections::BTreeSet;
use std::sync::Arc;
use tests::canonical::{Canonical, assert_equal, dump};
use tests::lab::{Lab, canonical_view};

impl World {
    /// Whatever was in the way is gone.
    pub fn heal(&self) {
        self.disk.heal();
        self.disk.set_room(None);
        self.tree.heal();
        self.table_faults.heal();
    }

    /// Whether the replica must be opened anew.
    pub fn is_down(&self) -> bool {
        self.down
    }

    /// Whether the journal itself takes no more.
    pub fn is_poisoned(&self) -> bool {
        let poisoned = |lab: &Lab| lab.journal.redo().is_poisoned() || lab.journal.undo().is_poisoned();
        self.lab.as_ref().is_some_and(poisoned)
    }

    /// Whether all that was made is applied, and the replica stands where it follows.
    pub fn is_home(&self) -> bool {
        !self.down
            && self.home.is_none()
            && self.unsent.is_empty()
            && self.pending.is_empty()
            && self.unfinished.is_empty()
    }

    /// Finishes what was begun and returns to the capture, if a restart has made it forget that it is there.
    pub fn go_home(&mut self) -> bool {
        self.apply(0) && (self.home.is_none() || self.rewind(None))
    }

    /// A process ends and another begins; kernel, disk and tree are the same, and so is what is wrong with them.
    pub fn reopen(&mut self, keep_tables: bool) -> bool {
        self.end_replica();
        self.tree.reopen();
        if !keep_tables {
            self.tables = Arc::default();
        }
        self.open()
    }

    /// A point so many captured changes back.
    fn back(&self, changes: u64) -> Lsn {
        let applied = self.window().map_or(Lsn::ZERO, |(_, applied)| applied);
        Lsn::captured(applied.captured.saturating_sub(changes))
    }

    /// A rewind, so many changes back.
    pub fn rewind_back(&mut self, changes: u64) -> bool {
        let to = self.back(changes);
        self.rewind(Some(to))
    }

    /// A pin, so many changes back.
    pub fn pin_back(&mut self, changes: u64) -> bool {
        let lsn = self.back(changes);
        !self.down && self.pin_at(lsn)
    }

    /// A bookmark, so many changes back.
    pub fn bookmark_back(&mut self, changes: u64) -> bool {
        let lsn = self.back(changes);
        !self.down && self.bookmark_at(lsn)
    }

    /// What a stop saves.
    pub fn save(&mut self) -> bool {
        !self.down && self.run(|lab| lab.journal.save_controls()).is_some()
    }

    /// Reads every third promised point; what is read is right.
    pub fn look(&mut self) -> bool {
        let Some((oldest, newest)) = self.window().filter(|_| !self.down) else { return false };
        for captured in (oldest.captured..=newest.captured).step_by(3) {
            let lsn = Lsn::captured(captured);
            let Some(expected) = self.is_promised(lsn) else { continue };
            let Some(found) = self.run(|lab| canonical_view(&lab.view(lsn), ROOT)) else { return false };
            assert_equal(&expected, &found, &format!("{}, view at {lsn}", self.context));
        }
        true
    }

    /// Ships the redo stream.
    pub fn ship(&mut self) -> bool {
        let Some(lab) = self.lab.as_ref().filter(|_| !self.down) else { return false };
        match self.shipped(lab) {
            Ok(()) => true,
            Err(error) => {
                self.trouble(&error);
                false
            }
        }
    }

    /// Verifies the segments. What cannot be read is neither sound nor damaged.
    pub fn audit(&mut self) -> bool {
        if self.down {
            return false;
        }
        let Some(report) = self.run(|lab| lab.journal.set().verify(&mut |_| {})) else { return false };
        assert!(report.is_sound(), "{}: {report:?}", self.context);
        true
    }

    /// What a life comes to: the tree, what is pinned, what has a bookmark.
    pub fn outcome(&self) -> (Canonical, BTreeSet<Lsn>, BTreeSet<Lsn>) {
        let tree = dump(&*self.tree, ROOT).expect("dump");
        (tree, self.pins.values().copied().collect(), self.bookmarks.values().copied().collect())
    }
}
