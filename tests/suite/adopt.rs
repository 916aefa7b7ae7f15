//! Is a replica root that was not empty taken over without a loss: the tree as it was found a point that can be gone
//! back to, the synchronization after it one with undo, and nothing touched before that is so?

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tests::chaos::Chaos;
use tests::compare::{Options, assert_same, compare};
use tests::daemon::{World, is_root, programs, seed, size};
use tests::keep::Keeper;
use tests::pair::{MASTER, Pair};

/// Fills the replica root: a copy of the master from a while ago, with changes of its own.
fn seed_replica(master: &Path, replica: &Path, seed: u64, changes: u64) {
    fs::create_dir_all(replica.parent().unwrap()).unwrap();
    fs::set_permissions(replica.parent().unwrap(), fs::Permissions::from_mode(0o700)).unwrap();
    Keeper::new(master).keep(replica);
    Chaos::new(replica, seed ^ 0x5eed).change(changes);
    Chaos::new(master, seed ^ 0xfeed).change(changes);
}

/// The bookmark at the tree as it was found.
fn adopted_bookmark(world: &World) -> Option<String> {
    let marks = world.list("bookmark list docs");
    let mark = marks.iter().find(|mark| mark["name"].as_str().unwrap().starts_with("adopted-"))?;
    assert_eq!(mark["automatic"], true, "{mark}");
    Some(mark["name"].as_str().unwrap().to_owned())
}

#[test]
fn an_adopted_tree_is_a_point_and_what_follows_has_undo() {
    let seed = seed("an_adopted_tree_is_a_point_and_what_follows_has_undo");
    for round in 0..size(3, 30) {
        let mut world = World::new();
        let (master, replica, found) = (world.master(), world.replica(), world.path("found"));
        Chaos::new(&master, seed + round).change(250);
        seed_replica(&master, &replica, seed + round, 60);
        Keeper::new(&replica).keep(&found);

        world.refused(&world.create_line("docs"), 5, "RW1012");
        assert_same(&replica, &found, "a refused scenario");
        world.ok(&format!("{} --adopt", world.create_line("docs")));
        assert_same(&replica, &found, "a scenario that was only defined");
        world.ok("scenario run docs");
        assert_same(&master, &replica, &format!("adopted and synchronized, round {round}"));

        let mark = adopted_bookmark(&world).expect("a bookmark at what was found");
        let read = world.read_at(&mark, "read");
        assert_same(&read, &found, "the adopted point, read");
        world.ok(&format!("rewind docs --to {mark} --yes"));
        assert_same(&replica, &found, "the adopted point, gone back to");
        Chaos::new(&master, seed + round + 1000).change(30);
        world.ok("scenario resume docs");
        world.flush();
        assert_same(&master, &replica, "resumed after the adopted point");

        world.kill();
        fs::remove_dir_all(world.path("data/projections")).unwrap();
        Chaos::new(&master, seed + round + 2000).change(30);
        world.start();
        world.wait_replicating();
        world.flush();
        assert_same(&master, &replica, "after a kill without projections");
        let again = world.read_at(&mark, "again");
        assert_same(&again, &found, "the adopted point after a kill without projections");
        world.ok("journal verify docs");
    }
}

/// Starts `scenario run docs` and does not wait for it.
fn run_aside(world: &World) -> std::process::Child {
    let mut command = Command::new(programs().join("restorectl"));
    command.args(["scenario", "run", "docs"]).env_clear().env("REWIND_ENDPOINT", world.endpoint());
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap()
}

#[test]
fn a_kill_in_the_middle_of_an_adoption_changes_nothing() {
    let seed = seed("a_kill_in_the_middle_of_an_adoption_changes_nothing");
    let mut world = World::new();
    let (master, replica, found) = (world.master(), world.replica(), world.path("found"));
    for directory in 0..20 {
        let directory = master.join(format!("{directory}"));
        fs::create_dir(&directory).unwrap();
        for file in 0..size(100, 1000) {
            fs::write(directory.join(format!("{file}")), format!("{file}")).unwrap();
        }
    }
    seed_replica(&master, &replica, seed, 40);
    Keeper::new(&replica).keep(&found);
    world.ok(&format!("{} --adopt", world.create_line("docs")));
    let mut chaos = Chaos::new(&master, seed);
    let (mut before, mut after) = (0, 0);
    for _ in 0..size(6, 40) {
        let mut run = run_aside(&world);
        let pause = chaos.rng().below(if after > 0 { 150 } else { 60 << before.min(5) });
        std::thread::sleep(Duration::from_millis(pause));
        world.kill();
        run.wait().unwrap();
        world.start();
        match adopted_bookmark(&world) {
            // Nothing has happened: the next attempt starts over.
            None => {
                before += 1;
                assert_same(&replica, &found, "killed in the middle of an adoption");
            }
            Some(mark) => {
                after += 1;
                let read = world.read_at(&mark, "read");
                assert_same(&read, &found, "the adopted point after a kill");
                fs::remove_dir_all(read).unwrap();
            }
        }
        if after > 2 {
            break;
        }
    }
    println!("killed {before} times before it was adopted, {after} times after");
    // The run that was killed last began again with the daemon, and keeps another out while it goes on.
    for job in world.list("job list").iter().filter(|job| job["state"] != "done") {
        world.ok(&format!("job wait {}", job["id"].as_str().unwrap()));
    }
    world.ok("scenario run docs");
    chaos.change(40);
    world.wait_replicating();
    world.flush();
    assert_same(&master, &replica, "after all kills");
    let mark = adopted_bookmark(&world).expect("a bookmark at what was found");
    assert_same(&world.read_at(&mark, "read"), &found, "the adopted point at the end");
    let left: Vec<PathBuf> =
        fs::read_dir(world.path("data/journal")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(left.len(), 2, "the server's journal and the scenario's: {left:?}");
}

#[test]
fn what_comes_into_the_root_before_the_first_run_is_refused_too() {
    let world = World::new();
    fs::write(world.master().join("f"), b"f").unwrap();
    world.ok(&world.create_line("docs"));
    fs::create_dir_all(world.replica()).unwrap();
    fs::write(world.replica().join("precious"), b"precious").unwrap();
    world.refused("scenario run docs", 5, "RW1012");
    assert_eq!(fs::read(world.replica().join("precious")).unwrap(), b"precious");
    assert_eq!(fs::read_dir(world.replica()).unwrap().count(), 1);
    fs::remove_file(world.replica().join("precious")).unwrap();
    world.ok("scenario run docs");
    assert_same(&world.master(), &world.replica(), "once it is empty");
}

#[test]
fn hostile_names_and_mounts_below_are_taken_or_listed() {
    if !is_root() {
        println!("skipped: mounting needs root");
        return;
    }
    use std::os::unix::ffi::OsStrExt;
    let world = World::new();
    let (master, replica) = (world.master(), world.replica());
    fs::write(master.join("f"), b"of the master").unwrap();
    fs::create_dir_all(replica.join("deep")).unwrap();
    fs::write(replica.join(std::ffi::OsStr::from_bytes(&[0xff; 255])), b"x").unwrap();
    drop(std::os::unix::net::UnixListener::bind(replica.join("deep/socket")).unwrap());
    fs::hard_link(replica.join("deep/socket"), replica.join("socket again")).unwrap();
    let found = world.path("found");
    Keeper::new(&replica).keep(&found);
    let mount = replica.join("mounted");
    fs::create_dir(&mount).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "none"]).arg(&mount).status();
    if !mounted.is_ok_and(|status| status.success()) {
        println!("skipped: nothing can be mounted here");
        return;
    }
    fs::write(mount.join("elsewhere"), b"elsewhere").unwrap();
    world.ok(&format!("{} --adopt", world.create_line("docs")));
    let ran = world.ctl("scenario run docs");
    let listed = ran.objects();
    assert_eq!(ran.exit, 3, "what was left out is listed: {ran:?}\n{}", world.log_end());
    assert!(listed[0]["skipped"].to_string().contains("mounted"), "{listed:?}");
    assert_eq!(fs::read(mount.join("elsewhere")).unwrap(), b"elsewhere");
    assert!(Command::new("umount").arg(&mount).status().unwrap().success());
    assert_eq!(fs::read(replica.join("f")).unwrap(), b"of the master");
    let mark = adopted_bookmark(&world).expect("a bookmark at what was found");
    // The copy was made before the mount point was, which the time of the top shows.
    let options = Options { top: false, ..Options::default() };
    let report = compare(&world.read_at(&mark, "read"), &found, &options).unwrap();
    assert!(report.is_equal(), "{report}");
}

#[test]
fn a_master_elsewhere_goes_on_after_an_adopted_tree() {
    let seed = seed("a_master_elsewhere_goes_on_after_an_adopted_tree");
    let mut pair = Pair::new();
    let (master, replica, found) = (pair.path("m"), pair.path("r/m"), pair.path("found"));
    Chaos::new(&master, seed).change(200);
    seed_replica(&master, &replica, seed, 50);
    Keeper::new(&replica).keep(&found);
    pair.start();
    let root = format!("{}={}", master.display(), replica.display());
    pair.replica.ok(&format!("scenario create docs --root {root} --master {MASTER} --adopt"));
    // The master has met the empty journal before the tree is adopted.
    std::thread::sleep(Duration::from_millis(500));
    pair.replica.ok("scenario run docs");
    pair.assert_equal();
    let marks = pair.replica.ctl("bookmark list docs").objects();
    let mark = marks[0]["name"].as_str().unwrap().to_owned();
    pair.master.kill();
    Chaos::new(&master, seed + 1).change(30);
    pair.master.start();
    pair.wait_replicating();
    pair.flush();
    pair.assert_equal();
    pair.replica.ok(&format!("rewind docs --to {mark} --yes"));
    pair.assert_same(&replica, &found);
}
