//! `snapshot show`.

use super::render;
use crate::context::Context;
use crate::{Outcome, json};
use wire::{Exit, v1};

/// What was typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Its id
    id: String,
}

/// Shows a snapshot.
///
/// # Errors
/// Those of the daemon.
pub async fn run(args: Args, context: &Context) -> Outcome {
    let mut client = context.client().await?;
    let snapshot = context.call(client.snapshots.show(v1::SnapshotRef { id: args.id })).await?;
    context.out.object(&json::snapshot(&snapshot));
    context.out.data(&render(&snapshot));
    Ok(Exit::Done)
}
