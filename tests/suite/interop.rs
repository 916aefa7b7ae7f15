//! Does restic read all of what we wrote, on disk and on an object store, of a large tree; do we read what it wrote?
//!
//! Two backups, the second after changes. `restic check --read-data` finds no fault, `restic restore` of both is what the
//! master was, `restic ls` lists what the master has. With `REWIND_LONG=1` the tree is the source of Linux.

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use tests::compare::assert_same;
use tests::daemon::{World, is_long};
use tests::restic::Restic;
use tests::rng::Rng;
use tests::s3::{BUCKET, ObjectStore};

/// A repository as both programs know it.
struct Place {
    ours: String,
    theirs: Restic,
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {out}{err}");
    out.into_owned()
}

/// A tree like that of a project: many small files in many directories, some large ones.
fn fill(world: &World) {
    let master = world.master();
    if is_long() {
        let project = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let script = project.join("../shared/corpora/linux-tree.sh");
        run(Command::new("bash").arg(script).arg(world.path("corpus")));
        std::fs::remove_dir(&master).unwrap();
        std::fs::rename(world.path("corpus/linux"), &master).unwrap();
        return;
    }
    let mut rng = Rng::new(5);
    for number in 0..700_u64 {
        let directory = master.join(format!("d{}/e{}", number % 17, number % 120));
        std::fs::create_dir_all(&directory).unwrap();
        let bytes = if number % 200 == 0 { 2_000_000 } else { rng.below(9000) };
        let line = format!("{number} {}\n", rng.below(1000));
        let text = line.repeat(bytes as usize / line.len() + 1);
        std::fs::write(directory.join(format!("file {number}")), text).unwrap();
    }
}

/// Changes a hundred files, moves a directory, removes one, makes one.
fn change(master: &Path) {
    let mut files: Vec<PathBuf> =
        walk(master).into_iter().filter(|path| path.is_file() && !path.is_symlink()).collect();
    files.sort();
    for file in files.iter().step_by(files.len() / 100) {
        let mut text = std::fs::read(file).unwrap();
        text.truncate(text.len() / 2);
        text.extend_from_slice(b"changed\n");
        std::fs::write(file, text).unwrap();
    }
    let mut directories: Vec<PathBuf> =
        std::fs::read_dir(master).unwrap().map(|entry| entry.unwrap().path()).collect();
    directories.retain(|path| path.is_dir());
    directories.sort();
    std::fs::remove_dir_all(&directories[0]).unwrap();
    std::fs::rename(&directories[1], directories[2].join("moved here")).unwrap();
    std::fs::create_dir_all(master.join("new/deep")).unwrap();
    std::fs::write(master.join("new/deep/file"), "new").unwrap();
}

fn walk(directory: &Path) -> Vec<PathBuf> {
    let (mut found, mut todo) = (vec![directory.to_owned()], vec![directory.to_owned()]);
    while let Some(directory) = todo.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.is_symlink() {
                todo.push(path.clone());
            }
            found.push(path);
        }
    }
    found
}

/// What restic lists at and below the master's directory.
fn listed(world: &World, place: &Place, session: &str) -> BTreeSet<Vec<u8>> {
    let text = place.theirs.run(&["ls", session]).unwrap();
    let master = world.master();
    let paths = text.lines().filter(|line| Path::new(line).starts_with(&master));
    paths.map(|line| line.as_bytes().to_vec()).collect()
}

fn restic_agrees(world: &World, place: &Place, session: &str, tree: &Path, what: &str) {
    let into = world.path("restored");
    place.theirs.run(&["restore", session, "--target", into.to_str().unwrap()]).unwrap();
    assert_same(tree, &into.join(world.master().strip_prefix("/").unwrap()), what);
    std::fs::remove_dir_all(into).unwrap();
}

fn check(store: Option<&ObjectStore>) {
    let mut world = World::idle();
    for (name, value) in store.map(ObjectStore::environment).unwrap_or_default() {
        if world.wrapper.is_empty() {
            world.wrapper.push("env".to_owned());
        }
        world.wrapper.push(format!("{name}={value}"));
    }
    fill(&world);
    world.start();
    std::fs::write(world.path("password"), "correct horse\n").unwrap();
    let password = world.path("password");
    let place = match store {
        None => {
            let directory = world.path("repository");
            Place {
                ours: format!("file://{}", directory.display()),
                theirs: Restic::new(directory, &password),
            }
        }
        Some(there) => {
            let theirs = format!("s3:http://{}/{BUCKET}/some/prefix", there.address);
            let theirs = Restic::new(theirs, &password).with(there.environment());
            Place { ours: format!("s3://{BUCKET}/some/prefix"), theirs }
        }
    };
    world.protect();
    world.ok(&format!(
        "repository add offsite {} --password-file {}",
        place.ours,
        world.path("password").display()
    ));
    world.flush();
    let session = |report: serde_json::Value| report["sessions"][0]["id"].as_str().unwrap().to_owned();
    let first = session(world.ok("backup docs --to offsite"));
    let then = world.path("then");
    run(Command::new("cp").arg("-a").arg(world.master()).arg(&then));
    change(&world.master());
    world.flush();
    let report = world.ok("backup docs --to offsite");
    assert_eq!(report["sessions"][0]["incremental"], true, "{report}");
    let objects = walk(&world.master());
    let directories = objects.iter().filter(|path| path.is_dir() && !path.is_symlink()).count();
    assert_eq!(report["sessions"][0]["directories"], directories, "{report}");
    assert_eq!(report["sessions"][0]["files"], objects.len() - directories, "{report}");
    let second = session(report);
    place.theirs.run(&["check", "--read-data"]).unwrap();
    restic_agrees(&world, &place, &first, &then, "the first session");
    restic_agrees(&world, &place, &second, &world.master(), "the second session");
    let expected = objects.iter().map(|path| path.as_os_str().as_bytes().to_vec()).collect();
    assert_eq!(listed(&world, &place, &second), expected, "restic ls");
}

fn has_restic() -> bool {
    let there = Command::new("restic").arg("version").output().is_ok();
    if !there {
        println!("left out: the program restic is not installed");
    }
    there
}

#[test]
fn restic_reads_what_lies_on_a_disk() {
    if has_restic() {
        check(None);
    }
}

#[test]
fn restic_reads_what_lies_in_an_object_store() {
    if has_restic()
        && let Some(store) = ObjectStore::start()
    {
        check(Some(&store));
    }
}

/// A repository that restic wrote: several snapshots, two keys, pruned. It is listed, checked, catalogued, and each of its
/// snapshots comes back by the daemon and without it, by either key.
#[test]
fn what_restic_wrote_is_read() {
    if !has_restic() {
        return;
    }
    let mut world = World::idle();
    fill(&world);
    let (first_key, second_key) = (world.path("first key"), world.path("second key"));
    std::fs::write(&first_key, "correct horse\n").unwrap();
    std::fs::write(&second_key, "battery staple\n").unwrap();
    let repository = world.path("theirs");
    let restic = Restic::new(&repository, &first_key);
    restic.run(&["init", "--repository-version", "2"]).unwrap();
    let master = world.master();
    let mut kept = Vec::new();
    for number in 0..3 {
        restic.run(&["backup", "--host", "elsewhere", master.to_str().unwrap()]).unwrap();
        let then = world.path(&format!("then-{number}"));
        run(Command::new("cp").arg("-a").arg(&master).arg(&then));
        let listed: serde_json::Value =
            serde_json::from_str(&restic.run(&["snapshots", "--json"]).unwrap()).unwrap();
        let newest =
            listed.as_array().unwrap().iter().max_by_key(|one| one["time"].as_str().unwrap().to_owned());
        kept.push((newest.unwrap()["id"].as_str().unwrap().to_owned(), then));
        change(&master);
    }
    restic.run(&["key", "add", "--new-password-file", second_key.to_str().unwrap()]).unwrap();
    let (gone, _) = kept.remove(1);
    restic.run(&["forget", &gone, "--prune"]).unwrap();

    world.start();
    let url = format!("file://{}", repository.display());
    // The lines of the command hold no spaces, so the keys are linked to.
    for (name, key) in [("key-1", &first_key), ("key-2", &second_key)] {
        std::os::unix::fs::symlink(key, world.path(name)).unwrap();
    }
    world.ok(&format!("repository add theirs {url} --password-file {}", world.path("key-2").display()));
    let checked = world.ok("repository check theirs --read-data");
    assert_eq!(checked["state"], "done", "{checked}");
    assert_eq!(world.ok("repository stats theirs")["sessions"], 2);
    world.ok("catalog rebuild");
    let found = world.list("catalog query new/deep/file --master elsewhere");
    assert_eq!(found[0]["path"].as_str(), master.join("new/deep/file").to_str(), "{found:?}");
    world.refused(&format!("session show {gone}"), 4, "RW1070");
    for (id, then) in &kept {
        let shown = world.ok(&format!("session show {id}"));
        assert_eq!(shown["master"], "elsewhere", "{shown}");
        let into = world.path("restored");
        world.ok(&format!("restore session {id} --onto {} --verify", into.display()));
        assert_same(then, &into.join(master.strip_prefix("/").unwrap()), "restored by the daemon");
        std::fs::remove_dir_all(&into).unwrap();
        let key = world.path("key-1");
        world.ok(&format!("rescue {url} {id} --onto {} --password-file {}", into.display(), key.display()));
        assert_same(then, &into.join(master.strip_prefix("/").unwrap()), "restored without a daemon");
        std::fs::remove_dir_all(&into).unwrap();
    }
}
