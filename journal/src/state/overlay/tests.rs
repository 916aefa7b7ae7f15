//! Names of a node against a plain map: bound and freed in any order, over batches that are committed at any moment.

use super::*;
use crate::id::Name;
use crate::random::Random;
use crate::tables::MemoryTables;
use std::collections::BTreeSet;

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
