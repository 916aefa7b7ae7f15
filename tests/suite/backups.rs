//! A backup as a person makes it: can restic read it, does the next one read only what changed, is what is refused
//! refused?

use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, mknodat, utimensat};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use tests::compare::assert_same;
use tests::daemon::{World, is_root};
use tests::restic::Restic;

/// A world with a tree of everything, replicating, and a repository called `offsite`.
pub(crate) struct Ground {
    pub world: World,
    pub repository: PathBuf,
    pub password: PathBuf,
}

impl Ground {
    pub fn new() -> Ground {
        let world = World::new();
        fill(&world.master());
        world.protect();
        let (repository, password) = (world.path("repository"), world.path("password"));
        std::fs::write(&password, "correct horse\n").unwrap();
        tests::repository::make(&repository, &password);
        let ground = Ground { world, repository, password };
        let added = ground.world.ok(&ground.add("offsite"));
        assert_eq!(added["created"], false, "{added}");
        ground
    }

    fn add(&self, name: &str) -> String {
        let (repository, password) = (self.repository.display(), self.password.display());
        format!("repository add {name} file://{repository} --password-file {password}")
    }

    /// A backup after a flush: its report and its only session.
    pub fn backup(&self) -> (Value, Value) {
        self.world.flush();
        let report = self.world.ok("backup docs --to offsite");
        let session = report["sessions"][0].clone();
        assert_eq!(report["state"], "done", "{report}");
        assert_eq!(report["sessions"].as_array().unwrap().len(), 1, "{report}");
        (report, session)
    }

    /// Runs restic on the repository; what it prints. `None` where there is no restic.
    pub fn restic(&self, arguments: &[&str]) -> Option<String> {
        Restic::new(&self.repository, &self.password).run(arguments)
    }

    /// restic finds no fault, and what it restores of a session is the master's tree.
    fn restic_agrees(&self, session: &Value, what: &str) {
        let id = session["id"].as_str().unwrap();
        let into = self.world.path(&format!("restic-{}", &id[..8]));
        if self.restic(&["check", "--read-data"]).is_none() {
            return;
        }
        self.restic(&["restore", id, "--target", into.to_str().unwrap()]);
        let restored = into.join(self.world.master().strip_prefix("/").unwrap());
        assert_same(&self.world.master(), &restored, what);
    }
}

pub(crate) fn fill(master: &Path) {
    let dir = master.join("a/b/c");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::create_dir(master.join("empty")).unwrap();
    for number in 0..40_usize {
        let at = if number % 2 == 0 { &dir } else { master };
        std::fs::write(at.join(format!("file-{number:02}")), vec![number as u8; number * 997]).unwrap();
    }
    std::fs::write(master.join("nothing"), "").unwrap();
    std::fs::hard_link(master.join("file-01"), dir.join("same")).unwrap();
    std::os::unix::fs::symlink("../nowhere", master.join("dangling")).unwrap();
    let odd = <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"not \xff utf-8 \"\\");
    std::fs::write(master.join(odd), "odd").unwrap();
    std::fs::write(master.join("x".repeat(255)), "long").unwrap();
    rustix::fs::setxattr(master.join("file-03"), "user.colour", b"blue\0", rustix::fs::XattrFlags::empty())
        .unwrap();
    mknodat(CWD, master.join("pipe"), FileType::Fifo, Mode::from_raw_mode(0o640), 0).unwrap();
    if is_root() {
        let (null, zero) = (rustix::fs::makedev(1, 3), Mode::from_raw_mode(0o600));
        mknodat(CWD, master.join("null"), FileType::CharacterDevice, zero, null).unwrap();
    }
    let sparse = std::fs::File::create(master.join("sparse")).unwrap();
    sparse.set_len(40 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"in the middle", 25 << 20).unwrap();
    let old = Timespec { tv_sec: 1_000_000_000, tv_nsec: 123_456_789 };
    let times = Timestamps { last_access: old, last_modification: old };
    utimensat(CWD, master.join("file-05"), &times, AtFlags::empty()).unwrap();
}

/// Bytes that do not compress and do not repeat.
pub(crate) fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut rng = tests::rng::Rng::new(seed);
    std::iter::repeat_with(|| rng.below(256) as u8).take(length).collect()
}

#[test]
fn restic_reads_what_a_backup_wrote() {
    let ground = Ground::new();
    let (report, first) = ground.backup();
    assert_eq!(first["incremental"], false, "{report}");
    assert!(report["notes"][0].as_str().unwrap().contains("no session before"), "{report}");
    assert_eq!(first["missed"], 0, "{report}");
    assert_eq!(first["entity"], ground.world.master().to_str().unwrap(), "{report}");
    ground.restic_agrees(&first, "the first session");
    // Everything at once: bytes, names, links, a directory moved, one removed, one new.
    let master = ground.world.master();
    std::fs::write(master.join("file-01"), "other bytes for both names").unwrap();
    std::fs::rename(master.join("a/b"), master.join("moved")).unwrap();
    std::fs::remove_file(master.join("file-07")).unwrap();
    std::fs::create_dir_all(master.join("new/er")).unwrap();
    std::fs::write(master.join("new/er/file"), noise(100_000, 1)).unwrap();
    std::fs::rename(master.join("file-09"), master.join("new/from above")).unwrap();
    std::fs::remove_dir(master.join("empty")).unwrap();
    let (report, second) = ground.backup();
    assert_eq!(second["incremental"], true, "{report}");
    assert!(second["bytes_read"].as_u64().unwrap() < 110_000, "{report}");
    ground.restic_agrees(&second, "the second session");
    // Nothing changed: the very same tree.
    let (report, third) = ground.backup();
    assert_eq!((&third["tree"], &third["bytes_read"]), (&second["tree"], &Value::from(0)), "{report}");
    if let Some(listed) = ground.restic(&["snapshots", "--json"]) {
        let listed: Vec<Value> = serde_json::from_str(&listed).unwrap();
        let ids: Vec<&Value> = listed.iter().map(|one| &one["id"]).collect();
        assert_eq!(ids, [&first["id"], &second["id"], &third["id"]]);
        assert_eq!(listed[0]["paths"][0], master.to_str().unwrap());
        assert!(listed[0]["tags"].as_array().unwrap().contains(&Value::from("scenario:docs")));
    }
    let sessions = ground.world.list("session list --scenario docs");
    let ids: Vec<&Value> = sessions.iter().map(|one| &one["id"]).collect();
    assert_eq!(ids, [&third["id"], &second["id"], &first["id"]], "newest first");
}

/// Of a large file the chunks around a change are read, wherever it is.
#[test]
fn a_large_file_is_read_where_it_changed() {
    const BYTES: usize = 48 << 20;
    let ground = Ground::new();
    let path = ground.world.master().join("large");
    std::fs::write(&path, noise(BYTES, 2)).unwrap();
    let (report, first) = ground.backup();
    assert!(first["bytes_read"].as_u64().unwrap() >= BYTES as u64, "{report}");
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    let write = |bytes: &[u8], at: u64| std::os::unix::fs::FileExt::write_all_at(&file, bytes, at).unwrap();
    write(b"at the beginning", 7);
    write(b"in the middle", 23 << 20);
    write(b"and behind the end", BYTES as u64);
    file.sync_all().unwrap();
    let (report, second) = ground.backup();
    assert_eq!(second["incremental"], true, "{report}");
    // Three places, the last of them with the window in which a cut may depend on the end.
    let read = second["bytes_read"].as_u64().unwrap();
    assert!(read > 3 << 19 && read < 28 << 20, "{report}");
    assert!(second["bytes_stored"].as_u64().unwrap() < 14 << 20, "{report}");
    ground.restic_agrees(&second, "after three changes");
    file.set_len(5 << 20).unwrap();
    drop(file);
    let (_, third) = ground.backup();
    ground.restic_agrees(&third, "cut off");
}

/// A backup reads a point of the past while the tree goes on, and after a restart of the daemon too.
#[test]
fn any_point_can_be_stored() {
    let mut ground = Ground::new();
    let master = ground.world.master();
    let copy = ground.world.path("copy");
    ground.world.ok("bookmark set docs before");
    ground.world.flush();
    let status = Command::new("cp").arg("-a").arg(&master).arg(&copy).status().unwrap();
    assert!(status.success());
    std::fs::write(master.join("file-01"), "later").unwrap();
    std::fs::remove_dir_all(master.join("a")).unwrap();
    let (_, newest) = ground.backup();
    ground.world.stop();
    ground.world.start();
    let report = ground.world.ok("backup docs --to offsite --at before");
    let session = &report["sessions"][0];
    // What is newer is nothing to go on from.
    assert_eq!(session["incremental"], false, "{report}");
    if let Some(id) = session["id"].as_str().filter(|_| ground.restic(&["check"]).is_some()) {
        let into = ground.world.path("restic");
        ground.restic(&["restore", id, "--target", into.to_str().unwrap()]);
        let restored = into.join(master.strip_prefix("/").unwrap());
        assert_same(&copy, &restored, "the point before");
    }
    let (report, next) = ground.backup();
    assert_eq!(next["tree"], newest["tree"], "{report}");
    assert_eq!(next["incremental"], true, "sessions are known after a restart: {report}");
}

/// With a quiesce hook a session is of a consistent point, and says so; without one it is refused.
#[test]
fn a_consistent_backup() {
    let ground = Ground::new();
    let world = &ground.world;
    world.refused("backup docs --to offsite --consistent", 5, "RW0471");
    let held = world.path("held");
    world.ok("scenario stop docs");
    let script = world.path("touch_it");
    std::fs::write(&script, format!("#!/bin/sh\ntouch {}\n", held.display())).unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    world.ok(&format!("scenario set docs hook=quiesce={} hook=thaw=/bin/true", script.display()));
    world.ok("scenario run docs");
    let report = world.ok("backup docs --to offsite --consistent");
    assert!(held.exists(), "the hook ran");
    assert_eq!(report["sessions"][0]["class"], "application", "{report}");
    assert_eq!(world.list("session list")[0]["class"], "application");
    world.refused("backup docs --to offsite --consistent --at now", 2, "RW1028");
}

/// A session that was forgotten, by whoever, is nothing to go on from, and the backup says so.
#[test]
fn a_forgotten_session_is_noticed() {
    let ground = Ground::new();
    let (_, first) = ground.backup();
    if ground.restic(&["forget", first["id"].as_str().unwrap(), "--prune"]).is_none() {
        return;
    }
    let (report, second) = ground.backup();
    assert_eq!(second["incremental"], false, "{report}");
    assert!(report["notes"][0].as_str().unwrap().contains("forgotten"), "{report}");
    ground.restic_agrees(&second, "after forget and prune by another program");
}

/// What is known to be missing is stored again, and that is said; where the index promises what is not there, a
/// session could not be whole, and none is made.
#[test]
fn what_was_lost_is_not_built_upon() {
    let ground = Ground::new();
    let (_, first) = ground.backup();
    let change = |text: &str| std::fs::write(ground.world.master().join("a/b/c/file-02"), text).unwrap();
    let packs = walk(&ground.repository.join("data"));
    change("changed");
    let aside: Vec<_> = packs.iter().map(|pack| (pack, std::fs::read(pack).unwrap())).collect();
    packs.iter().for_each(|pack| std::fs::remove_file(pack).unwrap());
    ground.world.flush();
    let ran = ground.world.refused("backup docs --to offsite", 8, "RW1058");
    assert!(ran.stdout.contains("data/"), "the object is named: {ran:?}");
    aside.iter().for_each(|(pack, bytes)| std::fs::write(pack, bytes).unwrap());
    assert_eq!(ground.backup().1["incremental"], true, "all is back");
    // Packs and index gone, the records still there.
    for directory in ["data", "index"] {
        walk(&ground.repository.join(directory)).iter().for_each(|file| std::fs::remove_file(file).unwrap());
    }
    change("changed again");
    let (report, whole) = ground.backup();
    assert_eq!(whole["incremental"], false, "{report}");
    assert!(report["notes"][0].as_str().unwrap().contains("cannot be used"), "{report}");
    let records = walk(&ground.repository.join("snapshots"));
    let kept = whole["id"].as_str().unwrap();
    for record in records.iter().filter(|record| !record.ends_with(kept)) {
        std::fs::remove_file(record).unwrap();
    }
    assert_ne!(first["id"], whole["id"]);
    ground.restic_agrees(&whole, "stored again");
}

/// The usual repair after a lost pack takes it out of the index: no session goes on as if it were there, not even one
/// that touches nothing of it.
#[test]
fn a_repaired_index_is_noticed() {
    let mut ground = Ground::new();
    std::fs::write(ground.world.master().join("precious"), noise(3 << 20, 3)).unwrap();
    let (_, first) = ground.backup();
    ground.world.stop();
    let packs = walk(&ground.repository.join("data"));
    let largest = packs.iter().max_by_key(|pack| std::fs::metadata(pack).unwrap().len()).unwrap();
    std::fs::remove_file(largest).unwrap();
    if ground.restic(&["rebuild-index"]).is_none() {
        return;
    }
    ground.world.start();
    ground.world.wait_replicating();
    std::fs::write(ground.world.master().join("other"), "nothing to do with it").unwrap();
    let (report, second) = ground.backup();
    assert_eq!(second["incremental"], false, "{report}");
    assert!(report["notes"][0].as_str().unwrap().contains("cannot be used"), "{report}");
    ground.restic(&["forget", first["id"].as_str().unwrap()]);
    ground.restic_agrees(&second, "stored again");
    let (report, third) = ground.backup();
    assert_eq!(third["incremental"], true, "proved once, it is gone on from: {report}");
}

/// All files below a directory.
pub(crate) fn walk(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(walk(&path)) } else { files.push(path) }
    }
    files
}

#[test]
fn what_is_refused() {
    let ground = Ground::new();
    let world = &ground.world;
    world.refused("backup docs --to nowhere", 4, "RW1050");
    world.refused("backup nothing --to offsite", 4, "RW1002");
    world.refused("backup docs --to offsite --at bookmark:none", 4, "RW1004");
    let password = ground.password.display();
    world.refused(&format!("repository add bad ftp://host --password-file {password}"), 2, "RW1052");
    world.refused(&format!("repository add -x file:///x --password-file {password}"), 2, "RW1028");
    world.refused(&format!("repository add a/b file:///x --password-file {password}"), 2, "RW1013");
    // The same name for another place, the same place under another name.
    let other = world.path("other");
    let line = format!("repository add offsite file://{} --password-file {password}", other.display());
    world.refused(&line, 5, "RW1051");
    world.refused(&ground.add("second"), 5, "RW1051");
    assert_eq!(world.ok(&ground.add("offsite"))["name"], "offsite", "adding it again is no failure");
    std::fs::write(&ground.password, "wrong\n").unwrap();
    world.refused(&ground.add("offsite"), 6, "RW1053");
    assert_eq!(world.list("repository list").len(), 1);
    // A repository that lost its config is not made anew, neither as the one it was nor as another.
    std::fs::write(&ground.password, "correct horse\n").unwrap();
    ground.backup();
    let config = ground.repository.join("config");
    let kept = std::fs::read(&config).unwrap();
    std::fs::remove_file(&config).unwrap();
    world.refused(&ground.add("offsite"), 8, "RW1058");
    std::fs::rename(&ground.repository, &other).unwrap();
    let line = format!("repository add other file://{} --password-file {password}", other.display());
    world.refused(&line, 5, "RW1051");
    std::fs::rename(&other, &ground.repository).unwrap();
    std::fs::write(&config, kept).unwrap();
    ground.backup();
    // One that is not there is made, with a password that is hard to guess.
    let fresh = world.path("fresh");
    let line = format!("repository add fresh file://{} --password-file {password}", fresh.display());
    assert_eq!(world.ok(&line)["created"], true);
    let key = std::fs::read_dir(fresh.join("keys")).unwrap().next().unwrap().unwrap().path();
    let key: Value = serde_json::from_slice(&std::fs::read(key).unwrap()).unwrap();
    let cost = ["N", "r", "p"].map(|name| key[name].as_u64().unwrap());
    assert_eq!(cost, [1 << 15, 8, 4], "{key}");
}
