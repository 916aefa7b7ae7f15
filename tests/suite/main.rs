//! The integration suite: one question a file.

// Tests fail by panicking.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod crash;
mod cut_link;
mod history;
mod log_crash;
mod log_damage;
mod log_faults;
mod log_kit;
mod log_model;
mod tidy;
mod two_processes;
