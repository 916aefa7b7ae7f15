//! `session show`.

use crate::context::Context;
use crate::output::{local_time, lsn_text, path_text, properties};
use crate::{Outcome, json};
use wire::units::format_size;
use wire::{Exit, v1};

/// What was typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Id of the session, or an unambiguous beginning
    id: String,
    /// Only a session of this repository
    #[arg(long, value_name = "NAME")]
    repository: Option<String>,
}

/// Shows a session.
///
/// # Errors
/// Those of the daemon.
pub async fn run(args: Args, context: &Context) -> Outcome {
    let request = v1::SessionRef { id: args.id, repository: args.repository.unwrap_or_default() };
    let mut client = context.client().await?;
    let session = context.call(client.sessions.show(request)).await?;
    context.out.object(&json::session(&session));
    let mut shown = vec![
        ("id", session.id.clone()),
        ("scenario", session.scenario.clone()),
        ("root", path_text(&session.entity)),
        ("master", session.master.clone()),
        ("repository", session.repository.clone()),
        ("time", local_time(session.time.as_ref())),
        ("lsn", lsn_text(session.lsn.as_ref())),
        ("class", session.class().word().to_owned()),
        ("tree", session.tree.clone()),
        ("read", format_size(session.bytes_read)),
        ("stored", format_size(session.bytes_stored)),
        ("missed", session.missed.to_string()),
        ("verified", session.verified.as_ref().map_or_else(|| "never".to_owned(), |at| local_time(Some(at)))),
    ];
    if let Some(tape) = &session.tape {
        shown.push(("volumes", json::tape_sessions::media(&session).join(", ")));
        shown.push(("pool", tape.pool.clone()));
        let serials: Vec<&str> = tape.parts.iter().map(|part| part.serial.as_str()).collect();
        shown.push((
            "serials",
            serials.into_iter().filter(|serial| !serial.is_empty()).collect::<Vec<_>>().join(", "),
        ));
    }
    context.out.data(&properties(&shown));
    Ok(Exit::Done)
}
