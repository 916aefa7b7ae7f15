//! `restore query`.

use super::Options;
use crate::Outcome;
use crate::commands::catalog::query::Wanted;
use crate::context::Context;
use wire::v1;

/// What was typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What is looked for.
    #[command(flatten)]
    wanted: Wanted,
    /// Where to, and how.
    #[command(flatten)]
    options: Options,
}

/// Restores what a query finds.
///
/// # Errors
/// `NOTHING_MATCHES`, `QUERY_TOO_LARGE`, `QUERY_CHANGED`; those of the daemon.
pub async fn run(args: Args, context: &Context) -> Outcome {
    let request = v1::RestoreRequest { query: Some(args.wanted.request(0)), ..v1::RestoreRequest::default() };
    super::restore(request, args.options, context).await
}
