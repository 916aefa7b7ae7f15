//! Directories that are there and cannot be reached: nothing waits for them, and nothing is lost with them.

use super::{Bench, PATIENCE};
use crate::capture::{Start, State};
use journal::{GapCause, Marker, SkippedWhat};
use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

/// After this long without anything to do the agent holds no directory open any more.
const IDLE: Duration = Duration::from_millis(4500);

fn run(arguments: &[&str], path: &Path) -> bool {
    std::process::Command::new(arguments[0])
        .args(&arguments[1..])
        .arg(path)
        .status()
        .is_ok_and(|s| s.success())
}

/// Waits until the agent has nothing to do but what it does from time to time.
fn wait_for_rest(bench: &Bench) {
    let started = Instant::now();
    while bench.agent().status().hints != 0 {
        assert!(started.elapsed() < PATIENCE, "it never rests: {:?}", bench.agent().status());
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn wait_until_equal(bench: &Bench) {
    let started = Instant::now();
    while !bench.model.lock().compare(journal::RootNo(0), &bench.root()).is_empty() {
        assert!(started.elapsed() < PATIENCE, "{:?}", bench.agent().status());
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn is_skipped(bench: &Bench, wanted: &[u8], why: SkippedWhat) -> bool {
    let model = bench.model.lock();
    let is = |marker: &Marker| matches!(marker, Marker::Skipped { what, path, .. } if *what == why && path == wanted);
    model.markers.iter().any(|(_, marker)| is(marker))
}

#[test]
fn a_mount_over_a_directory_that_is_not_open() {
    let mut bench = Bench::new();
    bench.telling(|root| {
        fs::create_dir_all(root.join("m/sub")).unwrap();
        fs::write(root.join("m/under"), b"x").unwrap();
        fs::write(root.join("m/sub/f"), b"x").unwrap();
    });
    let covered = fs::OpenOptions::new().write(true).open(bench.path("m/sub/f")).unwrap();
    std::thread::sleep(IDLE);
    if !rustix::process::geteuid().is_root() || !run(&["mount", "-t", "tmpfs", "none"], &bench.path("m")) {
        eprintln!("skipped: mounting needs root");
        return;
    }
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let started = Instant::now();
        while !is_skipped(&bench, b"m", SkippedWhat::MountPoint) {
            assert!(started.elapsed() < PATIENCE);
            std::thread::sleep(Duration::from_millis(10));
        }
        // What happens below the mount is told of, and cannot be looked at.
        covered.write_all_at(b"changed", 0).unwrap();
        bench.barrier();
        wait_for_rest(&bench);
        assert!(bench.model.lock().names.keys().any(|edge| edge.name.as_bytes() == b"under"));
    }));
    drop(covered);
    assert!(run(&["umount"], &bench.path("m")));
    result.unwrap();
    std::thread::sleep(Duration::from_millis(100));
    bench.check();
    bench.expect_skipped(0);
}

#[test]
fn a_root_that_is_lost_while_directories_are_not_watched() {
    let mut bench = Bench::prepare();
    bench.config.watches_max = 3;
    for n in 0..8 {
        fs::create_dir(bench.path(&format!("d{n}"))).unwrap();
        fs::write(bench.path(&format!("d{n}/f")), b"one").unwrap();
    }
    bench.start(Start::First);
    bench.check();
    let away = bench.directory.path().join("away");
    fs::rename(bench.root(), &away).unwrap();
    let started = Instant::now();
    while bench.agent().status().gaps < 2 {
        assert!(started.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(10));
    }
    std::thread::sleep(IDLE);
    bench.barrier();
    wait_for_rest(&bench);
    assert_eq!(bench.agent().status().state, State::Suspect(GapCause::WatchLimit));
    fs::write(away.join("d7/f"), b"two").unwrap();
    fs::rename(&away, bench.root()).unwrap();
    wait_until_equal(&bench);
    bench.check();
}

/// What root may do is not what is tested.
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

fn mode(bench: &Bench, name: &str, mode: u32) {
    fs::set_permissions(bench.path(name), fs::Permissions::from_mode(mode)).unwrap();
}

fn denied_on_the_way() {
    let mut bench = Bench::new();
    bench.telling(|root| {
        fs::create_dir_all(root.join("d/e/deep")).unwrap();
        for name in ["d/e/f", "d/e/g", "d/e/deep/h"] {
            fs::write(root.join(name), b"before").unwrap();
        }
    });
    let open = |name: &str| fs::OpenOptions::new().write(true).open(bench.path(name)).unwrap();
    let files = [open("d/e/f"), open("d/e/deep/h")];
    std::thread::sleep(IDLE);
    mode(&bench, "d", 0);
    for file in &files {
        file.write_all_at(b"through an open file", 0).unwrap();
    }
    bench.barrier();
    wait_for_rest(&bench);
    assert!(is_skipped(&bench, b"d/e", SkippedWhat::Node));
    assert!(
        bench.model.lock().names.keys().any(|edge| edge.name.as_bytes() == b"g"),
        "a removal was told of"
    );
    mode(&bench, "d", 0o700);
    // Looked at before the barrier stands.
    bench.check();
    bench.expect_skipped(0);
    // Moved away while nobody looks: what was told of it is not lost with the old way.
    std::thread::sleep(IDLE);
    mode(&bench, "d", 0);
    files[1].write_all_at(b"once more", 0).unwrap();
    bench.barrier();
    mode(&bench, "d", 0o700);
    fs::rename(bench.path("d/e"), bench.path("moved")).unwrap();
    bench.check();
    // The same to where it is found only after it was missed.
    bench.telling(|root| {
        fs::rename(root.join("moved"), root.join("d/e")).unwrap();
        fs::create_dir(root.join("later")).unwrap();
    });
    std::thread::sleep(IDLE);
    mode(&bench, "d", 0);
    files[1].write_all_at(b"a third time", 0).unwrap();
    bench.barrier();
    mode(&bench, "d", 0o700);
    fs::rename(bench.path("d/e"), bench.path("later/moved")).unwrap();
    bench.check();
    bench.expect_skipped(0);
}

#[test]
fn a_directory_below_one_that_may_not_be_searched() {
    as_nobody(denied_on_the_way);
}
