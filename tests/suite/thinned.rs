//! Does every point that stays read exactly when segments are thinned, and is every other refused by its true neighbours?
//!
//! Random histories with rewinds, in small segments. Bookmarks and pins are set at random, segments are thinned to those,
//! and all points are looked at: at once, after tables were deleted and rebuilt, after a second thinning with fewer points
//! and after retention. Then a thinning is cut at each operation of the disk, and fails there, in each way.

use crate::history::seeds;
use journal::log::{LogOptions, verify};
use journal::tables::MemoryTables;
use journal::thin::Tiers;
use journal::{Class, JournalError, Lsn, RootNo, Tables, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tests::canonical::{Canonical, assert_equal};
use tests::lab::{Lab, copy_of};
use tests::model::{Generator, Options};
use tests::rng::Rng;
use tests::sim_disk::{Cut, Fault, SimDisk};
use tests::sim_tree::{DataChoice, Fate, SimTree};

/// Nothing stays for its age, and all is old enough.
const NAMED_ONLY: Tiers = Tiers { every: Duration::ZERO, minutes: Duration::ZERO };
/// Nothing stays for its age, and more is given up later.
const NOT_THE_LAST: Tiers = Tiers { every: Duration::ZERO, minutes: Duration::from_secs(1 << 33) };
const LATE: Timestamp = Timestamp(1 << 62);

fn open(disk: SimDisk, tree: Arc<SimTree>, tables: Arc<MemoryTables>) -> Result<Lab, JournalError> {
    let options = LogOptions { segment_bytes_max: 12 << 10, ..LogOptions::default() };
    Lab::open_with(disk, tree, tables, options)
}

/// A replica with a history, and what each point of it must show.
struct History {
    lab: Lab,
    points: BTreeMap<Lsn, Canonical>,
    named: BTreeSet<Lsn>,
    context: String,
}

fn options(seed: u64) -> Options {
    let small = Options { names_max: 3, revive: false, steps_max: 2, ..Options::default() };
    match seed % 3 {
        0 => Options { file_bytes_max: 16_000, block_bytes: 4_000, ..small },
        1 => Options { file_bytes_max: 140_000, write_bytes_max: 30_000, block_bytes: 7_000, ..small },
        _ => Options { file_bytes_max: 4_000, block_bytes: 500, ..small },
    }
}

impl History {
    fn new(seed: u64, rng: &mut Rng, turns: u64) -> History {
        let mut generator = Generator::new(seed, options(seed));
        let (disk, tree) = (SimDisk::new(), Arc::new(SimTree::new(1)));
        let mut lab = open(disk, tree, Arc::default()).expect("a new one");
        let mut points = BTreeMap::new();
        lab.synchronized(&mut generator);
        for turn in 0..turns {
            let batch: Vec<_> = (0..rng.below(12) + 4).map(|_| generator.next()).collect();
            let placed = lab.journal_them(&batch).expect("journal");
            lab.apply(&placed).unwrap_or_else(|error| panic!("seed {seed}: {error:?}"));
            if turn % 9 == 5 {
                let here = lab.journal.applied();
                lab.rewind(Lsn::captured(1 + rng.below(here.captured)));
                let branch = lab.journal.applied();
                points.insert(branch, lab.canonical(branch));
                lab.rewind(here);
            }
        }
        lab.move_cursor().expect("cursor");
        let oldest = lab.journal.window().0;
        let captured = generator.model.lsns().into_iter().filter(|lsn| *lsn >= oldest);
        points.extend(captured.map(|lsn| (lsn, generator.model.canonical_at(lsn, RootNo(0)))));
        History { lab, points, named: BTreeSet::new(), context: format!("seed {seed}") }
    }

    /// Gives names to some points, and pins others.
    fn name(&mut self, rng: &mut Rng, share: u64) {
        let chosen: Vec<Lsn> = self.points.keys().copied().filter(|_| rng.chance(1, share)).collect();
        for lsn in chosen {
            let name = format!("at {lsn}");
            match rng.below(2) {
                0 => drop(self.lab.journal.set_bookmark(&name, lsn, Class::Fuzzy, false, LATE).expect("set")),
                _ => drop(self.lab.journal.pin(lsn, "test").expect("pin")),
            }
            self.named.insert(lsn);
        }
    }

    fn thin(&self, tiers: Tiers, rng: &mut Rng) -> (u64, u64) {
        let (mut freed, mut points) = (0, 0);
        loop {
            let before: u64 = self.lab.journal.undo().segments().iter().map(|segment| segment.bytes).sum();
            let thinned = self.lab.journal.thin(tiers, LATE, 1 + rng.below(200_000)).expect("thin");
            let after: u64 = self.lab.journal.undo().segments().iter().map(|segment| segment.bytes).sum();
            assert_eq!(before - after, thinned.freed, "{}: bytes freed", self.context);
            (freed, points) = (freed + thinned.freed, points + thinned.points);
            if !thinned.more {
                return (freed, points);
            }
        }
    }

    /// Looks at all points; those that are refused. `shown` in ten of those that stay are read.
    fn look(&self, rng: &mut Rng, shown: u64, context: &str) -> BTreeSet<Lsn> {
        let context = format!("{}, {context}", self.context);
        let journal = &self.lab.journal;
        let window = journal.window();
        let all: Vec<Lsn> =
            self.points.keys().copied().filter(|lsn| *lsn >= window.0 && *lsn <= window.1).collect();
        let around: BTreeMap<Lsn, Option<(Lsn, Lsn)>> =
            all.iter().map(|lsn| (*lsn, journal.thinned_out(*lsn).expect("it can be told"))).collect();
        let refused: BTreeSet<Lsn> =
            around.iter().filter(|(_, a)| a.is_some()).map(|(lsn, _)| *lsn).collect();
        for (lsn, around) in &around {
            let Some((before, after)) = *around else {
                assert!(journal.lease(*lsn).is_ok(), "{context}: {lsn} is refused");
                if rng.chance(shown, 10) {
                    let found = self.lab.canonical(*lsn);
                    assert_equal(&self.points[lsn], &found, &format!("{context}, view at {lsn}"));
                }
                continue;
            };
            assert!(!self.named.contains(lsn), "{context}: {lsn} is named");
            assert!(
                before >= window.0 && before < *lsn && *lsn < after,
                "{context}: {lsn} in {before}, {after}"
            );
            let between: Vec<_> =
                all.iter().filter(|l| before <= **l && **l <= after && !refused.contains(l)).collect();
            // A local point that the model does not know may be next to it.
            assert!(between.iter().all(|l| **l == before || **l == after), "{context}: {lsn}: {between:?}");
            for side in [before, after] {
                assert!(journal.lease(side).is_ok(), "{context}: {side}, next to {lsn}, is refused");
            }
            let error = journal.pin(*lsn, "test").expect_err("a pin at a point that is gone");
            assert!(
                matches!(error, JournalError::Thinned { lsn: l, before: b, after: a } if (l, b, a) == (*lsn, before, after))
            );
        }
        refused
    }

    fn verify(&self) {
        let report = self.lab.journal.set().verify(&mut |_| {}).expect("it reads");
        assert!(report.is_sound(), "{}: {report:?}", self.context);
        let offline = verify(&self.lab.disk, Path::new("/j"), &mut |_| {}).expect("it reads");
        assert!(offline.is_sound(), "{}: {offline:?}", self.context);
        assert_eq!(report.thinned_payloads, offline.thinned_payloads);
        let scratch = || Ok::<_, JournalError>(Arc::new(MemoryTables::default()) as Arc<dyn Tables>);
        let tables =
            self.lab.journal.check_tables(&scratch, &mut |_| true).expect("it reads").expect("it ends");
        assert!(tables.is_sound(), "{}: {tables:?}", self.context);
    }

    /// Ends it and opens it again on this disk, without its tables.
    fn rebuilt(self) -> History {
        let (disk, tree, _) = self.lab.stop();
        let lab =
            open(disk, tree, Arc::default()).unwrap_or_else(|error| panic!("{}: {error:?}", self.context));
        History { lab, ..self }
    }
}

#[test]
fn points_that_stay_read_exactly_and_others_are_refused() {
    let (mut freed, mut gone, mut second, mut stayed) = (0, 0, 0, 0);
    for seed in seeds(9) {
        let mut rng = Rng::new(seed ^ 0x7a11);
        let mut history = History::new(seed, &mut rng, 30);
        history.name(&mut rng, [3, 10, 60][(seed % 3) as usize]);
        let (first_freed, first_gone) = history.thin(NOT_THE_LAST, &mut rng);
        assert_eq!(history.thin(NOT_THE_LAST, &mut rng), (0, 0), "{}: again", history.context);
        let refused = history.look(&mut rng, 5, "thinned");
        assert!(refused.len() as u64 <= first_gone, "{}", history.context);
        stayed += history.points.len() - refused.len();
        history.verify();
        let so_far = history.lab.journal.thinned_so_far().expect("sums");
        assert_eq!((so_far.bytes, so_far.points), (first_freed, first_gone), "{}", history.context);
        let mut history = history.rebuilt();
        assert_eq!(history.look(&mut rng, 3, "rebuilt"), refused, "{}", history.context);
        history.verify();
        // Fewer points: pins are released, and what is thinned is thinned again.
        let pins: Vec<_> =
            history.lab.journal.controls().pins.iter().map(|(pin, at)| (*pin, at.lsn())).collect();
        for (pin, lsn) in pins.into_iter().filter(|_| rng.chance(2, 3)) {
            history.lab.journal.control(journal::record::Control::Unpinned { pin }).expect("unpin");
            history.named.remove(&lsn);
        }
        second += history.thin(NAMED_ONLY, &mut rng).0;
        let fewer = history.look(&mut rng, 5, "thinned again");
        assert!(fewer.is_superset(&refused), "{}: what is gone came back", history.context);
        history.verify();
        let history = history.rebuilt();
        assert_eq!(history.look(&mut rng, 3, "rebuilt again"), fewer, "{}", history.context);
        // Old history goes, thinned or not.
        history.lab.retain(100 << 10).expect("retention");
        history.look(&mut rng, 5, "after retention");
        history.verify();
        (freed, gone) = (freed + first_freed, gone + fewer.len());
    }
    println!("freed {freed} and {second} bytes, {gone} points gone, {stayed} stayed");
    assert!(freed > 1 << 16 && second > 1 << 14 && gone > 400 && stayed > 400, "nothing was thinned");
}

impl History {
    /// Takes pins where it may, unless it is not known which points there are.
    fn live_on(&mut self, rng: &mut Rng) {
        let journal = &self.lab.journal;
        if self.points.keys().all(|lsn| journal.thinned_out(*lsn).is_ok()) {
            self.look(rng, 1, "alive");
        }
        for lsn in self.points.keys().filter(|_| rng.chance(1, 10)) {
            match self.lab.journal.pin(*lsn, "alive") {
                Ok(_) => drop(self.named.insert(*lsn)),
                Err(JournalError::Thinned { .. } | JournalError::Poisoned { .. }) => {}
                Err(error) => panic!("{}: {error:?}", self.context),
            }
        }
    }
}

/// A copy of a replica that was stopped.
fn copy(
    (disk, tree, tables): &(SimDisk, Arc<SimTree>, Arc<MemoryTables>),
    rng: &mut Rng,
) -> (SimDisk, Arc<SimTree>, Arc<MemoryTables>) {
    let tree_now = tree.crash_at(tree.pending().metadata, &DataChoice::All(Fate::Kept));
    (disk.crash(Cut::Everything, rng), Arc::new(tree_now), copy_of(tables))
}

#[test]
fn a_thinning_that_is_cut_anywhere_has_happened_or_not() {
    let (mut cuts, mut before_it, mut after_it) = (0, 0, 0);
    for seed in seeds(3) {
        let mut rng = Rng::new(seed ^ 0xc07);
        let mut history = History::new(seed, &mut rng, 6 + 2 * (seed % 3));
        history.name(&mut rng, 12);
        // The second of two thinnings is the one that is cut in half of the histories.
        if seed % 2 == 1 {
            history.thin(NOT_THE_LAST, &mut rng);
        }
        let refused = history.look(&mut rng, 1, "before");
        let History { lab, points, named, context } = history;
        let stopped = lab.stop();
        let mut operation = 0;
        loop {
            operation += if operation < 16 { 1 } else { 1 + rng.below(4) };
            let fault = [Fault::Io, Fault::Full, Fault::FullLate][rng.below(3) as usize];
            let cut = Cut::ALL[rng.below(Cut::ALL.len() as u64) as usize];
            let context = format!("{context}, {fault:?} at {operation}, {cut:?}");
            let (disk, tree, tables) = copy(&stopped, &mut rng);
            let lab = open(disk.clone(), Arc::clone(&tree), tables).expect("it opens");
            let upto = disk.operations() + operation;
            disk.fail_from(upto, fault);
            let outcome = lab.journal.thin(NAMED_ONLY, LATE, u64::MAX);
            let failed = disk.operations() >= upto;
            assert!(failed || outcome.is_ok(), "{context}: {outcome:?}");
            let (points, named) = (points.clone(), named.clone());
            let (mut history, keep) = (History { lab, points, named, context }, rng.chance(1, 2));
            // What it says while it lives on, and what it lets in then, holds.
            disk.heal();
            history.live_on(&mut rng);
            let History { lab, points: of, named: by, context } = history;
            let kept = if keep { copy_of(&lab.tables) } else { Arc::default() };
            drop(lab);
            let disk = disk.crash(cut, &mut rng);
            let lab = open(disk, tree, kept).unwrap_or_else(|error| panic!("{context}: {error:?}"));
            let history = History { lab, points: of, named: by, context };
            let now = history.look(&mut rng, 1, "opened again");
            assert!(now.is_superset(&refused), "{}: what was gone is back", history.context);
            (before_it, after_it) =
                (before_it + u64::from(now == refused), after_it + u64::from(now != refused));
            let stray: Vec<_> =
                history.lab.disk.paths().into_iter().filter(|path| is_stray(path, &history.lab)).collect();
            assert!(stray.is_empty(), "{}: {stray:?}", history.context);
            history.verify();
            history.thin(NAMED_ONLY, &mut rng);
            history.look(&mut rng, 1, "thinned in the end");
            cuts += 1;
            if !failed {
                break;
            }
        }
    }
    println!("{cuts} cuts, {before_it} before it counted, {after_it} after");
    assert!(cuts > 25 && before_it > 8 && after_it > 8, "{cuts} cuts, {before_it} before, {after_it} after");
}

/// Whether a segment file is there that does not count: each segment has just one.
fn is_stray(path: &Path, lab: &Lab) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let Some((number, rest)) = name.split_once(".undo") else { return false };
    let number: u64 = number.parse().expect("a number");
    let segments = lab.journal.undo().segments();
    segments
        .iter()
        .find(|info| info.number == number)
        .is_none_or(|info| info.is_thinned != rest.starts_with(".thin."))
}

#[test]
fn readers_go_on_while_their_segments_are_replaced() {
    let mut rng = Rng::new(0x4ead);
    let mut history = History::new(1, &mut rng, 20);
    history.name(&mut rng, 8);
    let named: Vec<Lsn> = history.named.iter().copied().collect();
    let leased = named[named.len() / 3].successor();
    let leased = *history.points.range(leased..).next().expect("a point").0;
    let journal = Arc::clone(&history.lab.journal);
    std::thread::scope(|scope| {
        let lease = journal.lease(leased).expect("a lease");
        let readers: Vec<_> = (0..3_u64)
            .map(|number| {
                let (history, named) = (&history, &named);
                scope.spawn(move || {
                    for turn in 0..3 {
                        let at = if number == 0 {
                            leased
                        } else {
                            named[(turn * 7 + number as usize) % named.len()]
                        };
                        assert_equal(
                            &history.points[&at],
                            &history.lab.canonical(at),
                            &format!("beside thinning, {at}"),
                        );
                    }
                })
            })
            .collect();
        let thinned = journal.thin(NAMED_ONLY, LATE, u64::MAX).expect("thin");
        assert!(thinned.segments > 1, "{thinned:?}");
        for reader in readers {
            reader.join().expect("a reader");
        }
        drop(lease);
    });
    assert!(journal.thinned_out(leased).expect("told").is_none(), "a lease holds its point");
}

/// What the thinning of a history gives up, and what stays of it.
fn thinned(mut history: History, hold: impl FnOnce(&mut History)) -> (History, BTreeSet<Lsn>) {
    let mut rng = Rng::new(0x401d);
    hold(&mut history);
    history.thin(NAMED_ONLY, &mut rng);
    let refused = history.look(&mut rng, 0, "held");
    (history, refused)
}

/// The same history each time, and a point of it that goes if nothing holds it, with those next to it.
fn same_history() -> History {
    History::new(2, &mut Rng::new(0x5a3e), 14)
}

impl History {
    fn shows(&self, lsn: Lsn, what: &str) {
        assert!(self.lab.journal.lease(lsn).is_ok(), "{what} does not hold {lsn}");
        assert_equal(&self.points[&lsn], &self.lab.canonical(lsn), &format!("{what} at {lsn}"));
    }

    fn pin(&self, lsn: Lsn) -> u64 {
        self.lab.journal.pin(lsn, "test").expect("pin")
    }
}

/// Each of them by itself: a thinning that forgets one gives its point up.
#[test]
fn whatever_holds_a_point_keeps_it() {
    let (_, all) = thinned(same_history(), |_| {});
    let captured: Vec<Lsn> = all.iter().copied().filter(|lsn| !lsn.is_local()).collect();
    assert!(captured.len() > 20, "{all:?}");
    let held = captured[captured.len() / 2];
    let check = |what: &str, hold: &dyn Fn(&mut History)| {
        let (history, refused) = thinned(same_history(), |history| hold(history));
        history.shows(held, what);
        assert!(refused.len() > 10, "{what}: hardly anything was given up");
    };
    for (name, automatic) in [("a bookmark", false), ("an automatic bookmark", true)] {
        check(name, &|history| {
            let set = history.lab.journal.set_bookmark(name, held, Class::Fuzzy, automatic, LATE);
            set.expect("a bookmark");
        });
    }
    check("a pin", &|history| {
        history.pin(held);
    });
    check("the horizon", &|history| {
        let pin = history.pin(held);
        history.lab.retain(1).expect("retention");
        assert_eq!(history.lab.journal.window().0, held);
        history.lab.journal.control(journal::record::Control::Unpinned { pin }).expect("unpin");
    });
    let history = same_history();
    let journal = Arc::clone(&history.lab.journal);
    let lease = journal.lease(held).expect("a lease");
    thinned(history, |_| {}).0.shows(held, "a lease");
    drop(lease);
}

/// A rewound replica goes back to where it stood, also if nothing names that point and all around it is old.
#[test]
fn a_detached_replica_keeps_the_point_it_returns_to() {
    let mut history = same_history();
    let home = history.lab.journal.applied();
    assert!(!home.is_local());
    let back = |lsn: Lsn, by: u64| Lsn::captured(lsn.captured - by);
    let why = "rewind".to_owned();
    history.lab.journal.control(journal::record::Control::Detached { why }).expect("detached");
    let sealed = |history: &History| history.lab.journal.undo().segments().len();
    let before = sealed(&history);
    for turn in 0_u64.. {
        history.lab.rewind(back(home, 4 + 9 * (turn % 5)));
        if sealed(&history) > before + 3 {
            break;
        }
    }
    history.lab.move_cursor().expect("cursor");
    let (mut history, refused) = thinned(history, |_| {});
    assert!(refused.len() > 10, "hardly anything was given up");
    history.shows(home, "a detached replica");
    history.lab.rewind(home);
    let tree = tests::canonical::dump(&*history.lab.tree, RootNo(0)).expect("dump");
    assert_equal(&history.points[&home], &tree, "back home");
}

/// Bytes of redo, and of undo as it was, with a point a minute, and with none that nobody named.
struct Sizes {
    redo: u64,
    undo: [u64; 3],
}

/// A change a second of one of 16 pages of a file: of some rows in it, or of all of it.
fn sizes(whole_pages: bool) -> Sizes {
    const PAGE: usize = 8 << 10;
    let (disk, tree) = (SimDisk::new(), Arc::new(SimTree::new(1)));
    let log = LogOptions { segment_bytes_max: 256 << 10, ..LogOptions::default() };
    let mut lab = Lab::open_with(disk, tree, Arc::default(), log).expect("a new one");
    let mut generator = Generator::new(7, options(0));
    lab.synchronized(&mut generator);
    let (mut rng, mut pages) = (Rng::new(0x9a6e), vec![vec![0_u8; PAGE]; 16]);
    let node = journal::NodeId(1 << 40);
    let mut changes = vec![new_file(node)];
    for _ in 0..2000 {
        let page = rng.below(pages.len() as u64) as usize;
        for _ in 0..3 {
            let row = rng.below(PAGE as u64 / 200) as usize * 200;
            let fresh = rng.bytes(200);
            pages[page][row..row + 200].copy_from_slice(&fresh);
        }
        if whole_pages {
            pages[page] = rng.bytes(PAGE);
        }
        let data = journal::Payload::Inline(pages[page].clone().into());
        changes.push(vec![journal::Event::Write { node, offset: (page * PAGE) as u64, data, before: None }]);
    }
    let begin = generator.model.last().captured;
    for (number, some) in (0_u64..).zip(changes.chunks(40)) {
        let captures: Vec<_> = some.iter().zip(1 + begin + 40 * number..).map(capture_at).collect();
        let placed = lab.journal_them(&captures).expect("journal");
        lab.apply(&placed).unwrap_or_else(|error| panic!("{error:?}"));
    }
    lab.move_cursor().expect("cursor");
    let bytes = |log: &journal::log::Log| log.segments().iter().map(|segment| segment.bytes).sum::<u64>();
    let (now, hour) = (Timestamp(SECOND * 100_000), Duration::from_secs(3600));
    let thinned = |minutes| {
        lab.journal.thin(Tiers { every: hour, minutes }, now, u64::MAX).expect("thin");
        bytes(lab.journal.undo())
    };
    let before = bytes(lab.journal.undo());
    Sizes { redo: bytes(lab.journal.redo()), undo: [before, thinned(100 * hour), thinned(hour)] }
}

/// What is won is printed: undo of pages written anew is all payload, that of rows is hardly more than its records.
#[test]
fn pages_that_are_rewritten_give_their_undo_back() {
    for (what, whole_pages, parts) in [("rows in pages", false, [9, 8]), ("whole pages", true, [7, 5])] {
        let Sizes { redo, undo: [whole, by_minute, named] } = sizes(whole_pages);
        println!("{what}: redo {redo}; undo {whole}, with a point a minute {by_minute}, with none {named}");
        assert!(by_minute * 10 < whole * parts[0] && named * 10 < whole * parts[1], "{what}");
    }
}

const SECOND: i64 = 1_000_000_000;

fn capture_at((events, captured): (&Vec<journal::Event>, u64)) -> journal::Capture {
    journal::Capture {
        lsn: Lsn::captured(captured),
        time: Timestamp(SECOND * captured as i64),
        provenance: journal::Provenance::Exact,
        root: RootNo(0),
        path: b"table".to_vec(),
        events: events.clone(),
    }
}

/// Creates a file that nobody else makes.
fn new_file(node: journal::NodeId) -> Vec<journal::Event> {
    let name = journal::Name::new(b"table").expect("a name");
    let at = journal::Edge::new(journal::NodeId::root(RootNo(0)), name);
    let attributes =
        journal::Attributes { mode: 0o600, uid: 0, gid: 0, mtime: Timestamp(1), ctime: Timestamp(1) };
    let (kind, xattrs) = (journal::Kind::File, journal::Xattrs::new());
    let meta = journal::Meta { kind, size: 0, attributes, xattrs };
    vec![journal::Event::Create { node, at, meta, origin: None, parent_mtime: None }]
}
