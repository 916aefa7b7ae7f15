//! `scenario status`.

use super::{Name, render_status};
use crate::context::Context;
use crate::{Outcome, json};
use wire::Exit;

/// Shows how a scenario stands.
///
/// # Errors
/// Those of the daemon.
pub async fn run(name: Name, context: &Context) -> Outcome {
    let mut client = context.client().await?;
    let status = context.call(client.scenarios.get_status(name.message())).await?;
    context.out.object(&json::status(&status));
    context.out.data(&render_status(&status));
    Ok(Exit::Done)
}
