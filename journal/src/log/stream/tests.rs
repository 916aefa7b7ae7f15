//! The list of segments beside a sealing: every interleaving of the two looks, and real threads. And what stays in the
//! system's memory.

use super::*;
use crate::disk::OsDisk;
use crate::disk::tests::{in_memory, lets_go};
use crate::log::{LogSet, RecordDraft, verify};
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

/// Long payloads that are written, read in their order, and verified.
#[test]
fn nothing_of_a_segment_stays_in_memory() {
    const PLACES: u64 = 256;
    let place = tempfile::tempdir().unwrap();
    let set = LogSet::open(Arc::new(OsDisk), place.path(), LogOptions::default()).unwrap();
    let log = set.log(Stream::Redo);
    let mut state = 1_u64;
    let mut noise = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    let mut payloads = Vec::new();
    for time in 0..128 {
        let bytes: Vec<u8> = (0..256 << 10).map(|_| noise()).collect();
        let draft = RecordDraft {
            kind: 1,
            time: Timestamp(time),
            payloads: vec![bytes.into()],
            ..RecordDraft::default()
        };
        payloads.extend(log.append(&draft).unwrap().payloads);
        log.commit().unwrap();
    }
    let file = place.path().join("00000001.seg");
    let written = in_memory(&file, PLACES);
    if !lets_go(&file, PLACES) {
        return;
    }
    for at in payloads {
        assert_eq!(log.read_payload(at).unwrap().len(), 256 << 10);
    }
    let read = in_memory(&file, PLACES);
    drop(set);
    assert!(verify(&OsDisk, place.path(), &mut |_| {}).unwrap().is_sound());
    let verified = in_memory(&file, PLACES);
    let left = [written, read, verified].map(Option::unwrap);
    assert!(left.iter().all(|left| *left < PLACES / 4), "{left:?} of {PLACES} places are in memory");
}
