//! `job show`.

use super::{Id, render};
use crate::context::Context;
use crate::{Outcome, json, report};
use wire::Exit;

/// Shows a job and, if it has ended, what it came to.
///
/// # Errors
/// Those of the daemon.
pub async fn run(id: Id, context: &Context) -> Outcome {
    let mut client = context.client().await?;
    let job = context.call(client.jobs.show(id.message())).await?;
    context.out.object(&json::job(&job));
    context.out.data(&render(&job));
    report::show(&context.out, &job);
    Ok(Exit::Done)
}
