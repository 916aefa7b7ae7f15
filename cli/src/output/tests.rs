//! How tables, times and counts look.

use super::*;

#[test]
fn tables() {
    set_colors(false);
    let mut table = Table::new(&[("NAME", Align::Left), ("BYTES", Align::Right), ("NOTE", Align::Left)]);
    assert_eq!(table.render(), "");
    table.row(vec!["a".into(), "12345678".into(), String::new()]);
    table.row(vec!["\u{e4}\u{e4}\u{e4}\u{e4}\u{e4}\u{e4}".into(), "1".into(), "x".into()]);
    assert_eq!(
        table.render(),
        "NAME       BYTES  NOTE\na       12345678\n\u{e4}\u{e4}\u{e4}\u{e4}\u{e4}\u{e4}         1  x"
    );
}

#[test]
fn texts() {
    assert_eq!(
        [count(0, "file"), count(1, "directory"), count(2, "directory")],
        ["0 files", "1 directory", "2 directories"]
    );
    assert_eq!(path_text(b"/a\x1b[31m\xff"), "/a\u{fffd}[31m\u{fffd}");
    assert_eq!(lsn_text(Some(&v1::Lsn { captured: 17, local: 4 })), "17.4");
    assert_eq!(lsn_text(None), "-");
}

#[test]
fn times() {
    let time = prost_types::Timestamp { seconds: 1, nanos: 5 };
    assert_eq!(utc_time(Some(&time)).as_deref(), Some("1970-01-01T00:00:01.000000005Z"));
    assert_eq!(local_time(None), "-");
}
