//! Do master and replica work as two processes, over TLS, across restarts, and for nobody who is not let in?

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use tests::compare::{Options, compare};
use tests::pair::{Authority, MASTER, Pair, until};
use tests::rng::Rng;

/// A tree of some variety.
fn fill(top: &Path) {
    for directory in ["a", "a/deep", "b", "empty"] {
        fs::create_dir(top.join(directory)).unwrap();
    }
    let mut rng = Rng::new(7);
    for number in 0..40 {
        let size = rng.below(9000) as usize;
        fs::write(top.join(format!("a/deep/{number}")), rng.bytes(size)).unwrap();
    }
    fs::write(top.join("b/large"), rng.bytes(3 << 20)).unwrap();
    fs::write(top.join("b/script"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(top.join("b/script"), fs::Permissions::from_mode(0o750)).unwrap();
    symlink("../nowhere", top.join("a/link")).unwrap();
    fs::hard_link(top.join("b/large"), top.join("a/other name")).unwrap();
}

/// Changes that differ from round to round.
fn change(top: &Path, round: u64) {
    let mut rng = Rng::new(100 + round);
    fs::write(top.join(format!("a/new {round}")), rng.bytes(5000)).unwrap();
    fs::write(top.join("a/deep/3"), format!("round {round}")).unwrap();
    fs::rename(top.join(format!("a/deep/{}", 10 + round)), top.join(format!("b/moved {round}"))).unwrap();
    fs::remove_file(top.join(format!("a/deep/{}", 25 + round))).unwrap();
    fs::create_dir(top.join(format!("b/dir {round}"))).unwrap();
}

fn copy(from: &Path, to: &Path) {
    let status = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(status.success());
    let report = compare(from, to, &Options::default()).unwrap();
    assert!(report.is_equal(), "{report}");
}

#[test]
fn the_whole_way() {
    let mut pair = Pair::new();
    pair.start();
    let m = pair.path("m");
    fill(&m);
    pair.protect();
    pair.flush();
    pair.assert_equal();

    change(&m, 1);
    pair.flush();
    pair.assert_equal();
    pair.replica.ok("bookmark set docs before");
    copy(&m, &pair.path("before"));
    fs::remove_dir_all(m.join("a")).unwrap();
    fs::write(m.join("b/large"), "ruined").unwrap();
    pair.flush();
    pair.assert_equal();

    pair.replica.ok("rewind docs --to before --onto replica --yes");
    pair.assert_same(&pair.path("before"), &pair.path("r/m"));
    assert_eq!(pair.replica.ok("scenario status docs")["state"], "detached");
    pair.replica.refused("flush docs", 5, "RW0465");
    // The master works on meanwhile.
    fs::write(m.join("b/while detached"), "kept").unwrap();
    pair.replica.ok("scenario resume docs");
    pair.flush();
    pair.assert_equal();
    let onto = pair.path("read");
    pair.replica.ok(&format!("rewind docs --to before --onto {}", onto.display()));
    pair.assert_same(&pair.path("before"), &onto);
    pair.replica.stop();
    pair.master.stop();
}

#[test]
fn what_the_master_says_of_itself() {
    let mut pair = Pair::new();
    pair.start();
    until("the master knows that there is nothing", || {
        pair.master.ctl("scenario status docs").code() == "RW1002"
    });
    fill(&pair.path("m"));
    pair.protect();
    let status = pair.master.ok("scenario status docs");
    assert_eq!(status["state"], "replicating", "{status}");
    assert_eq!(pair.master.ok("scenario list")["name"], "docs");
    fs::write(pair.path("m/seen from here"), "x").unwrap();
    let flushed = pair.master.ok("flush docs");
    pair.assert_equal();
    // Marks of the master's own may have come behind the barrier.
    let lsn = |value: &serde_json::Value| value.as_str().unwrap().parse::<u64>().unwrap();
    let status = pair.replica.ok("scenario status docs");
    assert!(lsn(&status["applied_lsn"]) >= lsn(&flushed["lsn"]), "{flushed} {status}");
    // Everything else belongs to the replica.
    for line in [
        "scenario stop docs",
        "bookmark set docs x",
        "journal stats docs",
        "points docs",
        "scenario run docs",
    ] {
        pair.master.refused(line, 2, "RW0467");
    }
    pair.master.refused(&format!("scenario create more --root {}", pair.path("m").display()), 2, "RW0467");

    // A scenario that is made again is another one.
    pair.replica.ok("scenario stop docs");
    pair.replica.ok("scenario set docs spool-max=64MiB");
    pair.replica.ok("scenario run docs");
    change(&pair.path("m"), 1);
    pair.flush();
    pair.assert_equal();
    pair.replica.ok("scenario stop docs");
    pair.replica.ok("journal rebuild docs");
    pair.replica.ok("scenario delete docs --yes");
    until("the master has heard", || pair.master.ctl("scenario status docs").exit == 4);
    assert_eq!(fs::read_dir(pair.path("master/spool")).unwrap().count(), 0);
    fs::remove_dir_all(pair.path("r")).unwrap();
    pair.protect();
    pair.flush();
    pair.assert_equal();
}

#[test]
fn either_side_restarts_and_misses_nothing() {
    let mut pair = Pair::new();
    pair.start();
    let m = pair.path("m");
    fill(&m);
    pair.protect();
    let mut points = Vec::new();
    for round in 0..6_u64 {
        change(&m, round);
        points.push(pair.flush());
        copy(&m, &pair.path(&format!("copy {round}")));
        match round {
            0 => pair.master.stop(),
            1 => pair.master.kill(),
            2 => pair.replica.stop(),
            3 => pair.replica.kill(),
            4 => {
                pair.replica.kill();
                pair.master.stop();
            }
            _ => {
                pair.replica.stop();
                pair.master.kill();
            }
        }
        // Nobody on one side looks; or nobody on the other listens.
        fs::write(m.join(format!("b/meanwhile {round}")), format!("{round}")).unwrap();
        fs::remove_dir(m.join(format!("b/dir {round}"))).unwrap();
        if matches!(round, 2 | 3) {
            // What the master takes in has a place to wait.
            pair.master.ok("flush docs --stage captured");
        }
        if matches!(round, 2..=5) {
            pair.replica.start();
        }
        if !matches!(round, 2 | 3) {
            pair.master.start();
        }
        pair.wait_replicating();
        pair.flush();
        pair.assert_equal();
    }
    for (round, lsn) in points.iter().enumerate() {
        let onto = pair.path(&format!("at {round}")).display().to_string().replace(' ', "-");
        pair.replica.ok(&format!("rewind docs --to lsn:{lsn} --onto {onto}"));
        pair.assert_same(&pair.path(&format!("copy {round}")), Path::new(&onto));
    }
}

#[test]
fn a_large_file_arrives_across_kills_of_the_replica() {
    let mut pair = Pair::new();
    pair.start();
    fs::write(pair.path("m/large"), b"small").unwrap();
    pair.protect();
    for round in 0..3_u64 {
        // One capture of many parts: some of them are acknowledged when the replica dies.
        fs::write(pair.path("m/large"), Rng::new(round).bytes(80 << 20)).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(300 + 400 * round));
        pair.replica.kill();
        pair.replica.start();
        pair.wait_replicating();
        pair.flush();
        pair.assert_equal();
    }
}

#[test]
fn a_master_that_came_back_older_splices_nothing() {
    let mut pair = Pair::new();
    pair.start();
    let m = pair.path("m");
    fill(&m);
    pair.protect();
    pair.flush();
    pair.master.stop();
    let saved = pair.path("saved");
    let copied = |from: &Path, to: &Path| {
        assert!(std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
    };
    copied(&pair.master.data(), &saved);
    pair.master.start();
    pair.wait_replicating();
    change(&m, 1);
    let before = pair.flush();
    copy(&m, &pair.path("before"));
    pair.master.stop();
    // Spool and index are as they were; the tree is not. What is captured now would fit behind what is journaled.
    fs::remove_dir_all(pair.master.data()).unwrap();
    copied(&saved, &pair.master.data());
    pair.replica.stop();
    pair.master.start();
    for round in 2..8 {
        change(&m, round);
    }
    pair.replica.start();
    pair.wait_replicating();
    pair.flush();
    pair.assert_equal();
    let onto = pair.path("at-before");
    pair.replica.ok(&format!("rewind docs --to lsn:{before} --onto {}", onto.display()));
    pair.assert_same(&pair.path("before"), &onto);
    let log = pair.replica.ctl("log --scenario docs");
    assert!(log.stdout.contains("a master was refused"), "{log:?}");
}

#[test]
fn a_stop_reaches_a_master_that_was_away() {
    let mut pair = Pair::new();
    pair.start();
    fill(&pair.path("m"));
    pair.protect();
    pair.master.stop();
    pair.replica.ok("scenario stop docs");
    pair.master.start();
    until("the master has stopped", || {
        pair.master.ctl("scenario status docs").stdout.contains("\"stopped\"")
    });
    let before = pair.replica.ok("scenario status docs")["journaled_lsn"].clone();
    change(&pair.path("m"), 1);
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert_eq!(pair.replica.ok("scenario status docs")["journaled_lsn"], before);
    pair.replica.ok("scenario run docs");
    pair.flush();
    pair.assert_equal();
}

#[test]
fn certificates_decide_who_gets_in() {
    let mut pair = Pair::new();
    let here = pair.path("");
    let foreign = Authority::new();
    foreign.issue(&here, "foreign", &[MASTER], false);
    fs::copy(pair.path("master.ca"), pair.path("foreign.ca")).unwrap();
    pair.authority.issue(&here, "expired", &[MASTER], true);
    // One that is no master, and one that is another.
    pair.authority.issue(&here, "stranger", &["prod3.example.com"], false);
    pair.authority.issue(&here, "other", &["prod2.example.com"], false);
    pair.authority.issue(&here, "distrusting", &[MASTER], false);
    fs::write(pair.path("distrusting.ca"), {
        foreign.issue(&here, "scratch", &["x"], false);
        fs::read(pair.path("scratch.ca")).unwrap()
    })
    .unwrap();

    let address = pair.start_replica();
    let r = pair.path("r/m");
    fill(&pair.path("m"));
    pair.create();
    let before = pair.replica.ok("scenario status docs");
    let cases = [
        ("foreign", "RW1021"),
        ("expired", "RW1021"),
        ("distrusting", "RW1021"),
        ("stranger", "RW0459"),
        ("other", "RW0459"),
    ];
    for (files, code) in cases {
        pair.configure_master(files, &address);
        pair.master.start();
        until(&format!("{files} is told why"), || pair.master.ctl("scenario list").code() == code);
        pair.master.refused("scenario status docs", 6, code);
        assert_eq!(pair.replica.ok("scenario status docs"), before, "{files}");
        pair.master.stop();
    }
    pair.replica.refused("scenario run docs", 1, "RW0463");
    assert!(!r.exists() || fs::read_dir(&r).unwrap().next().is_none(), "the replica tree was touched");

    // The right files, put in place of the wrong ones while the master runs, count from the next connection on.
    pair.configure_master("expired", &address);
    pair.master.start();
    until("the master is told why", || pair.master.ctl("scenario list").code() == "RW1021");
    for kind in ["crt", "key"] {
        fs::copy(pair.path(&format!("master.{kind}")), pair.path(&format!("expired.{kind}"))).unwrap();
    }
    until("the master is let in", || pair.master.ctl("scenario list").exit == 0);
    pair.replica.ok("scenario run docs");
    pair.flush();
    pair.assert_equal();

    // A master's certificate opens nothing but the stream.
    let files = ["ca", "crt", "key"].map(|kind| pair.path(&format!("master.{kind}")).display().to_string());
    let [ca, crt, key] = files;
    let line = format!("--endpoint https://{address} --ca {ca} --cert {crt} --key {key} scenario list");
    pair.replica.refused(&line, 6, "RW0459");
}

#[test]
fn an_expired_replica_is_not_trusted() {
    let mut pair = Pair::new();
    pair.authority.issue(&pair.path(""), "replica", &["localhost"], true);
    pair.start();
    until("the master says so", || pair.master.ctl("scenario list").code() == "RW1021");
}

#[test]
fn nothing_is_open_without_certificates() {
    let pair = Pair::new();
    let plain = |listen: &str| {
        let text = format!("data = \"{}\"\nlisten = \"{listen}\"\n[replica]\n", pair.path("x").display());
        fs::write(pair.replica.config(), text).unwrap();
    };
    for listen in ["0.0.0.0:0", "[::]:0", "192.0.2.1:4711"] {
        plain(listen);
        for more in [&[][..], &["--check"][..]] {
            let ran = pair.replica.run_to_end(more);
            assert_eq!(ran.exit, 2, "{ran:?}");
            assert!(ran.stderr.contains("RW1022") && ran.stderr.contains("listen"), "{ran:?}");
        }
    }
    assert!(!pair.path("x").exists());

    let data = pair.path("y");
    let master = |replica: &str| {
        let text = format!("data = \"{}\"\n[master]\nreplica = \"{replica}\"\n", data.display());
        fs::write(pair.master.config(), text).unwrap();
        pair.master.run_to_end(&[])
    };
    for replica in ["http://192.0.2.1:4711", "https://replica.example.com:4711"] {
        let ran = master(replica);
        assert_eq!(ran.exit, 2, "{ran:?}");
        assert!(ran.stderr.contains("RW1020") && ran.stderr.contains("line 3"), "{ran:?}");
    }
    pair.configure_master("nobody", "localhost:1");
    for more in [&[][..], &["--check"][..]] {
        let ran = pair.master.run_to_end(more);
        assert_eq!(ran.exit, 6, "{ran:?}");
        assert!(ran.stderr.contains("RW1021") && ran.stderr.contains("nobody.ca"), "{ran:?}");
    }
}
