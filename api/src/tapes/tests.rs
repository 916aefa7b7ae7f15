//! Labels, inventory and putting out, on directories used as drives.

use super::*;

fn named(media: &str) -> LabelWanted {
    LabelWanted { media: media.to_owned(), ..LabelWanted::default() }
}

fn all(url: &str) -> Vec<Volume> {
    let mut all = Vec::new();
    volumes(url, &mut |volume| {
        all.push(volume);
        ControlFlow::Continue(())
    })
    .unwrap();
    all
}

/// Writes a tape file behind the label of what is in the drive.
fn write_something(url: &str) {
    let mut any = open(url).unwrap();
    let drive = any.drive();
    let label = volume::read_label(drive).unwrap();
    volume::append(drive).unwrap();
    drive.write(&vec![7; label.block_bytes]).unwrap();
    drive.filemark().unwrap();
}

#[test]
fn volumes_are_labelled_listed_and_put_out() {
    let place = tempfile::tempdir().unwrap();
    let url = format!("tape://{}", place.path().join("drive").display());
    // Nothing is made of a directory that was mistyped.
    assert_eq!(volumes(&url, &mut |_| ControlFlow::Continue(())).unwrap_err().code().id, "RW1124");
    assert_eq!(eject(&url).unwrap_err().code().id, "RW1124");
    assert!(!place.path().join("drive").exists());
    let first = label(&url, &named("one")).unwrap();
    let wanted = LabelWanted { pool: "weekly".to_owned(), capacity: 64 << 20, ..named("two") };
    let second = label(&url, &wanted).unwrap();
    let third = label(&url, &named("three")).unwrap();
    let told = |label: &VolumeLabel| (label.media.clone(), label.pool.clone(), label.sequence);
    assert_eq!(told(&first), ("one".to_owned(), "default".to_owned(), 1));
    assert_eq!(told(&second), ("two".to_owned(), "weekly".to_owned(), 1));
    assert_eq!(told(&third), ("three".to_owned(), "default".to_owned(), 2));
    let found = all(&url);
    let labels: Vec<_> = found.iter().map(|volume| volume.content.clone().unwrap().label).collect();
    assert_eq!(labels, [first, second, third]);
    // What was in the drive is in it again.
    let loaded: Vec<&str> =
        found.iter().filter(|volume| volume.loaded).map(|volume| volume.name.as_str()).collect();
    assert_eq!(loaded, ["three"]);
    assert!(found[1].content.as_ref().unwrap().free.unwrap() < 64 << 20);
    assert_eq!(eject(&url).unwrap().as_deref(), Some("three"));
    assert_eq!(eject(&url).unwrap(), None);
    assert!(all(&url).iter().all(|volume| !volume.loaded));
}

#[test]
fn what_holds_data_is_not_written_over() {
    let place = tempfile::tempdir().unwrap();
    let url = format!("tape://{}", place.path().display());
    let before = label(&url, &named("one")).unwrap();
    // A label and nothing else is no data; the volume keeps its number.
    let again = label(&url, &named("one")).unwrap();
    assert_ne!(before.id, again.id);
    assert_eq!(before.sequence, again.sequence);
    write_something(&url);
    let refused = label(&url, &named("one")).unwrap_err();
    assert_eq!(refused.code().id, "RW1125", "{refused}");
    let held = all(&url).remove(0).content.unwrap();
    assert_eq!((held.label.id.as_str(), held.files.len()), (again.id.as_str(), 1));
    let forced = label(&url, &LabelWanted { force: true, ..named("one") }).unwrap();
    let empty = all(&url).remove(0).content.unwrap();
    assert_eq!((empty.label.id.as_str(), empty.files.len()), (forced.id.as_str(), 0));
}

#[test]
fn what_has_no_label_is_told_of() {
    let place = tempfile::tempdir().unwrap();
    let url = format!("tape://{}", place.path().display());
    label(&url, &named("one")).unwrap();
    std::fs::write(place.path().join("one/000000.tar"), vec![1; 4096]).unwrap();
    let found = all(&url).remove(0);
    assert!(found.content.unwrap_err().contains("label"));
    assert_eq!(label(&url, &named("one")).unwrap_err().code().id, "RW1125");
}

#[test]
fn bad_requests_have_codes() {
    let place = tempfile::tempdir().unwrap();
    let url = format!("tape://{}", place.path().display());
    let code = |url: &str, wanted: &LabelWanted| label(url, wanted).unwrap_err().code().id;
    assert_eq!(code(&url, &named("../out")), "RW0468");
    assert_eq!(code(&url, &LabelWanted { block_bytes: 1000, ..named("one") }), "RW0468");
    assert_eq!(code(&url, &LabelWanted { pool: "a/b".to_owned(), ..named("two") }), "RW0468");
    for url in ["/dev/nst0", "tape://", "tape:///", "tape://host/x", "tape:///a/../b", "file:///x"] {
        assert_eq!(code(url, &named("one")), "RW1052", "{url}");
    }
    // No drive, and a file that is none.
    assert_eq!(code("tape:///dev/no-such-tape", &named("one")), "RW1124");
    assert_eq!(code("tape:///dev/null", &named("one")), "RW1124");
    std::fs::write(place.path().join("file"), b"").unwrap();
    assert_eq!(code(&format!("{url}/file"), &named("one")), "RW1124");
    // Somebody has it.
    let _held = open(&url).unwrap();
    assert_eq!(code(&url, &named("three")), "RW1131");
}
