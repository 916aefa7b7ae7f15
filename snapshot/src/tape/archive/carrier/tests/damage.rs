//! Carriers that were flipped, cut, or lost pieces: what comes out is exact, or what is not is named; never whole.

use super::*;
use crate::tape::archive::Proof;

/// Where the members of a carrier are: header, content, path.
fn members(bytes: &[u8]) -> Vec<(Range<usize>, Range<usize>, String)> {
    let mut scan = Scanner::new(bytes);
    let mut found = Vec::new();
    while let Some((head, is_adjacent)) = scan.next() {
        assert!(is_adjacent);
        let (start, content) = (head.member.offset as usize, scan.input.at as usize);
        let end = content + head.member.stored as usize;
        scan.input.take(head.member.stored.next_multiple_of(512));
        let path = String::from_utf8(head.member.path).unwrap();
        found.push((start..content, content..end, path));
    }
    found
}

/// Whatever is told as right is what was written. What came out, and the verdict; `None` if nothing could be read.
fn check(
    sample: &Sample,
    bytes: &[u8],
    key: &TapeKey,
    what: &str,
) -> Option<(BTreeMap<Vec<u8>, Got>, Verdict)> {
    let (got, verdict) = match read(bytes, Some(key)) {
        Ok(read) => read,
        Err(error) => {
            assert!(!matches!(error, ArchiveError::WrongKey { .. }), "{what}: {error:?}");
            return None;
        }
    };
    assert!(verdict.fault().is_some(), "{what}: told as whole");
    for (path, got) in &got {
        let was = &sample.got[path];
        if got.proof == Proof::Right {
            assert_eq!(got.content, was.content, "{what}: {}", path.escape_ascii());
            assert_eq!(got.node, was.node, "{what}: {}", path.escape_ascii());
        }
    }
    Some((got, verdict))
}

/// Bytes of files: in one piece, across two and three of them, at the ends.
const SIZES: [u64; 10] = [300_000, 90_000, 1_500_000, 10, 700_000, 0, 2_200_000, 33, 900_000, 100];

#[test]
fn compressed_alone_a_damaged_piece_costs_what_is_in_it() {
    let mut random = Random::from_clock("compressed_alone_a_damaged_piece_costs_what_is_in_it");
    let key = key(&identity());
    let sample = sample(&encoding(Compression::Zstd, None), &SIZES, &mut random);
    let members = members(&sample.bytes);
    let pieces = sample.plain.len().div_ceil(PLAIN_BYTES_MAX);
    assert_eq!(members.len(), pieces + 2);
    for (number, (head, content, path)) in members.iter().enumerate() {
        // A bit of the content, a bit of the header, all of the content, all of the member.
        let mut damages = Vec::new();
        let mut flip = |range: &Range<usize>| {
            let mut bytes = sample.bytes.clone();
            bytes[range.start + random.below(range.len() as u64) as usize] ^= 1 << random.below(8);
            bytes
        };
        damages.push(("content", flip(content)));
        damages.push(("header", flip(head)));
        let mut zeros = sample.bytes.clone();
        zeros[content.clone()].fill(0);
        damages.push(("zeros", zeros));
        let mut without = sample.bytes.clone();
        without.drain(head.start..content.end.next_multiple_of(512));
        damages.push(("gone", without));
        for (kind, bytes) in damages {
            let what = format!("{path}, {kind}");
            // Bits of a header that nobody reads (padding) are no damage to anybody.
            if kind == "header"
                && read(&bytes, None).is_ok_and(|(got, verdict)| verdict.is_whole() && got == sample.got)
            {
                continue;
            }
            let Some((got, verdict)) = check(&sample, &bytes, &key, &what) else {
                panic!("{what}: unreadable")
            };
            let named: Vec<_> =
                verdict.damaged.iter().map(|one| String::from_utf8_lossy(&one.path)).collect();
            assert!(named.iter().any(|name| name == path), "{what}: {named:?}");
            // What lies in no damaged piece is there.
            let span = match number {
                0 => 0..0,
                _ if number > pieces => 0..0,
                _ => ((number - 1) * PLAIN_BYTES_MAX) as u64..(number * PLAIN_BYTES_MAX) as u64,
            };
            // A piece that is not in the input at all leaves nothing in its place.
            let reach = if kind == "gone" { 6 * PLAIN_BYTES_MAX as u64 } else { 0 };
            for (path, place) in &sample.places {
                let is_hit = place.start < span.end + reach && span.start < place.end;
                if !is_hit {
                    let got =
                        got.get(path).unwrap_or_else(|| panic!("{what}: {} is lost", path.escape_ascii()));
                    assert_ne!(got.proof, Proof::Wrong(String::new()));
                    assert_eq!(got.content, sample.got[path].content, "{what}: {}", path.escape_ascii());
                }
            }
        }
    }
}

#[test]
fn encrypted_what_is_behind_the_damage_is_lost_and_said() {
    let mut random = Random::from_clock("encrypted_what_is_behind_the_damage_is_lost_and_said");
    let key = key(&identity());
    for compression in [Compression::None, Compression::Zstd] {
        let sample = sample(&encoding(compression, Some(&key)), &SIZES, &mut random);
        let members = members(&sample.bytes);
        let count = members.len();
        assert!(count > 5, "{count}");
        for (number, (head, content, path)) in members.iter().enumerate() {
            for (kind, range) in [("content", content), ("header", head)] {
                let what = format!("{path}, {kind}, {compression:?}");
                let mut bytes = sample.bytes.clone();
                bytes[range.start + random.below(range.len() as u64) as usize] ^= 1 << random.below(8);
                if kind == "header"
                    && read(&bytes, Some(&key))
                        .is_ok_and(|(got, verdict)| verdict.is_whole() && got == sample.got)
                {
                    continue;
                }
                let Some((got, verdict)) = check(&sample, &bytes, &key, &what) else {
                    // What age begins with is in the first piece.
                    assert_eq!(number, 1, "{what}");
                    continue;
                };
                let fault = verdict.fault().unwrap();
                let named: Vec<_> =
                    verdict.damaged.iter().map(|one| String::from_utf8_lossy(&one.path)).collect();
                assert!(named.iter().any(|name| name == path), "{what}: {named:?}");
                if (2..count - 1).contains(&number) {
                    let failure = verdict.failure.unwrap_or_else(|| panic!("{what}: {fault}"));
                    assert!(failure.contains("data-") && fault.contains(&failure), "{what}: {fault}");
                    assert!(verdict.totals.is_none());
                }
                // What lies well before is there.
                if number > 2 && compression == Compression::None {
                    let up_to = ((number - 2) * PIECE_BYTES) as u64;
                    for (path, _) in sample.places.iter().filter(|(_, place)| place.end < up_to) {
                        assert_eq!(
                            got[path].content,
                            sample.got[path].content,
                            "{what}: {}",
                            path.escape_ascii()
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn a_carrier_that_was_cut_is_never_whole() {
    let mut random = Random::from_clock("a_carrier_that_was_cut_is_never_whole");
    let key = key(&identity());
    for encoding in encodings(&key) {
        let sample = sample(&encoding, &[900_000, 800_000, 700_000, 50], &mut random);
        let mut ends: Vec<usize> =
            (0..25).map(|_| random.below(sample.bytes.len() as u64) as usize).collect();
        for (head, content, _) in members(&sample.bytes) {
            ends.extend([head.start, head.start + 512, content.start, content.end, content.end - 1]);
        }
        for end in ends {
            check(&sample, &sample.bytes[..end], &key, &format!("cut at {end}, {encoding:?}"));
        }
        // Pieces in another order, one twice, one of another session.
        let members = members(&sample.bytes);
        let member = |number: usize, bytes: &[u8]| {
            let (head, content, _) = &members[number];
            bytes[head.start..content.end.next_multiple_of(512)].to_vec()
        };
        let all: Vec<Vec<u8>> = (0..members.len()).map(|number| member(number, &sample.bytes)).collect();
        let mut swapped = all.clone();
        swapped.swap(1, 2);
        check(&sample, &swapped.concat(), &key, "two pieces changed places");
        let mut twice = all.clone();
        twice.insert(2, all[1].clone());
        check(&sample, &twice.concat(), &key, "a piece twice");
        let other = super::sample(&encoding, &[900_000, 800_000, 700_000, 50], &mut random);
        let mut mixed = all;
        mixed[2] = member(2, &other.bytes);
        check(&sample, &mixed.concat(), &key, "a piece of another session");
    }
}

/// The label is gone: what is compressed says so itself, what is encrypted too.
#[test]
fn a_lost_label_costs_the_label() {
    let mut random = Random::from_clock("a_lost_label_costs_the_label");
    let key = key(&identity());
    for encoding in encodings(&key) {
        let sample = sample(&encoding, &[900_000, 50], &mut random);
        let (head, content, path) = members(&sample.bytes).remove(0);
        let mut zeroed = sample.bytes.clone();
        zeroed[head.start..content.end].fill(0);
        let mut flipped = sample.bytes.clone();
        flipped[content.start + 100] ^= 1;
        for bytes in [zeroed, flipped] {
            let (got, verdict) = check(&sample, &bytes, &key, "no label").unwrap();
            assert_eq!(got, sample.got, "{encoding:?}");
            assert_eq!(verdict.label.as_ref(), Some(&sample.label));
            let fault = verdict.fault().unwrap();
            assert!(fault.contains(&path), "{fault}");
        }
    }
}
