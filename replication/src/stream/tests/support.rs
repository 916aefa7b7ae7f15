//! An agent, a scenario and a source of captures for the tests.

use super::super::*;
use crate::ingest::tests::MemoryIngest;
use crate::spool::tests::Random;
use crate::spool::{Draft, Spool, SpoolOptions};
use journal::{Attributes, Event, Kind, Meta, Name, NodeId, OsDisk, Payload, Provenance, RootNo, Timestamp};
use parking_lot::Mutex;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;
use wire::stream::{AutoResync, NamespaceEntry, Reason, RootDefinition};

pub const SOON: Duration = Duration::from_secs(15);

#[track_caller]
pub fn until(holds: impl Fn() -> bool) {
    let give_up = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < give_up, "does not come true");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub fn spool_in(directory: &Path) -> Arc<Spool> {
    let options = SpoolOptions {
        memory_bytes_max: 2 << 20,
        disk_bytes_max: 1 << 30,
        disk_free_bytes_min: 0,
        segment_bytes_max: 1 << 20,
        ..SpoolOptions::new(directory.join("spool"))
    };
    Arc::new(Spool::open(Arc::new(OsDisk), options).unwrap().0)
}

/// A draft whose bytes depend on `mark`.
pub fn draft(mark: u64, bytes: usize) -> Draft {
    let data: Vec<u8> = mark.to_le_bytes().into_iter().cycle().take(bytes).collect();
    Draft {
        time: Timestamp(1),
        provenance: Provenance::Derived,
        root: RootNo(0),
        path: mark.to_string().into_bytes(),
        part: 0,
        last: true,
        events: vec![Event::Write {
            node: NodeId(5000),
            offset: mark,
            data: Payload::Inline(data.into()),
            before: None,
        }],
    }
}

/// Captures emitted by a thread, some of them in parts, and what of them must arrive.
pub struct Emitted {
    expected: Arc<Mutex<Vec<Vec<Event>>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Emitted {
    pub fn in_background(spool: &Arc<Spool>, seed: u64, count: u64) -> Self {
        let expected: Arc<Mutex<Vec<Vec<Event>>>> = Arc::default();
        let (spool, own) = (Arc::clone(spool), Arc::clone(&expected));
        let thread = std::thread::spawn(move || {
            let mut random = Random(seed | 1);
            until(|| spool.status().captured.is_some());
            for mark in 0..count {
                let parts = if random.below(10) == 0 { 1 + random.below(8) as u32 } else { 1 };
                let abandon = random.below(40) == 0;
                let mut events = Vec::new();
                for part in 0..parts {
                    let last = part + 1 == parts && !abandon;
                    let one = Draft { part, last, ..draft(mark, random.below(4000) as usize) };
                    events.extend(one.events.clone());
                    spool.emit(one).unwrap();
                }
                if !abandon {
                    own.lock().push(events);
                }
                if random.below(20) == 0 {
                    std::thread::sleep(Duration::from_millis(random.below(10)));
                }
            }
        });
        Emitted { expected, thread: Mutex::new(Some(thread)) }
    }

    pub fn is_finished(&self) -> bool {
        self.thread.lock().as_ref().is_none_or(JoinHandle::is_finished)
    }

    pub fn join(&self) {
        if let Some(thread) = self.thread.lock().take() {
            thread.join().unwrap();
        }
    }

    pub fn last(&self) -> Lsn {
        Lsn::captured(self.expected.lock().len() as u64)
    }

    #[track_caller]
    pub fn check(&self, ingest: &MemoryIngest) {
        self.join();
        let expected = self.expected.lock();
        ingest.with(|memory| {
            assert_eq!(memory.captures.len(), expected.len());
            for (number, (capture, events)) in (1..).zip(memory.captures.iter().zip(expected.iter())) {
                assert_eq!(capture.lsn, Lsn::captured(number));
                assert!(capture.events == *events, "capture {number} is not what was emitted");
            }
        });
    }
}

/// An agent that answers at once and remembers what it was told.
pub struct Agent {
    spool: Arc<Spool>,
    replica: Mutex<Option<Arc<dyn ReplicaHandle>>>,
    errors: Mutex<Vec<String>>,
    applied: Mutex<Lsn>,
    resent: AtomicU64,
}

impl Agent {
    pub fn new(spool: &Arc<Spool>) -> Arc<Self> {
        Arc::new(Agent {
            spool: Arc::clone(spool),
            replica: Mutex::default(),
            errors: Mutex::default(),
            applied: Mutex::default(),
            resent: AtomicU64::new(0),
        })
    }

    pub fn replica(&self) -> Arc<dyn ReplicaHandle> {
        until(|| self.replica.lock().is_some());
        self.replica.lock().clone().unwrap()
    }

    pub fn last_error(&self) -> Option<String> {
        self.errors.lock().last().cloned()
    }

    pub fn errors_seen(&self) -> usize {
        self.errors.lock().len()
    }

    pub fn applied(&self) -> Lsn {
        *self.applied.lock()
    }

    /// Connections that began before what was acknowledged.
    pub fn resent_acknowledged(&self) -> u64 {
        self.resent.load(Ordering::Relaxed)
    }
}

impl MasterCommands for Agent {
    fn index_clean_at(&self) -> Option<Lsn> {
        None
    }

    fn connected(&self, welcome: &Welcome, replica: Arc<dyn ReplicaHandle>) {
        if self.spool.status().acknowledged > welcome.journaled {
            self.resent.fetch_add(1, Ordering::Relaxed);
        }
        *self.replica.lock() = Some(replica);
    }

    fn disconnected(&self, why: &StreamError) {
        self.errors.lock().push(why.to_string());
    }

    fn command(&self, command: Command, reply: Replier) {
        match command {
            Command::Barrier { cookie, .. } => {
                // Later, from another thread, as a real agent does.
                std::thread::spawn(move || {
                    let (lsn, class) = (Lsn::captured(cookie), journal::Class::Fuzzy);
                    reply.reply(Outcome::Barrier { lsn, class, time: Timestamp(1) });
                });
            }
            Command::Verify => drop(reply),
            _ => reply.reply(Outcome::Done),
        }
    }

    fn applied(&self, lsn: Lsn) {
        *self.applied.lock() = lsn;
    }

    fn status(&self) -> AgentStatus {
        AgentStatus {
            agent: AgentState::Capturing,
            gaps_open: 42,
            time: Timestamp(1),
            cause: String::new(),
            files: (0, 0),
            bytes: (0, 0),
        }
    }
}

/// A scenario over a journal in memory, which remembers what it was told.
pub struct Link {
    pub ingest: Arc<MemoryIngest>,
    pub terms: Mutex<Terms>,
    master: Mutex<Option<Arc<dyn MasterHandle>>>,
    attached: AtomicU64,
    detached: AtomicU64,
    status: Mutex<Option<MasterStatus>>,
    refusals: Mutex<Vec<Reason>>,
    applied: Mutex<Lsn>,
}

/// A scenario that runs and was never synchronized.
pub fn terms() -> Terms {
    let definition = Definition {
        scenario: 1,
        name: "docs".to_owned(),
        roots: vec![RootDefinition { root: RootNo(0), path: b"/srv/docs".to_vec() }],
        excludes: vec!["*.tmp".to_owned()],
        auto_resync: AutoResync::Always,
        spool_bytes_max: None,
        settings: Vec::new(),
    };
    Terms { synchronization: Synchronization::Never, suspended: false, running: true, definition }
}

impl Link {
    pub fn new() -> Arc<Self> {
        Arc::new(Link {
            ingest: MemoryIngest::new(),
            terms: Mutex::new(terms()),
            master: Mutex::default(),
            attached: AtomicU64::new(0),
            detached: AtomicU64::new(0),
            status: Mutex::default(),
            refusals: Mutex::default(),
            applied: Mutex::default(),
        })
    }

    pub fn master(&self) -> Arc<dyn MasterHandle> {
        until(|| self.master.lock().is_some());
        self.master.lock().clone().unwrap()
    }

    pub fn connections(&self) -> u64 {
        self.attachments()
    }

    pub fn attachments(&self) -> u64 {
        self.attached.load(Ordering::Relaxed)
    }

    pub fn detachments(&self) -> u64 {
        self.detached.load(Ordering::Relaxed)
    }

    pub fn status_seen(&self) -> Option<MasterStatus> {
        self.status.lock().clone()
    }

    pub fn refusals(&self) -> Vec<Reason> {
        self.refusals.lock().clone()
    }

    pub fn set_applied(&self, lsn: Lsn) {
        *self.applied.lock() = lsn;
    }
}

fn entry(number: u8) -> NamespaceEntry {
    let time = Timestamp(0);
    let attributes = Attributes { mode: 0o755, uid: 0, gid: 0, mtime: time, ctime: time };
    NamespaceEntry {
        node: NodeId(4096 + u64::from(number)),
        at: Some((NodeId::root(RootNo(0)), Name::new(&[b'a' + number]).unwrap())),
        meta: Meta { kind: Kind::File, size: 7, attributes, xattrs: Vec::new() },
        origin: None,
        content_known: true,
    }
}

impl ReplicaLink for Link {
    fn ingest(&self) -> Arc<dyn Ingest> {
        Arc::clone(&self.ingest) as Arc<dyn Ingest>
    }

    fn terms(&self, _: &Hello) -> Result<Terms, Refused> {
        Ok(self.terms.lock().clone())
    }

    fn attached(&self, _: &str, master: Arc<dyn MasterHandle>) {
        let (attached, detached) = (self.attachments(), self.detachments());
        assert_eq!(attached, detached, "attached before the last one was detached");
        self.attached.fetch_add(1, Ordering::Relaxed);
        *self.master.lock() = Some(master);
    }

    fn detached(&self, _: &str) {
        self.detached.fetch_add(1, Ordering::Relaxed);
    }

    fn status(&self, status: &MasterStatus) {
        *self.status.lock() = Some(status.clone());
    }

    fn refused(&self, refused: &Refused) {
        self.refusals.lock().push(refused.reason);
    }

    fn applied(&self) -> Lsn {
        *self.applied.lock()
    }

    /// Five entries, two a page.
    fn namespace(&self, after: &[u8]) -> Result<NamespacePage, Failed> {
        let from = match after {
            [] => 0,
            [number] if *number < 5 => *number,
            _ => return Err(Failed { code: "RW0468".to_owned(), text: "no such place".to_owned() }),
        };
        let to = (from + 2).min(5);
        Ok(NamespacePage {
            skipped: Vec::new(),
            entries: (from..to).map(entry).collect(),
            next: (to < 5).then(|| Bytes::copy_from_slice(&[to])),
            at: Lsn::captured(1),
            synchronized: true,
        })
    }
}
