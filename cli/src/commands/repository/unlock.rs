//! `repository unlock`.

use crate::Outcome;
use crate::context::Context;
use crate::output::count;
use serde_json::json;
use wire::{Exit, v1};

/// What was typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the repository
    name: String,
    /// Remove every lock, also of programs that work there: only if none does
    #[arg(long)]
    all: bool,
}

/// Removes locks.
///
/// # Errors
/// Those of the daemon.
pub async fn run(args: Args, context: &Context) -> Outcome {
    let mut client = context.client().await?;
    let request = v1::UnlockRequest { repository: args.name, all: args.all };
    let report = context.call(client.repositories.unlock(request)).await?;
    context.out.object(&json!({ "removed": report.removed, "left": report.left }));
    context.out.data(&format!("{} removed", count(report.removed, "lock")));
    for lock in &report.left {
        context.out.data(&format!("left: {lock}"));
    }
    Ok(Exit::Done)
}
