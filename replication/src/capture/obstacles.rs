//! What stands in the way: names that cannot be looked at, and all that lies below them.
//!
//! A hint at something that cannot be reached now must neither wait (a barrier would wait with it, for as long as a
//! mount lasts) nor be tried again at once, nor be lost. So it is given up, loudly: the name that stands in the way is
//! told as skipped. Nothing else need be remembered, because of two rules:
//!
//! - A skip of a whole directory is taken back only when everything below it is compared (`look`, `list`). Whatever
//!   was told of below it meanwhile is found by that.
//! - A node found under a new name, whose old way led over such a skip, is compared as well (`close_names`): it may
//!   have left before the skip was taken back. So is everything found in the round that takes it back.
//!
//! Mounts come and go with a notification. Of all other obstacles nobody may tell that they are gone (a failing disk,
//! no descriptors left, a directory above that may be searched again): they are looked at every few seconds, and
//! before a barrier stands. Of more than [`OBSTACLES_MAX`] the others wait for a hint or a rescan, as skips do.
//!
//! Names that change hands whenever they are looked at are obstacles too, after [`LOOKS_MAX`] looks, between which there
//! is a pause whoever waits: a writer can keep a barrier waiting for seconds, and the agent busy for none of them.
//!
//! Below a root that is lost nothing is remembered either: a gap is open, and it is compared as a whole when it is
//! back.

use super::CaptureError;
use super::core::Core;
use super::facts::{Facts, Seen};
use super::hints::{Hint, ListHint};
use super::watch::Why;
use journal::{Edge, NodeId, SkippedWhat};
use rustix::io::Errno;
use std::time::{Duration, Instant};

/// Looks at a name that came to nothing because things moved.
const LOOKS_MAX: u32 = 200;
/// Longest pause between two of them, in milliseconds; there is one more with each.
const PAUSE_MAX: u32 = 20;
/// Names looked at from time to time.
const OBSTACLES_MAX: usize = 1024;

impl Core {
    /// A name that cannot be looked at, or a directory that cannot be entered: said, and tried again later.
    pub(super) fn obstruct(&mut self, facts: &Facts, edge: &Edge, errno: Errno) -> Result<(), CaptureError> {
        self.skip(edge, SkippedWhat::Node, errno, facts)?;
        if self.obstacles.len() < OBSTACLES_MAX {
            self.obstacles.insert(edge.clone());
        }
        Ok(())
    }

    /// The same of a name in the picture: what the index says of it stands.
    pub(super) fn see_obstacle(
        &mut self,
        facts: &mut Facts,
        edge: &Edge,
        errno: Errno,
    ) -> Result<(), CaptureError> {
        self.obstruct(facts, edge, errno)?;
        facts.see(edge, Seen::Unknown);
        facts.blocked.insert(edge.clone());
        Ok(())
    }

    /// Nothing is mounted there any more: all that was covered is compared before that is said.
    pub(super) fn uncover(&mut self, facts: &mut Facts, edge: &Edge) -> Result<(), CaptureError> {
        facts.compare = true;
        if let Some(node) = self.index.child(edge)? {
            self.hints.list(node, ListHint { epoch: facts.epoch, recursive: true, compare: true, tries: 0 });
        }
        self.unskip_what(edge, SkippedWhat::MountPoint)
    }

    /// Has obstacles looked at again.
    pub(super) fn look_at_obstacles(&mut self) {
        let epoch = self.hints.epoch();
        // Hints at it were given up: nobody knows any more what they were about. What changes hands yet is given up again
        // at once.
        let why = Why { name: true, content: true, attributes: true, ..Why::default() };
        for edge in std::mem::take(&mut self.obstacles) {
            self.hints.put_back(edge, Hint { why, epoch, tries: LOOKS_MAX, ..Hint::default() });
        }
    }

    /// A look came to nothing because things moved: has the name looked at again, or gives it up.
    pub(super) fn again(
        &mut self,
        facts: &Facts,
        edge: Edge,
        why: Why,
        epoch: u64,
    ) -> Result<(), CaptureError> {
        let tries = facts.hints.get(&edge).map_or(0, |hint| hint.tries) + 1;
        if tries > LOOKS_MAX {
            return self.obstruct(facts, &edge, Errno::AGAIN);
        }
        self.hints.put_back(edge, Hint { why, epoch, not_before: None, paused: pause(tries), tries });
        Ok(())
    }

    /// The same of a directory that could not be listed because it was not found at `doubt`.
    pub(super) fn list_again(
        &mut self,
        facts: &Facts,
        directory: NodeId,
        mut hint: ListHint,
        doubt: &Edge,
    ) -> Result<(), CaptureError> {
        hint.tries += 1;
        if hint.tries > LOOKS_MAX || self.lacks(doubt, SkippedWhat::Node)? {
            return self.obstruct(facts, doubt, Errno::AGAIN);
        }
        match pause(hint.tries) {
            Some(until) => self.hints.list_later(directory, hint, until),
            None => self.hints.list(directory, hint),
        }
        Ok(())
    }

    /// Whether this directory is one of which all below has to be compared before its skip is taken back.
    pub(super) fn owes_comparison(&self, edge: Option<&Edge>) -> Result<bool, CaptureError> {
        edge.map_or(Ok(false), |edge| self.lacks(edge, SkippedWhat::Node))
    }

    /// Whether nothing at all is known of what stands at this name, and below it.
    pub(super) fn is_skipped_whole(&self, edge: &Edge) -> Result<bool, CaptureError> {
        Ok(self.lacks(edge, SkippedWhat::Node)? || self.lacks(edge, SkippedWhat::MountPoint)?)
    }

    /// Whether something on the way to this name, or the name itself, is skipped as a whole.
    pub(super) fn is_below_skip(&self, edge: &Edge) -> Result<bool, CaptureError> {
        if self.skip_count == 0 {
            return Ok(false);
        }
        let mut at = Some(edge.clone());
        // Nothing bounds a cycle in a damaged index but this.
        for _ in 0..1 << 16 {
            let Some(edge) = at else { break };
            if self.is_skipped_whole(&edge)? {
                return Ok(true);
            }
            at = self.parent_edge(edge.parent)?;
        }
        Ok(false)
    }

    fn parent_edge(&self, directory: NodeId) -> Result<Option<Edge>, CaptureError> {
        if directory.as_root_or_kept().is_some() {
            return Ok(None);
        }
        Ok(self.index.names_of(directory)?.into_iter().next())
    }
}

/// The first look follows at once: most of what moves does so once.
fn pause(tries: u32) -> Option<Instant> {
    let pause = Duration::from_millis(tries.saturating_sub(1).min(PAUSE_MAX).into());
    (!pause.is_zero()).then(|| Instant::now() + pause)
}
