//! `scenario resume`.

use crate::args::JobOptions;
use crate::context::Context;
use crate::{Outcome, wait};
use wire::v1;

/// What was typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the scenario
    name: String,
    /// Of the job.
    #[command(flatten)]
    job: JobOptions,
}

/// Goes on after suspend or rewind and waits until the scenario replicates.
///
/// # Errors
/// Those of the daemon.
pub async fn run(args: Args, context: &Context) -> Outcome {
    let request = v1::ResumeRequest { name: args.name, idempotency_key: args.job.idempotency_key.clone() };
    let mut client = context.client().await?;
    wait::start(context, &args.job, client.scenarios.resume(request)).await
}
