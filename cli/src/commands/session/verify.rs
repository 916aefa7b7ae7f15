//! `session verify`.

use crate::args::JobOptions;
use crate::context::Context;
use crate::{Outcome, wait};
use wire::v1;

/// What was typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Id of the session, or an unambiguous beginning
    id: String,
    /// Only a session of this repository
    #[arg(long, value_name = "NAME")]
    repository: Option<String>,
    /// Of the job.
    #[command(flatten)]
    job: JobOptions,
}

/// Reads all that a session needs and compares it.
///
/// # Errors
/// Those of the daemon; `VERIFICATION_FAILED`.
pub async fn run(args: Args, context: &Context) -> Outcome {
    let request = v1::VerifySessionRequest {
        id: args.id,
        repository: args.repository.unwrap_or_default(),
        idempotency_key: args.job.idempotency_key.clone(),
    };
    let mut client = context.client().await?;
    wait::start(context, &args.job, client.sessions.verify(request)).await
}
