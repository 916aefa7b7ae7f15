//! Is a foreign write into the replica shown as drift, where capture changes the same bytes and where a patrol passes,
//! and not overwritten in silence?

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};
use tests::compare::assert_same;
use tests::daemon::World;

/// Not even the size changes: only the bytes tell.
fn write_in_place(path: &Path, bytes: &[u8]) {
    fs::OpenOptions::new().write(true).open(path).unwrap().write_all_at(bytes, 0).unwrap();
}

#[test]
fn foreign_bytes_stop_apply_and_are_shown() {
    let mut world = World::new();
    for name in ["a", "b"] {
        fs::write(world.master().join(name), name.repeat(5000)).unwrap();
    }
    world.protect();
    let victim = world.replica().join("a");
    write_in_place(&victim, b"foreign");
    write_in_place(&world.master().join("a"), b"changed on the master");
    world.refused("flush docs", 5, "RW0465");
    let until = Instant::now() + Duration::from_secs(20);
    let status = loop {
        let status = world.ok("scenario status docs");
        if status["state"] == "problem" || Instant::now() > until {
            break status;
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    assert_eq!(status["state"], "problem");
    let cause = status["cause"].as_str().unwrap();
    assert!(cause.contains("differs from the journal"), "{cause}");
    assert!(fs::read(&victim).unwrap().starts_with(b"foreign"), "what somebody wrote is gone");
    // Captures are still taken and journaled: nothing is lost while somebody looks.
    fs::write(world.master().join("b"), b"changed too").unwrap();
    // The bytes that belong there are put back, and apply goes on.
    write_in_place(&victim, b"aaaaaaa");
    world.stop();
    world.start();
    world.wait_replicating();
    world.flush();
    assert_same(&world.master(), &world.replica(), "after the repair");
}

/// Paths that a look at the replica finds changed.
fn drift(world: &World) -> Vec<String> {
    let verified = world.ok("scenario verify docs");
    let findings = verified["findings"].as_array().unwrap().iter();
    let drift = findings.filter(|finding| finding["check"] == "drift");
    drift.map(|finding| finding["path"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_patrol_finds_what_others_did() {
    let world = World::new();
    fs::create_dir(world.master().join("d")).unwrap();
    for name in ["d/added-to", "d/gone", "d/mode", "swapped", "quiet"] {
        fs::write(world.master().join(name), name.repeat(100)).unwrap();
    }
    world.protect();
    assert!(drift(&world).is_empty());
    let replica = world.replica();
    let aside = world.path("aside");
    let undo = |name: &str| fs::rename(aside.join(name), replica.join(name)).unwrap();
    fs::create_dir_all(aside.join("d")).unwrap();
    fs::rename(replica.join("d/gone"), aside.join("d/gone")).unwrap();
    fs::rename(replica.join("swapped"), aside.join("swapped")).unwrap();
    fs::write(replica.join("swapped"), "swapped".repeat(100)).unwrap();
    fs::write(replica.join("d/stranger"), "not ours").unwrap();
    let mode = fs::metadata(replica.join("d/mode")).unwrap().permissions();
    fs::set_permissions(replica.join("d/mode"), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let found = drift(&world);
    for name in ["d/gone", "d/mode", "d/stranger", "swapped"] {
        let path = replica.join(name);
        assert!(found.iter().any(|found| path == Path::new(found)), "{name} is missing in {found:?}");
    }
    let status = world.ok("scenario status docs");
    assert!(status["cause"].as_str().unwrap().contains("changed by somebody else"), "{status}");
    // What is put back is no drift any more.
    fs::remove_file(replica.join("d/stranger")).unwrap();
    fs::remove_file(replica.join("swapped")).unwrap();
    undo("swapped");
    undo("d/gone");
    fs::set_permissions(replica.join("d/mode"), mode).unwrap();
    fs::write(world.master().join("d/new"), "sets the times of d").unwrap();
    let times = fs::metadata(world.master()).unwrap().modified().unwrap();
    fs::File::open(&replica).unwrap().set_modified(times).unwrap();
    world.flush();
    assert!(drift(&world).is_empty(), "{:?}", drift(&world));
    assert!(world.ok("scenario status docs")["cause"].is_null());
    assert_same(&world.master(), &world.replica(), "after all was put back");
}

#[test]
fn what_stands_in_the_way_is_left_alone() {
    let mut world = World::new();
    fs::write(world.master().join("a"), "a").unwrap();
    world.protect();
    let stranger = world.replica().join("x");
    fs::create_dir(&stranger).unwrap();
    fs::write(stranger.join("precious"), "not ours").unwrap();
    fs::write(world.master().join("x"), "the master's").unwrap();
    let until = Instant::now() + Duration::from_secs(20);
    while world.ok("scenario status docs")["state"] != "problem" {
        assert!(Instant::now() < until, "{}", world.ok("scenario status docs"));
        std::thread::sleep(Duration::from_millis(50));
    }
    let left = |when: &str| {
        assert_eq!(fs::read_to_string(stranger.join("precious")).unwrap(), "not ours", "{when}");
    };
    left("after apply");
    world.kill();
    world.start();
    assert_eq!(world.ok("scenario status docs")["state"], "problem");
    left("after a restart");
    fs::rename(&stranger, world.path("aside")).unwrap();
    world.stop();
    world.start();
    world.wait_replicating();
    world.flush();
    assert_same(&world.master(), &world.replica(), "after it was moved out of the way");
}
