//! Change to apply: 500 files of 4 KiB are rewritten a second in a tree of 80,000, and each is waited for in the
//! replica directory itself, which a second thread reads. So the figure is what a person would see, some
//! milliseconds of looking included.

use crate::daemon::Daemon;
use crate::{report, tree};
use anyhow::Context;
use parking_lot::Mutex;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const CHANGES_PER_SECOND: u32 = 500;
const ROUND: Duration = Duration::from_secs(10);
/// Files that are rewritten in turn: none comes round again within the time that counts.
const FILES: usize = 2_500;
/// Between two looks at the replica.
const LOOK_EVERY: Duration = Duration::from_millis(3);
/// After this long without progress something is wrong.
const PATIENCE: Duration = Duration::from_secs(30);
/// Most seconds of the slowest but one in a hundred.
const BOUND_SECONDS: f64 = 0.5;

/// A change that was not seen yet.
struct Change {
    file: PathBuf,
    number: u64,
    made: Instant,
}

/// Rewrites files at an even pace.
fn write(master: &Path, files: &[&PathBuf], first: u64, waiting: &Mutex<Vec<Change>>) -> anyhow::Result<u64> {
    let start = Instant::now();
    let count = u64::from(CHANGES_PER_SECOND) * ROUND.as_secs();
    for (number, file) in (first..first + count).zip(files.iter().cycle()) {
        let due = start + Duration::from_secs(number - first) / CHANGES_PER_SECOND;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let mut block = vec![b'.'; 4096];
        for (to, from) in block.iter_mut().zip(number.to_le_bytes()) {
            *to = from;
        }
        let path = master.join(file);
        File::create(&path).and_then(|mut to| to.write_all(&block)).context("change a file")?;
        waiting.lock().push(Change { file: (*file).clone(), number, made: Instant::now() });
    }
    let took = start.elapsed();
    anyhow::ensure!(took < ROUND * 11 / 10, "the writer was too slow: {took:?}");
    Ok(first + count)
}

/// Number at the head of a file; `None` while there is none.
fn number_in(path: &Path) -> Option<u64> {
    let mut head = [0; 8];
    let file = File::open(path).ok()?;
    file.read_exact_at(&mut head, 0).ok()?;
    Some(u64::from_le_bytes(head))
}

/// Looks until the writer has ended and everything was seen; gives the age of each change when it was.
fn watch(replica: &Path, waiting: &Mutex<Vec<Change>>, ended: &AtomicBool) -> anyhow::Result<Vec<f64>> {
    let mut ages = Vec::new();
    let mut open: Vec<Change> = Vec::new();
    let mut progress = Instant::now();
    loop {
        let writer_ended = ended.load(Ordering::Acquire);
        open.append(&mut waiting.lock());
        let before = open.len();
        open.retain(|change| {
            // A file that was left over from earlier and is text reads as some other number, never as a later one's.
            let seen = number_in(&replica.join(&change.file)) == Some(change.number);
            if seen {
                ages.push(change.made.elapsed().as_secs_f64());
            }
            !seen
        });
        if open.len() < before || open.is_empty() {
            progress = Instant::now();
        }
        if writer_ended && open.is_empty() {
            return Ok(ages);
        }
        anyhow::ensure!(progress.elapsed() < PATIENCE, "{} changes do not arrive", open.len());
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Runs it.
///
/// # Errors
/// If a program fails, or a change does not arrive.
pub fn run() -> anyhow::Result<()> {
    let scratch = tree::scratch()?;
    let master = scratch.path().join("master");
    tree::copy(&tree::linux()?, &master)?;
    let files = tree::files(&master)?;
    let files = tree::pick(&files, FILES, 0);
    let daemon = Daemon::start(&scratch.path().join("data"))?;
    daemon.protect(&master)?;
    let replica = daemon.replica();
    let (mut middle, mut slow) = (Vec::new(), Vec::new());
    let mut number = 1;
    for _ in 0..report::ROUNDS {
        let (waiting, ended) = (Mutex::new(Vec::new()), AtomicBool::new(false));
        let (written, ages) = std::thread::scope(|scope| {
            let watcher = scope.spawn(|| watch(&replica, &waiting, &ended));
            let written = write(&master, &files, number, &waiting);
            ended.store(true, Ordering::Release);
            (written, watcher.join())
        });
        number = written?;
        let ages = ages.map_err(|_| anyhow::anyhow!("the watcher panicked"))??;
        middle.push(report::quantile(&ages, 0.5));
        slow.push(report::quantile(&ages, 0.99));
        daemon.run(&["flush", "bench"])?;
    }
    daemon.stop()?.print();
    report::line(&format!("change to apply, p50, {CHANGES_PER_SECOND} files a second"), &middle);
    report::line("change to apply, p99", &slow);
    report::ratio("p99 / 500 ms", report::median(&slow) / BOUND_SECONDS, "below 1");
    Ok(())
}
