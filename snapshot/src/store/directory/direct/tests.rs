//! What is in the file is what was written, whichever way it went.

use super::{BLOCK, BYTES_MIN, PIECE, write};
use std::fs::File;
use std::io::Read;
use std::path::Path;

fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 7 + at / 251) as u8).collect()
}

fn round_trip(directory: &Path, length: usize) {
    let path = directory.join("file");
    let wanted = bytes(length);
    write(&mut File::create(&path).unwrap(), &wanted).unwrap();
    let mut found = Vec::new();
    File::open(&path).unwrap().read_to_end(&mut found).unwrap();
    assert!(found == wanted, "{length} bytes are not what was written");
}

#[test]
fn every_length_arrives_whole() {
    let directory = tempfile::tempdir().unwrap();
    let around = |length: usize| [length - 1, length, length + 1];
    let mut lengths = vec![0, 1];
    for length in [BLOCK, BYTES_MIN, PIECE, BYTES_MIN + BLOCK, 3 * PIECE, 3 * PIECE + 5 * BLOCK] {
        lengths.extend(around(length));
    }
    for length in lengths {
        round_trip(directory.path(), length);
    }
}

#[test]
fn a_file_system_without_direct_writes_gets_the_bytes_too() {
    // Memory: depending on the kernel it takes direct writes or refuses them; both have to do.
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    round_trip(directory.path(), 2 * PIECE + 123);
}

#[test]
fn a_full_disk_is_told() {
    let error = write(&mut File::create("/dev/full").unwrap(), &bytes(2 * PIECE)).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::NOSPC.raw_os_error()));
}
