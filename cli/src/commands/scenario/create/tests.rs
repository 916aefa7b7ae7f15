//! How roots are written.

use super::*;

#[test]
fn roots() {
    let check = |text: &[u8], master: &[u8], replica: &[u8]| {
        let root = parse_root(OsStr::from_bytes(text)).unwrap();
        assert_eq!((&root.master_path[..], &root.replica_path[..]), (master, replica));
    };
    check(b"/a", b"/a", b"");
    check(b"/a=/b", b"/a", b"/b");
    check(b"/a=/b=c", b"/a", b"/b=c");
    check(b"/\xff=/b", b"/\xff", b"/b");
    assert!(parse_root(OsStr::new("=/b")).is_err());
    let here = parse_root(OsStr::new("x")).unwrap();
    assert!(here.master_path.starts_with(b"/") && here.master_path.ends_with(b"/x"));
}
