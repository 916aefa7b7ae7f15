//! Blocks deny nothing that is in them, and most of what is not.

use super::*;
use crate::event::{Class, Provenance};
use crate::id::RootNo;
use crate::tables::MemoryTables;

fn row(kind: PointKind, path: &str, from: Option<&str>) -> PointRow {
    PointRow {
        time: Timestamp(5),
        kind,
        root: RootNo(0),
        path: path.as_bytes().to_vec(),
        from: from.map(|from| from.as_bytes().to_vec()),
        bytes: 0,
        provenance: Provenance::Derived,
        class: Class::Fuzzy,
    }
}

fn put(tables: &MemoryTables, lsn: Lsn, row: &PointRow) {
    tables.commit(vec![(Space::Points, lsn.to_key().to_vec(), Some(rows::write(row)))]).unwrap();
}

fn blocks(tables: &MemoryTables) -> Vec<PointBlock> {
    let rows = tables.range(Space::PointBlocks, &block_key(Lsn::ZERO), &block_key(Lsn::MAX));
    rows.map(|row| PointBlock::read(&row.unwrap()).unwrap()).collect()
}

#[test]
fn paths() {
    let tables = MemoryTables::default();
    // A directory is met before a change of the directory itself, whose ending counts too.
    put(&tables, Lsn::captured(1), &row(PointKind::Created, "a/b.d/c.tar.gz", None));
    put(&tables, Lsn::captured(2), &row(PointKind::Attributes, "a/b.d", None));
    put(&tables, Lsn::local(2, 1), &row(PointKind::Renamed, "new/name", Some("old/x.txt")));
    put(&tables, Lsn::captured(3), &row(PointKind::Marker, "words/of.marker", None));
    put(&tables, Lsn::captured(4), &row(PointKind::Removed, "", None));
    let mut summarizer = Summarizer::default();
    assert!(summarizer.step(&tables, (Lsn::ZERO, Lsn::captured(9)), 5).unwrap());
    let block = blocks(&tables)[0];
    let paths = block.paths(&tables).unwrap().unwrap();
    for token in [
        Token::under(b"a/b.d/c.tar.gz"),
        Token::under(b"a/b.d"),
        Token::under(b"a"),
        Token::name(b"c.tar.gz"),
        Token::name(b"b.d"),
        Token::extension(b"gz"),
        Token::extension(b"d"),
        Token::under(b"new/name"),
        Token::under(b"old/x.txt"),
        Token::name(b"x.txt"),
        Token::extension(b"txt"),
    ] {
        assert!(paths.may_have(&[token]), "{token:?}");
    }
    for token in [Token::under(b"words"), Token::extension(b"marker"), Token::name(b"b"), Token::name(b"tar")]
    {
        assert!(!paths.may_have(&[token]), "{token:?}");
    }
    assert!(!paths.may_have(&[Token::name(b"b.d"), Token::name(b"nobody")]));
    assert!(paths.may_have(&[]));
    let absent = (0..10_000).filter(|n| paths.may_have(&[Token::name(format!("absent {n}").as_bytes())]));
    let seeming = absent.count();
    assert!(seeming < 200, "{seeming} of 10,000 absent names seem to be there");
    for (kind, there) in [(PointKind::Created, true), (PointKind::Marker, true), (PointKind::Modified, false)]
    {
        assert_eq!(block.kinds.has(kind), there, "{kind:?}");
    }
}

#[test]
fn unusual_paths_are_not_summarized() {
    let longest = "a/".repeat(PATH_BYTES_MAX / 2 - 1) + "ab";
    assert!(tokens_of(longest.as_bytes()).is_some());
    // One byte too long, and as long as a path can come from the wire.
    let (long, endless) = (longest.clone() + "c", "a/".repeat((1 << 19) - 1) + "ab");
    for path in ["/a", "a//b", "a/", &long, &endless] {
        let tables = MemoryTables::default();
        put(&tables, Lsn::captured(1), &row(PointKind::Created, path, None));
        assert!(Summarizer::default().step(&tables, (Lsn::ZERO, Lsn::captured(1)), 1).unwrap());
        assert!(blocks(&tables)[0].paths(&tables).unwrap().is_none(), "{} bytes", path.len());
        assert_eq!(tokens_of(path.as_bytes()), None);
    }
}

#[test]
fn blocks_follow_one_another_whoever_makes_them() {
    let tables = MemoryTables::default();
    let mut summarizer = Summarizer::default();
    let mut seen = 0;
    for n in 10..110 {
        put(&tables, Lsn::captured(n), &row(PointKind::Modified, "a", None));
        // What is not applied is not looked at.
        put(&tables, Lsn::local(n, 1), &row(PointKind::Created, "b", None));
        if n % 7 == 0 {
            summarizer = Summarizer::default();
        }
        seen += usize::from(summarizer.step(&tables, (Lsn::captured(10), Lsn::captured(n)), 8).unwrap());
    }
    let blocks = blocks(&tables);
    assert_eq!(blocks.len(), seen);
    assert_eq!(blocks.len(), 199 / 8);
    assert_eq!(blocks[0].first, Lsn::captured(10));
    for pair in blocks.windows(2) {
        assert_eq!(pair[0].last.successor(), pair[1].first);
    }
}

#[test]
fn a_block_is_bounded_by_what_it_knows() {
    let tables = MemoryTables::default();
    let deep = |n: usize| (0..500).map(|part| format!("{n}-{part}")).collect::<Vec<_>>().join("/");
    for n in 0..200 {
        put(&tables, Lsn::captured(n), &row(PointKind::Created, &deep(n as usize), None));
    }
    let mut summarizer = Summarizer::default();
    while summarizer.step(&tables, (Lsn::ZERO, Lsn::captured(200)), BLOCK_POINTS).unwrap() {}
    // Each path has a thousand tokens.
    assert!(blocks(&tables).len() >= 5, "{:?}", blocks(&tables));
    for row in tables.range(Space::PointBlocks, &[PATHS], &[PATHS + 1]) {
        assert!(row.unwrap().1.len() < (TOKENS_MAX + 1000) * BITS_PER_TOKEN / 8 + 1);
    }
}

#[test]
fn rows_that_are_none() {
    let key = block_key(Lsn::captured(7));
    assert!(PointBlock::read(&(key.clone(), vec![1, 2])).is_err());
    let before = HeadRow { last: (6, 0), kinds: Kinds::ALL, oldest: Timestamp(0), newest: Timestamp(0) };
    assert!(PointBlock::read(&(key, rows::write(&before))).is_err());
    assert!(PointBlock::read(&(vec![HEAD], rows::write(&before))).is_err());
}
