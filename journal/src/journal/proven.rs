//! What is known of proofs, and taking note of new ones.

use super::Journal;
use crate::error::JournalError;
use crate::proofs::{Compared, Proofs, Scrubbed};
use crate::record::Control;

impl Journal {
    /// The newest proofs.
    #[must_use]
    pub fn proofs(&self) -> Proofs {
        self.proofs.read().clone()
    }

    /// Takes note of a comparison of digests. It is journaled if it says something new, or after a while.
    ///
    /// # Errors
    /// As [`Journal::control`].
    pub fn compared(&self, compared: &Compared) -> Result<(), JournalError> {
        let journals = self.proofs.write().compared(compared);
        if journals { self.control(compared.to_control()) } else { Ok(()) }
    }

    /// Journals the end of a scrub.
    ///
    /// # Errors
    /// As [`Journal::control`].
    pub fn scrubbed(&self, scrubbed: Scrubbed) -> Result<(), JournalError> {
        self.control(Control::Scrubbed(scrubbed))
    }
}
