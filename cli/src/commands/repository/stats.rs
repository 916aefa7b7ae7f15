//! `repository stats`.

use crate::context::Context;
use crate::output::{count, local_time, properties};
use crate::{Outcome, json};
use wire::units::format_size;
use wire::{Exit, v1};

/// What was typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the repository
    name: String,
}

/// Shows figures.
///
/// # Errors
/// Those of the daemon.
pub async fn run(args: Args, context: &Context) -> Outcome {
    let mut client = context.client().await?;
    let stats = context.call(client.repositories.stats(v1::RepositoryRef { name: args.name })).await?;
    context.out.object(&json::upkeep::stats(&stats));
    let verified = match &stats.oldest_verification {
        Some(oldest) => format!("all packs, the oldest on {}", local_time(Some(oldest))),
        None => format!("{} of {}", stats.packs_verified, count(stats.packs, "pack")),
    };
    let checked = match (&stats.last_check, stats.last_check_damage) {
        (None, _) => "never".to_owned(),
        (at, 0) => format!("{}, no damage", local_time(at.as_ref())),
        (at, damage) => format!("{}, {}", local_time(at.as_ref()), count(damage, "damaged object")),
    };
    let locks = if stats.locks.is_empty() { "none".to_owned() } else { stats.locks.join("\n") };
    context.out.data(&properties(&[
        ("name", stats.name.clone()),
        ("url", stats.url.clone()),
        ("id", stats.id.clone()),
        ("format version", stats.version.to_string()),
        ("sessions", stats.sessions.to_string()),
        ("packs", format!("{} in {}", stats.packs, count(stats.index_files, "index file"))),
        ("blobs", stats.blobs.to_string()),
        ("stored", format_size(stats.bytes_stored)),
        ("before compression", format_size(stats.bytes_raw)),
        ("unused", format_size(stats.bytes_unused)),
        (
            "waiting for removal",
            format!("{} in {}", format_size(stats.bytes_waiting), count(stats.packs_waiting, "pack")),
        ),
        ("verified", verified),
        ("last verification", local_time(stats.last_verification.as_ref())),
        ("last check", checked),
        ("locks", locks),
    ]));
    Ok(Exit::Done)
}
