//! `journal verify`.

use super::JobArgs;
use crate::context::Context;
use crate::{Outcome, wait};

/// Reads every stored byte of the journal.
///
/// # Errors
/// Those of the daemon.
pub async fn run(args: JobArgs, context: &Context) -> Outcome {
    let mut client = context.client().await?;
    wait::start(context, &args.job, client.journal.verify(args.message())).await
}
