//! Does a file of holes cost what is in it, not what it spans? A terabyte of nothing is cut, written into and rewound.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use tests::daemon::World;

const SPAN: u64 = 1 << 40;
const FAR: u64 = 700 << 30;

fn bytes_at(path: &Path, offset: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0xff; length];
    File::open(path).unwrap().read_exact_at(&mut bytes, offset).unwrap();
    bytes
}

#[test]
fn a_terabyte_of_holes_is_cut_and_comes_back() {
    let world = World::new();
    let (master, replica) = (world.master().join("sparse"), world.replica().join("sparse"));
    let file = File::create(&master).unwrap();
    file.write_all_at(b"begin", 0).unwrap();
    file.write_all_at(b"end", SPAN - 3).unwrap();
    world.protect();
    world.ok("bookmark set docs whole");
    file.set_len(5).unwrap();
    world.flush();
    file.write_all_at(b"in the middle of what was a hole", FAR).unwrap();
    let flushed = world.flush();
    assert_eq!(fs::metadata(&replica).unwrap().size(), FAR + 32);
    let point = world.list("points docs --path sparse --limit 1");
    assert!(point[0]["bytes"].as_u64().unwrap() < 10 << 20, "{point:?}");
    world.ok("rewind docs --to whole --yes");
    assert_eq!(fs::metadata(&replica).unwrap().size(), SPAN);
    assert_eq!(bytes_at(&replica, 0, 8), b"begin\0\0\0");
    assert_eq!(bytes_at(&replica, FAR, 32), [0; 32]);
    assert_eq!(bytes_at(&replica, SPAN - 6, 6), b"\0\0\0end");
    assert!(fs::metadata(&replica).unwrap().blocks() * 512 < 64 << 20, "the holes were filled");
    world.ok(&format!("rewind docs --to lsn:{flushed} --yes"));
    assert_eq!(fs::metadata(&replica).unwrap().size(), FAR + 32);
    assert_eq!(bytes_at(&replica, FAR, 13), b"in the middle");
    world.ok("scenario resume docs");
    world.flush();
    assert_eq!(bytes_at(&replica, FAR, 13), b"in the middle");
}
