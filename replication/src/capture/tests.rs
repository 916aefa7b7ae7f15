//! Capture against real directories: what the drafts say must at every barrier be what is there.

mod actual;
mod cases;
mod compared;
mod divided;
mod gaps;
mod large;
mod model;
mod random;
mod rebuilt;
mod restless;
mod rotten;
mod stale;
mod unreachable;
mod written;

use super::{Agent, CaptureConfig, CaptureRoot, Index, IndexState, Start};
use journal::{Class, GapCause, Lsn, RootNo};
use model::{Model, ModelSink, SharedModel};
use parking_lot::Mutex;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

/// An agent over one real directory, and the model that its drafts make.
struct Bench {
    directory: tempfile::TempDir,
    /// For the agent's own files, in memory if possible: their fsyncs are not what is tested.
    own: tempfile::TempDir,
    model: SharedModel,
    agent: Option<Agent>,
    config: CaptureConfig,
    barriers: u64,
    /// What the sink says of whether captures are safe; always, if nothing.
    safe: Option<Arc<AtomicBool>>,
}

impl Bench {
    /// A bench whose agent has not been started.
    fn prepare() -> Self {
        Self::prepare_in("")
    }

    /// The same, with the root on a file system of choice if it is there.
    fn prepare_in(place: &str) -> Self {
        let place = Path::new(place);
        let directory =
            if place.is_dir() { tempfile::tempdir_in(place) } else { tempfile::tempdir() }.unwrap();
        let root = directory.path().join("root");
        std::fs::create_dir(&root).unwrap();
        std::fs::create_dir(directory.path().join("outside")).unwrap();
        let memory = Path::new("/dev/shm");
        let own = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let roots = vec![CaptureRoot { number: RootNo(0), path: root, exclude: Vec::new() }];
        let config = CaptureConfig::new(roots, own.path().join("cookies"));
        Bench {
            directory,
            own,
            model: Arc::new(Mutex::new(Model::default())),
            agent: None,
            config,
            barriers: 0,
            safe: None,
        }
    }

    /// A bench with a running agent, synchronized.
    fn new() -> Self {
        let mut bench = Self::prepare();
        bench.start(Start::First);
        bench.check();
        bench
    }

    /// A bench that looks only when a barrier makes it: what lies between two barriers is seen as a whole.
    fn patient() -> Self {
        let mut bench = Self::prepare();
        bench.config.debounce = PATIENCE;
        bench.start(Start::First);
        bench.check();
        bench
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    fn outside(&self) -> PathBuf {
        self.directory.path().join("outside")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    fn index_path(&self) -> PathBuf {
        self.own.path().join("index")
    }

    fn start(&mut self, start: Start) {
        let (index, state) = Index::open(&self.index_path()).unwrap();
        match start {
            Start::Rescan { .. } => assert!(matches!(state, IndexState::Clean { .. }), "{state:?}"),
            _ => assert_eq!(state, IndexState::Empty),
        }
        self.start_with(index, start);
    }

    fn start_with(&mut self, index: Index, start: Start) {
        let mut sink = ModelSink::new(Arc::clone(&self.model));
        sink.safe.clone_from(&self.safe);
        let sink = Box::new(sink);
        self.agent = Some(Agent::spawn(self.config.clone(), index, sink, start).unwrap());
    }

    fn restart(&mut self) {
        self.start(Start::Rescan { cause: GapCause::AgentDown });
    }

    fn agent(&self) -> &Agent {
        self.agent.as_ref().unwrap()
    }

    fn stop(&mut self) -> Lsn {
        self.agent.take().unwrap().stop().unwrap()
    }

    fn barrier(&mut self) -> Lsn {
        self.barriers += 1;
        let result = self.agent().barrier(self.barriers, Class::Fuzzy, PATIENCE);
        let faults = self.model.lock().faults.clone();
        assert!(faults.is_empty(), "{faults:#?}");
        result.unwrap()
    }

    /// Barrier, then everything compared.
    fn check(&mut self) {
        self.barrier();
        self.compare();
    }

    fn compare(&self) {
        for root in &self.config.roots {
            let differences = self.model.lock().compare(root.number, &root.path);
            assert!(differences.is_empty(), "{differences:#?}");
        }
    }

    /// The agent says what it is doing a moment after it has answered a barrier.
    fn expect_skipped(&self, count: usize) {
        let started = std::time::Instant::now();
        while self.agent().status().skipped != count {
            assert!(started.elapsed() < PATIENCE / 6, "not {count}: {:?}", self.agent().status());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Names of the events captured since `from` captures, for worked examples.
    fn told_since(&self, from: usize) -> Vec<Vec<String>> {
        self.model.lock().told.iter().skip(from).filter(|events| !events.is_empty()).cloned().collect()
    }

    fn told(&self) -> usize {
        self.model.lock().told.len()
    }

    /// Captures that `work` leads to, each a list of event names.
    fn telling(&mut self, work: impl FnOnce(&Path)) -> Vec<Vec<String>> {
        let before = self.told();
        work(&self.root());
        self.check();
        self.told_since(before)
    }
}
