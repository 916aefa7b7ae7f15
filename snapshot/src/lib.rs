//! Snapshots, repositories, sessions and the catalog.
//!
//! So far the stores that repositories lie in: directories, object stores, and memory in tests ([`store`]).
//!
//! All of it is blocking code but the service behind a store, which lives on a tokio runtime that its owner provides
//! ([`store`] says where the two meet).

pub mod store;
