//! A list of the points of one rare file among a million points of others: blocks of points against reading them all.
//!
//! Rows go straight into tables on disk, as apply writes them, with 50,000 files in 2,500 directories that are changed in no
//! order, and one file that is changed ten times in all. `REWIND_BENCH_POINTS` asks for another number of points.

use crate::report;
use anyhow::Context;
use api::engine::PointKind;
use api::globs::PathGlobs;
use api::point_filter::PointFilter;
use journal::state::rows;
use journal::state::summary::{BLOCK_POINTS, PointBlock, Summarizer, block_key};
use journal::state::{PointKind as RowKind, PointRow};
use journal::tables::LsmTables;
use journal::{Class, Lsn, Provenance, RootNo, Space, Tables, Timestamp};
use restore::Points;
use std::path::{Path, PathBuf};
use std::time::Instant;

const POINTS: u64 = 1_000_000;
const BATCH: u64 = 4096;
const FILES: u64 = 50_000;
const RARE: u64 = 10;
const ROOT: &str = "/srv/data";

fn row(n: u64, points: u64) -> PointRow {
    let file = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
    let path = match n % (points / RARE) {
        77 => "finance/2026/forecast.xlsx".to_owned(),
        _ => format!("project-{}/part-{}/document-{}.odt", file % 50, file % 2500 / 50, file % FILES),
    };
    PointRow {
        time: Timestamp(1_700_000_000_000_000_000 + n as i64),
        kind: RowKind::Modified,
        root: RootNo(0),
        path: path.into_bytes(),
        from: None,
        bytes: 4096,
        provenance: Provenance::Exact,
        class: Class::Fuzzy,
    }
}

fn fill(tables: &LsmTables, points: u64) -> anyhow::Result<()> {
    for first in (0..points).step_by(BATCH as usize) {
        let put = |n: u64| {
            let key = Lsn::captured(n).to_key().to_vec();
            (Space::Points, key, Some(rows::write(&row(n, points))))
        };
        tables.commit((first..points.min(first + BATCH)).map(put).collect())?;
    }
    Ok(tables.persist()?)
}

/// Points found, and rows of points read.
fn list(tables: &LsmTables, points: u64, glob: &str, kinds: &[PointKind]) -> anyhow::Result<(u64, u64)> {
    let globs = PathGlobs::new([glob]).map_err(|error| anyhow::anyhow!("{error:?}"))?;
    let roots = vec![PathBuf::from(ROOT)];
    let filter = PointFilter { kinds, paths: Some(&globs), roots, since: None, until: None };
    let window = Points::new(tables, Lsn::ZERO, Lsn::captured(points));
    let (mut found, mut read) = (0, 0);
    for point in window.search(filter.wanted(Vec::new()))? {
        read += 1;
        found += u64::from(filter.takes(&point?.1));
    }
    Ok((found, read))
}

/// Blocks, and bytes of what they say.
fn blocks(tables: &LsmTables) -> anyhow::Result<(u64, usize)> {
    let (mut count, mut bytes) = (0, 0);
    for row in tables.range(Space::PointBlocks, &block_key(Lsn::ZERO), &block_key(Lsn::MAX)) {
        PointBlock::read(&row?)?;
        count += 1;
    }
    for row in tables.range(Space::PointBlocks, &[], &[0xff]) {
        let (key, value) = row?;
        bytes += key.len() + value.len();
    }
    Ok((count, bytes))
}

/// Runs it.
///
/// # Errors
/// If tables fail, or a search finds another number of points than there are.
pub fn run() -> anyhow::Result<()> {
    let asked = std::env::var("REWIND_BENCH_POINTS").ok().map(|text| text.parse()).transpose();
    let points: u64 = asked.context("read REWIND_BENCH_POINTS")?.unwrap_or(POINTS).max(1000);
    let scratch = crate::tree::scratch()?;
    let tables = LsmTables::open(&scratch.path().join("tables"))?;
    let began = Instant::now();
    fill(&tables, points)?;
    println!("  {points} points were written in {}", report::show_seconds(began.elapsed().as_secs_f64()));
    let glob = format!("{ROOT}/finance/2026/forecast.xlsx");
    let expect = |glob: &str, (found, read): (u64, u64)| {
        anyhow::ensure!(found == RARE, "{glob}: {found} points are found");
        Ok(read)
    };
    // There are no blocks yet.
    let mut all = Vec::new();
    for _ in 0..report::ROUNDS {
        let began = Instant::now();
        let read = expect(&glob, list(&tables, points, &glob, &[])?)?;
        all.push(began.elapsed());
        anyhow::ensure!(read == points, "{read} rows are read");
    }
    let began = Instant::now();
    let mut summarizer = Summarizer::default();
    while summarizer.step(&tables, (Lsn::ZERO, Lsn::captured(points)), BLOCK_POINTS)? {}
    let took = began.elapsed();
    tables.persist()?;
    let (count, bytes) = blocks(&tables)?;
    println!(
        "  {count} blocks of {} kB in all were made in {}, {:.2} us a point",
        bytes / 1000,
        report::show_seconds(took.as_secs_f64()),
        took.as_secs_f64() * 1e6 / points as f64
    );
    let all = report::seconds(&all);
    report::line("one file, reading all points", &all);
    let whole = Path::new(ROOT).join("finance/**").display().to_string();
    for (what, glob) in [("its path", &*glob), ("its directory", &*whole), ("its ending", "*.xlsx")] {
        let (mut few, mut read) = (Vec::new(), 0);
        for _ in 0..report::ROUNDS {
            let began = Instant::now();
            read = expect(glob, list(&tables, points, glob, &[])?)?;
            few.push(began.elapsed());
        }
        let few = report::seconds(&few);
        report::line(&format!("by {what}: {read} points, {count} blocks read"), &few);
        report::ratio(
            "all / by blocks",
            report::median(&all) / report::median(&few),
            "as rare as the file is",
        );
    }
    let began = Instant::now();
    let (found, read) = list(&tables, points, "*.odt", &[PointKind::Removed])?;
    anyhow::ensure!(found == 0, "{found} points were removed");
    report::line(&format!("a kind that is not there: {read} points read"), &[began.elapsed().as_secs_f64()]);
    Ok(())
}
