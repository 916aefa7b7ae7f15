//! Points that can be named, read and kept: bookmarks, pins, leases, and the window they must lie in.
//!
//! The lock of the leases is the lock of the window: it is held while the horizon moves and while a point is taken.

use super::Journal;
use crate::controls::Bookmark;
use crate::error::JournalError;
use crate::event::Class;
use crate::lsn::Lsn;
use crate::meta::Timestamp;
use crate::record::Control;
use crate::tables::Space;
use std::sync::Arc;

#[derive(Default)]
pub(super) struct Leases {
    held: std::collections::BTreeMap<u64, Held>,
    next: u64,
}

struct Held {
    point: Lsn,
    /// Whether somebody holds it.
    open: bool,
    /// Else it ends when the durable cursor is here.
    until: Lsn,
}

/// A point that stays readable as long as this lives.
pub struct Lease {
    journal: Arc<Journal>,
    number: u64,
}

impl Lease {
    /// When it is dropped the point stays readable all the same until the tree durably holds everything up to `lsn`: local
    /// changes up to there put back what undo of the point has, and may have to be done again. A process that ends
    /// before has no leases; the next one brings the tree there before retention may run.
    pub fn keep_until(&self, lsn: Lsn) {
        if let Some(held) = self.journal.leases.lock().held.get_mut(&self.number) {
            held.until = held.until.max(lsn);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(held) = self.journal.leases.lock().held.get_mut(&self.number) {
            held.open = false;
        }
        self.journal.end_leases();
    }
}

/// The window stands still as long as this lives.
pub(crate) struct WindowLock<'j>(parking_lot::MutexGuard<'j, Leases>);

impl WindowLock<'_> {
    /// The oldest point a reader holds.
    pub(crate) fn least_lease(&self) -> Option<Lsn> {
        self.0.held.values().map(|held| held.point).min()
    }

    /// All points that readers hold.
    pub(crate) fn leases(&self) -> impl Iterator<Item = Lsn> + '_ {
        self.0.held.values().map(|held| held.point)
    }
}

impl Journal {
    /// Names a point.
    ///
    /// # Errors
    /// `Exists` if the name is taken, `OutsideWindow`, `Thinned`, and as the log.
    pub fn set_bookmark(
        &self,
        name: &str,
        lsn: Lsn,
        class: Class,
        automatic: bool,
        time: Timestamp,
    ) -> Result<Bookmark, JournalError> {
        if self.controls.read().bookmarks.contains_key(name) {
            self.check_window(lsn)?;
            return Err(JournalError::Exists { what: "bookmark", name: name.to_owned() });
        }
        let (captured, local) = (lsn.captured, lsn.local);
        let name_of = name.to_owned();
        // The lease keeps it from being thinned out before the bookmark is durable.
        let lease = self.lease_number(lsn)?;
        let set =
            self.control(Control::BookmarkSet { name: name_of, captured, local, class, automatic, time });
        self.leases.lock().held.remove(&lease);
        set?;
        let bookmark = self.controls.read().bookmarks.get(name).cloned();
        bookmark.ok_or_else(|| JournalError::NotFound { what: "bookmark", name: name.to_owned() })
    }

    /// Keeps a point readable until the pin is released.
    ///
    /// # Errors
    /// `OutsideWindow`, `Thinned`, and as the log.
    pub fn pin(&self, lsn: Lsn, why: &str) -> Result<u64, JournalError> {
        let _one_number_each = self.pinning.lock();
        let leases = self.leases.lock();
        self.check_window(lsn)?;
        drop(leases);
        // The lease holds the point until the pin is durable.
        let lease = self.lease_number(lsn)?;
        let pin = self.controls.read().next_pin();
        let pinned = Control::Pinned { pin, captured: lsn.captured, local: lsn.local, why: why.to_owned() };
        let outcome = self.control(pinned);
        self.leases.lock().held.remove(&lease);
        outcome.map(|()| pin)
    }

    /// Keeps a point readable as long as the lease lives; not across a restart.
    ///
    /// # Errors
    /// `OutsideWindow`, `Thinned`, and as the log.
    pub fn lease(self: &Arc<Self>, lsn: Lsn) -> Result<Lease, JournalError> {
        let number = self.lease_number(lsn)?;
        Ok(Lease { journal: Arc::clone(self), number })
    }

    fn lease_number(&self, lsn: Lsn) -> Result<u64, JournalError> {
        let mut leases = self.leases.lock();
        self.check_window(lsn)?;
        let number = leases.next;
        leases.next += 1;
        leases.held.insert(number, Held { point: lsn, open: true, until: Lsn::ZERO });
        Ok(number)
    }

    /// Ends leases that nobody holds and that the durable cursor has passed.
    pub(super) fn end_leases(&self) {
        let cursor = self.cursor();
        self.leases.lock().held.retain(|_, held| held.open || cursor < held.until);
    }

    /// The oldest point that stays readable until the tree durably holds local changes that put back undo of it.
    #[must_use]
    pub fn kept_until_applied(&self) -> Option<Lsn> {
        let cursor = self.cursor();
        self.leases.lock().held.values().filter(|held| cursor < held.until).map(|held| held.point).min()
    }

    pub(crate) fn window_lock(&self) -> WindowLock<'_> {
        WindowLock(self.leases.lock())
    }

    /// The oldest and the newest point that can be read or named.
    #[must_use]
    pub fn window(&self) -> (Lsn, Lsn) {
        (self.controls.read().horizon(), self.journaled().max(self.applied()))
    }

    /// Refuses a point that retention has dropped or thinned out, or that nobody has minted.
    ///
    /// # Errors
    /// `OutsideWindow`, `Thinned`; `Damaged` or `File` if it cannot be told which points were thinned out.
    pub fn check_window(&self, lsn: Lsn) -> Result<(), JournalError> {
        let (oldest, newest) = self.window();
        let started = self.controls.read().first_point != 0;
        let known = lsn <= newest && (!lsn.is_local() || self.is_minted(lsn));
        if !(started && lsn >= oldest && known) {
            return Err(JournalError::OutsideWindow { lsn, oldest, newest });
        }
        match self.thinned_out(lsn)? {
            Some((before, after)) => Err(JournalError::Thinned { lsn, before, after }),
            None => Ok(()),
        }
    }

    fn is_minted(&self, lsn: Lsn) -> bool {
        matches!(self.tables.get(Space::Points, &lsn.to_key()), Ok(Some(_)))
    }
}
