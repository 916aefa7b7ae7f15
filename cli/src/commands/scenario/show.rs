//! `scenario show`.

use super::{Name, render};
use crate::context::Context;
use crate::{Outcome, json};
use wire::Exit;

/// Shows a definition.
///
/// # Errors
/// Those of the daemon.
pub async fn run(name: Name, context: &Context) -> Outcome {
    let mut client = context.client().await?;
    let scenario = context.call(client.scenarios.show(name.message())).await?;
    context.out.object(&json::scenario(&scenario));
    context.out.data(&render(&scenario));
    Ok(Exit::Done)
}
