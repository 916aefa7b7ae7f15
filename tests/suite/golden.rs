//! Are journals that an earlier version wrote read as they were?
//!
//! `journal/tests/golden/vN` holds a small journal as version N of the format wrote it, with every kind of event and
//! record, sealed segments, a checkpoint and a dropped segment, and the dump it had then. Those files are never edited:
//! a later version opens them, finds them whole, makes tables of them, and dumps them alike. The journal of the present
//! version is written anew here, too, and must dump the same: so a change of what is written cannot go unseen.
//! `vN-thinned` is the same with a segment that was thinned, and a manifest that says so.
//! `REWIND_GOLDEN=DIRECTORY` writes them there, for the version after this one.

use crate::log_kit::{copy_into, crc};
use journal::check::TablesReport;
use journal::controls::Controls;
use journal::dump::Range;
use journal::journal::{Journal, TablesFactory};
use journal::log::{LogOptions, LogSet, RecordDraft, Stream, verify};
use journal::record::Control;
use journal::tables::MemoryTables;
use journal::thin::Tiers;
use journal::{
    Attributes, Capture, Class, Disk, Edge, Event, GapCause, JournalError, Kind, Lsn, Marker, Meta, Name,
    NodeId, Origin, Payload, Provenance, RootNo, SkippedWhat, Tables, Timestamp,
};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tests::lab::{Lab, SameTables, StillClock};
use tests::rng::Rng;
use tests::sim_disk::SimDisk;

const ROOT: RootNo = RootNo(0);

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("journal/tests/golden")
}

fn options() -> LogOptions {
    LogOptions { segment_bytes_max: 4 << 10, ..LogOptions::default() }
}

fn edge(parent: NodeId, name: &str) -> Edge {
    Edge::new(parent, Name::new(name.as_bytes()).unwrap())
}

fn meta(kind: Kind) -> Meta {
    let attributes =
        Attributes { mode: 0o640, uid: 1000, gid: 100, mtime: Timestamp(1_111), ctime: Timestamp(2_222) };
    Meta { kind, size: 0, attributes, xattrs: vec![(b"user.colour".to_vec(), b"red\xff".to_vec())] }
}

fn create(node: u64, at: Edge, kind: Kind) -> Event {
    let origin = Some(Origin { device: 7, inode: 100 + node, generation: 3, birth: -5 });
    Event::Create { node: NodeId(node), at, meta: meta(kind), origin, parent_mtime: Some(Timestamp(3_333)) }
}

fn write(node: u64, offset: u64, bytes: &[u8]) -> Event {
    Event::Write { node: NodeId(node), offset, data: Payload::Inline(bytes.to_vec().into()), before: None }
}

const FILE: u64 = NodeId::FIRST_FREE.0;
const DIRECTORY: u64 = FILE + 1;

/// The events of the journal, a capture each: every kind, and every kind of node and marker.
fn captures() -> Vec<(Provenance, Vec<Event>)> {
    let root = NodeId::root(ROOT);
    let (file, directory) = (NodeId(FILE), NodeId(DIRECTORY));
    let parent_mtime = Some(Timestamp(4_444));
    let external = Payload::External { hash: [9; 16], bytes: 4 };
    let marks = [
        Marker::GapOpened { gap: 5, root: ROOT, path: b"a".to_vec(), cause: GapCause::QueueOverflow },
        Marker::GapClosed { gap: 5 },
        Marker::Skipped { root: ROOT, path: b"no".to_vec(), what: SkippedWhat::Content, errno: 13 },
        Marker::Unskipped { root: ROOT, path: b"no".to_vec() },
        Marker::Barrier { cookie: 77, class: Class::Application },
    ];
    let first = [
        Event::Mark(Marker::SynchronizationStarted { first: true }),
        create(FILE, edge(root, "a"), Kind::File),
    ];
    let content = Event::Write { node: file, offset: 0, data: external, before: None };
    let completed = Marker::SynchronizationCompleted { files: 1, directories: 1, bytes: 4 };
    let rename = Event::Rename {
        node: file,
        from: edge(root, "a"),
        to: edge(directory, "b\u{e9}"),
        from_parent_mtime: parent_mtime,
        to_parent_mtime: None,
    };
    let changed = Attributes { mode: 0o600, ..meta(Kind::File).attributes };
    let kinds = [
        Kind::Symlink(b"a/\xfe".to_vec()),
        Kind::Fifo,
        Kind::Socket,
        Kind::CharDevice(259),
        Kind::BlockDevice(260),
    ];
    let others = kinds.into_iter().zip(DIRECTORY + 1..);
    vec![
        (Provenance::Synchronization, first.into_iter().chain([content]).collect()),
        (Provenance::Synchronization, vec![Event::Mark(completed)]),
        (Provenance::Exact, vec![create(DIRECTORY, edge(root, "d"), Kind::Directory)]),
        (Provenance::Derived, vec![write(FILE, 2, &[b'x'; 1500])]),
        (Provenance::Rescan, vec![write(FILE, 4096, &[b'y'; 1500]), write(FILE, 4100, b"again")]),
        (Provenance::Derived, vec![Event::Punch { node: file, offset: 0, bytes: 100 }]),
        (
            Provenance::Derived,
            vec![Event::Resize { node: file, size: 3000 }, Event::Resize { node: file, size: 9000 }],
        ),
        (Provenance::Derived, vec![Event::SetAttributes { node: file, attributes: changed }]),
        (
            Provenance::Derived,
            vec![Event::SetXattrs { node: file, xattrs: vec![(b"user.x".to_vec(), Vec::new())] }],
        ),
        (Provenance::Derived, vec![Event::Link { node: file, at: edge(root, "l"), parent_mtime }]),
        (Provenance::Derived, vec![rename]),
        (
            Provenance::Derived,
            others.map(|(kind, node)| create(node, edge(root, &format!("n{node}")), kind)).collect(),
        ),
        (Provenance::Derived, marks.map(Event::Mark).into()),
        (Provenance::Derived, vec![Event::Remove { node: file, at: edge(root, "l"), parent_mtime }]),
        (
            Provenance::Derived,
            vec![Event::Remove { node: file, at: edge(directory, "b\u{e9}"), parent_mtime: None }],
        ),
        (Provenance::Derived, vec![write(FILE, 0, &[b'z'; 9000]), write(FILE, 100, b"")]),
    ]
}

/// What comes after retention has dropped the undo of all these: each kind of undo.
fn later() -> Vec<(Provenance, Vec<Event>)> {
    let root = NodeId::root(ROOT);
    let node = NodeId(DIRECTORY + 20);
    let (from, to) = (edge(root, "new"), edge(NodeId(DIRECTORY), "old"));
    let rename =
        Event::Rename { node, from: from.clone(), to, from_parent_mtime: None, to_parent_mtime: None };
    let attributes = Attributes { uid: 7, ..meta(Kind::File).attributes };
    vec![
        (Provenance::Exact, vec![create(node.0, from, Kind::File), write(node.0, 0, &[b'u'; 600])]),
        (Provenance::Exact, vec![write(node.0, 100, &[b'v'; 50])]),
        (Provenance::Exact, vec![Event::Punch { node, offset: 0, bytes: 10 }, write(node.0, 700, b"end")]),
        (Provenance::Exact, vec![Event::SetAttributes { node, attributes }]),
        (Provenance::Exact, vec![rename]),
        (Provenance::Exact, vec![Event::Mark(Marker::Barrier { cookie: 78, class: Class::Crash })]),
    ]
}

/// What version 2 brought: payloads that are packed, undo that is a delta, undo that refers to a packed payload.
fn packed() -> Vec<(Provenance, Vec<Event>)> {
    let node = DIRECTORY + 20;
    let text: Vec<u8> = b"customer 4711, paid; ".iter().copied().cycle().take(6000).collect();
    let mut edited = text.clone();
    edited.iter_mut().skip(50).step_by(700).for_each(|byte| *byte = b'#');
    // Overlaps what the same capture has written: that is no delta.
    let overlapping = write(node, 3000, &[&text[..300], &[0xee; 40]].concat());
    vec![
        (Provenance::Exact, vec![write(node, 0, &text)]),
        (Provenance::Exact, vec![write(node, 0, &edited), overlapping]),
        (Provenance::Exact, vec![write(node, 4000, &text[4000..5000])]),
        // Applied together with the one before, whose redo its undo is.
        (Provenance::Exact, vec![write(node, 4100, &edited[..500])]),
    ]
}

/// What comes before the thinning: bytes that are replaced over and over.
fn replaced() -> Vec<(Provenance, Vec<Event>)> {
    let mut rng = Rng::new(0x7417);
    (0..24).map(|_| (Provenance::Exact, vec![write(DIRECTORY + 20, 0, &rng.bytes(400))])).collect()
}

/// Versions of the format, each with its last point.
fn versions() -> [(&'static str, Lsn); 4] {
    let first = captures().len() + later().len();
    let second = first + packed().len();
    let captured = |number: usize| Lsn::captured(number as u64);
    [
        ("v1", captured(first)),
        ("v2", captured(second)),
        ("v2-thinned", captured(second + replaced().len())),
        ("v2-undone", Lsn::local(second as u64 + 2, 1)),
    ]
}

/// Every kind of control record but those that retention and opening write themselves.
fn controls() -> Vec<Control> {
    let name = || "before lunch".to_owned();
    let mark = |name, automatic| Control::BookmarkSet {
        name,
        captured: 9,
        local: 0,
        class: Class::Crash,
        automatic,
        time: Timestamp(12_345),
    };
    vec![
        mark(name(), false),
        mark("automatic".to_owned(), true),
        Control::BookmarkDeleted { name: name() },
        Control::Pinned { pin: 0, captured: 9, local: 0, why: "backup".to_owned() },
        Control::Unpinned { pin: 0 },
        Control::Detached { why: "rewind".to_owned() },
        Control::Attached,
        Control::Drift { object: "#9".to_owned(), what: "its size".to_owned(), time: Timestamp(6) },
        Control::DriftCleared,
        Control::Server { kind: 3, body: vec![1, 2, 3] },
        Control::LocalsDropped { captured: 500, after: 1, upto: 2 },
        Control::BytesLost { first: 400, last: 401 },
        Control::Met { meeting: [1; 16], before: [2; 16] },
    ]
}

/// The journal of the present version, written anew.
fn written() -> Lab {
    let mut lab =
        Lab::open_with(SimDisk::new(), Arc::new(tests::sim_tree::SimTree::new(1)), Arc::default(), options())
            .expect("a new journal opens");
    let before = captures();
    let retained = before.len() as u64;
    let all = versions()[1].1.captured;
    let mut together = Vec::new();
    for (number, (provenance, events)) in (1_u64..).zip(before.into_iter().chain(later()).chain(packed())) {
        let (lsn, time) = (Lsn::captured(number), Timestamp(number as i64 * 1_000_000_000));
        let capture = Capture { lsn, time, provenance, root: ROOT, path: b"some/path".to_vec(), events };
        together.push(capture);
        if number == all - 1 {
            continue;
        }
        let placed = lab.journal_them(&std::mem::take(&mut together)).expect("journal");
        lab.apply(&placed).unwrap_or_else(|error| panic!("{number}: {error:?}"));
        if number % 5 == 0 {
            lab.move_cursor().expect("cursor");
        }
        if number == retained {
            controls().into_iter().for_each(|control| lab.journal.control(control).expect("control"));
            lab.move_cursor().expect("cursor");
            lab.retain(12 << 10).expect("retention");
        }
    }
    lab.move_cursor().expect("cursor");
    lab
}

/// The same, with more behind it, and thinned.
fn thinned() -> Lab {
    let mut lab = written();
    let before = versions()[1].1.captured;
    for (number, (provenance, events)) in (before + 1..).zip(replaced()) {
        let (lsn, time) = (Lsn::captured(number), Timestamp(number as i64 * 1_000_000_000));
        let capture = Capture { lsn, time, provenance, root: ROOT, path: b"some/path".to_vec(), events };
        let placed = lab.journal_them(&[capture]).expect("journal");
        lab.apply(&placed).unwrap_or_else(|error| panic!("{number}: {error:?}"));
        lab.move_cursor().expect("cursor");
        if number == before + 8 {
            let set = lab.journal.set_bookmark("stays", lsn, Class::Crash, false, Timestamp(12_345));
            set.expect("a bookmark");
        }
    }
    let tiers = Tiers { every: Duration::ZERO, minutes: Duration::ZERO };
    let thinned = lab.journal.thin(tiers, Timestamp(1 << 62), u64::MAX).expect("thin");
    assert!(thinned.segments > 1 && thinned.points > 4, "{thinned:?}");
    lab
}

/// The same, with a local change that puts back undo.
fn undone() -> Lab {
    let mut lab = written();
    let (mut rng, node) = (Rng::new(0x0d0e), DIRECTORY + 20);
    let before = versions()[1].1.captured;
    let go_on = |lab: &mut Lab, lsn: Lsn, provenance, event| {
        let (time, path) = (Timestamp(lsn.captured as i64 * 1_000_000_000), b"some/path".to_vec());
        let capture = Capture { lsn, time, provenance, root: ROOT, path, events: vec![event] };
        let placed = lab.journal_them(&[capture]).expect("journal");
        lab.apply(&placed).unwrap_or_else(|error| panic!("{lsn}: {error:?}"));
        lab.move_cursor().expect("cursor");
    };
    for number in [before + 1, before + 2] {
        go_on(&mut lab, Lsn::captured(number), Provenance::Exact, write(node, 0, &rng.bytes(500)));
    }
    let then = lab.view(Lsn::captured(before + 1));
    let pieces = then.open(NodeId(node)).expect("open").undo_pieces(100..400).expect("undo");
    let (at, skip) = pieces.expect("undo has them all")[0].from.expect("in one payload");
    drop(then);
    let data = Payload::Undone { at, skip, bytes: 300, known: None };
    let event = Event::Write { node: NodeId(node), offset: 100, data, before: None };
    go_on(&mut lab, Lsn::local(before + 2, 1), Provenance::Local, event);
    lab
}

/// Points of the golden journal that was thinned which are no points any more.
const THINNED_OUT: [u64; 23] =
    [17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 30, 31, 32, 35, 36, 37, 40, 41, 42, 45, 46, 47];

fn dump(journal: &Journal) -> String {
    let mut text = String::new();
    let take = &mut |item: journal::dump::Item| {
        text.push_str(&format!("{item}\n"));
        true
    };
    journal.dump(Range::default(), take).expect("dump");
    text
}

fn open(disk: &SimDisk) -> Result<Arc<Journal>, JournalError> {
    let factory = SameTables(Arc::default());
    assert!(factory.tables(true).is_ok());
    let shared = Arc::new(disk.clone());
    Ok(Journal::open(shared, Path::new("/j"), options(), &factory, Arc::new(StillClock))?.journal)
}

fn compared(journal: &Arc<Journal>) -> TablesReport {
    let scratch = || Ok::<_, JournalError>(Arc::new(MemoryTables::default()) as Arc<dyn Tables>);
    journal.check_tables(&scratch, &mut |_| true).expect("the segments read").expect("it came to its end")
}

/// Names and bytes of the files of a journal.
fn files(disk: &SimDisk) -> Vec<(PathBuf, Vec<u8>)> {
    let paths = disk.paths().into_iter().filter(|path| path.starts_with("/j") && !path.ends_with("lock"));
    paths.map(|path| (path.file_name().unwrap().into(), disk.contents(&path).unwrap())).collect()
}

/// A line of a dump without the places: idle writers note how far they are durable, which moves what follows. Nor does
/// it matter how well zstd packs.
fn anywhere(line: &str) -> Vec<&str> {
    let places = [
        "data_segment=",
        "data_offset=",
        "data_packed_bytes=",
        "redo_segment=",
        "redo_offset=",
        "redo_data_",
    ];
    let words = line.split(' ').enumerate().filter(|(number, _)| *number != 1).map(|(_, word)| word);
    words.filter(|word| places.iter().all(|place| !word.starts_with(place))).collect()
}

#[test]
fn what_is_written_now_is_what_the_present_version_writes() {
    for (name, lab) in [("v2", written()), ("v2-thinned", thinned()), ("v2-undone", undone())] {
        let text = dump(&lab.journal);
        assert!(compared(&lab.journal).is_sound());
        let (disk, ..) = lab.stop();
        if let Some(directory) = std::env::var_os("REWIND_GOLDEN").map(PathBuf::from) {
            let directory = directory.join(name);
            std::fs::create_dir_all(&directory).unwrap();
            files(&disk)
                .into_iter()
                .for_each(|(name, bytes)| std::fs::write(directory.join(name), bytes).unwrap());
            std::fs::write(directory.join("dump.txt"), &text).unwrap();
            continue;
        }
        let expected = std::fs::read_to_string(golden().join(name).join("dump.txt")).unwrap();
        for (found, expected) in text.lines().zip(expected.lines()) {
            assert_eq!(anywhere(found), anywhere(expected), "{name}");
        }
        assert_eq!(text.lines().count(), expected.lines().count(), "{name}");
    }
}

/// What was given up with a segment is told by the file that stands for it.
#[test]
fn what_was_thinned_out_stays_so() {
    let disk = SimDisk::new();
    copy_into(&disk, &golden().join("v2-thinned"));
    let journal = open(&disk).unwrap();
    let (oldest, newest) = journal.window();
    let all = (oldest.captured..=newest.captured).map(Lsn::captured);
    let gone: Vec<u64> = all
        .clone()
        .filter(|lsn| journal.thinned_out(*lsn).unwrap().is_some())
        .map(|lsn| lsn.captured)
        .collect();
    assert_eq!(gone, THINNED_OUT);
    for lsn in all {
        assert_eq!(journal.lease(lsn).is_ok(), !gone.contains(&lsn.captured), "{lsn}");
    }
    let so_far = journal.thinned_so_far().unwrap();
    assert_eq!(so_far.points, gone.len() as u64);
    assert!(so_far.bytes > 0);
    // Its manifest is of the version that came with it; who knows only the one before refuses it.
    assert_eq!(disk.contents(Path::new("/j/manifest")).unwrap()[8], 2);
}

#[test]
fn journals_of_every_version_are_read_alike() {
    assert_eq!(std::fs::read_dir(golden()).unwrap().count(), versions().len(), "a version is unread");
    for (version, last) in versions() {
        let directory = golden().join(version);
        let disk = SimDisk::new();
        copy_into(&disk, &directory);
        let report = verify(&disk, Path::new("/j"), &mut |_| {}).unwrap();
        assert!(report.is_sound() && report.records > 0, "{directory:?}: {report:?}");
        let journal = open(&disk).unwrap_or_else(|error| panic!("{directory:?}: {error:?}"));
        assert!(journal.set().verify(&mut |_| {}).unwrap().is_sound());
        let tables = compared(&journal);
        assert!(tables.is_sound() && tables.rows > 0, "{directory:?}: {tables:?}");
        assert_eq!(
            dump(&journal),
            std::fs::read_to_string(directory.join("dump.txt")).unwrap(),
            "{directory:?}"
        );
        let (oldest, newest) = journal.window();
        assert!(oldest > Lsn::captured(2) && newest == last);
        assert_eq!(journal.with_controls(Controls::horizon), oldest);
    }
}

/// The live segment of an older journal is written on in its version; the next one is of the present version.
#[test]
fn an_older_journal_goes_on() {
    let disk = SimDisk::new();
    copy_into(&disk, &golden().join("v1"));
    let set = || LogSet::open(Arc::new(disk.clone()), Path::new("/j"), LogOptions::default()).unwrap();
    let text = bytes::Bytes::from(vec![b'x'; 3000]);
    let draft = RecordDraft { kind: 9, payloads: vec![text.clone()], ..RecordDraft::default() };
    let mut places = Vec::new();
    for stream in Stream::ALL {
        let set = set();
        let log = set.log(stream);
        let whole = log.append(&draft).unwrap().payloads[0];
        log.seal().unwrap();
        let packed = log.append(&draft).unwrap().payloads[0];
        log.commit().unwrap();
        assert_eq!((whole.packed, whole.bytes, packed.bytes), (None, 3000, 3000));
        assert!(packed.stored_bytes() < 100 && packed.segment == whole.segment + 1);
        places.extend([(stream, whole), (stream, packed)]);
    }
    assert!(set().verify(&mut |_| {}).unwrap().is_sound());
    for (stream, at) in places {
        assert_eq!(set().log(stream).read_payload(at).unwrap(), text);
    }
}

#[test]
fn every_kind_of_record_is_in_it() {
    let text = std::fs::read_to_string(golden().join("v2/dump.txt")).unwrap();
    let kinds: BTreeSet<&str> = text.lines().map(|line| line.split(' ').nth(4).unwrap()).collect();
    let expected = [
        "applied",
        "attached",
        "attributes",
        "barrier",
        "bookmark-deleted",
        "bookmark-set",
        "bytes-lost",
        "create",
        "detached",
        "drift",
        "drift-cleared",
        "gap-closed",
        "gap-opened",
        "horizon",
        "link",
        "locals-dropped",
        "met",
        "pinned",
        "punch",
        "remove",
        "rename",
        "resize",
        "server",
        "skipped",
        "synchronization-completed",
        "synchronization-started",
        "undo-bytes",
        "undo-name",
        "undo-node",
        "undo-nothing",
        "unpinned",
        "unskipped",
        "write",
        "xattrs",
    ];
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), expected);
}

/// The same journal, one of whose files says that a later version wrote it, with the checksum that goes with it.
fn of_version(name: &str, (at, version): (usize, u8), sum_at: usize, sum: impl Fn(&[u8]) -> u32) -> SimDisk {
    let disk = SimDisk::new();
    copy_into(&disk, &golden().join("v2"));
    let path = Path::new("/j").join(name);
    let mut bytes = disk.contents(&path).unwrap();
    bytes[at] = version;
    let sum = sum(&bytes).to_le_bytes();
    bytes[sum_at..sum_at + 4].copy_from_slice(&sum);
    disk.open(&path).unwrap().write_at(&bytes, 0).unwrap();
    disk
}

#[test]
fn a_newer_version_is_refused_and_not_repaired() {
    let manifest = of_version("manifest", (8, 3), 20, |bytes| crc(&[&bytes[..20], &bytes[24..]].concat()));
    let segments = files(&manifest).into_iter().map(|(name, _)| name.display().to_string());
    let live = segments.filter(|name| name.ends_with(".seg")).max().unwrap();
    let segment = of_version(&live, (8, 3), 124, |bytes| crc(&bytes[..124]));
    for (disk, what, newer) in [(manifest, "manifest", 3), (segment, "segment", 3)] {
        let before = files(&disk);
        match open(&disk).map(drop) {
            Err(JournalError::NewerVersion { version, .. }) if version == newer => {}
            other => panic!("{what}: {other:?}"),
        }
        assert_eq!(files(&disk), before, "{what}: it was changed");
    }
}
