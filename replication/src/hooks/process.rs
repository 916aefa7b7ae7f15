//! Which process it was, told apart from a later one of the same number.
//!
//! A number is given again, but not with the same time of birth in the same life of the kernel.

use super::{KILL_WAIT, LOOK_EVERY};
use bincode::{Decode, Encode};
use rustix::process::{Pid, Signal, kill_process_group};
use std::time::Instant;

/// A process, and the head of the group of its number.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Process {
    /// Id of the life of the kernel.
    boot: String,
    id: u32,
    /// When it was born, in ticks of the kernel since its start.
    born: u64,
}

impl Process {
    /// The one that has this number now, if there is one.
    pub fn of(id: u32) -> Option<Self> {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        // The name of the program stands in parentheses and may hold anything; behind the last one stands the state,
        // which is the third field. The time of birth is the twenty-second.
        let (_, rest) = stat.rsplit_once(") ")?;
        let mut fields = rest.split(' ');
        let state = fields.next()?;
        let born = fields.nth(18)?.parse().ok()?;
        // A zombie does nothing any more.
        (state != "Z").then(|| Process { boot: boot.trim().to_owned(), id, born })
    }

    /// Whether it is still there.
    pub fn lives(&self) -> bool {
        Process::of(self.id).as_ref() == Some(self)
    }

    /// Kills its group, if it is still there. Whether it is gone.
    pub fn kill_group(&self) -> bool {
        if !self.lives() {
            return true;
        }
        if let Some(group) = i32::try_from(self.id).ok().and_then(Pid::from_raw) {
            // It may have ended meanwhile, and then there may be nobody.
            let _ = kill_process_group(group, Signal::KILL);
        }
        let give_up = Instant::now() + KILL_WAIT;
        while self.lives() && Instant::now() < give_up {
            std::thread::sleep(LOOK_EVERY);
        }
        !self.lives()
    }
}
