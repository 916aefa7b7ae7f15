//! Who is attached to which scenario.
//!
//! The newest connection of a host has the place, and only it may take it. Which one that is, the master says
//! ([`Dial`]): connections may arrive in another order than they were begun in. Of lives that cannot be compared, the one
//! that came last is the newest. An older connection that took the place would meet the journal behind the back of the
//! master, which could not say then that it has seen everything, and would have to forget what it has spooled.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use wire::stream::{Dial, Reason, Refused};

/// One place a scenario.
#[derive(Default)]
pub struct Slots {
    /// A scenario that somebody came for once stays.
    scenarios: Mutex<HashMap<u64, Scenario>>,
}

#[derive(Default)]
struct Scenario {
    /// The host of the newest connection, and which of its connections that is.
    newest: (String, Dial),
    /// Counts connections that came.
    arrivals: u64,
    slot: Option<Slot>,
}

struct Slot {
    host: String,
    /// Turns true when a newer connection of the host wants the place.
    superseded: watch::Sender<bool>,
    /// Closes when the place is free.
    freed: watch::Receiver<()>,
}

/// The place of one connection; free again when this is dropped.
pub struct Place {
    slots: Arc<Slots>,
    scenario: u64,
    /// Turns true when the connection is to end.
    pub(super) superseded: watch::Receiver<bool>,
    _freed: watch::Sender<()>,
}

impl Slots {
    /// Takes the place of a scenario for a connection of `host`; ends an older one of the same host and waits for it.
    ///
    /// # Errors
    /// `OtherHost` if another host is attached, `Superseded` if a newer connection of the host came, `Unavailable` if the
    /// older one does not end in time.
    pub async fn take(
        self: &Arc<Self>,
        scenario: u64,
        (host, dial): (&str, Dial),
        wait: Duration,
    ) -> Result<Place, Refused> {
        let give_up = tokio::time::Instant::now() + wait;
        let arrival = self.arrive(scenario, host, dial)?;
        loop {
            let mut freed = match self.try_take(scenario, host, arrival)? {
                Ok(place) => return Ok(place),
                Err(freed) => freed,
            };
            // Only its end can come: nothing is ever sent.
            if tokio::time::timeout_at(give_up, freed.changed()).await.is_err() {
                let text = "an earlier connection is still being dealt with".to_owned();
                return Err(Refused { reason: Reason::Unavailable, text });
            }
        }
    }

    /// Makes a connection the newest one; its number among those that came.
    ///
    /// # Errors
    /// `OtherHost` if another host is attached, `Superseded` if this connection is older than one that came.
    pub fn arrive(&self, scenario: u64, host: &str, dial: Dial) -> Result<u64, Refused> {
        let mut scenarios = self.scenarios.lock();
        let scenario = scenarios.entry(scenario).or_default();
        if let Some(slot) = scenario.slot.as_ref().filter(|slot| slot.host != host) {
            let text = format!("the scenario is attached to host {}", slot.host);
            return Err(Refused { reason: Reason::OtherHost, text });
        }
        if scenario.newest.0 == host && dial.is_older_than(&scenario.newest.1) {
            return Err(superseded());
        }
        scenario.newest = (host.to_owned(), dial);
        scenario.arrivals += 1;
        Ok(scenario.arrivals)
    }

    /// The place, or what closes when it is free; its holder is told to end then.
    ///
    /// # Errors
    /// `Superseded` if a newer connection came.
    pub fn try_take(
        self: &Arc<Self>,
        number: u64,
        host: &str,
        arrival: u64,
    ) -> Result<Result<Place, watch::Receiver<()>>, Refused> {
        let mut scenarios = self.scenarios.lock();
        let scenario = scenarios.entry(number).or_default();
        if scenario.arrivals != arrival {
            return Err(superseded());
        }
        if let Some(slot) = &scenario.slot {
            slot.superseded.send_replace(true);
            return Ok(Err(slot.freed.clone()));
        }
        let (superseded, is_superseded) = watch::channel(false);
        let (hold, freed) = watch::channel(());
        scenario.slot = Some(Slot { host: host.to_owned(), superseded, freed });
        let slots = Arc::clone(self);
        Ok(Ok(Place { slots, scenario: number, superseded: is_superseded, _freed: hold }))
    }
}

impl Place {
    /// Whether a newer connection of the host wants the place.
    #[must_use]
    pub fn is_superseded(&self) -> bool {
        *self.superseded.borrow()
    }
}

/// What an older connection is told.
pub(super) fn superseded() -> Refused {
    let text = "a newer connection of this master has taken over".to_owned();
    Refused { reason: Reason::Superseded, text }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Before `_freed` is dropped, which wakes those who wait: they find the place free.
        if let Some(scenario) = self.slots.scenarios.lock().get_mut(&self.scenario) {
            scenario.slot = None;
        }
    }
}

#[cfg(test)]
mod tests;
