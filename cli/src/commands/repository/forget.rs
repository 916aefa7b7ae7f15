//! `repository forget`: the plan, the question, the job.

use crate::args::JobOptions;
use crate::confirm::confirm;
use crate::context::Context;
use crate::output::{count, local_time, path_text};
use crate::{Outcome, json, wait};
use console::style;
use serde_json::Value;
use snapshot::repository::Id;
use snapshot::repository::upkeep::policy::LATER_THAN_NOW;
use std::time::Duration;
use wire::convert::duration_to_wire;
use wire::units::parse_duration;
use wire::{Exit, v1};

/// Forgotten sessions shown before the question; `--dry-run` shows all, and what is kept.
const SHOWN_MAX: usize = 20;

/// What was typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the repository
    name: String,
    /// Keep the newest N sessions, of each root of each master
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    keep_last: u32,
    /// Keep the newest session of each of the last N hours that have one
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    keep_hourly: u32,
    /// Of days
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    keep_daily: u32,
    /// Of weeks
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    keep_weekly: u32,
    /// Of months
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    keep_monthly: u32,
    /// Of years
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    keep_yearly: u32,
    /// Keep all that are not older than this before the newest
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    keep_within: Option<Duration>,
    /// Only sessions of this master; those of others stay
    #[arg(long, value_name = "HOST", default_value = "", hide_default_value = true)]
    master: String,
    /// Only sessions of this path of a master; those of others stay
    #[arg(long, value_name = "PATH", default_value = "", hide_default_value = true)]
    path: String,
    /// Only sessions of this scenario; those of others stay
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    scenario: String,
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

fn request(args: &Args) -> v1::ForgetRequest {
    v1::ForgetRequest {
        repository: args.name.clone(),
        policy: Some(v1::KeepPolicy {
            last: args.keep_last,
            hourly: args.keep_hourly,
            daily: args.keep_daily,
            weekly: args.keep_weekly,
            monthly: args.keep_monthly,
            yearly: args.keep_yearly,
            within: args.keep_within.map(duration_to_wire),
        }),
        host: args.master.clone(),
        path: args.path.clone(),
        scenario: args.scenario.clone(),
        idempotency_key: args.job.idempotency_key.clone(),
        confirmed: None,
    }
}

/// Forgets.
///
/// # Errors
/// Those of the daemon, `NOT_CONFIRMED`.
pub async fn run(args: Args, context: &Context) -> Outcome {
    let mut request = request(&args);
    let mut client = context.client().await?;
    if args.dry_run || !(context.out.quiet && args.yes) {
        let mut items = Vec::new();
        let mut stream = context.call(client.repositories.plan_forget(request.clone())).await?;
        while let Some(item) = context.next(&mut stream).await? {
            items.push(item);
        }
        if args.dry_run {
            return dry_run(context, &args.name, &items);
        }
        show(context, &args.name, &items);
        confirm(&context.out, "Forget them?", args.yes).await?;
        // Who says yes beforehand means whatever the plan will be; who was asked means what was shown.
        if !args.yes {
            let gone = items.iter().filter(|item| item.reasons.is_empty());
            let ids = gone.filter_map(|item| Id::parse(&item.id)).map(|id| id.0.to_vec().into()).collect();
            request.confirmed = Some(v1::ForgetConfirmed { ids });
        }
    }
    wait::start(context, &args.job, client.repositories.forget(request)).await
}

fn sums(items: &[v1::ForgetItem]) -> (u64, u64) {
    let kept = items.iter().filter(|item| !item.reasons.is_empty()).count() as u64;
    (kept, items.len() as u64 - kept)
}

fn line(item: &v1::ForgetItem) -> String {
    let paths: Vec<String> = item.paths.iter().map(|path| path_text(path.as_bytes())).collect();
    let what = format!(
        "{} {} {}:{}",
        item.id.get(..8).unwrap_or(&item.id),
        local_time(item.time.as_ref()),
        path_text(item.host.as_bytes()),
        paths.join(", ")
    );
    match item.reasons.is_empty() {
        true => format!("{} {what}", style("-").red()),
        false => format!("{} {what} ({})", style("=").green(), item.reasons.join(", ")),
    }
}

fn dry_run(context: &Context, name: &str, items: &[v1::ForgetItem]) -> Outcome {
    let (keep, forget) = sums(items);
    context.out.object(&serde_json::json!({
        "dry_run": true,
        "repository": name,
        "keep": keep,
        "forget": forget,
        "sessions": items.iter().map(json::upkeep::forget_item).collect::<Vec<Value>>(),
    }));
    if !items.iter().all(|item| context.out.data(&line(item))) {
        return Ok(Exit::Done);
    }
    context.out.data(&format!("{} kept, {forget} forgotten", count(keep, "session")));
    Ok(Exit::Done)
}

fn show(context: &Context, name: &str, items: &[v1::ForgetItem]) {
    let (keep, forget) = sums(items);
    let gone = count(forget, "session");
    context.out.talk(&format!("forget {gone} of repository \"{name}\", keep {keep}:"));
    let later = items.iter().filter(|item| item.reasons.iter().any(|reason| reason == LATER_THAN_NOW));
    let later = later.count() as u64;
    if later > 0 {
        let text = "dated later than now: a clock was wrong; kept, and no rule counts them (see --dry-run)";
        context.out.talk(&format!("  {} {text}", count(later, "session")));
    }
    let mut shown = items.iter().filter(|item| item.reasons.is_empty());
    shown.by_ref().take(SHOWN_MAX).for_each(|item| context.out.talk(&format!("  {}", line(item))));
    let more = shown.count() as u64;
    if more > 0 {
        context.out.talk(&format!("  and {} (all of them: --dry-run)", count(more, "more session")));
    }
}
