//! Snapshots, repositories, sessions and the catalog.
//!
//! A session is one entity as of one LSN, stored in a repository: restic's format, version 2, so that restic and rustic
//! read what we wrote and we read what they wrote. A repository lies in a [`store`]: a directory, an object store, or
//! memory in tests. The [`catalog`] is a projection: it makes what repositories hold searchable, and is rebuilt from
//! them; [`listing`] is how sessions come into it. The [`archive`] keeps redo beside the sessions, for the moments between.
//!
//! A past point can be browsed without any repository: [`mount`] shows it as a file system.
//!
//! All of it is blocking code but the service behind a store, which lives on a tokio runtime that its owner provides
//! ([`store`] says where the two meet).

pub mod archive;
pub mod catalog;
pub mod listing;
pub mod mount;
pub mod repository;
pub mod session;
pub mod store;
pub mod tape;
