//! Hooks: commands that the master runs for a scenario.
//!
//! They are stored here and sent to the master, which runs them only if its own configuration allows it. Checked is
//! only what would make one useless everywhere: its length, and bytes that no command line can hold.

use super::bad_setting;
use crate::engine::EngineError;
use bincode::{Decode, Encode};
use std::time::Duration;
use wire::units::parse_duration;

/// Default of `hook-timeout`.
pub const HOOK_TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);
/// Least `hook-timeout`.
pub const HOOK_TIMEOUT_MIN: Duration = Duration::from_secs(1);
/// Greatest `hook-timeout`: nobody wants an application to stand still for longer.
pub const HOOK_TIMEOUT_MAX: Duration = Duration::from_secs(3600);
/// Longest command in bytes.
pub const HOOK_BYTES_MAX: usize = wire::stream::TEXT_BYTES_MAX;

/// Commands for a shell of the master.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Hooks {
    /// Brings the application into a state that can be copied, and holds it there.
    pub quiesce: Option<String>,
    /// Lets it go on; run whatever comes of the rest.
    pub thaw: Option<String>,
    /// Kept; nothing runs it yet.
    pub stop: Option<String>,
    /// Kept; nothing runs it yet.
    pub start: Option<String>,
    /// Thaw begins at the latest so long after quiesce began, and may take as long again.
    pub timeout: Duration,
}

impl Default for Hooks {
    fn default() -> Self {
        let (quiesce, thaw, stop, start) = (None, None, None, None);
        Hooks { quiesce, thaw, stop, start, timeout: HOOK_TIMEOUT_DEFAULT }
    }
}

impl Hooks {
    /// Takes `NAME=CMD`; an empty command takes the hook away.
    ///
    /// # Errors
    /// `BAD_SETTING`.
    pub(super) fn set(&mut self, text: &str) -> Result<(), EngineError> {
        let expected = "quiesce=CMD, thaw=CMD, stop=CMD or start=CMD";
        let (name, command) = text.split_once('=').ok_or_else(|| bad_setting("hook", text, expected))?;
        let hook = match name {
            "quiesce" => &mut self.quiesce,
            "thaw" => &mut self.thaw,
            "stop" => &mut self.stop,
            "start" => &mut self.start,
            _ => return Err(bad_setting("hook", text, expected)),
        };
        *hook = (!command.is_empty()).then(|| command.to_owned());
        Ok(())
    }

    /// Takes the text of `hook-timeout`.
    ///
    /// # Errors
    /// `BAD_SETTING`.
    pub(super) fn set_timeout(&mut self, text: &str) -> Result<(), EngineError> {
        self.timeout =
            parse_duration(text).map_err(|_| bad_setting("hook-timeout", text, "a duration such as 60s"))?;
        Ok(())
    }

    /// Checks all that can be known here.
    ///
    /// # Errors
    /// `BAD_SETTING`.
    pub(super) fn check(&self) -> Result<(), EngineError> {
        for command in [&self.quiesce, &self.thaw, &self.stop, &self.start].into_iter().flatten() {
            if command.is_empty() || command.len() > HOOK_BYTES_MAX || command.contains('\0') {
                let expected = format!("a command of at most {HOOK_BYTES_MAX} bytes");
                return Err(bad_setting("hook", command.get(..40).unwrap_or(command), &expected));
            }
        }
        if !(HOOK_TIMEOUT_MIN..=HOOK_TIMEOUT_MAX).contains(&self.timeout) {
            let value = format!("{}s", self.timeout.as_secs_f64());
            return Err(bad_setting("hook-timeout", &value, "1s to 1h"));
        }
        Ok(())
    }
}
