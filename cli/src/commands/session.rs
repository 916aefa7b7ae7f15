//! Verbs of sessions.

pub mod copy;
pub mod files;
pub mod list;
pub mod show;
pub mod verify;

use crate::Outcome;
use crate::context::Context;
use clap::Subcommand;

/// Verbs of sessions.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List sessions, newest first
    List(list::Args),
    /// Show a session
    Show(show::Args),
    /// List what a session holds
    Files(files::Args),
    /// Copy a session into another repository, or to tape
    Copy(copy::Args),
    /// Read all that a session needs and compare it
    Verify(verify::Args),
}

/// Runs a verb.
///
/// # Errors
/// The verb's.
pub async fn run(command: Command, context: &Context) -> Outcome {
    match command {
        Command::List(args) => list::run(args, context).await,
        Command::Show(args) => show::run(args, context).await,
        Command::Files(args) => files::run(args, context).await,
        Command::Copy(args) => copy::run(args, context).await,
        Command::Verify(args) => verify::run(args, context).await,
    }
}
