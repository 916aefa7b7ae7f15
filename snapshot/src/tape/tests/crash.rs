//! The machine stops at every call to the disk under a drive of files, and what was not synced is there, gone or torn.

use super::faults::{check_after, prepared, small_run};
use super::*;
use crate::catalog::tests::disk::{Cut, Fault};

#[test]
fn a_power_cut_at_any_call_of_the_disk_loses_nothing() {
    let mut rng = Rng::new(seed());
    let archives = [1, 2, 3].map(|number| archive(&session_id(number), 4, 3000, &mut rng));
    let start = {
        let (disk, drive) = prepared();
        drop(drive);
        disk.calls()
    };
    let mut tried = 0;
    for call in start + 1.. {
        let (disk, mut drive) = prepared();
        disk.set_fault(Fault::From(call));
        let (kept, is_whole) = small_run(&mut drive, &archives);
        drop(drive);
        for cut in Cut::ALL {
            check_after(&disk.cut(cut, &mut rng), &kept, &archives, &format!("{cut:?} at call {call}"));
        }
        tried += 1;
        if is_whole {
            break;
        }
    }
    assert!(tried > 40, "only {tried} calls were cut");
}

#[test]
fn a_failing_call_of_the_disk_loses_nothing() {
    let mut rng = Rng::new(seed());
    let archives = [1, 2, 3].map(|number| archive(&session_id(number), 4, 3000, &mut rng));
    let start = {
        let (disk, drive) = prepared();
        drop(drive);
        disk.calls()
    };
    for call in (start + 1..).flat_map(|call| [call; 4]) {
        let (disk, mut drive) = prepared();
        disk.set_fault(Fault::Only(call));
        let (mut kept, is_whole) = small_run(&mut drive, &archives);
        if is_whole {
            break;
        }
        // The same process, or the next, goes on: what it acknowledges then must not stand on what was never durable.
        let how = rng.below(3);
        let mut drive = match how {
            0 => drive,
            1 => {
                let loaded = drive.medium().ok().and_then(|medium| medium.name);
                drive.load(Wanted::Named(loaded.as_deref().unwrap_or("TAPE-1"))).unwrap();
                drive
            }
            _ => {
                drop(drive);
                open(&disk)
            }
        };
        let session = session_id(8);
        let last = archive(&session, 3, 500, &mut rng);
        if super::write(&mut drive, &session, &last).is_ok() {
            kept.push((session, last.clone()));
        }
        drop(drive);
        let mut all = archives.to_vec();
        all.extend([Vec::new(), Vec::new(), Vec::new(), Vec::new(), last]);
        for cut in Cut::ALL {
            check_after(
                &disk.cut(cut, &mut rng),
                &kept,
                &all,
                &format!("{cut:?} after a failure at call {call}, {how}"),
            );
        }
    }
}

#[test]
fn labelling_happens_or_does_not() {
    let mut rng = Rng::new(seed());
    let setup = || {
        let disk = SimDisk::default();
        let mut drive = open(&disk);
        labelled(&mut drive, &[60], 1024, 0);
        write(&mut drive, &session_id(1), &archive(&session_id(1), 3, 900, &mut Rng::new(4))).unwrap();
        (disk, drive)
    };
    let start = setup().0.calls();
    for call in start + 1.. {
        let (disk, mut drive) = setup();
        disk.set_fault(Fault::From(call));
        let result = volume::label(&mut drive, request("TAPE-9", 9, 2048), Overwrite::Force);
        drop(drive);
        for cut in Cut::ALL {
            let mut drive = open(&disk.cut(cut, &mut rng));
            let what = format!("{cut:?} at call {call}");
            match volume::identify(&mut drive).unwrap() {
                Content::Blank => assert!(result.is_err(), "{what}"),
                Content::Volume(label) if label.media == "TAPE-9" => {
                    assert!(inventory(&mut drive).unwrap().files.is_empty(), "{what}");
                }
                Content::Volume(label) => assert!(result.is_err() && label.media == "TAPE-1", "{what}"),
                Content::Foreign(fault) => panic!("{what}: {fault}"),
            }
            // It can be labelled by force at least.
            volume::label(&mut drive, request("TAPE-1", 1, 1024), Overwrite::Force).unwrap();
        }
        if result.is_ok() {
            break;
        }
    }
}

#[test]
fn a_power_cut_while_a_drive_is_opened_loses_nothing() {
    let mut rng = Rng::new(seed());
    let archives = [archive(&session_id(1), 4, 3000, &mut rng)];
    let setup = || {
        let (disk, mut drive) = prepared();
        let (kept, _) = small_run(&mut drive, &archives);
        assert_eq!(kept.len(), 1);
        drop(drive);
        (disk, kept)
    };
    let start = setup().0.calls();
    for call in start + 1.. {
        let (disk, kept) = setup();
        disk.set_fault(Fault::From(call));
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let is_open = FileDrive::open(shared, Path::new(DIRECTORY)).is_ok();
        for cut in Cut::ALL {
            check_after(&disk.cut(cut, &mut rng), &kept, &archives, &format!("{cut:?} at call {call}"));
        }
        if is_open {
            break;
        }
    }
}

/// The system's disk, and which directories were synced.
#[derive(Default)]
struct Synced(parking_lot::Mutex<Vec<std::path::PathBuf>>);

impl Disk for Synced {
    fn create(&self, path: &Path) -> std::io::Result<Arc<dyn journal::DiskFile>> {
        journal::disk::OsDisk.create(path)
    }

    fn open(&self, path: &Path) -> std::io::Result<Arc<dyn journal::DiskFile>> {
        journal::disk::OsDisk.open(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> std::io::Result<()> {
        journal::disk::OsDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> std::io::Result<()> {
        journal::disk::OsDisk.remove(path)
    }

    fn list(&self, directory: &Path) -> std::io::Result<Vec<String>> {
        journal::disk::OsDisk.list(directory)
    }

    fn create_dir_all(&self, path: &Path) -> std::io::Result<()> {
        journal::disk::OsDisk.create_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> std::io::Result<()> {
        self.0.lock().push(path.to_owned());
        journal::disk::OsDisk.sync_dir(path)
    }

    fn free_bytes(&self, path: &Path) -> std::io::Result<u64> {
        journal::disk::OsDisk.free_bytes(path)
    }

    fn lock(&self, path: &Path) -> std::io::Result<Box<dyn Send + Sync>> {
        journal::disk::OsDisk.lock(path)
    }
}

#[test]
fn a_directory_that_becomes_a_drive_is_there_for_good() {
    let place = tempfile::tempdir().unwrap();
    let disk = Arc::new(Synced::default());
    let directory = place.path().join("a/b/drive");
    drop(open_on(&(Arc::clone(&disk) as Arc<dyn Disk>), &directory).unwrap());
    let synced = std::mem::take(&mut *disk.0.lock());
    // Each directory that was made has its name in the one above.
    for above in ["", "a", "a/b", "a/b/drive"] {
        assert!(synced.contains(&place.path().join(above)), "{above:?}: {synced:?}");
    }
    drop(open_on(&(Arc::clone(&disk) as Arc<dyn Disk>), &directory).unwrap());
    assert_eq!(*disk.0.lock(), [] as [std::path::PathBuf; 0], "it is there already");
}
