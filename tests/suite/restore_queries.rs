//! Restoring what a query finds: does every path come back as the newest session that holds it had it, from as many
//! sessions as it takes, onto each target, also after a kill; and is what cannot be had said?

use crate::backups::{Ground, noise, walk};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use tests::compare::assert_same;
use tests::daemon::World;

/// Where a restore into a directory puts the master's tree.
fn landed(onto: &Path, master: &Path) -> PathBuf {
    onto.join(master.strip_prefix("/").unwrap())
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(status.success());
}

/// Compares two objects that are no directories: what they are, hold and say.
fn same(expected: &Path, found: &Path, what: &str) {
    use std::os::unix::fs::MetadataExt;
    let facts = |path: &Path| {
        let meta =
            path.symlink_metadata().unwrap_or_else(|error| panic!("{what}: {}: {error}", path.display()));
        let content = if meta.is_symlink() {
            std::fs::read_link(path).unwrap().into_os_string().into_encoded_bytes()
        } else {
            std::fs::read(path).unwrap()
        };
        (content, meta.mode(), meta.uid(), meta.mtime(), meta.mtime_nsec())
    };
    assert!(facts(expected) == facts(found), "{what}: {} and {}", expected.display(), found.display());
}

/// A plan: one object over many lines.
fn plan(world: &World, line: &str) -> Value {
    let ran = world.ctl(&format!("{line} --dry-run"));
    assert_eq!(ran.exit, 0, "{ran:?}");
    serde_json::from_str(&ran.stdout).unwrap()
}

fn paths_of(changes: &Value) -> Vec<String> {
    let changes = changes.as_array().unwrap();
    changes.iter().map(|change| change["path"].as_str().unwrap().to_owned()).collect()
}

/// Three sessions: reports are written and go, a directory of plans changes and goes.
struct Years {
    ground: Ground,
    sessions: Vec<String>,
    /// Copies of the master, one a session.
    kept: Vec<PathBuf>,
}

impl Years {
    fn new() -> Years {
        let ground = Ground::new();
        let master = ground.world.master();
        let mut years = Years { ground, sessions: Vec::new(), kept: Vec::new() };
        std::fs::create_dir_all(master.join("work/plans/deep")).unwrap();
        std::fs::write(master.join("work/a.docx"), "a of the first").unwrap();
        std::fs::write(master.join("work/b.docx"), "b of the first").unwrap();
        std::fs::write(master.join("work/plans/one"), "one of the first").unwrap();
        std::fs::write(master.join("work/plans/deep/two"), noise(300_000, 2)).unwrap();
        std::os::unix::fs::symlink("a.docx", master.join("work/link.docx")).unwrap();
        years.session();
        std::fs::remove_file(master.join("work/a.docx")).unwrap();
        std::fs::write(master.join("work/b.docx"), "b of the second").unwrap();
        std::fs::remove_file(master.join("work/plans/one")).unwrap();
        years.session();
        std::fs::remove_dir_all(master.join("work/plans")).unwrap();
        std::fs::write(master.join("work/c.docx"), noise(200_000, 3)).unwrap();
        years.session();
        // What the newest point lacks.
        std::fs::remove_file(master.join("work/b.docx")).unwrap();
        years.ground.world.flush();
        years
    }

    fn session(&mut self) {
        let (_, session) = self.ground.backup();
        self.sessions.push(session["id"].as_str().unwrap().to_owned());
        let kept = self.ground.world.path(&format!("kept-{}", self.kept.len()));
        copy(&self.ground.world.master(), &kept);
        self.kept.push(kept);
    }
}

#[test]
fn each_path_from_the_newest_session_that_holds_it() {
    let years = Years::new();
    let (world, master) = (&years.ground.world, years.ground.world.master());
    let onto = world.path("out");
    let line = format!("restore query work/*.docx --onto {} --verify", onto.display());
    let dry = plan(world, &line);
    assert!(!onto.exists(), "a dry run writes nothing");
    let from: Vec<_> = dry["sessions"].as_array().unwrap().iter().map(|one| one["session"].clone()).collect();
    assert_eq!(from, [years.sessions[0].as_str(), years.sessions[2].as_str()], "the oldest first: {dry}");
    let a = master.join("work/a.docx").to_str().unwrap().to_owned();
    let change =
        dry["changes"].as_array().unwrap().iter().find(|change| change["path"] == a.as_str()).unwrap();
    assert_eq!(change["session"], years.sessions[0].as_str(), "{dry}");
    let paths = paths_of(&dry["changes"]);
    assert_eq!(paths.iter().collect::<std::collections::HashSet<_>>().len(), paths.len(), "each once: {dry}");
    let report = world.ok(&line);
    assert_eq!(
        (&report["state"], &report["failed"], &report["verified"]),
        (&"done".into(), &0.into(), &true.into())
    );
    assert_eq!(
        (&report["files"], &report["others"], &report["session"]),
        (&3.into(), &1.into(), &Value::Null)
    );
    let sessions = report["sessions"].as_array().unwrap();
    assert_eq!(
        sessions.iter().map(|one| one["paths"].as_u64().unwrap()).collect::<Vec<_>>(),
        [1, 3],
        "{report}"
    );
    let work = landed(&onto, &master.join("work"));
    for (name, kept) in [("a.docx", 0), ("b.docx", 2), ("c.docx", 2), ("link.docx", 2)] {
        same(&years.kept[kept].join("work").join(name), &work.join(name), name);
    }
    assert_eq!(std::fs::read_dir(&work).unwrap().count(), 4, "nothing else");
    let left: Vec<_> =
        walk(&onto).into_iter().filter(|path| path.to_string_lossy().contains(".rewind-")).collect();
    assert!(left.is_empty(), "{left:?}");
    // Something stands there: nothing is written, not even what is not in the way.
    std::fs::remove_file(work.join("a.docx")).unwrap();
    world.refused(&line, 5, "RW1072");
    assert!(!work.join("a.docx").exists());
    let report = world.ok(&format!("{line} --if-exists skip"));
    assert_eq!((&report["skipped"], &report["files"]), (&3.into(), &1.into()), "{report}");
    // Of one session, of none.
    let second = world.path("second");
    let line =
        format!("restore query work/*.docx --session {} --onto {}", years.sessions[1], second.display());
    world.ok(&line);
    let work = landed(&second, &master.join("work"));
    same(&years.kept[1].join("work/b.docx"), &work.join("b.docx"), "of the second");
    assert!(!work.join("a.docx").exists() && !work.join("c.docx").exists());
    let nothing = world.path("nothing");
    for words in ["no-such-name", "*.docx --size +1G", "work/plans --size +1G"] {
        world.refused(&format!("restore query {words} --onto {}", nothing.display()), 4, "RW1091");
    }
    world.refused(&format!("restore query * --onto {}", master.join("x").display()), 5, "RW1073");
    world.refused(&format!("restore query [ --regex --onto {}", nothing.display()), 2, "RW1090");
    assert!(!nothing.exists());
}

#[test]
fn a_directory_comes_with_what_is_in_it() {
    let years = Years::new();
    let (world, master) = (&years.ground.world, years.ground.world.master());
    let onto = world.path("out");
    // The directory as the second session has it, and one file that only the first had.
    world.ok(&format!("restore query work/plans --deleted --onto {}", onto.display()));
    let plans = landed(&onto, &master.join("work/plans"));
    assert_same(&years.kept[1].join("work/plans/deep"), &plans.join("deep"), "what is below");
    same(&years.kept[0].join("work/plans/one"), &plans.join("one"), "what went before");
    // A pattern that only the directory passes.
    let exact = world.path("exact");
    world.ok(&format!("restore query --regex /work/plans$ --onto {}", exact.display()));
    let plans = landed(&exact, &master.join("work/plans"));
    assert_same(&years.kept[1].join("work/plans"), &plans, "as the newest session that holds it has it");
    // A question about files is not answered by a directory.
    let files = world.path("files");
    let report = world.ok(&format!("restore query work --size +100K --onto {}", files.display()));
    assert_eq!(report["files"], 2, "{report}");
    let work = landed(&files, &master.join("work"));
    assert!(work.join("plans/deep/two").exists() && work.join("c.docx").exists());
    assert_eq!(walk(&files).iter().filter(|path| path.is_file()).count(), 2);
}

#[test]
fn onto_the_replica_and_the_master_with_one_way_back() {
    let years = Years::new();
    let (world, master) = (&years.ground.world, years.ground.world.master());
    let ruined = world.path("ruined");
    copy(&master, &ruined);
    let line = "restore query work/*.docx --deleted --yes --verify";
    let report = world.ok(line);
    assert_eq!((&report["detached"], &report["files"]), (&true.into(), &2.into()), "{report}");
    assert_eq!(report["sessions"].as_array().unwrap().len(), 2, "{report}");
    let replica = world.replica();
    same(&years.kept[0].join("work/a.docx"), &replica.join("work/a.docx"), "of the first");
    same(&years.kept[2].join("work/b.docx"), &replica.join("work/b.docx"), "of the third");
    // One bookmark leads back behind both.
    let before = report["before"].as_str().unwrap();
    world.ok(&format!("rewind docs --to bookmark:{before} --yes"));
    assert_same(&ruined, &replica, "before the restore");
    world.ok("scenario resume docs");
    world.flush();
    // With the rule that nothing be overwritten, one object in the way keeps all from being restored.
    world.refused("restore query work/*.docx --if-exists fail --yes", 5, "RW1072");
    assert_same(&ruined, &replica, "nothing was restored");
    let report = world.ok(&format!("{line} --onto master"));
    assert_eq!((&report["verified"], &report["failed"]), (&true.into(), &0.into()), "{report}");
    same(&years.kept[0].join("work/a.docx"), &master.join("work/a.docx"), "of the first");
    same(&years.kept[2].join("work/b.docx"), &master.join("work/b.docx"), "of the third");
    world.flush();
    assert_same(&master, &replica, "the replica followed");
    world.refused(line, 4, "RW1091");
    let before = report["before"].as_str().unwrap();
    world.ok(&format!("rewind docs --to bookmark:{before} --onto master --yes"));
    assert_same(&ruined, &master, "before the restore");
}

#[test]
fn what_no_session_holds_is_listed_with_the_way_to_get_it() {
    let years = Years::new();
    let (world, master) = (&years.ground.world, years.ground.world.master());
    let late = master.join("work/late.docx");
    std::fs::write(&late, "between two sessions").unwrap();
    let kept = world.path("late");
    copy(&late, &kept);
    world.flush();
    std::fs::remove_file(&late).unwrap();
    world.flush();
    let onto = world.path("out");
    let ran = world.ctl(&format!("restore query work/*.docx --onto {}", onto.display()));
    assert_eq!(ran.exit, 3, "{ran:?}");
    let report = ran.objects().remove(0);
    assert_eq!(
        (&report["state"], &report["skipped"], &report["left_out"], &report["files"]),
        (&"incomplete".into(), &1.into(), &1.into(), &3.into()),
        "{report}"
    );
    let listed = &report["left_out_first"][0];
    assert_eq!(listed["path"], late.to_str().unwrap(), "{report}");
    // What is said there works.
    let reason = listed["reason"].as_str().unwrap();
    let (_, command) = reason.split_once("restorectl ").unwrap();
    let (command, _) = command.split_once(" --onto").unwrap();
    let beside = world.path("beside");
    world.ok(&format!("{} --onto {}", command.replace('\'', ""), beside.display()));
    same(&kept, &landed(&beside, &late), "from the journal");
}

#[test]
fn what_was_agreed_to_or_nothing() {
    let years = Years::new();
    let world = &years.ground.world;
    let onto = world.path("out");
    let line = format!("restore query work/*.docx --onto {} --idempotency-key once --detach", onto.display());
    let job = world.ok(&line)["job"].clone();
    world.ok(&format!("job wait {}", job.as_str().unwrap()));
    // A second session of the same has come in: the same key is the same job all the same.
    years.ground.backup();
    assert_eq!(world.ok(&line)["job"], job);
    world.refused(
        &format!("restore query *.txt --onto {} --idempotency-key once --detach", onto.display()),
        2,
        "RW0468",
    );
}

#[test]
fn a_daemon_that_is_killed_goes_on_with_all_sessions() {
    let mut years = Years::new();
    let master = years.ground.world.master();
    for round in 0..3_u64 {
        for number in 0..60 {
            let path = master.join(format!("work/{round}-{number}.bin"));
            std::fs::write(path, noise(200_000, round * 100 + number)).unwrap();
        }
        years.session();
        for number in 0..60 {
            std::fs::remove_file(master.join(format!("work/{round}-{number}.bin"))).unwrap();
        }
    }
    years.ground.world.flush();
    for number in 0..3 {
        let world = &mut years.ground.world;
        let onto = world.path(&format!("out-{number}"));
        let line = format!("restore query work/*.bin --onto {} --detach", onto.display());
        let job = world.ok(&line)["job"].as_str().unwrap().to_owned();
        // The first files of a session: those before it are done.
        let work = landed(&onto, &master.join("work"));
        let until = Instant::now() + Duration::from_secs(60);
        while !work.join(format!("{number}-0.bin")).exists() {
            assert!(Instant::now() < until, "session {number} is not restored\n{}", world.log_end());
            std::thread::sleep(Duration::from_millis(1));
        }
        world.kill();
        world.start();
        let report = world.ok(&format!("job wait {job}"));
        assert_eq!((&report["state"], &report["failed"]), (&"done".into(), &0.into()), "{report}");
        assert_eq!(report["files"], 180, "{report}");
        for round in 0..3 {
            for file in 0..60 {
                let name = format!("{round}-{file}.bin");
                same(&years.kept[3 + round].join("work").join(&name), &work.join(&name), &name);
            }
        }
        let left: Vec<_> =
            walk(&onto).into_iter().filter(|path| path.to_string_lossy().contains(".rewind-")).collect();
        assert!(left.is_empty(), "{left:?}");
        std::fs::remove_dir_all(&onto).unwrap();
    }
}

/// The marks of the sessions go one by one, and only then is the end recorded: killed in there, the job is done all the
/// same.
#[test]
fn a_daemon_that_is_killed_as_a_restore_ends_finds_it_done() {
    let mut years = Years::new();
    let master = years.ground.world.master();
    for round in 0..4_u64 {
        std::fs::write(master.join(format!("work/{round}.bin")), noise(9000, round)).unwrap();
        years.session();
        std::fs::remove_file(master.join(format!("work/{round}.bin"))).unwrap();
    }
    years.ground.world.flush();
    for number in 0..6 {
        let world = &mut years.ground.world;
        let onto = world.path(&format!("out-{number}"));
        std::fs::create_dir(&onto).unwrap();
        let marks = || {
            let names = std::fs::read_dir(&onto)
                .unwrap()
                .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
            names.filter(|name| name.starts_with(".rewind-unfinished-")).count()
        };
        let line = format!("restore query work/*.bin --onto {} --detach", onto.display());
        let job = world.ok(&line)["job"].as_str().unwrap().to_owned();
        let last = landed(&onto, &master.join("work")).join("3.bin");
        let (mut most, until) = (0, Instant::now() + Duration::from_secs(60));
        // From four marks down to a number that is another each time, as far as it can be seen.
        while !(most == 4 && marks() <= number % 4 || last.exists() && marks() == 0) {
            most = most.max(marks());
            assert!(Instant::now() < until, "{most} marks were seen\n{}", world.log_end());
        }
        world.kill();
        world.start();
        let report = world.ok(&format!("job wait {job}"));
        assert_eq!((&report["state"], &report["failed"]), (&"done".into(), &0.into()), "{report}");
        assert_eq!((&report["files"], marks()), (&4.into(), 0), "{report}");
        for round in 0..4 {
            let name = format!("work/{round}.bin");
            let work = landed(&onto, &master.join("work"));
            same(&years.kept[3 + round].join(&name), &work.join(format!("{round}.bin")), &name);
        }
    }
}

/// What a plan says it found names what is started; by then it has to be the same.
#[test]
fn a_plan_that_is_no_longer_true_is_refused() {
    let years = Years::new();
    let world = &years.ground.world;
    let onto = world.path("out");
    let request = wire::v1::RestoreRequest {
        query: Some(wire::v1::CatalogQueryRequest {
            pattern: "work/*.docx".to_owned(),
            ..wire::v1::CatalogQueryRequest::default()
        }),
        onto: Some(wire::v1::Onto {
            target: Some(wire::v1::onto::Target::Directory(onto.to_str().unwrap().to_owned().into())),
        }),
        ..wire::v1::RestoreRequest::default()
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let endpoint = world.endpoint().parse().unwrap();
    let tls = wire::TlsFiles::default();
    let mut client = runtime.block_on(wire::Client::connect(&endpoint, &tls)).unwrap();
    let plan = runtime.block_on(async {
        let mut parts = client.restore.plan_restore(request.clone()).await.unwrap().into_inner();
        loop {
            let part = parts.message().await.unwrap().unwrap();
            if let Some(wire::v1::restore_part::Part::Plan(plan)) = part.part {
                return plan;
            }
        }
    });
    let agreed = wire::v1::RestoreRequest { agreed: plan.agreed.clone(), ..request };
    // Another session of the same files is the newest now.
    years.ground.backup();
    let refused = runtime.block_on(client.restore.start(agreed.clone())).unwrap_err();
    assert!(refused.message().contains("something else"), "{refused:?}");
    assert!(!onto.exists());
    // A page of an answer is not what was asked for.
    let mut page = agreed;
    page.query.as_mut().unwrap().limit = 1;
    assert!(runtime.block_on(client.restore.start(page)).is_err());
}

#[test]
fn more_paths_than_a_job_remembers_are_refused() {
    let ground = Ground::new();
    let master = ground.world.master();
    // Long paths, so that a few hundred are more than 750 KiB.
    let mut deep = master.join("many");
    (0..14).for_each(|_| deep.push("d".repeat(250)));
    std::fs::create_dir_all(&deep).unwrap();
    for number in 0..230 {
        std::fs::write(deep.join(format!("{number}.x")), "").unwrap();
    }
    ground.backup();
    let world = &ground.world;
    let onto = world.path("out");
    let ran = world.refused(&format!("restore query many/*.x --onto {}", onto.display()), 5, "RW1076");
    assert!(ran.stdout.contains("230 paths"), "{ran:?}");
    // The directory is one path.
    let report = world.ok(&format!("restore query many --onto {}", onto.display()));
    assert_eq!((&report["files"], &report["sessions"][0]["paths"]), (&230.into(), &1.into()), "{report}");
}
