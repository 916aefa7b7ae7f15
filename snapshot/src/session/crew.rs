//! The threads that store files while one walks.
//!
//! Files wait in a bounded queue, so the walk is never far ahead. What goes wrong in a thread is told to `fail`, a panic
//! too: the walk and whoever waits for a delivery look there, so nobody waits for what never comes. After a failure the
//! queue is still emptied, so that the walk never waits for room.

use super::SessionError;
use crossbeam_channel::{Sender, bounded};

/// Files waiting to be stored.
const QUEUE_MAX: usize = 256;

/// Makes a panic known when its thread unwinds.
struct Alive<'f, F: Fn(SessionError)>(&'f F);

impl<F: Fn(SessionError)> Drop for Alive<'_, F> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            (self.0)(SessionError::ThreadEnded);
        }
    }
}

/// Has `walk` send jobs, and as many threads as there are cores do them, each with a worker of its own from `begin`.
/// Returns when all are done. What `walk` fails with goes to `fail`.
///
/// # Errors
/// If no thread can be made.
pub(super) fn run<J, W, F>(
    begin: impl Fn() -> W + Sync,
    fail: &F,
    walk: impl FnOnce(Sender<J>) -> Result<(), SessionError>,
) -> Result<(), SessionError>
where
    J: Send,
    W: FnMut(J),
    F: Fn(SessionError) + Sync,
{
    let (jobs, queue) = bounded::<J>(QUEUE_MAX);
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for number in 0..threads {
            let (begin, queue) = (&begin, queue.clone());
            let thread = move || {
                let _alive = Alive(fail);
                queue.into_iter().for_each(begin());
            };
            std::thread::Builder::new()
                .name(format!("backup-{number}"))
                .spawn_scoped(scope, thread)
                .map_err(|source| SessionError::Thread { source })?;
        }
        drop(queue);
        if let Err(error) = walk(jobs) {
            fail(error);
        }
        Ok(())
    })
}
