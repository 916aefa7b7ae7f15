//! `ESTALE` is doubt: nothing is told as removed because of it.

use super::{Bench, PATIENCE};
use crate::capture::look::Call;
use crate::capture::look::faults::Fault;
use crate::capture::{Start, State};
use journal::{GapCause, Marker};
use rustix::io::Errno;
use std::fs;
use std::time::{Duration, Instant};

/// A bench that knows a directory with two files, and one below it with another.
fn known() -> Bench {
    let mut bench = Bench::prepare();
    fs::create_dir_all(bench.path("d/e")).unwrap();
    for name in ["d/f", "d/g", "d/e/h"] {
        fs::write(bench.path(name), b"before").unwrap();
    }
    bench.start(Start::First);
    bench.check();
    bench
}

/// Paths that are skipped now.
fn skipped(bench: &Bench) -> Vec<String> {
    let mut paths = Vec::new();
    for (_, marker) in &bench.model.lock().markers {
        match marker {
            Marker::Skipped { path, errno, .. } => {
                assert_eq!(*errno, Errno::STALE.raw_os_error());
                paths.push(String::from_utf8_lossy(path).into_owned());
            }
            Marker::Unskipped { path, .. } => {
                let path = String::from_utf8_lossy(path).into_owned();
                paths.retain(|known| *known != path);
            }
            _ => {}
        }
    }
    paths.sort();
    paths
}

fn removals(bench: &Bench, from: usize) -> usize {
    bench.told_since(from).iter().flatten().filter(|event| *event == "Remove").count()
}

fn wait_for(bench: &Bench, state: State) {
    let started = Instant::now();
    while bench.agent().status().state != state {
        assert!(started.elapsed() < PATIENCE, "{:?}", bench.agent().status());
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_name_that_is_stale_is_not_removed() {
    let mut bench = known();
    let before = bench.told();
    let fault = Fault::at(Call::Look, &bench.path("d/f"), Errno::STALE);
    fs::write(bench.path("d/f"), b"changed").unwrap();
    bench.barrier();
    assert_eq!((removals(&bench, before), skipped(&bench)), (0, vec!["d/f".to_owned()]));
    // Nor by a comparison of everything.
    bench.agent().rescan(None, GapCause::AgentDown).unwrap();
    bench.barrier();
    assert_eq!((removals(&bench, before), skipped(&bench)), (0, vec!["d/f".to_owned()]));
    drop(fault);
    bench.check();
    assert_eq!(skipped(&bench), Vec::<String>::new());
}

#[test]
fn a_way_that_is_stale_once_is_opened_anew() {
    let mut bench = known();
    let fault = Fault::times(Call::Look, &bench.path("d/f"), Errno::STALE, 1);
    fs::write(bench.path("d/f"), b"changed").unwrap();
    bench.check();
    drop(fault);
    assert!(!bench.model.lock().markers.iter().any(|(_, marker)| matches!(marker, Marker::Skipped { .. })));
}

#[test]
fn a_stale_directory_is_not_an_empty_one() {
    let mut bench = known();
    let before = bench.told();
    let mut faults = vec![Fault::at(Call::List, &bench.path("d"), Errno::STALE)];
    for name in ["d/f", "d/g", "d/e"] {
        faults.push(Fault::at(Call::Look, &bench.path(name), Errno::STALE));
    }
    fs::write(bench.path("d/e/h"), b"changed").unwrap();
    bench.agent().rescan(None, GapCause::AgentDown).unwrap();
    bench.barrier();
    assert_eq!(removals(&bench, before), 0);
    assert!(skipped(&bench).contains(&"d".to_owned()), "{:?}", skipped(&bench));
    drop(faults);
    bench.check();
    assert_eq!(skipped(&bench), Vec::<String>::new());
}

#[test]
fn a_new_directory_that_cannot_be_listed_is_said() {
    let mut bench = Bench::patient();
    fs::create_dir(bench.path("new")).unwrap();
    fs::write(bench.path("new/f"), b"x").unwrap();
    let fault = Fault::at(Call::List, &bench.path("new"), Errno::STALE);
    bench.barrier();
    assert_eq!(skipped(&bench), ["new"]);
    drop(fault);
    bench.check();
    assert_eq!(skipped(&bench), Vec::<String>::new());
}

#[test]
fn a_root_that_cannot_be_listed_is_as_good_as_lost() {
    let mut bench = known();
    let before = bench.told();
    let fault = Fault::at(Call::List, &bench.root(), Errno::STALE);
    bench.agent().rescan(None, GapCause::AgentDown).unwrap();
    bench.barrier();
    // It is tried again and again, in one gap.
    std::thread::sleep(Duration::from_secs(5));
    let opened = |bench: &Bench| {
        let model = bench.model.lock();
        let gaps = model.markers.iter().map(|(_, marker)| match marker {
            Marker::GapOpened { .. } => (1, 0),
            Marker::GapClosed { .. } => (0, 1),
            _ => (0, 0),
        });
        gaps.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    };
    assert_eq!(opened(&bench), (2, 0));
    assert_ne!(bench.agent().status().state, State::Exact);
    assert_eq!(removals(&bench, before), 0);
    fs::write(bench.path("d/f"), b"changed").unwrap();
    drop(fault);
    wait_for(&bench, State::Exact);
    bench.check();
    assert_eq!(opened(&bench), (2, 2));
}
