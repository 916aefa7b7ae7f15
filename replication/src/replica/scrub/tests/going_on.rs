//! Scrubs that are cut off, and go on.

use super::*;
use crate::replica::scrub::cursor::{self, Of, Position, Step};
use journal::state::links_of;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

const FILES: [&str; 11] =
    ["a", "d/a", "d/b", "d/e/a", "d/f/a", "d/f/b", "g/h/i/a", "g/h/i/b", "m/n/o", "m/p", "z"];
/// Of them, what differs.
const DIFFER: [&str; 7] = ["g/h/i/a", "g/h/i/b", "d/f/b", "d/a", "a", "m/n/o", "m/p"];

/// Bytes of which nobody knows another place.
fn rot(bench: &Bench, name: &str) {
    let mut rotten = contents(name);
    rotten[1] ^= 1;
    put(&bench.replica(name), &rotten);
}

/// Differs in directories at the beginning, in the middle and at the end of the walk, and has strange names.
fn bench() -> Bench {
    let bench = Bench::new(&FILES);
    for name in ["g/h/i/a", "d/f/b", "d/a", "a"] {
        rot(&bench, name);
    }
    // A file, and a directory with all that is in it.
    fs::remove_file(bench.replica("g/h/i/b")).unwrap();
    rest(&bench.replica("g/h/i"));
    fs::remove_dir_all(bench.replica("m")).unwrap();
    for name in ["d/f/strange", "d/f/stranger", "strange"] {
        put(&bench.replica(name), b"whose?");
        put(&bench.master(&format!("{name}.2")), b"missed");
    }
    rest(&bench.replica("d/f"));
    rest(&bench.master("d/f"));
    bench.unreadable.replace(b"d/e/a".to_vec());
    bench
}

fn told(report: &ScrubReport) -> String {
    let mut differs: Vec<_> =
        report.differences.iter().map(|one| (one.path.clone(), one.what, one.side, one.repaired)).collect();
    differs.sort_by(|a, b| a.0.cmp(&b.0));
    let (sums, passed, counts) = (&report.sums, &report.passed, (report.found, report.repaired));
    let left = (sums.replica_differs, sums.master_differs, sums.passed);
    format!("{differs:?} {passed:?} {counts:?} {} {} {} {left:?}", sums.entries, sums.files, sums.bytes)
}

fn options(bench: &Bench, repair: bool) -> ScrubOptions {
    let from = bench.cursor.borrow().clone();
    ScrubOptions { repair, roots: 1, asker: 7, from, ..ScrubOptions::default() }
}

/// Scrubs, cut off whenever the host was told so often, as `often` says each time; `between` happens after each cut. How
/// many cuts there were.
fn in_pieces(
    bench: &Bench,
    options: impl Fn() -> ScrubOptions,
    mut often: impl FnMut() -> u64,
    mut between: impl FnMut(usize),
) -> (ScrubReport, usize) {
    let (mut report, mut cuts) = (ScrubReport::default(), 0);
    loop {
        bench.stops.set(Some(often()));
        match bench.replica.scrub(options(), bench, &mut report) {
            Ok(()) => return (report, cuts),
            Err(ScrubError::Interrupted) => cuts += 1,
            Err(error) => panic!("{error}"),
        }
        assert!(cuts < 400, "it never comes to its end");
        between(cuts);
    }
}

/// So many steps, and every other time enough to put something right: who is always cut off before that never ends.
fn steps(few: u64) -> impl FnMut() -> u64 {
    let mut turn = 0;
    move || {
        turn += 1;
        if turn % 2 == 0 { few.max(3) } else { few }
    }
}

/// Cut off after every step or few, it finds what one finds that is not, and asks for nothing twice.
#[test]
fn a_scrub_goes_on_where_it_was_cut_off() {
    for repair in [false, true] {
        let whole = bench().found(repair);
        assert_eq!((whole.differences.len(), whole.passed.len()), (14 + usize::from(repair), 1), "{whole:?}");
        for few in [1, 2, 3, 5] {
            let bench = bench();
            let (report, cuts) = in_pieces(&bench, || options(&bench, repair), steps(few), |_| {});
            assert!(cuts > 1, "it was cut off {cuts} times");
            assert_eq!(told(&report), told(&whole), "after {few} steps each, repair {repair}");
            for difference in report.differences.iter().filter(|one| one.what == "extra" && one.repaired) {
                let place = bench.place.path().join(".root.rewind/kept");
                assert!(place.join(difference.aside.as_ref().unwrap()).exists(), "{difference:?}");
            }
            // Told as soon as it is sure, and what was not seen to its end once more.
            let told = bench.told.borrow();
            for one in &report.differences {
                let last = told.iter().rfind(|told| told.0 == one.path);
                assert_eq!(last.map(|told| told.1), Some(one.repaired), "{one:?} of {told:?}");
            }
            let asked = bench.asked.borrow();
            for name in FILES.iter().filter(|name| !DIFFER.contains(name)) {
                let times = asked.iter().filter(|path| path[..] == *name.as_bytes()).count();
                assert!(times == 1, "{name} {times} times, after {few} steps each, repair {repair}");
            }
        }
    }
}

/// More names than one page has, and a file of more than one question.
#[test]
fn within_a_directory_and_a_file_it_goes_on_too() {
    const MANY: usize = 2500;
    let names: Vec<String> = (0..MANY).map(|number| format!("d/{number:05}")).collect();
    let bench = Bench::made(ReplicaOptions::default(), &|root| {
        fs::create_dir(root.join("d")).unwrap();
        names.iter().for_each(|name| put(&root.join(name), b""));
        put(&root.join("long"), &vec![7; 20 << 16]);
        rest(&root.join("d"));
    });
    let mut rotten = vec![7; 20 << 16];
    for block in [3, 11, 19] {
        rotten[(block << 16) + 5] ^= 1;
    }
    put(&bench.replica("long"), &rotten);
    put(&bench.replica("d/02049"), b"more");
    bench.forgets.set(true);
    // Eight blocks at a time.
    let slow = |from| ScrubOptions {
        roots: 1,
        asker: 7,
        bytes_per_second: 2 << 20,
        from,
        ..ScrubOptions::default()
    };
    let options = || slow(bench.cursor.borrow().clone());
    let (report, cuts) = in_pieces(&bench, options, || 3, |_| {});
    assert!(cuts > 3, "{cuts}");
    let sums = &report.sums;
    assert_eq!((sums.entries, report.found), (MANY as u64 + 2, 4), "{report:?}");
    // Two of the five pieces that were asked for have no difference.
    assert_eq!((sums.files, sums.bytes), (0, 0), "{report:?}");
    let asked = bench.asked.borrow().len();
    assert!(asked < MANY + 2 + cuts * 300, "{asked} questions with {cuts} cuts");
}

#[derive(Clone)]
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// Moves a directory on the master, and has the replica follow: in its own directory or to the top, where no name is
/// greater.
fn moves(bench: &Bench, node: NodeId, to_top: bool, number: u64) {
    let tables = bench.replica.journal().tables();
    let from = links_of(&**tables, node).unwrap().remove(0);
    let parent = if to_top { NodeId::root(ROOT) } else { from.parent };
    let to = Edge::new(parent, Name::new(format!("!{number}").as_bytes()).unwrap());
    let path = |mut edge: Edge| {
        let mut path = PathBuf::from(OsStr::from_bytes(edge.name.as_bytes()));
        while edge.parent != NodeId::root(ROOT) {
            edge = links_of(&**tables, edge.parent).unwrap().remove(0);
            path = Path::new(OsStr::from_bytes(edge.name.as_bytes())).join(path);
        }
        bench.place.path().join("master").join(path)
    };
    follow(bench, node, from.clone(), to.clone(), &path(from), &path(to));
}

/// Moves a directory below another on the master, and has the replica follow.
fn below(bench: &Bench, node: NodeId, parent: NodeId, name: &str) {
    let from = links_of(&**bench.replica.journal().tables(), node).unwrap().remove(0);
    let to = Edge::new(parent, Name::new(name.as_bytes()).unwrap());
    follow(bench, node, from, to, &bench.master(name), &bench.master(&format!("!1/{name}")));
}

fn follow(bench: &Bench, node: NodeId, from: Edge, to: Edge, old: &Path, new: &Path) {
    fs::rename(old, new).unwrap();
    rest(old.parent().unwrap());
    rest(new.parent().unwrap());
    let time = Some(Timestamp(1_000_000_000_000_000_000));
    let event = Event::Rename { node, from, to, from_parent_mtime: time, to_parent_mtime: time };
    let lsn = bench.captures(vec![event]);
    assert!(bench.replica.journal().wait_applied(lsn, Duration::from_secs(60)));
}

/// What is to come is known by its number: wherever it is moved between two daemons, it is compared, and once.
#[test]
fn directories_that_are_moved_between_two_daemons_are_compared() {
    let seeds = std::env::var("REWIND_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(12);
    let mut moved = 0;
    for seed in 1..=seeds {
        let mut random = Random(u64::wrapping_mul(seed, 0x9e37_79b9_7f4a_7c15));
        let files: Vec<(String, bool)> = (0..12)
            .map(|number| {
                let above: String = (0..random.below(4)).map(|_| format!("{}/", random.below(3))).collect();
                (format!("{above}f{number}"), random.below(2) == 0)
            })
            .collect();
        let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
        let bench = Bench::new(&names);
        // No name says what was captured of a file that was moved.
        bench.forgets.set(true);
        let leaf = |path: &[u8]| path.rsplit(|byte| *byte == b'/').next().unwrap().to_vec();
        let mut rotten: Vec<Vec<u8>> = Vec::new();
        for (name, _) in files.iter().filter(|(_, is_rotten)| *is_rotten) {
            rot(&bench, name);
            rotten.push(leaf(name.as_bytes()));
        }
        let directories: BTreeSet<&Path> =
            names.iter().flat_map(|name| Path::new(name).ancestors().skip(1)).collect();
        let mut many = random.clone();
        let between = |_| {
            let to_come = position(&bench).map_or(Vec::new(), |position| position.stack);
            for _ in 0..random.below(3) {
                let some = random.below(1 + to_come.len() as u64) as usize;
                if let Some(node) = to_come.get(some).filter(|node| **node != NodeId::root(ROOT)) {
                    moves(&bench, *node, random.below(2) == 0, moved);
                    moved += 1;
                }
            }
        };
        let (report, cuts) = in_pieces(&bench, || options(&bench, false), || 1 + many.below(3), between);
        let mut found: Vec<_> = report.differences.iter().map(|one| leaf(&one.path)).collect();
        found.sort();
        rotten.sort();
        assert_eq!(found, rotten, "seed {seed}: {cuts} cuts, {report:?}");
        let entries = files.len() + directories.len() - 1;
        assert_eq!(report.sums.entries, entries as u64, "seed {seed}: {cuts} cuts, {report:?}");
    }
    assert!(moved >= seeds, "{moved} were moved in all");
}

/// What one job left is nothing to another, and a path that leads to something else by now is scrubbed from the beginning.
#[test]
fn a_cursor_of_another_job_or_of_what_is_gone_is_not_taken() {
    let bench = bench();
    bench.stops.set(Some(3));
    let mut report = ScrubReport::default();
    let outcome = bench.replica.scrub(options(&bench, false), &bench, &mut report);
    assert!(matches!(outcome, Err(ScrubError::Interrupted)), "{outcome:?}");
    bench.stops.set(None);
    let whole = self::bench().found(false);
    let kept = bench.cursor.borrow().clone();
    let other = ScrubOptions { asker: 8, ..options(&bench, false) };
    bench.replica.scrub(other, &bench, &mut report).unwrap();
    assert_eq!(told(&report), told(&whole));
    // Nor is one that nobody can read.
    let damaged = ScrubOptions { from: Some(vec![1; 99]), ..options(&bench, false) };
    bench.replica.scrub(damaged, &bench, &mut report).unwrap();
    assert_eq!((told(&report), bench.went_on.get()), (told(&whole), 0));
    let same = ScrubOptions { from: kept, ..options(&bench, false) };
    bench.replica.scrub(same, &bench, &mut report).unwrap();
    assert_eq!((told(&report), bench.went_on.get()), (told(&whole), 1));
}

/// More strange names than are looked at between two barriers: each is told once.
#[test]
fn many_strange_names_are_each_told_once() {
    let strange = || {
        let bench = Bench::new(&["a", "d/a"]);
        for number in 0..150 {
            put(&bench.replica(&format!("d/r{number}")), b"whose?");
            put(&bench.master(&format!("d/m{number}")), b"missed");
        }
        rest(&bench.replica("d"));
        rest(&bench.master("d"));
        bench
    };
    let whole = strange().found(false);
    assert_eq!(whole.found, 300);
    for few in [1, 2] {
        let bench = strange();
        let (report, cuts) = in_pieces(&bench, || options(&bench, false), steps(few), |_| {});
        assert!(cuts > 1, "{cuts}");
        assert_eq!(told(&report), told(&whole), "after {few} steps each");
    }
}

/// What is put off to the end is not forgotten before it.
#[test]
fn what_was_put_off_is_looked_at_after_a_cut() {
    let bench = bench();
    bench.forgets.set(true);
    bench.mark(Marker::GapOpened {
        gap: 5,
        root: ROOT,
        path: Vec::new(),
        cause: journal::GapCause::QueueOverflow,
    });
    let (report, cuts) = in_pieces(
        &bench,
        || options(&bench, false),
        steps(2),
        |cuts| {
            if cuts == 4 {
                let position = position(&bench).unwrap();
                assert!(!position.stack.is_empty(), "{position:?}");
                bench.mark(Marker::GapClosed { gap: 5 });
            }
        },
    );
    let whole = {
        let bench = self::bench();
        bench.forgets.set(true);
        bench.found(false)
    };
    assert!(cuts > 4);
    assert_eq!(told(&report), told(&whole));
}

/// A scrub of one path, of a directory and of a file.
#[test]
fn a_scrub_of_a_path_goes_on_within_it() {
    for (path, differs, entries) in [("d", 6, 8), ("d/f/b", 1, 1), ("g", 2, 5)] {
        for few in [1, 2] {
            let bench = bench();
            let below = Some((ROOT, path.as_bytes().to_vec()));
            let options = || ScrubOptions { below: below.clone(), ..options(&bench, false) };
            let (report, _) = in_pieces(&bench, options, steps(few), |_| {});
            let sums = (report.found, report.sums.entries);
            assert_eq!(sums, (differs, entries), "{path}, {few} steps: {report:?}");
        }
    }
}

/// How far a scrub of a path is when it was cut off after so many steps.
fn cut(bench: &Bench, path: &str, steps: u64) -> ScrubOptions {
    let below = Some((ROOT, path.as_bytes().to_vec()));
    bench.stops.set(Some(steps));
    let options = ScrubOptions { below: below.clone(), bytes_per_second: 4 << 20, ..options(bench, false) };
    let outcome = bench.replica.scrub(options.clone(), bench, &mut ScrubReport::default());
    assert!(matches!(outcome, Err(ScrubError::Interrupted)), "{outcome:?}");
    bench.stops.set(None);
    bench.asked.borrow_mut().clear();
    ScrubOptions { from: bench.cursor.borrow().clone(), ..options }
}

fn node_of(bench: &Bench, path: &str) -> NodeId {
    let view = bench.replica.view(bench.replica.journal().applied()).unwrap();
    view.resolve(ROOT, path.as_bytes()).unwrap().unwrap()
}

/// Where another directory has taken the place of the one that a path led through, nothing else of it is of interest, and
/// where it has come to lie below what is scrubbed it is walked, once.
#[test]
fn a_scrub_of_a_path_stays_within_it_whatever_is_moved() {
    let files = ["d/long", "d/other", "d/top/a", "d/top/b/c", "e/x"];
    let long = |bench: &Bench| {
        for side in [bench.master("d/long"), bench.replica("d/long")] {
            put(&side, &vec![7; 40 << 16]);
        }
    };
    let bench = Bench::made(ReplicaOptions::default(), &|root| {
        for name in files {
            fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
            put(&root.join(name), &vec![7; 40 << 16]);
        }
        ["d/top/b", "d/top", "d", "e"].iter().for_each(|name| rest(&root.join(name)));
    });
    long(&bench);
    bench.forgets.set(true);
    let options = cut(&bench, "d/long", 1);
    let step = |options: &ScrubOptions| {
        let top = Some((node_of(&bench, "d"), node_of(&bench, "d/long")));
        let of = Of::these(bench.replica.journal().id(), top, options);
        cursor::read(&of, options.from.as_ref().unwrap()).unwrap().position.at
    };
    assert!(matches!(step(&options), Some((_, Step::Only(16)))), "{:?}", step(&options));
    let mut report = ScrubReport::default();
    bench.replica.scrub(options, &bench, &mut report).unwrap();
    assert_eq!((report.sums.entries, report.found, bench.went_on.get()), (1, 0, 1), "{report:?}");
    assert!(bench.asked.borrow().is_empty(), "its first piece was compared before");
    // The directory goes below its own child, which is what is scrubbed.
    let options = cut(&bench, "d/top", 1);
    let top = node_of(&bench, "d/top");
    let directory = node_of(&bench, "d");
    moves(&bench, top, true, 1);
    below(&bench, directory, top, "d");
    bench.replica.scrub(options.clone(), &bench, &mut report).unwrap_err();
    let options = ScrubOptions { below: Some((ROOT, b"!1".to_vec())), ..options };
    bench.replica.scrub(options, &bench, &mut report).unwrap();
    assert_eq!((report.sums.entries, report.found), (7, 0), "{report:?}");
}

/// A file that an earlier daemon has read in part, and what became of it meanwhile.
#[test]
fn a_part_of_a_file_is_of_use_only_while_it_is_that_file() {
    for (what, found, sums) in
        [("same", 0, (1, 40 << 16)), ("gone", 1, (1, 16 << 16)), ("short", 0, (1, 16 << 16))]
    {
        let bench =
            Bench::made(ReplicaOptions::default(), &|root| put(&root.join("long"), &vec![7; 40 << 16]));
        bench.forgets.set(true);
        let options = cut(&bench, "long", 1);
        match what {
            "gone" => fs::remove_file(bench.replica("long")).unwrap(),
            "short" => {
                let (node, size) = (node_of(&bench, "long"), 3 << 16);
                let lsn = bench.captures(vec![Event::Resize { node, size }]);
                assert!(bench.replica.journal().wait_applied(lsn, Duration::from_secs(60)));
                for side in [bench.master("long"), bench.replica("long")] {
                    put(&side, &vec![7; 3 << 16]);
                }
            }
            _ => {}
        }
        let mut report = ScrubReport::default();
        bench.replica.scrub(options, &bench, &mut report).unwrap();
        assert_eq!((report.found, report.sums.entries), (found, 1), "{what}: {report:?}");
        assert_eq!((report.sums.files, report.sums.bytes), sums, "{what}: {report:?}");
        assert_eq!(bench.went_on.get(), 1);
    }
}

/// Where the walk of the cursor that was told last is.
fn position(bench: &Bench) -> Option<Position> {
    let of = Of::these(bench.replica.journal().id(), None, &options(bench, false));
    Some(cursor::read(&of, bench.cursor.borrow().as_ref()?)?.position)
}
