//! `restorectl`: what a person or a script says to a daemon.
//!
//! [`args`] is what was typed; each verb under [`commands`] turns its part into calls and shows what came back. Data
//! goes to stdout, talk to stderr; an error is one [`wire::Failure`] from wherever it comes, shown in one place.

pub mod args;
pub mod commands;
mod confirm;
mod context;
mod errors;
mod json;
mod output;
mod progress;
mod report;
mod wait;

use args::Cli;
use clap::Parser;
use context::Context;
use std::ffi::OsString;
use wire::{Exit, Failure};

/// What a command comes to: how to exit, or what failed.
pub type Outcome = Result<Exit, Failure>;

/// Runs a command line, name of the program included, and says what to exit with.
///
/// A provider for rustls must have been installed.
pub async fn execute(line: Vec<OsString>) -> Exit {
    let json = line.iter().any(|word| word == "--json");
    let cli = match Cli::try_parse_from(&line) {
        Ok(cli) => cli,
        Err(error) => return errors::show_usage(&error, json),
    };
    let context = match Context::new(&cli.global) {
        Ok(context) => context,
        Err(failure) => return errors::show(&failure, json),
    };
    match commands::run(cli.command, &context).await {
        Ok(exit) => exit,
        Err(failure) => errors::show(&failure, json),
    }
}
