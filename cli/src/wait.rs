//! Waits for a job: shows its progress, passes Ctrl-C on, survives a restart of the daemon.

use crate::args::JobOptions;
use crate::context::Context;
use crate::progress::Display;
use crate::{Outcome, errors, json, report};
use serde_json::json;
use std::future::Future;
use std::time::Duration;
use tonic::{Response, Status};
use wire::{Exit, Failure, codes, v1};

/// A daemon that restarts is given so many seconds to come back.
const RECONNECTS_MAX: u32 = 30;

/// Starts a job with `call`, waits for its end unless told not to, and shows what it came to.
///
/// # Errors
/// Those of the call, and of the job.
pub async fn start(
    context: &Context,
    options: &JobOptions,
    call: impl Future<Output = Result<Response<v1::Job>, Status>>,
) -> Outcome {
    let job = context.call(call).await?;
    if options.detach {
        context.out.object(&json!({ "job": job.id, "scenario": job.scenario, "state": job.state().word() }));
        context.out.data(&job.id);
        return Ok(Exit::Done);
    }
    let job = wait(context, job).await?;
    conclude(context, &job)
}

/// Shows what a job came to that has ended.
///
/// # Errors
/// The job's error, unless there is a result to show as well.
pub fn conclude(context: &Context, job: &v1::Job) -> Outcome {
    let failure = job.error.as_ref().map(failure_of);
    let exit = match (job.outcome(), &failure) {
        (v1::Outcome::Succeeded, _) => Exit::Done,
        (v1::Outcome::Incomplete, _) => Exit::Incomplete,
        (v1::Outcome::Cancelled, _) => Exit::Cancelled,
        (_, Some(failure)) => failure.exit,
        (_, None) => Exit::Failed,
    };
    match failure {
        // One object, and it is the error's.
        Some(failure) if job.result.is_none() => Err(Failure { exit, ..failure }),
        failure => {
            context.out.object(&json::finished_job(job));
            report::show(&context.out, job);
            if let Some(failure) = failure.filter(|_| !context.out.json) {
                eprintln!("{}", errors::render(&failure));
            }
            Ok(exit)
        }
    }
}

fn failure_of(error: &v1::Error) -> Failure {
    let exit = u8::try_from(error.exit).ok().and_then(Exit::from_number).unwrap_or(Exit::Failed);
    Failure {
        code: error.code.as_str().into(),
        message: error.message.as_str().into(),
        reason: error.reason.as_str().into(),
        action: error.action.as_str().into(),
        module: error.module.as_str().into(),
        exit,
    }
}

/// Waits until a job has ended.
///
/// # Errors
/// `TIMED_OUT` if the user set a time; the job goes on then. `UNREACHABLE` if the daemon does not come back.
pub async fn wait(context: &Context, job: v1::Job) -> Result<v1::Job, Failure> {
    let id = job.id.clone();
    let waiting = watch(context, job);
    match context.job_timeout() {
        None => waiting.await,
        Some(limit) => match tokio::time::timeout(limit, waiting).await {
            Ok(result) => result,
            Err(_) => {
                let limit = wire::units::format_duration(limit);
                let message = format!("job {id} has not ended within {limit}; it goes on");
                let advice =
                    format!("`restorectl job wait {id}` waits for it, `restorectl job cancel {id}` ends it.");
                Err(Failure::new(&codes::TIMED_OUT, message).advise(advice))
            }
        },
    }
}

async fn watch(context: &Context, job: v1::Job) -> Result<v1::Job, Failure> {
    let mut display = Display::new(&context.out);
    let mut attempts = 0;
    let mut cancelled = job.cancelling;
    let mut last = job;
    while last.state() != v1::JobState::Done {
        match watch_once(context, &mut last, &mut display, &mut cancelled).await {
            Ok(()) => attempts = 0,
            // The job outlives the daemon, so it is there when the daemon is back.
            Err(failure) if &*failure.code == codes::UNREACHABLE.id && attempts < RECONNECTS_MAX => {
                attempts += 1;
                if attempts == 1 {
                    display.clear();
                    context.out.talk("the daemon went away; waiting for it to come back");
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            Err(failure) => return Err(failure),
        }
    }
    Ok(last)
}

/// Follows one stream of the job to its end.
async fn watch_once(
    context: &Context,
    last: &mut v1::Job,
    display: &mut Display,
    cancelled: &mut bool,
) -> Result<(), Failure> {
    let mut client = context.client().await?;
    let reference = v1::JobRef { id: last.id.clone() };
    let mut stream = client.jobs.watch(reference.clone()).await?.into_inner();
    loop {
        let message = tokio::select! {
            message = stream.message() => message?,
            pressed = tokio::signal::ctrl_c() => {
                pressed.map_err(|error| Failure::new(&codes::INTERNAL, error.to_string()))?;
                display.clear();
                if *cancelled {
                    let message = format!("job {} was left alone while it cancels", last.id);
                    return Err(Failure::new(&codes::CANCELLED, message));
                }
                *cancelled = true;
                context.out.talk(&format!("asked job {} to cancel; Ctrl-C again leaves it alone", last.id));
                context.call(client.jobs.cancel(reference.clone())).await?;
                continue;
            }
        };
        match message {
            Some(job) => {
                display.update(&job);
                *last = job;
                if last.state() == v1::JobState::Done {
                    return Ok(());
                }
            }
            // The daemon stops, and says so by ending the stream.
            None => return Err(Failure::new(&codes::UNREACHABLE, "the daemon stopped")),
        }
    }
}
