//! Repairs that fail half way: the report says where things are, and nothing goes on in a tree that could not be synced.

use super::faulty::Call;
use super::*;
use crate::replica::Halt;

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

/// A bench of which only errands move the durable cursor, which is behind.
fn behind() -> Bench {
    let options = ReplicaOptions { cursor_every: Duration::from_secs(3600), ..ReplicaOptions::default() };
    let bench = Bench::with(&["a"], options);
    let lsn = bench.mark(Marker::GapClosed { gap: 1 });
    let journal = bench.replica.journal();
    assert!(journal.wait_applied(lsn, Duration::from_secs(60)));
    assert!(journal.cursor() < journal.applied());
    bench
}

/// Nothing is applied any more, nothing is done between batches, and the cursor stays where it was.
fn is_halted(bench: &Bench, cursor: Lsn) {
    let (replica, journal) = (&bench.replica, bench.replica.journal());
    assert!(matches!(replica.status().halt, Some(Halt::Stopped(_))), "{:?}", replica.status());
    let (syncs, applied) = (replica.tree().syncs(), journal.applied());
    assert!(bench.mark(Marker::GapClosed { gap: 2 }) > applied);
    assert_eq!(replica.between_batches(|_, _| ()), None);
    // At its end the cursor would be moved, too.
    replica.stop(Duration::from_secs(1));
    assert_eq!((journal.applied(), journal.cursor(), replica.tree().syncs()), (applied, cursor, syncs));
}

#[test]
fn a_tree_that_an_errand_cannot_sync_is_not_asked_again() {
    let bench = behind();
    let cursor = bench.replica.journal().cursor();
    // Like the kernel, which says it once.
    let mut first = true;
    bench.replica.tree().fail(move |called| called == Call::Sync && std::mem::take(&mut first));
    let settled = bench.replica.between_batches(|_, settle| [settle(), settle()]).unwrap();
    for error in settled.map(Result::unwrap_err) {
        assert!(matches!(error, JournalError::Tree { operation: "sync", .. }), "{error:?}");
    }
    is_halted(&bench, cursor);
}

#[test]
fn an_errand_moves_nothing_in_a_tree_that_could_not_be_synced_before() {
    let bench = behind();
    let cursor = bench.replica.journal().cursor();
    let path = put_foreign(&bench, "strange");
    let edge = Edge::new(NodeId::root(ROOT), Name::new(b"strange").unwrap());
    let replica = Arc::clone(&bench.replica);
    let outcome = bench.replica.between_batches(move |applier, settle| {
        // Whoever moves the cursor met it when the errand was taken already.
        {
            let mut state = replica.shared.0.lock();
            state.unsynced = true;
            state.halt = Some(Halt::Stopped("the tree cannot be synced".to_owned()));
        }
        let (mut aside, syncs) = (None, replica.tree().syncs());
        let moved = applier.put_aside(ROOT, &edge, settle, &mut aside);
        (moved.is_err(), aside, replica.tree().syncs() - syncs)
    });
    assert_eq!(outcome, Some((true, None, 0)));
    assert!(!is_aside(&path));
    is_halted(&bench, cursor);
}
