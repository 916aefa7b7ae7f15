//! Does a synchronization compare and send what it was asked to, no more and no less?
//!
//! Master and replica are two processes. The master's index is taken away between runs, so no hashes of blocks are
//! known on its side; what crosses is what the run reports.

use rustix::fs::Timestamps;
use serde_json::Value;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use tests::compare::{Options, compare};
use tests::daemon::{seed, size};
use tests::keep::Keeper;
use tests::pair::Pair;
use tests::rng::Rng;

const BLOCK: u64 = 4096;

fn large(pair: &Pair) -> std::path::PathBuf {
    pair.path("m/large")
}

fn large_bytes() -> u64 {
    size(64 << 20, 512 << 20)
}

/// A large file that does not compress, and small ones beside it.
fn fill(pair: &Pair, rng: &mut Rng) {
    let file = File::create(large(pair)).unwrap();
    for at in (0..large_bytes()).step_by(1 << 20) {
        file.write_all_at(&rng.bytes(1 << 20), at).unwrap();
    }
    for name in ["a", "b", "c"] {
        fs::write(pair.path("m").join(name), rng.bytes(3000)).unwrap();
    }
}

/// Another byte in a block of a file.
fn change(path: &Path, block: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, block * BLOCK + 17).unwrap();
    file.write_all_at(&[byte[0] ^ 0x55], block * BLOCK + 17).unwrap();
}

/// The same without a trace in size and modification time.
fn forge(path: &Path, block: u64) {
    let before = fs::metadata(path).unwrap();
    change(path, block);
    let time = rustix::fs::Timespec { tv_sec: before.mtime(), tv_nsec: before.mtime_nsec() };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, rustix::fs::AtFlags::empty()).unwrap();
    let after = fs::metadata(path).unwrap();
    assert_eq!(
        (before.len(), before.mtime(), before.mtime_nsec()),
        (after.len(), after.mtime(), after.mtime_nsec())
    );
}

/// Stops the scenario, lets `meanwhile` happen while the master is down, takes its index away, and runs again.
fn run_again(pair: &mut Pair, how: &str, meanwhile: impl FnOnce(&Pair)) -> Value {
    pair.replica.ok("scenario stop docs");
    pair.master.stop();
    fs::remove_dir_all(pair.master.data().join("projections")).unwrap();
    meanwhile(pair);
    pair.master.start();
    pair.replica.ok(&format!("scenario run docs {how}"))
}

fn assert_equal(a: &Path, b: &Path, what: &str) {
    let report = compare(a, b, &Options::default()).unwrap();
    assert!(report.is_equal(), "{what}:\n{report}");
}

#[test]
fn blocks_or_whole_files_cross_as_asked() {
    let mut rng = Rng::new(seed("blocks_or_whole_files_cross_as_asked"));
    let mut pair = Pair::new();
    fill(&pair, &mut rng);
    pair.start();
    pair.protect();
    let blocks = large_bytes() / BLOCK;
    let mut points = Vec::new();
    let mut keeper = Keeper::new(&pair.path("m"));
    for (how, least, most) in [
        ("--sync block", BLOCK, 2 * BLOCK),
        ("--sync file", large_bytes(), large_bytes() + 10_000),
        ("", large_bytes(), large_bytes() + 10_000),
        ("--sync block", BLOCK, 2 * BLOCK),
    ] {
        let kept = pair.path(&format!("kept-{}", points.len()));
        keeper.keep(&kept);
        points.push((pair.flush(), kept));
        let block = rng.below(blocks);
        let report = run_again(&mut pair, how, |pair| change(&large(pair), block));
        let sent = report["bytes_sent"].as_u64().unwrap();
        assert!((least..=most).contains(&sent), "{how}: {sent} bytes were sent: {report}");
        assert_eq!(report["removed"], 0, "{report}");
        pair.assert_equal();
    }
    for (lsn, kept) in points {
        let onto = pair.path("read");
        pair.replica.ok(&format!("rewind docs --to lsn:{lsn} --onto {}", onto.display()));
        assert_equal(&onto, &kept, &format!("LSN {lsn} after synchronizations"));
        fs::remove_dir_all(onto).unwrap();
    }
}

#[test]
fn a_file_that_grew_or_was_cut_crosses_as_what_is_new() {
    let mut rng = Rng::new(seed("a_file_that_grew_or_was_cut_crosses_as_what_is_new"));
    let mut pair = Pair::new();
    fill(&pair, &mut rng);
    pair.start();
    pair.protect();
    let report = run_again(&mut pair, "--sync block", |pair| {
        let file = OpenOptions::new().write(true).open(large(pair)).unwrap();
        file.set_len(large_bytes() / 2).unwrap();
        change(&large(pair), 5);
    });
    assert!(report["bytes_sent"].as_u64().unwrap() <= 3 * BLOCK, "{report}");
    pair.assert_equal();
    let more = rng.bytes(100_000);
    let report = run_again(&mut pair, "--sync block", |pair| {
        let file = OpenOptions::new().write(true).open(large(pair)).unwrap();
        file.write_all_at(&more, large_bytes() / 2 + 10_000_000).unwrap();
    });
    assert!(report["bytes_sent"].as_u64().unwrap() <= 100_000 + 3 * BLOCK, "{report}");
    pair.assert_equal();
}

#[test]
fn same_size_and_time_is_believed_unless_told_otherwise() {
    let mut rng = Rng::new(seed("same_size_and_time_is_believed_unless_told_otherwise"));
    let mut pair = Pair::new();
    fill(&pair, &mut rng);
    // The replica has all of it before, and does not know the inodes and change times of the master.
    let status =
        std::process::Command::new("cp").arg("-a").arg(pair.path("m")).arg(pair.path("seeded")).status();
    assert!(status.unwrap().success());
    fs::create_dir(pair.path("r")).unwrap();
    fs::rename(pair.path("seeded"), pair.path("r/m")).unwrap();
    forge(&large(&pair), 99);
    forge(&pair.path("m/a"), 0);
    pair.start();
    let root = format!("{}={}", pair.path("m").display(), pair.path("r/m").display());
    let create = format!("scenario create docs --root {root} --master {} --adopt", tests::pair::MASTER);
    pair.replica.ok(&create);
    let report = pair.replica.ok("scenario run docs");
    assert_eq!(report["bytes_sent"], 0, "same size and time: {report}");
    let differs = compare(&pair.path("m"), &pair.path("r/m"), &Options::default()).unwrap();
    assert!(!differs.is_equal(), "the quick check was expected to miss what was forged");

    let report = run_again(&mut pair, "--ignore-same=off --sync block", |_| {});
    assert_eq!(report["bytes_sent"].as_u64().unwrap(), BLOCK + 3000, "{report}");
    pair.assert_equal();
    let report = run_again(&mut pair, "--ignore-same=off", |_| {});
    assert_eq!(report["bytes_sent"], 0, "everything was read and nothing differs: {report}");

    // Once a synchronization has told of them, change times give a forger away.
    let report = run_again(&mut pair, "--sync block", |pair| forge(&large(pair), 1234));
    assert_eq!(report["bytes_sent"].as_u64().unwrap(), BLOCK, "{report}");
    pair.assert_equal();
}

#[test]
fn a_skipped_synchronization_sends_nothing_and_says_so() {
    let mut rng = Rng::new(seed("a_skipped_synchronization_sends_nothing_and_says_so"));
    let mut pair = Pair::new();
    fill(&pair, &mut rng);
    fs::create_dir_all(pair.path("m/deep/er")).unwrap();
    pair.start();
    pair.create();
    let refused = pair.replica.refused("scenario run docs --skip-sync", 5, "RW0465");
    assert!(refused.stdout.contains("never been synchronized"), "{refused:?}");
    pair.replica.ok("scenario run docs");
    let report = run_again(&mut pair, "--skip-sync", |pair| {
        change(&large(pair), 7);
        fs::write(pair.path("m/unseen"), b"made while nobody looked").unwrap();
    });
    assert_eq!((&report["bytes_sent"], &report["removed"]), (&Value::from(0), &Value::from(0)), "{report}");
    assert!(!pair.path("r/m/unseen").exists());
    let status = pair.replica.ok("scenario status docs");
    assert_eq!(
        (&status["state"], &status["gaps_open"]),
        (&Value::from("replicating"), &Value::from(1)),
        "{status}"
    );

    // What happens from now on is captured, deep below too, and puts right what is touched.
    fs::write(pair.path("m/deep/er/new"), b"seen").unwrap();
    change(&large(&pair), 9);
    pair.flush();
    assert_eq!(fs::read(pair.path("r/m/deep/er/new")).unwrap(), b"seen");
    assert!(!pair.path("r/m/unseen").exists(), "nobody has compared");
    let (a, b) = (fs::read(large(&pair)).unwrap(), fs::read(pair.path("r/m/large")).unwrap());
    assert!(a == b, "a file that differed is put right when it is written next");

    // A synchronization closes the gap.
    pair.replica.ok("scenario stop docs");
    pair.replica.ok("scenario run docs");
    pair.wait_replicating();
    pair.assert_equal();
}
