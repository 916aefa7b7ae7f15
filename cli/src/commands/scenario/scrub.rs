//! `scenario scrub`.

use crate::args::JobOptions;
use crate::context::Context;
use crate::{Outcome, wait};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use wire::units::parse_size;
use wire::v1;

/// What was typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the scenario
    name: String,
    /// Only what is at and below this path of the master
    #[arg(long, value_name = "PATH")]
    path: Option<PathBuf>,
    /// Put right what the replica has wrong; what stood there stays in the journal, what somebody put there beside the
    /// replica, in .NAME.rewind/kept/strange
    #[arg(long)]
    repair: bool,
    /// Read so many bytes of files a second at most, on each side; 0: as fast as it goes
    #[arg(long, value_name = "SIZE", value_parser = parse_rate, default_value = "50MB/s")]
    rate: u64,
    /// Of the job.
    #[command(flatten)]
    job: JobOptions,
}

/// A size, with or without `/s`.
fn parse_rate(text: &str) -> Result<u64, String> {
    parse_size(text.strip_suffix("/s").unwrap_or(text)).map_err(|error| error.to_string())
}

/// Reads both sides again and waits until they are compared.
///
/// # Errors
/// Those of the daemon.
pub async fn run(args: Args, context: &Context) -> Outcome {
    let path = args.path.map_or_else(Vec::new, |path| path.as_os_str().as_bytes().to_vec()).into();
    let request = v1::ScrubRequest {
        name: args.name,
        path,
        repair: args.repair,
        rate: args.rate,
        idempotency_key: args.job.idempotency_key.clone(),
    };
    let mut client = context.client().await?;
    wait::start(context, &args.job, client.scenarios.scrub(request)).await
}
