//! Tests of sorting: equal to a map, whatever the memory; nothing left behind; scratch that is damaged is noticed.

use super::super::path::path_order;
use super::super::tests::{Rng, disk::SimDisk, file, seed};
use super::*;
use std::collections::BTreeMap;

const PLACE: &str = "/c";

fn drain(mut sorted: Sorted) -> Result<Vec<Change>, CatalogError> {
    std::iter::from_fn(|| sorted.next().transpose()).collect()
}

fn random_change(rng: &mut Rng, names: usize) -> Change {
    let name = rng.below(names);
    let long = if rng.below(50) == 0 { "x".repeat(3000) } else { String::new() };
    let path = format!("/{}/{}{long}", name % 7, name);
    (path.into_bytes(), (rng.below(4) > 0).then(|| file(rng.next())))
}

#[test]
fn the_last_record_of_each_path_comes_out_in_order() {
    let seed = seed();
    let mut rng = Rng::new(seed);
    for round in 0..60 {
        let disk = SimDisk::default();
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let memory = rng.pick(&[1, 300, 5000, 1 << 20]);
        let mut sorter = Sorter::new(&shared, Path::new(PLACE), 7, memory);
        let mut expected: BTreeMap<Vec<u8>, Option<Row>> = BTreeMap::new();
        let count = if memory == 1 { 200 } else { rng.below(2000) };
        for _ in 0..count {
            let (path, row) = random_change(&mut rng, 300);
            sorter.push(&path, row).unwrap();
            expected.insert(path, row);
        }
        let mut expected: Vec<Change> = expected.into_iter().collect();
        expected.sort_by(|a, b| path_order(&a.0, &b.0));
        // More runs than are merged at once, where each record is a run.
        assert!(disk.names().len() < RUNS_MAX);
        assert_eq!(drain(sorter.finish().unwrap()).unwrap(), expected, "seed {seed} round {round}");
        assert_eq!(disk.names(), [""; 0]);
    }
}

#[test]
fn rows_keep_all_they_say_and_paths_their_length() {
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::default());
    let mut sorter = Sorter::new(&disk, Path::new(PLACE), 7, 1);
    let longest = [&b"/"[..], &vec![b'z'; super::super::PATH_BYTES_MAX - 1]].concat();
    let worst = Row {
        kind: EntryKind::Other,
        size: u64::MAX,
        modified: Modified { seconds: i64::MIN, nanoseconds: u32::MAX },
        content: u64::MAX,
    };
    let changes = vec![(b"/".to_vec(), None), (b"/a".to_vec(), Some(file(3))), (longest, Some(worst))];
    changes.iter().rev().for_each(|(path, row)| sorter.push(path, *row).unwrap());
    assert_eq!(drain(sorter.finish().unwrap()).unwrap(), changes);
}

#[test]
fn a_sorter_that_is_dropped_leaves_nothing() {
    let disk = SimDisk::default();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let mut sorter = Sorter::new(&shared, Path::new(PLACE), 7, 1);
    (0..10).for_each(|number| sorter.push(format!("/{number}").as_bytes(), None).unwrap());
    assert_eq!(disk.names().len(), 10);
    drop(sorter);
    assert_eq!(disk.names(), [""; 0]);
}

#[test]
fn a_run_that_changed_is_noticed() {
    let disk = SimDisk::default();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let path = Path::new(PLACE).join("00000007-0.run");
    let fill = || {
        let mut sorter = Sorter::new(&shared, Path::new(PLACE), 7, 200);
        (0..5).for_each(|number| sorter.push(format!("/{number}").as_bytes(), Some(file(number))).unwrap());
        sorter
    };
    let whole = {
        let sorter = fill();
        let bytes = disk.bytes(&path);
        drain(sorter.finish().unwrap()).unwrap();
        bytes
    };
    for at in 0..whole.len() {
        for flip in [1, 0xff] {
            let sorter = fill();
            let mut bytes = disk.bytes(&path);
            bytes[at] ^= flip;
            disk.set_bytes(&path, bytes);
            let error = sorter.finish().and_then(drain).unwrap_err();
            assert!(error.is_damage(), "byte {at}: {error:?}");
        }
        let sorter = fill();
        disk.set_bytes(&path, whole[..at].to_vec());
        assert!(sorter.finish().and_then(drain).unwrap_err().is_damage(), "{at} bytes");
    }
}
