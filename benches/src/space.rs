//! Bytes of journal for each byte changed, where a database would change its pages.
//!
//! Pages of 8 KiB hold rows of text; an update changes one row of a page and the page's head and writes the whole page, as
//! a database does. Pages of a checkpoint are written together. What counts as changed is what was written: whole pages.

use crate::daemon::Daemon;
use crate::fed::Numbers;
use crate::run;
use anyhow::Context;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const PAGE: usize = 8192;
const PAGES: u64 = 4096;
const ROW: usize = 128;
const UPDATES: usize = 20_000;
/// Updates between two checkpoints.
const TOGETHER: usize = 500;

/// A row as people have them: some words and numbers.
fn row(numbers: &mut Numbers) -> Vec<u8> {
    const WORDS: [&str; 8] = ["alpha", "street", "invoice", "paid", "open", "customer", "berlin", "note"];
    let mut row = Vec::with_capacity(ROW);
    while row.len() < ROW {
        let number = numbers.next();
        let word = WORDS.get(number as usize % WORDS.len()).copied().unwrap_or_default();
        drop(write!(row, "{word} {} ", number >> 44));
    }
    row.truncate(ROW);
    row
}

fn size_of(directory: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(directory)? {
        bytes += entry?.metadata()?.len();
    }
    Ok(bytes)
}

/// The journal of the one scenario of a daemon.
///
/// # Errors
/// If there is none.
pub fn journal_of(data: &Path) -> anyhow::Result<PathBuf> {
    std::fs::read_dir(data.join("journal"))?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.is_dir() && !path.ends_with("server"))
        .context("find the journal")
}

/// Runs it.
///
/// # Errors
/// If something fails.
pub fn run() -> anyhow::Result<()> {
    let scratch = crate::tree::scratch()?;
    let (master, data) = (scratch.path().join("master"), scratch.path().join("data"));
    std::fs::create_dir_all(&master)?;
    let mut numbers = Numbers::new(5);
    let mut pages: Vec<Vec<u8>> =
        (0..PAGES).map(|_| (0..PAGE / ROW).flat_map(|_| row(&mut numbers)).collect()).collect();
    let file = std::fs::File::create(master.join("table"))?;
    pages.iter().zip(0_u64..).try_for_each(|(page, at)| file.write_all_at(page, at * PAGE as u64))?;
    let daemon = Daemon::start(&data)?;
    daemon.protect(&master)?;
    daemon.run(&["flush", "bench"])?;
    let journal = journal_of(&data)?;
    let before = size_of(&journal)?;
    let mut written = 0_u64;
    for update in 0..UPDATES {
        let at = numbers.next() % PAGES;
        let page = pages.get_mut(at as usize).context("find a page")?;
        let from = numbers.next() as usize % (PAGE / ROW - 1) * ROW + ROW;
        let changed = row(&mut numbers);
        page.get_mut(from..from + ROW).context("find a row")?.copy_from_slice(&changed);
        page.get_mut(..8).context("find the head")?.copy_from_slice(&update.to_le_bytes());
        file.write_all_at(page, at * PAGE as u64)?;
        written += PAGE as u64;
        if update % TOGETHER == TOGETHER - 1 {
            file.sync_data()?;
            daemon.run(&["flush", "bench"])?;
        }
    }
    daemon.run(&["flush", "bench"])?;
    let grown = size_of(&journal)?.saturating_sub(before);
    run::must_equal(&master, &daemon.replica(), true)?;
    println!("  {UPDATES} updates of pages of {PAGE} bytes: {} MB written", written / 1_000_000);
    println!("  the journal grew by {} MB", grown / 1_000_000);
    crate::report::ratio("bytes of journal / bytes written", grown as f64 / written as f64, "under 0.5");
    Ok(())
}
