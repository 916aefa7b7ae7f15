//! What GNU tar makes of our archives: the directory it restores is the one that was archived.

use super::{archived, listed, node_at, read, restorable, set_xattr, tar};
use crate::repository::NodeKind;
use crate::tape::archive::{MemberKind, Proof};
use std::ffi::OsStr;
use std::fs::{self, File, FileTimes, OpenOptions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// user::rw-, user:1234:r--, group::r--, mask::rw-, other::---: the mode's group bits are the mask.
const ACL: [(u16, u16, u32); 5] =
    [(1, 6, u32::MAX), (2, 4, 1234), (4, 4, u32::MAX), (0x10, 6, u32::MAX), (0x20, 0, u32::MAX)];

fn acl() -> Vec<u8> {
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in ACL {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(permissions.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

fn set_time(path: &Path, seconds: i64, nanoseconds: i64) {
    let time = rustix::fs::Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// Restores into `to` and compares with `from`; what tar said.
pub fn restore_and_compare(archive: &[u8], from: &Path, to: &Path) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), archive).unwrap();
    let mut arguments: Vec<&OsStr> =
        ["--numeric-owner", "--xattrs", "--xattrs-include=*", "--acls", "-xpf"].map(OsStr::new).to_vec();
    arguments.extend([file.path().as_os_str(), OsStr::new("-C"), to.as_os_str()]);
    let (ok, _, said) = tar(&arguments);
    assert!(ok, "{said}");
    let arguments =
        ["--numeric-owner", "--compare", "-f"].map(OsStr::new).into_iter().chain([file.path().as_os_str()]);
    let arguments: Vec<&OsStr> = arguments.chain([OsStr::new("-C"), from.as_os_str()]).collect();
    let (_, differences, errors) = tar(&arguments);
    // What is ours is not in the directory that was archived.
    let real = |line: &&str| !line.contains(".rewind/");
    let differences: Vec<&str> = differences.lines().filter(real).collect();
    assert!(differences.is_empty(), "{differences:?} {errors}");
    equal(from, to);
    said
}

/// Compares what was restored with what was archived.
pub fn equal(from: &Path, to: &Path) {
    let sockets = |path: &Vec<u8>| node_at(&from.join(OsStr::from_bytes(path))).kind != NodeKind::Socket;
    let wanted: Vec<Vec<u8>> = listed(from).into_iter().filter(sockets).collect();
    let shown = |paths: &[Vec<u8>]| -> Vec<String> {
        paths.iter().map(|path| path.escape_ascii().to_string()).collect()
    };
    assert_eq!(shown(&listed(to)), shown(&wanted));
    for path in wanted {
        let (old, new) = (from.join(OsStr::from_bytes(&path)), to.join(OsStr::from_bytes(&path)));
        let (was, is) = (node_at(&old), node_at(&new));
        assert_eq!(restorable(is.clone()), restorable(was.clone()), "{}", path.escape_ascii());
        if was.kind == NodeKind::File {
            let (a, b) = (fs::read(&old).unwrap(), fs::read(&new).unwrap());
            assert!(a == b, "content of {}", path.escape_ascii());
        }
    }
}

pub fn make(top: &Path) {
    let write = |name: &str, bytes: &[u8]| {
        let path = top.join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    fs::create_dir(top.join("srv")).unwrap();
    fs::create_dir(top.join("srv/dir")).unwrap();
    fs::create_dir(top.join("srv/empty")).unwrap();
    mode(&write("srv/plain", b"hello"), 0o4751);
    write("srv/none", b"");
    write("srv/block", &[b'b'; 512]);
    write("srv/dir/big", &vec![7; 1_000_001]);
    fs::hard_link(top.join("srv/plain"), top.join("srv/zz-link")).unwrap();
    fs::hard_link(top.join("srv/plain"), top.join("srv/dir/link")).unwrap();
    symlink("../over/there", top.join("srv/sym")).unwrap();
    symlink("t".repeat(300), top.join("srv/sym-long")).unwrap();
    symlink(OsStr::from_bytes(b"raw\xff\xfe"), top.join("srv/sym-raw")).unwrap();
    let long = format!("srv/{}", vec!["d".repeat(90); 5].join("/"));
    fs::create_dir_all(top.join(&long)).unwrap();
    write(&format!("{long}/{}", "n".repeat(255)), b"long");
    write(&format!("srv/{}", "m".repeat(255)), b"longer than a field");
    write("srv/K\u{f6}ln \u{2603}", b"text");
    fs::write(top.join(OsStr::from_bytes(b"srv/caf\xe9")), b"latin").unwrap();
    let raw = [b"srv/".as_slice(), &[b'\xe9'; 200]].concat();
    fs::write(top.join(OsStr::from_bytes(&raw)), b"long latin").unwrap();
    fs::write(top.join(OsStr::from_bytes(b"srv/a\nb\\c =%")), b"odd").unwrap();
    let acl_file = write("srv/acl", b"acl");
    mode(&acl_file, 0o660);
    set_xattr(&acl_file, "system.posix_acl_access", &acl());
    set_xattr(&top.join("srv/dir"), "system.posix_acl_default", &acl());
    let xattrs = write("srv/xattrs", b"x");
    set_xattr(&xattrs, "user.bytes", b"\0\n=\xff");
    set_xattr(&xattrs, "user.a=b%3D%", b"odd name");
    set_xattr(&xattrs, "user.empty", b"");
    set_xattr(&xattrs, "user.large", &[b'l'; 3000]);
    set_xattr(&top.join("srv/dir"), "user.on", b"a directory");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        top.join("srv/fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    if rustix::process::geteuid().is_root() {
        make_privileged(top);
    }
    make_sparse(top);
    set_time(&top.join("srv/none"), -2, 999_999_995);
    set_time(&top.join("srv/block"), -5, 0);
    set_time(&top.join("srv/fifo"), 9_000_000_000, 1);
    set_time(&top.join("srv/sym"), 1_234_567_890, 987_654_321);
    set_time(&top.join("srv/dir"), 1_000_000_000, 500_000_000);
}

/// What only the administrator can make.
fn make_privileged(top: &Path) {
    set_xattr(&top.join("srv/xattrs"), "trusted.t", b"t");
    set_xattr(&top.join("srv/sym"), "trusted.sym", b"a link");
    for (name, kind, device) in [
        ("srv/null", rustix::fs::FileType::CharacterDevice, rustix::fs::makedev(1, 3)),
        ("srv/disk", rustix::fs::FileType::BlockDevice, rustix::fs::makedev(259, 1_000_000)),
    ] {
        let mode = rustix::fs::Mode::from_raw_mode(0o640);
        rustix::fs::mknodat(rustix::fs::CWD, top.join(name), kind, mode, device).unwrap();
    }
    std::os::unix::fs::lchown(top.join("srv/none"), Some(3_000_000_001), Some(2_097_152)).unwrap();
    std::os::unix::fs::lchown(top.join("srv/sym"), Some(77), Some(88)).unwrap();
}

fn make_sparse(top: &Path) {
    let sparse = |name: &str, size: u64, pieces: &[(u64, usize)]| {
        let file = File::create(top.join(name)).unwrap();
        file.set_len(size).unwrap();
        for (at, length) in pieces {
            file.write_all_at(&vec![b's'; *length], *at).unwrap();
        }
    };
    sparse("srv/hole-only", 10 << 20, &[]);
    sparse("srv/hole-middle", 20 << 20, &[(0, 5), (10 << 20, 70_000), ((20 << 20) - 1, 1)]);
    sparse("srv/hole-end", (5 << 20) + 123, &[(1 << 20, 1)]);
    sparse("srv/hole-begin", 3_000_000, &[(2_999_990, 10)]);
    sparse("srv/hole-short", 70_000, &[(60_000, 10)]);
    sparse("srv/dir/K\u{f6}ln-hole", 1 << 20, &[(0, 1)]);
    let raw = [b"srv/dir/".as_slice(), b"hole\xe9"].concat();
    let file =
        OpenOptions::new().create_new(true).write(true).open(top.join(OsStr::from_bytes(&raw))).unwrap();
    file.set_len(1 << 20).unwrap();
    file.set_times(FileTimes::new().set_modified(SystemTime::UNIX_EPOCH + Duration::from_nanos(7))).unwrap();
}

#[test]
fn restores_what_was_archived() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    make(from.path());
    let _socket = UnixListener::bind(from.path().join("srv/socket")).unwrap();
    let wrote = archived(from.path());
    assert!(wrote.listed.is_empty(), "{:?}", wrote.listed);
    assert_eq!(wrote.totals.members, listed(from.path()).len() as u64);
    let said = restore_and_compare(&wrote.out, from.path(), to.path());
    let unexpected = |line: &&str| {
        // Names that are no text and have no room in the block; times before 1970 and in far years.
        !line.contains("unknown extended header keyword 'hdrcharset'")
            && !line.contains("implausibly old time stamp")
            && !line.contains("in the future")
    };
    let unexpected: Vec<&str> = said.lines().filter(unexpected).collect();
    assert!(unexpected.is_empty(), "{unexpected:?}");
    // Links are links, holes are holes.
    let meta = |name: &str| fs::metadata(to.path().join(name)).unwrap();
    assert_eq!(meta("srv/plain").ino(), meta("srv/zz-link").ino());
    assert_eq!(meta("srv/plain").ino(), meta("srv/dir/link").ino());
    assert_eq!(meta("srv/plain").nlink(), 3);
    for name in ["srv/hole-only", "srv/hole-middle", "srv/hole-end", "srv/hole-begin"] {
        assert!(meta(name).blocks() * 512 < meta(name).size() / 4, "{name}: {} blocks", meta(name).blocks());
    }
    assert!(wrote.bytes < 5 << 20, "{} bytes: holes take room", wrote.bytes);
    read_back(from.path(), &wrote.out);
}

/// What we read is what was archived, sockets too.
pub fn read_back(from: &Path, archive: &[u8]) {
    let (got, verdict) = read(archive).unwrap();
    assert_eq!(verdict.fault(), None);
    assert_eq!(verdict.unread_count, 0);
    let mut paths = listed(from);
    paths.sort();
    assert!(got.keys().eq(paths.iter()), "{:?} {paths:?}", got.keys());
    for (path, got) in got {
        let real = from.join(OsStr::from_bytes(&path));
        // Reading changes the access time.
        let mut was = node_at(&real);
        was.accessed = got.node.accessed;
        assert_eq!(got.node, was, "{}", path.escape_ascii());
        assert_eq!(got.proof, Proof::Right);
        match (got.kind, was.kind) {
            (MemberKind::Link, _) => {
                let first = from.join(OsStr::from_bytes(&got.first));
                assert_eq!(node_at(&first).inode, was.inode);
            }
            (_, NodeKind::File) => {
                assert!(got.content.unwrap() == fs::read(&real).unwrap(), "{}", path.escape_ascii());
            }
            _ => assert_eq!(got.content.unwrap(), b""),
        }
    }
}

#[test]
fn acls_are_restored_in_each_way() {
    let from = tempfile::tempdir().unwrap();
    let path = from.path().join("acl");
    fs::write(&path, b"acl").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o660)).unwrap();
    set_xattr(&path, "system.posix_acl_access", &acl());
    let archive = from.path().with_extension("tar");
    fs::write(&archive, archived(from.path()).out).unwrap();
    for ways in [&["--acls"][..], &["--xattrs", "--xattrs-include=*"], &["--acls", "--xattrs"]] {
        let to = tempfile::tempdir().unwrap();
        let arguments = ways.iter().copied().chain(["-xpf"]).map(OsStr::new);
        let arguments = arguments.chain([archive.as_os_str(), OsStr::new("-C"), to.path().as_os_str()]);
        let (ok, _, said) = tar(&arguments.collect::<Vec<_>>());
        assert!(ok && said.is_empty(), "{said}");
        assert_eq!(node_at(&to.path().join("acl")).xattrs, node_at(&path).xattrs, "{ways:?}");
    }
    fs::remove_file(archive).unwrap();
}

#[test]
fn a_file_beyond_8_gib_is_listed_and_skipped() {
    use crate::tape::archive::member::{Before, Head, Role};
    use crate::tape::archive::{Member, ZEROS};
    // Nine gibibytes of data that the file system need not hold.
    let size = 9 << 30;
    let head = |path: &str, size: u64, offset| {
        let node = crate::repository::Node { size, ..super::node(path, NodeKind::File) };
        let (kind, first, stored, sparse) = (MemberKind::Node, Vec::new(), size, false);
        let member = Member { path: path.into(), node, kind, first, offset, stored, sparse };
        let (session, role, before) = (*b"01234567", Role::Object, Before::Nothing);
        Head { session, role, before, member }.encode().unwrap()
    };
    let file = tempfile::NamedTempFile::new().unwrap();
    let first = head("big", size, 0);
    file.as_file().write_all_at(&first, 0).unwrap();
    let next = first.len() as u64 + size;
    let behind = head("behind", 0, next);
    file.as_file().write_all_at(&behind, next).unwrap();
    file.as_file().write_all_at(&ZEROS[..1024], next + behind.len() as u64).unwrap();
    let (ok, listed, said) = tar(&[OsStr::new("-tvf"), file.path().as_os_str()]);
    assert!(ok && said.is_empty(), "{said}");
    assert!(listed.contains("9663676416") && listed.contains("behind"), "{listed}");
}

#[test]
fn a_hole_of_gibibytes_takes_no_room() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::create_dir(from.path().join("srv")).unwrap();
    let path = from.path().join("srv/huge");
    let file = File::create(&path).unwrap();
    let size = 3_u64 << 30;
    file.set_len(size).unwrap();
    file.write_all_at(b"in the middle", 1 << 31).unwrap();
    let mut writer =
        crate::tape::archive::SessionWriter::begin(Vec::new(), &super::label(), &super::scratch()).unwrap();
    let (start, end) = (1 << 31, (1 << 31) + 13);
    let source = &mut super::OfFile(File::open(&path).unwrap(), Vec::new());
    let id = crate::repository::Id::of(b"");
    writer.file((b"srv/huge", &node_at(&path)), &id, &[start..end], source).unwrap();
    let wrote = writer.finish().unwrap();
    assert!(wrote.bytes < 64 << 10, "{}", wrote.bytes);
    let archive = to.path().join("a.tar");
    fs::write(&archive, &wrote.out).unwrap();
    let (ok, _, said) =
        tar(&[OsStr::new("-xpf"), archive.as_os_str(), OsStr::new("-C"), to.path().as_os_str()]);
    assert!(ok && said.is_empty(), "{said}");
    let restored = File::open(to.path().join("srv/huge")).unwrap();
    assert_eq!(restored.metadata().unwrap().len(), size);
    assert!(restored.metadata().unwrap().blocks() < 64);
    let mut middle = [0; 15];
    restored.read_exact_at(&mut middle, (1 << 31) - 1).unwrap();
    assert_eq!(&middle, b"\0in the middle\0");
    // And by us, without reading the zeros into memory.
    struct Extents(Vec<std::ops::Range<u64>>, Option<Proof>);
    impl crate::tape::archive::Visitor for Extents {
        fn member(
            &mut self,
            _: &crate::tape::archive::Member,
            content: &mut crate::tape::archive::Content<'_>,
        ) -> crate::tape::archive::Result<crate::tape::archive::Flow> {
            self.0 = content.extents().to_vec();
            Ok(crate::tape::archive::Flow::On)
        }
        fn proof(&mut self, proof: Proof) -> crate::tape::archive::Result<()> {
            self.1 = Some(proof);
            Ok(())
        }
    }
    let mut extents = Extents(Vec::new(), None);
    let reader = crate::tape::archive::SessionReader::open(&wrote.out[..], &super::scratch()).unwrap();
    assert_eq!(reader.read(&mut extents).unwrap().fault(), None);
    assert_eq!((extents.0, extents.1), (vec![start..start + 4096], Some(Proof::Right)));
}
