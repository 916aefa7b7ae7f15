//! Names that cannot be made out: given up with their path, not with a comparison of everything.

use super::Bench;
use crate::capture::look::Call;
use crate::capture::look::faults::Fault;
use crate::capture::{Start, State};
use journal::{Marker, SkippedWhat};
use rustix::io::Errno;
use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

/// What was told of skips: paths and errors, `None` where one was taken back.
fn skips(bench: &Bench) -> Vec<(String, Option<i32>)> {
    let model = bench.model.lock();
    let told = model.markers.iter().filter_map(|(_, marker)| match marker {
        Marker::Skipped { path, what: SkippedWhat::Node, errno, .. } => Some((path.clone(), Some(*errno))),
        Marker::Unskipped { path, .. } => Some((path.clone(), None)),
        _ => None,
    });
    told.map(|(path, errno)| (String::from_utf8_lossy(&path).into_owned(), errno)).collect()
}

fn gaps(bench: &Bench) -> usize {
    let model = bench.model.lock();
    model.markers.iter().filter(|(_, marker)| matches!(marker, Marker::GapOpened { .. })).count()
}

/// Makes a fault, has the agent meet it, takes it back: what is there is kept in the end.
fn meets(call: Call, errno: Errno, told: Errno, names: &[&str], make: impl Fn(&Bench)) {
    let mut bench = Bench::patient();
    make(&bench);
    let faults: Vec<Fault> = names.iter().map(|name| Fault::at(call, &bench.path(name), errno)).collect();
    fs::write(bench.path("other"), b"x").unwrap();
    let began = Instant::now();
    bench.barrier();
    assert!(began.elapsed() < Duration::from_secs(30), "a barrier took {:?}", began.elapsed());
    assert!(bench.model.lock().names.keys().any(|edge| edge.name.as_bytes() == b"other"));
    let expected: Vec<_> = names.iter().map(|name| ((*name).to_owned(), Some(told.raw_os_error()))).collect();
    assert_eq!(skips(&bench), expected);
    bench.expect_skipped(names.len());
    // A further barrier looks again, and does not say it again.
    let began = Instant::now();
    bench.barrier();
    assert!(began.elapsed() < Duration::from_secs(5), "a barrier took {:?}", began.elapsed());
    assert_eq!(skips(&bench).len(), names.len());
    assert_eq!(gaps(&bench), 0);
    assert_eq!(bench.agent().status().state, State::Exact);
    drop(faults);
    bench.check();
    bench.expect_skipped(0);
}

#[test]
fn a_link_that_cannot_be_read() {
    meets(Call::Link, Errno::IO, Errno::IO, &["link"], |bench| {
        symlink("nowhere", bench.path("link")).unwrap();
    });
}

#[test]
fn a_look_that_says_try_again() {
    meets(Call::Look, Errno::AGAIN, Errno::AGAIN, &["file"], |bench| {
        fs::write(bench.path("file"), b"x").unwrap();
    });
}

#[test]
fn a_name_that_changes_hands_all_the_time() {
    meets(Call::Rest, Errno::AGAIN, Errno::AGAIN, &["file"], |bench| {
        fs::write(bench.path("file"), b"x").unwrap();
    });
}

#[test]
fn a_directory_whose_name_changes_hands_all_the_time() {
    meets(Call::Rest, Errno::AGAIN, Errno::AGAIN, &["d"], |bench| {
        fs::create_dir_all(bench.path("d/e")).unwrap();
        fs::write(bench.path("d/e/f"), b"x").unwrap();
    });
}

#[test]
fn a_known_file_that_changes_hands_keeps_what_the_stream_has() {
    let mut bench = Bench::prepare();
    fs::create_dir(bench.path("d")).unwrap();
    fs::write(bench.path("d/f"), b"known").unwrap();
    bench.start(Start::First);
    bench.check();
    let fault = Fault::at(Call::Rest, &bench.path("d/f"), Errno::AGAIN);
    fs::write(bench.path("d/f"), b"changed").unwrap();
    bench.barrier();
    assert_eq!(skips(&bench), [("d/f".to_owned(), Some(Errno::AGAIN.raw_os_error()))]);
    assert!(bench.model.lock().nodes.values().any(|node| node.bytes == b"known"));
    drop(fault);
    bench.check();
    assert_eq!(gaps(&bench), 0);
}

#[test]
fn directories_that_cannot_be_told_apart_keep_nobody_waiting() {
    let mut bench = Bench::patient();
    fs::create_dir(bench.path("a")).unwrap();
    fs::create_dir(bench.path("b")).unwrap();
    let faults = ["a", "b"].map(|name| Fault::at(Call::Identity, &bench.path(name), Errno::IO));
    fs::write(bench.path("other"), b"x").unwrap();
    bench.barrier();
    assert!(bench.model.lock().names.keys().any(|edge| edge.name.as_bytes() == b"other"));
    let told = skips(&bench);
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].1, Some(Errno::AGAIN.raw_os_error()));
    bench.barrier();
    assert_eq!((skips(&bench).len(), gaps(&bench)), (1, 0));
    drop(faults);
    // Nobody tells that they can be told apart now.
    bench.agent().rescan(None, journal::GapCause::AgentDown).unwrap();
    bench.check();
    bench.expect_skipped(0);
}
