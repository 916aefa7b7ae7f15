//! The file comes back as it was, or counts as none.

use super::*;

fn some() -> Verified {
    let mut verified = Verified::new();
    for number in 0..10_u8 {
        verified
            .found_whole(Id::of(&[number]), Timestamp { seconds: 1000 + i64::from(number), nanoseconds: 5 });
    }
    verified
}

#[test]
fn it_comes_back() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("verified");
    assert_eq!(Verified::load(&path).unwrap(), Verified::new());
    let mut verified = some();
    verified.save(&path).unwrap();
    assert_eq!(Verified::load(&path).unwrap(), verified);
    assert_eq!(verified.date(&Id::of(&[3])), Some(1003));
    verified.found_damaged(&Id::of(&[3]));
    verified.retain(|id| *id != Id::of(&[4]));
    assert_eq!((verified.date(&Id::of(&[3])), verified.date(&Id::of(&[4]))), (None, None));
    verified.save(&path).unwrap();
    assert_eq!(Verified::load(&path).unwrap(), verified);
}

#[test]
fn damage_says_nothing() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("verified");
    some().save(&path).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1;
        std::fs::write(&path, flipped).unwrap();
        assert_eq!(Verified::load(&path).unwrap(), Verified::new(), "byte {at}");
        std::fs::write(&path, &bytes[..at]).unwrap();
        assert_eq!(Verified::load(&path).unwrap(), Verified::new(), "{at} bytes");
    }
}

#[test]
fn several_checks_write_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("verified");
    std::thread::scope(|scope| {
        for number in 0..8 {
            let path = &path;
            scope.spawn(move || {
                let mut verified = Verified::new();
                verified.found_whole(Id([number; 32]), Timestamp::now());
                for _ in 0..20 {
                    verified.save(path).unwrap();
                }
            });
        }
    });
    let kept = Verified::load(&path).unwrap();
    assert!((0..8).all(|number| kept.date(&Id([number; 32])).is_some()), "{kept:?}");
}

/// Whoever read the file before a pack was found damaged does not bring back what was said of the pack then.
#[test]
fn a_check_that_ends_later_takes_nothing_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("verified");
    some().save(&path).unwrap();
    let pack = |number: u8| Id::of(&[number]);
    let at = |seconds| Timestamp { seconds, nanoseconds: 0 };
    let (mut first, mut later) = (Verified::load(&path).unwrap(), Verified::load(&path).unwrap());
    first.found_damaged(&pack(3));
    first.found_damaged(&pack(4));
    first.found_whole(pack(5), at(5000));
    first.found_whole(pack(6), at(6000));
    first.retain(|id| *id != pack(7));
    first.save(&path).unwrap();
    later.found_whole(pack(4), at(4000));
    later.found_whole(pack(6), at(5999));
    later.found_whole(pack(20), at(7000));
    later.found_damaged(&pack(8));
    later.save(&path).unwrap();
    let kept = Verified::load(&path).unwrap();
    for (number, date) in [
        (2, Some(1002)),
        (3, None),
        (4, None),
        (5, Some(5000)),
        (6, Some(6000)),
        (7, None),
        (8, None),
        (20, Some(7000)),
    ] {
        assert_eq!(kept.date(&pack(number)), date, "pack {number}");
    }
}
