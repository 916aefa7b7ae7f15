//! A scrub has a file told anew: what has rotted on the master is not told, what was written is.

use super::Bench;
use crate::capture::{Index, Start};
use journal::{Edge, Name, NodeId, RootNo, Timestamp};
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};

/// A master with one file that was captured, and of which a byte has turned since under the time of that capture.
fn rotten() -> (Bench, Edge, NodeId) {
    let mut bench = Bench::prepare();
    bench.config.ignore_same = true;
    bench.start(Start::First);
    fs::write(bench.path("f"), vec![7; 3 << 20]).unwrap();
    bench.check();
    let stopped = bench.stop();
    let file = fs::File::options().write(true).open(bench.path("f")).unwrap();
    let written = file.metadata().unwrap().modified().unwrap();
    file.write_all_at(&[8], (2 << 20) - 1).unwrap();
    file.set_modified(written).unwrap();
    let stat = file.metadata().unwrap();
    drop(file);
    let edge = Edge::new(NodeId::root(RootNo(0)), Name::new(b"f").unwrap());
    let node = bench.model.lock().names[&edge];
    let (index, _) = Index::open(&bench.index_path()).unwrap();
    let mut row = index.row(node).unwrap().unwrap();
    row.set_racy(false);
    row.attributes.ctime = Timestamp(stat.ctime() * 1_000_000_000 + stat.ctime_nsec());
    let mut batch = index.batch();
    index.put_row(&mut batch, node, &row).unwrap();
    index.commit(batch).unwrap();
    index.close(stopped, Timestamp(1)).unwrap();
    // A change so young that another may hide behind it is read again.
    std::thread::sleep(std::time::Duration::from_millis(50));
    bench.restart();
    bench.barrier();
    (bench, edge, node)
}

fn bytes_of_anew(bench: &mut Bench, edge: &Edge, node: NodeId) -> u64 {
    let before = bench.model.lock().bytes_told;
    bench.agent().begin_anew(vec![(edge.clone(), Some(node))]).unwrap().recv().unwrap();
    bench.barrier();
    bench.model.lock().bytes_told - before
}

#[test]
fn rot_is_not_told_anew_and_what_was_written_is() {
    let (mut bench, edge, node) = rotten();
    assert_eq!(bytes_of_anew(&mut bench, &edge, node), 0, "rot was told");
    // Again: it is not forgotten that it is not what was captured.
    assert_eq!(bytes_of_anew(&mut bench, &edge, node), 0, "rot was told");
    // Somebody says that it is right.
    fs::File::open(bench.path("f")).unwrap().set_modified(std::time::SystemTime::now()).unwrap();
    bench.check();
    assert!(bytes_of_anew(&mut bench, &edge, node) > 0, "a file that is whole was not told");
    bench.check();
}
