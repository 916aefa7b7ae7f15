//! Asking for it changes nothing that is read, whatever the range.

use super::begin_write_back;
use std::fs::File;
use std::os::unix::fs::FileExt;

#[test]
fn it_changes_nothing_that_is_read() {
    let path = std::env::temp_dir().join(format!("rewind-write-back-{}", std::process::id()));
    let file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let bytes: Vec<u8> = (0..10_000_u32).map(|n| n as u8).collect();
    file.write_all_at(&bytes, 0).unwrap();
    for (offset, count) in [(0, 10_000), (5000, 3), (0, 0), (9_999, u64::MAX), (u64::MAX, u64::MAX)] {
        begin_write_back(&file, offset, count);
    }
    let mut read = vec![0; 10_000];
    file.read_exact_at(&mut read, 0).unwrap();
    assert_eq!(read, bytes);
}
