//! The list of segments beside a sealing: every interleaving of the two looks, and real threads.

use super::*;
use crate::disk::OsDisk;
use crate::log::{LogSet, RecordDraft};
use crate::meta::Timestamp;
use std::sync::atomic::AtomicU64;

fn sealed(number: u64) -> SegmentEntry {
    SegmentEntry { sealed: true, ..SegmentEntry::live(number, 900) }
}

/// What is listed if the looks find these, one after the other.
fn check(looks: &[(&[u64], u64, u64)], expected: &[(u64, bool)]) {
    let (mut named, mut live) = (looks.iter(), looks.iter());
    let found = together(
        &mut || {
            let (before, last, _) = named.next().unwrap();
            let before = before.iter().map(|number| sealed(*number));
            before.chain([SegmentEntry::live(*last, 200)]).collect()
        },
        &mut || SegmentEntry::live(live.next().unwrap().2, 500),
    );
    let found: Vec<_> = found.iter().map(|info| (info.number, info.sealed)).collect();
    assert_eq!(found, expected);
    assert_eq!(named.len(), 0, "looked often enough");
}

#[test]
fn a_sealing_hides_no_segment() {
    check(&[(&[1, 2], 3, 3)], &[(1, true), (2, true), (3, false)]);
    check(&[(&[], 7, 7)], &[(7, false)]);
    // The manifest says sealed, the writer has not turned to the next one.
    check(&[(&[1, 2], 3, 2)], &[(1, true), (2, true)]);
    // Sealed behind the look at the manifest: again.
    check(&[(&[1], 2, 3), (&[1, 2], 3, 3)], &[(1, true), (2, true), (3, false)]);
    check(&[(&[], 1, 2), (&[1], 2, 4), (&[2, 3], 4, 4)], &[(2, true), (3, true), (4, false)]);
}

#[test]
fn segments_follow_one_another_beside_sealings() {
    let place = std::env::temp_dir().join(format!("rewind-segments-{}", std::process::id()));
    drop(std::fs::remove_dir_all(&place));
    let set = LogSet::open(Arc::new(OsDisk), &place, LogOptions::default()).unwrap();
    let log = set.log(Stream::Redo);
    let (done, holes) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let all = log.segments();
                    let hole =
                        all.iter().zip(all.iter().skip(1)).any(|(one, next)| one.number + 1 != next.number);
                    holes.fetch_add(u64::from(hole), Ordering::Relaxed);
                }
            });
        }
        for number in 0..300 {
            let (head, payloads) = (vec![1; 8], Vec::new());
            let draft =
                RecordDraft { kind: 1, version: 1, lsn: None, time: Timestamp(number), head, payloads };
            log.append(&draft).unwrap();
            log.commit().unwrap();
            log.seal().unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
    drop(set);
    std::fs::remove_dir_all(&place).unwrap();
    assert_eq!(holes.load(Ordering::Relaxed), 0);
}
