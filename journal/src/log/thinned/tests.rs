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

/// A file that knows what it was told to forget.
#[derive(Default)]
struct Told(parking_lot::Mutex<Vec<Range<u64>>>);

impl DiskFile for Told {
    fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<usize> {
        Ok(0)
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Ok(())
    }

    fn forget(&self, offset: u64, bytes: u64) {
        self.0.lock().push(offset..offset + bytes);
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(0)
    }
}

#[test]
fn what_is_forgotten_lies_in_one_piece() {
    let told = Arc::new(Told::default());
    // Kept: 10 to 20, 50 to 80, 200 to 210; they lie at 1000, 1010 and 1040.
    let stretch = |(offset, bytes, at)| Stretch { offset, bytes, at };
    let stretches = [(10, 10, 1000), (50, 30, 1010), (200, 10, 1040)].map(stretch).to_vec();
    let file = ThinFile { file: Arc::<Told>::clone(&told), bytes: 300, stretches, gone: Gone::default() };
    for (asked, lies) in [
        (0..300, 1000..1050),
        (15..60, 1005..1020),
        (20..50, 1010..1010),
        (60..205, 1020..1045),
        (0..10, 1000..1000),
        (205..u64::MAX, 1045..1050),
        (210..300, 1050..1050),
    ] {
        file.forget(asked.start, asked.end - asked.start);
        assert_eq!(told.0.lock().pop(), Some(lies), "{asked:?}");
    }
    let none = ThinFile { file: told, bytes: 300, stretches: Vec::new(), gone: Gone::default() };
    none.forget(0, 300);
}
