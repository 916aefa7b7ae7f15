//! `tape label`.

use crate::confirm::confirm;
use crate::context::Context;
use crate::{Outcome, json};
use wire::units::parse_size;
use wire::{Exit, v1};

/// What was typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The drive, as the daemon sees it: tape:///dev/nst0, or tape:///DIR for a directory that is used as one
    url: String,
    /// Name of the medium: letters, digits, '.', '_' and '-'
    #[arg(long, value_name = "NAME")]
    media: String,
    /// Pool it belongs to
    #[arg(long, value_name = "NAME", default_value = "default")]
    pool: String,
    /// Which volume of its pool it is [default: the next one in a directory, 1 in a device]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    sequence: Option<u32>,
    /// How much a new volume of a directory takes [default: as much as the disk has]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    capacity: Option<u64>,
    /// Size of a block, a multiple of 512
    #[arg(long, value_name = "SIZE", value_parser = parse_size, default_value = "256KiB")]
    block: u64,
    /// Label it though it holds data: all of it is lost
    #[arg(long)]
    force: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// Labels a medium.
///
/// # Errors
/// Those of the daemon; `NOT_CONFIRMED`.
pub async fn run(args: Args, context: &Context) -> Outcome {
    if args.force {
        let question = format!("Everything on the medium in {} is lost. Go on?", args.url);
        confirm(&context.out, &question, args.yes).await?;
    }
    let request = v1::LabelTapeRequest {
        url: args.url,
        media: args.media,
        pool: args.pool,
        sequence: args.sequence.unwrap_or(0),
        capacity: args.capacity.unwrap_or(0),
        // What does not fit is no size of a block, which the daemon says.
        block_bytes: u32::try_from(args.block).unwrap_or(u32::MAX),
        force: args.force,
    };
    let mut client = context.client().await?;
    let volume = context.call(client.tapes.label(request)).await?;
    context.out.object(&json::tape::volume(&volume));
    context.out.data(&format!(
        "volume \"{}\" is labelled: pool {}, number {}, id {}",
        volume.media, volume.pool, volume.sequence, volume.id
    ));
    Ok(Exit::Done)
}
