//! `bookmark set`.

use crate::context::Context;
use crate::output::{local_time, lsn_text};
use crate::{Outcome, json};
use wire::convert::duration_to_wire;
use wire::{Exit, v1};

/// What was typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the scenario
    scenario: String,
    /// Name of the bookmark, without `:` and no leading `-` [default: date and time]
    #[arg(default_value = "", hide_default_value = true)]
    name: String,
    /// A past point instead of now
    #[arg(
        long,
        value_name = "POINT",
        default_value = "",
        hide_default_value = true,
        allow_hyphen_values = true
    )]
    at: String,
    /// Hold the application still meanwhile, by the scenario's hooks `quiesce` and `thaw`
    #[arg(long, conflicts_with = "at")]
    consistent: bool,
}

/// Sets a bookmark.
///
/// # Errors
/// Those of the daemon.
pub async fn run(args: Args, context: &Context) -> Outcome {
    let timeout = Some(duration_to_wire(context.timeout()));
    let Args { scenario, name, at, consistent } = args;
    let request = v1::SetBookmarkRequest { scenario, name, at, timeout, consistent };
    let mut client = context.client().await?;
    let bookmark = context.call(client.journal.set_bookmark(request)).await?;
    context.out.object(&json::bookmark(&bookmark));
    context.out.data(&format!(
        "bookmark \"{}\" at LSN {} ({}, {})",
        bookmark.name,
        lsn_text(bookmark.lsn.as_ref()),
        local_time(bookmark.time.as_ref()),
        bookmark.class().word()
    ));
    context.out.talk_of_hold(bookmark.held.as_ref());
    Ok(Exit::Done)
}
