//! Do a stop and a kill, with changes of the master meanwhile, leave earlier points exact and end in an equal replica?

use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use tests::chaos::Chaos;
use tests::compare::assert_same;
use tests::daemon::{World, seed, size};
use tests::keep::Keeper;

/// Things that differ in kind from what [`Chaos`] does at random: whole directories, and one file under another name.
fn change_while_down(world: &World, round: u64) {
    let master = world.master();
    fs::write(master.join("edited"), format!("while down, round {round}")).unwrap();
    fs::rename(master.join("tree"), master.join("tree-moved")).unwrap();
    fs::create_dir(master.join("tree")).unwrap();
    fs::rename(master.join("tree-moved"), master.join("tree/older")).unwrap();
    fs::write(master.join("tree/of-now"), b"new").unwrap();
    fs::remove_file(master.join("doomed")).unwrap();
    fs::create_dir(master.join("doomed")).unwrap();
    fs::remove_dir(master.join("doomed")).unwrap();
    fs::write(master.join("doomed"), vec![round as u8; 10_000]).unwrap();
}

/// What came after an LSN, oldest first.
fn since(world: &World, lsn: &str) -> Vec<Value> {
    let mut new: Vec<Value> =
        world.list("points docs").into_iter().take_while(|point| point["lsn"] != *lsn).collect();
    new.reverse();
    new
}

#[test]
fn changes_while_it_is_down_are_found_and_nothing_is_lost() {
    let seed = seed("changes_while_it_is_down_are_found_and_nothing_is_lost");
    let mut world = World::new();
    let mut chaos = Chaos::new(&world.master(), seed);
    chaos.change(100);
    for name in ["edited", "doomed"] {
        fs::write(world.master().join(name), name).unwrap();
    }
    fs::create_dir(world.master().join("tree")).unwrap();
    world.protect();
    let mut keeper = Keeper::new(&world.master());
    let mut points: Vec<(String, PathBuf)> = Vec::new();
    for round in 0..size(4, 12) {
        // No chaos in the tree from here on, but in a corner: the names changed while down have to stay.
        fs::create_dir_all(world.master().join("corner")).unwrap();
        Chaos::new(&world.master().join("corner"), seed + round).change(40);
        let (name, kept) = (format!("mark-{round}"), world.path(&format!("kept-{round}")));
        keeper.keep(&kept);
        world.ok(&format!("bookmark set docs {name}"));
        points.push((name, kept.clone()));
        let noted = world.flush();
        points.push((format!("lsn:{noted}"), kept));

        if round % 2 == 0 {
            world.stop()
        } else {
            world.kill()
        }
        change_while_down(&world, round);
        Chaos::new(&world.master().join("corner"), seed + 1000 + round).change(40);
        if round % 4 == 1 {
            fs::remove_dir_all(world.path("data/projections")).unwrap();
        }
        world.start();
        world.wait_replicating();
        // A marker opens the gap, what the comparison finds follows, a marker closes it.
        let new = since(&world, &noted);
        let marks: Vec<usize> = (0..new.len()).filter(|at| new[*at]["kind"] == "marker").collect();
        let (Some(open), Some(close)) = (marks.first(), marks.last()) else { panic!("no gap: {new:?}") };
        let found = new.iter().filter(|point| point["provenance"] == "rescan" && point["kind"] != "marker");
        assert!(open < close && found.count() > 4, "the gap is not seen: {new:?}");
        world.flush();
        assert_same(&world.master(), &world.replica(), "after a restart");
        for (point, kept) in &points {
            let read = world.read_at(point, "read");
            assert_same(&read, kept, &format!("{point} after restart {round}"));
            fs::remove_dir_all(read).unwrap();
        }
    }
}
