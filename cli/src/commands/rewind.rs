//! `rewind`: the plan, the question, the job, the way back.

use super::absolute;
use crate::args::JobOptions;
use crate::confirm::confirm;
use crate::context::Context;
use crate::output::{count, local_time, lsn_text, path_text, write_stdout};
use crate::{Outcome, json, wait};
use console::style;
use serde_json::Value;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use wire::units::format_size;
use wire::v1::onto::Target;
use wire::v1::plan_part::Part;
use wire::{Exit, Failure, codes, v1};

/// Changes shown before the question; `--dry-run` shows all.
const SHOWN_MAX: usize = 20;

/// What was typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the scenario; may be left out where there is only one
    scenario: Option<String>,
    /// The point: a bookmark's name, bookmark:NAME, lsn:N, lsn:N.k, time:RFC3339, a time ago such as -10m, now, or
    /// last-good: of each file that a burst touched the last version before it (see `points --burst`)
    #[arg(long, value_name = "POINT", allow_hyphen_values = true)]
    to: String,
    /// Where to: replica, master, or a directory that is empty or does not exist
    #[arg(long, value_name = "replica|master|DIR", default_value = "replica")]
    onto: OsString,
    /// Only this path of the master and what is below it; may be repeated
    #[arg(long = "path", value_name = "PATH")]
    paths: Vec<PathBuf>,
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

fn target(onto: &OsStr) -> Result<Target, Failure> {
    Ok(match onto.to_str() {
        Some("replica") => Target::Replica(true),
        Some("master") => Target::Master(true),
        _ => Target::Directory(absolute(onto)?.into()),
    })
}

fn describe(target: &Target) -> String {
    match target {
        Target::Replica(_) => "the replica".to_owned(),
        Target::Master(_) => "the master".to_owned(),
        Target::Directory(path) => path_text(path),
    }
}

/// Rewinds.
///
/// # Errors
/// Those of the daemon, `NOT_CONFIRMED`.
pub async fn run(args: Args, context: &Context) -> Outcome {
    let scenario = context.scenario_or_only(args.scenario).await?;
    let target = target(&args.onto)?;
    let paths = args.paths.iter().map(|path| absolute(path.as_os_str()).map(Into::into));
    let mut request = v1::RewindRequest {
        scenario: scenario.clone(),
        to: args.to,
        onto: Some(v1::Onto { target: Some(target.clone()) }),
        paths: paths.collect::<Result<_, _>>()?,
        idempotency_key: args.job.idempotency_key.clone(),
        resolved: String::new(),
    };
    let destructive = !matches!(target, Target::Directory(_));
    if args.dry_run {
        return dry_run(context, request, &target).await;
    }
    // Nobody wants to see it and nobody is asked: planning once, in the job, is enough.
    if destructive && !(context.out.quiet && args.yes) {
        let plan = show_plan(context, request.clone(), &target).await?;
        confirm(&context.out, &format!("Rewind {}?", describe(&target)), args.yes).await?;
        // What was agreed to, not what `-10m` means by now.
        request.to = match plan.point.is_empty() {
            true => format!("lsn:{}", lsn_text(plan.to.as_ref())),
            false => plan.point,
        };
    }
    let mut client = context.client().await?;
    let exit = wait::start(context, &args.job, client.journal.rewind(request)).await?;
    if matches!(target, Target::Replica(_)) && !args.job.detach {
        context.out.talk(&format!(
            "the scenario is detached; to follow the master again:  restorectl scenario resume {scenario}"
        ));
    }
    Ok(exit)
}

/// A change as a line.
pub(super) fn line(change: &v1::Change) -> String {
    let path = path_text(&change.path);
    let bytes = if change.bytes > 0 { format!("  ({})", format_size(change.bytes)) } else { String::new() };
    match change.kind() {
        v1::PointKind::Created => format!("{} {path}{bytes}", style("+").green()),
        v1::PointKind::Removed => format!("{} {path}", style("-").red()),
        v1::PointKind::Renamed => format!("{} {} -> {path}", style(">").cyan(), path_text(&change.from)),
        v1::PointKind::Attributes => format!("{} {path}", style("a").yellow()),
        // Rewritten and renamed: both names count.
        _ if !change.from.is_empty() => {
            format!("{} {} -> {path}{bytes}", style("~").yellow(), path_text(&change.from))
        }
        _ => format!("{} {path}{bytes}", style("~").yellow()),
    }
}

/// Sums as a phrase.
pub(super) fn sums(counts: Option<&v1::Counts>) -> String {
    let counts = counts.cloned().unwrap_or_default();
    format!(
        "{} created, {} modified, {} renamed, {} removed, {} with other attributes; {} differ",
        counts.created,
        counts.modified,
        counts.renamed,
        counts.removed,
        counts.attributes,
        format_size(counts.bytes)
    )
}

fn heading(scenario: &str, target: &Target, plan: &v1::RewindPlan) -> String {
    format!(
        "rewind of \"{scenario}\" onto {} to LSN {} ({}, {})",
        describe(target),
        lsn_text(plan.to.as_ref()),
        local_time(plan.to_time.as_ref()),
        plan.to_class().word()
    )
}

fn no_plan() -> Failure {
    Failure::new(&codes::BAD_PARAMETERS, "the daemon sent no plan")
}

/// Shows the plan on stderr, not all of it where it is long.
async fn show_plan(
    context: &Context,
    request: v1::RewindRequest,
    target: &Target,
) -> Result<v1::RewindPlan, Failure> {
    let scenario = request.scenario.clone();
    let mut client = context.client().await?;
    let mut stream = context.call(client.journal.plan_rewind(request)).await?;
    let mut first = Vec::new();
    let mut total = 0_u64;
    let mut plan = None;
    while let Some(part) = context.next(&mut stream).await? {
        match part.part {
            Some(Part::Change(change)) => {
                total += 1;
                if first.len() < SHOWN_MAX {
                    first.push(line(&change));
                }
            }
            Some(Part::Plan(whole)) => plan = Some(whole),
            None => {}
        }
    }
    let plan = plan.ok_or_else(no_plan)?;
    context.out.talk(&heading(&scenario, target, &plan));
    context.out.talk(&format!("  {}", sums(plan.counts.as_ref())));
    for line in &first {
        context.out.talk(&format!("  {line}"));
    }
    let more = total.saturating_sub(first.len() as u64);
    if more > 0 {
        context.out.talk(&format!("  and {} (all of them: --dry-run)", count(more, "more change")));
    }
    for warning in &plan.warnings {
        context.out.warn(warning);
    }
    Ok(plan)
}

/// Prints the whole plan as it comes, however long it is; as JSON it is one object whose array is written bit by bit.
async fn dry_run(context: &Context, request: v1::RewindRequest, target: &Target) -> Outcome {
    let scenario = request.scenario.clone();
    let mut client = context.client().await?;
    let mut stream = context.call(client.journal.plan_rewind(request)).await?;
    let mut printed = 0_u64;
    let mut plan = None;
    while let Some(part) = context.next(&mut stream).await? {
        match part.part {
            Some(Part::Change(change)) => {
                let head = if printed == 0 { "{\"dry_run\":true,\"changes\":[" } else { "," };
                let object = || write_stdout(&format!("{head}{}", json::change(&change)));
                if !(if context.out.json { object() } else { context.out.data(&line(&change)) }) {
                    return Ok(Exit::Done);
                }
                printed += 1;
            }
            Some(Part::Plan(whole)) => plan = Some(whole),
            None => {}
        }
    }
    let plan = plan.ok_or_else(no_plan)?;
    if context.out.json {
        let head = if printed == 0 { "{\"dry_run\":true,\"changes\":[" } else { "" };
        let rest = Value::Object(json::plan(&plan)).to_string();
        write_stdout(&format!("{head}],{}", rest.strip_prefix('{').unwrap_or("}")));
    } else {
        context.out.data(&heading(&scenario, target, &plan));
        context.out.data(&sums(plan.counts.as_ref()));
        for warning in &plan.warnings {
            context.out.warn(warning);
        }
    }
    Ok(Exit::Done)
}
