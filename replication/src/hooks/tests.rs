//! Real shells: what a hook sees, how it ends, and that nothing starts before it is let go.

use super::*;
use std::path::Path;

fn setting() -> Setting {
    Setting {
        scenario: "docs".into(),
        id: "7f".into(),
        roots: vec![b"/srv/a b".to_vec(), b"/srv/c".to_vec()],
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

#[track_caller]
fn run(command: &str, limit: Duration) -> (Result<(), HookError>, String) {
    let mut hook = Hook::prepare("quiesce", command, &setting()).unwrap();
    let ended = hook.run(Instant::now() + limit, None);
    hook.tail();
    (ended, hook.written())
}

#[test]
fn sees_its_words_and_nothing_else() {
    let command = "printf '%s|' \"$REWIND_HOOK\" \"$REWIND_SCENARIO\" \"$REWIND_ID\" \"$REWIND_ROOTS\" \"$REWIND_ROOT_0\"; \
                   printf '%s|' \"$REWIND_ROOT_1\" \"$CARGO_MANIFEST_DIR\" \"$(pwd)\" >&2; cat";
    let (ended, written) = run(command, Duration::from_secs(20));
    ended.unwrap();
    assert_eq!(written, "quiesce|docs|7f|2|/srv/a b|/srv/c||/|");
}

#[test]
fn ends_in_every_way() {
    let limit = Duration::from_secs(20);
    assert!(run("exit 0", limit).0.is_ok());
    let failed = run("echo no luck; exit 3", limit).0.unwrap_err().to_string();
    assert_eq!(failed, "the quiesce hook failed (exit status: 3): no luck");
    let died = run("kill -9 $$", limit).0.unwrap_err().to_string();
    assert!(died.contains("signal: 9"), "{died}");
    let began = Instant::now();
    let hung = run("echo waiting; sleep 1000 & sleep 1000", Duration::from_millis(300)).0.unwrap_err();
    assert!(matches!(hung, HookError::Hung { .. }), "{hung}");
    assert!(hung.to_string().ends_with("was killed: waiting"), "{hung}");
    assert!(began.elapsed() < Duration::from_secs(10), "the group was not killed");
    let mut hook = Hook::prepare("thaw", "sleep 1000", &setting()).unwrap();
    let stopped = hook.run(soon(), Some(&AtomicBool::new(true))).unwrap_err();
    assert!(matches!(stopped, HookError::Stopping { hook: "thaw" }), "{stopped}");
}

#[test]
fn output_is_bounded_and_never_blocks() {
    let (ended, written) = run("head -c 3000000 /dev/zero | tr '\\0' x", Duration::from_secs(20));
    ended.unwrap();
    assert_eq!(written.len(), OUTPUT_BYTES_MAX);
}

#[test]
fn does_not_begin_before_it_is_let_go() {
    let place = tempfile::tempdir().unwrap();
    let touched = place.path().join("touched");
    let command = format!("touch {}", touched.display());
    let mut hook = Hook::prepare("quiesce", &command, &setting()).unwrap();
    let process = hook.process().unwrap();
    assert!(process.lives() && hook.waits());
    // As after a crash: the gate is closed, not opened.
    hook.gate = None;
    let give_up = soon();
    while process.lives() && Instant::now() < give_up {
        std::thread::sleep(LOOK_EVERY);
    }
    assert!(!process.lives() && !touched.exists());
    let unused = Hook::prepare("quiesce", &command, &setting()).unwrap();
    let process = unused.process().unwrap();
    drop(unused);
    assert!(!process.lives() && !touched.exists());
    let mut hook = Hook::prepare("quiesce", &command, &setting()).unwrap();
    hook.run(soon(), None).unwrap();
    assert!(touched.exists() && !hook.waits());
}

/// Leaves a note as a daemon that was killed would.
fn leave(directory: &Path, name: &str, thaw: &str, quiesce: Option<Process>) {
    let Setting { scenario, id, roots } = setting();
    let limit = Duration::from_secs(20);
    let note = Note { scenario, id, roots, thaw: thaw.to_owned(), limit, quiesce };
    note.write(&note::path_in(directory, name)).unwrap();
}

#[test]
fn what_is_left_is_thawed_and_a_quiesce_that_still_runs_is_killed() {
    let place = tempfile::tempdir().unwrap();
    let notes = place.path().join("held");
    std::fs::create_dir(&notes).unwrap();
    assert!(thaw_left_over(&place.path().join("nowhere")).is_empty());
    let log = place.path().join("log");
    let mut quiesce =
        Hook::prepare("quiesce", &format!("sleep 1000; echo late >>{}", log.display()), &setting()).unwrap();
    let process = quiesce.process();
    quiesce.gate.take().unwrap().write_all(b"\n").unwrap();
    leave(&notes, "docs", &format!("echo thawed $REWIND_SCENARIO >>{}", log.display()), process.clone());
    leave(&notes, "other", "exit 1", None);
    std::fs::write(note::path_in(&notes, "rot"), "rewind-hold-1 x\ntouch /").unwrap();
    let left = thaw_left_over(&notes);
    assert_eq!(left[0], LeftOver { scenario: "docs".into(), failure: None });
    assert!(left[1].failure.as_ref().is_some_and(|why| why.contains("exit status: 1")), "{left:?}");
    assert!(left[2].failure.as_ref().is_some_and(|why| why.contains("damaged")), "{left:?}");
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "thawed docs\n");
    assert!(!process.unwrap().lives());
    // What did not succeed is tried again.
    assert_eq!(Note::list(&notes).unwrap().len(), 2);
}

#[test]
fn rules() {
    let listed = HooksAllowed::Listed(["/usr/bin/hold".to_owned()].into());
    for (rule, command, allowed) in [
        (HooksAllowed::None, "true", false),
        (HooksAllowed::Any, "true", true),
        (HooksAllowed::Owner, "true", true),
        (listed.clone(), "/usr/bin/hold", true),
        (listed.clone(), "/usr/bin/hold; reboot", false),
        (listed, "/usr/bin/hol", false),
    ] {
        assert_eq!(rule.allows(command), allowed, "{rule:?} {command}");
    }
}
