//! Tests of tapes as a whole. Here is what they share: a generator of archives, drives of files on a disk in memory, and
//! short ways to label, write and read.

mod crash;
mod faults;
mod gnu_tar;
mod hostile;
mod model;
mod spans;
mod volumes;
mod whole;

use super::header::{UNIT, push_member, push_record};
use super::*;
use crate::catalog::tests::disk::SimDisk;
use journal::Disk;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

pub(super) use crate::catalog::tests::Rng;

/// A seed from `TAPE_SEED`, or a fresh one; printed, so that a failure can be run again.
pub(super) fn seed() -> u64 {
    let given = std::env::var("TAPE_SEED").ok().and_then(|text| text.parse().ok());
    let seed = given.unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.unwrap().as_nanos() as u64 % 1_000_000_000
    });
    println!("TAPE_SEED={seed}");
    seed
}

pub(crate) const DIRECTORY: &str = "/tape";
pub(super) const POOL: &str = "weekly";

/// An id of a session.
pub(super) fn session_id(number: u64) -> String {
    format!("{number:08x}5e55100000000000")
}

fn member(archive: &mut Vec<u8>, name: &str, kind: u8, content: &[u8]) {
    let short = if name.len() > 100 {
        let mut records = Vec::new();
        push_record(&mut records, "path", name.as_bytes());
        push_record(&mut records, "mtime", b"1700000000.123456789");
        assert!(push_member(archive, "PaxHeaders/x", b'x', &records, 0));
        name.get(..90).unwrap()
    } else {
        name
    };
    assert!(push_member(archive, short, kind, content, 0));
}

/// An archive of a session: its label, some members, the two zero blocks.
pub(super) fn archive(session: &str, members: usize, size_max: usize, rng: &mut Rng) -> Vec<u8> {
    let mut archive = Vec::new();
    let short = part::short(session);
    let label = format!("{{\"id\":\"{session}\",\"name\":\"of {short}\"}}");
    member(&mut archive, &format!(".rewind/{short}/session.json"), b'0', label.as_bytes());
    for number in 0..members {
        let name = match rng.below(3) {
            0 => format!("srv/{number}"),
            1 => format!("srv/{}/{number}", "long".repeat(10 + rng.below(60))),
            _ => format!("srv/\u{e9}{number}"),
        };
        match rng.below(5) {
            0 => member(&mut archive, &format!("{name}/"), b'5', b""),
            1 => member(&mut archive, &name, b'0', b""),
            2 => member(&mut archive, &name, b'0', &vec![0; rng.below(size_max + 1)]),
            _ => {
                let bytes: Vec<u8> = (0..rng.below(size_max + 1)).map(|_| rng.next() as u8).collect();
                member(&mut archive, &name, b'0', &bytes);
            }
        }
    }
    archive.resize(archive.len() + 2 * UNIT, 0);
    archive
}

pub(crate) fn open(disk: &SimDisk) -> FileDrive {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    FileDrive::open(disk, Path::new(DIRECTORY)).unwrap()
}

/// Opens a drive on a real disk. A process that another test starts may hold the lock of one that was just closed, until it
/// runs its own program.
pub(super) fn open_on(disk: &Arc<dyn Disk>, directory: &Path) -> Result<FileDrive, DriveError> {
    for _ in 0..1000 {
        match FileDrive::open(Arc::clone(disk), directory) {
            Err(error) if error.kind == DriveErrorKind::Busy => {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            other => return other,
        }
    }
    FileDrive::open(Arc::clone(disk), directory)
}

pub(super) fn request(media: &str, sequence: u32, block_bytes: usize) -> LabelRequest {
    let (media, pool) = (media.to_owned(), POOL.to_owned());
    LabelRequest { media, pool, sequence, block_bytes, made_by: "test".to_owned(), made_at: 1_700_000_000 }
}

/// Puts labelled volumes of so many blocks behind the label into a drive; none is loaded then.
pub(crate) fn labelled(drive: &mut FileDrive, volumes: &[u64], block: usize, early_warning: u64) {
    for (index, blocks) in volumes.iter().enumerate() {
        let media = format!("TAPE-{}", index + 1);
        // The label takes a few blocks where blocks are small.
        let label = 3072_u64.next_multiple_of(block as u64);
        drive
            .insert(&media, MediumOptions { capacity: label + blocks * block as u64, early_warning })
            .unwrap();
        drive.load(Wanted::Named(&media)).unwrap();
        volume::label(drive, request(&media, index as u32 + 1, block), Overwrite::Refuse).unwrap();
    }
    drive.eject().unwrap();
}

pub(super) fn options(session: &str) -> SpanOptions {
    let (session, pool) = (session.to_owned(), POOL.to_owned());
    SpanOptions { session, pool, media: None, seconds: 1_700_000_000 }
}

pub(crate) fn write(drive: &mut dyn Drive, session: &str, archive: &[u8]) -> Result<Written, TapeError> {
    let mut changer = Automatic;
    let mut writer = SpanWriter::begin(drive, &mut changer, options(session))?;
    for piece in archive.chunks(1000) {
        writer.write(piece)?;
    }
    writer.finish()
}

/// All volumes of the drive that have a label.
pub(crate) fn take_stock(drive: &mut FileDrive) -> Vec<VolumeInventory> {
    let mut found = Vec::new();
    for name in drive.volumes().to_vec() {
        drive.load(Wanted::Named(&name)).unwrap();
        match inventory(drive) {
            Ok(inventory) => found.push(inventory),
            Err(TapeError::Blank) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
    found
}

pub(super) fn read(
    drive: &mut dyn Drive,
    session: &str,
    parts: Vec<PartPlace>,
) -> Result<Vec<u8>, std::io::Error> {
    let mut changer = Automatic;
    let mut bytes = Vec::new();
    SpanReader::new(drive, &mut changer, session, parts).unwrap().read_to_end(&mut bytes)?;
    Ok(bytes)
}
