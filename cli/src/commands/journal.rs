//! Verbs of journals.

pub mod dump;
pub mod rebuild;
pub mod stats;
pub mod verify;

use crate::Outcome;
use crate::args::JobOptions;
use crate::context::Context;
use clap::Subcommand;
use wire::v1;

/// Verbs of journals.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print what is written in it, record by record
    Dump(dump::Args),
    /// Show its size and its window
    Stats(stats::Args),
    /// Read every stored byte and compare tables with segments; names what is damaged
    Verify(JobArgs),
    /// Make the projections anew
    Rebuild(JobArgs),
}

/// A journal and a job on it.
#[derive(Debug, clap::Args)]
pub struct JobArgs {
    /// Name of the scenario
    scenario: String,
    /// Of the job.
    #[command(flatten)]
    job: JobOptions,
}

impl JobArgs {
    fn message(&self) -> v1::JournalJobRequest {
        v1::JournalJobRequest {
            scenario: self.scenario.clone(),
            idempotency_key: self.job.idempotency_key.clone(),
        }
    }
}

/// Runs a verb.
///
/// # Errors
/// The verb's.
pub async fn run(command: Command, context: &Context) -> Outcome {
    match command {
        Command::Dump(args) => dump::run(args, context).await,
        Command::Stats(args) => stats::run(args, context).await,
        Command::Verify(args) => verify::run(args, context).await,
        Command::Rebuild(args) => rebuild::run(args, context).await,
    }
}
