//! Which paths a glob finds.

use super::*;

#[test]
fn matching() {
    let check = |glob: &str, relative: &[u8], expected: bool| {
        let globs = PathGlobs::new([glob]).unwrap();
        assert_eq!(globs.matches(Path::new("/srv/docs"), relative), expected, "{glob} {relative:?}");
    };
    check("*.tmp", b"a.tmp", true);
    check("*.tmp", b"deep/er/a.tmp", true);
    check("*.tmp", b"a.tmp.txt", false);
    check("/srv/docs/a", b"a", true);
    check("/srv/docs/a", b"b/a", false);
    check("/srv/docs/**", b"b/a", true);
    check("a", b"a", true);
    check("/a", b"a", false);
    check("*/caf??", b"x/caf\xc3\xa9", true);
    check("x*", b"x\xff\xfe", true);
    check("/srv/docs", b"", true);
}

#[test]
fn bad_globs() {
    assert_eq!(PathGlobs::new(["a[", "b"]).unwrap_err().code().id, "RW1014");
}
