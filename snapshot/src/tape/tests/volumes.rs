//! Labels: what may be written over, which volume it is, where writing goes on.

use super::*;

fn with_volume(capacity: u64) -> (SimDisk, FileDrive) {
    let disk = SimDisk::default();
    let mut drive = open(&disk);
    drive.insert("TAPE-1", MediumOptions { capacity, early_warning: 0 }).unwrap();
    drive.load(Wanted::Named("TAPE-1")).unwrap();
    (disk, drive)
}

#[test]
fn a_label_says_what_it_was_told() {
    let (_disk, mut drive) = with_volume(1 << 20);
    assert_eq!(volume::identify(&mut drive).unwrap(), Content::Blank);
    assert!(matches!(volume::read_label(&mut drive), Err(TapeError::Blank)));
    let label = volume::label(&mut drive, request("TAPE-1", 3, 4096), Overwrite::Refuse).unwrap();
    assert_eq!((label.media.as_str(), label.pool.as_str(), label.sequence), ("TAPE-1", POOL, 3));
    assert_eq!(label.serial, drive.medium().unwrap().serial);
    assert_eq!((label.compression.as_str(), label.encryption.as_str()), ("none", "none"));
    drive.set_block_bytes(512).unwrap();
    assert_eq!(volume::identify(&mut drive).unwrap(), Content::Volume(Box::new(label)));
    assert_eq!(drive.block_bytes(), 4096);
    assert_eq!(volume::append(&mut drive).unwrap(), 1);
}

#[test]
fn labels_that_lie_are_refused() {
    let (_disk, mut drive) = with_volume(1 << 20);
    let good = volume::label(&mut drive, request("TAPE-1", 1, 4096), Overwrite::Refuse).unwrap();
    let good = String::from_utf8(serde_json::to_vec(&good).unwrap()).unwrap();
    let parse = |text: &str| {
        let mut bytes = Vec::new();
        assert!(push_member(&mut bytes, ".rewind/volume.json", b'0', text.as_bytes(), 0));
        label::parse(&bytes).map(|label| label.media)
    };
    assert_eq!(parse(&good).unwrap(), "TAPE-1");
    let lies = [
        ("\"TAPE-1\"", "\"../up\""),
        ("4096", "4097"),
        ("4096", "0"),
        ("4096", "1099511627776"),
        ("\"version\":1", "\"version\":2"),
        ("rewind-volume", "other-volume"),
        ("\"compression\":\"none\"", "\"compression\":\"zstd\""),
        ("{", "["),
        ("\"id\":\"", "\"id\":\"zz"),
    ];
    for (from, to) in lies {
        assert!(good.contains(from), "{from}");
        assert!(parse(&good.replacen(from, to, 1)).is_err(), "{to} was believed");
    }
    // A size beyond what was read, and anything cut.
    let mut bytes = Vec::new();
    assert!(push_member(&mut bytes, ".rewind/volume.json", b'0', good.as_bytes(), 0));
    for length in [0, 100, 511, 512, 600] {
        assert!(label::parse(&bytes[..length]).is_err());
    }
}

#[test]
fn what_holds_data_is_not_labelled_without_force() {
    let (disk, mut drive) = with_volume(1 << 20);
    volume::label(&mut drive, request("TAPE-1", 1, 1024), Overwrite::Refuse).unwrap();
    // With a label alone it is labelled again.
    volume::label(&mut drive, request("TAPE-1", 2, 1024), Overwrite::Refuse).unwrap();
    let session = session_id(1);
    let archive = archive(&session, 2, 100, &mut Rng::new(1));
    write(&mut drive, &session, &archive).unwrap();
    let error = volume::label(&mut drive, request("TAPE-9", 1, 1024), Overwrite::Refuse).unwrap_err();
    assert!(matches!(&error, TapeError::HasSessions { media, files: 1 } if media == "TAPE-1"), "{error:?}");
    assert_eq!(error.kind(), TapeErrorKind::WouldOverwrite);
    assert_eq!(sessions(&take_stock(&mut drive)).len(), 1);
    // What is not ours.
    let label = Path::new(DIRECTORY).join("TAPE-1/000000.tar");
    let ours = disk.bytes(&label);
    for foreign in [vec![7; 4096], ours[..512].to_vec(), vec![]] {
        disk.set_bytes(&label, foreign);
        drive.load(Wanted::Named("TAPE-1")).unwrap();
        let error = volume::label(&mut drive, request("TAPE-1", 1, 1024), Overwrite::Refuse).unwrap_err();
        assert!(matches!(error, TapeError::Foreign), "{error:?}");
        assert!(matches!(volume::read_label(&mut drive), Err(TapeError::NotLabelled { .. })));
    }
    volume::label(&mut drive, request("TAPE-1", 1, 1024), Overwrite::Force).unwrap();
    let stock = take_stock(&mut drive);
    assert!(stock[0].files.is_empty(), "{stock:?}");
}

#[test]
fn requests_that_make_no_sense_are_refused() {
    let (_disk, mut drive) = with_volume(1 << 20);
    let mut refuse = |request: LabelRequest| {
        let error = volume::label(&mut drive, request, Overwrite::Force).unwrap_err();
        assert!(matches!(error, TapeError::BadRequest { .. }), "{error:?}");
    };
    refuse(request("", 1, 1024));
    refuse(request("a/b", 1, 1024));
    refuse(request("..", 1, 1024));
    refuse(request("a", 1, 1000));
    refuse(request("a", 1, 0));
    refuse(request("a", 1, 1 << 30));
    refuse(LabelRequest { pool: "a b".to_owned(), ..request("a", 1, 1024) });
}

#[test]
fn the_wrong_volume_and_another_pool_are_refused() {
    let disk = SimDisk::default();
    let mut drive = open(&disk);
    labelled(&mut drive, &[50, 50], 1024, 0);
    drive.load(Wanted::Named("TAPE-1")).unwrap();
    let error = volume::verify(&mut drive, Some("TAPE-2"), None).unwrap_err();
    assert!(
        matches!(&error, TapeError::WrongVolume { wanted, found } if wanted == "TAPE-2" && found == "TAPE-1")
    );
    let error = volume::verify(&mut drive, None, Some("daily")).unwrap_err();
    assert!(matches!(&error, TapeError::OtherPool { media, .. } if media == "TAPE-1"), "{error:?}");
    // A session for a pool does not go to a volume of another, nor is that taken for a blank one.
    let session = session_id(1);
    let mut changer = Automatic;
    let daily = SpanOptions { pool: "daily".to_owned(), ..options(&session) };
    let error = SpanWriter::begin(&mut drive, &mut changer, daily.clone()).err().unwrap();
    assert!(matches!(error, TapeError::OtherPool { .. }), "{error:?}");
    drive.eject().unwrap();
    let error = SpanWriter::begin(&mut drive, &mut changer, daily).err().unwrap();
    assert_eq!(error.drive(), Some(DriveErrorKind::NoVolume));
    // The volume that is named is put in, whatever lies in the drive.
    drive.load(Wanted::Named("TAPE-1")).unwrap();
    let named = SpanOptions { media: Some("TAPE-2".to_owned()), ..options(&session) };
    drop(SpanWriter::begin(&mut drive, &mut changer, named).unwrap());
    assert_eq!(drive.medium().unwrap().name.as_deref(), Some("TAPE-2"));
}

#[test]
fn a_person_is_asked_until_the_right_volume_is_in() {
    let disk = SimDisk::default();
    let mut drive = open(&disk);
    labelled(&mut drive, &[50], 1024, 0);
    let mut asked = Vec::new();
    let mut changer = Asking(|wanted: Wanted<'_>, error: &TapeError| {
        asked.push((format!("{wanted:?}"), error.drive()));
        asked.len() < 3
    });
    let error = changer.load(&mut drive, Wanted::Named("TAPE-2")).unwrap_err();
    assert_eq!(error.drive(), Some(DriveErrorKind::NoVolume));
    let question = ("Named(\"TAPE-2\")".to_owned(), Some(DriveErrorKind::NoVolume));
    assert_eq!(asked, vec![question; 3]);
    let mut changer = Asking(|_: Wanted<'_>, _: &TapeError| panic!("nothing is to be asked"));
    changer.load(&mut drive, Wanted::Blank { pool: POOL, except: &[] }).unwrap();
}

#[test]
fn a_volume_that_must_not_be_written_is_not() {
    let (disk, mut drive) = with_volume(1 << 20);
    volume::label(&mut drive, request("TAPE-1", 1, 1024), Overwrite::Refuse).unwrap();
    let note = Path::new(DIRECTORY).join("TAPE-1/medium.json");
    let text = String::from_utf8(disk.bytes(&note)).unwrap();
    disk.set_bytes(&note, text.replace("\"write_protected\":false", "\"write_protected\":true").into_bytes());
    drive.load(Wanted::Named("TAPE-1")).unwrap();
    assert!(drive.medium().unwrap().is_write_protected);
    let error = volume::label(&mut drive, request("TAPE-1", 1, 1024), Overwrite::Force).unwrap_err();
    assert_eq!(error.drive(), Some(DriveErrorKind::WriteProtected));
    assert_eq!(volume::read_label(&mut drive).unwrap().media, "TAPE-1");
}

/// Somebody took a tape file away: what stands behind it must not be taken for free room.
#[test]
fn what_stands_behind_a_hole_is_not_written_over() {
    for missing in ["000000.tar", "000001.tar", "000002.tar"] {
        let disk = SimDisk::default();
        let mut drive = super::open(&disk);
        labelled(&mut drive, &[400], 1024, 0);
        let rng = &mut Rng::new(5);
        drive.load(Wanted::Named("TAPE-1")).unwrap();
        for number in 1..=3 {
            let session = session_id(number);
            write(&mut drive, &session, &archive(&session, 3, 2000, rng)).unwrap();
        }
        let volume = Path::new(DIRECTORY).join("TAPE-1");
        disk.remove(&volume.join(missing)).unwrap();
        let left = disk.names();
        drive.load(Wanted::Named("TAPE-1")).unwrap();
        let session = session_id(4);
        write(&mut drive, &session, &archive(&session, 3, 2000, rng)).unwrap_err();
        for overwrite in [Overwrite::Refuse, Overwrite::Force] {
            volume::label(&mut drive, request("TAPE-1", 1, 1024), overwrite).unwrap_err();
        }
        drive.eject().unwrap();
        drive.load(Wanted::Blank { pool: POOL, except: &[] }).unwrap_err();
        assert_eq!(disk.names(), left, "{missing}");
    }
}

#[test]
fn a_drive_is_used_by_one_and_remembers_its_volume() {
    let (disk, drive) = with_volume(1 << 20);
    let other: Arc<dyn Disk> = Arc::new(disk.clone());
    let error = FileDrive::open(other.clone(), Path::new(DIRECTORY)).err().unwrap();
    assert_eq!(error.kind, DriveErrorKind::Busy);
    let serial = drive.serial().to_owned();
    drop(drive);
    let mut drive = open(&disk);
    assert_eq!(drive.serial(), serial);
    assert_eq!(drive.medium().unwrap().name.as_deref(), Some("TAPE-1"));
    drive.eject().unwrap();
    drop(drive);
    assert_eq!(open(&disk).medium().unwrap_err().kind, DriveErrorKind::NoMedium);
    disk.set_bytes(&Path::new(DIRECTORY).join("drive.json"), b"[]".to_vec());
    let error = FileDrive::open(other, Path::new(DIRECTORY)).err().unwrap();
    assert_eq!(error.kind, DriveErrorKind::NotADrive);
}
