//! A member's header: from a node to blocks and back, with the comment that proves it.
//!
//! The header is an extended header and a ustar block. The comment is the last record of the extended header:
//! `REWIND 1 ID8 ROLE OFFSET INODE FILESYSTEM LINKS SIZE DEVICE BEFORE CRC`. The CRC covers all records before the comment, the comment up
//! to the CRC, and the ustar block; so whatever is read from a header that fits is what was written.
//!
//! What tar cannot restore (sockets, device numbers without room) is *hidden*: the same header as the value of a comment
//! in a global header, which tars skip.
//!
//! Refused when writing: kinds that nobody knows, NUL in texts, attributes beyond [`RECORDS_BYTES_MAX`]. Refused when
//! reading: whatever does not prove itself; names that could leave the target.

mod read;

use super::pax::{number, put, take, time_text};
use super::ustar::{Block, ELEVEN, SEVEN, Ustar, link_fits, name_fits, who_fits};
use super::{BLOCK_BYTES, RECORDS_BYTES_MAX, acl, padding, path_refusal};
use crate::repository::{Id, Node, NodeKind, Xattr};
use read::Read;
use std::io::Write as _;

/// What every comment begins with: whose it is and its version.
const MARK: &[u8] = b"REWIND 1 ";
/// What a hidden member has behind the session's id.
const HIDDEN: &[u8] = b" member ";
/// Room for the records of most members, in bytes.
const RECORDS_ROOM: usize = 512;
const XATTR: &[u8] = b"SCHILY.xattr.";
/// The type of a socket in a hidden header.
const SOCKET_TYPE: u8 = b's';

/// The first eight digits of a session's id.
pub(super) type Short = [u8; 8];

/// What a member is in the archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberKind {
    /// A node by itself, a file with its content.
    Node,
    /// One more name of a file that came before.
    Link,
}

/// An object of the session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Path on the master without the leading slash.
    pub path: Vec<u8>,
    /// The node; its name is the path's last part, content and tree are empty.
    pub node: Node,
    /// Whether it has a content of its own.
    pub kind: MemberKind,
    /// Path of the first name, of a link.
    pub first: Vec<u8>,
    /// Where its header begins in the stream.
    pub offset: u64,
    /// Bytes behind the header, without padding: content, or map and extents.
    pub(super) stored: u64,
    /// Whether a map stands before the content.
    pub(super) sparse: bool,
}

/// What a member is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Label,
    Object,
    Catalog,
    /// A piece of a carrier.
    Data,
    /// The end of a carrier.
    End,
}

impl Role {
    fn word(self) -> &'static str {
        match self {
            Self::Label => "label",
            Self::Object => "object",
            Self::Catalog => "catalog",
            Self::Data => "data",
            Self::End => "end",
        }
    }

    fn named(word: &[u8]) -> Option<Self> {
        [Self::Label, Self::Object, Self::Catalog, Self::Data, Self::End]
            .into_iter()
            .find(|role| role.word().as_bytes() == word)
    }
}

/// What a header says of the content of the member before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Before {
    /// It has none.
    #[default]
    Nothing,
    /// Its SHA-256.
    Content(Id),
    /// It is not what it should be; whoever wrote it knew.
    Damaged,
}

/// A header with what it proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub session: Short,
    pub role: Role,
    pub before: Before,
    pub member: Member,
}

/// The word of a node's kind in catalogs; `None` where it cannot be archived.
pub(super) fn kind_word(node: &Node, kind: MemberKind) -> Option<&'static str> {
    Some(match (kind, node.kind) {
        (MemberKind::Link, _) => "link",
        (_, NodeKind::File) => "file",
        (_, NodeKind::Directory) => "directory",
        (_, NodeKind::Symlink) => "symlink",
        (_, NodeKind::BlockDevice) => "block-device",
        (_, NodeKind::CharacterDevice) => "character-device",
        (_, NodeKind::Fifo) => "fifo",
        (_, NodeKind::Socket) => "socket",
        (_, NodeKind::Other) => return None,
    })
}

fn typeflag(member: &Member) -> Option<u8> {
    Some(match (member.kind, member.node.kind) {
        (MemberKind::Link, _) => b'1',
        (_, NodeKind::File) => b'0',
        (_, NodeKind::Symlink) => b'2',
        (_, NodeKind::CharacterDevice) => b'3',
        (_, NodeKind::BlockDevice) => b'4',
        (_, NodeKind::Directory) => b'5',
        (_, NodeKind::Fifo) => b'6',
        (_, NodeKind::Socket) => SOCKET_TYPE,
        (_, NodeKind::Other) => return None,
    })
}

/// Why a member cannot be written; `None` if it can.
fn unfit(member: &Member) -> Option<&'static str> {
    let node = &member.node;
    if typeflag(member).is_none() {
        return Some("it is of no kind that an archive holds");
    }
    let texts = [node.user.as_bytes(), node.group.as_bytes(), &node.link_target];
    if texts.iter().any(|text| text.contains(&0)) {
        return Some("a text of it has a NUL byte");
    }
    if node.xattrs.iter().any(|one| one.name.is_empty() || one.name.contains(&0)) {
        return Some("the name of an extended attribute is empty or has a NUL byte");
    }
    path_refusal(&member.path)
}

/// What stands before a sparse file's own name, as GNU tar has it.
fn sparse_name(path: &[u8]) -> Vec<u8> {
    let cut = path.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
    let (above, name) = path.split_at_checked(cut).unwrap_or_default();
    [above, b"GNUSparseFile.0/", name].concat()
}

fn device_halves(device: u64) -> (u64, u64) {
    (rustix::fs::major(device).into(), rustix::fs::minor(device).into())
}

fn has_room(node: &Node) -> bool {
    let (major, minor) = device_halves(node.device);
    let exact = rustix::fs::makedev(rustix::fs::major(node.device), rustix::fs::minor(node.device));
    match node.kind {
        NodeKind::BlockDevice | NodeKind::CharacterDevice => {
            major <= SEVEN && minor <= SEVEN && exact == node.device
        }
        kind => kind != NodeKind::Socket,
    }
}

fn ustar_of(member: &Member, name: Vec<u8>) -> Ustar {
    let node = &member.node;
    let of_text = |text: &str| {
        let fits = who_fits(text.as_bytes()) && text.is_ascii();
        if fits { text.as_bytes().to_vec() } else { Vec::new() }
    };
    let is_device = matches!(node.kind, NodeKind::BlockDevice | NodeKind::CharacterDevice);
    Ustar {
        name,
        mode: u64::from(node.permissions & 0o7777),
        uid: node.uid.into(),
        gid: node.gid.into(),
        size: member.stored,
        mtime: u64::try_from(node.modified.seconds).unwrap_or(0),
        typeflag: typeflag(member).unwrap_or(b'0'),
        link: if member.kind == MemberKind::Link { member.first.clone() } else { node.link_target.clone() },
        user: of_text(&node.user),
        group: of_text(&node.group),
        device: if is_device { device_halves(node.device) } else { (0, 0) },
    }
}

/// The records but for the comment.
fn records_of(member: &Member, ustar: &Ustar) -> Vec<u8> {
    let node = &member.node;
    let mut records = Vec::with_capacity(RECORDS_ROOM);
    let name = if member.sparse { &member.path } else { &ustar.name };
    // A name that has room needs no record if it is ASCII; one that is not text has none that GNU tar knows, so the
    // block's own bytes are better.
    let plain = |text: &[u8], fits: bool| fits && (text.is_ascii() || std::str::from_utf8(text).is_err());
    let name_record = member.sparse || !plain(name, name_fits(name));
    let link_record = !plain(&ustar.link, link_fits(&ustar.link));
    let is_text = |text: &[u8]| std::str::from_utf8(text).is_ok();
    if name_record && !is_text(name) || link_record && !is_text(&ustar.link) {
        put(&mut records, b"hdrcharset", b"BINARY");
    }
    if member.sparse {
        put(&mut records, b"GNU.sparse.major", b"1");
        put(&mut records, b"GNU.sparse.minor", b"0");
        put(&mut records, b"GNU.sparse.name", name);
        put(&mut records, b"GNU.sparse.realsize", node.size.to_string().as_bytes());
    } else if name_record {
        put(&mut records, b"path", name);
    }
    if link_record {
        put(&mut records, b"linkpath", &ustar.link);
    }
    if ustar.size > ELEVEN {
        put(&mut records, b"size", ustar.size.to_string().as_bytes());
    }
    for (keyword, id) in [(&b"uid"[..], ustar.uid), (b"gid", ustar.gid)] {
        if id > SEVEN {
            put(&mut records, keyword, id.to_string().as_bytes());
        }
    }
    for (keyword, text, short) in
        [(&b"uname"[..], &node.user, &ustar.user), (b"gname", &node.group, &ustar.group)]
    {
        if text.as_bytes() != short.as_slice() {
            put(&mut records, keyword, text.as_bytes());
        }
    }
    let modified = node.modified;
    if modified.nanoseconds > 0 || modified.seconds < 0 || ustar.mtime > ELEVEN {
        put(&mut records, b"mtime", time_text(modified).as_bytes());
    }
    put(&mut records, b"atime", time_text(node.accessed).as_bytes());
    put(&mut records, b"ctime", time_text(node.changed).as_bytes());
    for Xattr { name, value } in &node.xattrs {
        if let Some((keyword, text)) = acl::text(name, value) {
            put(&mut records, keyword.as_bytes(), text.as_bytes());
        }
        put(&mut records, &xattr_keyword(name), value);
    }
    records
}

/// `=` ends a keyword, so it is written as GNU tar does.
fn xattr_keyword(name: &[u8]) -> Vec<u8> {
    let mut keyword = XATTR.to_vec();
    for byte in name {
        match byte {
            b'%' => keyword.extend_from_slice(b"%25"),
            b'=' => keyword.extend_from_slice(b"%3D"),
            byte => keyword.push(*byte),
        }
    }
    keyword
}

impl Before {
    fn of(text: &[u8]) -> Option<Self> {
        match text {
            b"-" => Some(Self::Nothing),
            b"damaged" => Some(Self::Damaged),
            text => Some(Self::Content(Id::parse(std::str::from_utf8(text).ok()?)?)),
        }
    }
}

/// The blocks of a header, see [`Head`].
///
/// # Errors
/// Why the member cannot be archived.
pub(super) fn encode(
    session: Short,
    role: Role,
    before: Before,
    member: &Member,
) -> Result<Vec<u8>, &'static str> {
    if let Some(what) = unfit(member) {
        return Err(what);
    }
    let mut name = if member.sparse { sparse_name(&member.path) } else { member.path.clone() };
    if member.node.kind == NodeKind::Directory {
        name.push(b'/');
    }
    let ustar = ustar_of(member, name);
    let mut records = records_of(member, &ustar);
    let block = ustar.encode();
    let comment = comment((session, role, before), member, (&records, &block));
    put(&mut records, b"comment", &comment);
    if records.len() as u64 > RECORDS_BYTES_MAX / 2 {
        return Err("its attributes are larger than an archive holds");
    }
    let mut blocks = extended(b'x', &member.path, &records);
    blocks.extend_from_slice(&block);
    if has_room(&member.node) {
        return Ok(blocks);
    }
    let value = [MARK, &session, HIDDEN, &blocks].concat();
    let mut records = Vec::new();
    put(&mut records, b"comment", &value);
    Ok(extended(b'g', &member.path, &records))
}

fn comment(
    (session, role, before): (Short, Role, Before),
    member: &Member,
    (records, block): (&[u8], &Block),
) -> Vec<u8> {
    let node = &member.node;
    let mut comment = Vec::with_capacity(RECORDS_ROOM / 2);
    comment.extend_from_slice(MARK);
    comment.extend_from_slice(&session);
    let numbers = [member.offset, node.inode, node.device_id, node.links, node.size, node.device];
    // Writing to memory does not fail.
    let _ = write!(comment, " {}", role.word());
    for number in numbers {
        let _ = write!(comment, " {number}");
    }
    comment.push(b' ');
    match before {
        Before::Nothing => comment.push(b'-'),
        Before::Content(id) => comment.extend_from_slice(&id.hex()),
        Before::Damaged => comment.extend_from_slice(b"damaged"),
    }
    comment.push(b' ');
    let crc = crc(records, &comment, block);
    let _ = write!(comment, "{crc:08x}");
    comment
}

impl Head {
    /// The header's blocks.
    ///
    /// # Errors
    /// Why the member cannot be archived.
    pub fn encode(&self) -> Result<Vec<u8>, &'static str> {
        encode(self.session, self.role, self.before, &self.member)
    }

    /// Reads a header: the records of the extended header, and the block behind it. `None` if it does not prove itself, or
    /// says what is not acceptable.
    pub fn decode(records: &[u8], block: &Block) -> Option<Self> {
        let (before_comment, comment) = comment_of(records)?;
        let (covered, stated) = comment.split_at_checked(comment.len().checked_sub(8)?)?;
        if format!("{:08x}", crc(before_comment, covered, block)).as_bytes() != stated {
            return None;
        }
        let mut fields = covered.strip_prefix(MARK)?.split(|byte| *byte == b' ');
        let session: Short = fields.next()?.try_into().ok()?;
        let role = Role::named(fields.next()?)?;
        let mut next = || number(fields.next()?);
        let [offset, inode, device_id, links, size, device] =
            [next()?, next()?, next()?, next()?, next()?, next()?];
        let before = Before::of(fields.next()?)?;
        let ustar = Ustar::decode(block)?;
        let mut read = Read::new(ustar);
        let mut rest = before_comment;
        while !rest.is_empty() {
            let (keyword, value, after) = take(rest)?;
            read.record(keyword, value)?;
            rest = after;
        }
        let mut member = read.finish(size)?;
        member.offset = offset;
        let node = &mut member.node;
        (node.inode, node.device_id, node.links, node.device) = (inode, device_id, links, device);
        Some(Self { session, role, before, member })
    }

    /// Reads a hidden member: the records of a global header. Its offset is that of the global header.
    pub fn decode_hidden(records: &[u8]) -> Option<Self> {
        let (_, comment) = comment_of(records)?;
        let (session, rest) = comment.strip_prefix(MARK)?.split_first_chunk::<8>()?;
        let (block, rest) = rest.strip_prefix(HIDDEN)?.split_first_chunk::<BLOCK_BYTES>()?;
        let extended = Ustar::decode(block).filter(|header| header.typeflag == b'x')?;
        let size = usize::try_from(extended.size).ok()?;
        let (records, rest) = rest.split_at_checked(size)?;
        let block = rest.get(padding(extended.size)..)?.try_into().ok()?;
        let head = Self::decode(records, block)?;
        (head.session == *session && head.member.stored == 0).then_some(head)
    }
}

/// The comment, which is the last record, and all before it.
fn comment_of(records: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut rest = records;
    loop {
        let (keyword, value, after) = take(rest)?;
        if after.is_empty() {
            let before = records.get(..records.len() - rest.len())?;
            return (keyword == b"comment").then_some((before, value));
        }
        rest = after;
    }
}

fn crc(records: &[u8], comment: &[u8], block: &Block) -> u32 {
    let crc = crc32c::crc32c_append(crc32c::crc32c(records), comment);
    crc32c::crc32c_append(crc, block)
}

/// An extended header with its records and padding.
fn extended(typeflag: u8, path: &[u8], records: &[u8]) -> Vec<u8> {
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let name = [b"PaxHeaders/", name.get(..80).unwrap_or(name)].concat();
    let size = records.len() as u64;
    // Room for the block behind it too.
    let mut blocks = Vec::with_capacity(records.len() + 4 * BLOCK_BYTES);
    blocks.extend_from_slice(&Ustar { name, mode: 0o644, size, typeflag, ..Ustar::default() }.encode());
    blocks.extend_from_slice(records);
    blocks.resize(blocks.len() + padding(size), 0);
    blocks
}
