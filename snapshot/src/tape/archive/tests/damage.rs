//! Archives that were cut, flipped, zeroed, shortened, or never were archives: no panic, nothing wrong told as right, and
//! what is damaged has its name told.

use super::{Got, Memory, label, node, read, scratch};
use crate::repository::testing::Random;
use crate::repository::{Id, Node, NodeKind, Xattr};
use crate::tape::archive::{CatalogState, MemberKind, Proof, SessionWriter, Verdict};
use std::collections::BTreeMap;
use std::ops::Range;

/// An archive, what is in it, and where each member's header and data are.
struct Sample {
    bytes: Vec<u8>,
    got: BTreeMap<Vec<u8>, Got>,
    places: Vec<(Vec<u8>, Range<usize>)>,
    catalog: usize,
}

fn sample() -> Sample {
    let mut random = Random(7);
    let mut writer = SessionWriter::begin(Vec::new(), &label(), &scratch()).unwrap();
    let mut places = Vec::new();
    let inner = inner_archive();
    for number in 0..12_u8 {
        let name = format!("f{number:02}");
        let content = match number {
            3 => Vec::new(),
            4 => inner.clone(),
            5 => [vec![0; 200_000], b"end".to_vec()].concat(),
            _ => random.bytes(400 * usize::from(number)),
        };
        let mut node = Node { size: content.len() as u64, ..node(&name, NodeKind::File) };
        if number == 6 || number == 7 {
            (node.links, node.inode) = (2, 77);
            node.size = 500;
        }
        if number == 8 {
            node.xattrs = vec![Xattr { name: b"user.x".to_vec(), value: random.bytes(900) }];
        }
        let content = if node.inode == 77 { vec![b'7'; 500] } else { content };
        let data = if number == 5 { 200_000..200_003 } else { 0..node.size };
        let start = writer.bytes() as usize;
        let id = Id::of(&content);
        writer.file((name.as_bytes(), &node), &id, &[data], &mut Memory(&content)).unwrap();
        places.push((name.into_bytes(), start..writer.bytes() as usize));
    }
    for (name, kind) in
        [("g-dir", NodeKind::Directory), ("h-sock", NodeKind::Socket), ("i-sym", NodeKind::Symlink)]
    {
        let start = writer.bytes() as usize;
        writer.node(name.as_bytes(), &node(name, kind)).unwrap();
        places.push((name.into(), start..writer.bytes() as usize));
    }
    let catalog = writer.bytes() as usize;
    let bytes = writer.finish().unwrap().out;
    let (got, verdict) = read(&bytes).unwrap();
    assert_eq!(verdict.fault(), None);
    assert_eq!(got.len(), places.len());
    Sample { bytes, got, places, catalog }
}

/// Another session, as a file may hold it.
fn inner_archive() -> Vec<u8> {
    let mut writer = SessionWriter::begin(Vec::new(), &label(), &scratch()).unwrap();
    let inner = Node { size: 5, ..node("inner", NodeKind::File) };
    writer.file((b"inner", &inner), &Id::of(b""), &[0..5], &mut Memory(b"inner")).unwrap();
    writer.finish().unwrap().out
}

impl Sample {
    /// Nothing wrong is told as right; whole only if all is there as it was.
    fn check(&self, bytes: &[u8], what: &str) -> Option<Verdict> {
        let Ok((got, verdict)) = read(bytes) else { return None };
        for (path, got) in &got {
            let Some(was) = self.got.get(path) else {
                panic!("{what}: {} was never written", path.escape_ascii())
            };
            assert_eq!(got.node, was.node, "{what}: {}", path.escape_ascii());
            if got.proof == Proof::Right {
                assert_eq!(got, was, "{what}: {}", path.escape_ascii());
            }
        }
        if verdict.is_whole() {
            assert_eq!(got, self.got, "{what}: whole and not equal");
        } else {
            assert!(verdict.fault().is_some());
        }
        for (path, was) in &self.got {
            let is_right = got.get(path).is_some_and(|got| got.proof == Proof::Right && got == was);
            let is_named = verdict.damaged.iter().any(|one| one.path == *path);
            // What the catalog alone proves is right, too.
            let is_proved =
                got.get(path).is_some_and(|got| got.proof == Proof::Unknown && got.content == was.content);
            if verdict.catalog == CatalogState::Whole {
                assert!(is_right || is_named || is_proved, "{what}: {} is not named", path.escape_ascii());
            }
        }
        Some(verdict)
    }
}

#[test]
fn no_flip_goes_unnoticed() {
    let sample = sample();
    let mut random = Random::from_clock("no_flip_goes_unnoticed");
    let mut whole = 0;
    for _ in 0..6000 {
        let at = random.below(sample.bytes.len() as u64) as usize;
        let bit = random.below(8);
        let mut bytes = sample.bytes.clone();
        bytes[at] ^= 1 << bit;
        let verdict = sample.check(&bytes, &format!("bit {bit} of byte {at}"));
        let verdict = verdict.unwrap_or_else(|| panic!("byte {at}: no session at all"));
        whole += u32::from(verdict.is_whole());
        // The member in whose bytes it is has its name told, unless the byte says nothing.
        let place = sample.places.iter().find(|(_, place)| place.contains(&at));
        if let (Some((path, _)), false) = (place, verdict.is_whole()) {
            let named: Vec<_> = verdict.damaged.iter().map(|one| &one.path).collect();
            let is_neighbour = verdict.gaps > 0;
            assert!(named.contains(&path) || is_neighbour && !named.is_empty(), "byte {at}: {named:?}");
        }
        if at >= sample.catalog && !verdict.is_whole() {
            let fits =
                verdict.catalog != CatalogState::Whole || verdict.gaps > 0 || verdict.damaged_count > 0;
            assert!(fits, "byte {at}");
        }
    }
    // Padding, and not much of it.
    assert!(whole < 1500, "{whole} of 6000 flips are of no matter");
}

#[test]
fn a_damaged_content_is_named_and_the_rest_goes_on() {
    let sample = sample();
    let (path, place) = &sample.places[9];
    let mut bytes = sample.bytes.clone();
    bytes[place.start + 1536 + 100] ^= 1;
    let (got, verdict) = read(&bytes).unwrap();
    assert_eq!(verdict.damaged.len(), 1);
    assert_eq!((&verdict.damaged[0].path, verdict.damaged[0].offset), (path, place.start as u64));
    assert!(matches!(got[path].proof, Proof::Wrong(_)));
    assert_eq!(got.values().filter(|got| got.proof == Proof::Right).count(), got.len() - 1);
    // A header: the member is not there, and the catalog says which it was.
    let mut bytes = sample.bytes.clone();
    bytes[place.start + 600] ^= 1;
    let (got, verdict) = read(&bytes).unwrap();
    assert!(!got.contains_key(path));
    assert_eq!((verdict.damaged.len(), verdict.lost_count, verdict.gaps), (1, 1, 1));
    assert_eq!(&verdict.damaged[0].path, path);
    // A first name: what is linked to it says so by itself.
    assert_eq!(sample.got[b"f07".as_slice()].kind, MemberKind::Link);
    assert_eq!(sample.got[b"f07".as_slice()].first, b"f06");
}

#[test]
fn what_a_cut_leaves_is_right() {
    let sample = sample();
    let mut random = Random::from_clock("what_a_cut_leaves_is_right");
    let blocks = (0..sample.bytes.len()).step_by(512);
    let end = sample.bytes.iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
    let others: Vec<usize> = (0..300).map(|_| random.below(sample.bytes.len() as u64) as usize).collect();
    for length in blocks.chain(others) {
        let Some(verdict) = sample.check(&sample.bytes[..length], &format!("cut at {length}")) else {
            assert!(length < 1536, "cut at {length}: no session");
            continue;
        };
        assert!(verdict.label.is_some() || length < 4096);
        // The two blocks of zeros at the end are for tar.
        // So is the line feed of the last line.
        assert_eq!(verdict.is_whole(), length >= end - 1, "cut at {length}");
        let (got, _) = read(&sample.bytes[..length]).unwrap();
        let before = sample.places.iter().filter(|(_, place)| place.end < length).count();
        let right = got.values().filter(|got| got.proof == Proof::Right).count();
        assert!(right + 1 >= before, "cut at {length}: {right} of {before} are proved");
    }
}

#[test]
fn a_reader_finds_its_place_again() {
    let sample = sample();
    let mut random = Random::from_clock("a_reader_finds_its_place_again");
    for round in 0..300 {
        let block = random.below(sample.bytes.len() as u64 / 512) as usize * 512;
        let count = (1 + random.below(8)) as usize * 512;
        let end = (block + count).min(sample.bytes.len());
        let (before, after) = (&sample.bytes[..block], &sample.bytes[end..]);
        let noise = random.bytes(end - block);
        let bytes = match round % 3 {
            0 => [before, after].concat(),
            1 => [before, &vec![0; end - block], after].concat(),
            _ => [before, &noise, after].concat(),
        };
        let what = format!("round {round}: {block}..{end}");
        let verdict = sample.check(&bytes, &what).unwrap_or_else(|| panic!("{what}: no session"));
        // All members that were not touched and do not stand beside are right.
        let (got, _) = read(&bytes).unwrap();
        // A content takes what follows it for its own where bytes of it are missing, the label's too.
        let label = 0..sample.places[0].1.start;
        let members = sample.places.iter().map(|(_, place)| place);
        let hit = members.rev().find(|place| place.start < end).unwrap_or(&label);
        let taken = if round % 3 == 0 { end.max(hit.end + count) } else { end };
        for (number, (path, place)) in sample.places.iter().enumerate() {
            let next = sample.places.get(number + 1).map_or(sample.catalog + 2048, |(_, next)| next.end);
            let untouched = taken <= place.start || block >= next;
            if untouched {
                assert_eq!(got.get(path).map(|got| &got.proof), Some(&Proof::Right), "{what}: {path:?}");
            }
        }
        drop(verdict);
    }
}

/// A session of one file.
fn session_of(name: &str, content: &[u8]) -> Vec<u8> {
    let mut writer = SessionWriter::begin(Vec::new(), &label(), &scratch()).unwrap();
    let size = content.len() as u64;
    let node = Node { size, ..node(name, NodeKind::File) };
    let data = [0..size];
    writer.file((name.as_bytes(), &node), &Id::of(b""), &data, &mut Memory(content)).unwrap();
    writer.finish().unwrap().out
}

#[test]
fn members_of_an_archive_in_a_file_are_not_taken_for_ours() {
    let sample = sample();
    let (_, place) = sample.places.iter().find(|(path, _)| path == b"f04").unwrap();
    let mut bytes = sample.bytes.clone();
    bytes[place.start + 10] ^= 1;
    let (got, verdict) = read(&bytes).unwrap();
    assert_eq!(got.len(), sample.got.len() - 1);
    assert_eq!((verdict.lost_count, &verdict.damaged[0].path[..]), (1, &b"f04"[..]));
    // Nor where the offsets of what is inside are greater than ours.
    let mut bytes = session_of("outer", &session_of("inner", &[7; 100_000]));
    let header = bytes.windows(16).position(|window| window == b"PaxHeaders/outer").unwrap();
    bytes[header] ^= 1;
    let (got, verdict) = read(&bytes).unwrap();
    assert!(got.is_empty(), "{:?}", got.keys());
    assert_eq!((verdict.lost_count, &verdict.damaged[0].path[..]), (1, &b"outer"[..]));
    assert_eq!(verdict.catalog, CatalogState::Whole, "the catalog inside is not ours");
}

#[test]
fn a_lost_label_is_found_in_the_catalog() {
    let sample = sample();
    let (_, whole) = read(&sample.bytes).unwrap();
    for at in [3, 700, 2000] {
        let mut bytes = sample.bytes.clone();
        bytes[at] ^= 1;
        let (got, verdict) = read(&bytes).unwrap();
        assert_eq!(got.len(), sample.got.len());
        assert_eq!(verdict.label, whole.label);
    }
}

#[test]
fn what_is_no_session_is_refused() {
    let mut random = Random::from_clock("what_is_no_session_is_refused");
    for length in [0, 1, 511, 512, 513, 100_000] {
        assert!(read(&random.bytes(length)).is_err());
        assert!(read(&vec![0; length]).is_err());
    }
    // A tar of somebody else.
    let foreign = tempfile::NamedTempFile::new().unwrap();
    let (ok, ..) = super::tar(
        &["-cf", foreign.path().to_str().unwrap(), "-C", "/etc", "passwd"].map(std::ffi::OsStr::new),
    );
    assert!(ok);
    assert!(read(&std::fs::read(foreign.path()).unwrap()).is_err());
}

#[test]
fn an_input_that_fails_ends_the_session() {
    struct Fails<'a>(&'a [u8]);
    impl std::io::Read for Fails<'_> {
        fn read(&mut self, room: &mut [u8]) -> std::io::Result<usize> {
            if self.0.is_empty() {
                return Err(std::io::Error::other("the drive says no"));
            }
            self.0.read(room)
        }
    }
    let sample = sample();
    let half = sample.bytes.len() / 2;
    let mut keeper = super::Keeper::default();
    let reader = crate::tape::archive::SessionReader::open(Fails(&sample.bytes[..half]), &scratch()).unwrap();
    let verdict = reader.read(&mut keeper).unwrap();
    assert_eq!(verdict.failure.as_deref(), Some("the drive says no"));
    assert!(!verdict.is_whole());
    assert!(verdict.fault().is_some());
}
