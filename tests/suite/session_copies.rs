//! Is a session that is copied into another repository the same session there, once, whole or absent, and one like any other: for
//! the list, the catalog, restores, the next backup and restic?

use crate::backups::{Ground, noise};
use crate::restores::landed;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tests::azurite::{Azure, CONTAINER};
use tests::compare::assert_same;
use tests::daemon::{World, seed, size};
use tests::restic::Restic;
use tests::rng::Rng;
use tests::s3::{BUCKET, ObjectStore};

/// Adds a repository in a directory with a password of its own.
fn add(world: &World, name: &str) -> (PathBuf, PathBuf) {
    let (place, password) = (world.path(name), world.path(&format!("{name}.password")));
    std::fs::write(&password, format!("{name}, and a horse\n")).unwrap();
    tests::repository::make(&place, &password);
    world.ok(&format!(
        "repository add {name} file://{} --password-file {}",
        place.display(),
        password.display()
    ));
    (place, password)
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_else(|| panic!("{key} of {value}"))
}

fn listed(world: &World, repository: &str) -> Vec<Value> {
    world.list(&format!("session list --repository {repository}"))
}

/// A restore of a session by the daemon is the master's tree.
fn restores(world: &World, id: &str, what: &str) {
    let onto = world.path("onto");
    let report = world.ok(&format!("restore session {id} --onto {} --verify", onto.display()));
    assert_eq!((&report["state"], &report["verified"]), (&"done".into(), &true.into()), "{report}");
    assert_same(&world.master(), &landed(&onto, &world.master()), what);
    std::fs::remove_dir_all(&onto).unwrap();
}

/// restic finds no fault, and what it restores of a session is the master's tree.
fn restic_agrees(world: &World, restic: &Restic, more: &[&str], id: &str) {
    let into = world.path("by-restic");
    if restic.run(&[&["check", "--read-data"], more].concat()).is_none() {
        return;
    }
    restic.run(&[&["restore", id, "--target", into.to_str().unwrap()], more].concat()).unwrap();
    assert_same(&world.master(), &landed(&into, &world.master()), "restored by restic");
    std::fs::remove_dir_all(&into).unwrap();
}

#[test]
fn a_copy_is_a_session_like_any_other() {
    let ground = Ground::new();
    let world = &ground.world;
    let master = world.master();
    std::fs::write(master.join("noise"), noise(3_000_000, 7)).unwrap();
    let (_, session) = ground.backup();
    let id = text(&session, "id");
    let (second, password) = add(world, "second");

    let copied = world.ok(&format!("session copy {} --to second", &id[..10]));
    assert_eq!((&copied["state"], &copied["was_there"]), (&"done".into(), &false.into()), "{copied}");
    assert_eq!((&copied["session"], &copied["missed"]), (&id.into(), &0.into()), "{copied}");
    assert!(copied["bytes_read"].as_u64().unwrap() > 3_000_000, "{copied}");
    let copy = text(&copied, "copied_session");
    assert_ne!(copy, id);
    let there = listed(world, "second");
    assert_eq!(there.len(), 1, "{there:#?}");
    assert_eq!(text(&there[0], "id"), copy);
    for key in ["scenario", "entity", "master", "time", "lsn", "class", "files", "bytes", "tree", "missed"] {
        assert_eq!(there[0][key], session[key], "{key}");
    }
    // Found, listed, verified and restored, by us and by restic.
    let found = world.list("catalog query file-03");
    assert_eq!(found[0]["sessions"], 2, "{found:#?}");
    let files = |id: &str| world.list(&format!("session files {id}"));
    assert_eq!(files(copy), files(id));
    assert_eq!(world.ok(&format!("session verify {copy}"))["state"], "done");
    restores(world, copy, "the copy");
    restic_agrees(world, &Restic::new(&second, &password), &[], copy);
    assert_eq!(world.ok("repository check second --read-data")["state"], "done");
    // Of one point what was made first is asked first.
    let b = master.join("a/b");
    let restored = world.ok(&format!("restore tree {} --onto {}", b.display(), world.path("tree").display()));
    assert_eq!(restored["session"], id, "{restored}");

    // Again, home, and onward: nothing is written twice.
    let again = world.ok(&format!("session copy {id} --to second"));
    assert_eq!((&again["was_there"], &again["copied_session"]), (&true.into(), &copy.into()), "{again}");
    for from in [id, copy] {
        let home = world.ok(&format!("session copy {from} --to offsite"));
        assert_eq!((&home["was_there"], &home["copied_session"]), (&true.into(), &id.into()), "{home}");
    }
    assert_eq!((listed(world, "second").len(), listed(world, "offsite").len()), (1, 1));
    // The next backup goes on from the copy, and the next copy brings what changed.
    std::fs::write(master.join("file-01"), "changed").unwrap();
    world.flush();
    let report = world.ok("backup docs --to second");
    assert_eq!(report["sessions"][0]["incremental"], true, "{report}");
    assert!(report["sessions"][0]["bytes_read"].as_u64().unwrap() < 100_000, "{report}");
    add(world, "third");
    world.ok(&format!("session copy {copy} --to third"));
    let later = text(&report["sessions"][0], "id").to_owned();
    let copied = world.ok(&format!("session copy {later} --to third"));
    assert!(copied["bytes_read"].as_u64().unwrap() < 100_000, "{copied}");
    restores(world, text(&copied, "copied_session"), "the later copy");
    assert_eq!(listed(world, "third").len(), 2);

    world.refused(&format!("session copy {id} --to nowhere"), 4, "RW1050");
    world.refused(&format!("session copy {id} --to s3://bucket/x"), 2, "RW1052");
    world.refused(&format!("session copy {id} --to second --pool weekly"), 2, "RW0468");
    world.refused("session copy 123456 --to second", 4, "RW1070");
}

#[test]
fn what_restic_copied_is_known_for_a_copy() {
    let ground = Ground::new();
    let world = &ground.world;
    let (_, session) = ground.backup();
    let id = text(&session, "id");
    let (second, password) = add(world, "second");
    let from = ground.repository.display().to_string();
    let password_of = ground.password.display().to_string();
    let restic = Restic::new(&second, &password);
    let copy = ["copy", "--from-repo", &from, "--from-password-file", &password_of];
    if restic.run(&copy).is_none() {
        return;
    }
    let copied = world.ok(&format!("session copy {id} --to second"));
    assert_eq!(copied["was_there"], true, "{copied}");
    // It is in the list from now on.
    assert_eq!(listed(world, "second")[0]["id"], copied["copied_session"]);
    // And the other way: restic finds ours and copies nothing.
    let (third, password) = add(world, "third");
    world.ok(&format!("session copy {id} --to third"));
    Restic::new(&third, &password).run(&copy).unwrap();
    let records = |place: &Path| std::fs::read_dir(place.join("snapshots")).unwrap().count();
    assert_eq!((records(&second), records(&third)), (1, 1));
}

#[test]
fn a_session_that_is_damaged_is_not_copied() {
    let ground = Ground::new();
    let world = &ground.world;
    std::fs::write(world.master().join("noise"), noise(2_000_000, 9)).unwrap();
    let (_, session) = ground.backup();
    let id = text(&session, "id");
    let (second, password) = add(world, "second");
    let mut packs = Vec::new();
    for directory in std::fs::read_dir(ground.repository.join("data")).unwrap() {
        let packs_in = std::fs::read_dir(directory.unwrap().path()).unwrap();
        packs.extend(packs_in.map(|pack| pack.unwrap().path()));
    }
    let largest = packs.iter().max_by_key(|pack| pack.metadata().unwrap().len()).unwrap();
    let whole = std::fs::read(largest).unwrap();
    let mut damaged = whole.clone();
    let at = damaged.len() / 2;
    damaged[at] ^= 0x10;
    std::fs::write(largest, damaged).unwrap();
    let ran = world.refused(&format!("session copy {id} --to second"), 8, "RW1135");
    assert!(ran.stdout.contains(world.master().to_str().unwrap()), "{ran:?}");
    assert_eq!(listed(world, "second"), [] as [Value; 0]);
    assert_eq!(std::fs::read_dir(second.join("snapshots")).map_or(0, Iterator::count), 0);
    assert_eq!(world.ok("repository check second --read-data")["state"], "done");
    std::fs::write(largest, whole).unwrap();
    let copied = world.ok(&format!("session copy {id} --to second"));
    restic_agrees(world, &Restic::new(&second, &password), &[], text(&copied, "copied_session"));
}

#[test]
fn a_session_comes_back_from_tape_into_a_repository() {
    let ground = Ground::new();
    let world = &ground.world;
    world.ok(&format!("tape label tape://{} --media one", world.path("tapes").display()));
    world.ok(&format!("repository add tape tape://{}", world.path("tapes").display()));
    world.flush();
    let report = world.ok("backup docs --to tape");
    let on_tape = text(&report["sessions"][0], "id").to_owned();
    let (second, password) = add(world, "second");
    let copied = world.ok(&format!("session copy {on_tape} --to second"));
    assert_eq!(copied["was_there"], false, "{copied}");
    let copy = text(&copied, "copied_session");
    assert_eq!(listed(world, "second")[0]["tree"], report["sessions"][0]["tree"]);
    restic_agrees(world, &Restic::new(&second, &password), &[], copy);
    let again = world.ok(&format!("session copy {on_tape} --to second"));
    assert_eq!((&again["was_there"], &again["copied_session"]), (&true.into(), &copy.into()), "{again}");
    // By way of tape a copy is still a copy of what it was copied from.
    let (_, session) = ground.backup();
    let id = text(&session, "id");
    let copied = world.ok(&format!("session copy {id} --to tape"));
    let home = world.ok(&format!("session copy {} --to offsite", text(&copied, "tape_session")));
    assert_eq!((&home["was_there"], &home["copied_session"]), (&true.into(), &id.into()), "{home}");
    // Without the volumes it is restored from where it can be had.
    std::fs::remove_dir_all(world.path("tapes")).unwrap();
    let tree = format!("restore tree {} --onto {}", world.master().display(), world.path("t").display());
    assert_eq!(world.ok(&tree)["state"], "done");
}

fn records(repository: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(repository.join("snapshots")).into_iter().flatten();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| !name.starts_with('.')).collect()
}

#[test]
fn copies_survive_kills() {
    let mut rng = Rng::new(seed("copies_survive_kills"));
    let mut ground = Ground::new();
    let (second, password) = add(&ground.world, "second");
    let mut last = String::new();
    let mut found = 0;
    for round in 0..size(8, 60) {
        for _ in 0..4 {
            let path = ground.world.master().join(format!("noise-{}", rng.below(6)));
            std::fs::write(path, noise(rng.below(800_000) as usize, rng.below(u64::MAX))).unwrap();
        }
        let (_, session) = ground.backup();
        let id = text(&session, "id").to_owned();
        let before = records(&second).len();
        let job = ground.world.ok(&format!("session copy {id} --to second --detach"));
        let job = text(&job, "job").to_owned();
        if round % 2 == 0 {
            let give_up = Instant::now() + Duration::from_secs(20);
            while records(&second).len() == before && Instant::now() < give_up {
                std::hint::spin_loop();
            }
        } else {
            std::thread::sleep(Duration::from_micros(rng.below(700_000)));
        }
        let world = &mut ground.world;
        world.kill();
        world.start();
        let ended = world.ok(&format!("job wait {job}"));
        assert_eq!(ended["state"], "done", "round {round}: {ended}");
        found += u32::from(ended["was_there"] == true);
        last = text(&ended, "copied_session").to_owned();
        let known: BTreeSet<String> =
            listed(world, "second").iter().map(|session| text(session, "id").to_owned()).collect();
        assert_eq!(known.len() as u64, round + 1, "round {round}: {known:?}");
        assert_eq!(records(&second), known, "round {round}");
        world.wait_replicating();
    }
    println!("{found} copies were found by the job that began again");
    restores(&ground.world, &last, "after kills");
    restic_agrees(&ground.world, &Restic::new(&second, &password), &[], &last);
}

#[test]
fn a_copy_that_was_cancelled_or_asked_for_twice_is_one() {
    let ground = Ground::new();
    let world = &ground.world;
    std::fs::write(world.master().join("noise"), noise(8_000_000, 3)).unwrap();
    let (_, session) = ground.backup();
    let id = text(&session, "id");
    let (second, _) = add(world, "second");
    let start = |key: &str| {
        let started = world.ok(&format!("session copy {id} --to second --detach --idempotency-key {key}"));
        text(&started, "job").to_owned()
    };
    let first = start("one");
    assert_eq!(start("one"), first);
    let _ = world.ctl(&format!("job cancel {first}"));
    let ended = world.ctl(&format!("job wait {first}"));
    // It may have come to its end before.
    assert!(ended.exit == 0 || ended.code() == "RW1025", "{ended:?}");
    // Two at the same time: one is refused, or finds what the other made.
    let jobs = [start("two"), start("three")];
    for job in &jobs {
        let ended = world.ctl(&format!("job wait {job}"));
        assert!(ended.exit == 0 || ended.code() == "RW1136", "{ended:?}");
    }
    assert_eq!(listed(world, "second").len(), 1);
    assert_eq!(records(&second).len(), 1);
    restores(world, text(&listed(world, "second")[0], "id"), "after all of it");
}

/// A session of a repository in S3 becomes one of Azure, where there are both; else of a directory one of S3.
#[test]
fn a_session_is_copied_from_one_object_store_to_another() {
    let Some(s3) = ObjectStore::start() else { return };
    let azure = Azure::start();
    let mut world = World::idle();
    world.wrapper.push("env".to_owned());
    let variables = s3.environment().into_iter().chain(azure.iter().flat_map(Azure::environment));
    world.wrapper.extend(variables.map(|(name, value)| format!("{name}={value}")));
    crate::backups::fill(&world.master());
    std::fs::write(world.master().join("noise"), noise(9_000_000, 5)).unwrap();
    world.start();
    world.protect();
    let password = world.path("password");
    std::fs::write(&password, "correct horse\n").unwrap();
    add(&world, "near");
    for (name, url) in [
        ("s3", Some(format!("s3://{BUCKET}/some/prefix"))),
        ("azure", azure.as_ref().map(|_| format!("az://{CONTAINER}/other"))),
    ] {
        let Some(url) = url else { continue };
        world.ok(&format!("repository add {name} {url} --password-file {}", password.display()));
    }
    world.flush();
    let report = world.ok("backup docs --to near");
    let mut id = text(&report["sessions"][0], "id").to_owned();
    for to in ["s3", "azure"] {
        if to == "azure" && azure.is_none() {
            continue;
        }
        let copied = world.ok(&format!("session copy {id} --to {to}"));
        assert_eq!((&copied["state"], &copied["was_there"]), (&"done".into(), &false.into()), "{copied}");
        id = text(&copied, "copied_session").to_owned();
        assert_eq!(world.ok(&format!("repository check {to} --read-data"))["state"], "done");
        restores(&world, &id, to);
        let again = world.ok(&format!("session copy {id} --to {to}"));
        assert_eq!(again["was_there"], true, "{again}");
    }
    let s3_url = format!("s3:http://{}/{BUCKET}/some/prefix", s3.address);
    let copy = text(&listed(&world, "s3")[0], "id").to_owned();
    restic_agrees(&world, &Restic::new(s3_url, &password).with(s3.environment()), &[], &copy);
    if let Some(azure) = &azure {
        let authority = azure.authority();
        let restic = Restic::new(format!("azure:{CONTAINER}:/other"), &password).with(azure.proxied());
        restic_agrees(&world, &restic, &["--cacert", authority.to_str().unwrap()], &id);
    }
}
