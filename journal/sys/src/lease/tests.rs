//! What the kernel says of real files.

use super::is_open_elsewhere;
use std::fs::File;
use std::os::fd::AsFd;

#[test]
fn an_open_file_is_told_from_one_that_is_not() {
    let path = std::env::temp_dir().join(format!("rewind-lease-{}", std::process::id()));
    std::fs::write(&path, "x").unwrap();
    let mine = File::open(&path).unwrap();
    assert!(!is_open_elsewhere(mine.as_fd()));
    let other = File::options().append(true).open(&path).unwrap();
    let open = is_open_elsewhere(mine.as_fd());
    drop(other);
    assert!(!is_open_elsewhere(mine.as_fd()), "it is closed again");
    // The lease was given back: nobody waits for it.
    drop(File::options().write(true).open(&path).unwrap());
    std::fs::remove_file(&path).unwrap();
    assert!(open, "no leases on this file system");
}
