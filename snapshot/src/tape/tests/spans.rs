//! Sessions over volumes: every place where a medium can end, and what says that a part is not what was written.

use super::*;

/// Writes over volumes of all sizes, reads back by inventory.
fn there_and_back(block: usize, sizes: impl Iterator<Item = u64>, early_warning: u64, rng: &mut Rng) {
    let session = session_id(1);
    let archive = archive(&session, 6, 2000, rng);
    for blocks in sizes {
        let disk = SimDisk::default();
        let mut drive = open(&disk);
        let first = (archive.len() / block) as u64;
        labelled(&mut drive, &[blocks, blocks + 5, first + 40, first + 40], block, early_warning);
        drive.load(Wanted::Named("TAPE-1")).unwrap();
        let written = write(&mut drive, &session, &archive).unwrap();
        assert_eq!(written.bytes, archive.len() as u64);
        let stock = take_stock(&mut drive);
        let parts = parts_of(&stock, &session).unwrap();
        assert_eq!(parts, written.parts, "volumes of {blocks} blocks");
        assert_eq!(read(&mut drive, &session, parts.clone()).unwrap(), archive, "volumes of {blocks} blocks");
        let found = sessions(&stock);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].bytes, Some(archive.len() as u64));
        // A label that was cut is not shown.
        if parts[0].blocks as usize * block >= 1024 {
            assert_eq!(found[0].label.as_ref().unwrap()["name"], "of 00000001");
        }
    }
}

#[test]
fn a_session_may_be_cut_anywhere() {
    let mut rng = Rng::new(seed());
    // Blocks of 512 bytes: each place of the archive is where a medium ends once.
    there_and_back(512, 0..60, 0, &mut rng);
    there_and_back(512, 0..60, 700, &mut rng);
    there_and_back(2048, 0..30, 0, &mut rng);
}

#[test]
fn a_warning_ends_the_part() {
    let disk = SimDisk::default();
    let mut drive = open(&disk);
    labelled(&mut drive, &[20, 200], 1024, 4000);
    let session = session_id(1);
    let archive = archive(&session, 20, 5000, &mut Rng::new(2));
    let parts = write(&mut drive, &session, &archive).unwrap().parts;
    drive.load(Wanted::Named("TAPE-1")).unwrap();
    let free = inventory(&mut drive).unwrap().free.unwrap();
    assert!((2976..4000).contains(&free), "{free} bytes are left of {parts:?}");
    assert!(read(&mut drive, &session, parts).unwrap() == archive);
}

#[test]
fn zeros_behind_the_end_come_back() {
    let disk = SimDisk::default();
    let mut drive = open(&disk);
    labelled(&mut drive, &[3, 100], 4096, 0);
    let session = session_id(1);
    let mut archive = archive(&session, 4, 9000, &mut Rng::new(3));
    archive.resize(archive.len().next_multiple_of(1 << 20), 0);
    let written = write(&mut drive, &session, &archive).unwrap();
    assert!(written.parts.iter().map(|part| part.blocks).sum::<u64>() < 100);
    assert!(read(&mut drive, &session, written.parts).unwrap() == archive);
}

#[test]
fn several_sessions_share_volumes() {
    let disk = SimDisk::default();
    let mut drive = open(&disk);
    labelled(&mut drive, &[50, 50, 50, 50], 1024, 0);
    drive.load(Wanted::Named("TAPE-1")).unwrap();
    let mut rng = Rng::new(seed());
    let mut archives = Vec::new();
    for number in 1..=6 {
        let session = session_id(number);
        let archive = archive(&session, 5, 6000, &mut rng);
        write(&mut drive, &session, &archive).unwrap();
        archives.push((session, archive));
    }
    let stock = take_stock(&mut drive);
    assert_eq!(sessions(&stock).len(), 6);
    for (session, archive) in archives {
        let parts = parts_of(&stock, &session).unwrap();
        assert!(read(&mut drive, &session, parts).unwrap() == archive);
    }
}

/// A session of three parts on volumes of 1024 bytes a block, and its archive.
fn three_parts(disk: &SimDisk) -> (FileDrive, String, Vec<u8>, Vec<PartPlace>) {
    let mut drive = open(disk);
    labelled(&mut drive, &[10, 10, 100], 1024, 0);
    let session = session_id(7);
    let archive = archive(&session, 20, 4000, &mut Rng::new(11));
    let parts = write(&mut drive, &session, &archive).unwrap().parts;
    assert_eq!(parts.len(), 3);
    (drive, session, archive, parts)
}

fn file(media: usize) -> std::path::PathBuf {
    Path::new(DIRECTORY).join(format!("TAPE-{media}/000001.tar"))
}

#[test]
fn a_changed_byte_is_noticed_and_the_part_is_named() {
    let disk = SimDisk::default();
    let (mut drive, session, archive, parts) = three_parts(&disk);
    let mut rng = Rng::new(seed());
    for part in 1..=3 {
        let whole = disk.bytes(&file(part));
        for _ in 0..40 {
            let mut bytes = whole.clone();
            let at = rng.below(bytes.len());
            bytes[at] ^= 1 << rng.below(8);
            disk.set_bytes(&file(part), bytes);
            match read(&mut drive, &session, parts.clone()) {
                Ok(_) => panic!("byte {at} of part {part} was changed and nobody noticed"),
                Err(error) => match tape_error(&error) {
                    Some(TapeError::Damaged { part: named, media, .. }) => {
                        // The beginning of a part names the part before it too.
                        let is_near = *named as usize == part || *named as usize + 1 == part;
                        assert!(is_near, "part {part} was changed at {at}, {named} is named");
                        assert_eq!(*media, format!("TAPE-{named}"));
                    }
                    other => panic!("byte {at} of part {part}: {other:?}"),
                },
            }
        }
        disk.set_bytes(&file(part), whole);
    }
    assert!(read(&mut drive, &session, parts).unwrap() == archive);
}

#[test]
fn a_missing_block_is_noticed() {
    let disk = SimDisk::default();
    let (mut drive, session, _, parts) = three_parts(&disk);
    for part in 1..=3 {
        let whole = disk.bytes(&file(part));
        let blocks = whole.len() / 1024;
        for gone in [0, 1, blocks / 2, blocks - 1] {
            let mut bytes = whole.clone();
            bytes.drain(gone * 1024..(gone + 1) * 1024);
            disk.set_bytes(&file(part), bytes);
            let error = read(&mut drive, &session, parts.clone()).unwrap_err();
            let kind = tape_error(&error).map(TapeError::kind);
            assert_eq!(kind, Some(TapeErrorKind::Damaged), "block {gone} of part {part}: {error:?}");
        }
        disk.set_bytes(&file(part), whole);
    }
}

#[test]
fn a_volume_that_is_missing_is_named() {
    let disk = SimDisk::default();
    let (mut drive, session, _, parts) = three_parts(&disk);
    let note = Path::new(DIRECTORY).join("TAPE-2/medium.json");
    disk.remove(&note).unwrap();
    let error = read(&mut drive, &session, parts).unwrap_err();
    match tape_error(&error) {
        Some(TapeError::MissingVolume { part: 2, media, .. }) => assert_eq!(media, "TAPE-2"),
        other => panic!("{other:?}"),
    }
    // The inventory of what is left says the same.
    let mut stock = Vec::new();
    for media in ["TAPE-1", "TAPE-3"] {
        drive.load(Wanted::Named(media)).unwrap();
        stock.push(inventory(&mut drive).unwrap());
    }
    match parts_of(&stock, &session) {
        Err(TapeError::MissingVolume { part: 2, media, .. }) => assert_eq!(media, "TAPE-2"),
        other => panic!("{other:?}"),
    }
    assert!(matches!(parts_of(&stock[..1], &session), Err(TapeError::NotWhole { .. })));
    assert_eq!(sessions(&stock)[0].parts, None);
}

#[test]
fn a_volume_in_place_of_another_is_refused() {
    let disk = SimDisk::default();
    let (mut drive, session, _, mut parts) = three_parts(&disk);
    drive.load(Wanted::Named("TAPE-2")).unwrap();
    volume::label(&mut drive, request("TAPE-2", 2, 1024), Overwrite::Force).unwrap();
    let error = read(&mut drive, &session, parts.clone()).unwrap_err();
    assert!(matches!(tape_error(&error), Some(TapeError::Relabelled { .. })), "{error:?}");
    // Parts in another order are not joined.
    parts.swap(0, 2);
    let error = read(&mut drive, &session, parts).unwrap_err();
    assert!(matches!(tape_error(&error), Some(TapeError::Damaged { part: 1, .. })), "{error:?}");
}

#[test]
fn what_is_no_archive_is_refused() {
    let session = session_id(1);
    let whole = archive(&session, 3, 3000, &mut Rng::new(5));
    let behind = [&whole[..], &[1; 512]].concat();
    let half = &whole[..whole.len() - 512];
    let mut broken = whole.clone();
    broken[700] = b'{';
    broken[1024 + 300] ^= 1;
    for (what, bytes) in [("noise", &[7; 4096][..]), ("behind", &behind), ("half", half), ("broken", &broken)]
    {
        let disk = SimDisk::default();
        let mut drive = open(&disk);
        labelled(&mut drive, &[100], 1024, 0);
        let error = write(&mut drive, &session, bytes).unwrap_err();
        assert_eq!(error.kind(), TapeErrorKind::NotAnArchive, "{what}: {error:?}");
        // Nothing of it counts, and the next takes its place.
        assert!(sessions(&take_stock(&mut drive)).is_empty(), "{what}");
        assert_eq!(write(&mut drive, &session, &whole).unwrap().parts[0].file, 1, "{what}");
    }
}

#[test]
fn volumes_that_take_nothing_end_it() {
    let session = session_id(1);
    let archive = archive(&session, 30, 30_000, &mut Rng::new(5));
    let disk = SimDisk::default();
    let mut drive = open(&disk);
    labelled(&mut drive, &[0, 0, 0, 0, 0, 0, 0], 1024, 0);
    let error = write(&mut drive, &session, &archive).unwrap_err();
    assert_eq!(error.kind(), TapeErrorKind::NoRoom, "{error:?}");
    let disk = SimDisk::default();
    let mut drive = open(&disk);
    labelled(&mut drive, &[5, 5], 1024, 0);
    let error = write(&mut drive, &session, &archive).unwrap_err();
    assert_eq!(error.drive(), Some(DriveErrorKind::NoVolume), "{error:?}");
    // A volume of the pool with other blocks does not go on.
    let disk = SimDisk::default();
    let mut drive = open(&disk);
    labelled(&mut drive, &[5, 500], 1024, 0);
    drive.load(Wanted::Named("TAPE-2")).unwrap();
    volume::label(&mut drive, request("TAPE-2", 2, 2048), Overwrite::Refuse).unwrap();
    drive.load(Wanted::Named("TAPE-1")).unwrap();
    let error = write(&mut drive, &session, &archive).unwrap_err();
    assert!(matches!(error, TapeError::OtherBlocks { wanted: 1024, found: 2048, .. }), "{error:?}");
}
