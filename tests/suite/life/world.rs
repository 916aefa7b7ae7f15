//! A replica that lives under faults, with all that must stay true of it, and what an owner does when something fails.
//!
//! The owner is as simple as one can be: what was not acknowledged is sent again, a batch that was not applied is applied
//! again or finished, and where the journal takes no more the replica is opened anew. That nothing else is ever needed
//! is what the tests show.

mod faults;
mod over_line;

use journal::journal::Placed;
use journal::log::{LogOptions, Part, ShippedSegment, verify};
use journal::record::{Control, RedoRecord};
use journal::retention::RetentionPolicy;
use journal::serialize::SerializeError;
use journal::tables::MemoryTables;
use journal::thin::Tiers;
use journal::{
    Capture, Class, Disk, ErrorKind, Event, JournalError, Lsn, Marker, Payload, RootNo, Tables, Timestamp,
};
use replication::apply::{self, ApplyError};
use restore::RestoreError;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tests::canonical::{Canonical, assert_equal, dump};
use tests::faulty_tables::{FaultyFactory, TableFaults};
use tests::lab::{Lab, SameTables, SetClock, copy_of};
use tests::line::{Line, Trouble};
use tests::model::{Generator, Options};
use tests::rng::Rng;
use tests::sim_disk::{Cut, SimDisk};
use tests::sim_tree::{DataChoice, Fate, SimTree};

const ROOT: RootNo = RootNo(0);
const START: i64 = 1_700_000_000_000_000_000;

/// How a replica ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// As it should.
    Stop,
    /// The process is killed; the kernel lives on.
    Kill,
    /// The power goes.
    Power(Cut),
}

/// How history is given up. What is left is told by [`World::is_promised`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GiveUp {
    /// Down to so many bytes.
    Bytes(u64),
    /// What is older than so many seconds.
    Age(u64),
    /// Points within it: all but these tiers, in seconds.
    Tiers(u64, u64),
}

pub struct World {
    pub disk: SimDisk,
    pub tree: Arc<SimTree>,
    tables: Arc<MemoryTables>,
    pub table_faults: TableFaults,
    lab: Option<Lab>,
    clock: Arc<SetClock>,
    pub rng: Rng,
    generator: Generator,
    /// All captures that were ever made, by their number.
    made: BTreeMap<u64, Capture>,
    /// What lies between the master and the replica; `None`: what is made is journaled at once.
    line: Option<Line>,
    /// All that is made arrives at once over the line.
    is_line_good: bool,
    /// The last capture that became durable on it.
    came: u64,
    /// Made, not acknowledged; without a line.
    unsent: Vec<Capture>,
    acknowledged: Lsn,
    /// Journaled, not applied.
    pending: Vec<Placed>,
    /// Being applied when something failed.
    unfinished: Vec<Placed>,
    /// What local points showed when they were reached.
    seen: BTreeMap<Lsn, Canonical>,
    /// The captured point a rewound replica returns to.
    home: Option<Lsn>,
    pins: BTreeMap<u64, Lsn>,
    bookmarks: BTreeMap<String, Lsn>,
    named: u64,
    /// No younger point was ever to be thinned out.
    thinned_upto: i64,
    /// The replica must be opened anew.
    down: bool,
    pub context: String,
    /// Errors that were met, by kind.
    pub met: BTreeMap<String, u64>,
}

fn segments() -> LogOptions {
    LogOptions { segment_bytes_max: 6 << 10, ..LogOptions::default() }
}

impl World {
    pub fn new(seed: u64, context: &str) -> World {
        let bytes = [60, 600, 6000][(seed % 3) as usize];
        let options = Options {
            names_max: 6,
            file_bytes_max: bytes,
            write_bytes_max: bytes,
            revive: false,
            steps_max: 3,
            ..Options::default()
        };
        World::with(seed, options, context)
    }

    /// One in which the same blocks are written over and over.
    pub fn of_blocks(seed: u64, context: &str) -> World {
        let block_bytes = [100, 400, 900][(seed % 3) as usize];
        let options = Options {
            names_max: 3,
            file_bytes_max: 3 * block_bytes,
            write_bytes_max: 2 * block_bytes,
            revive: false,
            steps_max: 2,
            block_bytes,
            ..Options::default()
        };
        World::with(seed, options, context)
    }

    fn with(seed: u64, options: Options, context: &str) -> World {
        World {
            disk: SimDisk::new(),
            tree: Arc::new(SimTree::new(1)),
            tables: Arc::default(),
            table_faults: TableFaults::default(),
            lab: None,
            clock: Arc::new(SetClock(START.into())),
            rng: Rng::new(seed ^ 0x11fe),
            generator: Generator::new(seed, options),
            made: BTreeMap::new(),
            line: None,
            is_line_good: true,
            came: 0,
            unsent: Vec::new(),
            acknowledged: Lsn::ZERO,
            pending: Vec::new(),
            unfinished: Vec::new(),
            seen: BTreeMap::new(),
            home: None,
            pins: BTreeMap::new(),
            bookmarks: BTreeMap::new(),
            named: 0,
            thinned_upto: 0,
            down: true,
            context: context.to_owned(),
            met: BTreeMap::new(),
        }
    }

    /// Something failed: it must say so in a way that its owner can act upon.
    fn trouble(&mut self, error: &JournalError) {
        self.note(&Trouble::from(error));
    }

    fn note(&mut self, trouble: &Trouble) {
        let Trouble { kind, names_it, text } = trouble;
        let known = matches!(kind, ErrorKind::Full | ErrorKind::Io | ErrorKind::Poisoned);
        assert!(known, "{}: {text}", self.context);
        assert!(names_it, "{}: {text} names nothing", self.context);
        *self.met.entry(format!("{kind:?}")).or_default() += 1;
        // A manifest of which it is not known whether it counts shuts the journal as well.
        self.down |= self.is_poisoned() || *kind == ErrorKind::Poisoned;
    }

    /// The plan of a rewind reads tables and tree, which may refuse.
    fn plan_failed(&mut self, error: &RestoreError) {
        match error {
            RestoreError::Journal { source, .. } => self.trouble(source),
            RestoreError::Names { source, .. } => match &**source {
                SerializeError::Before(source) => self.trouble(source),
                other => panic!("{}: {other:?}", self.context),
            },
            other => panic!("{}: {other:?}", self.context),
        }
    }

    fn run<R>(&mut self, step: impl FnOnce(&mut Lab) -> Result<R, JournalError>) -> Option<R> {
        match step(self.lab.as_mut()?) {
            Ok(result) => Some(result),
            Err(error) => {
                self.trouble(&error);
                None
            }
        }
    }

    /// Time passes, or is set back.
    pub fn pass(&mut self, seconds: i64) {
        self.clock.0.fetch_add(seconds * 1_000_000_000, Ordering::SeqCst);
    }

    /// New changes on the master.
    pub fn make(&mut self, count: u64) {
        for _ in 0..count {
            let mut capture = self.generator.next();
            if self.made.is_empty() {
                let (files, directories, bytes) = (0, 0, 0);
                let completed = Marker::SynchronizationCompleted { files, directories, bytes };
                capture.events.push(Event::Mark(completed));
            }
            capture.time = Timestamp(self.clock.0.load(Ordering::SeqCst));
            if self.line.is_some() {
                // As a spool does.
                let before = self.made.values().next_back().map_or(capture.time, |last| last.time);
                capture.time = capture.time.max(before);
            } else {
                self.unsent.push(capture.clone());
            }
            self.made.insert(capture.lsn.captured, capture);
        }
    }

    /// Sends what was not acknowledged.
    pub fn send(&mut self) -> bool {
        if self.line.is_some() {
            return self.settle_line();
        }
        let captures = self.unsent.clone();
        if self.down || captures.is_empty() {
            return !self.down;
        }
        let Some(placed) = self.run(|lab| lab.journal_them(&captures)) else { return false };
        self.acknowledged = captures.last().map_or(self.acknowledged, |last| last.lsn);
        self.unsent.clear();
        self.pending.extend(placed);
        true
    }

    /// Applies up to `most` captures of what is journaled, unless the replica is rewound.
    pub fn apply(&mut self, most: usize) -> bool {
        if self.down {
            return false;
        }
        if !self.unfinished.is_empty() {
            let batch = self.unfinished.clone();
            if self.run(|lab| lab.finish(&batch)).is_none() {
                return false;
            }
            self.unfinished.clear();
            self.reached();
        }
        if self.home.is_some() || self.pending.is_empty() {
            return true;
        }
        let batch: Vec<_> = self.pending[..most.min(self.pending.len())].to_vec();
        let done = self.carry(&batch);
        if done || !self.unfinished.is_empty() {
            self.pending.drain(..batch.len());
        }
        done
    }

    fn carry(&mut self, batch: &[Placed]) -> bool {
        let Some(lab) = self.lab.as_mut() else { return false };
        match lab.apply(batch) {
            Ok(()) => {
                self.reached();
                true
            }
            Err(ApplyError::Before(error)) => {
                self.trouble(&error);
                false
            }
            Err(ApplyError::Touching(error)) => {
                self.unfinished = batch.to_vec();
                self.trouble(&error);
                false
            }
        }
    }

    /// Remembers what a local point shows.
    fn reached(&mut self) {
        let Some(lab) = &self.lab else { return };
        let applied = lab.journal.applied();
        if applied.is_local()
            && let Ok(tree) = dump(&*self.tree, ROOT)
        {
            self.seen.insert(applied, tree);
        }
    }

    pub fn move_cursor(&mut self) -> bool {
        if self.down || !self.unfinished.is_empty() {
            return false;
        }
        let moved = self.run(|lab| lab.move_cursor()).is_some();
        // A tree that could not be synced may have lost what it was given.
        self.down |= !moved;
        moved
    }

    /// Makes the tree equal to a point, or to where it was before.
    pub fn rewind(&mut self, to: Option<Lsn>) -> bool {
        if self.down || !self.unfinished.is_empty() {
            return false;
        }
        let Some(lab) = &self.lab else { return false };
        let here = lab.journal.applied();
        let home = self.home.unwrap_or(Lsn::captured(here.captured));
        let to = to.unwrap_or(home);
        if self.is_promised(to).is_none() {
            return false;
        }
        let captures = match lab.try_captures_to(to) {
            Ok(captures) => captures,
            Err(error) => {
                self.plan_failed(&error);
                return false;
            }
        };
        if captures.is_empty() {
            self.home = self.home.filter(|_| to != home);
            return true;
        }
        let Some(placed) = self.run(|lab| lab.journal_them(&captures)) else { return false };
        self.home = Some(home);
        for some in placed.chunks(3) {
            if !self.carry(some) {
                // What is journaled and not begun is given up at the next opening.
                self.down = true;
                return false;
            }
        }
        if to == home {
            self.home = None;
        }
        true
    }

    /// The oldest point and the newest that were reached.
    fn window(&self) -> Option<(Lsn, Lsn)> {
        let lab = self.lab.as_ref()?;
        Some((lab.journal.window().0, lab.journal.applied()))
    }

    /// What a point must show, if it is promised.
    pub fn is_promised(&self, lsn: Lsn) -> Option<Canonical> {
        let (oldest, newest) = self.window()?;
        if lsn < oldest || lsn > newest || lsn.captured == 0 {
            return None;
        }
        if self.is_thinned(lsn) {
            return None;
        }
        match self.seen.get(&lsn) {
            Some(seen) => Some(seen.clone()),
            None if lsn.is_local() => None,
            None => Some(self.generator.model.canonical_at(lsn, ROOT)),
        }
    }

    /// A point that can be named.
    pub fn some_point(&mut self) -> Option<Lsn> {
        let (oldest, newest) = self.window()?;
        let (oldest, newest) = (oldest.captured.max(1), newest.captured);
        (oldest <= newest).then(|| Lsn::captured(oldest + self.rng.below(newest - oldest + 1)))
    }

    pub fn pin(&mut self) {
        if let Some(lsn) = self.some_point().filter(|lsn| !self.down && self.is_promised(*lsn).is_some()) {
            self.pin_at(lsn);
        }
    }

    fn pin_at(&mut self, lsn: Lsn) -> bool {
        let Some(pin) = self.run(|lab| lab.journal.pin(lsn, "test")) else { return false };
        self.pins.insert(pin, lsn);
        true
    }

    pub fn unpin(&mut self) -> bool {
        let Some(pin) = self.pins.keys().next().copied().filter(|_| !self.down) else { return !self.down };
        if self.run(|lab| lab.journal.control(Control::Unpinned { pin })).is_some() {
            self.pins.remove(&pin);
            return true;
        }
        // Whether it is durable is not known until the journal is opened anew.
        self.pins.remove(&pin);
        self.down = true;
        false
    }

    pub fn bookmark(&mut self) {
        if let Some(lsn) = self.some_point().filter(|lsn| !self.down && self.is_promised(*lsn).is_some()) {
            self.bookmark_at(lsn);
        }
    }

    fn bookmark_at(&mut self, lsn: Lsn) -> bool {
        let name = format!("mark-{}", self.named);
        self.named += 1;
        let time = Timestamp(self.clock.0.load(Ordering::SeqCst));
        if self.run(|lab| lab.journal.set_bookmark(&name, lsn, Class::Crash, false, time)).is_some() {
            self.bookmarks.insert(name, lsn);
            return true;
        }
        false
    }

    /// Gives up history that is not promised any more.
    pub fn give_up(&mut self, how: GiveUp) -> bool {
        if self.down || !self.unfinished.is_empty() {
            return false;
        }
        let now = Timestamp(self.clock.0.load(Ordering::SeqCst));
        let policy = match how {
            GiveUp::Tiers(every, minutes) => return self.thin(every, minutes, now),
            GiveUp::Bytes(bytes_max) => RetentionPolicy { keep: Duration::from_secs(1 << 33), bytes_max },
            GiveUp::Age(seconds) => {
                RetentionPolicy { keep: Duration::from_secs(seconds), bytes_max: u64::MAX }
            }
        };
        let mut unsynced = false;
        let pruned = self.run(|lab| {
            let retained = lab.journal.retain(policy, now)?;
            apply::prune(&lab.journal, &lab.tree, retained.horizon, || {
                lab.move_cursor().inspect_err(|_| unsynced = true)
            })
        });
        // A tree that could not be synced may have lost what it was given.
        self.down |= unsynced;
        pruned.is_some()
    }

    fn thin(&mut self, every: u64, minutes: u64, now: Timestamp) -> bool {
        let tiers = Tiers { every: Duration::from_secs(every), minutes: Duration::from_secs(minutes) };
        let most = 1 + self.rng.below(30 << 10);
        self.thinned_upto = self.thinned_upto.max(now.0 - every as i64 * 1_000_000_000);
        match self.run(|lab| lab.journal.thin(tiers, now, most)) {
            Some(thinned) => {
                *self.met.entry("points thinned out".to_owned()).or_default() += thinned.points;
                *self.met.entry("segments thinned".to_owned()).or_default() += thinned.segments;
                true
            }
            None => false,
        }
    }

    /// Whether a point was thinned out; if so that is told truly, and it may be.
    fn is_thinned(&self, lsn: Lsn) -> bool {
        let Some(lab) = &self.lab else { return false };
        let around = lab.journal.thinned_out(lsn);
        let Some((before, after)) = around.unwrap_or_else(|error| panic!("{}: {error:?}", self.context))
        else {
            return false;
        };
        let context = format!("{}: {lsn} thinned out between {before} and {after}", self.context);
        assert!(before < lsn && lsn < after, "{context}");
        let all = self.generator.model.lsns().into_iter().chain(self.seen.keys().copied());
        for other in all.filter(|other| before <= *other && *other <= after && other.captured > 0) {
            let gone = lab.journal.thinned_out(other).expect("it told of its neighbour");
            assert_eq!(gone.is_none(), other == before || other == after, "{context}: {other}");
        }
        assert!(!self.pins.values().any(|pin| *pin == lsn), "{context}, and it is pinned");
        assert!(!self.bookmarks.values().any(|named| *named == lsn), "{context}, and it has a name");
        assert!(self.home != Some(lsn) && lab.journal.applied() != lsn, "{context}, and the tree is there");
        let time = self.made.get(&lsn.captured).map_or(0, |capture| capture.time.0);
        assert!(lsn.is_local() || time <= self.thinned_upto, "{context}, and it is young");
        true
    }

    /// That nobody can name or hold what was thinned out.
    fn assert_refused(&self, lsn: Lsn) {
        let Some(lab) = &self.lab else { return };
        let refused = |result: Result<(), JournalError>| {
            assert!(
                matches!(result, Err(JournalError::Thinned { lsn: at, .. }) if at == lsn),
                "{}: {lsn} is thinned out, and not refused: {result:?}",
                self.context
            );
        };
        refused(lab.journal.check_window(lsn));
        refused(lab.journal.lease(lsn).map(drop));
        refused(lab.journal.pin(lsn, "test").map(drop));
        refused(lab.journal.set_bookmark("refused", lsn, Class::Crash, false, Timestamp(0)).map(drop));
    }

    /// Ends the replica, if it runs, and opens it again.
    pub fn restart(&mut self, end: End, keep_tables: bool) -> bool {
        // One that did not even open ends like one that ran: the next process finds the same.
        self.end_replica();
        self.tables = if keep_tables { copy_of(&self.tables) } else { Arc::default() };
        let pending = self.tree.pending();
        match end {
            // The tree stays as it is: its kernel lives on. One that could not sync is mounted anew.
            End::Stop | End::Kill => {
                self.disk = self.disk.crash(Cut::Everything, &mut self.rng);
                let kept = DataChoice::All(Fate::Kept);
                self.tree = Arc::new(self.tree.crash_at(pending.metadata, &kept));
            }
            End::Power(cut) => {
                self.disk = self.disk.crash(cut, &mut self.rng);
                self.tree = Arc::new(self.tree.crash(&mut self.rng));
            }
        }
        self.open()
    }

    /// Opens the replica; what is not known any more comes from its journal.
    pub fn open(&mut self) -> bool {
        let clock: Arc<SetClock> = Arc::clone(&self.clock);
        let (disk, tree, tables) = (self.disk.clone(), Arc::clone(&self.tree), Arc::clone(&self.tables));
        let behind = SameTables(Arc::clone(&tables));
        let factory = FaultyFactory { behind, faults: self.table_faults.clone() };
        match Lab::open_by(disk, tree, tables, &factory, segments(), clock) {
            Ok(lab) => self.lab = Some(lab),
            Err(error) => {
                self.trouble(&error);
                self.down = true;
                return false;
            }
        }
        let Some(lab) = &self.lab else { return false };
        let (journaled, applied) = (lab.journal.journaled(), lab.journal.applied());
        assert!(journaled >= self.acknowledged, "{}: {journaled} of {}", self.context, self.acknowledged);
        let read = lab.journal.captured(lab.journal.cursor_redo(), Lsn::captured(applied.captured), Lsn::MAX);
        match read.collect::<Result<Vec<_>, _>>() {
            Ok(pending) => self.pending = pending,
            Err(error) => {
                self.lab = None;
                self.trouble(&error);
                self.down = true;
                return false;
            }
        }
        (self.acknowledged, self.came) = (journaled, journaled.captured);
        match &mut self.line {
            Some(line) => line.replica_runs(&lab.journal),
            None => {
                let after = self.made.range(journaled.captured + 1..);
                self.unsent = after.map(|(_, capture)| capture.clone()).collect();
            }
        }
        self.unfinished.clear();
        self.home = applied.is_local().then_some(Lsn::captured(applied.captured));
        self.down = false;
        self.reached();
        true
    }

    /// Looks at everything that is promised; at each point, or at some.
    pub fn check(&mut self, all: bool) {
        if self.down || !self.unfinished.is_empty() {
            return;
        }
        let Some((oldest, newest)) = self.window() else { return };
        let mut points: Vec<Lsn> = self.generator.model.lsns();
        points.extend(self.seen.keys());
        points.retain(|lsn| *lsn >= oldest && *lsn <= newest);
        for lsn in points {
            if !all && lsn != newest && !self.rng.chance(1, 6) {
                continue;
            }
            if self.is_thinned(lsn) {
                self.assert_refused(lsn);
                continue;
            }
            let (Some(expected), Some(lab)) = (self.is_promised(lsn), &self.lab) else { continue };
            assert_equal(&expected, &lab.canonical(lsn), &format!("{}, view at {lsn}", self.context));
        }
        if let Some(expected) = self.is_promised(newest) {
            let found = dump(&*self.tree, ROOT).expect("dump");
            assert_equal(&expected, &found, &format!("{}, tree at {newest}", self.context));
        }
        let Some(lab) = &self.lab else { return };
        let controls = lab.journal.controls();
        for (pin, lsn) in &self.pins {
            assert!(
                controls.pins.contains_key(pin) && oldest <= *lsn,
                "{}: pin {pin} at {lsn}",
                self.context
            );
        }
        for (name, lsn) in &self.bookmarks {
            let found = controls.bookmarks.get(name).map(journal::controls::Bookmark::lsn);
            assert_eq!(found, Some(*lsn), "{}: {name}", self.context);
        }
    }

    /// Compares all there is with its checksums, and tables with segments.
    pub fn verify(&mut self) {
        let Some(lab) = self.lab.as_ref().filter(|_| !self.down && self.unfinished.is_empty()) else {
            return;
        };
        let report = lab.journal.set().verify(&mut |_| {}).expect("it reads");
        assert!(report.is_sound(), "{}: {report:?}", self.context);
        let offline = verify(&self.disk, Path::new("/j"), &mut |_| {}).expect("it reads");
        assert!(offline.is_sound(), "{}: {offline:?}", self.context);
        let scratch = || Ok::<_, JournalError>(Arc::new(MemoryTables::default()) as Arc<dyn Tables>);
        let tables = lab.journal.check_tables(&scratch, &mut |_| true);
        let tables = tables.unwrap_or_else(|error| panic!("{}: {error:?}", self.context)).expect("it ends");
        assert!(tables.is_sound(), "{}: {tables:?}", self.context);
    }

    /// Ships all of the redo stream and reads it back elsewhere: each captured change must be the one that was made.
    pub fn archive(&mut self) {
        if let Some(lab) = self.lab.as_ref().filter(|_| !self.down) {
            self.shipped(lab).unwrap_or_else(|error| panic!("{}: {error:?}", self.context));
        }
    }

    fn shipped(&self, lab: &Lab) -> Result<(), JournalError> {
        let (redo, elsewhere) = (lab.journal.redo(), SimDisk::new());
        elsewhere.create_dir_all(Path::new("/a")).expect("a directory");
        let (mut chain, mut newest, mut open) = (None, Lsn::ZERO, Vec::new());
        for segment in redo.segments() {
            let bytes = redo.read_raw(segment.number, 0, segment.bytes as usize)?;
            let path = Path::new("/a").join(segment.number.to_string());
            elsewhere.create(&path).and_then(|file| file.write_at(&bytes, 0)).expect("a copy");
            let id = lab.journal.id();
            let mut shipped =
                ShippedSegment::open(&elsewhere, &path, id, segment.number, chain).expect("open");
            while let Some(record) = shipped.next_record().expect("a record") {
                let Ok(RedoRecord::Part(part)) = RedoRecord::from_stored(&record) else { continue };
                if part.capture.lsn.is_local() {
                    continue;
                }
                let lsn = part.capture.lsn;
                let is_next = newest == Lsn::ZERO || lsn.captured == newest.captured + 1;
                assert!(is_next, "{}: archived {lsn} after {newest}", self.context);
                if self.gather_shipped(part, &shipped, &mut open) {
                    newest = lsn;
                }
            }
            chain = shipped.chain();
        }
        assert_eq!(newest, lab.journal.journaled(), "{}: the archive ends early", self.context);
        Ok(())
    }

    /// Compares a capture that is whole with what was made; whether it is.
    fn gather_shipped(&self, part: Part, shipped: &ShippedSegment, open: &mut Vec<Event>) -> bool {
        let Part { number, last, mut capture } = part;
        for event in &mut capture.events {
            if let Event::Write { data, .. } = event
                && let Payload::Stored(at) = data
            {
                *data = Payload::Inline(shipped.payload(*at).expect("a payload"));
            }
        }
        if number == 0 {
            open.clear();
        }
        open.append(&mut capture.events);
        if last {
            capture.events = std::mem::take(open);
            let made = &self.made[&capture.lsn.captured];
            // The window may begin within a capture.
            let whole = number == 0 || capture.events.len() == made.events.len();
            assert!(!whole || &capture == made, "{}: archived {}: {capture:?}", self.context, made.lsn);
        }
        last
    }

    /// Goes on after a fault was lifted, without anybody's help, until all that was made is applied.
    pub fn recover(&mut self, end: End, keep_tables: bool) {
        self.heal();
        // The writer may not have returned yet from telling of a failure, and refuses what comes meanwhile.
        for turn in 0..3000 {
            if turn > 5 {
                std::thread::yield_now();
            }
            if self.down && !self.restart(end, keep_tables) {
                continue;
            }
            let home = self.apply(0) && (self.home.is_none() || self.rewind(None));
            if home && self.send() && self.apply(usize::MAX) && self.move_cursor() {
                return;
            }
        }
        panic!("{}: it does not go on: {:?}", self.context, self.met);
    }

    /// All that was made is there and applied.
    pub fn assert_whole(&self) {
        let last = self.made.keys().next_back().copied().unwrap_or(0);
        let (_, newest) = self.window().expect("it runs");
        assert_eq!(newest.captured, last, "{}", self.context);
    }
}
