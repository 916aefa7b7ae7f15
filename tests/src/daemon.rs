//! The real programs: a daemon in a process of its own, and the command line that talks to it.
//!
//! A [`World`] is a temporary directory with a master `m`, a place for replicas `r` and a data directory. It starts
//! `rewindd --standalone` on it, waits for the ready line, and runs `restorectl --json`. It ends only the processes it
//! started, by their own handles, and removes its directory. If a test fails the end of the daemon's log is printed.
//!
//! Programs of other packages have no `CARGO_BIN_EXE_*`, so they are taken from the directory above the test binary.
//! Cargo is asked first whether they are as their sources are, in the words of `cargo test --workspace`: with any other
//! choice of packages, dependencies have other features, and all would be compiled a second time. `REWIND_BIN` names a
//! directory with other programs to test.

use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// A daemon must be ready within it, recovery of a journal included.
const READY_WITHIN: Duration = Duration::from_secs(120);
/// A stop by SIGTERM must be over within it.
const STOP_WITHIN: Duration = Duration::from_secs(30);
/// No command of a test takes longer.
const COMMAND_WITHIN: Duration = Duration::from_secs(600);
/// Lines of the daemon's log shown when a test fails.
const LOG_LINES_SHOWN: usize = 60;

/// Whether the sizes are those of the full run (`REWIND_LONG=1`).
#[must_use]
pub fn is_long() -> bool {
    std::env::var_os("REWIND_LONG").is_some_and(|value| value == "1")
}

/// One number for every day, another for the full run.
#[must_use]
pub fn size<T>(short: T, long: T) -> T {
    if is_long() { long } else { short }
}

/// The seed of a random test: `REWIND_SEED`, else one from the clock in a long run and always the same in a short one.
/// It is printed.
#[must_use]
pub fn seed(test: &str) -> u64 {
    let given = std::env::var("REWIND_SEED").ok().and_then(|text| text.parse().ok());
    let now = || std::time::UNIX_EPOCH.elapsed().map_or(1, |age| age.as_nanos() as u64);
    let seed = given.unwrap_or_else(|| if is_long() { now() } else { 20_261_121 });
    println!("{test}: REWIND_SEED={seed}");
    seed
}

/// Whether this process may do everything.
#[must_use]
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

static KERNEL: RwLock<()> = RwLock::new(());

/// Waits until no world of this process has a daemon, and holds off new ones: for tests that change a setting of the
/// kernel for a moment.
pub fn kernel_settings() -> RwLockWriteGuard<'static, ()> {
    KERNEL.write()
}

/// The directory of `rewindd` and `restorectl`.
pub fn programs() -> &'static Path {
    static PLACE: OnceLock<PathBuf> = OnceLock::new();
    PLACE.get_or_init(|| {
        if let Some(place) = std::env::var_os("REWIND_BIN") {
            return PathBuf::from(place);
        }
        let test = std::env::current_exe().unwrap();
        let place = test.parent().and_then(Path::parent).expect("target/PROFILE/deps/TEST").to_owned();
        build(&place);
        place
    })
}

/// The integration tests of both programs need them built; they are not run.
fn build(place: &Path) {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args("test --quiet --offline --workspace --no-run --test rewindd --test daemon".split(' '));
    cargo.stdout(Stdio::null());
    match place.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => {}
        Some(profile) => drop(cargo.args(["--profile", profile])),
    }
    cargo.arg("--target-dir").arg(place.parent().expect("target/PROFILE"));
    let status = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).status().expect("run cargo");
    assert!(status.success(), "cargo could not build rewindd and restorectl: {status}");
}

/// What a command left.
#[derive(Clone, Debug)]
pub struct Ran {
    /// The command, for messages.
    pub line: String,
    /// Its exit status; -1 if a signal ended it.
    pub exit: i32,
    /// What it wrote.
    pub stdout: String,
    /// See `stdout`.
    pub stderr: String,
}

impl Ran {
    /// The objects on stdout.
    #[must_use]
    pub fn objects(&self) -> Vec<Value> {
        let parse =
            |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e} in {line:?} of {self:?}"));
        self.stdout.lines().filter(|line| !line.trim().is_empty()).map(parse).collect()
    }

    /// The code of the error, empty without one.
    #[must_use]
    pub fn code(&self) -> String {
        let first = self.stdout.lines().next().and_then(|line| serde_json::from_str::<Value>(line).ok());
        first.and_then(|object| object["error"]["code"].as_str().map(str::to_owned)).unwrap_or_default()
    }
}

/// Runs a program to its end, and ends it itself if it takes too long.
#[must_use]
pub fn run(mut command: Command, within: Duration) -> Ran {
    let line = format!("{command:?}");
    let (mut out, mut err) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
    command.stdin(Stdio::null()).stdout(out.try_clone().unwrap()).stderr(err.try_clone().unwrap());
    let mut child = command.spawn().unwrap_or_else(|e| panic!("{line}: {e}"));
    let until = Instant::now() + within;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > until {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("{line} did not end within {within:?}: {}{}", text(&mut out), text(&mut err));
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    Ran { line, exit: status.code().unwrap_or(-1), stdout: text(&mut out), stderr: text(&mut err) }
}

fn text(file: &mut File) -> String {
    let mut bytes = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A temporary directory with a master directory, replicas and a data directory, and a daemon on it.
pub struct World {
    place: tempfile::TempDir,
    daemon: Option<Child>,
    /// While it is held nobody changes the kernel's settings: capture makes its queue when a scenario is run.
    settings: Option<RwLockReadGuard<'static, ()>>,
    /// Words put before the daemon's command line, such as `setpriv`.
    pub wrapper: Vec<String>,
}

impl Default for World {
    fn default() -> Self {
        World::new()
    }
}

impl World {
    /// A place with an empty master directory, and no daemon yet.
    #[must_use]
    pub fn idle() -> World {
        let place = tempfile::Builder::new().prefix("rewind-suite-").tempdir().unwrap();
        fs::create_dir(place.path().join("m")).unwrap();
        World { place, daemon: None, settings: None, wrapper: Vec::new() }
    }

    /// A place with a daemon that serves.
    #[must_use]
    pub fn new() -> World {
        let mut world = World::idle();
        world.start();
        world
    }

    /// A path in the place.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    /// The protected directory.
    #[must_use]
    pub fn master(&self) -> PathBuf {
        self.path("m")
    }

    /// Where it is replicated.
    #[must_use]
    pub fn replica(&self) -> PathBuf {
        self.path("r/m")
    }

    fn log_path(&self) -> PathBuf {
        self.path("rewindd.log")
    }

    /// Starts the daemon and waits until it serves.
    pub fn start(&mut self) {
        if self.settings.is_none() {
            // One test may have several worlds.
            self.settings = Some(KERNEL.read_recursive());
        }
        self.start_at_once();
    }

    /// As [`World::start`], for a test that holds [`kernel_settings`] itself.
    pub fn start_at_once(&mut self) {
        assert!(self.daemon.is_none(), "a daemon runs already");
        let mut child = self.spawn();
        let stdout = child.stdout.take().unwrap();
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        self.daemon = Some(child);
        let line = lines.recv_timeout(READY_WITHIN);
        let line = line.unwrap_or_else(|e| panic!("rewindd is not ready: {e}\n{}", self.log_end()));
        assert_eq!(line, format!("ready endpoint={}", self.endpoint()));
    }

    fn spawn(&self) -> Child {
        let log = OpenOptions::new().create(true).append(true).open(self.log_path()).unwrap();
        let words = self.daemon_words();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).env("RUST_LOG", "info,fjall=warn,lsm_tree=warn").env("NO_COLOR", "1");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        command.spawn().unwrap_or_else(|e| panic!("{words:?}: {e}"))
    }

    fn daemon_words(&self) -> Vec<String> {
        let mut words = self.wrapper.clone();
        words.push(programs().join("rewindd").display().to_string());
        words.extend([
            "--standalone".to_owned(),
            "--data".to_owned(),
            self.path("data").display().to_string(),
        ]);
        words
    }

    /// Runs another daemon on the same data directory, which has to give up by itself.
    #[must_use]
    pub fn second_daemon(&self) -> Ran {
        let words = self.daemon_words();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        run(command, READY_WITHIN)
    }

    /// Ends the daemon without a chance to do anything more.
    pub fn kill(&mut self) {
        let mut child = self.daemon.take().expect("a daemon runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Asks the daemon to end and waits; it has to exit 0 in time.
    pub fn stop(&mut self) {
        let child = self.daemon.as_mut().expect("a daemon runs");
        kill_process(Pid::from_child(child), Signal::TERM).unwrap();
        let until = Instant::now() + STOP_WITHIN;
        let status: ExitStatus = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < until, "the daemon does not stop\n{}", self.log_end());
            std::thread::sleep(Duration::from_millis(5));
        };
        self.daemon = None;
        assert!(status.success(), "the daemon stopped with {status}\n{}", self.log_end());
    }

    /// The daemon's number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.daemon.as_ref().expect("a daemon runs").id()
    }

    /// Where it serves.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("unix:{}", self.path("data/rewindd.sock").display())
    }

    /// The last lines of the daemon's log.
    #[must_use]
    pub fn log_end(&self) -> String {
        let log = fs::read(self.log_path()).unwrap_or_default();
        let log = String::from_utf8_lossy(&log).into_owned();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
    }

    /// Runs `restorectl --json` with these words, which hold no spaces.
    #[must_use]
    pub fn ctl(&self, line: &str) -> Ran {
        let mut command = Command::new(programs().join("restorectl"));
        command.arg("--json").args(line.split_whitespace());
        command.env_clear().env("REWIND_ENDPOINT", self.endpoint()).env("TZ", "UTC");
        Ran { line: line.to_owned(), ..run(command, COMMAND_WITHIN) }
    }

    /// A command that has to succeed: its one object, null if it prints none.
    pub fn ok(&self, line: &str) -> Value {
        self.list(line).into_iter().next().unwrap_or(Value::Null)
    }

    /// A command that has to succeed: its objects, one a line.
    pub fn list(&self, line: &str) -> Vec<Value> {
        let ran = self.ctl(line);
        assert_eq!(ran.exit, 0, "{ran:?}\n{}", self.log_end());
        ran.objects()
    }

    /// A command that has to fail with this exit status and code.
    pub fn refused(&self, line: &str, exit: i32, code: &str) -> Ran {
        let ran = self.ctl(line);
        assert_eq!((ran.exit, ran.code().as_str()), (exit, code), "{ran:?}\n{}", self.log_end());
        ran
    }

    /// Creates scenario `docs` from the master to the replica directory and runs it.
    pub fn protect(&self) {
        self.ok(&self.create_line("docs"));
        self.ok("scenario run docs");
    }

    /// The command that defines a scenario of the master and replica directories.
    #[must_use]
    pub fn create_line(&self, name: &str) -> String {
        format!("scenario create {name} --root {}={}", self.master().display(), self.replica().display())
    }

    /// Waits until `docs` replicates, as it has to by itself after a restart.
    pub fn wait_replicating(&self) {
        let until = Instant::now() + READY_WITHIN;
        loop {
            let status = self.ok("scenario status docs");
            if status["state"] == "replicating" && status["gaps_open"] == 0 {
                return;
            }
            assert!(Instant::now() < until, "docs does not replicate: {status}\n{}", self.log_end());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Brings everything to the replica; the LSN of the barrier. Both sides must say the same of it.
    pub fn flush(&self) -> String {
        let lsn = self.ok("flush docs")["lsn"].as_str().expect("an LSN").to_owned();
        let status = self.ok("scenario status docs");
        assert_eq!(status["last_proof"]["equal"], true, "{status}");
        lsn
    }

    /// Reads a point into a new directory beside the master; the directory.
    #[must_use]
    pub fn read_at(&self, point: &str, name: &str) -> PathBuf {
        let onto = self.path(name);
        self.ok(&format!("rewind docs --to {point} --onto {}", onto.display()));
        onto
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(mut child) = self.daemon.take() {
            drop(child.kill());
            drop(child.wait());
        }
        if std::thread::panicking() {
            eprintln!("--- end of the daemon's log:\n{}", self.log_end());
            if std::env::var_os("REWIND_KEEP").is_some() {
                self.place.disable_cleanup(true);
                eprintln!("--- kept: {}", self.place.path().display());
            }
        }
    }
}
