//! The benchmarks: `cargo run --release -p benches -- NAME`.
//!
//! A figure means little without another one from the same machine and minute. So each benchmark runs the product and
//! a reference in turn, five times, and prints the median of each and their ratio. It prints and never judges: a
//! bound is shown beside the figure, and a slow machine fails nothing.
//!
//! | name | the product | the reference |
//! | --- | --- | --- |
//! | `append` | journal with group commit | bare writer of the stored bytes, as many fdatasyncs |
//! | `apply` | random 4 KiB writes through journal and apply | `fio`, as many fdatasyncs |
//! | `deep` | ten million events: reading behind them, opening, verifying | reading now; reading the files |
//! | `first-sync` | `scenario run` of a fresh daemon | `rsync -a` and `sync -f` |
//! | `flush` | `flush` after one changed file among 80,000 | `rsync -a` of the same change |
//! | `lag` | change to apply at 500 changed files a second | the bound |
//! | `rewind` | `rewind --to P --yes` of 100 changed files | `rsync -a --delete` from a saved copy |
//! | `rewind-large` | `rewind --to P --yes` of 1 GB of changed data | `cp` and `sync -f` of that data |
//! | `space` | bytes of journal for each byte changed, updates of pages | the bound |
//! | `verify` | verifying the journal of 1 GB of changed data | reading its files |
//! | `tape` | a point, and a session of a repository, to a volume of a drive of files | `tar --format=posix --xattrs` and its sync |
//! | `memory` | the daemon through all of that | the bound |
//! | `catalog` | loading and searching ten million entries | the bound |
//! | `points` | the points of one file among a million | reading all of them |
//! | `find` | a query of the catalog of restic's sessions | `restic find` |
//! | `repository` | chunks, hashes, levels of zstd, packs from two threads | `restic backup` of the same files |
//! | `peers` | first and second backup, restore | restic and borg |
//!
//! `rsync`, `restic`, `borg` and `fio` must be installed. Scratch trees are made below `$TMPDIR`; the tree of 80,000 files is unpacked once below
//! `$REWIND_CORPUS` (by default `corpus` in the temporary directory) and not changed.

mod append;
mod apply;
mod catalog;
mod daemon;
mod deep;
mod fed;
mod find;
mod first_sync;
mod floor;
mod flush;
mod lag;
mod memory;
mod peers;
mod points;
mod report;
mod repository;
mod rewind;
mod rewind_large;
mod run;
mod space;
mod tape;
mod tree;
mod verify;

use anyhow::Context;
use std::process::ExitCode;

type Bench = fn() -> anyhow::Result<()>;

const BENCHES: [(&str, Bench); 17] = [
    ("append", append::run),
    ("apply", apply::run),
    ("deep", deep::run),
    ("first-sync", first_sync::run),
    ("flush", flush::run),
    ("lag", lag::run),
    ("rewind", rewind::run),
    ("rewind-large", rewind_large::run),
    ("space", space::run),
    ("verify", verify::run),
    ("tape", tape::run),
    ("memory", memory::run),
    ("catalog", catalog::run),
    ("points", points::run),
    ("find", find::run),
    ("repository", repository::run),
    ("peers", peers::run),
];

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let all = wanted.iter().any(|name| name == "all");
    let known = |name: &String| BENCHES.iter().any(|(known, _)| known == name);
    if wanted.is_empty() || !(all || wanted.iter().all(known)) {
        let names: Vec<&str> = BENCHES.iter().map(|(name, _)| *name).collect();
        eprintln!("usage: cargo run --release -p benches -- NAME...\nnames: {}, all", names.join(", "));
        return ExitCode::from(2);
    }
    for (name, bench) in BENCHES.iter().filter(|(name, _)| all || wanted.iter().any(|one| one == name)) {
        println!("== {name}");
        if let Err(error) = bench().with_context(|| format!("run the benchmark {name}")) {
            eprintln!("error: {error:#}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
