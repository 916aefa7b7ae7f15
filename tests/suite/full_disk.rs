//! A replica whose disk is full: does it say so, go on by itself when there is room, and lose nothing, also in the
//! middle of the first synchronization?

use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use tests::chaos::Chaos;
use tests::compare::assert_same;
use tests::daemon::{World, is_root, seed};
use tests::keep::Keeper;

/// What the daemon leaves free, and room for the test.
const FREE_MIN: u64 = 1 << 30;
const ROOM: u64 = 256 << 20;

/// A file system of a known size, in memory, on the directory of replicas.
struct Disk(PathBuf);

impl Disk {
    /// `None`: this needs root, and says so.
    fn mount(at: PathBuf) -> Option<Disk> {
        if !is_root() {
            eprintln!("skipped: mounting a file system needs root");
            return None;
        }
        fs::DirBuilder::new().mode(0o700).create(&at).unwrap();
        let size = format!("size={},mode=0700", FREE_MIN + ROOM);
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "none"]).arg(&at).status();
        assert!(mounted.unwrap().success());
        Some(Disk(at))
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }

    /// Leaves less than the daemon wants to be left.
    fn fill(&self) {
        let file = fs::File::create(self.filler()).unwrap();
        let mode = rustix::fs::FallocateFlags::empty();
        rustix::fs::fallocate(&file, mode, 0, ROOM).unwrap();
        assert_eq!(file.metadata().unwrap().size(), ROOM);
    }

    fn empty(&self) {
        fs::remove_file(self.filler()).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(&self.0).status();
        assert!(unmounted.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}

fn wait_for_cause(world: &World, word: &str) {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let status = world.ok("scenario status docs");
        if status["cause"].as_str().is_some_and(|cause| cause.contains(word)) {
            return;
        }
        assert!(Instant::now() < until, "{status}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn equal(master: &Path, replica: &Path, when: &str) {
    assert_same(master, replica, when);
}

#[test]
fn apply_pauses_and_goes_on() {
    let mut world = World::idle();
    let Some(disk) = Disk::mount(world.path("r")) else { return };
    let seed = seed("apply_pauses_and_goes_on");
    let mut chaos = Chaos::new(&world.master(), seed);
    chaos.change(200);
    world.start();
    world.protect();
    let kept = world.path("kept");
    Keeper::new(&world.master()).keep(&kept);
    world.ok("bookmark set docs mark");
    disk.fill();
    chaos.change(300);
    wait_for_cause(&world, "until there is room");
    // Ingest goes on: nothing waits on the master.
    let flushed = world.ok("flush docs --stage journaled");
    let status = world.ok("scenario status docs");
    assert_ne!(status["applied_lsn"], flushed["lsn"], "{status}");
    chaos.change(100);
    disk.empty();
    world.flush();
    equal(&world.master(), &world.replica(), "after there was room");
    let read = world.read_at("mark", "read");
    equal(&kept, &read, "the point before the disk was full");
}

#[test]
fn the_first_synchronization_waits_and_nothing_can_be_marked_meanwhile() {
    let mut world = World::idle();
    let Some(disk) = Disk::mount(world.path("r")) else { return };
    let seed = seed("the_first_synchronization_waits");
    let mut chaos = Chaos::new(&world.master(), seed);
    chaos.change(300);
    disk.fill();
    world.start();
    world.ok(&world.create_line("docs"));
    let job = world.ok("scenario run docs --detach")["job"].as_str().unwrap().to_owned();
    wait_for_cause(&world, "until there is room");
    assert_eq!(world.ok("scenario status docs")["state"], "synchronizing");
    world.refused("bookmark set docs early", 5, "RW1016");
    world.refused("rewind docs --to now --yes", 5, "RW1016");
    assert!(world.list("bookmark list docs").is_empty());
    chaos.change(100);
    disk.empty();
    world.ok(&format!("job wait {job}"));
    world.flush();
    equal(&world.master(), &world.replica(), "after the synchronization");
    world.ok("bookmark set docs late");
}
