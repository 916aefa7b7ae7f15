//! Names, holes, neighbours; files are read back in the suite.

use super::*;

#[test]
fn names() {
    assert_eq!(thin_name(Stream::Undo, 7, 2), "00000007.undo.thin.2");
    assert_eq!(parse_thin_name("00000007.undo.thin.2"), Some((Stream::Undo, 7, 2)));
    for wrong in ["00000007.undo", "00000007.undo.thin.02", "7.undo.thin.2", "00000007.undo.thin.x", "thin.1"]
    {
        assert_eq!(parse_thin_name(wrong), None, "{wrong}");
    }
    assert_eq!(Stream::parse_file_name("00000007.undo.thin.2"), None);
}

#[test]
fn small_holes_are_left_where_there_would_be_too_many() {
    assert_eq!(without(&[10..50, 60..61, 100..200], 300), [(0, 10), (50, 50), (200, 100)]);
    assert_eq!(without(&[0..100, 100..300], 300), []);
    let many: Vec<_> = (0..100_000_u64).map(|n| n * 1000 + 1..n * 1000 + 41 + n % 2 * 60).collect();
    let kept = without(&many, 200_000_000);
    assert!(kept.len() <= STRETCHES_MAX && kept.len() > 40_000, "{}", kept.len());
    assert_eq!(kept.first(), Some(&(0, 1001)));
}

#[test]
fn neighbours_of_what_is_gone() {
    let at = Lsn::captured;
    let gone =
        Gone { from: at(3), to: at(20), retained: vec![at(3), Lsn::local(7, 2), at(9)], ..Gone::default() };
    assert!([at(2), at(3), Lsn::local(7, 2), at(9), at(20), at(21)].iter().all(|lsn| !gone.has(*lsn)));
    assert!(gone.has(at(7)) && gone.has(Lsn::local(7, 3)) && gone.has(at(19)));
    assert_eq!(gone.around(at(4)), (at(3), Lsn::local(7, 2)));
    assert_eq!(gone.around(at(8)), (Lsn::local(7, 2), at(9)));
    assert_eq!(gone.around(at(19)), (at(9), at(20)));
}
