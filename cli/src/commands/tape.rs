//! Verbs of tapes.

pub mod eject;
pub mod inventory;
pub mod label;

use crate::Outcome;
use crate::context::Context;
use clap::Subcommand;

/// Verbs of tapes.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show which volumes there are and what is on them
    Inventory(Drive),
    /// Give a medium its name; one that holds data is refused unless it is forced
    Label(label::Args),
    /// Put the medium out
    Eject(Drive),
}

/// A drive.
#[derive(Debug, clap::Args)]
pub struct Drive {
    /// The drive, as the daemon sees it: tape:///dev/nst0, or tape:///DIR for a directory that is used as one
    pub url: String,
}

/// Runs a verb.
///
/// # Errors
/// The verb's.
pub async fn run(command: Command, context: &Context) -> Outcome {
    match command {
        Command::Inventory(drive) => inventory::run(drive, context).await,
        Command::Label(args) => label::run(args, context).await,
        Command::Eject(drive) => eject::run(drive, context).await,
    }
}
