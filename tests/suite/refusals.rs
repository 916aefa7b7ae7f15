//! Is bad input refused with its code and exit status, and does nothing change?

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use tests::compare::assert_same;
use tests::daemon::{World, is_root, programs, run};
use tests::keep::Keeper;

fn small_world() -> World {
    let world = World::new();
    for name in ["a", "b", "c"] {
        fs::write(world.master().join(name), name.repeat(3000)).unwrap();
    }
    world
}

#[test]
fn unknown_names_and_points_are_refused() {
    let world = small_world();
    world.refused("scenario run nobody", 4, "RW1002");
    world.refused("flush nobody", 4, "RW1002");
    world.refused("rewind nobody --to now --yes", 4, "RW1002");
    world.ok(&world.create_line("docs"));
    world.refused("bookmark set docs mark", 5, "RW0465");
    world.refused("flush docs", 5, "RW0465");
    world.ok("scenario run docs");
    let before = world.path("before");
    Keeper::new(&world.replica()).keep(&before);
    let first = world.flush();
    for (line, exit, code) in [
        ("rewind docs --to bookmark:nobody --yes", 4, "RW1004"),
        ("rewind docs --to nobody --yes", 4, "RW1004"),
        ("bookmark delete docs nobody", 4, "RW1004"),
        ("rewind docs --to lsn:1 --yes", 4, "RW1008"),
        ("rewind docs --to lsn:99999999 --yes", 4, "RW1008"),
        ("rewind docs --to lsn:1.1 --yes", 4, "RW1008"),
        ("rewind docs --to time:2001-01-01T00:00:00Z --yes", 4, "RW1008"),
        ("rewind docs --to -100d --yes", 4, "RW1008"),
        ("rewind docs --to lsn:x --yes", 2, "RW1007"),
        ("diff docs nobody", 4, "RW1004"),
    ] {
        world.refused(line, exit, code);
    }
    assert_eq!(world.ok("scenario status docs")["state"], "replicating");
    assert!(world.list("bookmark list docs").is_empty(), "a refused rewind left a bookmark");
    let newest = world.ok("points docs --limit 1");
    assert_eq!(newest["lsn"], *first, "a refusal was journaled");
    assert_same(&world.replica(), &before, "after refusals");
}

#[test]
fn flush_is_refused_while_detached() {
    let world = small_world();
    world.protect();
    world.ok("bookmark set docs mark");
    fs::write(world.master().join("a"), b"ruined").unwrap();
    world.flush();
    world.ok("rewind docs --to mark --yes");
    for stage in ["", " --stage journaled", " --stage captured"] {
        world.refused(&format!("flush docs{stage}"), 5, "RW0465");
    }
    world.ok("scenario resume docs");
    world.flush();
    assert_same(&world.master(), &world.replica(), "after the resume");
}

#[test]
fn bad_roots_are_refused() {
    let world = small_world();
    let (master, replica) = (world.master(), world.replica());
    let (master, replica) = (master.display(), replica.display());
    let missing = world.path("missing");
    fs::create_dir(world.path("m/below")).unwrap();
    fs::create_dir_all(world.path("full")).unwrap();
    fs::write(world.path("full/precious"), b"precious").unwrap();
    let create = |roots: &str| format!("scenario create docs {roots}");
    for (line, code) in [
        (create(&format!("--root {master}={replica} --root {master}/below={replica}-2")), "RW1011"),
        (create(&format!("--root {master}={master}/below/replica")), "RW1011"),
        (create(&format!("--root {master}={master}")), "RW1011"),
    ] {
        world.refused(&line, 2, code);
    }
    assert!(world.list("scenario list").is_empty());
    // These are seen when both sides are looked at: at the latest when the scenario is to run.
    for (name, root, code, exit) in [
        ("missing", format!("{}={replica}", missing.display()), "RW1010", 4),
        ("full", format!("{master}={}", world.path("full").display()), "RW1012", 5),
    ] {
        let mut ran = world.ctl(&format!("scenario create {name} --root {root}"));
        if ran.exit == 0 {
            ran = world.ctl(&format!("scenario run {name}"));
        }
        assert_eq!((ran.code().as_str(), ran.exit), (code, exit), "{ran:?}");
    }
    assert_eq!(fs::read(world.path("full/precious")).unwrap(), b"precious");
    assert_eq!(fs::read_dir(world.path("full")).unwrap().count(), 1);
    assert!(!missing.exists());
}

#[test]
fn two_daemons_cannot_share_a_data_directory() {
    let world = small_world();
    world.protect();
    let ran = world.second_daemon();
    assert_ne!(ran.exit, 0, "{ran:?}");
    assert!(ran.stderr.contains("RW1019"), "{ran:?}");
    assert!(!ran.stdout.contains("ready"), "{ran:?}");
    fs::write(world.master().join("a"), b"still works").unwrap();
    world.flush();
    assert_same(&world.master(), &world.replica(), "the first daemon");
}

/// The largest file of a journal with this ending.
fn segment(world: &World, ending: &str) -> PathBuf {
    let files = fs::read_dir(world.path("data/journal/docs")).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = files.filter(|path| path.to_string_lossy().ends_with(ending)).collect();
    files.sort_by_key(|path| fs::metadata(path).unwrap().len());
    files.pop().unwrap()
}

#[test]
fn a_damaged_segment_is_named_with_its_offset() {
    for ending in [".seg", ".undo"] {
        let mut world = small_world();
        world.protect();
        for n in 0..20_u8 {
            fs::write(world.master().join("a"), vec![n; 20_000]).unwrap();
            world.flush();
        }
        world.ok("journal verify docs");
        world.stop();
        let path = segment(&world, ending);
        let file = fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let at = file.metadata().unwrap().len() / 2;
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 0x40], at).unwrap();
        drop(file);
        let damaged = fs::read(&path).unwrap();
        world.start();
        let ran = world.ctl("journal verify docs");
        assert_eq!(ran.exit, 8, "{ran:?}\n{}", world.log_end());
        let name = path.file_name().unwrap().to_str().unwrap();
        let said = format!("{}{}", ran.stdout, ran.stderr);
        assert!(said.contains(name) && said.contains("offset"), "{ran:?}");
        // Nothing is cut from what was known to be durable.
        assert!(fs::read(&path).unwrap().starts_with(&damaged[..=at as usize]), "{ending} was changed");
    }
}

#[test]
fn a_malformed_configuration_is_named_with_line_and_key() {
    let world = World::idle();
    for (text, words) in [
        ("data = \"/tmp/x\"\n\n[replica]\nmin-fre = \"1GiB\"\n", ["line 4", "min-fre"]),
        ("data = \"/tmp/x\"\n[replica]\nmin-free = \"much\"\n", ["line 3", "min-free"]),
        ("data = 7\n[replica]\n", ["line 1", "data"]),
    ] {
        let path = world.path("config.toml");
        fs::write(&path, text).unwrap();
        let mut command = Command::new(programs().join("rewindd"));
        command.arg("--config").arg(&path).arg("--check");
        let ran = run(command, Duration::from_secs(30));
        assert_eq!(ran.exit, 2, "{ran:?}");
        for word in words {
            assert!(ran.stderr.contains(word), "{word} is not named: {ran:?}");
        }
    }
}

#[test]
fn an_unreadable_file_is_listed_and_the_rest_is_kept() {
    let mut world = World::idle();
    let master = world.master();
    fs::write(master.join("open"), b"open").unwrap();
    fs::write(master.join("closed"), b"closed").unwrap();
    if is_root() {
        if run(
            {
                let mut c = Command::new("setpriv");
                c.arg("--version");
                c
            },
            Duration::from_secs(10),
        )
        .exit
            != 0
        {
            println!("skipped: there is no setpriv to run a daemon without root");
            return;
        }
        world.wrapper =
            ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"].map(str::to_owned).to_vec();
        for path in [world.path(""), master.clone(), master.join("open"), master.join("closed")] {
            std::os::unix::fs::chown(path, Some(65534), Some(65534)).unwrap();
        }
    }
    fs::set_permissions(master.join("closed"), fs::Permissions::from_mode(0o000)).unwrap();
    world.start();
    world.ok(&world.create_line("docs"));
    let ran = world.ctl("scenario run docs");
    assert_eq!(ran.exit, 3, "{ran:?}");
    let skipped = ran.objects()[0]["skipped"].to_string();
    assert!(skipped.contains("closed"), "{ran:?}");
    assert_eq!(fs::read(world.replica().join("open")).unwrap(), b"open");
    assert_eq!(world.ok("scenario status docs")["skipped"], 1);
    // Readable again, it is kept again, and nobody has to ask.
    fs::set_permissions(master.join("closed"), fs::Permissions::from_mode(0o600)).unwrap();
    world.flush();
    assert_eq!(fs::read(world.replica().join("closed")).unwrap(), b"closed");
    assert_eq!(world.ok("scenario status docs")["skipped"], 0);
}
