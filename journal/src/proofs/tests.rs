//! Which comparisons are journaled, and what a journal that was read again says.

use super::{Compared, Proofs, Scrubbed};
use crate::event::{Capture, Event, Marker, Provenance};
use crate::id::RootNo;
use crate::log::{Part, RecordAt, StoredRecord};
use crate::lsn::Lsn;
use crate::meta::Timestamp;
use crate::record::{Control, RedoRecord};

const SECOND: i64 = 1_000_000_000;

#[test]
fn news_are_journaled_at_once_and_the_rest_now_and_then() {
    let mut proofs = Proofs::default();
    let mut check = |second: i64, differs: &[RootNo], expected: bool| {
        let compared =
            Compared::new(Lsn::captured(second as u64), Timestamp(second * SECOND), differs.to_vec());
        let journals = proofs.compared(&compared);
        assert_eq!(journals, expected, "at second {second}");
        if journals {
            proofs.control(&compared.to_control());
        }
        assert_eq!(proofs.compared, Some(compared));
    };
    check(100, &[], true);
    check(101, &[], false);
    check(150, &[], false);
    check(161, &[], true);
    check(162, &[RootNo(1)], true);
    check(163, &[RootNo(1)], false);
    check(164, &[], true);
    check(165, &[], false);
    // A clock that was set back.
    check(20, &[], true);
}

/// What is on disk: it never changes.
#[test]
fn records_are_frozen() {
    let check = |record: RedoRecord, expected: &str| {
        let draft = record.to_draft(Timestamp(1)).unwrap();
        let hex: String = draft.head.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, expected);
        let stored = StoredRecord {
            at: RecordAt::default(),
            next: RecordAt::default(),
            kind: draft.kind,
            version: draft.version,
            lsn: draft.lsn,
            time: draft.time,
            head: draft.head.into(),
            payloads: Vec::new(),
        };
        assert_eq!(RedoRecord::from_stored(&stored).unwrap(), record);
    };
    let compared = Compared::new(Lsn::captured(300), Timestamp(-2), vec![RootNo(0), RootNo(7)]);
    check(RedoRecord::Control(compared.to_control()), "0dfb2c0103020007");
    let scrubbed = Scrubbed {
        began: Timestamp(1),
        ended: Timestamp(2),
        captured: 3,
        entries: 4,
        files: 5,
        bytes: 6,
        passed: 7,
        replica_differs: 8,
        master_differs: 9,
        complete: true,
    };
    check(RedoRecord::Control(Control::Scrubbed(scrubbed)), "0e02040304050607080901");
    let capture = Capture {
        lsn: Lsn::captured(3),
        time: Timestamp(4),
        provenance: Provenance::Derived,
        root: RootNo(0),
        path: Vec::new(),
        events: vec![Event::Mark(Marker::Digest {
            root: RootNo(1),
            digest: std::array::from_fn(|n| n as u8),
        })],
    };
    check(
        RedoRecord::Part(Part { number: 0, last: true, capture }),
        "030008010000000101090701000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
    );
}
