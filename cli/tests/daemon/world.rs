//! A daemon with the test engine, and `restorectl` as a process.

use crate::engine::TestEngine;
use api::config::Options;
use api::daemon::{Daemon, EngineContext, Wired, Wiring};
use api::engine::EngineError;
use api::server_journal::{Durability, EachRecord, Position, RecordKind, ServerJournal};
use journal::JournalError;
use parking_lot::Mutex;
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};

/// A server journal that lives as long as the test.
#[derive(Default)]
pub struct MemoryJournal(Mutex<Vec<(RecordKind, Vec<u8>)>>);

impl ServerJournal for MemoryJournal {
    fn append(&self, kind: RecordKind, bytes: &[u8], _: Durability) -> Result<Position, JournalError> {
        let mut records = self.0.lock();
        records.push((kind, bytes.to_vec()));
        Ok(Position(records.len() as u64))
    }

    fn replay(&self, after: Position, each: EachRecord<'_>) -> Result<(), JournalError> {
        let records = self.0.lock().clone();
        for (at, (kind, bytes)) in records.iter().enumerate().skip(after.0 as usize) {
            if each(Position(at as u64 + 1), *kind, bytes).is_break() {
                break;
            }
        }
        Ok(())
    }
}

/// What outlives a daemon.
#[derive(Clone, Default)]
pub struct TestWiring {
    pub journal: Arc<MemoryJournal>,
    pub gate: Arc<AtomicBool>,
    pub runs: Arc<AtomicUsize>,
}

impl Wiring for TestWiring {
    fn server_journal(&self, _: &Path) -> Result<Arc<dyn ServerJournal>, EngineError> {
        Ok(Arc::<MemoryJournal>::clone(&self.journal))
    }

    fn engine(&self, context: EngineContext) -> Result<Wired, EngineError> {
        let (gate, runs) = (Arc::clone(&self.gate), Arc::clone(&self.runs));
        let engine = TestEngine::new(context.registry, context.activity, gate, runs);
        Ok(Wired { engine: Arc::new(engine), routes: None })
    }
}

pub struct World {
    pub place: tempfile::TempDir,
    pub wiring: TestWiring,
    pub daemon: Option<Daemon>,
}

impl World {
    pub async fn new() -> Self {
        World::with(|options| options).await
    }

    pub async fn with(change: impl FnOnce(Options) -> Options) -> Self {
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let mut world =
            World { place: tempfile::tempdir().unwrap(), wiring: TestWiring::default(), daemon: None };
        world.start(change).await.unwrap();
        world
    }

    pub fn options(&self) -> Options {
        Options::standalone(self.place.path().join("data"), None)
    }

    pub async fn start(&mut self, change: impl FnOnce(Options) -> Options) -> Result<(), EngineError> {
        let options = change(self.options());
        self.daemon = Some(Daemon::start(options, Arc::new(self.wiring.clone())).await?);
        Ok(())
    }

    pub async fn stop(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            daemon.stop().await;
        }
    }

    pub fn endpoint(&self) -> String {
        format!("unix:{}/data/rewindd.sock", self.place.path().display())
    }

    /// A command line, ready to be run.
    pub fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_restorectl"));
        command.args(line.split_whitespace()).stdin(Stdio::null());
        command.env_clear().env("REWIND_ENDPOINT", self.endpoint()).env("TZ", "UTC");
        command
    }

    pub async fn run(&self, line: &str) -> Ran {
        run(self.command(line)).await
    }

    /// Runs a command that must succeed.
    pub async fn good(&self, line: &str) -> Ran {
        let ran = self.run(line).await;
        assert_eq!(ran.exit, 0, "{line}: {ran:?}");
        ran
    }

    /// Runs a command that must fail with a status and a code, for people and as JSON.
    pub async fn bad(&self, line: &str, exit: i32, code: &str) {
        let ran = self.run(line).await;
        assert_eq!(ran.exit, exit, "{line}: {ran:?}");
        assert!(ran.stderr.contains(&format!("error[{code}]: ")), "{line}: {ran:?}");
        for part in ["\n  reason: ", "\n  action: "] {
            assert!(ran.stderr.contains(part), "{line}: {ran:?}");
        }
        assert_eq!(ran.stdout, "", "{line}");
        let ran = self.run(&format!("{line} --json")).await;
        assert_eq!(ran.exit, exit, "{line} --json: {ran:?}");
        let error = &ran.json()["error"];
        assert_eq!(error["code"], code, "{line}: {ran:?}");
        for key in ["message", "reason", "action", "module"] {
            assert!(error[key].as_str().is_some_and(|text| !text.is_empty()), "{line}: {key}: {ran:?}");
        }
    }

    /// Defines scenarios, which are stopped.
    pub async fn scenarios(&self, names: &[&str]) {
        for name in names {
            self.good(&format!("scenario create {name} --root /srv/{name}")).await;
        }
    }
}

#[derive(Debug)]
pub struct Ran {
    pub exit: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// The only object on stdout.
    pub fn json(&self) -> Value {
        let objects = self.objects();
        assert_eq!(objects.len(), 1, "{self:?}");
        objects[0].clone()
    }

    pub fn objects(&self) -> Vec<Value> {
        let stream = serde_json::Deserializer::from_str(&self.stdout).into_iter();
        stream.collect::<Result<_, _>>().unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

pub async fn run(mut command: Command) -> Ran {
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    ran(&output)
}

pub fn ran(output: &Output) -> Ran {
    Ran {
        exit: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout.clone()).unwrap(),
        stderr: String::from_utf8(output.stderr.clone()).unwrap(),
    }
}
