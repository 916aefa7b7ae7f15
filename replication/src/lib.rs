//! Replication: from a change on the master to the same change in the replica tree.
//!
//! In the order of a change's life: [`capture`] notices and reconciles on the master, [`spool`] keeps what is not
//! acknowledged, [`stream`] carries it, [`ingest`] takes it in once and in order, [`replica`] journals, acknowledges
//! and queues it, [`apply`] records undo and touches the tree through [`os_tree`]. [`adopt`] makes a tree that was there
//! before the journal its first point. [`hooks`] are the commands that a master runs for a scenario. Standalone runs all of it in one process; two hosts run the same code with a wire in
//! between.

pub mod adopt;
pub mod apply;
pub mod capture;
mod chain;
pub mod hooks;
pub mod ingest;
pub mod master;
pub mod os_tree;
pub mod replica;
pub mod spool;
pub mod stream;
