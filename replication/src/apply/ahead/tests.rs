//! In whatever order they are wanted, and whoever leaves early.

use super::*;

fn extent(node: u64, offset: u64) -> Extent {
    Extent { node: NodeId(node), offset, length: 4 }
}

/// Gives the offset as bytes, and nothing for some; remembers what it was asked.
struct Numbers<'t>(&'t parking_lot::Mutex<Vec<Extent>>);

impl Reads for Numbers<'_> {
    fn read(&mut self, extent: Extent) -> Option<Bytes> {
        self.0.lock().push(extent);
        (extent.offset != 3).then(|| Bytes::copy_from_slice(&extent.offset.to_le_bytes()))
    }
}

#[test]
fn each_extent_comes_once_in_whatever_order_it_is_asked_for() {
    let asked = parking_lot::Mutex::new(Vec::new());
    let wanted: Vec<_> = (0..6).map(|offset| extent(1, offset)).chain([extent(2, 0)]).collect();
    std::thread::scope(|scope| {
        let mut ahead = Ahead::start(Numbers(&asked), wanted.clone(), scope).unwrap();
        let mut take = |node, offset| ahead.take(extent(node, offset)).map(|bytes| u64::from(bytes[0]));
        assert_eq!(take(1, 0), Some(0));
        assert_eq!(take(1, 4), Some(4), "those between wait");
        assert_eq!(take(1, 1), Some(1));
        assert_eq!(take(1, 1), None, "once");
        assert_eq!(take(1, 3), None, "it could not be read");
        assert_eq!(take(7, 7), None, "nobody reads it");
        assert_eq!(take(2, 0), Some(0));
        assert_eq!(take(1, 5), Some(5));
    });
    assert_eq!(*asked.lock(), wanted);
}

#[test]
fn who_leaves_early_is_not_waited_for() {
    let asked = parking_lot::Mutex::new(Vec::new());
    let wanted: Vec<_> = (0..10_000).map(|offset| extent(1, offset)).collect();
    std::thread::scope(|scope| drop(Ahead::start(Numbers(&asked), wanted, scope)));
    assert!(asked.lock().len() < 10_000);
}
