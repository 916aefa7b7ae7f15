//! Does a daemon say what is in its journals, what they weigh and how much history they hold?

use serde_json::Value;
use std::collections::BTreeSet;
use tests::daemon::World;

/// A replicating scenario in which something of each kind happened.
fn lived() -> World {
    let world = World::new();
    let master = world.master();
    std::fs::write(master.join("a"), vec![b'a'; 20_000]).unwrap();
    world.protect();
    world.ok("bookmark set docs before");
    std::fs::write(master.join("a"), vec![b'b'; 20_000]).unwrap();
    world.flush();
    std::fs::rename(master.join("a"), master.join("b")).unwrap();
    std::fs::create_dir(master.join("d")).unwrap();
    std::fs::write(master.join("d/gone"), b"soon").unwrap();
    world.flush();
    std::fs::remove_file(master.join("d/gone")).unwrap();
    world.flush();
    world
}

fn kinds(items: &[Value]) -> BTreeSet<&str> {
    items.iter().map(|item| item["kind"].as_str().unwrap()).collect()
}

#[test]
fn a_dump_holds_what_happened() {
    let world = lived();
    let items = world.list("journal dump docs");
    let found = kinds(&items);
    for kind in
        ["create", "write", "rename", "remove", "barrier", "bookmark-set", "undo-name", "undo-bytes", "met"]
    {
        assert!(found.contains(kind), "no {kind} in {found:?}");
    }
    // Redo first, then undo, each in its order.
    let streams: Vec<&str> = items.iter().map(|item| item["stream"].as_str().unwrap()).collect();
    assert!(streams.is_sorted(), "undo begins before redo has ended");
    let rename = items.iter().find(|item| item["kind"] == "rename").unwrap();
    assert_eq!((&rename["from_name"], &rename["to_path_now"]), (&"a".into(), &"b".into()), "{rename}");
    let mark = items.iter().find(|item| item["kind"] == "bookmark-set").unwrap();
    assert_eq!(mark["bookmark"], "before", "{mark}");
    let writes = items.iter().filter(|item| item["kind"] == "write" && item["path_now"] == "b");
    assert!(writes.clone().count() >= 1, "{items:#?}");

    // A part of it is what the whole has in that range.
    let (from, to) = (mark["point"].as_str().unwrap(), rename["lsn"].as_str().unwrap());
    let part = world.list(&format!("journal dump docs --from {from} --to {to}"));
    let number = |item: &Value| item["lsn"].as_str().map(|lsn| lsn.parse::<u64>().unwrap());
    let (first, last) = (from.parse::<u64>().unwrap(), to.parse::<u64>().unwrap());
    let expected = items.iter().filter(|item| number(item).is_some_and(|lsn| (first..=last).contains(&lsn)));
    let part: Vec<&Value> = part.iter().filter(|item| number(item).is_some()).collect();
    // The cursor may have moved on meanwhile.
    let without_cursor = |item: &&Value| item["kind"] != "applied";
    let part: Vec<&Value> = part.into_iter().filter(without_cursor).collect();
    assert_eq!(part, expected.filter(without_cursor).collect::<Vec<_>>());
    assert!(part.len() < items.len());

    let people = world.ctl("journal dump docs");
    assert_eq!(people.exit, 0);
}

#[test]
fn tables_are_compared_and_figures_shown() {
    let world = lived();
    let report = world.ok("journal verify docs");
    assert_eq!(
        (&report["tables"]["compared"], &report["tables"]["differing"]),
        (&true.into(), &0.into()),
        "{report}"
    );
    assert!(report["tables"]["rows"].as_u64().unwrap() > 20, "{report}");
    // The scratch tables are gone.
    let place = world.path("data/projections/verify");
    assert!(!place.exists() || std::fs::read_dir(place).unwrap().next().is_none());

    let stats = world.ok("journal stats docs");
    assert!(stats["changed_bytes"].as_u64().unwrap() >= 20_000, "{stats}");
    let number = |name: &str| stats[name].as_f64().unwrap_or_else(|| panic!("{name}: {stats}"));
    let stored = number("redo_bytes") + number("undo_bytes");
    let ratio = number("journal_bytes_per_changed_byte");
    assert!((ratio - stored / number("changed_bytes")).abs() < 1e-6 && ratio > 0.0, "{stats}");
    assert_eq!(number("redo_raw_bytes"), number("changed_bytes"));
    assert!(number("undo_raw_bytes") > 0.0, "{stats}");
    assert_eq!(
        (&stats["window"]["level"], &stats["window"]["percent"]),
        (&"whole".into(), &100.into()),
        "{stats}"
    );
    let snapshot = world.ok("snapshot create docs");
    let stats = world.ok("journal stats docs");
    assert_eq!(stats["pinned"][0]["lsn"], snapshot["lsn"], "{stats}");
    assert_eq!(world.ok("scenario status docs")["window"]["level"], "whole");
}

/// Tables are compared while apply changes them and a first synchronization has just ended: what is said then is true.
#[test]
fn tables_are_compared_beside_apply() {
    let world = World::new();
    let master = world.master();
    for number in 0..300 {
        std::fs::write(master.join(format!("early-{number}")), vec![7; 3000]).unwrap();
    }
    world.protect();
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for turn in 0..u64::MAX {
                if over.load(std::sync::atomic::Ordering::Relaxed) {
                    break;
                }
                let path = |number: u64| master.join(format!("early-{}", number % 300));
                drop(std::fs::write(path(turn), vec![turn as u8; 5000 + turn as usize % 3000]));
                drop(std::fs::rename(path(turn + 7), path(turn + 11)));
                drop(std::fs::remove_file(path(turn + 90)));
            }
        });
        for _ in 0..6 {
            let report = world.ok("journal verify docs");
            assert_eq!(
                (&report["tables"]["compared"], &report["tables"]["differing"]),
                (&true.into(), &0.into())
            );
        }
        over.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    world.flush();
    world.ok("journal verify docs");
}
