//! After a power cut at any moment: is everything acknowledged there, and nothing half?

use crate::log_kit::{DIRECTORY, draft, open, read_all, seeds, small};
use journal::JournalError;
use journal::log::{LogOptions, LogSet, RecordAt, Retire, Stream, verify};
use std::path::Path;
use tests::rng::Rng;
use tests::sim_disk::{Cut, SimDisk};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Add(Stream),
    Commit(Stream),
    Seal(Stream),
    NoteDurable(Stream),
    Rollback(Stream),
    Retire,
    Reopen,
}

/// What is known of one stream from outside.
#[derive(Clone, Debug, Default)]
struct Known {
    /// Records appended and not dropped by us, with the segment they went to.
    issued: Vec<(u64, u64)>,
    /// How many of them a commit that returned covers.
    acknowledged: usize,
    /// Lengths of `issued` at which a commit was tried.
    boundaries: Vec<usize>,
    /// Position the last commit gave.
    durable: RecordAt,
    /// Segments in front of the first number are gone, in front of the second perhaps.
    retired: (u64, u64),
}

impl Known {
    fn commits(&mut self) {
        self.boundaries.push(self.issued.len());
    }

    fn committed(&mut self, durable: RecordAt) {
        self.acknowledged = self.issued.len();
        self.durable = durable;
    }

    /// Whether `found` may be what is left after a cut.
    fn allows(&self, found: &[u64]) -> bool {
        [self.retired.0, self.retired.1].into_iter().any(|segment| {
            let start = self.issued.iter().take_while(|(_, at)| *at < segment).count();
            self.boundaries.iter().any(|end| {
                let part = self.issued.get(start..*end).unwrap_or_default();
                *end >= self.acknowledged && part.iter().map(|(n, _)| n).eq(found)
            })
        })
    }
}

struct Run {
    disk: SimDisk,
    set: Option<LogSet>,
    next: u64,
    known: [Known; 2],
}

fn index(stream: Stream) -> usize {
    usize::from(stream == Stream::Undo)
}

impl Run {
    fn new(disk: SimDisk) -> Self {
        let mut known = [Known::default(), Known::default()];
        known.iter_mut().for_each(|known| known.boundaries.push(0));
        Run { disk, set: None, next: 1, known }
    }

    fn set(&self) -> &LogSet {
        self.set.as_ref().unwrap()
    }

    fn open(&mut self) -> Result<(), JournalError> {
        self.set = None;
        let [redo, undo] = &self.known;
        let options =
            LogOptions { durable_hint: Some(redo.durable), undo_durable_hint: Some(undo.durable), ..small() };
        self.set = Some(open(&self.disk, options)?);
        for known in &mut self.known {
            known.issued.truncate(known.acknowledged);
            known.boundaries.retain(|end| *end <= known.acknowledged);
        }
        Ok(())
    }

    fn apply(&mut self, op: Op) -> Result<(), JournalError> {
        match op {
            Op::Reopen => self.open(),
            Op::Add(stream) => {
                let n = self.next;
                self.next += 1;
                let at = self.set().log(stream).append(&draft(stream, n))?.at;
                self.known[index(stream)].issued.push((n, at.segment));
                Ok(())
            }
            Op::Commit(stream) => {
                self.known[index(stream)].commits();
                let durable = self.set().log(stream).commit()?;
                self.known[index(stream)].committed(durable);
                Ok(())
            }
            Op::Seal(stream) => {
                self.known[index(stream)].commits();
                self.set().log(stream).seal()?;
                let end = self.set().log(stream).end();
                self.known[index(stream)].committed(end);
                Ok(())
            }
            Op::NoteDurable(stream) => self.set().log(stream).note_durable(),
            Op::Rollback(stream) => {
                self.set().log(stream).rollback()?;
                let known = &mut self.known[index(stream)];
                known.issued.truncate(known.acknowledged);
                known.boundaries.retain(|end| *end <= known.acknowledged);
                Ok(())
            }
            Op::Retire => {
                let before = Stream::ALL.map(|stream| self.set().log(stream).end().segment);
                for (known, segment) in self.known.iter_mut().zip(before) {
                    known.retired.1 = segment;
                }
                let note = Some(self.next.to_le_bytes().to_vec());
                let [redo_before, undo_before] = before;
                self.set().retire(Retire { redo_before, undo_before, note, files: None })?;
                for (known, segment) in self.known.iter_mut().zip(before) {
                    known.retired.0 = segment;
                }
                Ok(())
            }
        }
    }

    /// All of a script, or as much as the power lasts.
    fn all(&mut self, script: &[Op]) -> Result<(), JournalError> {
        self.open()?;
        script.iter().try_for_each(|op| self.apply(*op))
    }
}

/// Opens what a cut has left and compares it with what is known; then goes on with it, to see that it can.
fn check_after_cut(run: &Run, disk: SimDisk, context: &str) {
    match verify(&disk, Path::new(DIRECTORY), &mut |_| {}) {
        Ok(report) => assert!(report.is_sound(), "{context}: {report:?}"),
        Err(JournalError::NotFound { .. } | JournalError::File { .. }) => {
            assert!(run.known.iter().all(|known| known.acknowledged == 0), "{context}: the journal is gone");
        }
        Err(error) => panic!("{context}: {error}"),
    }
    let mut after = Run { disk, set: None, next: 1_000_000, known: run.known.clone() };
    after.open().unwrap_or_else(|error| panic!("{context}: {error} in {:#?}", after.known));
    for stream in Stream::ALL {
        let found = read_all(after.set().log(stream));
        let known = &run.known[index(stream)];
        assert!(known.allows(&found), "{context}: {stream:?} holds {found:?}, known is {known:?}");
        let n = after.next;
        after.set().log(stream).append(&draft(stream, n)).unwrap();
        after.set().log(stream).commit().unwrap();
        let disk = after.disk.crash(Cut::Nothing, &mut Rng::new(0));
        let again = open(&disk, small()).unwrap();
        let expected: Vec<u64> = found.into_iter().chain([n]).collect();
        assert_eq!(read_all(again.log(stream)), expected, "{context}: a second cut");
    }
}

/// Cuts the power after every operation of a script, in each way.
fn check_script(script: &[Op], cuts: &[(Cut, u64)]) -> u64 {
    let mut whole = Run::new(SimDisk::new());
    whole.all(script).unwrap();
    let operations = whole.disk.operations();
    let mut cases = 0;
    for last in 0..=operations {
        let disk = SimDisk::new();
        disk.stop_after(last);
        let mut run = Run::new(disk);
        let outcome = run.all(script);
        assert!(outcome.is_err() || last == operations, "{script:?} finished after {last} operations");
        for (cut, seed) in cuts {
            let mut rng = Rng::new(seed ^ (last << 32));
            let left = run.disk.crash(*cut, &mut rng);
            check_after_cut(&run, left, &format!("{script:?}, power cut after {last}, {cut:?}, seed {seed}"));
            cases += 1;
        }
    }
    cases
}

const REDO: [Op; 6] = [
    Op::Add(Stream::Redo),
    Op::Commit(Stream::Redo),
    Op::Seal(Stream::Redo),
    Op::NoteDurable(Stream::Redo),
    Op::Rollback(Stream::Redo),
    Op::Reopen,
];

/// Every script of up to three operations behind one committed record.
#[test]
fn every_short_script_survives_a_cut_after_every_operation() {
    let cuts = [(Cut::Nothing, 0), (Cut::Everything, 0), (Cut::Part, 1), (Cut::Part, 2)];
    let mut scripts: Vec<Vec<Op>> = vec![vec![Op::Add(Stream::Redo), Op::Commit(Stream::Redo)]];
    let mut cases = 0;
    for _ in 0..3 {
        scripts =
            scripts.iter().flat_map(|script| REDO.map(|op| [script.as_slice(), &[op]].concat())).collect();
        cases += scripts.iter().map(|script| check_script(script, &cuts)).sum::<u64>();
    }
    println!("{cases} power cuts");
}

/// Batches, sealing, retirement, idle notes: the ways in which the files change, one after the other.
#[test]
fn a_life_survives_a_cut_after_every_operation() {
    use Op::{Add, Commit, NoteDurable, Reopen, Retire, Rollback, Seal};
    let (r, u) = (Stream::Redo, Stream::Undo);
    let script = [
        Add(r),
        Add(r),
        Commit(r),
        Add(u),
        Commit(u),
        NoteDurable(r),
        Add(r),
        Add(r),
        Add(r),
        Commit(r),
        Seal(r),
        Add(r),
        Seal(u),
        Commit(r),
        Retire,
        Add(u),
        Add(r),
        Rollback(r),
        Add(r),
        Commit(r),
        Reopen,
        Add(r),
        Add(r),
        Seal(r),
        Commit(u),
        Retire,
        Add(r),
        Commit(r),
        NoteDurable(r),
        NoteDurable(u),
    ];
    let cuts: Vec<(Cut, u64)> = [(Cut::Nothing, 0), (Cut::Everything, 0)]
        .into_iter()
        .chain(seeds(12).map(|seed| (Cut::Part, seed)))
        .collect();
    println!("{} power cuts", check_script(&script, &cuts));
}

/// The commit frame of the last batch may be whole while any payload of the batch, on another page, is not.
#[test]
fn a_whole_commit_frame_does_not_excuse_a_torn_payload() {
    let batch = [2, 3, 4, 6, 7, 8];
    let life = |disk: &SimDisk| {
        let set = open(disk, LogOptions { segment_bytes_max: 1 << 20, ..small() })?;
        let log = set.log(Stream::Redo);
        log.append(&draft(Stream::Redo, 1))?;
        log.commit()?;
        let places = batch.map(|n| log.append(&draft(Stream::Redo, n)).unwrap().payloads);
        // The power goes in front of the sync, so all of the batch is written and nothing proves it.
        disk.stop_after(disk.operations() + 1);
        log.commit().unwrap_err();
        Ok::<_, JournalError>(places.concat())
    };
    let disk = SimDisk::new();
    let payloads = life(&disk).unwrap();
    let whole = disk.crash(Cut::Everything, &mut Rng::new(0));
    assert_eq!(read_all(open(&whole, small()).unwrap().log(Stream::Redo)).len(), 7);
    for at in payloads.iter().filter(|at| at.bytes > 0) {
        let torn = disk.crash(Cut::Everything, &mut Rng::new(0));
        let path = Path::new(DIRECTORY).join("00000001.seg");
        torn.damage(&path, |bytes| bytes[at.offset as usize..][..at.bytes as usize].fill(0));
        let report = verify(&torn, Path::new(DIRECTORY), &mut |_| {}).unwrap();
        assert!(report.is_sound() && report.tail_bytes > 0, "{report:?}");
        assert_eq!(read_all(open(&torn, small()).unwrap().log(Stream::Redo)), [1], "{at:?}");
    }
}

/// Long random lives with cuts in random places, the survivor living on.
#[test]
fn random_lives_survive_several_cuts() {
    for seed in seeds(60) {
        println!("seed {seed}");
        let mut rng = Rng::new(seed);
        let mut run = Run::new(SimDisk::new());
        for _ in 0..4 {
            let power = run.disk.operations() + 5 + rng.below(120);
            run.disk.stop_after(power);
            let mut alive = run.open().is_ok();
            while alive {
                let stream = if rng.chance(2, 3) { Stream::Redo } else { Stream::Undo };
                let op = match rng.below(20) {
                    0..=9 => Op::Add(stream),
                    10..=14 => Op::Commit(stream),
                    15 => Op::Seal(stream),
                    16 => Op::NoteDurable(stream),
                    17 => Op::Rollback(stream),
                    18 => Op::Retire,
                    _ => Op::Reopen,
                };
                alive = run.apply(op).is_ok();
            }
            run.set = None;
            let cut = *rng.pick(&Cut::ALL).unwrap();
            let left = run.disk.crash(cut, &mut rng);
            let copy = left.crash(Cut::Nothing, &mut rng);
            check_after_cut(&run, copy, &format!("seed {seed}, {cut:?}"));
            // What was found counts from now on.
            let set = open(&left, small()).unwrap();
            for stream in Stream::ALL {
                let log = set.log(stream);
                let known = &mut run.known[index(stream)];
                let records: Vec<_> = log.read(log.first()).map(Result::unwrap).collect();
                let numbers = read_all(log);
                known.issued = numbers.into_iter().zip(records.iter().map(|one| one.at.segment)).collect();
                known.acknowledged = known.issued.len();
                known.boundaries = vec![known.issued.len()];
                known.durable = log.end();
                known.retired = (0, 0);
            }
            drop(set);
            run = Run { disk: left, set: None, next: run.next, known: run.known };
        }
    }
}
