//! A scenario that thins out its points, through daemon and command line: what is gone is refused by its neighbours, what
//! stays is exact, and the list of points and the figures of the journal say what was done. Nothing grows old enough for it
//! while the scenario is stopped, and all does once the master is heard.

use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tests::compare::assert_same;
use tests::daemon::{World, seed};
use tests::rng::Rng;

/// A segment of undo is sealed when it has 64 MiB.
const FILE_BYTES: usize = 512 << 10;
const FILES: usize = 14;
const CHANGES: usize = 12;
/// A daemon that has opened a journal has looked once whether there is something to thin.
const LOOKED: Duration = Duration::from_secs(8);

/// A point behind each round of changes, oldest first, with a copy of what each showed.
struct Lived {
    points: Vec<(String, PathBuf)>,
    named: String,
}

/// Rewrites files over and over; one of their states gets a bookmark.
fn live(world: &World, rng: &mut Rng) -> Lived {
    let (mut points, mut named) = (Vec::new(), String::new());
    for change in 0..CHANGES {
        for file in 0..FILES {
            fs::write(world.master().join(format!("table-{file}")), rng.bytes(FILE_BYTES)).expect("a change");
        }
        let lsn = world.flush();
        let kept = world.path(&format!("kept-{change}"));
        copy(&world.master(), &kept);
        if change == 4 {
            world.ok(&format!("bookmark set docs fourth --at lsn:{lsn}"));
            named.clone_from(&lsn);
        }
        points.push((lsn, kept));
    }
    Lived { points, named }
}

fn copy(from: &Path, to: &Path) {
    let copied = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().expect("cp");
    assert!(copied.success());
}

fn thinned(world: &World) -> Value {
    world.ok("journal stats docs")["thinned"].clone()
}

/// What the list of points says of each LSN.
fn retained(world: &World) -> BTreeMap<String, bool> {
    let list = world.list("points docs");
    let of =
        |point: &Value| (point["lsn"].as_str().unwrap().to_owned(), point["retained"].as_bool().unwrap());
    list.iter().map(of).collect()
}

#[test]
fn points_that_were_thinned_out_are_refused_and_the_others_are_exact() {
    let mut rng = Rng::new(seed("points_that_were_thinned_out_are_refused_and_the_others_are_exact"));
    let mut world = World::new();
    world.protect();
    let begun = Instant::now();
    let lived = live(&world, &mut rng);
    assert!(retained(&world).values().all(|retained| *retained));
    let before = world.ok("journal stats docs");
    assert_eq!(before["thinned"]["points"], 0);
    world.ok("scenario stop docs");
    // More than lies between any two of the changes, and less than has passed by the clock since the last.
    let old = begun.elapsed().as_secs() + 2;
    std::thread::sleep(Duration::from_secs(old));
    let set = world.ok(&format!("scenario set docs thin-after={old}s thin-minutes={}s", old + 1));
    assert_eq!(
        (set["thin_after_seconds"].as_f64(), set["thin_minutes_seconds"].as_f64()),
        (Some(old as f64), Some((old + 1) as f64))
    );
    assert_eq!(thinned(&world)["points"], 0);
    std::thread::sleep(LOOKED);
    assert_eq!(thinned(&world)["points"], 0, "thinned while the scenario is stopped");
    // It looks sooner again.
    world.stop();
    world.start();
    world.ok("scenario run docs");
    let give_up = Instant::now() + Duration::from_secs(120);
    while thinned(&world)["points"] == 0 {
        assert!(Instant::now() < give_up, "nothing is thinned: {}", world.ok("journal stats docs"));
        std::thread::sleep(Duration::from_millis(200));
    }
    let told = retained(&world);
    let after = world.ok("journal stats docs");
    println!("undo before {}, after {}: {}", before["undo_bytes"], after["undo_bytes"], after["thinned"]);
    // Most of what the segment held: the first state of it, the last, and the one with a bookmark stay.
    assert!(after["thinned"]["undo_bytes"].as_u64().unwrap() > 30 << 20, "{after}");
    assert!(after["undo_bytes"].as_u64() < before["undo_bytes"].as_u64(), "{before}, {after}");
    assert!(told[&lived.named]);
    look(&world, &lived, &told);
    // What is gone is gone, also if nothing more is to go, and after a restart.
    world.ok("scenario stop docs");
    world.ok("scenario set docs thin-minutes=off thin-after=off");
    world.ok("scenario run docs");
    world.stop();
    world.start();
    world.wait_replicating();
    assert_eq!(retained(&world).iter().filter(|(_, retained)| !**retained).count(), gone(&told));
    look(&world, &lived, &told);
    let verified = world.ok("journal verify docs");
    assert_eq!(verified["tables"]["differing"], 0, "{verified}");
}

fn gone(told: &BTreeMap<String, bool>) -> usize {
    told.values().filter(|retained| !**retained).count()
}

/// Each point is what the list says of it.
fn look(world: &World, lived: &Lived, told: &BTreeMap<String, bool>) {
    let (mut refused, mut exact) = (0, 0);
    let number = |lsn: &str| lsn.parse::<u64>().unwrap();
    for (lsn, kept) in &lived.points {
        if told[lsn] {
            world.ok(&format!("rewind docs --to lsn:{lsn} --yes"));
            assert_same(&world.replica(), kept, &format!("rewound to {lsn}"));
            exact += 1;
            continue;
        }
        let ran = world.refused(&format!("rewind docs --to lsn:{lsn} --yes"), 4, "RW1140");
        let near = |mut all: Box<dyn Iterator<Item = (&String, &bool)> + '_>| {
            all.find(|(_, retained)| **retained).map(|(lsn, _)| lsn.clone()).unwrap()
        };
        let mut sorted: Vec<_> = told.iter().collect();
        sorted.sort_by_key(|(lsn, _)| number(lsn.split('.').next().unwrap()));
        let at = sorted.iter().position(|(other, _)| *other == lsn).unwrap();
        let before = near(Box::new(sorted[..at].iter().rev().copied()));
        let after = near(Box::new(sorted[at..].iter().copied()));
        for neighbour in [before, after] {
            assert!(ran.stdout.contains(&neighbour), "{neighbour} is not named: {}", ran.stdout);
        }
        world.refused(&format!("bookmark set docs late-{lsn} --at lsn:{lsn}"), 4, "RW1140");
        refused += 1;
    }
    assert!(refused > 3 && exact > 1, "{refused} refused, {exact} exact");
    world.ok("scenario resume docs");
}
