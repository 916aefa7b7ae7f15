//! Notes and volumes that somebody else made: what they say is checked before it leads anywhere.

use super::*;
use journal::disk::OsDisk;
use std::fs;

fn on_disk(directory: &Path) -> Result<FileDrive, DriveError> {
    open_on(&(Arc::new(OsDisk) as Arc<dyn Disk>), directory)
}

/// A drive with two labelled volumes; the first is in it.
fn two_volumes(directory: &Path) {
    let mut drive = on_disk(directory).unwrap();
    for (media, sequence) in [("TAPE-1", 1), ("TAPE-2", 2)] {
        drive.insert(media, MediumOptions { capacity: 1 << 20, early_warning: 0 }).unwrap();
        drive.load(Wanted::Named(media)).unwrap();
        volume::label(&mut drive, request(media, sequence, 4096), Overwrite::Refuse).unwrap();
    }
    drive.load(Wanted::Named("TAPE-1")).unwrap();
}

#[test]
fn names_in_a_note_lead_nowhere_else() {
    let place = tempfile::tempdir().unwrap();
    two_volumes(&place.path().join("theirs"));
    let mine = place.path().join("mine");
    drop(on_disk(&mine).unwrap());
    let good = fs::read_to_string(mine.join("drive.json")).unwrap();
    for (from, to) in [
        ("\"volumes\":[]", "\"volumes\":[\"../theirs/TAPE-2\"]"),
        ("\"loaded\":null", "\"loaded\":\"../theirs/TAPE-1\""),
        ("\"loaded\":null", "\"loaded\":\"/etc\""),
    ] {
        let bad = good.replacen(from, to, 1);
        assert_ne!(good, bad);
        fs::write(mine.join("drive.json"), bad).unwrap();
        let kind = on_disk(&mine).map(|_| ()).map_err(|error| error.kind);
        assert_eq!(kind, Err(DriveErrorKind::NotADrive), "{to}");
    }
}

#[test]
fn a_volume_whose_note_is_damaged_costs_only_itself() {
    let place = tempfile::tempdir().unwrap();
    two_volumes(place.path());
    // The one in the drive: it is not, then.
    fs::write(place.path().join("TAPE-1/medium.json"), b"no json").unwrap();
    let mut drive = on_disk(place.path()).unwrap();
    assert_eq!(drive.medium().unwrap_err().kind, DriveErrorKind::NoMedium);
    assert_eq!(drive.load(Wanted::Named("TAPE-1")).unwrap_err().kind, DriveErrorKind::Media);
    // And it is no blank one.
    drive.load(Wanted::Blank { pool: POOL, except: &[] }).unwrap();
    assert_eq!(volume::read_label(&mut drive).unwrap().media, "TAPE-2");
}

#[test]
fn what_is_no_file_in_a_volume_costs_only_that() {
    let place = tempfile::tempdir().unwrap();
    two_volumes(place.path());
    fs::create_dir(place.path().join("TAPE-1/000001.tar")).unwrap();
    let mut drive = on_disk(place.path()).unwrap();
    assert_eq!(drive.medium().unwrap_err().kind, DriveErrorKind::NoMedium);
    assert_eq!(drive.load(Wanted::Named("TAPE-1")).unwrap_err().kind, DriveErrorKind::Media);
    drive.load(Wanted::Blank { pool: POOL, except: &[] }).unwrap();
    assert_eq!(volume::read_label(&mut drive).unwrap().media, "TAPE-2");
    // It can be used again when it is whole again.
    drop(drive);
    let mut drive = on_disk(place.path()).unwrap();
    fs::remove_dir(place.path().join("TAPE-1/000001.tar")).unwrap();
    drive.load(Wanted::Named("TAPE-1")).unwrap();
    assert_eq!(volume::read_label(&mut drive).unwrap().media, "TAPE-1");
}

#[test]
fn labels_are_kept_within_a_bound() {
    let disk = SimDisk::default();
    let mut drive = open(&disk);
    labelled(&mut drive, &[4000], 1024, 0);
    drive.load(Wanted::Named("TAPE-1")).unwrap();
    for number in 1..=4 {
        let (session, mut archive) = (session_id(number), Vec::new());
        let name = format!(".rewind/{}/session.json", part::short(&session));
        let text = format!("{{\"id\":\"{session}\",\"text\":\"{}\"}}", "t".repeat(100_000));
        assert!(push_member(&mut archive, &name, b'0', text.as_bytes(), 0));
        archive.resize(archive.len() + 2 * UNIT, 0);
        write(&mut drive, &session, &archive).unwrap();
    }
    let kept = |drive: &mut FileDrive, room: usize| {
        let end = drive.end_of_data().unwrap().file;
        let files = inventory::look_at_all(drive, end, room).unwrap();
        let told: Vec<bool> =
            files.iter().map(|file| matches!(file.content, FileContent::First { .. })).collect();
        assert!(files.iter().all(|file| matches!(&file.content, FileContent::First { .. })
            || matches!(&file.content, FileContent::Unreadable { why } if why.contains("memory"))));
        told
    };
    assert_eq!(kept(&mut drive, 1 << 20), [true; 4]);
    // What has no room is named, not left out.
    assert_eq!(kept(&mut drive, 250_000), [true, true, false, false]);
}
