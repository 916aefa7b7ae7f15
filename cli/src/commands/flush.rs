//! `flush`.

use crate::context::Context;
use crate::output::{local_time, lsn_text};
use crate::{Outcome, json};
use clap::ValueEnum;
use wire::convert::duration_to_wire;
use wire::{Exit, v1};

/// What was typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the scenario
    name: String,
    /// How far changes must have come
    #[arg(long, value_name = "STAGE", default_value = "applied")]
    stage: Stage,
    /// Hold the application still meanwhile, by the scenario's hooks `quiesce` and `thaw`
    #[arg(long)]
    consistent: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Stage {
    /// Read again and spooled on the master: survives a cut line, not a crash of the master's daemon
    Captured,
    /// Safe in the journal
    Journaled,
    /// In the replica directory
    Applied,
}

/// Waits until all that was done on the master before has come so far.
///
/// # Errors
/// Those of the daemon.
pub async fn run(args: Args, context: &Context) -> Outcome {
    let stage = match args.stage {
        Stage::Captured => v1::Stage::Captured,
        Stage::Journaled => v1::Stage::Journaled,
        Stage::Applied => v1::Stage::Applied,
    };
    let timeout = Some(duration_to_wire(context.timeout()));
    let request =
        v1::FlushRequest { name: args.name, stage: stage.into(), timeout, consistent: args.consistent };
    let mut client = context.client().await?;
    let flushed = context.call(client.scenarios.flush(request)).await?;
    context.out.object(&json::flushed(&flushed));
    context.out.data(&format!(
        "{} up to LSN {} ({}, {})",
        stage.word(),
        lsn_text(flushed.lsn.as_ref()),
        local_time(flushed.time.as_ref()),
        flushed.class().word()
    ));
    context.out.talk_of_hold(flushed.held.as_ref());
    Ok(Exit::Done)
}
