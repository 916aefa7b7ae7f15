//! `restorectl` against a daemon in this process whose engine does nothing but answer: transport, authentication,
//! errors, jobs, exit statuses. What an engine does has tests of its own.

mod access;
mod commands;
mod engine;
mod jobs;
mod world;
