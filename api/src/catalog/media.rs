//! Listings of tape repositories that are lost, or that nobody has made yet, are made again in the background.
//!
//! Only what the journal knows is read, at the places that it remembers; but of a repository that was added just now all that its
//! volumes hold. Nothing else moves a drive unasked: a session whose volumes are not at hand is told of once, and is read
//! when `catalog rebuild --repository NAME` is given. A job that wants the drive has it at once.

use super::Keeper;
use crate::engine::Level;
use crate::tapes::Hold;
use crate::vault::{TapeRepository, Which};
use snapshot::session::Monitor;
use std::time::Duration;
use wire::codes;

/// Until the drive is asked for again that a job has.
pub(super) const AGAIN: Duration = Duration::from_secs(5);

/// Goes on until somebody wants the drive.
struct GiveWay<'k>(&'k Keeper, &'k Hold);

impl Monitor for GiveWay<'_> {
    fn progress(&self, _: u64, _: u64) {}

    fn cancelled(&self) -> bool {
        self.0.is_stopping() || self.1.is_wanted()
    }
}

impl Keeper {
    /// Reads what the listings of tape repositories lack; false if a drive was not free.
    pub(super) fn read_lost(&self) -> bool {
        let tapes = self.vault.tape_repositories();
        // All of them: none is to wait for another one's drive.
        tapes
            .iter()
            .map(|tape| self.is_stopping() || self.read_lost_of(tape))
            .fold(true, |all, one| all & one)
    }

    fn read_lost_of(&self, tape: &TapeRepository) -> bool {
        let is_new = self.vault.is_unread(tape.number);
        let which = if is_new { Which::All } else { Which::Lost };
        let is_told = self.told_of.lock().contains(&tape.number);
        match self.vault.has_lost(tape) {
            Ok(false) if !is_new => return true,
            Ok(true) if !is_new && is_told => return true,
            Ok(_) => {}
            Err(error) => {
                self.tell(tape, &error.to_failure().to_string());
                return true;
            }
        }
        let Some(hold) = self.vault.drives().take_unless_held(&tape.url, "what is on the volumes is read")
        else {
            return false;
        };
        match self.vault.read_media(tape, which, &GiveWay(self, &hold)) {
            Ok(report) => {
                self.vault.was_read(tape.number);
                for (session, why) in &report.failed {
                    let text =
                        format!("{session} of repository \"{}\" cannot be read from tape: {why}", tape.name);
                    self.activity.write(Level::Warning, "", None, &text);
                }
                if !report.failed.is_empty() {
                    self.told_of.lock().insert(tape.number);
                }
                let text = format!(
                    "{} of repository \"{}\" were read from tape",
                    super::fill::sessions_text(report.read),
                    tape.name
                );
                self.activity.write(Level::Info, "", None, &text);
                true
            }
            Err(error) if *error.code() == codes::CANCELLED || *error.code() == codes::TAPE_BUSY => false,
            Err(error) => {
                self.vault.was_read(tape.number);
                self.told_of.lock().insert(tape.number);
                self.tell(tape, &error.to_failure().to_string());
                true
            }
        }
    }

    fn tell(&self, tape: &TapeRepository, why: &str) {
        self.say(&format!(
            "the listing of repository \"{}\" cannot be made again from tape: {why}",
            tape.name
        ));
    }
}
