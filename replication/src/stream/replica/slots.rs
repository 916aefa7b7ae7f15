//! Who is attached to which scenario.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use wire::stream::{Reason, Refused};

/// One place a scenario.
#[derive(Default)]
pub(super) struct Slots {
    taken: Mutex<HashMap<u64, Slot>>,
}

struct Slot {
    host: String,
    /// Turns true when a newer connection of the host wants the place.
    superseded: watch::Sender<bool>,
    /// Closes when the place is free.
    freed: watch::Receiver<()>,
}

/// The place of one connection; free again when this is dropped.
pub(super) struct Place {
    slots: Arc<Slots>,
    scenario: u64,
    /// Turns true when the connection is to end.
    pub superseded: watch::Receiver<bool>,
    _freed: watch::Sender<()>,
}

impl Slots {
    /// Takes the place of a scenario for a connection of `host`; ends an older one of the same host and waits for it.
    ///
    /// # Errors
    /// `OtherHost` if another host is attached, `Unavailable` if the older connection does not end in time.
    pub async fn take(self: &Arc<Self>, scenario: u64, host: &str, wait: Duration) -> Result<Place, Refused> {
        let give_up = tokio::time::Instant::now() + wait;
        loop {
            let mut freed = match self.try_take(scenario, host) {
                Ok(place) => return Ok(place),
                Err(Occupied::Older(freed)) => freed,
                Err(Occupied::Other(other)) => {
                    let text = format!("the scenario is attached to host {other}");
                    return Err(Refused { reason: Reason::OtherHost, text });
                }
            };
            // Only its end can come: nothing is ever sent.
            if tokio::time::timeout_at(give_up, freed.changed()).await.is_err() {
                let text = "an earlier connection is still being dealt with".to_owned();
                return Err(Refused { reason: Reason::Unavailable, text });
            }
        }
    }

    fn try_take(self: &Arc<Self>, scenario: u64, host: &str) -> Result<Place, Occupied> {
        let mut taken = self.taken.lock();
        if let Some(slot) = taken.get(&scenario) {
            if slot.host != host {
                return Err(Occupied::Other(slot.host.clone()));
            }
            slot.superseded.send_replace(true);
            return Err(Occupied::Older(slot.freed.clone()));
        }
        let (superseded, is_superseded) = watch::channel(false);
        let (hold, freed) = watch::channel(());
        taken.insert(scenario, Slot { host: host.to_owned(), superseded, freed });
        Ok(Place { slots: Arc::clone(self), scenario, superseded: is_superseded, _freed: hold })
    }
}

enum Occupied {
    Older(watch::Receiver<()>),
    Other(String),
}

impl Drop for Place {
    fn drop(&mut self) {
        // Before `_freed` is dropped, which wakes those who wait: they find the place free.
        self.slots.taken.lock().remove(&self.scenario);
    }
}
