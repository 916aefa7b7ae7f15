//! Does a scrub find what differs between the trees, name it and say whose fault it is; is it repaired without losing
//! what stood there; and is nothing called a difference that is none?

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions, Permissions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use tests::compare::assert_same;
use tests::daemon::{Ran, World, seed, size};
use tests::pair::{Pair, until};

/// A replicating scenario with some files.
fn lived() -> World {
    let world = World::new();
    fs::create_dir_all(world.master().join("d/e")).unwrap();
    for name in ["a", "d/b", "d/c", "d/e/f"] {
        fs::write(world.master().join(name), name.repeat(100_000)).unwrap();
    }
    std::os::unix::fs::symlink("a", world.master().join("link")).unwrap();
    fs::write(world.master().join("empty"), "").unwrap();
    world.protect();
    world.flush();
    world
}

const SCRUB: &str = "scenario scrub docs --rate 0";

/// Puts another byte into a file without a trace in its size and modification time.
fn forge(path: &Path, at: u64) {
    let times = fs::metadata(path).unwrap();
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x55], at).unwrap();
    file.set_modified(times.modified().unwrap()).unwrap();
    assert_eq!(fs::metadata(path).unwrap().mtime_nsec(), times.mtime_nsec());
}

/// The one difference of a scrub that found one.
fn only(ran: &Ran) -> Value {
    assert_eq!(ran.exit, 8, "{ran:?}");
    let report = ran.objects().remove(0);
    let differences = report["differences"].as_array().unwrap();
    assert_eq!(differences.len(), 1, "{report}");
    differences[0].clone()
}

fn path_of(world: &World, name: &str) -> Value {
    world.master().join(name).to_str().unwrap().into()
}

#[test]
fn equal_trees_have_two_dates() {
    let mut world = lived();
    assert!(world.ok("scenario status docs")["last_scrub"].is_null());
    let report = world.ok(SCRUB);
    assert_eq!((&report["equal"], &report["found"], &report["passed"]), (&json!(true), &json!(0), &json!(0)));
    assert_eq!((&report["files"], &report["entries"]), (&json!(4), &json!(8)), "{report}");
    assert_eq!(report["bytes"], 100_000 * 12, "{report}");
    let status = world.ok("scenario status docs");
    assert_eq!(
        (&status["last_scrub"]["equal"], &status["last_proof"]["equal"]),
        (&json!(true), &json!(true))
    );
    assert_eq!(status["last_scrub"]["ended"], report["ended"], "{status}");

    // The date outlives the projections.
    world.stop();
    fs::remove_dir_all(world.path("data/projections")).unwrap();
    world.start();
    assert_eq!(world.ok("scenario status docs")["last_scrub"]["ended"], report["ended"]);
}

#[test]
fn rot_in_the_replica_is_found_and_repaired_with_undo() {
    let world = lived();
    forge(&world.replica().join("d/b"), 70_000);
    let difference = only(&world.ctl(SCRUB));
    let expected = json!({
        "path": path_of(&world, "d/b"), "what": "bytes", "side": "replica", "offset": 65_536, "repaired": false,
    });
    assert_eq!(difference, expected);
    let status = world.ok("scenario status docs");
    assert_eq!(status["last_scrub"]["differences"], 1, "{status}");
    assert!(status["cause"].as_str().unwrap().contains("scrub"), "{status}");
    let rotten = fs::read(world.replica().join("d/b")).unwrap();
    let before = world.flush();

    let difference = only(&world.ctl(&format!("{SCRUB} --repair")));
    assert_eq!((&difference["side"], &difference["repaired"]), (&json!("replica"), &json!(true)));
    assert_same(&world.master(), &world.replica(), "after the repair");
    let status = world.ok("scenario status docs");
    assert_eq!((&status["cause"], &status["last_scrub"]["equal"]), (&Value::Null, &json!(true)), "{status}");
    assert_eq!(status["last_scrub"]["missed_captures"], 0, "capture has missed nothing: {status}");
    world.flush();
    assert_eq!(world.ok(SCRUB)["found"], 0);

    // What stood there is in the journal.
    let then = world.read_at(&format!("lsn:{before}"), "then");
    assert!(fs::read(then.join("d/b")).unwrap() == rotten, "the rotten bytes are lost");
}

#[test]
fn a_change_that_capture_missed_is_captured() {
    let world = lived();
    // Written through a name outside of the root, which nobody watches.
    fs::hard_link(world.master().join("d/c"), world.path("outside")).unwrap();
    world.flush();
    let before = world.flush();
    forge(&world.path("outside"), 3);
    world.flush();
    let old = fs::read(world.replica().join("d/c")).unwrap();
    assert!(old != fs::read(world.path("outside")).unwrap(), "capture has seen it: nothing is tested");

    let difference = only(&world.ctl(SCRUB));
    let expected = json!({
        "path": path_of(&world, "d/c"), "what": "bytes", "side": "master", "offset": 0, "repaired": true,
    });
    assert_eq!(difference, expected);
    assert_same(&world.master(), &world.replica(), "after the capture");
    let status = world.ok("scenario status docs");
    assert_eq!((&status["cause"], &status["last_scrub"]["missed_captures"]), (&Value::Null, &json!(1)));
    assert_eq!(world.ok(SCRUB)["found"], 0);
    let then = world.read_at(&format!("lsn:{before}"), "then");
    assert!(fs::read(then.join("d/c")).unwrap() == old, "the old version is lost");
}

#[test]
fn metadata_and_names_of_the_replica_are_compared() {
    let world = lived();
    let replica = world.replica();
    fs::set_permissions(replica.join("a"), Permissions::from_mode(0o600)).unwrap();
    let times = fs::metadata(replica.join("d/b")).unwrap().modified().unwrap();
    let file = OpenOptions::new().write(true).open(replica.join("d/b")).unwrap();
    file.set_len(5_000_000).unwrap();
    file.set_modified(times).unwrap();
    rustix::fs::setxattr(replica.join("d/c"), "user.x", b"y", rustix::fs::XattrFlags::empty()).unwrap();
    let directory = fs::metadata(replica.join("d/e")).unwrap().modified().unwrap();
    fs::remove_file(replica.join("d/e/f")).unwrap();
    fs::write(replica.join("d/e/strange"), "who put it here?").unwrap();
    fs::File::open(replica.join("d/e")).unwrap().set_modified(directory).unwrap();
    let find = |line: &str, repaired: bool| {
        let ran = world.ctl(line);
        assert_eq!(ran.exit, 8, "{ran:?}");
        let report = ran.objects().remove(0);
        let mut found: Vec<_> = report["differences"].as_array().unwrap().clone();
        found.sort_by_key(|one| one["path"].as_str().unwrap().to_owned());
        let names = [
            ("a", "mode"),
            ("d/b", "size"),
            ("d/c", "xattrs"),
            ("d/e/f", "missing"),
            ("d/e/strange", "extra"),
        ];
        assert_eq!(found.len(), names.len(), "{report}");
        for (one, (name, what)) in found.iter().zip(names) {
            let expected = (path_of(&world, name), json!(what), json!("replica"), json!(repaired));
            let got =
                (one["path"].clone(), one["what"].clone(), one["side"].clone(), one["repaired"].clone());
            assert_eq!(got, expected, "{report}");
        }
    };
    find(SCRUB, false);
    find(&format!("{SCRUB} --repair"), true);
    assert_eq!(fs::metadata(replica.join("a")).unwrap().mode() & 0o777, 0o644);
    assert_eq!(fs::metadata(replica.join("d/b")).unwrap().len(), 300_000);
    assert_eq!(world.ok("scenario status docs")["last_scrub"]["differences"], 0);
    // One path alone.
    assert_eq!(world.ok(&format!("{SCRUB} --path {}", world.master().join("d/c").display()))["entries"], 1);
    world.refused(&format!("{SCRUB} --path /nowhere"), 4, "RW1032");
}

#[test]
fn trees_that_move_are_never_called_different() {
    let world = lived();
    let root = world.master();
    let stop = AtomicBool::new(false);
    let mut random = seed("trees_that_move_are_never_called_different");
    std::thread::scope(|threads| {
        threads.spawn(|| {
            let mut draw = |end: u64| {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                random % end
            };
            while !stop.load(Ordering::SeqCst) {
                let name = |n: u64| root.join(format!("d/moving{n}"));
                let (a, b) = (name(draw(6)), name(draw(6)));
                match draw(6) {
                    0 => drop(fs::write(&a, vec![draw(255) as u8; draw(300_000) as usize])),
                    1 => drop(fs::rename(&a, &b)),
                    2 => drop(fs::remove_file(&a)),
                    3 => drop(fs::set_permissions(&a, Permissions::from_mode(0o600 + draw(64) as u32))),
                    4 => drop(
                        fs::rename(root.join("d/e"), root.join("e"))
                            .or_else(|_| fs::rename(root.join("e"), root.join("d/e"))),
                    ),
                    _ => {
                        let file = OpenOptions::new().write(true).open(&a);
                        drop(file.and_then(|file| file.write_all_at(b"here", draw(200_000))));
                    }
                }
                std::thread::sleep(std::time::Duration::from_millis(draw(20)));
            }
        });
        for _ in 0..size(8, 60) {
            let ran = world.ctl(SCRUB);
            let report = ran.objects().remove(0);
            if !matches!(ran.exit, 0 | 3) || report["found"] != 0 {
                stop.store(true, Ordering::SeqCst);
                panic!("{ran:?}\n{}", world.log_end());
            }
        }
        stop.store(true, Ordering::SeqCst);
    });
    world.flush();
    assert_eq!(world.ok(SCRUB)["found"], 0);
    assert_same(&world.master(), &world.replica(), "at rest");
}

#[test]
fn a_scrub_outlives_a_crash_and_can_be_cancelled() {
    let mut world = lived();
    forge(&world.replica().join("d/e/f"), 1);
    // So slow that it does not end by itself here.
    let job = world.ok("scenario scrub docs --rate 65536 --detach")["job"].as_str().unwrap().to_owned();
    world.refused(SCRUB, 5, "RW0470");
    world.ok(&format!("job cancel {job}"));
    assert_eq!(world.ctl(&format!("job wait {job}")).exit, 130);
    assert!(world.ok("scenario status docs")["last_scrub"].is_null(), "it did not end");

    let job = world.ok("scenario scrub docs --rate 300000 --detach")["job"].as_str().unwrap().to_owned();
    world.kill();
    world.start();
    world.wait_replicating();
    let ran = world.ctl(&format!("job wait {job}"));
    assert_eq!(only(&ran)["path"], path_of(&world, "d/e/f"));
    assert_eq!(world.ok("scenario status docs")["last_scrub"]["differences"], 1);
    // A replica that shows something else is not scrubbed.
    world.ok("bookmark set docs here");
    world.ok("rewind docs --to here --onto replica --yes");
    world.refused(SCRUB, 5, "RW0465");
}

/// Killed, and ended in good order: nothing is compared from the beginning, and what was found before is not lost.
#[test]
fn a_scrub_goes_on_where_the_daemon_ended() {
    let mut world = lived();
    for name in ["a", "d/e/f"] {
        forge(&world.replica().join(name), 1);
    }
    let cursor = world.path("data/projections/scrub/docs/cursor");
    let job = world.ok("scenario scrub docs --rate 120000 --detach")["job"].as_str().unwrap().to_owned();
    for killed in [true, false] {
        let before = fs::read(&cursor).ok();
        until("it is kept how far it is", || fs::read(&cursor).ok().is_some_and(|now| Some(now) != before));
        if killed {
            world.kill()
        } else {
            world.stop()
        }
        world.start();
        world.wait_replicating();
    }
    let report = world.ctl(&format!("job wait {job}")).objects().remove(0);
    let differs = report["differences"].as_array().unwrap();
    let paths: Vec<&Value> = differs.iter().map(|one| &one["path"]).collect();
    assert_eq!(paths, [&path_of(&world, "a"), &path_of(&world, "d/e/f")], "{report}");
    // Each once, as one that nothing ended counts them.
    let whole = world.ctl("scenario scrub docs --rate 120000").objects().remove(0);
    for sum in ["files", "entries", "passed", "bytes"] {
        assert_eq!(report[sum], whole[sum], "{sum}: {report}, {whole}");
    }
    let log = world.list(&format!("log --job {job}"));
    let goes_on = log.iter().filter(|line| line.to_string().contains("the scrub goes on behind"));
    assert_eq!(goes_on.count(), 2, "{log:?}");
    let told = log.iter().filter(|line| line.to_string().contains("differs: bytes"));
    assert_eq!(told.count(), 2, "each once: {log:?}");
    assert!(!cursor.exists(), "it has ended");
}

#[test]
fn a_replica_that_is_detached_meanwhile_is_not_proven() {
    let world = lived();
    world.ok("bookmark set docs here");
    world.flush();
    let job = world.ok("scenario scrub docs --rate 300000 --detach")["job"].as_str().unwrap().to_owned();
    // Back to what it shows anyway: nothing will differ.
    world.ok("rewind docs --to here --onto replica --yes");
    let ran = world.ctl(&format!("job wait {job}"));
    assert_eq!(ran.exit, 5, "{ran:?}");
    assert!(ran.stdout.contains("RW0465"), "{ran:?}");
    assert!(world.ok("scenario status docs")["last_scrub"].is_null());
}

#[test]
fn a_master_of_another_machine_is_scrubbed_over_the_stream() {
    let mut pair = Pair::new();
    fs::create_dir(pair.path("m/d")).unwrap();
    // Longer than one question, with a hole, and many small ones.
    let file = fs::File::create(pair.path("m/d/large")).unwrap();
    file.set_len(80 << 20).unwrap();
    for block in 0..40u64 {
        file.write_all_at(&[block as u8 + 1; 1 << 20], block << 20).unwrap();
    }
    file.write_all_at(b"behind the hole", 70 << 20).unwrap();
    for number in 0..700 {
        fs::write(pair.path(&format!("m/d/{number}")), format!("{number}")).unwrap();
    }
    pair.start();
    pair.protect();
    pair.flush();
    let report = pair.replica.ok(SCRUB);
    assert_eq!((&report["found"], &report["files"], &report["passed"]), (&json!(0), &json!(701), &json!(0)));
    assert!(report["bytes"].as_u64().unwrap() > 80 << 20, "{report}");

    forge(&pair.path("r/m/d/large"), 39 << 20);
    forge(&pair.path("r/m/d/699"), 1);
    let ran = pair.replica.ctl(&format!("{SCRUB} --repair"));
    assert_eq!(ran.exit, 8, "{ran:?}");
    let report = ran.objects().remove(0);
    assert_eq!((&report["found"], &report["repaired"]), (&json!(2), &json!(2)), "{report}");
    let offset = |one: &Value| one["offset"].clone();
    let mut offsets: Vec<_> = report["differences"].as_array().unwrap().iter().map(offset).collect();
    offsets.sort_by_key(|offset| offset.as_u64());
    assert_eq!(offsets, [json!(0), json!(39 << 20)]);
    pair.assert_equal();
    assert_eq!(pair.replica.ok(SCRUB)["found"], 0);
}

#[test]
fn a_schedule_scrubs_by_itself_and_outlives_a_restart() {
    let mut world = lived();
    for (setting, why) in
        [("scrub-every=often", "a duration"), ("scrub-every=10ms", "1s"), ("scrub-rate=1MB", "no meaning")]
    {
        let ran = world.refused(&format!("scenario set docs {setting}"), 2, "RW1014");
        assert!(ran.stdout.contains(why), "{ran:?}");
    }
    assert!(world.ok("scenario status docs")["scrub_every_seconds"].is_null());
    world.ok("scenario set docs scrub-every=1s scrub-rate=100MB/s");
    let ended = |world: &World| world.ok("scenario status docs")["last_scrub"]["ended"].clone();
    until("a scrub that nobody asked for", || ended(&world).is_string());
    world.stop();
    let before = {
        world.start();
        ended(&world)
    };
    until("another one after a restart", || ended(&world) != before);
    assert_eq!(world.ok("scenario status docs")["scrub_every_seconds"], 1.0);
    world.ok("scenario set docs scrub-every=off");
    assert!(world.ok("scenario status docs")["scrub_every_seconds"].is_null());
}

/// Where things are that were put aside, by name.
fn put_aside(world: &World) -> BTreeMap<String, PathBuf> {
    let replica = world.replica();
    let beside = format!(".{}.rewind/kept/strange", replica.file_name().unwrap().to_str().unwrap());
    let below = |path: PathBuf| fs::read_dir(path).into_iter().flatten().map(|entry| entry.unwrap().path());
    let named = |path: PathBuf| (path.file_name().unwrap().to_str().unwrap().to_owned(), path);
    below(replica.with_file_name(beside)).flat_map(below).map(named).collect()
}

#[test]
fn what_somebody_put_into_the_replica_is_put_aside_and_outlives_the_scenario() {
    let world = lived();
    let replica = world.replica();
    fs::write(replica.join("d/strange"), "who put it here?").unwrap();
    fs::create_dir_all(replica.join("d/e/more/and more")).unwrap();
    fs::write(replica.join("d/e/more/and more/g"), "below").unwrap();
    let ran = world.ctl(&format!("{SCRUB} --repair"));
    assert_eq!(ran.exit, 8, "{ran:?}");
    let report = ran.objects().remove(0);
    // The two names, and the times of the two directories that have them.
    assert_eq!((&report["found"], &report["repaired"]), (&json!(4), &json!(4)), "{report}");
    let found = put_aside(&world);
    assert_eq!(found.keys().collect::<Vec<_>>(), ["more", "strange"]);
    // The log says where they are.
    let log = format!("{:?}", world.list("log --scenario docs"));
    for path in found.values() {
        assert!(log.contains(path.to_str().unwrap()), "{} is not in {log}", path.display());
    }
    assert_same(&world.master(), &replica, "after the repair");
    world.flush();
    assert_eq!(world.ok(SCRUB)["found"], 0);

    world.ok("scenario stop docs");
    // What cannot be looked for is not removed, nor anything else.
    let kept = found["strange"].ancestors().nth(3).unwrap();
    let moved = world.path("moved");
    fs::rename(kept, &moved).unwrap();
    std::os::unix::fs::symlink(&moved, kept).unwrap();
    let ran = world.refused("scenario delete docs --yes", 1, "RW1024");
    assert!(ran.stdout.contains("put aside"), "{ran:?}");
    fs::remove_file(kept).unwrap();
    fs::rename(&moved, kept).unwrap();
    world.ok("scenario delete docs --yes");
    assert_eq!(fs::read(&found["strange"]).unwrap(), b"who put it here?");
    assert_eq!(fs::read(found["more"].join("and more/g")).unwrap(), b"below");
    assert_eq!(fs::read_dir(kept).unwrap().count(), 1, "the rest is gone");
    assert!(!kept.with_file_name("journal").exists());
}

#[test]
fn what_is_missing_in_the_replica_comes_back_with_its_history() {
    let mut world = lived();
    let (master, replica) = (world.master(), world.replica());
    fs::hard_link(master.join("a"), master.join("d/also a")).unwrap();
    fs::write(master.join("two"), "names".repeat(30_000)).unwrap();
    fs::hard_link(master.join("two"), master.join("d/also two")).unwrap();
    fs::create_dir_all(master.join("d/deep/er/est")).unwrap();
    for name in ["d/deep/g", "d/deep/er/est/h"] {
        fs::write(master.join(name), name.repeat(50_000)).unwrap();
    }
    fs::write(master.join("d/deep/er/empty"), "").unwrap();
    std::os::unix::fs::symlink("g", master.join("d/deep/er/link")).unwrap();
    fs::set_permissions(master.join("d/deep/er/est"), Permissions::from_mode(0o510)).unwrap();
    let first = world.flush();
    let changed = master.join("d/deep/g");
    let old = fs::read(&changed).unwrap();
    OpenOptions::new().write(true).open(&changed).unwrap().write_all_at(b"another", 100_000).unwrap();
    let second = world.flush();
    let newer = fs::read(&changed).unwrap();

    for name in ["d/c", "link", "empty", "d/also a", "two", "d/also two", "d/b"] {
        fs::remove_file(replica.join(name)).unwrap();
    }
    fs::remove_dir_all(replica.join("d/deep")).unwrap();
    // One that was renamed, and one that is of another kind.
    fs::rename(replica.join("d/e"), replica.join("d/renamed")).unwrap();
    fs::create_dir(replica.join("d/b")).unwrap();

    let ran = world.ctl(&format!("{SCRUB} --repair"));
    assert_eq!(ran.exit, 8, "{ran:?}");
    let report = ran.objects().remove(0);
    assert_eq!(report["found"], report["repaired"], "{report}");
    assert_same(&master, &replica, "after the repair");
    let inode = |name: &str| fs::metadata(replica.join(name)).unwrap().ino();
    assert_eq!(inode("a"), inode("d/also a"));
    assert_eq!(inode("two"), inode("d/also two"));
    assert_eq!(put_aside(&world).keys().collect::<Vec<_>>(), ["b", "renamed"]);
    world.flush();
    let report = world.ok(SCRUB);
    assert_eq!((&report["found"], &report["passed"]), (&json!(0), &json!(0)), "{report}");
    world.ok("scenario verify docs");

    // What was captured is what earlier points show.
    let shown = world.read_at(&format!("lsn:{first}"), "first");
    assert!(fs::read(shown.join("d/deep/g")).unwrap() == old, "the first point");
    let shown = world.read_at(&format!("lsn:{second}"), "second");
    assert!(fs::read(shown.join("d/deep/g")).unwrap() == newer, "the second point");
    assert_same(&master, &shown, "the second point");

    // It is known by its inode from now on, also to projections that are made anew.
    world.stop();
    fs::remove_dir_all(world.path("data/projections")).unwrap();
    world.start();
    world.wait_replicating();
    fs::rename(master.join("d/c"), master.join("d/deep/c")).unwrap();
    fs::rename(master.join("d/deep"), master.join("deep")).unwrap();
    fs::write(master.join("deep/g"), "written").unwrap();
    world.flush();
    assert_same(&master, &replica, "what was made again moves");
    assert_eq!(world.ok(SCRUB)["found"], 0);
}

/// Of the replica's daemon: an index of the master whose own daemon was killed has no hashes, and vouches for nothing.
#[test]
fn a_repair_of_names_outlives_kills() {
    let mut pair = Pair::new();
    let name = |number: usize| format!("d{}/f{number}", number % 8);
    for number in 0..40 {
        fs::create_dir_all(pair.path(&format!("m/d{}", number % 8))).unwrap();
        fs::write(pair.path("m").join(name(number)), format!("{number}").repeat(40_000)).unwrap();
    }
    pair.start();
    pair.protect();
    let (point, replica) = (pair.flush(), pair.path("r/m"));
    let mut random = seed("a_repair_of_names_outlives_kills");
    for _ in 0..size(2, 10) {
        for number in (0..40).step_by(3) {
            fs::remove_file(replica.join(name(number))).unwrap();
        }
        fs::remove_dir_all(replica.join("d5")).unwrap();
        fs::write(replica.join("d1/strange"), "who put it here?").unwrap();
        let job = pair.replica.ok(&format!("{SCRUB} --repair --detach"))["job"].as_str().unwrap().to_owned();
        for _ in 0..2 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            std::thread::sleep(std::time::Duration::from_millis((random >> 33) % 600));
            pair.replica.kill();
            pair.replica.start();
            pair.wait_replicating();
        }
        // What a kill left is for the next one.
        for line in [format!("job wait {job}"), format!("{SCRUB} --repair")] {
            let ran = pair.replica.ctl(&line);
            assert!(matches!(ran.exit, 0 | 3 | 8), "{ran:?}");
        }
        pair.flush();
        assert_eq!(pair.replica.ok(SCRUB)["found"], 0);
        pair.assert_equal();
    }
    let aside = fs::read_dir(pair.path("r/.m.rewind/kept/strange")).unwrap();
    assert!(aside.into_iter().any(|one| one.unwrap().path().join("strange").exists()));
    // Whenever the daemon was killed: earlier points show what was captured, and nothing else.
    let shown = pair.path("then");
    pair.replica.ok(&format!("rewind docs --to lsn:{point} --onto {}", shown.display()));
    pair.assert_same(&pair.path("m"), &shown);
}
