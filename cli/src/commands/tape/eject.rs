//! `tape eject`.

use super::Drive;
use crate::Outcome;
use crate::context::Context;
use serde_json::json;
use wire::{Exit, v1};

/// Puts the medium out.
///
/// # Errors
/// Those of the daemon.
pub async fn run(drive: Drive, context: &Context) -> Outcome {
    let mut client = context.client().await?;
    let ejected = context.call(client.tapes.eject(v1::TapeRef { url: drive.url.clone() })).await?;
    let media = Some(&ejected.media).filter(|media| !media.is_empty());
    context.out.object(&json!({ "url": drive.url, "media": media }));
    context.out.data(&match media {
        None => format!("{} holds no medium with a name any more", drive.url),
        Some(media) => format!("volume \"{media}\" was put out"),
    });
    Ok(Exit::Done)
}
