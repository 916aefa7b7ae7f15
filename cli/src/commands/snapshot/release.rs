//! `snapshot release`.

use crate::context::Context;
use crate::{Outcome, json};
use wire::{Exit, v1};

/// What was typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Its id
    id: String,
}

/// Releases a snapshot.
///
/// # Errors
/// Those of the daemon.
pub async fn run(args: Args, context: &Context) -> Outcome {
    let mut client = context.client().await?;
    let snapshot = context.call(client.snapshots.release(v1::SnapshotRef { id: args.id })).await?;
    context.out.object(&json::snapshot(&snapshot));
    context.out.talk(&format!(
        "released snapshot {} (LSN {}): its point lasts as long as the retention says",
        snapshot.id,
        crate::output::lsn_text(snapshot.lsn.as_ref())
    ));
    Ok(Exit::Done)
}
