//! A journal of ten million events: reading a point behind all of them, opening it after a crash, verifying it.
//!
//! The events are made in a process of its own, which ends without a word while it is at work. Then this one opens the
//! journal (tables are found, what is behind them is caught up with), reads files at the oldest point and as they are
//! now, in turn, and compares verifying with reading the same files.

use crate::fed::{self, Fed, Numbers};
use crate::{report, run};
use anyhow::Context;
use journal::{Event, Lsn, NodeId, Provenance};
use replication::replica::LeasedView;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Names the process that makes the journal; its value is the place.
const MAKE: &str = "REWIND_BENCH_MAKE_DEEP";
/// Captures, and events in each.
const CAPTURES: u64 = 500_000;
const EVENTS: u64 = 20;
/// Files that are changed all the time, and files that nobody touches.
const BUSY: u64 = 10_000;
const QUIET: u64 = 1_000;
const FILE_BYTES: usize = 64 << 10;

fn busy(number: u64) -> NodeId {
    NodeId(NodeId::FIRST_FREE.0 + number % BUSY)
}

fn quiet(number: u64) -> NodeId {
    NodeId(NodeId::FIRST_FREE.0 + BUSY + number)
}

/// Files to begin with; the point behind them.
fn begin(fed: &mut Fed) -> anyhow::Result<Lsn> {
    let mut numbers = Numbers::new(3);
    for number in 0..BUSY {
        let (node, bytes) = (busy(number), numbers.bytes(4096));
        let events = vec![fed::file(node, &format!("busy-{number}"))?, fed::write(node, 0, bytes)];
        fed.feed(Provenance::Synchronization, events)?;
    }
    for number in 0..QUIET {
        let (node, bytes) = (quiet(number), numbers.bytes(FILE_BYTES));
        let events = vec![fed::file(node, &format!("quiet-{number}"))?, fed::write(node, 0, bytes)];
        fed.feed(Provenance::Synchronization, events)?;
    }
    fed.synchronized(BUSY + QUIET)
}

/// The process that makes it and does not end in good order.
fn make(place: &Path) -> anyhow::Result<()> {
    let mut fed = Fed::open(place)?;
    let first = begin(&mut fed)?;
    std::fs::write(place.join("first"), first.captured.to_string())?;
    for number in 0..CAPTURES {
        let mut events = Vec::with_capacity(EVENTS as usize);
        for event in 0..EVENTS / 2 {
            let node = busy(number * 7919 + event * 1009);
            let at = number % 32 * 64;
            events.push(fed::write(node, at, number.to_le_bytes().repeat(4)));
            events.push(Event::SetAttributes { node, attributes: fed::attributes(0o644, number as i64) });
        }
        fed.feed(Provenance::Exact, events)?;
        // What is applied lies a little behind what is durable, as in any crash.
        if number % 10_000 == 0 && number < CAPTURES * 9 / 10 {
            fed.applied()?;
        }
    }
    fed.journaled()?;
    std::process::abort()
}

fn made(place: &Path) -> anyhow::Result<(Lsn, Duration)> {
    let began = Instant::now();
    let this = std::env::current_exe()?;
    let ended = Command::new(this).arg("deep").env(MAKE, place).status()?;
    anyhow::ensure!(
        std::os::unix::process::ExitStatusExt::signal(&ended).is_some(),
        "it was to crash: {ended}"
    );
    let first: u64 = std::fs::read_to_string(place.join("first"))?.parse()?;
    Ok((Lsn::captured(first), began.elapsed()))
}

/// Reads the quiet files, all of each.
fn read(view: &LeasedView<replication::os_tree::OsTree>) -> anyhow::Result<Duration> {
    let began = Instant::now();
    for number in 0..QUIET {
        let bytes = view.open(quiet(number))?.read_all()?;
        anyhow::ensure!(bytes.len() == FILE_BYTES, "a file has {} bytes", bytes.len());
    }
    Ok(began.elapsed())
}

/// Runs it.
///
/// # Errors
/// If something fails, or a file is not what it was.
pub fn run() -> anyhow::Result<()> {
    if let Some(place) = std::env::var_os(MAKE) {
        return make(Path::new(&place));
    }
    let scratch = crate::tree::scratch()?;
    let place = scratch.path();
    let (first, took) = made(place)?;
    let events = CAPTURES * EVENTS;
    println!(
        "  {events} events in {CAPTURES} captures were made in {}",
        report::show_seconds(took.as_secs_f64())
    );
    run::sync(place)?;
    let began = Instant::now();
    let mut fed = Fed::open(place).context("open after a crash")?;
    let opened = began.elapsed();
    let behind = fed.replica.journal().journaled().captured - fed.replica.journal().applied().captured;
    report::line("opened after a crash", &[opened.as_secs_f64()]);
    println!("      {behind} captures were durable and not applied   (bound: under 2 s)");
    let last = fed.applied()?;
    let (mut past, mut present) = (Vec::new(), Vec::new());
    for round in 0..=report::ROUNDS {
        let (now, then) = (read(&fed.replica.view(last)?)?, read(&fed.replica.view(first)?)?);
        // The first one warms up.
        if round > 0 {
            present.push(now);
            past.push(then);
        }
    }
    let (past, present) = (report::seconds(&past), report::seconds(&present));
    report::line(&format!("reading {QUIET} untouched files now"), &present);
    report::line("reading them at the first point", &past);
    report::ratio("then / now", report::median(&past) / report::median(&present), "under 2");
    drop(fed);
    crate::verify::both(&fed::journal_at(place))
}
