//! `snapshot create`.

use super::render;
use crate::context::Context;
use crate::{Outcome, json};
use wire::convert::duration_to_wire;
use wire::{Exit, v1};

/// What was typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the scenario
    scenario: String,
    /// A past point instead of now
    #[arg(long, value_name = "POINT", allow_hyphen_values = true)]
    at: Option<String>,
    /// Hold the application still meanwhile, by the scenario's hooks `quiesce` and `thaw`
    #[arg(long, conflicts_with = "at")]
    consistent: bool,
}

/// Makes a snapshot.
///
/// # Errors
/// Those of the daemon.
pub async fn run(args: Args, context: &Context) -> Outcome {
    let timeout = Some(duration_to_wire(context.timeout()));
    let Args { scenario, at, consistent } = args;
    let request = v1::CreateSnapshotRequest { scenario, at: at.unwrap_or_default(), consistent, timeout };
    let mut client = context.client().await?;
    let snapshot = context.call(client.snapshots.create(request)).await?;
    context.out.object(&json::snapshot(&snapshot));
    context.out.data(&render(&snapshot));
    context.out.talk_of_hold(snapshot.held.as_ref());
    Ok(Exit::Done)
}
