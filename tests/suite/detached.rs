//! Does capture go on while the replica is detached, also across kills, and is nothing of that time lost?

use serde_json::Value;
use std::fs;
use std::time::{Duration, Instant};
use tests::chaos::Chaos;
use tests::compare::assert_same;
use tests::daemon::{World, seed};
use tests::keep::Keeper;

fn until(world: &World, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let give_up = Instant::now() + Duration::from_secs(60);
    loop {
        let status = world.ok("scenario status docs");
        if is_so(&status) {
            return status;
        }
        assert!(Instant::now() < give_up, "in vain: {what}: {status}\n{}", world.log_end());
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn journaled(status: &Value) -> u64 {
    status["journaled_lsn"].as_str().unwrap().parse().unwrap()
}

/// Waits until a change made now is journaled, and everything before it.
fn wait_captured(world: &World, number: u64) {
    let before = journaled(&world.ok("scenario status docs"));
    fs::write(world.master().join("seen"), format!("{number}")).unwrap();
    until(world, "captures are journaled", |status| {
        assert_eq!(status["state"], "detached", "{status}");
        status["gaps_open"] == 0 && journaled(status) > before
    });
    std::thread::sleep(Duration::from_millis(300));
}

#[test]
fn kills_while_detached_leave_capture_on() {
    let seed = seed("kills_while_detached_leave_capture_on");
    let mut world = World::new();
    let corner = world.master().join("corner");
    fs::create_dir(&corner).unwrap();
    let mut chaos = Chaos::new(&corner, seed);
    chaos.change(150);
    fs::create_dir_all(world.master().join("old/inner")).unwrap();
    fs::write(world.master().join("old/inner/file"), "old").unwrap();
    world.protect();
    world.ok("bookmark set docs before");
    chaos.change(100);
    world.flush();
    world.ok("rewind docs --to before --onto replica --yes");
    let rewound = world.path("rewound");
    Keeper::new(&world.replica()).keep(&rewound);

    let mut kept = Vec::new();
    for round in 0..3 {
        // Journaled and not applied: names that moved, went and came, and what is below them.
        fs::rename(world.master().join("old"), world.master().join(format!("moved{round}"))).unwrap();
        fs::create_dir(world.master().join("old")).unwrap();
        fs::rename(world.master().join(format!("moved{round}/inner")), world.master().join("old/inner"))
            .unwrap();
        fs::write(world.master().join("old/inner/file"), format!("round {round}")).unwrap();
        fs::remove_dir_all(world.master().join(format!("moved{round}"))).unwrap();
        Chaos::new(&corner, seed + 1 + round).change(60);
        wait_captured(&world, round);
        world.kill();
        fs::write(world.master().join("old/while down"), format!("{round}")).unwrap();
        world.start();
        wait_captured(&world, 100 + round);
        let name = format!("kept{round}");
        Keeper::new(&world.master()).keep(&world.path(&name));
        kept.push((journaled(&world.ok("scenario status docs")), name));
        assert_same(&rewound, &world.replica(), "a detached replica is left alone");
    }
    world.ok("scenario resume docs");
    world.wait_replicating();
    world.flush();
    assert_same(&world.master(), &world.replica(), "after all of it");
    for (lsn, name) in kept {
        let read = world.read_at(&format!("lsn:{lsn}"), "read");
        assert_same(&read, &world.path(&name), &format!("captured while detached, LSN {lsn}"));
        fs::remove_dir_all(read).unwrap();
    }
}
