//! The outside of the daemon: services, jobs, authentication, wiring.
//!
//! A call comes through a door ([`listen`]) past the policy ([`auth`]) to a service ([`services`]), which asks the
//! [`engine`] on a thread that may block. What takes long becomes a job ([`jobs`]). Scenarios ([`registry`]), jobs and
//! the activity log ([`activity`]), repositories and sessions ([`vault`]) are records ([`records`]) of one server journal ([`server_journal`]); whatever else
//! is kept about them is a projection, and so is the [`catalog`] of what the sessions hold. The [`archive`] keeps redo beside the sessions.
//! [`daemon`] puts it together, [`config`] says how.
//!
//! Everything below the trait [`engine::Engine`] is blocking code of other crates; everything above it knows no file
//! of a protected tree.

pub mod activity;
pub mod archive;
pub mod auth;
pub mod catalog;
pub mod config;
mod convert;
pub mod daemon;
pub mod definition;
pub mod engine;
pub mod globs;
pub mod host;
pub mod jobs;
pub mod listen;
pub mod master;
pub mod notify;
pub mod point_filter;
pub mod points;
pub mod records;
pub mod registry;
pub mod schedules;
pub mod segment_journal;
pub mod server_journal;
mod services;
pub mod store;
pub mod tapes;
pub mod vault;
pub mod wiring;

#[cfg(test)]
mod testing;
