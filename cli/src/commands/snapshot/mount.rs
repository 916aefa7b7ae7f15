//! `snapshot mount`.

use crate::commands::absolute;
use crate::context::Context;
use crate::output::{local_time, lsn_text};
use crate::{Outcome, json};
use std::ffi::OsString;
use wire::{Exit, v1};

/// What was typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the scenario
    scenario: String,
    /// Id of a snapshot, or a point: a bookmark's name, lsn:N, time:RFC3339, a time ago such as -10m
    #[arg(value_name = "ID|POINT", allow_hyphen_values = true)]
    point: String,
    /// An existing directory on the machine of the daemon
    #[arg(value_name = "DIR")]
    directory: OsString,
}

/// Mounts a point.
///
/// # Errors
/// Those of the daemon.
pub async fn run(args: Args, context: &Context) -> Outcome {
    let directory = absolute(&args.directory)?;
    let request =
        v1::MountRequest { scenario: args.scenario, point: args.point, directory: directory.into() };
    let mut client = context.client().await?;
    let mounted = context.call(client.snapshots.mount(request)).await?;
    context.out.object(&json::mounted(&mounted));
    let directory = crate::output::path_text(&mounted.directory);
    context.out.data(&format!(
        "LSN {} ({}, {}) is mounted at {directory}",
        lsn_text(mounted.lsn.as_ref()),
        local_time(mounted.time.as_ref()),
        mounted.class().word()
    ));
    context.out.talk(&format!("`umount {directory}` ends it"));
    Ok(Exit::Done)
}
