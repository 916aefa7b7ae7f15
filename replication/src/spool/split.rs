//! How drafts are cut into parts.
//!
//! A part is a message on the wire, so its size bounds what a slow line is busy with before the next word gets through,
//! and what the replica holds for one message.

use journal::{Event, Kind, Marker, Payload, Xattrs};
use wire::stream::{PART_BYTES_MAX, PART_EVENTS_MAX};

/// Events of a draft are put into parts of about this size. One larger event makes a larger part.
const PART_BYTES_TARGET: usize = 1 << 20;

/// How many of the events, from the first, go into one part: at least one if there is any.
pub(super) fn part_events(events: &[Event]) -> usize {
    let mut bytes = 0;
    for (count, event) in events.iter().enumerate().take(PART_EVENTS_MAX) {
        bytes += event_bytes(event);
        if bytes > PART_BYTES_TARGET && count > 0 {
            return count;
        }
    }
    events.len().min(PART_EVENTS_MAX)
}

/// About what an event takes on the wire; never less than its variable parts.
fn event_bytes(event: &Event) -> usize {
    let xattrs = |xattrs: &Xattrs| xattrs.iter().map(|(name, value)| name.len() + value.len() + 16).sum();
    let variable: usize = match event {
        Event::Create { at, meta, .. } => {
            let target = if let Kind::Symlink(target) = &meta.kind { target.len() } else { 0 };
            let xattrs: usize = xattrs(&meta.xattrs);
            at.name.as_bytes().len() + target + xattrs
        }
        Event::Link { at, .. } | Event::Remove { at, .. } => at.name.as_bytes().len(),
        Event::Rename { from, to, .. } => from.name.as_bytes().len() + to.name.as_bytes().len(),
        Event::Write { data: Payload::Inline(bytes), .. } => bytes.len(),
        Event::SetXattrs { xattrs: set, .. } => xattrs(set),
        Event::Mark(
            Marker::GapOpened { path, .. } | Marker::Skipped { path, .. } | Marker::Unskipped { path, .. },
        ) => path.len(),
        Event::Write { .. }
        | Event::Punch { .. }
        | Event::Resize { .. }
        | Event::SetAttributes { .. }
        | Event::Mark(_) => 0,
    };
    variable + 128
}

// A part of the target size with the longest path is sendable.
const _: () = assert!(PART_BYTES_TARGET + wire::stream::PATH_BYTES_MAX + 4096 < PART_BYTES_MAX);
