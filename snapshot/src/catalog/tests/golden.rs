//! Files of released versions are read as long as the version is: never edited, and each one read here.

use super::*;

/// Version 1, as the first release wrote it: three sessions of two entities, one of them forgotten, after a merge.
const VERSION_1: [(&str, &[u8]); 3] = [
    ("manifest", include_bytes!("golden/v1/manifest")),
    ("0000000000000002.segment", include_bytes!("golden/v1/0000000000000002.segment")),
    ("0000000000000003.segment", include_bytes!("golden/v1/0000000000000003.segment")),
];

/// Segments of version 2 of the same sessions: blocks have filters.
const VERSION_2: [(&str, &[u8]); 3] = [
    ("manifest", include_bytes!("golden/v2/manifest")),
    ("0000000000000002.segment", include_bytes!("golden/v2/0000000000000002.segment")),
    ("0000000000000003.segment", include_bytes!("golden/v2/0000000000000003.segment")),
];

fn rows() -> Vec<(&'static str, Row)> {
    let link = Row { kind: EntryKind::Symlink, ..file(0) };
    let old = Modified { seconds: -5_000_000_000, nanoseconds: 999_999_999 };
    vec![
        ("/srv", Row { kind: EntryKind::Directory, size: 0, modified: old, content: 0 }),
        ("/srv/a file", file(300)),
        ("/srv/d/\u{1}", file(u64::MAX)),
        ("/srv/d/é", link),
    ]
}

fn write(directory: &Path) {
    let catalog = open(directory);
    let data = entity("data", "/srv");
    load(&catalog, info(1, &data, 1), &rows());
    let mut loader = catalog.begin_from(id(1), info(2, &data, 2)).unwrap();
    loader.remove(b"/srv/a file").unwrap();
    loader.put(b"/srv/new", file(7)).unwrap();
    loader.finish().unwrap();
    catalog.forget(id(1)).unwrap();
    catalog.tidy().unwrap();
    load(&catalog, info(3, &entity("home", "/"), 3), &[("/x", file(1))]);
}

fn check(directory: &Path) {
    let catalog = open(directory);
    catalog.verify().unwrap();
    assert_eq!(catalog.sessions().iter().map(|session| session.id).collect::<Vec<_>>(), [id(2), id(3)]);
    let found = catalog.query(&ask(Pattern::All)).unwrap().rows;
    let found: Vec<(String, Row)> =
        found.into_iter().map(|row| (String::from_utf8(row.path).unwrap(), row.newest)).collect();
    let mut expected: Vec<(String, Row)> = rows()
        .into_iter()
        .map(|(path, row)| (path.to_owned(), row))
        .filter(|row| row.0 != "/srv/a file")
        .collect();
    expected.extend([("/srv/new".to_owned(), file(7)), ("/x".to_owned(), file(1))]);
    expected.sort_by(|a, b| path_order(a.0.as_bytes(), b.0.as_bytes()));
    assert_eq!(found, expected);
    let session = catalog.session(id(2)).unwrap();
    assert_eq!((session.taken, session.lsn), (Timestamp(2), Some(Lsn::captured(2))));
}

#[test]
fn all_versions_are_read() {
    for (name, files) in [("v1", VERSION_1), ("v2", VERSION_2)] {
        let place = tempfile::tempdir().unwrap();
        files.iter().for_each(|(name, bytes)| std::fs::write(place.path().join(name), bytes).unwrap());
        let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/catalog/tests/golden").join(name);
        assert_eq!(std::fs::read_dir(kept).unwrap().count(), files.len(), "a file that is kept is not read");
        check(place.path());
    }
}

#[test]
fn what_is_written_today_reads_the_same() {
    let place = tempfile::tempdir().unwrap();
    write(place.path());
    check(place.path());
    // How the files of the next version are made.
    if let Some(out) = std::env::var_os("CATALOG_GOLDEN") {
        for entry in std::fs::read_dir(place.path()).unwrap().map(Result::unwrap) {
            std::fs::copy(entry.path(), Path::new(&out).join(entry.file_name())).unwrap();
        }
    }
    // The manifest has no compressed bytes: it is the same to the last one, but for the checksums of the segments.
    let manifest = std::fs::read(place.path().join("manifest")).unwrap();
    assert_eq!(manifest.len(), VERSION_1[0].1.len());
}
