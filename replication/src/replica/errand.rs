//! Something done by the applying thread between two batches.
//!
//! There is room for one. It is done only while apply follows the capture and nothing is in its way, so that the tree is
//! what the tables say, and the durable cursor stands still but for what the errand itself does about it. Who asks waits for a while and then takes it back; once it has begun its end is waited for.

use super::Replica;
use crate::apply::{Applier, Settle};
use journal::TreeIo;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

/// How long apply may hold it up.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked whether apply still can.
const LOOK_EVERY: Duration = Duration::from_millis(20);

type Errand<T> = Box<dyn FnOnce(&mut Applier<T>, Settle<'_>) + Send>;

/// The place for one.
pub(super) struct Place<T: TreeIo> {
    /// Numbers given away.
    given: u64,
    waits: Option<(u64, Errand<T>)>,
}

pub(super) type Errands<T> = Arc<Mutex<Place<T>>>;

impl<T: TreeIo> Default for Place<T> {
    fn default() -> Self {
        Place { given: 0, waits: None }
    }
}

impl<T: TreeIo> Place<T> {
    /// Puts one there, unless there is one. Its number.
    pub(super) fn put(&mut self, errand: Errand<T>) -> Option<u64> {
        if self.waits.is_some() {
            return None;
        }
        self.given += 1;
        self.waits = Some((self.given, errand));
        Some(self.given)
    }

    /// Whether there is one.
    pub(super) fn waits(&self) -> bool {
        self.waits.is_some()
    }

    /// The one that is to be done now.
    pub(super) fn next(&mut self) -> Option<Errand<T>> {
        self.waits.take().map(|(_, errand)| errand)
    }

    /// Takes one back that was not begun; another one stays. Whether it was there.
    fn take_back(&mut self, number: u64) -> bool {
        self.waits.take_if(|(waits, _)| *waits == number).is_some()
    }
}

impl<T: TreeIo> Replica<T> {
    /// Has the applying thread do something. `None`: it was not done, and will not be.
    pub(super) fn between_batches<R: Send + 'static>(
        &self,
        run: impl FnOnce(&mut Applier<T>, Settle<'_>) -> R + Send + 'static,
    ) -> Option<R> {
        let (send, receive) = sync_channel(1);
        let number = {
            let _state = self.shared.0.lock();
            let number = self.errand.lock().put(Box::new(move |applier, settle| {
                // Whoever asked waits for exactly this.
                drop(send.send(run(applier, settle)));
            }))?;
            self.shared.1.notify_all();
            number
        };
        let give_up = Instant::now() + PATIENCE;
        loop {
            match receive.recv_timeout(LOOK_EVERY) {
                Ok(done) => return Some(done),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => {}
            }
            let in_vain = {
                let state = self.shared.0.lock();
                state.stopping || state.detached || state.halt.is_some()
            };
            if (in_vain || Instant::now() >= give_up) && self.errand.lock().take_back(number) {
                return None;
            }
        }
    }
}
