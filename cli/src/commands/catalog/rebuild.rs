//! `catalog rebuild`.

use crate::args::JobOptions;
use crate::context::Context;
use crate::{Outcome, wait};
use wire::v1;

/// What was typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only the sessions of this repository
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    repository: String,
    /// Of the job.
    #[command(flatten)]
    job: JobOptions,
}

/// Rebuilds.
///
/// # Errors
/// Those of the daemon.
pub async fn run(args: Args, context: &Context) -> Outcome {
    let request = v1::CatalogRebuildRequest {
        repository: args.repository,
        idempotency_key: args.job.idempotency_key.clone(),
    };
    let mut client = context.client().await?;
    wait::start(context, &args.job, client.catalog.rebuild(request)).await
}
