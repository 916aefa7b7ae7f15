//! Handles follow the inode, not the name.

use super::*;
use std::ffi::CString;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

#[test]
fn handle_follows_the_inode() {
    let directory = std::env::temp_dir().join(format!("rewind-sys-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let open = std::fs::File::open(&directory).unwrap();
    let name = |text: &str| CString::new(std::ffi::OsStr::new(text).as_bytes()).unwrap();
    std::fs::write(directory.join("a"), b"1").unwrap();
    let handle = match file_handle(open.as_fd(), &name("a")) {
        Ok(handle) => handle,
        Err(e) => {
            eprintln!("skipped: the temporary directory has no file handles: {e}");
            return;
        }
    };
    std::fs::rename(directory.join("a"), directory.join("b")).unwrap();
    assert!(handle == file_handle(open.as_fd(), &name("b")).unwrap());
    std::fs::remove_file(directory.join("b")).unwrap();
    std::fs::write(directory.join("a"), b"2").unwrap();
    assert!(handle != file_handle(open.as_fd(), &name("a")).unwrap(), "a new inode has a new handle");
    assert!(!file_handle(open.as_fd(), &name("")).unwrap().bytes().is_empty());
    assert_eq!(file_handle(open.as_fd(), &name("none")).err().unwrap().kind(), io::ErrorKind::NotFound);
    std::fs::remove_dir_all(&directory).unwrap();
}
