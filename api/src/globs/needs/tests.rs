//! A glob asks for nothing that a matching path lacks: random globs and paths, and some of each by hand.

use super::*;
use crate::globs::PathGlobs;
use journal::state::summary::tokens_of;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

struct Random(u64);

impl Random {
    fn below(&mut self, count: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % count
    }

    fn of<'t>(&mut self, all: &[&'t str]) -> &'t str {
        all[self.below(all.len())]
    }
}

/// Whether the needs of this glob let this path through.
fn lets(globs: &PathGlobs, root: &str, path: &[u8]) -> bool {
    let tokens = tokens_of(path).unwrap();
    globs.needs(&[Path::new(root)]).iter().any(|all| all.iter().all(|token| tokens.contains(token)))
}

const ROOTS: [&str; 5] = ["/", "/a", "/a/b.x", "/srv/docs", "/b/a"];
const NAMES: [&str; 9] = ["a", "b", "b.x", "ab", "a.b.x", "srv", "docs", ".x", "xa"];

#[test]
fn random_globs_let_through_what_they_match() {
    let seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64;
    println!("seed {seed}");
    let mut random = Random(seed | 1);
    let pieces = [
        "a",
        "b",
        ".x",
        "b.x",
        "/",
        "/",
        "/",
        "*",
        "**",
        "/**/",
        "**/",
        "/**",
        "?",
        "{a,b}",
        "{a/**,b}",
        "{**/a,x}",
        "{,a}",
        "{a,{b,x}/}",
        "[ab]",
        "[!a]",
        "[/]",
        "\\.",
        "\\a",
        "srv",
        "/srv/docs/",
        "/a/",
        ",",
        "{*.x,a*}",
    ];
    let (mut matched, mut refused) = (0, 0);
    for _ in 0..6_000 {
        let text: String = (0..=random.below(6)).map(|_| random.of(&pieces)).collect();
        let Ok(globs) = PathGlobs::new([text.as_str()]) else { continue };
        let root = random.of(&ROOTS);
        for _ in 0..12 {
            let names: Vec<&str> = (0..random.below(5)).map(|_| random.of(&NAMES)).collect();
            let path = names.join("/");
            let lets = lets(&globs, root, path.as_bytes());
            if globs.matches(Path::new(root), path.as_bytes()) {
                matched += 1;
                assert!(lets, "seed {seed}: {text:?} matches {path:?} below {root}");
            } else {
                refused += u32::from(!lets);
            }
        }
    }
    assert!(matched > 1_000 && refused > 10_000, "matched {matched}, refused {refused}");
}

#[test]
fn useful_globs_are_useful() {
    let check = |glob: &str, path: &[u8], expected: bool| {
        let globs = PathGlobs::new([glob]).unwrap();
        assert_eq!(lets(&globs, "/srv/docs", path), expected, "{glob} {}", OsStr::from_bytes(path).display());
    };
    for (glob, yes, no) in [
        ("/srv/docs/a/b.txt", "a/b.txt", "b/b.txt"),
        ("a/b.txt", "a/b.txt", "a/c.txt"),
        ("/srv/docs/a/**", "a/x/y", "b/a/x"),
        ("/srv/*/a/**", "a/x/y", "b/x"),
        ("*.docx", "x/y.docx", "x/docx"),
        ("*.tar.gz", "x/y.tar.gz", "x/y.tar"),
        ("**/report.txt", "x/report.txt", "x/report.txt.1"),
        ("*/node_modules/*", "x/node_modules/y", "x/node/y"),
        ("*.{docx,xlsx}", "x.xlsx", "x.pdf"),
        ("{new,old}/*", "old/x", "older/x"),
        ("[rR]eport.txt", "Report.txt", "Report.doc"),
        ("a\\*/b", "a*/b", "a*/c"),
    ] {
        check(glob, yes.as_bytes(), true);
        check(glob, no.as_bytes(), false);
    }
    // Nothing below this root can match at all.
    let elsewhere = PathGlobs::new(["/home/**", "/srv", "/srv/documents"]).unwrap();
    assert!(elsewhere.needs(&[Path::new("/srv/docs")]).is_empty());
    // The root itself, by its own name and ending.
    for glob in ["/srv/docs.d", "/srv/*.d", "/**/docs.d"] {
        let globs = PathGlobs::new([glob]).unwrap();
        assert!(globs.matches(Path::new("/srv/docs.d"), b"") && lets(&globs, "/srv/docs.d", b""), "{glob}");
    }
}

#[test]
fn braces_have_an_end() {
    let many = "{a,b}".repeat(20);
    assert_eq!(expand(&many), None);
    assert_eq!(expand("{a,{b,c}d}e").map(|all| all.len()), Some(4));
    assert_eq!(expand("a"), None);
}
