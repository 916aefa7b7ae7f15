//! Random sessions, changes, forgetting, merging and reopening: every answer equals the model's.

use super::model::{Line, Listing, Model};
use super::*;

const PARTS: [&[u8]; 12] =
    [b"a", b"b", b"a-", b"a.b", b"a\x01", b"\xff", b"0", b"notes.txt", b"caf\xc3\xa9", b"a0", b"~", b"B r"];

fn entities() -> Vec<Entity> {
    vec![entity("one", "/"), entity("two", "/a"), entity("three", "/a/b"), entity("four", "/a")]
}

fn random_path(rng: &mut Rng, root: &[u8]) -> Vec<u8> {
    let mut path = if root == b"/" { Vec::new() } else { root.to_vec() };
    for _ in 0..rng.below(5) {
        path.push(b'/');
        path.extend_from_slice(rng.pick(&PARTS));
    }
    if path.is_empty() { b"/".to_vec() } else { path }
}

fn random_row(rng: &mut Rng) -> Row {
    let kinds = [EntryKind::File, EntryKind::Directory, EntryKind::Symlink, EntryKind::Fifo];
    let modified =
        Modified { seconds: rng.below(5) as i64 - 2, nanoseconds: rng.below(2) as u32 * 999_999_999 };
    let size = rng.pick(&[0, 1, 300, u64::MAX]);
    Row { kind: rng.pick(&kinds), size, modified, content: rng.below(2) as u64 }
}

fn random_listing(rng: &mut Rng, base: Option<&Listing>, root: &[u8]) -> Listing {
    let mut listing = base.cloned().unwrap_or_default();
    if rng.below(8) == 0 {
        listing.clear();
    }
    let count = if listing.is_empty() { rng.below(60) } else { rng.below(12) };
    for _ in 0..count {
        let path = random_path(rng, root);
        if rng.below(3) == 0 {
            listing.remove(&path);
        } else {
            listing.insert(path, random_row(rng));
        }
    }
    listing
}

struct World {
    catalog: Catalog,
    model: Model,
    rng: Rng,
    next: u64,
}

impl World {
    fn info(&mut self, entity: &Entity) -> SessionInfo {
        self.next += 1;
        // Mostly in the order of time, now and then not.
        let taken = if self.rng.below(4) == 0 { self.rng.below(60) as i64 } else { self.next as i64 * 2 };
        info(self.next, entity, taken)
    }

    fn full(&mut self) {
        let entity = self.rng.pick(&entities());
        let base = self.model.of(&entity).last().map(|session| session.listing.clone());
        let listing = random_listing(&mut self.rng, base.as_ref(), &entity.root);
        let info = self.info(&entity);
        let order = self.rng.pick(&[Order::Sorted, Order::Any]);
        let mut rows: Vec<(&Vec<u8>, &Row)> = listing.iter().collect();
        if order == Order::Sorted {
            rows.sort_by(|a, b| path_order(a.0, b.0));
        }
        let mut loader = self.catalog.begin(info.clone(), order).unwrap();
        for (path, row) in &rows {
            if order == Order::Any && self.rng.below(10) == 0 {
                loader.put(path, random_row(&mut self.rng)).unwrap();
            }
            loader.put(path, **row).unwrap();
        }
        if self.rng.below(12) == 0 {
            drop(loader);
            assert_eq!(self.catalog.session(info.id), None);
            return;
        }
        loader.finish().unwrap();
        self.model.add(info, listing);
    }

    fn delta(&mut self) {
        if self.model.sessions.is_empty() {
            return;
        }
        let base = self.rng.pick(&self.model.sessions);
        let listing = random_listing(&mut self.rng, Some(&base.listing), &base.info.entity.root);
        let info = self.info(&base.info.entity);
        let mut loader = self.catalog.begin_from(base.info.id, info.clone()).unwrap();
        for (path, row) in &listing {
            if base.listing.get(path) != Some(row) {
                loader.put(path, *row).unwrap();
            }
        }
        for path in base.listing.keys().filter(|path| !listing.contains_key(*path)) {
            loader.remove(path).unwrap();
        }
        // Meanwhile the base may be forgotten, and everything else merged.
        if self.rng.below(6) == 0 {
            self.catalog.forget(base.info.id).unwrap();
            self.catalog.tidy().unwrap();
            self.model.sessions.retain(|session| session.info.id != base.info.id);
        }
        loader.finish().unwrap();
        self.model.add(info, listing);
    }

    fn forget(&mut self) {
        if !self.model.sessions.is_empty() {
            let id = self.rng.pick(&self.model.sessions).info.id;
            self.catalog.forget(id).unwrap();
            self.model.forget(id);
        }
    }

    fn check(&mut self) {
        let filters = self.filters();
        let patterns: Vec<(Pattern, Matches)> = patterns(&mut self.rng);
        for (pattern, matches) in &patterns {
            let filter = &self.rng.pick(&filters);
            let expected = self.model.query(matches, filter);
            let limit = self.rng.pick(&[1, 3, 50, 1000]);
            let found = self.all_pages(pattern, filter, limit);
            assert_eq!(found, expected, "{pattern:?} {filter:?} pages of {limit}");
        }
        for path in [&b"/a"[..], b"/a/b", b"/a/b/\xff", b"/"] {
            let versions = self.catalog.versions(path, &Filter::default()).unwrap();
            let lines: Vec<_> = versions
                .into_iter()
                .map(|v| (self.index(&v.entity), v.row, v.sessions.iter().map(|s| s.id).collect::<Vec<_>>()))
                .collect();
            assert_eq!(lines, self.model.versions(path), "{:?}", String::from_utf8_lossy(path));
            let limit = 1 + self.rng.below(5);
            assert_eq!(self.all_children(path, limit), self.model.children(path));
        }
        let ids: Vec<SessionId> = self.catalog.sessions().iter().map(|session| session.id).collect();
        let of = |entity| self.model.of(entity).into_iter().map(|s| s.info.id).collect::<Vec<_>>();
        let expected: Vec<SessionId> = self.model.entities.iter().flat_map(of).collect();
        assert_eq!(ids, expected);
        self.catalog.verify().unwrap();
    }

    fn index(&self, entity: &Entity) -> usize {
        self.model.entities.iter().position(|known| known == entity).unwrap()
    }

    fn all_pages(&self, pattern: &Pattern, filter: &Filter, limit: usize) -> Vec<Line> {
        let mut lines = Vec::new();
        let (pattern, filter) = (pattern.clone(), filter.clone());
        let mut query = Query { pattern, filter, limit, after: None };
        loop {
            let page = self.catalog.query(&query).unwrap();
            assert!(page.rows.len() <= limit);
            for found in page.rows {
                let index = self.index(&found.entity);
                let (first, last) = (found.first.id, found.last.id);
                lines.push((found.path, index, found.newest, found.sessions, first, last));
            }
            let Some(next) = page.next else { return lines };
            query.after = Some(PageToken::from_bytes(&next.to_bytes()).unwrap());
        }
    }

    fn all_children(&self, path: &[u8], limit: usize) -> Vec<(Vec<u8>, usize, Option<Row>)> {
        let mut children = Vec::new();
        let mut after = None;
        loop {
            let page = self.catalog.children(path, At::Newest, &Filter::default(), limit, after).unwrap();
            children.extend(page.rows.into_iter().map(|c| (c.path, self.index(&c.entity), c.row)));
            after = page.next;
            if after.is_none() {
                return children;
            }
        }
    }

    fn filters(&mut self) -> Vec<Filter> {
        let one = Filter { scenario: Some("two-scenario".to_owned()), ..Filter::default() };
        let host = Filter { master: Some("four-master".to_owned()), deleted: true, ..Filter::default() };
        let deleted = Filter { deleted: true, ..Filter::default() };
        let large = Filter { size_min: Some(1), size_max: Some(300), ..Filter::default() };
        let since = Some(Modified { seconds: 0, nanoseconds: 1 });
        let before = Some(Modified { seconds: 2, nanoseconds: 0 });
        let late = Filter { modified_since: since, modified_before: before, ..Filter::default() };
        let kind = Filter { kind: Some(EntryKind::Symlink), ..Filter::default() };
        let mut filters = vec![Filter::default(), one, host, deleted, large, late, kind];
        if !self.model.sessions.is_empty() {
            let id = self.rng.pick(&self.model.sessions).info.id;
            filters.push(Filter { session: Some(id), ..Filter::default() });
        }
        filters
    }
}

fn has(path: &[u8], needle: &[u8]) -> bool {
    path.windows(needle.len()).any(|window| window == needle)
}

type Matches = Box<dyn Fn(&[u8], &Entity) -> bool>;

fn patterns(rng: &mut Rng) -> Vec<(Pattern, Matches)> {
    let mut patterns: Vec<(Pattern, Matches)> = vec![(Pattern::All, Box::new(|_, _| true))];
    let mut bytes = Vec::new();
    for _ in 0..=rng.below(2) {
        bytes.extend_from_slice(rng.pick(&[&b"a"[..], b"/", b"a/", b"b", b"\xff", b"/a", b".", b"a/b/"]));
    }
    let needle = bytes.clone();
    patterns.push((
        Pattern::Substring(bytes.clone()),
        Box::new(move |path: &[u8], _: &Entity| has(path, &needle)),
    ));
    let prefix = [b"/", bytes.as_slice()].concat();
    let start = prefix.clone();
    patterns
        .push((Pattern::Prefix(prefix), Box::new(move |path: &[u8], _: &Entity| path.starts_with(&start))));
    let exact = random_path(rng, b"/");
    let same = exact.clone();
    patterns.push((Pattern::Exact(exact), Box::new(move |path: &[u8], _: &Entity| path == same)));
    let globs = ["*.txt", "/a/*", "a*", "*/b", "/a/**/b", "b", "[ab]/**", "{a,b}-", "/a/b/*.b", "**/a?", "*"];
    let glob = rng.pick(&globs).to_owned();
    let matcher = globset::Glob::new(&glob).unwrap().compile_matcher();
    let whole = glob.starts_with('/');
    patterns.push((
        Pattern::Glob(glob),
        Box::new(move |path: &[u8], entity: &Entity| {
            use std::os::unix::ffi::OsStrExt;
            let below = path.strip_prefix(entity.root.as_slice()).unwrap();
            let below = below.strip_prefix(b"/").unwrap_or(below);
            matcher.is_match(std::ffi::OsStr::from_bytes(if whole { path } else { below }))
        }),
    ));
    let texts = ["^/a/", "b$", "a.b", "^/a/b/.*t$", "(a|b)0", "(?i)NOTES", "^/$", "a+/b", "x*", r"\xff", "é"];
    let text = rng.pick(&texts).to_owned();
    let unicode = !text.is_ascii();
    let mut builder = regex::bytes::RegexBuilder::new(&text);
    let regex = builder.unicode(unicode).dot_matches_new_line(true).build().unwrap();
    patterns.push((Pattern::Regex(text), Box::new(move |path: &[u8], _: &Entity| regex.is_match(path))));
    patterns
}

#[test]
fn every_answer_equals_that_of_a_naive_model() {
    let seed = seed();
    let rounds = std::env::var("CATALOG_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(12);
    for round in 0..rounds {
        println!("round {round}");
        let directory = tempfile::tempdir().unwrap();
        let catalog = open(directory.path());
        let rng = Rng::new(seed.wrapping_add(round));
        let mut world = World { catalog, model: Model::default(), rng, next: 0 };
        for _ in 0..40 {
            match world.rng.below(10) {
                0..=3 => world.full(),
                4..=6 => world.delta(),
                7 | 8 => world.forget(),
                _ => {
                    drop(world.catalog);
                    world.catalog = open(directory.path());
                }
            }
            if world.rng.below(3) == 0 {
                world.catalog.tidy().unwrap();
            }
            world.check();
        }
        let names = std::fs::read_dir(directory.path()).unwrap().count() as u64;
        assert_eq!(names, world.catalog.stats().segments + 2, "manifest, lock, segments, and nothing else");
    }
}
