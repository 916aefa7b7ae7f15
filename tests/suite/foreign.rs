//! Is a foreign write into the replica shown as drift where capture changes the same bytes, and not overwritten in silence?

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
