//! What was proved, and when.
//!
//! Two proofs, never taken for one another. At barriers the digests of master and tables are compared: the replica is
//! what was captured. A scrub reads the bytes of both sides: what was captured is what is there. [`Proofs`] is folded
//! from control records, the last of each kind decides; checkpoints carry it, so that the dates outlive old segments.

use crate::id::RootNo;
use crate::lsn::Lsn;
use crate::meta::Timestamp;
use crate::record::Control;
use bincode::{Decode, Encode};

/// A comparison of digests at a barrier.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Compared {
    captured: u64,
    /// When, by the replica's clock.
    pub time: Timestamp,
    /// The roots that differ.
    pub differs: Vec<RootNo>,
}

impl Compared {
    /// Digests compared at this barrier, at this time.
    #[must_use]
    pub fn new(lsn: Lsn, time: Timestamp, differs: Vec<RootNo>) -> Self {
        Compared { captured: lsn.captured, time, differs }
    }

    /// The barrier.
    #[must_use]
    pub const fn lsn(&self) -> Lsn {
        Lsn::captured(self.captured)
    }

    /// Whether all roots are equal.
    #[must_use]
    pub fn is_equal(&self) -> bool {
        self.differs.is_empty()
    }

    pub(crate) fn to_control(&self) -> Control {
        Control::Compared { captured: self.captured, time: self.time, differs: self.differs.clone() }
    }
}

/// A scrub that came to its end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Scrubbed {
    /// When it began and ended, by the replica's clock.
    pub began: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// The last captured LSN applied when it began.
    pub captured: u64,
    /// Entries looked at on the replica.
    pub entries: u64,
    /// Files whose bytes were compared on both sides.
    pub files: u64,
    /// Bytes of these files, once for both sides.
    pub bytes: u64,
    /// Files that changed meanwhile, or could not be read: not compared.
    pub passed: u64,
    /// Differences that are left, whoever has it wrong.
    pub replica_differs: u64,
    /// Changes of the master that capture had missed; they are captured now.
    pub master_differs: u64,
    /// Whether all of both sides was looked at.
    pub complete: bool,
}

/// The newest proofs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Proofs {
    /// Of digests.
    pub compared: Option<Compared>,
    /// Of bytes.
    pub scrubbed: Option<Scrubbed>,
    /// When a comparison was journaled last.
    journaled: Timestamp,
}

/// A comparison that says what the last one said is journaled this much later.
const AGAIN: i64 = 60_000_000_000;

impl Proofs {
    /// Takes a control record.
    pub fn control(&mut self, control: &Control) {
        match control {
            Control::Compared { captured, time, differs } => {
                self.compared = Some(Compared { captured: *captured, time: *time, differs: differs.clone() });
                self.journaled = *time;
            }
            Control::Scrubbed(scrubbed) => self.scrubbed = Some(scrubbed.clone()),
            _ => {}
        }
    }

    /// Takes a comparison; whether it has to be journaled: not each of many barriers costs a record.
    pub(crate) fn compared(&mut self, compared: &Compared) -> bool {
        let before = self.compared.replace(compared.clone());
        let told = before.is_some_and(|before| before.differs == compared.differs);
        !told || compared.time.0.saturating_sub(self.journaled.0).unsigned_abs() > AGAIN.unsigned_abs()
    }
}

#[cfg(test)]
mod tests;
