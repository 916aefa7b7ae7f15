//! Is an overflow of the kernel's queue seen, rescanned, closed, and is the replica equal after it?

use std::fs;
use std::time::Duration;
use tests::chaos::Chaos;
use tests::compare::assert_same;
use tests::daemon::{World, is_root, kernel_settings, seed};
use tests::keep::Keeper;

const SETTING: &str = "/proc/sys/fs/inotify/max_queued_events";

/// A setting of the kernel, put back at the end.
struct Lowered(String);

impl Lowered {
    fn to(value: &str) -> std::io::Result<Lowered> {
        let before = fs::read_to_string(SETTING)?;
        fs::write(SETTING, value)?;
        Ok(Lowered(before))
    }
}

impl Drop for Lowered {
    fn drop(&mut self) {
        drop(fs::write(SETTING, &self.0));
    }
}

#[test]
fn an_overflow_is_seen_rescanned_and_closed() {
    if !is_root() {
        println!("skipped: only root can shorten the kernel's queue");
        return;
    }
    let seed = seed("an_overflow_is_seen_rescanned_and_closed");
    let mut world = World::idle();
    let master = world.master();
    Chaos::new(&master, seed).change(200);
    // The length counts when a queue is made, so it is lowered until capture has its own.
    let held = kernel_settings();
    match Lowered::to("64") {
        Ok(lowered) => {
            world.start_at_once();
            world.protect();
            drop(lowered);
        }
        Err(error) => {
            println!("skipped: {SETTING} cannot be written: {error}");
            return;
        }
    }
    drop(held);
    let kept = world.path("kept");
    Keeper::new(&master).keep(&kept);
    world.ok("bookmark set docs mark");
    let before = world.flush();

    let mut overflowed = false;
    for round in 0..20_u64 {
        let burst = master.join(format!("burst-{round}"));
        fs::create_dir(&burst).unwrap();
        // The new directory has to be watched before what is in it can overflow a queue.
        std::thread::sleep(Duration::from_millis(300));
        for n in 0..2000 {
            fs::write(burst.join(format!("file-{n}")), format!("{round} {n}")).unwrap();
            fs::rename(burst.join(format!("file-{n}")), burst.join(format!("moved-{n}"))).unwrap();
        }
        Chaos::new(&master, seed + round).change(100);
        world.flush();
        assert_same(&master, &world.replica(), &format!("after burst {round}"));
        let new = world.list("points docs");
        let new: Vec<_> = new.iter().take_while(|point| point["lsn"] != *before).collect();
        if new.iter().any(|point| point["provenance"] == "rescan") {
            overflowed = true;
            break;
        }
    }
    assert!(overflowed, "no overflow was seen in all the bursts");
    world.wait_replicating();
    assert_eq!(world.ok("scenario status docs")["gaps_open"], 0);
    let read = world.read_at("mark", "read");
    assert_same(&read, &kept, "a bookmark before the overflow");
}
