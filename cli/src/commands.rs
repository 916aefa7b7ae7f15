//! The verbs, one file each.

pub mod backup;
pub mod bookmark;
pub mod catalog;
pub mod completions;
pub mod diff;
pub mod explain;
pub mod flush;
pub mod job;
pub mod journal;
pub mod log;
pub mod man;
pub mod points;
pub mod repository;
pub mod rescue;
pub mod restore;
pub mod rewind;
pub mod scenario;
pub mod session;
pub mod snapshot;
pub mod tape;
pub mod tour;

use crate::Outcome;
use crate::args::Command;
use crate::context::Context;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use wire::{Failure, codes};

/// Runs a verb.
///
/// # Errors
/// The verb's.
pub async fn run(command: Command, context: &Context) -> Outcome {
    match command {
        Command::Scenario(command) => scenario::run(command, context).await,
        Command::Flush(args) => flush::run(args, context).await,
        Command::Bookmark(command) => bookmark::run(command, context).await,
        Command::Points(args) => points::run(args, context).await,
        Command::Rewind(args) => rewind::run(args, context).await,
        Command::Diff(args) => diff::run(args, context).await,
        Command::Journal(command) => journal::run(command, context).await,
        Command::Repository(command) => repository::run(command, context).await,
        Command::Backup(args) => backup::run(args, context).await,
        Command::Session(command) => session::run(command, context).await,
        Command::Snapshot(command) => snapshot::run(command, context).await,
        Command::Tape(command) => tape::run(command, context).await,
        Command::Restore(command) => restore::run(command, context).await,
        Command::Rescue(args) => rescue::run(args, context).await,
        Command::Catalog(command) => catalog::run(command, context).await,
        Command::Job(command) => job::run(command, context).await,
        Command::Log(args) => log::run(args, context).await,
        // The tour runs command lines of its own, so its future would contain itself.
        Command::Tour(args) => Box::pin(tour::run(args, context)).await,
        Command::Explain(args) => explain::run(&args, context),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args),
    }
}

/// An absolute path from one that was typed, as bytes.
fn absolute(path: &OsStr) -> Result<Vec<u8>, Failure> {
    let path = Path::new(path);
    let absolute = std::path::absolute(path)
        .map_err(|error| Failure::new(&codes::USAGE, format!("{}: {error}", path.display())))?;
    Ok(absolute.into_os_string().as_bytes().to_vec())
}
