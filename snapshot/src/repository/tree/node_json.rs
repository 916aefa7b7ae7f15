//! The JSON of one node, written by hand since the bytes are part of the format.

use super::go_text::{json_string, quote};
use super::{Node, NodeKind};
use crate::repository::base64;
use std::io::Write;

/// Kinds as the format names them, with the bits that mark them in a mode. The bits are those of Go's `os.FileMode`.
const KINDS: [(NodeKind, &str, u32); 7] = [
    (NodeKind::File, "file", 0),
    (NodeKind::Directory, "dir", 1 << 31),
    (NodeKind::Symlink, "symlink", 1 << 27),
    (NodeKind::BlockDevice, "dev", 1 << 26),
    (NodeKind::CharacterDevice, "chardev", 1 << 26 | 1 << 21),
    (NodeKind::Fifo, "fifo", 1 << 25),
    (NodeKind::Socket, "socket", 1 << 24),
];

/// Bits of Unix permissions and of the format's mode.
const SPECIAL: [(u32, u32); 3] = [(0o4000, 1 << 23), (0o2000, 1 << 22), (0o1000, 1 << 20)];

/// The kind that the format names so.
pub fn kind_named(text: &str) -> NodeKind {
    KINDS.iter().find(|(_, name, _)| *name == text).map_or(NodeKind::Other, |(kind, ..)| *kind)
}

/// Unix permissions in a mode of the format.
pub fn permissions_of(mode: u32) -> u32 {
    SPECIAL.iter().filter(|(_, bit)| mode & bit != 0).fold(mode & 0o777, |all, (unix, _)| all | unix)
}

fn mode_of(permissions: u32, kind_bits: u32) -> u32 {
    let special =
        SPECIAL.iter().filter(|(unix, _)| permissions & unix != 0).fold(0, |all, (_, bit)| all | bit);
    permissions & 0o777 | special | kind_bits
}

/// Appends the node.
pub fn write(node: &Node, out: &mut Vec<u8>) {
    let (name, bits) =
        KINDS.iter().find(|(kind, ..)| *kind == node.kind).map_or(("", 0), |(_, name, bits)| (*name, *bits));
    out.extend_from_slice(b"{\"name\":");
    let mut quoted = String::with_capacity(node.name.len() + 8);
    quote(&node.name, &mut quoted);
    json_string(&quoted, out);
    out.extend_from_slice(b",\"type\":\"");
    out.extend_from_slice(name.as_bytes());
    out.push(b'"');
    number("mode", mode_of(node.permissions, bits).into(), out);
    for (field, time) in [("mtime", node.modified), ("atime", node.accessed), ("ctime", node.changed)] {
        key(field, out);
        out.push(b'"');
        time.write(out);
        out.push(b'"');
    }
    append(out, format_args!(",\"uid\":{},\"gid\":{}", node.uid, node.gid));
    text("user", &node.user, out);
    text("group", &node.group, out);
    number("inode", node.inode, out);
    number("device_id", node.device_id, out);
    number("size", node.size, out);
    number("links", node.links, out);
    link_target(&node.link_target, out);
    xattrs(node, out);
    number("device", node.device, out);
    content(node, out);
    if let Some(tree) = &node.subtree {
        key("subtree", out);
        hex(&tree.hex(), out);
    }
    out.push(b'}');
}

fn key(name: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

fn number(name: &str, value: u64, out: &mut Vec<u8>) {
    if value != 0 {
        key(name, out);
        append(out, format_args!("{value}"));
    }
}

fn text(name: &str, value: &str, out: &mut Vec<u8>) {
    if !value.is_empty() {
        key(name, out);
        json_string(value, out);
    }
}

fn hex(digits: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(digits);
    out.push(b'"');
}

fn append(out: &mut Vec<u8>, arguments: std::fmt::Arguments<'_>) {
    // Writing to memory does not fail.
    let _ = out.write_fmt(arguments);
}

/// The target as text, and raw where the text cannot hold it.
fn link_target(target: &[u8], out: &mut Vec<u8>) {
    let lossy = lossy(target);
    text("linktarget", &lossy, out);
    if std::str::from_utf8(target).is_err() {
        key("linktarget_raw", out);
        out.push(b'"');
        base64::encode(target, out);
        out.push(b'"');
    }
}

/// Text with U+FFFD for each byte that is not part of UTF-8, as Go's JSON encoder has it.
fn lossy(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return text.into();
    }
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| '\u{fffd}'));
    }
    text.into()
}

fn xattrs(node: &Node, out: &mut Vec<u8>) {
    for (i, xattr) in node.xattrs.iter().enumerate() {
        if i == 0 {
            key("extended_attributes", out);
        }
        out.extend_from_slice(if i == 0 { b"[{\"name\":" } else { b",{\"name\":" });
        json_string(&lossy(&xattr.name), out);
        key("value", out);
        out.push(b'"');
        base64::encode(&xattr.value, out);
        out.extend_from_slice(b"\"}");
    }
    if !node.xattrs.is_empty() {
        out.push(b']');
    }
}

/// Files have a list, be it empty; everything else has `null`.
fn content(node: &Node, out: &mut Vec<u8>) {
    key("content", out);
    if node.kind != NodeKind::File {
        out.extend_from_slice(b"null");
        return;
    }
    out.push(b'[');
    for (i, id) in node.content.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        hex(&id.hex(), out);
    }
    out.push(b']');
}
