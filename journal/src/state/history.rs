//! What captures leave behind in the tables: points, and undo by key and by LSN.

use super::rows::{self, Change, NodeRow, PointKind, PointRow};
use super::transition::Replaced;
use crate::event::{Capture, Class, Event, Marker, Provenance};
use crate::lsn::Lsn;
use crate::meta::{Attributes, Kind, Meta, Timestamp};
use crate::record::{DataUndo, NameUndo, NodeUndo};
use crate::tables::{Put, Space};
use std::collections::HashSet;

/// The row of a root before its attributes are known.
#[must_use]
pub fn root_row() -> NodeRow {
    let time = Timestamp(0);
    let attributes = Attributes { mode: 0o755, uid: 0, gid: 0, mtime: time, ctime: time };
    let meta = Meta { kind: Kind::Directory, size: 0, attributes, xattrs: Vec::new() };
    NodeRow {
        meta,
        inode: 0,
        origin: None,
        kept_since: None,
        content_known: true,
        known_bytes: 0,
        longest: 0,
    }
}

/// What a person sees of a capture.
#[must_use]
pub fn point_of(capture: &Capture) -> PointRow {
    let mut kind = PointKind::Marker;
    let mut class = Class::Fuzzy;
    let mut bytes = 0;
    // The most telling event names the point: what appeared or went, else names, else bytes, else attributes.
    let rank = |kind: PointKind| match kind {
        PointKind::Marker => 0,
        PointKind::Attributes => 1,
        PointKind::Modified => 2,
        PointKind::Removed => 3,
        PointKind::Renamed => 4,
        PointKind::Created => 5,
    };
    for event in &capture.events {
        let found = match event {
            Event::Create { .. } => PointKind::Created,
            Event::Remove { .. } => PointKind::Removed,
            Event::Rename { .. } | Event::Link { .. } => PointKind::Renamed,
            Event::Write { data, .. } => {
                bytes += data.len();
                PointKind::Modified
            }
            Event::Punch { .. } | Event::Resize { .. } => PointKind::Modified,
            Event::SetAttributes { .. } | Event::SetXattrs { .. } => PointKind::Attributes,
            Event::Mark(marker) => {
                if let Marker::Barrier { class: found, .. } = marker {
                    class = *found;
                }
                PointKind::Marker
            }
        };
        if rank(found) > rank(kind) {
            kind = found;
        }
    }
    let (time, root, provenance) = (capture.time, capture.root, capture.provenance);
    let marker = capture.events.iter().find_map(|event| match event {
        Event::Mark(marker) if kind == PointKind::Marker => Some(marker.to_string().into_bytes()),
        _ => None,
    });
    let path = marker.unwrap_or_else(|| capture.path.clone());
    PointRow { time, kind, root, path, from: None, bytes, provenance, class }
}

/// What a person sees of a capture, as a row; of a first synchronization only its end, before which there is no
/// point.
#[must_use]
pub fn point_put(capture: &Capture) -> Option<Put> {
    let point = || (Space::Points, capture.lsn.to_key().to_vec(), Some(rows::write(&point_of(capture))));
    let completes = |event: &Event| matches!(event, Event::Mark(Marker::SynchronizationCompleted { .. }));
    let is_point = capture.provenance != Provenance::Synchronization || capture.events.iter().any(completes);
    is_point.then(point)
}

/// All rows that undo of a capture makes: undo by key, and by LSN what was touched. They depend on nothing but what is
/// in the undo stream, so they come out the same from apply and from a rebuild.
#[must_use]
pub fn history_puts(lsn: Lsn, replaced: &Replaced, data: &[DataUndo]) -> Vec<Put> {
    let mut puts = undo_puts(lsn, &replaced.names, &replaced.nodes);
    let mut changes: Vec<Change> =
        replaced.names.iter().map(|undo| Change::Name(undo.edge.clone())).collect();
    changes.extend(replaced.nodes.iter().map(|undo| Change::Node(undo.node)));
    let mut seen = HashSet::new();
    for one in data {
        puts.extend(rows::data_undo_puts(lsn, one));
        if seen.insert(one.node) {
            changes.push(Change::Data(one.node));
        }
    }
    for (number, change) in changes.iter().enumerate() {
        puts.push((Space::Changes, rows::change_key(lsn, number as u32), Some(rows::write(change))));
    }
    puts
}

/// Rows of undo of names and metadata.
#[must_use]
fn undo_puts(lsn: Lsn, names: &[NameUndo], nodes: &[NodeUndo]) -> Vec<Put> {
    let names = names
        .iter()
        .map(|undo| (Space::NameUndo, rows::name_undo_key(&undo.edge, lsn), Some(rows::write(&undo.before))));
    let nodes = nodes
        .iter()
        .map(|undo| (Space::NodeUndo, rows::node_undo_key(undo.node, lsn), Some(rows::write(&undo.before))));
    names.chain(nodes).collect()
}
