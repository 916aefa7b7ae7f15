//! Directories of which more has to be looked at than one round takes.

use super::{Bench, PATIENCE};
use crate::capture::{Start, State};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

/// Names the stream shows.
fn names(bench: &Bench) -> Vec<String> {
    let model = bench.model.lock();
    let shown = model.names.keys().filter(|edge| !edge.parent.is_kept_area());
    shown.map(|edge| String::from_utf8_lossy(edge.name.as_bytes()).into_owned()).collect()
}

fn wait_until_exact(bench: &Bench) {
    let started = Instant::now();
    while bench.agent().status().state != State::Exact {
        assert!(started.elapsed() < PATIENCE, "{:?}", bench.agent().status());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn more_names_left_out_than_one_round_takes() {
    let mut bench = Bench::prepare_in("/dev/shm");
    bench.model.lock().unchecked = true;
    bench.config.roots[0].exclude = vec!["*.tmp".to_owned()];
    for n in 0..60_000 {
        fs::File::create(bench.path(&format!("{n}.tmp"))).unwrap();
    }
    fs::write(bench.path("wanted"), b"x").unwrap();
    bench.start(Start::First);
    bench.barrier();
    assert_eq!(names(&bench), ["wanted"]);
}

/// Whom nothing but what is written in the mode stops.
fn as_nobody(test: fn()) {
    if !rustix::process::geteuid().is_root() {
        return test();
    }
    let nobody = move || {
        let user = rustix::process::Uid::from_raw(65534);
        rustix::thread::set_thread_res_uid(user, user, user).unwrap();
        test();
    };
    std::thread::spawn(nobody).join().unwrap();
}

fn unreadable() {
    let mut bench = Bench::prepare_in("/dev/shm");
    bench.model.lock().unchecked = true;
    bench.config.looks_max = 100;
    let (unreadable, plain) = (700, 400);
    for n in 0..unreadable {
        fs::write(bench.path(&format!("u{n}")), b"x").unwrap();
        fs::set_permissions(bench.path(&format!("u{n}")), fs::Permissions::from_mode(0o000)).unwrap();
    }
    for n in 0..plain {
        fs::write(bench.path(&format!("p{n}")), b"x").unwrap();
    }
    bench.start(Start::First);
    bench.barrier();
    bench.expect_skipped(unreadable);
    assert_eq!(names(&bench).len(), unreadable + plain);
    // A comparison of them ends too, and finds what changed meanwhile: all removed, moved, new, written.
    std::thread::sleep(Duration::from_millis(50));
    bench.stop();
    for n in 0..plain / 2 {
        fs::remove_file(bench.path(&format!("p{n}"))).unwrap();
        fs::remove_file(bench.path(&format!("u{n}"))).unwrap();
        fs::write(bench.path(&format!("new{n}")), b"new").unwrap();
    }
    fs::rename(bench.path(&format!("p{}", plain - 1)), bench.path("moved")).unwrap();
    fs::write(bench.path(&format!("p{}", plain - 2)), b"written").unwrap();
    let before = bench.told();
    bench.restart();
    bench.barrier();
    wait_until_exact(&bench);
    let told = bench.told_since(before);
    let count = |word: &str| told.iter().flatten().filter(|event| *event == word).count();
    assert_eq!((count("Create"), count("Remove"), count("Rename")), (plain / 2, plain, 1));
    for n in plain / 2..unreadable {
        fs::set_permissions(bench.path(&format!("u{n}")), fs::Permissions::from_mode(0o600)).unwrap();
    }
    bench.check();
    bench.expect_skipped(0);
}

#[test]
fn more_names_that_cannot_be_kept_than_one_round_takes() {
    as_nobody(unreadable);
}

#[test]
fn an_unwatched_directory_of_many_starves_nobody() {
    let mut bench = Bench::prepare_in("/dev/shm");
    bench.model.lock().unchecked = true;
    (bench.config.looks_max, bench.config.watches_max) = (40, 2);
    // No directory that is not watched is ever as known.
    for n in 0..300 {
        fs::create_dir_all(bench.path(&format!("many/{n}"))).unwrap();
    }
    bench.start(Start::First);
    bench.check();
    fs::write(bench.path("many/299/f"), b"x").unwrap();
    bench.check();
    fs::rename(bench.path("many/7"), bench.path("many/0/7")).unwrap();
    bench.check();
}
