//! `bookmark list`.

use crate::context::Context;
use crate::output::{Align, Table, local_time, lsn_text};
use crate::{Outcome, json};
use wire::{Exit, v1};

/// What was typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the scenario
    scenario: String,
}

/// Lists bookmarks, oldest first.
///
/// # Errors
/// Those of the daemon.
pub async fn run(args: Args, context: &Context) -> Outcome {
    let mut client = context.client().await?;
    let mut stream =
        context.call(client.journal.list_bookmarks(v1::ScenarioRef { name: args.scenario })).await?;
    let mut table = Table::new(&[
        ("NAME", Align::Left),
        ("LSN", Align::Right),
        ("TIME", Align::Left),
        ("CLASS", Align::Left),
        ("SET", Align::Left),
    ]);
    while let Some(bookmark) = context.next(&mut stream).await? {
        if !context.out.object(&json::bookmark(&bookmark)) {
            break;
        }
        table.row(vec![
            bookmark.name.clone(),
            lsn_text(bookmark.lsn.as_ref()),
            local_time(bookmark.time.as_ref()),
            bookmark.class().word().to_owned(),
            if bookmark.automatic { "automatically" } else { "" }.to_owned(),
        ]);
    }
    let text = table.render();
    if text.is_empty() {
        context.out.talk("there is no bookmark");
    } else {
        context.out.data(&text);
    }
    Ok(Exit::Done)
}
