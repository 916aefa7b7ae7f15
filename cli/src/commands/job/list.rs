//! `job list`.

use super::{progress, state};
use crate::context::Context;
use crate::output::{Align, Table, local_time};
use crate::{Outcome, json};
use clap::ValueEnum;
use wire::{Exit, v1};

/// What was typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only jobs in this state
    #[arg(long, value_name = "STATE")]
    state: Option<State>,
    /// Only jobs of this scenario
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    scenario: String,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    limit: u64,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum State {
    Ready,
    Active,
    Hold,
    Done,
}

/// Lists jobs, newest first.
///
/// # Errors
/// Those of the daemon.
pub async fn run(args: Args, context: &Context) -> Outcome {
    let wanted = match args.state {
        None => v1::JobState::Unspecified,
        Some(State::Ready) => v1::JobState::Ready,
        Some(State::Active) => v1::JobState::Active,
        Some(State::Hold) => v1::JobState::Hold,
        Some(State::Done) => v1::JobState::Done,
    };
    let request = v1::ListJobsRequest { state: wanted.into(), scenario: args.scenario, limit: args.limit };
    let mut client = context.client().await?;
    let mut stream = context.call(client.jobs.list(request)).await?;
    let mut table = Table::new(&[
        ("JOB", Align::Right),
        ("KIND", Align::Left),
        ("SCENARIO", Align::Left),
        ("STATE", Align::Left),
        ("CREATED", Align::Left),
        ("NOTE", Align::Left),
    ]);
    while let Some(job) = context.next(&mut stream).await? {
        if !context.out.object(&json::job(&job)) {
            break;
        }
        table.row(vec![
            job.id.clone(),
            job.kind().word().to_owned(),
            job.scenario.clone(),
            state(&job),
            local_time(job.created.as_ref()),
            job.error
                .as_ref()
                .map_or_else(|| progress(&job), |error| format!("{}: {}", error.code, error.message)),
        ]);
    }
    let text = table.render();
    if text.is_empty() {
        context.out.talk("there is no such job");
    } else {
        context.out.data(&text);
    }
    Ok(Exit::Done)
}
