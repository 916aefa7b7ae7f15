//! The scrub: is what was captured what is there, on both sides?
//!
//! It runs on a thread of whoever asks for it, walks the tables directory by directory, reads every byte of the replica
//! through views (so apply goes on) and asks the master for the same bytes, a bounded question at a time. It rests as
//! long as its rate demands, and while apply lags.
//!
//! **What is equal is equal; what differs is only a suspicion.** Either side may be on the move. A suspicion is looked
//! at again between two barriers B1 and B2 (`confirm`): the master reads after B1 stands and before B2 is asked for; the
//! replica reads View(B2). Everything noticed before B1 is in the stream before B1, so a change that the master saw and
//! the stream does not have up to B1 was noticed after it and lies between B1 and B2. If no capture of that stretch
//! touches the node, its name or a directory above it, both sides speak of the same unchanged file, and a difference is
//! real. If one does, the file is put off and looked at again at the end; a file that never rests is counted as passed.
//! While a gap is open nothing is called a change that capture missed: it is being compared anyway.
//!
//! **Whose fault it is.** The master's index remembers hashes of what was captured. If the master's bytes have them the
//! replica's are wrong; if not, capture has missed a change. The latter is captured at once, as any change: what the
//! replica had stays reachable. But if the file has the change time under which it was captured, it has rotted as far as
//! anybody can tell, and is left, told, for the replica is right. The former is repaired if that was asked for, in the same way: the master tells the file
//! anew, compared with what the replica shows, and the journal keeps what stood there before. Names that are strange in the
//! replica tree are put aside (`mend`); those that are missing are made again, the bytes of files had from the master (`fetch`).

mod confirm;
mod cursor;
mod fetch;
mod look;
mod mend;
mod walk;

#[cfg(test)]
mod tests;

pub use cursor::SCRUB_CURSOR_MAX;

use super::Replica;
use journal::log::RecordAt;
use journal::proofs::Scrubbed;
use journal::{Edge, JournalError, Lsn, NodeId, RootNo, TreeIo};
use std::collections::VecDeque;
use std::time::{Duration, Instant};
use wire::stream::{CaptureItem, SCRUB_BLOCK_BITS, ScrubAnswer, ScrubAsk};

/// Bytes of a block.
pub(super) const BLOCK: u64 = 1 << SCRUB_BLOCK_BITS;
/// Most bytes that one question makes a side read.
const ASK_BYTES: u64 = 32 << 20;
/// Most differences told one by one; the rest is counted.
const DIFFERENCES_MAX: usize = 1000;
/// Suspicions that are looked at between two barriers.
const SUSPECTS_MAX: usize = 64;
/// Files that moved and are looked at again at the end; more are passed.
const LATER_MAX: usize = 10_000;
/// Most names told that were not compared; the rest is counted.
const PASSED_MAX: usize = 100;
/// Why something was not compared.
const LEFT_OUT: &str = "it is excluded, or on another file system";
const UNREADABLE: &str = "the master cannot read it";
const MOVING: &str = "it changed all the while";
const NOT_KEPT: &str = "capture could not keep it";
const UNLISTED: &str = "its names cannot be listed";
/// Bytes a second that telling how far it is may take on a disk.
const TOLD_BYTES_A_SECOND: u64 = 256 << 10;
/// How often a file that moves is looked at again at the end.
const ROUNDS: usize = 8;
/// Pause between two of those rounds.
const ROUND_PAUSE: Duration = Duration::from_millis(500);
/// How often something that is waited for is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What a scrub does.
#[derive(Clone, Debug, Default)]
pub struct ScrubOptions {
    /// Only this root and what lies at or below this path of it.
    pub below: Option<(RootNo, Vec<u8>)>,
    /// Put right what the replica has wrong.
    pub repair: bool,
    /// Bytes of files a second, each side; 0: as fast as it goes.
    pub bytes_per_second: u64,
    /// So many roots.
    pub roots: u16,
    /// What [`ScrubHost::reached`] was told last of a scrub that was cut off; one of something else is left aside.
    pub from: Option<Vec<u8>>,
    /// Who asks for it: whoever goes on with it says the same. Nobody else does.
    pub asker: u64,
    /// How often the host is told at most, unless something was found.
    pub tell_every: Duration,
}

/// The way to the master, and who waits.
pub trait ScrubHost {
    /// Asks the master.
    ///
    /// # Errors
    /// If it is gone, does not answer, or cannot.
    fn ask(&self, ask: ScrubAsk) -> Result<ScrubAnswer, ScrubError>;
    /// A barrier in the stream.
    ///
    /// # Errors
    /// As above.
    fn barrier(&self) -> Result<Lsn, ScrubError>;
    /// Whether to give up.
    fn interrupted(&self) -> bool;
    /// How far it is: names, files and bytes compared.
    fn progress(&self, entries: u64, files: u64, bytes: u64);
    /// A difference, as soon as it is sure; the how manieth it is, those of earlier attempts included.
    fn found(&self, difference: &Difference, number: u64);
    /// A name that is not compared, and why; the how manieth it is.
    fn passed(&self, root: RootNo, path: &[u8], why: &'static str, number: u64);
    /// What [`ScrubOptions::from`] has to be for the scrub to go on from here, if it is cut off.
    fn reached(&self, cursor: &[u8]);
    /// An earlier scrub that was cut off is gone on with, which had compared so many names and bytes.
    fn goes_on(&self, entries: u64, bytes: u64);
}

/// Why a scrub ended before its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScrubError {
    /// Somebody asked for it.
    #[error("the scrub was interrupted")]
    Interrupted,
    /// The replica does not follow the capture: there is nothing to compare.
    #[error("the replica does not follow the capture: {0}")]
    NotFollowing(String),
    /// The replica cannot be read.
    #[error("read the replica")]
    Journal(#[from] JournalError),
    /// The master did not answer as it should.
    #[error("ask the master: {0}")]
    Master(String),
}

/// Who has something wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The replica has not what was captured.
    Replica,
    /// The master has what was never captured.
    Master,
    /// One of both; which one nobody knows.
    Unknown,
    /// The master has other bytes than were captured, and nothing says that they were written: rot, or a write through a
    /// memory map. What the replica has is left alone.
    Rot,
}

/// A difference that was confirmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Root it lies in.
    pub root: RootNo,
    /// Path below the root.
    pub path: Vec<u8>,
    /// What differs: `bytes`, `size`, `mode`, `owner`, `mtime`, `xattrs`, `kind`, `target`, `missing`, `extra`.
    pub what: &'static str,
    /// Whose fault it is.
    pub side: Side,
    /// For bytes: where the first block begins that differs.
    pub offset: Option<u64>,
    /// Both sides are equal now.
    pub repaired: bool,
    /// What stood there was moved out of the tree: where it is now, below the kept area of its root.
    pub aside: Option<String>,
}

/// What a scrub came to.
#[derive(Clone, Debug, Default)]
pub struct ScrubReport {
    /// Sums; not journaled yet. `replica_differs` counts what is left, `master_differs` what was captured now.
    pub sums: Scrubbed,
    /// The differences; at most some.
    pub differences: Vec<Difference>,
    /// All differences, repaired ones included.
    pub found: u64,
    /// Of them, equal now.
    pub repaired: u64,
    /// What was not compared, below which root, and why; at most some.
    pub passed: Vec<(RootNo, Vec<u8>, &'static str)>,
}

/// Something that looked different once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Suspect {
    root: RootNo,
    path: Vec<u8>,
    edge: Edge,
    /// What the tables have there; `None`: nothing.
    node: Option<NodeId>,
    /// First block of the stretch that differed.
    first: u64,
    /// It was found to differ, and what was begun to put it right was not seen to its end.
    tried: Option<Tried>,
}

/// What was found, and what was done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tried {
    differs: look::Differs,
    /// Where it was moved to.
    aside: Option<String>,
}

pub(super) struct Scrub<'s, T: TreeIo, H: ScrubHost> {
    replica: &'s std::sync::Arc<Replica<T>>,
    host: &'s H,
    options: ScrubOptions,
    report: ScrubReport,
    suspects: Vec<Suspect>,
    later: VecDeque<Suspect>,
    /// Of a scrub of one path, what it leads to.
    top: Option<walk::Top>,
    position: cursor::Position,
    /// The last barrier behind which suspicions were looked at, and a place in the redo stream before what came after it.
    since: (RecordAt, Lsn),
    privileged: bool,
    /// When the present stretch of reading began, and bytes read since.
    pace: (Instant, u64),
    /// When the host is to be told how far it is.
    tell_at: Instant,
    /// It was too much to be told, which has been said.
    too_much: bool,
}

impl<T: TreeIo> Replica<T> {
    /// Compares both sides; see [`ScrubReport`]. Blocks for as long as that takes.
    ///
    /// # Errors
    /// Why it ended before its end. What it had found by then is in `report`, what was captured anew stays so.
    pub fn scrub<H: ScrubHost>(
        self: &std::sync::Arc<Self>,
        options: ScrubOptions,
        host: &H,
        report: &mut ScrubReport,
    ) -> Result<(), ScrubError> {
        let mut scrub = Scrub::new(self, host, options);
        scrub.report.sums.began = self.journal.clock().now();
        scrub.report.sums.captured = self.journal.applied().captured;
        let outcome = scrub.begin().and_then(|()| scrub.run());
        if outcome.is_err() {
            scrub.tell_tried();
        }
        scrub.report.sums.ended = self.journal.clock().now();
        scrub.report.sums.complete = outcome.is_ok();
        *report = scrub.report;
        outcome
    }
}

impl<'s, T: TreeIo, H: ScrubHost> Scrub<'s, T, H> {
    fn new(replica: &'s std::sync::Arc<Replica<T>>, host: &'s H, options: ScrubOptions) -> Self {
        Scrub {
            replica,
            host,
            options,
            report: ScrubReport::default(),
            suspects: Vec::new(),
            later: VecDeque::new(),
            top: None,
            position: cursor::Position::default(),
            since: (RecordAt::default(), Lsn::ZERO),
            privileged: rustix::process::geteuid().is_root(),
            pace: (Instant::now(), 0),
            tell_at: Instant::now(),
            too_much: false,
        }
    }

    /// Goes on where an earlier one was cut off, if it was this one; else at the beginning.
    fn begin(&mut self) -> Result<(), ScrubError> {
        // A tree that shows something else may well not have it.
        self.top = self.top().or_else(|error| self.follows().and(Err(error)))?;
        let begun = self.options.from.take().and_then(|from| cursor::read(&self.of(), &from));
        let Some(begun) = begun else {
            self.position = self.beginning();
            return Ok(());
        };
        self.host.goes_on(begun.report.sums.entries, begun.report.sums.bytes);
        // It began when that one did.
        (self.report, self.position) = (begun.report, begun.position);
        (self.suspects, self.later) = (begun.suspects, begun.later.into());
        Ok(())
    }

    /// What it is of.
    fn of(&self) -> cursor::Of {
        let top = self.top.as_ref().map(|top| (top.edge.parent, top.node));
        cursor::Of::these(self.replica.journal.id(), top, &self.options)
    }

    /// Tells the host how far it is, if it is time.
    fn reached(&mut self) {
        if Instant::now() >= self.tell_at {
            self.tell();
        }
    }

    /// Tells the host how far it is. To be called only where `position` is true of everything in the report.
    fn tell(&mut self) {
        let began = Instant::now();
        let cursor =
            cursor::write(&self.of(), &self.position, &self.report, &self.suspects, self.later.iter());
        let bytes = cursor.as_ref().map_or(SCRUB_CURSOR_MAX, Vec::len) as u64;
        match cursor {
            Some(cursor) => self.host.reached(&cursor),
            None if !std::mem::replace(&mut self.too_much, true) => {
                let directories = self.position.stack.len();
                tracing::warn!(directories, "a scrub has too much before it to be gone on with where it is");
            }
            None => {}
        }
        // A long one is told of less often.
        let every = self.options.tell_every;
        let cost = (began.elapsed() * 20).max(Duration::from_secs(bytes / TOLD_BYTES_A_SECOND));
        self.tell_at = Instant::now() + every.max(cost.min(every * 60));
    }

    /// What was found to differ by the time the scrub was given up.
    fn tell_tried(&mut self) {
        let suspects = std::mem::take(&mut self.suspects);
        for suspect in suspects.into_iter().chain(std::mem::take(&mut self.later)) {
            self.left(suspect);
        }
    }

    /// If something was found to differ and nobody has looked at it since, it is told as left.
    fn left(&mut self, suspect: Suspect) -> bool {
        let Some(Tried { differs, aside }) = suspect.tried else { return false };
        self.found((suspect.root, suspect.path), differs, false, aside);
        true
    }

    fn run(&mut self) -> Result<(), ScrubError> {
        self.follows()?;
        if self.options.repair {
            self.clear_kept()?;
        }
        // What is missing is made again before what is in it is looked at.
        self.confirm()?;
        self.walk()?;
        self.confirm()?;
        for _ in 0..ROUNDS {
            if self.later.is_empty() {
                break;
            }
            let until = Instant::now() + ROUND_PAUSE;
            while Instant::now() < until {
                self.go_on()?;
                std::thread::sleep(LOOK_EVERY);
            }
            // Those that move still come back to the end of the list.
            for _ in 0..self.later.len() {
                let Some(suspect) = self.later.pop_front() else { break };
                self.suspect(suspect)?;
            }
            self.confirm()?;
        }
        for suspect in std::mem::take(&mut self.later) {
            self.give_up(suspect, MOVING);
        }
        self.follows()
    }

    /// Ends the scrub if somebody asked for it.
    fn go_on(&self) -> Result<(), ScrubError> {
        if self.host.interrupted() || self.replica.is_stopping() {
            return Err(ScrubError::Interrupted);
        }
        Ok(())
    }

    /// Refuses a replica that shows something else than what was captured.
    fn follows(&self) -> Result<(), ScrubError> {
        let status = self.replica.status();
        if let Some(why) = status.detached {
            return Err(ScrubError::NotFollowing(format!("it is detached ({why})")));
        }
        if let Some(super::Halt::Stopped(why)) = status.halt {
            return Err(ScrubError::NotFollowing(why));
        }
        Ok(())
    }

    /// Waits until the tree shows an LSN.
    fn wait_applied(&self, lsn: Lsn) -> Result<(), ScrubError> {
        while !self.replica.journal.wait_applied(lsn, LOOK_EVERY) {
            self.go_on()?;
            self.follows()?;
        }
        Ok(())
    }

    /// Pauses while apply lags, and as the rate demands.
    fn rest(&mut self, read: u64) -> Result<(), ScrubError> {
        let journaled = self.replica.journal.journaled();
        self.wait_applied(journaled)?;
        self.go_on()?;
        // Also if all that was captured is applied: it may show something else by now.
        self.follows()?;
        self.host.progress(self.report.sums.entries, self.report.sums.files, self.report.sums.bytes);
        let rate = self.options.bytes_per_second;
        if rate == 0 {
            return Ok(());
        }
        self.pace.1 += read;
        let due = self.pace.0 + Duration::from_secs_f64(self.pace.1 as f64 / rate as f64);
        while Instant::now() < due {
            self.go_on()?;
            let left = due.saturating_duration_since(Instant::now());
            std::thread::sleep(left.min(LOOK_EVERY));
        }
        // What was not used up is not saved up.
        self.pace = (Instant::now(), 0);
        Ok(())
    }

    /// Bytes that one question may make a side read.
    fn bytes_at_once(&self) -> u64 {
        match self.options.bytes_per_second {
            0 => ASK_BYTES,
            rate => (rate / 4).clamp(BLOCK, ASK_BYTES),
        }
    }

    /// Takes note of a suspicion, and looks at all of them again if they are many; `position` is behind it by now.
    fn suspect(&mut self, suspect: Suspect) -> Result<(), ScrubError> {
        self.suspects.push(suspect);
        self.confirm_if_many()
    }

    fn confirm_if_many(&mut self) -> Result<(), ScrubError> {
        if self.suspects.len() >= SUSPECTS_MAX { self.confirm() } else { Ok(()) }
    }

    fn put_off(&mut self, suspect: Suspect) {
        if self.later.len() < LATER_MAX {
            self.later.push_back(suspect);
        } else {
            self.give_up(suspect, MOVING);
        }
    }

    /// Something is not looked at again.
    fn give_up(&mut self, suspect: Suspect, why: &'static str) {
        let (root, path) = (suspect.root, suspect.path.clone());
        if !self.left(suspect) {
            self.pass(root, path, why);
        }
    }

    /// Something is not compared.
    fn pass(&mut self, root: RootNo, path: Vec<u8>, why: &'static str) {
        // Once for all stretches of a file.
        if self.report.passed.last().is_some_and(|last| (last.0, &last.1) == (root, &path)) {
            return;
        }
        self.report.sums.passed += 1;
        self.host.passed(root, &path, why, self.report.sums.passed);
        if self.report.passed.len() < PASSED_MAX {
            self.report.passed.push((root, path, why));
        }
    }

    fn found(
        &mut self,
        (root, path): (RootNo, Vec<u8>),
        differs: look::Differs,
        repaired: bool,
        aside: Option<String>,
    ) {
        let look::Differs { what, side, offset } = differs;
        let difference = Difference { root, path, what, side, offset, repaired, aside };
        self.host.found(&difference, self.report.found + 1);
        self.report.found += 1;
        self.report.repaired += u64::from(difference.repaired);
        // What is left is left, whoever has it wrong; a change that was captured is no loss, but was missed.
        self.report.sums.replica_differs += u64::from(!difference.repaired);
        let caught_up = difference.repaired && difference.side == Side::Master;
        self.report.sums.master_differs += u64::from(caught_up);
        if self.report.differences.len() < DIFFERENCES_MAX {
            self.report.differences.push(difference);
        }
    }

    fn capture_anew(&self, items: Vec<CaptureItem>) -> Result<(), ScrubError> {
        match self.host.ask(ScrubAsk::Capture { items })? {
            ScrubAnswer::Capturing => Ok(()),
            _ => Err(mixed_up()),
        }
    }
}

/// An answer to another question than was asked.
fn mixed_up() -> ScrubError {
    ScrubError::Master("it answered another question".to_owned())
}
