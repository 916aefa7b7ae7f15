//! `repository prune`: the plan, the question, the job.

use crate::args::JobOptions;
use crate::confirm::confirm;
use crate::context::Context;
use crate::report::upkeep::plan_lines;
use crate::{Outcome, json, wait};
use serde_json::Value;
use std::time::Duration;
use wire::convert::duration_to_wire;
use wire::units::{parse_duration, parse_size};
use wire::{Exit, v1};

/// What was typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the repository
    name: String,
    /// How long what nothing needs can be put back before a later prune removes it [default: 7d]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    grace: Option<Duration>,
    /// How much of what is stored may stay unused before packs are packed anew; 100%: none is [default: 5%]
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent)]
    max_unused: Option<u32>,
    /// Pack anew at most so much now [default: no limit]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    max_repack: Option<u64>,
    /// Print the plan and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Of the job.
    #[command(flatten)]
    job: JobOptions,
}

fn parse_percent(text: &str) -> Result<u32, String> {
    match text.strip_suffix('%').unwrap_or(text) {
        "0" => Ok(0),
        _ => super::check::parse_percent(text),
    }
}

/// Prunes.
///
/// # Errors
/// Those of the daemon, `NOT_CONFIRMED`.
pub async fn run(args: Args, context: &Context) -> Outcome {
    let request = v1::PruneRequest {
        repository: args.name.clone(),
        grace: args.grace.map(duration_to_wire),
        unused_percent: args.max_unused,
        repack_bytes_max: args.max_repack,
        idempotency_key: args.job.idempotency_key.clone(),
    };
    let mut client = context.client().await?;
    if args.dry_run {
        let plan = context.call(client.repositories.plan_prune(request)).await?;
        let mut object = json::upkeep::prune_plan(&plan);
        if let Value::Object(map) = &mut object {
            map.insert("dry_run".into(), true.into());
        }
        context.out.object(&object);
        let _read = plan_lines(&plan).iter().all(|line| context.out.data(line));
        return Ok(Exit::Done);
    }
    // Nobody wants to see it and nobody is asked: planning once, in the job, is enough.
    if !(context.out.quiet && args.yes) {
        let plan = context.call(client.repositories.plan_prune(request.clone())).await?;
        context.out.talk(&format!("prune of repository \"{}\":", args.name));
        plan_lines(&plan).iter().for_each(|line| context.out.talk(&format!("  {line}")));
        confirm(&context.out, "Prune?", args.yes).await?;
    }
    wait::start(context, &args.job, client.repositories.prune(request)).await
}
