//! Sessions on tape on a bad day: files that the replica does not give, volumes that change hands, a daemon that dies. Is each loss
//! named, and is everything else safe?

use crate::backups::{Ground, noise};
use crate::restores::landed;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tests::compare::assert_same;
use tests::daemon::{World, seed, size};
use tests::rng::Rng;

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
