//! Tests of what a pattern fixes, and that looking for that first leaves out nothing.

use super::super::block::NamesBuilder;
use super::super::path::{path_order, split};
use super::super::tests::{Rng, seed};
use super::*;

fn fixed(expression: &str) -> (String, Option<String>) {
    let fixed = Fixed::of(expression, true);
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (text(fixed.prefix), fixed.texts.into_iter().max_by_key(Vec::len).map(text))
}

fn check_fixed(expression: &str, prefix: &str, literal: Option<&str>) {
    assert_eq!(fixed(expression), (prefix.to_owned(), literal.map(str::to_owned)), "{expression}");
}

#[test]
fn what_every_match_has() {
    check_fixed("abc", "", Some("abc"));
    check_fixed("^/a/b", "/a/b", None);
    check_fixed("^/a.*longer.*x", "/a", Some("longer"));
    check_fixed("(?m)^/a", "", Some("/a"));
    check_fixed("(?i)abc", "", None);
    check_fixed("a|b", "", None);
    check_fixed("^(/a|/b)c", "", Some("c"));
    check_fixed("x^/a", "", Some("x/a"));
    check_fixed("(abc)?d", "", Some("d"));
    check_fixed("(abc)*d", "", Some("d"));
    check_fixed("(abc){2}d", "", Some("abc"));
    check_fixed("(abc){0}d", "", Some("d"));
    check_fixed(r"ab\b-c$", "", Some("ab-c"));
    check_fixed(r"^/a\x00b.*cc", "/a", Some("cc"));
    check_fixed(r"a\x00b", "", None);
    check_fixed("", "", None);
    check_fixed("^", "", None);
    check_fixed("(", "", None);
}

#[test]
fn globs_have_what_their_letters_say() {
    let of = |text: &str| {
        let mut compiled = Compiled::new(&Pattern::All).unwrap();
        compiled.glob(text).unwrap();
        let literal = compiled.literal.map(|finder| String::from_utf8_lossy(finder.needle()).into_owned());
        (String::from_utf8(compiled.relative_prefix).unwrap(), literal)
    };
    let line = |prefix: &str, literal: Option<&str>| (prefix.to_owned(), literal.map(str::to_owned));
    assert_eq!(of("docs/*.docx"), line("docs/", Some(".docx")));
    assert_eq!(of("*.docx"), line("", Some(".docx")));
    assert_eq!(of("**/budget-*"), line("", Some("budget-")));
    assert_eq!(of("{a,b}c"), line("", Some("c")));
    assert_eq!(of("[ab]"), line("", None));
    assert_eq!(of("/srv/**/budget-*"), line("", Some("budget-")));
    assert_eq!(of("a"), line("a", None));
}

/// Paths in order, as a block.
fn block(paths: &mut Vec<Vec<u8>>) -> Names {
    paths.sort_by(|a, b| path_order(a, b));
    paths.dedup();
    let mut builder = NamesBuilder::default();
    paths.iter().for_each(|path| builder.push(split(path)));
    let mut bytes = Vec::new();
    builder.finish(&mut bytes);
    Names::decode(bytes).unwrap()
}

fn random_text(rng: &mut Rng, letters: &[&[u8]], most: usize) -> Vec<u8> {
    (0..rng.below(most)).flat_map(|_| rng.pick(letters).to_vec()).collect()
}

#[test]
fn what_is_looked_for_first_leaves_out_nothing() {
    let seed = seed();
    let mut rng = Rng::new(seed);
    let letters: [&[u8]; 6] = [b"/", b"a", b"b", b"ab", b"\xff", b"-"];
    let parts =
        ["a", "b", "/", "ab", ".", "a*", "b+", "(a|b)", "(ab)?", "[a-]", "^", "$", "(?:b/){1,2}", r"\xff"];
    let globs = ["a", "b", "/", "*", "?", "**", "/**/", "[ab]", "{a,b}", "{ab,}", "[!a]", "-"];
    for round in 0..800 {
        let mut paths: Vec<Vec<u8>> = (0..20)
            .map(|_| [b"/", random_text(&mut rng, &letters, 8).as_slice()].concat())
            .filter(|path| check(path).is_ok())
            .collect();
        paths.push(b"/".to_vec());
        let names = block(&mut paths);
        let root = rng.pick(&[&b"/"[..], b"/a", b"/a/b"]);
        let text: String = (0..1 + rng.below(5)).map(|_| rng.pick(&parts)).collect();
        let glob: String = (0..1 + rng.below(5)).map(|_| rng.pick(&globs)).collect();
        let substring = random_text(&mut rng, &letters, 4);
        for pattern in [Pattern::Regex(text), Pattern::Glob(glob), Pattern::Substring(substring)] {
            let Ok(compiled) = Compiled::new(&pattern) else { continue };
            let matcher = compiled.for_root(root);
            let mut found = Vec::new();
            matcher.select(&names, 0..names.rows(), &mut found);
            let in_spans = |path: &[u8]| {
                let inside =
                    |span: &Span| split(path) >= span.low.as_key() && span.is_before_end(split(path));
                matcher.spans.iter().any(inside)
            };
            for (row, path) in paths.iter().enumerate() {
                let expected = plainly(&pattern, path, root);
                let shown = String::from_utf8_lossy(path);
                let got = found.contains(&(row as u32));
                assert_eq!(got, expected, "seed {seed} round {round}: {pattern:?} {shown:?} of {root:?}");
                assert!(in_spans(path) || !expected, "seed {seed} round {round}: {pattern:?} {shown:?}");
            }
        }
    }
}

fn plainly(pattern: &Pattern, path: &[u8], root: &[u8]) -> bool {
    match pattern {
        Pattern::Regex(text) => {
            let mut builder = regex::bytes::RegexBuilder::new(text);
            builder.unicode(false).dot_matches_new_line(true).build().unwrap().is_match(path)
        }
        Pattern::Glob(text) => {
            use std::os::unix::ffi::OsStrExt;
            let below = match root {
                b"/" => path.get(1..),
                _ if path == root => Some(&b""[..]),
                _ => path.strip_prefix(root).and_then(|rest| rest.strip_prefix(b"/")),
            };
            let glob = globset::Glob::new(text).unwrap().compile_matcher();
            let of = if text.starts_with('/') { Some(path) } else { below };
            of.is_some_and(|path| glob.is_match(std::ffi::OsStr::from_bytes(path)))
        }
        Pattern::Substring(bytes) => {
            bytes.is_empty() || path.windows(bytes.len()).any(|window| window == bytes)
        }
        _ => unreachable!("not tested here"),
    }
}

/// Blocks are passed over that lack any of the fixed texts, not only the longest.
#[test]
fn all_fixed_texts_count() {
    let runs = |pattern: Pattern| Compiled::new(&pattern).unwrap().runs;
    let both = Runs::of(&[b"budget-", b"-qzxv"]);
    assert_eq!(runs(Pattern::Regex("budget-[0-9]+-qzxv$".to_owned())), both);
    assert_eq!(runs(Pattern::Glob("*budget-*-qzxv".to_owned())), both);
    assert_eq!(runs(Pattern::Substring(b"qzxv".to_vec())), Runs::of(&[b"qzxv"]));
    // What is only one of several ways is in nobody's way.
    assert!(runs(Pattern::Regex("(budget|plan)".to_owned())).is_empty());
    assert!(runs(Pattern::Glob("*{budget,plan}".to_owned())).is_empty());
}
