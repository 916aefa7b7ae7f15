//! Writing the protected tree: what is changed, what is refused, and that nothing goes that the stream does not have.

use super::{Bench, PATIENCE};
use crate::capture::{Start, WriteRequest};
use journal::{
    Attributes, Edge, Event, Kind, Meta, Name, NodeId, Payload, RootNo, Timestamp, Unwritten, Written,
};
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const ROOT: RootNo = RootNo(0);
const NEW: u64 = 1 << 63;

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

fn attributes(mode: u32, mtime: i64) -> Attributes {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    Attributes { mode, uid, gid, mtime: Timestamp(mtime), ctime: Timestamp(0) }
}

fn create(number: u64, parent: NodeId, at: &str, kind: Kind) -> Event {
    let meta = Meta { kind, size: 0, attributes: attributes(0o750, 5_000_000_007), xattrs: Vec::new() };
    let (node, at) = (NodeId(NEW | number), Edge::new(parent, name(at)));
    Event::Create { node, at, meta, origin: None, parent_mtime: None }
}

fn write(node: NodeId, offset: u64, bytes: &[u8]) -> Event {
    Event::Write { node, offset, data: Payload::Inline(bytes.to_vec().into()), before: None }
}

fn end(node: NodeId) -> [Event; 2] {
    let attributes = attributes(0o640, 9_000_000_001);
    [Event::SetXattrs { node, xattrs: Vec::new() }, Event::SetAttributes { node, attributes }]
}

impl Bench {
    /// The node at a path, as the stream has it.
    fn node(&self, path: &str) -> NodeId {
        let model = self.model.lock();
        let parts = path.split('/').filter(|part| !part.is_empty());
        parts.fold(NodeId::root(ROOT), |at, part| model.names[&Edge::new(at, name(part))])
    }

    fn edge(&self, path: &str) -> Edge {
        let (parent, last) = path.rsplit_once('/').unwrap_or(("", path));
        Edge::new(self.node(parent), name(last))
    }

    fn remove(&self, path: &str) -> Event {
        Event::Remove { node: self.node(path), at: self.edge(path), parent_mtime: None }
    }

    fn send(&self, session: u64, events: Vec<Event>, last: bool) -> Written {
        self.send_as((session, 0), events, last)
    }

    fn send_as(&self, (session, number): (u64, u32), events: Vec<Event>, last: bool) -> Written {
        let request = WriteRequest { session, number, root: ROOT, events, last };
        let answer = self.agent().begin_write(request).unwrap();
        answer.recv_timeout(PATIENCE).unwrap().unwrap()
    }

    /// One session of one request, nothing left out.
    fn done(&self, events: Vec<Event>) {
        assert_eq!(self.send(7, events, true), Written::default());
        assert_eq!(self.stages(), 0);
    }

    fn stages(&self) -> usize {
        let entries = fs::read_dir(self.root()).unwrap();
        entries
            .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with(".rewind"))
            .count()
    }
}

#[test]
fn everything_that_can_be_made() {
    let mut bench = Bench::new();
    let root = NodeId::root(ROOT);
    let before = fs::metadata(bench.root()).unwrap();
    let (directory, file) = (NodeId(NEW | 1), NodeId(NEW | 2));
    bench.done(vec![
        Event::Resize { node: file, size: 9000 },
        write(file, 4096, b"in the middle"),
        create(1, root, "d", Kind::Directory),
        create(2, directory, "f", Kind::File),
        Event::Link { node: file, at: Edge::new(root, name("g")), parent_mtime: None },
        create(3, directory, "l", Kind::Symlink(b"/nowhere".to_vec())),
        create(4, root, "p", Kind::Fifo),
    ]);
    bench.check();
    let bytes = fs::read(bench.path("g")).unwrap();
    assert_eq!((bytes.len(), &bytes[4096..4109]), (9000, &b"in the middle"[..]));
    let (made, twin) = (fs::metadata(bench.path("d/f")).unwrap(), fs::metadata(bench.path("g")).unwrap());
    assert_eq!((made.ino(), made.mode() & 0o7777), (twin.ino(), 0o750));
    // Times of directories: those that were given, and those that were there.
    let directory = fs::metadata(bench.path("d")).unwrap();
    assert_eq!((directory.mtime(), directory.mtime_nsec()), (5, 7));
    let after = fs::metadata(bench.root()).unwrap();
    assert_eq!((before.mtime(), before.mtime_nsec()), (after.mtime(), after.mtime_nsec()));
}

#[test]
fn a_changed_file_stays_the_same_node_and_only_its_blocks_travel() {
    let mut bench = Bench::patient();
    let told = bench.telling(|root| fs::write(root.join("large"), vec![1; 3 << 20]).unwrap());
    assert_eq!(told.len(), 1);
    let (node, inode) = (bench.node("large"), fs::metadata(bench.path("large")).unwrap().ino());
    let bytes = bench.model.lock().bytes_told;
    let before = bench.told();
    let [xattrs, attributes] = end(node);
    bench.done(vec![write(node, 1 << 20, b"other"), xattrs, attributes]);
    bench.check();
    assert_eq!(bench.told_since(before), [["Write", "SetAttributes"]]);
    assert_eq!(bench.node("large"), node);
    assert_eq!(bench.model.lock().bytes_told - bytes, 4096);
    let after = fs::metadata(bench.path("large")).unwrap();
    assert_ne!(after.ino(), inode, "written in place, where it need not be");
    assert_eq!((after.mtime(), after.mtime_nsec(), after.mode() & 0o777), (9, 1, 0o640));
    // Known by its new inode too: a further change is one of the same node.
    let told = bench.telling(|root| fs::rename(root.join("large"), root.join("larger")).unwrap());
    assert!(!told.iter().flatten().any(|event| event == "Create" || event == "Write"), "{told:?}");
    assert_eq!(bench.node("larger"), node);
}

#[test]
fn files_with_several_names_or_open_ones_are_written_in_place() {
    let mut bench = Bench::patient();
    bench.telling(|root| {
        fs::write(root.join("a"), b"before").unwrap();
        fs::hard_link(root.join("a"), root.join("b")).unwrap();
        fs::write(root.join("open"), b"before").unwrap();
    });
    let held = fs::File::options().write(true).open(bench.path("open")).unwrap();
    for path in ["a", "open"] {
        let node = bench.node(path);
        let inode = fs::metadata(bench.path(path)).unwrap().ino();
        let [xattrs, attributes] = end(node);
        bench.done(vec![Event::Resize { node, size: 3 }, write(node, 0, b"new"), xattrs, attributes]);
        assert_eq!(fs::metadata(bench.path(path)).unwrap().ino(), inode);
        assert_eq!(fs::read(bench.path(path)).unwrap(), b"new");
        bench.check();
    }
    assert_eq!(fs::read(bench.path("b")).unwrap(), b"new");
    held.write_all_at(b"NEW", 0).unwrap();
    assert_eq!(fs::read(bench.path("open")).unwrap(), b"NEW");
    bench.check();
}

#[test]
fn what_goes_is_captured_before() {
    let mut bench = Bench::patient();
    bench.telling(|root| {
        fs::create_dir_all(root.join("d/e")).unwrap();
        fs::write(root.join("d/e/f"), b"old").unwrap();
        fs::write(root.join("g"), b"old").unwrap();
        fs::write(root.join("h"), b"old").unwrap();
    });
    let (node, g, h) = (bench.node("h"), bench.remove("g"), bench.remove("d"));
    let before = bench.told();
    // Nobody has looked at any of this yet.
    fs::write(bench.path("d/e/f"), b"changed").unwrap();
    fs::write(bench.path("d/late"), b"made").unwrap();
    fs::write(bench.path("g"), b"changed").unwrap();
    fs::write(bench.path("h"), b"changed too").unwrap();
    let [xattrs, attributes] = end(node);
    bench.done(vec![g, h, Event::Resize { node, size: 3 }, write(node, 0, b"old"), xattrs, attributes]);
    bench.check();
    assert_eq!(fs::read_dir(bench.root()).unwrap().count(), 1);
    assert_eq!(fs::read(bench.path("h")).unwrap(), b"old");
    let told: Vec<String> = bench.told_since(before).into_iter().flatten().collect();
    let first_gone = told.iter().position(|event| event == "Remove").unwrap();
    let captured = told[..first_gone].iter().filter(|event| *event == "Write").count();
    assert_eq!(captured, 4, "{told:?}");
}

#[test]
fn nothing_is_written_before_the_stream_is_safe() {
    let mut bench = Bench::prepare();
    let safe = Arc::new(AtomicBool::new(true));
    bench.safe = Some(Arc::clone(&safe));
    bench.start(Start::First);
    bench.telling(|root| fs::write(root.join("f"), b"x").unwrap());
    safe.store(false, Ordering::SeqCst);
    let events = vec![bench.remove("f")];
    let request = WriteRequest { session: 1, number: 0, root: ROOT, events, last: true };
    let answer = bench.agent().begin_write(request).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(bench.path("f").exists() && answer.try_recv().is_err());
    safe.store(true, Ordering::SeqCst);
    assert_eq!(answer.recv_timeout(PATIENCE).unwrap().unwrap(), Written::default());
    assert!(!bench.path("f").exists());
    bench.check();
}

#[test]
fn no_link_leads_out_of_the_root() {
    let mut bench = Bench::patient();
    bench.telling(|root| {
        fs::create_dir_all(root.join("d/e")).unwrap();
        fs::write(root.join("d/e/f"), b"x").unwrap();
    });
    fs::write(bench.outside().join("f"), b"untouched").unwrap();
    let (d, f) = (bench.node("d/e"), bench.node("d/e/f"));
    let removal = bench.remove("d/e/f");
    fs::rename(bench.path("d/e"), bench.outside().join("e")).unwrap();
    symlink(bench.outside(), bench.path("d/e")).unwrap();
    let [xattrs, attributes] = end(f);
    for events in [
        vec![create(1, d, "planted", Kind::File)],
        vec![removal],
        vec![write(f, 0, b"X"), xattrs, attributes],
    ] {
        let written = bench.send(3, events, true);
        assert!(written.moved, "the directory is not there any more");
    }
    assert_eq!(fs::read_dir(bench.outside()).unwrap().count(), 2);
    assert_eq!(fs::read(bench.outside().join("f")).unwrap(), b"untouched");
    assert_eq!(fs::read(bench.outside().join("e/f")).unwrap(), b"x");
    assert_eq!(bench.stages(), 0);
    bench.check();
}

#[test]
fn names_taken_meanwhile_are_not_replaced() {
    let mut bench = Bench::patient();
    fs::write(bench.path("taken"), b"somebody's").unwrap();
    let written = bench.send(3, vec![create(1, NodeId::root(ROOT), "taken", Kind::File)], true);
    assert!(written.moved);
    assert_eq!(fs::read(bench.path("taken")).unwrap(), b"somebody's");
    assert_eq!(bench.stages(), 0);
    bench.check();
}

#[test]
fn swaps_and_replacements() {
    let mut bench = Bench::patient();
    bench.telling(|root| {
        for directory in ["a", "b"] {
            fs::create_dir(root.join(directory)).unwrap();
            fs::write(root.join(directory).join("f"), directory).unwrap();
        }
        fs::write(root.join("x"), b"x").unwrap();
        fs::write(root.join("y"), b"y").unwrap();
    });
    let (a, b, x, y) = (bench.node("a"), bench.node("b"), bench.node("x"), bench.node("y"));
    let rename = |node: NodeId, from: Edge, to: Edge| Event::Rename {
        node,
        from,
        to,
        from_parent_mtime: None,
        to_parent_mtime: None,
    };
    let parked = Edge::new(NodeId::kept(ROOT), a.kept_name());
    let (at_a, at_b) = (bench.edge("a"), bench.edge("b"));
    let before = bench.told();
    bench.done(vec![
        rename(a, at_a.clone(), parked.clone()),
        rename(b, at_b.clone(), at_a),
        rename(a, parked, at_b),
        Event::Remove { node: y, at: bench.edge("y"), parent_mtime: None },
        rename(x, bench.edge("x"), bench.edge("y")),
    ]);
    bench.check();
    assert_eq!((bench.node("a"), bench.node("b"), bench.node("y")), (b, a, x));
    let told: Vec<String> = bench.told_since(before).into_iter().flatten().collect();
    assert!(!told.iter().any(|event| event == "Create" || event == "Write"), "{told:?}");
    assert_eq!(fs::read(bench.path("a/f")).unwrap(), b"b");
}

#[test]
fn what_is_left_out_does_not_go_with_its_directory() {
    let mut bench = Bench::prepare();
    bench.config.roots[0].exclude = vec!["*.tmp".to_owned()];
    bench.config.debounce = PATIENCE;
    bench.start(Start::First);
    bench.barrier();
    fs::create_dir(bench.path("d")).unwrap();
    fs::write(bench.path("d/f"), b"x").unwrap();
    fs::write(bench.path("d/not kept.tmp"), b"nobody else has this").unwrap();
    bench.barrier();
    let written = bench.send(1, vec![bench.remove("d")], true);
    assert_eq!((written.skipped_count, written.moved), (1, false));
    assert_eq!((written.skipped[0].what, &written.skipped[0].path[..]), (Unwritten::Removal, &b"d"[..]));
    assert_eq!(fs::read(bench.path("d/not kept.tmp")).unwrap(), b"nobody else has this");
    assert_eq!(bench.stages(), 0);
}

#[test]
fn a_session_cut_short_leaves_nothing() {
    let mut bench = Bench::new();
    let file = NodeId(NEW | 5);
    assert_eq!(bench.send(1, vec![write(file, 0, b"half")], false), Written::default());
    assert_eq!(bench.stages(), 1);
    let stage = fs::read_dir(bench.root()).unwrap().next().unwrap().unwrap().file_name();
    bench.barrier();
    let told = bench.model.lock().names.keys().any(|edge| edge.name.as_bytes() == stage.as_encoded_bytes());
    assert!(!told, "capture looks into the stage");
    // Another session begins, and ends, and what the first one left is gone.
    bench.done(vec![create(1, NodeId::root(ROOT), "d", Kind::Directory)]);
    bench.check();
    assert_eq!(bench.send(2, vec![write(file, 0, b"half")], false), Written::default());
    bench.stop();
    assert_eq!(bench.stages(), 0);
    bench.restart();
    bench.check();
    // The rest of a file whose beginning is gone must not become a file.
    let rest = vec![write(file, 4, b"rest"), create(5, NodeId::root(ROOT), "f", Kind::File)];
    assert!(bench.send_as((2, 1), rest, true).moved);
    assert_eq!((bench.stages(), bench.path("f").exists()), (0, false));
}

#[test]
fn what_a_killed_agent_leaves_is_found_and_can_be_removed() {
    let mut bench = Bench::new();
    let file = NodeId(NEW | 5);
    bench.send(1, vec![write(file, 0, b"half")], false);
    let stage = fs::read_dir(bench.root()).unwrap().next().unwrap().unwrap().file_name();
    let copy = bench.outside().join("as after a kill");
    fs::create_dir(&copy).unwrap();
    fs::write(copy.join("1"), b"half").unwrap();
    bench.stop();
    fs::rename(&copy, bench.root().join(&stage)).unwrap();
    bench.restart();
    bench.check();
    bench.done(vec![bench.remove(stage.to_str().unwrap())]);
    bench.check();
    assert_eq!(fs::read_dir(bench.root()).unwrap().count(), 0);
}

#[test]
fn a_tree_deeper_than_descriptors_go() {
    let mut bench = Bench::patient();
    bench.telling(|root| {
        let mut at = root.to_owned();
        for _ in 0..220 {
            at.push("d");
        }
        fs::create_dir_all(&at).unwrap();
        fs::write(at.join("f"), b"x").unwrap();
    });
    bench.done(vec![bench.remove("d")]);
    bench.check();
    assert_eq!(fs::read_dir(bench.root()).unwrap().count(), 0);
}
