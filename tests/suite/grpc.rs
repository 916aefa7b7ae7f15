//! Does what docs/grpc.md shows work? Its commands and its program are taken from it and run as they stand; only the
//! interpreter, the endpoint and where the project lies are put in.
//!
//! `REWIND_GRPC_PYTHON` names a Python that has grpcio, grpcio-tools and grpcio-status. Without it the test says so.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tests::daemon::{Ran, World, programs, run};

const WITHIN: Duration = Duration::from_secs(120);

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The blocks of a language in the document, in order.
fn blocks(language: &str) -> Vec<String> {
    let text = std::fs::read_to_string(project().join("docs/grpc.md")).unwrap();
    let fence = format!("```{language}\n");
    let parts = text.split(fence.as_str()).skip(1);
    parts.map(|part| part.split("```").next().unwrap().to_owned()).collect()
}

/// A world with a replicating scenario and a repository, as the document has them.
fn world() -> World {
    let world = World::new();
    std::fs::write(world.master().join("kept.txt"), "123").unwrap();
    std::fs::write(world.master().join("gone.txt"), "12345").unwrap();
    world.protect();
    let password = world.path("password");
    std::fs::write(&password, "secret\n").unwrap();
    let repository = world.path("repository");
    tests::repository::make(&repository, &password);
    let (repository, password) = (repository.display(), password.display());
    world.ok(&format!("repository add offsite file://{repository} --password-file {password}"));
    world
}

/// Runs a command of the document in a shell.
fn shell(world: &World, place: &Path, line: &str) -> Ran {
    let line = line.replace("/run/rewind/rewindd.sock", world.path("data/rewindd.sock").to_str().unwrap());
    let mut command = Command::new("sh");
    let path = std::env::var("PATH").unwrap_or_default();
    command.arg("-ec").arg(line).current_dir(place);
    command.env("PATH", format!("{}:{path}", programs().display())).env("REWIND_ENDPOINT", world.endpoint());
    run(command, WITHIN)
}

fn ok(ran: Ran) -> String {
    assert_eq!(ran.exit, 0, "{ran:?}");
    ran.stdout
}

#[test]
fn the_shell_commands_work() {
    let world = world();
    world.flush();
    let block = blocks("sh").pop().unwrap();
    let out = ok(shell(&world, &world.path(""), &block));
    assert!(out.contains("/m/kept.txt\"") && out.contains("RW1091"), "{out}");
    // The same key again is the same job.
    let again = ok(shell(&world, &world.path(""), &block));
    assert_eq!(out.lines().next(), again.lines().next(), "{out}{again}");
}

#[test]
fn the_program_works() {
    let Some(python) = std::env::var_os("REWIND_GRPC_PYTHON") else {
        println!("left out: REWIND_GRPC_PYTHON names no Python with grpcio, grpcio-tools and grpcio-status");
        return;
    };
    let python = python.to_str().unwrap();
    let world = world();
    let place = world.path("client");
    std::fs::create_dir(&place).unwrap();
    std::os::unix::fs::symlink(project().join("api"), place.join("api")).unwrap();
    let commands: Vec<String> =
        blocks("sh").iter().flat_map(|b| b.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    let with = |part: &str| {
        let line = commands.iter().find(|line| line.contains(part)).expect("the document has it");
        assert!(line.starts_with("venv/bin/python "), "{line}");
        line.replacen("venv/bin/python", python, 1)
    };
    ok(shell(&world, &place, &with("grpc_tools.protoc")));
    std::fs::write(place.join("backup_and_find.py"), blocks("python").pop().unwrap()).unwrap();
    world.flush();
    let program = with("backup_and_find.py");
    let out = ok(shell(&world, &place, &program));
    let has =
        |out: &str, what: &str| assert!(out.lines().any(|line| line.starts_with(what)), "{what}: {out}");
    let kept = world.master().join("kept.txt");
    has(&out, "outcome OUTCOME_SUCCEEDED");
    has(&out, "session ");
    has(&out, &format!("found {} 3 1", kept.display()));
    assert!(!out.contains("deleted "), "{out}");
    std::fs::remove_file(world.master().join("gone.txt")).unwrap();
    world.flush();
    let out = ok(shell(&world, &place, &program));
    has(&out, &format!("found {} 3 2", kept.display()));
    has(&out, &format!("deleted {}", world.master().join("gone.txt").display()));
    // No time at all: it is asked to cancel, which may come too late.
    let out = ok(shell(&world, &place, &format!("{program} 0")));
    assert!(out.contains("OUTCOME_CANCELLED") || out.contains("OUTCOME_SUCCEEDED"), "{out}");
    // A scenario that is not there is refused with a code.
    let refused = shell(&world, &place, &program.replace(" docs ", " nothing "));
    assert_eq!(refused.exit, 1, "{refused:?}");
    has(&refused.stdout, "refused RW1002");
}
