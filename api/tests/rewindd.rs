//! The daemon as a process: what it prints, how it is told to stop, what it refuses to start with.

// Helpers of tests fail as tests do; clippy excuses only what stands inside of a test.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

fn rewindd(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rewindd"));
    command.args(arguments).env_remove("NOTIFY_SOCKET").env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

/// Runs a daemon that must not start.
fn refused(arguments: &[&str], exit: i32, parts: &[&str]) {
    let Output { status, stdout, stderr } = rewindd(arguments).output().unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(exit), "{arguments:?}: {stderr}");
    assert!(stdout.is_empty(), "{arguments:?}");
    for part in parts {
        assert!(stderr.contains(part), "{arguments:?}: {part:?} is not in {stderr}");
    }
}

/// A daemon that serves; killed if the test fails.
struct Running(Child);

impl Running {
    fn start(mut command: Command) -> (Self, String) {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        (Running(child), line.trim_end().to_owned())
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.0.id().cast_signed()).unwrap(), signal).unwrap();
    }

    fn stop(mut self, signal: Signal) {
        let begun = Instant::now();
        self.signal(signal);
        assert_eq!(self.0.wait().unwrap().code(), Some(0));
        assert!(begun.elapsed() < Duration::from_secs(30));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn write(directory: &Path, text: &str) -> PathBuf {
    let path = directory.join("rewindd.toml");
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn starts_and_stops() {
    let place = tempfile::tempdir().unwrap();
    let data = place.path().join("data");
    let data = data.to_str().unwrap();
    let notified = UnixDatagram::bind(place.path().join("notify")).unwrap();
    notified.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let message = || {
        let mut buffer = [0; 200];
        let bytes = notified.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..bytes].to_vec()).unwrap()
    };
    for signal in [Signal::TERM, Signal::INT] {
        let mut command = rewindd(&["--standalone", "--data", data, "--listen", "127.0.0.1:0"]);
        command.env("NOTIFY_SOCKET", place.path().join("notify"));
        let (daemon, ready) = Running::start(command);
        let expected = format!("ready endpoint=unix:{data}/rewindd.sock listen=http://127.0.0.1:");
        assert!(ready.starts_with(&expected), "{ready}");
        assert_eq!(message(), "READY=1");
        refused(&["--standalone", "--data", data], 5, &["error[RW1019]", "reason:", "action:"]);
        daemon.signal(Signal::HUP);
        assert!(message().starts_with("RELOADING=1\nMONOTONIC_USEC="));
        assert_eq!(message(), "READY=1");
        daemon.stop(signal);
        assert_eq!(message(), "STOPPING=1");
        assert!(!Path::new(data).join("rewindd.sock").exists());
    }
}

#[test]
fn survives_a_kill() {
    let place = tempfile::tempdir().unwrap();
    let config =
        write(place.path(), &format!("data = {:?}\n[master]\n[replica]\n", place.path().join("data")));
    let start = || Running::start(rewindd(&["--config", config.to_str().unwrap(), "--log-format", "json"]));
    let (daemon, first) = start();
    daemon.signal(Signal::KILL);
    drop(daemon);
    let (daemon, second) = start();
    assert_eq!((first.is_empty(), &first), (false, &second));
    daemon.stop(Signal::TERM);
}

#[test]
fn checks() {
    let place = tempfile::tempdir().unwrap();
    let good = write(place.path(), "data = \"/nowhere/at/all\"\n[master]\n[replica]\n");
    let Output { status, stdout, .. } =
        rewindd(&["--config", good.to_str().unwrap(), "--check"]).output().unwrap();
    assert_eq!((status.code(), stdout.as_slice()), (Some(0), &b"configuration is valid\n"[..]));
    let check = |text: &str, exit: i32, parts: &[&str]| {
        let path = write(place.path(), text);
        refused(&["--config", path.to_str().unwrap(), "--check"], exit, parts);
    };
    check("data = \"/d\"\n\n[replica]\nmin-fre = \"1GiB\"\n", 2, &["RW1020", "line 4", "`min-fre`"]);
    check("data = \"/d\"\nlisten = \"0.0.0.0:1\"\n[replica]\n", 2, &["RW1022", "line 2", "`listen`"]);
    let tls =
        "[tls]\ncertificate = \"/nowhere/c\"\nkey = \"/nowhere/k\"\nclient-ca = \"/nowhere/ca\"\n[replica]\n";
    // Nobody is named who may connect.
    let listens = "data = \"/d\"\nlisten = \"0.0.0.0:1\"\n";
    check(&format!("{listens}{tls}"), 2, &["RW1020", "line 2", "`listen`", "`operators`"]);
    let named = format!("{listens}operators = [\"console\"]\n{tls}");
    check(&named, 6, &["RW1021", "/nowhere/ca"]);
    refused(&["--config", "/nowhere/c.toml"], 2, &["RW1020", "/nowhere/c.toml"]);
}

#[test]
fn refuses() {
    let place = tempfile::tempdir().unwrap();
    let data = place.path().join("data");
    let data = data.to_str().unwrap();
    refused(&["--standalone", "--data", data, "--listen", "0.0.0.0:0"], 2, &["error[RW1022]"]);
    refused(&["--standalone"], 2, &["--data"]);
    refused(&[], 2, &["--standalone"]);
    refused(&["--standalone", "--data", data, "--config", "c"], 2, &["cannot be used with"]);
    std::fs::write(place.path().join("file"), "").unwrap();
    let below = format!("{}/file/data", place.path().display());
    refused(&["--standalone", "--data", &below], 1, &["error[RW1024]", "file"]);
}
