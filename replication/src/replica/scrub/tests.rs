//! Scrubs against a master that is made up: one that rots, lies, cannot be read, or has what nobody has captured.

mod failing;
mod faulty;
mod going_on;
mod missing;

use super::{Difference, Scrub, ScrubError, ScrubHost, ScrubOptions, ScrubReport, Side};
use crate::adopt::adopt;
use crate::capture::{Actual, CaptureRoot, KnownBlocks};
use crate::os_tree::OsTree;
use crate::replica::{Replica, ReplicaOptions};
use faulty::Faulty;
use journal::journal::{Journal, SystemClock, TablesFactory};
use journal::log::LogOptions;
use journal::state::State;
use journal::tables::{Frozen, MemoryTables, Put, Row};
use journal::{
    Capture, Edge, Event, JournalError, Lsn, Marker, Name, NodeId, OsDisk, Part, Provenance, RootNo,
    SkippedWhat, Space, Tables, Timestamp,
};
use parking_lot::Mutex;
use std::cell::{Cell, RefCell};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use wire::stream::{CaptureItem, ExamineItem, Examined, Found, ScrubAnswer, ScrubAsk};

const ROOT: RootNo = RootNo(0);

/// Says which rows cannot be read.
type Refuses = Arc<Mutex<Option<Box<dyn Fn(Space, &[u8]) -> bool + Send>>>>;

struct Memory(Refuses);

struct Reluctant(MemoryTables, Refuses);

impl TablesFactory for Memory {
    fn tables(&self, _fresh: bool) -> Result<Arc<dyn Tables>, JournalError> {
        Ok(Arc::new(Reluctant(MemoryTables::default(), Arc::clone(&self.0))))
    }
}

impl Tables for Reluctant {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, JournalError> {
        if self.1.lock().as_ref().is_some_and(|refuses| refuses(space, key)) {
            return Err(JournalError::BadRow { space: "made up" });
        }
        self.0.get(space, key)
    }

    fn range<'a>(
        &'a self,
        space: Space,
        from: &[u8],
        to: &[u8],
    ) -> Box<dyn DoubleEndedIterator<Item = Result<Row, JournalError>> + 'a> {
        self.0.range(space, from, to)
    }

    fn commit(&self, batch: Vec<Put>) -> Result<(), JournalError> {
        self.0.commit(batch)
    }

    fn frozen(&self) -> Box<dyn Frozen> {
        self.0.frozen()
    }

    fn persist(&self) -> Result<(), JournalError> {
        self.0.persist()
    }

    fn settle(&self) -> Result<bool, JournalError> {
        self.0.settle()
    }
}

/// Does something to bytes that the master is about to give.
type Gives = Box<dyn FnMut(&mut Vec<u8>)>;

/// A replica that adopted a tree, and a master that has the same tree.
struct Bench {
    place: tempfile::TempDir,
    replica: Arc<Replica<Faulty>>,
    /// The change time that the index has of every file is the one it has now.
    untouched: Cell<bool>,
    /// Answers instead of the real ones.
    listed: RefCell<Box<dyn FnMut(u64) -> Option<ScrubAnswer>>>,
    lists: Cell<u64>,
    unreadable: RefCell<Vec<u8>>,
    captured: RefCell<Vec<CaptureItem>>,
    refuses: Refuses,
    /// The index has no hashes.
    forgets: Cell<bool>,
    /// Called with bytes before they are given, which it may change.
    gives: RefCell<Gives>,
    /// The names that the master was asked for, each with its first bytes.
    asked: RefCell<Vec<Vec<u8>>>,
    /// Told so often how far it is the scrub is to stop, and what it was told last.
    stops: Cell<Option<u64>>,
    cursor: RefCell<Option<Vec<u8>>>,
    /// Differences as they were told: path, whether it is repaired, number.
    told: RefCell<Vec<(Vec<u8>, bool, u64)>>,
    /// Scrubs that went on where another was.
    went_on: Cell<usize>,
}

/// What is captured is what the replica was made of.
fn contents(name: &str) -> Vec<u8> {
    name.repeat(60_000).into_bytes()
}

fn put(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap();
    let time = std::time::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

/// A directory's time is what it was before names in it changed.
fn rest(directory: &Path) {
    let time = std::time::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    fs::File::open(directory).unwrap().set_modified(time).unwrap();
}

impl Bench {
    fn new(files: &[&str]) -> Bench {
        Bench::with(files, ReplicaOptions::default())
    }

    fn with(files: &[&str], options: ReplicaOptions) -> Bench {
        Bench::made(options, &|root| {
            for name in files {
                let path = root.join(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                put(&path, &contents(name));
            }
            for directory in files.iter().flat_map(|name| Path::new(name).ancestors().skip(1)) {
                rest(&root.join(directory));
            }
        })
    }

    /// Both sides have what is made in each.
    fn made(options: ReplicaOptions, make: &dyn Fn(&Path)) -> Bench {
        let place = tempfile::tempdir().unwrap();
        for side in ["master", "root"] {
            let root = place.path().join(side);
            fs::create_dir(&root).unwrap();
            make(&root);
        }
        let tree = Arc::new(Faulty::new(OsTree::open(vec![place.path().join("root")]).unwrap()));
        let refuses = Refuses::default();
        let journal = || {
            let (directory, disk) = (place.path().join("journal"), Arc::new(OsDisk));
            let tables = Memory(Arc::clone(&refuses));
            Journal::open(disk, &directory, LogOptions::default(), &tables, Arc::new(SystemClock)).unwrap()
        };
        adopt(&journal().journal, &*tree, 1, &mut |_| true).unwrap();
        let replica = Replica::start(journal(), tree, options).unwrap();
        Bench {
            place,
            replica,
            untouched: Cell::new(false),
            listed: RefCell::new(Box::new(|_| None)),
            lists: Cell::new(0),
            unreadable: RefCell::default(),
            captured: RefCell::default(),
            refuses,
            forgets: Cell::new(false),
            gives: RefCell::new(Box::new(|_| {})),
            asked: RefCell::default(),
            stops: Cell::default(),
            cursor: RefCell::default(),
            told: RefCell::default(),
            went_on: Cell::default(),
        }
    }

    fn master(&self, name: &str) -> PathBuf {
        self.place.path().join("master").join(name)
    }

    fn replica(&self, name: &str) -> PathBuf {
        self.place.path().join("root").join(name)
    }

    fn mark(&self, marker: Marker) -> Lsn {
        self.captures(vec![Event::Mark(marker)])
    }

    /// Until it is journaled.
    fn captures(&self, events: Vec<Event>) -> Lsn {
        let journal = self.replica.journal();
        let lsn = Lsn::captured(journal.journaled().captured + 1);
        let time = Timestamp(journal.journaled_time().0 + 1);
        let provenance = Provenance::Derived;
        let capture = Capture { lsn, time, provenance, root: ROOT, path: Vec::new(), events };
        self.replica.ingest(vec![Part { number: 0, last: true, capture }], |done| assert!(done.is_ok()));
        while journal.journaled() < lsn {
            std::thread::sleep(Duration::from_millis(1));
        }
        lsn
    }

    fn scrub(&self, repair: bool) -> (Result<(), ScrubError>, ScrubReport) {
        let mut report = ScrubReport::default();
        let options = ScrubOptions { repair, roots: 1, ..ScrubOptions::default() };
        let outcome = self.replica.scrub(options, self, &mut report);
        (outcome, report)
    }

    fn found(&self, repair: bool) -> ScrubReport {
        let (outcome, report) = self.scrub(repair);
        outcome.unwrap();
        report
    }

    /// Hashes of the bytes that were captured of a node.
    fn known(&self, path: &[u8], range: std::ops::Range<u64>) -> Option<KnownBlocks> {
        if self.forgets.get() {
            return None;
        }
        let bytes = contents(std::str::from_utf8(path).unwrap());
        let asked = &bytes[(range.start as usize).min(bytes.len())..(range.end as usize).min(bytes.len())];
        let hashes = asked.chunks(4096).flat_map(|block| blake3::hash(block).as_bytes()[..16].to_vec());
        let ctime = self.untouched.get().then(|| {
            let stat = fs::metadata(self.master(std::str::from_utf8(path).unwrap())).unwrap();
            Timestamp(stat.ctime() * 1_000_000_000 + stat.ctime_nsec())
        });
        let size = bytes.len() as u64;
        Some(KnownBlocks { block_bits: 12, first: range.start / 4096, size, hashes: hashes.collect(), ctime })
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.replica.stop(Duration::from_secs(1));
    }
}

impl ScrubHost for Bench {
    fn ask(&self, ask: ScrubAsk) -> Result<ScrubAnswer, ScrubError> {
        let path = self.place.path().join("master");
        let actual = Actual::open(&CaptureRoot { number: ROOT, path, exclude: Vec::new() }).unwrap();
        Ok(match ask {
            ScrubAsk::Examine { items, bytes_max, .. } => {
                let first = items.iter().filter(|item| item.first == 0).map(|item| item.path.clone());
                self.asked.borrow_mut().extend(first);
                let of = |item: &_| {
                    actual.examine(std::slice::from_ref(item), bytes_max, &|_, range| {
                        self.known(&item.path, range)
                    })
                };
                let mut list: Vec<Examined> = items.iter().flat_map(of).collect();
                for (item, examined) in items.iter().zip(&mut list) {
                    if let Found::There(there) = &mut examined.found
                        && item.bytes
                    {
                        let mut bytes = there.bytes.to_vec();
                        (self.gives.borrow_mut())(&mut bytes);
                        there.bytes = bytes.into();
                    }
                    if *self.unreadable.borrow() == item.path {
                        examined.found = Found::Unreadable(5);
                    }
                }
                ScrubAnswer::Examined(list)
            }
            ScrubAsk::List { path, after, .. } => {
                self.lists.set(self.lists.get() + 1);
                let lie = (self.listed.borrow_mut())(self.lists.get());
                lie.unwrap_or_else(|| actual.list(&path, after.as_ref()))
            }
            ScrubAsk::Capture { items } => {
                self.captured.borrow_mut().extend(items);
                ScrubAnswer::Capturing
            }
        })
    }

    fn barrier(&self) -> Result<Lsn, ScrubError> {
        Ok(self.mark(Marker::GapClosed { gap: 77 }))
    }

    fn interrupted(&self) -> bool {
        // A test that goes round in circles has failed.
        self.lists.get() > 10_000 || self.stops.get() == Some(0)
    }

    fn progress(&self, _: u64, _: u64, _: u64) {}

    fn found(&self, difference: &Difference, number: u64) {
        self.told.borrow_mut().push((difference.path.clone(), difference.repaired, number));
    }

    fn passed(&self, _: RootNo, path: &[u8], _: &'static str, number: u64) {
        assert!(path.len() < 4096 && number > 0);
    }

    fn reached(&self, cursor: &[u8]) {
        self.stops.set(self.stops.get().map(|left| left.saturating_sub(1)));
        *self.cursor.borrow_mut() = Some(cursor.to_vec());
    }

    fn goes_on(&self, _: u64, _: u64) {
        self.went_on.set(self.went_on.get() + 1);
    }
}

fn one(report: &ScrubReport) -> &Difference {
    assert_eq!(report.differences.len(), 1, "{report:?}");
    &report.differences[0]
}

#[test]
fn what_rots_on_the_master_never_takes_the_place_of_what_is_right() {
    for untouched in [false, true] {
        let bench = Bench::new(&["a", "b"]);
        let mut rotten = contents("a");
        rotten[100_000 / 2] ^= 1;
        put(&bench.master("a"), &rotten);
        bench.untouched.set(untouched);
        for repair in [false, true] {
            let report = bench.found(repair);
            let side = if untouched { Side::Rot } else { Side::Master };
            assert_eq!((one(&report).what, one(&report).side), ("bytes", side));
            // A change that capture has missed is captured; this master does not do it.
            assert_eq!(bench.captured.borrow_mut().drain(..).len(), usize::from(!untouched));
            // Whatever is left is left, whoever has it wrong.
            assert_eq!((report.sums.replica_differs, report.sums.master_differs), (1, 0), "{report:?}");
        }
    }
}

#[test]
fn rot_below_extended_attributes_that_cannot_be_read_is_told() {
    let bench = Bench::new(&["a", "b"]);
    let skipped =
        |name: &str, what| Marker::Skipped { root: ROOT, path: name.as_bytes().to_vec(), what, errno: 13 };
    bench.mark(skipped("a", SkippedWhat::Xattrs));
    bench.mark(skipped("b", SkippedWhat::Content));
    for name in ["a", "b"] {
        let mut rotten = contents(name);
        rotten[1] ^= 1;
        put(&bench.replica(name), &rotten);
    }
    let report = bench.found(false);
    assert_eq!((&one(&report).path[..], one(&report).side), (&b"a"[..], Side::Replica));
    assert_eq!(report.sums.passed, 1, "{report:?}");
    assert_eq!(report.passed, [(ROOT, b"b".to_vec(), "capture could not keep it")]);
}

#[test]
fn a_master_that_lists_for_ever_is_refused() {
    let name = |text: &str| Name::new(text.as_bytes()).unwrap();
    let lies: [fn(u64) -> Vec<&'static str>; 3] =
        [|_| vec!["x"], |_| vec![], |n| if n % 2 == 0 { vec!["x"] } else { vec!["y"] }];
    for lie in lies {
        let bench = Bench::new(&["a"]);
        *bench.listed.borrow_mut() = Box::new(move |asked| {
            let names = lie(asked).into_iter().map(name).collect();
            Some(ScrubAnswer::Listed { names: Some(names), more: true })
        });
        let (outcome, _) = bench.scrub(false);
        assert!(matches!(outcome, Err(ScrubError::Master(_))), "{outcome:?}");
        assert!(bench.lists.get() < 5, "asked {} times", bench.lists.get());
    }
}

#[test]
fn a_name_that_only_the_tables_lack_is_told_once() {
    let bench = Bench::new(&["a"]);
    put(&bench.master("both"), b"on the master");
    put(&bench.replica("both"), b"on the replica");
    put(&bench.master("here"), b"on the master");
    let report = bench.found(false);
    let told: Vec<_> = report.differences.iter().map(|one| (&one.path[..], one.what, one.side)).collect();
    let expected: [(&[u8], _, _); 2] = [(b"both", "extra", Side::Replica), (b"here", "extra", Side::Master)];
    assert_eq!(told, expected);
    assert_eq!(report.found, 2);
}

#[test]
fn what_cannot_be_read_on_the_master_is_passed_and_named() {
    let bench = Bench::new(&["a", "b"]);
    bench.unreadable.replace(b"b".to_vec());
    *bench.listed.borrow_mut() = Box::new(|_| Some(ScrubAnswer::Listed { names: None, more: false }));
    let report = bench.found(false);
    let named: Vec<_> = report.passed.iter().map(|(_, path, why)| (&path[..], *why)).collect();
    let expected: [(&[u8], _); 2] =
        [(b"b", "the master cannot read it"), (b"", "its names cannot be listed")];
    assert_eq!((named.as_slice(), report.sums.passed), (&expected[..], 2));
    assert_eq!((report.found, report.sums.files), (0, 1), "{report:?}");
}

#[test]
fn nothing_is_decided_while_apply_is_at_work() {
    let bench = Bench::new(&["a"]);
    fs::set_permissions(bench.replica("a"), fs::Permissions::from_mode(0o604)).unwrap();
    put(&bench.replica("strange"), b"who put it here?");
    bench.replica.stop(Duration::from_secs(1));
    // The worker has gone, and nobody waits for it.
    bench.replica.shared.0.lock().busy = true;
    let scrub = Scrub::new(&bench.replica, &bench, ScrubOptions::default());
    let view = scrub.view(bench.replica.journal.applied()).unwrap();
    let edge = |name: &str| Edge::new(NodeId::root(ROOT), Name::new(name.as_bytes()).unwrap());
    let ours = scrub.ours(&view, &edge("a"), NodeId::FIRST_FREE, (0, 0)).unwrap().unwrap();
    assert_eq!((ours.wrong, ours.unsure), (None, true));
    assert_eq!(scrub.stands_in_tree(&edge("strange")).unwrap(), None);
    bench.replica.shared.0.lock().busy = false;
    let ours = scrub.ours(&view, &edge("a"), NodeId::FIRST_FREE, (0, 0)).unwrap().unwrap();
    assert_eq!((ours.wrong, ours.unsure), (Some("mode"), false));
    assert_eq!(scrub.stands_in_tree(&edge("strange")).unwrap(), Some(true));
}

#[test]
fn a_replica_that_is_detached_meanwhile_is_not_proven() {
    let bench = Bench::new(&["a"]);
    let replica = Arc::clone(&bench.replica);
    // By somebody who then shows what it shows anyway.
    *bench.listed.borrow_mut() = Box::new(move |_| {
        replica.detach("somebody looks at an older point").unwrap();
        None
    });
    let (outcome, report) = bench.scrub(false);
    assert!(matches!(outcome, Err(ScrubError::NotFollowing(_))), "{outcome:?}");
    assert!(!report.sums.complete);
}

#[test]
fn holes_cost_no_time() {
    let bench = Bench::new(&["a"]);
    fs::File::create(bench.master("sparse")).unwrap().set_len(1 << 40).unwrap();
    let actual = Actual::open(&CaptureRoot {
        number: ROOT,
        path: bench.place.path().join("master"),
        exclude: Vec::new(),
    })
    .unwrap();
    let read = |path: &str, blocks| {
        let path = path.as_bytes().to_vec();
        let item =
            ExamineItem { path, node: NodeId::FIRST_FREE, first: 0, blocks, captured: false, bytes: false };
        super::look::read_for(&actual.examine(&[item], u64::MAX, &|_, _| None)[0])
    };
    assert_eq!((read("sparse", 16_000), read("a", 0), read("a", 1)), (0, 0, 65_536));
}

/// What was put aside, by name, with the directory that it has for itself.
fn aside(bench: &Bench) -> Vec<(String, PathBuf)> {
    let Ok(entries) = fs::read_dir(bench.place.path().join(".root.rewind/kept/strange")) else {
        return Vec::new();
    };
    let one = |entry: std::io::Result<fs::DirEntry>| {
        let inside: Vec<_> =
            fs::read_dir(entry.unwrap().path()).unwrap().map(|one| one.unwrap().path()).collect();
        assert_eq!(inside.len(), 1, "{inside:?}");
        (inside[0].file_name().unwrap().to_str().unwrap().to_owned(), inside[0].clone())
    };
    let mut found: Vec<_> = entries.map(one).collect();
    found.sort();
    found
}

#[test]
fn what_is_strange_is_put_aside_and_nothing_is_lost() {
    let bench = Bench::new(&["a"]);
    let modified = |name: &str| fs::metadata(bench.replica(name)).unwrap().modified().unwrap();
    let before = modified("");
    put(&bench.replica("file"), b"who put it here?");
    fs::create_dir_all(bench.replica("d/e")).unwrap();
    put(&bench.replica("d/e/f"), b"below");
    std::os::unix::fs::symlink("nowhere", bench.replica("link")).unwrap();
    // A further name of what was captured, which stays.
    fs::hard_link(bench.replica("a"), bench.replica("again")).unwrap();
    put(&bench.replica(".rewind-stage-1"), b"an agent's");
    fs::create_dir(bench.replica(".other.rewind")).unwrap();
    fs::set_permissions(bench.replica(""), fs::Permissions::from_mode(0o751)).unwrap();

    let told = bench.found(false);
    assert_eq!((told.found, told.repaired, aside(&bench).len()), (6, 0, 0), "{told:?}");
    let report = bench.found(true);
    assert_eq!((report.found, report.repaired, report.sums.replica_differs), (6, 4, 2), "{report:?}");
    let found = aside(&bench);
    let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["again", "d", "file", "link"]);
    assert_eq!(fs::read(&found[2].1).unwrap(), b"who put it here?");
    assert_eq!(fs::read(found[1].1.join("e/f")).unwrap(), b"below");
    assert_eq!(fs::read_link(&found[3].1).unwrap(), Path::new("nowhere"));
    // Each difference says where it is.
    for difference in report.differences.iter().filter(|one| one.repaired) {
        let place = bench.place.path().join(".root.rewind/kept").join(difference.aside.as_ref().unwrap());
        assert!(place.symlink_metadata().is_ok(), "{}", place.display());
    }
    assert_eq!(fs::read(bench.replica("a")).unwrap(), contents("a"));
    assert_eq!(modified(""), before);
    let mode = fs::metadata(bench.replica("")).unwrap().mode() & 0o777;
    assert_eq!(mode, 0o751, "the mode of a root is its operator's");
    let report = bench.found(true);
    let left: Vec<_> = report.differences.iter().map(|one| String::from_utf8_lossy(&one.path)).collect();
    assert_eq!((left.len(), report.repaired), (2, 0), "{left:?}");
    assert!(bench.replica(".rewind-stage-1").exists() && bench.replica(".other.rewind").exists());
}

#[test]
fn names_that_are_equal_do_not_take_each_others_place_aside() {
    let bench = Bench::new(&["a"]);
    for bytes in [&b"first"[..], b"second"] {
        put(&bench.replica("x"), bytes);
        assert_eq!(bench.found(true).repaired, 1);
    }
    let mut bytes: Vec<_> = aside(&bench).iter().map(|(_, path)| fs::read(path).unwrap()).collect();
    bytes.sort();
    assert_eq!(bytes, [&b"first"[..], b"second"]);
}

#[test]
fn what_stands_where_the_master_has_something_too_makes_room() {
    let bench = Bench::new(&["a"]);
    put(&bench.master("both"), b"on the master");
    put(&bench.replica("both"), b"on the replica");
    let report = bench.found(true);
    // This master does not capture what it is asked to.
    assert_eq!((one(&report).what, one(&report).repaired), ("extra", false));
    assert_eq!(aside(&bench).len(), 1);
    let root = NodeId::root(ROOT);
    let asked = CaptureItem { at: Edge::new(root, Name::new(b"both").unwrap()), node: None };
    assert_eq!(bench.captured.borrow().as_slice(), [asked]);
}

#[test]
fn what_something_is_mounted_in_is_left_alone() {
    let tree = OsTree::open_target(Path::new("/")).unwrap();
    let look = |name: &str| {
        let dir = journal::TreeIo::root(&tree, ROOT).unwrap();
        super::mend::look_through(&tree, &dir, &Name::new(name.as_bytes()).unwrap(), 0, &|| true)
    };
    assert_eq!(look("proc").unwrap_err().raw_os_error(), Some(18), "a mount point");
    // What is too deep to be looked through is not moved.
    let bench = Bench::new(&["a"]);
    let mut deep = PathBuf::from("deep");
    (0..140).for_each(|_| deep.push("d"));
    fs::create_dir_all(bench.replica("").join(deep)).unwrap();
    let report = bench.found(true);
    assert_eq!((one(&report).what, one(&report).repaired), ("extra", false));
    assert!(bench.replica("deep").exists() && aside(&bench).is_empty());
}

#[test]
fn nothing_is_put_right_by_an_apply_that_does_not_go_on() {
    let bench = Bench::new(&["a"]);
    put(&bench.replica("strange"), b"who put it here?");
    let edge = Edge::new(NodeId::root(ROOT), Name::new(b"strange").unwrap());
    let suspect =
        super::Suspect { root: ROOT, path: b"strange".to_vec(), edge, node: None, first: 0, tried: None };
    let differs = super::look::Differs { what: "extra", side: Side::Replica, offset: None };
    let none = super::fetch::Fetched::none();
    let scrub = || Scrub::new(&bench.replica, &bench, ScrubOptions::default());
    let mend = || scrub().mend(&suspect, differs, &none).0.done;
    bench.replica.detach("somebody looks at an older point").unwrap();
    assert!(!mend());
    bench.replica.attach().unwrap();
    bench.replica.shared.0.lock().halt = Some(crate::replica::Halt::Stopped("drift".to_owned()));
    assert!(!mend());
    bench.replica.shared.0.lock().halt = None;
    assert!(bench.replica("strange").exists());
    assert!(mend() && !bench.replica("strange").exists());
    bench.replica.stop(Duration::from_secs(1));
    assert!(!mend());
}

#[test]
fn what_was_moved_is_told_and_captured_also_if_another_cannot_be() {
    let bench = Bench::new(&["a"]);
    put(&bench.replica("strange-1"), b"who put it here?");
    put(&bench.replica("strange-2"), b"who put it here?");
    // One of them cannot be looked at once the other was moved.
    let paths = [bench.replica("strange-1"), bench.replica("strange-2")];
    *bench.refuses.lock() = Some(Box::new(move |space, key| {
        let moved = paths.iter().any(|path| !path.exists());
        let left = paths.iter().find(|path| path.exists()).and_then(|path| path.file_name());
        moved && space == Space::Names && left.is_some_and(|name| key.ends_with(name.as_encoded_bytes()))
    }));
    let (outcome, report) = bench.scrub(true);
    assert!(matches!(outcome, Err(ScrubError::Journal(JournalError::BadRow { .. }))), "{outcome:?}");
    assert_eq!((aside(&bench).len(), bench.captured.borrow().len()), (1, 1));
    let told = report.differences.iter().filter(|one| one.aside.is_some()).count();
    assert_eq!((report.found, report.repaired, told), (2, 0, 1), "{report:?}");
}

#[test]
fn an_errand_that_is_taken_back_is_the_own_one() {
    let bench = Bench::new(&["a"]);
    let (begun, has_begun) = std::sync::mpsc::sync_channel(1);
    let (end, may_end) = std::sync::mpsc::sync_channel::<()>(1);
    let replica = Arc::clone(&bench.replica);
    let first = std::thread::spawn(move || {
        replica.between_batches(move |_, _| {
            begun.send(()).unwrap();
            may_end.recv().unwrap();
            "done"
        })
    });
    has_begun.recv().unwrap();
    // Nobody waits for this one, so nobody but the first could take it back.
    assert!(bench.replica.errand.lock().put(Box::new(|_, _| {})).is_some());
    assert!(bench.replica.errand.lock().put(Box::new(|_, _| {})).is_none(), "there is room for one");
    bench.replica.shared.0.lock().halt = Some(crate::replica::Halt::Failing("a bad moment".to_owned()));
    std::thread::sleep(Duration::from_millis(200));
    assert!(bench.replica.errand.lock().waits());
    bench.replica.shared.0.lock().halt = None;
    end.send(()).unwrap();
    assert_eq!(first.join().unwrap(), Some("done"));
}

#[test]
fn who_reads_is_told_that_names_move_and_the_tree_is_durable_before_apply_goes_on() {
    let bench = Bench::new(&["a"]);
    put(&bench.replica("strange"), b"who put it here?");
    let edge = Edge::new(NodeId::root(ROOT), Name::new(b"strange").unwrap());
    let lsn = bench.mark(Marker::GapClosed { gap: 1 });
    let journal = Arc::clone(bench.replica.journal());
    assert!(journal.wait_applied(lsn, Duration::from_secs(60)));
    let (before, path) = (journal.motion().now(), bench.replica("strange"));
    let done = bench.replica.between_batches(move |applier, settle| {
        let (looks, mut aside) = (RefCell::new(Vec::new()), None);
        let settles = || {
            settle()?;
            looks.borrow_mut().push((path.exists(), journal.cursor() == journal.applied()));
            Ok(())
        };
        applier.put_aside(ROOT, &edge, &settles, &mut aside).unwrap();
        (aside.is_some(), looks.into_inner())
    });
    // Once while it is there still, so that nothing has to be made good across its move, and once when it is gone.
    assert_eq!(done, Some((true, vec![(true, true), (false, true)])));
    let after = bench.replica.journal().motion().now();
    assert!(!before.is_same_batch(after) && !after.is_within_batch());
}
