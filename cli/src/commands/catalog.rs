//! Verbs of the catalog.

pub mod query;
pub mod rebuild;
pub mod tree;
pub mod versions;

use crate::Outcome;
use crate::context::Context;
use clap::Subcommand;
use wire::v1;

/// Verbs of the catalog.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Find files in every session and in the journal's window
    Query(query::Args),
    /// List every version of a path, newest first
    Versions(versions::Args),
    /// List a directory as sessions or a point have it
    Tree(tree::Args),
    /// Make the catalog anew from the repositories
    Rebuild(rebuild::Args),
}

/// Runs a verb.
///
/// # Errors
/// The verb's.
pub async fn run(command: Command, context: &Context) -> Outcome {
    match command {
        Command::Query(args) => query::run(args, context).await,
        Command::Versions(args) => versions::run(args, context).await,
        Command::Tree(args) => tree::run(args, context).await,
        Command::Rebuild(args) => rebuild::run(args, context).await,
    }
}

/// Says, whatever else is not said, that a session is not in the catalog. True: the answer goes on.
fn say_not_catalogued(context: &Context, session: &v1::NotCatalogued) -> bool {
    let id = session.session.get(..8).unwrap_or(&session.session);
    context.out.warn(&format!(
        "session {id} in repository \"{}\" is not catalogued yet: it is read from there",
        session.repository
    ));
    true
}

/// Says what an answer leaves out. True: the answer goes on, to its end.
fn say_end(context: &Context, end: &v1::CatalogEnd) -> bool {
    end.notes.iter().for_each(|note| context.out.warn(note));
    true
}
