//! The integration suite: one question a file.

// Tests fail by panicking.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod adopt;
mod backup_kills;
mod backups;
mod bad_journals;
mod block_sync;
mod catalogs;
mod consistent;
mod crash;
mod cut_link;
mod deep;
mod detached;
mod first_bytes;
mod first_restart;
mod foreign;
mod full_disk;
mod full_spool;
mod golden;
mod grpc;
mod half_rewinds;
mod held_window;
mod history;
mod interop;
mod journal_tools;
mod kills;
mod log_crash;
mod log_damage;
mod log_faults;
mod log_kit;
mod log_model;
mod maintenance;
mod onto_master;
mod overflow;
mod packaging;
mod ransomware;
mod real_dir;
mod refusals;
mod restart;
mod restore_queries;
mod restores;
mod rewinds;
mod session_crash;
mod sessions;
mod snapshots;
mod sparse;
mod table_check;
mod thinning;
mod tidy;
mod two_processes;
mod versions;
