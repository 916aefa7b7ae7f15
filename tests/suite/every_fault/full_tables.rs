//! Tables do their own input and output, so a real file system is filled up under them. It needs root, and says so.

use journal::tables::LsmTables;
use journal::{ErrorKind, Space, Tables};
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use tests::daemon::is_root;

const SIZE: u64 = 48 << 20;
const ROW_BYTES: usize = 64 << 10;

/// A file system of a known size, in memory.
struct Small(PathBuf);

impl Small {
    fn mount(at: PathBuf) -> Option<Small> {
        if !is_root() {
            eprintln!("skipped: mounting a file system needs root");
            return None;
        }
        fs::DirBuilder::new().mode(0o700).create(&at).unwrap();
        let size = format!("size={SIZE},mode=0700");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "none"]).arg(&at).status();
        assert!(mounted.unwrap().success());
        Some(Small(at))
    }

    /// Leaves so much.
    fn fill(&self, left: u64) {
        let stat = rustix::fs::statvfs(&self.0).unwrap();
        let free = stat.f_bavail * stat.f_frsize;
        let file = fs::File::create(self.0.join("filler")).unwrap();
        let mode = rustix::fs::FallocateFlags::empty();
        rustix::fs::fallocate(&file, mode, 0, free - left).unwrap();
    }

    fn empty(&self) {
        fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(&self.0).status();
        assert!(unmounted.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}

/// A batch of two rows, the second of which is the history of the first.
fn batch(number: u32) -> Vec<(Space, Vec<u8>, Option<Vec<u8>>)> {
    // Nothing that could be made smaller.
    let mut value = vec![0; ROW_BYTES];
    blake3::Hasher::new().update(&number.to_be_bytes()).finalize_xof().fill(&mut value);
    let key = number.to_be_bytes().to_vec();
    vec![(Space::Nodes, key.clone(), Some(value.clone())), (Space::NodeUndo, key, Some(value))]
}

/// Which batches are there, each of them whole.
fn found(tables: &dyn Tables, upto: u32, context: &str) -> Vec<u32> {
    let there = |number: &u32| {
        let rows = batch(*number).into_iter();
        let same = rows.map(|(space, key, value)| (tables.get(space, &key).unwrap(), value));
        let same: Vec<bool> =
            same.map(|(found, value)| found.is_some_and(|found| Some(found) == value)).collect();
        assert_eq!(same[0], same[1], "{context}: half of batch {number} is there");
        same[0]
    };
    (0..upto).filter(there).collect()
}

fn open(at: &Path) -> LsmTables {
    LsmTables::open(&at.join("tables")).unwrap()
}

#[test]
fn tables_that_met_a_full_disk_say_that_they_must_be_opened_anew() {
    let place = tempfile::tempdir().unwrap();
    let Some(small) = Small::mount(place.path().join("small")) else { return };
    let tables = open(&small.0);
    tables.commit(batch(0)).unwrap();
    small.fill(1 << 20);
    let (mut done, mut next) = (vec![0], 1);
    let error = loop {
        match tables.commit(batch(next)) {
            Ok(()) => done.push(next),
            Err(error) => break error,
        }
        next += 1;
        assert!(next < 1000, "it is never full");
    };
    // They say at once what they need, not that it will pass.
    assert_eq!(error.kind(), ErrorKind::Poisoned, "{error:?}");
    let refused = next;
    assert_eq!(found(&tables, refused, "while it is full"), done);
    small.empty();
    let error = tables.commit(batch(refused)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Poisoned, "{error:?}");
    assert_eq!(found(&tables, refused, "while they take nothing"), done);
    drop(tables);
    // A prefix of the batches, each of them whole.
    let tables = open(&small.0);
    let after = found(&tables, refused + 1, "opened anew");
    assert_eq!(after, (0..after.len() as u32).collect::<Vec<_>>());
    tables.commit(batch(refused)).unwrap();
}
