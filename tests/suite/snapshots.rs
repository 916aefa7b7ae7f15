//! Does a snapshot keep its point, whatever becomes of the scenario and the daemon; is a mounted point the tree of then?

use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::process::Command;
use tests::compare::assert_same;
use tests::daemon::{World, is_root};

fn fill(master: &Path) {
    std::fs::create_dir_all(master.join("a/b")).unwrap();
    for number in 0..900 {
        std::fs::write(
            master.join(format!("a/b/file-{number:04}")),
            format!("{number}\n").repeat(number % 50),
        )
        .unwrap();
    }
    std::fs::write(master.join("large"), (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<u8>>())
        .unwrap();
    std::fs::hard_link(master.join("large"), master.join("a/large too")).unwrap();
    symlink("../large", master.join("a/link")).unwrap();
    std::fs::File::create(master.join("sparse")).unwrap().set_len(50 << 20).unwrap();
    rustix::fs::setxattr(master.join("large"), "user.note", b"kept", rustix::fs::XattrFlags::empty())
        .unwrap();
}

/// Everything is made different from what [`fill`] made.
fn change(master: &Path) {
    for number in 0..900 {
        let path = master.join(format!("a/b/file-{number:04}"));
        match number % 3 {
            0 => std::fs::remove_file(path).unwrap(),
            1 => std::fs::write(path, "changed").unwrap(),
            _ => std::fs::rename(path, master.join(format!("moved-{number}"))).unwrap(),
        }
    }
    std::fs::remove_file(master.join("a/large too")).unwrap();
    std::fs::rename(master.join("a/b"), master.join("c")).unwrap();
    std::fs::write(master.join("large"), "small").unwrap();
}

/// A copy of a tree with all there is to it.
fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(status.success());
}

#[test]
fn a_snapshot_is_kept_until_released() {
    let mut world = World::new();
    std::fs::write(world.master().join("file"), "first").unwrap();
    world.protect();
    world.flush();
    let made = world.ok("snapshot create docs");
    assert_eq!(made["pinned_by"], "hand", "{made}");
    assert_eq!(made["class"], "fuzzy", "{made}");
    let id = made["id"].as_str().unwrap().to_owned();
    std::fs::write(world.master().join("file"), "second").unwrap();
    world.flush();
    let at = world.ok("bookmark set docs here");
    let second = world.ok("snapshot create docs --at here");
    assert_eq!(second["lsn"], at["lsn"]);
    world.kill();
    world.start();
    world.wait_replicating();
    let listed = world.list("snapshot list");
    assert_eq!(listed, world.list("snapshot list --scenario docs"));
    let ids: Vec<_> = listed.iter().map(|one| one["id"].as_str().unwrap()).collect();
    assert_eq!(ids, [&id, second["id"].as_str().unwrap()], "{listed:?}");
    assert_eq!(world.ok(&format!("snapshot show {id}"))["lsn"], made["lsn"]);
    assert_eq!(world.ok(&format!("snapshot release {id}"))["id"].as_str(), Some(&*id));
    world.refused(&format!("snapshot show {id}"), 4, "RW1093");
    world.refused(&format!("snapshot release {id}"), 4, "RW1093");
    world.refused("snapshot show 77-1", 4, "RW1093");
    world.refused("snapshot show none", 4, "RW1093");
    world.refused("snapshot create docs --at lsn:99999", 4, "RW1008");
    assert_eq!(world.list("snapshot list").len(), 1);

    // While the tree stands elsewhere, a point of now is kept that is not applied yet.
    world.ok("rewind docs --to here --yes");
    let ahead = world.ok("snapshot create docs");
    let listed = world.list("snapshot list");
    assert_eq!(listed.last(), Some(&ahead), "{listed:?}");
    world.ok("scenario resume docs");
    assert_eq!(world.ok(&format!("snapshot show {}", ahead["id"].as_str().unwrap())), ahead);
}

#[test]
fn backups_keep_the_newest() {
    let world = World::new();
    std::fs::write(world.master().join("file"), "first").unwrap();
    world.ok(&format!("{} --keep-snapshots 3", world.create_line("docs")));
    world.ok("scenario run docs");
    let password = world.path("password");
    std::fs::write(&password, "correct horse\n").unwrap();
    let place = (world.path("repository"), password.display());
    tests::repository::make(&place.0, &password);
    world.ok(&format!("repository add offsite file://{} --password-file {}", place.0.display(), place.1));
    let by_hand = world.ok("snapshot create docs");
    let mut made = Vec::new();
    for number in 0..5 {
        std::fs::write(world.master().join("file"), format!("{number}")).unwrap();
        world.flush();
        let report = world.ok("backup docs --to offsite");
        made.push(report["snapshot"].as_str().unwrap().to_owned());
    }
    let listed = world.list("snapshot list");
    let of_backups: Vec<_> = listed.iter().filter(|one| one["pinned_by"] == "backup").collect();
    let ids: Vec<_> = of_backups.iter().map(|one| one["id"].as_str().unwrap()).collect();
    assert_eq!(ids, made.iter().skip(2).map(String::as_str).collect::<Vec<_>>());
    assert_eq!(listed.len(), 4, "the one made by hand stays: {listed:?}");
    // A backup of a snapshot stores its point and makes no other.
    let id = by_hand["id"].as_str().unwrap();
    let report = world.ok(&format!("backup docs --to offsite --snapshot {id}"));
    assert_eq!((&report["snapshot"], &report["lsn"]), (&by_hand["id"], &by_hand["lsn"]), "{report}");
    assert_eq!(world.list("snapshot list").len(), 4);
    // The point of the oldest again: its snapshot is the newest now.
    let again =
        world.ok(&format!("backup docs --to offsite --at lsn:{}", of_backups[0]["lsn"].as_str().unwrap()));
    world.refused(&format!("snapshot show {}", ids[0]), 4, "RW1093");
    std::fs::write(world.master().join("file"), "once more").unwrap();
    world.flush();
    world.ok("backup docs --to offsite");
    assert_eq!(
        world.ok(&format!("snapshot show {}", again["snapshot"].as_str().unwrap()))["lsn"],
        again["lsn"]
    );
    world.refused(&format!("backup docs --to offsite --snapshot {}", made[0]), 4, "RW1093");
    world.refused(&format!("backup docs --to offsite --snapshot {id} --consistent"), 2, "RW1028");
}

/// Whoever reads a mounted point reads the tree of then: names, bytes, links, owners, times, attributes.
#[test]
fn a_mounted_point_is_the_tree_of_then() {
    let fuse = Path::new("/dev/fuse").exists();
    if !is_root() || !fuse {
        println!("left out: mounting needs root and /dev/fuse");
        return;
    }
    let mut world = World::new();
    fill(&world.master());
    world.protect();
    world.flush();
    let snapshot = world.ok("snapshot create docs");
    let id = snapshot["id"].as_str().unwrap();
    let then = world.path("then");
    copy(&world.master(), &then);
    change(&world.master());
    world.flush();
    let directory = world.path("mounted");
    std::fs::create_dir(&directory).unwrap();
    let mounted = world.ok(&format!("snapshot mount docs {id} {}", directory.display()));
    assert_eq!(mounted["lsn"], snapshot["lsn"], "{mounted}");
    assert_same(&then, &directory, "mounted");
    let linked = std::fs::metadata(directory.join("a/large too")).unwrap();
    assert_eq!(linked.nlink(), 2);
    assert_eq!(linked.ino(), std::fs::metadata(directory.join("large")).unwrap().ino());
    let error = std::fs::write(directory.join("large"), "no").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    assert_eq!(std::fs::metadata(directory.join("none")).unwrap_err().kind(), std::io::ErrorKind::NotFound);
    // The point goes on changing behind it; the mount does not.
    std::fs::remove_dir_all(world.master().join("c")).unwrap();
    world.flush();
    world.ok(&format!("snapshot release {id}"));
    assert_same(&then, &directory, "still mounted");

    // A second one, of a point; `umount` ends it, the end of the daemon the other, though a file of it is open.
    let second = world.path("second");
    std::fs::create_dir(&second).unwrap();
    world.ok(&format!("snapshot mount docs now {}", second.display()));
    assert_same(&world.master(), &second, "now");
    assert!(Command::new("umount").arg(&second).status().unwrap().success());
    assert_eq!(std::fs::read_dir(&second).unwrap().count(), 0);
    let open = std::fs::File::open(directory.join("a/b/file-0049")).unwrap();
    world.stop();
    assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0, "unmounted with the daemon");
    drop(open);

    world.start();
    world.wait_replicating();
    world.refused(&format!("snapshot mount docs now {}", world.path("nowhere").display()), 1, "RW1094");
    // Nothing of ours is covered, whichever way it is named.
    std::fs::create_dir(world.path("repository")).unwrap();
    std::fs::write(world.path("password"), "correct horse\n").unwrap();
    let place = (world.path("repository"), world.path("password"));
    world.ok(&format!("repository add r file://{} --password-file {}", place.0.display(), place.1.display()));
    std::os::unix::fs::symlink(world.replica(), world.path("link")).unwrap();
    for ours in
        [world.master(), world.replica(), world.path("link"), world.path("data"), world.path("repository")]
    {
        world.refused(&format!("snapshot mount docs now {}", ours.display()), 5, "RW1073");
    }
    world.refused(&format!("snapshot mount docs 1-99 {}", second.display()), 4, "RW1093");
}
