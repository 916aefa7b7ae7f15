//! Packing and expanding: every payload comes back, and nothing else does.

use super::{BYTES_MIN, Packed, Packer, looks_random};
use crate::OsDisk;
use crate::event::{PackedAt, PayloadAt};
use crate::log::frame::{FrameHeader, FrameType};
use crate::log::scan::payload_places;
use crate::log::{LogOptions, LogSet, RecordAt, RecordDraft, Stream};
use crate::meta::Timestamp;
use crate::random::Random;
use bytes::Bytes;
use std::sync::Arc;

fn random(numbers: &mut Random, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|_| numbers.below(256) as u8).collect()
}

/// Text, runs, random bytes, and mixtures of them.
fn payload(numbers: &mut Random) -> Vec<u8> {
    let mut all = Vec::new();
    for _ in 0..1 + numbers.below(4) {
        let bytes = match numbers.below(4) {
            0 => numbers.below(100),
            1 => numbers.below(5000),
            2 => 4096,
            _ => numbers.below(200_000),
        };
        match numbers.below(4) {
            0 => all.extend(random(numbers, bytes)),
            1 => all.resize(all.len() + bytes, numbers.below(256) as u8),
            2 => all.extend((0..bytes).map(|_| b"the quick brown fox\n"[numbers.below(20)])),
            _ => all.extend((0..bytes).map(|at| (at / 7) as u8)),
        }
    }
    all
}

fn at(payload: &[u8], packed: &Packed) -> (PayloadAt, Vec<u8>) {
    let at = PayloadAt { bytes: payload.len() as u32, crc: packed.crc, ..PayloadAt::default() };
    match &packed.stored {
        None => (at, payload.to_vec()),
        Some((stored, crc)) => {
            let packed = Some(PackedAt { bytes: stored.len() as u32, crc: *crc });
            (PayloadAt { packed, ..at }, stored.to_vec())
        }
    }
}

#[test]
fn what_is_packed_comes_back() {
    let packer = Packer::default();
    let (mut packed_some, mut left_some) = (0, 0);
    for seed in 0..300 {
        let payload = payload(&mut Random(seed));
        let packed = packer.pack(&payload.clone().into());
        if let Some((stored, _)) = &packed.stored {
            assert!(stored.len() <= payload.len() - payload.len() / 8, "seed {seed}: it does not pay");
            packed_some += 1;
        } else {
            left_some += 1;
        }
        let (at, stored) = at(&payload, &packed);
        assert_eq!(packer.unpack(&at, stored.into()), Ok(Bytes::from(payload)), "seed {seed}");
    }
    assert!(packed_some > 100 && left_some > 30, "{packed_some} {left_some}");
}

#[test]
fn random_bytes_are_left_alone_and_others_tried() {
    let mut numbers = Random(7);
    for bytes in [BYTES_MIN, 200, 1000, 4096, 8192, 65_536, 1 << 20] {
        let bytes = random(&mut numbers, bytes);
        assert!(bytes.len() < 1000 || looks_random(&bytes), "{}", bytes.len());
        assert_eq!(Packer::default().pack(&bytes.into()).stored, None);
    }
    let text: Vec<u8> = (0..4096).map(|_| b"0123456789abcdef"[numbers.below(16)]).collect();
    assert!(!looks_random(&text));
    let sparse: Vec<u8> =
        (0..4096).map(|at| if at % 2000 < 130 { numbers.below(256) as u8 } else { 0 }).collect();
    let (stored, _) = Packer::default().pack(&sparse.into()).stored.unwrap();
    assert!(stored.len() < 450, "{}", stored.len());
    assert_eq!(Packer::default().pack(&Bytes::from(vec![0; BYTES_MIN - 1])).stored, None);
}

/// Damage of each stored byte, each length and each checksum shows.
#[test]
fn damage_never_expands_to_other_content() {
    let packer = Packer::default();
    for seed in 0..20 {
        let mut numbers = Random(seed);
        let payload: Vec<u8> =
            (0..300 + numbers.below(600)).map(|_| b"some words of it "[numbers.below(17)]).collect();
        let (place, stored) = at(&payload, &packer.pack(&payload.clone().into()));
        let packed = place.packed.unwrap();
        for index in 0..stored.len() {
            let mut damaged = stored.clone();
            damaged[index] ^= 1 << numbers.below(8);
            assert!(packer.unpack(&place, damaged.clone().into()).is_err(), "seed {seed}: byte {index}");
            // Even where the checksum of what is stored was made to fit.
            let packed = Some(PackedAt { crc: crc32c::crc32c(&damaged), ..packed });
            if let Ok(bytes) = packer.unpack(&PayloadAt { packed, ..place }, damaged.into()) {
                assert_eq!(bytes, payload, "seed {seed}: byte {index}");
            }
        }
        for shorter in 0..stored.len() {
            assert!(packer.unpack(&place, stored[..shorter].to_vec().into()).is_err());
        }
        for bytes in [0, 1, place.bytes - 1, place.bytes + 1] {
            assert!(packer.unpack(&PayloadAt { bytes, ..place }, stored.clone().into()).is_err(), "{bytes}");
        }
        assert!(packer.unpack(&PayloadAt { crc: place.crc ^ 1, ..place }, stored.into()).is_err());
    }
}

#[test]
fn a_length_beyond_the_limit_is_refused_before_room_is_made() {
    let packer = Packer::default();
    let payload = vec![0; 1 << 20];
    let (place, stored) = at(&payload, &packer.pack(&payload.clone().into()));
    assert!(stored.len() < 200);
    for bytes in [(16 << 20) + 1, u32::MAX] {
        let told = packer.unpack(&PayloadAt { bytes, ..place }, stored.clone().into());
        assert_eq!(told, Err("a packed payload is longer than the limit"));
    }
    // A frame that holds more than it is said to does not get more room.
    let told = packer.unpack(&PayloadAt { bytes: 1000, ..place }, stored.into());
    assert_eq!(told, Err("a packed payload does not expand"));
}

/// The table of a frame with packed payloads, as FORMAT.md has it.
fn table(entries: &[[u32; 4]]) -> Vec<u8> {
    entries.iter().flatten().flat_map(|number| number.to_le_bytes()).collect()
}

fn places(entries: &[[u32; 4]]) -> Option<Vec<PayloadAt>> {
    let header = FrameHeader {
        frame: FrameType::Record,
        kind: 1,
        version: 1,
        lsn: None,
        time: Timestamp(0),
        head_bytes: 0,
        payload_count: entries.len() as u32,
        payload_bytes: entries.iter().map(|[stored, ..]| *stored).sum(),
        packed: true,
        body_crc: 0,
        durable: RecordAt::default(),
        chain: [0; 16],
    };
    payload_places(&table(entries), 3, 1000, &header)
}

#[test]
fn a_table_says_what_is_packed_and_claims_no_more_than_the_limit() {
    let found = places(&[[10, 11, 0, 0], [20, 21, 300, 31]]).unwrap();
    let whole = PayloadAt { segment: 3, offset: 1000, bytes: 10, crc: 11, packed: None };
    let packed = Some(PackedAt { bytes: 20, crc: 21 });
    assert_eq!(found, [whole, PayloadAt { segment: 3, offset: 1010, bytes: 300, crc: 31, packed }]);
    const MOST: u32 = 16 << 20;
    assert!(places(&[[1, 0, MOST, 1]]).is_some());
    assert!(places(&[[1, 0, MOST, 1], [1, 0, 2, 1]]).is_none(), "together more than a record may hold");
    assert!(places(&[[1, 0, u32::MAX, 1]]).is_none());
    assert!(places(&[[5, 0, 5, 1]]).is_none(), "packed into as many bytes");
    assert!(places(&[[5, 0, 0, 1]]).is_none(), "a checksum of nothing");
}

/// The bytes in the segment, by hand.
#[test]
fn a_frame_with_packed_payloads_is_laid_out_as_the_format_says() {
    let directory = tempfile::tempdir().unwrap();
    let set = LogSet::open(Arc::new(OsDisk), directory.path(), LogOptions::default()).unwrap();
    let log = set.log(Stream::Redo);
    let (text, noise) = (vec![b'x'; 1000], random(&mut Random(1), 50));
    let payloads = vec![Bytes::from(text.clone()), Bytes::from(noise.clone())];
    let draft = RecordDraft { kind: 9, head: b"head".to_vec(), payloads, ..RecordDraft::default() };
    let appended = log.append(&draft).unwrap();
    log.commit().unwrap();
    let file = std::fs::read(directory.path().join("00000001.seg")).unwrap();
    let frame = &file[128..];
    let number = |at: usize| u32::from_le_bytes(frame[at..at + 4].try_into().unwrap());
    let stored = number(88);
    // Version; flags: no LSN, packed; lengths of head, table and stored payloads.
    assert_eq!((file[8], frame[7], number(8), number(12), number(16)), (2, 2, 4, 2, stored + 50));
    let body = &frame[88 + 32 + 4..];
    let packed = &body[..stored as usize];
    let expected = table(&[
        [stored, crc32c::crc32c(packed), 1000, crc32c::crc32c(&text)],
        [50, crc32c::crc32c(&noise), 0, 0],
    ]);
    assert_eq!(&frame[88..88 + 32], expected);
    assert_eq!(zstd::bulk::decompress(packed, 1000).unwrap(), text);
    assert_eq!(&body[stored as usize..stored as usize + 50], noise);
    assert_eq!(appended.payloads.iter().map(|at| at.bytes).collect::<Vec<_>>(), [1000, 50]);
    let info = log.segments().pop().unwrap();
    assert_eq!(info.payload_bytes, 1050, "counted as they were given");
}

/// Another reader takes what FORMAT.md says, one frame of the format of today; so does this one.
#[test]
fn one_frame_and_nothing_else_is_taken() {
    let packer = Packer::default();
    let payload = vec![7; 5000];
    let (at, stored) = at(&payload, &packer.pack(&payload.clone().into()));
    assert!(at.packed.is_some());
    let told = |stored: &[u8]| {
        let packed = Some(PackedAt { bytes: stored.len() as u32, crc: crc32c::crc32c(stored) });
        packer.unpack(&PayloadAt { packed, ..at }, stored.to_vec().into())
    };
    assert!(told(&stored).is_ok());
    let half = |half: &[u8]| zstd::bulk::compress(half, 1).unwrap();
    let skipped = [0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 1, 2];
    for other in [
        [half(&payload[..2500]), half(&payload[2500..])].concat(),
        [skipped.as_slice(), &stored].concat(),
        [stored.as_slice(), &skipped].concat(),
    ] {
        assert!(told(&other).is_err(), "{other:?}");
    }
}
