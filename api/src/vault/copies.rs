//! Copies of sessions in other repositories: one at a time of each, and remembered once.
//!
//! What a copy is, its record says ([`snapshot::session::copy`]); here it is a session like any other of its repository.

use super::Vault;
use crate::engine::{EngineError, EngineResult, Session};
use crate::points::wall_clock;
use crate::records::SessionMade;
use snapshot::repository::{Id, SessionRecord};
use wire::codes;

/// A copy that nobody else of this daemon makes as long as this lives.
pub struct Copying<'v> {
    vault: &'v Vault,
    what: (u64, Id),
}

impl Drop for Copying<'_> {
    fn drop(&mut self) {
        self.vault.copying.lock().remove(&self.what);
    }
}

impl Vault {
    /// Keeps others from copying the same session into the same repository.
    ///
    /// # Errors
    /// `COPY_BUSY`.
    pub fn begin_copy(&self, number: u64, original: Id) -> EngineResult<Copying<'_>> {
        if self.copying.lock().insert((number, original)) {
            return Ok(Copying { vault: self, what: (number, original) });
        }
        let text = format!("another job copies session {} there", original.short());
        Err(EngineError::new(&codes::COPY_BUSY, text))
    }

    /// Remembers a copy that is durable, unless it is remembered. `made` is what is known here of the session that was copied,
    /// `record` what the copy's own record says.
    ///
    /// # Errors
    /// Those of the journal.
    pub fn copied(
        &self,
        (number, id): (u64, &Id),
        made: Option<&SessionMade>,
        record: &SessionRecord,
        (bytes_read, bytes_stored): (u64, u64),
    ) -> EngineResult<Session> {
        let known = {
            let known = self.known.read();
            let is_it = |made: &&SessionMade| made.repository == number && made.session == id.0;
            known.sessions.iter().find(is_it).cloned()
        };
        if let Some(known) = known {
            return Ok(self.told(&known));
        }
        let copy = match made {
            Some(made) => SessionMade { repository: number, session: id.0, ..made.clone() },
            None => self.made_of(number, &id.0, 0, record),
        };
        let copy = SessionMade { time: wall_clock(), bytes_read, bytes_stored, incremental: false, ..copy };
        self.made(copy)
    }
}
