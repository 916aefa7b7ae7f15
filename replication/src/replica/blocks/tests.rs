//! The hashes are those of what was captured, however it lies in the tree.

use super::block_hashes;
use crate::adopt::adopt;
use crate::os_tree::OsTree;
use crate::replica::{Replica, ReplicaOptions};
use bytes::Bytes;
use journal::journal::{Journal, SystemClock, TablesFactory};
use journal::log::LogOptions;
use journal::tables::MemoryTables;
use journal::{
    Capture, Event, JournalError, Lsn, NodeId, OsDisk, Part, Payload, Provenance, RootNo, Tables, Timestamp,
};
use std::fs;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;
use wire::stream::BlocksWanted;

struct Memory;

impl TablesFactory for Memory {
    fn tables(&self, _fresh: bool) -> Result<Arc<dyn Tables>, JournalError> {
        Ok(Arc::new(MemoryTables::default()))
    }
}

/// A replica that adopted a tree of one file with these bytes.
fn replica_of(place: &tempfile::TempDir, bytes: &[u8]) -> (Arc<Replica<OsTree>>, Lsn, NodeId) {
    let root = place.path().join("root");
    fs::create_dir(&root).unwrap();
    fs::write(root.join("f"), bytes).unwrap();
    let tree = Arc::new(OsTree::open(vec![root]).unwrap());
    let journal = || {
        let directory = place.path().join("journal");
        Journal::open(Arc::new(OsDisk), &directory, LogOptions::default(), &Memory, Arc::new(SystemClock))
            .unwrap()
    };
    let lsn = adopt(&journal().journal, &*tree, 1, &mut |_| true).unwrap().lsn;
    (Replica::start(journal(), tree, ReplicaOptions::default()).unwrap(), lsn, NodeId::FIRST_FREE)
}

fn of(bytes: &[u8]) -> [u8; 16] {
    *blake3::hash(bytes).as_bytes().first_chunk().unwrap()
}

/// What the hashes of a file must be, holes aside.
fn expected(bytes: &[u8], block: usize) -> Vec<u8> {
    bytes.chunks(block).flat_map(of).collect()
}

fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|n| (n / 1000 + n % 251 + 1) as u8 | 1).collect()
}

#[test]
fn all_blocks_in_pages_of_any_size() {
    let place = tempfile::tempdir().unwrap();
    let bytes = pattern(300_000);
    let (replica, at, node) = replica_of(&place, &bytes);
    for (block_bits, count) in [(12, 1), (12, 7), (12, 16_384), (14, 3), (16, 5), (9, 100)] {
        let block = 1usize << block_bits;
        let mut all = Vec::new();
        for first in (0..).step_by(count as usize) {
            let wanted = BlocksWanted { node, at, block_bits, first, count };
            let page = block_hashes(&replica, &wanted).unwrap();
            assert_eq!(page.size, 300_000);
            if page.hashes.is_empty() {
                break;
            }
            all.extend_from_slice(&page.hashes);
        }
        assert!(all == expected(&bytes, block), "blocks of {block}, {count} at a time");
    }
    replica.stop(Duration::from_secs(1));
}

#[test]
fn a_hole_is_told_from_bytes() {
    let (place, mut bytes) = (tempfile::tempdir().unwrap(), vec![0; 1 << 20]);
    bytes[500_000..500_100].fill(7);
    let (replica, at, node) = replica_of(&place, b"");
    let events = vec![
        Event::Resize { node, size: 1 << 20 },
        Event::Write {
            node,
            offset: 500_000,
            data: Payload::Inline(Bytes::from(vec![7; 100])),
            before: None,
        },
    ];
    let lsn = send(&replica, events);
    let page =
        block_hashes(&replica, &BlocksWanted { node, at, block_bits: 12, first: 0, count: 256 }).unwrap();
    assert_eq!(page.hashes.len(), 256 * 16);
    for (number, hash) in page.hashes.chunks(16).enumerate() {
        let of_bytes = of(&bytes[number * 4096..(number + 1) * 4096]);
        let has_data = number == 500_000 / 4096;
        assert!(hash == of_bytes || (!has_data && hash == [0; 16]), "block {number}");
    }
    assert!(page.hashes[..16] == [0; 16], "a hole");
    assert!(replica.journal().applied() >= lsn);
    replica.stop(Duration::from_secs(1));
}

/// One capture through ingest; waits until it is applied.
fn send(replica: &Arc<Replica<OsTree>>, events: Vec<Event>) -> Lsn {
    let journal = replica.journal();
    let lsn = Lsn::captured(journal.journaled().captured + 1);
    let time = Timestamp(journal.journaled_time().0 + 1);
    let capture =
        Capture { lsn, time, provenance: Provenance::Derived, root: RootNo(0), path: Vec::new(), events };
    replica.ingest(vec![Part { number: 0, last: true, capture }], |done| assert!(done.is_ok()));
    assert!(journal.wait_applied(lsn, Duration::from_secs(20)));
    lsn
}

#[test]
fn a_replica_that_was_rewound_answers_with_what_was_captured() {
    let place = tempfile::tempdir().unwrap();
    let mut bytes = pattern(100_000);
    let (replica, at, node) = replica_of(&place, &bytes);
    let data = Payload::Inline(Bytes::from_static(b"captured later"));
    bytes[50_000..50_014].copy_from_slice(b"captured later");
    send(&replica, vec![Event::Write { node, offset: 50_000, data, before: None }]);
    replica.detach("test").unwrap();
    let data = Payload::Inline(Bytes::from(vec![9; 30_000]));
    let local = vec![Event::Write { node, offset: 40_000, data, before: None }];
    replica.apply_local(None, &mut std::iter::once((RootNo(0), b"f".to_vec(), local))).unwrap();
    let file = fs::File::open(place.path().join("root/f")).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 45_000).unwrap();
    assert_eq!(byte, [9], "the tree holds something else");
    let wanted = BlocksWanted { node, at, block_bits: 12, first: 0, count: 1000 };
    assert!(block_hashes(&replica, &wanted).unwrap().hashes == expected(&bytes, 4096));
    replica.stop(Duration::from_secs(1));
}

#[test]
fn what_is_no_file_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let (replica, at, node) = replica_of(&place, b"x");
    for node in [NodeId(node.0 + 17), NodeId::root(RootNo(0))] {
        let wanted = BlocksWanted { node, at, block_bits: 12, first: 0, count: 1 };
        assert!(block_hashes(&replica, &wanted).is_err(), "{node}");
    }
    replica.stop(Duration::from_secs(1));
}
