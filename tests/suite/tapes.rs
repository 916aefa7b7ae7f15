//! Are volumes of tape labelled, listed and put out as the command line promises, and is nothing written over unasked?

use std::process::Command;
use tests::daemon::World;

#[test]
fn volumes_are_looked_after() {
    let mut world = World::idle();
    world.start();
    let place = world.path("tapes");
    let url = format!("tape://{}", place.display());
    assert!(world.list(&format!("tape inventory {url}")).is_empty());
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
    // No session goes there yet, and that is said.
    let password = world.path("password");
    std::fs::write(&password, "correct horse\n").unwrap();
    let add = format!("repository add t {url} --password-file {}", password.display());
    world.refused(&add, 2, "RW1052");
}
