//! Every verb: what it prints, what it refuses, how it exits.

use crate::world::World;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn scenarios() {
    let world = World::new().await;
    assert_eq!(world.good("scenario list").await.stdout, "");
    let created = world
        .good("--json scenario create docs --root /srv/docs=/replica/docs --exclude *.tmp --retention 2d --journal-max 1GiB")
        .await
        .json();
    assert_eq!(
        (&created["name"], &created["id"], &created["state"]),
        (&json!("docs"), &json!("1"), &json!("stopped"))
    );
    assert_eq!(created["roots"], json!([{ "path": "/srv/docs", "replica_path": "/replica/docs" }]));
    assert_eq!(created["retention_seconds"], 172_800.0);
    assert_eq!(world.good("scenario show docs --json").await.json(), created);
    assert_eq!(world.good("scenario list --json").await.objects(), [created]);
    let table = world.good("scenario list").await.stdout;
    assert_eq!(table, "NAME  ID  STATE    ROOTS\ndocs   1  stopped  /srv/docs\n");

    world.bad("scenario create docs --root /srv/other", 5, "RW1003").await;
    world.bad("scenario create nested --root /srv/a --root /srv/a/b", 2, "RW1011").await;
    world.bad("scenario create inside --root /srv/a=/srv/a/replica", 2, "RW1011").await;
    world.bad("scenario create a/b --root /a", 2, "RW1013").await;
    world.bad("scenario create db --root /srv/db --type postgresql", 2, "RW1009").await;
    world.bad("scenario create fuse --root /srv/db --capture mount", 2, "RW1009").await;
    world.bad("scenario show nothing", 4, "RW1002").await;
    world.bad("scenario set docs colour=blue", 2, "RW1014").await;
    let set = world.good("scenario set docs rewind=off exclude= --json").await.json();
    assert_eq!((&set["rewind"], &set["exclude"]), (&json!(false), &json!([])));

    let verified = world.good("scenario verify docs --json").await.json();
    assert_eq!((&verified["passed"], &verified["findings"][0]["check"]), (&json!(true), &json!("root")));
    world.scenarios(&["partial"]).await;
    assert_eq!(world.run("scenario verify partial").await.exit, 5);

    world.bad("scenario delete docs", 2, "RW1026").await;
    assert_eq!(world.good("scenario delete docs --dry-run --json").await.json()["journal_bytes"], 1 << 20);
    assert_eq!(world.good("scenario delete docs --yes --json").await.json()["journal_bytes"], 4711);
    world.bad("scenario delete docs --yes", 4, "RW1002").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn running() {
    let world = World::new().await;
    world.scenarios(&["docs", "partial"]).await;
    world.bad("flush docs", 5, "RW0465").await;
    world.bad("scenario suspend docs", 5, "RW0457").await;
    world.bad("scenario resume docs", 5, "RW0465").await;
    world.bad("scenario run nothing", 4, "RW1002").await;
    let run = world.good("scenario run docs --json").await.json();
    assert_eq!(
        (&run["files"], &run["state"], &run["ran_already"]),
        (&json!(3), &json!("done"), &json!(false))
    );
    assert_eq!(world.good("scenario run docs --json").await.json()["ran_already"], true);
    let people = world.good("scenario run docs").await.stdout;
    assert_eq!(people, "scenario \"docs\" replicates already\n");

    let incomplete = world.run("scenario run partial").await;
    assert_eq!(incomplete.exit, 3);
    assert!(incomplete.stderr.contains("/srv/docs/secret (content): permission denied"), "{incomplete:?}");
    let incomplete = world.run("scenario run partial --json -q").await;
    assert_eq!(incomplete.exit, 0, "runs already: {incomplete:?}");

    let status = world.good("scenario status docs --json").await.json();
    let expected = json!({
        "name": "docs", "id": "1", "state": "replicating", "cause": null, "captured_lsn": "9", "journaled_lsn": "9",
        "applied_lsn": "8.2", "lag_seconds": 1.5, "spool_bytes": 0, "gaps_open": 0, "skipped": 0, "last_proof": null,
        "last_scrub": null, "scrub_every_seconds": null, "window": status["window"], "archive": null,
    });
    assert_eq!(status, expected);
    let flushed = world.good("flush docs --json --stage journaled").await.json();
    assert_eq!(flushed, json!({ "lsn": "9", "time": "2026-11-21T06:05:00.000000007Z", "class": "fuzzy" }));
    world.bad("flush partial --timeout 100ms", 7, "RW0469").await;
    world.bad("scenario delete docs --yes", 5, "RW1015").await;
    assert_eq!(world.good("scenario suspend docs --json").await.json()["state"], "suspended");
    assert_eq!(world.good("scenario resume docs --json").await.json()["captures_applied"], 2);
    assert_eq!(world.good("scenario stop docs --json").await.json()["state"], "stopped");
    assert_eq!(world.good("scenario stop docs --json").await.json()["state"], "stopped");
}

#[tokio::test(flavor = "multi_thread")]
async fn points_and_bookmarks() {
    let world = World::new().await;
    world.scenarios(&["docs"]).await;
    world.bad("bookmark set docs early", 5, "RW0465").await;
    world.good("scenario run docs").await;
    let bookmark = world.good("bookmark set docs early --json").await.json();
    let time = "2026-11-21T06:05:00.000000007Z";
    let expected = json!({ "name": "early", "lsn": "9", "time": time, "class": "fuzzy", "automatic": false });
    assert_eq!(bookmark, expected);
    world.bad("bookmark set docs early", 5, "RW1005").await;
    world.bad("bookmark set docs a:b", 2, "RW1013").await;
    world.bad("bookmark set docs x --at last-good:9-7", 2, "RW1007").await;
    world.bad("bookmark set docs x --at lsn:x", 2, "RW1007").await;
    world.good("bookmark set docs").await;
    let list = world.good("bookmark list docs --json").await.objects();
    assert_eq!((list.len(), &list[0]), (2, &expected));
    assert!(list[1]["name"].as_str().unwrap().starts_with("20"), "date and time: {}", list[1]);
    world.bad("bookmark delete docs never", 4, "RW1004").await;
    assert_eq!(world.good("bookmark delete docs early --json").await.json(), expected);

    let points = world.good("points docs --limit 2 --since -10m --kind modified --json").await.objects();
    assert_eq!(points.len(), 2);
    assert_eq!(
        points[0],
        json!({
            "lsn": "2", "time": time, "kind": "modified", "path": "/srv/caf\u{fffd}", "path_base64": "L3Nydi9jYWbp",
            "from": null, "bytes": 7, "provenance": "derived", "note": null,
            "retained": true,
        })
    );
    world.bad("points docs --since yesterday", 2, "RW1007").await;
    world.bad("points docs --path a[", 2, "RW1014").await;
    world.bad("points nothing", 4, "RW1002").await;
    // More than any buffer holds, to a reader that goes away.
    let mut command = world.command("points docs --limit 100000");
    command.stdout(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());

    let diff = world.good("diff docs lsn:1 -10m --json").await.objects();
    assert_eq!(
        diff[1],
        json!({ "kind": "renamed", "path": "/srv/docs/c", "from": "/srv/docs/b", "bytes": 0 })
    );
    let people = world.good("diff docs lsn:1").await;
    assert_eq!(people.stdout, "+ /srv/docs/a  (4.0 KiB)\n> /srv/docs/b -> /srv/docs/c\n- /srv/docs/d\n");
    assert!(people.stderr.starts_with("LSN 1 to 5: 1 created"), "{people:?}");
    assert_eq!(world.good("journal stats docs --json").await.json()["oldest_lsn"], "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn windows() {
    let world = World::new().await;
    world.scenarios(&["docs"]).await;
    let window = json!({
        "level": "warning", "percent": 80, "promised_seconds": 1000.0, "held_seconds": 800.0, "over_budget": false
    });
    let status = world.good("scenario status docs --json").await.json();
    assert_eq!(status["window"], window);
    let stats = world.good("journal stats docs --json").await.json();
    assert_eq!(stats["window"], window);
    assert_eq!(stats["journal_bytes_per_changed_byte"], 2.0);
    assert_eq!((&stats["redo_raw_bytes"], &stats["undo_raw_bytes"]), (&json!(1 << 19), &json!(1 << 18)));
    let people = world.good("journal stats docs").await.stdout;
    assert!(people.contains("before packing"), "{people}");
    assert_eq!(stats["pinned"], json!([{ "pin": 3, "lsn": "7", "why": "backup" }]));
    for people in ["scenario status docs", "journal stats docs"] {
        let people = world.good(people).await;
        assert!(people.stdout.contains("(80 %), WARNING"), "{people:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dumps() {
    let world = World::new().await;
    world.scenarios(&["docs"]).await;
    let items = world.good("journal dump docs --json --from 2").await.objects();
    assert_eq!(items.len(), 2);
    let expected = json!({
        "stream": "redo", "segment": 1, "record_offset": 128, "lsn": "2", "kind": "write", "offset": 7,
        "time": items[0]["time"], "path": "a\u{fffd}", "path_base64": "Yf8=", "xattr": ["one", "two"],
        "last_part": true
    });
    assert_eq!(items[0], expected);
    assert_eq!(world.good("journal dump docs --to 1").await.stdout.lines().count(), 1);
    world.bad("journal dump docs --from 3 --to 2", 2, "RW0468").await;
    world.bad("journal dump nothing", 4, "RW1002").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rewinding() {
    let world = World::new().await;
    world.bad("rewind --to now", 4, "RW1002").await;
    world.scenarios(&["docs"]).await;
    world.good("scenario run docs").await;
    world.bad("rewind docs --to lsn:3", 2, "RW1026").await;
    world.bad("rewind docs --to lsn:99 --yes", 4, "RW1008").await;
    world.bad("rewind docs --to never --yes", 4, "RW1004").await;
    world.bad("rewind docs --to never --onto /tmp/x", 4, "RW1004").await;

    let plan = world.good("rewind docs --to lsn:3 --dry-run --json").await.json();
    assert_eq!(plan["changes"].as_array().unwrap().len(), 3);
    assert_eq!((&plan["dry_run"], &plan["to_lsn"], &plan["created"]), (&json!(true), &json!("3"), &json!(1)));
    assert_eq!(plan["warnings"], json!(["look"]));
    assert_eq!(world.good("scenario status docs --json").await.json()["state"], "replicating");

    let ran = world.good("rewind --to -10m --yes --json").await;
    let rewound = ran.json();
    assert_eq!((&rewound["to_lsn"], &rewound["before"]), (&json!("5"), &json!("before-rewind")));
    assert_eq!((&rewound["files_changed"], &rewound["bytes_written"]), (&json!(3), &json!(4096)));
    assert_eq!(rewound["elapsed_seconds"], 0.25);
    assert!(ran.stderr.contains("1 created") && ran.stderr.contains("scenario resume docs"), "{ran:?}");
    world.bad("flush docs", 5, "RW0465").await;
    let people = world.good("rewind docs --to lsn:3 --yes").await;
    assert!(people.stdout.starts_with("Rewind process is completed successfully"), "{people:?}");
    assert!(people.stderr.contains("restorectl rewind docs --to bookmark:before-rewind"), "{people:?}");
    let aside = world.good("rewind docs --to lsn:3 --onto /tmp/x --json").await.json();
    assert_eq!(aside["before"], json!(null));
    let silent = world.good("rewind docs --to lsn:3 --yes -q").await;
    assert_eq!((silent.stdout.as_str(), silent.stderr.as_str()), ("", ""));

    world.scenarios(&["other"]).await;
    world.bad("rewind --to now --yes", 2, "RW1027").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn log() {
    let world = World::new().await;
    world.scenarios(&["docs", "other"]).await;
    world.good("scenario run docs").await;
    let lines = world.good("log --scenario docs --json").await.objects();
    let texts: Vec<_> = lines.iter().map(|line| line["text"].as_str().unwrap()).collect();
    assert_eq!(
        texts,
        ["scenario was created", "job 1 (run) started", "synchronized", "job 1 (run) succeeded"]
    );
    assert_eq!(lines[2]["job"], "1");
    assert_eq!(world.good("log --job 1 --json").await.objects().len(), 3);
    assert_eq!(world.good("log --since 2099-01-01T00:00:00Z --json").await.objects().len(), 0);
    world.bad("log --job x", 4, "RW1006").await;

    let mut command = world.command("log --follow --scenario other --json");
    command.stdout(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut reader = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut next = move || {
        let mut line = String::new();
        std::io::BufRead::read_line(&mut reader, &mut line).unwrap();
        line
    };
    let first = next();
    assert!(first.contains("scenario was created"), "{first}");
    world.good("scenario run other").await;
    let second = next();
    assert!(second.contains("started"), "{second}");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_daemon() {
    let mut world = World::new().await;
    world.stop().await;
    world.bad("scenario list", 1, "RW1001").await;
    let explained = world.good("explain 0465 --json").await.json();
    assert_eq!((&explained["code"], &explained["exit"]), (&json!("RW0465"), &json!(5)));
    world.bad("explain RW9999", 4, "RW1030").await;
    assert!(world.good("explain --json").await.objects().len() > 30);
    for shell in ["bash", "zsh", "fish"] {
        assert!(world.good(&format!("completions {shell}")).await.stdout.contains("scenario"), "{shell}");
    }
    let man = world.good("man").await.stdout;
    for part in [".TH RESTORECTL 1", "restorectl rewind", "\\-\\-onto"] {
        assert!(man.contains(part), "{part}");
    }
    let help = world.good("help scenario run").await.stdout;
    assert!(help.contains("--ignore-same"), "{help}");
    let usage = world.run("scenario frobnicate").await;
    assert_eq!((usage.exit, usage.stdout.as_str()), (2, ""));
    let usage = world.run("scenario frobnicate --json").await;
    assert_eq!((usage.exit, &usage.json()["error"]["code"]), (2, &json!("RW1028")));
}
