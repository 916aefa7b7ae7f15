//! Two networks, a cable that is cut at random, a writer that never pauses: is anything lost, or sent twice?
//!
//! The journal of the replica is read afterwards: every capture is there once, in order, whole. The replica counts
//! what it is sent although it has it already; over cuts that must be nothing, since a connection begins where the
//! journal stands.

use journal::Lsn;
use journal::log::{LogOptions, LogSet, Stream};
use journal::record::RedoRecord;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tests::daemon::{seed, size};
use tests::pair::{Net, Pair};
use tests::rng::Rng;

/// Writes without pause until told to stop.
fn write(top: &Path, seed: u64, stop: &AtomicBool, written: &AtomicU64) {
    let mut rng = Rng::new(seed);
    fs::create_dir_all(top.join("w")).unwrap();
    while !stop.load(Ordering::Relaxed) {
        let (number, other) = (rng.below(200), rng.below(200));
        let (file, there) = (top.join(format!("w/{number}")), top.join(format!("w/{other}")));
        match rng.below(10) {
            0 => drop(fs::rename(&file, &there)),
            1 => drop(fs::remove_file(&file)),
            2 => {
                let bytes = (200 << 10) + rng.below(600 << 10) as usize;
                fs::write(&file, rng.bytes(bytes)).unwrap();
            }
            _ => {
                let bytes = rng.below(8000) as usize;
                fs::write(&file, rng.bytes(bytes)).unwrap();
            }
        }
        written.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The captures in a journal that nobody has open, each whole and each once. The last one.
fn check_journal(directory: &Path) -> Lsn {
    let set = LogSet::open(Arc::new(journal::disk::OsDisk), directory, LogOptions::default()).unwrap();
    let log = set.log(Stream::Redo);
    let (mut last, mut parts) = (0, 0);
    for record in log.read(log.first()) {
        let RedoRecord::Part(part) = RedoRecord::from_stored(&record.unwrap()).unwrap() else { continue };
        assert_eq!(part.capture.lsn, Lsn::captured(last + 1), "after capture {last}");
        if part.number == 0 {
            // A capture that was begun before a cut may begin again.
            parts = 0;
        }
        assert_eq!(part.number, parts, "in capture {}", part.capture.lsn);
        parts += 1;
        if part.last {
            (last, parts) = (last + 1, 0);
        }
    }
    Lsn::captured(last)
}

#[test]
fn a_cable_that_is_cut_at_random() {
    let net = match Net::new() {
        Ok(net) => net,
        Err(why) => return println!("skipped: {why}"),
    };
    let seed = seed("cut_link");
    let mut rng = Rng::new(seed);
    let mut pair = Pair::with(Some(net));
    pair.start();
    pair.protect();
    let m = pair.path("m");
    let (stop, written, noticed) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|threads| {
        threads.spawn(|| write(&m, seed, &stop, &written));
        // Whatever happens here, the writer must end, or the scope does not.
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for cut in 0..size(4, 40) {
                std::thread::sleep(Duration::from_millis(300 + rng.below(2500)));
                let net = pair.net.as_ref().unwrap();
                net.cable(false);
                // Shorter than it takes to notice, and longer.
                let dark = if rng.chance(1, 2) { rng.below(1500) } else { 8000 + rng.below(8000) };
                noticed.fetch_max(dark, Ordering::Relaxed);
                println!("cut {cut}: {dark} ms, {} writes", written.load(Ordering::Relaxed));
                std::thread::sleep(Duration::from_millis(dark));
                net.cable(true);
            }
        }));
        stop.store(true, Ordering::Relaxed);
        if let Err(panic) = ended {
            std::panic::resume_unwind(panic);
        }
    });
    // A dead connection may be noticed only now; the master then dials again.
    for _ in 0..60 {
        if pair.replica.ctl("flush docs").exit == 0 {
            break;
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    pair.wait_replicating();
    let flushed = pair.flush();
    pair.assert_equal();
    let status = pair.replica.ok("scenario status docs");
    assert_eq!(status["gaps_open"], 0, "{status}");
    let gaps = pair.replica.ctl("points docs --kind marker").objects();
    let gaps: Vec<_> = gaps.iter().filter(|point| point.to_string().contains("gap")).collect();
    assert!(gaps.is_empty(), "a cut alone opens no gap: {gaps:?}");

    pair.master.stop();
    pair.replica.stop();
    let log = pair.replica.log();
    let ends: Vec<&str> = log.lines().filter(|line| line.contains("duplicates=")).collect();
    // Silence is a dead link after 10 seconds.
    assert!(ends.len() > 1 || noticed.into_inner() < 13_000, "the cable was cut and nobody noticed:\n{log}");
    let again: Vec<_> = ends.iter().filter(|line| !line.contains("duplicates=0")).collect();
    assert!(again.is_empty(), "sent again although acknowledged: {again:?}");
    let last = check_journal(&pair.path("replica/journal/docs"));
    assert!(last >= flushed.parse().map(Lsn::captured).unwrap(), "{last} < {flushed}");
    println!("{} writes, {last} captures, {} connections, none sent twice", written.into_inner(), ends.len());
}

#[test]
fn a_cable_that_is_cut_during_the_first_synchronization() {
    let net = match Net::new() {
        Ok(net) => net,
        Err(why) => return println!("skipped: {why}"),
    };
    let mut pair = Pair::with(Some(net));
    pair.start();
    let m = pair.path("m");
    let mut rng = Rng::new(1);
    // More than the spool holds in memory: capture waits for the replica when the cable is cut.
    for directory in 0..30 {
        let directory = m.join(directory.to_string());
        fs::create_dir(&directory).unwrap();
        for number in 0..50 {
            fs::write(directory.join(number.to_string()), rng.bytes(100 << 10)).unwrap();
        }
    }
    pair.create();
    let running = pair.replica.ok("scenario run docs --detach");
    let net = pair.net.as_ref().unwrap();
    // Shorter than it takes to notice, then longer.
    for dark in [500, 16_000] {
        std::thread::sleep(Duration::from_millis(100));
        net.cable(false);
        fs::write(m.join(format!("written in the dark of {dark} ms")), "x").unwrap();
        std::thread::sleep(Duration::from_millis(dark));
        net.cable(true);
    }
    let job =
        running["job"].as_str().or(running["id"].as_str()).unwrap_or_else(|| panic!("{running}")).to_owned();
    pair.replica.ok(&format!("job wait {job}"));
    pair.wait_replicating();
    pair.flush();
    pair.assert_equal();
    pair.master.stop();
    pair.replica.stop();
    check_journal(&pair.path("replica/journal/docs"));
}
