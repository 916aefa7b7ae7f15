//! `scenario delete`.

use crate::Outcome;
use crate::confirm::confirm;
use crate::context::Context;
use crate::output::{count, local_time, path_text};
use serde_json::json;
use wire::units::format_size;
use wire::{Exit, v1};

/// What was typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the scenario
    name: String,
    /// Say what would be removed, and remove nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// Forgets a scenario and its journal.
///
/// # Errors
/// Those of the daemon, `NOT_CONFIRMED`.
pub async fn run(args: Args, context: &Context) -> Outcome {
    let reference = v1::ScenarioRef { name: args.name.clone() };
    let mut client = context.client().await?;
    let scenario = context.call(client.scenarios.show(reference.clone())).await?;
    let stats = context.call(client.journal.stats(reference.clone())).await?;
    let bytes = stats.redo_bytes + stats.undo_bytes + stats.kept_bytes + stats.tables_bytes;
    let mut plan = format!(
        "scenario \"{}\" is forgotten with its journal: {}, {}, points since {}",
        args.name,
        format_size(bytes),
        count(stats.bookmarks, "bookmark"),
        local_time(stats.oldest_time.as_ref())
    );
    for root in &scenario.definition.unwrap_or_default().roots {
        plan.push_str(&format!("\n  {} stays as it is", path_text(&root.replica_path)));
    }
    if args.dry_run {
        let bookmarks = stats.bookmarks;
        context.out.object(
            &json!({ "name": args.name, "dry_run": true, "journal_bytes": bytes, "bookmarks": bookmarks }),
        );
        context.out.data(&plan);
        return Ok(Exit::Done);
    }
    context.out.talk(&plan);
    confirm(&context.out, "Delete it? There is no way back.", args.yes).await?;
    let deleted = context.call(client.scenarios.delete(reference)).await?;
    context.out.object(&json!({ "name": args.name, "journal_bytes": deleted.journal_bytes }));
    context.out.data(&format!(
        "scenario \"{}\" was deleted, {} given back",
        args.name,
        format_size(deleted.journal_bytes)
    ));
    Ok(Exit::Done)
}
