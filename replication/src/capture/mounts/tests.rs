//! Paths of the table of mounts.

use super::*;

#[test]
fn escapes() {
    assert_eq!(unescape(br"/a\040b\134c"), b"/a b\\c");
    assert_eq!(unescape(br"/trailing\04"), br"/trailing\04");
    assert_eq!(unescape(b""), b"");
}

#[test]
fn only_what_lies_below_a_root() {
    let root = Path::new("/srv/data");
    assert_eq!(below(root, b"/srv/data/m/n"), Some(&b"m/n"[..]));
    for other in [&b"/srv/data"[..], b"/srv/database", b"/srv", b"/srv/data/"] {
        assert_eq!(below(root, other), None);
    }
}
