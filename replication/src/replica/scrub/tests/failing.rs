//! Repairs that fail half way: the report says where things are.

use super::faulty::Call;
use super::*;

/// What somebody put into the replica.
const FOREIGN: &[u8] = b"who put it here?";

/// Somebody put something at a name: another inode, whatever stood there.
fn put_foreign(bench: &Bench, name: &str) -> PathBuf {
    put(&bench.replica("other"), FOREIGN);
    fs::rename(bench.replica("other"), bench.replica(name)).unwrap();
    bench.replica(name)
}

/// Whether that was put aside.
fn is_aside(path: &Path) -> bool {
    fs::read(path).map_or(true, |bytes| bytes != FOREIGN)
}

/// Scrubs such a replica. Calls fail that come when it has been put aside.
fn fails_when_aside(bench: &Bench, name: &str, call: Call) -> (Result<(), ScrubError>, ScrubReport) {
    let path = put_foreign(bench, name);
    let met = Arc::new(AtomicU64::new(0));
    let meets = Arc::clone(&met);
    bench.replica.tree().fail(move |called| {
        let fails = called == call && is_aside(&path);
        meets.fetch_add(u64::from(fails), Ordering::SeqCst);
        fails
    });
    let (outcome, report) = bench.scrub(true);
    assert!(met.load(Ordering::SeqCst) > 0, "{call:?} was not called");
    is_told(bench, &report);
    (outcome, report)
}

/// The one difference says where the foreign file is.
fn is_told(bench: &Bench, report: &ScrubReport) {
    let told = one(report).aside.as_ref().unwrap_or_else(|| panic!("nobody is told: {report:?}"));
    let place = bench.place.path().join(".root.rewind/kept").join(told);
    assert_eq!(fs::read(&place).unwrap(), FOREIGN);
    assert_eq!(aside(bench)[0].1, place);
}

#[test]
fn what_was_put_aside_is_told_if_nothing_can_be_made_in_its_stead() {
    for call in [Call::Rename, Call::DirAttributes] {
        let bench = Bench::new(&["a"]);
        let (outcome, report) = fails_when_aside(&bench, "a", call);
        outcome.unwrap();
        assert!(!one(&report).repaired, "{report:?}");
        // The next one makes it.
        bench.replica.tree().fail(|_| false);
        let report = bench.found(true);
        assert_eq!((one(&report).repaired, one(&report).aside.as_ref()), (true, None), "{report:?}");
        assert!(fs::read(bench.replica("a")).unwrap() == contents("a"));
    }
}

#[test]
fn what_was_put_aside_is_told_if_the_time_of_its_directory_cannot_be_set() {
    let bench = Bench::new(&["a"]);
    let (outcome, report) = fails_when_aside(&bench, "strange", Call::DirAttributes);
    outcome.unwrap();
    // It is gone from where nobody captured it, and the master may have something of that name.
    assert!(one(&report).repaired, "{report:?}");
    assert_eq!(bench.captured.borrow().len(), 1);
}

#[test]
fn what_was_put_aside_is_told_if_the_tree_cannot_be_synced() {
    for name in ["a", "strange"] {
        let bench = Bench::new(&["a"]);
        let (outcome, report) = fails_when_aside(&bench, name, Call::Sync);
        assert!(matches!(outcome, Err(ScrubError::NotFollowing(_))), "{outcome:?}");
        assert!(!one(&report).repaired, "{report:?}");
    }
}

#[test]
fn what_was_put_aside_is_told_if_the_tables_cannot_be_read() {
    for name in ["a", "strange"] {
        let bench = Bench::new(&["a"]);
        let path = put_foreign(&bench, name);
        *bench.refuses.lock() = Some(Box::new(move |space, _| space == Space::Nodes && is_aside(&path)));
        let (outcome, report) = bench.scrub(true);
        assert!(matches!(outcome, Err(ScrubError::Journal(JournalError::BadRow { .. }))), "{outcome:?}");
        assert!(!one(&report).repaired, "{report:?}");
        is_told(&bench, &report);
    }
}
