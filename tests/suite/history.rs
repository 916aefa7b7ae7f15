//! Is every point of a history read exactly, whatever happened since?
//!
//! Random captures go straight into journal and applier, in batches of random sizes, with the cursor moving now and
//! then. Every view is compared with the model at its LSN; the tree with the newest; then the tables are thrown away
//! and rebuilt, and all views are compared again.

use journal::{Lsn, RootNo};
use std::sync::Arc;
use tests::canonical::{assert_equal, dump};
use tests::lab::Lab;
use tests::model::{Generator, Options};
use tests::rng::Rng;

/// Seeds of a run: `REWIND_SEEDS` or the default.
pub fn seeds(default: u64) -> std::ops::Range<u64> {
    let first = std::env::var("REWIND_FIRST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    let count = std::env::var("REWIND_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    first..first + count
}

fn options(seed: u64) -> Options {
    match seed % 4 {
        // Few small files, hit again and again.
        0 => Options { names_max: 6, file_bytes_max: 9_000, write_bytes_max: 5_000, ..Options::default() },
        // Names above all.
        1 => Options {
            names_max: 30,
            file_bytes_max: 100,
            write_bytes_max: 100,
            steps_max: 6,
            ..Options::default()
        },
        // Files that cross chunks.
        2 => Options { names_max: 8, file_bytes_max: 200_000, write_bytes_max: 90_000, ..Options::default() },
        _ => Options::default(),
    }
}

fn compare_all(lab: &Lab, generator: &Generator, rng: &mut Rng, share: u64, context: &str) {
    for lsn in generator.model.lsns() {
        if lsn < lab.journal.window().0
            || lsn > lab.journal.applied()
            || (lsn != lab.journal.applied() && !rng.chance(1, share))
        {
            continue;
        }
        let expected = generator.model.canonical_at(lsn, RootNo(0));
        assert_equal(&expected, &lab.canonical(lsn), &format!("{context}, view at {lsn}"));
    }
}

/// Rewinds to some points, one after the other, and returns to the captured tree.
fn there_and_back(lab: &mut Lab, generator: &Generator, rng: &mut Rng, seed: u64) {
    let here = lab.journal.applied();
    let oldest = lab.journal.window().0.captured.max(1);
    let digests = |lab: &Lab| {
        let kept = journal::state::digests(&**lab.journal.tables()).expect("digests");
        assert_eq!(kept, journal::state::counted(&**lab.journal.tables()).expect("rows"), "seed {seed}");
        kept
    };
    let as_captured = digests(lab);
    for turn in 0..=rng.below(3) {
        let to = Lsn::captured(oldest + rng.below(here.captured - oldest + 1));
        lab.rewind(to);
        let context = format!("seed {seed}, at {here}, turn {turn}: rewound to {to}");
        let expected = generator.model.canonical_at(to, RootNo(0));
        assert_equal(&expected, &dump(&*lab.tree, RootNo(0)).expect("dump"), &format!("{context}, tree"));
        let head = lab.journal.applied();
        assert_equal(&expected, &lab.canonical(head), &format!("{context}, view of the branch at {head}"));
        assert_equal(&expected, &lab.canonical(to), &format!("{context}, view"));
        let before = generator.model.canonical_at(here, RootNo(0));
        assert_equal(&before, &lab.canonical(here), &format!("{context}, view of what was left"));
    }
    lab.rewind(here);
    let expected = generator.model.canonical_at(here, RootNo(0));
    assert_equal(
        &expected,
        &dump(&*lab.tree, RootNo(0)).expect("dump"),
        &format!("seed {seed}: back at {here}"),
    );
    assert_eq!(digests(lab), as_captured, "seed {seed}: back at {here}");
}

fn one_history(seed: u64, captures: usize) {
    let mut rng = Rng::new(seed ^ 0x5eed);
    // A master never takes back what it removed. The generator may, to be hard on undo, but what a rewind moved
    // within the kept area is then not where the generator thinks.
    let rewinds = !seed.is_multiple_of(3);
    let mut generator = Generator::new(seed, Options { revive: !rewinds, ..options(seed) });
    let mut lab = Lab::new();
    lab.synchronized(&mut generator);
    let mut done = 1;
    while done < captures {
        let batch: Vec<_> = (0..rng.below(12) + 1).map(|_| generator.next()).collect();
        done += batch.len();
        let placed = lab.journal_them(&batch).expect("journal");
        let mut rest = placed.as_slice();
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rng.below(rest.len() as u64) as usize + 1);
            lab.apply(now).unwrap_or_else(|error| panic!("seed {seed}: {error:?}"));
            rest = later;
        }
        if rng.chance(1, 10) {
            lab.move_cursor().expect("cursor");
        }
        if rewinds && rng.chance(1, 12) {
            there_and_back(&mut lab, &generator, &mut rng, seed);
        }
    }
    let context = format!("seed {seed}");
    compare_all(&lab, &generator, &mut rng, 3, &context);
    let newest = generator.model.canonical(RootNo(0));
    assert_equal(&newest, &dump(&*lab.tree, RootNo(0)).expect("dump"), &format!("{context}, tree"));
    // A daemon that stops here and starts without projections.
    lab.move_cursor().expect("cursor");
    let (disk, tree, _) = lab.stop();
    let lab = Lab::open(disk, tree, Arc::default())
        .unwrap_or_else(|error| panic!("seed {seed}: rebuild: {error:?}"));
    assert_eq!(lab.journal.applied().captured, done as u64, "{context}");
    compare_all(&lab, &generator, &mut rng, 3, &format!("{context}, rebuilt"));
}

#[test]
fn every_view_equals_the_model() {
    for seed in seeds(20) {
        one_history(seed, 300);
    }
}

/// The same under retention with a budget of a few small segments: what is promised reads exactly, what is not is
/// refused, the budget is kept where nothing pins, the kept area holds nothing that no point shows, and a rebuild
/// from checkpoint and retained segments comes to the same.
fn one_retained_history(seed: u64, captures: usize) {
    const BUDGET: u64 = 400 << 10;
    let mut rng = Rng::new(seed ^ 0xdead);
    let mut generator = Generator::new(seed, Options { revive: false, ..options(seed) });
    let mut lab = Lab::new();
    lab.synchronized(&mut generator);
    let mut done = 0;
    let mut pin = None;
    while done < captures {
        let batch: Vec<_> = (0..rng.below(20) + 1).map(|_| generator.next()).collect();
        done += batch.len();
        let placed = lab.journal_them(&batch).expect("journal");
        lab.apply(&placed).unwrap_or_else(|error| panic!("seed {seed}: {error:?}"));
        if rng.chance(1, 3) {
            lab.move_cursor().expect("cursor");
        }
        if rng.chance(1, 8) {
            let retained = lab.retain(BUDGET).unwrap_or_else(|error| panic!("seed {seed}: {error:?}"));
            assert!(pin.is_none_or(|(lsn, _)| retained.horizon <= lsn), "seed {seed}: a pin was passed");
        }
        if pin.is_none() && rng.chance(1, 20) {
            let lsn = lab.journal.applied();
            pin = Some((lsn, lab.journal.pin(lsn, "test").expect("pin")));
        } else if rng.chance(1, 20)
            && let Some((_, id)) = pin.take()
        {
            lab.journal.control(journal::record::Control::Unpinned { pin: id }).expect("unpin");
        }
        if rng.chance(1, 25) {
            lab.move_cursor().expect("cursor");
            let (disk, tree, tables) = lab.stop();
            let tables = if rng.chance(1, 2) { tables } else { Arc::default() };
            lab = Lab::open(disk, tree, tables)
                .unwrap_or_else(|error| panic!("seed {seed}: reopen: {error:?}"));
        }
    }
    if let Some((_, id)) = pin {
        lab.journal.control(journal::record::Control::Unpinned { pin: id }).expect("unpin");
    }
    lab.move_cursor().expect("cursor");
    lab.retain(BUDGET).expect("retain");
    let context = format!("seed {seed}");
    compare_all(&lab, &generator, &mut rng, 3, &context);
    let (disk, tree, _) = lab.stop();
    let lab = Lab::open(disk, tree, Arc::default())
        .unwrap_or_else(|error| panic!("seed {seed}: rebuild: {error:?}"));
    compare_all(&lab, &generator, &mut rng, 3, &format!("{context}, rebuilt"));
    let newest = generator.model.canonical(RootNo(0));
    assert_equal(&newest, &dump(&*lab.tree, RootNo(0)).expect("dump"), &format!("{context}, tree"));
    let (oldest, _) = lab.journal.window();
    assert!(oldest > Lsn::captured(1), "{context}: retention dropped nothing");
    assert!(lab.journal.lease(Lsn::captured(1)).is_err(), "{context}: a dropped point was lent");
}

#[test]
fn what_retention_promises_reads_exactly() {
    for seed in seeds(20) {
        if seed % 4 != 1 {
            one_retained_history(seed, 400);
        }
    }
}
