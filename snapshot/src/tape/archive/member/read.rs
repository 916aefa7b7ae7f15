//! What the records and the block of a proved header say.
//!
//! A header that proves itself was written by this format, but nobody knows by whom: names that could leave the target,
//! numbers that contradict each other and types that nobody knows make it no header.

use super::super::pax::{number, time_of};
use super::super::ustar::Ustar;
use super::super::{SPARSE_BYTES_MAX, path_refusal};
use super::{Member, MemberKind, SOCKET_TYPE, XATTR};
use crate::repository::{Node, NodeKind, Timestamp, Xattr};

fn xattr_name(mut keyword: &[u8]) -> Vec<u8> {
    let mut name = Vec::with_capacity(keyword.len());
    while let Some((byte, rest)) = keyword.split_first() {
        let escaped = [(&b"%25"[..], b'%'), (b"%3D", b'=')];
        match escaped.into_iter().find_map(|(text, byte)| Some((keyword.strip_prefix(text)?, byte))) {
            Some((rest, byte)) => {
                name.push(byte);
                keyword = rest;
            }
            None => {
                name.push(*byte);
                keyword = rest;
            }
        }
    }
    name
}

/// A header under way.
pub(super) struct Read {
    ustar: Ustar,
    node: Node,
    sparse: (Option<u64>, Option<u64>),
    sparse_name: Option<Vec<u8>>,
    real_size: Option<u64>,
}

impl Read {
    pub fn new(ustar: Ustar) -> Self {
        let seconds = i64::try_from(ustar.mtime).unwrap_or(0);
        let node = Node { modified: Timestamp { seconds, nanoseconds: 0 }, ..Node::default() };
        Self { ustar, node, sparse: (None, None), sparse_name: None, real_size: None }
    }

    /// Takes a record; those nobody knows say nothing.
    pub fn record(&mut self, keyword: &[u8], value: &[u8]) -> Option<()> {
        match keyword {
            b"path" => self.ustar.name = value.to_vec(),
            b"linkpath" => self.ustar.link = value.to_vec(),
            b"size" => self.ustar.size = number(value)?,
            b"uid" => self.ustar.uid = number(value)?,
            b"gid" => self.ustar.gid = number(value)?,
            b"uname" => self.ustar.user = value.to_vec(),
            b"gname" => self.ustar.group = value.to_vec(),
            b"mtime" => self.node.modified = time_of(value)?,
            b"atime" => self.node.accessed = time_of(value)?,
            b"ctime" => self.node.changed = time_of(value)?,
            b"GNU.sparse.major" => self.sparse.0 = Some(number(value)?),
            b"GNU.sparse.minor" => self.sparse.1 = Some(number(value)?),
            b"GNU.sparse.name" => self.sparse_name = Some(value.to_vec()),
            b"GNU.sparse.realsize" => self.real_size = Some(number(value)?),
            keyword => {
                if let Some(name) = keyword.strip_prefix(XATTR) {
                    let xattr = Xattr { name: xattr_name(name), value: value.to_vec() };
                    self.node.xattrs.push(xattr);
                }
            }
        }
        Some(())
    }

    /// `size`: what the comment says of the file.
    pub fn finish(self, size: u64) -> Option<Member> {
        let Self { ustar, mut node, sparse, sparse_name, real_size } = self;
        let is_sparse = sparse_name.is_some();
        if is_sparse && size > SPARSE_BYTES_MAX {
            return None;
        }
        if is_sparse && (sparse != (Some(1), Some(0)) || real_size != Some(size) || ustar.typeflag != b'0') {
            return None;
        }
        let path = sparse_name.unwrap_or(ustar.name);
        let path = if ustar.typeflag == b'5' { path.strip_suffix(b"/")?.to_vec() } else { path };
        if path_refusal(&path).is_some() {
            return None;
        }
        let kind = if ustar.typeflag == b'1' { MemberKind::Link } else { MemberKind::Node };
        node.kind = match ustar.typeflag {
            b'0' | b'1' => NodeKind::File,
            b'2' => NodeKind::Symlink,
            b'3' => NodeKind::CharacterDevice,
            b'4' => NodeKind::BlockDevice,
            b'5' => NodeKind::Directory,
            b'6' => NodeKind::Fifo,
            SOCKET_TYPE => NodeKind::Socket,
            _ => return None,
        };
        let has_content = ustar.typeflag == b'0';
        if !has_content && ustar.size != 0 || has_content && !is_sparse && ustar.size != size {
            return None;
        }
        let mut first = Vec::new();
        match (kind, node.kind) {
            (MemberKind::Link, _) if path_refusal(&ustar.link).is_some() => return None,
            (MemberKind::Link, _) => first = ustar.link,
            (_, NodeKind::Symlink) => node.link_target = ustar.link,
            _ => {}
        }
        node.name = path.rsplit(|byte| *byte == b'/').next()?.to_vec();
        node.permissions = u32::try_from(ustar.mode).ok()?;
        (node.uid, node.gid) = (u32::try_from(ustar.uid).ok()?, u32::try_from(ustar.gid).ok()?);
        node.user = String::from_utf8(ustar.user).ok()?;
        node.group = String::from_utf8(ustar.group).ok()?;
        node.size = size;
        Some(Member { path, node, kind, first, offset: 0, stored: ustar.size, sparse: is_sparse })
    }
}
