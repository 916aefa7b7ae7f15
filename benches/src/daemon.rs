//! The daemon under test: a process of its own in a data directory of its own, and its memory.

use crate::run;
use anyhow::{Context, bail};
use parking_lot::Mutex;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Memory of a process, bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// Most that was resident.
    pub resident: u64,
    /// Most of it that was no file's, as seen twenty times a second.
    pub anonymous: u64,
}

impl Memory {
    /// The greater of each.
    pub fn max(self, other: Memory) -> Memory {
        Memory { resident: self.resident.max(other.resident), anonymous: self.anonymous.max(other.anonymous) }
    }

    /// Prints it.
    pub fn print(&self) {
        let (resident, anonymous) = (self.resident / 1_000_000, self.anonymous / 1_000_000);
        println!("  memory of the daemon: resident {resident} MB, anonymous {anonymous} MB at most");
    }
}

/// A running standalone daemon. Dropping it kills it.
pub struct Daemon {
    child: Child,
    endpoint: String,
    data: PathBuf,
    memory: Arc<Mutex<Memory>>,
    done: Arc<AtomicBool>,
    sampler: Option<JoinHandle<()>>,
}

/// Directory of `rewindd` and `restorectl`, built if they are not as new as their sources.
fn binaries() -> anyhow::Result<&'static Path> {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    if let Some(built) = BUILT.get() {
        return Ok(built);
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--release", "-p", "api", "-p", "cli"]).current_dir(crate::tree::workspace());
    run::timed(&mut build)?;
    let this = std::env::current_exe().context("find this program")?;
    let directory = this.parent().context("find the directory of this program")?;
    Ok(BUILT.get_or_init(|| directory.to_owned()))
}

/// Processor seconds in a `stat` of a process: in user space at field `at`, counted from behind its name, and in the
/// kernel behind it.
///
/// # Errors
/// If the process has ended.
pub fn spent(stat: &str, at: usize) -> anyhow::Result<f64> {
    let text = std::fs::read_to_string(stat)?;
    let fields: Vec<&str> =
        text.rsplit_once(')').context("read the state of a process")?.1.split(' ').collect();
    let ticks = |at: usize| fields.get(at).and_then(|ticks| ticks.parse::<f64>().ok()).unwrap_or(0.0);
    // The kernel's clock for processes has a hundred ticks a second.
    Ok((ticks(at) + ticks(at + 1)) / 100.0)
}

fn memory_of(status: &str) -> Memory {
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim_start_matches(':').split_whitespace().next()?.parse::<u64>().ok()
    };
    let bytes = |name| field(name).unwrap_or(0) << 10;
    Memory { resident: bytes("VmHWM"), anonymous: bytes("RssAnon") }
}

/// Looks once; a process that has ended has nothing to add.
fn look(process: u32, memory: &Mutex<Memory>) {
    if let Ok(status) = std::fs::read_to_string(format!("/proc/{process}/status")) {
        let mut most = memory.lock();
        *most = most.max(memory_of(&status));
    }
}

fn sample(process: u32, memory: &Mutex<Memory>, done: &AtomicBool) {
    while !done.load(Ordering::Relaxed) {
        look(process, memory);
        std::thread::sleep(Duration::from_millis(50));
    }
}

impl Daemon {
    /// Starts one on `data` and waits until it serves.
    ///
    /// # Errors
    /// If it ends before that.
    pub fn start(data: &Path) -> anyhow::Result<Self> {
        let mut child = Command::new(binaries()?.join("rewindd"))
            .args(["--standalone", "--data"])
            .arg(data)
            .env("RUST_LOG", "error")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("start rewindd")?;
        let mut line = String::new();
        let stdout = child.stdout.take().context("read stdout of rewindd")?;
        BufReader::new(stdout).read_line(&mut line)?;
        if !line.starts_with("ready ") {
            bail!("rewindd did not come up: {line}");
        }
        let (memory, done) = (Arc::<Mutex<Memory>>::default(), Arc::<AtomicBool>::default());
        let process = child.id();
        let (its_memory, its_done) = (Arc::clone(&memory), Arc::clone(&done));
        let sampler = std::thread::spawn(move || sample(process, &its_memory, &its_done));
        let endpoint = format!("unix:{}", data.join("rewindd.sock").display());
        Ok(Daemon { child, endpoint, data: data.to_owned(), memory, done, sampler: Some(sampler) })
    }

    /// Forgets what was resident before: what is said of the memory from now on is of what comes now.
    ///
    /// # Errors
    /// If the process has ended.
    pub fn forget_memory(&self) -> anyhow::Result<()> {
        let mut most = self.memory.lock();
        std::fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5")?;
        *most = Memory::default();
        Ok(())
    }

    /// The replica directory the scenario is given by [`Daemon::protect`].
    pub fn replica(&self) -> PathBuf {
        self.data.with_extension("replica")
    }

    /// A command of `restorectl`, to be run.
    fn command(&self, arguments: &[&str]) -> anyhow::Result<Command> {
        let mut command = Command::new(binaries()?.join("restorectl"));
        command.args(arguments).args(["--endpoint", &self.endpoint]);
        Ok(command)
    }

    /// The same for others to run.
    ///
    /// # Errors
    /// If the programs cannot be built.
    pub fn client(&self, arguments: &[&str]) -> anyhow::Result<Command> {
        self.command(arguments)
    }

    /// Processor seconds of the daemon so far.
    ///
    /// # Errors
    /// If it has ended.
    pub fn processor(&self) -> anyhow::Result<f64> {
        spent(&format!("/proc/{}/stat", self.child.id()), 12)
    }

    /// Runs a command of `restorectl`; gives the time it took, start of the process included.
    ///
    /// # Errors
    /// If it fails.
    pub fn run(&self, arguments: &[&str]) -> anyhow::Result<Duration> {
        Ok(run::timed(&mut self.command(arguments)?)?.1)
    }

    /// Defines the scenario `bench` on a directory and synchronizes; gives the time of `scenario run`.
    ///
    /// # Errors
    /// Those of the commands.
    pub fn protect(&self, master: &Path) -> anyhow::Result<Duration> {
        let root = format!("{}={}", master.display(), self.replica().display());
        self.run(&["scenario", "create", "bench", "--root", &root])?;
        self.run(&["scenario", "run", "bench"])
    }

    /// Memory so far.
    pub fn memory(&self) -> Memory {
        look(self.child.id(), &self.memory);
        *self.memory.lock()
    }

    /// Ends it in good order; gives its memory.
    ///
    /// # Errors
    /// If it cannot be told to.
    pub fn stop(mut self) -> anyhow::Result<Memory> {
        let memory = self.memory();
        let process = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(process, rustix::process::Signal::TERM).context("stop rewindd")?;
        let ended = self.child.wait().context("wait for rewindd")?;
        if !ended.success() {
            bail!("rewindd ended with {ended}");
        }
        // What the sampler saw while it was ending; its number is no longer to be looked up.
        Ok(memory.max(*self.memory.lock()))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        // Both fail for a process that has ended, which is what is wanted.
        drop(self.child.kill());
        drop(self.child.wait());
        if let Some(sampler) = self.sampler.take() {
            drop(sampler.join());
        }
    }
}
