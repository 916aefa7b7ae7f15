//! Is the past exact where undo is kept as what differs, and redo packed?
//!
//! Pages of a table of text are changed in place, several captures a batch, overlapping within a capture, within a batch
//! and across batches, and now and then by bytes that do not pack. Every point reads as it was: at once, from tables made
//! anew, behind a restart, and behind retention as far as it promises. That undo was kept in all its ways is counted. When
//! a byte rots under a delta, on either side, points that need it say so, and no point reads otherwise than it was.

use crate::history::seeds;
use journal::dump::Range;
use journal::journal::Placed;
use journal::log::LogOptions;
use journal::{
    Attributes, Capture, Disk, Edge, Event, Kind, Lsn, Marker, Meta, Name, NodeId, Payload, Provenance,
    RootNo, Timestamp,
};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use tests::lab::Lab;
use tests::rng::Rng;
use tests::sim_disk::SimDisk;
use tests::sim_tree::SimTree;

const NODE: NodeId = NodeId::FIRST_FREE;
const PAGE: usize = 4096;
const PAGES: usize = 12;
const ROW: usize = 100;

/// A lab with one file, and what the file holds at each point.
struct World {
    lab: Lab,
    rng: Rng,
    bytes: Vec<u8>,
    points: BTreeMap<Lsn, Vec<u8>>,
}

/// So short that retention has something to give up.
fn segments() -> LogOptions {
    LogOptions { segment_bytes_max: 4 << 10, ..LogOptions::default() }
}

fn row(rng: &mut Rng) -> Vec<u8> {
    format!("invoice {:08} of customer {:08}; ", rng.below(99_999_999), rng.below(99_999_999))
        .into_bytes()
        .into_iter()
        .cycle()
        .take(ROW)
        .collect()
}

impl World {
    fn new(seed: u64) -> World {
        let mut rng = Rng::new(seed);
        let at = Edge::new(NodeId::root(RootNo(0)), Name::new(b"table").unwrap());
        let attributes = Attributes { mode: 0o644, uid: 0, gid: 0, mtime: Timestamp(1), ctime: Timestamp(1) };
        let meta = Meta { kind: Kind::File, size: 0, attributes, xattrs: Vec::new() };
        let create = Event::Create { node: NODE, at, meta, origin: None, parent_mtime: None };
        let completed = Marker::SynchronizationCompleted { files: 1, directories: 1, bytes: 0 };
        let lab = Lab::open_with(SimDisk::new(), Arc::new(SimTree::new(1)), Arc::default(), segments());
        let mut world = World { lab: lab.unwrap(), rng, bytes: Vec::new(), points: BTreeMap::new() };
        world.take(Provenance::Synchronization, vec![vec![create, Event::Mark(completed)]]);
        rng = world.rng.clone();
        let rows = (0..PAGES * PAGE / ROW).flat_map(|_| row(&mut rng)).collect::<Vec<u8>>();
        let first = world.write(0, rows);
        world.take(Provenance::Exact, vec![vec![first]]);
        world
    }

    fn write(&mut self, offset: usize, bytes: Vec<u8>) -> Event {
        let end = offset + bytes.len();
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        self.bytes[offset..end].copy_from_slice(&bytes);
        Event::Write { node: NODE, offset: offset as u64, data: Payload::Inline(bytes.into()), before: None }
    }

    /// One change: a row of a page, as a database writes it; two overlapping stretches; bytes that do not pack.
    fn change(&mut self) -> Vec<Event> {
        let page = self.rng.below(PAGES as u64 - 2) as usize * PAGE;
        let changed = |world: &mut World, pages: usize| {
            let mut bytes = world.bytes[page..page + pages * PAGE].to_vec();
            let row_at = world.rng.below((bytes.len() - ROW) as u64) as usize;
            let row = row(&mut world.rng);
            bytes[row_at..row_at + ROW].copy_from_slice(&row);
            bytes
        };
        match self.rng.below(8) {
            0 => {
                let bytes = self.rng.below(9000) as usize + 1;
                let noise = self.rng.bytes(bytes);
                vec![self.write(page + 17, noise)]
            }
            1 | 2 => {
                let first = changed(self, 2);
                let first = self.write(page, first);
                let second = self.bytes[page + 1000..page + 3000].to_ascii_uppercase();
                vec![first, self.write(page + 1000, second)]
            }
            _ => {
                let pages = 1 + self.rng.below(2) as usize;
                let bytes = changed(self, pages);
                vec![self.write(page, bytes)]
            }
        }
    }

    fn take(&mut self, provenance: Provenance, changes: Vec<Vec<Event>>) -> Vec<Placed> {
        let mut next = self.lab.journal.journaled();
        let captures: Vec<Capture> = changes
            .into_iter()
            .map(|events| {
                next = Lsn::captured(next.captured + 1);
                let time = Timestamp(next.captured as i64 * 1000);
                Capture { lsn: next, time, provenance, root: RootNo(0), path: b"table".to_vec(), events }
            })
            .collect();
        let placed = self.lab.journal_them(&captures).unwrap();
        self.lab.apply(&placed).unwrap_or_else(|error| panic!("{error:?}"));
        self.points.insert(next, self.bytes.clone());
        placed
    }

    /// A batch of changes, each a point.
    fn batch(&mut self) {
        let (mut changes, mut after) = (Vec::new(), Vec::new());
        for _ in 0..1 + self.rng.below(5) {
            changes.push(self.change());
            after.push(self.bytes.clone());
        }
        let before = self.lab.journal.journaled().captured;
        self.take(Provenance::Exact, changes);
        let lsns = (before + 1..).map(Lsn::captured);
        self.points.extend(lsns.zip(after));
    }

    /// How a point reads, whole and in pieces.
    fn read(&mut self, lsn: Lsn) -> Result<Vec<u8>, journal::JournalError> {
        let view = self.lab.view(lsn);
        let whole = view.open(NODE)?.read_all()?;
        let mut file = view.open(NODE)?;
        for _ in 0..3 {
            let from = self.rng.below(whole.len() as u64) as usize;
            let mut some = vec![0; 1 + self.rng.below(6000) as usize];
            let read = file.read_at(&mut some, from as u64)?;
            assert_eq!(some[..read], whole[from..(from + some.len()).min(whole.len())], "{lsn} from {from}");
        }
        Ok(whole)
    }

    fn exact(&mut self, context: &str) {
        let oldest = self.lab.journal.window().0;
        for (lsn, expected) in self.points.clone().range(oldest..) {
            let found = self.read(*lsn).unwrap_or_else(|error| panic!("{context}, {lsn}: {error:?}"));
            assert!(found == *expected, "{context}: {lsn} reads otherwise");
        }
    }

    /// How often undo was kept in which way, and payloads packed.
    fn ways(&self) -> BTreeMap<String, usize> {
        let mut ways = BTreeMap::new();
        let take = &mut |item: journal::dump::Item| {
            for (name, value) in &item.fields {
                match *name {
                    "source" => *ways.entry(format!("{value}")).or_default() += 1,
                    "data_packed_bytes" => *ways.entry(format!("packed {}", item.kind)).or_default() += 1,
                    _ => {}
                }
            }
            true
        };
        self.lab.journal.dump(Range::default(), take).unwrap();
        ways
    }

    fn reopened(self, without_tables: bool) -> World {
        let World { lab, rng, bytes, points } = self;
        lab.move_cursor().unwrap();
        let (disk, tree, tables) = lab.stop();
        let tables = if without_tables { Arc::default() } else { tables };
        let lab = Lab::open_with(disk, tree, tables, segments()).unwrap_or_else(|error| panic!("{error:?}"));
        World { lab, rng, bytes, points }
    }
}

#[test]
fn every_point_is_exact_where_undo_is_what_differs() {
    let (mut ways, mut moved) = (BTreeMap::<String, usize>::new(), 0);
    for seed in seeds(15) {
        let mut world = World::new(seed);
        for _ in 0..12 {
            world.batch();
        }
        let context = format!("seed {seed}");
        world.ways().into_iter().for_each(|(way, count)| *ways.entry(way).or_default() += count);
        world.exact(&context);
        world = world.reopened(true);
        world.exact(&format!("{context}, without tables"));
        world.batch();
        world = world.reopened(false);
        let (redo, undo) = (world.lab.journal.redo().segments(), world.lab.journal.undo().segments());
        let bytes = redo.iter().chain(&undo).map(|segment| segment.bytes).sum::<u64>();
        world.lab.retain(bytes * 2 / 3).unwrap();
        world.batch();
        world.exact(&format!("{context}, behind retention"));
        world = world.reopened(true);
        moved += usize::from(world.lab.journal.window().0 > Lsn::captured(2));
        world.exact(&format!("{context}, behind retention and without tables"));
    }
    // One seed alone may lack one.
    for way in ["\"delta\"", "\"redo\"", "\"undo\"", "packed write", "packed undo-bytes"] {
        assert!(ways.get(way).is_some_and(|count| *count > 10), "{way} in {ways:?}");
    }
    assert!(moved > 0, "retention gave nothing up");
}

/// Changes a byte in the middle of each stored payload of a kind; every point then reads as it was or not at all.
#[test]
fn a_rotten_half_of_a_delta_is_said_and_never_read() {
    let mut world = World::new(3);
    for _ in 0..6 {
        world.batch();
    }
    world.exact("before");
    let mut places = Vec::new();
    let take = &mut |item: journal::dump::Item| {
        let number = |name: &str| {
            let (_, value) = item.fields.iter().find(|(field, _)| *field == name)?;
            value.to_string().parse::<u64>().ok()
        };
        if item.fields.iter().any(|(name, value)| *name == "source" && value.to_string() == "\"delta\"") {
            let undo = (number("data_segment"), number("data_offset"), "undo");
            let redo = (number("redo_data_segment"), number("redo_data_offset"), "seg");
            places.extend([undo, redo]);
        }
        true
    };
    world.lab.journal.dump(Range::default(), take).unwrap();
    assert!(places.len() > 20);
    let mut refused = 0;
    for (segment, offset, suffix) in places {
        let path = Path::new("/j").join(format!("{:08}.{suffix}", segment.unwrap()));
        let at = offset.unwrap() + 20;
        let file = world.lab.disk.open(&path).unwrap();
        let mut byte = [0];
        file.read_at(&mut byte, at).unwrap();
        file.write_at(&[byte[0] ^ 0x10], at).unwrap();
        let mut said = 0;
        for (lsn, expected) in world.points.clone() {
            match world.read(lsn) {
                Ok(found) => assert!(found == expected, "{lsn} reads otherwise: {path:?} at {at}"),
                Err(error) => {
                    assert_eq!(error.kind(), journal::ErrorKind::Damaged, "{error:?}");
                    said += 1;
                }
            }
        }
        refused += usize::from(said > 0);
        file.write_at(&byte, at).unwrap();
    }
    assert!(refused > 10, "{refused}");
    world.exact("put right again");
}
