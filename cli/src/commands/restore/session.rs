//! `restore session`.

use super::Options;
use crate::Outcome;
use crate::context::Context;
use std::ffi::OsString;
use wire::v1;

/// What was typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Id of the session, or an unambiguous beginning
    id: String,
    /// Only these absolute paths of the master and what is below them
    #[arg(value_name = "PATH")]
    paths: Vec<OsString>,
    /// Only a session of this repository
    #[arg(long, value_name = "NAME")]
    repository: Option<String>,
    /// Where to, and how.
    #[command(flatten)]
    options: Options,
}

/// Restores a session.
///
/// # Errors
/// Those of the daemon.
pub async fn run(args: Args, context: &Context) -> Outcome {
    let paths = args.paths.iter().map(|path| super::absolute(path).map(Into::into));
    let request = v1::RestoreRequest {
        session: args.id,
        repository: args.repository.unwrap_or_default(),
        paths: paths.collect::<Result<_, _>>()?,
        ..v1::RestoreRequest::default()
    };
    super::restore(request, args.options, context).await
}
