//! `scenario run`.

use super::create::Switch;
use crate::args::JobOptions;
use crate::context::Context;
use crate::{Outcome, wait};
use clap::ValueEnum;
use wire::v1;

/// What was typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the scenario
    name: String,
    /// What is sent of a file that differs, where its blocks are not known: all of it, or the blocks that differ
    #[arg(long, value_name = "MODE", default_value = "file")]
    sync: Sync,
    /// Take files of the same size and modification time as equal where no more is known; off: compare the content of
    /// every file
    #[arg(long, value_name = "on|off", num_args = 0..=1, require_equals = true, default_value = "on",
        default_missing_value = "on")]
    ignore_same: Switch,
    /// Compare and send nothing, because both sides are known to be equal; what differs stays so until it changes, and
    /// the gap stays open until the next synchronization
    #[arg(long)]
    skip_sync: bool,
    /// Of the job.
    #[command(flatten)]
    job: JobOptions,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Sync {
    File,
    Block,
}

/// Starts a scenario and waits until it replicates.
///
/// # Errors
/// Those of the daemon.
pub async fn run(args: Args, context: &Context) -> Outcome {
    let sync = match args.sync {
        Sync::File => v1::SyncMode::File,
        Sync::Block => v1::SyncMode::Block,
    };
    let request = v1::RunRequest {
        name: args.name,
        sync: sync.into(),
        ignore_same: Some(args.ignore_same == Switch::On),
        skip_sync: args.skip_sync,
        idempotency_key: args.job.idempotency_key.clone(),
    };
    let mut client = context.client().await?;
    wait::start(context, &args.job, client.scenarios.run(request)).await
}
