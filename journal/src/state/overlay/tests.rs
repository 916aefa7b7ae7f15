//! Names of a node against a plain map: bound and freed in any order, over batches that are committed at any moment.

use super::*;
use crate::id::Name;
use crate::random::Random;
use crate::tables::{Frozen, MemoryTables, Row};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

fn same(state: &dyn State, model: &BTreeSet<(NodeId, Edge)>, nodes: u64, seed: u64) {
    for node in (1..=nodes).map(NodeId) {
        let wanted: Vec<Edge> =
            model.iter().filter(|(of, _)| *of == node).map(|(_, edge)| edge.clone()).collect();
        assert_eq!(state.links(node).unwrap(), wanted, "names of {node:?}, seed {seed}");
    }
}

#[test]
fn links_are_what_was_bound() {
    const NODES: u64 = 3;
    for seed in 1..=300 {
        let mut random = Random(seed);
        let tables = MemoryTables::default();
        let mut model: BTreeSet<(NodeId, Edge)> = BTreeSet::new();
        let mut overlay = Overlay::new(&tables);
        for _ in 0..200 {
            let name = Name::new(&[b"abcd"[random.below(4)]]).unwrap();
            let edge = Edge::new(NodeId(100 + random.below(2) as u64), name);
            let holder = model.iter().find(|(_, at)| *at == edge).map(|(node, _)| *node);
            match holder {
                Some(node) => {
                    overlay.unbind(&edge, node).unwrap();
                    model.remove(&(node, edge));
                }
                None => {
                    let node = NodeId(1 + random.below(NODES as usize) as u64);
                    overlay.bind(&edge, node).unwrap();
                    model.insert((node, edge));
                }
            }
            same(&overlay, &model, NODES, seed);
            if random.below(8) == 0 {
                let puts = std::mem::replace(&mut overlay, Overlay::new(&tables)).into_puts();
                tables.commit(puts).unwrap();
                same(&Overlay::new(&tables), &model, NODES, seed);
            }
        }
    }
}

/// Tables of which rows are committed by somebody else while a reader reads: before its first look, its second ...
struct Meanwhile {
    tables: MemoryTables,
    looks: AtomicUsize,
    rows: Vec<(usize, Put)>,
}

impl Meanwhile {
    fn look(&self) {
        let look = self.looks.fetch_add(1, Ordering::SeqCst);
        for (_, row) in self.rows.iter().filter(|(at, _)| *at == look) {
            self.tables.commit(vec![row.clone()]).unwrap();
        }
    }
}

impl Tables for Meanwhile {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, JournalError> {
        self.look();
        self.tables.get(space, key)
    }

    fn range<'a>(
        &'a self,
        space: Space,
        from: &[u8],
        to: &[u8],
    ) -> Box<dyn DoubleEndedIterator<Item = Result<Row, JournalError>> + 'a> {
        self.look();
        self.tables.range(space, from, to)
    }

    fn commit(&self, batch: Vec<Put>) -> Result<(), JournalError> {
        self.tables.commit(batch)
    }

    fn frozen(&self) -> Box<dyn Frozen> {
        self.tables.frozen()
    }

    fn settle(&self) -> Result<bool, JournalError> {
        self.tables.settle()
    }

    fn persist(&self) -> Result<(), JournalError> {
        Ok(())
    }
}

/// A reader without locks finds a name that nobody touches, whenever another name of the node goes.
#[test]
fn an_untouched_name_is_never_missed() {
    const LOOKS: usize = 4;
    let node = NodeId(7);
    let [gone, stays, third] =
        [b"a", b"b", b"c"].map(|name| Edge::new(NodeId(100), Name::new(name).unwrap()));
    for third in [None, Some(third)] {
        let tables = MemoryTables::default();
        let mut overlay = Overlay::new(&tables);
        for edge in [Some(&gone), Some(&stays), third.as_ref()].into_iter().flatten() {
            overlay.bind(edge, node).unwrap();
        }
        let before = overlay.into_puts();
        tables.commit(before.clone()).unwrap();
        let mut overlay = Overlay::new(&tables);
        overlay.unbind(&gone, node).unwrap();
        let puts: Vec<Put> =
            overlay.into_puts().into_iter().filter(|(space, ..)| *space == Space::Links).collect();
        // Every way to spread the rows, in their order, over the looks of the reader.
        for way in 0..LOOKS.pow(puts.len() as u32) {
            let at: Vec<usize> = (0..puts.len()).map(|row| way / LOOKS.pow(row as u32) % LOOKS).collect();
            if !at.is_sorted() {
                continue;
            }
            let tables = MemoryTables::default();
            tables.commit(before.clone()).unwrap();
            let rows = at.iter().copied().zip(puts.clone()).collect();
            let meanwhile = Meanwhile { tables, looks: AtomicUsize::new(0), rows };
            let links = links_of(&meanwhile, node).unwrap();
            assert!(links.contains(&stays), "rows committed before looks {at:?}");
            assert!(third.iter().all(|edge| links.contains(edge)), "rows committed before looks {at:?}");
        }
    }
}
