//! Sustained apply of random 4 KiB writes, each a capture of its own, against the same writes by `fio` with as many
//! `fdatasync`s.
//!
//! The product writes each block three times (redo, undo, tree) and keeps tables of it; the reference once. Both end when
//! everything is on the disk.

use crate::append::{CountingDisk, Counts};
use crate::fed::{self, Fed, Numbers};
use crate::{report, run};
use anyhow::Context;
use journal::{Event, NodeId, Provenance};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

const FILE_BYTES: u64 = 512 << 20;
const BLOCK: u64 = 4096;
const WRITES: u64 = 50_000;
const NODE: NodeId = NodeId(NodeId::FIRST_FREE.0);

fn product(place: &Path) -> anyhow::Result<(Duration, u64)> {
    let counts = Arc::<Counts>::default();
    let mut fed = Fed::open_on(Arc::new(CountingDisk::new(Arc::clone(&counts))), place)?;
    let mut numbers = Numbers::new(7);
    fed.feed(Provenance::Synchronization, vec![fed::file(NODE, "file")?])?;
    for at in (0..FILE_BYTES).step_by(1 << 20) {
        fed.feed(Provenance::Synchronization, vec![fed::write(NODE, at, numbers.bytes(1 << 20))])?;
    }
    fed.synchronized(1)?;
    run::sync(place)?;
    let syncs = counts.syncs.load(Ordering::Relaxed);
    let began = Instant::now();
    for number in 0..WRITES {
        let at = numbers.next() % (FILE_BYTES / BLOCK) * BLOCK;
        let times = Event::SetAttributes { node: NODE, attributes: fed::attributes(0o644, number as i64) };
        fed.feed(Provenance::Exact, vec![fed::write(NODE, at, numbers.bytes(BLOCK as usize)), times])?;
    }
    fed.applied()?;
    let took = began.elapsed();
    Ok((took, counts.syncs.load(Ordering::Relaxed) - syncs))
}

fn reference(place: &Path, syncs: u64) -> anyhow::Result<Duration> {
    let file = place.join("fio");
    std::fs::write(&file, Numbers::new(9).bytes(FILE_BYTES as usize))?;
    run::sync(place)?;
    let mut fio = Command::new("fio");
    fio.args(["--name=bench", "--rw=randwrite", "--bs=4k", "--ioengine=psync", "--overwrite=1", "--minimal"])
        .args(["--norandommap", "--randseed=7", "--end_fsync=1", "--allow_file_create=0"])
        .arg(format!("--filename={}", file.display()))
        .arg(format!("--size={FILE_BYTES}"))
        .arg(format!("--number_ios={WRITES}"))
        .arg(format!("--fdatasync={}", (WRITES / syncs.max(1)).max(1)));
    Ok(run::timed(&mut fio).context("run fio")?.1)
}

/// Runs it.
///
/// # Errors
/// If the disk refuses, or `fio` is not there.
pub fn run() -> anyhow::Result<()> {
    let scratch = crate::tree::scratch()?;
    let (mut ours, mut theirs, mut seen) = (Vec::new(), Vec::new(), 0);
    for round in 0..report::ROUNDS {
        let place = scratch.path().join(format!("round-{round}"));
        std::fs::create_dir_all(&place)?;
        let (took, syncs) = product(&place)?;
        run::sync(&place)?;
        ours.push(took);
        theirs.push(reference(&place, syncs)?);
        seen = syncs;
        // Three large files: nothing that the next round would feel.
        std::fs::remove_dir_all(&place)?;
    }
    let (ours, theirs) = (report::seconds(&ours), report::seconds(&theirs));
    println!(
        "  {WRITES} writes of 4 KiB in a file of {} MiB, {seen} fdatasyncs of the journal",
        FILE_BYTES >> 20
    );
    report::line("fio", &theirs);
    report::line("journaled and applied", &ours);
    println!("      {:.0} writes a second", WRITES as f64 / report::median(&ours));
    report::ratio("speed of apply / of fio", report::median(&theirs) / report::median(&ours), "none");
    Ok(())
}
