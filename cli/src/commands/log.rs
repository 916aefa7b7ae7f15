//! `log`.

use crate::context::Context;
use crate::output::local_time;
use crate::{Outcome, json};
use console::style;
use wire::{Exit, Failure, v1};

/// What was typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Go on with what happens from now on, until Ctrl-C
    #[arg(short, long)]
    follow: bool,
    /// Only lines about this scenario
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    scenario: String,
    /// Only lines about this job
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    job: String,
    /// Not older: RFC 3339, or a time ago such as -10m
    #[arg(
        long,
        value_name = "TIME",
        default_value = "",
        hide_default_value = true,
        allow_hyphen_values = true
    )]
    since: String,
}

fn line(line: &v1::LogLine) -> String {
    let level = match line.level() {
        v1::Level::Error => style("error    ").red(),
        v1::Level::Warning => style("warning  ").yellow(),
        _ => style(""),
    };
    let mut about = String::new();
    if !line.scenario.is_empty() {
        about.push_str(&format!("{}: ", line.scenario));
    }
    format!("{}  {level}{about}{}", local_time(line.time.as_ref()), line.text)
}

/// Shows the activity log, oldest first.
///
/// # Errors
/// Those of the daemon.
pub async fn run(args: Args, context: &Context) -> Outcome {
    let follow = args.follow;
    let request = v1::LogRequest { follow, scenario: args.scenario, job: args.job, since: args.since };
    let mut client = context.client().await?;
    let mut stream = context.call(client.jobs.log(request)).await?;
    loop {
        // A log that is followed may be silent for as long as it likes.
        let next = async {
            if follow {
                stream.message().await.map_err(Failure::from)
            } else {
                context.next(&mut stream).await
            }
        };
        let message = tokio::select! {
            message = next => message?,
            _ = tokio::signal::ctrl_c() => return Ok(if follow { Exit::Done } else { Exit::Cancelled }),
        };
        match message {
            Some(message) => {
                if !(context.out.object(&json::log_line(&message)) && context.out.data(&line(&message))) {
                    return Ok(Exit::Done);
                }
            }
            None => return Ok(Exit::Done),
        }
    }
}
