//! Worked examples: what a change looks like in the stream.

use super::{Bench, PATIENCE};
use crate::capture::{CaptureRoot, Start};
use journal::{Class, Marker, NodeId, RootNo, SkippedWhat};
use rustix::fs::{CWD, FallocateFlags, Mode, OFlags, XattrFlags};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::time::Duration;

fn words(list: &[&[&str]]) -> Vec<Vec<String>> {
    list.iter().map(|events| events.iter().map(|event| (*event).to_owned()).collect()).collect()
}

#[test]
fn rename_of_a_directory_is_one_event_whatever_it_holds() {
    let mut bench = Bench::prepare();
    bench.config.debounce = PATIENCE;
    for n in 0..50 {
        fs::create_dir_all(bench.path(&format!("d/{n}"))).unwrap();
        fs::write(bench.path(&format!("d/{n}/f")), b"x").unwrap();
    }
    bench.start(Start::First);
    bench.check();
    let told = bench.telling(|root| fs::rename(root.join("d"), root.join("e")).unwrap());
    assert_eq!(told, words(&[&["Rename"]]));
    // What is below is known under its new path.
    let told = bench.telling(|root| fs::write(root.join("e/7/f"), b"y").unwrap());
    assert_eq!(told, words(&[&["Write", "SetAttributes"]]));
}

#[test]
fn removal_seen_as_a_whole_is_one_event() {
    let mut bench = Bench::patient();
    bench.telling(|root| {
        fs::create_dir_all(root.join("d/e")).unwrap();
        fs::write(root.join("d/e/f"), b"x").unwrap();
    });
    let away = bench.outside().join("d");
    let told = bench.telling(|root| fs::rename(root.join("d"), &away).unwrap());
    assert_eq!(told, words(&[&["Remove"]]));
    // Back at once: revived, nothing sent again.
    let bytes = bench.model.lock().bytes_told;
    fs::write(away.join("e/f"), b"z").unwrap();
    let told = bench.telling(|root| fs::rename(&away, root.join("back")).unwrap());
    assert_eq!(told[0], ["Rename"]);
    assert_eq!(bench.model.lock().bytes_told - bytes, 1, "only what changed outside");
}

#[test]
fn removed_and_back_after_the_index_forgot_it() {
    let mut bench = Bench::patient();
    bench.telling(|root| {
        fs::create_dir_all(root.join("d/e")).unwrap();
        fs::write(root.join("d/e/f"), b"x").unwrap();
        fs::hard_link(root.join("d/e/f"), root.join("g")).unwrap();
    });
    let away = bench.outside().join("d");
    bench.telling(|root| fs::rename(root.join("d"), &away).unwrap());
    std::thread::sleep(Duration::from_millis(4500));
    let told = bench.telling(|root| fs::rename(&away, root.join("d")).unwrap());
    assert_eq!(told.iter().flatten().filter(|event| *event == "Create").count(), 2, "{told:?}");
    assert_eq!(told.iter().flatten().filter(|event| *event == "Link").count(), 1, "{told:?}");
}

#[test]
fn swaps_cycles_and_there_and_back() {
    let mut bench = Bench::patient();
    bench.telling(|root| {
        for name in ["a", "b"] {
            fs::create_dir(root.join(name)).unwrap();
            fs::write(root.join(name).join("f"), name).unwrap();
        }
    });
    let told = bench.telling(|root| {
        fs::rename(root.join("a"), root.join("t")).unwrap();
        fs::rename(root.join("b"), root.join("a")).unwrap();
        fs::rename(root.join("t"), root.join("b")).unwrap();
    });
    assert_eq!(told[0], ["Rename", "Rename", "Rename"]);
    let told = bench.telling(|root| {
        fs::rename(root.join("a"), root.join("t")).unwrap();
        fs::rename(root.join("t"), root.join("a")).unwrap();
    });
    assert!(told.iter().flatten().all(|event| event == "SetAttributes"), "{told:?}");
    // Parent and child change places: b/c becomes c/b, then under the same name: c/b becomes c/c.
    bench.telling(|root| fs::rename(root.join("a"), root.join("b/c")).unwrap());
    let told = bench.telling(|root| {
        fs::rename(root.join("b/c"), root.join("c")).unwrap();
        fs::rename(root.join("b"), root.join("c/b")).unwrap();
    });
    assert_eq!(told[..2], words(&[&["Rename"], &["Rename"]]));
    let told = bench.telling(|root| {
        fs::rename(root.join("c/b"), root.join("t")).unwrap();
        fs::rename(root.join("c"), root.join("t/c")).unwrap();
        fs::rename(root.join("t"), root.join("c")).unwrap();
    });
    assert_eq!(told[0], ["Rename", "Rename", "Rename"]);
}

#[test]
fn rename_over_a_file_is_never_a_moment_without_it() {
    let mut bench = Bench::patient();
    bench.telling(|root| fs::write(root.join("f"), b"one").unwrap());
    let told = bench.telling(|root| {
        fs::write(root.join("tmp"), b"two").unwrap();
        fs::rename(root.join("tmp"), root.join("f")).unwrap();
    });
    assert_eq!(told[0], ["Remove", "Create", "Write"]);
    let told = bench.telling(|root| fs::write(root.join("tmp"), b"three").unwrap());
    assert_eq!(told[0], ["Create", "Write"]);
    let told = bench.telling(|root| fs::rename(root.join("tmp"), root.join("f")).unwrap());
    assert_eq!(told[0], ["Remove", "Rename", "SetAttributes"]);
}

#[test]
fn small_change_in_a_large_file_sends_its_block() {
    let mut bench = Bench::patient();
    let content: Vec<u8> = (0..20_000_000u32).map(|n| (n / 1000) as u8 ^ (n as u8)).collect();
    bench.telling(|root| fs::write(root.join("big"), &content).unwrap());
    let bytes = bench.model.lock().bytes_told;
    let told = bench.telling(|root| {
        let file = fs::OpenOptions::new().write(true).open(root.join("big")).unwrap();
        file.write_all_at(b"changed", 12_345_678).unwrap();
    });
    assert_eq!(told, words(&[&["Write", "SetAttributes"]]));
    assert_eq!(bench.model.lock().bytes_told - bytes, 4096);
    let told = bench.telling(|root| {
        let file = fs::OpenOptions::new().append(true).open(root.join("big")).unwrap();
        file.write_at(b"tail", 0).unwrap();
        file.set_len(15_000_000).unwrap();
    });
    assert_eq!(told[0][0], "Resize");
}

#[test]
fn holes_are_told_from_zeros() {
    let mut bench = Bench::patient();
    let told = bench.telling(|root| {
        let file = fs::File::create(root.join("f")).unwrap();
        file.set_len(40 << 20).unwrap();
        file.write_all_at(&[1; 10_000], 16 << 20).unwrap();
    });
    assert_eq!(told[0], ["Create", "Resize", "Write"]);
    assert!(bench.model.lock().bytes_told < 20_000);
    let told = bench.telling(|root| {
        let file = fs::OpenOptions::new().write(true).open(root.join("f")).unwrap();
        let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        rustix::fs::fallocate(&file, mode, 16 << 20, 8192).unwrap();
    });
    assert_eq!(told, words(&[&["Punch", "SetAttributes"]]));
    let told = bench.telling(|root| {
        let file = fs::OpenOptions::new().write(true).open(root.join("f")).unwrap();
        file.write_all_at(&[0; 4096], 0).unwrap();
    });
    assert_eq!(told, words(&[&["Write", "SetAttributes"]]));
}

#[test]
fn odd_names_links_and_kinds() {
    let mut bench = Bench::new();
    fs::write(bench.outside().join("secret"), b"not ours").unwrap();
    let outside = bench.outside();
    bench.telling(|root| {
        fs::write(root.join(std::ffi::OsStr::from_bytes(b"\xff\xfe \n\\")), b"x").unwrap();
        fs::write(root.join("n".repeat(255)), b"y").unwrap();
        symlink("nowhere", root.join("dangling")).unwrap();
        symlink(&outside, root.join("absolute")).unwrap();
        symlink(".", root.join("loop")).unwrap();
        fs::create_dir(root.join("empty")).unwrap();
        fs::set_permissions(root.join("empty"), fs::Permissions::from_mode(0o1777)).unwrap();
        rustix::fs::mknodat(CWD, root.join("pipe"), rustix::fs::FileType::Fifo, Mode::RUSR, 0).unwrap();
        drop(std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap());
    });
    assert!(!bench.model.lock().names.keys().any(|edge| edge.name.as_bytes() == b"secret"));
}

#[test]
fn paths_longer_than_the_kernel_takes() {
    let mut bench = Bench::new();
    let mut at = rustix::fs::openat(CWD, bench.root(), OFlags::PATH, Mode::empty()).unwrap();
    let name = "d".repeat(200);
    for _ in 0..30 {
        rustix::fs::mkdirat(&at, &name, Mode::RWXU).unwrap();
        at = rustix::fs::openat(&at, &name, OFlags::PATH, Mode::empty()).unwrap();
    }
    let create = OFlags::CREATE | OFlags::WRONLY;
    let file = rustix::fs::openat(&at, "deep", create, Mode::RUSR).unwrap();
    bench.barrier();
    rustix::io::write(&file, b"down here").unwrap();
    bench.barrier();
    let model = bench.model.lock();
    let (edge, node) = model.names.iter().find(|(edge, _)| edge.name.as_bytes() == b"deep").unwrap();
    assert_eq!(model.nodes[node].bytes, b"down here");
    assert_ne!(edge.parent, NodeId::root(RootNo(0)));
    assert_eq!(model.nodes.len(), 32);
    drop(model);
    // The standard library removes trees without building paths.
    fs::remove_dir_all(bench.path(&name)).unwrap();
    bench.check();
}

#[test]
fn xattrs_and_acls() {
    let mut bench = Bench::patient();
    // Version 2: owner rwx, user 1234 r--, group r--, mask r--, others ---.
    let mut acl = 2u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in
        [(1u16, 7u16, u32::MAX), (2, 4, 1234), (4, 4, u32::MAX), (16, 4, u32::MAX), (32, 0, u32::MAX)]
    {
        acl.extend_from_slice(&tag.to_le_bytes());
        acl.extend_from_slice(&permissions.to_le_bytes());
        acl.extend_from_slice(&id.to_le_bytes());
    }
    bench.telling(|root| fs::write(root.join("f"), b"x").unwrap());
    let set = |path: &std::path::Path, name: &str, value: &[u8]| {
        rustix::fs::setxattr(path, name, value, XattrFlags::empty())
    };
    let mut kept = true;
    let told = bench.telling(|root| {
        set(&root.join("f"), "user.note", b"hello").unwrap();
        kept = set(&root.join("f"), "system.posix_acl_access", &acl).is_ok();
        set(root, "user.root", &[7; 300]).unwrap();
    });
    if !kept {
        eprintln!("skipped: no ACLs on this file system");
    }
    assert!(told.contains(&vec!["SetXattrs".to_owned(), "SetAttributes".to_owned()]), "{told:?}");
    bench.telling(|root| rustix::fs::removexattr(root.join("f"), "user.note").unwrap());
}

#[test]
fn excluded_names_do_not_exist() {
    let mut bench = Bench::prepare();
    let absolute = bench.path("private").to_string_lossy().into_owned();
    bench.config.roots[0].exclude = vec!["*.tmp".to_owned(), "sub/build/".to_owned(), absolute];
    fs::create_dir_all(bench.path("sub/build/x")).unwrap();
    fs::create_dir(bench.path("private")).unwrap();
    fs::write(bench.path("private/key"), b"k").unwrap();
    fs::write(bench.path("sub/a.tmp"), b"t").unwrap();
    fs::write(bench.path("sub/a"), b"a").unwrap();
    bench.start(Start::First);
    bench.barrier();
    let names = |bench: &Bench| -> Vec<String> {
        let model = bench.model.lock();
        let shown = model.names.keys().filter(|edge| !edge.parent.is_kept_area());
        let mut names: Vec<_> =
            shown.map(|edge| String::from_utf8_lossy(edge.name.as_bytes()).into_owned()).collect();
        names.sort();
        names
    };
    assert_eq!(names(&bench), ["a", "sub"]);
    fs::rename(bench.path("sub/a.tmp"), bench.path("sub/b")).unwrap();
    fs::rename(bench.path("sub/a"), bench.path("sub/c.tmp")).unwrap();
    fs::write(bench.path("private/key2"), b"k").unwrap();
    fs::write(bench.path("sub/build/y"), b"k").unwrap();
    bench.barrier();
    assert_eq!(names(&bench), ["b", "sub"]);
}

#[test]
fn between_roots_it_is_removed_and_created() {
    let mut bench = Bench::prepare();
    bench.config.debounce = PATIENCE;
    let second = bench.directory.path().join("second");
    fs::create_dir(&second).unwrap();
    bench.config.roots.push(CaptureRoot { number: RootNo(1), path: second.clone(), exclude: Vec::new() });
    fs::create_dir(bench.path("d")).unwrap();
    fs::write(bench.path("d/f"), b"x").unwrap();
    bench.start(Start::First);
    bench.check();
    let told = bench.telling(|root| fs::rename(root.join("d"), second.join("d")).unwrap());
    let count = |word: &str| told.iter().flatten().filter(|event| *event == word).count();
    assert_eq!((count("Remove"), count("Create"), count("Rename")), (1, 2, 0), "{told:?}");
    // One inode with a name in each root: a node of each root, both with its bytes.
    bench.telling(|root| fs::hard_link(second.join("d/f"), root.join("g")).unwrap());
    bench.telling(|root| fs::write(root.join("g"), b"seen in one root").unwrap());
    bench.telling(|_| fs::write(second.join("d/f"), b"in the other").unwrap());
}

#[test]
fn a_file_that_never_rests_is_captured_whole_in_the_end() {
    let mut bench = Bench::new();
    let path = bench.path("log");
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let file = fs::OpenOptions::new().create(true).append(true).open(&path).unwrap();
            let mut length = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                rustix::io::write(&file, &[7; 3000]).unwrap();
                length += 3000;
                if length > 8_000_000 {
                    file.set_len(5).unwrap();
                    length = 5;
                }
            }
        });
        for _ in 0..10 {
            std::thread::sleep(Duration::from_millis(20));
            bench.barrier();
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    bench.check();
}

#[test]
fn a_writer_that_never_pauses() {
    let mut bench = Bench::new();
    let (root, outside) = (bench.root(), bench.outside());
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = super::random::Random::new(4711);
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                super::random::operate(&mut random, &root, &outside);
            }
        });
        for _ in 0..20 {
            std::thread::sleep(Duration::from_millis(50));
            bench.barrier();
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    bench.check();
}

#[test]
fn versions_are_captured_as_they_happen() {
    let mut bench = Bench::new();
    fs::write(bench.path("f"), b"0").unwrap();
    bench.barrier();
    let before = bench.told();
    for n in 1..=3 {
        fs::write(bench.path("f"), format!("{n}")).unwrap();
        let started = std::time::Instant::now();
        while bench.told() < before + n && started.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    assert_eq!(bench.told_since(before), words(&[&["Write", "SetAttributes"] as &[&str]; 3]));
}

/// A capability-free agent: what root is allowed is not what is tested.
#[test]
fn unreadable_things_are_reported_and_kept_later() {
    if !rustix::process::geteuid().is_root() {
        return unreadable();
    }
    let nobody = || {
        let user = rustix::process::Uid::from_raw(65534);
        // Credentials of a thread are inherited by the threads it starts.
        rustix::thread::set_thread_res_uid(user, user, user).unwrap();
        unreadable();
    };
    std::thread::spawn(nobody).join().unwrap();
}

fn unreadable() {
    let mut bench = Bench::prepare();
    let mode = |name: &str, mode: u32| {
        fs::set_permissions(bench.path(name), fs::Permissions::from_mode(mode)).unwrap()
    };
    fs::write(bench.path("f"), b"secret").unwrap();
    fs::create_dir(bench.path("d")).unwrap();
    fs::write(bench.path("d/g"), b"below").unwrap();
    mode("f", 0);
    mode("d", 0);
    bench.start(Start::First);
    bench.barrier();
    let skipped = |bench: &Bench| -> Vec<(Vec<u8>, Option<SkippedWhat>)> {
        let model = bench.model.lock();
        model
            .markers
            .iter()
            .filter_map(|(_, marker)| match marker {
                Marker::Skipped { path, what, errno, .. } => {
                    assert_eq!(*errno, 13);
                    Some((path.clone(), Some(*what)))
                }
                Marker::Unskipped { path, .. } => Some((path.clone(), None)),
                _ => None,
            })
            .collect()
    };
    let mut told = skipped(&bench);
    told.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(told, [(b"d".to_vec(), Some(SkippedWhat::Node)), (b"f".to_vec(), Some(SkippedWhat::Content))]);
    bench.expect_skipped(2);
    let mode = |name: &str, mode: u32| {
        fs::set_permissions(bench.path(name), fs::Permissions::from_mode(mode)).unwrap()
    };
    mode("f", 0o600);
    mode("d", 0o700);
    bench.check();
    let told = skipped(&bench);
    assert_eq!(told.iter().filter(|(_, what)| what.is_none()).count(), 2, "{told:?}");
    bench.expect_skipped(0);
    // Unreadable again: what the stream has stays.
    let mode = |name: &str, mode: u32| {
        fs::set_permissions(bench.path(name), fs::Permissions::from_mode(mode)).unwrap()
    };
    mode("d", 0);
    bench.barrier();
    assert!(bench.model.lock().names.keys().any(|edge| edge.name.as_bytes() == b"g"));
    let mode = |name: &str, mode: u32| {
        fs::set_permissions(bench.path(name), fs::Permissions::from_mode(mode)).unwrap()
    };
    mode("d", 0o700);
    bench.check();
}

#[test]
fn mounts_are_reported_and_not_entered() {
    let mut bench = Bench::new();
    bench.telling(|root| {
        fs::create_dir(root.join("m")).unwrap();
        fs::write(root.join("m/under"), b"x").unwrap();
    });
    let mount = |arguments: &[&str], path: &std::path::Path| {
        std::process::Command::new(arguments[0])
            .args(&arguments[1..])
            .arg(path)
            .status()
            .is_ok_and(|s| s.success())
    };
    if !rustix::process::geteuid().is_root() || !mount(&["mount", "-t", "tmpfs", "none"], &bench.path("m")) {
        eprintln!("skipped: mounting needs root");
        return;
    }
    fs::write(bench.path("m/over"), b"not ours").unwrap();
    let started = std::time::Instant::now();
    let reported = |bench: &Bench| {
        let model = bench.model.lock();
        let is = |marker: &Marker| matches!(marker, Marker::Skipped { what: SkippedWhat::MountPoint, path, .. } if path == b"m");
        model.markers.iter().any(|(_, marker)| is(marker))
    };
    while !reported(&bench) && started.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(10));
    }
    let seen = reported(&bench);
    bench.barrier();
    let names: Vec<_> = bench.model.lock().names.keys().map(|edge| edge.name.clone()).collect();
    assert!(mount(&["umount"], &bench.path("m")));
    assert!(seen, "a mount makes itself known at once");
    assert!(!names.iter().any(|name| name.as_bytes() == b"over"));
    assert!(names.iter().any(|name| name.as_bytes() == b"under"), "what is covered stays as it was");
    std::thread::sleep(Duration::from_millis(100));
    bench.check();
    let lsn = bench.agent().barrier(99, Class::Application, PATIENCE).unwrap();
    let model = bench.model.lock();
    assert!(
        model
            .markers
            .iter()
            .any(|(_, marker)| matches!(marker, Marker::Unskipped { path, .. } if path == b"m"))
    );
    let mark = Marker::Barrier { cookie: 99, class: Class::Application };
    assert!(model.markers.contains(&(lsn, mark)));
}

#[test]
fn a_second_name_that_came_and_went_is_found_by_a_sweep() {
    let mut bench = Bench::prepare();
    bench.config.debounce = Duration::from_millis(200);
    bench.config.sweep = Duration::from_millis(500);
    fs::write(bench.path("file"), b"before").unwrap();
    bench.start(Start::First);
    bench.check();
    fs::hard_link(bench.path("file"), bench.path("second")).unwrap();
    fs::write(bench.path("second"), b"through another name").unwrap();
    fs::remove_file(bench.path("second")).unwrap();
    let started = std::time::Instant::now();
    while !bench.model.lock().compare(RootNo(0), &bench.root()).is_empty() {
        assert!(started.elapsed() < PATIENCE, "no sweep has found it");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A look finds both names of a file that was written. Before it is read, the directory of the name seen last is removed. The
/// hint that says so stands in a directory whose removal is told next; the bytes are owed under the other name.
#[test]
fn a_write_outlives_the_directory_of_another_name() {
    for depth in ["d", "d/e/g"] {
        let mut bench = Bench::prepare();
        bench.config.debounce = PATIENCE;
        fs::write(bench.path("file"), b"before").unwrap();
        fs::create_dir_all(bench.path(depth)).unwrap();
        fs::hard_link(bench.path("file"), bench.path(depth).join("same")).unwrap();
        fs::write(bench.path("other"), b"").unwrap();
        bench.start(Start::First);
        bench.check();
        let above = bench.path("d");
        bench.model.lock().at_removal = Some(Box::new(move || fs::remove_dir_all(above).unwrap()));
        // Looked at first, so that the name below the directory is the last one.
        fs::write(bench.path("file"), b"after").unwrap();
        // What is removed is told before files are read; and no directory is kept open from then on.
        fs::remove_file(bench.path("other")).unwrap();
        bench.check();
        assert!(bench.model.lock().at_removal.is_none(), "no removal was told");
    }
}
