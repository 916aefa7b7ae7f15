//! Damaged files: every byte changed, every length. What is damaged is refused, and an answer that is given is right.

use super::disk::{Cut, SimDisk};
use super::segment::{FOOTER_BYTES, Segment};
use super::*;
use crate::catalog::codec::{put_u32, put_u64};

const PLACE: &str = "/c";

fn entity_of() -> Entity {
    entity("data", "/srv")
}

/// A small catalog: two sessions, two segments.
fn small() -> SimDisk {
    let disk = SimDisk::default();
    let catalog = open_on(&disk).unwrap();
    let rows = [("/srv/a", file(1)), ("/srv/a/b", file(2)), ("/srv/a/c", file(3)), ("/srv/d", file(4))];
    load(&catalog, info(1, &entity_of(), 1), &rows);
    load(
        &catalog,
        info(2, &entity_of(), 2),
        &[("/srv/a", file(1)), ("/srv/d", file(9)), ("/srv/e", file(5))],
    );
    drop(catalog);
    disk.cut(Cut::Everything, &mut Rng::new(1))
}

fn open_on(disk: &SimDisk) -> Result<Catalog, CatalogError> {
    Catalog::open_sized(Arc::new(disk.clone()), Path::new(PLACE), SMALL)
}

type Answers = (Vec<Found>, Vec<Version>, Vec<Child>, Vec<Arc<Session>>);

fn answers(catalog: &Catalog) -> Result<Answers, CatalogError> {
    let found = catalog.query(&ask(Pattern::All))?.rows;
    let glob = catalog.query(&ask(Pattern::Glob("*a*".to_owned())))?.rows;
    let versions = catalog.versions(b"/srv/d", &Filter::default())?;
    let children = catalog.children(b"/srv", At::Ever, &Filter::default(), 100, None)?.rows;
    Ok((found.into_iter().chain(glob).collect(), versions, children, catalog.sessions()))
}

/// Opens a damaged catalog and uses it: refused as damaged, or every answer is the right one.
fn detected(disk: &SimDisk, right: &Answers, context: &str) -> bool {
    let catalog = match open_on(disk) {
        Ok(catalog) => catalog,
        Err(error) => {
            assert!(error.is_damage(), "{context}: {error:?}");
            return true;
        }
    };
    let verified = catalog.verify();
    match answers(&catalog) {
        Ok(answers) => assert_eq!(&answers, right, "{context}"),
        Err(error) => assert!(error.is_damage() && verified.is_err(), "{context}: {error:?}"),
    }
    verified.is_err()
}

fn files(disk: &SimDisk) -> Vec<String> {
    disk.names().into_iter().filter(|name| name != LOCK_NAME).collect()
}

#[test]
fn every_changed_byte_is_detected() {
    let disk = small();
    let right = answers(&open_on(&disk).unwrap()).unwrap();
    assert_eq!(files(&disk).len(), 3);
    for name in files(&disk) {
        let path = Path::new(PLACE).join(&name);
        let bytes = disk.bytes(&path);
        for at in 0..bytes.len() {
            for flip in [1, 0x80, 0xff] {
                let mut changed = bytes.clone();
                changed[at] ^= flip;
                disk.set_bytes(&path, changed);
                let context = format!("{name}: byte {at} of {} changed by {flip:#x}", bytes.len());
                assert!(detected(&disk, &right, &context), "{context}: not detected");
            }
        }
        disk.set_bytes(&path, bytes);
    }
    assert!(!detected(&disk, &right, "whole"));
}

#[test]
fn every_other_length_is_detected() {
    let disk = small();
    let right = answers(&open_on(&disk).unwrap()).unwrap();
    for name in files(&disk) {
        let path = Path::new(PLACE).join(&name);
        let bytes = disk.bytes(&path);
        for length in (0..bytes.len()).chain([bytes.len() + 1, bytes.len() * 2]) {
            let mut changed = bytes.clone();
            changed.resize(length, 0);
            disk.set_bytes(&path, changed);
            let context = format!("{name}: {length} bytes instead of {}", bytes.len());
            assert!(detected(&disk, &right, &context), "{context}: not detected");
        }
        disk.set_bytes(&path, bytes);
    }
}

#[test]
fn files_that_are_missing_or_changed_places_are_detected() {
    let disk = small();
    let segments: Vec<String> =
        files(&disk).into_iter().filter(|name| name.ends_with(SEGMENT_SUFFIX)).collect();
    let [one, two] = [0, 1].map(|at| Path::new(PLACE).join(&segments[at]));
    let (first, second) = (disk.bytes(&one), disk.bytes(&two));
    disk.set_bytes(&one, second);
    disk.set_bytes(&two, first.clone());
    assert!(open_on(&disk).unwrap_err().is_damage());
    disk.set_bytes(&one, first);
    assert!(open_on(&disk).unwrap_err().is_damage());
    disk.remove(&two).unwrap();
    assert!(open_on(&disk).unwrap_err().is_damage());
}

#[test]
fn a_later_version_is_named() {
    let disk = small();
    for name in files(&disk) {
        let path = Path::new(PLACE).join(&name);
        let bytes = disk.bytes(&path);
        let mut later = bytes.clone();
        later[8] = 3;
        let crc = match name == MANIFEST_NAME {
            true => crc32c::crc32c_append(crc32c::crc32c(&later[..20]), &later[24..]),
            false => crc32c::crc32c(&later[..28]),
        };
        let at = if name == MANIFEST_NAME { 20 } else { 28 };
        later[at..at + 4].copy_from_slice(&crc.to_le_bytes());
        disk.set_bytes(&path, later);
        let error = open_on(&disk).unwrap_err();
        assert!(matches!(error, CatalogError::NewerVersion { version: 3, .. }), "{name}: {error:?}");
        assert!(error.is_damage());
        disk.set_bytes(&path, bytes);
    }
}

/// Writes checksums that are right over whatever the index of a segment says, and opens it.
fn with_index(
    disk: &SimDisk,
    name: &str,
    change: impl FnOnce(&mut Vec<u8>),
) -> Result<Segment, CatalogError> {
    let path = Path::new(PLACE).join(name);
    let bytes = disk.bytes(&path);
    let footer = bytes.len() - FOOTER_BYTES as usize;
    let index_at = u64::from_le_bytes(bytes[footer + 8..footer + 16].try_into().unwrap()) as usize;
    let mut index = bytes[index_at..footer].to_vec();
    change(&mut index);
    let mut out = bytes[..index_at].to_vec();
    out.extend_from_slice(&index);
    let start = out.len();
    out.extend_from_slice(b"REWINDCF");
    put_u64(&mut out, index_at as u64);
    put_u64(&mut out, index.len() as u64);
    put_u32(&mut out, crc32c::crc32c(&index));
    let crc = crc32c::crc32c(&out[start..]);
    put_u32(&mut out, crc);
    let copy = disk.cut(Cut::Everything, &mut Rng::new(1));
    let number = u64::from_str_radix(name.trim_end_matches(SEGMENT_SUFFIX), 16).unwrap();
    let entry = segment::SegmentEntry { entity: 0, number, bytes: out.len() as u64, footer_crc: crc };
    copy.set_bytes(&path, out);
    let shared: Arc<dyn Disk> = Arc::new(copy);
    Segment::open(&shared, Path::new(PLACE), entry)
}

#[test]
fn an_index_whose_checksum_is_right_is_still_not_believed() {
    let disk = small();
    let name = files(&disk).into_iter().find(|name| name.ends_with(SEGMENT_SUFFIX)).unwrap();
    assert!(with_index(&disk, &name, |_| {}).unwrap().verify(&mut Unpacker::new().unwrap()).is_ok());
    let mut length = 0;
    with_index(&disk, &name, |index| length = index.len()).unwrap();
    let mut unpacker = Unpacker::new().unwrap();
    let mut refused = 0;
    for at in 0..length {
        for value in [0, 1, 0x2f, 0x7f, 0x80, 0xff] {
            let segment = with_index(&disk, &name, |index| index[at] = value);
            match segment.and_then(|segment| segment.verify(&mut unpacker)) {
                Ok(()) => {}
                Err(error) => {
                    assert!(error.is_damage(), "byte {at}: {error:?}");
                    refused += 1;
                }
            }
        }
        assert!(with_index(&disk, &name, |index| index.truncate(at)).is_err(), "{at} bytes");
    }
    // All but those that write what is there already, and the slack in places of blocks.
    assert!(refused > length * 4, "{refused} of {}", length * 6);
    assert!(with_index(&disk, &name, |index| index.push(0)).is_err());
    // Four billion blocks, four billion sessions.
    assert!(with_index(&disk, &name, |index| index[..4].fill(0xff)).is_err());
    assert!(with_index(&disk, &name, |index| index[4..8].fill(0xff)).is_err());
}

#[test]
fn random_garbage_is_refused() {
    let mut rng = Rng::new(seed());
    let disk = small();
    let right = answers(&open_on(&disk).unwrap()).unwrap();
    for name in files(&disk) {
        let path = Path::new(PLACE).join(&name);
        let bytes = disk.bytes(&path);
        for round in 0..300 {
            let mut changed = bytes.clone();
            let (from, to) = (rng.below(bytes.len()), rng.below(bytes.len()) + 1);
            let places = from.min(to)..from.max(to);
            changed[places].iter_mut().for_each(|byte| *byte = rng.next() as u8);
            if changed == bytes {
                continue;
            }
            disk.set_bytes(&path, changed);
            assert!(detected(&disk, &right, &name), "{name} round {round}");
        }
        disk.set_bytes(&path, bytes);
    }
}
