//! Jobs that are held: they do not begin, also after a restart, until they are released; nothing else is held.

use super::*;
use crate::records::JobHoldSet;

/// A daemon with one thread for jobs, which job 1 has.
fn busy(world: &World, runner: &Arc<Waiting>) -> Arc<Jobs> {
    let jobs = world.open(runner, Limits { active: 1, waiting: 9 });
    let first = id(&jobs.submit(submission("a")).unwrap());
    assert_eq!(first, JobId(1));
    wait_for(&jobs, first, |job| job.state() == v1::JobState::Active);
    jobs
}

fn held(jobs: &Jobs) -> Vec<String> {
    let filter = JobFilter { state: Some(v1::JobState::Hold), ..JobFilter::default() };
    jobs.list(&filter).unwrap().into_iter().map(|job| job.id).collect()
}

#[test]
fn a_held_job_is_passed_over_until_it_is_released() {
    let (world, runner) = (World::new(), Arc::<Waiting>::default());
    let jobs = busy(&world, &runner);
    let second = id(&jobs.submit(submission("b")).unwrap());
    let third = id(&jobs.submit(submission("c")).unwrap());
    let (_, signal) = jobs.watch(second).unwrap();
    // Asked twice is answered as asked once.
    for _ in 0..2 {
        assert_eq!(jobs.hold(second).unwrap().state(), v1::JobState::Hold);
    }
    assert!(signal.unwrap().has_changed().unwrap(), "whoever watches is told");
    assert_eq!(jobs.show(second).unwrap().state(), v1::JobState::Hold);
    assert_eq!(held(&jobs), ["2"]);
    runner.gate.open();
    // It was behind the held one.
    wait_for(&jobs, third, is_done);
    let still = jobs.show(second).unwrap();
    assert_eq!((still.state(), still.started), (v1::JobState::Hold, None));
    assert_eq!(runner.attempts.load(Ordering::SeqCst), 2);
    assert_ne!(jobs.release(second).unwrap().state(), v1::JobState::Hold);
    assert_eq!(wait_for(&jobs, second, is_done).outcome(), v1::Outcome::Succeeded);
    assert!(held(&jobs).is_empty());
    assert!(jobs.shutdown(Duration::from_secs(5)));
}

#[test]
fn only_what_has_not_begun_is_held() {
    let (world, runner) = (World::new(), Arc::<Waiting>::default());
    let jobs = busy(&world, &runner);
    let refused = jobs.hold(JobId(1)).unwrap_err();
    assert_eq!(refused.code().id, "RW1122");
    assert!(refused.to_failure().action.contains("job cancel 1"), "{refused}");
    // It goes, which is what a release wants.
    assert_eq!(jobs.release(JobId(1)).unwrap().state(), v1::JobState::Active);
    assert!(jobs.shutdown(Duration::from_secs(5)));
    drop(jobs);
    // A job that had begun under an earlier daemon has begun, thread or none.
    let journal: Arc<dyn ServerJournal> = Arc::<MemoryServerJournal>::clone(&world.journal);
    let store = JobStore::open(world.directory.path(), journal.as_ref()).unwrap();
    let idle = Jobs::open(Arc::clone(&journal), store, Activity::new(journal), Limits::default()).unwrap();
    assert_eq!(idle.show(JobId(1)).unwrap().state(), v1::JobState::Ready);
    assert_eq!(idle.hold(JobId(1)).unwrap_err().code().id, "RW1122");
    drop(idle);
    runner.gate.open();
    let jobs = world.open(&runner, Limits::default());
    wait_for(&jobs, JobId(1), is_done);
    assert_eq!(jobs.hold(JobId(1)).unwrap_err().code().id, "RW1123");
    assert_eq!(jobs.release(JobId(1)).unwrap_err().code().id, "RW1123");
    for nobody in [jobs.hold(JobId(99)), jobs.release(JobId(99))] {
        assert_eq!(nobody.unwrap_err().code().id, "RW1006");
    }
    assert!(jobs.shutdown(Duration::from_secs(5)));
}

#[test]
fn what_is_held_stays_held_after_a_restart() {
    for lose_projection in [false, true] {
        let (world, runner) = (World::new(), Arc::<Waiting>::default());
        let jobs = busy(&world, &runner);
        let stays = id(&jobs.submit(submission("b")).unwrap());
        let goes = id(&jobs.submit(submission("c")).unwrap());
        jobs.hold(stays).unwrap();
        jobs.hold(goes).unwrap();
        jobs.release(goes).unwrap();
        assert!(jobs.shutdown(Duration::from_secs(5)));
        drop(jobs);
        if lose_projection {
            std::fs::remove_dir_all(world.directory.path()).unwrap();
        }
        let runner = Arc::<Waiting>::default();
        runner.gate.open();
        let jobs = world.open(&runner, Limits { active: 1, waiting: 9 });
        for job in [JobId(1), goes] {
            assert_eq!(wait_for(&jobs, job, is_done).outcome(), v1::Outcome::Succeeded);
        }
        assert_eq!(jobs.show(stays).unwrap().state(), v1::JobState::Hold);
        assert_eq!(held(&jobs), [stays.0.to_string()]);
        assert_eq!(runner.attempts.load(Ordering::SeqCst), 2);
        jobs.release(stays).unwrap();
        assert_eq!(wait_for(&jobs, stays, is_done).outcome(), v1::Outcome::Succeeded);
        assert!(jobs.shutdown(Duration::from_secs(5)));
    }
}

#[test]
fn a_held_job_counts_and_keeps_others_out_and_can_be_cancelled() {
    let (world, runner) = (World::new(), Arc::<Waiting>::default());
    let jobs = world.open(&runner, Limits { active: 1, waiting: 1 });
    let first = id(&jobs.submit(submission("a")).unwrap());
    wait_for(&jobs, first, |job| job.state() == v1::JobState::Active);
    let second = id(&jobs.submit(submission("b")).unwrap());
    jobs.hold(second).unwrap();
    assert_eq!(jobs.submit(submission("b")).unwrap_err().code().id, "RW0470");
    assert_eq!(jobs.submit(submission("c")).unwrap_err().code().id, "RW1031");
    assert_eq!(jobs.cancel(second).unwrap().outcome(), v1::Outcome::Cancelled);
    assert!(held(&jobs).is_empty());
    jobs.submit(submission("b")).unwrap();
    assert!(jobs.shutdown(Duration::from_secs(5)));
}

/// The daemon ended between the wish to cancel a held job and the record of its end.
#[test]
fn a_held_job_that_was_to_be_cancelled_ends_after_a_restart() {
    let (world, runner) = (World::new(), Arc::<Waiting>::default());
    let jobs = busy(&world, &runner);
    let second = id(&jobs.submit(submission("b")).unwrap());
    jobs.hold(second).unwrap();
    assert!(jobs.shutdown(Duration::from_secs(5)));
    drop(jobs);
    let asked = Record::JobCancelRequested(JobCancelRequested { id: second.0, time: wall_clock() });
    world.journal.append(asked.kind(), &asked.encode().unwrap(), Durability::Synced).unwrap();
    let jobs = world.open(&runner, Limits::default());
    assert_eq!(wait_for(&jobs, second, is_done).outcome(), v1::Outcome::Cancelled);
    assert!(jobs.shutdown(Duration::from_secs(5)));
}

#[test]
fn a_released_job_takes_its_place_by_age() {
    let (world, runner) = (World::new(), Arc::<Waiting>::default());
    let jobs = busy(&world, &runner);
    let older = id(&jobs.submit(submission("b")).unwrap());
    let younger = id(&jobs.submit(submission("c")).unwrap());
    jobs.hold(older).unwrap();
    jobs.release(older).unwrap();
    runner.gate.open();
    let younger = wait_for(&jobs, younger, is_done);
    let older = wait_for(&jobs, older, is_done);
    let started = |job: &v1::Job| job.started.map(|time| (time.seconds, time.nanos)).unwrap();
    assert!(started(&older) <= started(&younger), "{older:?} {younger:?}");
    assert!(jobs.shutdown(Duration::from_secs(5)));
}

#[test]
fn a_hold_of_a_job_that_is_unknown_to_the_projection_changes_nothing() {
    let (world, runner) = (World::new(), Arc::<Waiting>::default());
    runner.gate.open();
    let set = Record::JobHoldSet(JobHoldSet { id: 7, time: wall_clock(), held: true });
    world.journal.append(set.kind(), &set.encode().unwrap(), Durability::Synced).unwrap();
    let jobs = world.open(&runner, Limits::default());
    assert!(held(&jobs).is_empty());
    assert_eq!(jobs.show(JobId(7)).unwrap_err().code().id, "RW1006");
    assert!(jobs.shutdown(Duration::from_secs(5)));
}
