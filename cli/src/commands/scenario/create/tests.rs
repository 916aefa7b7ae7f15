//! How roots and hooks are written.

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

#[test]
fn hooks_by_name() {
    assert_eq!(parse_hook("thaw=a b=c"), Ok((Hook::Thaw, "a b=c".to_owned())));
    for bad in ["quiesce", "quiesce=", "freeze=x", "=x", "Thaw=x"] {
        assert!(parse_hook(bad).is_err(), "{bad}");
    }
    let given =
        ["quiesce=a", "thaw=b", "quiesce=c", "start=d", "stop=e"].map(|text| parse_hook(text).unwrap());
    let made = hooks(given.into(), Duration::from_secs(5));
    assert_eq!([made.quiesce, made.thaw, made.stop, made.start], ["c", "b", "e", "d"]);
    assert_eq!(made.timeout, Some(duration_to_wire(Duration::from_secs(5))));
}
