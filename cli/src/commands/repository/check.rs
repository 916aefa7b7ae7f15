//! `repository check`.

use crate::args::JobOptions;
use crate::context::Context;
use crate::{Outcome, wait};
use wire::v1;

/// What was typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the repository
    name: String,
    /// Read the packs too: all of them, or so much of them, those first that were read longest ago
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent, num_args = 0..=1, default_missing_value = "100%",
        require_equals = true)]
    read_data: Option<u32>,
    /// Of the job.
    #[command(flatten)]
    job: JobOptions,
}

/// `10%` or `10`.
pub(super) fn parse_percent(text: &str) -> Result<u32, String> {
    let number = text.strip_suffix('%').unwrap_or(text).parse().ok();
    number.filter(|percent| (1..=100).contains(percent)).ok_or_else(|| "not 1% to 100%".to_owned())
}

/// Checks.
///
/// # Errors
/// Those of the daemon; damage.
pub async fn run(args: Args, context: &Context) -> Outcome {
    let request = v1::CheckRequest {
        repository: args.name,
        read_data_percent: args.read_data.unwrap_or(0),
        idempotency_key: args.job.idempotency_key.clone(),
    };
    let mut client = context.client().await?;
    wait::start(context, &args.job, client.repositories.check(request)).await
}
