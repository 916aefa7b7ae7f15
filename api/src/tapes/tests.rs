//! Labels, inventory and putting out, on directories used as drives.

use super::*;
use snapshot::repository::{
    BlobWriter, Chunker, Commit, Id, KeyCost, LockOptions, Node, Purpose, Repository, RepositoryOptions,
    SessionRecord, Timestamp, TreeBuilder, WriterOptions, lock,
};
use snapshot::session::NoMonitor;
use snapshot::store::DirectoryStore;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

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

#[test]
fn a_volume_that_is_gone_or_damaged_does_not_hide_the_others() {
    let place = tempfile::tempdir().unwrap();
    let url = format!("tape://{}", place.path().display());
    for media in ["one", "two", "three"] {
        label(&url, &named(media)).unwrap();
    }
    std::fs::write(place.path().join("one/medium.json"), b"no json").unwrap();
    std::fs::write(place.path().join("three/medium.json"), b"").unwrap();
    std::fs::rename(place.path().join("two"), place.path().join("away")).unwrap();
    let fourth = label(&url, &LabelWanted { sequence: 4, ..named("four") }).unwrap();
    let found = all(&url);
    assert!(found[0].content.as_ref().unwrap_err().contains("damaged"), "{found:?}");
    assert!(found[1].content.as_ref().unwrap_err().contains("not there"), "{found:?}");
    assert!(found[2].content.as_ref().unwrap_err().contains("damaged"), "{found:?}");
    assert_eq!(found[3].content.as_ref().unwrap().label, fourth);
    // Who asks for the next number gets the one behind those that can be read.
    assert_eq!(label(&url, &named("five")).unwrap().sequence, 5);
}

/// A session of one file whose only blob is damaged.
fn damaged_session(place: &std::path::Path) -> (Arc<Repository>, Id, SessionRecord) {
    let store = Arc::new(DirectoryStore::create(place).unwrap());
    let options = RepositoryOptions { key_cost: KeyCost { log_n: 4, r: 8, p: 1 }, ..Default::default() };
    let repository = Repository::init(store, &"tape".to_owned().into(), options).unwrap();
    let repository = Arc::new(repository);
    let writer = BlobWriter::new(Arc::clone(&repository), WriterOptions::default()).unwrap();
    let bytes: Vec<u8> =
        (0..300_000_u64).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 50) as u8).collect();
    let content = writer.save_file(&mut Chunker::new(), &mut &bytes[..]).unwrap().content;
    let size = bytes.len() as u64;
    let mut tree = TreeBuilder::new();
    tree.add(&Node { name: b"file".to_vec(), size, links: 1, inode: 1, content, ..Node::default() }).unwrap();
    let tree = writer.save_tree(&mut tree).unwrap().id;
    let record = SessionRecord {
        time: Timestamp { seconds: 1_700_000_000, nanoseconds: 0 },
        parent: None,
        tree,
        paths: vec!["/".into()],
        hostname: "alpha".into(),
        username: "root".into(),
        uid: 0,
        gid: 0,
        excludes: vec![],
        tags: vec![],
        original: None,
        program_version: "rewind".into(),
        summary: None,
    };
    let lock = lock::acquire(&repository, Purpose::Backup, LockOptions::default()).unwrap();
    let Commit::Recorded(id) = writer.commit(&lock, &record).unwrap() else { panic!() };
    // The largest file is the pack of data.
    let mut packs = Vec::new();
    for directory in std::fs::read_dir(place.join("data")).unwrap() {
        packs.extend(std::fs::read_dir(directory.unwrap().path()).unwrap().map(|pack| pack.unwrap().path()));
    }
    let pack = packs.into_iter().max_by_key(|pack| pack.metadata().unwrap().len()).unwrap();
    let mut held = std::fs::read(&pack).unwrap();
    held[1000] ^= 1;
    let mut permissions = pack.metadata().unwrap().permissions();
    permissions.set_mode(0o600);
    std::fs::set_permissions(&pack, permissions).unwrap();
    std::fs::write(&pack, held).unwrap();
    (repository, id, record)
}

#[test]
fn a_copy_that_lacks_something_says_so_each_time() {
    let place = tempfile::tempdir().unwrap();
    let url = format!("tape://{}", place.path().join("drive").display());
    label(&url, &named("one")).unwrap();
    let (repository, id, record) = damaged_session(&place.path().join("repository"));
    let session = (&*repository, &id, &record);
    let copy = || copy(session, (&url, None), place.path(), &NoMonitor).unwrap();
    let (first, second) = (copy(), copy());
    assert_eq!((first.was_there, first.missed, first.listed.len()), (false, 1, 1));
    assert_eq!((second.was_there, second.missed), (true, 1));
    assert_eq!((second.session, second.parts), (first.session, first.parts));
}
