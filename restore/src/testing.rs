//! A replica in a few hundred lines, for the unit tests of this crate: memory tables, a tree in memory, apply by the
//! journal's own transition. It keeps a snapshot of the tree at every LSN, taken from the tree itself, so that views,
//! plans and extractions are compared with what was really there. It knows nothing of crashes, queues or segments.

mod chaos;
mod tree;
mod world;

pub(crate) use chaos::Chaos;
pub(crate) use tree::{MemTree, Seen, Snapshot, cut, without};
pub(crate) use world::World;
