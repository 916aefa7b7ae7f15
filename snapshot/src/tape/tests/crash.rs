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
