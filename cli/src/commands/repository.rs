//! Verbs of repositories.

pub mod add;
pub mod check;
pub mod forget;
pub mod list;
pub mod prune;
pub mod stats;
pub mod unlock;

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
    /// Show what a repository holds, what of it is unused, and when it was verified
    Stats(stats::Args),
    /// Check that everything stored is as it was written; exit status 8 if not
    Check(check::Args),
    /// Remove what no session needs; asks before
    Prune(prune::Args),
    /// Remove locks whose holders are gone
    Unlock(unlock::Args),
    /// Forget sessions that a retention does not keep; asks before
    Forget(forget::Args),
}

/// Runs a verb.
///
/// # Errors
/// The verb's.
pub async fn run(command: Command, context: &Context) -> Outcome {
    match command {
        Command::Add(args) => add::run(args, context).await,
        Command::List => list::run(context).await,
        Command::Stats(args) => stats::run(args, context).await,
        Command::Check(args) => check::run(args, context).await,
        Command::Prune(args) => prune::run(args, context).await,
        Command::Unlock(args) => unlock::run(args, context).await,
        Command::Forget(args) => forget::run(args, context).await,
    }
}
