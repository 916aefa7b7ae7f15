//! Verbs of snapshots.

pub mod create;
pub mod list;
pub mod mount;
pub mod release;
pub mod show;

use crate::Outcome;
use crate::context::Context;
use clap::Subcommand;

/// Verbs of snapshots.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Keep a point readable until it is released
    Create(create::Args),
    /// List snapshots, oldest first
    List(list::Args),
    /// Show one
    Show(show::Args),
    /// Let go of one: its point lasts as long as the retention says
    Release(release::Args),
    /// Browse a past point read-only; `umount DIR` ends it
    Mount(mount::Args),
}

/// Runs a verb.
///
/// # Errors
/// The verb's.
pub async fn run(command: Command, context: &Context) -> Outcome {
    match command {
        Command::Create(args) => create::run(args, context).await,
        Command::List(args) => list::run(args, context).await,
        Command::Show(args) => show::run(args, context).await,
        Command::Release(args) => release::run(args, context).await,
        Command::Mount(args) => mount::run(args, context).await,
    }
}

/// What people read of one.
fn render(snapshot: &wire::v1::Snapshot) -> String {
    use crate::output::{local_time, lsn_text};
    let kept = match snapshot.pinned_by() {
        wire::v1::PinnedBy::Backup => "kept for a backup",
        _ => "kept until released",
    };
    format!(
        "snapshot {} of {}: LSN {} ({}, {}), {kept}",
        snapshot.id,
        snapshot.scenario,
        lsn_text(snapshot.lsn.as_ref()),
        local_time(snapshot.time.as_ref()),
        snapshot.class().word()
    )
}
