//! What the kernel does with the calls, on the file system that holds temporary directories.

use super::{OsDir, OsTree};
use journal::{Attributes, Kind, Name, RootNo, Timestamp, TreeFile, TreeIo, Xattrs};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

const R: RootNo = RootNo(0);

struct Bed {
    tree: OsTree,
    path: PathBuf,
    _directory: tempfile::TempDir,
}

fn bed() -> Bed {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("docs");
    std::fs::create_dir(&path).unwrap();
    Bed { tree: OsTree::open(vec![path.clone()]).unwrap(), path, _directory: directory }
}

fn n(name: impl AsRef<[u8]>) -> Name {
    Name::new(name.as_ref()).unwrap()
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn attributes(mode: u32, nanoseconds: i64) -> Attributes {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    Attributes { mode, uid, gid, mtime: Timestamp(nanoseconds), ctime: Timestamp(0) }
}

fn errno<T: std::fmt::Debug>(result: io::Result<T>) -> i32 {
    result.unwrap_err().raw_os_error().unwrap()
}

#[test]
fn kept_area_lies_beside_the_root_and_is_private() {
    let b = bed();
    let kept = b.path.parent().unwrap().join(".docs.rewind/kept");
    for path in [kept.clone(), kept.parent().unwrap().to_owned()] {
        assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o7777, 0o700);
    }
    let (root, area) = (b.tree.root(R).unwrap(), b.tree.kept(R).unwrap());
    b.tree.create(&root, &n("a"), &Kind::Directory).unwrap();
    b.tree.rename((&root, &n("a")), (&area, &n("1000"))).unwrap();
    assert!(kept.join("1000").is_dir());
    assert_eq!(b.tree.list(&root).unwrap(), []);
    assert!(b.tree.root(RootNo(1)).is_err());
    // Opened again, it finds what is there.
    let again = OsTree::open(vec![b.path.clone()]).unwrap();
    assert_eq!(again.list(&again.kept(R).unwrap()).unwrap(), [n("1000")]);
}

#[test]
fn refuses_roots_that_cannot_be() {
    let b = bed();
    let twice = OsTree::open(vec![b.path.clone(), b.path.join("../docs/")]);
    assert_eq!(twice.unwrap_err().kind(), io::ErrorKind::InvalidInput);
    assert!(OsTree::open(vec![b.path.join("missing")]).is_err());
    assert!(OsTree::open(vec![PathBuf::from("/")]).is_err());
    std::os::unix::fs::symlink(&b.path, b.path.parent().unwrap().join("link")).unwrap();
    assert!(OsTree::open(vec![b.path.parent().unwrap().join("link")]).is_err());
    // A mount point has nothing beside it on its own file system.
    let proc = OsTree::open(vec![PathBuf::from("/proc")]);
    assert_eq!(proc.unwrap_err().kind(), io::ErrorKind::CrossesDevices);
    assert!(!std::path::Path::new("/.proc.rewind").exists());
}

#[test]
fn names_of_all_bytes_and_lengths() {
    let b = bed();
    let root = b.tree.root(R).unwrap();
    let all: Vec<u8> = (1..=255).filter(|byte| *byte != b'/').collect();
    let names = [n([b'x'; 255]), n([0xff, 0xfe, b'\n']), n(all), n("-rf *")];
    for name in &names {
        b.tree.create_file(&root, name).unwrap().write_at(name.as_bytes(), 0).unwrap();
    }
    let mut found = b.tree.list(&root).unwrap();
    found.sort();
    let mut expected = names.to_vec();
    expected.sort();
    assert_eq!(found, expected);
    for name in &names {
        let mut bytes = vec![0; 300];
        let length = b.tree.open_file(&root, name, false).unwrap().read_at(&mut bytes, 0).unwrap();
        assert_eq!(&bytes[..length], name.as_bytes());
        b.tree.unlink(&root, name).unwrap();
    }
}

#[test]
fn deeper_than_a_path_can_be_long() {
    let b = bed();
    let name = n([b'd'; 200]);
    let mut dirs = vec![b.tree.root(R).unwrap()];
    for _ in 0..40 {
        let dir = dirs.last().unwrap();
        b.tree.create(dir, &name, &Kind::Directory).unwrap();
        b.tree.set_attributes(dir, &name, &attributes(0o755, 7), &Kind::Directory).unwrap();
        let below = b.tree.open_dir(dir, &name).unwrap();
        dirs.push(below);
    }
    let deepest = dirs.last().unwrap();
    b.tree.create_file(deepest, &n("f")).unwrap().write_at(b"deep", 0).unwrap();
    b.tree.set_xattrs(deepest, &n("f"), &Kind::File, &vec![(b"user.a".to_vec(), b"1".to_vec())]).unwrap();
    b.tree.rename((deepest, &n("f")), (&dirs[0], &n("up"))).unwrap();
    assert_eq!(b.tree.stat(&dirs[0], &n("up")).unwrap().unwrap().size, 4);
    b.tree.unlink(&dirs[0], &n("up")).unwrap();
    // Ours to clean up: others may not be able to.
    while dirs.len() > 1 {
        dirs.pop();
        b.tree.remove_dir(dirs.last().unwrap(), &name).unwrap();
    }
}

#[test]
fn nothing_is_followed_or_replaced() {
    let b = bed();
    let root = b.tree.root(R).unwrap();
    let outside = b.path.parent().unwrap().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("f"), b"untouched").unwrap();
    let before = std::fs::metadata(outside.join("f")).unwrap();
    let target = |at: &str| Kind::Symlink(outside.join(at).into_os_string().into_encoded_bytes());
    b.tree.create(&root, &n("to-dir"), &target("")).unwrap();
    b.tree.create(&root, &n("to-file"), &target("f")).unwrap();

    assert!(b.tree.open_dir(&root, &n("to-dir")).is_err());
    assert!(b.tree.open_file(&root, &n("to-file"), true).is_err());
    assert_eq!(errno(b.tree.create_file(&root, &n("to-file")).map(|_| ())), libc_exist());
    b.tree.set_attributes(&root, &n("to-file"), &attributes(0o4777, 5), &target("f")).unwrap();
    assert!(b.tree.set_xattrs(&root, &n("to-file"), &Kind::File, &user_xattr()).is_err());
    let after = std::fs::metadata(outside.join("f")).unwrap();
    assert_eq!(
        (before.mode(), before.mtime(), before.ctime_nsec()),
        (after.mode(), after.mtime(), after.ctime_nsec())
    );
    let link = b.tree.stat(&root, &n("to-file")).unwrap().unwrap();
    assert_eq!((link.attributes.mtime, link.kind), (Timestamp(5), target("f")));

    b.tree.create(&root, &n("pipe"), &Kind::Fifo).unwrap();
    assert!(b.tree.open_file(&root, &n("pipe"), false).is_err());
    assert!(b.tree.open_dir(&root, &n("pipe")).is_err());
    assert_eq!(errno(b.tree.rename((&root, &n("pipe")), (&root, &n("to-dir")))), libc_exist());
    b.tree.link((&root, &n("to-dir")), (&root, &n("again"))).unwrap();
    assert_eq!(b.tree.stat(&root, &n("again")).unwrap().unwrap().links, 2);
    assert_eq!(b.tree.stat(&root, &n("none")).unwrap(), None);
}

fn libc_exist() -> i32 {
    rustix::io::Errno::EXIST.raw_os_error()
}

fn user_xattr() -> Xattrs {
    vec![(b"user.a".to_vec(), b"1".to_vec())]
}

#[test]
fn bytes_and_holes() {
    let b = bed();
    let root = b.tree.root(R).unwrap();
    let file = b.tree.create_file(&root, &n("f")).unwrap();
    file.set_len(5 << 30).unwrap();
    assert_eq!(file.next_data(0).unwrap(), None);
    file.write_at(&vec![7; 3 << 16], 1 << 20).unwrap();
    file.write_at(b"end", (5 << 30) - 3).unwrap();
    assert_eq!(file.next_data(0).unwrap(), Some((1 << 20, (1 << 20) + (3 << 16))));
    assert_eq!(file.next_data(2 << 20).unwrap().unwrap().1, 5 << 30);
    assert_eq!(file.next_data(6 << 30).unwrap(), None);

    // Unaligned, and over the end: zeros, same size.
    file.punch((1 << 20) + 1, 1 << 16).unwrap();
    file.punch((5 << 30) - 1, u64::MAX).unwrap();
    file.punch(0, 0).unwrap();
    file.punch(9 << 30, 4096).unwrap();
    let mut bytes = vec![1; 1 << 17];
    assert_eq!(file.read_at(&mut bytes, 1 << 20).unwrap(), 1 << 17);
    assert_eq!(bytes[0], 7);
    assert!(bytes[1..=1 << 16].iter().all(|byte| *byte == 0));
    assert!(bytes[(1 << 16) + 1..].iter().all(|byte| *byte == 7));
    let mut end = [9; 8];
    assert_eq!(file.read_at(&mut end, (5 << 30) - 3).unwrap(), 3);
    assert_eq!(&end[..3], b"en\0");
    assert_eq!(file.stat().unwrap().size, 5 << 30);
    file.write_zeros((1 << 20) + (1 << 16), (1 << 20) + (3 << 16)).unwrap();
    file.read_at(&mut bytes, (1 << 20) + (1 << 16)).unwrap();
    assert!(bytes.iter().all(|byte| *byte == 0));
    b.tree.sync().unwrap();
    assert!(b.tree.free_bytes(R).unwrap() > 0);
}

#[test]
fn modes_and_times_to_the_nanosecond() {
    let b = bed();
    let root = b.tree.root(R).unwrap();
    let kinds = [Kind::File, Kind::Directory, Kind::Symlink(b"gone \xff".to_vec()), Kind::Fifo, Kind::Socket];
    for (number, kind) in kinds.into_iter().enumerate() {
        let name = n(number.to_string());
        let made = b.tree.create(&root, &name, &kind).unwrap();
        assert_eq!((made.kind.clone(), made.size), (kind.clone(), 0));
        for (mode, time) in
            [(0o7777, 1), (0o1000, -1), (0, -1_500_000_000), (0o2555, 1_700_000_000_123_456_789)]
        {
            b.tree.set_attributes(&root, &name, &attributes(mode, time), &kind).unwrap();
            let now = b.tree.stat(&root, &name).unwrap().unwrap().attributes;
            let expected = if matches!(kind, Kind::Symlink(_)) { 0o777 } else { mode };
            assert_eq!((now.mode, now.mtime), (expected, Timestamp(time)), "{kind:?}");
        }
    }
    b.tree.set_dir_attributes(&root, &attributes(0o1751, 12_345)).unwrap();
    let now = b.tree.stat_dir(&root).unwrap();
    assert_eq!(
        (now.attributes.mode, now.attributes.mtime, now.kind),
        (0o1751, Timestamp(12_345), Kind::Directory)
    );
}

#[test]
fn setting_what_is_right_already_changes_nothing() {
    let b = bed();
    let root = b.tree.root(R).unwrap();
    b.tree.create(&root, &n("f"), &Kind::File).unwrap();
    b.tree.set_attributes(&root, &n("f"), &attributes(0o640, 9), &Kind::File).unwrap();
    b.tree.set_xattrs(&root, &n("f"), &Kind::File, &user_xattr()).unwrap();
    let before = b.tree.stat(&root, &n("f")).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(20));
    b.tree.set_attributes(&root, &n("f"), &attributes(0o640, 9), &Kind::File).unwrap();
    b.tree.set_xattrs(&root, &n("f"), &Kind::File, &user_xattr()).unwrap();
    assert_eq!(b.tree.stat(&root, &n("f")).unwrap(), before);
}

#[test]
fn extended_attributes_are_a_set() {
    let b = bed();
    let root = b.tree.root(R).unwrap();
    let pair = |name: &str, value: &[u8]| (name.as_bytes().to_vec(), value.to_vec());
    for (name, kind) in [("f", Kind::File), ("d", Kind::Directory)] {
        b.tree.create(&root, &n(name), &kind).unwrap();
        let large = vec![3; 2000];
        let sets = [
            vec![pair("user.a", b""), pair("user.b", b"\0\xff")],
            vec![pair("user.b", b"other"), pair("user.c", &large)],
            (0..60).map(|i| pair(&format!("user.{i:02}-{}", "n".repeat(20)), &[i])).collect(),
            vec![],
        ];
        for set in sets {
            b.tree.set_xattrs(&root, &n(name), &kind, &set).unwrap();
            assert_eq!(b.tree.xattrs(&root, &n(name), &kind).unwrap(), set);
        }
    }
    // What one refusal says does not keep the others from being set.
    let mixed = vec![pair("nonsense", b"x"), pair("user.z", b"kept")];
    assert!(b.tree.set_xattrs(&root, &n("f"), &Kind::File, &mixed).is_err());
    assert_eq!(b.tree.xattrs(&root, &n("f"), &Kind::File).unwrap(), [pair("user.z", b"kept")]);
    b.tree.set_dir_xattrs(&root, &user_xattr()).unwrap();
    assert_eq!(b.tree.dir_xattrs(&root).unwrap(), user_xattr());
    b.tree.set_dir_xattrs(&root, &vec![]).unwrap();
}

/// An ACL as the kernel stores it: version 2, then (tag, permissions, id) of owner, user 12345, group, mask, others.
fn acl(owner: u8, user: u8, group: u8, mask: u8, others: u8) -> Vec<u8> {
    let mut bytes = vec![2, 0, 0, 0];
    let nobody = u32::MAX;
    for (tag, rights, id) in
        [(1, owner, nobody), (2, user, 12_345), (4, group, nobody), (16, mask, nobody), (32, others, nobody)]
    {
        bytes.extend_from_slice(&[tag, 0, rights, 0]);
        bytes.extend_from_slice(&u32::to_le_bytes(id));
    }
    bytes
}

#[test]
fn acls_agree_with_modes_and_are_not_inherited() {
    let b = bed();
    let root = b.tree.root(R).unwrap();
    let access = (b"system.posix_acl_access".to_vec(), acl(7, 6, 5, 7, 4));
    let default = (b"system.posix_acl_default".to_vec(), acl(7, 7, 7, 7, 7));
    b.tree.create(&root, &n("d"), &Kind::Directory).unwrap();
    b.tree.set_attributes(&root, &n("d"), &attributes(0o774, 77), &Kind::Directory).unwrap();
    b.tree.set_xattrs(&root, &n("d"), &Kind::Directory, &vec![access.clone(), default.clone()]).unwrap();
    assert_eq!(b.tree.xattrs(&root, &n("d"), &Kind::Directory).unwrap(), [access, default]);
    let now = b.tree.stat(&root, &n("d")).unwrap().unwrap().attributes;
    assert_eq!((now.mode, now.mtime), (0o774, Timestamp(77)));

    let dir = b.tree.open_dir(&root, &n("d")).unwrap();
    for (name, kind) in
        [("f", Kind::File), ("g", Kind::Directory), ("l", Kind::Symlink(b"f".to_vec())), ("p", Kind::Fifo)]
    {
        let made = b.tree.create(&dir, &n(name), &kind).unwrap();
        assert_eq!(b.tree.xattrs(&dir, &n(name), &kind).unwrap(), [], "{name}");
        let closed = [0o600, 0o700, 0o777];
        assert!(closed.contains(&made.attributes.mode), "{name} {:o}", made.attributes.mode);
    }
    drop(b.tree.create_file(&dir, &n("h")).unwrap());
    assert_eq!(b.tree.xattrs(&dir, &n("h"), &Kind::File).unwrap(), []);
}

#[test]
fn owners_and_capabilities_as_root() {
    if !is_root() {
        eprintln!("skipped: needs root");
        return;
    }
    let b = bed();
    let root = b.tree.root(R).unwrap();
    let capability = (b"security.capability".to_vec(), {
        let mut bytes = vec![0; 20];
        bytes[3] = 2;
        bytes[5] = 4;
        bytes
    });
    b.tree.create(&root, &n("f"), &Kind::File).unwrap();
    b.tree.set_xattrs(&root, &n("f"), &Kind::File, &vec![capability.clone()]).unwrap();
    let foreign = Attributes { uid: 4_000_000_000, gid: 1234, ..attributes(0o6755, 3) };
    b.tree.set_attributes(&root, &n("f"), &foreign, &Kind::File).unwrap();
    let now = b.tree.stat(&root, &n("f")).unwrap().unwrap().attributes;
    assert_eq!(Attributes { ctime: Timestamp(0), ..now }, foreign);
    assert_eq!(b.tree.xattrs(&root, &n("f"), &Kind::File).unwrap(), [capability]);

    let beside = b.path.parent().unwrap().join(".docs.rewind");
    std::os::unix::fs::chown(&beside, Some(1), None).unwrap();
    assert_eq!(OsTree::open(vec![b.path.clone()]).unwrap_err().kind(), io::ErrorKind::PermissionDenied);

    let device = rustix::fs::makedev(1, 3);
    for kind in [Kind::CharDevice(device), Kind::BlockDevice(rustix::fs::makedev(7, 300))] {
        let made = b.tree.create(&root, &n("node"), &kind).unwrap();
        assert_eq!(made.kind, kind);
        assert!(b.tree.open_file(&root, &n("node"), true).is_err());
        b.tree.unlink(&root, &n("node")).unwrap();
    }
    b.tree.create(&root, &n("l"), &Kind::Symlink(b"f".to_vec())).unwrap();
    b.tree.set_attributes(&root, &n("l"), &foreign, &Kind::Symlink(b"f".to_vec())).unwrap();
    assert_eq!(b.tree.stat(&root, &n("l")).unwrap().unwrap().attributes.uid, 4_000_000_000);
}

/// Runs on a thread of its own that has given up all privileges, if this process has any.
fn unprivileged(test: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                if is_root() {
                    let (uid, gid) = (rustix::fs::Uid::from_raw(12_345), rustix::fs::Gid::from_raw(12_345));
                    // These change the calling thread only.
                    rustix::thread::set_thread_groups(&[]).unwrap();
                    rustix::thread::set_thread_res_gid(gid, gid, gid).unwrap();
                    rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
                }
                test();
            })
            .join()
            .unwrap();
    });
}

#[test]
fn modes_that_close_a_node_to_its_owner() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o777)).unwrap();
    unprivileged(|| closed_nodes(&directory.path().join("docs")));
}

fn closed_nodes(path: &std::path::Path) {
    std::fs::create_dir(path).unwrap();
    let tree = OsTree::open(vec![path.to_owned()]).unwrap();
    let (root, kept) = (tree.root(R).unwrap(), tree.kept(R).unwrap());
    let mine = tree.stat_dir(&root).unwrap().attributes;
    let closed = |mode| Attributes { mode, mtime: Timestamp(4), ..mine };
    for (number, mode) in [0o000, 0o555, 0o1077].into_iter().enumerate() {
        let (d, moved) = (n(format!("d{number}")), n(format!("{number}")));
        tree.create(&root, &d, &Kind::Directory).unwrap();
        tree.set_attributes(&root, &d, &closed(mode), &Kind::Directory).unwrap();
        let dir = tree.open_dir(&root, &d).unwrap();
        tree.create_file(&dir, &n("f")).unwrap().write_at(b"12", 0).unwrap();
        tree.set_attributes(&dir, &n("f"), &closed(mode & 0o777), &Kind::File).unwrap();
        tree.set_xattrs(&dir, &n("f"), &Kind::File, &user_xattr()).unwrap();
        tree.set_dir_xattrs(&dir, &user_xattr()).unwrap();
        assert_eq!(tree.xattrs(&root, &d, &Kind::Directory).unwrap(), user_xattr());
        assert_eq!(tree.xattrs(&dir, &n("f"), &Kind::File).unwrap(), user_xattr());
        tree.open_file(&dir, &n("f"), true).unwrap().write_at(b"3", 2).unwrap();
        assert_eq!(tree.list(&dir).unwrap(), [n("f")]);
        tree.link((&dir, &n("f")), (&dir, &n("g"))).unwrap();
        let file = tree.stat(&dir, &n("g")).unwrap().unwrap();
        assert_eq!((file.attributes.mode, file.size, file.links), (mode & 0o777, 3, 2));
        tree.create(&dir, &n("sub"), &Kind::Directory).unwrap();
        tree.remove_dir(&dir, &n("sub")).unwrap();
        tree.rename((&dir, &n("g")), (&kept, &n("g"))).unwrap();
        tree.unlink(&kept, &n("g")).unwrap();
        tree.rename((&root, &d), (&kept, &moved)).unwrap();
        assert_eq!(tree.stat_dir(&dir).unwrap().attributes.mode, mode, "put back");
        assert_eq!(tree.stat(&kept, &moved).unwrap().unwrap().attributes.mode, mode);
        tree.rename((&kept, &moved), (&root, &d)).unwrap();
    }
    tree.set_dir_attributes(&root, &closed(0)).unwrap();
    assert_eq!(tree.list(&root).unwrap().len(), 3);
    // Opened anew, with the root closed.
    drop(tree);
    let tree = OsTree::open(vec![path.to_owned()]).unwrap();
    let root = tree.root(R).unwrap();
    assert_eq!(tree.stat_dir(&root).unwrap().attributes.mode, 0);
    refused_owner(&tree, &root, mine);
    // Or they would be left behind.
    tree.set_dir_attributes(&root, &closed(0o755)).unwrap();
    for name in tree.list(&root).unwrap() {
        tree.set_attributes(&root, &name, &closed(0o755), &Kind::Directory).unwrap();
    }
}

/// Giving a file away is refused; all else is set, but for the bit that would run it as somebody else.
fn refused_owner(tree: &OsTree, root: &super::OsDir, mine: Attributes) {
    tree.create(root, &n("f"), &Kind::File).unwrap();
    let foreign = Attributes { uid: mine.uid + 1, mode: 0o4750, mtime: Timestamp(99), ..mine };
    let refused = tree.set_attributes(root, &n("f"), &foreign, &Kind::File);
    assert_eq!(errno(refused), rustix::io::Errno::PERM.raw_os_error());
    let now = tree.stat(root, &n("f")).unwrap().unwrap().attributes;
    assert_eq!((now.uid, now.mode, now.mtime), (mine.uid, 0o750, Timestamp(99)));
    let device = tree.create(root, &n("dev"), &Kind::BlockDevice(rustix::fs::makedev(7, 3)));
    assert_eq!(errno(device), rustix::io::Errno::PERM.raw_os_error());
}

#[test]
fn a_sync_that_failed_once_fails_until_the_tree_is_opened_again() {
    let mut b = bed();
    b.tree.sync().unwrap();
    // The kernel syncs by no descriptor that is a place only; by the others it would say afterwards that all is well.
    let place = rustix::fs::open(&b.path, rustix::fs::OFlags::PATH, rustix::fs::Mode::empty()).unwrap();
    let whole = std::mem::replace(&mut b.tree.file_systems, vec![OsDir::new(place)]);
    assert_eq!(errno(b.tree.sync()), rustix::io::Errno::BADF.raw_os_error());
    b.tree.file_systems = whole;
    assert_eq!(b.tree.sync().unwrap_err().raw_os_error(), None);
    OsTree::open(vec![b.path.clone()]).unwrap().sync().unwrap();
}
