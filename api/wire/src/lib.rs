//! The protocol of Rewind: messages, generated code, client.
//!
//! `v1` is the API clients call (`proto/rewind.proto`). Its errors carry codes from [`codes`], travel as statuses and
//! come out as a [`Failure`]; [`client`] connects; [`units`] are sizes and durations as people write them. The crate is
//! slim on purpose: a client needs nothing else of the product.

pub mod client;
pub mod codes;
pub mod convert;
pub mod endpoint;
pub mod failure;
pub mod units;

pub use client::{Client, TlsFiles};
pub use codes::{Code, Exit};
pub use endpoint::{Endpoint, SocketName};
pub use failure::Failure;

/// Messages and services of the client API (`proto/rewind.proto`).
pub mod v1 {
    #![allow(missing_docs, clippy::all, clippy::unwrap_used, clippy::indexing_slicing, rust_2018_idioms)]
    tonic::include_proto!("rewind.v1");
}

/// Descriptors of every file in `proto/`, for server reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/rewind.descriptors"));

/// What master and replica say to each other.
pub mod stream;
