//! Does a power cut at any moment lose anything that was acknowledged, or any point?
//!
//! Short histories run on a disk and a tree that both lose power after a given operation: every operation is tried.
//! What was written and not synced is then dropped, kept, torn or reordered. The replica is opened again, with the
//! tables it had or without any; every acknowledged capture must be there, every applied point must read exactly, the
//! tree must be what the newest applied point says, and applying must go on to the same end.

use crate::history::seeds;
use journal::{Capture, JournalError, Lsn, RootNo};
use std::sync::Arc;
use tests::canonical::{assert_equal, dump};
use tests::lab::Lab;
use tests::model::{Generator, Options};
use tests::rng::Rng;
use tests::sim_disk::{Cut, SimDisk};
use tests::sim_tree::SimTree;

/// How far a run came before the power went.
struct Run {
    acknowledged: Lsn,
}

/// Journals and applies the captures in batches of `batch`, moving the cursor after every second batch.
fn run(lab: &mut Lab, captures: &[Capture], batch: usize) -> (Run, Result<(), JournalError>) {
    let mut run = Run { acknowledged: Lsn::ZERO };
    for (number, some) in captures.chunks(batch).enumerate() {
        let placed = match lab.journal_them(some) {
            Ok(placed) => placed,
            Err(error) => return (run, Err(error)),
        };
        run.acknowledged = placed.last().map_or(run.acknowledged, |last| last.capture.lsn);
        if let Err(error) = lab.apply(&placed) {
            let (replication::apply::ApplyError::Before(error)
            | replication::apply::ApplyError::Touching(error)) = error;
            return (run, Err(error));
        }
        if number % 2 == 1
            && let Err(error) = lab.move_cursor()
        {
            return (run, Err(error));
        }
    }
    (run, Ok(()))
}

/// Opens what the cut left and checks everything.
fn check(
    disk: SimDisk,
    tree: SimTree,
    tables: Arc<journal::tables::MemoryTables>,
    (captures, generator): (&[Capture], &Generator),
    run: &Run,
    context: &str,
) {
    let mut lab =
        Lab::open(disk, Arc::new(tree), tables).unwrap_or_else(|error| panic!("{context}: {error:?}"));
    let journaled = lab.journal.journaled();
    assert!(journaled >= run.acknowledged, "{context}: {journaled} of {} is there", run.acknowledged);
    let applied = lab.journal.applied();
    let compare = |lab: &Lab, upto: Lsn, when: &str| {
        for lsn in generator.model.lsns().into_iter().filter(|lsn| *lsn <= upto) {
            let expected = generator.model.canonical_at(lsn, RootNo(0));
            assert_equal(&expected, &lab.canonical(lsn), &format!("{context}, {when}, view at {lsn}"));
        }
        let expected = generator.model.canonical_at(upto, RootNo(0));
        assert_equal(
            &expected,
            &dump(&*lab.tree, RootNo(0)).expect("dump"),
            &format!("{context}, {when}, tree"),
        );
    };
    compare(&lab, applied, "after the cut");
    // What was journaled and not applied is applied; what was lost (never acknowledged) is sent again.
    let rest: Vec<_> = lab
        .journal
        .captures(lab.journal.cursor_redo(), applied, Lsn::MAX)
        .collect::<Result<_, _>>()
        .unwrap_or_else(|error| panic!("{context}: {error:?}"));
    lab.apply(&rest).unwrap_or_else(|error| panic!("{context}: go on: {error:?}"));
    let lost: Vec<_> = captures.iter().filter(|capture| capture.lsn > journaled).cloned().collect();
    if !lost.is_empty() {
        let placed = lab.journal_them(&lost).unwrap_or_else(|error| panic!("{context}: again: {error:?}"));
        lab.apply(&placed).unwrap_or_else(|error| panic!("{context}: again: {error:?}"));
    }
    compare(&lab, captures.last().map_or(Lsn::ZERO, |last| last.lsn), "at the end");
}

fn options(seed: u64) -> Options {
    let small = Options { names_max: 5, file_bytes_max: 9_000, write_bytes_max: 5_000, ..Options::default() };
    match seed % 3 {
        0 => small,
        1 => Options { file_bytes_max: 60, write_bytes_max: 60, steps_max: 6, names_max: 8, ..small },
        _ => Options { steps_max: 2, ..small },
    }
}

/// A prefix that is durable and synced, then up to three captures under which the power goes.
fn one_workload(seed: u64) -> u64 {
    let mut generator = Generator::new(seed, options(seed));
    let prefix: Vec<_> = (0..seed % 7).map(|_| generator.next()).collect();
    let captures: Vec<_> = (0..1 + seed % 3).map(|_| generator.next()).collect();
    let batch = 1 + (seed / 3 % 3) as usize;
    let begin = || {
        let mut lab = Lab::new();
        let placed = lab.journal_them(&prefix).expect("journal the prefix");
        lab.apply(&placed).expect("apply the prefix");
        lab.move_cursor().expect("move the cursor");
        lab
    };
    // How many operations a run without a cut takes.
    let mut lab = begin();
    let (disk_from, tree_from) = (lab.disk.operations(), lab.tree.changes());
    run(&mut lab, &captures, batch).1.expect("a run without a cut");
    let (disk_upto, tree_upto) = (lab.disk.operations(), lab.tree.changes());
    drop(lab);
    let all: Vec<_> = prefix.iter().chain(&captures).cloned().collect();
    let mut cuts = 0;
    let disk_cuts = (disk_from..=disk_upto).map(|at| (Some(at), None));
    let tree_cuts = (0..=tree_upto - tree_from).map(|at| (None, Some(at)));
    for (number, (disk_at, tree_at)) in disk_cuts.chain(tree_cuts).enumerate() {
        let mut lab = begin();
        disk_at.inspect(|at| lab.disk.stop_after(*at));
        tree_at.inspect(|at| lab.tree.cut_power_at(*at));
        let (came, _) = run(&mut lab, &captures, batch);
        let came =
            Run { acknowledged: came.acknowledged.max(prefix.last().map_or(Lsn::ZERO, |last| last.lsn)) };
        let (disk, tree, tables) = lab.stop();
        for (kind, cut) in Cut::ALL.into_iter().enumerate() {
            let mut rng = Rng::new(seed * 1000 + number as u64 * 10 + kind as u64);
            let context = format!("seed {seed}, cut {disk_at:?}/{tree_at:?}, {cut:?}");
            let after = disk.crash(cut, &mut rng);
            let torn = tree.crash(&mut rng);
            let keep = tests::lab::copy_of(&tables);
            check(after, torn, keep, (&all, &generator), &came, &format!("{context}, same tables"));
            let after = disk.crash(cut, &mut rng);
            let torn = tree.crash(&mut rng);
            check(after, torn, Arc::default(), (&all, &generator), &came, &format!("{context}, no tables"));
            cuts += 2;
        }
    }
    cuts
}

#[test]
fn nothing_is_lost_wherever_the_power_goes() {
    let mut cuts = 0;
    for seed in seeds(21) {
        cuts += one_workload(seed);
    }
    println!("{cuts} power cuts survived");
}
