//! The integration suite: one question a file.

// Tests fail by panicking.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod crash;
mod cut_link;
mod foreign;
mod full_disk;
mod history;
mod kills;
mod log_crash;
mod log_damage;
mod log_faults;
mod log_kit;
mod log_model;
mod overflow;
mod real_dir;
mod refusals;
mod restart;
mod rewinds;
mod tidy;
mod two_processes;
mod versions;
