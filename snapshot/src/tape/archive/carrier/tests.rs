//! Carriers: what goes in comes out, what is damaged is named, what is secret is not there in clear, and standard programs
//! read them.

mod damage;
mod hostile;
mod programs;

use super::*;
use crate::repository::testing::Random;
use crate::repository::{Id, Node, NodeKind};
use crate::tape::archive::scan::Scanner;
use crate::tape::archive::tests::{Got, Keeper, Memory, node, scratch};
use crate::tape::archive::{
    ArchiveError, LabelFields, Result, SessionLabel, SessionReader, SessionWriter, Verdict, padding,
};
use std::collections::BTreeMap;
use std::io::Write;
use std::ops::Range;

pub(super) fn key(text: &str) -> TapeKey {
    TapeKey::of(&text.to_owned().into()).unwrap()
}

/// A fresh secret key of age, as text.
pub(super) fn identity() -> String {
    use secrecy::ExposeSecret;
    age::x25519::Identity::generate().to_string().expose_secret().to_owned()
}

pub(super) fn encoding(compression: Compression, key: Option<&TapeKey>) -> Encoding {
    Encoding { compression, key: key.cloned() }
}

/// All encodings that make a carrier.
pub(super) fn encodings(key: &TapeKey) -> [Encoding; 3] {
    [
        encoding(Compression::Zstd, None),
        encoding(Compression::None, Some(key)),
        encoding(Compression::Zstd, Some(key)),
    ]
}

/// A session: its archive as it is, in a carrier, and where its members are in the archive.
pub(super) struct Sample {
    pub label: SessionLabel,
    pub plain: Vec<u8>,
    pub bytes: Vec<u8>,
    pub got: BTreeMap<Vec<u8>, Got>,
    pub places: Vec<(Vec<u8>, Range<u64>)>,
}

pub(super) fn fields() -> LabelFields {
    LabelFields {
        scenario: "files".into(),
        entity: "/srv/secret-root".into(),
        master: "alpha".into(),
        lsn: "77.0".into(),
        class: "crash".into(),
        journal: "0123456789abcdef".into(),
        paths: vec!["/srv/secret-root".into()],
        tags: vec!["secret-tag".into()],
        excludes: vec!["secret-pattern".into()],
        original: Some(Id::of(b"secret-original")),
        summary: Some(serde_json::json!({"secret-number": 4711})),
        ..LabelFields::now()
    }
}

/// Passes an archive through an encoder, in pieces of any length.
pub(super) fn encoded(
    label: &SessionLabel,
    encoding: &Encoding,
    plain: &[u8],
    random: &mut Random,
) -> Vec<u8> {
    let mut encoder = Encoder::begin(Vec::new(), label, encoding).unwrap();
    let mut rest = plain;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at((1 + random.below(300_000) as usize).min(rest.len()));
        encoder.write_all(piece).unwrap();
        encoder.flush().unwrap();
        rest = after;
    }
    encoder.finish().unwrap()
}

/// Files of these sizes, every other one of noise.
pub(super) fn sample(encoding: &Encoding, sizes: &[u64], random: &mut Random) -> Sample {
    let label = encoding.label(fields()).unwrap();
    let mut writer = SessionWriter::begin(Vec::new(), &label, &scratch()).unwrap();
    let mut places = Vec::new();
    for (number, size) in sizes.iter().enumerate() {
        let name = format!("secret-name-{number:03}");
        let text = format!("secret content of {number}, ").into_bytes();
        let content: Vec<u8> = match number % 2 {
            0 => random.bytes(*size as usize),
            _ => text.iter().copied().cycle().take(*size as usize).collect(),
        };
        let file = Node { size: *size, inode: number as u64 + 10, ..node(&name, NodeKind::File) };
        let start = writer.bytes();
        let id = Id::of(&content);
        writer.file((name.as_bytes(), &file), &id, &[0..*size], &mut Memory(&content)).unwrap();
        places.push((name.into_bytes(), start..writer.bytes()));
    }
    let plain = writer.finish().unwrap().out;
    let bytes = encoded(&label, encoding, &plain, random);
    let (got, verdict) = read(&plain, None).unwrap();
    assert_eq!(verdict.fault(), None);
    Sample { label, plain, bytes, got, places }
}

pub(super) fn read(bytes: &[u8], key: Option<&TapeKey>) -> Result<(BTreeMap<Vec<u8>, Got>, Verdict)> {
    let mut keeper = Keeper::default();
    let verdict = SessionReader::open_with(bytes, key, &scratch())?.read(&mut keeper)?;
    Ok((keeper.got, verdict))
}

/// The bytes in a carrier, whatever they are.
pub(super) fn opened<'b>(bytes: &'b [u8], key: Option<&TapeKey>) -> Source<&'b [u8]> {
    let mut scan = Scanner::new(bytes);
    let (head, _) = scan.next().unwrap();
    let json = scan.input.take(head.member.stored);
    scan.input.take(padding(head.member.stored) as u64);
    Source::open(Pieces::begin(scan, None, Some(&json)).unwrap(), key).unwrap()
}

#[test]
fn what_goes_in_comes_out() {
    let mut random = Random::from_clock("what_goes_in_comes_out");
    let key = key(&identity());
    for encoding in encodings(&key) {
        for sizes in [&[][..], &[1], &[0, 700_000], &[2_500_000, 3_000_000, 10, 1_048_576]] {
            let sample = sample(&encoding, sizes, &mut random);
            let (got, verdict) = read(&sample.bytes, Some(&key)).unwrap();
            assert_eq!(verdict.fault(), None, "{encoding:?} {sizes:?}");
            assert_eq!(got, sample.got, "{encoding:?} {sizes:?}");
            assert_eq!(verdict.label, Some(sample.label), "{encoding:?}");
            assert_eq!(sample.bytes.len() % 512, 0);
        }
    }
    // Nothing asked for: the archive as it is.
    let sample = sample(&Encoding::default(), &[5000], &mut random);
    assert!(sample.plain == sample.bytes);
}

#[test]
fn the_length_of_an_archive_does_not_matter() {
    let mut random = Random::from_clock("the_length_of_an_archive_does_not_matter");
    let key = key(&identity());
    let label = SessionLabel::new(fields()).unwrap();
    // Around the ends of frames and pieces. What is not an archive is carried all the same.
    let piece = PIECE_BYTES as i64;
    for length in [0, 1, piece - 1, piece, piece + 1, 2 * piece, 3 * piece - 200, 64 << 10, 128 << 10] {
        let plain = random.bytes(length as usize);
        for encoding in encodings(&key) {
            let bytes = encoded(&label, &encoding, &plain, &mut random);
            let mut source = opened(&bytes, Some(&key));
            let mut back = Vec::new();
            std::io::Read::read_to_end(&mut source, &mut back).unwrap();
            assert!(back == plain, "{length} bytes, {encoding:?}");
            assert_eq!(source.finish(Some(&label.id())).count, 0, "{length} bytes, {encoding:?}");
        }
    }
}

/// Of an encrypted session nothing that names what is in it stands in clear; of a compressed one the label does.
#[test]
fn nothing_secret_is_in_clear() {
    let mut random = Random::from_clock("nothing_secret_is_in_clear");
    let key = key(&identity());
    let original = Id::of(b"secret-original").to_string();
    for encoding in encodings(&key) {
        let sample = sample(&encoding, &[900, 900_000, 4000], &mut random);
        let has = |bytes: &[u8], text: &str| memchr::memmem::find(bytes, text.as_bytes()).is_some();
        for secret in ["secret", original.as_str(), "4711"] {
            assert!(has(&sample.plain, secret), "{secret}: the test looks for what is there");
            let is_open = encoding.key.is_none();
            assert_eq!(has(&sample.bytes, secret), is_open, "{secret}, {encoding:?}");
        }
        for said in ["files", "alpha", "77.0", "crash", "0123456789abcdef", &sample.label.id().to_string()] {
            assert!(has(&sample.bytes, said), "{said}, {encoding:?}");
        }
    }
    // The id is a hash of a label with secrets in it: two labels that say the same have two.
    let encrypted = encoding(Compression::None, Some(&key));
    let label = |encoding: &Encoding, fields: &LabelFields| encoding.label(fields.clone()).unwrap().id();
    let one = fields();
    assert_ne!(label(&encrypted, &one), label(&encrypted, &one));
    assert_eq!(label(&Encoding::default(), &one), label(&Encoding::default(), &one));
}

#[test]
fn keys_are_told_apart() {
    let mut random = Random::from_clock("keys_are_told_apart");
    let (own, other) = (key(&identity()), key(&identity()));
    let phrase = key("correct horse");
    assert!(own.is_identity() && !phrase.is_identity());
    let sealed = sample(&encoding(Compression::Zstd, Some(&own)), &[100], &mut random);
    let fails = |bytes: &[u8], key: Option<&TapeKey>| read(bytes, key).unwrap_err();
    let wanted = fails(&sealed.bytes, None);
    assert!(matches!(wanted, ArchiveError::KeyWanted { .. }), "{wanted:?}");
    assert!(wanted.to_string().contains(&sealed.label.id().short()), "{wanted}");
    for bad in [&other, &phrase] {
        let error = fails(&sealed.bytes, Some(bad));
        assert!(matches!(error, ArchiveError::WrongKey { is_passphrase: false }), "{error:?}");
    }
    let by_phrase = sample(&encoding(Compression::None, Some(&phrase)), &[100], &mut random);
    let (got, verdict) = read(&by_phrase.bytes, Some(&phrase)).unwrap();
    assert_eq!((got, verdict.fault()), (by_phrase.got, None));
    for bad in [&own, &key("correct horsf")] {
        let error = fails(&by_phrase.bytes, Some(bad));
        assert!(matches!(error, ArchiveError::WrongKey { is_passphrase: true }), "{error:?}");
    }
    // A key that is not needed does not matter.
    let clear = sample(&encoding(Compression::Zstd, None), &[100], &mut random);
    assert_eq!(read(&clear.bytes, Some(&other)).unwrap().1.fault(), None);
    for (text, bad) in
        [("", BadKey::Empty), (" \n", BadKey::Empty), ("AGE-SECRET-KEY-1NONE", BadKey::Identity)]
    {
        assert_eq!(TapeKey::of(&text.to_owned().into()).unwrap_err(), bad);
    }
    // Blanks around a secret key are none of it; those of a passphrase are.
    let text = identity();
    let spaced = key(&format!(" {text}\n"));
    let sealed = sample(&encoding(Compression::None, Some(&spaced)), &[100], &mut random);
    assert_eq!(read(&sealed.bytes, Some(&key(&text))).unwrap().1.fault(), None);
    assert_eq!(format!("{phrase:?} {own:?}"), "TapeKey(passphrase) TapeKey(identity)");
}
