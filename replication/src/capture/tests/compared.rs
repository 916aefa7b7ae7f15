//! Files without hashes are compared with what the replica has, and no more is sent than has to be.

use super::Bench;
use super::model::SharedModel;
use super::rebuilt::namespace;
use crate::capture::{BlockSource, Comparing, HeldBlocks, Index, Start};
use journal::{GapCause, Lsn, NodeId};
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The model as a replica that is asked.
struct Replica {
    model: SharedModel,
    /// How often it was asked.
    asked: AtomicU64,
    answer: Answer,
}

#[derive(Clone, Copy, PartialEq)]
enum Answer {
    Right,
    /// It has nothing to say.
    Nothing,
    /// It holds a file of another length.
    Longer,
    /// It gives fewer hashes than it was asked for.
    Fewer,
}

impl BlockSource for Replica {
    fn blocks(&self, node: NodeId, _: Lsn, block_bits: u8, first: u64, count: u32) -> Option<HeldBlocks> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let model = self.model.lock();
        let bytes = &model.nodes[&node].bytes;
        let blocks = bytes.chunks(1 << block_bits).skip(first as usize).take(count as usize);
        let mut hashes: Vec<u8> = blocks
            .flat_map(|block| {
                let hash: [u8; 16] = *blake3::hash(block).as_bytes().first_chunk().unwrap();
                if block.iter().all(|byte| *byte == 0) { [0; 16] } else { hash }
            })
            .collect();
        let mut size = bytes.len() as u64;
        match self.answer {
            Answer::Right => {}
            Answer::Nothing => return None,
            Answer::Longer => size += 1,
            Answer::Fewer => hashes.truncate(hashes.len().saturating_sub(16)),
        }
        Some(HeldBlocks { size, hashes: hashes.into() })
    }
}

struct Case {
    whole_files: bool,
    ignore_same: bool,
    answer: Answer,
}

const BLOCKS: Case = Case { whole_files: false, ignore_same: true, answer: Answer::Right };

/// Puts another byte into a file without a trace in its size and modification time.
fn forge(path: &Path, at: u64) {
    let times = fs::metadata(path).unwrap();
    let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x55], at).unwrap();
    file.set_modified(times.modified().unwrap()).unwrap();
    assert_eq!(fs::metadata(path).unwrap().mtime_nsec(), times.mtime_nsec());
}

/// Captures two files of a mebibyte, loses the index, has `change` made, and compares. Bytes told, and how often the
/// replica was asked.
fn after(case: &Case, known_inodes: bool, change: impl FnOnce(&Bench)) -> (u64, u64) {
    let mut bench = Bench::new();
    bench.telling(|root| {
        for name in ["large", "other"] {
            let bytes: Vec<u8> = (0..1_048_576).map(|n: u32| (n / 4096 + n % 7 + 1) as u8 | 1).collect();
            fs::write(root.join(name), bytes).unwrap();
        }
    });
    drop(bench.agent.take());
    change(&bench);
    let (mut entries, next) = namespace(&bench, known_inodes, true);
    if !known_inodes {
        // As of a tree that was adopted.
        entries.iter_mut().for_each(|entry| entry.meta.attributes.ctime = Default::default());
    }
    let (index, _) = Index::open(&bench.index_path()).unwrap();
    let index = index.rebuild(entries.into_iter(), next).unwrap();
    let model = Arc::clone(&bench.model);
    let source = Arc::new(Replica { model, asked: AtomicU64::new(0), answer: case.answer });
    bench.config.comparing = Some(Comparing {
        source: Arc::clone(&source) as Arc<dyn BlockSource>,
        whole_files: case.whole_files,
    });
    bench.config.ignore_same = case.ignore_same;
    let bytes = bench.model.lock().bytes_told;
    bench.start_with(index, Start::Rescan { cause: GapCause::AgentDown });
    bench.barrier();
    let told = (bench.model.lock().bytes_told - bytes, source.asked.load(Ordering::SeqCst));
    if case.ignore_same && !known_inodes {
        // What was forged is found when it is written next, wherever the quick check was wrong.
        fs::OpenOptions::new().append(true).open(bench.path("large")).unwrap().set_len(1_048_577).unwrap();
        bench.check();
    } else {
        bench.compare();
    }
    bench.stop();
    told
}

#[test]
fn blocks_that_differ_are_sent_and_no_others() {
    let change = |bench: &Bench| {
        let file = fs::OpenOptions::new().write(true).open(bench.path("large")).unwrap();
        file.write_all_at(b"changed", 500_000).unwrap();
    };
    assert_eq!(after(&BLOCKS, true, change), (4096, 1));
    assert_eq!(after(&Case { whole_files: true, ..BLOCKS }, true, change), (1 << 20, 1));
}

#[test]
fn a_file_that_grew_or_shrank_is_compared_too() {
    for size in [1_500_000, 300_000] {
        let change = |bench: &Bench| {
            let file = fs::OpenOptions::new().write(true).open(bench.path("large")).unwrap();
            file.set_len(size).unwrap();
            file.write_all_at(b"changed", 100_000).unwrap();
        };
        let (told, asked) = after(&BLOCKS, true, change);
        assert!(told <= 2 * 4096, "{told} bytes for {size}");
        assert_eq!(asked, 1);
        assert_eq!(after(&Case { whole_files: true, ..BLOCKS }, true, change).1, 0, "it surely differs");
    }
}

#[test]
fn a_touched_file_is_not_sent_at_all() {
    let change = |bench: &Bench| {
        let file = fs::OpenOptions::new().write(true).open(bench.path("large")).unwrap();
        file.set_modified(std::time::UNIX_EPOCH).unwrap();
    };
    for whole_files in [false, true] {
        assert_eq!(after(&Case { whole_files, ..BLOCKS }, true, change), (0, 1));
    }
}

#[test]
fn answers_that_do_not_fit_are_not_trusted() {
    let change = |bench: &Bench| {
        let file = fs::OpenOptions::new().write(true).open(bench.path("large")).unwrap();
        file.write_all_at(b"changed", 500_000).unwrap();
    };
    for answer in [Answer::Nothing, Answer::Longer, Answer::Fewer] {
        assert_eq!(after(&Case { answer, ..BLOCKS }, true, change), (1 << 20, 1));
    }
}

#[test]
fn same_size_and_time_is_trusted_only_if_asked_for() {
    let change = |bench: &Bench| forge(&bench.path("large"), 700_000);
    // Nothing is known of the inodes: the quick check has to do, or everything is read.
    assert_eq!(after(&BLOCKS, false, change), (0, 0));
    assert_eq!(after(&Case { ignore_same: false, ..BLOCKS }, false, change), (4096, 2));
    let whole = Case { ignore_same: false, whole_files: true, ..BLOCKS };
    assert_eq!(after(&whole, false, change), (1 << 20, 2));
    // The change time gives it away, where it is known.
    assert_eq!(after(&BLOCKS, true, change), (4096, 1));
}
