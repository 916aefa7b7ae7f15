//! `points --burst`.

use super::Args;
use crate::context::Context;
use crate::output::{local_time, lsn_text, path_text};
use crate::{Outcome, json};
use wire::{Exit, v1};

/// One burst as a few lines.
fn lines(burst: &v1::Burst) -> Vec<String> {
    let kinds: Vec<&str> = burst.kinds().map(v1::BurstKind::word).collect();
    let mut lines = vec![format!(
        "{:>10} .. {}  {} .. {}  {} (confidence {}), {} files",
        lsn_text(burst.first.as_ref()),
        lsn_text(burst.last.as_ref()),
        local_time(burst.begin.as_ref()),
        local_time(burst.end.as_ref()),
        kinds.join(", "),
        burst.confidence().word(),
        burst.files
    )];
    if burst.judged > 0 {
        lines.push(format!(
            "            of {} files looked into {} became noise",
            burst.judged, burst.spoiled
        ));
    }
    for file in &burst.examples {
        let to = if file.to.is_empty() { String::new() } else { format!(" -> {}", path_text(&file.to)) };
        lines.push(format!("            {}{to}", path_text(&file.path)));
    }
    match burst.after.as_str() {
        "" => lines.push(format!("            back: rewind --to {}", burst.point)),
        after => lines.push(format!("            follows {after}: most likely a rewind or restore")),
    }
    lines
}

/// Lists bursts, newest first.
///
/// # Errors
/// Those of the daemon.
pub async fn run(args: Args, context: &Context) -> Outcome {
    let Args { scenario, since, until, limit, .. } = args;
    let request = v1::ListBurstsRequest { scenario, since, until };
    let mut client = context.client().await?;
    let mut stream = context.call(client.bursts.list(request)).await?;
    let mut listed = 0;
    while let Some(burst) = context.next(&mut stream).await? {
        let go_on = context.out.object(&json::bursts::burst(&burst))
            && lines(&burst).iter().all(|line| context.out.data(line));
        listed += 1;
        if !go_on || listed == limit {
            return Ok(Exit::Done);
        }
    }
    if listed == 0 {
        context.out.talk("no bursts");
    }
    Ok(Exit::Done)
}
