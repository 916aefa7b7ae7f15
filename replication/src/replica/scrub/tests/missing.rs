//! Names that are missing in the replica tree: what comes back, from what, and what nobody is ever shown.

use super::*;
use journal::{Attributes, GapCause, Payload};

impl Bench {
    fn ingest(&self, events: Vec<Event>) -> Lsn {
        let journal = self.replica.journal();
        let lsn = Lsn::captured(journal.journaled().captured + 1);
        let time = Timestamp(journal.journaled_time().0 + 1);
        let provenance = Provenance::Derived;
        let capture = Capture { lsn, time, provenance, root: ROOT, path: Vec::new(), events };
        self.replica.ingest(vec![Part { number: 0, last: true, capture }], |done| assert!(done.is_ok()));
        assert!(journal.wait_applied(lsn, Duration::from_secs(60)));
        lsn
    }

    fn node(&self, name: &str) -> NodeId {
        let edge = Edge::new(NodeId::root(ROOT), Name::new(name.as_bytes()).unwrap());
        State::name(&**self.replica.journal().tables(), &edge).unwrap().unwrap()
    }

    /// What a point shows of a file.
    fn shown(&self, node: NodeId, lsn: Lsn) -> Result<Vec<u8>, JournalError> {
        self.replica.view(lsn)?.open(node)?.read_all()
    }

    fn attributes(&self, node: NodeId) -> Attributes {
        State::node(&**self.replica.journal().tables(), node).unwrap().unwrap().meta.attributes
    }

    /// What lies in the kept area and is not what was put aside.
    fn kept(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.place.path().join(".root.rewind/kept")).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths.filter(|path| !path.ends_with("strange")).collect()
    }

    fn is_back(&self, name: &str, points: &[Lsn]) {
        assert!(fs::read(self.replica(name)).unwrap() == contents(name));
        let node = self.node(name);
        for lsn in points {
            assert!(self.shown(node, *lsn).unwrap() == contents(name), "the file at {lsn}");
        }
        assert_eq!(self.found(false).found, 0);
        assert_eq!(self.kept(), Vec::<PathBuf>::new());
    }

    fn is_left(&self, report: &ScrubReport, name: &str) {
        assert_eq!((one(report).what, one(report).repaired), ("missing", false), "{report:?}");
        assert!(!self.replica(name).exists());
        assert_eq!((self.kept(), aside(self)), (Vec::new(), Vec::new()));
    }
}

#[test]
fn a_file_that_is_missing_comes_back_whole_and_earlier_points_have_its_bytes() {
    let bench = Bench::new(&["a", "b"]);
    let before = bench.ingest(vec![Event::Mark(Marker::GapClosed { gap: 1 })]);
    let node = bench.node("a");
    fs::remove_file(bench.replica("a")).unwrap();
    bench.is_left(&bench.found(false), "a");
    let asked = Arc::new(AtomicU64::new(0));
    let (replica, counted) = (Arc::clone(&bench.replica), Arc::clone(&asked));
    *bench.gives.borrow_mut() = Box::new(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        // Whoever reads while the bytes are had is refused, and never shown a part of it.
        let read = replica.view(before).unwrap().open(node).and_then(|mut file| file.read_all().map(drop));
        assert!(matches!(read, Err(JournalError::Drift { .. })), "{read:?}");
    });
    let report = bench.found(true);
    assert_eq!((one(&report).what, one(&report).repaired), ("missing", true), "{report:?}");
    assert_eq!((asked.load(Ordering::SeqCst), bench.captured.borrow().len()), (1, 0));
    bench.is_back("a", &[before, bench.replica.journal().applied()]);
    // What is written from now on has undo like anything else.
    let told = bench.replica.journal().applied();
    let write = |offset, byte| {
        let data = Payload::Inline(vec![byte; 5000].into());
        Event::Write { node, offset, data, before: None }
    };
    let first = bench.ingest(vec![write(10, 1), Event::Punch { node, offset: 20_000, bytes: 20_000 }]);
    let second = bench.ingest(vec![write(25_000, 2)]);
    assert!(bench.shown(node, told).unwrap() == contents("a"));
    assert!(bench.shown(node, first).unwrap()[25_000..30_000] == [0; 5000]);
    assert!(bench.shown(node, second).unwrap()[25_000..30_000] == [2; 5000]);
}

#[test]
fn a_file_of_which_the_master_has_not_or_does_not_know_what_was_captured_is_left() {
    let bench = Bench::new(&["a", "b"]);
    fs::remove_file(bench.replica("a")).unwrap();
    let mut other = contents("a");
    other[1000] ^= 1;
    put(&bench.master("a"), &other);
    for untouched in [false, true] {
        bench.untouched.set(untouched);
        bench.is_left(&bench.found(true), "a");
        assert!(bench.captured.borrow().is_empty());
    }
    put(&bench.master("a"), &contents("a"));
    bench.forgets.set(true);
    bench.is_left(&bench.found(true), "a");
    bench.forgets.set(false);
    // While something may have been missed nothing is certain.
    bench.mark(Marker::GapOpened { gap: 5, root: ROOT, path: Vec::new(), cause: GapCause::QueueOverflow });
    bench.is_left(&bench.found(true), "a");
    bench.mark(Marker::GapClosed { gap: 5 });
    assert!(one(&bench.found(true)).repaired);
    bench.is_back("a", &[]);
}

#[test]
fn a_master_that_gives_other_bytes_than_it_was_asked_about_is_not_believed() {
    let bench = Bench::new(&["a"]);
    fs::remove_file(bench.replica("a")).unwrap();
    let lies: [fn(&mut Vec<u8>); 3] = [Vec::clear, |bytes| bytes[4999] ^= 1, |bytes| bytes.truncate(4999)];
    for lie in lies {
        *bench.gives.borrow_mut() = Box::new(lie);
        bench.is_left(&bench.found(true), "a");
    }
}

#[test]
fn a_long_file_is_compared_and_had_in_pieces_to_its_last_byte() {
    let name = "long";
    let bench = Bench::new(&[name]);
    fs::remove_file(bench.replica(name)).unwrap();
    let mut other = contents(name);
    *other.last_mut().unwrap() ^= 1;
    put(&bench.master(name), &other);
    let scrub = || {
        let mut report = ScrubReport::default();
        let rate = 262_144 * 2;
        let options =
            ScrubOptions { repair: true, roots: 1, bytes_per_second: rate, ..ScrubOptions::default() };
        bench.replica.scrub(options, &bench, &mut report).unwrap();
        report
    };
    bench.is_left(&scrub(), name);
    put(&bench.master(name), &contents(name));
    let report = scrub();
    assert_eq!((one(&report).what, one(&report).repaired), ("missing", true), "{report:?}");
    bench.is_back(name, &[]);
}

#[test]
fn a_file_that_is_changed_while_it_is_had_is_had_later() {
    let bench = Bench::new(&["a"]);
    let node = bench.node("a");
    // Something else stands in its place, or apply would stop over the change.
    put(&bench.replica("other"), &contents("a"));
    fs::rename(bench.replica("other"), bench.replica("a")).unwrap();
    let (replica, attributes) = (Arc::clone(&bench.replica), bench.attributes(node));
    *bench.gives.borrow_mut() = Box::new(move |_| {
        let journal = replica.journal();
        let lsn = Lsn::captured(journal.journaled().captured + 1);
        let (time, provenance) = (Timestamp(journal.journaled_time().0 + 1), Provenance::Derived);
        let events = vec![Event::SetAttributes { node, attributes }];
        let capture = Capture { lsn, time, provenance, root: ROOT, path: Vec::new(), events };
        replica.ingest(vec![Part { number: 0, last: true, capture }], |done| assert!(done.is_ok()));
        assert!(journal.wait_applied(lsn, Duration::from_secs(60)));
    });
    let report = bench.found(true);
    assert_eq!((one(&report).what, one(&report).repaired), ("kind", false), "{report:?}");
    assert!(aside(&bench).is_empty(), "what stands there stays until there is something better");
    *bench.gives.borrow_mut() = Box::new(|_| {});
    let report = bench.found(true);
    assert_eq!((one(&report).what, one(&report).repaired), ("kind", true), "{report:?}");
    assert_eq!(aside(&bench).len(), 1);
    bench.is_back("a", &[]);
}

#[test]
fn what_comes_back_by_itself_is_left_as_it_is() {
    let bench = Bench::new(&["a", "b"]);
    let inode = |name: &str| fs::metadata(bench.replica(name)).unwrap().ino();
    let (before, hidden) = (inode("a"), bench.place.path().join("hidden"));
    fs::rename(bench.replica("a"), &hidden).unwrap();
    let (hides, back) = (hidden.clone(), bench.replica("a"));
    *bench.gives.borrow_mut() = Box::new(move |_| fs::rename(&hides, &back).unwrap());
    bench.found(true);
    assert_eq!(inode("a"), before);
    bench.is_back("a", &[]);
    assert!(aside(&bench).is_empty());
}

#[test]
fn what_a_daemon_that_ended_left_is_nothing_to_go_by() {
    let bench = Bench::new(&["a"]);
    let before = bench.ingest(vec![Event::Mark(Marker::GapClosed { gap: 1 })]);
    let node = bench.node("a");
    let refused = || {
        let read = bench.shown(node, before).map(drop);
        assert!(matches!(read, Err(JournalError::Drift { .. })), "{read:?}");
    };
    // It ended while bytes were had.
    fs::remove_file(bench.replica("a")).unwrap();
    let left = bench.place.path().join(".root.rewind/kept").join(format!("again-{:x}", node.0));
    fs::write(&left, vec![0; 1000]).unwrap();
    refused();
    assert!(one(&bench.found(true)).repaired);
    bench.is_back("a", &[before]);
    // It ended when the file had its name and nobody had taken note of its inode.
    fs::write(&left, vec![0; contents("a").len()]).unwrap();
    fs::rename(&left, bench.replica("a")).unwrap();
    refused();
    let report = bench.found(true);
    assert_eq!((one(&report).what, one(&report).repaired), ("kind", true));
    bench.is_back("a", &[before]);
    assert_eq!(aside(&bench).len(), 1);
}

#[test]
fn a_repair_does_not_fill_the_disk() {
    let bench = Bench::with(&["a"], ReplicaOptions { free_bytes_min: u64::MAX, ..ReplicaOptions::default() });
    fs::remove_file(bench.replica("a")).unwrap();
    let node = bench.node("a");
    let edge = Edge::new(NodeId::root(ROOT), Name::new(b"a").unwrap());
    let options = ScrubOptions { repair: true, roots: 1, ..ScrubOptions::default() };
    let mut scrub = Scrub::new(&bench.replica, &bench, options);
    let suspect = crate::replica::scrub::Suspect {
        root: ROOT,
        path: b"a".to_vec(),
        edge,
        node: Some(node),
        first: 0,
        tried: None,
    };
    let missing = crate::replica::scrub::look::Differs { what: "missing", side: Side::Replica, offset: None };
    scrub.since = (bench.replica.journal().cursor_redo(), bench.replica.journal().applied());
    let fetched = scrub.fetch_all(&[(suspect, missing)]).unwrap();
    assert!(fetched.watch(node).is_none());
    drop(fetched);
    assert_eq!(bench.kept(), Vec::<PathBuf>::new());
}
