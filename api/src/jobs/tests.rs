//! Life of a job: order, refusal, cancellation, restart, keys, and a projection that vanishes.

mod hold;

use super::*;
use crate::testing::MemoryServerJournal;
use crossbeam::*;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Blocks between threads, small enough to live here.
mod crossbeam {
    use parking_lot::{Condvar, Mutex};

    #[derive(Default)]
    pub(super) struct Gate {
        open: Mutex<bool>,
        changed: Condvar,
    }

    impl Gate {
        pub(super) fn open(&self) {
            *self.open.lock() = true;
            self.changed.notify_all();
        }

        pub(super) fn is_open(&self) -> bool {
            *self.open.lock()
        }
    }
}

/// Works until its gate opens or it is interrupted.
#[derive(Default)]
struct Waiting {
    gate: Gate,
    attempts: AtomicUsize,
    again: AtomicUsize,
}

impl Runner for Waiting {
    fn run(
        &self,
        _: v1::JobKind,
        request: &[u8],
        again: bool,
        progress: &dyn Progress,
    ) -> Result<Ended, EngineError> {
        self.attempts.fetch_add(1, Ordering::SeqCst);
        self.again.fetch_add(usize::from(again), Ordering::SeqCst);
        if request == b"panic" {
            panic!("as asked");
        }
        progress.report("waiting", 1, Some(2), "steps");
        while !self.gate.is_open() {
            if let Some(interrupt) = progress.interrupted() {
                return Err(EngineError::interrupted(interrupt));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let report = v1::result::Report::Run(v1::RunReport { files: 7, ..v1::RunReport::default() });
        Ok(Ended {
            outcome: v1::Outcome::Succeeded,
            result: v1::Result { report: Some(report) },
            error: None,
        })
    }
}

struct World {
    directory: tempfile::TempDir,
    journal: Arc<MemoryServerJournal>,
}

impl World {
    fn new() -> Self {
        World { directory: tempfile::tempdir().unwrap(), journal: Arc::default() }
    }

    fn open(&self, runner: &Arc<Waiting>, limits: Limits) -> Arc<Jobs> {
        let journal: Arc<dyn ServerJournal> = Arc::<MemoryServerJournal>::clone(&self.journal);
        let store = JobStore::open(self.directory.path(), journal.as_ref()).unwrap();
        let jobs = Jobs::open(Arc::clone(&journal), store, Activity::new(journal), limits).unwrap();
        let runner: Arc<dyn Runner> = Arc::<Waiting>::clone(runner);
        jobs.start(&runner).unwrap();
        jobs
    }
}

fn submission(scenario: &str) -> Submission {
    Submission {
        kind: v1::JobKind::Run,
        scenario: scenario.into(),
        exclusive: true,
        request: vec![1],
        idempotency_key: String::new(),
    }
}

fn id(job: &v1::Job) -> JobId {
    JobId(job.id.parse().unwrap())
}

fn wait_for(jobs: &Jobs, job: JobId, wanted: impl Fn(&v1::Job) -> bool) -> v1::Job {
    for _ in 0..5000 {
        let now = jobs.show(job).unwrap();
        if wanted(&now) {
            return now;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("job {job:?} stays {:?}", jobs.show(job));
}

fn is_done(job: &v1::Job) -> bool {
    job.state() == v1::JobState::Done
}

#[test]
fn runs_to_its_end() {
    let (world, runner) = (World::new(), Arc::<Waiting>::default());
    let jobs = world.open(&runner, Limits::default());
    let job = id(&jobs.submit(submission("a")).unwrap());
    let active = wait_for(&jobs, job, |job| job.progress.as_ref().is_some_and(|progress| progress.done == 1));
    assert_eq!(active.state(), v1::JobState::Active);
    runner.gate.open();
    let done = wait_for(&jobs, job, is_done);
    assert_eq!(done.outcome(), v1::Outcome::Succeeded);
    assert!(
        matches!(done.result.unwrap().report, Some(v1::result::Report::Run(report)) if report.files == 7)
    );
    assert!(done.started.is_some() && done.finished.is_some() && done.error.is_none());
    assert!(jobs.shutdown(Duration::from_secs(5)));
}

#[test]
fn one_exclusive_job_a_scenario() {
    let (world, runner) = (World::new(), Arc::<Waiting>::default());
    let jobs = world.open(&runner, Limits::default());
    jobs.submit(submission("a")).unwrap();
    let refused = jobs.submit(submission("a")).unwrap_err();
    assert_eq!(refused.code().id, "RW0470");
    assert!(refused.to_string().contains("job 1 (run)"), "{refused}");
    jobs.submit(submission("b")).unwrap();
    jobs.submit(Submission { exclusive: false, ..submission("a") }).unwrap();
    assert_eq!(
        jobs.list(&JobFilter { scenario: Some("a".into()), ..JobFilter::default() }).unwrap().len(),
        2
    );
    assert!(jobs.shutdown(Duration::from_secs(5)));
}

/// A backup changes nothing: on the worst day a rewind does not wait for it. A second backup does.
#[test]
fn backups_keep_only_each_other_out() {
    let (world, runner) = (World::new(), Arc::<Waiting>::default());
    let jobs = world.open(&runner, Limits::default());
    let backup = || Submission { kind: v1::JobKind::Backup, ..submission("a") };
    jobs.submit(backup()).unwrap();
    jobs.submit(submission("a")).unwrap();
    let refused = jobs.submit(backup()).unwrap_err();
    assert_eq!(refused.code().id, "RW0470");
    assert!(refused.to_string().contains("job 1 (backup)"), "{refused}");
    assert!(jobs.submit(submission("a")).unwrap_err().to_string().contains("job 2 (run)"));
    let rebuild = |scenario| Submission { kind: v1::JobKind::JournalRebuild, ..submission(scenario) };
    jobs.submit(Submission { scenario: "b".into(), ..backup() }).unwrap();
    assert!(jobs.submit(rebuild("b")).unwrap_err().to_string().contains("job 3 (backup)"));
    assert!(jobs.shutdown(Duration::from_secs(5)));
}

#[test]
fn bounded() {
    let (world, runner) = (World::new(), Arc::<Waiting>::default());
    let jobs = world.open(&runner, Limits { active: 1, waiting: 1 });
    let first = id(&jobs.submit(submission("a")).unwrap());
    wait_for(&jobs, first, |job| job.state() == v1::JobState::Active);
    jobs.submit(submission("b")).unwrap();
    assert_eq!(jobs.submit(submission("c")).unwrap_err().code().id, "RW1031");
    assert!(jobs.shutdown(Duration::from_secs(5)));
}

#[test]
fn cancellation() {
    let (world, runner) = (World::new(), Arc::<Waiting>::default());
    let jobs = world.open(&runner, Limits { active: 1, waiting: 9 });
    let active = id(&jobs.submit(submission("a")).unwrap());
    wait_for(&jobs, active, |job| job.state() == v1::JobState::Active);
    let waiting = id(&jobs.submit(submission("b")).unwrap());
    jobs.cancel(waiting).unwrap();
    jobs.cancel(active).unwrap();
    for job in [waiting, active] {
        let done = wait_for(&jobs, job, is_done);
        assert_eq!(done.outcome(), v1::Outcome::Cancelled);
        assert_eq!(done.error.unwrap().exit, 130);
    }
    assert_eq!(runner.attempts.load(Ordering::SeqCst), 1);
    assert_eq!(jobs.cancel(active).unwrap().outcome(), v1::Outcome::Cancelled);
    assert_eq!(jobs.cancel(JobId(99)).unwrap_err().code().id, "RW1006");
    assert!(jobs.shutdown(Duration::from_secs(5)));
}

#[test]
fn a_panic_ends_the_job_alone() {
    let (world, runner) = (World::new(), Arc::<Waiting>::default());
    let jobs = world.open(&runner, Limits { active: 1, waiting: 9 });
    let job = id(&jobs.submit(Submission { request: b"panic".to_vec(), ..submission("a") }).unwrap());
    assert_eq!(wait_for(&jobs, job, is_done).error.unwrap().code, "RW0472");
    runner.gate.open();
    let next = id(&jobs.submit(submission("a")).unwrap());
    assert_eq!(wait_for(&jobs, next, is_done).outcome(), v1::Outcome::Succeeded);
    assert!(jobs.shutdown(Duration::from_secs(5)));
}

#[test]
fn keys() {
    let (world, runner) = (World::new(), Arc::<Waiting>::default());
    let jobs = world.open(&runner, Limits::default());
    let keyed = || Submission { idempotency_key: "k".into(), ..submission("a") };
    let first = jobs.submit(keyed()).unwrap();
    assert_eq!(jobs.submit(keyed()).unwrap().id, first.id);
    let other = Submission { request: vec![2], ..keyed() };
    assert_eq!(jobs.submit(other).unwrap_err().code().id, "RW0468");
    runner.gate.open();
    wait_for(&jobs, id(&first), is_done);
    assert_eq!(jobs.submit(keyed()).unwrap().outcome(), v1::Outcome::Succeeded);
    assert!(jobs.shutdown(Duration::from_secs(5)));
}

/// The words of a request stand for the job, not what they meant when it was taken in.
#[test]
fn keys_of_requests_with_points() {
    let (world, runner) = (World::new(), Arc::<Waiting>::default());
    let jobs = world.open(&runner, Limits::default());
    let rewind = |to: &str, resolved: &str| {
        let request =
            v1::RewindRequest { to: to.into(), resolved: resolved.into(), ..v1::RewindRequest::default() };
        let (kind, request) = (v1::JobKind::Rewind, request.encode_to_vec());
        Submission { kind, request, idempotency_key: "k".into(), ..submission("a") }
    };
    assert_eq!(jobs.earlier(&rewind("-10m", "")).unwrap(), None);
    let first = jobs.submit(rewind("-10m", "lsn:7")).unwrap();
    assert_eq!(jobs.earlier(&rewind("-10m", "")).unwrap().unwrap().id, first.id);
    assert_eq!(jobs.submit(rewind("-10m", "lsn:9")).unwrap().id, first.id);
    assert_eq!(jobs.submit(rewind("-20m", "lsn:7")).unwrap_err().code().id, "RW0468");
    runner.gate.open();
    wait_for(&jobs, id(&first), is_done);
    assert!(jobs.shutdown(Duration::from_secs(5)));
}

#[test]
fn what_had_not_ended_starts_again() {
    for lose_projection in [false, true] {
        let (world, runner) = (World::new(), Arc::<Waiting>::default());
        let jobs = world.open(&runner, Limits::default());
        let job = id(&jobs.submit(submission("a")).unwrap());
        let cancelled = id(&jobs.submit(submission("b")).unwrap());
        wait_for(&jobs, job, |job| job.state() == v1::JobState::Active);
        jobs.cancel(cancelled).unwrap();
        wait_for(&jobs, cancelled, is_done);
        assert!(jobs.shutdown(Duration::from_secs(5)));
        assert_eq!(jobs.submit(submission("c")).unwrap_err().code().id, "RW1001");
        drop(jobs);
        if lose_projection {
            std::fs::remove_dir_all(world.directory.path()).unwrap();
        }
        let runner = Arc::<Waiting>::default();
        runner.gate.open();
        let jobs = world.open(&runner, Limits::default());
        assert_eq!(wait_for(&jobs, job, is_done).outcome(), v1::Outcome::Succeeded);
        assert_eq!(runner.again.load(Ordering::SeqCst), 1);
        assert_eq!(jobs.show(cancelled).unwrap().outcome(), v1::Outcome::Cancelled);
        assert_eq!(jobs.submit(submission("c")).unwrap().id, "3");
        assert!(jobs.shutdown(Duration::from_secs(5)));
    }
}

#[test]
fn rubbish_in_the_projection_is_swept_away() {
    let (world, runner) = (World::new(), Arc::<Waiting>::default());
    runner.gate.open();
    let jobs = world.open(&runner, Limits::default());
    let job = id(&jobs.submit(submission("a")).unwrap());
    wait_for(&jobs, job, is_done);
    assert!(jobs.shutdown(Duration::from_secs(5)));
    drop(jobs);
    std::fs::remove_dir_all(world.directory.path()).unwrap();
    std::fs::create_dir(world.directory.path()).unwrap();
    std::fs::write(world.directory.path().join("db"), b"rubbish").unwrap();
    std::fs::write(world.directory.path().join("conf"), b"rubbish").unwrap();
    let jobs = world.open(&runner, Limits::default());
    assert_eq!(jobs.show(job).unwrap().outcome(), v1::Outcome::Succeeded);
    assert!(jobs.shutdown(Duration::from_secs(5)));
}

#[test]
fn a_projection_of_another_journal_is_not_believed() {
    let (world, runner) = (World::new(), Arc::<Waiting>::default());
    runner.gate.open();
    let jobs = world.open(&runner, Limits::default());
    let job = id(&jobs.submit(submission("a")).unwrap());
    wait_for(&jobs, job, is_done);
    assert!(jobs.shutdown(Duration::from_secs(5)));
    drop(jobs);
    let world = World { directory: world.directory, journal: Arc::default() };
    let jobs = world.open(&runner, Limits::default());
    assert_eq!(jobs.show(job).unwrap_err().code().id, "RW1006");
    assert!(jobs.shutdown(Duration::from_secs(5)));
}
