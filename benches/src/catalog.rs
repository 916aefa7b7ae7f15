//! The catalog with ten million entries: loading, searching, and the memory of both.
//!
//! Two catalogs. `tree` holds fifty sessions of one tree of 200,000 entries, of which one in a hundred changes from each
//! session to the next, loaded as whole listings: what a year of weekly sessions looks like. `distinct` holds ten million
//! different paths of four masters: the most there is to search. Names, sizes and hashes are made from numbers, the
//! same in every run. What generating alone takes is printed beside what loading takes with generating in it.

use crate::report;
use anyhow::Context;
use journal::{OsDisk, Timestamp};
use snapshot::catalog::{
    At, Catalog, Entity, EntryKind, Filter, Modified, Order, PageToken, Pattern, Query, Row, SessionId,
    SessionInfo,
};
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const ROOT: &str = "/srv/data";
const SESSIONS: u64 = 50;
const TREE_ENTRIES: u64 = 200_000;
const MASTERS: u64 = 4;
const ENTRIES_OF_MASTER: u64 = 2_500_000;
/// A page as a person sees it.
const PAGE: usize = 100;
const FILES_OF_DIRECTORY: u64 = 98;

const WORDS: [&str; 24] = [
    "report", "budget", "invoice", "draft", "minutes", "summary", "plan", "contract", "letter", "survey",
    "model", "figures", "notes", "index", "review", "appendix", "schedule", "offer", "order", "photo",
    "scan", "backup", "export", "table",
];
const ENDINGS: [&str; 8] = ["docx", "xlsx", "pdf", "txt", "jpg", "csv", "odt", "png"];

fn hash(value: u64) -> u64 {
    let mut x = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

fn row(kind: EntryKind, number: u64, version: u64) -> Row {
    let hashed = hash(number ^ version << 40);
    let modified = Modified {
        seconds: 1_600_000_000 + (hashed % 100_000_000) as i64,
        nanoseconds: (hashed >> 20) as u32 % 1_000_000_000,
    };
    let size = if kind == EntryKind::File { hashed % 5_000_000 } else { 0 };
    Row { kind, size, modified, content: if kind == EntryKind::File { hashed } else { 0 } }
}

/// Takes a path, its kind and the number that it is made from.
type Each<'e> = dyn FnMut(&[u8], EntryKind, u64) -> anyhow::Result<()> + 'e;

/// Calls `each` for the entries of a tree in the order of paths: departments of a hundred projects of 98 files.
fn walk(root: &str, entries: u64, each: &mut Each<'_>) -> anyhow::Result<()> {
    let directories = entries / (FILES_OF_DIRECTORY + 1);
    let departments = directories / 100 + 1;
    each(root.as_bytes(), EntryKind::Directory, u64::MAX)?;
    let department = |number: u64| format!("{root}/department-{number:04}");
    let project =
        |number: u64| format!("{}/project {:02} {}", department(number / 100), number % 100, word(number));
    for number in 0..departments {
        each(department(number).as_bytes(), EntryKind::Directory, u64::MAX - 1 - number)?;
    }
    let mut names = Vec::new();
    for number in 0..departments {
        let own = number * 100..directories.min(number * 100 + 100);
        for directory in own.clone() {
            each(project(directory).as_bytes(), EntryKind::Directory, u64::MAX / 2 - directory)?;
        }
        for directory in own {
            let parent = project(directory);
            names.clear();
            for file in 0..FILES_OF_DIRECTORY {
                let seed = directory * FILES_OF_DIRECTORY + file;
                names.push((file_name(&parent, seed), seed));
            }
            names.sort();
            for (path, seed) in &names {
                each(path.as_bytes(), EntryKind::File, *seed)?;
            }
        }
    }
    Ok(())
}

fn word(number: u64) -> &'static str {
    WORDS.get(hash(number) as usize % WORDS.len()).copied().unwrap_or_default()
}

fn file_name(parent: &str, seed: u64) -> String {
    let hashed = hash(seed);
    let ending = ENDINGS.get(hashed as usize % ENDINGS.len()).copied().unwrap_or_default();
    format!("{parent}/{}-{:05}-{}.{ending}", word(seed ^ 77), hashed >> 8 & 0xffff, word(seed))
}

fn info(number: u64, master: u64, root: &str) -> SessionInfo {
    let mut id = [0; 32];
    id.iter_mut().zip(hash(number).to_le_bytes()).for_each(|(to, from)| *to = from);
    SessionInfo {
        id: SessionId(id),
        repository: "offsite".to_owned(),
        entity: Entity {
            scenario: format!("documents-{master}"),
            master: format!("master-{master}"),
            name: "data".to_owned(),
            root: root.as_bytes().to_vec(),
        },
        taken: Timestamp(number as i64 * 1_000_000_000),
        lsn: None,
    }
}

/// Resident memory now and at most, in bytes.
fn resident() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let bytes = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name));
        let number = line.and_then(|line| line.split_whitespace().nth(1)).and_then(|n| n.parse::<u64>().ok());
        number.unwrap_or_default() << 10
    };
    (bytes("VmRSS"), bytes("VmHWM"))
}

fn rate(what: &str, entries: u64, took: Duration, alone: Duration) {
    println!(
        "  {what:<44} {:>10.2} million entries/s   ({entries} in {:.2} s, of which generating {:.2} s)",
        entries as f64 / took.as_secs_f64() / 1e6,
        took.as_secs_f64(),
        alone.as_secs_f64(),
    );
}

fn size(catalog: &Catalog) {
    let stats = catalog.stats();
    println!(
        "  {:<44} {:>10.1} MB in {} segments, {} sessions, {} versions of {} paths",
        "on the disk",
        stats.bytes as f64 / 1e6,
        stats.segments,
        stats.sessions,
        stats.events,
        stats.rows,
    );
}

/// Fifty sessions of one tree.
fn load_tree(catalog: &Catalog) -> anyhow::Result<()> {
    let mut versions: Vec<u64> = Vec::new();
    let (mut took, mut alone, mut entries) = (Duration::ZERO, Duration::ZERO, 0);
    for session in 0..SESSIONS {
        let mut files = 0_usize;
        walk(ROOT, TREE_ENTRIES, &mut |_, _, seed| {
            if files == versions.len() {
                versions.push(0);
            }
            if let Some(version) = versions.get_mut(files) {
                *version = if hash(seed ^ session << 48).is_multiple_of(100) { session } else { *version };
            }
            files += 1;
            Ok(())
        })?;
        let start = Instant::now();
        walk(ROOT, TREE_ENTRIES, &mut |path, kind, seed| {
            black_box((path, row(kind, seed, 0)));
            Ok(())
        })?;
        alone += start.elapsed();
        let start = Instant::now();
        let mut loader = catalog.begin(info(session, 0, ROOT), Order::Sorted)?;
        let mut versions = versions.iter();
        walk(ROOT, TREE_ENTRIES, &mut |path, kind, seed| {
            entries += 1;
            Ok(loader.put(path, row(kind, seed, versions.next().copied().unwrap_or_default()))?)
        })?;
        loader.finish()?;
        took += start.elapsed();
    }
    rate("load, 50 whole listings", entries, took, alone);
    let mut delta = Vec::new();
    walk(ROOT, TREE_ENTRIES, &mut |path, kind, seed| {
        if hash(seed ^ SESSIONS << 48).is_multiple_of(100) {
            delta.push((path.to_vec(), row(kind, seed, SESSIONS)));
        }
        Ok(())
    })?;
    let start = Instant::now();
    let mut loader = catalog.begin_from(info(SESSIONS - 1, 0, ROOT).id, info(SESSIONS, 0, ROOT))?;
    delta.iter().try_for_each(|(path, row)| loader.put(path, *row))?;
    loader.finish()?;
    let what = format!("load, {} changes of another session", delta.len());
    report::line(&what, &[start.elapsed().as_secs_f64()]);
    Ok(())
}

/// Ten million paths.
fn load_distinct(catalog: &Catalog) -> anyhow::Result<()> {
    let (mut took, mut alone, mut entries) = (Duration::ZERO, Duration::ZERO, 0);
    for master in 0..MASTERS {
        let root = format!("{ROOT}-{master}");
        let start = Instant::now();
        walk(&root, ENTRIES_OF_MASTER, &mut |path, kind, seed| {
            black_box((path, row(kind, seed, master)));
            Ok(())
        })?;
        alone += start.elapsed();
        let start = Instant::now();
        let mut loader = catalog.begin(info(master, master, &root), Order::Sorted)?;
        walk(&root, ENTRIES_OF_MASTER, &mut |path, kind, seed| {
            entries += 1;
            Ok(loader.put(path, row(kind, seed, master))?)
        })?;
        loader.finish()?;
        took += start.elapsed();
    }
    rate("load, sorted", entries, took, alone);
    Ok(())
}

/// Paths in an order that has nothing to do with theirs.
fn load_unsorted(catalog: &Catalog) -> anyhow::Result<()> {
    let mut paths = Vec::new();
    walk(ROOT, ENTRIES_OF_MASTER / 2, &mut |path, kind, seed| {
        paths.push((path.to_vec(), row(kind, seed, 9)));
        Ok(())
    })?;
    paths.sort_unstable_by_key(|(_, row)| row.content);
    let start = Instant::now();
    let mut loader = catalog.begin(info(99, 99, ROOT), Order::Any)?;
    for (path, row) in &paths {
        loader.put(path, *row)?;
    }
    loader.finish()?;
    rate("load, shuffled", paths.len() as u64, start.elapsed(), Duration::ZERO);
    Ok(())
}

/// Runs a question five times, each time as if it were asked first.
fn time(
    what: &str,
    bound: &str,
    ask: impl Fn() -> Result<usize, snapshot::catalog::CatalogError>,
) -> anyhow::Result<()> {
    let mut times = Vec::new();
    let mut results = 0;
    for _ in 0..report::ROUNDS {
        let start = Instant::now();
        results = ask().with_context(|| format!("ask for {what}"))?;
        times.push(start.elapsed().as_secs_f64());
    }
    report::line(&format!("{what} ({results} results, {bound})"), &times);
    Ok(())
}

fn ask(catalog: &Catalog) -> anyhow::Result<()> {
    let find = |pattern: Pattern, filter: Filter| {
        let query = Query { pattern, filter, limit: PAGE, after: None };
        catalog.query(&query).map(|page| page.rows.len())
    };
    let plain = |pattern: Pattern| find(pattern, Filter::default());
    let middle = {
        let pattern = Pattern::Glob("/srv/*/department-0007/*".to_owned());
        let query = Query { pattern, filter: Filter::default(), limit: 5000, after: None };
        catalog.query(&query)?.rows.last().map(|found| found.path.clone()).unwrap_or_default()
    };
    let name = String::from_utf8_lossy(&middle).into_owned();
    let directory = name.rsplit_once('/').map(|(directory, _)| directory.to_owned()).unwrap_or_default();
    let none = Filter::default();
    time("exact path", "bound 1 ms", || catalog.lookup(&middle, &none).map(|found| found.len()))?;
    time("versions of a path", "bound 5 ms", || catalog.versions(&middle, &none).map(|found| found.len()))?;
    time("prefix", "bound 5 ms", || plain(Pattern::Prefix(format!("{directory}/").into_bytes())))?;
    time("entries of a directory", "bound 5 ms", || {
        let page = catalog.children(directory.as_bytes(), At::Newest, &none, 1000, None);
        page.map(|page| page.rows.len())
    })?;
    let first = "first page, bound 100 ms";
    time("substring", first, || plain(Pattern::Substring(b"budget".to_vec())))?;
    time("substring that is rare", "scans all, bound 400 ms", || {
        plain(Pattern::Substring(name.clone().into_bytes()))
    })?;
    time("glob *.docx", first, || plain(Pattern::Glob("*.docx".to_owned())))?;
    time("glob /srv/**/budget-*", first, || plain(Pattern::Glob("/srv/**/budget-*.pdf".to_owned())))?;
    time("regex budget-[0-9]+-plan", first, || plain(Pattern::Regex("/budget-[0-9]+-plan".to_owned())))?;
    let nothing = "no match, bound 400 ms";
    time("substring", nothing, || plain(Pattern::Substring(b"qzxv".to_vec())))?;
    time("substring with a slash", nothing, || plain(Pattern::Substring(b"plan/budget-z".to_vec())))?;
    time("glob *.qzxv", nothing, || plain(Pattern::Glob("*.qzxv".to_owned())))?;
    time("glob whose literal is everywhere", nothing, || {
        plain(Pattern::Glob("*budget*budget-7?".to_owned()))
    })?;
    time("regex with a literal", nothing, || plain(Pattern::Regex("budget-[0-9]+-qzxv$".to_owned())))?;
    time("regex without a literal", "no match, no bound", || {
        plain(Pattern::Regex("[qzx]{3}[0-9]$".to_owned()))
    })?;
    time("size filter alone", "no match, no bound", || {
        find(Pattern::All, Filter { size_min: Some(1 << 40), ..Filter::default() })
    })?;
    time("deleted alone", "no match, no bound", || {
        find(Pattern::All, Filter { deleted: true, ..Filter::default() })
    })
}

/// Every page of a search, to see that pages cost alike.
fn all_pages(catalog: &Catalog) -> anyhow::Result<()> {
    let start = Instant::now();
    let (mut pages, mut rows, mut after) = (0_u64, 0, None::<PageToken>);
    loop {
        let pattern = Pattern::Glob("*department-00?3/*.docx".to_owned());
        let query = Query { pattern, filter: Filter::default(), limit: 1000, after };
        let page = catalog.query(&query)?;
        (pages, rows) = (pages + 1, rows + page.rows.len());
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let each = start.elapsed().as_secs_f64() / pages as f64;
    report::line(&format!("each of {pages} pages of a thousand ({rows} results)"), &[each]);
    Ok(())
}

/// Runs it.
///
/// # Errors
/// If anything fails; slowness is printed and fails nothing.
pub fn run() -> anyhow::Result<()> {
    let directory = tempfile::tempdir().context("make a directory")?;
    for (name, load) in
        [("tree", load_tree as fn(&Catalog) -> anyhow::Result<()>), ("distinct", load_distinct)]
    {
        println!(" {name}");
        let place = directory.path().join(name);
        let catalog = open(&place)?;
        load(&catalog)?;
        size(&catalog);
        drop(catalog);
        let start = Instant::now();
        let catalog = open(&place)?;
        report::line("open", &[start.elapsed().as_secs_f64()]);
        ask(&catalog)?;
        all_pages(&catalog)?;
        let (now, peak) = resident();
        println!(
            "  {:<44} {:>10.1} MB now, {:.1} MB at most (bound: 500 MB)",
            "resident memory",
            now as f64 / 1e6,
            peak as f64 / 1e6
        );
    }
    load_unsorted(&open(&directory.path().join("shuffled"))?)
}

fn open(directory: &Path) -> anyhow::Result<Catalog> {
    Catalog::open(Arc::new(OsDisk), directory).context("open the catalog")
}
