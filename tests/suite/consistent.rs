//! Is the application held while a consistent point is made, and does it go on whatever happens?
//!
//! Hooks are scripts that write into one log what they did; a test reads it. The last word has a real database under
//! writers ([`sqlite`]).

mod sqlite;

use serde_json::Value;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tests::daemon::{World, programs};
use tests::pair::{Pair, until};

/// Scripts in a directory, and the log they write into.
struct Scripts(PathBuf);

impl Scripts {
    fn new(place: &Path) -> Scripts {
        let here = place.join("hooks");
        fs::create_dir(&here).unwrap();
        Scripts(here)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// An executable script that first writes its name into the log, or writes another one over it.
    fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        let head = format!("#!/bin/sh\nset -e\ncd {}\necho {name} >>log\n", self.0.display());
        fs::write(&path, head + text + "\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path.display().to_string()
    }

    /// Options that name both scripts.
    fn options(&self, quiesce: &str, thaw: &str, timeout: &str) -> String {
        let (quiesce, thaw) = (self.write("quiesce", quiesce), self.write("thaw", thaw));
        format!(" --hook quiesce={quiesce} --hook thaw={thaw} --hook-timeout {timeout}")
    }

    /// What has run since this was last asked.
    fn take(&self) -> Vec<String> {
        let log = fs::read_to_string(self.path("log")).unwrap_or_default();
        fs::write(self.path("log"), "").unwrap();
        log.lines().map(str::to_owned).collect()
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn has(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    /// The number a script wrote into a file is of no process that still works.
    fn is_dead(&self, name: &str) -> bool {
        is_dead(self.read(name).trim().parse().unwrap())
    }
}

/// No process of this number works any more.
fn is_dead(id: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('Z'))
}

/// A world whose scenario `docs` has these hooks and replicates.
fn held_world(quiesce: &str, thaw: &str, timeout: &str) -> (World, Scripts) {
    let world = World::new();
    fs::write(world.master().join("state"), "moving").unwrap();
    let scripts = Scripts::new(&world.path(""));
    let hooks = scripts.options(quiesce, thaw, timeout);
    world.ok(&(world.create_line("docs") + &hooks));
    world.ok("scenario run docs");
    (world, scripts)
}

/// What says that an application is held.
fn notes(data: &Path) -> Vec<OsString> {
    fs::read_dir(data.join("held")).unwrap().map(|entry| entry.unwrap().file_name()).collect()
}

fn assert_no_note(data: &Path) {
    let left = notes(data);
    assert!(left.is_empty(), "{left:?}");
}

fn message(ran: &tests::daemon::Ran) -> String {
    ran.objects()[0]["error"]["message"].as_str().unwrap().to_owned()
}

/// A command that goes on while the test does something else; it is not looked at.
fn begin(endpoint: &str, line: &str) -> Child {
    let mut command = Command::new(programs().join("restorectl"));
    command.arg("--json").args(line.split_whitespace()).env_clear().env("REWIND_ENDPOINT", endpoint);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn end(mut child: Child) {
    drop(child.kill());
    child.wait().unwrap();
}

#[test]
fn the_point_is_what_the_held_application_had() {
    let (world, scripts) =
        held_world("echo still >../m/state; touch held", "rm held; echo moving >../m/state", "20s");
    let shown = world.ok("scenario show docs");
    assert_eq!(shown["hooks"]["quiesce"], scripts.path("quiesce").display().to_string());
    assert_eq!((&shown["hooks"]["stop"], &shown["hook_timeout_seconds"]), (&Value::Null, &Value::from(20.0)));

    let flushed = world.ok("flush docs --consistent");
    assert_eq!(flushed["class"], "application");
    let held = flushed["held_seconds"].as_f64().unwrap();
    assert!(held > 0.0 && held < 20.0, "{flushed}");
    assert_eq!(scripts.take(), ["quiesce", "thaw"]);
    assert!(!scripts.has("held"));
    assert_no_note(&world.path("data"));
    let point = format!("lsn:{}", flushed["lsn"].as_str().unwrap());
    let plan = world.ctl(&format!("rewind docs --to {point} --dry-run"));
    let plan: Value = serde_json::from_str(&plan.stdout).unwrap();
    assert_eq!(plan["to_class"], "application", "{plan}");
    let read = world.read_at(&point, "read");
    assert_eq!(fs::read_to_string(read.join("state")).unwrap(), "still\n");

    let set = world.ok("bookmark set docs mark --consistent");
    assert_eq!((&set["class"], set["held_seconds"].is_number()), (&"application".into(), true));
    assert_eq!(scripts.take(), ["quiesce", "thaw"]);
    let listed = world.list("bookmark list docs");
    let mark = listed.iter().find(|mark| mark["name"] == "mark").unwrap();
    assert_eq!(mark["class"], "application");
    let points = world.list("points docs --kind bookmark");
    assert!(points.iter().any(|p| p["note"] == "mark" && p["class"] == "application"), "{points:?}");
    let read = world.read_at("mark", "read-mark");
    assert_eq!(fs::read_to_string(read.join("state")).unwrap(), "still\n");

    let plain = world.ok("flush docs");
    assert_eq!((&plain["class"], &plain["held_seconds"]), (&"fuzzy".into(), &Value::Null));
    let log = world.list("log --scenario docs");
    assert!(
        log.iter().any(|line| line["text"].as_str().unwrap().contains("application held for")),
        "{log:?}"
    );
    assert!(scripts.take().is_empty());
}

#[test]
fn what_cannot_be_consistent_is_refused() {
    let world = World::new();
    world.protect();
    let ran = world.refused("flush docs --consistent", 5, "RW0471");
    assert!(ran.stdout.contains("hook=quiesce=CMD"), "{ran:?}");
    world.refused("bookmark set docs mark --consistent", 5, "RW0471");
    assert!(world.list("bookmark list docs").is_empty());
    world.refused("bookmark set docs mark --at now --consistent", 2, "RW1028");
    world.ok("scenario stop docs");
    world.refused("scenario set docs hook=freeze=x", 2, "RW1014");
    world.refused("scenario set docs hook-timeout=0s", 2, "RW1014");
    world.refused("scenario set docs hook-timeout=2h", 2, "RW1014");
    let set = world.ok("scenario set docs hook=quiesce=/bin/true hook-timeout=5s");
    assert_eq!(
        (&set["hooks"]["quiesce"], &set["hook_timeout_seconds"]),
        (&"/bin/true".into(), &Value::from(5.0))
    );
    world.refused("flush docs --consistent", 5, "RW0465");
    world.ok("scenario run docs");
    // An application that only has to write everything down needs no thaw.
    assert_eq!(world.ok("flush docs --consistent")["class"], "application");
    world.ok("scenario stop docs");
    assert_eq!(world.ok("scenario set docs hook=quiesce=")["hooks"]["quiesce"], Value::Null);
}

#[test]
fn a_quiesce_hook_that_fails_hangs_or_dies() {
    let (world, scripts) = held_world("exit 0", "true", "2s");
    for (text, said) in [
        ("echo no room >&2; exit 3", "exit status: 3): no room"),
        ("kill -9 0", "signal: 9"),
        ("echo $$ >id; sleep 1000 & echo $! >child; sleep 1000", "did not end within 2.0s and was killed"),
    ] {
        scripts.write("quiesce", text);
        for line in ["flush docs --consistent", "bookmark set docs mark --consistent"] {
            let ran = world.refused(line, 5, "RW0457");
            let message = message(&ran);
            assert!(
                message.contains(said) && message.ends_with("the thaw hook has run"),
                "{text}: {message}"
            );
            assert_eq!(scripts.take(), ["quiesce", "thaw"], "{text}");
            assert_no_note(&world.path("data"));
        }
    }
    assert!(scripts.is_dead("id") && scripts.is_dead("child"), "a hook that hung still runs");
    assert!(world.list("bookmark list docs").is_empty());
    assert_eq!(world.ok("flush docs")["class"], "fuzzy");
    scripts.write("quiesce", "true");
    assert_eq!(world.ok("flush docs --consistent")["class"], "application");
}

#[test]
fn the_application_goes_on_when_the_barrier_fails() {
    let (world, scripts) = held_world("true", "true", "10s");
    // Capture ends while the application is held.
    let ctl = programs().join("restorectl");
    let stop = format!("{} --endpoint {} scenario stop docs", ctl.display(), world.endpoint());
    scripts.write("quiesce", &stop);
    let ran = world.refused("flush docs --consistent", 5, "RW0457");
    assert!(message(&ran).contains("the thaw hook has run"), "{ran:?}");
    assert_eq!(scripts.take(), ["quiesce", "thaw"]);
    world.ok("scenario run docs");

    // The root is away while the application is held: a gap is open, so the point may lack something.
    scripts.write("quiesce", "mv ../m ../away; sleep 1");
    scripts.write("thaw", "mv ../away ../m");
    let ran = world.refused("flush docs --consistent", 5, "RW0457");
    assert!(message(&ran).contains("the thaw hook has run"), "{ran:?}");
    assert_eq!(scripts.take(), ["quiesce", "thaw"]);
    assert_no_note(&world.path("data"));
    world.wait_replicating();
    scripts.write("quiesce", "true");
    scripts.write("thaw", "true");
    assert_eq!(world.ok("flush docs --consistent")["class"], "application");
}

#[test]
fn a_thaw_hook_that_fails_is_an_error_and_is_run_again() {
    let (mut world, scripts) = held_world("true", "[ -e mended ]", "2s");
    let ran = world.refused("flush docs --consistent", 1, "RW1038");
    assert!(message(&ran).contains("may still be held"), "{ran:?}");
    // It hangs.
    scripts.write("thaw", "[ -e mended ] || { echo $$ >id; sleep 1000; }");
    let ran = world.refused("bookmark set docs mark --consistent", 1, "RW1038");
    assert!(message(&ran).contains("did not end within 2.0s and was killed"), "{ran:?}");
    assert!(scripts.is_dead("id"));
    assert!(world.list("bookmark list docs").is_empty());
    assert_eq!(scripts.take(), ["quiesce", "thaw", "quiesce", "thaw"]);
    fs::write(scripts.path("mended"), "").unwrap();
    world.stop();
    assert!(scripts.take().is_empty());
    world.start();
    thawed_at_start(&world, &scripts);
    assert_eq!(world.ok("flush docs --consistent")["class"], "application");
}

/// The start of the daemon has run the thaw hook that was owed, and owes nothing now.
fn thawed_at_start(world: &World, scripts: &Scripts) {
    assert_eq!(scripts.take(), ["thaw"]);
    assert_no_note(&world.path("data"));
    world.wait_replicating();
}

#[test]
fn a_daemon_killed_while_the_application_is_held_thaws_when_it_starts() {
    let (mut world, scripts) = held_world("echo $$ >id; touch began; sleep 1000", "rm -f began", "60s");
    let flush = begin(&world.endpoint(), "flush docs --consistent");
    until("the application is held", || scripts.has("began"));
    world.kill();
    end(flush);
    assert!(!scripts.is_dead("id"), "the hook went with the daemon: the test shows nothing");
    assert_eq!(scripts.take(), ["quiesce"]);
    world.start();
    assert_eq!(scripts.take(), ["thaw"]);
    assert!(!scripts.has("began") && scripts.is_dead("id"));
    assert_no_note(&world.path("data"));
    world.wait_replicating();
    let log = world.list("log --scenario docs");
    assert!(
        log.iter().any(|line| line["text"].as_str().unwrap().contains("the thaw hook has run now")),
        "{log:?}"
    );

    // Killed between the two, by the last act of the quiesce hook, which succeeds.
    let pid = world.pid();
    scripts.write("quiesce", &format!("echo $REWIND_ID >quiesce.id; touch began; kill -9 {pid}"));
    scripts.write("thaw", "echo $REWIND_ID >thaw.id; rm began");
    let flush = begin(&world.endpoint(), "flush docs --consistent");
    until("the daemon is gone", || scripts.has("began") && is_dead(pid));
    world.kill();
    end(flush);
    assert_eq!(scripts.take(), ["quiesce"]);
    assert!(scripts.has("began"), "the application is not held: the test shows nothing");
    world.start();
    thawed_at_start(&world, &scripts);
    assert!(!scripts.has("began"));
    assert_eq!(scripts.read("quiesce.id"), scripts.read("thaw.id"));

    // The thaw hook itself is cut short.
    scripts.write("quiesce", "true");
    scripts.write("thaw", "[ -e once ] || { touch once; sleep 1000; }");
    let flush = begin(&world.endpoint(), "flush docs --consistent");
    until("the thaw hook runs", || scripts.has("once"));
    world.kill();
    end(flush);
    assert_eq!(scripts.take(), ["quiesce", "thaw"]);
    world.start();
    thawed_at_start(&world, &scripts);
    assert_eq!(world.ok("flush docs --consistent")["class"], "application");
}

#[test]
fn a_daemon_that_stops_thaws_first() {
    let (mut world, scripts) = held_world("touch began; sleep 1000", "rm -f began", "60s");
    let flush = begin(&world.endpoint(), "flush docs --consistent");
    until("the application is held", || scripts.has("began"));
    world.stop();
    end(flush);
    assert_eq!(scripts.take(), ["quiesce", "thaw"]);
    assert_no_note(&world.path("data"));
    world.start();
    assert!(scripts.take().is_empty());
    world.wait_replicating();
}

#[test]
fn an_application_is_held_for_one_point_at_a_time() {
    let (world, scripts) = held_world("touch began; while [ ! -e go ]; do sleep 0.01; done", "true", "60s");
    let first = begin(&world.endpoint(), "flush docs --consistent");
    until("the application is held", || scripts.has("began"));
    world.refused("flush docs --consistent", 5, "RW0470");
    assert_eq!(world.ok("flush docs --stage captured")["class"], "fuzzy");
    fs::write(scripts.path("go"), "").unwrap();
    let mut first = first;
    assert!(first.wait().unwrap().success());
    assert_eq!(scripts.take(), ["quiesce", "thaw"]);
}

/// Writes into its file through a memory map whenever it is told to.
const MAPPED: &str = r#"
import mmap, os, sys, time
path, turn = sys.argv[1], sys.argv[2]
with open(path, "w+b") as file:
    file.write(bytes(8192))
    file.flush()
    held = mmap.mmap(file.fileno(), 8192)
    open(turn + "/mapped", "w").close()
    while not os.path.exists(turn + "/change"):
        time.sleep(0.005)
    held[0:5] = b"still"
    open(turn + "/changed", "w").close()
    time.sleep(1000)
"#;

/// As the README says: the kernel tells nobody of such a write, but of the hook's touch.
#[test]
fn a_file_that_is_written_through_a_memory_map() {
    let python = Command::new("python3").arg("--version").stdout(Stdio::null()).status();
    if !python.is_ok_and(|status| status.success()) {
        println!("memory map: not run: there is no python3");
        return;
    }
    let (world, scripts) =
        held_world("touch change; while [ ! -e changed ]; do sleep 0.01; done; touch ../m/db", "true", "20s");
    let db = world.master().join("db");
    let application =
        Command::new("python3").args(["-c", MAPPED]).arg(&db).arg(scripts.path("")).spawn().unwrap();
    until("the file is mapped", || scripts.has("mapped"));
    world.flush();
    let set = world.ok("bookmark set docs mark --consistent");
    end(application);
    assert_eq!(set["class"], "application");
    let read = fs::read(world.read_at("mark", "read").join("db")).unwrap();
    assert_eq!((read.len(), &read[..5]), (8192, b"still".as_slice()));
}

/// Says in the master's section, which is the last one, which hooks it runs.
fn allow(pair: &Pair, hooks: &str) {
    let text = fs::read_to_string(pair.master.config()).unwrap();
    let others: String =
        text.lines().filter(|line| !line.starts_with("hooks")).map(|line| format!("{line}\n")).collect();
    fs::write(pair.master.config(), format!("{others}hooks = {hooks}\n")).unwrap();
}

#[test]
fn two_processes() {
    let mut pair = Pair::new();
    let scripts = Scripts::new(&pair.path(""));
    let hooks = scripts.options("true", "true", "20s");
    pair.start();
    fs::write(pair.path("m").join("state"), "a").unwrap();
    let root = format!("{}={}", pair.path("m").display(), pair.path("r/m").display());
    pair.replica.ok(&format!("scenario create docs --root {root} --master {}{hooks}", tests::pair::MASTER));
    pair.replica.ok("scenario run docs");
    // The replica does not decide what runs on a master.
    let ran = pair.replica.refused("flush docs --consistent", 6, "RW1037");
    assert!(message(&ran).contains("quiesce"), "{ran:?}");
    pair.master.refused("flush docs --consistent", 2, "RW0467");
    for allowed in ["[\"true\"]", "\"refuse\""] {
        pair.master.stop();
        allow(&pair, allowed);
        pair.master.start();
        pair.wait_replicating();
        pair.replica.refused("flush docs --consistent", 6, "RW1037");
    }
    assert!(scripts.take().is_empty(), "a hook ran that nobody had allowed");
    pair.master.stop();
    let list = [scripts.path("quiesce"), scripts.path("thaw")].map(|path| path.display().to_string());
    allow(&pair, &format!("{list:?}"));
    pair.master.start();
    pair.wait_replicating();
    assert_eq!(pair.replica.ok("flush docs --consistent")["class"], "application");
    assert_eq!(scripts.take(), ["quiesce", "thaw"]);

    // The replica goes while the application is held; the barrier is captured and the application goes on.
    scripts.write("quiesce", "touch began; while [ ! -e go ]; do sleep 0.01; done");
    let endpoint = format!("unix:{}", pair.replica.data().join("rewindd.sock").display());
    let flush = begin(&endpoint, "flush docs --consistent");
    until("the application is held", || scripts.has("began"));
    pair.replica.kill();
    end(flush);
    fs::write(scripts.path("go"), "").unwrap();
    until("the application goes on", || scripts.read("log") == "quiesce\nthaw\n");
    until("the note goes", || notes(&pair.master.data()).is_empty());
    scripts.take();
    pair.replica.start();
    pair.wait_replicating();

    // The master goes while the application is held, and thaws when it starts, met or not.
    for name in ["began", "go"] {
        fs::remove_file(scripts.path(name)).unwrap();
    }
    let flush = begin(&endpoint, "flush docs --consistent");
    until("the application is held", || scripts.has("began"));
    pair.master.kill();
    pair.replica.stop();
    end(flush);
    assert_eq!(notes(&pair.master.data()).len(), 1);
    pair.master.start();
    assert_eq!(scripts.take(), ["quiesce", "thaw"]);
    assert_no_note(&pair.master.data());
    pair.replica.start();
    pair.wait_replicating();
    pair.flush();
    pair.assert_equal();
}
