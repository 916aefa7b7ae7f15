//! Does comparing tables with segments find every row that is wrong, and none that is right?
//!
//! Random histories with rewinds, retention, restarts and rebuilds are sound all along. Then one row after the other is
//! removed, changed or put in where none belongs, and each is found.

use crate::history::seeds;
use journal::check::TablesReport;
use journal::tables::MemoryTables;
use journal::{JournalError, Lsn, Space, Tables};
use std::sync::Arc;
use tests::lab::Lab;
use tests::model::{Generator, Options};
use tests::rng::Rng;

fn check(lab: &Lab) -> TablesReport {
    let scratch = || Ok::<_, JournalError>(Arc::new(MemoryTables::default()) as Arc<dyn Tables>);
    lab.journal.check_tables(&scratch, &mut |_| true).expect("the segments read").expect("it came to its end")
}

fn sound(lab: &Lab, context: &str) {
    let report = check(lab);
    assert!(report.is_sound(), "{context}: {:#?}", report.differences);
    assert_eq!(report.lsn, lab.journal.applied(), "{context}");
    assert!(report.rows > 0, "{context}");
}

/// A lab some hundred captures on, with a rewind there and back and, if asked for, retention.
fn lived(seed: u64, retained: bool) -> (Lab, Rng) {
    let mut rng = Rng::new(seed ^ 0xc0ffee);
    let options = Options { revive: false, names_max: 12, write_bytes_max: 30_000, ..Options::default() };
    let mut generator = Generator::new(seed, options);
    let mut lab = Lab::new();
    lab.synchronized(&mut generator);
    for turn in 0..30 {
        let batch: Vec<_> = (0..rng.below(12) + 1).map(|_| generator.next()).collect();
        let placed = lab.journal_them(&batch).expect("journal");
        lab.apply(&placed).unwrap_or_else(|error| panic!("seed {seed}: {error:?}"));
        if rng.chance(1, 4) {
            lab.move_cursor().expect("cursor");
        }
        if turn % 10 == 5 {
            let here = lab.journal.applied();
            let oldest = lab.journal.window().0.captured.max(1);
            lab.rewind(Lsn::captured(oldest + rng.below(here.captured - oldest + 1)));
            lab.rewind(here);
        }
        if retained && rng.chance(1, 5) {
            lab.retain(300 << 10).expect("retention");
        }
    }
    (lab, rng)
}

#[test]
fn tables_of_any_history_are_sound() {
    for seed in seeds(40) {
        let (lab, _) = lived(seed, seed % 2 == 1);
        sound(&lab, &format!("seed {seed}"));
        lab.move_cursor().expect("cursor");
        let (disk, tree, tables) = lab.stop();
        let lab = Lab::open(disk, tree, tables).expect("reopen");
        sound(&lab, &format!("seed {seed}, reopened"));
        let (disk, tree, _) = lab.stop();
        let lab = Lab::open(disk, tree, Arc::default()).expect("rebuild");
        sound(&lab, &format!("seed {seed}, rebuilt"));
    }
}

/// Rows of a table, with whether each is promised: nothing else is compared.
fn promised(lab: &Lab, space: Space) -> Vec<(Vec<u8>, Vec<u8>)> {
    let horizon = lab.journal.window().0;
    let rows = lab.tables.range(space, &[], &[0xff; 400]).map(|row| row.expect("memory reads"));
    let lsn = |key: &[u8]| {
        let at = match space {
            Space::Changes | Space::Points => 0,
            Space::NodeUndo => 8,
            Space::DataUndo => 16,
            _ => key.len() - 16,
        };
        Lsn::from_key(&key[at..at + 16]).expect("an LSN")
    };
    let all = rows.filter(|(key, _)| !space.is_history() || lsn(key) > horizon);
    all.collect()
}

#[test]
fn every_wrong_row_is_found() {
    let spaces = [
        Space::Names,
        Space::Links,
        Space::Nodes,
        Space::NameUndo,
        Space::NodeUndo,
        Space::DataUndo,
        Space::Changes,
        Space::Points,
    ];
    for seed in seeds(4) {
        let (lab, mut rng) = lived(seed, false);
        for space in spaces {
            let rows = promised(&lab, space);
            assert!(!rows.is_empty(), "seed {seed}: no row of {}", space.name());
            let (key, value) = rows[rng.below(rows.len() as u64) as usize].clone();
            let context = format!("seed {seed}, a row of {}", space.name());
            let put = |key: &[u8], value: Option<&[u8]>| {
                lab.tables.commit(vec![(space, key.to_vec(), value.map(<[u8]>::to_vec))]).expect("commit");
            };
            put(&key, None);
            assert!(!check(&lab).is_sound(), "{context} is missing");
            let mut other = value.clone();
            other.push(7);
            put(&key, Some(&other));
            // A link row of a node with several names has no value to be wrong.
            assert!(!check(&lab).is_sound() || value.is_empty(), "{context} was changed");
            put(&key, Some(&value));
            let mut stranger = key.clone();
            let end = stranger.len() - 1;
            stranger[end] ^= 0x40;
            if rows.iter().all(|(key, _)| *key != stranger) {
                put(&stranger, Some(&value));
                assert!(!check(&lab).is_sound(), "{context} was added");
                put(&stranger, None);
            }
            sound(&lab, &format!("{context}, put right"));
        }
    }
}

/// A block that is missing costs time; one that denies a point hides it.
#[test]
fn blocks_that_deny_points_are_found() {
    for seed in seeds(4) {
        let (lab, mut rng) = lived(seed, false);
        while lab.journal.summarize_points_by(1 + rng.below(9) as usize).expect("summarize") {}
        sound(&lab, &format!("seed {seed}"));
        let rows =
            lab.tables.range(Space::PointBlocks, &[], &[0xff; 40]).map(|row| row.expect("memory reads"));
        let rows: Vec<_> = rows.collect();
        assert!(rows.len() > 20, "seed {seed}: {} rows", rows.len());
        let put = |key: &[u8], value: Option<Vec<u8>>| {
            lab.tables.commit(vec![(Space::PointBlocks, key.to_vec(), value)]).expect("commit");
        };
        let (mut heads, mut paths) = (0, 0);
        // A filter of markers only is empty.
        for (key, value) in rows.iter().filter(|(_, value)| !value.is_empty()) {
            let is_head = key[0] == 0;
            let context = format!("seed {seed}, {key:?}");
            put(key, None);
            sound(&lab, &format!("{context} is missing"));
            // Of a head the end: where the block ends comes first, and times last.
            let mut other = value.clone();
            other.truncate(value.len() - 1);
            put(key, Some(if is_head { other } else { vec![0; value.len()] }));
            let is_found = !check(&lab).is_sound();
            assert!(is_found || !is_head, "{context} was changed");
            heads += u32::from(is_head && is_found);
            paths += u32::from(!is_head && is_found);
            put(key, Some(value.clone()));
        }
        // Some have no paths: markers and roots.
        assert!(heads > 5 && paths > 5, "seed {seed}: {heads} heads, {paths} filters");
        sound(&lab, &format!("seed {seed}, put right"));
    }
}

#[test]
fn whoever_asks_for_the_end_gets_it() {
    let (lab, _) = lived(1, false);
    let scratch = || Ok::<_, JournalError>(Arc::new(MemoryTables::default()) as Arc<dyn Tables>);
    let found = lab.journal.check_tables(&scratch, &mut |_| false).expect("the segments read");
    assert_eq!(found, None);
}
