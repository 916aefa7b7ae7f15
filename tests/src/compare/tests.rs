//! That every difference is seen and equality is.

use super::{Options, Report, compare};
use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

fn tree(at: &Path) -> PathBuf {
    let top = at.to_owned();
    fs::create_dir_all(top.join("d/empty")).unwrap();
    fs::write(top.join("d/f"), b"some bytes").unwrap();
    fs::write(top.join("g"), b"").unwrap();
    fs::hard_link(top.join("g"), top.join("d/g2")).unwrap();
    symlink("/nowhere", top.join("l")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, top.join("p"), rustix::fs::Mode::RWXU).unwrap();
    let sparse = fs::File::create(top.join("sparse")).unwrap();
    sparse.set_len(6 << 30).unwrap();
    sparse.write_all_at(b"x", 5 << 30).unwrap();
    fs::write(top.join("large"), vec![7; 1 << 20]).unwrap();
    same_times(&top);
    top
}

/// Deepest first, so that nothing moves the time of a directory afterwards.
fn same_times(path: &Path) {
    if path.symlink_metadata().unwrap().is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            same_times(&entry.unwrap().path());
        }
    }
    let time = rustix::fs::Timespec { tv_sec: 1_600_000_000, tv_nsec: 123_456_789 };
    let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// Makes two equal trees, lets `change` alter the second, and checks that the report says so.
fn check(change: impl FnOnce(&Path), expected: &[&str]) -> Report {
    let directory = tempfile::tempdir().unwrap();
    let (a, b) = (tree(&directory.path().join("a")), tree(&directory.path().join("b")));
    change(&b);
    let report = compare(&a, &b, &Options::default()).unwrap();
    assert_eq!(report.differences.len(), expected.len(), "{report}");
    for (found, expected) in report.differences.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found:?} is not {expected:?}");
    }
    report
}

#[test]
fn equal_trees() {
    let report = check(|_| {}, &[]);
    assert!(report.is_equal() && report.holes.is_empty());
    assert_eq!((report.directories, report.files, report.others), (3, 5, 2));
    assert!(report.bytes < 2 << 20, "holes are not read");
}

#[test]
fn names_and_kinds() {
    let change = |top: &Path| {
        fs::remove_file(top.join("d/f")).unwrap();
        fs::write(top.join("new"), b"").unwrap();
        fs::remove_file(top.join("l")).unwrap();
        fs::create_dir(top.join("l")).unwrap();
        same_times(top);
    };
    check(change, &["d/f: only in A", "l: is Symlink in A, Directory in B", "new: only in B"]);
}

#[test]
fn bytes_and_sizes() {
    let change = |top: &Path| {
        fs::write(top.join("d/f"), b"some_bytes").unwrap();
        let large = fs::OpenOptions::new().write(true).open(top.join("large")).unwrap();
        large.write_all_at(b"x", 700_000).unwrap();
        let sparse = fs::OpenOptions::new().write(true).open(top.join("sparse")).unwrap();
        sparse.write_all_at(b"x", 1 << 30).unwrap();
        fs::write(top.join("g"), b"longer").unwrap();
        same_times(top);
    };
    let expected = [
        "d/f: byte 4 is 0x20 in A, 0x5f in B",
        "d/g2: size 0 in A, 6 in B",
        "g: size 0",
        "large: byte 700000 is 0x07",
        "sparse: byte 1073741824 is 0x00 in A, 0x78 in B",
    ];
    let report = check(change, &expected);
    assert_eq!(report.hole_count, 1, "{report}");
}

#[test]
fn holes_are_told_apart() {
    let change = |top: &Path| {
        let sparse = fs::OpenOptions::new().write(true).open(top.join("sparse")).unwrap();
        sparse.write_all_at(&[0; 4096], 1 << 30).unwrap();
        same_times(top);
    };
    let report = check(change, &[]);
    assert!(report.holes[0].starts_with("sparse: 4096 bytes of data in A, 8192 in B"), "{report}");
}

#[test]
fn attributes() {
    let change = |top: &Path| {
        fs::set_permissions(top.join("d/empty"), PermissionsExt::from_mode(0o1700)).unwrap();
        rustix::fs::setxattr(top.join("d"), "user.a", b"1", rustix::fs::XattrFlags::empty()).unwrap();
        let file = fs::File::options().write(true).open(top.join("large")).unwrap();
        file.set_modified(UNIX_EPOCH + Duration::new(1_600_000_000, 123_456_788)).unwrap();
        fs::remove_file(top.join("l")).unwrap();
        symlink("/elsewhere", top.join("l")).unwrap();
        let keep = file.metadata().unwrap().modified().unwrap();
        same_times(top);
        file.set_modified(keep).unwrap();
        fs::set_permissions(top, PermissionsExt::from_mode(0o711)).unwrap();
    };
    let expected = [
        ".: mode 755 in A, 711 in B",
        "d/empty: mode 755 in A, 1700 in B",
        "d: xattrs: only in A none, only in B user.a=1",
        "large: mtime 1600000000.123456789 in A, 1600000000.123456788 in B",
        "l: target /nowhere in A, /elsewhere in B",
    ];
    let mut sorted = expected;
    sorted.sort_unstable();
    check(change, &sorted);
}

#[test]
fn owners_as_root() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: needs root");
        return;
    }
    let change = |top: &Path| std::os::unix::fs::lchown(top.join("l"), Some(7), Some(8)).unwrap();
    check(change, &["l: group 0 in A, 8 in B", "l: owner 0 in A, 7 in B"]);
}

#[test]
fn links_are_grouped_alike() {
    let change = |top: &Path| {
        fs::remove_file(top.join("d/g2")).unwrap();
        fs::write(top.join("d/g2"), b"").unwrap();
        same_times(top);
    };
    check(change, &["g: is the same file as d/g2 in A, as g in B"]);
}

#[test]
fn the_list_is_bounded_and_the_count_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let (a, b) = (tree(&directory.path().join("a")), tree(&directory.path().join("b")));
    for number in 0..100 {
        fs::write(a.join(format!("n{number:02}")), b"").unwrap();
    }
    same_times(&a);
    let report = compare(&a, &b, &Options { limit: 5, ..Options::default() }).unwrap();
    assert_eq!((report.differences.len(), report.difference_count), (5, 100));
    assert!(report.differences[4].starts_with("n04"));
    assert!(compare(&a, &b.join("missing"), &Options::default()).is_err());
}
