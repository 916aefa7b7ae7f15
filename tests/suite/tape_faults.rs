//! Sessions on tape on a bad day: files that the replica does not give, volumes that change hands, a daemon that dies. Is each loss
//! named, and is everything else safe?

use crate::backups::{Ground, noise};
use crate::history::seeds;
use crate::restores::{copy, landed};
use crate::sessions::repository_in;
use journal::{Lsn, RootNo};
use serde_json::Value;
use snapshot::session::{Entity, NoMonitor};
use snapshot::store::MemoryStore;
use snapshot::tape::archive::{IntoOptions, Keep, LabelFields, SessionLabel, from_view, into_repository};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tests::compare::assert_same;
use tests::daemon::{World, seed, size};
use tests::lab::Lab;
use tests::model::{Generator, Options};
use tests::rng::Rng;
use tests::sim_tree::Fault;

/// Every read of the replica tree fails once while a point is archived: the object is named as lacking, and the archive is read
/// as whole, with everything else in it.
#[test]
fn a_read_that_fails_costs_its_file_alone() {
    for seed in seeds(2) {
        let mut generator =
            Generator::new(seed, Options { names_max: 20, file_bytes_max: 300_000, ..Options::default() });
        let mut lab = Lab::new();
        lab.synchronized(&mut generator);
        let batch: Vec<_> = (0..30).map(|_| generator.next()).collect();
        let placed = lab.journal_them(&batch).unwrap();
        lab.apply(&placed).unwrap();
        let at = Lsn::captured(lab.journal.applied().captured);
        let entity = Entity { root: RootNo(0), path: b"/srv/docs".to_vec(), device: 77 };
        let scratch = std::env::temp_dir();
        let mut hit = 0;
        for nth in 0.. {
            let context = format!("seed {seed}, read {nth}");
            let label = SessionLabel::new(LabelFields::now()).unwrap();
            let before = lab.tree.reads();
            lab.tree.fail_reads(Fault { nth, errno: 5, times: 1 });
            let wrote = from_view(&lab.view(at), (&label, &entity), Vec::new(), &scratch, &NoMonitor);
            lab.tree.heal();
            let reads = lab.tree.reads() - before;
            let wrote = wrote.unwrap_or_else(|error| panic!("{context}: {error:?}"));
            let lacks = wrote.totals.missed + wrote.totals.damaged;
            let to = repository_in(Arc::new(MemoryStore::new()));
            let options = IntoOptions { keep: Keep::Trees, ..IntoOptions::default() };
            let read = wrote.out.as_slice();
            let taken = into_repository(read, &options, (&to.0, &to.1), &scratch, &NoMonitor);
            let taken = taken.unwrap_or_else(|error| panic!("{context}: {error:?}"));
            assert_eq!(taken.missed_count, lacks, "{context}: {:?}", taken.missed);
            assert_eq!(to.0.load_session(&taken.id).unwrap().missed(), lacks, "{context}");
            if reads <= nth {
                assert_eq!(lacks, 0, "{context}");
                break;
            }
            assert!(lacks > 0 || reads > nth, "{context}");
            hit += u64::from(lacks > 0);
        }
        println!("seed {seed}: {hit} reads cost an object");
        assert!(hit > 5);
    }
}

/// A file of the replica that was cut short behind the daemon's back: what is missing of it is not taken for zeros. The backup ends as
/// incomplete and names it, and all else is restored.
#[test]
fn a_file_that_was_cut_is_named_and_the_rest_is_safe() {
    let ground = Ground::new();
    let world = &ground.world;
    let (master, place) = (world.master(), world.path("tapes"));
    std::fs::write(master.join("noise"), noise(3_000_000, 7)).unwrap();
    std::fs::write(master.join("small"), "some words").unwrap();
    world.flush();
    let url = format!("tape://{}", place.display());
    world.ok(&format!("tape label {url} --media one"));
    world.ok(&format!("repository add tape {url}"));
    for (name, length) in [("noise", 1_000_000), ("small", 0)] {
        let file = std::fs::OpenOptions::new().write(true).open(world.replica().join(name)).unwrap();
        file.set_len(length).unwrap();
    }
    for to in ["tape", "offsite"] {
        let ran = world.ctl(&format!("backup docs --to {to}"));
        assert_eq!(ran.exit, 3, "{ran:?}");
        let report = &ran.objects()[0];
        let session = &report["sessions"][0];
        assert_eq!((&report["state"], &session["missed"]), (&"incomplete".into(), &2.into()), "{report}");
        let skipped = report["skipped"].to_string();
        assert!(skipped.contains("/noise") && skipped.contains("/small"), "{skipped}");
        let id = session["id"].as_str().unwrap();
        let onto = world.path(&format!("onto-{to}"));
        let ran = world.ctl(&format!("restore session {id} --onto {}", onto.display()));
        assert_eq!(ran.exit, 3, "what it lacks is said: {ran:?}");
        let kept = world.path(&format!("kept-{to}"));
        copy(&master, &kept);
        for name in ["noise", "small"] {
            std::fs::remove_file(kept.join(name)).unwrap();
        }
        let times = std::fs::metadata(&master).unwrap().modified().unwrap();
        std::fs::File::open(&kept).unwrap().set_modified(times).unwrap();
        assert_same(&kept, &landed(&onto, &master), "all but what was cut");
        // A check of a volume is about the volume.
        assert_eq!(world.ok(&format!("repository check {to} --read-data"))["state"], "done");
    }
}

/// A world with a repository `tape` on volumes of these names, the last one in the drive.
fn on_tape(media: &[&str]) -> (Ground, PathBuf) {
    let ground = Ground::new();
    let place = ground.world.path("tapes");
    for media in media {
        ground.world.ok(&format!("tape label tape://{} --media {media}", place.display()));
    }
    ground.world.ok(&format!("repository add tape tape://{}", place.display()));
    (ground, place)
}

fn backup(world: &World) -> String {
    world.flush();
    let report = world.ok("backup docs --to tape");
    report["sessions"][0]["id"].as_str().unwrap().to_owned()
}

/// Changes a byte in the content of `file-04` on a volume.
fn damage(tape_file: &Path) {
    let mut bytes = std::fs::read(tape_file).unwrap();
    let at = bytes.windows(600).position(|window| window == [4; 600]).unwrap();
    bytes[at + 3] ^= 0x20;
    std::fs::write(tape_file, bytes).unwrap();
}

/// A part of the sessions is read by a check: of those that are at hand, or the oldest, on a shelf for good, would keep all the others from
/// ever being read.
#[test]
fn a_check_reads_what_is_at_hand() {
    let (ground, place) = on_tape(&["one"]);
    let world = &ground.world;
    backup(world);
    world.ok(&format!("tape label tape://{} --media two", place.display()));
    std::fs::write(world.master().join("later"), "x").unwrap();
    let second = backup(world);
    assert_eq!(world.list("session list --repository tape")[0]["media"], serde_json::json!(["two"]));
    world.ok(&format!("session verify {second}"));
    std::fs::rename(place.join("one"), world.path("away")).unwrap();
    damage(&place.join("two/000001.tar"));
    let ran = world.ctl("repository check tape --read-data=50%");
    assert_eq!(ran.exit, 8, "{ran:?}");
    assert!(ran.stdout.contains(&second[..8]), "{ran:?}");
}

/// A copy that cannot be read is not the copy that there is already.
#[test]
fn a_copy_that_cannot_be_read_is_made_anew() {
    let (ground, place) = on_tape(&["one"]);
    let world = &ground.world;
    let (_, session) = ground.backup();
    let id = session["id"].as_str().unwrap();
    // To the drive, so that the repository does not list it.
    let first = world.ok(&format!("session copy {id} --to tape://{}", place.display()));
    damage(&place.join("one/000001.tar"));
    let again = world.ok(&format!("session copy {id} --to tape"));
    assert_eq!((&again["state"], &again["was_there"]), (&"done".into(), &false.into()), "{again}");
    assert_ne!(again["tape_session"], first["tape_session"], "{again}");
    let on_tape = again["tape_session"].as_str().unwrap();
    assert_eq!(world.ok(&format!("session verify {on_tape}"))["state"], "done");
    let listed = world.list("session list --repository tape");
    assert_eq!(listed.len(), 1, "{listed:#?}");
    assert_eq!(listed[0]["id"], on_tape, "{listed:#?}");
}

/// Tape files of a volume that end with a filemark.
fn marked(volume: &Path) -> usize {
    let names = std::fs::read_dir(volume).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.as_encoded_bytes().ends_with(b".tar")).count()
}

/// The daemon dies as soon as the session is durable on tape, and a little later, while nobody has written down that it is. It is found on
/// the volume, once, and the next backup goes on.
#[test]
fn a_daemon_that_dies_between_tape_and_journal_finds_the_session_again() {
    let mut rng = Rng::new(seed("a_daemon_that_dies_between_tape_and_journal"));
    let (mut ground, place) = on_tape(&["one"]);
    let volume = place.join("one");
    let mut found = 0;
    for round in 0..size(8, 60) {
        let world = &mut ground.world;
        std::fs::write(world.master().join("changed"), noise(200_000, round)).unwrap();
        world.flush();
        let before = marked(&volume);
        let job = world.ok("backup docs --to tape --detach")["job"].as_str().unwrap().to_owned();
        let give_up = Instant::now() + Duration::from_secs(30);
        while marked(&volume) == before {
            assert!(Instant::now() < give_up, "{}", world.log_end());
            std::hint::spin_loop();
        }
        if round % 2 == 1 {
            std::thread::sleep(Duration::from_micros(rng.below(20_000)));
        }
        match round % 4 {
            3 => world.stop(),
            _ => world.kill(),
        }
        world.start();
        let ended = world.ok(&format!("job wait {job}"));
        assert_eq!(ended["state"], "done", "round {round}: {ended}");
        let log = world.list(&format!("log --job {job}"));
        let again =
            |line: &Value| line["text"].as_str().is_some_and(|text| text.contains("before the interruption"));
        found += u64::from(log.iter().any(again));
        let listed = world.list("session list --repository tape");
        let ids: BTreeSet<_> = listed.iter().map(|session| session["id"].to_string()).collect();
        assert_eq!(
            (ids.len() as u64, listed.len() as u64),
            (round + 1, round + 1),
            "round {round}: {listed:#?}"
        );
        assert_eq!(marked(&volume) as u64, round + 2, "round {round}: a session and its label, once");
        world.wait_replicating();
    }
    println!("{found} sessions were found on the volume");
    assert!(found > 0, "no kill hit the moment between tape and journal");
    let world = &ground.world;
    let id = backup(world);
    let onto = world.path("onto");
    world.ok(&format!("restore session {id} --onto {} --verify", onto.display()));
    assert_same(&world.master(), &landed(&onto, &world.master()), "after kills");
    assert_eq!(world.ok("repository check tape --read-data")["state"], "done");
}

/// The undo of one file has rotted: a point that needs it lacks that file, and is backed up with all the others.
#[test]
fn undo_that_has_rotted_costs_its_file_alone() {
    let (ground, _) = on_tape(&["one"]);
    let world = &ground.world;
    let rotten = noise(400_000, 21);
    std::fs::write(world.master().join("rotten"), &rotten).unwrap();
    world.flush();
    world.ok("bookmark set docs then");
    let kept = world.path("kept");
    copy(&world.master(), &kept);
    std::fs::write(world.master().join("rotten"), noise(400_000, 22)).unwrap();
    std::fs::write(world.master().join("file-07"), "other words").unwrap();
    world.flush();
    let mut hit = 0;
    for entry in std::fs::read_dir(world.path("data/journal/docs")).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap_or_default();
        if path.extension().is_some_and(|extension| extension == "undo")
            && let Some(at) = bytes.windows(64).position(|window| *window == rotten[5000..5064])
        {
            bytes[at] ^= 1;
            std::fs::write(&path, bytes).unwrap();
            hit += 1;
        }
    }
    assert_eq!(hit, 1, "the undo is not where it was looked for");
    for to in ["tape", "offsite"] {
        let ran = world.ctl(&format!("backup docs --at then --to {to}"));
        assert_eq!(ran.exit, 3, "{ran:?}");
        let report = &ran.objects()[0];
        assert_eq!(report["sessions"][0]["missed"], 1, "{report}");
        assert!(report["skipped"].to_string().contains("/rotten"), "{report}");
        let onto = world.path(&format!("onto-{to}"));
        let id = report["sessions"][0]["id"].as_str().unwrap();
        let ran = world.ctl(&format!("restore session {id} --onto {}", onto.display()));
        assert_eq!(ran.exit, 3, "{ran:?}");
        let restored = landed(&onto, &world.master());
        assert!(!restored.join("rotten").exists());
        let old = |at: &Path| std::fs::read(at.join("file-07")).unwrap();
        assert_eq!(old(&restored), old(&kept), "what the point held");
    }
}
