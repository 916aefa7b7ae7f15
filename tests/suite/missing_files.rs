//! Files that are gone from the replica tree: is each one said at once, and is what apply only moves waited for?
//!
//! On the day on which thousands are missing, a reader that hopes for each of them would be busy for days.

use journal::view::Locator;
use journal::{Edge, JournalError, Name, NodeId, RootNo, TreeIo};
use replication::apply::ApplyError;
use std::sync::Arc;
use std::time::Duration;
use tests::lab::Lab;
use tests::model::{Generator, Options};
use tests::sim_tree::{Fault, SimTree};

const ROOT: RootNo = RootNo(0);
/// Looks into the tree that a reader needs to be sure. Who waits takes hundreds.
const LOOKS_MAX: u64 = 12;

/// Files that are not empty (those are read without a look at the tree) and lie in the root itself, each by one name.
fn files(lab: &Lab) -> Vec<(Name, NodeId)> {
    let view = lab.view(lab.journal.applied());
    let mut found: Vec<(Name, NodeId)> = Vec::new();
    for (name, node) in view.list(NodeId::root(ROOT)).map(Result::unwrap) {
        let meta = view.meta(node).unwrap().unwrap();
        if meta.kind.is_file() && meta.size > 0 && found.iter().all(|(_, known)| *known != node) {
            found.push((name, node));
        }
    }
    found
}

/// A replica with some files in its root.
fn lab() -> Lab {
    let mut lab = Lab::new();
    let mut generator = Generator::new(3, Options::default());
    lab.synchronized(&mut generator);
    for _ in 0..40 {
        let placed = lab.journal_them(&[generator.next()]).unwrap();
        lab.apply(&placed).unwrap();
    }
    assert!(files(&lab).len() > 1, "the generator made no files");
    lab
}

/// Whether it is drift, and how often the tree was looked at.
fn looked<R>(lab: &Lab, result: impl FnOnce() -> Result<R, JournalError>) -> (bool, u64) {
    let before = lab.tree.reads();
    let drift = matches!(result(), Err(JournalError::Drift { .. }));
    (drift, lab.tree.reads() - before)
}

/// Moves a file of the root aside, and back when a reader has looked for it long enough to have given up.
fn waited_for(lab: &Lab, locator: &Locator<SimTree>, name: Name, node: NodeId) {
    let root = lab.tree.root(ROOT).unwrap();
    let aside = Name::new(b"aside").unwrap();
    lab.tree.rename((&root, &name), (&root, &aside)).unwrap();
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| locator.open_file(node));
        let before = lab.tree.reads();
        while lab.tree.reads() < before + 4 * LOOKS_MAX {
            assert!(!reader.is_finished(), "a file on the move was given up");
            std::thread::yield_now();
        }
        lab.tree.rename((&root, &aside), (&root, &name)).unwrap();
        lab.journal.note_applied(lab.journal.applied());
        reader.join().unwrap().unwrap();
    });
}

#[test]
fn a_missing_file_is_said_at_once() {
    let lab = lab();
    let root = lab.tree.root(ROOT).unwrap();
    let view = lab.view(lab.journal.applied());
    for (name, node) in files(&lab) {
        view.open(node).unwrap().read_all().unwrap();
        lab.tree.unlink(&root, &name).unwrap();
        let (drift, looks) = looked(&lab, || {
            let place = Edge::new(NodeId::root(ROOT), name.clone());
            view.open_seen(node, &view.look(node)?.unwrap(), place)?.read_all()
        });
        assert!(drift && looks <= LOOKS_MAX, "{looks} looks");
    }
}

#[test]
fn what_is_moving_is_waited_for() {
    let lab = lab();
    let (name, node) = files(&lab).remove(0);
    let locator = Locator::new(Arc::clone(lab.journal.tables()), Arc::clone(&lab.tree))
        .settling(Duration::from_secs(1 << 20))
        .watching(Arc::clone(lab.journal.motion()));
    lab.journal.note_touching();
    waited_for(&lab, &locator, name, node);
}

/// A batch that stands half way, for days perhaps, is waited for once.
#[test]
fn one_movement_is_waited_for_once() {
    let lab = lab();
    let root = lab.tree.root(ROOT).unwrap();
    let locator = Locator::new(Arc::clone(lab.journal.tables()), Arc::clone(&lab.tree))
        .settling(Duration::from_millis(300))
        .watching(Arc::clone(lab.journal.motion()));
    lab.journal.note_touching();
    for (turn, (name, node)) in files(&lab).into_iter().enumerate() {
        lab.tree.unlink(&root, &name).unwrap();
        let (drift, looks) = looked(&lab, || locator.open_file(node));
        assert!(drift && (turn == 0 || looks <= LOOKS_MAX), "{looks} looks");
    }
}

/// Who tries to finish that batch moves names again, and what is on the way then is waited for again.
#[test]
fn what_moves_again_is_waited_for_again() {
    let lab = lab();
    let root = lab.tree.root(ROOT).unwrap();
    let mut files = files(&lab);
    let locator = Locator::new(Arc::clone(lab.journal.tables()), Arc::clone(&lab.tree))
        .settling(Duration::ZERO)
        .watching(Arc::clone(lab.journal.motion()));
    lab.journal.note_touching();
    lab.journal.note_standing();
    let (gone, lost) = files.remove(0);
    lab.tree.unlink(&root, &gone).unwrap();
    assert!(looked(&lab, || locator.open_file(lost)).0);
    let locator = locator.settling(Duration::from_secs(1 << 20));
    for _ in 0..3 {
        let (drift, looks) = looked(&lab, || locator.open_file(lost));
        assert!(drift && looks <= LOOKS_MAX, "{looks} looks");
        lab.journal.note_touching();
        // A try that failed has moved nothing for good: nothing is waited for once more.
        lab.journal.note_standing();
    }
    lab.journal.note_touching();
    let (name, node) = files.remove(0);
    waited_for(&lab, &locator, name, node);
}

#[test]
fn finishing_a_batch_is_a_movement_of_its_own() {
    let mut lab = Lab::new();
    let mut generator = Generator::new(3, Options::default());
    lab.synchronized(&mut generator);
    let placed = lab.journal_them(&[generator.next()]).unwrap();
    let redo = lab.applier.redo();
    lab.tree.fail_changes(Fault { nth: 0, errno: 5, times: u64::MAX });
    assert!(matches!(lab.applier.apply(&placed, redo), Err(ApplyError::Touching(_))));
    lab.journal.note_standing();
    let stood = lab.journal.motion().now();
    assert!(stood.is_within_batch() && !stood.is_moving());
    lab.applier.finish(&placed, redo).unwrap_err();
    let tried = lab.journal.motion().now();
    assert!(tried.is_same_batch(stood) && tried.is_moving());
    lab.tree.heal();
    lab.applier.finish(&placed, redo).unwrap();
    let done = lab.journal.motion().now();
    assert!(!done.is_within_batch() && !done.is_moving());
}

/// A directory that was remembered and that a server has forgotten since is looked up again.
#[test]
fn a_stale_directory_is_opened_anew() {
    let lab = lab();
    let view = lab.view(lab.journal.applied());
    let root = NodeId::root(ROOT);
    let below = |dir: NodeId| view.list(dir).map(Result::unwrap).collect::<Vec<_>>();
    let is = |node: &NodeId, directory: bool| {
        let meta = view.meta(*node).unwrap().unwrap();
        if directory { meta.kind.is_directory() } else { meta.kind.is_file() }
    };
    let directories: Vec<_> = below(root).into_iter().filter(|(_, node)| is(node, true)).collect();
    let mut files = directories.iter().flat_map(|(_, directory)| below(*directory));
    let (_, node) =
        files.find(|(_, node)| is(node, false)).expect("the generator made no file in a directory");
    let locator =
        Locator::new(Arc::clone(lab.journal.tables()), Arc::clone(&lab.tree)).settling(Duration::ZERO);
    let open = || {
        let before = lab.tree.reads();
        (locator.open_file(node).map(drop), lab.tree.reads() - before)
    };
    let (cold, warm) = (open(), open());
    assert!(cold.0.is_ok() && warm.0.is_ok() && warm.1 < cold.1);
    lab.tree.fail_reads(Fault { nth: 0, errno: 116, times: 1 });
    let (opened, looks) = open();
    opened.unwrap();
    assert_eq!(looks, 1 + cold.1, "from the root");
    // Twice in a row is said, and nothing stale is remembered for the next one.
    lab.tree.fail_reads(Fault { nth: 0, errno: 116, times: 2 });
    assert!(matches!(open().0, Err(JournalError::Tree { .. })));
    open().0.unwrap();
}

/// A system that cannot tell what is there (no descriptors left, a bad sector in a directory) has not said that it is gone.
#[test]
fn what_cannot_be_looked_at_is_not_missing() {
    let lab = lab();
    // EINTR, EIO, EAGAIN, EACCES, ENFILE, EMFILE, ENOTCONN, EREMOTEIO.
    for errno in [4, 5, 11, 13, 23, 24, 107, 121] {
        for (_, node) in files(&lab) {
            let mut refused = 0;
            for nth in 0.. {
                let locator = Locator::new(Arc::clone(lab.journal.tables()), Arc::clone(&lab.tree))
                    .settling(Duration::ZERO);
                let looks = lab.tree.reads();
                lab.tree.fail_reads(Fault { nth, errno, times: 1 });
                let opened = locator.open_file(node);
                lab.tree.heal();
                match opened {
                    Ok(_) => {
                        assert!(lab.tree.reads() <= looks + nth, "a refusal was passed over");
                        break;
                    }
                    Err(error) => assert!(matches!(error, JournalError::Tree { .. }), "{error:?}"),
                }
                refused += 1;
            }
            assert!(refused > 2, "{refused}");
        }
    }
}
