//! Frozen words, plans, coverage, and every object damaged.

use super::plan::{Local, Plan, Shipment, cut, plan};
use super::*;
use crate::repository::RepositoryErrorKind;
use crate::repository::testing::{MemoryStore, fresh};
use std::sync::Arc;

const JOURNAL: [u8; 16] = [0xab; 16];

/// A piece of `segment` from `from` to `to` with the captures `first` to `last`; 0 to 0 for none.
fn piece(segment: u64, (from, to): (u64, u64), sealed: bool, (first, last): (u64, u64)) -> Piece {
    let some = |lsn: u64| (lsn > 0).then_some(lsn);
    let (first_time, last_time) = (first as i64 * 10, last as i64 * 10);
    let place =
        Draft { segment, from, to, sealed, first: some(first), last: some(last), first_time, last_time };
    Piece { id: Id([segment as u8; 32]), plain: Id([from as u8; 32]), place }
}

fn manifest(pieces: Vec<Piece>) -> Manifest {
    Manifest {
        version: 1,
        journal: hex(&JOURNAL),
        generation: 3,
        scenario: "docs".into(),
        host: "master".into(),
        roots: vec!["/srv/docs".into()],
        written: 77,
        upto: Upto { lsn: 9, time: 90 },
        pieces,
    }
}

#[test]
fn golden_words() {
    let made = manifest(vec![piece(2, (0, 500), false, (4, 9))]);
    let json = serde_json::to_string(&made).unwrap();
    let expected = format!(
        "{{\"version\":1,\"journal\":\"{}\",\"generation\":3,\"scenario\":\"docs\",\"host\":\"master\",\
         \"roots\":[\"/srv/docs\"],\"written\":77,\"upto\":{{\"lsn\":9,\"time\":90}},\"pieces\":[{{\"id\":\"{}\",\
         \"plain\":\"{}\",\"segment\":2,\"from\":0,\"to\":500,\"sealed\":false,\"first\":4,\"last\":9,\
         \"first_time\":40,\"last_time\":90}}]}}",
        "ab".repeat(16),
        "02".repeat(32),
        "00".repeat(32)
    );
    assert_eq!(json, expected);
    assert_eq!(serde_json::from_str::<Manifest>(&json).unwrap(), made);
    let name = made.pieces[0].last_part();
    assert_eq!(name, "0000000002-000000000000-000000000500-4-9-0202020202020202");
    assert_eq!(parse_hex(&hex(&JOURNAL)), Some(JOURNAL));
    assert_eq!(parse_hex("AB"), None);
}

#[test]
fn manifests_that_make_no_sense_are_refused() {
    let good = vec![
        piece(1, (0, 10), false, (1, 2)),
        piece(1, (10, 20), true, (3, 3)),
        piece(2, (0, 9), false, (4, 5)),
        piece(7, (0, 9), true, (9, 9)),
    ];
    assert_eq!(manifest(good.clone()).fault(), None);
    let refused = |change: &dyn Fn(&mut Vec<Piece>)| {
        let mut pieces = good.clone();
        change(&mut pieces);
        assert!(manifest(pieces).fault().is_some());
    };
    refused(&|pieces| pieces.swap(0, 1));
    refused(&|pieces| _ = pieces.remove(0));
    refused(&|pieces| pieces[1].place.from = 11);
    refused(&|pieces| pieces[2].place.to = 0);
    refused(&|pieces| pieces[3].place.segment = 2);
    refused(&|pieces| pieces[2].place.to = 1 << 40);
    assert!(Manifest { version: 2, ..manifest(good) }.fault().is_some());
}

#[test]
fn coverage_ends_at_gaps() {
    let made = manifest(vec![
        piece(1, (0, 10), true, (1, 3)),
        // A capture in parts: 4 begins in segment 2 and ends in 3.
        piece(2, (0, 10), true, (4, 0)),
        piece(3, (0, 10), false, (5, 5)),
        piece(3, (10, 20), true, (6, 6)),
        piece(9, (0, 10), false, (20, 22)),
    ]);
    let check = |after: u64, upto: u64, expected: Result<&[(u64, u64)], (u64, u64)>| {
        let found = made.covering(after, upto);
        let places = found
            .map(|list| list.iter().map(|piece| (piece.place.segment, piece.place.from)).collect::<Vec<_>>());
        let lsn = |upto: Option<Upto>| upto.map_or(0, |upto| upto.lsn);
        let places = places.map_err(|gap| (lsn(gap.after), lsn(gap.before)));
        assert_eq!(places, expected.map(<[(u64, u64)]>::to_vec), "{after} to {upto}");
    };
    check(3, 3, Ok(&[]));
    check(0, 2, Ok(&[(1, 0)]));
    check(3, 5, Ok(&[(2, 0), (3, 0), (3, 10)]));
    check(4, 6, Ok(&[(3, 0), (3, 10)]));
    check(19, 21, Ok(&[(9, 0)]));
    check(5, 21, Err((6, 20)));
    check(6, 7, Err((6, 20)));
    check(20, 30, Err((22, 0)));
    assert_eq!(made.gaps().len(), 1);
}

fn check_plan(local: &[(u64, u64, bool)], pieces: &[Piece], oldest: Option<u64>, expected: Plan) {
    let local: Vec<_> = local
        .iter()
        .map(|(number, bytes, sealed)| Local {
            number: *number,
            bytes: *bytes,
            sealed: *sealed,
            used: *bytes > 128,
        })
        .collect();
    assert_eq!(plan(&local, pieces, 2, oldest), expected);
}

#[test]
fn plans() {
    let ship = |segment, from, to, sealed| Shipment { segment, from, to, sealed };
    // Nothing is archived: from the second segment on; the third has no record yet.
    let expected = Plan { ship: vec![ship(2, 0, 900, true)], ..Plan::default() };
    check_plan(&[(1, 900, true), (2, 900, true), (3, 128, false)], &[], None, expected);
    let first = piece(2, (0, 500), false, (4, 9));
    let expected = Plan { ship: vec![ship(2, 500, 900, true), ship(3, 0, 300, false)], ..Plan::default() };
    check_plan(&[(2, 900, true), (3, 300, false)], std::slice::from_ref(&first), None, expected);
    check_plan(&[(2, 500, false)], std::slice::from_ref(&first), None, Plan::default());
    // Retention went past what was archived.
    let expected = Plan { ship: vec![ship(4, 0, 300, false)], gap: true, keep_from: 0 };
    check_plan(&[(4, 300, false)], &[first], None, expected);
    // Many small pieces of a segment that is sealed now are replaced by one.
    let small: Vec<_> =
        (0..6).map(|at| piece(2, (at * 100, at * 100 + 100), false, (at + 1, at + 1))).collect();
    let expected = Plan { ship: vec![ship(2, 0, 900, true)], ..Plan::default() };
    check_plan(&[(2, 900, true)], &small, None, expected);
    let expected = Plan { ship: vec![ship(2, 600, 900, false)], ..Plan::default() };
    check_plan(&[(2, 900, false)], &small, None, expected);
}

/// A number that does not follow ends the plan: it is no gap, and behind it nothing is copied.
#[test]
fn a_hole_in_the_list_is_waited_for() {
    let ship = |segment, from, to, sealed| Shipment { segment, from, to, sealed };
    let first = [piece(2, (0, 500), false, (1, 3))];
    check_plan(&[(1, 900, true), (3, 300, false)], &first, None, Plan::default());
    let expected = Plan { ship: vec![ship(2, 500, 900, true)], ..Plan::default() };
    check_plan(&[(2, 900, true), (4, 300, false)], &first, None, expected);
}

/// Wherever the oldest session needs something that is not archived: `begin` is segment 2.
#[test]
fn what_is_missing_anywhere_is_copied() {
    let ship = |segment, from, to, sealed| Shipment { segment, from, to, sealed };
    let local = [(1, 900, true), (2, 900, true), (3, 900, true), (4, 900, true), (5, 300, false)];
    // Archiving began behind the session: backwards from where it began, behind what is new.
    let late = [piece(4, (0, 900), true, (9, 12))];
    let back = vec![ship(5, 0, 300, false), ship(3, 0, 900, true), ship(2, 0, 900, true)];
    check_plan(&local, &late, Some(3), Plan { ship: back, ..Plan::default() });
    // Nobody needs it.
    let expected = Plan { ship: vec![ship(5, 0, 300, false)], ..Plan::default() };
    check_plan(&local, &late, None, expected);
    let expected = Plan { ship: vec![ship(5, 0, 300, false)], keep_from: 4, ..Plan::default() };
    check_plan(&local, &late, Some(8), expected);
    // A piece in the middle vanished.
    let holed = [
        piece(2, (0, 900), true, (1, 3)),
        piece(4, (0, 900), true, (9, 12)),
        piece(5, (0, 300), false, (13, 13)),
    ];
    let expected = Plan { ship: vec![ship(3, 0, 900, true)], keep_from: 2, ..Plan::default() };
    check_plan(&local, &holed, Some(3), expected);
}

#[test]
fn what_no_session_starts_from_leaves() {
    let pieces = [
        piece(2, (0, 900), true, (4, 9)),
        piece(3, (0, 900), true, (10, 0)),
        piece(4, (0, 900), true, (0, 12)),
        piece(5, (0, 900), true, (13, 20)),
    ];
    let kept = |oldest| plan(&[], &pieces, 1, oldest).keep_from;
    assert_eq!(kept(None), 0);
    assert_eq!(kept(Some(1)), 0);
    assert_eq!(kept(Some(8)), 2);
    assert_eq!(kept(Some(9)), 3, "10 begins in segment 3");
    assert_eq!(kept(Some(11)), 3);
    assert_eq!(kept(Some(12)), 5);
    assert_eq!(kept(Some(99)), 5);
}

#[test]
fn long_shipments_are_cut() {
    let step = PIECE_BYTES_MAX as u64;
    let cut: Vec<_> = cut(Shipment { segment: 1, from: 5, to: 2 * step + 5, sealed: true }).collect();
    assert_eq!(cut, [(5, step + 5), (step + 5, 2 * step + 5)]);
}

fn filled() -> (Arc<MemoryStore>, Arc<Repository>, Manifest) {
    let (store, repository) = fresh();
    let archive = Archive::new(&repository, JOURNAL);
    let place = piece(1, (0, 300), false, (1, 2)).place;
    let stored = archive.put_piece(&place, &[7; 300]).unwrap();
    let made = manifest(vec![stored]);
    archive.put_manifest(&made).unwrap();
    (store, repository, made)
}

#[test]
fn what_was_put_comes_back_and_is_not_the_repositorys() {
    let (store, repository, made) = filled();
    let archive = Archive::new(&repository, JOURNAL);
    assert_eq!(journals(&repository).unwrap().into_iter().collect::<Vec<_>>(), [JOURNAL]);
    assert_eq!(archive.generations().unwrap(), [3]);
    assert_eq!(archive.load_manifest(3).unwrap(), made);
    assert_eq!(archive.load_piece(&made.pieces[0]).unwrap(), vec![7; 300]);
    assert!(
        store.names("").iter().all(|name| !name.starts_with("rewind") || name.starts_with("rewind/archive/"))
    );
    assert!(repository.list_sessions().unwrap().is_empty());
    // A repository that lost its config is still none in which another may be made.
    assert_eq!(archive.generations().unwrap(), [3]);
}

#[test]
fn the_newest_two_manifests_can_be_read() {
    let (store, repository, first) = filled();
    let archive = Archive::new(&repository, JOURNAL);
    let orphan = archive.put_piece(&piece(8, (0, 9), false, (0, 0)).place, &[1; 9]).unwrap();
    let place = piece(1, (0, 400), false, (1, 3)).place;
    let merged = archive.put_piece(&place, &[8; 400]).unwrap();
    let second = Manifest { generation: 5, ..manifest(vec![merged.clone()]) };
    archive.put_manifest(&second).unwrap();
    let tidy = |newest: &Manifest, before: &Manifest, unread: &[u64]| {
        archive.tidy(newest, Some(before), newest.generation, unread).unwrap()
    };
    assert_eq!(tidy(&second, &first, &[4]), Tidied::Removed(0), "nobody knows what 4 names");
    archive.load_piece(&orphan).unwrap();
    assert_eq!(tidy(&second, &first, &[]), Tidied::Removed(1), "the orphan");
    assert!(archive.load_piece(&orphan).is_err());
    archive.load_piece(&first.pieces[0]).unwrap();
    let third = Manifest { generation: 6, ..second.clone() };
    archive.put_manifest(&third).unwrap();
    assert_eq!(tidy(&second, &first, &[]), Tidied::Newer(6), "written by somebody else");
    archive.load_piece(&first.pieces[0]).unwrap();
    let stored: Vec<_> = archive.stored().unwrap().into_iter().collect();
    assert_eq!(stored, [first.pieces[0].last_part(), merged.last_part()]);
    assert_eq!(parse_last_part(&stored[1]), Some((1, 400)));
    assert_eq!((parse_last_part("1-2"), parse_last_part("x-0-9-0")), (None, None));
    assert_eq!(tidy(&third, &second, &[]), Tidied::Removed(2), "the first manifest and its piece");
    assert_eq!(archive.generations().unwrap(), [5, 6]);
    archive.load_piece(&merged).unwrap();
    assert!(store.names("snapshots").is_empty());
}

/// Every byte flipped, every length, one object in the place of another, none at all: refused, and named.
#[test]
fn damaged_objects_are_named() {
    let (store, repository, made) = filled();
    let archive = Archive::new(&repository, JOURNAL);
    let names = store.names("rewind");
    assert_eq!(names.len(), 2);
    let reads = || {
        let manifest = archive.load_manifest(3)?;
        archive.load_piece(&manifest.pieces[0])
    };
    let refused = |name: &str, what: &str| {
        let error = reads().unwrap_err();
        assert_eq!(error.kind(), RepositoryErrorKind::Damaged, "{what}: {error}");
        assert!(error.to_string().contains(name), "{what}: {error}");
    };
    for name in &names {
        let good = store.objects.lock()[name].clone();
        for at in 0..good.len() {
            store.edit(name, |bytes| bytes[at] ^= 1);
            refused(name, &format!("byte {at}"));
            store.edit(name, |bytes| bytes[at] ^= 1);
        }
        for length in 0..good.len() {
            store.objects.lock().insert(name.clone(), good.slice(..length));
            refused(name, &format!("cut to {length}"));
        }
        store.objects.lock().insert(name.clone(), good);
    }
    // A manifest under the number of another, or of another journal, is no manifest of this one.
    let strange = Manifest { generation: 4, ..made.clone() };
    archive.put_manifest(&strange).unwrap();
    let (three, four) = (archive.manifest_name(3), archive.manifest_name(4));
    let moved = store.objects.lock()[&four].clone();
    store.objects.lock().insert(three.clone(), moved);
    refused(&three, "another generation");
    let other = Archive::new(&repository, [1; 16]);
    let moved = store_get(&store, &four);
    store.objects.lock().insert(other.manifest_name(4), moved);
    assert!(other.load_manifest(4).is_err(), "another journal");
    reads().unwrap_err();
    archive.put_manifest(&made).unwrap();
    reads().unwrap();
    let missing = archive.piece_name(&made.pieces[0]);
    store.objects.lock().remove(&missing);
    assert_eq!(reads().unwrap_err().kind(), RepositoryErrorKind::NotFound);
}

fn store_get(store: &MemoryStore, name: &str) -> bytes::Bytes {
    store.objects.lock()[name].clone()
}

#[test]
fn manifests_that_no_reader_takes_are_not_written() {
    check_length(300, 300).unwrap();
    assert_eq!(check_length(301, 300).unwrap_err().kind(), RepositoryErrorKind::Refused);
    // A version that is not known is not damage, whatever else it says.
    let (_, repository, made) = filled();
    let archive = Archive::new(&repository, JOURNAL);
    archive.put_manifest(&Manifest { version: 2, generation: 4, ..made }).unwrap();
    let error = archive.load_manifest(4).unwrap_err();
    assert_eq!(error.kind(), RepositoryErrorKind::UnsupportedVersion, "{error}");
}
