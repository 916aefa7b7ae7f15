//! What may have been missed is said, compared and closed.

use super::model::ModelSink;
use super::{Bench, PATIENCE};
use crate::capture::{Agent, Index, Start, State};
use journal::{GapCause, Marker};
use parking_lot::Mutex;
use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Causes of gaps opened, and how many were closed, in this order only.
fn gaps(bench: &Bench) -> (Vec<GapCause>, usize) {
    let model = bench.model.lock();
    let mut opened = Vec::new();
    let mut closed = 0;
    for (_, marker) in &model.markers {
        match marker {
            Marker::GapOpened { cause, .. } => opened.push(*cause),
            Marker::GapClosed { .. } => {
                closed += 1;
                assert!(closed <= opened.len());
            }
            _ => {}
        }
    }
    (opened, closed)
}

fn wait_for(bench: &Bench, state: State) {
    let started = Instant::now();
    while bench.agent().status().state != state {
        assert!(started.elapsed() < PATIENCE, "{:?}", bench.agent().status());
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn overflow_of_the_kernels_queue() {
    let mut bench = Bench::prepare();
    bench.model.lock().unchecked = true;
    let gate = Arc::new(Mutex::new(()));
    let mut sink = ModelSink::new(Arc::clone(&bench.model));
    sink.gate = Some(Arc::clone(&gate));
    let (index, _) = Index::open(&bench.index_path()).unwrap();
    fs::create_dir(bench.path("d")).unwrap();
    bench.agent = Some(Agent::spawn(bench.config.clone(), index, Box::new(sink), Start::First).unwrap());
    bench.check();
    let limit: usize =
        fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap().trim().parse().unwrap();
    {
        // The spool takes nothing: the agent stands still, the queue fills.
        let _closed = gate.lock();
        fs::write(bench.path("first"), b"x").unwrap();
        std::thread::sleep(Duration::from_millis(200));
        for n in 0..limit / 2 + 100 {
            fs::write(bench.path(&format!("d/{n}")), format!("{n}")).unwrap();
        }
        fs::rename(bench.path("d"), bench.path("e")).unwrap();
        fs::create_dir(bench.path("lost")).unwrap();
        fs::write(bench.path("lost/f"), b"never told of").unwrap();
    }
    bench.check();
    wait_for(&bench, State::Exact);
    let (opened, closed) = gaps(&bench);
    assert_eq!((opened.first(), closed), (Some(&GapCause::QueueOverflow), opened.len()));
    // Directories that came while nothing was told are watched now.
    fs::write(bench.path("lost/f"), b"told of").unwrap();
    bench.check();
    assert_eq!(gaps(&bench).0.len(), opened.len());
}

#[test]
fn too_many_hints_are_an_overflow() {
    let mut bench = Bench::prepare();
    bench.config.hints_max = 20;
    let gate = Arc::new(Mutex::new(()));
    let mut sink = ModelSink::new(Arc::clone(&bench.model));
    sink.gate = Some(Arc::clone(&gate));
    let (index, _) = Index::open(&bench.index_path()).unwrap();
    bench.agent = Some(Agent::spawn(bench.config.clone(), index, Box::new(sink), Start::First).unwrap());
    bench.check();
    {
        // The spool takes nothing, so whatever the agent told of last, most of this waits.
        let _closed = gate.lock();
        for n in 0..300 {
            fs::create_dir(bench.path(&format!("d{n}"))).unwrap();
            fs::write(bench.path(&format!("d{n}/f")), b"x").unwrap();
        }
    }
    bench.check();
    wait_for(&bench, State::Exact);
    let (opened, closed) = gaps(&bench);
    assert!(!opened.is_empty() && opened.iter().all(|cause| *cause == GapCause::QueueOverflow));
    assert_eq!(opened.len(), closed);
    bench.check();
}

#[test]
fn overflows_in_a_row_are_one_gap() {
    let mut bench = Bench::prepare();
    bench.config.hints_max = 3;
    bench.config.debounce = Duration::ZERO;
    for n in 0..300 {
        fs::create_dir(bench.path(&format!("d{n}"))).unwrap();
    }
    bench.start(Start::First);
    bench.check();
    for n in 0..3000 {
        fs::write(bench.path(&format!("d{}/f", n % 300)), format!("{n}")).unwrap();
    }
    bench.check();
    wait_for(&bench, State::Exact);
    let (mut open, mut opened) = (0i32, 0);
    for (_, marker) in &bench.model.lock().markers {
        match marker {
            Marker::GapOpened { .. } => (open, opened) = (open + 1, opened + 1),
            Marker::GapClosed { .. } => open -= 1,
            _ => {}
        }
        assert!(open <= 1, "several gaps of one root and cause");
    }
    assert!(opened > 0);
}

#[test]
fn restart_finds_what_changed_meanwhile() {
    let mut bench = Bench::new();
    bench.telling(|root| {
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::create_dir_all(root.join("z")).unwrap();
        for n in 0..20 {
            fs::write(root.join(format!("a/b/{n}")), vec![n; 10_000]).unwrap();
        }
    });
    // Files read right after they were written are read again by a rescan: let the clock move on, and touch them.
    std::thread::sleep(Duration::from_millis(50));
    bench.stop();
    fs::rename(bench.path("a/b"), bench.path("z/c")).unwrap();
    fs::write(bench.path("z/c/7"), b"changed").unwrap();
    fs::remove_file(bench.path("z/c/8")).unwrap();
    let (before, bytes) = (bench.told(), bench.model.lock().bytes_told);
    bench.restart();
    bench.check();
    wait_for(&bench, State::Exact);
    let told = bench.told_since(before);
    let count = |word: &str| told.iter().flatten().filter(|event| *event == word).count();
    assert_eq!((count("Rename"), count("Create"), count("Remove")), (1, 0, 1), "{told:?}");
    assert_eq!(bench.model.lock().bytes_told - bytes, 7);
    assert_eq!(gaps(&bench), (vec![GapCause::AgentDown], 1));
}

#[test]
fn a_root_that_vanishes_is_not_a_removal_of_everything() {
    let mut bench = Bench::new();
    bench.telling(|root| fs::write(root.join("f"), b"x").unwrap());
    let away = bench.directory.path().join("away");
    fs::rename(bench.root(), &away).unwrap();
    wait_for(&bench, State::Suspect(GapCause::WatchLost));
    bench.barrier();
    assert!(bench.model.lock().names.keys().any(|edge| edge.name.as_bytes() == b"f"));
    fs::write(away.join("g"), b"y").unwrap();
    fs::rename(&away, bench.root()).unwrap();
    wait_for(&bench, State::Exact);
    bench.check();
    assert_eq!(gaps(&bench), (vec![GapCause::WatchLost], 1));
}

#[test]
fn first_synchronization_under_a_writer() {
    let mut bench = Bench::prepare();
    let mut random = super::random::Random::new(99);
    let (root, outside) = (bench.root(), bench.outside());
    for _ in 0..200 {
        super::random::operate(&mut random, &root, &outside);
    }
    bench.start(Start::First);
    for _ in 0..100 {
        super::random::operate(&mut random, &root, &outside);
    }
    bench.check();
    wait_for(&bench, State::Exact);
    let model = bench.model.lock();
    let position = |wanted: fn(&Marker) -> bool| model.markers.iter().position(|(_, marker)| wanted(marker));
    let started = position(|marker| matches!(marker, Marker::SynchronizationStarted { first: true }));
    let completed = position(|marker| matches!(marker, Marker::SynchronizationCompleted { .. }));
    assert!(started.is_some() && started < completed, "{:?}", model.markers);
}

#[test]
fn directories_beyond_the_limit_of_watches_are_compared() {
    let mut bench = Bench::prepare();
    bench.config.watches_max = 3;
    for n in 0..8 {
        fs::create_dir(bench.path(&format!("d{n}"))).unwrap();
        fs::write(bench.path(&format!("d{n}/f")), b"one").unwrap();
    }
    bench.start(Start::First);
    bench.check();
    wait_for(&bench, State::Suspect(GapCause::WatchLimit));
    assert_eq!((bench.agent().status().watches, bench.agent().status().unwatched), (3, 6));
    for n in 0..8 {
        fs::write(bench.path(&format!("d{n}/f")), b"two").unwrap();
        fs::write(bench.path(&format!("d{n}/g")), b"new").unwrap();
    }
    let started = Instant::now();
    while !bench.model.lock().compare(journal::RootNo(0), &bench.root()).is_empty() {
        assert!(started.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(50));
    }
    // Watches become free: the gap closes by itself.
    for n in 0..6 {
        fs::remove_dir_all(bench.path(&format!("d{n}"))).unwrap();
    }
    wait_for(&bench, State::Exact);
    bench.check();
    assert_eq!(gaps(&bench), (vec![GapCause::WatchLimit], 1));
}

#[test]
fn a_root_that_is_not_mounted_is_not_an_empty_one() {
    let mut bench = Bench::prepare();
    bench.config.origins = Some(bench.own.path().join("roots"));
    fs::write(bench.path("f"), b"precious").unwrap();
    bench.start(Start::First);
    bench.check();
    bench.stop();
    let (root, away) = (bench.root(), bench.outside().join("away"));
    let names = bench.model.lock().names.len();
    // The empty directory that a file system is mounted on.
    fs::rename(&root, &away).unwrap();
    fs::create_dir(&root).unwrap();
    bench.restart();
    wait_for(&bench, State::Suspect(GapCause::WatchLost));
    bench.barrier();
    assert_eq!(bench.model.lock().names.len(), names, "a removal was told of");
    fs::remove_dir(&root).unwrap();
    fs::rename(&away, &root).unwrap();
    wait_for(&bench, State::Exact);
    bench.check();
    // Another directory is taken only if somebody asks for it.
    fs::rename(&root, &away).unwrap();
    fs::create_dir(&root).unwrap();
    fs::write(root.join("g"), b"other").unwrap();
    wait_for(&bench, State::Suspect(GapCause::WatchLost));
    bench.agent().synchronize(false).unwrap();
    let started = Instant::now();
    while !bench.model.lock().names.keys().any(|edge| edge.name.as_bytes() == b"g") {
        assert!(started.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(5));
    }
    wait_for(&bench, State::Exact);
    bench.check();
}
