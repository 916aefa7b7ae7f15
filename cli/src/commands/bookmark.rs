//! Verbs of bookmarks.

pub mod delete;
pub mod list;
pub mod set;

use crate::Outcome;
use crate::context::Context;
use clap::Subcommand;

/// Verbs of bookmarks.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Give the present, or a past point, a name
    Set(set::Args),
    /// List bookmarks, oldest first
    List(list::Args),
    /// Remove a bookmark
    Delete(delete::Args),
}

/// Runs a verb.
///
/// # Errors
/// The verb's.
pub async fn run(command: Command, context: &Context) -> Outcome {
    match command {
        Command::Set(args) => set::run(args, context).await,
        Command::List(args) => list::run(args, context).await,
        Command::Delete(args) => delete::run(args, context).await,
    }
}
