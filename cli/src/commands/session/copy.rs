//! `session copy`.

use crate::args::JobOptions;
use crate::context::Context;
use crate::{Outcome, wait};
use wire::v1;

/// What was typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Id of the session, or an unambiguous beginning
    id: String,
    /// Where to: the name of a repository, or tape:///dev/nst0, or tape:///DIR for a directory that is used as a drive, as
    /// the daemon sees it
    #[arg(long, value_name = "REPOSITORY")]
    to: String,
    /// On tape: pool whose volumes are written [default: that of the volume in the drive]
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    pool: String,
    /// Copy it from this repository; needed only where several hold a session of this id
    #[arg(long, value_name = "NAME")]
    repository: Option<String>,
    /// Of the job.
    #[command(flatten)]
    job: JobOptions,
}

/// Copies a session into another repository or to tape.
///
/// # Errors
/// Those of the daemon.
pub async fn run(args: Args, context: &Context) -> Outcome {
    let request = v1::CopySessionRequest {
        id: args.id,
        repository: args.repository.unwrap_or_default(),
        to: args.to,
        pool: args.pool,
        idempotency_key: args.job.idempotency_key.clone(),
    };
    let mut client = context.client().await?;
    wait::start(context, &args.job, client.sessions.copy(request)).await
}
