//! Does a search of points give just what a look at all of them gives, whatever blocks there are, and read little?
//!
//! Random histories with renames, names that come again, detached turns, retention, restarts and rebuilds, and blocks of
//! points of random sizes made at random times or lost; random globs, kinds, times and limits. Then points made by hand,
//! with all that a row may hold; and rows are counted where few points among many are asked for.

use crate::history::seeds;
use api::engine::PointKind;
use api::globs::PathGlobs;
use api::point_filter::PointFilter;
use journal::journal::Journal;
use journal::log::LogOptions;
use journal::state::rows;
use journal::state::summary::{BLOCK_POINTS, Summarizer, block_key};
use journal::state::{PointKind as RowKind, PointRow};
use journal::tables::{Frozen, MemoryTables};
use journal::{
    Capture, Class, Event, JournalError, Lsn, Marker, Part, Provenance, Put, RootNo, Row, Space, Tables,
    Timestamp,
};
use replication::replica::{Replica, ReplicaOptions};
use restore::Points;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tests::lab::{Lab, SameTables, StillClock};
use tests::model::{Generator, Options};
use tests::rng::Rng;
use tests::sim_disk::SimDisk;
use tests::sim_tree::SimTree;

const KINDS: [PointKind; 7] = [
    PointKind::Created,
    PointKind::Modified,
    PointKind::Renamed,
    PointKind::Removed,
    PointKind::Attributes,
    PointKind::Bookmark,
    PointKind::Marker,
];

/// Points as they are in the tables, oldest first.
fn all(tables: &dyn Tables, oldest: Lsn) -> Vec<(Lsn, PointRow)> {
    let rows = tables.range(Space::Points, &oldest.to_key(), &Lsn::MAX.to_key());
    let row = |row: Result<Row, JournalError>| {
        let (key, value) = row.unwrap();
        (Lsn::from_key(&key).unwrap(), rows::read(Space::Points, &value).unwrap())
    };
    rows.map(row).collect()
}

/// A glob that is likely to match something, made of a path that was there.
fn glob(rng: &mut Rng, path: &str) -> String {
    let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
    let relative = match rng.below(9) {
        0 => path.to_owned(),
        1 => format!("{above}/**").trim_start_matches('/').to_owned(),
        2 => format!("*.{ending}"),
        3 => format!("**/{name}"),
        4 => format!("*{}", name.chars().last().unwrap_or('x')),
        5 => format!("*{name}*"),
        6 => format!("{{{path},nobody}}"),
        7 => path.replacen(|c: char| c.is_ascii_alphanumeric(), "?", 1),
        _ => format!("{}*", path.split('/').next().unwrap_or_default()),
    };
    let whole = ["/srv/docs/", "/srv/*/", "/srv/docs.d/", "/home/"];
    match rng.below(3) {
        0 => format!("{}{relative}", rng.pick(&whole).unwrap()),
        _ => relative,
    }
}

struct Asked {
    globs: Option<(String, PathGlobs)>,
    kinds: Vec<PointKind>,
    times: (Option<Timestamp>, Option<Timestamp>),
}

fn ask(rng: &mut Rng, points: &[(Lsn, PointRow)]) -> Asked {
    let path = |rng: &mut Rng| {
        let (_, row) = rng.pick(points).unwrap();
        let path = row.from.as_ref().filter(|_| rng.chance(1, 2)).unwrap_or(&row.path);
        String::from_utf8_lossy(path).replace(['{', '}', '[', ']', '\\', '*', '?'], "x")
    };
    let globs = rng.chance(3, 4).then(|| {
        let path = path(rng);
        let text = glob(rng, &path);
        let globs = PathGlobs::new([text.as_str()]).unwrap_or_else(|error| panic!("{text}: {error:?}"));
        (text, globs)
    });
    let kinds = (0..rng.below(3)).map(|_| *rng.pick(&KINDS).unwrap()).collect();
    let mut time =
        || rng.chance(1, 3).then(|| Timestamp(rng.pick(points).unwrap().1.time.0 + rng.below(3) as i64 - 1));
    Asked { globs, kinds, times: (time(), time()) }
}

/// How many points were found.
fn compare(points: &Points<'_>, tables: &dyn Tables, oldest: Lsn, rng: &mut Rng, context: &str) -> usize {
    let all = all(tables, oldest);
    let Asked { globs, kinds, times: (since, until) } = ask(rng, &all);
    let roots = vec![PathBuf::from("/srv/docs"), PathBuf::from("/srv/docs.d")];
    let text = globs.as_ref().map(|(text, _)| text.clone());
    let paths = globs.as_ref().map(|(_, globs)| globs);
    let filter = PointFilter { kinds: &kinds, paths, roots, since, until };
    let mut marks: Vec<Lsn> = (0..rng.below(3)).map(|_| rng.pick(&all).unwrap().0).collect();
    marks.sort_unstable();
    let limit = if rng.chance(1, 3) { rng.below(5) as usize } else { usize::MAX };
    let context = format!("{context}: {text:?} {kinds:?} {since:?}..{until:?} limit {limit}");

    let expected: Vec<_> =
        all.iter().rev().filter(|(_, row)| filter.takes(row)).take(limit).cloned().collect();
    let search =
        || points.search(filter.wanted(marks.clone())).expect("search").map(|found| found.expect("read"));
    let found: Vec<_> = search().filter(|(_, row)| filter.takes(row)).take(limit).collect();
    assert!(found == expected, "{context}:\n{found:#?}\nand not\n{expected:#?}");
    if filter.takes_bookmarks() && until.is_none() {
        let seen: Vec<Lsn> = search().map(|(lsn, _)| lsn).collect();
        assert!(marks.iter().all(|mark| seen.contains(mark)), "{context}: {marks:?} in {seen:?}");
    }
    found.len()
}

fn forget_blocks(tables: &MemoryTables) {
    let rows = tables.range(Space::PointBlocks, &[], &[0xff; 40]);
    tables.commit(rows.map(|row| (Space::PointBlocks, row.unwrap().0, None)).collect()).unwrap();
}

/// To an old point and back while captures wait that are journaled already, with the time the replica gives its changes.
fn detached(lab: &mut Lab, generator: &mut Generator, rng: &mut Rng) {
    let here = lab.journal.applied();
    let waiting: Vec<_> = (0..rng.below(6)).map(|_| generator.next()).collect();
    let waiting = lab.journal_them(&waiting).expect("journal");
    let oldest = lab.journal.window().0.captured.max(1);
    for to in [Lsn::captured(oldest + rng.below(here.captured - oldest + 1)), Lsn::captured(here.captured)] {
        let mut captures = lab.captures_to(to);
        for capture in &mut captures {
            capture.time = lab.journal.journaled_time();
        }
        let placed = lab.journal_them(&captures).expect("journal");
        for some in placed.chunks(5) {
            lab.apply(some).unwrap_or_else(|error| panic!("to {to}: {error:?}"));
        }
    }
    lab.apply(&waiting).unwrap_or_else(|error| panic!("{error:?}"));
}

#[test]
fn any_search_gives_what_a_look_at_all_points_gives() {
    for seed in seeds(16) {
        let mut rng = Rng::new(seed ^ 0x5ea_4c4);
        let options = Options { revive: false, names_max: 14, write_bytes_max: 20_000, ..Options::default() };
        let mut generator = Generator::new(seed, options);
        let mut lab = Lab::new();
        lab.synchronized(&mut generator);
        let mut found = 0;
        for turn in 0..40 {
            let batch: Vec<_> = (0..rng.below(12) + 1).map(|_| generator.next()).collect();
            let placed = lab.journal_them(&batch).expect("journal");
            lab.apply(&placed).unwrap_or_else(|error| panic!("seed {seed}: {error:?}"));
            if turn % 8 == 5 {
                detached(&mut lab, &mut generator, &mut rng);
            }
            lab.move_cursor().expect("cursor");
            for _ in 0..rng.below(4) {
                lab.journal.summarize_points_by(1 + rng.below(9) as usize).expect("summarize");
            }
            if rng.chance(1, 8) {
                lab.retain(300 << 10).expect("retention");
            }
            if rng.chance(1, 10) {
                let (disk, tree, tables) = lab.stop();
                let tables = match rng.below(3) {
                    0 => Arc::default(),
                    // As made by a program that knows nothing of blocks.
                    1 => {
                        forget_blocks(&tables);
                        tables
                    }
                    _ => tables,
                };
                lab = Lab::open(disk, tree, tables).expect("open");
            }
            let oldest = lab.journal.window().0;
            for _ in 0..6 {
                let context = format!("seed {seed} turn {turn}");
                found += compare(&Points::of(&lab.journal), &*lab.tables, oldest, &mut rng, &context);
            }
        }
        assert!(found > 100, "seed {seed}: {found}");
        let scratch = || Ok::<_, JournalError>(Arc::new(MemoryTables::default()) as Arc<dyn Tables>);
        let report = lab.journal.check_tables(&scratch, &mut |_| true).expect("the segments read").unwrap();
        assert!(report.is_sound(), "seed {seed}: {:#?}", report.differences);
    }
}

fn made(rng: &mut Rng, time: i64) -> PointRow {
    let kinds = [
        RowKind::Renamed,
        RowKind::Modified,
        RowKind::Created,
        RowKind::Removed,
        RowKind::Attributes,
        RowKind::Marker,
    ];
    // Kinds come in stretches, and some are rare.
    let kind = if rng.chance(1, 30) { *rng.pick(&kinds).unwrap() } else { kinds[time as usize / 200 % 2] };
    let names = ["a", "b.x", "c.tar.gz", ".hidden", "d.", "e f"];
    let mut path = || {
        let depth = rng.below(4);
        let mut path: Vec<String> = (0..depth).map(|_| (*rng.pick(&names).unwrap()).to_owned()).collect();
        path.push(format!("file-{}", rng.below(3000)));
        let odd = ["/", "//", ""];
        match rng.below(200) {
            at @ 0..3 => path.join("/") + odd[at as usize],
            3 => String::new(),
            4..20 => path[..depth as usize].join("/"),
            _ => path.join("/"),
        }
        .into_bytes()
    };
    PointRow {
        time: Timestamp(time),
        kind,
        root: RootNo((time % 3) as u16),
        path: path(),
        from: (kind == RowKind::Renamed).then(path),
        bytes: 0,
        provenance: Provenance::Derived,
        class: Class::Fuzzy,
    }
}

fn put(tables: &dyn Tables, lsn: Lsn, row: &PointRow) {
    tables.commit(vec![(Space::Points, lsn.to_key().to_vec(), Some(rows::write(row)))]).unwrap();
}

#[test]
fn any_rows_are_found() {
    for seed in seeds(6) {
        let mut rng = Rng::new(seed);
        let tables = MemoryTables::default();
        let mut summarizer = Summarizer::default();
        let (mut lsn, mut found) = (Lsn::captured(rng.below(9)), 0);
        let oldest = lsn;
        for time in 0..1200 {
            let local = time % 97 > 90;
            lsn = if local { lsn.successor() } else { Lsn::captured(lsn.captured + 1 + rng.below(2)) };
            // Local points may be of the time of what waits behind them.
            let ahead = if local { rng.below(9) as i64 } else { 0 };
            let row = made(&mut rng, time + ahead);
            put(&tables, lsn, &row);
            if rng.chance(1, 12) {
                summarizer.step(&tables, (oldest, lsn), 1 + rng.below(60) as usize).unwrap();
            }
            if rng.chance(1, 200) {
                summarizer = Summarizer::default();
            }
            if rng.chance(1, 300) {
                forget_blocks(&tables);
            }
            if rng.chance(1, 4) {
                let window = Points::new(&tables, oldest, lsn);
                found += compare(&window, &tables, oldest, &mut rng, &format!("seed {seed} at {lsn}"));
            }
        }
        assert!(found > 1000, "seed {seed}: {found}");
    }
}

/// Tables that count the rows read from them.
#[derive(Default)]
struct Counted {
    tables: MemoryTables,
    points: AtomicUsize,
    blocks: AtomicUsize,
}

impl Counted {
    fn count(&self, space: Space) {
        match space {
            Space::Points => self.points.fetch_add(1, Ordering::Relaxed),
            Space::PointBlocks => self.blocks.fetch_add(1, Ordering::Relaxed),
            _ => 0,
        };
    }

    /// Points and blocks read since the last call.
    fn counted(&self) -> (usize, usize) {
        (self.points.swap(0, Ordering::Relaxed), self.blocks.swap(0, Ordering::Relaxed))
    }
}

impl Tables for Counted {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, JournalError> {
        self.count(space);
        self.tables.get(space, key)
    }

    fn range<'a>(
        &'a self,
        space: Space,
        from: &[u8],
        to: &[u8],
    ) -> Box<dyn DoubleEndedIterator<Item = Result<Row, JournalError>> + 'a> {
        Box::new(self.tables.range(space, from, to).inspect(move |_| self.count(space)))
    }

    fn commit(&self, batch: Vec<Put>) -> Result<(), JournalError> {
        self.tables.commit(batch)
    }

    fn frozen(&self) -> Box<dyn Frozen> {
        self.tables.frozen()
    }

    fn persist(&self) -> Result<(), JournalError> {
        Ok(())
    }

    fn settle(&self) -> Result<bool, JournalError> {
        Ok(false)
    }
}

#[test]
fn few_points_among_many_cost_little() {
    const POINTS: u64 = 30 * BLOCK_POINTS as u64 + 500;
    let tables = Counted::default();
    let rare = BTreeMap::from([
        (7_000, "deep/er/rare.docx"),
        (7_001, "deep/er/rare.docx"),
        (90_000, "deep/other.docx"),
    ]);
    for n in 0..POINTS {
        let is_marker = n == 50_000;
        let path = rare
            .get(&n)
            .map_or_else(|| format!("busy/{}/file-{}", n % 70, n * 7919 % 50_000), ToString::to_string);
        let row = PointRow {
            time: Timestamp(n as i64),
            kind: if is_marker { RowKind::Marker } else { RowKind::Modified },
            root: RootNo(0),
            path: path.into_bytes(),
            from: None,
            bytes: 1,
            provenance: Provenance::Derived,
            class: Class::Fuzzy,
        };
        put(&tables, Lsn::captured(n), &row);
    }
    let points = Points::new(&tables, Lsn::ZERO, Lsn::captured(POINTS - 1));
    let ask = |glob: Option<&str>, kinds: &[PointKind], since: Option<i64>| {
        let globs = glob.map(|glob| PathGlobs::new([glob]).unwrap());
        let filter = PointFilter {
            kinds,
            paths: globs.as_ref(),
            roots: vec![PathBuf::from("/srv/docs")],
            since: since.map(Timestamp),
            until: None,
        };
        let found: Vec<u64> = points
            .search(filter.wanted(Vec::new()))
            .unwrap()
            .map(|found| found.unwrap())
            .filter(|(_, row)| filter.takes(row))
            .map(|(lsn, _)| lsn.captured)
            .collect();
        let (points, blocks) = tables.counted();
        (found, points, blocks)
    };
    let exact = Some("/srv/docs/deep/er/rare.docx");
    tables.counted();
    // Tables of a program that made no blocks: right, and slow.
    assert_eq!(ask(exact, &[], None), (vec![7_001, 7_000], POINTS as usize, 0));

    let mut summarizer = Summarizer::default();
    while summarizer.step(&tables, (Lsn::ZERO, Lsn::captured(POINTS - 1)), BLOCK_POINTS).unwrap() {}
    // Each point was read once for it.
    assert_eq!(tables.counted().0, POINTS as usize);
    let one = BLOCK_POINTS;
    for (glob, kinds, since, expected, blocks_read) in [
        (exact, &[][..], None, vec![7_001, 7_000], 1),
        (Some("/srv/docs/deep/**"), &[], None, vec![90_000, 7_001, 7_000], 2),
        (Some("*.docx"), &[], None, vec![90_000, 7_001, 7_000], 2),
        (Some("**/rare.docx"), &[], None, vec![7_001, 7_000], 1),
        (Some("deep/er/rare.docx"), &[PointKind::Removed], None, vec![], 0),
        (Some("/home/**"), &[], None, vec![], 0),
        (None, &[PointKind::Marker], None, vec![50_000], 1),
        (None, &[PointKind::Modified], Some(POINTS as i64 - 700), (POINTS - 700..POINTS).rev().collect(), 1),
    ] {
        let (found, points, blocks) = ask(glob, kinds, since);
        assert_eq!(found, expected, "{glob:?} {kinds:?}");
        // What no block speaks of yet, and room for one filter that errs.
        let most = blocks_read * one + 500 + one;
        assert!(points <= most, "{glob:?} {kinds:?} read {points} points");
        assert!(blocks <= 2 * 30 + 1, "{glob:?} {kinds:?} read {blocks} rows of blocks");
    }
}

/// Behind apply, also of points that were there before this program made blocks.
#[test]
fn a_replica_makes_blocks_of_what_it_has() {
    const SOON: Duration = Duration::from_secs(60);
    let (disk, tree, tables) = (SimDisk::new(), Arc::new(SimTree::new(1)), Arc::<MemoryTables>::default());
    let start = || {
        let factory = SameTables(Arc::clone(&tables));
        let (disk, clock) = (Arc::new(disk.clone()), Arc::new(StillClock));
        let opened = Journal::open(disk, Path::new("/j"), LogOptions::default(), &factory, clock).unwrap();
        let options = ReplicaOptions { cursor_every: Duration::from_millis(1), ..ReplicaOptions::default() };
        Replica::start(opened, Arc::clone(&tree), options).unwrap()
    };
    let blocks = || tables.range(Space::PointBlocks, &block_key(Lsn::ZERO), &block_key(Lsn::MAX)).count();
    let wait = || {
        let since = Instant::now();
        while blocks() < 2 {
            assert!(since.elapsed() < SOON, "{} blocks", blocks());
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    let replica = start();
    let last = 2 * BLOCK_POINTS as u64 + 10;
    let mut parts: Vec<Part> = Vec::new();
    for n in 1..=last {
        let completed = Marker::SynchronizationCompleted { files: 0, directories: 0, bytes: 0 };
        let mark = if n == 1 { completed } else { Marker::Barrier { cookie: n, class: Class::Fuzzy } };
        let capture = Capture {
            lsn: Lsn::captured(n),
            time: Timestamp(n as i64),
            provenance: Provenance::Derived,
            root: RootNo(0),
            path: Vec::new(),
            events: vec![Event::Mark(mark)],
        };
        parts.push(Part { number: 0, last: true, capture });
    }
    for some in parts.chunks(64) {
        replica.ingest(some.to_vec(), |durable| assert!(durable.is_ok(), "{durable:?}"));
    }
    assert!(replica.journal().wait_applied(Lsn::captured(last), SOON));
    wait();
    replica.stop(SOON);
    drop(replica);
    forget_blocks(&tables);
    let replica = start();
    wait();
    replica.stop(SOON);
}
