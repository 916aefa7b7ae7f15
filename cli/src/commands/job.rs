//! Verbs of jobs.

pub mod cancel;
pub mod hold;
pub mod list;
pub mod release;
pub mod show;
pub mod wait;

use crate::Outcome;
use crate::context::Context;
use crate::output::{local_time, properties};
use clap::{Args, Subcommand};
use wire::v1;

/// Verbs of jobs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List jobs, newest first
    List(list::Args),
    /// Show a job
    Show(Id),
    /// Wait for the end of a job; exits as the command would have that started it
    Wait(Id),
    /// Ask a job to cancel
    Cancel(Id),
    /// Keep a job that waits from beginning until it is released, also when the daemon restarts
    Hold(Id),
    /// Let a held job wait for its turn again
    Release(Id),
}

/// A job.
#[derive(Clone, Debug, Args)]
pub struct Id {
    /// Number of the job
    pub id: String,
}

impl Id {
    fn message(self) -> v1::JobRef {
        v1::JobRef { id: self.id }
    }
}

/// Runs a verb.
///
/// # Errors
/// The verb's.
pub async fn run(command: Command, context: &Context) -> Outcome {
    match command {
        Command::List(args) => list::run(args, context).await,
        Command::Show(id) => show::run(id, context).await,
        Command::Wait(id) => wait::run(id, context).await,
        Command::Cancel(id) => cancel::run(id, context).await,
        Command::Hold(id) => hold::run(id, context).await,
        Command::Release(id) => release::run(id, context).await,
    }
}

/// State and, once there is one, outcome.
fn state(job: &v1::Job) -> String {
    match (job.outcome(), job.cancelling) {
        (v1::Outcome::Unspecified, true) => format!("{}, cancelling", job.state().word()),
        (v1::Outcome::Unspecified, false) => job.state().word().to_owned(),
        (outcome, _) => outcome.word().to_owned(),
    }
}

fn progress(job: &v1::Job) -> String {
    match &job.progress {
        Some(progress) if !progress.phase.is_empty() => {
            let total = progress.total.map(|total| format!(" of {total}")).unwrap_or_default();
            format!("{}: {}{total} {}", progress.phase, progress.done, progress.unit)
        }
        _ => String::new(),
    }
}

fn render(job: &v1::Job) -> String {
    let mut pairs = vec![
        ("job", job.id.clone()),
        ("kind", job.kind().word().to_owned()),
        ("scenario", job.scenario.clone()),
        ("state", state(job)),
        ("created", local_time(job.created.as_ref())),
        ("started", local_time(job.started.as_ref())),
        ("finished", local_time(job.finished.as_ref())),
    ];
    let progress = progress(job);
    if !progress.is_empty() {
        pairs.push(("progress", progress));
    }
    if let Some(error) = &job.error {
        pairs.push(("error", format!("{}: {}", error.code, error.message)));
    }
    properties(&pairs)
}
