//! The testkit: models, simulations that lose power, generators and comparisons.
//!
//! It serves this package's own suite and the benchmarks only. Everything random takes a seed and repeats itself.

// A testkit fails by panicking, like the tests it serves.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

pub mod azurite;
pub mod canonical;
pub mod chaos;
pub mod compare;
pub mod daemon;
pub mod faulty_tables;
pub mod keep;
pub mod lab;
pub mod line;
pub mod model;
pub mod pair;
pub mod repository;
pub mod restic;
pub mod rng;
pub mod s3;
pub mod sim_disk;
pub mod sim_tree;
