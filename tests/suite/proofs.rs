//! Is it shown whether the replica is what was captured, does the date outlive the projections, and is a difference
//! found, told and repaired?

use journal::state::{NodeRow, rows};
use journal::tables::LsmTables;
use journal::{Space, Tables};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use tests::compare::assert_same;
use tests::daemon::World;

fn proof(world: &World) -> Value {
    world.ok("scenario status docs")["last_proof"].clone()
}

/// A replicating scenario with some files.
fn lived() -> World {
    let world = World::new();
    fs::create_dir(world.master().join("d")).unwrap();
    for name in ["a", "d/b", "d/c"] {
        fs::write(world.master().join(name), name.repeat(3000)).unwrap();
    }
    world.protect();
    world
}

#[test]
fn a_barrier_proves_and_the_proof_outlives_the_projections() {
    let mut world = lived();
    fs::rename(world.master().join("d"), world.path("aside")).unwrap();
    let lsn = world.flush();
    let first = proof(&world);
    assert_eq!((&first["lsn"], &first["equal"]), (&lsn.as_str().into(), &true.into()));
    assert!(first["at"].is_string(), "{first}");

    // Back again under another name, changed meanwhile, and a hard link into it.
    fs::write(world.path("aside/b"), "changed outside").unwrap();
    fs::rename(world.path("aside"), world.master().join("e")).unwrap();
    fs::hard_link(world.master().join("a"), world.master().join("e/a2")).unwrap();
    assert_eq!(proof(&world)["equal"], true);
    let lsn = world.flush();
    assert_eq!(proof(&world)["lsn"], lsn.as_str());

    world.stop();
    fs::remove_dir_all(world.path("data/projections")).unwrap();
    world.start();
    let after = proof(&world);
    assert_eq!(after["equal"], true, "{after}");
    world.wait_replicating();
    let lsn = world.flush();
    assert_eq!(proof(&world)["lsn"], lsn.as_str());
}

#[test]
fn a_rewound_replica_is_compared_again_when_it_follows() {
    let world = lived();
    world.ok("bookmark set docs before");
    for round in 0..20 {
        fs::write(world.master().join(format!("d/new{round}")), "new").unwrap();
    }
    fs::rename(world.master().join("d"), world.master().join("moved")).unwrap();
    fs::remove_file(world.master().join("a")).unwrap();
    let lsn = world.flush();
    world.ok("rewind docs --to before --onto replica --yes");
    fs::write(world.master().join("meanwhile"), "captured and not applied").unwrap();
    world.refused("flush docs", 5, "RW0465");
    let detached = proof(&world);
    assert!(detached["lsn"].as_str().unwrap().parse::<u64>().unwrap() >= lsn.parse().unwrap(), "{detached}");
    world.ok("scenario resume docs");
    let lsn = world.flush();
    assert_eq!(proof(&world)["lsn"], lsn.as_str());
    assert_same(&world.master(), &world.replica(), "after the return");
}

/// Changes a row of the tables behind the daemon's back.
fn falsify(world: &World, change: impl Fn(&mut NodeRow)) {
    let tables = LsmTables::open(&world.path("data/projections/tables/docs")).unwrap();
    let wrong: Vec<_> = tables
        .range(Space::Nodes, &[], &[0xff; 9])
        .map(|row| row.unwrap())
        .filter_map(|(key, value)| {
            let mut row: NodeRow = rows::read(Space::Nodes, &value).unwrap();
            let file = row.meta.kind.is_file();
            change(&mut row);
            file.then(|| (Space::Nodes, key, Some(rows::write(&row))))
        })
        .collect();
    assert_eq!(wrong.len(), 3);
    tables.commit(wrong).unwrap();
    tables.persist().unwrap();
}

#[test]
fn a_difference_is_shown_and_a_synchronization_repairs_it() {
    let mut world = lived();
    world.flush();
    world.stop();
    // The sums follow the rows: two of them change again, one stays wrong.
    falsify(&world, |row| row.meta.attributes.mode = 0o600);
    world.start();
    world.wait_replicating();
    for name in ["a", "d/b"] {
        let path = world.master().join(name);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    }
    world.ok("flush docs");
    let status = world.ok("scenario status docs");
    assert_eq!(status["last_proof"]["equal"], false, "{status}");
    assert!(status["cause"].as_str().unwrap().contains("not what was captured"), "{status}");

    // Seen again after a restart.
    world.stop();
    world.start();
    world.wait_replicating();
    let status = world.ok("scenario status docs");
    assert_eq!(status["last_proof"]["equal"], false, "{status}");

    world.ok("scenario stop docs");
    world.ok("scenario run docs");
    world.flush();
    let status = world.ok("scenario status docs");
    assert!(status["cause"].is_null(), "{status}");
    for (name, mode) in [("a", 0o640), ("d/b", 0o640), ("d/c", 0o644)] {
        let found = fs::metadata(world.replica().join(name)).unwrap().mode() & 0o777;
        assert_eq!(found, mode, "{name}");
    }
    assert_same(&world.master(), &world.replica(), "after the repair");
    let dump = world.list("journal dump docs");
    let compared: Vec<&Value> = dump.iter().filter(|item| item["kind"] == "compared").collect();
    assert!(compared.iter().any(|item| item["equal"] == false), "{compared:?}");
}
