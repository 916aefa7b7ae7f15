//! `restore tree`.

use super::Options;
use crate::Outcome;
use crate::context::Context;
use std::ffi::OsString;
use wire::v1;

/// What was typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Absolute path on the master
    #[arg(value_name = "MASTER_PATH")]
    path: OsString,
    /// Only sessions of this scenario
    #[arg(long, value_name = "NAME")]
    scenario: Option<String>,
    /// This session, not the newest that holds the path
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// Not a session but this point of the scenario's journal: a bookmark's name, lsn:N, time:RFC3339, -10m ...
    #[arg(long, value_name = "POINT", allow_hyphen_values = true, conflicts_with = "session")]
    at: Option<String>,
    /// Remove what the session does not hold, at and below the path
    #[arg(long)]
    delete: bool,
    /// Where to, and how.
    #[command(flatten)]
    options: Options,
}

/// Restores what a path held.
///
/// # Errors
/// Those of the daemon.
pub async fn run(args: Args, context: &Context) -> Outcome {
    let scenario = match (args.scenario, &args.at) {
        (None, Some(_)) => context.scenario_or_only(None).await?,
        (scenario, _) => scenario.unwrap_or_default(),
    };
    let request = v1::RestoreRequest {
        tree: super::absolute(&args.path)?.into(),
        scenario,
        session: args.session.unwrap_or_default(),
        at: args.at.unwrap_or_default(),
        delete: args.delete,
        ..v1::RestoreRequest::default()
    };
    super::restore(request, args.options, context).await
}
