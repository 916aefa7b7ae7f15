//! `journal stats`.

use crate::context::Context;
use crate::output::{count, local_time, lsn_text, properties, window_text};
use crate::{Outcome, json};
use wire::convert::duration_from_wire;
use wire::units::{format_duration, format_size};
use wire::{Exit, v1};

/// What was typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the scenario
    scenario: String,
}

/// Shows size and window of a journal.
///
/// # Errors
/// Those of the daemon.
pub async fn run(args: Args, context: &Context) -> Outcome {
    let mut client = context.client().await?;
    let stats = context.call(client.journal.stats(v1::ScenarioRef { name: args.scenario })).await?;
    context.out.object(&json::stats(&stats));
    let point = |lsn: Option<&v1::Lsn>, time| match lsn {
        Some(lsn) => format!("LSN {} ({})", lsn_text(Some(lsn)), local_time(time)),
        None => "-".to_owned(),
    };
    let segments = |number, bytes, raw| {
        format!(
            "{} in {} ({} before packing)",
            format_size(bytes),
            count(number, "segment"),
            format_size(raw)
        )
    };
    let retention = stats.retention.as_ref().and_then(duration_from_wire).unwrap_or_default();
    let figures = stats.figures.clone().unwrap_or_default();
    context.out.data(&properties(&[
        ("scenario", stats.scenario.clone()),
        ("oldest point", point(stats.oldest.as_ref(), stats.oldest_time.as_ref())),
        ("newest point", point(stats.newest.as_ref(), stats.newest_time.as_ref())),
        ("redo", segments(stats.redo_segments, stats.redo_bytes, figures.payload_bytes)),
        ("undo", segments(stats.undo_segments, stats.undo_bytes, figures.undo_payload_bytes)),
        ("thinned", thinned(&stats.thinning.clone().unwrap_or_default())),
        ("kept files", format_size(stats.kept_bytes)),
        ("tables", format_size(stats.tables_bytes)),
        ("bookmarks", stats.bookmarks.to_string()),
        ("pins", stats.pins.to_string()),
        ("window", stats.window.as_ref().map_or_else(|| "-".to_owned(), window_text)),
        ("changed", format_size(figures.payload_bytes)),
        (
            "journal per changed byte",
            figures
                .journal_bytes_per_changed_byte
                .map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}")),
        ),
        ("limits", format!("{}, {}", format_size(stats.max_bytes), format_duration(retention))),
        ("disk free", format_size(stats.free_bytes)),
    ]));
    for pin in &figures.pins {
        context.out.data(&format!("  pin {} keeps LSN {}: {}", pin.pin, pin.lsn, pin.why));
    }
    Ok(Exit::Done)
}

/// What was given up, and why no more is.
fn thinned(thinning: &v1::Thinning) -> String {
    let stopped = match thinning.stopped.as_str() {
        "" => String::new(),
        why => format!("; stopped after {} (RW1141): {why}", count(thinning.failures.into(), "failure")),
    };
    match thinning.points {
        0 => format!("nothing{stopped}"),
        points => {
            format!("{}, {} of undo{stopped}", count(points, "point"), format_size(thinning.undo_bytes))
        }
    }
}
