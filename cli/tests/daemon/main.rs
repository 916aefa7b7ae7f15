//! `restorectl` against a daemon in this process whose engine does nothing but answer: transport, authentication,
//! errors, jobs, exit statuses. What an engine does has tests of its own.

// Helpers of tests fail as tests do; clippy excuses only what stands inside of a test.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod access;
mod commands;
mod engine;
mod jobs;
mod world;
