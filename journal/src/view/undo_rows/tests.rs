//! The walk against a filter over all rows.

use super::*;
use crate::random::Random;
use crate::record::DataUndo;
use crate::state::rows::{CHUNK_BYTES, data_undo_puts};
use crate::tables::{MemoryTables, prefix_end};

/// Chunk, LSN, offset in the chunk, length.
type Facts = (u64, Lsn, u32, u32);

fn all(tables: &MemoryTables, node: NodeId, seed: u64) -> Vec<Facts> {
    let mut random = Random(seed);
    let mut facts = Vec::new();
    for lsn in 1..400 {
        // Now and then many rows lie at one chunk, so that stepping over them gives way to looking.
        let chunk = if random.below(3) == 0 { 7 } else { random.below(20) as u64 };
        let (within, bytes) = (random.below(60) as u32 * 1024, 1 + random.below(1024) as u32);
        let lsn = Lsn::captured(lsn);
        let offset = chunk * CHUNK_BYTES + u64::from(within);
        let data = DataUndo { node, offset, bytes, source: UndoSource::Zero };
        tables.commit(data_undo_puts(lsn, &data)).unwrap();
        facts.push((chunk, lsn, within, bytes));
    }
    facts.sort_unstable();
    facts
}

#[test]
fn the_walk_finds_what_a_filter_finds() {
    for seed in 0..40 {
        let tables = MemoryTables::default();
        let (before, node, behind) = (NodeId(4999), NodeId(5000), NodeId(5001));
        all(&tables, before, seed ^ 1);
        let facts = all(&tables, node, seed);
        all(&tables, behind, seed ^ 2);
        let mut random = Random(seed ^ 0xdead);
        for _ in 0..20 {
            let after = Lsn::captured(random.below(400) as u64);
            let upto = Lsn::captured(after.captured + random.below(400) as u64);
            let (chunk, left) = (random.below(22) as u64, random.below(22) as u64);
            let end = prefix_end(&node.to_key());
            let mut rows = UndoRows::new(&tables, node, (after, upto), chunk, end);
            let mut found = Vec::new();
            while let Some(row) = rows.next() {
                let row = row.unwrap();
                if row.chunk == left {
                    rows.leave(left);
                }
                found.push((row.chunk, row.within, row.bytes));
            }
            let mut seen_left = false;
            let wanted: Vec<_> = facts
                .iter()
                .filter(|(at, lsn, _, _)| *at >= chunk && *lsn > after && *lsn <= upto)
                // Of the chunk that is left the first row is the last.
                .filter(|(at, ..)| *at != left || !std::mem::replace(&mut seen_left, true))
                .map(|(at, _, within, bytes)| (*at, *within, *bytes))
                .collect();
            assert_eq!(found, wanted, "seed {seed}: after {after}, upto {upto}, from {chunk}, left {left}");
        }
    }
}
