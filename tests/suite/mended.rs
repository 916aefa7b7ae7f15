//! What does a loss of power leave of names that a scrub has put right, wherever in it or after it the power goes?
//!
//! A replica that starts, with the tables that survived and with new ones.

use bytes::Bytes;
use journal::tables::MemoryTables;
use journal::{
    Attributes, Capture, Edge, Event, Kind, Lsn, Marker, Meta, Name, NodeId, Payload, Provenance, RootNo,
    Space, Tables, Timestamp, TreeFile, TreeIo,
};
use replication::apply::{Again, Missing, again_name};
use std::sync::Arc;
use tests::lab::Lab;
use tests::rng::Rng;
use tests::sim_disk::Cut;

const ROOT: RootNo = RootNo(0);
const TOP: NodeId = NodeId::root(ROOT);
const FILE: NodeId = NodeId(5000);
const MTIME: Option<Timestamp> = Some(Timestamp(1));

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).expect("a name")
}

fn edge(parent: NodeId, text: &str) -> Edge {
    Edge::new(parent, name(text))
}

fn attributes() -> Attributes {
    Attributes { mode: 0o700, uid: 0, gid: 0, mtime: Timestamp(1), ctime: Timestamp(1) }
}

fn create(node: NodeId, at: Edge, kind: Kind) -> Event {
    let meta = Meta { kind, size: 0, attributes: attributes(), xattrs: Vec::new() };
    Event::Create { node, at, meta, origin: None, parent_mtime: MTIME }
}

fn write(bytes: &[u8], offset: u64) -> Event {
    let data = Payload::Inline(Bytes::copy_from_slice(bytes));
    Event::Write { node: FILE, offset, data, before: None }
}

fn completed() -> Event {
    Event::Mark(Marker::SynchronizationCompleted { files: 0, directories: 0, bytes: 0 })
}

/// Journals and applies one capture; whether it was applied: the power may be gone.
fn live(lab: &mut Lab, events: Vec<Event>) -> bool {
    let lsn = Lsn::captured(lab.journal.applied().captured + 1);
    let (time, provenance) = (Timestamp(lsn.captured as i64), Provenance::Derived);
    let capture = Capture { lsn, time, provenance, root: ROOT, path: Vec::new(), events };
    let Ok(placed) = lab.journal_them(&[capture]) else { return false };
    lab.apply(&placed).is_ok()
}

/// Every replica that a loss of power may leave now, opened: with the tables as they are, and with new ones.
fn reopened(lab: &Lab, mut look: impl FnMut(Lab, &str)) {
    let mut rng = Rng::new(1);
    for (prefix, data) in lab.tree.crash_states() {
        for (survive, cut) in [(true, Cut::Everything), (false, Cut::Everything), (false, Cut::Nothing)] {
            let tables = MemoryTables::default();
            for space in Space::ALL.into_iter().filter(|_| survive) {
                let rows = lab.tables.range(space, &[], &[0xff; 400]).collect::<Result<Vec<_>, _>>();
                let rows = rows.expect("rows").into_iter().map(|(key, row)| (space, key, Some(row)));
                tables.commit(rows.collect()).expect("commit");
            }
            let context = format!("{prefix} operations, {data:?}, tables survive: {survive}, {cut:?}");
            let disk = lab.disk.crash(cut, &mut rng);
            let tree = Arc::new(lab.tree.crash_at(prefix, &data));
            let opened = Lab::open(disk, tree, Arc::new(tables));
            look(opened.unwrap_or_else(|error| panic!("{context}: {error:?}")), &context);
        }
    }
}

fn shown(lab: &Lab, lsn: Lsn) -> Result<Vec<u8>, journal::JournalError> {
    lab.view(lsn).open(FILE)?.read_all()
}

#[test]
fn what_was_put_aside_is_in_nobodys_way_afterwards() {
    for moved in [true, false] {
        let mut lab = Lab::new();
        assert!(live(&mut lab, vec![completed()]));
        if moved {
            lab.move_cursor().expect("the cursor moves");
        }
        let top = lab.tree.root(ROOT).expect("the root");
        lab.tree
            .create_file(&top, &name("x"))
            .expect("a foreign file")
            .write_at(b"foreign", 0)
            .expect("write");
        lab.tree.sync().expect("sync");
        let mut aside = None;
        let moved = lab
            .between_batches(|applier, settle| applier.put_aside(ROOT, &edge(TOP, "x"), settle, &mut aside));
        assert!(moved.is_ok() && aside.is_some());
        reopened(&lab, |_, _| {});
        // What is captured takes the place at once.
        assert!(live(&mut lab, vec![create(FILE, edge(TOP, "x"), Kind::File), write(b"captured", 0)]));
        let applied = lab.journal.applied();
        assert_eq!(shown(&lab, applied).expect("read"), b"captured");
        reopened(&lab, |lab, context| {
            assert_eq!(shown(&lab, applied).expect("read"), b"captured", "{context}");
            let kept = lab.tree.kept(ROOT).and_then(|kept| lab.tree.open_dir(&kept, &name("strange")));
            assert_eq!(lab.tree.list(&kept.expect("open")).expect("list").len(), 1, "{context}");
        });
    }
}

const DIR: NodeId = NodeId(5001);

/// What the file holds after so many captures.
const HELD: [&[u8]; 4] = [b"", b"captured", b"CAPTured", b"CAlater!"];

/// A replica with a file of two captures, which somebody then removed from it.
fn without_its_file(moved: bool) -> Lab {
    let mut lab = Lab::new();
    let (dir, file) =
        (create(DIR, edge(TOP, "d"), Kind::Directory), create(FILE, edge(DIR, "f"), Kind::File));
    assert!(live(&mut lab, vec![dir, file, write(b"captured", 0), completed()]));
    lab.move_cursor().expect("the cursor moves");
    assert!(live(&mut lab, vec![write(b"CAPT", 0)]));
    if moved {
        lab.move_cursor().expect("the cursor moves");
    }
    let dir = lab.tree.root(ROOT).and_then(|top| lab.tree.open_dir(&top, &name("d"))).expect("open");
    lab.tree.unlink(&dir, &name("f")).expect("unlink");
    lab.tree.sync().expect("sync");
    lab
}

/// The bytes are had, and the file is made again.
fn made_again(lab: &mut Lab) -> bool {
    let beside = again_name(FILE).expect("a name");
    let kept = lab.tree.kept(ROOT).expect("the kept area");
    drop(lab.tree.unlink(&kept, &beside));
    let file = lab.tree.create_file(&kept, &beside);
    if file.and_then(|file| file.write_at(HELD[2], 0)).is_err() {
        return false;
    }
    let missing = Missing { root: ROOT, edge: &edge(DIR, "f"), node: FILE, bytes: true };
    let mut again = Again::default();
    let made = lab.between_batches(|applier, settle| applier.make_again(&missing, settle, &mut again));
    made.is_ok() && again.made
}

/// The file is what it was at each point, or, unless it has to be there, nobody is shown anything.
fn is_right(lab: &Lab, has_to_be: bool, context: &str) -> bool {
    let applied = lab.journal.applied();
    let mut shows = true;
    for captured in 1..=applied.captured {
        match shown(lab, Lsn::captured(captured)) {
            Ok(bytes) => assert_eq!(bytes, HELD[captured as usize], "{context}, at {captured}"),
            Err(error) => {
                assert!(!has_to_be, "{context}, at {captured}: {error:?}");
                shows = false;
            }
        }
    }
    shows
}

#[test]
fn what_was_made_again_is_there_or_is_missed_and_the_replica_starts() {
    let mut outcomes = std::collections::BTreeSet::new();
    for moved in [true, false] {
        for nth in 0.. {
            let mut lab = without_its_file(moved);
            let before = lab.journal.applied();
            lab.tree.cut_power_at(nth);
            let done = made_again(&mut lab);
            // It moves, and its bytes change, at once.
            let (from, to) = (edge(DIR, "f"), edge(TOP, "g"));
            let rename =
                Event::Rename { node: FILE, from, to, from_parent_mtime: MTIME, to_parent_mtime: MTIME };
            let went_on = done && live(&mut lab, vec![rename, write(b"later!", 2)]);
            // Before the cursor has moved a file that recovery has to write to may be missing, mended or not.
            if lab.journal.cursor() >= before {
                reopened(&lab, |mut lab, context| {
                    let context = format!("power gone at {nth}, {context}");
                    let shows = is_right(&lab, done, &context);
                    assert!(shows || made_again(&mut lab), "{context}: it is not made by another attempt");
                    is_right(&lab, true, &context);
                    outcomes.insert((done, shows, lab.journal.applied().captured));
                });
            }
            if lab.tree.has_power() {
                assert!(went_on && is_right(&lab, true, "nothing happened"));
                break;
            }
        }
    }
    // Missed by then, and there whatever came after it.
    let both = [(false, false, 2), (true, true, 3)];
    assert!(both.iter().all(|outcome| outcomes.contains(outcome)), "{outcomes:?}");
}

#[test]
fn a_directory_that_was_made_again_is_there_for_what_comes_next() {
    let mut lab = without_its_file(true);
    let top = lab.tree.root(ROOT).expect("the root");
    lab.tree.remove_dir(&top, &name("d")).expect("remove");
    lab.tree.sync().expect("sync");
    let missing = Missing { root: ROOT, edge: &edge(TOP, "d"), node: DIR, bytes: false };
    let mut again = Again::default();
    let made = lab.between_batches(|applier, settle| applier.make_again(&missing, settle, &mut again));
    assert!(made.is_ok() && again.made);
    reopened(&lab, |mut lab, context| assert!(made_again(&mut lab), "{context}"));
    assert!(made_again(&mut lab));
    let other = create(NodeId(6000), edge(DIR, "h"), Kind::File);
    let (from, to) = (edge(TOP, "d"), edge(TOP, "e"));
    let rename = Event::Rename { node: DIR, from, to, from_parent_mtime: MTIME, to_parent_mtime: MTIME };
    assert!(live(&mut lab, vec![other, rename]));
    reopened(&lab, |lab, context| {
        assert_eq!(shown(&lab, Lsn::captured(2)).expect("read"), HELD[2], "{context}");
    });
}
