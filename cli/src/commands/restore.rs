//! `restore`: the plan, the question, the job, the way back.

pub mod query;
pub mod session;
pub mod tree;

use super::{absolute, rewind};
use crate::args::JobOptions;
use crate::confirm::confirm;
use crate::context::Context;
use crate::output::{count, local_time, path_text, write_stdout};
use crate::{Outcome, json, report, wait};
use clap::{Subcommand, ValueEnum};
use serde_json::Value;
use std::ffi::{OsStr, OsString};
use wire::v1::onto::Target;
use wire::v1::restore_part::Part;
use wire::{Exit, Failure, codes, v1};

/// Changes shown before the question; `--dry-run` shows all.
const SHOWN_MAX: usize = 20;

/// Verbs of restoring.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Bring back a session, or some paths of it
    Session(session::Args),
    /// Bring back what a path of the master held, from the newest session that has it
    Tree(tree::Args),
    /// Bring back everything a catalog query finds, each path from the newest session that holds it.
    ///
    /// A directory that matches comes back with all that is below it, unless --size, --since or --until ask about files.
    Query(query::Args),
}

/// Runs a verb.
///
/// # Errors
/// The verb's.
pub async fn run(command: Command, context: &Context) -> Outcome {
    match command {
        Command::Session(args) => session::run(args, context).await,
        Command::Tree(args) => tree::run(args, context).await,
        Command::Query(args) => query::run(args, context).await,
    }
}

/// What to do where something stands already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Rule {
    /// The session's object takes its place; directories are merged.
    Overwrite,
    /// The same, if the session's was modified later.
    Newer,
    /// It stays.
    Skip,
    /// The session's object comes out as NAME.restored.
    Rename,
    /// Nothing is restored at all.
    Fail,
}

impl Rule {
    fn message(self) -> v1::IfExists {
        match self {
            Rule::Overwrite => v1::IfExists::Overwrite,
            Rule::Newer => v1::IfExists::Newer,
            Rule::Skip => v1::IfExists::Skip,
            Rule::Rename => v1::IfExists::Rename,
            Rule::Fail => v1::IfExists::Fail,
        }
    }
}

/// Whose the restored objects are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Owner {
    /// The numeric owner and group of the session.
    Keep,
    /// Whoever restores.
    Ignore,
}

/// What becomes of zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Sparse {
    /// Long runs of them are holes.
    Auto,
    /// They are written.
    Off,
}

/// How objects come out.
#[derive(Clone, Debug, clap::Args)]
pub struct Manner {
    /// What to do where something stands already [default: overwrite; into a directory: fail]
    #[arg(long, value_name = "RULE")]
    pub if_exists: Option<Rule>,
    /// Read again what was written and compare it with the session
    #[arg(long)]
    pub verify: bool,
    /// Print the plan and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Owner and group of what is restored
    #[arg(long, value_name = "WHOSE", default_value = "keep")]
    pub owner: Owner,
    /// Zeros as holes, or written
    #[arg(long, value_name = "HOW", default_value = "auto")]
    pub sparse: Sparse,
}

/// Where to, and how.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Where to: replica, master, or a directory, which gets DIR/<the full path on the master>
    #[arg(long, value_name = "replica|master|DIR", default_value = "replica")]
    onto: OsString,
    /// How.
    #[command(flatten)]
    manner: Manner,
    /// Onto the replica even if the scenario cannot be brought to stop following its master
    #[arg(long)]
    continue_if_not_stopped: bool,
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

/// Plans or restores what the request names, as the options say.
///
/// # Errors
/// Those of the daemon, `NOT_CONFIRMED`.
async fn restore(mut request: v1::RestoreRequest, options: Options, context: &Context) -> Outcome {
    let target = target(&options.onto)?;
    let Manner { if_exists, verify, dry_run, owner, sparse } = options.manner;
    request.onto = Some(v1::Onto { target: Some(target.clone()) });
    request.set_if_exists(if_exists.map_or(v1::IfExists::Unspecified, Rule::message));
    request.verify = verify;
    request.continue_if_not_stopped = options.continue_if_not_stopped;
    request.ignore_owner = owner == Owner::Ignore;
    request.dense = sparse == Sparse::Off;
    request.idempotency_key = options.job.idempotency_key.clone();
    if dry_run {
        return show_all(context, request, &target).await;
    }
    let destructive = !matches!(target, Target::Directory(_)) || request.delete;
    // Nobody wants to see it and nobody is asked: planning once, in the job, is enough.
    if destructive && !(context.out.quiet && options.yes) {
        let plan = show_plan(context, request.clone(), &target).await?;
        confirm(&context.out, &format!("Restore onto {}?", describe(&target)), options.yes).await?;
        // What was agreed to, not what the newest session is by now.
        if request.query.is_some() {
            request.agreed = plan.agreed;
        } else if request.at.is_empty() {
            request.session = plan.session;
        }
    }
    let mut client = context.client().await?;
    wait::start(context, &options.job, client.restore.start(request)).await
}

fn heading(target: &Target, plan: &v1::RestorePlan) -> String {
    let short: String = plan.session.chars().take(8).collect();
    if !plan.agreed.is_empty() {
        return format!("restore of what the query finds onto {}", describe(target));
    }
    match plan.session.is_empty() {
        true => format!("restore from the journal of \"{}\" onto {}", plan.scenario, describe(target)),
        false => format!("restore of session {short} onto {}", describe(target)),
    }
}

fn no_plan() -> Failure {
    Failure::new(&codes::BAD_PARAMETERS, "the daemon sent no plan")
}

fn talk(context: &Context, plan: &v1::RestorePlan) {
    let left = [
        (plan.skipped, "stay as they are"),
        (plan.resumed, "are there from an earlier run"),
        (plan.failed, "cannot be restored"),
        (plan.conflicts, "are in the way: the restore would be refused"),
    ];
    for (number, what) in left {
        if number > 0 {
            context.out.warn(&format!("{} {what}", count(number, "object")));
        }
    }
    for path in &plan.first_conflicts {
        context.out.talk(&format!("  {}", path_text(path)));
    }
    for warning in &plan.warnings {
        context.out.warn(warning);
    }
    report::restores::left_out(&context.out, plan.left_out, &plan.left_out_first);
}

/// Which session the changes after it come from.
fn set_line(set: &v1::RestoreSetPlan) -> String {
    format!(
        "from session {} ({}, repository \"{}\"): {}",
        set.session.get(..8).unwrap_or(&set.session),
        local_time(set.time.as_ref()),
        set.repository,
        count(set.paths, "path")
    )
}

/// Shows the plan on stderr, not all of it where it is long.
async fn show_plan(
    context: &Context,
    request: v1::RestoreRequest,
    target: &Target,
) -> Result<v1::RestorePlan, Failure> {
    let mut client = context.client().await?;
    let mut stream = context.call(client.restore.plan_restore(request)).await?;
    let mut first = Vec::new();
    let mut total = 0_u64;
    let mut plan = None;
    while let Some(part) = context.next(&mut stream).await? {
        match part.part {
            Some(Part::Change(change)) => {
                total += 1;
                if first.len() < SHOWN_MAX {
                    first.push(rewind::line(&change));
                }
            }
            Some(Part::Set(set)) => {
                total += 1;
                if first.len() < SHOWN_MAX {
                    first.push(set_line(&set));
                }
            }
            Some(Part::Plan(whole)) => plan = Some(whole),
            None => {}
        }
    }
    let plan = plan.ok_or_else(no_plan)?;
    context.out.talk(&heading(target, &plan));
    context.out.talk(&format!("  {}", rewind::sums(plan.counts.as_ref())));
    for line in &first {
        context.out.talk(&format!("  {line}"));
    }
    let more = total.saturating_sub(first.len() as u64);
    if more > 0 {
        context.out.talk(&format!("  and {} (all of them: --dry-run)", count(more, "more change")));
    }
    talk(context, &plan);
    Ok(plan)
}

/// Prints the whole plan.
async fn show_all(context: &Context, request: v1::RestoreRequest, target: &Target) -> Outcome {
    let mut client = context.client().await?;
    let mut stream = context.call(client.restore.plan_restore(request)).await?;
    let mut printed = 0_u64;
    let mut plan = None;
    let mut sets = Vec::new();
    while let Some(part) = context.next(&mut stream).await? {
        match part.part {
            Some(Part::Change(change)) => {
                let head = if printed == 0 { "{\"dry_run\":true,\"changes\":[" } else { "," };
                let from = sets.last().map(|set: &v1::RestoreSetPlan| set.session.as_str());
                let object = || {
                    let mut change = json::change(&change);
                    if let (Some(session), Some(map)) = (from, change.as_object_mut()) {
                        map.insert("session".into(), session.into());
                    }
                    write_stdout(&format!("{head}{change}"))
                };
                if !(if context.out.json { object() } else { context.out.data(&rewind::line(&change)) }) {
                    return Ok(Exit::Done);
                }
                printed += 1;
            }
            Some(Part::Set(set)) => {
                context.out.data(&set_line(&set));
                sets.push(set);
            }
            Some(Part::Plan(whole)) => plan = Some(whole),
            None => {}
        }
    }
    let plan = plan.ok_or_else(no_plan)?;
    if context.out.json {
        let head = if printed == 0 { "{\"dry_run\":true,\"changes\":[" } else { "" };
        let rest = Value::Object(json::restores::plan(&plan, &sets)).to_string();
        write_stdout(&format!("{head}],{}", rest.strip_prefix('{').unwrap_or("}")));
    } else {
        context.out.data(&heading(target, &plan));
        context.out.data(&rewind::sums(plan.counts.as_ref()));
        talk(context, &plan);
    }
    Ok(Exit::Done)
}
