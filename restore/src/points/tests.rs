//! Bisection over points against looking at all of them.

use super::*;
use journal::controls::Controls;
use journal::record::Control;
use journal::state::{PointKind, rows};
use journal::tables::MemoryTables;
use journal::{Provenance, RootNo};

fn point(tables: &MemoryTables, lsn: Lsn, time: i64) {
    let row = PointRow {
        time: Timestamp(time),
        kind: PointKind::Marker,
        root: RootNo(0),
        path: Vec::new(),
        from: None,
        bytes: 0,
        provenance: Provenance::Derived,
        class: Class::Fuzzy,
    };
    tables.commit(vec![(Space::Points, lsn.to_key().to_vec(), Some(rows::write(&row)))]).unwrap();
}

#[test]
fn times() {
    let tables = MemoryTables::default();
    // Equal times, a hole, and a local branch whose times run ahead.
    let points: Vec<(u64, i64)> =
        (10..90).filter(|n| !(40..45).contains(n)).map(|n| (n, (n as i64 / 3) * 10)).collect();
    for (n, time) in &points {
        point(&tables, Lsn::captured(*n), *time);
    }
    for k in 1..20 {
        point(&tables, Lsn::local(30, k), 5000);
    }
    let all = Points::new(&tables, Lsn::captured(10), Lsn::captured(89));
    for time in 0..400 {
        let expected = points.iter().rev().find(|(_, found)| *found <= time).map(|(n, _)| Lsn::captured(*n));
        assert_eq!(all.at_time(Timestamp(time)).ok().map(|found| found.lsn), expected, "{time}");
    }
    // Only what is applied and not dropped.
    let part = Points::new(&tables, Lsn::local(30, 4), Lsn::captured(50));
    assert!(part.at_time(Timestamp(99)).is_err());
    assert_eq!(part.at_time(Timestamp(9999)).unwrap().lsn, Lsn::captured(50));
    assert_eq!(part.at_time(Timestamp(103)).unwrap().lsn, Lsn::captured(32));
}

#[test]
fn numbers_and_names() {
    let tables = MemoryTables::default();
    point(&tables, Lsn::captured(5), 7);
    point(&tables, Lsn::local(5, 1), 8);
    let points = Points::new(&tables, Lsn::captured(5), Lsn::local(5, 1));
    assert_eq!(points.at(Lsn::local(5, 1)).unwrap().time, Timestamp(8));
    for missing in [Lsn::captured(4), Lsn::local(5, 2), Lsn::captured(6)] {
        assert!(matches!(points.at(missing), Err(RestoreError::NoSuchPoint { .. })), "{missing}");
    }
    let mut controls = Controls::default();
    let set = Control::BookmarkSet {
        name: "monday".to_owned(),
        captured: 5,
        local: 1,
        class: Class::Application,
        automatic: false,
        time: Timestamp(8),
    };
    controls.control(&set, Default::default());
    let found = Points::bookmark(&controls, "monday").unwrap();
    assert_eq!(found, Resolved { lsn: Lsn::local(5, 1), time: Timestamp(8), class: Class::Application });
    assert!(Points::bookmark(&controls, "tuesday").is_err());
}
