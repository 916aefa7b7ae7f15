//! What appears is whole and durable; what lies in the way is not followed.

use super::*;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};
use std::time::SystemTime;

fn store() -> (tempfile::TempDir, DirectoryStore) {
    let directory = tempfile::tempdir().unwrap();
    let store = DirectoryStore::create(directory.path()).unwrap();
    (directory, store)
}

fn names(store: &DirectoryStore, directory: &str) -> Vec<String> {
    let mut names = Vec::new();
    store
        .list(directory, &mut |entry| {
            names.push(entry.name);
            true
        })
        .unwrap();
    names.sort();
    names
}

/// Every file and directory below, ours or not.
fn everything(path: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut left = vec![path.to_owned()];
    while let Some(directory) = left.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                left.push(entry.path());
            }
            found.push(entry.path().strip_prefix(path).unwrap().to_string_lossy().into_owned());
        }
    }
    found.sort();
    found
}

#[test]
fn a_missing_directory_is_not_opened_but_created() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a/b");
    assert!(DirectoryStore::open(&path).unwrap_err().is_not_found());
    let store = DirectoryStore::create(&path).unwrap();
    store.put("data/00/1", Bytes::from_static(b"1")).unwrap();
    assert_eq!(DirectoryStore::open(&path).unwrap().get("data/00/1", 1).unwrap(), "1");
    assert_eq!(everything(&path), ["data", "data/00", "data/00/1"]);
    std::fs::write(directory.path().join("file"), "").unwrap();
    assert!(DirectoryStore::open(&directory.path().join("file")).is_err());
    assert!(DirectoryStore::create(&directory.path().join("file")).is_err());
}

#[test]
fn what_we_write_is_for_the_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let (directory, store) = store();
    store.put("keys/1", Bytes::new()).unwrap();
    let mode =
        |name: &str| std::fs::metadata(directory.path().join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("keys"), mode("keys/1")), (0o700, 0o600));
}

#[test]
fn unfinished_files_are_never_objects_and_go_when_old() {
    let (directory, store) = store();
    store.put("data/1", Bytes::from_static(b"1")).unwrap();
    let (young, old) = (
        directory.path().join("data/.rewind-0000000000000001.tmp"),
        directory.path().join("data/.rewind-0000000000000002.tmp"),
    );
    let foreign = directory.path().join("data/.hidden");
    for path in [&young, &old, &foreign] {
        std::fs::write(path, "half").unwrap();
    }
    let long_ago = SystemTime::now() - ABANDONED_AFTER - Duration::from_secs(60);
    for path in [&old, &foreign] {
        std::fs::File::options().write(true).open(path).unwrap().set_modified(long_ago).unwrap();
    }
    assert_eq!(names(&store, ""), ["data/1"]);
    assert!(young.exists() && !old.exists() && foreign.exists());
}

#[test]
fn links_pipes_and_strange_names_are_no_objects() {
    let (directory, store) = store();
    let path = directory.path();
    store.put("data/1", Bytes::from_static(b"1")).unwrap();
    symlink("1", path.join("data/link")).unwrap();
    symlink("nowhere", path.join("data/dangling")).unwrap();
    rustix::fs::mknodat(CWD, path.join("data/pipe"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    std::fs::create_dir(path.join("lost+found")).unwrap();
    std::fs::write(path.join("data/a b"), "").unwrap();
    assert_eq!(names(&store, ""), ["data/1"]);
    for name in ["data/link", "data/dangling", "data/pipe", "data"] {
        let refused = store.get(name, 10).unwrap_err();
        assert_eq!(refused.kind, StoreErrorKind::Other, "{name}");
        assert!(matches!(refused.source.downcast_ref::<Cause>(), Some(Cause::NotAFile)), "{name}");
    }
    assert_eq!(store.delete("data").unwrap_err().kind, StoreErrorKind::Other);
    assert_eq!(store.put("data", Bytes::new()).unwrap_err().kind, StoreErrorKind::Other);
    assert_eq!(names(&store, ""), ["data/1"]);
    assert!(!everything(path).iter().any(|name| name.contains(".rewind-")));
}

#[test]
fn directories_may_be_links_but_not_circles() {
    let (directory, store) = store();
    let other = tempfile::tempdir().unwrap();
    symlink(other.path(), directory.path().join("data")).unwrap();
    store.put("data/00/1", Bytes::from_static(b"1")).unwrap();
    assert!(other.path().join("00/1").exists());
    assert_eq!(names(&store, ""), ["data/00/1"]);
    symlink(".", other.path().join("circle")).unwrap();
    let refused = store.list("", &mut |_| true).unwrap_err();
    assert!(matches!(refused.source.downcast_ref::<Cause>(), Some(Cause::TooDeep { .. })));
}

#[test]
fn directories_removed_meanwhile_are_made_again_and_a_removed_root_is_told() {
    let (directory, store) = store();
    store.put("data/00/1", Bytes::new()).unwrap();
    std::fs::remove_dir_all(directory.path().join("data")).unwrap();
    store.put("data/00/2", Bytes::new()).unwrap();
    assert_eq!(names(&store, ""), ["data/00/2"]);
    drop(directory);
    for failed in [
        store.get("data/00/2", 1).map(drop),
        store.size("data/00/2").map(drop),
        store.list("data", &mut |_| true),
        store.delete("data/00/2"),
        store.put("data/00/3", Bytes::new()),
    ] {
        assert_eq!(failed.unwrap_err().kind, StoreErrorKind::Unavailable);
    }
}

#[test]
fn the_probe_leaves_nothing() {
    let (directory, store) = store();
    let found = store.probe_conditional_put().unwrap();
    println!("the file system of {} answers {found:?}", directory.path().display());
    assert_ne!(found, ConditionalPut::Ignored);
    assert!(everything(directory.path()).is_empty());
}

/// A file system of one MiB, or a reason why there is none.
struct Small(tempfile::TempDir);

impl Small {
    fn mount() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let flags = rustix::mount::MountFlags::NODEV;
        match rustix::mount::mount("tmpfs", directory.path(), "tmpfs", flags, c"size=1m") {
            Ok(()) => Some(Self(directory)),
            Err(errno) => {
                eprintln!("not tested on a full and a read-only disk: mounting one fails: {errno}");
                None
            }
        }
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(self.0.path(), rustix::mount::UnmountFlags::DETACH);
    }
}

#[test]
fn a_full_disk_is_told_and_leaves_nothing_half() {
    let Some(small) = Small::mount() else { return };
    let store = DirectoryStore::open(small.0.path()).unwrap();
    let bytes = Bytes::from(vec![7; 300 << 10]);
    for name in ["data/1", "data/2", "data/3"] {
        store.put(name, bytes.clone()).unwrap();
    }
    for _ in 0..5 {
        assert_eq!(store.put("data/4", bytes.clone()).unwrap_err().kind, StoreErrorKind::Full);
    }
    assert_eq!(everything(small.0.path()), ["data", "data/1", "data/2", "data/3"]);
    // Replacing needs room for both.
    assert_eq!(store.put("data/1", bytes.clone()).unwrap_err().kind, StoreErrorKind::Full);
    assert_eq!(store.get("data/1", 300 << 10).unwrap(), bytes);
    store.delete("data/2").unwrap();
    store.put("data/4", bytes).unwrap();

    let read_only = rustix::mount::MountFlags::RDONLY;
    rustix::mount::mount_remount(small.0.path(), read_only, c"").unwrap();
    assert_eq!(store.put("data/5", Bytes::new()).unwrap_err().kind, StoreErrorKind::NotPermitted);
    assert_eq!(store.delete("data/4").unwrap_err().kind, StoreErrorKind::NotPermitted);
    assert_eq!(names(&store, ""), ["data/1", "data/3", "data/4"]);
}

const WRITER: &str = "REWIND_TEST_WRITES_TO";

/// The content of an object whose name is a number.
fn content(number: u64) -> Bytes {
    Bytes::from(number.to_le_bytes().repeat(1000 + (number % 50) as usize * 1000))
}

/// Run by the test below in a process of its own, which it kills. Does nothing otherwise.
#[test]
fn writer_that_is_killed() {
    let Some(path) = std::env::var_os(WRITER) else { return };
    let store = DirectoryStore::create(Path::new(&path)).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..2_u64 {
            let store = &store;
            scope.spawn(move || {
                for number in (thread..).step_by(2) {
                    store.put(&format!("data/{}/{number}", number % 4), content(number)).unwrap();
                }
            });
        }
    });
}

#[test]
fn objects_of_a_killed_writer_are_whole() {
    let mut seed = [0; 8];
    getrandom::fill(&mut seed).unwrap();
    let mut random = u64::from_le_bytes(seed) | 1;
    println!("seed {random}");
    let mut found = 0;
    for _ in 0..8 {
        let directory = tempfile::tempdir().unwrap();
        let mut writer = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "store::directory::tests::writer_that_is_killed"])
            .env(WRITER, directory.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        std::thread::sleep(Duration::from_millis(40 + random % 160));
        writer.kill().unwrap();
        writer.wait().unwrap();
        let store = DirectoryStore::open(directory.path()).unwrap();
        for name in names(&store, "data") {
            let number = split(&name).1.parse().unwrap();
            assert_eq!(store.get(&name, 1 << 20).unwrap(), content(number), "{name}");
            found += 1;
        }
    }
    assert!(found > 0, "no writer got so far as to write anything");
}
