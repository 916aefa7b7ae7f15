//! A master and the line between it and a replica, step by step in one thread.
//!
//! All that decides is the real thing: the spool, its reader and what frees it, hello and meeting, who has the place, the
//! session in front of the journal, and the door that lets no hole through. A model are only the agent, which makes the
//! captures it is told to, and the carrier: messages of a connection keep their order, those of one that was given up
//! still arrive, late or never; connections arrive in any order; acknowledgements are lost with their connection, and now
//! and then a message is lost within one that stands. A master also sends again what it has sent, ends, as it should or
//! not, and comes back.

mod door;

pub use door::{Door, Trouble};

use crate::rng::Rng;
use crate::sim_disk::{Cut, SimDisk};
use door::Assembly;
use journal::journal::{Journal, Placed};
use journal::{Capture, Lsn, RootNo, Timestamp};
use parking_lot::Mutex;
use replication::ingest::{Ingest, IngestSession, SessionError};
use replication::spool::{Draft, SinkError, Spool, SpoolOptions, SpoolReader, SpooledPart};
use replication::stream::steps::{Flow, Place, Slots, begin, hello, meet, refused};
use replication::stream::{AgentStatus, MasterCommands, ReplicaHandle, Replier, StreamError, Terms};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use wire::stream::{
    AgentState, AutoResync, Batch, Command, Definition, Hello, Progress, Reason, Refused, RootDefinition,
    Synchronization, Welcome,
};

const SCENARIO: u64 = 1;
const HOST: &str = "here";
/// Connections that are remembered; the oldest that wait for the place are lost.
const CONNECTIONS_MAX: usize = 8;

/// All captures that were ever made, by their number.
pub type Made = BTreeMap<u64, Capture>;

/// What became of a line.
#[derive(Clone, Copy, Debug, Default)]
pub struct Met {
    /// Meetings of master and replica.
    pub meetings: u64,
    /// Messages that arrived of a connection that was given up.
    pub late: u64,
    /// Batches that were sent twice.
    pub resent: u64,
    /// Connections that the replica ended because a message was missing.
    pub holes: u64,
    /// Connections that came after a newer one.
    pub superseded: u64,
    /// Times that a master came back.
    pub masters: u64,
    /// Captures that came in parts.
    pub in_parts: u64,
}

struct Agent;

impl MasterCommands for Agent {
    fn index_clean_at(&self) -> Option<Lsn> {
        None
    }

    fn connected(&self, _: &Welcome, _: Arc<dyn ReplicaHandle>) {}

    fn disconnected(&self, _: &StreamError) {}

    fn command(&self, _: Command, _: Replier) {}

    fn applied(&self, _: Lsn) {}

    fn status(&self) -> AgentStatus {
        AgentStatus {
            agent: AgentState::Capturing,
            gaps_open: 0,
            time: Timestamp(0),
            cause: String::new(),
            files: (0, 0),
            bytes: (0, 0),
        }
    }
}

fn terms() -> Terms {
    let definition = Definition {
        scenario: SCENARIO,
        name: "life".to_owned(),
        roots: vec![RootDefinition { root: RootNo(0), path: b"/srv".to_vec() }],
        excludes: Vec::new(),
        auto_resync: AutoResync::Always,
        spool_bytes_max: None,
        settings: Vec::new(),
    };
    Terms { synchronization: Synchronization::Never, suspended: false, running: true, definition }
}

enum ToReplica {
    Hello(Box<Hello>),
    Batch(Batch),
}

enum ToMaster {
    Welcome(Box<Welcome>),
    Refused(Refused),
    Progress(Progress),
}

type Told = Arc<Mutex<Option<Result<Progress, SessionError>>>>;

/// The replica's end of a connection.
enum End {
    New,
    Waiting {
        hello: Box<Hello>,
        arrival: u64,
    },
    Attached {
        session: Box<IngestSession>,
        told: Told,
        place: Place,
    },
    /// Nothing more is taken; what is in flight is waited for.
    Closing {
        session: Box<IngestSession>,
        _place: Place,
    },
    Gone,
}

struct Connection {
    /// The master has not given it up.
    stands: bool,
    /// A message was lost within it, and the ends do not know.
    holed: bool,
    to_replica: VecDeque<ToReplica>,
    to_master: VecDeque<ToMaster>,
    end: End,
    delivery: Option<(SpoolReader, Flow)>,
    /// The last batch that was sent.
    last: Vec<SpooledPart>,
}

/// A master, the line, and the replica's door.
pub struct Line {
    disk: SimDisk,
    spool: Arc<Spool>,
    slots: Arc<Slots>,
    door: Option<Arc<Door>>,
    assembly: Assembly,
    connections: Vec<Connection>,
    /// Events of the next capture that the spool has already, and in how many parts.
    open: (usize, u32),
    /// What the master was told is durable.
    acknowledged: Lsn,
    /// What a failure is to begin with.
    pub context: String,
    pub met: Met,
}

fn spool_on(disk: &SimDisk) -> Arc<Spool> {
    let options = SpoolOptions {
        // Little, so that captures wait on disk too, and more than any one has.
        memory_bytes_max: 64 << 10,
        disk_bytes_max: 1 << 30,
        disk_free_bytes_min: 0,
        segment_bytes_max: 4 << 10,
        ..SpoolOptions::new("/spool".into())
    };
    Arc::new(Spool::open(Arc::new(disk.clone()), options).expect("the spool opens").0)
}

type Step = fn(&mut Line, &mut Rng, &Made);

/// What may happen next, and how often.
const STEPS: [(Step, u64); 11] = [
    (Line::emit, 30),
    (|line, _, _| line.dial(), 6),
    (Line::deliver, 35),
    (Line::hear_master, 30),
    (|line, rng, _| line.hear_replica(rng), 30),
    (|line, rng, _| line.acknowledge(rng), 20),
    (|line, _, _| line.commit(), 14),
    (|line, _, _| line.give_up(), 3),
    (Line::lose, 6),
    (Line::resend, 4),
    (Line::restart_master, 1),
];

impl Line {
    /// A new master, whose replica was not met.
    #[must_use]
    pub fn new() -> Line {
        let disk = SimDisk::new();
        Line {
            spool: spool_on(&disk),
            disk,
            slots: Arc::default(),
            door: None,
            assembly: Assembly::default(),
            connections: Vec::new(),
            open: (0, 0),
            acknowledged: Lsn::ZERO,
            context: String::new(),
            met: Met::default(),
        }
    }

    /// One step, whichever.
    pub fn step(&mut self, rng: &mut Rng, made: &Made) {
        let mut number = rng.below(STEPS.iter().map(|(_, share)| share).sum());
        for (step, share) in STEPS {
            if number < share {
                return step(self, rng, made);
            }
            number -= share;
        }
    }

    /// The line is good: all that was made arrives, and the master knows. Whether it does, or something failed.
    pub fn settle(&mut self, rng: &mut Rng, made: &Made) -> bool {
        let last = Lsn::captured(made.keys().next_back().copied().unwrap_or(0));
        for _ in 0..1000 {
            if self.acknowledged == last && self.spool.status().captured == Some(last) {
                return true;
            }
            // A dead connection is noticed by its silence.
            let is_alive = |one: &Connection| {
                one.stands && !one.holed && (!matches!(one.end, End::Gone) || !one.to_master.is_empty())
            };
            if !self.connections.iter().any(is_alive) {
                self.dial();
            }
            (0..self.connections.len()).for_each(|at| self.hear(at));
            if rng.chance(2, 3) {
                self.commit();
            }
            if self.door.as_ref().is_none_or(|door| door.is_in_trouble()) {
                return false;
            }
            self.acknowledge(rng);
            self.hear_replica(rng);
            self.emit(rng, made);
            self.deliver(rng, made);
        }
        let (context, status) = (&self.context, self.spool.status());
        panic!("{context}: the line does not come to rest: {status:?} of {last}, {:?}", self.met);
    }

    /// What the master was told is durable; more it never gives up.
    #[must_use]
    pub fn acknowledged(&self) -> Lsn {
        self.acknowledged
    }

    /// Captures that became durable since this was asked last, in order, and what went wrong meanwhile. `None` for the
    /// end of a capture whose beginning came before the replica was opened.
    pub fn came(&mut self) -> (Vec<Result<Placed, Lsn>>, Vec<Trouble>) {
        let Some(door) = &self.door else { return (Vec::new(), Vec::new()) };
        let (durable, trouble) = door.came();
        let placed: Vec<_> = durable.into_iter().filter_map(|one| self.assembly.push(one)).collect();
        (placed, trouble)
    }

    /// The replica runs, with this journal.
    pub fn replica_runs(&mut self, journal: &Arc<Journal>) {
        self.door = Some(Arc::new(Door::new(Arc::clone(journal))));
    }

    /// The replica ends: what was on its way is gone, and what was handed over and is not durable.
    pub fn replica_ends(&mut self) {
        for connection in &mut self.connections {
            connection.end = End::Gone;
            connection.to_replica.clear();
        }
        self.assembly = Assembly::default();
        self.slots = Arc::default();
        self.door = None;
    }

    fn some(&self, rng: &mut Rng, is: impl Fn(&Connection) -> bool) -> Option<usize> {
        let fitting: Vec<usize> =
            (0..self.connections.len()).filter(|at| is(&self.connections[*at])).collect();
        rng.pick(&fitting).copied()
    }

    /// The master captures: all of a change, or a part of it, or it begins one again.
    fn emit(&mut self, rng: &mut Rng, made: &Made) {
        let Some(captured) = self.spool.status().captured else { return };
        let Some(capture) = made.get(&(captured.captured + 1)) else { return };
        let events = &capture.events;
        if self.open.1 > 0 && rng.chance(1, 10) {
            self.open = (0, 0);
        }
        let (begin, part) = self.open;
        let end = match rng.chance(1, 3) {
            true => (begin + rng.below(1 + (events.len() - begin) as u64) as usize).min(events.len()),
            false => events.len(),
        };
        let last = end == events.len();
        let draft = Draft {
            time: capture.time,
            provenance: capture.provenance,
            root: capture.root,
            path: capture.path.clone(),
            part,
            last,
            events: events[begin..end].to_vec(),
        };
        match self.spool.emit(draft) {
            Ok(lsn) => assert_eq!(lsn, capture.lsn, "{}: the spool goes on elsewhere", self.context),
            Err(SinkError::Closed) => return,
            Err(error) => panic!("{}: {}: {error}", self.context, capture.lsn),
        }
        self.met.in_parts += u64::from(last && part > 0);
        self.open = if last { (0, 0) } else { (end, part + 1) };
    }

    /// The master gives up the connection it has and begins another.
    fn dial(&mut self) {
        self.give_up();
        let hello = hello(&self.spool, &Agent, SCENARIO, "life", HOST);
        self.connections.retain(|one| one.stands || !matches!(one.end, End::Gone));
        if self.connections.len() >= CONNECTIONS_MAX {
            // Whoever has the place is waited for.
            let lost =
                self.connections.iter().position(|one| matches!(one.end, End::New | End::Waiting { .. }));
            lost.map(|at| self.connections.remove(at));
        }
        self.connections.push(Connection {
            stands: true,
            holed: false,
            to_replica: VecDeque::from([ToReplica::Hello(Box::new(hello))]),
            to_master: VecDeque::new(),
            end: End::New,
            delivery: None,
            last: Vec::new(),
        });
    }

    /// The master gives up its connection; what is under way to the replica still comes.
    fn give_up(&mut self) {
        for connection in &mut self.connections {
            connection.stands = false;
            connection.delivery = None;
        }
    }

    /// The master sends what it has.
    fn deliver(&mut self, rng: &mut Rng, _: &Made) {
        let Some(at) = self.some(rng, |one| one.delivery.is_some()) else { return };
        let most = if rng.chance(1, 2) { 300 } else { 4000 };
        let bytes_max = 1 + rng.below(most) as usize;
        let connection = &mut self.connections[at];
        let Some((reader, _)) = connection.delivery.as_mut() else { return };
        let batch = reader.next_batch(bytes_max, Duration::ZERO).expect("the spool reads");
        connection.send(batch);
    }

    /// The master sends the last batch again. It may where that is of whole captures: what belongs to one under way
    /// would begin it again.
    fn resend(&mut self, rng: &mut Rng, _: &Made) {
        let whole = |one: &Connection| {
            let last = &one.last;
            one.delivery.is_some()
                && last.first().is_some_and(|part| part.number == 0)
                && last.last().is_some_and(|part| part.last)
        };
        let Some(at) = self.some(rng, whole) else { return };
        let batch = std::mem::take(&mut self.connections[at].last);
        self.connections[at].send(batch);
        self.met.resent += 1;
    }

    /// The replica hears what came first on a connection, or notices its end.
    fn hear_master(&mut self, rng: &mut Rng, _: &Made) {
        if let Some(at) = self.some(rng, |one| !matches!(one.end, End::Gone)) {
            self.hear(at);
        }
    }

    fn hear(&mut self, at: usize) {
        let Some(door) = self.door.clone() else { return };
        let connection = &mut self.connections[at];
        self.met.late += u64::from(!connection.stands && !connection.to_replica.is_empty());
        let is_over = !connection.stands && connection.to_replica.is_empty();
        let end = match std::mem::replace(&mut connection.end, End::Gone) {
            End::New if is_over => End::Gone,
            End::New => self.greet(at),
            End::Waiting { hello, arrival } => match self.slots.try_take(SCENARIO, HOST, arrival) {
                Err(refused) => self.refuse(at, refused),
                Ok(Err(_)) => End::Waiting { hello, arrival },
                Ok(Ok(place)) => self.begin(at, &hello, place, &(door as Arc<dyn Ingest>)),
            },
            End::Attached { session, place, .. } if is_over || place.is_superseded() => {
                session.in_flight().close();
                End::Closing { session, _place: place }
            }
            End::Attached { session, told, place } => self.take(at, session, told, place),
            End::Closing { session, _place } if !session.drain(Duration::ZERO) => {
                End::Closing { session, _place }
            }
            End::Closing { .. } | End::Gone => End::Gone,
        };
        self.connections[at].end = end;
    }

    fn greet(&mut self, at: usize) -> End {
        let Some(ToReplica::Hello(hello)) = self.connections[at].to_replica.pop_front() else {
            // It was lost within the connection.
            return End::Gone;
        };
        match self.slots.arrive(SCENARIO, HOST, hello.dial) {
            Ok(arrival) => End::Waiting { hello, arrival },
            Err(refused) => self.refuse(at, refused),
        }
    }

    fn refuse(&mut self, at: usize, refused: Refused) -> End {
        self.met.superseded += u64::from(refused.reason == Reason::Superseded);
        self.connections[at].to_master.push_back(ToMaster::Refused(refused));
        End::Gone
    }

    fn begin(&mut self, at: usize, hello: &Hello, place: Place, door: &Arc<dyn Ingest>) -> End {
        let told = Told::default();
        let own = Arc::clone(&told);
        let observer = Arc::new(move |progress: &Result<Progress, SessionError>| {
            *own.lock() = Some(progress.clone());
        });
        let begun = begin(door, terms(), hello, u64::MAX, observer);
        match begun.met {
            Ok(()) => {
                let welcome = ToMaster::Welcome(Box::new(begun.welcome));
                self.connections[at].to_master.push_back(welcome);
                End::Attached { session: Box::new(begun.session), told, place }
            }
            Err(refused) => self.refuse(at, refused),
        }
    }

    fn take(&mut self, at: usize, mut session: Box<IngestSession>, told: Told, place: Place) -> End {
        let connection = &mut self.connections[at];
        let batch = match connection.to_replica.pop_front() {
            Some(ToReplica::Batch(batch)) => batch,
            Some(ToReplica::Hello(_)) => panic!("{}: a second hello", self.context),
            None => Batch::default(),
        };
        let Err(error) = session.submit(batch) else { return End::Attached { session, told, place } };
        let reason = error.reason();
        if reason == Reason::Protocol || matches!(error, SessionError::Missing { .. }) {
            assert!(connection.holed, "{}: what the master sends is refused: {error:?}", self.context);
            self.met.holes += 1;
        }
        let refused = Refused { reason, text: format!("{error:?}") };
        connection.to_master.push_back(ToMaster::Refused(refused));
        End::Closing { session, _place: place }
    }

    /// The replica tells how far it is, if that has changed.
    fn acknowledge(&mut self, rng: &mut Rng) {
        let Some(at) = self.some(rng, |one| matches!(one.end, End::Attached { .. })) else { return };
        let connection = &mut self.connections[at];
        let End::Attached { told, .. } = &connection.end else { return };
        let told = told.lock().take();
        if let Some(Ok(progress)) = told {
            connection.to_master.push_back(ToMaster::Progress(progress));
        }
    }

    /// The master hears what came first on the connection it has; of others it hears nothing.
    fn hear_replica(&mut self, rng: &mut Rng) {
        let Some(at) = self.some(rng, |one| one.stands && !one.to_master.is_empty()) else { return };
        let connection = &mut self.connections[at];
        match connection.to_master.pop_front() {
            Some(ToMaster::Welcome(welcome)) => {
                let begins = self.spool.status().captured.is_none() || self.spool.is_unused();
                let reader =
                    meet(&self.spool, &welcome).unwrap_or_else(|error| panic!("{}: {error:?}", self.context));
                connection.delivery = Some((reader, Flow::new(u64::MAX)));
                self.met.meetings += 1;
                if begins {
                    // A rescan finds what the journal does not have.
                    self.open = (0, 0);
                }
            }
            Some(ToMaster::Refused(refusal)) => {
                connection.stands = false;
                connection.delivery = None;
                let holed = connection.holed && refusal.reason == Reason::Protocol;
                let ours = matches!(
                    refusal.reason,
                    Reason::Journal | Reason::JournalDamaged | Reason::Unavailable | Reason::Superseded
                );
                assert!(holed || ours, "{}: the master is refused: {refusal:?}", self.context);
                drop(refused(&self.spool, refusal));
            }
            Some(ToMaster::Progress(progress)) => {
                if let Some((_, flow)) = &connection.delivery {
                    let taken = flow.acknowledge(&self.spool, progress);
                    taken.unwrap_or_else(|error| panic!("{}: {error:?}", self.context));
                }
            }
            None => {}
        }
        self.acknowledged = self.acknowledged.max(self.spool.status().acknowledged);
    }

    /// The journal makes durable what came first, or fails.
    fn commit(&mut self) {
        if let Some(door) = self.door.as_ref().filter(|door| !door.is_in_trouble()) {
            door.commit();
        }
    }

    /// Part of what is under way is lost: with its connection, or one message within it.
    fn lose(&mut self, rng: &mut Rng, _: &Made) {
        if rng.chance(3, 4) {
            // What comes behind it shows that something is missing.
            let Some(at) = self.some(rng, |one| one.stands && one.to_replica.len() > 1) else { return };
            let connection = &mut self.connections[at];
            let lost = rng.below(connection.to_replica.len() as u64 - 1) as usize;
            connection.to_replica.remove(lost);
            connection.holed = true;
            return;
        }
        let Some(at) = self.some(rng, |one| !one.to_replica.is_empty()) else { return };
        let connection = &mut self.connections[at];
        let left = rng.below(connection.to_replica.len() as u64) as usize;
        connection.to_replica.truncate(left);
        if connection.stands {
            self.give_up();
        }
    }

    /// The master ends and comes back: as it should, killed, or after a loss of power. Its last hello does not outlive it.
    fn restart_master(&mut self, rng: &mut Rng, _: &Made) {
        self.give_up();
        for connection in &mut self.connections {
            if !matches!(connection.end, End::Attached { .. } | End::Closing { .. }) {
                connection.to_replica.clear();
                connection.end = End::Gone;
            }
        }
        let cut = match rng.below(5) {
            0 | 1 => {
                self.spool.close().expect("the spool closes");
                Cut::Everything
            }
            2 => Cut::Everything,
            _ => Cut::ALL[rng.below(3) as usize],
        };
        self.disk = self.disk.crash(cut, rng);
        self.spool = spool_on(&self.disk);
        // An unfinished capture ends with the process.
        self.open = (0, 0);
        self.met.masters += 1;
    }
}

impl Default for Line {
    fn default() -> Self {
        Line::new()
    }
}

impl Connection {
    fn send(&mut self, batch: Vec<SpooledPart>) {
        let Some((_, flow)) = self.delivery.as_ref().filter(|_| !batch.is_empty()) else { return };
        self.to_replica.push_back(ToReplica::Batch(flow.sent(&batch)));
        self.last = batch;
    }
}
