//! Does a full spool end in a gap that is said and closed, and never in capture that stays off?

use serde_json::Value;
use std::fs;
use std::time::{Duration, Instant};
use tests::compare::assert_same;
use tests::daemon::World;
use tests::rng::Rng;

/// What comes by itself must have come within it.
const SOON: Duration = Duration::from_secs(90);

fn until(world: &World, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let give_up = Instant::now() + SOON;
    loop {
        let status = world.ok("scenario status docs");
        if is_so(&status) {
            return status;
        }
        assert!(Instant::now() < give_up, "in vain: {what}: {status}\n{}", world.log_end());
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// A daemon with a spool of 16 MiB beside the 64 in memory, and something protected.
fn small() -> World {
    let world = World::new();
    fs::create_dir(world.master().join("d")).unwrap();
    fs::write(world.master().join("d/file"), "before").unwrap();
    world.ok(&format!("{} --spool-max 16MiB", world.create_line("docs")));
    world.ok("scenario run docs");
    world.flush();
    world
}

/// More than the spool takes, in one file.
fn fill(world: &World) {
    let bytes = Rng::new(1).bytes(120 << 20);
    fs::write(world.master().join("large"), bytes).unwrap();
    fs::rename(world.master().join("d"), world.master().join("moved")).unwrap();
}

fn is_full(status: &Value) -> bool {
    status["state"] == "problem" && status["cause"].as_str().is_some_and(|cause| cause.contains("the spool"))
}

/// The texts of markers.
fn markers(world: &World) -> String {
    world
        .list("points docs")
        .iter()
        .filter(|point| point["kind"] == "marker")
        .map(|one| format!("{one}\n"))
        .collect()
}

#[test]
fn a_full_spool_is_a_gap_that_closes_by_itself() {
    let world = small();
    world.ok("scenario suspend docs");
    fill(&world);
    until(&world, "the spool is full", is_full);
    // Capture is off: this is what a gap is for. Attempts to start it again do not hide why.
    until(&world, "an attempt was made", |status| {
        is_full(status) && status["cause"].as_str().is_some_and(|cause| cause.contains("resume it"))
    });
    fs::write(world.master().join("moved/file"), "in the gap").unwrap();
    world.refused("flush docs", 5, "RW0465");
    world.ok("scenario resume docs");
    until(&world, "capture goes on", |status| status["state"] == "replicating" && status["gaps_open"] == 0);
    world.flush();
    assert_same(&world.master(), &world.replica(), "after a full spool");
    let said = markers(&world);
    assert!(said.contains("the spool reached its limit"), "{said}");
    fs::write(world.master().join("moved/later"), "captured again").unwrap();
    world.flush();
    assert_same(&world.master(), &world.replica(), "later");
}

#[test]
fn a_daemon_with_a_full_spool_stops_in_time_and_starts_again() {
    let mut world = small();
    world.ok("scenario suspend docs");
    fill(&world);
    std::thread::sleep(Duration::from_millis(500));
    // Wherever capture is, in the middle of the file or waiting for room.
    world.stop();
    world.start();
    world.ok("scenario resume docs");
    until(&world, "capture goes on", |status| status["state"] == "replicating" && status["gaps_open"] == 0);
    world.flush();
    assert_same(&world.master(), &world.replica(), "after a stop");
}

#[test]
fn a_file_larger_than_the_spool_passes_while_it_is_taken() {
    let world = small();
    fill(&world);
    world.flush();
    assert_same(&world.master(), &world.replica(), "a large file");
    let said = markers(&world);
    assert!(!said.contains("the spool reached its limit"), "{said}");
}
