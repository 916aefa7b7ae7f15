//! Bodies with writes that put back undo, and what is refused of them.

use super::*;
use crate::log::RecordAt;

const AT: PayloadAt = PayloadAt { segment: 3, offset: 300, bytes: 9000, crc: 7, packed: None };

fn part(lsn: Lsn, data: Payload, before: Option<BlockHash>) -> RedoRecord {
    let events = vec![Event::Write { node: NodeId(5000), offset: 4096, data, before }];
    let (time, provenance, root) = (Timestamp(1), Provenance::Local, RootNo(0));
    let capture = Capture { lsn, time, provenance, root, path: b"f".to_vec(), events };
    RedoRecord::Part(Part { number: 0, last: true, capture })
}

fn undone(skip: u32, bytes: u32, known: Option<bytes::Bytes>) -> Payload {
    Payload::Undone { at: AT, skip, bytes, known }
}

fn stored(draft: RecordDraft) -> StoredRecord {
    assert!(draft.payloads.is_empty());
    StoredRecord {
        at: RecordAt::default(),
        next: RecordAt::default(),
        kind: draft.kind,
        version: draft.version,
        lsn: draft.lsn,
        time: draft.time,
        head: draft.head.into(),
        payloads: Vec::new(),
    }
}

/// What is on disk: it never changes.
#[test]
fn undo_put_back_is_a_place_in_the_undo_stream() {
    let known = Some(bytes::Bytes::from_static(&[1; 4096]));
    let draft = part(Lsn::local(9, 2), undone(100, 4096, known), None).to_draft(Timestamp(0)).unwrap();
    let hex: String = draft.head.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, "09020204000166000101".to_owned() + "0afb8813fb0010fb001003fb2c01fb2823070064");
    assert_eq!(draft.version, UNDONE_VERSION);
    let read = RedoRecord::from_stored(&stored(draft)).unwrap();
    assert_eq!(read, part(Lsn::local(9, 2), undone(100, 4096, None), None));
    // Others are as they ever were.
    let external = Payload::External { hash: [9; 16], bytes: 4 };
    let draft = part(Lsn::captured(9), external, Some([1; 16])).to_draft(Timestamp(0)).unwrap();
    assert_eq!(draft.version, BODY_VERSION);
}

#[test]
fn what_does_not_fit_is_refused() {
    let lsn = Lsn::local(9, 2);
    let draft = |record: RedoRecord| record.to_draft(Timestamp(0));
    assert!(draft(part(Lsn::captured(9), undone(0, 10, None), None)).is_err(), "captured");
    assert!(draft(part(lsn, undone(0, 10, None), Some([1; 16]))).is_err(), "over a known hash");
    let read = |record: RedoRecord, change: &dyn Fn(&mut RecordDraft)| {
        let mut draft = draft(record).unwrap();
        change(&mut draft);
        RedoRecord::from_stored(&stored(draft)).map(drop)
    };
    let fits = || part(lsn, undone(4904, 4096, None), None);
    assert_eq!(read(fits(), &|_| ()), Ok(()));
    let range = Err(BodyError("range outside its payload"));
    assert_eq!(read(part(lsn, undone(4905, 4096, None), None), &|_| ()), range);
    assert_eq!(read(part(lsn, undone(u32::MAX, 4096, None), None), &|_| ()), range);
    let long = PayloadAt { bytes: u32::MAX, ..AT };
    let long = |bytes| part(lsn, Payload::Undone { at: long, skip: 0, bytes, known: None }, None);
    assert_eq!(read(long(WRITE_BYTES_MAX as u32), &|_| ()), Ok(()));
    assert_eq!(read(long(WRITE_BYTES_MAX as u32 + 1), &|_| ()), range);
    let version = Err(BodyError("events of another version"));
    assert_eq!(read(fits(), &|draft| draft.version = BODY_VERSION), version);
    let external = Payload::External { hash: [9; 16], bytes: 4 };
    assert_eq!(read(part(lsn, external, None), &|draft| draft.version = UNDONE_VERSION), version);
    assert_eq!(read(fits(), &|draft| draft.version = 3), Err(BodyError("unknown version")));
    // The captured half of an LSN is the first, the local one the second byte.
    let captured = |draft: &mut RecordDraft| draft.head[1] = 0;
    assert_eq!(read(fits(), &captured), Err(BodyError("a captured change puts back undo")));
}
