//! Commands of a scenario that a master runs for it: which it may, how one is run, and what survives a crash.
//!
//! Hooks are defined at the replica and run on the master with the rights of its daemon. So the master's own
//! configuration has the last word ([`HooksAllowed`]): whoever gets hold of a replica must not get hold of every
//! master with it. A command of a list is allowed word for word, not by a pattern that a shell could be talked out of.
//!
//! A hook is `sh -c COMMAND` in a process group of its own, with an environment of a few words, nothing to read, and
//! an output of which the first part is kept and the rest read and forgotten. It waits at a gate until it is let go:
//! between its birth and that moment a [`Note`] can be made durable which names it, so that whoever starts after a
//! crash knows whether it may still be at work. If the daemon dies at the gate the hook ends without having begun.
//!
//! A hook that succeeded may leave processes behind, such as one that holds a lock: they are not touched, and what
//! they write is read until the [`Hook`] is dropped. One that hangs is killed with all of its group.

mod left_over;
mod note;
mod process;

pub use left_over::{LeftOver, is_any_left_over, thaw_left_over};
pub(crate) use note::Note;
pub use note::path_in as note_in;
pub(crate) use process::Process;

use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process_group};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{self, PipeReader, Read, Write};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Bytes of a hook's output that are kept.
const OUTPUT_BYTES_MAX: usize = 8 << 10;
/// Bytes of it that an error shows.
const OUTPUT_BYTES_SHOWN: usize = 300;
/// Longest wait for the rest of the output of a hook that has failed.
const OUTPUT_WAIT: Duration = Duration::from_millis(200);
/// How often the reader of an output looks whether it is still wanted.
const READ_LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };
/// How often it is looked whether a hook has ended.
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// Longest wait for processes that were killed; the kernel may hold one in a system call.
const KILL_WAIT: Duration = Duration::from_secs(5);
/// Words of the daemon's environment that a hook gets to see; nothing else, for there may be secrets in it.
const ENVIRONMENT: [&str; 5] = ["PATH", "HOME", "USER", "LANG", "TZ"];
/// Waits for one line, then becomes the hook. A closed pipe is no line.
const GATE: &str = "IFS= read -r go || exit 125; exec /bin/sh -c \"$1\" </dev/null";

/// Which hooks a master runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum HooksAllowed {
    /// None.
    #[default]
    None,
    /// Whatever the scenario says, wherever that comes from.
    Any,
    /// Whatever the scenario says, and only the owner of this daemon may say it: whoever takes definitions sees to
    /// that. Only for a daemon that is replica and master.
    Owner,
    /// These commands, word for word.
    Listed(BTreeSet<String>),
}

impl HooksAllowed {
    /// Whether it runs this one.
    #[must_use]
    pub fn allows(&self, command: &str) -> bool {
        match self {
            HooksAllowed::None => false,
            HooksAllowed::Any | HooksAllowed::Owner => true,
            HooksAllowed::Listed(list) => list.contains(command),
        }
    }
}

/// What a hook did not do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum HookError {
    /// It could not be started.
    #[error("the {hook} hook cannot be started")]
    Start { hook: &'static str, source: io::Error },
    /// It said that it failed, or a signal ended it.
    #[error("the {hook} hook failed ({status}){output}")]
    Failed { hook: &'static str, status: ExitStatus, output: Output },
    /// It did not come to an end.
    #[error("the {hook} hook did not end within {:.1}s and was killed{output}", .limit.as_secs_f64())]
    Hung { hook: &'static str, limit: Duration, output: Output },
    /// Nobody waits for it any more.
    #[error("the {hook} hook was killed, because the daemon stops")]
    Stopping { hook: &'static str },
}

/// What a hook wrote, as far as it is shown.
#[derive(Debug)]
pub(crate) struct Output(String);

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, ": {}", self.0) }
    }
}

/// What a hook gets to know.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    pub scenario: String,
    /// Names one hold: that of its quiesce hook and of its thaw hook.
    pub id: String,
    /// Paths of the roots.
    pub roots: Vec<Vec<u8>>,
}

/// A hook that waits at its gate, runs, or has ended. Dropping it ends the reading of its output, and a hook that
/// waits; one that runs goes on.
pub(crate) struct Hook {
    name: &'static str,
    child: Child,
    gate: Option<ChildStdin>,
    kept: Arc<Kept>,
}

#[derive(Default)]
struct Kept {
    bytes: Mutex<Vec<u8>>,
    /// Nothing more comes.
    complete: AtomicBool,
    unwanted: AtomicBool,
}

impl Hook {
    /// Starts it, up to its gate.
    ///
    /// # Errors
    /// `Start`.
    pub fn prepare(name: &'static str, command: &str, setting: &Setting) -> Result<Self, HookError> {
        Hook::spawn(name, command, setting).map_err(|source| HookError::Start { hook: name, source })
    }

    fn spawn(name: &'static str, command: &str, setting: &Setting) -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", GATE, "rewind-hook", command]).current_dir("/").process_group(0);
        shell.env_clear().envs(ENVIRONMENT.iter().filter_map(|key| Some((key, std::env::var_os(key)?))));
        shell
            .env("REWIND_HOOK", name)
            .env("REWIND_SCENARIO", &setting.scenario)
            .env("REWIND_ID", &setting.id);
        shell.env("REWIND_ROOTS", setting.roots.len().to_string());
        for (number, root) in setting.roots.iter().enumerate() {
            shell.env(format!("REWIND_ROOT_{number}"), OsString::from_vec(root.clone()));
        }
        shell.stdin(Stdio::piped()).stdout(writer.try_clone()?).stderr(writer);
        let mut child = shell.spawn()?;
        // The command holds our ends of the pipe, which would keep it open.
        drop(shell);
        let kept = Arc::new(Kept::default());
        let reading = Arc::clone(&kept);
        std::thread::Builder::new().name("hook".to_owned()).spawn(move || reading.read(reader))?;
        let gate = child.stdin.take();
        Ok(Hook { name, child, gate, kept })
    }

    /// Which process it is; `None` if it has ended at its gate.
    pub fn process(&self) -> Option<Process> {
        Process::of(self.child.id())
    }

    /// Whether it still waits at its gate.
    pub fn waits(&self) -> bool {
        self.gate.is_some() && self.process().is_some()
    }

    /// Lets it go and waits for its end until `until`, or until `stopping` turns true. Whatever is not over by then is
    /// killed with all of its group.
    ///
    /// # Errors
    /// See [`HookError`].
    pub fn run(&mut self, until: Instant, stopping: Option<&AtomicBool>) -> Result<(), HookError> {
        let (hook, began) = (self.name, Instant::now());
        let failed = |source| HookError::Start { hook, source };
        if let Some(mut gate) = self.gate.take() {
            gate.write_all(b"\n").map_err(failed)?;
        }
        loop {
            if let Some(status) = self.child.try_wait().map_err(failed)? {
                if status.success() {
                    return Ok(());
                }
                return Err(HookError::Failed { hook, status, output: self.tail() });
            }
            if stopping.is_some_and(|stopping| stopping.load(Ordering::SeqCst)) {
                self.kill();
                return Err(HookError::Stopping { hook });
            }
            if Instant::now() >= until {
                self.kill();
                let limit = until.saturating_duration_since(began);
                return Err(HookError::Hung { hook, limit, output: self.tail() });
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    fn kill(&mut self) {
        let group = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(error) = group.and_then(|group| kill_process_group(group, Signal::KILL).err()) {
            tracing::warn!(hook = self.name, %error, "a hook cannot be killed");
        }
        let give_up = Instant::now() + KILL_WAIT;
        while let Ok(None) = self.child.try_wait() {
            if Instant::now() >= give_up {
                tracing::error!(hook = self.name, pid = self.child.id(), "a hook does not die");
                return;
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// What it wrote until now.
    pub fn written(&self) -> String {
        String::from_utf8_lossy(&self.kept.bytes.lock()).trim_end().to_owned()
    }

    /// The end of what it wrote, in one line.
    fn tail(&self) -> Output {
        let give_up = Instant::now() + OUTPUT_WAIT;
        while !self.kept.complete.load(Ordering::SeqCst) && Instant::now() < give_up {
            std::thread::sleep(LOOK_EVERY);
        }
        let line = self.written().split_whitespace().collect::<Vec<_>>().join(" ");
        let mut start = line.len().saturating_sub(OUTPUT_BYTES_SHOWN);
        while !line.is_char_boundary(start) {
            start += 1;
        }
        Output(line.get(start..).unwrap_or_default().to_owned())
    }
}

impl Drop for Hook {
    fn drop(&mut self) {
        self.kept.unwanted.store(true, Ordering::SeqCst);
        if self.gate.take().is_some() {
            // It has not begun and does not now; killed only so that it can be waited for.
            drop(self.child.kill());
            drop(self.child.wait());
        } else {
            // One that died late is taken from the list of processes.
            drop(self.child.try_wait());
        }
    }
}

impl Kept {
    /// Reads to the end, whatever comes: a hook must not wait for a reader.
    fn read(&self, mut from: PipeReader) {
        let mut some = [0; 4096];
        while !self.unwanted.load(Ordering::SeqCst) {
            let mut ready = [PollFd::new(&from, PollFlags::IN)];
            match poll(&mut ready, Some(&READ_LOOK)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => continue,
                Ok(_) => {}
                Err(_) => break,
            }
            let Ok(count @ 1..) = from.read(&mut some) else { break };
            let mut bytes = self.bytes.lock();
            let room = OUTPUT_BYTES_MAX.saturating_sub(bytes.len());
            bytes.extend(some.iter().take(count.min(room)));
        }
        self.complete.store(true, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests;
