//! Single failures: media errors, ends without warning, kills at every call of the drive, the feeder and its spool.

use super::super::drive::BLOCK_BYTES;
use super::super::faulty::{Fault, FaultyDrive, Kill};
use super::super::spool::{Spool, Taken};
use super::*;
use std::io::Write;
use std::sync::mpsc;

fn at(file: u32, block: u64) -> Position {
    Position { file, block }
}

fn name(number: usize) -> String {
    format!("TAPE-{number}")
}

#[test]
fn a_block_that_cannot_be_read_is_named() {
    let disk = SimDisk::default();
    let mut drive = open(&disk);
    labelled(&mut drive, &[12, 12, 200], 1024, 0);
    let session = session_id(1);
    let archive = archive(&session, 20, 5000, &mut Rng::new(seed()));
    let parts = write(&mut drive, &session, &archive).unwrap().parts;
    let (mut drive, faults) = FaultyDrive::new(drive);
    for (part, place) in (1_u32..).zip(&parts) {
        for block in [0, 1, place.blocks / 2, place.blocks - 1] {
            faults.heal();
            faults.add(Fault::Read(place.media.clone(), at(place.file, block)));
            let mut bytes = Vec::new();
            let mut changer = Automatic;
            let mut reader = SpanReader::new(&mut drive, &mut changer, &session, parts.clone()).unwrap();
            let error = reader.read_to_end(&mut bytes).unwrap_err();
            match tape_error(&error) {
                Some(TapeError::Damaged { part: named, media, at: place_named, source: Some(_), .. }) => {
                    assert_eq!((*named, media, *place_named), (part, &place.media, at(place.file, block)));
                }
                other => panic!("{other:?}"),
            }
            // What came before is what was written, and nothing comes after.
            assert!(archive.starts_with(&bytes));
            assert!(reader.read(&mut [0; 10]).is_err());
        }
    }
    faults.heal();
    assert!(super::read(&mut drive, &session, parts).unwrap() == archive);
}

#[test]
fn a_block_that_cannot_be_written_ends_the_session_and_nothing_else() {
    let disk = SimDisk::default();
    let mut drive = open(&disk);
    labelled(&mut drive, &[400], 1024, 0);
    let (mut drive, faults) = FaultyDrive::new(drive);
    let mut rng = Rng::new(seed());
    let first = archive(&session_id(1), 10, 3000, &mut rng);
    super::write(&mut drive, &session_id(1), &first).unwrap();
    let second = archive(&session_id(2), 10, 3000, &mut rng);
    let broken = [Fault::Write(name(1), at(2, 4)), Fault::Filemark(name(1), 2, false)];
    for fault in broken {
        faults.add(fault.clone());
        let error = super::write(&mut drive, &session_id(2), &second).unwrap_err();
        assert_eq!(error.drive(), Some(DriveErrorKind::Media), "{fault:?}");
        faults.heal();
        let stock = inventory(&mut drive).unwrap();
        assert_eq!(stock.files.len(), 1, "{fault:?}");
        assert!(stock.is_cut_off, "{fault:?}");
        let parts = parts_of(&[stock], &session_id(1)).unwrap();
        assert!(super::read(&mut drive, &session_id(1), parts).unwrap() == first);
    }
    // A filemark that failed may have happened: then the session is whole, though nobody was told.
    faults.add(Fault::Filemark(name(1), 2, true));
    assert!(super::write(&mut drive, &session_id(2), &second).is_err());
    faults.heal();
    let written =
        super::write(&mut drive, &session_id(3), &archive(&session_id(3), 3, 3000, &mut rng)).unwrap();
    assert_eq!(written.parts[0].file, 3);
    let stock = inventory(&mut drive).unwrap();
    let parts = parts_of(&[stock], &session_id(2)).unwrap();
    assert!(super::read(&mut drive, &session_id(2), parts).unwrap() == second);
}

#[test]
fn a_medium_that_ends_early_is_gone_on_from() {
    let session = session_id(1);
    let mut rng = Rng::new(seed());
    let archive = archive(&session, 20, 5000, &mut rng);
    for end in 0..15 {
        let disk = SimDisk::default();
        let mut drive = open(&disk);
        labelled(&mut drive, &[400, 400, 400], 1024, 0);
        let (mut drive, faults) = FaultyDrive::new(drive);
        faults.add(Fault::End(name(1), at(1, end)));
        faults.add(Fault::End(name(2), at(1, 3 + rng.below(5) as u64)));
        let parts = super::write(&mut drive, &session, &archive).unwrap().parts;
        let expected = if end == 0 { 2 } else { 3 };
        assert_eq!(parts.len(), expected, "end at {end}");
        if end > 0 {
            assert_eq!(parts[0].blocks, end);
        }
        assert!(super::read(&mut drive, &session, parts).unwrap() == archive);
    }
}

/// A small run: two sessions, the second over two volumes. Kept: those that were acknowledged.
pub(super) fn small_run(drive: &mut dyn Drive, archives: &[Vec<u8>]) -> (Vec<(String, Vec<u8>)>, bool) {
    let mut kept = Vec::new();
    for (number, archive) in (1_u64..).zip(archives) {
        let session = session_id(number);
        match super::write(drive, &session, archive) {
            Ok(_) => kept.push((session, archive.clone())),
            Err(_) => return (kept, false),
        }
    }
    (kept, true)
}

/// What must hold after a kill: all that was acknowledged is there, nothing is there that is not exact, and writing
/// goes on.
pub(super) fn check_after(disk: &SimDisk, kept: &[(String, Vec<u8>)], archives: &[Vec<u8>], what: &str) {
    let mut drive = open(disk);
    let stock = take_stock(&mut drive);
    for (session, archive) in kept {
        let parts = parts_of(&stock, session).unwrap_or_else(|error| panic!("{what}: {error:?}"));
        assert!(super::read(&mut drive, session, parts).unwrap() == *archive, "{what}");
    }
    for found in sessions(&stock) {
        let Some(parts) = found.parts else { continue };
        let number = (1..).zip(archives).find(|(number, _)| session_id(*number) == found.session).unwrap();
        assert!(super::read(&mut drive, &found.session, parts).unwrap() == *number.1, "{what}");
    }
    drive.load(Wanted::Named("TAPE-2")).unwrap();
    let archive = archive(&session_id(9), 4, 500, &mut Rng::new(9));
    let written = super::write(&mut drive, &session_id(9), &archive)
        .unwrap_or_else(|error| panic!("{what}: {error:?}"));
    assert!(super::read(&mut drive, &session_id(9), written.parts).unwrap() == archive, "{what}");
    let stock = take_stock(&mut drive);
    for (session, archive) in kept {
        let parts = parts_of(&stock, session).unwrap();
        assert!(super::read(&mut drive, session, parts).unwrap() == *archive, "{what}, after writing on");
    }
}

pub(super) fn prepared() -> (SimDisk, FileDrive) {
    let disk = SimDisk::default();
    let mut drive = open(&disk);
    labelled(&mut drive, &[20, 60, 60], 1024, 0);
    (disk, drive)
}

#[test]
fn a_kill_at_any_call_of_the_drive_loses_nothing() {
    let mut rng = Rng::new(seed());
    let archives = [1, 2, 3].map(|number| archive(&session_id(number), 4, 3000, &mut rng));
    let mut calls = 0;
    for call in 1.. {
        let mut has_ended = false;
        for kill in [Kill::Before, Kill::After] {
            let (disk, drive) = prepared();
            let (mut drive, faults) = FaultyDrive::new(drive);
            faults.add(Fault::Kill(call, kill));
            let (kept, is_whole) = small_run(&mut drive, &archives);
            has_ended |= is_whole;
            drop(drive);
            check_after(&disk, &kept, &archives, &format!("{kill:?} call {call}"));
        }
        calls = call;
        if has_ended {
            break;
        }
    }
    assert!(calls > 40, "only {calls} calls were killed");
}

#[test]
fn a_torn_last_block_is_no_session() {
    let mut rng = Rng::new(seed());
    let archives = [1, 2].map(|number| archive(&session_id(number), 4, 3000, &mut rng));
    let (disk, mut drive) = prepared();
    let (kept, _) = small_run(&mut drive, &archives[..1]);
    // The process ends inside of a block, which is there in part, and as much else.
    let (mut drive, faults) = FaultyDrive::new(drive);
    faults.add(Fault::Write(name(1), at(2, 3)));
    assert!(super::write(&mut drive, &session_id(2), &archives[1]).is_err());
    drop(drive);
    let path = Path::new(DIRECTORY).join("TAPE-1/000002.tar.part");
    let whole = disk.bytes(&path);
    for length in [whole.len() - 1, whole.len() - 511, 1, 0] {
        disk.set_bytes(&path, whole[..length].to_vec());
        let mut drive = open(&disk);
        drive.load(Wanted::Named("TAPE-1")).unwrap();
        let stock = inventory(&mut drive).unwrap();
        assert_eq!((stock.files.len(), stock.is_cut_off), (1, length > 0));
        assert_eq!(volume::append(&mut drive).unwrap(), 2);
        drop(drive);
    }
    check_after(&disk, &kept, &archives, "torn");
}

#[test]
fn a_tape_file_that_a_closed_drive_ended_is_no_session_and_stays() {
    let session = session_id(1);
    let archive = archive(&session, 10, 3000, &mut Rng::new(seed()));
    let (disk, mut drive) = prepared();
    // As a drive does it: blocks of a session, and a filemark, since somebody closed it.
    drive.load(Wanted::Named("TAPE-1")).unwrap();
    volume::append(&mut drive).unwrap();
    drive.set_block_bytes(1024).unwrap();
    for block in archive.chunks_exact(1024).take(4) {
        drive.write(block).unwrap();
    }
    drive.filemark().unwrap();
    let stock = inventory(&mut drive).unwrap();
    assert_eq!(stock.files[0].ends, None);
    let found = sessions(&[stock]);
    assert_eq!((found.len(), found[0].parts.clone()), (1, None));
    let parts = super::write(&mut drive, &session, &archive).unwrap().parts;
    assert_eq!(parts[0].file, 2);
    let stock = take_stock(&mut drive);
    assert_eq!(parts_of(&stock, &session).unwrap(), parts);
    drop((disk, drive));
}

// The feeder.

fn feeding(mark: u64, limit: u64) -> (tempfile::TempDir, FeederOptions) {
    feeding_or(mark, limit, WhenFull::Fail)
}

fn feeding_or(mark: u64, limit: u64, when_full: WhenFull) -> (tempfile::TempDir, FeederOptions) {
    let directory = tempfile::tempdir().unwrap();
    let place = SpoolPlace::Disk { directory: directory.path().to_owned(), limit, when_full };
    (directory, FeederOptions { place, mark })
}

fn start(drive: impl Drive + 'static, session: &str, options: &FeederOptions) -> Feeder {
    Feeder::start(Box::new(drive), Box::new(Automatic), super::options(session), options).unwrap()
}

#[test]
fn a_feeder_writes_what_it_is_given() {
    let mut rng = Rng::new(seed());
    for (mark, limit) in [(0, 700), (512, 512), (3000, 5000), (1 << 30, 4000), (1 << 30, 1 << 20)] {
        let (disk, drive) = prepared();
        let (directory, options) = feeding(mark, limit);
        let session = session_id(1);
        let archive = archive(&session, 5, 5000, &mut rng);
        let mut feeder = start(drive, &session, &options);
        // It has no name.
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        for piece in archive.chunks(1 + rng.below(2000)) {
            feeder.write_all(piece).unwrap();
        }
        let finished = feeder.finish();
        let fed = finished.result.unwrap();
        assert!(fed.was_on_disk && fed.most_spooled <= limit, "{fed:?}");
        let mut drive = finished.drive.unwrap();
        let parts = fed.written.parts;
        assert!(super::read(drive.as_mut(), &session, parts).unwrap() == archive);
        drop((drive, disk));
    }
}

/// A drive whose writes wait until the test lets them pass.
struct Gate {
    behind: FileDrive,
    pass: mpsc::Receiver<()>,
}

impl Drive for Gate {
    fn write(&mut self, block: &[u8]) -> Result<Wrote, DriveError> {
        // A test that is done lets all pass.
        let _ = self.pass.recv();
        self.behind.write(block)
    }
    fn serial(&self) -> &str {
        self.behind.serial()
    }
    fn medium(&mut self) -> Result<Medium, DriveError> {
        self.behind.medium()
    }
    fn block_bytes(&self) -> usize {
        self.behind.block_bytes()
    }
    fn set_block_bytes(&mut self, bytes: usize) -> Result<(), DriveError> {
        self.behind.set_block_bytes(bytes)
    }
    fn position(&self) -> Position {
        self.behind.position()
    }
    fn read(&mut self, buffer: &mut [u8]) -> Result<Met, DriveError> {
        self.behind.read(buffer)
    }
    fn read_start(&mut self, limit: usize) -> Result<Vec<u8>, DriveError> {
        self.behind.read_start(limit)
    }
    fn filemark(&mut self) -> Result<(), DriveError> {
        self.behind.filemark()
    }
    fn locate(&mut self, file: u32) -> Result<(), DriveError> {
        self.behind.locate(file)
    }
    fn locate_last_block(&mut self, file: u32) -> Result<Option<u64>, DriveError> {
        self.behind.locate_last_block(file)
    }
    fn end_of_data(&mut self) -> Result<Position, DriveError> {
        self.behind.end_of_data()
    }
    fn load(&mut self, wanted: Wanted<'_>) -> Result<(), DriveError> {
        self.behind.load(wanted)
    }
    fn eject(&mut self) -> Result<(), DriveError> {
        self.behind.eject()
    }
}

#[test]
fn who_makes_the_archive_waits_at_the_limit_and_can_be_cancelled_there() {
    let (disk, behind) = prepared();
    let (_directory, options) = feeding(0, 2048);
    let (let_pass, pass) = mpsc::channel();
    let session = session_id(1);
    let mut feeder = start(Gate { behind, pass }, &session, &options);
    let canceller = feeder.canceller();
    let archive = archive(&session, 20, 5000, &mut Rng::new(seed()));
    let (said, heard) = mpsc::channel();
    let producer = std::thread::spawn(move || {
        let result = feeder.write_all(&archive);
        said.send(()).unwrap();
        (result, feeder.finish())
    });
    // It cannot be through: nothing passes the drive, and the archive is longer than the spool and what is on the way.
    assert!(heard.recv_timeout(std::time::Duration::from_millis(100)).is_err());
    canceller.cancel();
    heard.recv().unwrap();
    drop(let_pass);
    let (result, finished) = producer.join().unwrap();
    assert!(matches!(tape_error(&result.unwrap_err()), Some(TapeError::Cancelled)));
    assert!(matches!(finished.result, Err(TapeError::Cancelled)));
    assert!(take_stock_of(finished.drive.unwrap().as_mut()).is_empty());
    drop(disk);
}

/// Sessions on the volume in a drive.
fn take_stock_of(drive: &mut dyn Drive) -> Vec<TapeSession> {
    sessions(&[inventory(drive).unwrap()]).into_iter().filter(|session| session.parts.is_some()).collect()
}

#[test]
fn errors_of_the_drive_reach_who_makes_the_archive() {
    let (_disk, drive) = prepared();
    let (mut drive, faults) = FaultyDrive::new(drive);
    drive.load(Wanted::Named("TAPE-1")).unwrap();
    faults.add(Fault::Write(name(1), at(1, 2)));
    let (_directory, options) = feeding(0, 4096);
    let session = session_id(1);
    let mut feeder = start(drive, &session, &options);
    let archive = archive(&session, 40, 5000, &mut Rng::new(seed()));
    assert!(feeder.write_all(&archive).is_err());
    let finished = feeder.finish();
    assert_eq!(finished.result.unwrap_err().drive(), Some(DriveErrorKind::Media));
    assert!(take_stock_of(finished.drive.unwrap().as_mut()).is_empty());
}

#[test]
fn an_archive_that_is_not_finished_is_not_written() {
    let (disk, drive) = prepared();
    let (_directory, options) = feeding(0, 4096);
    let session = session_id(1);
    let archive = archive(&session, 5, 500, &mut Rng::new(seed()));
    let mut feeder = start(drive, &session, &options);
    feeder.write_all(&archive[..archive.len() - 1024]).unwrap();
    let finished = feeder.finish();
    assert_eq!(finished.result.unwrap_err().kind(), TapeErrorKind::NotAnArchive);
    drop(finished.drive);
    // Dropped in the middle.
    let mut feeder = start(open(&disk), &session, &options);
    feeder.write_all(&archive[..1000]).unwrap();
    drop(feeder);
    let mut drive = open(&disk);
    assert!(sessions(&take_stock(&mut drive)).is_empty());
}

#[test]
fn stalls_are_counted() {
    let spool = Spool::in_memory(100);
    let put = |byte: u8, count: usize| assert!(spool.put(&mut vec![byte; count]).unwrap());
    let (said, heard) = mpsc::channel();
    let theirs = spool.clone();
    let reader = std::thread::spawn(move || {
        assert!(theirs.wait_for(50));
        said.send(()).unwrap();
        let mut taken = Vec::new();
        let mut piece = Vec::new();
        while theirs.take(&mut piece, 50).unwrap() == Taken::Bytes {
            taken.extend_from_slice(&piece);
            said.send(()).unwrap();
        }
        taken
    });
    put(1, 49);
    assert!(heard.try_recv().is_err());
    put(2, 1);
    // Started, 49, 1; then it stalls, until 50 bytes lie there again.
    (0..3).for_each(|_| heard.recv().unwrap());
    while spool.counts().0 == 0 {
        std::thread::yield_now();
    }
    put(3, 40);
    assert!(heard.try_recv().is_err());
    spool.complete();
    let taken = reader.join().unwrap();
    assert_eq!(taken, [vec![1; 49], vec![2; 1], vec![3; 40]].concat());
    assert_eq!(spool.counts().0, 1, "stalls");
    assert_eq!(spool.take(&mut Vec::new(), 1).unwrap(), Taken::End);
}

#[test]
fn a_disk_without_room_for_the_spool_is_said_or_done_without() {
    let disk = SimDisk::default();
    let mut drive = open(&disk);
    labelled(&mut drive, &[1 << 20], 1024, 0);
    let (directory, options) = feeding(0, 1 << 60);
    let session = session_id(1);
    let result = Feeder::start(Box::new(drive), Box::new(Automatic), super::options(&session), &options);
    let error = result.err().unwrap();
    assert!(matches!(error, TapeError::SpoolFull { bytes, .. } if bytes == 1 << 60), "{error:?}");
    assert_eq!(error.kind(), TapeErrorKind::NoRoom);
    // A mark that is never reached starts the drive when no more fits.
    let (_other, streams) = feeding_or(1 << 30, 1 << 60, WhenFull::Stream);
    let in_memory = FeederOptions { place: SpoolPlace::Memory, mark: 4096 };
    let mut rng = Rng::new(seed());
    for (number, options) in [streams, in_memory].into_iter().enumerate() {
        let session = session_id(2 + number as u64);
        // The first has to wait for room.
        let long_enough = if number == 0 { MEMORY_BYTES + 1 } else { 0 };
        let mut archives = (5..).map(|members| archive(&session, members, 9 << 20, &mut rng));
        let archive = archives.find(|archive| archive.len() >= long_enough).unwrap();
        let mut feeder = start(open(&disk), &session, &options);
        feeder.write_all(&archive).unwrap();
        let finished = feeder.finish();
        let fed = finished.result.unwrap();
        assert!(!fed.was_on_disk && fed.most_spooled <= MEMORY_BYTES as u64, "{fed:?}");
        let parts = fed.written.parts;
        assert!(super::read(finished.drive.unwrap().as_mut(), &session, parts).unwrap() == archive);
    }
    drop(directory);
}

#[test]
fn what_is_no_drive_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, b"no tape").unwrap();
    for path in [file.as_path(), directory.path(), Path::new("/dev/null"), Path::new("/dev/does-not-exist")] {
        let error = RealDrive::open(path).err().unwrap();
        assert_eq!(error.kind, DriveErrorKind::NotADrive, "{error:?}");
    }
    assert_eq!(std::fs::read(&file).unwrap(), b"no tape");
}

#[test]
fn a_drive_of_files_works_on_a_real_file_system() {
    let directory = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(journal::OsDisk);
    let mut drive = FileDrive::open(disk.clone(), directory.path()).unwrap();
    labelled(&mut drive, &[2, 60], BLOCK_BYTES, 0);
    let session = session_id(1);
    let archive = archive(&session, 20, 200_000, &mut Rng::new(7));
    let parts = super::write(&mut drive, &session, &archive).unwrap().parts;
    assert_eq!(parts.len(), 2);
    drop(drive);
    let mut drive = FileDrive::open(disk, directory.path()).unwrap();
    assert_eq!(parts_of(&take_stock(&mut drive), &session).unwrap(), parts);
    assert!(super::read(&mut drive, &session, parts).unwrap() == archive);
}
