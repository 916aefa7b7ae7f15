//! `session list`.

use crate::context::Context;
use crate::output::{Align, Table, local_time, lsn_text, path_text};
use crate::{Outcome, json};
use wire::units::format_size;
use wire::{Exit, v1};

/// What was typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only of this scenario
    #[arg(long, value_name = "NAME")]
    scenario: Option<String>,
    /// Only of this master
    #[arg(long, value_name = "HOST")]
    master: Option<String>,
    /// Only in this repository
    #[arg(long, value_name = "NAME")]
    repository: Option<String>,
    /// Only of points since this time: RFC 3339, or a time ago such as -10d
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    since: Option<String>,
}

/// Lists sessions, newest first.
///
/// # Errors
/// Those of the daemon.
pub async fn run(args: Args, context: &Context) -> Outcome {
    let request = v1::ListSessionsRequest {
        scenario: args.scenario.unwrap_or_default(),
        repository: args.repository.unwrap_or_default(),
        master: args.master.unwrap_or_default(),
        since: args.since.unwrap_or_default(),
    };
    let mut client = context.client().await?;
    let mut stream = context.call(client.sessions.list(request)).await?;
    let mut table = Table::new(&[
        ("ID", Align::Left),
        ("SCENARIO", Align::Left),
        ("ROOT", Align::Left),
        ("TIME", Align::Left),
        ("LSN", Align::Right),
        ("CLASS", Align::Left),
        ("STORED", Align::Right),
        ("REPOSITORY", Align::Left),
    ]);
    while let Some(session) = context.next(&mut stream).await? {
        if !context.out.object(&json::session(&session)) {
            break;
        }
        table.row(vec![
            session.id.chars().take(8).collect(),
            session.scenario.clone(),
            path_text(&session.entity),
            local_time(session.time.as_ref()),
            lsn_text(session.lsn.as_ref()),
            session.class().word().to_owned(),
            format_size(session.bytes_stored),
            match json::tape_sessions::media(&session).as_slice() {
                [] => session.repository.clone(),
                media => format!("{} ({})", session.repository, media.join(", ")),
            },
        ]);
    }
    let text = table.render();
    if text.is_empty() {
        context.out.talk("there is no session");
    } else {
        context.out.data(&text);
    }
    Ok(Exit::Done)
}
