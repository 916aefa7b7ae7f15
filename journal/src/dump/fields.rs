//! Every kind of record as fields. A new kind of event or control record does not compile until it is said here how it
//! is shown.

use super::{Field, Item, Paths, Record, Value};
use crate::digest::Digest;
use crate::error::JournalError;
use crate::event::{Capture, Class, Event, GapCause, Marker, Payload, PayloadAt, Provenance};
use crate::id::{Edge, NodeId, Origin};
use crate::log::{RecordAt, StoredRecord, Stream};
use crate::lsn::Lsn;
use crate::meta::{Attributes, Kind, Meta, Timestamp, Xattrs};
use crate::record::{Applied, Control, DataUndo, RedoRecord, UndoPart, UndoRecord, UndoSource};

/// Gives the items of a record, in its order, until `take` says no; false if it did.
///
/// # Errors
/// As the tables in which paths are looked up.
pub fn items(
    stream: Stream,
    stored: &StoredRecord,
    record: &Record,
    paths: &mut Paths<'_>,
    take: &mut dyn FnMut(Item) -> bool,
) -> Result<bool, JournalError> {
    let item = |kind, fields: Fields| {
        let StoredRecord { at, lsn, time, .. } = *stored;
        Item { stream, at, lsn, time, kind, fields: fields.0 }
    };
    match record {
        Record::Redo(RedoRecord::Part(part)) => {
            for (number, event) in part.capture.events.iter().enumerate() {
                let (kind, fields) = event_fields(event, Fields::default(), paths)?;
                let fields = fields.of_part(&part.capture, part.number, part.last, number);
                if !take(item(kind, fields)) {
                    return Ok(false);
                }
            }
            if part.capture.events.is_empty() {
                let fields = Fields::default().of_part(&part.capture, part.number, part.last, 0);
                return Ok(take(item("nothing", fields)));
            }
            Ok(true)
        }
        Record::Redo(RedoRecord::Control(control)) => {
            let (kind, fields) = control_fields(control);
            Ok(take(item(kind, fields)))
        }
        Record::Undo(UndoRecord::Applied(applied)) => Ok(take(item("applied", applied_fields(applied)))),
        Record::Undo(UndoRecord::Undo(part)) => {
            undo_items(part, paths, &mut |kind, fields| take(item(kind, fields)))
        }
    }
}

/// Fields under way.
#[derive(Default)]
struct Fields(Vec<Field>);

impl Fields {
    fn with(mut self, name: &'static str, value: Value) -> Self {
        self.0.push((name, value));
        self
    }

    fn number(self, name: &'static str, value: impl Into<u64>) -> Self {
        self.with(name, Value::Unsigned(value.into()))
    }

    fn text(self, name: &'static str, value: impl Into<String>) -> Self {
        self.with(name, Value::Text(value.into()))
    }

    fn bytes(self, name: &'static str, value: &[u8]) -> Self {
        self.with(name, Value::Bytes(value.to_vec()))
    }

    fn flag(self, name: &'static str, value: bool) -> Self {
        self.with(name, Value::Flag(value))
    }

    fn time(self, name: &'static str, value: Timestamp) -> Self {
        self.with(name, Value::Signed(value.0))
    }

    fn maybe_time(self, name: &'static str, value: Option<Timestamp>) -> Self {
        match value {
            Some(value) => self.time(name, value),
            None => self,
        }
    }

    fn lsn(self, name: &'static str, captured: u64, local: u64) -> Self {
        self.with(name, Value::Lsn(Lsn { captured, local }))
    }

    fn hash(self, name: &'static str, value: &[u8]) -> Self {
        let text = value.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        self.text(name, text)
    }

    fn maybe_hash(self, name: &'static str, value: Option<&[u8]>) -> Self {
        match value {
            Some(value) => self.hash(name, value),
            None => self,
        }
    }

    /// A name in a directory, and where that is now.
    fn edge(
        self,
        names: [&'static str; 3],
        edge: &Edge,
        paths: &mut Paths<'_>,
    ) -> Result<Self, JournalError> {
        let [parent, name, now] = names;
        let fields = self.number(parent, edge.parent.0).bytes(name, edge.name.as_bytes());
        Ok(fields.place(now, paths.edge(edge)?))
    }

    /// A node, and where it is now.
    fn node(self, node: NodeId, paths: &mut Paths<'_>) -> Result<Self, JournalError> {
        let place = paths.node(node)?;
        Ok(self.number("node", node.0).place("path_now", place))
    }

    fn place(self, name: &'static str, place: Option<(crate::id::RootNo, bool, Vec<u8>)>) -> Self {
        match place {
            Some((_, false, path)) => self.bytes(name, &path),
            // Kept for older points: nobody finds it under that path.
            Some((_, true, _)) | None => self,
        }
    }

    fn attributes(self, of: &Attributes) -> Self {
        let Attributes { mode, uid, gid, mtime, ctime } = *of;
        let fields = self.number("mode", mode).number("uid", uid).number("gid", gid);
        fields.time("mtime_ns", mtime).time("ctime_ns", ctime)
    }

    fn xattrs(self, of: &Xattrs) -> Self {
        let fields = self.number("xattrs", of.len() as u64);
        of.iter().fold(fields, |fields, (name, value)| fields.bytes("xattr", name).bytes("value", value))
    }

    fn meta(self, of: &Meta) -> Self {
        let fields = match &of.kind {
            Kind::File => self.text("type", "file").number("size", of.size),
            Kind::Directory => self.text("type", "directory"),
            Kind::Symlink(target) => self.text("type", "symlink").bytes("target", target),
            Kind::Fifo => self.text("type", "fifo"),
            Kind::Socket => self.text("type", "socket"),
            Kind::CharDevice(device) => self.text("type", "char-device").number("device", *device),
            Kind::BlockDevice(device) => self.text("type", "block-device").number("device", *device),
        };
        fields.attributes(&of.attributes).xattrs(&of.xattrs)
    }

    fn origin(self, of: Option<&Origin>) -> Self {
        let Some(Origin { device, inode, generation, birth }) = of.copied() else { return self };
        let fields = self.number("origin_device", device).number("origin_inode", inode);
        fields.number("origin_generation", generation).with("origin_birth_ns", Value::Signed(birth))
    }

    fn payload(self, at: &PayloadAt) -> Self {
        let fields = self.number("data_segment", at.segment).number("data_offset", at.offset);
        let fields = fields.text("data_crc32c", format!("{:08x}", at.crc));
        match at.packed {
            Some(packed) => fields.number("data_packed_bytes", packed.bytes),
            None => fields,
        }
    }

    fn record_at(self, names: [&'static str; 2], at: RecordAt) -> Self {
        let [segment, offset] = names;
        self.number(segment, at.segment).number(offset, at.offset)
    }

    /// What all events of a part have.
    fn of_part(self, capture: &Capture, part: u32, last: bool, event: usize) -> Self {
        let provenance = match capture.provenance {
            Provenance::Exact => "exact",
            Provenance::Derived => "derived",
            Provenance::Rescan => "rescan",
            Provenance::Synchronization => "synchronization",
            Provenance::Local => "local",
        };
        let own =
            Fields::default().number("event", event as u64).number("part", part).flag("last_part", last);
        let own =
            own.text("provenance", provenance).number("root", capture.root.0).bytes("path", &capture.path);
        Fields(own.0.into_iter().chain(self.0).collect())
    }
}

fn event_fields(
    event: &Event,
    fields: Fields,
    paths: &mut Paths<'_>,
) -> Result<(&'static str, Fields), JournalError> {
    const AT: [&str; 3] = ["parent", "name", "path_now"];
    const TIME: &str = "parent_mtime_ns";
    Ok(match event {
        Event::Create { node, at, meta, origin, parent_mtime } => {
            let fields =
                fields.number("node", node.0).edge(AT, at, paths)?.meta(meta).origin(origin.as_ref());
            ("create", fields.maybe_time(TIME, *parent_mtime))
        }
        Event::Link { node, at, parent_mtime } => {
            ("link", fields.number("node", node.0).edge(AT, at, paths)?.maybe_time(TIME, *parent_mtime))
        }
        Event::Remove { node, at, parent_mtime } => {
            ("remove", fields.number("node", node.0).edge(AT, at, paths)?.maybe_time(TIME, *parent_mtime))
        }
        Event::Rename { node, from, to, from_parent_mtime, to_parent_mtime } => {
            let fields = fields.number("node", node.0);
            let fields = fields.edge(["from_parent", "from_name", "from_path_now"], from, paths)?;
            let fields = fields.edge(["to_parent", "to_name", "to_path_now"], to, paths)?;
            let fields = fields.maybe_time("from_parent_mtime_ns", *from_parent_mtime);
            ("rename", fields.maybe_time("to_parent_mtime_ns", *to_parent_mtime))
        }
        Event::Write { node, offset, data, before } => {
            let fields = fields.node(*node, paths)?.number("offset", *offset).number("bytes", data.len());
            let fields = match data {
                Payload::Stored(at) => fields.payload(at),
                Payload::External { hash, .. } => fields.hash("hash", hash),
                Payload::Undone { at, skip, .. } => {
                    fields.flag("undone", true).payload(at).number("data_skip", u64::from(*skip))
                }
                Payload::Inline(_) => fields,
            };
            ("write", fields.maybe_hash("hash_before", before.as_ref().map(<[u8; 16]>::as_slice)))
        }
        Event::Punch { node, offset, bytes } => {
            ("punch", fields.node(*node, paths)?.number("offset", *offset).number("bytes", *bytes))
        }
        Event::Resize { node, size } => ("resize", fields.node(*node, paths)?.number("size", *size)),
        Event::SetAttributes { node, attributes } => {
            ("attributes", fields.node(*node, paths)?.attributes(attributes))
        }
        Event::SetXattrs { node, xattrs } => ("xattrs", fields.node(*node, paths)?.xattrs(xattrs)),
        Event::Mark(marker) => marker_fields(marker, fields),
    })
}

fn class(of: Class) -> &'static str {
    match of {
        Class::Fuzzy => "fuzzy",
        Class::Crash => "crash",
        Class::Application => "application",
    }
}

fn marker_fields(marker: &Marker, fields: Fields) -> (&'static str, Fields) {
    match marker {
        Marker::Barrier { cookie, class: of } => {
            ("barrier", fields.number("cookie", *cookie).text("class", class(*of)))
        }
        Marker::SynchronizationStarted { first } => ("synchronization-started", fields.flag("first", *first)),
        Marker::SynchronizationCompleted { files, directories, bytes } => {
            let fields = fields.number("files", *files).number("directories", *directories);
            ("synchronization-completed", fields.number("bytes", *bytes))
        }
        Marker::GapOpened { gap, root, path, cause } => {
            let cause = match cause {
                GapCause::QueueOverflow => "queue-overflow",
                GapCause::WatchLimit => "watch-limit",
                GapCause::WatchLost => "watch-lost",
                GapCause::AgentDown => "agent-down",
                GapCause::SpoolFull => "spool-full",
                GapCause::Stopped => "stopped",
            };
            let fields = fields.number("gap", *gap).number("gap_root", root.0).bytes("gap_path", path);
            ("gap-opened", fields.text("cause", cause))
        }
        Marker::GapClosed { gap } => ("gap-closed", fields.number("gap", *gap)),
        Marker::Skipped { root, path, what, errno } => {
            let fields = fields.number("skipped_root", root.0).bytes("skipped_path", path);
            let fields = fields.text("what", what.word());
            ("skipped", fields.with("errno", Value::Signed(i64::from(*errno))))
        }
        Marker::Unskipped { root, path } => {
            ("unskipped", fields.number("skipped_root", root.0).bytes("skipped_path", path))
        }
        Marker::Digest { root, digest } => {
            let digest = Digest::from_bytes(digest).to_string();
            ("digest", fields.number("digest_root", root.0).text("digest", &digest))
        }
    }
}

fn control_fields(control: &Control) -> (&'static str, Fields) {
    let fields = Fields::default();
    match control {
        Control::BookmarkSet { name, captured, local, class: of, automatic, time } => {
            let fields = fields.text("bookmark", name).lsn("point", *captured, *local);
            let fields = fields.text("class", class(*of)).flag("automatic", *automatic);
            ("bookmark-set", fields.time("point_time_ns", *time))
        }
        Control::BookmarkDeleted { name } => ("bookmark-deleted", fields.text("bookmark", name)),
        Control::Pinned { pin, captured, local, why } => {
            ("pinned", fields.number("pin", *pin).lsn("point", *captured, *local).text("why", why))
        }
        Control::Unpinned { pin } => ("unpinned", fields.number("pin", *pin)),
        Control::Detached { why } => ("detached", fields.text("why", why)),
        Control::Attached => ("attached", fields),
        Control::Drift { object, what, time } => {
            ("drift", fields.text("object", object).text("what", what).time("found_ns", *time))
        }
        Control::DriftCleared => ("drift-cleared", fields),
        // The body is its owner's: it may hold what is not for everybody who may read a journal.
        Control::Server { kind, body } => {
            ("server", fields.number("server_kind", *kind).number("bytes", body.len() as u64))
        }
        Control::Horizon { captured, local } => ("horizon", fields.lsn("point", *captured, *local)),
        Control::LocalsDropped { captured, after, upto } => {
            ("locals-dropped", fields.lsn("after", *captured, *after).lsn("upto", *captured, *upto))
        }
        Control::BytesLost { first, last } => {
            ("bytes-lost", fields.lsn("first", *first, 0).lsn("last", *last, 0))
        }
        Control::Met { meeting, before } => ("met", fields.hash("meeting", meeting).hash("before", before)),
        Control::Compared { captured, time, differs } => {
            let differs: Vec<String> = differs.iter().map(|root| root.0.to_string()).collect();
            let fields = fields.lsn("point", *captured, 0).time("compared_ns", *time);
            ("compared", fields.flag("equal", differs.is_empty()).text("differs", differs.join(" ")))
        }
        Control::Scrubbed(scrubbed) => {
            let fields = fields.lsn("point", scrubbed.captured, 0).time("ended_ns", scrubbed.ended);
            let fields = fields.number("files", scrubbed.files).number("bytes", scrubbed.bytes);
            let fields = fields.number("replica_differs", scrubbed.replica_differs);
            ("scrubbed", fields.number("master_differs", scrubbed.master_differs))
        }
    }
}

fn applied_fields(applied: &Applied) -> Fields {
    let Applied { redo, inodes, more, .. } = applied;
    let fields = Fields::default().record_at(["redo_segment", "redo_offset"], *redo);
    let fields = fields.number("inodes", inodes.len() as u64).flag("more", *more);
    inodes.iter().fold(fields, |fields, (node, inode)| fields.number("node", node.0).number("inode", *inode))
}

fn undo_items(
    part: &UndoPart,
    paths: &mut Paths<'_>,
    take: &mut dyn FnMut(&'static str, Fields) -> bool,
) -> Result<bool, JournalError> {
    let last = || Fields::default().flag("last_part", part.last);
    for undo in &part.names {
        let fields = last().edge(["parent", "name", "path_now"], &undo.edge, paths)?;
        let fields = match undo.before {
            Some(node) => fields.number("node_before", node.0),
            None => fields,
        };
        if !take("undo-name", fields) {
            return Ok(false);
        }
    }
    for undo in &part.nodes {
        if !take("undo-node", last().node(undo.node, paths)?.meta(&undo.before)) {
            return Ok(false);
        }
    }
    for DataUndo { node, offset, bytes, source } in &part.data {
        let fields = last().node(*node, paths)?.number("offset", *offset).number("bytes", *bytes);
        let fields = match source {
            UndoSource::Zero => fields.text("source", "zeros"),
            UndoSource::Undo { at, skip } => fields.text("source", "undo").payload(at).number("skip", *skip),
            UndoSource::Redo { at, skip } => fields.text("source", "redo").payload(at).number("skip", *skip),
            UndoSource::Delta { at, skip, redo, from } => {
                let fields = fields.text("source", "delta").payload(at).number("skip", *skip);
                let place = RecordAt { segment: redo.segment, offset: redo.offset };
                let fields = fields.record_at(["redo_data_segment", "redo_data_offset"], place);
                fields.number("redo_skip", *from)
            }
        };
        if !take("undo-bytes", fields) {
            return Ok(false);
        }
    }
    if part.names.is_empty() && part.nodes.is_empty() && part.data.is_empty() {
        return Ok(take("undo-nothing", last()));
    }
    Ok(true)
}
