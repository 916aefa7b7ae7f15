//! Property: after random real operations on a real directory, a barrier makes the replica equal to the master.
//!
//! Each seed has a scenario of its own; one daemon serves them all. The operations run at full speed, so that the
//! agent looks at directories that are being changed, at every moment there is. Every barrier also leaves a point,
//! and a few of them are read again at the end. `REWIND_SEED` repeats one seed.

use std::fs;
use std::path::PathBuf;
use tests::chaos::Chaos;
use tests::compare::{Options, compare};
use tests::daemon::{World, size};
use tests::keep::Keeper;

/// Barriers of a seed.
const ROUNDS: u64 = 6;

struct One<'a> {
    world: &'a World,
    seed: u64,
}

impl One<'_> {
    fn path(&self, name: &str) -> PathBuf {
        self.world.path(&format!("{name}-{}", self.seed))
    }

    fn same(&self, a: &std::path::Path, b: &std::path::Path, what: &str) -> Result<(), String> {
        let report = compare(a, b, &Options::default()).map_err(|e| e.to_string())?;
        if report.is_equal() { Ok(()) } else { Err(format!("seed {}: {what}:\n{report}", self.seed)) }
    }

    fn run(&self) -> Result<(), String> {
        let (world, seed) = (self.world, self.seed);
        let (master, replica) = (self.path("master"), self.path("replicas").join("root"));
        fs::create_dir(&master).unwrap();
        let mut chaos = Chaos::new(&master, seed);
        chaos.change(40);
        let name = format!("seed-{seed}");
        world.ok(&format!("scenario create {name} --root {}={}", master.display(), replica.display()));
        world.ok(&format!("scenario run {name}"));
        let mut keeper = Keeper::new(&master);
        let mut points = Vec::new();
        for round in 0..ROUNDS {
            let count = 5 + chaos.rng().below(60);
            chaos.change(count);
            let lsn = world.ok(&format!("flush {name}"))["lsn"].as_str().unwrap().to_owned();
            self.same(&master, &replica, &format!("master and replica at barrier {round}"))?;
            let kept = self.path(&format!("kept-{round}"));
            keeper.keep(&kept);
            points.push((lsn, kept));
        }
        for (lsn, kept) in [&points[0], &points[points.len() / 2]] {
            let read = self.path("read");
            world.ok(&format!("rewind {name} --to lsn:{lsn} --onto {}", read.display()));
            self.same(&read, kept, &format!("LSN {lsn}"))?;
            fs::remove_dir_all(read).unwrap();
        }
        world.ok(&format!("scenario stop {name}"));
        Ok(())
    }
}

#[test]
fn real_operations_arrive_at_barriers() {
    let world = World::new();
    let given = std::env::var("REWIND_SEED").ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = given.map_or(1..size(11, 101), |seed| seed..seed + 1);
    let mut failures = Vec::new();
    for seed in seeds {
        println!("seed {seed}");
        if let Err(failure) = (One { world: &world, seed }).run() {
            println!("{failure}");
            failures.push(failure);
        }
    }
    assert!(failures.is_empty(), "{} seeds failed; the first:\n{}", failures.len(), failures[0]);
}
