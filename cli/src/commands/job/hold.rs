//! `job hold`.

use super::{Id, render};
use crate::context::Context;
use crate::{Outcome, json};
use wire::Exit;

/// Keeps a job that waits from beginning.
///
/// # Errors
/// Those of the daemon.
pub async fn run(id: Id, context: &Context) -> Outcome {
    let mut client = context.client().await?;
    let job = context.call(client.jobs.hold(id.message())).await?;
    context.out.object(&json::job(&job));
    context.out.data(&render(&job));
    Ok(Exit::Done)
}
