//! `scenario set`.

use super::render;
use crate::context::Context;
use crate::{Outcome, json};
use wire::{Exit, v1};

/// What was typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the scenario
    name: String,
    /// Properties: rewind, retention, journal-max, spool-max, keep-snapshots, thin-after, thin-minutes (a duration or `off`),
    /// auto-resync, adopt, hook-timeout, exclude (repeat it for several, leave its value empty for none), hook
    /// (`hook=quiesce=CMD`; `hook=quiesce=` takes it away); also while it runs: archive (`archive=REPOSITORY` or
    /// `archive=off`), archive-every (`60s`), scrub-every (`7d` or `off`) and scrub-rate (`50MB/s`)
    #[arg(value_name = "KEY=VALUE", required = true, value_parser = parse_setting)]
    settings: Vec<(String, String)>,
}

fn parse_setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE".to_owned()),
    }
}

/// Changes properties, all or none.
///
/// # Errors
/// Those of the daemon.
pub async fn run(args: Args, context: &Context) -> Outcome {
    let settings = args.settings.into_iter().map(|(key, value)| v1::Setting { key, value }).collect();
    let mut client = context.client().await?;
    let scenario =
        context.call(client.scenarios.set(v1::SetScenarioRequest { name: args.name, settings })).await?;
    context.out.object(&json::scenario(&scenario));
    context.out.data(&render(&scenario));
    Ok(Exit::Done)
}
