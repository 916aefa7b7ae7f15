//! `snapshot list`.

use crate::context::Context;
use crate::output::{Align, Table, local_time, lsn_text};
use crate::{Outcome, json};
use wire::{Exit, v1};

/// What was typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only of this scenario
    #[arg(long, value_name = "NAME")]
    scenario: Option<String>,
}

/// Lists snapshots, oldest first.
///
/// # Errors
/// Those of the daemon.
pub async fn run(args: Args, context: &Context) -> Outcome {
    let request = v1::ListSnapshotsRequest { scenario: args.scenario.unwrap_or_default() };
    let mut client = context.client().await?;
    let mut stream = context.call(client.snapshots.list(request)).await?;
    let mut table = Table::new(&[
        ("ID", Align::Left),
        ("SCENARIO", Align::Left),
        ("LSN", Align::Right),
        ("TIME", Align::Left),
        ("CLASS", Align::Left),
        ("PINNED BY", Align::Left),
    ]);
    while let Some(snapshot) = context.next(&mut stream).await? {
        if !context.out.object(&json::snapshot(&snapshot)) {
            break;
        }
        table.row(vec![
            snapshot.id.clone(),
            snapshot.scenario.clone(),
            lsn_text(snapshot.lsn.as_ref()),
            local_time(snapshot.time.as_ref()),
            snapshot.class().word().to_owned(),
            snapshot.pinned_by().word().to_owned(),
        ]);
    }
    let text = table.render();
    if text.is_empty() {
        context.out.talk("there is no snapshot");
    } else {
        context.out.data(&text);
    }
    Ok(Exit::Done)
}
