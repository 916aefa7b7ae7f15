//! Verbs of repositories.

pub mod add;
pub mod list;

use crate::Outcome;
use crate::context::Context;
use clap::Subcommand;

/// Verbs of repositories.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Add a repository; it is made unless there is one at the place
    Add(add::Args),
    /// List repositories
    List,
}

/// Runs a verb.
///
/// # Errors
/// The verb's.
pub async fn run(command: Command, context: &Context) -> Outcome {
    match command {
        Command::Add(args) => add::run(args, context).await,
        Command::List => list::run(context).await,
    }
}
