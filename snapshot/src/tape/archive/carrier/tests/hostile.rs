//! Carriers that were made to hurt: what is small becomes nothing large, what is long is not read, words nobody knows are
//! refused by name.

use super::*;
use crate::tape::archive::ArchiveErrorKind;
use crate::tape::archive::carrier::frames::{Unframer, unframed};
use crate::tape::archive::label::sealed;
use crate::tape::archive::member::{Before, Head, Role};
use crate::tape::archive::writer::{member, own};
use std::io::Read;

/// Puts a carrier together by hand.
struct Forger {
    session: [u8; 8],
    bytes: Vec<u8>,
    before: Before,
}

impl Forger {
    fn new(id: &Id) -> Self {
        let session = crate::tape::archive::label::short_of(id);
        Self { session, bytes: Vec::new(), before: Before::Nothing }
    }

    fn member(&mut self, role: Role, name: &str, content: &[u8], plain: (u64, u64)) {
        let path = format!(".rewind/{}/{name}", String::from_utf8_lossy(&self.session));
        let (path, mut node) = own(path, content.len() as u64, Default::default());
        (node.device_id, node.inode) = plain;
        let mut member = member(&path, &node);
        member.offset = self.bytes.len() as u64;
        let head = Head { session: self.session, role, before: self.before, member };
        self.bytes.extend(head.encode().unwrap());
        self.bytes.extend_from_slice(content);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        self.before = Before::Content(Id::of(content));
    }

    /// A carrier of these pieces, with a label that says so.
    fn carrier(encoding: &Encoding, pieces: &[(&[u8], (u64, u64))]) -> Vec<u8> {
        let inside = SessionLabel::new(fields()).unwrap();
        let label = CarrierLabel::new(&inside, encoding).unwrap();
        let mut forger = Self::new(&inside.id());
        forger.member(Role::Label, "label.json", label.json(), (0, 0));
        for (number, (content, plain)) in pieces.iter().enumerate() {
            forger.member(Role::Data, &format!("data-{:08}", number + 1), content, *plain);
        }
        forger.member(Role::End, "end.json", b"{}", (0, 0));
        forger.bytes.resize(forger.bytes.len() + 1024, 0);
        forger.bytes
    }
}

fn zstd_of(bytes: usize) -> Vec<u8> {
    zstd::bulk::compress(&vec![0; bytes], 3).unwrap()
}

/// Everything that the bytes of a carrier come to.
fn all_of(bytes: &[u8]) -> u64 {
    let mut source = opened(bytes, None);
    std::io::copy(&mut (&mut source).take(1 << 40), &mut std::io::sink()).unwrap()
}

#[test]
fn a_frame_gives_no_more_than_it_may() {
    let bomb = zstd_of(256 << 20);
    assert!(bomb.len() < 20_000, "{}", bomb.len());
    let mut frames = Unframer::new(&bomb[..]).unwrap();
    let mut given = 0;
    let mut room = vec![0; 300_000];
    let error = loop {
        match frames.read(&mut room) {
            Ok(count) => given += count,
            Err(error) => break error,
        }
        assert!(given <= PLAIN_BYTES_MAX);
    };
    assert!(error.to_string().contains("more than it may"), "{error}");
    assert!(frames.read(&mut room).is_err(), "nothing behind an error");
    // In a piece, whatever its header says.
    assert!(unframed(&bomb, PLAIN_BYTES_MAX).is_err());
    let largest = zstd_of(PLAIN_BYTES_MAX);
    assert_eq!(unframed(&largest, PLAIN_BYTES_MAX).unwrap().len(), PLAIN_BYTES_MAX);
    assert!(unframed(&largest, PLAIN_BYTES_MAX - 1).is_err());
    assert!(unframed(&[&zstd_of(10)[..], &zstd_of(20)].concat(), 30).is_err(), "two frames");
    assert!(unframed(&[&zstd_of(10)[..], b"behind"].concat(), 10).is_err());
    assert!(unframed(&largest[..largest.len() - 1], PLAIN_BYTES_MAX).is_err());
    // A window that takes more memory than any frame of ours.
    let mut wide = zstd::stream::Encoder::new(Vec::new(), 3).unwrap();
    wide.set_parameter(zstd::zstd_safe::CParameter::WindowLog(27)).unwrap();
    wide.write_all(b"little").unwrap();
    assert!(Unframer::new(&wide.finish().unwrap()[..]).unwrap().read(&mut room).is_err());
    let bomb = Forger::carrier(&encoding(Compression::Zstd, None), &[(&bomb, (0, 1 << 20))]);
    assert_eq!(all_of(&bomb), 1 << 20, "zeros in the place of the piece");
}

#[test]
fn lengths_of_pieces_are_bounded() {
    let clear = encoding(Compression::Zstd, None);
    let (frame, large) = (zstd_of(1000), vec![7; PIECE_BYTES_MAX + 1]);
    let max = PLAIN_BYTES_MAX as u64;
    for (pieces, comes_to) in [
        // Places and lengths that are none.
        (vec![(&frame[..], (0, u64::MAX))], 0),
        (vec![(&frame[..], (0, max + 1))], 0),
        (vec![(&frame[..], (0, 1000)), (&frame[..], (500, 1000))], 1000),
        // A gap that nothing accounts for is no gap.
        (vec![(&frame[..], (u64::MAX - 10, 1000))], 1000),
        (vec![(&frame[..], (0, 1000)), (&frame[..], (1 << 50, 1000))], 2000),
        // A piece longer than any, before one that is right.
        (vec![(&large[..], (0, 1000)), (&frame[..], (1000, 1000))], 2000),
    ] {
        let bytes = Forger::carrier(&clear, &pieces);
        assert_eq!(all_of(&bytes), comes_to);
        assert!(read(&bytes, None).is_err(), "there is no session in it");
    }
}

#[test]
fn heads_of_age_are_bounded() {
    let (phrase, own) = (key("x"), key(&identity()));
    let encoding = encoding(Compression::None, Some(&phrase));
    let fails = |head: &[u8], key: &TapeKey| {
        let bytes = Forger::carrier(&encoding, &[(head, (0, 0))]);
        let error = read(&bytes, Some(key)).unwrap_err();
        assert_eq!(error.kind(), ArchiveErrorKind::Damaged, "{error:?}");
        error.to_string()
    };
    let salt = "AAAAAAAAAAAAAAAAAAAAAA";
    let body = "A".repeat(43);
    for work in [WORK_FACTOR_MAX + 1, 30, 63] {
        let head =
            format!("age-encryption.org/v1\n-> scrypt {salt} {work}\n{body}\n--- {body}\n0123456789abcdef");
        let said = fails(head.as_bytes(), &phrase);
        assert!(said.contains(&format!("2^{work}")), "{said}");
    }
    let long = format!("age-encryption.org/v1\n{}", "-> X25519 x\n".repeat(100_000));
    assert!(fails(&long.as_bytes()[..PIECE_BYTES], &own).contains("too long"));
    assert!(fails(&vec![b'a'; PIECE_BYTES], &own).contains("too long"));
    for nothing in [&b""[..], b"age-encryption.org/v1\n", b"---\n", b"age-encryption.org/v9\n--- x\n"] {
        fails(nothing, &own);
    }
}

/// Whoever has the public key can encrypt what he likes.
#[test]
fn what_is_encrypted_is_not_trusted() {
    let own = key(&identity());
    let sealed = |content: &[u8]| {
        let mut out = own.seal(Vec::new()).unwrap();
        out.write_all(content).unwrap();
        out.finish().unwrap()
    };
    let both = encoding(Compression::Zstd, Some(&own));
    let bomb = sealed(&zstd_of(256 << 20));
    let error = read(&Forger::carrier(&both, &[(&bomb, (0, 0))]), Some(&own)).unwrap_err();
    assert!(error.to_string().contains("more than it may"), "{error}");
    assert!(error.to_string().contains("data-00000001 at offset "), "{error}");
    // Not what the label says.
    let plain = sealed(b"no zstd");
    let error = read(&Forger::carrier(&both, &[(&plain, (0, 0))]), Some(&own)).unwrap_err();
    assert!(error.to_string().contains("not compressed as its label says"), "{error}");
}

#[test]
fn carriers_in_carriers_are_refused() {
    let mut random = Random::from_clock("carriers_in_carriers_are_refused");
    let own = key(&identity());
    for inner in encodings(&own) {
        let inside = sample(&inner, &[1000], &mut random);
        for outer in encodings(&own) {
            let bytes = encoded(&inside.label, &outer, &inside.bytes, &mut random);
            let error = read(&bytes, Some(&own)).unwrap_err();
            assert!(error.to_string().contains("carrier in it"), "{error}");
            // Its label alone is no archive either, nor are its pieces.
            let label = 512 * 8;
            let bytes = encoded(&inside.label, &outer, &inside.bytes[label..], &mut random);
            assert!(read(&bytes, Some(&own)).is_err());
        }
    }
    // Another session than the label says.
    let one = sample(&Encoding::default(), &[1000], &mut random);
    let other = SessionLabel::new(LabelFields { scenario: "other".into(), ..fields() }).unwrap();
    for outer in encodings(&own) {
        let bytes = encoded(&other, &outer, &one.plain, &mut random);
        let error = read(&bytes, Some(&own)).unwrap_err();
        assert!(error.to_string().contains("another session"), "{error}");
    }
}

#[test]
fn words_that_nobody_knows_are_named() {
    let mut random = Random::from_clock("words_that_nobody_knows_are_named");
    let inside = sample(&encoding(Compression::Zstd, None), &[10], &mut random);
    #[derive(serde::Serialize)]
    struct Label {
        session: Id,
        #[serde(flatten)]
        fields: LabelFields,
    }
    for (compression, encryption) in [("brotli", "none"), ("zstd", "rot13"), ("none", "none"), ("", "age")] {
        let (compression, encryption) = (compression.to_owned(), encryption.to_owned());
        let said = [format!("{compression:?}"), format!("{encryption:?}")];
        let session = inside.label.id();
        let fields = LabelFields { compression, encryption, ..fields() };
        let (_, json) = sealed(&Label { session, fields }).unwrap();
        let mut forger = Forger::new(&session);
        forger.member(Role::Label, "label.json", &json, (0, 0));
        let error = read(&forger.bytes, None).unwrap_err();
        assert_eq!(error.kind(), ArchiveErrorKind::UnsupportedVersion, "{error:?}");
        assert!(said.iter().all(|word| error.to_string().contains(word)), "{error}");
    }
    // Who read sessions before there were carriers finds a label, and refuses its words.
    let label = CarrierLabel::new(&inside.label, &encoding(Compression::Zstd, None)).unwrap();
    let error = SessionLabel::parse(label.json()).unwrap_err();
    assert!(matches!(error, ArchiveError::Encoding { .. }), "{error:?}");
}

/// Anything at all: no panic, nothing told as whole.
#[test]
fn random_changes_are_survived() {
    let mut random = Random::from_clock("random_changes_are_survived");
    let own = key(&identity());
    for encoding in encodings(&own) {
        let sample = sample(&encoding, &[200_000, 1000, 900_000], &mut random);
        for _ in 0..150 {
            let mut bytes = sample.bytes.clone();
            for _ in 0..=random.below(4) {
                let at = random.below(bytes.len() as u64) as usize;
                match random.below(3) {
                    0 => bytes[at] = random.next() as u8,
                    1 => drop(bytes.drain(at..(at + random.below(5000) as usize).min(bytes.len()))),
                    _ => {
                        let some = random.bytes(700);
                        bytes.splice(at..at, some);
                    }
                }
            }
            if let Ok((got, verdict)) = read(&bytes, Some(&own))
                && verdict.is_whole()
            {
                assert_eq!(got, sample.got);
            }
        }
    }
}
