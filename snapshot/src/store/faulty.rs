//! **A test instrument**: a store that fails on demand, and remembers what it was asked.
//!
//! It stands in front of any store. The fault model is the contract's: a put or delete that was cut off has happened
//! whole or not at all, and the caller cannot tell which. [`FaultyStore::cut_power_after`] lets a number of puts and
//! deletes happen, then cuts: the next one, in flight, is dropped or kept as asked, and fails; so does every call
//! after it, reads too, until the power is back. Running a job once for every number and both outcomes tries it at
//! every crash point. [`FaultyStore::fail`] makes single calls fail, as a store that does so now and then.

use super::cause::{Cause, failed};
use super::{BlobStore, Entry, StoreError, StoreErrorKind};
use bytes::Bytes;
use parking_lot::Mutex;
use std::ops::Range;
use std::sync::Arc;

/// What a call asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum Verb {
    Put,
    Get,
    GetRange,
    Size,
    List,
    Delete,
}

impl Verb {
    /// Whether it changes the store.
    #[must_use]
    pub fn is_durable(self) -> bool {
        matches!(self, Verb::Put | Verb::Delete)
    }

    fn operation(self) -> &'static str {
        match self {
            Verb::Put => "put",
            Verb::Get => "get",
            Verb::GetRange => "get_range",
            Verb::Size => "size",
            Verb::List => "list",
            Verb::Delete => "delete",
        }
    }
}

/// One call, as the log shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// What was asked for.
    pub verb: Verb,
    /// The object or directory.
    pub name: String,
    /// Bytes put; wanted, of a range; 0 otherwise.
    pub bytes: u64,
    /// Whether it reached the store behind.
    pub carried_out: bool,
    /// Whether the caller was told that it failed because a test wanted it to.
    pub injected: bool,
}

/// What becomes of the operation that was in flight when the power went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InFlight {
    /// It never happened.
    Dropped,
    /// It happened, and the caller does not know.
    Kept,
}

/// Which calls fail, and how.
#[derive(Clone, Debug)]
pub struct Fault {
    /// Of what kind.
    pub verb: Verb,
    /// With which beginning of the name; empty for any.
    pub prefix: String,
    /// Let so many matching calls pass first.
    pub after: u64,
    /// Then fail so many.
    pub times: u64,
    /// With this kind of error.
    pub kind: StoreErrorKind,
    /// Whether it happened nevertheless (puts and deletes).
    pub in_flight: InFlight,
}

#[derive(Default)]
struct State {
    log: Vec<Call>,
    /// Puts and deletes still allowed, and what becomes of the next.
    power: Option<(u64, InFlight)>,
    off: bool,
    faults: Vec<Fault>,
}

/// A store that fails on demand. A test instrument.
pub struct FaultyStore {
    behind: Arc<dyn BlobStore>,
    state: Mutex<State>,
}

/// What is to be done with a call.
struct Verdict {
    carry_out: bool,
    failure: Option<StoreErrorKind>,
}

impl FaultyStore {
    /// Stands in front of a store, and lets everything pass.
    #[must_use]
    pub fn new(behind: Arc<dyn BlobStore>) -> Self {
        Self { behind, state: Mutex::default() }
    }

    /// The store behind.
    #[must_use]
    pub fn behind(&self) -> &Arc<dyn BlobStore> {
        &self.behind
    }

    /// Lets `operations` more puts and deletes happen, then cuts the power in the middle of the next.
    pub fn cut_power_after(&self, operations: u64, in_flight: InFlight) {
        self.state.lock().power = Some((operations, in_flight));
    }

    /// The power is back: all calls pass again. What was kept is there, what was dropped is not.
    pub fn restore_power(&self) {
        let mut state = self.state.lock();
        state.power = None;
        state.off = false;
    }

    /// Whether the power has been cut.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.state.lock().off
    }

    /// Adds a fault. Several may wait at once; the first that matches a call decides.
    pub fn fail(&self, fault: Fault) {
        self.state.lock().faults.push(fault);
    }

    /// Forgets all faults.
    pub fn heal(&self) {
        self.state.lock().faults.clear();
    }

    /// Every call so far, in the order in which they began.
    #[must_use]
    pub fn log(&self) -> Vec<Call> {
        self.state.lock().log.clone()
    }

    /// Forgets the log.
    pub fn clear_log(&self) {
        self.state.lock().log.clear();
    }

    /// Calls of a kind so far.
    #[must_use]
    pub fn count(&self, verb: Verb) -> u64 {
        self.state.lock().log.iter().filter(|call| call.verb == verb).count() as u64
    }

    /// Puts and deletes that were carried out so far: the crash points that a run has.
    #[must_use]
    pub fn durable_operations(&self) -> u64 {
        let state = self.state.lock();
        state.log.iter().filter(|call| call.verb.is_durable() && call.carried_out).count() as u64
    }

    fn judge(&self, verb: Verb, name: &str, bytes: u64) -> Verdict {
        let state = &mut *self.state.lock();
        let verdict = Self::judge_power(state, verb)
            .or_else(|| Self::judge_faults(state, verb, name))
            .unwrap_or(Verdict { carry_out: true, failure: None });
        state.log.push(Call {
            verb,
            name: name.to_owned(),
            bytes,
            carried_out: verdict.carry_out,
            injected: verdict.failure.is_some(),
        });
        verdict
    }

    fn judge_power(state: &mut State, verb: Verb) -> Option<Verdict> {
        if state.off {
            return Some(Verdict { carry_out: false, failure: Some(StoreErrorKind::Unavailable) });
        }
        let (left, in_flight) = state.power.as_mut()?;
        if !verb.is_durable() {
            return None;
        }
        if *left > 0 {
            *left -= 1;
            return None;
        }
        let carry_out = *in_flight == InFlight::Kept;
        state.off = true;
        Some(Verdict { carry_out, failure: Some(StoreErrorKind::Unavailable) })
    }

    fn judge_faults(state: &mut State, verb: Verb, name: &str) -> Option<Verdict> {
        let fault = state
            .faults
            .iter_mut()
            .find(|fault| fault.times > 0 && fault.verb == verb && name.starts_with(&fault.prefix))?;
        if fault.after > 0 {
            fault.after -= 1;
            return None;
        }
        fault.times -= 1;
        let carry_out = verb.is_durable() && fault.in_flight == InFlight::Kept;
        Some(Verdict { carry_out, failure: Some(fault.kind) })
    }

    fn through<T>(
        &self,
        verb: Verb,
        name: &str,
        bytes: u64,
        call: impl FnOnce() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let verdict = self.judge(verb, name, bytes);
        let done = verdict.carry_out.then(call);
        match (verdict.failure, done) {
            (None, Some(done)) => done,
            (kind, _) => {
                let kind = kind.unwrap_or(StoreErrorKind::Unavailable);
                Err(failed(verb.operation(), name, kind, Cause::Injected))
            }
        }
    }
}

impl std::fmt::Debug for FaultyStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FaultyStore({:?})", self.behind)
    }
}

impl BlobStore for FaultyStore {
    fn put(&self, name: &str, bytes: Bytes) -> Result<(), StoreError> {
        self.through(Verb::Put, name, bytes.len() as u64, || self.behind.put(name, bytes))
    }

    fn get(&self, name: &str, limit: u64) -> Result<Bytes, StoreError> {
        self.through(Verb::Get, name, 0, || self.behind.get(name, limit))
    }

    fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        let bytes = range.end.saturating_sub(range.start);
        self.through(Verb::GetRange, name, bytes, || self.behind.get_range(name, range))
    }

    fn size(&self, name: &str) -> Result<u64, StoreError> {
        self.through(Verb::Size, name, 0, || self.behind.size(name))
    }

    fn list(&self, directory: &str, each: &mut dyn FnMut(Entry) -> bool) -> Result<(), StoreError> {
        self.through(Verb::List, directory, 0, || self.behind.list(directory, each))
    }

    fn delete(&self, name: &str) -> Result<(), StoreError> {
        self.through(Verb::Delete, name, 0, || self.behind.delete(name))
    }
}

#[cfg(test)]
mod tests;
