//! Layouts, byte by byte: what FORMAT.md says must be what the code writes.

use super::codec::Take;
use super::frame::{FRAME_HEADER_BYTES, FrameHeader, FrameKey, FrameType};
use super::manifest::{FileEntry, Identity, Manifest, SegmentEntry};
use super::recover::Walk;
use super::scan::Frame;
use super::segment::{
    Commit, FIRST_FRAME, Footer, HeaderFault, SEGMENT_HEADER_BYTES, SegmentHeader, Summary,
};
use super::stream::check_limits;
use super::types::{RecordAt, RecordDraft, Stream};
use crate::error::JournalError;
use crate::lsn::Lsn;
use crate::meta::Timestamp;

const IDENTITY: Identity = Identity([0xa0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 0xaf]);

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn segment_header() -> SegmentHeader {
    SegmentHeader {
        version: 1,
        stream: Stream::Undo,
        identity: IDENTITY,
        number: 7,
        created: Timestamp(0x0102_0304_0506_0708),
        previous: [0xcc; 16],
    }
}

fn frame_header() -> FrameHeader {
    FrameHeader {
        frame: FrameType::Record,
        kind: 5,
        version: 6,
        lsn: Some(Lsn::local(17, 4)),
        time: Timestamp(-2),
        head_bytes: 3,
        payload_count: 1,
        payload_bytes: 10,
        packed: false,
        body_crc: 0,
        durable: RecordAt { segment: 7, offset: 128 },
        chain: [0; 16],
    }
}

const BODY: [u8; 11] = [10, 0, 0, 0, 1, 2, 3, 4, b'a', b'b', b'c'];
const AT: RecordAt = RecordAt { segment: 7, offset: 256 };

#[test]
fn segment_header_golden() {
    let bytes = segment_header().encode();
    let expected = [
        "524557494e445347",
        "01000000",
        "02",
        "000000",
        "a00102030405060708090a0b0c0d0eaf",
        "0700000000000000",
        "0807060504030201",
        "cccccccccccccccccccccccccccccccc",
    ];
    assert_eq!(hex(&bytes[..64]), expected.concat());
    assert!(bytes[64..124].iter().all(|byte| *byte == 0));
    assert_eq!(bytes[124..], crc32c::crc32c(&bytes[..124]).to_le_bytes());
    assert_eq!(hex(&bytes[124..]), GOLDEN_SEGMENT_CRC);
    assert_eq!(SegmentHeader::decode(&bytes), Ok(segment_header()));
    assert_eq!(hex(&segment_header().chain()), hex(&blake3::hash(&bytes).as_bytes()[..16]));
}

#[test]
fn a_newer_segment_is_told_from_a_damaged_one() {
    let mut bytes = segment_header().encode();
    bytes[8] = 3;
    assert!(matches!(SegmentHeader::decode(&bytes), Err(HeaderFault::Damaged(_))));
    let crc = crc32c::crc32c(&bytes[..SEGMENT_HEADER_BYTES - 4]);
    bytes[SEGMENT_HEADER_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(SegmentHeader::decode(&bytes), Err(HeaderFault::Newer(3)));
}

#[test]
fn frame_header_golden() {
    let key = FrameKey::new(&IDENTITY, Stream::Undo, 7, true);
    let mut header = frame_header();
    let bytes = header.finish(key, AT.offset, &[0xdd; 16], &BODY);
    let expected = [
        "52574631",
        "01",
        "05",
        "06",
        "01",
        "03000000",
        "01000000",
        "0a000000",
        GOLDEN_BODY_CRC,
        "feffffffffffffff",
        "1100000000000000",
        "0400000000000000",
        "0700000000000000",
        "8000000000000000",
        GOLDEN_CHAIN,
        "00000000",
        GOLDEN_HEADER_CRC,
    ];
    assert_eq!(hex(&bytes), expected.concat());

    let mut chained = vec![0xdd; 16];
    chained.extend_from_slice(&bytes[..64]);
    chained.extend_from_slice(&BODY);
    assert_eq!(hex(&blake3::hash(&chained).as_bytes()[..16]), GOLDEN_CHAIN);
    let mut checked = IDENTITY.0.to_vec();
    checked.push(2);
    checked.extend_from_slice(&7_u64.to_le_bytes());
    checked.extend_from_slice(&256_u64.to_le_bytes());
    checked.extend_from_slice(&bytes[..84]);
    assert_eq!(hex(&crc32c::crc32c(&checked).to_le_bytes()), GOLDEN_HEADER_CRC);

    let decoded = FrameHeader::decode(&bytes, key, AT).unwrap();
    assert_eq!(decoded, header);
    assert_eq!((decoded.bare_bytes(), decoded.frame_bytes()), (88 + 8 + 3 + 10, 112));
    decoded.check_body(Some(&[0xdd; 16]), &BODY).unwrap();
    decoded.check_body(None, &BODY).unwrap();
    assert!(decoded.check_body(Some(&[0xde; 16]), &BODY).is_err());
}

#[test]
fn a_frame_counts_only_where_it_was_written() {
    let key = FrameKey::new(&IDENTITY, Stream::Undo, 7, true);
    let bytes = frame_header().finish(key, AT.offset, &[0; 16], &BODY);
    let moved = RecordAt { offset: AT.offset + 8, ..AT };
    assert!(FrameHeader::decode(&bytes, key, moved).is_err());
    for other in
        [FrameKey::new(&IDENTITY, Stream::Redo, 7, true), FrameKey::new(&IDENTITY, Stream::Undo, 8, true)]
    {
        assert!(FrameHeader::decode(&bytes, other, AT).is_err());
    }
    for offset in 0..FRAME_HEADER_BYTES {
        let mut damaged = bytes;
        damaged[offset] ^= 0x40;
        assert!(FrameHeader::decode(&damaged, key, AT).is_err(), "byte {offset}");
    }
}

#[test]
fn a_frame_beyond_the_limits_is_refused_whatever_its_checksum() {
    let key = FrameKey::new(&IDENTITY, Stream::Undo, 7, true);
    let too_long = [
        FrameHeader { head_bytes: (16 << 20) + 1, ..frame_header() },
        FrameHeader { payload_bytes: u32::MAX, ..frame_header() },
        FrameHeader { payload_count: (1 << 20) + 1, ..frame_header() },
        FrameHeader { durable: RecordAt { segment: 8, offset: 0 }, ..frame_header() },
    ];
    for mut header in too_long {
        let bytes = header.finish(key, AT.offset, &[0; 16], &BODY);
        assert!(FrameHeader::decode(&bytes, key, AT).is_err(), "{header:?}");
    }
}

#[test]
fn commit_golden() {
    let commit = Commit { start: 0x80, records: 3 };
    assert_eq!(hex(&commit.encode()), "80000000000000000300000000000000");
    assert_eq!(Commit::decode(&commit.encode()), Some(commit));
    assert_eq!(Commit::decode(&[0; 15]), None);
    assert_eq!(Commit::decode(&[0; 17]), None);
}

fn footer() -> Footer {
    let mut footer = Footer::default();
    for (offset, lsn, time) in
        [(128, Some(5), 30), (4096, None, 10), (300_000, Some(4), 20), (900_000, None, 25)]
    {
        let lsn = lsn.map(Lsn::captured);
        footer.summary.note(lsn, Timestamp(time), 100);
        footer.index.note(offset, lsn);
    }
    footer
}

#[test]
fn footer_golden() {
    let footer = footer();
    let some = |least: u64, greatest: u64| {
        let numbers = [1, least, 0, greatest, 0];
        numbers.iter().map(|n: &u64| hex(&n.to_le_bytes())).collect::<String>()
    };
    let none = "0".repeat(80);
    let number = |n: u64| hex(&n.to_le_bytes());
    let summary = [number(4), number(400), number(10), number(30), some(4, 5)].concat();
    let index = [number(128), some(5, 5), number(300_000), some(4, 4), number(900_000), none].concat();
    let bytes = footer.encode();
    assert_eq!(hex(&bytes), [summary, number(3), index].concat());
    assert_eq!(Footer::decode(&bytes), Some(footer.clone()));
    for length in 0..bytes.len() {
        assert_eq!(Footer::decode(&bytes[..length]), None);
    }
    assert_eq!(footer.index.find(Lsn::captured(3)), Some(128));
    assert_eq!(footer.index.find(Lsn::captured(5)), Some(128));
    assert_eq!(footer.index.find(Lsn::captured(6)), None);
}

fn manifest() -> Manifest {
    let sealed = SegmentEntry {
        thin: None,
        number: 3,
        sealed: true,
        bytes: 5000,
        footer: 4000,
        chain: [0xee; 16],
        summary: footer().summary,
    };
    Manifest {
        identity: IDENTITY,
        created: Timestamp(9),
        generation: 11,
        note: b"note".to_vec(),
        files: vec![FileEntry { name: "a.checkpoint".to_owned(), bytes: 77, hash: [0xbb; 16] }],
        redo: vec![sealed, SegmentEntry::live(4, 640)],
        undo: vec![SegmentEntry::live(1, FIRST_FRAME)],
    }
}

#[test]
fn a_manifest_is_of_version_2_only_if_a_segment_is_thinned() {
    let plain = manifest().encode();
    let mut thinned = manifest();
    thinned.redo[0].thin = Some(super::manifest::ThinEntry { generation: 2, stored: 1234 });
    let bytes = thinned.encode();
    assert_eq!((plain[8], bytes[8], bytes.len() - plain.len()), (1, 2, 3 * 16), "16 bytes more an entry");
    assert_eq!(Manifest::decode(&bytes), Some(Ok(thinned.clone())));
    assert_eq!(Manifest::decode(&plain), Some(Ok(manifest())));
    let info = thinned.redo[0].info();
    assert_eq!((info.bytes, info.thinned, info.is_thinned), (1234, 5000 - 1234, true));
    for length in 0..bytes.len() {
        assert_eq!(Manifest::decode(&bytes[..length]), None);
    }
    // The live segment is never thinned.
    thinned.undo[0].thin = Some(super::manifest::ThinEntry { generation: 1, stored: 5 });
    assert_eq!(Manifest::decode(&thinned.encode()), None);
}

#[test]
fn manifest_golden() {
    let bytes = manifest().encode();
    let body = bytes.len() - 24;
    let number = |n: u64| hex(&n.to_le_bytes());
    let mut summary = Vec::new();
    footer().summary.encode(&mut summary);
    let zero = "0".repeat(2 * (16 + 72));
    let expected = [
        "524557494e444d46",
        "01000000",
        "00000000",
        &hex(&(body as u32).to_le_bytes()),
        &hex(&bytes[20..24]),
        &hex(&IDENTITY.0),
        &number(9),
        &number(11),
        "04000000",
        &hex(b"note"),
        "01000000",
        "0c000000",
        &hex(b"a.checkpoint"),
        &number(77),
        &"bb".repeat(16),
        "02000000",
        &number(3),
        &number(1),
        &number(5000),
        &number(4000),
        &"ee".repeat(16),
        &hex(&summary),
        &number(4),
        &number(0),
        &number(640),
        &number(0),
        &zero,
        "01000000",
        &number(1),
        &number(0),
        &number(128),
        &number(0),
        &zero,
    ];
    assert_eq!(hex(&bytes), expected.concat());
    let mut checked = bytes[..20].to_vec();
    checked.extend_from_slice(&bytes[24..]);
    assert_eq!(bytes[20..24], crc32c::crc32c(&checked).to_le_bytes());
    assert_eq!(Manifest::decode(&bytes), Some(Ok(manifest())));
    for length in 0..bytes.len() {
        assert_eq!(Manifest::decode(&bytes[..length]), None, "cut to {length}");
    }
}

#[test]
fn a_manifest_that_makes_no_sense_is_refused() {
    let gap = |manifest: &mut Manifest| manifest.redo[1].number = 5;
    let two_live = |manifest: &mut Manifest| manifest.redo[0].sealed = false;
    let none_live = |manifest: &mut Manifest| manifest.undo[0].sealed = true;
    let empty = |manifest: &mut Manifest| manifest.undo.clear();
    for change in [gap as fn(&mut Manifest), two_live, none_live, empty] {
        let mut manifest = manifest();
        change(&mut manifest);
        assert_eq!(Manifest::decode(&manifest.encode()), None, "{manifest:?}");
    }
    let mut newer = manifest().encode();
    newer[8] = 9;
    let checked = [&newer[..20], &newer[24..]].concat();
    newer[20..24].copy_from_slice(&crc32c::crc32c(&checked).to_le_bytes());
    assert_eq!(Manifest::decode(&newer), Some(Err(9)));
}

#[test]
fn manifest_finds_segments_by_number() {
    let manifest = manifest();
    assert_eq!(manifest.segment(Stream::Redo, 4).map(|entry| entry.number), Some(4));
    for number in [0, 2, 5, u64::MAX] {
        assert_eq!(manifest.segment(Stream::Redo, number), None);
    }
}

#[test]
fn names_of_segment_files() {
    for (stream, number, name) in [
        (Stream::Redo, 1, "00000001.seg"),
        (Stream::Undo, 99_999_999, "99999999.undo"),
        (Stream::Redo, 100_000_000, "100000000.seg"),
    ] {
        assert_eq!(stream.file_name(number), name);
        assert_eq!(Stream::parse_file_name(name), Some((stream, number)));
    }
    for name in
        ["1.seg", "+0000001.seg", "000000001.seg", "00000001.seg.new", "00000001", "manifest", ".seg", "lock"]
    {
        assert_eq!(Stream::parse_file_name(name), None, "{name}");
    }
}

#[test]
fn summaries_merge() {
    let (mut whole, mut left, mut right) = (Summary::default(), Summary::default(), Summary::default());
    for n in 0..10_u64 {
        let lsn = (n % 3 == 0).then(|| Lsn::captured(n));
        whole.note(lsn, Timestamp(50 - n as i64), n);
        if n < 4 { &mut left } else { &mut right }.note(lsn, Timestamp(50 - n as i64), n);
    }
    left.merge(&right);
    left.merge(&Summary::default());
    assert_eq!(left, whole);
    let mut bytes = Vec::new();
    whole.encode(&mut bytes);
    assert_eq!(Summary::decode(&mut Take(&bytes)), Some(whole));
}

fn walked(frame: FrameType, offset: u64, durable: u64, head: Vec<u8>) -> Frame {
    let at = RecordAt { segment: 7, offset };
    let header = FrameHeader { frame, durable: RecordAt { segment: 7, offset: durable }, ..frame_header() };
    Frame { at, next: offset + 104, header, head: head.into(), payloads: Vec::new() }
}

fn commit_of(offset: u64, durable: u64, start: u64, records: u64) -> Frame {
    walked(FrameType::Commit, offset, durable, Commit { start, records }.encode())
}

/// A walk over a record at 128, its commit at 232 and a record at 336.
fn walk() -> Walk {
    let mut walk = Walk::new(&segment_header(), RecordAt::default());
    walk.take(walked(FrameType::Record, 128, 128, Vec::new())).unwrap();
    walk.take(commit_of(232, 128, 128, 1)).unwrap();
    walk.take(walked(FrameType::Record, 336, 336, Vec::new())).unwrap();
    assert_eq!((walk.committed, walk.durable.offset), (336, 336));
    walk
}

#[test]
fn a_commit_agrees_with_its_batch_and_vouches_for_the_one_before() {
    walk().take(commit_of(440, 336, 336, 1)).unwrap();
    for (durable, start, records) in [(336, 336, 2), (336, 336, 0), (336, 232, 1), (128, 336, 1)] {
        assert!(walk().take(commit_of(440, durable, start, records)).is_err(), "{durable} {start} {records}");
    }
    // An empty batch between does not lower what the next one has to vouch for.
    let mut empty = Walk::new(&segment_header(), RecordAt::default());
    empty.take(walked(FrameType::Record, 128, 128, Vec::new())).unwrap();
    empty.take(commit_of(232, 128, 128, 1)).unwrap();
    empty.take(commit_of(336, 336, 336, 0)).unwrap();
    empty.take(walked(FrameType::Record, 440, 336, Vec::new())).unwrap();
    assert!(empty.take(commit_of(544, 232, 440, 1)).is_err());
}

#[test]
fn a_footer_ends_a_segment_and_agrees_with_it() {
    let ended = || {
        let mut walk = walk();
        walk.take(commit_of(440, 336, 336, 1)).unwrap();
        walk
    };
    let right = ended().footer.encode();
    assert!(
        walk().take(walked(FrameType::Footer, 440, 440, right.clone())).is_err(),
        "in the middle of a batch"
    );
    assert!(ended().take(walked(FrameType::Footer, 544, 336, right.clone())).is_err(), "does not vouch");
    assert!(
        ended().take(walked(FrameType::Footer, 544, 544, footer().encode())).is_err(),
        "of another segment"
    );
    let mut walk = ended();
    walk.take(walked(FrameType::Footer, 544, 544, right)).unwrap();
    assert_eq!((walk.footer_at, walk.committed), (Some(544), 648));
    assert!(walk.take(commit_of(648, 544, 648, 0)).is_err(), "behind the footer");
}

#[test]
fn limits_of_drafts() {
    check_limits(&RecordDraft { head: vec![0; 16 << 20], ..RecordDraft::default() }).unwrap();
    let too_long = [
        RecordDraft { head: vec![0; (16 << 20) + 1], ..RecordDraft::default() },
        RecordDraft { payloads: vec![bytes::Bytes::from(vec![0; 9 << 20]); 2], ..RecordDraft::default() },
        RecordDraft { payloads: vec![bytes::Bytes::new(); (1 << 20) + 1], ..RecordDraft::default() },
    ];
    for draft in too_long {
        assert!(matches!(check_limits(&draft), Err(JournalError::TooLong { .. })));
    }
}

const GOLDEN_SEGMENT_CRC: &str = "0ca1a537";
const GOLDEN_BODY_CRC: &str = "86db51fb";
const GOLDEN_CHAIN: &str = "3328c656b4b57391bbd070ff39e2b354";
const GOLDEN_HEADER_CRC: &str = "6340a3c8";
