//! What is noise and what is not.

use super::*;

/// Bytes that look random and are always the same.
fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..bytes).map(|_| next()).collect()
}

fn text(seed: usize, bytes: usize) -> Vec<u8> {
    let words = ["offer", "price", "of", "the", "année", "customer", "and", "late", "meeting\n"];
    let mut text = String::new();
    for n in seed.. {
        if text.len() >= bytes {
            break;
        }
        text.push_str(words[(n * n + seed) % words.len()]);
        text.push(' ');
    }
    text.into_bytes()[..bytes].to_vec()
}

/// Numbers, as in a table of a database.
fn numbers(bytes: usize) -> Vec<u8> {
    (0..bytes as u32 / 4).flat_map(|n| (n * 3).to_le_bytes()).collect()
}

fn check(before: &[u8], after: &[u8], expected: Verdict) {
    let cut = |bytes: &[u8]| bytes[..bytes.len().min(BLOCK_BYTES)].to_vec();
    let (before, after) = (cut(before), cut(after));
    assert_eq!(verdict((&before, &after), &[(before.clone(), after.clone())]), expected);
}

#[test]
fn entropy_of_known_bytes() {
    assert_eq!(entropy(b""), 0.0);
    assert_eq!(entropy(b"aaaa"), 0.0);
    assert!((entropy(b"abababab") - 1.0).abs() < 1e-9);
    let all: Vec<u8> = (0..=255).collect();
    assert!((entropy(&all) - 8.0).abs() < 1e-9);
}

#[test]
fn noise_of_any_length_passes_for_noise_and_text_never() {
    for seed in 1..200 {
        for bytes in [256, 300, 512, 1000, 2048, 4096] {
            assert!(look(&noise(seed, bytes)) == Look::Noise, "{seed} {bytes}");
            assert!(look(&text(seed as usize, bytes)) == Look::Text, "{seed} {bytes}");
        }
        assert!(look(&numbers(4096)) == Look::Structured);
    }
}

#[test]
fn spoiled_is_what_was_something_and_became_noise() {
    for bytes in [40, 100, 300, 4096] {
        check(&text(1, bytes), &noise(7, bytes), Verdict::Spoiled);
        check(&text(1, bytes), &text(2, bytes), Verdict::Sound);
    }
    check(&numbers(4096), &noise(3, 4096), Verdict::Spoiled);
    check(&numbers(4096), &text(3, 4096), Verdict::Sound);
    check(&noise(1, 4096), &noise(2, 4096), Verdict::Unknown);
}

#[test]
fn compressed_files_are_judged_by_their_heads() {
    let zip = |seed| [b"PK\x03\x04".as_slice(), &noise(seed, 4000)].concat();
    let film = |seed| [b"\0\0\0\x20ftypmp42".as_slice(), &noise(seed, 4000)].concat();
    // A person saved it again, or packed a text.
    check(&zip(1), &zip(2), Verdict::Sound);
    check(&film(1), &film(2), Verdict::Sound);
    check(&noise(9, 4000), &zip(2), Verdict::Sound);
    // Its head is gone.
    check(&zip(1), &noise(5, 4004), Verdict::Spoiled);
    check(&film(1), &noise(5, 4004), Verdict::Spoiled);
    // A text that became an archive under the same name: somebody packed it, or wants it to look so.
    check(&text(1, 4000), &zip(2), Verdict::Unknown);
}

#[test]
fn a_part_is_enough() {
    let head = text(1, 4096);
    let sound = (text(1, 4096), text(4, 4096));
    let spoiled = (text(2, 4096), noise(4, 4096));
    assert_eq!(verdict((&head, &head), &[sound.clone(), spoiled]), Verdict::Spoiled);
    assert_eq!(verdict((&head, &head), &[sound]), Verdict::Sound);
    assert_eq!(verdict((&head, &head), &[]), Verdict::Unknown);
}
