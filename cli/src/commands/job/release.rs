//! `job release`.

use super::{Id, render};
use crate::context::Context;
use crate::{Outcome, json};
use wire::Exit;

/// Lets a held job wait for its turn again.
///
/// # Errors
/// Those of the daemon.
pub async fn run(id: Id, context: &Context) -> Outcome {
    let mut client = context.client().await?;
    let job = context.call(client.jobs.release(id.message())).await?;
    context.out.object(&json::job(&job));
    context.out.data(&render(&job));
    Ok(Exit::Done)
}
