//! A restore that was stopped anywhere goes on, and ends as if it had not been.

use super::world::{
    After, Random, Special, World, assert_same, directory, expected, file, look, object, planned, restore,
    touch,
};
use crate::session::{
    BatchLimits, IfExists, Monitor, Options, Outcome, Part, Progress, SessionRestoreError, began, execute,
    execute_part, stands,
};
use rustix::fs::Timespec;
use snapshot::repository::{Id, NodeKind};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicU64;
use std::time::Duration;

#[test]
fn stopped_anywhere_it_goes_on() {
    let mut random = Random::from_clock("stopped_anywhere_it_goes_on");
    for _ in 0..8 {
        let target = tempfile::tempdir().unwrap();
        let special = Special::of(target.path());
        let world = World::new();
        let mut top = directory();
        let model = random.tree(4, &mut Vec::new(), &special);
        top.put("srv/data", model).put("srv/one", file(b"at least one"));
        let tree = world.save(&mut top, &mut || 1 + random.below(20_000) as usize);
        let batch = BatchLimits { blobs: 8, files: 4, bytes: 1 << 18 };
        let rules = [IfExists::Fail, IfExists::Overwrite, IfExists::Skip];
        let if_exists = rules[random.below(3) as usize];
        let options = Options { batch, if_exists, verify: true, ..Options::default() };
        let (mut runs, mut patience) = (0, 3);
        let receipt = loop {
            runs += 1;
            let plan = planned(&world.repository, tree, &[], target.path(), options).unwrap();
            assert_eq!(plan.totals.resumes, runs > 1);
            // Whatever has its own name is whole, at any moment.
            let wanted = expected(&top);
            for (path, seen) in look(target.path()) {
                if path.starts_with(b"/.rewind-") {
                    continue;
                }
                let whole =
                    wanted.get(&path).unwrap_or_else(|| panic!("{:?}", String::from_utf8_lossy(&path)));
                assert_eq!((seen.kind, seen.data.len()), (whole.kind, whole.data.len()));
                assert!(seen.data == whole.data);
            }
            patience += random.below(40);
            match execute(&plan, &After(AtomicU64::new(patience))) {
                Ok(receipt) => break receipt,
                Err(SessionRestoreError::Cancelled) => {}
                Err(other) => panic!("{if_exists:?}: {other:?}"),
            }
        };
        assert_same(&look(target.path()), &expected(&top));
        if special.root {
            assert_eq!(receipt.outcome(), Outcome::Done, "{if_exists:?}: {receipt:?}");
        }
        println!("{runs} runs, {} found whole", receipt.resumed);
    }
}

#[test]
fn what_a_killed_run_left_is_removed_and_whole_files_are_not_fetched() {
    let world = World::new();
    let mut top = directory();
    top.put("srv/a", file(b"a")).put("srv/b", file(b"b")).put("srv/d/c", file(b"c"));
    let tree = world.save(&mut top, &mut || 100);
    let target = tempfile::tempdir().unwrap();
    let receipt = restore(&world.repository, tree, &[], target.path(), Options::default()).unwrap();
    assert_eq!((receipt.resumed, receipt.files), (0, 3));
    // As a kill leaves it: the marker, a temporary file, a name not made yet, a directory not finished.
    let mark = crate::session::marker::Mark::new(&tree, &[]);
    fs::write(target.path().join(mark.name()), b"").unwrap();
    let temporary = format!("srv/d/{}1", mark.temporary_prefix());
    fs::write(target.path().join(&temporary), b"half").unwrap();
    fs::write(target.path().join("srv/.rewind-of-somebody-else"), b"").unwrap();
    fs::remove_file(target.path().join("srv/b")).unwrap();
    use std::os::unix::fs::PermissionsExt;
    for name in ["srv", "srv/d"] {
        fs::set_permissions(target.path().join(name), PermissionsExt::from_mode(0o1700)).unwrap();
    }
    let plan = planned(&world.repository, tree, &[], target.path(), Options::default()).unwrap();
    assert_eq!((plan.totals.resumed, plan.totals.files, plan.totals.conflicts), (2, 1, 0));
    let receipt = execute(&plan, &crate::NoMonitor).unwrap();
    assert_eq!((receipt.resumed, receipt.bytes_written), (2, 1));
    let mut found = look(target.path());
    assert!(found.remove(b"/srv/.rewind-of-somebody-else".as_slice()).is_some());
    assert_same(&found, &expected(&top));
}

/// What the killed process runs; in any other run of the tests it does nothing.
#[test]
fn child_that_is_killed() {
    let Ok(place) = std::env::var("REWIND_TEST_KILLED_IN") else { return };
    let place = Path::new(&place);
    let tree = Id::parse(&fs::read_to_string(place.join("tree")).unwrap()).unwrap();
    let repository = super::world::open_directory(&place.join("repository"));
    restore(&repository, tree, &[], &place.join("target"), killed_options()).unwrap();
}

fn killed_options() -> Options {
    Options { batch: BatchLimits { blobs: 60, files: 8, bytes: 1 << 20 }, ..Options::default() }
}

#[test]
fn killed_at_any_moment_it_goes_on() {
    let mut random = Random::from_clock("killed_at_any_moment_it_goes_on");
    let place = tempfile::tempdir().unwrap();
    let world = World::in_directory(&place.path().join("repository"));
    let special = Special::of(place.path());
    let mut top = directory();
    for number in 0..10 {
        let model = random.tree(3, &mut Vec::new(), &special);
        top.put(&format!("srv/data{number}"), model);
    }
    let tree = world.save(&mut top, &mut || 1 + random.below(20_000) as usize);
    fs::write(place.path().join("tree"), tree.to_string()).unwrap();
    let (mut kills, mut temporaries) = (0, 0);
    for round in 0..12 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "session::tests::resume::child_that_is_killed"])
            .env("REWIND_TEST_KILLED_IN", place.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(random.below(40 + 20 * round)));
        child.kill().unwrap();
        kills += u64::from(!child.wait().unwrap().success());
        if place.path().join("target").exists() {
            let found = look(&place.path().join("target"));
            let ours = |path: &&Vec<u8>| path.windows(9).any(|part| part == b"/.rewind-");
            temporaries += found.keys().filter(ours).count();
            let wanted = expected(&top);
            for (path, seen) in found.iter().filter(|(path, _)| !ours(path)) {
                assert!(seen.data == wanted[path].data, "{}", String::from_utf8_lossy(path));
            }
        }
    }
    println!("{kills} kills, {temporaries} markers and temporary files seen");
    let repository = super::world::open_directory(&place.path().join("repository"));
    restore(&repository, tree, &[], &place.path().join("target"), killed_options())
        .map(|receipt| println!("{} of {} files were whole", receipt.resumed, receipt.files))
        .or_else(|error| match error {
            // The last child was not killed: all is there.
            SessionRestoreError::Conflicts { .. } => Ok(()),
            other => Err(other),
        })
        .unwrap();
    assert_same(&look(&place.path().join("target")), &expected(&top));
}

#[test]
fn what_was_changed_meanwhile_is_not_taken_for_whole() {
    let world = World::new();
    let mut top = directory();
    top.put("srv/a", file(b"one")).put("srv/b", file(b"two")).put("srv/c", file(b"three"));
    let tree = world.save(&mut top, &mut || 100);
    let target = tempfile::tempdir().unwrap();
    restore(&world.repository, tree, &[], target.path(), Options::default()).unwrap();
    let mark = crate::session::marker::Mark::new(&tree, &[]);
    fs::write(target.path().join(mark.name()), b"").unwrap();
    fs::write(target.path().join("srv/a"), b"ONE").unwrap();
    fs::write(target.path().join("srv/b"), b"another size").unwrap();
    touch(&target.path().join("srv/b"), Timespec { tv_sec: 1_234_567_890, tv_nsec: 0 });
    let plan = planned(&world.repository, tree, &[], target.path(), Options::default()).unwrap();
    assert_eq!((plan.totals.conflicts, plan.totals.resumed), (2, 1));
    let options = Options { if_exists: IfExists::Overwrite, ..Options::default() };
    let receipt = restore(&world.repository, tree, &[], target.path(), options).unwrap();
    assert_eq!(receipt.resumed, 1);
    assert_same(&look(target.path()), &expected(&top));
}

#[test]
fn a_part_that_is_marked_speaks_for_all_parts() {
    let world = World::new();
    let mut trees = Vec::new();
    for name in ["one", "two", "three"] {
        let mut top = directory();
        top.put(&format!("srv/{name}"), file(name.as_bytes()));
        trees.push(world.save(&mut top, &mut || 100));
    }
    let place = tempfile::tempdir().unwrap();
    let target = place.path().join("out");
    let is_begun = || began(&target, trees.iter().map(|tree| (tree, [].as_slice()))).unwrap();
    assert!(!is_begun());
    let options = Options::default();
    let parts = trees.iter().map(|tree| {
        let plan = planned(&world.repository, *tree, &[], &target, options).unwrap();
        execute_part(&plan, &crate::NoMonitor).unwrap().1
    });
    let mut parts: Vec<_> = parts.collect();
    // Killed between the marks: whichever is left says it.
    let left = parts.remove(1);
    parts.into_iter().try_for_each(Part::end).unwrap();
    drop(left);
    assert!(is_begun());
    let plan = |tree, options| planned(&world.repository, tree, &[], &target, options).unwrap().totals;
    assert_eq!(plan(trees[2], options).conflicts, 1);
    let options = Options { began: true, ..options };
    for tree in &trees {
        let totals = plan(*tree, options);
        assert_eq!((totals.conflicts, totals.resumed), (0, 1));
        let receipt = restore(&world.repository, *tree, &[], &target, options).unwrap();
        assert_eq!((receipt.resumed, receipt.bytes_written), (1, 0));
    }
    assert!(!is_begun());
    // By another rule what stands there may be anybody's, however it looks: it is written again.
    let options = Options { if_exists: IfExists::Overwrite, ..options };
    let times = fs::metadata(target.join("srv/two")).unwrap().modified().unwrap();
    fs::write(target.join("srv/two"), b"TWO").unwrap();
    fs::File::open(target.join("srv/two")).unwrap().set_modified(times).unwrap();
    restore(&world.repository, trees[1], &[], &target, options).unwrap();
    assert_eq!(fs::read(target.join("srv/two")).unwrap(), b"two");
}

/// Only a restore that has done all is taken for done, and what is somebody else's is not touched, however it looks.
#[test]
fn what_stands_is_compared_and_not_changed() {
    let world = World::new();
    let mut top = directory();
    top.put("srv/a", file(b"a")).put("srv/d/b", file(b"bb"));
    let mut link = object(NodeKind::Symlink, 0o777);
    link.node.link_target = b"a".to_vec();
    top.put("srv/link", link);
    let mut twin = file(b"twin");
    (twin.node.inode, twin.node.device_id, twin.node.links) = (5, 77, 2);
    top.put("srv/x", twin.clone()).put("srv/y", twin);
    let tree = world.save(&mut top, &mut || 100);
    let place = tempfile::tempdir().unwrap();
    let target = place.path().join("out");
    let stands_by = |options| {
        let plan = planned(&world.repository, tree, &[], &target, options).unwrap();
        let before = target.exists().then(|| look(&target));
        let receipt = stands(&plan, &crate::NoMonitor).unwrap();
        assert!(before == target.exists().then(|| look(&target)));
        receipt
    };
    let began = Options { began: true, ..Options::default() };
    let stands = || stands_by(began);
    assert_eq!(stands(), None);
    let whole = restore(&world.repository, tree, &[], &target, Options::default()).unwrap();
    let found = stands().unwrap();
    assert_eq!((found.files, found.links, found.others), (whole.files, whole.links, whole.others));
    assert_eq!((found.directories, found.bytes), (whole.directories, whole.bytes));
    let changed = |name: &str, change: &dyn Fn(&Path)| {
        let (path, aside) = (target.join(name), place.path().join("aside"));
        let parent = path.parent().unwrap().metadata().unwrap().modified().unwrap();
        let back = || fs::File::open(path.parent().unwrap()).unwrap().set_modified(parent).unwrap();
        let found = path.symlink_metadata().unwrap();
        fs::rename(&path, &aside).unwrap();
        change(&path);
        if found.is_file() {
            fs::set_permissions(&path, found.permissions()).unwrap();
        }
        touch(&path, Timespec { tv_sec: found.mtime(), tv_nsec: found.mtime_nsec() as _ });
        back();
        assert_eq!(stands(), None, "{name}");
        fs::remove_file(&path).unwrap();
        fs::rename(&aside, &path).unwrap();
        back();
        assert!(stands().is_some(), "{name}");
    };
    changed("srv/a", &|path| fs::write(path, b"A").unwrap());
    changed("srv/d/b", &|path| fs::write(path, b"other").unwrap());
    changed("srv/y", &|path| fs::write(path, b"twin").unwrap());
    changed("srv/x", &|path| fs::write(path, b"TWIN").unwrap());
    changed("srv/link", &|path| std::os::unix::fs::symlink("b", path).unwrap());
    let delete = Options { delete: true, ..began };
    assert!(stands_by(delete).is_some());
    fs::write(target.join("srv/d/extra"), b"").unwrap();
    assert_eq!(stands_by(delete), None);
    assert!(stands().is_some());
    fs::remove_file(target.join("srv/d/b")).unwrap();
    assert_eq!(stands(), None);
}

/// The thread that writes back goes along with the work, also where the work ends in a panic.
#[test]
fn a_panic_while_it_writes_comes_out() {
    struct Panics;
    impl Monitor for Panics {
        fn progress(&self, progress: Progress) {
            assert!(progress.bytes == 0, "on purpose");
        }

        fn cancelled(&self) -> bool {
            false
        }
    }
    let world = World::new();
    let mut top = directory();
    top.put("f", file(b"content"));
    let tree = world.save(&mut top, &mut || 100);
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let target = tempfile::tempdir().unwrap();
        let plan = planned(&world.repository, tree, &[], target.path(), Options::default()).unwrap();
        let outcome = catch_unwind(AssertUnwindSafe(|| execute_part(&plan, &Panics).map(drop)));
        tell.send(outcome.is_err()).unwrap();
    });
    let panicked =
        told.recv_timeout(Duration::from_secs(60)).expect("the thread that writes back waits for ever");
    assert!(panicked);
}

#[test]
fn two_of_the_same_do_not_run_at_once() {
    let world = World::new();
    let mut top = directory();
    top.put("f", file(b"f"));
    let tree = world.save(&mut top, &mut || 100);
    let target = tempfile::tempdir().unwrap();
    let opened = crate::session::target::Target::open(target.path()).unwrap().unwrap();
    let mark = crate::session::marker::Mark::new(&tree, &[]);
    let _held = mark.take(&opened, target.path()).unwrap();
    let outcome = restore(&world.repository, tree, &[], target.path(), Options::default());
    assert!(matches!(outcome, Err(SessionRestoreError::Busy { .. })), "{outcome:?}");
    // Another restore into the same directory is another matter.
    restore(&world.repository, tree, &["/f"], target.path(), Options::default()).unwrap();
}
