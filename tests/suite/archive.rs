//! Everything is lost but the bucket: is every archived moment there, exact, and is what is wrong refused?

use crate::backups::Ground;
use crate::restores::{copy, landed};
use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};
use tests::chaos::Chaos;
use tests::compare::assert_same;
use tests::daemon::{Ran, World, programs, run, seed, size};
use tests::restic::Restic;
use tests::rng::Rng;
use tests::s3::{BUCKET, ObjectStore};

/// Waits until everything journaled up to an LSN is archived.
fn archived(world: &World, lsn: &str) -> Value {
    let wanted: u64 = lsn.parse().unwrap();
    let until = Instant::now() + Duration::from_secs(120);
    loop {
        let status = world.ok("scenario status docs");
        let upto = status["archive"]["archived_lsn"].as_str().unwrap_or("0").parse::<u64>().unwrap();
        if upto >= wanted {
            return status;
        }
        assert!(Instant::now() < until, "LSN {lsn} is not archived: {status}\n{}", world.log_end());
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn rescue(ground: &Ground, words: &str, name: &str) -> Ran {
    let (url, onto) = (ground.repository.display(), ground.world.path(name));
    let password = ground.password.display();
    let line = format!("rescue file://{url} {words} --onto {} --password-file {password}", onto.display());
    ground.world.ctl(&format!("--endpoint unix:/nowhere {line}"))
}

/// A moment that has to be there: what it reports, and where the tree landed.
fn rescued(ground: &Ground, words: &str, name: &str) -> (Value, PathBuf) {
    let ran = rescue(ground, words, name);
    assert_eq!(ran.exit, 0, "{ran:?}");
    let onto = ground.world.path(name);
    assert!(!onto.join(".rewind-rescue").exists(), "nothing of ours is left");
    (ran.objects().remove(0), landed(&onto, &ground.world.master()))
}

fn objects(ground: &Ground, kind: &str) -> Vec<PathBuf> {
    let top = ground.repository.join("rewind/archive");
    let journals = std::fs::read_dir(top).unwrap().map(|entry| entry.unwrap().path());
    let mut all: Vec<PathBuf> = journals
        .flat_map(|journal| std::fs::read_dir(journal.join(kind)).unwrap())
        .map(|entry| entry.unwrap().path())
        .collect();
    all.sort();
    all
}

/// Random histories: points between the changes and at random LSNs, read before everything is lost, and rebuilt after.
#[test]
fn every_archived_moment_is_rebuilt() {
    let seed = seed("every_archived_moment_is_rebuilt");
    let mut rng = Rng::new(seed);
    let mut ground = Ground::new();
    let master = ground.world.master();
    ground.world.refused("scenario set docs archive=nowhere", 4, "RW1050");
    ground.world.ok("scenario set docs archive=offsite archive-every=1s");
    ground.backup();
    let first: u64 = ground.world.flush().parse().unwrap();
    let mut chaos = Chaos::new(&master, seed);
    let (mut kept, mut last) = (Vec::new(), first);
    for round in 0..size(6, 40) {
        chaos.change(60);
        let lsn = ground.world.ok("flush docs");
        let name = format!("kept-{round}");
        copy(&master, &ground.world.path(&name));
        kept.push((lsn["lsn"].as_str().unwrap().to_owned(), lsn["time"].as_str().unwrap().to_owned(), name));
        last = kept.last().unwrap().0.parse().unwrap();
        if round % 3 == 1 {
            ground.backup();
        }
    }
    let mut between = Vec::new();
    for number in 0..size(5, 60) {
        let lsn = first + rng.below(last - first + 1);
        let name = format!("read-{number}");
        drop(ground.world.read_at(&format!("lsn:{lsn}"), &name));
        between.push((lsn, name));
    }
    let status = archived(&ground.world, &last.to_string());
    assert_eq!(status["archive"]["repository"], "offsite", "{status}");
    assert_eq!(status["archive"]["problem"], Value::Null, "{status}");
    assert_eq!(status["archive"]["gaps"], 0, "{status}");
    ground.world.stop();
    for lost in ["data", "r"] {
        std::fs::remove_dir_all(ground.world.path(lost)).unwrap();
    }
    for (lsn, time, name) in &kept {
        let context = format!("seed {seed}: {name} at LSN {lsn}, {time}");
        let (report, at) = rescued(&ground, &format!("--at {time}"), &format!("time-{lsn}"));
        assert_eq!(report["archived"][0]["lsn"], Value::from(lsn.as_str()), "{context}: {report}");
        assert_same(&ground.world.path(name), &at, &context);
    }
    for (lsn, name) in &between {
        let (report, at) = rescued(&ground, &format!("--at lsn:{lsn}"), &format!("lsn-{name}"));
        assert_same(&ground.world.path(name), &at, &format!("seed {seed} LSN {lsn}: {report}"));
    }
    ground.restic(&["check", "--read-data"]);
}

/// A ground whose journal is archived, with a session and changes behind it; the last LSN, and the tree then.
fn small(changes: u64) -> (Ground, String, PathBuf) {
    let ground = Ground::new();
    ground.world.ok("scenario set docs archive=offsite archive-every=1s");
    ground.backup();
    Chaos::new(&ground.world.master(), 7).change(changes);
    let lsn = ground.world.flush();
    archived(&ground.world, &lsn);
    let kept = ground.world.path("kept");
    copy(&ground.world.master(), &kept);
    (ground, lsn, kept)
}

/// Flipped, cut, exchanged, missing: refused with the object's name, and nothing stands where the tree would.
#[test]
fn damaged_archives_are_refused() {
    let (mut ground, lsn, kept) = small(40);
    ground.world.stop();
    let (pieces, manifests) = (objects(&ground, "redo"), objects(&ground, "manifest"));
    let newest = manifests.last().unwrap().clone();
    let mut refused = 0;
    let mut check = |object: &PathBuf, what: &str, change: &dyn Fn(&[u8]) -> Option<Vec<u8>>| {
        let good = std::fs::read(object).unwrap();
        match change(&good) {
            Some(bytes) => std::fs::write(object, bytes).unwrap(),
            None => std::fs::remove_file(object).unwrap(),
        }
        let name = format!("damaged-{refused}");
        let ran = rescue(&ground, &format!("--at lsn:{lsn}"), &name);
        let at = landed(&ground.world.path(&name), &ground.world.master());
        if ran.exit == 0 {
            // Not needed, or there is another that says the same.
            assert_same(&kept, &at, what);
        } else {
            refused += 1;
            assert_eq!((ran.exit, ran.code().as_str()), (8, "RW1110"), "{what}: {ran:?}");
            let file = object.file_name().unwrap().to_str().unwrap();
            assert!(ran.stdout.contains(file), "{what} of {file}: {ran:?}");
            assert!(!at.exists(), "{what}");
        }
        std::fs::write(object, good).unwrap();
    };
    let mut some = pieces.clone();
    some.push(newest);
    for object in &some {
        check(object, "a flipped byte", &|good| {
            let mut bytes = good.to_vec();
            bytes[good.len() / 2] ^= 1;
            Some(bytes)
        });
        check(object, "a cut", &|good| Some(good[..good.len() / 2].to_vec()));
        check(object, "another object", &|_| Some(std::fs::read(&manifests[0]).unwrap()));
    }
    for object in &pieces {
        check(object, "a missing piece", &|_| None);
    }
    assert!(refused > 3, "{refused}");
    let (_, at) = rescued(&ground, &format!("--at lsn:{lsn}"), "whole");
    assert_same(&kept, &at, "whole again");
}

/// While the store fails everything goes on; status and log say it; afterwards the archive is whole.
#[test]
fn a_store_that_fails_for_a_while() {
    let (ground, _, _) = small(20);
    let (place, aside) = (ground.repository.join("rewind"), ground.world.path("aside"));
    std::fs::rename(&place, &aside).unwrap();
    std::fs::write(&place, "in the way").unwrap();
    let mut chaos = Chaos::new(&ground.world.master(), 8);
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        chaos.change(5);
        ground.world.flush();
        let status = ground.world.ok("scenario status docs");
        if status["archive"]["problem"].is_string() {
            assert_eq!(status["state"], "replicating", "{status}");
            assert!(status["archive"]["rpo_seconds"].as_f64().unwrap() > 0.0, "{status}");
            break;
        }
        assert!(Instant::now() < until, "{status}");
    }
    std::fs::remove_file(&place).unwrap();
    std::fs::rename(&aside, &place).unwrap();
    let lsn = ground.world.flush();
    let status = archived(&ground.world, &lsn);
    assert_eq!(status["archive"]["gaps"], 0, "{status}");
    let log = ground.world.list("log --scenario docs");
    let said = |text: &str| log.iter().any(|line| line["text"].as_str().unwrap().contains(text));
    assert!(said("the journal is not archived") && said("is archived again"), "{log:?}");
    let (_, at) = rescued(&ground, &format!("--at lsn:{lsn}"), "after");
    assert_same(&ground.world.master(), &at, "after the failure");
    ground.restic(&["check"]);
}

/// The daemon is killed at random moments; what was archived is whole, and the rest follows.
#[test]
fn killed_while_shipping() {
    let seed = seed("killed_while_shipping");
    let mut rng = Rng::new(seed);
    let (mut ground, _, _) = small(10);
    let mut chaos = Chaos::new(&ground.world.master(), seed);
    for round in 0..size(4, 30) {
        for _ in 0..rng.below(8) + 1 {
            chaos.change(6);
            std::thread::sleep(Duration::from_micros(rng.below(300_000)));
        }
        ground.world.kill();
        let ran = rescue(&ground, "--at 2100-01-01T00:00:00Z", &format!("killed-{round}"));
        assert_eq!(ran.exit, 0, "seed {seed} round {round}: {ran:?}");
        ground.world.start();
        ground.world.wait_replicating();
    }
    let lsn = ground.world.flush();
    archived(&ground.world, &lsn);
    let (_, at) = rescued(&ground, &format!("--at lsn:{lsn}"), "end");
    assert_same(&ground.world.master(), &at, &format!("seed {seed}"));
}

/// Some paths only; what stands there is not touched; before the first session there is nothing; off is off.
#[test]
fn paths_plans_and_refusals() {
    let (ground, lsn, kept) = small(0);
    let master = ground.world.master();
    let at = format!("--at lsn:{lsn}");
    let (report, landed_at) = rescued(&ground, &format!("{at} {}/a/b", master.display()), "some");
    assert_same(&kept.join("a/b"), &landed_at.join("a/b"), "a directory");
    let names: Vec<_> =
        std::fs::read_dir(&landed_at).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["a"], "{report}");
    let code = |words: &str, name: &str| {
        let ran = rescue(&ground, words, name);
        (ran.exit, ran.code())
    };
    assert_eq!(code(&at, "some"), (5, "RW1072".to_owned()));
    assert_same(&kept.join("a/b"), &landed_at.join("a/b"), "still there");
    assert_eq!(code(&format!("{at} /nowhere"), "none"), (4, "RW1032".to_owned()));
    assert_eq!(code("--at lsn:1", "none").0, 4);
    assert_eq!(code("--at lsn:x", "none").0, 2);
    assert_eq!(code(&format!("{at} --verify"), "none"), (2, "RW1028".to_owned()));
    assert_eq!(code("--at 1999-01-01T00:00:00Z", "none"), (4, "RW1070".to_owned()));
    let planned = rescue(&ground, &format!("{at} --dry-run"), "planned");
    assert_eq!(planned.exit, 0, "{planned:?}");
    assert!(planned.objects()[0]["archived"][0]["redo_bytes"].is_u64(), "{planned:?}");
    assert!(!ground.world.path("planned").exists());
    ground.world.refused("scenario set docs archive-every=1ms", 2, "RW1014");
    ground.world.ok("scenario set docs archive=off");
    assert_eq!(ground.world.ok("scenario status docs")["archive"], Value::Null);
}

/// Two roots whose nearest sessions are of different points: each is replayed from its own.
#[test]
fn roots_begin_at_their_own_sessions() {
    let mut world = World::new();
    let masters = ["m", "n"].map(|name| world.path(name));
    std::fs::create_dir(&masters[1]).unwrap();
    let roots = ["m", "n"].map(|name| {
        format!("--root {}={}", world.path(name).display(), world.path(&format!("r/{name}")).display())
    });
    world.ok(&format!("scenario create docs {}", roots.join(" ")));
    world.ok("scenario run docs");
    let (repository, password) = (world.path("repository"), world.path("password"));
    std::fs::write(&password, "correct horse\n").unwrap();
    let place = format!("file://{}", repository.display());
    tests::repository::make(&repository, &password);
    world.ok(&format!("repository add offsite {place} --password-file {}", password.display()));
    world.ok("scenario set docs archive=offsite archive-every=1s");
    let mut chaos = masters.each_ref().map(|master| Chaos::new(master, 3));
    let mut sessions = Vec::new();
    for _ in 0..2 {
        chaos.iter_mut().for_each(|chaos| chaos.change(40));
        world.flush();
        sessions.push(world.ok("backup docs --to offsite")["sessions"].clone());
    }
    chaos.iter_mut().for_each(|chaos| chaos.change(40));
    let ground = Ground { world, repository, password };
    let lsn = ground.world.flush();
    archived(&ground.world, &lsn);
    world = ground.world;
    world.stop();
    for lost in ["data", "r"] {
        std::fs::remove_dir_all(world.path(lost)).unwrap();
    }
    // The second root has only its first session.
    let gone = sessions[1][1]["id"].as_str().unwrap();
    std::fs::remove_file(ground.repository.join("snapshots").join(gone)).unwrap();
    let ground = Ground { world, ..ground };
    let (report, _) = rescued(&ground, &format!("--at lsn:{lsn}"), "both");
    let used = report["archived"][0]["sessions"].as_array().unwrap();
    assert_eq!((&used[0], &used[1]), (&sessions[1][0]["id"], &sessions[0][1]["id"]), "{report}");
    for master in &masters {
        assert_same(master, &landed(&ground.world.path("both"), master), "a root");
    }
    // Now it has none: the other one comes, and what is left out is named.
    let gone = sessions[0][1]["id"].as_str().unwrap();
    std::fs::remove_file(ground.repository.join("snapshots").join(gone)).unwrap();
    let ran = rescue(&ground, &format!("--at lsn:{lsn}"), "one");
    assert_eq!(ran.exit, 3, "{ran:?}");
    assert!(ran.stderr.contains(&format!("no session of {} is as old", masters[1].display())), "{ran:?}");
    assert_same(&masters[0], &landed(&ground.world.path("one"), &masters[0]), "the other root");
    assert!(!landed(&ground.world.path("one"), &masters[1]).exists());
}

/// The same from a bucket: everything is lost but that.
#[test]
fn only_the_bucket_is_left() {
    let Some(store) = ObjectStore::start() else { return };
    let mut world = World::idle();
    world.wrapper.push("env".to_owned());
    world.wrapper.extend(store.environment().into_iter().map(|(name, value)| format!("{name}={value}")));
    let master = world.master();
    let mut chaos = Chaos::new(&master, 5);
    chaos.change(60);
    world.start();
    world.protect();
    let password = world.path("password");
    std::fs::write(&password, "correct horse\n").unwrap();
    let url = format!("s3://{BUCKET}/some/prefix");
    world.ok(&format!("repository add offsite {url} --password-file {}", password.display()));
    world.ok("scenario set docs archive=offsite archive-every=1s");
    world.ok("backup docs --to offsite");
    chaos.change(60);
    let lsn = world.flush();
    archived(&world, &lsn);
    world.stop();
    for lost in ["data", "r"] {
        std::fs::remove_dir_all(world.path(lost)).unwrap();
    }
    let onto = world.path("onto");
    let mut command = Command::new(programs().join("restorectl"));
    command.args(["--json", "rescue", &url, "--at", &format!("lsn:{lsn}"), "--onto"]).arg(&onto);
    command.arg("--password-file").arg(&password).envs(store.environment());
    let ran = run(command, Duration::from_secs(120));
    assert_eq!(ran.exit, 0, "{ran:?}");
    assert_same(&master, &landed(&onto, &master), "from the bucket");
    let theirs = format!("s3:http://{}/{BUCKET}/some/prefix", store.address);
    drop(Restic::new(theirs, &password).with(store.environment()).run(&["check"]));
}
