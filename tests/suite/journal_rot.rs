//! Rot under a whole replica: is every changed bit and every missing end of any file of a journal said, or harmless?
//!
//! A small journal with all that a journal has: sealed and live segments of both streams, a manifest, a checkpoint, a
//! moved horizon, removed files, a rewind, a bookmark, a pin. Each byte of each file is changed, and each file is cut at
//! each length; then the replica is opened, with the tables it had and with none. Either an error names the file, or
//! every promised point reads exactly, and so does the tree. `log_damage` asks the same of the streams alone.
//!
//! Twice: of a journal that was closed, where all must be noticed, and of one whose power went, where what nobody else
//! knows of may be taken for a torn tail, and nothing more: of a changed bit the newest batch, of a cut what it took off
//! the live segment and was not applied.
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
use std::time::{Duration, Instant};
use tests::canonical::{Canonical, assert_equal, dump};
use tests::lab::{Lab, canonical_view, copy_of};
use tests::model::{Generator, Options};
use tests::rng::Rng;
use tests::sim_disk::{Cut, SimDisk};
use tests::sim_tree::{DataChoice, Fate, SimTree};

const ROOT: RootNo = RootNo(0);
/// Bytes of a commit frame.
const NOTE_BYTES: usize = 104;
/// Bytes of the header of a segment.
const HEADER_BYTES: usize = 128;
/// How long an idle writer is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
/// Of what a power cut left, so many bytes lie between two tries.
const STEP: usize = 3;
/// Each ground is tried by so many threads.
const THREADS: usize = 2;

fn segments(bytes_max: u64) -> LogOptions {
    LogOptions { segment_bytes_max: bytes_max, ..LogOptions::default() }
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
    /// Of each capture that was journaled and not applied the segment its batch lies in, and where it ends there.
    unapplied: Vec<(PathBuf, usize)>,
    bookmarks: usize,
    /// Greatest length of a segment.
    segment_bytes_max: u64,
}

/// The newest segment of redo.
fn live(disk: &SimDisk) -> (PathBuf, Vec<u8>) {
    let newest = disk.paths().into_iter().rfind(|path| path.extension().is_some_and(|kind| kind == "seg"));
    let path = newest.expect("a segment");
    let bytes = disk.contents(&path).expect("there");
    (path, bytes)
}

/// Waits until the writer of redo has left word of how far it is, as it does when nothing waits: a commit frame of no
/// records, or a segment of its own for what comes next. Where the batches lie then is the same in every life.
fn rests(disk: &SimDisk) {
    let deadline = Instant::now() + PATIENCE;
    let vouched = |bytes: &[u8]| {
        bytes.len() <= HEADER_BYTES
            || bytes
                .last_chunk::<NOTE_BYTES>()
                .is_some_and(|frame| frame.starts_with(b"RWF1\x02") && frame.ends_with(&[0; 8]))
    };
    while !vouched(&live(disk).1) {
        assert!(Instant::now() < deadline, "an idle writer leaves no word of how far it is");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A whole life in a few KiB. `count`: so many captures are only journaled in the end.
fn ground(closed: bool, count: usize, segment_bytes_max: u64) -> Ground {
    let options = Options {
        names_max: 5,
        file_bytes_max: 60,
        write_bytes_max: 40,
        revive: false,
        steps_max: 2,
        ..Options::default()
    };
    let mut generator = Generator::new(7, options);
    let mut lab = Lab::open_with(
        SimDisk::new(),
        Arc::new(SimTree::new(1)),
        Arc::default(),
        segments(segment_bytes_max),
    )
    .expect("open");
    lab.synchronized(&mut generator);
    rests(&lab.disk);
    let mut points = BTreeMap::new();
    let mut some = |lab: &mut Lab, generator: &mut Generator, count: usize| {
        for _ in 0..count {
            let placed = lab.journal_them(&[generator.next()]).expect("journal");
            rests(&lab.disk);
            lab.apply(&placed).unwrap_or_else(|error| panic!("{error:?}"));
            let lsn = lab.journal.applied();
            points.insert(lsn, generator.model.canonical(ROOT));
        }
    };
    some(&mut lab, &mut generator, 14);
    let step = |lab: &mut Lab, run: &mut dyn FnMut(&mut Lab)| {
        run(lab);
        rests(&lab.disk);
    };
    step(&mut lab, &mut |lab| lab.move_cursor().expect("cursor"));
    step(&mut lab, &mut |lab| assert!(lab.retain(5 << 10).expect("retention").horizon > Lsn::ZERO));
    some(&mut lab, &mut generator, 3);
    let here = lab.journal.applied();
    step(&mut lab, &mut |lab| assert_eq!(lab.journal.pin(here, "test").expect("pin"), 0));
    step(&mut lab, &mut |lab| {
        lab.journal.set_bookmark("mark", here, Class::Fuzzy, false, Timestamp(5)).expect("bookmark");
    });
    step(&mut lab, &mut |lab| assert!(lab.rewind(Lsn::captured(here.captured - 2)) > 0));
    let branch = lab.journal.applied();
    let on_branch = lab.canonical(branch);
    step(&mut lab, &mut |lab| assert!(lab.rewind(here) > 0));
    step(&mut lab, &mut |lab| lab.move_cursor().expect("cursor"));
    some(&mut lab, &mut generator, 3);
    points.insert(branch, on_branch);
    let applied = lab.journal.applied();
    let mut unapplied = Vec::new();
    for _ in 0..count {
        let (path, before) = live(&lab.disk);
        lab.journal_them(&[generator.next()]).expect("journal");
        rests(&lab.disk);
        // To the byte it does not matter: what is cut to less than it was has lost the batch.
        unapplied.push((path.clone(), lab.disk.contents(&path).expect("there").len() - NOTE_BYTES));
        assert!(unapplied.last().is_some_and(|(_, end)| *end > before.len()));
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
    Ground { disk, tree, tables, points, applied, journaled, unapplied, bookmarks, segment_bytes_max }
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
    /// Opens the replica on a damaged disk and looks at everything. `turn` chooses the points that are compared;
    /// `may_lose`: so many captures that were not applied may be taken for torn.
    fn outcome(
        &self,
        disk: &SimDisk,
        kept: bool,
        path: &Path,
        (turn, may_lose): (usize, u64),
        context: &str,
    ) -> Outcome {
        let tables = if kept { copy_of(&self.tables) } else { Arc::default() };
        let tree = Arc::new(copy_of_tree(&self.tree));
        let lab =
            match Lab::open_with(disk.clone(), Arc::clone(&tree), tables, segments(self.segment_bytes_max)) {
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
        assert!(lost <= may_lose, "{context}: {lost} acknowledged captures are gone");
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
        if let Ok(lab) = Lab::open_with(disk, tree, Arc::default(), segments(self.segment_bytes_max)) {
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

/// What is done to a copy of the disk at an offset of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Damage {
    Flip,
    Cut,
}

impl Damage {
    /// Each damaged disk, and in words.
    fn done(self, disk: &SimDisk, path: &Path, offset: usize) -> Vec<(SimDisk, String)> {
        let damaged = |change: &dyn Fn(&mut Vec<u8>), what: String| {
            let damaged = disk.crash(Cut::Everything, &mut Rng::new(0));
            damaged.damage(path, |bytes| change(bytes));
            (damaged, what)
        };
        match self {
            Damage::Flip => {
                let bits: Vec<u8> = if long() { (0..8).collect() } else { vec![(offset % 8) as u8] };
                let flip = |bit| damaged(&|bytes| bytes[offset] ^= 1_u8 << bit, format!("bit {bit} changed"));
                bits.into_iter().map(flip).collect()
            }
            Damage::Cut => vec![damaged(&|bytes| bytes.truncate(offset), "cut".to_owned())],
        }
    }

    /// So many captures that were acknowledged, and not applied, may look as if they were torn. Behind a changed bit
    /// there are frames that vouch for what is in front of them; behind a cut there is nothing.
    fn may_lose(self, ground: &Ground, path: &Path, offset: usize) -> u64 {
        let torn = |(segment, end): &&(PathBuf, usize)| segment == path && offset < *end;
        let torn = if ground.is_live(path) { ground.unapplied.iter().filter(torn).count() } else { 0 };
        match self {
            Damage::Flip => torn.min(1) as u64,
            Damage::Cut => torn as u64,
        }
    }
}

/// How often there was which outcome, with tables kept or not.
type Counts = BTreeMap<(bool, Outcome), u64>;

/// Damage by damage, what became of it.
fn tried(ground: &Ground, closed: bool, damage: Damage) {
    for kept in [true, false] {
        assert_eq!(
            ground.outcome(&ground.copy(), kept, Path::new(""), (0, 0), "untouched"),
            Outcome::Harmless
        );
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
    damage: Damage,
    (path, length, turn, offset): (&Path, usize, usize, usize),
    counts: &mut Counts,
) {
    let is_a = |kind: &str| path.extension().is_some_and(|extension| extension == kind);
    for (disk, what) in damage.done(&ground.disk, path, offset) {
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
            let allowed = (offset, damage.may_lose(ground, path, offset));
            let outcome = ground.outcome(&again, kept, path, allowed, &context);
            assert!(!closed || outcome != Outcome::TailCut, "{context}");
            *counts.entry((kept, outcome)).or_default() += 1;
        }
    }
}

#[test]
fn every_flipped_bit_of_a_closed_replica_is_said_or_harmless() {
    tried(&ground(true, 0, 2 << 10), true, Damage::Flip);
}

#[test]
fn every_truncation_of_a_closed_replica_is_said_or_harmless() {
    tried(&ground(true, 0, 2 << 10), true, Damage::Cut);
}

/// Where nothing is unapplied, and where two captures are: one of them or both in the live segment.
fn grounds_of_a_power_cut() -> [Ground; 3] {
    let grounds = [(0, 2 << 10), (2, 2304), (2, 3 << 10)].map(|(count, bytes)| ground(false, count, bytes));
    let live = |ground: &Ground| ground.unapplied.iter().filter(|(path, _)| ground.is_live(path)).count();
    println!("unapplied captures in the live segment: {:?}", grounds.each_ref().map(live));
    assert_eq!(
        grounds.each_ref().map(live),
        [0, 1, 2],
        "they lie elsewhere now: other lengths of segments are needed"
    );
    grounds
}

#[test]
fn rot_after_a_power_cut_costs_nothing_that_was_applied() {
    grounds_of_a_power_cut().iter().for_each(|ground| tried(ground, false, Damage::Flip));
}

#[test]
fn truncations_after_a_power_cut_cost_nothing_that_was_applied() {
    grounds_of_a_power_cut().iter().for_each(|ground| tried(ground, false, Damage::Cut));
}
