//! Every rule for what stands there already, removing, and plans that say so before.

use super::world::{
    Object, Seen, World, assert_same, directory, expected, file, look, planned, restore, touch,
};
use crate::session::{IfExists, Options, Outcome, SessionRestoreError};
use snapshot::repository::{Id, NodeKind};
use std::fs;
use std::path::Path;

/// A session with `/srv/old` and `/srv/new` (their times: 1,234,567,890 s) and a directory.
fn session(world: &World) -> (Object, Id) {
    let mut top = directory();
    top.put("srv/old", file(b"session")).put("srv/new", file(b"session")).put("srv/d/in", file(b"in"));
    let tree = world.save(&mut top, &mut || 3);
    (top, tree)
}

/// A target in which `old` is older than the session's and `new` is newer.
fn prepared() -> tempfile::TempDir {
    let target = tempfile::tempdir().unwrap();
    let srv = target.path().join("srv");
    fs::create_dir(&srv).unwrap();
    for (name, seconds) in [("old", 1_000), ("new", 2_000_000_000)] {
        fs::write(srv.join(name), b"target").unwrap();
        touch(&srv.join(name), rustix::fs::Timespec { tv_sec: seconds, tv_nsec: 0 });
    }
    fs::write(srv.join("other"), b"other").unwrap();
    target
}

fn text(target: &Path, name: &str) -> String {
    fs::read_to_string(target.join("srv").join(name)).unwrap()
}

fn options(if_exists: IfExists) -> Options {
    Options { if_exists, ..Options::default() }
}

#[test]
fn fail_writes_nothing_and_names_the_conflicts() {
    let world = World::new();
    let (_, tree) = session(&world);
    let target = prepared();
    let before = look(target.path());
    let plan = planned(&world.repository, tree, &[], target.path(), options(IfExists::Fail)).unwrap();
    assert_eq!((plan.totals.conflicts, plan.totals.files), (2, 1));
    match crate::session::execute(&plan, &crate::NoMonitor) {
        Err(SessionRestoreError::Conflicts { first, count }) => {
            assert_eq!((first, count), (vec![b"/srv/new".to_vec(), b"/srv/old".to_vec()], 2));
        }
        other => panic!("{other:?}"),
    }
    assert_same(&look(target.path()), &before);
}

#[test]
fn overwrite_replaces_and_keeps_the_rest() {
    let world = World::new();
    let (top, tree) = session(&world);
    let target = prepared();
    let other = look(target.path())[b"/srv/other".as_slice()].clone();
    let receipt = restore(&world.repository, tree, &[], target.path(), options(IfExists::Overwrite)).unwrap();
    assert_eq!((receipt.outcome(), receipt.files), (Outcome::Done, 3));
    let mut wanted = expected(&top);
    wanted.insert(b"/srv/other".to_vec(), other);
    assert_same(&look(target.path()), &wanted);
}

#[test]
fn newer_replaces_only_what_is_older() {
    let world = World::new();
    let (_, tree) = session(&world);
    let target = prepared();
    let receipt = restore(&world.repository, tree, &[], target.path(), options(IfExists::Newer)).unwrap();
    assert_eq!((receipt.files, receipt.skipped, receipt.outcome()), (2, 1, Outcome::Done));
    assert_eq!((text(target.path(), "old"), text(target.path(), "new")), ("session".into(), "target".into()));
}

#[test]
fn skip_replaces_nothing() {
    let world = World::new();
    let (_, tree) = session(&world);
    let target = prepared();
    let receipt = restore(&world.repository, tree, &[], target.path(), options(IfExists::Skip)).unwrap();
    assert_eq!((receipt.files, receipt.skipped), (1, 2));
    assert_eq!((text(target.path(), "old"), text(target.path(), "new")), ("target".into(), "target".into()));
    assert_eq!(text(target.path(), "d/in"), "in");
}

#[test]
fn rename_leaves_both() {
    let world = World::new();
    let (top, tree) = session(&world);
    let target = prepared();
    fs::write(target.path().join("srv/new.restored"), b"taken").unwrap();
    fs::write(target.path().join("srv/d"), b"a file where a directory should be").unwrap();
    let receipt = restore(&world.repository, tree, &[], target.path(), options(IfExists::Rename)).unwrap();
    assert_eq!((receipt.files, receipt.renamed, receipt.outcome()), (3, 3, Outcome::Done));
    for (name, wanted) in [
        ("old", "target"),
        ("old.restored", "session"),
        ("new.restored", "taken"),
        ("new.restored-2", "session"),
        ("d", "a file where a directory should be"),
        ("d.restored/in", "in"),
    ] {
        assert_eq!(text(target.path(), name), wanted, "{name}");
    }
    let same = |seen: &Seen| Seen { first: Vec::new(), ..seen.clone() };
    let found = look(target.path());
    let wanted = expected(&top);
    assert_eq!(same(&found[b"/srv/d.restored".as_slice()]), same(&wanted[b"/srv/d".as_slice()]));
}

#[test]
fn delete_makes_a_tree_equal_and_touches_nothing_else() {
    let world = World::new();
    let (top, tree) = session(&world);
    let target = prepared();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("precious"), b"precious").unwrap();
    let srv = target.path().join("srv");
    fs::create_dir_all(srv.join("extra/a/b")).unwrap();
    fs::write(srv.join("extra/a/b/c"), b"").unwrap();
    std::os::unix::fs::symlink(outside.path(), srv.join("extra/link")).unwrap();
    std::os::unix::fs::symlink(outside.path(), srv.join("link")).unwrap();
    fs::write(target.path().join("beside"), b"beside").unwrap();
    fs::create_dir(srv.join("old.d")).unwrap();
    fs::remove_file(srv.join("old")).unwrap();
    fs::create_dir(srv.join("old")).unwrap();
    fs::write(srv.join("old/in"), b"").unwrap();
    let options = Options { delete: true, ..options(IfExists::Overwrite) };
    let plan = planned(&world.repository, tree, &["/srv"], target.path(), options).unwrap();
    assert_eq!((plan.totals.removed, plan.totals.removals[0].as_slice()), (4, &b"/srv/extra"[..]));
    let receipt = crate::session::execute(&plan, &crate::NoMonitor).unwrap();
    assert_eq!((receipt.removed, receipt.outcome()), (4, Outcome::Done), "{receipt:?}");
    // What leads to the path is as it was.
    let mut found = look(target.path());
    assert_eq!(found.remove(b"/beside".as_slice()).unwrap().data, b"beside");
    let above = found.remove(b"/srv".as_slice()).unwrap();
    let mut wanted = expected(&top);
    wanted.remove(b"/srv".as_slice());
    assert_same(&found, &wanted);
    assert_eq!(above.kind, NodeKind::Directory);
    assert_eq!(fs::read(outside.path().join("precious")).unwrap(), b"precious");
    // Without it, a directory is not given up for a file.
    let target = prepared();
    fs::remove_file(target.path().join("srv/old")).unwrap();
    fs::create_dir(target.path().join("srv/old")).unwrap();
    let options = Options { delete: false, ..options };
    let receipt = restore(&world.repository, tree, &[], target.path(), options).unwrap();
    assert_eq!((receipt.outcome(), receipt.failed), (Outcome::Incomplete, 1));
    assert_eq!(receipt.failures[0].path, b"/srv/old");
    let both = Options { delete: true, if_exists: IfExists::Rename, ..options };
    let refused = planned(&world.repository, tree, &[], target.path(), both);
    assert!(matches!(refused, Err(SessionRestoreError::Options { .. })));
}

#[test]
fn a_receipt_is_json() {
    let world = World::new();
    let mut top = directory();
    top.below.insert(b"\xff".to_vec(), file(b"x"));
    let tree = world.save(&mut top, &mut || 3);
    let target = tempfile::tempdir().unwrap();
    fs::create_dir(target.path().join(std::str::from_utf8(b"d").unwrap())).unwrap();
    use std::os::unix::ffi::OsStrExt;
    fs::create_dir(target.path().join(std::ffi::OsStr::from_bytes(b"\xff"))).unwrap();
    let receipt = restore(&world.repository, tree, &[], target.path(), options(IfExists::Overwrite)).unwrap();
    let json = serde_json::to_value(&receipt).unwrap();
    assert_eq!(json["failures"][0]["path_base64"], "L/8=");
    assert_eq!((&json["failed"], &json["verified"]), (&1.into(), &serde_json::Value::Null));
}

#[test]
fn by_a_session_that_missed_something_nothing_is_removed() {
    let world = World::new();
    let (_, tree) = session(&world);
    let target = prepared();
    let before = look(target.path());
    let lacking = Options { missed: 2, ..options(IfExists::Overwrite) };
    let delete = Options { delete: true, ..lacking };
    match planned(&world.repository, tree, &[], target.path(), delete) {
        Err(SessionRestoreError::Lacking { missed: 2 }) => {}
        other => panic!("{other:?}"),
    }
    assert_same(&look(target.path()), &before);
    let plan = planned(&world.repository, tree, &[], target.path(), lacking).unwrap();
    let receipt = crate::session::execute(&plan, &crate::NoMonitor).unwrap();
    assert_eq!((receipt.outcome(), receipt.failed, receipt.warned), (Outcome::Incomplete, 0, 1));
    assert!(receipt.warnings[0].reason.contains("lacks 2 objects"), "{receipt:?}");
    assert_eq!(
        (text(target.path(), "old"), text(target.path(), "other")),
        ("session".into(), "other".into())
    );
}
