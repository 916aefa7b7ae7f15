//! `job wait`.

use super::Id;
use crate::context::Context;
use crate::{Outcome, wait};

/// Waits for the end of a job and exits as the command would have that started it.
///
/// # Errors
/// Those of the daemon and of the job.
pub async fn run(id: Id, context: &Context) -> Outcome {
    let mut client = context.client().await?;
    let job = context.call(client.jobs.show(id.message())).await?;
    let job = wait::wait(context, job).await?;
    wait::conclude(context, &job)
}
