//! Are sessions on tape sessions: backed up straight to volumes, listed, found and restored as any other, with the volume
//! named that is missing; and is all of it known again from the journal, and from the volumes alone?

use crate::backups::{Ground, noise};
use crate::restores::{landed, plan};
use journal::disk::OsDisk;
use serde_json::Value;
use snapshot::tape::FileDrive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tests::compare::assert_same;
use tests::daemon::{World, seed, size};
use tests::rng::Rng;

const WITHIN: Duration = Duration::from_secs(60);

struct Tape {
    ground: Ground,
    place: PathBuf,
}

impl Tape {
    /// A tree of everything that takes three volumes, and a repository `tape` on four.
    fn new() -> Tape {
        let ground = Ground::new();
        std::fs::write(ground.world.master().join("noise"), noise(3_000_000, 7)).unwrap();
        let tape = Tape { place: ground.world.path("tapes"), ground };
        for media in ["one", "two", "three", "four"] {
            tape.label(media, "1500KiB");
        }
        tape.world().ok(&format!("tape eject {}", tape.url()));
        let added = tape.world().ok(&tape.add());
        assert_eq!(added["created"], true, "{added}");
        tape
    }

    fn world(&self) -> &World {
        &self.ground.world
    }

    fn url(&self) -> String {
        format!("tape://{}", self.place.display())
    }

    fn add(&self) -> String {
        format!("repository add tape {}", self.url())
    }

    fn label(&self, media: &str, capacity: &str) {
        let url = self.url();
        self.world().ok(&format!("tape label {url} --media {media} --capacity {capacity} --block 16KiB"));
    }

    /// A backup after a flush: its session.
    fn backup(&self) -> Value {
        self.world().flush();
        let report = self.world().ok("backup docs --to tape");
        assert_eq!(report["state"], "done", "{report}");
        assert_eq!(report["sessions"].as_array().unwrap().len(), 1, "{report}");
        report["sessions"][0].clone()
    }

    /// Does something while a volume is elsewhere.
    fn without(&self, media: &str, act: impl FnOnce()) {
        let (here, away) = (self.place.join(media), self.world().path("away"));
        std::fs::rename(&here, &away).unwrap();
        act();
        std::fs::rename(&away, &here).unwrap();
    }

    fn restored(&self, words: &str, name: &str) -> PathBuf {
        restored(self.world(), &self.world().master(), words, name)
    }
}

fn restored(world: &World, master: &Path, words: &str, name: &str) -> PathBuf {
    let onto = world.path("onto").join(name);
    let report = world.ok(&format!("restore {words} --onto {} --verify", onto.display()));
    assert_eq!((&report["state"], &report["verified"]), (&"done".into(), &true.into()), "{report}");
    landed(&onto, master)
}

fn scratch(world: &World) -> Vec<String> {
    let entries = std::fs::read_dir(world.path("data/projections/scratch")).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Waits until the daemon knows again what sessions hold.
fn wait_listed(world: &World, id: &str) -> Vec<Value> {
    let until = Instant::now() + WITHIN;
    loop {
        let ran = world.ctl(&format!("session files {id}"));
        if ran.exit == 0 {
            return ran.objects();
        }
        assert!(Instant::now() < until, "{ran:?}\n{}", world.log_end());
        assert!(["RW1130", "RW1070"].contains(&ran.code().as_str()), "{ran:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_session_on_three_volumes_is_a_session() {
    let mut tape = Tape::new();
    let session = tape.backup();
    let log = tape.world().list("log");
    let summary =
        log.iter().filter_map(|line| line["text"].as_str()).find(|text| text.starts_with("summary: done"));
    let summary = summary.expect("a summary");
    for said in [
        "elapsed ",
        "/min",
        "1 sessions",
        " files",
        " directories",
        "0 missed",
        "volume one (id ",
        "pool default",
    ] {
        assert!(summary.contains(said), "{said:?}: {summary}");
    }
    let id = session["id"].as_str().unwrap().to_owned();
    assert_eq!(session["media"], serde_json::json!(["one", "two", "three"]), "{session}");
    assert_eq!((&session["missed"], &session["incremental"]), (&0.into(), &false.into()), "{session}");
    let (world, master) = (tape.world(), tape.world().master());
    assert_eq!(world.list("session list --repository tape"), std::slice::from_ref(&session));
    let shown = world.ok(&format!("session show {}", &id[..12]));
    assert_eq!((&shown["id"], &shown["tape"]["pool"]), (&session["id"], &"default".into()), "{shown}");
    assert_eq!(shown["tape"]["parts"].as_array().unwrap().len(), 3, "{shown}");
    // The id is the one on the label, so the inventory names it too.
    let volumes = world.list(&format!("tape inventory {}", tape.url()));
    assert_eq!(volumes[0]["files"][0]["session"], session["id"], "{volumes:#?}");

    let files = world.list(&format!("session files {id}"));
    assert!(files.len() > 40, "{}", files.len());
    let found = world.list("catalog query file-03");
    assert_eq!(found[0]["last_session"], session["id"], "{found:#?}");
    assert_same(&master, &tape.restored(&format!("session {id}"), "session"), "the session");
    let b = master.join("a/b");
    let at = tape.restored(&format!("tree {}", b.display()), "tree");
    assert_same(&b, &at.join("a/b"), "a tree");
    assert_eq!(std::fs::read_dir(&at).unwrap().count(), 1, "nothing else");
    let at = tape.restored("query file-03", "query");
    let read = |at: &Path| std::fs::read(at.join("file-03")).unwrap();
    assert_eq!(read(&at), read(&master), "a query");
    let planned = plan(world, &format!("restore session {id} --onto {}", world.path("dry").display()));
    assert!(planned["created"].as_u64().unwrap() > 40, "{planned}");
    assert_eq!(planned["failed"], 0, "{planned}");
    // Onto the replica contents are compared: what changed since is what would be changed.
    std::fs::write(master.join("file-05"), "changed since").unwrap();
    world.flush();
    let planned = plan(world, &format!("restore session {id} --onto replica"));
    assert_eq!((&planned["modified"], &planned["failed"]), (&1.into(), &0.into()), "{planned}");
    let restored = world.ok(&format!("restore session {id} --onto replica --yes"));
    assert_eq!(restored["state"], "done", "{restored}");
    assert_eq!(std::fs::read(world.replica().join("file-05")).unwrap(), vec![5; 5 * 997]);
    world.ok("scenario resume docs");
    world.ok(&format!("restore session {id} --onto master --yes"));
    world.flush();
    assert_eq!(world.ok(&format!("session verify {id}"))["state"], "done");
    assert_eq!(scratch(world), [] as [&str; 0]);

    // Another daemon process, then one that has lost its projections.
    tape.ground.world.stop();
    tape.ground.world.start();
    let listed = tape.world().list("session list --repository tape");
    assert_eq!(listed[0]["id"], session["id"], "{listed:#?}");
    assert_eq!(tape.world().list(&format!("session files {id}")), files);
    tape.ground.world.stop();
    std::fs::remove_dir_all(tape.world().path("data/projections")).unwrap();
    tape.ground.world.start();
    assert_eq!(wait_listed(tape.world(), &id), files);
    assert_same(&master, &tape.restored(&format!("session {id}"), "again"), "without projections");
}

#[test]
fn media_alone_are_enough() {
    let mut tape = Tape::new();
    let first = tape.backup();
    tape.label("five", "64MiB");
    std::fs::write(tape.world().master().join("later"), "x").unwrap();
    let second = tape.backup();
    tape.ground.world.stop();
    let files = |world: &World, session: &Value| wait_listed(world, session["id"].as_str().unwrap());
    // Another machine: nothing but the volumes.
    let other = World::new();
    let added = other.ok(&tape.add());
    assert_eq!(added["created"], false, "{added}");
    let listed = files(&other, &second);
    assert!(listed.iter().any(|file| file["path"].as_str().is_some_and(|path| path.ends_with("/later"))));
    files(&other, &first);
    let sessions = other.list("session list");
    let same =
        ["id", "entity", "lsn", "time", "class", "files", "directories", "bytes", "media", "tree", "master"];
    // The newest first, whatever their ids are.
    for (known, had) in sessions.iter().zip([&second, &first]) {
        for key in same {
            assert_eq!(known[key], had[key], "{key}: {known} {had}");
        }
    }
    assert_eq!(sessions.len(), 2, "{sessions:#?}");
    let master = tape.world().master();
    let at = restored(&other, &master, &format!("session {}", second["id"].as_str().unwrap()), "onto");
    assert_same(&master, &at, "from the volumes alone");
    // By hand too, and without a second copy of anything.
    let report = other.ok("catalog rebuild --repository tape");
    assert_eq!((&report["state"], &report["sessions"]), (&"done".into(), &2.into()), "{report}");
    assert_eq!(other.list("session list").len(), 2);
    assert_eq!(other.list("catalog query later")[0]["last_session"], second["id"]);
    // A volume that was given back takes its sessions along.
    other.ok(&format!("tape label {} --media one --force --yes", tape.url()));
    let report = other.ok("catalog rebuild --repository tape");
    assert_eq!(report["forgotten"], 1, "{report}");
    let sessions = other.list("session list");
    assert_eq!(sessions.len(), 1, "{sessions:#?}");
    assert_eq!(sessions[0]["id"], second["id"]);
}

#[test]
fn what_is_not_at_hand_is_named() {
    let tape = Tape::new();
    let session = tape.backup();
    let id = session["id"].as_str().unwrap();
    let world = tape.world();
    let onto = world.path("refused");
    let restore = format!("restore session {id} --onto {}", onto.display());
    tape.without("two", || {
        let ran = world.refused(&restore, 4, "RW1128");
        assert!(ran.stdout.contains("two") && !onto.exists(), "{ran:?}");
        let ran = world.refused(&format!("session verify {id}"), 4, "RW1128");
        assert!(ran.stdout.contains("two"), "{ran:?}");
        let checked = world.ok("repository check tape --read-data");
        assert_eq!(checked["state"], "done", "a volume that is elsewhere is no damage: {checked}");
        let log = world.list(&format!("log --job {}", checked["job"].as_str().unwrap()));
        assert!(
            log.iter().any(|line| line["text"].as_str().unwrap().contains("volume two is not at hand")),
            "{log:#?}"
        );
        // What is known of it is known without the volume.
        assert!(world.list(&format!("session files {id}")).len() > 40);
        assert_eq!(world.list("catalog query file-03")[0]["last_session"], session["id"]);
    });
    // A damaged byte in the content of a file.
    let path = tape.place.join("one/000001.tar");
    let whole = std::fs::read(&path).unwrap();
    let at = whole.windows(600).position(|window| window == [4; 600]).unwrap();
    let mut damaged = whole.clone();
    damaged[at + 3] ^= 0x20;
    std::fs::write(&path, damaged).unwrap();
    let ran = world.refused(&restore, 8, "RW1129");
    assert!(ran.stdout.contains("file-04") && !onto.exists(), "{ran:?}");
    let ran = world.ctl(&format!("session verify {id}"));
    assert!(ran.exit != 0 && ran.stdout.contains("file-04"), "{ran:?}");
    let ran = world.ctl("repository check tape --read-data");
    assert!(ran.exit != 0 && ran.stdout.contains(&id[..8]), "{ran:?}");
    std::fs::write(&path, whole).unwrap();
    let checked = world.ok("repository check tape --read-data");
    assert_eq!(checked["state"], "done", "{checked}");
    assert_eq!(world.ok("repository stats tape")["sessions"], 1);
    for refused in [
        "repository prune tape",
        "repository forget tape --keep-last 1",
        "repository unlock tape",
        "scenario set docs archive=tape",
    ] {
        world.refused(refused, 2, "RW1009");
    }
    world.refused(&format!("repository add mistyped {}x", tape.url()), 1, "RW1124");
    assert_eq!(scratch(world), [] as [&str; 0]);
}

#[test]
fn a_listing_that_is_lost_is_asked_for_with_the_volumes() {
    let mut tape = Tape::new();
    let session = tape.backup();
    let id = session["id"].as_str().unwrap();
    let files = tape.world().list(&format!("session files {id}"));
    tape.ground.world.stop();
    std::fs::remove_dir_all(tape.world().path("data/projections")).unwrap();
    let (here, away) = (tape.place.join("two"), tape.world().path("away"));
    std::fs::rename(&here, &away).unwrap();
    tape.ground.world.start();
    let world = tape.world();
    assert_eq!(world.list("session list --repository tape")[0]["id"], session["id"]);
    for asked in
        [format!("session files {id}"), format!("restore session {id} --onto {}", world.path("x").display())]
    {
        let ran = world.refused(&asked, 5, "RW1130");
        assert!(ran.stdout.contains("one, two, three"), "{ran:?}");
    }
    // What nobody can find in it is not said not to be there.
    let ran = world.ctl("catalog query file-03");
    assert!(ran.stderr.contains("catalog") || ran.stdout.contains(&id[..8]), "{ran:?}");
    std::fs::rename(&away, &here).unwrap();
    let report = world.ok("catalog rebuild --repository tape");
    assert_eq!((&report["state"], &report["sessions"]), (&"done".into(), &1.into()), "{report}");
    assert_eq!(world.list(&format!("session files {id}")), files);
}

#[test]
fn two_roots_are_two_sessions_in_one_run() {
    let world = World::new();
    let (one, two) = (world.path("a"), world.path("b"));
    for (root, text) in [(&one, "one"), (&two, "two")] {
        std::fs::create_dir(root).unwrap();
        std::fs::write(root.join("file"), text).unwrap();
    }
    let roots = format!(
        "--root {}={} --root {}={}",
        one.display(),
        world.path("r/a").display(),
        two.display(),
        world.path("r/b").display()
    );
    world.ok(&format!("scenario create both {roots}"));
    world.ok("scenario run both");
    world.ok("flush both");
    let place = world.path("tapes");
    world.ok(&format!("tape label tape://{} --media one", place.display()));
    world.ok(&format!("repository add tape tape://{}", place.display()));
    let report = world.ok("backup both --to tape");
    let sessions = report["sessions"].as_array().unwrap();
    assert_eq!(sessions.len(), 2, "{report}");
    for (session, root) in sessions.iter().zip([&one, &two]) {
        let id = session["id"].as_str().unwrap();
        assert_eq!(session["entity"], root.to_str().unwrap(), "{report}");
        assert_same(root, &restored(&world, root, &format!("session {id}"), id), "a root");
    }
    // Somebody else has the drive.
    let held = FileDrive::open(Arc::new(OsDisk), &place).unwrap();
    world.refused("backup both --to tape", 5, "RW1131");
    drop(held);
    world.ok("backup both --to tape");
}

#[test]
fn a_copy_into_a_repository_on_tape_is_listed_there() {
    let tape = Tape::new();
    let world = tape.world();
    let (_, session) = tape.ground.backup();
    let id = session["id"].as_str().unwrap();
    let copied = world.ok(&format!("session copy {id} --to tape"));
    assert_eq!((&copied["state"], &copied["was_there"]), (&"done".into(), &false.into()), "{copied}");
    let on_tape = copied["tape_session"].as_str().unwrap();
    let listed = world.list("session list --repository tape");
    assert_eq!(listed.len(), 1, "{listed:#?}");
    assert_eq!((&listed[0]["id"], &listed[0]["lsn"]), (&on_tape.into(), &session["lsn"]), "{listed:#?}");
    assert_eq!(listed[0]["tree"], session["tree"], "the same session");
    let again = world.ok(&format!("session copy {id} --to tape"));
    assert_eq!((&again["was_there"], &again["tape_session"]), (&true.into(), &on_tape.into()), "{again}");
    assert_eq!(world.list("session list --repository tape").len(), 1);
    assert_same(&world.master(), &tape.restored(&format!("session {on_tape}"), "copy"), "the copy");
    // From tape to tape, by way of the scratch.
    let other = world.path("others");
    world.ok(&format!("tape label tape://{} --media else --capacity 64MiB", other.display()));
    let copied = world.ok(&format!("session copy {on_tape} --to tape://{}", other.display()));
    assert_eq!((&copied["state"], &copied["missed"]), (&"done".into(), &0.into()), "{copied}");
    let home = world.ok(&format!("session copy {on_tape} --to offsite"));
    assert_eq!((&home["was_there"], &home["copied_session"]), (&true.into(), &id.into()), "{home}");
}

#[test]
fn a_backup_that_was_killed_is_whole_or_absent() {
    let mut rng = Rng::new(seed("a_backup_that_was_killed_is_whole_or_absent"));
    let mut tape = Tape::new();
    tape.label("large", "256MiB");
    let mut whole = 0;
    for round in 0..size(5, 40) {
        std::fs::write(tape.world().master().join("changed"), noise(200_000, round)).unwrap();
        tape.world().flush();
        let job = tape.world().ok("backup docs --to tape --detach")["job"].as_str().unwrap().to_owned();
        std::thread::sleep(Duration::from_micros(rng.below(1_500_000)));
        tape.ground.world.kill();
        tape.ground.world.start();
        let ended = tape.world().ok(&format!("job wait {job}"));
        assert_eq!(ended["state"], "done", "round {round}: {ended}");
        let listed = tape.world().list("session list --repository tape");
        assert_eq!(listed.len() as u64, round + 1, "round {round}: {listed:#?}");
        let id = listed[0]["id"].as_str().unwrap().to_owned();
        let volumes = tape.world().list(&format!("tape inventory {}", tape.url()));
        let ends = |volume: &Value| {
            volume["files"].as_array().unwrap().iter().filter(|file| file["ends"] == true).count() as u64
        };
        whole = volumes.iter().map(ends).sum();
        assert_eq!(whole, round + 1, "round {round}: {volumes:#?}");
        let at = tape.restored(&format!("session {id}"), &format!("round-{round}"));
        assert_same(&tape.world().master(), &at, "after a kill");
        std::fs::remove_dir_all(tape.world().path("onto")).unwrap();
        tape.world().wait_replicating();
    }
    assert!(whole > 0);
}
