//! `bookmark delete`.

use crate::context::Context;
use crate::output::lsn_text;
use crate::{Outcome, json};
use wire::{Exit, v1};

/// What was typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the scenario
    scenario: String,
    /// Name of the bookmark
    name: String,
}

/// Removes a name; the point stays as long as retention keeps it.
///
/// # Errors
/// Those of the daemon.
pub async fn run(args: Args, context: &Context) -> Outcome {
    let request = v1::DeleteBookmarkRequest { scenario: args.scenario, name: args.name };
    let mut client = context.client().await?;
    let bookmark = context.call(client.journal.delete_bookmark(request)).await?;
    context.out.object(&json::bookmark(&bookmark));
    let lsn = lsn_text(bookmark.lsn.as_ref());
    context.out.data(&format!("bookmark \"{}\" was deleted; its point is lsn:{lsn}", bookmark.name));
    Ok(Exit::Done)
}
