//! Master and replica in one process: the same spool, ingest and rules, without a wire.
//!
//! Two threads a scenario: one moves parts from the spool to ingest, one frees what became durable and passes news.
//! Parts go through their encoded form here too: it is cheap, and what works in one process works between two.

use super::{
    Backoff, Flow, LinkError, MasterCommands, MasterHandle, ReplicaHandle, ReplicaLink, Replier, StreamError,
    Ticket, begin, carry_out, hello, master_status, meet, refused, steps::Begun,
};
use crate::ingest::{IngestSession, SessionError};
use crate::spool::{Spool, SpoolError, SpoolReader};
use bytes::Bytes;
use journal::Lsn;
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use wire::stream::{BlockHashes, BlocksWanted, Command, NamespacePage, Outcome, Progress};

/// Options of a stream within one process.
#[derive(Clone, Debug)]
pub struct LocalOptions {
    /// Id of the scenario.
    pub scenario: u64,
    /// Its name.
    pub name: String,
    /// Name of this host.
    pub host: String,
    /// Bytes handed to ingest and not yet dealt with.
    pub in_flight_bytes_max: u64,
    /// Small parts travel together up to about this size.
    pub batch_bytes: usize,
    /// How often the replica is told how the master is.
    pub status_every: Duration,
    /// Shortest and longest time to wait after ingest has refused.
    pub backoff: (Duration, Duration),
}

impl LocalOptions {
    /// The defaults for a scenario.
    #[must_use]
    pub fn new(scenario: u64, name: String, host: String) -> Self {
        LocalOptions {
            scenario,
            name,
            host,
            in_flight_bytes_max: 16 << 20,
            batch_bytes: 1 << 20,
            status_every: Duration::from_secs(1),
            backoff: (Duration::from_millis(100), Duration::from_secs(5)),
        }
    }
}

/// How often threads look whether they are still wanted, and how far apply is.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A running stream within one process. Dropping it stops it.
pub struct LocalStream {
    stop: Arc<AtomicBool>,
    spool: Arc<Spool>,
    thread: Mutex<Option<JoinHandle<Result<(), StreamError>>>>,
}

impl LocalStream {
    /// Starts to move captures from the spool to the replica.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn start(
        options: LocalOptions,
        spool: Arc<Spool>,
        agent: Arc<dyn MasterCommands>,
        link: Arc<dyn ReplicaLink>,
    ) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let runner = Runner { options, spool: Arc::clone(&spool), agent, link, stop: Arc::clone(&stop) };
        let thread = std::thread::Builder::new().name("stream".to_owned()).spawn(move || runner.run())?;
        Ok(LocalStream { stop, spool, thread: Mutex::new(Some(thread)) })
    }

    /// Ends the stream and waits until nothing is in flight.
    ///
    /// # Errors
    /// What had ended it before it was asked to stop.
    pub fn stop(&self) -> Result<(), StreamError> {
        self.stop.store(true, Ordering::Release);
        self.spool.wake();
        match self.thread.lock().take() {
            Some(thread) => {
                thread.join().unwrap_or(Err(StreamError::Protocol { what: "the stream panicked" }))
            }
            None => Ok(()),
        }
    }
}

impl Drop for LocalStream {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            tracing::debug!(%error, "the stream had ended");
        }
    }
}

struct Runner {
    options: LocalOptions,
    spool: Arc<Spool>,
    agent: Arc<dyn MasterCommands>,
    link: Arc<dyn ReplicaLink>,
    stop: Arc<AtomicBool>,
}

/// What ingest said last.
#[derive(Default)]
struct Latest {
    told: Mutex<Option<Result<Progress, SessionError>>>,
    news: Condvar,
}

impl Runner {
    fn run(&self) -> Result<(), StreamError> {
        let mut backoff = Backoff::new(self.options.backoff.0, self.options.backoff.1);
        while !self.is_stopped() {
            let mut met = false;
            let Err(error) = self.connect(&mut met) else { break };
            if met {
                backoff.reset();
            }
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            self.agent.disconnected(&error);
            if !error.is_retryable() {
                tracing::error!(scenario = self.options.name, %error, cause, "the stream has ended");
                return Err(error);
            }
            tracing::warn!(scenario = self.options.name, %error, cause, "delivery pauses");
            let again = Instant::now() + backoff.wait();
            while !self.is_stopped() && Instant::now() < again {
                std::thread::sleep(LOOK_EVERY.min(again.saturating_duration_since(Instant::now())));
            }
        }
        self.agent.disconnected(&StreamError::Stopped);
        Ok(())
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// One connection: until stopped (`Ok`) or something fails.
    fn connect(&self, met: &mut bool) -> Result<(), StreamError> {
        let options = &self.options;
        let hello = hello(&self.spool, &*self.agent, options.scenario, &options.name, &options.host);
        let terms = self.link.terms(&hello).map_err(StreamError::Refused)?;
        let latest = Arc::new(Latest::default());
        let told = Arc::clone(&latest);
        let observer = Arc::new(move |progress: &Result<Progress, SessionError>| {
            *told.told.lock() = Some(progress.clone());
            told.news.notify_all();
        });
        // More than the flow's limit, so that the flow, which can be stopped, is where waiting happens.
        let limit = 2 * options.in_flight_bytes_max;
        let Begun { session, welcome, met: met_now } =
            begin(&self.link.ingest(), terms, &hello, limit, observer);
        if let Err(cause) = met_now {
            self.link.refused(&cause);
            let error = refused(&self.spool, cause);
            // The master's own check words it better where it finds the same.
            return Err(match error.is_retryable() {
                true => error,
                false => meet(&self.spool, &welcome).err().unwrap_or(error),
            });
        }
        let reader = meet(&self.spool, &welcome)?;
        *met = true;

        let (flow, open) = (Flow::new(options.in_flight_bytes_max), Arc::new(AtomicBool::new(true)));
        let master = Master {
            spool: Arc::clone(&self.spool),
            agent: Arc::clone(&self.agent),
            open: Arc::clone(&open),
        };
        let replica = Replica { link: Arc::clone(&self.link), open: Arc::clone(&open) };
        self.link.attached(&options.host, Arc::new(master));
        self.agent.connected(&welcome, Arc::new(replica));

        let in_flight = session.in_flight();
        let ended = std::thread::scope(|scope| {
            let news = scope.spawn(|| {
                let ended = self.pass_news(&flow, &latest, &open);
                // The mover may wait for room or for captures.
                flow.close();
                self.spool.wake();
                ended
            });
            let moved = self.deliver(reader, session, &flow);
            open.store(false, Ordering::Release);
            latest.news.notify_all();
            let told = news.join().unwrap_or(Err(StreamError::Protocol { what: "the stream panicked" }));
            // What ingest said is the cause of what the mover found.
            told.and(moved)
        });
        in_flight.close();
        while !in_flight.drain(Duration::from_secs(10)) {
            tracing::warn!(scenario = options.name, "ingest has not finished with what was delivered");
        }
        // What became durable at the very end is freed now rather than found again by the next connection.
        let last = flow.acknowledge(&self.spool, in_flight.progress());
        let persisted = self.spool.persist();
        self.link.detached(&ended.as_ref().err().map_or_else(|| "stopped".to_owned(), ToString::to_string));
        ended?;
        last?;
        persisted.map_err(StreamError::Spool)
    }

    fn deliver(
        &self,
        mut reader: SpoolReader,
        mut session: IngestSession,
        flow: &Flow,
    ) -> Result<(), StreamError> {
        while flow.wait_for_room() && !self.is_stopped() {
            let batch = match reader.next_batch(self.options.batch_bytes, LOOK_EVERY) {
                Ok(batch) if batch.is_empty() => continue,
                Ok(batch) => batch,
                Err(SpoolError::Closed) => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            session.submit(flow.sent(&batch)).map_err(StreamError::Ingest)?;
        }
        Ok(())
    }

    /// Passes on what ingest, apply and the agent have to say, until the connection is over or ingest has failed.
    fn pass_news(&self, flow: &Flow, latest: &Latest, open: &AtomicBool) -> Result<(), StreamError> {
        let mut applied = Lsn::ZERO;
        let mut status_due = Instant::now();
        while open.load(Ordering::Acquire) && !self.is_stopped() {
            let told = {
                let mut told = latest.told.lock();
                if told.is_none() {
                    latest.news.wait_for(&mut told, LOOK_EVERY);
                }
                told.take()
            };
            match told {
                Some(Ok(progress)) => flow.acknowledge(&self.spool, progress)?,
                Some(Err(error)) => return Err(StreamError::Ingest(error)),
                None => {}
            }
            let now = self.link.applied();
            if now != applied {
                applied = now;
                self.agent.applied(now);
            }
            if Instant::now() >= status_due {
                status_due = Instant::now() + self.options.status_every;
                self.link.status(&master_status(&self.spool, &*self.agent));
                if let Err(error) = self.spool.persist() {
                    tracing::warn!(%error, "cannot write down what the replica has acknowledged");
                }
            }
        }
        Ok(())
    }
}

struct Master {
    spool: Arc<Spool>,
    agent: Arc<dyn MasterCommands>,
    open: Arc<AtomicBool>,
}

impl MasterHandle for Master {
    fn send(&self, command: Command) -> Result<Ticket, LinkError> {
        if !self.open.load(Ordering::Acquire) {
            return Err(LinkError::Disconnected);
        }
        let (send, ticket) = Ticket::new();
        let reply = Replier::new(move |outcome: Outcome| {
            // Who asked may have given up.
            drop(send.try_send(outcome));
        });
        carry_out(&self.spool, &*self.agent, command, reply);
        Ok(ticket)
    }
}

struct Replica {
    link: Arc<dyn ReplicaLink>,
    open: Arc<AtomicBool>,
}

impl ReplicaHandle for Replica {
    fn namespace(&self, after: Option<Bytes>, _timeout: Duration) -> Result<NamespacePage, LinkError> {
        if !self.open.load(Ordering::Acquire) {
            return Err(LinkError::Disconnected);
        }
        self.link.namespace(&after.unwrap_or_default()).map_err(LinkError::Failed)
    }

    fn blocks(&self, wanted: &BlocksWanted, _timeout: Duration) -> Result<BlockHashes, LinkError> {
        if !self.open.load(Ordering::Acquire) {
            return Err(LinkError::Disconnected);
        }
        self.link.blocks(wanted).map_err(LinkError::Failed)
    }
}
