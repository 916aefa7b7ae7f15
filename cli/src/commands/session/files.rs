//! `session files`.

use crate::commands::absolute;
use crate::context::Context;
use crate::output::{local_time, path_text};
use crate::{Outcome, json};
use std::ffi::OsString;
use wire::units::format_size;
use wire::{Exit, v1};

/// What was typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Id of the session, or an unambiguous beginning
    id: String,
    /// Only what is at and below this absolute path of the master
    path: Option<OsString>,
    /// Only a session of this repository
    #[arg(long, value_name = "NAME")]
    repository: Option<String>,
    /// At most so many objects
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    limit: u64,
}

/// Lists what a session holds.
///
/// # Errors
/// Those of the daemon.
pub async fn run(args: Args, context: &Context) -> Outcome {
    let path = args.path.as_deref().map(absolute).transpose()?.unwrap_or_default();
    let request = v1::ListFilesRequest {
        id: args.id,
        repository: args.repository.unwrap_or_default(),
        path: path.into(),
        limit: args.limit,
    };
    let mut client = context.client().await?;
    let mut stream = context.call(client.sessions.files(request)).await?;
    while let Some(entry) = context.next(&mut stream).await? {
        let line = format!(
            "{}{:04o} {:>6} {:>6} {:>10}  {}  {}",
            entry.kind.get(..1).filter(|_| entry.kind != "file").unwrap_or("-"),
            entry.mode,
            entry.uid,
            entry.gid,
            format_size(entry.bytes),
            local_time(entry.modified.as_ref()),
            path_text(&entry.path)
        );
        if !context.out.object(&json::restores::entry(&entry)) || !context.out.data(&line) {
            break;
        }
    }
    Ok(Exit::Done)
}
