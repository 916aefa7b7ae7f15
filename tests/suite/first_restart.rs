//! Does a first synchronization end exactly if the replica is killed again and again, and its master lives on?
//!
//! The master has forgotten what was acknowledged, and its agent knows of no restart. Both are processes of their own.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};
use tests::daemon::{seed, size};
use tests::pair::{Pair, until};
use tests::rng::Rng;

/// Files of all sizes; more of them than are sent between two moves of the cursor.
fn fill(top: &Path, rng: &mut Rng) {
    for directory in 0..size(40, 80) {
        let directory = top.join(format!("d{directory}/deeper"));
        fs::create_dir_all(&directory).unwrap();
        for file in 0..60 {
            let length = rng.below(12_000) as usize;
            fs::write(directory.join(format!("{file}")), rng.bytes(length)).unwrap();
        }
        symlink("0", directory.join("link")).unwrap();
        fs::hard_link(directory.join("1"), directory.join("other")).unwrap();
    }
    for large in 0..24 {
        fs::write(top.join(format!("large {large}")), rng.bytes(3_500_000 + large)).unwrap();
    }
    let sparse = fs::File::create(top.join("sparse")).unwrap();
    sparse.set_len(9 << 20).unwrap();
}

#[test]
fn the_first_synchronization_survives_restarts_of_the_replica() {
    let mut rng = Rng::new(seed("the_first_synchronization_survives_restarts_of_the_replica"));
    let mut pair = Pair::new();
    pair.start();
    fill(&pair.path("m"), &mut rng);
    pair.create();
    pair.replica.ok("scenario run docs --detach");
    until("it synchronizes", || pair.replica.ok("scenario status docs")["journaled_lsn"] != "0");
    let mut interrupted = 0;
    for round in 0..size(6_u64, 12) {
        // Soon at first: a fast machine is through in a second.
        let longest = if interrupted < 2 { 150 } else { 900 };
        std::thread::sleep(Duration::from_millis(30 + rng.below(longest)));
        interrupted += u64::from(pair.replica.ok("scenario status docs")["state"] == "synchronizing");
        pair.replica.kill();
        if round % 3 == 2 {
            fs::remove_dir_all(pair.replica.data().join("projections")).unwrap();
        }
        pair.replica.start();
    }
    let began = Instant::now();
    pair.wait_replicating();
    println!("interrupted {interrupted} times, done {:?} after the last", began.elapsed());
    assert!(interrupted >= 2, "the synchronization was over too soon to show anything");
    pair.assert_equal();

    // The oldest point is the end of the synchronization, and exact.
    let points = pair.replica.ctl("points docs");
    assert_eq!(points.exit, 0, "{points:?}");
    let oldest = points.objects().into_iter().next_back().expect("a point");
    let lsn = oldest["lsn"].as_str().expect("an LSN").to_owned();
    let saved = pair.path("saved");
    let copied = std::process::Command::new("cp").arg("-a").arg(pair.path("m")).arg(&saved).status();
    assert!(copied.unwrap().success());
    fs::rename(pair.path("m/d0"), pair.path("m/moved")).unwrap();
    fs::write(pair.path("m/large 0"), "ruined").unwrap();
    fs::remove_file(pair.path("m/large 1")).unwrap();
    pair.flush();
    pair.assert_equal();
    let onto = pair.path("first");
    pair.replica.ok(&format!("rewind docs --to lsn:{lsn} --onto {}", onto.display()));
    pair.assert_same(&saved, &onto);
    pair.replica.ok("journal verify docs");
}
