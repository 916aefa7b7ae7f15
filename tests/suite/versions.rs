//! Are versions captured as they happen, and found? A file written three times a second apart, without a flush; a history
//! with bookmarks and a rewind, asked for by time and kind.

use serde_json::Value;
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

/// Filters leave out rows and nothing else, wherever they let the search begin.
#[test]
fn filters_give_what_a_look_at_all_points_gives() {
    let world = World::new();
    world.protect();
    for round in 0..8 {
        fs::write(world.master().join(format!("file {}", round % 3)), format!("round {round}")).unwrap();
        world.flush();
        if round % 3 == 1 {
            world.ok(&format!("bookmark set docs mark-{round}"));
        }
        if round == 5 {
            world.ok("rewind docs --to bookmark:mark-1 --yes");
            world.ok("bookmark set docs local --at now");
            world.ok("scenario resume docs");
        }
    }
    world.flush();
    let all = world.list("points docs");
    let text = |point: &Value, key: &str| point[key].as_str().unwrap().to_owned();
    let local = all.iter().filter(|point| text(point, "lsn").contains('.')).count();
    assert!(local > 0 && all.len() > 20, "{all:?}");
    let mut times: Vec<String> = all.iter().map(|point| text(point, "time")).collect();
    let nanoseconds = |time: &str| time.parse::<jiff::Timestamp>().unwrap().as_nanosecond();
    times.sort_by_key(|time| nanoseconds(time));
    times.dedup();
    let ask = |words: &str, wanted: &dyn Fn(&Value) -> bool| {
        let found = world.list(&format!("points docs {words}"));
        let expected: Vec<Value> = all.iter().filter(|point| wanted(point)).cloned().collect();
        assert!(found == expected, "{words}: {found:?}\nand not {expected:?}");
        found.len()
    };
    let at = |point: &Value| nanoseconds(point["time"].as_str().unwrap());
    for until in &times {
        let limit = nanoseconds(until);
        assert!(ask(&format!("--until {until}"), &|point| at(point) <= limit) > 0);
        ask(&format!("--until {until} --kind bookmark"), &|point| {
            at(point) <= limit && point["kind"] == "bookmark"
        });
        ask(&format!("--since {until} --kind modified"), &|point| {
            at(point) >= limit && point["kind"] == "modified"
        });
    }
    assert!(ask("--kind bookmark", &|point| point["kind"] == "bookmark") >= 4);
    let file = world.master().join("file 1").display().to_string();
    let at_file = |point: &Value| point["path"] == file;
    for glob in ["file?1", "*1", "/*/file?1", "**/file?1", &file.replace(' ', "?")] {
        assert!(ask(&format!("--path {glob}"), &at_file) >= 2, "{glob}");
    }
    ask("--path file?1 --kind created", &|point| at_file(point) && point["kind"] == "created");
    assert_eq!(ask("--path file?1 --kind bookmark", &|_| false), 0);
    assert_eq!(world.list("points docs --path file?1 --limit 1").len(), 1);
    ask("--until 2001-01-01T00:00:00Z", &|_| false);
}

/// A rename says what it was called before, and so does a move into another directory, whatever that is called later.
#[test]
fn renames_say_their_old_names() {
    let world = World::new();
    let master = world.master();
    fs::create_dir_all(master.join("drafts/old")).unwrap();
    fs::write(master.join("drafts/a"), b"a").unwrap();
    fs::write(master.join("b"), b"b").unwrap();
    world.protect();
    let steps = [("drafts/a", "drafts/c"), ("b", "drafts/old/b"), ("drafts", "final"), ("final/old/b", "b")];
    for (from, to) in steps {
        fs::rename(master.join(from), master.join(to)).unwrap();
        world.flush();
    }
    let mut points = world.list("points docs --kind renamed");
    points.reverse();
    let seen: Vec<_> = points
        .iter()
        .map(|point| (point["from"].as_str().unwrap(), point["path"].as_str().unwrap()))
        .collect();
    let path = |path: &str| master.join(path).display().to_string();
    let told: Vec<_> = steps.iter().map(|(from, to)| (path(from), path(to))).collect();
    let told: Vec<_> = told.iter().map(|(from, to)| (from.as_str(), to.as_str())).collect();
    assert_eq!(seen, told, "{points:?}");
    let created = world.list("points docs --kind created");
    assert!(created.iter().all(|point| point["from"].is_null()), "{created:?}");
}
