//! What questions mean: patterns, filters, pages, directories, hostile input.

use super::*;

fn found(catalog: &Catalog, pattern: Pattern) -> Vec<String> {
    paths(catalog, &ask(pattern))
}

fn glob(text: &str) -> Pattern {
    Pattern::Glob(text.to_owned())
}

fn regex(text: &str) -> Pattern {
    Pattern::Regex(text.to_owned())
}

fn a_directory() -> Row {
    Row { kind: EntryKind::Directory, size: 0, modified: Modified::default(), content: 0 }
}

fn catalog(directory: &Path) -> Catalog {
    let catalog = open(directory);
    let rows = [
        ("/srv", a_directory()),
        ("/srv/budget.txt", file(1)),
        ("/srv/docs", a_directory()),
        ("/srv/docs/2025", a_directory()),
        ("/srv/docs/2025/budget-1.xlsx", file(2)),
        ("/srv/docs/2025/plan.docx", file(3)),
        ("/srv/docs/budget-2.xlsx", file(4)),
        ("/srv/docs-old", a_directory()),
        ("/srv/docs-old/budget-3.xlsx", file(5)),
        ("/srv/docs.txt", file(6)),
    ];
    load(&catalog, info(1, &entity("data", "/srv"), 1), &rows);
    load(&catalog, info(2, &entity("home", "/home/a"), 2), &[("/home/a/docs/budget-4.xlsx", file(7))]);
    catalog
}

#[test]
fn globs_are_of_the_whole_path_or_relative_to_the_root() {
    let place = tempfile::tempdir().unwrap();
    let catalog = catalog(place.path());
    let check = |text: &str, expected: &[&str]| assert_eq!(found(&catalog, glob(text)), expected, "{text}");
    check("*.docx", &["/srv/docs/2025/plan.docx"]);
    check(
        "/srv/**/budget-*",
        &["/srv/docs/budget-2.xlsx", "/srv/docs/2025/budget-1.xlsx", "/srv/docs-old/budget-3.xlsx"],
    );
    check(
        "docs/**",
        &[
            "/home/a/docs/budget-4.xlsx",
            "/srv/docs/2025",
            "/srv/docs/budget-2.xlsx",
            "/srv/docs/2025/budget-1.xlsx",
            "/srv/docs/2025/plan.docx",
        ],
    );
    check("**/2025", &["/srv/docs/2025"]);
    check("budget*", &["/srv/budget.txt"]);
    check("docs/budget-[24].xlsx", &["/home/a/docs/budget-4.xlsx", "/srv/docs/budget-2.xlsx"]);
    check("{docs-old,nothing}/*", &["/srv/docs-old/budget-3.xlsx"]);
    check("/srv/docs", &["/srv/docs"]);
    check("/srv/docs/", &[]);
    check("srv/*", &[]);
    check("/SRV/*", &[]);
    assert_eq!(Pattern::parse("*.x"), glob("*.x"));
    assert_eq!(Pattern::parse("a.x"), Pattern::Substring(b"a.x".to_vec()));
}

#[test]
fn prefixes_and_exact_paths_are_of_bytes() {
    let place = tempfile::tempdir().unwrap();
    let catalog = catalog(place.path());
    let prefix = |text: &str| found(&catalog, Pattern::Prefix(text.as_bytes().to_vec()));
    assert_eq!(prefix("/srv/docs").len(), 8);
    assert_eq!(prefix("/srv/docs/").len(), 4);
    assert_eq!(prefix("/srv/docs/2025/b"), ["/srv/docs/2025/budget-1.xlsx"]);
    assert_eq!(prefix("/").len(), 11);
    assert_eq!(prefix("").len(), 11);
    // A path without a slash at its beginning is none, and nothing begins with a NUL.
    for none in ["srv", "srv/docs", "\0", "/\0", "/srv\0", "/srv/docs\0/x"] {
        assert_eq!(prefix(none), [""; 0], "{none:?}");
    }
    assert_eq!(found(&catalog, Pattern::Exact(b"/srv/docs".to_vec())), ["/srv/docs"]);
    for bad in [&b"srv/docs"[..], b"", b"/srv/docs/", b"/srv//docs", b"/srv\0", &[b'/'; 70_000]] {
        let error = catalog.query(&ask(Pattern::Exact(bad.to_vec()))).unwrap_err();
        assert_eq!(error.kind(), CatalogErrorKind::Input, "{error}");
        assert_eq!(catalog.lookup(bad, &Filter::default()).unwrap_err().kind(), CatalogErrorKind::Input);
        assert_eq!(catalog.versions(bad, &Filter::default()).unwrap_err().kind(), CatalogErrorKind::Input);
        let children = catalog.children(bad, At::Newest, &Filter::default(), 1, None);
        assert_eq!(children.unwrap_err().kind(), CatalogErrorKind::Input);
    }
}

#[test]
fn substrings_cross_slashes_and_never_paths() {
    let place = tempfile::tempdir().unwrap();
    let catalog = catalog(place.path());
    let substring = |bytes: &[u8]| found(&catalog, Pattern::Substring(bytes.to_vec()));
    assert_eq!(substring(b"s/2025/p"), ["/srv/docs/2025/plan.docx"]);
    assert_eq!(substring(b"025").len(), 3);
    assert_eq!(substring(b"a/docs/"), ["/home/a/docs/budget-4.xlsx"]);
    assert_eq!(substring(b"/srv").len(), 10);
    assert_eq!(substring(b"").len(), 11);
    for none in [&b"txt\0"[..], b"\0", b"docs/\0", b"srv/docs/budget-3"] {
        assert_eq!(substring(none), [""; 0], "{none:?}");
    }
}

#[test]
fn names_need_not_be_text() {
    let place = tempfile::tempdir().unwrap();
    let catalog = open(place.path());
    let data = entity("data", "/srv");
    let mut loader = catalog.begin(info(1, &data, 1), Order::Any).unwrap();
    let names: [&[u8]; 6] =
        [b"/srv/caf\xe9", b"/srv/caf\xc3\xa9", b"/srv/\xff\xfe/x", b"/srv/a\nb", b"/srv/\x01", b"/srv/[x]"];
    names.iter().for_each(|name| loader.put(name, file(1)).unwrap());
    loader.finish().unwrap();
    let found = |pattern: Pattern| {
        let rows = catalog.query(&ask(pattern)).unwrap().rows;
        rows.into_iter().map(|found| found.path).collect::<Vec<_>>()
    };
    assert_eq!(found(Pattern::Substring(b"\xe9".to_vec())), [b"/srv/caf\xe9"]);
    assert_eq!(found(Pattern::Exact(b"/srv/\xff\xfe/x".to_vec())), [b"/srv/\xff\xfe/x"]);
    assert_eq!(found(Pattern::Prefix(b"/srv/\xff".to_vec())), [b"/srv/\xff\xfe/x"]);
    assert_eq!(found(glob("caf?")), [b"/srv/caf\xe9"]);
    assert_eq!(found(glob("caf*")).len(), 2);
    assert_eq!(found(glob("café")), [b"/srv/caf\xc3\xa9"]);
    assert_eq!(found(glob("a?b")), [b"/srv/a\nb"]);
    assert_eq!(found(glob(r"\[x\]")), [b"/srv/[x]"]);
    assert_eq!(found(regex(r"\xff\xfe")), [b"/srv/\xff\xfe/x"]);
    assert_eq!(found(regex(r"/srv/caf.$")), [b"/srv/caf\xe9"]);
    assert_eq!(found(regex("caf[é]$")), [b"/srv/caf\xc3\xa9"]);
    assert_eq!(found(regex("a.b$")), [b"/srv/a\nb"]);
}

#[test]
fn patterns_that_are_none_are_refused_and_none_takes_the_stack() {
    let place = tempfile::tempdir().unwrap();
    let catalog = catalog(place.path());
    let kind = |pattern| catalog.query(&ask(pattern)).unwrap_err().kind();
    assert_eq!(kind(glob("[a")), CatalogErrorKind::Input);
    assert_eq!(kind(glob("{a")), CatalogErrorKind::Input);
    assert_eq!(kind(regex("(")), CatalogErrorKind::Input);
    assert_eq!(kind(regex("a{1000}{1000}{1000}")), CatalogErrorKind::Input);
    assert_eq!(kind(glob(&"*".repeat(PATTERN_BYTES_MAX + 1))), CatalogErrorKind::Limit);
    assert_eq!(kind(regex(&"a".repeat(PATTERN_BYTES_MAX + 1))), CatalogErrorKind::Limit);
    let nested = |open: &str, close: &str, depth: usize| {
        let text = format!("{}a{}", open.repeat(depth), close.repeat(depth));
        (glob(&text), regex(&text))
    };
    // On a stack as small as a server's worker has.
    let deep = std::thread::Builder::new().stack_size(512 << 10).spawn(move || {
        for (open, close, depth) in [("{", "}", 2047), ("(", ")", 2047), ("(?:", ")*", 800), ("[", "]", 2047)]
        {
            let (glob, regex) = nested(open, close, depth);
            let _ = (catalog.query(&ask(glob)), catalog.query(&ask(regex)));
        }
    });
    deep.unwrap().join().unwrap();
}

#[test]
fn page_tokens_are_not_believed() {
    let place = tempfile::tempdir().unwrap();
    let catalog = catalog(place.path());
    let mut query = Query { limit: 3, ..ask(Pattern::All) };
    let page = catalog.query(&query).unwrap();
    let token = page.next.unwrap().to_bytes();
    for length in 0..token.len() {
        if let Ok(token) = PageToken::from_bytes(&token[..length]) {
            query.after = Some(token);
            catalog.query(&query).unwrap();
        }
    }
    let mut accepted = 0;
    for at in 0..token.len() {
        for value in 0..=255 {
            let mut changed = token.clone();
            changed[at] = value;
            let Ok(token) = PageToken::from_bytes(&changed) else { continue };
            accepted += 1;
            query.after = Some(token);
            let rows = catalog.query(&query).unwrap().rows;
            assert!(rows.is_sorted_by(|a, b| path_order(&a.path, &b.path).is_lt()));
            let after = query.after.clone();
            catalog.children(b"/srv", At::Ever, &Filter::default(), 2, after).unwrap();
        }
    }
    assert!(accepted > 100, "{accepted}");
    for bad in [&b""[..], b"\x01", b"\x01\0\0\0\0", b"\x02\0\0\0\0/a", b"\x01\0\0\0\0a", b"\x01\0\0\0\0/a\0b"]
    {
        assert_eq!(PageToken::from_bytes(bad).unwrap_err().kind(), CatalogErrorKind::Input, "{bad:?}");
    }
    let long = [&b"\x01\0\0\0\0/"[..], &[b'a'; 70_000]].concat();
    assert!(PageToken::from_bytes(&long).is_err());
    // One of a path that has gone meanwhile goes on behind where that was.
    query.after = Some(PageToken::from_bytes(b"\x01\0\0\0\0/srv/docs/aaa").unwrap());
    assert_eq!(catalog.query(&query).unwrap().rows[0].path, b"/srv/docs/budget-2.xlsx");
}

#[test]
fn deleted_versions_and_sessions() {
    let place = tempfile::tempdir().unwrap();
    let catalog = open(place.path());
    let data = entity("data", "/srv");
    load(&catalog, info(1, &data, 10), &[("/srv/a", file(1)), ("/srv/b", file(2))]);
    load(&catalog, info(2, &data, 20), &[("/srv/a", file(7)), ("/srv/b", file(2))]);
    load(&catalog, info(3, &data, 30), &[("/srv/a", file(1))]);
    let all = catalog.query(&ask(Pattern::All)).unwrap().rows;
    let short: Vec<_> = all.iter().map(|f| (f.newest.size, f.sessions, f.first.id, f.last.id)).collect();
    assert_eq!(short, [(1, 3, id(1), id(3)), (2, 2, id(1), id(2))]);
    let deleted = Filter { deleted: true, ..Filter::default() };
    let rows = catalog.query(&Query { filter: deleted.clone(), ..ask(Pattern::All) }).unwrap().rows;
    assert_eq!(rows.iter().map(|found| found.path.as_slice()).collect::<Vec<_>>(), [b"/srv/b"]);
    assert_eq!(catalog.versions(b"/srv/a", &deleted).unwrap(), []);
    let versions = catalog.versions(b"/srv/a", &Filter::default()).unwrap();
    let short: Vec<_> =
        versions.iter().map(|v| (v.row.size, v.sessions.iter().map(|s| s.id).collect::<Vec<_>>())).collect();
    assert_eq!(short, [(1, vec![id(1), id(3)]), (7, vec![id(2)])]);
    let of_two = Filter { session: Some(id(2)), ..Filter::default() };
    assert_eq!(catalog.versions(b"/srv/a", &of_two).unwrap()[0].row, file(7));
    let gone = Filter { session: Some(id(9)), ..Filter::default() };
    let error = catalog.query(&Query { filter: gone, ..ask(Pattern::All) }).unwrap_err();
    assert_eq!(error.kind(), CatalogErrorKind::NotFound);
    // A session that was taken before all others is not the newest because it was loaded last.
    load(&catalog, info(4, &data, 5), &[("/srv/z", file(4))]);
    let rows = catalog.query(&Query { filter: deleted, ..ask(Pattern::All) }).unwrap().rows;
    assert_eq!(rows.len(), 2);
    assert_eq!(catalog.sessions()[0].id, id(4));
}

#[test]
fn directories_lead_to_roots() {
    let place = tempfile::tempdir().unwrap();
    let catalog = catalog(place.path());
    let children = |directory: &str, at: At| {
        let page = catalog.children(directory.as_bytes(), at, &Filter::default(), 100, None).unwrap();
        let show = |child: Child| (String::from_utf8(child.path).unwrap(), child.row.is_some());
        page.rows.into_iter().map(show).collect::<Vec<_>>()
    };
    let line = |path: &str, is_known| (path.to_owned(), is_known);
    assert_eq!(children("/", At::Newest), [line("/home", false), line("/srv", true)]);
    assert_eq!(children("/home", At::Newest), [line("/home/a", false)]);
    assert_eq!(children("/home/a", At::Newest), []);
    assert_eq!(children("/srv/docs/2025", At::Session(id(1))).len(), 2);
    assert_eq!(children("/srv/docs/2025", At::Session(id(2))), []);
    assert_eq!(children("/nowhere", At::Ever), []);
    let error = catalog.children(b"/", At::Session(id(9)), &Filter::default(), 1, None).unwrap_err();
    assert_eq!(error.kind(), CatalogErrorKind::NotFound);
}

#[test]
fn loads_are_refused_for_what_cannot_be() {
    let place = tempfile::tempdir().unwrap();
    let catalog = open(place.path());
    let data = entity("data", "/srv");
    load(&catalog, info(1, &data, 1), &[("/srv/a", file(1))]);
    let kind = |result: Result<Loader, CatalogError>| result.err().unwrap().kind();
    assert_eq!(kind(catalog.begin(info(1, &data, 1), Order::Any)), CatalogErrorKind::Conflict);
    let loading = catalog.begin(info(2, &data, 1), Order::Any).unwrap();
    assert_eq!(kind(catalog.begin(info(2, &data, 1), Order::Any)), CatalogErrorKind::Conflict);
    drop(loading);
    drop(catalog.begin(info(2, &data, 1), Order::Any).unwrap());
    let mut long = data.clone();
    long.master = "m".repeat(TEXT_BYTES_MAX + 1);
    assert_eq!(kind(catalog.begin(info(3, &long, 1), Order::Any)), CatalogErrorKind::Limit);
    long = entity("data", "relative");
    assert_eq!(kind(catalog.begin(info(3, &long, 1), Order::Any)), CatalogErrorKind::Input);
    let kind = |result: Result<DeltaLoader, CatalogError>| result.err().unwrap().kind();
    assert_eq!(kind(catalog.begin_from(id(9), info(3, &data, 1))), CatalogErrorKind::NotFound);
    let other = entity("other", "/srv");
    assert_eq!(kind(catalog.begin_from(id(1), info(3, &other, 1))), CatalogErrorKind::Input);
    assert_eq!(catalog.forget(id(9)).unwrap_err().kind(), CatalogErrorKind::NotFound);
    catalog.forget(id(1)).unwrap();
    assert_eq!(catalog.forget(id(1)).unwrap_err().kind(), CatalogErrorKind::NotFound);
    // A forgotten session may come again.
    load(&catalog, info(1, &data, 1), &[("/srv/b", file(1))]);
    assert_eq!(paths(&catalog, &ask(Pattern::All)), ["/srv/b"]);
    let second = Catalog::open(Arc::new(OsDisk), place.path());
    assert_eq!(second.unwrap_err().kind(), CatalogErrorKind::Conflict);
}

#[test]
fn handles_go_from_thread_to_thread() {
    fn is_send<T: Send>() {}
    fn is_shared<T: Send + Sync>() {}
    is_send::<(Loader, DeltaLoader)>();
    is_shared::<(Catalog, CatalogError, Page<Found>)>();
}

#[test]
fn readers_and_writers_do_not_disturb_each_other() {
    let place = tempfile::tempdir().unwrap();
    let catalog = open(place.path());
    let data = entity("data", "/srv");
    let names: Vec<String> = (0..40).map(|number| format!("/srv/{number:02}")).collect();
    let rows = |version: u64| names.iter().map(|name| (name.as_str(), file(version))).collect::<Vec<_>>();
    load(&catalog, info(1, &data, 1), &rows(1));
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let found = catalog.query(&ask(Pattern::All)).unwrap().rows;
                    assert_eq!(found.len(), 40);
                    // One moment: the newest version everywhere is that of one session.
                    assert!(found.iter().all(|row| row.newest == found[0].newest));
                }
            });
        }
        for number in 2..30 {
            load(&catalog, info(number, &data, number as i64), &rows(number));
            if number % 3 == 0 {
                catalog.forget(id(number - 2)).unwrap();
                catalog.tidy().unwrap();
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert_eq!(catalog.sessions().len(), 20);
}
