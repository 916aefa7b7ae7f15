//! Verbs of sessions.

pub mod list;

use crate::Outcome;
use crate::context::Context;
use clap::Subcommand;

/// Verbs of sessions.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List sessions, newest first
    List(list::Args),
}

/// Runs a verb.
///
/// # Errors
/// The verb's.
pub async fn run(command: Command, context: &Context) -> Outcome {
    match command {
        Command::List(args) => list::run(args, context).await,
    }
}
