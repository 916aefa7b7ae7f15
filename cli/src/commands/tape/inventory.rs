//! `tape inventory`.

use super::Drive;
use crate::context::Context;
use crate::output::{Align, Table, local_time};
use crate::{Outcome, json};
use wire::units::format_size;
use wire::{Exit, v1};

/// Shows volumes and what is on them.
///
/// # Errors
/// Those of the daemon.
pub async fn run(drive: Drive, context: &Context) -> Outcome {
    let mut client = context.client().await?;
    let mut stream = context.call(client.tapes.inventory(v1::TapeRef { url: drive.url.clone() })).await?;
    let mut table = Table::new(&[
        ("MEDIA", Align::Left),
        ("POOL", Align::Left),
        ("NO", Align::Right),
        ("SESSIONS", Align::Right),
        ("USED", Align::Right),
        ("FREE", Align::Right),
        ("LABELLED", Align::Left),
        ("STATE", Align::Left),
    ]);
    while let Some(volume) = context.next(&mut stream).await? {
        if !context.out.object(&json::tape::volume(&volume)) {
            break;
        }
        table.row(row(&volume));
    }
    match table.render() {
        text if text.is_empty() => context.out.talk("there is no volume"),
        text => drop(context.out.data(&text)),
    }
    Ok(Exit::Done)
}

fn row(volume: &v1::TapeVolume) -> Vec<String> {
    let bytes = |bytes: Option<u64>| bytes.map(format_size).unwrap_or_default();
    let named = if volume.id.is_empty() { String::new() } else { volume.sequence.to_string() };
    let damaged = volume.files.iter().filter(|file| !file.problem.is_empty()).count();
    let mut state = Vec::new();
    if volume.loaded {
        state.push("loaded".to_owned());
    }
    if volume.cut_off {
        state.push("a tape file was cut off".to_owned());
    }
    let is_some =
        |is: fn(&v1::TapePart) -> bool, word: &str| volume.files.iter().any(is).then(|| word.to_owned());
    state.extend(is_some(|file| file.compression == "zstd", "compressed"));
    state.extend(is_some(|file| file.encryption == "age", "encrypted"));
    if damaged > 0 {
        state.push(format!("{damaged} unreadable"));
    }
    if !volume.problem.is_empty() {
        state.push(volume.problem.clone());
    }
    let sessions: std::collections::BTreeSet<&str> =
        volume.files.iter().map(|file| file.session.as_str()).filter(|session| !session.is_empty()).collect();
    vec![
        volume.media.clone(),
        volume.pool.clone(),
        named,
        sessions.len().to_string(),
        bytes(volume.used_bytes),
        bytes(volume.free_bytes.filter(|free| *free < u64::MAX / 2)),
        local_time(volume.made_at.as_ref()),
        state.join(", "),
    ]
}
