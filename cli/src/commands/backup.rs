//! `backup`.

use crate::args::JobOptions;
use crate::context::Context;
use crate::{Outcome, wait};
use wire::convert::duration_to_wire;
use wire::v1;

/// What was typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the scenario
    scenario: String,
    /// Name of the repository
    #[arg(long, value_name = "REPOSITORY")]
    to: String,
    /// The point to store: a bookmark's name, lsn:N, time:RFC3339, a time ago such as -10m [default: the newest]
    #[arg(long, value_name = "POINT", allow_hyphen_values = true)]
    at: Option<String>,
    /// Store the point of this snapshot
    #[arg(long, value_name = "ID", conflicts_with_all = ["at", "consistent"])]
    snapshot: Option<String>,
    /// Store a point made now while the application is held by the scenario's quiesce hook
    #[arg(long, conflicts_with = "at")]
    consistent: bool,
    /// Of the job.
    #[command(flatten)]
    job: JobOptions,
}

/// Backs up.
///
/// # Errors
/// Those of the daemon.
pub async fn run(args: Args, context: &Context) -> Outcome {
    let request = v1::BackupRequest {
        scenario: args.scenario,
        repository: args.to,
        at: args.at.unwrap_or_default(),
        idempotency_key: args.job.idempotency_key.clone(),
        consistent: args.consistent,
        timeout: Some(duration_to_wire(context.timeout())),
        resolved: String::new(),
        snapshot: args.snapshot.unwrap_or_default(),
    };
    let mut client = context.client().await?;
    wait::start(context, &args.job, client.sessions.backup(request)).await
}
