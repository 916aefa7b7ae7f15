//! Order, duplicates, gaps and failures in front of a small journal in memory.

use super::*;
use bytes::Bytes;
use journal::controls::Controls;
use journal::log::RecordAt;
use journal::{Capture, Event, Lsn, Marker, Part, Provenance, RootNo, Timestamp};
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use wire::stream::MeetingId;
use wire::stream::{Batch, Progress, encode_part};

pub(crate) const JOURNAL: JournalId = JournalId([7; 16]);

/// A journal in memory with a thread for group commit. It takes exactly the next part, like the real one.
pub(crate) struct MemoryIngest {
    pub shared: Arc<(Mutex<Memory>, Condvar)>,
}

#[derive(Default)]
pub(crate) struct Memory {
    /// Whole captures, their parts joined.
    pub captures: Vec<Capture>,
    /// Durable parts of the next.
    pub unfinished: Vec<Part>,
    queue: VecDeque<(Vec<Part>, Done)>,
    /// Says nothing of unfinished parts.
    pub hides_parts: bool,
    /// Commits nothing while set.
    pub held: bool,
    /// So many commits fail from now on.
    pub failures: u32,
    pub commit_takes: Duration,
    pub parts_taken: u64,
    /// Who was met.
    pub controls: Controls,
    pub meetings: u128,
    stop: bool,
}

impl Memory {
    pub fn journaled(&self) -> Lsn {
        self.captures.last().map_or(Lsn::ZERO, |capture| capture.lsn)
    }

    pub fn state(&self) -> IngestState {
        IngestState {
            journal: JOURNAL,
            journaled: self.journaled(),
            parts: self.parts(),
            time: self.captures.last().map_or(Timestamp(0), |capture| capture.time),
            next_node: NodeId::FIRST_FREE,
            incarnation: 1,
        }
    }

    pub fn meet(&mut self, known: Option<MeetingId>, goes_on: bool) -> Option<MeetingId> {
        let meeting = (self.meetings + 1).to_be_bytes();
        let met = self.controls.meet(known.map(|known| known.0), goes_on, meeting)?;
        self.meetings += 1;
        self.controls.control(&met, RecordAt::default());
        Some(MeetingId(meeting))
    }

    fn parts(&self) -> u32 {
        if self.hides_parts { 0 } else { self.unfinished.len() as u32 }
    }

    pub fn commit(&mut self, parts: Vec<Part>) -> Result<Journaled, IngestError> {
        if self.failures > 0 {
            self.failures -= 1;
            return Err(IngestError::Unavailable("no room".into()));
        }
        for part in parts {
            let expected = Lsn::captured(self.journaled().captured + 1);
            if part.number == 0 {
                self.unfinished.clear();
            }
            if part.capture.lsn != expected || part.number != self.unfinished.len() as u32 {
                return Err(IngestError::Unavailable("out of order".into()));
            }
            self.parts_taken += 1;
            self.controls.capture(&part.capture, RecordAt::default());
            let last = part.last;
            self.unfinished.push(part);
            if last {
                let mut parts = std::mem::take(&mut self.unfinished).into_iter();
                let mut capture = parts.next().unwrap().capture;
                capture.events.extend(parts.flat_map(|part| part.capture.events));
                self.captures.push(capture);
            }
        }
        Ok(Journaled { lsn: self.journaled(), parts: self.parts() })
    }
}

impl MemoryIngest {
    pub fn new() -> Arc<Self> {
        let shared = Arc::new((Mutex::new(Memory::default()), Condvar::new()));
        let own = Arc::clone(&shared);
        std::thread::spawn(move || {
            loop {
                let (parts, done, takes) = {
                    let mut memory = own.0.lock();
                    while memory.queue.is_empty() || memory.held {
                        if memory.stop && memory.queue.is_empty() {
                            return;
                        }
                        own.1.wait_for(&mut memory, Duration::from_millis(20));
                    }
                    let (parts, done) = memory.queue.pop_front().unwrap();
                    (parts, done, memory.commit_takes)
                };
                if !takes.is_zero() {
                    std::thread::sleep(takes);
                }
                let result = own.0.lock().commit(parts);
                done(result);
            }
        });
        Arc::new(MemoryIngest { shared })
    }

    pub fn with<T>(&self, act: impl FnOnce(&mut Memory) -> T) -> T {
        let result = act(&mut self.shared.0.lock());
        self.shared.1.notify_all();
        result
    }

    #[track_caller]
    pub fn wait_for(&self, lsn: Lsn, timeout: Duration) {
        let give_up = std::time::Instant::now() + timeout;
        while self.with(|memory| memory.journaled()) < lsn {
            assert!(
                std::time::Instant::now() < give_up,
                "only {} came",
                self.with(|memory| memory.journaled())
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for MemoryIngest {
    fn drop(&mut self) {
        self.with(|memory| memory.stop = true);
    }
}

impl Ingest for MemoryIngest {
    fn state(&self) -> IngestState {
        self.with(|memory| memory.state())
    }

    fn meet(&self, known: Option<MeetingId>, goes_on: bool) -> Result<Option<MeetingId>, IngestError> {
        Ok(self.with(|memory| memory.meet(known, goes_on)))
    }

    fn ingest(&self, parts: Vec<Part>, done: Done) {
        self.with(|memory| memory.queue.push_back((parts, done)));
    }
}

pub(crate) fn part(lsn: u64, number: u32, last: bool) -> Part {
    Part {
        number,
        last,
        capture: Capture {
            lsn: Lsn::captured(lsn),
            time: Timestamp(lsn as i64),
            provenance: Provenance::Derived,
            root: RootNo(0),
            path: b"some/where".to_vec(),
            events: vec![Event::Mark(Marker::GapClosed { gap: lsn * 1000 + u64::from(number) })],
        },
    }
}

fn encoded(lsn: u64, number: u32, last: bool) -> Bytes {
    encode_part(&part(lsn, number, last)).unwrap()
}

/// Gives the order a list of parts (lsn, number, last) and compares what it says of each.
#[track_caller]
fn check_order(mut order: Order, parts: &[(u64, u32, bool)], expected: &[&str]) {
    let said: Vec<String> = parts
        .iter()
        .map(|(lsn, number, last)| match order.admit(&part(*lsn, *number, *last)) {
            Ok(admission) => format!("{admission:?}"),
            Err(error) => error.to_string(),
        })
        .collect();
    assert_eq!(said, expected);
}

#[test]
fn only_the_next_part_is_taken() {
    let order = Order::new(Lsn::captured(4), Timestamp(0), 0);
    check_order(
        order.clone(),
        &[(4, 0, true), (5, 0, true), (5, 0, true), (7, 0, true), (6, 0, true)],
        &["Duplicate", "Take", "Duplicate", "capture 7 came where 6 was due", "Take"],
    );
    check_order(
        order.clone(),
        &[(5, 0, false), (5, 1, false), (5, 3, true), (5, 1, false), (5, 2, true), (6, 0, true)],
        &[
            "Take",
            "Take",
            "part 3 of capture 5 came where part 2 was due",
            "part 1 of capture 5 came where part 2 was due",
            "Take",
            "Take",
        ],
    );
    // Part 0 begins again, and the next capture cannot begin before the last is whole.
    check_order(
        order.clone(),
        &[(5, 0, false), (5, 1, false), (5, 0, false), (6, 0, true), (5, 1, true)],
        &["Take", "Take", "Take", "capture 6 came where 5 was due", "Take"],
    );
    check_order(order, &[(5, 1, true)], &["part 1 of capture 5 came where part 0 was due"]);
    // Parts that came over an earlier connection count.
    let order = Order::new(Lsn::captured(4), Timestamp(0), 2);
    check_order(order.clone(), &[(5, 2, true), (6, 0, true)], &["Take", "Take"]);
    check_order(order, &[(5, 0, true), (6, 0, true)], &["Take", "Take"]);
}

#[test]
fn parts_of_a_capture_agree_and_time_does_not_run_backwards() {
    let mut order = Order::new(Lsn::captured(4), Timestamp(5), 0);
    assert_eq!(order.admit(&part(5, 0, false)), Ok(Admission::Take));
    let mut other = part(5, 1, true);
    other.capture.root = RootNo(1);
    assert_eq!(order.admit(&other), Err(OrderError::Header { lsn: Lsn::captured(5), number: 1 }));
    let mut order = Order::new(Lsn::captured(4), Timestamp(6), 0);
    assert_eq!(order.admit(&part(5, 0, true)), Err(OrderError::Time { lsn: Lsn::captured(5) }));
}

type Heard = Arc<Mutex<Vec<Result<Progress, SessionError>>>>;

fn session(ingest: &Arc<MemoryIngest>) -> (IngestSession, Heard) {
    let heard = Heard::default();
    let own = Arc::clone(&heard);
    let observer = Arc::new(move |told: &Result<Progress, SessionError>| own.lock().push(told.clone()));
    (IngestSession::begin(Arc::clone(ingest) as Arc<dyn Ingest>, 1 << 20, observer), heard)
}

fn last(heard: &Heard) -> Progress {
    heard.lock().last().unwrap().clone().unwrap()
}

#[test]
fn progress_tells_what_is_durable_and_what_is_dealt_with() {
    for hides_parts in [false, true] {
        let ingest = MemoryIngest::new();
        ingest.with(|memory| memory.hides_parts = hides_parts);
        let (mut session, heard) = session(&ingest);
        session.submit(vec![encoded(1, 0, true), encoded(2, 0, false)]).unwrap();
        session.submit(vec![encoded(2, 1, false)]).unwrap();
        assert!(session.drain(Duration::from_secs(5)));
        let progress = last(&heard);
        assert_eq!(progress.journaled, Lsn::captured(1));
        // A journal that does not promise unfinished parts does not let the master forget them.
        assert_eq!(progress.durable_parts, if hides_parts { 0 } else { 3 });
        let bytes = encoded(1, 0, true).len() + encoded(2, 0, false).len() + encoded(2, 1, false).len();
        assert_eq!(progress.taken_bytes, bytes as u64);
        session.submit(vec![encoded(2, 2, true)]).unwrap();
        assert!(session.drain(Duration::from_secs(5)));
        assert_eq!((last(&heard).journaled, last(&heard).durable_parts), (Lsn::captured(2), 4));
    }
}

#[test]
fn duplicates_are_dropped_and_acknowledged() {
    let ingest = MemoryIngest::new();
    let (mut first, _) = session(&ingest);
    first.submit((1..=5).map(|lsn| encoded(lsn, 0, true)).collect::<Vec<_>>()).unwrap();
    assert!(first.drain(Duration::from_secs(5)));
    let (mut second, heard) = session(&ingest);
    second.submit((2..=4).map(|lsn| encoded(lsn, 0, true)).collect::<Vec<_>>()).unwrap();
    assert_eq!((last(&heard).journaled, last(&heard).durable_parts), (Lsn::captured(5), 3));
    second.submit((5..=6).map(|lsn| encoded(lsn, 0, true)).collect::<Vec<_>>()).unwrap();
    assert!(second.drain(Duration::from_secs(5)));
    assert_eq!((last(&heard).journaled, last(&heard).durable_parts), (Lsn::captured(6), 5));
    assert_eq!(ingest.with(|memory| memory.parts_taken), 6);
}

#[test]
fn what_is_missing_shows_also_where_a_capture_was_begun_again() {
    let ingest = MemoryIngest::new();
    let (mut session, _) = session(&ingest);
    let parts = |before, parts| Batch { before: Some(before), parts };
    session.submit(parts(0, vec![encoded(1, 0, true), encoded(2, 0, false)])).unwrap();
    // Part 0 of the second attempt is lost: its part 1 looks like what is next of the first one.
    let error = session.submit(parts(3, vec![encoded(2, 1, true)])).unwrap_err();
    assert_eq!(error.reason(), Reason::Unavailable);
    assert!(session.drain(Duration::from_secs(5)));
    assert_eq!(ingest.with(|memory| memory.parts_taken), 2);
}

#[test]
fn a_gap_ends_the_session_and_nothing_of_the_batch_is_taken() {
    let ingest = MemoryIngest::new();
    let (mut session, heard) = session(&ingest);
    let error = session.submit(vec![encoded(1, 0, true), encoded(3, 0, true)]).unwrap_err();
    assert_eq!(error.reason(), Reason::Protocol);
    assert!(heard.lock().last().unwrap().is_err());
    assert!(session.submit(vec![encoded(1, 0, true)]).is_err(), "a failed session takes nothing more");
    assert!(session.drain(Duration::from_secs(5)));
    assert_eq!(ingest.with(|memory| memory.parts_taken), 0);
    let (mut session, _) = self::session(&ingest);
    let error = session.submit(vec![Bytes::from_static(b"\xff\xff")]).unwrap_err();
    assert!(matches!(error, SessionError::Part(_)));
}

#[test]
fn a_refusal_of_the_journal_ends_the_session_and_the_next_goes_on() {
    let ingest = MemoryIngest::new();
    ingest.with(|memory| (memory.failures, memory.held) = (2, true));
    let (mut session, heard) = session(&ingest);
    session.submit(vec![encoded(1, 0, true)]).unwrap();
    session.submit(vec![encoded(2, 0, true)]).unwrap();
    ingest.with(|memory| memory.held = false);
    assert!(session.drain(Duration::from_secs(5)));
    let told = heard.lock().last().unwrap().clone();
    assert_eq!(told.unwrap_err().reason(), Reason::Journal);
    let (mut session, heard) = self::session(&ingest);
    assert_eq!(session.begun().journaled, Lsn::ZERO);
    session.submit(vec![encoded(1, 0, true), encoded(2, 0, true)]).unwrap();
    assert!(session.drain(Duration::from_secs(5)));
    assert_eq!(last(&heard).journaled, Lsn::captured(2));
}

/// What came twice is known at once, and stands behind what the journal refuses then.
#[test]
fn duplicates_behind_a_refusal_are_not_waited_for() {
    let ingest = MemoryIngest::new();
    ingest.with(|memory| (memory.failures, memory.held) = (1, true));
    let (mut session, heard) = session(&ingest);
    session.submit(vec![encoded(1, 0, true)]).unwrap();
    session.submit(vec![encoded(1, 0, true)]).unwrap();
    ingest.with(|memory| memory.held = false);
    assert!(session.drain(Duration::from_secs(5)), "the place is never free again");
    let told = heard.lock().last().unwrap().clone();
    assert_eq!(told.unwrap_err().reason(), Reason::Journal);
}

#[test]
fn bytes_in_flight_are_bounded() {
    let ingest = MemoryIngest::new();
    ingest.with(|memory| memory.held = true);
    let observer = Arc::new(|_: &Result<Progress, SessionError>| {});
    let mut session = IngestSession::begin(Arc::clone(&ingest) as Arc<dyn Ingest>, 100, observer);
    let in_flight = session.in_flight();
    let thread = std::thread::spawn(move || {
        for lsn in 1..=100 {
            session.submit(vec![encoded(lsn, 0, true)])?;
        }
        Ok::<(), SessionError>(())
    });
    std::thread::sleep(Duration::from_millis(100));
    let waiting = ingest.with(|memory| memory.queue.len());
    assert!((1..10).contains(&waiting), "{waiting}");
    assert!(!thread.is_finished());
    // A close lets the waiting thread go.
    in_flight.close();
    assert!(matches!(thread.join().unwrap(), Err(SessionError::Closed)));
    assert!(!in_flight.drain(Duration::from_millis(20)));
    ingest.with(|memory| memory.held = false);
    assert!(in_flight.drain(Duration::from_secs(5)));
}
