//! Does a held job wait until it is released, also when the daemon is killed meanwhile?
//!
//! All threads for jobs are taken by checks of a repository whose store has stopped answering, so that the next job waits
//! for as long as the test wants.

use serde_json::Value;
use tests::daemon::World;
use tests::pair::until;
use tests::s3::{BUCKET, ObjectStore};

/// Jobs under way at once.
const THREADS: usize = 8;

fn in_state(world: &World, state: &str) -> Vec<String> {
    let jobs = world.list(&format!("job list --state {state}"));
    jobs.iter().map(|job| job["id"].as_str().unwrap().to_owned()).collect()
}

/// The state of a job; it is the same by every way to ask for it.
fn state(world: &World, job: &str) -> String {
    let shown: Value = world.ok(&format!("job show {job}"));
    shown["state"].as_str().unwrap().to_owned()
}

#[test]
fn a_held_job_waits_for_its_release_and_outlives_the_daemon() {
    let Some(store) = ObjectStore::start() else { return };
    let mut world = World::idle();
    world.wrapper.push("env".to_owned());
    world.wrapper.extend(store.environment().into_iter().map(|(name, value)| format!("{name}={value}")));
    let password = world.path("password");
    std::fs::write(&password, "correct horse\n").unwrap();
    world.start();
    let here = format!("file://{}", world.path("repository").display());
    for (name, url) in [("far", format!("s3://{BUCKET}/p")), ("near", here)] {
        world.ok(&format!("repository add {name} {url} --password-file {}", password.display()));
    }
    store.pause();
    let submit = |name: &str| {
        let job = world.ok(&format!("repository check {name} --detach"));
        job["job"].as_str().unwrap().to_owned()
    };
    let far: Vec<String> = (0..THREADS).map(|_| submit("far")).collect();
    until("all threads are taken", || in_state(&world, "active").len() == THREADS);
    let (held, free) = (submit("near"), submit("near"));
    assert_eq!(state(&world, &held), "ready");

    let answer = world.ok(&format!("job hold {held}"));
    assert_eq!(
        (answer["id"].as_str(), answer["state"].as_str()),
        (Some(held.as_str()), Some("hold")),
        "{answer}"
    );
    assert_eq!(world.ok(&format!("job hold {held}"))["state"], "hold");
    assert_eq!(in_state(&world, "hold"), [held.as_str()]);
    let refused = world.refused(&format!("job hold {}", far[0]), 5, "RW1122");
    let action = refused.objects()[0]["error"]["action"].as_str().unwrap().to_owned();
    assert!(action.contains(&format!("job cancel {}", far[0])), "{action}");
    world.refused("job hold 999", 4, "RW1006");
    world.refused("job release nonsense", 4, "RW1006");

    world.kill();
    world.start();
    assert_eq!(in_state(&world, "hold"), [held.as_str()]);
    store.resume();
    for job in far.iter().chain([&free]) {
        assert_eq!(world.ok(&format!("job wait {job}"))["state"], "done");
    }
    let still = world.ok(&format!("job show {held}"));
    assert_eq!((still["state"].as_str(), still["started"].is_null()), (Some("hold"), true), "{still}");
    world.refused(&format!("job hold {free}"), 5, "RW1123");
    world.refused(&format!("job release {free}"), 5, "RW1123");

    assert_ne!(world.ok(&format!("job release {held}"))["state"], "hold");
    assert_eq!(world.ok(&format!("job wait {held}"))["state"], "done");
    assert!(in_state(&world, "hold").is_empty());
    let log = world.list(&format!("log --job {held}"));
    let said =
        |what: &str| log.iter().any(|line| line["text"].as_str().is_some_and(|text| text.contains(what)));
    assert!(said("is held") && said("is released"), "{log:?}");
}
