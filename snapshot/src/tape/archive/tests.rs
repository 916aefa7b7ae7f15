//! Tests of the archive; what they share is here: directories of a file system as members, and comparing them.

mod ahead;
mod codec;
mod damage;
pub mod gnu_tar;
mod listing;
mod random;
pub mod repository;
mod unread;

use super::writer::{SessionWriter, Source, SourceFailure, Wrote};
use super::{
    Content, Flow, LabelFields, Member, MemberKind, Proof, Result, SessionLabel, SessionReader, Verdict,
    Visitor, data_of,
};
use crate::repository::{Id, Node, NodeKind, Timestamp, Xattr};
use std::collections::BTreeMap;
use std::ffi::{CString, OsStr};
use std::fs::{self, File};
use std::io::Read;
use std::ops::Range;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

pub fn label() -> SessionLabel {
    let fields = LabelFields {
        scenario: "files".into(),
        entity: "/srv".into(),
        master: "alpha".into(),
        lsn: "77.0".into(),
        class: "crash".into(),
        paths: vec!["/srv".into()],
        tags: vec!["scenario:files".into(), "lsn:77.0".into()],
        ..LabelFields::now()
    };
    SessionLabel::new(fields).unwrap()
}

pub fn scratch() -> PathBuf {
    std::env::temp_dir()
}

/// Bytes in memory as a source.
pub struct Memory<'a>(pub &'a [u8]);

impl Source for Memory<'_> {
    fn bytes(&mut self, offset: u64, limit: usize) -> std::result::Result<&[u8], SourceFailure> {
        let rest = self.0.get(offset as usize..).unwrap_or_default();
        Ok(&rest[..rest.len().min(limit)])
    }
}

/// A file, and room for what was read.
pub struct OfFile(pub File, pub Vec<u8>);

impl Source for OfFile {
    fn bytes(&mut self, offset: u64, limit: usize) -> std::result::Result<&[u8], SourceFailure> {
        self.1.resize(limit, 0);
        let read = self.0.read_at(&mut self.1, offset);
        read.map(|count| &self.1[..count]).map_err(|error| SourceFailure::File(error.to_string()))
    }
}

/// A node by hand.
pub fn node(name: &str, kind: NodeKind) -> Node {
    let time = Timestamp { seconds: 1_700_000_000, nanoseconds: 123_456_789 };
    let (modified, accessed, changed) = (time, time, time);
    let (uid, gid, inode, device_id, links) = (1000, 1001, 5, 6, 1);
    Node {
        name: name.into(),
        kind,
        permissions: 0o640,
        modified,
        accessed,
        changed,
        uid,
        gid,
        inode,
        device_id,
        links,
        ..Node::default()
    }
}

/// What stands at a path of a file system.
pub fn node_at(path: &Path) -> Node {
    let meta = fs::symlink_metadata(path).unwrap();
    let kind = meta.file_type();
    let kind = match () {
        () if kind.is_dir() => NodeKind::Directory,
        () if kind.is_symlink() => NodeKind::Symlink,
        () if kind.is_fifo() => NodeKind::Fifo,
        () if kind.is_socket() => NodeKind::Socket,
        () if kind.is_block_device() => NodeKind::BlockDevice,
        () if kind.is_char_device() => NodeKind::CharacterDevice,
        () => NodeKind::File,
    };
    let time = |seconds, nanoseconds: i64| Timestamp { seconds, nanoseconds: nanoseconds as u32 };
    let is_device = matches!(kind, NodeKind::BlockDevice | NodeKind::CharacterDevice);
    Node {
        name: path.file_name().unwrap_or_default().as_bytes().to_vec(),
        kind,
        permissions: meta.mode() & 0o7777,
        modified: time(meta.mtime(), meta.mtime_nsec()),
        accessed: time(meta.atime(), meta.atime_nsec()),
        changed: time(meta.ctime(), meta.ctime_nsec()),
        uid: meta.uid(),
        gid: meta.gid(),
        user: String::new(),
        group: String::new(),
        inode: meta.ino(),
        device_id: meta.dev(),
        size: if kind == NodeKind::File { meta.size() } else { 0 },
        links: if kind == NodeKind::Directory { 0 } else { meta.nlink() },
        link_target: if kind == NodeKind::Symlink {
            fs::read_link(path).unwrap().into_os_string().into_vec()
        } else {
            Vec::new()
        },
        xattrs: xattrs_at(path),
        device: if is_device { meta.rdev() } else { 0 },
        content: Vec::new(),
        subtree: None,
    }
}

fn xattrs_at(path: &Path) -> Vec<Xattr> {
    let mut names = [0_u8; 64 << 10];
    let count = rustix::fs::llistxattr(path, &mut names[..]).unwrap_or(0);
    let names = names[..count].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let mut found: Vec<Xattr> = names
        .map(|name| {
            let mut value = vec![0; 64 << 10];
            let length = rustix::fs::lgetxattr(path, CString::new(name).unwrap(), &mut value[..]).unwrap();
            value.truncate(length);
            Xattr { name: name.to_vec(), value }
        })
        .collect();
    found.sort_by(|one, other| one.name.cmp(&other.name));
    found
}

pub fn set_xattr(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::lsetxattr(path, name, value, rustix::fs::XattrFlags::empty()).unwrap();
}

/// All below a directory by path, in walk order.
pub fn listed(top: &Path) -> Vec<Vec<u8>> {
    fn below(directory: &Path, prefix: &[u8], found: &mut Vec<Vec<u8>>) {
        let mut names: Vec<_> =
            fs::read_dir(directory).unwrap().map(|one| one.unwrap().file_name()).collect();
        names.sort_by(|one, other| one.as_bytes().cmp(other.as_bytes()));
        for name in names {
            let mut path = prefix.to_vec();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(name.as_bytes());
            let real = directory.join(&name);
            found.push(path.clone());
            if fs::symlink_metadata(&real).unwrap().is_dir() {
                below(&real, &path, found);
            }
        }
    }
    let mut found = Vec::new();
    below(top, b"", &mut found);
    found.retain(|path| !path.starts_with(b".rewind"));
    found
}

pub fn data_in(file: &File, size: u64) -> Vec<Range<u64>> {
    let (mut data, mut at, mut piece) = (Vec::new(), 0, vec![0; 1 << 20]);
    while at < size {
        let count = file.read_at(&mut piece, at).unwrap();
        if count == 0 {
            break;
        }
        data_of(&piece[..count], at, &mut data);
        at += count as u64;
    }
    data
}

/// Writes a directory of the file system as a session.
pub fn archived(top: &Path) -> Wrote<Vec<u8>> {
    let mut writer = SessionWriter::begin(Vec::new(), &label(), &scratch()).unwrap();
    for path in listed(top) {
        let real = top.join(OsStr::from_bytes(&path));
        let node = node_at(&real);
        if node.kind == NodeKind::File {
            let file = File::open(&real).unwrap();
            let data = data_in(&file, node.size);
            let content = Id::of(b"the same inode has the same content");
            writer.file((&path, &node), &content, &data, &mut OfFile(file, Vec::new())).unwrap();
        } else {
            writer.node(&path, &node).unwrap();
        }
    }
    writer.finish().unwrap()
}

/// What was read of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Got {
    pub node: Node,
    pub kind: MemberKind,
    pub first: Vec<u8>,
    pub content: Option<Vec<u8>>,
    pub proof: Proof,
    pub extents: Vec<Range<u64>>,
}

/// Keeps all that is read.
#[derive(Default)]
pub struct Keeper {
    pub got: BTreeMap<Vec<u8>, Got>,
    last: Option<Vec<u8>>,
}

impl Visitor for Keeper {
    fn member(&mut self, member: &Member, content: &mut Content<'_>) -> Result<Flow> {
        assert!(self.last.is_none(), "a member before the proof of the one before");
        let mut bytes = Vec::new();
        let whole = content.read_to_end(&mut bytes).is_ok();
        let got = Got {
            node: member.node.clone(),
            kind: member.kind,
            first: member.first.clone(),
            content: whole.then_some(bytes),
            proof: Proof::Unknown,
            extents: content.extents().to_vec(),
        };
        self.got.insert(member.path.clone(), got);
        self.last = Some(member.path.clone());
        Ok(Flow::On)
    }

    fn proof(&mut self, proof: Proof) -> Result<()> {
        let path = self.last.take().unwrap();
        self.got.get_mut(&path).unwrap().proof = proof;
        Ok(())
    }
}

pub fn read(bytes: &[u8]) -> Result<(BTreeMap<Vec<u8>, Got>, Verdict)> {
    let mut keeper = Keeper::default();
    let verdict = SessionReader::open(bytes, &scratch())?.read(&mut keeper)?;
    assert!(keeper.last.is_none(), "a member without a proof");
    Ok((keeper.got, verdict))
}

/// Runs GNU tar; what it says on standard error.
pub fn tar(arguments: &[&OsStr]) -> (bool, String, String) {
    let output = Command::new("tar").args(arguments).env("LC_ALL", "C").output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}

/// What plain tar restores of a node: what it cannot is made equal.
pub fn restorable(mut node: Node) -> Node {
    (node.accessed, node.changed) = Default::default();
    (node.inode, node.device_id) = (0, 0);
    node
}
