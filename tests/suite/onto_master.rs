//! Does a rewind onto the master make master, replica and point equal, lose nothing people wrote, and go on?

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use tests::chaos::Chaos;
use tests::compare::assert_same;
use tests::daemon::{World, seed, size};
use tests::keep::Keeper;
use tests::pair::Pair;
use tests::rng::Rng;

/// A tree that holds one of everything.
fn fill(top: &Path) {
    let mut rng = Rng::new(3);
    for directory in ["a/b/c", "empty", "moved", "gone/deep"] {
        fs::create_dir_all(top.join(directory)).unwrap();
    }
    for (number, directory) in ["a", "a/b", "a/b/c", "moved", "gone", "gone/deep"].iter().enumerate() {
        for n in 0..5 {
            let bytes = rng.below(20_000) as usize;
            fs::write(top.join(directory).join(format!("{number}-{n}")), rng.bytes(bytes)).unwrap();
        }
    }
    fs::hard_link(top.join("a/0-0"), top.join("moved/twin")).unwrap();
    symlink("../nowhere", top.join("a/dangling")).unwrap();
    symlink("/etc/hostname", top.join("absolute")).unwrap();
    let sparse = File::create(top.join("sparse")).unwrap();
    sparse.set_len(64 << 20).unwrap();
    sparse.write_all_at(b"in the middle", 32 << 20).unwrap();
    fs::write(top.join("with xattr"), "x").unwrap();
    xattr(&top.join("with xattr"), b"one");
    xattr(&top.join("a/b"), b"of a directory");
    fs::set_permissions(top.join("a/1-1"), fs::Permissions::from_mode(0o4750)).ok();
    fs::set_permissions(top.join("empty"), fs::Permissions::from_mode(0o500)).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        top.join("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o640),
        0,
    )
    .unwrap();
}

fn xattr(path: &Path, value: &[u8]) {
    rustix::fs::lsetxattr(path, "user.note", value, rustix::fs::XattrFlags::empty()).unwrap();
}

/// What ruins it.
fn ruin(top: &Path) {
    fs::remove_dir_all(top.join("gone")).unwrap();
    fs::rename(top.join("moved"), top.join("a/b/moved on")).unwrap();
    fs::remove_file(top.join("a/b/moved on/twin")).unwrap();
    fs::write(top.join("a/0-0"), "other").unwrap();
    fs::rename(top.join("a/b/c/2-1"), top.join("a/b/c/2-2")).unwrap();
    fs::remove_file(top.join("a/dangling")).unwrap();
    fs::create_dir(top.join("a/dangling")).unwrap();
    fs::write(top.join("a/dangling/new"), "n").unwrap();
    fs::remove_file(top.join("absolute")).unwrap();
    File::options().write(true).open(top.join("sparse")).unwrap().set_len(1000).unwrap();
    xattr(&top.join("with xattr"), b"two");
    xattr(&top.join("a/b"), b"changed");
    fs::remove_dir(top.join("empty")).unwrap();
    fs::write(top.join("empty"), "a file now").unwrap();
    fs::remove_file(top.join("pipe")).unwrap();
    // As editors do.
    fs::write(top.join("a/.tmp"), "saved").unwrap();
    fs::rename(top.join("a/.tmp"), top.join("a/0-1")).unwrap();
    let (x, y) = (top.join("a/0-2"), top.join("a/0-3"));
    rustix::fs::renameat_with(rustix::fs::CWD, &x, rustix::fs::CWD, &y, rustix::fs::RenameFlags::EXCHANGE)
        .unwrap();
}

/// Nothing of the product's own is left in a protected tree.
fn assert_clean(top: &Path) {
    let ours = |entry: std::io::Result<fs::DirEntry>| {
        let name = entry.unwrap().file_name().into_string().unwrap_or_default();
        name.starts_with(".rewind").then_some(name)
    };
    assert_eq!(fs::read_dir(top).unwrap().filter_map(ours).collect::<Vec<_>>(), [""; 0]);
}

/// Master and replica are as the copy, and the scenario replicates.
fn check(world: &World, kept: &Path, context: &str) {
    assert_same(&world.master(), kept, &format!("{context}: the master and the point"));
    assert_same(&world.replica(), kept, &format!("{context}: the replica and the point"));
    assert_clean(&world.master());
    assert_eq!(world.ok("scenario status docs")["state"], "replicating", "{context}");
}

#[test]
fn one_of_everything() {
    let mut world = World::idle();
    let master = world.master();
    fill(&master);
    world.start();
    world.protect();
    world.ok("bookmark set docs good");
    let (good, ruined) = (world.path("good"), world.path("ruined"));
    Keeper::new(&master).keep(&good);
    ruin(&master);
    Keeper::new(&master).keep(&ruined);

    // A dry run says what would be done, and does nothing.
    let plan = world.ctl("rewind docs --to good --onto master --dry-run");
    let plan: serde_json::Value = serde_json::from_str(&plan.stdout).unwrap();
    let changes = plan["changes"].as_array().unwrap();
    assert!(changes.iter().any(|change| change["path"].as_str().unwrap().ends_with("/gone/deep")), "{plan}");
    world.flush();
    assert_same(&master, &ruined, "after the dry run");

    let done = world.ok("rewind docs --to good --onto master --yes");
    check(&world, &good, "back");
    assert!(done["files_changed"].as_u64().unwrap() > 10, "{done}");
    let log = world.list("log --scenario docs");
    let said = |text: &str| log.iter().any(|line| line.to_string().contains(text));
    assert!(said("Rewind process is completed successfully"), "{log:?}");

    // The bookmark set before leads forth again, and what was written just before is in it.
    let before = done["before"].as_str().unwrap();
    let read = world.read_at(before, "before");
    assert_same(&read, &ruined, "the automatic bookmark");
    world.ok(&format!("rewind docs --to {before} --onto master --yes"));
    check(&world, &ruined, "forth");
    world.ok("rewind docs --to good --onto master --yes");
    check(&world, &good, "back again");
    // The second time there is nothing to do.
    let again = world.ok("rewind docs --to good --onto master --yes");
    assert_eq!((&again["files_changed"], &again["bytes_written"]), (&0.into(), &0.into()), "{again}");
    let now = world.ok("rewind docs --to now --onto master --yes");
    assert_eq!(now["files_changed"], 0, "{now}");
    check(&world, &good, "now");
    // Work goes on, and comes through.
    fs::write(master.join("a/after"), "later").unwrap();
    world.flush();
    assert_same(&master, &world.replica(), "afterwards");
    // Everything that ever was can still be read.
    assert_same(&world.read_at("good", "good-again"), &good, "the point, from the replica");
}

#[test]
fn to_any_point_after_random_changes() {
    let seed = seed("to_any_point_after_random_changes");
    let mut world = World::idle();
    // One for all: another would use names again, of pipes too.
    let mut chaos = Chaos::new(&world.master(), seed);
    chaos.change(300);
    world.start();
    world.protect();
    let mut keeper = Keeper::new(&world.master());
    let mut points = Vec::new();
    for round in 0..size(6, 20) {
        chaos.change(60);
        let lsn = world.flush();
        let kept = world.path(&format!("kept-{round}"));
        keeper.keep(&kept);
        // A change that was never captured is not for a rewind to bring back.
        assert_same(&world.replica(), &kept, &format!("seed {seed}: captured at {lsn}"));
        points.push((lsn, kept));
    }
    for round in 0..size(8, 40) {
        let choice = chaos.rng().below(points.len() as u64) as usize;
        let (lsn, kept) = &points[choice];
        // Not flushed: the command sees to that.
        let late = chaos.rng().chance(1, 2);
        if late {
            chaos.change(20);
        }
        world.ok(&format!("rewind docs --to lsn:{lsn} --onto master --yes"));
        check(&world, kept, &format!("seed {seed} round {round} to {lsn}"));
    }
}

#[test]
fn a_path_alone() {
    let mut world = World::idle();
    let master = world.master();
    fill(&master);
    world.start();
    world.protect();
    world.ok("bookmark set docs good");
    let good = world.path("good");
    Keeper::new(&master).keep(&good);
    ruin(&master);
    let ruined = world.path("ruined");
    Keeper::new(&master).keep(&ruined);
    let path = master.join("a/b/c");
    world.ok(&format!("rewind docs --to good --onto master --yes --path {}", path.display()));
    assert_same(&path, &good.join("a/b/c"), "the path");
    assert_same(&master, &world.replica(), "master and replica");
    // Everything else is as it was: the copy of the ruined tree with the path from the good one.
    fs::remove_dir_all(ruined.join("a/b/c")).unwrap();
    let copied = std::process::Command::new("cp")
        .args(["-a", "-T"])
        .arg(good.join("a/b/c"))
        .arg(ruined.join("a/b/c"))
        .status();
    assert!(copied.unwrap().success());
    let meta = fs::metadata(master.join("a/b")).unwrap();
    let times = fs::FileTimes::new().set_modified(meta.modified().unwrap());
    File::open(ruined.join("a/b")).unwrap().set_times(times).unwrap();
    assert_same(&master, &ruined, "outside the path");
    assert_clean(&master);
}

#[test]
fn from_detached_and_refused_where_it_cannot_be() {
    let mut world = World::idle();
    let master = world.master();
    fill(&master);
    world.start();
    world.protect();
    world.ok("bookmark set docs good");
    let good = world.path("good");
    Keeper::new(&master).keep(&good);
    ruin(&master);
    world.flush();
    // The replica shows the point; recovering the master from it is a rewind to now.
    world.ok("rewind docs --to good --onto replica --yes");
    assert_eq!(world.ok("scenario status docs")["state"], "detached");
    fs::write(master.join("while detached"), "w").unwrap();
    let done = world.ok("rewind docs --to now --onto master --yes");
    check(&world, &good, "from detached");
    let before = world.read_at(done["before"].as_str().unwrap(), "before");
    assert_eq!(fs::read_to_string(before.join("while detached")).unwrap(), "w");

    ruin(&master);
    world.flush();
    let ruined = world.path("ruined");
    Keeper::new(&master).keep(&ruined);
    world.ok("scenario suspend docs");
    world.refused("rewind docs --to good --onto master --yes", 5, "RW0465");
    world.ok("scenario resume docs");
    world.ok("scenario stop docs");
    world.refused("rewind docs --to good --onto master --yes", 5, "RW0465");
    assert_same(&master, &ruined, "after refusals");
}

#[test]
fn who_has_a_file_open_keeps_it() {
    let mut world = World::idle();
    let master = world.master();
    fs::write(master.join("log"), "first line\n").unwrap();
    fs::write(master.join("closed"), "first line\n").unwrap();
    world.start();
    world.protect();
    world.ok("bookmark set docs good");
    let writer = File::options().append(true).open(master.join("log")).unwrap();
    for name in ["log", "closed"] {
        fs::write(master.join(name), "something else altogether\n").unwrap();
    }
    let inode = |name: &str| fs::metadata(master.join(name)).unwrap().ino();
    let before = inode("log");
    world.ok("rewind docs --to good --onto master --yes");
    assert_eq!(fs::read_to_string(master.join("log")).unwrap(), "first line\n");
    assert_eq!(inode("log"), before, "an open file is another file now");
    std::io::Write::write_all(&mut &writer, b"second line\n").unwrap();
    assert_eq!(fs::read_to_string(master.join("log")).unwrap(), "first line\nsecond line\n");
    assert_eq!(fs::read_to_string(master.join("closed")).unwrap(), "first line\n");
    world.flush();
    assert_same(&master, &world.replica(), "afterwards");
}

#[test]
fn under_a_writer_nothing_is_lost() {
    let seed = seed("under_a_writer_nothing_is_lost");
    let mut world = World::idle();
    let master = world.master();
    let mut chaos = Chaos::new(&master, seed);
    chaos.change(200);
    fs::create_dir(master.join("busy")).unwrap();
    world.start();
    world.protect();
    world.ok("bookmark set docs good");
    let good = world.path("good");
    Keeper::new(&master).keep(&good);
    chaos.change(150);
    // Somebody goes on in a directory of the tree while it is put back: each name is written once and never again.
    let end = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let writer = {
        let (end, busy) = (std::sync::Arc::clone(&end), master.join("busy"));
        std::thread::spawn(move || {
            let mut written = 0_u32;
            while !end.load(std::sync::atomic::Ordering::SeqCst) {
                // The directory itself may be put back under it.
                if fs::write(busy.join(format!("w{written}")), written.to_string()).is_ok() {
                    written += 1;
                }
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
            written
        })
    };
    let ran = world.ctl("rewind docs --to good --onto master --yes");
    end.store(true, std::sync::atomic::Ordering::SeqCst);
    let written = writer.join().unwrap();
    // Equal at the end, or said not to be.
    assert!(ran.exit == 0 || ran.exit == 3, "{ran:?}");
    world.flush();
    assert_same(&master, &world.replica(), "master and replica");
    // Every name that was written was captured, whether it is there now or not.
    let points = world.list("points docs --kind created");
    let seen: std::collections::HashSet<String> = points
        .iter()
        .filter_map(|point| point["path"].as_str()?.rsplit_once("/busy/").map(|(_, name)| name.to_owned()))
        .collect();
    let now = |n: u32| master.join(format!("busy/w{n}")).exists();
    let lost: Vec<u32> = (0..written).filter(|n| !seen.contains(&format!("w{n}")) && !now(*n)).collect();
    assert!(
        lost.is_empty(),
        "{} of {written} files are neither there nor in the journal: {lost:?}",
        lost.len()
    );
    world.ok("rewind docs --to good --onto master --yes");
    check(&world, &good, "when the writer has ended");
}

#[test]
fn repeated_after_a_kill_half_way() {
    let seed = seed("repeated_after_a_kill_half_way");
    let mut world = World::idle();
    let master = world.master();
    let mut chaos = Chaos::new(&master, seed);
    chaos.change(1500);
    world.start();
    world.protect();
    world.ok("bookmark set docs good");
    let good = world.path("good");
    Keeper::new(&master).keep(&good);
    let mut rng = Rng::new(seed);
    for round in 0..size(3, 12) {
        chaos.change(1000);
        world.flush();
        let ruined = world.path(&format!("ruined-{round}"));
        Keeper::new(&master).keep(&ruined);
        let mark = format!("ruined-{round}");
        world.ok(&format!("bookmark set docs {mark}"));
        let started = world.ctl("rewind docs --to good --onto master --yes --detach");
        assert_eq!(started.exit, 0, "{started:?}");
        std::thread::sleep(std::time::Duration::from_millis(rng.below(400)));
        world.kill();
        world.start();
        world.wait_replicating();
        // The job goes on by itself, unless it was done; whoever is impatient is told to wait for it.
        tests::pair::until("the rewind is done", || {
            let again = world.ctl("rewind docs --to good --onto master --yes");
            assert!(again.exit == 0 || again.code() == "RW0470", "{again:?}");
            again.exit == 0
        });
        check(&world, &good, &format!("seed {seed} round {round}"));
        let read = world.read_at(&mark, &format!("read-{round}"));
        assert_same(&read, &ruined, "what was overwritten");
    }
}

#[test]
fn as_two_processes_and_only_what_differs_travels() {
    let mut pair = Pair::new();
    pair.start();
    let m = pair.path("m");
    fill(&m);
    let mut rng = Rng::new(9);
    let large = size(24_usize, 200) << 20;
    fs::write(m.join("large"), rng.bytes(large)).unwrap();
    pair.protect();
    pair.replica.ok("bookmark set docs good");
    let good = pair.path("good");
    Keeper::new(&m).keep(&good);
    // One block of a large file, far inside.
    let file = File::options().write(true).open(m.join("large")).unwrap();
    file.write_all_at(b"one block differs", large as u64 / 2).unwrap();
    drop(file);
    let journaled = |pair: &Pair| {
        let stats = pair.replica.ok("journal stats docs");
        stats["redo_bytes"].as_u64().unwrap_or_else(|| panic!("{stats}"))
    };
    pair.flush();
    let before = journaled(&pair);
    let done = pair.replica.ok("rewind docs --to good --onto master --yes");
    // To the master: one page. Back again as a capture: one block and what it is wrapped in.
    let sent = done["bytes_written"].as_u64().unwrap();
    assert!((1..=16 << 10).contains(&sent), "{done}");
    let back = journaled(&pair) - before;
    assert!(back < 256 << 10, "{back} bytes were journaled for one block");
    assert_same(&m, &good, "the master after one block");
    pair.assert_equal();

    ruin(&m);
    pair.replica.ok("rewind docs --to good --onto master --yes");
    assert_same(&m, &good, "the master");
    assert_same(&pair.path("r/m"), &good, "the replica");
    assert_clean(&m);
    assert_eq!(pair.replica.ok("scenario status docs")["state"], "replicating");
    // Not connected: refused, and nothing changed.
    ruin(&m);
    pair.flush();
    let ruined = pair.path("ruined");
    Keeper::new(&m).keep(&ruined);
    pair.master.stop();
    tests::pair::until("the replica knows", || pair.replica.ok("scenario status docs")["state"] == "problem");
    pair.replica.refused("rewind docs --to good --onto master --yes", 5, "RW0465");
    assert_same(&m, &ruined, "after the refusal");
    pair.master.start();
    pair.wait_replicating();
    pair.replica.ok("rewind docs --to good --onto master --yes");
    assert_same(&m, &good, "the master, dialled again");
    pair.assert_equal();
}
