//! Power cuts: which states the disk may be in when the power comes back.

use super::SimTree;
use super::fs::{Action, Fs, Operation};
use crate::rng::Rng;
use std::collections::BTreeSet;

/// What a power cut did to one unsynced write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// All of it is on the disk.
    Kept,
    /// Nothing of it is.
    Dropped,
    /// Its first half is.
    Front,
    /// Its second half is.
    Back,
    /// Pieces of it are; the seed says which.
    Torn(u64),
}

/// What a power cut did to all writes since the last sync, in the order they were made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataChoice {
    /// The same to all.
    All(Fate),
    /// This one is kept, the others are dropped.
    Only(usize),
    /// This one is dropped, the others are kept.
    AllBut(usize),
    /// To each its own; kept where the list is too short.
    Each(Vec<Fate>),
}

impl DataChoice {
    fn of(&self, write: usize) -> Fate {
        match self {
            DataChoice::All(fate) => *fate,
            DataChoice::Only(kept) if *kept == write => Fate::Kept,
            DataChoice::Only(_) => Fate::Dropped,
            DataChoice::AllBut(dropped) if *dropped == write => Fate::Dropped,
            DataChoice::AllBut(_) => Fate::Kept,
            DataChoice::Each(fates) => fates.get(write).copied().unwrap_or(Fate::Kept),
        }
    }
}

/// What a power cut now could still lose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Operations on names, kinds, sizes and attributes since the last sync.
    pub metadata: usize,
    /// Writes and punches since the last sync.
    pub data: usize,
}

impl SimTree {
    /// What has been done since the last sync.
    #[must_use]
    pub fn pending(&self) -> Pending {
        let state = self.state.lock();
        let data = state.log.iter().filter(|operation| operation.action.is_data()).count();
        Pending { metadata: state.log.len() - data, data }
    }

    /// The tree after a power cut that left the first `prefix` metadata operations and of the bytes what `data` says.
    /// This tree and its handles are not changed; what still uses it should be told with [`SimTree::cut_power`].
    #[must_use]
    pub fn crash_at(&self, prefix: usize, data: &DataChoice) -> SimTree {
        let state = self.state.lock();
        let mut durable = state.durable.clone();
        let (mut metadata, mut writes) = (0, 0);
        for operation in &state.log {
            if operation.action.is_data() {
                for survivor in surviving(operation, data.of(writes)) {
                    durable.apply(&survivor);
                }
                writes += 1;
            } else {
                if metadata < prefix {
                    durable.apply(operation);
                }
                metadata += 1;
            }
        }
        drop_nameless(&mut durable);
        self.reborn(durable, &state)
    }

    /// A power cut that loses what the random numbers say: often all, often nothing, else anything.
    #[must_use]
    pub fn crash(&self, rng: &mut Rng) -> SimTree {
        let pending = self.pending();
        let prefix = match rng.below(4) {
            0 => 0,
            1 => pending.metadata,
            _ => rng.below(pending.metadata as u64 + 1) as usize,
        };
        let fate = |rng: &mut Rng| match rng.below(5) {
            0 | 1 => Fate::Kept,
            2 | 3 => Fate::Dropped,
            _ => Fate::Torn(rng.next_u64()),
        };
        let data = match rng.below(4) {
            0 => DataChoice::All(Fate::Dropped),
            1 => DataChoice::All(Fate::Kept),
            _ => DataChoice::Each((0..pending.data).map(|_| fate(rng)).collect()),
        };
        self.crash_at(prefix, &data)
    }

    /// Every prefix of the metadata with a set of choices for the bytes that finds what orderings can break: all,
    /// none, halves, each write alone and each write missing.
    #[must_use]
    pub fn crash_states(&self) -> Vec<(usize, DataChoice)> {
        let pending = self.pending();
        let mut choices: Vec<DataChoice> = match pending.data {
            0 => vec![DataChoice::All(Fate::Kept)],
            _ => [Fate::Kept, Fate::Dropped, Fate::Front, Fate::Back].map(DataChoice::All).to_vec(),
        };
        if pending.data > 1 {
            choices.extend((0..pending.data).map(DataChoice::Only));
            choices.extend((0..pending.data).map(DataChoice::AllBut));
        }
        (0..=pending.metadata)
            .flat_map(|prefix| choices.iter().map(move |data| (prefix, data.clone())))
            .collect()
    }
}

/// The parts of a write that reached the disk.
fn surviving(operation: &Operation, fate: Fate) -> Vec<Operation> {
    let length = match &operation.action {
        Action::Write { bytes, .. } => bytes.len() as u64,
        Action::Punch { offset, end, .. } => end - offset,
        _ => return Vec::new(),
    };
    match fate {
        Fate::Kept => vec![operation.clone()],
        Fate::Dropped => Vec::new(),
        Fate::Front => part(operation, 0, length / 2).into_iter().collect(),
        Fate::Back => part(operation, length / 2, length).into_iter().collect(),
        Fate::Torn(seed) => {
            let mut rng = Rng::new(seed);
            let mut cuts = BTreeSet::from([0, length]);
            cuts.extend((0..1 + rng.below(4)).map(|_| rng.below(length + 1)));
            let cuts: Vec<u64> = cuts.into_iter().collect();
            let kept = cuts.windows(2).filter(|_| rng.chance(1, 2));
            kept.filter_map(|range| part(operation, range[0], range[1])).collect()
        }
    }
}

fn part(operation: &Operation, from: u64, to: u64) -> Option<Operation> {
    if from >= to {
        return None;
    }
    let action = match &operation.action {
        Action::Write { id, offset, bytes } => Action::Write {
            id: *id,
            offset: offset + from,
            bytes: bytes[from as usize..to as usize].to_vec(),
        },
        Action::Punch { id, offset, .. } => {
            Action::Punch { id: *id, offset: offset + from, end: offset + to }
        }
        _ => return None,
    };
    Some(Operation { time: operation.time, action })
}

/// Files that were open without a name are gone.
pub(super) fn drop_nameless(fs: &mut Fs) {
    let gone: Vec<u64> =
        fs.nodes.iter().filter(|(_, node)| Fs::is_nameless(node)).map(|(id, _)| *id).collect();
    for id in gone {
        fs.free(id);
    }
}
