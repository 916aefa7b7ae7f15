//! Asks before something is changed that a person might miss.

use crate::output::Output;
use std::io::IsTerminal;
use wire::{Failure, codes};

/// Goes on if `--yes` was given or the person says yes.
///
/// # Errors
/// `NOT_CONFIRMED`.
pub async fn confirm(out: &Output, question: &str, yes: bool) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    let refused = |message: &str| Err(Failure::new(&codes::NOT_CONFIRMED, message));
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() || out.json {
        return refused("there is no terminal to ask on");
    }
    let prompt = question.to_owned();
    let asked = tokio::task::spawn_blocking(move || {
        dialoguer::Confirm::new().with_prompt(prompt).default(false).interact()
    });
    match asked.await {
        Ok(Ok(true)) => Ok(()),
        _ => refused("the answer was no"),
    }
}
