//! Masters, a line and a replica.

use super::super::super::steps::{Place, Slots};
use super::super::super::*;
use super::super::support::{Agent, spool_in, terms};
use crate::ingest::tests::Memory;
use crate::ingest::{Done, IngestError, IngestSession, IngestState, SessionError};
use crate::spool::tests::Random;
use crate::spool::{Draft, Spool, SpoolReader};
use journal::{Event, Lsn, NodeId, Part, Payload, Provenance, RootNo, Timestamp};
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use wire::stream::{Batch, Hello, MeetingId, Progress, Reason, Refused, Welcome};

const SCENARIO: u64 = 1;
const HOST: &str = "here";

/// What the worlds came to.
#[derive(Clone, Debug, Default)]
pub struct Met {
    pub captures: u64,
    pub welcomes: u64,
    pub superseded: u64,
    pub diverged: u64,
    /// Messages that arrived of a connection that was given up.
    pub late: u64,
}

impl Met {
    pub fn add(&mut self, other: &Met) {
        self.captures += other.captures;
        self.welcomes += other.welcomes;
        self.superseded += other.superseded;
        self.diverged += other.diverged;
        self.late += other.late;
    }
}

/// A journal whose group commit is a step.
#[derive(Default)]
struct Door {
    memory: Mutex<Memory>,
    queue: Mutex<VecDeque<(Vec<Part>, Done)>>,
    refusing: AtomicBool,
}

impl Door {
    fn unavailable() -> IngestError {
        IngestError::Unavailable("no room".into())
    }

    /// Commits, or fails, what came first.
    fn step(&self, fails: bool) {
        let Some((parts, done)) = self.queue.lock().pop_front() else { return };
        if fails || self.refusing.load(Ordering::Relaxed) {
            self.refusing.store(true, Ordering::Relaxed);
            return done(Err(Self::unavailable()));
        }
        let journaled = self.memory.lock().commit(parts);
        done(journaled);
    }
}

impl Ingest for Door {
    fn state(&self) -> IngestState {
        self.refusing.store(false, Ordering::Relaxed);
        self.memory.lock().state()
    }

    fn meet(&self, known: Option<MeetingId>, goes_on: bool) -> Result<Option<MeetingId>, IngestError> {
        Ok(self.memory.lock().meet(known, goes_on))
    }

    fn ingest(&self, parts: Vec<Part>, done: Done) {
        if self.refusing.load(Ordering::Relaxed) {
            return done(Err(Self::unavailable()));
        }
        self.queue.lock().push_back((parts, done));
    }
}

type Told = Arc<Mutex<Option<Result<Progress, SessionError>>>>;

enum ToReplica {
    Hello(Box<Hello>),
    Batch(Batch),
}

enum ToMaster {
    Welcome(Box<Welcome>),
    Refused(Refused),
    Progress(Progress),
}

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
    master: usize,
    /// The master has not given it up.
    stands: bool,
    to_replica: VecDeque<ToReplica>,
    to_master: VecDeque<ToMaster>,
    end: End,
    flow: Option<(SpoolReader, Flow)>,
}

struct Master {
    spool: Arc<Spool>,
    agent: Arc<Agent>,
    directory: TempDir,
    /// What its history ends with; `None` where it has to begin.
    last: Option<u64>,
    /// The capture under way: its mark, its next part, its events.
    open: Option<(u64, u32, Vec<Event>)>,
    /// What it made on this history and the replica must have in the end.
    owed: BTreeMap<u64, u64>,
    /// It came back older, or there are two of it.
    is_doubtful: bool,
}

fn directory() -> TempDir {
    // A memory file system where there is one: nothing here is about power.
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

impl Master {
    fn new(directory: TempDir) -> Master {
        let spool = spool_in(directory.path());
        let agent = Agent::new(&spool);
        Master { spool, agent, directory, last: None, open: None, owed: BTreeMap::new(), is_doubtful: false }
    }
}

pub struct World {
    pub random: Random,
    pub met: Met,
    seed: u64,
    door: Arc<Door>,
    slots: Arc<Slots>,
    masters: Vec<Master>,
    connections: Vec<Connection>,
    /// Events of each capture that was completed, by its mark.
    made: BTreeMap<u64, Vec<Event>>,
    marks: u64,
    checked: usize,
}

/// A part: the mark of its capture, and of the one it was made on.
fn event(mark: u64, before: u64, part: u32, bytes: u64) -> Event {
    let mut data = before.to_le_bytes().to_vec();
    data.resize(8 + bytes as usize, mark as u8);
    let (node, offset) = (NodeId(5000 + u64::from(part)), mark);
    Event::Write { node, offset, data: Payload::Inline(data.into()), before: None }
}

/// What [`event`] was made of: mark, and the mark before.
fn marks(events: &[Event]) -> (u64, u64) {
    let Some(Event::Write { offset, data: Payload::Inline(data), .. }) = events.first() else {
        panic!("no capture of this world")
    };
    (*offset, u64::from_le_bytes(data[..8].try_into().unwrap()))
}

impl World {
    pub fn new(seed: u64) -> World {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let door = Arc::new(Door::default());
        door.memory.lock().hides_parts = random.below(2) == 0;
        World {
            random,
            met: Met::default(),
            seed,
            door,
            slots: Arc::default(),
            masters: vec![Master::new(directory())],
            connections: Vec::new(),
            made: BTreeMap::new(),
            marks: 0,
            checked: 0,
        }
    }

    fn some_master(&mut self) -> usize {
        self.random.below(self.masters.len() as u64) as usize
    }

    fn some_connection(&mut self, is: impl Fn(&Connection) -> bool) -> Option<usize> {
        let fitting: Vec<usize> =
            (0..self.connections.len()).filter(|at| is(&self.connections[*at])).collect();
        let at = self.random.below(fitting.len().max(1) as u64) as usize;
        fitting.get(at).copied()
    }

    fn last_journaled(&self) -> u64 {
        self.door.memory.lock().captures.last().map_or(0, |capture| marks(&capture.events).0)
    }

    /// A master makes a part of a capture, or gives up the one it was making.
    pub fn capture(&mut self) {
        let at = self.some_master();
        let (abandons, is_long, bytes) =
            (self.random.below(12) == 0, self.random.below(4) == 0, self.random.below(3000));
        let master = &mut self.masters[at];
        let Some(before) = master.last.filter(|_| master.spool.status().captured.is_some()) else { return };
        if abandons {
            master.open = None;
        }
        let (mark, part, mut events) = master.open.take().unwrap_or_else(|| {
            self.marks += 1;
            (self.marks, 0, Vec::new())
        });
        let last = !is_long || part > 5;
        let one = event(mark, before, part, bytes);
        let draft = Draft {
            time: Timestamp(1),
            provenance: Provenance::Derived,
            root: RootNo(0),
            path: b"a".to_vec(),
            part,
            last,
            events: vec![one.clone()],
        };
        let lsn = master.spool.emit(draft).unwrap();
        events.push(one);
        if !last {
            master.open = Some((mark, part + 1, events));
            return;
        }
        self.met.captures += 1;
        self.made.insert(mark, events);
        master.owed.insert(lsn.captured, mark);
        master.last = Some(mark);
    }

    /// A master gives up the connection it has and begins another.
    pub fn dial(&mut self) {
        let at = self.some_master();
        self.dial_from(at);
    }

    fn dial_from(&mut self, at: usize) {
        self.give_up(at);
        let master = &self.masters[at];
        let hello = hello(&master.spool, &*master.agent, SCENARIO, "docs", HOST);
        self.connections.push(Connection {
            master: at,
            stands: true,
            to_replica: VecDeque::from([ToReplica::Hello(Box::new(hello))]),
            to_master: VecDeque::new(),
            end: End::New,
            flow: None,
        });
    }

    fn give_up(&mut self, master: usize) {
        for connection in self.connections.iter_mut().filter(|one| one.master == master) {
            connection.stands = false;
            connection.flow = None;
        }
    }

    /// A master sends what it has.
    pub fn deliver(&mut self) {
        let Some(at) = self.some_connection(|one| one.flow.is_some()) else { return };
        let bytes_max = 1 + self.random.below(6000) as usize;
        let connection = &mut self.connections[at];
        let Some((reader, flow)) = connection.flow.as_mut() else { return };
        let batch = reader.next_batch(bytes_max, Duration::ZERO).unwrap();
        if !batch.is_empty() {
            connection.to_replica.push_back(ToReplica::Batch(flow.sent(&batch)));
        }
    }

    /// The replica hears what came first on a connection, or notices its end.
    pub fn hear_master(&mut self) {
        if let Some(at) = self.some_connection(|one| !matches!(one.end, End::Gone)) {
            self.hear(at);
        }
    }

    fn hear(&mut self, at: usize) {
        let connection = &mut self.connections[at];
        self.met.late += u64::from(!connection.stands && !connection.to_replica.is_empty());
        let is_over = !connection.stands && connection.to_replica.is_empty();
        let end = match std::mem::replace(&mut connection.end, End::Gone) {
            End::New if is_over => End::Gone,
            End::New => self.greet(at),
            End::Waiting { hello, arrival } => match self.slots.try_take(SCENARIO, HOST, arrival) {
                Err(refused) => self.refuse(at, refused),
                Ok(Err(_)) => End::Waiting { hello, arrival },
                Ok(Ok(place)) => self.begin(at, &hello, place),
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
            panic!("seed {}: no hello came first", self.seed)
        };
        match self.slots.arrive(SCENARIO, HOST, hello.dial) {
            Ok(arrival) => End::Waiting { hello, arrival },
            Err(refused) => self.refuse(at, refused),
        }
    }

    fn take(&mut self, at: usize, mut session: Box<IngestSession>, told: Told, place: Place) -> End {
        let connection = &mut self.connections[at];
        let batch = match connection.to_replica.pop_front() {
            Some(ToReplica::Batch(batch)) => batch,
            Some(ToReplica::Hello(_)) => panic!("seed {}: a second hello", self.seed),
            None => Batch::default(),
        };
        let Err(error) = session.submit(batch) else { return End::Attached { session, told, place } };
        let is_ours = matches!(error.reason(), Reason::Journal | Reason::Unavailable);
        assert!(is_ours, "seed {}: {error:?}", self.seed);
        let refused = Refused { reason: error.reason(), text: error.to_string() };
        connection.to_master.push_back(ToMaster::Refused(refused));
        End::Closing { session, _place: place }
    }

    fn refuse(&mut self, at: usize, refused: Refused) -> End {
        self.met.superseded += u64::from(refused.reason == Reason::Superseded);
        self.connections[at].to_master.push_back(ToMaster::Refused(refused));
        End::Gone
    }

    fn begin(&mut self, at: usize, hello: &Hello, place: Place) -> End {
        let told = Told::default();
        let own = Arc::clone(&told);
        let observer = Arc::new(move |progress: &Result<Progress, SessionError>| {
            *own.lock() = Some(progress.clone());
        });
        let door = Arc::clone(&self.door) as Arc<dyn Ingest>;
        let begun = super::super::super::begin(&door, terms(), hello, u64::MAX, observer);
        match begun.met {
            Ok(()) => {
                self.connections[at].to_master.push_back(ToMaster::Welcome(Box::new(begun.welcome)));
                End::Attached { session: Box::new(begun.session), told, place }
            }
            Err(refused) => self.refuse(at, refused),
        }
    }

    /// The replica tells how far it is, if that has changed.
    pub fn acknowledge(&mut self) {
        let Some(at) = self.some_connection(|one| matches!(one.end, End::Attached { .. })) else { return };
        let connection = &mut self.connections[at];
        let End::Attached { told, .. } = &connection.end else { return };
        let told = told.lock().take();
        if let Some(Ok(progress)) = told {
            connection.to_master.push_back(ToMaster::Progress(progress));
        }
    }

    /// A master hears what came first on the connection it has; of others it hears nothing.
    pub fn hear_replica(&mut self) {
        let Some(at) = self.some_connection(|one| one.stands && !one.to_master.is_empty()) else { return };
        let last_journaled = self.last_journaled();
        let connection = &mut self.connections[at];
        let master = &mut self.masters[connection.master];
        match connection.to_master.pop_front() {
            Some(ToMaster::Welcome(welcome)) => {
                let begins = master.spool.status().captured.is_none() || master.spool.is_unused();
                match meet(&master.spool, &welcome) {
                    Ok(reader) => connection.flow = Some((reader, Flow::new(u64::MAX))),
                    Err(error) => panic!("seed {}: {error}", self.seed),
                }
                self.met.welcomes += 1;
                if begins {
                    // The index is rebuilt from the replica's namespace.
                    master.last = Some(last_journaled);
                }
            }
            Some(ToMaster::Refused(refusal)) => {
                connection.stands = false;
                connection.flow = None;
                let is_diverged = refusal.reason == Reason::Diverged;
                self.met.diverged += u64::from(is_diverged);
                assert!(!is_diverged || master.is_doubtful, "seed {}: {}", self.seed, refusal.text);
                drop(refused(&master.spool, refusal));
                if is_diverged {
                    master.begin_anew();
                }
            }
            Some(ToMaster::Progress(progress)) => {
                if let Some((_, flow)) = &connection.flow {
                    let taken = flow.acknowledge(&master.spool, progress);
                    taken.unwrap_or_else(|error| panic!("seed {}: {error}", self.seed));
                }
            }
            None => {}
        }
    }

    pub fn commit(&mut self) {
        self.door.step(false);
    }

    pub fn refuse_commit(&mut self) {
        self.door.step(true);
    }

    /// A connection is given up; what is under way to the replica still comes.
    pub fn cut(&mut self) {
        let at = self.some_master();
        self.give_up(at);
    }

    /// A connection is given up, and part of what is under way is lost.
    pub fn lose(&mut self) {
        let Some(at) = self.some_connection(|one| !one.to_replica.is_empty()) else { return };
        let master = self.connections[at].master;
        if self.connections[at].stands {
            self.give_up(master);
        }
        let left = self.random.below(1 + self.connections[at].to_replica.len() as u64) as usize;
        self.connections[at].to_replica.truncate(left);
    }

    /// Some of what was handed over is durable and nobody was told; the rest never came.
    pub fn restart_replica(&mut self) {
        for _ in 0..self.random.below(4) {
            self.door.step(false);
        }
        let memory = std::mem::take(&mut *self.door.memory.lock());
        self.door = Arc::new(Door { memory: Mutex::new(memory), ..Door::default() });
        self.slots = Arc::default();
        for connection in &mut self.connections {
            connection.end = End::Gone;
            connection.to_replica.clear();
        }
    }

    /// A master ends, as it should or not, and comes back. Its last hello does not outlive it: of lives nobody can tell
    /// which one is newer.
    pub fn restart_master(&mut self) {
        let (at, is_clean) = (self.some_master(), self.random.below(2) == 0);
        self.end_master(at, is_clean);
        let master = &mut self.masters[at];
        master.spool = spool_in(master.directory.path());
        master.agent = Agent::new(&master.spool);
    }

    fn end_master(&mut self, at: usize, is_clean: bool) {
        self.give_up(at);
        for connection in self.connections.iter_mut().filter(|one| one.master == at) {
            if !matches!(connection.end, End::Attached { .. } | End::Closing { .. }) {
                connection.to_replica.clear();
                connection.end = End::Gone;
            }
        }
        let master = &mut self.masters[at];
        // An unfinished capture ends with the process; what was not closed is not known any more.
        master.open = None;
        if is_clean {
            let has_begun = master.spool.status().captured.is_some();
            master.spool.close().unwrap();
            if !has_begun {
                master.begin_anew();
            }
        } else {
            master.begin_anew();
        }
        // Lets go the directory.
        master.spool = spool_in(directory().path());
        master.agent = Agent::new(&master.spool);
    }

    /// A master is copied, or comes back as it was some time ago.
    pub fn another_master(&mut self) {
        if self.masters.len() > 1 || self.random.below(3) > 0 || self.masters[0].last.is_none() {
            return;
        }
        self.end_master(0, true);
        let copy = directory();
        let (from, to) = (self.masters[0].directory.path().join("spool"), copy.path().join("spool"));
        std::fs::create_dir(&to).unwrap();
        for entry in std::fs::read_dir(&from).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
        let mut other = Master::new(copy);
        let first = &mut self.masters[0];
        first.spool = spool_in(first.directory.path());
        first.agent = Agent::new(&first.spool);
        first.is_doubtful = true;
        (other.last, other.owed, other.is_doubtful) = (first.last, first.owed.clone(), true);
        self.masters.push(other);
    }

    /// What is in the journal was made, whole, each on top of the one before; what was acknowledged is there.
    pub fn check(&mut self) {
        let memory = self.door.memory.lock();
        for at in self.checked..memory.captures.len() {
            let capture = &memory.captures[at];
            assert_eq!(capture.lsn, Lsn::captured(at as u64 + 1), "seed {}", self.seed);
            let (mark, before) = marks(&capture.events);
            assert_eq!(self.made.get(&mark), Some(&capture.events), "seed {}: {}", self.seed, capture.lsn);
            let last = at.checked_sub(1).map_or(0, |at| marks(&memory.captures[at].events).0);
            assert_eq!(before, last, "seed {}: {} is of another history", self.seed, capture.lsn);
        }
        self.checked = memory.captures.len();
        for master in &self.masters {
            let acknowledged = master.spool.status().acknowledged;
            assert!(acknowledged <= memory.journaled(), "seed {}: {acknowledged}", self.seed);
        }
    }

    /// The line is good from now on, and one master is left: all it owes arrives.
    pub fn settle(&mut self) {
        while self.masters.len() > 1 {
            let last = self.masters.len() - 1;
            self.end_master(last, false);
            self.masters.pop();
        }
        for _ in 0..2000 {
            if self.is_settled() {
                return;
            }
            // A dead connection is noticed by its silence.
            let is_alive =
                |one: &Connection| one.stands && (!matches!(one.end, End::Gone) || !one.to_master.is_empty());
            if !self.connections.iter().any(is_alive) {
                self.dial_from(0);
            }
            for at in 0..self.connections.len() {
                self.hear(at);
            }
            self.commit();
            self.acknowledge();
            self.hear_replica();
            self.deliver();
            self.check();
            self.connections.retain(|one| one.stands || !matches!(one.end, End::Gone));
        }
        panic!("seed {}: it does not come to rest", self.seed);
    }

    /// Whether everything that is owed is there, and the master knows.
    fn is_settled(&self) -> bool {
        let (memory, master) = (self.door.memory.lock(), &self.masters[0]);
        let is_there = |(lsn, mark): (&u64, &u64)| {
            let found = (*lsn as usize).checked_sub(1).and_then(|at| memory.captures.get(at));
            found.is_some_and(|capture| marks(&capture.events).0 == *mark)
        };
        let status = master.spool.status();
        master.owed.iter().all(is_there)
            && status.captured.is_some()
            && (master.open.is_some() || status.acknowledged == memory.journaled())
    }
}

impl Master {
    /// What it had made and not delivered is not part of its history any more.
    fn begin_anew(&mut self) {
        self.last = None;
        self.open = None;
        self.owed.clear();
    }
}
