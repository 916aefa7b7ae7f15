//! Tests of the manifest: its bytes, what is refused, and that what its checksum vouches for is still not believed.

use super::super::tests::{Rng, entity, id, seed};
use super::*;
use journal::Lsn;

fn manifest() -> Manifest {
    let session = |number, parent, lsn| SessionEntry {
        number,
        entity: 3,
        parent,
        forgotten: parent.is_none(),
        id: id(u64::from(number)),
        repository: "r".to_owned(),
        taken: Timestamp(-2),
        lsn,
    };
    Manifest {
        generation: 5,
        next_entity: 4,
        next_session: 9,
        next_segment: 17,
        entities: vec![EntityEntry { number: 3, entity: Arc::new(entity("e", "/s")) }],
        sessions: vec![session(1, None, None), session(8, Some(1), Some(Lsn { captured: 6, local: 2 }))],
        segments: vec![SegmentEntry { entity: 3, number: 16, bytes: 300, footer_crc: 0xa1b2_c3d4 }],
    }
}

/// A manifest of these bytes whose checksum is right.
fn sealed(body: &[u8]) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    put_u32(&mut out, VERSION);
    put_u32(&mut out, 0);
    put_u32(&mut out, body.len() as u32);
    let crc = crc32c::crc32c_append(crc32c::crc32c(&out), body);
    put_u32(&mut out, crc);
    out.extend_from_slice(body);
    out
}

/// The layout, byte by byte, as the format page has it.
#[test]
fn the_bytes_are_those_of_the_format() {
    let head: &[&[u8]] =
        &[&[5, 0, 0, 0, 0, 0, 0, 0], &[4, 0, 0, 0], &[9, 0, 0, 0], &[17, 0, 0, 0, 0, 0, 0, 0]];
    let entities: &[&[u8]] = &[&[1], &[3, 0, 0, 0], b"\x0ae-scenario", b"\x08e-master", b"\x01e", b"\x02/s"];
    let taken = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    let (one, eight) = (id(1).0, id(8).0);
    let first: &[&[u8]] = &[&[1, 0, 0, 0], &[3, 0, 0, 0], &[2], &one, &taken, b"\x01r"];
    let lsn = [6, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0];
    let second: &[&[u8]] =
        &[&[8, 0, 0, 0], &[3, 0, 0, 0], &[5], &[1, 0, 0, 0], &lsn, &eight, &taken, b"\x01r"];
    let segments: &[&[u8]] = &[
        &[1],
        &[3, 0, 0, 0],
        &[16, 0, 0, 0, 0, 0, 0, 0],
        &[44, 1, 0, 0, 0, 0, 0, 0],
        &[0xd4, 0xc3, 0xb2, 0xa1],
    ];
    let body =
        [head.concat(), entities.concat(), vec![2], first.concat(), second.concat(), segments.concat()]
            .concat();
    assert_eq!(manifest().encode(), sealed(&body));
    assert_eq!(Manifest::decode(&sealed(&body)).unwrap().unwrap(), manifest());
    assert_eq!(sealed(&body)[..16], *b"REWINDCM\x01\0\0\0\0\0\0\0");
}

#[test]
fn every_change_and_every_other_length_is_refused() {
    let bytes = manifest().encode();
    for at in 0..bytes.len() {
        for flip in [1, 0x10, 0x80] {
            let mut changed = bytes.clone();
            changed[at] ^= flip;
            assert!(Manifest::decode(&changed).is_none(), "byte {at}");
        }
        assert!(Manifest::decode(&bytes[..at]).is_none(), "{at} bytes");
    }
    assert!(Manifest::decode(&[bytes.as_slice(), b"\0"].concat()).is_none());
}

#[test]
fn bodies_that_say_anything_are_refused_or_sound() {
    let seed = seed();
    let mut rng = Rng::new(seed);
    let body = manifest().encode().split_off(HEADER_BYTES);
    let mut accepted = 0;
    let mut check = |body: &[u8]| {
        if let Some(Ok(manifest)) = Manifest::decode(&sealed(body)) {
            assert!(manifest.is_sound());
            accepted += 1;
        }
    };
    for at in 0..body.len() {
        check(&body[..at]);
        for value in 0..=255 {
            let mut changed = body.clone();
            changed[at] = value;
            check(&changed);
        }
    }
    for _ in 0..20_000 {
        let mut changed = body.clone();
        for _ in 0..1 + rng.below(4) {
            let at = rng.below(changed.len());
            changed[at] = rng.next() as u8;
        }
        check(&changed);
    }
    assert!(accepted > 0);
    // Lists that are said to be endless end with the bytes.
    let mut endless = body[..24].to_vec();
    endless.extend_from_slice(&[0xff; 9]);
    endless.push(1);
    assert!(Manifest::decode(&sealed(&endless)).is_none());
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let refused = |change: fn(&mut Manifest)| {
        let mut one = manifest();
        change(&mut one);
        assert!(Manifest::decode(&one.encode()).is_none(), "{one:?}");
    };
    assert!(Manifest::decode(&manifest().encode()).is_some());
    refused(|m| m.sessions[1].parent = Some(8));
    refused(|m| m.sessions[1].parent = Some(7));
    refused(|m| m.sessions[0].parent = Some(8));
    refused(|m| m.sessions[0].entity = 4);
    refused(|m| m.sessions.swap(0, 1));
    refused(|m| m.sessions[0].number = 8);
    refused(|m| m.next_session = 8);
    refused(|m| m.next_entity = 3);
    refused(|m| m.next_segment = 16);
    refused(|m| m.segments[0].entity = 0);
    refused(|m| m.segments.push(m.segments[0]));
    refused(|m| m.entities.push(m.entities[0].clone()));
    refused(|m| m.entities.clear());
    refused(|m| m.entities[0].entity = Arc::new(entity("e", "s")));
    refused(|m| m.entities[0].entity = Arc::new(entity(&"e".repeat(TEXT_BYTES_MAX + 1), "/s")));
    refused(|m| m.sessions[0].repository = "r".repeat(TEXT_BYTES_MAX + 1));
    refused(|m| {
        let last = m.sessions[1].clone();
        let more = (9..).take(SESSIONS_OF_ENTITY_MAX).map(|number| SessionEntry { number, ..last.clone() });
        m.sessions.extend(more);
        m.next_session = u32::MAX;
    });
}
