//! Events and what they are made of, to and from their messages.
//!
//! Conversions are shape for shape; [`check_event`] holds every rule on values and is run on both sides.

use super::{
    ConvertError, PATH_BYTES_MAX, TARGET_BYTES_MAX, XATTR_NAME_BYTES_MAX, XATTR_VALUE_BYTES_MAX, XATTRS_MAX,
    at_most, count_field, proto, required,
};
use bytes::Bytes;
use journal::{
    Attributes, Class, Edge, Event, GapCause, Kind, Marker, Meta, Name, NodeId, Origin, Payload, RootNo,
    SkippedWhat, Timestamp, WRITE_BYTES_MAX, Xattrs,
};
use prost::Message;

/// Number of `xattrs` in `message XattrSet`.
const XATTRS_TAG: u32 = 1;
/// Longest file: what the kernel can address.
const FILE_BYTES_MAX: u64 = i64::MAX as u64;

fn invalid(field: &'static str, what: &'static str) -> ConvertError {
    ConvertError::Invalid { field, what }
}

pub(super) fn path_ok(field: &'static str, path: &[u8]) -> Result<(), ConvertError> {
    at_most(field, path.len(), PATH_BYTES_MAX)?;
    if path.contains(&0) { Err(invalid(field, "holds a NUL byte")) } else { Ok(()) }
}

fn root_ok(root: RootNo) -> Result<(), ConvertError> {
    if root.0 < RootNo::COUNT_MAX { Ok(()) } else { Err(invalid("root", "no such root")) }
}

/// Ids of roots, kept areas and what lies below them; the numbers between stand for nothing.
pub(super) fn node_ok(node: NodeId) -> Result<(), ConvertError> {
    let fixed_end = 2 * u64::from(RootNo::COUNT_MAX) + 2;
    let fixed = (2..fixed_end).contains(&node.0);
    if fixed || node >= NodeId::FIRST_FREE { Ok(()) } else { Err(invalid("node", "no such id")) }
}

/// A node that can be created, named, renamed: neither a root nor a kept area.
fn free_node_ok(node: NodeId) -> Result<(), ConvertError> {
    if node >= NodeId::FIRST_FREE {
        Ok(())
    } else {
        Err(invalid("node", "a root or kept area cannot be named"))
    }
}

fn range_ok(offset: u64, bytes: u64) -> Result<(), ConvertError> {
    match offset.checked_add(bytes) {
        Some(end) if end <= FILE_BYTES_MAX => Ok(()),
        _ => Err(invalid("offset", "the range ends behind the longest file")),
    }
}

pub(super) fn meta_ok(meta: &Meta) -> Result<(), ConvertError> {
    if let Kind::Symlink(target) = &meta.kind {
        at_most("target", target.len(), TARGET_BYTES_MAX)?;
        if target.is_empty() || target.contains(&0) {
            return Err(invalid("target", "not the target of a link"));
        }
    }
    if meta.size > FILE_BYTES_MAX || (meta.size != 0 && !meta.kind.is_file()) {
        return Err(invalid("size", "not the size of a node of this kind"));
    }
    attributes_ok(&meta.attributes)?;
    xattrs_ok(&meta.xattrs)
}

fn attributes_ok(attributes: &Attributes) -> Result<(), ConvertError> {
    if attributes.mode <= 0o7777 { Ok(()) } else { Err(invalid("mode", "more than permission bits")) }
}

fn xattrs_ok(xattrs: &Xattrs) -> Result<(), ConvertError> {
    at_most("xattrs", xattrs.len(), XATTRS_MAX)?;
    for (name, value) in xattrs {
        at_most("xattr name", name.len(), XATTR_NAME_BYTES_MAX)?;
        at_most("xattr value", value.len(), XATTR_VALUE_BYTES_MAX)?;
        if name.is_empty() || name.contains(&0) {
            return Err(invalid("xattr name", "not a name"));
        }
    }
    if xattrs.is_sorted_by(|(a, _), (b, _)| a < b) { Ok(()) } else { Err(invalid("xattrs", "not sorted")) }
}

/// Every rule on the values of an event.
pub(super) fn check_event(event: &Event) -> Result<(), ConvertError> {
    match event {
        Event::Create { node, at, meta, .. } => {
            free_node_ok(*node)?;
            node_ok(at.parent)?;
            if meta.kind.is_file() && meta.size != 0 {
                return Err(invalid("size", "a file is created empty"));
            }
            meta_ok(meta)
        }
        Event::Link { node, at, .. } | Event::Remove { node, at, .. } => {
            free_node_ok(*node)?;
            node_ok(at.parent)
        }
        Event::Rename { node, from, to, .. } => {
            free_node_ok(*node)?;
            node_ok(from.parent)?;
            node_ok(to.parent)
        }
        Event::Write { node, offset, data, .. } => {
            free_node_ok(*node)?;
            let Payload::Inline(bytes) = data else {
                return Err(invalid("data", "the payload is not in memory"));
            };
            at_most("data", bytes.len(), WRITE_BYTES_MAX)?;
            range_ok(*offset, bytes.len() as u64)
        }
        Event::Punch { node, offset, bytes } => {
            free_node_ok(*node)?;
            range_ok(*offset, *bytes)
        }
        Event::Resize { node, size } => {
            free_node_ok(*node)?;
            range_ok(*size, 0)
        }
        Event::SetAttributes { node, attributes } => {
            node_ok(*node)?;
            attributes_ok(attributes)
        }
        Event::SetXattrs { node, xattrs } => {
            node_ok(*node)?;
            xattrs_ok(xattrs)
        }
        Event::Mark(marker) => check_marker(marker),
    }
}

fn check_marker(marker: &Marker) -> Result<(), ConvertError> {
    match marker {
        Marker::GapOpened { root, path, .. }
        | Marker::Skipped { root, path, .. }
        | Marker::Unskipped { root, path } => {
            root_ok(*root)?;
            path_ok("path", path)
        }
        Marker::Digest { root, .. } => root_ok(*root),
        Marker::Barrier { .. }
        | Marker::SynchronizationStarted { .. }
        | Marker::SynchronizationCompleted { .. }
        | Marker::GapClosed { .. } => Ok(()),
    }
}

pub(super) fn root(number: u32) -> Result<RootNo, ConvertError> {
    u16::try_from(number).map(RootNo).map_err(|_| invalid("root", "no such root"))
}

pub(super) fn edge_into(edge: &Edge) -> Option<proto::Edge> {
    Some(proto::Edge { parent: edge.parent.0, name: Bytes::copy_from_slice(edge.name.as_bytes()) })
}

pub(super) fn edge_from(field: &'static str, edge: Option<proto::Edge>) -> Result<Edge, ConvertError> {
    let edge = required(field, edge)?;
    Ok(Edge::new(NodeId(edge.parent), name_from(&edge.name)?))
}

pub(super) fn name_from(bytes: &[u8]) -> Result<Name, ConvertError> {
    Name::new(bytes).ok_or(invalid("name", "not a file name"))
}

fn nanos(time: Option<Timestamp>) -> Option<i64> {
    time.map(|time| time.0)
}

fn attributes_into(attributes: &Attributes) -> proto::Attributes {
    proto::Attributes {
        mode: attributes.mode,
        uid: attributes.uid,
        gid: attributes.gid,
        mtime: attributes.mtime.0,
        ctime: attributes.ctime.0,
    }
}

fn attributes_from(attributes: Option<proto::Attributes>) -> Result<Attributes, ConvertError> {
    let a = required("attributes", attributes)?;
    let (mtime, ctime) = (Timestamp(a.mtime), Timestamp(a.ctime));
    Ok(Attributes { mode: a.mode, uid: a.uid, gid: a.gid, mtime, ctime })
}

fn xattrs_into(xattrs: &Xattrs) -> Bytes {
    let xattr = |(name, value): &(Vec<u8>, Vec<u8>)| proto::Xattr {
        name: Bytes::copy_from_slice(name),
        value: Bytes::copy_from_slice(value),
    };
    proto::XattrSet { xattrs: xattrs.iter().map(xattr).collect() }.encode_to_vec().into()
}

fn xattrs_from(bytes: Bytes) -> Result<Xattrs, ConvertError> {
    at_most("xattrs", count_field(&bytes, XATTRS_TAG)?, XATTRS_MAX)?;
    let set = proto::XattrSet::decode(bytes)?;
    Ok(set.xattrs.into_iter().map(|xattr| (xattr.name.to_vec(), xattr.value.to_vec())).collect())
}

pub(super) fn origin_into(origin: &Origin) -> proto::Origin {
    let Origin { device, inode, generation, birth } = *origin;
    proto::Origin { device, inode, generation, birth }
}

pub(super) fn origin_from(origin: proto::Origin) -> Origin {
    let proto::Origin { device, inode, generation, birth } = origin;
    Origin { device, inode, generation, birth }
}

pub(super) fn meta_into(meta: &Meta) -> proto::Meta {
    use proto::KindOf;
    let (of, target, device) = match &meta.kind {
        Kind::File => (KindOf::File, Bytes::new(), 0),
        Kind::Directory => (KindOf::Directory, Bytes::new(), 0),
        Kind::Symlink(target) => (KindOf::Symlink, Bytes::copy_from_slice(target), 0),
        Kind::Fifo => (KindOf::Fifo, Bytes::new(), 0),
        Kind::Socket => (KindOf::Socket, Bytes::new(), 0),
        Kind::CharDevice(device) => (KindOf::CharDevice, Bytes::new(), *device),
        Kind::BlockDevice(device) => (KindOf::BlockDevice, Bytes::new(), *device),
    };
    proto::Meta {
        kind: Some(proto::Kind { of: of as i32, target, device }),
        size: meta.size,
        attributes: Some(attributes_into(&meta.attributes)),
        xattrs: xattrs_into(&meta.xattrs),
    }
}

pub(super) fn meta_from(meta: Option<proto::Meta>) -> Result<Meta, ConvertError> {
    use proto::KindOf;
    let meta = required("meta", meta)?;
    let kind = required("kind", meta.kind)?;
    let unknown = ConvertError::Unknown { field: "kind", value: i64::from(kind.of) };
    let kind = match KindOf::try_from(kind.of) {
        Ok(KindOf::File) => Kind::File,
        Ok(KindOf::Directory) => Kind::Directory,
        Ok(KindOf::Symlink) => {
            at_most("target", kind.target.len(), TARGET_BYTES_MAX)?;
            Kind::Symlink(kind.target.to_vec())
        }
        Ok(KindOf::Fifo) => Kind::Fifo,
        Ok(KindOf::Socket) => Kind::Socket,
        Ok(KindOf::CharDevice) => Kind::CharDevice(kind.device),
        Ok(KindOf::BlockDevice) => Kind::BlockDevice(kind.device),
        Ok(KindOf::Unspecified) | Err(_) => return Err(unknown),
    };
    let attributes = attributes_from(meta.attributes)?;
    Ok(Meta { kind, size: meta.size, attributes, xattrs: xattrs_from(meta.xattrs)? })
}

pub(super) fn event_into(event: &Event) -> Result<proto::Event, ConvertError> {
    use proto::event::Event as E;
    let event = match event {
        Event::Create { node, at, meta, origin, parent_mtime } => E::Create(proto::Create {
            node: node.0,
            at: edge_into(at),
            meta: Some(meta_into(meta)),
            origin: origin.as_ref().map(origin_into),
            parent_mtime: nanos(*parent_mtime),
        }),
        Event::Link { node, at, parent_mtime } => {
            E::Link(proto::Link { node: node.0, at: edge_into(at), parent_mtime: nanos(*parent_mtime) })
        }
        Event::Remove { node, at, parent_mtime } => {
            E::Remove(proto::Remove { node: node.0, at: edge_into(at), parent_mtime: nanos(*parent_mtime) })
        }
        Event::Rename { node, from, to, from_parent_mtime, to_parent_mtime } => E::Rename(proto::Rename {
            node: node.0,
            from: edge_into(from),
            to: edge_into(to),
            from_parent_mtime: nanos(*from_parent_mtime),
            to_parent_mtime: nanos(*to_parent_mtime),
        }),
        Event::Write { node, offset, data, before } => {
            let Payload::Inline(data) = data else {
                return Err(invalid("data", "the payload is not in memory"));
            };
            let before = before.map_or_else(Bytes::new, |hash| Bytes::copy_from_slice(&hash));
            E::Write(proto::Write { node: node.0, offset: *offset, data: data.clone(), before })
        }
        Event::Punch { node, offset, bytes } => {
            E::Punch(proto::Punch { node: node.0, offset: *offset, bytes: *bytes })
        }
        Event::Resize { node, size } => E::Resize(proto::Resize { node: node.0, size: *size }),
        Event::SetAttributes { node, attributes } => E::SetAttributes(proto::SetAttributes {
            node: node.0,
            attributes: Some(attributes_into(attributes)),
        }),
        Event::SetXattrs { node, xattrs } => {
            E::SetXattrs(proto::SetXattrs { node: node.0, xattrs: xattrs_into(xattrs) })
        }
        Event::Mark(marker) => E::Mark(proto::Marker { marker: Some(marker_into(marker)) }),
    };
    Ok(proto::Event { event: Some(event) })
}

pub(super) fn event_from(event: proto::Event) -> Result<Event, ConvertError> {
    use proto::event::Event as E;
    let time = |nanos: Option<i64>| nanos.map(Timestamp);
    Ok(match required("event", event.event)? {
        E::Create(e) => Event::Create {
            node: NodeId(e.node),
            at: edge_from("at", e.at)?,
            meta: meta_from(e.meta)?,
            origin: e.origin.map(origin_from),
            parent_mtime: time(e.parent_mtime),
        },
        E::Link(e) => Event::Link {
            node: NodeId(e.node),
            at: edge_from("at", e.at)?,
            parent_mtime: time(e.parent_mtime),
        },
        E::Remove(e) => Event::Remove {
            node: NodeId(e.node),
            at: edge_from("at", e.at)?,
            parent_mtime: time(e.parent_mtime),
        },
        E::Rename(e) => Event::Rename {
            node: NodeId(e.node),
            from: edge_from("from", e.from)?,
            to: edge_from("to", e.to)?,
            from_parent_mtime: time(e.from_parent_mtime),
            to_parent_mtime: time(e.to_parent_mtime),
        },
        E::Write(e) => {
            let before = match e.before.as_ref() {
                [] => None,
                hash => Some(hash.try_into().map_err(|_| invalid("before", "not 16 bytes"))?),
            };
            Event::Write { node: NodeId(e.node), offset: e.offset, data: Payload::Inline(e.data), before }
        }
        E::Punch(e) => Event::Punch { node: NodeId(e.node), offset: e.offset, bytes: e.bytes },
        E::Resize(e) => Event::Resize { node: NodeId(e.node), size: e.size },
        E::SetAttributes(e) => {
            Event::SetAttributes { node: NodeId(e.node), attributes: attributes_from(e.attributes)? }
        }
        E::SetXattrs(e) => Event::SetXattrs { node: NodeId(e.node), xattrs: xattrs_from(e.xattrs)? },
        E::Mark(e) => Event::Mark(marker_from(required("marker", e.marker)?)?),
    })
}

fn marker_into(marker: &Marker) -> proto::marker::Marker {
    use proto::marker::Marker as M;
    match marker {
        Marker::Barrier { cookie, class } => {
            M::Barrier(proto::Barrier { cookie: *cookie, class: class_into(*class) as i32 })
        }
        Marker::SynchronizationStarted { first } => {
            M::SynchronizationStarted(proto::SynchronizationStarted { first: *first })
        }
        Marker::SynchronizationCompleted { files, directories, bytes } => {
            let (files, directories, bytes) = (*files, *directories, *bytes);
            M::SynchronizationCompleted(proto::SynchronizationCompleted { files, directories, bytes })
        }
        Marker::GapOpened { gap, root, path, cause } => M::GapOpened(proto::GapOpened {
            gap: *gap,
            root: u32::from(root.0),
            path: Bytes::copy_from_slice(path),
            cause: cause_into(*cause) as i32,
        }),
        Marker::GapClosed { gap } => M::GapClosed(proto::GapClosed { gap: *gap }),
        Marker::Skipped { root, path, what, errno } => M::Skipped(proto::Skipped {
            root: u32::from(root.0),
            path: Bytes::copy_from_slice(path),
            what: what_into(*what) as i32,
            errno: *errno,
        }),
        Marker::Unskipped { root, path } => {
            M::Unskipped(proto::Unskipped { root: u32::from(root.0), path: Bytes::copy_from_slice(path) })
        }
        Marker::Digest { root, digest } => {
            M::Digest(proto::DigestMark { root: u32::from(root.0), digest: Bytes::copy_from_slice(digest) })
        }
    }
}

fn marker_from(marker: proto::marker::Marker) -> Result<Marker, ConvertError> {
    use proto::marker::Marker as M;
    Ok(match marker {
        M::Barrier(m) => Marker::Barrier { cookie: m.cookie, class: class_from(m.class)? },
        M::SynchronizationStarted(m) => Marker::SynchronizationStarted { first: m.first },
        M::SynchronizationCompleted(m) => {
            Marker::SynchronizationCompleted { files: m.files, directories: m.directories, bytes: m.bytes }
        }
        M::GapOpened(m) => {
            let cause = cause_from(m.cause)?;
            Marker::GapOpened { gap: m.gap, root: root(m.root)?, path: m.path.to_vec(), cause }
        }
        M::GapClosed(m) => Marker::GapClosed { gap: m.gap },
        M::Skipped(m) => {
            let what = what_from(m.what)?;
            Marker::Skipped { root: root(m.root)?, path: m.path.to_vec(), what, errno: m.errno }
        }
        M::Unskipped(m) => Marker::Unskipped { root: root(m.root)?, path: m.path.to_vec() },
        M::Digest(m) => {
            let digest = m.digest.as_ref().try_into().map_err(|_| invalid("digest", "not 32 bytes"))?;
            Marker::Digest { root: root(m.root)?, digest }
        }
    })
}

pub(super) const fn class_into(class: Class) -> proto::Class {
    match class {
        Class::Fuzzy => proto::Class::Fuzzy,
        Class::Crash => proto::Class::Crash,
        Class::Application => proto::Class::Application,
    }
}

pub(super) fn class_from(value: i32) -> Result<Class, ConvertError> {
    match proto::Class::try_from(value) {
        Ok(proto::Class::Fuzzy) => Ok(Class::Fuzzy),
        Ok(proto::Class::Crash) => Ok(Class::Crash),
        Ok(proto::Class::Application) => Ok(Class::Application),
        _ => Err(ConvertError::Unknown { field: "class", value: i64::from(value) }),
    }
}

const fn cause_into(cause: GapCause) -> proto::GapCause {
    match cause {
        GapCause::QueueOverflow => proto::GapCause::QueueOverflow,
        GapCause::WatchLimit => proto::GapCause::WatchLimit,
        GapCause::WatchLost => proto::GapCause::WatchLost,
        GapCause::AgentDown => proto::GapCause::AgentDown,
        GapCause::SpoolFull => proto::GapCause::SpoolFull,
        GapCause::Stopped => proto::GapCause::Stopped,
    }
}

fn cause_from(value: i32) -> Result<GapCause, ConvertError> {
    match proto::GapCause::try_from(value) {
        Ok(proto::GapCause::QueueOverflow) => Ok(GapCause::QueueOverflow),
        Ok(proto::GapCause::WatchLimit) => Ok(GapCause::WatchLimit),
        Ok(proto::GapCause::WatchLost) => Ok(GapCause::WatchLost),
        Ok(proto::GapCause::AgentDown) => Ok(GapCause::AgentDown),
        Ok(proto::GapCause::SpoolFull) => Ok(GapCause::SpoolFull),
        Ok(proto::GapCause::Stopped) => Ok(GapCause::Stopped),
        _ => Err(ConvertError::Unknown { field: "cause", value: i64::from(value) }),
    }
}

pub(super) const fn what_into(what: SkippedWhat) -> proto::SkippedWhat {
    match what {
        SkippedWhat::Node => proto::SkippedWhat::Node,
        SkippedWhat::Content => proto::SkippedWhat::Content,
        SkippedWhat::Xattrs => proto::SkippedWhat::Xattrs,
        SkippedWhat::MountPoint => proto::SkippedWhat::MountPoint,
    }
}

pub(super) fn what_from(value: i32) -> Result<SkippedWhat, ConvertError> {
    match proto::SkippedWhat::try_from(value) {
        Ok(proto::SkippedWhat::Node) => Ok(SkippedWhat::Node),
        Ok(proto::SkippedWhat::Content) => Ok(SkippedWhat::Content),
        Ok(proto::SkippedWhat::Xattrs) => Ok(SkippedWhat::Xattrs),
        Ok(proto::SkippedWhat::MountPoint) => Ok(SkippedWhat::MountPoint),
        _ => Err(ConvertError::Unknown { field: "what", value: i64::from(value) }),
    }
}
