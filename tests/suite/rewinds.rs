//! Is every rewind of a real tree exact: to bookmarks, to noted LSNs, and while a writer runs?
//!
//! The tree is a share of the Linux sources, the whole of it with `REWIND_LONG=1`. It is made by a script that lies
//! beside the project and fetches a Debian package; where that cannot be done the test says so and ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tests::chaos::Chaos;
use tests::compare::assert_same;
use tests::daemon::{World, run, seed, size};
use tests::keep::Keeper;

/// Unpacks the tree so that it becomes the master directory; false where it cannot be had.
fn unpack(world: &World, share: &str) -> bool {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let script = project.join("../shared/corpora/linux-tree.sh");
    if !script.exists() {
        println!("skipped: there is no {}", script.display());
        return false;
    }
    let mut command = Command::new("bash");
    command.arg(script).arg(world.path("corpus")).arg(share);
    let ran = run(command, Duration::from_secs(900));
    if ran.exit != 0 {
        println!("skipped: the tree cannot be made: {}", ran.stderr);
        return false;
    }
    fs::remove_dir(world.master()).unwrap();
    fs::rename(world.path("corpus/linux"), world.master()).unwrap();
    true
}

/// A point and a copy of what the master held.
struct Known {
    point: String,
    kept: PathBuf,
}

#[test]
fn rewinds_of_a_real_tree_are_exact() {
    let seed = seed("rewinds_of_a_real_tree_are_exact");
    let world = World::idle();
    if !unpack(&world, size("lib", "")) {
        return;
    }
    let mut world = world;
    world.start();
    world.protect();
    assert_same(&world.master(), &world.replica(), "after synchronization");
    let mut chaos = Chaos::new(&world.master(), seed);
    let mut keeper = Keeper::new(&world.master());
    let (mut bookmarks, mut noted) = (Vec::new(), Vec::new());
    for n in 0..size(4, 20) {
        for with_name in [true, false] {
            chaos.change(size(60, 300));
            let kept = world.path(&format!("kept-{n}-{with_name}"));
            keeper.keep(&kept);
            if with_name {
                let name = format!("mark-{n}");
                world.ok(&format!("bookmark set docs {name}"));
                bookmarks.push(Known { point: name, kept });
            } else {
                noted.push(Known { point: format!("lsn:{}", world.flush()), kept });
            }
        }
    }
    chaos.change(size(60, 300));
    world.flush();
    let now = world.path("kept-now");
    keeper.keep(&now);
    assert_same(&world.master(), &world.replica(), "before the rewinds");
    assert_same(&world.master(), &now, "the copy itself");
    for n in 0..size(5, 20) {
        for list in [&bookmarks, &noted] {
            let known = chaos.rng().pick(list).unwrap();
            world.ok(&format!("rewind docs --to {} --yes", known.point));
            assert_same(&world.replica(), &known.kept, &format!("rewind {n} to {}", known.point));
        }
    }
    assert_eq!(world.ok("scenario status docs")["state"], "detached");
    // Changes made while the replica stands elsewhere are journaled, and applied after.
    chaos.change(40);
    world.ok("scenario resume docs");
    world.flush();
    assert_same(&world.master(), &world.replica(), "after the resume");
    for known in [bookmarks.first().unwrap(), noted.last().unwrap()] {
        let read = world.read_at(&known.point, "read");
        assert_same(&read, &known.kept, &format!("{} beside the replica", known.point));
        fs::remove_dir_all(read).unwrap();
    }
}

#[test]
fn reading_a_point_repeats_under_a_writer() {
    let seed = seed("reading_a_point_repeats_under_a_writer");
    let mut world = World::idle();
    Chaos::new(&world.master(), seed).change(400);
    world.start();
    world.protect();
    let kept = world.path("kept");
    Keeper::new(&world.master()).keep(&kept);
    world.ok("bookmark set docs mark");
    let end = Arc::new(AtomicBool::new(false));
    let writer = {
        let (end, master) = (Arc::clone(&end), world.master());
        std::thread::spawn(move || {
            let mut chaos = Chaos::new(&master, seed + 1);
            let mut rounds = 0_u64;
            while !end.load(Ordering::SeqCst) {
                chaos.change(50);
                rounds += 1;
            }
            rounds
        })
    };
    let read_all = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        for n in 0..10 {
            let read = world.read_at("mark", &format!("read-{n}"));
            assert_same(&read, &kept, &format!("read {n} under a writer"));
            fs::remove_dir_all(read).unwrap();
        }
    }));
    end.store(true, Ordering::SeqCst);
    let rounds = writer.join().unwrap();
    if let Err(panic) = read_all {
        std::panic::resume_unwind(panic);
    }
    assert!(rounds > 1, "the writer did nothing");
    world.flush();
    assert_same(&world.master(), &world.replica(), "after the writer");
}
