//! What does a loss of power leave of names that a scrub has put right, wherever in it or after it the power goes?
//!
//! A replica that starts, with the tables that survived and with new ones.

use bytes::Bytes;
use journal::tables::MemoryTables;
use journal::{
    Attributes, Capture, Edge, Event, Kind, Lsn, Marker, Meta, Name, NodeId, Payload, Provenance, RootNo,
    Space, Tables, Timestamp, TreeFile, TreeIo,
};
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

fn create(node: NodeId, at: Edge, kind: Kind) -> Event {
    let attributes = Attributes { mode: 0o700, uid: 0, gid: 0, mtime: Timestamp(1), ctime: Timestamp(1) };
    let meta = Meta { kind, size: 0, attributes, xattrs: Vec::new() };
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
        let aside = lab.between_batches(|applier, settle| applier.put_aside(ROOT, &edge(TOP, "x"), settle));
        assert!(aside.expect("it is moved").is_some());
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
