//! Which session is restored, and what is said of one that lacks something.
//!
//! The newest session is the newest also while its repository cannot be reached: then nothing is restored unless somebody
//! names another.
//!
//! A session that could not read everything is still the newest, and is restored; but nobody is to take it for all there
//! was, and nothing is removed because it does not hold it.

use super::{Host, holds};
use crate::engine::{EngineError, EngineResult, SessionName};
use crate::vault::Found;
use restore::session;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use wire::codes;

impl Host {
    /// The newest session that holds a path.
    pub(super) fn holding(&self, path: &Path, scenario: Option<&str>) -> EngineResult<Found> {
        if let Some(scenario) = scenario {
            self.context.registry.get(scenario)?;
        }
        let bytes = path.as_os_str().as_bytes();
        let mut first = None;
        for name in self.context.vault.holding(bytes, scenario) {
            match self.context.vault.find(&name) {
                Ok(found) if holds(&found, bytes)? => return Ok(found),
                Ok(_) => {}
                // One that was forgotten is not the newest any more. Of all else whoever asks is told: nobody is to get an
                // older tree unasked.
                Err(error) if *error.code() == codes::NO_SUCH_SESSION => first = first.or(Some(error)),
                Err(error) => return Err(unread(&name, error)),
            }
        }
        Err(first.unwrap_or_else(|| {
            let message = format!("no session holds {}", path.display());
            EngineError::new(&codes::NO_SUCH_PATH, message)
        }))
    }

    /// What is said of a session that is not complete, with the newest of the same root that is.
    pub(super) fn lacking(&self, found: &Found) -> Option<(String, String)> {
        let missed = found.record.missed();
        if missed == 0 {
            return None;
        }
        let scenario = found.made.as_ref().map(|made| made.scenario_name.as_str());
        let complete = self.context.vault.newest_complete(&found.entity(), scenario);
        let which = complete.map_or_else(
            || "no session that this daemon made of the same root is complete".to_owned(),
            |session| {
                let repository = session.repository.unwrap_or_default();
                let short: String = session.id.chars().take(16).collect();
                format!("session {short} in repository \"{repository}\" is the newest complete one")
            },
        );
        Some((session::lacking(missed), which))
    }
}

/// The newest session may hold the path, and cannot be read.
fn unread(session: &SessionName, error: EngineError) -> EngineError {
    let short: String = session.id.chars().take(16).collect();
    let repository = session.repository.as_deref().unwrap_or_default();
    let message = format!("read session {short} of repository \"{repository}\", the newest of the path");
    EngineError::new(error.code(), message).caused_by(error).advise(format!(
        "Make repository \"{repository}\" reachable, or name another session: `--session ID`, from `restorectl session list`."
    ))
}
