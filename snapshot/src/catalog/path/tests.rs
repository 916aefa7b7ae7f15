//! Tests of the order of paths and of intervals in it, against what they are said to mean.

use super::*;

/// All paths of up to three bytes below the root over bytes around the slash, and a few longer ones.
fn all() -> Vec<Vec<u8>> {
    let letters = b"/\x01.0\xff";
    let mut paths: Vec<Vec<u8>> = vec![b"/".to_vec()];
    let mut ends: Vec<Vec<u8>> = vec![Vec::new()];
    for _ in 0..4 {
        ends = ends
            .iter()
            .flat_map(|end| letters.iter().map(|letter| [end.as_slice(), &[*letter]].concat()))
            .collect();
        paths.extend(
            ends.iter().map(|end| [b"/", end.as_slice()].concat()).filter(|path| check(path).is_ok()),
        );
    }
    paths
}

fn inside(span: &Span, path: &[u8]) -> bool {
    split(path) >= span.low.as_key() && span.is_before_end(split(path))
}

#[test]
fn a_walk_that_descends_in_the_order_of_names_is_in_order() {
    fn walk(directory: &[u8], paths: &[Vec<u8>], out: &mut Vec<Vec<u8>>) {
        let below = |path: &&Vec<u8>| split(path).dir == directory && path.as_slice() != b"/";
        let mut own: Vec<&Vec<u8>> = paths.iter().filter(below).collect();
        own.sort_by(|a, b| split(a).name.cmp(split(b).name));
        out.extend(own.iter().map(|path| (*path).clone()));
        own.into_iter().for_each(|path| walk(path, paths, out));
    }
    // Only what has all its directories can be walked.
    let all = all();
    let mut walked = vec![b"/".to_vec()];
    walk(b"", &all, &mut walked);
    assert!(walked.len() > 200, "{}", walked.len());
    assert!(walked.is_sorted_by(|a, b| path_order(a, b).is_lt()));
}

#[test]
fn the_order_is_one() {
    let mut paths = all();
    paths.sort_by(|a, b| path_order(a, b));
    for (i, a) in paths.iter().enumerate() {
        for (j, b) in paths.iter().enumerate() {
            assert_eq!(path_order(a, b), i.cmp(&j), "{a:?} {b:?}");
        }
    }
}

#[test]
fn long_directories_compare_like_short_ones() {
    let head = "/a-directory-that-is-longer-than-a-word".repeat(3);
    for (a, b) in [("/x", "/y"), ("/x", "-x"), ("", "/x"), ("\u{1}", "/x"), ("/12345678/9", "/12345678-9")] {
        let (long_a, long_b) = (format!("{head}{a}"), format!("{head}{b}"));
        let short = compare_dirs(a.as_bytes(), b.as_bytes());
        assert_eq!(compare_dirs(long_a.as_bytes(), long_b.as_bytes()), short);
        assert_eq!(compare_dirs(long_b.as_bytes(), long_a.as_bytes()), short.reverse());
    }
    assert_eq!(compare_dirs(b"/a", b"/a/b"), Ordering::Less);
    assert_eq!(compare_dirs(b"/a/b", b"/a\x01"), Ordering::Less);
}

#[test]
fn intervals_hold_what_they_are_for_and_nothing_else() {
    let paths = all();
    for prefix in &paths {
        for end in [&b""[..], b"/"] {
            let prefix = if prefix == b"/" { b"/".to_vec() } else { [prefix.as_slice(), end].concat() };
            let spans = Span::prefix(&prefix);
            for path in &paths {
                let times = spans.iter().filter(|span| inside(span, path)).count();
                assert_eq!(times, usize::from(path.starts_with(&prefix)), "{prefix:?} {path:?}");
            }
        }
    }
    for one in &paths {
        let exact = Span::exact(one);
        let dir = if one == b"/" { b"" } else { one.as_slice() };
        let children = Span::children(dir);
        for path in &paths {
            assert_eq!(inside(&exact, path), path == one);
            assert_eq!(inside(&children, path), split(path).dir == dir, "{one:?} {path:?}");
        }
    }
}

#[test]
fn intervals_are_cut_and_joined() {
    let paths = all();
    let picked: Vec<&Vec<u8>> = paths.iter().step_by(37).collect();
    for a in &picked {
        for b in &picked {
            let (a, b) = (Span::children(a), Span::prefix(b).remove(0));
            let (both, hull) = (a.and(&b), a.hull(&b));
            let mut any = false;
            for path in &paths {
                let (in_a, in_b) = (inside(&a, path), inside(&b, path));
                assert_eq!(inside(&both, path), in_a && in_b);
                assert!(inside(&hull, path) || !(in_a || in_b));
                any |= in_a && in_b;
            }
            assert!(!(any && both.is_empty()));
        }
    }
}

#[test]
fn what_cannot_be_an_entry_is_refused() {
    for bad in ["", "a", "a/b", "/a/", "//", "//a", "/a//b", "/a\0", "\0"] {
        assert!(check(bad.as_bytes()).is_err(), "{bad:?}");
    }
    for good in ["/", "/a", "/a/b", "/a b/\n", "/.", "/a/..", "/-"] {
        assert!(check(good.as_bytes()).is_ok(), "{good:?}");
    }
    let longest = format!("/{}", "a".repeat(PATH_BYTES_MAX - 1));
    assert!(check(longest.as_bytes()).is_ok());
    let error = check(format!("{longest}a").as_bytes()).unwrap_err().to_string();
    assert!(error.len() < 400, "{error}");
    let mut out = Vec::new();
    split(longest.as_bytes()).write_to(&mut out);
    assert_eq!(out, longest.as_bytes());
}
