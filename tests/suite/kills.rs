//! Does every bookmark survive SIGKILL, exactly, under a writer that never pauses?
//!
//! The master has two halves. `busy` belongs to a writer that never pauses: it only appends known bytes to files, makes
//! new files and renames finished ones, so what may stand there at a bookmark lies between what it had done before the
//! bookmark was asked for and what it had done when the answer came. `steady` is changed at random between bookmarks
//! and right after them, and has a kept copy of each: there the comparison is full. Projections vanish in half of the
//! kills. A read of a bookmark before the kill and one after it have to be equal in both halves.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tests::chaos::Chaos;
use tests::compare::assert_same;
use tests::daemon::{World, seed, size};
use tests::keep::Keeper;

/// Records of a busy file before the next is begun.
const RECORDS: u64 = 40;

/// Bytes number `n` of every busy file.
fn record(file: u64, n: u64) -> Vec<u8> {
    format!("file {file:08} record {n:08} {}\n", "x".repeat((file * 7 + n * 13) as usize % 900)).into_bytes()
}

fn whole(file: u64) -> Vec<u8> {
    (0..RECORDS).flat_map(|n| record(file, n)).collect()
}

/// Appends, creates and renames until it is told to end.
struct Writer {
    done: Arc<AtomicU64>,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    fn start(busy: &Path) -> Writer {
        let (done, end) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (counter, stop, busy) = (Arc::clone(&done), Arc::clone(&end), busy.to_owned());
        let thread = std::thread::spawn(move || {
            for file in 0.. {
                let path = busy.join(format!("open-{file}"));
                let mut open = File::create(&path).unwrap();
                for n in 0..RECORDS {
                    open.write_all(&record(file, n)).unwrap();
                    counter.fetch_add(1, Ordering::SeqCst);
                    // A loop without a breath would fill the disk, not find more.
                    std::thread::sleep(Duration::from_micros(700));
                }
                fs::rename(path, busy.join(format!("done-{file}"))).unwrap();
                if stop.load(Ordering::SeqCst) {
                    return;
                }
            }
        });
        Writer { done, end, thread: Some(thread) }
    }

    fn done(&self) -> u64 {
        self.done.load(Ordering::SeqCst)
    }

    fn end(mut self) {
        self.end.store(true, Ordering::SeqCst);
        self.thread.take().unwrap().join().unwrap();
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.end.store(true, Ordering::SeqCst);
    }
}

/// What is known of a bookmark.
struct Known {
    name: String,
    /// Records of the writer before it was asked for, and after it was set.
    records: (u64, u64),
    /// The steady half.
    kept: PathBuf,
}

/// Checks one read of the busy half: every file a prefix of what the writer wrote, within the bounds.
fn check_busy(busy: &Path, known: &Known) {
    let mut seen = std::collections::BTreeMap::new();
    for entry in fs::read_dir(busy).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let (_, file) = name.split_once('-').unwrap();
        let file: u64 = file.parse().unwrap();
        let (bytes, expected) = (fs::read(entry.path()).unwrap(), whole(file));
        assert!(expected.starts_with(&bytes), "{}: {name} is not a prefix", known.name);
        assert!(!name.starts_with("done") || bytes.len() == expected.len(), "{}: {name} is cut", known.name);
        assert!(seen.insert(file, bytes.len()).is_none(), "{}: two names of file {file}", known.name);
    }
    let (least, most) = known.records;
    for file in 0..least.div_ceil(RECORDS) {
        let needed = (least - file * RECORDS).min(RECORDS);
        let needed: usize = (0..needed).map(|n| record(file, n).len()).sum();
        let found = seen.get(&file).copied();
        assert!(
            found.is_some_and(|found| found >= needed),
            "{}: file {file}: {found:?} of {needed}",
            known.name
        );
    }
    // One more record may have been on its way.
    let newest = seen.keys().last().copied().unwrap_or(0);
    assert!(newest <= (most + 1) / RECORDS + 1, "{}: file {newest} was not there yet", known.name);
}

fn check(world: &World, known: &Known, name: &str) -> PathBuf {
    let read = world.read_at(&known.name, name);
    assert_same(&read.join("steady"), &known.kept, &known.name);
    check_busy(&read.join("busy"), known);
    read
}

#[test]
fn bookmarks_survive_kills_under_a_writer() {
    let seed = seed("bookmarks_survive_kills_under_a_writer");
    let mut world = World::new();
    let (steady, busy) = (world.master().join("steady"), world.master().join("busy"));
    fs::create_dir_all(&steady).unwrap();
    fs::create_dir_all(&busy).unwrap();
    let mut chaos = Chaos::new(&steady, seed);
    chaos.change(150);
    let writer = Writer::start(&busy);
    world.protect();
    let mut keeper = Keeper::new(&steady);
    let mut marks: Vec<Known> = Vec::new();
    for round in 0..size(8_u64, 55) {
        chaos.change(30);
        let kept = world.path(&format!("kept-{round}"));
        keeper.keep(&kept);
        let name = format!("mark-{round}");
        let least = writer.done();
        world.ok(&format!("bookmark set docs {name}"));
        world.flush();
        let known = Known { name, records: (least, writer.done()), kept };
        let before = (round % 4 == 1).then(|| check(&world, &known, &format!("before-{round}")));
        marks.push(known);
        chaos.change(25);
        std::thread::sleep(Duration::from_millis(chaos.rng().below(250)));
        kill_and_restart(&mut world, &mut chaos, round);
        world.wait_replicating();
        let known = marks.last().unwrap();
        let after = check(&world, known, &format!("after-{round}"));
        if let Some(before) = before {
            assert_same(&before, &after, "a bookmark before and after the kill");
            fs::remove_dir_all(before).unwrap();
        }
        fs::remove_dir_all(after).unwrap();
    }
    writer.end();
    chaos.change(20);
    world.flush();
    assert_same(&world.master(), &world.replica(), "after the last restart");
    for known in &marks {
        let read = check(&world, known, "at-the-end");
        fs::remove_dir_all(read).unwrap();
    }
    world.ok("journal verify docs");
}

/// Kills the daemon, some rounds once more while it recovers, and changes the master while it is down.
fn kill_and_restart(world: &mut World, chaos: &mut Chaos, round: u64) {
    world.kill();
    if round % 2 == 1 {
        fs::remove_dir_all(world.path("data/projections")).unwrap();
    }
    chaos.change(10);
    world.start();
    if round % 3 == 2 {
        std::thread::sleep(Duration::from_millis(chaos.rng().below(150)));
        world.kill();
        world.start();
    }
}
