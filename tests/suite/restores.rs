//! A restore as a person makes it: does everything come back exactly, by each way, onto each target, also after a kill,
//! and is what is refused refused?

use crate::backups::{Ground, noise, walk};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use tests::chaos::Chaos;
use tests::compare::assert_same;
use tests::daemon::{World, seed, size};
use tests::pair::Pair;

/// A copy of a tree with all there is to it.
pub(crate) fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(status.success());
}

/// Where a restore into a directory puts the master's tree.
pub(crate) fn landed(onto: &Path, master: &Path) -> PathBuf {
    onto.join(master.strip_prefix("/").unwrap())
}

/// What people do to a tree after it was backed up.
fn ruin(master: &Path) {
    std::fs::write(master.join("file-01"), "ruined").unwrap();
    std::fs::write(master.join("a/b/c/file-02"), vec![7; 5_000]).unwrap();
    std::fs::remove_dir_all(master.join("empty")).unwrap();
    std::fs::write(master.join("empty"), "a file where a directory was").unwrap();
    std::fs::remove_file(master.join("dangling")).unwrap();
    std::fs::create_dir(master.join("dangling")).unwrap();
    std::fs::remove_file(master.join("file-05")).unwrap();
    std::fs::rename(master.join("file-07"), master.join("renamed")).unwrap();
    std::fs::rename(master.join("a/b"), master.join("elsewhere")).unwrap();
    std::fs::write(master.join("made-later"), "by somebody").unwrap();
    std::fs::create_dir_all(master.join("later/still")).unwrap();
    std::fs::write(master.join("later/still/here"), "by somebody").unwrap();
    let sparse = std::fs::File::options().write(true).open(master.join("sparse")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"no hole any more", 3 << 20).unwrap();
    rustix::fs::removexattr(master.join("file-03"), "user.colour").unwrap();
}

/// What a restore would do: one object over many lines.
pub(crate) fn plan(world: &World, line: &str) -> Value {
    let ran = world.ctl(&format!("{line} --dry-run"));
    assert_eq!(ran.exit, 0, "{ran:?}");
    serde_json::from_str(&ran.stdout).unwrap()
}

/// A command that leaves something out, and says so.
fn incomplete(world: &World, line: &str) -> Value {
    let ran = world.ctl(line);
    assert_eq!(ran.exit, 3, "{ran:?}");
    let report = ran.objects().remove(0);
    assert_eq!(report["state"], "incomplete", "{report}");
    report
}

#[test]
fn into_a_directory_by_session_by_path_and_by_tree() {
    let ground = Ground::new();
    let (world, master) = (&ground.world, ground.world.master());
    let (_, session) = ground.backup();
    let id = session["id"].as_str().unwrap();
    let onto = world.path("out");
    let line = format!("restore session {} --onto {} --verify", &id[..8], onto.display());
    let dry = plan(world, &line);
    assert!(!onto.exists(), "a dry run writes nothing");
    assert_eq!(dry["changes"].as_array().unwrap().len() as u64, dry["created"].as_u64().unwrap(), "{dry}");
    let report = world.ok(&line);
    assert_eq!(
        (&report["state"], &report["failed"], &report["verified"]),
        (&"done".into(), &0.into(), &true.into()),
        "{report}"
    );
    assert_eq!((&report["session"], &report["before"]), (&session["id"], &Value::Null), "{report}");
    assert_eq!(
        dry["created"].as_u64().unwrap(),
        ["files", "directories", "others", "links"]
            .iter()
            .map(|key| report[key].as_u64().unwrap())
            .sum::<u64>(),
        "{dry} {report}"
    );
    assert_same(&master, &landed(&onto, &master), "the whole session");
    // Something stands there now.
    world.refused(&line, 5, "RW1072");
    let again = world.ok(&format!("{line} --if-exists skip"));
    assert_eq!(again["bytes_written"], 0, "{again}");
    std::fs::write(landed(&onto, &master).join("file-03"), "other").unwrap();
    std::fs::write(landed(&onto, &master).join("extra"), "mine").unwrap();
    world.ok(&format!(
        "restore tree {} --onto {} --if-exists overwrite --delete --yes",
        master.display(),
        onto.display()
    ));
    assert_same(&master, &landed(&onto, &master), "the tree with what it does not hold removed");
    // Paths alone.
    let some = world.path("some");
    let (one, two) = (master.join("a/b"), master.join("file-05"));
    let line = format!("restore session {id} {} {} --onto {}", one.display(), two.display(), some.display());
    world.ok(&line);
    assert_same(&one, &landed(&some, &one), "a directory");
    let entries = std::fs::read_dir(landed(&some, &master)).unwrap().count();
    assert_eq!(entries, 2, "nothing else");
    // Into what a link leads to in a tree of ours, a place of the daemon, and what is not there.
    let link = world.path("link");
    std::os::unix::fs::symlink(world.replica(), &link).unwrap();
    for target in [world.replica(), world.path("data/x"), master.join("x"), link, world.path("repository")] {
        world.refused(&format!("restore session {id} --onto {}", target.display()), 5, "RW1073");
    }
    let onto = world.path("none");
    world.refused(
        &format!("restore session {id} {}/none --onto {}", master.display(), onto.display()),
        4,
        "RW1032",
    );
    world.refused(&format!("restore session 0123 --onto {}", onto.display()), 4, "RW1070");
    world.refused(&format!("restore tree /nowhere --onto {}", onto.display()), 4, "RW1032");
    world.refused(&format!("restore session {id} --onto replica"), 2, "RW1026");
    assert!(!onto.exists());
}

#[test]
fn sessions_are_shown_listed_and_verified() {
    let ground = Ground::new();
    let (world, master) = (&ground.world, ground.world.master());
    let (_, session) = ground.backup();
    let id = session["id"].as_str().unwrap();
    assert_eq!(world.ok(&format!("session show {}", &id[..10]))["id"], id);
    let all = world.list(&format!("session files {id}"));
    let below = world.list(&format!("session files {id} {}/a", master.display()));
    assert!(below.len() > 20 && below.len() < all.len(), "{} of {}", below.len(), all.len());
    assert_eq!(below[0]["path"], master.join("a").to_str().unwrap(), "{}", below[0]);
    let odd = all.iter().find(|entry| entry["path_base64"].is_string()).unwrap();
    assert_eq!((&odd["kind"], &odd["bytes"]), (&"file".into(), &3.into()), "{odd}");
    world.refused(&format!("session files {id} /nowhere"), 4, "RW1032");
    world.refused("session show ffff", 4, "RW1070");
    assert_eq!(world.ok(&format!("session show {id}"))["verified"], Value::Null);
    let report = world.ok(&format!("session verify {id}"));
    assert_eq!((&report["verified"], &report["damaged"]), (&true.into(), &0.into()), "{report}");
    let first = world.ok(&format!("session show {id}"))["verified"].clone();
    assert_eq!(world.list("session list")[0]["verified"], first);
    // A check of a part says nothing of a session, one of everything does.
    world.ok("repository check offsite");
    assert_eq!(world.ok(&format!("session show {id}"))["verified"], first);
    world.ok("repository check offsite --read-data");
    let second = world.ok(&format!("session show {id}"))["verified"].clone();
    assert!(first.is_string() && second.as_str() > first.as_str(), "{first} {second}");
    // A byte of a pack.
    let packs = walk(&ground.repository.join("data"));
    let largest = packs.iter().max_by_key(|pack| std::fs::metadata(pack).unwrap().len()).unwrap();
    let mut bytes = std::fs::read(largest).unwrap();
    bytes[100] ^= 1;
    std::fs::write(largest, bytes).unwrap();
    let ran = world.refused(&format!("session verify {id}"), 8, "RW1075");
    let object = ran.objects().remove(0);
    assert!(object["damaged"].as_u64().unwrap() > 0, "{object}");
    let reason = object["failures"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("data/"), "the object is named: {object}");
    assert_eq!(
        world.ok(&format!("session show {id}"))["verified"],
        second,
        "the last time that it was right"
    );
    // What is damaged is left out, the rest comes back.
    let onto = world.path("out");
    let ran = world.ctl(&format!("restore session {id} --onto {}", onto.display()));
    assert_eq!(ran.exit, 3, "{ran:?}");
    let report = ran.objects().remove(0);
    // Which file it hits is for the threads of the backup to say; one of them has a second name, which goes with it.
    let (failed, damaged) = (report["failed"].as_u64().unwrap(), object["damaged"].as_u64().unwrap());
    let names = report["failures"].as_array().unwrap();
    let links = names.iter().filter(|one| one["path"].as_str().unwrap().ends_with("/same")).count();
    assert_eq!(failed, damaged + links as u64, "{report}");
    assert_eq!(report["state"], "incomplete", "{report}");
}

#[test]
fn onto_the_replica_and_back() {
    let ground = Ground::new();
    let (world, master) = (&ground.world, ground.world.master());
    let (_, session) = ground.backup();
    let (kept, ruined) = (world.path("kept"), world.path("ruined"));
    copy(&master, &kept);
    ruin(&master);
    copy(&master, &ruined);
    world.flush();
    let path = master.display();
    let id = session["id"].as_str().unwrap();
    // Without --delete what people made meanwhile stays.
    // Also a directory that stands where a link belongs: it is kept, and that is said.
    let report = incomplete(world, &format!("restore session {id} --yes --verify"));
    assert_eq!(
        (&report["failed"], &report["verified"], &report["detached"]),
        (&1.into(), &true.into(), &true.into()),
        "{report}"
    );
    assert_eq!(report["failures"][0]["path"], master.join("dangling").to_str().unwrap(), "{report}");
    assert_eq!(world.ok("scenario status docs")["state"], "detached");
    assert_eq!(std::fs::read(world.replica().join("made-later")).unwrap(), b"by somebody");
    assert_eq!(
        std::fs::read(world.replica().join("file-01")).unwrap(),
        std::fs::read(kept.join("file-01")).unwrap()
    );
    // With it the tree is that of the session; what is there already is not fetched again.
    let line = format!("restore tree {path} --session {id} --delete --yes --verify");
    let dry = plan(world, &line);
    let second = world.ok(&line);
    assert_eq!(dry["removed"], second["removed"], "{dry} {second}");
    assert_eq!((&second["verified"], &second["failed"]), (&true.into(), &0.into()), "{second}");
    assert_same(&kept, &world.replica(), "the session on the replica");
    let third = world.ok(&line);
    assert_eq!(
        (&third["bytes_written"], &third["before"]),
        (&0.into(), &Value::Null),
        "nothing to do: {third}"
    );
    // A restore can be rewound.
    let before = report["before"].as_str().unwrap();
    world.ok(&format!("rewind docs --to bookmark:{before} --yes"));
    assert_same(&ruined, &world.replica(), "before the restore");
    world.ok("scenario resume docs");
    world.flush();
    assert_same(&master, &world.replica(), "the replica follows again");
    assert_same(&ruined, &master, "the master was not touched");
}

#[test]
fn only_what_differs_is_written_to_the_replica() {
    let ground = Ground::new();
    let (world, master) = (&ground.world, ground.world.master());
    let large = master.join("large");
    std::fs::write(&large, noise(40 << 20, 5)).unwrap();
    let (_, session) = ground.backup();
    let kept = world.path("kept");
    copy(&master, &kept);
    let file = std::fs::File::options().write(true).open(&large).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"another", 20 << 20).unwrap();
    world.flush();
    let line = format!("restore session {} {} --yes", session["id"].as_str().unwrap(), large.display());
    let report = world.ok(&line);
    let written = report["bytes_written"].as_u64().unwrap();
    assert!(written > 0 && written < 9 << 20, "one chunk: {report}");
    assert_same(&kept, &world.replica(), "the large file is back");
}

#[test]
fn onto_the_master_while_replication_goes_on() {
    let ground = Ground::new();
    let (world, master) = (&ground.world, ground.world.master());
    let (_, session) = ground.backup();
    let (kept, ruined) = (world.path("kept"), world.path("ruined"));
    copy(&master, &kept);
    ruin(&master);
    copy(&master, &ruined);
    let id = session["id"].as_str().unwrap();
    let report = incomplete(world, &format!("restore session {id} --onto master --yes --verify"));
    assert_eq!((&report["failed"], &report["verified"]), (&1.into(), &true.into()), "{report}");
    assert_eq!(std::fs::read(master.join("made-later")).unwrap(), b"by somebody", "it stays");
    assert_eq!(std::fs::read(master.join("later/still/here")).unwrap(), b"by somebody", "it stays");
    assert_eq!(world.ok("scenario status docs")["state"], "replicating");
    world.flush();
    assert_same(&master, &world.replica(), "the replica followed");
    let line = format!("restore tree {} --scenario docs --onto master --delete --yes", master.display());
    let second = world.ok(&line);
    assert_eq!((&second["state"], &second["failed"]), (&"done".into(), &0.into()), "{second}");
    assert_same(&kept, &master, "the session on the master");
    world.flush();
    assert_same(&kept, &world.replica(), "and on the replica");
    let before = report["before"].as_str().unwrap();
    world.ok(&format!("rewind docs --to bookmark:{before} --onto master --yes"));
    assert_same(&ruined, &master, "before the restore");
    world.ok("scenario suspend docs");
    world.refused(&format!("restore session {id} --onto master --yes"), 5, "RW0465");
}

/// A new file is known to the master only while one request lasts.
#[test]
fn names_of_one_file_come_back_on_the_master_also_far_apart() {
    let ground = Ground::new();
    let (world, master) = (&ground.world, ground.world.master());
    let all = ["aa", "middle-0", "middle-1", "middle-2", "zz"];
    std::fs::write(master.join("aa"), "one file").unwrap();
    for name in &all[1..4] {
        std::fs::write(master.join(name), noise(1 << 20, 9)).unwrap();
    }
    std::fs::hard_link(master.join("aa"), master.join("zz")).unwrap();
    let (_, session) = ground.backup();
    let kept = world.path("kept");
    copy(&master, &kept);
    all.iter().for_each(|name| std::fs::remove_file(master.join(name)).unwrap());
    let id = session["id"].as_str().unwrap();
    let report = world.ok(&format!("restore session {id} --onto master --yes --verify"));
    assert_eq!((&report["verified"], &report["failed"]), (&true.into(), &0.into()), "{report}");
    world.ok(&format!("restore session {id} --onto master --yes"));
    assert_same(&kept, &master, "both names");
    world.flush();
    assert_same(&kept, &world.replica(), "the replica followed");
}

#[test]
fn rules_for_what_stands_there() {
    let ground = Ground::new();
    let (world, master) = (&ground.world, ground.world.master());
    let (_, session) = ground.backup();
    let id = session["id"].as_str().unwrap();
    let one = master.join("file-03");
    let original = std::fs::read(&one).unwrap();
    std::fs::write(&one, "newer").unwrap();
    world.flush();
    let replica = world.replica();
    let at = |name: &str| std::fs::read(replica.join(name)).unwrap();
    let line = |rule: &str| format!("restore session {id} {} --if-exists {rule} --yes", one.display());
    world.refused(&line("fail"), 5, "RW1072");
    assert_eq!(world.ok("scenario status docs")["state"], "replicating", "nothing happened");
    let skipped = world.ok(&line("skip"));
    assert_eq!((&skipped["skipped"], &skipped["before"]), (&1.into(), &Value::Null), "{skipped}");
    assert_eq!(world.ok(&line("newer"))["skipped"], 1);
    let renamed = world.ok(&line("rename"));
    assert_eq!(renamed["renamed"], 1, "{renamed}");
    assert_eq!((at("file-03"), at("file-03.restored")), (b"newer".to_vec(), original.clone()));
    world.ok(&line("overwrite"));
    assert_eq!(at("file-03"), original);
}

#[test]
fn a_point_of_the_journal_into_a_directory() {
    let ground = Ground::new();
    let (world, master) = (&ground.world, ground.world.master());
    world.ok("bookmark set docs good");
    let kept = world.path("kept");
    copy(&master, &kept);
    ruin(&master);
    world.flush();
    let onto = world.path("out");
    let path = master.join("a");
    world.ok(&format!("restore tree {} --at bookmark:good --onto {}", path.display(), onto.display()));
    assert_same(&kept.join("a"), &landed(&onto, &path), "the directory at the bookmark");
    world.refused(&format!("restore tree {} --at good --onto replica --yes", path.display()), 2, "RW1009");
}

#[test]
fn a_daemon_that_is_killed_goes_on_with_the_restore() {
    let mut ground = Ground::new();
    let master = ground.world.master();
    for number in 0..300_u64 {
        std::fs::write(master.join(format!("noise-{number:03}")), noise(200_000, number)).unwrap();
    }
    let (_, session) = ground.backup();
    let id = session["id"].as_str().unwrap().to_owned();
    for (number, wait) in [0_u64, 5, 20, 60, 150].into_iter().enumerate() {
        let world = &mut ground.world;
        let onto = world.path(&format!("out-{number}"));
        let line =
            format!("restore session {id} --onto {} --detach --idempotency-key k{number}", onto.display());
        let job = world.ok(&line)["job"].as_str().unwrap().to_owned();
        std::thread::sleep(std::time::Duration::from_millis(wait));
        world.kill();
        world.start();
        let report = world.ok(&format!("job wait {job}"));
        assert_eq!((&report["state"], &report["failed"]), (&"done".into(), &0.into()), "{report}");
        assert_same(&master, &landed(&onto, &master), "after a kill");
        let names = walk(&onto).into_iter().map(|path| path.file_name().unwrap().to_owned());
        let left: Vec<_> = names.filter(|name| name.to_string_lossy().starts_with(".rewind-")).collect();
        assert!(left.is_empty(), "{left:?}");
        assert_eq!(world.ok(&line)["job"], job.as_str(), "the same key is the same job");
        std::fs::remove_dir_all(&onto).unwrap();
    }
}

#[test]
fn a_daemon_that_is_killed_goes_on_onto_the_replica() {
    let mut ground = Ground::new();
    let (kept, master) = (ground.world.path("kept"), ground.world.master());
    for number in 0..200_u64 {
        std::fs::write(master.join(format!("noise-{number:03}")), noise(200_000, number)).unwrap();
    }
    let (_, session) = ground.backup();
    let id = session["id"].as_str().unwrap().to_owned();
    copy(&master, &kept);
    // So many that what the next daemon compares takes longer than beginning its jobs again.
    for number in 0..200_u64 {
        std::fs::write(master.join(format!("noise-{number:03}")), noise(100_000, 1000 + number)).unwrap();
        for other in 0..6 {
            std::fs::write(master.join(format!("small-{number}-{other}")), "small").unwrap();
        }
    }
    ground.world.ok("bookmark set docs small");
    ground.world.flush();
    for wait in [30_u64, 300] {
        let world = &mut ground.world;
        let line = format!("restore tree {} --session {id} --delete --yes --detach", master.display());
        let job = world.ok(&line)["job"].as_str().unwrap().to_owned();
        std::thread::sleep(std::time::Duration::from_millis(wait));
        world.kill();
        world.start();
        let report = world.ok(&format!("job wait {job}"));
        assert_eq!((&report["state"], &report["failed"]), (&"done".into(), &0.into()), "{report}");
        assert_same(&kept, &world.replica(), "after a kill");
        world.ok("scenario resume docs");
        world.flush();
        assert_same(&master, &world.replica(), "the replica follows again");

        // A rewind as well.
        let line = "rewind docs --to small --onto replica --yes --detach";
        let job = world.ok(line)["job"].as_str().unwrap().to_owned();
        world.kill();
        world.start();
        assert_eq!(world.ok(&format!("job wait {job}"))["state"], "done");
        assert_same(&master, &world.replica(), "rewound after a kill");
        world.ok("scenario resume docs");
        world.flush();
    }
}

#[test]
fn a_daemon_that_is_killed_goes_on_onto_the_master() {
    let mut ground = Ground::new();
    let (kept, master) = (ground.world.path("kept"), ground.world.master());
    for number in 0..120_u64 {
        std::fs::write(master.join(format!("noise-{number:03}")), noise(200_000, number)).unwrap();
    }
    let (_, session) = ground.backup();
    let id = session["id"].as_str().unwrap().to_owned();
    copy(&master, &kept);
    for (round, wait) in [100_u64, 500].into_iter().enumerate() {
        for number in 0..120_u64 {
            let bytes = noise(150_000, 1000 + 1000 * round as u64 + number);
            std::fs::write(master.join(format!("noise-{number:03}")), bytes).unwrap();
        }
        std::fs::remove_file(master.join("file-01")).unwrap();
        let world = &mut ground.world;
        world.flush();
        let line = format!("restore tree {} --session {id} --onto master --yes --detach", master.display());
        let job = world.ok(&line)["job"].as_str().unwrap().to_owned();
        std::thread::sleep(std::time::Duration::from_millis(wait));
        // Somebody goes on working beside it.
        std::fs::write(master.join("meanwhile"), "by somebody").unwrap();
        world.kill();
        world.start();
        let report = world.ok(&format!("job wait {job}"));
        assert_eq!((&report["state"], &report["failed"]), (&"done".into(), &0.into()), "{report}");
        assert_eq!(std::fs::read(master.join("meanwhile")).unwrap(), b"by somebody", "it stays");
        std::fs::remove_file(master.join("meanwhile")).unwrap();
        // The root's own times are those of the last change in it.
        world.ok(&format!("restore tree {} --session {id} --delete --onto master --yes", master.display()));
        assert_same(&kept, &master, "after a kill");
        world.wait_replicating();
        world.flush();
        assert_same(&kept, &world.replica(), "the replica followed");
    }
}

/// Random trees, by each way onto each target. Capture, backup and restore take turns.
#[test]
fn random_trees_come_back_by_each_way() {
    let seed = seed("restores");
    let ground = Ground::new();
    let (world, master) = (&ground.world, ground.world.master());
    let mut chaos = Chaos::new(&master, seed);
    for round in 0..size(3, 20) {
        chaos.change(150);
        let (_, session) = ground.backup();
        let id = session["id"].as_str().unwrap();
        let (kept, onto) = (world.path(&format!("kept-{round}")), world.path(&format!("out-{round}")));
        copy(&master, &kept);
        chaos.change(150);
        world.flush();
        let context = format!("seed {seed} round {round}");
        let report = world.ok(&format!("restore session {id} --onto {} --verify", onto.display()));
        assert_eq!(report["warned"], 0, "{context}: {report}");
        assert_same(&kept, &landed(&onto, &master), &context);
        let rescued = world.path(&format!("rescued-{round}"));
        let url = format!("file://{}", ground.repository.display());
        let ran = rescue(&ground, &url, &format!("{id} --onto {} --sparse off", rescued.display()));
        assert_eq!(ran.exit, 0, "{context}: {ran:?}");
        assert_same(&kept, &landed(&rescued, &master), &context);
        let line = format!("restore tree {} --session {id} --delete --verify --yes", master.display());
        let report = world.ok(&line);
        assert_eq!(report["verified"], true, "{context}: {report}");
        assert_same(&kept, &world.replica(), &context);
        world.ok("scenario resume docs");
        world.flush();
        assert_same(&master, &world.replica(), &context);
        let report = world.ok(&format!("{line} --onto master"));
        assert_eq!(
            (&report["verified"], &report["failed"]),
            (&true.into(), &0.into()),
            "{context}: {report}"
        );
        assert_same(&kept, &master, &context);
        world.flush();
        assert_same(&kept, &world.replica(), &context);
    }
}

/// Runs the rescue of a repository; no daemon is asked.
fn rescue(ground: &Ground, url: &str, words: &str) -> tests::daemon::Ran {
    ground.world.ctl(&format!(
        "--endpoint unix:/nowhere rescue {url} {words} --password-file {}",
        ground.password.display()
    ))
}

#[test]
fn rescue_without_a_daemon() {
    let mut ground = Ground::new();
    let master = ground.world.master();
    let (_, first) = ground.backup();
    let kept = ground.world.path("kept");
    copy(&master, &kept);
    ruin(&master);
    let (_, second) = ground.backup();
    ground.world.stop();
    let url = format!("file://{}", ground.repository.display());
    let restore = |words: &str, name: &str| {
        let onto = ground.world.path(name);
        let ran = rescue(&ground, &url, &format!("{words} --onto {}", onto.display()));
        assert_eq!(ran.exit, 0, "{ran:?}");
        (ran.objects().remove(0), landed(&onto, &master))
    };
    let (report, at) = restore(&format!("{} --verify", first["id"].as_str().unwrap()), "by-id");
    assert_eq!((&report["state"], &report["verified"]), (&"done".into(), &true.into()), "{report}");
    assert_same(&kept, &at, "by id");
    let (report, at) = restore("latest", "latest");
    assert_eq!(report["session"], second["id"], "{report}");
    assert_same(&master, &at, "the latest");
    let (report, at) = restore(&format!("--at {}", first["time"].as_str().unwrap()), "at");
    assert_eq!(report["session"], first["id"], "{report}");
    assert_same(&kept, &at, "by time");
    let refused = |words: &str, exit: i32, code: &str| {
        let ran = rescue(&ground, &url, &format!("{words} --onto {}", ground.world.path("no").display()));
        assert_eq!((ran.exit, ran.code().as_str()), (exit, code), "{ran:?}");
    };
    refused("0123", 4, "RW1070");
    refused("latest /nowhere", 4, "RW1032");
    refused("--at 1999-01-01T00:00:00Z", 4, "RW1070");
    std::fs::write(&ground.password, "wrong\n").unwrap();
    refused("latest", 6, "RW1053");
}

/// Two hosts: the master is written through its stream; and when it is gone, the replica is restored all the same.
#[test]
fn over_tls_and_when_the_master_is_gone() {
    let mut pair = Pair::new();
    pair.start();
    let (m, kept, password) = (pair.path("m"), pair.path("kept"), pair.path("password"));
    std::fs::create_dir_all(m.join("a/b")).unwrap();
    for number in 0..30_u64 {
        std::fs::write(m.join(format!("a/b/{number}")), noise(20_000, number)).unwrap();
    }
    std::fs::hard_link(m.join("a/b/1"), m.join("linked")).unwrap();
    pair.protect();
    pair.flush();
    std::fs::write(&password, "correct horse\n").unwrap();
    let (url, password) = (pair.path("repository"), password.display().to_string());
    pair.replica.ok(&format!("repository add offsite file://{} --password-file {password}", url.display()));
    pair.replica.ok("backup docs --to offsite");
    copy(&m, &kept);
    std::fs::remove_dir_all(m.join("a")).unwrap();
    std::fs::write(m.join("linked"), "ruined").unwrap();
    pair.flush();
    let line = format!("restore tree {} --scenario docs --delete --yes", m.display());
    let report = pair.replica.ok(&format!("{line} --onto master --verify"));
    assert_eq!((&report["failed"], &report["verified"]), (&0.into(), &true.into()), "{report}");
    pair.assert_same(&kept, &m);
    pair.flush();
    pair.assert_equal();
    std::fs::remove_dir_all(m.join("a")).unwrap();
    pair.flush();
    pair.master.kill();
    pair.replica.refused(&format!("{line} --onto master"), 5, "RW0465");
    pair.replica.ok(&line);
    pair.assert_same(&kept, &pair.path("r/m"));
    pair.replica.stop();
}

#[test]
fn each_root_has_a_session_of_its_own() {
    let ground = Ground::new();
    let world = &ground.world;
    let (one, two) = (world.path("one/data"), world.path("two/data"));
    for (root, text) in [(&one, "first"), (&two, "second")] {
        std::fs::create_dir_all(root.join("below")).unwrap();
        std::fs::write(root.join("below/file"), text).unwrap();
    }
    let root = |path: &Path, name: &str| format!("--root {}={}", path.display(), world.path(name).display());
    world.ok(&format!("scenario create both {} {}", root(&one, "r1/data"), root(&two, "r2/data")));
    world.ok("scenario run both");
    world.ok("flush both");
    let report = world.ok("backup both --to offsite");
    assert_eq!(report["sessions"].as_array().unwrap().len(), 2, "{report}");
    std::fs::write(one.join("below/file"), "ruined").unwrap();
    std::fs::write(two.join("below/file"), "ruined").unwrap();
    world.ok("flush both");
    let file = two.join("below/file");
    let report = world.ok(&format!("restore tree {} --yes", file.display()));
    assert_eq!((&report["scenario"], &report["files"]), (&"both".into(), &1.into()), "{report}");
    assert_eq!(std::fs::read(world.path("r2/data/below/file")).unwrap(), b"second");
    assert_eq!(
        std::fs::read(world.path("r1/data/below/file")).unwrap(),
        b"ruined",
        "the other root is left alone"
    );
    // A path of one root is none of the other's session.
    let other = report["session"].as_str().unwrap();
    world.refused(&format!("restore session {other} {} --yes", one.display()), 4, "RW1032");
    // At one time both roots come back from the repository alone.
    let onto = world.path("out");
    let url = format!("file://{}", ground.repository.display());
    let ran = rescue(&ground, &url, &format!("latest --onto {}", onto.display()));
    assert_eq!(ran.exit, 0, "{ran:?}");
    let back = |root: &Path| std::fs::read(landed(&onto, root).join("below/file")).unwrap();
    assert_eq!((back(&one), back(&two)), (b"first".to_vec(), b"second".to_vec()));
}

/// What a session merely could not read is not removed by it, and whoever restores it is told.
#[test]
fn a_session_that_missed_something_removes_nothing() {
    let ground = Ground::new();
    let (world, master) = (&ground.world, ground.world.master());
    let (_, complete) = ground.backup();
    let id = complete["id"].as_str().unwrap();
    let repository = open(&ground);
    let id = repository.resolve_session(id).unwrap();
    let mut record = repository.load_session(&id).unwrap();
    record.summary.as_mut().unwrap()["missed"] = 3.into();
    let lacking = repository.save_session(&record).unwrap();
    std::fs::write(master.join("only-here"), "the last copy").unwrap();
    world.flush();
    for onto in ["master", "replica"] {
        let line = format!("restore tree {} --session {lacking} --onto {onto}", master.display());
        world.refused(&format!("{line} --delete --yes"), 5, "RW1078");
        world.refused(&format!("{line} --delete --dry-run"), 5, "RW1078");
        assert!(master.join("only-here").exists() && world.replica().join("only-here").exists());
    }
    let dry = plan(world, &format!("restore tree {} --session {lacking}", master.display()));
    assert!(dry["warnings"].to_string().contains("lacks 3 objects"), "{dry}");
    let into = |name: &str| world.path(name).display().to_string();
    let report = incomplete(world, &format!("restore session {lacking} --onto {}", into("out")));
    assert!(report["warnings"].to_string().contains("lacks 3 objects"), "{report}");
    let url = format!("file://{}", ground.repository.display());
    let ran = rescue(&ground, &url, &format!("{lacking} --onto {}", into("rescued")));
    assert_eq!((ran.exit, &ran.objects()[0]["state"]), (3, &"incomplete".into()), "{ran:?}");
}

/// A rescue of several roots that was stopped at the second goes on; a damaged record is passed over, and said.
#[test]
fn a_rescue_of_several_roots_goes_on() {
    let ground = Ground::new();
    let world = &ground.world;
    let (one, two) = (world.path("one/data"), world.path("two/data"));
    for (root, text) in [(&one, "first"), (&two, "second")] {
        std::fs::create_dir_all(root).unwrap();
        std::fs::write(root.join("file"), text).unwrap();
    }
    let root = |path: &Path, name: &str| format!("--root {}={}", path.display(), world.path(name).display());
    world.ok(&format!("scenario create both {} {}", root(&one, "r1/data"), root(&two, "r2/data")));
    world.ok("scenario run both");
    world.ok("flush both");
    world.ok("backup both --to offsite");
    let (url, onto) = (format!("file://{}", ground.repository.display()), world.path("out"));
    let line = format!("latest --onto {}", onto.display());
    let file = |root: &Path| landed(&onto, root).join("file");
    std::fs::create_dir_all(landed(&onto, &two)).unwrap();
    std::fs::write(file(&two), "in the way").unwrap();
    let ran = rescue(&ground, &url, &line);
    assert_eq!((ran.exit, ran.code().as_str()), (5, "RW1072"), "{ran:?}");
    assert_eq!(std::fs::read(file(&one)).unwrap(), b"first", "the first root was done");
    std::fs::remove_file(file(&two)).unwrap();
    std::fs::write(ground.repository.join("snapshots").join("ab".repeat(32)), [7; 400]).unwrap();
    let ran = rescue(&ground, &url, &line);
    assert_eq!(ran.exit, 3, "{ran:?}");
    let report = ran.objects().remove(0);
    assert!(report["warnings"].to_string().contains("abababababababab"), "{report}");
    assert_eq!((&report["failed"], &report["warned"]), (&0.into(), &1.into()), "{report}");
    let back = |root: &Path| std::fs::read(file(root)).unwrap();
    assert_eq!((back(&one), back(&two)), (b"first".to_vec(), b"second".to_vec()));
    let left = walk(&onto).into_iter().filter(|path| path.to_string_lossy().contains(".rewind-")).count();
    assert_eq!(left, 0, "no marker is left");
    // Ended is ended: what stands there now is in the way.
    assert_eq!(rescue(&ground, &url, &line).code(), "RW1072");
}

/// The repository, opened beside the daemon.
fn open(ground: &Ground) -> Arc<snapshot::repository::Repository> {
    use snapshot::store::DirectoryStore;
    let store = Arc::new(DirectoryStore::open(&ground.repository).unwrap());
    Arc::new(snapshot::repository::Repository::open(store, &"correct horse".to_owned().into()).unwrap())
}

/// Whoever asks for the newest tree does not get an older one because the newest cannot be reached.
#[test]
fn the_newest_tree_is_never_an_older_one_unasked() {
    let mut ground = Ground::new();
    let master = ground.world.master();
    let (_, older) = ground.backup();
    let world = &mut ground.world;
    let (second, away) = (world.path("second"), world.path("away"));
    tests::repository::make(&second, &world.path("password"));
    world.ok(&format!(
        "repository add second file://{} --password-file {}",
        second.display(),
        world.path("password").display()
    ));
    std::fs::write(master.join("file-01"), "of november").unwrap();
    world.flush();
    world.ok("backup docs --to second");
    // Not kept open.
    world.stop();
    std::fs::rename(&second, &away).unwrap();
    world.start();
    let onto = world.path("out");
    let line = format!("restore tree {} --onto {}", master.display(), onto.display());
    let ran = world.ctl(&line);
    assert_ne!(ran.exit, 0, "{ran:?}");
    assert!(format!("{ran:?}").contains("second"), "names the repository: {ran:?}");
    assert!(!onto.exists(), "nothing is restored");
    world.ok(&format!("{line} --session {}", older["id"].as_str().unwrap()));
    std::fs::remove_dir_all(&onto).unwrap();
    std::fs::rename(&away, &second).unwrap();
    world.ok(&line);
    assert_eq!(std::fs::read(landed(&onto, &master).join("file-01")).unwrap(), b"of november");
}

/// Whoever removes things holds the repository alone: nobody restores beside it, but a person who knows better.
#[test]
fn a_repository_that_is_locked() {
    use snapshot::repository::{LockOptions, Purpose, Repository, lock};
    use snapshot::store::DirectoryStore;
    let ground = Ground::new();
    let (_, session) = ground.backup();
    let id = session["id"].as_str().unwrap();
    let store = Arc::new(DirectoryStore::open(&ground.repository).unwrap());
    let repository = Arc::new(Repository::open(store, &"correct horse".to_owned().into()).unwrap());
    let held = lock::acquire(&repository, Purpose::Forget, LockOptions::default()).unwrap();
    let onto = ground.world.path("out");
    ground.world.refused(&format!("restore session {id} --onto {}", onto.display()), 5, "RW1057");
    ground.world.refused(&format!("session verify {id}"), 5, "RW1057");
    let url = format!("file://{}", ground.repository.display());
    let words = format!("{id} --onto {}", onto.display());
    let ran = rescue(&ground, &url, &words);
    assert_eq!((ran.exit, ran.code().as_str()), (5, "RW1057"), "{ran:?}");
    assert!(!onto.exists());
    assert_eq!(rescue(&ground, &url, &format!("{words} --no-lock")).exit, 0);
    drop(held);
    std::fs::remove_dir_all(&onto).unwrap();
    ground.world.ok(&format!("restore session {id} --onto {}", onto.display()));
    let left = std::fs::read_dir(ground.repository.join("locks")).unwrap().count();
    assert_eq!(left, 0, "locks are given back");
}

#[test]
fn rescue_of_what_restic_wrote() {
    let ground = Ground::new();
    let master = ground.world.master();
    let theirs = ground.world.path("theirs");
    let restic = |arguments: &[&str]| {
        let mut command = Command::new("restic");
        command.arg("-r").arg(&theirs).arg("--password-file").arg(&ground.password);
        command.args(["--no-cache", "-q"]).args(arguments);
        match command.output() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            output => Some(output.unwrap()),
        }
    };
    let Some(output) = restic(&["init", "--repository-version", "2"]) else {
        println!("left out: the program restic is not installed");
        return;
    };
    assert!(output.status.success(), "{output:?}");
    let output = restic(&["backup", master.to_str().unwrap()]).unwrap();
    assert!(output.status.success(), "{output:?}");
    let onto = ground.world.path("out");
    let url = format!("file://{}", theirs.display());
    let ran = rescue(&ground, &url, &format!("latest --verify --onto {}", onto.display()));
    assert_eq!(ran.exit, 0, "{ran:?}");
    assert_same(&master, &landed(&onto, &master), "what restic stored");
    // The daemon restores it as well, once it knows the repository; also onto the scenario's own tree.
    let world = &ground.world;
    world.ok(&format!("repository add theirs {url} --password-file {}", ground.password.display()));
    let id = ran.objects().remove(0)["session"].as_str().unwrap().to_owned();
    let kept = world.path("kept");
    copy(&master, &kept);
    ruin(&master);
    world.flush();
    let report = world.ok(&format!("restore tree {} --session {id} --delete --yes", master.display()));
    assert_eq!(report["failed"], 0, "{report}");
    assert_same(&kept, &world.replica(), "restic's session on the replica");
}
