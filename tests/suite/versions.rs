//! Are versions captured as they happen? A file written three times a second apart, without a flush.

use std::fs;
use std::time::Duration;
use tests::compare::assert_same;
use tests::daemon::World;
use tests::keep::Keeper;

#[test]
fn three_writes_a_second_apart_are_three_points() {
    let world = World::new();
    let file = world.master().join("report");
    fs::write(&file, b"before").unwrap();
    fs::write(world.master().join("other"), b"untouched").unwrap();
    world.protect();
    let mut keeper = Keeper::new(&world.master());
    let mut kept = Vec::new();
    for version in 0..3_usize {
        // Longer, shorter, longer again: each way a version can differ in size.
        let text = format!("version {version} ").repeat([900, 3, 20_000][version]);
        fs::write(&file, text).unwrap();
        let copy = world.path(&format!("version-{version}"));
        keeper.keep(&copy);
        kept.push(copy);
        std::thread::sleep(Duration::from_secs(1));
    }
    let mut points = world.list("points docs --path report");
    points.reverse();
    // Such a write begins by cutting the file; if capture looks just then, that is a version too.
    points.retain(|point| point["bytes"] != 0);
    let seen: Vec<(&str, &str)> = points
        .iter()
        .map(|point| (point["kind"].as_str().unwrap(), point["provenance"].as_str().unwrap()))
        .collect();
    assert_eq!(seen, [("modified", "derived"); 3], "{points:?}");
    for (version, point) in points.iter().enumerate() {
        assert_eq!(point["path"], file.display().to_string());
        let read =
            world.read_at(&format!("lsn:{}", point["lsn"].as_str().unwrap()), &format!("read-{version}"));
        assert_same(&read, &kept[version], &format!("version {version}"));
    }
    // The last of them is on the replica too, and nobody asked.
    assert_same(&world.master(), &world.replica(), "without a flush");
}
