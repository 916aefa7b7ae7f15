//! Every rule against everything that may stand there.

use super::*;
use snapshot::repository::Timestamp;

const WANTED_TIME: i64 = 1000;

fn meta(kind: NodeKind) -> Meta {
    let modified = Timestamp { seconds: WANTED_TIME, nanoseconds: 0 };
    Meta { kind, mode: 0o644, uid: 1, gid: 1, modified, accessed: modified, xattrs: Vec::new() }
}

fn found(kind: NodeKind, seconds: i64) -> Found {
    let modified = Timestamp { seconds, nanoseconds: 0 };
    Found { kind, size: 10, mode: 0o644, modified, device: 0, identity: (1, 1), uid: 1, gid: 1 }
}

fn check(wanted: NodeKind, there: Option<Found>, rules: (IfExists, bool, bool), expected: Action) {
    let meta = meta(wanted);
    let (if_exists, delete, again) = rules;
    let decided = decide(
        Wanted { meta: &meta, size: 10, device: 0 },
        there.as_ref(),
        Rules { if_exists, delete, again, half_made: false },
    );
    assert_eq!(decided, expected, "{wanted:?} {there:?} {rules:?}");
}

#[test]
fn each_rule() {
    use IfExists::{Fail, Newer, Overwrite, Rename, Skip};
    use NodeKind::{Directory, Fifo, File, Symlink};
    let all = [Fail, Newer, Overwrite, Rename, Skip];
    for rule in all {
        for kind in [File, Directory, Symlink, Fifo] {
            check(kind, None, (rule, true, true), Action::Make);
        }
        let metadata = rule == Overwrite;
        check(Directory, Some(found(Directory, 5)), (rule, false, false), Action::Merge { metadata });
        // The same time and mode: ours, if an earlier run is gone on with.
        let same = found(Directory, WANTED_TIME);
        check(Directory, Some(same), (rule, false, false), Action::Merge { metadata });
        check(Directory, Some(same), (rule, false, true), Action::Merge { metadata: true });
        for mode in [0o1700, 0o3700] {
            let unfinished = Found { mode, ..found(Directory, 5) };
            check(Directory, Some(unfinished), (rule, false, true), Action::Merge { metadata: true });
        }
        check(File, Some(found(File, WANTED_TIME)), (rule, false, true), Action::Whole);
    }
    let older = Some(found(File, WANTED_TIME - 1));
    let newer = Some(found(File, WANTED_TIME + 1));
    let same = Some(found(File, WANTED_TIME));
    for wanted in [File, Directory, Symlink] {
        for (rule, there, action) in [
            (Overwrite, newer, Action::Replace),
            (Newer, older, Action::Replace),
            (Newer, newer, Action::Skip),
            (Newer, same, Action::Skip),
            (Skip, older, Action::Skip),
            (Rename, older, Action::Rename),
            (Fail, older, Action::Conflict),
        ] {
            check(wanted, there, (rule, false, false), action);
        }
    }
    let directory = Some(found(Directory, 5));
    check(File, directory, (Overwrite, false, false), Action::InTheWay);
    check(File, directory, (Overwrite, true, false), Action::ReplaceDirectory);
    check(File, directory, (Skip, true, false), Action::Skip);
    check(File, directory, (Fail, true, false), Action::Conflict);
}

#[test]
fn what_is_not_whole() {
    use NodeKind::File;
    let whole = found(File, WANTED_TIME);
    for there in [
        Found { size: 11, ..whole },
        Found { mode: 0o600, ..whole },
        Found { modified: Timestamp { seconds: WANTED_TIME, nanoseconds: 1 }, ..whole },
        Found { kind: NodeKind::Fifo, ..whole },
    ] {
        check(File, Some(there), (IfExists::Fail, false, true), Action::Conflict);
    }
    // A set-id bit may have been withheld.
    let withheld = Found { mode: 0o6644, ..whole };
    check(File, Some(withheld), (IfExists::Fail, false, true), Action::Whole);
}

#[test]
fn other_names_fit() {
    assert_eq!(other_name(b"a", 1), b"a.restored");
    assert_eq!(other_name(b"a", 12), b"a.restored-12");
    assert_eq!(other_name(&[b'x'; 255], 1000).len(), 255);
}
