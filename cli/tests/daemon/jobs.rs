//! Jobs from outside: detached, waited for, cancelled, in one another's way, over a restart.

use crate::world::World;
use serde_json::json;
use std::sync::atomic::Ordering;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn detached_and_waited_for() {
    let world = World::new().await;
    world.scenarios(&["slow"]).await;
    let detached = world.good("scenario run slow --detach --json").await.json();
    assert_eq!(detached["job"], "1");
    world.bad("job wait 1 --timeout 200ms", 7, "RW0469").await;
    world.bad("scenario run slow", 5, "RW0470").await;
    let active = world.good("job list --state active --json").await.json();
    assert_eq!(
        (&active["id"], &active["kind"], &active["outcome"]),
        (&json!("1"), &json!("run"), &json!(null))
    );
    assert_eq!(active["progress"]["phase"], "working");
    world.wiring.gate.store(true, Ordering::SeqCst);
    let waited = world.good("job wait 1 --json --progress json").await;
    assert_eq!(waited.json()["files"], 3);
    let shown = world.good("job show 1 --json").await.json();
    assert_eq!((&shown["state"], &shown["outcome"]), (&json!("done"), &json!("succeeded")));
    assert_eq!(world.good("job list --state ready --json").await.objects().len(), 0);
    world.bad("job show 99", 4, "RW1006").await;
    world.bad("job wait one", 4, "RW1006").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys() {
    let world = World::new().await;
    world.scenarios(&["docs"]).await;
    let line = "scenario run docs --detach --idempotency-key k1";
    assert_eq!(world.good(line).await.stdout, "1\n");
    assert_eq!(world.good(line).await.stdout, "1\n");
    world.good("job wait 1").await;
    assert_eq!(world.good(line).await.stdout, "1\n");
    world.bad("journal verify docs --idempotency-key k1", 2, "RW0468").await;
    assert_eq!(world.wiring.runs.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelled() {
    let world = World::new().await;
    world.scenarios(&["slow"]).await;
    world.good("scenario run slow --detach").await;
    world.good("job cancel 1").await;
    world.bad("job wait 1", 130, "RW1025").await;
    assert_eq!(world.good("job show 1 --json").await.json()["outcome"], "cancelled");

    // Ctrl-C asks the job to cancel.
    let child = world.command("scenario run slow").stderr(std::process::Stdio::piped()).spawn().unwrap();
    while world.good("job list --state active --json").await.objects().is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // The job may be active before its client listens for signals.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let pid = rustix::process::Pid::from_raw(child.id().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let output = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap();
    let ran = crate::world::ran(&output);
    assert_eq!(ran.exit, 130, "{ran:?}");
    assert!(ran.stderr.contains("asked job 2 to cancel"), "{ran:?}");

    // A start is cancelled by stopping the scenario.
    world.good("scenario run slow --detach").await;
    assert_eq!(world.good("scenario stop slow --json").await.json()["state"], "stopped");
    assert_eq!(world.good("job show 3 --json").await.json()["outcome"], "cancelled");
}

#[tokio::test(flavor = "multi_thread")]
async fn damage() {
    let world = World::new().await;
    world.scenarios(&["damaged", "docs", "rows"]).await;
    assert_eq!(world.good("journal verify docs --json").await.json()["damage"], json!([]));
    assert_eq!(world.good("journal rebuild docs --json").await.json()["rows"], 20);
    let ran = world.run("journal verify rows --json").await;
    assert_eq!((ran.exit, &ran.json()["error"]["code"]), (8, &json!("RW1100")));
    assert_eq!(ran.json()["tables"]["differences"][0]["what"], "it is missing");
    let people = world.run("journal verify rows").await;
    assert!(people.stdout.contains("names #2/a: it is missing"), "{people:?}");
    let ran = world.run("journal verify damaged --json").await;
    assert_eq!(ran.exit, 8);
    let expected = json!([{ "file": "/d/journal/damaged/1.seg", "offset": 77, "what": "bad checksum" }]);
    assert_eq!((&ran.json()["damage"], &ran.json()["error"]["code"]), (&expected, &json!("RW1017")));
    let people = world.run("journal verify damaged").await;
    assert_eq!(people.exit, 8);
    assert!(people.stdout.contains("/d/journal/damaged/1.seg at offset 77: bad checksum"), "{people:?}");
    assert!(people.stderr.contains("error[RW1017]"), "{people:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_in_between() {
    let mut world = World::new().await;
    world.scenarios(&["slow"]).await;
    let mut command = world.command("scenario run slow --json");
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let child = command.spawn().unwrap();
    while world.good("job list --state active --json").await.objects().is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let begun = std::time::Instant::now();
    world.stop().await;
    assert!(begun.elapsed() < Duration::from_secs(5), "a stop takes {:?}", begun.elapsed());
    // All projections may vanish while the daemon is down.
    std::fs::remove_dir_all(world.place.path().join("data/projections")).unwrap();
    world.wiring.gate.store(true, Ordering::SeqCst);
    world.start(|options| options).await.unwrap();
    let output = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap();
    let ran = crate::world::ran(&output);
    assert_eq!((ran.exit, &ran.json()["files"]), (0, &json!(3)), "{ran:?}");
    assert!(ran.stderr.contains("went away"), "{ran:?}");
    assert_eq!(world.wiring.runs.load(Ordering::SeqCst), 2);
}
