//! Paths as text: one to one, and back.

use super::*;
use crate::repository::testing::Random;
use std::collections::HashMap;

#[test]
fn what_is_utf8_stays() {
    for path in ["/", "/srv/M\u{fc}ller", "/srv/100%", "/srv/%FC", "/a\u{fffd}b"] {
        assert_eq!(path_text(path.as_bytes()), path);
        assert_eq!(path_of_text(path), path.as_bytes());
    }
    assert_eq!(path_text(b"/srv/M\xfcller 5%"), "//srv/M%FCller 5%25");
    assert_eq!(path_of_text("//srv/M%FCller 5%25"), b"/srv/M\xfcller 5%");
    // Texts that other programs wrote, which are no escapes of ours.
    for text in ["//host/share", "//srv/%FC/%", "//srv/%fc", "//srv/%+C", "//srv/%F\u{e9}", "relative", ""] {
        assert_eq!(path_of_text(text), text.as_bytes(), "{text}");
    }
}

#[test]
fn no_two_paths_are_one_text() {
    let mut random = Random::from_clock("no_two_paths_are_one_text");
    let parts: [&[u8]; 9] =
        [b"%", b"%25", b"%FC", b"\xfc", b"\xf6", b"/a", b"\xc3", b"\xbc", "\u{fffd}".as_bytes()];
    let mut paths: HashMap<String, Vec<u8>> = HashMap::new();
    for _ in 0..20_000 {
        let mut path = b"/m".to_vec();
        for _ in 0..random.below(5) {
            path.extend_from_slice(parts[random.below(parts.len() as u64) as usize]);
        }
        let text = path_text(&path);
        assert_eq!(path_of_text(&text), path, "{text}");
        let first = paths.entry(text).or_insert_with(|| path.clone());
        assert_eq!(*first, path);
    }
    assert!(paths.len() > 1000);
}
