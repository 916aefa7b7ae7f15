//! Are volumes of tape labelled, listed and put out as the command line promises, is nothing written over unasked, and is a
//! session that was copied to several of them what `tar` alone restores?

use crate::backups::Ground;
use std::path::{Path, PathBuf};
use std::process::Command;
use tests::compare::{Options, compare};
use tests::daemon::World;

#[test]
fn volumes_are_looked_after() {
    let mut world = World::idle();
    world.start();
    let place = world.path("tapes");
    let url = format!("tape://{}", place.display());
    world.refused(&format!("tape inventory {url}"), 1, "RW1124");
    assert!(!place.exists());
    let one = world.ok(&format!("tape label {url} --media one --capacity 64MiB"));
    assert_eq!((one["media"].as_str(), one["sequence"].as_u64()), (Some("one"), Some(1)), "{one}");
    let two = world.ok(&format!("tape label {url} --media two"));
    assert_eq!((two["pool"].as_str(), two["sequence"].as_u64()), (Some("default"), Some(2)), "{two}");

    let volumes = world.list(&format!("tape inventory {url}"));
    let ids: Vec<&str> = volumes.iter().map(|volume| volume["id"].as_str().unwrap()).collect();
    assert_eq!(ids, [one["id"].as_str().unwrap(), two["id"].as_str().unwrap()]);
    assert_eq!(volumes[0]["loaded"], false);
    assert_eq!(volumes[1]["loaded"], true);
    assert!(volumes[0]["free_bytes"].as_u64().unwrap() < 64 << 20);

    // The label is what any tar shows.
    let label = place.join("one/000000.tar");
    let listed = Command::new("tar").arg("-tf").arg(&label).output().unwrap();
    assert_eq!(String::from_utf8(listed.stdout).unwrap().trim(), ".rewind/volume.json");

    // Somebody else's data is not written over unasked, nor is it without a word that it may be lost.
    std::fs::write(&label, vec![7; 10_240]).unwrap();
    let damaged = &world.list(&format!("tape inventory {url}"))[0];
    assert!(damaged["problem"].as_str().unwrap().contains("label"), "{damaged}");
    world.refused(&format!("tape label {url} --media one"), 5, "RW1125");
    world.refused(&format!("tape label {url} --media one --force"), 2, "RW1026");
    assert_eq!(std::fs::read(&label).unwrap(), vec![7; 10_240]);
    world.ok(&format!("tape label {url} --media one --force --yes"));

    assert_eq!(world.ok(&format!("tape eject {url}"))["media"], "one");
    assert!(world.ok(&format!("tape eject {url}"))["media"].is_null());
    world.refused("tape inventory tape:///dev/no-such-drive", 1, "RW1124");
    world.refused("tape inventory /dev/nst0", 2, "RW1052");
}

/// The tape files of a session, in the order of its parts.
fn files(place: &Path, copied: &serde_json::Value) -> Vec<PathBuf> {
    let parts = copied["parts"].as_array().unwrap();
    let file = |part: &serde_json::Value| {
        let name = format!("{:06}.tar", part["file"].as_u64().unwrap());
        place.join(part["media"].as_str().unwrap()).join(name)
    };
    parts.iter().map(file).collect()
}

#[test]
fn tar_alone_restores_a_session_from_three_volumes() {
    let ground = Ground::new();
    let world = &ground.world;
    let noise: Vec<u8> =
        (0..3_000_000_u64).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect();
    std::fs::write(world.master().join("noise"), &noise).unwrap();
    let (_, session) = ground.backup();
    let id = session["id"].as_str().unwrap();
    let place = world.path("tapes");
    let url = format!("tape://{}", place.display());
    let copy = format!("session copy {id} --to {url}");
    // Neither drive nor volume.
    world.refused(&copy, 1, "RW1124");
    for media in ["one", "two", "three", "four"] {
        world.ok(&format!("tape label {url} --media {media} --capacity 1500KiB --block 16KiB"));
    }
    world.ok(&format!("tape eject {url}"));
    let copied = world.ok(&copy);
    assert_eq!((copied["state"].as_str(), copied["missed"].as_u64()), (Some("done"), Some(0)), "{copied}");
    let files = files(&place, &copied);
    assert_eq!(files.len(), 3, "{copied}");

    // It is there: asked again, nothing is written.
    let again = world.ok(&copy);
    assert_eq!((&again["was_there"], &again["parts"]), (&true.into(), &copied["parts"]));
    let volumes = world.list(&format!("tape inventory {url}"));
    let on_tape = |volume: &serde_json::Value| volume["files"].as_array().unwrap().len();
    assert_eq!(volumes.iter().map(on_tape).collect::<Vec<_>>(), [1, 1, 1, 0]);

    let onto = world.path("untarred");
    std::fs::create_dir(&onto).unwrap();
    let mut tar = Command::new("tar");
    tar.args(["-xM", "-b", "32", "--numeric-owner", "--xattrs", "--xattrs-include=*", "-C"]).arg(&onto);
    for file in &files {
        tar.arg("-f").arg(file);
    }
    let ran = tar.output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let below = |onto: &Path| onto.join(world.master().strip_prefix("/").unwrap());
    let restored = below(&onto);
    assert!(std::fs::read(restored.join("noise")).unwrap() == noise);
    let report = compare(&world.master(), &restored, &Options::default()).unwrap();
    assert!(report.is_equal(), "{report}");

    // And so does the rescue, without a daemon's help.
    let onto = world.path("rescued");
    let tape_session = copied["tape_session"].as_str().unwrap();
    let rescued = world.ok(&format!("rescue {url} {tape_session} --onto {}", onto.display()));
    assert_eq!(rescued["state"], "done", "{rescued}");
    let report = compare(&world.master(), &below(&onto), &Options::default()).unwrap();
    assert!(report.is_equal(), "{report}");
}

#[test]
fn a_copy_that_finds_no_room_leaves_nothing_that_counts() {
    let ground = Ground::new();
    let world = &ground.world;
    std::fs::write(world.master().join("large"), vec![7; 4 << 20]).unwrap();
    let (_, session) = ground.backup();
    let id = session["id"].as_str().unwrap();
    let place = world.path("tapes");
    let url = format!("tape://{}", place.display());
    world.ok(&format!("tape label {url} --media one --capacity 1MiB --block 16KiB"));
    world.refused(&format!("session copy {id} --to {url}"), 4, "RW1128");
    world.ok(&format!("tape label {url} --media two --capacity 64MiB --block 16KiB"));
    // What was begun on the first volume is no session, also now that there is room.
    let copied = world.ok(&format!("session copy {id} --to {url}"));
    assert_eq!(copied["was_there"], false, "{copied}");
    world.refused(&format!("session copy nothing --to {url}"), 4, "RW1070");
    world.refused(&format!("session copy {id} --to file:///x"), 2, "RW1052");
}
