//! Rot under a whole replica: is every changed bit and every missing end of any file of a journal said, or harmless?
//!
//! A small journal with all that a journal has: sealed and live segments of both streams, a manifest, a checkpoint, a
//! moved horizon, removed files, a rewind, a bookmark, a pin. Each byte of each file is changed, and each file is cut at
//! each length; then the replica is opened, with the tables it had and with none. Either an error names the file, or
//! every promised point reads exactly, and so does the tree. `log_damage` asks the same of the streams alone.
//!
//! Twice: of a journal that was closed, where all must be noticed, and of one whose power went, where what nobody else
//! knows of may be taken for a torn tail, and nothing more.
//!
//! `REWIND_LONG=1` flips every bit of every byte, with tables and without, and compares every point each time; else one
//! bit, with or without, and two points, others each time; after a power cut each third byte.

use journal::controls::Controls;
use journal::log::{LogOptions, verify};
use journal::tables::MemoryTables;
use journal::{Class, ErrorKind, JournalError, Lsn, RootNo, Timestamp};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tests::canonical::{Canonical, assert_equal, dump};
use tests::lab::{Lab, canonical_view, copy_of};
use tests::model::{Generator, Options};
use tests::rng::Rng;
use tests::sim_disk::{Cut, SimDisk};
use tests::sim_tree::{DataChoice, Fate, SimTree};

const ROOT: RootNo = RootNo(0);
/// Bytes of a commit frame.
const NOTE_BYTES: usize = 104;
/// Of what a power cut left, so many bytes lie between two tries.
const STEP: usize = 3;
/// Each ground is tried by so many threads.
const THREADS: usize = 2;

fn segments() -> LogOptions {
    LogOptions { segment_bytes_max: 2 << 10, ..LogOptions::default() }
}

fn long() -> bool {
    std::env::var_os("REWIND_LONG").is_some()
}

/// A replica that stands still, and all that is true of it.
struct Ground {
    disk: SimDisk,
    tree: Arc<SimTree>,
    tables: Arc<MemoryTables>,
    /// Every promised point.
    points: Vec<(Lsn, Canonical)>,
    /// What the tree held.
    applied: Lsn,
    journaled: Lsn,
    /// Captures that were journaled and not applied: the newest of them may be a torn tail.
    unapplied: u64,
    bookmarks: usize,
}

/// Waits until nobody writes.
fn rests(disk: &SimDisk) {
    let mut seen = None;
    while seen != Some(disk.operations()) {
        seen = Some(disk.operations());
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

/// A whole life in a few KiB. `unapplied`: so many captures are only journaled in the end.
fn ground(closed: bool, unapplied: u64) -> Ground {
    let options = Options {
        names_max: 5,
        file_bytes_max: 60,
        write_bytes_max: 40,
        revive: false,
        steps_max: 2,
        ..Options::default()
    };
    let mut generator = Generator::new(7, options);
    let mut lab =
        Lab::open_with(SimDisk::new(), Arc::new(SimTree::new(1)), Arc::default(), segments()).expect("open");
    lab.synchronized(&mut generator);
    let mut points = BTreeMap::new();
    let mut some = |lab: &mut Lab, generator: &mut Generator, count: usize| {
        for _ in 0..count {
            let placed = lab.journal_them(&[generator.next()]).expect("journal");
            lab.apply(&placed).unwrap_or_else(|error| panic!("{error:?}"));
            let lsn = lab.journal.applied();
            points.insert(lsn, generator.model.canonical(ROOT));
        }
    };
    some(&mut lab, &mut generator, 14);
    lab.move_cursor().expect("cursor");
    lab.retain(5 << 10).expect("retention");
    some(&mut lab, &mut generator, 3);
    let here = lab.journal.applied();
    lab.journal.pin(here, "test").expect("pin");
    lab.journal.set_bookmark("mark", here, Class::Fuzzy, false, Timestamp(5)).expect("bookmark");
    lab.rewind(Lsn::captured(here.captured - 2));
    let branch = lab.journal.applied();
    let on_branch = lab.canonical(branch);
    lab.rewind(here);
    lab.move_cursor().expect("cursor");
    some(&mut lab, &mut generator, 3);
    points.insert(branch, on_branch);
    let applied = lab.journal.applied();
    for _ in 0..unapplied {
        lab.journal_them(&[generator.next()]).expect("journal");
        // Its writer leaves word of how far it is when nothing waits: without, two batches may go unnoticed.
        rests(&lab.disk);
    }
    let journaled = lab.journal.journaled();
    let oldest = lab.journal.window().0;
    assert!(oldest > Lsn::captured(1), "retention gave nothing up");
    assert_eq!(lab.journal.set().files().len(), 1, "there is no checkpoint");
    points.retain(|lsn, _| *lsn >= oldest);
    let bookmarks = lab.journal.controls().bookmarks.len();
    let cut = |lab: &Lab| (lab.disk.crash(Cut::Everything, &mut Rng::new(0)), copy_of(&lab.tables));
    let (disk, tables, tree) = if closed {
        lab.journal.save_controls().expect("controls");
        let (disk, tree, tables) = lab.stop();
        (disk.crash(Cut::Everything, &mut Rng::new(0)), tables, tree)
    } else {
        let (disk, tables) = cut(&lab);
        (disk, tables, Arc::clone(&lab.tree))
    };
    let points = points.into_iter().collect();
    Ground { disk, tree, tables, points, applied, journaled, unapplied, bookmarks }
}

fn copy_of_tree(tree: &SimTree) -> SimTree {
    tree.crash_at(tree.pending().metadata, &DataChoice::All(Fate::Kept))
}

/// What became of a changed byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// An error that names the file, at once or when what it holds was read.
    Said,
    /// Everything is as it was.
    Harmless,
    /// Everything that was applied is as it was; of what was not the newest batch is gone.
    TailCut,
}

/// An error must say where.
fn assert_names(error: &JournalError, path: &Path, context: &str) {
    let named = match error {
        JournalError::Damaged { path, .. } | JournalError::NewerVersion { path, .. } => path,
        other => panic!("{context}: {other:?} names no file"),
    };
    assert_eq!(named, path, "{context}: {error}");
    assert_eq!(error.kind(), ErrorKind::Damaged, "{context}");
}

impl Ground {
    /// Opens the replica on a damaged disk and looks at everything. `turn` chooses the points that are compared.
    fn outcome(&self, disk: &SimDisk, kept: bool, path: &Path, turn: usize, context: &str) -> Outcome {
        let tables = if kept { copy_of(&self.tables) } else { Arc::default() };
        let tree = Arc::new(copy_of_tree(&self.tree));
        let lab = match Lab::open_with(disk.clone(), Arc::clone(&tree), tables, segments()) {
            Ok(lab) => lab,
            Err(error) => {
                assert_names(&error, path, context);
                return Outcome::Said;
            }
        };
        let (journaled, applied) = (lab.journal.journaled(), lab.journal.applied());
        assert!(journaled <= self.journaled, "{context}: {journaled} was never journaled");
        assert_eq!(applied, self.applied, "{context}: what the tree holds");
        let lost = self.journaled.captured - journaled.captured;
        assert!(lost <= self.unapplied.min(1), "{context}: {lost} acknowledged captures are gone");
        assert_eq!(lab.journal.controls().bookmarks.len(), self.bookmarks, "{context}");
        assert_eq!(lab.journal.with_controls(Controls::horizon), self.points[0].0, "{context}");
        let mut said = false;
        let each = if long() { 1 } else { self.points.len() / 2 };
        let chosen =
            self.points.iter().enumerate().filter(|(number, _)| (number + turn).is_multiple_of(each));
        for (_, (lsn, expected)) in chosen {
            match canonical_view(&lab.view(*lsn), ROOT) {
                Ok(found) => {
                    assert_equal(expected, &found, &format!("{context}: view at {lsn}"));
                }
                Err(error) => {
                    assert_names(&error, path, context);
                    said = true;
                }
            }
        }
        let newest = &self.points.last().expect("points").1;
        let found = dump(&*lab.tree, ROOT).expect("dump");
        assert_equal(newest, &found, &format!("{context}: tree"));
        match (said, lost) {
            (true, _) => Outcome::Said,
            (false, 0) => Outcome::Harmless,
            (false, _) => Outcome::TailCut,
        }
    }

    /// Opens it without tables and reads what it takes for points: it may fail, and must do nothing worse.
    fn survives(&self, disk: &SimDisk) {
        let tree = Arc::new(copy_of_tree(&self.tree));
        let disk = disk.crash(Cut::Everything, &mut Rng::new(0));
        if let Ok(lab) = Lab::open_with(disk, tree, Arc::default(), segments()) {
            assert!(lab.journal.applied() <= self.applied);
            for (lsn, _) in self.points.iter().filter(|(lsn, _)| *lsn <= lab.journal.applied()).take(2) {
                drop(canonical_view(&lab.view(*lsn), ROOT));
            }
        }
    }

    /// Whether it is the manifest or the newest segment of a stream.
    fn is_live(&self, path: &Path) -> bool {
        let same_kind = |other: &&PathBuf| other.extension() == path.extension();
        self.disk.paths().iter().rfind(same_kind).is_some_and(|newest| newest == path)
    }

    fn files(&self) -> Vec<(PathBuf, usize)> {
        let length = |path: &PathBuf| self.disk.contents(path).expect("there").len();
        self.disk.paths().into_iter().map(|path| (path.clone(), length(&path))).collect()
    }

    fn copy(&self) -> SimDisk {
        self.disk.crash(Cut::Everything, &mut Rng::new(0))
    }
}

fn is_sound(disk: &SimDisk) -> bool {
    verify(disk, Path::new("/j"), &mut |_| {}).is_ok_and(|report| report.is_sound())
}

/// What is done to a copy of the disk at an offset of a file: each damaged disk, and in words.
type Damage<'a> = &'a (dyn Fn(&SimDisk, &Path, usize) -> Vec<(SimDisk, String)> + Sync);

/// How often there was which outcome, with tables kept or not.
type Counts = BTreeMap<(bool, Outcome), u64>;

/// Damage by damage, what became of it.
fn tried(ground: &Ground, closed: bool, damage: Damage<'_>) {
    for kept in [true, false] {
        assert_eq!(ground.outcome(&ground.copy(), kept, Path::new(""), 0, "untouched"), Outcome::Harmless);
    }
    let mut places = Vec::new();
    // What is sealed is as after a closing, and so is its damage.
    let is_tried = |path: &Path| closed || long() || ground.is_live(path);
    for (path, length) in ground.files().into_iter().filter(|(path, _)| is_tried(path)) {
        // Most lengths of a live file end at the same commit.
        let step = if closed || long() { 1 } else { STEP };
        places
            .extend((0..length).step_by(step).enumerate().map(|(turn, at)| (path.clone(), length, turn, at)));
    }
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut counts = Counts::new();
        while let Some((path, length, turn, offset)) = places.get(next.fetch_add(1, Ordering::Relaxed)) {
            one_place(ground, closed, damage, (path, *length, *turn, *offset), &mut counts);
        }
        counts
    };
    let mut counts = Counts::new();
    std::thread::scope(|scope| {
        for worker in [(); THREADS].map(|()| scope.spawn(worker)) {
            let found = worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            found.into_iter().for_each(|(outcome, count)| *counts.entry(outcome).or_default() += count);
        }
    });
    println!("{} files, outcomes (tables kept, outcome): {counts:?}", ground.files().len());
}

/// One byte of one file, or one length.
fn one_place(
    ground: &Ground,
    closed: bool,
    damage: Damage<'_>,
    (path, length, turn, offset): (&Path, usize, usize, usize),
    counts: &mut Counts,
) {
    let is_a = |kind: &str| path.extension().is_some_and(|extension| extension == kind);
    for (disk, what) in damage(&ground.disk, path, offset) {
        let context = format!("{} {what} at {offset}", path.display());
        // Not even `verify` can tell in the word an idle writer leaves at the very end: it holds no record.
        let note = offset + NOTE_BYTES >= length && is_a("seg");
        if closed && !note {
            assert!(!is_sound(&disk), "{context}: verify finds nothing");
        }
        for kept in [true, false] {
            if !long() && kept == turn.is_multiple_of(2) {
                continue;
            }
            if !closed && !kept && ground.is_live(path) && is_a("undo") {
                // With the tables everything is gone that knew of the last undo.
                ground.survives(&disk);
                continue;
            }
            let context = format!("{context}, tables {}", if kept { "kept" } else { "gone" });
            let again = disk.crash(Cut::Everything, &mut Rng::new(0));
            let outcome = ground.outcome(&again, kept, path, offset, &context);
            assert!(!closed || outcome != Outcome::TailCut, "{context}");
            *counts.entry((kept, outcome)).or_default() += 1;
        }
    }
}

fn flips(ground: &Ground, closed: bool) {
    tried(ground, closed, &|disk, path, offset| {
        let bits: Vec<u8> = if long() { (0..8).collect() } else { vec![(offset % 8) as u8] };
        let flipped = bits.into_iter().map(|bit| {
            let damaged = disk.crash(Cut::Everything, &mut Rng::new(0));
            damaged.damage(path, |bytes| bytes[offset] ^= 1 << bit);
            (damaged, format!("bit {bit} changed"))
        });
        flipped.collect()
    });
}

fn truncations(ground: &Ground, closed: bool) {
    tried(ground, closed, &|disk, path, offset| {
        let damaged = disk.crash(Cut::Everything, &mut Rng::new(0));
        damaged.damage(path, |bytes| bytes.truncate(offset));
        vec![(damaged, "cut".to_owned())]
    });
}

#[test]
fn every_flipped_bit_of_a_closed_replica_is_said_or_harmless() {
    flips(&ground(true, 0), true);
}

#[test]
fn every_truncation_of_a_closed_replica_is_said_or_harmless() {
    truncations(&ground(true, 0), true);
}

#[test]
fn rot_after_a_power_cut_costs_nothing_that_was_applied() {
    for unapplied in [0, 2] {
        flips(&ground(false, unapplied), false);
    }
}

#[test]
fn truncations_after_a_power_cut_cost_nothing_that_was_applied() {
    for unapplied in [0, 2] {
        truncations(&ground(false, unapplied), false);
    }
}
