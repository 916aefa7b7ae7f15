//! Is a session complete or absent, and known to the daemon if it is complete, whenever the daemon is killed?
//!
//! Backups are killed at random moments, and as soon as the repository has a record that the daemon's own journal may not
//! have yet. After each restart the job ends by itself; then the records in the repository are those the daemon lists,
//! one a point, and restic finds every one whole.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};
use tests::compare::assert_same;
use tests::daemon::{World, seed, size};
use tests::restic::Restic;
use tests::rng::Rng;

#[test]
fn backups_survive_kills() {
    let mut rng = Rng::new(seed("backups_survive_kills"));
    let mut world = World::new();
    for number in 0..200 {
        let text = rng.below(u64::MAX).to_string().repeat(200);
        std::fs::write(world.master().join(format!("file-{number}")), text).unwrap();
    }
    world.protect();
    let (repository, password) = (world.path("repository"), world.path("password"));
    std::fs::write(&password, "correct horse\n").unwrap();
    tests::repository::make(&repository, &password);
    let place = (repository.display(), password.display());
    world.ok(&format!("repository add offsite file://{} --password-file {}", place.0, place.1));
    let mut again = 0;
    for round in 0..size(8, 60) {
        for _ in 0..rng.below(5) + 1 {
            let path = world.master().join(format!("file-{}", rng.below(300)));
            std::fs::write(path, rng.below(u64::MAX).to_string().repeat(rng.below(90_000) as usize)).unwrap();
        }
        world.flush();
        let before = names(&repository.join("snapshots")).len();
        let job = world.ok("backup docs --to offsite --detach")["job"].as_str().unwrap().to_owned();
        if round % 2 == 0 {
            let give_up = Instant::now() + Duration::from_secs(20);
            while names(&repository.join("snapshots")).len() == before && Instant::now() < give_up {
                std::hint::spin_loop();
            }
        } else {
            std::thread::sleep(Duration::from_micros(rng.below(150_000)));
        }
        world.kill();
        world.start();
        let ended = world.ok(&format!("job wait {job}"));
        assert_eq!(ended["state"], "done", "round {round}: {ended}");
        again +=
            u32::from(world.list(&format!("log --job {job}")).iter().any(|line| {
                line["text"].as_str().is_some_and(|text| text.contains("before the interruption"))
            }));
        let listed: Vec<_> = world.list("session list");
        let points: BTreeSet<_> = listed.iter().map(|session| session["lsn"].to_string()).collect();
        assert_eq!(points.len(), listed.len(), "round {round}: two sessions of one point: {listed:#?}");
        let listed: BTreeSet<_> = listed.iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect();
        assert_eq!(names(&repository.join("snapshots")), listed, "round {round}");
        world.wait_replicating();
    }
    let missing = || world.ctl("catalog query file-1").stderr.contains("is not catalogued yet");
    let give_up = Instant::now() + Duration::from_secs(60);
    while missing() {
        assert!(Instant::now() < give_up, "a session does not come into the catalog");
        std::thread::sleep(Duration::from_millis(100));
    }
    println!("{again} sessions were found that the daemon had not remembered");
    assert!(again > 0, "no kill hit the moment between the two records");
    restic_agrees(&world, &repository, &password);
}

/// The names of the files in a directory but for unfinished ones, which have names that are no object's.
fn names(directory: &Path) -> BTreeSet<String> {
    // There is none before the first session.
    let entries = std::fs::read_dir(directory).into_iter().flatten();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| !name.starts_with('.')).collect()
}

fn restic_agrees(world: &World, repository: &Path, password: &Path) {
    let restic = Restic::new(repository, password);
    if restic.run(&["check", "--read-data"]).is_none() {
        return;
    }
    let into = world.path("restored");
    restic.run(&["restore", "latest", "--target", into.to_str().unwrap()]).unwrap();
    let restored = into.join(world.master().strip_prefix("/").unwrap());
    assert_same(&world.master(), &restored, "restored by restic");
}
