//! Gaps, synchronizations and barriers: what opens them, and the one test that ends them.

use super::run::{COOKIE_PREFIX, Gap, RETRY, Runner, Synchronization};
use crate::capture::CaptureError;
use crate::capture::draft::clock;
use crate::capture::hints::ListHint;
use journal::{GapCause, Marker, NodeId, Provenance, RootNo};
use std::time::Instant;

impl Runner {
    pub(super) fn open_gap(&mut self, root: RootNo, cause: GapCause) -> Result<u64, CaptureError> {
        let last = self.gaps.keys().next_back().map_or(0, |last| last + 1);
        let gap = u64::try_from(clock().0).unwrap_or(0).max(last);
        self.core.out.mark_now(root, Vec::new(), Marker::GapOpened { gap, root, path: Vec::new(), cause })?;
        self.set_provenance(true);
        let lost = self.core.root(root).is_none_or(|root| root.lost);
        let epoch = (!lost).then(|| self.core.hints.end_epoch());
        if let Some(epoch) = epoch {
            self.core.rescan(root, epoch);
            // What was not compared until now is compared with it.
            for gap in self.gaps.values_mut().filter(|gap| gap.root == root && gap.epoch.is_none()) {
                gap.epoch = Some(epoch);
            }
        }
        self.gaps.insert(gap, Gap { root, cause, epoch });
        Ok(gap)
    }

    /// The spool takes no more captures, but markers yet: the stream says from where on changes are missing. The index
    /// is ahead of the stream by what was being told, so it cannot be used any more: whoever starts capture again has
    /// it rebuilt and compares everything, within a gap of its own.
    pub(super) fn say_full(&mut self) {
        self.core.out.give_up();
        for root in self.all_roots() {
            if let Err(error) = self.open_gap(root, GapCause::SpoolFull) {
                tracing::warn!(%error, "the gap of a full spool is said when capture starts again");
                return;
            }
        }
    }

    fn set_provenance(&mut self, gap: bool) {
        let first = self.synchronization.as_ref().is_some_and(|synchronization| synchronization.first);
        self.core.out.shared = first;
        self.core.out.provenance = match (first, gap || self.synchronization.is_some()) {
            (true, _) => Provenance::Synchronization,
            (false, true) => Provenance::Rescan,
            (false, false) => Provenance::Derived,
        };
    }

    pub(super) fn synchronize(&mut self, first: bool) -> Result<(), CaptureError> {
        self.core.accept_roots()?;
        let root = self.first_root();
        self.core.out.mark_now(root, Vec::new(), Marker::SynchronizationStarted { first })?;
        let epoch = self.core.hints.end_epoch();
        self.synchronization = Some(Synchronization { epoch, first });
        self.set_provenance(false);
        for root in self.all_roots() {
            self.core.rescan(root, epoch);
        }
        // Roots that were lost are compared with the others.
        for gap in self.gaps.values_mut().filter(|gap| gap.epoch.is_none()) {
            let lost = self.core.root(gap.root).is_none_or(|root| root.lost);
            gap.epoch = (!lost).then_some(epoch);
        }
        Ok(())
    }

    /// Notifications were lost: whatever is waiting is covered by comparing everything.
    pub(super) fn overflow(&mut self) -> Result<(), CaptureError> {
        self.core.overflowed = false;
        self.core.hints.clear();
        tracing::warn!("the queue of notifications overflowed: comparing everything");
        if let Some(synchronization) = &mut self.synchronization {
            synchronization.epoch = self.core.hints.end_epoch();
            let epoch = synchronization.epoch;
            for root in self.all_roots() {
                self.core.rescan(root, epoch);
            }
        }
        // Gaps that were being compared must be compared again: their hints are gone.
        for gap in self.gaps.values_mut().filter(|gap| gap.epoch.is_some()) {
            let epoch = self.core.hints.end_epoch();
            gap.epoch = Some(epoch);
            self.core.rescan(gap.root, epoch);
        }
        if self.synchronization.is_none() {
            for root in self.all_roots() {
                // One that is open says it, and is being compared again.
                let is_said = |gap: &Gap| gap.root == root && gap.cause == GapCause::QueueOverflow;
                if !self.gaps.values().any(is_said) {
                    self.open_gap(root, GapCause::QueueOverflow)?;
                }
            }
        }
        // Cookies may be among what was lost.
        self.await_captures()?;
        for number in 0..self.barriers.len() {
            let Some(barrier) = self.barriers.get_mut(number) else { break };
            match &mut barrier.epoch {
                // What it waits for is now part of the comparison.
                Some(epoch) => *epoch = self.core.hints.end_epoch(),
                None => {
                    self.barrier_count += 1;
                    barrier.name = format!("{COOKIE_PREFIX}{}-{}", std::process::id(), self.barrier_count);
                    let name = barrier.name.clone();
                    self.write_cookie(&name)?;
                }
            }
        }
        Ok(())
    }

    /// Ends what has nothing left to wait for.
    pub(super) fn conclude(&mut self) -> Result<(), CaptureError> {
        // A root that is in doubt may not have been compared at all.
        if self.core.overflowed
            || !self.core.doubted.is_empty()
            || (self.barriers.is_empty() && self.gaps.is_empty() && self.synchronization.is_none())
        {
            return Ok(());
        }
        let owed = self.core.hints.oldest_epoch();
        let settled = |epoch: u64| owed.is_none_or(|owed| owed > epoch);
        if let Some(done) = self.synchronization.take_if(|synchronization| settled(synchronization.epoch)) {
            self.complete(&done)?;
        }
        let closed: Vec<u64> = self
            .gaps
            .iter()
            .filter(|(_, gap)| {
                gap.epoch.is_some_and(settled)
                    && (gap.cause != GapCause::WatchLimit || self.core.unwatched.is_empty())
            })
            .map(|(id, _)| *id)
            .collect();
        for id in closed {
            let Some(gap) = self.gaps.remove(&id) else { continue };
            self.core.out.mark_now(gap.root, Vec::new(), Marker::GapClosed { gap: id })?;
            self.set_provenance(!self.gaps.is_empty());
        }
        let mut number = 0;
        while let Some(barrier) = self.barriers.get(number) {
            if !barrier.epoch.is_some_and(settled) {
                number += 1;
                continue;
            }
            let barrier = self.barriers.swap_remove(number);
            let exact = self.gaps.is_empty() && self.synchronization.is_none();
            let class = barrier.standing.class(exact);
            let marker = Marker::Barrier { cookie: barrier.cookie, class };
            let marks = std::iter::once(marker).chain(self.core.digest_marks()?).collect();
            let lsn = self.core.out.mark_all_now(self.first_root(), marks)?;
            // Whoever asked may have given up.
            let _ = barrier.reply.send(Ok(lsn));
        }
        Ok(())
    }

    fn complete(&mut self, done: &Synchronization) -> Result<(), CaptureError> {
        self.core.forget_removed(true)?;
        let (files, directories, bytes) = self.core.index.totals()?;
        let marker = Marker::SynchronizationCompleted { files, directories, bytes };
        self.core.out.mark_now(self.first_root(), Vec::new(), marker)?;
        tracing::info!(first = done.first, files, bytes, "synchronized");
        self.settle();
        self.set_provenance(!self.gaps.is_empty());
        Ok(())
    }

    /// Looks whether roots are still where they were.
    pub(super) fn check_roots(&mut self) -> Result<(), CaptureError> {
        for number in std::mem::take(&mut self.core.doubted) {
            let Some(root) = self.core.roots.iter_mut().find(|root| root.number == number) else { continue };
            let unreadable = self.core.unreadable.remove(&number);
            if root.lost || (root.is_there() && !unreadable) {
                continue;
            }
            root.lost = true;
            self.core.directories.clear();
            self.core.watch.forget(NodeId::root(number));
            // What was being compared was not, and is when the root is back.
            for gap in self.gaps.values_mut().filter(|gap| gap.root == number) {
                gap.epoch = None;
            }
            let is_said = |gap: &Gap| gap.root == number && gap.cause == GapCause::WatchLost;
            if self.gaps.values().any(is_said) {
                continue;
            }
            let path = self.core.root(number).map(|root| root.path.clone()).unwrap_or_default();
            tracing::warn!(root = %path.display(), unreadable, "the root is not the directory it was");
            self.open_gap(number, GapCause::WatchLost)?;
        }
        Ok(())
    }

    /// A file that got a name, was changed through it and lost it between two looks is found by a comparison. It is no
    /// gap: most names that come and go were files of their own.
    fn sweep(&mut self, epoch: u64) {
        let owed = self.core.unattributed.is_some_and(|at| at >= self.swept);
        if !owed || self.swept.elapsed() < self.core.config.sweep || self.core.hints.has_lists() {
            return;
        }
        self.swept = Instant::now();
        for root in self.all_roots() {
            if self.core.root(root).is_some_and(|root| !root.lost) {
                self.core.rescan(root, epoch);
            }
        }
    }

    /// From time to time: roots that were lost, directories that could not be watched.
    pub(super) fn retry(&mut self) -> Result<(), CaptureError> {
        if !self.core.unwatched.is_empty() && !self.gaps.values().any(|gap| gap.cause == GapCause::WatchLimit)
        {
            tracing::warn!(
                count = self.core.unwatched.len(),
                "directories cannot be watched: raise max_user_watches"
            );
            self.open_gap(self.first_root(), GapCause::WatchLimit)?;
        }
        if Instant::now() < self.retry_at {
            return Ok(());
        }
        self.retry_at = Instant::now() + RETRY;
        let epoch = self.core.hints.epoch();
        // Not while some are being listed yet: else the first might be listed all the time, and others never.
        let listing = self.core.hints.has_lists();
        for directory in self.core.unwatched.iter().filter(|_| !listing) {
            self.core.hints.list(*directory, ListHint { epoch, recursive: false, compare: true, tries: 0 });
        }
        self.core.look_at_obstacles();
        self.sweep(epoch);
        let lost: Vec<usize> = (0..self.core.roots.len())
            .filter(|number| self.core.roots.get(*number).is_some_and(|root| root.lost))
            .collect();
        for number in lost {
            let Some(root) = self.core.roots.get_mut(number) else { continue };
            if !root.reopen(false) {
                continue;
            }
            let number = root.number;
            let epoch = self.core.hints.end_epoch();
            self.core.rescan(number, epoch);
            for gap in self.gaps.values_mut().filter(|gap| gap.root == number && gap.epoch.is_none()) {
                gap.epoch = Some(epoch);
            }
        }
        Ok(())
    }
}
